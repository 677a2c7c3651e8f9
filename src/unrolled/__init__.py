"""unrolled: recurrent sequence models. Train on a text, sample from it, look inside.

    import unrolled
    model = unrolled.train("book.txt", minutes=3)
    print(model.sample("The "))

    model = unrolled.train_table("questions.csv", source="question", target="label")
    print(model.predict(["Who wrote Hamlet?"]))

    rnn = unrolled.RNN(input_size, hidden_size, output_size)      # the blog post's object
    y = rnn.step(x)

Everything public is in `__all__`; torch is only imported when one of these names is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

__version__ = "0.1.0"
JSON_VERSION = 2
"""The value of "version" in every JSON document that a command prints."""

_HOMES = {
    "GRU": "unrolled.nn.stateful",
    "LSTM": "unrolled.nn.stateful",
    "Model": "unrolled.api",
    "RNN": "unrolled.nn.stateful",
    "TableModel": "unrolled.api",
    "UnrolledError": "unrolled.errors",
    "load": "unrolled.api",
    "load_table": "unrolled.api",
    "train": "unrolled.api",
    "train_table": "unrolled.api",
}

__all__ = [
    "GRU", "LSTM", "Model", "RNN", "TableModel", "UnrolledError", "load", "load_table", "train", "train_table",
]  # fmt: skip

logging.getLogger(__name__).addHandler(logging.NullHandler())  # without it, Python prints warnings that nobody handles


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'unrolled' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
