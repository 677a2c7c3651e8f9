"""Files as bytes, decompressed according to their suffix, in chunks; damage becomes one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, cast

import zstandard

from unrolled.atomic_io import storage_error
from unrolled.errors import DataError, UnrolledError, first_line

CHUNK_BYTES = 1 << 22
"""Bytes read at once: large enough to be fast, small compared with the memory of a small machine."""

_STREAMS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda file: gzip.open(file, "rb"),
    ".bz2": lambda file: bz2.open(file, "rb"),
    ".xz": lambda file: lzma.open(file, "rb"),
    ".zst": lambda file: io.BufferedReader(_ZstdReader(open(file, "rb") if isinstance(file, Path) else file)),
}
"""What opens a compressed file, given its path, or the file."""

_OPENERS: dict[str, Callable[[Path], Any]] = {**_STREAMS, ".zip": lambda path: _open_zip(path)}
_DOCUMENTATION = re.compile(
    r"(readme|read[_ -]me|licen[cs]es?|copying|copyright|citation|changelog|notice|authors|metadata|datapackage|codebook|index)"
    r"([^a-z.][^.]*)?(\.(txt|md|rst|html?|pdf|docx?|rtf|json|bib))?|.*\.(md|names|pdf|html?|url|md5|sha256)",
    re.IGNORECASE,
)
"""Names of files that describe those beside them in an archive."""

DECOMPRESSION_ERRORS = (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""Raised while a damaged compressed file is read. bz2 raises an `OSError` without a number instead."""


DAMAGED_NAME = "the name of a file in it is damaged"


def is_compressed(path: Path) -> bool:
    """Return whether the suffix of a file is that of a compressed one."""
    return path.suffix.lower() in _OPENERS


def inner_suffix(path: PurePath) -> str:
    """Return the suffix of a file in small letters, without that of its compression.

    Example:
        >>> inner_suffix(Path("words.CSV.gz")), inner_suffix(Path("words.txt"))
        ('.csv', '.txt')
    """
    return (path.with_suffix("") if path.suffix.lower() in _OPENERS else path).suffix.lower()


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading its bytes, decompressed according to its suffix."""
    opener = _OPENERS.get(path.suffix.lower())
    return cast(IO[bytes], opener(path)) if opener else open(path, "rb")


class ZipArchive(zipfile.ZipFile):
    """A zip archive of which a damaged list of files is a `BadZipFile`, whatever is damaged in it."""

    def __init__(self, file: Path | IO[bytes]) -> None:
        try:
            super().__init__(file)
        except (ValueError, NotImplementedError) as error:
            raise zipfile.BadZipFile(DAMAGED_NAME if isinstance(error, UnicodeError) else str(error)) from error

    def open(self, *arguments: Any, **settings: Any) -> IO[bytes]:
        try:
            return super().open(*arguments, **settings)
        except UnicodeDecodeError as error:
            raise zipfile.BadZipFile(DAMAGED_NAME) from error


def member_names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the files in an archive, sorted, without hidden ones and what macOS adds."""
    names = {name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")}
    return sorted(name for name in names if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Return whether a path within a folder or an archive has a part that begins with a point."""
    return any(part.startswith(".") and part != ".." for part in PurePosixPath(name).parts)


def without_documentation(names: list[str]) -> list[str]:
    """Return the names of files without those that describe the others, such as README.md; all if there are no others.

    Example:
        >>> without_documentation(["LICENSE", "data/train.csv", "data/readme.txt"]), without_documentation(["README"])
        (['data/train.csv'], ['README'])
        >>> without_documentation(["authors_2020.csv", "books.csv"])
        ['authors_2020.csv', 'books.csv']
    """
    return [name for name in names if _DOCUMENTATION.fullmatch(PurePosixPath(name).name) is None] or names


def _open_zip(path: Path) -> IO[bytes]:
    """Open the only file in a zip archive, beside those that describe it; decompressed, if it is compressed itself."""
    with ZipArchive(path) as archive:  # what `open` returned can be read after the archive is closed
        members = without_documentation(member_names(archive))
        if len(members) != 1:
            raise DataError(f"{path} is a zip archive of {len(members):,} files, and one is expected: unzip it.")
        try:
            member = archive.open(members[0])
        except (RuntimeError, NotImplementedError) as error:  # a password is needed, or a rare kind of compression
            raise DataError(f"{path} cannot be unzipped here: {error}.") from error
    suffix = PurePosixPath(members[0]).suffix.lower()
    if suffix == ".zip":
        raise DataError(f"{path} has a zip archive in it, {members[0]}: unzip it.")
    opener = _STREAMS.get(suffix)
    return cast(IO[bytes], opener(member)) if opener else member


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
        return DataError(f"{path} is damaged or not of the format of its suffix: {first_line(error)}.")
    return storage_error(error, path, "read")
