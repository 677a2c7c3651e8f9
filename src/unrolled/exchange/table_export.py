"""Export of a model of a table: to ONNX, its graph, what prepares its columns as JSON in it, and the comparison; or to C."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unrolled.checkpoints.array_file import read_model
from unrolled.checkpoints.run_dir import find_model, model_name, run_of_model
from unrolled.errors import UsageError
from unrolled.exchange.classifier_html_export import export_classifier_html, unsupported_classifier
from unrolled.exchange.export_job import SHAPES, TOLERANCE, ExportResult, difference
from unrolled.exchange.export_options import ExportOptions
from unrolled.exchange.exports import data_text, default_out
from unrolled.exchange.onnx_cells import ONNX_CELLS
from unrolled.exchange.onnx_export import FLOAT16_TOLERANCE, onnx_session, require_onnx
from unrolled.exchange.onnx_table import build_table_graph
from unrolled.exchange.series_c_export import export_series, unsupported_in_c
from unrolled.exchange.series_html_export import export_series_html, unsupported_series_in_page
from unrolled.exchange.series_onnx_export import export_series_onnx, unsupported_series_in_onnx
from unrolled.exchange.text_c_export import export_text_reader, unsupported_text_in_c
from unrolled.output_paths import check_outputs
from unrolled.runtime.portable import Weights

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile
    from unrolled.tables.column import Column

TABLE_FORMATS = ("c", "html", "onnx", "card")
"""The formats that models of tables and series have."""

PADDING = 5
"""Steps of padding that are added to a batch, to see that no row depends on them."""


@dataclass(frozen=True)
class TableExportJob:
    """What to export: the model, its file and the file to write."""

    model_file: TableModelFile
    path: Path
    out: Path
    title: str
    float16: bool = False
    data: str = ""
    """What the run was trained on, in words, for its card."""

    weights: Weights = "int8"
    """Number format of the weights of the page or C file of a model that reads a text."""


def is_table_model(path: Path) -> bool:
    """Return whether a run folder or model file has a model of a table. Raises `ModelError` for what is no model."""
    return read_model(find_model(path))[0].get("kind") == "table"


def open_table_job(path: Path, options: ExportOptions) -> TableExportJob:
    """Open the model of a table for export.

    Raises:
        ModelError: The file is damaged.
        UsageError: The model has no ONNX or C form and that is asked for, or a format that models of tables do not have.
    """
    from unrolled.checkpoints.model_file import load_table_model

    model_path = find_model(path)
    model_file = load_table_model(model_path)
    is_series = model_file.spec.is_stream
    if options.to not in TABLE_FORMATS:
        what, known = "series" if is_series else "table", " or ".join(f"--to {form}" for form in TABLE_FORMATS)
        raise UsageError(f"{model_path} is a model of a {what}, which has no form as {options.to}: use {known}.")
    reasons = {
        "onnx": unsupported_reason,
        "c": unsupported_in_c if is_series else unsupported_text_in_c,
        "html": unsupported_series_in_page if is_series else unsupported_classifier,
    }
    reason = reasons.get(options.to, lambda _: None)(model_file)
    if reason is not None:
        raise UsageError(f"{model_path} cannot be exported to {options.to}: {reason}. Use unrolled predict.")
    run = run_of_model(model_path)
    check_outputs(options, (model_path,), None if run is None else run.path)
    name = model_name(model_path, run)
    model_file.model.eval()
    out = Path(options.out) if options.out else default_out(options.to, name)
    return TableExportJob(model_file, model_path, out, name, options.float16, data_text(run), options.weights)


def unsupported_reason(model_file: TableModelFile) -> str | None:
    """Say why a model has no ONNX form, or return None if it has one."""
    model, spec = model_file.model, model_file.spec
    if spec.is_stream:
        return unsupported_series_in_onnx(model_file)
    if spec.others:
        return f"it reads several source columns ({spec.source_name}), and the graph has one source"
    for column in (spec.source, spec.target):
        if column.kind == "numbers":
            return f"'{column.name}' has numbers at every step, whose scaling and state are not part of the graph"
    if model.decoder is not None:
        return (
            f"it writes '{spec.target.name}' step by step ({spec.mode.name}), and the search for its best answer is not part "
            "of a graph"
        )
    if spec.source.tensor_kind == "image":
        return f"'{spec.source.name}' has images, whose preparation and network are not part of the graph"
    for options in (model.options, *([model.dims.base.options] if model.dims.base else [])):
        if options.cell not in ONNX_CELLS:
            return f"the cell {options.cell} has no ONNX form; these have: {', '.join(ONNX_CELLS)}"
    return None


def export_table(job: TableExportJob, to: str = "onnx") -> ExportResult:
    """Return the file of a model in ONNX, C or HTML, checked. Raises `ExportError` if it computes something else."""
    if to == "c" and not job.model_file.spec.is_stream:
        return export_text_reader(job.model_file, job.title, job.out, job.weights, job.path)
    if to == "c":
        return export_series(job.model_file, job.title, job.out)
    if to == "html" and job.model_file.spec.is_stream:
        return export_series_html(job.model_file, job.title, job.out)
    if to == "html":
        return export_classifier_html(job.model_file, job.title, job.out, job.weights, job.path)
    if job.model_file.spec.is_stream:
        return export_series_onnx(job.model_file, job.float16, job.out)
    require_onnx()
    import onnx

    proto = build_table_graph(job.model_file.model, job.float16, _metadata(job))
    onnx.checker.check_model(proto, full_check=True)
    content = proto.SerializeToString()
    check = compare(job, content)
    facts = {"opset": proto.opset_import[0].version, "float16": job.float16, "mode": job.model_file.spec.mode.name}
    return ExportResult({job.out: content}, [f"{job.out.name} in onnxruntime: {check}"], facts)


def compare(job: TableExportJob, content: bytes) -> str:
    """Compare the outputs with the model's at several lengths and batch sizes, with more padding; say what was compared.

    Raises:
        ExportError: A value differs by more than the tolerance times the largest value.
    """
    session = onnx_session(content)
    names = [item.name for item in session.get_outputs()]
    model, worst = job.model_file.model, 0.0
    cases = list(_cases(job))
    largest = {name: max(float(np.max(np.abs(case.expected[name]))) for case in cases) for name in names}
    for case in cases:
        for inputs in case.inputs:
            outputs = session.run(names, inputs)
            for name, output in zip(names, outputs, strict=True):
                ours, theirs = output, case.expected[name]
                if model.dims.mode.output == "aligned":  # what is at padding is not used
                    within = np.arange(len(inputs["source"]))[:, None] < inputs["lengths"]
                    ours, theirs = ours[within], theirs[within[: case.size[0]]]
                tolerance = FLOAT16_TOLERANCE if job.float16 else TOLERANCE
                worst = max(worst, difference(name, ours, theirs, case.size, tolerance, largest[name]))
    sizes = ", ".join("{}x{}".format(*case.size) for case in cases)
    padded = ", rows of different lengths, with and without more padding" if model.encoder.is_sequence else ""
    return f"every one of {' and '.join(names)} at lengths x batch sizes {sizes}{padded}: largest difference {worst:.1e}"


@dataclass(frozen=True)
class _Case:
    """A batch: its length and size, the inputs without and with more padding, and the model's outputs."""

    size: tuple[int, int]
    inputs: tuple[dict[str, NDArray[Any]], ...]
    expected: dict[str, NDArray[Any]]


