"""Verification of fused kernels: their gradients compared with the reference on this machine, at the sizes in use.

The forward values of a fused layer can be correct and its gradients wrong: the bfloat16 LSTM of torch 2.13 is so on CPUs with
AMX if H is a multiple of 1024. A list of known faults would miss the next one; a comparison does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unrolled.nn.cells import EmbeddingLookup, GatedCell, Inputs, State, state_tensors, to_dense
from unrolled.nn.kernels import native
from unrolled.nn.kernels.select import KERNELS
from unrolled.nn.language_model import RecurrentLM, cross_entropy
from unrolled.nn.sequence_model import Network

MAX_STEPS = 8
"""Most time steps compared; a wrong product is wrong at every step."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Largest relative error allowed, as a fraction of the norm: rounding gives 1e-6, and 0.005 in bfloat16."""

KERNEL_LABELS = {"torch": "torch's", "native": "the native"}


def find_mismatch(model: Network, kernel: str, dtype: torch.dtype, batch_size: int, steps: int) -> str | None:
    """Say what is wrong with a kernel for training `model` in `dtype` with these sizes, or return None."""
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
            return f"{label} loss has wrong gradients here with {model.vocab_size} tokens: {error:.0%} off"
    return None


def relative_error(cell: GatedCell, kernel: str, dtype: torch.dtype, batch_size: int, steps: int, table_rows: int = 0) -> float:
    """Return the largest relative error of outputs and gradients of a kernel, compared with the reference in float32.

    With `table_rows`, the inputs are rows of an embedding table of that size, as in the first layer. With the native kernel, a
    cell whose input and hidden sizes are equal is run as a residual layer with layer norm, which is the same code and more.
    Errors are fractions of the norm of the expected tensor; `nan` if any value is.
    """
    device, generator = cell.weight_ih.device, torch.Generator().manual_seed(0)
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
    """Run a cell from the zero state with a kernel; with a `norm`, as a residual layer."""
    state = cell.initial_state(xs.shape[1])
    if norm is None:
        return KERNELS[kernel](cell, xs, state, None)
    if kernel == "native":
        return native.unroll_residual(cell, xs, norm, None, state, None)
    ys, final_state = KERNELS[kernel](cell, norm(to_dense(xs)), state, None)
    return to_dense(xs) + ys, final_state


def loss_relative_error(head: nn.Linear, dtype: torch.dtype, batch_size: int, steps: int) -> float:
    """Return the largest relative error of the native loss and its gradients, compared with torch in float32."""
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
    """Return the largest relative error of two lists of tensors, as a fraction of the expected norm; `nan` if any value is."""
    pairs = zip(expected, actual, strict=True)
    errors = [float((want - got).norm() / want.norm().clamp_min(1e-12)) for want, got in pairs]
    return max(errors) if all(error == error for error in errors) else float("nan")
