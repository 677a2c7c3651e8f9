"""Subtitles (SRT, WebVTT, SubStation Alpha) and lyrics with times (LRC) as text: one line per cue, without times and tags.

A cue is `00:00:01,000 --> 00:00:02,000` and lines of text up to the number of the next one (SRT) or a blank line (WebVTT,
https://www.w3.org/TR/webvtt1/). Its lines are joined by a space, since subtitles are broken where the picture ends; a line that
begins with a dash, a change of the speaker, stays a line.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from unrolled.errors import DataError
from unrolled.text.compressed_files import inner_suffix
from unrolled.text.encodings import display_name

_TIMES = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{1,2}[,.]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{1,2}[,.]\d{1,3}(?:\s.*)?")
_TAG = re.compile(
    r"</?(?:b|c|em|font|i|lang|rt|ruby|s|span|strong|u|v)(?:[\s.][^<>]*)?>|<(?:\d+:)?\d\d:\d\d\.\d{2,3}>|\{\\[^{}]*\}"
)
_OVERRIDE, _NEW_LINE = re.compile(r"\{[^{}]*\}"), re.compile(r"\\[Nn]")
_LYRICS = re.compile(r"(?:\[\d{1,3}:\d\d(?:[.:]\d{1,3})?\])+(?P<text>.*)")
_KINDS = {
    ".vtt": ("WebVTT", "00:00:01,000 --> 00:00:02,000"), ".lrc": ("LRC", "[00:12.00]"),
    ".ass": ("SubStation Alpha", "Dialogue: 0,"), ".ssa": ("SubStation Alpha", "Dialogue: "),
}  # fmt: skip
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_SPEAKER = re.compile(r"\s*[-\u2010-\u2015]")


def subtitle_text(path: Path, suffix_of: Path, lines: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    """Yield the text of subtitles, in lines.

    Args:
        path: The file, for messages.
        suffix_of: The file whose suffix says what it is: `path` may be a copy of it.
        lines: Its lines, without line ends.
        counts: What is counted, by its name for people: cues, and what was left out.

    Raises:
        DataError: A line has `-->` and no two times, or there is no cue.
    """
    suffix, num_before = inner_suffix(suffix_of), counts["cues"]
    is_vtt, last = suffix == ".vtt", ""
    found = _lyrics(lines, counts) if suffix == ".lrc" else _dialogue(lines, counts) if suffix in (".ass", ".ssa") else None
    for cue in _cues(path, lines, is_vtt, counts) if found is None else found:
        counts["cues"] += 1
        shown = [text for line in cue if (text := _without_tags(line, is_vtt, counts))]
        spoken = shown[1:] if is_vtt and shown and shown[0] == last else shown  # captions that roll up show it again
        counts["repeated lines"] += len(shown) - len(spoken)
        counts["cues without text"] += not shown
        last = shown[-1] if shown else last
        yield from _joined(spoken)
    if counts["cues"] == num_before:
        kind, example = _KINDS.get(suffix, ("SRT", "00:00:01,000 --> 00:00:02,000"))
        problem = f"no cue of {kind} subtitles, which begins with a line like {example}"
        raise DataError(f"{display_name(path)} has {problem}: name it .txt to read it as it is.")


def _dialogue(lines: Iterable[str], counts: Counter[str]) -> Iterator[list[str]]:
    """Yield the lines of each cue of SubStation Alpha: the last field of those that are no comments."""
    num_fields, in_events = 10, False
    for line in lines:
        kind, _, rest = line.lstrip("\ufeff").partition(":")
        in_events = line.strip().lower() == "[events]" if line.startswith("[") else in_events
        if in_events and kind == "Format":
            num_fields = rest.count(",") + 1
        elif in_events and kind == "Dialogue" and rest.count(",") >= num_fields - 1:
            text, num_tags = _OVERRIDE.subn("", rest.split(",", num_fields - 1)[-1])
            counts["tags"] += num_tags
            yield _NEW_LINE.split(text.replace("\\h", " "))
        elif in_events and kind == "Comment":
            counts["comments"] += 1


def _lyrics(lines: Iterable[str], counts: Counter[str]) -> Iterator[list[str]]:
    """Yield the lines of lyrics with times."""
    for line in lines:
        if found := _LYRICS.fullmatch(line.lstrip("\ufeff").rstrip()):
            yield [found["text"]]
        else:
            counts["lines outside cues"] += bool(line.strip())


def _cues(path: Path, lines: Iterable[str], is_vtt: bool, counts: Counter[str]) -> Iterator[list[str]]:
    """Yield the lines of each cue."""
    cue: list[str] | None = None
    ended, num_cues = False, 0
    for number, line in enumerate(lines, 1):
        if "-->" in line:
            if _TIMES.fullmatch(line) is None:
                raise DataError(
                    f"{display_name(path)}, line {number:,}: {line.strip()[:60]!r} has no two times, and a line like "
                    "00:00:01,000 --> 00:00:02,000 is expected."
                )
            if cue is not None:
                yield cue if is_vtt else _without_number(cue, num_cues + 1)
            cue, ended, num_cues = [], False, num_cues + 1
        elif is_vtt and not line.strip():
            ended = True
        elif cue is not None and not ended:
            cue.append(line)
        elif _is_content(line):
            counts["lines outside cues"] += 1
    if cue is not None:
        yield cue


def _is_content(line: str) -> bool:
    """Return whether a line outside cues is more than a heading or the number of a cue."""
    return bool(line.strip()) and not line.strip().isdigit() and not line.lstrip("\ufeff").startswith("WEBVTT")


def _without_number(cue: list[str], next_number: int) -> list[str]:
    """Return the lines of a cue of SRT without the number of the next one: the last line, after a blank one or in sequence."""
    lines = [line.strip() for line in cue]
    while lines and not lines[-1]:
        lines.pop()
    if lines and lines[-1].isdigit() and (len(lines) < 2 or not lines[-2] or lines[-1] == str(next_number)):
        lines.pop()
    return lines


def _without_tags(line: str, is_vtt: bool, counts: Counter[str]) -> str:
    """Return a line without tags and with single blanks."""
    text, num_tags = _TAG.subn("", _BREAK.sub(" ", line))
    counts["tags"] += num_tags
    return " ".join((html.unescape(text) if is_vtt else text).split())


def _joined(texts: list[str]) -> Iterator[str]:
    """Yield the lines of a cue: one, and one more for each further speaker."""
    starts = [index for index, text in enumerate(texts) if index == 0 or _SPEAKER.match(text)]
    for start, stop in zip(starts, [*starts[1:], len(texts)], strict=False):
        yield " ".join(texts[start:stop])
