"""Rules that turn gradients into changes, and the limit of the gradient before.

The arithmetic is torch's own, called as functions: torch's optimiser *objects* import its compiler when they are made, which
costs a second and 70 MB (measured, torch 2.13) and is of no use here. What an optimiser remembers is a flat table of tensors,
so that it is stored without pickle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.adamw import adamw
from torch.optim.rmsprop import rmsprop

from unrolled.errors import ModelError
from unrolled.nn.kernels.layer import keep_place
from unrolled.nn.kernels.library import library
from unrolled.nn.machine import fast_bfloat16
from unrolled.options import TrainingOptions
from unrolled.training.distributed import ALONE, Ranks

EPSILON = 1e-8
"""What AdamW adds to the root of the mean square."""


def native_for(tensors: Iterable[Tensor]) -> Any:
    """Return the native library if its kernels can work on these tensors, else None."""
    fit = all(t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in tensors)
    return library() if fit else None


def _changing(weights: list[Tensor]) -> list[Tensor]:
    """Return weights that a native kernel is about to change, and let those who remember them see it."""
    for weight in weights:
        increment_version(weight)
    return [weight.detach() for weight in weights]


class Optimiser:
    """Updates the weights of a model from their gradients. `moments` names what it remembers of each weight."""

    moments: tuple[str, ...]

    def __init__(self, model: nn.Module, options: TrainingOptions, ranks: Ranks = ALONE) -> None:
        self.options, self.ranks = options, ranks
        self.weights = dict(model.named_parameters())
        device = next(iter(self.weights.values())).device
        self.memory = {name: [torch.zeros_like(w) for w in self.weights.values()] for name in self.moments}
        self.steps = [torch.zeros((), dtype=torch.float32, device=device) for _ in self.weights]

    @torch.no_grad()
    def step(self, rate: float, scale: float = 1.0) -> None:
        """Change the weights by their gradients times `scale`, at the learning rate `rate`."""
        raise NotImplementedError

    def zero_gradients(self) -> None:
        """Forget the gradients: the next ones take their place, and nothing is cleared or added to."""
        for weight in self.weights.values():
            if self.ranks.size > 1:
                keep_place(weight)
            weight.grad = None

    def to_tensors(self) -> dict[str, Tensor]:
        """Return what is remembered, as `weight/moment`; all ranks must ask."""
        return self._remembered()

    def _remembered(self) -> dict[str, Tensor]:
        remembered = {f"{name}/step": step for name, step in zip(self.weights, self.steps, strict=True)}
        for moment, tensors in self.memory.items():
            remembered |= {f"{name}/{moment}": tensor for name, tensor in zip(self.weights, tensors, strict=True)}
        return remembered

    def from_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `to_tensors` gave; raise `ModelError` if it is not that of this optimiser."""
        own = self._remembered()
        if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ModelError(f"The checkpoint's optimiser is not the {self.options.optimiser} of this model.")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    def _gradients(self, scale: float = 1.0) -> list[Tensor]:
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights.values()]
        if scale != 1.0:
            torch._foreach_mul_(gradients, scale)
        return gradients


class AdamW(Optimiser):
    """AdamW (Loshchilov and Hutter 2019). Matrices are pulled to zero; biases, norms and the embedding table are not."""

    moments = ("mean", "square")
    betas = (0.9, 0.99)

    def __init__(self, model: nn.Module, options: TrainingOptions, ranks: Ranks = ALONE) -> None:
        super().__init__(model, options, ranks)
        decay = options.weight_decay
        self._decays = [decay if w.dim() > 1 and "embedding" not in name else 0.0 for name, w in self.weights.items()]

    @torch.no_grad()
    def step(self, rate: float, scale: float = 1.0) -> None:
        native = native_for(self.weights.values())
        gradients = self._gradients(1.0 if native else scale)
        self._adamw(range(len(self.steps)), gradients, rate, scale, native)

    def _adamw(self, indices: Iterable[int], gradients: list[Tensor], rate: float, scale: float, native: Any) -> None:
        """Take a step with the weights at `indices`. Only the `native` kernel multiplies their gradients by `scale`."""
        weights, chosen = list(self.weights.values()), list(indices)
        if native is not None:
            picked = [[tensors[i] for i in chosen] for tensors in (gradients, self.memory["mean"], self.memory["square"])]
            steps = [self.steps[i] for i in chosen]
            torch._foreach_add_(steps, 1)
            native.adamw(
                _changing([weights[i] for i in chosen]), *picked, torch.stack(steps).tolist(),
                [self._decays[i] for i in chosen], rate, *self.betas, EPSILON, scale, torch.get_num_threads(),
            )  # fmt: skip
            return
        for decay in sorted(set(self._decays)):
            alike = [index for index in chosen if self._decays[index] == decay]
            adamw(
                [weights[i] for i in alike],
                [gradients[i] for i in alike],
                [self.memory["mean"][i] for i in alike],
                [self.memory["square"][i] for i in alike],
                [],
                [self.steps[i] for i in alike],
                fused=gradients[0].device.type in ("cpu", "cuda"),
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=rate,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )


