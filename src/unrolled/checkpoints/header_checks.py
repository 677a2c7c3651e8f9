"""Checks of what a model file says: its documents, the facts of its training, and that its weights are numbers."""

from __future__ import annotations

import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.options import DataOptions, SampleOptions, choices, from_dict
from unrolled.text.line_format import LineFormat
from unrolled.text.tokenizer import Tokenizer
from unrolled.text.tokenizers import tokenizer_from_json

HISTORY_NUMBERS = frozenset(("steps", "seconds", "val_nats", "logit_scale"))
"""Facts in the history of a model that are numbers."""

DOCUMENTS_TYPE = typing.get_type_hints(DataOptions)["documents"]


def require_finite(weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise `ValueError` for a weight that is infinite or not a number: every loss would be wrong, or 0."""
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"the weights of {name} are not finite")


def read_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of a model of texts, with what it masks. Raises `ModelError` and `ValueError`."""
    tokenizer = tokenizer_from_json(metadata["tokenizer"])
    if "lines" in metadata:
        tokenizer.line_format = LineFormat.from_json(metadata["lines"])
    return tokenizer


def read_documents(metadata: Mapping[str, Any]) -> str:
    """Return what the header says a document is. Raises `ValueError` for anything but the choices of the option."""
    documents, known = metadata["documents"], choices("documents", DOCUMENTS_TYPE)
    if documents not in known:
        raise ValueError(f"its documents are {str(documents)[:40]!r}, and one of {', '.join(known)} is expected")
    return str(documents)


GENERATION_SETTINGS = ("temperature", "top_k", "top_p", "min_p")
"""What a model of texts may say about how it is sampled where nobody says otherwise."""


def read_generation(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of sampling of a model of texts, by their names in `SampleOptions`; mostly there are none.

    Raises `ValueError` for other names, and `UsageError` for values that `SampleOptions` refuses.
    """
    generation = metadata.get("generation", {})
    if not isinstance(generation, dict) or not set(generation) <= set(GENERATION_SETTINGS):
        raise ValueError(
            f"its generation is {str(generation)[:40]!r}, and some of {', '.join(GENERATION_SETTINGS)} are expected"
        )
    from_dict(SampleOptions, generation, "model")
    return generation


def window_refusal(path: Path) -> str:
    """Return the sentence for what needs a network that carries a state, and got one that reads windows."""
    return (
        f"{path} was imported from textgenrnn, whose network reads its last tokens anew at each step: it can be sampled, "
        "scored and evaluated on the CPU in float32, and all else needs a model that carries a state (unrolled train TEXT)."
    )


def read_history(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about the training. Raises `ValueError` for one of another type or range than is written."""
    history = metadata["history"]
    if not isinstance(history, dict):
        raise ValueError(f"its history is {str(history)[:40]!r}, and names with values are expected")
    for name, value in history.items():
        is_finite = isinstance(value, int | float) and type(value) is not bool and abs(value) <= sys.float_info.max
        if name in HISTORY_NUMBERS and value is not None and not is_finite:
            raise ValueError(f"its history has {str(value)[:40]!r} as {name}, and a finite number is expected")
        if name == "diagnosis" and not isinstance(value, str):
            raise ValueError(f"its history has {str(value)[:40]!r} as {name}, and a text is expected")
    return dict(history)
