"""The native decoder draws what the reference draws: every cell, precision and instruction set, alone or in a batch.

Without the extension, the tests marked `built` are skipped; in CI it must be there.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import unrolled
from support.native import TorchDecoder, built
from unrolled.errors import UsageError
from unrolled.generation.sampling import (
    NATIVE_BATCH,
    encode_prompt,
    generate,
    native_precision,
    sample_token,
    sampling_backend,
    stream_ids,
    stream_text,
)
from unrolled.generation.torch_model import as_text_network
from unrolled.nn.cells import state_tensors
from unrolled.nn.kernels.extension import native_module
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import ModelOptions, SampleOptions, TrainingOptions
from unrolled.runtime import native_decoder
from unrolled.runtime.native_decoder import PRECISIONS, Precision, unsupported_reason
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer
from unrolled.training.optim import make_optimizer

VOCAB_SIZE = 23
SETS = native_module().available_isas() if native_module() is not None else ["none"]
BOUNDS: dict[Precision, float] = {"float32": 2e-5, "bfloat16": 0.1, "int8": 0.1}
LETTERS = "\n abcdeABC\u00e9"


def network(vocab_size: int = VOCAB_SIZE, seed: int = 0, logit_scale: float = 3.0, **options: Any) -> RecurrentLM:
    torch.manual_seed(seed)
    model = RecurrentLM(vocab_size, ModelOptions(**{"hidden": 17, "dropout": 0.2, **options})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn(weight.shape))
        model.head.weight.mul_(logit_scale)
    return model


pytestmark = pytest.mark.usefixtures("best_set_again")


def use(name: str) -> None:
    if native_module() is not None:
        native_module().set_isa(name)


def test_without_the_extension_the_reference_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_decoder, "native_module", lambda: None)
    monkeypatch.setattr(native_decoder, "unavailable_reason", lambda: "not built here")
    model, letters, options = network(len(LETTERS)), CharTokenizer(LETTERS), SampleOptions(length=30)
    assert unsupported_reason(as_text_network(model)) == "not built here"
    assert native_precision(model, options, [], "float32") is None
    asked, unasked = (next(generate(model, letters, options, 1, precision=precision)) for precision in ("float32", None))
    assert asked == unasked


KINDS: list[dict[str, Any]] = [
    {"residual": True},
    {"residual": True, "two_biases": True},
    {"residual": True, "embedding": 0},
    {"residual": False, "embedding": 0},
    {"residual": False, "embedding": 7, "two_biases": True},
]


CELL_NAMES = ("rnn", "gru", "lstm")
NETWORKS = [
    (name, kind, CELL_NAMES[turn % 3])
    for (index, name), (place, kind) in itertools.product(enumerate(SETS), enumerate(KINDS))
    for turn in (range(3) if name == SETS[-1] else [index + place])
]
"""Every network with the set that is used; every pair of a set, a kind and a cell with the others."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "cell"), NETWORKS, ids=str)
@built
def test_logits_and_states_are_those_of_the_reference(name: str, kind: dict[str, Any], cell: str) -> None:
    use(name)
    sizes = (VOCAB_SIZE,) if kind["residual"] and kind.get("embedding") == 0 else (1, 3, 17, 64, 200)
    for size in sizes:
        model = network(cell=cell, hidden=size, layers=3, logit_scale=1.0, **kind)
        for rows in (1, 3, 16, 33):
            ids = torch.randint(VOCAB_SIZE, (5, rows))
            with torch.no_grad():
                state = model.initial_state(rows)
                for step_ids in ids:
                    logits, state = model.step(step_ids, state)
            for precision in PRECISIONS:
                decoder = TorchDecoder(model, rows, precision, threads=1 + rows % 2)
                decoder.read(ids[:2])
                decoder.read(ids[2:])
                # A layer norm over so few units divides rounding errors by a very small deviation.
                bound = BOUNDS[precision] * (10 if size < 4 else 1)
                torch.testing.assert_close(decoder.logits(), logits, atol=bound, rtol=0)
                for actual, expected in zip(decoder.state, state_tensors(state), strict=True):
                    torch.testing.assert_close(actual, expected, atol=bound, rtol=0)


