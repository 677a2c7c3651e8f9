"""Where the model runs: device, number format, threads, and an allocator that keeps its memory."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
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
    """A device and the number format of its matrix products; master weights are float32 whatever it is."""

    device: torch.device
    dtype: torch.dtype
    threads: int
    world_size: int = 1
    """Processes that train together, each on such a machine."""

    @property
    def precision(self) -> str:
        """`float32` or `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which matrix products are computed in `dtype`."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def select_device(options: MachineOptions, local_rank: int = 0, local_world_size: int = 1) -> DeviceConfig:
    """Turn `auto` into what this computer has. Raises `UsageError` for a device that is not here.

    Of several `processes` here, this is number `local`: each has a GPU of its own, or a share of the threads.
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


@contextlib.contextmanager
def use_threads(machine: DeviceConfig) -> Iterator[None]:
    """Run with the machine's number of threads, and leave torch's as it was."""
    previous = torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def fewer_threads_if_faster(machine: DeviceConfig, measure: Callable[[], float]) -> DeviceConfig:
    """Return the machine with one thread, if `pace` says that is faster than all of them.

    It is so for small layers, and beside a busy process: threads that wait for each other dozens of times a step lose most
    of it when one of them is put off.
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
        # torch's LSTM on Apple's GPU has been wrong more than once, so it is there to be asked for, not by itself.
        return torch.device("cuda" if "cuda" in available else "cpu")
    try:
        device = torch.device(name)
        is_valid = device.index is None or device.type != "cuda" or device.index < torch.cuda.device_count()
    except RuntimeError:
        is_valid = False
    if not is_valid or device.type not in available:
        raise UsageError(f"--device {name} is not on this machine; it has: {', '.join(available)}.")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Say whether products in bfloat16 are faster than in float32: a GPU made for it, or AVX-512 BF16, or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    return any(feature in instruction_sets() for feature in ("avx512_bf16", "amx"))


def instruction_sets() -> list[str]:
    """Return the instruction sets that matter for speed and that torch can use here, by their usual names."""
    probes = {"avx2": "_is_avx2_supported", "avx512": "_is_avx512_supported", "avx512_bf16": "_is_avx512_bf16_supported",
              "amx": "_is_amx_tile_supported"}  # fmt: skip
    supported = [name for name, probe in probes.items() if getattr(torch.cpu, probe, lambda: False)()]
    return supported or [platform.machine()]


def tune_malloc() -> None:
    """Tell glibc to keep large blocks for the next step instead of handing them back to the system.

    A step allocates and frees the same few megabytes each time; mapped afresh, their page faults cost a quarter of the step
    at 2x256 (measured: 40 against 31 ms). Elsewhere than on glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_mmap_max = -1, -4
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
