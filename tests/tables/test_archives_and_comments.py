"""Tables in archives beside files that describe them, comments in JSON, Excel's texts of digits, encodings in seven bits."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from support.cli import Cli
from unrolled.errors import DataError
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table
from unrolled.tables.table_format import TableFormat

TINY = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 8, "--sample-length", 0)
ROWS = [(f"{'nice' if i % 2 else 'dull'} film {i}", "good" if i % 2 else "bad") for i in range(20)]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)
OBJECTS = [json.dumps({"text": text, "label": label}) for text, label in ROWS]


def zip_of(name: str, files: dict[str, str | bytes]) -> str:
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    return name


def rows_of(name: str, encoding: str | None = None) -> list[tuple[str, str]]:
    return [(str(row["text"]), str(row["label"])) for _, row in open_table(name, format=TableFormat(encoding=encoding)).rows()]


@pytest.mark.parametrize(
    ("member", "content", "others"),
    [
        ("films.csv", CSV, ["README.md", "LICENSE"]),
        ("data/films.tsv", CSV.replace(",", "\t"), ["data/readme.txt", "data/Licence.txt", "CITATION.cff.md"]),
        ("SMSSpamCollection", CSV.replace(",", "\t"), ["readme"]),
        ("films.data", CSV, ["films.names", "Index"]),
        ("films.jsonl", "\n".join(OBJECTS), ["README_films.pdf", "metadata.json"]),
    ],
)
def test_the_table_beside_files_that_describe_it_is_read(member: str, content: str, others: list[str]) -> None:
    zip_of("films.zip", {member: content, **dict.fromkeys(others, "About the films, their years, and so on.\n")})
    assert rows_of("films.zip") == ROWS
    assert f"films.zip: {member} is read; left out: {', '.join(sorted(others))}" in open_table("films.zip").notes


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress,
}  # fmt: skip


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_compressed_table_in_an_archive_is_read(suffix: str) -> None:
    assert rows_of(zip_of("a.zip", {f"films.csv{suffix}": COMPRESSORS[suffix](CSV.encode()), "README": "x"})) == ROWS
    assert rows_of(zip_of("a.csv.zip", {f"films.csv{suffix}": COMPRESSORS[suffix](CSV.encode())})) == ROWS
    with pytest.raises(DataError, match="is damaged"):
        rows_of(zip_of("b.zip", {f"films.csv{suffix}": COMPRESSORS[suffix](CSV.encode() * 99)[:60]}))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.csv": CSV, "test.csv": CSV, "README.md": "x"}, "is a zip archive of 2 files, and one is expected: unzip it."),
        ({"films.csv": CSV, "1.png": b"\x89PNG\r\n\x1a\n"}, "has tables among other files, such as films.csv: unzip it"),
        ({"a.zip": b"PK\x03\x04"}, "has a zip archive in it, a.zip: unzip it."),
        ({}, "is a zip archive of 0 files"),
    ],
)
def test_other_archives_are_refused(files: dict[str, str | bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_table(zip_of("a.zip", files))


def test_texts_in_folders_of_labels_stay_a_table(tmp_path: Path) -> None:
    zip_of("a.zip", {"good/1.txt": "nice", "bad/1.txt": "dull", "README.md": "x", "LICENSE": "y"})
    assert rows_of("a.zip") == [("dull", "bad"), ("nice", "good")]


@pytest.mark.parametrize("name", ["t.jsonl", "t.txt", "t.json"])
@pytest.mark.parametrize("sign", ["//", "#", "  // "])
def test_comments_in_json_are_left_out_and_reported(name: str, sign: str) -> None:
    comment = f"{sign} of a tool: {{}}\n"
    Path(name).write_text(comment + "\n".join(OBJECTS[:3]) + f"\n{comment}" + "\n".join(OBJECTS[3:]) + "\n", "utf-8")
    assert rows_of(name) == ROWS
    assert open_table(name).notes == (f"{name}: lines that begin with // or # are comments, and left out",)
    Path(name).write_text(f"{comment}[\n" + ",\n".join(OBJECTS) + f"\n{comment}]\n", "utf-8")
    assert rows_of(name) == ROWS


def test_signs_of_comments_in_values_are_part_of_them() -> None:
    Path("t.json").write_text(json.dumps([{"text": "http://a.b\n// no\n# no", "label": "#1"}] * 3, indent=1))
    assert rows_of("t.json") == [("http://a.b\n// no\n# no", "#1")] * 3


@pytest.mark.parametrize("end", [",\n", "\n\x1e", ",\r\n"])
def test_objects_with_a_comma_or_a_record_separator_between_them_are_rows(end: str) -> None:
    Path("t.jsonl").write_text("\x1e" * ("\x1e" in end) + end.join(OBJECTS) + "\n", newline="")
    assert rows_of("t.jsonl") == ROWS


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_texts_of_digits_as_excel_writes_them_keep_their_zeros(quoted: bool, suffix: str, cli: Cli) -> None:
    separator = "\t" if suffix == "tsv" else ","
    cells = [f'="{i:05}"' for i in range(40)]
    cells = ['"' + cell.replace('"', '""') + '"' for cell in cells] if quoted else cells
    rows = "".join(f"{cell}{separator}{'ab'[i % 2]}\n" for i, cell in enumerate(cells))
    Path(f"t.{suffix}").write_text(f"code{separator}label\n{rows}")
    table = open_table(f"t.{suffix}")
    assert [row["code"] for _, row in table.rows()] == [f"{i:05}" for i in range(40)]
    assert table.notes[-1:] == (f't.{suffix}: cells such as ="00000" are read as the text in quotes',)
    assert infer_spec(table, "code", "label")[0].source.kind == "text"
    if suffix == "csv":
        assert cli("train", "t.csv", "--source", "code", "--target", "label", *TINY, "--out", "r").code == 0
        assert cli("predict", "r", "t.csv").out.splitlines()[2].startswith("00001,b,")


def test_other_formulas_and_attributes_stay_as_they_are() -> None:
    Path("t.csv").write_text('text,label\n=1+1,a\n="x" & "y",b\n"<a href=""#"">x</a>",a\n="say ""x""",b\n=,a\n="a,b\n')
    assert [text for text, _ in rows_of("t.csv")] == ["=1+1", '="x" & "y"', '<a href="#">x</a>', 'say "x"', "=", '="a']


