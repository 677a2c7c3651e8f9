"""Numbers at every step: long tables, lists, WAV files; regression, labels a step, one value a series, forecasts."""

import csv
import dataclasses
import io
import json
import math
import re
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.tables import rows_of, write_long
from unrolled.errors import DataError, UsageError
from unrolled.nn.number_loss import number_losses
from unrolled.options import SeriesOptions
from unrolled.server.runs import RunFacts
from unrolled.tables.cell_values import Cell
from unrolled.tables.columns import column_from_json, column_to_json
from unrolled.tables.long_table import LongFormat, group_steps
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.scaling import Scaling
from unrolled.tables.series import neighbors_note
from unrolled.tables.series_baselines import find_period, forecast_baselines, series_baselines
from unrolled.tables.series_metrics import number_metrics, series_report
from unrolled.tables.series_spec import number_notes, series_spec
from unrolled.tables.step_arrays import parse_steps
from unrolled.tables.step_times import next_times, time_keys
from unrolled.tables.table_files import open_table
from unrolled.tables.wav_files import read_wav

TINY = ("--hidden", 16, "--layers", 1, "--threads", 1, "--precision", "float32", "--sample-length", 0)
PHI, NOISE = (1.5, -0.8), 2.0
"""An autoregressive series: its optimal one-step forecast has the error variance `NOISE` squared."""


