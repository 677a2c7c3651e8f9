"""Cells as annotation tools, numpy, surveys and dumps of databases write them, and notes about values that look wrong."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

import unrolled
from support.cli import Cli
from unrolled.errors import DataError
from unrolled.tables.cell_values import Cell, parse_list, parse_text, parse_words
from unrolled.tables.label_columns import LabelColumn, canonical_label
from unrolled.tables.printed_lists import printed_list
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table
from unrolled.text.encoding_guess import encoded_twice

TINY = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 8, "--sample-length", 0)
ROWS = [(f"{'nice' if i % 2 else 'dull'} film {i}", "good" if i % 2 else "bad") for i in range(40)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['O', 'B-LOC']", ["O", "B-LOC"]),
        ("['it\\'s', \"a 'b'\", 'c\\n\\xa0']", ["it's", "a 'b'", "c\n\xa0"]),
        ("['the' 'soup'\n 'was']", ["the", "soup", "was"]),
        ("[ 0.   0.5 -1.25]", [0.0, 0.5, -1.25]),
        ("[1e-03 2.0e+00 inf]", [0.001, 2.0, math.inf]),
        ("[[0. 1.]\n [2. 3.]]", [[0.0, 1.0], [2.0, 3.0]]),
        ("[1 2 3]", [1, 2, 3]),
        ("[True, False, None]", [True, False, None]),
        ("array([1., 2.], dtype=float32)", [1.0, 2.0]),
        ("tensor([[1., 2.]])", [[1.0, 2.0]]),
        ("[np.float64(0.5), np.int64(2)]", [0.5, 2]),
        ("[]", []),
    ],
)
def test_lists_as_python_and_numpy_print_them(text: str, expected: list[Any]) -> None:
    assert printed_list(text) == expected
    assert parse_list(text) == expected


@pytest.mark.parametrize(
    "text", ["[see 'page 5']", "[1] is first", "[0. 0.1 ... 0.9]", "['a', b]", "[", "]", "['a'", "[deleted]", "[1]]", "[" * 99]
)
def test_other_texts_in_brackets_stay_texts(text: str) -> None:
    assert printed_list(text) is None
    assert parse_list(text) == text


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_words_and_tags_that_pandas_wrote_are_lists(suffix: str, cli: Cli) -> None:
    words = [["The", "soup", "in", "Rome"], ["It's", "hot"]] * 10
    tags = [["O", "B-FOOD", "O", "B-LOC"], ["O", "O"]] * 10
    rows = [{"words": w, "tags": t} for w, t in zip(words, tags, strict=True)]
    if suffix == "csv":
        quoted = ['"' + '","'.join(str(cell).replace('"', '""') for cell in row.values()) + '"\n' for row in rows]
        Path("t.csv").write_text("words,tags\n" + "".join(quoted))
    else:
        Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec, found = infer_spec(open_table(f"t.{suffix}"), "words", "tags")
    assert (spec.mode.name, spec.target.labels) == ("synced", ["B-FOOD", "B-LOC", "O"]), found
    assert parse_words(Cell(str(words[1]), "t")) == words[1]
    if suffix == "csv":
        assert cli("train", "t.csv", "--source", "words", "--target", "tags", *TINY, "--out", "r").code == 0
        assert "entity_f1" in cli("eval", "r", "t.csv", "--json").out


@pytest.mark.parametrize("value", ["[{0}]", "['{0}']", '["{0}"]'])
def test_a_list_of_one_label_is_that_label(value: str, cli: Cli) -> None:
    """As doccano exports the label of a text, in JSON lines; a frame of it is written as `['good']` into CSV."""
    if value == "[{0}]":
        Path("t.jsonl").write_text("".join(json.dumps({"text": t, "label": [label]}) + "\n" for t, label in ROWS))
    else:
        cells = ['"' + value.format(label).replace('"', '""') + '"' for _, label in ROWS]
        Path("t.csv").write_text("text,label\n" + "".join(f"{row[0]},{cell}\n" for row, cell in zip(ROWS, cells, strict=True)))
    name = next(map(str, Path().glob("t.*")))
    spec, _ = infer_spec(open_table(name), "text", "label")
    assert (spec.target.kind, spec.target.labels) == ("label", ["bad", "good"])
    assert cli("train", name, "--source", "text", "--target", "label", *TINY, "--out", "r").code == 0
    assert json.loads(cli("eval", "r", name, "--json").out)["metrics"]["accuracy"] >= 0
    assert unrolled.load_table("r").evaluate([{"text": "nice film", "label": ["good"]}]).metrics.keys() >= {"accuracy"}


def test_a_model_that_learned_lists_as_labels_keeps_them() -> None:
    column = LabelColumn("label", ["['bad']", "['good']", "good"])
    assert [column.encode(Cell(text, "t")).tolist() for text in ("['good']", ["good"], "['x']")] == [[1], [2], [3]]


@pytest.mark.parametrize("value", [["a", "b"], [["a"]], [{"a": 1}], [1], [None]])
def test_other_lists_are_no_texts(value: list[Any]) -> None:
    with pytest.raises(DataError, match="a text is expected"):
        parse_text(Cell(value, "t"))


def test_several_labels_of_a_row_are_refused_with_what_to_do() -> None:
    Path("t.jsonl").write_text("".join(json.dumps({"text": t, "label": [label, "x"]}) + "\n" for t, label in ROWS))
    table = open_table("t.jsonl")
    spec, _ = infer_spec(table, "text", "label")
    _, (source, target) = next(spec.iter_cells(table))
    with pytest.raises(DataError, match="each step needs one; if they are labels of the whole row, keep one"):
        spec.encode_row(source, target)


def notes_of(values: list[str], caplog: pytest.LogCaptureFixture, target: str = "t", separator: str = ",") -> tuple[Any, str]:
    Path("t.csv").write_text(f"s{separator}t\n" + "".join(f"thing {i}{separator}{v}\n" for i, v in enumerate(values)), "utf-8")
    caplog.clear()
    with caplog.at_level(logging.INFO, "unrolled"):
        spec = infer_spec(open_table("t.csv"), "s:text", target)[0]
    return spec.target, caplog.text


@pytest.mark.parametrize(("code", "is_noted"), [("-9999", True), ("99", True), ("-99.0", True), ("9", False), ("1", False)])
def test_a_number_that_may_stand_for_a_missing_value_is_reported(
    code: str, is_noted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    column, told = notes_of([code if i % 9 == 0 else f"{i % 5}.5" for i in range(40)], caplog)
    assert column.kind == "number"
    assert ("if it means that a value is missing, leave it empty" in told) is is_noted
    assert "if it means" not in notes_of([f"{i * 3}.5" if i % 9 else "99" for i in range(40)], caplog)[1]
    assert "if it means" not in notes_of([f"{i % 5}.5" if i else code for i in range(40)], caplog)[1]


def test_labels_that_are_objects_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """As Label Studio writes several choices into a CSV file."""
    column, told = notes_of([('"{""choices"":[""a"",""b""]}"', "a", "b", "a")[i % 4] for i in range(40)], caplog)
    assert column.labels == ["a", "b", '{"choices":["a","b"]}']
    assert "'t': 1 labels are objects, such as {\"choices\"" in told


def test_minus_zero_is_zero_and_wide_letters_look_the_same(caplog: pytest.LogCaptureFixture) -> None:
    assert [canonical_label(text) for text in ("-0.0", "-0", "0.0", "-1.0", "-0.5")] == ["0", "-0", "0", "-1", "-0.5"]
    assert "labels that look the same" in notes_of([("A", "\uff21")[i % 2] for i in range(40)], caplog)[1]
    assert "labels that look the same" not in notes_of([("A", "a", "b")[i % 3] for i in range(40)], caplog)[1]


@pytest.mark.parametrize(
    "text", ["d\u00e9j\u00e0 vu", "it\u2019s \u201cnice\u201d", "\u65e5\u672c\u8a9e", "\u0445\u043e\u0440\u043e\u0448\u043e"]
)
def test_utf_8_that_was_read_as_windows_1252_is_reported(text: str, caplog: pytest.LogCaptureFixture, cli: Cli) -> None:
    wrong = text.encode().decode("latin-1")
    assert encoded_twice(wrong)
    assert not encoded_twice(text)
    assert "UTF-8 that was read as Windows-1252" in notes_of([f"{wrong} {i}" for i in range(20)], caplog, "t:text")[1]
    assert "UTF-8 that was read" not in notes_of([f"{text} {i}" for i in range(20)], caplog, "t:text")[1]
    Path("book.txt").write_text(f"{wrong} one\n" * 40, "utf-8")
    told = cli("train", "book.txt", "--threads", 1, "--steps", 1, "--hidden", 8, "--layers", 1, "--out", "r").err
    assert "UTF-8 that was read as Windows-1252" in told


@pytest.mark.parametrize(
    "text", ["S\u00c3O PAULO", "10 \u00c2 \u00a3", "\u00e0 \u00c0", "\u00d7\u00f7", "na\u00efve \u2013 caf\u00e9"]
)
def test_letters_that_occur_so_are_no_wrong_encoding(text: str) -> None:
    assert not encoded_twice(text)


def test_marks_of_direction_are_no_part_of_names_and_labels() -> None:
    Path("t.csv").write_text("\u202btext\u202c,label\n" + "".join(f"{t},\u2067{label}\u2069\n" for t, label in ROWS), "utf-8")
    assert infer_spec(open_table("t.csv"), "text", "label")[0].target.labels == ["bad", "good"]


def test_trailing_minus_in_a_file_of_semicolons_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    told = notes_of([f"{i},50{'' if i % 3 else '-'}" for i in range(40)], caplog, separator=";")[1]
    assert "26 of 40 values are numbers, others are not, such as 0,50-: they are read as text" in told


ROWS_OF_CELLS = "".join(f"'it''s {text}, yes','{label}',{i}\n" for i, (text, label) in enumerate(ROWS))
DUMPS = {
    "apostrophes.csv": ("'text','label','n'\n" + ROWS_OF_CELLS, "it's dull film 0, yes"),
    "wide-comma.csv": ("text\uff0clabel\n" + "".join(f"{t}\uff0c{label}\n" for t, label in ROWS), "dull film 0"),
    "arabic.csv": ("text\u061blabel\n" + "".join(f"{t}\u061b{label}\n" for t, label in ROWS), "dull film 0"),
    "copy.tsv": ("text\tlabel\n" + "".join(f"{t}\t{label}\n" for t, label in ROWS) + "\\.\n", "dull film 0"),
    "title.csv": ("Films of May,\ntext,label\n" + "".join(f"{t},{label}\n" for t, label in ROWS), "dull film 0"),
    "tweets.js": (
        "window.YTD.tweets.part0 = " + json.dumps([{"text": t, "label": label} for t, label in ROWS]) + ";\n",
        "dull film 0",
    ),
}


@pytest.mark.parametrize("name", DUMPS)
def test_dumps_have_the_same_rows(name: str) -> None:
    content, first = DUMPS[name]
    Path(name).write_text(content, "utf-8")
    table = open_table(name)
    rows = [row for _, row in table.rows()]
    assert len(rows) == len(ROWS)
    assert (rows[0]["text"], rows[0]["label"]) == (first, "bad")
    assert infer_spec(table, "text", "label")[0].target.labels == ["bad", "good"]


def test_apostrophes_in_texts_are_part_of_them() -> None:
    Path("t.csv").write_text("text,label\n" + "".join(f"'{t}',{label}\n" for t, label in ROWS))
    assert next(open_table("t.csv").rows())[1]["text"] == "'dull film 0'"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.sql", "CREATE TABLE t (a text);\n", "is a dump of a database, and no table"),
        ("t.jsonl", '{"text": "a", "label": 1}\n["a", "b"]\n', "an object with the columns as keys is expected, and it is"),
        ("t.jsonl", "{'text': 'a'}\n", "It is Python's way to write a dictionary: write json.dumps of it."),
    ],
)
def test_what_cannot_be_read_is_named(name: str, content: str, message: str) -> None:
    Path(name).write_text(content)
    with pytest.raises(DataError, match=message):
        open_table(name)
