"""The native portable step has the bits of the definition: every cell, instruction set, batch and number of threads."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.native import NATIVE, SETS, built
from support.text_networks import CELLS, LAYERS, NEWER_CELLS, saved_model, saved_network
from unrolled.generation.portable_sampling import portable_blocks
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import SampleOptions
from unrolled.runtime import native_portable
from unrolled.runtime.native_portable import NativePortableNetwork, open_portable
from unrolled.runtime.portable import PortableNetwork, PortableState
from unrolled.runtime.portable_arithmetic import Floats, Int8Matrix
from unrolled.runtime.portable_draw import draw_token, token_odds
from unrolled.runtime.text_network import GATE_NAMES, TextLayer, TextNetwork

pytestmark = [built, pytest.mark.usefixtures("best_set_again")]

LONG_TEXT = 2200


def random_network(cell: str, vocab_size: int, embedding: int, units: int, scale: float = 0.2) -> TextNetwork:
    """Return a plain network of one layer with two biases; an embedding of size 0 is one-hot."""
    generator, gates = np.random.default_rng(3), len(GATE_NAMES[cell])

    def draw(*shape: int) -> Floats:
        return (generator.standard_normal(shape) * scale).astype(np.float32)

    size = gates * units
    layer = TextLayer(GATE_NAMES[cell], draw(size, embedding or vocab_size), draw(size, units), draw(size), draw(size))
    table = draw(vocab_size, embedding) if embedding else None
    return TextNetwork(cell, (layer,), draw(vocab_size, units), draw(vocab_size), table)


def bits(values: Floats) -> list[int]:
    return values.reshape(-1).view(np.uint32).tolist()


def flat(state: PortableState) -> Floats:
    return np.concatenate([part.reshape(-1) for layer in state for part in layer])


def draw_ids(model: PortableNetwork, seeds: list[int], **options: Any) -> list[list[int]]:
    blocks = list(portable_blocks(model, [1, 2, 3], seeds, SampleOptions(**options)))
    ids: list[list[int]] = np.concatenate(blocks, axis=1).tolist()
    return ids


@pytest.mark.parametrize(("cell", "layers"), [*itertools.product(CELLS, LAYERS), *NEWER_CELLS])
def test_a_batch_has_the_bits_of_the_definition(tmp_path: Path, cell: str, layers: str) -> None:
    arrays, generator = saved_network(tmp_path, cell, layers), np.random.default_rng(0)
    clamps = [Clamp(0, 5, -0.25)]
    model = PortableNetwork(arrays, clamps=clamps)
    ids, resets = generator.integers(0, arrays.vocab_size, (9, 35)), generator.random((9, 35)) < 0.2
    logits, state = model.unroll(ids, model.initial_state(35), resets)
    for name in SETS:
        NATIVE.set_isa(name)
        native = NativePortableNetwork(arrays, clamps=clamps)
        for threads in (1, 2):
            native._threads = lambda rows, threads=threads: threads  # type: ignore[method-assign, misc]
            ours, our_state = native.unroll(ids, native.initial_state(35), resets)
            assert bits(ours) == bits(logits), name
            assert bits(flat(our_state)) == bits(flat(state)), name


@pytest.mark.slow
@pytest.mark.parametrize("length", [250, pytest.param(LONG_TEXT, marks=pytest.mark.long)])
@pytest.mark.parametrize(("cell", "layers"), [*zip(CELLS, LAYERS, strict=True), ("lstm", "residual"), *NEWER_CELLS])
def test_a_text_has_the_bits_of_the_definition(tmp_path: Path, cell: str, layers: str, length: int) -> None:
    arrays = saved_network(tmp_path, cell, layers)
    model = PortableNetwork(arrays)
    state, ids, all_logits = model.initial_state(1), [1], []
    for position in range(length):
        logits, state = model.step(np.array(ids[-1:]), state)
        all_logits.append(logits)
        ids.append(draw_token(token_odds(logits[0], 0.8), 7, position))
    assert len(set(ids)) > 10
    options = SampleOptions(length=length, temperature=0.8)
    for name in SETS:
        NATIVE.set_isa(name)
        native = NativePortableNetwork(arrays)
        assert np.concatenate(list(portable_blocks(native, [1], [7], options)), axis=1).tolist() == [ids[1:]], name
        ours, our_state = native.unroll(np.array(ids[:-1])[:, None], native.initial_state(1))
        assert bits(ours) == bits(np.stack(all_logits)), name
        assert bits(flat(our_state)) == bits(flat(state)), name


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 1e-46},
        {"temperature": 5.0, "top_k": 3},
        {"top_p": 0.4},
        {"top_p": 1e-9},
        {"min_p": 0.3},
        {"top_k": 7, "top_p": 0.6, "min_p": 0.05},
        {"top_k": 10_000},
    ],
)
def test_draws_and_filters_are_those_of_the_definition(tmp_path: Path, options: dict[str, Any]) -> None:
    arrays = saved_network(tmp_path, "gru", "plain")
    seeds = [0, 5, 2**32, 2**64 - 1, 2**70 + 3]
    assert draw_ids(open_portable(arrays), seeds, length=70, **options) == draw_ids(
        PortableNetwork(arrays), seeds, length=70, **options
    )


def test_equal_odds_and_a_total_beyond_32_bits() -> None:
    """All tokens are equally likely: filters take the lower ids first."""
    arrays = random_network("rnn", 600, 0, 8, scale=0.0)
    for options in ({}, {"top_k": 5}, {"top_p": 0.5}):
        ids = draw_ids(open_portable(arrays), [1, 2], length=40, **options)
        assert ids == draw_ids(PortableNetwork(arrays), [1, 2], length=40, **options)
        assert max(max(row) for row in ids) < {"top_k": 5, "top_p": 300}.get(next(iter(options), ""), 600)


def test_wide_layers_and_no_table_of_first_products() -> None:
    """1,300 columns are three blocks of integers; the products of 8,000 symbols are too large to be kept."""
    arrays = random_network("rnn", 8000, 7, 1300)
    model, ids = PortableNetwork(arrays), np.random.default_rng(1).integers(0, 8000, (3, 2))
    logits, state = model.unroll(ids, model.initial_state(2))
    for name in SETS:
        NATIVE.set_isa(name)
        native = NativePortableNetwork(arrays)
        ours, our_state = native.unroll(ids, native.initial_state(2))
        assert bits(ours) == bits(logits), name
        assert bits(flat(our_state)) == bits(flat(state)), name


def test_the_largest_integers_do_not_overflow() -> None:
    units = 1024
    full = np.full((units, units), 2, np.float32)
    layer = TextLayer(("h",), np.ones((units, 3), np.float32), full, np.zeros(units, np.float32))
    arrays = TextNetwork("rnn", (layer,), np.full((3, units), -2, np.float32), np.zeros(3, np.float32))
    model, native, ids = PortableNetwork(arrays), NativePortableNetwork(arrays), np.zeros((3, 1), np.int64)
    expected, _ = model.unroll(ids, model.initial_state(1))
    for name in SETS:
        NATIVE.set_isa(name)
        assert bits(native.unroll(ids, native.initial_state(1))[0]) == bits(expected), name


@pytest.mark.parametrize("value", [1e-40, 1e-31, 9e-31, 3e38, -3e38])
def test_the_smallest_and_the_largest_states(tmp_path: Path, value: float) -> None:
    """Very small vectors are taken as zero. Beyond the largest float32, all is NaN, and the first token is drawn."""
    arrays = saved_network(tmp_path, "lstm", "plain")
    clamps = [Clamp(layer, unit, value) for layer in range(3) for unit in range(18)]
    model, native = PortableNetwork(arrays, clamps=clamps), open_portable(arrays, clamps)
    ids = np.array([[1], [2], [3]])
    with np.errstate(all="ignore"):
        logits, _ = model.unroll(ids, model.initial_state(1))
        expected = draw_ids(model, [1], length=9)
    ours, _ = native.unroll(ids, native.initial_state(1))
    assert np.isfinite(logits).all() == (abs(value) < 1)
    assert bits(np.nan_to_num(ours)) == bits(np.nan_to_num(logits))
    assert draw_ids(native, [1], length=9) == expected


def test_a_vector_below_the_least_is_zero() -> None:
    matrix = Int8Matrix(np.ones((2, 3), np.float32))
    assert not matrix.product(np.array([[1e-36, -1e-40, 0]], np.float32)).any()
    assert matrix.product(np.array([[1e-30, 0, 0]], np.float32)).all()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = NativePortableNetwork(saved_network(tmp_path, "lstm", "residual"))
    native, size, vocab = model._native, model.network.hidden_size, model.vocab_size
    h, logits = np.zeros((2, 1, size), np.float32), np.zeros((1, 1, vocab), np.float32)
    ids = np.zeros((1, 1), np.int64)
    read = {"ids": ids, "resets": None, "h": h, "c": h, "logits": logits, "threads": 1}
    native.read(**read)
    wrong: list[dict[str, Any]] = [
        {"ids": ids + vocab}, {"ids": ids - 1}, {"ids": ids.astype(np.int32)}, {"ids": ids[0]}, {"c": None},
        {"h": h[:1]}, {"h": h.astype(np.float64)}, {"logits": logits[..., 1:]}, {"threads": 0},
        {"resets": np.zeros((2, 1), np.bool_)}, {"ids": np.zeros((1, 0), np.int64)},
    ]  # fmt: skip
    for arguments in wrong:
        with pytest.raises((ValueError, TypeError)):
            native.read(**read | arguments)
    sample = {"seeds": ids[0], "position": 0, "h": h, "c": h, "logits": logits[0], "sampled": ids.copy(), "threads": 1}
    sample |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    native.sample(**sample)
    for arguments in ({"temperature": -1.0}, {"temperature": math.nan}, {"top_p": 0.0}, {"min_p": 2.0}, {"top_k": -1},
                      {"seeds": np.zeros(2, np.int64)}, {"logits": logits[0, :, 1:]}):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            native.sample(**sample | arguments)
    with pytest.raises(ValueError, match="does not have all of its weights"):
        NATIVE.Portable(3, 4, 1, 5, 0, False).read(**read)
    for sizes in ((8, 4, 1, 5, 0, False), (3, 0, 1, 5, 0, False), (3, 4, 0, 5, 0, False), (3, 4, 1, 5, 3, True)):
        with pytest.raises(ValueError, match="must be|has"):
            NATIVE.Portable(*sizes)
    with pytest.raises(ValueError, match="no such unit"):
        native.clamp(0, size, 0.0)


def test_the_network_is_kept_and_numpy_is_used_without_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = saved_network(tmp_path, "rnn", "plain")
    assert open_portable(arrays) is open_portable(arrays)
    assert open_portable(arrays, [Clamp(0, 0)]) is not open_portable(arrays)
    monkeypatch.setattr(native_portable, "native_module", lambda: None)
    other = saved_network(tmp_path, "rnn", "plain")
    assert type(open_portable(other)) is PortableNetwork


def test_the_command_line_gives_the_same_text_with_and_without_it(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "m.safetensors", "gru-reset-before", "residual")
    command = [sys.executable, "-m", "unrolled", "sample", str(path), "--portable", "--length", "300", "--seed", "5", "--json"]
    texts = []
    for instructions in (SETS[-1], "none"):
        environment = {"PATH": "/usr/bin:/bin", "UNROLLED_INSTRUCTIONS": instructions}
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        texts.append(run.stdout.replace(SETS[-1], ""))
    assert texts[0] == texts[1]
