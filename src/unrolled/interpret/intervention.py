"""What a unit causes: the text and the bits with it held at a value, beside those without.

A unit that follows quotation marks need not be what the network uses to close them. To hold it tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from unrolled.errors import UsageError
from unrolled.generation.sampling import generate
from unrolled.interpret.activations import trace
from unrolled.nn.clamp import Hold, holding
from unrolled.nn.language_model import SequenceModel
from unrolled.options import SampleOptions
from unrolled.text.tokenized_text import Reading
from unrolled.text.tokenizer import Vocabulary

LANES = 256
LARGEST = float(np.finfo(np.float32).max)
"""Units silenced side by side, one a lane."""

Bits = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """What holding a unit changes: `changes` `(T,)` in the bits of each symbol (nan for the first), and a sample drawn with
    the same `seed` `before` and `after`.
    """

    hold: Hold
    changes: Bits
    before: str
    after: str
    seed: int

    @property
    def bits(self) -> float:
        """The mean change, in bits a symbol: above zero where the unit was of use."""
        return float(np.nanmean(self.changes)) if len(self.changes) > 1 else 0.0


def hold_from(text: str, flag: str = "--clamp") -> Hold:
    """Return the hold that `layer.unit=value` says; without a value it is silenced. Raises `UsageError` for anything else."""
    name, equals, value = text.partition("=")
    layer, dot, unit = name.partition(".")
    try:
        found = Hold(int(layer), int(unit), float(value) if equals else 0.0)
    except ValueError:
        found = Hold(0, 0, math.nan)
    if not dot or not abs(found.value) <= LARGEST:
        raise UsageError(f"{flag} takes LAYER.UNIT=VALUE, such as 0.17=-1 (layers and units count from 0); got {text!r}.")
    return found


def effect(
    model: SequenceModel,
    vocabulary: Vocabulary,
    reading: Reading,
    hold: Hold,
    options: SampleOptions,
    without: Bits | None = None,
) -> Effect:
    """Return what a hold changes in the bits of a text, and in a sample; `without` are the text's bits with nothing held."""
    before = trace(model, reading).bits() if without is None else without
    changes = trace(model, reading, [hold]).bits() - before
    alone = replace(options, count=1)
    seed = max(options.seed, 0)
    free = next(generate(model, vocabulary, alone, seed)).text
    held = next(generate(model, vocabulary, alone, seed, [hold])).text
    return Effect(hold, changes, free, held, seed)


@torch.inference_mode()
def importance(
    model: SequenceModel, reading: Reading, check: Callable[[], None] = lambda: None, value: float = 0.0
) -> npt.NDArray[np.float64]:
    """Return the bits a symbol that a text loses when each unit is held at `value`, `(L, H)`.

    The text is read once for every unit, `LANES` of them side by side: a thousand symbols are enough to find those that matter.
    """
    layers, size = len(model.cells()), model.options.hidden
    every = [(layer, unit) for layer in range(layers) for unit in range(size)]
    own = _mean_bits(model, reading, [], 1)[0]
    found: list[npt.NDArray[np.float64]] = []
    for first in range(0, len(every), LANES):
        group = every[first : first + LANES]
        holds = [Hold(layer, unit, value, lane) for lane, (layer, unit) in enumerate(group)]
        found.append(_mean_bits(model, reading, holds, len(group), check) - own)
    return np.concatenate(found).reshape(layers, size)


def _mean_bits(
    model: SequenceModel, reading: Reading, holds: list[Hold], lanes: int, check: Callable[[], None] = lambda: None
) -> npt.NDArray[np.float64]:
    """Return the mean bits of a text in every lane, `(B,)`."""
    ids = torch.from_numpy(reading.ids).to(model.device)
    begins = None if reading.begins is None else torch.from_numpy(reading.begins).to(model.device)
    total = torch.zeros(lanes, dtype=torch.float64, device=model.device)
    with holding(model.stack, holds, lanes):
        state = model.initial_state(lanes)
        for start in range(0, len(ids) - 1, 64):
            check()
            piece = slice(start, min(start + 64, len(ids) - 1))
            resets = None if begins is None else begins[piece].unsqueeze(-1).expand(-1, lanes)
            logits, state = model(ids[piece].unsqueeze(-1).expand(-1, lanes), state, resets)
            targets = ids[piece.start + 1 : piece.stop + 1].unsqueeze(-1).expand(-1, lanes)
            losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
            total += losses.view(targets.shape).sum(0).double()
    return np.asarray((total / max(1, len(ids) - 1) / math.log(2)).cpu().numpy())
