"""Explain a table model: its answers row by row, with what moved them, and the neuron explorer of its encoder."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.analysis.explain_rows import ExplainedRow, explain_rows, row_json
from unrolled.analysis.explain_series import drawn_series
from unrolled.analysis.explain_text import ExplainResult, explorer_path, write_outputs
from unrolled.analysis.series_charts import chart_line
from unrolled.analysis.table_session import TableSession
from unrolled.atomic_io import write_atomic
from unrolled.display import Displayed, one_line, page_frame, plural
from unrolled.errors import DataError, UsageError
from unrolled.interpret.activations import Activations
from unrolled.interpret.probes import ProbeReport, probe_units, too_short_to_probe
from unrolled.interpret.table_activations import RowActivations, record_row
from unrolled.nn.encoder_decoder import MAX_STREAM_STEPS
from unrolled.options import ExplainOptions, PredictOptions
from unrolled.output_paths import check_outputs
from unrolled.tables.cell_values import Cell, display_text
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.source_columns import source_text
from unrolled.tables.step_arrays import SeriesName
from unrolled.text.tokenized_text import TokenizedText
from unrolled.views.rows_page import rows_page
from unrolled.views.series_page import series_page

logger = logging.getLogger(__name__)

MAX_RECORDED_ROWS = 2000
"""Rows on the page of the hidden units at most."""

MAX_PRINTED_ROWS = 5


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ExplainTableResult(Displayed):
    """Results of `TableModel.explain`: `rows`, errors first; and `neurons`, the hidden units, if the main source is a text or
    numbers read step by step, else None. With an answer at every step of numbers there are no rows, but `series`: charts of
    the numbers and the answers, JSON values, and a `note` about those that are not drawn."""

    session: TableSession
    rows: list[ExplainedRow]
    neurons: ExplainResult | None
    page_path: Path | None
    series: tuple[dict[str, Any], ...] = ()
    note: str = ""

    @property
    def activations(self) -> Activations:
        """The activations of the encoder. Raises `UsageError` if the main source is not a text read step by step."""
        if self.neurons is None:
            raise UsageError("This model reads neither text nor numbers step by step: use model.trace for its activations.")
        return self.neurons.activations

    @property
    def facts(self) -> Mapping[str, object]:
        if self.session.spec.is_stream:
            return {"page": self.page_path, "charts": len(self.series)}
        return {"page": self.page_path, "rows": len(self.rows), "wrong": self._num_wrong}

    @property
    def _num_wrong(self) -> int:
        return sum(row.is_wrong is True for row in self.rows)

    @property
    def _equal_rows(self) -> list[list[ExplainedRow]]:
        """The rows, those with equal cells together, in the order of the first of them."""
        groups: dict[tuple[object, ...], list[ExplainedRow]] = {}
        for row in self.rows:
            groups.setdefault(row.content, []).append(row)
        return list(groups.values())

    def page(self) -> str:
        """Return the page of rows, or of series, as HTML."""
        return series_page(self.page_data()) if self.session.spec.is_stream else rows_page(self.page_data())

    def page_data(self) -> dict[str, Any]:
        """Return the data of the page of rows, or of series."""
        is_number = self.session.spec.target.target_tensor_kind == "floats"
        neurons = None if self.neurons is None or self.neurons.page_path is None else self.neurons.page_path.name
        head = {"title": self.session.name, "subtitle": self.session.description, "neurons": neurons}
        if self.session.spec.is_stream:
            return head | {"note": self.note, "series": list(self.series)}
        return head | {
            "unit": "the unit of the answer" if is_number else "nats of the log odds of the answer",
            "is_number": is_number,
            "rows": [row_json(self.session, rows[0]) | {"count": len(rows)} for rows in self._equal_rows],
        }

    def _repr_html_(self) -> str:
        return page_frame(self.page_path, self.page())

    def to_json(self) -> dict[str, Any]:
        """Return the rows and the hidden units as JSON values, without arrays and pictures."""
        neurons = {} if self.neurons is None else self.neurons.to_json()
        rows, errors = list[dict[str, Any]](), ("series", "column", "note", "error", "baseline_name", "baseline_error")
        if self.session.spec.is_stream:
            charts = [{key: chart[key] for key in errors if key in chart} for chart in self.series]
            return neurons | {"neurons_page": neurons.get("page"), "page": str(self.page_path), "rows": rows, "series": charts}
        for row in self.rows:
            data = row_json(self.session, row)
            columns = [{k: v for k, v in column.items() if k not in ("src", "width", "height")} for column in data["columns"]]
            rows.append(data | {"columns": columns, "answer": row.prediction.text, "truth": (data["truth"] or {}).get("text")})
        return neurons | {"neurons_page": neurons.get("page"), "page": str(self.page_path), "rows": rows}

    def summary(self) -> str:
        """Return the first different rows, the detectors and the paths of the pages as lines of text."""
        lines = [chart_line(chart) for chart in self.series[:MAX_PRINTED_ROWS]]
        lines += [self._row_line(*rows) for rows in self._equal_rows[:MAX_PRINTED_ROWS]]
        judged = sum(row.is_wrong is not None for row in self.rows)
        if judged:
            lines.append(f"{self._num_wrong:,} of {plural(judged, 'answer')} {'is' if judged == 1 else 'are'} wrong")
        if self.neurons is not None and self.neurons.page_path != self.page_path:
            lines += [line.replace("page: ", "hidden units: ") for line in self.neurons.summary().split("\n")]
        return "\n".join([*lines, f"page: {self.page_path}"])

    def _row_line(self, row: ExplainedRow, *equal: ExplainedRow) -> str:
        """Return a row as a line of text, with the number of rows that are equal to it."""
        asked, answer = source_text(self.session.spec.sources, row.source), row.prediction
        is_right = row.truth is None or row.is_wrong is False  # of numbers and texts, both are shown
        truth = "" if row.truth is None or is_right else f" (truth: {one_line(display_text(row.truth.value))})"
        probability = "" if answer.probability is None else f", {answer.probability:.0%}"
        count = f", {1 + len(equal):,} equal rows" if equal else ""
        return f"{one_line(asked)} -> {one_line(answer.text)}{probability}{truth}{count}"

    def print_colored(self, neuron: str | None) -> None:
        """Print the text of the rows on the terminal, colored by one unit, as `ExplainResult.print_colored` does."""
        if self.neurons is None:
            raise UsageError(
                "--terminal is for models that read a text or numbers step by step, and this one does not: leave it out."
            )
        self.neurons.print_colored(neuron)


def explain_table(session: TableSession, name: Any, options: ExplainOptions) -> ExplainTableResult:
    """Explain the answers to rows (None: the run's held-out rows), and write the page and that of the hidden units.

    Each row starts from a zero state. Series with an answer at every step are drawn. If labels are aligned with the steps, the
    page of the hidden units displays the most probable ones. Raises `UsageError` for `--clamp`, and for settings of the hidden
    units if neither text nor numbers are read step by step.
    """
    page = explorer_path(session) if options.out is None else Path(options.out)
    check_outputs(options, (session.path, name), session.run_path, page)
    neurons_page = page.with_name(f"{page.stem}-neurons{page.suffix}")
    check_outputs(ExplainOptions(out=str(neurons_page), force=options.force), (session.path, name), session.run_path)
    if options.clamp:
        raise UsageError("--clamp works for text models only: leave it out for a table model.")
    rows = list(itertools.islice(session.iter_rows(name, options.header, options.encoding), MAX_RECORDED_ROWS))
    if not rows:
        raise DataError(f"{name if isinstance(name, str) else 'The table'} has no row that this model can read.")
    neurons = _explain_neurons(session, [cell for cell, _ in rows], dataclasses.replace(options, out=str(neurons_page)))
    if neurons is None and (options.terminal or options.save_activations is not None):
        flag = "--terminal" if options.terminal else "--save-activations"
        raise UsageError(f"{flag} is for models that read text or numbers step by step, and this one does not: leave it out.")
    if options.terminal:
        return ExplainTableResult(session, [], neurons, None)
    if session.spec.is_stream:
        charts, note = drawn_series(session, name, options)
        result = ExplainTableResult(session, [], neurons, page, tuple(charts), note)
    else:
        logger.info("leaving out parts of the rows")
        predictor = session.predictor(PredictOptions(beam=1))
        result = ExplainTableResult(session, explain_rows(session, predictor, iter(rows)), neurons, page)
    write_atomic(page, result.page().encode())
    return result


def _explain_neurons(session: TableSession, cells: list[Cell], options: ExplainOptions) -> ExplainResult | None:
    """Record the encoder while it reads rows, and write the page of its units; None if it reads nothing step by step."""
    source = session.spec.source
    if source.tokenizer is None and not isinstance(source, NumbersColumn):
        return None
    predictor = session.predictor(PredictOptions(beam=1))
    rows: list[RowActivations] = []
    num_tokens = 0
    for cell in cells:
        if num_tokens >= options.length:
            break
        if isinstance(source, NumbersColumn):
            length = min(options.length - num_tokens, MAX_STREAM_STEPS)
            cell = cell._replace(value=SeriesName.of(cell).part(source.encode(cell), 0, length, session.spec.ahead))
        rows.append(record_row(predictor, cell))
        num_tokens += len(rows[-1].source_tokens)
    if not rows or not rows[0].encoder:
        return None
    step = "step" if isinstance(source, NumbersColumn) else "token"
    logger.info(f"{plural(len(rows), 'part' if session.spec.is_stream else 'row')}, {plural(num_tokens, step)}")
    activations = _concatenate_rows(rows)
    probe_report = _probe_units(activations, options)
    labels = list(session.spec.target.labels) if session.spec.mode.output == "aligned" else []
    result = ExplainResult(session, activations, probe_report, labels, is_series=isinstance(source, NumbersColumn))
    return write_outputs(result, options)


def _concatenate_rows(rows: list[RowActivations]) -> Activations:
    """Return the activations of all rows as those of one text, with one line for each row."""
    token_texts: list[str] = []
    separator = " " if any(len(token) > 1 for row in rows for token in row.source_tokens) else ""
    reset_mask = []
    for row in rows:
        reset_mask += [True] + [False] * (len(row.source_tokens) - 1)
        row_tokens = [token + separator for token in row.source_tokens]
        token_texts += [*row_tokens[:-1], row_tokens[-1] + "\n"]
    ids = np.arange(len(token_texts))
    tokenized = TokenizedText(ids, token_texts, np.ones(len(token_texts), dtype=bool), np.array(reset_mask))
    values_by_name = {name: np.concatenate([row.encoder[name] for row in rows]) for name in rows[0].encoder}
    logits = np.zeros((len(token_texts), 0), dtype=np.float32)
    if all(row.step_probs is not None for row in rows):
        logits = np.log(np.concatenate([np.asarray(row.step_probs) for row in rows]) + 1e-12)
    return Activations(tokenized, values_by_name.pop("h"), values_by_name.pop("c", None), values_by_name, logits)


def _probe_units(activations: Activations, options: ExplainOptions) -> ProbeReport | None:
    """Compare units with features, if every token is one character."""
    chars = [unicodedata.normalize("NFC", token_text).removesuffix("\n") for token_text in activations.tokenized.token_texts]
    if too_short_to_probe(len(chars)) or any(len(char) != 1 for char in chars):
        return None
    return probe_units(activations, "".join(chars), seed=options.seed)
