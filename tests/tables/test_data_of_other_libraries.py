"""Data sets as other libraries write them: in parts, as Arrow, with names of classes; and merged cells of spreadsheets."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli
from support.spreadsheets import Sheet, write_ods, write_xlsx
from unrolled.errors import DataError
from unrolled.tables.table_files import open_table
from unrolled.tables.table_format import plain_value

arrow = pytest.importorskip("pyarrow")
TINY = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 8, "--sample-length", 0)
ROWS: list[dict[str, Any]] = [
    {"text": f"{'nice' if i % 2 else 'dull'} film {i}", "label": "good" if i % 2 else "bad"} for i in range(30)
]


def rows_of(name: str) -> list[Any]:
    return [row for _, row in open_table(name).rows()]


def write_arrow(path: str, table: Any, stream: bool) -> None:
    with arrow.OSFile(path, "wb") as sink:
        new = arrow.ipc.new_stream if stream else arrow.ipc.new_file
        with new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)


def write_dataset(folder: str, rows: list[dict[str, Any]], features: dict[str, Any], num_parts: int = 1) -> None:
    """Write a folder as `Dataset.save_to_disk` of Hugging Face's `datasets` does."""
    Path(folder).mkdir(parents=True)
    names = [f"data-{part:05}-of-{num_parts:05}.arrow" for part in range(num_parts)]
    table = arrow.Table.from_pylist(rows)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    size = -(-len(rows) // num_parts)
    for part, name in enumerate(names):
        write_arrow(f"{folder}/{name}", table.slice(part * size, size), stream=True)
    Path(folder, "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    Path(folder, "dataset_info.json").write_text(json.dumps({"features": features}))


@pytest.mark.parametrize("name", ["t.arrow", "t.feather", "t.bin", "t.arrow.gz", "t.parquet"])
@pytest.mark.parametrize("stream", [False, True])
def test_arrow_files_are_tables(name: str, stream: bool) -> None:
    table = arrow.Table.from_pylist(ROWS)
    if name == "t.parquet":
        from pyarrow import parquet

        parquet.write_table(table, name)
    else:
        write_arrow("t.arrow", table, stream)
        data = Path("t.arrow").read_bytes()
        Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert rows_of(name) == ROWS


def test_a_saved_dataset_is_read_with_the_names_of_its_classes(cli: Cli) -> None:
    """It was read as a folder of texts, `dataset_info.json` among them, with the names of the splits as labels."""
    names = {"names": ["bad", "good"], "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": names}
    numbered = [row | {"label": i % 2} for i, row in enumerate(ROWS)]
    write_dataset("films", numbered, features, num_parts=3)
    assert rows_of("films") == ROWS
    result = cli("train", "films", "--source", "text", "--target", "label", *TINY)
    assert "label (2: bad, good)" in result.err
    assert "classes are read by their names: 'label' (bad, good)" in result.err
    write_dataset("splits/train", numbered, features)
    write_dataset("splits/test", numbered[:5], features)
    Path("splits/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match="train, test: name one, splits/train .and another one as validation=.splits/test"):
        open_table("splits")
    assert len(rows_of("splits/train")) == 30


@pytest.mark.parametrize("kind", ["Sequence", "List"])
def test_classes_of_steps_have_their_names_and_none_is_missing(kind: str) -> None:
    tags = {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": kind}
    write_dataset("ner", [{"tokens": ["Anna", "sleeps"], "tags": [1, 0]}], {"tags": tags})
    assert rows_of("ner") == [{"tokens": ["Anna", "sleeps"], "tags": ["B-PER", "O"]}]
    write_dataset("test", [{"label": -1}, {"label": 1}], {"label": {"names": ["a", "b"], "_type": "ClassLabel"}})
    assert rows_of("test") == [{"label": None}, {"label": "b"}]


def test_tables_in_one_folder_are_one_table(cli: Cli) -> None:
    """A folder of CSV files had the columns `text`, a whole file, and `file`."""
    for part in range(3):
        Path("parts").mkdir(exist_ok=True)
        lines = [f"{row['text']},{row['label']}" for row in ROWS[part * 10 : part * 10 + 10]]
        Path(f"parts/part-{part}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    Path("parts/README.md").write_text("of films\n")
    assert rows_of("parts") == ROWS
    assert "parts: 3 files read as one table" in cli("train", "parts", "--source", "text", "--target", "label", *TINY).err
    assert "accuracy" in cli("eval", "runs/parts").out
    Path("parts/part-1.csv").write_text("text,stars\nfine,5\n")
    with pytest.raises(DataError, match=r"different columns.*part-0.csv has text, label, and part-1.csv text, stars"):
        open_table("parts")
    Path("kaggle").mkdir()
    for name in ("train", "test", "sample_submission"):
        Path(f"kaggle/{name}.csv").write_text("id,text\n1,fine\n")
    with pytest.raises(DataError, match=r"kaggle has several tables of a data set, test.csv, train.csv: name one"):
        open_table("kaggle")


def test_names_of_folders_are_a_column() -> None:
    for label in ("very good", "bad"):
        folder = Path(f"films/label={label.replace(' ', '%20')}")
        folder.mkdir(parents=True)
        (folder / "part-0.jsonl").write_text('{"text": "a film"}\n')
    assert rows_of("films") == [{"text": "a film", "label": "bad"}, {"text": "a film", "label": "very good"}]
    assert open_table("films").columns == ("text", "label")


def test_bytes_and_durations_of_columns() -> None:
    import datetime

    table = arrow.table({"a": [b"film", b"\xff\xd8"], "b": arrow.array([90, 60], arrow.duration("s"))})
    write_arrow("t.arrow", table, stream=False)
    assert rows_of("t.arrow") == [{"a": "film", "b": 90.0}, {"a": b"\xff\xd8", "b": 60.0}]
    assert plain_value(datetime.timedelta(minutes=2)) == 120.0


def test_a_file_that_is_cut_is_refused() -> None:
    write_arrow("t.arrow", arrow.Table.from_pylist(ROWS), stream=False)
    Path("t.arrow").write_bytes(Path("t.arrow").read_bytes()[:300])
    with pytest.raises(DataError, match=r"t.arrow is not a valid Arrow file"):
        rows_of("t.arrow")


def test_merged_cells_have_one_value() -> None:
    """The others were empty, and 28 of 30 rows left out."""
    rows: Sheet = [["text", "label"], *([f"film {i}", {0: "good", 15: "bad"}.get(i, "")] for i in range(30))]
    write_xlsx("t.xlsx", {"S": rows}, merged=["B2:B16", "B17:B31"])
    assert [row["label"] for row in rows_of("t.xlsx")] == ["good"] * 15 + ["bad"] * 15
    assert open_table("t.xlsx").notes == ("t.xlsx: 28 cells of merged ones have the value of the first",)
    below_titles: Sheet = [["id", "score", ""], ["", "first", "second"], *([i, i * 2, i * 3] for i in range(9))]
    write_xlsx("h.xlsx", {"S": below_titles}, merged=["A1:A2", "B1:C1"])  # a header of two rows
    assert list(rows_of("h.xlsx")[0].values()) == ["0", "0", "0"]
    assert not any("merged" in note for note in open_table("h.xlsx").notes)
    write_ods("t.ods", rows)
    assert open_table("t.ods").notes == ()
