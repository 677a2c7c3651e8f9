"""ARFF files, and folders and archives of files with one folder per label."""

import io
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unrolled
from support.cli import TINY_RUN, Cli
from unrolled.errors import DataError, UsageError
from unrolled.tables.table_files import Table, open_table
from unrolled.tables.table_format import TableFormat

ARFF = """\
% a comment
@RELATION 'a table'

@attribute 'the text' string
@attribute length   NUMERIC
@attribute kind{yes,'not sure', no}
@Attribute day date "yyyy-MM-dd"
@DATA
% another
'It\\'s here, now',3.5,yes,2026-01-01
"say \\"hi\\"",?,'not sure',?
 don't , 7 , no , "2026-01-02", {2.0}
{0 'only % this', 2 no}
"""
ROWS = [
    (10, {"the text": "It's here, now", "length": "3.5", "kind": "yes", "day": "2026-01-01"}),
    (11, {"the text": 'say "hi"', "length": None, "kind": "not sure", "day": None}),
    (12, {"the text": "don't", "length": "7", "kind": "no", "day": "2026-01-02"}),
    (13, {"the text": "only % this", "length": "0", "kind": "no", "day": None}),
]


def rows_of(table: Table) -> list[Any]:
    return list(table.rows())


@pytest.mark.parametrize("name", ["t.arff", "t.txt", "t.ARFF"])
def test_arff_as_weka_describes_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(ARFF)
    assert rows_of(open_table(str(tmp_path / name))) == ROWS
    (tmp_path / name).write_bytes(ARFF.replace("\n", "\r\n").encode("utf-8-sig"))
    assert rows_of(open_table(str(tmp_path / name))) == ROWS


def test_arff_with_what_scipy_reads(tmp_path: Path) -> None:
    """The same values as another reader of ARFF has."""
    arff = pytest.importorskip("scipy.io.arff")
    text = "@relation r\n@attribute a real\n@attribute b {x,y}\n@data\n1.5,x\n-2e3,y\n?,x\n"
    data, _ = arff.loadarff(io.StringIO(text))
    (tmp_path / "r.arff").write_text(text)
    rows = [row for _, row in rows_of(open_table(str(tmp_path / "r.arff")))]
    assert [row["b"] for row in rows] == [value.decode() for value in data["b"]]
    np.testing.assert_array_equal([float(row["a"] or "nan") for row in rows], data["a"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no @data line"),
        ("@relation r\n@attribute a real\n", "has no @data line, .* the file is cut or no ARFF file"),
        ("@relation r\n@data\n1\n", "line 2: @data without an @attribute"),
        ("@relation r\n@attribute a\n@data\n", "line 2: an attribute with its type"),
        ("@relation r\n@attribute a real\n@attribute 'a' real\n", "line 3: there are two attributes 'a'"),
        ("@relation r\n@attribute a {x,y\n", "line 2: the values of 'a' begin with"),
        ("@relation r\n@attribute a relational\n", "line 2: the type 'relational' of 'a' is not read; numeric, real"),
        ("@relation r\nsome text\n", "line 2: 'some text' is not expected before @data"),
        (
            "@relation r\n@attribute a real\n@attribute b real\n@data\n1,2\n3\n",
            "line 6: 1 value between commas, and 2 attributes",
        ),
        ("@relation r\n@attribute a real\n@data\n1,2\n", "line 4: 2 values between commas, and 1 attribute before"),
        ("@relation r\n@attribute a string\n@data\n'no end\n", 'line 4: a quote in "\'no end" has no end'),
        ("@relation r\n@attribute a {x,y}\n@data\nz\n", "line 4: 'z' is no value of 'a'; its values are x, y"),
        ("@relation r\n@attribute a real\n@data\n{1 2}\n", "line 4: '1 2' is no INDEX VALUE of 1 attribute"),
        ("@relation r\n@attribute a real\n@data\n{0 2\n", "line 4: a sparse row .* the file is cut here"),
        ("@relation r\n@attribute a real\n@data\n", "has no rows"),
    ],
)
def test_what_is_no_arff_is_refused_with_its_line(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "t.arff").write_text(text)
    with pytest.raises(DataError, match=expected):
        rows_of(open_table(str(tmp_path / "t.arff")))


