"""What is most likely unwanted in the texts of a column: wrong encodings, HTML, invisible characters, dates made by Excel."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection

from unrolled.text.encoding_guess import encoded_twice

MIN_ODD = 3
"""Texts with the same oddity, at least, for a message about it."""

_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#[xX][0-9a-fA-F]{1,5});")
_TAG = re.compile(
    r"</?(?:br|div|em|li|span|strong|td|tr|ul)(?:\s[^<>]{0,80})?/?>|</[abip]>|<a\s[^<>]{0,80}>|(?<!\w)<p>", re.IGNORECASE
)
"""Tags of one letter only where they are no variable or type, as in `a <b> c` and `List<A>`."""

_ESCAPE = re.compile(r"(?<![:\[-])\\(?:u[0-9a-fA-F]{4}|x[89a-fA-F][0-9a-fA-F])")
"""Escapes of characters outside ASCII, but no path such as `C:\\x86`, and no range of a regular expression."""

_QUOTED = re.compile(r"(?:%[89A-F][0-9A-F]){2,}")
_INVISIBLE = re.compile(
    "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]|(?<=[A-Za-z])[\u200c\u200d](?=[A-Za-z])"
)
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_EXCEL_DATE = re.compile(rf"\s*(?:\d{{1,2}}-{_MONTH}|{_MONTH}-\d{{2}})\s*\Z")
_EXCEL_NUMBER = re.compile(r"\s*\d(?:\.\d{1,5})?E\+(?:1[1-9]|[2-9]\d)\s*\Z")


def _first(pattern: re.Pattern[str], mark: str, at_start: bool = False) -> Callable[[str], str]:
    """Return a function that returns the first match in a text, or an empty string; texts without `mark` are not searched.

    Without a mark, texts of ASCII are not searched.
    """
    search = pattern.match if at_start else pattern.search

    def find(text: str) -> str:
        found = search(text) if mark in text and not (not mark and text.isascii()) else None
        return found[0].strip() if found else ""

    return find


_EXCEL_DATE_SENTENCE = "dates, as Excel makes of names and ranges such as SEPT2 and 2-9, as {}: make the file again without it"
_ODDITIES: tuple[tuple[Callable[[str], str], str], ...] = (
    (encoded_twice, "UTF-8 that was read as Windows-1252, as {}: make the file again as UTF-8"),
    (
        _first(_ENTITY, "&"),
        "signs as HTML writes them, as {}, which are learned so: html.unescape(text) of Python gives the signs",
    ),
    (_first(_TAG, "<"), "tags of HTML, as {}, which are learned as text: if they mean nothing, remove them"),
    (
        _first(_ESCAPE, "\\"),
        "characters as programs write them, as {}, which are learned so: json.loads or ast.literal_eval of Python reads them",
    ),
    (
        _first(_QUOTED, "%"),
        "characters as web addresses write them, as {}, which are learned so: urllib.parse.unquote(text) of Python reads them",
    ),
    (
        _first(_INVISIBLE, ""),
        "characters that cannot be seen, as {}: a word with one is another word; if they mean nothing, remove them",
    ),
    (
        _first(re.compile(r"b['\"](?=.*['\"]\s*\Z)", re.DOTALL), "b", at_start=True),
        "bytes as Python prints them, which begin with {}: decode them, as in data.decode() of Python",
    ),
    (
        _first(re.compile("\x1b"), "\x1b"),
        "colors of a terminal, which begin with {}: remove them (sed 's/\\x1b\\[[0-9;]*m//g')",
    ),
    (_first(re.compile("\u0640"), "\u0640"), "stretched letters, with {}: a word with them is another word"),
    (
        _first(_EXCEL_NUMBER, "E+", at_start=True),
        "long numbers as Excel shows them, as {}: if they are codes, their digits are lost: make the file again without it",
    ),
    (_first(_EXCEL_DATE, "-", at_start=True), _EXCEL_DATE_SENTENCE),
)
"""Functions that find an oddity in a text, each with the message about it."""

MAX_MEASURE_LENGTH = 32
"""Characters of a date, a duration or another measure."""

_FORMULA = re.compile(r"[=*^]|\A(?!P(?:T\d|\d+[DWMY]))(?:[^\W\d_]+|[^\W\d_]{1,2}-)\d")
"""Signs of arithmetic, or letters at the start with a digit directly after them, as in C2H6O, postcodes and B-12, but
not in durations such as PT1H20M."""

_SEPARATORS = ("|", ";", ",", "/", "+", "&")


def is_measure(text: str) -> bool:
    """Return whether a text is mostly digits with separators or units between them, as in a date, a duration or a range.

    Example:
        >>> [is_measure(text) for text in ("1:30", "3h 20m", "2024-01-31", "Jan 5, 2024", "5 to 9")]
        [True, True, True, True, True]
        >>> [is_measure(text) for text in ("9 0 2", "room 5", "C2H6O", "3*x+2", "=46")]
        [False, False, False, False, False]
    """
    signs = "".join(text.split())
    if _FORMULA.search(text.strip()):
        return False
    num_digits = sum(map(str.isdecimal, signs))
    return len(signs) <= MAX_MEASURE_LENGTH and num_digits < len(signs) <= 3 * num_digits


def joined_labels(name: str, values: Collection[str]) -> str:
    """Return a message if values look like several labels joined by a separator, or an empty string.

    Most parts of these must be values themselves or occur in several of them, as in `a|b`, `b|c` and `a`.
    """
    alone = {value.strip() for value in values}
    for sign in _SEPARATORS:
        joined = [value for value in values if sign in value]
        counts = Counter(part for value in joined for part in {part.strip() for part in value.split(sign)})
        parts = [value.split(sign) for value in joined]
        are_labels = (
            all(part.strip() and (part.strip() in alone or counts[part.strip()] > 1) for part in row) for row in parts
        )
        num_joined = sum(are_labels)
        if num_joined > 1 and 2 * num_joined > len(joined) and any(part in alone and part.isalpha() for part in counts):
            to_do = f"to learn each label, make a column of it: frame[{name!r}].str.get_dummies({sign!r}) of pandas"
            return f"'{name}': {num_joined:,} values are several labels, such as {joined[0]:.60}, learned as one; {to_do}"
    return ""


class TextOddities:
    """Counts of the texts with each oddity, and the first one found."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Count the oddities of one text."""
        for find, sentence in _ODDITIES:
            if sign := find(text):
                self._counts[sentence] += 1
                self._examples.setdefault(sentence, sign)

    def notes(self, name: str, num_rows: int) -> list[str]:
        """Return a message for each oddity that at least `MIN_ODD` texts of the column have."""
        self._counts[_EXCEL_DATE_SENTENCE] *= 2 * self._counts[_EXCEL_DATE_SENTENCE] <= num_rows  # else dates are meant
        found = ((sentence, self._counts[sentence]) for _, sentence in _ODDITIES if self._counts[sentence] >= MIN_ODD)
        return [
            f"'{name}': {count:,} of {num_rows:,} values have {sentence.format(self._shown(sentence))}"
            for sentence, count in found
        ]

    def _shown(self, sentence: str) -> str:
        example = self._examples[sentence]
        return f"'{example}'" if example.isprintable() else f"U+{ord(example[0]):04X}"
