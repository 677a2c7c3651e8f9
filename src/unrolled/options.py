"""Every setting, once. A field here is the flag, its help, the TOML key, the saved JSON and the keyword in Python.

Each class groups the settings of one room. `option(...)` gives a field its default, help, bounds and old names;
`check` holds the bounds, `from_dict` reads saved or hand-written settings and names the nearest key for an unknown one.
This file imports neither torch nor numpy, so that `--help` is instant.
"""

from __future__ import annotations

import dataclasses
import secrets
import sys
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from unrolled.errors import UsageError, did_you_mean

Options = TypeVar("Options")

REGISTRIES: dict[str, Collection[str]] = {}
"""Registries of classes by the setting that names one: what an extension adds to one is a choice of the setting, too."""


def option(
    default: Any,
    help: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    old_names: tuple[str, ...] = (),
    old_values: Mapping[str, str] | None = None,
    chosen: bool = False,
) -> Any:
    """Declare one setting: its default, its help, the bounds of a number, char-rnn's names for it.

    What is `chosen` is the recipe's to choose where it was not given; the default is for objects made without one.
    """
    bounds = {"above": above, "least": least, "below": below, "most": most}
    metadata = {"help": help, "old_names": old_names, "old_values": old_values or {}, "chosen": chosen}
    metadata |= {name: bound for name, bound in bounds.items() if bound is not None}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DataOptions:
    """What is read, and how it becomes symbols."""

    tokens: Literal["characters", "bytes", "words", "bpe"] = option(
        "characters", "What one symbol is. Words and bpe are for tables, where words are the default if they repeat."
    )
    documents: Literal["none", "line", "file"] = option(
        "none",
        "What a document is: each line or each file starts from a zero state and has an end; none = one endless text.",
        old_names=("unit",),
        old_values={"stream": "none"},
    )
    glob: str = option("*", "Which files of a folder are read; '**' is not needed, folders are read recursively.")
    train_fraction: float = option(
        0.9, "The first part trains, the rest validates.", above=0, most=1, old_names=("train_frac",)
    )


@dataclass(frozen=True)
class TableOptions:
    """Which columns of a table are read, and which is to be said. The mode follows from the two."""

    source: str | None = option(None, "Column that is read, as NAME or NAME:KIND; without it, INPUT is a text.")
    target: str | None = option(None, "Column that is learned. KIND: text, label, number, labels, image, vector, frames.")
    validation: str | None = option(None, "Table to validate on (default: rows held out, see --train-fraction).")


@dataclass(frozen=True)
class ModelOptions:
    """The shape of the network."""

    cell: Literal["rnn", "gru", "gru-reset-before", "lstm"] = option(
        "lstm",
        "Kind of cell; 'gru-reset-before' applies the reset gate before the matrix product, as char-rnn does.",
        old_names=("model",),
        old_values={"gru-before": "gru-reset-before"},
    )
    layers: int = option(2, "Number of layers.", least=1, most=64, old_names=("num_layers",))
    hidden: int = option(256, "Units a layer.", least=1, most=65536, old_names=("rnn_size",), chosen=True)
    embedding: int | None = option(
        None, "Width of a symbol's vector; 0 = one-hot as in char-rnn; default: the width of a layer.", least=0, most=65536
    )
    dropout: float = option(0.1, "Share of units silenced while training, after each layer.", least=0, below=1, chosen=True)
    token_dropout: float = option(
        0.0,
        "Share of symbols hidden while training, for texts read many times.",
        least=0,
        below=1,
        chosen=True,
        old_names=("symbol_dropout",),
    )
    residual: bool = option(True, "x + cell(norm(x)) in each layer; without it, char-rnn's plain stack.")
    two_biases: bool = option(False, "A second bias in every gate, as Torch's and cuDNN's cells have.")
    initialization: Literal["scaled", "uniform"] = option(
        "scaled",
        "Weights at the start: scaled by the layer's width, or uniform in +-0.08 as in char-rnn.",
        old_names=("initialisation",),
    )


@dataclass(frozen=True)
class PairOptions:
    """The network of a table, beyond its layers."""

    bidirectional: bool = option(True, "Read the source from both ends; without it, as it comes.")
    pool: Literal["last", "mean", "max", "attention"] = option("attention", "How what was read becomes one vector.")
    attention: bool = option(True, "Look back at the whole source at every step that is written.")
    image_as: Literal["whole", "columns", "rows", "pixels"] = option(
        "whole", "Read an image at once, or as a sequence of columns, rows or pixels.", old_names=("read",)
    )
    image_encoder: Literal["cnn", "mlp"] = option(
        "cnn", "Network that reads a whole image.", old_names=("pictures",), old_values={"convolution": "cnn", "flat": "mlp"}
    )
    label_smoothing: float = option(
        0.0, "Probability kept back from the right symbol while training.", least=0, below=1, chosen=True
    )