def _cases(job: TableExportJob) -> Iterator[_Case]:
    model, generator = job.model_file.model, np.random.default_rng(1)
    for steps, batch_size in SHAPES:
        steps = steps if model.encoder.is_sequence else 1
        padded = {"source": _random_source(job, generator, steps, batch_size)}
        others = {"lengths": _random_lengths(generator, steps, batch_size)}
        if buckets := model.dims.ngram_buckets:  # with padding among them
            others["ngrams"] = generator.integers(0, buckets + 1, (steps, batch_size))
        if model.dims.base is not None:
            padded["base_ids"] = generator.integers(0, model.dims.base.vocab_size, (steps + 2, batch_size))
            others["base_lengths"] = _random_lengths(generator, steps + 2, batch_size)
        more = {name: np.concatenate([array, array[:1].repeat(PADDING, 0)]) for name, array in padded.items()}
        inputs = [part | others for part in ((padded, more) if model.encoder.is_sequence else (padded,))]
        yield _Case((steps, batch_size), tuple(inputs), _expected(job, inputs[0]))


def _random_lengths(generator: np.random.Generator, steps: int, batch_size: int) -> NDArray[np.int64]:
    """Return the lengths of rows, of which the first has all steps."""
    lengths = generator.integers(1, steps + 1, batch_size)
    lengths[0] = steps
    return lengths


def _random_source(job: TableExportJob, generator: np.random.Generator, steps: int, batch_size: int) -> NDArray[Any]:
    dims = job.model_file.model.dims
    if dims.source_tensor_kind == "ids":
        return generator.integers(0, dims.source_size, (steps, batch_size))
    return generator.standard_normal((steps, batch_size, dims.source_size)).astype(np.float32)


def _expected(job: TableExportJob, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the outputs of the graph as the network of PyTorch computes them."""
    import torch

    torch.set_num_threads(1)
    model = job.model_file.model
    with torch.inference_mode():
        values = model.logits({name: torch.from_numpy(array) for name, array in arrays.items()})
        if model.dims.mode.output != "aligned":
            values = values[0]
        if model.dims.target_tensor_kind != "ids":
            return {"numbers": values.numpy()}
        known = values[..., : max(1, values.shape[-1] - 1)]
        return {"logits": known.numpy(), "probabilities": known.softmax(-1).numpy()}


def _metadata(job: TableExportJob) -> dict[str, str]:
    spec = job.model_file.spec
    facts = {
        "kind": "table",
        "mode": spec.mode.name,
        "source": column_facts(spec.source),
        "target": column_facts(spec.target),
        "max_steps": spec.step_limit,
        "threshold": spec.threshold,
    }
    return {"unrolled": json.dumps(facts), "description": f"{spec.source.describe()} -> {spec.target.describe()}"}


def column_facts(column: Column) -> dict[str, Any]:
    """Return what a program needs to prepare a column: the tokens of a text, labels, or mean and scale of numbers."""
    from unrolled.tables.columns import column_to_json

    facts = column_to_json(column)
    return facts if column.unk_id is None else facts | {"unknown_id": column.unk_id}
