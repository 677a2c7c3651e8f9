"""Reader of Parquet files, also of compressed ones."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from unrolled.errors import DataError, UnrolledError, first_line
from unrolled.tables.table_format import NumberedRows, ReadErrors, Source, plain_value, whole_file
from unrolled.text.compressed_files import is_compressed, open_bytes

PARQUET_MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Return whether a file, perhaps compressed, is a Parquet file."""
    with ReadErrors(path), open_bytes(path) as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def parquet_rows(source: Source) -> NumberedRows:
    """Yield the rows of a file, numbered from 1."""
    path = source.path
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{path} needs a package that reads Parquet: pip install 'unrolled[data]'") from error
    try:
        file = parquet.ParquetFile(whole_file(path, "Parquet") if is_compressed(path) else path)
        batches = file.iter_batches(batch_size=1024)
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        yield from ((number, dict(zip(row, map(_plain, row.values()), strict=True))) for number, row in enumerate(rows, 1))
    except UnrolledError:
        raise
    except Exception as error:  # pyarrow may raise any exception for a damaged file
        raise DataError(f"{path} is not a valid Parquet file: {first_line(error)}.") from error


def _plain(value: Any) -> Any:
    """Return a cell with dates and decimals, also in lists, as texts."""
    return value if value is None or isinstance(value, str | int | float | bytes) else plain_value(value)