def autoregression(steps: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return a series around 10 whose noise has the deviation `NOISE`."""
    noise = np.random.default_rng(seed).standard_normal(steps) * NOISE
    values = np.zeros(steps)
    for step in range(2, steps):
        values[step] = PHI[0] * values[step - 1] + PHI[1] * values[step - 2] + noise[step]
    return values + 10


def write_wav(name: str, values: Any, bits: int = 16, rate: int = 8000) -> str:
    """Write a WAV file of one channel with Python's own module."""
    samples = np.round(np.asarray(values) * (2 ** (bits - 1) - 1)).astype("<i4")
    with wave.open(name, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(samples.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes())
    return name


def test_a_baseline_that_knows_the_truth_is_no_bar() -> None:
    rng = np.random.default_rng(1)
    rows = [(rng.normal(size=(50, 1)), np.arange(50.0)[:, None])]
    (source, truth), predicted = rows[0], np.arange(50.0)[:, None] + 8
    report = series_report([source], [truth], [predicted], [], [], series_baselines(rows, 0), 0, None)
    assert report.baselines["last_value"]["rmse"] < report.metrics["rmse"] < report.baselines["mean"]["rmse"]
    assert report.better_baseline == ""
    assert dataclasses.replace(report, informed=()).better_baseline == "last_value"


def test_a_baseline_is_no_better_than_a_model_without_errors() -> None:
    """Once, a model that was always right was 'no better than a baseline', since that was always right too."""
    ties = {1.0: "", 0.9: "by token", 0.0: ""}
    for accuracy, better in ties.items():
        assert MetricReport({"accuracy": accuracy}, {"by token": {"accuracy": accuracy}}, 9).better_baseline == better
    assert MetricReport({"accuracy": 0.9}, {"by token": {"accuracy": 1.0}}, 9).better_baseline == "by token"


def test_an_evaluated_row_of_series_has_its_name(cli: Cli) -> None:
    table = write_long("ar.csv", {"t": range(300), "x": autoregression(300).tolist()})
    arguments = ["--source", "x", "--order-by", "t", "--horizon", 4, "--steps", 2, "--hidden", 4, "--layers", 1, "--out", "run"]
    done = cli("train", table, *arguments)
    assert (done.code, "validation forecasts" in done.err, " rows" in done.err) == (0, True, False), done.err
    assert "val_loss=" in done.err
    assert "bits" not in done.err
    assert re.match(r"\d+ forecasts, \d+ steps of the validation split\n", cli("eval", "run").out)
    assert "mode        forecast of 4 steps\n" in cli("info", "run").out
    explained = cli("explain", "run")
    assert re.match(r"\d+ parts?, [\d,]+ steps\n", explained.err)
    assert "token" not in explained.err + explained.out
    assert "validation forecasts: " in cli("report", "run").out
    assert RunFacts(Path("run")).to_json("run", None)["unit"] == "of scaled numbers"


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_figures_at_the_end_of_a_training_are_those_of_eval(cli: Cli, precision: str) -> None:
    write_long("load.csv", {"load": np.round(autoregression(600), 2)})
    command = ("train", "load.csv", "--source", "load", "--horizon", 4, "--steps", 5, "--out", "run", "--difference", "on")
    result = json.loads(cli(*command, "--json", *TINY, "--precision", precision).out)
    for split, told in (("validation", result["diagnosis"]), ("test", result["test_summary"])):
        found = re.search(r"rmse ([\d.]+), mae ([\d.]+) on", told)
        assert found is not None, told
        metrics = json.loads(cli("eval", "run", "--split", split, "--json").out)["metrics"]
        assert found.groups() == (f"{metrics['rmse']:.3f}", f"{metrics['mae']:.3f}")


@pytest.mark.slow
def test_a_forecast_learns_writes_quantiles_and_resumes(cli: Cli) -> None:
    table = write_long("ar.csv", {"t": range(900), "x": autoregression(900).tolist()})
    flags = ("--source", "x", "--order-by", "t", "--horizon", 3, *TINY, "--lr", 0.01)
    trained = cli("train", table, *flags, "--steps", 40, "--out", "run")
    assert trained.code == 0
    assert "forecast of 3 steps" in trained.err
    metrics = json.loads(cli("eval", "run", "--json").out)
    assert metrics["rmse"] < metrics["baselines"]["mean"]["rmse"]
    assert metrics["rmse"] < metrics["baselines"]["last_value"]["rmse"]
    assert metrics["rmse_step_1"] < metrics["rmse_step_3"]
    assert 0 < metrics["coverage_80"] <= 1
    rows = rows_of(cli("predict", "run", table).out)
    assert [row["t"] for row in rows] == ["900", "901", "902"]
    assert all(float(row["p10"]) < float(row["p50"]) < float(row["p90"]) for row in rows)
    assert cli("predict", "run", table).out == cli("predict", "run", table).out
    charts = unrolled.load_table("run").report().data["series"]
    assert [len(chart["truth"]) for chart in charts] == [len(chart["low"]) for chart in charts]
    assert all(chart["truth"][: chart["starts"][0]] and chart["predicted"][0] is None for chart in charts)
    whole = cli("train", table, *flags, "--steps", 6, "--out", "whole")
    assert cli("train", table, *flags, "--steps", 6, "--stop-after", 3, "--out", "half").code == whole.code == 0
    assert cli("train", "--resume", "half").code == 0
    first, second = (unrolled.load_table(name).session.saved.model.state_dict() for name in ("whole", "half"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.long
def test_the_forecast_of_an_autoregression_is_near_its_optimum(cli: Cli) -> None:
    table = write_long("ar.csv", {"x": autoregression(12_000).tolist()})
    flags = ("--source", "x", "--horizon", 1, *TINY, "--lr", 0.01, "--batch", 16, "--steps", 500)
    assert cli("train", table, *flags, "--out", "run").code == 0
    fresh = write_long("fresh.csv", {"x": autoregression(20_000, seed=9).tolist()})
    model = unrolled.load_table("run")
    assert model.evaluate(fresh).num_rows == 256
    values = autoregression(20_000, seed=9)
    source, target = model.spec.source, model.spec.target
    assert isinstance(source, NumbersColumn)
    assert isinstance(target, NumbersColumn)
    assert target.difference <= 1, "a change is one from the last number"
    with torch.inference_mode():
        inputs = torch.from_numpy(source.to_inputs(values[:, None]))[:, None]
        network = model.session.saved.model
        outputs = network.stream(inputs, network.initial_state(1))[0][:, 0, :1].numpy()
    predicted = target.unscale(target.after(outputs, source.scaling.apply(values[:, None])))
    errors = predicted[100:-1, 0] - values[101:]
    assert np.mean(errors**2) < 1.05 * NOISE**2


def spiked_channels(steps: int = 1500) -> dict[str, Any]:
    """Four channels with one slow oscillation, which decides the label, in noise and a common drift; and a few spikes."""
    draw = np.random.default_rng(3)
    slow = np.sin(np.arange(steps) * 2 * np.pi / 150)
    drift = 50 * np.cumsum(draw.standard_normal(steps)) / math.sqrt(steps)
    channels = {f"c{i}": 4000 + drift + 10 * (i + 1) * slow * (-1) ** i + draw.standard_normal(steps) for i in range(4)}
    for place, step in enumerate((100, 333, 700)):
        channels[f"c{place}"][step] = 1e6
    return {**channels, "eye": np.where(slow > 0, "open", "shut")}


def test_spikes_do_not_decide_and_are_named_with_their_line(cli: Cli) -> None:
    table = write_long("eeg.csv", {name: list(values) for name, values in spiked_channels().items()})
    flags = ("--source", "c0,c1,c2,c3", "--target", "eye", *TINY, "--steps", 60, "--lr", 0.01)
    held_out = ("--train-fraction", 0.7, "--test-fraction", 0.2)
    trained = cli("train", table, *flags, *held_out, "--center", "row", "--out", "run")
    assert trained.code == 0
    assert "3 steps have a number far out of the range" in trained.err
    assert "eeg.csv, line 102, eeg.csv, line 335, eeg.csv, line 702" in trained.err
    metrics = json.loads(cli("eval", "run", "--json").out)
    assert metrics["accuracy"] > 0.95 > metrics["baselines"]["majority"]["accuracy"]
    assert "row_accuracy" not in metrics
    rows = rows_of(cli("predict", "run", table).out)
    assert len(rows) == 1500
    assert {row["predicted"] for row in rows} == {"open", "shut"}


def test_rows_that_follow_each_other_like_steps_are_noticed(cli: Cli) -> None:
    draw, kinds = np.random.default_rng(0), np.repeat(["a", "b", "c"], 300)
    by_kind = np.repeat([1, 4, 9], 300) + draw.standard_normal(900)  # rows of one kind together, but in no order
    values = np.sort(draw.standard_normal(900))
    for columns, is_noticed in (
        (spiked_channels(), True),
        ({"c0": np.sin(np.arange(900) / 40) + draw.normal(0, 0.1, 900), "eye": draw.standard_normal(900)}, True),
        ({"c0": by_kind, "eye": kinds}, False),
        ({"c0": values, "eye": 2 * values}, False),
        ({"c0": draw.integers(0, 5, 900), "eye": draw.choice(["a", "b"], 900)}, False),
    ):
        table = open_table(write_long("t.csv", columns))
        note = neighbors_note(table, [name for name in columns if name != "eye"], "eye")
        assert (note is not None) == is_noticed, columns
    table_name = write_long("t.csv", spiked_channels(800))
    trained = cli("train", table_name, "--source", "c0,c1", "--target", "eye", *TINY, "--steps", 1)
    assert "if they are, say --source c0:numbers,..., or name their time" in trained.err


@pytest.mark.slow
def test_columns_side_by_side_are_explained_reported_and_exported(cli: Cli) -> None:
    steps = np.arange(240)
    columns = {"id": np.repeat(["a", "b", "c"], 80), "x": np.sin(steps / 3), "z": np.cos(steps / 5)}
    table = write_long("t.csv", columns | {"y": columns["x"] * 2 + columns["z"], "up": np.where(columns["x"] > 0, "yes", "no")})
    for target, source in (("y", ("--source", "x:numbers,z:numbers")), ("up", ("--source", "x", "--source", "z"))):
        trained = cli("train", table, *source, "--target", target, "--group-by", "id", *TINY, "--steps", 3, "--out", target)
        assert (trained.code, "x,z: " in trained.err) == (0, True), trained.err
        evaluated = cli("eval", target, table)
        assert (evaluated.code, "of the 240 steps of t.csv were trained on" in evaluated.err) == (0, True), evaluated.err
        explained = json.loads(cli("explain", target, "--length", 100, "--json").out)
        assert (explained["rows"], Path(explained["page"]).is_file()) == ([], True)
        assert cli("report", target).code == 0
        refused = cli("export", target, "--to", "numpy")
        assert (refused.code, "is a model of a series, which has no form as numpy: use --to c or" in refused.err) == (2, True)
        assert [cli("export", target, "--to", to).code for to in ("c", "html", "onnx")] == [0, 0, 0]


@pytest.mark.slow
def test_the_parts_of_a_series_that_move_its_label_are_shown(cli: Cli) -> None:
    lists = [{"v": [float((step + row) % (2 + row % 2)) for step in range(9)], "kind": "ab"[row % 2]} for row in range(30)]
    Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lists))
    assert cli("train", "s.jsonl", "--source", "v:numbers", "--target", "kind", *TINY, "--steps", 3, "--out", "k").code == 0
    explained = json.loads(cli("explain", "k", "s.jsonl", "--json").out)
    assert [len(row["columns"][0]["effect"]) for row in explained["rows"]] == [9] * 30
    assert Path(explained["neurons_page"]).is_file()


@pytest.mark.slow
def test_one_value_for_each_series_of_a_long_table(cli: Cli) -> None:
    draw = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {"id": [], "t": [], "a": [], "b": [], "kind": []}
    for number in range(40):
        for step in range(8 + number % 5):
            values = draw.standard_normal(2)
            row = (
                f"s{number}",
                step,
                values[0] + (number % 2) * 3,
                "" if step == 3 else values[1],
                "up" if number % 2 else "down",
            )
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    table = write_long("long.csv", columns)
    flags = ("--source", "a,b", "--target", "kind", "--group-by", "id", "--order-by", "t", *TINY, "--steps", 40, "--batch", 8)
    trained = cli("train", table, *flags, "--lr", 0.01, "--out", "run")
    assert trained.code == 0
    assert "many-to-one" in trained.err
    assert "40 of 800 numbers are missing" in trained.err
    assert json.loads(cli("eval", "run", "--json").out)["accuracy"] == 1
    rows = rows_of(cli("predict", "run", table).out)
    assert len(rows) == 40
    assert list(rows[0]) == ["id", "predicted", "probability"]


@pytest.mark.slow
def test_a_regression_at_every_step_with_gaps(cli: Cli) -> None:
    draw = np.random.default_rng(0)
    rain = draw.standard_normal(800) * 5 + 3
    flow = np.convolve(rain, [0.5, 0.3, 0.2])[:800] * 100
    cells = [None if step % 17 == 0 else value for step, value in enumerate(flow.tolist())]
    sources = [None if step % 31 == 0 else value for step, value in enumerate(rain.tolist())]
    Path("t.jsonl").write_text(
        "".join(json.dumps({"rain": sources[i : i + 40], "flow": cells[i : i + 40]}) + "\n" for i in range(0, 800, 40))
    )
    flags = ("--source", "rain:numbers", "--target", "flow", *TINY, "--steps", 150, "--lr", 0.02)
    for loss in ("mse", "quantiles"):
        trained = cli("train", "t.jsonl", *flags, "--loss", loss, "--out", loss)
        assert trained.code == 0
        model = unrolled.load_table(loss)
        assert all(bool(weight.isfinite().all()) for weight in model.session.saved.model.parameters())
        report = model.evaluate()
        assert report.metrics["rmse"] < 0.7 * report.baselines["mean"]["rmse"]
        assert "nse" in report.metrics
    prediction = model.predictions([[1.0, None, 3.0]])[0]
    assert prediction.values.shape == (3, 1)
    assert prediction.quantiles is not None
    assert (np.diff(prediction.quantiles, axis=0) >= 0).all()
    row = next(csv.DictReader(io.StringIO(cli("predict", "mse", "t.jsonl").out)))
    assert len(json.loads(row["predicted"])) == 40


@pytest.mark.slow
def test_a_pair_of_wav_files(cli: Cli) -> None:
    dry = np.random.default_rng(0).uniform(-0.5, 0.5, 6000)
    wet = np.tanh(2 * dry + np.concatenate([[0], dry[:-1]]))
    write_wav("dry.wav", dry, 24)
    write_wav("wet.wav", wet, 16)
    Path("pair.csv").write_text("dry,wet\ndry.wav,wet.wav\n")
    flags = ("--source", "dry:numbers", "--target", "wet:numbers", *TINY, "--steps", 80, "--lr", 0.01)
    trained = cli("train", "pair.csv", *flags, "--out", "run")
    assert trained.code == 0
    assert "numbers at 8,000 a second" in trained.err
    report = unrolled.load_table("run").evaluate()
    assert report.metrics["esr"] < report.baselines["mean"]["esr"] / 3
    write_wav("fast.wav", dry, 16, rate=44100)
    Path("other.csv").write_text("dry\nfast.wav\n")
    refused = cli("predict", "run", "other.csv")
    assert refused.code == 3
    assert "8,000 samples per second are expected, as in training, and it has 44,100" in refused.err
    Path("other.csv").write_text("dry,wet\nfast.wav,wet.wav\n")
    both = cli("train", "other.csv", *flags, "--out", "other")
    assert "has 44,100 samples per second and 'wet' 8,000" in both.err


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_wav_files_are_read_as_they_were_written(bits: int, tmp_path: Path) -> None:
    values = np.array([0.0, 0.5, -0.25, 0.999])
    name = write_wav(str(tmp_path / "a.wav"), values, bits)
    wav = read_wav(Path(name), "here")
    assert wav.rate == 8000
    assert np.abs(wav.samples[:, 0] - values).max() < 2 ** (2 - bits)


def test_wav_files_of_other_formats(tmp_path: Path) -> None:
    def riff(code: int, bits: int, data: bytes, extra: bytes = b"") -> Path:
        header = struct.pack("<HHIIHH", code, 1, 48000, 0, bits // 8, bits) + extra
        chunks = b"".join(struct.pack("<4sI", name, len(body)) + body for name, body in ((b"fmt ", header), (b"data", data)))
        path = tmp_path / "b.wav"
        path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
        return path

    extensible = struct.pack("<HHI", 22, 24, 4) + struct.pack("<H", 1) + bytes(14)
    assert read_wav(riff(0xFFFE, 24, b"\0\0\x40", extensible), "x").samples.tolist() == [[0.5]]
    assert read_wav(riff(3, 32, struct.pack("<f", 0.25)), "x").samples.tolist() == [[0.25]]
    with pytest.raises(DataError, match="has 4 bits in format 17"):
        read_wav(riff(17, 4, b"\0"), "x")
    with pytest.raises(DataError, match="is not a WAV file"):
        read_wav(Path(__file__), "x")


def test_cells_of_numbers() -> None:
    values, rate = parse_steps(Cell([1, None, "", "NaN", "2.5"], "t"))
    assert rate is None
    assert np.array_equal(values[:, 0], [1, np.nan, np.nan, np.nan, 2.5], equal_nan=True)
    assert parse_steps(Cell("[[1, 2], [3, null]]", "t"))[0].shape == (2, 2)
    assert parse_steps(Cell("1.5; 2; 3", "t"))[0].ravel().tolist() == [1.5, 2, 3]
    for value, problem in (
        ([[1], [2, 3]], "every step has as many numbers as the others, and here some have 1 and 2"),
        ([1, "two"], "value 2: a number is expected, and this is 'two'"),
        ([1, math.inf], "value 2: the number is infinite"),
        ([], "numbers, or lists of as many numbers each"),
    ):
        with pytest.raises(DataError, match=problem):
            parse_steps(Cell(value, "t", 4))


def test_long_tables_are_sorted_and_grouped(cli: Cli) -> None:
    write_long("t.csv", {"id": list("aabab"), "t": [2, 1, 1, 3, 2], "x": [20, 10, 1, 30, 2]})
    table = group_steps(open_table("t.csv"), LongFormat("id", "t"), ["x"])
    rows = [row for _, row in table.rows()]
    assert [(row["id"], row["x"].ravel().tolist(), list(row["x"].lines)) for row in rows] == [
        ("a", [10, 20, 30], [3, 2, 5]),
        ("b", [1, 2], [4, 6]),
    ]
    assert "2 rows were not in the order of 't', and were sorted" in table.notes
    assert "same 't'" not in "".join(table.notes)
    assert (
        "2 rows have the same 't' as another row of their series"
        in group_steps(open_table("t.csv"), LongFormat(None, "t"), ["x"]).notes[-1]
    )
    write_long("t.csv", {"t": ["2024-01-01", "31/01/2024"], "x": [1, 2]})
    with pytest.raises(DataError, match=r"line 3: 't' is '31/01/2024', and the times of a table are all numbers, all ISO"):
        group_steps(open_table("t.csv"), LongFormat(None, "t"), ["x"])
    write_long("t.csv", {"x": [*range(20), "abc"]})
    table = group_steps(open_table("t.csv"), LongFormat(), ["x"])
    [(_, row)] = table.rows()
    assert np.isnan(row["x"][:, 0]).tolist() == [False] * 20 + [True]
    assert "'x': 1 value read as a gap; the first: t.csv, line 22: a number is expected, and this is 'abc'" in table.notes[-1]


def test_scaling_is_of_the_training_steps_and_clips_spikes() -> None:
    values = np.concatenate([np.random.default_rng(0).standard_normal(1000) * 3 + 7, [1e5]])[:, None]
    scaling = Scaling.fit(values)
    assert scaling.center[0] == pytest.approx(7, abs=0.3)
    assert scaling.spread[0] == pytest.approx(3, rel=0.15)
    assert scaling.apply(values).max() < 100
    assert Scaling.fit(np.r_[np.zeros(500), np.ones(2)][:, None]).high[0] == np.inf  # rare events are no spikes
    assert np.allclose(scaling.invert(scaling.apply(values[:-1])), values[:-1])
    column = NumbersColumn("x", ["x"], scaling)
    column.fit_training([np.array([[1.0], [np.nan], [3.0]])])
    assert column.size == 2
    assert column_to_json(column_from_json(column_to_json(column))) == column_to_json(column)
    inputs = column.to_inputs(np.array([[np.nan], [3.0], [np.nan]]))
    assert inputs[:, 1].tolist() == [1, 0, 1]
    assert inputs[0, 0] == 0
    assert inputs[2, 0] == inputs[1, 0]  # a gap is the last number before it
    with pytest.raises(DataError, match="no number in the training rows"):
        column.fit_training([np.array([[np.nan]])])


def test_drift_is_removed() -> None:
    values = np.random.default_rng(0).standard_normal((50, 3))
    drift = np.linspace(0, 1e4, 50)[:, None]
    by_row = NumbersColumn("x", ["a", "b", "c"], Scaling.fit(values), center="row")
    assert np.allclose(by_row.to_inputs(values + drift), by_row.to_inputs(values), atol=1e-3)
    by_group = NumbersColumn("x", ["a", "b", "c"], Scaling.fit(values), center="group", scale="group")
    assert np.allclose(by_group.to_inputs(5 * values + 300), by_group.to_inputs(values), atol=1e-4)
    assert np.allclose(by_group.unscale(by_group.to_targets(values), values), values, atol=1e-4)


@pytest.mark.parametrize("setting", ["center", "scale"])
def test_a_target_keeps_the_level_of_its_series(setting: str) -> None:
    generator = np.random.default_rng(0)
    lines = ["g,x,y"]
    for group in range(4):
        x = generator.normal(size=60)
        lines += [f"{group},{100 * group + value:.3f},{50 + 5 * value:.3f}" for value in x]
    Path("levels.csv").write_text("\n".join(lines) + "\n")
    options: dict[str, Any] = {setting: "group", "group_by": "g", "steps": 150, "hidden": 8, "layers": 1, "lr": 0.02}
    model = unrolled.train_table("levels.csv", "x", "y", threads=1, progress=False, out="run", **options)
    metrics = model.evaluate()
    assert metrics.metrics["rmse"] < 2.0 < metrics.baselines["mean"]["rmse"]


def test_the_period_of_a_series_with_a_trend_and_of_a_week() -> None:
    month, hour = np.arange(144), np.arange(24 * 7 * 8)
    assert find_period((110 + 2.5 * month) * (1 + 0.2 * np.sin(month * np.pi / 6))) == 12
    noise = np.random.default_rng(0).standard_normal(len(hour))
    load = 0.05 * hour + 20 * np.sin(hour * np.pi / 12) + 15 * (hour // 24 % 7 > 4) + noise
    assert find_period(load) == 168
    assert find_period(np.arange(100.0)) is find_period(np.ones(100)) is find_period(np.cumsum(noise)) is None


def test_numbers_with_decimal_commas_are_steps_and_no_lists(cli: Cli) -> None:
    Path("de.csv").write_text("Zeit;Druck;Temp\n" + "".join(f"{h % 28 + 1}.{h // 28 + 1}.2024;{h},5;1,25\n" for h in range(84)))
    trained = cli("train", "de.csv", "--source", "Druck,Temp", "--horizon", 2, *TINY, "--steps", 1, "--out", "run")
    assert (trained.code, "84 steps of 1 series" in trained.err) == (0, True), trained.err
    assert " validation forecast" in trained.err
    assert " row" not in cli("eval", "run").out.splitlines()[0]
    assert [row["step"] for row in rows_of(cli("predict", "run", "de.csv").out)] == ["1", "2"]


def test_losses_of_numbers() -> None:
    outputs, targets = torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[2.0], [math.nan]])
    sums, counts = number_losses(outputs, targets, "quantiles", (0.1, 0.9))
    assert sums.tolist() == pytest.approx([(0.1 * 2 + 0.9 * 1) / 2, 0])
    assert counts.tolist() == [1, 0]
    gaussian = number_losses(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0]]), "gaussian")[0]
    assert float(gaussian) == pytest.approx(0.5 + 0.5 * math.log(2 * math.pi), abs=1e-5)
    assert float(number_losses(outputs[:1, :1], targets[:1], "mae")[0]) == 2
    weights = torch.zeros(2, requires_grad=True)
    number_losses(weights[None], torch.tensor([[math.nan]]), "gaussian")[0].sum().backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert weights.grad.tolist() == [0, 0]


