"""Rules that turn gradients into changes, and the limit of the gradient before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unrolled.options import TrainingOptions


def _adamw(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019). Matrices are pulled to zero; biases, norms and the embedding table are not."""
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and not name.startswith("embedding")]
    others = [p for name, p in model.named_parameters() if p.dim() <= 1 or name.startswith("embedding")]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    fused = decayed[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.99), fused=fused)


def _rmsprop(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """RMSProp (Tieleman and Hinton 2012) with char-rnn's smoothing."""
    return torch.optim.RMSprop(model.parameters(), lr=options.lr, alpha=0.95, eps=1e-8)


OPTIMISERS: dict[str, Callable[[nn.Module, TrainingOptions], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "rmsprop": _rmsprop,
}


def make_optimiser(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """Return the optimiser that `options` name, over all weights of `model`."""
    return OPTIMISERS[options.optimiser](model, options)


def clip_gradient(model: nn.Module, options: TrainingOptions) -> Tensor:
    """Limit the gradient in place, by its length or element by element; return its length before."""
    weights = list(model.parameters())
    if options.clip and options.clip_by == "norm":
        return torch.nn.utils.clip_grad_norm_(weights, options.clip)
    norm = torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
    if options.clip:
        torch.nn.utils.clip_grad_value_(weights, options.clip)
    return norm


def state_to_tensors(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return what the optimiser remembers, named `weight/what`, so that it can be stored without pickle."""
    state = optimiser.state
    return {f"{name}/{what}": value for name, p in model.named_parameters() for what, value in state[p].items()}


def state_from_tensors(optimiser: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give the optimiser back what `state_to_tensors` took down; learning rates are the schedule's and not touched."""
    weights = dict(model.named_parameters())
    for key, value in tensors.items():
        name, what = key.rsplit("/", 1)
        place = "cpu" if what == "step" and not optimiser.defaults.get("fused") else weights[name].device
        optimiser.state[weights[name]][what] = value.to(place)
