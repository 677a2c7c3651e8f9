"""ARFF files, the tables of Weka: attributes with their types, then `@data` with a row a line.

Values are those of the format's description (https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/): quotes
with backslashes, `?` for a missing one, `%` before a comment, sparse rows in braces. Cells are texts; the types of columns are
inferred as in other tables, since nominal values are labels and `string` says nothing more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unrolled.display import plural
from unrolled.errors import DataError
from unrolled.tables.table_format import NumberedRows, ReadErrors, Source

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|[^\s{{]+)\s*(.*)", re.IGNORECASE)
_VALUE = re.compile(rf"\s*({_QUOTED}|(?!['\"])[^,]*?)\s*(,|$)")
_SPARSE = re.compile(rf"\s*([0-9]+)\s+({_QUOTED}|(?!['\"])[^,]*?)\s*(,|$)")
_WEIGHT = re.compile(r",\s*\{[^{}]*\}$")
_ESCAPE = re.compile(r"\\(.)")
NUMERIC = ("numeric", "real", "integer")
KNOWN_TYPES = (*NUMERIC, "string", "date")


@dataclass(frozen=True)
class Attribute:
    """A column: its name, its nominal values (None: it has none), and what a sparse row leaves out."""

    name: str
    values: tuple[str, ...] | None
    default: str | None


def looks_like_arff(head: str) -> bool:
    """Return whether a text begins as an ARFF file: with `@relation`, after comments."""
    lines = (line.strip().lower() for line in head.lstrip("\ufeff").split("\n"))
    return next((line for line in lines if line and not line.startswith("%")), "").startswith("@relation")


def arff_rows(source: Source) -> NumberedRows:
    """Yield the rows of a file by line. Raises `DataError` with the line of what is no ARFF."""
    attributes: list[Attribute] = []
    in_data = False
    with ReadErrors(source.path, source.encoding) as errors:
        for line, raw in enumerate(source.lines(), 1):
            errors.line = line
            text, place = raw.lstrip("\ufeff").strip(), f"{source.path}, line {line:,}"
            word = text.split(None, 1)[0].lower() if text else "%"
            if word.startswith("%"):
                continue
            if in_data:
                yield line, _row(text, attributes, place)
            elif word == "@data":
                in_data = True
                if not attributes:
                    raise DataError(f"{place}: @data without an @attribute before it.")
            elif word == "@attribute":
                attributes.append(_attribute(text, attributes, place))
            elif word != "@relation":
                raise DataError(f"{place}: {text[:60]!r} is not expected before @data, but @relation and @attribute lines.")
    if not in_data:
        raise DataError(f"{source.path} has no @data line, and rows are expected after it: the file is cut or no ARFF file.")


def _attribute(text: str, before: list[Attribute], place: str) -> Attribute:
    match = _ATTRIBUTE.fullmatch(text)
    name, kind = (_plain(match[1]), match[2].strip()) if match else ("", "")
    if not name or not kind:
        raise DataError(f"{place}: an attribute with its type is expected, as in '@attribute age numeric'.")
    if name in {attribute.name for attribute in before}:
        raise DataError(f"{place}: there are two attributes {name!r}, and each needs a name of its own.")
    if kind.startswith("{"):
        if not kind.endswith("}"):
            raise DataError(f"{place}: the values of {name!r} begin with '{{' and do not end with '}}'.")
        values = tuple(_plain(value) for value in _split(kind[1:-1], place))
        return Attribute(name, values, values[0])
    word = kind.split()[0].lower()
    if word not in KNOWN_TYPES:
        raise DataError(f"{place}: the type {kind[:40]!r} of {name!r} is not read; {', '.join(KNOWN_TYPES)} or {{A,B}} are.")
    return Attribute(name, None, "0" if word in NUMERIC else None)


def _row(text: str, attributes: list[Attribute], place: str) -> dict[str, str | None]:
    if text.startswith("{"):
        return _sparse_row(text, attributes, place)
    values = _split(_WEIGHT.sub("", text), place)
    if len(values) != len(attributes):
        raise DataError(
            f"{place}: {plural(len(values), 'value')} between commas, and {plural(len(attributes), 'attribute')} before @data."
        )
    return {attribute.name: _cell(value, attribute, place) for attribute, value in zip(attributes, values, strict=True)}


def _sparse_row(text: str, attributes: list[Attribute], place: str) -> dict[str, str | None]:
    """Return a row `{INDEX VALUE, ...}`; what is left out is 0, or the first nominal value."""
    text = _WEIGHT.sub("", text)
    if not text.endswith("}"):
        raise DataError(f"{place}: a sparse row begins with '{{' and does not end with '}}': the file is cut here.")
    row = {attribute.name: attribute.default for attribute in attributes}
    inner, position = text[1:-1].strip(), 0
    while position < len(inner):
        match = _SPARSE.match(inner, position)
        if match is None or int(match[1]) >= len(attributes):
            raise DataError(
                f"{place}: {inner[position : position + 40]!r} is no INDEX VALUE of {plural(len(attributes), 'attribute')}."
            )
        attribute = attributes[int(match[1])]
        row[attribute.name] = _cell(match[2], attribute, place)
        position = match.end()
    return row


def _split(text: str, place: str) -> list[str]:
    """Return the values between commas, with their quotes."""
    values, position = list[str](), 0
    while True:
        match = _VALUE.match(text, position)
        if match is None:
            raise DataError(
                f"{place}: a quote in {text[position : position + 40]!r} has no end; one in a value is written \\'."
            )
        values.append(match[1])
        position = match.end()
        if not match[2]:
            return values


def _cell(value: str, attribute: Attribute, place: str) -> str | None:
    if value == "?":
        return None
    plain = _plain(value)
    if attribute.values is not None and plain not in attribute.values:
        listed = ", ".join(attribute.values[:10])
        raise DataError(f"{place}: {plain[:40]!r} is no value of {attribute.name!r}; its values are {listed}.")
    return plain


def _plain(value: str) -> str:
    """Return a value without its quotes, and without the backslashes inside them."""
    if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
        return value
    return _ESCAPE.sub(lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), value[1:-1])
