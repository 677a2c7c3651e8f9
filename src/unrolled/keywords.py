"""Keyword arguments of the Python functions. Generated from the option classes by scripts/generate_keywords.py: do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from unrolled.options import CellName, TokensName

if TYPE_CHECKING:
    import torch


class DataKwargs(TypedDict, total=False):
    """Options of `DataOptions`."""

    tokens: TokensName
    documents: Literal["none", "line", "blank-line", "file", "cell", "record", "session"]
    normalize: Literal["nfc", "nfkc", "none"]
    mask: str | Sequence[str] | None
    encoding: str | None
    glob: str
    train_fraction: float
    test_fraction: float | None
    split_by: Literal["source", "row", "order", "time"]


class ModelKwargs(TypedDict, total=False):
    """Options of `ModelOptions`."""

    cell: CellName
    layers: int
    hidden: int
    embedding: int | None
    dropout: float
    token_dropout: float
    residual: bool
    two_biases: bool
    initialization: Literal["scaled", "uniform"]


class TrainingKwargs(TypedDict, total=False):
    """Options of `TrainingOptions`."""

    init_from: str | PathLike[str] | None
    shrink_vocabulary: bool
    unknown: Literal["keep", "refuse"]
    minutes: float | None
    epochs: float | None
    steps: int | None
    batch: int
    bptt: int
    state_reset_prob: float
    optimizer: Literal["adamw", "muon", "rmsprop"]
    lr: float
    schedule: Literal["linear", "decay", "constant"]
    warmup: int
    decay: float
    decay_after: float
    weight_decay: float
    clip: float
    clip_by: Literal["norm", "value"]
    calibrate: bool
    seed: int


class MachineKwargs(TypedDict, total=False):
    """Options of `MachineOptions`."""

    device: str | torch.device
    precision: Literal["auto", "float32", "bfloat16"] | torch.dtype
    threads: int
    kernels: Literal["auto", "native", "torch", "reference"]


class RunKwargs(TypedDict, total=False):
    """Options of `RunOptions`."""

    out: str | PathLike[str] | None
    eval_every: int | None
    eval_tokens: int
    patience: int | None
    save_every: float
    stop_after: int | None
    sample_length: int
    log_to: Literal["none", "tensorboard"]


class PairKwargs(TypedDict, total=False):
    """Options of `PairOptions`."""

    bidirectional: bool
    pool: Literal["last", "mean", "max", "attention"]
    attention: bool
    image_as: Literal["whole", "columns", "rows", "pixels"]
    image_encoder: Literal["cnn", "mlp"]
    balance: bool
    ngrams: bool
    label_smoothing: float


class SeriesKwargs(TypedDict, total=False):
    """Options of `SeriesOptions`."""

    group_by: str | None
    order_by: str | None
    horizon: int | None
    known_covariates: str | Sequence[str] | None
    loss: Literal["auto", "mse", "mae", "quantiles", "gaussian"]
    quantiles: str
    difference: Literal["auto", "on", "season", "off"]
    time_features: Literal["auto", "on", "off"]
    center: Literal["none", "row", "group"]
    scale: Literal["all", "group"]


class SampleKwargs(TypedDict, total=False):
    """Options of `SampleOptions`."""

    length: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    stop: Sequence[str]
    count: int
    clamp: Sequence[str]
    novel_only: bool
    keep_if: str | None
    seed: int
    unknown: Literal["keep", "refuse"]
    adapt: bool
    int8: bool
    portable: bool


class EvaluateKwargs(TypedDict, total=False):
    """Options of `EvaluateOptions`."""

    split: Literal["train", "validation", "test", "all"] | None
    window: int | None
    encoding: str | None
    header: str | None
    unknown: Literal["keep", "refuse"]
    baselines: bool
    order: int
    adapt: bool
    portable: bool


class ScoreKwargs(TypedDict, total=False):
    """Options of `ScoreOptions`."""

    encoding: str | None
    unknown: Literal["keep", "refuse"]
    per: Literal["line", "character"]
    top: int
    compare: Sequence[str | PathLike[str]]
    clamp: Sequence[str]
    html: str | PathLike[str] | None
    adapt: bool
    portable: bool
    force: bool


class AlertKwargs(TypedDict, total=False):
    """Options of `AlertOptions`."""

    alert_rate: float | None
    alert_above: float | None
    alert_cooldown: int | None
    labels: str | PathLike[str] | None
    label: str | None
    source: str | None
    follow: str | PathLike[str] | None
    from_start: bool


class ExplainKwargs(TypedDict, total=False):
    """Options of `ExplainOptions`."""

    encoding: str | None
    header: str | None
    length: int
    clamp: Sequence[str]
    probe_length: int
    out: str | PathLike[str] | None
    save_activations: str | PathLike[str] | None
    force: bool
    terminal: bool
    neuron: str | None
    seed: int


class ReportKwargs(TypedDict, total=False):
    """Options of `ReportOptions`."""

    out: str | PathLike[str] | None
    force: bool
    order: int
    samples: int
    keep_if: str | None
    seed: int


class PredictKwargs(TypedDict, total=False):
    """Options of `PredictOptions`."""

    count: int
    encoding: str | None
    header: str | None
    unknown: Literal["keep", "refuse"]
    beam: int
    length_penalty: float
    temperature: float | None
    seed: int
    probabilities: bool
    min_probability: float
    image_dir: str | PathLike[str] | None
    wav: str | PathLike[str] | None
    force: bool


class ImportKwargs(TypedDict, total=False):
    """Options of `ImportOptions`."""

    vocabulary: str | PathLike[str] | None
    text: str | PathLike[str] | None
    vectors: Sequence[str | PathLike[str]]
    out: str | PathLike[str] | None
    force: bool


class ExportKwargs(TypedDict, total=False):
    """Options of `ExportOptions`."""

    to: Literal["c", "html", "onnx", "numpy", "card"]
    out: str | PathLike[str] | None
    weights: Literal["int8", "int4", "float32"]
    float16: bool
    text: str | PathLike[str] | None
    force: bool


class TrainKwargs(DataKwargs, ModelKwargs, TrainingKwargs, MachineKwargs, RunKwargs, total=False):
    """Options of `train`."""


class TrainTableKwargs(TrainKwargs, PairKwargs, SeriesKwargs, total=False):
    """Options of `train_table`."""

    header: str | None
    max_length: int | None
    validation: Any
    cell_files: bool
