"""One column that is learned as texts: from standard input, with cells that are none, and with texts in parts."""

import json
from pathlib import Path

from support.cli import Cli, StandardInput
from unrolled.tables.cell_values import Cell, parse_text

TINY = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 2, "--sample-length", 0)


def test_a_column_of_standard_input(cli: Cli) -> None:
    """Standard input was read twice, and empty the second time: "There is no text in standard input"."""
    Path("t.csv").write_text("id,text\n" + "".join(f"{i},a film {i}\n" for i in range(50)))
    with StandardInput(Path("t.csv")):
        result = cli("train", "-", "--source", "text", *TINY, "--out", "run")
    assert result.code == 0
    assert "50 cells, the longest 9" in result.err


def test_a_cell_that_is_no_text_is_left_out(cli: Cli) -> None:
    rows: list[object] = [{"text": f"hello {i}"} for i in range(50)]
    rows.append({"text": {"a": 1}})
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = cli("train", "t.jsonl", "--source", "text", *TINY, "--out", "run")
    assert result.code == 0
    assert "1 of 51 rows is left out, as a cell cannot be read; the first: t.jsonl, line 51: a text is expected" in result.err
    Path("bad.jsonl").write_text("".join(json.dumps({"text": {"a": i}}) + "\n" for i in range(9)))
    assert cli("train", "bad.jsonl", "--source", "text", *TINY, "--out", "bad").code == 3


def test_texts_in_parts_are_one() -> None:
    value = [{"type": "link", "text": "http://x"}, " see ", {"type": "bold", "text": "this"}]
    assert parse_text(Cell(value, "t")) == "http://x see this"
