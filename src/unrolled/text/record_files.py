"""Files of records, of which each is a document: sequences in FASTA, tunes in ABC notation."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from unrolled.display import counted, plural, shell_argument
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

_ABC_COMMENT, _ABC_HEADER = re.compile(rb"(?<!\\)%.*", re.DOTALL), (b"L", b"M", b"U", b"m")

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
                raise DataError(
                    f"Line {number:,} of {name} is not FASTA: {_other_kind(line, name)}. To learn the file as it is: --tokens "
                    "characters."
                )
            if other := NOT_A_SEQUENCE.search(b"".join(line.split())):
                raise DataError(
                    f"Line {number:,} of {name} has {other.group().decode('utf-8', 'replace')!r}, and a sequence has letters, "
                    "'*', '-' and '.': correct the line."
                )
            parts.append(b"".join(line.split()))
    if start:
        yield start, parts


def _other_kind(line: bytes, name: str) -> str:
    """Return what a file of sequences is that begins with this line, and how it becomes FASTA."""
    if line.startswith(b"@"):
        return (
            f"it looks like FASTQ, of which this keeps the reads: sed -n '1~4s/^@/>/p;2~4p' {shell_argument(name)} > NEW.fasta"
        )
    others = {b"LOCUS ": "GenBank", b"ID   ": "EMBL", b"# STOCKHOLM": "an alignment (Stockholm)", b"#NEXUS": "NEXUS"}
    kind = next((kind for start, kind in others.items() if line.startswith(start)), "")
    to_do = "Bio.SeqIO.convert of Biopython writes it as FASTA"
    return f"it looks like {kind}: {to_do}" if kind else "'>' and a name are expected first"


def abc_tunes(name: str, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the tunes of a file in ABC notation (2.1), from the line `X:` of each to the blank line after it.

    Length, meter, symbols and macros of the header of the file (`L:`, `M:`, `U:`, `m:`) hold for each tune
    that does not have them, and are written into it. Comments, directives and text between tunes are left out and counted.

    Raises `DataError` if there is no tune.
    """
    counts: Counter[str] = Counter()
    header, tune = list[bytes](), list[bytes]()
    for line in lines:
        bare = _ABC_COMMENT.sub(b"", line).rstrip()
        is_blank, begins = not line.strip(), bare.startswith(b"X:")
        counts["comments and directives are left out"] += _ABC_COMMENT.search(line) is not None
        if tune and (is_blank or begins):
            counts["tunes"] += 1
            yield _with_header(tune, header, counts)
            tune = []
        if bare and (begins or tune):
            tune.append(bare)
        elif bare and not counts["tunes"] and bare[:1] in _ABC_HEADER and bare[1:2] == b":":
            header.append(bare)
        else:
            counts["lines outside of tunes are left out"] += bool(bare)
    if tune:
        counts["tunes"] += 1
        yield _with_header(tune, header, counts)
    if not counts["tunes"]:
        raise DataError(f"{name} has no tune: one begins with a line 'X:' and a number.")
    logger.info(f"{name}: {plural(counts.pop('tunes'), 'tune')}")
    _log_counts(name, counts)


def _with_header(tune: list[bytes], header: list[bytes], counts: Counter[str]) -> bytes:
    """Return a tune with those fields of the file's header that it lacks, before its key, which ends a header."""
    own = {line[:2] for line in tune}
    lacking = [line for line in header if line[:2] not in own]
    place = next((place for place, line in enumerate(tune) if line.startswith(b"K:")), 1)
    counts["tunes have a meter, a length or symbols of the header of the file"] += bool(lacking)
    return b"\n".join([*tune[:place], *lacking, *tune[place:]])


def _log_counts(name: str, counts: Counter[str]) -> None:
    for what, count in counts.items():
        if count:
            logger.info(f"{name}: {count:,} {counted(count, what)}")
