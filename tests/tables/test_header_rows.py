"""Rows below the names of columns that are no values: units, types, questions, second names as pandas writes them."""

import json
import logging
import random
from pathlib import Path

import pytest

import unrolled
from support.cli import Cli
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table

TINY = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 8, "--sample-length", 0)
MEASURED = "".join(f"{i}.5,{20 - i}.25,{'ab'[i % 2]}\n" for i in range(12))
WORDS = "".join(f"film {i}\t{'ab'[i % 2]}\n" for i in range(12))
PIVOT = "".join(f"{i},{i}.5,{i * 2}.25\n" for i in range(12))
SURVEY = "".join(
    f"{i},film {i},{'Red' if i % 2 else ''},{'Blue' if i % 3 else ''},{'yes' if i % 2 else 'no'}\n" for i in range(24)
)
QUALTRICS = "".join(f"2026-01-01,it was nice {i},{'yes' if i % 2 else 'no'}\n" for i in range(12))

LEFT_OUT = {
    "units.csv": ("t,y,label\ns,mm,\n", MEASURED, 1),
    "brackets.csv": ("t,y,label\n,(\u00b0C),\n", MEASURED, 1),
    "types.csv": ("t,y,label\ndouble,numeric(5),text\n", MEASURED, 1),
    "units-and-types.csv": ("t,y,label\ns,mm,-\nfloat,float,string\n", MEASURED, 2),
    "orange.tab": ("text\tlabel\nstring\tdiscrete\nmeta\tclass\n", WORDS, 2),
    "orange-values.tab": ("text\tlabel\nstring\ta b\n\tclass\n", WORDS, 2),
    "qualtrics.csv": (
        'StartDate,Q1,Q2\n"Start Date","How was it?\nIn your words","Again?"\n'
        + ",".join(f'"{{""ImportId"":""{name}""}}"' for name in ("startDate", "QID1", "QID2")) + "\n",
        QUALTRICS, 2,
    ),
}  # fmt: skip
JOINED = {
    "pandas.csv": (",price,price\n,mean,std\n", PIVOT, ("Unnamed: 0", "price_mean", "price_std")),
    "named-index.csv": (",price,price\n,mean,std\nday,,\n", PIVOT, ("day", "price_mean", "price_std")),
    "named-levels.csv": ("what,price,price\nhow,mean,std\nday,,\n", PIVOT, ("day", "price_mean", "price_std")),
    "merged.csv": ("day,Week 1,\n,math,english\n", PIVOT, ("day", "Week 1_math", "Week 1_english")),
    "surveymonkey.csv": (
        "Id,Your film?,Which colors?,,Again?\n,Open-Ended Response,Red,Blue,Response\n",
        SURVEY, ("Id", "Your film?", "Which colors?_Red", "Which colors?_Blue", "Again?"),
    ),
    "surveymonkey-answers.csv": (
        "Id,Your film?,How was it?,\n,Open-Ended Response,good,bad\n",
        "".join(
            f"{number},{('Alien', 'Brazil')[number % 2]} {number},{('good,', ',bad')[number % 2]}\n" for number in range(9)
        ),
        ("Id", "Your film?", "How was it?_good", "How was it?_bad"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_rows_without_values_below_the_names_are_left_out_and_reported(name: str) -> None:
    header, rows, num_more = LEFT_OUT[name]
    Path(name).write_text(header + rows, "utf-8")
    table = open_table(name)
    Path(f"plain-{name}").write_text(header.split("\n", 1)[0] + "\n" + rows, "utf-8")
    plain = open_table(f"plain-{name}")
    assert table.columns == plain.columns
    assert [row for _, row in table.rows()] == [row for _, row in plain.rows()]
    which = "row 2 is" if num_more == 1 else f"rows 2 to {num_more + 1} are"
    assert table.notes[0].startswith(f"{name}: {which} part of the header, left out")
    assert not plain.notes


@pytest.mark.parametrize("name", JOINED)
def test_columns_that_two_rows_name_have_both_names(name: str) -> None:
    header, rows, columns = JOINED[name]
    Path(name).write_text(header + rows, "utf-8")
    table = open_table(name)
    assert table.columns == columns
    assert len(list(table.rows())) == rows.count("\n")
    assert "part of the header, its names are" in table.notes[0]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("t,y,label\n", "unknown,missing,a\n"),
        ("t,y,label\n", "<5,>20,a\n"),
        ("t,y,label\n", "1.5,n.a.,a\n"),
        ("t,y,label\n", "start,4.5,b\n"),
        ("t,y,label\n", "start,,b\n"),
        ("t,y,label\n", ",,\n"),
    ],
)
def test_a_first_row_with_odd_values_is_a_row(header: str, row: str) -> None:
    Path("t.csv").write_text(header + row + MEASURED, "utf-8")
    table = open_table("t.csv")
    assert list(next(table.rows())[1].values()) == row.strip("\n").split(",")
    assert not table.notes


@pytest.mark.parametrize("first", ["first film\trare\n", "text\ta\n", "string\tb\n"])
def test_a_first_row_of_texts_is_a_row(first: str) -> None:
    Path("t.tsv").write_text("text\tlabel\n" + first + WORDS, "utf-8")
    assert len(list(open_table("t.tsv").rows())) == 13


@pytest.mark.parametrize("blank", ["\n", "\t\n", ""])
@pytest.mark.parametrize("answers", ["x", "xy"])
def test_a_title_above_the_header_is_no_row(blank: str, answers: str) -> None:
    rows = "".join(f"q {n}\t{answers[n % len(answers)]}\n" for n in range(30))
    for above in (f"{blank}Report of 2024\t\n{blank}", f"Report of 2024\t\n{blank}"):
        Path("t.tsv").write_text(f"{above}question\tanswer\n{rows}", "utf-8")
        table = open_table("t.tsv")
        assert table.columns == ("question", "answer")
        assert len(list(table.rows())) == 30


def test_a_first_row_with_a_label_of_its_own_is_a_row_below_equal_names() -> None:
    Path("t.csv").write_text(
        "text,label,label\nnew one,rare,other\n" + "".join(f"film {i},{'ab'[i % 2]},a\n" for i in range(24))
    )
    assert len(list(open_table("t.csv").rows())) == 25


def test_names_of_columns_that_are_given_leave_every_row() -> None:
    from unrolled.tables.table_format import TableFormat

    Path("t.csv").write_text("t,y,label\ns,mm,\n" + MEASURED, "utf-8")
    assert len(list(open_table("t.csv", format=TableFormat("t,y,label")).rows())) == 13


def test_a_file_that_ends_in_the_middle_of_a_quoted_cell_is_examined_to_there() -> None:
    long = "".join(f'{i},{i}.5,"{"word " * 30}\nend"\n' for i in range(1000))
    Path("t.csv").write_text("t,y,label\ns,mm,\n" + long, "utf-8")
    assert len(list(open_table("t.csv").rows())) == 1000


def test_the_same_model_with_and_without_a_row_of_units(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    order = random.Random(1)
    rows = "".join(f"{order.uniform(0, 9):.3f},{order.uniform(0, 9):.3f}\n" for _ in range(40))
    weights = []
    for name, header in (("plain.csv", "x,y\n"), ("units.csv", "x,y\nmm,\u00b0C\n")):
        Path(name).write_text(header + rows, "utf-8")
        with caplog.at_level(logging.INFO, "unrolled"):
            done = cli("train", name, "--source", "x", "--target", "y", *TINY, "--seed", 1, "--out", f"{name}-run")
        assert done.code == 0, done.err
        assert ("row 2 is part of the header" in done.err) is (name == "units.csv")
        model = unrolled.load_table(f"{name}-run")
        weights.append({key: value.tolist() for key, value in model.network.state_dict().items()})
    assert weights[0] == weights[1]
    answers = cli("predict", "plain.csv-run", "units.csv").out.splitlines()
    assert len(answers) == 41
    assert json.loads(cli("eval", "plain.csv-run", "units.csv", "--json").out)["rows"] == 40
    assert infer_spec(open_table("units.csv"), "x", "y")[0].source.kind == "number"
