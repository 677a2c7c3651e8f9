"""Tables from the command line and from Python: each mode trains, resumes, is evaluated, predicts; errors are one sentence."""

import csv
import gzip
import io
import json
import re
from pathlib import Path

import pytest

import unrolled
from support.cli import Cli
from support.runs import assert_resumes_exactly
from support.tables import MODES, many_to_many, many_to_one, one_to_one, synced, write_csv, write_jsonl
from unrolled.errors import DataError, UsageError
from unrolled.options import TrainRequest
from unrolled.training.table_recipe import TableStats, choose_table_options
from unrolled.training.tasks.table import TableTask

TINY = ("--hidden", 16, "--layers", 1, "--batch", 8, "--threads", 1)
METRICS = {
    "many-to-one": "accuracy",
    "many-to-many": "exact_match",
    "synced": "row_accuracy",
    "one-to-one": "macro_f1",
    "one-to-many": "character_error_rate",
}


def table(mode: str, count: int = 80, seed: int = 1) -> tuple[Path, str, str]:
    make, source, target = MODES[mode]
    return write_csv(Path(f"{mode}-{seed}.csv"), make(count, seed)), source, target


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_trains_evaluates_and_predicts(cli: Cli, mode: str) -> None:
    path, source, target = table(mode)
    done = cli("train", path, "--source", source, "--target", target, *TINY, "--steps", 12, "--out", "r", "--json")
    assert done.code == 0
    assert mode in done.err
    outcome = json.loads(done.out)
    assert outcome["loss_unit"] == "target"
    assert "validation rows" in outcome["diagnosis"]

    held_out, other = cli("eval", "r", "--json"), cli("eval", "r", table(mode, 30, 2)[0], "--json")
    for done, count in ((held_out, None), (other, 30)):
        report = json.loads(done.out)
        assert METRICS[mode] in report["metrics"]
        assert report[METRICS[mode]] == report["metrics"][METRICS[mode]]
        assert report["baselines"]
        assert count is None or report["rows"] == count
    assert cli("eval", "r", table(mode, 30, 2)[0]).out.startswith("30 rows")

    done = cli("predict", "r", table(mode, 30, 2)[0])
    rows = list(csv.DictReader(io.StringIO(done.out)))
    expected = list(csv.DictReader(io.StringIO(table(mode, 30, 2)[0].read_text("utf-8"))))
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    assert set(rows[0]) == {*expected[0], "predicted", "probability"}
    document = json.loads(cli("predict", "r", table(mode, 30, 2)[0], "--json").out)
    assert [row["predicted"] for row in document["rows"]] == [row["predicted"] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_equals_an_uninterrupted_run(mode: str) -> None:
    path, source, target = table(mode)
    values = {
        "source": source, "target": target, "hidden": 12, "layers": 1, "batch": 8, "dropout": 0.2,
        "steps": 30, "threads": 1, "precision": "float32", "sample_length": 20,
    }  # fmt: skip
    if mode not in ("synced", "one-to-one"):  # these read numbers
        values["token_dropout"] = 0.1

    assert_resumes_exactly(path, values, 13)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "steps", "least"), [("many-to-one", 60, 0.99), ("one-to-one", 80, 0.95), ("synced", 120, 0.9)]
)
def test_simple_tables_are_learned(cli: Cli, mode: str, steps: int, least: float) -> None:
    path, source, target = table(mode, 300)
    cli("train", path, "--source", source, "--target", target, *TINY, "--steps", steps, "--lr", 0.02, "--out", "r")
    assert json.loads(cli("eval", "r", table(mode, 100, 2)[0], "--json").out)["accuracy"] >= least


@pytest.mark.slow
def test_a_simple_text_target_is_learned(cli: Cli) -> None:
    path, source, target = table("one-to-many", 200)
    cli("train", path, "--source", source, "--target", target, *TINY, "--steps", 150, "--lr", 0.02, "--out", "r")
    report = json.loads(cli("eval", "r", table("one-to-many", 40, 2)[0], "--json").out)
    assert report["exact_match"] == 1.0


