"""Sentences of CoNLL files: one token a line, columns of a token, blank lines between sentences.

A row of the table is a sentence; its cells are lists with one element per token. In CoNLL-U the columns have names; comments,
multiword tokens (`1-2`) and empty nodes (`1.1`) are no tokens (https://universaldependencies.org/format.html).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from unrolled.display import plural
from unrolled.errors import DataError
from unrolled.tables.entities import are_entity_tags
from unrolled.tables.table_format import NO_HEADER, NumberedRows, ReadErrors, Source, header_names

CONLLU_COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
CONLLU_COMMENT = re.compile(r"# *(newdoc\b|newpar\b|sent_id *=|text *=|global\.columns *=|id +\S)")
CONLLU_SUFFIXES = (".conllu", ".conllup")
"""Files with these names have comments of any kind before a sentence."""

_COLUMNS_COMMENT = re.compile(r"# *global\.columns *= *(.+)")
_TOKEN_ID = re.compile(r"[0-9]+([-.][0-9]+)?")
DOCUMENT_START = "-DOCSTART-"

MAX_LINES_PER_SENTENCE = 100_000


def looks_like_conll(head: str) -> bool:
    """Return whether a text begins as a CoNLL file: by its first line, or by entity tags and blank lines between sentences.

    The first line may have the names of the columns.
    """
    first = head.lstrip("\ufeff\r\n").split("\n", 1)[0]
    if first.startswith(DOCUMENT_START) or CONLLU_COMMENT.match(first):
        return True
    lines = [line.strip() for line in head.split("\n")[:-1][:200]]
    tokens = [line.split() for line in lines if line]
    has_blank = any(not line and lines[number - 1] and number + 1 < len(lines) for number, line in enumerate(lines) if number)
    if not has_blank or len(tokens) < 4 or len({len(token) for token in tokens}) != 1 or len(tokens[0]) < 2:
        return False
    return are_entity_tags(token[-1] for token in tokens[1:])


def _has_names(head: str) -> bool:
    """Return whether the first line of a text has no entity tag, and all others have."""
    lines = [line.split() for line in head.lstrip("\ufeff").split("\n")[:-1][:200] if line.strip()]
    return len(lines) > 1 and not are_entity_tags([lines[0][-1], "B-X"]) and are_entity_tags(line[-1] for line in lines[1:])


LabeledLines = Callable[[str, Iterator[Sequence[str]]], Iterator[str]]
"""Yields the lines of a file with labels: see `with_labels`."""


class ConllLine(NamedTuple):
    """A line of a file: its number, its text, and its `token`, the cells of the `columns`; None in a line that is no token."""

    number: int
    text: str
    token: list[str] | None
    columns: list[str]


def conll_lines(source: Source, header: str) -> Iterator[ConllLine]:
    """Yield the lines of a file. `header` as for `delimited_rows`."""
    columns = header_names(header)
    has_names = columns is None and header != NO_HEADER and _has_names(source.head())
    is_conllu = any(suffix.lower() in CONLLU_SUFFIXES for suffix in source.path.suffixes)
    is_first = True
    with ReadErrors(source.path, source.encoding) as errors:
        for line, text in enumerate(source.lines(), 1):
            errors.line = line
            text = text.rstrip("\r\n")
            token = (text.split("\t") if "\t" in text else text.split()) if text.strip() else []
            if token and is_first and text.startswith("#") and (is_conllu or CONLLU_COMMENT.match(text)):  # else a token: #walk
                if (named := _COLUMNS_COMMENT.match(text)) is not None and columns is None:
                    columns = named[1].split()
                is_conllu |= CONLLU_COMMENT.match(text) is not None
                token = []
            elif token and token[0] != DOCUMENT_START and has_names:
                columns, has_names, token = token, False, []
            if not token or token[0] == DOCUMENT_START:
                is_first = is_first or not text.strip()
                yield ConllLine(line, text, None, columns or [])
                continue
            if columns is None:
                is_conllu |= len(token) == len(CONLLU_COLUMNS) and _TOKEN_ID.fullmatch(token[0]) is not None
                is_named = is_conllu and len(token) == len(CONLLU_COLUMNS) and header != NO_HEADER
                columns = list(CONLLU_COLUMNS) if is_named else [str(number) for number in range(len(token))]
            _check_token(source, line, token, columns)
            is_node = is_conllu and columns[0] == "ID" and not token[0].isdecimal()  # a multiword token or an empty node
            is_first = is_first and is_node
            yield ConllLine(line, text, None if is_node else token, columns)


def conll_rows(source: Source, header: str) -> NumberedRows:
    """Yield the sentences of a file; the line is that of the first token. `header` as for `delimited_rows`."""
    sentence, first = list[list[str]](), ConllLine(0, "", None, [])
    for line in conll_lines(source, header):
        if line.token is None and not line.text.strip() and sentence:
            yield first.number, _sentence_row(first.columns, sentence)
            sentence = []
        if line.token is None:
            continue
        first = first if sentence else line
        if len(sentence) >= MAX_LINES_PER_SENTENCE:
            problem = f"a sentence of more than {MAX_LINES_PER_SENTENCE:,} tokens"
            raise DataError(f"{source.path}, line {line.number:,}: {problem}; a blank line is expected after each sentence.")
        sentence.append(line.token)
    if sentence:
        yield first.number, _sentence_row(first.columns, sentence)


def with_labels(source: Source, header: str, target: str, sentences: Iterator[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a file with other labels, which are given for each of its sentences; `_` for a token without one.

    In CoNLL-U they stand in the column `target`; in other files in one more column, the last, as conlleval reads it.
    """
    labels: Iterator[str] | None = None
    for line in conll_lines(source, header):
        if line.token is None:
            labels = None if not line.text.strip() else labels
            yield line.text + "\n"
            continue
        if labels is None:
            labels = iter(next(sentences, ()))
        label, separator = next(labels, "") or "_", "\t" if "\t" in line.text else " "
        cells = list(line.token)
        if line.columns[0] == CONLLU_COLUMNS[0] and target in line.columns:
            cells[line.columns.index(target)] = label
        else:
            cells.append(label)
        yield separator.join(cells) + "\n"


def _check_token(source: Source, line: int, token: list[str], columns: list[str]) -> None:
    if len(token) == len(columns):
        return
    problem = f"{plural(len(token), 'column')}, and the file has {len(columns)} ({', '.join(columns)})"
    raise DataError(f"{source.path}, line {line:,}: {problem}.")


def _sentence_row(columns: list[str], sentence: list[list[str]]) -> dict[str, list[str]]:
    return {name: list(values) for name, values in zip(columns, zip(*sentence, strict=True), strict=True)}
