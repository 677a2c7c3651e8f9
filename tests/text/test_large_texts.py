"""A text larger than memory trains in little memory, starts at once, and any change of it is detected."""

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
def full_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cache the fingerprints of small files too, with few probed places; return the counts of files that were fully read."""
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


def test_unmodified_files_are_read_once(files: list[Path], tmp_path: Path, full_reads: list[int]) -> None:
    hashes = [cached_fingerprint(files, tmp_path / "cache") for _ in range(3)]
    assert hashes == [fingerprint(files)] * 3
    assert full_reads == [2]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_detected(change: str, files: list[Path], tmp_path: Path, full_reads: list[int]) -> None:
    before = cached_fingerprint(files, tmp_path / "cache")
    CHANGES[change](files[1])
    time.sleep(0.05)
    assert cached_fingerprint(files, tmp_path / "cache") == fingerprint(files) != before


def test_the_fingerprint_of_a_new_file_is_not_cached(
    files: list[Path], tmp_path: Path, full_reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint_module, "MIN_AGE_SECONDS", 60.0)
    for _ in range(2):
        assert cached_fingerprint(files, tmp_path / "cache") == fingerprint(files)
    assert len(full_reads) == 2


@pytest.mark.parametrize("damage", [b"", b"0" * 40, b"0" * 40 + b" " + b"0" * 32, b"\xff a b c"])
def test_a_damaged_cached_fingerprint_is_ignored(
    damage: bytes, files: list[Path], tmp_path: Path, full_reads: list[int]
) -> None:
    cached_fingerprint(files, tmp_path / "cache")
    (seen,) = (tmp_path / "cache" / "seen").iterdir()
    seen.write_bytes(damage)
    assert cached_fingerprint(files, tmp_path / "cache") == fingerprint(files)
    assert cached_fingerprint(files, tmp_path / "cache") == fingerprint(files)
    assert len(full_reads) == 2


def lines_of(path: Path, size: int) -> None:
    """Write a text of at least `size` bytes."""
    draw = random.Random(1)
    blocks = [sentences(20_000, seed).encode() for seed in range(4)]
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(draw.choice(blocks))


@pytest.fixture
def cleared(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied afterwards: pytest keeps those of its last runs, and these files are large."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def started(*arguments: object) -> tuple[float, float, str]:
    """Train a few steps; return the seconds until the first one, the peak memory in MB, and the messages."""
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
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux reports it")
@pytest.mark.parametrize("ending", ["txt", "txt.zst"])
def test_four_gigabytes_need_the_memory_of_a_small_text(cleared: Path, ending: str) -> None:
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
