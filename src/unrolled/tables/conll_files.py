"""Sentences of CoNLL files: one token a line, columns of a token, blank lines between sentences.

A row of the table is a sentence; its cells are lists with one element per token. In CoNLL-U the columns have names; comments,
multiword tokens (`1-2`) and empty nodes (`1.1`) are no tokens (https://universaldependencies.org/format.html).
"""

from __future__ import annotations

import re

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


def conll_rows(source: Source, header: str) -> NumberedRows:
    """Yield the sentences of a file; the line is that of the first token. `header` as for `delimited_rows`."""
    columns = header_names(header)
    has_names = columns is None and header != NO_HEADER and _has_names(source.head())
    is_conllu = any(suffix.lower() in CONLLU_SUFFIXES for suffix in source.path.suffixes)
    sentence, first_line = list[list[str]](), 0
    with ReadErrors(source.path, source.encoding) as errors:
        for line, text in enumerate(source.lines(), 1):
            errors.line = line
            text = text.rstrip("\r\n")
            if not text.strip():
                if sentence and columns:
                    yield first_line, _sentence_row(columns, sentence)
                sentence = []
                continue
            if not sentence and text.startswith("#") and (is_conllu or CONLLU_COMMENT.match(text)):  # else a token, as in #walk
                if (named := _COLUMNS_COMMENT.match(text)) is not None and columns is None:
                    columns = named[1].split()
                is_conllu |= CONLLU_COMMENT.match(text) is not None
                continue
            token = text.split("\t") if "\t" in text else text.split()
            if token[0] == DOCUMENT_START:
                continue
            if has_names:
                columns, has_names = token, False
                continue
            if columns is None:
                is_conllu |= len(token) == len(CONLLU_COLUMNS) and _TOKEN_ID.fullmatch(token[0]) is not None
                is_named = is_conllu and len(token) == len(CONLLU_COLUMNS) and header != NO_HEADER
                columns = list(CONLLU_COLUMNS) if is_named else [str(number) for number in range(len(token))]
            _check_token(source, line, token, columns)
            if is_conllu and columns[0] == "ID" and not token[0].isdecimal():
                continue  # a multiword token or an empty node
            if not sentence:
                first_line = line
            if len(sentence) >= MAX_LINES_PER_SENTENCE:
                problem = f"a sentence of more than {MAX_LINES_PER_SENTENCE:,} tokens"
                raise DataError(f"{source.path}, line {line:,}: {problem}; a blank line is expected after each sentence.")
            sentence.append(token)
        if sentence and columns:
            yield first_line, _sentence_row(columns, sentence)


def _check_token(source: Source, line: int, token: list[str], columns: list[str]) -> None:
    if len(token) == len(columns):
        return
    problem = f"{plural(len(token), 'column')}, and the file has {len(columns)} ({', '.join(columns)})"
    raise DataError(f"{source.path}, line {line:,}: {problem}.")


def _sentence_row(columns: list[str], sentence: list[list[str]]) -> dict[str, list[str]]:
    return {name: list(values) for name, values in zip(columns, zip(*sentence, strict=True), strict=True)}
