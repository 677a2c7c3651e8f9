"""Write src/unrolled/keywords.py: the option classes as TypedDicts, for type checkers and editors.

python scripts/generate_keywords.py            write the file
python scripts/generate_keywords.py --check    only compare; exit code 1 if the file is out of date
"""

import dataclasses
import sys
import typing
from pathlib import Path

from unrolled import options
from unrolled.exchange.export_options import ExportOptions
from unrolled.exchange.import_options import ImportOptions

PATH = Path(__file__).parents[1] / "src" / "unrolled" / "keywords.py"
HEADER = '''\
"""Keyword arguments of the Python functions. Generated from the option classes by scripts/generate_keywords.py: do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from unrolled.options import CellName, TokensName

if TYPE_CHECKING:
    import torch
'''
CLASSES = (
    options.DataOptions, options.ModelOptions, options.TrainingOptions, options.MachineOptions, options.RunOptions,
    options.PairOptions, options.SeriesOptions, options.SampleOptions, options.EvaluateOptions, options.ScoreOptions,
    options.AlertOptions, options.ExplainOptions,
    options.ReportOptions, options.PredictOptions, ImportOptions, ExportOptions,
)  # fmt: skip
TORCH_TYPES = {"device": " | torch.device", "precision": " | torch.dtype"}
"""What options take too, besides their names."""

EXCLUDED = {"prompt"}
"""Options that are parameters of their own."""

COMBINED = '''

class TrainKwargs(DataKwargs, ModelKwargs, TrainingKwargs, MachineKwargs, RunKwargs, total=False):
    """Options of `train`."""


class TrainTableKwargs(TrainKwargs, PairKwargs, SeriesKwargs, total=False):
    """Options of `train_table`."""

    header: str | None
    max_length: int | None
    validation: Any
    cell_files: bool
'''


def typed_dict(option_class: type) -> str:
    """Return the TypedDict of an option class."""
    lines = [f"class {option_class.__name__.removesuffix('Options')}Kwargs(TypedDict, total=False):"]
    lines.append(f'    """Options of `{option_class.__name__}`."""\n')
    hints = typing.get_type_hints(option_class)
    for field in dataclasses.fields(option_class):
        if field.name not in EXCLUDED:
            hint = "Sequence[str]" if typing.get_origin(hints[field.name]) is tuple else str(field.type)
            if field.metadata["is_list"]:
                hint = hint.replace("str", "str | Sequence[str]", 1)
            if field.metadata["reads"] or field.metadata["writes"]:
                hint = hint.replace("str", "str | PathLike[str]", 1)
            hint += TORCH_TYPES.get(field.name, "")
            lines.append(f"    {field.name}: {hint}".replace("'", '"'))
    return "\n".join(lines) + "\n"


def generate() -> str:
    """Return the content of the file."""
    return HEADER + "".join(f"\n\n{typed_dict(option_class)}" for option_class in CLASSES) + COMBINED


def main() -> int:
    """Write or compare the file."""
    if "--check" not in sys.argv[1:]:
        PATH.write_text(generate(), "utf-8")
        return 0
    if PATH.read_text("utf-8") == generate():
        return 0
    print(f"{PATH} is out of date: run python scripts/generate_keywords.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
