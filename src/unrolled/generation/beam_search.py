"""Writing after reading: beam search, or draws; and what a writer looked at while it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.generation.sampling import PhiloxStreams, sample_token
from unrolled.nn.cells import map_state
from unrolled.nn.decoder import Decoder, DecoderState, EncoderMemory
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.options import PredictOptions, SampleOptions

Array = npt.NDArray[Any]
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Hypothesis:
    """What was written for one row: ids `(M,)` without the end, and the natural logarithm of its probability."""

    ids: Array
    log_prob: float


@dataclass
class _BeamState:
    """Hypotheses of the rows still searched: `rows` `(R,)` their numbers, `scores` `(R, K)`, `tokens` `(R, K, t)`."""

    row_indices: Tensor
    scores: Tensor
    tokens: Tensor
    state: DecoderState
    memory: EncoderMemory


@torch.inference_mode()
def beam_search(model: EncoderDecoder, batch: Batch, options: PredictOptions, max_new_tokens: int) -> list[Hypothesis]:
    """Return the best that a beam of `options.beam` hypotheses finds for each row of a batch, of at most `limit` symbols.

    Hypotheses are compared by their log probability over ((5 + length) / 6) ** length_penalty (Wu et al. 2016). A beam of 1 is
    greedy search.
    """
    decoder = _require_decoder(model)
    num_beams, memory = options.beam, model.encode(batch)
    num_rows = len(memory.pooled)
    finished = _FinishedHypotheses(num_rows, max_new_tokens, options.length_penalty, memory.pooled.device)
    memory = memory.repeat_interleave(num_beams)
    scores = torch.full((num_rows, num_beams), -torch.inf, device=memory.pooled.device)
    scores[:, 0] = 0.0
    beam = _BeamState(
        torch.arange(num_rows, device=scores.device),
        scores,
        torch.zeros(num_rows, num_beams, 0, dtype=torch.long, device=scores.device),
        decoder.initial_state(memory),
        memory,
    )
    for step in range(max_new_tokens + 1):
        _expand(decoder, beam, finished, step, is_last=step == max_new_tokens)
        is_open = ~finished.done(beam)
        if not is_open.any():
            break
        if not is_open.all():
            _drop_finished_rows(beam, is_open, num_beams)
    return finished.hypotheses()


class _FinishedHypotheses:
    """The best finished hypothesis of every row so far."""

    def __init__(self, num_rows: int, max_new_tokens: int, length_penalty: float, device: torch.device) -> None:
        self.max_new_tokens, self.length_penalty = max_new_tokens, length_penalty
        self.best_scores = torch.full((num_rows,), -torch.inf, device=device)
        self.log_probs = torch.zeros(num_rows, device=device)
        self.best_tokens: list[Tensor] = [torch.empty(0, dtype=torch.long)] * num_rows

    def length_norm(self, length: int) -> float:
        """Return what the log probability of a hypothesis is divided by."""
        return float(((5 + length) / 6) ** self.length_penalty)

    def update(self, beam: _BeamState, log_probs: Tensor, origin: Tensor, length: int) -> None:
        """Take finished hypotheses: log probabilities `(R, n)`, -inf for none, of the hypotheses `origin` `(R, n)`."""
        best_log_probs, best_indices = log_probs.max(1)
        is_better = (best_log_probs / self.length_norm(length) > self.best_scores[beam.row_indices]) & (
            best_log_probs > -torch.inf
        )
        for row in is_better.nonzero().flatten().tolist():
            row_index = int(beam.row_indices[row])
            self.best_scores[row_index] = best_log_probs[row] / self.length_norm(length)
            self.log_probs[row_index] = best_log_probs[row]
            self.best_tokens[row_index] = beam.tokens[row, origin[row, best_indices[row]]].cpu()

    def done(self, beam: _BeamState) -> Tensor:
        """Return, for each row still searched, whether nothing better can come: `(R,)`."""
        best_possible = beam.scores.amax(1) / self.length_norm(self.max_new_tokens)
        return self.best_scores[beam.row_indices] >= best_possible

    def hypotheses(self) -> list[Hypothesis]:
        """Return the best of each row."""
        return [
            Hypothesis(tokens.numpy(), float(log_prob))
            for tokens, log_prob in zip(self.best_tokens, self.log_probs, strict=True)
        ]


def _expand(decoder: Decoder, beam: _BeamState, finished: _FinishedHypotheses, step: int, is_last: bool) -> None:
    """Let each hypothesis grow by a symbol or end, and keep the best `K` of a row that go on."""
    num_rows, num_beams = beam.scores.shape
    logits, layer_states, _ = decoder.step(beam.state, beam.memory, step)
    log_probs = logits.float().log_softmax(-1).view(num_rows, num_beams, -1)
    if is_last:
        log_probs[..., : decoder.eos_id] = -torch.inf
    candidate_scores = (beam.scores.unsqueeze(-1) + log_probs).flatten(1)  # (R, K (V + 1))
    values, candidates = candidate_scores.topk(min(2 * num_beams, candidate_scores.shape[1]), 1)
    origins, tokens = candidates // log_probs.shape[-1], candidates % log_probs.shape[-1]
    is_eos = tokens == decoder.eos_id
    in_top_beams = torch.arange(values.shape[1], device=values.device) < num_beams
    finished.update(beam, values.masked_fill(~(is_eos & in_top_beams), -torch.inf), origins, step + 1)
    open_scores, open_indices = values.masked_fill(is_eos, -torch.inf).topk(num_beams, 1)
    origins, tokens = origins.gather(1, open_indices), tokens.gather(1, open_indices)
    state_rows = (origins + torch.arange(num_rows, device=origins.device)[:, None] * num_beams).flatten()
    kept_states = map_state(lambda s: s.index_select(0, state_rows), layer_states)
    previous = DecoderState(kept_states, beam.state.previous_ids.index_select(1, state_rows))
    beam.state = decoder.append(previous, kept_states, tokens.flatten())
    prefixes = beam.tokens.gather(1, origins.unsqueeze(-1).expand(-1, -1, beam.tokens.shape[2]))
    beam.tokens, beam.scores = torch.cat([prefixes, tokens.unsqueeze(-1)], -1), open_scores


def _drop_finished_rows(beam: _BeamState, is_open: Tensor, num_beams: int) -> None:
    """Go on with the rows that are not settled."""
    state_rows = is_open.repeat_interleave(num_beams).nonzero().flatten()
    beam.row_indices, beam.scores, beam.tokens = beam.row_indices[is_open], beam.scores[is_open], beam.tokens[is_open]
    layer_states = map_state(lambda s: s.index_select(0, state_rows), beam.state.layers)
    beam.state = DecoderState(layer_states, beam.state.previous_ids.index_select(1, state_rows))
    beam.memory = beam.memory.map_tensors(lambda tensor: tensor.index_select(0, state_rows))


@torch.inference_mode()
def sample_sequences(
    model: EncoderDecoder, batch: Batch, options: SampleOptions, seeds: list[int], max_new_tokens: int
) -> list[Hypothesis]:
    """Draw what is written for each row, by the row's own seed, with the filters that samples of text have.

    A painting has as many symbols as it must; anything else ends by itself, or after `limit` symbols.
    """
    decoder = _require_decoder(model)
    memory = model.encode(batch)
    state, num_rows = decoder.initial_state(memory), len(memory.pooled)
    random_streams, fixed_length = PhiloxStreams(seeds), model.shape.target_length
    ids: list[Tensor] = []
    log_probs = torch.zeros(num_rows, dtype=torch.float64, device=memory.pooled.device)
    is_done = torch.zeros(num_rows, dtype=torch.bool, device=memory.pooled.device)
    for step in range(fixed_length or max_new_tokens):
        logits, layer_states, _ = decoder.step(state, memory, step)
        logits = logits.float()
        if fixed_length:
            logits[:, decoder.eos_id] = -torch.inf
        next_ids = sample_token(logits, random_streams.at(step).to(logits.device), options)
        log_probs += logits.double().log_softmax(-1).gather(1, next_ids[:, None])[:, 0].masked_fill(is_done, 0.0)
        is_done |= next_ids == decoder.eos_id
        ids.append(next_ids.masked_fill(is_done, decoder.eos_id))
        if is_done.all():
            break
        state = decoder.append(state, layer_states, next_ids)
    sequences = torch.stack(ids, 1).cpu().numpy() if ids else np.zeros((num_rows, 0), dtype=np.int64)
    return [Hypothesis(row[row != decoder.eos_id], float(log_prob)) for row, log_prob in zip(sequences, log_probs, strict=True)]


@torch.inference_mode()
def attention_weights(model: EncoderDecoder, batch: Batch, hypotheses: list[Hypothesis]) -> list[Array] | None:
    """Return, for each row, the weights `(M, S)` with which its source was looked at; None if the model has no attention."""
    decoder = _require_decoder(model)
    max_length = max(1, max(len(row.ids) for row in hypotheses))
    ids = torch.zeros(max_length, len(hypotheses), dtype=torch.long, device=model.device)
    for column, row in enumerate(hypotheses):
        ids[: len(row.ids), column] = torch.from_numpy(row.ids)
    memory = model.encode(batch)
    _, weights = decoder(ids, memory)
    if weights is None:
        return None
    source_lengths = memory.mask.sum(1).tolist()
    return [
        weights[: len(row.ids), column, : source_lengths[column]].float().cpu().numpy() for column, row in enumerate(hypotheses)
    ]


def _require_decoder(model: EncoderDecoder) -> Decoder:
    if model.decoder is None:
        raise ValueError("This model does not write: it answers.")
    return model.decoder