@dataclass(frozen=True)
class _Squares:
    """Weights made of square blocks of one size: how many each has, and which of them, of which weights, are this rank's own.

    They are `shared` if every rank turns as many of them.
    """

    size: int
    indices: list[int]
    counts: list[int]
    shared: bool
    own: list[tuple[int, slice]]

    def blocks(self, tensor: Tensor) -> Tensor:
        """Return a weight, or what belongs to one, as blocks `(N, H, H)`."""
        return tensor.view(-1, self.size, self.size)


class Muon(AdamW):
    """Muon (Jordan et al. 2024) for the square blocks of the recurrent matrices, one a gate; AdamW for all else.

    The momentum of each block is replaced by the nearest orthogonal matrix, found by three polynomial steps, all blocks of the
    model in one batched product.
    """

    momentum = 0.95
    share_of_rate = 2.5
    """Muon's learning rate, as a multiple of AdamW's."""

    def __init__(self, model: nn.Module, options: TrainingOptions, ranks: Ranks = ALONE) -> None:
        super().__init__(model, options, ranks)
        names = list(self.weights)
        squares = {name for name in names if name.endswith("weight_h")}
        squares |= {
            name
            for name in names
            if name.endswith("weight_x") and self.weights[name].shape == self.weights[name[:-1] + "h"].shape
        }
        self._others = [i for i, name in enumerate(names) if name not in squares]
        by_size: dict[int, list[int]] = {}
        for index in (i for i, name in enumerate(names) if name in squares):
            self.memory["square"][index] = torch.empty(0)
            by_size.setdefault(self.weights[names[index]].shape[1], []).append(index)
        self._groups = [self._dealt_out(size, indices) for size, indices in by_size.items()]

    def _dealt_out(self, size: int, indices: list[int]) -> _Squares:
        """Return the blocks of some weights, dealt out evenly among the ranks; all to each of them if that cannot be."""
        weights = list(self.weights.values())
        counts = [len(weights[index]) // size for index in indices]
        shared = self.ranks.size > 1 and sum(counts) % self.ranks.size == 0
        mine, own, first = self.ranks.own(sum(counts)) if shared else slice(0, sum(counts)), [], 0
        for index, count in zip(indices, counts, strict=True):
            part = slice(max(0, mine.start - first), min(count, mine.stop - first))
            if part.start < part.stop:
                own.append((index, part))
            first += count
        return _Squares(size, indices, counts, shared, own)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return what is remembered; of blocks that ranks turn for each other, what each of them remembers."""
        for group in self._groups:
            if group.shared:
                means = self.memory["mean"]
                whole = self.ranks.gather(torch.cat([group.blocks(means[index])[part] for index, part in group.own]))
                for index, own in zip(group.indices, torch.split(whole, group.counts), strict=True):
                    group.blocks(means[index]).copy_(own)
        return super().to_tensors()

    @torch.no_grad()
    def step(self, rate: float, scale: float = 1.0) -> None:
        native = native_for(self.weights.values())
        fused = native is not None and all(native.has_polar_express(group.size) for group in self._groups)
        gradients = self._gradients(1.0 if fused else scale)
        self._adamw(self._others, gradients, rate, scale if fused else 1.0, native)
        weights = [weight.detach() for weight in self.weights.values()]
        shrink, turn = rate * self.options.weight_decay, rate * self.share_of_rate
        for group in self._groups:
            for index in group.indices:
                self.steps[index] += 1
            if fused:
                self._change(group, gradients, scale, shrink, turn, native)
                continue
            turned = self._turned(group, gradients)
            for index, own in zip(group.indices, torch.split(turned, group.counts), strict=True):
                weights[index].mul_(1 - shrink)
                group.blocks(weights[index]).sub_(own, alpha=turn)

    def _change(self, group: _Squares, gradients: list[Tensor], scale: float, shrink: float, turn: float, native: Any) -> None:
        """Take a step with the blocks of a group by the native kernels."""
        threads, means = torch.get_num_threads(), self.memory["mean"]
        all_weights = list(self.weights.values())
        weights = _changing([all_weights[index] for index in group.indices])
        polar = (group.size, torch.tensor(POLAR), POLAR_MARGIN, scale, self.momentum)
        if group.shared:
            own = [[group.blocks(tensors[index])[part] for index, part in group.own] for tensors in (gradients, means)]
            directions = self.ranks.place((sum(map(len, own[0])), group.size, group.size), torch.bfloat16)
            native.muon_directions(*own, *polar, directions, threads)
            native.apply_updates(weights, self.ranks.parts(directions), shrink, turn, threads)
        else:
            own = [[tensors[index] for index in group.indices] for tensors in (gradients, means)]
            native.muon(weights, *own, *polar, shrink, turn, threads)

    def _turned(self, group: _Squares, gradients: list[Tensor]) -> Tensor:
        """Return the orthogonal direction `(N, H, H)` of every block; a rank keeps the momentum of those that it turns."""
        directions = []
        for index, part in group.own:
            gradient = group.blocks(gradients[index])[part]
            mean = group.blocks(self.memory["mean"][index])[part].lerp_(gradient, 1 - self.momentum)
            directions.append(gradient.lerp(mean, self.momentum))
        turned = _polar(torch.cat(directions))
        return (self.ranks.gather(turned) if group.shared else turned).float()


POLAR = ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518))
"""Coefficients of x, x^3 and x^5, each step's the best for what the step before leaves (Amsel et al. 2025, Polar Express).

Three of them do no worse than five of Muon's first, equal steps, at three fifths of the cost (benchmarks/LOG.md).
"""

POLAR_MARGIN = 1.02
"""Keeps the largest singular value below one where bfloat16 rounds up."""


def orthogonalise(blocks: Tensor) -> Tensor:
    """Return the nearest orthogonal matrix of each block `(N, H, H)`, roughly: singular values from 0.2 to 1.9, most near 1."""
    return _polar(blocks).float()


def _polar(blocks: Tensor) -> Tensor:
    """Return what `orthogonalise` does, in the numbers that it is worked out in."""
    native = library()
    if native is not None and blocks.device.type == "cpu" and native.has_polar_express(blocks.shape[-1]):
        turned = torch.empty(blocks.shape, dtype=torch.bfloat16)
        native.polar_express(blocks.contiguous(), torch.tensor(POLAR), POLAR_MARGIN, turned, torch.get_num_threads())
        return turned
    x = blocks.to(torch.bfloat16 if fast_bfloat16(blocks.device) else torch.float32)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * POLAR_MARGIN + 1e-7)
    for a, b, c in POLAR:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


class RMSProp(Optimiser):
    """RMSProp (Tieleman and Hinton 2012) with char-rnn's smoothing."""

    moments = ("square",)
    smoothing = 0.95

    @torch.no_grad()
    def step(self, rate: float, scale: float = 1.0) -> None:
        rmsprop(
            list(self.weights.values()),
            self._gradients(scale),
            self.memory["square"],
            [],
            [],
            self.steps,
            lr=rate,
            alpha=self.smoothing,
            eps=1e-8,
            weight_decay=0.0,
            momentum=0.0,
            centered=False,
        )


OPTIMISERS: dict[str, type[Optimiser]] = {"adamw": AdamW, "muon": Muon, "rmsprop": RMSProp}


def make_optimiser(model: nn.Module, options: TrainingOptions, ranks: Ranks = ALONE) -> Optimiser:
    """Return the optimiser that `options` name, over all weights of `model`; `ranks` take the same step together."""
    return OPTIMISERS[options.optimiser](model, options, ranks)


@torch.no_grad()
def clip_gradient(weights: Iterable[Tensor], options: TrainingOptions) -> tuple[Tensor, float]:
    """Limit the gradient, by its length or element by element.

    Returns its length before, and what is left to do: the number that the optimiser must multiply it by.
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
