"""The native layers: outputs, states and every gradient are those of the definition in float64, on every instruction set."""

from __future__ import annotations

import itertools
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from support.forks import Forks
from support.native import BOUNDS, KINDS, NARROW, NATIVE, SETS, built, precisions
from unrolled.nn.cells import CELLS, EmbeddingLookup, GatedCell, LSTMCell, unroll_by_step
from unrolled.nn.kernels import extension, linear_cross_entropy, native
from unrolled.nn.kernels.extension import ENV_VARIABLE, unavailable_reason
from unrolled.nn.kernels.native import CELL_KINDS as NATIVE_KINDS
from unrolled.nn.kernels.native import input_products
from unrolled.nn.kernels.select import available_kernels
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.training.optim import NORM_MARGIN, POLAR_EXPRESS, polar_express

pytestmark = pytest.mark.usefixtures("best_set_again")


def test_the_library_is_there_where_it_must_be() -> None:
    assert NATIVE is not None or (unavailable_reason() and not os.environ.get("CI"))


def made(kind: str, inputs: int, units: int, two_biases: bool) -> GatedCell:
    cell = CELLS[kind](inputs, units, two_biases)
    for weight in cell.parameters():
        if weight.dim() == 1:
            torch.nn.init.normal_(weight, std=0.3)
    return cell


def everything(cell: GatedCell, run: Any, xs: Tensor, ids: Tensor | None, first: list[Tensor], resets: Any) -> list[Tensor]:
    """Return outputs, last states, and the gradients of inputs, first states and weights, all in float64."""
    number = cell.weight_hh.dtype
    own = xs.to(number).requires_grad_()
    state = [s.to(number).requires_grad_() for s in first]
    ys, last = run(cell, own if ids is None else EmbeddingLookup(ids, own), type(cell.initial_state(1))(*state), resets)
    pull = torch.linspace(-1, 1, ys.numel(), dtype=torch.float64).sin().view_as(ys)
    loss = (ys.double() * pull).sum() + sum((s.double() * pull[-1].flip(0)).sum() for s in last)
    gradients = torch.autograd.grad(loss, [own, *state, *cell.parameters()])
    return [tensor.detach().double() for tensor in (ys, *last, *gradients)]


