"""Tables as other programs write them: names of rows, drawn tables, comments, joined files, answers of servers, odd columns."""

import json
import logging
from pathlib import Path

import pytest

from support.cli import Cli
from unrolled.errors import DataError, UsageError
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table

ROWS = [(f"{'nice' if i % 2 else 'dull'} film {i}", "good" if i % 2 else "bad") for i in range(30)]
TINY = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 8, "--sample-length", 0)


def lines(row: str, header: str, footer: str = "") -> str:
    """Return a file with one line for each of `ROWS`, in which `N`, `T` and `L` stand for its number, text and label."""
    return (
        header
        + "".join(f"{row}\n".replace("N", str(n)).replace("T", t).replace("L", v) for n, (t, v) in enumerate(ROWS))
        + footer
    )


DRAWN = "+-----------------+-------+\n"
FILES = {
    "write-table.txt": (lines('"N" "T" "L"', '"text" "label"\n'), "each row has one cell more than the header"),
    "write-table.tsv": (lines("N\tT\tL", "text\tlabel\n"), "each row has one cell more than the header"),
    "row-names.csv": (lines('"N","T","L"', '"text","label"\n'), "the first, 'Unnamed: 0', is taken for its name"),
    "comma-at-the-end.csv": (lines("T,L,", "text,label\n"), ""),
    "index.csv": (lines("N,T,L", ",text,label\n"), ""),
    "psql.txt": (lines(" T      | L", " text | label \n------+-------\n", "(30 rows)\n\n"), ""),
    "mysql.txt": (lines("| T | L  |", f"{DRAWN}| text | label |\n{DRAWN}", DRAWN), ""),
    "markdown.md": (lines("| T | L |", "| text | label |\n|:---|---:|\n"), ""),
    "comments.csv": (lines("T,L", "# of a tool, version 2, 2026\n#\ntext,label\n"), "2 lines of comments at the top left out"),
    "sep.csv": (lines("T;L", "sep=;\ntext;label\n"), ""),
    "joined.csv": (lines("T,L", "text,label\n", "text,label\ntext,label\n"), "2 rows that repeat the header left out"),
    "answer.json": (
        json.dumps({"count": 30, "next": None, "data": [{"text": t, "label": v} for t, v in ROWS]}),
        "the rows are in one list of it; left out: count, next",
    ),
    "index.json": (
        json.dumps({f"id{i}": {"text": t, "label": v} for i, (t, v) in enumerate(ROWS)}),
        "its 30 values are the rows",
    ),
    "split.json": (json.dumps({"columns": ["text", "label"], "data": ROWS}), ""),
    "json.csv": ("".join(json.dumps({"text": t, "label": v}) + "\n" for t, v in ROWS), ""),
    "blanks.csv": (lines('"T", "L"', "text, label\n", "  \n\n\x1a"), ""),
    "iis.log": (
        lines('N "T" L', "#Software: IIS\n#Fields: n text label\n"),
        "the names of the columns are those in the comment of line 2",
    ),
    "zeek.log": (
        lines("N\tT\tL", "#separator \\x09\n#fields\tn\ttext\tlabel\n#types\tint\tstring\tstring\n", "#close\t2024\n"),
        "in the comment of line 2",
    ),
    "anki.txt": (lines("T;L", "#separator:Semicolon\n#html:true\n#columns:text;label\n"), "in the comment of line 3"),
    "null.tsv": (lines("T\tL", "text\tlabel\n", "no label\t\\N\n"), ""),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs_have_the_same_rows(name: str, caplog: pytest.LogCaptureFixture) -> None:
    content, note = FILES[name]
    Path(name).write_text(content, "utf-8")
    with caplog.at_level(logging.INFO, "unrolled"):
        table = open_table(name)
        spec = infer_spec(table, "text", "label")[0]
    found = [(cell.value.strip(), label.value.strip()) for _, (cell, label) in spec.iter_cells(table)]
    assert found[:30] == ROWS
    assert len(found) == 30 + (name == "null.tsv")
    assert spec.target.labels == ["bad", "good"]
    told = "\n".join((*table.notes, *caplog.messages))
    assert told.count(note) == 1 if note else not told
    assert [cell.value for _, (cell,) in open_table(name).iter_cells(("label",))][:1] == ["bad"]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "Films of May,\n,\ntext,label\n",
            "a,b\n",
            "Line 3 has it: if the names of the columns are there, remove the lines above.",
        ),
        ("text,label\n", "Paris, France,good\nRome, Italy,bad\n", "line 2: 3 cells, and the header has 2 columns"),
        ("text  label\n", "a  good\n", "Each line is one column: commas, semicolons, tabs and pipes separate columns, and"),
        ("<TABLE><tr>", "<td>a</td>\n", "is HTML or XML, and no table"),
        ("text,label\n", "a,good\na,b,bad\n", "line 3: 3 cells, and the header has 2 columns"),
    ],
)
def test_what_is_not_clear_is_refused(header: str, rows: str, message: str) -> None:
    Path("t.csv").write_text(header + rows)
    with pytest.raises((DataError, UsageError), match=message):
        infer_spec(open_table("t.csv"), "text", "label")


