"""Cells with a matrix as memory: mLSTM and Gated DeltaNet. A step writes a value under a key and reads with a query.

Both are linear in the memory, so a chunk of steps is computed at once by products of all its queries, keys and values, and the
memory is carried from chunk to chunk. Units are split in N heads of D units, each with a memory D x D: N is the largest power
of two that divides H and leaves at least `MIN_HEAD_UNITS` units to a head. Queries and keys are of the last `CONV_STEPS`
inputs, a depthwise convolution followed by SiLU, as in both papers.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.nn.cells.contract import GatedCell, Inputs, State, to_dense

CHUNK_STEPS = 32
"""Steps computed at once; the cost of a chunk grows with its square."""

CONV_STEPS = 4
MIN_HEAD_UNITS = 32
GATE_CAP = 15.0
"""Bound of the logarithms of the mLSTM's gates, `15 tanh(x / 15)` as in xLSTM 7B: exponentials stay within float32."""

FORGET_BIAS = (3.0, 6.0)
"""Initial biases of the forget gate, evenly spaced over the heads."""


class MLSTMState(NamedTuple):
    """State of an mLSTM: memory `c` `(B, N, D, D)`, normalizer `n` `(B, N, D)`, stabilizer `m` `(B, N)`, latest inputs `x`."""

    c: Tensor
    n: Tensor
    m: Tensor
    x: Tensor


class GatedDeltaNetState(NamedTuple):
    """State of a Gated DeltaNet: memory `s` `(B, N, D, D)`, and the latest inputs `x` `(B, 3, I)`, the newest last."""

    s: Tensor
    x: Tensor


class Chunk(NamedTuple):
    """The inputs of a memory for L steps: queries, keys, values `(B, N, L, D)`, gates `(B, N, L)`, and resets `(B, 1, L)`."""

    q: Tensor
    k: Tensor
    v: Tensor
    gates: tuple[Tensor, Tensor]
    resets: Tensor


def num_heads(hidden_size: int) -> int:
    """Return N, the heads of a cell of `hidden_size` units."""
    heads = 1
    while hidden_size % (2 * heads) == 0 and hidden_size // (2 * heads) >= MIN_HEAD_UNITS:
        heads *= 2
    return heads


