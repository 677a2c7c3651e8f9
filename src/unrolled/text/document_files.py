"""Copies of texts that cannot be encoded as they are: those of other encodings, and documents that have line ends.

In such a copy, documents are separated by `RECORD_SEPARATOR`. The caller removes the copies (see `remove_copies`).
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

from unrolled.display import plural
from unrolled.errors import UsageError
from unrolled.options import DataOptions
from unrolled.text.archives import archive_names, unpack_texts
from unrolled.text.compressed_files import inner_suffix
from unrolled.text.encodings import decoded_chunks, display_name, file_encoding, is_office_file, is_text_head, make_copy
from unrolled.text.file_signatures import MAIL_SUFFIXES, OFFICE_NOUNS, SUBTITLE_SUFFIXES, has_office_suffix
from unrolled.text.line_format import PLAIN_LINES, LineFormat
from unrolled.text.office_files import office_text
from unrolled.text.record_tokenizers import RecordTokenizer
from unrolled.text.session_files import group_lines, mask_lines
from unrolled.text.subtitles import subtitle_text
from unrolled.text.text_files import is_temporary_copy, read_lines
from unrolled.text.tokenizer import RECORD_SEPARATOR
from unrolled.text.tokenizers import tokenizer_class

logger = logging.getLogger(__name__)

SEPARATOR_BYTE = bytes([RECORD_SEPARATOR])


def prepare_files(
    paths: Sequence[Path], options: DataOptions, folder: Path, line_format: LineFormat = PLAIN_LINES, training: bool = True
) -> list[Path]:
    """Return the files to encode: `paths`, or copies in `folder` as their encoding, documents and `line_format` need them."""
    as_bytes = tokenizer_class(options.tokens).reads_bytes
    if options.encoding is not None and as_bytes:
        raise UsageError("--encoding is for text, and --tokens bytes learns the bytes as they are: leave one out.")
    prepared, counts, record_counts = _unpacked(paths, folder, options.tokens), Counter[str](), Counter[str]()
    try:
        for position, path in enumerate(list(prepared)):
            if not as_bytes:
                _replace_by_text(prepared, position, options.encoding, folder, counts)
            if options.documents == "record":
                reader = functools.partial(_records, options, training, str(display_name(path)), record_counts)
                _replace(prepared, position, folder, lambda old, reader=reader: _join_documents(reader(old)))  # type: ignore[misc]
            if options.documents == "blank-line":
                _replace(prepared, position, folder, lambda old: _join_documents(_paragraphs(old, as_bytes)))
        if line_format != PLAIN_LINES:
            _apply_line_format(prepared, line_format, as_bytes, folder)
    except BaseException:
        remove_copies(prepared, folder)
        raise
    _log_counts(counts, options.encoding)
    if options.documents == "record":
        for sentence in _record_tokenizer(options).describe(record_counts):
            logger.info(sentence)
    return prepared


def _replace_by_text(paths: list[Path], position: int, encoding: str | None, folder: Path, counts: Counter[str]) -> None:
    """Put a copy in the place of a file that is a document, of another encoding or has subtitles."""
    path = paths[position]
    if is_office_file(path):
        _replace(paths, position, folder, lambda old: _office_lines(old, counts))
        return
    counts["plain"] += 1
    if (name := file_encoding(path, encoding)) != "utf-8-sig":
        _replace(paths, position, folder, lambda old: decoded_chunks(old, name))
        counts["recoded"] += 1
    shown = Path(display_name(path))
    if inner_suffix(shown) in SUBTITLE_SUFFIXES:
        _replace(paths, position, folder, lambda old: _subtitle_lines(old, shown, counts))


def _log_counts(counts: Counter[str], encoding: str | None) -> None:
    """Log how the files were read: with an encoding, as documents, as subtitles."""
    num_files, num_recoded = counts.pop("plain", 0), counts.pop("recoded", 0)
    if encoding is not None and num_files:
        which = "" if num_files == 1 and num_recoded else f"{num_recoded:,} of {plural(num_files, 'file')} "
        utf8 = f", {num_files - num_recoded:,} as UTF-8, which they are" if num_recoded < num_files else ""
        logger.info(f"{which}read as {encoding}{utf8}")
    nouns = [plural(count, noun) for noun in dict.fromkeys(OFFICE_NOUNS.values()) if (count := counts.pop(noun, 0))]
    if nouns:
        is_pdf = all(OFFICE_NOUNS[".pdf"] in noun for noun in nouns)
        is_mail = all(any(OFFICE_NOUNS[suffix] in noun for suffix in MAIL_SUFFIXES) for noun in nouns)
        left_out = "running heads and page numbers" if is_pdf else "formatting, notes and comments"
        left_out = "attachments and all headers but the subject" if is_mail else left_out
        num_lines = plural(counts.pop("lines"), "line")
        logger.info(f"{', '.join(nouns)} read as text ({num_lines}), without {left_out}")
    if num_cues := counts.pop("cues", 0):
        left_out = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count)
        logger.info(f"{num_cues:,} cues of subtitles read as text, without numbers and times{left_out and f', {left_out}'}")


def needs_copy(path: Path) -> bool:
    """Return whether a file is encoded as a copy whatever the options are: subtitles, documents, archives of several texts."""
    return inner_suffix(path) in SUBTITLE_SUFFIXES or is_office_file(path) or _is_unpacked(path)


def _is_unpacked(path: Path) -> bool:
    """Return whether the files in a zip archive are copied: several, or one that is no plain text."""
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    names = archive_names(path)
    return len(names) > 1 or any(inner_suffix(Path(name)) in SUBTITLE_SUFFIXES or has_office_suffix(name) for name in names)


def accepted_heads(tokens: str) -> Callable[[bytes], bool]:
    """Return what says of the first bytes of a file, in a folder or archive, whether it is one to read as these tokens."""
    tokenizer_type = tokenizer_class(tokens)
    if issubclass(tokenizer_type, RecordTokenizer):
        return tokenizer_type.accepts_head
    return is_text_head


def _unpacked(paths: Sequence[Path], folder: Path, tokens: str) -> list[Path]:
    """Return files, with copies of the texts in place of an archive that has several, which are logged."""
    unpacked, accepts = list[Path](), accepted_heads(tokens)
    if tokenizer_class(tokens).reads_bytes:
        accepts = _accepts_all
    try:
        for path in paths:
            if _is_unpacked(path):
                copies, note = unpack_texts(path, folder, accepts)
                unpacked += copies
                logger.info(note)
            else:
                unpacked.append(path)
    except BaseException:
        remove_copies(unpacked, folder)
        raise
    return unpacked


def _accepts_all(head: bytes) -> bool:
    return True


def _office_lines(path: Path, counts: Counter[str]) -> Iterator[bytes]:
    name = str(display_name(path))
    counts[OFFICE_NOUNS[Path(name).suffix.lower()]] += 1
    for line in office_text(path, name):
        counts["lines"] += 1
        yield line.encode("utf-8", "replace") + b"\n"


def _subtitle_lines(path: Path, suffix_of: Path, counts: Counter[str]) -> Iterator[bytes]:
    lines = (line.decode("utf-8", "surrogatepass") for line in read_lines(path, False))
    for line in subtitle_text(path, suffix_of, lines, counts):
        yield line.encode("utf-8", "surrogatepass") + b"\n"


def _apply_line_format(paths: list[Path], line_format: LineFormat, as_bytes: bool, folder: Path) -> None:
    """Put masked copies in the place of `paths`, one for each, or one for all of them where lines are grouped by session."""
    old = list(paths)
    try:
        if line_format.group_by is not None:
            paths[:] = [group_lines(old, line_format, as_bytes, folder)]
        else:
            mask_lines(paths, line_format, as_bytes, folder)
    finally:
        remove_copies((path for path in old if path not in paths), folder)


def with_records(options: DataOptions) -> DataOptions:
    """Return options in which the records of a file are its documents, if the tokens are those of such a file.

    Raises `UsageError` for documents that do not go with the tokens.
    """
    tokenizer_type = tokenizer_class(options.tokens)
    noun = tokenizer_type.noun if issubclass(tokenizer_type, RecordTokenizer) else None
    if options.documents == "record" and noun is None:
        raise UsageError(
            f"--documents record is for --tokens fasta, abc and midi, and they are {options.tokens:.99}: leave it out."
        )
    if noun is None or options.documents in ("cell", "record"):
        return options
    if options.documents != "none":
        raise UsageError(
            f"--documents {options.documents} does not go with --tokens {options.tokens}, where each {noun} is "
            "a document: leave it out."
        )
    return dataclasses.replace(options, documents="record")


def _records(options: DataOptions, training: bool, name: str, counts: Counter[str], path: Path) -> Iterator[bytes]:
    tokenizer_type, argument = _record_tokenizer(options), options.tokens.partition(":")[2]
    tokenizer_type.rule(argument)  # refuses an argument that it does not have
    return tokenizer_type.read_file(argument, path, name, training, counts)


def _record_tokenizer(options: DataOptions) -> type[RecordTokenizer]:
    return cast(type[RecordTokenizer], tokenizer_class(options.tokens))


def _replace(paths: list[Path], position: int, folder: Path, convert: Callable[[Path], Iterable[bytes]]) -> None:
    old = paths[position]
    paths[position] = make_copy(old, convert(old), folder)
    remove_copies([old], folder)


def remove_copies(paths: Iterable[Path], folder: Path) -> None:
    """Remove those of `paths` that are copies in `folder`."""
    for path in paths:
        if is_temporary_copy(path, folder):
            path.unlink(missing_ok=True)


def write_documents(name: str, documents: Iterable[str], folder: Path) -> Path:
    """Write documents, which may have line ends, to a file in `folder` with `name` in its name, and return it."""
    return make_copy(Path(name), _join_documents(document.encode("utf-8", "replace") for document in documents), folder)


def _join_documents(documents: Iterable[bytes]) -> Iterator[bytes]:
    """Yield documents with a separator after each; a separator in one becomes a space, which is counted."""
    num_replaced = 0
    for document in documents:
        num_replaced += document.count(SEPARATOR_BYTE)
        yield document.replace(SEPARATOR_BYTE, b" ") + SEPARATOR_BYTE
    if num_replaced:
        logger.info(f"{num_replaced:,} record separators (U+001E) in the documents became spaces")


def _paragraphs(path: Path, as_bytes: bool) -> Iterator[bytes]:
    """Yield the parts of a file between blank lines, without the line end after each."""
    lines: list[bytes] = []
    for line in read_lines(path, as_bytes):
        if line.strip():
            lines.append(line)
        elif lines:
            yield b"\n".join(lines)
            lines = []
    if lines:
        yield b"\n".join(lines)
