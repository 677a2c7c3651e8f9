"""Files that people have and take for tables: read, reported, or refused with what to do."""

import json
from pathlib import Path

import pytest

from unrolled.errors import DataError, UsageError
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table, open_table_or_lines
from unrolled.tables.table_format import TableFormat

ROWS = [(f"{'nice' if i % 2 else 'dull'} film {i % 7}", "good" if i % 2 else "bad") for i in range(40)]


def read(name: str, content: str, columns: tuple[str, ...]) -> list[tuple[object, ...]]:
    Path(name).write_text(content, "utf-8")
    return [tuple(cell.value for cell in cells) for _, cells in open_table(name).iter_cells(columns)]


@pytest.mark.parametrize("name", ["train.txt", "train.csv", "train.tsv"])
def test_texts_with_labels_of_fasttext(name: str) -> None:
    content = "".join(f"__label__{label} {text}\n" for text, label in ROWS)
    assert read(name, content, ("text", "label")) == ROWS
    spec, _ = infer_spec(open_table(name), "text", "label")
    assert (spec.source.kind, spec.target.kind) == ("text", "label")
    assert open_table_or_lines(name, "text", TableFormat()).columns == ("label", "text")


def test_several_labels_of_fasttext_are_a_list_and_none_is_missing() -> None:
    content = "__label__a __label__b , one text\n\nno label here\n__label__c\ttabs\n"
    assert read("t.txt", content, ("label", "text")) == [(["a", "b"], ", one text"), (None, "no label here"), ("c", "tabs")]
    assert read("t.csv", "__label__a,some text\n__label__b,more text\n", ("__label__a",)) == [("__label__b",)]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("   x    y label\n", "  {x:5.2f}  {y} {c}  \n"),
        ("x y label\n", "{x} {y} {c}\n"),
        ("x y label\n", "{i} {x}   {y} {c}\n"),
    ],
)
def test_numbers_between_blanks_are_columns(header: str, row: str) -> None:
    content = header + "".join(row.format(x=i / 2, y=-i, c="ab"[i % 2], i=i) for i in range(30))
    values = [(float(str(x)), float(str(y)), c) for x, y, c in read("t.dat", content, ("x", "y", "label"))]
    assert values == [(i / 2, -i, "ab"[i % 2]) for i in range(30)]
    assert open_table("t.dat").notes[-1].endswith("columns are separated by blanks")


def test_blanks_between_words_separate_nothing() -> None:
    Path("names.txt").write_text("first last\nAnna Meyer\nBen Smith\nCarl Jones\nDora May\n")
    assert open_table("names.txt").columns == ("first last",)
    Path("moon.txt").write_text("Apollo 11\nApollo 12\nApollo 14\nApollo 15\nApollo 16\n")
    assert open_table_or_lines("moon.txt", "text", TableFormat()).columns == ("text",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "+1 1:0.5 3:1\n-1 2:0.25 # rare\n", "is in the format of SVMlight, and no table: write all numbers of a row"),
        ("a.yaml", "- text: a\n  label: b\n", r"is YAML, and no table: write its rows as JSON lines \(yq"),
        ("a.txt", "- text: a\n  label: b\n", "is YAML, and no table"),
        ("a.toml", "[[row]]\ntext = 'a'\n", "is TOML, and no table"),
        ("a.tex", "\\begin{tabular}{ll}\ntext & label \\\\\n", "is LaTeX, and no table: write its rows as CSV"),
        ("a.xml", "<rows>\n<row><text>a</text></row>\n</rows>\n", "is HTML or XML, and no table"),
        ("a.sql", "INSERT INTO t VALUES (1);\n", "is a dump of a database, and no table"),
        (
            "a.json",
            '{"train": [{"t": 1}, {"t": 2}], "test": [{"t": 1}, {"t": 2}]}',
            "'train' of 2 and 'test' of 2: to learn",
        ),
        ("a.jsonl", '{"text": "a"}{"text": "b"}\n', "One object per line is expected: jq -c . a.jsonl > NEW.jsonl"),
        ("a.jsonl", '{"text": [["a", "N"]], "label": 1}\n' * 3, "name one value in it by its place, as in COLUMN.0"),
        ("a.jsonl", '{"text": [{"a": "b"}, {}], "label": 1}\n' * 3, "as in COLUMN.KEY, or in a list COLUMN.0.KEY"),
    ],
)
def test_what_is_no_table_says_what_to_do(name: str, content: str, message: str) -> None:
    Path(name).write_text(content)
    with pytest.raises((DataError, UsageError), match=message):
        infer_spec(open_table(name), "text", "label")


def test_json_of_maps_and_of_old_line_ends() -> None:
    places = {"type": "FeatureCollection", "features": [{"properties": {"text": t, "label": v}} for t, v in ROWS]}
    assert read("t.geojson", json.dumps(places), ("properties.text", "properties.label")) == ROWS
    objects = "\r".join(json.dumps({"text": t, "label": v}) for t, v in ROWS)
    assert read("t.jsonl", objects, ("text", "label")) == ROWS
