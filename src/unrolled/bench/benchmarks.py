"""`unrolled bench`: compares this package with common alternatives in one run on this machine.

Contenders take turns, and ratios of medians are reported, so that other work on the machine slows all of them equally.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from unrolled.atomic_io import write_atomic
from unrolled.bench import busy, learning
from unrolled.bench.languages import QUICK_SHARE, choose, run_languages
from unrolled.bench.process import BenchProcess
from unrolled.bench.workloads import VOCAB_SIZE
from unrolled.display import plural
from unrolled.generation.torch_model import as_text_network
from unrolled.nn.cells import CELLS
from unrolled.nn.device import has_fast_bfloat16
from unrolled.nn.kernels import native
from unrolled.nn.kernels.extension import native_module
from unrolled.nn.kernels.select import KERNELS
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import BenchOptions, ModelOptions
from unrolled.output_paths import check_outputs
from unrolled.runtime.native_decoder import PRECISIONS, NativeDecoder
from unrolled.views.svg_curves import loss_curves_svg

logger = logging.getLogger(__name__)

TRAINING_SIZES = ((2, 128, 50, 50), (2, 256, 32, 64), (2, 512, 100, 100), (1, 1024, 64, 64), (2, 256, 64, 128))
"""Layers, units, batch and steps of the training steps compared."""

SAMPLING_UNITS = (128, 256, 512)
"""Units of the two layers that are sampled from."""

MAX_REFERENCE_UNITS = 256
"""Units beyond which the reference kernel would take most of the time of a benchmark."""

ROUND_SECONDS = 0.4
"""Seconds of a round, which repeats its work until they have passed."""


def run_interleaved(
    contenders: dict[str, tuple[str, dict[str, Any]]],
    rounds: int,
    aggregate: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Return the work per second of each contender, from the medians of the seconds of rounds that are taken in turn.

    `aggregate` is used in place of the median.

    `contenders` maps each to a workload of `bench.workloads` and its parameters. One runs at a time; the others wait for input.
    """
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(BenchProcess(workload, **parameters))
            for name, (workload, parameters) in contenders.items()
        }
        counts = {name: max(1, round(ROUND_SECONDS / process.round())) for name, process in processes.items()}
        timings: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(rounds):
            for name, process in processes.items():
                timings[name].append(process.round(counts[name]))
        return {name: process.work / aggregate(timings[name]) for name, process in processes.items()}


def peak_flops(rounds: int) -> dict[str, float]:
    """Return the peak floating-point operations per second of the processor, by precision.

    It is the best that products of numbers in registers, or large ones by torch, came to in any round. bfloat16 is left out
    where the processor has no instructions for it: torch's product of 2,048 rows then takes minutes (torch 2.13, AVX2).
    """
    rates: dict[str, float] = {}
    precisions = ("float32", "bfloat16") if has_fast_bfloat16(torch.device("cpu")) else ("float32",)
    if len(precisions) == 1:
        logger.info("bfloat16 is left out: this processor has no instructions for it")
    for precision in precisions:
        contenders: dict[str, tuple[str, dict[str, Any]]] = {
            str(size): ("product", {"size": size, "precision": precision}) for size in (1024, 2048)
        }
        if _native_has(precision):
            contenders["peak"] = ("matrix peak", {"precision": precision})
        measured = run_interleaved(contenders, rounds, aggregate=min)
        products = max(rate for name, rate in measured.items() if name != "peak")
        rates[precision] = max(measured.values())
        logger.info(
            f"matrix peak, {precision}: {rates[precision] / 1e9:,.0f} GFLOP/s, "
            f"of which large products by torch reach {products / rates[precision]:.0%}"
        )
    return rates


def training(rounds: int) -> list[dict[str, Any]]:
    """Return one row per size: characters per second of our training step and of the peers', as a share of the peak too."""
    peak = max(peak_flops(rounds).values())
    rows = []
    for layers, hidden, batch, bptt in TRAINING_SIZES:
        shape = {"layers": layers, "hidden": hidden, "batch": batch, "bptt": bptt}
        contenders: dict[str, tuple[str, dict[str, Any]]] = {
            "ours": ("our step", shape | {"optimizer": "adamw"}),
            "ours, muon": ("our step", shape | {"optimizer": "muon"}),
            "float32": ("peer step", shape | {"autocast": False}),
        }
        if torch_lstm_has_bfloat16():
            contenders["bfloat16"] = ("peer step", shape | {"autocast": True})
            contenders["bfloat16 tuned"] = ("peer step", shape | {"autocast": True, "tuned": True})
        rates = run_interleaved(contenders, rounds)
        # A token: two operations a weight, forward and twice backward; the first layer's inputs pick rows of a table.
        operations = 6.0 * (4 * (2 * layers - 1) * hidden**2 + VOCAB_SIZE * hidden)
        rows.append(
            shape
            | {f"characters_per_second_{name}".replace(", ", "_").replace(" ", "_"): rate for name, rate in rates.items()}
            | {f"times_{peer}".replace(" ", "_"): rates["ours"] / rates[peer] for peer in rates if not peer.startswith("ours")}
            | {"share_of_peak": rates["ours"] * operations / peak}
        )
        row = rows[-1]
        bfloat16 = "which has no bfloat16 on this processor"
        if "bfloat16" in rates:
            bfloat16 = f"{row['times_bfloat16']:.2f} times it in bfloat16 "
            bfloat16 += f"({row['times_bfloat16_tuned']:.2f} with an allocator that keeps its memory)"
        logger.info(
            f"training {layers}x{hidden}, batch {batch}, {bptt} steps: {rates['ours']:>9,.0f} characters/s, "
            f"{row['times_float32']:.2f} times nn.LSTM in float32, {bfloat16}, {row['share_of_peak']:.0%} of the matrix peak"
        )
    return rows


