"""A strong baseline for models of columns: gradient-boosted trees on the same columns, which predict a label or a number.

Of texts, the trees have the TF-IDF of words and pairs of words, reduced to a few numbers. It needs scikit-learn, of the extra
`data`, and the training rows of the run.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unrolled.analysis.linear_baseline import TOKEN_PATTERN
from unrolled.tables.cell_values import Array, Cell
from unrolled.tables.column import Column
from unrolled.tables.label_columns import LabelColumn
from unrolled.tables.numeric_columns import NumberColumn, VectorColumn
from unrolled.tables.spec import TableSpec
from unrolled.tables.text_column import TextColumn

NAME = "gradient boosting"
READ_COLUMNS = (LabelColumn, NumberColumn, TextColumn, VectorColumn)

MAX_CATEGORIES = 255
"""Different labels of a column, at most, that scikit-learn splits as sets; of columns with more, how frequent each is."""

TEXT_FEATURES, TEXT_NUMBERS = 5000, 30
"""Words and pairs of words of a text, at most, and the numbers that they are reduced to (latent semantic analysis)."""

MAX_ONE_THREAD_WORK = 1e6
"""Rows times numbers up to which one thread learns the trees: more wait for each other on a busy machine."""

NUM_ITERATIONS, MIN_ITERATIONS = 100, 10
MAX_WORK = 4e9
"""Rows times numbers times trees, at most: of larger tables, there are fewer trees, and then fewer rows, evenly."""


def reads_columns(spec: TableSpec) -> bool:
    """Return whether the trees can learn what a model does: one label or number of columns that are no sequence."""
    is_row = spec.long is None and all(isinstance(column, READ_COLUMNS) for column in spec.sources)
    return is_row and not spec.reads_one_text and isinstance(spec.target, LabelColumn | NumberColumn)


def predict_from_columns(
    spec: TableSpec, rows: Sequence[tuple[Cell, Cell]], sources: Sequence[Cell]
) -> tuple[Array, Array | None]:
    """Return the answers for `sources` of trees that learned from the source and target cells of `rows`.

    Returns:
        Numbers as in the data, or ids of labels, `(N,)`; and of labels, the probability of each that the model has, `(N, K)`.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    features, is_category = _features(spec.sources, [row[0] for row in rows], sources)
    is_label = isinstance(spec.target, LabelColumn)
    read = spec.target.read_values if isinstance(spec.target, NumberColumn) else spec.target.encode
    targets = np.array([np.ravel(read(row[1]))[0] for row in rows])
    classes = np.unique(targets) if is_label else targets[:1]
    if len(np.unique(targets)) < 2:
        return np.repeat(targets[:1], len(sources)), None
    work = float(features.shape[1] * len(rows) * (len(classes) if len(classes) > 2 else 1))
    num_iterations = int(np.clip(MAX_WORK / work, MIN_ITERATIONS, NUM_ITERATIONS))
    num_kept = max(1, min(len(rows), int(len(rows) * MAX_WORK / (work * num_iterations))))
    keep = np.linspace(0, len(rows) - 1, num_kept).astype(int)
    kind = HistGradientBoostingClassifier if is_label else HistGradientBoostingRegressor
    trees = kind(max_iter=num_iterations, categorical_features=is_category, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1 if work < MAX_ONE_THREAD_WORK else None, user_api="openmp"):
        warnings.simplefilter("ignore")  # of columns without a value
        trees.fit(features[: len(rows)][keep], targets[keep])
        if not is_label:
            return np.asarray(trees.predict(features[len(rows) :]), np.float64), None
        known = trees.predict_proba(features[len(rows) :])
    probabilities = np.zeros((len(sources), len(spec.target.labels)))
    probabilities[:, trees.classes_] = known
    return probabilities.argmax(axis=1), probabilities


def _features(
    columns: Sequence[Column], known: Sequence[Cell], others: Sequence[Cell]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the numbers of `known` and `others`, `(N, D)`, in that order, and which of the D are categories."""
    rows = [(cell, *cell.others) for cell in (*known, *others)]
    parts, is_category = list[Array](), list[bool]()
    for position, column in enumerate(columns):
        cells = [None if column.is_missing(row[position].value) else row[position] for row in rows]
        part, is_label = _column_features(column, cells, len(known))
        parts.append(part)
        is_category += [is_label] * part.shape[1]
    return np.concatenate(parts, axis=1), np.array(is_category)


def _column_features(column: Column, cells: Sequence[Cell | None], num_known: int) -> tuple[Array, bool]:
    """Return the numbers of a column, `(N, D)`, NaN where a cell is missing, and whether they are categories."""
    if isinstance(column, TextColumn):
        return _text_features(["" if cell is None else column.read_text(cell) for cell in cells], num_known), False
    if isinstance(column, LabelColumn):
        ids = np.array([np.nan if cell is None else float(column.encode(cell)[0]) for cell in cells])
        if len(column.labels) <= MAX_CATEGORIES:
            ids[ids == column.unk_id] = np.nan
            return ids[:, None], True
        counts = np.bincount(np.nan_to_num(ids[:num_known], nan=column.unk_id).astype(int), minlength=column.unk_id + 1)
        return counts[np.nan_to_num(ids, nan=column.unk_id).astype(int)].astype(np.float64)[:, None], False
    if not isinstance(column, NumberColumn | VectorColumn):
        raise TypeError(f"a column of the kind {column.kind} has no numbers for trees")
    gap = np.full((1, len(column.mean)), np.nan)
    return np.concatenate([gap if cell is None else column.read_values(cell) for cell in cells]), False


def _text_features(texts: Sequence[str], num_known: int) -> Array:
    """Return a few numbers of each text, `(N, D)`, by a reduction that is fitted to the first ones; and their lengths."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    lengths = np.array([[len(text), len(text.split())] for text in texts], dtype=np.float64)
    if not any(text.strip() for text in texts[:num_known]):
        return lengths
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKEN_PATTERN, max_features=TEXT_FEATURES)
    try:
        known = vectorizer.fit_transform(texts[:num_known])
    except ValueError:  # no words, as in texts of blanks that are no ASCII
        return lengths
    if known.shape[1] <= TEXT_NUMBERS:
        return np.concatenate([lengths, vectorizer.transform(texts).toarray()], axis=1)
    reduction = TruncatedSVD(TEXT_NUMBERS, random_state=0).fit(known)
    return np.concatenate([lengths, reduction.transform(vectorizer.transform(texts))], axis=1)
