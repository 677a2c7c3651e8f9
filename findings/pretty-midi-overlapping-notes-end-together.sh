#!/usr/bin/env bash
# One would guess: pretty_midi reads back the notes that it wrote, and of two notes of one pitch that overlap, each note-off ends one.
# What happens: the first note-off ends both, and the second is dropped: a note of 0 to 400 ms that is struck again at 100 ms and let
#   go at 200 ms comes back as 100 and 200 ms long. symusic and miditoolkit (and thus MidiTok) end the first one first, and keep the
#   second as long as it was. No warning.
# Version: pretty_midi 0.2.11.post0, symusic 0.6.0, miditoolkit 1.0.1, mido 1.3.3.
# Why it matters: tokens of durations for a model of music differ by the reader; sampled music that is written and read again
#   changes, and piano music with the pedal held, or two voices in one channel, has many such notes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pretty_midi==0.2.11.post0 symusic==0.6.0 miditoolkit==1.0.1 mido==1.3.3 numpy==2.3.5 setuptools==80.9.0 2>/dev/null
cd "$folder"
venv/bin/python -W ignore - <<'PY'
import importlib.metadata
import sys

import miditoolkit
import pretty_midi
import symusic

print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("pretty_midi", "symusic", "miditoolkit")))
written = [(0, 200, 50), (100, 400, 80)]  # start and end in milliseconds, velocity
song = pretty_midi.PrettyMIDI(resolution=500, initial_tempo=120)  # a tick is a millisecond
piano = pretty_midi.Instrument(program=0)
piano.notes = [pretty_midi.Note(velocity, 60, start / 1000, end / 1000) for start, end, velocity in written]
song.instruments.append(piano)
song.write("song.mid")

read = {
    "pretty_midi": [(round(1000 * n.start), round(1000 * n.end), n.velocity)
                    for n in pretty_midi.PrettyMIDI("song.mid").instruments[0].notes],
    "symusic": [(n.time, n.time + n.duration, n.velocity) for n in symusic.Score("song.mid").tracks[0].notes],
    "miditoolkit": [(n.start, n.end, n.velocity) for n in miditoolkit.MidiFile("song.mid").instruments[0].notes],
}
for name, notes in read.items():
    print(f"{name}: {sorted(notes)}, {'as written' if sorted(notes) == written else 'written were ' + str(written)}")
expected = {"pretty_midi": [(0, 200, 50), (100, 200, 80)], "symusic": written, "miditoolkit": written}
sys.exit(0 if {name: sorted(notes) for name, notes in read.items()} == expected else 1)
PY
