"""unrolled: recurrent sequence models. Train on a text, sample from it, look inside.

    import unrolled
    model = unrolled.train("book.txt", minutes=3)
    print(model.sample("The "))

    model = unrolled.train_table("questions.csv", source="question", target="label")
    print(model.predict(["Who wrote Hamlet?"]))

    rnn = unrolled.RNN(input_size, hidden_size, output_size)      # the object of the blog post
    y = rnn.step(x)

The public names are in `__all__`; torch is imported when one of them is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; at run time, __getattr__ imports a name when it is first used
    from unrolled.api import import_model, load, load_table, train, train_table
    from unrolled.errors import UnrolledError
    from unrolled.models.table import TableModel
    from unrolled.models.text import Model
    from unrolled.nn.stateful import (
        GRU,
        LSTM,
        MLSTM,
        RGLRU,
        RNN,
        SLSTM,
        GatedDeltaNet,
        MinGRU,
        MinLSTM,
        MogrifierGRU,
        MogrifierLSTM,
    )

__version__ = "0.2.0"
debug = False
"""Whether a notebook shows the traceback of an `UnrolledError`, and not only its sentence."""

_NAMES = {
    "unrolled.api": ("import_model", "load", "load_table", "train", "train_table"),
    "unrolled.errors": ("UnrolledError",),
    "unrolled.models.table": ("TableModel",),
    "unrolled.models.text": ("Model",),
    "unrolled.nn.stateful": (
        "GRU", "GatedDeltaNet", "LSTM", "MLSTM", "MinGRU", "MinLSTM", "MogrifierGRU", "MogrifierLSTM", "RGLRU", "RNN", "SLSTM",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

_ELSEWHERE = {
    "fit": "train(text) and train_table(table, source, target) return a trained model",
    "Trainer": "train(text) and train_table(table, source, target) return a trained model",
    "resume": "train(resume=run) and train_table(resume=run) go on with a run",
    "serve": "it is a command, unrolled serve",
    **dict.fromkeys(("from_pretrained", "load_model", "pipeline", "AutoModel"), "load(run) and load_table(run) return a model"),
    "predict": "load_table(run).predict(values)",
    **{name: f"load(run).{name}(...)" for name in ("sample", "score", "evaluate", "explain", "report", "export")},
}
"""What other libraries have in the module, and what is here instead."""

__all__ = [
    "GRU", "GatedDeltaNet", "LSTM", "MLSTM", "MinGRU", "MinLSTM", "Model", "MogrifierGRU", "MogrifierLSTM", "RGLRU", "RNN",
    "SLSTM", "TableModel", "UnrolledError", "import_model", "load", "load_table", "train", "train_table",
]  # fmt: skip

logging.getLogger(__name__).addHandler(logging.NullHandler())  # without it, Python prints warnings that nobody handles


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULE_OF:
            return getattr(importlib.import_module(_MODULE_OF[name]), name)
        hint = f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"module 'unrolled' has no attribute '{name}'{hint}")


def __dir__() -> list[str]:
    return sorted(__all__)
