"""Names of columns as strangers choose them, in every place where a column is named."""

import csv
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import unrolled
from support.cli import Cli
from unrolled.errors import UsageError
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table
from unrolled.tables.table_format import TableFormat

NAMES = (
    "a:b", "A:B,C", "a,b", " lead", "trail ", 'q"u"o', "line\nend", "text", "label:text", "regex:x", "a:label:b", "-1",
    "--help", "NA", "a.b", "a|b", "=x", "a\tb", unicodedata.normalize("NFD", "Prix é"),
)  # fmt: skip
TINY = ("--threads", 1, "--steps", 1, "--hidden", 4, "--layers", 1, "--batch", 8, "--sample-length", 0)


def write(path: str, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_source_and_a_target(name: str) -> None:
    rows = [(f"{'nice' if i % 2 else 'dull'} film {i % 7}", "good" if i % 2 else "bad") for i in range(40)]
    for header in ((name, "other"), ("other", name)):
        write("t.csv", header, rows)
        spec, _ = infer_spec(open_table("t.csv"), *header)
        assert (spec.source.name, spec.target.name) == (open_table("t.csv").columns[0], open_table("t.csv").columns[1])
        assert (spec.source.kind, spec.target.kind) == ("text", "label")
        said, _ = infer_spec(open_table("t.csv"), f"{header[0]}:words", f"{header[1]}:text")
        assert said.target.kind == "text"


def test_a_name_that_is_there_wins_over_a_kind() -> None:
    write("t.csv", ("a", "a:label", "y"), [(f"text {i}", i % 3, i % 2) for i in range(40)])
    assert infer_spec(open_table("t.csv"), "a:label", "y")[0].source.name == "a:label"
    assert infer_spec(open_table("t.csv"), "a:words", "y")[0].source.name == "a"
    for wrong in ("a:wrods", "z:wrods"):
        with pytest.raises(UsageError, match="no kind 'wrods'; did you mean 'words'"):
            infer_spec(open_table("t.csv"), wrong, "y")


def test_names_with_signs_in_every_flag(cli: Cli) -> None:
    """Series, texts of one column and `--header` name columns, too."""
    steps = [(f"g{i // 30}", i % 30, i % 7 + 0.5, i % 5) for i in range(120)]
    write("long.csv", ("g:a", "t,i", "x:b", "y"), steps)
    cli(
        "train",
        "long.csv",
        "--source",
        "x:b:numbers",
        "--group-by",
        "g:a",
        "--order-by",
        "t,i",
        "--horizon",
        2,
        *TINY,
        "--out",
        "s",
    )
    assert cli("predict", "s", "long.csv").out.splitlines()[0].startswith("g:a,")
    write("one.csv", ("a:b", "n"), [(f"a nice film {i % 7}", i) for i in range(60)])
    assert "learns to write like 'a:b'" in cli("train", "one.csv", "--source", "a:b", *TINY, "--out", "w").err
    Path("lines.txt").write_text("one line\n" * 60)
    refused = cli("train", "lines.txt", "--source", "a:wrods", *TINY, "--out", "no")
    assert refused.code == 2
    assert "no kind 'wrods'" in refused.err
    Path("bare.csv").write_text("".join(f"a nice film {i % 7},{i % 2}\n" for i in range(40)))
    table = open_table("bare.csv", format=TableFormat('a:b,"c,d"'))
    spec, _ = infer_spec(table, "a:b", "c,d")
    assert (spec.source.name, spec.target.name) == ("a:b", "c,d")


def test_the_same_names_in_python() -> None:
    table = {
        "a:b": [f"{'nice' if i % 2 else 'dull'} film" for i in range(40)],
        "c,d": ["x" if i % 2 else "y" for i in range(40)],
    }
    settings: dict[str, Any] = {"steps": 1, "hidden": 4, "layers": 1, "batch": 8, "threads": 1}
    model = unrolled.train_table(table, source="a:b", target="c,d", **settings)
    assert set(model.predict(["nice film"])) <= {"x", "y"}
