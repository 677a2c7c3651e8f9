"""A program: layers, loss, optimizers and decoder of a native extension in a folder, on every instruction set.

    python sanitized_kernels.py FOLDER

It is run under a sanitizer, which ends it at the first fault, so that only what runs matters here, and not the numbers.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import torch

SIZES = ((1, 1, 1), (17, 3, 2), (64, 33, 3), (200, 16, 2), (40, 50, 12))
"""Units, rows and steps: layers shared by rows and by units, with and without padding."""


def load_extension(folder: Path) -> Any:
    """Load the extension in a folder as that of the package, which must not have been imported yet."""
    name = "unrolled.nn.kernels._native"
    [file] = folder.glob("_native*.so")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no extension.")
    native: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    native.adopt_openmp = lambda path: False  # its threads meet where the sanitizers do not see it
    sys.modules[name] = native
    return native


def train_step(cell: Any, size: tuple[int, int, int], dtype: torch.dtype, residual: bool) -> Any:
    """Take one training step of a new network; return it."""
    from unrolled.nn.kernels.select import set_kernel
    from unrolled.nn.language_model import RecurrentLM
    from unrolled.options import ModelOptions, TrainingOptions
    from unrolled.training.optim import clip_gradient, make_optimizer

    (units, rows, steps), vocab_size = size, 5 + size[1]
    options = ModelOptions(cell=cell, hidden=units, dropout=0.2, residual=residual, embedding=None if residual else 7)
    model = RecurrentLM(vocab_size, options).train()
    set_kernel(model, "native")
    model.seed_dropout(1)
    ids = torch.randint(vocab_size, (2, steps, rows))
    batch = {"inputs": ids[0], "targets": ids[1], "resets": torch.rand(steps, rows) < 0.3}
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss, _ = model.loss(batch, model.stack.initial_state(rows))
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    training = TrainingOptions(optimizer="adamw" if units < 17 else "muon")
    _, scale = clip_gradient(model.parameters(), training)
    make_optimizer(model, training).step(0.01, scale)
    if not loss.isfinite():
        raise SystemExit(f"The loss of {cell}, {size}, {dtype} is {loss}.")
    return model.eval()


def sample(model: Any, streams: int, precision: Any) -> None:
    """Read some tokens and draw some others in several streams."""
    from support.native import TorchDecoder
    from unrolled.options import SampleOptions

    decoder = TorchDecoder(model, streams, precision, threads=2)
    decoder.read(torch.randint(decoder.decoder.vocab_size, (3, streams)))
    decoder.sample(torch.rand(4, streams, dtype=torch.float64), SampleOptions(top_k=3, top_p=0.9, min_p=0.01))


def main() -> None:
    """Run everything on each instruction set."""
    native = load_extension(Path(sys.argv[1]))
    torch.set_num_threads(1)  # the barriers of its OpenMP are not seen by the sanitizers, and its threads would look like races
    torch.get_num_threads = lambda: 2  # ours take as many
    from support.native import KINDS, precisions
    from unrolled.runtime.native_decoder import PRECISIONS

    sets = native.available_isas()
    for instructions in sets:
        native.set_isa(instructions)
        model = None
        for cell, dtype, size, residual in itertools.product(KINDS, precisions(instructions), SIZES, (True, False)):
            model = train_step(cell, size, dtype, residual)
        for streams, precision in itertools.product((1, 2, 17, 40), PRECISIONS):
            sample(model, streams, precision)
    print("clean on", *sets)


if __name__ == "__main__":
    main()
