"""The keyword arguments that editors, mypy and help() see are the options."""

import inspect
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from unrolled import keywords

ROOT = Path(__file__).parents[2]
REFUSED = {"adapt", "baselines", "order", "window"}
"""Settings of the command eval of which evaluate() and baselines() have one part each."""

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
        named = getattr(keywords, annotation[len("Unpack[") : -1])
        typed = {*typing.get_type_hints(named, localns={"torch": torch})}
        assert shown - own <= typed
        assert typed - (shown - own) <= {
            "novel_only",
            "keep_if",
            "count",
            "per",
            "top",
            "html",
            "probabilities",
            "image_dir",
            "wav",
            "min_probability",
            "force",
            "labels",
            "label",
            "source",
            "follow",
            "from_start",
            *REFUSED,
        }
    assert shown - own


def test_help_lists_options_with_their_defaults() -> None:
    text = inspect.getdoc(unrolled.train) or ""
    assert "    minutes (float or None, default None): Budget in minutes of training" in text
    assert "    hidden (int, chosen by the recipe): Hidden units per layer." in text
    assert "cell='lstm'" in str(inspect.signature(unrolled.train))
    assert "hidden=<recipe>" in str(inspect.signature(unrolled.train))


def test_a_wrong_type_is_refused_as_mypy_sees_it() -> None:
    """`make check` fails where mypy does not see what the comment of a line says: here a type, in test_api.py two names."""
    with pytest.raises(unrolled.UnrolledError, match="cell= is 3; expected one of rnn, gru"):
        unrolled.train("b.txt", cell=3)  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("sample", {"count": 3}, "samples(count=...) draws several"), ("stream", {"novel_only": False}, "samples() has it"),
        ("evaluate", {"baselines": True}, "baselines() has it"), ("baselines", {"window": 5}, "evaluate() has it"),
        ("scoring", {"top": 3}, "top_lines"), ("scoring", {"html": "p"}, "command line"),
        ("sample", {"temprature": 1.0}, "did you mean 'temperature'?"),
    ],
)  # fmt: skip
def test_an_option_that_a_call_does_not_have_is_refused(name: str, options: dict[str, Any], hint: str) -> None:
    method = getattr(unrolled.Model, name)
    with pytest.raises(unrolled.UnrolledError) as refused:
        method(object.__new__(unrolled.Model), **options)
    assert hint in str(refused.value)
    assert next(iter(options)) in str(refused.value)


@pytest.mark.parametrize("name", ["predict", "predictions", "attention", "predict_table", "evaluate", "trace"])
def test_options_of_the_command_predict_are_refused(name: str) -> None:
    for option in ("probabilities", "image_dir", "wav", "force"):
        with pytest.raises(unrolled.UnrolledError, match=rf"{name}\(\) has no option '{option}': \w"):
            getattr(unrolled.TableModel, name)(object.__new__(unrolled.TableModel), "a", **{option: True})


def test_dir_is_the_public_names() -> None:
    assert dir(unrolled) == sorted(unrolled.__all__)
