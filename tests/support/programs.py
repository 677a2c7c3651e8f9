"""Programs of the machine that tests run exported files with."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from support.pages import skip_or_fail
from unrolled.exchange import c_export, html_export
from unrolled.exchange.html_export import READ_DATA
from unrolled.views.html_page import STATIC
from unrolled.views.js_linker import link


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


def change_script(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Let exported pages have a script in which `old`, which is there once, is `new`."""

    def changed(*arguments: Any) -> str:
        script = link(*arguments)
        assert script.count(old) == 1
        return script.replace(old, new)

    monkeypatch.setattr(html_export, "link", changed)


def run_module(node: str, entry: str, expression: str, data: Any) -> Any:
    """Return the value of a JavaScript expression, in which `data` is a value and `module` the exports of a page's module."""
    script = link(STATIC, entry) + READ_DATA + f"const module = __modules[{entry!r}];\n"
    script += f"console.log(JSON.stringify({expression}));"
    command = [node, "--input-type=module", "--eval", script]
    done = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
