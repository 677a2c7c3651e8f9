"""The base model of a small text where none was named: builtin:english, if it reads the text better than the text explains itself.

A model of a small text from random weights ends near an n-gram model of it (benchmarks/LOG.md). So a base that reads the
validation part better than such a model before any training, or after a few steps of it, is the better start.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import unicodedata

import numpy as np

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.datasets.base_models import base_model_path
from unrolled.evaluation.language_model import evaluate
from unrolled.evaluation.ngram import loss_by_order
from unrolled.nn.device import DeviceConfig
from unrolled.options import TrainingOptions, TrainRequest
from unrolled.text.tokenizer import CharTokenizer, Tokenizer
from unrolled.training.fine_tuning import FINE_TUNING, SHAPE_OPTIONS, adopt_settings, load_base
from unrolled.training.tasks.text import TextTask
from unrolled.training.train_step import TrainStep

logger = logging.getLogger(__name__)

AUTOMATIC_BASE = "builtin:english"

MAX_TOKENS = 1_500_000
"""Tokens of a training split above which no base is chosen: tinyshakespeare, 1.0 million, is the longest text that was tried."""

MIN_LATIN_FRACTION = 0.9
"""Fraction of the letters of the text that are Latin."""

NGRAM_ORDER = 6
TRIAL_STEPS = 20
"""Steps of training after which the base is compared: seconds on one core."""


def choose_base(
    request: TrainRequest, task: TextTask, base: TextModelFile | None, machine: DeviceConfig
) -> tuple[TrainRequest, TextModelFile | None]:
    """Return a request and its base: the one it names, or the built-in one for a small text that it reads well, or None."""
    if base is not None or not _may_have_base(request, task, machine):
        return request, base
    candidate_request = dataclasses.replace(
        request, training=dataclasses.replace(request.training, init_from=AUTOMATIC_BASE)
    )
    candidate = load_base(candidate_request, is_table=False)
    if candidate is None or task.validation is None:
        return request, None
    candidate_request = adopt_settings(candidate_request, candidate)
    vocab_size, limit = task.corpus.tokenizer.vocab_size, request.run.eval_tokens
    own_nats = dict(loss_by_order(np.asarray(task.train), np.asarray(task.validation[:limit]), vocab_size, (NGRAM_ORDER,)))
    base_nats = _trial(candidate_request, task.start_from(candidate, candidate_request), machine, own_nats[NGRAM_ORDER])
    own_bits, base_bits = own_nats[NGRAM_ORDER] / math.log(2), base_nats / math.log(2)
    if base_nats >= own_nats[NGRAM_ORDER]:
        return request, None
    logger.info(
        f"{AUTOMATIC_BASE} reads the validation part at {base_bits:.2f} bits per character, an n-gram model of the text at "
        f"{own_bits:.2f}: it is the start"
    )
    return candidate_request, candidate


def _may_have_base(request: TrainRequest, task: TextTask, machine: DeviceConfig) -> bool:
    """Return whether all is left to the recipe, and the text is small, Latin, and has a part for validation."""
    own_settings = {
        *SHAPE_OPTIONS, *FINE_TUNING, "init_from", "initialization", "bptt", "schedule", "warmup", "weight_decay", "steps", "epochs",
    } & request.explicit  # fmt: skip
    return (
        request.training.init_from is None
        and not own_settings
        and request.data.tokens == "characters"
        and request.data.normalize == "nfc"
        and machine.world_size == 1
        and task.validation is not None
        and len(task.train) <= MAX_TOKENS
        and base_model_path(AUTOMATIC_BASE).is_file()
        and latin_fraction(task.train, task.corpus.tokenizer) >= MIN_LATIN_FRACTION
    )


def latin_fraction(ids: np.typing.NDArray[np.integer[np.typing.NBitBase]], tokenizer: Tokenizer) -> float:
    """Return the fraction of the letters of a text, ids `(N,)`, that are Latin; 0 without letters."""
    if not isinstance(tokenizer, CharTokenizer):
        return 0.0
    counts = np.bincount(np.asarray(ids), minlength=tokenizer.vocab_size)
    letters = [(count, token) for count, token in zip(counts.tolist(), tokenizer.tokens, strict=False) if token.isalpha()]
    latin = sum(count for count, token in letters if unicodedata.name(token, "").startswith("LATIN"))
    return latin / max(1, sum(count for count, _ in letters))


def _trial(request: TrainRequest, task: TextTask, machine: DeviceConfig, goal: float) -> float:
    """Return the validation loss of the base as it is or, if that is above `goal`, after a few steps; in nats per character."""
    model = task.build_model(request).to(machine.device)
    validation = task.validation
    assert validation is not None  # the caller has seen it
    def loss() -> float:
        model.eval()
        return evaluate(model, machine, validation, task.corpus.tokenizer.eos_id, max_tokens=request.run.eval_tokens).nats

    nats = loss()
    if nats < goal:
        return nats
    options = TrainingOptions(**{name: value for name, value in FINE_TUNING.items() if hasattr(TrainingOptions, name)})
    batches = copy.copy(task.batches(options))
    step = TrainStep(model.train(), machine, options, batches.batch_size)
    for index, batch in zip(range(TRIAL_STEPS), batches, strict=False):
        step.step(batch, options.lr, index)
    return loss()
