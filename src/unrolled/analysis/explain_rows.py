"""Rows of a table with their answers, and which parts of each row moved its answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.analysis.cell_views import answer_view, cell_view, row_view
from unrolled.analysis.table_session import TableSession
from unrolled.errors import DataError
from unrolled.evaluation.predictor import Prediction, Predictor
from unrolled.interpret.occlusion import ColumnParts, occlude
from unrolled.tables.cell_values import Array, Cell, parse_list
from unrolled.tables.numbers_column import NumbersColumn

logger = logging.getLogger(__name__)

MAX_ROWS = 200
"""Rows that are explained at most."""

MAX_MAP_TOKENS = 60
"""Attention is shown for sources of so many steps at most."""


@dataclass(frozen=True)
class ExplainedRow:
    """A row: its `source`, its `truth` if it is known, the model's `prediction`, and what moved it.

    `parts` are those of each source column; `attention` `(M, S)` the weights of M tokens of the answer over S steps.
    """

    source: Cell
    truth: Cell | None
    prediction: Prediction
    parts: list[ColumnParts]
    attention: Array | None
    is_wrong: bool | None
    """Whether the answer differs from the truth; None if that is not known, or there is no single right answer."""

    @property
    def order(self) -> tuple[int, float]:
        """The order of rows on a page: wrong ones first, the most probable of them at the top."""
        probability = 1.0 if self.prediction.probability is None else self.prediction.probability
        return (0 if self.is_wrong else 1, -probability if self.is_wrong else probability)

    @property
    def content(self) -> tuple[object, ...]:
        """The values of the cells, which equal rows share."""
        cells = (self.source, *self.source.others, *([] if self.truth is None else [self.truth]))
        values = [parse_list(cell.value) for cell in cells]
        return tuple((value.shape, value.tobytes()) if isinstance(value, np.ndarray) else repr(value) for value in values)


def explain_rows(session: TableSession, predictor: Predictor, rows: Iterator[tuple[Cell, Cell | None]]) -> list[ExplainedRow]:
    """Return the first `MAX_ROWS` of some rows, explained, errors first. A row that cannot be read is left out, and logged."""
    explained, num_unreadable = [], 0
    for _, (source, truth) in zip(range(MAX_ROWS), rows, strict=False):
        try:
            explained.append(_explain_row(session, predictor, source, truth))
        except DataError:
            num_unreadable += 1
    if num_unreadable:
        logger.info(f"{num_unreadable:,} rows are not shown, as a cell cannot be read")
    target = session.spec.target
    if target.target_tensor_kind == "floats" and target.has_single_answer:
        return sorted(explained, key=lambda row: -number_error(session, row.prediction, row.truth))
    return sorted(explained, key=lambda row: row.order)


def number_error(session: TableSession, prediction: Prediction, truth: Cell | None) -> float:
    """Return how far predicted numbers are from the true ones, in standard deviations; 0 if these are not known."""
    if truth is None or not len(prediction.values):
        return 0.0
    spec, true = session.spec, session.spec.target.encode_target(truth)
    if not isinstance(spec.target, NumbersColumn):
        return float(np.abs(prediction.values - true).max())
    known = prediction.values[: len(true)] if spec.horizon else prediction.values[-len(true) :]
    error = np.abs(known - true) / spec.target.scaling.spread
    return float(np.nan_to_num(error).max())


def _explain_row(session: TableSession, predictor: Predictor, source: Cell, truth: Cell | None) -> ExplainedRow:
    target = session.spec.target
    prediction, weights = predictor.predict_with_attention(source)
    if weights is not None and (weights.shape[1] > MAX_MAP_TOKENS or target.tokenizer is None):
        weights = None
    has_verdict = truth is not None and target.has_single_answer and target.target_tensor_kind == "ids"
    is_wrong = target.is_wrong(truth, prediction.text, prediction.values) if has_verdict and truth is not None else None
    return ExplainedRow(source, truth, prediction, occlude(predictor, source, prediction), weights, is_wrong)


def row_json(session: TableSession, row: ExplainedRow) -> dict[str, Any]:
    """Return a row as JSON for its page."""
    spec, prediction = session.spec, row.prediction
    columns = row_view(spec, row.source)
    parts = {part.name: part for part in row.parts}
    for column in columns:
        if (part := parts.get(column["name"])) is not None:
            effect = [None if not np.isfinite(value) else round(float(value), 4) for value in part.effect]
            whole = None if part.whole is None or not np.isfinite(part.whole) else round(part.whole, 4)
            column |= {"effect": effect, "parts": list(part.texts), "grid": part.grid, "whole": whole}
    attention = None
    if row.attention is not None:
        attention = {
            "source": _step_names(session, row),
            "target": [spec.target.decode(prediction.values[i : i + 1]) for i in range(len(prediction.values))],
            "weights": row.attention.round(3).tolist(),
        }
    return {
        "line": row.source.line,
        "columns": columns,
        "answer": answer_view(spec.target, prediction.text, prediction.values),
        "truth": None if row.truth is None else cell_view(spec.target, row.truth),
        "probability": prediction.probability,
        "wrong": row.is_wrong,
        "attention": attention,
    }


def _step_names(session: TableSession, row: ExplainedRow) -> list[str]:
    """Return a name for each step that the answer attends to: tokens, or numbers of steps."""
    names: list[str] = []
    for column, cell in zip(session.spec.sources, (row.source, *row.source.others), strict=True):
        names += list(column.cell_tokens(cell)) if column.tokenizer is not None else []
    steps = 0 if row.attention is None else row.attention.shape[1]
    return names if len(names) == steps else [str(step + 1) for step in range(steps)]
