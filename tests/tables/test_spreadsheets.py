"""Spreadsheets, written as the standards say, give the same rows as CSV."""

import datetime
import gzip
import zipfile
from pathlib import Path

import pytest

import unrolled
from support.cli import Cli
from support.spreadsheets import Sheet, write_ods, write_xlsx
from unrolled.errors import DataError
from unrolled.tables.table_files import open_table
from unrolled.tables.table_format import TableFormat

ROWS: Sheet = [
    ["text", "label", "stars", "day", "open"],
    ['said "no"', "bad", 1, datetime.date(2024, 1, 1), False],
    ["two\nlines", "good", 2.5, datetime.date(2024, 1, 2), True],
    ["tab\there & <x>", "", 12345678, datetime.date(2024, 1, 3), True],
    ["00123", "good", -3, datetime.date(2024, 2, 29), False],
]


def texts_of(path: Path) -> list[list[str]]:
    return [[str(cell) for cell in row.values()] for _, row in open_table(str(path)).rows()]


EXPECTED = [
    ['said "no"', "bad", "1", "2024-01-01", "FALSE"],
    ["two\nlines", "good", "2.5", "2024-01-02", "TRUE"],
    ["tab\there & <x>", "", "12345678", "2024-01-03", "TRUE"],
    ["00123", "good", "-3", "2024-02-29", "FALSE"],
]


def test_the_rows_of_a_sheet_are_those_of_a_table() -> None:
    path = write_xlsx("t.xlsx", {"S": ROWS})
    assert texts_of(path) == EXPECTED
    table = open_table("t.xlsx")
    assert (table.columns, table.notes) == (("text", "label", "stars", "day", "open"), ())
    assert [line for line, _ in table.rows()] == [2, 3, 4, 5]
    spaces = [[cell.replace("\t", " ") for cell in row] for row in EXPECTED]
    assert [[cell.replace("\t", " ") for cell in row] for row in texts_of(write_ods("t.ods", ROWS))] == spaces
    Path("t.xlsx.gz").write_bytes(gzip.compress(path.read_bytes()))
    with zipfile.ZipFile("t.zip", "w") as archive:
        archive.write("t.xlsx")
    assert texts_of(Path("t.xlsx.gz")) == texts_of(Path("t.zip")) == EXPECTED


def test_the_first_sheet_that_is_shown_is_read_and_others_are_told() -> None:
    sheets: dict[str, Sheet] = {"secret": [["a"], ["b"]], "empty": [[]], "Data": ROWS, "Notes": [["by hand"]]}
    path = write_xlsx("t.xlsx", sheets, hidden="secret")
    assert texts_of(path) == EXPECTED
    assert open_table("t.xlsx").notes == (
        "t.xlsx: the sheet 'Data' is read; left out: 'secret' (2 rows), 'Notes' (1 row) (to read another one: t.xlsx:secret)",
    )
    names = open_table("t.xlsx:secret").columns, open_table("t.xlsx:notes", format=TableFormat(header="none")).columns
    assert names == (("a",), ("0",))
    with pytest.raises(DataError, match=r"t.xlsx has no sheet 'Daten'; those with cells are 'secret', 'Data', 'Notes'\."):
        open_table("t.xlsx:Daten")
    with pytest.raises(DataError, match="no cells in its sheet 'empty'"):
        open_table("t.xlsx:empty")


def test_rows_have_their_numbers_below_a_title_and_columns_may_have_no_names() -> None:
    title: Sheet = [["Report of 2024", ""], ["", ""], ["question", "answer"], *[[f"q {n}", "x"] for n in range(30)]]
    assert next(iter(open_table(str(write_xlsx("t.xlsx", {"S": title}, first_row=2))).rows())) == (
        5,
        {"question": "q 0", "answer": "x"},
    )
    data = write_xlsx("data.xlsx", {"S": [["a b", 1], ["c", 2]]})
    table = open_table(str(data), format=TableFormat(header="text,y"))
    assert [row for _, row in table.rows()] == [{"text": "a b", "y": "1"}, {"text": "c", "y": "2"}]


def test_a_model_of_a_sheet_is_that_of_the_same_csv(cli: Cli) -> None:
    rows: Sheet = [["text", "label"], *[[f"it was {word} {n}", word] for n in range(30) for word in ("good", "bad")]]
    write_xlsx("t.xlsx", {"S": rows})
    Path("t.csv").write_text("".join(f"{text},{label}\n" for text, label in rows))
    losses = []
    for name in ("t.xlsx", "t.csv"):
        model = unrolled.train_table(name, source="text", target="label", steps=3, out=f"run-{name}", validation="t.csv")
        assert model.result is not None
        losses.append((model.result.train_nats, model.result.val_nats, model.result.diagnosis))
    assert losses[0] == losses[1]
    write_xlsx("two.xlsx", {"About": [["a note"]], "S": rows})
    assert cli("train", "two.xlsx:S", "--source", "text", "--target", "label", "--steps", 3, "--out", "r").code == 0
    assert cli("eval", "r", "two.xlsx:S").code == 0
    assert "is a table, and no text" in cli("train", "two.xlsx:S").err
    assert "is named with its file, as in 'book.xlsx:March'" in cli("train", "two.xlsx", "--sheet", "S").err
    predicted = cli("predict", "run-t.csv", "t.xlsx")
    assert predicted.out.splitlines()[:2][0] == "text,label,predicted,probability"
    assert len(predicted.out.splitlines()) == 61


@pytest.mark.parametrize("name", ["t.xlsx", "t.parquet"])
def test_a_spreadsheet_is_no_text_and_its_columns_are_told(cli: Cli, name: str) -> None:
    write_xlsx("t.xlsx", {"S": ROWS})
    if name == "t.parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        names, *values = ROWS
        parquet.write_table(arrow.table({str(key): [str(row[n]) for row in values] for n, key in enumerate(names)}), name)
    refused = cli("train", name)
    assert refused.code == 2, refused.err
    message = (
        f"{name} is a table, and no text: the columns of {name} are text, label, stars, day, open; to learn one of them from"
    )
    assert message in refused.err
    assert f"unrolled train {name} --source" in refused.err


def test_a_workbook_that_unzips_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_xlsx("t.xlsx", {"S": ROWS})
    monkeypatch.setattr("unrolled.tables.spreadsheet_files.MAX_WHOLE_BYTES", 1000)
    with pytest.raises(DataError, match=r"t.xlsx holds .* bytes, unzipped: write it as CSV"):
        open_table(str(path))


def test_an_archive_with_a_damaged_name_is_damaged() -> None:
    damaged = bytearray(write_xlsx("t.xlsx", {"S": ROWS}).read_bytes())
    at = damaged.rindex(b"xl/styles.xml")
    damaged[damaged.rindex(b"PK\x01\x02", 0, at) + 9] |= 8  # its names are in UTF-8, it says
    damaged[at] = 0xFF
    Path("t.zip").write_bytes(damaged)
    with pytest.raises(DataError, match="the name of a file in it is damaged"):
        open_table("t.zip")


def test_what_is_no_spreadsheet_is_refused() -> None:
    write_xlsx("empty.xlsx", {"S": [[]]})
    Path("text.xlsx").write_text("a,b\n1,2\n")
    for name, message in (("empty.xlsx", "has no sheet with cells"), ("text.xlsx", "is not a valid spreadsheet: ")):
        with pytest.raises(DataError, match=rf"^{name} {message}"):
            open_table(name)
