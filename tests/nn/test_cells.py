"""Cells and kernels: steps, chunks and fused layers agree in outputs and gradients; the equations are those of torch.nn."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.native import built
from unrolled.errors import UsageError
from unrolled.nn.cells import (
    CELLS,
    EmbeddingLookup,
    GatedCell,
    GRUState,
    Inputs,
    LSTMCell,
    LSTMState,
    SLSTMState,
    map_state,
    state_tensors,
    to_dense,
    unroll_by_step,
)
from unrolled.nn.device import DeviceConfig
from unrolled.nn.kernels import linear_cross_entropy, native
from unrolled.nn.kernels.select import (
    KERNELS,
    available_kernels,
    choose_kernel,
    find_mismatch,
    relative_error,
    set_kernel,
    unsupported_reason,
)
from unrolled.nn.language_model import RecurrentLM, parameter_count
from unrolled.nn.stack import LockedDropout, Stack
from unrolled.options import PRESETS, MachineOptions, ModelOptions, TrainingOptions

T, B, E, H, V = 7, 3, 5, 6, 11
BIASES = [(name, two) for name, cell in CELLS.items() for two in (False, True) if cell.has_recurrent_weights or not two]
"""Every cell, with one bias and, where it has a place for a second one, with two."""

FLOAT64: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}


def make(cell: str, two_biases: bool = False) -> GatedCell:
    torch.manual_seed(1)
    cell_module = CELLS[cell](E, H, two_biases).double()
    with torch.no_grad():
        for weight in cell_module.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return cell_module


def inputs(cell: GatedCell, grad: bool = False) -> tuple[Tensor, Any]:
    torch.manual_seed(2)
    state = map_state(lambda s: torch.randn(s.shape, dtype=torch.float64), cell.initial_state(B))
    if isinstance(state, SLSTMState):
        state = state._replace(n=state.n.abs() + 1)  # a normalizer is never below one
    state = map_state(lambda s: s.requires_grad_(grad), state)
    return torch.randn(T, B, E, dtype=torch.float64, requires_grad=grad), state


def some_resets() -> Tensor:
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 2] = resets[3, 0] = resets[3, 1] = resets[6, 1] = True
    return resets


def outputs_and_gradients(cell: GatedCell, kernel: Any, resets: Tensor | None) -> list[Tensor]:
    """Return outputs, last state, and the gradients of inputs, first state and weights, of a loss that uses all of them."""
    xs, state = inputs(cell, grad=True)
    ys, last = kernel(cell, xs, state, resets)
    weights = torch.linspace(-1, 1, ys.numel(), dtype=ys.dtype).view_as(ys)
    loss = (ys * weights).sum() + sum(tensor.sin().sum() for tensor in state_tensors(last))
    grads = torch.autograd.grad(loss, [xs, *state_tensors(state), *cell.parameters()])
    return [ys, *state_tensors(last), *grads]


@pytest.mark.parametrize(("cell", "two_biases"), BIASES)
def test_a_sequence_equals_its_chunks_and_its_steps(cell: str, two_biases: bool) -> None:
    cell_module = make(cell, two_biases)
    xs, state = inputs(cell_module)
    whole, last = cell_module.unroll(xs, state)
    first, middle = cell_module.unroll(xs[:3], state)
    second, end = cell_module.unroll(xs[3:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=0)
    torch.testing.assert_close(state_tensors(end), state_tensors(last), rtol=0, atol=0)
    for t in range(T):
        y, state = cell_module.step(xs[t], state)
        torch.testing.assert_close(y, whole[t], rtol=0, atol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_rows_are_independent(cell: str) -> None:
    cell_module = make(cell)
    xs, state = inputs(cell_module)
    whole, _ = cell_module.unroll(xs, state)
    for row in range(B):
        alone, _ = cell_module.unroll(xs[:, row : row + 1], map_state(lambda s, row=row: s[row : row + 1], state))
        torch.testing.assert_close(alone[:, 0], whole[:, row], **FLOAT64)


@pytest.mark.parametrize("cell", CELLS)
def test_a_reset_is_the_zero_state(cell: str) -> None:
    cell_module = make(cell)
    xs, state = inputs(cell_module)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[3, 1] = True
    ys, _ = cell_module.unroll(xs, state, resets)
    fresh, _ = cell_module.unroll(xs[3:], cell_module.initial_state(B))
    torch.testing.assert_close(ys[3:, 1], fresh[:, 1], **FLOAT64)
    without, _ = cell_module.unroll(xs, state)
    torch.testing.assert_close(ys[:, 0], without[:, 0], **FLOAT64)


@pytest.mark.parametrize("resets", [None, some_resets()], ids=["no resets", "resets"])
@pytest.mark.parametrize(("cell", "two_biases"), BIASES)
def test_torch_layers_equal_the_reference_in_outputs_and_gradients(cell: str, two_biases: bool, resets: Tensor | None) -> None:
    cell_module = make(cell, two_biases)
    if unsupported_reason("torch", cell_module):
        with pytest.raises(ValueError, match="no fused layer"):
            KERNELS["torch"](cell_module, *inputs(cell_module), resets)
    else:
        expected = outputs_and_gradients(cell_module, unroll_by_step, resets)
        torch.testing.assert_close(outputs_and_gradients(cell_module, KERNELS["torch"], resets), expected, **FLOAT64)


@pytest.mark.parametrize("cell", CELLS)
def test_native_refuses_float64(cell: str) -> None:
    """It has float32 and bfloat16 only; tests/native/test_native_layer.py compares it with the definition there."""
    cell_module = make(cell)
    with pytest.raises(ValueError, match="The native kernel cannot unroll this cell"):
        KERNELS["native"](cell_module, *inputs(cell_module), None)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_torch_layers_in_bfloat16_are_near_the_reference(cell: str) -> None:
    torch.manual_seed(0)
    model = RecurrentLM(V, ModelOptions(cell=cell, hidden=96, dropout=0))  # type: ignore[arg-type]  # a key of CELLS
    ids = torch.randint(V, (20, 4))
    found = []
    for kernel, dtype in (("reference", torch.float32), ("torch", torch.bfloat16)):
        set_kernel(model, kernel)
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            logits, state = model(ids, model.initial_state(4))
        logits.float().square().mean().backward()
        assert all(tensor.dtype == torch.float32 for tensor in state_tensors(state))
        found.append([weight.grad.clone() for weight in model.parameters() if weight.grad is not None])
    for exact, rough in zip(*found, strict=True):
        assert (exact - rough).norm() <= 0.05 * exact.norm()


@pytest.mark.parametrize("rows", [2, 40])
@pytest.mark.parametrize(("kernel", "cell"), [(k, c) for k in KERNELS for c in CELLS if not unsupported_reason(k, make(c))])
def test_an_embedding_lookup_equals_dense_inputs(kernel: str, cell: str, rows: int) -> None:
    cell_module = make(cell)
    torch.manual_seed(3)
    table = torch.randn(rows, E, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(rows, (T, B))
    found = []
    for xs, run in ((EmbeddingLookup(ids, table).to_dense(), unroll_by_step), (EmbeddingLookup(ids, table), KERNELS[kernel])):
        ys, last = run(cell_module, xs, cell_module.initial_state(B), some_resets())
        loss = (ys * torch.linspace(-1, 1, ys.numel(), dtype=ys.dtype).view_as(ys)).sum()
        found.append([ys, *state_tensors(last), *torch.autograd.grad(loss, [table, *cell_module.parameters()])])
    torch.testing.assert_close(found[1], found[0], **FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["native", "torch"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_verification_accepts_correct_layers(cell: str, kernel: str, dtype: torch.dtype) -> None:
    model = RecurrentLM(V, ModelOptions(cell=cell, hidden=96))  # type: ignore[arg-type]  # a key of CELLS
    if kernel in available_kernels(model, dtype):
        assert find_mismatch(model, kernel, dtype, batch_size=4, steps=64) is None


@pytest.mark.parametrize(("cell", "size"), [("lstm", 1024), pytest.param("lstm", 2048, marks=pytest.mark.long)])
def test_verification_rejects_exactly_the_wrong_layers_of_torch(cell: str, size: int) -> None:
    """torch 2.13's bfloat16 LSTM is wrong at multiples of 1024 on some CPUs; verification must agree with this one."""
    cell_module = CELLS[cell](64, size)
    error = relative_error(cell_module, "torch", torch.bfloat16, batch_size=16, steps=4)
    model = RecurrentLM(V, ModelOptions(hidden=size, layers=1, embedding=64, residual=False))
    assert (find_mismatch(model, "torch", torch.bfloat16, 16, 4) is None) == (error < 0.05)
    assert find_mismatch(model, "torch", torch.float32, 16, 4) is None


