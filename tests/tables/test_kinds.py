"""The kinds of columns, decided by nearly all of their cells, and what happens to the others: the right values."""

import json
import logging
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unrolled
from support.cli import Cli
from support.tables import write_csv, write_jsonl
from unrolled.errors import DataError, UsageError
from unrolled.tables.cell_values import Cell, parse_array, parse_number, to_number, with_decimal_points
from unrolled.tables.columns import column_from_json, column_to_json
from unrolled.tables.label_columns import LabelColumn
from unrolled.tables.numeric_columns import NumberColumn, VectorColumn
from unrolled.tables.pair_batching import read_pairs
from unrolled.tables.spec import TableSpec
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table
from unrolled.tables.text_column import TextColumn

TINY: dict[str, Any] = {
    "steps": 3, "hidden": 8, "layers": 1, "batch": 8, "threads": 1, "sample_length": 0, "progress": False,
}  # fmt: skip
NAMES = ["ann", "bob", "cem", "dee"]


def spec_of(rows: list[dict[str, Any]], source: str = "s", target: str = "t", tokens: str | None = None) -> TableSpec:
    return infer_spec(open_table(str(write_jsonl(Path("t.jsonl"), rows))), source, target, tokens)[0]


def kinds_of(sources: list[Any], targets: list[Any]) -> tuple[str, str]:
    spec = spec_of([{"s": source, "t": target} for source, target in zip(sources, targets, strict=True)])
    return spec.source.kind, spec.target.kind


@pytest.mark.slow
@pytest.mark.parametrize(
    "odd", ["inf", "-Infinity", "1e300", "1e39", "-4e38", "abc", "1_000", [1.0, 2.0], {"a": 1}, float("inf"), 10**400]
)
def test_one_odd_cell_leaves_a_column_of_numbers_what_it_is(odd: Any, caplog: pytest.LogCaptureFixture) -> None:
    write_jsonl(Path("t.jsonl"), [{"s": f"flat {i}", "t": i * 1.5} for i in range(50)] + [{"s": "flat x", "t": odd}])
    with caplog.at_level(logging.INFO, "unrolled"):
        model = unrolled.train_table("t.jsonl", "s", "t", out="r", **TINY)
    assert model.spec.target.kind == "number"
    assert "1 of 51 rows is left out, as a cell cannot be read; the first: t.jsonl, line 51: a number" in caplog.text
    assert model.result is not None
    assert model.result.val_nats is not None
    assert model.result.val_nats < 10


@pytest.mark.slow
@pytest.mark.parametrize("odd", ["inf", "1e300", "1e39", "3e38", "x"])
def test_a_number_that_cannot_be_read_has_an_empty_prediction_and_is_reported(cli: Cli, odd: str) -> None:
    write_csv(Path("t.csv"), [{"s": i * 1.5, "t": "ab"[i % 2]} for i in range(40)])
    unrolled.train_table("t.csv", "s", "t", out="r", **TINY)
    write_csv(Path("new.csv"), [{"s": "1.5"}, {"s": odd}, {"s": ""}, {"s": "3"}])
    done = cli("predict", "r", "new.csv")
    assert done.code == 0
    assert [bool(line.split(",")[1]) for line in done.out.splitlines()[1:]] == [True, False, False, True]
    assert "nan" not in done.out
    assert "1 of 4 rows has no prediction, as a cell cannot be read; the first: new.csv, line 3: " in done.err
    assert "1 of 4 rows has no prediction, a cell being empty" in done.err
    write_csv(Path("labeled.csv"), [{"s": "1.5", "t": "a"}, {"s": odd, "t": "a"}, {"s": "3", "t": "b"}, {"s": "3", "t": ""}])
    done = cli("eval", "r", "labeled.csv")
    assert done.out.startswith("2 rows")
    assert "1 of 4 rows is left out, as a cell cannot be read" in done.err
    assert "1 of 4 rows is left out, a cell being empty" in done.err
    write_csv(Path("bad.csv"), [{"s": odd}, {"s": odd}])
    done = cli("predict", "r", "bad.csv")
    assert done.code == 3
    assert "bad.csv, line 2: " in done.err


