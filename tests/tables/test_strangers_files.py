"""Small files of the kinds that public bug reports describe, with the right values."""

import copy
import itertools
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.tables import write_long
from unrolled.errors import DataError, UsageError
from unrolled.tables.cell_values import Cell, is_empty, is_missing
from unrolled.tables.columns import column_from_json
from unrolled.tables.label_columns import LabelColumn, LabelsColumn, canonical_label, label_order
from unrolled.tables.metrics import bleu_tokenizer, generation_report
from unrolled.tables.spec import TableSpec
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table

TINY = ("--threads", "1", "--steps", "3", "--hidden", "8", "--layers", "1", "--batch", "8")


def table_of_titles(odd: str) -> str:
    rows = [f"how do I open a file number {number},{'a' if number % 2 else 'b'}" for number in range(40)]
    return "\n".join(["title,tag", *rows, f"{odd},a"]) + "\n"


@pytest.mark.parametrize("odd", ["How do I load data.npy", "[]", '"[[1, 2], [3]]"', '"[""deleted""]"'])
@pytest.mark.parametrize("source", ["title", "title:text"])
def test_one_odd_cell_does_not_decide_what_a_column_is(tmp_path: Path, odd: str, source: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(table_of_titles(odd))
    spec, _ = infer_spec(open_table(str(path)), source, "tag")
    assert (spec.source.kind, spec.target.kind) == ("text", "label")


@pytest.mark.parametrize(
    "value", ["NA", " NaN ", "NULL", "<NA>", "n/a", "NaT", "null", "None", "-", "", None, float("nan"), np.float32("nan"), []]
)
def test_what_other_programs_write_for_a_missing_value_is_missing(value: object) -> None:
    assert is_missing(value)
    assert is_empty(value) is (not isinstance(value, str) or not value)
    assert is_empty("\u200b\xa0")


@pytest.mark.parametrize("value", ["0", "no", "Nancy", "--", 0.0, False, "nano"])
def test_other_values_are_not(value: object) -> None:
    assert not is_missing(value)


@pytest.mark.slow
def test_na_is_a_class_if_said_and_else_left_out_and_reported(cli: Cli) -> None:
    rows = "".join(f"{number} letters,{('NA', 'DE', 'FR')[number % 3]}\n" for number in range(60))
    Path("t.csv").write_text("text,country\n" + rows)
    table = open_table("t.csv")
    assert infer_spec(table, "text", "country")[0].target.labels == ["DE", "FR"]
    spec = infer_spec(table, "text", "country:label")[0]
    assert spec.target.labels == ["DE", "FR", "NA"]
    assert TableSpec.from_json(spec.to_json() | {"train_stats": {}}).target.missing_names == set()
    told = cli("train", "t.csv", "--source", "text:text", "--target", "country", *TINY, "--out", "r").err
    assert "20 of 60 rows are left out" in told
    assert "COLUMN:label" in told
    cli("train", "t.csv", "--source", "text:text", "--target", "country:label", *TINY, "--out", "said")
    assert not unrolled.load_table("said").spec.target.missing_names


def test_models_of_before_keep_na_as_they_learned_it() -> None:
    column = column_from_json({"kind": "label", "name": "country", "labels": ["DE", "NA"]})
    assert not column.is_missing("NA")
    assert column_from_json({"kind": "number", "name": "n", "mean": [0.0], "scale": [1.0]}).is_missing("NA")


def test_a_missing_number_does_not_make_a_column_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,price\n" + "".join(f"item {i},{i * 1.5}\n" for i in range(50)) + "item x,NA\n")
    spec, _ = infer_spec(open_table(str(path)), "text", "price")
    assert spec.target.kind == "number"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("good ", "good"),
        ("\ufeffgood\xa0\u200b", "good"),
        ("1.0", "1"),
        ("-3.00", "-3"),
        ("1.5", "1.5"),
        ("1.10", "1.10"),
        ("01", "01"),
        ("a.0", "a.0"),
        ("1.", "1."),
    ],
)
def test_labels_have_one_form(text: str, label: str) -> None:
    assert canonical_label(text) == label


