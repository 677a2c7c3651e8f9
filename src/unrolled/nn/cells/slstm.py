"""The sLSTM of xLSTM: exponential gates, a normalizer, and a stabilizer that keeps both in range."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.nn.cells.contract import GatedCell, Inputs, to_dense, unroll_by_step

FORGET_BIAS = (3.0, 6.0)
"""Initial biases of the forget gate: evenly spaced over the units, as in the authors' code."""


class SLSTMState(NamedTuple):
    """State of an sLSTM: hidden state `h`, cell state `c`, normalizer `n` and stabilizer `m`, each `(B, H)`."""

    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


class SLSTMCell(GatedCell):
    """The sLSTM with one head (Beck, Poeppel, Spanring, Auer et al. 2024, "xLSTM").

        i~, f~, g~, o~ = W_x x + W_h h + b
        m' = max(log sigmoid(f~) + m, i~)            i~ where n = 0, in an empty memory
        i  = exp(i~ - m')
        f  = exp(log sigmoid(f~) + m - m')
        c' = f * c + i * tanh(g~)
        n' = f * n + i
        h' = sigmoid(o~) * c' / n'
        y  = h'

    Gate order i, f, g, o; the paper's z is g here, as in `LSTMCell`. `x` `(B, I)`, all else `(B, H)`; `weight_ih` `(4 H, I)`,
    `weight_hh` `(4 H, H)`. Without `m`, the equations are those with `i = exp(i~)` and `f = sigmoid(f~)`, which overflow; `h'`
    does not depend on it. `n'` is at least one. The gate `i` that is recorded is `exp(i~) / (exp(i~) + sigmoid(f~))`: the
    input's share of what is kept and added.
    """

    num_gates = 4
    gate_names = ("i", "f", "g", "o")
    has_fused_unroll: ClassVar[bool] = True
    projected_states = ("h",)

    @torch.no_grad()
    def init_gates(self) -> None:
        self.bias[self.hidden_size : 2 * self.hidden_size] = torch.linspace(*FORGET_BIAS, self.hidden_size)

    def initial_state(self, batch_size: int) -> SLSTMState:
        return SLSTMState(*[self.weight_hh.new_zeros(batch_size, self.hidden_size)] * 4)

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        gates = F.linear(x, self.weight_ih, self.bias) + F.linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = gates.chunk(4, -1)
        return torch.sigmoid(i - F.logsigmoid(f)), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)

    def step(self, x: Tensor, state: SLSTMState) -> tuple[Tensor, SLSTMState]:
        gates = F.linear(x, self.weight_ih, self.bias) + F.linear(state.h, self.weight_hh, self.bias_hh)
        i, f, g, o = gates.to(state.c.dtype).chunk(4, -1)  # (B, H) each
        kept = (F.logsigmoid(f) + state.m).masked_fill(state.n == 0, -torch.inf)
        m = torch.maximum(kept, i)
        i, f = torch.exp(i - m), torch.exp(kept - m)
        c, n = f * state.c + i * torch.tanh(g), f * state.n + i
        h = torch.sigmoid(o) * c / n
        return h, SLSTMState(h, c, n, m)

    def unroll_fused(self, xs: Inputs, state: SLSTMState, resets: Tensor | None = None) -> tuple[Tensor, SLSTMState]:
        """Take T steps with one product for all inputs, and the gradients of a step written out."""
        if xs.shape[0] == 0:
            return unroll_by_step(self, xs, state, resets)
        from_x = F.linear(to_dense(xs), self.weight_ih, self.bias).to(state.c.dtype)
        if self.bias_hh is not None:
            from_x = from_x + self.bias_hh
        with torch.autocast(from_x.device.type, enabled=False):
            outputs = SLSTMLoop.apply(from_x, self.weight_hh, *state, resets)  # type: ignore[no-untyped-call]
        ys, *final = cast(tuple[Tensor, ...], outputs)
        return ys, SLSTMState(ys[-1], *final)


class SLSTMLoop(torch.autograd.Function):
    """The steps of an sLSTM, given `W_x x + b` `(T, B, 4 H)`: fewer operations than autograd takes, in both directions."""

    @staticmethod
    def forward(
        ctx: Any, from_x: Tensor, weight_hh: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, resets: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Return the outputs `(T, B, H)` and the final `c`, `n` and `m`."""
        weight, saved, ys = weight_hh.T.contiguous(), [], []
        for t in range(len(from_x)):
            if resets is not None:
                keep = ~resets[t].unsqueeze(-1)
                h, c, n, m = h * keep, c * keep, n * keep, m * keep
            previous = (h, c, n)
            i, f, g, o = torch.addmm(from_x[t], h, weight).chunk(4, -1)
            kept = (F.logsigmoid(f) + m).masked_fill_(n == 0, -torch.inf)
            m = torch.maximum(kept, i)
            # where the two are equal, the gradient of the maximum is half to each, as autograd has it
            share, slope = (torch.sign(kept - i) + 1) / 2, torch.sigmoid(-f)
            i, f = torch.exp(i - m), torch.exp(kept - m)
            g, o = torch.tanh(g), torch.sigmoid(o)
            c, n = torch.addcmul(i * g, f, c), torch.addcmul(i, f, n)
            ratio = c / n
            h = o * ratio
            ys.append(h)
            saved += [*previous, i, f, g, o, n, ratio, share, slope]
        ctx.save_for_backward(weight_hh, resets, *saved)
        return torch.stack(ys), c, n, m

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_ys: Tensor, dc: Tensor, dn: Tensor, dm: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of all arguments."""
        weight_hh, resets, *saved = ctx.saved_tensors
        dh, dgates, hs = torch.zeros_like(dc), [], []
        for t in reversed(range(len(grad_ys))):
            h, c, n, i, f, g, o, next_n, ratio, share, slope = saved[11 * t : 11 * (t + 1)]
            dh = dh + grad_ys[t]
            dratio = dh * o / next_n
            dc, dn = dc + dratio, dn - dratio * ratio
            dlog_i, dlog_f = (dc * g + dn) * i, (dc * c + dn * n) * f
            dm = dm - dlog_i - dlog_f
            dm_kept = dm * share
            di, dm = dlog_i + dm - dm_kept, dlog_f + dm_kept
            dgate = torch.cat([di, dm * slope, dc * i * (1 - g * g), dh * ratio * o * (1 - o)], -1)
            dgates.append(dgate)
            hs.append(h)
            dc, dn, dh = dc * f, dn * f, dgate @ weight_hh
            if resets is not None:
                keep = ~resets[t].unsqueeze(-1)
                dh, dc, dn, dm = dh * keep, dc * keep, dn * keep, dm * keep
        stacked = torch.stack(dgates[::-1])
        dweight = stacked.flatten(0, 1).T @ torch.cat(hs[::-1])
        return stacked, dweight, dh, dc, dn, dm, None
