"""Tables without a header, with other quotes, other encodings, nested keys; CoNLL; series; predict from lines and texts."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.calibration import best_threshold
from unrolled.tables import series
from unrolled.tables.entities import are_entity_tags, entity_metrics, find_entities
from unrolled.tables.frames import frame_rows, is_frame, table_of_frame
from unrolled.tables.header_rows import looks_like_header
from unrolled.tables.metrics import StepLabelCounts, classification_report, step_label_report
from unrolled.tables.pair_batching import balanced_weights, read_pairs
from unrolled.tables.series import refuse_series
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table, open_table_or_lines, open_with_columns
from unrolled.tables.table_format import TableFormat

TINY = ("--threads", "1", "--steps", "3", "--hidden", "8", "--layers", "1", "--batch", "8", "--sample-length", "0")
PAIRS = "".join(f"{word} it {number},{label}\n" for number in range(20) for word, label in (("like", "good"), ("hate", "bad")))


def rows_of(path: Path, **format: Any) -> list[dict[str, Any]]:
    return [row for _, row in open_table(str(path), format=TableFormat(**format)).rows()]


def test_a_header_is_given_by_names_or_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("like it,good\nhate it,bad\n")
    first = {"like it": "hate it", "good": "bad"}
    assert rows_of(path) == rows_of(path, header="first") == [first]
    assert rows_of(path, header="none") == [{"0": "like it", "1": "good"}, {"0": "hate it", "1": "bad"}]
    named = [{"text": "like it", "label": "good"}, {"text": "hate it", "label": "bad"}]
    assert rows_of(path, header="text, label") == named
    path.write_text("text,label\nlike it,good\nhate it,bad\n")
    assert rows_of(path, header="text,label") == named
    with pytest.raises(UsageError, match=r"t\.csv has 2 columns, and header= names 3 \(a, b, c\)"):
        rows_of(path, header="a,b,c")
    with pytest.raises(UsageError, match="a different name is expected for each column"):
        rows_of(path, header="a,a")
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UsageError, match="header= is for CSV, TSV, CoNLL and lists in JSON"):
        open_table(str(tmp_path / "t.jsonl"), format=TableFormat("a"))


@pytest.mark.parametrize(
    ("first", "rows", "expected"),
    [
        (["text", "label"], [["like it", "good"]], True),
        (["I am cold.", "j'ai froid."], [["I run.", "je cours."]], False),
        (["0", "the soup"], [["4", "the bed"]], False),
        (["", "a"], [["x", "y"]], False),
        (["NaN", "a"], [["x", "y"]], False),
        (["phrase", "cost"], [["a pan", "3.5"], ["a pot", "4"]], True),
        (["phrase", "cost"], [["a pan", "3,5"], ["a pot", "NA"]], True),
        (["phrase", "cost"], [["a pan", "NA"], ["a pot", ""]], False),
        (["phrase", "mood"], [[f"phrase {i}", "good" if i % 2 else "bad"] for i in range(20)], True),
        (["phrase 0", "good"], [[f"phrase {i}", "good" if i % 2 else "bad"] for i in range(20)], False),
        (["hund", "dog"], [["katze", "cat"], ["maus", "mouse"]], False),
    ],
)
def test_whether_a_first_row_has_the_names_of_columns(first: list[str], rows: list[list[str]], expected: bool) -> None:
    assert looks_like_header(first, rows) is expected


def test_columns_by_number(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("I am cold.\tj'ai froid.\tCC-BY\nI run.\tje cours.\tCC-BY\n")
    table = open_with_columns(str(path), ("0", "1"), TableFormat())
    assert (table.columns, [cells[0].value for _, cells in table.iter_cells(("-2",))]) == (
        ("0", "1", "2"),
        ["j'ai froid.", "je cours."],
    )
    assert "the first row is data" in table.notes[0]
    path.write_text("text\tlabel\nlike it\tgood\nhate it\tbad\n")
    table = open_with_columns(str(path), ("0", "1"), TableFormat())
    assert (table.columns, table.notes, table.find_column("1")) == (("text", "label"), (), "label")
    with pytest.raises(UsageError, match=r"no column '2'.*header='none'"):
        table.find_column("2")


@pytest.mark.slow
def test_a_model_of_a_file_without_a_header_reads_such_files(cli: Cli) -> None:
    Path("t.csv").write_text(PAIRS)
    assert cli("train", "t.csv", "--source", "0:text", "--target", "1", *TINY, "--out", "r").code == 0
    assert unrolled.load_table("r").spec.header == "none"
    assert cli("eval", "r", "t.csv").out.startswith("40 rows")
    assert cli("predict", "r", "t.csv").out.splitlines()[0] == "0,1,predicted,probability"
    done = cli("train", "t.csv", "--header", "text,label", "--source", "text:text", "--target", "label", *TINY, "--out", "n")
    assert done.code == 0
    Path("with.csv").write_text("text,label\n" + PAIRS)
    assert cli("eval", "n", "with.csv").out == cli("eval", "n", "t.csv").out
    Path("turned.csv").write_text("good,like it 1\n")
    assert cli("predict", "n", "turned.csv", "--header", "label,text").out.splitlines()[1].startswith("good,like it 1,")


@pytest.mark.parametrize(
    ("name", "text", "expected", "note"),
    [
        ("t.csv", 'a,b\n"say \\"hi\\", now",x\n"c:\\\\",y\n\\N,z\n', ['say "hi", now', "c:\\", ""], "escaped by a backslash"),
        ("t.csv", 'a,b\n"ends in \\",x\n', ["ends in \\"], ""),
        ("t.tsv", 'a\tb\n"two\nlines"\tx\nplain\ty\n', ["two\nlines", "plain"], "quotes around cells"),
        ("t.tsv", 'a\tb\n"say ""hi"""\tx\nplain\ty\n', ['say "hi"', "plain"], "quotes around cells"),
        ("t.tsv", 'a\tb\n"Hi," he said\tx\n"quoted"\ty\n', ['"Hi," he said', '"quoted"'], ""),
        ("t.tsv", 'a\tb\n"quoted"\ty\n', ['"quoted"'], ""),
    ],
)
def test_quotes_are_those_that_make_rows_equally_long(
    tmp_path: Path, name: str, text: str, expected: list[str], note: str
) -> None:
    (tmp_path / name).write_text(text)
    table = open_table(str(tmp_path / name))
    assert [row["a"] for _, row in table.rows()] == expected
    assert note in " ".join(table.notes)
    assert bool(note) is bool(table.notes)


