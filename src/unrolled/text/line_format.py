"""How lines of a log become text to learn from: what is masked in them, and which lines are one session.

A mask replaces what is different in every line, such as a number, by one symbol, so that the model learns what repeats. A
session is all lines with the same key, which a regular expression captures; other lines may stand between them.
"""

from __future__ import annotations

import contextlib
import csv
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unrolled.display import plural
from unrolled.errors import DataError, UsageError, did_you_mean


class Mask(NamedTuple):
    """One symbol, what it stands for, and the pattern of that (empty: the key of the session)."""

    symbol: str
    noun: str
    pattern: str


_HEX = "[0-9A-Fa-f]"
_PREFIXED_HEX = rf"(?<!\w)0[xX]{_HEX}+(?!\w)"
_HEX_WORD = rf"(?<!\w)(?=[A-Fa-f]*\d)(?=\d*[A-Fa-f]){_HEX}{{6,}}(?!\w)"
_LETTERS_WORD = r"(?<!\w)[A-Fa-f]{8,}(?!\w)"  # an identifier that happens to have no digit; no word of English is one

MASKS: Mapping[str, Mask] = {
    "uuid": Mask("\U0001f164", "UUID", rf"(?<!\w){_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}(?!\w)"),
    "time": Mask(
        "\U0001f163",
        "time",
        r"(?<!\d)\d{4}[-/]\d\d[-/]\d\d(?:[T ,]+\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)?(?:Z|[+-]\d\d:?\d\d)?(?![\d:])"
        r"|(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}\d{1,2}"
        r" \d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: \d{4})?"
        r"|(?<!\d)\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?: [+-]\d{4})?"
        r"|(?<![\w:.])\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?![\w:])",
    ),
    "ip": Mask(
        "\U0001f158",
        "IP address",
        r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)"
        rf"|(?<![\w:.])(?:(?:{_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}|(?={_HEX}{{0,4}}:)(?:(?:{_HEX}{{1,4}}:){{1,7}}|:):"
        rf"(?:{_HEX}{{1,4}}:){{0,6}}{_HEX}{{1,4}})(?![\w:])",
    ),
    "path": Mask(
        "\U0001f15f", "path", r"(?<![\w/\\.~\U0001f150-\U0001f169])(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w.@%+=~-]+)+[/\\]?"
    ),
    "hex": Mask("\U0001f157", "hexadecimal number", rf"{_PREFIXED_HEX}|{_HEX_WORD}|{_LETTERS_WORD}"),
    "hex-1": Mask("\U0001f157", "hexadecimal number", rf"{_PREFIXED_HEX}|{_HEX_WORD}"),
    "numbers": Mask("\U0001f15d", "number", r"(?:(?<![\w)\]/-])[-+])?\d+(?:[.:]\d+)*"),
    "key": Mask("\U0001f15a", "key", ""),
}
"""What can be masked, in the order in which it is looked for. The symbols are letters in black circles (U+1F150 to U+1F169):
N number, H hex, I address, U UUID, P path, T time, K key of the session. No normal form of Unicode changes them.

Where `hex` and `numbers` are masked, a hexadecimal word without `0x` is a number: `7555191319994958` and `755519131999495a` are
two identifiers of one kind, and the first would be rare, and surprising, for its digits alone. `hex-1` is the `hex` of models
of before, for which they are different."""

OLD_MASKS = {"hex": "hex-1"}
"""The names of masks in models and runs of before, and what these are now."""

MASK_SYMBOLS = re.compile(f"[{''.join(mask.symbol for mask in MASKS.values())}]")
"""Any of their symbols."""

MAX_SEARCH_SECONDS = 2.0
"""Most seconds that one batch of lines may take in a search for keys: a pattern that backtracks is stopped then."""

MAX_PATTERN = 1000
"""Most characters of a pattern of keys."""

MAX_LINE = 16_384
"""Most characters of a line in a session; the rest of a longer one is left out, and counted."""