class MatrixMemoryCell(GatedCell):
    """Base class: projections, convolution and output gate, around `remember`, which a subclass defines.

    Parameters: `weight_ih` `(4 H, I)` and `bias` `(4 H)` for q, k, v, o; `weight_gates` `(2 N, I)` and `bias_gates` `(2 N)` for
    two gates of each head; `conv_weight` `(I, 4)` and `conv_bias` `(I)`.
    """

    num_gates = 4
    has_recurrent_weights = False
    has_fused_unroll: ClassVar[bool] = True
    projected_states = ()
    weight_gates: nn.Parameter
    bias_gates: nn.Parameter
    conv_weight: nn.Parameter
    conv_bias: nn.Parameter

    @classmethod
    def parameter_shapes(cls, input_size: int, hidden_size: int, two_biases: bool = False) -> dict[str, tuple[int, ...]]:
        rows = 2 * num_heads(hidden_size)
        return super().parameter_shapes(input_size, hidden_size, two_biases) | {
            "weight_gates": (rows, input_size),
            "bias_gates": (rows,),
            "conv_weight": (input_size, CONV_STEPS),
            "conv_bias": (input_size,),
        }

    @torch.no_grad()
    def init_gates(self) -> None:
        heads = num_heads(self.hidden_size)
        self.conv_weight.uniform_(-0.5, 0.5)
        self.conv_weight[:, -1] += 1.0  # at first, mostly the input of the step
        self.bias_gates[:heads] = torch.linspace(*FORGET_BIAS, heads)

    def log_gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the forget gate and the other gate, each `(..., N)`, for inputs `x` `(..., I)`."""
        raise NotImplementedError

    def write_and_read(self, q: Tensor, k: Tensor, v: Tensor, gates: tuple[Tensor, Tensor], state: Any) -> tuple[Tensor, Any]:
        """Take a step of the memory: return what the query reads after the write, `(B, N, D)`, and the next state."""
        raise NotImplementedError

    def remember(self, chunk: Chunk, memory: State) -> tuple[Tensor, State]:
        """Return what the queries of L steps read `(B, N, L, D)`, and the memory after them."""
        raise NotImplementedError

    def normalize_keys(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys `(..., D)` as the memory takes them."""
        raise NotImplementedError

    def output(self, read: Tensor, o: Tensor) -> Tensor:
        """Return the output `(..., H)`: what was read `(..., N, D)` and the output gate `(..., H)` before its nonlinearity."""
        return read.flatten(-2) * torch.sigmoid(o)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window = torch.cat([state.x, x.unsqueeze(1).to(state.x.dtype)], 1)  # (B, 4, I)
        convolved = F.silu((window * self.conv_weight.T).sum(1) + self.conv_bias)
        rows = 2 * self.hidden_size
        q, k = F.linear(convolved, self.weight_ih[:rows], self.bias[:rows]).to(window.dtype).chunk(2, -1)
        v, o = F.linear(x, self.weight_ih[rows:], self.bias[rows:]).to(window.dtype).chunk(2, -1)
        q, k = self.normalize_keys(self._heads(q), self._heads(k))
        read, memory = self.write_and_read(q, k, self._heads(v), self.log_gates(x), state)
        return self.output(read, o), memory._replace(x=window[:, 1:])

    def unroll_fused(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Take T steps in chunks, in the number format of the state."""
        xs = to_dense(xs)
        if len(xs) == 0:
            return xs.new_zeros(0, xs.shape[1], self.hidden_size), state
        *memory_parts, last = state
        memory, dtype = tuple(memory_parts), last.dtype
        convolved, last = _convolve(xs.to(dtype), last, self.conv_weight, self.conv_bias, resets)
        rows = 2 * self.hidden_size
        q, k = F.linear(convolved, self.weight_ih[:rows], self.bias[:rows]).to(dtype).chunk(2, -1)
        v, o = F.linear(xs, self.weight_ih[rows:], self.bias[rows:]).to(dtype).chunk(2, -1)
        with torch.autocast(xs.device.type, enabled=False):
            q, k, v = (self._heads(part).permute(1, 2, 0, 3) for part in (q, k, v))
            q, k = self.normalize_keys(q, k)
            gates = [gate.permute(1, 2, 0) for gate in self.log_gates(xs.to(dtype))]
            starts = torch.zeros(xs.shape[:2], dtype=torch.bool, device=xs.device) if resets is None else resets
            starts, reads = starts.T.unsqueeze(1), []
            for first in range(0, len(xs), CHUNK_STEPS):
                part = slice(first, first + CHUNK_STEPS)
                f, other = (gate[..., part] for gate in gates)
                chunk = Chunk(q[:, :, part], k[:, :, part], v[:, :, part], (f, other), starts[..., part])
                read, memory = self.remember(chunk, memory)
                reads.append(read)
            ys = self.output(torch.cat(reads, 2).permute(2, 0, 1, 3), o)
        return ys, type(state)(*memory, last)

    def _heads(self, part: Tensor) -> Tensor:
        """Return `(..., N, D)` of `(..., H)`."""
        return part.reshape(*part.shape[:-1], num_heads(self.hidden_size), -1)

    def _per_unit(self, gate: Tensor) -> Tensor:
        """Return the gate of each unit `(..., H)` for that of each head `(..., N)`."""
        return gate.repeat_interleave(self.hidden_size // num_heads(self.hidden_size), -1)


def _convolve(xs: Tensor, last: Tensor, weight: Tensor, bias: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return SiLU of the convolution of `xs` `(T, B, I)` and the inputs before, `last` `(B, 3, I)`; and the last three."""
    padded = torch.cat([last.transpose(0, 1), xs])
    steps, lags = len(xs), CONV_STEPS - 1
    keep = None if resets is None else torch.ones_like(resets)
    convolved, newest = bias + padded[lags:] * weight[:, lags], [padded[-1]]
    for lag in range(1, CONV_STEPS):
        earlier = padded[lags - lag : lags - lag + steps]
        if keep is not None and resets is not None:  # an input before a reset is not seen after it
            since = torch.cat([resets.new_zeros(min(lag - 1, steps), resets.shape[1]), resets])[:steps]
            keep = keep & ~since
            earlier = earlier * keep.unsqueeze(-1)
        convolved = convolved + earlier * weight[:, lags - lag]
    for lag in range(1, lags):
        value = padded[-1 - lag]
        if resets is not None:
            value = value * ~resets[max(0, steps - lag) :].any(0).unsqueeze(-1)
        newest.append(value)
    return F.silu(convolved), torch.stack(newest[::-1], 1)


def _decay(log_f: Tensor, resets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return logarithms of decay in a chunk: from step s to step t `(B, N, L, L)`, -inf where s > t or a reset is between; from
    before the chunk, or from the latest reset, to t `(B, N, L)`; and whether no reset was yet, `(B, 1, L)`."""
    sums = torch.cumsum(log_f, -1)
    segment, steps = torch.cumsum(resets, -1), torch.arange(log_f.shape[-1], device=log_f.device)
    hidden = (segment.unsqueeze(-1) != segment.unsqueeze(-2)) | (steps.unsqueeze(-1) < steps)
    between = (sums.unsqueeze(-1) - sums.unsqueeze(-2)).masked_fill(hidden, -torch.inf)
    first = torch.where(resets, steps, 0).cummax(-1).values.expand_as(sums)
    return between, sums - (sums - log_f).gather(-1, first), segment == 0


class MLSTMCell(MatrixMemoryCell):
    """The mLSTM (Beck, Poeppel, Spanring, Auer et al. 2024, "xLSTM").

        x_c    = SiLU(conv(x))                      the last four inputs
        q, k   = W_q x_c, W_k x_c / sqrt(D)         v, o~ = W_v x, W_o x
        i~, f~ = 15 tanh(gates / 15)                a number for each head
        m' = max(log sigmoid(f~) + m, i~)
        i  = exp(i~ - m'),  f = exp(log sigmoid(f~) + m - m')
        C' = f * C + i * k v^T
        n' = f * n + i * k
        y  = sigmoid(o~) * (C'^T q) / max(|n'^T q|, exp(-m'))

    Order q, k, v, o in `weight_ih`; f, i in `weight_gates`. `y` does not depend on the stabilizer `m`. Recorded gates: f, o and
    i as `exp(i~) / (exp(i~) + sigmoid(f~))`, the input's share of what is kept and added.
    """

    gate_names = ("i", "f", "o")

    def initial_state(self, batch_size: int) -> MLSTMState:
        heads = num_heads(self.hidden_size)
        size, zeros = self.hidden_size // heads, self.bias.new_zeros
        shape = (batch_size, heads, size)
        return MLSTMState(
            zeros(*shape, size), zeros(shape), zeros(shape[:2]), zeros(batch_size, CONV_STEPS - 1, self.input_size)
        )

    def log_gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gates = GATE_CAP * torch.tanh(F.linear(x, self.weight_gates, self.bias_gates).to(self.bias.dtype) / GATE_CAP)
        f, i = gates.chunk(2, -1)
        return F.logsigmoid(f), i

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        log_f, i = map(self._per_unit, self.log_gates(x))
        o = F.linear(x, self.weight_ih[3 * self.hidden_size :], self.bias[3 * self.hidden_size :])
        return torch.sigmoid(i - log_f), torch.exp(log_f), torch.sigmoid(o)

    def normalize_keys(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return q, k * k.shape[-1] ** -0.5

    def write_and_read(
        self, q: Tensor, k: Tensor, v: Tensor, gates: tuple[Tensor, Tensor], state: MLSTMState
    ) -> tuple[Tensor, MLSTMState]:
        log_f, log_i = gates
        m = torch.maximum(log_f + state.m, log_i)
        i, f = torch.exp(log_i - m).unsqueeze(-1), torch.exp(log_f + state.m - m).unsqueeze(-1)
        c = f.unsqueeze(-1) * state.c + (i * k).unsqueeze(-1) * v.unsqueeze(-2)
        n = f * state.n + i * k
        read = (q.unsqueeze(-2) @ c).squeeze(-2)
        scale = torch.maximum((n * q).sum(-1).abs(), torch.exp(-m))
        return read / scale.unsqueeze(-1), state._replace(c=c, n=n, m=m)

    def remember(self, chunk: Chunk, memory: State) -> tuple[Tensor, State]:
        c, n, m = memory
        log_f, log_i = chunk.gates
        between, since_start, is_first = _decay(log_f, chunk.resets)
        log_weights = between + log_i.unsqueeze(-2)
        log_start = since_start + torch.where(is_first, m.unsqueeze(-1), 0.0)
        ms = torch.maximum(log_start, log_weights.amax(-1))
        weights = torch.exp(log_weights - ms.unsqueeze(-1))
        start = (torch.exp(log_start - ms) * is_first).unsqueeze(-1)  # (B, N, L, 1)
        scores = (chunk.q @ chunk.k.transpose(-1, -2)) * weights
        read = scores @ chunk.v + start * (chunk.q @ c)
        norm = scores.sum(-1) + start.squeeze(-1) * (chunk.q @ n.unsqueeze(-1)).squeeze(-1)
        read = read / torch.maximum(norm.abs(), torch.exp(-ms)).unsqueeze(-1)
        keys = chunk.k * weights[..., -1, :].unsqueeze(-1)
        kept = start[..., -1, :]
        return read, (kept.unsqueeze(-1) * c + keys.transpose(-1, -2) @ chunk.v, kept * n + keys.sum(-2), ms[..., -1])


class GatedDeltaNetCell(MatrixMemoryCell):
    """The Gated DeltaNet (Yang, Kautz and Hatamizadeh 2025), with eigenvalues from -1 to 1 (Grazzi, Siems et al. 2025).

        x_c   = SiLU(conv(x))                       the last four inputs
        q, k  = W_q x_c, W_k x_c                    each divided by its norm
        v, o~ = W_v x, W_o x
        a     = sigmoid(W_a x + b_a)                decay of the memory, for each head
        b     = 2 sigmoid(W_b x + b_b)              strength of the write, for each head
        S'    = a * (I - b k k^T) S + b * k v^T
        y     = sigmoid(o~) * RMSNorm(S'^T q)       for each head, with the weight `norm_weight` `(H)`

    Order q, k, v, o in `weight_ih`; a, b in `weight_gates`. A write first takes from the memory what it holds under the key, so
    a key can be written again. The eigenvalue of a step along `k` is `a (1 - b)`: negative for `b` above 1, which lets a step
    change a sign. Recorded gates: a, b / 2 and o. The paper has another parametrization of `a`, and a convolution of `v`.
    """

    gate_names = ("a", "b", "o")
    max_strength: ClassVar[float] = 2.0
    """The largest `b`."""
    norm_weight: nn.Parameter

    @classmethod
    def parameter_shapes(cls, input_size: int, hidden_size: int, two_biases: bool = False) -> dict[str, tuple[int, ...]]:
        return super().parameter_shapes(input_size, hidden_size, two_biases) | {"norm_weight": (hidden_size,)}

    @torch.no_grad()
    def init_gates(self) -> None:
        super().init_gates()
        self.norm_weight.fill_(1.0)

    def initial_state(self, batch_size: int) -> GatedDeltaNetState:
        heads = num_heads(self.hidden_size)
        size, zeros = self.hidden_size // heads, self.bias.new_zeros
        return GatedDeltaNetState(zeros(batch_size, heads, size, size), zeros(batch_size, CONV_STEPS - 1, self.input_size))

    def log_gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = F.linear(x, self.weight_gates, self.bias_gates).to(self.bias.dtype).chunk(2, -1)
        return F.logsigmoid(a), self.max_strength * torch.sigmoid(b)

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        log_a, b = map(self._per_unit, self.log_gates(x))
        o = F.linear(x, self.weight_ih[3 * self.hidden_size :], self.bias[3 * self.hidden_size :])
        return torch.exp(log_a), b / self.max_strength, torch.sigmoid(o)

    def normalize_keys(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(q, dim=-1, eps=1e-6), F.normalize(k, dim=-1, eps=1e-6)

    def output(self, read: Tensor, o: Tensor) -> Tensor:
        norm = torch.rsqrt(read.square().mean(-1, keepdim=True) + 1e-5)
        return super().output(read * norm, o) * self.norm_weight

    def write_and_read(
        self, q: Tensor, k: Tensor, v: Tensor, gates: tuple[Tensor, Tensor], state: GatedDeltaNetState
    ) -> tuple[Tensor, GatedDeltaNetState]:
        log_a, b = gates
        s = torch.exp(log_a)[..., None, None] * state.s
        written = b.unsqueeze(-1) * (v - (k.unsqueeze(-2) @ s).squeeze(-2))
        s = s + k.unsqueeze(-1) * written.unsqueeze(-2)
        return (q.unsqueeze(-2) @ s).squeeze(-2), state._replace(s=s)

    def remember(self, chunk: Chunk, memory: State) -> tuple[Tensor, State]:
        """The writes U of L steps solve `(I + A) U = b (V - decay K S)`, with `A_ts = b_t decay_ts k_t k_s` for s < t."""
        (s,) = memory
        log_a, b = chunk.gates
        between, since_start, is_first = _decay(log_a, chunk.resets)
        decay, start = torch.exp(between), (torch.exp(since_start) * is_first).unsqueeze(-1)
        b, identity = b.unsqueeze(-1), torch.eye(decay.shape[-1], dtype=decay.dtype, device=decay.device)
        system = identity + (b * decay * (chunk.k @ chunk.k.transpose(-1, -2))).tril(-1)
        written = torch.linalg.solve_triangular(system, b * (chunk.v - start * (chunk.k @ s)), upper=False, unitriangular=True)
        read = (chunk.q @ chunk.k.transpose(-1, -2) * decay) @ written + start * (chunk.q @ s)
        keys = chunk.k * decay[..., -1, :].unsqueeze(-1)
        return read, (start[..., -1:, :] * s + keys.transpose(-1, -2) @ written,)


class GatedDeltaNetPositiveCell(GatedDeltaNetCell):
    """`GatedDeltaNetCell` with `b = sigmoid(W_b x + b_b)`, eigenvalues from 0 to 1, as first published (Yang et al. 2025)."""

    max_strength = 1.0
