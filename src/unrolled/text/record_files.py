"""Files of records, of which each is a document: sequences in FASTA, tunes in ABC notation."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from unrolled.display import plural
from unrolled.errors import DataError

logger = logging.getLogger(__name__)

MAX_RECORD_SYMBOLS = 10_000
"""A longer sequence is cut into documents of this length, so that a part of a genome of one sequence can be held out."""

NOT_A_SEQUENCE = re.compile(rb"[^A-Za-z*.-]")
"""What no line of a sequence has: letters are bases or amino acids (IUPAC), `*` a stop, `-` and `.` gaps."""

_SMALL = b"abcdefghijklmnopqrstuvwxyz"

COMPLEMENT = bytes.maketrans(b"ACGTUMRWSYKVHDBNacgtumrwsykvhdbn", b"TGCAAKYWSRMBDHVNtgcaakywsrmbdhvn")
"""The base that pairs with each, also of the IUPAC letters that stand for several bases."""

NOT_A_BASE = re.compile(rb"[^ACGTUMRWSYKVHDBNacgtumrwsykvhdbn.-]")

LONG_NOTE = f"records are longer than {MAX_RECORD_SYMBOLS:,} symbols (cut into documents of that length)"


def fasta_records(name: str, lines: Iterable[bytes], both_strands: bool, fold_case: bool = False) -> Iterator[bytes]:
    """Yield the sequences of a FASTA file without their headers, each followed by its reverse complement with `both_strands`.

    With `fold_case`, the small letters that will be read as capitals are counted.

    Raises `DataError` with the line of what is no sequence.
    """
    counts: Counter[str] = Counter()
    for number, parts in _fasta_parts(name, lines, counts):
        sequence = b"".join(parts)
        if not sequence:
            counts["records without a sequence are left out"] += 1
            continue
        if both_strands and (other := NOT_A_BASE.search(sequence)):
            raise DataError(
                f"The record at line {number:,} of {name} has {other.group().decode()!r}, which is no base: reverse-complement "
                "is for DNA and RNA, leave it out."
            )
        counts["records"] += 1
        counts["symbols"] += len(sequence)
        counts["small letters are read as capitals"] += fold_case and len(sequence) - len(sequence.translate(None, _SMALL))
        counts[LONG_NOTE] += len(sequence) > MAX_RECORD_SYMBOLS
        for start in range(0, len(sequence), MAX_RECORD_SYMBOLS):
            piece = sequence[start : start + MAX_RECORD_SYMBOLS]
            yield piece
            if both_strands:
                yield piece.translate(COMPLEMENT)[::-1]
    strands = ", each read on both strands" if both_strands else ""
    logger.info(f"{name}: {plural(counts.pop('records', 0), 'record')}, {counts.pop('symbols', 0):,} symbols{strands}")
    _log_counts(name, counts)


def _fasta_parts(name: str, lines: Iterable[bytes], counts: Counter[str]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield each record as the number of its header and the lines of its sequence."""
    start, parts = 0, list[bytes]()
    for number, raw_line in enumerate(lines, 1):
        line = raw_line.strip()
        if line.startswith(b">"):
            if start:
                yield start, parts
            start, parts = number, []
            counts["headers are left out"] += 1
        elif line.startswith(b";"):
            counts["comments are left out"] += 1
        elif line:
            if not start:
                kind = "it looks like FASTQ" if line.startswith(b"@") else "'>' and a name are expected first"
                raise DataError(
                    f"Line {number:,} of {name} is not FASTA: {kind}. To learn the file as it is: --tokens characters."
                )
            if other := NOT_A_SEQUENCE.search(b"".join(line.split())):
                raise DataError(
                    f"Line {number:,} of {name} has {other.group().decode('utf-8', 'replace')!r}, and a sequence has letters, "
                    "'*', '-' and '.': correct the line."
                )
            parts.append(b"".join(line.split()))
    if start:
        yield start, parts


def abc_tunes(name: str, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the tunes of a file in ABC notation (2.1), from the line `X:` of each to the blank line after it.

    Comments, directives and text between tunes are left out and counted. Raises `DataError` if there is no tune.
    """
    counts: Counter[str] = Counter()
    tune: list[bytes] = []
    num_tunes = 0
    for line in lines:
        stripped = line.rstrip()
        if tune and (not stripped or stripped.startswith(b"X:")):
            num_tunes += 1
            yield b"\n".join(tune)
            tune = []
        if stripped.startswith(b"X:") or (tune and not stripped.startswith(b"%")):
            tune.append(stripped)
        elif stripped.startswith(b"%"):
            counts["comments and directives are left out"] += 1
        elif stripped:
            counts["lines outside of tunes are left out"] += 1
    if tune:
        num_tunes += 1
        yield b"\n".join(tune)
    if not num_tunes:
        raise DataError(f"{name} has no tune: one begins with a line 'X:' and a number.")
    logger.info(f"{name}: {plural(num_tunes, 'tune')}")
    _log_counts(name, counts)


def _log_counts(name: str, counts: Counter[str]) -> None:
    for what, count in counts.items():
        if count:
            logger.info(f"{name}: {count:,} {what}")