def test_numbers_far_from_zero_keep_their_scale() -> None:
    column = NumberColumn.fit("year", [Cell(1_700_000_000 + i, "t") for i in range(100)], {})
    assert isinstance(column, NumberColumn)
    assert column.scale.item() == pytest.approx(28.866, abs=0.01)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([i % 93 for i in range(1000)], "number"),
        ([i % 10 for i in range(1000)], "label"),
        ([i % 20 for i in range(1000)], "label"),
        ([str(i) for i in range(93)], "number"),
        ([i % 2 for i in range(99)] + ["maybe"], "label"),
        ([f"{i % 90:02}" for i in range(200)], "text"),
        ([f"0{i % 9}" for i in range(200)], "label"),
        ([format(i, "b") for i in range(60)], "text"),
        ([str(10**14 + i) for i in range(60)], "number"),
        ([str(10**16 + i) for i in range(60)], "text"),
        ([i * 0.5 for i in range(99)] + ["007"], "number"),
        ([f"{i}.50" for i in range(60)], "number"),
        ([10**i for i in range(12)] * 3, "number"),
    ],
)
def test_whole_numbers(values: list[Any], kind: str) -> None:
    assert kinds_of(["a word or two"] * len(values), values)[1] == kind


@pytest.mark.slow
def test_labels_that_occur_once_are_reported(cli: Cli) -> None:
    rows = [{"s": f"item {i % 7}", "t": i if i < 93 else 3} for i in range(100)]
    write_csv(Path("t.csv"), rows)
    flags = ("--steps", 3, "--hidden", 8, "--layers", 1, "--threads", 1, "--out", "r")
    sentence = "'t': 92 of 93 labels occur once in 100 rows, which is too seldom to be learned: is it 't:number'?"
    assert cli("train", "t.csv", "--source", "s", "--target", "t:label", *flags).err.count(sentence) == 1
    assert "labels occur once in" in cli("eval", "r").out
    assert cli("train", "t.csv", "--source", "s", "--target", "t", *flags[:-1], "n").err.count("occur once") == 0


def digits(count: int) -> list[str]:
    return [" ".join(str((i * 7 + j * j) % 10) for j in range(3 + i % 6)) for i in range(count)]


def test_digits_to_be_reversed_are_texts_of_words() -> None:
    sources = digits(60)
    spec = spec_of([{"s": source, "t": source[::-1]} for source in sources])
    assert spec.mode.name == "many-to-many"
    assert [column.tokenizer.kind for column in (spec.source, spec.target) if column.tokenizer] == ["words", "words"]
    tagged = spec_of([{"s": source, "t": source.translate(str.maketrans("0123456789", "eoeoeoeoeo"))} for source in sources])
    assert (tagged.source.kind, tagged.target.kind, tagged.mode.name) == ("text", "labels", "synced")
    lists = spec_of([{"s": list(map(int, source.split())), "t": source[::-1]} for source in sources])
    assert (lists.source.kind, lists.mode.name) == ("frames", "synced")


@pytest.mark.parametrize("odd", ["a b c", "a", ["x", "y"]])
def test_one_row_that_is_not_aligned_does_not_decide(odd: Any) -> None:
    rows = [{"s": "the cat sat", "t": "D N V"}, {"s": "a dog", "t": "D N"}] * 40 + [{"s": "one two", "t": odd}]
    spec = spec_of(rows[:-1] + [{"s": "one two three four", "t": odd}])
    assert spec.mode.name == "synced"
    dataset = read_pairs(open_table("t.jsonl"), spec)
    assert len(dataset) == 80
    assert "line 81: 's' has 4 steps" in dataset.left_out_messages()[0]


