"""Zip archives of several texts: their names, and copies of the texts in them."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from unrolled.display import agree, plural
from unrolled.errors import DataError
from unrolled.text.compressed_files import (
    CHUNK_BYTES,
    DECOMPRESSION_ERRORS,
    ZipArchive,
    member_names,
    read_error,
    without_documentation,
)
from unrolled.text.encodings import is_text_head, make_copy
from unrolled.text.file_signatures import is_office_head

HEAD_BYTES = 8192


def archive_names(path: Path) -> list[str]:
    """Return the names of the files in a zip archive, sorted, without hidden ones. Raises `DataError` if it is damaged."""
    try:
        with ZipArchive(path) as archive:
            return member_names(archive)
    except (OSError, *DECOMPRESSION_ERRORS) as error:
        raise read_error(error, path) from error


def contents(path: Path) -> list[str]:
    """Return the names of the files in a zip archive, without those that describe the others."""
    return without_documentation(archive_names(path))


def documentation_note(path: Path) -> str:
    """Return a sentence about the files that are left out beside the only one in an archive, or an empty one."""
    if not is_archive_of_several(path) or len(names := contents(path)) > 1:
        return ""
    return f"{path}: {names[0]} is read; left out: {', '.join(sorted({*archive_names(path)} - {*names})):.200}"


def is_archive_of_several(path: Path) -> bool:
    """Return whether a file is a zip archive with more than one file in it."""
    return path.suffix.lower() == ".zip" and path.is_file() and len(archive_names(path)) > 1


def read_member(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """Return the first bytes of a file in an archive, at most `size`. Raises `DataError` if it cannot be read."""
    try:
        with archive.open(name) as member:
            return member.read(size)
    except (RuntimeError, NotImplementedError) as error:  # a password is needed, or a rare kind of compression
        raise DataError(f"{name} in {archive.filename} cannot be unzipped here: {error}.") from error
    except (OSError, *DECOMPRESSION_ERRORS) as error:
        raise read_error(error, Path(str(archive.filename))) from error


def text_members(archive: zipfile.ZipFile, names: list[str], accepts: Callable[[bytes], bool] = is_text_head) -> list[str]:
    """Return those of the files in an archive that are texts or documents, or what `accepts` says of their first bytes."""
    heads = ((name, read_member(archive, name, HEAD_BYTES)) for name in names)
    return [name for name, head in heads if accepts(head) or (accepts is is_text_head and is_office_head(name, head))]


def unpack_texts(path: Path, folder: Path, accepts: Callable[[bytes], bool]) -> tuple[list[Path], str]:
    """Copy the files in an archive whose first bytes are accepted to files in `folder`.

    Returns:
        The copies, in the order of their names, and a sentence about what was read and left out.

    Raises:
        DataError: The archive is damaged, has no text, or holds more than there is space for.
    """
    names, copies = archive_names(path), list[Path]()
    with ZipArchive(path) as archive:
        chosen = text_members(archive, names, accepts)
        if not chosen:
            kind = "text" if accepts is is_text_head else "file of the kind that --tokens reads"
            raise DataError(f"{path} has no {kind} among its {plural(len(names), 'file')}.")
        size = sum(archive.getinfo(name).file_size for name in chosen)
        if size > shutil.disk_usage(folder if folder.is_dir() else Path()).free // 2:
            raise DataError(f"{path} holds {size:,} bytes, more than half of the free space in {folder}: unzip a part of it.")
        try:
            for name in chosen:
                copies.append(make_copy(Path(name), _chunks(archive, name), folder))
        except BaseException:
            for copy in copies:
                copy.unlink(missing_ok=True)
            raise
    kind = "empty or no text" if accepts is is_text_head else "of another kind"
    number = len(names) - len(chosen)
    left_out = f", {plural(number, 'file')} left out that {agree(number, 'are')} {kind}" if number else ""
    return copies, f"{path}: {plural(len(chosen), 'file')} read in the order of their names{left_out}"


def _chunks(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    try:
        with archive.open(name) as member:
            while chunk := member.read(CHUNK_BYTES):
                yield chunk
    except (OSError, *DECOMPRESSION_ERRORS) as error:
        raise read_error(error, Path(f"{archive.filename}/{name}")) from error
