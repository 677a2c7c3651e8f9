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
from unrolled.options import TrainingOptions


class Optimiser:
    """Updates the weights of a model from their gradients. `moments` names what it remembers of each weight."""

    moments: tuple[str, ...]

    def __init__(self, model: nn.Module, options: TrainingOptions) -> None:
        self.options = options
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
        gradients = self._gradients()
        pulled = [weight.dim() > 1 and not name.startswith("embedding") for name, weight in self.weights.items()]
        for group, decay in ((True, self.options.weight_decay), (False, 0.0)):
            chosen = [index for index, own in enumerate(pulled) if own == group]
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


OPTIMISERS: dict[str, type[Optimiser]] = {"adamw": AdamW, "rmsprop": RMSProp}


def make_optimiser(model: nn.Module, options: TrainingOptions) -> Optimiser:
    """Return the optimiser that `options` name, over all weights of `model`."""
    return OPTIMISERS[options.optimiser](model, options)


def clip_gradient(weights: Iterable[Tensor], options: TrainingOptions) -> Tensor:
    """Limit the gradient in place, by its length or element by element; return its length before."""
    weights = list(weights)
    if options.clip and options.clip_by == "norm":
        return torch.nn.utils.clip_grad_norm_(weights, options.clip)
    norm = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
    if options.clip:
        torch.nn.utils.clip_grad_value_(weights, options.clip)
    return norm
