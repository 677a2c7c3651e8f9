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
from unrolled.nn.decoder import Decoder, EncoderMemory
from unrolled.nn.encoder import Encoder
from unrolled.nn.stack import LockedDropout, find_dropouts, seed_dropouts
from unrolled.options import ModelOptions, PairOptions
from unrolled.tables.spec import ModelDims
from unrolled.text.batching import IGNORE_INDEX


class EncoderDecoder(nn.Module):
    """A recurrent model of (source, target) pairs, as `options` and `pair` draw it. Batches are those of `data.pairs`.

    `temperature` divides the scores of labels, but for training: set on rows held out, it makes probabilities honest (Guo et
    al. 2017).
    """

    def __init__(self, shape: ModelDims, options: ModelOptions, pair: PairOptions) -> None:
        super().__init__()
        check_table_options(options)
        self.shape, self.options, self.pair = shape, options, pair
        self.encoder = Encoder(
            shape.source_tensor_kind, shape.source_size, shape.image_shape, shape.mode.sequence_input, options, pair
        )
        self.dropout = LockedDropout(options.dropout)
        self.decoder: Decoder | None = None
        self.head: nn.Linear | None = None
        if shape.mode.output == "generated":
            self.decoder = Decoder(shape.target_size, shape.target_length, shape.target_row_length, pair.attention, options)
        else:
            self.head = nn.Linear(options.hidden, shape.target_size)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))
        self._dropouts = find_dropouts(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.norm.weight.device

    def cells(self) -> list[GatedCell]:
        """Return the recurrent cells."""
        return [module for module in self.modules() if isinstance(module, GatedCell)]

    def initial_state(self, batch_size: int) -> State:
        """Return nothing: a row begins and ends within a batch."""
        return ()

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
        """Return what is learned from: the mean loss of a target, labels smoothed if asked for, and the state handed on."""
        logits, targets = self.logits_and_targets(batch)
        if self.shape.target_tensor_kind == "floats":
            return F.mse_loss(logits.float(), targets), state
        smoothing = self.pair.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(
            logits.flatten(0, -2).float(),
            targets.flatten(),
            ignore_index=IGNORE_INDEX,
            label_smoothing=smoothing,
            reduction="sum",
        )
        return loss / (targets != IGNORE_INDEX).sum().clamp_min(1), state

    def loss_per_target(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return each target's loss without smoothing, `(M, B)`: nats, 0 where ignored; or the mean of squared deviations."""
        logits, targets = self.logits_and_targets(batch)
        if self.shape.target_tensor_kind == "floats":
            return (logits.float() - targets).square().mean(-1)
        losses = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
        return losses.view(targets.shape)

    def logits_and_targets(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return scores (or numbers) and their targets, ends added: `(M, B, V)` and `(M, B)`, or both `(1, B, D)`."""
        targets = batch["target"]
        if self.decoder is None:
            return self.logits(batch), targets
        labels = targets if self.shape.target_length else append_eos(targets, self.decoder.eos_id)
        memory = self.encode(batch)
        inputs = labels.clamp_min(0)  # what is ignored comes after the end, and is never looked at
        logits, _ = self.decoder(inputs, memory)
        return logits, labels

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what the head says: `(1, B, V or D)` of the whole source, or `(T, B, V)` beside each step."""
        if self.head is None:
            raise ValueError("This model writes: it has no head.")
        memory, _, pooled = self.encoder(batch["source"], batch["lengths"])
        features = memory if self.shape.mode.output == "aligned" else pooled[None]
        logits = cast(Tensor, self.head(self.dropout(features)))
        return logits if self.training or self.shape.target_tensor_kind == "floats" else logits.float() / self.temperature

    def encode(self, batch: Mapping[str, Tensor]) -> EncoderMemory:
        """Read a batch of sources, for the writer."""
        if self.decoder is None:
            raise ValueError("This model has no writer.")
        memory, lengths, pooled = self.encoder(batch["source"], batch["lengths"])
        return self.decoder.prepare_memory(memory, lengths, pooled)

    def seed_dropout(self, seed: int) -> None:
        """Make the dropout masks from here on those of `seed`, whatever was drawn before."""
        seed_dropouts(self._dropouts, seed, self.device)


def append_eos(targets: Tensor, eos_id: int) -> Tensor:
    """Return targets `(M, B)`, `IGNORED` beyond a row's end, with `end` behind each row: `(M + 1, B)`."""
    lengths = (targets != IGNORE_INDEX).sum(0)
    padded = torch.cat([targets, targets.new_full((1, targets.shape[1]), IGNORE_INDEX)])
    return padded.scatter(0, lengths[None], eos_id)


def check_table_options(options: ModelOptions) -> None:
    """Raise `UsageError` for what a model of pairs cannot have."""
    if not options.residual:
        raise UsageError("--no-residual is for texts: the layers of a model of pairs are residual.")
    if options.embedding not in (None, options.hidden):
        raise UsageError(f"--embedding is for texts: that of a model of pairs is as wide as its layers, {options.hidden}.")
    if options.initialization != "scaled":
        raise UsageError("--initialisation is for texts: that of a model of pairs is 'scaled'.")
