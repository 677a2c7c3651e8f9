"""Rows of JSON: one object per line, an array, or one object of columns. The columns are the keys of the first rows."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unrolled.datasets.tables import Row
from unrolled.display import shell_argument
from unrolled.errors import DataError
from unrolled.tables.table_format import MAX_CHARS, MAX_HEADER_ROWS, NumberedRows, ReadErrors, Source
from unrolled.text.compressed_files import open_bytes

FIRST_VALUE = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*[\[{]')
"""The beginning of an object whose first value is a list or an object."""

_COMMENT = re.compile(r"^[ \t]*(?://|#).*\n?", re.MULTILINE)
"""A line that is a comment: a text of JSON has no line end in it, so no part of one begins a line."""

_ASSIGNMENT = re.compile(r"\s*(?:(?:var|let|const)\s+)?[A-Za-z_$][\w.$]*\s*=\s*(?=[\[{])")
"""How a JavaScript file begins that is JSON but for this, as in an archive of Twitter."""

MIN_PAIRS = 10
"""Texts of an object, at least, for them to be rows of their own, as in a list of translations or of answers by question."""

MAX_JSON_ARRAY_BYTES = 1 << 28
"""A JSON array is read at once, so it must not be larger than this."""


def json_lines(source: Source) -> NumberedRows:
    """Yield the rows of a file with one object per line."""
    return with_all_columns(_json_rows(source))


def without_comments(text: str) -> str:
    """Return JSON without the lines that begin with `//` or `#`, and without `NAME = ` before it.

    Example:
        >>> without_comments('// of a tool\\n{"a": "# no"}\\n')
        '{"a": "# no"}\\n'
    """
    text = _COMMENT.sub("", text)
    return text[found.end() :].rstrip("; \r\n") if (found := _ASSIGNMENT.match(text)) else text


def comments_note(source: Source) -> str:
    """Return a sentence if there are comments among the first lines, or an empty one."""
    return f"{source.path}: lines that begin with // or # are comments, and left out" if _COMMENT.search(source.head()) else ""


def json_array(source: Source) -> NumberedRows:
    """Yield the objects of an array."""
    return with_all_columns(_json_array_rows(source))


def _json_array_rows(source: Source) -> NumberedRows:
    path, rows = source.path, read_json(source)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            hint = "; texts are written one per line (jq -r '.[]' FILE > NEW.txt)" if isinstance(row, str) else ""
            raise DataError(f"{path}, element {number:,}: an object with the columns as keys is expected{hint}.")
        yield number, row


def json_columns(source: Source) -> NumberedRows:
    """Yield the rows of a file that is one object of columns, or of one list of rows: see `has_json_columns`."""
    yield from with_all_columns((number, row) for number, row in enumerate(_rows_of(read_json(source)), 1))


def has_json_columns(source: Source) -> bool:
    """Return whether a file is one object that has many rows: columns with the keys 0, 1, 2, ..., as pandas writes it.

    If it is named `.json` or `.geojson`, it may also have rows or columns under their names, lists of values under `data` with
    the names under `columns`, one list of objects among its values, as an answer of a server: `{"count": 2, "data": [...]}`; or
    many texts under their keys.
    """
    head, is_json = without_comments(source.head()).strip(), _is_json(source.path)
    first_line, end, _ = head.partition("\n")
    if not (is_json or FIRST_VALUE.match(head)) or (end and first_line.rstrip().endswith("}")):  # one object per line
        return False
    try:
        value = read_json(source)
    except DataError:
        return False
    return bool(_rows_of(value) if is_json else _keyed_columns(value, numbered=True))


def _is_json(path: Path) -> bool:
    return any(suffix.lower() in (".json", ".geojson") for suffix in path.suffixes)


def rows_note(source: Source) -> str:
    """Return a message about how a file of one object was read as rows, and what was left out, or an empty string."""
    value, path = read_json(source), source.path
    if len(lists := _lists_of_rows(value)) == 1:
        others = ", ".join(key for key, element in value.items() if element is not lists[0])
        return f"{path}: the rows are in one list of it; left out: {others:.200}" if others else ""
    if columns := _list_columns(value):
        return f"{path}: its {len(value):,} lists are the columns, of {len(columns):,} rows"
    if pairs := _pairs(value):
        return f"{path}: its {len(pairs):,} texts are the rows, of two columns, key and value"
    if _keyed_columns(value, numbered=True) or _split_rows(value):
        return ""
    names = next(iter(value.values())) if _keyed_columns(value) else value
    parts = "columns" if names is not value else "rows"
    return f"{path}: its {len(value):,} values are the {parts}; the names of rows are left out, as {next(iter(names))!r:.40}"


def _rows_of(value: dict[str, Any]) -> list[Row]:
    """Return the rows that an object is (see `has_json_columns`), none if it is one row."""
    if len(lists := _lists_of_rows(value)) == 1:
        return lists[0]
    if rows := _keyed_columns(value) or _split_rows(value) or _list_columns(value) or _pairs(value):
        return rows
    values = list(value.values())
    are_rows = len(values) > 2 and all(isinstance(row, dict) and row and row.keys() == values[0].keys() for row in values)
    return values if are_rows else []


def _keyed_columns(value: dict[str, Any], numbered: bool = False) -> list[Row]:
    """Return the rows of columns with the keys 0, 1, 2, ..., or, unless they must be `numbered`, more keys than columns."""
    columns = list(value.values())
    if not columns or not all(isinstance(column, dict) for column in columns):
        return []
    keys = list(columns[0])
    are_columns = len(keys) > 1 and all(list(column) == keys for column in columns)
    has_numbers = keys == [str(number) for number in range(len(keys))]
    are_columns &= has_numbers or (not numbered and len(keys) > len(columns) > 1)
    return [{name: column[key] for name, column in value.items()} for key in keys] if are_columns else []


def _list_columns(value: dict[str, Any]) -> list[Row]:
    """Return the rows of columns that are lists of equal length, if a text in them has a blank: else they may be sequences."""
    columns = list(value.values())
    if len(columns) < 2 or not all(isinstance(column, list) and len(column) == len(columns[0]) > 1 for column in columns):
        return []
    texts = [cell.strip() for column in columns for cell in column if isinstance(cell, str)]
    if not any(len(text.split()) > 1 for text in texts) or any(isinstance(cell, dict | list) for cell in columns[0]):
        return []
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _pairs(value: dict[str, Any]) -> list[Row]:
    """Return the rows of an object of many texts: `key` and `value`."""
    are_texts = len(value) >= MIN_PAIRS and all(isinstance(text, str) for text in value.values())
    return [{"key": key, "value": text} for key, text in value.items()] if are_texts else []


def _split_rows(value: dict[str, Any]) -> list[Row]:
    """Return the rows of an object with the names under `columns` and lists of values under `data`."""
    names, data = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(data, list):
        return []
    are_rows = all(isinstance(row, list) and len(row) == len(names) for row in data)
    return [dict(zip(map(str, names), row, strict=True)) for row in data] if are_rows else []


def _lists_of_rows(value: dict[str, Any]) -> list[list[Row]]:
    """Return the values of an object that are lists of several objects."""
    lists = (element for element in value.values() if isinstance(element, list) and len(element) > 1)
    return [element for element in lists if all(isinstance(row, dict) for row in element)]


def read_json(source: Source) -> Any:
    """Return the value that a file is. Raises `DataError` for a large file, or one that is not valid."""
    path = source.path
    with ReadErrors(path, source.encoding), open_bytes(path) as file:
        data = file.read(MAX_JSON_ARRAY_BYTES + 1)
        if len(data) > MAX_JSON_ARRAY_BYTES:
            raise DataError(f"{path} is a large JSON array; write one object per line: jq -c '.[]' FILE > FILE.jsonl")
        text = data.decode(source.encoding)
    try:
        return json.loads(without_comments(text))
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "nested too deeply"
        raise DataError(f"{path} is not valid JSON: {reason}.") from error


def with_all_columns(rows: NumberedRows) -> NumberedRows:
    """Yield rows with all the keys that any of the first `MAX_HEADER_ROWS` has, in the order in which they are met."""
    with contextlib.closing(rows):
        first_rows: list[tuple[int, Row]] = []
        size = 0
        for numbered_row in itertools.islice(rows, MAX_HEADER_ROWS):
            first_rows.append(numbered_row)
            size += sum(len(value) if isinstance(value, str | list) else 1 for value in numbered_row[1].values())
            if size > MAX_CHARS:  # all of them are in memory at once
                break
        empty_row: Row = dict.fromkeys(column for _, row in first_rows for column in row)
        for line, row in itertools.chain(first_rows, rows):
            yield line, empty_row | row


def _json_rows(source: Source) -> NumberedRows:
    for line, row in json_values(source):
        if not isinstance(row, dict):
            problem = f"an object with the columns as keys is expected, and it is {json.dumps(row):.40}"
            raise DataError(f"{source.path}, line {line:,}: {problem}.")
        yield line, row


def json_values(source: Source) -> Iterator[tuple[int, Any]]:
    """Yield the values of a file with one per line, with their lines."""
    path = source.path
    with ReadErrors(path, source.encoding) as errors:
        for line, text in enumerate(source.lines(newline=""), 1):  # at \r too, which no JSON has in a line
            errors.line = line
            if len(text) > MAX_CHARS:
                raise DataError(f"{path}, line {line:,}: the row has more than {MAX_CHARS:,} characters, which is too many.")
            text = text.strip("\x1e \t\r\n").removesuffix(",")
            if text and not text.startswith(("//", "#")):
                yield line, _parse_value(path, line, text)


def _parse_value(path: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "nested too deeply"
        is_other = text.strip() == "{" or str(reason).startswith("Extra data")
        hint = f" One object per line is expected: jq -c . {shell_argument(str(path))} > NEW.jsonl" if is_other else ""
        hint = " It is Python's way to write a dictionary: write json.dumps of it." if text.startswith("{'") else hint
        raise DataError(f"{path}, line {line:,} is not valid JSON: {reason}.{hint}") from error


def nested_value(row: Row, keys: str) -> Any:
    """Return the value of a key, or of keys in keys joined by dots (`data.text`, `answers.0`); None if there is none."""
    if keys in row:
        return row[keys]
    value: Any = row
    for key in keys.split("."):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def nested_keys(row: Row, prefix: str = "", depth: int = 4) -> list[str]:
    """Return the keys of a row whose value is an object, each joined to the keys of that object by a dot."""
    keys = []
    for key, value in row.items():
        if isinstance(value, dict) and depth:
            keys += [f"{prefix}{key}.{inner}" for inner in value] + nested_keys(value, f"{prefix}{key}.", depth - 1)
    return list(dict.fromkeys(keys))


def inner_rows_hint(name: str, row: Row) -> str:
    """Return a sentence if values of a row are lists of rows, such as the parts of a data set, else an empty one."""
    lists = {key: len(value) for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)}
    if not lists:
        return ""
    key, counts = next(iter(lists)), " and ".join(f"{key!r} of {count:,}" for key, count in lists.items())
    command = f"jq -c {shell_argument(f'.[{json.dumps(key)}][]')} {shell_argument(name)} > NEW.jsonl"
    return f" There are lists of rows in it, {counts:.200}: to learn from one of them, {command}"


def only_row_note(name: str, row: Row) -> str:
    """Return a message if a table has one row that looks like an object of columns, or an empty string."""
    lengths = [len(value) for value in row.values() if isinstance(value, list) and value]
    if len(lengths) < 2 or len(set(lengths)) > 1 or max(lengths) < 2:
        return ""
    return f"{name} is one row, whose values are lists of {max(lengths):,}; if they are columns, write one object per row"
