"""How good the predictions of a labelled task are: the numbers its field is used to, each beside an honest baseline.

A number alone says little: nine labels in ten are right for whoever always says the commonest one. So each judge
also judges a guess that looked at the training rows only, and puts it beside the model.
"""

from __future__ import annotations

import importlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.evaluation.metric_report import Integers, Report, plural, printable

Floats = npt.NDArray[np.floating[Any]]

CONFUSION_LABELS = 256
"""With more labels than this, no confusion matrix is kept: nobody reads it, and it grows with the square."""

PAIRS_COUNTED = 200_000
"""Kinds of (symbol, label) pairs that `StepCounts` keeps, so that its memory is bounded."""

SYMBOLS_SAVED = 20_000
"""Symbols whose label `StepCounts` writes into a model's file, the commonest first."""

SENTENCE_WORDS = 3
"""Texts of so many words on average are sentences, whose headline is BLEU; shorter ones are right or wrong."""

BLEU_WORDS = 4
"""BLEU compares runs of up to so many words (Papineni et al., 2002); a text with fewer scores zero, however right."""


class StepCounts:
    """How often each label stood at a step of the training rows, and at which symbol: what the baselines of steps know.

    Rows stream in through `add`; memory stays bounded by `PAIRS_COUNTED`, and `missed` counts the steps that found no room.
    What comes back from JSON knows each symbol's winning label, no longer its counts: enough to judge, not to count on.
    """

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.missed = 0

    def add(self, symbols: Sequence[str] | None, labels: Sequence[str]) -> None:
        """Count a row: the label of each step, and the symbol it stood at, if the source is symbols."""
        if symbols is not None:
            _same_length(len(labels), len(symbols), "labels", "source symbols")
            pairs: Iterable[tuple[str, str]] = zip(symbols, labels, strict=True)
            if len(self.pairs) + len(labels) > PAIRS_COUNTED:  # asked for the row, as asking for each step is slow
                pairs = self._with_room(pairs)
            self.pairs.update(pairs)
        self.labels.update(labels)

    def _with_room(self, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for pair in pairs:
            if pair in self.pairs or len(self.pairs) < PAIRS_COUNTED:
                yield pair
            else:
                self.missed += 1

    def winners(self) -> dict[str, str]:
        """Return the commonest label of each symbol, for those where it is not the commonest label of all."""
        usual, totals, best = commonest(self.labels), Counter[str](), dict[str, tuple[int, str]]()
        for (symbol, label), count in self.pairs.items():
            totals[symbol] += count
            best[symbol] = min(best.get(symbol, (0, "")), (-count, label))
        order = sorted(best, key=lambda symbol: (-totals[symbol], symbol))
        return {symbol: best[symbol][1] for symbol in order if best[symbol][1] != usual}

    def to_json(self) -> dict[str, Any]:
        """Return JSON values small enough for a model's file: label counts, and by label the symbols that it wins."""
        symbols: dict[str, list[str]] = {}
        winners = self.winners() if self.labels else {}
        for symbol, label in sorted(itertools.islice(winners.items(), SYMBOLS_SAVED)):
            symbols.setdefault(label, []).append(symbol)
        return {"labels": dict(self.labels), "symbols": symbols, "missed": self.missed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepCounts:
        """Return the counts that `to_json` described."""
        counts = cls()
        counts.labels.update(data["labels"])
        counts.pairs.update((symbol, label) for label, symbols in data["symbols"].items() for symbol in symbols)
        counts.missed = data["missed"]
        return counts


def judge_labels(truth: Sequence[str], predicted: Sequence[str], train_counts: Mapping[str, int]) -> Report:
    """Judge one label a row, against the commonest label of the training rows, whose counts are `train_counts`."""
    _same_length(len(truth), len(predicted))
    return _judge(truth, predicted, {"majority": [commonest(train_counts)] * len(truth)}, train_counts)


def judge_steps(
    truth: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    source: Sequence[Sequence[str]] | None,
    train: StepCounts,
) -> Report:
    """Judge a label a step, all steps of all rows pooled; `row_accuracy` is the share of rows without a mistake.

    The baselines are the commonest label of the training rows, and, where `source` is symbols, the commonest one of each
    symbol: what can be known without looking left or right.
    """
    _same_steps(truth, predicted, "predictions")
    steps, usual = list(itertools.chain.from_iterable(truth)), commonest(train.labels)
    guesses, notes = {"majority": [usual] * len(steps)}, []
    winners = train.winners()
    if source is not None and winners:
        _same_steps(truth, source, "source symbols")
        guesses["by symbol"] = [winners.get(symbol, usual) for symbol in itertools.chain.from_iterable(source)]
        if train.missed:
            notes.append(f"by symbol: {plural(train.missed, 'training step')} came too late to be counted, all of rare kinds")
    lengths = np.array([len(row) for row in truth], np.int64)
    return _judge(steps, list(itertools.chain.from_iterable(predicted)), guesses, train.labels, lengths, notes)


def judge_numbers(truth: Floats, predicted: Floats, train_mean: Floats) -> Report:
    """Judge numbers `(R, D)`, in the unit of the data, against always saying the training rows' mean `(D,)`.

    `r2` is the share of the truth's variance, about its own mean, that is explained; columns are pooled by their variance.
    Where the truth does not vary it has no meaning and is left out.
    """
    if truth.ndim != 2 or predicted.shape != truth.shape or train_mean.shape != truth.shape[1:]:
        shapes = f"{truth.shape}, {predicted.shape} and {train_mean.shape}"
        raise ValueError(f"Truth and predictions are (R, D) and the mean is (D,); got {shapes}.")
    if not truth.size or not np.isfinite(truth).all():
        raise ValueError(f"The truth must be finite numbers, at least one; got an array {truth.shape}.")
    lost = int((~np.isfinite(predicted)).any(axis=1).sum())
    notes = (f"predictions of {plural(lost, 'row')} are not finite numbers, so the error is infinite",) if lost else ()
    baselines = {"mean": _number_metrics(truth, np.broadcast_to(train_mean, truth.shape))}
    return Report(_number_metrics(truth, predicted), baselines, len(truth), notes=notes)


def judge_sequences(truth: Sequence[str], predicted: Sequence[str], baselines: Mapping[str, Sequence[str]]) -> Report:
    """Judge one text a row: BLEU and chrF of the whole (0..100), the share of rows that are exactly right, and the
    character error rate: how many characters to mend for each of the truth's (0 is right, and more than 1 can be wrong).

    BLEU is that of Papineni et al. (2002) and chrF that of Popović (2015), both as sacrebleu (Post, 2018) computes them.
    """
    for name, texts in {"predictions": predicted, **baselines}.items():
        _same_length(len(truth), len(texts), "rows of truth", name)
    scores, notes = _corpus_scores(truth)
    words = sum(len(text.split()) for text in truth) / len(truth)
    order = ["bleu", "chrf", "exact_match", "character_error_rate"]
    if words < SENTENCE_WORDS:
        order = order[2:] + order[:2]

    def metrics(texts: Sequence[str]) -> dict[str, float]:
        found = {name: score(texts) for name, score in scores.items()}
        found["exact_match"] = sum(map(str.__eq__, truth, texts)) / len(truth)
        if characters := sum(map(len, truth)):
            found["character_error_rate"] = sum(map(edit_distance, truth, texts)) / characters
        return {name: found[name] for name in order if name in found}

    others = {name: metrics(texts) for name, texts in baselines.items()}
    return Report(metrics(predicted), others, len(truth), notes=notes)


def edit_distance(first: str, second: str) -> int:
    """Return how many characters to insert, delete or replace to turn one text into the other (Levenshtein, 1966).

    A column of the usual table is two whole numbers, one bit a character, so that Python's adder works on all of it at once
    (Myers, 1999, in the form of Hyyrö, 2003). At 60 characters it took a seventeenth of the time of the table in Python loops.
    """
    pattern, text = (first, second) if len(first) >= len(second) else (second, first)
    if not text or pattern == text:
        return 0 if pattern == text else len(pattern)
    places: dict[str, int] = {}
    for place, character in enumerate(pattern):
        places[character] = places.get(character, 0) | 1 << place
    distance, last, mask = len(pattern), 1 << (len(pattern) - 1), (1 << len(pattern)) - 1
    up, down = mask, 0  # where the column grows, or shrinks, by one from a character to the next
    for character in text:
        same = places.get(character, 0)
        diagonal = (((same & up) + up) ^ up) | same | down
        grows, shrinks = down | (mask & ~(diagonal | up)), up & diagonal  # from the column before to this one
        distance += bool(grows & last) - bool(shrinks & last)
        grows, shrinks = grows << 1 | 1, shrinks << 1
        up, down = mask & (shrinks | ~(diagonal | grows)), mask & grows & diagonal
    return distance


def natural_order(labels: Iterable[str]) -> list[str]:
    """Sort labels as people do: numbers by value, and digits within words too, so that "10" follows "9"."""

    def parts(label: str) -> tuple[list[object], str]:
        pieces: list[object] = re.split(r"([0-9]+)", label)
        for place in range(1, len(pieces), 2):
            digits = str(pieces[place]).lstrip("0")
            pieces[place] = (len(digits), digits)  # the order of numbers, with no limit to their length
        return pieces, label

    found = list(labels)
    try:
        values = {label: float(label) for label in found}
    except ValueError:
        values = {}
    if values and all(map(math.isfinite, values.values())):
        return sorted(found, key=lambda label: (values[label], label))
    return sorted(found, key=parts)


def commonest(counts: Mapping[str, int]) -> str:
    """Return the label with the highest count; among equals the first by code point, so that order never matters."""
    if not counts:
        raise ValueError("No training label was counted, so there is no commonest one to compare with.")
    return min(counts, key=lambda label: (-counts[label], label))


def looks_tokenised(texts: Iterable[str]) -> bool:
    """Say whether most full stops and commas stand alone between spaces, as a tokeniser leaves them.

    Other marks do not tell: French puts a space before them by itself.
    """
    text = "\n".join(texts)
    alone, all_marks = (len(re.findall(mark + r"(?!\S)", text)) for mark in (r"(?<!\S)[.,]", "[.,]"))
    return alone > all_marks - alone


def _judge(
    truth: Sequence[str],
    predicted: Sequence[str],
    guesses: Mapping[str, Sequence[str]],
    seen: Mapping[str, int],
    lengths: Integers | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Judge labels beside `guesses`; `lengths` `(R,)` says how many belong to each row, if a row has several."""
    labels = natural_order({*truth, *predicted})
    index = {label: i for i, label in enumerate(dict.fromkeys(itertools.chain(labels, *guesses.values())))}
    true, given, *others = (
        np.fromiter(map(index.__getitem__, texts), np.int64, len(truth)) for texts in (truth, predicted, *guesses.values())
    )
    metrics, *baselines = (_label_metrics(true, codes, len(index), lengths) for codes in (given, *others))
    told, unit, side = list(notes), "row" if lengths is None else "step", len(labels)
    unseen = np.array([not seen.get(label) for label in index])[true] & (true != given)
    if lost := int(unseen.sum()):
        names = [f"'{printable(labels[code])}'" for code in np.unique(true[unseen])]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if names[5:] else "")
        told.append(f"{plural(lost, unit)} with a label that training never saw, counted as wrong: {shown}")
    rows, steps = (len(truth), None) if lengths is None else (len(lengths), len(truth))
    beside = dict(zip(guesses, baselines, strict=True))
    if side > CONFUSION_LABELS:
        told.append(f"no confusion matrix: {side:,} labels are more than {CONFUSION_LABELS}")
        return Report(metrics, beside, rows, notes=tuple(told), steps=steps)
    confusion = np.bincount(true * side + given, minlength=side * side).reshape(side, side).astype(np.int64)
    return Report(metrics, beside, rows, tuple(labels), confusion, tuple(told), steps)


def _label_metrics(truth: Integers, predicted: Integers, kinds: int, lengths: Integers | None) -> dict[str, float]:
    """Return accuracy and macro F1; the mean is over labels that the truth or the prediction has, as scikit-learn's is."""
    right = truth == predicted
    found = {"accuracy": float(right.mean())}
    if lengths is not None:
        wrong_rows = np.unique(np.repeat(np.arange(len(lengths)), lengths)[~right])
        found["row_accuracy"] = 1 - len(wrong_rows) / len(lengths)
    both = np.bincount(truth, minlength=kinds) + np.bincount(predicted, minlength=kinds)
    hits = np.bincount(truth[right], minlength=kinds)
    return {**found, "macro_f1": float((2 * hits[both > 0] / both[both > 0]).mean())}


def _number_metrics(truth: Floats, predicted: Floats) -> dict[str, float]:
    if not np.isfinite(predicted).all():
        return {"rmse": math.inf, "mae": math.inf}
    wide, guess = truth.astype(np.float64), predicted.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # an error too large for a float is infinite, and says so
        errors, spread = guess - wide, wide - wide.mean(axis=0)
        spread[:, np.ptp(wide, axis=0) == 0] = 0  # a rounded mean would make a tiny variance of none
        squares, total = float(np.square(errors).sum()), float(np.square(spread).sum())
    found = {"rmse": math.sqrt(squares / errors.size), "mae": float(np.abs(errors).mean())}
    return {**found, "r2": 1 - squares / total} if 0 < total < math.inf else found


def _corpus_scores(truth: Sequence[str]) -> tuple[dict[str, Callable[[Sequence[str]], float]], tuple[str, ...]]:
    """Return sacrebleu's scores that can be had for this truth, by name, and what is to be told of them."""
    try:
        sacrebleu = importlib.import_module("sacrebleu.metrics")
    except ImportError:
        return {}, ("BLEU and chrF need sacrebleu: pip install 'unrolled[eval]'",)
    tokenised = looks_tokenised(truth)
    bleu = sacrebleu.BLEU(tokenize="none" if tokenised else "13a", force=True, references=[list(truth)])
    chrf = sacrebleu.CHRF(references=[list(truth)])
    scores: dict[str, Callable[[Sequence[str]], float]] = {}
    if any(map(str.strip, truth)):  # chrF of nothing is 0, even where nothing was right
        scores["chrf"] = lambda texts: float(chrf.corpus_score(list(texts), None).score)
    if not any(len(bleu.tokenizer(text).split()) >= BLEU_WORDS for text in truth):
        return scores, (f"no BLEU: every text has fewer than {BLEU_WORDS} words, so it would be 0 even if all were right",)
    scores["bleu"] = lambda texts: float(bleu.corpus_score(list(texts), None).score)
    how = "as they are, as they look tokenised" if tokenised else "cut into words by its tokeniser 13a"
    return scores, (f"BLEU by sacrebleu {importlib.import_module('sacrebleu').__version__}, texts {how}; case counts",)


def _same_length(truth: int, others: int, what: str = "rows of truth", of: str = "predictions") -> None:
    if truth != others:
        raise ValueError(f"There must be as many {what} as {of}; got {truth:,} and {others:,}.")
    if not truth and what == "rows of truth":
        raise ValueError("At least one row is needed to judge; got none.")


def _same_steps(truth: Sequence[Sequence[str]], others: Sequence[Sequence[str]], of: str) -> None:
    _same_length(len(truth), len(others), of=f"rows of {of}")
    for number, (row, other) in enumerate(zip(truth, others, strict=True), start=1):
        if len(row) != len(other):
            raise ValueError(f"Row {number} must have as many labels as {of}; got {len(row):,} and {len(other):,}.")
    if not any(map(len, truth)):
        raise ValueError("At least one step is needed to judge; every row is empty.")
