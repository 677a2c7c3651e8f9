"""PNG images, as files and inside a page, without a package for images."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_bytes(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return an image `(H, W, C)` as a PNG file (ISO/IEC 15948): gray or red, green, blue, and where C is 2 or 4, opacity."""
    height, width, channels = pixels.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = np.concatenate([np.zeros((height, 1), dtype=np.uint8), pixels.reshape(height, width * channels)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)), _chunk(b"IEND", b""))
    return SIGNATURE + b"".join(chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """Return an image as a data URL, for the `src` of an `img`.

    Example:
        >>> png_data_uri(np.zeros((1, 1, 1), dtype=np.uint8))[:22]
        'data:image/png;base64,'
    """
    return "data:image/png;base64," + base64.b64encode(png_bytes(pixels)).decode("ascii")
