"""RNN, GRU and LSTM, the objects that keep their state: equations, shapes, dtypes, gradients, and their examples."""

import doctest
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from unrolled.network_shapes import HARD_SIGMOID_CELLS
from unrolled.nn import stateful
from unrolled.nn.cells import CELLS
from unrolled.nn.stateful import Stateful

CLASSES = [kind for kind in Stateful.__subclasses__() if kind.__module__ == stateful.__name__]
OTHERS = [kind for kind in CLASSES if kind not in (unrolled.RNN, unrolled.GRU, unrolled.LSTM)]


def test_rnn_is_the_equation_of_the_blog_post() -> None:
    rnn = unrolled.RNN(4, 3, 5, seed=1)
    weights = {name: p.detach().numpy().astype(np.float64) for name, p in rnn.named_parameters()}
    assert {name: w.shape for name, w in weights.items()} == {"W_xh": (3, 4), "W_hh": (3, 3), "W_hy": (5, 3)}
    h = np.zeros(3)
    for x in np.random.default_rng(0).normal(size=(6, 4)):
        h = np.tanh(np.dot(weights["W_hh"], h) + np.dot(weights["W_xh"], x))
        np.testing.assert_allclose(rnn.step(x), np.dot(weights["W_hy"], h), rtol=1e-4, atol=1e-6)
    assert rnn.state is not None
    assert abs(rnn.state.h).max() <= 1


@pytest.mark.parametrize("rnn_class", CLASSES)
def test_outputs_have_the_type_of_the_inputs(rnn_class: type[Stateful]) -> None:
    x = np.ones(4)
    y = rnn_class(4, 3, 5).step(x)
    assert isinstance(y, np.ndarray)
    assert y.shape == (5,)
    assert y.dtype == np.dtype(np.float64)
    batch = rnn_class(4, 3, 5).step(torch.ones(2, 4))
    assert isinstance(batch, torch.Tensor)
    assert batch.shape == (2, 5)
    assert batch.requires_grad
    assert rnn_class(4, 3, 5).step(np.ones((2, 4), np.int64)).dtype == np.float32


