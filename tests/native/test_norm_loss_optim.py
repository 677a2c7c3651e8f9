"""What is native around the layers, as torch has it: residual layers, the loss behind the head, the steps of optimizers."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from support.native import BOUNDS, KINDS, NARROW, NATIVE, SETS, built, precisions
from unrolled.nn.cells import state_tensors
from unrolled.nn.kernels.linear_cross_entropy import loss as native_loss
from unrolled.nn.kernels.select import set_kernel
from unrolled.nn.language_model import RecurrentLM, cross_entropy
from unrolled.options import ModelOptions, TrainingOptions
from unrolled.text.batching import IGNORE_INDEX
from unrolled.training import optim
from unrolled.training.optim import clip_gradient, make_optimizer

pytestmark = pytest.mark.usefixtures("best_set_again")


def apart(one: Tensor, other: Tensor) -> float:
    """Return the distance of two tensors as a share of the length that the second should have; nan if any number is."""
    length = float(other.norm().clamp_min(1e-4 * max(1, other.numel()) ** 0.5))
    return float((one.double() - other.double()).norm()) / length


def learned(model: RecurrentLM, batch: dict[str, Tensor], state: Any) -> list[Tensor]:
    """Return the loss, last states and all gradients of a batch."""
    model.seed_dropout(3)
    model.zero_grad()
    loss, last = model.loss(batch, state)
    (loss * 0.5 + sum(s.float().square().mean() for s in state_tensors(last))).backward()  # type: ignore[no-untyped-call]
    return [
        loss.detach(),
        *(s.detach() for s in state_tensors(last)),
        *(w.grad for w in model.parameters() if w.grad is not None),
    ]


def batch_of(symbols: int, steps: int, rows: int) -> dict[str, Tensor]:
    torch.manual_seed(rows)
    targets = torch.randint(symbols, (steps, rows))
    targets[torch.rand(steps, rows) < 0.2] = IGNORE_INDEX
    return {"inputs": torch.randint(symbols, (steps, rows)), "targets": targets, "resets": torch.rand(steps, rows) < 0.1}


@built
@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_whole_model_learns_what_the_reference_learns(cell: Any, instructions: str) -> None:
    """Gathered first layer and dense ones, dropout, resets, missing targets, odd sizes, more symbols than inputs."""
    NATIVE.set_isa(instructions)
    for (symbols, hidden, rows), dtype in itertools.product(
        [(9, 33, 5), (70, 64, 33), (300, 17, 16)], precisions(instructions)
    ):
        torch.manual_seed(hidden)
        options = ModelOptions(cell=cell, hidden=hidden, layers=3, dropout=0.3, token_dropout=0.1)
        model = RecurrentLM(symbols, options).train()
        nn.init.normal_(model.embedding_matrix())
        batch = batch_of(symbols, 6, rows)
        set_kernel(model, "native")
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = learned(model, batch, model.initial_state(rows))
        set_kernel(model, "reference")
        same = learned(model, batch, model.initial_state(rows))
        for name, one, other in zip(range(len(same)), found, same, strict=True):
            assert apart(one, other) < 4 * BOUNDS[dtype], (symbols, dtype, name)


@built
@pytest.mark.parametrize("instructions", SETS)
def test_the_loss_behind_a_head_is_that_of_its_scores(instructions: str) -> None:
    NATIVE.set_isa(instructions)
    sizes = [(1, 1, 1, 1), (2, 3, 5, 7), (65, 256, 32, 9), (96, 100, 17, 3), (1000, 40, 3, 5)]
    for (symbols, units, rows, steps), dtype in itertools.product(sizes, precisions(instructions)):
        torch.manual_seed(symbols)
        head = nn.Linear(units, symbols)
        ys = torch.randn(steps, rows, units)
        targets = torch.randint(symbols, (steps, rows))
        targets[0, 0] = targets[-1, 0]
        if rows > 1:
            targets[:, 1] = IGNORE_INDEX
        results = []
        for loss_of in (native_loss, lambda ys, head, targets: cross_entropy(head(ys), targets)):
            own = ys.clone().requires_grad_()
            head.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16 and loss_of is native_loss):
                loss = loss_of(own, head, targets)
            (3 * loss).backward()  # type: ignore[no-untyped-call]
            results.append([loss.detach(), own.grad, head.weight.grad.clone(), head.bias.grad.clone()])  # type: ignore[union-attr]
        if dtype == torch.bfloat16 and units >= 40:
            narrow, exact = results[0][2], results[1][2]
            assert narrow is not None
            assert exact is not None
            assert apart(narrow, exact) > 1e-5, "products are in bfloat16"
        for one, other in zip(*results, strict=True):
            assert one is not None
            assert apart(one, other) < 2 * BOUNDS[dtype] or float((one - other).abs().max()) < 1e-6, (symbols, units, dtype)


@built
def test_scores_that_are_no_numbers_give_a_loss_that_is_none() -> None:
    head, ys = nn.Linear(8, 5), torch.zeros(1, 2, 8)
    ys[0, 1, 0] = float("nan")
    assert native_loss(ys, head, torch.zeros(1, 2, dtype=torch.long)).isnan()
    ys[0, 1, 0] = float("inf")
    assert native_loss(ys, head, torch.zeros(1, 2, dtype=torch.long)).isnan()


@built
@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_optimizers_step_as_torch_would(name: Any, instructions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    NATIVE.set_isa(instructions)
    options = TrainingOptions(optimizer=name, weight_decay=0.1, clip=1.0)
    ends = []
    for native_there in (True, False):
        if not native_there:
            monkeypatch.setattr(optim, "native_module", lambda: None)
        torch.manual_seed(0)
        model = RecurrentLM(11, ModelOptions(hidden=64, layers=2))
        optimizer = optim.make_optimizer(model, options)
        for step in range(4):
            for index, weight in enumerate(model.parameters()):
                weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(100 * step + index))
            norm, scale = optim.clip_gradient(model.parameters(), options)
            optimizer.step(0.01, scale)
        ends.append([norm, *(w.detach().clone() for w in model.parameters()), *optimizer.to_tensors().values()])
    bound = 1e-5 if name == "adamw" else 5e-3  # nine products in bfloat16 make much of a last digit
    assert max(apart(one, other) for one, other in zip(*ends, strict=True)) < bound


@built
def test_the_length_of_a_gradient_is_the_same_for_any_number_of_threads() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(size) for size in (1, 17, 4096, 10_001)]
    lengths = {NATIVE.grad_norm(parts, threads) for threads in (1, 2, 3, 7)}
    assert len(lengths) == 1
    assert lengths.pop() == pytest.approx(float(torch.cat(parts).double().norm()), rel=1e-6)


@built
def test_wrong_arrays_are_refused() -> None:
    zeros = [torch.zeros(4)]
    good: list[Any] = [zeros, zeros, zeros, zeros, [1.0], [0.0], 0.1, 0.9, 0.99, 1e-8, 1.0, 1]
    NATIVE.adamw(*good)
    odd = [torch.zeros(8)[::2]]
    wrong: list[tuple[int, Any]] = [(1, []), (1, [torch.zeros(5)]), (0, odd), (2, [torch.zeros(4).double()]), (4, []), (11, 0)]
    for place, value in wrong:
        with pytest.raises((ValueError, TypeError)):
            NATIVE.adamw(*[value if index == place else one for index, one in enumerate(good)])
    if NATIVE.has_polar_express(32):
        square = [torch.zeros(32, 32)]
        with pytest.raises(ValueError, match="squares of that size"):
            NATIVE.muon(
                [torch.zeros(33, 32)], [torch.zeros(33, 32)], [torch.zeros(33, 32)], 32, torch.zeros(3, 3), 1, 1, 1, 1, 1, 1
            )
        with pytest.raises(ValueError, match="multiple of 32"):
            NATIVE.muon(square, square, square, 16, torch.zeros(3, 3), 1, 1, 1, 1, 1, 1)
    head = nn.Linear(8, 5)
    with pytest.raises(ValueError, match="not a token of the vocabulary"):
        native_loss(torch.zeros(1, 2, 8), head, torch.tensor([[0, 5]]))
    with pytest.raises(ValueError, match="moments"):
        NATIVE.norm_forward(
            torch.zeros(2, 3, 8), torch.ones(8), torch.ones(8), 1e-5, torch.zeros(2, 16, 32), torch.zeros(2, 3, 3), 1
        )


@built
def test_directions_are_applied_to_all_weights() -> None:
    if not NATIVE.has_polar_express(32):
        pytest.skip("no products in bfloat16 here")
    torch.manual_seed(2)
    before = [torch.randn(size) for size in (5000, 64, 4096)]
    directions = torch.randn(9160).to(torch.bfloat16)
    weights = [weight.clone() for weight in before]
    NATIVE.apply_updates(weights, directions, 0.1, 0.5, 2)
    torch.testing.assert_close(torch.cat(weights), torch.cat(before) * (1 - 0.1) - 0.5 * directions.float())
    for wrong in (directions[:-1], torch.cat([directions, directions[:1]]), directions.float()):
        with pytest.raises(ValueError, match="directions must be"):
            NATIVE.apply_updates(weights, wrong, 0.1, 0.5, 1)


@built
def test_arrays_come_from_torch_and_from_others() -> None:
    numbers = torch.arange(12.0).view(3, 4)
    length = pytest.approx(float(numbers.norm()))
    assert NATIVE.grad_norm([numbers], 1) == length
    assert NATIVE.grad_norm([numbers.numpy()], 1) == length
    assert NATIVE.grad_norm([nn.Parameter(numbers).detach()], 1) == length
    assert NATIVE.grad_norm([numbers[:, :1].contiguous(), torch.zeros(0, 5), torch.tensor(2.0)], 1) == pytest.approx(84.0**0.5)
    for wrong in (numbers.T, numbers.to("meta"), numbers.to_sparse(), 5, None, "numbers"):
        with pytest.raises((TypeError, ValueError)):
            NATIVE.grad_norm([wrong], 1)


@pytest.mark.slow
@built
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("instructions", [*SETS[-1:], *(f"{name} bfloat16" for name in SETS if name in NARROW)])
def test_weights_do_not_depend_on_the_number_of_threads(kind: str, optimizer: str, instructions: str) -> None:
    """Layers shared by rows and by units, residual layers with norms, the table of inputs, the head and both optimizers."""
    name, _, dtype = instructions.partition(" ")
    NATIVE.set_isa(name)

    def train(threads: int, hidden: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        model = RecurrentLM(65, ModelOptions(cell=cast(Any, kind), hidden=hidden, layers=2, residual=True))
        set_kernel(model, "native")
        options = TrainingOptions(optimizer=cast(Any, optimizer))
        optim, generator = make_optimizer(model, options), torch.Generator().manual_seed(1)
        for _ in range(2):
            inputs, targets = (torch.randint(65, (5, 83), generator=generator) for _ in range(2))
            with torch.autocast("cpu", torch.bfloat16, enabled=bool(dtype)):
                loss, _ = model.loss({"inputs": inputs, "targets": targets}, model.stack.initial_state(83))
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optim.step(1e-2, clip_gradient(model.parameters(), options)[1])
        return [loss.detach(), *(weight.detach() for weight in model.parameters())]

    before = torch.get_num_threads()
    try:
        for hidden, threads in ((40, (1, 2, 8)), (200, (1, 3))):  # by rows, and by units
            first, *others = (train(count, hidden) for count in threads)
            assert all(torch.equal(one, other) for weights in others for one, other in zip(first, weights, strict=True))
    finally:
        torch.set_num_threads(before)
