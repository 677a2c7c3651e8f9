"""The runtime computes what the networks of torch compute: every cell, kind of layer and clamp, by numpy and by the kernels."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from support.native import SETS, built
from unrolled.generation.torch_model import TorchModel, as_text_network
from unrolled.network_shapes import LINEAR_CELLS
from unrolled.nn.cells import CELLS, state_tensors
from unrolled.nn.kernels.extension import native_module, num_threads
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import ModelOptions
from unrolled.runtime import blas
from unrolled.runtime.language_model import LanguageModel, Mask, target_losses
from unrolled.runtime.native_model import CELL_KINDS, NativeModel, unsupported_reason
from unrolled.runtime.numpy_model import CELL_STEPS, LINEAR_TERMS, NumpyModel, ScanModel
from unrolled.text.batching import IGNORE_INDEX

VOCAB_SIZE = 11
KINDS: list[dict[str, Any]] = [
    {"residual": True},
    {"residual": True, "two_biases": True},
    {"residual": True, "embedding": 0},
    {"residual": False, "embedding": 0},
    {"residual": False, "embedding": 0, "two_biases": True},
    {"residual": False, "embedding": 7, "two_biases": True},
]
CLAMPS = [(), (Clamp(0, 3, 0.5), Clamp(1, 0, -1.0), Clamp(1, 16))]

pytestmark = pytest.mark.usefixtures("best_set_again")


def network(hidden: int = 17, **options: Any) -> RecurrentLM:
    torch.manual_seed(2)
    vocab_size = hidden if options.get("residual") and options.get("embedding") == 0 else VOCAB_SIZE
    model = RecurrentLM(vocab_size, ModelOptions(hidden=hidden, layers=2, dropout=0.3, **options)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    return model


def hold_equal(model: RecurrentLM, found: LanguageModel, clamps: Any = ()) -> None:
    """Hold logits and states of one unroll with resets, and of the single steps after it, equal to those of torch."""
    draw = np.random.default_rng(3)
    ids, reference = draw.integers(0, VOCAB_SIZE, (9, 5)), TorchModel(model, clamps=clamps)
    for resets in (None, draw.random((9, 5)) < 0.2):
        with reference.inference():
            expected_logits, expected_state = reference.unroll(ids, reference.initial_state(5), resets)
            logits, state = found.unroll(ids, found.initial_state(5), resets)
            hold_close(logits, expected_logits)
            for step_ids in ids[:3]:
                expected_logits, expected_state = reference.step(step_ids, expected_state)
                logits, state = found.step(step_ids, state)
                hold_close(logits, expected_logits)
        states = [part for layer in state for part in layer if part is not None]
        for part, expected in zip(states, state_tensors(expected_state), strict=True):
            hold_close(part, expected.numpy())


def hold_close(found: Any, expected: Any) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("clamps", CLAMPS, ids=["free", "clamped"])
@pytest.mark.parametrize(
    ("cell", "kind"),
    [(c, kind) for c, kind in itertools.product(CELL_STEPS, KINDS) if c not in LINEAR_CELLS or "two_biases" not in kind],
    ids=str,
)
def test_numpy_is_held_equal_to_torch(cell: str, kind: dict[str, Any], clamps: Any) -> None:
    model = network(cell=cell, **kind)
    hold_equal(model, NumpyModel(as_text_network(model), clamps), clamps)
    if cell in LINEAR_TERMS:
        hold_equal(model, ScanModel(as_text_network(model), clamps), clamps)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("cell", "kind"), [*itertools.product(CELL_KINDS, KINDS)], ids=str)
@built
def test_the_native_layers_are_held_equal_to_torch(cell: str, kind: dict[str, Any], name: str) -> None:
    native_module().set_isa(name)
    model = network(cell=cell, **kind)
    hold_equal(model, NativeModel(as_text_network(model)))
    hold_equal(model, NativeModel(as_text_network(model), CLAMPS[1]), CLAMPS[1])


def test_cells_that_the_runtime_and_the_native_layers_lack_are_refused_by_name() -> None:
    assert CELL_KINDS.keys() < CELL_STEPS.keys() < CELLS.keys()
    for name in CELLS.keys() - CELL_STEPS.keys():
        with pytest.raises(ValueError, match="only torch runs"):
            as_text_network(network(cell=name))
    arrays = as_text_network(network(cell="gru-reset-before"))
    if native_module() is not None:
        assert unsupported_reason(arrays) == "there is no native layer for the cell gru-reset-before"
    with pytest.raises(ValueError, match="cannot run this model"):
        NativeModel(arrays)


def test_a_row_does_not_depend_on_its_neighbors() -> None:
    model = NumpyModel(as_text_network(network(64)))
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, (6, 4))
    logits, _ = model.unroll(ids, model.initial_state(4))
    for row in range(4):
        others = np.random.default_rng(row + 1).integers(0, VOCAB_SIZE, (6, 4))
        place = (row + 1) % 4
        others[:, place] = ids[:, row]
        moved, _ = model.unroll(others, model.initial_state(4))
        assert np.array_equal(moved[:, place], logits[:, row])


@pytest.mark.parametrize("logit_scale", [None, 0.7])
def test_losses_and_derivatives_are_those_of_torch(logit_scale: float | None) -> None:
    model, draw = network(), np.random.default_rng(5)
    inputs, targets = draw.integers(0, VOCAB_SIZE, (8, 3)), draw.integers(0, VOCAB_SIZE, (8, 3))
    targets[5:, 1] = IGNORE_INDEX
    resets: Mask = draw.random((8, 3)) < 0.2
    reference, found = TorchModel(model), NumpyModel(as_text_network(model))
    with reference.inference():
        expected = reference.loss_sums(inputs, targets, reference.initial_state(3), resets, logit_scale)
        token_losses, _ = reference.token_losses(inputs, abs(targets), reference.initial_state(3), resets)
    sums = found.loss_sums(inputs, targets, found.initial_state(3), resets, logit_scale)
    np.testing.assert_allclose(sums[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(sums[1], expected[1], rtol=1e-4, atol=1e-4)
    assert (sums[1] == (0.0, 0.0)) is (logit_scale is None)
    np.testing.assert_allclose(
        found.token_losses(inputs, abs(targets), found.initial_state(3), resets)[0], token_losses, atol=1e-5
    )


def test_losses_of_large_logits_are_finite() -> None:
    losses = target_losses(np.array([[1e4, -1e4, 0.0]], np.float32), np.array([1]))
    assert losses.tolist() == [2e4]


def test_a_weight_that_changes_is_seen() -> None:
    model = network()
    arrays = as_text_network(model)
    assert as_text_network(model) is arrays, "the same object as long as nothing changes"
    with torch.no_grad():
        model.head.weight.neg_()
    assert as_text_network(model) is not arrays
    assert np.array_equal(as_text_network(model).head_weight, model.head.weight.detach().numpy())


def test_the_threads_of_numpys_products_are_set_for_a_while_only() -> None:
    functions = blas._functions()
    if functions is None:  # another library than OpenBLAS: nothing is changed
        with blas.blas_threads(1):
            return
    before = functions[0]()
    with blas.blas_threads(1):
        assert functions[0]() == 1
    assert functions[0]() == before
    with NumpyModel(as_text_network(network())).inference():
        assert functions[0]() == num_threads()
    assert functions[0]() == before
