"""Places in texts with labels, as doccano, Prodigy, Label Studio and spaCy write them, are one label for each word."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli
from unrolled.tables.table_files import open_table

TEXT = "Clara Berg (of Oslo) went to New York."
TAGS = ["B-PER", "I-PER", "O", "B-LOC", "O", "O", "B-LOC", "I-LOC"]
SPANS = [(0, 10, "PER"), (15, 19, "LOC"), (29, 37, "LOC")]
TINY = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 8, "--sample-length", 0)


def as_objects(start: str, end: str, label: str, value: Any = str) -> list[dict[str, Any]]:
    return [{start: first, end: last, label: value(name)} for first, last, name in SPANS]


FILES: dict[str, tuple[Any, str, str]] = {
    "doccano.jsonl": ({"id": 1, "text": TEXT, "label": SPANS}, "text", "label"),
    "doccano-relations.jsonl": (
        {"text": TEXT, "entities": as_objects("start_offset", "end_offset", "label")},
        "text",
        "entities",
    ),
    "prodigy.jsonl": ({"text": TEXT, "spans": as_objects("start", "end", "label"), "answer": "accept"}, "text", "spans"),
    "label-studio-min.jsonl": (
        {"sentence": TEXT, "tags": as_objects("start", "end", "labels", lambda name: [name])},
        "sentence",
        "tags",
    ),
    "label-studio.json": (
        {
            "data": {"review": TEXT},
            "annotations": [
                {"was_cancelled": True, "result": []},
                {"result": [{"type": "labels", "value": span} for span in as_objects("start", "end", "labels", lambda n: [n])]},
            ],
        },
        "data.review",
        "annotations",
    ),
    "spacy.json": ([TEXT, {"entities": SPANS}], "0", "1"),
}


@pytest.mark.parametrize("name", FILES)
def test_spans_are_labels_of_words(name: str, cli: Cli) -> None:
    """Each was refused: "numbers are expected", or "a text is expected, and this is {'start': ...": name one of its keys."""
    row, source, target = FILES[name]
    Path(name).write_text(json.dumps([row] * 30) if name.endswith(".json") else (json.dumps(row) + "\n") * 30)
    table = open_table(name)
    assert [cells[0].value for _, cells in table.iter_cells((target,))] == [TAGS] * 30
    result = cli("train", name, "--source", source, "--target", target, *TINY, "--out", "run")
    assert f"'{target}' has places in '{source}', and is read as a label for each word" in result.err
    assert "text as words" in result.err
    assert "labels (5: B-LOC, B-PER, I-LOC, I-PER, O): synced" in result.err
    assert "entity_f1" in cli("eval", "run", name).out
    Path("new.txt").write_text("Anna sleeps in Rome .\n")
    assert len(cli("predict", "run", "new.txt", "--json").out) > 0


def test_what_cannot_be_shown_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "unhappy New York", "label": [[2, 7, "GOOD"], [8, 16, "LOC"], [12, 16, "CITY"]]},
        {"text": "no one here", "label": []},
        {"text": "bad", "label": [[0, 3, "X"]], "answer": "reject"},
        {"text": "to do", "label": None},
    ]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with caplog.at_level(logging.INFO, "unrolled"):
        table = open_table("t.jsonl")
        found = [row["label"] for _, row in table.rows()]
    assert found == [["B-GOOD", "B-LOC", "I-LOC"], ["O", "O", "O"], None]
    list(table.rows())
    messages = [record.message for record in caplog.records if "place" in record.message]
    assert messages == [
        "t.jsonl: 1 row left out that was rejected; 1 place with an end inside a word, which has the label as a whole; "
        "1 place left out that others overlap"
    ]


def test_texts_without_blanks_have_a_label_for_each_character() -> None:
    text = "\u5f20\u4f1f\u4f4f\u5728\u5317\u4eac\u5e02\u671d\u9633\u533a\uff0c\u6bcf\u5929\u5750\u5730\u94c1\u4e0a\u73ed\u3002"
    Path("t.jsonl").write_text(json.dumps({"text": text, "label": [[0, 2, "PER"], [4, 7, "LOC"]]}) + "\n")
    (row,) = [row for _, row in open_table("t.jsonl").rows()]
    assert row["label"] == ["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "I-LOC", *["O"] * (len(text) - 7)]


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a b", "label": [[0, 9, "PER"]]},  # beyond the text
        {"text": "a b", "label": ["PER", "O"]},
        {"text": "a b", "label": [[0, 1], [2, 3]]},
        {"v": [[0, 1, "x"]], "label": 1},
    ],
)
def test_other_lists_are_as_they_are(row: dict[str, Any]) -> None:
    Path("t.jsonl").write_text(json.dumps(row) + "\n")
    assert [row for _, row in open_table("t.jsonl").rows()] == [row]
