"""What the runtime asks of the machine, without torch: whether numbers of 16 bits are fast, and whether there may be a GPU."""

from __future__ import annotations

import os

from unrolled.nn.kernels.extension import FAST_BFLOAT16, native_module
from unrolled.options import MachineOptions
from unrolled.runtime.native_decoder import Precision

_GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", r"C:\Windows\System32\nvcuda.dll")
"""Files of the drivers of GPUs that torch's `cuda` can be: NVIDIA's, AMD's, and either under WSL."""


def may_have_gpu() -> bool:
    """Return whether this machine has the driver of a GPU; only torch can tell whether the GPU can be used."""
    return any(map(os.path.exists, _GPU_FILES))


def sampling_precision(options: MachineOptions) -> Precision | None:
    """Return the number format of the native decoder's weights on the CPU; None where the reference kernel is asked for."""
    if options.kernels == "reference":
        return None
    if options.precision != "auto":
        return options.precision
    native = native_module()
    return "bfloat16" if native is not None and FAST_BFLOAT16 & set(native.available_isas()) else "float32"
