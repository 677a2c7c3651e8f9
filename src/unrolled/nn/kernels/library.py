"""The compiled library, if there is one: it is optional, and everything works without it."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from typing import Any

import torch

SETTING = "UNROLLED_INSTRUCTIONS"
"""Names the best instruction set to use, to try what other processors do; `none` does without the library."""


@functools.cache
def _found() -> tuple[Any, str]:
    """Return the library, or None and why."""
    wanted = os.environ.get(SETTING, "")
    if wanted == "none":
        return None, f"{SETTING}=none switches the native kernels off"
    try:
        module = importlib.import_module("unrolled.nn.kernels._native")
    except ImportError as error:
        return None, f"the native kernels are not built here ({error.msg})"
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        module.adopt_openmp(str(path))
    if wanted:
        try:
            module.set_isa(wanted)
        except ValueError:
            return None, f"{SETTING}={wanted} is not here, which has {', '.join(module.available_isas())}"
    return module, ""


def library() -> Any:
    """Return the compiled module, or None where it was not built. torch's threads become its own."""
    return _found()[0]


def why_absent() -> str:
    """Return why `library` is None, in words; empty if it is not."""
    return _found()[1]
