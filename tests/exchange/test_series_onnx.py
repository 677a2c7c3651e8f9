"""Models of series in ONNX: every loss, cell and input in onnxruntime, in the unit of the data; wrong writers and refusals."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.cli import Cli
from support.series import LAYER_FAULTS, MODELS, TRAINING, model_with_start, right_and_wrong, series_model, write_valve
from support.tables import rows_of
from unrolled.checkpoints.model_file import TableModelFile
from unrolled.exchange import onnx_builder, onnx_series, series_onnx_export
from unrolled.exchange.export_job import ExportError
from unrolled.exchange.onnx_cells import STEPS
from unrolled.exchange.onnx_export import onnx_session
from unrolled.exchange.series_model import SeriesModel
from unrolled.exchange.series_onnx_export import export_series_onnx, first_state, series_runner, unsupported_series_in_onnx

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

DOCS = Path(__file__).parents[2] / "docs" / "howto" / "export.md"
OUT, STEP = Path("m.onnx"), Path("m.step.onnx")
WRITTEN_OUT: dict[str, dict[str, Any]] = {cell: {"cell": cell, "loss": "mse"} for cell in STEPS if "hard" not in cell}


def graphs(model_file: TableModelFile, float16: bool = False) -> dict[Path, bytes]:
    return export_series_onnx(model_file, float16, OUT).files


@pytest.mark.parametrize("name", MODELS | WRITTEN_OUT)
def test_it_computes_the_model(name: str) -> None:
    settings = (MODELS | WRITTEN_OUT)[name]
    for float16 in (False, True):
        files = graphs(series_model(**settings), float16)
        for path, free in ((OUT, ["T", "B"]), (STEP, ["B"])):
            session = onnx_session(files[path])
            shapes = {item.name: item.shape for item in (*session.get_inputs(), *session.get_outputs())}
            assert shapes["source"] == [*free, 2]
            assert ("seconds" in shapes) == ("cycles" in settings)
            sizes = {"labels": ("probabilities", [3]), "quantiles": ("quantiles", [3, 2])}
            output, size = next((sizes[key] for key in sizes if key in name), ("numbers", [2]))
            assert shapes[output] == [*free, *size]
            assert all(
                shapes[name] == shapes[f"next_{name}"] for name in first_state(SeriesModel.of(series_model(**settings)), 1)
            )


def test_what_is_no_number_is_a_gap_and_leaves_the_state_finite() -> None:
    """As in the C file: of a time that is not known, the calendar is left out."""
    model_file = series_model(horizon=3, difference=1, cycles=("day", "week"), gaps=True)
    series, run = SeriesModel.of(model_file), series_runner(graphs(model_file)[OUT], False)
    source = np.array([[1e4, -3], [np.inf, np.nan], [np.nan, np.nan], [-np.inf, 5], [10001, 4]])[:, None]
    seconds = np.array([1e9, np.nan, np.inf, -np.inf, 1e9])[:, None]
    outputs, states = run({"source": source, "seconds": seconds}, first_state(series, 1))
    gaps = np.where(np.isfinite(source), source, np.nan)
    with_gaps, _ = run({"source": gaps, "seconds": np.where(np.isfinite(seconds), seconds, np.nan)}, first_state(series, 1))
    assert (outputs == with_gaps).all()
    assert np.isfinite(outputs).all()
    assert all(np.isfinite(state).all() for state in states.values())


def test_the_state_that_a_series_starts_from_is_in_the_metadata() -> None:
    model_file, start = model_with_start()
    facts = json.loads(onnx_session(graphs(model_file)[STEP]).get_modelmeta().custom_metadata_map["unrolled"])
    assert facts["initial_state"]["c_1"] == pytest.approx(start[1, 1].tolist())
    assert sorted(facts["initial_state"]) == ["c_0", "c_1", "h_0", "h_1"]
    assert facts["source"] == facts["target"] == ["a", "b"]


@pytest.mark.parametrize("fault", LAYER_FAULTS)
def test_a_wrong_writer_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is written from a model with the fault, and compared with the right one."""
    right, wrong = right_and_wrong(fault)
    build = onnx_series.build_series_graph
    monkeypatch.setattr(series_onnx_export, "build_series_graph", lambda _, *rest: build(SeriesModel.of(wrong), *rest))
    with pytest.raises(ExportError, match="differ from the model's by"):
        graphs(right)


def complaint_about(model_file: TableModelFile) -> str:
    try:
        graphs(model_file)
    except ExportError as error:
        return str(error)
    return "none"


def always_true(graph: Any, x: str) -> str:
    return str(graph.op("Equal", *[graph.op("IsNaN", x)] * 2))


