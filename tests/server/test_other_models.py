"""Models that the server reads differently: tables of several source columns, series, and cells that need torch."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import unrolled
from support.cli import Cli
from support.servers import RunningServer, running_server
from support.spreadsheets import write_ods, write_xlsx

TINY: dict[str, Any] = {"steps": 3, "hidden": 16, "layers": 1, "batch": 4, "threads": 1, "progress": False}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("other") / "runs"
    people = [{"age": n % 70, "review": ["fine room", "cold room"][n % 2], "back": ["yes", "no"][n % 2]} for n in range(60)]
    unrolled.train_table(people, ["age", "review"], "back", out=str(folder / "people"), **TINY)
    unrolled.train_table(
        [{"step": n, "load": float(n % 12)} for n in range(200)],
        "load",
        order_by="step",
        horizon=3,
        out=str(folder / "load"),
        **TINY,
    )
    sounds = [{"x": [float(n % 7) for n in range(100)], "y": [float(n % 7) / 2 for n in range(100)]}]
    unrolled.train_table(sounds, "x:numbers", "y:numbers", out=str(folder / "sound"), **TINY)
    tags = [{"words": ["a", "b", "a"][: 1 + n % 3], "tags": ["x", "y", "x"][: 1 + n % 3]} for n in range(2, 42)]
    unrolled.train_table(tags, "words:labels", "tags:labels", out=str(folder / "tags"), **TINY)
    (folder.parent / "book.txt").write_text("the cat sat on the mat. " * 60, "utf-8")
    for name, cell in (("matrix", "mlstm"), ("slstm", "slstm"), ("mogrifier", "mogrifier-gru")):
        options = TINY | {"cell": cell, "bptt": 8, "init_from": "none"}
        unrolled.train(str(folder.parent / "book.txt"), out=str(folder / name), **options)
    with running_server(Path(folder)) as running:
        yield running


@pytest.mark.slow
def test_several_source_columns_are_a_form_and_are_predicted(served: RunningServer) -> None:
    columns = served.client.get("/api/models/people").json()["columns"]
    assert {column["name"] for column in columns if column["role"] == "source"} == {"age", "review"}
    assert [column["name"] for column in columns if column["role"] == "target"] == ["back"]
    rows = [{"age": 30, "review": "fine room"}, {"age": "", "review": "cold room"}]
    answer = served.client.post("/api/predict", json={"model": "people", "rows": rows})
    assert answer.status_code == 200, answer.text
    assert [row["answer"] in ("yes", "no") for row in answer.json()["answers"]] == [True, True]
    for wrong in ({"rows": [{"age": 30}]}, {"texts": ["fine room"]}):
        refused = served.client.post("/api/predict", json={"model": "people", **wrong})
        assert refused.status_code == 400
        assert "column" in refused.json()["error"]["message"]


PEOPLE = [["id", "review", "age"], ["007", "fine room", 30], ["a, b", "", 41], ['"c"', "cold room", ""]]
LOAD = [["step", "load"], *([step, step % 12] for step in range(60))]


def write_table(path: Path, rows: list[list[Any]]) -> None:
    """Write a table in the format that its name says."""
    columns = {name: [row[index] for row in rows[1:]] for index, name in enumerate(rows[0])}
    match path.suffix:
        case ".xlsx":
            write_xlsx(str(path), {"S": rows})
        case ".ods":
            write_ods(str(path), rows)
        case ".jsonl":
            path.write_text("".join(json.dumps(dict(zip(rows[0], row, strict=True))) + "\n" for row in rows[1:]), "utf-8")
        case ".parquet":
            parquet.write_table(pyarrow.table({name: list(map(str, cells)) for name, cells in columns.items()}), path)
        case suffix:
            with open(path, "w", encoding="utf-8", newline="") as file:
                csv.writer(file, delimiter="\t" if suffix == ".tsv" else ";").writerows(rows)


@pytest.mark.parametrize(("model", "rows"), [("people", PEOPLE), ("load", LOAD)])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "xlsx", "ods", "parquet"])
def test_a_file_gets_the_answers_of_the_command_line(
    served: RunningServer, tmp_path: Path, cli: Cli, model: str, rows: list[list[Any]], suffix: str
) -> None:
    path = tmp_path / f"my rows.{suffix}"
    write_table(path, rows)
    upload = served.client.post("/api/uploads", params={"name": path.name}, content=path.read_bytes()).json()
    answer = served.client.post("/api/predict", json={"model": model, "upload": upload["upload"], "charts": True}).json()
    expected = cli("predict", cast(Path, served.services.catalog.folder) / model, path)
    assert answer["csv"] == expected.out != ""
    assert answer["notes"] == [line.replace(str(path), path.name) for line in expected.err.splitlines()]
    assert [chart["horizon"] for chart in answer.get("charts", [])] == ([3] if model == "load" else [])


def test_a_file_that_cannot_be_predicted_is_refused_in_a_sentence(served: RunningServer) -> None:
    def refusal(name: str, content: bytes) -> str:
        upload = served.client.post("/api/uploads", params={"name": name}, content=content).json()["upload"]
        answer = served.client.post("/api/predict", json={"model": "people", "upload": upload})
        assert answer.status_code == 400, answer.text
        return str(answer.json()["error"]["message"])

    assert refusal("a.csv", b"a,b\n1,2\n").startswith("a.csv has no column 'age'")
    assert refusal("a.csv", "age,review\n1,caf\u00e9\n".encode("latin-1")).startswith("a.csv is not UTF-8")
    rows = b"age,review\n" + b"1,fine\n" * 20_001
    assert refusal("a.csv", rows) == "The file has more than 20,000 rows: use unrolled predict."
    for body in ({}, {"upload": "upload-0123456789abcdef", "texts": ["a"]}, {"upload": "../x"}):
        assert served.client.post("/api/predict", json={"model": "people", **body}).status_code == 400
    gone = served.client.post("/api/predict", json={"model": "people", "upload": "upload-0123456789abcdef"})
    assert gone.status_code == 404


def test_series_are_predicted_from_a_row_for_each_step(served: RunningServer) -> None:
    details = served.client.get("/api/models/load").json()
    assert {name: details["series"][name] for name in ("group_by", "order_by")} == {"group_by": None, "order_by": "step"}
    rows = [{"step": str(n), "load": str(n % 12)} for n in range(100)]
    answer = served.client.post("/api/predict", json={"model": "load", "rows": rows[::-1]})  # the times put them in order
    table, predicted = unrolled.load_table(cast(Path, served.services.catalog.folder) / "load").predict_table(rows)
    expected = [round(float(value), 4) for _, prediction in predicted for value in prediction.values[:, 0]]
    steps = answer.json()["answers"]
    assert [(step["step"], step["step_"]) for step in steps] == [(100.0, 1), (101.0, 2), (102.0, 3)]  # the time, and its place
    assert [round(step["predicted"], 4) for step in steps] == pytest.approx(expected, abs=2e-4)
    assert "charts" not in answer.json()
    for wrong in (
        {"texts": ["1"]},
        {"rows": [{"load": {"a": 1}}]},
        {"rows": [{"other": 1}]},
        {"rows": [{"step": 1, "load": "/a.npy"}]},
    ):
        refused = served.client.post("/api/predict", json={"model": "load", **wrong})
        assert refused.status_code == 400, refused.text


def test_series_are_drawn_as_explain_draws_them(served: RunningServer) -> None:
    """In the units of the rows: what was read, then the numbers and quantiles of the answers, and no truth after the end."""
    rows = [{"step": str(n), "load": str(n % 12)} for n in range(100)]
    answer = served.client.post("/api/predict", json={"model": "load", "rows": rows, "charts": True}).json()
    [chart] = answer["charts"]
    [start] = chart["starts"]
    assert (chart["column"], chart["time_name"], chart["horizon"], answer["note"]) == ("load", "step", 3, "")
    assert chart["x"][start - 1 :] == [99, 100, 101, 102]
    assert chart["truth"][:start] == [step % 12 for step in chart["x"][:start]]
    assert chart["truth"][start:] == [None] * 3
    for key, name in (("predicted", "predicted"), ("low", "p10"), ("high", "p90")):
        assert chart[key][start:] == pytest.approx([step[name] for step in answer["answers"]])
        assert set(chart[key][:start]) == {None}


def test_numbers_in_a_cell_are_drawn(served: RunningServer) -> None:
    body = {"model": "sound", "rows": [{"x": [1, 2, 3]}, {"x": [4, 5]}], "charts": True}
    charts = served.client.post("/api/predict", json=body).json()["charts"]
    assert [(chart["series"], chart["x"], chart["starts"]) for chart in charts] == [
        ("line 1", [1, 2, 3], []), ("line 2", [1, 2], []),
    ]  # fmt: skip
    assert all(None not in chart["predicted"] for chart in charts)


def test_the_form_of_series_has_steps_as_an_example(served: RunningServer) -> None:
    example = served.client.get("/api/models/load").json()["series"]["example"].splitlines()
    assert example[:3] == ["step,load", "0,0.0", "1,1.0"]
    assert len(example) == 201
    rows = [dict(zip(("step", "load"), line.split(","), strict=True)) for line in example[1:]]
    assert len(served.client.post("/api/predict", json={"model": "load", "rows": rows}).json()["answers"]) == 3


def test_each_step_has_its_label(served: RunningServer) -> None:
    [answer] = served.client.post("/api/predict", json={"model": "tags", "texts": ["b a b"]}).json()["answers"]
    assert [step for step, _ in answer["steps"]] == ["b", "a", "b"]
    assert [label for _, label in answer["steps"]] == answer["answer"].split()


def test_examples_of_a_form_are_texts(served: RunningServer) -> None:
    columns = served.client.get("/api/models/tags").json()["columns"]
    assert [column["examples"][0] for column in columns] == ["a b a", "x y x"]


def test_files_of_the_server_cannot_be_named(served: RunningServer, tmp_path: Path) -> None:
    np.save(tmp_path / "private.npy", np.arange(5.0))
    right = served.client.post("/api/predict", json={"model": "sound", "rows": [{"x": [1, 2, 3]}]})
    assert right.status_code == 200, right.text
    for name in ("private.npy", "other.wav"):
        refused = served.client.post("/api/predict", json={"model": "sound", "rows": [{"x": str(tmp_path / name)}]})
        assert refused.status_code == 400
        assert "files of this machine cannot be named here" in refused.text


@pytest.mark.parametrize("path", ["/v1/completions", "/api/score", "/api/trace", "/api/state"])
def test_cells_without_a_step_of_the_runtime_are_refused_by_name(served: RunningServer, path: str) -> None:
    body: dict[str, Any] = {"model": "matrix"} | (
        {"text": "the "} if path in ("/api/score", "/api/trace") else {"prompt": "the "}
    )
    body |= {"layer": 0} if path == "/api/trace" else {}
    refused = served.client.post(path, json=body)
    assert (refused.status_code, "this model has mlstm" in refused.text) == (400, True), refused.text


@pytest.mark.parametrize(("model", "parts"), [("slstm", 4), ("mogrifier", 1)])
def test_newer_cells_draw_the_text_of_python_and_their_whole_state_is_handed_out(
    served: RunningServer, model: str, parts: int
) -> None:
    runs = cast(Path, served.services.catalog.folder)

    def complete(**body: Any) -> str:
        answer = served.client.post("/v1/completions", json={"model": model, "seed": 5, "max_tokens": 20} | body)
        return str(answer.json()["choices"][0]["text"])

    whole = complete(prompt="the cat")
    assert whole == unrolled.load(runs / model).sample("the cat", length=20, seed=5)[7:]
    made = served.client.post("/api/state", json={"model": model, "prompt": "the cat"}).json()
    assert made["bytes"] == parts * 16 * 4
    taken = served.client.put("/api/state", content=served.client.get(f"/api/state/{made['state']}").content).json()
    assert complete(state=taken["state"]) == whole