def test_a_row_that_quotes_do_not_explain_is_an_error_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('a\tb\n"one\nx\ty\tz\n')
    with pytest.raises(DataError, match=r"line 2: 1 cell, and the header has 2 columns \(a, b\); a quotation mark is a normal"):
        rows_of(tmp_path / "t.tsv")


@pytest.mark.parametrize(("name", "encoding"), [("t.csv", "windows-1252"), ("t.jsonl", "shift_jis"), ("t.tsv", "utf-16")])
def test_tables_of_other_encodings(tmp_path: Path, name: str, encoding: str) -> None:
    value = "caf\u00e9" if encoding == "windows-1252" else "\u732b"
    text = {
        "t.csv": f"a,b\n{value},1\n",
        "t.tsv": f"a\tb\n{value}\t1\n",
        "t.jsonl": json.dumps({"a": value}, ensure_ascii=False),
    }
    (tmp_path / name).write_bytes(text[name].encode(encoding))
    assert rows_of(tmp_path / name, encoding=encoding)[0]["a"] == value
    with pytest.raises(DataError, match="not UTF-8|UTF-8 is expected"):
        rows_of(tmp_path / name)
    with pytest.raises(UsageError, match="there is no such encoding"):
        rows_of(tmp_path / name, encoding="windoof")
    (tmp_path / name).write_text(text[name], "utf-8")
    assert rows_of(tmp_path / name, encoding=encoding)[0]["a"] == value  # it shows that it is UTF-8 already


