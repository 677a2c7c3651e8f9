"""Named entities in sequences of tags (IOB2, IOBES, BILOU), and the F1 of their spans.

Entities are read as CoNLL's evaluation program and seqeval (its default mode) read them: one may begin with `I-`, and
ends where the type changes. A span counts as found if its first step, its last step and its type are right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Span = tuple[str, int, int]
"""Type, first step and last step of an entity."""

_TAG = re.compile(r"O|[BIESLUM]-\S+")
_IOBES = {"L": "E", "U": "S", "M": "I"}
"""Letters of BILOU and BMES, each with its letter in IOBES."""


def are_entity_tags(labels: Iterable[str]) -> bool:
    """Return whether labels are tags of entities: all `O` or `B-TYPE` and the like, and one of them begins an entity."""
    labels = set(labels)
    return all(_TAG.fullmatch(label) for label in labels) and any(label[0] in "BISU" for label in labels)


def find_entities(tags: Sequence[str]) -> list[Span]:
    """Return the entities in the tags of one sentence.

    Example:
        >>> find_entities(["B-PER", "I-PER", "O", "I-LOC"])
        [('PER', 0, 1), ('LOC', 3, 3)]
    """
    spans: list[Span] = []
    open_type, start, previous = "", 0, "O"
    for step, tag in enumerate([*tags, "O"]):
        letter, _, entity_type = tag.partition("-")
        letter = _IOBES.get(letter, letter)
        continues = previous in "BI" and letter in "IE" and entity_type == open_type
        if previous != "O" and not continues:
            spans.append((open_type, start, step - 1))
        if letter != "O" and not continues:
            open_type, start = entity_type, step
        previous = letter
    return spans


def entity_metrics(truth: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> dict[str, float]:
    """Return F1, precision and recall of the entities in all sentences (micro averages); 0 where there is none."""
    hits = num_predicted = num_true = 0
    for true_tags, predicted_tags in zip(truth, predicted, strict=True):
        true_spans, predicted_spans = set(find_entities(true_tags)), set(find_entities(predicted_tags))
        hits += len(true_spans & predicted_spans)
        num_true, num_predicted = num_true + len(true_spans), num_predicted + len(predicted_spans)
    return {
        "entity_f1": 2 * hits / max(1, num_true + num_predicted),
        "entity_precision": hits / max(1, num_predicted),
        "entity_recall": hits / max(1, num_true),
    }
