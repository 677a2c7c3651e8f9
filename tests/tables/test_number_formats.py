"""Prices, units, parentheses and digits in groups, as people write them in spreadsheets, are numbers, and a note says how."""

import csv
import io
import json
import logging
import math
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

import unrolled
from support.cli import Cli
from support.tables import write_csv
from unrolled.errors import DataError
from unrolled.tables.cell_values import Cell
from unrolled.tables.columns import column_from_json, column_to_json
from unrolled.tables.number_units import split_unit
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table


@pytest.mark.parametrize(
    ("text", "sign", "number"),
    [
        ("$12.50", "$", "12.50"), (" 12,50 € ", "€", "12,50"), ("-$5", "$", "-5"), ("$-5", "$", "-5"), ("₹10", "₹", "10"),
        ("£ 1,234.50", "£", "1,234.50"), ("$1,200", "$", "1,200"), ("1,859 €", "€", "1,859"), ("€1,234,567", "€", "1,234,567"),
        ("12.50", "", "12.50"), ("$", "", "$"), ("$$", "", "$$"), ("$x", "", "$x"), ("", "", ""),
        ("5 for 3 €", "", "5 for 3 €"), ("12.5 %", "%", "12.5"), ("1 200,50 €", "€", "1 200,50"),
        ("50 EUR", "EUR", "50"), ("EUR -50", "EUR", "-50"), ("US$ 5", "US$", "5"), ("12kg", "kg", "12"), ("4.5/5", "/5", "4.5"),
        ("3 sq ft", "sq ft", "3"), ("4.0 out of 5 stars", "out of 5 stars", "4.0"), ("$5/mo", "$/mo", "5"), 
        ("$4K", "$K", "4"), ("$4 kg", "", "$4 kg"),
        ("1/2/20", "", "1/2/20"),
        ("21.5 °C", "°C", "21.5"), ("5 µg/m³", "µg/m³", "5"), ("($1.50)", "$", "-1.50"), ("$(1,250)", "$", "-1,250"),
        ("(1.50 €)", "€", "-1.50"), ("(7)", "", "-7"), ("(-7)", "", "(-7)"), ("(7", "", "(7"), ("(5 of 7)", "", "(5 of 7)"),
        ("Room 12", "", "Room 12"), ("1e5", "", "1e5"), ("5e3 kg", "", "5e3 kg"), ("10:30 PM", "", "10:30 PM"),
        ("()", "", "()"),
        ("$5 €", "", "$5 €"), ("5 a b c d", "", "5 a b c d"), ("v1.2", "", "v1.2"), ("12-A", "", "12-A"),
        ("9" * 999, "", "9" * 999),
    ],
)  # fmt: skip
def test_the_unit_is_taken_off_numbers_only(text: str, sign: str, number: str) -> None:
    assert split_unit(text)[:2] == (sign, number)


@pytest.mark.parametrize(
    ("delimiter", "price", "mean"), [(",", "${}.50", 20.0), (";", "{},50 €", 20.0), ("\t", "£1,0{:02}.50", 1020.0)]
)
def test_prices_are_numbers(delimiter: str, price: str, mean: float, caplog: pytest.LogCaptureFixture) -> None:
    suffix = "tsv" if delimiter == "\t" else "csv"
    rows = [f"flat {i}{delimiter}{price.format(i)}" for i in range(40)]
    Path(f"t.{suffix}").write_text("\n".join([f"name{delimiter}price", *rows]), "utf-8")
    with caplog.at_level(logging.INFO, "unrolled"):
        column = infer_spec(open_table(f"t.{suffix}"), "name", "price")[0].target
    assert isinstance(column, NumberColumn)
    assert column.mean.item() == pytest.approx(mean)
    sign = next(character for character in price if character in "$€£")
    assert caplog.text.count(f"'price': the unit {sign} is left out of 40 of 40 numbers, as in {price.format(0)}") == 1
    loaded = column_from_json(column_to_json(column))
    assert isinstance(loaded, NumberColumn)
    assert loaded.read_values(Cell(price.format(0), "t")) == column.read_values(Cell(price.format(0), "t")) == mean - 19.5
    assert loaded.read_values(Cell("7", "t")) == 7
    with pytest.raises(DataError, match="a number is expected, and this is '¥5'"):
        loaded.encode(Cell("¥5", "t"))


