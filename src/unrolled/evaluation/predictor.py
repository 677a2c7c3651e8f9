"""What a model of a table says of rows it is shown, in the order they come, and how right it is.

Rows are read in groups of like length; what one is answered does not depend on the others, beyond rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.evaluation.metric_report import Report
from unrolled.evaluation.metrics import StepCounts, judge_labels, judge_numbers, judge_sequences, judge_steps
from unrolled.generation.beam_search import Written, drawn, looked_at, search
from unrolled.nn.device import Machine
from unrolled.nn.encoder_decoder import PairModel
from unrolled.options import PredictOptions, SampleOptions
from unrolled.tables.cell_values import Cell, empty, text_of
from unrolled.tables.columns import ImageColumn, LabelColumn, LabelsColumn, TextColumn
from unrolled.tables.pair_batching import Pairs, grouped, source_steps
from unrolled.tables.spec import Task
from unrolled.tables.word_tokenizer import Words

Array = npt.NDArray[Any]

ROWS, STEPS = 64, 1 << 14
"""Rows answered together, and their steps in all."""

BLOCK = 2048
"""Rows read before any is answered, so that those of like length meet."""

COUNTED = 200_000
"""Training rows that baselines are made from; of a larger table, the first."""


@dataclass(frozen=True)
class Answer:
    """What is said of one row: as a `text`, as `values` (ids or numbers), with its probability, if it has one.

    `chances` `(labels,)` are those of all labels, where the answer is one of them.
    """

    text: str
    values: Array
    probability: float | None = None
    chances: Array | None = None


class Answerer:
    """Answers rows with a model, on a machine."""

    def __init__(self, model: PairModel, task: Task, machine: Machine, options: PredictOptions) -> None:
        self.model, self.task, self.machine, self.options = model, task, machine, options
        self.limit = model.shape.written or int(task.known.get("longest", 256) * 1.2) + 4

    def stream(self, cells: Iterable[Cell]) -> Iterator[Answer]:
        """Yield an answer for each source cell, in their order; an empty one gets an empty answer."""
        block: list[Cell] = []
        first = 0
        for cell in cells:
            block.append(cell)
            if len(block) == BLOCK:
                yield from self.answers(block, first)
                first, block = first + len(block), []
        yield from self.answers(block, first)

    @torch.inference_mode()
    def answers(self, cells: Sequence[Cell], first: int = 0) -> list[Answer]:
        """Return the answers of some cells, the first of which has the number `first` (the seeds of draws follow from it)."""
        steps = [np.zeros(0) if empty(cell.value) else source_steps(self.task, cell) for cell in cells]
        lengths = np.array([len(array) for array in steps], dtype=np.int64)
        found: list[Answer] = [Answer("", np.zeros(0, dtype=np.int64))] * len(cells)
        self.model.eval()
        for group in grouped(np.flatnonzero(lengths > 0), lengths, ROWS, STEPS):
            batch = self.batch([steps[i] for i in group])
            with self.machine.autocast():
                answered = self._group(batch, [cells[i] for i in group], [self.options.seed + first + int(i) for i in group])
            for place, answer in zip(group.tolist(), answered, strict=True):
                found[place] = answer
        return found

    @torch.inference_mode()
    def looked(self, cell: Cell) -> tuple[Answer, Array | None]:
        """Return the answer of one cell, and the weights `(M, S)` with which the source was looked at, if it was."""
        answer = self.answers([cell])[0]
        if self.model.writer is None or not len(answer.values):
            return answer, None
        found = looked_at(self.model, self.batch([source_steps(self.task, cell)]), [Written(answer.values, 0.0)])
        return answer, None if found is None else found[0]

    def batch(self, steps: list[Array]) -> dict[str, Tensor]:
        """Return sources side by side, as the model reads them."""
        laid = Pairs.lay_sources(self.task, steps)
        device = self.machine.device
        return {name: torch.from_numpy(array).to(device) for name, array in laid.items()}

    def _group(self, batch: dict[str, Tensor], cells: list[Cell], seeds: list[int]) -> list[Answer]:
        if self.model.writer is not None:
            return self._write(batch, cells, seeds)
        scores = self.model.answers(batch).float()
        if self.model.shape.target_form == "numbers":
            return [Answer(self.task.show(row[None]), row[None]) for row in scores[0].cpu().numpy()]
        known = scores[..., :-1] if scores.shape[-1] > 1 else scores  # unknown is never the answer
        chances = known.double().softmax(-1).cpu().numpy()
        if self.task.mode.writes == "once":
            return [self._label(row) for row in chances[0]]
        lengths = batch["lengths"].tolist()
        return [self._labels(chances[:length, column]) for column, length in enumerate(lengths)]

    def _label(self, chances: Array) -> Answer:
        best = chances.argmax(-1)
        return Answer(self.task.show(best[None]), best[None], float(chances[best]), chances)

    def _labels(self, chances: Array) -> Answer:
        """Return the labels of steps `(T, labels)`; the probability is a step's, on the (geometric) average."""
        best = chances.argmax(-1)
        likely = np.take_along_axis(chances, best[:, None], -1)
        return Answer(self.task.show(best), best, float(np.exp(np.log(likely).mean())))

    def _write(self, batch: dict[str, Tensor], cells: list[Cell], seeds: list[int]) -> list[Answer]:
        if self.model.shape.written or self.options.temperature is not None:
            warmth = 1.0 if self.options.temperature is None else self.options.temperature
            written = drawn(self.model, batch, SampleOptions(temperature=warmth), seeds, self.limit)
        else:
            written = search(self.model, batch, self.options, self.limit)
        texts = self._copied(batch, written, cells) or [self.task.show(row.ids) for row in written]
        return [Answer(text, row.ids, float(np.exp(row.log_probability))) for text, row in zip(texts, written, strict=True)]

    def _copied(self, batch: dict[str, Tensor], written: list[Written], cells: list[Cell]) -> list[str] | None:
        """Return texts in which a word without a symbol is the source's word looked at most (Luong et al. 2015), if any is."""
        target, source = self.task.target, self.task.source
        if not isinstance(target, TextColumn) or not isinstance(target.vocabulary, Words) or not isinstance(source, TextColumn):
            return None
        unknown = target.unknown
        if not isinstance(source.vocabulary, Words) or not any((row.ids == unknown).any() for row in written):
            return None
        looks = looked_at(self.model, batch, written)
        if looks is None:
            return None
        texts = []
        for row, weights, cell in zip(written, looks, cells, strict=True):
            words = source.symbols(cell)
            copies = {at: words[int(weights[at].argmax())] for at in np.flatnonzero(row.ids == unknown).tolist()}
            texts.append(target.vocabulary.spell(row.ids.tolist(), copies))
        return texts


