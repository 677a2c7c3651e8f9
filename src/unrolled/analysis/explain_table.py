"""The neuron explorer of a model of a table: its rows one after the other, coloured by the units of its reader."""

from __future__ import annotations

import itertools
import logging
import unicodedata

import numpy as np

from unrolled.analysis.explain_text import MIN_PROBE_TOKENS, ExplainResult, write_outputs
from unrolled.analysis.table_session import TableSession
from unrolled.errors import UsageError
from unrolled.interpret.activations import Activations
from unrolled.interpret.probes import ProbeReport, probe_units
from unrolled.interpret.table_activations import RowActivations, record_row
from unrolled.options import ExplainOptions, PredictOptions
from unrolled.text.tokenized_text import TokenizedText

logger = logging.getLogger(__name__)

MAX_ROWS = 2000


def explain_table(session: TableSession, name: str | None, options: ExplainOptions) -> ExplainResult:
    """Look inside a model while it reads rows (None: those its run held out), and write the page.

    Each row is read from zero; where labels stand beside steps, the likeliest labels are shown under each. Raises
    `UsageError` for a source that is no text, or is not read step by step, and for units to be held.
    """
    if session.spec.source.tokenizer is None:
        raise UsageError(
            f"explain shows models that read text, and '{session.spec.source.name}' is {session.spec.source.kind}: "
            "`unrolled report` shows what this one does."
        )
    if options.clamp:
        raise UsageError("--clamp holds units of models of texts: leave it out for a model of a table.")
    predictor = session.predictor(PredictOptions(beam=1))
    rows: list[RowActivations] = []
    num_tokens = 0
    for cell in itertools.islice(session.load_cells(name)[0], MAX_ROWS):
        if num_tokens >= options.length:
            break
        rows.append(record_row(predictor, cell))
        num_tokens += len(rows[-1].source_tokens)
    if not rows or not rows[0].encoder:
        raise UsageError("explain shows models that read step by step, and this one sees a row at once.")
    logger.info(f"{len(rows):,} rows, {num_tokens:,} symbols")
    activations = _concatenate_rows(session, rows)
    probe_report = _probe_units(activations, options)
    labels = list(session.spec.target.labels) if session.spec.mode.output == "aligned" else []
    return write_outputs(ExplainResult(session, activations, probe_report, None, [], None, labels), options)


def _concatenate_rows(session: TableSession, rows: list[RowActivations]) -> Activations:
    """Return the rows as one text: each symbol as a person reads it, a line for each row with its answer behind it."""
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
    """Hold units against features, where a symbol is a character."""
    chars = [unicodedata.normalize("NFC", token_text).removesuffix("\n") for token_text in activations.tokenized.token_texts]
    if len(chars) < MIN_PROBE_TOKENS or any(len(char) != 1 for char in chars):
        return None
    return probe_units(activations, "".join(chars), seed=options.seed)
