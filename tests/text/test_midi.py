"""MIDI files: songs become text, one symbol per event, and text becomes a file that can be played."""

import gzip
import io
import json
import random
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import mido
import pytest

import unrolled
from support.cli import Cli
from unrolled.analysis.midi_samples import save_midi
from unrolled.errors import DataError, UsageError
from unrolled.options import DataOptions
from unrolled.text.corpus import open_corpus
from unrolled.text.midi_files import midi_bytes, read_songs
from unrolled.text.midi_text import Note, Song, parse_song, song_text
from unrolled.text.tokenizer import CharTokenizer

SMALL = ("--hidden", 8, "--layers", 1, "--batch", 2, "--bptt", 8, "--steps", 4, "--sample-length", 0, "--threads", 1)


def track(*events: Any) -> mido.MidiTrack:
    """Notes `(pitch, wait, length)` of channel 1, or any messages."""
    messages = mido.MidiTrack()
    for event in events:
        if isinstance(event, tuple):
            pitch, wait, length = event
            messages.append(mido.Message("note_on", note=pitch, velocity=72, time=wait))
            messages.append(mido.Message("note_off", note=pitch, time=length))
        else:
            messages.append(event)
    return messages


def save(name: str, *tracks: mido.MidiTrack, kind: int = 1, ticks: int = 480) -> Path:
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks)
    file.tracks.extend(tracks)
    file.save(name)
    return Path(name)


def texts(path: Path, grid: int = 12) -> tuple[list[str], Counter[str]]:
    counts = Counter[str]()
    return [song_text(song, grid) for song in read_songs(path, str(path), grid, counts)], counts


def random_track(generator: random.Random, channel: int) -> mido.MidiTrack:
    """Notes that overlap, of all velocities, off the grid; and messages of other kinds."""
    messages = [mido.Message("control_change", channel=channel, control=7, value=9)]
    for _ in range(12):
        key: dict[str, int] = {"channel": channel, "note": generator.randrange(58, 62)}
        time = generator.choice([0, 0, 40, 123, 480, 3000])
        messages.append(mido.Message("note_on", **key, velocity=generator.randrange(128), time=time))
        messages.append(mido.Message("note_off", **key, time=generator.choice([0, 1, 120, 700])))
        messages.append(mido.Message("program_change", channel=channel, program=generator.randrange(3)))
    return mido.MidiTrack(messages)


@pytest.mark.parametrize("grid", [12, 17])
def test_round_trips(grid: int) -> None:
    """Text to MIDI to text is exact; MIDI to text to MIDI has the same notes on the grid."""
    generator = random.Random(grid)
    for kind in (0, 1) * 8:
        meta = [
            mido.MetaMessage("set_tempo", tempo=generator.randrange(1, 2**24), time=generator.choice([0, 500])),
            mido.MetaMessage("time_signature", numerator=generator.randrange(1, 12), denominator=4),
        ] * 3
        tracks = [mido.MidiTrack(meta), *(random_track(generator, channel) for channel in (0, 9, 15))]
        path = save("x.mid", *([mido.merge_tracks(tracks)] if kind == 0 else tracks), kind=kind)
        (song,) = read_songs(path, "x", grid, Counter())
        text, left_out = song_text(song, grid), Counter[str]()
        parsed = parse_song(text, grid, left_out)
        assert parsed.notes == song.notes
        assert not left_out
        Path("y.mid").write_bytes(midi_bytes(parsed, grid))
        assert texts(Path("y.mid"), grid)[0] == [text]
        assert parsed.seconds(grid) == pytest.approx(mido.MidiFile("y.mid").length, abs=0.01)