def test_equal_labels_are_one_and_old_models_keep_their_names() -> None:
    column = LabelColumn.fit("liked", [Cell(text, "t") for text in ("1", "1.0", "0", "0.0 ", 1.0)], {})
    assert column.labels == ["0", "1"]
    spelled = LabelColumn.fit("liked", [Cell(text, "t") for text in ("True", "true", "FALSE", "False", True)], {})
    assert spelled.labels == ["false", "true"]
    column = LabelColumn.fit("liked", [Cell(text, "t") for text in ("True", "False", "True")], {})
    assert column.labels == ["False", "True"]
    assert [column.label_name(label) for label in ("true", "TRUE", "False ", "true.")] == ["True", "True", "False", "true."]
    old = LabelColumn("liked", ["0.0", "1.0"])
    assert old.encode(Cell("1", "t")).tolist() == [1]
    assert old.label_name("1") == "1.0"
    both = LabelColumn("liked", ["1", "1.0"])
    assert [both.label_id(label) for label in ("1", "1.0")] == [0, 1]


def test_labels_of_steps_have_one_form_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "unrolled"):
        column = LabelsColumn.fit("tags", [Cell([1.0, 0, "x "], "t"), Cell("1 0.0 x", "t")], {"split": "words"})
    assert column.labels == ["0", "1", "x"]
    assert caplog.messages == ["'tags': 6 spellings are 3 labels, as '0.0' is '0'"]
    assert column.cell_tokens(Cell([1.0, 0], "t")) == ["1", "0"]
    assert LabelsColumn.fit("t", [Cell("a b", "t")], {"split": "characters"}).labels == [" ", "a", "b"]


def test_labels_have_a_total_order_with_nan_among_them() -> None:
    orders = itertools.permutations(["NaN", "0", "1", "inf", "x"])
    assert {tuple(sorted(order, key=label_order)) for order in orders} == {("0", "1", "inf", "NaN", "x")}


def test_predicted_columns_do_not_depend_on_the_first_row(cli: Cli) -> None:
    Path("t.csv").write_text("text,label\n" + "".join(f"word {i},{'good' if i % 2 else 'bad'}\n" for i in range(40)))
    assert cli("train", "t.csv", "--source", "text:text", "--target", "label", *TINY, "--out", "r").code == 0
    Path("new.csv").write_text("id,text\n1,\n2,word 3\n")
    lines = cli("predict", "r", "new.csv", "--probabilities").out.splitlines()
    assert lines[0] == "id,text,predicted,probability,p_bad,p_good"
    assert lines[1] == "1,,,,,"
    assert all(lines[2].split(","))
    rows = json.loads(cli("predict", "r", "new.csv", "--probabilities", "--json").out)["rows"]
    assert list(rows[0]) == list(rows[1])
    assert len(unrolled.load_table("r").predict("word 3")) == 1
    with pytest.raises(UsageError, match=r"bytes are given: decode them"):
        unrolled.load_table("r").predict(b"word 3")


SENTENCES = [[("Anna", "B-PER"), ("lives", "O"), ("in", "O"), ("Accra", "B-LOC")], [("Boris", "B-PER"), ("ran", "O")]] * 6
TAGGED = {
    "header.tsv": "word\ttag\n" + "\n".join("".join(f"{word}\t{tag}\n" for word, tag in rows) for rows in SENTENCES),
    "long.csv": "n,word,tag\n" + "".join(f"{i},{word},{tag}\n" for i, rows in enumerate(SENTENCES) for word, tag in rows),
    "once.csv": "n,word,tag\n"
    + "".join(f"{'' if j else i},{row[0]},{row[1]}\n" for i, rows in enumerate(SENTENCES) for j, row in enumerate(rows)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TAGGED))
def test_tagged_words_are_learned_in_their_sentences(cli: Cli, name: str) -> None:
    Path(name).write_text(TAGGED[name])
    columns = ("--source", "word", "--target", "tag")
    grouped = () if name == "header.tsv" else ("--group-by", "n")
    assert cli("train", name, *columns, *grouped, *TINY, "--out", "r").code == 0
    spec = unrolled.load_table("r").spec
    assert (spec.source.kind, spec.target.kind, spec.mode.name) == ("labels", "labels", "synced")
    assert "12 rows, 36 steps" in cli("eval", "r", name).out
    alone = cli("train", name, *columns, *TINY, "--out", "alone")
    if grouped:
        assert alone.code == 3
        assert "'tag' of" in alone.err
        assert "add --group-by with the column that names the sentence, or say word:label" in alone.err


