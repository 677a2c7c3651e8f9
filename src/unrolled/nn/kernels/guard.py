"""Whether fused layers can be trusted here: their gradients against the definition's, at the very sizes in use.

Forward values of a fused layer can be right while its gradients are wrong: torch 2.13's bfloat16 LSTM is so on processors with
AMX, if H is a multiple of 1024. A table of known faults would miss the next one; a comparison does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unrolled.nn.cells import GatedCell, Gathered, state_tensors, unroll_by_step
from unrolled.nn.kernels import KERNELS
from unrolled.nn.model import SequenceModel
from unrolled.nn.network import Network

STEPS = 8
"""Steps compared; a wrong product is wrong at each."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Largest difference allowed, as a share of the gradient's length: rounding gives 1e-6, and 0.005 in bfloat16."""


OWNERS = {"aten": "torch's", "native": "the native"}


def fault(model: Network, kernel: str, dtype: torch.dtype, batch: int, steps: int) -> str | None:
    """Say what is wrong with a `kernel` for training `model` in `dtype` with `batch` lanes, or return None."""
    cells: dict[tuple[int, int, int], GatedCell] = {}
    for index, cell in enumerate(model.cells()):
        rows = model.symbols if index == 0 and isinstance(model, SequenceModel) else 0
        cells[cell.input_size, cell.hidden_size, rows] = cell
    for (_, _, rows), cell in cells.items():
        worst = difference(cell, kernel, dtype, batch, min(steps, STEPS), rows)
        if not worst <= TOLERANCE[dtype]:
            layers = f"{OWNERS.get(kernel, kernel)} {str(dtype).removeprefix('torch.')} layers"
            return f"{layers} have wrong gradients here with {cell.hidden_size} units: {worst:.0%} off"
    return None


def difference(cell: GatedCell, kernel: str, dtype: torch.dtype, batch: int, steps: int, rows: int = 0) -> float:
    """Return how far outputs and gradients of a `kernel` are from the definition's in float32.

    With `rows`, the inputs are rows of a table of so many, as those of the first layer are.

    The largest of the differences, each as a share of the length of what it should be; `nan` if any is.
    """
    device = cell.weight_h.device
    draw = torch.Generator().manual_seed(0)
    shape = (rows, cell.input_size) if rows else (steps, batch, cell.input_size)
    xs = torch.randn(*shape, generator=draw).to(device)
    ids = torch.randint(max(rows, 1), (steps, batch), generator=draw).to(device)
    pull = torch.randn(steps, batch, cell.hidden_size, generator=draw).to(device)
    results: list[list[Tensor]] = []
    for unroll, number in ((unroll_by_step, torch.float32), (KERNELS[kernel], dtype)):
        inputs = xs.clone().requires_grad_()
        with torch.autocast(device.type, dtype=number, enabled=number != torch.float32):
            ys, state = unroll(cell, Gathered(ids, inputs) if rows else inputs, cell.initial_state(batch), None)
        loss = (ys.float() * pull).sum() + sum((s.float().sum() for s in state_tensors(state)), torch.zeros((), device=device))
        gradients = torch.autograd.grad(loss, [inputs, *cell.parameters()])
        results.append([ys.detach().float(), *gradients])
    shares = [float((one - other).norm() / one.norm().clamp_min(1e-12)) for one, other in zip(*results, strict=True)]
    return max(shares) if all(share == share for share in shares) else float("nan")
