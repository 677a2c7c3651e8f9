"""The compiled extension module `_native`, and its threads. It is optional: without it, all functions run on torch or numpy.

Nothing here imports torch, but torch's OpenMP library and number of threads are used where there are any.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

ENV_VARIABLE = "UNROLLED_INSTRUCTIONS"
"""The best instruction set to use, to test the code of other CPUs; `none` disables the extension."""

FAST_BFLOAT16 = frozenset({"amx", "avx512_bf16"})
"""Instruction sets that multiply bfloat16."""

_threads: int | None = None


ROW_PADDING = 32
"""Unused numbers at the end of each buffer row: rows a power of two apart would compete for the same cache sets."""


@functools.cache
def _load() -> tuple[Any, str]:
    """Return the module and an empty string, or None and the reason."""
    requested = os.environ.get(ENV_VARIABLE, "")
    if requested == "none":
        return None, f"{ENV_VARIABLE}=none switches the native kernels off"
    try:
        module = importlib.import_module("unrolled.nn.kernels._native")
    except ImportError as error:
        return None, f"the native kernels are not built here ({error.msg})"
    for path in _openmp_libraries():
        with contextlib.suppress(OSError):  # it keeps its threads from call to call; without it, each call starts its own
            ctypes.CDLL(str(path))
        module.adopt_openmp(str(path))
    if requested:
        try:
            module.set_isa(requested)
        except ValueError:
            return (
                None,
                f"{ENV_VARIABLE}={requested} is not available on this CPU, which has {', '.join(module.available_isas())}",
            )
    return module, ""


def _openmp_libraries() -> list[Path]:
    """Return the OpenMP library that torch brings along; torch itself is not imported for it."""
    spec = importlib.util.find_spec("torch")
    return sorted((Path(spec.origin).parent / "lib").glob("libgomp*")) if spec is not None and spec.origin else []


def native_module() -> Any:
    """Return the compiled module, or None if it was not built. It uses the OpenMP threads of torch."""
    return _load()[0]


def unavailable_reason() -> str:
    """Say why `native_module` returns None; an empty string if it does not."""
    return _load()[1]


def num_threads() -> int:
    """Return the threads to use: what `set_num_threads` set or, as torch does, `usable_processors`."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    if _threads is not None:
        return _threads
    return usable_processors()


def padded_size(units: int) -> int:
    """Return a number of units rounded up to a multiple of 32, as the tiles of the kernels need it."""
    return -(-units // 32) * 32


def usable_processors() -> int:
    """Return how many processors this process may use: OMP_NUM_THREADS, or those that the system gives it."""
    requested = os.environ.get("OMP_NUM_THREADS", "")
    if requested.isdecimal() and int(requested):
        return int(requested)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(count: int) -> None:
    """Set the threads to use, also those of torch if it is imported."""
    global _threads
    _threads = count
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
