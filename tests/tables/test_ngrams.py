"""The classifier of hashed n-grams next to the recurrent layers: where it is, what it learns, explains, keeps and exports."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.tables import many_to_one, write_csv
from unrolled.checkpoints.model_file import TableModelFile, load_checked, load_model, save_checked, save_model
from unrolled.evaluation.calibration import _best_share, fit_number_share, mean_loss, set_answer_scales
from unrolled.evaluation.predictor import Predictor
from unrolled.exchange.export_job import ExportError
from unrolled.exchange.onnx_table import _TableGraph
from unrolled.exchange.table_export import TableExportJob, export_table
from unrolled.interpret.occlusion import occlude
from unrolled.nn.device import DeviceConfig
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.ngram_classifier import DEFAULT_SHARE, SCALE, SHARES, NgramClassifier
from unrolled.options import ModelOptions, PairOptions, PredictOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.label_columns import LabelColumn
from unrolled.tables.ngrams import (
    CASE_VERSION,
    MAX_BUCKETS,
    MAX_CHARACTERS,
    MIN_BUCKETS,
    choose_buckets,
    count_ngrams,
    hash_ngrams,
    version_for,
)
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.pair_batching import PairDataset
from unrolled.tables.spec import TableSpec
from unrolled.tables.text_column import TextColumn
from unrolled.text.tokenizer import CharTokenizer
from unrolled.training import launch, ngram_fit
from unrolled.training.callbacks import ProgressCallback
from unrolled.training.ngram_fit import NUMBER_PENALTY, PENALTY, fit_ngrams, fit_rows

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
    one_word = set(hash_ngrams(" ").tolist()) | set(hash_ngrams("b").tolist()) & set(hash_ngrams("c").tolist())
    assert not set(hash_ngrams("who").tolist()) & set(hash_ngrams("xyz").tolist()) - one_word
    assert hash_ngrams("a", version=1).tolist()[:2] == [74631986, 1032454442], "old models need the same numbers"
    num_of_words, num_of_runs = 4 + 3 + 2 + 1, sum(len(" who is it? ") + 1 - size for size in range(1, 7))
    assert (hashes % 2 == 0).sum() == num_of_words, "words and marks, pairs, later words after the first two, their number"
    assert num_of_runs - 7 < (hashes % 2).sum() <= num_of_runs, "the blank and 'i' come twice"
    assert len(hash_ngrams("Who is it?", version=1)) == 7 + (hashes % 2).sum()


@pytest.mark.parametrize("text", ["", " ", "\n", "?", "漢字", "\ud800", "é" * 3, "a\0b"])
def test_the_hashes_of_odd_texts(text: str) -> None:
    assert len(hash_ngrams(text)) >= 1


def test_long_texts_keep_their_words() -> None:
    start = "word " * (MAX_CHARACTERS // 5)
    assert set(hash_ngrams(start + "late")) - set(hash_ngrams(start)), "a word and a pair after the last run"
    assert len(set(hash_ngrams(start + "late")) - set(hash_ngrams(start))) == 3, "and the word after the first two"


def test_buckets_follow_the_training_rows() -> None:
    rows = [np.arange(start, start + 100, dtype=np.uint32) for start in range(0, 5000, 50)]
    assert count_ngrams(rows) == 5050
    assert choose_buckets(5050, 7) == 8192
    assert choose_buckets(10**7, 7) == MAX_BUCKETS
    assert choose_buckets(10**7, 10_000) == MIN_BUCKETS


def test_its_logits() -> None:
    classifier = NgramClassifier(4, 2)
    with torch.no_grad():
        classifier.table[:4] = torch.tensor([[1.0, 0], [0, 2], [3, 0], [0, 4]])
        classifier.weights[:4] = torch.tensor([3.0, 4, 2, 0])
        classifier.bias.copy_(torch.tensor([0.5, 0]))
    logits = classifier(torch.tensor([[0, 2, 3], [1, 4, 4]]))
    expected = torch.tensor([[[0.5 + 3 / 5 * SCALE, 4 / 5 * 2 * SCALE], [0.5 + 3 * SCALE, 0], [0.5, 0]]])
    torch.testing.assert_close(logits, expected)


def test_the_fit_is_the_minimum_of_the_loss() -> None:
    generator = np.random.default_rng(0)
    rows = [np.unique(generator.integers(0, 64, 12)) for _ in range(60)]
    labels = np.array([int(row.sum() % 7 > 3) for row in rows])
    label_weights = np.array([0.5, 1.5, 0], dtype=np.float32)
    classifier = NgramClassifier(1024, 3)
    fit_ngrams(classifier, rows, labels, label_weights)
    table, bias = (values.clone().double().requires_grad_() for values in (classifier.table, classifier.bias))
    losses = []
    for row, label in zip(rows, labels.tolist(), strict=True):
        weights = classifier.weights[torch.from_numpy(row)].double()
        logits = SCALE * (weights / weights.norm()) @ table[torch.from_numpy(row)] + bias
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(label)) * float(label_weights[label]))
    loss = torch.stack(losses).mean() + PENALTY / 2 / len(rows) * table.square().sum()
    gradients = torch.autograd.grad(loss, (table, bias), retain_graph=True)
    assert max(float(gradient.norm()) for gradient in gradients) < 0.01
    assert torch.autograd.grad(losses[0], table)[0].norm() > 0.1, "the gradient of one row is not small"
    words, runs = classifier.weights[:64:2], classifier.weights[1:64:2]
    assert words.mean() > 2 * runs.mean()
    assert not classifier.weights[64:].any(), "n-grams of no row add nothing"


def test_of_a_long_table_rows_are_left_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = PairDataset(text_model().spec)
    for number in range(40):
        dataset.add(number, Cell("abcdefab"[number // 5] * 3, "t"), Cell("pq"[number // 20], "y"))
    dataset.finalize()
    assert dataset.ngrams is not None
    monkeypatch.setattr(ngram_fit, "MAX_LOGIT_TERMS", int(dataset.ngrams.lengths.sum()) * 3 // 10)
    classifier = fit_rows(dataset, np.arange(40)).ngrams
    assert classifier is not None
    seen = [bool(classifier.weights[hash_ngrams(letter * 3).astype(np.int64) % 1024].all()) for letter in "abcdef"]
    assert seen == [True, False, True, False, True, False], "rows 0, 10, 20 and 30"
    monkeypatch.undo()
    whole = fit_rows(dataset, np.arange(40)).ngrams
    assert whole is not None
    assert whole.weights.count_nonzero() > classifier.weights.count_nonzero()


def test_a_model_whose_ngrams_learned_beside_the_layers_predicts_as_it_did(tmp_path: Path) -> None:
    model_file = text_model()
    column, classifier = model_file.spec.source, model_file.model.ngrams
    assert classifier is not None
    column.ngram_version = 1
    table = torch.randn(1025, 3)
    table[-1] = 0.0
    classifier.table.copy_(table)
    classifier.weights[:-1] = 1.0
    save_model(tmp_path / "new.safetensors", model_file)
    tensors, metadata = load_checked(tmp_path / "new.safetensors")
    tensors["ngrams.embedding.weight"] = tensors.pop("ngrams.table")
    del tensors["ngrams.weights"], metadata["spec"]["source"]["ngram_version"]
    save_checked(tmp_path / "old.safetensors", tensors, metadata)
    old = load_model(tmp_path / "old.safetensors")
    assert isinstance(old, TableModelFile)
    assert old.model.ngrams is not None
    assert old.spec.source.ngram_version == 1
    hashes = hash_ngrams("bad cab", version=1) % 1024
    logits = SCALE * table[hashes.astype(np.int64)].sum(0) / len(hashes) ** 0.5
    encoded = old.spec.encode_source(Cell("bad cab", "t")).ngrams
    assert encoded is not None
    torch.testing.assert_close(old.model.ngrams(torch.from_numpy(encoded % 1024)[:, None].long())[0, 0], logits)


def test_it_learns_by_default_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model_file = train("run")
    classifier, spec = model_file.model.ngrams, model_file.spec
    assert classifier is not None
    assert spec.source.ngram_buckets == 1024 == spec.dims.ngram_buckets
    assert classifier.table.abs().sum() > 0, "it has learned"
    assert not classifier.table[-1].any(), "padding adds nothing"
    assert not classifier.weights[-1]
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
    assert "--no-ngrams is for a source of one text and a target of one label or number" in refused


@pytest.mark.slow
def test_a_resume_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = train("whole", steps=12)
    train("run", steps=12, stop_after=5)
    launch.resume_run(Path("run"), {"stop_after": None}, ProgressCallback()).train()
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


def number_model(share: float) -> TableModelFile:
    """A model of one number, whose n-grams have random weights."""
    source = TextColumn("t", CharTokenizer("abcdef "))
    source.ngram_buckets = 1024
    spec = TableSpec(source, NumberColumn("y", np.zeros(1), np.ones(1)))
    torch.manual_seed(0)
    model = EncoderDecoder(spec.dims, ModelOptions(hidden=8, layers=1), PairOptions()).eval()
    assert model.ngrams is not None
    model.ngrams.table.normal_()
    model.ngrams.weights.fill_(1.0)
    model.ngrams.share.fill_(share)
    return TableModelFile(model, spec)


def number_rows(spec: TableSpec, count: int) -> PairDataset:
    """Rows whose number is how many letters of their text are an `a`."""
    dataset = PairDataset(spec)
    draw = random.Random(1)
    for number in range(count):
        text = "".join(draw.choices("abcdef", k=8))
        dataset.add(number, Cell(text, "t"), Cell(str(text.count("a")), "y"))
    dataset.finalize()
    return dataset


def test_numbers_are_fitted_by_ridge_regression() -> None:
    model_file = number_model(0.5)
    dataset = number_rows(model_file.spec, 60)
    fitted = fit_rows(dataset, np.arange(60)).ngrams
    assert fitted is not None
    table, bias = (values.clone().double().requires_grad_() for values in (fitted.table, fitted.bias))
    losses = []
    for row in range(60):
        ids = torch.from_numpy(dataset.ngrams[row].astype(np.int64) % 1024)  # type: ignore[index]
        weights = fitted.weights[ids].double()
        number = SCALE * (weights / weights.norm()) @ table[ids] + bias
        losses.append((number - float(dataset.target[row][0, 0])).square().sum() / 2)
    loss = torch.stack(losses).mean() + NUMBER_PENALTY / 2 / 60 * table.square().sum()
    gradients = torch.autograd.grad(loss, (table, bias))
    assert max(float(gradient.norm()) for gradient in gradients) < 0.01


@pytest.mark.parametrize(("rows", "answer", "expected"), [(80, "ngrams", 1.0), (80, "layers", 0.0), (49, "ngrams", 0.5)])
def test_the_share_of_a_number_is_chosen_on_held_out_rows(rows: int, answer: str, expected: float) -> None:
    model_file = number_model(0.3)
    model, dataset = model_file.model, number_rows(model_file.spec, rows)
    machine = DeviceConfig(torch.device("cpu"), torch.float32, 1)
    assert model.ngrams is not None
    if answer == "ngrams":
        model.ngrams = fit_rows(dataset, np.arange(rows)).ngrams
    else:
        model.ngrams.table.mul_(100)
    loss = fit_number_share(model, dataset, np.arange(rows), machine)
    assert model.ngrams is not None
    assert float(model.ngrams.share) == pytest.approx(expected)
    assert mean_loss(model, dataset, np.arange(rows), machine) == pytest.approx(loss, rel=1e-5)


def test_onnx_has_the_mean_of_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    job = TableExportJob(number_model(0.4), Path("model"), Path("m.onnx"), "m")
    assert export_table(job).checks
    monkeypatch.setattr(_TableGraph, "ngram_logits", lambda self, ngrams: self.weight("nothing", np.zeros(1, np.float32)))
    with pytest.raises(ExportError):
        export_table(job)


def test_explained_parts_count_the_ngrams_that_go() -> None:
    model_file = text_model()
    classifier = model_file.model.ngrams
    assert classifier is not None
    with torch.no_grad():
        for number in hash_ngrams("bad"):
            classifier.table[int(number) % 1024, 0] = 1.0
            classifier.weights[int(number) % 1024] = 1.0
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


def test_case_counts_where_it_is_more_than_that_of_sentences() -> None:
    """In lower case, a chlorine and a carbon next to lithium, or an aromatic and another carbon, were one."""
    assert set(hash_ngrams("Cc", CASE_VERSION)) != set(hash_ngrams("cC", CASE_VERSION))
    assert set(hash_ngrams("Cc")) == set(hash_ngrams("cC"))
    assert len(set(hash_ngrams("ab", CASE_VERSION)) - set(hash_ngrams("ab"))) == 1, "a blank at both ends"
    molecules = ["CC(=O)Oc1ccccc1C(=O)O", "ClCCl", "c1ccncc1", "[Na+].[Cl-]"]
    assert version_for(["z" * 100_000] * 1000) == 2, "in linear time"
    for texts, version in [
        (molecules, 3),
        (["Who wrote Hamlet?", "Where is New York?"], 2),
        (["GATTACA"], 2),
        (["a b"], 2),
        ([], 2),
    ]:
        assert version_for(texts) == version, texts


def test_short_runs_are_counted() -> None:
    """A chain of carbons is as long as it is: its n-grams were those of one of six."""
    chains = [
        {number for number in hash_ngrams("C" * length + "O", CASE_VERSION).tolist() if number % 2} for length in (6, 8, 20)
    ]
    assert chains[0] < chains[1] < chains[2]
    assert len(chains[1] - chains[0]) == 2 * 3, "two more of C, CC and CCC"
    assert len(hash_ngrams("C" * 400, CASE_VERSION)) - len(hash_ngrams("C" * 40, CASE_VERSION)) == 0, (
        "31 times and more are one"
    )


@pytest.mark.slow
def test_the_version_is_that_of_the_text_and_is_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    rows = ["".join(draw.choices("CcOoNn", k=draw.randint(6, 30))) for _ in range(300)]
    lines = [f"{row},{row.count('C') - row.count('c')}.5" for row in rows]
    Path("t.csv").write_text("\n".join(["smiles,y", *lines]) + "\n")
    cli("train", "t.csv", "--source", "smiles", "--target", "y", "--steps", 3, "--hidden", 8, "--layers", 1, "--out", "run")
    model = unrolled.load_table("run")
    model_file = load_model(Path("run/model.safetensors"))
    assert isinstance(model_file, TableModelFile)
    assert model_file.spec.source.ngram_version == CASE_VERSION
    report = model.evaluate()
    assert report.metrics["rmse"] < 0.8 * report.baselines["mean"]["rmse"], "what upper and lower case say is learned"
    monkeypatch.setattr("unrolled.tables.text_column.version_for", lambda texts: 2)
    cli("train", "t.csv", "--source", "smiles", "--target", "y", "--steps", 3, "--hidden", 8, "--layers", 1, "--out", "old")
    report = unrolled.load_table("old").evaluate()
    assert report.metrics["rmse"] > 0.9 * report.baselines["mean"]["rmse"]
