"""Models of tables as ONNX: every source, target, cell and pooling; the example of the docs; wrong writers and refusals."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.classifiers import base_model, base_text, classifier
from support.cli import Cli
from support.tables import write_jsonl
from unrolled.checkpoints.model_file import TableModelFile, save_model
from unrolled.exchange import onnx_builder, onnx_cells, onnx_table, table_export
from unrolled.exchange.export_job import ExportError
from unrolled.exchange.table_export import TableExportJob, export_table, unsupported_reason
from unrolled.network_shapes import LINEAR_CELLS
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.options import ModelOptions, PairOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.column import Column
from unrolled.tables.label_columns import LabelColumn, LabelsColumn
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.numeric_columns import FramesColumn, NumberColumn, VectorColumn
from unrolled.tables.spec import TableSpec
from unrolled.tables.text_column import TextColumn
from unrolled.text.tokenizer import CharTokenizer

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

DOCS = Path(__file__).parents[2] / "docs" / "howto" / "export.md"
SOURCES: dict[str, Column] = {
    "text": TextColumn("t", CharTokenizer("abcde")),
    "frames": FramesColumn("f", np.zeros(3), np.ones(3)),
    "number": NumberColumn("n", np.zeros(1), np.ones(1)),
    "label": LabelColumn("l", ["a", "b", "c"]),
}
TARGETS: dict[str, Column] = {
    "label": LabelColumn("y", ["p", "q", "r"]),
    "labels": LabelsColumn("z", ["p", "q"], "words"),
    "number": NumberColumn("m", np.zeros(1), np.ones(1)),
    "vector": VectorColumn("v", np.zeros(2), np.ones(2)),
}
PAIRS = [(source, target) for source in SOURCES for target in TARGETS if target != "labels" or SOURCES[source].is_sequence]
NETWORKS: list[tuple[Any, ...]] = [
    ("lstm", True, "attention"), ("gru", False, "last"), ("gru-reset-before", True, "last"), ("rnn", True, "max"),
    ("gru", False, "mean"),
]  # fmt: skip
WRITTEN_OUT = ["mingru", "minlstm", "rg-lru", "slstm", "mogrifier-lstm", "mogrifier-gru"]
"""Cells without a recurrent node of ONNX."""


def table_job(
    source: str = "text",
    target: str = "label",
    cell: Any = "lstm",
    bidirectional: bool = True,
    pool: Any = "attention",
    **job: Any,
) -> TableExportJob:
    """Return a job of a model with noisy weights: 21 units cannot be halved evenly."""
    spec = TableSpec(SOURCES[source], TARGETS[target])
    torch.manual_seed(0)
    options = ModelOptions(cell=cell, hidden=21, layers=2, two_biases=cell != "rnn" and cell not in LINEAR_CELLS)
    model = EncoderDecoder(spec.dims, options, PairOptions(bidirectional=bidirectional, pool=pool)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
        model.temperature.fill_(1.3)
    return TableExportJob(TableModelFile(model, spec), Path("model"), Path("m.onnx"), "m", **job)


@pytest.mark.parametrize(("pair", "network"), [*zip(PAIRS, itertools.cycle(NETWORKS), strict=False)])
def test_it_computes_the_model(pair: tuple[str, str], network: tuple[Any, ...]) -> None:
    job = table_job(*pair, *network)
    result = export_table(job)
    assert len(result.checks) == 1
    session = onnxruntime.InferenceSession(result.files[job.out], providers=["CPUExecutionProvider"])
    shapes = {item.name: item.shape for item in session.get_outputs()}
    time = ["T"] if pair[1] == "labels" else []
    sizes = {"label": 3, "labels": 2, "number": 1, "vector": 2}
    assert set(shapes) == ({"logits", "probabilities"} if "label" in pair[1] else {"numbers"})
    assert all(shape == [*time, "B", sizes[pair[1]]] for shape in shapes.values())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("source", ["text", "frames"])
def test_every_pooling_in_both_precisions(source: str, network: tuple[Any, ...]) -> None:
    exact, half = (export_table(table_job(source, "label", *network, float16=float16)) for float16 in (False, True))
    assert len(half.files[Path("m.onnx")]) < 0.75 * len(exact.files[Path("m.onnx")])


def test_a_number_that_is_zero_by_chance_is_no_difference() -> None:
    job = table_job("number", "number", "gru", False, "last", float16=True)
    first = next(iter(table_export._cases(job)))
    head = job.model_file.model.head
    assert head is not None
    with torch.no_grad():
        head.bias.sub_(torch.from_numpy(first.expected["numbers"][0]))
    assert abs(next(iter(table_export._cases(job))).expected["numbers"]).max() < 1e-5
    assert export_table(job).checks


@pytest.mark.parametrize("cell", WRITTEN_OUT)
@pytest.mark.parametrize("target", ["label", "labels", "number"])
def test_cells_without_a_node_of_onnx(cell: str, target: str) -> None:
    """Many-to-one and synced, in both directions and forward, in both precisions: T and B are free in a `Scan`, too."""
    source, is_bidirectional = ("frames", False) if target == "number" else ("text", True)
    network = (cell, is_bidirectional, "last" if target == "number" else "attention")
    for float16 in (False, True):
        job = table_job(source, target, *network, float16=float16)
        result = export_table(job)
        session = onnxruntime.InferenceSession(result.files[job.out], providers=["CPUExecutionProvider"])
        time = ["T"] if target == "labels" else []
        assert session.get_outputs()[0].shape[:-1] == [*time, "B"]
        assert session.get_inputs()[0].shape[:2] == ["T", "B"]


BASES: list[dict[str, Any]] = [
    {}, {"cell": "gru", "residual": False, "embedding": 5}, {"embedding": 0, "residual": False}, {"cell": "mingru"},
]  # fmt: skip


def base_job(float16: bool = False, **base: Any) -> TableExportJob:
    """Return a job of a model that a language model helps to label texts."""
    return TableExportJob(classifier(base=base_text(**base)), Path("model"), Path("m.onnx"), "m", float16)


@pytest.mark.parametrize("base", BASES)
def test_a_language_model_that_helps_is_in_the_graph(base: dict[str, Any]) -> None:
    for float16 in (False, True):
        job = base_job(float16, **base)
        session = onnxruntime.InferenceSession(export_table(job).files[job.out], providers=["CPUExecutionProvider"])
        assert {item.name: item.shape for item in session.get_inputs()} == {
            "source": ["T", "B"], "lengths": ["B"], "ngrams": ["K", "B"], "base_ids": ["S", "B"], "base_lengths": ["B"]
        }  # fmt: skip


def test_wrong_writers_of_a_language_model_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = onnx_table._TableGraph
    stack, masks, node = graph.stack, graph.masks, graph.node
    faults: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
        "dropped": lambda patch: patch.setattr(
            graph, "base_logits", lambda self, base: self.weight("none", np.zeros(3, np.float32))
        ),
        "layers": lambda patch: patch.setattr(
            graph, "stack", lambda self, prefix, x, *args: x if prefix else stack(self, prefix, x, *args)
        ),
        "padding": lambda patch: patch.setattr(graph, "blocked", lambda self, name, x, mask: x),
        "lengths": lambda patch: patch.setattr(
            graph, "masks", lambda self, x, lengths, prefix="": masks(self, x, "lengths", prefix)
        ),
        "minimum": lambda patch: patch.setattr(
            graph, "node", lambda self, kind, *args, **more: node(self, "Identity" if kind == "Neg" else kind, *args, **more)
        ),
        "share": lambda patch: patch.setattr(onnx_table, "array_of", without_temperature),
    }
    for fault in faults.values():
        with monkeypatch.context() as patch:
            fault(patch)
            with pytest.raises(ExportError, match="differ"):
                export_table(base_job())


def test_wrong_writers_of_a_step_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = onnx_cells.StepNodes
    faults: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
        "two gates are swapped": (
            "slstm",
            lambda patch, original=nodes.gates: patch.setattr(  # type: ignore[misc]
                nodes, "gates", lambda self, *args: (lambda i, f, g, o: [f, i, g, o])(*original(self, *args))
            ),
        ),
        "the state is dropped": (
            "mingru",
            lambda patch, original=nodes.mix: patch.setattr(  # type: ignore[misc]
                nodes, "mix", lambda self, share, h, n: original(self, share, self.op("Mul", h, self.const(0)), n)
            ),
        ),
        "the rounds are dropped": ("mogrifier-gru", lambda patch: patch.setattr(nodes, "mogrify", lambda self, x, h: (x, h))),
    }
    for cell, fault in faults.values():
        with monkeypatch.context() as patch:
            fault(patch)
            with pytest.raises(ExportError, match="differ"):
                export_table(table_job(cell=cell))


def test_wrong_writers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = onnx_table._TableGraph
    reverse, norm, layer = graph.reverse, graph.norm, graph.bidirectional_layer
    faults: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
        "gates": lambda patch: patch.setitem(onnx_builder.GATES, "lstm", ("i", "f", "o", "g")),
        "direction": lambda patch: patch.setattr(graph, "reverse", lambda self, name, x: self.node("Identity", [x], [name])),
        "restored": lambda patch: patch.setattr(
            graph, "reverse", lambda self, name, x: reverse(self, name, x) if "reversed" in name else x
        ),
        "norm": lambda patch: patch.setattr(
            graph, "norm", lambda self, *args: args[1] if "1" in args[0] else norm(self, *args)
        ),
        "layer": lambda patch: patch.setattr(
            graph, "bidirectional_layer", lambda self, *args: args[1] if "1" in args[0] else layer(self, *args)
        ),
        "mask": lambda patch: patch.setattr(graph, "blocked", lambda self, name, x, mask: x),
        "temperature": lambda patch: patch.setattr(onnx_table, "array_of", without_temperature),
    }
    for fault in faults.values():
        with monkeypatch.context() as patch:
            fault(patch)
            with pytest.raises(ExportError, match="differ"):
                export_table(table_job())


def without_temperature(tensor: torch.Tensor) -> Any:
    return np.ones((), np.float32) if tensor.dim() == 0 else tensor.detach().numpy()


def test_what_has_no_form_is_refused_with_the_reason(cli: Cli, tmp_path: Path) -> None:
    job = table_job()
    spec = job.model_file.spec
    several = dataclasses.replace(spec, others=(SOURCES["number"],))
    numbers = dataclasses.replace(spec, source=NumbersColumn.fit("v", [Cell([1.0, 2.0], "line 1")], {}))
    for refused_spec, reason in ((several, "several source columns (t, n)"), (numbers, "'v' has numbers at every step")):
        assert reason in str(unsupported_reason(TableModelFile(job.model_file.model, refused_spec)))
    rows = [{"word": word, "back": word[::-1], "y": word[0]} for word in ("abc", "bcd", "cab") * 8]
    write_jsonl(Path("t.jsonl"), rows)
    options = ["--steps", 1, "--hidden", 8, "--layers", 1, "--batch", 4, "--sample-length", 0]
    assert cli("train", "t.jsonl", "--source", "word:text", "--target", "back:text", *options, "--out", "r").code == 0
    refused = cli("export", "r", "--to", "onnx")
    assert refused.code == 2
    assert "writes 'back' step by step (many-to-many)" in refused.err
    assert cli("train", "t.jsonl", "--source", "word", "--target", "y:label", *options, "--out", "s").code == 0
    refused = cli("export", "s", "--to", "numpy")
    assert refused.code == 2
    assert "model of a table, which has no form as numpy: use --to c or --to html or --to onnx or --to card" in refused.err
    refused = cli("export", "s", "--to", "c")
    assert refused.code == 2
    assert "a C file reads a text that gets a label, a number, or a label for each token, or a series" in refused.err
    refused = cli("export", "s", "--to", "html")
    assert refused.code == 2
    assert "a page is for a text that gets a label, or one for each token, besides series" in refused.err
    for run, facts in (
        ("r", ("text2text-generation", "| back |")),
        ("s", ("tabular-classification", "| y | target | label |", "3 labels: a, b, c.")),
    ):
        assert cli("export", run, "--to", "card", "--force").code == 0
        card = Path("README.md").read_text("utf-8")
        for fact in ("---\nlibrary_name: unrolled\n", "t.jsonl", "| word | source |", "nats per target", *facts):
            assert fact in card, fact
    Path("s.onnx").write_text("mine")
    refused = cli("export", "s", "--to", "onnx")
    assert refused.code == 2
    assert Path("s.onnx").read_text() == "mine"


def test_the_example_of_the_docs_predicts_as_the_command(cli: Cli) -> None:
    """The text, the label and the numbers that the example in docs/howto/export.md prepares from the metadata alone."""
    texts = ["a red dog", "the blue old fox", "an e\u0301tude", "green"] * 9
    rows = [{"text": text, "color": text.split()[-1], "words": len(text)} for text in texts]
    write_jsonl(Path("t.jsonl"), rows)
    options = ["--steps", 20, "--hidden", 16, "--layers", 1, "--batch", 8, "--sample-length", 0, "--threads", 1]
    example, _ = re.findall(r"```python\n(import json\n.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    save_model(Path("base.safetensors"), base_model())
    helped = ("color:label", "helped", "--from", "base.safetensors")
    for target, out, *more in (("color:label", "reviews"), ("words:number", "numbers"), helped):
        columns = ["--source", "text:characters", "--target", target]
        assert cli("train", "t.jsonl", *columns, *options, "--out", out, *more).code == 0
        assert cli("export", out, "--to", "onnx").code == 0
        expected = unrolled.load_table(out).predict(texts)
        names: dict[str, Any] = {"rows": texts}
        code = example.replace("reviews.onnx", f"{out}.onnx").replace('rows = ["', 'unused = ["')
        exec(compile(code, str(DOCS), "exec"), names)  # the example as it is printed, on these rows
        answers = names["answers"]
        assert len(answers) == len(texts)
        for value, answer in zip(expected, answers, strict=True):
            assert value == answer if out != "numbers" else abs(float(value) - answer[0]) < 1e-3 * abs(float(value))