def wrong_in(dtypes: set[torch.dtype]) -> Any:
    """Return a kernel with correct outputs whose gradients are a third too large in some dtypes."""

    def unroll(cell: Any, xs: Tensor, state: Any, resets: Tensor | None = None) -> Any:
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        ys, last = unroll_by_step(cell, xs, state, resets)
        return (ys + (ys - ys.detach()) / 3 if dtype in dtypes else ys), last

    return unroll


def residual(unroll: Any) -> Any:
    """Return the kernel of a residual layer cell_module from the kernel of a cell."""

    def run(cell: Any, xs: Inputs, norm: nn.LayerNorm, mask: Tensor | None, state: Any, resets: Tensor | None = None) -> Any:
        below = to_dense(xs)
        ys, last = unroll(cell, norm(below), state, resets)
        return below + ys, last

    return run


@built
def test_wrong_gradients_of_the_loss_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RecurrentLM(V, ModelOptions(hidden=8))
    assert find_mismatch(model, "native", torch.float32, 4, 4) is None
    right = linear_cross_entropy.loss
    monkeypatch.setattr(linear_cross_entropy, "loss", lambda ys, *rest: right(ys, *rest) + 0.1 * ys.square().mean())
    assert "native float32 loss has wrong gradients here" in (find_mismatch(model, "native", torch.float32, 4, 4) or "")


