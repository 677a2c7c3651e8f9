"""The table that a training request names: opened, its two columns, and cells of its rows."""

from __future__ import annotations

from collections.abc import Sequence

from unrolled.errors import UsageError
from unrolled.options import TrainRequest
from unrolled.tables.cell_values import Cell
from unrolled.tables.series_spec import group_table
from unrolled.tables.source_columns import split_source
from unrolled.tables.spec import TableSpec
from unrolled.tables.spec_inference import split_kind
from unrolled.tables.table_files import Table, open_table, open_with_columns
from unrolled.tables.table_format import TableFormat


def open_request_table(request: TrainRequest) -> Table:
    """Open the table of a request, as it is in the file."""
    if len(request.inputs) != 1:
        raise UsageError(f"One table is expected with --source and --target; got {len(request.inputs)} inputs.")
    options = request.table
    sources = split_source(options.source) if options.source else []
    named = [*sources, *([options.target] if options.target else [])]
    columns = tuple(split_kind(name)[0] for name in named)
    format = TableFormat(options.header, request.data.encoding, cell_files=options.cell_files)
    return open_with_columns(request.inputs[0], columns, format)


def open_validation_table(request: TrainRequest, spec: TableSpec) -> Table:
    """Open the table that a request validates on, and group its steps as those of the training table."""
    format = spec.table_format(None, request.data.encoding, request.table.cell_files)
    return group_table(open_table(str(request.table.validation), "test", format), spec)


def resolve_columns(request: TrainRequest, table: Table) -> tuple[str, str]:
    """Return the source and target column of a request, or those of a built-in table. A forecast has one column."""
    builtin = table.builtin
    source = request.table.source or (builtin.source if builtin else None)
    target = request.table.target or (builtin.target if builtin else source if request.series.horizon else None)
    if source is None or target is None:
        missing = "--source" if source is None else "--target"
        columns = ", ".join(table.columns)
        raise UsageError(f"A table needs both --source and --target; {missing} is missing. Columns: {columns}.")
    return source, target


def cells_of(table: Table, spec: TableSpec, rows: Sequence[int]) -> list[tuple[Cell, Cell]]:
    """Return the source and target cells of the rows at these places among all rows of a table, in the order of `rows`."""
    wanted, found = set(rows), dict[int, tuple[Cell, Cell]]()
    if not wanted:
        return []
    for place, (_, (source, target)) in enumerate(spec.iter_cells(table)):
        if place in wanted:
            found[place] = (source, target)
            if len(found) == len(wanted):
                break
    return [found[place] for place in rows]
