"""A model that labels texts with the weights that int8 has, and what this rounding costs on rows with known labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unrolled.checkpoints.run_dir import run_of_model
from unrolled.command_options import PredictOptions
from unrolled.errors import UnrolledError
from unrolled.evaluation.predictor import Predictor
from unrolled.exchange.export_job import array_of
from unrolled.nn.device import select_device
from unrolled.options import MachineOptions
from unrolled.runtime.portable_arithmetic import Int8Matrix

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile

MAX_COST_ROWS = 1000
"""Rows on which the cost is measured, at most, spread evenly."""

MIN_PROBABILITY = 1e-9


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
    """Return what rounding costs on the held-out `rows` of the run of a model at `path`; None if they are not at hand.

    `accuracy` is that of the rounded model and `bits` its loss per row; `extra_accuracy` and `extra_bits` are the differences.
    """
    from unrolled.analysis.table_session import TableSession

    machine = select_device(MachineOptions(device="cpu", precision="float32"))
    try:
        cells, truths, _ = TableSession(path, model_file, machine, run_of_model(path)).load_cells(None)
    except (UnrolledError, OSError):  # there is no run, or its table is gone: the command says so
        return None
    step = -(-len(cells) // MAX_COST_ROWS) or 1
    cells, truths = cells[::step], truths[::step]
    known = [(cell, int(model_file.spec.target.encode(truth)[0])) for cell, truth in zip(cells, truths, strict=True)]
    known = [(cell, label) for cell, label in known if label != model_file.spec.target.unk_id]
    if not known:
        return None
    exact, ours = (_accuracy_and_bits(each, known, machine) for each in (model_file, rounded))
    differences = {"extra_accuracy": ours[0] - exact[0], "extra_bits": ours[1] - exact[1]}
    return {"accuracy": ours[0], "bits": ours[1], **differences, "rows": len(known)}


def _accuracy_and_bits(model_file: TableModelFile, rows: list[Any], machine: Any) -> tuple[float, float]:
    predictor = Predictor(model_file.model, model_file.spec, machine, PredictOptions())
    labels = np.array([label for _, label in rows])
    found = predictor.predict([cell for cell, _ in rows])
    answers = np.array([int(prediction.values[0]) if len(prediction.values) else -1 for prediction in found])
    probabilities = [
        0.0 if prediction.probabilities is None else float(prediction.probabilities[label])
        for prediction, label in zip(found, labels, strict=True)
    ]
    bits = -np.mean(np.log2(np.maximum(probabilities, MIN_PROBABILITY)))
    return float(np.mean(answers == labels)), float(bits)
