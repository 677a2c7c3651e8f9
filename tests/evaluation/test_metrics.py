"""Judging predictions: every number by hand or by who defines it, the baselines beside it, and what has no number left out."""

import json
import math
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from unrolled.evaluation import metric_report
from unrolled.evaluation import metrics as module
from unrolled.evaluation.metric_report import Report
from unrolled.evaluation.metrics import (
    StepCounts,
    commonest,
    edit_distance,
    judge_labels,
    judge_numbers,
    judge_sequences,
    judge_steps,
    looks_tokenised,
    natural_order,
)

SPLIT = ["two men , one old , are talking .", "a dog runs over the grass .", "a child sleeps ."]
GUESSED = ["two men , one young , talk .", "a dog runs on the grass .", "a child is asleep ."]
PROSE = ["Two men, one old, are talking.", "A dog runs over the grass.", "A child (of two) sleeps."]


def as_json(report: Report) -> dict[str, Any]:
    """Through the text and back; a NaN or an infinity would raise."""
    values: dict[str, Any] = json.loads(json.dumps(report.to_json(), allow_nan=False))
    return values


def steps(rows: list[tuple[str, str]]) -> StepCounts:
    counts = StepCounts()
    for symbols, labels in rows:
        counts.add(symbols, labels)
    return counts


def slow_distance(first: str, second: str) -> int:
    """Levenshtein's table, as it is defined."""
    above = list(range(len(second) + 1))
    for i, x in enumerate(first, start=1):
        row = [i]
        for j, y in enumerate(second, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


# labels


def test_labels_by_hand() -> None:
    report = judge_labels(["a", "a", "a", "b", "b", "c"], ["a", "a", "b", "b", "c", "c"], {"b": 5, "a": 9, "c": 1})
    # F1 of a: 2*2/(3+2), of b: 2*1/(2+2), of c: 2*1/(1+2)
    assert report.metrics == pytest.approx({"accuracy": 4 / 6, "macro_f1": (4 / 5 + 1 / 2 + 2 / 3) / 3})
    # always "a": F1 of a is 2*3/(3+6), and none of b and c
    assert report.baselines == {"majority": pytest.approx({"accuracy": 3 / 6, "macro_f1": (2 / 3) / 3})}
    assert report.labels == ("a", "b", "c")
    assert report.confusion is not None
    assert report.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert (report.rows, report.steps, report.notes, report.headline) == (6, None, (), "accuracy")


def test_macro_f1_asks_for_labels_of_the_truth_or_the_prediction_only() -> None:
    report = judge_labels(["a", "a"], ["a", "b"], {"c": 2, "a": 1, "b": 1})
    assert report.metrics["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert report.baselines["majority"] == {"accuracy": 0, "macro_f1": 0}
    assert report.labels == ("a", "b"), "a guess of a baseline adds no row to the confusion"


def test_labels_that_training_never_saw_are_told_and_wrong() -> None:
    report = judge_labels(["x", "a", "x", "y"], ["a", "a", "a", "b"], {"a": 3, "b": 1, "y": 0})
    assert report.metrics["accuracy"] == 1 / 4
    assert report.notes == ("3 rows with a label that training never saw, counted as wrong: 'x', 'y'",)
    many = judge_labels([str(i) for i in range(9)], ["0"] * 9, {"0": 1})
    assert many.notes[0].endswith(": '1', '2', '3', '4', '5' and 3 more")


def test_one_class_only() -> None:
    report = judge_labels(["a"] * 3, ["a"] * 3, {"a": 7})
    assert report.metrics == report.baselines["majority"] == {"accuracy": 1, "macro_f1": 1}
    assert "a  3" in report.table()
    assert "precision" not in report.table()


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["0", "1", "-1", "0.5"], ["-1", "0", "0.5", "1"]),
        (["b2", "b10", "a", ""], ["", "a", "b2", "b10"]),
        (["nan", "2", "10"], ["2", "10", "nan"]),
        (["1" * 5000, "2"], ["2", "1" * 5000]),
    ],
)
def test_natural_order(labels: list[str], order: list[str]) -> None:
    assert natural_order(labels) == order