def test_bars_tempos_channels_and_drums() -> None:
    conductor = mido.MidiTrack(
        [
            mido.MetaMessage("time_signature", numerator=3, denominator=4),
            mido.MetaMessage("set_tempo", tempo=600_000, time=480),
            mido.MetaMessage("time_signature", numerator=2, denominator=4, time=480 * 3),
        ]
    )
    drums = mido.MidiTrack(
        [
            mido.Message("program_change", channel=9, program=8),
            mido.Message("note_on", channel=9, note=36, velocity=127, time=480),
            mido.Message("note_on", channel=9, note=36, velocity=0, time=40),
        ]
    )
    melody = track((60, 0, 480), (61, 0, 160), (127, 480 * 8, 480), (0, 0, 10_000))
    written, counts = texts(save("x.mid", conductor, melody, drums))
    assert written == [
        "T120 M3/4\n mf C4:12 +12 T100 C#4:4 ch10 i8 fff x36:1\n z\n M2/4\n +16 ch1 G9:12\n +4 C-1:250"
    ]  # the second meter begins within a bar, and is that of the next one
    assert counts == Counter(songs=1, notes=5)


def test_running_status_unended_notes_and_what_is_left_out() -> None:
    events = bytes(
        [0, 0x90, 60, 64, 96, 60, 0, 0, 62, 64, 0, 64, 64, 96, 64, 0, 0, 0x80, 90, 0, 0, 0xB0, 7, 9, 0, 0xFF, 0x2F, 0]
    )
    header = b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 96]) + b"MTrk" + len(events).to_bytes(4, "big")
    Path("x.mid").write_bytes(header + events)
    written, counts = texts(Path("x.mid"))
    assert written == ["T120 M4/4\n mf C4:12 +12 D4:12 E4:12"]
    assert counts["notes without an end, which end with the song"] == 1
    assert counts["ends of notes that did not begin"] == 1
    assert counts["messages left out: control change"] == 1


