"""The page about logs is a program: its blocks run as they are written."""

import json
import re
from pathlib import Path

import pytest

from support.cli import Cli
from support.howto import run_page


@pytest.mark.slow
def test_the_page_runs(cli: Cli) -> None:
    trained, alerts, labeled, document, top, page = (result for _, result in run_page("logs.md", cli))
    assert "3,000 lines in" in trained.err
    assert "masked: " in trained.err
    assert re.search(r"line [\d,]+: [\d.]+ bits: 2026-03-01 .* worker: segfault at 0x", alerts.out)
    assert "held-out lines are above it, at most 0.02 of them" in alerts.out
    assert re.search(r"recall by label: .*unknown 1\.000", labeled.out)
    assert json.loads(document.out)["num_alerts"] > 0
    assert top.out.count("\n") >= 6
    assert "page: heat.html" in page.out
    assert Path("heat.html").is_file()
