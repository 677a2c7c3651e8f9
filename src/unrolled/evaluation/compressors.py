"""Compressors as baselines of a language model: what they need for a text, given the training text.

That is the compressed size of both texts together minus that of the training text. xz is part of Python. PPMd (Shkarin 2002)
needs the package pyppmd, of the extra `eval`; zpaq (Mahoney) is a program, used where it is installed.
"""

from __future__ import annotations

import importlib.util
import logging
import lzma
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from unrolled.atomic_io import storage_error

logger = logging.getLogger(__name__)

MAX_XZ_DICTIONARY = 1536 * 2**20
"""The largest dictionary that xz allows, in bytes."""

PPMD_ORDER = 6
"""The best order of 5 to 32 on tinyshakespeare (benchmarks/LOG.md)."""

PPMD_MEMORY_BYTES = 1 << 28
ZPAQ_MAX_BYTES = 1 << 22
"""zpaq -m5 reads about 100 kB per second, so longer texts are left out."""


def xz_nats(train: bytes, test: bytes, num_units: int) -> float:
    """Return what xz needs for `test` after `train`, in nats per unit (a character); `test` has `num_units`.

    The preset is 9, with a dictionary for all of the text. It needs about 11 bytes of memory per byte of text.
    """
    dictionary_size = min(max(len(train) + len(test), 2**16), MAX_XZ_DICTIONARY)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": dictionary_size}]
    return _nats(lambda data: len(lzma.compress(data, filters=filters)), train, test, num_units)


def compressor_nats(train: bytes, test: bytes, num_units: int) -> dict[str, float]:
    """Return the losses on `test`, given `train`, of PPMd and zpaq where they are installed, in nats per unit (a character).

    `test` has `num_units`. What is left out is logged, with the reason.
    """
    losses = {}
    for name, reason, compressed_size in _compressors(len(train) + len(test)):
        if reason:
            logger.info(f"{name} is left out: {reason}")
        else:
            losses[name] = _nats(compressed_size, train, test, num_units)
    return losses


def _nats(compressed_size: Callable[[bytes], int], train: bytes, test: bytes, num_units: int) -> float:
    return (compressed_size(train + test) - compressed_size(train)) * 8 * math.log(2) / max(1, num_units)


def _compressors(num_bytes: int) -> list[tuple[str, str, Callable[[bytes], int]]]:
    """Return the name of each compressor, why it is left out ("": it is not), and the function for the compressed size."""
    no_ppmd = "" if importlib.util.find_spec("pyppmd") else "pip install pyppmd"
    no_zpaq = "" if shutil.which("zpaq") else "the program zpaq is not installed"
    if not no_zpaq and num_bytes > ZPAQ_MAX_BYTES:
        no_zpaq = f"it is slow, and the texts have {num_bytes:,} bytes, more than {ZPAQ_MAX_BYTES:,}"
    return [("PPMd", no_ppmd, _ppmd_size), ("zpaq -m5", no_zpaq, _zpaq_size)]


def _ppmd_size(data: bytes) -> int:
    import pyppmd

    return len(pyppmd.compress(data, max_order=PPMD_ORDER, mem_size=PPMD_MEMORY_BYTES, variant="I"))


def _zpaq_size(data: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        try:
            path.write_bytes(data)
            command = ["zpaq", "add", "archive.zpaq", "text", "-m5", "-threads", "1"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            return os.path.getsize(Path(folder) / "archive.zpaq")
        except OSError as error:
            raise storage_error(error, path, "compress") from error
