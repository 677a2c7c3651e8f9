"""What is exported, and how an exported model is compared with the trained one.

`ExportJob` is the input of every exporter: the model twice, as arrays to write from and as the network of PyTorch to compare
with, so that a fault in what is written is found by arithmetic that does not share it.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unrolled.display import plural
from unrolled.errors import UnrolledError
from unrolled.runtime.portable import PortableNetwork, Weights
from unrolled.runtime.portable_arithmetic import Floats
from unrolled.runtime.text_network import TextModel

if TYPE_CHECKING:
    from unrolled.nn.language_model import RecurrentLM

SHAPES = ((1, 1), (7, 3), (40, 2))
"""Lengths and batch sizes at which an exported model is compared: a step, and two that share no size."""

TOLERANCE = 2e-4
"""Largest difference of a logit or a state, in float32, as a fraction of the largest value."""

TIMEOUT_SECONDS = 600
"""Time that a program may take to check an exported file."""

LAST_LINE = slice(-1, None)

MAX_COST_TOKENS, COST_COLUMNS, COST_WARMUP = 16_384, 64, 64

States: TypeAlias = list[tuple[Floats, ...]]
"""For each layer the parts of `STATE_NAMES`, h first, each `(B, H)`."""

Runner: TypeAlias = Callable[[NDArray[np.int64], States], tuple[Floats, States]]
"""From ids `(T, B)` and a state to logits `(T, B, V)` and the final state."""


class ExportError(UnrolledError):
    """An exported file does not compute what the model computes; nothing was written."""


@dataclass(frozen=True)
class ExportJob:
    """What to export: `model` as arrays, `reference` the same model in PyTorch, `out` the file, and how to describe it."""

    model: TextModel
    reference: RecurrentLM
    path: Path
    out: Path
    title: str
    description: str
    weights: Weights = "int8"
    float16: bool = False
    held_out: NDArray[Any] | None = None
    """Ids of a text on which the cost of rounded weights is measured; None if there is no text."""

    train_text: NDArray[Any] | None = None
    data: str = ""
    """What the run was trained on, in words, for a model card."""


@dataclass(repr=False)
class ExportResult:
    """Files by path, what was checked, and facts for the user."""

    files: dict[Path, bytes]
    checks: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        files = ", ".join(f"{path} ({len(content):,} bytes)" for path, content in self.files.items())
        return f"<unrolled.ExportResult: {files}, {plural(len(self.checks), 'check')}>"


def array_of(tensor: Any) -> NDArray[np.float32]:
    """Return a weight as an array, its rows one after the other."""
    array: NDArray[np.float32] = np.asarray(tensor.detach().float().cpu().numpy(), order="C")
    return array


def random_states(job: ExportJob, batch_size: int, generator: np.random.Generator) -> States:
    """Return states that are not zero, as if a text had been read before; the normalizer of an sLSTM is then at least 1."""
    network = job.model.network
    ranges = [(1.0, 2.0) if name == "n" else (-0.9, 0.9) for name in network.state_names]
    shape = (batch_size, network.hidden_size)
    return [tuple(generator.uniform(*limits, shape).astype(np.float32) for limits in ranges) for _ in network.layers]


def reference_run(reference: RecurrentLM, ids: NDArray[np.int64], states: States) -> tuple[Floats, States]:
    """Return the logits and the final state of the trained model, step by step, by its definition in PyTorch."""
    import torch

    torch.set_num_threads(1)  # the steps are too small for more
    from unrolled.nn.cells import state_tensors
    from unrolled.nn.stack import StackState

    cells = [type(layer) for layer in reference.initial_state(1).layers]
    layers = [kind(*map(torch.from_numpy, parts)) for kind, parts in zip(cells, states, strict=True)]
    state, logits = StackState(tuple(layers)), []
    with torch.inference_mode():
        for row in torch.from_numpy(ids):
            step_logits, state = reference.step(row, state)
            logits.append(step_logits.numpy())
    return np.stack(logits), [tuple(part.numpy() for part in state_tensors(layer)) for layer in state.layers]


def compare_with_reference(job: ExportJob, run: Runner, tolerance: float = TOLERANCE) -> str:
    """Compare every logit and state at several lengths, batch sizes and states; return what was compared, in words.

    Raises:
        ExportError: A value differs by more than `tolerance` times the largest value.
    """
    generator, worst = np.random.default_rng(1), 0.0
    for steps, batch_size in SHAPES:
        ids = generator.integers(0, job.model.network.vocab_size, (steps, batch_size))
        states = random_states(job, batch_size, generator)
        for part in (ids, ids[::-1].copy()):  # the second part goes on from the final state of the first
            expected, expected_states = reference_run(job.reference, part, states)
            logits, next_states = run(part, states)
            worst = max(worst, difference("logits", logits, expected, (steps, batch_size), tolerance))
            for index, (ours, theirs) in enumerate(zip(next_states, expected_states, strict=True)):
                for name, array, other in zip(job.model.network.state_names, ours, theirs, strict=True):
                    error = difference(f"{name} of layer {index}", array, other, (steps, batch_size), tolerance)
                    worst = max(worst, error)
            states = next_states
    shapes = ", ".join(f"{steps}x{batch_size}" for steps, batch_size in SHAPES)
    return f"every logit and state at lengths x batch sizes {shapes}, states carried over: largest difference {worst:.1e}"


def difference(
    what: str, ours: Floats, expected: Floats, shape: tuple[int, int], tolerance: float, largest: float | None = None
) -> float:
    """Return the largest difference as a fraction of the largest expected value. Raises `ExportError` above `tolerance`.

    Args:
        what: What is compared, for the message.
        ours: The exported values.
        expected: The model's values.
        shape: Length and batch size, for the message.
        tolerance: The largest fraction.
        largest: The largest expected value, where that of `expected` alone may be close to 0 by chance.
    """
    where = f"at length {shape[0]} and batch size {shape[1]}"
    if ours.shape != expected.shape:
        raise ExportError(f"The exported {what} have shape {ours.shape} {where}, and the model's have {expected.shape}.")
    largest = float(np.max(np.abs(expected))) if largest is None else largest
    error = float(np.max(np.abs(ours - expected))) / max(1e-6, largest)
    if not error <= tolerance:
        raise ExportError(f"The exported {what} differ from the model's by {error:.2g} of the largest value {where}.")
    return error


def portable_runner(portable: PortableNetwork) -> Runner:
    """Return a function that reads whole sequences by the portable step."""

    def run(ids: NDArray[np.int64], states: States) -> tuple[Floats, States]:
        logits = []
        for row in ids:
            step_logits, states = portable.step(row, states)
            logits.append(step_logits)
        return np.stack(logits), states

    return run


def rounding_cost(job: ExportJob, portable: PortableNetwork) -> dict[str, float] | None:
    """Return what rounded weights cost on the held-out text, `bits` and `extra_bits` per token over `tokens`; None without it.

    The text is read in columns; each starts from the zero state and its first tokens are not counted.
    """
    if job.held_out is None or len(job.held_out) < COST_WARMUP + 2:
        return None
    ids = np.asarray(job.held_out[:MAX_COST_TOKENS], dtype=np.int64)
    columns = max(1, min(COST_COLUMNS, len(ids) // (4 * COST_WARMUP)))
    rows = ids[: len(ids) // columns * columns].reshape(columns, -1).T  # (T, B)
    zero = portable.initial_state(columns)
    runs = (portable_runner(portable), lambda part, states: reference_run(job.reference, part, states))
    ours, exact = (mean_bits(run(rows[:-1], zero)[0][COST_WARMUP:], rows[COST_WARMUP + 1 :]) for run in runs)
    return {"bits": ours, "extra_bits": ours - exact, "tokens": rows[COST_WARMUP + 1 :].size}


def mean_bits(logits: Floats, targets: NDArray[np.int64]) -> float:
    """Return the mean loss of targets `(T, B)` given logits `(T, B, V)`, in bits."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(-1))
    return float(np.mean(log_total - np.take_along_axis(shifted, targets[..., None], -1)[..., 0]) / math.log(2))


def check_rounding(job: ExportJob, portable: PortableNetwork) -> tuple[list[str], dict[str, Any]]:
    """Compare the layout of a portable network with the model, and measure what its rounded weights cost."""
    exact = portable if portable.weights == "float32" else PortableNetwork(job.model.network, "float32")
    checks = [compare_with_reference(job, portable_runner(exact))]
    return checks, {"rounding": rounding_cost(job, portable)}


def run_program(command: Sequence[str], fault: str, text: str | None = None, reason_lines: slice = LAST_LINE) -> str:
    """Run a program that checks an exported file, with `text` as its input; return its output.

    Args:
        command: The program and its arguments.
        fault: What it means that the program fails, for the message.
        text: Its standard input.
        reason_lines: The lines of its error output that say why.

    Raises:
        ExportError: It fails, or takes longer than `TIMEOUT_SECONDS`.
    """
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        limit = f"{Path(command[0]).name} takes longer than {TIMEOUT_SECONDS} s to check it"
        raise ExportError(f"The exported file is too large: {limit}; nothing was written.") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise ExportError(f"{fault}: {' / '.join(lines[reason_lines])}; nothing was written.")
    return done.stdout
