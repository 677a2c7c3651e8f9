"""What a new user of tables types: flags in any order, plain values in Python, rows without a value."""

import datetime
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

import unrolled
from support.cli import Cli
from support.pages import open_page
from support.tables import write_csv, write_jsonl
from unrolled.cli.parser import CommandParser
from unrolled.errors import DataError, UsageError
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell, display_text, parse_text
from unrolled.tables.frames import table_of_frame
from unrolled.tables.label_columns import LabelsColumn

TINY: dict[str, Any] = {
    "steps": 3, "hidden": 8, "layers": 1, "batch": 8, "threads": 1, "sample_length": 0, "progress": False,
}  # fmt: skip
ROWS = [{"text": f"{'guten tag' if i % 2 else 'bonne nuit'} {i % 12}", "language": "de" if i % 2 else "fr"} for i in range(48)]


@pytest.fixture
def model(tmp_path: Path) -> unrolled.TableModel:
    return unrolled.train_table(ROWS, "text", "language", out="r", **TINY)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["r", "--count", "2", "new.csv"], ("r", "new.csv", 2)),
        (["--count=2", "r", "new.csv", "--probabilities"], ("r", "new.csv", 2)),
        (["r", "--probabilities", "-"], ("r", "-", 1)),
        (["--count", "2", "--", "r", "-x.csv"], ("r", "-x.csv", 2)),
        (["r", "--count", "2", "--", "--x.csv"], ("r", "--x.csv", 2)),
    ],
)
def test_flags_and_arguments_come_in_any_order(arguments: list[str], expected: tuple[str, str, int]) -> None:
    parser = CommandParser("predict", "Predict.")
    parser.add_argument("run")
    parser.add_argument("input", nargs="?", default=None)
    parser.add_options("prediction", PredictOptions)
    values = parser.parse_cli_values(arguments)
    assert (values["run"], values["input"], values.get("count", 1)) == expected


def test_a_flag_without_its_value_takes_no_argument_for_it() -> None:
    parser = CommandParser("predict", "Predict.")
    parser.add_argument("run")
    parser.add_value("--out", "FILE", "A file.")
    with pytest.raises(UsageError, match="out="):
        parser.parse_cli_values(["r", "--out"])


def test_a_new_users_predictions(model: unrolled.TableModel, cli: Cli) -> None:
    write_csv(Path("new.csv"), [{"text": "guten tag 3"}, {"text": ""}, {"text": "NA"}, {"text": "bonne soir"}])
    done = cli("predict", "r", "--probabilities", "new.csv")
    assert done.code == 0
    assert [row.count(",") for row in done.out.splitlines()] == [4] * 5
    assert "2 of 4 rows have no prediction, a cell being empty" in done.err
    assert "1 of 5 words is not in the vocabulary of the model" in done.err
    both = cli("predict", "r", "--text", "guten tag 3", "new.csv")
    assert both.code == 2
    assert "both are given" in both.err
    answer = cli("predict", "r", "--text", "guten tag 3").out.splitlines()[1]
    assert done.out.splitlines()[1].startswith(answer + ",")


def test_rows_that_are_evaluated_need_both_cells_and_the_others_are_counted(
    model: unrolled.TableModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="unrolled"):
        report = model.evaluate([*ROWS[:5], {"text": "guten tag"}, {"language": "de"}])
    assert report.num_rows == 5
    assert "2 of 7 rows are left out, a cell being empty" in caplog.text


def test_plain_values_in_python(model: unrolled.TableModel) -> None:
    assert model.predict("guten tag 3") == model.predict(["guten tag 3"])
    assert len(model.predict(3)) == 1
    day = datetime.date(2024, 3, 1)
    assert model.predict([day]) == model.predict(["2024-03-01"])
    with pytest.raises(UsageError, match="a list of them or a table is expected; this is NoneType"):
        model.predict(None)
    with pytest.raises(DataError, match="the source is empty"):
        model.trace("")


def test_answers_below_a_probability_are_empty_and_reported(model: unrolled.TableModel, cli: Cli) -> None:
    texts = ["guten tag 3", "bonne nuit 2", "tag nuit", ""]
    answers = model.predictions(texts)
    first, *others = sorted({answer.probability for answer in answers if answer.probability is not None})
    limit = (first + others[0]) / 2
    kept = model.predictions(texts, min_probability=limit)
    expected = [answer.text if (answer.probability or 0) >= limit else "" for answer in answers]
    assert [answer.text for answer in kept] == model.predict(texts, min_probability=limit) == expected
    assert [answer.probability for answer in kept] == [answer.probability for answer in answers]
    num_empty = expected[:3].count("")
    assert 0 < num_empty < 3
    write_csv(Path("new.csv"), [{"text": text, "n": 1} for text in texts])
    done = cli("predict", "r", "new.csv", "--min-probability", limit, "--count", 2)
    assert [row.split(",")[2] for row in done.out.splitlines()[1:]] == expected
    assert f"{num_empty} of 4 rows ha{'s' if num_empty == 1 else 've'} an empty answer, its probability" in done.err
    with pytest.raises(UsageError, match=r"evaluate\(\) has no option 'min_probability'"):
        model.evaluate(ROWS, min_probability=0.5)


