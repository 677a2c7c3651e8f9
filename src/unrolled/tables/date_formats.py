"""Dates as people and programs write them: read, and written again in the same way."""

from __future__ import annotations

import datetime
import re
from typing import Any

MONTH_NAMES = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
"""English names, whatever the locale of the program is."""

CENTURY_PIVOT = 69
"""Years of two digits are of this century below it, and of the last one from it on, as in POSIX."""

_CLOCK = r"(?:[T ]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,6})\d*)?)?)?"
_HALF = r"(?: *(?P<half>[AaPp])\.?[Mm]\.?)?"
_DAY, _MONTH, _YEAR = r"(?P<day>\d{1,2})", r"(?P<month>\d{1,2})", r"(?P<year>\d{4}|\d\d)"
_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
ISO = re.compile(rf"(?P<year>\d{{4}})-{_MONTH}(?:-{_DAY}{_CLOCK})?")
PATTERNS = tuple(
    re.compile(pattern + (_CLOCK + _HALF if "day" in pattern else ""))
    for pattern in (
        rf"{_DAY}(?P<separator>[./-]){_MONTH}(?P=separator){_YEAR}",
        rf"{_MONTH}(?P<separator>[/-]){_DAY}(?P=separator){_YEAR}",
        rf"{_YEAR}(?P<separator>[./-]){_MONTH}(?P=separator){_DAY}",
        rf"{_DAY}[ .-]*{_NAME}[ ,-]*{_YEAR}",
        rf"{_NAME} *{_DAY}[ ,]+(?P<year>\d{{4}})",
        rf"{_NAME}[ -]*(?P<year>\d{{4}})",
        r"(?P<year>\d{4})[ -]?[Qq](?P<quarter>[1-4])",
        r"[Qq](?P<quarter>[1-4])[ -]?(?P<year>\d{4})",
    )
)
"""Formats other than ISO: 31.12.2024, 12/31/24 6:00 PM, 2024/12/31, 31-Dec-2024, Dec 31, 2024, December 2024, 2024Q4."""

COMPACT_DATE = re.compile(
    r"(?P<year>(?:19|20)\d\d)(?P<month>0[1-9]|1[0-2])"
    r"(?:(?P<day>0[1-9]|[12]\d|3[01])(?:(?P<hour>[01]\d|2[0-3])(?:(?P<minute>[0-5]\d)(?P<second>[0-5]\d)?)?)?)?"
)
"""Dates of digits alone, such as 20241231 or 202412312359."""

_CLOCK_WITH_SECONDS = re.compile(r"[T ]\d{1,2}:\d\d:\d\d")
_SPACE_BEFORE_ZONE = re.compile(r" (?=[+-]\d\d:?\d\d$|UTC$|Z$)")


def expand(times: list[Any]) -> list[Any]:
    """Return times as ISO dates if all are dates written as digits alone: the day after 20240131 is not 20240132.

    Example:
        >>> expand(["20240131", 20240201]), expand(["202412"]), expand([20240131, 1])
        (['2024-01-31', '2024-02-01'], ['2024-12'], [20240131, 1])
        >>> expand([2024013123, 2024020100])
        ['2024-01-31T23:00:00', '2024-02-01T00:00:00']
    """
    found = [COMPACT_DATE.fullmatch(str(time).strip()) for time in times]
    matches = [match for match in found if match is not None]
    if len(matches) < len(times) or len({len(match[0]) for match in matches}) > 1:
        return times
    dates = ["-".join(filter(None, match.group("year", "month", "day"))) for match in matches]
    clocks = [":".join(match.groups("00")[3:]) for match in matches]
    return [f"{date}T{clock}" if match["hour"] else date for match, date, clock in zip(matches, dates, clocks, strict=True)]


def read_iso(time: Any) -> datetime.datetime | None:
    """Return an ISO date, also of a month, or with hours of one digit; with its offset from UTC, if it has one."""
    text = time.isoformat() if isinstance(time, datetime.date) else time.strip() if isinstance(time, str) else ""
    if found := ISO.fullmatch(text):
        return _datetime(found)
    try:
        date = _with_zone(text)
        date.timestamp() if date.tzinfo else None  # near the years 1 and 9999 there is none
        return date
    except (ValueError, OverflowError):
        return None


