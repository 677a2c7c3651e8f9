"""Metrics and their baselines, compared with values by hand or with the reference implementation."""

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

from unrolled.tables import metric_report
from unrolled.tables import metrics as module
from unrolled.tables.cell_values import Cell
from unrolled.tables.column import EvalRows
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.metrics import (
    StepLabelCounts,
    classification_report,
    edit_distance,
    generation_report,
    looks_tokenized,
    majority_label,
    natural_sort,
    regression_report,
    step_label_report,
)
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.ragged import RaggedArray

SPLIT = ["two men , one old , are talking .", "a dog runs over the grass .", "a child sleeps ."]
GUESSED = ["two men , one young , talk .", "a dog runs on the grass .", "a child is asleep ."]
PROSE = ["Two men, one old, are talking.", "A dog runs over the grass.", "A child (of two) sleeps."]


def as_json(report: MetricReport) -> dict[str, Any]:
    """Return the report as parsed JSON; a NaN or an infinity raises."""
    values: dict[str, Any] = json.loads(json.dumps(report.to_json(), allow_nan=False))
    return values


def steps(rows: list[tuple[str, str]]) -> StepLabelCounts:
    counts = StepLabelCounts()
    for symbols, labels in rows:
        counts.add(symbols, labels)
    return counts


def slow_distance(first: str, second: str) -> int:
    """Return the edit distance by the table of its definition."""
    above = list(range(len(second) + 1))
    for i, x in enumerate(first, start=1):
        row = [i]
        for j, y in enumerate(second, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


# labels


def test_labels_by_hand() -> None:
    report = classification_report(["a", "a", "a", "b", "b", "c"], ["a", "a", "b", "b", "c", "c"], {"b": 5, "a": 9, "c": 1})
    # F1 of a: 2*2/(3+2), of b: 2*1/(2+2), of c: 2*1/(1+2)
    assert report.metrics == pytest.approx({"accuracy": 4 / 6, "macro_f1": (4 / 5 + 1 / 2 + 2 / 3) / 3})
    # always "a": F1 of a is 2*3/(3+6), and none of b and c
    assert report.baselines == {"majority": pytest.approx({"accuracy": 3 / 6, "macro_f1": (2 / 3) / 3})}
    assert report.labels == ("a", "b", "c")
    assert report.confusion is not None
    assert report.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert (report.num_rows, report.num_steps, report.notes, report.headline) == (6, None, (), "accuracy")


def test_macro_f1_is_over_labels_of_the_truth_or_the_predictions() -> None:
    report = classification_report(["a", "a"], ["a", "b"], {"c": 2, "a": 1, "b": 1})
    assert report.metrics["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert report.baselines["majority"] == {"accuracy": 0, "macro_f1": 0}
    assert report.labels == ("a", "b"), "a guess of a baseline adds no row to the confusion"


def test_labels_not_in_the_training_rows_are_noted_and_wrong() -> None:
    report = classification_report(["x", "a", "x", "y"], ["a", "a", "a", "b"], {"a": 3, "b": 1, "y": 0})
    assert report.metrics["accuracy"] == 1 / 4
    assert report.notes == ("3 rows with a label not in the training rows, counted as wrong: 'x', 'y'",)
    many = classification_report([str(i) for i in range(9)], ["0"] * 9, {"0": 1})
    assert many.notes[0].endswith(": '1', '2', '3', '4', '5' and 3 more")


def test_one_class_only() -> None:
    report = classification_report(["a"] * 3, ["a"] * 3, {"a": 7})
    assert report.metrics == report.baselines["majority"] == {"accuracy": 1, "macro_f1": 1}
    assert "a  3" in report.to_text()
    assert "precision" not in report.to_text()


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
    assert natural_sort(labels) == order


@given(st.lists(st.text("a01²9-.", max_size=4)))
def test_natural_order_depends_on_the_labels_alone(labels: list[str]) -> None:
    assert natural_sort(labels) == natural_sort(labels[::-1])
    assert Counter(natural_sort(labels)) == Counter(labels)


def test_the_majority_label_does_not_depend_on_the_order_of_rows() -> None:
    assert majority_label({"b": 2, "a": 2, "c": 1}) == majority_label({"a": 2, "b": 2}) == "a"
    with pytest.raises(ValueError, match="No training label"):
        majority_label({})


def test_many_labels_have_no_confusion_matrix() -> None:
    labels = [str(i) for i in range(module.MAX_CONFUSION_LABELS + 1)]
    report = classification_report(labels, labels, Counter(labels))
    assert (report.confusion, report.labels, report.metrics["accuracy"]) == (None, (), 1)
    assert report.notes == ("no confusion matrix: 257 labels are more than 256",)
    assert as_json(report)["confusion"] is None


# numbers


def test_numbers_by_hand() -> None:
    truth, predicted = np.array([[1.0], [2.0], [6.0]]), np.array([[2.0], [2.0], [4.0]])
    report = regression_report(truth, predicted, np.array([4.0]))
    # errors 1, 0, 2; about the mean of 3 the truth's squares are 4 + 1 + 9
    assert report.metrics == pytest.approx({"rmse": math.sqrt(5 / 3), "mae": 1.0, "r2": 1 - 5 / 14})
    assert report.baselines == {"mean": pytest.approx({"rmse": math.sqrt(17 / 3), "mae": 7 / 3, "r2": 1 - 17 / 14})}
    assert (report.headline, report.num_rows) == ("rmse", 3)


def test_numbers_of_several_columns_are_pooled() -> None:
    truth, predicted = np.array([[1, 10], [3, 10]], np.float32), np.array([[1, 12], [3, 12]], np.float32)
    report = regression_report(truth, predicted, truth.mean(axis=0))
    assert report.metrics == pytest.approx({"rmse": math.sqrt(8 / 4), "mae": 1.0, "r2": 1 - 8 / 2})
    assert report.baselines["mean"]["r2"] == 0


def test_the_mean_to_compare_with_is_of_the_training_rows() -> None:
    """Not of all rows, which the column is scaled by."""
    cells = [Cell(value, f"line {row}") for row, value in enumerate(["1", "3", "101"])]
    column = NumberColumn.fit("y", cells, {})
    encoded = RaggedArray("float32")
    for cell in cells:
        encoded.append(column.encode(cell))
    encoded.finalize()
    stats = column.baseline_stats(column, encoded, encoded, np.array([0, 1]))
    assert stats == {"mean": [pytest.approx(2.0, abs=1e-4)]}
    report = column.metric_report(EvalRows(column, cells[2:], cells[2:], ["101"], [column.encode(cells[2])]), stats)
    assert report.baselines["mean"]["mae"] == pytest.approx(99, abs=1e-3)


def test_a_truth_that_does_not_vary_has_no_r2() -> None:
    truth = np.full((7, 1), 0.1)
    report = regression_report(truth, truth + 1, np.array([0.1]))
    assert report.metrics == pytest.approx({"rmse": 1.0, "mae": 1.0})


def test_predictions_that_are_not_finite_have_infinite_error() -> None:
    truth = np.array([[1.0, 2.0], [3.0, 4.0]])
    report = regression_report(truth, np.array([[math.nan, math.inf], [3.0, 4.0]]), np.array([2.0, 3.0]))
    assert report.metrics == {"rmse": math.inf, "mae": math.inf}
    assert report.notes == ("predictions of 1 row are not finite numbers, so the error is infinite",)
    assert as_json(report)["metrics"] == {"rmse": None, "mae": None}
    huge = regression_report(np.array([[-1e300], [1e300]]), np.array([[1e300], [-1e300]]), np.array([0.0]))
    assert as_json(huge)["metrics"]["rmse"] is None
    assert "r2" not in huge.metrics


def test_numbers_of_wrong_shapes_are_an_error() -> None:
    column = np.ones((3, 1))
    with pytest.raises(ValueError, match=r"got \(3, 1\), \(2, 1\) and \(1,\)"):
        regression_report(column, column[:2], np.ones(1))
    with pytest.raises(ValueError, match=r"\(3, 1\) and \(2,\)"):
        regression_report(column, column, np.ones(2))
    with pytest.raises(ValueError, match="finite"):
        regression_report(column * math.nan, column, np.ones(1))
    with pytest.raises(ValueError, match="at least one"):
        regression_report(column[:0], column[:0], np.ones(1))


# sequences


@given(st.text("ab", max_size=70), st.text("abc", max_size=70))
def test_edit_distance_is_levenshteins(first: str, second: str) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == slow_distance(first, second)


@pytest.mark.slow
@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))
def test_edit_distance_of_any_text(before: str, middle: str, after: str) -> None:
    assert edit_distance(before + middle + after, before + after) == len(middle)