def test_baselines_and_metrics() -> None:
    season = np.tile([0.0, 1, 4, 9, 2], 40)[:, None]
    stats = series_baselines([(season, season)], 5)
    assert stats["period"] == 5
    made = forecast_baselines(season[:103], 4, stats)
    assert made["seasonal_naive"].ravel().tolist() == [9, 2, 0, 1]
    assert made["last_value"].ravel().tolist() == [4, 4, 4, 4]
    assert made["linear"].ravel() == pytest.approx([9, 2, 0, 1], abs=0.05)
    assert find_period(np.random.default_rng(0).standard_normal(500)) is None
    truth, guess = [np.array([[1.0], [2], [np.nan], [3]])], [np.array([[1.0], [2], [50], [5]])]
    metrics = number_metrics(truth, guess, 0, True)
    assert metrics["rmse"] == pytest.approx(math.sqrt(4 / 3))
    assert metrics["mae"] == pytest.approx(2 / 3)
    assert metrics["r2"] == metrics["nse"] == pytest.approx(1 - 4 / 2)
    assert metrics["esr"] == pytest.approx(4 / 14)


def test_times_go_on() -> None:
    for times, following in (
        (["2024-02-28T23:00", "2024-02-29T00:00"], "2024-02-29T01:00"),
        (["2024-02-28T23:59:30", "2024-02-29T00:00:00"], "2024-02-29T00:00:30"),
        (["2024-02-28 23:00:00", "2024-02-29 0:00:00"], "2024-02-29 01:00:00"),
        (["2023-10-29T01:00+01:00", "2023-10-29T02:00+01:00"], "2023-10-29T03:00+01:00"),
        (["1960-11", "1960-12"], "1961-01"),
        (["2024-01-31", "2024-02-29"], "2024-03-31"),
        (["2023-10-01", "2024-01-01"], "2024-04-01"),
        ([20240130, 20240131], 20240201),
        (["30.12.2023 12:00", "31.12.2023 12:00"], "01.01.2024 12:00"),
        (["12/31/2023 10:30 AM", "12/31/2023 11:30 AM"], "12/31/2023 12:30 PM"),
        (["12/30/23", "12/31/23"], "01/01/24"),
        (["2023/12/30", "2023/12/31"], "2024/01/01"),
        (["30-DEC-2023", "31-DEC-2023"], "01-JAN-2024"),
        (["December 30, 2023", "December 31, 2023"], "January 01, 2024"),
        (["Nov 2023", "Dec 2023"], "Jan 2024"),
        (["2023Q3", "2023Q4"], "2024Q1"),
        (["2020-W52", "2020-W53"], "2021-W01"),
        ([202311, 202312], 202401),
        ([2023123122, 2023123123], 2024010100),
        (["202312312330", "202312312345"], 202401010000),
        ([20231231235958, 20231231235959], 20240101000000),
        ([f"2{day}.12.23" for day in range(2, 10)], "30.12.23"),  # no years from 2022 to 2029
        ([f"23-12-2{day}" for day in range(2, 10)], "23-12-30"),
    ):
        assert next_times(times, 1) == [following]
    assert next_times([0.5, 1.0], 2) == [1.5, 2]
    assert next_times([1, 2, 5], 2) == []
    assert next_times([], 2) == []


