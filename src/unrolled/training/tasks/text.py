"""A text as a training uses it: the part that trains, the part that validates, batches, and the ways of looking at a model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from unrolled.checkpoints.model_file import Saved, SavedModel
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.language_model import Evaluation, evaluate
from unrolled.generation.sampling import generate, step_precision
from unrolled.nn.device import Machine
from unrolled.nn.language_model import SequenceModel, embedding_width
from unrolled.options import DataOptions, PairOptions, SampleOptions, TrainingOptions, TrainRequest, flag
from unrolled.tables.table_files import TABLE_ENDINGS
from unrolled.text.batching import LONGEST_ROW, Batches, Lanes, Rows
from unrolled.text.corpus import Corpus, cached_corpus, open_corpus
from unrolled.text.tokenizer import Ids
from unrolled.training.diagnosis import verdict
from unrolled.training.recipe import Text, choose
from unrolled.training.tasks.base import Check, Note
from unrolled.training.throughput import measure

DOCUMENTS_SHOWN = 8
"""Documents in a live sample."""

JUDGED = 262144
"""Symbols of each part that the model kept is measured on in the end; of a longer part, pieces spread evenly over it."""


class TextMaterial:
    """A corpus, cut into `train` and `validation`; the latter is None where nothing is left for it.

    Raises `DataError` for a text from which nothing can be learned.
    """

    def __init__(self, corpus: Corpus, options: DataOptions, note: Note) -> None:
        self.corpus = corpus
        self._tell(note)
        least = 2 if corpus.vocabulary.end is None else 3
        train, validation = corpus.split(options.train_fraction)
        if len(train) < least:
            train, validation = corpus.ids, corpus.ids[:0]
        if len(validation) < least:
            note("no part is left for validation: the last model is kept, not the best")
        self.train: Ids = train
        self.validation: Ids | None = validation if len(validation) >= least else None
        self._paces: dict[Any, float] = {}
        self.in_rows = corpus.vocabulary.end is not None and corpus.longest <= LONGEST_ROW

    unit = "character"

    def _tell(self, note: Note) -> None:
        corpus, vocabulary = self.corpus, self.corpus.vocabulary
        kinds = vocabulary.size - (vocabulary.end is not None)
        if len(corpus.ids) < 2:
            raise DataError("The text has one character: at least two are needed, to predict one from the other.")
        if kinds == 1 and vocabulary.end is None:
            raise DataError(f"The text has one kind of symbol only, {vocabulary.decode([0])!r}: there is nothing to predict.")
        documents = "" if vocabulary.end is None else f", {corpus.documents:,} {corpus.unit}s, the longest {corpus.longest:,}"
        note(f"{len(corpus.ids):,} symbols of {kinds:,} kinds{documents}")
        for message in corpus.notes:
            note(message)

    def complete(self, request: TrainRequest, machine: Machine, note: Note) -> TrainRequest:
        """Let the recipe fill in what was not given."""
        text = Text(symbols=len(self.train) - 1, kinds=self.corpus.vocabulary.size)
        request, sentence = choose(request, text, lambda wanted: self.pace(wanted, machine), machine.ranks)
        if sentence:
            note(sentence)
        return request

    def pace(self, request: TrainRequest, machine: Machine) -> float:
        """Return the symbols a second that a request would train here; measured once for the same settings and threads."""
        key = (request.model, request.training, torch.get_num_threads())
        if key not in self._paces:
            size = self.corpus.vocabulary.size
            self._paces[key] = measure(size, request.model, request.training, machine, kernels=request.machine.kernels)
        return self._paces[key]

    def step_seconds(self, request: TrainRequest, machine: Machine) -> float:
        """Return how long a step of a request takes here."""
        return request.training.batch * request.training.bptt / self.pace(request, machine)

    def network(self, request: TrainRequest) -> SequenceModel:
        """Draw a new network."""
        return SequenceModel(self.corpus.vocabulary.size, request.model)

    def batches(self, options: TrainingOptions) -> Batches:
        """Return the training part as rows, if it is short documents, or as lanes."""
        end = self.corpus.vocabulary.end
        if end is not None and self.in_rows:
            return Rows(self.train, options.batch, options.bptt, end, options.seed)
        return Lanes(self.train, options.batch, options.bptt, end)

    def saved(self, model: SequenceModel, history: dict[str, Any], sharpness: float = 1.0) -> SavedModel:
        """Return a network as it is kept in a file, its scores multiplied by `sharpness`."""
        model = model if sharpness == 1 else model.sharpened(sharpness)
        return SavedModel(model, self.corpus.vocabulary, self.corpus.unit, history)

    def fits(self, saved: Saved) -> bool:
        """Return whether a saved model has the symbols of this text."""
        return isinstance(saved, SavedModel) and saved.vocabulary.to_json() == self.corpus.vocabulary.to_json()

    @functools.cached_property
    def symbols_per_character(self) -> float:
        """How many symbols a character has, by the first million: 1, or more where symbols are bytes of UTF-8."""
        begins = self.corpus.vocabulary.begins_character()[self.corpus.ids[: 1 << 20]]
        return 1.0 if not self.corpus.is_text or not begins.any() else float(1 / begins.mean())

    @property
    def origin(self) -> dict[str, Any]:
        """The digest of the text, and the key of its encoded copy in the cache."""
        return {"text": self.corpus.text, "corpus": self.corpus.key}

    def evaluator(
        self, model: SequenceModel, machine: Machine, options: TrainRequest
    ) -> Callable[[Check, float], tuple[float, float]] | None:
        """Return a function that gives the loss on some of the validation part, in nats a character, and its sharpness."""
        ids, limit = self.validation, options.run.eval_symbols
        if ids is None:
            return None
        if not options.training.calibrate:
            return lambda check, sharpness: (self._evaluation(model, machine, ids, limit, check).nats, 1.0)
        return lambda check, sharpness: sharper(self._evaluation(model, machine, ids, limit, check, sharpness), sharpness)

    def loss(self, model: SequenceModel, machine: Machine, ids: Ids, limit: int, check: Check = lambda: None) -> float:
        """Return the loss on up to `limit` symbols of a part, in nats a character."""
        return self._evaluation(model, machine, ids, limit, check).nats

    def _evaluation(
        self, model: SequenceModel, machine: Machine, ids: Ids, limit: int, check: Check, sharpness: float | None = None
    ) -> Evaluation:
        corpus = self.corpus
        begins = corpus.vocabulary.begins_character() if corpus.is_text else None
        end, longest = corpus.vocabulary.end, corpus.longest
        return evaluate(model, machine, ids, end, longest, limit=limit, begins=begins, check=check, sharpness=sharpness)

    def sampler(self, model: SequenceModel, machine: Machine, length: int) -> Callable[[Check], str] | None:
        """Return a function that writes some `length` symbols; None for none."""
        if length == 0:
            return None
        count = DOCUMENTS_SHOWN if self.in_rows else 1
        options = SampleOptions(length=length // count + 1, count=count)
        vocabulary = self.corpus.vocabulary

        def write(check: Check) -> str:
            precision = step_precision(model, torch.float32)  # weights that change are packed anew each time
            samples = generate(model, vocabulary, options, seed=1, check=check, precision=precision)
            return "\n".join(sample.text for sample in samples).strip("\n")

        return write

    def judge(
        self, model: SequenceModel, machine: Machine, limit: int, best_at: float, epochs: float
    ) -> tuple[float | None, str]:
        """Measure the model that was kept on more text than the looks did; return its loss, and the verdict in words."""
        train = self.loss(model, machine, self.train, limit)
        val = None if self.validation is None else self.loss(model, machine, self.validation, max(JUDGED, limit))
        return val, verdict(train, val, best_at, epochs, self.batches(TrainingOptions()).symbols)


SHARPER = 0.15
"""Most that a sharpness changes at one look: where it is far off, its curve is no parabola."""

SHARPEST = 5.0
"""A sharpness is from a fifth to this: a network that has learned nothing yet has no best one."""


def sharper(found: Evaluation, sharpness: float) -> tuple[float, float]:
    """Return the loss at the best sharpness near `sharpness`, at which `found` was measured, and that sharpness.

    It is the inverse of a temperature, found by a step of Newton's method (Guo et al. 2017: a network that reads a text many
    times becomes too sure of itself on text that it never saw).
    """
    step = min(SHARPER, max(-SHARPER, -found.slope / max(found.curvature, 1e-9)))
    step = min(SHARPEST, max(1 / SHARPEST, sharpness + step)) - sharpness
    return found.nats + found.slope * step + found.curvature * step**2 / 2, sharpness + step


def open_text(request: TrainRequest, note: Note) -> TextMaterial:
    """Read the text that a request names. Raises `UsageError` for settings that only tables have."""
    only_tables = set(PairOptions.__dataclass_fields__) | {"target", "validation"}
    asked = sorted(only_tables & request.given)
    if asked:
        raise UsageError(f"{flag(asked[0])} is for tables, and a text is to be learned: name a column to read with --source.")
    if request.data.tokens not in ("characters", "bytes"):
        raise UsageError(f"--tokens {request.data.tokens} is for tables: a text is learned as characters or bytes.")
    embedding_width(1, request.model)
    if any(name.lower().endswith(TABLE_ENDINGS) for name in request.inputs):
        note("learned as a text; to learn one of its columns from another: --source COLUMN --target COLUMN")
    return TextMaterial(open_corpus(request.inputs, request.data, report=note), request.data, note)


def reopen_text(request: TrainRequest, origin: dict[str, Any], note: Note) -> TextMaterial:
    """Return the text of a run again."""
    return TextMaterial(same_corpus(request, origin, note), request.data, lambda message: None)


def same_corpus(request: TrainRequest, origin: dict[str, Any], note: Note) -> Corpus:
    """Return the text a run was trained on: read again, or from the cache if the files are gone."""
    key = str(origin["corpus"])
    try:
        corpus = None if "-" in request.inputs else open_corpus(request.inputs, request.data, report=note)
    except DataError as error:
        corpus = cached_corpus(key)
        if corpus is None:
            raise
        note(f"{error} The copy that was encoded for this run is used.")
    if corpus is None:
        corpus = cached_corpus(key)
    if corpus is None:
        raise DataError("The text of this run came from standard input, and its encoded copy is no longer in the cache.")
    if corpus.text != str(origin["text"]):
        raise DataError(f"The text of this run has changed since: {', '.join(request.inputs)}. Start a new run with it.")
    return corpus
