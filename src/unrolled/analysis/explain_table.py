"""The neuron explorer of a table model: its rows one after the other, colored by the units of its encoder."""

from __future__ import annotations

import itertools
import logging
import unicodedata

import numpy as np

from unrolled.analysis.explain_text import ExplainResult, explorer_path, write_outputs
from unrolled.analysis.table_session import TableSession
from unrolled.display import plural
from unrolled.errors import UsageError
from unrolled.interpret.activations import Activations
from unrolled.interpret.probes import ProbeReport, probe_units, too_short_to_probe
from unrolled.interpret.table_activations import RowActivations, record_row
from unrolled.nn.encoder_decoder import MAX_STREAM_STEPS
from unrolled.options import ExplainOptions, PredictOptions
from unrolled.output_paths import check_outputs
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.text.tokenized_text import TokenizedText

logger = logging.getLogger(__name__)

MAX_ROWS = 2000


def explain_table(session: TableSession, name: str | None, options: ExplainOptions) -> ExplainResult:
    """Record a model's activations while it reads rows (None: its held-out rows), and write the page.

    Each row starts from a zero state. If labels are aligned with the steps, the page displays the most probable ones. Raises
    `UsageError` for a source that is no text or is not read step by step, and for `--clamp`.
    """
    check_outputs(options, (session.path, name), session.run_path, explorer_path(session))
    source = session.spec.source
    if source.tokenizer is None and source.kind != "numbers":
        raise UsageError(
            f"explain works for models that read text or numbers at every step, and '{source.name}' is {source.kind}: use "
            "`unrolled report` for this one."
        )
    if options.clamp:
        raise UsageError("--clamp works for text models only: leave it out for a table model.")
    predictor = session.predictor(PredictOptions(beam=1))
    rows: list[RowActivations] = []
    num_tokens = 0
    for cell in itertools.islice(session.iter_sources(name, options.header, options.encoding), MAX_ROWS):
        if num_tokens >= options.length:
            break
        if isinstance(source, NumbersColumn):
            cell = cell._replace(value=source.encode(cell)[: min(options.length - num_tokens, MAX_STREAM_STEPS)])
        rows.append(record_row(predictor, cell))
        num_tokens += len(rows[-1].source_tokens)
    if not rows or not rows[0].encoder:
        raise UsageError("explain works for models that read step by step, and this one reads a row at once.")
    logger.info(f"{plural(len(rows), 'row')}, {plural(num_tokens, 'token')}")
    activations = _concatenate_rows(rows)
    probe_report = _probe_units(activations, options)
    labels = list(session.spec.target.labels) if session.spec.mode.output == "aligned" else []
    return write_outputs(ExplainResult(session, activations, probe_report, None, [], None, labels), options)


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
