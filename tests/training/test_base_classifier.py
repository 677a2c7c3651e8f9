"""A base model that helps to label texts: its states, what is fitted to them, the model file, predictions and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.tables import many_to_one, write_csv
from unrolled.checkpoints.model_file import TableModelFile, TextModelFile, load_checked, load_model, save_model
from unrolled.errors import UnrolledError
from unrolled.evaluation.calibration import mean_loss
from unrolled.evaluation.predictor import Predictor
from unrolled.interpret.occlusion import occlude
from unrolled.nn.base_classifier import MIN_DEVIATION, SCALE, BaseClassifier
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.ngram_classifier import NgramClassifier
from unrolled.options import ModelOptions, PredictOptions
from unrolled.tables.base_text import MAX_CHARACTERS, BaseText
from unrolled.tables.cell_values import Cell
from unrolled.tables.model_dims import BaseDims
from unrolled.tables.pair_batching import PairDataset
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from unrolled.training import launch, ngram_fit
from unrolled.training.callbacks import ProgressCallback
from unrolled.training.ngram_fit import PENALTY, fit_ngrams, fit_rows

LETTERS = "\n abcdefghijklmnopqrstuvwxyz"
SETTINGS: dict[str, Any] = {"threads": 1, "progress": False, "batch": 8, "steps": 2, "hidden": 8, "layers": 1}
MACHINE = DeviceConfig(torch.device("cpu"), torch.float32, 1)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save_base(tokenizer: Tokenizer | None = None, bfloat16: bool = True, **options: Any) -> TextModelFile:
    """Write a base with random weights, all of which bfloat16 has, unless it is not to."""
    tokenizer = tokenizer or CharTokenizer(LETTERS)
    torch.manual_seed(0)
    network = RecurrentLM(tokenizer.vocab_size, ModelOptions(**{"hidden": 12, "layers": 2, **options}))
    if bfloat16:
        network.load_state_dict({name: weight.bfloat16().float() for name, weight in network.state_dict().items()})
    model_file = TextModelFile(network.eval(), tokenizer)
    save_model(Path("base.safetensors"), model_file)
    return model_file


def train(**settings: Any) -> TableModelFile:
    write_csv(Path("rows.csv"), many_to_one(60, 1))
    settings = {"init_from": "base.safetensors", "out": "run", **SETTINGS, **settings}
    model_file = load_model(Path(unrolled.train_table("rows.csv", "text", "label", **settings).path))
    assert isinstance(model_file, TableModelFile)
    return model_file


def pooled(network: RecurrentLM, ids: torch.Tensor) -> torch.Tensor:
    """Return the features of one text, computed step by step."""
    states, state = [], network.initial_state(1)
    with torch.no_grad():
        for token in ids:
            y, state = network.stack.step(network.embedding(token[None]), state)
            states.append(y[0])
    rows = torch.stack(states)
    return torch.cat([rows.mean(0), rows.amax(0), rows.amin(0), rows[-1]])


@pytest.mark.parametrize(
    "options", [{}, {"cell": "gru", "residual": False, "embedding": 5}, {"embedding": 0, "residual": False}]
)
def test_the_features_of_texts_of_several_lengths(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_base(**options)
    reader = BaseClassifier(BaseDims(base.tokenizer.vocab_size, base.model.options), 3)
    reader.load_base(base.model)
    lengths = torch.tensor([7, 1, 4, 7, 2])
    ids = torch.randint(base.tokenizer.vocab_size, (7, 5), generator=torch.Generator().manual_seed(1))
    expected = torch.stack([pooled(base.model, ids[:length, row]) for row, length in enumerate(lengths.tolist())])
    torch.testing.assert_close(reader.features(ids, lengths), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("unrolled.nn.base_classifier.MAX_STEPS", 14)
    torch.testing.assert_close(reader.features(ids, lengths), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(reader.features(ids, lengths), expected, rtol=1e-4, atol=1e-5)
    standardized = reader.standardize(expected)
    deviation = expected.std(0, correction=0)
    scale = SCALE / expected.shape[1] ** 0.5
    torch.testing.assert_close(standardized, (expected - expected.mean(0)) / (deviation + MIN_DEVIATION) * scale)
    reader.table.normal_()
    torch.testing.assert_close(reader(ids, lengths), standardized @ reader.table, rtol=1e-3, atol=1e-4)
    assert not list(reader.parameters()), "no optimizer sees it"


def test_what_a_base_reads() -> None:
    text = BaseText(CharTokenizer(LETTERS), ModelOptions())
    tokens = text.tokenizer.token_strings()
    assert "".join(tokens[i] for i in text.encode("Öl wie 漢")) == "\nol wie  \n", "the nearest, with one for each character"
    assert len(text.encode("a" * 2000)) == MAX_CHARACTERS + 2
    assert text.known_share(["ab", "漢字"]) == pytest.approx(6 / 8), "with two line ends each"
    assert text.known_share([]) == 1.0
    assert BaseText(ByteTokenizer(), ModelOptions()).encode("é").tolist() == [10, 0xC3, 0xA9, 10]


def test_the_fit_of_both_parts_is_the_minimum_of_the_loss() -> None:
    generator = np.random.default_rng(0)
    rows = [np.unique(generator.integers(0, 64, 12)) for _ in range(60)]
    features = torch.from_numpy(generator.normal(size=(60, 5)).astype(np.float32))
    labels = (features[:, 2] + features[:, 3] > 0).numpy().astype(np.int64)
    classifier = NgramClassifier(1024, 2)
    dense = fit_ngrams(classifier, rows, labels, None, features)
    assert dense.shape == (5, 2)
    table, dense = (values.clone().double().requires_grad_() for values in (classifier.table, dense))
    weights = classifier.weights.double()
    logits = torch.stack([8 * (weights[row] / weights[row].norm()) @ table[row] for row in map(torch.from_numpy, rows)])
    logits = logits + features.double() @ dense + classifier.bias.double()
    penalty = PENALTY / 2 / len(rows) * (table.square().sum() + dense.square().sum())
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)) + penalty
    assert max(float(gradient.norm()) for gradient in torch.autograd.grad(loss, (table, dense))) < 0.01
    assert dense[2, 1] > 0.3 > dense[0, 1].abs(), "what tells the label has the weight"


@pytest.mark.parametrize("tokenizer", [None, ByteTokenizer()])
def test_the_model_file_has_the_base(tokenizer: Tokenizer | None) -> None:
    base = save_base(tokenizer)
    model_file = train()
    reader = model_file.model.base
    assert reader is not None
    assert torch.equal(reader.vectors, base.model.embedding_matrix())
    assert all(torch.equal(weight, reader.stack.state_dict()[name]) for name, weight in base.model.stack.state_dict().items())
    assert reader.table.abs().sum() > 0
    assert model_file.model.options.hidden == 8, "the recurrent layers are those that would be without it"
    assert model_file.spec.source.tokenizer is not None
    assert model_file.spec.source.tokenizer.kind == "words"
    tensors, _ = load_checked(Path("run/model.safetensors"))
    kinds = {tensor.dtype for name, tensor in tensors.items() if name.startswith(("base.stack", "base.vectors"))}
    assert kinds == {torch.bfloat16}
    Path("base.safetensors").unlink()
    answers = unrolled.load_table("run").predictions(["the red dog sleeps", "a", "a blue cat sleeps in the old house"])
    save_model(Path("again.safetensors"), load_model(Path("run/model.safetensors")))
    again = unrolled.load_table("again.safetensors")
    for text, answer in zip(["the red dog sleeps", "a"], answers, strict=False):
        assert again.predictions([text])[0].probability == pytest.approx(answer.probability, abs=1e-6), "alone as with others"


def test_weights_that_bfloat16_has_not_stay_as_they_are() -> None:
    base = save_base(bfloat16=False)
    reader = train().model.base
    assert reader is not None
    assert torch.equal(reader.vectors, base.model.embedding_matrix())


def test_its_part_of_the_logits_is_in_evaluation_and_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    save_base()
    model_file = train(steps=1)
    model, spec = model_file.model.eval(), model_file.spec
    assert model.base is not None
    model.base.table.normal_()
    dataset = PairDataset(spec)
    rows = [(Cell(row["text"], "t"), Cell(row["label"], "y")) for row in many_to_one(9, 5)]
    for number, (source, target) in enumerate(rows):
        dataset.add(number, source, target)
    dataset.finalize()
    loss = mean_loss(model, dataset, np.arange(9), MACHINE)
    predictions = Predictor(model, spec, MACHINE, PredictOptions()).predict([source for source, _ in rows])
    labels = list(spec.target.labels)
    truths = [labels.index(target.value) for _, target in rows]
    probs = [prediction.probabilities[truth] for prediction, truth in zip(predictions, truths, strict=True)]  # type: ignore[index]
    assert loss == pytest.approx(-np.mean(np.log(np.array(probs) / [sum(p.probabilities) for p in predictions])), abs=2e-2)  # type: ignore[arg-type]
    monkeypatch.setattr(BaseClassifier, "features", None)
    assert mean_loss(model, dataset, np.arange(9), MACHINE) == loss, "what it said of these rows is kept"


def test_explanations_change_what_the_base_reads() -> None:
    save_base()
    model_file = train(steps=1)
    model = model_file.model.eval()
    assert model.base is not None
    assert model.ngrams is not None
    model.ngrams.table.zero_()
    torch.nn.init.zeros_(model.head.weight)  # type: ignore[union-attr]
    model.base.table.normal_()
    predictor, cell = Predictor(model, model_file.spec, MACHINE, PredictOptions()), Cell("the red dog sleeps", "t")
    (column,) = occlude(predictor, cell, predictor.predict([cell])[0])
    assert np.abs(column.effect).min() > 1e-4


def test_a_resume_is_exact() -> None:
    save_base()
    whole = train(out="whole", steps=6).model.state_dict()
    train(steps=6, stop_after=2)
    Path("base.safetensors").unlink()
    launch.resume_run(Path("run"), {"stop_after": None}, ProgressCallback()).train()
    resumed = load_model(Path("run/model.safetensors")).model.state_dict()
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_of_a_long_table_some_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_base()
    model_file = train(steps=1)
    dataset = PairDataset(model_file.spec)
    for number, row in enumerate(many_to_one(40, 2)):
        dataset.add(number, Cell(row["text"], "t"), Cell(row["label"], "y"))
    dataset.finalize()
    assert dataset.base_ids is not None
    monkeypatch.setattr(ngram_fit, "MAX_CHARACTERS", -(-int(dataset.base_ids.lengths.sum()) // 4))
    some = fit_rows(dataset, np.arange(40), base.model).base
    monkeypatch.undo()
    quarter = fit_rows(dataset, np.arange(0, 40, 4), base.model).base
    assert some is not None
    assert quarter is not None
    assert torch.equal(some.table, quarter.table)


REFUSALS = {
    "--no-ngrams": "--from base.safetensors is read by the classifier that --no-ngrams leaves out",
    "--shrink-vocabulary": "--shrink-vocabulary has no effect where base.safetensors helps to label a text",
}


@pytest.mark.parametrize("flag", REFUSALS)
def test_settings_without_effect_are_refused(flag: str, cli: Cli) -> None:
    save_base()
    write_csv(Path("rows.csv"), many_to_one(40, 1))
    done = cli("train", "rows.csv", "--source", "text", "--target", "label", "--from", "base.safetensors", flag, "--steps", 1)
    assert (done.code, REFUSALS[flag] in done.err) == (2, True), done.err


def test_texts_and_bases_that_do_not_fit(cli: Cli) -> None:
    write_csv(Path("rows.csv"), many_to_one(40, 1))
    flags = ["train", "rows.csv", "--source", "text", "--target", "label", "--steps", 1, "--from"]
    save_base(CharTokenizer("\nабвгд "))
    done = cli(*flags, "base.safetensors")
    assert done.code == 3
    assert "of the characters of 'text', so it cannot read it: leave --from out" in done.err
    train(init_from="none")
    assert "is a model of a table, and one of texts is expected" in cli(*flags, "run").err


@pytest.mark.parametrize("change", [{"hidden": 10**6}, {"layers": 10**6}, {"hidden": 13}, {"cell": "gru"}])
def test_a_damaged_shape_of_the_base_is_refused(change: dict[str, Any]) -> None:
    save_base()
    model_file = train(steps=1)
    base = model_file.spec.source.base
    assert base is not None
    model_file.spec.source.base = BaseText(base.tokenizer, ModelOptions(**{"hidden": 12, "layers": 2, **change}))
    save_model(Path("bad.safetensors"), model_file)
    with pytest.raises(UnrolledError):
        load_model(Path("bad.safetensors"))
