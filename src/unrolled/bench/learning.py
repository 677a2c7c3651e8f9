"""Loss against seconds: this package with no settings, and what people write, on the same text, split and clock.

The clock runs while a contender learns, not while it is looked at. Every loss is of the whole validation part (the last tenth),
in nats a character; the GPT's is of windows of its own context, as its authors report it.
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
from unrolled.training import launch
from unrolled.training.callbacks import Status
from unrolled.views.progress import Quiet

POINTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of the time after which a peer is looked at."""

Curve = list[tuple[float, float]]
"""Seconds of learning, and nats a character."""

WINDOW = 256
LEAST = 50 * 51
"""Symbols that fill the tutorials' 50 lanes of 50 steps once."""


class Recorder(Quiet):
    """Keeps the curve of a training of ours."""

    def __init__(self) -> None:
        self.curve: Curve = []

    def looked(self, status: Status, val_nats: float | None, sample: str | None) -> None:
        if val_nats is not None:
            self.curve.append((status.seconds, val_nats))


def ours(text: str, seconds: float, seed: int, **settings: Any) -> dict[str, Any]:
    """Train with the defaults, changed by `settings`; return the curve and the losses at the end."""
    with tempfile.TemporaryDirectory() as folder:
        values = {"minutes": seconds / 60, "out": str(Path(folder) / "run"), "seed": seed, "eval_symbols": 2**31, **settings}
        preset = values.pop("preset", None)
        recorder = Recorder()
        outcome = launch.start(TrainRequest.build((text,), values, "bench", preset), recorder).train()
        if outcome.stopped is not None:
            raise Interrupted("the benchmark was stopped", outcome.stopped)
        model = load(outcome.model)
        losses = {"carried": model.evaluate().nats, "windowed": model.evaluate(window=WINDOW).nats}
    return {"curve": recorder.curve, "parameters": outcome.parameters, **losses}


def plain_lstm(text: str, seconds: float, seed: int) -> dict[str, Any]:
    """Train the tutorials' model: embedding 64, two layers of 256, Adam at 0.002, clip 5, 50 lanes of 50 steps."""
    torch.manual_seed(seed)
    train, validation, symbols = _split(text)
    model = PlainLSTM(symbols, 64, 256, 2)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    lanes = torch.from_numpy(train[: len(train) // 50 * 50].reshape(50, -1).T.astype(np.int64))  # (N, 50)
    state: Any = None
    place = 0

    def step(progress: float) -> None:
        nonlocal state, place
        if place + 51 > len(lanes):
            state, place = None, 0
        logits, state = model(lanes[place : place + 50], state)
        state, place = tuple(tensor.detach() for tensor in state), place + 50
        loss = F.cross_entropy(logits.flatten(0, 1), lanes[place - 49 : place + 1].flatten())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()

    def carried() -> float:
        return _recurrent_loss(model, validation, len(validation) - 1)

    curve = _clocked(step, carried, seconds)
    return {"curve": curve, "carried": curve[-1][1], "windowed": _recurrent_loss(model, validation, WINDOW)} | _size(model)


def small_gpt(text: str, seconds: float, seed: int) -> dict[str, Any]:
    """Train a GPT with the settings that nanoGPT's README gives for a processor, its schedule laid over the time there is."""
    torch.manual_seed(seed)
    train, validation, symbols = _split(text)
    model = SmallGPT(symbols)
    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    ids = torch.from_numpy(train.astype(np.int64))
    draw = torch.Generator().manual_seed(seed)
    taken = 0

    def step(progress: float) -> None:
        nonlocal taken
        taken += 1
        rate = 1e-4 + 0.5 * (1e-3 - 1e-4) * (1 + math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, taken / 100)
        starts = torch.randint(len(ids) - model.context, (12,), generator=draw)
        rows = torch.stack([ids[start : start + model.context + 1] for start in starts.tolist()])
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    @torch.no_grad()
    def windowed() -> float:
        rows = torch.from_numpy(_windows(validation, model.context))
        losses = [
            F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            for part in torch.split(rows, 64)
        ]
        return float(sum(losses)) / (len(rows) * model.context)

    curve = _clocked(step, windowed, seconds)
    return {"curve": curve, "carried": None, "windowed": curve[-1][1]} | _size(model)


def _size(model: torch.nn.Module) -> dict[str, int]:
    return {"parameters": sum(weight.numel() for weight in model.parameters())}


def _split(text: str) -> tuple[Ids, Ids, int]:
    corpus = open_corpus([text], DataOptions())
    train, validation = corpus.split(DataOptions().train_fraction)
    if len(validation) <= WINDOW or len(train) < LEAST:
        raise DataError(f"{text} has {len(corpus.ids):,} symbols; the peers need {10 * LEAST // 9:,} to learn from.")
    return np.asarray(train), np.asarray(validation), corpus.vocabulary.size


def _windows(ids: Ids, window: int) -> Any:
    rows = (len(ids) - 1) // window
    places = np.arange(rows)[:, None] * window + np.arange(window + 1)
    return ids[places].astype(np.int64)  # (N, window + 1)


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


def _clocked(step: Callable[[float], None], look: Callable[[], float], seconds: float) -> Curve:
    """Take steps until their time is `seconds`; return what `look` saw on the way and at the end."""
    curve: Curve = []
    spent = 0.0
    while spent < seconds:
        started = time.perf_counter()
        step(spent / seconds)
        spent += time.perf_counter() - started
        if spent >= seconds * POINTS[min(len(curve), len(POINTS) - 1)]:
            curve.append((spent, look()))
    return curve


CONTENDERS: dict[str, Callable[[str, float, int], dict[str, Any]]] = {
    "unrolled": ours,
    "unrolled --preset char-rnn": lambda text, seconds, seed: ours(text, seconds, seed, preset="char-rnn"),
    "nn.LSTM as in tutorials": plain_lstm,
    "GPT, nanoGPT's CPU settings": small_gpt,
}
