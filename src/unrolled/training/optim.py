"""Rules that turn gradients into changes, and the limit of the gradient before.

The arithmetic is torch's own, called as functions: torch's optimiser *objects* import its compiler when they are made, which
costs a second and 70 MB (measured, torch 2.13) and is of no use here. What an optimiser remembers is a flat table of tensors,
so that it is stored without pickle.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.rmsprop import rmsprop

from unrolled.errors import ModelError
from unrolled.nn.machine import fast_bfloat16
from unrolled.options import TrainingOptions
from unrolled.training.distributed import ALONE, Ranks


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
    def step(self, rate: float) -> None:
        """Change the weights by their gradients, at the learning rate `rate`."""
        raise NotImplementedError

    def zero_gradients(self) -> None:
        """Set the gradients to zero and keep their memory, which would be mapped afresh at every step otherwise."""
        for weight in self.weights.values():
            if weight.grad is not None:
                weight.grad.zero_()

    def to_tensors(self) -> dict[str, Tensor]:
        """Return what is remembered, as `weight/moment`."""
        remembered = {f"{name}/step": step for name, step in zip(self.weights, self.steps, strict=True)}
        for moment, tensors in self.memory.items():
            remembered |= {f"{name}/{moment}": tensor for name, tensor in zip(self.weights, tensors, strict=True)}
        return remembered

    def from_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `to_tensors` gave; raise `ModelError` if it is not that of this optimiser."""
        own = self.to_tensors()
        if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ModelError(f"The checkpoint's optimiser is not the {self.options.optimiser} of this model.")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    def _gradients(self) -> list[Tensor]:
        return [torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights.values()]


class AdamW(Optimiser):
    """AdamW (Loshchilov and Hutter 2019). Matrices are pulled to zero; biases, norms and the embedding table are not."""

    moments = ("mean", "square")
    betas = (0.9, 0.99)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        self._adamw(range(len(self.steps)), rate)

    def _adamw(self, indices: Iterable[int], rate: float) -> None:
        gradients, indices = self._gradients(), list(indices)
        pulled = [weight.dim() > 1 and "embedding" not in name for name, weight in self.weights.items()]
        for group, decay in ((True, self.options.weight_decay), (False, 0.0)):
            chosen = [index for index in indices if pulled[index] == group]
            weights = list(self.weights.values())
            adamw(
                [weights[i] for i in chosen],
                [gradients[i] for i in chosen],
                [self.memory["mean"][i] for i in chosen],
                [self.memory["square"][i] for i in chosen],
                [],
                [self.steps[i] for i in chosen],
                fused=gradients[0].device.type in ("cpu", "cuda"),
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=rate,
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
            )


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
        self._blocks = [i for i, name in enumerate(names) if name in squares]
        self._others = [i for i, name in enumerate(names) if name not in squares]
        for index in self._blocks:
            self.memory["square"][index] = torch.empty(0)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        self._adamw(self._others, rate)
        weights, gradients = list(self.weights.values()), self._gradients()
        by_size: dict[int, list[int]] = {}
        for index in self._blocks:
            by_size.setdefault(weights[index].shape[1], []).append(index)
        for size, group in by_size.items():
            directions = []
            for index in group:
                mean = self.memory["mean"][index].lerp_(gradients[index], 1 - self.momentum)
                directions.append(gradients[index].lerp(mean, self.momentum).view(-1, size, size))
                self.steps[index] += 1
            turned = self._turned(torch.cat(directions))
            first = 0
            for index, part in zip(group, directions, strict=True):
                own = turned[first : first + len(part)].reshape_as(weights[index])
                weights[index].mul_(1 - rate * self.options.weight_decay).sub_(own, alpha=rate * self.share_of_rate)
                first += len(part)

    def _turned(self, blocks: Tensor) -> Tensor:
        """Return the nearest orthogonal matrices of blocks `(N, H, H)`; several ranks that can share them evenly do."""
        if self.ranks.size == 1 or len(blocks) % self.ranks.size:
            return orthogonalise(blocks)
        own = _polar(blocks[self.ranks.own(len(blocks))])
        if own.dtype == torch.bfloat16:  # gloo has no such numbers, but it sends bytes; half of them is half of the wait
            return self.ranks.lanes(own.view(torch.uint8)).view(torch.bfloat16).float()
        return self.ranks.lanes(own).float()


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
    def step(self, rate: float) -> None:
        rmsprop(
            list(self.weights.values()),
            self._gradients(),
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


def clip_gradient(weights: Iterable[Tensor], options: TrainingOptions) -> Tensor:
    """Limit the gradient in place, by its length or element by element; return its length before."""
    weights = list(weights)
    if options.clip and options.clip_by == "norm":
        return torch.nn.utils.clip_grad_norm_(weights, options.clip)
    norm = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
    if options.clip:
        torch.nn.utils.clip_grad_value_(weights, options.clip)
    return norm
