"""Loss against seconds: this package with its defaults, and common alternatives, on the same text and split.

The clock runs while a contender trains, not while it is evaluated. Every loss is of the whole validation part (the last tenth),
in nats per character; the GPT's is of windows of its own context, as its authors report it.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from unrolled.api import load
from unrolled.bench.peers import PlainLSTM, SmallGPT
from unrolled.errors import DataError, Interrupted
from unrolled.options import DataOptions, TrainRequest
from unrolled.text.corpus import open_corpus
from unrolled.text.tokenizer import Ids
from unrolled.training.callbacks import Progress, ProgressCallback
from unrolled.training.launch import TrainResult, start_run

EVAL_FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Fractions of the time after which a peer is evaluated."""

CELL_EVAL_TOKENS = 10_000
"""Tokens on which each cell is evaluated."""

Curve = list[tuple[float, float]]
"""Seconds of learning, and nats per character."""

DEFAULT_SECONDS = 60.0
WINDOW = 256
MIN_TRAIN_TOKENS = 50 * 51
"""Tokens of one batch of the tutorials: 50 columns of 50 steps."""


class CurveCallback(ProgressCallback):
    """Records the loss curve of a training of this package."""

    def __init__(self) -> None:
        self.curve: Curve = []

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        if val_nats is not None:
            self.curve.append((progress.seconds, val_nats))


