"""The folder of a new run, and the run that was started before."""

from __future__ import annotations

from pathlib import Path

from unrolled.checkpoints.run_dir import Run
from unrolled.datasets.stdlib import PREFIX
from unrolled.options import TrainRequest


def find_started_run(request: TrainRequest) -> Path | None:
    """Return the run that these processes began before torchrun restarted them; None if it has no checkpoint yet."""
    if request.run.out:
        run_dirs = [Path(request.run.out)]
    else:
        run_dirs = sorted(
            Path("runs").glob(f"{_run_name(request.inputs)}*"), key=lambda path: path.stat().st_mtime, reverse=True
        )
    return next((path for path in run_dirs if Run(path).checkpoints()), None)


def unused_run_dir(inputs: tuple[str, ...]) -> Path:
    """Return `runs/NAME` with the name of the first input, and a number appended if it exists."""
    stem = _run_name(inputs)
    path = Path("runs") / stem
    number = 2
    while path.exists():
        path = Path("runs") / f"{stem}-{number}"
        number += 1
    return path


def _run_name(inputs: tuple[str, ...]) -> str:
    """Return the name of a run, from its first input."""
    name = inputs[0]
    stem = name.removeprefix(PREFIX) if name.startswith(PREFIX) else Path(name).absolute().name.split(".")[0]
    return {"-": "stdin"}.get(name, stem) or "text"