def test_numbers_have_no_probability_to_answer_by(cli: Cli) -> None:
    write_csv(Path("t.csv"), [{"s": f"abc {i % 7}", "t": i * 0.37} for i in range(40)])
    model = unrolled.train_table("t.csv", "s", "t", out="n", **TINY)
    with pytest.raises(UsageError, match="min_probability= is for a target of labels or text, and the target is number"):
        model.predict(["abc"], min_probability=0.5)


def test_rows_are_explained_without_their_targets(model: unrolled.TableModel, cli: Cli) -> None:
    Path("lines.txt").write_text("guten tag 3\n\nbonne nuit\n", encoding="utf-8")
    done = cli("explain", "r", "lines.txt", "--out", "page.html")
    assert done.code == 0, done.err
    assert "2 rows, 5 tokens" in done.err
    write_csv(Path("one.csv"), [{"text": "guten tag 3", "day": "1"}])
    assert "1 row, 3 tokens" in cli("explain", "r", "one.csv", "--out", "page.html").err


def test_a_refused_setting_prints_no_header(tmp_path: Path, cli: Cli) -> None:
    write_csv(Path("t.csv"), [{"s": f"abc {i % 7}", "t": i * 0.37} for i in range(40)])
    unrolled.train_table("t.csv", "s", "t", out="n", **TINY)
    done = cli("predict", "n", "t.csv", "--count", "2")
    assert (done.code, done.out) == (2, "")
    assert "--count is for labels and texts" in done.err


def test_lists_and_objects_are_shown_by_their_values(tmp_path: Path, cli: Cli) -> None:
    assert display_text([1, "b"]) == "1 b"
    with pytest.raises(DataError, match=r"name one of its keys, as in COLUMN\.KEY"):
        parse_text(Cell({"text": "a"}, "t.jsonl", 3))
    write_jsonl(Path("v.jsonl"), [{"v": [i, i + 1], "t": "ab"[i % 2]} for i in range(40)])
    done = cli("train", "v.jsonl", "--source", "v", "--target", "t", "--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1)
    assert done.code == 0, done.err
    assert "<list>" not in done.err
    assert "1 layer of 8 units" in done.err
    assert "1 thread, " in done.err


def test_a_column_is_not_learned_from_itself() -> None:
    with pytest.raises(UsageError, match="'text' is both the source and the target"):
        unrolled.train_table(ROWS, "text:text", "text:label", out="r", **TINY)


def test_a_word_for_a_model_of_lists_of_letters_is_its_letters(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"items": list(word), "label": word[0]} for word in ("anna", "nab", "ban", "bnb") for _ in range(8)]
    model = unrolled.train_table(rows, "items", "label", out="r", **TINY)
    source = model.spec.source
    assert source.encode(Cell("anna", "value")).tolist() == source.encode(Cell(["a", "n", "n", "a"], "value")).tolist()
    assert list(source.cell_tokens(Cell("anna", "value"))) == ["a", "n", "n", "a"]
    probabilities = [model.predictions(text)[0].probability for text in ("anna", "a n n a", '["a", "n", "n", "a"]')]
    assert probabilities[0] == probabilities[1] == probabilities[2]
    done = cli("predict", "r", "--text", "anna")
    assert "'items': 'anna' is read as its 4 characters, as 'a n n a' and JSON lists are" in done.err
    assert "never seen" not in done.err
    assert "characters" not in cli("predict", "r", "--text", "a n n a", "--unknown", "refuse").err
    assert source.encode(Cell(["anna"], "value")).tolist() == [source.unk_id]  # a list is what it is
    done = cli("predict", "r", "--text", "anne")
    assert "'items': 1 of 1 label was never seen in training" in done.err
    assert "'anne' is read as one label; for several, write blanks between them, or a JSON list: 'a n n e' or" in done.err


def test_labels_with_commas_between_them_are_told_how_to_be_written() -> None:
    column = LabelsColumn("events", ["close", "open", "read"], "words")
    assert '\'open read\' or ["open", "read"]' in column.reading_note(Cell("open,read", "value"))
    for cell in ("open read", "unseen", "read", ["open,read"], ""):
        assert column.reading_note(Cell(cell, "value")) == ""
    digits = LabelsColumn("codes", ["1", "2", "3"], "words")
    assert digits.encode(Cell("12", "value")).tolist() == [digits.unk_id]  # it may be a code of its own
    assert "'1 2' or" in digits.reading_note(Cell("12", "value"))
    assert digits.reading_note(Cell(12, "value")) == ""