def test_kernels_with_wrong_gradients_are_not_trained_with(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "unrolled")
    model = RecurrentLM(V, ModelOptions(hidden=8, cell="gru"))
    machine = DeviceConfig(torch.device("cpu"), torch.bfloat16, 1)
    fused = [name for name in ("native", "torch") if not unsupported_reason(name, model.cells()[0])]

    def break_kernels(names: list[str], *dtypes: torch.dtype) -> None:
        for name in names:
            monkeypatch.setitem(KERNELS, name, wrong_in(set(dtypes)))
        if "native" in names:
            monkeypatch.setattr(native, "unroll_residual", residual(wrong_in(set(dtypes))))

    if "native" in fused and native.has_bfloat16():
        break_kernels(["native"], torch.bfloat16)
        chosen, kernels = choose_kernel(model, machine, MachineOptions(), TrainingOptions())
        assert (chosen.dtype, kernels) == (torch.bfloat16, "torch")
        assert "torch kernels, because the native bfloat16 layers" in caplog.messages[-1]
    break_kernels(fused, torch.bfloat16)
    chosen, kernels = choose_kernel(model, machine, MachineOptions(), TrainingOptions())
    assert (chosen.dtype, kernels) == (torch.float32, fused[0])
    assert "float32, because torch's bfloat16 layers" in caplog.messages[-1]
    assert choose_kernel(model, machine, MachineOptions())[0].dtype == torch.bfloat16  # outputs are correct
    break_kernels(fused, torch.bfloat16, torch.float32)
    _, kernels = choose_kernel(model, machine, MachineOptions(), TrainingOptions())
    assert kernels == "reference"
    assert "reference kernel" in caplog.messages[-1]
    with pytest.raises(UsageError, match=r"wrong gradients here with 8 units: ([6-9]|[1-9][0-9])% off"):
        choose_kernel(model, machine, MachineOptions(kernels="torch"), TrainingOptions())


