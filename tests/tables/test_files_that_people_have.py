"""Files that people have and take for tables: read, reported, or refused with what to do."""

import json
import logging
from pathlib import Path

import pytest

from support.cli import Cli
from unrolled.errors import DataError, UsageError
from unrolled.tables.label_columns import LabelColumn
from unrolled.tables.pair_batching import read_pairs
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table, open_table_or_lines
from unrolled.tables.table_format import TableFormat
from unrolled.text.encoding_guess import likely_encoding

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
    for header in ("title", "first name"):
        Path("t.csv").write_text(f"{header}\nApollo 11\nGemini 4\nApollo 14\nApollo 15\nApollo 16\n")
        assert open_table("t.csv").columns == (header,)
    Path("moon.txt").write_text("Apollo 11\nApollo 12\nApollo 14\nApollo 15\nApollo 16\n")
    assert open_table_or_lines("moon.txt", "text", TableFormat()).columns == ("text",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "+1 1:0.5 3:1\n-1 2:0.25 # rare\n", "is in the format of SVMlight, and no table: write all numbers of a row"),
        ("a.vw", "1 |f price\n", "is in the format of Vowpal Wabbit, and no table"),
        (
            "a.txt",
            "1 2.5 'a |f price:.5 |w a house\n-1 'b|f price:2\n",
            "Vowpal Wabbit, and no table: write one row for each line",
        ),
        ("a.yaml", "- text: a\n  label: b\n", r"is YAML, and no table: write its rows as JSON lines \(yq"),
        ("a.txt", "- text: a\n  label: b\n", "is YAML, and no table"),
        ("a.toml", "[[row]]\ntext = 'a'\n", "is TOML, and no table"),
        ("a.tex", "\\begin{tabular}{ll}\ntext & label \\\\\n", "is LaTeX, and no table: write its rows as CSV"),
        ("a.xml", "<rows>\n<row><text>a</text></row>\n</rows>\n", "is HTML or XML, and no table"),
        (
            "a.bib",
            "@article{k1,\n  title = {a}\n}\n",
            "is a file of records of several lines, and no table: write one row for each",
        ),
        ("messages.txt", 'msgid ""\n"a"\nmsgstr "b"\n', "is translations of gettext, and no table: .* .po2csv"),
        ("a.po", '# of x\nmsgid "a"\nmsgstr "b"\n', "is translations of gettext, and no table"),
        ("a.tmx", "<?xml version='1.0'?>\n<tmx>\n<body>\n", "is a file of translations, and no table"),
        ("a.ini", "; x\n[film]\ntext = a\n", "is settings in sections, and no table: write one row for each"),
        ("a.txt", "[film]\ntext = a\n", "is settings in sections, and no table"),
        ("a.sdf", "m\n", "is molecules as atoms and bonds, and no table: write SMILES"),
        ("a.txt", "m\n  RDKit\n\n  1  0  0  0  0  0            999 V2000\n", "is molecules as atoms and bonds"),
        ("a.txt", "LOCUS       X 600 bp DNA\n", "is sequences with annotations, and no table: write them as FASTA"),
        ("a.por", f"{'ASCII SPSS PORT FILE':>60}\n", "is a portable file of SPSS"),
        ("contacts.vcf", "BEGIN:VCARD\nFN:Anna\nEND:VCARD\n", "is a file of records of several lines"),
        ("a.orc", "ORC\n\x06", "is an ORC file: write it as Parquet or CSV"),
        ("a.sql", "INSERT INTO t VALUES (1);\n", "is a dump of a database, and no table"),
        ("a.json", '{"train": [{"t": 1}, {"t": 2}], "test": [{"t": 1}, {"t": 2}]}', "'train' of 2 and 'test' of 2: to learn"),
        ("a.jsonl", '{"text": "a"}{"text": "b"}\n', "One object per line is expected: jq -c . a.jsonl > NEW.jsonl"),
        ("a.jsonl", '{"text": [["a", "N"]], "label": 1}\n' * 3, "name one value in it by its place, as in COLUMN.0"),
        ("a.jsonl", '{"text": "a b", "label": [[0, 9, "N"]]}\n' * 3, "write a list with a label for each word instead"),
        ("a.jsonl", '{"text": [{"a": "b"}, {}], "label": 1}\n' * 3, "as in COLUMN.KEY, or in a list COLUMN.0.KEY"),
    ],
)
def test_what_is_no_table_says_what_to_do(name: str, content: str, message: str) -> None:
    Path(name).write_text(content)
    with pytest.raises((DataError, UsageError), match=message):
        infer_spec(open_table(name), "text", "label")