@dataclass(frozen=True)
class LineFormat:
    """`mask` names what is replaced by a symbol, in the order of `MASKS`; `group_by` is the pattern of the key of a session."""

    mask: tuple[str, ...] = ()
    group_by: str | None = None

    @staticmethod
    def parse(mask: str | None, group_by: str | None = None) -> LineFormat:
        """Return the format that the settings `mask` and `group_by` ask for.

        Raises:
            UsageError: An unknown mask, a key to mask without `group_by`, or a pattern that cannot find keys.

        Example:
            >>> LineFormat.parse("numbers, ip").apply("10.0.0.7 sent 512 bytes")
            '🅘 sent 🅝 bytes'
        """
        names = [name.strip() for name in next(csv.reader([mask or ""]), [])]
        for name in names:
            if name not in MASKS:
                known = [known for known in MASKS if known not in OLD_MASKS.values()]
                hint = did_you_mean(name, known) or "."
                raise UsageError(f"--mask {name or repr(name)}: expected some of {', '.join(known)}{hint}")
        if "key" in names and group_by is None:
            raise UsageError("--mask key replaces the key of a session, and there is none: add --group-by, or leave it out.")
        if group_by is not None:
            compile_key(group_by)
        return LineFormat(tuple(name for name in MASKS if name in names), group_by)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` needs to build the same format."""
        return {"mask": list(self.mask), "group_by": self.group_by, "version": 2}

    @staticmethod
    def from_json(value: Any) -> LineFormat:
        """Build the format that `to_json` described. Raises `ValueError` for anything else."""
        mask, group_by = (value.get("mask"), value.get("group_by")) if isinstance(value, dict) else (None, 0)
        if not isinstance(mask, list) or not all(isinstance(name, str) for name in mask):
            raise ValueError("its masks are no list of names")
        if group_by is not None and not isinstance(group_by, str):
            raise ValueError("its pattern of sessions is no text")
        try:
            return LineFormat.parse(",".join(mask) if "version" in value else old_masks(",".join(mask)), group_by)
        except UsageError as error:
            raise ValueError(str(error)) from error

    def apply(self, text: str, counts: Counter[str] | None = None) -> str:
        """Return a text in which each masked value is one symbol; `counts` adds them up by the name of their mask.

        A key is not replaced here, but by `KeyFinder`.
        """
        names = [name for name in self.mask if name != "key"]
        if not names:
            return text
        masked = _pattern(tuple(names)).sub(_symbol, text)
        if counts is not None:
            for name in names:
                counts[name] += masked.count(MASKS[name].symbol) - text.count(MASKS[name].symbol)
        return masked

    def masked_values(self, line: str) -> list[str]:
        """Return what the symbols in a masked line stand for, in order; a symbol that is in the line itself stands for itself.

        Example:
            >>> LineFormat.parse("numbers, ip").masked_values("10.0.0.7 sent 512 bytes")
            ['10.0.0.7', '512']
        """
        span = KeyFinder(self).key(line[:MAX_LINE])[1] if "key" in self.mask else None
        key = ""
        if span is not None:
            key, line = line[slice(*span)], line[: span[0]] + MASKS["key"].symbol + line[span[1] :]
        names = tuple(name for name in self.mask if name != "key")
        pattern = "|".join([*([_pattern(names).pattern] if names else []), MASK_SYMBOLS.pattern])
        return [key if span is not None and match.start() == span[0] else match.group() for match in re.finditer(pattern, line)]


def old_masks(mask: str) -> str:
    """Return the setting `mask` of a model or a run of before as it is now.

    Example:
        >>> old_masks("numbers,hex")
        'numbers,hex-1'
    """
    return ",".join(OLD_MASKS.get(name.strip(), name) for name in mask.split(","))


PLAIN_LINES = LineFormat()
"""Lines as they are: nothing is masked, and there are no sessions."""


def _symbol(match: re.Match[str]) -> str:
    return MASKS[(match.lastgroup or "").replace("_", "-")].symbol


_PATTERNS: dict[tuple[str, ...], re.Pattern[str]] = {}


def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return one pattern for several masks; which of them matched is the name of its group."""
    if names not in _PATTERNS:
        patterns = {name: MASKS[name].pattern for name in names}
        if {"hex", "numbers"} <= patterns.keys():
            patterns |= {"hex": _PREFIXED_HEX, "numbers": f"{_HEX_WORD}|{_LETTERS_WORD}|{patterns['numbers']}"}
        groups = (f"(?P<{name.replace('-', '_')}>{pattern})" for name, pattern in patterns.items())
        _PATTERNS[names] = re.compile("|".join(groups))
    return _PATTERNS[names]


def mask_note(counts: Mapping[str, int]) -> str:
    """Return what was masked in words: how many of each, with their symbols; an empty string for nothing.

    Example:
        >>> mask_note({"numbers": 2, "ip": 0})
        'masked: 2 numbers as 🅝'
    """
    parts = [
        f"{_plural(count, MASKS[name].noun)} as {MASKS[name].symbol}"
        for name, count in counts.items()
        if count and name in MASKS
    ]
    return "masked: " + ", ".join(parts) if parts else ""


def _plural(count: int, noun: str) -> str:
    return f"{count:,} IP addresses" if noun == "IP address" and count != 1 else plural(count, noun)


def compile_key(pattern: str) -> re.Pattern[str]:
    """Return a compiled pattern of keys. Raises `UsageError` if it is no pattern, or matches an empty text."""
    if len(pattern) > MAX_PATTERN:
        raise UsageError(f"--group-by has a pattern of {len(pattern):,} characters; expected at most {MAX_PATTERN:,}.")
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"--group-by {pattern!r} is no regular expression: {error}.") from error
    with bounded_search(lambda: f"--group-by {pattern!r} takes more than {MAX_SEARCH_SECONDS:g} s on an empty line"):
        if not pattern or compiled.search(""):
            raise UsageError(
                f"--group-by {pattern!r} matches an empty text, so it finds no key in a line: write what stands around the "
                r"key, as in --group-by 'session=(\w+)'."
            )
    return compiled


@contextlib.contextmanager
def bounded_search(describe: Any) -> Iterator[None]:
    """Stop a search of a regular expression that takes more than `MAX_SEARCH_SECONDS`, with a `DataError`.

    `describe()` is the start of its message. Python's search looks for signals while it backtracks, so a timer can stop it;
    in other threads than the main one, and on Windows, there is no such timer and a search is not bounded.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise DataError(f"{describe()}: it backtracks; write it without repeats inside repeats, such as (a+)+.")

    started = time.monotonic()
    old_handler = signal.signal(signal.SIGALRM, stop)
    old_delay, old_interval = signal.setitimer(signal.ITIMER_REAL, MAX_SEARCH_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_handler)
        if old_delay:  # a time limit set by the calling program: restored
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, old_delay - (time.monotonic() - started)), old_interval)


class KeyFinder:
    """Finds the key of each line, and counts the lines without one. The key is all that the pattern captures, joined by spaces;
    of a pattern without groups, all that it matches."""

    def __init__(self, format: LineFormat) -> None:
        self.pattern, self.masks_key = format.group_by or "", "key" in format.mask
        self._search = compile_key(self.pattern).search
        self.num_lines = self.num_without_key = self.num_cut = 0

    def find(self, lines: Iterable[str]) -> tuple[list[str], list[str | None]]:
        """Return lines, with a symbol in the place of their key if it is masked, and the key of each; None without one.

        Raises `DataError` for a line on which the search takes too long.
        """
        found: list[str] = []
        keys: list[str | None] = []
        lines = list(lines)
        for start in range(0, len(lines), 1000):
            with bounded_search(self._describe):
                for line in lines[start : start + 1000]:
                    self.num_lines += 1
                    self.num_cut += len(line) > MAX_LINE
                    line = line[:MAX_LINE]
                    key, span = self.key(line)
                    found.append(line[: span[0]] + MASKS["key"].symbol + line[span[1] :] if span else line)
                    keys.append(key)
        self.num_without_key += sum(key is None for key in keys)
        return found, keys

    def key(self, line: str) -> tuple[str | None, tuple[int, int] | None]:
        """Return the key of a line, and where its symbol belongs if it is masked; None for either."""
        match = self._search(line)
        if match is None:
            return None, None
        groups = [group for group in (match.groups() or (match.group(),)) if group]
        key = " ".join(groups)
        first = next((index for index, group in enumerate(match.groups(), 1) if group), 0)
        return (key, match.span(first) if self.masks_key else None) if key else (None, None)

    def _describe(self) -> str:
        return f"--group-by {self.pattern!r} takes more than {MAX_SEARCH_SECONDS:g} s at line {self.num_lines:,}"

    def require_keys(self) -> None:
        """Raise `DataError` if no line had a key."""
        if self.num_lines and self.num_without_key == self.num_lines:
            raise DataError(
                f"--group-by {self.pattern!r} finds no key in any of {plural(self.num_lines, 'line')}: try it on one of them."
            )

    def notes(self) -> list[str]:
        """Return what is to be reported: lines without a key, and lines that were cut."""
        notes = []
        if self.num_without_key:
            notes.append(
                f"{self.num_without_key:,} of {plural(self.num_lines, 'line')} have no key: each is a session of its own"
            )
        if self.num_cut:
            notes.append(f"{plural(self.num_cut, 'line')} cut at {MAX_LINE:,} characters")
        return notes


def split_lines(text: str) -> Sequence[str]:
    """Return the lines of a text without their ends; what stands behind the last one is a line if it is not empty."""
    lines = text.split("\n")
    return lines[:-1] if not lines[-1] else lines
