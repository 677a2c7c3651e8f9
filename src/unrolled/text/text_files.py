"""Input files (also folders, standard input and compressed files), read in chunks of code points or bytes.

Text is UTF-8. A byte order mark at the start of a file is dropped and line ends become `\\n`; both are counted. A file that
is not text is refused with the offset of the first wrong byte. A chunk is an array of bytes (plain ASCII, or `--tokens bytes`)
or of code points; no function here holds more than one chunk of a file in memory.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import fnmatch
import glob
import gzip
import io
import itertools
import lzma
import os
import shlex
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import zstandard

from unrolled.atomic_io import make_dir, storage_error
from unrolled.datasets.builtin import builtin_corpus
from unrolled.datasets.stdlib import PREFIX
from unrolled.errors import DataError, StorageError, UnrolledError, did_you_mean

CHUNK_BYTES = 1 << 22
"""Bytes read at once: large enough to be fast, small compared with the memory of a small machine."""

Chunk = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]

_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": lambda path: gzip.open(path, "rb"),
    ".bz2": lambda path: bz2.open(path, "rb"),
    ".xz": lambda path: lzma.open(path, "rb"),
    ".zip": lambda path: _open_zip(path),
    ".zst": lambda path: io.BufferedReader(_ZstdReader(open(path, "rb"))),
}
_STDIN_PREFIX = "unrolled-stdin-"
LINE_ENDS_NOTE = "files whose line ends became \\n"
DECOMPRESSION_ERRORS = (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""Raised while a damaged compressed file is read. bz2 raises an `OSError` without a number instead."""


def resolve_inputs(inputs: Sequence[str], pattern: str = "*", stdin_folder: Path | None = None) -> list[Path]:
    """Return the files that `inputs` name, in order: files, folders (recursively, sorted), `-`, `builtin:NAME`.

    `pattern` selects files of folders. Standard input is copied to a file in `stdin_folder`, since a text is read twice, and
    only when all other inputs exist. The caller removes that file (see `is_stdin_buffer`).
    """
    resolved = [[] if name == "-" else _resolve_input(name, pattern) for name in inputs]
    stdin_folder = stdin_folder or Path(tempfile.gettempdir())
    return [path for paths in resolved for path in paths or [_buffer_stdin(stdin_folder)]]


def _resolve_input(name: str, pattern: str) -> list[Path]:
    if name.startswith(PREFIX):
        return builtin_corpus(name.removeprefix(PREFIX))
    if os.path.isdir(name):
        return _text_files_in(Path(name), pattern)
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
        with contextlib.suppress(OSError):
            raise DataError(f"No such file: {name or repr(name)}{did_you_mean(path.name, os.listdir(folder)) or '.'}")
        raise DataError(f"No such file: {name or repr(name)}.")
    if not os.access(path, os.R_OK):
        raise StorageError(f"Cannot read {path}: permission denied.")
    if not path.is_file():
        raise DataError(f"{path} is a pipe or a device, and text is read more than once. Try: cat {path} | unrolled train -")
    return path


def _text_files_in(folder: Path, pattern: str) -> list[Path]:
    # Run folders of this program are skipped: what it wrote itself is not input.
    run_folders = {path.parent for path in folder.rglob("config.json") if (path.parent / "checkpoints").is_dir()}
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not _is_hidden(path.relative_to(folder))
        and not run_folders.intersection(path.parents)
        and fnmatch.fnmatch(path.name, pattern)
    )
    texts = [path for path in files if _looks_like_text(path)]
    if not texts:
        raise DataError(f"The folder {folder} has no text file that matches '{pattern}' ({len(files)} files were examined).")
    return texts


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _looks_like_text(path: Path) -> bool:
    try:
        with open_bytes(path) as file:
            first_bytes = file.read(8192)
    except (OSError, DataError, *DECOMPRESSION_ERRORS):
        return False
    return bool(first_bytes) and b"\0" not in first_bytes


def _buffer_stdin(folder: Path) -> Path:
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError("'-' reads standard input, and nothing is piped into it. Try: cat book.txt | unrolled train -")
    make_dir(folder)
    try:
        descriptor, name = tempfile.mkstemp(prefix=_STDIN_PREFIX, dir=folder)
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


def is_stdin_buffer(path: Path, folder: Path) -> bool:
    """Return whether `resolve_inputs` made this file in `folder` for standard input."""
    return path.parent == folder and path.name.startswith(_STDIN_PREFIX)


def display_name(path: Path) -> str:
    """Return the name of a file in messages."""
    return "Standard input" if path.name.startswith(_STDIN_PREFIX) else str(path)