def read_date(pattern: re.Pattern[str], time: Any) -> datetime.datetime | None:
    """Return a date in one of the `PATTERNS`; the first day of a month or of a quarter that has none."""
    found = pattern.fullmatch(time.strip()) if isinstance(time, str) else None
    return found and _datetime(found)


def _with_zone(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(_SPACE_BEFORE_ZONE.sub("", text).replace("UTC", "Z"))


def _month_of(name: str) -> int:
    """Return the month of an English name, or of its first letters; 0 if there is none."""
    lower = name.lower()
    names = (
        number for number, month in enumerate(MONTH_NAMES, 1) if lower in (month, month[:3]) or lower == month[:4] == "sept"
    )
    return next(names, 0)


def _datetime(found: re.Match[str]) -> datetime.datetime | None:
    """Return the date of a match, or None if there is no such date."""
    groups = {name: text for name, text in found.groupdict().items() if text is not None}
    year, hour = int(groups["year"]), int(groups.get("hour", 0))
    if len(groups["year"]) == 2:
        year += 1900 if year >= CENTURY_PIVOT else 2000
    if "name" in groups:
        month = _month_of(groups["name"])
    else:
        month = 3 * int(groups["quarter"]) - 2 if "quarter" in groups else int(groups["month"])
    if (half := groups.get("half")) is not None:
        hour = hour % 12 + (12 if half in "Pp" else 0)
    clock = (int(groups.get("minute", 0)), int(groups.get("second", 0)), int(groups.get("fraction", "").ljust(6, "0")))
    try:
        return datetime.datetime(year, month, int(groups.get("day", 1)), hour, *clock)
    except ValueError:
        return None


def written_like(time: Any, date: datetime.datetime, pattern: re.Pattern[str] | None) -> str | int:
    """Return a date as another time is written, which is in one of the `PATTERNS`, or ISO or without signs (None)."""
    text = str(time).strip()
    if pattern is not None and (found := pattern.fullmatch(text)):
        for name in sorted((name for name, part in found.groupdict().items() if part is not None), key=found.end, reverse=True):
            hour = date.replace(hour=date.hour % 12 or 12) if name == "hour" and found.groupdict().get("half") else date
            text = text[: found.start(name)] + _part(name, found[name], hour) + text[found.end(name) :]
        return text
    if text.isdigit():
        return int(f"{date:%Y%m%d%H%M%S}"[: len(text)])
    if ":" in text:
        date = date.astimezone(_with_zone(text).tzinfo) if date.tzinfo else date
        has_seconds = date.second or date.microsecond or _CLOCK_WITH_SECONDS.search(text)
        return date.isoformat(sep=" " if " " in text else "T", timespec="auto" if has_seconds else "minutes")
    if "W" in text:
        return f"{date:%G-W%V-%u}"[: len(text)]
    return f"{date:%Y-%m-%d}"[: 7 if len(text) < 8 else 10]


def _part(name: str, written: str, date: datetime.datetime) -> str:
    """Return a part of a date as long, and in such letters, as `written`."""
    if name == "name":
        full = MONTH_NAMES[date.month - 1]
        is_full = len(written) > 4 or written.lower() in MONTH_NAMES[5:7]  # of May, which is both, the next one is Jun
        text = full if is_full else full[:3]
        return text.upper() if written.isupper() else text if written.islower() else text.title()
    if name == "half":
        half = "P" if date.hour >= 12 else "A"
        return half if written.isupper() else half.lower()
    if name in ("separator", "fraction"):
        return written if name == "separator" else f"{date.microsecond:06}"[: len(written)]
    number = (date.month + 2) // 3 if name == "quarter" else getattr(date, name)
    return f"{number % 100 if name == 'year' and len(written) == 2 else number:0{len(written)}}"
