"""Prices: numbers with the sign of a currency are read as numbers where nearly all have the same one."""

import csv
import io
import logging
from pathlib import Path

import pytest

from support.cli import Cli
from support.tables import write_csv
from unrolled.errors import DataError
from unrolled.tables.cell_values import Cell
from unrolled.tables.columns import column_from_json, column_to_json
from unrolled.tables.currency import split_currency
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.spec import infer_spec
from unrolled.tables.table_files import open_table


@pytest.mark.parametrize(
    ("text", "sign", "number"),
    [
        ("$12.50", "$", "12.50"), (" 12,50 € ", "€", "12,50"), ("-$5", "$", "-5"), ("$-5", "$", "-5"), ("₹10", "₹", "10"),
        ("£ 1,234.50", "£", "1234.50"), ("$1,200", "$", "1200"), ("1,859 €", "€", "1,859"), ("€1,234,567", "€", "1234567"),
        ("12.50", "", "12.50"), ("$", "", "$"), ("$$", "", "$$"), ("$x", "", "$x"), ("", "", ""),
        ("5 for 3 €", "", "5 for 3 €"),
    ],
)  # fmt: skip
def test_the_sign_is_taken_off_numbers_only(text: str, sign: str, number: str) -> None:
    assert split_currency(text) == (sign, number)


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
    assert caplog.text.count(f"'price': the sign {sign} is left out of 40 of 40 numbers, as in {price.format(0)}") == 1
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
    assert "'t': values with a currency sign, such as $0.50, are read as text; to have numbers, write all with the same" in (
        caplog.text
    )


def test_a_row_with_another_sign_is_left_out_and_prices_are_predicted(cli: Cli) -> None:
    rows = [{"s": f"flat {i}", "t": f"${i}.50" if i != 3 else "€3.50"} for i in range(40)]
    tiny = ("--steps", 2, "--hidden", 8, "--layers", 1, "--threads", 1)
    done = cli("train", write_csv(Path("t.csv"), rows), "--source", "s", "--target", "t", *tiny, "--out", "r")
    assert done.code == 0, done.err
    assert (
        "1 of 40 rows is left out, as a cell cannot be read; the first: t.csv, line 5: a number is expected, and this"
        in done.err
    )
    assert done.err.count("the sign $ is left out of 39 of 40 numbers, as in $0.50") == 1
    predicted = [row["predicted"] for row in csv.DictReader(io.StringIO(cli("predict", "r", "t.csv").out))]
    assert len(predicted) == 40
    assert all(abs(float(price)) < 1e4 for price in predicted)
    assert cli("eval", "r", "t.csv").out.startswith("39 rows")
