"""Embedding -> stack -> head: ids in, one score for every symbol out.

The letters used in shapes, here and everywhere:

    B  lanes or rows of a batch        E  width of a symbol's vector
    T  steps through time              H  units of a layer
    V  symbols of the vocabulary       L  layers       G  gates of a cell
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.errors import UsageError
from unrolled.nn.cells import CELLS, GatedCell, Gathered, State
from unrolled.nn.loss import cross_entropy
from unrolled.nn.stack import SMALL_EMBEDDING, Stack, StackState, SymbolDropout, dropouts_of, seed_dropouts
from unrolled.options import ModelOptions

UNIFORM = 0.08
"""Bound of the weights that char-rnn starts from."""


LossKernel: TypeAlias = Callable[[Tensor, nn.Linear, Tensor], Tensor]
"""Outputs `(T, B, H)` of the last layer, the head, targets `(T, B)` -> mean loss in nats."""


class OneHot(nn.Module):
    """A symbol as a vector of zeros with a single one: char-rnn's input."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbols = symbols

    def forward(self, ids: Tensor) -> Tensor:
        """Return `(..., V)` floats for ids `(...)`."""
        return F.one_hot(ids, self.symbols).float()


class SequenceModel(nn.Module):
    """A recurrent model of sequences over V symbols, as `options` draw it.

    It knows no vocabulary and no mode: ids in, logits out, the state passed in and handed back.
    """

    loss_kernel: LossKernel | None = None
    """How the mean cross-entropy of the head's logits is made while training, in one go; None means as it is written."""

    def __init__(self, symbols: int, options: ModelOptions) -> None:
        super().__init__()
        self.symbols = symbols
        self.options = options
        width = embedding_width(symbols, options)
        self.embedding: nn.Module = nn.Embedding(symbols, width) if options.embedding != 0 else OneHot(symbols)
        kind = CELLS[options.cell]
        sizes = [width] + [options.hidden] * (options.layers - 1)
        cells = [kind(size, options.hidden, options.two_biases) for size in sizes]
        self.symbol_dropout = SymbolDropout(options.symbol_dropout)
        self.stack = Stack(list(cells), options.dropout, options.residual)
        self._dropouts = dropouts_of(self)
        self.head = nn.Linear(options.hidden, symbols)
        if options.initialisation == "uniform":
            self._start_uniform()
        elif options.residual:
            with torch.no_grad():
                self.table().mul_(SMALL_EMBEDDING)

    @torch.no_grad()
    def _start_uniform(self) -> None:
        for name, weight in self.named_parameters():
            if "norm" not in name:
                nn.init.uniform_(weight, -UNIFORM, UNIFORM)
        if self.options.cell == "lstm":
            size = self.options.hidden
            for layer in self.stack.each_layer():
                cast(GatedCell, layer.cell).bias[size : 2 * size] = 1.0

    def table(self) -> Tensor:
        """Return the vectors of the symbols, `(V, E)`."""
        if isinstance(self.embedding, nn.Embedding):
            return self.embedding.weight
        return torch.eye(self.symbols, device=self.head.weight.device, dtype=self.head.weight.dtype)

    def initial_state(self, batch: int) -> StackState:
        """Return the zero state of `batch` rows."""
        return self.stack.initial_state(batch)

    def forward(self, ids: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, StackState]:
        """Read ids `(T, B)` from `state`; return logits `(T, B, V)` and the state after the last step."""
        ys, state = self._read(ids, state, resets)
        return self.head(ys), state

    def _read(self, ids: Tensor, state: State, resets: Tensor | None) -> tuple[Tensor, StackState]:
        ids, table = self.symbol_dropout(ids, self.table())
        return self.stack.unroll(Gathered(ids, table), state, resets)

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
        """Return the mean loss in nats a symbol of a batch of `inputs`, `targets` and perhaps `resets`, and the last state."""
        ys, state = self._read(batch["inputs"], state, batch.get("resets"))
        if self.loss_kernel is not None and torch.is_grad_enabled():
            return self.loss_kernel(ys, self.head, batch["targets"]), state
        return cross_entropy(self.head(ys), batch["targets"]), state

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def cells(self) -> list[GatedCell]:
        """Return the recurrent cells, the lowest layer first."""
        return [cast(GatedCell, layer.cell) for layer in self.stack.each_layer()]

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, StackState]:
        """Read one symbol a row, ids `(B,)`; return logits `(B, V)` and the next state."""
        y, state = self.stack.step(self.embedding(ids), state)
        return self.head(y), state

    @torch.no_grad()
    def sharpened(self, by: float) -> SequenceModel:
        """Return a copy whose logits are multiplied by `by`: surer of itself, or less."""
        with torch.random.fork_rng(devices=[]):
            other = SequenceModel(self.symbols, self.options).to(self.device)
        other.load_state_dict(self.state_dict())
        other.head.weight.mul_(by)
        other.head.bias.mul_(by)
        return other

    def seed_dropout(self, seed: int) -> None:
        """Make the dropout masks from here on those of `seed`, whatever was drawn before."""
        seed_dropouts(self._dropouts, seed, self.device)


def embedding_width(symbols: int, options: ModelOptions) -> int:
    """Return E: what `--embedding` says, V for one-hot, else the width of a layer."""
    width = {None: options.hidden, 0: symbols}.get(options.embedding, options.embedding)
    if options.residual and width != options.hidden:
        raise UsageError(
            f"Residual layers need --embedding equal to --hidden ({options.hidden}), or --no-residual; got {width}."
        )
    return int(width or 0)


def parameter_count(symbols: int, options: ModelOptions) -> int:
    """Return the number of weights of the model that `options` draw, without building it."""
    width, size = embedding_width(symbols, options), options.hidden
    kind = CELLS[options.cell]
    cells = sum(kind.parameter_count(inputs, size, options.two_biases) for inputs in [width] + [size] * (options.layers - 1))
    norms = 2 * size * options.layers if options.residual else 0
    table = symbols * width if options.embedding != 0 else 0
    return table + cells + norms + size * symbols + symbols
