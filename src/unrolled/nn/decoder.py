"""What is written after reading: a recurrent network that looks at the memory at every step, and reads what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from unrolled.nn.attention import Attention
from unrolled.nn.cells import CELLS, State, map_state, state_tensors
from unrolled.nn.encoder import SymbolHiding, spread
from unrolled.nn.stack import SMALL_EMBEDDING, Stack, StackState
from unrolled.options import ModelOptions


class WriterState(NamedTuple):
    """Where a writer stands: the state of its layers, and what was written last (a painting: a line of it) `(lines, B)`."""

    layers: StackState
    written: Tensor


class Memory(NamedTuple):
    """What a writer looks at, of B rows: keys and values a layer, `there` `(B, S)`, and the vector `whole` `(B, H)`."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    there: Tensor
    whole: Tensor

    def repeated(self, times: int) -> Memory:
        """Return the memory with every row `times` times, one after the other."""
        return self.mapped(lambda part: part.repeat_interleave(times, 0))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Memory:
        """Return the memory with every tensor, rows first, changed."""
        keys, values = tuple(map(change, self.keys)), tuple(map(change, self.values))
        return Memory(keys, values, change(self.there), change(self.whole))


class Writer(nn.Module):
    """Symbols, one after the other, given a memory. There are V symbols; V is `end`, and V + 1 begins.

    Each layer is recurrent, then looks at the memory; the last one's scores come from the very vectors that symbols are read
    as (Press and Wolf 2017). A painting has no end but a place for each of its `written` pixels, and reads the pixel above too.
    """

    def __init__(self, symbols: int, written: int, across: int, attention: bool, options: ModelOptions) -> None:
        super().__init__()
        width = options.hidden
        self.symbols, self.end, self.go, self.across = symbols, symbols, symbols + 1, across
        self.embedding = nn.Embedding(symbols + 2, width)
        self.above = nn.Embedding(symbols + 2, width) if written else None
        self.place = nn.Parameter(torch.randn(written, 1, width) * SMALL_EMBEDDING) if written else None
        for table in (self.embedding, self.above):
            if table is not None:
                with torch.no_grad():
                    table.weight.mul_(SMALL_EMBEDDING)
        kind = CELLS[options.cell]
        cells = [kind(width, width, options.two_biases) for _ in range(options.layers)]
        self.hiding = SymbolHiding(options.symbol_dropout, symbols - 1 if not written else symbols + 1)
        self.stack = Stack(list(cells), options.dropout, residual=True)
        self.attention = nn.ModuleList([Attention(width) for _ in cells] if attention else [])
        self.from_whole = nn.Linear(width, width)
        parts = len(state_tensors(self.stack.initial_state(1)))
        self.begin = nn.Linear(width, parts * width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(symbols + 1))

    def look(self, memory: Tensor, lengths: Tensor, whole: Tensor) -> Memory:
        """Return what the writer needs of a memory `(S, B, H)` of `lengths` `(B,)`, worked out once."""
        prepared = [cast(Attention, attention).prepare(memory) for attention in self.attention]
        keys, values = tuple(k for k, _ in prepared), tuple(v for _, v in prepared)
        return Memory(keys, values, spread(lengths, len(memory)), whole)

    def initial_state(self, memory: Memory) -> WriterState:
        """Return the state before the first symbol, which follows from what was read."""
        rows = len(memory.whole)
        parts = iter(torch.tanh(self.begin(memory.whole)).float().chunk(len(state_tensors(self.stack.initial_state(1))), -1))
        layers = map_state(lambda s: next(parts).contiguous(), self.stack.initial_state(rows))
        written = torch.full((max(1, self.across), rows), self.go, device=memory.whole.device)
        return WriterState(layers, written)

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None]:
        """Return scores `(M, B, V + 1)` of what comes at each step, the right symbols `(M, B)` being written, and the weights
        `(M, B, S)` of the last layer that looks."""
        begun = ids.new_full((max(1, self.across), ids.shape[1]), self.go)
        before = torch.cat([begun, ids])
        above = before[: len(ids)] if self.above is not None else None
        xs = self._read(before[len(begun) - 1 : -1], above, memory, 0)
        ys, weights, _ = self._through(xs, self.initial_state(memory).layers, memory)
        return self._scores(ys), weights

    def step(self, state: WriterState, memory: Memory, at: int) -> tuple[Tensor, StackState, Tensor | None]:
        """Return the scores `(B, V + 1)` of the symbol at place `at`, the state of the layers then, and weights `(B, S)`."""
        above = state.written[:1] if self.above is not None else None
        xs = self._read(state.written[-1:], above, memory, at)
        ys, weights, layers = self._through(xs, state.layers, memory)
        return self._scores(ys)[0], layers, None if weights is None else weights[0]

    def push(self, state: WriterState, layers: StackState, ids: Tensor) -> WriterState:
        """Return the state after `ids` `(B,)` were written."""
        return WriterState(layers, torch.cat([state.written[1:], ids[None]]))

    def _read(self, before: Tensor, above: Tensor | None, memory: Memory, at: int) -> Tensor:
        xs = self.embedding(self.hiding(before)) + self.from_whole(memory.whole)
        if self.above is not None and self.place is not None and above is not None:
            xs = xs + self.above(above) + self.place[at : at + len(before)]
        return cast(Tensor, xs)

    def _through(self, xs: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor | None, StackState]:
        weights: Tensor | None = None
        after = []
        for index, (layer, below) in enumerate(zip(self.stack.each_layer(), state.layers, strict=True)):
            xs, last = layer.unroll(xs, below)
            after.append(last)
            if self.attention:
                xs, weights = self.attention[index](xs, memory.keys[index], memory.values[index], memory.there)
        return xs, weights, StackState(tuple(after))

    def _scores(self, ys: Tensor) -> Tensor:
        return nn.functional.linear(self.norm(ys), self.embedding.weight[: self.symbols + 1], self.bias)
