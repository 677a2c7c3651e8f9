"""The keyword arguments that editors, mypy and help() see are the options."""

import inspect
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import unrolled
from unrolled import keywords

ROOT = Path(__file__).parents[2]
FUNCTIONS: list[Any] = [
    *(unrolled.train, unrolled.train_table, unrolled.load, unrolled.load_table),
    *(f for owner in (unrolled.Model, unrolled.TableModel) for _, f in inspect.getmembers(owner, inspect.isfunction)),
]


def test_the_typed_dicts_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "generate_keywords.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "function",
    [f for f in FUNCTIONS if "options" in f.__annotations__ and not f.__name__.startswith("_")],
    ids=lambda f: f.__qualname__,
)
def test_signatures_and_typed_dicts_agree(function: Any) -> None:
    shown = {p.name for p in inspect.signature(function).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    own = {*function.__kwdefaults__} if function.__kwdefaults__ else set()
    annotation = function.__annotations__["options"]
    if annotation.startswith("Unpack["):
        typed = {*typing.get_type_hints(getattr(keywords, annotation[len("Unpack[") : -1]))}
        assert shown - own <= typed
        assert typed - (shown - own) <= {"novel_only", "count", "per", "top", "html", "probabilities", "image_dir", "force"}
    assert shown - own


def test_help_lists_options_with_their_defaults() -> None:
    text = inspect.getdoc(unrolled.train) or ""
    assert "    minutes (float or None, default None): Budget in minutes of training" in text
    assert "    hidden (int, chosen by the recipe): Hidden units per layer." in text
    assert "cell='lstm'" in str(inspect.signature(unrolled.train))
    assert "hidden=<recipe>" in str(inspect.signature(unrolled.train))


def test_mypy_sees_a_wrong_keyword(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        'import unrolled\nmodel = unrolled.load("r", threads=1)\nmodel.sample("a", temperature=0.5, stop=["x"])\n'
        'model.sample("a", temprature=0.5)\nunrolled.train("b.txt", cell=3)\n',
        "utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run([*command, str(program)], capture_output=True, text=True, cwd=ROOT)
    lines = [line.split(": ", 1)[0].rsplit(":", 1)[1] for line in done.stdout.splitlines() if ": error:" in line]
    assert lines == ["4", "5"], done.stdout + done.stderr
