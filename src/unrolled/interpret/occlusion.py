"""Which parts of a row moved an answer: what happens to it when one part is left out, or held at the mean.

Leaving words out is from Li, Monroe and Jurafsky (Understanding Neural Networks through Representation Erasure, 2016), holding
patches of an image from Zeiler and Fergus (Visualizing and Understanding Convolutional Networks, 2014). Tokens are left out;
where a step has a label of its own they become the unknown token. Frames and patches of an image become the mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.evaluation.predictor import Prediction, Predictor
from unrolled.tables.cell_values import Array, Cell
from unrolled.tables.column import Column
from unrolled.tables.source_columns import EncodedSource
from unrolled.tables.text_column import TextColumn

MAX_PARTS = 48
"""Parts of a column at most: of a longer one, parts are longer."""

GRID = 7
"""An image is divided into at most so many rows and columns of patches."""

BATCH_ROWS = 64

MAX_LOG_ODDS = 100.0
"""Log odds of an answer with the probability 1, in place of infinity."""


@dataclass(frozen=True)
class ColumnParts:
    """The parts of one source column: their texts (empty but for tokens), and the `effect` of each on the answer.

    An effect is the log odds of the answer, log p / (1 - p), minus those without the part, in nats: above 0, the part supports
    the answer. They differ where the probability itself is next to 1 with and without the part.
    Of a number, it is the answer minus that without the part, in the unit of the target. For an image, the parts are
    patches, row by row, of a grid of `grid` rows and columns. `whole` is the effect of all parts together, if there are several
    and other columns are left: two words that say the same have no effect one by one.
    """

    name: str
    texts: tuple[str, ...]
    effect: Array
    grid: tuple[int, int] | None = None
    whole: float | None = None


@torch.inference_mode()
def occlude(predictor: Predictor, cell: Cell, prediction: Prediction) -> list[ColumnParts]:
    """Return the parts of each source column of a row, with their effects on its `prediction`; none for an empty answer."""
    source = predictor.encode(cell)
    if not len(source) or not len(prediction.values):
        return []
    spec = predictor.spec
    found = []
    for number, column in enumerate(spec.sources):
        steps = (source.steps, *source.others)[number]
        part_cell = (cell, *cell.others)[number]
        bounds, texts = _parts(column, part_cell, steps)
        if len(bounds) + len(spec.others) < 2:  # without its only part, nothing of the row is left
            continue
        can_delete = spec.mode.output != "aligned" or number > 0
        variants = [_with_column(source, number, array) for array in _occluded(column, steps, bounds, can_delete)]
        if source.ngrams is not None and isinstance(column, TextColumn):
            variants = _with_features(column, texts, variants)
        if has_whole := len(bounds) > 1 and bool(spec.others):
            neutral = steps.copy()
            neutral[:] = _neutral(column, steps)
            variants.append(_with_column(source, number, neutral))
        scores = answer_scores(predictor, [source, *variants], prediction)
        effects = scores[0] - scores[1:]
        grid = _grid(steps) if column.tensor_kind == "image" else None
        parts = effects[: len(bounds)]
        found.append(ColumnParts(column.name, texts, parts, grid, float(effects[-1]) if has_whole else None))
    return found


@torch.inference_mode()
def answer_scores(predictor: Predictor, rows: Sequence[EncodedSource], prediction: Prediction) -> Array:
    """Return for each source the log odds of one answer (of a label per step, their mean), or of numbers the first of them."""
    parts = [
        _batch_scores(predictor, list(rows[start : start + BATCH_ROWS]), prediction)
        for start in range(0, len(rows), BATCH_ROWS)
    ]
    return np.concatenate(parts)


def _batch_scores(predictor: Predictor, rows: list[EncodedSource], prediction: Prediction) -> Array:
    model, batch = predictor.model, predictor.collate(rows)
    if model.dims.target_tensor_kind == "floats":
        values = model.logits(batch).float()[0].cpu().numpy()
        unscale = getattr(predictor.spec.target, "unscale", None)
        numbers: Array = (values if unscale is None else unscale(values))[:, 0]
        return numbers
    ids = torch.as_tensor(np.asarray(prediction.values, dtype=np.int64), device=model.device)
    targets = ids[:, None].expand(-1, len(rows)).contiguous()
    if model.decoder is not None:
        log_p = F.logsigmoid(_log_odds(*model.logits_and_targets({**batch, "target": targets}))).sum(0)
        scores = log_p - torch.log(-torch.expm1(log_p))
    else:
        scores = _log_odds(model.logits(batch)[: len(ids), :, :-1], targets).mean(0)
    result: Array = scores.float().cpu().numpy()
    return result


def _log_odds(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log odds `(M, B)` of targets `(M, B)` with logits `(M, B, V)`, precise for probabilities next to 1."""
    logits, indices = logits.float(), targets.unsqueeze(-1)
    others = logits.scatter(-1, indices, -math.inf).logsumexp(-1)
    return (logits.gather(-1, indices).squeeze(-1) - others).double().clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)


