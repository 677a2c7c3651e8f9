"""Optimizers and gradient clipping.

The update rules are torch's functional ones (`torch.optim.adamw.adamw`): creating one of torch's optimizer objects imports
torch's compiler, which costs a second and 70 MB (measured, torch 2.13) and is not needed here. The optimizer state is a flat
table of tensors, so that checkpoints need no pickle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.nn import functional
from torch.optim.adamw import adamw
from torch.optim.rmsprop import rmsprop

from unrolled.errors import ModelError
from unrolled.nn.device import has_fast_bfloat16
from unrolled.nn.kernels.extension import native_module, padded_size
from unrolled.options import REGISTRIES, TrainingOptions
from unrolled.training.distributed import SINGLE_PROCESS, ProcessGroup

EPSILON = 1e-8
"""What AdamW and RMSProp add to the root of the mean squared gradient."""


def native_for(tensors: Iterable[Tensor]) -> Any:
    """Return the native library if its kernels support these tensors, else None."""
    supported = all(t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in tensors)
    return native_module() if supported else None


def _detached_for_update(weights: list[Tensor]) -> list[Tensor]:
    """Return detached weights for a native kernel that changes them in place.

    Autograd does not see what the kernel does, so each weight's version counter is incremented here.
    """
    for weight in weights:
        increment_version(weight)
    return [weight.detach() for weight in weights]


POLAR_EXPRESS = ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518))
"""Coefficients of x, x^3 and x^5 in each step: the best for the singular values that the last step left (Amsel et al. 2025).

These three steps do no worse than the five equal steps of the first Muon, at three fifths of the cost (benchmarks/LOG.md).
"""

NORM_MARGIN = 1.02
"""Keeps the largest singular value below one where bfloat16 rounds up."""

MIN_BFLOAT16_SIZE = 32
"""Smaller matrices are not computed in bfloat16: their largest singular value is near one, where the first polynomial cancels.
Of 1,200 random matrices of 8 x 8 it came out at up to 2.8 instead of 1.87, by torch's products too; in float32 it does not."""


def polar_express(matrices: Tensor) -> Tensor:
    """Return the nearest orthogonal matrix of each of `(N, H, H)`, roughly: singular values are 0.2 to 1.9, most near 1.

    It is computed and returned in bfloat16 where that is fast and exact enough, else in float32.
    Source: Polar Express (Amsel et al. 2025, arXiv:2505.16932).
    """
    native = native_module()
    if native is not None and matrices.device.type == "cpu":
        return _native_polar_express(matrices, native)
    x = matrices.to(torch.bfloat16 if has_fast_bfloat16(matrices.device) else torch.float32)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * NORM_MARGIN + 1e-7)
    for a, b, c in POLAR_EXPRESS:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _native_polar_express(matrices: Tensor, native: Any) -> Tensor:
    """Return what `polar_express` returns by products that have the same bits for any number of threads, as torch's do not."""
    size, padded = matrices.shape[-1], padded_size(matrices.shape[-1])
    x = functional.pad(matrices.float(), (0, padded - size) * 2).contiguous()
    if size >= MIN_BFLOAT16_SIZE and native.has_polar_express(padded):
        orthogonal = torch.empty(x.shape, dtype=torch.bfloat16)
        native.polar_express(x, torch.tensor(POLAR_EXPRESS), NORM_MARGIN, orthogonal, torch.get_num_threads())
        return orthogonal[:, :size, :size]
    norms = torch.tensor([native.grad_norm([matrix], 1) for matrix in x])
    x = x / (norms[:, None, None] * NORM_MARGIN + 1e-7)
    for a, b, c in POLAR_EXPRESS:
        transposed = x.mT.contiguous()
        square = _transposed_products(transposed, transposed, native)
        polynomial = square.mul(b).add_(_transposed_products(square, square, native), alpha=c)  # symmetric, as square is
        x = x.mul(a).add_(_transposed_products(polynomial, x, native))
    return x[:, :size, :size]


def _transposed_products(left: Tensor, right: Tensor, native: Any) -> Tensor:
    """Return `left[n].T @ right[n]` for `(N, H, H)`, H a multiple of 32."""
    products, threads = torch.empty_like(right), torch.get_num_threads()
    for a, b, product in zip(left, right, products, strict=True):
        native.weight_gradients(0, threads, len(a), a[None], b[None], product, None, None)
    return products


