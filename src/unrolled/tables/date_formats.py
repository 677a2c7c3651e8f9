"""Dates as people and programs write them: read, and written again in the same way."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Sequence
from typing import Any

from unrolled.tables.month_names import MonthNames

MONTH_NAMES = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
"""English names, whatever the locale of the program is."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

LAST_DAY = 31

CENTURY_PIVOT = 69
"""Years of two digits are of this century below it, and of the last one from it on, as in POSIX."""

ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "IST": 5.5,
    "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8,
    "PDT": -7,
}  # fmt: skip
"""Hours ahead of UTC, by names that programs write, whatever the zone of the computer is."""

_OFFSET = re.compile(r"(?:GMT|UTC)?(?P<sign>[+-])(?P<digits>\d{1,2}(?::?\d\d)?)")
_BLANK = "[ \u00a0\u202f]"
_TIME_OF_DAY = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,6})\d*)?)?"
_CLOCK = rf"(?:,?(?:T|:|{_BLANK}+){_TIME_OF_DAY})?"
_HALF = rf"(?:{_BLANK}*(?P<half>[AaPp])\.?[Mm]\.?)?"
_ZONE = rf"(?:{_BLANK}(?P<zone>(?:GMT|UTC)?[+-]\d{{1,2}}(?::?\d\d)?|[A-Z]{{3,4}}|Z)(?: \([^()]+\))?)?"
_DAY, _MONTH, _YEAR, _FULL_YEAR = r"(?P<day>\d{1,2})", r"(?P<month>\d{1,2})", r"(?P<year>\d{4}|\d\d)", r"(?P<year>\d{4})"
_NAME, _QUARTER, _WEEK = r"(?P<name>[A-Za-z]{3,9})\.?", r"[Qq](?P<quarter>[1-4])", r"[Ww](?:eek)? ?(?P<week>\d{1,2})"
_WEEKDAY = rf"(?:(?P<weekday>{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in WEEKDAYS)})\.?,? +)?"
_PATTERNS = (
    rf"{_DAY}(?P<separator>[./-]){_MONTH}(?P=separator){_YEAR}",
    rf"{_MONTH}(?P<separator>[/-]){_DAY}(?P=separator){_YEAR}",
    rf"{_YEAR}(?P<separator>[./-]){_MONTH}(?P=separator){_DAY}",
    rf"{_FULL_YEAR}(?P<separator>:|\. ?){_MONTH}(?P=separator){_DAY}\.?",
    rf"{_FULL_YEAR}年{_MONTH}月{_DAY}日",
    rf"{_DAY}[ ./-]*{_NAME}[ ,/-]*{_YEAR}",
    rf"{_NAME} *{_DAY}[ ,]+{_FULL_YEAR}",
    rf"{_NAME}[ -]*{_FULL_YEAR}",
    rf"{_FULL_YEAR}[ -]?{_NAME}",
    rf"{_NAME}(?:-| ?')(?P<year>\d\d)",
    rf"{_FULL_YEAR}(?:[./]|[ -]?[Mm]|年){_MONTH}月?",
    rf"{_MONTH}[./-]{_FULL_YEAR}",
    rf"{_FULL_YEAR}[ -]?{_QUARTER}",
    rf"{_QUARTER}[ -]?{_FULL_YEAR}",
    rf"{_FULL_YEAR}[ -]?{_WEEK}",
    rf"{_WEEK}[ /-]+{_FULL_YEAR}",
    rf"{_FULL_YEAR}-(?P<day_of_year>\d{{3}})",
)
_ISO = re.compile(rf"{_FULL_YEAR}-{_MONTH}(?:-{_DAY}{_CLOCK})?")
_WITH_CLOCK = re.compile(r"\d{4}-?(?:\d\d-?\d\d|W\d\d-?\d)[Tt _]+\d.*")
_CLOCK_WITH_SECONDS = re.compile(r"[T ]\d{1,2}:\d\d:\d\d")
_SPACE_BEFORE_ZONE = re.compile(r" (?=[+-]\d\d:?\d\d$|UTC$|Z$)")
_DIGITS = {
    "Y": r"(?P<year>(?:1[89]|20)\d\d)", "y": r"(?P<year>\d\d)", "m": r"(?P<month>\d\d)", "d": r"(?P<day>\d\d)",
    "H": r"(?P<hour>\d\d)", "M": r"(?P<minute>\d\d)", "S": r"(?P<second>\d\d)", "V": r"(?P<week>\d\d)",
    "j": r"(?P<day_of_year>\d{3})", ".": r"\.",
}  # fmt: skip
_MONTHS_WITHOUT_ZEROS = re.compile(r"\d{4}\.(?:0[1-9]|1[0-2]?)")