def _parts(column: Column, cell: Cell, steps: Array) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
    """Return the steps, first and after the last, of each part of a column, and its text."""
    if column.tensor_kind == "image":
        rows, columns = _grid(steps)
        return [(index, index + 1) for index in range(rows * columns)], ()
    if column.tokenizer is None and not column.is_sequence:
        return [(0, len(steps))], ()
    if column.tensor_kind != "ids":
        return _merge([(index, index + 1) for index in range(len(steps))]), ()
    tokens = list(column.cell_tokens(cell))
    if len(tokens) < len(steps):  # pieces of words, or bytes
        tokens = [column.decode(steps[index : index + 1]) for index in range(len(steps))]
    tokens = tokens[: len(steps)]
    is_split = any(len(token) > 1 for token in tokens)
    bounds = _merge([(index, index + 1) for index in range(len(steps))] if is_split else _words(tokens))
    separator = " " if column.tokenizer is not None and column.tokenizer.kind == "words" or column.kind == "labels" else ""
    return bounds, tuple(separator.join(tokens[start:stop]) + separator for start, stop in bounds)


def _words(characters: Sequence[str]) -> list[tuple[int, int]]:
    """Return the words of a text of single characters, each with the blanks after it."""
    starts = [
        index
        for index, character in enumerate(characters)
        if index == 0 or (characters[index - 1].isspace() and not character.isspace())
    ]
    if len(starts) == 1:
        starts = list(range(len(characters)))
    return list(zip(starts, [*starts[1:], len(characters)], strict=True))


def _merge(bounds: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return at most `MAX_PARTS` parts."""
    size = -(-len(bounds) // MAX_PARTS)
    return [(bounds[first][0], bounds[min(first + size, len(bounds)) - 1][1]) for first in range(0, len(bounds), size)]


def _grid(steps: Array) -> tuple[int, int]:
    """Return the rows and columns of patches of an image `(1, H, W, C)`."""
    return min(GRID, steps.shape[1]), min(GRID, steps.shape[2])


def _occluded(column: Column, steps: Array, bounds: list[tuple[int, int]], can_delete: bool) -> Iterator[Array]:
    """Yield the steps of a column without each of its parts."""
    if column.tensor_kind == "image":
        rows, columns = _grid(steps)
        for row, column_index in np.ndindex(rows, columns):
            held = steps.copy()
            height, width = steps.shape[1:3]
            held[:, row * height // rows : (row + 1) * height // rows,
                 column_index * width // columns : (column_index + 1) * width // columns] = 0  # fmt: skip
            yield held
        return
    for start, stop in bounds:
        if column.tensor_kind == "ids" and can_delete and stop - start < len(steps):
            yield np.delete(steps, slice(start, stop), axis=0)
            continue
        held = steps.copy()
        held[start:stop] = _neutral(column, steps)
        yield held


def _neutral(column: Column, steps: Array) -> Any:
    """Return what a step without information is: the unknown token, or the mean; of a series, its own."""
    if column.tensor_kind == "ids":
        return column.unk_id
    if column.kind != "numbers":
        return 0
    is_known = ~np.isnan(steps)
    return np.where(is_known, steps, 0).sum(0) / is_known.sum(0).clip(1)


def _with_features(column: TextColumn, texts: Sequence[str], variants: Sequence[EncodedSource]) -> list[EncodedSource]:
    """Return the sources without each of the parts `texts`, with what a linear classifier reads of the text that is left."""
    is_exact = column.has_text_tokens  # pieces of words and bytes may be parts of a character
    left = [
        "".join([*texts[:part], *texts[part + 1 :]]) if is_exact else column.decode(variant.steps)
        for part, variant in enumerate(variants)
    ]
    return [replace(variant, **column.features_of(text)) for text, variant in zip(left, variants, strict=True)]


def _with_column(source: EncodedSource, number: int, steps: Array) -> EncodedSource:
    """Return a source with other steps of one column."""
    columns = [source.steps, *source.others]
    columns[number] = steps
    return replace(source, steps=columns[0], others=tuple(columns[1:]))
