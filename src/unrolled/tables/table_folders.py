"""Folders of tables with the same columns, which are one table: the parts of a data set.

Spark, Arrow and Hugging Face's `datasets` write a data set in parts. Folders named `COLUMN=VALUE` are a column, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from unrolled.display import plural, shell_argument
from unrolled.errors import DataError
from unrolled.tables.table_format import NumberedRows, ReadErrors, suffix_kind
from unrolled.text.folder_files import files_in

_OTHER_FILES = re.compile(
    r"_SUCCESS|_(?:common_)?metadata|(?:dataset_infos?|state)\.json|(?:readme|licen[cs]e)\b.*|.*\.crc", re.IGNORECASE
)
"""Files that describe the parts, in the same folder."""

_SPLIT = re.compile(r"(?:.*[-_.])?(train|test|valid(?:ation)?|dev|eval)(?:[-_.].*|ing.*)?", re.IGNORECASE)
"""Names of files that are a split of a data set."""

_EMPTY_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def find_parts(folder: Path) -> list[Path]:
    """Return the parts of the table that a folder is, in their order; none for a folder of other files.

    Raises `DataError` for a folder with several splits of a data set, which are no parts of one table.
    """
    with ReadErrors(folder):
        if (folder / "dataset_dict.json").is_file():
            splits = _json(folder / "dataset_dict.json").get("splits")
            raise _splits_error(folder, [str(split) for split in splits] if isinstance(splits, list) else ["train"])
        if (folder / "state.json").is_file() and (named := _json(folder / "state.json").get("_data_files")):
            return [folder / Path(str(each.get("filename"))).name for each in named if isinstance(each, dict)]
        files = [path for path in files_in(folder).files if not _OTHER_FILES.fullmatch(path.name)]
    kinds = {suffix_kind(path) for path in files}
    if len(kinds) != 1 or None in kinds or not all(_is_part(folder, path) for path in files):
        return []
    splits = {found[1].lower(): path.name for path in files if (found := _SPLIT.fullmatch(path.stem))}
    if len(splits) > 1:
        raise _splits_error(folder, list(splits.values()))
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    return value if isinstance(value, dict) else {}


def _splits_error(folder: Path, names: Sequence[str]) -> DataError:
    validation = f" (and another one as --validation {shell_argument(f'{folder}/{names[1]}')})" if len(names) > 1 else ""
    listed = ", ".join(names[:10])
    return DataError(
        f"{folder} has several tables of a data set, {listed}: name one, {shell_argument(f'{folder}/{names[0]}')}{validation}."
    )


def _is_part(folder: Path, path: Path) -> bool:
    return all("=" in name for name in path.relative_to(folder).parts[:-1])


def partition_values(folder: Path, path: Path) -> dict[str, str | None]:
    """Return the columns that the names of the folders of a part have.

    Example:
        >>> partition_values(Path("films"), Path("films/label=very%20good/part-0.parquet"))
        {'label': 'very good'}
    """
    pairs = (name.partition("=") for name in path.relative_to(folder).parts[:-1])
    return {key: None if value == _EMPTY_PARTITION else unquote(value) for key, _, value in pairs}


@dataclass(frozen=True)
class Parts:
    """The parts of a table, their columns, and the rows of each. Raises `DataError` for parts with different columns."""

    folder: Path
    paths: Sequence[Path]
    columns_of: Sequence[tuple[str, ...]]
    rows_of: Sequence[Callable[[], NumberedRows]]

    def __post_init__(self) -> None:
        first, names = self.columns_of[0], self.names
        for name, columns in zip(names, self.columns_of, strict=True):
            if set(columns) != set(first):
                kinds = f"{names[0]} has {', '.join(first):.99}, and {name} {', '.join(columns):.99}"
                problem = f"tables with different columns, and they are read as one: {kinds}"
                raise DataError(f"{self.folder} has {problem}. Name one of them.")

    @property
    def names(self) -> list[str]:
        """The paths of the parts in the folder."""
        return [path.relative_to(self.folder).as_posix() for path in self.paths]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, with those that names of folders are."""
        return tuple(dict.fromkeys((*self.columns_of[0], *partition_values(self.folder, self.paths[0]))))

    @property
    def note(self) -> str:
        """A sentence about the files that are read."""
        files = f"{plural(len(self.paths), 'file')} read as one table ({', '.join(self.names):.60})"
        return f"{self.folder}: {files}, with lines counted through all"

    def rows(self) -> NumberedRows:
        """Yield the rows of all parts, with lines counted through all."""
        last = 0
        for path, rows in zip(self.paths, self.rows_of, strict=True):
            first, values = last, partition_values(self.folder, path)
            for line, row in rows():
                last = first + line
                yield last, row | values