def test_tracks_of_type_2_are_songs() -> None:
    written, counts = texts(save("x.mid", track((60, 0, 480)), track(), track((62, 480, 480)), kind=2))
    assert written == ["T120 M4/4\n mf C4:12", "T120 M4/4\n +12 mf D4:12"]
    assert counts["tracks without notes, left out"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.mid is no MIDI file"),
        (b"RIFF1234", "x.mid is no MIDI file: one begins with MThd, and this one with b'RIFF'"),
        (b"MThd\0\0\0\6\0\1", "x.mid is a damaged MIDI file: it ends within a message"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\x90\x3c\xff", "x.mid is a damaged MIDI file: data byte must be in range"),
        (b"MThd\0\0\0\6\0\1\0\1\xe7\x28MTrk\0\0\0\4\0\xff\x2f\0", "x.mid counts time in frames of a film"),
        (b"MThd\0\0\0\6\0\1\0\1\0\0MTrk\0\0\0\4\0\xff\x2f\0", "x.mid counts time in"),
        (b"MThd\0\0\0\6\0\7\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", "x.mid is a MIDI file of type 7"),
        (b"MThd\0\0\0\6\0\1\0\1\0\1MTrk\0\0\0\7\xff\xff\xff\x7f\x90\x3c\x40", "x.mid has a note after 268,435,455 beats"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", "There is no text in x.mid"),
    ],
)
def test_damaged_files_are_refused(content: bytes, message: str) -> None:
    Path("x.mid").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_corpus(["x.mid"], DataOptions(tokens="midi"))


def test_every_way_to_name_files() -> None:
    Path("songs/more").mkdir(parents=True)
    names = ["songs/a.mid", "songs/more/b.MID", "songs/c"]
    for number, name in enumerate(names):
        save(name, track((60 + number, 0, 480), (60 + number, 0, 480)))
    Path("songs/about.txt").write_text("two songs")
    Path("d.mid.gz").write_bytes(gzip.compress(Path(names[0]).read_bytes()))
    with zipfile.ZipFile("songs.zip", "w") as archive:
        for name in [*names, "songs/about.txt"]:
            archive.write(name)
    for inputs, count in ((names, 3), (["songs"], 3), (["songs.zip"], 3), (["d.mid.gz"], 1), (["songs/*.mid"], 1)):
        assert open_corpus(inputs, DataOptions(tokens="midi")).num_documents == count, inputs
    for tokens in ("midi:0", "midi:97", "midi:x", "midi:-1"):
        with pytest.raises(UsageError, match="expected the steps of a beat, from 1 to 96"):
            open_corpus(["songs"], DataOptions(tokens=tokens))


def test_rubbish_in_a_sample_is_left_out() -> None:
    left_out = Counter[str]()
    text = "x999:1 C9:9999999 B9:1 +0 T0 M3/7 M1/512 ch17 i128 q \n\n C4:3 +50 D4:0 \n E4:1 " + "\n" * 100 + " +9999999"
    song = parse_song(text, 12, left_out)
    assert [note[:4] for note in song.notes] == [(48, 1, 60, 3), (144, 1, 64, 1)]
    assert set(left_out) == {
        "x999:1", "C9:9999999", "B9:1", "+0", "T0", "M3/7", "M1/512", "ch17", "i128", "q", "D4:0", "+9999999",
    }  # fmt: skip
    assert mido.MidiFile(file=io.BytesIO(midi_bytes(song, 12))).length > 0


def test_every_command_reads_and_writes_songs(cli: Cli) -> None:
    Path("songs").mkdir()
    for number in range(8):
        save(f"songs/{number}.mid", track((60 + number % 3, 0, 480), (64, 0, 240), (62, 240, 480)))
    trained = cli("train", "songs", *SMALL, "--out", "run")
    assert trained.err.endswith("next: unrolled sample run --midi new.mid\n")
    assert trained.code == 0, trained.err
    assert "these are MIDI files, learned as --tokens midi" in trained.err
    assert "8 songs of MIDI files with 24 notes" in trained.err
    assert json.loads(Path("run/config.json").read_text())["options"]["tokens"] == "midi"
    for arguments in (["eval", "run", "songs/1.mid"], ["score", "run", "songs"]):
        result = cli(*arguments)
        assert result.code == 0, (arguments, result.err)
    assert "bits per token" in cli("eval", "run").out
    prompted = ["--prompt-file", "songs/1.mid", "--length", 5]
    assert cli("sample", "run", *prompted).out.startswith("T120 M4/4\n mf C#4:12")
    assert re.search("new.mid: [3-9] notes, [0-9.]+ s", cli("sample", "run", *prompted, "--midi", "new.mid").err)
    assert [note[:3] for note in read_songs(Path("new.mid"), "new.mid", 12, Counter())[0].notes[:3]] == [
        (0, 1, 61), (12, 1, 64), (24, 1, 62),
    ]  # fmt: skip
    several = cli("sample", "run", *prompted, "--midi", "new.mid", "--count", 2, "--seed", 7, "--json")
    assert [sample["midi"] for sample in json.loads(several.out)["samples"]] == ["new-7.mid", "new-8.mid"]
    Path("text.txt").write_text("no song")
    Path("begin.mid").write_bytes(Path("new.mid").read_bytes())  # is no song of the training
    Path("begin-8.mid").write_bytes(Path("new.mid").read_bytes())
    for arguments, message in (
        (["--midi", "text.txt"], "text.txt exists and is not a MIDI file"),
        (["--midi", "songs/1.mid", "--prompt-file", "songs/1.mid"], "songs/1.mid would replace the input"),
        (["--midi", "begin.mid", "--prompt-file", "begin.mid"], "begin.mid would replace the input"),
        (["--midi", "begin.mid", "--prompt-file", "begin-8.mid", "--count=2", "--seed=7"], "begin-8.mid would replace the"),
        (["--midi", "run/model.safetensors", "--force"], "would replace what the run run needs"),
        (["--force"], "--force is for --midi"),
    ):
        refused = cli("sample", "run", *arguments)
        assert refused.code in (2, 3)
        assert message in refused.err
    model = unrolled.load("run")
    assert model.save_midi("T60 M4/4\n C4:12", "python.mid").seconds == 1
    with pytest.raises(DataError, match="The sample has no note, so z.mid is not written"):
        model.save_midi("T60 M4/4", "z.mid")


def test_other_models_write_no_songs() -> None:
    with pytest.raises(UsageError, match="this one reads characters: leave midi= out"):
        save_midi(CharTokenizer(["a"]), "C4:12", Path("x.mid"), Path("model.safetensors"))


def test_a_song_without_notes_is_one_empty_bar() -> None:
    assert song_text(Song(), 12) == "T120 M4/4\n z"
    assert song_text(Song([Note(95, 1, 60, 1, 0, 0)]), 12) == "T120 M4/4\n z\n +47 ppp C4:1"
