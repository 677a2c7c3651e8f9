"""The five modes of the post's figure, as one table: when inputs are read and when outputs are written.

A mode is a layout of a (source, target) pair on the time axis, and nothing else; `-` means that nothing is written:

    mode            inputs, step by step      targets
    one-to-one      x                         y
    one-to-many     x GO y1 .. yM             - y1 .. yM END
    many-to-one     x1 .. xN                  - .. - y
    many-to-many    x1 .. xN GO y1 .. yM      - .. - y1 .. yM END
    synced          x1 .. xN                  y1 .. yN

The mode follows from the two columns: whether each has one step or many, and whether the target goes beside the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unrolled.errors import UsageError
from unrolled.tables.columns import Column

NO_OUTPUT, BOS, EOS = "-", "GO", "END"
Output = Literal["single", "aligned", "generated"]


@dataclass(frozen=True)
class Mode:
    """A layout: whether `many` steps are read, and when is written: `once` at the end, `beside` each step, or `after` them."""

    name: str
    sequence_input: bool
    output: Output

    def align(self, source: Sequence[Any], target: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return inputs and targets, step by step, of a pair; raises `ValueError` for a pair that does not fit."""
        inputs, outputs = list(source), list(target)
        if self.output == "generated":
            return [*inputs, BOS, *outputs], [NO_OUTPUT] * len(inputs) + [*outputs, EOS]
        if self.output == "single":
            if len(outputs) != 1:
                raise ValueError(f"{self.name} has one target; got {len(outputs)}.")
            return inputs, [NO_OUTPUT] * (len(inputs) - 1) + outputs
        if len(inputs) != len(outputs):
            raise ValueError(f"{self.name} has a target for each of {len(inputs)} inputs; got {len(outputs)}.")
        return inputs, outputs


MODES = (
    Mode("one-to-one", False, "single"),
    Mode("one-to-many", False, "generated"),
    Mode("many-to-one", True, "single"),
    Mode("many-to-many", True, "generated"),
    Mode("synced", True, "aligned"),
)


def mode_of(source: Column, target: Column) -> Mode:
    """Return the mode of two columns. Raises `UsageError` for two that make none."""
    if target.kind == "labels":
        output: Output = "aligned"
    elif target.kind in ("text", "image"):
        output = "generated"
    elif target.kind == "frames":
        raise UsageError(f"'{target.name}' has frames, which can be read but not written: text, labels or numbers can.")
    else:
        output = "single"
    for mode in MODES:
        if mode.sequence_input == source.is_sequence and mode.output == output:
            return mode
    raise UsageError(
        f"'{target.name}' has a label for every step, and '{source.name}' ({source.kind}) has one step: "
        "name a source of many steps (text or frames), or make the target one label."
    )
