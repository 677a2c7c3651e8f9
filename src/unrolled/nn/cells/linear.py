"""Cells whose state is linear in the state before: minGRU, minLSTM and RG-LRU, trained by a scan and stepped in O(H).

Their gates depend on the input only, so the gates of all steps are one matrix product, and what is left is
`h_t = a_t * h_{t-1} + b_t`. The scan multiplies and adds. It does not take logarithms, whose sums over many steps lose digits
in float32 and which need positive states.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.nn.cells.contract import EmbeddingLookup, GatedCell, Inputs, to_dense

MIN_PARALLEL_NUMBERS = 4096
"""Numbers in one operation of a scan below which a call costs more than its arithmetic: then several chunks run at once."""


class LinearState(NamedTuple):
    """State of a linear cell: `h` `(B, H)`."""

    h: Tensor


def scan(a: Tensor, b: Tensor, initial: Tensor, reverse: bool = False, out: Tensor | None = None) -> Tensor:
    """Return all `h_t = a_t * h_{t-1} + b_t` `(T, B, H)` for `a`, `b` `(T, B, H)` and `h_0` = `initial` `(B, H)`; no gradients.

    With `reverse`, it is `h_t = a_t * h_{t+1} + b_t` from the last step to the first, and `initial` comes after the last. All
    arguments of T steps, and `out`, are contiguous.

    Time is cut in C chunks of K steps. Within chunks, the steps of all chunks run at once from a zero state, with the products
    of `a`; the C states at the ends of chunks follow one from the other, and are added to the steps of the next chunk.
    """
    steps, width = len(a), initial.numel()
    chunks = min(max(1, MIN_PARALLEL_NUMBERS // max(1, width)), math.isqrt(steps))
    length = steps // max(1, chunks)
    hs, h, direction = torch.empty_like(b) if out is None else out, initial, -1 if reverse else 1
    order = range(steps)[::direction]
    if chunks > 1:
        whole, within = length * chunks, range(length)[::direction]
        first = steps - whole if reverse else 0
        parts, gates, terms = (part[first : first + whole].view(chunks, length, *initial.shape) for part in (hs, a, b))
        products = torch.empty_like(parts)
        parts[:, within[0]], products[:, within[0]] = terms[:, within[0]], gates[:, within[0]]
        for before, k in itertools.pairwise(within):
            torch.addcmul(terms[:, k], gates[:, k], parts[:, before], out=parts[:, k])
            torch.mul(gates[:, k], products[:, before], out=products[:, k])
        for index in range(chunks)[::direction]:
            parts[index].addcmul_(products[index], h)
            h = parts[index, within[-1]]
        order = order[whole:]
    for t in order:
        h = torch.addcmul(b[t], a[t], h, out=hs[t])
    return hs


class LinearScan(torch.autograd.Function):
    """`scan` with its gradients, which are a scan from the last step to the first."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
        """Return all states `(T, B, H)`."""
        a = a.contiguous()
        hs = scan(a, b.contiguous(), initial)
        ctx.save_for_backward(a, hs, initial)
        return hs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of `a`, `b` and the initial state: `g_t = grad_t + a_{t+1} * g_{t+1}` is that of `h_t`."""
        a, hs, initial = ctx.saved_tensors
        g, grad_a, grad = torch.empty_like(a), torch.empty_like(a), grad.contiguous()
        g[-1] = grad[-1]
        scan(a[1:], grad[:-1], grad[-1], reverse=True, out=g[:-1])
        torch.mul(g[0], initial, out=grad_a[0])
        torch.mul(g[1:], hs[:-1], out=grad_a[1:])
        return grad_a, g, a[0] * g[0]


class LinearCell(GatedCell):
    """Base class of cells `h' = a * h + b`, `y = h'`, where `a` and `b` are functions of the input: `scan_terms`.

    Parameters: `weight_ih` `(G H, I)` and `bias` `(G H)`, gates stacked in the order of the subclass. There is no `weight_hh`.
    """

    has_recurrent_weights = False
    has_fused_unroll: ClassVar[bool] = True

    def project(self, x: Tensor) -> Tensor:
        """Return `W x + b` of all gates `(..., G H)`, in the number format of the weights: also where products are in bfloat16,
        a factor near one keeps its digits."""
        return F.linear(x, self.weight_ih, self.bias).to(self.weight_ih.dtype)

    def scan_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `a` and `b`, each `(..., H)`, for inputs `x` `(..., I)`."""
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> LinearState:
        return LinearState(self.weight_ih.new_zeros(batch_size, self.hidden_size))

    def step(self, x: Tensor, state: LinearState) -> tuple[Tensor, LinearState]:
        a, b = self.scan_terms(x)
        h = a * state.h + b
        return h, LinearState(h)

    def unroll_fused(self, xs: Inputs, state: LinearState, resets: Tensor | None = None) -> tuple[Tensor, LinearState]:
        """Take T steps by a scan, in the number format of the state. Terms of a small table are computed once a row."""
        if xs.shape[0] == 0:
            return to_dense(xs).new_zeros(0, xs.shape[1], self.hidden_size), state
        if isinstance(xs, EmbeddingLookup) and len(xs.table) <= xs.ids.numel():
            a, b = (F.embedding(xs.ids, term.to(state.h.dtype)) for term in self.scan_terms(xs.table))
        else:
            a, b = (term.to(state.h.dtype) for term in self.scan_terms(to_dense(xs)))
        if resets is not None:
            a = a * ~resets.unsqueeze(-1)
        hs = cast(Tensor, LinearScan.apply(a, b, state.h))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return hs, LinearState(hs[-1])


