"""The neuron explorer of a model of a table: its rows one after the other, coloured by the units of its reader."""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np

from unrolled.analysis.explain_text import FEWEST_PROBED, Explored, Note, finish
from unrolled.analysis.table_session import RowSubject
from unrolled.errors import UsageError
from unrolled.interpret.activations import Trace
from unrolled.interpret.probes import Findings, probe
from unrolled.interpret.table_activations import RowTrace, row_trace
from unrolled.options import ExplainOptions, PredictOptions
from unrolled.tables.columns import LabelsColumn, TextColumn
from unrolled.text.tokenized_text import Reading

MOST_ROWS = 2000


def explore_rows(subject: RowSubject, name: str | None, options: ExplainOptions, note: Note) -> Explored:
    """Look inside a model while it reads rows (None: those its run held out), and write the page.

    Each row is read from zero; where labels stand beside steps, the likeliest labels are shown under each. Raises
    `UsageError` for a source that is no text, or is not read step by step, and for units to be held.
    """
    if not isinstance(subject.task.source, TextColumn):
        raise UsageError(
            f"explain shows models that read text, and '{subject.task.source.name}' is {subject.task.source.kind}: "
            "`unrolled report` shows what this one does."
        )
    if options.clamp:
        raise UsageError("--clamp holds units of models of texts: leave it out for a model of a table.")
    answerer = subject.answerer(PredictOptions(beam=1))
    traces: list[RowTrace] = []
    steps = 0
    for cell in itertools.islice(subject.rows(name)[0], MOST_ROWS):
        if steps >= options.length:
            break
        traces.append(row_trace(answerer, cell))
        steps += len(traces[-1].symbols)
    if not traces or not traces[0].read:
        raise UsageError("explain shows models that read step by step, and this one sees a row at once.")
    note(f"{len(traces):,} rows, {steps:,} symbols")
    found = _joined(subject, traces)
    findings = _findings(found, options)
    alphabet = [str(label) for label in subject.task.target.labels] if isinstance(subject.task.target, LabelsColumn) else []
    return finish(Explored(subject, found, findings, None, [], None, alphabet), options, note)


def _joined(subject: RowSubject, traces: list[RowTrace]) -> Trace:
    """Return the rows as one text: each symbol as a person reads it, a line for each row with its answer behind it."""
    shown: list[str] = []
    apart = " " if any(len(symbol) > 1 for one in traces for symbol in one.symbols) else ""
    begins = []
    for one in traces:
        begins += [True] + [False] * (len(one.symbols) - 1)
        symbols = [symbol + apart for symbol in one.symbols]
        shown += [*symbols[:-1], symbols[-1] + "\n"]
    ids = np.arange(len(shown))
    reading = Reading(ids, shown, np.ones(len(shown), dtype=bool), np.array(begins))
    signals = {name: np.concatenate([one.read[name] for one in traces]) for name in traces[0].read}
    logits = np.zeros((len(shown), 0), dtype=np.float32)
    if all(one.chances is not None for one in traces):
        logits = np.log(np.concatenate([np.asarray(one.chances) for one in traces]) + 1e-12)
    return Trace(reading, signals.pop("h"), signals.pop("c", None), signals, logits)


def _findings(found: Trace, options: ExplainOptions) -> Findings | None:
    """Hold units against features, where a symbol is a character."""
    plain = [unicodedata.normalize("NFC", shown).removesuffix("\n") for shown in found.reading.shown]
    if len(plain) < FEWEST_PROBED or any(len(symbol) != 1 for symbol in plain):
        return None
    return probe(found, "".join(plain), seed=options.seed)