class PandasRow:
    """The attributes of a row of a pandas frame that are used."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values, self.index = values, list(values)

    def to_dict(self) -> dict[str, Any]:
        return self.values


def test_rows_without_names_are_tables() -> None:
    rows = [(i % 7, "up" if i % 2 else "down", "odd" if i % 2 else "even") for i in range(40)]
    by_number = unrolled.train_table(rows, ["0", "1"], "2", **TINY)
    by_name = unrolled.train_table([list(row) for row in rows], "n,way", "parity", header="n,way,parity", **TINY)
    first = unrolled.train_table([("n", "way", "parity"), *rows], "n,way", "parity", header="first", **TINY)
    fields = np.array(rows, dtype=[("n", "i8"), ("way", "U4"), ("parity", "U4")])
    structured = unrolled.train_table(fields, "n,way", "parity", **TINY)
    table = {"n": [3, 4], "way": ["up", "down"]}
    expected = [prediction.probability for prediction in by_name.predictions(table)]
    for model in (by_number, by_name, first, structured):
        for values in ([(3, "up"), (4, "down")], [[3, "up"], [4, "down"]], np.array([(3, "up"), (4, "down")], object)):
            assert [prediction.probability for prediction in model.predictions(values)] == expected
        assert model.predictions((3, "up"))[0].probability == pytest.approx(expected[0])
    assert by_number.predict([3, "up"]) == by_number.predict((3, "up"))
    assert by_name.predict({"n": np.int64(3), "way": np.str_("up")}) == by_name.predict((3, "up"))
    assert by_name.predict(PandasRow({"n": 3, "way": "up"})) == by_name.predict((3, "up"))
    with pytest.raises(UsageError, match="2 columns, 0, 1: give a table, or dictionaries or tuples with all of them"):
        by_number.predict("up")
    assert by_number.predict(rows) == by_name.predict(fields)
    assert structured.predict(fields[3]) == structured.predict((3, "up"))
    assert by_number.evaluate(rows[:6]).num_rows == 6
    with pytest.raises(DataError, match="Row 2 of the table has 1 value, and the first row has 2"):
        unrolled.train_table([(1, 2), (1,)], "0", "1", **TINY)
    with pytest.raises(DataError, match="The table has no rows"):
        unrolled.train_table(np.zeros((0, 2)), "0", "1", **TINY)
    with pytest.raises(UsageError, match="3 columns need as many different names: the header has a, b"):
        unrolled.train_table(rows, "a", "b", header="a,b", **TINY)
    numbers = np.arange(80.0).reshape(40, 2)
    assert unrolled.train_table(numbers, "0:number", "1:number", **TINY).spec.columns_text == "0:number -> 1:number"


def test_a_row_has_the_order_in_which_the_sources_were_given() -> None:
    rows = [{"age": 20 + i, "review": f"{'good' if i % 2 else 'bad'} thing number {i}", "y": "ab"[i % 2]} for i in range(40)]
    model = unrolled.train_table(rows, ["age", "review:text"], "y", out="r", **TINY)
    assert [column.name for column in model.spec.sources] == ["review", "age"]
    for loaded in (model, unrolled.load_table("r", threads=1)):
        assert loaded.predict((20, "good thing")) == loaded.predict({"age": 20, "review": "good thing"})
        assert loaded.predictions((20, "good thing"))[0].probability == loaded.predictions([(20, "good thing")])[0].probability
        assert loaded.trace((20, "good thing")).prediction.text in "ab"


def test_a_mistyped_column_of_a_frame_names_the_frame_and_its_columns(model: unrolled.TableModel) -> None:
    for act in (lambda: unrolled.train_table(ROWS, "txet", "language", **TINY), lambda: model.evaluate([{"txet": "a"}])):
        with pytest.raises(UsageError) as caught:
            act()
        assert str(caught.value).startswith("the data frame has no column '")
        assert "Its columns: " in str(caught.value)
        assert "jsonl" not in str(caught.value)
    with pytest.raises(UsageError, match="did you mean 'text'"):
        unrolled.train_table(ROWS, "txet", "language", **TINY)


def test_columns_of_several_levels_are_joined_as_those_of_files() -> None:
    assert table_of_frame({("price", "mean"): [1], ("day", ""): [2], "x": [3]}).columns == ("price_mean", "day", "x")


def test_explain_shows_equal_rows_once(model: unrolled.TableModel, browser: Browser, tmp_path: Path) -> None:
    rows = [{"text": text, "language": "de"} for text in ("guten tag", "bonne nuit", "guten tag", "guten tag", "tag")]
    result = model.explain(rows, length=100, probe_length=100, out=str(tmp_path / "rows.html"))
    lines = result.summary().splitlines()
    asked = [line.partition(" -> ")[0] for line in lines if " -> " in line and not line.startswith("page")]
    assert sorted(asked) == ["bonne nuit", "guten tag", "tag"]
    assert [line.endswith(", 3 equal rows") for line in lines if line.startswith("guten")] == [True]
    assert any("of 5 answers" in line for line in lines)
    assert len(result.to_json()["rows"]) == 5
    with open_page(browser, tmp_path / "rows.html", ready="#rows .row") as page:
        assert page.locator("#rows .row").count() == 3
        assert page.locator("#rows .row", has_text="guten tag").inner_text().count("3 equal rows") == 1
        assert page.locator("#count").inner_text().startswith("5 of 5 rows; ")
        assert page.locator("#count").inner_text().endswith(" of 5 answers are wrong")
