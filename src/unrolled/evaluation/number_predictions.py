"""Predictions of numbers at every step: a regression, or a forecast that feeds itself.

A forecast draws paths: from what is predicted after the last known step a number is drawn, read as the next step, and so on.
Quantiles are those of the paths at each step (as in DeepAR, Salinas et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from unrolled.nn.cells import State, map_state
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.number_loss import deviation, split_outputs
from unrolled.tables.cell_values import Array
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.series_rows import HISTORY_STEPS
from unrolled.tables.step_arrays import last_steps

NUM_PATHS = 200
"""Paths that are drawn for each forecast: the outer quantiles of 0.1 and 0.9 have 20 paths beyond them."""

MAX_SCALED = 1e4
"""A path is clipped to this many spreads around the median: a forecast that feeds itself may diverge."""


def step_predictions(outputs: Array, target: NumbersColumn) -> tuple[Array, Array | None]:
    """Return the scaled numbers `(T, D)` and their quantiles `(levels, T, D)` or None, for outputs `(T, K * D)`."""
    parts = split_outputs(torch.from_numpy(outputs).float(), len(target.columns))
    if target.loss == "gaussian":
        mean, spread = parts[0].numpy(), deviation(parts[1]).numpy()
        return mean, np.stack([mean + NormalDist().inv_cdf(level) * spread for level in target.quantiles])
    if target.loss == "quantiles":
        bands = parts.sort(0).values.numpy()
        return bands[_middle(target.quantiles)], bands
    return parts[0].numpy(), None


def _middle(levels: Sequence[float]) -> int:
    """Return the index of the level that is closest to the median."""
    return int(np.argmin([abs(level - 0.5) for level in levels]))


def draw_step(outputs: Tensor, normals: Tensor, target: NumbersColumn) -> Tensor:
    """Return numbers `(B, D)` drawn from what outputs `(B, K * D)` predict, given draws `(B, D)` of a normal distribution.

    Between quantiles, and beyond the outer ones, the distribution is normal piece by piece. Squared and absolute errors predict
    no spread: that of the validation errors is added.
    """
    parts = split_outputs(outputs.float(), len(target.columns))
    if target.loss == "gaussian":
        return parts[0] + deviation(parts[1]) * normals
    if target.loss == "quantiles" and len(target.quantiles) > 1:
        bands = parts.sort(0).values
        scores = torch.tensor([NormalDist().inv_cdf(level) for level in target.quantiles], device=outputs.device)
        upper = torch.bucketize(normals.contiguous(), scores).clamp(1, len(scores) - 1)
        low, high = bands.gather(0, (upper - 1)[None])[0], bands.gather(0, upper[None])[0]
        first, last = scores[upper - 1], scores[upper]
        return low + (high - low) * (normals - first) / (last - first)
    if target.residual is None:
        return parts[0]
    return parts[0] + torch.from_numpy(target.residual).float().to(outputs.device) * normals


@torch.inference_mode()
def forecast(
    model: EncoderDecoder,
    source: NumbersColumn,
    target: NumbersColumn,
    histories: Sequence[Array],
    seeds: Sequence[int],
    num_paths: int = NUM_PATHS,
) -> list[tuple[Array, Array]]:
    """Forecast the steps after each series.

    Args:
        model: A network that predicts the next step at every step.
        source: The column that is read; `target`: the same as it is predicted.
        histories: The known numbers of each series, `(T, D)`, in the unit of the data, NaN for gaps, as the source encodes
            them.
        seeds: A seed for the paths of each series.
        num_paths: Paths of each series.

    Returns:
        The forecast `(horizon, D)` of each series and its quantiles `(levels, horizon, D)`, in the unit of the data: of
        the paths the mean, or the median for losses that are of medians.
    """
    recent = [last_steps(history, HISTORY_STEPS) for history in histories]
    inputs = [source.to_inputs(history) for history in recent]
    outputs, state = _read(model, inputs)
    device = model.device
    width, horizon, lag = len(target.columns), target.horizon, max(1, target.difference)
    draws = np.stack([np.random.default_rng(seed).standard_normal((num_paths, horizon, width)) for seed in seeds])
    normals = torch.from_numpy(draws.astype(np.float32)).flatten(0, 1).to(device)
    last, state = outputs.repeat_interleave(num_paths, 0), map_state(lambda s: s.repeat_interleave(num_paths, 0), state)
    advance = np.stack([source.inputs_in_advance(history, len(history) + 1, horizon - 1) for history in recent], axis=1)
    known_levels = np.stack([_levels(steps[:, :width], lag) for steps in inputs], axis=1)
    paths: list[Array] = []
    for step in range(horizon):
        drawn_outputs = draw_step(last, normals[:, step], target).clamp(-MAX_SCALED, MAX_SCALED)
        level = paths[step - lag] if step >= lag else np.repeat(known_levels[step], num_paths, axis=0)
        numbers = target.after(drawn_outputs.cpu().numpy(), level).clip(-MAX_SCALED, MAX_SCALED).astype(np.float32)
        paths.append(numbers)
        if step + 1 < horizon:
            no_gaps = np.zeros_like(numbers)[:, : width * source.scaling.has_gaps]
            known = torch.from_numpy(np.concatenate([numbers, no_gaps], axis=1)).to(device)
            place = torch.from_numpy(advance[step]).to(device).repeat_interleave(num_paths, 0)
            read = torch.cat([known, drawn_outputs[:, : width * bool(source.difference)], place], 1)
            following, state = model.stream(read[None], state)
            last = following[0]
    drawn, results = np.stack(paths, axis=1).reshape(len(inputs), num_paths, horizon, width), []
    for row, history in enumerate(recent):
        values = target.unscale(drawn[row], history)
        point = values.mean(0) if target.loss in ("mse", "gaussian") else np.median(values, 0)
        results.append((point, np.quantile(values, target.quantiles, axis=0)))
    return results


def _read(model: EncoderDecoder, inputs: Sequence[Array]) -> tuple[Tensor, State]:
    """Return the outputs `(B, K * D)` after the last of the input steps `(T, I)` of each series, and the state."""
    longest = max(map(len, inputs))
    batch = np.zeros((longest, len(inputs), inputs[0].shape[1]), dtype=np.float32)
    resets = np.zeros((longest, len(inputs)), dtype=bool)
    for column, steps in enumerate(inputs):
        batch[longest - len(steps) :, column] = steps
        resets[longest - len(steps), column] = True
    source, first = (torch.from_numpy(array).to(model.device) for array in (batch, resets))
    outputs, state = model.stream(source, model.initial_state(len(inputs)), first)
    return outputs[-1], state


def _levels(known: Array, lag: int) -> Array:
    """Return the last `lag` known scaled numbers `(T, D)` of a series; of a shorter one, its last number stands before it."""
    before = np.repeat(known[-1:], max(0, lag - len(known)), axis=0)
    return np.concatenate([before, known[-lag:]])
