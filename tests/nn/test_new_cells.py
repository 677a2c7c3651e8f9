"""Cells of linear and exponential memories: their equations, their fused forms over many chunks, and values at the edge."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.command_options import SampleOptions
from unrolled.errors import UsageError
from unrolled.generation.sampling import generate
from unrolled.nn import cells
from unrolled.nn.cell_wrappers import clamped
from unrolled.nn.cells import CELLS, EmbeddingLookup, GatedCell, map_state, state_tensors, unroll_by_step
from unrolled.nn.cells.linear import scan
from unrolled.nn.cells.matrix_memory import CHUNK_STEPS, num_heads
from unrolled.nn.kernels import aten
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.stack import Stack
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import ModelOptions
from unrolled.runtime.numpy_model import CELL_STEPS
from unrolled.text.tokenizer import CharTokenizer

T, B, E, H = 2 * CHUNK_STEPS + 5, 3, 5, 64
FUSED = [name for name, cell in CELLS.items() if cell.has_fused_unroll]
FLOAT64: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}


def make(name: str, hidden: int = H) -> GatedCell:
    torch.manual_seed(1)
    cell = CELLS[name](E, hidden).double()
    with torch.no_grad():
        for weight in cell.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return cell


def some_resets() -> Tensor:
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 0] = resets[1, 1] = resets[CHUNK_STEPS, 1] = resets[CHUNK_STEPS + 2, 2] = resets[-2, 0] = resets[-1, 2] = True
    return resets


@pytest.mark.parametrize("resets", [None, some_resets()], ids=["no resets", "resets"])
@pytest.mark.parametrize("name", FUSED)
def test_fused_forms_equal_steps_over_chunks(name: str, resets: Tensor | None) -> None:
    cell, results = make(name), []
    xs = torch.randn(T, B, E, dtype=torch.float64)
    for unroll in (unroll_by_step, aten.unroll):
        leaf = xs.clone().requires_grad_()
        torch.manual_seed(2)
        state = map_state(lambda s: (torch.rand(s.shape) + 0.5).double().requires_grad_(), cell.initial_state(B))
        ys, last = unroll(cell, leaf, state, resets)
        loss = (ys * torch.linspace(-1, 1, ys.numel(), dtype=ys.dtype).view_as(ys)).sum()
        loss = loss + sum((part.sin().sum() for part in state_tensors(last)), torch.zeros(()))
        grads = torch.autograd.grad(loss, [leaf, *state_tensors(state), *cell.parameters()])
        results.append([ys, *state_tensors(last), *grads])
    torch.testing.assert_close(results[1], results[0], **FLOAT64)


@pytest.mark.parametrize("name", FUSED)
def test_fused_forms_in_bfloat16_are_near_the_steps(name: str) -> None:
    """Products are in bfloat16, as training has them on processors that multiply it; states and gates are in float32."""
    torch.manual_seed(1)
    cell, xs, found = CELLS[name](H, H), torch.randn(T, B, H), []
    for unroll, is_rough in ((unroll_by_step, False), (aten.unroll, True)):
        leaf = xs.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_rough):
            ys, last = unroll(cell, leaf, cell.initial_state(B), some_resets())
        assert all(part.dtype == torch.float32 for part in state_tensors(last))
        found.append([ys.float(), *torch.autograd.grad(ys.float().square().mean(), [leaf, *cell.parameters()])])
    for exact, rough in zip(*found, strict=True):
        assert (exact - rough).norm() <= 0.05 * exact.norm()


@pytest.mark.parametrize("name", ["mingru", "minlstm", "rg-lru"])
def test_a_factor_near_one_keeps_its_digits_in_bfloat16(name: str) -> None:
    """In bfloat16, 0.999 is one: a state would be kept for ever in training, and for 1,000 steps when the model is used."""
    cell = cast(Any, CELLS[name](1, 1))
    with torch.no_grad():
        for weight in cell.parameters():
            weight.zero_()
        keep = torch.tensor(0.999)
        if name == "rg-lru":
            cell.decay_logit.fill_(float(torch.logit(keep ** (2 / cell.exponent))))
        elif name == "mingru":
            cell.bias[0] = torch.logit(1 - keep)
        else:
            cell.bias[:2] = torch.tensor([-6.9058, 6.9058])  # i / (i + f) = 0.001
    with torch.autocast("cpu", torch.bfloat16):
        a, _ = cell.scan_terms(torch.zeros(1, 1))
    assert a.dtype == torch.float32
    torch.testing.assert_close(a.item(), 0.999, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("rows", [4, 1000])
def test_fused_forms_take_rows_of_a_table_and_no_steps(name: str, rows: int) -> None:
    cell = make(name, 6)
    table, ids = torch.randn(rows, E, dtype=torch.float64), torch.randint(rows, (7, B))
    lookup = EmbeddingLookup(ids, table)
    ys, _ = cell.unroll_fused(lookup, cell.initial_state(B))
    torch.testing.assert_close(ys, unroll_by_step(cell, lookup, cell.initial_state(B))[0], **FLOAT64)
    ys, state = cell.unroll_fused(table.new_zeros(0, B, E), cell.initial_state(B))
    assert ys.shape == (0, B, 6)
    assert not any(part.any() for part in state_tensors(state))


@pytest.mark.parametrize("steps", [1, 2, 3, 17, 64])
@pytest.mark.parametrize("width", [1, 40, 5000])
def test_the_scan_is_a_loop_and_keeps_its_digits(steps: int, width: int) -> None:
    """In float32 at gates near one and near zero, where sums of logarithms would lose digits."""
    torch.manual_seed(0)
    a = torch.sigmoid(8 * torch.randn(steps, 1, width))
    b, h = torch.randn(steps, 1, width), torch.randn(1, width)
    for reverse in (False, True):
        found, exact = scan(a, b, h, reverse), h.double()
        for t in range(steps)[:: -1 if reverse else 1]:
            exact = a[t].double() * exact + b[t].double()
            torch.testing.assert_close(found[t].double(), exact, rtol=2e-6, atol=2e-6)


def naive_slstm(cell: GatedCell, x: Tensor, state: Any) -> tuple[Tensor, Tensor, Tensor]:
    i, f, g, o = (F.linear(x, cell.weight_ih, cell.bias) + F.linear(state[0], cell.weight_hh)).chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.exp(i) * torch.tanh(g)
    n = torch.sigmoid(f) * state[2] + torch.exp(i)
    return torch.sigmoid(o) * c / n, c, n


def test_slstm_is_the_equation_without_stabilizer() -> None:
    cell = make("slstm", 6)
    state, plain = cell.initial_state(B), (torch.zeros(B, 6).double(),) * 3
    for x in torch.randn(9, B, E, dtype=torch.float64):
        y, state = cell.step(x, state)
        plain = naive_slstm(cell, x, plain)
        torch.testing.assert_close(y, plain[0], **FLOAT64)
        assert (state.n >= 1).all()


def test_mlstm_and_gated_deltanet_are_their_equations() -> None:
    for name in ("mlstm", "gated-deltanet"):
        cell = cast(Any, make(name, 6))
        xs = torch.randn(9, 1, E, dtype=torch.float64)
        ys, _ = cell.unroll_fused(xs, cell.initial_state(1))
        memory, n = torch.zeros(6, 6).double(), torch.zeros(6).double()
        for t in range(len(xs)):
            window = torch.cat([xs.new_zeros(3, E), xs[: t + 1, 0]])[-4:]
            convolved = F.silu((window.T * cell.conv_weight).sum(1) + cell.conv_bias)
            q, k = (cell.weight_ih[:12] @ convolved + cell.bias[:12]).chunk(2)
            v, o = (cell.weight_ih[12:] @ xs[t, 0] + cell.bias[12:]).chunk(2)
            gates = cell.weight_gates @ xs[t, 0] + cell.bias_gates
            if name == "mlstm":
                f, i = torch.sigmoid(15 * torch.tanh(gates[0] / 15)), torch.exp(15 * torch.tanh(gates[1] / 15))
                k = k / 6**0.5
                memory, n = f * memory + i * torch.outer(k, v), f * n + i * k
                read = memory.T @ q / (n @ q).abs().clamp_min(1.0)
            else:
                a, b = torch.sigmoid(gates[0]), 2 * torch.sigmoid(gates[1])
                q, k = q / q.norm(), k / k.norm()
                memory = a * (torch.eye(6).double() - b * torch.outer(k, k)) @ memory + b * torch.outer(k, v)
                read = memory.T @ q
                read = read / (read.square().mean() + 1e-5).sqrt() * cell.norm_weight
            torch.testing.assert_close(ys[t, 0], torch.sigmoid(o) * read, **FLOAT64)


def test_linear_cells_are_their_equations() -> None:
    x, h = torch.randn(B, E, dtype=torch.float64), torch.randn(B, 6, dtype=torch.float64)
    for name in ("mingru", "minlstm", "rg-lru"):
        cell = make(name, 6)
        parts = F.linear(x, cell.weight_ih, cell.bias).chunk(cell.num_gates, -1)
        first, second = torch.sigmoid(parts[0]), torch.sigmoid(parts[1])
        if name == "mingru":
            expected = (1 - first) * h + first * parts[1]
        elif name == "minlstm":
            expected = (second * h + first * parts[2]) / (first + second)
        else:
            a = torch.sigmoid(cast(Tensor, cell.decay_logit)) ** (8 * first)
            expected = a * h + (1 - a**2).sqrt() * second * parts[2]
        torch.testing.assert_close(cell.step(x, cells.LinearState(h))[0], expected, **FLOAT64)


def test_mogrifier_modulates_in_turns_and_without_it_is_the_lstm() -> None:
    cell = cast(Any, make("mogrifier-lstm", 6))
    x, h = torch.randn(B, E, dtype=torch.float64), torch.randn(B, 6, dtype=torch.float64)
    mogrified_x, mogrified_h = x, h
    for index in range(5):
        if index % 2 == 0:
            mogrified_x = 2 * torch.sigmoid(mogrified_h @ cell.mogrifier_q[index // 2].T) * mogrified_x
        else:
            mogrified_h = 2 * torch.sigmoid(mogrified_x @ cell.mogrifier_r[index // 2].T) * mogrified_h
    state = cells.LSTMState(h, h)
    plain = cells.LSTMCell(E, 6).double()
    plain.load_state_dict({name: weight for name, weight in cell.state_dict().items() if "mogrifier" not in name})
    expected = plain.gate_activations(mogrified_x, mogrified_h)
    torch.testing.assert_close(cell.gate_activations(x, h), expected, **FLOAT64)
    with torch.no_grad():
        cell.mogrifier_q.zero_()
        cell.mogrifier_r.zero_()
    torch.testing.assert_close(cell.step(x, state), plain.step(x, state), **FLOAT64)


@pytest.mark.parametrize("name", FUSED)
def test_large_inputs_give_finite_outputs_and_gradients(name: str) -> None:
    cell = CELLS[name](E, 8)
    xs = (1e4 * torch.randn(40, B, E)).requires_grad_()
    ys, state = cell.unroll_fused(xs, cell.initial_state(B))
    ys.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    values = [ys, *state_tensors(state), *(weight.grad for weight in cell.parameters() if weight.grad is not None)]
    assert all(bool(value.isfinite().all()) for value in values)


def test_negative_eigenvalues_change_a_sign_and_positive_ones_cannot() -> None:
    for name, is_negative in (("gated-deltanet", True), ("gated-deltanet-positive", False)):
        cell = cast(Any, CELLS[name](E, 8).requires_grad_(False))
        cell.bias_gates[1] = 20.0  # the write at its strongest
        log_a, b = cell.log_gates(torch.zeros(1, E))
        assert (float(log_a.exp() * (1 - b)) < -0.9) == is_negative
        assert bool((cell.gate_activations(torch.randn(4, E), torch.zeros(4, 8))[1] <= 1).all())


def test_heads_divide_the_units() -> None:
    assert [num_heads(size) for size in (1, 6, 63, 64, 96, 127, 256, 512)] == [1, 1, 1, 2, 2, 1, 8, 16]


def test_a_second_bias_is_refused_where_there_is_no_place_for_it() -> None:
    with pytest.raises(UsageError, match="two_biases=True is for cells with a matrix W_h, and MinGRUCell has none"):
        CELLS["mingru"](E, H, True)


@pytest.mark.parametrize("name", CELLS)
def test_units_of_every_cell_are_clamped(name: str) -> None:
    stack = Stack([CELLS[name](8, 8), CELLS[name](8, 8)])
    xs = torch.randn(5, 2, 8)
    with torch.no_grad(), clamped(stack, [Clamp(1, 3, 0.25)]):
        ys, _ = stack.unroll(xs, stack.initial_state(2))
    assert (ys[:, :, 3] == 0.25).all()


@pytest.mark.parametrize("name", CELLS)
def test_gates_of_every_cell_are_arrays_of_its_units(name: str) -> None:
    cell = make(name, 6)
    gates = cell.gate_activations(torch.randn(4, 2, E, dtype=torch.float64), torch.randn(4, 2, 6, dtype=torch.float64))
    assert [gate.shape for gate in gates] == [(4, 2, 6)] * len(cell.gate_names)
    for gate_name, gate in zip(cell.gate_names, gates, strict=True):
        if gate_name in "ifozrab":
            assert ((gate >= 0) & (gate <= 1)).all()


@pytest.mark.parametrize("name", sorted(CELLS.keys() - CELL_STEPS.keys()))
def test_cells_without_a_step_of_the_runtime_write_by_torch(name: str) -> None:
    torch.manual_seed(2)
    model = RecurrentLM(5, ModelOptions(cell=cast(Any, name), hidden=16, layers=2)).eval()
    options = SampleOptions(length=12, count=2)
    samples = [sample.text for sample in generate(model, CharTokenizer(list("abcde")), options, seed=1)]
    assert [len(text) for text in samples] == [12, 12]
    assert samples[1] == next(generate(model, CharTokenizer(list("abcde")), SampleOptions(length=12), seed=2)).text