def torch_lstm_has_bfloat16() -> bool:
    """Return whether torch's LSTM runs in bfloat16 here: oneDNN has none for processors without AVX-512 (torch 2.13)."""
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(8, 8)(torch.zeros(2, 1, 8))
    except RuntimeError:
        return False
    return True


def kernels(rounds: int) -> list[dict[str, Any]]:
    """Return one row per cell, size and precision: characters per second of a layer by each kernel, and its share of the
    peak."""
    peaks, rows = peak_flops(rounds), []
    for cell, (_, hidden, batch, bptt), precision in itertools.product(("lstm", "gru", "rnn"), TRAINING_SIZES[:3], peaks):
        parameters = {"cell": cell, "hidden": hidden, "batch": batch, "bptt": bptt, "precision": precision}
        names = [name for name in KERNELS if name != "native" or _native_has(precision)]
        if hidden > MAX_REFERENCE_UNITS:
            names.remove("reference")
        rates = run_interleaved({name: ("layer", parameters | {"kernel": name}) for name in names}, rounds)
        operations = 12.0 * CELLS[cell].num_gates * hidden**2  # a token: two matrices, two a weight, forward and twice backward
        shares = {name: rate * operations / peaks[precision] for name, rate in rates.items()}
        rows.append(
            parameters
            | {f"characters_per_second_{name}": rate for name, rate in rates.items()}
            | {f"share_of_peak_{name}": share for name, share in shares.items()}
        )
        summary = ", ".join(f"{name} {rate:,.0f} characters/s ({shares[name]:.0%} of the peak)" for name, rate in rates.items())
        logger.info(f"layer {cell} {hidden}, batch {batch}, {bptt} steps, {precision}: {summary}")
    return rows


def _native_has(precision: str) -> bool:
    return native_module() is not None and (precision == "float32" or native.has_bfloat16())


SAMPLING_LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "nn.LSTM": ("peer sampling", {"cells": False}),
    "nn.LSTM without oneDNN": ("peer sampling", {"cells": False, "onednn": False}),
    "nn.LSTMCell": ("peer sampling", {"cells": True}),
    "onnxruntime": ("onnx sampling", {}),
}
"""Common ways to sample, by name: a workload and its parameters. Ratios are to the fastest of them."""


def sampling(rounds: int) -> list[dict[str, Any]]:
    """Return one row per size, with one stream and with 64: characters per second of our sampling and of the peers' loops.

    `times_fastest` is over the fastest of the loops. `share_of_memory` is what the weights that are read in a second are of
    what the same threads can read from a block as large.
    """
    rows, loops = [], dict(SAMPLING_LOOPS)
    precisions = PRECISIONS if native_module() is not None else ("",)
    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None:
        del loops["onnxruntime"]
        logger.info("onnxruntime is left out: it is not installed (pip install 'unrolled[export]')")
    for hidden in SAMPLING_UNITS:
        for streams, length, peer_length in ((1, 2000, 300), (64, 400, 60)):
            shape = {"layers": 2, "hidden": hidden, "streams": streams}
            ours = {name: ("our sampling", shape | {"length": length, "precision": name}) for name in precisions}
            peers = {name: (workload, shape | {"length": peer_length} | extra) for name, (workload, extra) in loops.items()}
            rates = run_interleaved(ours | peers, rounds)
            fastest = max(peers, key=lambda name: rates[name])
            shares = {name: rates[name] / streams / _memory_bound_steps(hidden, streams, name) for name in ours if name}
            rows.append(
                shape
                | {
                    "characters_per_second": {name or "reference": rate for name, rate in rates.items()},
                    "fastest_peer": fastest,
                }
                | {"times_fastest": {name or "reference": rates[name] / rates[fastest] for name in ours}}
                | {"share_of_memory": shares}
            )
            title = f"sampling 2x{hidden}, {plural(streams, 'stream')}"
            logger.info(f"{title}: " + ", ".join(f"{name} {rates[name]:,.0f} characters/s" for name in peers))
            for name in ours:
                logger.info(
                    f"{title}, {name or 'reference'}: {rates[name]:>9,.0f} characters/s, "
                    f"{rates[name] / rates[fastest]:.1f} times {fastest}"
                    + (f", {shares[name]:.0%} of what memory allows" if name else "")
                )
    return rows