class Optimizer:
    """Updates the weights of a model from their gradients. A new one is a subclass with `step` and an entry in `OPTIMIZERS`.

    `state_keys` names the state tensors that each weight has, in `state` and in checkpoints; `steps` has a counter of each.
    """

    state_keys: tuple[str, ...]

    def __init__(self, model: nn.Module, options: TrainingOptions, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.options, self.process_group = options, process_group
        self.weights = dict(model.named_parameters())
        device = next(iter(self.weights.values())).device
        self.state = {name: [torch.zeros_like(w) for w in self.weights.values()] for name in self.state_keys}
        self.steps = [torch.zeros((), dtype=torch.float32, device=device) for _ in self.weights]

    @torch.no_grad()
    def step(self, lr: float, grad_scale: float = 1.0) -> None:
        """Update the weights from their gradients times `grad_scale`, at the learning rate `lr`."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Drop the gradients: the next backward pass then stores its own, without adding to old ones."""
        for weight in self.weights.values():
            weight.grad = None

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the optimizer state as `weight/state key`. Every process must call this."""
        return self._named_state()

    def _named_state(self) -> dict[str, Tensor]:
        named = {f"{name}/step": step for name, step in zip(self.weights, self.steps, strict=True)}
        for key, tensors in self.state.items():
            named |= {f"{name}/{key}": tensor for name, tensor in zip(self.weights, tensors, strict=True)}
        return named

    def from_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load what `to_tensors` returned; raise `ModelError` if names or shapes are not those of this optimizer."""
        current = self._named_state()
        if {name: tensor.shape for name, tensor in current.items()} != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ModelError(f"The checkpoint's optimizer is not the {self.options.optimizer} of this model: start a new run.")
        for name, tensor in current.items():
            tensor.copy_(tensors[name])

    def gradients(self, grad_scale: float = 1.0) -> list[Tensor]:
        """Return the gradient of each weight, zero where it has none, times `grad_scale`."""
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights.values()]
        if grad_scale != 1.0:
            torch._foreach_mul_(gradients, grad_scale)
        return gradients


class AdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019). Weight decay applies to matrices, but not to biases, norms and the embedding."""

    state_keys = ("exp_avg", "exp_avg_sq")
    betas = (0.9, 0.99)

    def __init__(self, model: nn.Module, options: TrainingOptions, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        super().__init__(model, options, process_group)
        decay = options.weight_decay
        self._decays = [decay if w.dim() > 1 and "embedding" not in name else 0.0 for name, w in self.weights.items()]

    @torch.no_grad()
    def step(self, lr: float, grad_scale: float = 1.0) -> None:
        native = native_for(self.weights.values())
        gradients = self.gradients(1.0 if native else grad_scale)
        self._adamw(range(len(self.steps)), gradients, lr, grad_scale, native)

    def _adamw(self, indices: Iterable[int], gradients: list[Tensor], lr: float, grad_scale: float, native: Any) -> None:
        """Update the weights at `indices`. Only the native kernel multiplies their gradients by `grad_scale`."""
        weights, chosen = list(self.weights.values()), list(indices)
        exp_avgs, exp_avg_sqs = self.state["exp_avg"], self.state["exp_avg_sq"]
        if native is not None:
            inputs = [[tensors[i] for i in chosen] for tensors in (gradients, exp_avgs, exp_avg_sqs)]
            steps = [self.steps[i] for i in chosen]
            torch._foreach_add_(steps, 1)
            native.adamw(
                _detached_for_update([weights[i] for i in chosen]), *inputs, torch.stack(steps).tolist(),
                [self._decays[i] for i in chosen], lr, *self.betas, EPSILON, grad_scale, torch.get_num_threads(),
            )  # fmt: skip
            return
        for decay in sorted(set(self._decays)):  # torch's function takes one decay for all of its weights
            same_decay = [index for index in chosen if self._decays[index] == decay]
            adamw(
                [weights[i] for i in same_decay],
                [gradients[i] for i in same_decay],
                [exp_avgs[i] for i in same_decay],
                [exp_avg_sqs[i] for i in same_decay],
                [],
                [self.steps[i] for i in same_decay],
                fused=gradients[0].device.type in ("cpu", "cuda"),
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=lr,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )


@dataclass(frozen=True)
class MatrixGroup:
    """The weights at `indices`, all made of square matrices of one `size`: `counts` has the number of matrices in each weight.

    If the matrices divide evenly among the processes, the group is `sharded`: each process computes the updates of its own
    matrices only. `shard` lists them: an index of a weight, and a slice of that weight's matrices.
    """

    size: int
    indices: list[int]
    counts: list[int]
    sharded: bool
    shard: list[tuple[int, slice]]

    def matrices(self, tensor: Tensor) -> Tensor:
        """View a weight, or a tensor of its shape, as matrices `(N, H, H)`."""
        return tensor.view(-1, self.size, self.size)


class Muon(AdamW):
    """Muon (Jordan et al. 2024) for the square matrices of the recurrent weights, one per gate; AdamW for all other weights.

    Of cells without recurrent weights, it is for the square matrices of the input weights.

    The update of each matrix is its momentum, replaced by the nearest orthogonal matrix. Three polynomial steps compute it, as
    one batched product over all matrices of the model.
    """

    momentum = 0.95
    lr_scale = 2.5
    """Muon's learning rate, as a multiple of AdamW's."""

    def __init__(self, model: nn.Module, options: TrainingOptions, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        super().__init__(model, options, process_group)
        names = list(self.weights)
        square = {name for name in names if name.endswith("weight_hh")}
        for name in names:
            if name.endswith("weight_ih"):
                weight, recurrent = self.weights[name], self.weights.get(name.removesuffix("ih") + "hh")
                is_square = len(weight) % weight.shape[1] == 0 if recurrent is None else weight.shape == recurrent.shape
                square |= {name} if is_square else set()
        self._adamw_indices = [i for i, name in enumerate(names) if name not in square]
        by_size: dict[int, list[int]] = {}
        for index in (i for i, name in enumerate(names) if name in square):
            self.state["exp_avg_sq"][index] = torch.empty(0)
            by_size.setdefault(self.weights[names[index]].shape[1], []).append(index)
        self._groups = [self._matrix_group(size, indices) for size, indices in by_size.items()]

    def _matrix_group(self, size: int, indices: list[int]) -> MatrixGroup:
        """Return the group of some weights, sharded among the processes if its matrices divide evenly."""
        weights = list(self.weights.values())
        counts = [len(weights[index]) // size for index in indices]
        total, world_size = sum(counts), self.process_group.world_size
        sharded = world_size > 1 and total % world_size == 0
        in_shard = self.process_group.shard_slice(total) if sharded else slice(0, total)
        shard, offset = [], 0
        for index, count in zip(indices, counts, strict=True):
            part = slice(max(0, in_shard.start - offset), min(count, in_shard.stop - offset))
            if part.start < part.stop:
                shard.append((index, part))
            offset += count
        return MatrixGroup(size, indices, counts, sharded, shard)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the optimizer state; the momentum of sharded groups is gathered from the processes that own it."""
        for group in self._groups:
            if group.sharded:
                exp_avgs = self.state["exp_avg"]
                shard = torch.cat([group.matrices(exp_avgs[index])[part] for index, part in group.shard])
                gathered = torch.split(self.process_group.all_gather(shard), group.counts)
                for index, matrices in zip(group.indices, gathered, strict=True):
                    group.matrices(exp_avgs[index]).copy_(matrices)
        return super().to_tensors()

    @torch.no_grad()
    def step(self, lr: float, grad_scale: float = 1.0) -> None:
        native = native_for(self.weights.values())
        fused = native is not None and all(native.has_polar_express(group.size) for group in self._groups)
        gradients = self.gradients(1.0 if fused else grad_scale)
        self._adamw(self._adamw_indices, gradients, lr, grad_scale if fused else 1.0, native)
        weights = [weight.detach() for weight in self.weights.values()]
        decay, muon_lr = lr * self.options.weight_decay, lr * self.lr_scale
        for group in self._groups:
            for index in group.indices:
                self.steps[index] += 1
            if fused:
                self._native_step(group, gradients, grad_scale, decay, muon_lr, native)
                continue
            updates = torch.split(self._orthogonal_updates(group, gradients), group.counts)
            for index, update in zip(group.indices, updates, strict=True):
                weights[index].mul_(1 - decay)
                group.matrices(weights[index]).sub_(update, alpha=muon_lr)

    def _native_step(
        self, group: MatrixGroup, gradients: list[Tensor], grad_scale: float, decay: float, lr: float, native: Any
    ) -> None:
        """Update the matrices of a group with the native kernels."""
        threads, exp_avgs = torch.get_num_threads(), self.state["exp_avg"]
        all_weights = list(self.weights.values())
        weights = _detached_for_update([all_weights[index] for index in group.indices])
        polar = (group.size, torch.tensor(POLAR_EXPRESS), NORM_MARGIN, grad_scale, self.momentum)
        if group.sharded:
            shard = [[group.matrices(tensors[index])[part] for index, part in group.shard] for tensors in (gradients, exp_avgs)]
            updates = torch.empty(sum(map(len, shard[0])), group.size, group.size, dtype=torch.bfloat16)
            native.muon_directions(*shard, *polar, updates, threads)
            native.apply_updates(weights, self.process_group.all_gather(updates).flatten(), decay, lr, threads)
        else:
            inputs = [[tensors[index] for index in group.indices] for tensors in (gradients, exp_avgs)]
            native.muon(weights, *inputs, *polar, decay, lr, threads)

    def _orthogonal_updates(self, group: MatrixGroup, gradients: list[Tensor]) -> Tensor:
        """Return the orthogonal updates `(N, H, H)` of all matrices of a group; each process updates its own momentum only."""
        momentum = []
        for index, part in group.shard:
            gradient = group.matrices(gradients[index])[part]
            exp_avg = group.matrices(self.state["exp_avg"][index])[part].lerp_(gradient, 1 - self.momentum)
            momentum.append(gradient.lerp(exp_avg, self.momentum))
        updates = polar_express(torch.cat(momentum))
        return (self.process_group.all_gather(updates) if group.sharded else updates).float()


