"""Surprisal of a text under several models, or under one model with and without clamped units."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unrolled.analysis.text_session import TextSession
from unrolled.checkpoints.run_dir import find_model, run_of_model
from unrolled.datasets.base_models import display_path
from unrolled.display import plural
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.line_surprisal import FileStarts, ScoringStream
from unrolled.evaluation.log_blocks import LogBlocks, decode_points
from unrolled.evaluation.surprisal import UNKNOWN_BITS, SurprisalScorer, TextBlock, token_bits
from unrolled.nn.unit_clamp import Clamp, parse_clamp
from unrolled.option_rules import check_adaptation
from unrolled.options import ScoreOptions
from unrolled.runtime.language_model import LanguageModel
from unrolled.runtime.text_network import read_text_model
from unrolled.tables.table_format import TableFormat
from unrolled.text.line_format import LineFormat, split_lines
from unrolled.text.tokenized_text import TokenizedText, tokenize
from unrolled.text.tokenizer import require_text

if TYPE_CHECKING:
    from unrolled.evaluation.line_alerts import AlertReport

CLAMPED_INDEX = 1
"""Index, among a stream's models, of the one with clamped units."""


@dataclass(frozen=True, eq=False)
class ScoredText:
    """A text with the bits of each token `(T,)`; nan for a token without context. `report` has its alerts, if asked for."""

    tokenized: TokenizedText
    bits: npt.NDArray[np.float64]
    report: AlertReport | None = None

    @property
    def text(self) -> str:
        """The text."""
        return self.tokenized.text

    @property
    def bits_per_character(self) -> float:
        """The mean bits per character, nan if none was predicted; of bytes, only those that complete one are counted."""
        num_chars = sum(
            len(token_text)
            for token_text, token_bits in zip(self.tokenized.token_texts, self.bits, strict=True)
            if not np.isnan(token_bits)
        )
        return float(np.nansum(self.bits)) / num_chars if num_chars else math.nan

    def __repr__(self) -> str:
        mean = self.bits_per_character
        found = "nothing to predict" if math.isnan(mean) else f"{mean:.3f} bits per character"
        return f"<ScoredText: {plural(len(self.tokenized), 'token')}, {found}>"

    def _repr_html_(self) -> str:
        from unrolled.views.colored_text import surprisal_html

        return surprisal_html(self.tokenized.token_texts, self.bits)


def score_text(session: TextSession, text: str, clamps: Sequence[Clamp] = (), adapt: bool = False) -> ScoredText:
    """Return the bits of every token of a text in memory, with units clamped if `clamps` are given.

    With `adapt`, the model goes on learning while it reads.
    """
    if adapt and clamps:
        raise UsageError("clamp compares one model with and without a clamp, and adapt changes the model: leave one out.")
    if session.saved.documents == "session":
        return _score_sessions(session, require_text(text), clamps, adapt)
    tokenized = session.tokenize(text)
    model = session.scoring_model(clamps, adapt=adapt)
    bits = token_bits(model, tokenized)
    if not adapt:
        bits = _mean_of_strands(session, model, text, bits)
    bits[~tokenized.known_mask] = UNKNOWN_BITS
    return ScoredText(tokenized, bits)


def _mean_of_strands(
    session: TextSession, model: LanguageModel, text: str, bits: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the mean of the bits of a text and of its other strand, if the model reads both."""
    tokenizer = session.tokenizer
    found = tokenizer.other_strand(tokenizer.code_points(tokenizer.normalize(text)))
    if found is None:
        return bits
    strand, places = found
    other = bits.copy()
    other[1 + places] = token_bits(model, session.tokenize("".join(tokenizer.texts_of(strand))))[1:]
    return (bits + other) / 2


def _score_sessions(session: TextSession, text: str, clamps: Sequence[Clamp], adapt: bool) -> ScoredText:
    """Return the bits of a log, each line read from the state of its session."""
    if adapt:
        raise UsageError("adapt reads a text in its order, and this model reads the lines of sessions: leave it out.")
    tokenizer = session.tokenizer
    block = LogBlocks(tokenizer).block(split_lines(text), text.endswith("\n"))
    bits, _ = SurprisalScorer(session.scoring_model(clamps), tokenizer, "session").score(block.code_points, block.keys)
    as_it_is = copy.copy(tokenizer)
    as_it_is.line_format = LineFormat()  # the block is masked already
    tokenized = tokenize(as_it_is, "session", decode_points(tokenizer, block.code_points))
    return ScoredText(tokenized, np.append(np.nan, bits))  # nan for the token that a session begins with


def open_scoring_stream(session: TextSession, name: str | None, options: ScoreOptions) -> ScoringStream:
    """Return a text (None: the run's validation text) to be scored by `session` and by the other models of `options`.

    Raises `UsageError` for models with another kind of tokens: their bits per token could not be compared, and `DataError` for
    an empty file.
    """
    check_adaptation(options)
    sessions = [session, *(_open_other(session, path) for path in options.compare)]
    names = [display_path(session.path) if session.run is None else str(session.run.path), *options.compare]
    scorers = [open_scorer(model_session, options) for model_session in sessions]
    if options.clamp:
        clamps = [parse_clamp(text) for text in options.clamp]
        scorers.insert(CLAMPED_INDEX, replace(scorers[0], model=session.scoring_model(clamps, options.portable), clamps=clamps))
        names.insert(CLAMPED_INDEX, "with " + ", ".join(options.clamp))
    files = FileStarts()
    blocks = session.text_blocks(name, TableFormat(encoding=options.encoding), options.unknown, files)
    if name is not None:
        blocks = _not_empty(blocks, name)
    return ScoringStream(names, scorers, blocks, files)


def _not_empty(blocks: Iterator[TextBlock], name: str) -> Iterator[TextBlock]:
    """Return the blocks of a text, after its first one was read. Raises `DataError` if there is none."""
    first = next(blocks, None)
    if first is None:
        raise DataError(f"There is no text in {name}.")
    return itertools.chain([first], blocks)


def open_scorer(session: TextSession, options: ScoreOptions) -> SurprisalScorer:
    """Return what scores a text by one model, without clamped units."""
    if options.adapt and session.saved.documents == "session":
        raise UsageError("--adapt reads a text in its order, and this model reads the lines of sessions: leave it out.")
    model = session.scoring_model(portable=options.portable, adapt=options.adapt)
    return SurprisalScorer(model, session.tokenizer, session.saved.documents, in_order=options.adapt)


def _open_other(session: TextSession, name: str) -> TextSession:
    path = find_model(Path(name))
    saved = read_text_model(path)
    if saved.tokenizer.kind != session.tokenizer.kind:
        raise UsageError(
            f"{name} reads {saved.tokenizer.kind}, and {session.path} reads {session.tokenizer.kind}: not comparable. "
            "Compare models of the same tokens."
        )
    if saved.tokenizer.line_format != session.tokenizer.line_format:
        raise UsageError(f"{name} masks or groups lines differently from {session.path}: not comparable.")
    return TextSession(path, saved, session.options, run_of_model(path))