def write_reviews(folder: Path, count: int = 12) -> Path:
    for label in ("good", "bad", ".cache"):
        (folder / label / "more").mkdir(parents=True)
        for number in range(count):
            word = {"good": "fine", "bad": "poor"}.get(label, "never")
            place = folder / label / ("more" if number % 2 else "")
            (place / f"{number:02}.txt").write_bytes(f"a {word} film,\r\nnumber {number}\r\n".encode())
    (folder / "readme.txt").write_text("about")
    (folder / "good" / "empty.txt").write_text("")
    (folder / "good" / "noise.bin").write_bytes(bytes(20))
    return folder


def test_a_folder_with_one_folder_a_label_is_a_table(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path / "reviews")
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "a.txt").write_text("no review")
    table = open_table(str(folder))
    assert table.columns == ("text", "label", "file")
    rows = rows_of(table)
    assert [number for number, _ in rows] == list(range(1, 25))
    assert rows[0][1] == {"text": "a poor film,\nnumber 0", "label": "bad", "file": "bad/00.txt"}
    assert {row["label"] for _, row in rows} == {"good", "bad"}
    assert rows[-1][1]["file"] == "good/more/11.txt"
    assert table.notes == (
        f"{tmp_path / 'reviews'}: 24 files, in 2 folders that are labels",
        "2 files left out that are empty or no text",
        "1 file left out that is in no folder of a label",
        f"{folder}: 2 folders left out (runs, hidden, or of other programs; name one to read it): .cache, node_modules",
    )
    before = table.digest()
    os.rename(tmp_path / "reviews" / "good", tmp_path / "reviews" / "great")
    assert open_table(str(tmp_path / "reviews")).digest() != before