def draw(model: RecurrentLM, numbers: torch.Tensor, precision: Precision, threads: int, blocks: list[int]) -> Any:
    decoder = TorchDecoder(model, numbers.shape[1], precision, threads)
    decoder.read(torch.arange(numbers.shape[1]).unsqueeze(0) % VOCAB_SIZE)
    parts = torch.split(numbers, blocks)
    pieces = [decoder.sample(part, SampleOptions(top_p=0.95)) for part in parts]
    return torch.cat(pieces), decoder.logits(), decoder.state


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SETS)
@built
def test_a_stream_is_the_same_in_any_batch_any_blocks_and_with_any_threads(name: str, precision: Precision) -> None:
    use(name)
    for cell, size in (("lstm", 72), ("gru", 40), ("rnn", 130)):
        model = network(cell=cell, hidden=size)
        numbers = torch.rand(24, 33, dtype=torch.float64)
        ids, logits, state = draw(model, numbers, precision, 1, [24])
        for threads, blocks in ((1, [1, 7, 16]), (2, [24]), (3, [20, 4])):
            again, same_logits, final_state = draw(model, numbers, precision, threads, blocks)
            assert torch.equal(again, ids)
            assert torch.equal(same_logits, logits)
            assert all(map(torch.equal, final_state, state))
        for count in (1, 2, 15, 16, 17):
            fewer, same_logits, final_state = draw(model, numbers[:, :count], precision, 1 + count % 2, [24])
            assert torch.equal(fewer, ids[:, :count])
            assert torch.equal(same_logits, logits[:count])
            assert all(torch.equal(actual, expected[:count]) for actual, expected in zip(final_state, state, strict=True))


PROCESSOR_SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 0},
    {"temperature": 1e-6},
    {"top_k": 1},
    {"top_k": 3},
    {"top_k": 100},
    {"top_p": 0.5},
    {"top_p": 1e-9},
    {"min_p": 0.2},
    {"min_p": 1.0},
    {"temperature": 1.7, "top_k": 9, "top_p": 0.9, "min_p": 0.05},
]


@pytest.mark.slow
@built
def test_bfloat16_and_int8_weights_cost_less_than_a_hundredth_of_a_bit(tmp_path: Path) -> None:
    trained = unrolled.train("builtin:python", progress=False, out=str(tmp_path / "run"), hidden=64, steps=100, seed=1)
    ids = torch.from_numpy(trained.session.train_and_held_out()[1].astype("int64"))[: 16 * 300].view(16, -1).T.contiguous()
    losses: dict[Precision, torch.Tensor] = {}
    for precision in PRECISIONS:
        decoder, batch_losses = TorchDecoder(trained.network, 16, precision), []
        for read, target in zip(ids[:-1], ids[1:], strict=True):
            decoder.read(read[None])
            batch_losses.append(F.cross_entropy(decoder.logits().double(), target, reduction="none"))
        losses[precision] = torch.stack(batch_losses) / math.log(2)
    assert losses["float32"].mean() < 5  # bits: the model must have learned something for the comparison to mean anything
    cost = {precision: abs(float((loss - losses["float32"]).mean())) for precision, loss in losses.items()}
    assert cost["bfloat16"] < 0.001
    assert cost["int8"] < 0.003


@pytest.mark.parametrize("settings", PROCESSOR_SETTINGS, ids=str)
@built
def test_draws_are_those_of_the_reference(settings: dict[str, Any]) -> None:
    options = SampleOptions(**settings)
    for seed in range(8):
        model = network(seed=seed)
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.normal_(std=2.0)
            model.head.bias[:4] = -torch.inf
            bias = model.head.bias.clone()
        numbers = torch.rand(200, 1, dtype=torch.float64)
        numbers[:2, 0] = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
        decoder = TorchDecoder(model, 1)
        decoder.read(torch.zeros(1, 1, dtype=torch.int64))
        found = decoder.sample(numbers, options)[:, 0]
        expected = sample_token(bias.expand(200, -1).numpy(), numbers[:, 0].numpy(), options)
        assert found.tolist() == expected.tolist()
        assert int(found.min()) >= 4


@pytest.mark.parametrize("threads", [1, 3])
@built
def test_each_stream_has_its_own_filters(threads: int) -> None:
    options = [SampleOptions(**settings) for settings in PROCESSOR_SETTINGS] * 3
    model, numbers = network(), torch.rand(20, len(options), dtype=torch.float64)
    start = torch.zeros(1, len(options), dtype=torch.int64)
    decoder = TorchDecoder(model, len(options), threads=threads)
    decoder.read(start)
    mixed = decoder.sample(numbers, *options)
    for stream, own in enumerate(options):
        alone = TorchDecoder(model, 1)
        alone.read(start[:, :1])
        assert mixed[:, stream].tolist() == alone.sample(numbers[:, stream : stream + 1], own)[:, 0].tolist()


@built
def test_top_k_keeps_exactly_k_with_ties() -> None:
    model = network()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    decoder = TorchDecoder(model, 1)
    decoder.read(torch.zeros(1, 1, dtype=torch.int64))
    numbers = torch.rand(500, 1, dtype=torch.float64)
    assert len(set(decoder.sample(numbers, SampleOptions(top_k=5)).flatten().tolist())) == 5