@pytest.mark.parametrize("start", ["@anna{hi,", 'msgid "a",label', "BEGIN:VCARDS,label"])
def test_rows_that_begin_like_records_are_a_table(start: str) -> None:
    Path("t.csv").write_text(f"{start}\n" + "a film,good\n" * 3)
    assert len(list(open_table("t.csv").rows())) == 3


def test_variants_of_genes_are_a_table() -> None:
    content = "##fileformat=VCFv4.2\n##source=x\n#CHROM\tPOS\tREF\n" + "".join(f"1\t{i}\t{'ACGT'[i % 4]}\n" for i in range(40))
    assert read("t.vcf", content, ("#CHROM", "POS", "REF"))[:2] == [("1", "0", "A"), ("1", "1", "C")]


@pytest.mark.parametrize("name", ["-", "\u2013", "\u2014", "?", ".", "..", "...", "\u2026", ":"])
def test_signs_for_no_value_among_numbers(name: str) -> None:
    rows = "".join(f"{i / 4 if i % 4 else name},{i % 2}\n" for i in range(80))
    Path("t.csv").write_text("size,label\n" + rows, "utf-8")
    spec, _ = infer_spec(open_table("t.csv"), "size", "label")
    assert (spec.source.kind, len(read_pairs(open_table("t.csv"), spec))) == ("number", 60)
    Path("t.csv").write_text("size,label\n" + rows.replace(f"{name},", f"text {name},").replace(",1\n", f",{name}\n"), "utf-8")
    spec, _ = infer_spec(open_table("t.csv"), "size", "label:label")
    assert isinstance(spec.target, LabelColumn)
    assert name in spec.target.labels


def test_json_of_maps_and_of_old_line_ends() -> None:
    places = {"type": "FeatureCollection", "features": [{"properties": {"text": t, "label": v}} for t, v in ROWS]}
    assert read("t.geojson", json.dumps(places), ("properties.text", "properties.label")) == ROWS
    objects = "\r".join(json.dumps({"text": t, "label": v}) for t, v in ROWS)
    assert read("t.jsonl", objects, ("text", "label")) == ROWS


TINY = ("--threads", 1, "--steps", 1, "--hidden", 4, "--layers", 1, "--batch", 8, "--sample-length", 0)


def kinds_and_notes(rows: list[tuple[str, str]], caplog: pytest.LogCaptureFixture) -> tuple[str, str, str]:
    """Return the kinds of two columns, and what is told about them."""
    Path("t.jsonl").write_text("".join(json.dumps({"s": s, "t": t}) + "\n" for s, t in rows))
    with caplog.at_level(logging.INFO, "unrolled"):
        spec, _ = infer_spec(open_table("t.jsonl"), "s", "t")
    return spec.source.kind, spec.target.kind, "\n".join(caplog.messages)