def _memory_bound_steps(hidden: int, streams: int, precision: Any) -> float:
    """Return the steps per second if a step only read the weights from memory: the best of five measurements."""
    model = RecurrentLM(VOCAB_SIZE, ModelOptions(layers=2, hidden=hidden)).eval()
    decoder = NativeDecoder(as_text_network(model), streams, precision)
    rates = [native_module().memory_bandwidth(decoder.weight_bytes, decoder.threads, 0.1) for _ in range(5)]
    return float(max(rates)) / decoder.weight_bytes


def encoding(rounds: int) -> dict[str, Any]:
    """Return megabytes of text per second that are encoded: by this package, with file and cache, and by a dictionary."""
    parameters = {"megabytes": 20}
    rates = run_interleaved({"ours": ("our encoding", parameters), "dictionary": ("peer encoding", parameters)}, rounds)
    ratio = rates["ours"] / rates["dictionary"]
    logger.info(f"encoding: {rates['ours']:,.0f} MB/s, {ratio:.1f} times a dictionary and a list")
    return {f"megabytes_per_second_{name}": rate for name, rate in rates.items()}


def learn_cells(options: BenchOptions) -> list[dict[str, Any]]:
    """Return one row per cell: its loss after some time on a text, medians over seeds. Draws a picture if a path is given."""
    cells = choose("--cells", options.cells, CELLS)
    seconds = (options.seconds or learning.DEFAULT_SECONDS) * (QUICK_SHARE if options.quick else 1)
    logger.info(f"loss of each cell after {seconds:g} s on {options.text}, in nats per character, median of {options.seeds}")
    rows = []
    for cell in cells:
        seeds = range(options.seed, options.seed + options.seeds)
        runs = [learning.train_cell(options.text, seconds, seed, cell) for seed in seeds]
        runs.sort(key=lambda run: run["carried"])
        rows.append({"cell": cell} | runs[len(runs) // 2])
        row = rows[-1]
        logger.info(
            f"  {cell:<24} {row['carried']:.4f}  {row['parameters']:>9,} parameters, {row['tokens_per_second']:>9,.0f} tokens/s"
        )
    if options.svg:
        write_atomic(Path(options.svg), loss_curves_svg({row["cell"]: row["curve"] for row in rows}).encode())
    return rows


def learn(options: BenchOptions) -> list[dict[str, Any]]:
    """Return one row per contender: its curve, and its final losses. Draws a picture if a path is given."""
    rows, seconds = [], options.seconds or learning.DEFAULT_SECONDS
    logger.info(
        f"loss after {seconds:g} s on {options.text}, in nats per character: with the context carried on, "
        f"in windows of {learning.WINDOW} (the GPT: of its 64)"
    )
    for name, contender in learning.CONTENDERS.items():
        row = {"name": name} | contender(options.text, seconds, options.seed)
        carried_text = "      " if row["carried"] is None else f"{row['carried']:.4f}"
        logger.info(f"  {name:<28} {carried_text}  {row['windowed']:.4f}   {row['parameters']:>9,} parameters")
        rows.append(row)
    if options.svg:
        write_atomic(Path(options.svg), loss_curves_svg({row["name"]: row["curve"] for row in rows}).encode())
    return rows


BENCHMARKS: dict[str, Callable[[BenchOptions], Any]] = {
    "training": lambda options: training(options.rounds),
    "kernels": lambda options: kernels(options.rounds),
    "sampling": lambda options: sampling(options.rounds),
    "encoding": lambda options: encoding(options.rounds),
    "learning": learn,
    "languages": run_languages,
    "cells": learn_cells,
    "busy": lambda options: busy.training_steps(options.rounds),
}


DEFAULT_BENCHMARKS = ("training", "sampling", "encoding")
"""The benchmarks that run when none is named; they take some minutes."""


def run_benchmarks(names: list[str], options: BenchOptions) -> dict[str, Any]:
    """Run the named benchmarks (none: `DEFAULT_BENCHMARKS`), log each result and return all of them by name."""
    check_outputs(options, (options.text,))
    return {benchmark: BENCHMARKS[benchmark](options) for benchmark in names or DEFAULT_BENCHMARKS}