TOKENIZERS = {"characters": CharTokenizer(LETTERS), "documents": CharTokenizer(LETTERS, True), "bytes": ByteTokenizer()}
DRAWN = [
    (settings, cell, list(TOKENIZERS)[(index + place) % 3])
    for index, settings in enumerate([*PROCESSOR_SETTINGS, {"prompt": "abc\u00e9" * 30}, {"stop": ("a ", "bb")}])
    for place, cell in enumerate(CELL_NAMES)
]
"""All settings with each cell and with each tokenizer."""


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "cell", "tokens"), DRAWN, ids=str)
@built
def test_the_text_is_that_of_the_reference(settings: dict[str, Any], cell: str, tokens: str) -> None:
    tokenizer = TOKENIZERS[tokens]
    model = network(tokenizer.vocab_size, cell=cell, hidden=40)
    options = SampleOptions(**{"length": 300, "count": 3, **settings})
    samples = list(generate(model, tokenizer, options, 5))
    assert samples == list(generate(model, tokenizer, options, 5, precision=None))


@built
def test_samples_of_a_batch_are_those_drawn_one_by_one() -> None:
    tokenizer = CharTokenizer(LETTERS, True)
    model = network(tokenizer.vocab_size, hidden=40, logit_scale=1.0)
    for precision in PRECISIONS:
        count = NATIVE_BATCH + 5
        options = SampleOptions(length=150, count=count, prompt="ab")
        for index, sample in enumerate(generate(model, tokenizer, options, 3, precision=precision)):
            if index % 7 == 0 or index >= NATIVE_BATCH:
                alone = replace(options, count=1)
                assert sample == next(generate(model, tokenizer, alone, 3 + index, precision=precision))
                assert sample.text == "ab" + "".join(stream_text(model, tokenizer, alone, 3 + index, precision=precision))


@built
def test_the_first_token_comes_at_once_and_blocks_grow() -> None:
    model = network(len(LETTERS))
    ids, _ = encode_prompt(CharTokenizer(LETTERS), "")
    options = SampleOptions(length=300)
    decoder = TorchDecoder(model, 2)
    blocks = [block.shape[1] for block in stream_ids(model, ids, [1, 2], options, decoder=decoder.decoder)]
    assert blocks == [1, 1, 2, 4, 8, 16, 32, 64, 64, 64, 44]


@built
def test_unsupported_models_and_options_use_the_reference() -> None:
    model = network()
    options = SampleOptions()
    assert native_precision(model, options, [], "bfloat16") == "bfloat16"
    assert native_precision(model, replace(options, int8=True), [], "float32") == "int8"
    for found in (
        native_precision(model, options, [Clamp(0, 1)], "float32"),
        native_precision(model, options, [], None),
        native_precision(network(cell="gru-reset-before"), options, [], "float32"),
        native_precision(network().double(), options, [], "float32"),
        native_precision(network().train(), options, [], "float32"),
    ):
        assert found is None
    with pytest.raises(UsageError, match="int8=True needs the native decoder, which cannot be used here: units are clamped"):
        native_precision(model, replace(options, int8=True), [Clamp(0, 1)], "float32")
    with pytest.raises(ValueError, match="no native decoder for the cell gru-reset-before"):
        TorchDecoder(network(cell="gru-reset-before"), 1)
    assert sampling_backend(model, options, [], "float32") == {
        "backend": f"native ({native_module().active_isa()})",
        "precision": "float32",
    }
    assert sampling_backend(model, options, [], None) == {"backend": "reference", "precision": "float32"}


@built
def test_weights_that_are_nan_or_infinite_do_not_crash() -> None:
    for name in SETS:
        use(name)
        for value in (torch.nan, torch.inf, -torch.inf):
            model = network()
            with torch.no_grad():
                model.stack.layer_list()[0].cell.get_parameter("weight_hh")[3] = value
                model.head.bias[5] = value
            for precision in PRECISIONS:
                decoder = TorchDecoder(model, 2, precision)
                for settings in PROCESSOR_SETTINGS:
                    ids = decoder.sample(torch.rand(5, 2, dtype=torch.float64), SampleOptions(**settings))
                    assert 0 <= int(ids.min()) <= int(ids.max()) < VOCAB_SIZE