def test_times_go_on_where_clocks_are_changed_and_rows_are_missing() -> None:
    """Once, a forecast had no times for four days after such an hour."""
    offset = [f"2024-03-31T{h:02}:00+0{1 + (h > 2)}:00" for h in range(24) if h != 2]
    assert next_times(offset, 2) == ["2024-04-01T00:00+02:00", "2024-04-01T01:00+02:00"]
    spring = [f"2024-03-31 {h:02}:00" for h in range(24) if h != 2]
    assert next_times(spring, 2) == ["2024-04-01 00:00", "2024-04-01 01:00"]
    autumn = [f"2024-10-27 {h:02}:30" for h in (0, 1, 2, 2, *range(3, 24))]
    assert next_times(autumn, 1) == ["2024-10-28 00:30"]
    midnights = [f"2024-{day}T00:00+0{1 + (day > '03-31')}:00" for day in ("03-29", "03-30", "03-31", "04-01")]
    assert next_times(midnights, 1) == ["2024-04-02T00:00+02:00"]
    assert next_times([*range(20), 21, 22], 1) == [23], "one row is missing"
    working_days = [f"2024-01-{day:02}" for day in range(1, 31) if day % 7 not in (6, 0)]
    assert next_times(working_days, 1) == [], "the next one may be a Saturday"


