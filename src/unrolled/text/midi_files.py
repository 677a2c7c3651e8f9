"""MIDI files to songs on a grid and back, by the package mido (the extra `music`).

A note is joined from its two messages: of several of one pitch that sound together, the one that began first ends first. What a
song of notes does not have (controllers, pitch bends, texts) is counted and left out.
"""

from __future__ import annotations

import io
import struct
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unrolled.display import counted, plural
from unrolled.errors import DataError
from unrolled.text.compressed_files import read_bytes
from unrolled.text.file_signatures import is_midi_head
from unrolled.text.midi_text import MAX_BEATS, MAX_TEMPO, MIN_TEMPO, Note, Song, bar_steps

MAX_BYTES = 32 << 20
MICROSECONDS = 60_000_000
"""In a minute: the tempo of a file is in microseconds per beat."""

TICKS = 480
"""Ticks per beat, about, of a file that is written."""

OFF_GRID = "notes moved to the grid"
NOT_ENDED, NOT_BEGUN = "notes without an end, which end with the song", "ends of notes that did not begin"
NO_NOTES = "without notes, left out"
CLIPPED_TEMPO = f"tempos set to a limit ({MIN_TEMPO} to {MAX_TEMPO} beats a minute)"
OTHER_METER = "meters that do not fit the grid, left out"
LEFT_OUT = "messages left out: "


def read_songs(path: Path, name: str, grid: int, counts: Counter[str]) -> list[Song]:
    """Return the songs of a MIDI file: one, or one for each track of a file of type 2.

    Args:
        path: The file, which may be compressed.
        name: Its name in messages.
        grid: Steps a beat.
        counts: What is counted, by its name for people.

    Raises:
        DataError: The file is damaged, is no MIDI file, or its time is not in beats.
    """
    mido, data = _mido(), bytearray()
    for chunk in read_bytes(path):
        data += chunk
        if len(data) > MAX_BYTES:
            raise DataError(f"{name} has more than {MAX_BYTES >> 20} MiB, and a song has less: it is no MIDI file, or damaged.")
    if not is_midi_head(data):
        begin = f"one begins with MThd, and this one with {bytes(data[:4])!r}"
        raise DataError(f"{name} is no MIDI file: {begin}; leave it out, or learn a text with --tokens characters.")
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        struct.error,
        mido.KeySignatureError,
    ) as error:
        reason = "it ends within a message" if isinstance(error, EOFError) else str(error)[:120].rstrip(".")
        raise DataError(f"{name} is a damaged MIDI file: {reason}.") from error
    if file.ticks_per_beat <= 0:
        raise DataError(f"{name} counts time in frames of a film (SMPTE), and beats are expected: export it again with beats.")
    if file.type not in (0, 1, 2):
        raise DataError(f"{name} is a MIDI file of type {file.type}, and the types 0, 1 and 2 are known.")
    songs = []
    for tracks in [[track] for track in file.tracks] if file.type == 2 else [file.tracks]:
        song = _SongReader(name, file.ticks_per_beat, grid, counts).read(tracks)
        if song.notes:
            songs.append(song)
        else:
            counts[f"{'tracks' if file.type == 2 else 'files'} {NO_NOTES}"] += 1
    counts["songs"] += len(songs)
    counts["notes"] += sum(len(song.notes) for song in songs)
    return songs


