"""A network of torch as a `LanguageModel`, and as the plain arrays that the runtime reads."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.checkpoints.array_file import window_refusal
from unrolled.checkpoints.model_file import TextModelFile
from unrolled.errors import ModelError, UsageError
from unrolled.nn.cell_wrappers import clamped
from unrolled.nn.cells import CELLS, map_state, unroll_by_step
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM, cross_entropy, parameter_count
from unrolled.nn.unit_clamp import Clamp
from unrolled.runtime.language_model import Doubles, Floats, Ids, LanguageModel, Mask, State
from unrolled.runtime.native_decoder import Precision
from unrolled.runtime.text_network import GATE_NAMES, TextModel, TextNetwork, build_network
from unrolled.text.batching import IGNORE_INDEX

_NETWORK_CACHE: weakref.WeakKeyDictionary[RecurrentLM, tuple[Any, TextNetwork]] = weakref.WeakKeyDictionary()
"""For each model, the version of its weights and its arrays: what is packed of them is kept as long as they do not change."""


def arrays_reason(model: RecurrentLM) -> str | None:
    """Say why `as_text_network` cannot give the arrays of a model in its present state, or return None if it can."""
    weight = model.head.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"its weights are {weight.dtype} on {weight.device}"
    cell_class, other = CELLS.get(model.options.cell), type(model.cells()[0])
    if model.options.cell not in GATE_NAMES or any(type(cell) is not cell_class for cell in model.cells()):
        return f"only torch runs the cell {model.options.cell if other is cell_class else other.__name__}"
    if any(layer.dropout.active for layer in model.stack.layer_list()):
        return "it is in training mode, with dropout"
    return None


def as_text_network(model: RecurrentLM) -> TextNetwork:
    """Return the arrays of a model on the CPU; they share its memory, and are the same object until a weight changes.

    Raises `ValueError` where `arrays_reason` names a reason.
    """
    if reason := arrays_reason(model):
        raise ValueError(f"The runtime cannot read this model: {reason}.")
    parameters = dict(model.named_parameters())
    arrays = {name: weight.detach().contiguous().numpy() for name, weight in parameters.items()}
    if any(weight.is_inference() for weight in parameters.values()):  # inference tensors have no version counter
        return build_network(arrays, model.vocab_size, model.options)
    version = [(weight.data_ptr(), weight._version) for weight in parameters.values()]
    cached = _NETWORK_CACHE.get(model)
    if cached is None or cached[0] != version:
        cached = _NETWORK_CACHE[model] = (version, build_network(arrays, model.vocab_size, model.options))
    return cached[1]


def as_text_model_file(path: Path, text_model: TextModel) -> TextModelFile:
    """Return a text model that was read as arrays from `path` as one of torch; its weights are the same memory.

    Raises `ModelError` if its cell is none of this process, `UsageError` if it reads windows.
    """
    if text_model.network.window is not None:
        raise UsageError(window_refusal(path))
    arrays = {name: torch.from_numpy(array) for name, array in text_model.network.arrays().items()}
    try:
        if parameter_count(text_model.tokenizer.vocab_size, text_model.options) != text_model.network.num_parameters:
            raise ValueError("the weights are not those of its options")  # before anything larger than the file is built
        with torch.random.fork_rng(devices=[]):
            network = RecurrentLM(text_model.tokenizer.vocab_size, text_model.options).eval()
        network.load_state_dict(arrays, assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is no model that this version can read: {error}.") from error
    for weight in network.parameters():
        weight.requires_grad_(True)
    return TextModelFile(network, text_model.tokenizer, text_model.documents, text_model.history, text_model.generation)


def sampling_precision(model: RecurrentLM, dtype: torch.dtype) -> Precision | None:
    """Return the precision to sample with for products in `dtype`; None where the model has the reference kernel."""
    if model.cells()[0].kernel is unroll_by_step:
        return None
    return "bfloat16" if dtype == torch.bfloat16 else "float32"


class TorchModel(LanguageModel):
    """A network of torch on any device, in the number format of `machine` if there is one, with units clamped."""

    def __init__(self, model: RecurrentLM, machine: DeviceConfig | None = None, clamps: Sequence[Clamp] = ()) -> None:
        self.model, self.machine, self.clamps, self.vocab_size = model, machine, clamps, model.vocab_size

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode(), clamped(self.model.stack, self.clamps):
                yield
        finally:
            self.model.train(was_training)

    def initial_state(self, rows: int) -> State:
        return self.model.initial_state(rows)

    def repeat_row(self, state: State, rows: int) -> State:
        return map_state(lambda s: s.expand(rows, *s.shape[1:]).contiguous(), state)

    def step(self, ids: Ids, state: State) -> tuple[Floats, State]:
        logits, state = self.model.step(self._tensor(ids), state)
        return logits.float().cpu().numpy(), state

    def unroll(self, ids: Ids, state: State, resets: Mask | None = None) -> tuple[Floats, State]:
        logits, state = self._forward(ids, state, resets)
        return logits.float().cpu().numpy(), state

    def token_losses(self, inputs: Ids, targets: Ids, state: State, resets: Mask | None) -> tuple[Floats, State]:
        logits, state = self._forward(inputs, state, resets)
        losses = cross_entropy(logits, self._tensor(targets), "none")
        return losses.view(targets.shape).cpu().numpy(), state

    def loss_sums(
        self, inputs: Ids, targets: Ids, state: State, resets: Mask | None, logit_scale: float | None
    ) -> tuple[Doubles, tuple[float, float], State]:
        logits, state = self._forward(inputs, state, resets)
        losses, *derivatives = _loss_sums(logits, self._tensor(targets), logit_scale)
        slope, curvature = (float(value) for value in derivatives)
        return losses.cpu().numpy(), (slope, curvature), state

    def _forward(self, ids: Ids, state: State, resets: Mask | None) -> tuple[Tensor, State]:
        with contextlib.nullcontext() if self.machine is None else self.machine.autocast():
            logits, state = self.model(self._tensor(ids), state, None if resets is None else self._tensor(resets))
        return logits, state

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.model.device)


def _loss_sums(logits: Tensor, targets: Tensor, logit_scale: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `LanguageModel.loss_sums` returns, as tensors `(B,)`, `()` and `()` on the device."""
    if logit_scale is None:
        losses = cross_entropy(logits, targets, "none").view(targets.shape).sum(0, dtype=torch.float64)
        zero = torch.zeros((), dtype=torch.float64, device=logits.device)
        return losses, zero, zero
    is_scored = targets != IGNORE_INDEX
    scored_logits, target_ids = logits[is_scored].float(), targets[is_scored].unsqueeze(-1)  # (N, V), (N, 1)
    log_probs = (scored_logits * logit_scale).log_softmax(-1)
    probs = log_probs.exp()
    mean = (probs * scored_logits).sum(-1)
    variance = (probs * scored_logits.square()).sum(-1) - mean.square()
    slope = mean - scored_logits.gather(-1, target_ids).squeeze(-1)
    losses = torch.zeros(targets.shape, device=logits.device).masked_scatter(is_scored, -log_probs.gather(-1, target_ids))
    return losses.sum(0, dtype=torch.float64), slope.sum(dtype=torch.float64), variance.sum(dtype=torch.float64)
