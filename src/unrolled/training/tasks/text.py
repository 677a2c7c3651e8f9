"""A text as a training uses it: the part that trains, the part that validates, batches, and the ways of looking at a model."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

from unrolled.checkpoints.model_file import ModelFile, TextModelFile
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.language_model import Evaluation, evaluate
from unrolled.generation.sampling import generate, sampling_precision
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM, embedding_dim
from unrolled.options import DataOptions, PairOptions, SampleOptions, TrainingOptions, TrainRequest, flag_name
from unrolled.tables.table_files import TABLE_SUFFIXES
from unrolled.text.batching import MAX_ROW_LENGTH, BatchSource, DocumentBatches, StreamBatches
from unrolled.text.corpus import Corpus, cached_corpus, open_corpus
from unrolled.text.tokenizer import TOKENIZERS, Ids
from unrolled.training.diagnosis import diagnose
from unrolled.training.recipe import TextStats, choose_text_options
from unrolled.training.tasks.base import StopCheck
from unrolled.training.throughput import measure_throughput

logger = logging.getLogger(__name__)

SAMPLE_DOCUMENTS = 8
"""Documents in a live sample."""

FINAL_EVAL_TOKENS = 262144
"""Symbols of each part that the model kept is measured on in the end; of a longer part, pieces spread evenly over it."""


class TextTask:
    """A corpus, cut into `train` and `validation`; the latter is None where nothing is left for it.

    Raises `DataError` for a text from which nothing can be learned.
    """

    def __init__(self, corpus: Corpus, options: DataOptions) -> None:
        self.corpus = corpus
        self._check_corpus()
        min_tokens = 2 if corpus.tokenizer.eos_id is None else 3
        train, validation = corpus.split(options.train_fraction)
        if len(train) < min_tokens:
            train, validation = corpus.ids, corpus.ids[:0]
        self.train: Ids = train
        self.validation: Ids | None = validation if len(validation) >= min_tokens else None
        self._throughputs: dict[Any, float] = {}
        self.as_documents = corpus.tokenizer.eos_id is not None and corpus.longest_document <= MAX_ROW_LENGTH

    loss_unit = "character"

    def _check_corpus(self) -> None:
        corpus, tokenizer = self.corpus, self.corpus.tokenizer
        if len(corpus.ids) < 2:
            raise DataError("The text has one character: at least two are needed, to predict one from the other.")
        if tokenizer.vocab_size == 1 and tokenizer.eos_id is None:
            raise DataError(f"The text has one kind of symbol only, {tokenizer.decode([0])!r}: there is nothing to predict.")

    def log_summary(self) -> None:
        """Log the size of the text, what its encoding left out, and whether there is a validation part."""
        corpus, tokenizer = self.corpus, self.corpus.tokenizer
        num_kinds = tokenizer.vocab_size - (tokenizer.eos_id is not None)
        documents = (
            ""
            if tokenizer.eos_id is None
            else f", {corpus.num_documents:,} {corpus.documents}s, the longest {corpus.longest_document:,}"
        )
        logger.info(f"{len(corpus.ids):,} symbols of {num_kinds:,} kinds{documents}")
        for message in corpus.notes:
            logger.info(message)
        if self.validation is None:
            logger.warning("no part is left for validation: the last model is kept, not the best")

    def apply_recipe(self, request: TrainRequest, machine: DeviceConfig) -> TrainRequest:
        """Let the recipe fill in what was not given."""
        stats = TextStats(tokens=len(self.train) - 1, vocab_size=self.corpus.tokenizer.vocab_size)
        request, message = choose_text_options(
            request, stats, lambda candidate: self.throughput(candidate, machine), machine.world_size
        )
        if message:
            logger.info(message)
        return request

    def throughput(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Return the symbols a second that a request would train here; measured once for the same settings and threads."""
        key = (request.model, request.training, torch.get_num_threads())
        if key not in self._throughputs:
            vocab_size = self.corpus.tokenizer.vocab_size
            self._throughputs[key] = measure_throughput(
                vocab_size, request.model, request.training, machine, kernels=request.machine.kernels
            )
        return self._throughputs[key]

    def step_seconds(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Return how long a step of a request takes here."""
        return request.training.batch * request.training.bptt / self.throughput(request, machine)

    def build_model(self, request: TrainRequest) -> RecurrentLM:
        """Draw a new network."""
        return RecurrentLM(self.corpus.tokenizer.vocab_size, request.model)

    def batches(self, options: TrainingOptions) -> BatchSource:
        """Return the training part as rows, if it is short documents, or as lanes."""
        eos_id = self.corpus.tokenizer.eos_id
        if eos_id is not None and self.as_documents:
            return DocumentBatches(self.train, options.batch, options.bptt, eos_id, options.seed)
        return StreamBatches(self.train, options.batch, options.bptt, eos_id)

    def model_file(self, model: RecurrentLM, history: dict[str, Any], logit_scale: float = 1.0) -> TextModelFile:
        """Return a network as it is kept in a file, its scores multiplied by `sharpness`."""
        model = model if logit_scale == 1 else model.with_scaled_logits(logit_scale)
        return TextModelFile(model, self.corpus.tokenizer, self.corpus.documents, history)

    def matches(self, model_file: ModelFile) -> bool:
        """Return whether a saved model has the symbols of this text."""
        return isinstance(model_file, TextModelFile) and model_file.tokenizer.to_json() == self.corpus.tokenizer.to_json()

    @functools.cached_property
    def tokens_per_character(self) -> float:
        """How many symbols a character has, by the first million: 1, or more where symbols are bytes of UTF-8."""
        char_starts = self.corpus.tokenizer.char_start_mask()[self.corpus.ids[: 1 << 20]]
        return 1.0 if not self.corpus.is_text or not char_starts.any() else float(1 / char_starts.mean())

    @property
    def origin(self) -> dict[str, Any]:
        """The digest of the text, and the key of its encoded copy in the cache."""
        return {"content_hash": self.corpus.content_hash, "cache_key": self.corpus.cache_key}

    def make_evaluator(
        self, model: RecurrentLM, machine: DeviceConfig, request: TrainRequest
    ) -> Callable[[StopCheck, float], tuple[float, float]] | None:
        """Return a function that gives the loss on some of the validation part, in nats a character, and its sharpness."""
        ids, limit = self.validation, request.run.eval_tokens
        if ids is None:
            return None
        if not request.training.calibrate:
            return lambda check, logit_scale: (self._evaluate(model, machine, ids, limit, check).nats, 1.0)
        return lambda check, logit_scale: fit_logit_scale(
            self._evaluate(model, machine, ids, limit, check, logit_scale), logit_scale
        )

    def mean_loss(
        self, model: RecurrentLM, machine: DeviceConfig, ids: Ids, limit: int, check: StopCheck = lambda: None
    ) -> float:
        """Return the loss on up to `limit` symbols of a part, in nats a character."""
        return self._evaluate(model, machine, ids, limit, check).nats

    def _evaluate(
        self,
        model: RecurrentLM,
        machine: DeviceConfig,
        ids: Ids,
        limit: int,
        check: StopCheck,
        logit_scale: float | None = None,
    ) -> Evaluation:
        corpus = self.corpus
        char_starts = corpus.tokenizer.char_start_mask() if corpus.is_text else None
        eos_id, longest = corpus.tokenizer.eos_id, corpus.longest_document
        return evaluate(
            model,
            machine,
            ids,
            eos_id,
            longest,
            max_tokens=limit,
            char_starts=char_starts,
            check=check,
            logit_scale=logit_scale,
        )

    def make_sampler(self, model: RecurrentLM, machine: DeviceConfig, length: int) -> Callable[[StopCheck], str] | None:
        """Return a function that writes some `length` symbols; None for none."""
        if length == 0:
            return None
        count = SAMPLE_DOCUMENTS if self.as_documents else 1
        options = SampleOptions(length=length // count + 1, count=count)
        tokenizer = self.corpus.tokenizer

        def sample_text(check: StopCheck) -> str:
            precision = sampling_precision(model, torch.float32)  # weights that change are packed anew each time
            samples = generate(model, tokenizer, options, seed=1, check=check, precision=precision)
            return "\n".join(sample.text for sample in samples).strip("\n")

        return sample_text

    def final_eval(
        self, model: RecurrentLM, machine: DeviceConfig, limit: int, best_fraction: float, epochs: float
    ) -> tuple[float | None, str]:
        """Measure the model that was kept on more text than the looks did; return its loss, and the verdict in words."""
        train = self.mean_loss(model, machine, self.train, limit)
        val = (
            None if self.validation is None else self.mean_loss(model, machine, self.validation, max(FINAL_EVAL_TOKENS, limit))
        )
        return val, diagnose(train, val, best_fraction, epochs, self.batches(TrainingOptions()).tokens_per_epoch)


MAX_LOGIT_SCALE_STEP = 0.15
"""Most that a sharpness changes at one look: where it is far off, its curve is no parabola."""

MAX_LOGIT_SCALE = 5.0
"""A sharpness is from a fifth to this: a network that has learned nothing yet has no best one."""


def fit_logit_scale(evaluation: Evaluation, logit_scale: float) -> tuple[float, float]:
    """Return the loss at the best sharpness near `sharpness`, at which `found` was measured, and that sharpness.

    It is the inverse of a temperature, found by a step of Newton's method (Guo et al. 2017: a network that reads a text many
    times becomes too sure of itself on text that it never saw).
    """
    step = min(MAX_LOGIT_SCALE_STEP, max(-MAX_LOGIT_SCALE_STEP, -evaluation.slope / max(evaluation.curvature, 1e-9)))
    step = min(MAX_LOGIT_SCALE, max(1 / MAX_LOGIT_SCALE, logit_scale + step)) - logit_scale
    return evaluation.nats + evaluation.slope * step + evaluation.curvature * step**2 / 2, logit_scale + step


def open_text_task(request: TrainRequest) -> TextTask:
    """Read the text that a request names. Raises `UsageError` for settings that only tables have."""
    table_options = set(PairOptions.__dataclass_fields__) | {"target", "validation"}
    misplaced = sorted(table_options & request.explicit)
    if misplaced:
        raise UsageError(
            f"{flag_name(misplaced[0])} is for tables, and a text is to be learned: name a column to read with --source."
        )
    if request.data.tokens not in TOKENIZERS:
        raise UsageError(f"--tokens {request.data.tokens} is for tables: a text is learned as {' or '.join(TOKENIZERS)}.")
    embedding_dim(1, request.model)
    if any(name.lower().endswith(TABLE_SUFFIXES) for name in request.inputs):
        logger.info("learned as a text; to learn one of its columns from another: --source COLUMN --target COLUMN")
    task = TextTask(open_corpus(request.inputs, request.data), request.data)
    task.log_summary()
    return task


def reopen_text_task(request: TrainRequest, origin: dict[str, Any]) -> TextTask:
    """Return the text of a run again."""
    return TextTask(reopen_corpus(request, origin), request.data)


def reopen_corpus(request: TrainRequest, origin: dict[str, Any]) -> Corpus:
    """Return the text a run was trained on: read again, or from the cache if the files are gone."""
    key = str(origin["cache_key"])
    try:
        corpus = None if "-" in request.inputs else open_corpus(request.inputs, request.data)
    except DataError as error:
        corpus = cached_corpus(key)
        if corpus is None:
            raise
        logger.warning(f"{error} The copy that was encoded for this run is used.")
    if corpus is None:
        corpus = cached_corpus(key)
    if corpus is None:
        raise DataError("The text of this run came from standard input, and its encoded copy is no longer in the cache.")
    if corpus.content_hash != str(origin["content_hash"]):
        raise DataError(f"The text of this run has changed since: {', '.join(request.inputs)}. Start a new run with it.")
    return corpus
