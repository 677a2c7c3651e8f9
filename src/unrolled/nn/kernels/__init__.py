"""The hot loops: several ways of unrolling the same cell, each held equal to the reference in outputs and gradients.

native      ours in C++, for processors, where it was built
aten        torch's fused layers (oneDNN, cuDNN), where they compute the same
reference   `step` in a loop: the definition, any cell, any device, slow

Whether their gradients are right on this machine, at the sizes in use, is `guard`'s to say.
"""

from __future__ import annotations

import torch

from unrolled.errors import UsageError
from unrolled.nn.cells import Cell, GatedCell, Kernel, LSTMCell, unroll_by_step
from unrolled.nn.kernels import aten, native
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.sequence_model import Network

KERNELS: dict[str, Kernel] = {"native": native.unroll, "torch": aten.unroll, "reference": unroll_by_step}

MIN_ATEN_UNITS_FLOAT32 = 384
"""Units from which torch's LSTM in float32 is faster than ours: 0.86 at 512, ours 1.2 to 1.4 times as fast below (LOG.md)."""


def unsupported_reason(name: str, cell: Cell) -> str | None:
    """Say why the kernel `name` cannot run this cell, or return None if it can."""
    return {"native": native.unsupported_reason, "torch": aten.unsupported_reason}.get(name, lambda _: None)(cell)


def available_kernels(model: Network, dtype: torch.dtype = torch.float32) -> list[str]:
    """Return the kernels that can run `model` in `dtype`, the fastest first; the last is the reference."""
    cells: list[GatedCell] = model.cells()
    names = [name for name in KERNELS if not any(unsupported_reason(name, cell) for cell in cells)]
    aten_is_faster = dtype == torch.float32 and any(
        isinstance(cell, LSTMCell) and cell.hidden_size >= MIN_ATEN_UNITS_FLOAT32 for cell in cells
    )
    if "native" in names and "torch" in names and (aten_is_faster or (dtype == torch.bfloat16 and not native.has_bfloat16())):
        names.remove("native")
    return names


def set_kernel(model: Network, name: str, dtype: torch.dtype = torch.float32) -> str:
    """Make `model` unroll with the kernel `name`, or for `auto` with the fastest that can, in `dtype`.

    Returns the name of the kernel chosen. Raises `UsageError` if the kernel named cannot run this model.
    """
    if name == "auto":
        name = available_kernels(model, dtype)[0]
    for cell in model.cells():
        if reason := unsupported_reason(name, cell):
            raise UsageError(f"--kernels {name} cannot run this model: {reason}.")
        cell.kernel = KERNELS[name]
        cell.residual_kernel = native.unroll_residual if name == "native" else None
    if isinstance(model, RecurrentLM):
        model.loss_kernel = native.loss if name == "native" else None
    return name
