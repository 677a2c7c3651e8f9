"""Flags, TOML keys, keywords and values of earlier releases still mean the same."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli
from unrolled.cli.parser import CommandParser
from unrolled.options import (
    OPTION_CLASSES,
    BenchOptions,
    EvaluateOptions,
    ExplainOptions,
    PredictOptions,
    SampleOptions,
    ScoreOptions,
    TrainRequest,
    flag_name,
    from_dict,
    present_names,
)

TRAIN = [
    ("unit", "line", "documents", "line"),
    ("normalise", "nfkc", "normalize", "nfkc"),
    ("centre", "row", "center", "row"),
    ("from", "none", "init_from", "none"),
    ("unit", "stream", "documents", "none"),
    ("documents", "stream", "documents", "none"),
    ("symbol_dropout", 0.2, "token_dropout", 0.2),
    ("initialisation", "uniform", "initialization", "uniform"),
    ("optimiser", "muon", "optimizer", "muon"),
    ("reset_probability", 0.5, "state_reset_prob", 0.5),
    ("read", "rows", "image_as", "rows"),
    ("pictures", "convolution", "image_encoder", "cnn"),
    ("pictures", "flat", "image_encoder", "mlp"),
    ("eval_symbols", 1000, "eval_tokens", 1000),
    ("cell", "gru-before", "cell", "gru-reset-before"),
    ("kernels", "aten", "kernels", "torch"),
    ("log", "tensorboard", "log_to", "tensorboard"),
    ("rnn_size", 7, "hidden", 7),
    ("num_layers", 3, "layers", 3),
    ("model", "gru", "cell", "gru"),
    ("seq_length", 9, "bptt", 9),
    ("batch_size", 9, "batch", 9),
    ("max_epochs", 2.0, "epochs", 2.0),
    ("train_frac", 0.5, "train_fraction", 0.5),
    ("learning_rate", 0.5, "lr", 0.5),
    ("learning_rate_decay", 0.5, "decay", 0.5),
    ("learning_rate_decay_after", 5.0, "decay_after", 5.0),
    ("grad_clip", 5.0, "clip", 5.0),
    ("checkpoint_dir", "r", "out", "r"),
    ("eval_val_every", 5, "eval_every", 5),
]
OTHERS: list[tuple[type[Any], str, Any, str, Any]] = [
    (PredictOptions, "pictures", "folder", "image_dir", "folder"),
    (BenchOptions, "picture", "x.svg", "svg", "x.svg"),
    (ScoreOptions, "by", "character", "per", "character"),
    (ScoreOptions, "against", ("r",), "compare", ("r",)),
    (ExplainOptions, "unit", "0.1", "neuron", "0.1"),
    (ExplainOptions, "arrays", "x.npz", "save_activations", "x.npz"),
    (SampleOptions, "primetext", "The", "prompt", "The"),
    (SampleOptions, "start_text", "The", "prompt", "The"),
]
ALL_CLASSES = (*OPTION_CLASSES, PredictOptions, BenchOptions, ScoreOptions, ExplainOptions, SampleOptions, EvaluateOptions)


def parse(classes: tuple[type[Any], ...], *arguments: str) -> dict[str, Any]:
    parser = CommandParser("x", "A command.")
    for option_class in classes:
        parser.add_options(option_class.__name__, option_class)
    values = parser.parse_cli_values(list(arguments))
    assert values.pop("json") is False
    return values


@pytest.mark.parametrize(("old", "old_value", "new", "value"), TRAIN)
def test_training(old: str, old_value: Any, new: str, value: Any, tmp_path: Path) -> None:
    expected = TrainRequest.build((), {new: value}, "x")
    assert getattr(next(part for part in expected.groups() if hasattr(part, new)), new) == value
    assert TrainRequest.build((), {old: old_value}, "x") == expected  # Python and TOML
    assert TrainRequest.build((), {old.replace("_", "-"): old_value}, "x") == expected
    for flag in (flag_name(old), "--" + old):
        for arguments in ([flag, str(old_value)], [f"{flag}={old_value}"]):
            assert parse(OPTION_CLASSES, *arguments) == parse(OPTION_CLASSES, flag_name(new), str(value)), arguments


@pytest.mark.parametrize(("option_class", "old", "old_value", "new", "value"), OTHERS)
def test_other_commands(option_class: type[Any], old: str, old_value: Any, new: str, value: Any) -> None:
    assert from_dict(option_class, {old: old_value}, "x") == from_dict(option_class, {new: value}, "x")
    text = value[0] if isinstance(value, tuple) else value
    parsed = parse((option_class,), flag_name(old), text)
    assert parsed == parse((option_class,), flag_name(new), text)
    assert from_dict(option_class, parsed, "x") == from_dict(option_class, {new: value}, "x")


def test_every_old_name_is_in_this_list() -> None:
    tested = {(old, new) for old, _, new, _ in TRAIN} | {(old, new) for _, old, _, new, _ in OTHERS}
    fields = [field for option_class in ALL_CLASSES for field in dataclasses.fields(option_class)]
    assert {(old, field.name) for field in fields for old in field.metadata["old_names"]} <= tested
    values = {(new, old_value) for _, old_value, new, _ in TRAIN}
    assert {(field.name, old) for field in fields for old in field.metadata["old_values"]} <= values


def test_an_old_name_and_a_present_one_are_one_setting() -> None:
    assert present_names({"max-epochs": 2, "glob": "*"}, OPTION_CLASSES) == {"epochs": 2, "glob": "*"}
    request = TrainRequest.build((), {"max_epochs": 2}, "x", "char-rnn")
    assert (request.training.epochs, request.training.steps) == (2, None)
    assert TrainRequest.build((), {"optimiser": "muon"}, "x", "char-rnn").training.optimizer == "muon"


def test_a_flag_wins_over_an_old_name_in_a_file(cli: Cli, book: Path, tmp_path: Path) -> None:
    config = tmp_path / "s.toml"
    config.write_text('rnn_size = 8\nmax_epochs = 3\nunit = "stream"\noptimiser = "rmsprop"\n', "utf-8")
    done = cli("train", book, "--config", config, "--steps", 2, "--sample-length", 0, "--hidden", 9, "--out", "r")
    assert done.code == 0, done.err
    config_json = Path("r/config.json").read_text("utf-8")
    for expected in ('"hidden": 9', '"epochs": null', '"documents": "none"', '"optimizer": "rmsprop"'):
        assert expected in config_json
