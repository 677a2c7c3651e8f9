"""The compiled extension module `_native`. It is optional: without it, all functions run on torch."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from typing import Any

import torch

ENV_VARIABLE = "UNROLLED_INSTRUCTIONS"
"""The best instruction set to use, to test the code of other CPUs; `none` disables the extension."""


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
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
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


def native_module() -> Any:
    """Return the compiled module, or None if it was not built. It uses the OpenMP threads of torch."""
    return _load()[0]


def unavailable_reason() -> str:
    """Say why `native_module` returns None; an empty string if it does not."""
    return _load()[1]