@given(st.lists(st.text("a01²9-.", max_size=4)))
def test_natural_order_depends_on_the_labels_alone(labels: list[str]) -> None:
    assert natural_order(labels) == natural_order(labels[::-1])
    assert Counter(natural_order(labels)) == Counter(labels)


def test_the_commonest_label_does_not_depend_on_the_order_of_rows() -> None:
    assert commonest({"b": 2, "a": 2, "c": 1}) == commonest({"a": 2, "b": 2}) == "a"
    with pytest.raises(ValueError, match="No training label"):
        commonest({})


def test_many_labels_have_no_confusion_matrix() -> None:
    labels = [str(i) for i in range(module.CONFUSION_LABELS + 1)]
    report = judge_labels(labels, labels, Counter(labels))
    assert (report.confusion, report.labels, report.metrics["accuracy"]) == (None, (), 1)
    assert report.notes == ("no confusion matrix: 257 labels are more than 256",)
    assert as_json(report)["confusion"] is None


# numbers


def test_numbers_by_hand() -> None:
    truth, predicted = np.array([[1.0], [2.0], [6.0]]), np.array([[2.0], [2.0], [4.0]])
    report = judge_numbers(truth, predicted, np.array([4.0]))
    # errors 1, 0, 2; about the mean of 3 the truth's squares are 4 + 1 + 9
    assert report.metrics == pytest.approx({"rmse": math.sqrt(5 / 3), "mae": 1.0, "r2": 1 - 5 / 14})
    assert report.baselines == {"mean": pytest.approx({"rmse": math.sqrt(17 / 3), "mae": 7 / 3, "r2": 1 - 17 / 14})}
    assert (report.headline, report.rows) == ("rmse", 3)


def test_numbers_of_several_columns_are_pooled() -> None:
    truth, predicted = np.array([[1, 10], [3, 10]], np.float32), np.array([[1, 12], [3, 12]], np.float32)
    report = judge_numbers(truth, predicted, truth.mean(axis=0))
    assert report.metrics == pytest.approx({"rmse": math.sqrt(8 / 4), "mae": 1.0, "r2": 1 - 8 / 2})
    assert report.baselines["mean"]["r2"] == 0


def test_a_truth_that_does_not_vary_has_no_r2() -> None:
    truth = np.full((7, 1), 0.1)
    report = judge_numbers(truth, truth + 1, np.array([0.1]))
    assert report.metrics == pytest.approx({"rmse": 1.0, "mae": 1.0})


def test_predictions_that_are_no_numbers_are_infinitely_wrong() -> None:
    truth = np.array([[1.0, 2.0], [3.0, 4.0]])
    report = judge_numbers(truth, np.array([[math.nan, math.inf], [3.0, 4.0]]), np.array([2.0, 3.0]))
    assert report.metrics == {"rmse": math.inf, "mae": math.inf}
    assert report.notes == ("predictions of 1 row are not finite numbers, so the error is infinite",)
    assert as_json(report)["metrics"] == {"rmse": None, "mae": None}
    huge = judge_numbers(np.array([[-1e300], [1e300]]), np.array([[1e300], [-1e300]]), np.array([0.0]))
    assert as_json(huge)["metrics"]["rmse"] is None
    assert "r2" not in huge.metrics


def test_numbers_of_other_shapes() -> None:
    column = np.ones((3, 1))
    with pytest.raises(ValueError, match=r"got \(3, 1\), \(2, 1\) and \(1,\)"):
        judge_numbers(column, column[:2], np.ones(1))
    with pytest.raises(ValueError, match=r"\(3, 1\) and \(2,\)"):
        judge_numbers(column, column, np.ones(2))
    with pytest.raises(ValueError, match="finite"):
        judge_numbers(column * math.nan, column, np.ones(1))
    with pytest.raises(ValueError, match="at least one"):
        judge_numbers(column[:0], column[:0], np.ones(1))


