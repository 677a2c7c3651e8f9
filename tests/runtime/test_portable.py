"""The portable step: close to the model in float32, independent of the batch, and with the published random generator."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from support.text_networks import CELLS, HARD_CELLS, LAYERS, NEWER_CELLS, saved_model, saved_network
from unrolled.checkpoints.model_file import load_text_model
from unrolled.errors import ModelError
from unrolled.nn.unit_clamp import Clamp
from unrolled.runtime import portable, portable_arithmetic
from unrolled.runtime.portable import PortableNetwork
from unrolled.runtime.portable_arithmetic import (
    Floats,
    Int4Matrix,
    Int8Matrix,
    ordered_sum,
    portable_exp,
    portable_sigmoid,
    portable_tanh,
)
from unrolled.runtime.portable_draw import draw_token, filter_odds, philox, random_below, token_odds
from unrolled.runtime.text_network import read_text_model

MAX_ERRORS = {"float32": 3e-6, "int8": 0.04, "int4": 0.6}
"""Largest difference of a logit, as a fraction of the largest one, for weights that are ten times as noisy as trained ones."""


def units_in_last_place(ours: Floats, exact: np.ndarray) -> float:
    return float(np.max(np.abs(ours - exact) / np.spacing(np.abs(exact).astype(np.float32))))


def test_exp_and_tanh_are_accurate() -> None:
    x = np.linspace(-87, 0, 200_001).astype(np.float32)
    assert units_in_last_place(portable_exp(x), np.exp(x.astype(np.float64))) < 1.3
    x = np.linspace(-12, 12, 200_001).astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    assert np.max(np.abs(portable_tanh(x) - exact)) < 4e-7
    assert units_in_last_place(portable_tanh(x), exact) < 6
    assert np.max(np.abs(portable_tanh(x))) == 1.0
    assert np.max(np.abs(portable_sigmoid(x) - 1 / (1 + np.exp(-x.astype(np.float64))))) < 4e-7


def test_bits_of_the_functions_are_those_of_the_definition() -> None:
    """Golden bits: another order of operations, or a fused one, changes some of them."""
    x = np.array([-20, -3.3, -0.7, -1e-3, 0.1, 0.9, 2.5, 5], np.float32)
    assert [f"{word:08x}" for word in portable_tanh(x).view(np.uint32)] == TANH_BITS
    assert [f"{word:08x}" for word in portable_exp(x).view(np.uint32)] == EXP_BITS
    assert f"{ordered_sum(np.sqrt(np.arange(1, 104, dtype=np.float32))).view(np.uint32):08x}" == SUM_BITS


@pytest.mark.parametrize(("cell", "layers"), [*itertools.product(CELLS, LAYERS), *NEWER_CELLS, *HARD_CELLS])
def test_it_is_the_model_but_for_rounding(tmp_path: Path, cell: str, layers: str) -> None:
    path = saved_model(tmp_path / "m.safetensors", cell, layers)
    arrays, reference = read_text_model(path).network, load_text_model(path).model
    ids = np.random.default_rng(0).integers(0, arrays.vocab_size, (12, 3))
    with torch.inference_mode():
        expected = reference(torch.from_numpy(ids), reference.initial_state(3))[0].numpy()
    for weights in ("float32", "int8", "int4"):
        model = PortableNetwork(arrays, weights)
        logits, _ = model.unroll(ids, model.initial_state(3))
        error = np.max(np.abs(logits - expected)) / np.max(np.abs(expected))
        assert error < MAX_ERRORS[weights], (weights, error)


@pytest.mark.parametrize("weights", ["float32", "int8", "int4"])
def test_rows_do_not_depend_on_one_another(tmp_path: Path, weights: portable.Weights) -> None:
    model = PortableNetwork(saved_network(tmp_path, "lstm", "residual"), weights)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, (6, 5))
    logits, state = model.unroll(ids, model.initial_state(5))
    alone, alone_state = model.unroll(ids[:, 3:4], model.initial_state(1))
    assert np.array_equal(logits[:, 3:4], alone)
    assert all(np.array_equal(a[3:4], b) for x, y in zip(state, alone_state, strict=True) for a, b in zip(x, y, strict=True))


def test_products_are_exact_at_the_largest_sizes() -> None:
    """All weights and inputs at their largest: an int32 sum of a block does not overflow, and blocks are added in order."""
    rows, columns = 3, 1300
    matrix = Int8Matrix(np.full((rows, columns), 2.0, np.float32))
    x = np.full((1, columns), -3.0, np.float32)
    blocks = [512, 512, 276]
    assert max(blocks) * portable_arithmetic.MAX_INT8 * portable_arithmetic.MAX_INPUT < 2**31
    total = np.float32(0)
    for size in blocks:
        total += np.float32(-size * portable_arithmetic.MAX_INT8 * portable_arithmetic.MAX_INPUT)
    scale = matrix.scale[0] * (np.float32(3) / np.float32(portable_arithmetic.MAX_INPUT))
    assert np.array_equal(matrix.product(x), np.full((1, rows), total * scale, np.float32))
    largest = 32 * portable_arithmetic.MAX_INT4 * portable_arithmetic.MAX_INPUT * portable_arithmetic.MAX_GROUP_SCALE
    assert largest < 2**31
    assert Int4Matrix(np.ones((1, 32), np.float32)).group_scale.max() == portable_arithmetic.MAX_GROUP_SCALE


def test_a_row_of_zeros_and_a_zero_vector() -> None:
    weight = np.zeros((2, 40), np.float32)
    weight[1, 7] = 1
    x = np.ones((2, 40), np.float32)
    x[1] = 0
    for kind in (Int8Matrix, Int4Matrix):
        product = kind(weight).product(x)
        assert product[0, 0] == 0
        assert not product[1].any()
        assert abs(product[0, 1] - 1) < 1e-6


def test_clamped_units_and_weights_that_are_not_finite(tmp_path: Path) -> None:
    arrays = saved_network(tmp_path, "gru", "residual")
    model = PortableNetwork(arrays, clamps=[Clamp(1, 4, 0.5)])
    _, state = model.step(np.array([1, 2]), model.initial_state(2))
    assert state[1][0][:, 4].tolist() == [0.5, 0.5]
    wide = dataclasses.replace(saved_network(tmp_path, "mogrifier-gru", "one-hot"), head_bias=np.zeros(9000, np.float32))
    with pytest.raises(ModelError, match=r"one-hot inputs of 9,000 tokens"):
        PortableNetwork(wide)
    arrays.head_bias[0] = np.nan
    with pytest.raises(ModelError, match=r"head.bias has a weight that is not finite"):
        PortableNetwork(arrays)


def test_the_random_generator_is_philox() -> None:
    """The known answers of Random123 for philox4x32-10."""
    ones = 0xFFFFFFFF
    assert philox((0,) * 4, (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox((ones,) * 4, (ones, ones)) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    counter = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert philox(counter, (0xA4093822, 0x299F31D0)) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


def test_numbers_below_a_limit_are_equally_likely() -> None:
    for limit in (1, 2, 3, 100, 2**31 + 1, 2**52 + 5):
        numbers = [random_below(limit, 5, position) for position in range(300)]
        assert min(numbers) >= 0
        assert max(numbers) < limit
        assert abs(float(np.mean(numbers)) / limit - (limit - 1) / limit / 2) < 0.07
    counts = np.bincount([random_below(3, 1, position) for position in range(3000)])
    assert np.all(np.abs(counts - 1000) < 4 * math.sqrt(3000 * 2 / 9))
    assert random_below(2**40, 1, 0) != random_below(2**40, 1 + 2**32, 0)  # the high half of the seed counts
    assert random_below(2**40, 1, 0) != random_below(2**40, 1, 2**32)


def test_odds_and_draws_follow_the_probabilities() -> None:
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    odds = token_odds(logits, 1.0)
    assert odds.max() == 2**portable_arithmetic.ODDS_BITS
    assert np.allclose(odds / odds.sum(), [0.1, 0.2, 0.3, 0.4], atol=1e-6)
    counts = np.bincount([draw_token(odds, 9, position) for position in range(4000)], minlength=4)
    assert np.allclose(counts / 4000, [0.1, 0.2, 0.3, 0.4], atol=0.03)
    for temperature in (0.0, 1e-46, 1e-40, 1e-38):  # from the second on, logits divided by it are beyond float32, or far apart
        for shift in (-2, 0, 2):
            assert token_odds(logits + np.float32(shift), temperature).tolist() == [0, 0, 0, 2**30]
    assert filter_odds(odds, top_k=2).tolist() == [0, 0, *odds[2:]]
    assert filter_odds(odds, top_p=0.5).tolist() == [0, 0, *odds[2:]]
    assert filter_odds(odds, min_p=0.4).tolist() == [0, *odds[1:]]
    assert filter_odds(np.array([5, 5, 5]), top_k=1).tolist() == [5, 0, 0]


TANH_BITS = ["bf7ffffe", "bf7f4df0", "bf1ab7d9", "ba83126c", "3dcc1ebd", "3f375f4c", "3f7c92c0", "3f7ffa0e"]
EXP_BITS = ["310da433", "3d1712ce", "3efe406e", "3f7fbe7f", "3f8d763e", "401d6a23", "4142eb7f", "431469c5"]
SUM_BITS = "442f70b8"