def test_a_limit_that_leaves_no_row_is_named(cli: Cli) -> None:
    Path("t.csv").write_text("a,b\n" + "".join(f"x {i},some more words {i}\n" for i in range(12)))
    refused = cli("train", "t.csv", "--source", "a:text", "--target", "b:text", "--max-length", "3", *TINY, "--out", "r")
    assert "No row is left: 12 of 12 rows are left out, since the target has more than 3 steps" in refused.err


def test_validation_rows_of_one_label_show_nothing_about_the_others(cli: Cli) -> None:
    Path("t.csv").write_text("text,label\n" + "".join(f"word {i},{'rare' if i < 2 else 'ok'}\n" for i in range(200)))
    told = cli("train", "t.csv", "--source", "text:text", "--target", "label", *TINY, "--out", "r").err
    assert "The validation rows have one label only, 'ok': these figures say nothing about the others." in told
    assert "As good as" not in told


def test_labels_to_validate_on_that_training_does_not_know_are_told(cli: Cli) -> None:
    Path("t.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(40)))
    Path("v.csv").write_text("text,label\n" + "".join(f"word {i},{'aB'[i % 2]}\n" for i in range(20)))
    flags = ("--source", "text:text", "--target", "label:label", "--validation", "v.csv", *TINY)
    assert "v.csv: 'label': 10 of 20 labels were never seen in training" in cli("train", "t.csv", *flags, "--out", "r").err
    write_long("t2.csv", {"x": range(60), "label": ["up", "down", "up"] * 20})
    write_long("v.csv", {"x": range(60), "label": ["up", "left", "left"] * 20})
    steps = ("--source", "x:numbers", "--target", "label", "--order-by", "x", "--validation", "v.csv", *TINY)
    assert "v.csv: 'label': 40 of 60 labels were never seen in training" in cli("train", "t2.csv", *steps, "--out", "s").err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", '[{"b": 1},\n {"a": "x", "b": 2}]'),
        ("one.json", '[{"b": 1}, {"a": "x", "b": 2}]'),
        ("t.jsonl", '{"b": 1}\n{"a": "x", "b": 2}\n'),
        ("array.jsonl", '[{"b": 1},\n {"a": "x", "b": 2}]'),
        ("pandas.json", '{"b": {"0": 1, "1": 2}, "a": {"0": null, "1": "x"}}'),
        ("rows.json", '{\n"data": [{"b": 1}, {"a": "x", "b": 2}]\n}'),
    ],
)
def test_columns_are_the_keys_of_all_first_rows(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    table = open_table(str(tmp_path / name))
    assert table.columns == ("b", "a")
    assert [row for _, row in table.rows()] == [{"b": 1, "a": None}, {"b": 2, "a": "x"}]


def test_one_row_of_lists_is_a_row_and_keys_in_lists_are_columns(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"words": ["a", "b"], "tags": ["x", "y"]}')
    table = open_table(str(tmp_path / "t.json"))
    assert [row for _, row in table.rows()] == [{"words": ["a", "b"], "tags": ["x", "y"]}]
    assert [note.rpartition("is one row, ")[2] for note in table.notes] == [
        "whose values are lists of 2; if they are columns, write one object per row"
    ]
    (tmp_path / "t.jsonl").write_text('{"d": [{"text": "a"}], "y": 1}\n' * 2)
    assert [cells[0].value for _, cells in open_table(str(tmp_path / "t.jsonl")).iter_cells(("d.0.text",))] == ["a", "a"]


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("t.csv", b"a,b\nx,1\ncaf\xe9,2\n", r"0xe9 at offset 11, in line 3\. .*\(iconv -f WINDOWS-1252 -t UTF-8 .*t.csv"),
        ("t.txt", "a\tb\n1\t2\n".encode("utf-16"), "iconv -f UTF-16 -t UTF-8 .*t.txt"),
        ("k.csv", "a,b\n\u043f\u0440\u0438\u0432\u0435\u0442,1\n".encode("koi8-r"), r"line 2\. It looks like KOI8-R"),
        ("t.csv.zip", b"PK\x03\x04rest", "damaged"),
        ("t.csv", b"PK\x03\x04rest", "a zip archive: name it t.csv.zip"),
        ("t.csv", b"\x1f\x8b\x08\0rest", r"t.csv is compressed with gzip: name it t.csv.gz\."),
        ("t.tgz", b"\x1f\x8b\x08\0rest", "a tar archive: unpack it"),
        ("t.tar", b"a.csv".ljust(257, b"\0") + b"ustar\0", "a tar archive: unpack it"),
        ("t.7z", b"7z\xbc\xaf\x27\x1c\0\0", "a 7z archive: unpack it"),
        ("t.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an old Office .*: save it as CSV"),
        ("t.ods", b"PK\x03\x04rest", "t.ods is not a valid spreadsheet"),
        ("t.csv", b"PK\x03\x04mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "let its name end in .ods"),
        ("t.docx", b"PK\x03\x04rest", "an e-book or a document of an office program: save it as plain text"),
        ("t.wav", b"RIFF\x24\0\0\0WAVEfmt ", "a WAV file: a cell of a table names it"),
        ("a b.mp3", b"ID3\4\0\0", r"compressed audio: save it as WAV \(ffmpeg -i '.*a b.mp3' NEW.wav\)"),
        ("a b.tar", b"a.csv".ljust(257, b"\0") + b"ustar\0", r"a tar archive: unpack it \(tar -xf '.*a b.tar'\)"),
        ("t.pdf", b"%PDF-1.7\n\xe2\xe3", "a PDF document: save it as text"),
        ("t.csv", b"<!DOCTYPE html>\n<html>", "HTML or XML, and no table"),
        ("t.xlsx", b"PK\x03\x04rest", "t.xlsx is not a valid spreadsheet"),
        ("t.csv", b"PK\x03\x04xl/workbook.xml", "an Excel workbook: let its name end in .xlsx, or save it as CSV"),
        ("t.json", b"[1, 2]", "element 1: an object"),
        ("t.json", b'[{"a": 1}', "not valid JSON"),
    ],
)
def test_a_refusal_says_what_the_file_is(tmp_path: Path, name: str, data: bytes, match: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=match):
        list(open_table(str(tmp_path / name)).rows())


