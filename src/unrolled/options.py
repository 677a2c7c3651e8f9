"""All settings, declared once. A field here is a flag, its help text, a TOML key, a key of saved JSON and a Python keyword.

Each class is one group of settings. How a field is declared and checked is in `option_fields.py`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from unrolled.command_options import DOCUMENTS_HELP, ENCODING_HELP, HEADER_HELP, MASK_HELP, TOKENS_HELP, UNKNOWN_BASE_HELP
from unrolled.command_options import AlertOptions as AlertOptions
from unrolled.command_options import BenchOptions as BenchOptions
from unrolled.command_options import EvaluateOptions as EvaluateOptions
from unrolled.command_options import ExplainOptions as ExplainOptions
from unrolled.command_options import PredictOptions as PredictOptions
from unrolled.command_options import ReportOptions as ReportOptions
from unrolled.command_options import SampleOptions as SampleOptions
from unrolled.command_options import ScoreOptions as ScoreOptions
from unrolled.command_options import ServeOptions as ServeOptions
from unrolled.errors import UsageError, did_you_mean
from unrolled.option_fields import REGISTRIES as REGISTRIES
from unrolled.option_fields import check as check
from unrolled.option_fields import choices as choices
from unrolled.option_fields import flag_name as flag_name
from unrolled.option_fields import force_option as force_option
from unrolled.option_fields import from_dict as from_dict
from unrolled.option_fields import option as option
from unrolled.option_fields import present_names as present_names
from unrolled.option_fields import split_by_class as split_by_class
from unrolled.presets import PRESETS as PRESETS
from unrolled.series_options import SeriesOptions as SeriesOptions

# fmt: off
TokensName: TypeAlias = Literal[
    "characters", "bytes", "words", "bpe", "regex:PATTERN", "smiles", "fasta", "fasta:SETTINGS", "abc", "midi", "midi:STEPS",
] | str
"""What a token is; the tokenizers of `text/tokenizers.py`, and others that were added."""

CellName: TypeAlias = Literal[
    "rnn", "gru", "gru-reset-before", "lstm", "mogrifier-gru", "mogrifier-lstm", "mingru", "minlstm", "rg-lru", "slstm",
    "mlstm", "gated-deltanet", "gated-deltanet-positive", "gru-hard-sigmoid", "gru-reset-before-hard-sigmoid",
    "lstm-hard-sigmoid",
]
"""The keys of `CELLS`."""
# fmt: on


@dataclass(frozen=True)
class DataOptions:
    """Which text is read, and how it becomes tokens."""

    tokens: TokensName = option("characters", TOKENS_HELP)
    documents: Literal["none", "line", "blank-line", "file", "cell", "record", "session"] = option(
        "none", DOCUMENTS_HELP, old_names=("unit",), old_values={"stream": "none"}
    )
    normalize: Literal["nfc", "nfkc", "none"] = option(
        "nfc", "Unicode normal form of texts, prompts and cells; nfkc also replaces ligatures.", old_names=("normalise",)
    )
    mask: str | None = option(None, MASK_HELP, is_list=True)
    encoding: str | None = option(None, ENCODING_HELP)
    glob: str = option("*", "Which files of a folder are read. Folders are read recursively, without '**'.")
    train_fraction: float = option(
        0.9,
        "Fraction of the data that is the training split; the rest is held out: the validation split, and the test split.",
        gt=0,
        le=1,
        old_names=("train_frac",),
    )
    test_fraction: float | None = option(
        None,
        "Fraction that is the test split, which is not used for model selection (default: 0.05, at most half of what "
        "is held out, for texts of more than 200,000 tokens and tables of more than 500 rows; else 0).",
        ge=0,
        lt=1,
    )
    split_by: Literal["source", "row", "order", "time"] = option(
        "source",
        "How documents and rows are held out. source: drawn at random by the seed, equal documents or sources together; "
        "row: drawn one by one; order: the last ones; time: the last steps of each series, as always for forecasts and for few "
        "series. Text without documents is always split in its order.",
    )


@dataclass(frozen=True)
class TableOptions:
    """Source columns and target column of a table. Their kinds determine the sequence mode."""

    source: str | None = option(
        None,
        "Input column, as NAME or NAME:KIND; several as NAME,NAME, or given again. Without it, INPUT is a text, not a table.",
        is_list=True,
    )
    target: str | None = option(
        None, "Column to predict, as NAME or NAME:KIND. KIND: text, label, number, labels, numbers, image, vector, frames."
    )
    header: str | None = option(None, f"{HEADER_HELP} (default: first, unless columns are given by number)")
    max_length: int | None = option(
        None,
        "Most steps of a row. A longer source is cut, a row with a longer target text left out (default: 8,192).",
        ge=2,
        le=2**31,
    )
    validation: str | None = option(None, "Table to validate on (default: held-out rows, see --train-fraction).", reads=True)
    cell_files: bool = option(
        True,
        "Open the files that cells name (.npy, WAV, images). Without, such a cell is an error: for tables of other people.",
    )


@dataclass(frozen=True)
class ModelOptions:
    """Architecture of the recurrent network."""

    cell: CellName = option(
        "lstm",
        "Recurrent cell. gru-reset-before applies the reset gate before the matrix product, as char-rnn does; "
        "gated-deltanet has eigenvalues from -1 to 1, gated-deltanet-positive from 0 to 1; -hard-sigmoid is for the gates of "
        "models of Keras before 2.3.",
        old_names=("model",),
        old_values={"gru-before": "gru-reset-before"},
    )
    layers: int = option(2, "Number of layers.", ge=1, le=64, old_names=("num_layers",))
    hidden: int = option(256, "Hidden units per layer.", ge=1, le=65536, old_names=("rnn_size",), by_recipe=True)
    embedding: int | None = option(
        None, "Embedding dimension of a token; 0: one-hot input, as in char-rnn (default: same as --hidden).", ge=0, le=65536
    )
    dropout: float = option(0.1, "Dropout probability after each layer, in training.", ge=0, lt=1, by_recipe=True)
    token_dropout: float = option(
        0.0,
        "Probability of hiding an input token in training (its embedding is zero); for texts that are read many times.",
        ge=0,
        lt=1,
        by_recipe=True,
        old_names=("symbol_dropout",),
    )
    residual: bool = option(True, "Residual layers, x + cell(norm(x)); without: plain stacked layers, as in char-rnn.")
    two_biases: bool = option(False, "A second bias in each gate, as in torch.nn.LSTM and cuDNN.")
    initialization: Literal["scaled", "uniform"] = option(
        "scaled",
        "Initial weights: scaled by the layer width, or uniform in +-0.08 as in char-rnn.",
        old_names=("initialisation",),
    )


@dataclass(frozen=True)
class PairOptions:
    """Architecture of a table's encoder and decoder, beyond the layers."""

    bidirectional: bool = option(True, "Read the source in both directions.")
    pool: Literal["last", "mean", "max", "attention"] = option(
        "attention", "How the encoder states become one vector, where a single value is predicted."
    )
    attention: bool = option(True, "Attend to the whole source at each step of the decoder.")
    image_as: Literal["whole", "columns", "rows", "pixels"] = option(
        "whole", "Read an image at once, or as a sequence of columns, rows or pixels.", old_names=("read",)
    )
    image_encoder: Literal["cnn", "mlp"] = option(
        "cnn", "Network that encodes a whole image.", old_names=("pictures",), old_values={"convolution": "cnn", "flat": "mlp"}
    )
    balance: bool = option(
        False, "Weight labels in training so that rare ones count as much as others; of two labels, choose the threshold."
    )
    ngrams: bool = option(
        True, "One text to one label or number: add a linear model of hashed words, pairs and character n-grams."
    )
    label_smoothing: float = option(
        0.0, "Probability taken from the target and spread over all classes, in training.", ge=0, lt=1, by_recipe=True
    )