@pytest.mark.parametrize(
    ("sources", "kind", "note"),
    [
        ([f"{i % 5}.{i % 12}" for i in range(100)], "number", "0.1 and 0.10 are one number; if they are two versions, say"),
        ([f"{i % 5}.50" for i in range(100)], "number", ""),
        ([f"{606101221 + i}{'X' if i % 11 == 0 else i % 10}" for i in range(100)], "text", ""),
        ([f"{950 + i % 50}" if i % 11 else "12k" for i in range(100)], "number", ""),
        (
            [f"a &amp; b &#39;{i}&#39;" for i in range(100)],
            "text",
            "100 of 100 values have signs as HTML writes them, as '&amp;'",
        ),
        ([f"AT&T; R&D {i}, a < b > c" for i in range(100)], "text", ""),
        ([f"if a <b> then List<A> x{i} = map<i>" for i in range(100)], "text", ""),
        ([f"a <a href='x{i}'>page</a>" for i in range(100)], "text", "100 of 100 values have tags of HTML, as '<a href="),
        ([f"one<br />two {i}" for i in range(100)], "text", "100 of 100 values have tags of HTML, as '<br />'"),
        (
            [f"caf\\u00e9 {i}" for i in range(100)],
            "text",
            "100 of 100 values have characters as programs write them, as '\\u00e9'",
        ),
        ([f"C:\\x86\\x64{i} [\\x00-\\x1f] [\\u4e00-\\u9fff]" for i in range(100)], "text", ""),
        ([f"caf%C3%A9 {i}" for i in range(100)], "text", "as web addresses write them, as '%C3%A9'"),
        ([f"\x1b[31mred\x1b[0m {i}" for i in range(100)], "text", "have colors of a terminal, which begin with U+001B"),
        ([f"\u05e9\u200f\u05dc {i}" for i in range(100)], "text", "cannot be seen, as U+200F"),
        ([f"co\u200dop {i}" for i in range(100)], "text", "cannot be seen, as U+200D"),
        ([f"\u0645\u06cc\u200c\u062e\u0648 {i}" for i in range(100)], "text", ""),
        (["\u0643\u0640\u0640\u062a", "\u0643\u062a"] * 50, "label", "stretched letters, with '\u0640'"),
        (["1.23E+12", "4.5E+13"] * 50, "label", "long numbers as Excel shows them, as '1.23E+12'"),
        (["1.23E+02", "4.5E-13"] * 50, "number", ""),
        (["TP53", "BRCA1", "2-Sep", "1-Mar", "KRAS"] * 20, "label", "40 of 100 values have dates, as Excel makes of names"),
        (["2-Sep", "1-Mar"] * 50, "label", ""),
        ([f"{5551000000 + 7919 * i}" for i in range(100)], "number", "all values have 10 digits; if they are codes"),
        ([f"{1700000000 + 60 * i}" for i in range(100)], "number", ""),
        ([f"{-5551000000 - 7919 * i}" for i in range(100)], "number", ""),
        ([f"{20240101 + i % 28}" for i in range(100)], "number", ""),
        ([f"{48 + i / 100:.4f}, {11 + i / 50:.4f}" for i in range(100)], "vector", ""),
        ([f"({48 + i / 100:.4f}, -{11 + i / 50:.4f})" for i in range(100)], "vector", ""),
        ([f"({1000 + i})" for i in range(100)], "text", "to have negative numbers, say s:number"),
        (
            ["a|b", "a", "b|c", "c", "a|b|c"] * 20,
            "label",
            "3 values are several labels, such as a|b, learned as one; to learn each",
        ),
        (["a, b", "a", "b, c", "c", "d"] * 20, "label", "str.get_dummies(',') of pandas"),
        (["A+", "A", "A-", "B+", "B"] * 20, "label", ""),
        (["1/5", "2/5", "5", "2"] * 25, "label", ""),
        (["New York, NY", "Rochester, NY", "Rome", "Rome, NY"] * 25, "label", ""),
        ([f"co\u00adop {i}" if i < 4 else f"coop {i}" for i in range(100)], "text", "4 of 100 values have characters that"),
        ([f"\U0001f468\u200d\U0001f469 {i}" for i in range(100)], "text", ""),
        ([f"dÃ©jÃ  {i}" for i in range(100)], "text", "100 of 100 values have UTF-8 that was read as Windows-1252, as 'Ã©'"),
    ],
)
def test_what_may_not_be_meant_is_reported(sources: list[str], kind: str, note: str, caplog: pytest.LogCaptureFixture) -> None:
    found = kinds_and_notes([(source, "ab"[i % 2]) for i, source in enumerate(sources)], caplog)
    assert found[:2] == (kind, "label")
    assert note in found[2] if note else not found[2]


