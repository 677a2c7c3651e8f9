"""Whether fused layers can be trusted here: their gradients against the definition's, at the very sizes in use.

Forward values of a fused layer can be right while its gradients are wrong: torch 2.13's bfloat16 LSTM is so on processors with
AMX, if H is a multiple of 1024. A table of known faults would miss the next one; a comparison does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unrolled.nn.cells import EmbeddingLookup, GatedCell, Inputs, State, state_tensors, to_dense
from unrolled.nn.kernels import native
from unrolled.nn.kernels.select import KERNELS
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.loss import cross_entropy
from unrolled.nn.sequence_model import Network

MAX_STEPS = 8
"""Steps compared; a wrong product is wrong at each."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Largest difference allowed, as a share of the gradient's length: rounding gives 1e-6, and 0.005 in bfloat16."""


KERNEL_LABELS = {"torch": "torch's", "native": "the native"}


def find_mismatch(model: Network, kernel: str, dtype: torch.dtype, batch_size: int, steps: int) -> str | None:
    """Say what is wrong with a `kernel` for training `model` in `dtype` with `batch` lanes, or return None."""
    cells: dict[tuple[int, int, int], GatedCell] = {}
    for index, cell in enumerate(model.cells()):
        table_rows = model.vocab_size if index == 0 and isinstance(model, RecurrentLM) else 0
        cells[cell.input_size, cell.hidden_size, table_rows] = cell
    steps, label = min(steps, MAX_STEPS), f"{KERNEL_LABELS.get(kernel, kernel)} {str(dtype).removeprefix('torch.')}"
    for (_, _, table_rows), cell in cells.items():
        error = relative_error(cell, kernel, dtype, batch_size, steps, table_rows)
        if not error <= TOLERANCE[dtype]:
            return f"{label} layers have wrong gradients here with {cell.hidden_size} units: {error:.0%} off"
    if kernel == "native" and isinstance(model, RecurrentLM):
        error = loss_relative_error(model.head, dtype, batch_size, steps)
        if not error <= TOLERANCE[dtype]:
            return f"{label} loss has wrong gradients here with {model.vocab_size} symbols: {error:.0%} off"
    return None


def relative_error(cell: GatedCell, kernel: str, dtype: torch.dtype, batch_size: int, steps: int, table_rows: int = 0) -> float:
    """Return how far outputs and gradients of a `kernel` are from the definition's in float32.

    With `rows`, the inputs are rows of a table of so many, as those of the first layer are. A native cell that can be residual
    is, with a normalisation before it: that is the same kernel with more around it.

    The largest of the differences, each as a share of the length of what it should be; `nan` if any is.
    """
    device, generator = cell.weight_hh.device, torch.Generator().manual_seed(0)
    shape = (table_rows, cell.input_size) if table_rows else (steps, batch_size, cell.input_size)
    xs = torch.randn(*shape, generator=generator).to(device)
    ids = torch.randint(max(table_rows, 1), (steps, batch_size), generator=generator).to(device)
    grad_output = torch.randn(steps, batch_size, cell.hidden_size, generator=generator).to(device)
    norm = nn.LayerNorm(cell.input_size, device=device) if kernel == "native" and cell.input_size == cell.hidden_size else None
    weights = [*cell.parameters(), *([] if norm is None else norm.parameters())]
    results: list[list[Tensor]] = []
    for name, compute_dtype in (("reference", torch.float32), (kernel, dtype)):
        leaf = xs.clone().requires_grad_()
        inputs: Inputs = EmbeddingLookup(ids, leaf) if table_rows else leaf
        with torch.autocast(device.type, dtype=compute_dtype, enabled=compute_dtype != torch.float32):
            ys, state = _run_cell(cell, name, inputs, norm)
        loss = (ys.float() * grad_output).sum() + sum(
            (s.float().sum() for s in state_tensors(state)), torch.zeros((), device=device)
        )
        results.append([ys.detach().float(), *torch.autograd.grad(loss, [leaf, *weights])])
    return _max_relative_error(*results)


def _run_cell(cell: GatedCell, kernel: str, xs: Inputs, norm: nn.LayerNorm | None) -> tuple[Tensor, State]:
    """Run a cell from zero by a kernel; with a `norm`, as a residual layer."""
    state = cell.initial_state(xs.shape[1])
    if norm is None:
        return KERNELS[kernel](cell, xs, state, None)
    if kernel == "native":
        return native.unroll_residual(cell, xs, norm, None, state, None)
    ys, final_state = KERNELS[kernel](cell, norm(to_dense(xs)), state, None)
    return to_dense(xs) + ys, final_state


def loss_relative_error(head: nn.Linear, dtype: torch.dtype, batch_size: int, steps: int) -> float:
    """Return how far the native loss behind a head and its gradients are from torch's in float32, as `difference` does."""
    generator = torch.Generator().manual_seed(0)
    xs = torch.randn(steps, batch_size, head.in_features, generator=generator)
    targets = torch.randint(head.out_features, (steps, batch_size), generator=generator)
    results: list[list[Tensor]] = []
    for name, compute_dtype in (("reference", torch.float32), ("native", dtype)):
        ys = xs.clone().requires_grad_()
        with torch.autocast("cpu", dtype=compute_dtype, enabled=compute_dtype != torch.float32):
            loss = native.loss(ys, head, targets) if name == "native" else cross_entropy(head(ys), targets)
        results.append([loss.detach(), *torch.autograd.grad(loss, [ys, *head.parameters()])])
    return _max_relative_error(*results)


def _max_relative_error(expected: list[Tensor], actual: list[Tensor]) -> float:
    """Return the largest difference of two lists, each as a share of the length expected; `nan` if any is."""
    pairs = zip(expected, actual, strict=True)
    errors = [float((one - other).norm() / one.norm().clamp_min(1e-12)) for one, other in pairs]
    return max(errors) if all(error == error for error in errors) else float("nan")