@dataclass(frozen=True)
class TrainingOptions:
    """How it learns. One of minutes, epochs and steps is the budget; the schedule ends exactly with it."""

    minutes: float | None = option(None, "Budget in minutes of training (default: 3, if no budget is given).", above=0)
    epochs: float | None = option(None, "Budget in passes over the text.", above=0, old_names=("max_epochs",))
    steps: int | None = option(None, "Budget in steps.", least=1)
    batch: int = option(32, "Lanes (or rows of text) trained side by side.", least=1, old_names=("batch_size",), chosen=True)
    bptt: int = option(64, "Steps of backpropagation through time.", least=1, old_names=("seq_length",))
    state_reset_prob: float = option(
        0.0,
        "Chance of a lane to start a chunk from zero, so that beginnings are learned too.",
        least=0,
        most=1,
        chosen=True,
        old_names=("reset_probability",),
    )
    optimizer: Literal["adamw", "muon", "rmsprop"] = option(
        "adamw", "Rule that turns gradients into changes.", chosen=True, old_names=("optimiser",)
    )
    lr: float = option(
        8e-3, "Highest learning rate (of tables, and of processes: the recipe chooses).", above=0, old_names=("learning_rate",)
    )
    schedule: Literal["linear", "decay", "constant"] = option(
        "linear", "To zero in a straight line; or char-rnn's decay after some epochs; or none."
    )
    warmup: int = option(50, "Steps until the highest rate is reached.", least=0)
    decay: float = option(0.97, "Factor an epoch, for --schedule decay.", above=0, most=1, old_names=("learning_rate_decay",))
    decay_after: float = option(10, "Epochs before the decay begins.", least=0, old_names=("learning_rate_decay_after",))
    weight_decay: float = option(0.1, "Pull of the matrices towards zero (AdamW).", least=0)
    clip: float = option(1.0, "Limit of the gradient; 0 = none.", least=0, old_names=("grad_clip",))
    clip_by: Literal["norm", "value"] = option("norm", "Clip the length of the whole gradient, or each element.")
    calibrate: bool = option(True, "Fit how sure the model that is kept is of itself, on the validation part.")
    seed: int = option(1, "Seed of everything random; -1 draws one and prints it.", least=-1, below=2**63)


@dataclass(frozen=True)
class MachineOptions:
    """Where it runs. These do not change what is learned, beyond rounding."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps.")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "Numbers in the matrix products; auto: bfloat16 where the processor is fast at it."
    )
    threads: int = option(0, "Threads of the processor; 0 = all, or one if that is faster.", least=0, most=4096)
    kernels: Literal["auto", "native", "torch", "reference"] = option(
        "auto", "Which code runs the recurrent loops.", old_values={"aten": "torch"}
    )


@dataclass(frozen=True)
class RunOptions:
    """Where the run is kept and how often it is looked at."""

    out: str | None = option(None, "Run folder (default: runs/NAME of the input).", old_names=("checkpoint_dir",))
    eval_every: int | None = option(
        None, "Steps between validations (default: 7 and more over the budget).", least=1, old_names=("eval_val_every",)
    )
    eval_tokens: int = option(
        32768,
        "Most symbols of the validation part that a look reads; the model kept is measured on up to 262,144.",
        least=2,
        old_names=("eval_symbols",),
    )
    save_every: float = option(60.0, "Seconds between checkpoints.", above=0)
    stop_after: int | None = option(None, "Save and leave after this step, to go on later with --resume.", least=1)
    sample_length: int = option(300, "Symbols of the live samples; 0 = none.", least=0, most=100000)
    # torchrun takes --log for one of its own flags, so that is a second name
    log_to: Literal["none", "tensorboard"] = option("none", "Keep the metrics for another program, too.", old_names=("log",))


@dataclass(frozen=True)
class SampleOptions:
    """How text is drawn."""

    prompt: str = option("", "Text to go on from.", old_names=("primetext", "start_text"))
    length: int = option(1000, "Most symbols to draw.", least=0, most=2**40)
    temperature: float = option(1.0, "Below 1 more conservative, above 1 bolder; 0 = always the likeliest.", least=0, most=1e6)
    top_k: int = option(0, "Draw only among the k likeliest; 0 = all.", least=0)
    top_p: float = option(1.0, "Draw only among the likeliest that together have this probability.", above=0, most=1)
    min_p: float = option(0.0, "Drop what is less likely than this share of the likeliest.", least=0, most=1)
    stop: tuple[str, ...] = option((), "End before any of these strings appears.")
    count: int = option(1, "How many samples, drawn in one batch; sample i has the seed SEED + i.", least=1, most=1000000)
    clamp: tuple[str, ...] = option((), "Hold a unit, LAYER.UNIT=VALUE (from 0; without =VALUE, silenced); may be repeated.")
    novel_only: bool = option(False, "Only samples that are no copies of the training text: its documents, or long runs.")
    seed: int = option(1, "Seed of the draw; -1 draws one and tells it.", least=-1, below=2**63)
    int8: bool = option(False, "Weights of 8 bits in the native step: the fastest for large models, at a small cost in bits.")


@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated, and with how much context."""

    split: Literal["train", "validation", "all"] | None = option(
        None, "Part of the text (default: validation of the run's own text, all of another)."
    )
    window: int | None = option(None, "Start every N symbols from zero (default: the state is carried on).", least=1)
    baselines: bool = option(False, "Put counting baselines beside: uniform, n-grams (Kneser-Ney), xz.")
    order: int = option(20, "Longest n-gram of --baselines.", least=1, most=20)