def test_one_null_in_a_series_is_reported_with_its_place() -> None:
    rows: list[dict[str, Any]] = [{"s": [0.5 * i, 1.5, 2.0], "t": NAMES[i % 2]} for i in range(40)]
    rows[5]["s"] = [0.1, None, 0.3]
    rows[7]["s"] = [0.1, 0.3]
    rows[0]["s"] = [None, 0.1, 0.2]
    spec = spec_of(rows)
    assert spec.source.kind == "vector"
    assert spec.source.size == 3
    dataset = read_pairs(open_table("t.jsonl"), spec)
    assert len(dataset) == 37
    assert "3 of 40 rows are left out" in dataset.left_out_messages()[0]
    with pytest.raises(DataError, match="line 9: value 2 of 3 is missing, and a number"):
        parse_array(Cell([0.1, None, 0.3], "t", 9))
    with pytest.raises(DataError, match="line 9: value 2 of 2, 1 is inf, and a number"):
        parse_array(Cell([[0.1], [float("inf")]], "t", 9))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_decimal_commas_are_numbers_where_commas_do_not_separate(suffix: str, cli: Cli) -> None:
    delimiter = {"csv": ";", "tsv": "\t"}[suffix]
    rows = [f"flat {i}{delimiter}{i},5{delimiter}{i},25 -1,{i} 0,5" for i in range(40)]
    Path(f"t.{suffix}").write_text("\n".join([delimiter.join(("name", "price", "v")), *rows]))
    table = open_table(f"t.{suffix}")
    spec, _ = infer_spec(table, "v", "price")
    assert (spec.source.kind, spec.source.size, spec.target.kind) == ("vector", 3, "number")
    assert isinstance(spec.target, NumberColumn)
    assert spec.target.mean.item() == pytest.approx(20.0)
    assert column_to_json(column_from_json(column_to_json(spec.target)))["decimal_comma"] is True
    assert spec.target.encode(Cell("20,0", "t")).item() == spec.target.encode(Cell(20.0, "t")).item() == 0
    told = cli("train", f"t.{suffix}", "--source", "name", "--target", "price", "--steps", 2, "--hidden", 8, "--out", "r").err
    assert told.count("'price': the comma is read as the decimal point, as in 0,5") == 1


def test_decimal_commas_elsewhere_are_named(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"s": f"flat {i}", "t": f"{i},5", "v": f"{i},5 1,5 2,5"} for i in range(40)]
    table = open_table(str(write_csv(Path("t.csv"), rows)))
    with caplog.at_level(logging.INFO, "unrolled"):
        assert infer_spec(table, "s", "t")[0].target.kind == "text"
        assert infer_spec(table, "v", "s")[0].source.size == 6
    assert "'t': values with a comma, such as 0,5, are read as text" in caplog.text
    assert "'v': values with a comma, such as 0,5, are read as a separator of numbers" in caplog.text
    with pytest.raises(DataError, match=r"line 2: a number is expected, and this is '0,5': write its comma as a point, 0\.5"):
        infer_spec(table, "s", "t:number")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,5", 1.5), ("-1.234,5", -1234.5), ("1.234.567,89", 1234567.89), ("1,5e3", 1500.0), ("15", 15.0), ("1.5", 1.5),
        ("0.123", 0.123), ("1.234", None), ("1,2,3", None), ("1.2345,6", None), ("x", None),
    ],
)  # fmt: skip
def test_numbers_with_decimal_commas(text: str, number: float | None) -> None:
    assert to_number(text, decimal_comma=True) == number
    if number is None:
        with pytest.raises(DataError, match="a number is expected"):
            parse_number(with_decimal_points(Cell(text, "t")))
    else:
        assert parse_number(with_decimal_points(Cell(text, "t"))) == number


@pytest.mark.parametrize("text", ["nan", "1_000", "0x1f", "--1", "1e", "", "1 2", "\u0661x"])
def test_what_python_takes_for_a_number_and_nobody_else(text: str) -> None:
    assert to_number(text) is None


def test_old_columns_of_numbers_are_read_as_they_were() -> None:
    column = column_from_json({"kind": "vector", "name": "v", "mean": [0.0, 0.0], "scale": [1.0, 1.0]})
    assert isinstance(column, VectorColumn)
    assert column.encode(Cell("1,5", "t")).tolist() == [[1.0, 5.0]]


# Normal forms