class DateFormat:
    """Dates that match a pattern, whose groups are their parts: the first day where there is a month, a quarter or a week."""

    num_digits: int | None = None
    """Digits of seconds since 1970, or of parts of them, if the format is of those."""

    def __init__(self, pattern: str, names: MonthNames | None = None) -> None:
        self._pattern, self._names = re.compile(pattern), names

    @property
    def pattern(self) -> str:
        """The regular expression that a date matches as a whole."""
        return self._pattern.pattern

    def read(self, time: Any) -> datetime.datetime | None:
        """Return the date, or None if it is not in this format."""
        found = self._pattern.fullmatch(time.strip()) if isinstance(time, str) else None
        return found and _datetime(found, self._names)

    def write(self, date: datetime.datetime, like: str) -> Any:
        """Return a date as another one is written, which is in this format; digits alone as a whole number."""
        found = self._pattern.fullmatch(like)
        if found is None:
            raise ValueError(f"{like!r} is not in this format.")
        text = like
        for name in sorted((name for name, part in found.groupdict().items() if part is not None), key=found.end, reverse=True):
            hour = date.replace(hour=date.hour % 12 or 12) if name == "hour" and found.groupdict().get("half") else date
            if name == "name" and self._names is not None:
                part = self._names.write(date.month, found[name])
            else:
                part = _part(name, found[name], hour, "week" in found.groupdict())
            text = text[: found.start(name)] + part + text[found.end(name) :]
        return int(text) if text.isdigit() and text[0] != "0" else text


class _IsoFormat(DateFormat):
    """ISO dates, also of a month, or with hours of one digit; with their offset from UTC, if they have one."""

    def __init__(self) -> None:
        super().__init__(_ISO.pattern)

    def read(self, time: Any) -> datetime.datetime | None:
        text = time.isoformat() if isinstance(time, datetime.date) else time.strip() if isinstance(time, str) else ""
        if found := _ISO.fullmatch(text):
            return _datetime(found)
        try:
            date = _with_zone(text) if len(text) <= 10 or _WITH_CLOCK.fullmatch(text) else None
            if date is not None and date.tzinfo:
                date.timestamp()  # near the years 1 and 9999 there is none
            return date
        except (ValueError, OverflowError):
            return None

    def write(self, date: datetime.datetime, like: str) -> Any:
        if ":" in like:
            date = date.astimezone(_with_zone(like).tzinfo) if date.tzinfo else date
            has_seconds = date.second or date.microsecond or _CLOCK_WITH_SECONDS.search(like)
            return date.isoformat(sep=" " if " " in like else "T", timespec="auto" if has_seconds else "minutes")
        if "W" in like:
            return f"{date:%G-W%V-%u}"[: len(like)]
        return f"{date:%Y-%m-%d}"[: 7 if len(like) < 8 else 10]


