"""The units to clamp, as `--clamp` names them: described without torch; `cell_wrappers` and the numpy step carry it out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from unrolled.errors import UsageError

MAX_CLAMP_VALUE = (2 - 2**-23) * 2.0**127
"""The largest float32."""


class Clamp(NamedTuple):
    """One unit, whose output `h` is set to `value` at every step; layers and units are counted from 0, the lowest first.

    `row` is the only row of a batch in which it is clamped; None means all rows.
    """

    layer: int
    unit: int
    value: float = 0.0
    row: int | None = None


def parse_clamp(text: str, flag: str = "--clamp") -> Clamp:
    """Return the clamp that `LAYER.UNIT=VALUE` names; without `=VALUE` the value is 0. Raises `UsageError` for other texts."""
    unit_name, equals, value = text.partition("=")
    layer, dot, unit = unit_name.partition(".")
    try:
        clamp = Clamp(int(layer), int(unit), float(value) if equals else 0.0)
    except ValueError:
        clamp = Clamp(0, 0, math.nan)
    if not dot or not abs(clamp.value) <= MAX_CLAMP_VALUE:
        raise UsageError(f"{flag} takes LAYER.UNIT=VALUE, such as 0.17=-1 (layers and units count from 0); got {text!r}.")
    return clamp


def check_clamps(clamps: Iterable[Clamp], hidden_size: int, num_layers: int) -> None:
    """Raise `UsageError` for a layer or unit that does not exist."""
    for clamp in clamps:
        if not 0 <= clamp.layer < num_layers:
            layers = "layer 0 only" if num_layers == 1 else f"layers 0 to {num_layers - 1}"
            raise UsageError(f"There is no layer {clamp.layer} to clamp a unit of: the model has {layers}.")
        if not 0 <= clamp.unit < hidden_size:
            raise UsageError(f"Layer {clamp.layer} has no unit {clamp.unit} to clamp: its units are 0 to {hidden_size - 1}.")
