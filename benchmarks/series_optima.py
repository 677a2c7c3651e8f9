"""Series whose best possible forecast is known from their equations: how near `unrolled train` comes to it.

    python benchmarks/series_optima.py [--sets load holidays ...] [--seeds 1] [--steps 20000] [flags of train]

Each set is learned by `unrolled train` with the settings that it chooses, and by an `nn.LSTM` as tutorials write it: windows
of the last steps, standard scores, Adam at 1e-3. Both have one thread and the same time of the processor, one after the other.
Both predict each step of a series that neither has seen. Prints for each set and seed the mean squared errors as multiples of
the optimum's; of the amplifier, whose optimum is no error, as ratios of error and signal energy.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import unrolled
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.step_arrays import StepArray
from unrolled.tables.step_times import time_keys, to_seconds

Floats = npt.NDArray[np.float64]
SKIPPED = 1000
"""Steps at the beginning of the test series that do not count: nobody knows yet where in the week they are."""

PHI, NOISE = (1.5, -0.8), 2.0
FREQUENCY, DAMPING, FORCE, READING_NOISE = 0.35, 0.05, 1.0, 1.0
"""Of the oscillator: radians a step, share of the critical damping, and the deviations of the force and of a reading."""

LOAD_PHI, LOAD_NOISE, HOLIDAY_SHARE = 0.8, 3.0, 0.04


class Series(NamedTuple):
    """The columns of a set, the numbers `(T,)` that are read and that are predicted, and the best prediction of the latter."""

    columns: dict[str, Any]
    inputs: Floats
    targets: Floats
    optimum: Floats
    flags: list[str]
    window: int
    seconds: Floats
    covariates: Floats = np.zeros((0, 0))


def forecast_set(values: Floats, optimum: Floats, window: int, columns: dict[str, Any] | None = None) -> Series:
    """Return a set whose numbers are forecast one step ahead; `optimum[t]` is the best guess of `values[t]`."""
    flags = ["--source", "x", "--horizon", "1", "--order-by", "time"]
    columns = {"time": range(len(values)), **(columns or {}), "x": [f"{value:.6g}" for value in values]}
    keys = time_keys(list(columns["time"]))
    seconds = to_seconds([] if isinstance(keys, int) else keys)[: len(values) - 1]
    return Series(columns, values[:-1], values[1:], optimum[1:], flags, window, seconds)


def ar2(steps: int, seed: int) -> Series:
    """An autoregression of two steps around 10."""
    draw = np.random.default_rng(seed)
    values, best = np.zeros(steps), np.zeros(steps)
    for step in range(2, steps):
        best[step] = PHI[0] * values[step - 1] + PHI[1] * values[step - 2]
        values[step] = best[step] + NOISE * draw.standard_normal()
    return forecast_set(values + 10, best + 10, 24)


def oscillator(steps: int, seed: int) -> Series:
    """A damped oscillator that noise drives, read with noise; the Kalman filter with its equations is the optimum."""
    rate, damped = DAMPING * FREQUENCY, FREQUENCY * np.sqrt(1 - DAMPING**2)
    turn = np.array([[np.cos(damped), np.sin(damped)], [-np.sin(damped), np.cos(damped)]]) * np.exp(-rate)
    force = np.diag([0.0, FORCE**2])
    draw = np.random.default_rng(seed)
    state, mean, covariance = np.zeros(2), np.zeros(2), np.eye(2) * 100
    values, best = np.zeros(steps), np.zeros(steps)
    for step in range(steps):
        state = turn @ state + np.array([0.0, FORCE]) * draw.standard_normal()
        values[step] = state[0] + READING_NOISE * draw.standard_normal()
        mean, covariance = turn @ mean, turn @ covariance @ turn.T + force
        best[step] = mean[0]
        gain = covariance[:, 0] / (covariance[0, 0] + READING_NOISE**2)
        mean, covariance = mean + gain * (values[step] - mean[0]), covariance - np.outer(gain, covariance[0])
    return forecast_set(20 * values + 300, 20 * best + 300, 24)


def load(steps: int, seed: int, tells_holidays: bool = False) -> Series:
    """Hourly load of a week's days; any workday may be a holiday, which has the load of a Sunday. The rest is autoregressive.

    The optimum knows the curves and the calendar of weekdays, and weighs by what it has read whether today is a holiday; with
    `tells_holidays`, a column says it in advance.
    """
    draw, hours = np.random.default_rng(seed), np.arange(24)
    work = 100 + 30 * np.sin((hours - 9) * np.pi / 12) + 12 * np.sin((hours - 4) * np.pi / 6)
    curves = [work, 85 + 18 * np.sin((hours - 11) * np.pi / 12), 75 + 14 * np.sin((hours - 12) * np.pi / 12)]
    values, best, rest, kind, past = np.zeros(steps), np.zeros(steps), 0.0, 0, 0
    belief: dict[tuple[int, int], float] = {(0, 0): 1.0}  # of the kinds of the hour before and of this one
    kinds_of_days = np.zeros(steps)
    for step in range(steps):
        hour, weekday, past = step % 24, step // 24 % 7, kind
        if hour == 0:
            chances = {weekday - 4: 1.0} if weekday > 4 else {0: 1 - HOLIDAY_SHARE, 2: HOLIDAY_SHARE}
            kind = int(draw.choice(list(chances), p=list(chances.values())))
        else:
            chances = {}
        kinds_of_days[step] = kind
        belief = {(past, kind): 1.0} if tells_holidays else spread_belief(belief, chances)
        before = values[step - 1] if step else curves[past][hour - 1]
        guesses = {kinds: curves[kinds[1]][hour] + LOAD_PHI * (before - curves[kinds[0]][hour - 1]) for kinds in belief}
        best[step] = sum(belief[kinds] * guess for kinds, guess in guesses.items())
        rest = LOAD_PHI * rest + LOAD_NOISE * draw.standard_normal()
        values[step] = curves[kind][hour] + rest
        weights = {k: belief[k] * np.exp(-(((values[step] - g) / LOAD_NOISE) ** 2) / 2) + 1e-300 for k, g in guesses.items()}
        belief = {kinds: weight / sum(weights.values()) for kinds, weight in weights.items()}
    times = np.datetime64("2022-01-03T00:00") + np.arange(steps) * np.timedelta64(1, "h")
    dated = forecast_set(values, best, 168, {"time": [str(time) for time in times]})
    if not tells_holidays:
        return dated
    columns = dated.columns | {"holiday": ["yes" if kind == 2 else "" for kind in kinds_of_days]}
    known = (kinds_of_days == 2)[:, None].astype(np.float32)
    return dated._replace(columns=columns, flags=[*dated.flags, "--known-covariates", "holiday"], covariates=known)


def spread_belief(belief: dict[tuple[int, int], float], chances: dict[int, float]) -> dict[tuple[int, int], float]:
    """Return the probabilities of the kinds of day of the hour before and of this one; `chances` are those of a new day."""
    following: dict[tuple[int, int], float] = {}
    for (_, kind), share in belief.items():
        for now, chance in (chances or {kind: 1.0}).items():
            following[kind, now] = following.get((kind, now), 0.0) + share * chance
    return following


def amplifier(steps: int, seed: int) -> Series:
    """Plucked tones through a stage whose bias follows the signal, and filters. There is no noise: the optimum has no error."""
    draw, rate = np.random.default_rng(seed), 16000
    pitches = np.repeat(draw.choice([82.4, 110.0, 146.8, 196.0, 246.9, 329.6], steps // 4000 + 1), 4000)[:steps]
    decay = np.exp(-(np.arange(steps) % 4000) / 2500) * np.repeat(draw.uniform(0.3, 0.9, steps // 4000 + 1), 4000)[:steps]
    phase = np.cumsum(2 * np.pi * pitches / rate)
    dry = decay * (np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)) / 1.6
    wet, high, low, bias = np.zeros(steps), 0.0, 0.0, 0.0
    for step, sample in enumerate(dry):
        high += 0.02 * (sample - high)
        bias += 0.002 * (abs(sample) - bias)
        low += 0.35 * (np.tanh(5 * (sample - high) + 2 * bias) - low)
        wet[step] = 0.8 * low
    columns = {"time": range(steps), "dry": [f"{v:.6g}" for v in dry], "wet": [f"{v:.6g}" for v in wet]}
    return Series(columns, dry, wet, wet, ["--source", "dry", "--target", "wet", "--order-by", "time"], 100, np.zeros(0))


SETS: dict[str, Callable[[int, int], Series]] = {
    "ar2": ar2,
    "oscillator": oscillator,
    "load": load,
    "holidays": functools.partial(load, tells_holidays=True),
    "amplifier": amplifier,
}


def train_ours(folder: Path, series: Series, seed: int, flags: list[str]) -> float:
    """Train on a series as a user would, with one thread; return the seconds of the processor."""
    table = folder / "train.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(series.columns)
        writer.writerows(zip(*series.columns.values(), strict=True))
    command = [sys.executable, "-m", "unrolled", "train", str(table), *series.flags, *flags]
    command += ["--seed", str(seed), "--threads", "1", "--out", str(folder / "run")]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'log').read_text()}")
    return usage.ru_utime + usage.ru_stime


@torch.inference_mode()
def predict_ours(folder: Path, series: Series) -> Floats:
    """Return our predictions of the targets of a series, each from all inputs up to its step."""
    model = unrolled.load_table(str(folder / "run"))
    source, target = (cast(NumbersColumn, column) for column in (model.spec.source, model.spec.target))
    network = model.session.saved.model
    steps = StepArray.make(series.inputs[:, None], seconds=series.seconds, covariates=series.covariates)
    inputs = torch.from_numpy(source.to_inputs(steps))[:, None]
    outputs = network.stream(inputs, network.initial_state(1))[0][:, 0, :1].double().numpy()
    level, lag = source.scaling.apply(series.inputs[:, None]), max(1, target.difference)
    level = np.concatenate([level[: lag - 1], level])[: len(level)]  # of the step after each, the number `lag` steps before it
    predicted: Floats = target.unscale(target.after(outputs, level) if target.horizon else outputs)[:, 0]
    return predicted


class TutorialLSTM(nn.Module):
    """`nn.LSTM` over a window, and a linear layer on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 64, batch_first=True)
        self.head = nn.Linear(64, 1)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Read windows `(B, T, 1)`; return `(B, 1)`."""
        predicted: torch.Tensor = self.head(self.lstm(windows)[0][:, -1])
        return predicted


def tutorial(train: Series, fresh: Series, seconds: float, seed: int) -> Floats:
    """Train the tutorial's network for some seconds of the processor; return its predictions of a fresh series."""
    torch.manual_seed(seed)
    (mean, spread), (center, scale) = ((part.mean(), part.std()) for part in (train.inputs, train.targets))
    windows, fresh_windows = (
        torch.from_numpy((series.inputs - mean) / spread).float().unfold(0, series.window, 1)[..., None]
        for series in (train, fresh)
    )
    wanted = torch.from_numpy((train.targets - center) / scale).float()[train.window - 1 :, None]
    model, stop = TutorialLSTM(), time.process_time() + seconds
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while time.process_time() < stop:
        for index in torch.split(torch.randperm(len(windows)), 64):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(windows[index]), wanted[index])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            if time.process_time() >= stop:
                break
    with torch.inference_mode():
        outputs = torch.cat([model(part) for part in torch.split(fresh_windows, 1024)])[:, 0].double().numpy()
    return np.concatenate([np.full(fresh.window - 1, np.nan), outputs * scale + center])