def test_edit_distance_by_hand() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "") == 0
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("a" * 300, "b" * 301) == 301


def test_character_error_rate_and_exact_match_by_hand() -> None:
    report = generation_report(["kitten", "12", ""], ["sitting", "12", "x"], {"nothing": ["", "", ""]})
    assert list(report.metrics)[:2] == ["exact_match", "character_error_rate"]
    assert report.metrics["exact_match"] == 1 / 3
    assert report.metrics["character_error_rate"] == (3 + 0 + 1) / 8
    assert report.baselines["nothing"]["character_error_rate"] == 1
    assert "bleu" not in report.metrics
    assert "fewer than 4 words" in report.notes[0]


@pytest.mark.parametrize(("truth", "tokenize"), [(SPLIT, "none"), (PROSE, "13a")])
def test_bleu_is_sacrebleus(truth: list[str], tokenize: str) -> None:
    report = generation_report(truth, GUESSED, {"copy": truth[::-1]})
    assert list(report.metrics) == ["bleu", "chrf", "exact_match", "character_error_rate"]
    for predicted, found in [(GUESSED, report.metrics), (truth[::-1], report.baselines["copy"])]:
        bleu = sacrebleu.corpus_bleu(predicted, [truth], tokenize=tokenize, force=True)
        assert found["bleu"] == pytest.approx(bleu.score)
        assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(predicted, [truth]).score)
    assert ("look tokenized" if tokenize == "none" else "13a") in report.notes[0]
    assert sacrebleu.__version__ in report.notes[0]


