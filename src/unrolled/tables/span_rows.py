"""Places in a text with labels, as tools for annotation write them, as one label for each word: `B-PER`, `I-PER`, `O`.

Read are the JSON of doccano, Prodigy, Label Studio and spaCy: a list of spans with a text, each `[start, end, label]` or an
object with these, counted in characters. The column of the spans gets the labels, for the words between blanks, or for the
characters of texts without blanks, as Chinese ones.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unrolled.datasets.tables import Row
from unrolled.display import agree, plural
from unrolled.tables.table_format import MAX_HEADER_ROWS, NumberedRows

logger = logging.getLogger(__name__)

Span = tuple[int, int, str]
"""First character, the one after the last, and label."""

STARTS, ENDS, LABELS = ("start", "start_offset", "begin"), ("end", "end_offset", "stop"), ("label", "labels", "type", "tag")
TEXT_KEYS = ("text", "data", "content", "sentence", "0")
REJECTED = ("reject", "ignore")
"""Answers of Prodigy to examples that are not as they are marked."""

MIN_LETTERS_OF_A_WORD = 15
"""Mean letters between blanks from which a text has no words between them."""

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class SpanColumn:
    """The column of the text, whose key inside an object may follow, that of the spans, and whether characters have labels."""

    text: tuple[str, ...]
    spans: str
    by_character: bool

    def note(self, path: object) -> str:
        """Return a sentence about what the column of spans becomes."""
        each = "character" if self.by_character else "word"
        text = ".".join(self.text)
        return f"{path}: '{self.spans}' has places in '{text}', and is read as a label for each {each} (B-, I-, O)"


def find_spans(rows: Callable[[], NumberedRows]) -> SpanColumn | None:
    """Return which column of rows has spans of which text, if one has."""
    with contextlib.closing(rows()) as iterator:
        first_rows = [row for _, row in itertools.islice(iterator, MAX_HEADER_ROWS)]
    for row in first_rows:
        for name, value in row.items():
            spans = _spans_of(value) if isinstance(value, list | dict) else None
            for text in _text_paths(row, name) if spans else ():
                if all(0 <= start < end <= len(_text_at(row, text) or "") for start, end, _ in spans or ()):
                    words = " ".join(_text_at(each, text) or "" for each in first_rows).split()
                    return SpanColumn(text, name, sum(map(len, words)) > MIN_LETTERS_OF_A_WORD * len(words))
    return None


def rows_with_tags(rows: Callable[[], NumberedRows], column: SpanColumn, path: object, reported: set[str]) -> NumberedRows:
    """Yield rows with labels in the place of spans. What cannot be shown is counted, and reported once: `reported` has the
    notes of earlier passes."""
    counts = Counter[str]()
    for number, row in rows():
        text, spans = _text_at(row, column.text), _spans_of(row.get(column.spans))
        if row.get("answer") in REJECTED:
            counts["rejected"] += 1
        elif text is None or spans is None:
            yield number, row | {column.spans: None}
        else:
            yield number, row | {column.spans: _tags(text, spans, column.by_character, counts)}
    sentences = {
        "rejected": f"{plural(counts['rejected'], 'row')} left out that {agree(counts['rejected'], 'were')} rejected",
        "inside": f"{plural(counts['inside'], 'place')} with an end inside a word, which has the label as a whole",
        "overlapping": f"{plural(counts['overlapping'], 'place')} left out that others overlap",
    }
    told = [sentence for key, sentence in sentences.items() if counts[key]]
    if told and (note := f"{path}: {'; '.join(told)}") not in reported:
        reported.add(note)
        logger.info(note)


def _text_paths(row: Row, spans: str) -> list[tuple[str, ...]]:
    """Return where the text of spans may be: the usual names first, and keys inside an object."""
    names = sorted((name for name in row if name != spans), key=lambda name: (name not in TEXT_KEYS, list(row).index(name)))
    paths: list[tuple[str, ...]] = []
    for name in names:
        value = row[name]
        paths += [(name,)] if isinstance(value, str) else []
        paths += [(name, key) for key in value if isinstance(value[key], str)] if isinstance(value, dict) else []
    return paths


def _text_at(row: Row, path: tuple[str, ...]) -> str | None:
    value: Any = row
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _spans_of(value: Any) -> list[Span] | None:
    """Return the spans that a value is, none if it has an empty list of them; None if it is something else."""
    if isinstance(value, dict):  # as spaCy has them
        value = value.get("entities")
    if not isinstance(value, list):
        return None
    if value and isinstance(value[0], dict) and isinstance(value[0].get("result"), list):  # the annotations of Label Studio
        kept = next((each for each in value if isinstance(each, dict) and not each.get("was_cancelled")), {})
        value = kept.get("result") or []
    spans = list(map(_span_of, value))
    return [span for span in spans if span is not None] if None not in spans else None


def _span_of(value: Any) -> Span | None:
    if isinstance(value, dict) and isinstance(value.get("value"), dict):
        value = value["value"]
    if isinstance(value, dict):
        found = [next((value[key] for key in keys if key in value), None) for keys in (STARTS, ENDS, LABELS)]
        label = found[2][0] if isinstance(found[2], list) and len(found[2]) == 1 else found[2]
        value = [found[0], found[1], label]
    is_span = isinstance(value, list) and len(value) == 3 and isinstance(value[2], str)
    if not is_span or not all(isinstance(place, int) and not isinstance(place, bool) for place in value[:2]):
        return None
    return value[0], value[1], value[2].replace(" ", "_")


def _tags(text: str, spans: Sequence[Span], by_character: bool, counts: Counter[str]) -> list[str]:
    """Return the label of each word or character; of places that overlap, the longest has it."""
    parts = [(place, place + 1) for place in range(len(text))] if by_character else [m.span() for m in _WORD.finditer(text)]
    tags = ["O"] * len(parts)
    for start, end, label in sorted(spans, key=lambda span: (span[0] - span[1], span)):
        covered = [index for index, (first, last) in enumerate(parts) if first < end and start < last]
        covered = [index for index in covered if _has_letters(text, max(start, parts[index][0]), min(end, parts[index][1]))]
        if any(tags[index] != "O" for index in covered) or not covered:
            counts["overlapping"] += 1
            continue
        first, last = parts[covered[0]][0], parts[covered[-1]][1]
        counts["inside"] += any(map(str.isalnum, text[first:start] + text[end:last]))
        for position, index in enumerate(covered):
            tags[index] = f"{'I' if position else 'B'}-{label}"
    return tags


def _has_letters(text: str, start: int, end: int) -> bool:
    """Return whether a part of a word is more than the marks at its ends."""
    part = text[start:end]
    return any(map(str.isalnum, part)) or not any(map(str.isalnum, text))
