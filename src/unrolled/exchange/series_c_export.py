"""`--to c` for models of series: one C99 file that reads the numbers of a step and writes what is predicted, in their units.

The code is `templates/series.c`, with scaling, gaps, changes and the calendar; its tables and definitions are filled in here.
The file is compiled and replays its test vectors before it is written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from unrolled import __version__
from unrolled.display import shell_argument
from unrolled.exchange.c_export import check_c_source
from unrolled.exchange.c_source import Tables, c_prefix, wrap_lines
from unrolled.exchange.export_job import TOLERANCE, ExportResult, array_of
from unrolled.exchange.series_model import SeriesModel, unsupported_series
from unrolled.nn.number_loss import MAX_LOG_DEVIATION
from unrolled.runtime.portable_arithmetic import Floats
from unrolled.runtime.text_network import GATE_NAMES, TextLayer
from unrolled.tables.time_features import CYCLES, num_time_features

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile
    from unrolled.tables.scaling import Scaling

TEMPLATE = Path(__file__).parent / "templates" / "series.c"
CELLS = ("rnn", "gru", "gru-reset-before", "lstm")
TEST_STEPS = 48


def unsupported_in_c(model_file: TableModelFile) -> str | None:
    """Say why a model has no C form, or return None if it has one."""
    if not model_file.spec.is_stream:
        return "a C file reads series, numbers at every step, and predicts something at every step"
    return unsupported_series(model_file, CELLS, "in the C file")


def export_series(model_file: TableModelFile, title: str, out: Path) -> ExportResult:
    """Return the C file of a model of series, checked. Raises `ExportError` if it computes something else."""
    source, flash, ram = series_source(model_file, title, out.name)
    checks = [check_c_source(source)]
    facts = {"weights": "float32", "flash_bytes": flash, "ram_bytes": ram, "mode": model_file.spec.mode_text}
    return ExportResult({out: source.encode()}, checks, facts)


def series_source(model_file: TableModelFile, title: str, file_name: str) -> tuple[str, int, int]:
    """Return the C file of a model of series, the bytes of its tables, and the bytes of RAM of one series."""
    series, tables = SeriesModel.of(model_file), Tables()
    macros, lines = _definitions(series), _add_tables(tables, series)
    source, has_calendar, ram = series.source, bool(series.source.cycles), _ram_bytes(macros)
    when = "of the next step, which is predicted" if series.horizon else "of the step"
    values = {
        "TITLE": f"{title}: {source.describe()} -> {series.target.describe()}".replace("*/", "* /").replace("\n", " "),
        "VERSION": __version__,
        "FILE": shell_argument(file_name),
        "MATH": ", exp, tanh" * macros["GAUSSIAN"]
        + ", exp" * (macros["LABELS"] > 0)
        + ", sin, cos, floor, fmod" * has_calendar,
        "RAM": f"{ram:,}",
        "FLASH": f"{tables.num_bytes:,}",
        "COLUMNS": ", ".join(source.columns).replace("*/", "* /"),
        "OUTPUTS": series.describe_outputs.replace("*/", "* /"),
        "SECONDS": f"   seconds: the time {when}, since 1970-01-01 00:00 on the clock of the data.\n" * has_calendar,
        "SECONDS_FIRST": ", after its seconds" * has_calendar,
        "SECONDS_ARGUMENT": "seconds, " * has_calendar,
        "SECONDS_PARAMETER": "double seconds, " * has_calendar,
        "TEST_SECONDS": "TEST_TIMES[step], " * has_calendar,
        "MAIN_SECONDS": "values[0], " * has_calendar,
        "DEFINES": "".join(f"#define RNN_{name} {value}\n" for name, value in macros.items()),
        "TABLES": "\n".join([*tables.parts, *lines]),
        "VECTORS": _vectors(series),
    }
    text = re.sub("@([A-Z0-9_]+)@", lambda found: values[found[1]], TEMPLATE.read_text("utf-8"))
    return re.sub(r"\brnn_", c_prefix(file_name), text), tables.num_bytes, ram


def _definitions(series: SeriesModel) -> dict[str, Any]:
    """Return the sizes of a model as the macros of the template, without their prefix."""
    options, source, target, num_labels = series.network.options, series.source, series.numbers, series.num_labels
    columns, parts = (len(target.columns), target.outputs_per_number) if target else (0, 0)
    return {
        "NUMBERS": len(source.columns),
        "GAPS": int(source.scaling.has_gaps),
        "LAG": source.difference,
        "CYCLES": len(source.cycles),
        "CALENDAR": num_time_features(source.cycles),
        "INPUTS": source.size,
        "HIDDEN": options.hidden,
        "WIDTH": max(source.size, options.hidden),
        "LAYERS": options.layers,
        "RESIDUAL": int(options.residual),
        "GATES": len(GATE_NAMES[options.cell]),
        "LSTM": int(options.cell == "lstm"),
        "GRU": int(options.cell == "gru"),
        "GRU_RESET_BEFORE": int(options.cell == "gru-reset-before"),
        "START": int(series.network.encoder.start is not None),
        "LABELS": num_labels,
        "PREDICTED": columns,
        "PARTS": parts,
        "GAUSSIAN": int(target is not None and target.loss == "gaussian"),
        "LOG_LIMIT": MAX_LOG_DEVIATION,
        "SORTED": int(target is not None and target.loss == "quantiles"),
        "VALUES": num_labels or columns * parts,
        "OUTPUTS": num_labels or columns * parts,
    }


def _ram_bytes(macros: dict[str, Any]) -> int:
    """Return about the size of the C struct of one series."""
    state = macros["LAYERS"] * macros["HIDDEN"] * (1 + macros["LSTM"])
    work = macros["INPUTS"] + 2 * macros["WIDTH"] + 2 * macros["GATES"] * macros["HIDDEN"] + macros["VALUES"]
    return int(4 * (state + work) + (12 * macros["NUMBERS"]) * (1 + macros["LAG"]) + 8 * (macros["LAG"] > 0))


def _add_tables(tables: Tables, series: SeriesModel) -> list[str]:
    """Add all arrays; return the definitions of scalings and layers."""
    source, target, network = series.source, series.numbers, series.network
    encoder = cast(Any, network.encoder)
    lines = [_scaling("SCALING", source.scaling)]
    if target is not None:
        lines.append(_scaling("PREDICTED", target.scaling))
    if source.difference:
        lines.append(_scaling("CHANGE", source.change))
    if source.cycles:
        lines.append(f"static const double CYCLES[] = {{{', '.join(repr(CYCLES[name]) for name in source.cycles)}}};")
    if network.options.residual:
        tables.add("INPUT_WEIGHT", _columns(array_of(encoder.input_layer.proj.weight)))
        tables.add("INPUT_BIAS", array_of(encoder.input_layer.proj.bias))
        tables.add("NORM_WEIGHT", array_of(encoder.norm.weight))
        tables.add("NORM_BIAS", array_of(encoder.norm.bias))
    if encoder.start is not None:
        for part, name in enumerate("HC"[: encoder.start.shape[1]]):
            tables.add(f"START_{name}", array_of(encoder.start[:, part]))
    layers = [_layer(tables, layer, index) for index, layer in enumerate(series.layers)]
    head = series.head
    tables.add("HEAD_WEIGHT", _columns(head.weight))
    tables.add("HEAD_BIAS", head.bias)
    tables.add("SKIP_WEIGHT", _columns(head.skip))
    return [*lines, "static const rnn_layer LAYERS[RNN_LAYERS] = {", *layers, "};"]


def _layer(tables: Tables, layer: TextLayer, index: int) -> str:
    parts = {
        "INPUT": _columns(layer.weight_ih),
        "RECURRENT": _columns(layer.weight_hh),
        "BIAS": layer.bias,
        "BIAS_HH": layer.bias_hh,
        "NORM_WEIGHT": layer.norm_weight,
        "NORM_BIAS": layer.norm_bias,
    }
    names = ["0" if array is None else tables.add(f"LAYER_{index}_{name}", array) for name, array in parts.items()]
    return f"    {{{layer.weight_ih.shape[1]}, {', '.join(names)}}},"


def _columns(matrix: Floats) -> Floats:
    """Return a matrix with the weights of each column together."""
    return np.ascontiguousarray(matrix.T)


def _double(value: float) -> str:
    """Return a C literal that reads as exactly this number."""
    return "NAN" if np.isnan(value) else ("-" if value < 0 else "") + "HUGE_VAL" if np.isinf(value) else repr(float(value))


def _scaling(name: str, scaling: Scaling) -> str:
    rows = zip(scaling.center, scaling.spread, scaling.low, scaling.high, strict=True)
    items = [f"    {{{', '.join(map(_double, row))}}}," for row in rows]
    return "\n".join([f"static const rnn_scaling {name}[] = {{", *items, "};"])


def _vectors(series: SeriesModel) -> str:
    values = series.compared_steps(TEST_STEPS, seed=1)
    outputs, seconds = series.expected_outputs(values), series.seconds_read(values)
    tolerance = TOLERANCE * series.output_ranges(outputs)
    return "\n".join(
        [
            f"#define TEST_STEPS {len(values)}",
            f"static const double TEST_NUMBERS[][RNN_NUMBERS] = {{\n{_rows(values)}}};",
            f"static const double TEST_OUTPUTS[][RNN_OUTPUTS] = {{\n{_rows(outputs)}}};",
            f"static const double TEST_TOLERANCE[] = {{{', '.join(map(_double, tolerance))}}};",
            *(
                [f"static const double TEST_TIMES[] = {{\n{wrap_lines(map(_double, seconds))}}};"]
                if series.source.cycles
                else []
            ),
        ]
    )


def _rows(values: NDArray[Any]) -> str:
    return wrap_lines(f"{{{', '.join(map(_double, row))}}}" for row in np.asarray(values))
