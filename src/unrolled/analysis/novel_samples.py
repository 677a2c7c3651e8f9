"""Samples of a model that know the text it was trained on: drawn until they are no copies of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from unrolled.analysis.text_session import Subject
from unrolled.errors import UsageError
from unrolled.evaluation.memorization import known_documents, matches
from unrolled.generation.sampling import Sample, generate
from unrolled.interpret.intervention import hold_from
from unrolled.options import SampleOptions

LONGEST_COPY = 50
"""Symbols of the training text in one piece from which on a sample of a stream is called a copy."""

TRIES = 20
"""How many samples are drawn for each that is wanted before giving up."""


def draw_samples(subject: Subject, options: SampleOptions, seed: int) -> Iterator[Sample]:
    """Yield `options.count` samples, units held if asked; with `options.novel_only`, those that are no copies.

    A document is a copy if the training text has it, whole; a stretch of a stream, if it has `LONGEST_COPY` symbols in one
    piece of the training text. Seeds go up by one from sample to sample, those left out too. Raises `UsageError` if nearly
    all are copies.
    """
    holds = [hold_from(text) for text in options.clamp]
    if not options.novel_only:
        yield from generate(subject.model, subject.vocabulary, options, seed, holds, precision=subject.sampling)
        return
    train = subject.parts()[0]
    drawn = given = 0
    while given < options.count:
        if drawn >= TRIES * options.count:
            raise UsageError(
                f"Of {drawn:,} samples {given:,} were no copies of the training text: try a higher --temperature, "
                "or another --prompt."
            )
        wanted = replace(options, count=min(max(options.count - given, 4), TRIES * options.count - drawn))
        drawing = generate(subject.model, subject.vocabulary, wanted, seed + drawn, holds, precision=subject.sampling)
        samples = list(drawing)
        drawn += len(samples)
        for sample, known in zip(samples, _copied(subject, train, samples), strict=True):
            if not known and given < options.count:
                given += 1
                yield sample


def _copied(subject: Subject, train: np.ndarray[tuple[int], np.dtype[np.integer]], samples: list[Sample]) -> list[bool]:
    vocabulary = subject.vocabulary
    ids = [vocabulary.align(vocabulary.points(sample.text))[0] for sample in samples]
    if vocabulary.end is not None:
        return list(map(bool, known_documents(train, vocabulary.end, ids)))
    return [bool(len(own)) and int(matches(train, own).max()) >= LONGEST_COPY for own in ids]