def vietnamese(form: Callable[[str], str]) -> list[dict[str, Any]]:
    words = ["t\u1ed1t", "x\u1ea5u", "\u0111\u1eb9p", "b\u00e0n"]
    return [{form("c\u00e2u"): form(f"{words[i % 4]} {words[i % 3]}"), "nh\u00e3n": form(words[i % 2])} for i in range(40)]


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def test_a_table_in_another_normal_form_gives_the_same_model_and_answers(cli: Cli) -> None:
    write_csv(Path("nfc.csv"), vietnamese(str))
    write_csv(Path("nfd.csv"), vietnamese(nfd))
    specs = [infer_spec(open_table(name), "c\u00e2u", "nh\u00e3n")[0] for name in ("nfc.csv", "nfd.csv")]
    first, second = ({**spec.source.to_dict(), **spec.target.to_dict()} for spec in specs)
    assert first == second
    columns = ("--source", nfd("c\u00e2u"), "--target", "nh\u00e3n")
    trained = cli("train", "nfd.csv", *columns, "--steps", 3, "--hidden", 8, "--out", "r")
    assert trained.code == 0, trained.err
    assert trained.err.count("characters were composed (NFC)") == 2
    model = unrolled.load_table("r")
    assert model.spec.source.normalization == "nfc"
    results = [cli("eval", "r", name) for name in ("nfc.csv", "nfd.csv")]
    assert results[0].out == results[1].out
    assert results[1].err.count("characters were composed (NFC)") == 2
    assert model.predictions(["x\u1ea5u"])[0].probability == model.predictions([nfd("x\u1ea5u")])[0].probability
    told = cli("predict", "r", write_csv(Path("new.csv"), [{"c\u00e2u": "x\u1ea5u z"}, {"c\u00e2u": "z"}])).err
    assert "never seen in training" in told or "not in the vocabulary" in told


def test_columns_of_before_keep_the_form_that_they_learned() -> None:
    json_value = column_to_json(LabelColumn.fit("l", [Cell("e\u0301", "t"), Cell("a", "t")], {}))
    del json_value["normalize"]
    column = column_from_json(json_value)
    assert column.encode(Cell("\u00e9", "t")).tolist() == [column.unk_id]
    assert column.encode(Cell("e\u0301", "t")).tolist() != [column.unk_id]


def test_unknown_characters_of_cells_are_counted() -> None:
    column = TextColumn.fit("s", [Cell("abc", "t")], {"tokens": "characters", "normalize": "nfc"})
    assert tuple(column.count_symbols(Cell("abXe\u0301", "t"))) == (4, 2, 1)
    words = TextColumn.fit("s", [Cell("a a b", "t")], {"tokens": "words", "spaces": True, "is_source": True})
    assert tuple(words.count_symbols(Cell("A a c", "t"))) == (3, 1, 0)


def test_labels_of_characters_may_need_the_text_as_it_is() -> None:
    rows = [{"s": "aaa", "t": "xyx"}, {"s": "ae", "t": "xy"}] * 30 + [{"s": "e\u0301a", "t": "xyx"}]
    spec = spec_of(rows, "s", "t:labels")
    assert spec.mode.name == "synced"
    (message,) = read_pairs(open_table("t.jsonl"), spec).left_out_messages()
    assert "line 61: 's' has 2 steps and 't' 3 labels" in message
    assert "normalize='none' reads the source as it is" in message


# Flags without effect


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": "words"}, "tokens='words' is for a column of text, and 's' is number and 't' label"),
        ({"documents": "line"}, "documents= is for texts"),
        ({"glob": "*.x"}, "glob= is for texts"),
        ({"bidirectional": False}, "bidirectional=False is for a source of many steps"),
        ({"pool": "mean"}, "pool= is for a source of many steps"),
        ({"attention": False}, "attention=False is for a target that is generated"),
        ({"image_as": "rows"}, "image_as= is for a source of images"),
        ({"image_encoder": "mlp"}, "image_encoder= is for a source of images"),
        ({"token_dropout": 0.5}, "token_dropout= is for texts"),
        ({"state_reset_prob": 0.5}, "state_reset_prob= is for texts"),
        ({"decay": 0.5}, "decay= is for schedule='decay'"),
        ({"clip": 0.0, "clip_by": "value"}, "clip_by= is for clip= above 0"),
        ({"validation": "t.jsonl", "train_fraction": 0.5}, "train_fraction= is the part of one table"),
    ],
)
def test_a_flag_without_effect_on_a_table_is_refused(options: dict[str, Any], message: str) -> None:
    write_jsonl(Path("t.jsonl"), [{"s": i * 0.5, "t": NAMES[i % 2]} for i in range(40)])
    with pytest.raises(UsageError, match=message):
        unrolled.train_table("t.jsonl", "s", "t", **TINY, **options)
    assert not Path("runs").exists()


