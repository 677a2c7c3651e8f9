"""The kernels by name, and the choice of one for a model: the fastest that supports its cells and has correct gradients."""

from __future__ import annotations

import dataclasses
import logging

import torch

from unrolled.errors import UsageError
from unrolled.nn.cells import Cell, GatedCell, Kernel, LSTMCell, unroll_by_step
from unrolled.nn.device import DeviceConfig
from unrolled.nn.kernels import aten, native
from unrolled.nn.language_model import RecurrentLM
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
    """Make `model` unroll with the kernel `name`; `auto` takes the fastest available in `dtype`. Return the kernel's name.

    Raises `UsageError` if the named kernel cannot run this model.
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
    is_auto, reason = options.kernels == "auto", ""
    attempts = [
        (d, name) for d in dtypes for name in (available_kernels(model, d) if is_auto else [set_kernel(model, options.kernels)])
    ]
    for dtype, name in attempts:
        if name == "reference":
            continue
        mismatch = _rounded_memory(model, name, dtype, machine) if options.precision == "auto" else None
        if mismatch is None and training is not None:
            mismatch = _gradient_mismatch(model, name, dtype, training)
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


def _gradient_mismatch(model: Network, name: str, dtype: torch.dtype, training: TrainingOptions) -> str | None:
    from unrolled.nn.kernels import verify  # only training needs it, and it imports KERNELS from here

    return verify.find_mismatch(model, name, dtype, training.batch, training.bptt)