def test_a_series_of_one_step_goes_on_like_those_of_training() -> None:
    for time, examples, following in (
        ("2024-05-31T10:00", ["2024-01-31 09:00", "2024-01-31 09:15"], "2024-05-31T10:15"),
        ("2024-03-31", ["2024-01-31", "2024-02-29"], "2024-04-30"),
        ("2024-03-05", ["2024-01-05", "2024-02-05"], "2024-04-05"),
        ("2024-03-05", ["2024-01-31", "2024-02-01"], "2024-03-06"),
        ("2024Q1", ["2023Q1", "2023Q2"], "2024Q2"),
        ("7", [1, 4], 10),
    ):
        assert next_times([time], 1, examples) == [following]
    assert next_times(["2024-05-31"], 1) == next_times(["2024-05-31"], 1, [1, 2]) == []
    table = open_table(write_long("one.csv", {"t": ["2024-01-01T22:00"], "x": [3]}))
    format = LongFormat(None, "t", examples=("2023-12-31T01:00", "2023-12-31T02:00"))
    assert LongFormat.from_json(json.loads(json.dumps(format.to_json()))) == format
    [(_, row)] = group_steps(table, format, ("x",), horizon=3).rows()
    assert list(row["x"].times)[1:] == ["2024-01-01T23:00", "2024-01-02T00:00", "2024-01-02T01:00"]
    assert (row["x"].seconds / 3600 % 24).tolist() == [22, 23, 0, 1]