@pytest.mark.parametrize("declared", ["", ":number"])
def test_different_signs_are_no_numbers(declared: str, caplog: pytest.LogCaptureFixture) -> None:
    prices = [f"{'$€'[i % 2]}{i}.50" for i in range(40)]
    table = open_table(str(write_csv(Path("t.csv"), [{"s": f"flat {i}", "t": price} for i, price in enumerate(prices)])))
    if declared:
        with pytest.raises(DataError, match=r"a number is expected, and this is '\$0.50'"):
            infer_spec(table, "s", "t:number")
        return
    with caplog.at_level(logging.INFO, "unrolled"):
        assert infer_spec(table, "s", "t")[0].target.kind == "text"
    assert (
        "'t': not all values have the same unit, as in $0.50 and €1.50: they are read as text; to have numbers, write"
        in caplog.text
    )


def test_names_of_sound_files_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once, two columns of WAV files were learned letter by letter, without a word."""
    rows = [{"dry": f"{i}.wav", "wet": f"{i}-out.WAV"} for i in range(20)]
    with caplog.at_level(logging.INFO, "unrolled"):
        infer_spec(open_table(str(write_csv(Path("t.csv"), rows))), "dry", "wet")
    assert "'dry': names of files, such as 0.wav, are read as text; to have the sound in them, say dry:numbers" in caplog.text
    assert "say wet:numbers" in caplog.text


def test_a_row_with_another_sign_is_left_out_and_prices_are_predicted(cli: Cli) -> None:
    rows = [{"s": f"flat {i}", "t": f"${i}.50" if i != 3 else "€3.50"} for i in range(40)]
    tiny = ("--steps", 2, "--hidden", 8, "--layers", 1, "--threads", 1)
    done = cli("train", write_csv(Path("t.csv"), rows), "--source", "s", "--target", "t", *tiny, "--out", "r")
    assert done.code == 0, done.err
    assert (
        "1 of 40 rows is left out, as a cell cannot be read; the first: t.csv, line 5: a number is expected, and this"
        in done.err
    )
    assert done.err.count("the unit $ is left out of 39 of 40 numbers, as in $0.50") == 1
    predicted = [row["predicted"] for row in csv.DictReader(io.StringIO(cli("predict", "r", "t.csv").out))]
    assert len(predicted) == 40
    assert all(abs(float(price)) < 1e4 for price in predicted)
    assert cli("eval", "r", "t.csv").out.startswith("39 rows")


GROUPED = [
    (",", ["1,000", "13,800", "999"], [1000, 13800, 999], "the comma groups digits in 27 numbers, as in 1,000"),
    (";", ["1,000.5", "13,800", "999"], [1000.5, 13800, 999], "the comma groups digits"),
    (";", ["1,250", "13,800", "0,999"], [1.25, 13.8, 0.999], "the comma is read as the decimal point"),
    ("\t", ["1,250", "13,800", "2,999"], [1.25, 13.8, 2.999], "the comma is read as the decimal point"),
    (",", ["1.000,50", "13.800,00", "999,25"], [1000.5, 13800, 999.25], "the point groups digits"),
    (";", ["1.000.000", "1.380", "999"], [1e6, 1380, 999], "the point groups digits in 27 numbers, as in 1.000.000"),
    (";", ["1.250", "13.800", "2.999"], [1.25, 13.8, 2.999], ""),
    (";", ["1 000,50", "1 013 800,00", "9,25"], [1000.5, 1013800, 9.25], "the comma is read as the decimal point"),
    (",", ["1\u202f000.5", "13\u202f800", "9"], [1000.5, 13800, 9], ""),
    (",", ["1'000", "\u221213\u2019800.5", "9"], [1000, -13800.5, 9], ""),
    (",", ["10.5%", "-2 %", "1,000.0%"], [10.5, -2, 1000], "the unit % is left out of 40 of 40 numbers"),
    (",", ["1 000", "13 800", "999"], [1000, 13800, 999], "the blank groups digits in 27 numbers, as in 1 000"),
    (",", ["45 000", "52 350", "61 200"], [45000, 52350, 61200], "the blank groups digits in 40 numbers"),
    (";", ["1 234 567.5", "1 000", "-9"], [1234567.5, 1000, -9], "the blank groups digits in 27 numbers"),
    (",", ["50 EUR", "1 050 EUR", "7 EUR"], [50, 1050, 7], "the unit EUR is left out of 40 of 40 numbers, as in 50 EUR"),
    (",", ["1,859 €", "12,000 €", "900 €"], [1859, 12000, 900], "the comma groups digits in 27 numbers"),
    (";", ["1,859 €", "12,25 €", "900 €"], [1.859, 12.25, 900], "the comma is read as the decimal point"),
    (";", ["$1,859", "$12,250", "$900"], [1859, 12250, 900], "the comma groups digits"),
    (",", ["12 kg", "3.5kg", "0.25 kg"], [12, 3.5, 0.25], "the unit kg is left out of 40 of 40 numbers, as in 12 kg"),
    (",", ["(1.50)", "13.80", "0.25"], [-1.5, 13.8, 0.25], "14 numbers in parentheses, as in (1.50), read as negative"),
    (",", ["($1,250.00)", "$(3)", "$0.25"], [-1250, -3, 0.25], "27 numbers in parentheses, as in ($1,250.00), read"),
    (";", ["(1.250,50)", "3,5", "4"], [-1250.5, 3.5, 4], "14 numbers in parentheses"),
]


@pytest.mark.parametrize(("delimiter", "texts", "values", "note"), GROUPED)
@pytest.mark.parametrize("declared", ["", ":number"])
def test_digits_in_groups_are_one_number(
    delimiter: str, texts: list[str], values: list[float], note: str, declared: str, caplog: pytest.LogCaptureFixture
) -> None:
    suffix = "tsv" if delimiter == "\t" else "csv"
    cells = [f'"{text}"' if delimiter == "," else text for text in texts]
    rows = [f"flat {i}{delimiter}{cells[i % 3]}\n" for i in range(39)] + [f"flat{delimiter}{cells[0]}\n"]
    Path(f"t.{suffix}").write_text(f"name{delimiter}n\n" + "".join(rows), "utf-8")
    with caplog.at_level(logging.INFO, "unrolled"):
        column = infer_spec(open_table(f"t.{suffix}"), "name", f"n{declared}")[0].target
    assert isinstance(column, NumberColumn)
    loaded = column_from_json(column_to_json(column))
    assert isinstance(loaded, NumberColumn)
    assert [loaded.read_values(Cell(text, "t")).item() for text in texts] == pytest.approx(values)
    assert column.mean.item() == pytest.approx((13 * sum(values) + values[0]) / 40)
    assert note in caplog.text


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["120 340", "200 150", "512 300", "99 100"], "text"),
        (["10.200.100.100", "192.168.0.1", "10.0.0.1", "1.2.3.4"], "text"),
        (["1,5", "1,250", "2,750", "12,5"], "text"),
        (["030 123 456", "089 444 555", "040 111 222", "1"], "text"),
        (["1,234,567.5", "999", "1,000", "2,500.5"], "number"),
        (["1.5,2.5,3.5", "1.0,2.0,3.0", "4.5,5.5,6.5", "1,2,3.5"], "vector"),
        (["612 045 678", "732 829 320", "655 001 002", "600 100 200"], "text"),
        (["12 5", "1 000", "7 7", "13"], "text"),
        (["12A", "14C", "3B", "7D"], "text"),
        (["Room 1", "Room 22", "Room 35", "Room 4"], "text"),
        (["(1)", "(2)", "(3)", "(4)"], "text"),
        (["5 km", "3 mi", "7 km", "2 mi"], "text"),
        (["1st", "2nd", "3rd", "4th"], "text"),
        (["2 9 7 4", "1 2", "12 345 6", "7 7 7"], "text"),
    ],
)
def test_what_is_not_one_number_is_none(cells: list[str], kind: str) -> None:
    rows = [{"s": f"flat{i}", "t": cells[i % 4]} for i in range(12)]
    assert infer_spec(open_table(str(write_csv(Path("t.csv"), rows))), "s", "t")[0].target.kind == kind


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (["612 {i} 678", "732 {i} 320"], "'t': values with blanks, such as 612 100 678, are read as text, since blanks may"),
        (["1 {i}", "5 {i}", "{i}"], "'t': values with blanks, such as 1 100, are read as text, since blanks may separate"),
        (
            ["({i}.5)", "-{i}.5", "({i})"],
            "'t': values such as (100.5) are read as text; to have negative numbers, say t:number",
        ),
        (["({i}.5)"], "'t': values such as (100.5) are read as text; to have negative numbers, say t:number"),
    ],
)
def test_what_may_be_numbers_is_reported_and_is_if_it_is_said(
    cells: list[str], note: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"s": f"flat number {i}", "t": cells[i % len(cells)].format(i=100 + i)} for i in range(60)]
    table = open_table(str(write_csv(Path("t.csv"), rows)))
    with caplog.at_level(logging.INFO, "unrolled"):
        assert infer_spec(table, "s", "t")[0].target.kind == "text"
    assert note in caplog.text
    said = infer_spec(table, "s", "t:number")[0].target
    assert isinstance(said, NumberColumn)
    first = rows[0]["t"].replace(" ", "").replace("(", "-").rstrip(")")
    assert said.read_values(Cell(rows[0]["t"], "t")).item() == float(first)


def test_one_odd_number_does_not_decide_whether_digits_are_grouped() -> None:
    rows = [{"s": f"flat {i}", "t": f"{1000 + 137 * i:,}.25" if i else "12,5"} for i in range(80)]
    column = infer_spec(open_table(str(write_csv(Path("t.csv"), rows))), "s", "t")[0].target
    assert isinstance(column, NumberColumn)
    assert column.notation.digit_groups == ","


ROW_MARKS = [
    ([f"{i}.5" for i in range(9)], "?", "number", True),
    ([f"{i}.5" for i in range(9)], ".", "number", True),
    (["m", "f", "m"], "?", "label", True),
    (["1", "0", "2"], ".", "label", True),
    (["NOUN", "VERB", "DET"], ".", "label", False),
    (["NN", ",", "VB"], "?", "label", False),
    ([".", "!", ","], "?", "label", False),
    (["+", "+", "!"], "-", "label", False),
    (["a cat", "on it", "is 5"] + [f"word {i}" for i in range(20)], "?", "text", False),
]


@pytest.mark.parametrize(("values", "mark", "kind", "is_missing"), ROW_MARKS)
def test_a_mark_is_missing_in_numbers_and_words_and_a_label_among_punctuation(
    values: list[str], mark: str, kind: str, is_missing: bool
) -> None:
    cells = [mark if i % 7 == 3 else values[i % len(values)] for i in range(48)]
    rows = [{"s": f"flat number {i}", "t": cell} for i, cell in enumerate(cells)]
    spec = infer_spec(open_table(str(write_csv(Path("t.csv"), rows))), "s:text", "t")[0]
    assert spec.target.kind == kind
    assert (spec.target.is_missing(f" {mark} "), spec.target.is_missing("NA")) == (is_missing, True)
    assert column_from_json(column_to_json(spec.target)).is_missing(mark) == is_missing
    assert (mark in spec.target.labels) == (kind == "label" and not is_missing)
    declared = infer_spec(open_table("t.csv"), "s:text", f"t:{kind}")[0].target
    assert declared.is_missing(mark) == (kind == "number")


@pytest.mark.slow
@pytest.mark.parametrize("write", ["json", "parquet", "frame"])
def test_formats_of_numbers_are_the_same_in_all_tables(write: str, cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    columns = {
        "age": ["?" if i == 5 else f"1 {i:03}" for i in range(40)],
        "city": ["?" if i == 7 else "ab"[i % 2] for i in range(40)],
        "profit": [f"({i}.50 EUR)" if i % 3 == 0 else f"{i}.50 EUR" for i in range(40)],
    }
    rows: Any = pyarrow.table(columns)
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))
    pyarrow.parquet.write_table(rows, "t.parquet")
    table = {"json": "t.jsonl", "parquet": "t.parquet", "frame": rows}[write]
    with caplog.at_level(logging.INFO, "unrolled"):
        model = unrolled.train_table(
            table, ["age", "city"], "profit", steps=2, hidden=4, layers=1, threads=1, kernels="torch", out="r", progress=False
        )
    target = model.spec.target
    assert isinstance(target, NumberColumn)
    assert [target.read_values(Cell(text, "t")).item() for text in ("(2.50 EUR)", "2.5", "-2.5 EUR")] == [-2.5, 2.5, -2.5]
    for sentence in (
        "'age': the blank groups digits in 39 numbers, as in 1 000",
        "'profit': the unit EUR is left out of 39 of 39 numbers, as in (0.50 EUR)",
        "'profit': 14 numbers in parentheses, as in (0.50 EUR), read as negative",
        "'age': 1 of 40 rows has no number; the median",
        "'city': 1 of 40 rows has no value",
    ):
        assert caplog.text.count(sentence) == 1, caplog.text
    assert unrolled.load_table("r").evaluate(table).num_rows == 40
    answers = model.predict([{"age": "?", "city": "a"}, {"age": "1 002", "city": "?"}])
    assert all(math.isfinite(float(answer)) for answer in answers)