class MinGRUCell(LinearCell):
    """The minGRU (Feng, Tung, Ahmed, Bengio and Hajimirsadeghi 2024).

        z  = sigmoid(W_z x + b_z)
        n  = W_n x + b_n
        h' = (1 - z) * h + z * n
        y  = h'

    Gate order z, n. `x` `(B, I)`, `h` and `y` `(B, H)`; `weight_ih` `(2 H, I)`. This is the paper's vanilla form; its log form
    replaces `n` by a positive function of it.
    """

    num_gates = 2
    gate_names = ("z", "n")

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        z, n = self.project(x).chunk(2, -1)
        return torch.sigmoid(z), n

    def scan_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, n = self.gate_activations(x, x)
        return 1 - z, z * n


class MinLSTMCell(LinearCell):
    """The minLSTM (Feng, Tung, Ahmed, Bengio and Hajimirsadeghi 2024), with normalized gates.

        i  = sigmoid(W_i x + b_i)
        f  = sigmoid(W_f x + b_f)
        n  = W_n x + b_n
        h' = f / (f + i) * h + i / (f + i) * n
        y  = h'

    Gate order i, f, n; the gates `i` and `f` that are recorded are the normalized ones, whose sum is one. `weight_ih`
    `(3 H, I)`. `b_f` starts at one, as in `LSTMCell`.
    """

    num_gates = 3
    gate_names = ("i", "f", "n")

    @torch.no_grad()
    def init_gates(self) -> None:
        self.bias[self.hidden_size : 2 * self.hidden_size] = 1.0

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        i, f, n = self.project(x).chunk(3, -1)
        # i / (f + i) as a sigmoid of a difference of logarithms: right also where both gates underflow to zero
        share = torch.sigmoid(F.logsigmoid(i) - F.logsigmoid(f))
        return share, 1 - share, n

    def scan_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        i, f, n = self.gate_activations(x, x)
        return f, i * n


class RGLRUCell(LinearCell):
    """The real-gated linear recurrent unit of Griffin (De, Smith, Fernando, Botev et al. 2024), after a linear layer.

        n  = W_n x + b_n
        r  = sigmoid(W_r x + b_r)
        i  = sigmoid(W_i x + b_i)
        a  = sigmoid(decay_logit) ^ (8 r)
        h' = a * h + sqrt(1 - a^2) * (i * n)
        y  = h'

    Gate order r, i, n. `weight_ih` `(3 H, I)`, `decay_logit` `(H)`, whose `sigmoid(...)^8` starts uniform in 0.9 to 0.999. The
    paper computes both gates from `n`; here all three are computed from `x`, so that a layer is one product.
    """

    num_gates = 3
    gate_names = ("r", "i", "n")
    exponent = 8.0
    decay_logit: nn.Parameter

    @classmethod
    def parameter_shapes(cls, input_size: int, hidden_size: int, two_biases: bool = False) -> dict[str, tuple[int, ...]]:
        return super().parameter_shapes(input_size, hidden_size, two_biases) | {"decay_logit": (hidden_size,)}

    @torch.no_grad()
    def init_gates(self) -> None:
        decay = torch.empty_like(self.decay_logit).uniform_(0.9, 0.999) ** (1 / self.exponent)
        self.decay_logit.copy_(torch.logit(decay))

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        r, i, n = self.project(x).chunk(3, -1)
        return torch.sigmoid(r), torch.sigmoid(i), n

    def scan_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r, i, n = self.gate_activations(x, x)
        log_a = self.exponent * r * F.logsigmoid(self.decay_logit)
        # 1 - a^2 without cancellation; the bound keeps the gradient of the root finite where r is zero
        return torch.exp(log_a), torch.sqrt((-torch.expm1(2 * log_a)).clamp_min(1e-12)) * (i * n)