@pytest.mark.parametrize("encoding", [(), ("--encoding", "latin-1")])
def test_a_text_that_is_none_is_named_and_no_encoding_is_advised(cli: Cli, encoding: tuple[str, ...]) -> None:
    Path("book.txt").write_bytes(b"\x1f\x8b\x08\0rest" * 9)
    result = cli("train", "book.txt", "--steps", "2", *encoding)
    assert result.code == 3
    assert "compressed with gzip: name it book.txt.gz" in result.err
    assert "iconv" not in result.err


@pytest.mark.parametrize(
    "text",
    [
        "sep=\t\ntext\tlabel\na, b\tx\nc\ty\n",
        '"sep=|"\ntext|label\na, b|x\nc|y\n',
        "sep=;\ntext;label\na, b;x\nc;y\n",
        "text|label\na, b|x\nc|y\n",
        "text;label\na, b;x\nc;y\n",
        "text\tlabel\na, b\tx\nc\ty\n",
        'text,label\n"a, b",x\nc,y\n',
        '"text"\t"label"\n"a, b"\t"x"\n"c"\t"y"\n',
        "text^label\na, b^x\nc^y\n",
        "text~label\na, b~x\nc~y\n",
        "text\x01label\na, b\x01x\nc\x01y\n",
        "sep=\\t\ntext\tlabel\na, b\tx\nc\ty\n",
    ],
)
def test_the_delimiter_is_what_makes_rows_equally_long(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    rows = list(open_table(str(tmp_path / "t.csv")).rows())
    assert [row for _, row in rows] == [{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}]
    assert rows[0][0] == (3 if "sep=" in text else 2)
    (tmp_path / "t.tsv").write_text(text)
    assert [row for _, row in open_table(str(tmp_path / "t.tsv")).rows()] == [row for _, row in rows]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Report of 2024\na,b\nx,y\n", r"line 2: 2 cells, and the header has 1 column .*no header, remove it"),
        ("a,b\nx,y\nx, z,y\n", r"line 3: 3 cells, .*a cell with ',' in it needs quotes"),
        ('a,b\nx,y\n"z,y\nx,y\n', r"a quotation mark after line 2 opens a cell that is never closed"),
    ],
)
def test_a_damaged_csv_file_is_refused_with_what_to_do(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=match):
        list(open_table(str(tmp_path / "t.csv")).rows())