def without_states(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return a runner whose second part starts from zeros."""
    return lambda inputs, states: (run(inputs, states)[0], {name: np.zeros_like(part) for name, part in states.items()})


def test_wrong_preparation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = onnx_series._SeriesGraph
    scaled, op, changes = graph.scaled, graph.op, graph.changes
    runner = series_onnx_export.series_runner
    faults: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
        "spread": lambda patch: patch.setattr(
            graph, "scaled", lambda self, x, by: scaled(self, x, dataclasses.replace(by, spread=by.spread * 1.01))
        ),
        "spikes": lambda patch: patch.setattr(
            graph, "scaled", lambda self, x, by: scaled(self, x, dataclasses.replace(by, high=by.high * 0 + np.inf))
        ),
        "gaps": lambda patch: patch.setattr(graph, "is_finite", always_true),
        "the last number": lambda patch: patch.setattr(
            graph, "keep_last", lambda self, x, name: self.node("Identity", [name.removeprefix("next_")], [name])
        ),
        "the numbers before": lambda patch: patch.setattr(
            graph, "changes", lambda self, filled, levels, number, known: changes(self, filled, levels, number, known)
            and op(self, "Sub", filled, filled)
        ),
        "calendar": lambda patch: patch.setattr(graph, "fraction", lambda self, x, period: x),
        "weekday": lambda patch: patch.setattr(onnx_series, "FIRST_WEEKDAY", 4),
        "states": lambda patch: patch.setattr(series_onnx_export, "series_runner", lambda *args: without_states(runner(*args))),
        "gates": lambda patch: patch.setitem(onnx_builder.GATES, "lstm", ("i", "f", "o", "g")),
    }  # fmt: skip
    settings: dict[str, Any] = {"horizon": 3, "difference": 7, "gaps": True, "cycles": ("day", "week")}
    graphs(series_model(**settings))
    for name, fault in faults.items():
        with monkeypatch.context() as patch:
            fault(patch)
            assert "differ from the model's by" in complaint_about(series_model(**settings)), name


def test_what_has_no_form_is_refused_by_name() -> None:
    assert "--center and --scale need the other numbers" in str(unsupported_series_in_onnx(series_model(center="group")))
    assert "--known-covariates are read with the step" in str(unsupported_series_in_onnx(series_model(known=True)))
    assert "the cell mlstm is not in ONNX; these are: rnn, gru," in str(unsupported_series_in_onnx(series_model("mlstm")))


def run_example(graph: Path, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what the example predicts for numbers `(T, D)`, run as it is printed."""
    _, example = re.findall(r"```python\n(import json\n.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    code = example.replace("sensor.step.onnx", str(graph)).replace("steps = [[", "steps = rows\nunused = [[")
    names: dict[str, Any] = {"rows": rows}
    exec(compile(code, str(DOCS), "exec"), names)
    return np.array(names["predicted"])


def test_the_example_of_the_docs_reads_the_calendar(tmp_path: Path) -> None:
    model_file = series_model(horizon=3, difference=1, cycles=("day", "week"), gaps=True)
    series = SeriesModel.of(model_file)
    values = series.compared_steps(30, seed=2)
    values.seconds = 1_700_000_000.0 + 3600 * (np.arange(30) - 1)
    (tmp_path / STEP).write_bytes(graphs(model_file)[STEP])
    expected = series.expected_outputs(values)
    differences = np.abs(run_example(tmp_path / STEP, np.asarray(values)) - expected[:, :2])
    assert (differences / series.output_ranges(expected)[:2]).max() < 1e-4


@pytest.mark.slow
def test_the_example_of_the_docs_predicts_as_the_command(cli: Cli) -> None:
    """A regression at every step, and a forecast, by the example as it is printed."""
    table, x = write_valve()
    assert cli("train", table, "--source", "x", "--target", "y", "--order-by", "t", *TRAINING, "--out", "valve").code == 0
    assert (
        cli("train", table, "--source", "x", "--target", "x", "--horizon", 3, "--order-by", "t", *TRAINING, "--out", "x").code
        == 0
    )
    for run in ("valve", "x"):
        done = cli("export", run, "--to", "onnx")
        assert done.code == 0, done.err
        assert f"{run}.step.onnx in onnxruntime: every output at lengths x batch sizes 1x1, 7x3, 4" in done.out
        got = run_example(Path(f"{run}.step.onnx"), x[:, None])[:, 0]
        rows = rows_of(cli("predict", run, table).out)
        if run == "valve":
            assert got == pytest.approx(np.array([float(row["predicted"]) for row in rows]), rel=1e-3, abs=1e-3)
        else:  # the command draws what the next numbers may be
            assert float(rows[0]["p10"]) < got[-1] < float(rows[0]["p90"])