def learn_baselines(pairs: Pairs, index: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return what `judge` needs to know of the training rows: counts of labels, the commonest text, the longest."""
    task = pairs.task
    rows = index[:COUNTED].tolist()
    if isinstance(task.target, LabelColumn):
        counts = Counter(int(pairs.target[i][0]) for i in rows)
        return {"labels": {task.target.labels[label]: count for label, count in sorted(counts.items())}}
    if isinstance(task.target, LabelsColumn):
        steps = StepCounts()
        for i in rows:
            steps.add(_names(task, pairs.source[i]), task.target.named(pairs.target[i]))
        return {"steps": steps.to_json()}
    if isinstance(task.target, TextColumn):
        texts = Counter(pairs.target[i].tobytes() for i in rows)
        commonest = np.frombuffer(texts.most_common(1)[0][0], dtype=np.int32)
        longest = int(pairs.target.lengths[index].max())
        return {"longest": longest, "commonest": task.target.show(commonest)}
    if isinstance(task.target, ImageColumn):
        levels = np.bincount(np.concatenate([pairs.target[i] for i in rows[:2000]]), minlength=task.shape.target_size)
        return {"levels": levels.tolist()}
    return {}


def _names(task: Task, source: Array) -> list[str] | None:
    """Return a name for each symbol of a source; None if it has no symbols."""
    return [str(i) for i in source.tolist()] if task.source.form == "symbols" else None


def judge(task: Task, sources: Sequence[Cell], truths: Sequence[Cell], answers: Sequence[Answer]) -> Report:
    """Return the metrics of a mode, beside its baselines. A painting has none: there is no one right picture of a thing."""
    target, known = task.target, task.known
    if isinstance(target, LabelColumn):
        return judge_labels([text_of(cell) for cell in truths], [a.text for a in answers], known["labels"])
    if isinstance(target, LabelsColumn):
        names = [_names(task, source_steps(task, cell)) for cell in sources]
        symbols = None if any(row is None for row in names) else [row or [] for row in names]
        truth, said = [list(target.symbols(cell)) for cell in truths], [target.named(a.values) for a in answers]
        return judge_steps(truth, said, symbols, StepCounts.from_json(known["steps"]))
    if isinstance(target, TextColumn):
        truth_texts, count = [text_of(cell) for cell in truths], len(truths)
        baselines = {"commonest": [str(known["commonest"])] * count}
        if isinstance(task.source, TextColumn):
            baselines["copy"] = [text_of(cell) for cell in sources]
        return judge_sequences(truth_texts, [a.text for a in answers], baselines)
    if isinstance(target, ImageColumn):
        return _judge_pictures(target, task, truths, answers)
    numbers: Any = target
    truth_values = np.concatenate([type(numbers).read(cell) for cell in truths])
    return judge_numbers(truth_values, numbers.unscale(np.concatenate([a.values for a in answers])), numbers.mean)


def _judge_pictures(target: ImageColumn, task: Task, truths: Sequence[Cell], answers: Sequence[Answer]) -> Report:
    """Return how far brightness and contrast of what was painted are from those of true pictures, on the average."""
    truth = np.stack([target.encode(cell) for cell in truths])
    painted = np.stack([target.paint(a.values, task.shape.target_size) for a in answers])
    painted = (painted - target.mean) / target.scale
    return Report(
        metrics={
            "brightness_error": float(abs(painted.mean() - truth.mean())),
            "contrast_error": float(abs(painted.std() - truth.std())),
        },
        baselines={},
        rows=len(truths),
        notes=("a picture that is painted has no one right answer: look at some with `predict --pictures FOLDER`",),
    )
