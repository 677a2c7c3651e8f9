"""The delay between the two sounds of a pair, as a recording through an interface leaves it."""

from __future__ import annotations

import numpy as np

from unrolled.display import plural
from unrolled.tables.cell_values import Array

MAX_SECONDS = 0.5
"""The longest delay that is looked for."""

MAX_COMPARED = 1 << 21
"""Samples that are compared, from the start: 44 seconds at 48,000 a second."""

LATE, MARGIN = 0.002, 0.001
"""Seconds of delay from which there is a warning, and those that remain after the cut that it proposes: the filters of an
amplifier have a delay of their own, and the estimate is not exact. There is also one for an output that is early by more than
the margin."""

MIN_PEAK = 4.0
"""Height of the impulse response at the delay, at least, as a multiple of its 95th percentile; it is below 3 for noises without
relation."""

REGULARIZATION = 0.01
"""Of the deconvolution, as a share of the mean power: frequencies that the source lacks say nothing."""


def find_delay(source: Array, target: Array, max_delay: int) -> tuple[int, float, float]:
    """Return how many samples `target` comes after `source`, by the peak of the impulse response between them.

    A correlation would not do: filters that raise or lower the bass shift its peak by many samples, also to before the source.

    Args:
        source: Samples `(T,)` or `(T, channels)`, whose mean is read.
        target: Samples of the same length.
        max_delay: The largest delay, in samples, in both directions.

    Returns:
        The delay; the height of the peak as a multiple of the 95th percentile of all, and of the height without a delay.

    Example:
        >>> clicks = np.random.default_rng(1).normal(size=1000)
        >>> find_delay(clicks, np.roll(clicks, 7), 100)[0]
        7
    """
    first, second = (np.nan_to_num(np.asarray(sound, dtype=np.float64)) for sound in (source, target))
    first, second = (sound.reshape(len(sound), -1).mean(axis=1) for sound in (first, second))
    size = len(first) + max_delay
    spectrum, other = np.fft.rfft(first - first.mean(), size), np.fft.rfft(second - second.mean(), size)
    power = np.abs(spectrum) ** 2
    response = np.fft.irfft(np.conj(spectrum) * other / (power + REGULARIZATION * power.mean() + 1e-30), size)
    delays = np.arange(-max_delay, max_delay + 1)
    heights = np.abs(response[delays])
    best = int(np.argmax(heights))
    usual, undelayed = np.quantile(heights, 0.95) + 1e-30, heights[max_delay] + 1e-30
    return int(delays[best]), float(heights[best] / usual), float(heights[best] / undelayed)


def delay_note(names: tuple[str, str], source: Array, target: Array, rate: int) -> str | None:
    """Return a sentence about the delay of a pair of sounds, if it has one that a recording should not have.

    Args:
        names: The columns of source and target.
        source: Samples `(T, channels)`.
        target: Samples `(T, channels)`.
        rate: Samples per second.
    """
    length = min(len(source), MAX_COMPARED)
    delay, peak, gain = find_delay(source[:length], target[:length], min(int(rate * MAX_SECONDS), length // 4))
    seconds = delay / rate
    if -MARGIN < seconds < LATE or peak < MIN_PEAK or gain < 2:
        return None
    dry, wet = names
    margin = round(MARGIN * rate)
    if delay > 0:
        how, why, to_cut, start, end = "after", "which a network learns badly", delay - margin, wet, dry
    else:
        how, why, to_cut, start, end = "before", "which cannot be learned from the past", margin - delay, dry, wet
    return (
        f"'{wet}' seems to come {plural(abs(delay), 'sample')} ({abs(seconds) * 1000:.3g} ms) {how} '{dry}', {why}: if that is "
        f"the recording, cut {plural(to_cut, 'sample')} from the start of '{start}' and from the end of '{end}'"
    )
