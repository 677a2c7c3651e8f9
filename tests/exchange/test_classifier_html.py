"""Models that label a text as a page: its script reads texts and computes as the model does; wrong writers; refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.classifiers import WORDS, base_text, classifier
from support.cli import Cli
from support.programs import change_script, run_module
from support.series import series_model
from support.tables import many_to_one, write_csv
from unrolled.checkpoints.model_file import save_model
from unrolled.exchange import classifier_html_export, classifier_page_data
from unrolled.exchange.classifier_html_export import export_classifier_html, unsupported_classifier
from unrolled.exchange.classifier_rounding import rounded_classifier
from unrolled.exchange.export_job import ExportError
from unrolled.tables import ngrams
from unrolled.tables.cell_values import Cell
from unrolled.tables.text_column import TextColumn
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from unrolled.views import portable_data
from unrolled.views.html_page import pack_array
from unrolled.views.text_classifier_page import base_reader_data, reader_data

PAGE = Path("m.html")
MODELS: dict[str, dict[str, Any]] = {
    "words": {},
    "words with their blanks": {"spaces": False},
    "characters": {"tokens": "characters", "bidirectional": False, "pool": "last"},
    "without n-grams": {"ngrams": 0, "pool": "max"},
    "old n-grams": {"version": 1, "pool": "mean", "bidirectional": False},
    "the last step, both ways": {"pool": "last", "cell": "gru"},
    "long texts are cut": {"max_length": 12},
    "long texts of characters": {"tokens": "characters", "max_length": 9, "normalization": "nfc"},
    "one label": {"labels": 1},
    "two labels with a threshold": {"labels": 2, "threshold": 0.2},
    "a language model helps": {"base": base_text()},
    "another one, of bytes": {
        "tokens": "characters",
        "base": base_text(ByteTokenizer(), cell="gru", residual=False, embedding=5),
    },
    "a label for each word": {"tags": "words"},
    "a label for each word, with their blanks": {"tags": "words", "spaces": False, "bidirectional": False, "cell": "gru"},
    "a label for each character": {"tokens": "characters", "tags": "characters"},
    **{cell: {"cell": cell} for cell in ("rnn", "gru-reset-before", "mingru", "rg-lru", "slstm", "mogrifier-gru")},
}
QUICK = ("words", "characters", "a language model helps", "a label for each word")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS])
def test_the_script_computes_what_the_model_computes(name: str, node: str) -> None:
    model_file = classifier(**MODELS[name])
    exact, rounded = (export_classifier_html(model_file, name, PAGE, weights) for weights in ("float32", "int8"))
    for result in (exact, rounded):
        assert result.checks[0].startswith("node: every logit of 1")
        assert "(of 1, 7, 40 tokens, and odd ones)" in result.checks[0]
        assert ("and the effects of" in result.checks[0]) is model_file.spec.labels_one_text
        assert b"https:" not in result.files[PAGE]
    sizes = [len(data_of(result.files[PAGE])) for result in (exact, rounded)]
    assert sizes[1] < 0.8 * sizes[0]


def data_of(page: bytes) -> str:
    found = re.search(r'id="data">(.*?)</script>', page.decode(), re.DOTALL)
    assert found is not None
    return found[1]


def swapped_layers(data: dict[str, Any]) -> dict[str, Any]:
    """Have the first layer read forward with the units that read backward in the second layer."""
    first, second = data["bothWays"]
    return {"bothWays": [first | {"forward": second["forward"]}, second]}


DATA_FAULTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "layers are swapped": swapped_layers,
    "the temperature is dropped": lambda data: {"temperature": 1.0},
    "the share of the n-grams is dropped": lambda data: {"ngrams": data["ngrams"] | {"share": 1.0}},
    "the n-grams are dropped": lambda data: {"ngrams": None},
    "the n-grams are those of another version": lambda data: {"ngrams": data["ngrams"] | {"version": 1}},
    "the second layer is dropped": lambda data: {"bothWays": data["bothWays"][:1]},
    "shapes of rare words are dropped": lambda data: {
        "reader": data["reader"] | {"tokens": [token for token in data["reader"]["tokens"] if token[0] != "\0"]}
    },
    "the pooling is another": lambda data: {"pool": "mean"},
    "parts are longer": lambda data: {"maxParts": 3},
    "the language model is dropped": lambda data: {"base": None},
    "the language model reads without a start": lambda data: {
        "base": data["base"] | {"reader": data["base"]["reader"] | {"maxCharacters": 9}}
    },
    "letters are replaced by others": lambda data: {
        "base": data["base"] | {"reader": data["base"]["reader"] | {"replacements": []}}
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", DATA_FAULTS)
def test_a_wrong_writer_is_caught(fault: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model_data = classifier_page_data.model_data
    monkeypatch.setattr(
        classifier_page_data, "model_data", lambda *args: (data := model_data(*args)) | DATA_FAULTS[fault](data)
    )
    with pytest.raises(ExportError, match="computes something else than the model: text"):
        export_classifier_html(classifier(base=base_text()), "m", PAGE)


def test_scales_of_other_rows_are_caught(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(*args: Any) -> Any:
        data = matrix_data(*args)
        return data if data is None or data["scale"] is None else data | {"scale": pack_array(np.roll(args[0].scale, 1))}

    matrix_data = portable_data.matrix_data
    monkeypatch.setattr(portable_data, "matrix_data", shifted)
    with pytest.raises(ExportError, match="computes something else than the model: text"):
        export_classifier_html(classifier(), "m", PAGE, "int8")


def test_rounding_is_that_of_each_row() -> None:
    model_file = classifier(base=base_text())
    exact, rounded = (each.model.state_dict() for each in (model_file, rounded_classifier(model_file)))
    for name, weight in exact.items():
        ours, known = rounded[name], slice(3)
        if weight.dim() != 2:
            assert torch.equal(ours, weight), name
            continue
        if name == "ngrams.table":
            ours, weight = ours[:, known], weight[:, known]
        elif name == "base.table":
            ours, weight = ours[:, known].T, weight[:, known].T
        largest = weight.abs().amax(1, keepdim=True)
        assert ((ours - weight).abs() <= 0.5001 * largest / 127).all(), name
        assert not torch.equal(ours, weight), name


def test_the_cost_of_rounding_is_that_of_predictions(node: str, cli: Cli) -> None:
    """Of a run, on its held-out rows; of a model alone, it is not known."""
    write_csv(Path("rows.csv"), many_to_one(80, 1))
    options = ["--steps", 30, "--hidden", 16, "--layers", 1, "--batch", 8, "--threads", 1, "--from", "none"]
    assert cli("train", "rows.csv", "--source", "text", "--target", "label", *options, "--out", "run").code == 0
    done = cli("export", "run", "--to", "html", "--json")
    assert done.code == 0, done.err
    rounding = json.loads(done.out)["rounding"]
    model = unrolled.load_table("run")
    metrics = model.evaluate()
    assert rounding["accuracy"] - rounding["extra_accuracy"] == pytest.approx(metrics.metrics["accuracy"])
    assert abs(rounding["extra_bits"]) < 0.05
    assert "by rounding)," in cli("export", "run", "--to", "html", "--force").out
    assert "weights:" not in cli("export", "run", "--to", "html", "--force", "--weights", "float32").out
    Path("run/model.safetensors").rename("alone.safetensors")
    assert "not known without the table of its run" in cli("export", "alone.safetensors", "--to", "html").out


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["words", "characters"])
def test_long_texts_have_longer_parts(node: str, monkeypatch: pytest.MonkeyPatch, tokens: str) -> None:
    monkeypatch.setattr(classifier_html_export, "SHAPES", ((130, 1),))
    monkeypatch.setattr(classifier_html_export, "MAX_EXPLAINED_STEPS", 1000)
    model_file = classifier(tokens, bidirectional=False)
    lengths = {len(case["effects"]) for case in classifier_html_export.vectors_data(model_file)["cases"]}
    assert tokens != "words" or 44 in lengths  # 130 words, three in each part
    export_classifier_html(model_file, "m", PAGE)


SCRIPT_FAULTS = {
    "words are not looked up in lower case": ("[word, word.toLowerCase(), ", "[word, "),
    "n-grams keep their case": ("(plain(text).match(WORD)", "(text.match(WORD)"),
    "layers begin with ones": ("state = layers.initialState();", "state = layers.initialState(); state.h[0].fill(1);"),
    "the text is left as it is for n-grams": ('parts.filter((_, other) => other !== index).join("")', 'parts.join("")'),
}  # fmt: skip


TAGGER_FAULTS = {
    "steps are read the wrong way round": ("(ids) => encode(ids).map(", "(ids) => encode(ids).reverse().map("),
    "the temperature of tags is dropped": ("(logit) => f(logit) / model.temperature", "(logit) => f(logit)"),
    "the last step is each": ("(ids) => encode(ids).map(", "(ids) => encode(ids).map((x, _, all) => all.at(-1) ?? x).map("),
}  # fmt: skip


@pytest.mark.parametrize("fault", TAGGER_FAULTS)
def test_a_wrong_script_of_a_tagger_is_caught(fault: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change_script(monkeypatch, *TAGGER_FAULTS[fault])
    with pytest.raises(ExportError, match="computes something else than the model: text"):
        export_classifier_html(classifier(tags="words"), "m", PAGE)


@pytest.mark.parametrize("fault", SCRIPT_FAULTS)
def test_a_wrong_script_is_caught(fault: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change_script(monkeypatch, *SCRIPT_FAULTS[fault])
    with pytest.raises(ExportError, match="computes something else than the model: text"):
        export_classifier_html(classifier(), "m", PAGE)


TEXTS = [
    WORDS, "", "a", "  two  words ", "Who is the fastest?",
    "\u0130stanbul \u00df \u1e9e \u03a3\u03a3 \u65e5\u672c\u8a9e\u3067\u3059 \U0001f600!", "x\u0301y",
    "tab\tline\nno-break\u00a0ideographic\u3000file\x1cnext\x85\u200bzero\ufeffmark",
    "1st 2nd \u00bd \u2460 \u00b2 \u0663 _under_ caf\u00e9s", "z" * 900,
    "CamelCase UPPER-case A1 4-door O'Neil don\u2019t \u01c5ep \u2163 well-known-as 100%",
]  # fmt: skip


@pytest.mark.parametrize("version", [1, 2, 3])
def test_ngrams_are_those_of_python(node: str, version: int) -> None:
    rules = {"version": version, **classifier_page_data.ngram_rules()}
    expression = "data.texts.map((text) => module.hashNgrams(text, data.rules))"
    found = run_module(node, "text_classifier/ngrams.js", expression, {"texts": TEXTS, "rules": rules})
    for text, hashes in zip(TEXTS, found, strict=True):
        assert sorted(hashes) == ngrams.hash_ngrams(text, version).tolist(), text


@pytest.mark.parametrize(
    "settings", [{}, {"spaces": False}, {"tokens": "characters"}, {"tokens": "characters", "normalization": "nfkc"}]
)
def test_texts_are_read_as_in_python(node: str, settings: dict[str, Any]) -> None:
    spec = classifier(**settings).spec
    column = spec.source
    assert isinstance(column, TextColumn)
    expression = "data.texts.map((text) => module.createReader(data.reader).read(text))"
    data = {"texts": TEXTS, "reader": reader_data(column, 8192)}
    for text, found in zip(TEXTS, run_module(node, "text_classifier/tokens.js", expression, data), strict=True):
        cell = Cell(text, "")
        assert found["ids"] == column.encode(cell).tolist(), text
        assert found["tokens"] == list(column.cell_tokens(cell)), text
        assert found["text"] == column.read_text(cell), text


@pytest.mark.parametrize("tokenizer", [None, ByteTokenizer(), CharTokenizer("abc\u0301 \n.e", has_eos=True)])
def test_a_language_model_reads_as_in_python(node: str, tokenizer: Tokenizer | None) -> None:
    base = base_text(tokenizer)
    data = {"texts": TEXTS, "reader": base_reader_data(base)}
    found = run_module(node, "text_classifier/tokens.js", "data.texts.map(module.createBaseReader(data.reader))", data)
    assert found == [base.encode(text).tolist() for text in TEXTS]


def test_what_has_no_page_is_refused(cli: Cli) -> None:
    helped = classifier(base=base_text(cell="gated-deltanet"))
    assert "the cell gated-deltanet is not in the page" in str(unsupported_classifier(helped))
    assert "the cell gated-deltanet is not in the page" in str(unsupported_classifier(classifier(cell="gated-deltanet")))
    model_file = classifier(tokens="characters")
    model_file.spec.source.tokenizer = ByteTokenizer(False)
    assert "reads words and characters, and 'text' has the tokens bytes" in str(unsupported_classifier(model_file))
    numbers = series_model()
    assert "a text that gets a label, or one for each token, besides series" in str(unsupported_classifier(numbers))
    save_model(Path("m.safetensors"), classifier())
    done = cli("export", "m.safetensors", "--to", "html", "--weights", "int4")
    assert "--weights is int4; the page or C file of a model of a table has int8 or float32" in done.err