JAPANESE, KOREAN, CHINESE = "映画はとても良い", "영화는 아주 좋다", "电影很好看"
SEVEN_BIT = [
    ("iso-2022-jp", JAPANESE),
    ("iso-2022-kr", KOREAN),
    ("utf-7", KOREAN),
    ("utf-7", "très déçu, à côté"),
    ("hz", CHINESE),
]


@pytest.mark.parametrize(("encoding", "text"), SEVEN_BIT)
def test_encodings_in_seven_bits_are_named_with_the_command_that_reads_them(encoding: str, text: str, cli: Cli) -> None:
    Path("t.csv").write_bytes(f'text,label\n"{text}",good\n'.encode(encoding))
    with pytest.raises(DataError, match=rf"t.csv is {encoding.upper()}, .* Read it with encoding='{encoding}', or convert it"):
        open_table("t.csv")
    assert rows_of("t.csv", encoding) == [(text, "good")]
    Path("book.txt").write_bytes((text + "\n").encode(encoding) * 3)
    told = cli("train", "book.txt", "--steps", 1)
    assert told.code == 3
    assert f"book.txt is {encoding.upper()}, and UTF-8 is expected. Read it with --encoding {encoding}" in told.err
    Path("folder/good").mkdir(parents=True)
    Path("book.txt").rename("folder/good/1.txt")
    with pytest.raises(DataError, match=f"is {encoding.upper()}, and UTF-8 is expected"):
        list(open_table("folder").rows())


@pytest.mark.parametrize(
    "text",
    ["1+1=2, a+b, C++11-style, x+y+z", "\x1b[31mred\x1b[0m", "+import os\n+from x import y\n", "~{a}~", "+49-123 +44 +33"],
)
def test_plain_texts_with_their_signs_are_read(text: str) -> None:
    Path("t.jsonl").write_text(json.dumps({"text": text, "label": "a"}, ensure_ascii=False) + "\n")
    Path("t.csv").write_text(f'text,label\n"{text}",a\n')
    assert rows_of("t.jsonl") == rows_of("t.csv") == [(text, "a")]