def test_keys_in_objects_are_columns(cli: Cli) -> None:
    rows = [{"data": {"text": f"{word} it {i}", "tags": ["x", word]}, "label": word} for i in range(20) for word in ("a", "b")]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = open_table("t.jsonl")
    assert next(iter(table.iter_cells(("data.text",))))[1][0].value == "a it 0"
    with pytest.raises(UsageError, match=r"no column 'data.txt'; did you mean 'data.text'"):
        table.find_column("data.txt")
    assert cli("train", "t.jsonl", "--source", "data.text", "--target", "label", *TINY, "--out", "r").code == 0
    predicted = json.loads(cli("predict", "r", "t.jsonl", "--json").out)["rows"]
    assert (len(predicted), predicted[0]["data"]) == (40, rows[0]["data"])
    assert cli("eval", "r", "t.jsonl").out.startswith("40 rows")


CONLL = "-DOCSTART- O\n\nAnna B-PER\nleft O\n\n#walk O\nNew B-LOC\nQuito I-LOC\n"
CONLLU = (
    "# sent_id = 1\n# text = Im Haus\n1-2\tIm\t_\t_\t_\t_\t_\t_\t_\t_\n1\tIn\tin\tADP\t_\t_\t3\tcase\t_\t_\n"
    "2\tdem\tder\tDET\t_\t_\t3\tdet\t_\t_\n3\tHaus\tHaus\tNOUN\t_\t_\t0\troot\t_\t_\n3.1\tx\tx\tX\t_\t_\t_\t_\t_\t_\n\n"
    "1\tJa\tja\tINTJ\t_\t_\t0\troot\t_\t_\n"
)


@pytest.mark.parametrize("name", ["t.conll", "t.txt"])
def test_conll(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CONLL)
    table = open_table(str(tmp_path / name))
    expected = [{"0": ["Anna", "left"], "1": ["B-PER", "O"]}, {"0": ["#walk", "New", "Quito"], "1": ["O", "B-LOC", "I-LOC"]}]
    assert list(table.rows()) == [(3, expected[0]), (6, expected[1])]
    assert table.find_column("-1") == "1"
    spec, _ = infer_spec(table, "0", "-1")
    assert (spec.target.kind, spec.mode.name) == ("labels", "synced")
    assert rows_of(tmp_path / name, header="word,tag")[0] == {"word": ["Anna", "left"], "tag": ["B-PER", "O"]}
    (tmp_path / name).write_text(CONLL + "left\n")
    with pytest.raises(DataError, match=r"line 9: 1 column, and the file has 2"):
        rows_of(tmp_path / name)


def test_any_comment_of_a_conllu_file_is_one(tmp_path: Path) -> None:
    lines = "# my own note\n" + "".join(f"{number}\tw\tw\tNOUN\t_\t_\t0\troot\t_\t_\n" for number in (1, 2)) + "\n"
    (tmp_path / "t.conllu").write_text(lines)
    assert rows_of(tmp_path / "t.conllu")[0]["UPOS"] == ["NOUN", "NOUN"]


