"""Scores of a text: several models side by side, or one with and without a unit held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unrolled.analysis.text_session import TextSession
from unrolled.checkpoints.model_file import load_text_model
from unrolled.checkpoints.run_dir import Run, find_model
from unrolled.errors import UsageError
from unrolled.evaluation.line_surprisal import ScoringStream
from unrolled.evaluation.surprisal import UNKNOWN_BITS, SurprisalScorer
from unrolled.interpret.activations import record_activations
from unrolled.nn.clamp import Clamp, parse_clamp
from unrolled.options import ScoreOptions
from unrolled.text.tokenized_text import TokenizedText
from unrolled.views.colored_text import surprisal_html

CLAMPED_INDEX = 1
"""How many of a scoring's models come before the one with units held."""


@dataclass(frozen=True, eq=False)
class ScoredText:
    """A text with the bits of each symbol `(T,)`; nan for one that nothing comes before."""

    tokenized: TokenizedText
    bits: npt.NDArray[np.float64]

    @property
    def text(self) -> str:
        """The text."""
        return self.tokenized.text

    @property
    def bits_per_character(self) -> float:
        """The mean; of symbols that are parts of characters, those that complete one are counted."""
        num_chars = sum(
            1
            for token_text, token_bits in zip(self.tokenized.token_texts, self.bits, strict=True)
            if token_text and not np.isnan(token_bits)
        )
        return float(np.nansum(self.bits)) / max(1, num_chars)

    def __repr__(self) -> str:
        return f"<Scored {len(self.tokenized):,} symbols, {self.bits_per_character:.3f} bits a character>"

    def _repr_html_(self) -> str:
        return surprisal_html(self.tokenized.token_texts, self.bits)


def score_text(session: TextSession, text: str, clamps: Sequence[Clamp] = ()) -> ScoredText:
    """Return the bits of every symbol of a text that is at hand."""
    tokenized = session.tokenize(text)
    bits = record_activations(session.model, tokenized, clamps).bits()
    bits[~tokenized.known_mask] = UNKNOWN_BITS
    return ScoredText(tokenized, bits)


def open_scoring_stream(session: TextSession, name: str | None, options: ScoreOptions) -> ScoringStream:
    """Return a text being scored by `subject` and by what `options` puts beside it.

    Raises `UsageError` for models that read other symbols: a text is then not the same to them.
    """
    sessions = [session, *(_open_other(session, path) for path in options.compare)]
    names = [str(session.path if session.run is None else session.run.path), *options.compare]
    scorers = [
        SurprisalScorer(model_session.model, model_session.tokenizer, model_session.saved.documents, session.machine)
        for model_session in sessions
    ]
    if options.clamp:
        clamps = [parse_clamp(text) for text in options.clamp]
        scorers.insert(CLAMPED_INDEX, replace(scorers[0], clamps=clamps))
        names.insert(CLAMPED_INDEX, "with " + ", ".join(options.clamp))
    return ScoringStream(names, scorers, session.code_point_chunks(name))


def _open_other(session: TextSession, name: str) -> TextSession:
    path = find_model(Path(name))
    saved = load_text_model(path)
    if saved.tokenizer.kind != session.tokenizer.kind:
        raise UsageError(f"{name} reads {saved.tokenizer.kind}, and {session.path} {session.tokenizer.kind}: not comparable.")
    saved.model.to(session.machine.device).eval()
    run = Run(path.parent) if (path.parent / "config.json").is_file() else None
    return TextSession(path, saved, session.machine, run)
