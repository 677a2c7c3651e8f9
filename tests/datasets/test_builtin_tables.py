"""The built-in tables: parts without overlap, the same rows every time, and one answer for each row."""

import datetime
import functools
import hashlib
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest

from unrolled.datasets import cldr, glyphs
from unrolled.datasets.formal_languages import LANGUAGES
from unrolled.datasets.tables import TABLES, Row, token_classes
from unrolled.errors import DataError

pytestmark = pytest.mark.xdist_group("builtin-tables")  # the tests of this module share the tables

SIZES = {  # least number of rows
    "digits": (1_400, 350), "glyphs": (10_000, 900), "languages": (24_000, 2_400), "dates": (60_000, 3_000),
    "python-tokens": (3_900, 490),
    **dict.fromkeys(LANGUAGES, (2_000, 290)),
}  # fmt: skip
NUM_DIGESTED = 2000
"""Rows of each table that are compared with those of another process."""

DIGESTS = """
import hashlib, itertools
NUM_DIGESTED = 2000
from unrolled.datasets.tables import TABLES
for name, table in TABLES.items():
    total = hashlib.sha256()
    for part in ("train", "test"):
        for row in itertools.islice(table.rows(part), NUM_DIGESTED):
            total.update(repr([cell if isinstance(cell, (str, list)) else cell.tobytes() for cell in row.values()]).encode())
    print(name, total.hexdigest())
"""


def plain(cell: object) -> object:
    return cell.tobytes() if isinstance(cell, np.ndarray) else tuple(cell) if isinstance(cell, list) else cell