@dataclass(frozen=True)
class ScoreOptions:
    """How surprising a text is, and to whom."""

    per: Literal["line", "character"] = option("line", "What is told: lines, or every character.", old_names=("by",))
    top: int = option(20, "Lines that are shown, the most surprising first; 0 = only the sums.", least=0, most=1000000)
    compare: tuple[str, ...] = option(
        (), "Another model to put beside (RUN; may be repeated): who wrote this?", old_names=("against",)
    )
    clamp: tuple[str, ...] = option((), "Put the model with a unit held beside: LAYER.UNIT=VALUE; all that are given at once.")
    html: str | None = option(None, "Write the heat map of the text's beginning, and the lines, to this HTML file.")


@dataclass(frozen=True)
class ExplainOptions:
    """What the neuron explorer shows."""

    length: int = option(3000, "Most symbols of the text that are shown.", least=10, most=200000)
    clamp: tuple[str, ...] = option((), "Show what holding this unit changes, LAYER.UNIT=VALUE (default: the clearest ones).")
    probe_length: int = option(30000, "Symbols that units are held against features on.", least=100, most=200000)
    out: str | None = option(None, "The HTML file (default: explain.html in the run folder, else here).")
    save_activations: str | None = option(
        None, "Write every signal, (T, L, H), and the logits to this .npz file too.", old_names=("arrays",)
    )
    terminal: bool = option(False, "Colour the text here, by --unit, instead of writing a page.")
    neuron: str | None = option(
        None, "LAYER.UNIT that colours the text on a terminal (default: the clearest detector).", old_names=("unit",)
    )
    seed: int = option(1, "Seed of the samples and of the chance level.", least=0, below=2**62)


@dataclass(frozen=True)
class ReportOptions:
    """What the page of a run says."""

    out: str | None = option(None, "The HTML file (default: report.html in the run folder).")
    order: int = option(20, "Longest n-gram of the counting baseline.", least=1, most=20)
    samples: int = option(5, "Samples that are searched for copies of the training text.", least=1, most=100)
    seed: int = option(1, "Seed of the samples.", least=0, below=2**62)


@dataclass(frozen=True)
class PredictOptions:
    """How a labelled model answers."""

    beam: int = option(5, "Hypotheses of beam search, where text is written; 1 = greedy.", least=1, most=1000)
    length_penalty: float = option(1.0, "Above 0, longer texts are favoured (Wu et al. 2016).", least=0, most=10)
    temperature: float | None = option(None, "Draw what is written instead of searching for the best.", least=0, most=1e6)
    seed: int = option(1, "Seed of the draws.", least=0, below=2**62)
    probabilities: bool = option(False, "A column for the probability of every label.")
    image_dir: str | None = option(
        None, "Folder for painted pictures, as PNG files (default: numbers in the cell).", old_names=("pictures",)
    )


