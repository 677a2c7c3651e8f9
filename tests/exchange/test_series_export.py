"""Models of series as C: every loss, cell and input, compiled and compared; wrong writers and refusals."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from support.cli import Cli
from support.series import LAYER_FAULTS, MODELS, TRAINING, model_with_start, right_and_wrong, series_model, write_valve
from support.tables import rows_of
from unrolled.exchange import c_export, series_c_export
from unrolled.exchange.c_export import find_compiler, run_c_test
from unrolled.exchange.export_job import ExportError
from unrolled.exchange.series_c_export import series_source
from unrolled.exchange.series_model import SeriesModel
from unrolled.tables.numbers_column import NumbersColumn

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


@needs_compiler
@pytest.mark.parametrize("name", MODELS)
def test_c_computes_what_the_model_computes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, flash, ram = series_source(series_model(**MODELS[name]), name, "x.c")
    said = run_c_test(str(find_compiler()), source, "-O1", "-Wall", "-Werror", "-fsanitize=undefined")
    assert "outputs of each of 48 steps, in two runs" in said
    Path("x.c").write_text(source)
    program = 'int main(void) { printf("%zu", sizeof(x_model)); return 0; }'
    Path("size.c").write_text(f'#include "x.c"\n#include <stdio.h>\n{program}\n')
    subprocess.run([str(find_compiler()), "size.c", "-lm", "-o", "size"], check=True)
    assert ram <= int(subprocess.run(["./size"], capture_output=True, check=True).stdout) <= ram + 8
    assert 0 < flash < len(source)


@needs_compiler
def test_what_is_no_number_does_not_spoil_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, a time that was no number made all later outputs NAN; an infinite number is a gap."""
    monkeypatch.chdir(tmp_path)
    model_file = series_model(horizon=3, difference=1, cycles=("day", "week"), gaps=True)
    for column in (model_file.spec.source, model_file.spec.target):
        cast(NumbersColumn, column).scaling = dataclasses.replace(
            cast(NumbersColumn, column).scaling, low=np.full(2, -np.inf), high=np.full(2, np.inf)
        )
    Path("x.c").write_text(series_source(model_file, "m", "x.c")[0])
    flags = ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover", "-DMAIN"]
    subprocess.run([str(find_compiler()), *flags, "x.c", "-lm", "-o", "x"], check=True)
    lines = "1e9,10000,-3\nabc,inf,nan\n\n,,\ninf,-inf,5\n1e9,10001,4\n"
    done = subprocess.run(["./x"], input=lines, capture_output=True, text=True, check=True)
    assert [all(map(np.isfinite, map(float, line.split(",")))) for line in done.stdout.splitlines()] == [True] * 6


@needs_compiler
def test_the_state_that_a_series_starts_from() -> None:
    run_c_test(str(find_compiler()), series_source(model_with_start()[0], "m", "m.c")[0], "-O0")


@needs_compiler
@pytest.mark.parametrize("fault", LAYER_FAULTS)
def test_a_wrong_writer_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables are written from a model with the fault, and its test vectors are those of the right one."""
    right, wrong = right_and_wrong(fault)
    add_tables = series_c_export._add_tables
    monkeypatch.setattr(series_c_export, "_add_tables", lambda tables, _: add_tables(tables, SeriesModel.of(wrong)))
    with pytest.raises(ExportError, match="fails its test"):
        run_c_test(str(find_compiler()), series_source(right, "m", "m.c")[0])


@needs_compiler
def test_a_wrong_scaling_or_lag_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model_file = series_model(horizon=3, difference=7)
    definitions, scaling = series_c_export._definitions, series_c_export._scaling
    with monkeypatch.context() as patch:
        patch.setattr(series_c_export, "_definitions", lambda series: definitions(series) | {"LAG": 6})
        with pytest.raises(ExportError, match="step 5, output 0"):
            run_c_test(str(find_compiler()), series_source(model_file, "m", "m.c")[0])
    monkeypatch.setattr(
        series_c_export, "_scaling", lambda name, of: scaling(name, dataclasses.replace(of, spread=of.spread * 1.01))
    )
    with pytest.raises(ExportError, match="fails its test"):
        run_c_test(str(find_compiler()), series_source(model_file, "m", "m.c")[0])


@needs_compiler
@pytest.mark.slow
def test_a_trained_series_in_c(cli: Cli) -> None:
    """The program reads the table's numbers and writes what the model predicts at each step of it."""
    table, x = write_valve()
    assert cli("train", table, "--source", "x", "--target", "y", "--order-by", "t", *TRAINING, "--out", "runs/valve").code == 0
    done = cli("export", "runs/valve", "--to", "c", "--out", "valve.c")
    assert done.code == 0, done.err
    assert "-O0 and -O3: 1 output of each of 48 steps, in two runs" in done.out
    subprocess.run([str(find_compiler()), "-O2", "-DMAIN", "valve.c", "-lm", "-o", "valve"], check=True)
    numbers = "".join(f"{value}\n" for value in x)
    printed = subprocess.run(["./valve"], input=numbers, capture_output=True, text=True, check=True)
    got = np.array([float(line) for line in printed.stdout.split()])
    wanted = np.array([float(row["predicted"]) for row in rows_of(cli("predict", "runs/valve", table).out)])
    assert got == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    assert "valve_step(valve_model *model" in Path("valve.c").read_text()


def test_what_has_no_c_form_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    centered = series_model(center="group")
    assert "--center and --scale need the other numbers" in str(series_c_export.unsupported_in_c(centered))
    assert "the cell mingru is not in the C file" in str(series_c_export.unsupported_in_c(series_model("mingru")))
    model_file = series_model()
    monkeypatch.setattr(c_export, "find_compiler", lambda: None)
    assert "there is no C compiler here" in series_c_export.export_series(model_file, "m", Path("m.c")).checks[0]