def difference(kind: str, sizes: tuple[int, int, int], dtype: torch.dtype, case: tuple[bool, bool, bool]) -> float:
    """Return the largest difference of a native layer of `(H, B, T)` from the definition; nan if any is."""
    (units, rows, steps), (resets, gathered, two_biases) = sizes, case
    torch.manual_seed(units + rows)
    inputs = max(1, units // 2)
    cell = made(kind, inputs, units, two_biases)
    exact = CELLS[kind](inputs, units, two_biases).double()
    exact.load_state_dict(cell.state_dict())
    ids = torch.randint(7, (steps, rows)) if gathered else None
    xs = torch.randn(*((7, inputs) if gathered else (steps, rows, inputs)))
    first = [torch.randn(rows, units) for _ in cell.initial_state(1)]
    zero = torch.rand(steps, rows) < 0.3 if resets else None
    expected = everything(exact, unroll_by_step, xs, ids, first, zero)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = everything(cell, native.unroll, xs, ids, first, zero)
    # A tensor of a few numbers near zero is no measure of its own rounding: one of 0.3 in each place is.
    lengths = [one.norm().clamp_min(0.3 * one.numel() ** 0.5) for one in expected]
    shares = [float((one - other).norm() / size) for one, other, size in zip(expected, found, lengths, strict=True)]
    return max(shares) if all(share == share for share in shares) else float("nan")


@pytest.mark.slow
@built
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("instructions", SETS)
def test_layers_equal_the_definition(instructions: str, kind: str) -> None:
    NATIVE.set_isa(instructions)
    sizes = [(1, 1, 1), (3, 3, 2), (17, 16, 2), (64, 33, 3), (200, 3, 2)]
    if instructions == SETS[-1]:  # the large ones only with the set that is used
        sizes += [(128, 100, 2), (40, 50, 12)]
    for dtype, size in itertools.product(precisions(instructions), sizes):
        for case in itertools.product((False, True), repeat=3):
            assert difference(kind, size, dtype, cast(Any, case)) < BOUNDS[dtype], (dtype, size, case)


def on_threads(numbers: tuple[int, ...], work: Any) -> list[Any]:
    """Return what `work` returns with each of these numbers of threads."""
    before, found = torch.get_num_threads(), []
    try:
        for number in numbers:
            torch.set_num_threads(number)
            found.append(work())
    finally:
        torch.set_num_threads(before)
    return found


INPUTS = tuple(itertools.product((False, True), (40, 544)))
"""Inputs that are gathered or not, and the units of a layer: small ones are shared by rows, large ones by units."""

SHARED = [
    (name, kind, *INPUTS[turn % 4])
    for (index, name), (place, kind) in itertools.product(enumerate(SETS), enumerate(KINDS))
    for turn in (range(4) if name == SETS[-1] else [index + place])
]
"""Every layer with the set that is used; some of each kind with the others."""


@pytest.mark.slow
@built
@pytest.mark.parametrize(("instructions", "kind", "gathered", "units"), SHARED)
def test_numbers_do_not_depend_on_who_takes_which_piece(instructions: str, kind: str, gathered: bool, units: int) -> None:
    """Threads take pieces of each other's shares: five of them on two cores do it at every turn, and one never."""
    NATIVE.set_isa(instructions)
    torch.manual_seed(3)
    cell = made(kind, 64, units, True)
    first = [torch.randn(50, units) for _ in cell.initial_state(1)]
    ids = torch.randint(7, (9, 50)) if gathered else None
    xs = torch.randn(*((7, 64) if gathered else (9, 50, 64)))
    for dtype in precisions(instructions):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = on_threads((1, 2, 3, 5, 5, 5), lambda: everything(cell, native.unroll, xs, ids, first, None))
        for other in found[1:]:
            for index, (one, two) in enumerate(zip(found[0], other, strict=True)):
                assert torch.equal(one, two), (dtype, index)


@built
@pytest.mark.parametrize("instructions", SETS)
def test_a_loss_and_a_table_do_not_depend_on_the_number_of_threads(instructions: str) -> None:
    NATIVE.set_isa(instructions)
    torch.manual_seed(4)
    head, targets = torch.nn.Linear(70, 300), torch.randint(300, (40, 33))
    ys = torch.randn(40, 33, 70)

    def gradients() -> list[Tensor]:
        own = ys.clone().requires_grad_()
        loss = linear_cross_entropy.loss(own, head, targets)
        return [loss.detach(), *torch.autograd.grad(loss, [own, head.weight])]

    cell, xs = made("gru", 40, 48, True), torch.randn(500, 40)
    for work in (gradients, lambda: [input_products(1, xs, cell.weight_ih, 48)]):
        first, *others = on_threads((1, 2, 3), work)
        assert all(torch.equal(one, two) for other in others for one, two in zip(first, other, strict=True))


@built
@pytest.mark.parametrize("instructions", SETS)
def test_products_with_the_weights_of_inputs_are_those_of_matrices(instructions: str) -> None:
    NATIVE.set_isa(instructions)
    for rows, width, units in ((1, 1, 1), (5, 33, 17), (97, 64, 40)):
        for kind, name in enumerate(KINDS):
            cell, xs = made(name, width, units, False), torch.randn(rows, width)
            exact = xs.double() @ cell.weight_ih.detach().double().T
            assert (input_products(kind, xs, cell.weight_ih, units) - exact).norm() <= 1e-6 * exact.norm()


@built
@pytest.mark.parametrize("kind", KINDS)
def test_large_layers_equal_the_definition(kind: str) -> None:
    """Sizes at which torch 2.13's own bfloat16 layer has wrong gradients are among them."""
    for dtype, units in itertools.product(precisions(SETS[-1]), (512, 1000, 1024)):
        assert difference(kind, (units, 16, 2), dtype, (True, False, True)) < BOUNDS[dtype], (dtype, units)


@built
@pytest.mark.long
@pytest.mark.parametrize("units", [1, 3, 17, 64, 128, 200, 256, 512, 1000, 1024, 2048])
@pytest.mark.parametrize("instructions", SETS)
def test_every_size_equals_the_definition(instructions: str, units: int) -> None:
    NATIVE.set_isa(instructions)
    for kind, dtype, rows, steps in itertools.product(KINDS, precisions(instructions), (1, 3, 16, 33, 100), (1, 2, 64)):
        if units * rows * steps > 2_000_000:
            continue  # the definition in float64 takes minutes there, and a shorter sequence says the same
        for resets in (False, True):
            found = difference(kind, (units, rows, steps), dtype, (resets, rows == 3, rows == 16))
            assert found < BOUNDS[dtype] * (1 + steps / 32), (kind, dtype, rows, steps, resets)


@built
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_is_the_same_bits_each_time_and_in_chunks(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cell, xs = made("lstm", 40, 96, False), torch.randn(12, 33, 40)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        ys, last = native.unroll(cell, xs, cell.initial_state(33))
        again, _ = native.unroll(cell, xs, cell.initial_state(33))
        assert torch.equal(ys, again)
        state, parts = cell.initial_state(33), []
        for part in (xs[:5], xs[5:]):
            out, state = native.unroll(cell, part, state)
            parts.append(out)
    assert torch.equal(torch.cat(parts), ys)
    assert all(torch.equal(one, other) for one, other in zip(state, last, strict=True))


@built
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for rows in (3, 70):  # by units, and by rows
            assert difference("lstm", (96, rows, 3), torch.float32, (True, True, False)) < BOUNDS[torch.float32]
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@built
@pytest.mark.parametrize("size", [8, 32, 40, 96, 256, 544])
@pytest.mark.parametrize("instructions", SETS)
def test_squares_are_turned_as_their_polynomials_say(instructions: str, size: int) -> None:
    """In bfloat16, or in float32 where the processor has no products in bfloat16: compared with the polynomials in float64."""
    torch.manual_seed(size)
    blocks = torch.randn(5, size, size) @ torch.randn(size, size) / size
    NATIVE.set_isa(instructions)
    assert NATIVE.has_polar_express(size) == (size % 32 == 0 and instructions in NARROW)
    turned = polar_express(blocks).float()
    x = blocks.double()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * NORM_MARGIN)
    for a, b, c in POLAR_EXPRESS:
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    assert (turned - x).norm() < 0.08 * x.norm(), "nine products in a row, each rounded to bfloat16"
    assert torch.equal(turned, polar_express(blocks).float())


@built
def test_what_is_no_number_is_seen_and_not_smoothed_over() -> None:
    for kind in KINDS:
        cell, xs = made(kind, 8, 8, False), torch.zeros(3, 2, 8)
        xs[1, 0, 0] = float("nan")
        ys, _ = native.unroll(cell, xs, cell.initial_state(2))
        assert ys[:1].isfinite().all()
        assert ys[1:, 0].isnan().all()
        assert ys[:, 1].isfinite().all(), "another row has nothing to do with it"
        huge, _ = native.unroll(cell, torch.full((2, 1, 8), 1e30), cell.initial_state(1))
        assert huge.isfinite().all()


@built
def test_wrong_shapes_are_refused_at_the_border() -> None:
    cell = made("lstm", 8, 16, False)
    zero = torch.zeros(2, 16)
    tiles = torch.empty(8, 32, 16)
    with pytest.raises(ValueError, match="weight must be contiguous float32"):
        NATIVE.pack_forward(2, cell.weight_hh.detach()[:-1].contiguous(), tiles, 16, 1)
    with pytest.raises(ValueError, match=r"packed must be contiguous float32 \(8, 32, 16\)"):
        NATIVE.pack_forward(2, cell.weight_hh.detach(), tiles[:, :16].contiguous(), 16, 1)
    with pytest.raises(ValueError, match="kind must be"):
        NATIVE.pack_backward(3, cell.weight_hh.detach(), tiles, 16, True, 1)
    good: dict[str, Any] = {
        "kind": 2, "threads": 1, "row_slices": 1, "xs": None, "weight_ih": None, "ids": torch.zeros(3, 2, dtype=torch.int64),
        "table": torch.zeros(5, 4, 32), "weight_hh": tiles, "bias": torch.zeros(4, 32), "resets": None, "h_0": zero,
        "c_0": zero, "dropout_mask": None, "residual": None, "hs": torch.zeros(4, 2, 64),
        "saved_activations": None, "ys": torch.zeros(3, 2, 16), "h_n": zero,
        "c_n": zero,
    }  # fmt: skip
    NATIVE.layer_forward(**good)
    wrong: dict[str, Any] = {
        "ids": torch.full((3, 2), 5), "table": torch.zeros(5, 4, 16), "h_0": torch.zeros(2, 17), "c_n": None,
        "hs": torch.zeros(3, 2, 64), "ys": torch.zeros(3, 2, 16, dtype=torch.float64), "threads": 0, "row_slices": 2,
        "resets": torch.zeros(2, 2, dtype=torch.bool), "bias": torch.zeros(4, 64)[:, ::2], "weight_hh": tiles.bfloat16(),
        "saved_activations": torch.zeros(3, 2, 2, 5, 16), "kind": -1,
    }  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises((ValueError, TypeError)):
            NATIVE.layer_forward(**good | {name: value})


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [("none", "switches the native kernels off"), pytest.param("mmx", "is not available on this CPU", marks=built)],
)
def test_everything_works_without_the_library(monkeypatch: pytest.MonkeyPatch, instructions: str, reason: str) -> None:
    monkeypatch.setenv(ENV_VARIABLE, instructions)
    monkeypatch.setattr(extension, "_load", extension._load.__wrapped__)  # what it returned before is cached
    assert extension.native_module() is None
    assert reason in unavailable_reason()
    assert list(available_kernels(RecurrentLM(5, ModelOptions(hidden=8)))) == ["torch", "reference"]


