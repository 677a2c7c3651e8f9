"""A strong baseline for models that label texts: TF-IDF of words and pairs of words, with a linear classifier.

It needs scikit-learn, of the extra `data`, and the training rows of the run.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from unrolled.errors import UnrolledError
from unrolled.evaluation.predictor import Prediction, evaluate_predictions
from unrolled.tables.cell_values import Cell

if TYPE_CHECKING:
    from unrolled.tables.metric_report import MetricReport
    from unrolled.tables.spec import TableSpec

logger = logging.getLogger(__name__)

NAME = "tf-idf linear"
TOKEN_PATTERN = r"\w+|[^\w\s]"
"""Words and punctuation marks: on TREC, marks are worth 0.016 of accuracy (benchmarks/LOG.md)."""


def with_linear_baseline(
    report: MetricReport,
    spec: TableSpec,
    training_cells: Callable[[], Sequence[tuple[Cell, Cell]]],
    sources: Sequence[Cell],
    truths: Sequence[Cell],
    predictions: Sequence[Prediction],
) -> MetricReport:
    """Return a report with the metrics of a linear classifier that learned from the training rows, `training_cells()`.

    The report comes back as it is if the model does not read one text and predict one label, if scikit-learn is missing, or if
    the training rows cannot be read any more.
    """
    is_one_text = spec.source.kind == "text" and not spec.others
    if not is_one_text or spec.target.kind != "label" or not importlib.util.find_spec("sklearn"):
        return report
    try:
        rows = training_cells()
    except UnrolledError as error:
        logger.info(f"{NAME} is left out of the baselines: {error}")
        return report
    labels = [spec.target.decode(spec.target.encode(target)) for _, target in rows]
    train_texts = [spec.source.read_text(source) for source, _ in rows]
    predicted = predict_labels(train_texts, labels, [spec.source.read_text(source) for source in sources])
    answers = [dataclasses.replace(prediction, text=label) for prediction, label in zip(predictions, predicted, strict=True)]
    metrics = evaluate_predictions(spec, sources, truths, answers).metrics
    return dataclasses.replace(report, baselines={**report.baselines, NAME: metrics})


def predict_labels(train_texts: Sequence[str], train_labels: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Return the label of each of `texts`, by a linear support vector machine on the TF-IDF of words and pairs of words.

    Example:
        >>> predict_labels(["who is it", "where is it"], ["person", "place"], ["where"])
        ['place']
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    if len(set(train_labels)) < 2 or not any(text.strip() for text in train_texts):
        return [train_labels[0]] * len(texts)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKEN_PATTERN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, on very few rows
        features = vectorizer.fit_transform(train_texts)
        classifier = LinearSVC(random_state=0).fit(features, train_labels)
    return [str(label) for label in classifier.predict(vectorizer.transform(texts))]
