"""Sampling: logits processors, draws, one text per seed in any batch, stop strings, and the ends of documents."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from unrolled.generation.random_streams import PhiloxStreams
from unrolled.generation.sampling import (
    LOGITS_PROCESSORS,
    REFERENCE_BATCH,
    Doubles,
    apply_min_p,
    apply_temperature,
    apply_top_k,
    apply_top_p,
    encode_prompt,
    generate,
    reference_model,
    sample_token,
    stream_text,
)
from unrolled.generation.torch_model import TorchModel
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, SampleOptions
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

LETTERS = "\n abcdeABC\u00e9"


def network(tokenizer: Tokenizer, seed: int = 0) -> RecurrentLM:
    torch.manual_seed(seed)
    model = RecurrentLM(tokenizer.vocab_size, ModelOptions(hidden=10, dropout=0.3)).eval()
    with torch.no_grad():
        model.head.weight.mul_(3)
    return model


def log_probs(*probabilities: float) -> Doubles:
    with np.errstate(divide="ignore"):
        logits: Doubles = np.log(np.array([probabilities]))
    return logits


def kept_ids(logits: Doubles) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.isfinite(logits[0]))]


def test_processors_keep_the_right_tokens() -> None:
    logits = log_probs(0.1, 0.4, 0.2, 0.3)
    assert kept_ids(apply_top_k(logits, SampleOptions(top_k=2))) == [1, 3]
    assert kept_ids(apply_top_k(logits, SampleOptions(top_k=0))) == [0, 1, 2, 3]
    assert kept_ids(apply_top_k(log_probs(0.25, 0.25, 0.25, 0.25), SampleOptions(top_k=3))).__len__() == 3
    assert kept_ids(apply_top_p(logits, SampleOptions(top_p=0.7))) == [1, 3]
    assert kept_ids(apply_top_p(logits, SampleOptions(top_p=0.71))) == [1, 2, 3]
    assert kept_ids(apply_top_p(logits, SampleOptions(top_p=1e-9))) == [1]
    assert kept_ids(apply_min_p(logits, SampleOptions(min_p=0.5))) == [1, 2, 3]
    assert kept_ids(apply_min_p(logits, SampleOptions(min_p=1.0))) == [1]
    assert kept_ids(apply_temperature(logits, SampleOptions(temperature=0))) == [1]
    assert apply_temperature(logits, SampleOptions(temperature=0.5))[0].tolist() == pytest.approx((2 * logits[0]).tolist())
    assert [f.__name__ for f in LOGITS_PROCESSORS] == ["apply_temperature", "apply_top_k", "apply_top_p", "apply_min_p"]


def test_draws_follow_the_probabilities_and_never_take_probability_zero() -> None:
    logits = np.repeat(log_probs(0.0, 0.5, 0.0, 0.3, 0.2, 0.0), 20000, axis=0)
    numbers = np.random.default_rng(0).random(20000)
    counts = np.bincount(sample_token(logits, numbers, SampleOptions()), minlength=6) / 20000
    assert counts.tolist() == pytest.approx([0, 0.5, 0, 0.3, 0.2, 0], abs=0.02)
    quarters = np.array([[-np.inf, 0, -np.inf, 0, 0, 0, -np.inf]] * 4)  # exactly 0.25 each in any softmax
    edges = np.array([0.0, 0.25, 0.5, 1 - 1e-16])
    assert sample_token(quarters, edges, SampleOptions()).tolist() == [1, 3, 4, 5]


def test_random_numbers_are_keyed_by_seed_and_position() -> None:
    one, other = PhiloxStreams([5, 6]), PhiloxStreams([6, 5, 7])
    for position in (0, 255, 256, 1000, 3):
        assert one.at(position)[0] == other.at(position)[1]
        assert one.at(position)[1] == other.at(position)[0]
    drawn = np.stack([one.at(position) for position in range(2000)])
    assert 0 <= drawn.min() < drawn.max() < 1
    assert len(set(drawn.flatten().tolist())) == 4000
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.02)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 0},
    {"top_k": 3},
    {"top_p": 0.8, "min_p": 0.05},
    {"prompt": "abc\u00e9"},
    {"stop": ("a ", "bb")},
]


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "tokenizer", [CharTokenizer(LETTERS), CharTokenizer(LETTERS, True), ByteTokenizer()], ids=["text", "lines", "bytes"]
)
def test_a_seed_gives_the_same_text_alone_streamed_or_in_a_batch(settings: dict[str, Any], tokenizer: Tokenizer) -> None:
    model = network(tokenizer)
    many = list(generate(model, tokenizer, SampleOptions(length=60, count=REFERENCE_BATCH + 3, **settings), seed=40))
    assert [sample.seed for sample in many] == list(range(40, 47))
    for index, sample in enumerate(many):
        options = SampleOptions(length=60, **settings)
        (alone,) = generate(model, tokenizer, options, seed=40 + index)
        assert alone == sample
        prompt = settings.get("prompt", "")
        streamed = prompt + "".join(stream_text(model, tokenizer, options, seed=40 + index))
        drawn = sample.text.encode() if sample.data is None else sample.data
        assert streamed.encode("utf-8", "surrogateescape") == drawn  # bytes that are no text are in a stream too
        assert sample.data is None or sample.data.decode("utf-8", "replace") == sample.text
    if settings.get("temperature") != 0:
        assert len({sample.text for sample in many}) > 1


def test_a_document_ends_with_eos() -> None:
    tokenizer = CharTokenizer("ab", True)
    model = network(tokenizer)
    samples = list(generate(model, tokenizer, SampleOptions(length=500, count=20), seed=1))
    assert {sample.finish_reason for sample in samples} == {"end"}
    assert all(len(sample.text) == sample.num_tokens - 1 for sample in samples)
    (short,) = generate(model, tokenizer, SampleOptions(length=0), seed=1)
    assert (short.text, short.finish_reason) == ("", "length")


def test_stop_strings_are_not_part_of_the_text() -> None:
    tokenizer = CharTokenizer("ab")
    model = network(tokenizer)
    free = next(generate(model, tokenizer, SampleOptions(length=200), seed=3)).text
    for stop in ("ab", "aab", "bba"):
        at = free.find(stop)
        assert at >= 0
        sample = next(generate(model, tokenizer, SampleOptions(length=200, stop=(stop,)), seed=3))
        assert (sample.text, sample.finish_reason) == (free[:at], "stop")
        assert "".join(stream_text(model, tokenizer, SampleOptions(length=200, stop=(stop,)), seed=3)) == free[:at]
    (never,) = generate(model, tokenizer, SampleOptions(length=50, stop=("zz", free[40:50] + "z")), seed=3)
    assert never.text == free[:50]


def test_prompts_of_any_length_are_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = CharTokenizer(LETTERS)
    model = network(tokenizer)
    ids, _ = encode_prompt(tokenizer, "abcde " * 40)
    for reader in (reference_model(model), TorchModel(model)):
        with reader.inference():
            whole, _ = reader.prefill(ids)
            with monkeypatch.context() as patch:
                patch.setattr("unrolled.runtime.language_model.PROMPT_CHUNK_TOKENS", 7)
                chunks, _ = reader.prefill(ids)
        np.testing.assert_allclose(whole, chunks, atol=1e-5)


def test_prompts_are_mapped_to_known_characters_and_start_documents() -> None:
    lines = CharTokenizer(LETTERS.replace("\n", ""), True)
    assert encode_prompt(lines, "")[0] == [lines.eos_id]
    assert encode_prompt(lines, "ab")[0][0] == lines.eos_id
    text = CharTokenizer(LETTERS)
    assert encode_prompt(text, "")[0] == [text.encode("\n")[0]]
    ids, replaced = encode_prompt(text, "\u00c9\u00e8D\u65e5")
    assert (text.decode(ids), replaced) == ("\u00e9ed ", {"\u00c9": "\u00e9", "\u00e8": "e", "D": "d", "\u65e5": " "})


def test_bytes_come_out_as_whole_characters() -> None:
    tokenizer = ByteTokenizer()
    model = network(tokenizer)
    pieces = list(stream_text(model, tokenizer, SampleOptions(length=300), seed=1))
    sample = next(generate(model, tokenizer, SampleOptions(length=300), seed=1))
    assert sample.data is not None
    assert len(sample.data) == 300
    assert "".join(pieces).encode("utf-8", "surrogateescape") == sample.data
    assert sample.data.decode("utf-8", "replace") == sample.text


def test_a_tiny_temperature_is_greedy() -> None:
    tokenizer = CharTokenizer(LETTERS)
    model = network(tokenizer)
    texts = {
        next(generate(model, tokenizer, SampleOptions(length=40, temperature=t), seed=s)).text
        for t in (0, 1e-5)
        for s in (1, 2)
    }
    assert len(texts) == 1
    assert math.isfinite(len(texts))


@pytest.mark.parametrize("precision", ["float32", None])
def test_an_exception_of_check_stops_a_sample_within_a_block(precision: Any) -> None:
    """So a signal is handled between blocks, by the native decoder and the reference, however long the sample is."""
    tokenizer, calls = CharTokenizer(list(LETTERS)), 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt

    endless = SampleOptions(length=100_000)
    with pytest.raises(KeyboardInterrupt):
        list(generate(network(tokenizer), tokenizer, endless, seed=1, check=check, precision=precision))
    assert calls == 20, "no block is drawn after the exception"
