"""`--to onnx` for models of series: a sequence graph and a step graph, run by onnxruntime before they are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unrolled.exchange.export_job import TOLERANCE, ExportError, ExportResult
from unrolled.exchange.onnx_cells import ONNX_CELLS
from unrolled.exchange.onnx_export import FLOAT16_TOLERANCE, onnx_session, require_onnx, step_path
from unrolled.exchange.onnx_series import build_series_graph
from unrolled.exchange.series_model import SeriesModel, compared_series, unsupported_series
from unrolled.runtime.text_network import STATE_NAMES

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile

Inputs: TypeAlias = dict[str, NDArray[Any]]
Runner: TypeAlias = Callable[[Inputs, Inputs], tuple[NDArray[np.float64], Inputs]]
"""From `source` and `seconds` of several steps, and states, to the outputs `(T, B, V)` and the next states."""


def unsupported_series_in_onnx(model_file: TableModelFile) -> str | None:
    """Say why a model of series has no ONNX form, or return None if it has one."""
    return unsupported_series(model_file, ONNX_CELLS, "in ONNX")


def export_series_onnx(model_file: TableModelFile, float16: bool, out: Path) -> ExportResult:
    """Return the two ONNX files of a model of series, checked. Raises `ExportError` if they compute something else."""
    require_onnx()
    import onnx

    series, files, checks = SeriesModel.of(model_file), {}, []
    metadata = _metadata(series, model_file.spec.mode_text)
    for path, is_step in ((out, False), (step_path(out), True)):
        proto = build_series_graph(series, is_step, float16, metadata)
        onnx.checker.check_model(proto, full_check=True)
        files[path] = proto.SerializeToString()
        check = compare_series(series, series_runner(files[path], is_step), FLOAT16_TOLERANCE if float16 else TOLERANCE)
        checks.append(f"{path.name} in onnxruntime: {check}")
    facts = {"opset": proto.opset_import[0].version, "float16": float16, "mode": model_file.spec.mode_text}
    return ExportResult(files, checks, facts)


def first_state(series: SeriesModel, batch_size: int) -> Inputs:
    """Return the states that `batch_size` series start from, by name, in the order of the graph's inputs."""
    from unrolled.nn.cells import state_tensors

    layers = series.network.initial_state(batch_size).layers
    names = STATE_NAMES.get(series.network.options.cell, ("h",))
    state = {
        f"{name}_{index}": part.detach().numpy()
        for index, layer in enumerate(layers)
        for name, part in zip(names, state_tensors(layer), strict=True)
    }
    levels = np.zeros((max(1, series.source.difference), batch_size, len(series.source.columns)))
    return state | {name: levels for name in ("levels", "known")[: 1 + bool(series.source.difference)]}


def series_runner(content: bytes, is_step: bool) -> Runner:
    """Return a function that runs a graph in onnxruntime; a step graph is called once for each step."""
    session = onnx_session(content)
    names = [item.name for item in session.get_outputs()]

    def call(inputs: Inputs, states: Inputs) -> tuple[NDArray[np.float64], Inputs]:
        results = dict(zip(names, session.run(names, {**inputs, **states}), strict=True))
        results.pop("logits", None)
        following = {name: results.pop(f"next_{name}") for name in states}
        axes = 1 if is_step else 2
        return np.concatenate([part.reshape(*part.shape[:axes], -1) for part in results.values()], axis=-1), following

    def run(inputs: Inputs, states: Inputs) -> tuple[NDArray[np.float64], Inputs]:
        if not is_step:
            return call(inputs, states)
        outputs = []
        for step in range(len(inputs["source"])):
            output, states = call({name: array[step] for name, array in inputs.items()}, states)
            outputs.append(output)
        return np.stack(outputs), states

    return run


def compare_series(series: SeriesModel, run: Runner, tolerance: float) -> str:
    """Compare every output with the model's at several lengths and batch sizes, each series in two parts with the states
    carried over; say what was compared.

    Raises:
        ExportError: A value differs by more than `tolerance` times the range of the output.
    """
    cases = list(_cases(series))
    ranges = series.output_ranges(np.concatenate([expected.reshape(-1, expected.shape[-1]) for _, expected in cases]))
    worst = 0.0
    for inputs, expected in cases:
        steps, batch_size = len(expected) // 2, expected.shape[1]
        states, outputs = first_state(series, batch_size), []
        for part in (slice(steps), slice(steps, None)):
            output, states = run({name: array[part] for name, array in inputs.items()}, states)
            outputs.append(output)
        ours = np.concatenate(outputs)
        size = f"{steps} + {len(expected) - steps} steps and batch size {batch_size}"
        if ours.shape != expected.shape:
            raise ExportError(f"The exported outputs have shape {ours.shape} at {size}, and the model's have {expected.shape}.")
        error = float((np.abs(ours - expected) / ranges).max())
        if not error <= tolerance:
            raise ExportError(f"The exported outputs differ from the model's by {error:.2g} of their range at {size}.")
        worst = max(worst, error)
    shapes = ", ".join(f"{len(expected) // 2}x{expected.shape[1]}" for _, expected in cases)
    return f"every output at lengths x batch sizes {shapes}, states carried over: largest difference {worst:.1e} of its range"


def _cases(series: SeriesModel) -> Iterator[tuple[Inputs, NDArray[np.float64]]]:
    """Yield the inputs `(2 T, B, ...)` and outputs of batches of series."""
    for rows in compared_series(series):
        inputs = {"source": np.stack(rows, axis=1)}
        if series.source.cycles:
            inputs["seconds"] = np.stack([series.seconds_read(row) for row in rows], axis=1)
        yield inputs, np.stack([series.expected_outputs(row) for row in rows], axis=1)


def _metadata(series: SeriesModel, mode: str) -> dict[str, str]:
    target = series.numbers
    facts: dict[str, Any] = {
        "kind": "series",
        "mode": mode,
        "source": list(series.source.columns),
        "target": list(series.target.labels) if target is None else list(target.columns),
        "quantiles": list(target.quantiles) if target is not None and target.loss == "quantiles" else [],
        "horizon": series.horizon,
        "calendar": list(series.source.cycles),
        "initial_state": {name: array[..., 0, :].tolist() for name, array in first_state(series, 1).items() if array.any()},
    }
    description = f"{series.source.describe()} -> {series.target.describe()}; outputs: {series.describe_outputs}"
    return {"unrolled": json.dumps(facts), "description": description}