def test_lines_that_begin_with_a_hash_may_be_rows_or_names() -> None:
    Path("names.csv").write_text("#id,text\n1,a\n2,b\n")
    assert open_table("names.csv").columns == ("#id", "text")
    Path("tweets.csv").write_text("text,label\n#one,a\n#two,b\n")
    assert [row["text"] for _, row in open_table("tweets.csv").rows()] == ["#one", "#two"]


@pytest.mark.parametrize(
    ("source", "target", "kinds"),
    [
        ("{i}.5", "{i}.5", ("number", "number")),
        ("{w}", "{w}", ("label", "label")),
        ("film {i}", "{w}", ("text", "label")),
        ("{i:05}", "{i}.25", ("text", "number")),
        ("x{i:02}", "{c}", ("text", "label")),
        ("{i}", "{e}", ("number", "number")),
    ],
)
def test_kinds_of_columns_that_are_equally_long(source: str, target: str, kinds: tuple[str, str]) -> None:
    rows = ["s,t"]
    for i in range(10, 70):
        parts = {"i": i, "w": ("neg", "pos")[i % 2], "c": ("USA", "GER")[i % 2], "e": "#DIV/0!" if i % 5 == 0 else f"{i}.5"}
        rows.append(f"{source.format(**parts)},{target.format(**parts)}")
    Path("t.csv").write_text("\n".join(rows))
    spec = infer_spec(open_table("t.csv"), "s", "t")[0]
    assert (spec.source.kind, spec.target.kind) == kinds


def test_a_long_column_of_different_numbers_is_one_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.tables.column_profile.MAX_DISTINCT", 20)
    Path("t.csv").write_text("s,t\n" + "".join(f"{i}.5,{i * 7}\n" for i in range(100)))
    assert infer_spec(open_table("t.csv"), "s", "t")[1] == "s: number -> t: number: one-to-one"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["5.5"], "Every row of t.csv has the same numbers in 't': there is nothing to learn."),
        (["5"], "Every row of t.csv has the label '5' in 't': there is nothing to learn."),
        (["<{i}", "{i}.5", "{i}.5", "{i}.5"], "'t': 30 of 40 values are numbers, others are not, such as <0: they are read as"),
        (["{i} kg", "{i} lb"], "'t': not all values have the same unit, as in 0 kg and 1 lb: they are read as text"),
    ],
)
def test_numbers_that_cannot_be_learned_are_reported(values: list[str], message: str, cli: Cli) -> None:
    cells = [values[i % len(values)].format(i=i) for i in range(40)]
    Path("t.csv").write_text("s,t\n" + "".join(f"thing {i},{cell}\n" for i, cell in enumerate(cells)))
    assert message in cli("train", "t.csv", "--source", "s", "--target", "t", *TINY, "--out", "r").err


def test_a_total_in_the_last_row_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    numbers = [f"{i * 7.5:.2f}" for i in range(30)]
    for last, count in ((f"{sum(map(float, numbers)):,.2f}", 1), ("17", 0)):
        caplog.clear()
        Path("t.csv").write_text(
            "s,t\n" + "".join(f"town {i},{number}\n" for i, number in enumerate(numbers)) + f'Total,"{last}"\n'
        )
        with caplog.at_level(logging.INFO, "unrolled"):
            infer_spec(open_table("t.csv"), "s:text", "t")
        assert caplog.text.count("'t': the last number, 3262.5, is the sum of the others; if it is a total, remove") == count


def test_names_with_line_ends_are_found() -> None:
    Path("t.csv").write_text('"How much\n (in EUR)? ",b\n1,2\n')
    assert open_table("t.csv").find_column("how much (in EUR)?") == "How much (in EUR)?"


def test_several_spellings_of_yes_and_no_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    Path("t.csv").write_text("s,t\n" + "".join(f"film {i},{('yes', 'No', 'TRUE', '0')[i % 4]}\n" for i in range(40)))
    with caplog.at_level(logging.INFO, "unrolled"):
        infer_spec(open_table("t.csv"), "s:text", "t")
    assert "'t': 0, No, TRUE, yes are different labels; if they are yes and no, write each in one way" in caplog.text


def test_a_drawn_table_is_learned_and_predicted(cli: Cli) -> None:
    Path("t.md").write_text(FILES["markdown.md"][0])
    assert cli("train", "t.md", "--source", "text", "--target", "label", *TINY, "--out", "r").code == 0
    answers = cli("predict", "r", "t.md").out.splitlines()
    assert len(answers) == 31
    assert answers[0] == "text,label,predicted,probability"
    assert cli("eval", "r", "t.md").out.startswith("30 rows")