def test_an_hour_that_clocks_repeat_keeps_its_order() -> None:
    """Once, the two hours between 2 and 3 of the night of October were shuffled into one another."""
    clocks = [f"2024-10-27 0{hour}:{minute:02}" for hour in (1, 2, 2, 3) for minute in (0, 15, 30, 45)]
    table = open_table(write_long("dst.csv", {"t": clocks, "x": list(range(16))}))
    grouped = group_steps(table, LongFormat(None, "t"), ("x",))
    [(_, row)] = grouped.rows()
    assert row["x"][:, 0].tolist() == list(range(16))
    assert any("4 rows have the same 't'" in note and "clocks are set back" in note for note in grouped.notes), grouped.notes
    swapped = open_table(write_long("swapped.csv", {"t": clocks[::-1], "x": list(range(16))}))
    [(_, row)] = group_steps(swapped, LongFormat(None, "t"), ("x",)).rows()
    assert list(row["x"].times) == sorted(clocks)


def test_times_are_sorted_as_times_and_not_as_texts() -> None:
    for times in (
        ["2024-01-01 8:00", "2024-01-01 9:00", "2024-01-01 10:00"],
        ["2023-10-29T02:30+02:00", "2023-10-29T02:00+01:00"],
        ["2023-10-29 02:30:00 +02:00", "2023-10-29T01:00Z"],
        ["1949-9", "1949-10"],
        ["9/30/2023", "10/1/2023", "10/1/2024"],
        ["30.9.2023", "1.10.2023", "02.10.2023"],
        ["1/13/2023 9:00 AM", "1/13/2023 12:30 PM", "1/13/2023 1:00 PM"],
        ["9", "10.5"],
        ["20231231", "20240101"],
        ["31-Jan-2023", "1-Feb-2023"],
        ["Q4 1990", "Q1 1991"],
    ):
        keys: Any = time_keys(times)
        assert keys == sorted(set(keys)), times
    for unordered, place in (
        (["1/2/2023", "3/4/2023"], 0),  # days or months
        (["2024-01-01", "2024-01-02T00:00Z"], 1),  # no offset, and one
        (["2024-01-01", "soon"], 1),
        (["2024-01-01", None], 1),
        (["31.12.2023", "12/31/2023"], 1),
        (["01.02.23", "02.02.23"], 0),  # days of February, or one day in two years
        (["31-Foo-2023"], 0),
    ):
        assert time_keys(unordered) == place, unordered