def test_images_are_generated(cli: Cli) -> None:
    from PIL import Image

    rows = write_jsonl(Path("p.jsonl"), one_to_one(60, 1))
    done = cli("train", rows, "--source", "line:label", "--target", "picture:image", *TINY, "--steps", 20, "--out", "r")
    assert "one-to-many" in done.err
    predictions = list(csv.DictReader(io.StringIO(cli("predict", "r", rows).out)))
    image = json.loads(predictions[0]["predicted"])
    assert len(image) == len(image[0]) == 4
    assert all(0 <= value <= 255 for row in image for value in row)
    assert len({row["predicted"] for row in predictions}) > 10  # each row is sampled with its own seed
    predictions = list(csv.DictReader(io.StringIO(cli("predict", "r", rows, "--image-dir", "drawn").out)))
    with Image.open(predictions[0]["predicted"]) as file:
        assert file.size == (4, 4)
    assert cli("eval", "r").code == 0


def test_predictions_keep_all_rows_and_columns(cli: Cli) -> None:
    path, source, target = table("many-to-one")
    cli("train", path, "--source", source, "--target", target, *TINY, "--steps", 5, "--out", "r")
    new = Path("new.csv")
    new.write_text('predicted,text\n1,"a red dog, sleeps"\n2,\n3,zzz\n', "utf-8")
    done = cli("predict", "r", new, "--probabilities")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["predicted"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["predicted_"] in ("warm", "cold")
    assert rows[1]["predicted_"] == ""
    assert float(rows[0]["p_warm"]) + float(rows[0]["p_cold"]) == pytest.approx(1, abs=1e-5)
    assert cli("predict", "r", new).out.splitlines()[0] == "predicted,text,predicted_,probability"


def test_a_label_not_in_the_training_rows_counts_as_wrong_and_is_noted(cli: Cli) -> None:
    path, source, target = table("many-to-one")
    cli("train", path, "--source", source, "--target", target, *TINY, "--steps", 5, "--out", "r")
    test = write_csv(Path("t.csv"), [{"text": "a red dog", "label": "lukewarm"}, {"text": "the cat", "label": "cold"}])
    report = json.loads(cli("eval", "r", test, "--json").out)
    assert report["accuracy"] <= 0.5
    assert "lukewarm" in " ".join(report["notes"])


@pytest.mark.parametrize(
    ("text", "flags", "code", "match"),
    [
        ("a,b\nx,1\n", ("--source", "c", "--target", "b"), 2, "no column 'c'. Its columns: a, b."),
        ("a,b\nx,1\n", ("--source", "a:label"), 2, "without --target, a text is learned"),
        ("a,b\nx,1\ny\n", ("--source", "a", "--target", "b"), 3, "line 3: 1 cell"),
        ("a,a\nx,1\n", ("--source", "a", "--target", "b"), 3, "two columns named 'a'"),
        ("a,b\nx,1\ny,1\n", ("--source", "a:text", "--target", "b:label"), 3, "has the label '1'"),
        ("a,b\n,1\ny,\n", ("--source", "a", "--target", "b"), 3, "no row in which both"),
        ("a,b\nx,1\ny,2\n", ("--source", "a:image", "--target", "b:label"), 3, "line 2"),
        ("a,b\nx,1\ny,2\n", ("--source", "a:texd", "--target", "b"), 2, "did you mean 'text'"),
        ("a,b\nx,1\ny,2\n", ("--source", "a:text", "--target", "b:label", "--no-residual"), 2, "is for texts"),
        ("a,b\nx,1\ny,2\n", ("--target", "b"), 2, "--target is for tables"),
        ("a,b\nx,1\ny,2\n", ("--image-as", "columns"), 2, "--image-as is for tables"),
        ("a,b\nx,1\ny,2\n", ("b.csv", "--source", "a", "--target", "b"), 2, "One table is expected"),
    ],
)
def test_bad_input_is_one_sentence(cli: Cli, text: str, flags: tuple[str, ...], code: int, match: str) -> None:
    Path("t.csv").write_text(text, "utf-8")
    done = cli("train", "t.csv", *flags, *TINY, "--steps", 1, "--out", "r")
    assert done.code == code, done.err
    assert match in done.err
    assert not Path("r").exists()


@pytest.mark.slow
def test_a_table_without_column_options_is_a_text_with_a_note(cli: Cli) -> None:
    path, source, target = table("many-to-one")
    Path("t.csv.gz").write_bytes(gzip.compress(Path(path).read_bytes()))
    for name in (path, "t.csv.gz"):
        done = cli("train", name, *TINY, "--steps", 2, "--out", f"r-{name}")
        assert f"to learn one of them from another: unrolled train {name} --source text --target label" in done.err
    Path("d.csv").write_text("kind,text,day\n" + "".join(f"{'ab'[i % 2]},some longer text {i},{i}\n" for i in range(60)))
    assert "unrolled train d.csv --source text --target kind" in cli("train", "d.csv", *TINY, "--steps", 1, "--out", "d").err
    assert (
        "A table is read again when a training is resumed, and standard input is not"
        in cli("train", "-", "--source", source, "--target", target).err
    )


@pytest.mark.slow
def test_tokens_apply_to_the_texts_of_a_table(cli: Cli) -> None:
    path, source, target = table("many-to-one")
    for tokens in ("characters", "bytes", "words", "bpe"):
        flags = ("--source", source, "--target", target, "--tokens", tokens, *TINY, "--steps", 2, "--out", tokens)
        assert f"text as {tokens}" in cli("train", path, *flags).err
        assert cli("eval", tokens, path).code == 0


@pytest.mark.slow
def test_the_wrong_kind_of_model_is_an_error(cli: Cli, book: Path) -> None:
    path, source, target = table("many-to-one")
    cli("train", path, "--source", source, "--target", target, *TINY, "--steps", 2, "--out", "r")
    cli("train", book, "--hidden", 8, "--steps", 2, "--out", "b")
    assert (done := cli("sample", "r")).code == 4
    assert "unrolled predict" in done.err
    assert (done := cli("predict", "b", path)).code == 4
    assert "unrolled sample" in done.err
    assert (done := cli("predict", "r", write_csv(Path("o.csv"), many_to_many(3, 1)))).code == 2
    assert "no column 'text'" in done.err


def test_resume_refuses_a_changed_table(cli: Cli) -> None:
    path, source, target = table("synced")
    flags = ("--source", source, "--target", target, *TINY, "--steps", 20, "--stop-after", 10, "--out", "r")
    cli("train", path, *flags)
    write_csv(path, synced(80, 9))
    done = cli("train", "--resume", "r")
    assert done.code == 3
    assert "has changed since" in done.err


@pytest.mark.slow
def test_skipped_rows_and_a_validation_table(cli: Cli) -> None:
    rows = many_to_one(60, 1)
    rows[3]["text"] = rows[7]["label"] = ""
    path, other = write_csv(Path("t.csv"), rows), write_csv(Path("v.csv"), many_to_one(25, 2))
    flags = ("--source", "text", "--target", "label", *TINY, "--steps", 3)
    done = cli("train", path, *flags, "--validation", other, "--out", "r")
    assert "2 of 60 rows are left out, a cell being empty: line 5, 9" in done.err
    assert "on 25 validation rows" in done.err
    done = cli("train", path, *flags, "--out", "q")
    assert "58 rows: 53 to learn from, 5 for validation" in done.err
    assert json.loads(cli("eval", "q", "--json").out)["rows"] < 25
    learned = "53 of the 58 rows of t.csv were trained on: these are not the figures of new rows"
    assert learned in cli("eval", "q", path).err
    assert "trained on" not in cli("eval", "q", other).err


def test_the_seed_decides_the_validation_rows() -> None:
    path, source, target = table("many-to-one", 200)
    request = TrainRequest.build((str(path),), {"source": source, "target": target}, "test").check()
    first, second = (TableTask(request, None) for _ in range(2))
    assert first.validation_rows.tolist() == second.validation_rows.tolist()
    assert 8 <= len(first.validation_rows) <= 35
    assert not set(first.validation_rows) & set(first.train_rows)
    assert len(first.validation_rows) + len(first.train_rows) == 200
    other_seed = TrainRequest.build((str(path),), {"source": source, "target": target, "seed": 2}, "test").check()
    assert TableTask(other_seed, None).validation_rows.tolist() != first.validation_rows.tolist()


def test_the_recipe_keeps_explicit_options() -> None:
    path, source, target = table("many-to-one", 200)
    given = {"hidden": 24, "dropout": 0.07, "lr": 0.123, "batch": 5, "label_smoothing": 0.03, "token_dropout": 0.01}
    request = TrainRequest.build((str(path),), {"source": source, "target": target, **given}, "test").check()
    dims, stats = TableTask(request, None).spec.dims, TableStats(200, 1000, 200)
    chosen, message = choose_table_options(request, dims, stats, lambda request: 100.0, lambda request: 5_000)
    assert {name: chosen.to_dict()[name] for name in given} == given
    assert "3 min" in message
    assert chosen.training.epochs == 40  # 3 minutes, the default, would be 90 epochs, which is too many
    request = TrainRequest.build((str(path),), {"source": source, "target": target, "minutes": 3.0}, "test").check()
    chosen, _ = choose_table_options(request, dims, stats, lambda request: 100.0, lambda request: 10_000)
    assert chosen.training.minutes == 3.0
    assert chosen.model.dropout > 0.1


def test_numbers_are_learned_without_dropout() -> None:
    path, source, _ = table("many-to-one", 200)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},n", *(f"{line},{len(line) / 7:.2f}" for line in lines[1:])]) + "\n")
    request = TrainRequest.build((str(path),), {"source": source, "target": "n"}, "test").check()
    dims = TableTask(request, None).spec.dims
    chosen, _ = choose_table_options(request, dims, TableStats(200, 1000, 200), lambda request: 100.0, lambda request: 5_000)
    assert (chosen.model.dropout, chosen.model.token_dropout) == (0, 0)


