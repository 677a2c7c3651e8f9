"""Tables in layouts that other programs and people write: JSON of other shapes, drawn tables, columns at fixed positions."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.cli import Cli
from unrolled.errors import DataError
from unrolled.tables.table_files import Table, open_table, open_table_or_lines, open_with_columns
from unrolled.tables.table_format import TableFormat

ROWS = [(f"{'nice' if i % 2 else 'dull'} film {i % 7}", "good" if i % 2 else "bad") for i in range(40)]


def cells(table: Table, columns: tuple[str, ...] = ("text", "label")) -> list[tuple[object, ...]]:
    return [tuple(cell.value for cell in row) for _, row in table.iter_cells(columns)]


def opened(name: str, content: str) -> Table:
    Path(name).write_text(content, "utf-8")
    return open_table(name)


NAMED = [("text", "label"), *ROWS]


def joined(row: str, rows: list[tuple[str, str]] = NAMED) -> str:
    return "".join(row.format(*cells) + "\n" for cells in rows)


MARKDOWN = "| text | label |\n|---|:-:|\n" + joined("| {} | {} |", ROWS)
POLARS = (
    "shape: (40, 2)\n┌───┬───┐\n│ text ┆ label │\n│ --- ┆ --- │\n│ str ┆ str │\n╞═══╪═══╡\n"
    + joined("│ {} ┆ {} │", ROWS)
    + "└───┴───┘\n"
)
GRID = "+---+---+\n| text | label |\n+===+===+\n" + "".join(f"| {t} | {v} |\n+---+---+\n" for t, v in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.json", json.dumps(NAMED)),
        ("t.json", json.dumps(NAMED, indent=1)),
        ("t.json", "[\n" + ",\n".join(map(json.dumps, NAMED)) + "\n]\n"),
        ("t.jsonl", "\n".join(map(json.dumps, NAMED))),
        ("t.jsonl", ",\n".join(map(json.dumps, NAMED)) + ","),
        ("t.json", "\n".join(map(json.dumps, NAMED))),
        ("t.json", json.dumps({"text": [t for t, _ in ROWS], "label": [v for _, v in ROWS]})),
        ("t.json", json.dumps({name: {f"r{i}": row[at] for i, row in enumerate(ROWS)} for at, name in enumerate(NAMED[0])})),
        ("t.json", json.dumps({f"r{i}": {"text": t, "label": v} for i, (t, v) in enumerate(ROWS)})),
        ("t.json", json.dumps({"columns": ["text", "label"], "index": list(range(40)), "data": ROWS})),
    ],
)  # fmt: skip
def test_json_of_lists_and_columns(name: str, content: str) -> None:
    assert cells(opened(name, content)) == ROWS


def test_json_of_lists_without_names() -> None:
    Path("t.jsonl").write_text("".join(json.dumps([t, v == "good"]) + "\n" for t, v in ROWS))
    wanted = [(t, v == "good") for t, v in ROWS]
    assert cells(open_table("t.jsonl"), ("0", "1")) == wanted
    assert cells(open_table("t.jsonl", format=TableFormat("text,label"))) == wanted
    Path("t.json").write_text(json.dumps(ROWS))
    assert cells(open_with_columns("t.json", ("0", "1"), TableFormat()), ("0", "1")) == ROWS
    Path("t.json").write_text(json.dumps([*ROWS, ["alone"]]))
    with pytest.raises(DataError, match="row 41: 1 value, and the table has 2 columns"):
        list(open_table("t.json", format=TableFormat("text,label")).rows())
    assert cells(opened("t.jsonl", "[1, true]\n"), ("0", "1")) == [(1, True)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '"a text"\n"b text"\n', 'line 1: an object with the columns as keys is expected, and it is "a text"'),
        ("t.jsonl", '["a"]\n"b"\n', 'row 2: a list with a value for each column is expected, and it is "b"'),
    ],
)
def test_json_of_other_values_is_refused(name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(name, content)


def test_what_json_leaves_out_is_reported() -> None:
    maps = json.dumps({"a": {"x": 1, "y": 2, "z": 3}, "b": {"x": 4, "y": 5, "z": 6}})
    table = opened("t.json", maps)
    assert cells(table, ("a", "b")) == [(1, 4), (2, 5), (3, 6)]
    assert table.notes == ("t.json: its 2 values are the columns; the names of rows are left out, as 'x'",)
    assert len(cells(opened("t.jsonl", maps), ("a", "b"))) == 1  # an object of a line is a row


def test_a_first_cell_of_json_is_a_cell() -> None:
    Path("t.tsv").write_text("".join(f'{{"a": {i}}}\t{v}\n' for i, (_, v) in enumerate(ROWS)))
    table = open_table("t.tsv", format=TableFormat("meta,label"))
    assert cells(table, ("meta", "label"))[1] == ('{"a": 1}', "good")


def test_a_model_reads_lists_as_it_learned_them(cli: Cli) -> None:
    Path("t.json").write_text(json.dumps(NAMED))
    tiny = ("--threads", 1, "--steps", 1, "--hidden", 4, "--layers", 1, "--batch", 8, "--sample-length", 0)
    cli("train", "t.json", "--source", "text", "--target", "label", *tiny, "--out", "r")
    assert cli("predict", "r", "t.json").out.splitlines()[0] == "text,label,predicted,probability"


def test_one_row_of_json_lines_stays_one_row() -> None:
    table = opened("t.jsonl", json.dumps({"id": 1, "text": ["a", "b"], "tags": ["D", "N"]}))
    assert cells(table, ("text", "tags")) == [(["a", "b"], ["D", "N"])]
    assert "one row, whose values are lists of 2; if they are columns" in table.notes[0]


@pytest.mark.parametrize(
    "content",
    [
        "# Data, and more\n\nSome prose | here.\n\n" + MARKDOWN + "\nProse, below.\n",
        MARKDOWN.replace("| \n", "|\n"),
        "text | label\n---|---\n" + joined("{} | {}", ROWS),
        " text | label\n------+------\n" + joined(" {} | {}", ROWS) + "(40 rows)\n",
        "+--+--+\n| text | label |\n+--+--+\n" + joined("| {} | {} |", ROWS) + "+--+--+\n40 rows in set (0.01 sec)\n",
        GRID,
        GRID.translate(str.maketrans("|-=+", "│─═┼")),
        POLARS,
        "┌───┬───┐\n│ text │ label │\n│ varchar │ varchar │\n├───┼───┤\n" + joined("│ {} │ {} │", ROWS) + "└───┴───┘\n",
        joined("{:<20}{:<8}"),
        joined("{:>20}   {:>8}"),
        joined("{:>20}   {:>8}") + "\n[40 rows x 2 columns]\n",
        joined("{:<18}{:>8}", NAMED[:1]) + "-" * 26 + "\n" + joined("{:<18}{:>8}", ROWS) + "-" * 26 + "\n",
        "===== =====\n" + joined("{:<18}  {:<6}", NAMED[:1]) + "=" * 18 + "  ======\n" + joined("{:<18}  {:<6}", ROWS),
        joined("{}::{}"), joined("{} ||| {}"), joined("{} -> {}"), joined("{} = {}"), joined("{}: {}"), joined("{}  {}"),
    ],
)  # fmt: skip
def test_printed_tables(content: str) -> None:
    assert cells(opened("t.txt", content)) == ROWS


def test_cells_of_printed_tables_are_kept_whole() -> None:
    rows = [(f'"a \\| b" {i}', "" if i % 3 else "x") for i in range(30)]
    table = opened("t.md", "|text|label|\n|--|--|\n" + joined("|{}|{}|", rows))
    assert cells(table) == [(text.replace("\\|", "|"), label) for text, label in rows]
    named = [("name", "age", "label"), *((f"Ann {i}" if i % 4 else "Bo", i, "ab"[i % 2]) for i in range(30))]
    fixed = opened("t.txt", "".join(f"{name:<8}{age:>3} {label:<5}\n" for name, age, label in named))
    assert cells(fixed, ("name", "age", "label")) == [(name, str(age), label) for name, age, label in named[1:]]
    assert fixed.notes == ("t.txt: 3 columns at fixed positions",)
    indexed = opened(
        "t.txt",
        "".join(f"{i!s:<2} {name:>8} {label:>5}\n" for i, (name, _, label) in zip(["", *range(30)], named, strict=True)),
    )
    assert indexed.columns == ("Unnamed: 0", "name", "label")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MARKDOWN + "\n" + MARKDOWN, "line 44: another table begins here"),
        (
            joined("{:>20} {:>8}") + joined("{:>20} {:>8}", [("...", "...")]),
            "line 42: rows are left out here, as in a print of pandas",
        ),
        (POLARS.replace("└───┴───┘", "│ … ┆ … │"), "line 47: rows are left out here"),
        (MARKDOWN + "| a | b | c |\n", "line 43: 3 cells, and the header has 2 columns"),
        (
            joined("{:<20}{:<8}") * 6 + f"{'a text that is much-too-long':<20} good\n",
            "line 247: a text that is much.* begins at 21",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(opened("t.txt", content).rows())


@pytest.mark.parametrize(
    "content",
    [
        "Anna: hello\nBen: good day\nAnna: bye\nBen: see you\n",
        "One. Two.\nA line.  And more.\n" * 3,
        "# A page\n\nIt has a table.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "| a | b |\n|---|---|\n| 1 | 2 |\n\nProse, below.\n",
        "{user} wrote\n{user} went, and {other} came\n" * 3,
    ],
)
def test_lines_of_prose_stay_lines(content: str) -> None:
    Path("t.txt").write_text(content)
    assert open_table_or_lines("t.txt", "text", TableFormat()).is_lines


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("ab|-=+: \\\t>│─"), max_size=12), min_size=1, max_size=9))
def test_any_lines_are_a_table_or_are_refused(lines: list[str]) -> None:
    with contextlib.suppress(DataError):
        list(opened("t.txt", "\n".join(lines)).rows())
    with contextlib.suppress(DataError):
        list(open_table_or_lines("t.txt", "text", TableFormat()).rows())
