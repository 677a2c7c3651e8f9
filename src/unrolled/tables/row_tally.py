"""Messages about the rows of a table that was read: how many could not be used, and which symbols the model does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from unrolled.display import agree, counted, plural
from unrolled.errors import DataError
from unrolled.tables.cell_values import Cell
from unrolled.tables.column import Column
from unrolled.text.normalization import change_note

MAX_NAMED = 5


class UnreadableRows:
    """Counts rows with a cell that cannot be read, and keeps the first error."""

    def __init__(self) -> None:
        self.count = 0
        self.first_error: DataError | None = None

    def add(self, error: DataError) -> None:
        """Count a row that raised `error`."""
        self.count += 1
        self.first_error = self.first_error or error

    def require_few(self, num_rows: int) -> None:
        """Raise the first error if more than half of `num_rows` rows raised one: the column is then of another kind."""
        if self.first_error is not None and 2 * self.count > num_rows:
            others = f" The same holds for {self.count:,} of {num_rows:,} rows." if num_rows > 1 else ""
            raise DataError(f"{self.first_error}{others}") from self.first_error

    def message(self, num_rows: int, consequence: str) -> str:
        """Return a sentence with the first error, or an empty one; `consequence` is what happened to the rows."""
        if self.first_error is None:
            return ""
        rows = f"{self.count:,} of {num_rows:,} rows {agree(self.count, consequence)}"
        return f"{rows}, as a cell cannot be read; the first: {self.first_error}"


def left_out_messages(
    num_empty: int, unreadable: UnreadableRows, num_rows: int, consequence: str, details: str = ""
) -> list[str]:
    """Return a message about rows with an empty cell, and one about rows that cannot be read, each if there are such rows.

    Args:
        num_empty: Number of rows with an empty cell.
        unreadable: The rows that cannot be read.
        num_rows: Number of all rows that were read.
        consequence: What happened to these rows, such as `are left out`.
        details: More about the empty cells, such as their lines.
    """
    messages = []
    if num_empty:
        rows = f"{num_empty:,} of {plural(num_rows, 'row')} {agree(num_empty, consequence)}"
        messages.append(f"{rows}, a cell being empty{details}")
    return [*messages, *filter(None, [unreadable.message(num_rows, consequence)])]


def missing_by_column(counts: Mapping[str, int]) -> str:
    """Return how many cells are empty in each column, for the end of a sentence; the most first.

    Example:
        >>> missing_by_column({"age": 1, "review": 7})
        " ('review' 7, 'age' 1)"
    """
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return f" ({', '.join(f'{name!r} {count:,}' for name, count in ordered)})" if ordered else ""


def imputed_messages(imputed: Counter[str], medians: Mapping[str, float], num_rows: int) -> list[str]:
    """Return sentences about the rows that have no value in a column, and what is read for it: see `TableSpec.is_replaced`."""

    def replacement(name: str) -> str:
        return (
            f"no number; the median, {medians[name]:.6g}, is used" if name in medians else "no value, and it is read as unknown"
        )

    return [
        f"'{name}': {count:,} of {plural(num_rows, 'row')} {agree(count, 'have')} {replacement(name)}"
        for name, count in imputed.items()
    ]


class RowTally:
    """Counts, over the rows that a model reads, those with a missing cell, those that it cannot read, and characters, words
    or labels that it does not know. `num_rows` are those without a missing cell, and `imputed` counts missing numbers that
    became the median of their column, `medians`. With `unknown` set to `refuse`, what it does not know is a `DataError`."""

    def __init__(self, medians: Mapping[str, float] | None = None, unknown: str = "keep") -> None:
        self.medians, self.unknown = medians or {}, unknown
        self.imputed: Counter[str] = Counter()
        self.unreadable = UnreadableRows()
        self.num_rows = self.num_empty = 0
        self._symbols: dict[str, Counter[str]] = {}
        self._columns: dict[str, Column] = {}
        self._reading_notes: dict[str, str] = {}

    def add_row(self, columns: Sequence[Column], cells: Sequence[Cell]) -> None:
        """Count the cells of a row that could be read, and missing numbers among them."""
        for column, cell in zip(columns, cells, strict=True):
            if column.is_missing(cell.value):
                self.imputed[column.name] += 1
            else:
                self.add_cell(column, cell)

    def add_cell(self, column: Column, cell: Cell) -> None:
        """Count the symbols of a cell that the column could read."""
        if self.unknown == "refuse" and (symbols := column.unknown_symbols(cell)):
            named = ", ".join(f"{symbol!r:.40}" for symbol in list(dict.fromkeys(symbols))[:MAX_NAMED])
            raise DataError(
                f"{cell.location}: {plural(len(symbols), 'symbol')} that the model does not know: {named}; correct the cell, "
                "or read it with --unknown keep."
            )
        counts = column.count_symbols(cell)
        self._columns[column.name] = column
        if column.name not in self._reading_notes and (note := column.reading_note(cell)):
            self._reading_notes[column.name] = note
        self._symbols.setdefault(column.name, Counter()).update(counts._asdict())

    def messages(self, consequence: str) -> list[str]:
        """Return the messages to log once all rows are read; `consequence` is what happened to rows that cannot be read."""
        total = self.num_rows + self.num_empty
        messages = left_out_messages(self.num_empty, self.unreadable, total, consequence)
        messages += imputed_messages(self.imputed, self.medians, total)
        for name, counts in self._symbols.items():
            column = self._columns[name]
            if counts["normalized"]:
                messages.append(f"'{name}': {counts['normalized']:,} {change_note(column.normalization)}")
            if counts["unknown"]:
                noun = counted(counts["total"], column.symbol_noun)
                messages.append(f"'{name}': {counts['unknown']:,} of {counts['total']:,} {agree(counts['unknown'], noun)}")
        return messages + [f"'{name}': {note}" for name, note in self._reading_notes.items()]


def unknown_messages(column: Column, cells: Iterable[Cell]) -> list[str]:
    """Return sentences about the symbols in some cells of a column that training did not have."""
    tally = RowTally()
    for cell in cells:
        tally.add_cell(column, cell)
    return tally.messages("")
