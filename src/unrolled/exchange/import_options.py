"""The settings of an import, declared as those of `options.py`."""

from __future__ import annotations

from dataclasses import dataclass

from unrolled.options import option


@dataclass(frozen=True)
class ImportOptions:
    """How a model of another program is read and checked, and where it is written."""

    vocabulary: str | None = option(
        None,
        "Its vocabulary, if it is not in the file: JSON or a pickle (a list, or a map to ids), or the text it was trained on.",
        reads=True,
    )
    text: str | None = option(None, "A text like its training text, for the check (default: a built-in text).", reads=True)
    vectors: tuple[str, ...] = option(
        (), "Recorded inputs and outputs of a model of numbers, for the check: two CSV files, so give it twice.", reads=True
    )
    out: str | None = option(None, "Run folder or model file to write (default: runs/NAME of the file).", writes="run")
    force: bool = option(False, "Overwrite an existing model file.")
