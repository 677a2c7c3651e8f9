"""Dynamic evaluation: predicted first and learned from afterwards, in the order of the text; the model stays as it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.texts import sentences
from unrolled.errors import UsageError
from unrolled.evaluation import adaptation
from unrolled.evaluation.adaptation import SEGMENT_TOKENS, AdaptiveModel, adapt
from unrolled.evaluation.surprisal import SurprisalScorer
from unrolled.evaluation.text_loss import evaluate
from unrolled.generation.torch_model import TorchModel
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.text.tokenizer import CharTokenizer


@pytest.fixture(autouse=True)
def quick_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of a few units learn more slowly than those that the rate is for."""
    monkeypatch.setattr(adaptation, "LEARNING_RATE", 3e-4)


def small_network(vocab_size: int = 12) -> RecurrentLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RecurrentLM(vocab_size, ModelOptions(hidden=8, layers=2)).eval()


def repeated_ids(count: int = 300) -> Any:
    return np.tile(np.array([1, 5, 2, 7, 3, 0]), count // 6).astype(np.int64)


def test_it_learns_and_the_model_stays() -> None:
    network, ids = small_network(), repeated_ids(1200)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    fixed, adapted = evaluate(network, None, ids), evaluate(AdaptiveModel(network), None, ids, in_order=True)
    assert adapted.nats < fixed.nats - 0.05
    assert adapted.num_tokens == fixed.num_tokens == len(ids) - 1
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_a_segment_is_predicted_before_it_is_learned() -> None:
    network, ids = small_network(), repeated_ids()
    inputs, targets = ids[:-1, None], ids[1:, None]
    adaptive = AdaptiveModel(network)
    losses, _ = adaptive.token_losses(inputs, targets, adaptive.initial_state(1), None)
    fixed = TorchModel(network)
    with fixed.inference():
        expected, _ = fixed.token_losses(inputs, targets, fixed.initial_state(1), None)
    np.testing.assert_allclose(losses[:SEGMENT_TOKENS], expected[:SEGMENT_TOKENS], rtol=1e-5)
    assert (losses[SEGMENT_TOKENS:] != expected[SEGMENT_TOKENS:]).any()
    changed = targets.copy()
    changed[100:] = 11
    other = AdaptiveModel(network)
    again, _ = other.token_losses(inputs, changed, other.initial_state(1), None)
    np.testing.assert_array_equal(again[:96], losses[:96], err_msg="later targets change no earlier loss")


def test_several_rows_are_refused() -> None:
    adaptive = AdaptiveModel(small_network())
    with pytest.raises(ValueError, match="in one row; got 2"):
        adaptive.token_losses(np.zeros((3, 2), int), np.zeros((3, 2), int), adaptive.initial_state(2), None)


@pytest.mark.parametrize("has_eos", [False, True])
def test_blocks_of_a_text_are_one_text(has_eos: bool) -> None:
    tokenizer = CharTokenizer("\nabcdefghi", has_eos)
    network = small_network(tokenizer.vocab_size)
    code_points = tokenizer.code_points("abcab\nhgi\n" * 24)
    documents = "line" if has_eos else "none"
    size = SEGMENT_TOKENS * 5
    whole = SurprisalScorer(AdaptiveModel(network), tokenizer, documents, in_order=True)
    parts = SurprisalScorer(AdaptiveModel(network), tokenizer, documents, in_order=True)
    first = size + (not has_eos)  # blocks that end where a segment does
    pieces = [parts.score(block)[0] for block in (code_points[:first], code_points[first:])]
    np.testing.assert_allclose(np.concatenate(pieces), whole.score(code_points)[0], rtol=1e-5)


def test_adapt_learns_from_a_text() -> None:
    network, ids = small_network(), repeated_ids()
    assert evaluate(adapt(network, ids), None, ids).nats < evaluate(network, None, ids).nats - 0.01
    assert adapt(network, ids[:1]) is not network


@pytest.fixture
def run(book: Path) -> str:
    unrolled.train(book, hidden=8, layers=1, steps=10, bptt=8, batch=4, sample_length=0, out="run", threads=1, progress=False)
    Path("other.txt").write_text(sentences(40, seed=9).upper().replace("THE", "the"))
    return "run"


def test_commands(run: str, cli: Cli) -> None:
    content = Path("run/model.safetensors").read_bytes()
    both = json.loads(cli("eval", run, "other.txt", "--adapt", "--json").out)
    assert both["adapted_bits_per_character"] < both["bits_per_character"]
    assert "with --adapt, learning while it reads" in cli("eval", run, "other.txt", "--adapt").out
    plain = json.loads(cli("score", run, "other.txt", "--json").out)
    adapted = json.loads(cli("score", run, "other.txt", "--adapt", "--json").out)
    assert adapted["models"][0]["bits"] < plain["models"][0]["bits"]
    model = unrolled.load(run)
    text = Path("other.txt").read_text()
    assert model.score(text, adapt=True).bits_per_character < model.score(text).bits_per_character
    prompt = text[:500]
    assert model.sample(prompt, length=30, adapt=True) != model.sample(prompt, length=30)
    assert model.sample(prompt, length=30, adapt=True) == model.sample(prompt, length=30, adapt=True)
    assert Path("run/model.safetensors").read_bytes() == content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "run", "other.txt", "--adapt", "--window", "5"), "leave one of --adapt and --window out"),
        (("eval", "run", "other.txt", "--adapt", "--portable"), "leave one of --adapt and --portable out"),
        (("score", "run", "other.txt", "--adapt", "--clamp", "0.1"), "leave one of --adapt and --clamp out"),
        (("sample", "run", "--adapt"), "--adapt learns from the prompt, and there is none"),
    ],
)
def test_what_does_not_go_together(run: str, cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    result = cli(*arguments)
    assert result.code != 0
    assert message in result.err
    with pytest.raises(UsageError, match="leave one out"):
        unrolled.load(run).score("text", clamp=["0.1"], adapt=True)