def test_settings_that_do_not_fit_are_refused(cli: Cli) -> None:
    table = write_long("t.csv", {"id": list("ab") * 30, "x": range(60), "y": [v / 7 for v in range(60)]})
    for flags, problem in (
        (("--source", "x", "--target", "y", "--horizon", 2), "leave --target out"),
        (("--source", "x", "--horizon", 2, "--quantiles", "0.9,0.1"), "increasing numbers between 0 and 1"),
        (("--source", "x", "--horizon", 2, "--center", "row"), "--center row is for three or more numbers per step"),
        (("--source", "x", "--target", "y", "--group-by", "id", "--quantiles", "0.2,0.8"), "not learned with --loss mse"),
        (("--source", "x", "--target", "x", "--group-by", "id"), "both the source and the target"),
        (("--source", "x", "--horizon", 2, "--bidirectional"), "--bidirectional reads the future"),
        (("--source", "x,x", "--horizon", 2), "names a column twice"),
        (("--source", "id", "--horizon", 2), "has texts, such as 'a': name a column of numbers"),
        (("--source", "x", "--target", "y", "--group-by", "nowhere"), "has no column 'nowhere'"),
        (("--source", "x:numbers,id:label", "--target", "y"), "read side by side as numbers, and 'id' is to be label"),
    ):
        refused = cli("train", table, *flags, *TINY, "--steps", 2, "--out", "r")
        assert (refused.code, problem in refused.err) == (2, True), refused.err
    Path("words.jsonl").write_text('{"words": "a b", "x": [0.5, 1.5]}\n' * 20)
    refused = cli("train", "words.jsonl", "--source", "words:text", "--target", "x:numbers", *TINY, "--steps", 2, "--out", "r")
    assert (refused.code, "predicted from numbers only, and 'words' is text" in refused.err) == (2, True), refused.err
    lists = ("--source", "x:numbers,words", "--target", "words:label", *TINY, "--steps", 2, "--out", "r")
    refused = cli("train", "words.jsonl", *lists)
    assert (refused.code, "a column whose cells are whole series is read alone" in refused.err) == (2, True), refused.err
    Path("book.txt").write_text("word " * 500)
    refused = cli("train", "book.txt", "--horizon", 3, *TINY, "--steps", 2, "--out", "r")
    assert (refused.code, "--horizon" in refused.err) == (2, True)


def test_gaps_and_spikes_are_reported_with_their_place() -> None:
    values = [float(v % 10) for v in range(100)]
    values[40] = 1e7
    write_long("t.csv", {"x": ["" if i == 50 else v for i, v in enumerate(values)]})
    table, spec = series_spec(open_table("t.csv"), "x", None, SeriesOptions(horizon=2), "nfc")
    assert number_notes(table, spec.source) == [
        "'x': 1 of 100 numbers are missing, and have no part in the loss",
        "'x': 1 step has a number far out of the range of the training steps, which is clipped: t.csv, line 42",
    ]
    with pytest.raises(UsageError, match="leave target= out"):
        series_spec(open_table("t.csv"), "x", "y", SeriesOptions(horizon=2), "nfc")


def test_changes_are_scaled_and_added_up_again() -> None:
    """A series that grows, with a gap: inputs have the level, the gap and the change; targets are the change from the last."""
    values = np.array([[10.0], [12.0], [np.nan], [15.0], [17.0], [19.0], [21.0], [24.0]])
    column = NumbersColumn("x", ["x"], Scaling.fit(values), horizon=2, loss="gaussian", difference=1)
    column.fit_training([values])
    inputs, targets = column.to_inputs(values), column.to_targets(values)
    assert (inputs.shape, column.size) == ((8, 3), 3)
    assert np.isfinite(inputs).all()
    assert np.isnan(targets[[0, 2], 0]).all()
    scaled = column.scaling.apply(values)
    after = column.unscale(column.after(targets[3:4], scaled[1:2]))
    assert after == pytest.approx(15.0, abs=1e-5)
    again = NumbersColumn.from_dict("x", json.loads(json.dumps(column.to_dict())))
    assert (again.difference, again.to_inputs(values).tolist()) == (True, inputs.tolist())
    assert "change" not in NumbersColumn("x", ["x"], column.scaling, horizon=2).to_dict()


