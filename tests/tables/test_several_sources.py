"""Several source columns: each is read by its own encoder, they are joined, and all that works with one works with several."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.runs import assert_resumes_exactly
from support.tables import write_jsonl
from unrolled.errors import DataError, UsageError
from unrolled.nn.encoder import concatenate_padded
from unrolled.options import TrainRequest
from unrolled.tables.frames import table_of_frame
from unrolled.tables.pair_batching import read_pairs
from unrolled.tables.source_columns import split_source
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table
from unrolled.training.tasks.table import TableTask

TINY = ("--hidden", 16, "--layers", 1, "--batch", 8, "--threads", 1)
SOURCES = "age,town,review,picture"
TARGETS = {"mood": "label", "score": "number", "answer": "text", "tags": "labels"}


def people(count: int, seed: int, gaps: bool = False) -> list[dict[str, Any]]:
    """Rows of a number, a label, a text and an image, and a target of each kind."""
    draw, rows = random.Random(seed), []
    for index in range(count):
        words = [draw.choice(["good", "bad", "fine", "poor"]) for _ in range(draw.randint(2, 6))]
        row: dict[str, Any] = {
            "age": round(draw.uniform(20, 60), 1),
            "town": draw.choice(["north", "south"]),
            "review": " ".join(words),
            "picture": [[draw.randrange(256) for _ in range(4)] for _ in range(4)],
        }
        old = (row["age"] > 40) == (row["town"] == "north")
        row |= {"mood": "happy" if old else "sad", "score": row["age"] * (1 if old else -1) / 7 + 0.01}
        row |= {"answer": f"{row['town'][0]}{'!' * (1 + old)} {words[0]}", "tags": [f"T{len(word)}" for word in words]}
        rows.append(row | {"age": None if gaps and index % 10 == 0 else row["age"]})
    return rows


@pytest.mark.slow
def test_a_target_that_depends_on_two_columns_needs_both(cli: Cli) -> None:
    draw, rows = random.Random(3), []
    for _ in range(400):
        side, number = draw.choice("lr"), round(draw.choice((-1, 1)) * draw.uniform(0.5, 2), 2)
        rows.append({"side": side, "number": number, "y": "in" if (side == "l") == (number > 0) else "out"})
    path, accuracy = write_jsonl(Path("t.jsonl"), rows), {}
    for name, flags in (("both", ("--source", "side:label", "--source", "number")), ("one", ("--source", "number"))):
        settings = ("--target", "y", "--hidden", 16, "--layers", 1, "--lr", 0.02, "--steps", 100, "--threads", 1)
        done = cli("train", path, *flags, *settings, "--out", name)
        assert done.code == 0, done.err
        accuracy[name] = json.loads(cli("eval", name, "--split", "validation", "--json").out)["accuracy"]
    assert accuracy["both"] >= 0.95
    assert accuracy["one"] <= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_columns_of_all_kinds_are_trained_resumed_evaluated_and_predicted(target: str, cli: Cli) -> None:
    path = write_jsonl(Path("t.jsonl"), people(60, 1, gaps=True))
    values = {
        "source": SOURCES, "target": f"{target}:{TARGETS[target]}", "hidden": 12, "layers": 1, "batch": 8, "dropout": 0.2,
        "steps": 12, "threads": 1, "precision": "float32", "sample_length": 20,
    }  # fmt: skip

    assert_resumes_exactly(path, values, 5)

    new = write_jsonl(Path("new.jsonl"), people(7, 2))
    assert json.loads(cli("eval", "straight", new, "--json").out)["rows"] == 7
    done = cli("predict", "straight", new)
    predicted = [row["predicted"] for row in csv.DictReader(io.StringIO(done.out))]
    model = unrolled.load_table("straight", threads=1)
    frame = {name: [row[name] for row in people(7, 2)] for name in SOURCES.split(",")}
    assert model.predict(frame) == predicted
    one_by_one = [model.predict(row)[0] for row in people(7, 2)]
    said = cli("predict", "straight", "--text", json.dumps(people(7, 2)[0]), "--json")
    assert json.loads(said.out)["rows"][0]["predicted"] == one_by_one[0]
    if TARGETS[target] == "number":  # other batches, other last digits
        assert [*map(float, predicted)] == pytest.approx([*map(float, one_by_one)], rel=1e-4)
    else:
        assert predicted == one_by_one


def test_rows_without_a_number_get_the_median_and_are_counted(cli: Cli) -> None:
    rows = people(60, 1, gaps=True)
    rows[11]["review"] = ""
    rows[20]["review"] = " "
    path = write_jsonl(Path("t.jsonl"), rows)
    done = cli("train", path, "--source", "age,review", "--target", "mood", *TINY, "--steps", 5, "--out", "r")
    request = TrainRequest.build((str(path),), {"source": "age,review", "target": "mood"}, "test")
    task = TableTask(request, None)
    assert len(task.validation_rows) == 6
    trained_on = [rows[number] for number in task.dataset.read_rows[task.train_rows].tolist()]
    median = f"{np.median([row['age'] for row in trained_on if row['age'] is not None]):.6g}"  # not of the validation rows
    assert median != f"{np.median([row['age'] for row in rows if row['age'] is not None]):.6g}"
    gap = [number for number in task.train_rows.tolist() if np.isnan(task.dataset.others[0][number]).any()][:1]
    assert task.spec.others[0].name == "age"
    batch = task.dataset.collate(np.array(gap))
    assert task.spec.others[0].decode(batch.others[0][0][0]) == median
    assert f"'age': 5 of 60 rows have no number; the median, {median}, is used" in done.err
    assert "'review': 1 of 60 rows has no value, and it is read as unknown" in done.err
    assert "1 of 60 rows is left out, a cell being empty ('review' 1, 'age' 1): line 21" in done.err
    source = task.dataset.source
    is_unknown = [row for row in range(len(task.dataset)) if source[row].tolist() == [task.spec.source.unk_id]]
    assert [int(task.dataset.read_rows[number]) for number in is_unknown] == [11]
    model = unrolled.load_table("r", threads=1)
    row = people(1, 5)[0]
    assert model.predict(row | {"age": None}) == model.predict(row | {"age": float(median)})
    without = cli("predict", "r", "--text", json.dumps({"age": 3, "review": None}), "--json")
    assert json.loads(without.out)["rows"][0]["predicted"]
    assert "'review': 1 of 1 row has no value" in without.err
    left_out = cli("predict", "r", "--text", json.dumps({"age": None, "review": ""}), "--json")
    assert json.loads(left_out.out)["rows"][0]["predicted"] == ""
    assert "1 of 1 row has no prediction" in left_out.err


@pytest.mark.slow
def test_a_resume_may_repeat_its_columns_and_files_in_any_form() -> None:
    path, other = write_jsonl(Path("t.jsonl"), people(40, 1)), str(write_jsonl(Path("v.jsonl"), people(10, 2)))
    options: dict[str, Any] = {"hidden": 8, "layers": 1, "threads": 1, "progress": False}
    unrolled.train_table(path, ["age", "town"], "mood", steps=4, stop_after=2, validation=other, out="r", **options)
    again: dict[str, Any] = {"resume": "r", "progress": False, "validation": other, "target": "mood"}
    with pytest.raises(UsageError, match="source= was 'age,town', now 'age,review'"):
        unrolled.train_table(source=["age", "review"], **again)
    assert unrolled.train_table(source=["age", "town"], stop_after=3, **again).result.steps == 3  # type: ignore[union-attr]
    assert unrolled.train_table(source="age,town", **again).result.steps == 4  # type: ignore[union-attr]


def test_columns_that_cannot_be_are_refused(cli: Cli) -> None:
    path = write_jsonl(Path("t.jsonl"), people(20, 1))
    for source, target, message in (
        ("age,mood", "mood", "'mood' is both the source and the target"),
        ("age,review,AGE", "mood", "'age' is named twice in --source"),
        ("age,reviw", "mood", "has no column 'reviw'; did you mean 'review'?"),
        ("age,,town", "mood", "a name between two commas is missing"),
        ("age,town:nosuch", "mood", "there is no kind 'nosuch'"),
        ("age,town", "tags:labels", "'town' has 5 steps and 'tags' 3 labels: each step needs one"),
    ):
        done = cli("train", path, "--source", source, "--target", target, *TINY, "--steps", 2, "--out", "r")
        assert done.code in (2, 3)
        assert message in done.err
    done = cli("train", path, "--source", "age,review", *TINY, "--steps", 2)
    assert (done.code, "several are read as --source, with a --target" in done.err) == (2, True)


def test_a_missing_column_of_new_rows_is_named(cli: Cli) -> None:
    rows = people(30, 1)
    model = unrolled.train_table(rows, ["age", "review"], "mood", progress=False, hidden=8, layers=1, steps=3, threads=1)
    assert [column.name for column in model.spec.sources] == ["review", "age"]
    assert repr(model).startswith("<unrolled.TableModel review:text + age:number -> mood:label")
    with pytest.raises(UsageError, match="has no column 'age'. Its columns: review"):
        model.predict([{"review": "good"}])
    with pytest.raises(UsageError, match="The model reads 2 columns, age, review: give a table, or dictionaries or tuples"):
        model.predict(["good"])
    with pytest.raises(DataError, match="'age': value: 'old' is not a number|'age'"):
        model.trace({"age": "old", "review": "good"})
    done = cli("predict", model.path.parent, "--text", "good")
    assert done.code == 2
    assert "has no review, and the model reads age, review: --text age=... --text review=..." in done.err
    written = [
        ("--text", '{"age": 31, "review": "good, and so on"}'),
        ("--text", "age=31", "--text", "review=good, and so on"),
        ("--text", "review=good, and so on", "--text", "age=31"),
        ("--text", "31", "--text", "good, and so on"),
        ("--text", '31, "good, and so on"'),
        ("--text", 'age=31,"review=good, and so on"'),
        ("--text", '[31, "good, and so on"]'),
    ]
    answers = {cli("predict", model.path.parent, *texts).out for texts in written}
    assert len(answers) == 1, "however a row is written, it is the same row"
    assert answers.pop().splitlines()[1].startswith('31,"good, and so on",')
    two = cli(
        "predict", model.path.parent, "--text", "age=1", "--text", "review=a = b", "--text", "age=2", "--text", "review=c"
    )
    assert [line.split(",")[:2] for line in two.out.splitlines()[1:]] == [["1", "a = b"], ["2", "c"]]
    done = cli("predict", model.path.parent, "--text", "agee=31", "--text", "review=good")
    assert (done.code, "reads no column 'agee'; did you mean 'age'?" in done.err) == (2, True)
    assert model.trace(rows[0]).prediction.text == model.predict(rows[0])[0]


def test_names_with_commas_are_quoted_or_found() -> None:
    path = write_jsonl(Path("t.jsonl"), [{"first, last": f"a {i}", "n": i / 7, "y": "ab"[i % 2]} for i in range(30)])
    table = open_table(str(path))
    assert split_source("first, last", table) == ["first, last"]
    assert split_source("first, last:words", table) == ["first, last:words"]
    assert split_source("y:label,n", table) == ["y:label", "n"]
    assert split_source('n, "first, last"', table) == ["n", "first, last"]
    spec, sentence = infer_spec(table, 'n,"first, last":words', "y")
    assert [column.name for column in spec.sources] == ["first, last", "n"]
    assert sentence.startswith("n: number + first, last: text as words")
    model = unrolled.train_table(str(path), ["first, last", "n"], "y", progress=False, hidden=8, layers=1, steps=2, threads=1)
    assert len(model.spec.sources) == 2


def test_joined_outputs_have_all_padding_at_the_end() -> None:
    torch.manual_seed(1)
    parts = [(torch.randn(steps, 3, 2), torch.tensor(lengths)) for steps, lengths in ((4, [4, 1, 2]), (3, [1, 3, 2]))]
    outputs, lengths = concatenate_padded(parts)
    assert lengths.tolist() == [5, 4, 4]
    assert outputs.shape == (5, 3, 2)
    for row in range(3):
        expected = torch.cat([part[: int(size[row]), row] for part, size in parts])
        assert torch.equal(outputs[: int(lengths[row]), row], expected)


@pytest.mark.slow
def test_an_answer_does_not_depend_on_the_other_rows() -> None:
    rows = people(30, 4)
    for target in ("mood", "tags"):
        model = unrolled.train_table(
            rows, ["town", "review"], target, progress=False, hidden=12, layers=1, steps=10, threads=1, precision="float32"
        )
        together = [prediction.probability for prediction in model.predictions(rows)]
        alone = [model.predictions(row)[0].probability for row in rows]
        assert np.allclose(np.array(together, dtype=float), np.array(alone, dtype=float), atol=1e-5)


@pytest.mark.slow
def test_columns_with_as_many_steps_as_labels_are_read_together(cli: Cli) -> None:
    draw, rows = random.Random(5), []
    for _ in range(150):
        words, marks = zip(
            *((draw.choice(["ab", "cd", "ef"]), draw.choice(["N", "V"])) for _ in range(draw.randint(2, 7))), strict=True
        )
        tags = [word[0] + mark for word, mark in zip(words, marks, strict=True)]
        rows.append({"words": list(words), "marks": list(marks), "place": draw.choice("pq"), "tags": tags})
    path = write_jsonl(Path("t.jsonl"), rows)
    sources = "words,marks,place"
    done = cli("train", path, "--source", sources, "--target", "tags", *TINY, "--steps", 90, "--lr", 0.02, "--out", "r")
    assert done.code == 0, done.err
    model = unrolled.load_table("r", threads=1)
    assert (model.spec.source.name, model.spec.aligned) == ("words", ("marks",))
    assert json.loads(cli("eval", "r", "--json").out)["accuracy"] >= 0.95  # a mark decides at its own step
    with pytest.raises(DataError, match="'marks' has 1 steps and 'words' 2"):
        model.trace({"words": ["ab", "cd"], "marks": ["N"], "place": "p"})


def test_long_rows_of_aligned_columns_are_split_together() -> None:
    rows = [{"a": ["u", "v"] * 600, "b": ["w"] * 1200, "y": ["L", "M"] * 600} for _ in range(3)] + [
        {"a": ["u"], "b": ["w"], "y": ["L"]}
    ] * 9
    spec, _ = infer_spec(table_of_frame(rows), "a,b", "y:labels")
    dataset = read_pairs(table_of_frame(rows), spec)
    assert spec.aligned == ("b",)
    assert len(dataset) > 12
    assert dataset.source.lengths.tolist() == dataset.others[0].lengths.tolist() == dataset.target.lengths.tolist()
