"""Models of series with noisy weights, of every kind, and faults of their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from support.tables import write_long
from unrolled.checkpoints.model_file import TableModelFile
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.options import ModelOptions, PairOptions
from unrolled.tables.known_covariates import Covariate
from unrolled.tables.label_columns import LabelsColumn
from unrolled.tables.long_table import LongFormat
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.scaling import Scaling
from unrolled.tables.spec import TableSpec

COVARIATES = (
    Covariate.fit("price", None, [1.5, 2.0, None, 4.0, 9.0], False),
    Covariate.fit("holiday", None, ["", "Easter", "May Day", ""], False),
    Covariate.fit("open", None, [True, False, True], False),
)
"""Columns that are known in advance: numbers with a gap, texts, and true or false."""


def series_model(
    cell: Any = "lstm", loss: str = "gaussian", horizon: int = 0, residual: bool = True, labels: bool = False, **source: Any
) -> TableModelFile:
    """Return a model of two columns with noisy weights; `known` in `source`: one that reads `COVARIATES`."""
    values = np.random.default_rng(0).normal([1e4, -3.0], [2.0, 500.0], (400, 2))
    values[7] = np.nan if source.pop("gaps", False) else values[7]
    settings: dict[str, Any] = {"loss": loss, "quantiles": (0.05, 0.5, 0.9), "horizon": horizon}
    settings["difference"] = source.pop("difference", 0)
    settings |= {name: source.pop(name) for name in ("center", "scale") if name in source}
    known = COVARIATES if source.pop("known", False) else ()
    source["covariates"] = [name for covariate in known for name in covariate.inputs]
    columns = [NumbersColumn("a,b", ["a", "b"], Scaling.fit(values), **settings, **part) for part in (source, {})]
    for column in columns:
        column.fit_training([values])
    target = LabelsColumn("state", ["up", "down", "off"], "words") if labels else columns[1]
    spec = TableSpec(columns[0], target, long=LongFormat(covariates=known) if known else None)
    torch.manual_seed(0)
    options = ModelOptions(cell=cell, hidden=13, layers=2, residual=residual, two_biases=cell.startswith("gru"))
    model = EncoderDecoder(spec.dims, options, PairOptions(bidirectional=False)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
        model.temperature.fill_(1.3)
    return TableModelFile(model, spec)


def amplifier() -> TableModelFile:
    """Return a model whose numbers are not scaled or clipped, and which adds its input to the output, as GuitarML's do."""
    model_file = series_model(loss="mse", residual=False)
    for column in (model_file.spec.source, model_file.spec.target):
        assert isinstance(column, NumbersColumn)
        column.scaling = Scaling(np.zeros(2), np.ones(2), np.full(2, -np.inf), np.full(2, np.inf))
    with torch.no_grad():
        cast(Any, model_file.model.skip).weight.copy_(torch.eye(2))
        cast(Any, model_file.model.head).weight[1] = 0  # the network is heard in the first column alone
    return model_file


def model_with_start() -> tuple[TableModelFile, torch.Tensor]:
    """Return a model that starts each series from a state that is not zero, and that state, `(layers, parts, H)`."""
    model_file = series_model(loss="mse", residual=False)
    with torch.no_grad():
        return model_file, model_file.model.encoder.add_start().normal_()


MODELS: dict[str, dict[str, Any]] = {
    **{cell: {"cell": cell} for cell in ("rnn", "gru", "gru-reset-before", "lstm")},
    "plain": {"residual": False, "loss": "mse"},
    "quantiles with gaps": {"loss": "quantiles", "gaps": True},
    "labels": {"labels": True, "gaps": True},
    "forecast of changes": {"horizon": 3, "difference": 1, "gaps": True},
    "forecast from a period before": {"horizon": 3, "difference": 7, "loss": "mae"},
    "forecast with a lag that no test reaches": {"horizon": 3, "difference": 100},
    "forecast with the calendar": {"horizon": 3, "difference": 1, "cycles": ("hour", "day", "week", "year"), "gaps": True},
    "labels with the calendar": {"labels": True, "cycles": ("day",)},
}


def swapped_gates(layer: Any) -> None:
    weight = layer.cell.weight_ih
    weight.copy_(torch.cat([weight[13:26], weight[:13], weight[26:]]))


LAYER_FAULTS: dict[str, Any] = {
    "two gates are swapped": swapped_gates,
    "a bias is left out": lambda layer: layer.cell.bias.zero_(),
    "a norm is left out": lambda layer: layer.norm.weight.fill_(1),
    "a small weight is wrong": lambda layer: layer.cell.bias[0].add_(0.1),
    "the state is not read": lambda layer: layer.cell.weight_hh.zero_(),
}


def right_and_wrong(fault: str) -> tuple[TableModelFile, TableModelFile]:
    """Return two equal models, of which the second has one of `LAYER_FAULTS` in its second layer."""
    make: Callable[[], TableModelFile] = amplifier if fault == "a small weight is wrong" else series_model
    right, wrong = make(), make()
    with torch.no_grad():
        LAYER_FAULTS[fault](cast(Any, wrong.model.encoder.stack).layer_list()[1])
    return right, wrong


TRAINING = ("--hidden", 8, "--layers", 1, "--steps", 20, "--threads", 1, "--sample-length", 0, "--precision", "float32")
"""Flags of a short training on the table of `write_valve`."""


def write_valve() -> tuple[str, np.ndarray[Any, Any]]:
    """Write `valve.csv` with the columns t, x and y, which is a filter of x, in 300 steps; return its path and x."""
    draw = np.random.default_rng(0)
    x = np.cumsum(draw.normal(size=300))
    return write_long("valve.csv", {"t": range(300), "x": x, "y": np.convolve(x, [0.5, 0.3, 0.2])[:300]}), x
