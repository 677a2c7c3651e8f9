"""WAV files: PCM of 8, 16, 24 and 32 bits, and floats, as numbers between -1 and 1. They are written as 32-bit floats."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unrolled.atomic_io import write_atomic
from unrolled.errors import DataError
from unrolled.tables.cell_values import Array

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Codes of the sample format. Programs write `EXTENSIBLE` for 24 bits, with the true code after it (WAVEFORMATEXTENSIBLE of
Microsoft); the module `wave` of Python 3.11 does not read it."""

UNKNOWN_SIZE = 0xFFFFFFFF

SUFFIXES = (".wav", ".wave")


class Wav(NamedTuple):
    """Samples `(T, channels)`, float64, and the samples per second."""

    samples: Array
    rate: int


def read_wav(path: Path, location: str) -> Wav:
    """Read a WAV file. Raises `DataError`, which begins with `location`, if it is none or of another sample format."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{location}: {path} cannot be read: {error.strerror}.") from error
    chunks = _chunks(data)
    if (
        data[:4] not in (b"RIFF", b"RF64")
        or data[8:12] != b"WAVE"
        or len(chunks.get(b"fmt ", b"")) < 16
        or b"data" not in chunks
    ):
        raise DataError(f"{location}: {path} is not a WAV file.")
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    if code == EXTENSIBLE and len(chunks[b"fmt "]) >= 26:
        code = struct.unpack_from("<H", chunks[b"fmt "], 24)[0]
    known = {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)}
    if (code, bits) not in known or channels == 0:
        raise DataError(
            f"{location}: {path} has {bits} bits in format {code}, and PCM of 8, 16, 24 or 32 bits or floats are expected: "
            "convert it."
        )
    frame = channels * bits // 8
    raw = chunks[b"data"]
    samples = _decode(raw[: len(raw) // frame * frame], code, bits).reshape(-1, channels)
    if not len(samples):
        raise DataError(f"{location}: {path} has no samples.")
    return Wav(samples, rate)


def write_wav(path: Path, samples: Array, rate: int) -> None:
    """Write samples `(T, channels)` as 32-bit floats, so that none is cut at -1 or 1.

    Example:
        >>> write_wav(Path("tone.wav"), np.zeros((8000, 1)), 8000)
        >>> read_wav(Path("tone.wav"), "tone").samples.shape
        (8000, 1)
    """
    channels, raw = samples.shape[1], samples.astype("<f4").tobytes()
    format_chunk = struct.pack("<HHIIHHH", FLOAT, channels, rate, rate * channels * 4, channels * 4, 32, 0)
    body = b"".join(
        name + struct.pack("<I", len(content)) + content
        for name, content in ((b"fmt ", format_chunk), (b"fact", struct.pack("<I", len(samples))), (b"data", raw))
    )
    write_atomic(path, b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a RIFF file by name; of several with one name, the first. A chunk that is cut off is shorter.

    In RF64, a file of more than 4 GB, the size of the samples is in the chunk `ds64` (EBU Tech 3306).
    """
    chunks: dict[bytes, bytes] = {}
    start = 12
    while start + 8 <= len(data):
        name, size = data[start : start + 4], struct.unpack_from("<I", data, start + 4)[0]
        if name == b"data" and size == UNKNOWN_SIZE and len(chunks.get(b"ds64", b"")) >= 16:
            size = struct.unpack_from("<Q", chunks[b"ds64"], 8)[0]
        chunks.setdefault(name, data[start + 8 : start + 8 + size])
        start += 8 + size + size % 2
    return chunks


def _decode(raw: bytes, code: int, bits: int) -> Array:
    if code == FLOAT:
        return np.frombuffer(raw, dtype=f"<f{bits // 8}").astype(np.float64)
    if bits == 8:
        return (np.frombuffer(raw, dtype=np.uint8).astype(np.float64) - 128) / 128
    if bits == 24:
        padded = np.zeros((len(raw) // 3, 4), dtype=np.uint8)
        padded[:, 1:] = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3)
        raw, bits = padded.tobytes(), 32  # the lowest byte is zero
    samples: Array = np.frombuffer(raw, dtype=f"<i{bits // 8}").astype(np.float64) / 2 ** (bits - 1)
    return samples
