"""Training on a text: its training and validation parts, batches, evaluation and samples."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from unrolled.checkpoints.model_file import ModelFile, TextModelFile
from unrolled.checkpoints.run_data import open_text, reopen_corpus
from unrolled.display import plural, shell_argument
from unrolled.errors import DataError, UnrolledError, UsageError
from unrolled.evaluation.calibration import fit_logit_scale
from unrolled.evaluation.ngram import loss_by_order
from unrolled.evaluation.text_loss import evaluate_part
from unrolled.generation.sampling import generate
from unrolled.generation.torch_model import sampling_precision
from unrolled.network_shapes import embedding_dim
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM
from unrolled.option_rules import TABLE_OPTIONS, check_training
from unrolled.options import DataOptions, SampleOptions, TrainingOptions, TrainRequest, flag_name
from unrolled.tables.column_text import require_column
from unrolled.tables.suggested_columns import suggest_columns
from unrolled.tables.table_files import open_table
from unrolled.tables.table_format import BINARY_KINDS, has_table_suffix, suffix_kind
from unrolled.text.batching import MAX_ROW_LENGTH, BatchSource, DocumentBatches, StreamBatches
from unrolled.text.corpus import Corpus, is_encoded_jointly
from unrolled.text.folder_files import files_in
from unrolled.text.recoding import recode
from unrolled.text.splitting import Splits
from unrolled.text.tokenizer import Ids
from unrolled.text.tokenizers import tokenizer_class
from unrolled.training.diagnosis import diagnose, diagnose_from_base
from unrolled.training.fine_tuning import (
    MAX_EPOCHS_BY_TOKENS,
    choose_fine_tuning_options,
    refuse_new_tokens,
    require_common_tokens,
)
from unrolled.training.grown_model import grow_model, grow_tokenizer
from unrolled.training.recipe import TextStats, choose_text_options, threshold_value
from unrolled.training.tasks.base import FinalEvaluation, StopCheck, TrainingTask
from unrolled.training.throughput import measure_throughput

logger = logging.getLogger(__name__)

MAX_SHOWN_COLUMNS = 12

SAMPLE_DOCUMENTS = 8
"""Documents in a live sample."""

FINAL_EVAL_TOKENS = 262144
"""Tokens of each held-out split on which the saved model is evaluated; of a longer one, pieces spread evenly over it."""

BASELINE_ORDERS, BASELINE_TOKENS = (1, 5), 500_000
"""n-gram models that are measured before a training, and the tokens that they are counted in at most: half a second."""

DOCUMENT_NOUNS = {"line": "line", "blank-line": "part"} | {noun: noun for noun in ("file", "cell", "record", "session")}


MIN_TOKENS = 10
"""Tokens of a text from which a training starts; from a word of three letters nothing can be learned."""


class TextTask(TrainingTask):
    """A corpus, cut into `train`, `validation` and `test`; the last two are None where nothing is left for them.

    Raises `DataError` for a text from which nothing can be learned.
    """

    loss_unit = "character"

    def __init__(
        self, corpus: Corpus, options: DataOptions, seed: int, source: str | None = None, base: TextModelFile | None = None
    ) -> None:
        self.corpus, self.source, self.base = corpus, source, base
        self.init_from: str | None = None
        """The base that the run started from; `base` is None when it goes on."""
        self._check_corpus()
        min_tokens = 2 if corpus.tokenizer.eos_id is None else 3
        splits = corpus.split(options, seed)
        if len(splits.train) < min_tokens:
            splits = Splits(corpus.ids, corpus.ids[:0], corpus.ids[:0])
        self.train: Ids = splits.train
        self.validation: Ids | None = splits.validation if len(splits.validation) >= min_tokens else None
        self.test: Ids | None = splits.test if len(splits.test) >= min_tokens else None
        self._throughputs: dict[Any, float] = {}
        self.as_documents = corpus.tokenizer.eos_id is not None and corpus.longest_document <= MAX_ROW_LENGTH

    @classmethod
    def open(cls, request: TrainRequest) -> TextTask:
        """Read the text that a request names, and log what it is. Raises `UsageError` for settings that only tables have."""
        _check_options(request)
        task = cls(open_text(request), request.data, request.training.seed, request.table.source)
        if len(task.corpus.ids) < MIN_TOKENS:
            length = plural(len(task.corpus.ids), "token")
            raise DataError(f"The text has {length}, and at least {MIN_TOKENS} are needed to learn from: give more text.")
        task.log_summary()
        folders = [Path(name) for name in request.inputs if os.path.isdir(name)]
        has_files = len(request.inputs) > 1 or any(len(files_in(folder).files) > 1 for folder in folders)
        if has_files and task.corpus.tokenizer.eos_id is None and task.validation is not None:
            logger.info(
                "the files are one text, one after the other, and its end is held out: that of the last file, or the last "
                "files; --documents file holds out whole files, drawn at random"
            )
        return task

    def start_from(self, base: TextModelFile, request: TrainRequest) -> TextTask:
        """Return the same task for a model that starts from the weights of `base` and knows its characters too."""
        require_common_tokens(request.training.init_from, base.tokenizer, self.corpus.tokenizer)
        if request.training.unknown == "refuse":
            refuse_new_tokens(self.corpus, base.tokenizer)
        tokenizer = grow_tokenizer(base.tokenizer, self.corpus.tokenizer, request.training.shrink_vocabulary)
        corpus = recode(self.corpus, tokenizer)
        corpus.tokenizer.line_format = tokenizer.line_format
        task = TextTask(corpus, request.data, request.training.seed, self.source, base)
        task.init_from = request.training.init_from
        return task

    @classmethod
    def reopen(cls, request: TrainRequest, origin: dict[str, Any], model_file: ModelFile) -> TextTask:
        """Read the text of a run again."""
        task = cls(reopen_corpus(request, origin), request.data, request.training.seed, request.table.source)
        task.init_from = request.training.init_from if "vocabulary" in origin else None
        return task

    @staticmethod
    def is_opened_jointly(request: TrainRequest) -> bool:
        """Return whether processes that open the text of a request at the same time share the work."""
        return request.table.source is None and is_encoded_jointly(request.inputs, request.data)

    def _check_corpus(self) -> None:
        corpus, tokenizer = self.corpus, self.corpus.tokenizer
        if len(corpus.ids) < 2:
            raise DataError("The text has one character: at least two are needed, to predict one from the other.")
        if tokenizer.vocab_size == 1 and tokenizer.eos_id is None:
            raise DataError(f"The text has only one kind of token, {tokenizer.decode([0])!r}: there is nothing to predict.")

    def log_summary(self) -> None:
        """Log the size of the text, what its encoding left out, and whether there is a validation part."""
        corpus, tokenizer = self.corpus, self.corpus.tokenizer
        num_kinds = tokenizer.vocab_size - (tokenizer.eos_id is not None)
        documents = (
            ""
            if tokenizer.eos_id is None
            else f", {plural(corpus.num_documents, DOCUMENT_NOUNS[corpus.documents])}, the longest {corpus.longest_document:,}"
        )
        logger.info(f"{len(corpus.ids):,} tokens, {num_kinds:,} different{documents}")
        for message in corpus.notes:
            logger.info(message)
        if self.validation is None:
            logger.warning("no part is left for validation: the last model is kept, not the best")

    def apply_recipe(self, request: TrainRequest, machine: DeviceConfig) -> TrainRequest:
        stats = TextStats(tokens=len(self.train) - 1, vocab_size=self.corpus.tokenizer.vocab_size)
        measure = functools.partial(self.throughput, machine=machine)
        if self.base is not None:
            request, message = choose_fine_tuning_options(request, stats, measure)
        else:
            request, message = choose_text_options(request, stats, measure, machine.world_size)
        if message:
            logger.info(message)
        return request

    def throughput(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Return the training speed in tokens per second, measured once for the same settings and threads."""
        key = (request.model, request.training, torch.get_num_threads())
        if key not in self._throughputs:
            vocab_size = self.corpus.tokenizer.vocab_size
            self._throughputs[key] = measure_throughput(
                vocab_size, request.model, request.training, machine, kernels=request.machine.kernels
            )
        return self._throughputs[key]

    def step_seconds(self, request: TrainRequest, machine: DeviceConfig) -> float:
        return request.training.batch * request.training.bptt / self.throughput(request, machine)

    def depends_on_threads(self, machine: DeviceConfig, kernels: str) -> bool:
        return machine.device.type == "cpu" and kernels != "native"

    def baseline_losses(self, limit: int) -> dict[str, float]:
        """Return the losses of the frequencies of the tokens and of an n-gram model, of the end of a long training split."""
        if self.validation is None:
            return {}
        train, held_out = np.asarray(self.train[-BASELINE_TOKENS:]), np.asarray(self.validation[:limit])
        losses = loss_by_order(train, held_out, self.corpus.tokenizer.vocab_size, BASELINE_ORDERS)
        return {f"{order}-gram": nats * self.tokens_per_character for order, nats in losses}

    def build_model(self, request: TrainRequest) -> RecurrentLM:
        """Return a network with random weights, or those of the base."""
        if self.base is not None:
            return grow_model(self.base, self.corpus.tokenizer, request.model)
        return RecurrentLM(self.corpus.tokenizer.vocab_size, request.model)

    def batches(self, options: TrainingOptions) -> BatchSource:
        """Return batches of whole documents if they are short, else of parallel streams."""
        eos_id = self.corpus.tokenizer.eos_id
        if eos_id is not None and self.as_documents:
            return DocumentBatches(self.train, options.batch, options.bptt, eos_id, options.seed)
        return StreamBatches(self.train, options.batch, options.bptt, eos_id)

    def model_file(self, model: RecurrentLM, history: dict[str, Any], logit_scale: float = 1.0) -> TextModelFile:
        model = model if logit_scale == 1 else model.with_scaled_logits(logit_scale)
        history = history if self.source is None else history | {"source": self.source}
        return TextModelFile(model, self.corpus.tokenizer, self.corpus.documents, history)

    def matches(self, model_file: ModelFile) -> bool:
        return isinstance(model_file, TextModelFile) and model_file.tokenizer.to_json() == self.corpus.tokenizer.to_json()

    @functools.cached_property
    def tokens_per_character(self) -> float:
        """Tokens per character in the first million tokens: 1, more if tokens are bytes of UTF-8, less if they are words."""
        char_counts = self.corpus.tokenizer.char_counts()[self.corpus.ids[: 1 << 20]]
        return 1.0 if not self.corpus.is_text or not char_counts.any() else float(1 / char_counts.mean())

    @property
    def origin(self) -> dict[str, Any]:
        """The digest of the text, and the key of its encoded copy in the cache."""
        vocabulary = {} if self.init_from is None else {"vocabulary": self.corpus.tokenizer.to_json()}
        return {"content_hash": self.corpus.content_hash, "cache_key": self.corpus.cache_key, **vocabulary}

    def evaluate(
        self, model: RecurrentLM, machine: DeviceConfig, request: TrainRequest, check: StopCheck, logit_scale: float
    ) -> tuple[float | None, float]:
        """Return the loss on at most `eval_tokens` of the validation part, in nats per character, and the best logit scale."""
        if self.validation is None:
            return None, 1.0
        measure = functools.partial(
            evaluate_part, self.corpus, self.validation, model, machine, max_tokens=request.run.eval_tokens, check=check
        )
        if not request.training.calibrate:
            return measure().nats, 1.0
        return fit_logit_scale(measure(logit_scale=logit_scale), logit_scale)

    def sample(self, model: RecurrentLM, machine: DeviceConfig, length: int, check: StopCheck) -> str | None:
        """Return a sample of about `length` tokens, always with the same seed; None if `length` is 0."""
        if length == 0:
            return None
        count = SAMPLE_DOCUMENTS if self.as_documents else 1
        options = SampleOptions(length=length // count + 1, count=count)
        precision = sampling_precision(model, torch.float32)  # lower ones would pack the changed weights for every sample
        samples = generate(model, self.corpus.tokenizer, options, seed=1, check=check, precision=precision)
        return "\n".join(sample.text for sample in samples).strip("\n")

    def final_eval(
        self, model: RecurrentLM, machine: DeviceConfig, limit: int, best_fraction: float, epochs: float
    ) -> FinalEvaluation:
        held_out_limit = max(FINAL_EVAL_TOKENS, limit)
        train, val = evaluate_part(self.corpus, self.train, model, machine, max_tokens=limit).nats, None
        if self.validation is not None:
            val = evaluate_part(self.corpus, self.validation, model, machine, max_tokens=held_out_limit).nats
        tokens = self.batches(TrainingOptions()).tokens_per_epoch
        if self.init_from is None:
            diagnosis = diagnose(train, val, best_fraction, epochs, tokens)
        else:
            best_epochs = threshold_value(MAX_EPOCHS_BY_TOKENS, tokens)
            diagnosis = diagnose_from_base(self.init_from, (train, val), best_fraction, epochs, tokens, best_epochs)
        if self.test is None:
            return FinalEvaluation(val, diagnosis)
        test = evaluate_part(self.corpus, self.test, model, machine, max_tokens=held_out_limit)
        error = "" if test.standard_error is None else f", standard error {test.standard_error / math.log(2):.3f} bits"
        summary = f"test: {test.bits:.3f} bits, {test.nats:.4f} nats per character{error} (not used for model selection)"
        return FinalEvaluation(val, diagnosis, test.nats, test.standard_error, summary)


def _check_options(request: TrainRequest) -> None:
    """Raise `UsageError` for settings that only tables have, or that have no effect."""
    source, documents = request.table.source, request.data.documents
    table_options = {*TABLE_OPTIONS, "max_length"} | ({"header"} if source is None else set())
    if source is None:
        table_options.remove("group_by")
    elif request.data.mask is not None:
        raise UsageError("--mask is for the lines of texts, and the cells of --source are learned as they are: leave it out.")
    misplaced = sorted(table_options & request.explicit)
    if misplaced:
        to_do = "name the column to predict with --target, or forecast its numbers with --horizon"
        to_do = "name a column to read with --source" if source is None else to_do
        flag = flag_name(misplaced[0], request.to_dict().get(misplaced[0]))
        raise UsageError(f"{flag} is for tables, and a text is to be learned: {to_do}.")
    if source is None and documents == "cell":
        raise UsageError("--documents cell is for a column of a table: name it with --source.")
    if source is not None and documents != "cell" and "documents" in request.explicit:
        raise UsageError(f"--documents {documents} is for texts, and each cell of --source is a document: leave it out.")
    check_training(request, is_table=False, has_folder=any(map(os.path.isdir, request.inputs)))
    if source is not None:
        require_column(request.inputs, source, request.data, request.table.header)
        logger.info(f"learns to write like '{source}', each cell a document; to predict another column: --target COLUMN")
    if request.model.embedding != 0:  # a one-hot vector is as long as the vocabulary, which is known once the text is read
        embedding_dim(1, request.model)
    tables = list(filter(has_table_suffix, request.inputs))
    if source is None and tables:
        is_text = suffix_kind(Path(tables[0])) not in BINARY_KINDS or tokenizer_class(request.data.tokens).reads_bytes
        if not is_text:
            open_table(tables[0])  # raises what is wrong with it
            raise UsageError(f"{tables[0]} is a table, and no text: {_table_hint(tables[0])}")
        logger.info(f"learned as a text; {_table_hint(tables[0])}")


def _table_hint(name: str) -> str:
    """Return what to type to learn a table as a table: its columns, and a command with two of them."""
    columns: tuple[str, ...] = ()
    suggested = None
    with contextlib.suppress(UnrolledError):
        table = open_table(name)
        columns = table.columns
        suggested = suggest_columns(table)
    if suggested is None:
        return "to learn one of its columns from another: --source COLUMN --target COLUMN"
    shown = ", ".join(columns[:MAX_SHOWN_COLUMNS]) + (", ..." if len(columns) > MAX_SHOWN_COLUMNS else "")
    typed, source, target = (shell_argument(word) for word in (name, *suggested))
    command = f"unrolled train {typed} --source {source} --target {target}"
    return f"the columns of {PurePath(name).name} are {shown}; to learn one of them from another: {command}"
