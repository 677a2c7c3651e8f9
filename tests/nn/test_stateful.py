"""RNN, GRU and LSTM, the objects that keep their state: equations, shapes, dtypes, gradients, and their examples."""

import doctest

import numpy as np
import pytest
import torch

import unrolled
from unrolled.nn import stateful
from unrolled.nn.stateful import Stateful

CLASSES = [unrolled.RNN, unrolled.GRU, unrolled.LSTM]


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
    first, second = rnn.step(x), rnn.step(x)
    assert not np.allclose(first, second)
    fork = rnn.fork()
    np.testing.assert_array_equal(fork.step(x), rnn.fork().step(x))
    fork.step(x)
    np.testing.assert_array_equal(rnn.step(x), _third_output(rnn_class, x))  # not changed by the steps of the fork
    rnn.reset()
    np.testing.assert_array_equal(rnn.step(x), first)
    assert fork.W_hy is rnn.W_hy


def _third_output(rnn_class: type[Stateful], x: np.ndarray) -> np.ndarray:
    fresh = rnn_class(4, 3, 5, seed=3)
    return [fresh.step(x) for _ in range(3)][-1]


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
    results = doctest.testmod(stateful)
    assert results.failed == 0
    assert results.attempted >= 3 * len(CLASSES)
