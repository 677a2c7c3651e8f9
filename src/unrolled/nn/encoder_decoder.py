"""Source in, target out, in any of the five modes: a reader, and a head at the end, beside each step, or a writer after it.

It knows forms and sizes (`PairShape`), and neither columns nor what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.errors import UsageError
from unrolled.nn.cells import GatedCell, State
from unrolled.nn.decoder import Memory, Writer
from unrolled.nn.encoder import Reader
from unrolled.nn.stack import LockedDropout, dropouts_of, seed_dropouts
from unrolled.options import ModelOptions, PairOptions
from unrolled.tables.spec import PairShape
from unrolled.text.batching import IGNORED


class PairModel(nn.Module):
    """A recurrent model of (source, target) pairs, as `options` and `pair` draw it. Batches are those of `data.pairs`.

    `temperature` divides the scores of labels, but for training: set on rows held out, it makes probabilities honest (Guo et
    al. 2017).
    """

    def __init__(self, shape: PairShape, options: ModelOptions, pair: PairOptions) -> None:
        super().__init__()
        refuse_options(options)
        self.shape, self.options, self.pair = shape, options, pair
        self.reader = Reader(shape.source_form, shape.source_size, shape.picture, shape.mode.many, options, pair)
        self.dropout = LockedDropout(options.dropout)
        self.writer: Writer | None = None
        self.head: nn.Linear | None = None
        if shape.mode.writes == "after":
            self.writer = Writer(shape.target_size, shape.written, shape.across, pair.attention, options)
        else:
            self.head = nn.Linear(options.hidden, shape.target_size)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))
        self._dropouts = dropouts_of(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.reader.norm.weight.device

    def cells(self) -> list[GatedCell]:
        """Return the recurrent cells."""
        return [module for module in self.modules() if isinstance(module, GatedCell)]

    def initial_state(self, rows: int) -> State:
        """Return nothing: a row begins and ends within a batch."""
        return ()

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
        """Return what is learned from: the mean loss of a target, labels smoothed if asked for, and the state handed on."""
        scores, targets = self.scores(batch)
        if self.shape.target_form == "numbers":
            return F.mse_loss(scores.float(), targets), state
        smoothing = self.pair.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(
            scores.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
        )
        return loss / (targets != IGNORED).sum().clamp_min(1), state

    def losses(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return each target's loss without smoothing, `(M, B)`: nats, 0 where ignored; or the mean of squared deviations."""
        scores, targets = self.scores(batch)
        if self.shape.target_form == "numbers":
            return (scores.float() - targets).square().mean(-1)
        flat = F.cross_entropy(scores.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORED, reduction="none")
        return flat.view(targets.shape)

    def scores(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return scores (or numbers) and their targets, ends added: `(M, B, V)` and `(M, B)`, or both `(1, B, D)`."""
        targets = batch["target"]
        if self.writer is None:
            return self.answers(batch), targets
        closed = targets if self.shape.written else close(targets, self.writer.end)
        memory = self.remember(batch)
        shown = closed.clamp_min(0)  # what is ignored comes after the end, and is never looked at
        scores, _ = self.writer(shown, memory)
        return scores, closed

    def answers(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what the head says: `(1, B, V or D)` of the whole source, or `(T, B, V)` beside each step."""
        if self.head is None:
            raise ValueError("This model writes: it has no head.")
        memory, _, whole = self.reader(batch["source"], batch["lengths"])
        seen = memory if self.shape.mode.writes == "beside" else whole[None]
        scores = cast(Tensor, self.head(self.dropout(seen)))
        return scores if self.training or self.shape.target_form == "numbers" else scores.float() / self.temperature

    def remember(self, batch: Mapping[str, Tensor]) -> Memory:
        """Read a batch of sources, for the writer."""
        if self.writer is None:
            raise ValueError("This model has no writer.")
        memory, lengths, whole = self.reader(batch["source"], batch["lengths"])
        return self.writer.look(memory, lengths, whole)

    def seed_dropout(self, seed: int) -> None:
        """Make the dropout masks from here on those of `seed`, whatever was drawn before."""
        seed_dropouts(self._dropouts, seed, self.device)


def close(targets: Tensor, end: int) -> Tensor:
    """Return targets `(M, B)`, `IGNORED` beyond a row's end, with `end` behind each row: `(M + 1, B)`."""
    steps = (targets != IGNORED).sum(0)
    longer = torch.cat([targets, targets.new_full((1, targets.shape[1]), IGNORED)])
    return longer.scatter(0, steps[None], end)


def refuse_options(options: ModelOptions) -> None:
    """Raise `UsageError` for what a model of pairs cannot have."""
    if not options.residual:
        raise UsageError("--no-residual is for texts: the layers of a model of pairs are residual.")
    if options.embedding not in (None, options.hidden):
        raise UsageError(f"--embedding is for texts: that of a model of pairs is as wide as its layers, {options.hidden}.")
    if options.initialisation != "scaled":
        raise UsageError("--initialisation is for texts: that of a model of pairs is 'scaled'.")