@pytest.mark.parametrize("rnn_class", CLASSES)
def test_rows_of_a_batch_are_independent(rnn_class: type[Stateful]) -> None:
    rnn = rnn_class(4, 3, 5, seed=2)
    xs = np.random.default_rng(1).normal(size=(6, 2, 4))
    together = [rnn.step(x) for x in xs]
    for row in range(2):
        rnn.reset()
        np.testing.assert_allclose([rnn.step(x[row]) for x in xs], [y[row] for y in together], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rnn_class", CLASSES)
def test_the_state_is_kept_reset_and_forked(rnn_class: type[Stateful]) -> None:
    rnn = rnn_class(4, 3, 5, seed=3)
    x = np.ones(4)
    first, _ = rnn.step(x), rnn.step(-x)
    assert not np.allclose(first, rnn.fork().step(x))  # a third step; an mLSTM reads a constant input as it is
    fork = rnn.fork()
    np.testing.assert_array_equal(fork.step(x), rnn.fork().step(x))
    fork.step(x)
    np.testing.assert_array_equal(rnn.step(x), _third_output(rnn_class, x))  # not changed by the steps of the fork
    rnn.reset()
    np.testing.assert_array_equal(rnn.step(x), first)
    assert fork.W_hy is rnn.W_hy


def _third_output(rnn_class: type[Stateful], x: np.ndarray) -> np.ndarray:
    fresh = rnn_class(4, 3, 5, seed=3)
    return [fresh.step(each) for each in (x, -x, x)][-1]


def test_objects_stack() -> None:
    rnn1, rnn2 = unrolled.RNN(4, 3, 6, seed=1), unrolled.LSTM(6, 7, 2, seed=2)
    assert rnn2.step(rnn1.step(np.ones(4))).shape == (2,)


def test_wrong_shapes_and_sizes_are_refused() -> None:
    rnn = unrolled.RNN(4, 3, 5)
    with pytest.raises(ValueError, match=r"takes \(4,\) or \(B, 4\); got \(3,\)"):
        rnn.step(np.ones(3))
    rnn.step(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"batch size of 2 and x of 3: call reset"):
        rnn.step(np.ones((3, 4)))
    with pytest.raises(ValueError, match="hidden_size must be"):
        unrolled.LSTM(4, 0, 5)


def test_gradients_flow_back_to_the_last_detach() -> None:
    rnn = unrolled.RNN(4, 3, 5, seed=1)
    early = torch.ones(4, requires_grad=True)
    rnn.step(early)
    rnn.step(torch.ones(4)).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert early.grad is not None
    assert early.grad.any()
    late = torch.ones(4, requires_grad=True)
    rnn.reset()
    rnn.step(late)
    rnn.detach()
    rnn.step(torch.ones(4)).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert late.grad is None


@pytest.mark.parametrize("rnn_class", CLASSES)
def test_initial_weights_are_random_and_repeat_by_seed(rnn_class: type[Stateful]) -> None:
    one, same, other = (dict(rnn_class(4, 3, 5, seed=seed).named_parameters()) for seed in (1, 1, 2))
    for name, weight in one.items():
        assert torch.equal(weight, same[name])
        if weight.dim() == 2:
            assert not torch.equal(weight, other[name])
            assert weight.std() > 0.1


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(stateful)
    assert (result.failed, result.attempted >= 20) == (0, True)


def test_every_cell_has_an_object_that_keeps_its_state() -> None:
    """But for variants of a cell, which `cell_class` of a subclass makes."""
    variants = {CELLS[name] for name in ("gru-reset-before", "gated-deltanet-positive", *HARD_SIGMOID_CELLS.values())}
    assert {cls.cell_class for cls in OTHERS} | {CELLS[name] for name in ("rnn", "gru", "lstm")} == {*CELLS.values()} - variants
    assert {cls.__name__ for cls in OTHERS} <= set(unrolled.__all__)


@pytest.mark.parametrize("rnn_class", OTHERS)
def test_parts_of_the_state_that_a_cell_lacks_are_refused(rnn_class: type[Stateful]) -> None:
    rnn = rnn_class(4, 8, 3, seed=1)
    rnn.step(np.ones(4))
    assert rnn.state is not None
    if "h" in rnn.state._fields:
        kept = rnn.h
        rnn.h = np.zeros(8)
        assert kept.any()
        assert not rnn.h.any()
    else:
        with pytest.raises(ValueError, match=f"The state of {rnn_class.__name__} has no h: its parts are"):
            _ = rnn.h
        with pytest.raises(ValueError, match="has no h"):
            rnn.h = np.zeros(8)


class PostRNN(unrolled.RNN):
    """The step as the blog post writes it: in numpy, with the object's own names."""

    def step(self, x: Any) -> Any:
        self.h = np.tanh(np.dot(self.W_hh, self.h) + np.dot(self.W_xh, x))
        return np.dot(self.W_hy, self.h)


def test_the_class_of_the_post_as_written() -> None:
    written, own = PostRNN(4, 8, 3, seed=1), unrolled.RNN(4, 8, 3, seed=1)
    for x in np.random.default_rng(0).normal(size=(5, 4)):
        np.testing.assert_allclose(written.step(x), own.step(x), atol=1e-5)
        np.testing.assert_allclose(written.h, own.h, atol=1e-5)


NUMPY_FUNCTIONS: list[Callable[[Any], Any]] = [
    np.tanh, np.sum, np.mean, np.max, np.std, np.argmax, np.abs, np.transpose, np.asarray, np.zeros_like, np.linalg.norm,
    lambda w: np.dot(w, np.ones(8)), lambda w: np.matmul(w, np.ones(8)), lambda w: np.einsum("ij,j->i", w, np.ones(8)),
    lambda w: np.clip(w, -1, 1), lambda w: np.concatenate([w, w]), lambda w: np.add(w, w), lambda w: w @ np.ones(8, np.float32),
]  # fmt: skip


@pytest.mark.parametrize("function", NUMPY_FUNCTIONS)
def test_matrices_are_arrays_to_numpy(function: Callable[[Any], Any]) -> None:
    matrix = unrolled.RNN(4, 8, 3, seed=1).W_hh
    result, expected = function(matrix), function(matrix.detach().numpy())
    assert type(result) is type(expected)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("rnn_class", [unrolled.RNN, unrolled.GRU, unrolled.LSTM])
def test_the_state_is_read_and_set_by_its_name(rnn_class: type[Stateful]) -> None:
    rnn = rnn_class(4, 8, 3, seed=1)
    for name in ("h", "c") if rnn_class is unrolled.LSTM else ("h",):
        rnn.reset()
        assert not getattr(rnn, name).any()
        rnn.step(np.ones(4))
        kept = getattr(rnn, name)
        assert (type(kept), kept.shape) == (np.ndarray, (8,))
        setattr(rnn, name, np.zeros(8))
        assert not getattr(rnn, name).any()
        with pytest.raises(ValueError, match=rf"{name} is \(8,\) or \(B, 8\); got \(7,\)"):
            setattr(rnn, name, np.zeros(7))
        rnn.reset()
        rnn.step(torch.ones(2, 4))
        assert isinstance(getattr(rnn, name), torch.Tensor)
        assert getattr(rnn, name).shape == (2, 8)
    assert repr(rnn) == f"unrolled.{rnn_class.__name__}(input_size=4, hidden_size=8, output_size=3)"


def test_a_matrix_is_set_from_an_array() -> None:
    rnn = unrolled.RNN(4, 8, 3, seed=1)
    rnn.W_hh = np.zeros((8, 8))  # type: ignore[assignment]
    assert (type(rnn.W_hh), bool(rnn.W_hh.any())) == (stateful.Matrix, False)
    assert [name for name, _ in rnn.named_parameters()] == ["W_xh", "W_hh", "W_hy"]
    with pytest.raises(ValueError, match=r"W_hh is \(8, 8\); got \(8, 4\)"):
        rnn.W_hh = np.zeros((8, 4))  # type: ignore[assignment]