@pytest.mark.parametrize("has_top", [True, False])
def test_a_zip_of_such_a_folder_is_the_same_table(has_top: bool, tmp_path: Path) -> None:
    folder = write_reviews(tmp_path / "reviews")
    (folder / "readme.txt").unlink()
    names = sorted(path for path in folder.rglob("*.*") if path.is_file())
    with zipfile.ZipFile(tmp_path / "r.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in names:
            archive.write(path, path.relative_to(tmp_path if has_top else folder))
    table, other = open_table(str(tmp_path / "r.zip")), open_table(str(folder))
    assert table.columns == other.columns
    values = [[(row["text"], row["label"]) for _, row in rows_of(one)] for one in (table, other)]
    assert values[0] == values[1]
    assert "2 files left out that are empty or no text" in table.notes


def test_archives_that_are_no_table_of_files(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "x,y\n1,2\n")
        archive.writestr("b.csv", "x,y\n1,2\n")
    with pytest.raises(DataError, match="a zip archive of 2 files, and one is expected"):
        open_table(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.bin", b"\0\1")
        archive.writestr("b/1.bin", b"\0\2")
    with pytest.raises(DataError, match="has no text among its 2 files"):
        open_table(str(path))
    path.write_bytes(b"PK\3\4 and no archive")
    with pytest.raises(DataError, match="t.zip is damaged"):
        open_table(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.txt", "caf\u00e9 au lait".encode("windows-1252"))
        archive.writestr("b/1.txt", "tea")
    with pytest.raises(DataError, match=r"t.zip/a/1.txt is not UTF-8: It looks like WINDOWS-1252. Read it with encoding="):
        rows_of(open_table(str(path)))
    table = open_table(str(path), format=TableFormat(encoding="windows-1252"))
    assert [row["text"] for _, row in rows_of(table)] == ["caf\u00e9 au lait", "tea"]


def test_a_folder_without_labels_wrong_encodings_and_options(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    with pytest.raises(
        DataError, match=r"texts has no files: texts in one folder per label are expected, as in texts/LABEL/1.txt"
    ):
        open_table(str(folder))
    (folder / "a.txt").write_bytes("caf\u00e9 au lait".encode("windows-1252"))
    table = open_table(str(folder))
    assert table.columns == ("text", "file")
    with pytest.raises(DataError, match=r"a.txt is not UTF-8: byte 0xe9 .* It looks like WINDOWS-1252"):
        rows_of(table)
    (folder / "a.txt").write_text("caf\u00e9", "utf-16")
    with pytest.raises(DataError, match="a.txt is .*UTF-16"):
        rows_of(open_table(str(folder)))
    table = open_table(str(folder), format=TableFormat(encoding="utf-16"))
    with pytest.raises(UsageError, match="has no column 'label'. Its columns: text, file"):
        table.find_column("label")
    assert rows_of(table)[0][1]["text"] == "caf\u00e9"
    with pytest.raises(UsageError, match="header= is for files with columns"):
        open_table(str(folder), format=TableFormat("none"))


@pytest.mark.slow
def test_training_and_prediction_from_a_folder(tmp_path: Path, cli: Cli) -> None:
    folder = write_reviews(tmp_path / "reviews", 40)
    run = tmp_path / "run"
    done = cli("train", folder, "--source", "text", "--target", "label", "--steps", 30, "--out", run, *TINY_RUN)
    assert done.code == 0, done.err
    assert "80 files, in 2 folders that are labels" in done.err
    assert cli("eval", run, folder).code == 0
    predicted = cli("predict", run, folder)
    assert predicted.code == 0
    assert predicted.out.splitlines()[0] == "text,label,file,predicted,probability"
    learned = cli("train", folder, "--source", "text", "--steps", 2, "--out", tmp_path / "texts", *TINY_RUN)
    assert learned.code == 0
    model = unrolled.load_table(run)
    assert "accuracy" in model.evaluate(str(folder)).to_text()


def test_a_folder_of_images_gives_their_paths(tmp_path: Path) -> None:
    for label, gray in (("dark", 10), ("light", 240)):
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.fromarray(np.full((4, 4), gray + number, np.uint8)).save(tmp_path / label / f"{number}.png")
    table = open_table(str(tmp_path))
    assert table.columns == ("label", "file")
    line, row = rows_of(table)[0]
    assert row == {"label": "dark", "file": "dark/0.png"}
    assert table.cell(line, row, "file").folder == tmp_path


def test_a_zip_made_by_another_program(tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews", 3)
    if subprocess.run(["python3", "-m", "zipfile", "-c", "r.zip", "reviews"], cwd=tmp_path, check=False).returncode:
        pytest.skip("there is no other program that writes archives")
    table = open_table(str(tmp_path / "r.zip"))
    assert {row["label"] for _, row in rows_of(table)} >= {"good", "bad"}


def test_parquet_in_an_archive_and_under_any_name(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"t": ["a", "b"], "n": [1.5, None]}), tmp_path / "t.parquet")
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.write(tmp_path / "t.parquet", "t.parquet")
    (tmp_path / "data").write_bytes((tmp_path / "t.parquet").read_bytes())
    for name in ("t.parquet", "t.zip", "data"):
        assert rows_of(open_table(str(tmp_path / name))) == [(1, {"t": "a", "n": 1.5}), (2, {"t": "b", "n": None})]
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "data").read_bytes()[:-20])
    with pytest.raises(DataError, match="cut.parquet is not a valid Parquet file"):
        open_table(str(tmp_path / "cut.parquet"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["text,label\nwe sing,a\nwe do,b\n", "text,label\ncaf\u00e9,a\nth\u00e9,b\n"])
def test_utf_16_without_a_mark_is_named(encoding: str, text: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    name = encoding[:6] + encoding[7:]
    with pytest.raises(DataError, match=f"It looks like {name.upper()}. Read it with encoding='{name}'"):
        rows_of(open_table(str(tmp_path / "t.csv")))
    assert len(rows_of(open_table(str(tmp_path / "t.csv"), format=TableFormat(encoding=name)))) == 2
    refused = cli("train", tmp_path / "t.csv", "--steps", 1, "--out", tmp_path / "run", *TINY_RUN)
    assert f"It looks like {name.upper()}" in refused.err
    (tmp_path / "nul.csv").write_bytes(b"text,label\na b,c\n\0d,e\n")
    with pytest.raises(DataError, match=r"nul.csv, line 3: there is a NUL byte, .* else name its encoding="):
        open_table(str(tmp_path / "nul.csv"))
