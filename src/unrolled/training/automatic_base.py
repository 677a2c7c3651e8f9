"""The base model of a training that names none: one of the package, for a small text that it reads well.

A model of a small text from random weights ends near an n-gram model of it (benchmarks/LOG.md). So a base that reads the
validation part better than such a model before any training, or about as well after a few steps of it, is the better start.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import unicodedata

import numpy as np

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.datasets.base_models import BASE_MODELS, base_model_path
from unrolled.datasets.stdlib import PREFIX
from unrolled.evaluation.ngram import loss_by_order
from unrolled.nn.device import DeviceConfig
from unrolled.nn.kernels.select import set_kernel
from unrolled.options import TrainRequest
from unrolled.text.tokenizer import CharTokenizer, Ids, Tokenizer
from unrolled.training.fine_tuning import FINE_TUNING, SHAPE_OPTIONS, adopt_settings, load_base
from unrolled.training.recipe import fill_defaults
from unrolled.training.tasks.text import TextTask
from unrolled.training.train_step import TrainStep

logger = logging.getLogger(__name__)

MAX_TOKENS = 1_250_000
"""Tokens of a training split above which no base is chosen by itself: longer texts were not compared (benchmarks/LOG.md)."""

MIN_LATIN_FRACTION = 0.9
"""Fraction of the letters of the text that are Latin."""

TINY_TOKENS, TINY_BITS = 2_000, 4.0
"""Of a training split with fewer tokens, n-grams and a validation part say little: a base must read all of the text at fewer
bits per character. Prose, verse, recipes and code of 120 to 300 characters took 0.9 to 3.5, lists of words 4.5 and more."""

NGRAM_ORDER = 6
TRIAL_STEPS, TRIAL_TOLERANCE = 20, 1.1
"""Steps of training after which the base is compared, seconds on one core, and how many times the loss of the n-gram model its
own may be then. It still falls: a script of 31 kB stood at 1.01 of that loss after 20 steps, and at 0.66 in the end."""


def choose_base(request: TrainRequest, task: TextTask, machine: DeviceConfig) -> tuple[TrainRequest, TextModelFile | None]:
    """Return a request and the built-in base of its text, or the request as it is and None."""
    if task.validation is None or not _may_have_base(request, task, machine):
        return request, None
    logger.info("comparing the built-in models with the text, to start from one that reads it well")
    bases = [_with_base(request, PREFIX + name) for name in BASE_MODELS]
    losses = [_loss_after(0, *base, task, machine) for base in bases]
    best_request, base = bases[int(np.argmin(losses))]
    base_nats, name = min(losses), best_request.training.init_from
    if len(task.train) < TINY_TOKENS:
        if base_nats >= TINY_BITS * math.log(2):
            return request, None
        bits = base_nats / math.log(2)
        logger.info(f"{name} reads this text at {bits:.2f} bits per character: training starts from this base")
        return best_request, base
    vocab_size, held_out = task.corpus.tokenizer.vocab_size, np.asarray(task.validation[: request.run.eval_tokens])
    own_nats = dict(loss_by_order(np.asarray(task.train), held_out, vocab_size, (NGRAM_ORDER,)))[NGRAM_ORDER]
    after = ""
    if base_nats >= own_nats:
        base_nats, after = _loss_after(TRIAL_STEPS, best_request, base, task, machine), f" after {TRIAL_STEPS} steps"
    if base_nats >= own_nats * (TRIAL_TOLERANCE if after else 1):
        return request, None
    logger.info(
        f"{name} reads the validation part at {base_nats / math.log(2):.2f} bits per character"
        f"{after}, an n-gram model of the text at {own_nats / math.log(2):.2f}: training starts from this base"
    )
    return best_request, base


def _may_have_base(request: TrainRequest, task: TextTask, machine: DeviceConfig) -> bool:
    """Return whether all is left to the recipe, and the text is small, Latin, and none that a base has read."""
    own_settings = {
        *SHAPE_OPTIONS, *FINE_TUNING, "init_from", "initialization", "bptt", "schedule", "warmup", "weight_decay", "steps",
        "epochs",
    } & request.explicit  # fmt: skip
    return (
        not own_settings
        and request.data.tokens == "characters"
        and request.data.normalize == "nfc"
        and machine.world_size == 1
        and len(task.train) <= MAX_TOKENS
        and not any(path.startswith(PREFIX) for path in request.inputs)
        and all(base_model_path(PREFIX + name).is_file() for name in BASE_MODELS)
        and latin_fraction(task.train, task.corpus.tokenizer) >= MIN_LATIN_FRACTION
    )


def latin_fraction(ids: Ids, tokenizer: Tokenizer) -> float:
    """Return the fraction of the letters of a text, ids `(N,)`, that are Latin; 0 without letters."""
    if not isinstance(tokenizer, CharTokenizer):
        return 0.0
    counts = np.bincount(np.asarray(ids), minlength=tokenizer.vocab_size)
    letters = [(count, token) for count, token in zip(counts.tolist(), tokenizer.tokens, strict=False) if token.isalpha()]
    latin = sum(count for count, token in letters if unicodedata.name(token, "").startswith("LATIN"))
    return float(latin / max(1, sum(count for count, _ in letters)))


def _with_base(request: TrainRequest, name: str) -> tuple[TrainRequest, TextModelFile]:
    """Return a request with the settings of the base `name`, and the base."""
    request = dataclasses.replace(request, training=dataclasses.replace(request.training, init_from=name))
    base = load_base(name)
    return adopt_settings(request, base), base


def _loss_after(num_steps: int, request: TrainRequest, base: TextModelFile, task: TextTask, machine: DeviceConfig) -> float:
    """Return the validation loss of a base after some steps of training on the text, in nats per character.

    Before any step, that of a tiny text is its loss on all of the text.
    """
    is_all_read = num_steps == 0 and len(task.train) < TINY_TOKENS
    task = task.start_from(base, request)
    if is_all_read:
        task.validation = task.corpus.ids
    model = task.build_model(request).to(machine.device)
    set_kernel(model, "auto", machine.dtype)
    if num_steps:
        options = fill_defaults(request, **FINE_TUNING).training
        batches = task.batches(options)
        step = TrainStep(model.train(), machine, options, batches.batch_size)
        for index, batch in zip(range(num_steps), batches, strict=False):
            step.step(batch, options.lr, index)
    model.eval()
    nats: float | None = task.evaluate(model, machine, request, lambda: None, 1.0)[0]
    return math.inf if nats is None else float(nats)