def test_an_lstm_is_not_given_to_torch_in_bfloat16_unasked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "unrolled")
    monkeypatch.setattr(native, "has_bfloat16", lambda: False)
    machine = DeviceConfig(torch.device("cpu"), torch.bfloat16, 1)
    lstm, gru = (RecurrentLM(V, ModelOptions(hidden=8, cell=cell)) for cell in ("lstm", "gru"))
    assert choose_kernel(lstm, machine, MachineOptions())[0].dtype == torch.float32
    assert caplog.messages[-1] == "float32, because torch's LSTM layer rounds its cell state to bfloat16"
    asked = choose_kernel(lstm, machine, MachineOptions(precision="bfloat16"))
    assert (asked[0].dtype, asked[1]) == (torch.bfloat16, "torch")
    assert choose_kernel(gru, machine, MachineOptions())[0].dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_equal_numerical_gradients(cell: str) -> None:
    cell_module = make(cell)
    xs, state = inputs(cell_module, grad=True)

    def run(xs: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        ys, last = cell_module.unroll(xs, type(cell_module.initial_state(1))(*state), some_resets()[:4])
        return (ys, *state_tensors(last))

    assert torch.autograd.gradcheck(run, (xs[:4].detach().requires_grad_(), *state_tensors(state)))


@pytest.mark.parametrize(("cell", "kind"), [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_cells_with_two_biases_equal_torch_nn(cell: str, kind: Any) -> None:
    cell_module = make(cell, two_biases=True)
    torch_layer = kind(E, H).double()
    assert cell_module.bias_hh is not None
    with torch.no_grad():
        for parameter, torch_parameter in zip(
            (cell_module.weight_ih, cell_module.weight_hh, cell_module.bias, cell_module.bias_hh),
            torch_layer.parameters(),
            strict=True,
        ):
            torch_parameter.copy_(parameter)
    xs, state = inputs(cell_module)
    hidden = tuple(s.unsqueeze(0) for s in state)
    expected, _ = torch_layer(xs, hidden if cell == "lstm" else hidden[0])
    torch.testing.assert_close(cell_module.unroll(xs, state)[0], expected, **FLOAT64)


def test_gru_reset_before_is_the_published_equation() -> None:
    cell = make("gru-reset-before")
    xs, state = inputs(cell)
    x, h = xs[0], state.h
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = (m.chunk(3) for m in (cell.weight_ih, cell.weight_hh, cell.bias))
    r, z = torch.sigmoid(x @ wr.T + h @ ur.T + br), torch.sigmoid(x @ wz.T + h @ uz.T + bz)
    n = torch.tanh(x @ wn.T + (r * h) @ un.T + bn)
    torch.testing.assert_close(cell.step(x, GRUState(h))[0], (1 - z) * n + z * h, **FLOAT64)
    after = make("gru")
    assert not torch.allclose(after.step(x, GRUState(h))[0], cell.step(x, GRUState(h))[0])


def test_the_forget_gate_bias_starts_at_one() -> None:
    for initialization in ("scaled", "uniform"):
        model = RecurrentLM(V, ModelOptions(hidden=H, initialization=initialization, residual=False))
        for layer in model.stack.layer_list():
            bias = layer.cell.bias
            assert isinstance(bias, Tensor)
            assert (bias[H : 2 * H] == 1).all()
            assert (bias[:H].abs() < 0.5).all()


def test_initial_states_are_named_and_zero() -> None:
    state = LSTMCell(E, H).initial_state(B)
    assert isinstance(state, LSTMState)
    assert state.h.shape == state.c.shape == (B, H)
    assert not state.c.any()


@pytest.mark.parametrize(
    "options",
    [
        ModelOptions(hidden=H),
        ModelOptions(cell="gru", hidden=H, layers=3, two_biases=True),
        ModelOptions(cell="rnn", hidden=H, embedding=4, residual=False),
        ModelOptions(cell="gru-reset-before", hidden=H, embedding=0, residual=False),
    ],
)
def test_parameter_count_counts_the_parameters(options: ModelOptions) -> None:
    model = RecurrentLM(V, options)
    assert sum(weight.numel() for weight in model.parameters()) == parameter_count(V, options)


def test_the_char_rnn_preset_has_the_model_of_char_rnn() -> None:
    names = ModelOptions.__dataclass_fields__
    options = ModelOptions(**{name: value for name, value in PRESETS["char-rnn"].items() if name in names})
    assert parameter_count(65, options) == 240_321
    model = RecurrentLM(65, options)
    assert all(weight.abs().max() <= 1 for weight in model.parameters())
    assert model.embedding(torch.tensor([[3]])).sum() == 1


def test_a_residual_layer_adds_its_input() -> None:
    torch.manual_seed(0)
    plain = Stack([LSTMCell(H, H)], residual=False)
    residual = Stack([LSTMCell(H, H)], residual=True)
    residual.layer_list()[0].cell.load_state_dict(plain.layer_list()[0].cell.state_dict())
    xs = torch.randn(T, B, H)
    normed = nn.functional.layer_norm(xs, (H,))
    expected = xs + plain.unroll(normed, plain.initial_state(B))[0]
    torch.testing.assert_close(residual.unroll(xs, residual.initial_state(B))[0], expected)


def test_locked_dropout_has_one_mask_over_time_and_repeats_by_seed() -> None:
    dropout = LockedDropout(0.5)
    dropout.generator = torch.Generator().manual_seed(3)
    ys = dropout(torch.ones(T, B, 100))
    assert set(ys.unique().tolist()) == {0.0, 2.0}
    assert (ys == ys[0]).all()
    assert not (ys[0, 0] == ys[0, 1]).all()
    dropout.generator.manual_seed(3)
    assert (dropout(torch.ones(T, B, 100)) == ys).all()
    assert (dropout.eval()(torch.ones(T, B, 4)) == 1).all()


def test_wrong_shapes_are_refused() -> None:
    cell = make("lstm")
    with pytest.raises(ValueError, match=r"\(T, B, 5\), time first; got \(7, 3, 4\)"):
        cell.unroll(torch.zeros(7, 3, 4), cell.initial_state(3))
    with pytest.raises(ValueError, match=r"resets must be"):
        cell.unroll(*inputs(cell), resets=torch.zeros(B, T, dtype=torch.bool))


@pytest.mark.parametrize("embedding", [None, 0])
def test_dropped_tokens_have_a_zero_vector_and_repeat_by_seed(embedding: int | None) -> None:
    options = ModelOptions(hidden=8, token_dropout=0.4, dropout=0, embedding=embedding, residual=embedding is None)
    model = RecurrentLM(V, options).train()
    ids = torch.randint(V, (50, 40))
    found = []
    for seed in (1, 1, 2):
        model.seed_dropout(seed)
        hidden, table = model.token_dropout(ids, model.embedding_matrix())
        found.append(hidden)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert 0.35 < (found[0] == V).float().mean() < 0.45
    assert torch.equal(found[0][found[0] < V], ids[found[0] < V])
    assert table[V].abs().sum() == 0
    torch.testing.assert_close(table[:V] * 0.6, model.embedding_matrix())
    model.eval()
    assert model.token_dropout(ids, model.embedding_matrix())[0] is ids
    torch.testing.assert_close(model(ids, model.initial_state(40))[0][0], model.step(ids[0], model.initial_state(40))[0])