def is_compressed(path: Path) -> bool:
    """Return whether the suffix of a file is that of a compressed one."""
    return path.suffix.lower() in _OPENERS


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading its bytes, decompressed according to its suffix."""
    opener = _OPENERS.get(path.suffix.lower())
    return cast(IO[bytes], opener(path)) if opener else open(path, "rb")


def _open_zip(path: Path) -> IO[bytes]:
    """Open the only file in a zip archive."""
    with zipfile.ZipFile(path) as archive:  # what `open` returned can be read after the archive is closed
        members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(members) != 1:
            raise DataError(f"{path} is a zip archive of {len(members):,} files, and one is expected: unzip it.")
        try:
            return archive.open(members[0])
        except (RuntimeError, NotImplementedError) as error:  # a password is needed, or a rare kind of compression
            raise DataError(f"{path} cannot be unzipped here: {error}.") from error


class _ZstdReader(io.RawIOBase):
    """The decompressed bytes of all frames of a .zst file. The reader of zstandard does not notice a truncated file."""

    READ_BYTES = 1024
    """Compressed bytes read at once: they decompress to 32 MB at most, whatever the file, and larger steps are no faster."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: Any = None
        self._compressed = self._decompressed = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._decompressed:
            compressed = self._compressed or self._file.read(self.READ_BYTES)
            if not compressed and self._frame:
                raise EOFError("Compressed file ended before the end of its last frame")
            if not compressed:
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._decompressed, self._compressed = self._frame.decompress(compressed), self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        count = min(len(buffer), len(self._decompressed))
        buffer[:count] = self._decompressed[:count]
        self._decompressed = self._decompressed[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def read_bytes(path: Path, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield the (decompressed) bytes of a file in chunks. Raises `DataError` for a damaged file, `StorageError` for others.

    A file that is not compressed may be read in part, by byte offsets; its chunks end where those of the full file end.
    """
    try:
        with open_bytes(path) as file:
            if start:
                file.seek(start)
            position = start
            end = sys.maxsize if stop is None else stop
            while chunk := file.read(min(CHUNK_BYTES - position % CHUNK_BYTES, end - position)):
                position += len(chunk)
                yield chunk
    except (OSError, *DECOMPRESSION_ERRORS) as error:
        raise read_error(error, path) from error


def read_error(error: Exception, path: Path) -> UnrolledError:
    """Return the error to raise for one that occurred while `path` was read: damage of a compressed file, or of the disk."""
    if isinstance(error, DECOMPRESSION_ERRORS) or not isinstance(error, OSError) or (is_compressed(path) and not error.errno):
        return DataError(f"{path} is damaged or not of the format of its suffix: {str(error) or type(error).__name__}.")
    return storage_error(error, path, "read")


def read_code_points(path: Path, notes: dict[str, int], start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
    """Yield the code points of a UTF-8 file, or of a part of it, in chunks; count in `notes` what was normalised.

    Raises `DataError` with the offset, in the full file, of the first byte that is not UTF-8, or is NUL.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = start
    for chunk in read_bytes(path, start, stop):
        is_ascii = chunk.isascii() and b"\r" not in chunk and not decoder.getstate()[0] and not newlines.getstate()[1]
        if offset == 0:
            _reject_other_encodings(path, chunk)
        if (nul := chunk.find(b"\0")) >= 0:
            raise DataError(
                f"{display_name(path)} has a NUL byte at offset {offset + nul:,}: it is not UTF-8 text (UTF-16 perhaps?). "
                "To learn any bytes: --tokens bytes"
            )
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
        raise DataError(f"{encoding_error(path)}, or learn its bytes as they are: --tokens bytes") from error
    if offset == 0 and text.startswith("\ufeff"):
        text = text[1:]
        notes["byte order marks dropped"] = notes.get("byte order marks dropped", 0) + 1
    text = str(newlines.decode(text, final))
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _reject_other_encodings(path: Path, chunk: bytes) -> None:
    if (name := _marked_encoding(chunk)) is not None:
        raise DataError(f"{display_name(path)} is {name}, and UTF-8 is expected. {_conversion_hint(path, chunk)}.")


def _marked_encoding(data: bytes) -> str | None:
    """Return the encoding that a byte order mark names, other than UTF-8."""
    marks = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))
    return next((name for mark, name in marks if data.startswith(mark)), None)


def encoding_error(path: Path) -> str:
    """Return what is wrong with a file that is not UTF-8: its first wrong byte with its line, and how to convert the file."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line = 0, 1
    for chunk in itertools.chain(read_bytes(path), [b""]):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            bad_offset, byte = offset - pending + error.start, error.object[error.start]
            place = f"byte 0x{byte:02x} at offset {bad_offset:,}, in line {line:,}"
            return f"{display_name(path)} is not UTF-8: {place}. {_conversion_hint(path, error.object)}"
        offset, line = offset + len(chunk), line + chunk.count(b"\n")
    return f"{display_name(path)} changed while it was read"


def _conversion_hint(path: Path, data: bytes) -> str:
    """Return a sentence with the command that makes a file UTF-8, and the encoding that its bytes `data` most likely have.

    Windows-1252 is likely if most bytes above 127 stand alone, as accents and quotation marks between letters do; in the
    encodings of Chinese, Japanese or Russian they stand together, and which one it is cannot be told.
    """
    encoding = _marked_encoding(data)
    if encoding is None:
        high = np.frombuffer(data[:CHUNK_BYTES], dtype=np.uint8) > 127
        alone = high & ~np.append(high[1:], False) & ~np.append(False, high[:-1])
        encoding = "WINDOWS-1252" if 2 * int(alone.sum()) > int(high.sum()) else None
    is_file = not (is_compressed(path) or path.name.startswith(_STDIN_PREFIX))
    source, target = (shlex.quote(str(path)), shlex.quote(f"utf8-{path.name}")) if is_file else ("FILE", "NEW")
    likely = "" if encoding is None else f"It looks like {encoding}. "
    return f"{likely}Convert it (iconv -f {encoding or 'ENCODING'} -t UTF-8 {source} > {target})"


def read_chunks(path: Path, as_bytes: bool, notes: dict[str, int], start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
    """Yield a file, or a part of it, in chunks: of bytes as they are, or as `read_code_points`."""
    if not as_bytes:
        yield from read_code_points(path, notes, start, stop)
        return
    for chunk in read_bytes(path, start, stop):
        yield np.frombuffer(chunk, dtype=np.uint8)
