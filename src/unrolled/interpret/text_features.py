"""Features of a text that hidden units may follow: for each character a truth value or a number.

Each feature is a function from the text's characters to an array `(T,)`, bool or float; `FEATURES` lists them with a name and
a description. Markup, strings and comments are recognized by simple rules that hold for most languages, without a parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
OPENING, CLOSING = "([{", ")]}"
MAX_QUOTE_CHARS = 400
"""A quotation mark without a partner within this many characters is ignored."""


@dataclass(frozen=True)
class Feature:
    """A feature: `compute` returns one value per character of a text.

    A `trivial` feature depends on the current character only, so that following it takes no memory. A `local` one depends on
    the last few characters: it takes little memory, and many units follow it.
    """

    name: str
    description: str
    compute: Callable[[str], Values]
    trivial: bool = False
    local: bool = False


def inside_matches(pattern: str, flags: int = 0) -> Callable[[str], BoolArray]:
    """Return a feature that is on from the first to the last but one character of every match of a pattern.

    It is off at the last character, since a model that has read it knows that the match has ended.
    """
    compiled = re.compile(pattern, flags)

    def compute(text: str) -> BoolArray:
        mask = np.zeros(len(text), dtype=bool)
        for match in compiled.finditer(text):
            mask[match.start() : max(match.start() + 1, match.end() - 1)] = True
        return mask

    return compute


def at_characters(test: Callable[[str], bool]) -> Callable[[str], BoolArray]:
    """Return a feature that is on at characters for which `test` is true."""
    return lambda text: np.fromiter((test(c) for c in text), dtype=bool, count=len(text))


def bracket_depth(opening: str, closing: str) -> Callable[[str], Values]:
    """Return a feature that counts the open brackets, never below zero."""

    def compute(text: str) -> Values:
        level, levels = 0, np.zeros(len(text))
        for index, character in enumerate(text):
            level = max(0, level + (character in opening) - (character in closing))
            levels[index] = level
        return levels

    return compute


def inside_brackets(opening: str, closing: str) -> Callable[[str], BoolArray]:
    """Return a feature that is on while one of these brackets is open."""
    depth_of = bracket_depth(opening, closing)
    return lambda text: depth_of(text) > 0


def column_number(text: str) -> Values:
    """Count the characters since the last line end."""
    positions = np.arange(len(text))
    starts = np.where(_equals(text, "\n"), positions, -1)
    return (positions - np.maximum.accumulate(starts)).astype(float)


def distance_to_line_end(text: str) -> Values:
    """Count the characters until the next line end."""
    return column_number(text[::-1])[::-1]


def indentation_width(text: str) -> Values:
    """Count the spaces at the start of the line so far; a tab counts as four."""
    widths, width, is_leading = np.zeros(len(text)), 0, True
    for index, character in enumerate(text):
        if character == "\n":
            width, is_leading = 0, True
        elif is_leading and character in " \t":
            width += 4 if character == "\t" else 1
        else:
            is_leading = False
        widths[index] = width
    return widths


def in_indentation(text: str) -> BoolArray:
    """Return where the spaces and tabs at the start of a line are."""
    mask = np.zeros(len(text), dtype=bool)
    for match in re.finditer(r"^[ \t]+", text, re.MULTILINE):
        mask[match.start() : match.end()] = True
    return mask


def word_position(text: str) -> Values:
    """Count the letters of the word so far."""
    return _run_length(at_characters(str.isalpha)(text))


def previous_line_length(text: str) -> Values:
    """Return the length of the line before this one."""
    lengths = np.zeros(len(text))
    start = previous = 0
    for index, character in enumerate(text):
        lengths[index] = previous
        if character == "\n":
            previous, start = index - start, index + 1
    return lengths


def sentence_position(text: str) -> Values:
    """Count the characters since the last full stop, question or exclamation mark."""
    positions = np.arange(len(text))
    ends = np.where(np.fromiter((c in ".?!" for c in text), dtype=bool, count=len(text)), positions, -1)
    return (positions - np.maximum.accumulate(ends)).astype(float)


def is_punctuation(character: str) -> bool:
    """Return whether a character is neither letter, digit nor white space."""
    return not (character.isalnum() or character.isspace())


def _run_length(mask: BoolArray) -> Values:
    positions = np.arange(len(mask))
    last = np.maximum.accumulate(np.where(mask, -1, positions))
    return (positions - last).astype(float) * mask


def _equals(text: str, character: str) -> BoolArray:
    return np.fromiter((c == character for c in text), dtype=bool, count=len(text))


_QUOTED = rf"[^{{0}}\n]{{{{0,{MAX_QUOTE_CHARS}}}}}"

FEATURES: tuple[Feature, ...] = (
    Feature("double quotes", 'between " and "', inside_matches(r'"' + _QUOTED.format('"') + '"|“[^”]*”')),
    Feature(
        "single quotes",
        "between ' and ', not apostrophes within words",
        inside_matches(r"(?<!\w)'[^'\n]{1,400}'(?!\w)|‘[^’]*’"),
    ),
    Feature("triple quotes", 'between """ and """', inside_matches(r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'')),
    Feature(
        "comment",
        "from # or // to the line end, or between /* and */",
        inside_matches(r"(?:#|(?<!:)//)[^\n]*\n|/\*[\s\S]*?\*/"),
    ),
    Feature(
        "comment or string",
        "in a comment, a quotation or a string",
        inside_matches(
            r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"[^"\n]*"|(?<!\w)\'[^\'\n]*\'|#[^\n]*\n|(?<!:)//[^\n]*\n|/\*[\s\S]*?\*/'
        ),
    ),
    Feature("round brackets", "between ( and )", inside_brackets("(", ")")),
    Feature("square brackets", "between [ and ]", inside_brackets("[", "]")),
    Feature("curly brackets", "between { and }", inside_brackets("{", "}")),
    Feature("bracket depth", "how many brackets are open", bracket_depth(OPENING, CLOSING)),
    Feature("markup [[ ]]", "between [[ and ]]", inside_matches(r"\[\[[^\]\n]*\]\]")),
    Feature("tag < >", "between < and >", inside_matches(r"<[^<>\n]{1,200}>")),
    Feature("URL", "in a web address", inside_matches(r"(?:https?://|www\.)\S+\s?")),
    Feature("position in line", "characters since the line end", column_number),
    Feature(
        "distance to line end", "characters until the next line end, predictable from the layout only", distance_to_line_end
    ),
    Feature("end of line near", "at most 5 characters before a line end", lambda text: distance_to_line_end(text) <= 5),
    Feature("start of line", "at a line end and the 3 characters after it", lambda text: column_number(text) <= 3, local=True),
    Feature("previous line's length", "length of the line before", previous_line_length),
    Feature("empty line", "at a line end that follows another", inside_matches(r"(?<=\n)\n"), local=True),
    Feature("indentation", "spaces at the start of the line", indentation_width),
    Feature("in indentation", "in the spaces at the start of a line", in_indentation),
    Feature("inside a word", "at a letter", at_characters(str.isalpha), trivial=True),
    Feature("position in word", "letters of the word so far", word_position),
    Feature("inside a number", "at a digit", at_characters(str.isdigit), trivial=True),
    Feature("capital", "at a capital letter", at_characters(str.isupper), trivial=True),
    Feature("words in capitals", "in two capital letters or more", inside_matches(r"[A-Z]{2}[A-Z ]*\W?")),
    Feature("white space", "at a space, tab or line end", at_characters(str.isspace), trivial=True),
    Feature(
        "punctuation", "at a character that is no letter, digit or white space", at_characters(is_punctuation), trivial=True
    ),
    Feature("vowel", "at a, e, i, o, u", at_characters(lambda c: c in "aeiouAEIOU"), trivial=True),
    Feature("sentence position", "characters since . ? or !", sentence_position),
    Feature(
        "line ends with a colon", "in a line whose last character is a colon", inside_matches(r"^[^\n:]+:\n", re.MULTILINE)
    ),
)
"""All features that units are compared with."""
