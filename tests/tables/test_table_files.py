"""Reading tables: formats, errors with their line, inferred kinds and modes, batches."""

import datetime
import decimal
import gzip
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.tables import MODES as TABLES
from support.tables import read_mode, write_csv, write_jsonl
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.tables.cell_values import Cell
from unrolled.tables.columns import COLUMN_TYPES, column_from_json, column_to_json
from unrolled.tables.modes import MODES, Mode
from unrolled.tables.pair_batching import PairLoader, read_pairs
from unrolled.tables.ragged import RaggedArray
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table
from unrolled.tables.word_tokenizer import WordTokenizer, split_words
from unrolled.text.batching import IGNORE_INDEX


def write(path: Path, text: str) -> str:
    path.write_text(text, "utf-8", newline="")
    return str(path)


def rows(name: str) -> list[tuple[int, dict[str, Any]]]:
    return list(open_table(name).rows())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'a,b\nx,"1, 2"\n"y ""q""",3\n'),
        ("t.csv", '\ufeffa;b\nx;"1, 2"\n"y ""q""";3\n'),
        ("t.csv", 'a\tb\r\nx\t1, 2\r\ny "q"\t3\r\n'),
        ("t.tsv", 'a\tb\nx\t1, 2\ny "q"\t3\n'),
        ("t.txt", 'a\tb\nx\t1, 2\ny "q"\t3\n'),
        ("t.jsonl", '{"a": "x", "b": "1, 2"}\n\n{"a": "y \\"q\\"", "b": "3"}\n'),
    ],
)
def test_all_formats_give_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    assert [row for _, row in rows(write(tmp_path / name, text))] == [{"a": "x", "b": "1, 2"}, {"a": 'y "q"', "b": "3"}]
    compressed = tmp_path / (name + ".gz")
    compressed.write_bytes(gzip.compress(text.encode()))
    assert len(rows(str(compressed))) == 2


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"a": ["x", "y"], "b": [[1.0, 2.0], [3.0]]}), tmp_path / "t.parquet")
    assert rows(str(tmp_path / "t.parquet")) == [(1, {"a": "x", "b": [1.0, 2.0]}), (2, {"a": "y", "b": [3.0]})]
    noon, price = datetime.datetime(2024, 3, 31, 12), decimal.Decimal("0.50")
    columns = {"t": [noon], "d": [noon.date()], "price": [price], "times": [[noon, None]], "raw": [b"\xff"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "typed.parquet")
    [(_, row)] = rows(str(tmp_path / "typed.parquet"))
    assert list(row.values()) == ["2024-03-31T12:00:00", "2024-03-31", "0.50", ["2024-03-31T12:00:00", None], b"\xff"]
    with pytest.raises(DataError, match="not a valid Parquet"):
        rows(write(tmp_path / "u.parquet", "no"))


def test_line_numbers_count_line_ends_in_quotes(tmp_path: Path) -> None:
    assert [line for line, _ in rows(write(tmp_path / "t.csv", 'a,b\n"x\ny",1\nz,2\n'))] == [3, 4]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("t.csv", "", "is empty|has no rows"),
        ("t.csv", "a,b\n", "has no rows"),
        ("t.csv", "a,b\n1,2\n3\n", r"line 3: 1 cell, and the header has 2 columns \(a, b\)"),
        ("t.csv", 'a,b\n1,"2\n', "line"),
        ("t.jsonl", '{"a": 1}\n[2]\n', "line 2: an object"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not valid JSON"),
        ("t.jsonl", '{"a": 1}\n' + "[" * 100_000 + "\n", "line 2 is not valid JSON"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, name: str, text: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        rows(write(tmp_path / name, text))


def test_other_encodings_and_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\nx,1\ncaf\xe9,2\n")
    with pytest.raises(DataError, match="is not UTF-8"):
        rows(str(tmp_path / "t.csv"))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n" + bytes(range(48, 58)) * 9999)[:40])
    with pytest.raises(DataError, match="t.csv.gz is damaged or not of the format of its suffix: Compressed file ended before"):
        rows(str(tmp_path / "t.csv.gz"))


def test_a_missing_column_or_kind_suggests_the_closest_name(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.csv", "question,label\nx,1\n"))
    with pytest.raises(UsageError, match="no column 'questoin'; did you mean 'question'"):
        infer_spec(table, "questoin", "label")
    with pytest.raises(UsageError, match="there is no kind 'lable'; did you mean 'label'"):
        infer_spec(table, "question", "label:lable")


def kinds(path: Path, source: str, target: str) -> tuple[str, str, str]:
    spec, _ = infer_spec(open_table(str(path)), source, target)
    return spec.source.kind, spec.target.kind, spec.mode.name


@pytest.mark.parametrize("mode", TABLES)
@pytest.mark.parametrize("write_table", [write_csv, write_jsonl])
def test_the_mode_follows_from_the_columns(tmp_path: Path, mode: str, write_table: Any) -> None:
    make, source, target = TABLES[mode]
    path = write_table(tmp_path / ("t.csv" if write_table is write_csv else "t.jsonl"), make(120, 1))
    assert kinds(path, source, target)[2] == mode


def repeated(source: list[Any], target: list[Any], times: int = 40) -> list[dict[str, Any]]:
    return [{"s": one, "t": other} for one, other in zip(source * times, target * times, strict=True)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (repeated(["a dog runs", "the cat"], ["DT NN VB", "DT NN"]), ("text", "labels", "synced")),
        (repeated(["if x: 1 then y", "f(2) and more"], ["kk v p n", "vpnp"]), ("text", "label", "many-to-one")),
        (repeated(["f(2)", "if x"], ["vpnp", "kk v"]), ("text", "labels", "synced")),
        (repeated([[1.5, 2.0, 0.0], [3.0, 4.0, 1.0]], [1.25, 2.5]), ("vector", "number", "one-to-one")),
        (repeated([[1.5, 2.0], [3.0, 4.0, 1.0]], ["up", "down"]), ("frames", "label", "many-to-one")),
        (repeated([[1.5, 2.0], [3.0, 4.0]], [["a", "b"], ["b", "b"]]), ("frames", "labels", "synced")),
        (repeated(["0.5 1.5 2", "1 2 3.5"], ["1", "0"]), ("vector", "label", "one-to-one")),
        (repeated(["some words here", "and others"], [0, 1]), ("text", "label", "many-to-one")),
        (repeated(["some words here", "and others"], [0.25, 1.5]), ("text", "number", "many-to-one")),
        (repeated([["a", "b"], ["b"]], ["x", "y"]), ("labels", "label", "many-to-one")),
        (repeated([[[1, 2, 3, 4]] * 4, [[0, 1, 0, 1]] * 4], [[0, 1, 1, 0], [1, 1, 0, 0]]), ("frames", "labels", "synced")),
        (repeated([[[1, 2, 3, 4]] * 4, [[0, 1, 0, 1]] * 4], ["a", "b"]), ("image", "label", "one-to-one")),
        (repeated(["x y z", "z y"], ["1 0 1", "0 0"]), ("text", "labels", "synced")),
        (
            [{"s": f"{n % 28 + 1} 6 19{n:02}", "t": f"19{n:02}-06-{n % 28 + 1:02}"} for n in range(99)],
            ("text", "text", "many-to-many"),
        ),
    ],
)
def test_kinds_are_inferred_from_the_cells(tmp_path: Path, rows: list[dict[str, Any]], expected: tuple[str, str, str]) -> None:
    assert kinds(write_jsonl(tmp_path / "t.jsonl", rows), "s", "t") == expected


def test_texts_are_words_if_they_repeat_else_characters(tmp_path: Path) -> None:
    for mode, source, target, tokens in (
        ("many-to-one", "text", "label", "words"),
        ("many-to-many", "word", "back", "characters"),
    ):
        path = write_csv(tmp_path / f"{mode}.csv", TABLES[mode][0](200, 1))
        assert f"text as {tokens}" in infer_spec(open_table(str(path)), source, target)[1]
    for tokens in ("bytes", "words", "bpe"):
        spec, _ = infer_spec(open_table(str(tmp_path / "many-to-one.csv")), f"text:{tokens}", "label")
        cell = Cell("the blue dog sleeps", "")
        assert spec.source.decode(spec.source.encode(cell)) == "the blue dog sleeps"
        assert column_to_json(column_from_json(column_to_json(spec.source))) == column_to_json(spec.source)


def test_column_pairs_without_a_mode_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", repeated(["a", "b"], [["x", "y"], ["y"]]))
    with pytest.raises(UsageError, match="a label for every step"):
        infer_spec(open_table(str(path)), "s:label", "t:labels")
    with pytest.raises(UsageError, match="can be a source but not a target"):
        infer_spec(open_table(str(write_jsonl(tmp_path / "u.jsonl", repeated(["a"], [[[1.0], [2.0]]])))), "s:text", "t:frames")


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_the_mode_decides_where_the_targets_of_a_row_are(tmp_path: Path, mode: Mode) -> None:
    dataset = read_mode(tmp_path, mode.name, 30)
    batch = dataset.collate(np.arange(len(dataset)))
    lengths = {"single": np.ones(len(dataset)), "aligned": batch.lengths, "generated": dataset.target.lengths}[mode.output]
    assert dataset.spec.mode == mode
    assert (batch.lengths.max() > 1) == mode.sequence_input
    assert ((batch.target != IGNORE_INDEX).sum(0) == lengths).all()
    assert dataset.eos_per_row == (mode.output == "generated")


def test_a_wrong_number_of_labels_is_an_error_with_both_lengths(tmp_path: Path) -> None:
    good = repeated([[[1.0], [2.0]]], [["a", "b"]])
    path = write_jsonl(tmp_path / "t.jsonl", [*good, {"s": [[1.0], [2.0], [3.0]], "t": ["a", "b"]}])
    table = open_table(str(path))
    spec, _ = infer_spec(table, "s", "t:labels")
    dataset = read_pairs(table, spec)
    assert len(dataset) == 40
    (message,) = dataset.left_out_messages()
    assert "1 of 41 rows is left out" in message
    assert "line 41: 's' has 3 steps and 't' 2 labels" in message


@pytest.mark.parametrize(
    ("kind", "good", "bad", "match"),
    [
        ("number", "1.5", "x", "line 2: a number is expected, and this is 'x'"),
        ("number", "1.5", "inf", "line 2: a number of at most 3.4e38"),
        ("vector", [1.0, 2.0], [1.0], "line 2: 1 numbers, and 2 are expected"),
        ("frames", [[1.0, 2.0]], [[1.0]], "line 2: 1 numbers"),
        ("frames", [[1.0, 2.0]], [[1.0, 2.0], [3.0]], "line 2: numbers are expected, in lists of equal length"),
        ("image", [[1.0, 2.0], [3.0, 4.0]], [[1.0], [2.0]], "line 2: an image of 2 x 1, and 2 x 2 is expected"),
        ("image", [[1.0, 2.0], [3.0, 4.0]], "gone.png", "line 2: there is no file gone.png"),
        ("image", [[1.0, 2.0], [3.0, 4.0]], "bad.png", "line 2: .*bad.png is not an image that can be read"),
        ("frames", [[1.0, 2.0]], "bad.npy", "line 2: .*bad.npy is not a .npy file"),
        ("image", [[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0, 3.0], "line 2: 3 numbers are not a square image"),
    ],
)
def test_cells_of_another_kind_are_left_out_with_the_line(tmp_path: Path, kind: str, good: Any, bad: Any, match: str) -> None:
    for name in ("bad.png", "bad.npy"):
        (tmp_path / name).write_bytes(b"\x93NUMPY rubbish")
    good_row = {"s": good, "t": "a"}
    path = write_jsonl(tmp_path / "t.jsonl", [good_row, {"s": bad, "t": "b"}, good_row])
    table = open_table(str(path))
    spec, _ = infer_spec(table, f"s:{kind}", "t:label")
    dataset = read_pairs(table, spec)
    assert len(dataset) == 2
    (message,) = dataset.left_out_messages()
    assert re.search(match, message)
    write_jsonl(tmp_path / "t.jsonl", [good_row, *[{"s": bad, "t": "b"}] * 2])
    with pytest.raises(DataError, match=rf"{match}.* The same holds for 2 of 3 rows"):
        read_pairs(table, spec)


def test_images_and_arrays_from_files_relative_to_the_table(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "p"
    folder.mkdir()
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(values).save(folder / "a.png")
    np.save(folder / "b.npy", values)
    path = write_csv(folder / "t.csv", [{"file": "a.png", "t": "x"}, {"file": "b.npy", "t": "y"}])
    spec, message = infer_spec(open_table(str(path)), "file:image", "t:label")
    pairs = read_pairs(open_table(str(path)), spec)
    assert "3 x 4" in message
    np.testing.assert_array_equal(pairs.source[0], pairs.source[1])
    assert pairs.source[0].shape == (1, 3, 4, 1)


def test_rows_with_empty_cells_are_skipped_and_counted(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.csv", "s,t\none two,a\n,b\nthree,\nfour,b\n"))
    spec, _ = infer_spec(table, "s:text", "t:label")
    pairs = read_pairs(table, spec)
    assert (len(pairs), pairs.skipped_rows, pairs.num_read) == (2, [3, 4], 4)


def test_long_rows_are_cut_left_out_or_split(tmp_path: Path) -> None:
    text = "ab" * 50_000
    table = open_table(str(write_jsonl(tmp_path / "t.jsonl", [{"s": text, "t": "x"}, {"s": "ab", "t": "y"}])))
    spec, _ = infer_spec(table, "s:text", "t:label")
    pairs = read_pairs(table, spec)
    assert (pairs.source.lengths.tolist(), pairs.cut_rows, pairs.left_out_rows) == ([8192, 2], [1], [])
    assert pairs.length_notes() == ["1 of 2 rows is cut to the first 8,192 steps: line 1 (see --max-length)"]
    rows = [{"s": "ab", "t": text}, {"s": text, "t": "yx"}, {"s": "x", "t": "y"}]
    table = open_table(str(write_jsonl(tmp_path / "v.jsonl", rows)))
    pairs = read_pairs(table, replace(infer_spec(table, "s:characters", "t:characters")[0], max_length=1000))
    assert (pairs.source.lengths.tolist(), pairs.cut_rows, pairs.left_out_rows) == ([1000, 1], [2], [1])
    table = open_table(str(write_jsonl(tmp_path / "u.jsonl", [{"s": text, "t": text.upper()}])))
    spec, _ = infer_spec(table, "s", "t:labels")
    pairs = read_pairs(table, spec)
    assert pairs.target.lengths.sum() == 100_000
    assert pairs.target.lengths.max() <= 1024


def test_unknown_source_words_get_the_token_of_their_shape() -> None:
    from collections import Counter

    counts = Counter({"walk": 5, "the": 9, **{f"{stem}ing": 1 for stem in ("jump", "sing", "read", "cook", "paint", "climb")}})
    words = WordTokenizer.from_counts(counts, spaces=True, is_source=True)
    assert words.lookup("dancing") is not None
    assert words.lookup("Walk") == words.lookup("walk")
    assert words.lookup("dancing") != words.lookup("walk")
    target_words = WordTokenizer.from_counts(counts, spaces=True, is_source=False)
    assert target_words.lookup("dancing") is None


@pytest.mark.parametrize("text", ["Hello, world!", "don't  stop", "a\nb", " lead", "1,5 m\u00b2", "caf\u00e9 - \u65e5\u672c"])
def test_words_with_their_spaces_are_lossless(text: str) -> None:
    words = WordTokenizer(sorted(set(split_words(text, False))), spaces=False)
    assert words.decode(words.encode(text).tolist()) == text


@pytest.mark.parametrize("mode", TABLES)
def test_an_epoch_has_each_row_once_and_batches_resume_at_their_cursor(tmp_path: Path, mode: str) -> None:
    pairs = read_mode(tmp_path, mode, 90)
    index = np.arange(0, len(pairs), 2)
    batches = PairLoader(pairs, index, batch_size=7, seq_len=5, seed=4)
    stream, seen, targets = iter(batches), [], 0
    while targets < batches.tokens_per_epoch:
        batch = next(stream)
        seen += batch.index.tolist()
        targets += batch.num_targets
        assert batch.source.shape[1] == batch.target.shape[1] == len(batch.lengths) <= 7
    assert sorted(seen) == index.tolist()
    assert targets == batches.tokens_per_epoch
    other = PairLoader(pairs, index, batch_size=7, seq_len=5, seed=4)
    other.seek(batches.cursor)
    again = iter(other)
    for _ in range(20):
        one, two = next(stream), next(again)
        np.testing.assert_array_equal(one.source, two.source)
        np.testing.assert_array_equal(one.target, two.target)


def test_a_label_not_in_the_training_rows_is_ignored_by_the_loss(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-one", 90)
    table = open_table(str(write_jsonl(tmp_path / "n.jsonl", [{"text": "a mauve dog sleeps", "label": "odd"}])))
    new = read_pairs(table, pairs.spec)
    assert new.collate(np.array([0])).target.tolist() == [[IGNORE_INDEX]]
    assert new.collate(np.array([0])).num_targets == 0


def test_a_large_ragged_array_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.tables.ragged.MAX_MEMORY_BYTES", 1000)
    monkeypatch.setattr("unrolled.tables.ragged.FLUSH_BYTES", 300)
    arrays = [np.arange(n % 13, dtype=np.int32) for n in range(500)]
    ragged = RaggedArray(np.int32)
    for array in arrays:
        ragged.append(array)
    ragged.finalize()
    assert isinstance(ragged._values, np.memmap)
    assert all((ragged[n] == array).all() for n, array in enumerate(arrays))
    assert ragged.lengths.tolist() == [len(array) for array in arrays]


def test_an_invalid_column_in_a_model_file_is_refused() -> None:
    for value in (
        None,
        {},
        {"kind": "text"},
        {"kind": "label", "name": "x", "labels": 3},
        {"kind": "text", "name": 1, "tokenizer": {}},
        {"kind": "duration", "name": "x"},
        {"kind": "numbers", "name": "x", "columns": ["x"]},
    ):
        with pytest.raises(ModelError):
            column_from_json(value)
    kinds = ["frames", "image", "label", "labels", "number", "numbers", "text", "vector"]
    assert sorted(COLUMN_TYPES) == kinds
