"""Training that starts from a base model: the same weights, a vocabulary that grows, settings that must fit, exact resumes."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.texts import sentences
from unrolled.checkpoints.model_file import TextModelFile, load_text_model, save_model
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, TrainRequest
from unrolled.text.rule_tokenizer import WordRuleTokenizer
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from unrolled.text.word_list_tokenizer import WordListTokenizer
from unrolled.training import automatic_base
from unrolled.training.automatic_base import _loss_after, choose_base, latin_fraction
from unrolled.training.fine_tuning import adopt_settings, choose_fine_tuning_options
from unrolled.training.grown_model import NEW_TOKEN_BIAS, grow_model, grow_tokenizer, row_sources
from unrolled.training.recipe import TextStats
from unrolled.training.tasks.text import TextTask

LETTERS = "\n .,abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'-"
CPU = DeviceConfig(torch.device("cpu"), torch.float32, 1)
SETTINGS: dict[str, Any] = {"bptt": 8, "sample_length": 0, "threads": 1, "progress": False}


def save_base(path: Path, tokenizer: Tokenizer | None = None, documents: str = "none", **options: Any) -> TextModelFile:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = tokenizer or CharTokenizer(LETTERS)
        network = RecurrentLM(tokenizer.vocab_size, ModelOptions(**{"hidden": 12, "layers": 2, **options}))
    model_file = TextModelFile(network, tokenizer, documents)
    save_model(path, model_file)
    return model_file


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    return load_text_model(Path(path)).model.state_dict()


@pytest.mark.parametrize("shrink", [False, True])
def test_a_vocabulary_grows_at_its_end(shrink: bool) -> None:
    grown = grow_tokenizer(CharTokenizer("\n aebc"), CharTokenizer("\n abéÄß漢", True), shrink)
    assert grown.token_strings() == [*("\n ab" if shrink else "\n aebc"), *"éÄß漢", ""]
    assert grown.eos_id == grown.vocab_size - 1


def test_new_rows_are_those_of_similar_tokens() -> None:
    base = CharTokenizer("\n aesb")
    sources = row_sources(base, grow_tokenizer(base, CharTokenizer("\n abéÄß漢\u3000", True)))
    assert sources[: base.vocab_size] == [[n] for n in range(base.vocab_size)]
    e_accent, a_umlaut, sharp_s, ideograph, wide_space, end = sources[base.vocab_size :]
    assert (e_accent, a_umlaut, sharp_s) == ([3], [2], [4, 4])
    assert ideograph == list(range(base.vocab_size)), "the mean of all, since none is similar"
    assert (wide_space, end) == ([1], [0]), "a space; the end of a document begins as a line end"


@pytest.mark.parametrize("embedding", [None, 0])
def test_known_tokens_are_predicted_as_before(tmp_path: Path, embedding: int | None) -> None:
    base = save_base(tmp_path / "base", CharTokenizer("\n abc"), embedding=embedding, residual=embedding is None)
    grown = grow_model(base, grow_tokenizer(base.tokenizer, CharTokenizer("\n bcé")), base.model.options)
    ids = torch.tensor([[2], [4], [3]])
    before, after = (model.eval()(ids, model.initial_state(1))[0] for model in (base.model, grown))
    torch.testing.assert_close(after[..., :5], before)
    assert after.shape[-1] == 6
    torch.testing.assert_close(after[..., 5], before.mean(-1) + NEW_TOKEN_BIAS)


def test_a_run_starts_from_the_weights(book: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base.safetensors")
    book.write_text(sentences(400) + "é" * 20 + sentences(100))
    model = unrolled.train(book, init_from=str(tmp_path / "base.safetensors"), steps=1, lr=1e-9, weight_decay=0.0, **SETTINGS)
    assert model.tokenizer.token_strings() == [*LETTERS, "é"]
    trained = weights(model.path)
    for name, weight in base.model.state_dict().items():
        if not name.startswith("head"):  # calibrated on the validation part
            torch.testing.assert_close(trained[name][: len(weight)], weight, atol=1e-7, rtol=0)
    config = json.loads((model.path.parent / "config.json").read_text())
    assert config["options"]["init_from"] == str(tmp_path / "base.safetensors")
    assert model.evaluate(split="all").num_unknown == 0, "the run's own text is read with the grown vocabulary"


@pytest.mark.slow
@pytest.mark.parametrize("documents", ["none", "line"])
def test_a_stopped_run_goes_on_bit_for_bit(book: Path, tmp_path: Path, documents: str) -> None:
    path = tmp_path / "base.safetensors"
    save_base(path)
    book.write_text(sentences(60) + "Überall\n")
    options: dict[str, Any] = {"init_from": str(path), "steps": 6, "sample_length": 0, "documents": documents, **SETTINGS}
    whole = unrolled.train(book, out="whole", **options)
    unrolled.train(book, out="parts", stop_after=3, **options)
    path.unlink()
    unrolled.train(resume="parts", progress=False, stop_after=4)
    resumed = unrolled.train(resume="parts", progress=False)
    assert resumed.history["diagnosis"] == whole.history["diagnosis"]
    assert all(torch.equal(a, b) for a, b in zip(weights(whole.path).values(), weights(resumed.path).values(), strict=True))


@pytest.mark.slow
def test_a_text_of_standard_input_resumes(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    save_base(tmp_path / "base.safetensors")
    content = sentences(60) + "é\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    flags = "--steps 4 --stop-after 2 --bptt 8 --sample-length 0 --threads 1 --out run"
    assert cli("train", "-", "--from", tmp_path / "base.safetensors", *flags.split()).code == 0
    assert cli("train", "--resume", "run").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 32}, r"hidden=32 is asked for, and .* has hidden 12: leave it out, or start from random weights"),
        ({"cell": "gru"}, "cell='gru' is asked for, and .* has cell lstm"),
        ({"layers": 3}, "layers=3 .* has layers 2"),
        ({"residual": False}, "residual=False is asked for, and .* has residual"),
        ({"tokens": "bytes"}, "tokens='bytes' is asked for, and .* has characters"),
        ({"normalize": "nfkc"}, "normalize='nfkc' is asked for"),
        ({"initialization": "uniform"}, "initialization= is for random weights"),
    ],
)
def test_settings_of_another_network_are_refused(book: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    save_base(tmp_path / "base.safetensors")
    with pytest.raises(UsageError, match=message):
        unrolled.train(book, init_from=str(tmp_path / "base.safetensors"), out="run", steps=1, **{**SETTINGS, **options})
    assert not Path("run").exists()


def test_the_same_settings_are_accepted(book: Path, tmp_path: Path) -> None:
    save_base(tmp_path / "base.safetensors", cell="gru", layers=1)
    same: dict[str, Any] = {"hidden": 12, "layers": 1, "cell": "gru", "embedding": 12}
    model = unrolled.train(book, init_from=str(tmp_path / "base.safetensors"), steps=1, **SETTINGS, **same)
    assert (model.text_model.options.cell, model.text_model.options.layers) == ("gru", 1)


def test_what_is_no_base_is_refused(book: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no built-in model 'englisch'; did you mean 'english'"):
        unrolled.train(book, init_from="builtin:englisch", **SETTINGS)
    with pytest.raises(UsageError, match="shrink_vocabulary=True is for init_from="):
        unrolled.train(book, shrink_vocabulary=True, init_from="none", **SETTINGS)
    path = tmp_path / "base.safetensors"
    save_base(path)
    path.write_bytes(path.read_bytes()[:-5] + b"wrong")
    with pytest.raises(ModelError, match="damaged"):
        unrolled.train(book, init_from=str(path), **SETTINGS)
    Path("words.csv").write_text("word,label\n" + "aa,x\nbb,y\n" * 20)
    table = unrolled.train_table("words.csv", "word", "label", steps=1, hidden=8, out="table", progress=False)
    with pytest.raises(UsageError, match="is a model of a table, and one of texts is expected"):
        unrolled.train(book, init_from=str(table.path), **SETTINGS)
    with pytest.raises(UsageError, match="is a model of a table, and one of texts is expected"):
        unrolled.train_table("words.csv", "word", "label", init_from=str(table.path), progress=False)


def test_a_text_without_a_known_character_is_refused(tmp_path: Path) -> None:
    save_base(tmp_path / "base.safetensors")
    Path("text.txt").write_text("漢字 仮名\n" * 200)
    with pytest.raises(DataError, match="knows no character of this text: start from random weights with init_from='none'"):
        unrolled.train("text.txt", init_from=str(tmp_path / "base.safetensors"), **SETTINGS)


@pytest.mark.slow
def test_bytes_and_documents_follow_the_base(book: Path, tmp_path: Path) -> None:
    save_base(tmp_path / "bytes", ByteTokenizer())
    assert unrolled.train(book, init_from=str(tmp_path / "bytes"), steps=1, **SETTINGS).tokenizer.kind == "bytes"
    save_base(tmp_path / "lines", CharTokenizer(LETTERS, True), "line")
    model = unrolled.train(book, init_from=str(tmp_path / "lines"), steps=1, **SETTINGS)
    assert model.text_model.documents == "line"
    assert model.tokenizer.eos_id == len(LETTERS)


def test_a_budget_in_minutes_is_a_few_passes(book: Path, tmp_path: Path, cli: Cli) -> None:
    save_base(tmp_path / "base.safetensors", layers=1)
    book.write_text(sentences(60))
    flags = "--minutes 60 --sample-length 0 --threads 1 --json --patience 100"
    result = cli("train", book, "--from", tmp_path / "base.safetensors", *flags.split())
    assert "which takes less than the budget" in result.err
    assert json.loads(result.out)["epochs"] == pytest.approx(4, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokens", "seconds_per_step", "given", "expected"),
    [
        (20_000, 0.1, {}, ("muon", 1e-3, 8, 4.0)),
        (200_000, 1.0, {}, ("muon", 1e-3, 8, None)),
        (1_000_000, 0.01, {}, ("muon", 2e-3, 32, 2.0)),
        (1_000_000, 0.1, {}, ("muon", 2e-3, 32, None)),
        (1_000_000, 0.3, {}, ("adamw", 1e-3, 32, None)),
        (1_000_000, 0.3, {"lr": 3e-3}, ("muon", 3e-3, 32, None)),
        (1_000_000, 0.3, {"optimizer": "muon"}, ("muon", 2e-3, 32, None)),
    ],
)
def test_the_optimizer_of_a_long_text_follows_what_the_budget_reads(
    tokens: int, seconds_per_step: float, given: dict[str, Any], expected: tuple[str, float, int, float | None]
) -> None:
    def measure(request: TrainRequest) -> float:
        share = 1.0 if request.training.optimizer == "muon" else 0.4
        return request.training.batch * request.training.bptt / (seconds_per_step * share)

    request = TrainRequest.build((), {"minutes": 1.0, **given}, "test")
    chosen, message = choose_fine_tuning_options(request, TextStats(tokens, 90), measure)
    training = chosen.training
    assert (training.optimizer, training.lr, training.batch, training.epochs) == expected
    assert f"{expected[0]} at {expected[1]:g}" in message


def test_patience(book: Path, tmp_path: Path) -> None:
    save_base(tmp_path / "base.safetensors", layers=1)
    options: dict[str, Any] = {
        "init_from": tmp_path / "base.safetensors",
        "steps": 60,
        "eval_every": 2,
        "lr": 1e-12,
        **SETTINGS,
    }
    model = unrolled.train(book, patience=2, weight_decay=0.0, calibrate=False, out="run", **options)
    assert model.run is not None
    evaluations = [record for record in model.run.metrics.read() if record["event"] == "validation"]
    assert 2 < len(evaluations) < 30, "stopped long before the budget"
    losses = np.array([record["val_nats"] for record in evaluations])
    assert (losses[-2:] >= losses[:-2].min()).all()
    resumed = unrolled.train(resume="run", progress=False).result
    assert resumed is not None
    assert resumed.steps == evaluations[-1]["step"], "nothing is left to train"


@pytest.mark.slow
def test_a_small_text_starts_from_the_builtin_base(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    save_base(tmp_path / "english.safetensors", hidden=6, layers=1)
    for module in ("checkpoints.run_dir", "training.automatic_base"):
        monkeypatch.setattr(f"unrolled.{module}.base_model_path", lambda name: tmp_path / "english.safetensors")
    losses = {"builtin:english": 0.2, "builtin:python": 0.3}
    monkeypatch.setattr(automatic_base, "_loss_after", lambda steps, request, *others: losses[request.training.init_from])
    Path("text.txt").write_text(sentences(100))
    flags = "--minutes 0.001 --sample-length 0 --threads 1"
    chosen = cli("train", "text.txt", *flags.split())
    assert "comparing the built-in models with the text" in chosen.err
    assert "builtin:english reads the validation part at" in chosen.err
    assert "starts from builtin:english" in chosen.err
    losses["builtin:python"] = 0.1
    chosen = cli("train", "text.txt", *flags.split(), "--out", "other")
    assert "starts from builtin:python" in chosen.err
    losses.update(dict.fromkeys(losses, 9.9))
    request = TrainRequest.build(("text.txt",), {}, "test").check()
    assert choose_base(request, TextTask.open(request), CPU) == (request, None), "no better than the n-grams"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("She closed the door behind her and went down to the river, where the boats lay in the sun.", "builtin:english"),
        (
            "def add(values):\n    total = 0\n    for value in values:\n        total += value\n    return total\n",
            "builtin:python",
        ),
        (
            "anna bertil cecilia dagmar emil fredrika gustav hulda ivar jonna karl linnea maja nils olga".replace(" ", "\n"),
            None,
        ),
    ],
)
def test_a_tiny_text_has_a_base_only_if_it_is_prose_or_code(text: str, name: str | None) -> None:
    Path("text.txt").write_text(text)
    request = TrainRequest.build(("text.txt",), {}, "test").check()
    assert choose_base(request, TextTask.open(request), CPU)[0].training.init_from == name


@pytest.mark.parametrize(
    "options", [{"init_from": "none"}, {"hidden": 8}, {"tokens": "bytes"}, {"steps": 5}, {"train_fraction": 1.0}, {"lr": 0.1}]
)
def test_settings_of_ones_own_have_no_builtin_base(
    book: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automatic_base, "_loss_after", lambda *arguments: 0.0)
    request = TrainRequest.build((str(book),), options, "test").check()
    assert choose_base(request, TextTask.open(request), CPU) == (request, None)


def test_a_base_is_tried_on_the_validation_part(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base.safetensors", hidden=6, layers=1)
    Path("text.txt").write_text(sentences(100))
    request = TrainRequest.build(("text.txt",), {"init_from": str(tmp_path / "base.safetensors")}, "test").check()
    request = adopt_settings(request, base)
    own = TextTask.open(request)
    task = own.start_from(base, request)
    as_it_is = _loss_after(0, request, base, own, CPU)
    assert as_it_is == pytest.approx(task.evaluate(task.build_model(request), CPU, request, lambda: None, 1.0)[0])
    assert _loss_after(20, request, base, own, CPU) < as_it_is, "after some steps"


def test_latin_fraction() -> None:
    tokenizer = CharTokenizer("abé я1")
    assert latin_fraction(np.array([0, 1, 2, 3, 3, 3, 5]), tokenizer) == 1
    assert latin_fraction(np.array([0, 1, 2, 4]), tokenizer) == 0.75
    assert latin_fraction(np.array([3, 3]), tokenizer) == 0


def test_a_new_word_begins_as_the_mean_of_all_tokens() -> None:
    """Only a character has a similar one; a base can be one of words, also of an imported list."""
    for base in (WordRuleTokenizer(["a", " the"]), WordListTokenizer([" a", " the"])):
        grown = grow_tokenizer(base, WordRuleTokenizer(["a", " the", " zebra"]))
        sources = dict(zip(grown.token_strings(), row_sources(base, grown), strict=True))
        assert sources[" zebra"] == [0, 1]
        assert sources[" the"] == [1]