# sequences


@given(st.text("ab", max_size=70), st.text("abc", max_size=70))
def test_edit_distance_is_levenshteins(first: str, second: str) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == slow_distance(first, second)


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))
def test_edit_distance_of_any_text(before: str, middle: str, after: str) -> None:
    assert edit_distance(before + middle + after, before + after) == len(middle)


def test_edit_distance_by_hand() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "") == 0
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("a" * 300, "b" * 301) == 301


def test_character_error_rate_and_exact_match_by_hand() -> None:
    report = judge_sequences(["kitten", "12", ""], ["sitting", "12", "x"], {"nothing": ["", "", ""]})
    assert list(report.metrics)[:2] == ["exact_match", "character_error_rate"]
    assert report.metrics["exact_match"] == 1 / 3
    assert report.metrics["character_error_rate"] == (3 + 0 + 1) / 8
    assert report.baselines["nothing"]["character_error_rate"] == 1
    assert "bleu" not in report.metrics
    assert "fewer than 4 words" in report.notes[0]


@pytest.mark.parametrize(("truth", "tokenize"), [(SPLIT, "none"), (PROSE, "13a")])
def test_bleu_is_sacrebleus(truth: list[str], tokenize: str) -> None:
    report = judge_sequences(truth, GUESSED, {"copy": truth[::-1]})
    assert list(report.metrics) == ["bleu", "chrf", "exact_match", "character_error_rate"]
    for predicted, found in [(GUESSED, report.metrics), (truth[::-1], report.baselines["copy"])]:
        bleu = sacrebleu.corpus_bleu(predicted, [truth], tokenize=tokenize, force=True)
        assert found["bleu"] == pytest.approx(bleu.score)
        assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(predicted, [truth]).score)
    assert ("look tokenised" if tokenize == "none" else "13a") in report.notes[0]
    assert sacrebleu.__version__ in report.notes[0]


def test_what_was_tokenised_is_not_cut_again() -> None:
    truth = ["he said &quot; yes &quot; , twice .", "a ( small ) dog , it 's ours ."]
    report = judge_sequences(truth, [text.replace("&quot;", '"') for text in truth], {})
    assert report.metrics["bleu"] < 90, "an escaped quote is a word of its own, as the text has it"
    assert judge_sequences(truth, truth, {}).metrics["bleu"] == pytest.approx(100)


def test_what_looks_tokenised() -> None:
    assert looks_tokenised(SPLIT)
    assert looks_tokenised(["mr. smith , a man .", "no ."])
    assert not looks_tokenised(PROSE)
    assert not looks_tokenised(["Vraiment ? Oui ; bien sûr !", "Non, merci."])
    assert not looks_tokenised(["no mark at all", ""])


def test_empty_texts() -> None:
    report = judge_sequences(["", ""], ["", "a"], {})
    assert report.metrics == {"exact_match": 0.5}, "what is a share of nothing is left out"
    mixed = judge_sequences(["one two three four", "one two three four five"], ["", ""], {})
    assert mixed.metrics == {"bleu": 0, "chrf": 0, "exact_match": 0, "character_error_rate": 1}


def test_without_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    report = judge_sequences(SPLIT, SPLIT, {"copy": SPLIT})
    assert report.metrics == report.baselines["copy"] == {"exact_match": 1, "character_error_rate": 0}
    assert report.notes == ("BLEU and chrF need sacrebleu: pip install 'unrolled[eval]'",)


# steps


