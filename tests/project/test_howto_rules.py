"""The pages about trades are programs: their blocks run as they are written."""

import json
import re
from pathlib import Path

import mido
import pytest

from support.cli import Cli
from support.howto import run_page
from unrolled.tables.wav_files import read_wav


@pytest.mark.slow
def test_molecules(cli: Cli) -> None:
    outputs = {words[0]: result for words, result in run_page("molecules.md", cli)}
    assert "bits per token" in outputs["eval"].out
    assert len(outputs["sample"].out.split()) >= 10
    assert re.search("10 of [0-9]+ samples were kept by", outputs["sample"].err)
    found = re.search(r'"valid": ?([0-9.]+)', Path("runs/molecules/report.html").read_text("utf-8"))
    assert found is not None
    assert float(found[1]) > 0.3


@pytest.mark.slow
def test_genomes(cli: Cli) -> None:
    outputs = {words[0]: result for words, result in run_page("genomes.md", cli)}
    assert "60 records" in outputs["train"].err
    assert "each read on both strands" in outputs["train"].err
    bits = re.search("([0-9.]+) bits per character", outputs["score"].out)
    assert bits is not None
    assert float(bits[1]) < 2
    assert set("".join(re.findall("^[A-Z]+$", outputs["sample"].out, re.MULTILINE))) <= set("ACGT")


@pytest.mark.slow
def test_music(cli: Cli) -> None:
    results = run_page("music.md", cli)
    outputs = {(words[0], words[1]): result for words, result in results}
    assert "200 tunes" in outputs["train", "tunes.abc"].err
    assert outputs["sample", "runs/tunes"].out.count("K:G") >= 2
    assert "50 songs of MIDI files with 1,600 notes" in outputs["train", "songs"].err
    assert "bits per token" in outputs["eval", "runs/songs"].out
    notes = [message for name in ("new-1.mid", "new-2.mid", "continued.mid") for message in mido.MidiFile(name)]
    pitches = [message.note for message in notes if message.type == "note_on" and message.velocity]
    assert len(pitches) > 60
    known = {36, 38, 45, 48, 53, 55, 59, 60, 62, 64, 65, 67, 69}
    assert sum(pitch in known for pitch in pitches) > 0.9 * len(pitches)


def test_amplifiers(cli: Cli) -> None:
    outputs = {words[0]: result for words, result in run_page("amplifiers.md", cli)}
    esr, mean = re.search("esr +([0-9.]+) +([0-9.]+)", outputs["eval"].out).groups()  # type: ignore[union-attr]
    assert float(esr) < 0.05 < float(mean)
    for name in ("riff-wet.wav", "riff-again.wav"):
        samples, rate = read_wav(Path(name), name)
        assert (rate, samples.shape) == (8000, (4000, 1))


@pytest.mark.slow
def test_passwords(cli: Cli) -> None:
    outputs = {words[0]: result for words, result in run_page("passwords.md", cli)}
    lines = {line["text"]: line for line in json.loads(outputs["score"].out)["lines"]}
    assert lines["sunking12"]["bits"] < lines["qwertz"]["bits"] < lines["x9$Lq7#vT2"]["bits"]
    assert lines["x9$Lq7#vT2"]["unknown"] == 8
    known = set(Path("passwords.txt").read_text().split())
    assert len(outputs["sample"].out.splitlines()) == 8
    assert len(set(outputs["sample"].out.split()) - known) == 8
    assert re.search('"new": ?0[.][0-9]+', Path("runs/passwords/report.html").read_text("utf-8"))
