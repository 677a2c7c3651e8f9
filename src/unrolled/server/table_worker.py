"""A process that predicts with models of tables: it imports torch, which the server does not.

It reads one JSON request a line from standard input, and answers each with a line.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

from unrolled.errors import UnrolledError
from unrolled.evaluation.predictor import Prediction
from unrolled.models.table import TableModel
from unrolled.options import MachineOptions
from unrolled.tables.cell_values import Cell

MAX_LOADED_MODELS = 4
MAX_LABELS = 1000
"""Labels whose probabilities are reported, the most likely first."""


def main() -> None:
    """Answer requests until standard input ends."""
    models: OrderedDict[tuple[str, int], TableModel] = OrderedDict()
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"answers": _predict(models, json.loads(line))}
        except UnrolledError as error:
            answer = {"error": str(error)}
        except Exception as error:  # the process goes on with the next request
            answer = {"failure": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


def _predict(models: OrderedDict[tuple[str, int], TableModel], request: dict[str, Any]) -> list[dict[str, Any]]:
    model = _load(models, Path(request["path"]))
    values = request["values"]
    answers = [_to_json(model, prediction) for prediction in model.predictions(values)]
    has_map = model.spec.mode.output != "single" and not model.spec.others
    if request["attention"] and has_map:
        for answer, value in zip(answers, values, strict=True):
            answer["attention"] = _attention(model, value)
    return answers


def _load(models: OrderedDict[tuple[str, int], TableModel], path: Path) -> TableModel:
    from unrolled.checkpoints.model_file import load_table_model

    key = (str(path), path.stat().st_mtime_ns)
    if key not in models:
        models[key] = TableModel(path, load_table_model(path), MachineOptions(device="cpu"), cell_files=False)
        while len(models) > MAX_LOADED_MODELS:
            models.popitem(last=False)
    models.move_to_end(key)
    return models[key]


def _to_json(model: TableModel, prediction: Prediction) -> dict[str, Any]:
    probabilities = None
    if prediction.probabilities is not None and hasattr(model.spec.target, "labels"):
        pairs = zip(model.spec.target.labels, prediction.probabilities.tolist(), strict=True)
        probabilities = dict(sorted(pairs, key=lambda pair: -pair[1])[:MAX_LABELS])
    return {
        "answer": prediction.text, "probability": prediction.probability, "probabilities": probabilities, "attention": None
    }  # fmt: skip


def _attention(model: TableModel, value: Any) -> dict[str, Any] | None:
    """Return the attention weights of each token of an answer over those of the source, with both; None if there are none."""
    source, target = model.spec.source, model.spec.target
    try:
        prediction, weights = model.attention(value)
    except UnrolledError:  # a model without attention, or an empty answer
        return None
    if source.tokenizer is None:
        steps = [str(step + 1) for step in range(weights.shape[1])]
    else:
        steps = list(source.cell_tokens(Cell(value, "value", folder=None)))
    tokens = [target.decode(prediction.values[index : index + 1]) for index in range(len(prediction.values))]
    return {"source": steps, "target": tokens, "weights": [[round(float(weight), 4) for weight in row] for row in weights]}


if __name__ == "__main__":
    main()