@pytest.mark.slow
def test_from_python() -> None:
    path, source, target = table("many-to-one", 200)
    model = unrolled.train_table(
        str(path), source, target, hidden=16, steps=60, lr=0.02, batch=8, out="r", threads=1, progress=False
    )
    assert model.predict(["a red dog sleeps", "the blue cat sleeps"]) == ["warm", "cold"]
    assert isinstance(unrolled.load_table("r"), unrolled.TableModel)
    assert "text:text -> label:label" in repr(model)
    prediction = model.predictions(["a red dog sleeps"])[0]
    assert prediction.probability is not None
    assert prediction.probability > 0.5
    assert model.evaluate(str(path)).metrics["accuracy"] > 0.9
    with pytest.raises(UsageError, match="no attention over the source"):
        model.attention("a red dog sleeps")
    with pytest.raises(DataError, match="no row"):
        model.evaluate(str(write_csv(Path("e.csv"), [{"text": "", "label": ""}])))


def test_attention_weights_of_a_prediction() -> None:
    path, source, target = table("many-to-many", 60)
    model = unrolled.train_table(str(path), source, target, hidden=16, steps=20, lr=0.02, out="r", threads=1, progress=False)
    prediction, weights = model.attention("abcd", beam=2)
    assert weights.shape == (len(prediction.values), 4)
    assert weights.sum(1).tolist() == pytest.approx([1.0] * len(weights), abs=1e-4)


