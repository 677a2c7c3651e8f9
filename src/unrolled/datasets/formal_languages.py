"""Formal languages and memory tasks: strings with a label for every symbol, made on demand from a seed.

They separate what kinds of state a network can keep: a finite automaton (parity, counting modulo 3, modular arithmetic, S5), a
counter (a^n b^n, a^n b^n c^n, Dyck-1), a stack (Dyck-2), or a record of what was read (recall, copying, sorting).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

TRAIN_LENGTHS, TEST_LENGTHS = (3, 40), (40, 256)
"""Least and most symbols of a string in the parts of a built-in table."""

NUM_ROWS = {"train": 2_000, "test": 300}
MAX_DEPTH = 6  # of nested brackets in Dyck-2
UNSCORED = "-"
BLANK = "."


@dataclass(frozen=True)
class LabeledString:
    """A string, the label of each of its symbols, and the positions that are scored: others follow from the symbol alone."""

    symbols: str
    labels: list[str]
    scored: list[int]


@dataclass(frozen=True)
class Language:
    """A language: what it is in one line, and a function that makes a string of about some length.

    `make(rng, length)` returns a string with at least one scored position, of `length` symbols or up to two fewer, or a few
    more where the shortest string of the language is longer.
    """

    description: str
    make: Callable[[random.Random, int], LabeledString]


def _automaton(symbols: str, move: Callable[[int, str], int]) -> Callable[[random.Random, int], LabeledString]:
    """Return a maker of strings whose labels are the states of an automaton, at first 0; the last label is scored."""

    def make(rng: random.Random, length: int) -> LabeledString:
        text, state, labels = "".join(rng.choices(symbols, k=length)), 0, []
        for symbol in text:
            state = move(state, symbol)
            labels.append(str(state))
        return LabeledString(text, labels, [length - 1])

    return make


def _modular_arithmetic(rng: random.Random, length: int) -> LabeledString:
    """Make an expression such as 3+4*2, evaluated from left to right modulo 5; the value so far is scored at its last digit."""
    text = "".join(rng.choice("01234" if index % 2 == 0 else "+-*") for index in range(length - 1 + length % 2))
    value, operator, labels = 0, "+", []
    for symbol in text:
        if symbol.isdigit():
            digit = int(symbol)
            value = {"+": value + digit, "-": value - digit, "*": value * digit}[operator] % 5
        else:
            operator = symbol
        labels.append(str(value))
    return LabeledString(text, labels, [len(text) - 1])


S5_MOVES = {"a": (1, 0, 2, 3, 4), "b": (1, 2, 3, 4, 0), "c": (4, 0, 1, 2, 3)}
"""Permutations of five places, which generate S5: an exchange of the first two, a rotation, and its inverse."""


def _counting(symbols: str) -> Callable[[random.Random, int], LabeledString]:
    """Return a maker of a^n b^m (c^k): the last symbol's label says whether its count is lower, equal or higher than n."""

    def make(rng: random.Random, length: int) -> LabeledString:
        kinds = len(symbols)
        count = max(1, length // kinds)
        difference = rng.choice((0, -1, 1)) * rng.randint(1, max(1, count // 4))
        counts = [count] * (kinds - 1) + [max(1, count + difference)]
        labels = ["lower"] * count
        for index in range(1, kinds):
            names = ["lower"] * (count - 1) + ["equal"] + ["higher"] * counts[index]
            labels += names[: counts[index]]
        text = "".join(symbol * number for symbol, number in zip(symbols, counts, strict=True))
        return LabeledString(text, labels, [len(text) - 1])

    return make


def _dyck(brackets: tuple[str, ...], max_depth: int | None) -> Callable[[random.Random, int], LabeledString]:
    """Return a maker of brackets. Of one kind: is all closed at the end? Of more: which closes next, after a closing one?"""

    def make(rng: random.Random, length: int) -> LabeledString:
        length = max(2, length - length % 2)
        final = 0 if rng.random() < 0.5 else min(length - 2, 2 * rng.randint(1, 2))
        stack: list[str] = []
        symbols, labels, scored = [], [], []
        for index in range(length):
            # the last symbol closes, whatever the depth then is: what is scored does not follow from it
            remaining, target = length - 1 - index, final + 1
            can_open = len(stack) + 1 - target < remaining and (max_depth is None or len(stack) < max_depth)
            can_close = bool(stack) and target - len(stack) < remaining
            if remaining and can_open and (not can_close or rng.random() < 0.5):
                pair = rng.choice(brackets)
                stack.append(pair[1])
                symbols.append(pair[0])
            else:
                symbols.append(stack.pop())
                scored.append(index)
            labels.append(BLANK if not stack else stack[-1] if max_depth else "open")
        return LabeledString("".join(symbols), labels, scored if max_depth else [length - 1])

    return make


def _first_token(rng: random.Random, length: int) -> LabeledString:
    """Make random letters; the label of every symbol is the first one, scored at the last."""
    text = "".join(rng.choices("abcdefgh", k=length))
    return LabeledString(text, [text[0]] * length, [length - 1])


def _associative_recall(rng: random.Random, length: int) -> LabeledString:
    """Make pairs of a letter and its digit, in which letters come again; their digits are scored at the letter."""
    values: dict[str, str] = {}
    text, labels, scored = "", [], []
    pairs = max(2, length // 2)
    for index in range(pairs):
        again = values and (index == pairs - 1 or rng.random() < 0.5)
        key = rng.choice(sorted(values)) if again else rng.choice("abcdefghijklmnop")
        if key in values:
            scored.append(len(text))
        labels += [values.get(key, UNSCORED), UNSCORED]
        values.setdefault(key, rng.choice("01234567"))
        text += key + values[key]
    return LabeledString(text, labels, scored)


def _rewriting(rewrite: Callable[[str], str]) -> Callable[[random.Random, int], LabeledString]:
    """Return a maker of letters, a mark, and as many blanks, whose labels are the letters rewritten; blanks are scored."""

    def make(rng: random.Random, length: int) -> LabeledString:
        text = "".join(rng.choices("abcdefgh", k=max(1, (length - 1) // 2)))
        labels = [UNSCORED] * (len(text) + 1) + list(rewrite(text))
        return LabeledString(f"{text}>{BLANK * len(text)}", labels, list(range(len(text) + 1, len(labels))))

    return make


LANGUAGES: dict[str, Language] = {
    "parity": Language("whether the number of ones is odd", _automaton("01", lambda state, x: state ^ int(x))),
    "mod-3": Language("the number of ones modulo 3", _automaton("01", lambda state, x: (state + int(x)) % 3)),
    "modular-arithmetic": Language("the value of 3+4*2 ... from left to right, modulo 5", _modular_arithmetic),
    "s5": Language("the place of a ball after permutations of five places", _automaton("abc", lambda s, x: S5_MOVES[x][s])),
    "anbn": Language("a^n b^m: whether m is lower than n, equal or higher", _counting("ab")),
    "anbncn": Language("a^n b^n c^m: whether m is lower than n, equal or higher", _counting("abc")),
    "dyck-1": Language("brackets of one kind: whether all are closed", _dyck(("()",), None)),
    "dyck-2": Language(
        f"brackets of two kinds, nested up to {MAX_DEPTH}: which one closes next", _dyck(("()", "[]"), MAX_DEPTH)
    ),
    "first-token": Language("the first of all symbols", _first_token),
    "associative-recall": Language("the digit that came with this letter", _associative_recall),
    "sorting": Language("the letters of the first half in alphabetical order", _rewriting(lambda text: "".join(sorted(text)))),
    "copying": Language("the letters of the first half again", _rewriting(str)),
}
"""The languages by name, which are also names of built-in tables."""


def language_rows(name: str) -> Callable[[str], Iterator[dict[str, Any]]]:
    """Return a function from `train` or `test` to the rows of a language: `string`, and `labels`, one for each symbol."""

    def rows(split: str) -> Iterator[dict[str, Any]]:
        rng, bounds, training = random.Random(f"{name} {split}"), TRAIN_LENGTHS, set()
        if split == "test":
            training, bounds = {row["string"] for row in rows("train")}, TEST_LENGTHS
        for _ in range(NUM_ROWS[split]):
            made = LANGUAGES[name].make(rng, rng.randint(*bounds))
            if made.symbols not in training:  # no row is in both parts
                yield {"string": made.symbols, "labels": made.labels}

    return rows