@dataclass(frozen=True)
class TrainingOptions:
    """Optimization. One of minutes, epochs and steps is the budget; the learning rate schedule ends with it."""

    init_from: str | None = option(
        None,
        "Start from the weights of a model of texts: builtin:english, builtin:python, a run, or a model file; none: from "
        "random weights (default: one of the package for a small text that it reads well; for a table, none). Where a text "
        "of a table gets a label, the model reads it too, and is not trained.",
        old_names=("from",),
        reads=True,
    )
    shrink_vocabulary: bool = option(False, "With --from: drop the characters that the text does not have.")
    unknown: Literal["keep", "refuse"] = option("keep", UNKNOWN_BASE_HELP)
    minutes: float | None = option(None, "Budget in minutes of training (default: 3, if there is no other budget).", gt=0)
    epochs: float | None = option(None, "Budget in passes over the training split.", gt=0, old_names=("max_epochs",))
    steps: int | None = option(None, "Budget in optimizer steps.", ge=1, le=2**40)
    batch: int = option(
        32,
        "Batch size: parallel columns of a text, or rows of a table.",
        ge=1,
        le=2**20,
        old_names=("batch_size",),
        by_recipe=True,
    )
    bptt: int = option(
        64,
        "Tokens per truncated backpropagation through time (the sequence length).",
        ge=1,
        le=2**20,
        old_names=("seq_length",),
    )
    state_reset_prob: float = option(
        0.0,
        "Probability that a batch column starts a chunk from the zero state, so that the model also learns beginnings.",
        ge=0,
        le=1,
        by_recipe=True,
        old_names=("reset_probability",),
    )
    optimizer: Literal["adamw", "muon", "rmsprop"] = option("adamw", "Optimizer.", by_recipe=True, old_names=("optimiser",))
    lr: float = option(
        8e-3,
        "Peak learning rate. For tables and for several processes, the recipe chooses it.",
        gt=0,
        old_names=("learning_rate",),
    )
    schedule: Literal["linear", "decay", "constant"] = option(
        "linear", "Learning rate schedule: linear to zero, char-rnn's decay per epoch, or constant."
    )
    warmup: int = option(50, "Steps of linear warm-up to the peak learning rate.", ge=0, le=2**40)
    decay: float = option(0.97, "Factor per epoch, for --schedule decay.", gt=0, le=1, old_names=("learning_rate_decay",))
    decay_after: float = option(
        10, "Epochs before the decay begins, for --schedule decay.", ge=0, old_names=("learning_rate_decay_after",)
    )
    weight_decay: float = option(0.1, "Weight decay of the weight matrices (decoupled, as in AdamW).", ge=0)
    clip: float = option(1.0, "Gradient clipping threshold; 0: no clipping.", ge=0, old_names=("grad_clip",))
    clip_by: Literal["norm", "value"] = option("norm", "Clip the norm of the whole gradient, or each element.")
    calibrate: bool = option(True, "Temperature-scale the saved model on the validation split.")
    seed: int = option(1, "Random seed; -1: draw one and print it.", ge=-1, lt=2**63)


