"""The compiled library, if there is one: it is optional, and everything works without it."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from typing import Any

import torch

ENV_VARIABLE = "UNROLLED_INSTRUCTIONS"
"""Names the best instruction set to use, to try what other processors do; `none` does without the library."""


@functools.cache
def _load() -> tuple[Any, str]:
    """Return the library, or None and why."""
    requested = os.environ.get(ENV_VARIABLE, "")
    if requested == "none":
        return None, f"{ENV_VARIABLE}=none switches the native kernels off"
    try:
        module = importlib.import_module("unrolled.nn.kernels._native")
    except ImportError as error:
        return None, f"the native kernels are not built here ({error.msg})"
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        module.adopt_openmp(str(path))
    if requested:
        try:
            module.set_isa(requested)
        except ValueError:
            return None, f"{ENV_VARIABLE}={requested} is not here, which has {', '.join(module.available_isas())}"
    return module, ""


def native_module() -> Any:
    """Return the compiled module, or None where it was not built. torch's threads become its own."""
    return _load()[0]


def unavailable_reason() -> str:
    """Return why `library` is None, in words; empty if it is not."""
    return _load()[1]
