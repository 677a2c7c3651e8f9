"""Sounds as recordings and other programs leave them: late or early ones, RF64, formats that are not read."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from unrolled.errors import DataError
from unrolled.tables.cell_values import Array
from unrolled.tables.sound_delay import delay_note, find_delay
from unrolled.tables.wav_files import read_wav, write_wav

RATE = 16000
TINY: dict[str, Any] = {"steps": 1, "hidden": 4, "layers": 1, "threads": 1, "progress": False, "bptt": 64}


def plucked(seconds: float = 2.0) -> Array:
    """Strings that are plucked about four times a second."""
    draw, steps = np.random.default_rng(1), np.arange(int(seconds * RATE))
    sound = np.zeros(len(steps))
    for start in np.cumsum(draw.integers(1000, 7000, int(seconds * 4))):
        later = (steps[start:] - start) / RATE
        sound[start:] += (
            draw.uniform(0.1, 0.4) * np.exp(-8 * later) * np.sin(2 * np.pi * draw.choice([82.4, 110, 196, 330]) * later)
        )
    return sound + draw.normal(size=len(sound)) * 1e-4


def filtered(sound: Array, share: float, is_high: bool) -> Array:
    """A limiter, and a filter of one pole that lowers what is high, or what is low."""
    output, low = np.zeros(len(sound)), 0.0
    for step, sample in enumerate(np.tanh(5 * sound)):
        low += share * (sample - low)
        output[step] = sample - low if is_high else low
    return output


@pytest.mark.parametrize("is_high", [False, True])
@pytest.mark.parametrize("delay", [0, 200, -100])
def test_a_delay_is_found_whatever_the_filter_and_the_polarity(delay: int, is_high: bool) -> None:
    dry = plucked()
    wet = -np.roll(filtered(dry, 0.1, is_high), delay)
    found, peak, _ = find_delay(dry, wet, RATE // 2)
    assert abs(found - delay) <= 6
    assert peak > 4
    note = delay_note(("dry", "wet"), dry, wet, RATE)
    if delay == 0:
        assert note is None
        return
    assert note is not None
    assert f"'wet' seems to come {abs(found)} samples" in note
    to_cut = abs(found - 16)  # a millisecond is left
    kept = f"cut {to_cut} samples from the start of '{'wet' if delay > 0 else 'dry'}' and from the end of"
    assert kept in note


def test_sounds_without_relation_or_of_silence_have_no_delay() -> None:
    draw = np.random.default_rng(2)
    first, second = draw.normal(size=(2, 9000))
    assert delay_note(("a", "b"), first, second, RATE) is None
    assert delay_note(("a", "b"), first, np.zeros(9000), RATE) is None
    assert delay_note(("a", "b"), np.zeros(3), np.ones(3), RATE) is None


@pytest.mark.slow
def test_a_late_recording_is_told_before_training(caplog: pytest.LogCaptureFixture) -> None:
    dry = plucked(1.0)
    write_wav(Path("dry.wav"), dry[:, None], RATE)
    for name, delay in (("wet.wav", 0), ("late.wav", 160)):
        write_wav(Path(name), np.roll(filtered(dry, 0.4, False), delay)[:, None], RATE)
        Path("pair.csv").write_text(f"dry,wet\ndry.wav,{name}\n")
        caplog.clear()
        unrolled.train_table("pair.csv", source="dry:numbers", target="wet:numbers", out=f"run{delay}", **TINY)
        assert ("'wet' seems to come 161 samples (10.1 ms) after 'dry'" in caplog.text) == (delay > 0)


def test_rf64_is_read_with_its_own_size() -> None:
    """As programs write recordings that may become larger than 4 GB: the true size is in a chunk before the others."""
    samples, after = struct.pack("<2h", 16384, -8192), b"LIST" + struct.pack("<I", 4) + b"INFO"
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, 0, len(samples), 2, 0)
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 48000, 96000, 2, 16)
    data = b"data" + struct.pack("<I", 0xFFFFFFFF) + samples + after
    Path("long.wav").write_bytes(b"RF64\xff\xff\xff\xffWAVE" + sizes + header + data)
    wav = read_wav(Path("long.wav"), "here")
    assert (wav.rate, wav.samples.tolist()) == (48000, [[0.5], [-0.25]])


def test_other_sounds_are_named() -> None:
    Path("pair.csv").write_text("dry,wet\nTake 1.flac,wet.wav\n")
    with pytest.raises(
        DataError, match=r"line 2.*: Take 1.flac is a sound, and WAV files .* \(ffmpeg -i 'Take 1.flac' 'Take 1.wav'\)"
    ):
        unrolled.train_table("pair.csv", source="dry:numbers", target="wet:numbers", **TINY)
