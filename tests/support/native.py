"""The native kernels: the instruction sets of this machine, and how exact each number format is."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from unrolled.generation.torch_model import as_text_network
from unrolled.nn.kernels.extension import native_module, unavailable_reason
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import SampleOptions
from unrolled.runtime.native_decoder import NativeDecoder, Precision

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


class TorchDecoder:
    """A native decoder of a network of torch, with tensors where it has arrays."""

    def __init__(self, model: RecurrentLM, streams: int, precision: Precision = "float32", threads: int | None = None) -> None:
        self.decoder = NativeDecoder(as_text_network(model), streams, precision, threads)

    def read(self, ids: torch.Tensor) -> None:
        """Advance the streams by ids `(T, B)`."""
        self.decoder.read(ids.numpy())

    def sample(self, numbers: torch.Tensor, *options: SampleOptions) -> torch.Tensor:
        """Draw tokens with the random numbers `(T, B)`."""
        return torch.from_numpy(self.decoder.sample(numbers.numpy(), *options))

    def logits(self) -> torch.Tensor:
        """Return the logits of the next token, `(B, V)`."""
        return torch.from_numpy(self.decoder.logits())

    @property
    def state(self) -> list[torch.Tensor]:
        """The state of all streams, as a flat list."""
        return [torch.from_numpy(part) for layer in self.decoder.state for part in layer if part is not None]
