"""The vocabulary that the tests of imports share."""

import json
from pathlib import Path

import pytest

from support.imported import LETTERS


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({letter: index for index, letter in enumerate(LETTERS)}))
    return str(path)
