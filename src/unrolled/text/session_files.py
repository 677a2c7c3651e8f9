"""Copies of logs as they are learned: masked, and with the lines of each session together."""

from __future__ import annotations

import itertools
import logging
import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unrolled.display import plural
from unrolled.text.encodings import make_copy
from unrolled.text.line_format import KeyFinder, LineFormat, mask_note
from unrolled.text.text_files import read_lines
from unrolled.text.tokenizer import RECORD_SEPARATOR

logger = logging.getLogger(__name__)

BATCH_LINES = 1 << 13
SEPARATOR = chr(RECORD_SEPARATOR)


def mask_lines(paths: list[Path], line_format: LineFormat, as_bytes: bool, folder: Path) -> None:
    """Put a masked copy in the place of each of `paths`, and report what was masked."""
    counts: Counter[str] = Counter()
    for position, path in enumerate(paths):
        masked = (
            line_format.apply(lines, counts).encode("utf-8", "surrogateescape") for lines in _joined_lines(path, as_bytes)
        )
        paths[position] = make_copy(path, masked, folder)
    _report_masks(counts)


def _joined_lines(path: Path, as_bytes: bool) -> Iterator[str]:
    """Yield a file in pieces of whole lines, which join to the file."""
    lines, is_first = read_lines(path, as_bytes), True
    while batch := list(itertools.islice(lines, BATCH_LINES)):
        yield ("" if is_first else "\n") + b"\n".join(batch).decode("utf-8", "surrogateescape")
        is_first = False


def group_lines(paths: Sequence[Path], line_format: LineFormat, as_bytes: bool, folder: Path) -> Path:
    """Return a masked copy of files in which the lines of a session stand together, each session ended by a record separator.

    Sessions are in the order of their first lines, and may go on from one file to the next. Empty lines are left out. Raises
    `DataError` if no line has a key.
    """
    finder, counts = KeyFinder(line_format), Counter[str]()
    sessions: list[npt.NDArray[np.int64]] = []
    lengths: list[npt.NDArray[np.int64]] = []
    ids: dict[str, int] = {}
    num_sessions = itertools.count()

    def masked() -> Iterator[bytes]:
        for batch in _line_batches(paths, as_bytes):
            lines, keys = finder.find(batch)
            data = [line.encode("utf-8", "surrogateescape") for line in _mask_batch(lines, line_format, counts)]
            own = [next(num_sessions) if key is None else _session(ids, key, num_sessions) for key in keys]
            sessions.append(np.array(own, np.int64))
            lengths.append(np.array([len(line) + 1 for line in data], np.int64))
            yield b"".join(line + b"\n" for line in data)

    in_order = make_copy(paths[0], masked(), folder)
    try:
        finder.require_keys()
        none = np.zeros(0, np.int64)
        grouped = make_copy(
            paths[0], _sessions(in_order, np.concatenate([none, *sessions]), np.concatenate([none, *lengths])), folder
        )
    finally:
        in_order.unlink(missing_ok=True)
    logger.info(f"{plural(finder.num_lines, 'line')} in {plural(next(num_sessions), 'session')}")
    for note in finder.notes():
        logger.info(note)
    counts["key"] = finder.num_lines - finder.num_without_key if finder.masks_key else 0
    _report_masks(counts)
    return grouped


def _session(ids: dict[str, int], key: str, numbers: Iterator[int]) -> int:
    number = ids.get(key)
    if number is None:
        number = ids[key] = next(numbers)
    return number


def _line_batches(paths: Sequence[Path], as_bytes: bool) -> Iterator[list[str]]:
    """Yield the lines of all files that are not empty, without record separators."""
    lines = (line for path in paths for line in read_lines(path, as_bytes) if line)
    while batch := list(itertools.islice(lines, BATCH_LINES)):
        yield b"\n".join(batch).replace(SEPARATOR.encode(), b" ").decode("utf-8", "surrogateescape").split("\n")


def _mask_batch(lines: list[str], line_format: LineFormat, counts: Counter[str]) -> list[str]:
    return line_format.apply("\n".join(lines), counts).split("\n") if lines else []


def _sessions(path: Path, sessions: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the lines of a file by session; `sessions` `(N,)` has the number of that of each line, `lengths` `(N,)` bytes."""
    if not len(sessions):
        return
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(sessions, kind="stable")
    is_last = np.append(np.diff(sessions[order]) != 0, True)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for first in range(0, len(order), BATCH_LINES):
            part = slice(first, first + BATCH_LINES)
            rows = zip(starts[order[part]].tolist(), lengths[order[part]].tolist(), is_last[part].tolist(), strict=True)
            yield b"".join(data[start : start + length] + (SEPARATOR.encode() if ends else b"") for start, length, ends in rows)


def _report_masks(counts: Counter[str]) -> None:
    if note := mask_note(counts):
        logger.info(note)