def test_commas_in_the_header_of_a_file_with_semicolons(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("What, if any, did you like?;Good, or not\nthe soup;yes\nthe bed;no\n")
    assert open_table(str(tmp_path / "t.csv")).columns == ("What, if any, did you like?", "Good, or not")


def test_the_only_file_of_a_zip_archive_is_read(tmp_path: Path, cli: Cli) -> None:
    for name, files in (("one.csv.zip", ["t.csv"]), ("two.zip", ["a.csv", "b.csv"]), ("text.zip", ["book.txt"])):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in [*files, "__MACOSX/._t.csv", "folder/"]:
                archive.writestr(file, "a,b\nx,1\n" if file != "book.txt" else "A short text.\n")
    assert [row for _, row in open_table(str(tmp_path / "one.csv.zip")).rows()] == [{"a": "x", "b": "1"}]
    with pytest.raises(DataError, match="a zip archive of 2 files, and one is expected"):
        open_table(str(tmp_path / "two.zip"))
    done = cli("train", tmp_path / "text.zip", "--steps", "2", "--hidden", "8", "--threads", "1", "--out", "r")
    assert done.code == 0
    assert "14 tokens" in done.err


def test_blanks_around_the_names_of_columns_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("v1, v2 ,,\nham,hello,,\n")
    table = open_table(str(tmp_path / "t.csv"))
    assert table.columns == ("v1", " v2 ", "Unnamed: 2", "Unnamed: 3")
    assert [cells[0].value for _, cells in table.iter_cells(("v2",))] == ["hello"]
    (tmp_path / "t.jsonl").write_text('{"v2": "hello"}\n')
    assert [cells[0].value for _, cells in open_table(str(tmp_path / "t.jsonl")).iter_cells((" v2 ",))] == ["hello"]


def test_only_columns_that_are_asked_for_must_have_a_name_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,a,a\n1,2,3\n")
    table = open_table(str(tmp_path / "t.csv"))
    assert table.columns == ("x", "a (column 2)", "a (column 3)")
    assert [cells[0].value for _, cells in table.iter_cells(("x",))] == ["1"]
    assert [cells[0].value for _, cells in table.iter_cells(("a (column 3)",))] == ["3"]
    with pytest.raises(DataError, match=r"two columns named 'a', 'a \(column 2\)' and 'a \(column 3\)': name one"):
        table.find_column("a")


@pytest.mark.parametrize("kind", [unrolled.RNN, unrolled.GRU, unrolled.LSTM])
def test_a_network_is_copied_after_a_step(kind: type) -> None:
    network = kind(3, 4, 2, seed=1)
    x = torch.ones(3)
    network.step(x)
    other = copy.deepcopy(network)
    assert torch.equal(other.step(x), network.step(x))
    with torch.no_grad():
        other.W_hy.add_(1.0)
    assert not torch.equal(other.W_hy, network.W_hy)


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        ("\u732b\u5728\u684c\u5b50\u4e0a\u9762\u7761\u89c9", "zh"),
        ("\u732b\u306f\u673a\u306e\u4e0a\u3067\u5bdd\u3066\u3044\u307e\u3059", "char"),
        ("\u0e41\u0e21\u0e27\u0e19\u0e2d\u0e19\u0e1a\u0e19\u0e42\u0e15\u0e4a\u0e30", "char"),
        ("The cat sleeps on the table.", "13a"),
        ("The cat sleeps on the table .", "none"),
    ],
)
def test_bleu_cuts_words_as_the_language_does(text: str, tokenizer: str) -> None:
    assert bleu_tokenizer([text]) == tokenizer
    assert generation_report([text], [text], {}).metrics["bleu"] == pytest.approx(100.0)