def test_tokenized_texts_are_not_tokenized_again() -> None:
    truth = ["he said &quot; yes &quot; , twice .", "a ( small ) dog , it 's ours ."]
    report = generation_report(truth, [text.replace("&quot;", '"') for text in truth], {})
    assert report.metrics["bleu"] < 90, "an escaped quote is a word of its own, as the text has it"
    assert generation_report(truth, truth, {}).metrics["bleu"] == pytest.approx(100)


def test_looks_tokenized() -> None:
    assert looks_tokenized(SPLIT)
    assert looks_tokenized(["mr. smith , a man .", "no ."])
    assert not looks_tokenized(PROSE)
    assert not looks_tokenized(["Vraiment ? Oui ; bien sûr !", "Non, merci."])
    assert not looks_tokenized(["no mark at all", ""])


def test_empty_texts() -> None:
    report = generation_report(["", ""], ["", "a"], {})
    assert report.metrics == {"exact_match": 0.5}, "what is a share of nothing is left out"
    mixed = generation_report(["one two three four", "one two three four five"], ["", ""], {})
    assert mixed.metrics == {"bleu": 0, "chrf": 0, "exact_match": 0, "character_error_rate": 1}


def test_without_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    report = generation_report(SPLIT, SPLIT, {"copy": SPLIT})
    assert report.metrics == report.baselines["copy"] == {"exact_match": 1, "character_error_rate": 0}
    assert report.notes == ("BLEU and chrF need sacrebleu: pip install 'unrolled[eval]'",)


