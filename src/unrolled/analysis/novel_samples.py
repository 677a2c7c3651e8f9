"""Samples of a model that are not copies of its training text, or that a program of the user keeps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from unrolled.analysis.keep_if import CheckingCommand
from unrolled.analysis.text_session import TextSession
from unrolled.errors import UsageError
from unrolled.evaluation.memorization import find_known_documents, matching_statistics
from unrolled.generation.sampling import Sample, generate
from unrolled.nn.unit_clamp import parse_clamp
from unrolled.options import SampleOptions
from unrolled.text.tokenizer import Ids, Tokenizer

logger = logging.getLogger(__name__)

MIN_COPY_TOKENS = 50
"""A sample without documents is a copy if it shares a substring of this length with the training text. It is shorter than the
threshold of the report's advice, since novel samples should have no recognizable passage."""

MAX_TRIES = 20
"""Maximum number of samples drawn for each one that is requested."""


def draw_samples(session: TextSession, options: SampleOptions, seed: int) -> Iterator[Sample]:
    """Yield `options.count` samples, with units clamped as in `options.clamp`; only novel ones with `options.novel_only`, and
    only those that the command `options.keep_if` keeps.

    A document is a copy if it is a whole document of the training text; other text, if it shares `MIN_COPY_TOKENS`
    consecutive tokens with it. The seed increases by one for each sample that is drawn, rejected ones included. Raises
    `UsageError` if nearly all samples are rejected.
    """
    clamps = [parse_clamp(text) for text in options.clamp]
    if not options.novel_only and options.keep_if is None:
        yield from generate(session.network, session.tokenizer, options, seed, clamps, precision=session.sampling_precision)
        return
    train_ids = session.train_and_held_out()[0] if options.novel_only else None
    check = None if options.keep_if is None else CheckingCommand(options.keep_if)
    num_drawn = num_yielded = 0
    while num_yielded < options.count:
        if num_drawn >= MAX_TRIES * options.count:
            raise UsageError(_too_few(num_yielded, num_drawn, check, options.novel_only))
        batch_options = replace(options, count=min(max(options.count - num_yielded, 4), MAX_TRIES * options.count - num_drawn))
        batch = generate(
            session.network, session.tokenizer, batch_options, seed + num_drawn, clamps, precision=session.sampling_precision
        )
        samples = list(batch)
        num_drawn += len(samples)
        is_copy = [False] * len(samples) if train_ids is None else _find_copies(session, train_ids, samples)
        for sample, rejected in zip(samples, is_copy, strict=True):
            if not rejected and num_yielded < options.count and (check is None or check.accepts(sample.text)):
                num_yielded += 1
                yield sample
    if check is not None:
        logger.info(check.summary())


def sample_ids(tokenizer: Tokenizer, sample: Sample) -> Ids:
    """Return the ids of a sample, bytes that are no text included, as the training text has them."""
    text = sample.text if sample.data is None else sample.data.decode("utf-8", "surrogateescape")
    return tokenizer.encode_lossy(tokenizer.code_points(tokenizer.normalize(text)))[0]


def _too_few(num_yielded: int, num_drawn: int, check: CheckingCommand | None, novel_only: bool) -> str:
    """Return the message about samples that were nearly all rejected."""
    reason = "were not copies of the training text" if novel_only else "were kept"
    by_command = ""
    if check is not None:
        said = f", and it said last: {check.last_message:.200}" if check.last_message else ""
        by_command = f" ({check.summary()}{said})"
    article = "a higher" if novel_only and check is None else "another"
    return (
        f"Only {num_yielded:,} of {num_drawn:,} samples {reason}{by_command}: try {article} --temperature or another --prompt."
    )


def _find_copies(session: TextSession, train_ids: Ids, samples: list[Sample]) -> list[bool]:
    tokenizer = session.tokenizer
    all_ids = [sample_ids(tokenizer, sample) for sample in samples]
    if tokenizer.eos_id is not None:
        return list(map(bool, find_known_documents(train_ids, tokenizer.eos_id, all_ids)))
    return [bool(len(ids)) and int(matching_statistics(train_ids, ids).max()) >= MIN_COPY_TOKENS for ids in all_ids]