def test_flags_of_other_targets_are_refused() -> None:
    write_jsonl(Path("t.jsonl"), [{"s": NAMES[i % 4] * 2, "t": i * 0.5} for i in range(40)])
    for options, message in (
        ({"label_smoothing": 0.5}, "label_smoothing= is for a target of labels or text"),
        ({"calibrate": False}, "calibrate=False is for a target of labels"),
    ):
        with pytest.raises(UsageError, match=message):
            unrolled.train_table("t.jsonl", "s", "t", **TINY, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--temperature", 0.5), "--temperature is for a target that is generated, and the target is label"),
        (("--beam", 3), "--beam is for a target of text"),
        (("--length-penalty", 2), "--length-penalty is for a target of text"),
        (("--seed", 3), "--seed is for a target that is generated"),
        (("--image-dir", "x"), "--image-dir is for a target of images"),
    ],
)
def test_a_flag_without_effect_on_predictions_is_refused(cli: Cli, arguments: tuple[object, ...], message: str) -> None:
    write_csv(Path("t.csv"), [{"s": i * 0.5, "t": NAMES[i % 2]} for i in range(40)])
    unrolled.train_table("t.csv", "s", "t", out="r", **TINY)
    done = cli("predict", "r", "t.csv", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_flag_without_effect_on_a_text_is_refused(cli: Cli, book: Path) -> None:
    unrolled.train(str(book), out="r", **TINY)
    for arguments, message in (
        (("train", book, "--decay-after", 3), "--decay-after is for --schedule decay"),
        (("train", book, "--glob", "*.txt"), "--glob chooses files of a folder, and no folder is given"),
        (("eval", "r", "--order", 3), "--order is for --baselines"),
        (("sample", "r", "--temperature", 0, "--top-k", 5), "--top-k chooses among several tokens"),
        (("score", "r", "--per", "character", "--top", 5), "--top is for --per line"),
        (("score", "r", "--per", "character", "--html", "x.html"), "--per is for the terminal"),
        (("explain", "r", "--terminal", "--out", "x.html"), "--out names the page"),
    ):
        done = cli(*arguments)
        assert done.code == 2, arguments
        assert message in done.err


HASHED = """
import json, sys, unrolled
options = dict(steps=4, hidden=8, layers=1, batch=8, threads=1, sample_length=0, progress=False)
results = []
for target in ("t", "tags"):
    model = unrolled.train_table("t.csv", "s", target, out=f"{sys.argv[1]}-{target}", **options)
    weights = [float(weight.sum()) for weight in model.network.parameters()]
    results.append([model.spec.to_json(), model.evaluate("t.csv").to_json(), weights])
results.append(unrolled.train("t.csv", out=sys.argv[1], **options).sample(length=30))
print(json.dumps(results))
"""


@pytest.mark.slow
def test_every_figure_is_the_same_under_any_hash_seed() -> None:
    labels = ["NaN", "1.0", "x", "10", "b", "2", "\u00e9"]
    tags = [f"{labels[i % 5]} {labels[i % 3]}" for i in range(70)]
    write_csv(Path("t.csv"), [{"s": f"{NAMES[i % 4]} {NAMES[i % 3]}", "t": labels[i % 7], "tags": tags[i]} for i in range(70)])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HASHED, seed], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        for seed in ("0", "2")
    ]
    outputs = [json.loads(process.communicate()[0]) for process in processes]
    assert outputs[0] == outputs[1]
