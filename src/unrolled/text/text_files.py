"""Input files (also folders, standard input and compressed files), read in chunks of code points or bytes.

Text is UTF-8. A byte order mark at the start of a file is dropped and line ends become `\\n`; both are counted. A file that
is not text is refused with the offset of the first wrong byte. A chunk is an array of bytes (plain ASCII, or `--tokens bytes`)
or of code points; no function here holds more than one chunk of a file in memory.
"""

from __future__ import annotations

import codecs
import contextlib
import fnmatch
import glob
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unrolled.atomic_io import make_dir, storage_error
from unrolled.datasets.builtin import builtin_corpus
from unrolled.datasets.stdlib import PREFIX
from unrolled.display import agree, plural
from unrolled.errors import DataError, StorageError, did_you_mean_file
from unrolled.text.compressed_files import CHUNK_BYTES, DECOMPRESSION_ERRORS, open_bytes, read_bytes
from unrolled.text.encoding_guess import encoded_twice
from unrolled.text.encodings import (
    BUFFER_PREFIX,
    COPY_PREFIX,
    SIGNATURE_BYTES,
    EncodingError,
    conversion_hint,
    display_name,
    encoding_error,
    is_office_file,
    is_text_head,
    marked_encoding_error,
    name_to_type,
)
from unrolled.text.file_signatures import describe_binary
from unrolled.text.folder_files import files_in

logger = logging.getLogger(__name__)

Chunk = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]

MAX_SHOWN_NAME = 300
LINE_ENDS_NOTE = "files whose line ends became \\n"
HTML_NOTE = "files of HTML, read with the tags"
HTML_BYTES = 64
TWICE_NOTE = "files with UTF-8 that was read as Windows-1252 and written again, as \u00c3\u00a9 for \u00e9"
MIN_TWICE = 3
ODD_SIGNS = (
    ("\ufeff", "byte order marks inside of files, as joining them leaves, learned as characters: remove them"),
    ("\u00ad", "hyphens that cannot be seen (U+00AD), learned as characters: remove them if they mean nothing"),
    ("\ufffd", "characters that another program could not read (U+FFFD): make the file again"),
)
"""Characters that are most likely unwanted in a text, each with the message about it."""

ESCAPES_NOTE = "colors of a terminal, learned as text: remove them (sed 's/\\x1b\\[[0-9;]*m//g')"

GUTENBERG_NOTE = "files of Project Gutenberg, whose license, before *** START and after *** END, is learned too: remove it"
NOTEBOOK_NOTE = "notebooks, learned as JSON, with outputs (jupyter nbconvert --to script writes the code)"

GUTENBERG_MARK = b"*** START OF TH"

MAX_LEFT_OUT_NAMES = 5
"""Files of a folder that are no text and are named; a folder of code has hundreds of compiled ones."""


def resolve_inputs(
    inputs: Sequence[str], pattern: str = "*", stdin_folder: Path | None = None, accepts: Callable[[bytes], bool] = is_text_head
) -> list[Path]:
    """Return the files that `inputs` name, in order: files, folders (recursively, sorted), `-`, `builtin:NAME`.

    `pattern` selects files of folders, and `accepts` says of their first bytes whether they are read. Standard input is
    copied to a file in `stdin_folder`, since a text is read twice, and only when all other inputs exist. The caller removes
    that file (see `is_temporary_copy`).
    """
    resolved = [[] if name == "-" else _resolve_input(name, pattern, accepts) for name in inputs]
    stdin_folder = stdin_folder or Path(tempfile.gettempdir())
    return [path for paths in resolved for path in paths or [buffer_stdin(stdin_folder)]]


def _resolve_input(name: str, pattern: str, accepts: Callable[[bytes], bool]) -> list[Path]:
    if name.startswith(PREFIX):
        return builtin_corpus(name.removeprefix(PREFIX))
    if os.path.isdir(name):
        return _text_files_in(Path(name), pattern, accepts)
    if glob.has_magic(name) and not os.path.exists(name):
        matches = [Path(path) for path in sorted(glob.glob(name, recursive=True)) if os.path.isfile(path)]
        if not matches:
            raise DataError(f"No file matches {name}.")
        return matches
    return [existing_file(name)]


