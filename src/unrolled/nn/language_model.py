"""The recurrent language model: embedding -> stack of cells -> linear head; token ids in, logits of the next token out.

Letters in shapes, in all docstrings:

    B  batch size              E  embedding size
    T  time steps              H  hidden size (units of a layer)
    V  vocabulary size         L  layers            G  gates of a cell
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.network_shapes import embedding_dim
from unrolled.nn.cells import CELLS, EmbeddingLookup, GatedCell, State
from unrolled.nn.stack import EMBEDDING_INIT_SCALE, Stack, StackState, TokenDropout, find_dropouts, seed_dropouts
from unrolled.options import ModelOptions
from unrolled.text.batching import IGNORE_INDEX

UNIFORM_INIT_BOUND = 0.08
"""Bound of the uniform initialization of char-rnn."""

LossKernel: TypeAlias = Callable[[Tensor, nn.Linear, Tensor], Tensor]
"""From the outputs of the last layer `(T, B, H)`, the head and targets `(T, B)` to the mean loss in nats."""


class OneHot(nn.Module):
    """One-hot vectors instead of an embedding, as in char-rnn."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size

    def forward(self, ids: Tensor) -> Tensor:
        """Return `(..., V)` floats for ids `(...)`."""
        return F.one_hot(ids, self.vocab_size).float()


class RecurrentLM(nn.Module):
    """A recurrent language model over V token ids, built from `options`.

    It has no tokenizer: ids in, logits out, and the state is passed in and returned.
    """

    loss_kernel: LossKernel | None = None
    """A kernel that computes head and cross-entropy in one call in training; None means one operation after the other."""

    def __init__(self, vocab_size: int, options: ModelOptions) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.options = options
        width = embedding_dim(vocab_size, options)
        self.embedding: nn.Module = nn.Embedding(vocab_size, width) if options.embedding != 0 else OneHot(vocab_size)
        cell_class = CELLS[options.cell]
        sizes = [width] + [options.hidden] * (options.layers - 1)
        cells = [cell_class(size, options.hidden, options.two_biases) for size in sizes]
        self.token_dropout = TokenDropout(options.token_dropout)
        self.stack = Stack(list(cells), options.dropout, options.residual)
        self._dropouts = find_dropouts(self)
        self.head = nn.Linear(options.hidden, vocab_size)
        if options.initialization == "uniform":
            self._init_uniform()
        elif options.residual:
            with torch.no_grad():
                self.embedding_matrix().mul_(EMBEDDING_INIT_SCALE)

    @torch.no_grad()
    def _init_uniform(self) -> None:
        for name, weight in self.named_parameters():
            if "norm" not in name:
                nn.init.uniform_(weight, -UNIFORM_INIT_BOUND, UNIFORM_INIT_BOUND)
        for cell in self.cells():
            cell.init_gates()

    def embedding_matrix(self) -> Tensor:
        """Return the vectors of all ids, `(V, E)`; the identity matrix for one-hot inputs."""
        if isinstance(self.embedding, nn.Embedding):
            return self.embedding.weight
        return torch.eye(self.vocab_size, device=self.head.weight.device, dtype=self.head.weight.dtype)

    def initial_state(self, batch_size: int) -> StackState:
        """Return the zero state of `batch_size` rows."""
        return self.stack.initial_state(batch_size)

    def forward(self, ids: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, StackState]:
        """Return the logits `(T, B, V)` of the token after each of `ids` `(T, B)`, and the final state.

        `resets` `(T, B)` bool: where true, the state is set to zero before that step.
        """
        ys, state = self._hidden_states(ids, state, resets)
        return self.head(ys), state

    def _hidden_states(self, ids: Tensor, state: State, resets: Tensor | None) -> tuple[Tensor, StackState]:
        ids, table = self.token_dropout(ids, self.embedding_matrix())
        return self.stack.unroll(EmbeddingLookup(ids, table), state, resets)

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
        """Return the mean loss in nats per token, and the final state.

        `batch` has `inputs` and `targets` `(T, B)`, and optionally `resets` `(T, B)`.
        """
        ys, state = self._hidden_states(batch["inputs"], state, batch.get("resets"))
        if self.loss_kernel is not None and torch.is_grad_enabled():
            return self.loss_kernel(ys, self.head, batch["targets"]), state
        return cross_entropy(self.head(ys), batch["targets"]), state

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.head.weight.device

    def cells(self) -> list[GatedCell]:
        """Return the recurrent cells, the first layer first."""
        return [cast(GatedCell, layer.cell) for layer in self.stack.layer_list()]

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, StackState]:
        """Take one step: from `ids` `(B,)` and a state, return the logits `(B, V)` and the next state."""
        y, state = self.stack.step(self.embedding(ids), state)
        return self.head(y), state

    @torch.no_grad()
    def with_scaled_logits(self, scale: float) -> RecurrentLM:
        """Return a copy whose logits are multiplied by `scale` (one over a temperature)."""
        with torch.random.fork_rng(devices=[]):
            scaled = RecurrentLM(self.vocab_size, self.options).to(self.device)
        scaled.load_state_dict(self.state_dict())
        scaled.head.weight.mul_(scale)
        scaled.head.bias.mul_(scale)
        return scaled

    def seed_dropout(self, seed: int) -> None:
        """Make all later dropout masks follow from `seed`."""
        seed_dropouts(self._dropouts, seed, self.device)


def parameter_count(vocab_size: int, options: ModelOptions) -> int:
    """Return the number of parameters of a model built from `options`, without building it."""
    width, size = embedding_dim(vocab_size, options), options.hidden
    cell_class = CELLS[options.cell]
    cells = sum(
        cell_class.parameter_count(inputs, size, options.two_biases) for inputs in [width] + [size] * (options.layers - 1)
    )
    norms = 2 * size * options.layers if options.residual else 0
    embedding = vocab_size * width if options.embedding != 0 else 0
    return embedding + cells + norms + size * vocab_size + vocab_size


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Return the mean of -ln p(target) in nats, computed in float32: `logits` `(T, B, V)`, `targets` `(T, B)`.

    Steps whose target is `IGNORE_INDEX` do not count. With the `reduction` "sum", it is the sum; with "none", each of them,
    `(T * B,)`.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction=reduction)
