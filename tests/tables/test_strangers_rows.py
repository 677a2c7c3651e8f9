"""Rows and cells as other programs and other scripts write them, with the right values."""

import json
import logging
from pathlib import Path

import pytest

from unrolled.errors import DataError
from unrolled.tables.cell_values import Cell
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.pair_batching import read_pairs
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table

ROWS = [("the soup", "good"), ("the bed", "bad")]


def read(text: str) -> list[dict[str, str]]:
    Path("t.csv").write_text(text, "utf-8")
    return [dict(row) for _, row in open_table("t.csv").rows()]


@pytest.mark.parametrize(
    "text",
    [
        "text,label\nthe soup,good\n\ufefftext,label\nthe bed,bad\n",
        '"text","label"\n"the soup","good"\n\ufeff"text","label"\n"the bed","bad"\n',
        "text,label\nthe soup,good,,\nthe bed,bad\n",
        "text,label,\nthe soup,good\nthe bed,bad,\n",
        "text,label,,\nthe soup,good,,\nthe bed,bad\n",
    ],
)
def test_joined_files_and_delimiters_too_many_are_no_rows_and_no_cells(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [(row["text"], row["label"]) for row in read(text)] == ROWS


@pytest.mark.parametrize("line", ["the soup", "the soup,good,warm", "the soup,,good"])
def test_a_row_that_lacks_cells_or_has_more_is_refused(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"line 3: \d cells?, and the header has 2 columns .*needs quotes around it"):
        read(f"text,label\nthe bed,bad\n{line}\nthe bed,bad\n")


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("\u0661\u0660\u0660\u066b\u0665", 100.5),
        ("\u0661\u066c\u0662\u0665\u0660\u066b\u0665", 1250.5),
        ("\uff11\uff10\uff10\uff0e\uff15", 100.5),
        ("\uff0d\uff11\uff12\uff05", -12.0),
        ("\u0967\u0966\u0966.\u096b", 100.5),
        ("\u06f1\u06f0\u06f0\u066b\u06f5 \u062a\u0648\u0645\u0627\u0646", 100.5),
        ("12,34,567", 1234567.0),
        ("\u20b9 1,23,456.50", 123456.5),
    ],
)
def test_numbers_of_other_scripts(written: str, number: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'flat number {row},"{written}"\n' for row in range(40))
    Path("t.csv").write_text(f"s,t\n{rows}", "utf-8")
    column = infer_spec(open_table("t.csv"), "s:text", "t")[0].target
    said = infer_spec(open_table("t.csv"), "s:text", "t:number")[0].target
    assert column.kind == ("label" if number == int(number) and abs(number) < 1e6 else "number")
    assert isinstance(said, NumberColumn)
    assert said.read_values(Cell(written, "t")).item() == number


def test_wide_digits_with_a_leading_zero_are_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wide = str.maketrans("0123456789", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19")
    Path("t.csv").write_text("s,t\n" + "".join(f"flat {row},{row:04}\n".translate(wide) for row in range(40)), "utf-8")
    assert infer_spec(open_table("t.csv"), "s:text", "t")[0].target.kind == "text"


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (("good", "go\u200bod"), "labels that look the same are different labels, as 'good' and 'go\\u200bod'"),
        (("so-so", "so\u2013so"), "labels that look the same are different labels, as 'so-so' and 'so\\u2013so'"),
        (("fit", "\ufb01t"), "labels that look the same are different labels, as 'fit' and '\\ufb01t'"),
        (("very good", "very  good"), "labels that look the same are different labels, as 'very  good' and 'very good'"),
        (("\u00e9t\u00e9", "\u00c9t\u00e9"), "labels that differ only in case are different labels, as '\u00c9t\u00e9' and"),
        (("good", "bad"), ""),
    ],
)
def test_labels_that_look_alike_are_reported(
    labels: tuple[str, str], note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("s,t\n" + "".join(f"a flat number {i},{labels[i % 2]}\n" for i in range(40)), "utf-8")
    with caplog.at_level(logging.INFO, "unrolled"):
        assert infer_spec(open_table("t.csv"), "s:text", "t:label")[0].target.labels == sorted(labels)
    assert note in caplog.text if note else "labels that" not in caplog.text


@pytest.mark.parametrize(("unit", "is_left_out"), [("k", True), ("M", True), (" kg", False), ("%", False)])
@pytest.mark.parametrize("plain", ["400", 400])
def test_a_number_without_a_unit_that_multiplies_is_left_out(
    unit: str, is_left_out: bool, plain: str | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"s": f"flat number {i}", "t": plain if i == 7 else f"{i}.5{unit}"} for i in range(40)]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = open_table("t.jsonl")
    spec = infer_spec(table, "s:text", "t")[0]
    assert spec.target.kind == "number"
    assert len(read_pairs(table, spec)) == 40 - is_left_out


@pytest.mark.parametrize("plain_rows", [4, 20])
def test_numbers_of_which_some_are_shortened_are_all_read(plain_rows: int, tmp_path: Path) -> None:
    cells = [str(100 + i) if i < plain_rows else f"{i}.5K" for i in range(40)]
    (tmp_path / "t.csv").write_text("s,t\n" + "".join(f"flat number {i},{cell}\n" for i, cell in enumerate(cells)))
    table = open_table(str(tmp_path / "t.csv"))
    spec = infer_spec(table, "s:text", "t")[0]
    assert (spec.target.kind, len(read_pairs(table, spec))) == ("number", 40)
    numbers = [spec.target.read_values(Cell(cell, ""))[0, 0] for cell in ("845", "1.2K", "39.5K")]  # type: ignore[attr-defined]
    assert numbers == [845, 1200, 39500]