def existing_file(name: str) -> Path:
    """Return the path of a readable file. Raises `DataError`, with the nearest name, or `StorageError`."""
    path = Path(name)
    if not os.path.exists(name):  # Path.exists raises for a long name, and takes an empty one for the working folder
        folder = path.parent if os.path.isdir(path.parent) else Path()
        if len(name) > MAX_SHOWN_NAME or "\n" in name:
            shown = f"{name!r}" if len(name) <= 40 else f"{name[:40]!r}... ({len(name):,} characters)"
            raise DataError(f"No such file: {shown}.")
        with contextlib.suppress(OSError):
            is_text = " " in name and (len(path.suffix) < 2 or " " in path.suffix)  # not "my book.txt"
            way_out = ": the name of a file is expected, not a text." if is_text else "."
            raise DataError(f"No such file: {name or repr(name)}{did_you_mean_file(path.name, os.listdir(folder)) or way_out}")
        raise DataError(f"No such file: {name or repr(name)}.")
    if not os.access(path, os.R_OK):
        raise StorageError(f"Cannot read {path}: permission denied.")
    if path.is_dir():
        raise DataError(f"{path} is a folder, and a file is expected: name a file in it.")
    if not path.is_file():
        raise DataError(f"{path} is a pipe or a device, and text is read more than once: give it on standard input, as '-'.")
    return path


def _text_files_in(folder: Path, pattern: str, accepts: Callable[[bytes], bool]) -> list[Path]:
    found = files_in(folder)
    files = [path for path in found.files if fnmatch.fnmatch(path.name, pattern)]
    texts = [path for path in files if accepts(_head(path)) or (accepts is is_text_head and is_office_file(path))]
    if texts and (left_out := sorted(set(files) - set(texts))):
        number, kind = len(left_out), "empty or no text" if accepts is is_text_head else "of another kind"
        names = ", ".join(str(path.relative_to(folder)) for path in left_out[:MAX_LEFT_OUT_NAMES])
        more = f" and {number - MAX_LEFT_OUT_NAMES:,} more" if number > MAX_LEFT_OUT_NAMES else ""
        logger.info(f"{folder}: {plural(number, 'file')} left out that {agree(number, 'are')} {kind}: {names}{more}")
    if texts and found.note:
        logger.info(found.note)
    if not texts:
        kind = "text file" if accepts is is_text_head else "file of the kind that --tokens reads"
        examined = f"{plural(len(files), 'file')} {agree(len(files), 'were')} examined"
        raise DataError(
            f"The folder {folder} has no {kind} that matches '{pattern}' ({examined}).{found.note and ' ' + found.note}"
        )
    return texts


def looks_like_text(path: Path) -> bool:
    """Return whether a file, decompressed, begins as a text."""
    return is_text_head(_head(path))


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, decompressed; none of one that cannot be read."""
    try:
        with open_bytes(path) as file:
            return file.read(8192)
    except (OSError, DataError, *DECOMPRESSION_ERRORS):
        return b""


def buffer_stdin(folder: Path) -> Path:
    """Copy standard input to a file in `folder`, and return it. Raises `DataError` if nothing is piped into it."""
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError("'-' reads standard input, and nothing is piped into it. Try: cat book.txt | unrolled train -")
    make_dir(folder)
    try:
        descriptor, name = tempfile.mkstemp(prefix=BUFFER_PREFIX, dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                while chunk := sys.stdin.buffer.read(CHUNK_BYTES):
                    file.write(chunk)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise storage_error(error, folder, "keep standard input in") from error
    return Path(name)


def is_temporary_copy(path: Path, folder: Path) -> bool:
    """Return whether this file in `folder` is a copy, of standard input or of a text that had to be recoded."""
    return path.parent == folder and path.name.startswith((BUFFER_PREFIX, COPY_PREFIX))


def read_code_points(path: Path, notes: dict[str, int], start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
    """Yield the code points of a UTF-8 file, or of a part of it, in chunks; count in `notes` what was normalized.

    Raises `DataError` with the offset, in the full file, of the first byte that is not UTF-8, or is NUL.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = start
    for chunk in read_bytes(path, start, stop):
        is_ascii = chunk.isascii() and b"\r" not in chunk and not decoder.getstate()[0] and not newlines.getstate()[1]
        if offset == 0:
            _check_beginning(path, chunk, notes)
        if (nul := chunk.find(b"\0")) >= 0:
            hint = conversion_hint(path, chunk, has_nul=True)
            raise DataError(
                f"{display_name(path)} has a NUL byte at offset {offset + nul:,}: it is not UTF-8 text. {hint}. To learn any "
                "bytes: unrolled train --tokens bytes"
            )
        if (num_escapes := chunk.count(b"\x1b")) > 0:
            notes[ESCAPES_NOTE] = notes.get(ESCAPES_NOTE, 0) + num_escapes
        if is_ascii:
            yield np.frombuffer(chunk, dtype=np.uint8)
        else:
            yield _decode_chunk(path, chunk, offset, decoder, newlines, notes)
        offset += len(chunk)
    yield _decode_chunk(path, b"", offset, decoder, newlines, notes, final=True)
    if newlines.newlines and newlines.newlines != "\n":
        notes[LINE_ENDS_NOTE] = notes.get(LINE_ENDS_NOTE, 0) + 1


