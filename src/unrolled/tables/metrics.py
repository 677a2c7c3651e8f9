"""Metrics for supervised tasks, each together with the same metric of simple baselines.

A metric alone says little: if nine labels in ten are the same, always predicting that label has an accuracy of 90%. So each
report also evaluates baselines that know only the training rows.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.display import plural
from unrolled.tables.entities import are_entity_tags, entity_metrics
from unrolled.tables.metric_report import IntArray, MetricReport, escape_label

Floats = npt.NDArray[np.floating[Any]]

MAX_CONFUSION_LABELS = 256
"""With more labels than this, no confusion matrix is stored: it would be too large to read."""

MAX_COUNTED_PAIRS = 200_000
"""Maximum number of different (token, label) pairs that `StepLabelCounts` stores, so that its memory is bounded."""

MAX_SAVED_TOKENS = 20_000
"""Maximum number of tokens whose label `StepLabelCounts` saves in a model file, the most frequent first."""

MIN_SENTENCE_WORDS = 3
"""If the texts have at least this many words on average, the headline is BLEU, otherwise exact match."""

BLEU_NGRAM = 4
"""BLEU compares n-grams of up to this many words (Papineni et al. 2002); a shorter text has a score of zero."""


class StepLabelCounts:
    """Counts of the labels of all steps of the training rows, and of (token, label) pairs: the basis of the step baselines.

    `add` counts one row. At most `MAX_COUNTED_PAIRS` different pairs are stored; `num_uncounted` counts the steps beyond that.
    `from_json` restores only the majority label of each token, which is enough to evaluate with but not to go on counting.
    """

    def __init__(self) -> None:
        self.label_counts: Counter[str] = Counter()
        self.pair_counts: Counter[tuple[str, str]] = Counter()
        self.num_uncounted = 0

    def add(self, tokens: Sequence[str] | None, labels: Sequence[str]) -> None:
        """Count the label of each step of a row, together with the step's token if the source has tokens."""
        if tokens is not None:
            _require_same_length(len(labels), len(tokens), "labels", "source tokens")
            pairs: Iterable[tuple[str, str]] = zip(tokens, labels, strict=True)
            if len(self.pair_counts) + len(labels) > MAX_COUNTED_PAIRS:  # checked once per row, since a check per step is slow
                pairs = self._countable_pairs(pairs)
            self.pair_counts.update(pairs)
        self.label_counts.update(labels)

    def _countable_pairs(self, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for pair in pairs:
            if pair in self.pair_counts or len(self.pair_counts) < MAX_COUNTED_PAIRS:
                yield pair
            else:
                self.num_uncounted += 1

    def majority_by_token(self) -> dict[str, str]:
        """Return the most frequent label of each token, for tokens where it differs from the most frequent label overall."""
        overall, totals, best = majority_label(self.label_counts), Counter[str](), dict[str, tuple[int, str]]()
        for (token, label), count in self.pair_counts.items():
            totals[token] += count
            best[token] = min(best.get(token, (0, "")), (-count, label))
        order = sorted(best, key=lambda token: (-totals[token], token))
        return {token: best[token][1] for token in order if best[token][1] != overall}

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for a model file: label counts, and for each label the tokens for which it is the majority."""
        tokens_by_label: dict[str, list[str]] = {}
        by_token = self.majority_by_token() if self.label_counts else {}
        for token, label in sorted(itertools.islice(by_token.items(), MAX_SAVED_TOKENS)):
            tokens_by_label.setdefault(label, []).append(token)
        return {
            "label_counts": dict(self.label_counts),
            "majority_by_label": tokens_by_label,
            "num_uncounted": self.num_uncounted,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepLabelCounts:
        """Return the counts that `to_json` saved."""
        counts = cls()
        counts.label_counts.update(data["label_counts"])
        counts.pair_counts.update((token, label) for label, tokens in data["majority_by_label"].items() for token in tokens)
        counts.num_uncounted = data["num_uncounted"]
        return counts


def classification_report(truth: Sequence[str], predicted: Sequence[str], train_counts: Mapping[str, int]) -> MetricReport:
    """Evaluate one label per row; the baseline is the most frequent label of the training rows (`train_counts`)."""
    _require_same_length(len(truth), len(predicted))
    report = _label_report(truth, predicted, {"majority": [majority_label(train_counts)] * len(truth)}, train_counts)
    if len(set(predicted)) == 1 and len(set(truth)) > 1:
        warning = f"the model predicts '{escape_label(predicted[0])}' for every row: train it longer, or with --balance"
        report = dataclasses.replace(report, warning=warning)
    return report


def roc_auc(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: how often a positive has a higher score than a negative, ties counted half.

    Example:
        >>> roc_auc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True]))
        0.875
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # from 1; equal scores share their mean rank
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def step_label_report(
    truth: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    source_tokens: Sequence[Sequence[str]] | None,
    train_counts: StepLabelCounts,
) -> MetricReport:
    """Evaluate one label per step, over the steps of all rows; `row_accuracy` is the fraction of rows without an error.

    If the labels are tags of entities, there are also precision, recall and F1 of those (see `entities`). The baselines are the
    most frequent label of the training rows and, if the source has tokens, the most frequent label of
    each token: what can be predicted without context.
    """
    _require_same_steps(truth, predicted, "predictions")
    true_labels, overall = list(itertools.chain.from_iterable(truth)), majority_label(train_counts.label_counts)
    baselines, notes = {"majority": [overall] * len(true_labels)}, []
    by_token = train_counts.majority_by_token()
    if source_tokens is not None and by_token:
        _require_same_steps(truth, source_tokens, "source tokens")
        baselines["by token"] = [by_token.get(token, overall) for token in itertools.chain.from_iterable(source_tokens)]
        if train_counts.num_uncounted:
            notes.append(
                f"by token: {plural(train_counts.num_uncounted, 'training step')} of rare pairs were not counted, "
                "to bound the memory"
            )
    lengths = np.array([len(row) for row in truth], np.int64)
    predicted_labels = list(itertools.chain.from_iterable(predicted))
    report = _label_report(true_labels, predicted_labels, baselines, train_counts.label_counts, lengths, notes)
    if not are_entity_tags({*true_labels, *predicted_labels, *train_counts.label_counts}):
        return report

    def with_entities(metrics: dict[str, float], labels: Sequence[str]) -> dict[str, float]:
        steps = iter(labels)
        return metrics | entity_metrics(truth, [list(itertools.islice(steps, len(row))) for row in truth])

    return dataclasses.replace(
        report,
        metrics=with_entities(report.metrics, predicted_labels),
        baselines={name: with_entities(metrics, baselines[name]) for name, metrics in report.baselines.items()},
    )


def regression_report(truth: Floats, predicted: Floats, train_mean: Floats) -> MetricReport:
    """Evaluate numbers `(R, D)`, in the unit of the data; the baseline always predicts the training rows' mean `(D,)`.

    `r2` is the fraction of the truth's variance that is explained, over all columns together (so that a column counts by its
    variance). It is undefined, and left out, if the truth does not vary.
    """
    if truth.ndim != 2 or predicted.shape != truth.shape or train_mean.shape != truth.shape[1:]:
        shapes = f"{truth.shape}, {predicted.shape} and {train_mean.shape}"
        raise ValueError(f"Truth and predictions are (R, D) and the mean is (D,); got {shapes}.")
    if not truth.size or not np.isfinite(truth).all():
        raise ValueError(f"The truth must be finite numbers, at least one; got an array {truth.shape}.")
    num_infinite = int((~np.isfinite(predicted)).any(axis=1).sum())
    notes = (
        (f"predictions of {plural(num_infinite, 'row')} are not finite numbers, so the error is infinite",)
        if num_infinite
        else ()
    )
    baselines = {"mean": _regression_metrics(truth, np.broadcast_to(train_mean, truth.shape))}
    return MetricReport(_regression_metrics(truth, predicted), baselines, len(truth), notes=notes)


def generation_report(truth: Sequence[str], predicted: Sequence[str], baselines: Mapping[str, Sequence[str]]) -> MetricReport:
    """Evaluate one text per row: corpus BLEU and chrF (0 to 100), the fraction of exact matches, and the character error rate
    (character edits per character of the truth; 0 is perfect, and it can be above 1).

    BLEU is that of Papineni et al. (2002) and chrF that of Popović (2015), both as sacrebleu (Post 2018) computes them.
    """
    for name, texts in {"predictions": predicted, **baselines}.items():
        _require_same_length(len(truth), len(texts), "rows of truth", name)
    scores, notes = _sacrebleu_scores(truth)
    mean_words = sum(len(text.split()) for text in truth) / len(truth)
    order = ["bleu", "chrf", "exact_match", "character_error_rate"]
    if mean_words < MIN_SENTENCE_WORDS:
        order = order[2:] + order[:2]

    def metrics(texts: Sequence[str]) -> dict[str, float]:
        values = {name: score(texts) for name, score in scores.items()}
        values["exact_match"] = sum(map(str.__eq__, truth, texts)) / len(truth)
        if num_chars := sum(map(len, truth)):
            values["character_error_rate"] = sum(map(edit_distance, truth, texts)) / num_chars
        return {name: values[name] for name in order if name in values}

    baseline_metrics = {name: metrics(texts) for name, texts in baselines.items()}
    return MetricReport(metrics(predicted), baseline_metrics, len(truth), notes=notes)


def edit_distance(first: str, second: str) -> int:
    """Return how many characters to insert, delete or replace to turn one text into the other (Levenshtein, 1966).

    A column of the usual table is two integers with one bit per character, so that one addition computes all of it
    (Myers, 1999, in the form of Hyyrö, 2003). At 60 characters it took a seventeenth of the time of the table in Python loops.
    """
    pattern, text = (first, second) if len(first) >= len(second) else (second, first)
    if not text or pattern == text:
        return 0 if pattern == text else len(pattern)
    position_bits: dict[str, int] = {}
    for position, character in enumerate(pattern):
        position_bits[character] = position_bits.get(character, 0) | 1 << position
    distance, last_bit, mask = len(pattern), 1 << (len(pattern) - 1), (1 << len(pattern)) - 1
    up, down = mask, 0  # where the column grows, or shrinks, by one from a character to the next
    for character in text:
        equal = position_bits.get(character, 0)
        diagonal = (((equal & up) + up) ^ up) | equal | down
        grows, shrinks = down | (mask & ~(diagonal | up)), up & diagonal  # from the column before to this one
        distance += bool(grows & last_bit) - bool(shrinks & last_bit)
        grows, shrinks = grows << 1 | 1, shrinks << 1
        up, down = mask & (shrinks | ~(diagonal | grows)), mask & grows & diagonal
    return distance


def natural_sort(labels: Iterable[str]) -> list[str]:
    """Sort labels in natural order: numbers by value, also those within words, so that "10" comes after "9"."""

    def sort_key(label: str) -> tuple[list[object], str]:
        parts: list[object] = re.split(r"([0-9]+)", label)
        for index in range(1, len(parts), 2):
            digits = str(parts[index]).lstrip("0")
            parts[index] = (len(digits), digits)  # orders like the numbers, for any number of digits
        return parts, label

    items = list(labels)
    try:
        values = {label: float(label) for label in items}
    except ValueError:
        values = {}
    if values and all(map(math.isfinite, values.values())):
        return sorted(items, key=lambda label: (values[label], label))
    return sorted(items, key=sort_key)


def majority_label(counts: Mapping[str, int]) -> str:
    """Return the label with the highest count; of several, the first by code point, so that the result has no random part."""
    if not counts:
        raise ValueError("No training label was counted, so there is no most frequent one to compare with.")
    return min(counts, key=lambda label: (-counts[label], label))


def looks_tokenized(texts: Iterable[str]) -> bool:
    """Return whether most full stops and commas are separate words, as in text that was tokenized before.

    Other punctuation is not considered, since French puts a space before it.
    """
    text = "\n".join(texts)
    num_spaced, num_marks = (len(re.findall(mark + r"(?!\S)", text)) for mark in (r"(?<!\S)[.,]", "[.,]"))
    return num_spaced > num_marks - num_spaced


def bleu_tokenizer(texts: Sequence[str]) -> str:
    """Return the sacrebleu tokenizer for texts: `zh` for Chinese, `char` for Japanese and Thai, `none` if they look tokenized.

    Those languages are written without spaces, so that 13a, the tokenizer for all others, finds a word per sentence.
    """
    letters = [letter for letter in "".join(texts) if letter.isalpha()]
    num_han = sum("\u3400" <= letter <= "\u9fff" for letter in letters)
    num_kana_or_thai = sum("\u3040" <= letter <= "\u30ff" or "\u0e00" <= letter <= "\u0e7f" for letter in letters)
    if letters and num_han + num_kana_or_thai > len(letters) / 2:
        return "char" if num_kana_or_thai > len(letters) / 10 else "zh"
    return "none" if looks_tokenized(texts) else "13a"


def _label_report(
    truth: Sequence[str],
    predicted: Sequence[str],
    baselines: Mapping[str, Sequence[str]],
    train_counts: Mapping[str, int],
    lengths: IntArray | None = None,
    notes: Sequence[str] = (),
) -> MetricReport:
    """Evaluate labels and `baselines`; `lengths` `(R,)` is the number of labels of each row, if a row has several."""
    labels = natural_sort({*truth, *predicted})
    index = {label: i for i, label in enumerate(dict.fromkeys(itertools.chain(labels, *baselines.values())))}
    true_ids, predicted_ids, *baseline_ids = (
        np.fromiter(map(index.__getitem__, texts), np.int64, len(truth)) for texts in (truth, predicted, *baselines.values())
    )
    metrics, *baseline_metrics = (
        _label_metrics(true_ids, label_ids, len(index), lengths) for label_ids in (predicted_ids, *baseline_ids)
    )
    all_notes, noun, num_labels = list(notes), "row" if lengths is None else "step", len(labels)
    unseen = np.array([not train_counts.get(label) for label in index])[true_ids] & (true_ids != predicted_ids)
    if num_unseen := int(unseen.sum()):
        names = [f"'{escape_label(labels[label_id])}'" for label_id in np.unique(true_ids[unseen])]
        names_text = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if names[5:] else "")
        all_notes.append(f"{plural(num_unseen, noun)} with a label not in the training rows, counted as wrong: {names_text}")
    num_rows, num_steps = (len(truth), None) if lengths is None else (len(lengths), len(truth))
    metrics_by_baseline = dict(zip(baselines, baseline_metrics, strict=True))
    if num_labels > MAX_CONFUSION_LABELS:
        all_notes.append(f"no confusion matrix: {num_labels:,} labels are more than {MAX_CONFUSION_LABELS}")
        return MetricReport(metrics, metrics_by_baseline, num_rows, notes=tuple(all_notes), num_steps=num_steps)
    confusion = (
        np.bincount(true_ids * num_labels + predicted_ids, minlength=num_labels * num_labels)
        .reshape(num_labels, num_labels)
        .astype(np.int64)
    )
    return MetricReport(metrics, metrics_by_baseline, num_rows, tuple(labels), confusion, tuple(all_notes), num_steps)


def _label_metrics(truth: IntArray, predicted: IntArray, num_labels: int, lengths: IntArray | None) -> dict[str, float]:
    """Return accuracy and macro F1, the mean over labels in the truth or the predictions, as in scikit-learn."""
    is_correct = truth == predicted
    metrics = {"accuracy": float(is_correct.mean())}
    if lengths is not None:
        wrong_rows = np.unique(np.repeat(np.arange(len(lengths)), lengths)[~is_correct])
        metrics["row_accuracy"] = 1 - len(wrong_rows) / len(lengths)
    support = np.bincount(truth, minlength=num_labels) + np.bincount(predicted, minlength=num_labels)
    hits = np.bincount(truth[is_correct], minlength=num_labels)
    return {**metrics, "macro_f1": float((2 * hits[support > 0] / support[support > 0]).mean())}


def _regression_metrics(truth: Floats, predicted: Floats) -> dict[str, float]:
    if not np.isfinite(predicted).all():
        return {"rmse": math.inf, "mae": math.inf}
    truth64, predicted64 = truth.astype(np.float64), predicted.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # an error too large for a float is reported as infinite
        errors, deviations = predicted64 - truth64, truth64 - truth64.mean(axis=0)
        deviations[:, np.ptp(truth64, axis=0) == 0] = 0  # rounding of the mean would give a tiny variance instead of zero
        squared_error, total_variance = float(np.square(errors).sum()), float(np.square(deviations).sum())
    metrics = {"rmse": math.sqrt(squared_error / errors.size), "mae": float(np.abs(errors).mean())}
    return {**metrics, "r2": 1 - squared_error / total_variance} if 0 < total_variance < math.inf else metrics


def _sacrebleu_scores(truth: Sequence[str]) -> tuple[dict[str, Callable[[Sequence[str]], float]], tuple[str, ...]]:
    """Return the sacrebleu scores that are defined for this truth, by name, and notes about them."""
    try:
        sacrebleu = importlib.import_module("sacrebleu.metrics")
    except ImportError:
        return {}, ("BLEU and chrF need sacrebleu: pip install 'unrolled[eval]'",)
    tokenizer = bleu_tokenizer(truth)
    bleu = sacrebleu.BLEU(tokenize=tokenizer, force=True, references=[list(truth)])
    chrf = sacrebleu.CHRF(references=[list(truth)])
    scores: dict[str, Callable[[Sequence[str]], float]] = {}
    if any(map(str.strip, truth)):  # chrF of empty texts is 0 even for a correct prediction
        scores["chrf"] = lambda texts: float(chrf.corpus_score(list(texts), None).score)
    if not any(len(bleu.tokenizer(text).split()) >= BLEU_NGRAM for text in truth):
        return scores, (f"no BLEU: every text has fewer than {BLEU_NGRAM} words, so it would be 0 even if all were right",)
    scores["bleu"] = lambda texts: float(bleu.corpus_score(list(texts), None).score)
    tokenization = "none (the texts look tokenized)" if tokenizer == "none" else tokenizer
    version = importlib.import_module("sacrebleu").__version__
    return scores, (f"BLEU by sacrebleu {version}, case-sensitive, tokenizer: {tokenization}",)


def _require_same_length(
    first_length: int, second_length: int, first_name: str = "rows of truth", second_name: str = "predictions"
) -> None:
    if first_length != second_length:
        raise ValueError(f"There must be as many {first_name} as {second_name}; got {first_length:,} and {second_length:,}.")
    if not first_length and first_name == "rows of truth":
        raise ValueError("At least one row is needed; got none.")


def _require_same_steps(truth: Sequence[Sequence[str]], other_rows: Sequence[Sequence[str]], other_name: str) -> None:
    _require_same_length(len(truth), len(other_rows), second_name=f"rows of {other_name}")
    for number, (row, other) in enumerate(zip(truth, other_rows, strict=True), start=1):
        if len(row) != len(other):
            raise ValueError(f"Row {number} must have as many labels as {other_name}; got {len(row):,} and {len(other):,}.")
    if not any(map(len, truth)):
        raise ValueError("At least one step is needed; every row is empty.")
