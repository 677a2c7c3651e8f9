"""A strong baseline for models of one text: a linear model of its words and runs of characters, for labels and for numbers.

It needs scikit-learn, of the extra `data`, and the training rows of the run.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unrolled.tables.cell_values import Cell

if TYPE_CHECKING:
    from unrolled.tables.spec import TableSpec

NAME, NUMBER_NAME = "tf-idf linear", "n-gram ridge"
ALPHAS, ALPHA_SHARE, MIN_ALPHA_ROWS = (1.0, 10.0, 100.0, 1000.0), 10, 20
"""Penalties of the ridge regression, of which one is chosen on every tenth row, if there are so many rows."""
TOKEN_PATTERN = r"\w+|[^\w\s]"
"""Words and punctuation marks: on TREC, marks are worth 0.016 of accuracy (benchmarks/LOG.md)."""


def one_text_changes(spec: TableSpec, rows: Sequence[tuple[Cell, Cell]], sources: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return what a linear model that learned from the source and target cells of `rows` changes in the predictions of
    `sources`, of a model that reads one text and predicts one label or number."""
    train_texts = [spec.source.read_text(source) for source, _ in rows]
    texts = [spec.source.read_text(source) for source in sources]
    targets = [spec.target.encode(target) for _, target in rows]
    if not spec.labels_one_text:
        numbers = predict_numbers(train_texts, np.concatenate(targets)[:, 0], texts)
        return [{"values": number.reshape(1, 1)} for number in numbers]
    labels, scores = predict_labels(train_texts, list(map(spec.target.decode, targets)), texts)
    sign = 1 if list(spec.target.labels) == sorted(spec.target.labels) else -1
    pairs = itertools.repeat(None) if scores is None else sign * np.stack([-scores, scores], axis=1)
    return [{"text": label, "probabilities": pair} for label, pair in zip(labels, pairs, strict=False)]


def predict_labels(
    train_texts: Sequence[str], train_labels: Sequence[str], texts: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.float64] | None]:
    """Return the label of each of `texts`, by a linear support vector machine on the TF-IDF of words and pairs of words.

    The second value is, of two labels, how much each text has of the second one in alphabetical order, `(N,)`; else None.

    Example:
        >>> predict_labels(["who is it", "where is it"], ["person", "place"], ["where"])[0]
        ['place']
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    if len(set(train_labels)) < 2 or not any(text.strip() for text in train_texts):
        return [train_labels[0]] * len(texts), None
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKEN_PATTERN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, on very few rows
        features = vectorizer.fit_transform(train_texts)
        classifier = LinearSVC(random_state=0).fit(features, train_labels)
    unknown = vectorizer.transform(texts)
    scores = classifier.decision_function(unknown) if len(classifier.classes_) == 2 else None
    return [str(label) for label in classifier.predict(unknown)], scores


def predict_numbers(
    train_texts: Sequence[str], train_numbers: npt.NDArray[np.floating[Any]], texts: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Return a number for each of `texts`, by a ridge regression on the counts of words, pairs, and runs of up to 4 characters.

    Args:
        train_texts: N texts.
        train_numbers: Their numbers, `(N,)`.
        texts: The texts to predict.

    Example:
        >>> numbers = predict_numbers(["good", "bad"] * 20, np.array([5.0, 1.0] * 20), ["good", "bad"])
        >>> numbers.round(1).tolist()
        [5.0, 1.0]
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_union

    numbers = np.asarray(train_numbers, np.float64)
    if not any(text.strip() for text in train_texts):
        return np.full(len(texts), numbers.mean())
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=TOKEN_PATTERN)
    runs = CountVectorizer(analyzer="char", lowercase=False, ngram_range=(1, 4))
    vectorizer = make_union(words, runs)
    features = vectorizer.fit_transform(train_texts)
    alpha = ALPHAS[1]
    if len(numbers) >= MIN_ALPHA_ROWS:
        is_held_out = np.arange(len(numbers)) % ALPHA_SHARE == 0
        train, rest = features[~is_held_out], features[is_held_out]

        def error(alpha: float) -> float:
            model = Ridge(alpha=alpha, solver="lsqr").fit(train, numbers[~is_held_out])
            return float(np.square(model.predict(rest) - numbers[is_held_out]).mean())

        alpha = min(ALPHAS, key=error)
    model = Ridge(alpha=alpha, solver="lsqr").fit(features, numbers)
    return np.asarray(model.predict(vectorizer.transform(texts)), np.float64)
