"""The contract of a cell: the equation of one step, and how a cell is unrolled over time.

A cell needs only `step`. `unroll_by_step` calls it in a loop and is the definition that every faster kernel
(`nn.kernels`) is compared with. The state is passed in and returned, never stored in the module.

Shapes: `B` batch size, `T` time steps, `I` input size, `H` hidden size (units), `G` gates, `V` vocabulary size. Sequences are
time-major, `(T, B, ...)`. `W_x` is `weight_ih` and `W_h` is `weight_hh` of `torch.nn`, with the gates stacked in rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.errors import UsageError

State: TypeAlias = Any
"""A named tuple of tensors whose first axis is the batch, mostly `(B, H)`, or a named tuple of such tuples."""

S = TypeVar("S")


class EmbeddingLookup(NamedTuple):
    """Inputs that are rows of an embedding table: `ids` `(T, B)` and `table` `(V, I)` stand for `table[ids]` `(T, B, I)`.

    A kernel may multiply the V rows of the table by its weights instead of all T * B inputs.
    """

    ids: Tensor
    table: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(T, B, I)`."""
        return (*self.ids.shape, self.table.shape[1])

    def to_dense(self) -> Tensor:
        """Return the inputs as a tensor `(T, B, I)`."""
        return F.embedding(self.ids, self.table)


Inputs: TypeAlias = Tensor | EmbeddingLookup
Kernel: TypeAlias = Callable[["Cell", Inputs, State, Tensor | None], tuple[Tensor, State]]
ResidualKernel: TypeAlias = Callable[["Cell", Inputs, nn.LayerNorm, Tensor | None, State, Tensor | None], tuple[Tensor, State]]


def map_state(fn: Callable[..., Tensor], state: S, *others: S) -> S:
    """Return a state of the same structure: `fn` of each tensor, and of the tensors in the same position of `others`."""
    if isinstance(state, Tensor):
        return cast(S, fn(state, *others))
    mapped = [map_state(fn, *group) for group in zip(cast(Any, state), *cast(Any, others), strict=True)]
    return cast(S, type(state)(*mapped) if hasattr(state, "_fields") else tuple(mapped))


def state_tensors(state: State) -> list[Tensor]:
    """Return the tensors of a state as a flat list."""
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in state_tensors(part)]


def keep_rows(state: S, keep: Tensor) -> S:
    """Return a state in which the rows where `keep` `(B,)` is false are zero."""
    return map_state(lambda s: s * keep.view(-1, *[1] * (s.dim() - 1)), state)


def to_dense(xs: Inputs) -> Tensor:
    """Return inputs as a tensor `(T, B, I)`."""
    return xs.to_dense() if isinstance(xs, EmbeddingLookup) else xs


