"""The format of a table file, by its suffix and its first lines."""

from __future__ import annotations

import re

from unrolled.tables.arff_files import looks_like_arff
from unrolled.tables.conll_files import looks_like_conll
from unrolled.tables.fasttext_files import looks_like_fasttext
from unrolled.tables.json_files import has_json_columns, without_comments
from unrolled.tables.table_format import Source, suffix_kind, table_suffix

JSON_START = re.compile(r'\ufeff?\s*(\[\s*)?\{\s*"(?:[^"\\]|\\.)*"\s*:')
"""How a JSON file begins, whatever its suffix."""

PLACEHOLDER_START = re.compile(r"\{[^\s\"':{}]+\}")
"""How a text begins that is no JSON object: with a name in braces, as `{user}`."""

LISTS_START = re.compile(r"\[\s*\[|\[.*\]\s*\n\s*\[")
"""How a JSON file begins whose rows are lists: an array of them, or one per line."""


def kind_of_file(source: Source) -> str:
    """Return the format of a file: that of its suffix, unless it begins like another one."""
    kind, head = suffix_kind(source.path), source.head()
    is_json = JSON_START.match(head) is not None and not (kind == "tsv" and "\t" in head.split("\n", 1)[0])
    is_other = kind in ("csv", "tsv") and (is_json or looks_like_fasttext(head))
    kind = guess_kind(source) if kind in (None, "jsonl") or is_other else kind
    return "conll" if kind == "tsv" and looks_like_conll(head) else kind


def guess_kind(source: Source) -> str:
    """Return the kind of a file with an unknown suffix, by its first lines."""
    head = source.head().lstrip("\ufeff\x1e")
    json_head = without_comments(head).lstrip()
    first_line = head.split("\n", 1)[0]
    if json_head.startswith("{") and not PLACEHOLDER_START.match(json_head):
        return "columns" if has_json_columns(source) else "jsonl"
    if json_head.startswith('"') and suffix_kind(source.path) == "jsonl":
        return "jsonl"
    if re.match(r"\[\s*\{", json_head):
        return "json"
    if json_head.startswith("[") and table_suffix(source.path) in (".json", ".jsonl", ".ndjson"):
        return "lists" if suffix_kind(source.path) == "jsonl" or LISTS_START.match(json_head) else "json"
    if looks_like_arff(head):
        return "arff"
    if looks_like_fasttext(head):
        return "fasttext"
    return "conll" if looks_like_conll(head) else "tsv" if "\t" in first_line else "csv"
