"""Reader of Parquet and of Arrow files (Feather, the data of Hugging Face's `datasets`), also of compressed ones."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unrolled.errors import DataError, UnrolledError, first_line
from unrolled.tables.table_format import NumberedRows, ReadErrors, Source, plain_value, suffix_kind, whole_file
from unrolled.text.compressed_files import is_compressed, open_bytes

MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
"""How the formats begin; the last one is a stream of Arrow, as `datasets` writes it."""

_NOUNS = {"parquet": "Parquet", "arrow": "Arrow"}


def columnar_kind(path: Path) -> str | None:
    """Return `parquet` or `arrow`, the format of a file, perhaps compressed; None for another one."""
    with ReadErrors(path), open_bytes(path) as file:
        head = file.read(8)
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic) and head != b"\xff" * 8), None)


def arrow_rows(source: Source) -> NumberedRows:
    """Yield the rows of a file, numbered from 1, with the names of classes, where the file has them."""
    path = source.path
    kind = columnar_kind(path) or suffix_kind(path) or "arrow"
    try:
        schema, batches = _open(path, kind)
        classes = _class_names(schema)
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, row in enumerate(rows, 1):
            yield number, {name: _plain(value, classes.get(name)) for name, value in row.items()}
    except UnrolledError:
        raise
    except Exception as error:  # pyarrow may raise any exception for a damaged file
        raise DataError(f"{path} is not a valid {_NOUNS[kind]} file: {first_line(error)}.") from error


def classes_note(source: Source) -> str:
    """Return a sentence about columns whose numbers are written as the names of their classes, or an empty one."""
    try:
        classes = _class_names(_open(source.path, columnar_kind(source.path) or "arrow")[0])
    except Exception:  # the rows say what is wrong
        return ""
    listed = "; ".join(f"'{name}' ({', '.join(names[:5])}{', ...' * (len(names) > 5)})" for name, names in classes.items())
    return f"{source.path}: classes are read by their names: {listed:.300}" if classes else ""


def _open(path: Path, kind: str) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a file and its batches of rows."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{path} needs a package that reads {_NOUNS[kind]}: pip install 'unrolled[data]'") from error
    file = whole_file(path, _NOUNS[kind]) if is_compressed(path) else str(path)
    if kind == "parquet":
        found = parquet.ParquetFile(file)
        return found.schema_arrow, found.iter_batches(batch_size=1024)
    opened = pyarrow.memory_map(file) if isinstance(file, str) else pyarrow.py_buffer(file.getvalue())
    try:
        reader = pyarrow.ipc.open_file(opened)
        return reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
    except pyarrow.ArrowInvalid:
        if isinstance(file, str):
            opened.seek(0)
        stream = pyarrow.ipc.open_stream(opened)
        return stream.schema, iter(stream)


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of the classes of columns, as `datasets` stores them with the numbers."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {name: _names_of(feature) for name, feature in features.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return {}
    return {name: names for name, names in found.items() if names}


def _names_of(feature: Any) -> list[str]:
    while isinstance(feature, dict) and "feature" in feature:  # a list of classes, one for each step
        feature = feature["feature"]
    is_class = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    return [str(name) for name in feature.get("names") or ()] if is_class else []


def _plain(value: Any, classes: list[str] | None = None) -> Any:
    """Return a cell with dates and decimals as texts, bytes of UTF-8 as text, and numbers of classes as names; also in lists.

    A negative number of a class is none, as `datasets` writes it.
    """
    if classes is not None:
        if isinstance(value, list):
            return [_plain(element, classes) for element in value]
        if isinstance(value, int):
            return classes[value] if 0 <= value < len(classes) else None if value < 0 else str(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return value if value is None or isinstance(value, str | int | float) else plain_value(value)