class _EpochFormat(DateFormat):
    """Seconds, or parts of them, since 1970 in UTC, from 2001 to 2033."""

    def __init__(self, num_digits: int) -> None:
        super().__init__(rf"1\d{{{num_digits - 1}}}")
        self.num_digits = num_digits
        self._parts = 10 ** (num_digits - 10)

    def read(self, time: Any) -> datetime.datetime | None:
        if self._pattern.fullmatch(str(time)) is None:
            return None
        seconds, parts = divmod(int(time), self._parts)
        return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds, microseconds=parts * 10**6 / self._parts)

    def write(self, date: datetime.datetime, like: str) -> Any:
        microseconds = (date - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
        return microseconds * self._parts // 10**6


def _of_digits(fields: str) -> DateFormat:
    """Return the format of dates that are numbers, too, with its fields named as `strftime` does."""
    return DateFormat("".join(_DIGITS[field] for field in fields))


DATE_FORMATS = (
    _IsoFormat(),
    *map(DateFormat, (_WEEKDAY + p + _CLOCK + _HALF + _ZONE if "<day>" in p else p for p in _PATTERNS)),
)
"""ISO and other formats: 31.12.2024, 12/31/24 6:00 PM, 2024/12/31, 2024. 12. 31., 31-Dec-2024, Tue, Dec 31, 2024, Dec 2024,
2024 Dec, Dec-24, 12/2024, 2024Q4, 2024 W52, 2024-366; with their zone, 2024/12/31 6:00 PM GMT+1, 31/Dec/2024:18:00 +0100."""

CLOCK = DateFormat(_TIME_OF_DAY + _HALF)
"""The time of a day that is not known, such as 18:00, 6:00:30 PM: that of the first of January 1970."""

SURE_DIGITS = (
    *map(_of_digits, ("YmdHMS", "YmdHM", "YmdH", "Ymd", "Ym", "Y.m", "m.Y", "Yj")), *map(_EpochFormat, (10, 13, 16, 19))
)  # fmt: skip
"""Formats of numbers that are hardly anything else: 20241231, 202412, 2024.12, 12.2024, 2024366, 1735603200."""

LIKELY_DIGITS = tuple(map(_of_digits, ("YV", "dmY", "mdY", "ymd", "dmy", "mdy")))
"""Formats of numbers that may be counted, too: 202452, 31122024, 241231."""


_OTHER_NAME = r"(?P<name>[^\W\d_][^\s\d.,/’'-]*\.?)"
_OTHER_PATTERNS = (
    rf"{_DAY}(?P<ordinal>er|[.ºª])?[ ./-]*(?:de |d[’'])?{_OTHER_NAME}(?:,? del? |[ ,./-]+){_YEAR}(?: ?[гр]\.?)?{_CLOCK}",
    rf"{_OTHER_NAME} +{_DAY}\.?[ ,]+{_FULL_YEAR}{_CLOCK}{_HALF}",
    rf"{_FULL_YEAR}[ .-]*{_OTHER_NAME}[ -]*{_DAY}\.?{_CLOCK}{_HALF}",
    rf"{_OTHER_NAME}(?: del? |[ ,-]*){_FULL_YEAR}(?: ?[гр]\.?)?",
    rf"{_FULL_YEAR}[ -]?{_OTHER_NAME}",
    rf"{_OTHER_NAME}(?:-| ?'| )(?P<year>\d\d)",
)


def language_formats(names: MonthNames) -> list[DateFormat]:
    """Return the formats of dates with the names of months in another language: 1er janvier 2024, 15 de marzo de 2024.

    Example:
        >>> from unrolled.tables.month_names import languages_of
        >>> names = languages_of(["mars"])[0]
        >>> language_formats(names)[0].read("15 mars 2024")
        datetime.datetime(2024, 3, 15, 0, 0)
    """
    return [DateFormat(pattern, names) for pattern in _OTHER_PATTERNS]


_SHORT_MONTH = re.compile(r"(?P<name>[A-Za-z]{3,9})\.?(?:-| ?'?)(?P<day>\d\d)")
_DAY_OF_MONTH = re.compile(r"(?:\d{1,2}[ .-]*(?P<name>[A-Za-z]{3,9})|(?P<first>[A-Za-z]{3,9})\.? *\d{1,2}|--\d\d-\d\d)\.?")


def lacks_year(times: Sequence[Any]) -> bool:
    """Return whether times are days without a year, such as 24-Jan, or Jan-24 where 24 changes more often than Jan.

    Example:
        >>> lacks_year(["Jan-24", "Feb-24"]), lacks_year(["Jan-23", "Jan-24", "Jan-25"]), lacks_year(["24-Jan"])
        (False, True, True)
    """
    texts = [time.strip() for time in times if isinstance(time, str)]
    if not texts or len(texts) < len(times):
        return False
    found = list(filter(None, map(_SHORT_MONTH.fullmatch, texts)))
    if len(found) == len(texts):
        is_day = all(0 < int(each["day"]) <= LAST_DAY for each in found)
        changes = [sum(a[part] != b[part] for a, b in itertools.pairwise(found)) for part in ("day", "name")]
        return is_day and changes[0] > changes[1]
    days = list(filter(None, map(_DAY_OF_MONTH.fullmatch, texts)))
    return len(days) == len(texts) and all(month_of(day["name"] or day["first"] or "May") for day in days)


def plain_texts(times: Sequence[Any]) -> list[Any]:
    """Return times that are numbers as texts, without what programs add to them or take off: 20241231.0, and 2024.1 of October.

    Example:
        >>> plain_texts([20241231.0, "20250101"]), plain_texts([2024.09, 2024.1, 2024.11])
        (['20241231', '20250101'], ['2024.09', '2024.10', '2024.11'])
    """
    texts = [str(time).strip() if isinstance(time, str | int | float) else time for time in times]
    texts = [text[:-2] if isinstance(text, str) and text.endswith(".0") and len(text) > 7 else text for text in texts]
    if all(isinstance(text, str) and _MONTHS_WITHOUT_ZEROS.fullmatch(text) for text in texts):
        return [text.ljust(7, "0") for text in texts]
    return texts


def _with_zone(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(_SPACE_BEFORE_ZONE.sub("", text).replace("UTC", "Z"))


def month_of(name: str) -> int:
    """Return the month of an English name, or of its first letters; 0 if there is none."""
    lower = name.lower()
    names = (
        number for number, month in enumerate(MONTH_NAMES, 1) if lower in (month, month[:3]) or lower == month[:4] == "sept"
    )
    return next(names, 0)


def _datetime(found: re.Match[str], names: MonthNames | None = None) -> datetime.datetime | None:
    """Return the date of a match, or None if there is no such date. Hour 24 is midnight of the next day; what has no date at
    all is of the first day of 1970."""
    groups = {"year": "1970", "month": "1"} | {name: text for name, text in found.groupdict().items() if text is not None}
    year, hour = int(groups["year"]), int(groups.get("hour", 0))
    if len(groups["year"]) == 2:
        year += 1900 if year >= CENTURY_PIVOT else 2000
    if (half := groups.get("half")) is not None:
        hour = hour % 12 + (12 if half in "Pp" else 0)
    minute, second = (int(groups.get(name, 0)) for name in ("minute", "second"))
    fraction = int(groups.get("fraction", "").ljust(6, "0"))
    is_midnight = (hour, minute, second, fraction) == (24, 0, 0, 0)
    try:
        clock = datetime.time(0 if is_midnight else hour, minute, second, fraction, _zone(groups.get("zone")))
        date = datetime.datetime.combine(_day(groups, year, names), clock)
        return date + datetime.timedelta(days=1) if is_midnight else date
    except (ValueError, OverflowError):
        return None


def _zone(text: str | None) -> datetime.timezone | None:
    """Return the zone that a time is in, None for none; raises `ValueError` for one that is not known."""
    if text is None:
        return None
    if (found := _OFFSET.fullmatch(text)) is None:
        if text not in ZONES:
            raise ValueError(f"{text} is no zone")
        return datetime.timezone(datetime.timedelta(hours=ZONES[text]))
    digits = found["digits"].replace(":", "")
    hours, minutes = int(digits[:-2] if len(digits) > 2 else digits), int(digits[-2:]) if len(digits) > 2 else 0
    offset = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-offset if found["sign"] == "-" else offset)


def _day(groups: dict[str, str], year: int, names: MonthNames | None) -> datetime.date:
    """Return the day of the parts of a date, or the first one; raises `ValueError` if there is none."""
    if "week" in groups:
        return datetime.date.fromisocalendar(year, int(groups["week"]), 1)
    if "day_of_year" in groups:
        date = datetime.date(year, 1, 1) + datetime.timedelta(days=int(groups["day_of_year"]) - 1)
        return date.replace(year=year if date.year == year else 0)
    if "name" in groups:
        month = names.month_of(groups["name"]) if names is not None else month_of(groups["name"])
    else:
        month = 3 * int(groups["quarter"]) - 2 if "quarter" in groups else int(groups["month"])
    return datetime.date(year, month, int(groups.get("day", 1)))


def _part(name: str, written: str, date: datetime.datetime, is_of_week: bool) -> str:
    """Return a part of a date as long, and in such letters, as `written`."""
    if name in ("name", "weekday"):
        full = MONTH_NAMES[date.month - 1] if name == "name" else WEEKDAYS[date.weekday()]
        is_full = len(written) > 4 or written.lower() in MONTH_NAMES[5:7]  # of May, which is both, the next one is Jun
        text = full if is_full else full[:3]
        return text.upper() if written.isupper() else text.lower() if written.islower() else text.title()
    if name == "half":
        half = "P" if date.hour >= 12 else "A"
        return half if written.isupper() else half.lower()
    if name == "ordinal":
        return "" if written == "er" and date.day > 1 else written  # 1er avril, 2 avril
    if name in ("separator", "zone", "fraction"):
        return written if name != "fraction" else f"{date.microsecond:06}"[: len(written)]
    week = date.isocalendar()
    numbers = {
        "quarter": (date.month + 2) // 3, "week": week.week, "day_of_year": int(f"{date:%j}"),
        "year": week.year if is_of_week else date.year,
    }  # fmt: skip
    number = numbers[name] if name in numbers else getattr(date, name)
    return f"{number % 100 if name == 'year' and len(written) == 2 else number:0{len(written)}}"
