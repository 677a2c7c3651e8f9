"""The built-in texts and tables, by name."""

from __future__ import annotations

from pathlib import Path

from unrolled.datasets.base_models import BASE_MODELS
from unrolled.datasets.stdlib import PREFIX, python_sources
from unrolled.datasets.tables import TABLES
from unrolled.errors import DataError, did_you_mean

SPLITS = ("train", "test")
"""Splits of a built-in table: `builtin:NAME` is the first one for training and the second one everywhere else."""

CORPORA = {"python": python_sources}


def no_such_dataset(name: str) -> DataError:
    """Return the error for a name that is neither a built-in text nor a built-in table; it lists all of both."""
    if name in BASE_MODELS:
        return DataError(
            f"{PREFIX}{name} is a model, and a text is expected: to fine-tune it, name your text and --from {PREFIX}{name}; "
            f"to write with it: unrolled sample {PREFIX}{name}"
        )
    hint = did_you_mean(name, (*CORPORA, *TABLES)) or "."
    return DataError(
        f"There is no built-in data set '{name}'{hint} Texts: {', '.join(CORPORA)}. Tables: {', '.join(TABLES)}, each with the "
        f"splits {', '.join(SPLITS)}."
    )


def builtin_corpus(name: str) -> list[Path]:
    """Return the files of the built-in corpus `name`, as in `builtin:python`."""
    if name not in CORPORA:
        raise no_such_dataset(name)
    return CORPORA[name]()
