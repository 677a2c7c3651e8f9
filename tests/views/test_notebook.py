"""Results and training in a notebook, run by a kernel of Jupyter."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import unrolled
from unrolled.display import MAX_LINE_CHARS, html_table, one_line, page_frame
from unrolled.training.callbacks import Progress
from unrolled.views.notebook_progress import NotebookProgress, in_notebook, python_progress
from unrolled.views.svg_curves import loss_curves_svg

MISSING = [name for name in ("nbclient", "ipykernel") if importlib.util.find_spec(name) is None]

SETUP = """\
import unrolled
small = dict(steps=4, hidden=8, layers=1, batch=4, bptt=8, threads=1, sample_length=20)
"""
CELLS = {
    "train": 'model = unrolled.train("book.txt", out="run", eval_every=2, **small)',
    "table": 'table = unrolled.train_table("t.csv", "word", "label", out="table", **small)',
    "model": "model",
    "explain": 'model.explain("book.txt", length=50, probe_length=100)',
    "report": "model.report(order=2, samples=1)",
    "evaluate": "model.evaluate()",
    "baselines": "model.baselines(order=3)",
    "result": "model.result",
    "metrics": "table.evaluate()",
    "prediction": 'table.predictions(["aba"])[0]',
    "alerts": 'model.alerts("book.txt", alert_above=1)',
    "file": 'table.predict("t.csv")',
    "error": "model.sample(temprature=2)",
    "debug": "unrolled.debug = True\nmodel.sample(temprature=2)",
}
TABLES = ("model", "evaluate", "baselines", "result", "metrics", "prediction", "alerts")
"""Cells whose result is a table."""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The outputs of each cell, from one kernel."""
    if MISSING:
        assert "CI" not in os.environ, f"{MISSING} are missing, and CI runs every test"
        pytest.skip(f"{' and '.join(MISSING)} are not installed: pip install -e '.[dev]'")
    nbclient: Any = importlib.import_module("nbclient")
    nbformat: Any = importlib.import_module("nbformat")
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "book.txt").write_text("the cat sat on the mat.\n" * 60, "utf-8")
    (folder / "t.csv").write_text("word,label\nabb,\n" + "aba,a\nbab,b\n" * 20, "utf-8")
    paths = [str(Path(unrolled.__file__).parents[1]), *sys.path]
    setup = f"import os, sys\nsys.path[:0] = {[path for path in paths if path]!r}\nos.chdir({str(folder)!r})\n{SETUP}"
    cells = [nbformat.v4.new_code_cell(source) for source in (setup, *CELLS.values())]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    return dict(zip(CELLS, [cell.outputs for cell in notebook.cells[1:]], strict=True))


def html_of(outputs: list[Any]) -> str:
    return "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)


@pytest.mark.slow
def test_a_training_is_one_display(outputs: dict[str, list[Any]]) -> None:
    for name, loss in (("train", "validation"), ("table", "validation")):
        assert [output["output_type"] for output in outputs[name]] == ["display_data"], outputs[name]
        page = html_of(outputs[name])
        assert "<progress" in page
        assert "100%" in page
        assert loss in page
        assert "widget" not in page
    assert "1 of 41 rows is left out, a cell being empty" in html_of(outputs["table"])
    assert "1,440 tokens, 12 different" in html_of(outputs["train"])
    assert "Underfit: " in html_of(outputs["train"])
    assert "<svg" in html_of(outputs["train"])
    assert "<pre" in html_of(outputs["train"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["explain", "report"])
def test_pages_are_shown_in_a_frame(outputs: dict[str, list[Any]], name: str) -> None:
    page = html_of(outputs[name])
    assert '<iframe srcdoc="&lt;!doctype html&gt;' in page
    assert 'sandbox="allow-scripts"' in page


@pytest.mark.parametrize("name", [*TABLES, "explain", "report"])
def test_results_are_one_line_and_a_table(outputs: dict[str, list[Any]], name: str) -> None:
    (output,) = outputs[name]
    line = output["data"]["text/plain"]
    assert "\n" not in line
    assert len(line) <= MAX_LINE_CHARS + 1
    assert line.startswith("<unrolled.")
    assert name not in TABLES or "<table>" in html_of([output])


def test_a_model_shows_its_verdict_and_alerts_show_their_lines(outputs: dict[str, list[Any]]) -> None:
    model = html_of(outputs["model"])
    assert "nats per character" in model
    assert "Underfit: " in model
    assert "the cat sat on the mat." in html_of(outputs["alerts"])


def test_an_error_is_one_sentence(outputs: dict[str, list[Any]]) -> None:
    (error,) = outputs["error"]
    assert error["traceback"] == ["UsageError: sample: unknown setting 'temprature'; did you mean 'temperature'?"]
    (error,) = outputs["file"]
    assert error["traceback"][0].startswith("UsageError: 't.csv' is a file, and a source value is expected: predict(pathlib")
    (debugged,) = outputs["debug"]
    assert len("\n".join(debugged["traceback"]).splitlines()) > 5


# ---------------------------------------------------------------------------------------------------------------------------
# Without a kernel


def test_curves_are_named_by_what_is_predicted() -> None:
    """Once, the loss of labels and of numbers was drawn as nats per character."""
    curves = {"training": [(1.0, 2.0), (2.0, 1.0)]}
    for unit, title in {"character": "nats per character", "target": "nats per target", "number": "of scaled numbers"}.items():
        assert f"{title}</text>" in loss_curves_svg(curves, unit)
    progress = NotebookProgress()
    for seconds in (1.0, 2.0):
        progress.on_evaluate(Progress(3, 0.5, 1.0, seconds, 2.0, 9.0, 0.1, 1.5, 1.0, None, "number"), 0.5, None)
    assert "loss: training 1.500, validation 0.500" in progress.to_html()
    assert "of scaled numbers</text>" in progress.to_html()


def test_a_training_that_does_not_begin_displays_nothing() -> None:
    with NotebookProgress() as progress:
        pass
    assert progress._handle is None


def test_outside_of_a_notebook_there_are_log_lines() -> None:
    assert not in_notebook()
    assert type(python_progress()).__name__ == "LogProgress"


def test_the_display_escapes_what_a_model_writes() -> None:
    progress = NotebookProgress()
    status = Progress(3, 0.5, 1.0, 2.0, 2.0, 9.0, 0.1, 1.5, 1.0, None)
    progress._status, progress._sample = status, "<b>\x1b[2J&"
    progress.on_message("<i>")
    page = progress.to_html()
    assert "&lt;b&gt;\ufffd[2J&amp;" in page
    assert "&lt;i&gt;" in page


def test_tables_and_frames_escape() -> None:
    assert html_table([("<a>", "\x1b")], ["&"]) == (
        '<table><tr><th style="text-align:left">&amp;</th></tr>'
        '<tr><th style="text-align:left">&lt;a&gt;</th><td style="text-align:left">\ufffd</td></tr></table>'
    )
    assert 'srcdoc="&quot;&lt;' in page_frame("page.html", '"<')
    assert one_line("a\n" * 200, 20) == "a a a a a a a a a..."
