"""Writing after reading: beam search, or draws; and what a writer looked at while it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.generation.sampling import RandomNumbers, draw
from unrolled.nn.cells import map_state
from unrolled.nn.decoder import Memory, Writer, WriterState
from unrolled.nn.encoder_decoder import PairModel
from unrolled.options import PredictOptions, SampleOptions

Array = npt.NDArray[Any]
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Written:
    """What was written for one row: ids `(M,)` without the end, and the natural logarithm of its probability."""

    ids: Array
    log_probability: float


@dataclass
class _Beam:
    """Hypotheses of the rows still searched: `rows` `(R,)` their numbers, `scores` `(R, K)`, `tokens` `(R, K, t)`."""

    rows: Tensor
    scores: Tensor
    tokens: Tensor
    state: WriterState
    memory: Memory


@torch.inference_mode()
def search(model: PairModel, batch: Batch, options: PredictOptions, limit: int) -> list[Written]:
    """Return the best that a beam of `options.beam` hypotheses finds for each row of a batch, of at most `limit` symbols.

    Hypotheses are compared by their log probability over ((5 + length) / 6) ** length_penalty (Wu et al. 2016). A beam of 1 is
    greedy search.
    """
    writer = _writer(model)
    width, memory = options.beam, model.remember(batch)
    rows = len(memory.whole)
    found = _Found(rows, limit, options.length_penalty, memory.whole.device)
    memory = memory.repeated(width)
    scores = torch.full((rows, width), -torch.inf, device=memory.whole.device)
    scores[:, 0] = 0.0
    beam = _Beam(
        torch.arange(rows, device=scores.device),
        scores,
        torch.zeros(rows, width, 0, dtype=torch.long, device=scores.device),
        writer.initial_state(memory),
        memory,
    )
    for at in range(limit + 1):
        _extend(writer, beam, found, at, last=at == limit)
        alive = ~found.settled(beam)
        if not alive.any():
            break
        if not alive.all():
            _keep(beam, alive, width)
    return found.written()


class _Found:
    """The best finished hypothesis of every row so far."""

    def __init__(self, rows: int, limit: int, penalty: float, device: torch.device) -> None:
        self.limit, self.penalty = limit, penalty
        self.score = torch.full((rows,), -torch.inf, device=device)
        self.log_probability = torch.zeros(rows, device=device)
        self.tokens: list[Tensor] = [torch.empty(0, dtype=torch.long)] * rows

    def norm(self, length: int) -> float:
        """Return what the log probability of a hypothesis is divided by."""
        return float(((5 + length) / 6) ** self.penalty)

    def offer(self, beam: _Beam, ended: Tensor, origin: Tensor, length: int) -> None:
        """Take finished hypotheses: log probabilities `(R, n)`, -inf for none, of the hypotheses `origin` `(R, n)`."""
        best, which = ended.max(1)
        better = (best / self.norm(length) > self.score[beam.rows]) & (best > -torch.inf)
        for row in better.nonzero().flatten().tolist():
            number = int(beam.rows[row])
            self.score[number] = best[row] / self.norm(length)
            self.log_probability[number] = best[row]
            self.tokens[number] = beam.tokens[row, origin[row, which[row]]].cpu()

    def settled(self, beam: _Beam) -> Tensor:
        """Return, for each row still searched, whether nothing better can come: `(R,)`."""
        highest = beam.scores.amax(1) / self.norm(self.limit)
        return self.score[beam.rows] >= highest

    def written(self) -> list[Written]:
        """Return the best of each row."""
        return [
            Written(tokens.numpy(), float(chance)) for tokens, chance in zip(self.tokens, self.log_probability, strict=True)
        ]


def _extend(writer: Writer, beam: _Beam, found: _Found, at: int, last: bool) -> None:
    """Let each hypothesis grow by a symbol or end, and keep the best `K` of a row that go on."""
    count, width = beam.scores.shape
    scores, layers, _ = writer.step(beam.state, beam.memory, at)
    chances = scores.float().log_softmax(-1).view(count, width, -1)
    if last:
        chances[..., : writer.end] = -torch.inf
    total = (beam.scores.unsqueeze(-1) + chances).flatten(1)  # (R, K (V + 1))
    values, places = total.topk(min(2 * width, total.shape[1]), 1)
    origin, symbol = places // chances.shape[-1], places % chances.shape[-1]
    ends = symbol == writer.end
    among = torch.arange(values.shape[1], device=values.device) < width
    found.offer(beam, values.masked_fill(~(ends & among), -torch.inf), origin, at + 1)
    going, which = values.masked_fill(ends, -torch.inf).topk(width, 1)
    origin, symbol = origin.gather(1, which), symbol.gather(1, which)
    lanes = (origin + torch.arange(count, device=origin.device)[:, None] * width).flatten()
    kept = map_state(lambda s: s.index_select(0, lanes), layers)
    before = WriterState(kept, beam.state.written.index_select(1, lanes))
    beam.state = writer.push(before, kept, symbol.flatten())
    earlier = beam.tokens.gather(1, origin.unsqueeze(-1).expand(-1, -1, beam.tokens.shape[2]))
    beam.tokens, beam.scores = torch.cat([earlier, symbol.unsqueeze(-1)], -1), going


def _keep(beam: _Beam, alive: Tensor, width: int) -> None:
    """Go on with the rows that are not settled."""
    lanes = alive.repeat_interleave(width).nonzero().flatten()
    beam.rows, beam.scores, beam.tokens = beam.rows[alive], beam.scores[alive], beam.tokens[alive]
    layers = map_state(lambda s: s.index_select(0, lanes), beam.state.layers)
    beam.state = WriterState(layers, beam.state.written.index_select(1, lanes))
    beam.memory = beam.memory.mapped(lambda part: part.index_select(0, lanes))


@torch.inference_mode()
def drawn(model: PairModel, batch: Batch, options: SampleOptions, seeds: list[int], limit: int) -> list[Written]:
    """Draw what is written for each row, by the row's own seed, with the filters that samples of text have.

    A painting has as many symbols as it must; anything else ends by itself, or after `limit` symbols.
    """
    writer = _writer(model)
    memory = model.remember(batch)
    state, rows = writer.initial_state(memory), len(memory.whole)
    numbers, painted = RandomNumbers(seeds), model.shape.written
    ids: list[Tensor] = []
    chances = torch.zeros(rows, dtype=torch.float64, device=memory.whole.device)
    ended = torch.zeros(rows, dtype=torch.bool, device=memory.whole.device)
    for at in range(painted or limit):
        scores, layers, _ = writer.step(state, memory, at)
        scores = scores.float()
        if painted:
            scores[:, writer.end] = -torch.inf
        chosen = draw(scores, numbers.at(at).to(scores.device), options)
        chances += scores.double().log_softmax(-1).gather(1, chosen[:, None])[:, 0].masked_fill(ended, 0.0)
        ended |= chosen == writer.end
        ids.append(chosen.masked_fill(ended, writer.end))
        if ended.all():
            break
        state = writer.push(state, layers, chosen)
    table = torch.stack(ids, 1).cpu().numpy() if ids else np.zeros((rows, 0), dtype=np.int64)
    return [Written(row[row != writer.end], float(chance)) for row, chance in zip(table, chances, strict=True)]


@torch.inference_mode()
def looked_at(model: PairModel, batch: Batch, written: list[Written]) -> list[Array] | None:
    """Return, for each row, the weights `(M, S)` with which its source was looked at; None if the model has no attention."""
    writer = _writer(model)
    longest = max(1, max(len(row.ids) for row in written))
    ids = torch.zeros(longest, len(written), dtype=torch.long, device=model.device)
    for column, row in enumerate(written):
        ids[: len(row.ids), column] = torch.from_numpy(row.ids)
    memory = model.remember(batch)
    _, weights = writer(ids, memory)
    if weights is None:
        return None
    steps = memory.there.sum(1).tolist()
    return [weights[: len(row.ids), column, : steps[column]].float().cpu().numpy() for column, row in enumerate(written)]


def _writer(model: PairModel) -> Writer:
    if model.writer is None:
        raise ValueError("This model does not write: it answers.")
    return model.writer