def unroll_by_step(cell: Cell, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
    """Unroll a cell by calling `step` in a loop; the state is set to zero before a step where `resets` is true."""
    xs, ys = to_dense(xs), []
    for t in range(len(xs)):
        if resets is not None:
            state = keep_rows(state, ~resets[t])
        y, state = cell.step(xs[t], state)
        ys.append(y)
    return (torch.stack(ys) if ys else xs.new_zeros(0, xs.shape[1], cell.hidden_size)), state


class Cell(nn.Module):
    """Base class of everything recurrent, a stack of layers included: `initial_state`, `step`, `unroll`."""

    input_size: int
    hidden_size: int
    kernel: Kernel | None = None
    """The kernel that unrolls this cell, set by `nn.kernels.select.set_kernel`. None means `unroll_by_step`."""
    residual_kernel: ResidualKernel | None = None
    """A kernel that computes `xs + mask * cell(norm(xs))` in one call; None means one operation after the other."""

    has_fused_unroll: ClassVar[bool] = False
    """Whether the cell has `unroll_fused`, which `--kernels torch` uses."""
    projected_states: ClassVar[tuple[str, ...] | None] = None
    """Parts of the state, each `(B, H)`, that a decoder computes from the encoder's vector (None: all); others start at 0."""

    def initial_state(self, batch_size: int) -> State:
        """Return the zero state of `batch_size` rows."""
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step: from `x` `(B, I)` and a state, return the output `(B, H)` and the next state."""
        raise NotImplementedError

    def unroll(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Take T steps: from `xs` `(T, B, I)` and a state, return the outputs `(T, B, H)` and the final state.

        `resets` `(T, B)` bool: where true, the state is set to zero before that step. Raises `ValueError` for wrong shapes.
        """
        if len(xs.shape) != 3 or xs.shape[2] != self.input_size:
            raise ValueError(f"unroll takes inputs (T, B, {self.input_size}), time first; got {tuple(xs.shape)}.")
        if resets is not None and resets.shape != xs.shape[:2]:
            raise ValueError(f"resets must be (T, B) = {tuple(xs.shape[:2])}; got {tuple(resets.shape)}.")
        return (self.kernel or unroll_by_step)(self, xs, state, resets)

    def unroll_fused(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Take T steps as `unroll` does, faster than `step` in a loop; only with `has_fused_unroll`."""
        raise NotImplementedError


class GatedCell(Cell):
    """Base class of cells with G gates, each computed from `W_x x + W_h h + b`.

    Parameters, the gates stacked in rows in the order of the subclass:

        weight_ih  (G H, I)     weight_hh  (G H, H)     bias  (G H)     bias_hh  (G H), only with `two_biases`

    One bias is enough: `bias` is added to `W_x x`. `two_biases` adds `bias_hh` to `W_h h`, as `torch.nn` and cuDNN do; their
    sum is what counts, except in `GRUCell`, where the reset gate multiplies `bias_hh`. Weights are initialized uniform in
    +-1/sqrt(H), biases to zero.

    To add a cell, derive from this class, set `num_gates`, write `initial_state` and `step`, and register it in `CELLS`.
    """

    num_gates: ClassVar[int]
    gate_names: ClassVar[tuple[str, ...]] = ()
    """Names of the gates that `gate_activations` returns, in the same order; empty if the output is the only gate."""

    has_recurrent_weights: ClassVar[bool] = True
    """Whether there is a `weight_hh`, and so a place for a second bias."""
    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias: nn.Parameter
    bias_hh: nn.Parameter | None

    def __init__(self, input_size: int, hidden_size: int, two_biases: bool = False) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        if two_biases and not self.has_recurrent_weights:
            raise UsageError(f"--two-biases is for cells with a matrix W_h, and {type(self).__name__} has none: leave it out.")
        for name, shape in self.parameter_shapes(input_size, hidden_size, two_biases).items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        if not two_biases:
            self.register_parameter("bias_hh", None)
        self.reset_parameters(1 / math.sqrt(hidden_size))

    @classmethod
    def parameter_shapes(cls, input_size: int, hidden_size: int, two_biases: bool = False) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter by its name."""
        rows = cls.num_gates * hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size)}
        if cls.has_recurrent_weights:
            shapes["weight_hh"] = (rows, hidden_size)
        return shapes | {name: (rows,) for name in ("bias", *(["bias_hh"] if two_biases else []))}

    @torch.no_grad()
    def reset_parameters(self, bound: float) -> None:
        """Initialize the weights uniform in +-`bound`, the biases to zero, and then the gates."""
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.uniform_(weight, -bound, bound)
            else:
                weight.zero_()
        self.init_gates()

    def init_gates(self) -> None:
        """Set the parameters that have initial values of their own, such as the bias of a forget gate."""

    @staticmethod
    def gate(x: Tensor) -> Tensor:
        """Return the nonlinearity of gates: a value from 0 to 1 for each of `x`."""
        return torch.sigmoid(x)

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """Return each gate after its nonlinearity, `(..., H)`, for an input `x` `(..., I)` and the previous `h` `(..., H)`."""
        return ()

    @classmethod
    def parameter_count(cls, input_size: int, hidden_size: int, two_biases: bool = False) -> int:
        """Return the number of parameters: G H (I + H + 1), plus G H with two biases, for a cell without others."""
        return sum(map(math.prod, cls.parameter_shapes(input_size, hidden_size, two_biases).values()))