@pytest.mark.parametrize(
    "values",
    [
        [f"{i % 12}:{i * 7 % 60:02d}" for i in range(100)],
        [f"{i % 12 + 1}:{i * 7 % 60:02d} {'AM' if i % 3 else 'PM'}" for i in range(100)],
        [f"{i % 12}h {i * 7 % 60}m" for i in range(100)],
        [f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}" for i in range(100)],
        [f"{i}\u00b10.5" for i in range(100)],
        [f"{i}-{i + 5}" for i in range(100)],
    ],
)
def test_times_and_dates_to_predict_are_reported(values: list[str], caplog: pytest.LogCaptureFixture) -> None:
    _, kind, notes = kinds_and_notes([(f"a film {i % 9}", value) for i, value in enumerate(values)], caplog)
    assert kind == "text"
    assert notes.startswith(f"'t': values such as {values[0]} are read as text; to have numbers, write one")
    caplog.clear()
    assert not kinds_and_notes([(value, "ab"[i % 2]) for i, value in enumerate(values)], caplog)[2]


@pytest.mark.parametrize("value", ["={}", "{}*x+2", "C{0}H{0}O2", "A{0} {0}B", "B-{}"])
def test_formulas_and_codes_to_predict_are_no_measures(value: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"a film {i % 9}", value.format(i)) for i in range(100)]
    assert kinds_and_notes(rows, caplog) == ("text", "text", "")


def test_a_label_that_occurs_once_beside_frequent_ones_is_named(caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"a film {i % 9}", "ab"[i % 2]) for i in range(40)]
    note = "'t': 'Total' occurs once, and every other label 10 times or more: is it a mistake?"
    assert kinds_and_notes([*rows, ("a film", "Total")], caplog)[2] == note
    caplog.clear()
    assert not kinds_and_notes([*rows, ("a film", "c"), ("a book", "c")], caplog)[2]


def test_questions_below_the_names_of_a_survey_are_no_row() -> None:
    rows = "".join(f"{1000 + i},{'yes' if i % 2 else 'no'},film {i},{'f' if i % 3 else 'm'}\n" for i in range(30))
    Path("t.csv").write_text("id,Q1,Q2,sex\nRespondent,Would you go again?,Why?,Your sex\n" + rows)
    spec, _ = infer_spec(open_table("t.csv"), "Q2", "Q1")
    assert isinstance(spec.target, LabelColumn)
    assert spec.target.labels == ["no", "yes"]
    Path("t.csv").write_text("id,Q1,Q2,sex\nunknown,no,Why?,x\n" + rows)
    assert len(list(open_table("t.csv").rows())) == 31


