"""Columns whose values are known before they happen, such as holidays, promotions and planned numbers: `--known-covariates`.

A forecast reads them with the step that it predicts. Darts calls them future covariates, GluonTS `feat_dynamic_real`, Prophet
regressors. Since they are known in advance, they are scaled by all rows of the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.display import plural
from unrolled.errors import DataError, UsageError
from unrolled.tables.cell_values import MISSING_IN_NUMBERS, Array, Cell, is_missing, parse_text
from unrolled.tables.scaling import Scaling
from unrolled.tables.step_arrays import are_numbers, filled, number_or_gap

MAX_CATEGORIES = 50
"""Distinct texts of a column, at most: each is an input of the network."""

KINDS = (None, "number", "label")
"""Kinds that the user may give a column; None: it is inferred."""


@dataclass(frozen=True)
class Covariate:
    """A column that is known in advance: of numbers, with their `scaling`, or of texts, each of the `categories` an input."""

    name: str
    scaling: Scaling | None
    categories: tuple[str, ...] = ()

    @staticmethod
    def fit(name: str, kind: str | None, values: Sequence[Any], decimal_comma: bool) -> Covariate:
        """Return how a column with these values in all rows of the training table is read.

        Args:
            name: The column.
            kind: `number` or `label`; None: a number if the values are numbers, else a label. True and false are 1 and 0.
            values: Its cells, of which some may be missing.
            decimal_comma: Whether the table writes decimal commas.

        Example:
            >>> Covariate.fit("holiday", None, ["", "Easter", "", "May Day"], False).inputs
            ('holiday=Easter', 'holiday=May Day')
        """
        known = [_plain(value) for value in values]
        if all(is_missing(value, MISSING_IN_NUMBERS) for value in known):
            raise DataError(f"--known-covariates: '{name}' has no value in any row: leave it out.")
        if kind != "label" and (kind == "number" or are_numbers([known], decimal_comma)):
            cell = Cell(known, f"'{name}'")
            numbers = np.array([number_or_gap(value, cell, step, decimal_comma) for step, value in enumerate(known)])
            return Covariate(name, _scaling(numbers[:, None]))
        categories = tuple(dict.fromkeys(sorted(_text(value) for value in known if not is_missing(value))))
        if len(categories) > MAX_CATEGORIES:
            raise UsageError(
                f"--known-covariates: '{name}' has {len(categories):,} different texts, such as {categories[0]!r:.40}, and at "
                f"most {MAX_CATEGORIES} are read as labels: name a column of numbers, or of few labels."
            )
        return Covariate(name, None, categories)

    @property
    def kind(self) -> str:
        """What it is: `number` or `label`."""
        return "number" if self.scaling is not None else "label"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs of the network."""
        if self.scaling is None:
            return tuple(f"{self.name}={category}" for category in self.categories)
        return (self.name, f"{self.name} is missing") if self.scaling.has_gaps else (self.name,)

    def encode(self, values: Sequence[Any], cell: Cell, decimal_comma: bool) -> Array:
        """Return the values of the steps of a series as inputs, float32 `(N, inputs)`.

        A gap is filled with the last number. A text that was not there in training is none of the categories.
        """
        if self.scaling is None:
            rows = np.zeros((len(values), len(self.categories)), dtype=np.float32)
            for step, value in enumerate(values):
                text = "" if is_missing(value) else _text(_plain(value))
                if text in self.categories:
                    rows[step, self.categories.index(text)] = 1
            return rows
        numbers = [number_or_gap(_plain(value), cell, step, decimal_comma) for step, value in enumerate(values)]
        scaled = self.scaling.apply(np.array(numbers, dtype=np.float64)[:, None])
        gaps = np.isnan(scaled)
        parts = [np.nan_to_num(filled(scaled)), *([gaps] if self.scaling.has_gaps else [])]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def gaps(self, values: Sequence[Any]) -> list[int]:
        """Return the steps that have no number where those of training all had one; none of a column of texts."""
        if self.scaling is None or self.scaling.has_gaps:
            return []
        return [step for step, value in enumerate(values) if is_missing(value, MISSING_IN_NUMBERS)]

    def unknown(self, values: Sequence[Any]) -> list[str]:
        """Return the texts among `values` that training did not have; none of a column of numbers."""
        if self.scaling is not None:
            return []
        return sorted({_text(_plain(value)) for value in values if not is_missing(value)} - set(self.categories))

    def to_json(self) -> dict[str, Any]:
        """Return the column as it is stored in a model file."""
        if self.scaling is None:
            return {"name": self.name, "categories": list(self.categories)}
        return {"name": self.name, "scaling": self.scaling.to_json()}

    @staticmethod
    def from_json(value: Any) -> Covariate:
        """Build the column that `to_json` described."""
        if "categories" in value:
            return Covariate(str(value["name"]), None, tuple(map(str, value["categories"])))
        scaling = Scaling.from_json(value["scaling"])
        if scaling.center.shape != (1,):
            raise ValueError("the scaling of a known covariate is not valid")
        return Covariate(str(value["name"]), scaling)


def _scaling(numbers: Array) -> Scaling:
    """Return the scaling of numbers `(N, 1)`; of two numbers, such as 0 and 1, they become 0 and 1."""
    scaling, values = Scaling.fit(numbers), np.unique(numbers[~np.isnan(numbers)])
    if len(values) != 2:
        return scaling
    no_limit = np.array([np.inf])
    return dataclasses.replace(scaling, center=values[:1], spread=np.diff(values), low=-no_limit, high=no_limit)


def _plain(value: Any) -> Any:
    """Return true and false, also as a text, as 1 and 0; anything else as it is."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    return {"true": 1, "false": 0}.get(value.strip().lower(), value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    return parse_text(Cell(value, "")).strip()


def count_known(columns: Sequence[Sequence[Any]]) -> int:
    """Return how many steps of a series come before those to forecast: the last ones, with no value in any of the `columns`.

    Example:
        >>> count_known([["4", "", "5", "", ""]])
        3
    """
    has_value = [not all(is_missing(value, MISSING_IN_NUMBERS) for value in values) for values in zip(*columns, strict=True)]
    return len(has_value) - has_value[::-1].index(True) if any(has_value) else 0


def unknown_note(covariates: Sequence[Covariate], columns: Sequence[Sequence[Any]]) -> list[str]:
    """Return messages about texts in the `columns`, the values of each covariate, that training did not have."""
    notes = []
    for covariate, values in zip(covariates, columns, strict=True):
        if texts := covariate.unknown(values):
            listed = ", ".join(map(repr, texts[:3])) + (", ..." if len(texts) > 3 else "")
            them = f"{plural(len(texts), 'text')} that training did not have, and that count as none: {listed}"
            notes.append(f"'{covariate.name}' has {them}")
    return notes
