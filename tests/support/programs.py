"""Programs of the machine that tests run exported files with."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from support.pages import skip_or_fail
from unrolled.exchange import c_export


def need(found: Any, what: str) -> Any:
    """Return a tool; skip with the reason where there is none, and fail where there has to be one."""
    if found is None:
        skip_or_fail(f"there is no {what}")
    return found


@pytest.fixture(scope="session")
def compiler() -> str:
    """A C compiler."""
    return str(need(c_export.find_compiler(), "C compiler"))


@pytest.fixture(scope="session")
def node() -> str:
    """Node."""
    return str(need(shutil.which("node"), "node"))