def test_steps_by_hand() -> None:
    train = steps([("the dog", "DDDxNNN"), ("a", "D"), ("ooo", "VVN")])  # D 4, N 4, V 2, x 1: the first is D
    report = judge_steps(["DNN", "V", ""], ["DNV", "V", ""], ["aog", "?", ""], train)
    assert report.metrics == pytest.approx({"accuracy": 3 / 4, "row_accuracy": 2 / 3, "macro_f1": (1 + 2 / 3 + 2 / 3) / 3})
    assert report.baselines["majority"] == pytest.approx({"accuracy": 1 / 4, "row_accuracy": 1 / 3, "macro_f1": (2 / 5) / 3})
    # a: D; o: N of N and VVN, by one letter (V 2, N 2); g: N; an unknown ?: the majority's D
    assert report.baselines["by symbol"]["accuracy"] == 3 / 4
    assert report.confusion is not None
    assert (report.labels, report.confusion.tolist()) == (("D", "N", "V"), [[1, 0, 0], [0, 1, 1], [0, 0, 1]])
    assert (report.rows, report.steps) == (3, 4)
    assert report.table().startswith("3 rows, 4 steps\n")


def test_steps_of_numbers_have_no_baseline_by_symbol() -> None:
    counts = StepCounts()
    counts.add(None, ["up", "down", "up"])
    report = judge_steps([["up", "sideways"]], [["up", "up"]], None, counts)
    assert list(report.baselines) == ["majority"]
    assert report.notes == ("1 step with a label that training never saw, counted as wrong: 'sideways'",)
    assert list(judge_steps(["ab"], ["ab"], ["xy"], steps([("q", "a")])).baselines) == ["majority"]


def test_step_counts_come_back_from_json() -> None:
    counts = steps([("aabbc", "XXYYX"), ("abz", "YYX")])
    again = StepCounts.from_json(json.loads(json.dumps(counts.to_json())))
    assert counts.winners() == again.winners() == {"b": "Y"}, "X is commonest of all, and needs no symbol"
    assert again.to_json() == counts.to_json() == {"labels": {"X": 4, "Y": 4}, "symbols": {"Y": ["b"]}, "missed": 0}
    rows = ["XYX"], ["XXX"], ["abc"]
    assert judge_steps(*rows, again) == judge_steps(*rows, counts)
    assert StepCounts.from_json(StepCounts().to_json()).to_json() == StepCounts().to_json()


def test_step_counts_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS_COUNTED", 5)
    monkeypatch.setattr(module, "SYMBOLS_SAVED", 2)
    counts = steps([("aaa", "XXX"), ("bbbcdde", "YYYYYYY"), ("fagb", "YYYY"), ("hhhhh", "XXXXX"), ("a", "X")])
    assert counts.pairs == {("a", "X"): 4, ("b", "Y"): 4, ("c", "Y"): 1, ("d", "Y"): 2, ("e", "Y"): 1}
    assert counts.missed == 3 + 5
    assert counts.labels == {"X": 9, "Y": 11}
    assert counts.to_json()["symbols"] == {"X": ["a"]}
    counts.labels["X"] += 3
    assert counts.to_json()["symbols"] == {"Y": ["b", "d"]}, "the commonest symbols first"
    report = judge_steps(["XY"], ["XY"], ["ab"], counts)
    assert "8 training steps" in report.notes[0]


# lengths


def test_lengths_are_told() -> None:
    with pytest.raises(ValueError, match="rows of truth as predictions; got 3 and 2"):
        judge_labels(["a"] * 3, ["a"] * 2, {"a": 1})
    with pytest.raises(ValueError, match="as predictions; got 1 and 2"):
        judge_sequences(["a"], ["a", "b"], {})
    with pytest.raises(ValueError, match="as copy; got 1 and 0"):
        judge_sequences(["a"], ["a"], {"copy": []})
    train = steps([("ab", "XY")])
    with pytest.raises(ValueError, match="rows of predictions; got 1 and 2"):
        judge_steps(["X"], ["X", "Y"], None, train)
    with pytest.raises(ValueError, match="Row 2 must have as many labels as predictions; got 2 and 1"):
        judge_steps(["X", "XY"], ["X", "Y"], None, train)
    with pytest.raises(ValueError, match="Row 1 must have as many labels as source symbols; got 1 and 2"):
        judge_steps(["X"], ["X"], ["ab"], train)
    with pytest.raises(ValueError, match="as source symbols; got 2 and 1"):
        train.add("a", "XY")


