"""Where a model runs: device, dtype, threads, and the settings of memory: the C allocator and the garbage collector."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from unrolled.errors import UsageError
from unrolled.options import MachineOptions


@dataclass(frozen=True)
class DeviceConfig:
    """A device, the dtype of matrix products, and threads; the weights are always float32."""

    device: torch.device
    dtype: torch.dtype
    threads: int
    world_size: int = 1
    """Number of processes that train together, each with such a device."""

    @property
    def precision(self) -> str:
        """The name of the dtype: `float32` or `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which matrix products are computed in `dtype`."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def select_device(options: MachineOptions, local_rank: int = 0, local_world_size: int = 1) -> DeviceConfig:
    """Resolve `auto` to what this computer has. Raises `UsageError` for a device that it does not have.

    `local_rank` is the number of this process among the `local_world_size` on this computer; each gets its own GPU, or an
    equal share of the threads.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    elif local_world_size > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world_size))
    device = _parse_device(options.device)
    if local_world_size > 1 and device.type == "cuda" and device.index is None:
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    tune_malloc()
    if options.precision == "auto":
        dtype = torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    else:
        dtype = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    return DeviceConfig(device, dtype, torch.get_num_threads())


def prediction_device(machine: DeviceConfig, loss_unit: str) -> DeviceConfig:
    """Return where a model whose loss is per `loss_unit` predicts, and is evaluated when its training ends.

    Numbers are predicted in float32, whatever they were trained in: bfloat16 would round them.
    """
    return dataclasses.replace(machine, dtype=torch.float32) if loss_unit == "number" else machine


@contextlib.contextmanager
def use_threads(machine: DeviceConfig) -> Iterator[None]:
    """Set torch's number of threads inside a `with` block."""
    previous = torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def fewer_threads_if_faster(machine: DeviceConfig, measure: Callable[[], float]) -> DeviceConfig:
    """Return the machine with one thread if `measure`, a throughput, is higher with it than with all threads.

    That is the case for small layers and next to another busy process: threads synchronize dozens of times per step, and all
    of them wait when the system delays one.
    """
    single_thread = dataclasses.replace(machine, threads=1)
    throughputs = []
    for candidate in (machine, single_thread):
        with use_threads(candidate):
            throughputs.append(measure())
    return single_thread if throughputs[1] > throughputs[0] else machine


def _parse_device(name: str) -> torch.device:
    available = ["cpu"]
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if name == "auto":
        # torch's LSTM on Apple GPUs has computed wrong results in more than one version, so mps must be asked for.
        return torch.device("cuda" if "cuda" in available else "cpu")
    try:
        device = torch.device(name)
        is_valid = device.index is None or device.type != "cuda" or device.index < torch.cuda.device_count()
    except RuntimeError:
        is_valid = False
    if not is_valid or device.type not in available:
        raise UsageError(f"--device {name} is not available; this computer has: {', '.join(available)}.")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 products are faster than float32: a GPU of compute capability 8, AVX-512 BF16, or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    return any(feature in instruction_sets() for feature in ("avx512_bf16", "amx"))


def instruction_sets() -> list[str]:
    """Return the instruction sets of this CPU that matter for speed, as torch detects them, by their usual names."""
    probes = {"avx2": "_is_avx2_supported", "avx512": "_is_avx512_supported", "avx512_bf16": "_is_avx512_bf16_supported",
              "amx": "_is_amx_tile_supported"}  # fmt: skip
    supported = [name for name, probe in probes.items() if getattr(torch.cpu, probe, lambda: False)()]
    return supported or [platform.machine()]


def tune_malloc() -> None:
    """Tell glibc to keep large freed blocks instead of returning them to the system; without glibc, do nothing.

    A training step allocates and frees the same few megabytes every time. Mapped anew each time, their page faults take a
    quarter of a step at 2 layers of 256 units (40 instead of 31 ms).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_mmap_max = -1, -4
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


@contextlib.contextmanager
def gc_frozen() -> Iterator[None]:
    """Exclude all objects that exist now from garbage collection: scanning the modules' objects again and again takes time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