def train_cell(text: str, seconds: float, seed: int, cell: str) -> dict[str, Any]:
    """Train a cell with the defaults; return the curve, and as `carried` the loss on the test split (or the validation split).

    Both are of at most `CELL_EVAL_TOKENS`: a cell without a native kernel would be evaluated for longer than it is trained.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = {"eval_tokens": CELL_EVAL_TOKENS, "sample_length": 0, "cell": cell}
        result, facts = _train(text, seconds, seed, folder, settings)
    return facts | {"carried": result.val_nats if result.test_nats is None else result.test_nats}


def train_unrolled(text: str, seconds: float, seed: int, preset: str | None = None) -> dict[str, Any]:
    """Train with the defaults, or those of a preset; return the curve and the losses at the end."""
    with tempfile.TemporaryDirectory() as folder:
        result, facts = _train(text, seconds, seed, folder, {"eval_tokens": 2**31}, preset)
        model = load(result.model)
        return facts | {"carried": model.evaluate().nats, "windowed": model.evaluate(window=WINDOW).nats}


def _train(
    text: str, seconds: float, seed: int, folder: str, settings: dict[str, Any], preset: str | None = None
) -> tuple[TrainResult, dict[str, Any]]:
    """Train in a folder for some seconds; return the result, and its curve and facts."""
    values = {"minutes": seconds / 60, "init_from": "none", "out": str(Path(folder) / "run"), "seed": seed, **settings}
    callback = CurveCallback()
    result = start_run(TrainRequest.build((text,), values, "bench", preset), callback).train()
    if result.stop_signal is not None:
        raise Interrupted("the benchmark was stopped", result.stop_signal)
    return result, {
        "curve": callback.curve, "parameters": result.parameters, "tokens_per_second": result.tokens_per_second,
    }  # fmt: skip


def train_plain_lstm(text: str, seconds: float, seed: int) -> dict[str, Any]:
    """Train the tutorials' model: embedding 64, two layers of 256, Adam at 0.002, clip 5, batch 50 of 50 steps."""
    torch.manual_seed(seed)
    train, validation, vocab_size = _split(text)
    model = PlainLSTM(vocab_size, 64, 256, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    columns = torch.from_numpy(train[: len(train) // 50 * 50].reshape(50, -1).T.astype(np.int64))  # (N, 50)
    state: Any = None
    position = 0

    def step(progress: float) -> None:
        nonlocal state, position
        if position + 51 > len(columns):
            state, position = None, 0
        logits, state = model(columns[position : position + 50], state)
        state, position = tuple(tensor.detach() for tensor in state), position + 50
        loss = F.cross_entropy(logits.flatten(0, 1), columns[position - 49 : position + 1].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    curve = _train_timed(step, lambda: _recurrent_loss(model, validation, len(validation) - 1), seconds)
    return {"curve": curve, "carried": curve[-1][1], "windowed": _recurrent_loss(model, validation, WINDOW)} | _num_parameters(
        model
    )


def train_small_gpt(text: str, seconds: float, seed: int) -> dict[str, Any]:
    """Train a GPT with the settings that nanoGPT's README gives for a processor, its schedule laid over the time there is."""
    torch.manual_seed(seed)
    train, validation, vocab_size = _split(text)
    model = SmallGPT(vocab_size)
    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    ids = torch.from_numpy(train.astype(np.int64))
    generator = torch.Generator().manual_seed(seed)
    steps = 0

    def step(progress: float) -> None:
        nonlocal steps
        steps += 1
        lr = 1e-4 + 0.5 * (1e-3 - 1e-4) * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, steps / 100)
        starts = torch.randint(len(ids) - model.context, (12,), generator=generator)
        rows = torch.stack([ids[start : start + model.context + 1] for start in starts.tolist()])
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    @torch.no_grad()
    def windowed_loss() -> float:
        rows = torch.from_numpy(_windows(validation, model.context))
        losses = [
            F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            for part in torch.split(rows, 64)
        ]
        return float(sum(losses)) / (len(rows) * model.context)

    curve = _train_timed(step, windowed_loss, seconds)
    return {"curve": curve, "carried": None, "windowed": curve[-1][1]} | _num_parameters(model)


def _num_parameters(model: torch.nn.Module) -> dict[str, int]:
    return {"parameters": sum(weight.numel() for weight in model.parameters())}


def _split(text: str) -> tuple[Ids, Ids, int]:
    corpus = open_corpus([text], DataOptions())
    train, validation, _ = corpus.split(DataOptions(test_fraction=0.0), seed=0)
    if len(validation) <= WINDOW or len(train) < MIN_TRAIN_TOKENS:
        raise DataError(f"{text} has {len(corpus.ids):,} tokens; the peers need {10 * MIN_TRAIN_TOKENS // 9:,} to learn from.")
    return np.asarray(train), np.asarray(validation), corpus.tokenizer.vocab_size


def _windows(ids: Ids, window: int) -> Any:
    rows = (len(ids) - 1) // window
    positions = np.arange(rows)[:, None] * window + np.arange(window + 1)
    return ids[positions].astype(np.int64)  # (N, window + 1)


@torch.no_grad()
def _recurrent_loss(model: PlainLSTM, ids: Ids, window: int) -> float:
    """Return the mean loss over windows that start from zero; one window is the whole text, its state carried."""
    rows = torch.from_numpy(_windows(ids, window)).T  # (window + 1, N)
    total, state = 0.0, None
    for first in range(0, window, 1024):
        last = min(first + 1024, window)
        logits, state = model(rows[first:last], state)
        total += float(F.cross_entropy(logits.flatten(0, 1), rows[first + 1 : last + 1].flatten(), reduction="sum"))
    return total / (rows.shape[1] * window)


def _train_timed(step: Callable[[float], None], evaluate: Callable[[], float], seconds: float) -> Curve:
    """Take steps until they have taken `seconds`; return what `evaluate` measured on the way and at the end."""
    curve: Curve = []
    elapsed = 0.0
    while elapsed < seconds:
        started = time.perf_counter()
        step(elapsed / seconds)
        elapsed += time.perf_counter() - started
        if elapsed >= seconds * EVAL_FRACTIONS[min(len(curve), len(EVAL_FRACTIONS) - 1)]:
            curve.append((elapsed, evaluate()))
    return curve


CONTENDERS: dict[str, Callable[[str, float, int], dict[str, Any]]] = {
    "unrolled": train_unrolled,
    "unrolled --preset char-rnn": lambda text, seconds, seed: train_unrolled(text, seconds, seed, preset="char-rnn"),
    "nn.LSTM as in tutorials": train_plain_lstm,
    "GPT, nanoGPT's CPU settings": train_small_gpt,
}