# steps


def test_steps_by_hand() -> None:
    train = steps([("the dog", "DDDxNNN"), ("a", "D"), ("ooo", "VVN")])  # D 4, N 4, V 2, x 1: the first is D
    report = step_label_report(["DNN", "V", ""], ["DNV", "V", ""], ["aog", "?", ""], train)
    assert report.metrics == pytest.approx({"accuracy": 3 / 4, "row_accuracy": 2 / 3, "macro_f1": (1 + 2 / 3 + 2 / 3) / 3})
    assert report.baselines["majority"] == pytest.approx({"accuracy": 1 / 4, "row_accuracy": 1 / 3, "macro_f1": (2 / 5) / 3})
    # a: D; o: N of N and VVN, by one letter (V 2, N 2); g: N; an unknown ?: the majority's D
    assert report.baselines["by token"]["accuracy"] == 3 / 4
    assert report.confusion is not None
    assert (report.labels, report.confusion.tolist()) == (("D", "N", "V"), [[1, 0, 0], [0, 1, 1], [0, 0, 1]])
    assert (report.num_rows, report.num_steps) == (3, 4)
    assert report.to_text().startswith("3 rows, 4 steps\n")


def test_steps_of_numbers_have_no_baseline_by_token() -> None:
    counts = StepLabelCounts()
    counts.add(None, ["up", "down", "up"])
    report = step_label_report([["up", "sideways"]], [["up", "up"]], None, counts)
    assert list(report.baselines) == ["majority"]
    assert report.notes == ("1 step with a label not in the training rows, counted as wrong: 'sideways'",)
    assert list(step_label_report(["ab"], ["ab"], ["xy"], steps([("q", "a")])).baselines) == ["majority"]


def test_step_counts_round_trip_through_json() -> None:
    counts = steps([("aabbc", "XXYYX"), ("abz", "YYX")])
    again = StepLabelCounts.from_json(json.loads(json.dumps(counts.to_json())))
    assert counts.majority_by_token() == again.majority_by_token() == {"b": "Y"}, (
        "X is the most frequent label overall, so no token is stored for it"
    )
    assert again.to_json() == counts.to_json() == {
        "label_counts": {"X": 4, "Y": 4}, "majority_by_label": {"Y": ["b"]}, "num_uncounted": 0,
    }  # fmt: skip
    rows = ["XYX"], ["XXX"], ["abc"]
    assert step_label_report(*rows, again) == step_label_report(*rows, counts)
    assert StepLabelCounts.from_json(StepLabelCounts().to_json()).to_json() == StepLabelCounts().to_json()


def test_step_counts_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COUNTED_PAIRS", 5)
    monkeypatch.setattr(module, "MAX_SAVED_TOKENS", 2)
    counts = steps([("aaa", "XXX"), ("bbbcdde", "YYYYYYY"), ("fagb", "YYYY"), ("hhhhh", "XXXXX"), ("a", "X")])
    assert counts.pair_counts == {("a", "X"): 4, ("b", "Y"): 4, ("c", "Y"): 1, ("d", "Y"): 2, ("e", "Y"): 1}
    assert counts.num_uncounted == 3 + 5
    assert counts.label_counts == {"X": 9, "Y": 11}
    assert counts.to_json()["majority_by_label"] == {"X": ["a"]}
    counts.label_counts["X"] += 3
    assert counts.to_json()["majority_by_label"] == {"Y": ["b", "d"]}, "the most frequent tokens first"
    report = step_label_report(["XY"], ["XY"], ["ab"], counts)
    assert "8 training steps" in report.notes[0]


# lengths


