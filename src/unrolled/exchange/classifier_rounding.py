"""A model that labels texts with the weights that int8 has, and what this rounding costs on rows with known labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unrolled.checkpoints.run_dir import run_of_model
from unrolled.command_options import PredictOptions
from unrolled.errors import UnrolledError
from unrolled.evaluation.predictor import Predictor
from unrolled.exchange.export_job import array_of
from unrolled.nn.device import DeviceConfig, select_device
from unrolled.options import MachineOptions
from unrolled.runtime.portable_arithmetic import Int8Matrix
from unrolled.tables.cell_values import Cell

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile

MAX_COST_ROWS = 1000
"""Rows on which the cost is measured, at most, spread evenly."""

BATCH_ROWS = 32


@torch.no_grad()
def rounded_classifier(model_file: TableModelFile) -> TableModelFile:
    """Return a copy of a model whose matrices have the values of int8 numbers with a scale for each row.

    Rows are those of the page: of the classifier of n-grams without the label that is never predicted, and of that of a
    language model one for each label.
    """
    model = copy.deepcopy(model_file.model)
    known = slice(max(1, model.dims.target_size - 1))
    for name, weight in model.state_dict().items():
        if name == "ngrams.table":
            weight[:, known] = _rounded(weight[:, known])
        elif name == "base.table":
            weight[:, known] = _rounded(weight[:, known].T).T
        elif weight.dim() == 2:
            weight.copy_(_rounded(weight))
    return replace(model_file, model=model)


def _rounded(weight: Tensor) -> Tensor:
    array = array_of(weight)
    return torch.from_numpy(Int8Matrix(array).row_vectors(np.arange(len(array))))


def rounding_cost(model_file: TableModelFile, rounded: TableModelFile, path: Path) -> Mapping[str, Any] | None:
    """Return what rounding costs on the held-out rows of the run of a model at `path`; None if they are not at hand.

    `accuracy` is that of the rounded model and `bits` its loss for each of the `labels`; `extra_accuracy` and `extra_bits` are
    the differences.
    """
    from unrolled.analysis.table_session import TableSession

    machine = select_device(MachineOptions(device="cpu", precision="float32"))
    try:
        cells, truths, _ = TableSession(path, model_file, machine, run_of_model(path)).load_cells(None)
    except (UnrolledError, OSError):  # there is no run, or its table is gone: the command says so
        return None
    step = -(-len(cells) // MAX_COST_ROWS) or 1
    rows = list(zip(cells[::step], truths[::step], strict=True))
    exact, ours = (_measure(each, rows, machine) for each in (model_file, rounded))
    if not ours.num_labels:
        return None
    differences = {"extra_accuracy": ours.accuracy - exact.accuracy, "extra_bits": ours.bits - exact.bits}
    return {"accuracy": ours.accuracy, "bits": ours.bits, **differences, "labels": ours.num_labels}


class _Measure(NamedTuple):
    """Which part of some labels is right, and the mean loss."""

    accuracy: float
    bits: float
    num_labels: int


def _measure(model_file: TableModelFile, rows: list[tuple[Cell, Cell]], machine: DeviceConfig) -> _Measure:
    """Return the figures of the known labels of rows."""
    model, spec = model_file.model, model_file.spec
    predictor = Predictor(model, spec, machine, PredictOptions())
    right, bits = [], []
    for start in range(0, len(rows), BATCH_ROWS):
        read = [(predictor.encode(cell), spec.target.encode(truth)) for cell, truth in rows[start : start + BATCH_ROWS]]
        read = [(source, labels) for source, labels in read if len(source) and len(labels)]
        if not read:
            continue
        with torch.inference_mode():
            logits = model.logits(predictor.collate([source for source, _ in read]))
        log_probabilities = logits[..., : max(1, logits.shape[-1] - 1)].double().log_softmax(-1).numpy()
        for column, (source, labels) in enumerate(read):
            steps = log_probabilities[: len(source), column]
            known = np.flatnonzero(labels[: len(steps)] != spec.target.unk_id)
            right += [_answer(steps[step], spec.threshold) == labels[step] for step in known]
            bits += (-steps[known, labels[known]] / np.log(2)).tolist()
    return _Measure(float(np.mean(right)), float(np.mean(bits)), len(bits)) if bits else _Measure(0.0, 0.0, 0)


def _answer(log_probabilities: NDArray[np.float64], threshold: float | None) -> int:
    if threshold is not None and len(log_probabilities) == 2:
        return int(log_probabilities[1] >= np.log(threshold))
    return int(log_probabilities.argmax())
