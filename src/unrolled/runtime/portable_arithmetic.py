"""The arithmetic of the portable step: float32 operations with the same result on every processor and in every language.

Everything is IEEE float32 with one rounding per operation: no fused multiply-add, no wider intermediate, no exp or tanh of a
library. Sums have a fixed order (`ordered_sum`). Products with integer weights are exact integers, so their order does not
matter, and numpy may compute them as float64 matrix products.

Letters: B batch, R rows and N columns of a matrix. `docs/portable.md` says the same in words.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

LANES = 16
"""Partial sums of an ordered sum."""

BLOCK_COLUMNS = 512
"""Columns whose int8 products are added as one integer: 512 * 127 * 32767 is below 2^31."""

GROUP = 32
"""Columns of an int4 matrix that share a scale."""

MAX_INPUT, MAX_INT8, MAX_INT4, MAX_GROUP_SCALE = 32767, 127, 7, 255
LEAST_LARGEST = np.float32(2.0**-100)
"""A vector whose largest number is below this is taken as zero: 32767 divided by a smaller one can be beyond float32."""

ODDS_BITS = 30
"""The odds of the most likely token are 2 to this power."""

ROUND = np.float32(12582912.0)
"""1.5 * 2^23: adding and subtracting it rounds a float32 below 2^22 to the nearest integer, halves to even."""

LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
EXP = np.array([1, 1, 0.49999994, 0.1666652, 0.041668396, 0.008368797, 0.0013814433], np.float32)
"""Coefficients of exp(r) for |r| <= ln(2) / 2, the lowest power first; relative error 3e-9 before rounding."""

TANH_LIMIT = np.float32(9.02)
TANH_P = np.array([1, 0.13379648327827454, 0.003493951866403222, 2.0582119759637862e-05, 1.3317177582905515e-08], np.float32)
TANH_Q = np.array([1, 0.467129647731781, 0.025870759040117264, 0.0003282957768533379, 7.761245797155425e-07], np.float32)
"""tanh(x) = x * P(x^2) / Q(x^2) for |x| <= 9.02, the lowest power first; relative error 2e-8 before rounding."""

LOG1P = np.array([2, 0.666664183, 0.400215298, 0.280017734, 0.280121565], np.float32)
"""ln(1 + u) = s * P(s^2) with s = u / (2 + u) for u of 0 to 1, the lowest power first; relative error 4e-9 before rounding."""

EXPM1_LIMIT = np.float32(-0.34)
"""Above it, exp(x) - 1 is a polynomial, whose digits do not cancel."""

HARD_SLOPE = np.float32(0.2)
"""Slope of the hard sigmoid of Keras before 2.3 at 0."""

LAYER_NORM_EPSILON = np.float32(1e-5)
HALF, ONE, TWO = np.float32(0.5), np.float32(1), np.float32(2)


def _horner(coefficients: Floats, x: Floats) -> Floats:
    """Return the polynomial `c[0] + c[1] x + ...` by Horner's rule, the highest power first."""
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * x + coefficient
    return result


def portable_exp(x: Floats) -> Floats:
    """Return exp(x) for x of at most 88; below -87 it is exp(-87). Largest error: 1.2 units in the last place.

    Example:
        >>> float(portable_exp(np.array([0.0], np.float32))[0])
        1.0
    """
    x = np.maximum(x, np.float32(-87))
    n = (x * LOG2_E + ROUND) - ROUND
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    power_of_two = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return _horner(EXP, r) * power_of_two


def portable_tanh(x: Floats) -> Floats:
    """Return tanh(x). Largest error: 4e-7, or 6 units in the last place.

    Example:
        >>> float(portable_tanh(np.array([20.0], np.float32))[0])
        1.0
    """
    x = np.minimum(np.maximum(x, -TANH_LIMIT), TANH_LIMIT)
    square = x * x
    quotient = (x * _horner(TANH_P, square)) / _horner(TANH_Q, square)
    result: Floats = np.minimum(np.maximum(quotient, -ONE), ONE)
    return result


