"""The classifier of hashed n-grams next to the recurrent layers: where it is, what it learns, explains, keeps and exports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.tables import many_to_one, write_csv
from unrolled.checkpoints.model_file import TableModelFile, load_model, save_model
from unrolled.evaluation.calibration import _best_share, set_answer_scales
from unrolled.evaluation.predictor import Predictor
from unrolled.interpret.occlusion import occlude
from unrolled.nn.device import DeviceConfig
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.ngram_classifier import DEFAULT_SHARE, SCALE, SHARES, NgramClassifier
from unrolled.options import ModelOptions, PairOptions, PredictOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.label_columns import LabelColumn
from unrolled.tables.ngrams import MAX_BUCKETS, MAX_CHARACTERS, MIN_BUCKETS, choose_buckets, count_ngrams, hash_ngrams
from unrolled.tables.spec import TableSpec
from unrolled.tables.text_column import TextColumn
from unrolled.text.tokenizer import CharTokenizer
from unrolled.training import launch
from unrolled.training.callbacks import NullProgress

SETTINGS: dict[str, Any] = {"hidden": 8, "layers": 1, "threads": 1, "progress": False, "batch": 8}


def train(path: str, **settings: Any) -> TableModelFile:
    write_csv(Path("rows.csv"), many_to_one(60, 1))
    unrolled.train_table("rows.csv", "text", "label", out=path, **{"steps": 40, "lr": 1e-2, **SETTINGS, **settings})
    model_file = load_model(Path(path) / "model.safetensors")
    assert isinstance(model_file, TableModelFile)
    return model_file


def test_the_hashes_of_a_text() -> None:
    hashes = hash_ngrams("Who is it?")
    assert hashes.dtype == np.uint32
    assert hashes.tolist() == sorted(set(hash_ngrams("  who   IS it?").tolist())), "case and the width of gaps do not count"
    assert not set(hash_ngrams("who").tolist()) & set(hash_ngrams("xyz").tolist()) - set(hash_ngrams(" ").tolist())
    assert hash_ngrams("a").tolist()[:2] == [74631986, 1032454442], "old models need the same numbers"
    kinds = 4 + 3 + sum(len(" who is it? ") + 1 - size for size in range(1, 7))
    assert kinds - 7 < len(hashes) <= kinds, "words and marks, pairs and runs; the blank and 'i' come twice"


@pytest.mark.parametrize("text", ["", " ", "\n", "?", "漢字", "\ud800", "é" * 3, "a\0b"])
def test_the_hashes_of_odd_texts(text: str) -> None:
    assert len(hash_ngrams(text)) >= 1


def test_long_texts_keep_their_words() -> None:
    start = "word " * (MAX_CHARACTERS // 5)
    assert set(hash_ngrams(start + "late")) - set(hash_ngrams(start)), "a word and a pair after the last run"
    assert len(set(hash_ngrams(start + "late")) - set(hash_ngrams(start))) == 2


def test_buckets_follow_the_training_rows() -> None:
    rows = [np.arange(start, start + 100, dtype=np.uint32) for start in range(0, 5000, 50)]
    assert count_ngrams(rows) == 5050
    assert choose_buckets(5050, 7) == 8192
    assert choose_buckets(10**7, 7) == MAX_BUCKETS
    assert choose_buckets(10**7, 10_000) == MIN_BUCKETS


def test_its_logits() -> None:
    classifier = NgramClassifier(4, 2)
    with torch.no_grad():
        classifier.embedding.weight[:4] = torch.tensor([[1.0, 0], [0, 2], [3, 0], [0, 4]])
        classifier.bias.copy_(torch.tensor([0.5, 0]))
    logits = classifier(torch.tensor([[0, 2], [1, 4]]))
    expected = torch.tensor([[[0.5 + SCALE / 2**0.5, 2 * SCALE / 2**0.5], [0.5 + 3 * SCALE, 0]]])
    torch.testing.assert_close(logits, expected)


def test_it_learns_by_default_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model_file = train("run")
    classifier, spec = model_file.model.ngrams, model_file.spec
    assert classifier is not None
    assert spec.source.ngram_buckets == 1024 == spec.dims.ngram_buckets
    assert classifier.embedding.weight.abs().sum() > 0, "it has learned"
    assert not classifier.embedding.weight[-1].any(), "padding adds nothing"
    save_model(tmp_path / "again.safetensors", model_file)
    table = unrolled.load_table("again.safetensors")
    assert table.predict(["the red dog sleeps", "a blue cat sleeps"]) == ["warm", "cold"]


def test_a_row_does_not_depend_on_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train("run", steps=4)
    table = unrolled.load_table("run")
    texts = ["the red dog sleeps", "cold", "a blue and a green and an orange old fox sleeps in the grass"]
    together = [prediction.probability for prediction in table.predictions(texts)]
    assert together == pytest.approx([table.predictions([text])[0].probability for text in texts], abs=1e-6)


def test_it_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(tmp_path)
    model_file = train("run", ngrams=False, steps=1)
    assert model_file.model.ngrams is None
    assert "ngram_buckets" not in json.dumps(model_file.metadata()["spec"]), "the file is one of before"
    write_csv(Path("words.csv"), [{"a": "one", "b": "two three"}, {"a": "two", "b": "three four"}] * 9)
    refused = cli("train", "words.csv", "--source", "a:text", "--target", "b:text", "--no-ngrams", "--steps", "1").err
    assert "--no-ngrams is for a source of one text and a target of one label" in refused


@pytest.mark.slow
def test_a_resume_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = train("whole", steps=12)
    train("run", steps=12, stop_after=5)
    launch.resume_run(Path("run"), {"stop_after": None}, NullProgress()).train()
    resumed = load_model(Path("run/model.safetensors")).model.state_dict()
    assert resumed.keys() == whole.model.state_dict().keys()
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed[name]), name


def text_model(buckets: int = 1024) -> TableModelFile:
    source = TextColumn("t", CharTokenizer("abcdef "))
    source.ngram_buckets = buckets
    spec = TableSpec(source, LabelColumn("y", ["p", "q"]))
    torch.manual_seed(0)
    return TableModelFile(EncoderDecoder(spec.dims, ModelOptions(hidden=8, layers=1), PairOptions()).eval(), spec)


@pytest.mark.parametrize(("rows", "quality", "expected"), [(200, 1.0, SHARES[-1]), (200, -1.0, 0.0), (49, -1.0, DEFAULT_SHARE)])
def test_the_share_is_chosen_on_held_out_rows(rows: int, quality: float, expected: float) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (rows,), generator=generator)
    right = torch.nn.functional.one_hot(targets, 2).float()
    noise = torch.randn(rows, 2, generator=generator)
    recurrent, ngrams = (noise, right) if quality > 0 else (right + 0.1 * noise, -right)
    assert _best_share(recurrent, ngrams, targets, None) == expected
    model = text_model().model
    set_answer_scales(model, 1.5, 0.25)
    assert model.ngrams is not None
    assert (float(model.temperature), float(model.ngrams.share)) == (1.5, 0.25)


def test_explained_parts_count_the_ngrams_that_go() -> None:
    model_file = text_model()
    classifier = model_file.model.ngrams
    assert classifier is not None
    with torch.no_grad():
        for number in hash_ngrams("bad"):
            classifier.embedding.weight[int(number) % 1024, 0] = 1.0
    machine = DeviceConfig(torch.device("cpu"), torch.float32, 1)
    predictor, cell = Predictor(model_file.model, model_file.spec, machine, PredictOptions()), Cell("fee bad cab", "t")
    (column,) = occlude(predictor, cell, predictor.predict([cell])[0])
    parts = dict(zip(column.texts, column.effect.tolist(), strict=True))
    assert max(parts, key=lambda text: abs(parts[text])) == "bad "


def test_a_damaged_number_of_buckets_is_refused(tmp_path: Path) -> None:
    for value in (-1, MAX_BUCKETS + 1, "many", 2048):
        model_file = text_model()
        model_file.spec.source.ngram_buckets = value  # type: ignore[assignment]
        save_model(tmp_path / "model.safetensors", model_file)
        with pytest.raises(unrolled.UnrolledError):
            load_model(tmp_path / "model.safetensors")


def test_long_rows_are_cut_for_the_ngrams_too() -> None:
    spec = text_model().spec
    cut = TableSpec(spec.source, spec.target, max_length=3)
    assert cut.encode_source(Cell("fee bad", "t")).ngrams.tolist() == hash_ngrams("fee").tolist()  # type: ignore[union-attr]