@dataclass(frozen=True)
class MachineOptions:
    """Device, number format, threads and kernels. These change results by rounding only."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps.")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "Number format of the matrix products; auto: bfloat16 where the device is fast at it."
    )
    threads: int = option(0, "CPU threads; 0: all cores, or one if that is faster.", ge=0, le=4096)
    kernels: Literal["auto", "native", "torch", "reference"] = option(
        "auto", "Implementation of the recurrent layers.", old_values={"aten": "torch"}
    )


@dataclass(frozen=True)
class RunOptions:
    """Run folder, evaluations and checkpoints."""

    out: str | None = option(None, "Run folder (default: runs/NAME of the input).", old_names=("checkpoint_dir",), writes="run")
    eval_every: int | None = option(
        None, "Steps between evaluations (default: at least 7 in the budget).", ge=1, le=2**40, old_names=("eval_val_every",)
    )
    eval_tokens: int = option(
        32768,
        "Maximum number of validation tokens in an evaluation; the saved model is evaluated on up to 262,144.",
        ge=2,
        le=2**40,
        old_names=("eval_symbols",),
    )
    patience: int | None = option(
        None, "Stop after this many evaluations in a row without a lower validation loss.", ge=1, le=2**31
    )
    save_every: float = option(60.0, "Seconds between checkpoints.", gt=0)
    stop_after: int | None = option(None, "Save and stop after this step; continue later with --resume.", ge=1, le=2**40)
    sample_length: int = option(300, "Tokens of the samples drawn during training; 0: no samples.", ge=0, le=100000)
    # torchrun takes --log for one of its own flags, so that is a second name
    log_to: Literal["none", "tensorboard"] = option("none", "Also write the metrics as TensorBoard events.", old_names=("log",))


@dataclass(frozen=True)
class TrainRequest:
    """All settings of a training run; `inputs` are files, folders, `-` or `builtin:NAME`."""

    inputs: tuple[str, ...] = ()
    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    training: TrainingOptions = TrainingOptions()
    machine: MachineOptions = MachineOptions()
    run: RunOptions = RunOptions()
    table: TableOptions = TableOptions()
    pair: PairOptions = PairOptions()
    series: SeriesOptions = SeriesOptions()
    explicit: frozenset[str] = frozenset()
    """Names of the settings that the user or a preset set; the recipe may choose the others."""

    @staticmethod
    def build(inputs: tuple[str, ...], values: Mapping[str, Any], origin: str, preset: str | None = None) -> TrainRequest:
        """Return the defaults, overridden by a preset, overridden by `values`.

        Args:
            inputs: Files, folders, `-` or `builtin:NAME`.
            values: Settings by field name (present or old), of all option classes together.
            origin: Where the values come from, for messages.
            preset: A key of `PRESETS`.

        Raises:
            UsageError: An unknown preset or setting, or a value that cannot be used.
        """
        if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
            hint = did_you_mean(preset, PRESETS) if isinstance(preset, str) else ""
            raise UsageError(f"There is no preset {preset!r}{hint or '.'} Presets: {', '.join(PRESETS)}.")
        values = present_names(values, OPTION_CLASSES)
        preset_values = dict(PRESETS[preset] if preset else {})
        if any(values.get(name) is not None for name in BUDGET_OPTIONS):
            preset_values = {name: value for name, value in preset_values.items() if name not in BUDGET_OPTIONS}
        grouped = split_by_class(preset_values | values, OPTION_CLASSES, origin)
        parts: list[Any] = [from_dict(kind, group, origin) for kind, group in zip(OPTION_CLASSES, grouped, strict=True)]
        request = TrainRequest(tuple(inputs), *parts)
        return dataclasses.replace(request, explicit=frozenset(name for group in grouped for name in group))

    def check(self) -> TrainRequest:
        """Return the request with a default budget, input and seed where they are missing.

        Raises:
            UsageError: More than one budget, or a value that cannot be used.
        """
        for part in self.groups():
            check(part)
        budgets = [flag_name(name) for name in BUDGET_OPTIONS if getattr(self.training, name) is not None]
        if len(budgets) > 1:
            raise UsageError(f"{' and '.join(budgets)} are given, and one budget is expected: choose one.")
        training = self.training if budgets else dataclasses.replace(self.training, minutes=DEFAULT_MINUTES)
        if training.seed < 0:
            training = dataclasses.replace(training, seed=int.from_bytes(os.urandom(4), "little") % 2**31)
        return dataclasses.replace(self, inputs=self.inputs or (DEFAULT_INPUT,), training=training)

    @property
    def base_name(self) -> str | None:
        """The model that training starts from; None for random weights, or if the recipe is to choose."""
        return None if self.training.init_from == "none" else self.training.init_from

    def groups(self) -> tuple[Any, ...]:
        """Return the option objects, in the order of `OPTION_CLASSES`."""
        return (self.data, self.model, self.training, self.machine, self.run, self.table, self.pair, self.series)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as one dictionary, as `build` takes them."""
        return {name: value for part in self.groups() for name, value in dataclasses.asdict(part).items()}


OPTION_CLASSES: tuple[type, ...] = (
    DataOptions, ModelOptions, TrainingOptions, MachineOptions, RunOptions, TableOptions, PairOptions, SeriesOptions,
)  # fmt: skip
GROUP_TITLES = ("data", "model", "training", "machine", "run", "tables: columns", "tables: network", "tables: series")
"""Titles of the option classes in `--help` and in reports."""

BUDGET_OPTIONS = ("minutes", "epochs", "steps")
DEFAULT_MINUTES = 3.0
DEFAULT_INPUT = "builtin:python"
