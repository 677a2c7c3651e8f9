"""What a model was trained on, as its card says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unrolled.checkpoints.run_dir import Run
from unrolled.printable import shell_argument


def data_text(run: Run | None) -> str:
    """Return the data and seed of a run, in words; "" if they are not known."""
    if run is None:
        return ""
    request: dict[str, Any] = run.config.get("options", {})
    inputs = request.get("inputs") or run.config.get("inputs") or []
    seed = (request.get("training") or {}).get("seed", request.get("seed"))
    fraction = (request.get("data") or {}).get("train_fraction", request.get("train_fraction"))
    text = " ".join(shell_argument(Path(str(name)).name) for name in inputs)  # without the folders of the computer it was on
    return f"{text or 'Not known'}; {fraction} of it for training, the rest is held out; seed {seed}."