def portable_sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), computed as 0.5 * tanh(0.5 x) + 0.5."""
    return HALF * portable_tanh(HALF * x) + HALF


def hard_sigmoid(x: Floats) -> Floats:
    """Return `0.2 x + 0.5`, at least 0 and at most 1."""
    result: Floats = np.minimum(np.maximum(HARD_SLOPE * x + HALF, np.float32(0)), ONE)
    return result


def portable_log_sigmoid(x: Floats) -> Floats:
    """Return ln(1 / (1 + exp(-x))), computed as min(x, 0) - ln(1 + exp(-|x|)).

    Example:
        >>> round(float(portable_log_sigmoid(np.array([0.0], np.float32))[0]), 6)
        -0.693147
    """
    u = portable_exp(-np.abs(x))
    s = u / (u + TWO)
    result: Floats = np.minimum(x, np.float32(0)) - s * _horner(LOG1P, s * s)
    return result


def portable_expm1(x: Floats) -> Floats:
    """Return exp(x) - 1 for x of at most 0: above -0.34, x times the polynomial of exp without its first coefficient."""
    return np.where(x > EXPM1_LIMIT, x * _horner(EXP[1:], x), portable_exp(x) - ONE)


def ordered_sum(values: Floats) -> Floats:
    """Return the sum over the last axis: 16 partial sums over the columns j, j + 16, ..., then added as a binary tree.

    Example:
        >>> float(ordered_sum(np.arange(20, dtype=np.float32)))
        190.0
    """
    padding = -values.shape[-1] % LANES
    if padding:
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)])
    lanes = values.reshape(*values.shape[:-1], -1, LANES)
    sums = np.add.accumulate(lanes, axis=-2)[..., -1, :] + np.float32(0)  # in order, one rounding each; from 0, so never -0
    for width in (8, 4, 2, 1):
        sums = sums[..., :width] + sums[..., width:]
    total: Floats = sums[..., 0]
    return total


def quantize_input(x: Floats) -> tuple[NDArray[np.float64], Floats]:
    """Return vectors `(B, N)` as integers of at most 32767 in float64, and the scale `(B, 1)` of each: x is about q * scale."""
    largest = np.max(np.abs(x), axis=-1, keepdims=True)
    is_zero = largest < LEAST_LARGEST
    factor = np.float32(MAX_INPUT) / np.where(is_zero, ONE, largest)
    quantized = np.where(is_zero, np.float32(0), (x * factor + ROUND) - ROUND)
    return quantized.astype(np.float64), largest / np.float32(MAX_INPUT)


class FloatMatrix:
    """A matrix `(R, N)` of float32 weights; a product is an ordered sum."""

    def __init__(self, weight: Floats) -> None:
        self.weight = weight

    def row_vectors(self, ids: NDArray[Any]) -> Floats:
        """Return rows as vectors `(B, N)`, for ids `(B,)`."""
        rows: Floats = self.weight[ids]
        return rows

    def product(self, x: Floats) -> Floats:
        """Return the products `(B, R)` with vectors `(B, N)`."""
        return np.stack([ordered_sum(self.weight * row) for row in x])


class Int8Matrix:
    """A matrix `(R, N)` of int8 weights with a float32 scale for each row."""

    def __init__(self, weight: Floats) -> None:
        largest = np.max(np.abs(weight), axis=1)
        self.scale = (largest / np.float32(MAX_INT8)).astype(np.float32)
        safe_scale = np.where(self.scale == 0, ONE, self.scale)[:, None]
        self.weight = np.clip(np.rint(weight / safe_scale), -MAX_INT8, MAX_INT8).astype(np.int8)

    @functools.cached_property
    def _blocks(self) -> list[NDArray[np.float64]]:
        """The weights as numpy multiplies them, in blocks of columns; the native step has no use for them."""
        columns = range(0, self.weight.shape[1], BLOCK_COLUMNS)
        return [self.weight[:, i : i + BLOCK_COLUMNS].T.astype(np.float64) for i in columns]

    def row_vectors(self, ids: NDArray[Any]) -> Floats:
        """Return rows as vectors `(B, N)`, for ids `(B,)`."""
        rows: Floats = self.weight[ids].astype(np.float32) * self.scale[ids][:, None]
        return rows

    def product(self, x: Floats) -> Floats:
        """Return the products `(B, R)` with vectors `(B, N)`: integers in blocks of columns, added as float32 in order."""
        quantized, input_scale = quantize_input(x)
        total = np.zeros((len(x), len(self.scale)), np.float32)
        for index, block in enumerate(self._blocks):
            part = quantized[:, index * BLOCK_COLUMNS : (index + 1) * BLOCK_COLUMNS]
            total = total + (part @ block).astype(np.float32)
        products: Floats = total * (self.scale * input_scale)
        return products


class Int4Matrix:
    """A matrix `(R, N)` of weights of -7 to 7; a group of 32 columns has the scale `row scale * group scale` (1 to 255)."""

    def __init__(self, weight: Floats) -> None:
        self.columns = weight.shape[1]
        padded = np.pad(weight, ((0, 0), (0, -self.columns % GROUP)))
        groups = padded.reshape(len(weight), -1, GROUP)
        largest = np.max(np.abs(groups), axis=2)  # (R, groups)
        self.scale = (np.max(largest, axis=1) / np.float32(MAX_INT4 * MAX_GROUP_SCALE)).astype(np.float32)
        safe_scale = np.where(self.scale == 0, ONE, self.scale)[:, None]
        codes = np.ceil(largest / np.float32(MAX_INT4) / safe_scale)
        self.group_scale = np.clip(codes, 1, MAX_GROUP_SCALE).astype(np.uint8)
        step = (safe_scale * self.group_scale)[:, :, None]
        self.weight = np.clip(np.rint(groups / step), -MAX_INT4, MAX_INT4).astype(np.int8).reshape(len(weight), -1)
        self._groups = self.weight.reshape(groups.shape).transpose(1, 2, 0).astype(np.float64)  # (groups, 32, R)

    def product(self, x: Floats) -> Floats:
        """Return the products `(B, R)` with vectors `(B, N)`: an integer for each group, added as float32 in order."""
        quantized, input_scale = quantize_input(x)
        padded = np.pad(quantized, ((0, 0), (0, self.weight.shape[1] - x.shape[1])))
        total = np.zeros((len(x), len(self.scale)), np.float32)
        for index, group in enumerate(self._groups):
            exact = (padded[:, index * GROUP : (index + 1) * GROUP] @ group) * self.group_scale[:, index]
            total = total + exact.astype(np.float32)
        products: Floats = total * (self.scale * input_scale)
        return products


Matrix: TypeAlias = FloatMatrix | Int8Matrix | Int4Matrix
TableMatrix: TypeAlias = FloatMatrix | Int8Matrix


def layer_norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Return `(x - mean) / sqrt(variance + 1e-5) * weight + bias` of vectors `(B, N)`."""
    size = np.float32(x.shape[-1])
    centered = x - (ordered_sum(x) / size)[:, None]
    variance = ordered_sum(centered * centered) / size
    factor = ONE / np.sqrt(variance + LAYER_NORM_EPSILON)
    normed: Floats = (centered * factor[:, None]) * weight + bias
    return normed