@dataclass(frozen=True)
class BenchOptions:
    """What `unrolled bench` measures, and for how long."""

    rounds: int = option(5, "Rounds in which the contenders take turns; medians of them are told.", least=1, most=1000)
    seconds: float = option(60.0, "Seconds each contender of `learning` learns for.", above=0)
    text: str = option("builtin:python", "Text of `learning`.")
    seed: int = option(1, "Seed of `learning`.", least=0)
    svg: str | None = option(None, "Write loss against seconds to this SVG file.", old_names=("picture",))


PRESETS: dict[str, dict[str, Any]] = {
    "char-rnn": {
        "layers": 2, "hidden": 128, "embedding": 0, "dropout": 0.0, "token_dropout": 0.0, "residual": False,
        "two_biases": True, "initialization": "uniform", "train_fraction": 0.95, "epochs": 50.0, "batch": 50, "bptt": 50,
        "state_reset_prob": 0.0,
        "optimizer": "rmsprop", "lr": 2e-3, "schedule": "decay", "warmup": 0, "decay": 0.97, "decay_after": 10.0,
        "weight_decay": 0.0, "clip": 5.0, "clip_by": "value", "calibrate": False, "seed": 123,
    },
}  # fmt: skip
PRESETS["post-pg"] = PRESETS["char-rnn"] | {"hidden": 512, "batch": 100, "bptt": 100, "dropout": 0.5}
"""Settings of earlier work, by name: the code's defaults of 2015, and the post's model of Paul Graham's essays."""


