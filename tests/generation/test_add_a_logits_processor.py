"""A logits processor from outside the package: one entry in LOGITS_PROCESSORS works on every path, the native one included."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import unrolled
from support.cli import TINY_RUN, Cli
from unrolled.errors import UsageError
from unrolled.generation import sampling
from unrolled.generation.sampling import NATIVE_PROCESSORS, generate, native_precision, sampling_backend, stream_text
from unrolled.generation.torch_model import as_text_network
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, SampleOptions
from unrolled.runtime.native_decoder import unsupported_reason
from unrolled.text.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("\n abcde")
FORBIDDEN = int(TOKENIZER.encode("a")[0])


Doubles = npt.NDArray[np.float64]


def forbid_a(logits: Doubles, options: SampleOptions) -> Doubles:
    """Never draw "a"."""
    return np.where(np.arange(logits.shape[-1]) == FORBIDDEN, -np.inf, logits)


@pytest.fixture
def model() -> RecurrentLM:
    torch.manual_seed(0)
    return RecurrentLM(TOKENIZER.vocab_size, ModelOptions(hidden=10)).eval()


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LOGITS_PROCESSORS", [*sampling.LOGITS_PROCESSORS, forbid_a])


@pytest.mark.usefixtures("processor")
def test_a_fifth_processor_applies_to_samples_and_streams(model: RecurrentLM) -> None:
    options = SampleOptions(length=300, count=3)
    for sample in generate(model, TOKENIZER, options, seed=1):
        assert len(sample.text) == 300
        assert "a" not in sample.text
    text = "".join(stream_text(model, TOKENIZER, SampleOptions(length=300), seed=1))
    assert text == next(generate(model, TOKENIZER, SampleOptions(length=300), seed=1)).text


def test_without_it_the_default_path_draws_the_token(model: RecurrentLM) -> None:
    assert "a" in next(generate(model, TOKENIZER, SampleOptions(length=300), seed=1)).text
    assert (native_precision(model, SampleOptions(), [], "float32") is None) == (
        unsupported_reason(as_text_network(model)) is not None
    )


@pytest.mark.usefixtures("processor")
def test_the_native_decoder_is_not_used_with_processors_it_does_not_have(model: RecurrentLM) -> None:
    assert native_precision(model, SampleOptions(), [], "float32") is None
    assert sampling_backend(model, SampleOptions(), [], "float32")["backend"] == "reference"
    with pytest.raises(UsageError, match="int8=True needs the native decoder, which cannot be used here: it does not have"):
        native_precision(model, SampleOptions(int8=True), [], "float32")


@pytest.mark.parametrize("processors", [NATIVE_PROCESSORS[::-1], NATIVE_PROCESSORS[:-1], ()], ids=["order", "fewer", "none"])
def test_another_order_or_fewer_processors_are_honoured_too(
    model: RecurrentLM, processors: tuple[sampling.LogitsProcessor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "LOGITS_PROCESSORS", [*processors])
    assert native_precision(model, SampleOptions(), [], "float32") is None


def test_the_command_line_applies_an_appended_processor(cli: Cli, tmp_path: Path, book: Path) -> None:
    def forbid_e(logits: Doubles, options: SampleOptions) -> Doubles:
        return np.where(np.arange(logits.shape[-1]) == e_id, -np.inf, logits)

    run = tmp_path / "run"
    assert cli("train", book, "--steps", 3, "--out", run, *TINY_RUN).code == 0
    e_id = int(unrolled.load(run).tokenizer.encode("e")[0])
    command = ("sample", run, "--length", 400)
    assert "e" in cli(*command).out
    sampling.LOGITS_PROCESSORS.append(forbid_e)
    try:
        for extra in ((), ("--count", 2, "--json")):
            result = cli(*command, *extra)
            assert result.code == 0
            text = "".join(sample["text"] for sample in json.loads(result.out)["samples"]) if extra else result.out
            assert len(text) >= 400
            assert "e" not in text
    finally:
        sampling.LOGITS_PROCESSORS.remove(forbid_e)