@functools.cache
def both(name: str) -> tuple[list[Row], list[Row]]:
    return list(TABLES[name].rows("train")), list(TABLES[name].rows("test"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_rows_have_the_described_columns_and_types(name: str) -> None:
    table = TABLES[name]
    for part, least in zip(both(name), SIZES[name], strict=True):
        assert len(part) >= least
        assert all(tuple(row) == table.columns for row in part)
    kinds = dict(spec.split(":") for spec in (table.source, table.target))
    assert set(kinds) <= set(table.columns)
    types = {"text": str, "label": str, "labels": list, "image": np.ndarray}
    for row in both(name)[0]:
        assert all(isinstance(row[column], types[kind]) for column, kind in kinds.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_train_and_test_have_no_row_in_common(name: str) -> None:
    (source, _), (target, kind) = TABLES[name].source.split(":"), TABLES[name].target.split(":")
    train, test = both(name)
    pairs = [{(plain(row[source]), plain(row[target])) for row in part} for part in (train, test)]
    assert not pairs[0] & pairs[1]
    if name != "glyphs":  # whose parts differ by font; a full stop looks the same in many
        assert not {one for one, _ in pairs[0]} & {one for one, _ in pairs[1]}
    if kind == "label" or name == "glyphs":
        assert {answer for _, answer in pairs[1]} <= {answer for _, answer in pairs[0]}


@pytest.mark.slow
def test_rows_are_the_same_in_another_process() -> None:
    """Its sets have another order, which must not change the rows."""
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    other = subprocess.Popen([sys.executable, "-c", DIGESTS], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    here = []
    for name in TABLES:
        total = hashlib.sha256()
        for part in both(name):
            for row in part[:NUM_DIGESTED]:
                cells = [cell if isinstance(cell, str | list) else cell.tobytes() for cell in row.values()]
                total.update(repr(cells).encode())
        here.append(f"{name} {total.hexdigest()}")
    there, errors = other.communicate()
    assert there.decode().splitlines() == here, errors.decode()


@pytest.mark.parametrize("name", TABLES)
def test_changing_a_row_does_not_change_the_table(name: str) -> None:
    row = next(TABLES[name].rows("test"))
    before = [plain(cell) for cell in row.values()]
    for column, cell in row.items():
        if isinstance(cell, np.ndarray):
            cell[...] = 0
        elif isinstance(cell, list):
            cell.clear()
        else:
            row[column] = ""
    assert [plain(cell) for cell in next(TABLES[name].rows("test")).values()] == before


@pytest.mark.parametrize(("name", "module"), [("digits", "sklearn.datasets"), ("glyphs", "PIL"), ("dates", "babel")])
def test_a_missing_package_is_named(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"package \S+, which is not installed: pip install 'unrolled\[data\]'") as error:
        TABLES[name].rows("train")
    assert TABLES[name].needs in str(error.value)


def test_packages_are_imported_lazily() -> None:
    code = "import sys, unrolled.datasets.tables; print(*{'sklearn', 'babel', 'PIL', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode().strip() == ""


def test_digits() -> None:
    train, test = both("digits")
    for row in train + test:
        assert row["picture"].shape == (8, 8)
        assert row["picture"].dtype == np.uint8
    assert max(row["picture"].max() for row in train) == 255
    counts = [Counter(row["digit"] for row in part) for part in (train, test)]
    assert sorted(counts[0]) == sorted(counts[1]) == list("0123456789")
    assert all(0.18 < counts[1][digit] / (counts[0][digit] + counts[1][digit]) <= 0.2 for digit in "0123456789")


def test_glyphs_are_images_of_named_characters() -> None:
    train, test = both("glyphs")
    for row in train + test:
        assert row["picture"].shape == (glyphs.IMAGE_SIZE, glyphs.IMAGE_SIZE)
        assert row["picture"].dtype == np.uint8
        assert row["picture"].any()
        assert unicodedata.lookup(row["name"])
    names = {row["name"] for row in train}
    assert {"latin small letter a", "greek small letter omega", "cyrillic capital letter zhe", "digit seven"} <= names
    assert not {"greek capital letter alpha", "cyrillic capital letter a"} & names, "both look like a Latin A"


def test_no_font_family_is_in_both_parts_of_glyphs() -> None:
    parts = glyphs._splits()
    families = {part: {face.family for face in faces} for part, faces in parts.items()}
    assert not families["train"] & families["test"]
    assert len(families["test"]) == 1
    assert len(families["train"]) >= 2
    fonts = Counter(character for own in parts["train"].values() for character in own)
    assert all(fonts[character] for own in parts["test"].values() for character in own)


def test_capitals_are_taller_and_descenders_lower_than_small_letters() -> None:
    face = next(iter(glyphs._splits()["test"]))
    own = glyphs._draw_chars(face, "Hxp,'")
    rows = {character: np.flatnonzero(picture.max(1) > 60) for character, picture in own.items()}
    assert rows["H"][0] < rows["x"][0] == rows["p"][0]
    assert abs(int(rows["H"][-1]) - int(rows["x"][-1])) <= 1
    assert rows["p"][-1] > rows["x"][-1] + 2
    assert rows[","][0] > rows["'"][-1]


def test_too_few_fonts_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "_font_files", lambda: iter([("", 0), ("/nowhere.ttf", 0)]))
    with pytest.raises(DataError, match="at least 3 families .* has 1: install .*fonts-dejavu-core"):
        glyphs._select_faces()


def test_a_name_belongs_to_one_language() -> None:
    train, test = both("languages")
    owners: dict[str, set[str]] = {}
    for row in train + test:
        owners.setdefault(row["name"].casefold(), set()).add(row["language"])
    assert len(owners) == len(train) + len(test)
    assert len({row["language"] for row in train}) == 30
    expected = {"Königreich": None, "Deutschland": "German", "неділя": "Ukrainian", "日本語": None, "dimanche": "French"}
    for name, language in expected.items():
        assert language is None or owners[name.casefold()] == {language}


def test_a_date_text_has_one_answer() -> None:
    train, test = both("dates")
    answers: dict[str, set[str]] = {}
    for row in train + test:
        answers.setdefault(row["written"], set()).add(row["iso"])
    assert all(len(isos) == 1 for isos in answers.values())
    assert not {row["iso"] for row in train} & {row["iso"] for row in test}
    assert {row["locale"] for row in test} <= {row["locale"] for row in train}
    assert len({row["locale"] for row in train}) > 300


def test_dates_contain_their_day_and_year() -> None:
    for row in [row for part in both("dates") for row in part]:
        day = datetime.date.fromisoformat(row["iso"])
        numbers = [int(number) for number in re.findall("[0-9]+", row["written"])]
        assert 1900 <= day.year < 2100
        assert day.year in numbers
        assert day.day in numbers
        if len(numbers) == 3 and not any(letter.isalpha() for letter in row["written"]):
            a, b = (number for number in numbers if number != day.year)
            assert numbers[0] == day.year or max(a, b) > 12 or a == b, row
        assert "listopada" not in row["written"], "October in Croatian, November in Polish"


@pytest.mark.parametrize(
    ("locale", "width", "written"),
    [
        ("de", "long", "15. Juni 1969"),
        ("en", "full", "Sunday, June 15, 1969"),
        ("fr", "medium", "15 juin 1969"),
        ("ja", "long", "1969年6月15日"),
        ("ru", "long", "15 июня 1969\u202fг."),
    ],
)
def test_date_formats_are_those_of_the_locale(locale: str, width: str, written: str) -> None:
    day = datetime.date(1969, 6, 15)
    assert written.replace("\u202f", " ") in {style.format(day).replace("\u202f", " ") for style in cldr._date_styles()}
    own = [style for style in cldr._date_styles() if (str(style.locale), style.width) == (locale, width)]
    assert all(style.format(day).replace("\u202f", " ") == written.replace("\u202f", " ") for style in own)


SHORT = {
    "k": "keyword",
    "n": "name",
    "0": "number",
    "s": "string",
    "#": "comment",
    "+": "operator",
    "_": "space",
    "/": "newline",
}


@pytest.mark.parametrize(
    ("code", "classes"),
    [
        ("if x: # y\n  pass\n", "kk_n+_###/__kkkk/"),
        ('a = """b\n""" + \\\n  1.5', "n_+_sssssssss".replace("sssssssss", "s" * 8) + "_+_+/__000"),
        ('f"a{b!r:{c}} {{"+d', "s" * 16 + "+n"),
        ("match = None\n\n\tx", "nnnnn_+_kkkk//_n"),
        ("", ""),
    ],
)
def test_token_classes(code: str, classes: str) -> None:
    assert token_classes(code)[0] == [SHORT[letter] for letter in classes]


def test_every_character_of_code_has_a_class() -> None:
    train, test = both("python-tokens")
    seen = set()
    for row in train + test:
        code, classes = row["code"], row["classes"]
        assert len(code) == len(classes)
        assert 200 <= len(code) <= 400
        assert code[0] != "\n"
        assert not code[-1].isspace()
        seen |= set(classes)
        for character, kind in zip(code, classes, strict=True):
            assert character != "\n" or kind in {"newline", "string"}
            assert kind not in {"space", "newline"} or character.isspace()
    assert seen == set(SHORT.values())


def test_a_piece_of_code_has_the_same_classes_without_its_file() -> None:
    """It consists of full statements, so the code before it is not needed."""
    for row in both("python-tokens")[1]:
        indent = len(row["code"]) - len(row["code"].lstrip(" "))
        opening = "".join(f"{' ' * column}if x:\n" for column in range(0, indent))  # so that any dedent is valid
        assert token_classes(opening + row["code"])[0][len(opening) :] == row["classes"]
