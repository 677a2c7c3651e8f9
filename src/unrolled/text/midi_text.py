"""Songs as text, for models that read characters: one symbol per event, one line per bar.

The first line has the tempo and the meter, each further line is a bar and begins with a space:

    T120 M4/4
     mf C4:3 +3 E4:3 +3 ch10 ff x36:1
     z

`C4:3` is a note with its length in steps of the grid, `x36:1` one of a drum (channel 10), `+3` a shift in time, `ch10` the
channel of what follows and `i24` its instrument, `mf` how loud the notes of the channel are, and `z` an empty bar. A line
begins where its bar does, so that a shift never crosses a bar.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

DYNAMICS = ("ppp", "pp", "p", "mp", "mf", "f", "ff", "fff")
"""Bins of velocities, 16 values each."""

DEFAULT_DYNAMIC = DYNAMICS.index("mf")
DRUM_CHANNEL = 10
MAX_PITCH = 127
MIN_TEMPO, MAX_TEMPO = 4, 999
"""Beats per minute: at least what the three bytes of a MIDI file can say."""

MAX_BEATS = 20_000
"""Length of a song; at 120 beats a minute, almost three hours."""

_PITCH_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

EVENT_PATTERN = r"T\d+|M\d+/\d+|ch\d+|i\d+|ppp|pp|p|mp|mf|fff|ff|f|\+\d+|[A-G]#?-?\d:\d+|x\d+:\d+|z"
_EVENT = re.compile(
    r"T(?P<tempo>\d{1,3})|M(?P<beats>\d{1,3})/(?P<meter>\d{1,3})|ch(?P<channel>\d{1,2})|i(?P<program>\d{1,3})"
    rf"|(?P<dynamic>{'|'.join(DYNAMICS)})|\+(?P<shift>\d{{1,7}})|(?P<rest>z)"
    r"|(?:(?P<name>[A-G]#?)(?P<octave>-1|\d)|x(?P<drum>\d{1,3})):(?P<note>\d{1,7})"
)


class Note(NamedTuple):
    """A note: its first step, its channel from 1 to 16, its pitch from 0 to 127, and its length in steps.

    `dynamic` is an index of `DYNAMICS`; `program` is the instrument, from 0 to 127.
    """

    start: int
    channel: int
    pitch: int
    length: int
    dynamic: int
    program: int


@dataclass
class Song:
    """Notes in order; tempos, in beats (of a quarter) per minute, and meters, such as (3, 4), by the step where each begins."""

    notes: list[Note] = field(default_factory=list)
    tempos: dict[int, int] = field(default_factory=dict)
    meters: dict[int, tuple[int, int]] = field(default_factory=dict)

    def seconds(self, grid: int) -> float:
        """Return how long it lasts, up to the end of its last note, on a grid of so many steps per beat."""
        end = max((note.start + note.length for note in self.notes), default=0)
        changes = sorted({0: 120, **self.tempos}.items())
        stops = [step for step, _ in changes[1:]] + [end]
        spans = ((min(stop, end) - min(step, end), tempo) for (step, tempo), stop in zip(changes, stops, strict=True))
        return sum(span * 60 / (grid * tempo) for span, tempo in spans)


def bar_steps(meter: tuple[int, int], grid: int) -> int:
    """Return the steps of a bar on a grid of so many steps per beat; 0 for a meter that does not fit it."""
    beats, unit = meter
    steps, rest = divmod(beats * 4 * grid, unit) if unit else (0, 0)
    return 0 if rest or steps > MAX_BEATS * grid else steps


def song_text(song: Song, grid: int) -> str:
    """Return the text of a song on a grid of so many steps per beat.

    Example:
        >>> song_text(Song([Note(0, 1, 60, 12, 4, 0), Note(60, 1, 64, 12, 4, 0)]), 12)
        'T120 M4/4\\n mf C4:12\\n +12 E4:12'
    """
    return "".join(_TextWriter(song, grid).parts())


class _TextWriter:
    def __init__(self, song: Song, grid: int) -> None:
        self.song, self.grid = song, grid
        self.channel = 1
        self.programs, self.dynamics = dict[int, int](), dict[int, int]()
        self.meter, self.meters = (4, 4), sorted(song.meters.items())
        self.bar_start, self.position, self.is_empty = 0, 0, True

    def parts(self) -> Iterator[str]:
        """Yield the events, each with the space or line end before it."""
        last = self.song.notes[-1].start if self.song.notes else 0
        tempo = self.song.tempos.get(0, 120)
        self._set_meter()
        yield f"T{tempo} M{self.meter[0]}/{self.meter[1]}\n"
        timed: list[tuple[int, int, int | Note]] = [(note.start, 1, note) for note in self.song.notes]
        for step, value in sorted(self.song.tempos.items()):
            if 0 < step <= last and value != tempo:
                timed.append((step, 0, value))
                tempo = value
        for step, _, event in sorted(timed, key=lambda entry: entry[:2]):
            yield from self._move_to(step)
            yield from self._note(event) if isinstance(event, Note) else [f" T{event}"]
            self.is_empty = False
        if self.is_empty:
            yield " z"

    def _set_meter(self) -> bool:
        """Set the meter and the length of the bar that begins, and return whether that is a change."""
        before = self.meter
        while self.meters and self.meters[0][0] <= self.bar_start:
            self.meter = self.meters.pop(0)[1]
        self.bar_length = bar_steps(self.meter, self.grid)
        return self.meter != before

    def _move_to(self, step: int) -> Iterator[str]:
        while step >= self.bar_start + self.bar_length:
            yield " z\n" if self.is_empty else "\n"
            self.bar_start += self.bar_length
            self.position, self.is_empty = self.bar_start, True
            if self._set_meter():
                yield f" M{self.meter[0]}/{self.meter[1]}"
                self.is_empty = False
        if step > self.position:
            yield f" +{step - self.position}"
            self.position, self.is_empty = step, False

    def _note(self, note: Note) -> Iterator[str]:
        if note.channel != self.channel:
            self.channel = note.channel
            yield f" ch{note.channel}"
        if note.program != self.programs.get(note.channel, 0):
            self.programs[note.channel] = note.program
            yield f" i{note.program}"
        if note.dynamic != self.dynamics.get(note.channel):
            self.dynamics[note.channel] = note.dynamic
            yield f" {DYNAMICS[note.dynamic]}"
        octave, name = divmod(note.pitch, 12)
        pitch = f"x{note.pitch}" if note.channel == DRUM_CHANNEL else f"{_PITCH_NAMES[name]}{octave - 1}"
        yield f" {pitch}:{note.length}"


def parse_song(text: str, grid: int, left_out: Counter[str]) -> Song:
    """Return the song of a text; what is no event, or is outside of what MIDI can say, is counted in `left_out`.

    Example:
        >>> parse_song("T100 M3/4\\n C4:6 nonsense +6 E4:6", 12, Counter()).notes[1].start
        6
    """
    reader = _TextReader(grid)
    for symbol in re.findall(r"\n|[^\s]+", text):
        if symbol == "\n":
            reader.begin_bar()
        elif (event := _EVENT.fullmatch(symbol)) is None or not reader.read(event):
            left_out[symbol] += 1
    reader.song.notes.sort()
    return reader.song


class _TextReader:
    def __init__(self, grid: int) -> None:
        self.song, self.grid = Song(), grid
        self.channel = 1
        self.programs, self.dynamics = dict[int, int](), dict[int, int]()
        self.bar_start, self.position, self.bar_length = -1, 0, 4 * grid

    def begin_bar(self) -> None:
        """Go to the next bar, or after what is longer than its bar, to the next one from there."""
        if self.bar_start < 0:
            self.bar_start = self.position
            return
        num_bars = max(1, -(-(self.position - self.bar_start) // self.bar_length))
        self.bar_start += num_bars * self.bar_length
        self.position = self.bar_start

    def read(self, event: re.Match[str]) -> bool:
        """Read one event and return whether it is possible."""
        kind = event.lastgroup or ""
        if self.position > MAX_BEATS * self.grid:
            return False
        if kind == "note":
            return self._note(event)
        if kind == "meter":
            return self._meter(int(event["beats"]), int(event["meter"]))
        if kind == "dynamic":
            self.dynamics[self.channel] = DYNAMICS.index(event["dynamic"])
            return True
        return kind == "rest" or self._set(kind, int(event[kind]))

    def _set(self, kind: str, value: int) -> bool:
        if kind == "tempo" and MIN_TEMPO <= value <= MAX_TEMPO:
            self.song.tempos[self.position] = value
        elif kind == "channel" and 1 <= value <= 16:
            self.channel = value
        elif kind == "program" and value <= MAX_PITCH:
            self.programs[self.channel] = value
        elif kind == "shift" and value and self.position + value <= MAX_BEATS * self.grid:
            self.position += value
        else:
            return False
        return True

    def _meter(self, beats: int, unit: int) -> bool:
        steps = bar_steps((beats, unit), self.grid)
        if not steps or unit & (unit - 1):
            return False
        self.bar_length = steps
        self.song.meters[max(0, self.bar_start)] = (beats, unit)
        return True

    def _note(self, event: re.Match[str]) -> bool:
        is_named = event["name"] is not None
        pitch = 12 * (int(event["octave"]) + 1) + _PITCH_NAMES.index(event["name"]) if is_named else int(event["drum"])
        length = int(event["note"])
        if pitch > MAX_PITCH or not length or max(self.position, 0) + length > MAX_BEATS * self.grid:
            return False
        dynamic, program = self.dynamics.get(self.channel, DEFAULT_DYNAMIC), self.programs.get(self.channel, 0)
        self.song.notes.append(Note(self.position, self.channel, pitch, length, dynamic, program))
        return True