def test_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="rows of truth as predictions; got 3 and 2"):
        classification_report(["a"] * 3, ["a"] * 2, {"a": 1})
    with pytest.raises(ValueError, match="as predictions; got 1 and 2"):
        generation_report(["a"], ["a", "b"], {})
    with pytest.raises(ValueError, match="as copy; got 1 and 0"):
        generation_report(["a"], ["a"], {"copy": []})
    train = steps([("ab", "XY")])
    with pytest.raises(ValueError, match="rows of predictions; got 1 and 2"):
        step_label_report(["X"], ["X", "Y"], None, train)
    with pytest.raises(ValueError, match="Row 2 must have as many labels as predictions; got 2 and 1"):
        step_label_report(["X", "XY"], ["X", "Y"], None, train)
    with pytest.raises(ValueError, match="Row 1 must have as many labels as source tokens; got 1 and 2"):
        step_label_report(["X"], ["X"], ["ab"], train)
    with pytest.raises(ValueError, match="as source tokens; got 2 and 1"):
        train.add("a", "XY")


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="At least one row"):
        classification_report([], [], {"a": 1})
    with pytest.raises(ValueError, match="At least one row"):
        generation_report([], [], {})
    with pytest.raises(ValueError, match="every row is empty"):
        step_label_report([""], [""], None, steps([("a", "X")]))


# text and JSON


def test_the_table() -> None:
    report = classification_report(["9", "10", "10", "x"], ["9", "10", "9", "9"], {"10": 2, "9": 1})
    assert report.to_text().splitlines() == [
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
        "1 row with a label not in the training rows, counted as wrong: 'x'",
    ]


def test_the_table_of_other_reports() -> None:
    numbers = MetricReport({"rmse": 1234.5, "mae": 0.00002}, {"mean": {"rmse": math.inf}}, 1)
    assert numbers.to_text() == "1 row\nmetric     model  mean\nrmse    1,234.50   inf\nmae        2e-05     -"
    texts = generation_report(SPLIT, GUESSED, {})
    assert texts.to_text().splitlines()[2].split() == ["bleu", f"{texts.metrics['bleu']:.2f}"]


def test_labels_cannot_break_the_table() -> None:
    labels = ["", "\x1b[31m red\n", "日本語" * 9, "e\u0301t\u00e9", "a long name indeed " * 3]
    text = classification_report(labels, labels, Counter(labels)).to_text()
    assert "\x1b" not in text
    assert "''" in text
    assert "\\x1b[31m red\\n" in text
    blocks = text.split("\n\n")
    for block in blocks[0].split("\n")[1:], blocks[1].split("\n")[1:], blocks[2].split("\n"):
        assert len({metric_report._display_width(line) for line in block}) == 1, "every line of a block is as wide"
        assert max(map(metric_report._display_width, block)) < 100


def test_twenty_labels_still_have_a_matrix_and_more_have_not() -> None:
    for count in (20, 21):
        labels = [f"label {i}" for i in range(count)]
        text = classification_report(labels, labels, Counter(labels)).to_text()
        assert ("columns: predicted" in text) == (count == 20)
        assert max(map(len, text.splitlines())) <= 150
        assert f"label {count - 1} " in text


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=1))
def test_any_labels_make_json(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = ([pair[i] for pair in pairs] for i in (0, 1))
    report = classification_report(truth, predicted, Counter(truth))
    values = as_json(report)
    assert values["headline"] == "accuracy"
    assert np.array(values["confusion"]).sum() == values["rows"] == len(pairs)
    assert np.trace(values["confusion"]) == round(values["metrics"]["accuracy"] * len(pairs))
    assert report.to_text()


def test_a_million_steps() -> None:
    labels = [f"tag{i}" for i in range(20)]
    rows = [labels] * 50_000
    train = steps([])
    train.add(labels, labels)
    before = time.process_time()
    report = step_label_report(rows, rows, rows, train)
    assert time.process_time() - before < 5
    assert (report.num_steps, report.metrics["accuracy"], report.baselines["by token"]["accuracy"]) == (1_000_000, 1, 1)
