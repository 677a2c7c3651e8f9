"""`--to onnx`: a sequence graph and, in a file next to it, a step graph, both run by onnxruntime before they are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import UsageError
from unrolled.exchange.export_job import TOLERANCE, ExportJob, ExportResult, Runner, States, compare_with_reference
from unrolled.exchange.onnx_graph import build_graph
from unrolled.runtime.portable_arithmetic import Floats
from unrolled.text.tokenizer import Tokenizer

FLOAT16_TOLERANCE = 2e-2


def export(job: ExportJob) -> ExportResult:
    """Return the two ONNX files of a model, checked. Raises `ExportError` if onnxruntime computes something else."""
    require_onnx()
    import onnx

    files, checks, tolerance = {}, [], FLOAT16_TOLERANCE if job.float16 else TOLERANCE
    for path, is_step in ((job.out, False), (step_path(job.out), True)):
        proto = build_graph(job.model.network, is_step, job.float16, _metadata(job.model.tokenizer, job))
        onnx.checker.check_model(proto, full_check=True)
        files[path] = proto.SerializeToString()
        check = compare_with_reference(job, onnx_runner(files[path], is_step), tolerance)
        checks.append(f"{path.name} in onnxruntime: {check}")
    return ExportResult(files, checks, {"opset": proto.opset_import[0].version, "float16": job.float16})


def step_path(out: Path) -> Path:
    """Return the path of the step graph, next to that of the sequence graph: `book.onnx`, `book.step.onnx`."""
    return out.with_name(f"{out.stem}.step{out.suffix}")


def onnx_session(content: bytes) -> Any:
    """Return a session of onnxruntime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def onnx_runner(content: bytes, is_step: bool) -> Runner:
    """Return a function that runs a graph in onnxruntime on one thread; a step graph is called once for each step."""
    session = onnx_session(content)
    names = [item.name for item in session.get_inputs()]

    def call(ids: NDArray[np.int64], states: States) -> tuple[Floats, States]:
        parts = [part for layer in states for part in layer]
        logits, *rest = session.run(None, dict(zip(names, [ids, *parts], strict=True)))
        per_layer = len(states[0])
        return logits, [tuple(rest[i : i + per_layer]) for i in range(0, len(rest), per_layer)]

    def run(ids: NDArray[np.int64], states: States) -> tuple[Floats, States]:
        if not is_step:
            return call(ids, states)
        logits = []
        for row in ids:
            step_logits, states = call(row, states)
            logits.append(step_logits)
        return np.stack(logits), states

    return run


def _metadata(tokenizer: Tokenizer, job: ExportJob) -> dict[str, str]:
    facts: dict[str, Any] = {"tokenizer": tokenizer.to_json(), "documents": job.model.documents, "begin_id": tokenizer.bos_id}
    return {"unrolled": json.dumps(facts), "description": job.description}


def require_onnx() -> None:
    """Raise `UsageError` if onnx or onnxruntime is not installed."""
    try:
        import onnx  # noqa: F401  # only whether it is there
        import onnxruntime  # noqa: F401  # the same
    except ImportError as error:
        raise UsageError(
            f"--to onnx needs onnx and onnxruntime, and {error.name} is not installed: pip install 'unrolled[export]'."
        ) from error
