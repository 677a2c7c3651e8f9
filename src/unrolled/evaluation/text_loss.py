"""Loss of a language model on a text, in nats per character, and the kind of context that it had.

The context is `carried` if the state is carried through the whole text, or `window=N` if it starts from zero every N tokens
(to compare with models that see windows). Each document always starts from a zero state (`document`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unrolled.display import Displayed
from unrolled.generation.sampling import Network
from unrolled.nn.unit_clamp import Clamp
from unrolled.runtime.language_model import LanguageModel
from unrolled.runtime.native_model import NativeModel, unsupported_reason
from unrolled.runtime.text_network import TextNetwork
from unrolled.runtime.window_model import numpy_reader
from unrolled.text.batching import IGNORE_INDEX, MAX_ROW_LENGTH, Batch, IdReader, length_sorted_batches
from unrolled.text.tokenizer import Ids

if TYPE_CHECKING:
    from unrolled.nn.device import DeviceConfig
    from unrolled.text.corpus import Corpus

MIN_COLUMN_TOKENS = 4096
"""A long text is split into batch columns of at least this many tokens."""

MAX_COLUMNS = 64
WARMUP_TOKENS = 512
"""Tokens that a batch column reads before the first one that is scored, so that its state is the carried one (to 1e-4 nats)."""

SUBSAMPLE_SPAN = 1024
"""Tokens in each stretch if only a part of a text is read: many short stretches, since parts of a text differ."""

CHUNK_STEPS = 64

CHUNKS_PER_SAMPLE = 16
"""The standard error is that of stretches of 1,024 tokens, or of documents: the losses of neighboring tokens are related."""


@dataclass(frozen=True, repr=False)
class Evaluation(Displayed):
    """Mean loss in `nats` per character over `num_tokens` predicted tokens, which are `num_chars` characters.

    The end of a document counts as one character. If the tokens are bytes, a character's loss is the sum over its bytes.
    `num_unknown` counts characters of the text that the model has no token for; they are not scored.

    `standard_error` is that of `nats`, over stretches of the text; None where there are fewer than two.
    `split` is the name of the part of the text.
    `slope` and `curvature` are the first two derivatives of the loss by `logit_scale`; zero where `evaluate` got none.
    """

    nats: float
    num_tokens: int
    num_chars: int
    context: str
    num_unknown: int = 0
    slope: float = 0.0
    curvature: float = 0.0
    standard_error: float | None = None
    split: str = "all"

    @property
    def facts(self) -> Mapping[str, object]:
        return {
            "nats per character": f"{self.nats:.4f}",
            "bits per character": f"{self.bits:.4f}",
            **({} if self.num_tokens == self.num_chars else {"bits per token": f"{self.bits_per_token:.4f}"}),
            "characters": f"{self.num_chars:,}",
            "context": self.context,
            "unknown characters": f"{self.num_unknown:,}",
        }

    @property
    def bits_per_token(self) -> float:
        """Mean loss in bits per token: it depends on what a token is, and that per character does not."""
        return self.bits * self.num_chars / max(1, self.num_tokens)

    @property
    def bits(self) -> float:
        """Bits per character."""
        return self.nats / math.log(2)


def scoring_model(
    model: Network | LanguageModel, machine: DeviceConfig | None = None, clamps: Sequence[Clamp] = ()
) -> LanguageModel:
    """Return what reads a text: the native layers or numpy for plain arrays, torch for a network of torch.

    Args:
        model: The network; what is a `LanguageModel` already is returned as it is.
        machine: Number format and device of a network of torch; plain arrays are read in float32.
        clamps: Units to clamp.
    """
    if isinstance(model, LanguageModel):
        return model
    if isinstance(model, TextNetwork):
        return numpy_reader(model, clamps) if unsupported_reason(model) else NativeModel(model, clamps)
    from unrolled.generation.torch_model import TorchModel

    return TorchModel(model, machine, clamps)


def evaluate_part(
    corpus: Corpus, ids: Ids, model: Network | LanguageModel, machine: DeviceConfig | None, **settings: Any
) -> Evaluation:
    """Return the mean loss of `model` on a part of a corpus, `ids` `(N,)`, per character of a text, with its documents.

    `settings` are those of `evaluate`.
    """
    tokenizer = corpus.tokenizer
    char_counts = tokenizer.char_counts() if corpus.is_text else None
    settings |= {"eos_id": tokenizer.eos_id, "max_document_length": corpus.longest_document}
    return evaluate(model, machine, ids, char_counts=char_counts, **settings)


def evaluate(
    model: Network | LanguageModel,
    machine: DeviceConfig | None,
    ids: Ids,
    *,
    eos_id: int | None = None,
    max_document_length: int | None = None,
    window: int | None = None,
    max_tokens: int | None = None,
    char_counts: npt.NDArray[np.int64] | None = None,
    check: Callable[[], None] = lambda: None,
    logit_scale: float | None = None,
    in_order: bool = False,
) -> Evaluation:
    """Return the mean loss of `model` on `ids`.

    Args:
        model: The network, and `machine`: as for `scoring_model`.
        ids: `(N,)`; every token but the first is predicted.
        eos_id: The token between documents, if there are documents.
        max_document_length: The length of the longest document; if it is small, documents are read as padded rows.
        window: Start from a zero state every `window` tokens.
        max_tokens: Read only about this many tokens, spread evenly over the text.
        char_counts: `(V,)`, the characters of each token (see `Tokenizer.char_counts`); if None, every token is one.
        check: Called between batches; it may raise to stop the evaluation.
        logit_scale: Multiply the logits by this, and return the derivatives of the loss by it too.
        in_order: Read the text as one row from its beginning to its end, for a model that learns while it reads.

    Raises:
        ValueError: There are fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError(f"At least two tokens are needed, to predict one from the other; got {len(ids)}.")
    scorer = scoring_model(model, machine)
    if window is not None:
        batches, context = _window_batches(ids, window, eos_id), f"window={window}"
    elif not in_order and eos_id is not None and max_document_length is not None and max_document_length <= MAX_ROW_LENGTH:
        batches, context = length_sorted_batches(ids, eos_id, MAX_COLUMNS * CHUNK_STEPS, max_tokens), "document"
    else:
        batches, context = (
            _column_batches(ids, eos_id, max_tokens, 1 if in_order else MAX_COLUMNS),
            "carried" if eos_id is None else "document",
        )
    with scorer.inference():
        sums, num_tokens, num_chars, error = _accumulate_loss(scorer, batches, char_counts, check, logit_scale)
    nats, slope, curvature = (value / max(1, num_chars) for value in sums)
    return Evaluation(nats, num_tokens, num_chars, context, slope=slope, curvature=curvature, standard_error=error)