def test_conllu(tmp_path: Path) -> None:
    (tmp_path / "t.conllu").write_text(CONLLU)
    table = open_table(str(tmp_path / "t.conllu"))
    rows = [cells for _, cells in table.iter_cells(("form", "UPOS"))]
    assert [[cell.value for cell in row] for row in rows] == [
        [["In", "dem", "Haus"], ["ADP", "DET", "NOUN"]],
        [["Ja"], ["INTJ"]],
    ]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-PER I-PER O I-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("B-PER B-PER I-LOC", [("PER", 0, 0), ("PER", 1, 1), ("LOC", 2, 2)]),
        ("S-PER B-LOC I-LOC E-LOC I-LOC", [("PER", 0, 0), ("LOC", 1, 3), ("LOC", 4, 4)]),
        ("U-PER B-LOC I-LOC L-LOC O", [("PER", 0, 0), ("LOC", 1, 3)]),
        ("O O", []),
    ],
)
def test_entities_are_those_of_seqeval(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert find_entities(tags.split()) == spans


def test_entity_f1_stands_beside_accuracy() -> None:
    truth, predicted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]], [["B-PER", "I-PER", "O", "O"], ["B-LOC", "B-LOC"]]
    # seqeval 1.2.2: precision 2/3, recall 2/3, F1 2/3
    assert entity_metrics(truth, predicted) == pytest.approx(
        {"entity_f1": 2 / 3, "entity_precision": 2 / 3, "entity_recall": 2 / 3}
    )
    counts = StepLabelCounts()
    for row in truth:
        counts.add(None, row)
    report = step_label_report(truth, predicted, None, counts)
    assert report.headline == "accuracy"
    assert report.metrics["entity_f1"] == pytest.approx(2 / 3)
    assert report.baselines["majority"]["entity_f1"] >= 0
    assert not are_entity_tags({"NOUN", "O"})
    assert "entity_f1" not in step_label_report([["a"]], [["a"]], None, counts).metrics


LONG = "id,t,value,label\n" + "".join(f"{i},{t},{i + t / 7},{'up' if i % 2 else 'down'}\n" for i in range(6) for t in range(8))
STEPS = ",".join(str(t / 7) for t in range(12))
WIDE = ",".join(f"t{t}" for t in range(12)) + ",label\n" + f"{STEPS},a\n" * 9


def test_tables_of_series_are_refused(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "long.csv").write_text(LONG)
    (tmp_path / "wide.csv").write_text(WIDE)
    with pytest.raises(DataError, match=r"one row per step of a series \('id' names the series, 't' the step\)"):
        refuse_series(open_table(str(tmp_path / "long.csv")), "value", "label")
    for wide in (WIDE, WIDE.replace(",0.8571428571428571,", ",NA,")):  # without a value at one step in all rows
        (tmp_path / "wide.csv").write_text(wide)
        with pytest.raises(DataError, match="has series in the columns t0 to t11"):
            refuse_series(open_table(str(tmp_path / "wide.csv")), "t3", "label")
    refused = cli("train", tmp_path / "long.csv", "--source", "value", "--target", "label", *TINY, "--out", "r")
    assert (refused.code, "value:number" in refused.err) == (3, True)
    said = cli("train", tmp_path / "long.csv", "--source", "value:number", "--target", "label", *TINY, "--out", "r")
    assert said.code == 0
    with pytest.raises(UsageError, match="'t0,t1' names 2 columns, and one is expected"):
        open_table(str(tmp_path / "wide.csv")).find_column("t0,t1")


