"""The hot loops: several ways of unrolling the same cell, each held equal to the reference in outputs and gradients.

reference   `step` in a loop: the definition, any cell, any device, slow
aten        torch's fused layers (oneDNN, cuDNN), where they compute the same and compute it right
"""

from __future__ import annotations

import torch

from unrolled.errors import UsageError
from unrolled.nn.cells import Kernel, unroll_by_step
from unrolled.nn.kernels import aten
from unrolled.nn.model import SequenceModel

KERNELS: dict[str, Kernel] = {"reference": unroll_by_step, "aten": aten.unroll}


def use(model: SequenceModel, name: str, dtype: torch.dtype) -> str:
    """Make `model` unroll with the kernel `name` (or the fastest right one, for `auto`), computing in `dtype`.

    Returns the name of the kernel chosen. Raises `UsageError` if the kernel named cannot do this model right.
    """
    device = model.head.weight.device
    reasons = [reason for layer in model.stack.each_layer() if (reason := aten.refusal(layer.cell, dtype, device))]
    if name == "auto":
        name = "reference" if reasons else "aten"
    elif name == "aten" and reasons:
        raise UsageError(f"--kernels aten cannot run this model: {reasons[0]}.")
    for layer in model.stack.each_layer():
        layer.cell.kernel = KERNELS[name]
    return name