def _accumulate_loss(
    model: LanguageModel,
    batches: Iterator[Batch],
    char_counts: npt.NDArray[np.int64] | None,
    check: Callable[[], None],
    logit_scale: float | None,
) -> tuple[list[float], int, int, float | None]:
    """Return the sums of the losses and of their two derivatives, the numbers of tokens and characters, the standard error."""
    total = np.zeros(3)
    num_tokens = num_chars = 0
    samples = _LossSamples()
    state: Any = None
    for batch in batches:
        check()
        state = state if batch.carry_state else model.initial_state(batch.inputs.shape[1])
        losses, derivatives, state = model.loss_sums(batch.inputs, batch.targets, state, batch.resets, logit_scale)
        total += (losses.sum(), *derivatives)
        num_tokens += batch.num_targets
        is_scored = batch.targets != IGNORE_INDEX
        chars = is_scored if char_counts is None else is_scored * char_counts[np.where(is_scored, batch.targets, 0)]
        num_chars += int(chars.sum())
        samples.add(losses, chars.sum(0), batch.carry_state)
    return total.tolist(), num_tokens, num_chars, samples.standard_error()


class _LossSamples:
    """Losses of stretches of a text, and their numbers of characters: the samples of a standard error."""

    def __init__(self) -> None:
        self._losses: list[npt.NDArray[np.float64]] = []
        self._chars: list[npt.NDArray[np.float64]] = []
        self._num_chunks = 0

    def add(self, losses: npt.NDArray[np.float64], chars: npt.NDArray[np.int64], continues: bool) -> None:
        """Add the sums `(B,)` of a batch: to the stretches before if it continues them and they are short, else as new ones."""
        if continues and self._losses and self._num_chunks < CHUNKS_PER_SAMPLE:
            self._losses[-1] = self._losses[-1] + losses
            self._chars[-1] = self._chars[-1] + chars
            self._num_chunks += 1
        else:
            self._losses.append(losses)
            self._chars.append(chars.astype(np.float64))
            self._num_chunks = 1

    def standard_error(self) -> float | None:
        """Return the standard error of the loss per character."""
        return ratio_standard_error(np.concatenate(self._losses), np.concatenate(self._chars)) if self._losses else None


