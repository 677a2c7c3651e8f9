"""The hot loops: several ways of unrolling the same cell, each held equal to the reference in outputs and gradients.

reference   `step` in a loop: the definition, any cell, any device, slow
aten        torch's fused layers (oneDNN, cuDNN), where they compute the same and `guard` found it right
"""

from __future__ import annotations

from unrolled.errors import UsageError
from unrolled.nn.cells import Kernel, unroll_by_step
from unrolled.nn.kernels import aten
from unrolled.nn.network import Network

KERNELS: dict[str, Kernel] = {"reference": unroll_by_step, "aten": aten.unroll}


def use(model: Network, name: str) -> str:
    """Make `model` unroll with the kernel `name`, or the fastest one that can, for `auto`.

    Returns the name of the kernel chosen. Raises `UsageError` if the kernel named cannot run this model. Whether its gradients
    are right on this machine is `guard`'s to say.
    """
    reasons = [reason for cell in model.cells() if (reason := aten.refusal(cell))]
    if name == "auto":
        name = "reference" if reasons else "aten"
    elif name == "aten" and reasons:
        raise UsageError(f"--kernels aten cannot run this model: {reasons[0]}.")
    for cell in model.cells():
        cell.kernel = KERNELS[name]
    return name