def check(options: Any) -> None:
    """Raise `UsageError` if a setting has the wrong type, is none of its choices, or a number is out of bounds."""
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        expected = _expected_type(hints[field.name], value, choices(field.name, hints[field.name]))
        if expected:
            raise UsageError(f"{flag_name(field.name)} is {value!r}; expected {expected}.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        bounds = {k: v for k, v in field.metadata.items() if k in _BOUND_CHECKS}
        fits_float = abs(value) <= _MAX_FLOAT  # a whole number may be too large for a float
        if fits_float and all(_BOUND_CHECKS[name](value, bound) for name, bound in bounds.items()):
            continue
        expected = " and ".join(f"{_BOUND_WORDS[name]} {bound:,.12g}" for name, bound in bounds.items())
        value_text = f"{value:.12g}" if fits_float or isinstance(value, float) else "a number of too many digits"
        raise UsageError(f"{flag_name(field.name)} is {value_text}; expected a finite number {expected}".rstrip() + ".")


def choices(name: str, hint: Any) -> tuple[str, ...]:
    """Return the values of the setting `name`, of type `hint`, that are offered: of its `Literal`, and of its registry."""
    literals = [part for part in (hint, *typing.get_args(hint)) if typing.get_origin(part) is Literal]
    return tuple(dict.fromkeys((*typing.get_args(literals[0]), *REGISTRIES.get(name, ())))) if literals else ()


def _expected_type(hint: Any, value: Any, offered: tuple[str, ...]) -> str:
    """Return what was expected, if `value` is not of the type `hint`; an empty string if it is."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        expectations = [_expected_type(part, value, offered) for part in typing.get_args(hint)]
        return "" if "" in expectations else expectations[0]
    if typing.get_origin(hint) is Literal:
        return "" if value in offered else "one of " + ", ".join(offered)
    if typing.get_origin(hint) is tuple:
        return "" if isinstance(value, tuple) and all(isinstance(part, str) for part in value) else "a list of texts"
    if hint is float:
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    return "" if type(value) is hint else _TYPE_NAMES.get(hint, "nothing")


_MAX_FLOAT = sys.float_info.max
_TYPE_NAMES: dict[Any, str] = {bool: "true or false", int: "a whole number", str: "a text"}
_BOUND_CHECKS = {
    "above": lambda value, bound: value > bound,
    "least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound,
    "most": lambda value, bound: value <= bound,
}
_BOUND_WORDS = {"above": "above", "least": "of at least", "below": "below", "most": "of at most"}


def flag_name(name: str) -> str:
    """Return the flag of a field, as a user types it."""
    return "--" + name.replace("_", "-")


def from_dict(option_class: type[Options], values: dict[str, Any], origin: str) -> Options:
    """Build options of `kind` from saved or hand-written `values`; an unknown key or wrong type is a `UsageError`."""
    fields = {field.name: field for field in dataclasses.fields(option_class)}  # type: ignore[arg-type]  # a dataclass type
    new_names = {old: field.name for field in fields.values() for old in field.metadata["old_names"]}
    renamed = {name if name in fields else new_names.get(name, name): value for name, value in values.items()}
    for name, value in renamed.items():
        if name not in fields:
            raise UsageError(f"{origin}: unknown setting '{name}'{did_you_mean(name, fields)}")
        if isinstance(value, str):
            renamed[name] = fields[name].metadata["old_values"].get(value, value)
        elif isinstance(value, list):
            renamed[name] = tuple(value)
    options = option_class(**renamed)
    check(options)
    return options


def split_by_class(values: dict[str, Any], option_classes: tuple[type, ...], origin: str) -> list[dict[str, Any]]:
    """Deal flat `values` out to the option classes that own each name; a name nobody owns is a `UsageError`."""
    fields = [(index, field) for index, option_class in enumerate(option_classes) for field in dataclasses.fields(option_class)]
    owners = {field.name: index for index, field in fields}
    new_names = {old: field.name for _, field in fields for old in field.metadata["old_names"]}
    grouped: list[dict[str, Any]] = [{} for _ in option_classes]
    for name, value in values.items():
        name = name.replace("-", "_")
        name = new_names.get(name, name)
        if name not in owners:
            raise UsageError(f"{origin}: unknown setting '{name}'{did_you_mean(name, owners)}")
        grouped[owners[name]][name] = value
    return grouped


@dataclass(frozen=True)
class TrainRequest:
    """Everything `unrolled train` is asked to do; `inputs` as `data.sources.gather` takes them."""

    inputs: tuple[str, ...] = ()
    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    training: TrainingOptions = TrainingOptions()
    machine: MachineOptions = MachineOptions()
    run: RunOptions = RunOptions()
    table: TableOptions = TableOptions()
    pair: PairOptions = PairOptions()
    explicit: frozenset[str] = frozenset()
    """Names of the settings that somebody chose; the recipe may choose the others."""

    @staticmethod
    def build(inputs: tuple[str, ...], values: dict[str, Any], origin: str, preset: str | None = None) -> TrainRequest:
        """Return the defaults, changed by a preset, changed by flat `values` (from Python, TOML or a saved run)."""
        if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
            hint = did_you_mean(preset, PRESETS) if isinstance(preset, str) else ""
            raise UsageError(f"There is no preset {preset!r}{hint or '.'} Presets: {', '.join(PRESETS)}.")
        preset_values = dict(PRESETS[preset] if preset else {})
        if any(values.get(name) is not None for name in BUDGET_OPTIONS):
            preset_values = {name: value for name, value in preset_values.items() if name not in BUDGET_OPTIONS}
        grouped = split_by_class(
            preset_values | {name.replace("-", "_"): value for name, value in values.items()}, OPTION_CLASSES, origin
        )
        parts: list[Any] = [
            from_dict(option_class, group, origin) for option_class, group in zip(OPTION_CLASSES, grouped, strict=True)
        ]
        request = TrainRequest(tuple(inputs), *parts)
        return dataclasses.replace(request, explicit=frozenset(name for group in grouped for name in group))

    def check(self) -> TrainRequest:
        """Return the request with one budget and, if need be, a drawn seed; raise `UsageError` for what cannot be."""
        for part in self.groups():
            check(part)
        budgets = [flag_name(name) for name in BUDGET_OPTIONS if getattr(self.training, name) is not None]
        if len(budgets) > 1:
            raise UsageError(f"{' and '.join(budgets)} are given, and one budget is expected: choose one.")
        training = self.training if budgets else dataclasses.replace(self.training, minutes=DEFAULT_MINUTES)
        if training.seed < 0:
            training = dataclasses.replace(training, seed=secrets.randbelow(2**31))
        return dataclasses.replace(self, inputs=self.inputs or (DEFAULT_INPUT,), training=training)

    def groups(self) -> tuple[Any, ...]:
        """Return the settings by class, in the order of `GROUPS`."""
        return (self.data, self.model, self.training, self.machine, self.run, self.table, self.pair)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as one table, as `build` takes them."""
        return {name: value for part in self.groups() for name, value in dataclasses.asdict(part).items()}


OPTION_CLASSES: tuple[type, ...] = (
    DataOptions, ModelOptions, TrainingOptions, MachineOptions, RunOptions, TableOptions, PairOptions,
)  # fmt: skip
BUDGET_OPTIONS = ("minutes", "epochs", "steps")
DEFAULT_MINUTES = 3.0
DEFAULT_INPUT = "builtin:python"