def test_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="At least one row"):
        judge_labels([], [], {"a": 1})
    with pytest.raises(ValueError, match="At least one row"):
        judge_sequences([], [], {})
    with pytest.raises(ValueError, match="every row is empty"):
        judge_steps([""], [""], None, steps([("a", "X")]))


# for people and programs


def test_the_table() -> None:
    report = judge_labels(["9", "10", "10", "x"], ["9", "10", "9", "9"], {"10": 2, "9": 1})
    assert report.table().splitlines() == [
        "4 rows",
        "metric     model  majority",
        "accuracy  0.5000    0.5000",
        "macro_f1  0.3889    0.2222",
        "",
        "rows: truth, columns: predicted",
        "    9  10  x",
        "9   1   0  0",
        "10  1   1  0",
        "x   1   0  0",
        "",
        "label  precision  recall     f1  count",
        "9          0.333   1.000  0.500      1",
        "10         1.000   0.500  0.667      2",
        "x              -   0.000  0.000      1",
        "",
        "1 row with a label that training never saw, counted as wrong: 'x'",
    ]


def test_the_table_of_other_reports() -> None:
    numbers = Report({"rmse": 1234.5, "mae": 0.00002}, {"mean": {"rmse": math.inf}}, 1)
    assert numbers.table() == "1 row\nmetric     model  mean\nrmse    1,234.50   inf\nmae        2e-05     -"
    texts = judge_sequences(SPLIT, GUESSED, {})
    assert texts.table().splitlines()[2].split() == ["bleu", f"{texts.metrics['bleu']:.2f}"]


def test_labels_cannot_break_the_table() -> None:
    labels = ["", "\x1b[31m red\n", "日本語" * 9, "e\u0301t\u00e9", "a long name indeed " * 3]
    text = judge_labels(labels, labels, Counter(labels)).table()
    assert "\x1b" not in text
    assert "''" in text
    assert "\\x1b[31m red\\n" in text
    blocks = text.split("\n\n")
    for block in blocks[0].split("\n")[1:], blocks[1].split("\n")[1:], blocks[2].split("\n"):
        assert len({metric_report._width(line) for line in block}) == 1, "every line of a block is as wide"
        assert max(map(metric_report._width, block)) < 100


def test_twenty_labels_still_have_a_matrix_and_more_have_not() -> None:
    for count in (20, 21):
        labels = [f"label {i}" for i in range(count)]
        text = judge_labels(labels, labels, Counter(labels)).table()
        assert ("columns: predicted" in text) == (count == 20)
        assert max(map(len, text.splitlines())) <= 150
        assert f"label {count - 1} " in text


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=1))
def test_any_labels_make_json(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = ([pair[i] for pair in pairs] for i in (0, 1))
    report = judge_labels(truth, predicted, Counter(truth))
    values = as_json(report)
    assert values["headline"] == "accuracy"
    assert np.array(values["confusion"]).sum() == values["rows"] == len(pairs)
    assert np.trace(values["confusion"]) == round(values["metrics"]["accuracy"] * len(pairs))
    assert report.table()


def test_a_million_steps_are_judged_while_one_waits() -> None:
    labels = [f"tag{i}" for i in range(20)]
    rows = [labels] * 50_000
    train = steps([])
    train.add(labels, labels)
    before = time.process_time()
    report = judge_steps(rows, rows, rows, train)
    assert time.process_time() - before < 5
    assert (report.steps, report.metrics["accuracy"], report.baselines["by symbol"]["accuracy"]) == (1_000_000, 1, 1)