def test_rows_that_contradict_each_other_are_counted(cli: Cli) -> None:
    """Once, the best that any model could do was not told."""
    rows = [f"film {i % 25},{'good' if i < 40 or i % 5 else 'bad'}" for i in range(50)]
    Path("t.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    told = cli("train", "t.csv", "--source", "text", "--target", "label", *TINY).err
    assert "4 of 50 rows have a source that other rows have with another label: at most 0.960 of all rows can be" in told
    Path("t.csv").write_text("text,label\n" + "the same,good\nthe same,bad\n" * 20)
    assert "all rows have the same source" in cli("train", "t.csv", "--source", "text:text", "--target", "label", *TINY).err


def test_an_empty_cell_that_may_be_a_label_is_named(cli: Cli) -> None:
    Path("t.csv").write_text("text,done\n" + "".join(f"film {i},{'x' if i % 2 else ''}\n" for i in range(30)))
    run = cli("train", "t.csv", "--source", "text", "--target", "done", *TINY)
    assert run.code == 3
    assert "there is nothing to learn. If an empty cell is a value too, write one there." in run.err


def test_a_colon_in_the_name_of_a_column_is_part_of_it() -> None:
    Path("t.csv").write_text(",Q1: why,label\n" + "".join(f"{i},film {i},{'ab'[i % 2]}\n" for i in range(30)))
    spec, _ = infer_spec(open_table("t.csv"), "Q1: why", "label")
    assert (spec.source.name, spec.source.kind) == ("Q1: why", "text")
    assert infer_spec(open_table("t.csv"), "Unnamed: 0", "label")[0].source.kind == "number"


def test_subtotals_and_their_total_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"film {i}", str(i * i)) for i in range(20)]
    total = sum(i * i for i in range(20))
    kinds_and_notes(
        [*rows[:10], ("Subtotal", "285"), *rows[10:], ("Subtotal", f"{total - 285}"), ("Total", f"{total}")], caplog
    )
    assert (
        f"the last number, {total}, is half of the sum of the others; if it is a total, remove its row, and those"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.sav", b"$FL2@(#) SPSS" + bytes(300), "a file of SPSS"),
        ("a.dta", b"<stata_dta><header>" + bytes(300), "a file of Stata"),
        ("a.dta", bytes((114, 2, 1, 0)) + bytes(300), "a file of Stata: write it as CSV"),
        ("a.xpt", b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!" + bytes(300), "a file of SAS: write it as CSV"),
        ("a.feather", b"FEA1" + bytes(300), "a Feather file of version 1"),
        ("a.numbers", b"PK\x03\x04" + bytes(26) + b"Index/Document.iwa" + bytes(300), "of Apple's iWork: export it as CSV"),
        ("a.sas7bdat", bytes(12) + b"\xc2\xea\x81\x60" + bytes(300), "a file of SAS"),
        ("a.mat", b"MATLAB 5.0 MAT-file" + bytes(300), "a file of MATLAB"),
        ("a.avro", b"Obj\x01" + bytes(300), "an Avro file"),
        ("a.mobi", b"A Book".ljust(60, b"\0") + b"BOOKMOBI" + bytes(300), "an e-book"),
        ("a.bin", b"ABC1" + bytes(range(1, 90)) + bytes(300), "there is a NUL byte"),
    ],
)
def test_files_of_programs_are_no_texts_in_utf_32(name: str, content: bytes, what: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(DataError, match=what) as refused:
        open_table(name)
    assert "UTF-32" not in str(refused.value)


def test_few_chinese_words_are_not_taken_for_cyrillic() -> None:
    words = ["这", "是", "一部", "很", "好", "的", "电影", "结局", "不", "好"]
    text = "".join("".join(words[i % 7 : i % 7 + 3]) + "\n" for i in range(100))
    assert likely_encoding(text.encode("gb18030")) == "GB18030"
    assert likely_encoding("Москва, столица России.\n".encode("iso-8859-5") * 20) == "ISO-8859-5"


def test_books_with_a_license_and_notebooks_are_reported(cli: Cli) -> None:
    text = ("--seq-length", 16, *TINY)
    Path("book.txt").write_text("The eBook\n*** START OF THE PROJECT GUTENBERG EBOOK A ***\n" + "a line of it\n" * 50)
    assert "1 file of Project Gutenberg, whose license" in cli("train", "book.txt", *text).err
    Path("a.ipynb").write_text(json.dumps({"cells": [{"source": ["print(1)\n"]}] * 30, "nbformat": 4}))
    assert "1 notebook, learned as JSON, with outputs" in cli("train", "a.ipynb", *text).err
