"""`--to html` for models that label a text: one page, its script run by node before it is written.

Its test vectors are texts, so that they test how a text is read, too: their logits, and the effects of their parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unrolled.command_options import PredictOptions
from unrolled.display import plural
from unrolled.evaluation.predictor import Predictor
from unrolled.exchange.classifier_page_data import page_data, unsupported_reader
from unrolled.exchange.classifier_rounding import rounded_classifier, rounding_cost
from unrolled.exchange.export_job import SHAPES, TOLERANCE, ExportResult
from unrolled.exchange.html_export import check_in_node
from unrolled.interpret.occlusion import occlude
from unrolled.nn.device import select_device
from unrolled.options import MachineOptions
from unrolled.runtime.portable import CELL_STEPS, Weights
from unrolled.runtime.portable_arithmetic import FloatMatrix, Int8Matrix
from unrolled.tables.cell_values import Cell
from unrolled.tables.text_column import TextColumn
from unrolled.tables.word_tokenizer import WordTokenizer
from unrolled.views.report import to_json_value
from unrolled.views.text_classifier_page import text_classifier_page

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile

SCRIPT = "text_classifier/classifier.js"
REPLAY = """
const { unpackClassifier, findDifference } = __modules["text_classifier/classifier.js"];
for (const hasVectors of [true, false]) fail(findDifference(await unpackClassifier(data.model, hasVectors), data.vectors));
"""
ODD_TEXTS = (
    "\u00c9t\u00e9 2024-31, it\u2019s ALL-IN!",
    "  a\tb\u00a0c\u3000\u65e5\u672c 7\u00b2 _x ",
    "\u0130I\u00df o\u0308 e",
)
"""Texts of which much is unknown to most models: accents, digits, capitals, kinds of blanks."""

TEXTS_OF_LENGTH, MAX_EXPLAINED_STEPS = 3, 20
"""Texts of each length that are compared, and steps of those, at most, whose parts are left out one by one."""

MAX_LONG_STEPS = 300
"""Steps that a model reads of a text, at most, for a longer text to be compared."""


def unsupported_classifier(model_file: TableModelFile) -> str | None:
    """Say why a model of a table has no page, or return None if it has one."""
    spec = model_file.spec
    if not spec.labels_one_text and not spec.labels_each_token:
        what = f"this one has {spec.mode.name}: {spec.columns_text}"
        return f"a page is for a text that gets a label, or one for each token, besides series and models of texts, and {what}"
    return unsupported_reader(model_file, CELL_STEPS, "the page")


def export_classifier_html(
    model_file: TableModelFile, title: str, out: Path, weights: Weights = "float32", path: Path | None = None
) -> ExportResult:
    """Return the page of a model that labels a text, checked. Raises `ExportError` if it computes something else.

    With int8 weights, it computes what the model with these weights computes; what they cost is measured on rows of the run
    at `path`.
    """
    is_rounded = weights == "int8"
    computed = rounded_classifier(model_file) if is_rounded else model_file
    matrix = Int8Matrix if is_rounded else FloatMatrix
    data = {**page_data(model_file, title, matrix), "vectors": vectors_data(computed)}
    page = text_classifier_page(data)
    num_parts = sum(len(case["effects"] or ()) for case in data["vectors"]["cases"])
    texts, lengths = plural(len(data["vectors"]["cases"]), "text"), ", ".join(str(steps) for steps, _ in SHAPES)
    effects = f", and the effects of {num_parts} parts of them" * model_file.spec.labels_one_text
    checked = f"every logit of {texts} (of {lengths} tokens, and odd ones){effects}"
    facts: dict[str, Any] = {"weights": weights, "mode": model_file.spec.mode.name}
    if is_rounded:
        facts["rounding"] = None if path is None else rounding_cost(model_file, computed, path)
    return ExportResult({out: page.encode()}, [check_in_node(page, SCRIPT, REPLAY, checked)], facts)


def vectors_data(model_file: TableModelFile, has_effects: bool = True) -> dict[str, Any]:
    """Return test vectors as JSON values: texts with the logits of PyTorch, or scaled numbers, and the effects of their parts.

    The effects are those of short texts that get a label, and of `has_effects`.
    """
    model, spec = model_file.model, model_file.spec
    machine = select_device(MachineOptions(device="cpu", precision="float32", threads=1))
    predictor = Predictor(model, spec, machine, PredictOptions())
    cases: list[dict[str, Any]] = []
    for text in _texts(model_file):
        cell = Cell(text, "")
        source = predictor.encode(cell)
        if not len(source):
            continue
        with torch.inference_mode():
            logits = model.logits(predictor.collate([source]))[:, 0].numpy()
        effects: Any = None
        if has_effects and spec.labels_one_text and len(source) <= MAX_EXPLAINED_STEPS:  # each part is a reading of the text
            parts = occlude(predictor, cell, predictor.predict([cell])[0])
            effects = parts[0].effect if parts else []
        known = logits if spec.target.kind == "number" else logits[:, : max(1, logits.shape[1] - 1)]
        cases.append({"text": text, "logits": known.ravel(), "effects": effects})
    largest = max(float(np.abs(case["logits"]).max()) for case in cases)
    vectors: dict[str, Any] = to_json_value({"tolerance": TOLERANCE * max(1.0, largest), "cases": cases})
    return vectors


def _texts(model_file: TableModelFile) -> Iterator[str]:
    """Yield texts of the tokens of a model at several lengths, with unknown ones, and one that is longer than what is read."""
    column, generator = model_file.spec.source, np.random.default_rng(1)
    if not isinstance(column, TextColumn):
        return
    tokenizer = column.tokenizer
    is_words = isinstance(tokenizer, WordTokenizer)
    tokens = [token for token in tokenizer.tokens if token[:1] != "\0"] if isinstance(tokenizer, WordTokenizer) else []
    tokens = tokens or ([] if is_words else tokenizer.token_strings()) or ["a"]
    separator = " " if is_words else ""
    limit = model_file.spec.step_limit
    lengths = [steps for steps, _ in SHAPES] + ([limit + 5] if limit <= MAX_LONG_STEPS else [])
    for length in lengths:
        for _ in range(TEXTS_OF_LENGTH):
            drawn = [tokens[index] for index in generator.integers(0, len(tokens), length)]
            yield separator.join(word.upper() if generator.random() < 0.1 else word for word in drawn)
    yield from ODD_TEXTS
    yield separator.join([tokens[0], *ODD_TEXTS, tokens[-1]])
