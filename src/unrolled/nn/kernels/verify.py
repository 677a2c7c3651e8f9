"""Whether fused layers can be trusted here: their gradients against the definition's, at the very sizes in use.

Forward values of a fused layer can be right while its gradients are wrong: torch 2.13's bfloat16 LSTM is so on processors with
AMX, if H is a multiple of 1024. A table of known faults would miss the next one; a comparison does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unrolled.nn.cells import GatedCell, Gathered, Inputs, State, dense, state_tensors
from unrolled.nn.kernels import KERNELS, native
from unrolled.nn.language_model import SequenceModel
from unrolled.nn.loss import cross_entropy
from unrolled.nn.sequence_model import Network

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
    steps, owner = min(steps, STEPS), f"{OWNERS.get(kernel, kernel)} {str(dtype).removeprefix('torch.')}"
    for (_, _, rows), cell in cells.items():
        worst = difference(cell, kernel, dtype, batch, steps, rows)
        if not worst <= TOLERANCE[dtype]:
            return f"{owner} layers have wrong gradients here with {cell.hidden_size} units: {worst:.0%} off"
    if kernel == "native" and isinstance(model, SequenceModel):
        worst = loss_difference(model.head, dtype, batch, steps)
        if not worst <= TOLERANCE[dtype]:
            return f"{owner} loss has wrong gradients here with {model.symbols} symbols: {worst:.0%} off"
    return None


def difference(cell: GatedCell, kernel: str, dtype: torch.dtype, batch: int, steps: int, rows: int = 0) -> float:
    """Return how far outputs and gradients of a `kernel` are from the definition's in float32.

    With `rows`, the inputs are rows of a table of so many, as those of the first layer are. A native cell that can be residual
    is, with a normalisation before it: that is the same kernel with more around it.

    The largest of the differences, each as a share of the length of what it should be; `nan` if any is.
    """
    device, draw = cell.weight_h.device, torch.Generator().manual_seed(0)
    shape = (rows, cell.input_size) if rows else (steps, batch, cell.input_size)
    xs = torch.randn(*shape, generator=draw).to(device)
    ids = torch.randint(max(rows, 1), (steps, batch), generator=draw).to(device)
    pull = torch.randn(steps, batch, cell.hidden_size, generator=draw).to(device)
    norm = nn.LayerNorm(cell.input_size, device=device) if kernel == "native" and cell.input_size == cell.hidden_size else None
    weights = [*cell.parameters(), *([] if norm is None else norm.parameters())]
    results: list[list[Tensor]] = []
    for name, number in (("reference", torch.float32), (kernel, dtype)):
        own = xs.clone().requires_grad_()
        inputs: Inputs = Gathered(ids, own) if rows else own
        with torch.autocast(device.type, dtype=number, enabled=number != torch.float32):
            ys, state = _run(cell, name, inputs, norm)
        loss = (ys.float() * pull).sum() + sum((s.float().sum() for s in state_tensors(state)), torch.zeros((), device=device))
        results.append([ys.detach().float(), *torch.autograd.grad(loss, [own, *weights])])
    return _furthest(*results)


def _run(cell: GatedCell, kernel: str, xs: Inputs, norm: nn.LayerNorm | None) -> tuple[Tensor, State]:
    """Run a cell from zero by a kernel; with a `norm`, as a residual layer."""
    state = cell.initial_state(xs.shape[1])
    if norm is None:
        return KERNELS[kernel](cell, xs, state, None)
    if kernel == "native":
        return native.unroll_residual(cell, xs, norm, None, state, None)
    ys, last = KERNELS[kernel](cell, norm(dense(xs)), state, None)
    return dense(xs) + ys, last


def loss_difference(head: nn.Linear, dtype: torch.dtype, batch: int, steps: int) -> float:
    """Return how far the native loss behind a head and its gradients are from torch's in float32, as `difference` does."""
    draw = torch.Generator().manual_seed(0)
    xs = torch.randn(steps, batch, head.in_features, generator=draw)
    targets = torch.randint(head.out_features, (steps, batch), generator=draw)
    results: list[list[Tensor]] = []
    for name, number in (("reference", torch.float32), ("native", dtype)):
        ys = xs.clone().requires_grad_()
        with torch.autocast("cpu", dtype=number, enabled=number != torch.float32):
            loss = native.loss(ys, head, targets) if name == "native" else cross_entropy(head(ys), targets)
        results.append([loss.detach(), *torch.autograd.grad(loss, [ys, *head.parameters()])])
    return _furthest(*results)


def _furthest(expected: list[Tensor], found: list[Tensor]) -> float:
    """Return the largest difference of two lists, each as a share of the length expected; `nan` if any is."""
    pairs = zip(expected, found, strict=True)
    shares = [float((one - other).norm() / one.norm().clamp_min(1e-12)) for one, other in pairs]
    return max(shares) if all(share == share for share in shares) else float("nan")