def test_tables_of_other_rows_are_not(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,size,price,label\n" + "".join(f"{i},{i * 7 % 5},{i / 3},{i % 2}\n" for i in range(40)))
    assert refuse_series(open_table(str(tmp_path / "t.csv")), "price", "label") is None
    steps = "".join(f"{user},{day},{user * day},{day % 2}\n" for user in range(5) for day in range(6))
    (tmp_path / "t.csv").write_text("user,day,amount,label\n" + steps)
    assert "each row is learned independently" in (refuse_series(open_table(str(tmp_path / "t.csv")), "amount", "label") or "")


def test_the_rows_are_grouped_once_by_each_column(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [f"c_{chr(97 + number)}" for number in range(12)]
    rows = "".join(",".join(str(row * number % 11 / 2) for number in range(12)) + "\n" for row in range(60))
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + rows)
    grouped: list[str] = []
    group = series._group

    def counted(rows: Any, column: str) -> Any:
        grouped.append(column)
        return group(rows, column)

    monkeypatch.setattr(series, "_group", counted)
    assert refuse_series(open_table(str(tmp_path / "t.csv")), "c_a", "c_b") is None
    assert grouped == names[2:]


def test_long_rows_do_not_end_a_training(cli: Cli) -> None:
    Path("t.csv").write_text("text,label\n" + PAIRS + "like " * 500 + ",good\n")
    done = cli("train", "t.csv", "--source", "text:words", "--target", "label", "--max-length", 20, *TINY, "--out", "r")
    assert "1 of 41 rows is cut to the first 20 steps: line 42" in done.err
    model = unrolled.load_table("r")
    assert model.predict(["hate " * 20]) == model.predict(["hate " * 20 + "like " * 80])
    told = cli("predict", "r", "--text", "like " * 21, "--text", "like")
    assert "1 source longer than the 20 steps" in told.err
    assert len(told.out.splitlines()) == 3
    table = open_table("t.csv")
    assert read_pairs(table, infer_spec(table, "text:words", "label")[0]).cut_rows == []


@pytest.fixture
def classifier(cli: Cli) -> str:
    Path("t.csv").write_text("text,label\n" + PAIRS)
    assert cli("train", "t.csv", "--source", "text:text", "--target", "label", *TINY, "--out", "r").code == 0
    return "r"


def test_predict_reads_standard_input_lines_and_texts(cli: Cli, classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [
        f"{text},{label}"
        for text, label in zip(
            ("like it", "hate it"), unrolled.load_table(classifier).predict(["like it", "hate it"]), strict=True
        )
    ]
    for name, text in (
        ("t.txt", "like it\nhate it\n"),
        ("t.csv", "text\nlike it\nhate it\n"),
        ("t.jsonl", '{"text": "like it"}\n{"text": "hate it"}\n'),
    ):
        Path(name).write_text(text)
        for source in (name, "-"):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
            done = cli("predict", classifier, source)
            lines = [line.rpartition(",")[0] for line in done.out.splitlines()]
            assert lines == ["text,predicted", *expected], (name, source, done.err)
            assert ("each line is read as one text" in done.err) is (name == "t.txt")
    done = cli("predict", classifier, "--text", "like it", "--text", "hate it")
    assert [line.rpartition(",")[0] for line in done.out.splitlines()] == ["text,predicted", *expected]
    assert cli("predict", classifier).code == 2
    assert cli("predict", classifier, "t.txt", "--text", "x").code == 2


@pytest.mark.parametrize(
    ("text", "is_lines"),
    [
        ("hello, world\n", True),
        ("one\ntwo, three\n", True),
        ("id,text\n1,x\n", False),
        ("txt,id\nx,1\ny,2\n", False),
        ("TEXT\nx\n", False),
    ],
)
def test_what_is_read_as_lines(tmp_path: Path, text: str, is_lines: bool) -> None:
    (tmp_path / "t.txt").write_text(text)
    table = open_table_or_lines(str(tmp_path / "t.txt"), "text", TableFormat())
    assert bool(table.notes) is is_lines
    if is_lines:
        assert [row["text"] for _, row in table.rows()] == text.splitlines()


@pytest.mark.slow
def test_several_answers_the_most_likely_first(cli: Cli, classifier: str) -> None:
    model = unrolled.load_table(classifier)
    best = model.predictions(["like it"], count=2)[0]
    assert [best.text, *(other.text for other in best.alternatives)] in (["bad", "good"], ["good", "bad"])
    assert sum(answer.probability or 0 for answer in (best, *best.alternatives)) == pytest.approx(1)
    header, row = cli("predict", classifier, "--text", "like it", "--count", 2).out.splitlines()
    assert header == "text,predicted,probability,predicted_2,probability_2"
    assert float(row.split(",")[2]) >= float(row.split(",")[4])
    assert len(model.predictions(["like it"], count=9)[0].alternatives) == 1
    done = cli("train", "t.csv", "--source", "label:text", "--target", "text:characters", *TINY, "--out", "w")
    assert done.code == 0
    answers = unrolled.load_table("w").predictions(["good"], count=3, beam=2)[0]
    texts = [answers.text, *(other.text for other in answers.alternatives)]
    assert len(texts) == len(set(texts)) == 3
    one = unrolled.load_table("w").predictions(["good"], beam=3)[0]
    assert (one.text, one.alternatives) == (answers.text, ())
    assert "--temperature draws one" in cli("predict", "w", "--text", "x", "--count", 2, "--temperature", 1).err


@pytest.mark.slow
def test_balanced_labels_and_their_threshold(cli: Cli) -> None:
    rows = "".join(f"odd thing {i},rare\n" if i % 12 == 0 else f"usual thing {i},common\n" for i in range(240))
    Path("t.csv").write_text("text,label\n" + rows)
    flags = ("--source", "text:words", "--target", "label", *TINY, "--steps", 2)
    plain = cli("train", "t.csv", *flags, "--out", "plain")
    balanced = cli("train", "t.csv", *flags, "--balance", "--out", "balanced")
    assert "labels are weighted from 0.5" in balanced.err
    assert "chose" in balanced.err
    assert "labels are weighted" not in plain.err
    assert unrolled.load_table("plain").spec.threshold is None
    table = open_table("t.csv")
    pairs = read_pairs(table, infer_spec(table, "text:words", "label")[0])
    weights = balanced_weights((pairs.target[row] for row in range(240)), pairs.spec)
    assert weights.tolist() == pytest.approx([240 / (2 * 220), 240 / (2 * 20), 0])
    assert (
        cli("train", "t.csv", "--source", "label:label", "--target", "text:characters", *TINY, "--balance", "--out", "x").code
        == 2
    )


def test_the_threshold_is_the_best_and_one_label_only_is_reported() -> None:
    probabilities, truth = np.array([0.01, 0.02, 0.2, 0.3]), np.array([False, False, True, True])
    assert best_threshold(probabilities, truth) == pytest.approx(0.11)
    assert best_threshold(np.array([0.1, 0.9]), np.array([False, True])) == 0.5
    report = classification_report(["ok", "bad"], ["ok", "ok"], {"ok": 9, "bad": 1})
    assert "the model predicts 'ok' for every row" in report.to_text()
    assert report.to_json()["notes"] == [report.warning]
    assert not classification_report(["ok", "bad"], ["ok", "bad"], {"ok": 9}).warning


class Pandas:
    """What pandas frames have of what is used of them."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.data, self.columns = columns, list(columns)

    def itertuples(self, index: bool, name: str | None) -> Any:
        assert not index
        assert name is None
        return zip(*self.data.values(), strict=True)


class Polars:
    """The same of polars."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.data, self.columns = columns, list(columns)

    def iter_rows(self, named: bool) -> Any:
        assert named
        return (dict(zip(self.data, values, strict=True)) for values in zip(*self.data.values(), strict=True))


COLUMNS = {"text": ["like it", "hate it"] * 20, "label": ["good", "bad"] * 20}


@pytest.mark.parametrize("make", [dict, Pandas, Polars, lambda columns: list(frame_rows(columns))])
def test_frames_are_tables(make: Any) -> None:
    frame = make(COLUMNS)
    assert is_frame(frame)
    assert list(frame_rows(frame))[1] == {"text": "hate it", "label": "bad"}
    assert table_of_frame(frame).columns == ("text", "label")


@pytest.mark.slow
def test_objects_are_learned_from_and_predicted() -> None:
    settings: dict[str, Any] = {
        "steps": 2,
        "hidden": 8,
        "layers": 1,
        "batch": 8,
        "sample_length": 0,
        "threads": 1,
        "progress": False,
    }
    model = unrolled.train_table(COLUMNS, source="text:text", target="label", **settings)
    assert len(model.predict({"text": ["like it", "hate it", None]})) == 3
    assert model.evaluate([{"text": "like it", "label": "good"}]).num_rows == 1
    assert model.evaluate().num_rows > 0  # the rows of the run are read again, from the cache
    text = unrolled.train(text="a text of some words, " * 40, **settings)
    assert text.model_file.documents == "none"
    documents = unrolled.train(["first\nsecond line", "another"] * 20, **settings)
    assert documents.model_file.documents == "cell"
    assert "\n" in [documents.tokenizer.decode([i]) for i in range(documents.tokenizer.vocab_size)]
    with pytest.raises(DataError, match=r"\(1,200 characters\) is not the name of a file: .* train\(text=...\)"):
        unrolled.train("word " * 240, **settings)
    with pytest.raises(DataError, match="Document 2 is int"):
        unrolled.train(["a", 2], **settings)  # type: ignore[list-item]
    with pytest.raises(DataError, match="'a' has 1, 'b' has 2"):
        unrolled.train_table({"a": [1], "b": [1, 2]}, "a", "b")


def test_the_cells_of_frames_are_json() -> None:
    row = {"array": np.arange(2), "nan": float("nan"), "number": np.int64(3), "nested": {"x": [np.float32(0.5)]}}
    assert next(frame_rows([row])) == {"array": [0, 1], "nan": None, "number": 3, "nested": {"x": [0.5]}}


def test_a_frame_is_learned_by_its_column_and_not_as_lines_of_json(cli: Cli) -> None:
    texts = [f"the cat sat on mat {number}" for number in range(40)]
    frame: Any = {"text": texts, "label": ["a"] * 40}
    with pytest.raises(UsageError, match=r"whose columns are text, label: name the one to write like, as in source='text'"):
        unrolled.train(frame, steps=1)
    tiny: dict[str, Any] = {"steps": 1, "hidden": 4, "sample_length": 0, "progress": False}
    del frame["label"]
    model = unrolled.train(frame, **tiny)
    assert "{" not in getattr(model.tokenizer, "tokens", "{")


def test_predictions_of_conll_files_are_such_files(cli: Cli) -> None:
    tags = {"the": "DET", "cat": "NOUN", "sees": "VERB"}
    conllu, conll = "# sent_id = 1\n1-2\tthecat\t_\t_\t_\t_\t_\t_\t_\t_\n", "-DOCSTART- O\n\n"
    for number in range(30):
        words = list(tags)[: 1 + number % 3]
        conllu += "".join(f"{i}\t{word}\t_\t{tags[word]}\t_\t_\t0\troot\t_\t_\n" for i, word in enumerate(words, 1)) + "\n"
        conll += "".join(f"{word} {'B-X' if word == 'cat' else 'O'}\n" for word in words) + "\n"
    Path("t.conllu").write_text(conllu)
    Path("t.conll").write_text(conll)
    steps = (
        "--steps",
        "150",
        "--lr",
        "0.02",
        "--hidden",
        "16",
        "--layers",
        "1",
        "--batch",
        "8",
        "--threads",
        "1",
        "--sample-length",
        "0",
    )
    cli("train", "t.conllu", "--source", "FORM", "--target", "UPOS", *steps, "--out", "u")
    Path("unlabeled.conllu").write_text(conllu.replace("\tDET\t", "\t_\t").replace("\tNOUN\t", "\t_\t"))
    assert cli("predict", "u", "unlabeled.conllu").out == conllu
    cli("train", "t.conll", "--source", "0", "--target", "-1", *steps, "--out", "c")
    told = cli("predict", "c", "t.conll").out.splitlines()
    assert told[:6] == ["-DOCSTART- O", "", "the O O", "", "the O O", "cat B-X B-X"]
