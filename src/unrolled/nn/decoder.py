"""The decoder: a recurrent network that generates tokens one by one, with attention over the encoder outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from unrolled.nn.attention import Attention, lengths_to_mask
from unrolled.nn.cells import CELLS, State, map_state
from unrolled.nn.encoder import UnkDropout
from unrolled.nn.stack import EMBEDDING_INIT_SCALE, Stack, StackState
from unrolled.options import ModelOptions


class DecoderState(NamedTuple):
    """State of a decoder: that of its layers, and the latest ids `(1, B)`; for an image, the latest row of it, `(width, B)`."""

    layers: StackState
    previous_ids: Tensor


class EncoderMemory(NamedTuple):
    """Encoder outputs as the decoder uses them: keys and values `(B, heads, S, d)` for each layer, the mask `(B, S)` of
    steps that are not padding, and the pooled vector `(B, H)`."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor
    pooled: Tensor

    def repeat_interleave(self, times: int) -> EncoderMemory:
        """Return the memory with each row repeated `times` times in succession."""
        return self.map_tensors(lambda tensor: tensor.repeat_interleave(times, 0))

    def map_tensors(self, fn: Callable[[Tensor], Tensor]) -> EncoderMemory:
        """Return the memory with `fn` applied to every tensor; the first axis of all of them is the batch."""
        keys, values = tuple(map(fn, self.keys)), tuple(map(fn, self.values))
        return EncoderMemory(keys, values, fn(self.mask), fn(self.pooled))


class Decoder(nn.Module):
    """Generates ids below V; V is the end-of-sequence id (EOS) and V + 1 the beginning-of-sequence id (BOS).

    Each layer is a recurrent residual layer, then attention. Input and output embeddings are tied (Press and Wolf 2017). A
    generated image has no EOS but a learned vector for each of its `num_positions` pixels, and reads the pixel above as well.

    Args:
        vocab_size: V.
        num_positions: pixels of a generated image; 0 for sequences.
        line_length: pixels of an image row; 0 for sequences.
        attention: whether layers attend to the encoder outputs; else only the pooled vector is used.
        options: cell, layers and sizes.
    """

    def __init__(self, vocab_size: int, num_positions: int, line_length: int, attention: bool, options: ModelOptions) -> None:
        super().__init__()
        width = options.hidden
        self.vocab_size, self.eos_id, self.bos_id, self.line_length = vocab_size, vocab_size, vocab_size + 1, line_length
        self.embedding = nn.Embedding(vocab_size + 2, width)
        self.above_table = nn.Embedding(vocab_size + 2, width) if num_positions else None
        self.position = nn.Parameter(torch.randn(num_positions, 1, width) * EMBEDDING_INIT_SCALE) if num_positions else None
        for table in (self.embedding, self.above_table):
            if table is not None:
                with torch.no_grad():
                    table.weight.mul_(EMBEDDING_INIT_SCALE)
        cell_class = CELLS[options.cell]
        cells = [cell_class(width, width, options.two_biases) for _ in range(options.layers)]
        self.unk_dropout = UnkDropout(options.token_dropout, vocab_size - 1 if not num_positions else vocab_size + 1)
        self.stack = Stack(list(cells), options.dropout, residual=True)
        self.attention = nn.ModuleList([Attention(width) for _ in cells] if attention else [])
        self.context_proj = nn.Linear(width, width)
        self.is_projected = [
            cell.projected_states is None or name in cell.projected_states
            for cell in cells
            for name in cell.initial_state(1)._fields
        ]
        self.init_state_proj = nn.Linear(width, sum(self.is_projected) * width) if any(self.is_projected) else None
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size + 1))

    def prepare_memory(self, memory: Tensor, lengths: Tensor, pooled: Tensor) -> EncoderMemory:
        """Return what all steps need of the encoder outputs `(S, B, H)` of `lengths` `(B,)`, computed once."""
        prepared = [cast(Attention, attention).keys_and_values(memory) for attention in self.attention]
        keys, values = tuple(k for k, _ in prepared), tuple(v for _, v in prepared)
        return EncoderMemory(keys, values, lengths_to_mask(lengths, len(memory)), pooled)

    def initial_state(self, memory: EncoderMemory) -> DecoderState:
        """Return the state before the first token, computed from the pooled vector; other parts of it are zero."""
        batch_size = len(memory.pooled)
        layers = self.stack.initial_state(batch_size)
        if self.init_state_proj is not None:
            projected = torch.tanh(self.init_state_proj(memory.pooled)).float()
            chunks, is_projected = iter(projected.chunk(sum(self.is_projected), -1)), iter(self.is_projected)
            layers = map_state(lambda s: next(chunks).contiguous() if next(is_projected) else s, layers)
        previous_ids = torch.full((max(1, self.line_length), batch_size), self.bos_id, device=memory.pooled.device)
        return DecoderState(layers, previous_ids)

    def forward(self, ids: Tensor, memory: EncoderMemory) -> tuple[Tensor, Tensor | None]:
        """Return the logits `(M, B, V + 1)` at each step of the target ids `(M, B)`, each given those before it (teacher
        forcing), and the attention weights `(M, B, S)` of the last layer."""
        bos = ids.new_full((max(1, self.line_length), ids.shape[1]), self.bos_id)
        history = torch.cat([bos, ids])
        above_ids = history[: len(ids)] if self.above_table is not None else None
        xs = self._embed(history[len(bos) - 1 : -1], above_ids, memory, 0)
        ys, weights, _ = self._run_layers(xs, self.initial_state(memory).layers, memory)
        return self._logits(ys), weights

    def step(self, state: DecoderState, memory: EncoderMemory, position: int) -> tuple[Tensor, StackState, Tensor | None]:
        """Return the logits `(B, V + 1)` of the token at `position`, the next layer states, and the weights `(B, S)`."""
        above_ids = state.previous_ids[:1] if self.above_table is not None else None
        xs = self._embed(state.previous_ids[-1:], above_ids, memory, position)
        ys, weights, layers = self._run_layers(xs, state.layers, memory)
        return self._logits(ys)[0], layers, None if weights is None else weights[0]

    def append(self, state: DecoderState, layers: StackState, ids: Tensor) -> DecoderState:
        """Return the state after `ids` `(B,)` were generated."""
        return DecoderState(layers, torch.cat([state.previous_ids[1:], ids[None]]))

    def _embed(self, ids: Tensor, above_ids: Tensor | None, memory: EncoderMemory, position: int) -> Tensor:
        xs = self.embedding(self.unk_dropout(ids)) + self.context_proj(memory.pooled)
        if self.above_table is not None and self.position is not None and above_ids is not None:
            xs = xs + self.above_table(above_ids) + self.position[position : position + len(ids)]
        return cast(Tensor, xs)

    def _run_layers(self, xs: Tensor, state: State, memory: EncoderMemory) -> tuple[Tensor, Tensor | None, StackState]:
        weights: Tensor | None = None
        final_states = []
        for index, (layer, layer_state) in enumerate(zip(self.stack.layer_list(), state.layers, strict=True)):
            xs, final_state = layer.unroll(xs, layer_state)
            final_states.append(final_state)
            if self.attention:
                xs, weights = self.attention[index](xs, memory.keys[index], memory.values[index], memory.mask)
        return xs, weights, StackState(tuple(final_states))

    def _logits(self, ys: Tensor) -> Tensor:
        return nn.functional.linear(self.norm(ys), self.embedding.weight[: self.vocab_size + 1], self.bias)