@pytest.mark.slow
def test_a_built_in_table_is_evaluated_on_its_test_split(cli: Cli) -> None:
    done = cli("train", "builtin:digits", *TINY, "--steps", 5, "--out", "r")
    assert done.code == 0
    reports = [
        json.loads(cli("eval", "r", *more, "--json").out) for more in ((), ("builtin:digits",), ("builtin:digits:test",))
    ]
    assert [report.pop("split") for report in reports] == ["test", "all", "all"]
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["rows"] == 355
    assert json.loads(cli("eval", "r", "builtin:digits:train", "--json").out)["rows"] == 1442
    assert cli("train", "builtin:digit").code == 3
    assert cli("eval", "r", "builtin:digits:all").code == 3


@pytest.mark.slow
def test_the_loss_of_numbers_has_no_bits(cli: Cli) -> None:
    path = write_csv(Path("n.csv"), [{"a": i / 7, "y": 1000 + 40 * i} for i in range(80)])
    done = cli("train", path, "--source", "a", "--target", "y", *TINY, "--steps", 12, "--out", "n")
    assert re.search(r"^best validation: \d+\.\d{4}, of scaled numbers$", done.err, re.MULTILINE)
    assert " bits" not in done.err.split("best validation")[1]
    done = cli("train", path, "--source", "a", "--target", "y", *TINY, "--steps", 12, "--out", "m", "--json")
    assert (json.loads(done.out)["loss_unit"], json.loads(done.out)["val_bits"]) == ("number", None)
