"""The settings of an export, declared as those of `options.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unrolled.options import option


@dataclass(frozen=True)
class ExportOptions:
    """What a model is exported to."""

    to: Literal["c", "html", "onnx", "numpy", "card"] = option(
        "html", "c: one C99 file; html: a page that works offline; onnx; numpy: a Python file; card: a model card (README.md)."
    )
    out: str | None = option(None, "The file (default: named as the run, in this folder).", writes="new")
    weights: Literal["int8", "int4", "float32"] = option(
        "int8",
        "Number format of the weights of a text model, for --to c; int8 or float32 of a page or C file of a table's texts.",
    )
    float16: bool = option(False, "Half precision, for --to onnx.")
    text: str | None = option(
        None, "Text on which the cost of rounded weights is measured (default: validation split).", reads=True
    )
    force: bool = option(False, "Overwrite files that exist.")