def ratio_standard_error(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> float | None:
    """Return the standard error of `sum(sums) / sum(counts)`, a ratio estimate (Cochran 1977, section 6.4).

    Args:
        sums: `(N,)`, for example the loss of each document or row.
        counts: `(N,)`, for example its number of characters.

    Returns None if fewer than two counts are positive.
    """
    sums, counts = sums[counts > 0], counts[counts > 0]
    if len(sums) < 2:
        return None
    residuals = sums - counts * (sums.sum() / counts.sum())
    return float(np.sqrt(np.square(residuals).sum() * len(sums) / (len(sums) - 1)) / counts.sum())


def _column_batches(ids: Ids, eos_id: int | None, max_tokens: int | None, max_columns: int) -> Iterator[Batch]:
    """Read the text in batch columns, each warmed up on the tokens before it."""
    reader, num_targets = IdReader(ids), len(ids) - 1
    num_columns = max(
        1,
        min(
            max_columns,
            num_targets // MIN_COLUMN_TOKENS
            if max_tokens is None or max_tokens >= num_targets
            else max_tokens // SUBSAMPLE_SPAN,
        ),
    )
    starts = np.arange(num_columns, dtype=np.int64) * num_targets // num_columns
    stops = np.append(starts[1:], num_targets)
    if max_tokens is not None and max_tokens < num_targets:
        stops = np.minimum(stops, starts + max(1, max_tokens // num_columns))
    steps = int((stops - starts).max())
    for first in range(-WARMUP_TOKENS if num_columns > 1 else 0, steps, CHUNK_STEPS):
        positions = starts + np.arange(first, min(first + CHUNK_STEPS, steps), dtype=np.int64)[:, None]  # (T, B)
        clipped = np.clip(positions, 0, num_targets - 1)
        is_scored = (positions >= starts) & (positions < stops)
        inputs, next_ids = reader.inputs_and_targets(clipped)
        targets = np.where(is_scored, next_ids, IGNORE_INDEX)
        resets = positions == 0
        if eos_id is not None:
            resets |= inputs == eos_id
        is_carried = first > (-WARMUP_TOKENS if num_columns > 1 else 0)
        yield Batch(inputs, targets, resets if resets.any() else None, is_carried, int(is_scored.sum()))


def _window_batches(ids: Ids, window: int, eos_id: int | None) -> Iterator[Batch]:
    """Read the text in windows that each start from a zero state; the last may be shorter."""
    reader, num_targets = IdReader(ids), len(ids) - 1
    batch_size = max(1, MAX_COLUMNS * CHUNK_STEPS // window)
    for first in range(0, num_targets, batch_size * window):
        starts = np.arange(first, min(first + batch_size * window, num_targets), window, dtype=np.int64)
        for chunk in range(0, window, CHUNK_STEPS):
            positions = starts + np.arange(chunk, min(chunk + CHUNK_STEPS, window), dtype=np.int64)[:, None]  # (T, B)
            is_scored = positions < num_targets
            clipped = np.minimum(positions, num_targets - 1)
            inputs, next_ids = reader.inputs_and_targets(clipped)
            targets = np.where(is_scored, next_ids, IGNORE_INDEX)
            resets = None if eos_id is None else inputs == eos_id
            if is_scored.any():
                yield Batch(inputs, targets, resets, chunk > 0, int(is_scored.sum()))