def test_changes_from_one_period_before() -> None:
    """What is the same in each period is no change; the first period has none, and a model says how long it is."""
    values = np.tile([10.0, 20.0, 40.0], 5)[:, None] + np.arange(15)[:, None]
    column = NumbersColumn("x", ["x"], Scaling.fit(values), horizon=4, difference=3)
    column.fit_training([values])
    targets, scaled = column.to_targets(values), column.scaling.apply(values)
    assert np.isnan(targets[:3]).all()
    assert np.allclose(targets[3:], targets[3])
    assert column.unscale(column.after(targets[3:], scaled[:-3])) == pytest.approx(values[3:], abs=1e-4)
    again = NumbersColumn.from_dict("x", json.loads(json.dumps(column.to_dict())))
    assert (again.difference, again.to_targets(values)[3:].tolist()) == (3, targets[3:].tolist())
    assert np.isnan(column.to_targets(values[:2])).all(), "a series that is shorter than a period"
    with pytest.raises(ValueError, match="changes of a column of numbers"):
        NumbersColumn.from_dict("x", column.to_dict() | {"difference": 0})


@pytest.mark.slow
def test_a_period_goes_on_where_changes_from_it_are_forecast(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape that no short training learns: it repeats every 12 steps, with a level that wanders."""
    draw = np.random.default_rng(0)
    shape, level = np.tile(draw.permutation(12) * 10.0, 40), np.cumsum(draw.normal(0, 0.5, 480))
    table = write_long("season.csv", {"t": range(480), "x": shape + level})
    flags = ("--source", "x", "--order-by", "t", "--horizon", 30, *TINY, "--lr", 0.01, "--steps", 40)
    errors = {}
    for difference in ("on", "auto"):
        trained = cli("train", table, *flags, "--difference", difference, "--out", difference)
        assert trained.code == 0, trained.err
        errors[difference] = json.loads(cli("eval", difference, "--json").out)["rmse"]
    assert "forecast of changes from 12 steps before (--difference season): after a short training, rmse " in trained.err
    assert errors["auto"] < 8 < errors["on"], "of steps of 10; a forecast of 30 goes on from its own first period"
    told = cli("train", table, *flags, "--difference", "season", "--out", "told")
    assert told.code == 0, told.err
    first, second = (unrolled.load_table(name).session.saved for name in ("auto", "told"))
    assert first.spec.to_json()["target"]["difference"] == second.spec.to_json()["target"]["difference"] == 12
    walk = write_long("walk.csv", {"t": range(200), "x": np.cumsum(draw.normal(0, 1, 200))})
    refused = cli("train", walk, *flags, "--difference", "season", "--out", "no")
    assert (refused.code, "the training steps have no period" in refused.err) == (2, True), refused.err
    monkeypatch.setattr("unrolled.training.tasks.series.HISTORY_STEPS", 11)  # a forecast does not see its last period then
    assert "of at most 11 steps" in cli("train", table, *flags, "--difference", "season", "--out", "long").err
    assert "--difference season" not in cli("train", table, *flags, "--out", "long").err


@pytest.mark.slow
def test_a_trend_goes_on_where_changes_are_forecast(cli: Cli) -> None:
    """Once, a forecast never left the range of the training steps: a series that grows by 2 a step seemed to end there."""
    draw, steps = np.random.default_rng(0), np.arange(400)
    table = write_long("trend.csv", {"t": steps, "x": 100 + 2 * steps + draw.normal(0, 1, 400)})
    flags = ("--source", "x", "--order-by", "t", "--horizon", 10, *TINY, "--lr", 0.01, "--steps", 60)
    errors = {}
    for difference in ("off", "auto"):
        trained = cli("train", table, *flags, "--difference", difference, "--out", difference)
        assert trained.code == 0, trained.err
        errors[difference] = json.loads(cli("eval", difference, "--json").out)
    assert "forecast of changes (--difference on): after a short training, rmse " in trained.err
    assert errors["auto"]["rmse"] < 6 < errors["auto"]["baselines"]["last_value"]["rmse"]
    assert errors["auto"]["rmse"] < 0.5 * errors["off"]["rmse"]
    last = rows_of(cli("predict", "auto", table).out)[-1]
    assert 910 < float(last["predicted"]) < 930
    assert float(last["p10"]) < float(last["p90"])


@pytest.mark.slow
def test_a_forecast_of_changes_resumes_bit_by_bit(cli: Cli) -> None:
    table = write_long("walk.csv", {"t": range(500), "x": np.cumsum(np.random.default_rng(1).normal(0, 1, 500))})
    flags = ("--source", "x", "--order-by", "t", "--horizon", 3, *TINY, "--lr", 0.01, "--steps", 6)
    assert cli("train", table, *flags, "--out", "whole").code == 0
    assert cli("train", table, *flags, "--stop-after", 3, "--out", "half").code == 0
    assert cli("train", "--resume", "half").code == 0
    whole, half = (unrolled.load_table(name).session.saved for name in ("whole", "half"))
    assert whole.spec.to_json() == half.spec.to_json()
    assert "change" in whole.spec.to_json()["target"]
    first, second = whole.model.state_dict(), half.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    refused = cli("train", table, "--source", "x:numbers", "--target", "t", "--difference", "on", "--out", "no")
    assert (refused.code, "--difference is for forecasts: add --horizon" in refused.err) == (2, True), refused.err
