"""The kernels by name, and the choice of one for a model: the fastest that supports its cells and has correct gradients."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from unrolled.errors import UsageError
from unrolled.nn.base_classifier import BaseClassifier
from unrolled.nn.cells import (
    Cell,
    EmbeddingLookup,
    GatedCell,
    Inputs,
    Kernel,
    LSTMCell,
    State,
    state_tensors,
    to_dense,
    unroll_by_step,
)
from unrolled.nn.device import DeviceConfig
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.kernels import aten, linear_cross_entropy, native
from unrolled.nn.language_model import RecurrentLM, cross_entropy
from unrolled.nn.sequence_model import Network
from unrolled.options import MachineOptions, TrainingOptions

logger = logging.getLogger(__name__)

KERNELS: dict[str, Kernel] = {"native": native.unroll, "torch": aten.unroll, "reference": unroll_by_step}
"""Kernels by the name that `--kernels` takes, the preferred first; the reference is the last and supports every cell."""

MIN_ATEN_UNITS_FLOAT32 = 384
"""Units of an LSTM from which torch's float32 layer is faster than the native one, which has 0.86 of torch's speed at 512
units, and 1.2 to 1.4 times torch's speed at smaller sizes."""


def unsupported_reason(name: str, cell: Cell) -> str | None:
    """Say why the kernel `name` cannot run this cell, or return None if it can."""
    return {"native": native.unsupported_reason, "torch": aten.unsupported_reason}.get(name, lambda _: None)(cell)


def available_kernels(model: Network | BaseClassifier, dtype: torch.dtype = torch.float32) -> Iterator[str]:
    """Yield the kernels that can run `model` in `dtype`, the fastest first; the last is the reference."""
    cells: list[GatedCell] = model.cells()

    def can_run(name: str) -> bool:
        return not any(unsupported_reason(name, cell) for cell in cells)

    aten_is_faster = (dtype == torch.bfloat16 and not native.has_bfloat16()) or (
        dtype == torch.float32
        and any(isinstance(cell, LSTMCell) and cell.hidden_size >= MIN_ATEN_UNITS_FLOAT32 for cell in cells)
    )
    for name in KERNELS:
        if can_run(name) and not (name == "native" and aten_is_faster and can_run("torch")):
            yield name


def set_kernel(model: Network | BaseClassifier, name: str, dtype: torch.dtype = torch.float32) -> str:
    """Make `model` unroll with the kernel `name`; `auto` takes the fastest available in `dtype`. Return the kernel's name.

    A language model that is part of it always has the fastest.

    Raises `UsageError` if the named kernel cannot run this model.
    """
    if name == "auto":
        name = next(available_kernels(model, dtype))
    for cell in model.cells():
        if reason := unsupported_reason(name, cell):
            raise UsageError(f"--kernels {name} cannot run this model: {reason}.")
        cell.kernel = KERNELS[name]
        cell.residual_kernel = native.unroll_residual if name == "native" else None
    if isinstance(model, EncoderDecoder) and model.base is not None:
        set_kernel(model.base, "auto")
    if isinstance(model, RecurrentLM):
        model.loss_kernel = linear_cross_entropy.loss if name == "native" else None
    return name


def choose_kernel(
    model: Network, machine: DeviceConfig, options: MachineOptions, training: TrainingOptions | None = None
) -> tuple[DeviceConfig, str]:
    """Set a kernel on `model`; return the machine with the dtype to use, and the kernel's name.

    For `training`, the gradients of a kernel are first compared with the reference at the sizes in use. With `--precision
    auto`, float32 is used where bfloat16 would be slow or wrong. The reason of a choice that is not the usual one is logged.
    Raises `UsageError` if the kernel that was asked for cannot run or train this model.
    """
    dtypes = [machine.dtype]
    if options.precision == "auto" and machine.dtype != torch.float32:
        dtypes.append(torch.float32)
    reason, named = "", [] if options.kernels == "auto" else [set_kernel(model, options.kernels)]
    for dtype, name in ((d, name) for d in dtypes for name in named or available_kernels(model, d)):
        if name == "reference":
            continue
        mismatch = _rounded_memory(model, name, dtype, machine) if options.precision == "auto" else None
        if mismatch is None and training is not None:
            mismatch = find_mismatch(model, name, dtype, training.batch, training.bptt)
        if mismatch is None:
            if reason:
                logger.info(f"{'float32' if dtype != machine.dtype else name + ' kernels'}, because {reason}")
            return dataclasses.replace(machine, dtype=dtype), set_kernel(model, name)
        reason = mismatch
    if options.kernels not in ("auto", "reference"):
        raise UsageError(f"--kernels {options.kernels} cannot train this model: {reason}.")
    if reason:
        logger.warning(f"reference kernel, which is slow, because {reason}")
    elif dtypes[-1] != machine.dtype:
        logger.warning("float32, because the reference kernel is slow in bfloat16")
    return dataclasses.replace(machine, dtype=dtypes[-1]), set_kernel(model, "reference")


def _rounded_memory(model: Network, name: str, dtype: torch.dtype, machine: DeviceConfig) -> str | None:
    """Say why an LSTM would count wrongly, or return None. On a CPU, torch rounds c to bfloat16, where 256 + 1 is 256."""
    is_rounded = name == "torch" and dtype == torch.bfloat16 and machine.device.type == "cpu"
    has_memory = any(isinstance(cell, LSTMCell) for cell in model.cells())
    return "torch's LSTM layer rounds its cell state to bfloat16" if is_rounded and has_memory else None


MAX_STEPS = 8
"""Most time steps compared; a wrong product is wrong at every step."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Largest relative error allowed, as a fraction of the norm: rounding gives 1e-6, and 0.005 in bfloat16."""

KERNEL_LABELS = {"torch": "torch's", "native": "the native"}


def find_mismatch(model: Network, kernel: str, dtype: torch.dtype, batch_size: int, steps: int) -> str | None:
    """Say what is wrong with the gradients of a kernel for training `model` in `dtype` with these sizes, or return None.

    They are compared with the reference on this machine. The forward values of a fused layer can be correct and its gradients
    wrong: the bfloat16 LSTM of torch 2.13 is so on CPUs with AMX if H is a multiple of 1024. A list of known faults would miss
    the next one; a comparison does not.
    """
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
            loss = linear_cross_entropy.loss(ys, head, targets) if name == "native" else cross_entropy(head(ys), targets)
        results.append([loss.detach(), *torch.autograd.grad(loss, [ys, *head.parameters()])])
    return _max_relative_error(*results)


def _max_relative_error(expected: list[Tensor], actual: list[Tensor]) -> float:
    """Return the largest relative error of two lists of tensors, as a fraction of the expected norm; `nan` if any value is."""
    pairs = zip(expected, actual, strict=True)
    errors = [float((want - got).norm() / want.norm().clamp_min(1e-12)) for want, got in pairs]
    return max(errors) if all(error == error for error in errors) else float("nan")