class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton 2012) with char-rnn's smoothing constant."""

    state_keys = ("square_avg",)
    alpha = 0.95

    @torch.no_grad()
    def step(self, lr: float, grad_scale: float = 1.0) -> None:
        rmsprop(
            list(self.weights.values()),
            self.gradients(grad_scale),
            self.state["square_avg"],
            [],
            [],
            self.steps,
            lr=lr,
            alpha=self.alpha,
            eps=EPSILON,
            weight_decay=0.0,
            momentum=0.0,
            centered=False,
        )


OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "muon": Muon, "rmsprop": RMSProp}
"""The optimizers, by the name in `--optimizer`: `OPTIMIZERS["name"] = MyOptimizer` adds one."""

REGISTRIES["optimizer"] = OPTIMIZERS


def make_optimizer(model: nn.Module, options: TrainingOptions, process_group: ProcessGroup = SINGLE_PROCESS) -> Optimizer:
    """Return the optimizer that `options` name, for all weights of `model`; all processes must take its steps together."""
    return OPTIMIZERS[options.optimizer](model, options, process_group)


@torch.no_grad()
def clip_gradient(weights: Iterable[Tensor], options: TrainingOptions) -> tuple[Tensor, float]:
    """Clip the gradient by its norm or by value.

    Returns its norm before clipping, and a factor by which the optimizer must still multiply it: that saves a pass over memory.
    """
    weights = list(weights)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    native, by_norm = native_for(gradients), options.clip and options.clip_by == "norm"
    if native is not None:
        norm = torch.tensor(native.grad_norm(gradients, torch.get_num_threads()))
    elif by_norm:
        return torch.nn.utils.clip_grad_norm_(weights, options.clip), 1.0
    else:
        norm = torch.nn.utils.get_total_norm(gradients)
    if by_norm:
        return norm, min(1.0, options.clip / (float(norm) + 1e-6))
    if options.clip:
        torch.nn.utils.clip_grad_value_(weights, options.clip)
    return norm, 1.0
