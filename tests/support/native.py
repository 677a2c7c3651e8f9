"""The native kernels: the instruction sets of this machine, and how exact each number format is."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from unrolled.nn.kernels.extension import native_module, unavailable_reason

NATIVE: Any = native_module()
SETS: list[str] = NATIVE.available_isas() if NATIVE is not None else []
KINDS = ("rnn", "gru", "lstm")
NARROW = ("avx512_bf16", "amx")
"""Instruction sets that multiply bfloat16."""

BOUNDS = {torch.float32: 5e-6, torch.bfloat16: 0.02}
"""Differences allowed, each as a share of the length of what it should be."""

built = pytest.mark.skipif(NATIVE is None and not os.environ.get("CI"), reason=unavailable_reason())
"""In CI the kernels must be there; elsewhere there may be no compiler."""


@pytest.fixture
def best_set_again() -> Iterator[None]:
    """Use the best instruction set again after the test."""
    yield
    if NATIVE is not None:
        NATIVE.set_isa("")


def precisions(instructions: str) -> list[torch.dtype]:
    """Return the number formats in which an instruction set multiplies."""
    return [torch.float32, torch.bfloat16] if instructions in NARROW else [torch.float32]
