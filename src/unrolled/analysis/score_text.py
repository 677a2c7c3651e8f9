"""Scores of a text: several models side by side, or one with and without a unit held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unrolled.analysis.text_session import Subject
from unrolled.checkpoints.model_file import load_text_model
from unrolled.checkpoints.run_dir import Run, find_model
from unrolled.errors import UsageError
from unrolled.evaluation.line_surprisal import Scoring
from unrolled.evaluation.surprisal import UNKNOWN_BITS, Scorer
from unrolled.interpret.activations import trace
from unrolled.interpret.intervention import hold_from
from unrolled.nn.clamp import Hold
from unrolled.options import ScoreOptions
from unrolled.text.tokenized_text import Reading
from unrolled.views.colored_text import surprise_html

PLAIN_HELD = 1
"""How many of a scoring's models come before the one with units held."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A text with the bits of each symbol `(T,)`; nan for one that nothing comes before."""

    reading: Reading
    bits: npt.NDArray[np.float64]

    @property
    def text(self) -> str:
        """The text."""
        return self.reading.text

    @property
    def bits_per_character(self) -> float:
        """The mean; of symbols that are parts of characters, those that complete one are counted."""
        whole = sum(1 for shown, own in zip(self.reading.shown, self.bits, strict=True) if shown and not np.isnan(own))
        return float(np.nansum(self.bits)) / max(1, whole)

    def __repr__(self) -> str:
        return f"<Scored {len(self.reading):,} symbols, {self.bits_per_character:.3f} bits a character>"

    def _repr_html_(self) -> str:
        return surprise_html(self.reading.shown, self.bits)


def score_text(subject: Subject, text: str, holds: Sequence[Hold] = ()) -> Scored:
    """Return the bits of every symbol of a text that is at hand."""
    reading = subject.reading(text)
    bits = trace(subject.model, reading, holds).bits()
    bits[~reading.known] = UNKNOWN_BITS
    return Scored(reading, bits)


def open_scoring(subject: Subject, name: str | None, options: ScoreOptions) -> Scoring:
    """Return a text being scored by `subject` and by what `options` puts beside it.

    Raises `UsageError` for models that read other symbols: a text is then not the same to them.
    """
    subjects = [subject, *(_other(subject, path) for path in options.against)]
    names = [str(subject.path if subject.run is None else subject.run.path), *options.against]
    scorers = [Scorer(one.model, one.vocabulary, one.saved.unit, subject.machine) for one in subjects]
    if options.clamp:
        holds = [hold_from(text) for text in options.clamp]
        scorers.insert(PLAIN_HELD, replace(scorers[0], holds=holds))
        names.insert(PLAIN_HELD, "with " + ", ".join(options.clamp))
    return Scoring(names, scorers, subject.pieces(name))


def _other(subject: Subject, name: str) -> Subject:
    path = find_model(Path(name))
    saved = load_text_model(path)
    if saved.vocabulary.kind != subject.vocabulary.kind:
        raise UsageError(f"{name} reads {saved.vocabulary.kind}, and {subject.path} {subject.vocabulary.kind}: not comparable.")
    saved.model.to(subject.machine.device).eval()
    run = Run(path.parent) if (path.parent / "config.json").is_file() else None
    return Subject(path, saved, subject.machine, run)
