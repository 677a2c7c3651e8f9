"""Characters per second of one sample: portable arithmetic compared with the int8 decoder, in alternating runs.

python benchmarks/portable_step.py [--layers 2] [--hidden 256] [--runs 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from unrolled.nn.kernels.extension import native_module
from unrolled.options import SampleOptions
from unrolled.runtime.native_decoder import NativeDecoder
from unrolled.runtime.native_portable import NativePortableNetwork
from unrolled.runtime.portable_arithmetic import Floats
from unrolled.runtime.text_network import GATE_NAMES, TextLayer, TextNetwork

VOCAB_SIZE, BLOCK, BLOCKS = 65, 64, 10
OPTIONS = SampleOptions(length=BLOCK, temperature=0.8)


def random_network(cell: str, num_layers: int, units: int) -> TextNetwork:
    """Return a residual network with random weights: the time does not depend on them."""
    generator, names = np.random.default_rng(0), GATE_NAMES[cell]

    def draw(*shape: int) -> Floats:
        return generator.uniform(-1 / 16, 1 / 16, shape).astype(np.float32)

    rows, norm = len(names) * units, np.ones(units, np.float32)
    layers = [
        TextLayer(names, draw(rows, units), draw(rows, units), draw(rows), None, norm, draw(units)) for _ in range(num_layers)
    ]
    return TextNetwork(cell, tuple(layers), draw(VOCAB_SIZE, units), draw(VOCAB_SIZE), draw(VOCAB_SIZE, units), True)


def int8_sampler(network: TextNetwork) -> Callable[[], None]:
    decoder, generator = NativeDecoder(network, 1, "int8", 1), np.random.default_rng(0)

    def sample() -> None:
        for _ in range(BLOCKS):
            decoder.sample(generator.random((BLOCK, 1)), OPTIONS)

    return sample


def portable_sampler(network: TextNetwork) -> Callable[[], None]:
    model = NativePortableNetwork(network)

    def sample() -> None:
        logits, state = np.zeros((1, VOCAB_SIZE), np.float32), model.initial_state(1)
        for block in range(BLOCKS):
            _, logits, state = model.sample(logits, state, [1], block * BLOCK, BLOCK, OPTIONS)

    return sample


def main() -> None:
    """Print the medians and the median of the ratios for each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("--layers", 2), ("--hidden", 256), ("--runs", 15)):
        parser.add_argument(name, type=int, default=value)
    arguments = parser.parse_args()
    print(f"{native_module().active_isa()}, {arguments.layers}x{arguments.hidden}, one sample, one thread")
    for cell in GATE_NAMES:
        network = random_network(cell, arguments.layers, arguments.hidden)
        samplers = [portable_sampler(network)]
        if cell != "gru-reset-before":  # the int8 decoder does not have it
            samplers.append(int8_sampler(network))
        speeds: list[list[float]] = [[] for _ in samplers]
        for _ in range(arguments.runs):
            for sampler, results in zip(samplers, speeds, strict=True):
                begin = time.perf_counter()
                sampler()
                results.append(BLOCK * BLOCKS / (time.perf_counter() - begin))
        portable, *int8 = speeds
        line = f"{cell:18} portable {statistics.median(portable):8,.0f} characters/s"
        if int8:
            ratio = statistics.median(a / b for a, b in zip(portable, int8[0], strict=True))
            line += f"   int8 {statistics.median(int8[0]):8,.0f}   ratio {ratio:.2f}"
        print(line)


if __name__ == "__main__":
    main()