@built
def test_wrong_sizes_types_and_ids_are_errors() -> None:
    decoder, packed = TorchDecoder(network(), 3), native_module().DecoderWeights(2, 0, 17, 2, VOCAB_SIZE, True, 1e-5)
    raw_decoder = native_module().Decoder(packed, 3)
    ids, numbers = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.float64)
    weight, bias, filters = torch.zeros(68, 17), torch.zeros(68), torch.tensor([[1.0, 0, 1, 0]], dtype=torch.float64)
    wrong: list[Callable[[], Any]] = [
        lambda: decoder.read(ids + VOCAB_SIZE),
        lambda: decoder.read(ids - 1),
        lambda: decoder.read(ids.int()),
        lambda: decoder.read(ids[0]),
        lambda: decoder.read(torch.zeros(2, 4, dtype=torch.int64)),
        lambda: decoder.read(ids[:, :0]),
        lambda: decoder.sample(numbers + 1, SampleOptions()),
        lambda: decoder.sample(numbers * torch.nan, SampleOptions()),
        lambda: decoder.sample(numbers.float(), SampleOptions()),
        lambda: decoder.sample(torch.zeros(2, 4, dtype=torch.float64), SampleOptions()),
        lambda: raw_decoder.sample(numbers, ids[:1].contiguous(), filters, 1),
        lambda: raw_decoder.sample(numbers, ids, -filters, 1),
        lambda: raw_decoder.sample(numbers, ids, filters.repeat(2, 1), 1),
        lambda: raw_decoder.sample(numbers, ids, filters.float(), 1),
        lambda: raw_decoder.feed(ids, 0),
        lambda: raw_decoder.feed(ids, 5000),
        lambda: raw_decoder.logits(torch.zeros(3, VOCAB_SIZE + 1)),
        lambda: raw_decoder.logits(torch.zeros(4, VOCAB_SIZE)),
        lambda: raw_decoder.state(2, torch.zeros(3, 17), torch.zeros(3, 17), True),
        lambda: raw_decoder.state(0, torch.zeros(3, 17), None, True),
        lambda: raw_decoder.state(0, torch.zeros(3, 16), torch.zeros(3, 16), True),
        lambda: packed.set_layer(0, weight[:67], None, None, None, None, None),
        lambda: packed.set_layer(0, weight, weight, None, None, None, None),
        lambda: packed.set_layer(1, weight, weight, bias, None, None, None),
        lambda: packed.set_layer(1, weight.double(), weight, bias, None, torch.zeros(17), torch.zeros(17)),
        lambda: packed.set_layer(2, weight, weight, bias, None, torch.zeros(17), torch.zeros(17)),
        lambda: packed.set_table_and_head(
            torch.zeros(VOCAB_SIZE, 68), None, torch.zeros(VOCAB_SIZE, 17), torch.zeros(VOCAB_SIZE)
        ),
        lambda: packed.set_table_and_head(
            torch.zeros(1, 68), torch.zeros(1, 17), torch.zeros(VOCAB_SIZE, 17), torch.zeros(VOCAB_SIZE)
        ),
        lambda: native_module().DecoderWeights(3, 0, 17, 2, VOCAB_SIZE, True, 1e-5),
        lambda: native_module().DecoderWeights(2, 3, 17, 2, VOCAB_SIZE, True, 1e-5),
        lambda: native_module().DecoderWeights(2, 0, 0, 2, VOCAB_SIZE, True, 1e-5),
        lambda: native_module().Decoder(packed, -1),
        lambda: native_module().memory_bandwidth(1, 1, 0.1),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match=r"\w"):
            call()
    decoder.read(ids[:0])  # zero steps are allowed
    assert decoder.sample(numbers[:0], SampleOptions()).shape == (0, 3)


@built
def test_weights_are_packed_once_and_again_when_they_change() -> None:
    model = network()
    first = TorchDecoder(model, 1)
    numbers = torch.rand(30, 1, dtype=torch.float64)
    drawn = first.sample(numbers, SampleOptions())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_decoder, "_pack_weights", lambda *_: pytest.fail("packed again"))
        assert torch.equal(TorchDecoder(model, 2).sample(numbers.expand(-1, 2).contiguous(), SampleOptions())[:, :1], drawn)
    with torch.no_grad():
        model.head.weight.neg_()
    assert not torch.equal(TorchDecoder(model, 1).sample(numbers, SampleOptions()), drawn)
    assert torch.equal(first.sample(numbers[:0], SampleOptions()), drawn[:0]), (
        "the weights packed for the first decoder still exist"
    )
    optimizer = make_optimizer(model, TrainingOptions(optimizer="muon"))
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step(0.1)
    decoder = TorchDecoder(model, 1)
    decoder.read(torch.zeros(1, 1, dtype=torch.int64))
    exact, _ = model.step(torch.zeros(1, dtype=torch.int64), model.initial_state(1))
    assert torch.allclose(decoder.logits(), exact, atol=1e-5), "changes by a native optimizer are noticed too"
