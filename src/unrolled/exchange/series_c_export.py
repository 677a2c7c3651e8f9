"""`--to c` for models of series: one C99 file that reads the numbers of a step and writes what is predicted, in their units.

The code is `templates/series.c`, with scaling, gaps, changes and the calendar; its tables and definitions are filled in here.
The file is compiled and replays its test vectors before it is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from unrolled import __version__
from unrolled.exchange.c_export import OPTIMIZATIONS, find_compiler, run_c_test
from unrolled.exchange.c_source import Tables, c_prefix, wrap_lines
from unrolled.exchange.export_job import ExportResult
from unrolled.nn.number_loss import MAX_LOG_DEVIATION, deviation, split_outputs
from unrolled.printable import shell_argument
from unrolled.runtime.text_network import GATE_NAMES, cell_layer
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.step_arrays import StepArray
from unrolled.tables.time_features import CYCLES, DAY, next_seconds, num_time_features

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile
    from unrolled.nn.encoder_decoder import EncoderDecoder
    from unrolled.tables.column import Column
    from unrolled.tables.scaling import Scaling

TEMPLATE = Path(__file__).parent / "templates" / "series.c"
CELLS = ("rnn", "gru", "gru-reset-before", "lstm")
TEST_STEPS, MAX_NAMED_LABELS = 48, 40
TOLERANCE = 2e-4
"""Largest difference of an output, as a fraction of the range of the outputs."""


def unsupported_in_c(model_file: TableModelFile) -> str | None:
    """Say why a model has no C form, or return None if it has one."""
    spec, source = model_file.spec, model_file.spec.source
    if not spec.is_stream or not isinstance(source, NumbersColumn):
        return "a C file reads series, numbers at every step, and predicts something at every step"
    if model_file.model.options.cell not in CELLS:
        return f"the cell {model_file.model.options.cell} is not in the C file; these are: {', '.join(CELLS)}"
    if source.covariates:
        return "--known-covariates are read with the step that is predicted, and a C file is given the numbers of a step alone"
    if source.center != "none" or source.scale != "all":
        return "--center and --scale need the other numbers of a series, which a step does not know"
    return None


def export_series(model_file: TableModelFile, title: str, out: Path) -> ExportResult:
    """Return the C file of a model of series, checked. Raises `ExportError` if it computes something else."""
    source, flash, ram = series_source(model_file, title, out.name)
    compiler, checks = find_compiler(), []
    if compiler is None:
        checks.append("not compiled: there is no C compiler here. Compile it with -DTEST to replay its test vectors")
    else:
        replies = [run_c_test(compiler, source, optimization) for optimization in OPTIMIZATIONS]
        checks.append(f"{Path(compiler).name} {' and '.join(OPTIMIZATIONS)}: {replies[0]}")
    facts = {"weights": "float32", "flash_bytes": flash, "ram_bytes": ram, "mode": model_file.spec.mode_text}
    return ExportResult({out: source.encode()}, checks, facts)


@dataclass(frozen=True)
class _Series:
    """A model of series: its columns, of which a target of numbers is `numbers` too, and the network."""

    source: NumbersColumn
    target: Column
    numbers: NumbersColumn | None
    horizon: int
    network: EncoderDecoder

    @staticmethod
    def of(model_file: TableModelFile) -> _Series:
        spec = model_file.spec
        if not isinstance(spec.source, NumbersColumn) or not spec.is_stream:
            raise ValueError("The model does not read a series.")
        numbers = spec.target if isinstance(spec.target, NumbersColumn) else None
        return _Series(spec.source, spec.target, numbers, spec.horizon, model_file.model)

    @property
    def num_labels(self) -> int:
        """Labels that can be predicted: all but the unknown one."""
        return 0 if self.numbers else max(1, self.network.dims.target_size - 1)

    @property
    def describe_outputs(self) -> str:
        """What a step writes, in words."""
        if self.numbers is None:
            return f"the probabilities of {', '.join(list(self.target.labels)[:MAX_NAMED_LABELS])}"
        columns, when = ", ".join(self.numbers.columns), "the next step" if self.horizon else "this step"
        if self.numbers.loss == "gaussian":
            return f"the mean of {columns} at {when}, then the standard deviation of each"
        if self.numbers.loss == "quantiles":
            levels = ", ".join(f"{level:g}" for level in self.numbers.quantiles)
            return f"the quantiles {levels} at {when}, each of {columns}"
        return f"{columns} at {when}"


def series_source(model_file: TableModelFile, title: str, file_name: str) -> tuple[str, int, int]:
    """Return the C file of a model of series, the bytes of its tables, and the bytes of RAM of one series."""
    series, tables = _Series.of(model_file), Tables()
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


def _definitions(series: _Series) -> dict[str, Any]:
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


def _add_tables(tables: Tables, series: _Series) -> list[str]:
    """Add all arrays; return the definitions of scalings and layers."""
    source, target, network = series.source, series.numbers, series.network
    encoder, head, skip = (cast(Any, part) for part in (network.encoder, network.head, network.skip))
    lines = [_scaling("SCALING", source.scaling)]
    if target is not None:
        lines.append(_scaling("PREDICTED", target.scaling))
    if source.difference:
        lines.append(_scaling("CHANGE", source.change))
    if source.cycles:
        lines.append(f"static const double CYCLES[] = {{{', '.join(repr(CYCLES[name]) for name in source.cycles)}}};")
    if network.options.residual:
        tables.add("INPUT_WEIGHT", _columns(encoder.input_layer.proj.weight))
        tables.add("INPUT_BIAS", _array(encoder.input_layer.proj.bias))
        tables.add("NORM_WEIGHT", _array(encoder.norm.weight))
        tables.add("NORM_BIAS", _array(encoder.norm.bias))
    if encoder.start is not None:
        for part, name in enumerate("HC"[: encoder.start.shape[1]]):
            tables.add(f"START_{name}", _array(encoder.start[:, part]))
    layers = [_layer(tables, layer, index, network.options.cell) for index, layer in enumerate(encoder.stack.layer_list())]
    known, temperature = slice(series.num_labels or None), 1.0 if target else float(network.temperature)
    tables.add("HEAD_WEIGHT", _columns(head.weight[known] / temperature))
    tables.add("HEAD_BIAS", _array(head.bias[known] / temperature))
    tables.add("SKIP_WEIGHT", _columns(skip.weight[known] / temperature))
    return [*lines, "static const rnn_layer LAYERS[RNN_LAYERS] = {", *layers, "};"]


def _layer(tables: Tables, layer: Any, index: int, cell: str) -> str:
    arrays = cell_layer({name: _array(value) for name, value in layer.cell.named_parameters()}, GATE_NAMES[cell])
    norm = (None, None) if layer.norm is None else (_array(layer.norm.weight), _array(layer.norm.bias))
    parts = {
        "INPUT": arrays.weight_ih.T,
        "RECURRENT": arrays.weight_hh.T,
        "BIAS": arrays.bias,
        "BIAS_HH": arrays.bias_hh,
        "NORM_WEIGHT": norm[0],
        "NORM_BIAS": norm[1],
    }
    names = [
        "0" if array is None else tables.add(f"LAYER_{index}_{name}", np.ascontiguousarray(array, dtype=np.float32))
        for name, array in parts.items()
    ]
    return f"    {{{arrays.weight_ih.shape[1]}, {', '.join(names)}}},"


def _array(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.ascontiguousarray(tensor.detach().float().numpy())
    return array


def _columns(tensor: Any) -> NDArray[np.float32]:
    """Return a matrix with the weights of each column together."""
    return np.ascontiguousarray(_array(tensor).T)


def _double(value: float) -> str:
    """Return a C literal that reads as exactly this number."""
    return "NAN" if np.isnan(value) else ("-" if value < 0 else "") + "HUGE_VAL" if np.isinf(value) else repr(float(value))


def _scaling(name: str, scaling: Scaling) -> str:
    rows = zip(scaling.center, scaling.spread, scaling.low, scaling.high, strict=True)
    items = [f"    {{{', '.join(map(_double, row))}}}," for row in rows]
    return "\n".join([f"static const rnn_scaling {name}[] = {{", *items, "};"])


def compared_steps(source: NumbersColumn) -> StepArray:
    """Return steps to compare on: a walk through the range of each column, with a spike, and gaps if there may be some."""
    draw = np.random.default_rng(1)
    walk = np.cumsum(draw.standard_normal((TEST_STEPS, len(source.columns))), axis=0)
    values = source.scaling.center + source.scaling.spread * (0.4 * walk + draw.standard_normal(walk.shape))
    values[TEST_STEPS // 2, 0] += 1000 * source.scaling.spread[0]
    if source.scaling.has_gaps:
        values[draw.random(values.shape) < 0.1] = np.nan
    start = float(np.datetime64("2024-02-27", "s").astype(np.int64))
    step = min((CYCLES[cycle] for cycle in source.cycles), default=DAY) / 7
    return StepArray.make(values, seconds=start + step * np.arange(TEST_STEPS + 1)[: len(values)])


def expected_outputs(series: _Series, values: StepArray) -> NDArray[np.float64]:
    """Return the outputs `(T, RNN_OUTPUTS)` for the steps of a series, as the network of PyTorch and its columns give them."""
    import torch

    inputs, target = series.source.to_inputs(values), series.numbers
    with torch.inference_mode():
        outputs, _ = series.network.stream(torch.from_numpy(inputs)[:, None], series.network.initial_state(1))
        outputs = outputs[:, 0].float()
        if target is None:
            return np.asarray(outputs[:, : series.num_labels].double().softmax(-1).numpy())
        parts = split_outputs(outputs, len(target.columns))
        deviations = deviation(parts[1]).double().numpy() if target.loss == "gaussian" else None
    lag, steps = max(1, target.difference), np.arange(len(inputs))
    before = np.where(steps + 1 >= lag, steps + 1 - lag, steps)  # of a series that is shorter than the lag, the last number
    levels = inputs[before, : len(target.columns)].astype(np.float64)
    numbers = [target.unscale(target.after(part, levels)) for part in parts.double().numpy()]
    if deviations is not None:
        numbers[1] = deviations * target.scaling.spread * (target.change.spread if target.difference else 1.0)
    if target.loss == "quantiles":
        numbers = list(np.sort(np.stack(numbers), axis=0))
    return np.concatenate(numbers, axis=1)


def _vectors(series: _Series) -> str:
    values, source = compared_steps(series.source), series.source
    outputs, seconds = expected_outputs(series, values), values.seconds
    if series.horizon:
        seconds = np.append(seconds[1:], next_seconds(seconds, 1))
    ranges = np.ptp(outputs, axis=0) + (series.num_labels > 0)
    tolerance = TOLERANCE * np.maximum(ranges, 1e-3 * ranges.max())
    return "\n".join(
        [
            f"#define TEST_STEPS {len(values)}",
            f"static const double TEST_NUMBERS[][RNN_NUMBERS] = {{\n{_rows(values)}}};",
            f"static const double TEST_OUTPUTS[][RNN_OUTPUTS] = {{\n{_rows(outputs)}}};",
            f"static const double TEST_TOLERANCE[] = {{{', '.join(map(_double, tolerance))}}};",
            *([f"static const double TEST_TIMES[] = {{\n{wrap_lines(map(_double, seconds))}}};"] if source.cycles else []),
        ]
    )


def _rows(values: NDArray[Any]) -> str:
    return wrap_lines(f"{{{', '.join(map(_double, row))}}}" for row in np.asarray(values))
