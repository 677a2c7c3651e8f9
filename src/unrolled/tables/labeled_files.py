"""A folder, or a zip archive, of files with one folder per label, as a table: `reviews/positive/1.txt`.

A row is a file: `text` is what it holds (of a document, its plain text), `label` the name of its folder, `file` its path. Of
files that are no text, such as images, there are `label` and `file` only. In a folder without folders, `label` is missing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from unrolled.display import agree, plural
from unrolled.errors import DataError
from unrolled.tables.table_format import MAX_CHARS, NumberedRows, ReadErrors
from unrolled.text.archives import archive_names, read_member, text_members
from unrolled.text.compressed_files import ZipArchive, open_bytes
from unrolled.text.encodings import EncodingError, conversion_hint, file_encoding, is_office_file, marked_encoding_error
from unrolled.text.file_signatures import is_office_head
from unrolled.text.folder_files import files_in
from unrolled.text.office_files import office_text
from unrolled.text.text_files import looks_like_text

TEXT, LABEL, FILE = "text", "label", "file"


@dataclass(frozen=True)
class LabeledFiles:
    """The files of a folder or an archive that become rows.

    `names` are their paths within it, sorted; `prefix` is what they begin with and is no label; `notes` say what is left out.
    """

    root: Path
    names: tuple[str, ...]
    columns: tuple[str, ...]
    prefix: str = ""
    encoding: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_archive(self) -> bool:
        """Whether it is a zip archive."""
        return self.root.is_file()

    @property
    def paths(self) -> list[Path]:
        """The files that are read."""
        return [self.root] if self.is_archive else [self.root / name for name in self.names]

    def rows(self) -> NumberedRows:
        """Yield one row per file, with its number."""
        archive = None
        with ReadErrors(self.root):
            archive = ZipArchive(self.root) if self.is_archive else None
        try:
            for number, name in enumerate(self.names, 1):
                row = {FILE: name}
                if LABEL in self.columns:
                    row[LABEL] = label_of(name, self.prefix)
                if TEXT in self.columns:
                    row[TEXT] = self._read_file(name) if archive is None else self._read_member(archive, name)
                yield number, {column: row[column] for column in self.columns}
        finally:
            if archive is not None:
                archive.close()

    def _read_file(self, name: str) -> str:
        path = self.root / name
        with ReadErrors(path):
            if is_office_file(path):
                return _document_text(path, path)
            encoding = file_encoding(path, self.encoding)
        with ReadErrors(path, encoding), open_bytes(path) as file:
            return _to_text(file.read(4 * MAX_CHARS + 1), encoding, path)

    def _read_member(self, archive: zipfile.ZipFile, name: str) -> str:
        content = read_member(archive, name, 4 * MAX_CHARS + 1)
        place = Path(f"{self.root}/{name}")
        if is_office_head(name, content):
            return _document_text(io.BytesIO(content), place)
        try:
            return _to_text(content, "utf-8-sig", place)
        except UnicodeDecodeError as error:
            if self.encoding is None:
                raise EncodingError(f"{place} is not UTF-8: {conversion_hint(place, content)}.") from error
        try:
            return _to_text(content, self.encoding, place)
        except UnicodeDecodeError as error:
            raise EncodingError(f"{place} is not {self.encoding}: give another --encoding.") from error


def _document_text(file: Path | IO[bytes], path: Path) -> str:
    return _to_text("\n".join(office_text(file, str(path))).encode("utf-8", "replace"), "utf-8", path)


def _to_text(content: bytes, encoding: str, path: Path) -> str:
    if len(content) > 4 * MAX_CHARS:
        raise DataError(
            f"{path} is larger than {4 * MAX_CHARS >> 20} MB, and a file is one row: split it, or train on it as text."
        )
    if encoding == "utf-8-sig" and (error := marked_encoding_error(path, content)) is not None:
        raise error
    text = content.decode(encoding)
    if "\0" in text:
        raise EncodingError(f"{path} has a NUL character: it is no text, or needs --encoding utf-16.")
    return text.replace("\r\n", "\n").removesuffix("\n")


def label_of(name: str, prefix: str) -> str:
    """Return the first folder of a path after `prefix`."""
    return PurePosixPath(name.removeprefix(prefix)).parts[0]


def open_folder(root: Path, encoding: str | None) -> LabeledFiles:
    """Return the files of a folder. Raises `DataError` if it has none."""
    with ReadErrors(root):
        found = files_in(root)
    names = [path.relative_to(root).as_posix() for path in found.files]
    texts = [name for name in names if looks_like_text(root / name) or is_office_file(root / name)]
    files = _choose(root, names, texts, "", encoding)
    return replace(files, notes=(*files.notes, found.note)) if found.note else files


def open_archive(root: Path, encoding: str | None) -> LabeledFiles:
    """Return the files of a zip archive with several. Raises `DataError` if it is damaged or has no texts."""
    names = archive_names(root)
    tops = {name.partition("/")[0] for name in names}
    is_wrapped = len(tops) == 1 and any(name.count("/") >= 2 for name in names)
    prefix = f"{tops.pop()}/" if is_wrapped else ""
    with ReadErrors(root), ZipArchive(root) as archive:
        texts = text_members(archive, names)
    if not texts:
        raise DataError(f"{root} has no text among its {plural(len(names), 'file')}: unzip it, and name the folder.")
    return _choose(root, names, texts, prefix, encoding)


def _choose(root: Path, names: list[str], texts: Sequence[str], prefix: str, encoding: str | None) -> LabeledFiles:
    """Return the files that become rows: the texts if there are some, and of them those in folders if some are."""
    chosen = list(texts or names)
    has_labels = any("/" in name.removeprefix(prefix) for name in chosen)
    in_folders = [name for name in chosen if "/" in name.removeprefix(prefix)] if has_labels else chosen
    if not in_folders:
        raise DataError(f"{root} has no files: texts in one folder per label are expected, as in {root.name}/LABEL/1.txt.")
    columns = ((TEXT,) if texts else ()) + ((LABEL,) if has_labels else ()) + (FILE,)
    labels = {label_of(name, prefix) for name in in_folders} if has_labels else set()
    found = f", in {plural(len(labels), 'folder')} that are labels" if has_labels else ""
    notes = [f"{root}: {plural(len(in_folders), 'file')}{found}"]
    if left_out := len(names) - len(chosen):
        notes.append(f"{plural(left_out, 'file')} left out that {agree(left_out, 'are')} empty or no text")
    if outside := len(chosen) - len(in_folders):
        notes.append(f"{plural(outside, 'file')} left out that {agree(outside, 'are')} in no folder of a label")
    return LabeledFiles(root, tuple(in_folders), columns, prefix, encoding, tuple(notes))
