"""A process that predicts with models of tables: it imports torch, which the server does not.

It reads one JSON request a line from standard input, and answers each with a line.
"""

from __future__ import annotations

import io
import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

from unrolled.errors import UnrolledError, UsageError
from unrolled.evaluation.predictor import Prediction
from unrolled.models.table import TableModel
from unrolled.options import MachineOptions, PredictOptions
from unrolled.server.limits import MAX_STEPS
from unrolled.tables.cell_values import Cell
from unrolled.views.prediction_writer import PREDICTED_COLUMN, PredictedRows, json_value, prediction_cells, write_csv
from unrolled.views.progress import MessageHandler
from unrolled.views.series_table import step_rows

MAX_LOADED_MODELS = 4
MAX_LABELS = 1000
"""Labels whose probabilities are reported, the most likely first."""


def main() -> None:
    """Answer requests until standard input ends."""
    models: OrderedDict[tuple[str, int], TableModel] = OrderedDict()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            model = _load(models, Path(request["path"]))
            work = _predict_file if "file" in request else _predict if model.spec.long is None else _predict_series
            answer: dict[str, Any] = work(model, request)
        except UnrolledError as error:
            answer = {"error": str(error)}
        except Exception as error:  # the process goes on with the next request
            answer = {"failure": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


def _predict_file(model: TableModel, request: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a file with its predictions as CSV, as `unrolled predict` prints it, and its messages."""
    path, notes, out = Path(request["file"]), list[str](), io.StringIO()
    predictions: list[Prediction] = []

    def kept(rows: PredictedRows) -> PredictedRows:
        for row, prediction in rows:
            predictions.append(prediction)
            if len(predictions) > MAX_STEPS:
                raise UsageError(f"The file has more than {MAX_STEPS:,} rows: use unrolled predict.")
            yield row, prediction

    try:
        with MessageHandler(notes.append):
            table, rows = model.predict_table(str(path))
            write_csv(out, table, model.spec, kept(rows), PredictOptions())
        charts = _charts(model, request, str(path), predictions) if model.spec.is_stream else {}
    except UnrolledError as error:
        raise type(error)(str(error).replace(str(path), path.name)) from error
    return {"csv": out.getvalue(), "notes": [note.replace(str(path), path.name) for note in notes], **charts}


def _predict_series(model: TableModel, request: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of each step that is predicted, or of each series; the values are the rows of a table of steps."""
    spec, charts = model.spec, dict[str, Any]()
    _, predicted = model.predict_table(request["values"])
    rows = list(predicted)
    if spec.is_stream:
        cells = list(step_rows(spec, iter(rows), PREDICTED_COLUMN))
        charts = _charts(model, request, request["values"], [prediction for _, prediction in rows])
    else:
        name, options = spec.long and spec.long.group_by, PredictOptions()
        cells = [
            ({name: row.get(name)} if name else {}) | prediction_cells(spec, prediction, options, number)
            for number, (row, prediction) in enumerate(rows, 1)
        ]
    return {"answers": [{column: json_value(value) for column, value in row.items()} for row in cells], **charts}


def _charts(model: TableModel, request: dict[str, Any], table: Any, predictions: list[Prediction]) -> dict[str, Any]:
    """Return charts of the series, and a note about those that are not drawn; nothing if they were not asked for."""
    if not request["charts"]:
        return {}
    from unrolled.analysis.explain_series import answer_charts

    charts, note = answer_charts(model.session, table, predictions)
    return {"charts": charts, "note": note}


def _predict(model: TableModel, request: dict[str, Any]) -> dict[str, Any]:
    values = request["values"]
    predictions = model.predictions(values)
    answers = [_to_json(model, prediction) for prediction in predictions]
    has_map = model.spec.mode.output != "single" and not model.spec.others
    if request["attention"] and has_map:
        for answer, value in zip(answers, values, strict=True):
            answer["attention"] = _attention(model, value)
    if request["attention"] and model.spec.mode.output == "aligned" and not model.spec.others:
        for answer, value, prediction in zip(answers, values, predictions, strict=True):
            answer["steps"] = _labeled_steps(model, value, prediction)
    if not model.spec.is_stream:
        return {"answers": answers}
    return {"answers": answers, **_charts(model, request, [{model.spec.source.name: value} for value in values], predictions)}


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


def _labeled_steps(model: TableModel, value: Any, prediction: Prediction) -> list[list[str]] | None:
    """Return each step of the source with its label; None if the target is no label, or the source has no texts."""
    labels = getattr(model.spec.target, "labels", None)
    steps = model.spec.source.cell_tokens(Cell(value, "value", folder=None))
    if not labels or len(steps) != len(prediction.values):
        return None
    return [[step, labels[int(label)]] for step, label in zip(steps, prediction.values, strict=True)]


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