class _SongReader:
    """Reads the messages of one song; ticks become steps."""

    def __init__(self, name: str, ticks_per_beat: int, grid: int, counts: Counter[str]) -> None:
        self.name, self.ticks_per_beat, self.grid, self.counts = name, ticks_per_beat, grid, counts
        self.song = Song()
        self.programs: dict[int, int] = {}
        self.program_at: dict[tuple[int, int], int] = {}
        self.open: defaultdict[tuple[int, int], deque[tuple[int, int]]] = defaultdict(deque)
        self.notes: list[tuple[int, int, int, int, int]] = []

    def read(self, tracks: Iterable[Any]) -> Song:
        last_tick = 0
        for tick, message in _in_order(tracks):
            if message.type in ("note_on", "note_off"):
                last_tick = tick
                if tick > MAX_BEATS * self.ticks_per_beat:
                    beats = tick // self.ticks_per_beat
                    raise DataError(
                        f"{self.name} has a note after {beats:,} beats, and a song has at most {MAX_BEATS:,}: it is damaged."
                    )
                self._read_note(tick, message)
            else:
                self._read_other(self._step(tick), message)
        for (channel, pitch), starts in self.open.items():
            for start, velocity in starts:
                self.counts[NOT_ENDED] += 1
                self._add(start, last_tick, channel, pitch, velocity)
        self.song.notes = sorted(
            Note(start, channel, pitch, length, dynamic, self.program_at[start, channel])
            for start, channel, pitch, length, dynamic in self.notes
        )
        return self.song

    def _step(self, tick: int) -> int:
        """Return the nearest step, the later one of two."""
        return (2 * tick * self.grid + self.ticks_per_beat) // (2 * self.ticks_per_beat)

    def _read_note(self, tick: int, message: Any) -> None:
        key = (message.channel + 1, message.note)
        if message.type == "note_on" and message.velocity:
            self.open[key].append((tick, message.velocity))
            self.program_at[self._step(tick), key[0]] = self.programs.get(key[0], 0)
        elif self.open[key]:
            start, velocity = self.open[key].popleft()
            self._add(start, tick, *key, velocity)
        else:
            self.counts[NOT_BEGUN] += 1

    def _add(self, start: int, stop: int, channel: int, pitch: int, velocity: int) -> None:
        first, last = self._step(start), self._step(stop)
        self.counts[OFF_GRID] += first * self.ticks_per_beat != start * self.grid
        self.notes.append((first, channel, pitch, max(1, last - first), velocity // 16))

    def _read_other(self, step: int, message: Any) -> None:
        if message.type == "program_change":
            self.programs[message.channel + 1] = message.program
        elif message.type == "set_tempo":
            tempo = round(MICROSECONDS / max(1, message.tempo))
            self.song.tempos[step] = min(max(tempo, MIN_TEMPO), MAX_TEMPO)
            self.counts[CLIPPED_TEMPO] += tempo != self.song.tempos[step]
        elif message.type == "time_signature":
            meter = (message.numerator, message.denominator)
            if meter[0] <= 999 and meter[1] <= 512 and bar_steps(meter, self.grid):
                self.song.meters[step] = meter
            else:
                self.counts[OTHER_METER] += 1
        elif message.type != "end_of_track":
            self.counts[LEFT_OUT + message.type.replace("_", " ")] += 1


def _in_order(tracks: Iterable[Any]) -> list[tuple[int, Any]]:
    """Return the messages of all tracks with their ticks, in the order in which they are played."""
    messages = []
    for track in tracks:
        tick = 0
        for message in track:
            tick += message.time
            messages.append((tick, message))
    messages.sort(key=lambda entry: entry[0])
    return messages


def midi_bytes(song: Song, grid: int) -> bytes:
    """Return a MIDI file of type 1: a track with tempos and meters, and one for each channel.

    Raises `DataError` without the package mido.
    """
    mido = _mido()
    ticks_per_step = max(1, TICKS // grid)
    file = mido.MidiFile(type=1, ticks_per_beat=grid * ticks_per_step)
    tempos = [(step, mido.MetaMessage("set_tempo", tempo=round(MICROSECONDS / tempo))) for step, tempo in song.tempos.items()]
    meters = [
        (step, mido.MetaMessage("time_signature", numerator=beats, denominator=unit))
        for step, (beats, unit) in song.meters.items()
    ]
    tracks = [tempos + meters]
    for channel in sorted({note.channel for note in song.notes}):
        tracks.append(_channel_messages(mido, [note for note in song.notes if note.channel == channel]))
    for messages in tracks:
        track, last = mido.MidiTrack(), 0
        for step, message in sorted(messages, key=lambda entry: entry[0]):
            track.append(message.copy(time=(step - last) * ticks_per_step))
            last = step
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _channel_messages(mido: Any, notes: list[Note]) -> list[tuple[int, Any]]:
    """Return the messages of a channel, where a note ends before the next one of its pitch begins."""
    program, begin, channel = 0, list[tuple[int, Any]](), notes[0].channel - 1
    for note in notes:
        if note.program != program:
            program = note.program
            begin.append((note.start, mido.Message("program_change", channel=channel, program=program)))
        velocity = note.dynamic * 16 + 8
        begin.append((note.start, mido.Message("note_on", channel=channel, note=note.pitch, velocity=velocity)))
    return [
        (note.start + note.length, mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)) for note in notes
    ] + begin


def describe_counts(counts: Counter[str]) -> list[str]:
    """Return in words what was read of MIDI files, and what was left out or changed."""
    lines = [f"{plural(counts['songs'], 'song')} of MIDI files with {plural(counts['notes'], 'note')}"]
    others = [(what.removeprefix(LEFT_OUT), count) for what, count in counts.most_common() if what.startswith(LEFT_OUT)]
    for what, count in counts.items():
        if count and what not in ("songs", "notes") and not what.startswith(LEFT_OUT):
            lines.append(f"{count:,} {counted(count, what)}")
    if others:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in others)
        lines.append(f"{sum(count for _, count in others):,} {LEFT_OUT}{listed}")
    return lines


def _mido() -> Any:
    try:
        import mido
    except ImportError as error:
        raise DataError("MIDI files need the package mido: pip install 'unrolled[music]'") from error
    return mido
