"""What there is to follow in a text: for each symbol a truth or a number that a reader could know after reading it.

Each feature is a function of the text's characters to an array `(T,)`: bool for something that is on or off, float for
something that grows; a line in `FEATURES` names it and says what it means. Markup, strings and comments are told by simple
rules that hold for most languages, without parsing any.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
Truths = npt.NDArray[np.bool_]
OPENING, CLOSING = "([{", ")]}"
LONGEST_QUOTE = 400
"""Characters after which an open quotation mark is taken for a stray one."""


@dataclass(frozen=True)
class Feature:
    """Something to follow: its `name`, what it `means`, and `of` a text, an array of one value a character.

    `plain` is what the character itself says: to follow it takes no memory. `near` is what the last few characters say: it
    takes little, and every unit that looks at line ends seems to follow it.
    """

    name: str
    means: str
    of: Callable[[str], Values]
    plain: bool = False
    near: bool = False


def spans(pattern: str, flags: int = 0) -> Callable[[str], Truths]:
    """Return a feature that is on inside every match of a pattern: from its first character to the last but one.

    At the last one the match is over, and a reader that follows it has let go.
    """
    compiled = re.compile(pattern, flags)

    def of(text: str) -> Truths:
        found = np.zeros(len(text), dtype=bool)
        for match in compiled.finditer(text):
            found[match.start() : max(match.start() + 1, match.end() - 1)] = True
        return found

    return of


def characters(test: Callable[[str], bool]) -> Callable[[str], Truths]:
    """Return a feature that is on at characters of a kind."""
    return lambda text: np.fromiter((test(c) for c in text), dtype=bool, count=len(text))


def depth(opening: str, closing: str) -> Callable[[str], Values]:
    """Return a feature that counts the brackets that are open, never below none."""

    def of(text: str) -> Values:
        level, levels = 0, np.zeros(len(text))
        for at, character in enumerate(text):
            level = max(0, level + (character in opening) - (character in closing))
            levels[at] = level
        return levels

    return of


def inside(opening: str, closing: str) -> Callable[[str], Truths]:
    """Return a feature that is on while a bracket of a kind is open."""
    count = depth(opening, closing)
    return lambda text: count(text) > 0


def column(text: str) -> Values:
    """Count the characters since the last line end."""
    at = np.arange(len(text))
    starts = np.where(_is(text, "\n"), at, -1)
    return (at - np.maximum.accumulate(starts)).astype(float)


def to_line_end(text: str) -> Values:
    """Count the characters until the next line end."""
    return column(text[::-1])[::-1]


def indentation(text: str) -> Values:
    """Count the blanks that the line began with, as far as it was read; a tab counts for four."""
    widths, width, leading = np.zeros(len(text)), 0, True
    for at, character in enumerate(text):
        if character == "\n":
            width, leading = 0, True
        elif leading and character in " \t":
            width += 4 if character == "\t" else 1
        else:
            leading = False
        widths[at] = width
    return widths


def in_indentation(text: str) -> Truths:
    """Tell the blanks that a line begins with."""
    found = np.zeros(len(text), dtype=bool)
    for match in re.finditer(r"^[ \t]+", text, re.MULTILINE):
        found[match.start() : match.end()] = True
    return found


def word_position(text: str) -> Values:
    """Count the letters of the word so far."""
    return _run(characters(str.isalpha)(text))


def line_length_so_far(text: str) -> Values:
    """Return the length of the line before this one."""
    lengths = np.zeros(len(text))
    start = previous = 0
    for at, character in enumerate(text):
        lengths[at] = previous
        if character == "\n":
            previous, start = at - start, at + 1
    return lengths


def sentence_position(text: str) -> Values:
    """Count the characters since the last full stop, question or exclamation mark."""
    at = np.arange(len(text))
    ends = np.where(np.fromiter((c in ".?!" for c in text), dtype=bool, count=len(text)), at, -1)
    return (at - np.maximum.accumulate(ends)).astype(float)


def is_sign(character: str) -> bool:
    """Tell a sign from a letter, digit or blank."""
    return not (character.isalnum() or character.isspace())


def _run(on: Truths) -> Values:
    at = np.arange(len(on))
    last = np.maximum.accumulate(np.where(on, -1, at))
    return (at - last).astype(float) * on


def _is(text: str, character: str) -> Truths:
    return np.fromiter((c == character for c in text), dtype=bool, count=len(text))


_QUOTED = rf"[^{{0}}\n]{{{{0,{LONGEST_QUOTE}}}}}"

FEATURES: tuple[Feature, ...] = (
    Feature("double quotes", 'between " and "', spans(r'"' + _QUOTED.format('"') + '"|“[^”]*”')),
    Feature("single quotes", "between ' and ', apostrophes in words apart", spans(r"(?<!\w)'[^'\n]{1,400}'(?!\w)|‘[^’]*’")),
    Feature("triple quotes", 'between """ and """', spans(r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'')),
    Feature("comment", "from # or // to the line end, or between /* and */", spans(r"(?:#|(?<!:)//)[^\n]*\n|/\*[\s\S]*?\*/")),
    Feature(
        "comment or string",
        "in a comment, a quotation or a string",
        spans(r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"[^"\n]*"|(?<!\w)\'[^\'\n]*\'|#[^\n]*\n|(?<!:)//[^\n]*\n|/\*[\s\S]*?\*/'),
    ),
    Feature("round brackets", "between ( and )", inside("(", ")")),
    Feature("square brackets", "between [ and ]", inside("[", "]")),
    Feature("curly brackets", "between { and }", inside("{", "}")),
    Feature("bracket depth", "how many brackets are open", depth(OPENING, CLOSING)),
    Feature("markup [[ ]]", "between [[ and ]]", spans(r"\[\[[^\]\n]*\]\]")),
    Feature("tag < >", "between < and >", spans(r"<[^<>\n]{1,200}>")),
    Feature("URL", "in a web address", spans(r"(?:https?://|www\.)\S+\s?")),
    Feature("position in line", "characters since the line end", column),
    Feature("distance to line end", "characters until the next line end: what only the layout gives away", to_line_end),
    Feature("end of line near", "at most 5 characters before a line end", lambda text: to_line_end(text) <= 5),
    Feature("start of line", "at a line end and the 3 characters after it", lambda text: column(text) <= 3, near=True),
    Feature("previous line's length", "how long the line before was", line_length_so_far),
    Feature("empty line", "at a line end that follows another", spans(r"(?<=\n)\n"), near=True),
    Feature("indentation", "blanks that the line began with", indentation),
    Feature("in indentation", "in the blanks that a line begins with", in_indentation),
    Feature("inside a word", "at a letter", characters(str.isalpha), plain=True),
    Feature("position in word", "letters of the word so far", word_position),
    Feature("inside a number", "at a digit", characters(str.isdigit), plain=True),
    Feature("capital", "at a capital letter", characters(str.isupper), plain=True),
    Feature("words in capitals", "in two capital letters or more", spans(r"[A-Z]{2}[A-Z ]*\W?")),
    Feature("blank", "at a blank, tab or line end", characters(str.isspace), plain=True),
    Feature(
        "punctuation",
        "at a sign that is no letter, digit or blank",
        characters(is_sign),
        plain=True,
    ),
    Feature("vowel", "at a, e, i, o, u", characters(lambda c: c in "aeiouAEIOU"), plain=True),
    Feature("sentence position", "characters since . ? or !", sentence_position),
    Feature("line ends with a colon", "in a line whose last character is a colon", spans(r"^[^\n:]+:\n", re.MULTILINE)),
)
"""Everything that units are held against."""
