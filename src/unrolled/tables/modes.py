"""The five modes of sequence learning (Karpathy 2015, first figure): when inputs are read, and when outputs are predicted.

A mode is a layout of a (source, target) pair on the time axis, and nothing else; `-` means that nothing is predicted:

    mode            inputs, step by step       targets
    one-to-one      x                          y
    one-to-many     x BOS y1 .. yM             - y1 .. yM EOS
    many-to-one     x1 .. xN                   - .. - y
    many-to-many    x1 .. xN BOS y1 .. yM      - .. - y1 .. yM EOS
    synced          x1 .. xN                   y1 .. yN

The mode follows from the two columns: whether the source has one step or many, and when the target is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

from unrolled.errors import UsageError
from unrolled.tables.column import Column, Output


@dataclass(frozen=True)
class Mode:
    """A layout: whether the input has many steps, and whether the output is predicted once after the last step (`single`),
    at each step (`aligned`), or step by step after all of them (`generated`)."""

    name: str
    sequence_input: bool
    output: Output


MODES = (
    Mode("one-to-one", False, "single"),
    Mode("one-to-many", False, "generated"),
    Mode("many-to-one", True, "single"),
    Mode("many-to-many", True, "generated"),
    Mode("synced", True, "aligned"),
)


def mode_of(source: Column, target: Column) -> Mode:
    """Return the mode of two columns. Raises `UsageError` if they have none."""
    if target.output is None:
        raise UsageError(
            f"'{target.name}' has {target.kind}, which can be a source but not a target: text, labels or numbers can."
        )
    for mode in MODES:
        if mode.sequence_input == source.is_sequence and mode.output == target.output:
            return mode
    what = "a number" if target.tensor_kind == "floats" else "a label"
    raise UsageError(
        f"'{target.name}' has {what} for every step, and '{source.name}' ({source.kind}) has one step: "
        "name a source of many steps (text or frames), or make the target one value."
    )
