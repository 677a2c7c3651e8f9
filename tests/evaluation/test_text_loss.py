"""Loss of a language model compared with a step-by-step loop: carried state in batch columns, windows, documents."""

import math

import numpy as np
import pytest
import torch

from unrolled.evaluation import text_loss as module
from unrolled.evaluation.text_loss import Evaluation, evaluate
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.text.tokenizer import Ids

V, END = 7, 6
CPU = DeviceConfig(torch.device("cpu"), torch.float32, 2)


@pytest.fixture(scope="module")
def model() -> RecurrentLM:
    torch.manual_seed(0)
    model = RecurrentLM(V, ModelOptions(hidden=12, dropout=0.5))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.7)
    return model


def text(size: int, seed: int = 0) -> Ids:
    return np.random.default_rng(seed).integers(0, END, size).astype(np.uint8)


def by_hand(model: RecurrentLM, ids: Ids, window: int | None = None, end: int | None = None) -> float:
    """Return the losses of a loop that reads one token at a time."""
    model.eval()
    state, total = model.initial_state(1), 0.0
    with torch.no_grad():
        for position, (symbol, target) in enumerate(zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True)):
            if (window and position % window == 0) or symbol == end:
                state = model.initial_state(1)
            logits, state = model.step(torch.tensor([symbol]), state)
            total -= float(logits.log_softmax(-1)[0, target])
    return total / (len(ids) - 1)


@pytest.mark.parametrize("size", [2, 3, 100, 257, 300])
def test_the_carried_state_is_that_of_single_steps(model: RecurrentLM, size: int) -> None:
    ids = text(size)
    result = evaluate(model, CPU, ids)
    assert result.num_tokens == size - 1
    assert result.context == "carried"
    assert result.nats == pytest.approx(by_hand(model, ids), abs=1e-5)


def test_batch_columns_agree_with_one_column(model: RecurrentLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_COLUMN_TOKENS", 200)
    monkeypatch.setattr(module, "WARMUP_TOKENS", 150)
    ids = text(1501)
    result = evaluate(model, CPU, ids)
    assert result.num_tokens == 1500
    assert result.nats == pytest.approx(by_hand(model, ids), abs=1e-4)


@pytest.mark.parametrize("window", [1, 5, 64, 300, 5000])
def test_windows_start_from_zero(model: RecurrentLM, window: int) -> None:
    ids = text(777)
    result = evaluate(model, CPU, ids, window=window)
    assert (result.num_tokens, result.context) == (776, f"window={window}")
    assert result.nats == pytest.approx(by_hand(model, ids, window=window), abs=1e-5)


@pytest.mark.parametrize("longest", [12, 10**6])
def test_documents_start_from_zero_as_rows_and_as_streams(model: RecurrentLM, longest: int) -> None:
    random = np.random.default_rng(1)
    documents = [[END], *([*random.integers(0, END, random.integers(1, 12)), END] for _ in range(60))]
    ids = np.concatenate(documents).astype(np.uint8)
    result = evaluate(model, CPU, ids, eos_id=END, max_document_length=longest)
    assert (result.num_tokens, result.context) == (len(ids) - 1, "document")
    assert result.nats == pytest.approx(by_hand(model, ids, end=END), abs=1e-5)


def test_a_limit_reads_evenly_spread_parts(model: RecurrentLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_COLUMN_TOKENS", 50)
    ids = text(20000)
    whole, part = evaluate(model, CPU, ids), evaluate(model, CPU, ids, max_tokens=2000)
    assert 1900 <= part.num_tokens <= 2000
    assert part.nats == pytest.approx(whole.nats, rel=0.1)


def test_evaluation_leaves_the_model_as_it_was(model: RecurrentLM) -> None:
    model.train()
    first, second = (evaluate(model, CPU, text(400)).nats for _ in range(2))
    assert first == second
    assert model.training


def test_bits_are_nats_by_ln_2() -> None:
    assert Evaluation(math.log(2), 1, 1, "").bits == pytest.approx(1.0)


def test_an_untrained_model_has_the_uniform_loss() -> None:
    model = RecurrentLM(V, ModelOptions(hidden=4))
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    assert evaluate(model, CPU, text(500)).nats == pytest.approx(math.log(V), rel=1e-5)


def test_one_token_is_too_few(model: RecurrentLM) -> None:
    with pytest.raises(ValueError, match="At least two tokens"):
        evaluate(model, CPU, text(1))
