"""The column types, by the name that `--source COLUMN:KIND` and model files use."""

from __future__ import annotations

from typing import Any

from unrolled.errors import ModelError
from unrolled.tables.cell_values import NAMES_OF_MISSING_VALUES
from unrolled.tables.column import Column
from unrolled.tables.image_column import ImageColumn
from unrolled.tables.label_columns import LabelColumn, LabelsColumn
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.numeric_columns import FramesColumn, NumberColumn, VectorColumn
from unrolled.tables.text_column import TextColumn
from unrolled.text.normalization import require_form

COLUMN_TYPES: dict[str, type[Column]] = {
    column_type.kind: column_type
    for column_type in (
        TextColumn,
        LabelColumn,
        NumberColumn,
        LabelsColumn,
        NumbersColumn,
        ImageColumn,
        VectorColumn,
        FramesColumn,
    )
}


def column_to_json(column: Column) -> dict[str, Any]:
    """Return a column as it is stored in a model file."""
    return {
        "kind": column.kind,
        "name": column.name,
        "missing": sorted(column.missing_names),
        "normalize": column.normalization,
        **column.to_dict(),
    }


def column_from_json(value: Any) -> Column:
    """Build the column that `column_to_json` described. Raises `ModelError` for anything else."""
    try:
        column_type = COLUMN_TYPES.get(value["kind"])
        if column_type is None:
            known = ", ".join(COLUMN_TYPES)
            raise ModelError(
                f"The model has a column of the kind '{value['kind']}', which is none of {known}: import what adds it."
            )
        column = column_type.from_dict(str(value["name"]), value)
        column.missing_names = _missing_names(column, value)
        column.normalization = require_form(value.get("normalize", "none"))
        return column
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"The model's column cannot be read: {type(error).__name__} {error}.") from error


def _missing_names(column: Column, value: dict[str, Any]) -> frozenset[str]:
    """Return the names of missing values; files of before 0.3 say only whether the column `keeps_na`."""
    if "missing" in value:
        return frozenset(map(str, value["missing"]))
    return frozenset() if value.get("keeps_na", column.may_keep_na) else NAMES_OF_MISSING_VALUES
