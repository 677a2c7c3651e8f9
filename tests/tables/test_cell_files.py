"""Cells that name files of this machine, in tables of other people: with `--no-cell-files` none is opened, now or later."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unrolled
from support.tables import write_jsonl
from unrolled.errors import DataError, UsageError
from unrolled.tables.cell_values import Cell, parse_array, parse_image
from unrolled.tables.step_arrays import parse_steps
from unrolled.tables.table_files import Table, open_table, open_table_or_lines, open_with_columns
from unrolled.tables.table_format import TableFormat
from unrolled.tables.wav_files import write_wav
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback

OPENED: list[str] = []
_IS_HOOKED: list[bool] = []
PARSERS: dict[str, Callable[[Cell], Any]] = {"private.npy": parse_array, "private.wav": parse_steps, "private.png": parse_image}
TINY: dict[str, Any] = {"steps": 4, "hidden": 8, "layers": 1, "batch": 4, "threads": 1, "progress": False}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir"):
        OPENED.append(str(arguments[0]))


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    """A folder with files that a cell may name, of each kind; what is opened meanwhile is in `OPENED`."""
    folder = tmp_path / "private"
    folder.mkdir()
    np.save(folder / "private.npy", np.arange(9.0))
    write_wav(folder / "private.wav", np.zeros((9, 1)), 8000)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "private.png")
    if not _IS_HOOKED:  # a hook stays until the process ends
        sys.addaudithook(_watch)
        _IS_HOOKED.append(True)
    OPENED.clear()
    yield folder
    assert not [name for name in OPENED if name.startswith(str(folder))]


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_closed_table_opens_no_file_and_tells_nothing_of_it(private: Path, tmp_path: Path, name: str, suffix: str) -> None:
    """Neither whether it is there, nor what is beside it, nor whether its name is relative to the table."""
    places = [str(private / name), str(private / f"missing-{name}"), f"private/{name}", f"private/{name.upper()}"]
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"x": places}), path)
    elif suffix == "jsonl":
        write_jsonl(path, [{"x": place} for place in places])
    else:
        path.write_text("x\n" + "\n".join(places) + "\n", "utf-8")
    closed = TableFormat(cell_files=False)
    openers: list[Callable[[], Table]] = [
        lambda: open_table(str(path), format=closed), lambda: open_with_columns(str(path), ("x",), closed),
        lambda: open_table_or_lines(str(path), "x", closed),
    ]  # fmt: skip
    for opened in openers:
        for line, (cell,) in opened().iter_cells(("x",)):
            with pytest.raises(DataError) as refusal:
                PARSERS[name](cell)
            known = f"line {line}: files of this machine cannot be named here: send the numbers or pixels themselves."
            assert str(refusal.value).endswith(known)


@pytest.mark.slow
def test_a_run_of_a_closed_table_stays_closed(private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is resumed, evaluated on its own rows or explained, although its folder names none of this again."""
    monkeypatch.chdir(tmp_path)
    rows: list[dict[str, Any]] = [{"x": [n % 7.0, n % 5.0, 1.0], "y": "ab"[n % 2]} for n in range(40)]
    rows[7]["x"] = str(private / "private.npy")
    write_jsonl(tmp_path / "t.jsonl", rows)
    options = TINY | {"validation": "t.jsonl", "cell_files": False, "stop_after": 2}
    unrolled.train_table("t.jsonl", "x:vector", "y:label", out="run", **options)
    assert json.loads(Path("run/config.json").read_text("utf-8"))["options"]["cell_files"] is False
    launch.resume_run(Path("run"), {"threads": 1}, ProgressCallback()).train()
    model = unrolled.load_table("run")
    assert model.evaluate().num_rows == len(rows) - 1
    model.explain(length=10, probe_length=100)
    with pytest.raises(UsageError, match="cell_files was False"):
        launch.resume_run(Path("run"), {"cell_files": True}, ProgressCallback())


def test_an_open_table_still_reads_the_files_of_its_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    write_jsonl(tmp_path / "t.jsonl", [{"x": "a.npy"}])
    ((_, (cell,)),) = open_table(str(tmp_path / "t.jsonl")).iter_cells(("x",))
    assert parse_array(cell).tolist() == [0, 1, 2]
