"""A text as a training uses it: the part that trains, the part that validates, batches, and the ways of looking at a model."""

from __future__ import annotations

from collections.abc import Callable

from unrolled.data.batches import LONGEST_ROW, Batches, Lanes, Rows
from unrolled.data.corpus import Corpus
from unrolled.data.vocab import Ids
from unrolled.errors import DataError
from unrolled.inference.evaluate import evaluate
from unrolled.inference.generate import generate
from unrolled.nn.machine import Machine
from unrolled.nn.model import SequenceModel
from unrolled.options import DataOptions, SampleOptions, TrainingOptions

DOCUMENTS_SHOWN = 8
"""Documents in a live sample."""

Check = Callable[[], None]


class Material:
    """A corpus, cut into `train` and `validation`; the latter is None where nothing is left for it.

    Raises `DataError` for a text from which nothing can be learned.
    """

    def __init__(self, corpus: Corpus, options: DataOptions, note: Callable[[str], None]) -> None:
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
        self.in_rows = corpus.vocabulary.end is not None and corpus.longest <= LONGEST_ROW

    def _tell(self, note: Callable[[str], None]) -> None:
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

    def batches(self, options: TrainingOptions) -> Batches:
        """Return the training part as rows, if it is short documents, or as lanes."""
        end = self.corpus.vocabulary.end
        if end is not None and self.in_rows:
            return Rows(self.train, options.batch, options.bptt, end, options.seed)
        return Lanes(self.train, options.batch, options.bptt, end)

    def symbols_per_character(self) -> float:
        """Return how many symbols a character has, by the first million: 1, or more where symbols are bytes of UTF-8."""
        begins = self.corpus.vocabulary.begins_character()[self.corpus.ids[: 1 << 20]]
        return 1.0 if not self.corpus.is_text or not begins.any() else float(1 / begins.mean())

    def evaluator(self, model: SequenceModel, machine: Machine, limit: int) -> Callable[[Check], float] | None:
        """Return a function that gives the loss on up to `limit` symbols of the validation part, in nats a character."""
        ids = self.validation
        return None if ids is None else lambda check: self.loss(model, machine, ids, limit, check)

    def loss(self, model: SequenceModel, machine: Machine, ids: Ids, limit: int, check: Check = lambda: None) -> float:
        """Return the loss on up to `limit` symbols of a part, in nats a character."""
        corpus = self.corpus
        begins = corpus.vocabulary.begins_character() if corpus.is_text else None
        end, longest = corpus.vocabulary.end, corpus.longest
        return evaluate(model, machine, ids, end, longest, limit=limit, begins=begins, check=check).nats

    def sampler(self, model: SequenceModel, length: int) -> Callable[[], str] | None:
        """Return a function that writes some `length` symbols; None for none."""
        if length == 0:
            return None
        count = DOCUMENTS_SHOWN if self.in_rows else 1
        options = SampleOptions(length=length // count + 1, count=count)
        vocabulary = self.corpus.vocabulary
        return lambda: "\n".join(sample.text for sample in generate(model, vocabulary, options, seed=1)).strip("\n")
