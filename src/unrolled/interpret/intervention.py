"""Causal effect of hidden units: the loss on a text and a sample with a unit clamped to a value, compared with those without.

That a unit's state correlates with quotation marks does not show that the network uses it to close them. An intervention does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from unrolled.generation.sampling import generate
from unrolled.interpret.activations import record_activations
from unrolled.nn.cell_wrappers import clamped
from unrolled.nn.language_model import RecurrentLM, cross_entropy
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import SampleOptions
from unrolled.text.tokenized_text import TokenizedText
from unrolled.text.tokenizer import Tokenizer

MAX_UNITS_PER_BATCH = 256
"""Units that are clamped at the same time, one in each batch column."""

Bits = npt.NDArray[np.float64]


@dataclass(frozen=True)
class InterventionEffect:
    """The effect of clamping a unit: `bit_changes` `(T,)` in the surprisal of each token (nan for the first), and a sample
    with the same `seed` without and with the clamp.
    """

    clamp: Clamp
    bit_changes: Bits
    sample_before: str
    sample_after: str
    seed: int

    @property
    def mean_bit_change(self) -> float:
        """The mean change in bits per token: above zero if the unit was useful."""
        return float(np.nanmean(self.bit_changes)) if len(self.bit_changes) > 1 else 0.0


def measure_effect(
    model: RecurrentLM,
    tokenizer: Tokenizer,
    tokenized: TokenizedText,
    clamp: Clamp,
    options: SampleOptions,
    baseline_bits: Bits | None = None,
) -> InterventionEffect:
    """Return the effect of a clamp on the bits of a text and on a sample.

    `baseline_bits` are the text's bits without the clamp, if the caller has them.
    """
    bits_before = record_activations(model, tokenized).bits() if baseline_bits is None else baseline_bits
    changes = record_activations(model, tokenized, [clamp]).bits() - bits_before
    single = replace(options, count=1)
    seed = max(options.seed, 0)
    sample_before = next(generate(model, tokenizer, single, seed)).text
    sample_after = next(generate(model, tokenizer, single, seed, [clamp])).text
    return InterventionEffect(clamp, changes, sample_before, sample_after, seed)


@torch.inference_mode()
def unit_importance(model: RecurrentLM, tokenized: TokenizedText, value: float = 0.0) -> npt.NDArray[np.float64]:
    """Return the increase of the loss on a text, in bits per token, when each unit is clamped to `value`, `(L, H)`.

    The text is read once for every unit, `MAX_UNITS_PER_BATCH` of them at the same time. A text of 1,000 tokens is enough to
    find the important units.
    """
    num_layers, hidden_size = len(model.cells()), model.options.hidden
    units = [(layer, unit) for layer in range(num_layers) for unit in range(hidden_size)]
    baseline_bits = _mean_bits(model, tokenized, [], 1)[0]
    bit_changes: list[npt.NDArray[np.float64]] = []
    for first in range(0, len(units), MAX_UNITS_PER_BATCH):
        group = units[first : first + MAX_UNITS_PER_BATCH]
        clamps = [Clamp(layer, unit, value, row) for row, (layer, unit) in enumerate(group)]
        bit_changes.append(_mean_bits(model, tokenized, clamps, len(group)) - baseline_bits)
    return np.concatenate(bit_changes).reshape(num_layers, hidden_size)


def _mean_bits(model: RecurrentLM, tokenized: TokenizedText, clamps: list[Clamp], batch_size: int) -> npt.NDArray[np.float64]:
    """Return the mean bits per token of a text in every batch column, `(B,)`."""
    ids = torch.from_numpy(tokenized.ids).to(model.device)
    reset_mask = None if tokenized.reset_mask is None else torch.from_numpy(tokenized.reset_mask).to(model.device)
    total = torch.zeros(batch_size, dtype=torch.float64, device=model.device)
    with clamped(model.stack, clamps, batch_size):
        state = model.initial_state(batch_size)
        for start in range(0, len(ids) - 1, 64):
            chunk = slice(start, min(start + 64, len(ids) - 1))
            resets = None if reset_mask is None else reset_mask[chunk].unsqueeze(-1).expand(-1, batch_size)
            logits, state = model(ids[chunk].unsqueeze(-1).expand(-1, batch_size), state, resets)
            targets = ids[chunk.start + 1 : chunk.stop + 1].unsqueeze(-1).expand(-1, batch_size)
            losses = cross_entropy(logits, targets, "none")
            total += losses.view(targets.shape).sum(0).double()
    return np.asarray((total / max(1, len(ids) - 1) / math.log(2)).cpu().numpy())
