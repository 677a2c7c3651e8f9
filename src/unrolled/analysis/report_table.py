"""The report of a run on a table: metrics beside baselines, confusion, attention, and errors worth looking at."""

from __future__ import annotations

from typing import Any

import numpy as np

from unrolled.analysis.report_data import Note, made, run_parts, spent
from unrolled.analysis.table_session import Judged, RowSubject
from unrolled.evaluation.predictor import Answer
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell, text_of
from unrolled.tables.columns import ImageColumn, LabelsColumn, TextColumn

ERRORS = 30
MAPS = 6
LONGEST_MAP = 60
"""Symbols beyond which an attention map is too large to read."""

SHOWN = 300
"""Characters of a cell that are shown."""


def report_rows(subject: RowSubject, note: Note) -> dict[str, Any]:
    """Measure what a model of a table does on the rows its run held out, and return it as the page takes it."""
    note("answers to the rows held out")
    judged = subject.judged(None, PredictOptions())
    report, history = judged.report, subject.saved.history
    head = report.headline
    beside = [f"{name}: {own[head]:.3f}" for name, own in report.baselines.items() if head in own]
    parts = run_parts(subject.run, None)
    parts["curves"]["loss_unit"] = "target"
    return {
        "title": subject.name,
        "subtitle": subject.shape,
        "created": made(),
        "command": f"unrolled predict {subject.path.parent} TABLE",
        "headline": [
            {"name": head.replace("_", " "), "value": f"{report.metrics[head]:.3f}", "note": "; ".join(beside)},
            {"name": "rows held out", "value": f"{report.rows:,}", "note": ""},
            spent(subject.run),
        ],
        "diagnosis": history.get("verdict") or "",
        **parts,
        "table": report.to_json(),
        "attention": _maps(subject, judged),
        "errors": _errors(subject, judged),
    }


def _errors(subject: RowSubject, judged: Judged) -> list[dict[str, Any]]:
    """Return the rows that were answered wrong, those it was surest of first; a picture that is painted has no one answer."""
    if isinstance(subject.task.target, ImageColumn):
        return []
    wrong: list[dict[str, Any]] = [
        {"source": _shown(source), "truth": _shown(truth), "predicted": answer.text[:SHOWN], "probability": answer.probability}
        for source, truth, answer in zip(judged.sources, judged.truths, judged.answers, strict=True)
        if answer.probability is not None and _is_wrong(subject, truth, answer)
    ]
    return sorted(wrong, key=lambda row: -row["probability"])[:ERRORS]


def _is_wrong(subject: RowSubject, truth: Cell, answer: Answer) -> bool:
    if isinstance(subject.task.target, LabelsColumn):
        return not np.array_equal(answer.values, subject.task.encode_target(truth))
    return text_of(truth) != answer.text


def _maps(subject: RowSubject, judged: Judged) -> list[dict[str, Any]]:
    """Return what the first rows' answers looked at, symbol by symbol."""
    source, target = subject.task.source, subject.task.target
    if isinstance(target, ImageColumn) or not isinstance(target, TextColumn) or not isinstance(source, TextColumn):
        return []
    if not subject.saved.model.pair.attention:
        return []
    answerer = subject.answerer(PredictOptions())
    maps: list[dict[str, Any]] = []
    for cell, truth in zip(judged.sources, judged.truths, strict=True):
        symbols = list(source.symbols(cell))
        if len(symbols) > LONGEST_MAP:
            continue
        answer, weights = answerer.looked(cell)
        if len(maps) == MAPS:
            break
        if weights is None:  # nothing was written
            continue
        written = [target.show(answer.values[index : index + 1]) for index in range(len(answer.values))]
        maps.append({"source": symbols, "target": written, "weights": weights.round(4).tolist(), "truth": _shown(truth)})
    return maps


def _shown(cell: Cell) -> str:
    """Return a cell as a person reads it, its beginning at most; of numbers only how many they are."""
    if isinstance(cell.value, np.ndarray):
        return "numbers, " + " x ".join(map(str, cell.value.shape))
    if isinstance(cell.value, list):
        return " ".join(map(str, cell.value))[:SHOWN]
    return text_of(cell)[:SHOWN]
