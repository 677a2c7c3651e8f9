"""A text larger than memory: it trains in the memory of a small one, starts at once, and no change of it goes unseen."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from support.texts import sentences
from unrolled.text import fingerprint as fingerprint_module
from unrolled.text.fingerprint import cached_fingerprint, fingerprint

CONTENT = bytes(range(256)) * 64
CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": lambda path: path.write_bytes(CONTENT + b"!"),
    "shorter": lambda path: os.truncate(path, len(CONTENT) - 1),
    "a byte, its times put back": lambda path: patched(path),
    "another file in its place": lambda path: other(path),
}


def patched(path: Path) -> None:
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other(path: Path) -> None:
    before = path.stat()
    twin = path.with_name("twin")
    twin.write_bytes(CONTENT[::-1])
    os.utime(twin, ns=(before.st_atime_ns, before.st_mtime_ns))
    twin.replace(path)


@pytest.fixture
def whole_readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Remember the digest of small files as well, with places that miss most of them; note how often all is read."""
    times: list[int] = []

    def counted(paths: list[Path]) -> str:
        times.append(len(paths))
        return fingerprint(paths)

    for name, value in (
        ("MIN_CACHED_BYTES", 0),
        ("MIN_AGE_SECONDS", 0.01),
        ("NUM_PROBES", 2),
        ("PROBE_BYTES", 8),
        ("fingerprint", counted),
    ):
        monkeypatch.setattr(fingerprint_module, name, value)
    return times


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for path in paths:
        path.write_bytes(CONTENT)
    time.sleep(0.05)
    return paths


def test_what_nobody_touched_is_read_once(files: list[Path], tmp_path: Path, whole_readings: list[int]) -> None:
    told = [cached_fingerprint(files, tmp_path / "cache") for _ in range(3)]
    assert told == [fingerprint(files)] * 3
    assert whole_readings == [2]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_seen(change: str, files: list[Path], tmp_path: Path, whole_readings: list[int]) -> None:
    before = cached_fingerprint(files, tmp_path / "cache")
    CHANGES[change](files[1])
    time.sleep(0.05)
    assert cached_fingerprint(files, tmp_path / "cache") == fingerprint(files) != before


def test_a_file_that_was_just_written_is_not_remembered(
    files: list[Path], tmp_path: Path, whole_readings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint_module, "MIN_AGE_SECONDS", 60.0)
    for _ in range(2):
        assert cached_fingerprint(files, tmp_path / "cache") == fingerprint(files)
    assert len(whole_readings) == 2


@pytest.mark.parametrize("damage", [b"", b"0" * 40, b"0" * 40 + b" " + b"0" * 32, b"\xff a b c"])
def test_a_damaged_memory_is_none(damage: bytes, files: list[Path], tmp_path: Path, whole_readings: list[int]) -> None:
    cached_fingerprint(files, tmp_path / "cache")
    (seen,) = (tmp_path / "cache" / "seen").iterdir()
    seen.write_bytes(damage)
    assert cached_fingerprint(files, tmp_path / "cache") == fingerprint(files)
    assert cached_fingerprint(files, tmp_path / "cache") == fingerprint(files)
    assert len(whole_readings) == 2


def lines_of(path: Path, size: int) -> None:
    """Write a text of so many bytes at least."""
    draw = random.Random(1)
    blocks = [sentences(20_000, seed).encode() for seed in range(4)]
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(draw.choice(blocks))


@pytest.fixture
def cleared(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied afterwards: pytest keeps those of its last runs, and this one's are large."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def started(*arguments: object) -> tuple[float, float, str]:
    """Train a few steps; return the seconds until the first one, the peak memory in MB, and what was said."""
    command = [sys.executable, "-m", "unrolled", "train", *map(str, arguments)]
    begun, said, first = time.perf_counter(), "", float("inf")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            said += line
            if line.startswith("step=1 "):
                first = time.perf_counter() - begun
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return first, usage.ru_maxrss / 1e3, said


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux tells it")
@pytest.mark.parametrize("ending", ["txt", "txt.zst"])
def test_four_gigabytes_in_the_memory_of_a_small_text(cleared: Path, ending: str) -> None:
    text = cleared / "text.txt"
    lines_of(text, 4 << 30)
    if ending.endswith(".zst"):
        packed = cleared / "text.txt.zst"
        with open(text, "rb") as plain, open(packed, "wb") as file:
            zstandard.ZstdCompressor(level=1, threads=-1).copy_stream(plain, file)
        text.unlink()
        text = packed
    time.sleep(fingerprint_module.MIN_AGE_SECONDS)
    small = (text, "--hidden", 256, "--steps", 40, "--sample-length", 0)
    _, peak, _ = started(*small, "--out", "one")
    again, peak_again, _ = started(*small, "--stop-after", 20, "--out", "two")
    print(f"{ending}: {peak:.0f} and {peak_again:.0f} MB, {again:.1f} s to the first step")
    model = Path("one", "model.safetensors").stat().st_size / 1e6
    assert max(peak, peak_again) < 400 + 4 * model  # weights, gradients, two moments
    assert again < 10
    with open(text, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"?")
    _, _, said = started("--resume", "two")
    assert "has changed" in said or "damaged" in said