def test_what_native_layers_cannot_run_goes_another_way() -> None:
    for cell in CELLS:
        model = RecurrentLM(5, ModelOptions(cell=cell, hidden=8))  # type: ignore[arg-type]  # a key of CELLS
        assert ("native" in available_kernels(model)) == (CELLS[cell] in NATIVE_KINDS and NATIVE is not None)
        assert "native" not in available_kernels(model.double())
    assert next(available_kernels(RecurrentLM(5, ModelOptions(hidden=512)).float())) != "native", "torch is faster there"
    assert LSTMCell in NATIVE_KINDS


def call_without_memory(row_slices: int) -> int:
    """Call a layer, one that may not get the memory it asks for, and the first again; return how many were refused."""

    def layer(rows: int) -> Callable[[], None]:
        zero = torch.zeros(rows, 32)
        arrays: dict[str, Any] = {
            "ids": torch.zeros(1, rows, dtype=torch.int64), "table": torch.zeros(5, 1, 32), "weight_hh": torch.zeros(2, 32, 16),
            "bias": torch.zeros(1, 32), "hs": torch.zeros(2, -(-rows // 16) * 16, 64), "ys": torch.zeros(1, rows, 32),
            "h_0": zero, "h_n": zero.clone(),
        }  # fmt: skip
        absent = ("xs", "weight_ih", "resets", "c_0", "dropout_mask", "residual", "saved_activations", "c_n")
        options = {"kind": 0, "threads": 2, "row_slices": row_slices}
        return lambda: NATIVE.layer_forward(**options, **arrays, **dict.fromkeys(absent))

    small, large = layer(32), layer(400_000)
    small()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (10 << 20), resource.RLIM_INFINITY))
    try:
        large()
    except MemoryError:
        small()
        return 1
    return 0


@pytest.mark.slow
@built
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set in Linux's way")
@pytest.mark.parametrize("row_slices", [1, 2])
def test_memory_that_is_not_there_is_an_error_and_not_the_end(forks: Forks, row_slices: int) -> None:
    """Threads that wait for one that failed are let go, and the next call works."""
    done = forks.call(call_without_memory, row_slices)
    assert done.code == 1, done.err
