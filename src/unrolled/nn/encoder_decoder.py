"""The model of a table: an encoder, and a head on the pooled vector or on each step, or a decoder.

It knows tensor kinds and sizes (`ModelDims`), but no columns.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.errors import UsageError
from unrolled.nn.base_classifier import BaseClassifier
from unrolled.nn.cells import GatedCell, State
from unrolled.nn.decoder import Decoder, EncoderMemory
from unrolled.nn.encoder import Encoder, SourceJoin, concatenate_padded
from unrolled.nn.ngram_classifier import NgramClassifier
from unrolled.nn.number_loss import number_losses
from unrolled.nn.stack import LockedDropout, find_dropouts, seed_dropouts
from unrolled.options import ModelOptions, PairOptions
from unrolled.tables.model_dims import ModelDims
from unrolled.text.batching import IGNORE_INDEX

MAX_STREAM_STEPS = 4096
"""Steps of a series that are computed at once, without training: its outputs, not its hidden states, are kept."""


class EncoderDecoder(nn.Module):
    """A recurrent model of (source, target) pairs. Batches are those of `tables.pair_batching`.

    `temperature` divides the logits of labels, except in training; `evaluation.calibration` fits it on held-out rows (Guo et
    al. 2017).
    """

    def __init__(self, dims: ModelDims, options: ModelOptions, pair: PairOptions) -> None:
        super().__init__()
        check_table_options(options, dims.is_stream)
        self.dims, self.options, self.pair = dims, options, pair
        self.encoder = Encoder(
            dims.source_tensor_kind, dims.source_size, dims.image_shape, dims.mode.sequence_input, options, pair
        )
        self.other_encoders = nn.ModuleList(
            Encoder(other.tensor_kind, other.size, other.image_shape, other.is_sequence, options, pair) for other in dims.others
        )
        is_aligned = dims.mode.output == "aligned"
        num_joined = sum(not other.is_aligned for other in dims.others) + (not is_aligned and bool(dims.others))
        self.join = SourceJoin(num_joined, options.hidden) if num_joined else None
        self.dropout = LockedDropout(options.dropout)
        self.decoder: Decoder | None = None
        self.head: nn.Linear | None = None
        if dims.mode.output == "generated":
            self.decoder = Decoder(dims.target_size, dims.target_length, dims.target_row_length, pair.attention, options)
        else:
            self.head = nn.Linear(options.hidden, dims.target_size)
        self.skip: nn.Linear | None = None
        if dims.is_stream:
            if pair.bidirectional:
                raise UsageError(
                    "--bidirectional reads the future of a series, and its steps are predicted in order: leave it out."
                )
            self.skip = nn.Linear(dims.source_size, dims.target_size, bias=False)
            nn.init.zeros_(self.skip.weight)
        self.ngrams = NgramClassifier(dims.ngram_buckets, dims.target_size) if dims.ngram_buckets else None
        self.base = None if dims.base is None else BaseClassifier(dims.base, dims.target_size)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))
        self._dropouts = find_dropouts(self)

    @property
    def has_unused_weights(self) -> bool:
        """Whether some weights have no part in the loss: those that pool a source, where each of its steps has a target."""
        others = zip(self.other_encoders, self.dims.others, strict=True)
        encoders = [self.encoder, *(cast(Encoder, other) for other, dims in others if dims.is_aligned)]
        return self.dims.mode.output == "aligned" and any(list(encoder.pool.parameters()) for encoder in encoders)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.temperature.device

    def cells(self) -> list[GatedCell]:
        """Return the recurrent cells that learn."""
        frozen = [] if self.base is None else self.base.cells()
        return [module for module in self.modules() if isinstance(module, GatedCell) and module not in frozen]

    def initial_state(self, batch_size: int) -> State:
        """Return the state that a series starts from; else an empty state: none is carried from one batch to the next."""
        return self.encoder.initial_state(batch_size) if self.dims.is_stream else ()

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
        """Return the mean loss per target (with label smoothing in training, and `label_weights`), and the state after it."""
        if self.dims.is_stream:
            logits, state = self.stream(batch["source"], state, batch.get("resets"))
            targets = batch["target"]
        else:
            logits, targets = self.logits_and_targets(batch)
        if self.dims.target_tensor_kind == "floats":
            if not self.dims.is_stream:
                return F.mse_loss(logits.float(), targets), state
            sums, counts = number_losses(logits, targets, self.dims.number_loss, self.dims.quantiles)
            return sums.sum() / counts.sum().clamp_min(1), state
        return self._label_loss(logits, targets, batch), state

    def _label_loss(self, logits: Tensor, targets: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the mean cross-entropy of the targets that count."""
        smoothing = self.pair.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(
            logits.flatten(0, -2).float(),
            targets.flatten(),
            weight=batch.get("label_weights"),
            ignore_index=IGNORE_INDEX,
            label_smoothing=smoothing,
            reduction="sum",
        )
        return loss / (targets != IGNORE_INDEX).sum().clamp_min(1)

    def loss_per_target(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of each target without label smoothing, `(M, B)`: nats, 0 where ignored; or mean squared errors."""
        logits, targets = self.logits_and_targets(batch)
        if self.dims.target_tensor_kind == "floats":
            if self.dims.is_stream:
                return number_losses(logits, targets, self.dims.number_loss, self.dims.quantiles)[0]
            return (logits.float() - targets).square().mean(-1)
        weights, logits = batch.get("label_weights"), logits.flatten(0, -2).float()
        losses = F.cross_entropy(logits, targets.flatten(), weight=weights, ignore_index=IGNORE_INDEX, reduction="none")
        return losses.view(targets.shape)

    def stream(self, source: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the outputs `(T, B, V or D)` of each step of a series after `state`, and the new state.

        `resets` `(T, B)` is true where another series begins. The outputs of a long series are computed in parts.
        """
        if self.head is None or self.skip is None:
            raise ValueError("This model does not read a series.")
        if not self.training and len(source) > MAX_STREAM_STEPS:
            outputs = []
            for start in range(0, len(source), MAX_STREAM_STEPS):
                part = slice(start, start + MAX_STREAM_STEPS)
                output, state = self.stream(source[part], state, None if resets is None else resets[part])
                outputs.append(output)
            return torch.cat(outputs), state
        features, state = self.encoder.stream(source, state, resets)
        logits = cast(Tensor, self.head(self.dropout(features))) + self.skip(source)
        if not self.training and self.dims.target_tensor_kind != "floats":
            logits = logits.float() / self.temperature
        return logits, state

    def logits_and_targets(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits `(M, B, V)` and targets `(M, B)` with EOS appended; or predicted numbers and targets, `(1, B, D)`."""
        targets = batch["target"]
        if self.decoder is None:
            return self.logits(batch), targets
        labels = targets if self.dims.target_length else append_eos(targets, self.decoder.eos_id)
        memory = self.encode(batch)
        inputs = labels.clamp_min(0)  # ignored targets come after EOS, where no loss is computed
        logits, _ = self.decoder(inputs, memory)
        return logits, labels

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the logits (or numbers) of the head: `(1, B, V or D)` for the source, or `(T, B, V)` for each step.

        Those of a linear model of n-grams are added, except in training: the recurrent layers would not learn what it knows.
        """
        if self.head is None:
            raise ValueError("This model generates with a decoder: it has no head.")
        if self.dims.is_stream:
            return self.stream(batch["source"], self.initial_state(batch["source"].shape[1]), batch.get("resets"))[0]
        memory, _, pooled = self.read_sources(batch)
        features = memory if self.dims.mode.output == "aligned" else pooled[None]
        logits = cast(Tensor, self.head(self.dropout(features)))
        if self.ngrams is not None and not self.training:
            is_number = self.dims.target_tensor_kind == "floats"
            logits = self.ngrams.add_to(logits.float(), self.fitted_logits(batch), is_number)
        return logits if self.training or self.dims.target_tensor_kind == "floats" else logits.float() / self.temperature

    def fitted_logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the logits `(1, B, V)` of the linear classifier: of n-grams and, if there is one, of a base's states.

        The second part is read from `base_logits` `(B, V)`, if the batch has them.
        """
        if self.ngrams is None:
            raise ValueError("This model has no classifier of n-grams.")
        logits = cast(Tensor, self.ngrams(batch["ngrams"]))
        if self.base is None:
            return logits
        known = batch.get("base_logits")
        return logits + (self.base(batch["base_ids"], batch["base_lengths"]) if known is None else known)

    def read_sources(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return outputs `(S, B, H)` of the encoders, their lengths `(B,)` and the pooled vector `(B, H)` of a batch.

        Of several source columns, the pooled vectors are joined to one. With a target for each step, the outputs are those of
        the main column; the joined vector of the others is added to its input at every step, and so are the outputs of columns
        that are aligned with it, step by step.
        """
        if not self.dims.others:
            return cast(tuple[Tensor, Tensor, Tensor], self.encoder(batch["source"], batch["lengths"]))
        readings = [
            encoder(batch[f"source_{number}"], batch[f"lengths_{number}"])
            for number, encoder in enumerate(self.other_encoders, 1)
        ]
        if self.dims.mode.output == "aligned":
            others = list(zip(self.dims.others, readings, strict=True))
            parts = [outputs for other, (outputs, _, _) in others if other.is_aligned]
            if self.join is not None:
                parts.append(self.join.pool([pooled for other, (_, _, pooled) in others if not other.is_aligned]))
            condition = functools.reduce(torch.add, parts)  # (S, B, H), or (B, H) where no column is aligned
            return cast(tuple[Tensor, Tensor, Tensor], self.encoder(batch["source"], batch["lengths"], condition))
        if self.join is None:
            raise ValueError("Several columns with one target need a network that joins them.")
        readings.insert(0, self.encoder(batch["source"], batch["lengths"]))
        outputs, lengths = concatenate_padded([(outputs, lengths) for outputs, lengths, _ in readings])
        return outputs, lengths, self.join.pool([pooled for _, _, pooled in readings])

    def encode(self, batch: Mapping[str, Tensor]) -> EncoderMemory:
        """Encode a batch of sources for the decoder."""
        if self.decoder is None:
            raise ValueError("This model has no decoder.")
        memory, lengths, pooled = self.read_sources(batch)
        return self.decoder.prepare_memory(memory, lengths, pooled)

    def seed_dropout(self, seed: int) -> None:
        """Make all later dropout masks follow from `seed`."""
        seed_dropouts(self._dropouts, seed, self.device)


def append_eos(targets: Tensor, eos_id: int) -> Tensor:
    """Return targets `(M + 1, B)`: those of `targets` `(M, B)`, padded with `IGNORE_INDEX`, with `eos_id` after each row."""
    lengths = (targets != IGNORE_INDEX).sum(0)
    padded = torch.cat([targets, targets.new_full((1, targets.shape[1]), IGNORE_INDEX)])
    return padded.scatter(0, lengths[None], eos_id)


def check_table_options(options: ModelOptions, is_stream: bool = False) -> None:
    """Raise `UsageError` for options that only models of texts have; those of series (`is_stream`) have some of them."""
    if not options.residual and not is_stream:
        raise UsageError("--no-residual is for texts and series of numbers: the layers of other models of tables are residual.")
    if options.embedding not in (None, options.hidden):
        raise UsageError(f"--embedding is for texts: in a model of a table it has the size of the layers, {options.hidden}.")
    if options.initialization != "scaled":
        raise UsageError("--initialization is for texts: in a model of a table it is 'scaled'.")