def measure(name: str, arguments: argparse.Namespace, seed: int, flags: list[str]) -> dict[str, Any]:
    """Train both on a set and return their errors."""
    train, fresh = SETS[name](arguments.steps, seed), SETS[name](arguments.steps, seed + 1000)
    with tempfile.TemporaryDirectory() as folder:
        seconds = train_ours(Path(folder), train, seed, flags)
        predictions = {"ours": predict_ours(Path(folder), fresh), "tutorial": tutorial(train, fresh, seconds, seed)}
    truth = fresh.targets[SKIPPED:]
    best = float(np.mean((fresh.optimum[SKIPPED:] - truth) ** 2))
    errors = {key: float(np.mean((values[SKIPPED:] - truth) ** 2)) for key, values in predictions.items()}
    unit = best or float(np.mean(truth**2))
    figures = {key: float(f"{error / unit:.4g}") for key, error in errors.items()}
    return {"set": name, "seed": seed, "measure": "times the optimum" if best else "error to signal"} | figures | {
        "cpu_seconds": round(seconds)
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20_000)
    arguments, flags = parser.parse_known_args()
    torch.set_num_threads(1)
    for seed in range(1, arguments.seeds + 1):
        for name in arguments.sets:
            print(json.dumps(measure(name, arguments, seed, flags)), flush=True)


if __name__ == "__main__":
    main()