def _decode_chunk(
    path: Path,
    chunk: bytes,
    offset: int,
    decoder: codecs.IncrementalDecoder,
    newlines: io.IncrementalNewlineDecoder,
    notes: dict[str, int],
    final: bool = False,
) -> Chunk:
    try:
        text = decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise EncodingError(f"{encoding_error(path)}, or learn its bytes as they are: unrolled train --tokens bytes") from error
    if offset == 0 and text.startswith("\ufeff"):
        text = text[1:]
        notes["byte order marks dropped"] = notes.get("byte order marks dropped", 0) + 1
    for sign, note in ODD_SIGNS:
        if sign in text:
            notes[note] = notes.get(note, 0) + text.count(sign)
    text = str(newlines.decode(text, final))
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _check_beginning(path: Path, chunk: bytes, notes: dict[str, int]) -> None:
    """Raise `EncodingError` for a file that is no text or not UTF-8 by its first bytes; count pages of HTML in `notes`."""
    if (error := marked_encoding_error(path, chunk)) is not None:
        raise error
    if (found := describe_binary(chunk[:SIGNATURE_BYTES], name_to_type(path))) is not None:
        raise EncodingError(
            f"{display_name(path)} is not text: it is {found}. To learn any bytes: unrolled train --tokens bytes"
        )
    if chunk[:HTML_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        notes[HTML_NOTE] = notes.get(HTML_NOTE, 0) + 1
    if GUTENBERG_MARK in chunk[: 4 * SIGNATURE_BYTES]:
        notes[GUTENBERG_NOTE] = notes.get(GUTENBERG_NOTE, 0) + 1
    if path.suffix.lower() == ".ipynb":
        notes[NOTEBOOK_NOTE] = notes.get(NOTEBOOK_NOTE, 0) + 1
    words = chunk[:SIGNATURE_BYTES].decode("utf-8", "replace").split()
    if sum(bool(encoded_twice(word)) for word in words) >= MIN_TWICE:
        notes[TWICE_NOTE] = notes.get(TWICE_NOTE, 0) + 1


def read_chunks(path: Path, as_bytes: bool, notes: dict[str, int], start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
    """Yield a file, or a part of it, in chunks: of bytes as they are, or as `read_code_points`."""
    if not as_bytes:
        yield from read_code_points(path, notes, start, stop)
        return
    for chunk in read_bytes(path, start, stop):
        yield np.frombuffer(chunk, dtype=np.uint8)


def read_lines(path: Path, as_bytes: bool) -> Iterator[bytes]:
    """Yield the lines of a file without their ends, in UTF-8 or as bytes; the last one may be empty."""
    rest = b""
    for chunk in read_chunks(path, as_bytes, {}):
        data = chunk.tobytes() if chunk.dtype == np.uint8 else chunk.tobytes().decode("utf-32-le").encode("utf-8")
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    yield rest
