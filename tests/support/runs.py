"""Small training runs of every kind, and checks of what they leave in their folder."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from unrolled.atomic_io import TMP_MARK
from unrolled.checkpoints.model_file import load_checked, load_model
from unrolled.checkpoints.run_dir import Run
from unrolled.options import TrainRequest
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback

NOUNS, VERBS = ("the", "a", "old", "red", "dog", "fox"), ("jumps", "sleeps", "and")
TEXT = "".join(f"{NOUNS[(i * i + i // 7) % 6]} {VERBS[i % 3]}.\n" for i in range(300))
TABLE = "word,back\n" + "".join(f"{word},{word[::-1]}\n" for word in ("abc", "bcd", "cab", "dda", "bbc", "acd", "ba", "ad") * 8)
COMMON = {
    "batch": 2,
    "bptt": 4,
    "precision": "float32",
    "save_every": 1e-9,
    "eval_every": 3,
    "eval_tokens": 50,
    "kernels": "torch",
}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("t.txt", {"hidden": 8, "cell": "lstm", "dropout": 0.2, "optimizer": "muon", "sample_length": 6}),
    "lines": ("t.txt", {"hidden": 6, "cell": "gru", "documents": "line", "optimizer": "rmsprop", "sample_length": 4}),
    "table": ("t.csv", {"hidden": 8, "layers": 1, "source": "word:text", "target": "back:labels", "sample_length": 1}),
}  # fmt: skip
STEPS = {"text": 80, "lines": 90, "table": 70}


def train(kind: str, out: str, steps: int, **values: Any) -> int:
    """Start or go on with a run until it is done, as a user would who runs the command again after each crash."""
    name, own = RUNS[kind]
    path = Path(out)
    if Run(path).checkpoints():
        work = launch.resume_run(path, {}, ProgressCallback())
    else:
        work = launch.start_run(
            TrainRequest.build((name,), COMMON | own | {"out": out, "steps": steps} | values, "test"), ProgressCallback()
        )
    work.trainer.run.lock()
    left_behind = [str(found) for found in path.rglob(f"*{TMP_MARK}*")]
    if left_behind:
        raise AssertionError(f"what a killed process left is still there: {left_behind}")
    work.train()
    return 0


def train_undisturbed(kind: str, out: str, steps: int) -> int:
    """Train straight to the end, with few checkpoints."""
    return train(kind, out, steps, save_every=1e9)


def write_data(folder: Path) -> None:
    (folder / "t.txt").write_text(TEXT, "utf-8")
    (folder / "t.csv").write_text(TABLE, "utf-8")


def check_sound(path: Path) -> list[int]:
    """Hold everything in a run folder that has a final name readable and unmixed; return the steps of its checkpoints."""
    if not (path / "config.json").exists():
        assert not list(path.glob("checkpoints/step-*")), "a checkpoint without its configuration"
        return []
    assert json.loads((path / "config.json").read_text("utf-8"))["options"]
    run, steps = Run(path), []
    for step, folder in run.checkpoints():
        assert sorted(os.listdir(folder)) == ["MANIFEST.json", "model.safetensors", "training.safetensors"], folder
        manifest = json.loads((folder / "MANIFEST.json").read_text("utf-8"))
        assert set(manifest["sha256"]) == {"model.safetensors", "training.safetensors"}
        _, about = load_checked(folder / "training.safetensors")
        model = load_model(folder / "model.safetensors")
        assert manifest["step"] == about["state"]["used"]["steps"] == model.history["steps"] == step, "mixed"
        assert all(weight.isfinite().all() for weight in model.model.state_dict().values())
        steps.append(step)
    if steps:
        _, _, about, passed = run.load_checkpoint()
        assert (about["state"]["used"]["steps"], passed) == (steps[-1], [])
    if run.model_path.exists():
        load_model(run.model_path)
    for log in (run.metrics.path, run.samples.path):
        if log.is_file():
            whole, _, cut = log.read_bytes().rpartition(b"\n")
            assert all(json.loads(line) for line in whole.splitlines()), "only the last line may be cut"
            assert len(cut) < 1 << 16
    return steps


def logged(path: Path) -> list[dict[str, Any]]:
    """Return metrics and samples without what a clock decides; every line must parse."""
    lines = [line for name in ("metrics", "samples") for line in (path / f"{name}.jsonl").read_text("utf-8").split("\n")[:-1]]
    records = [json.loads(line) for line in lines]
    keys = [(record.get("event"), record["step"]) for record in records]
    assert len(keys) == len(set(keys)), "a step was logged twice"
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")} for record in records]


def assert_same_run(one: Path, other: Path, step: int) -> None:
    """Compare two finished runs bit for bit: weights, optimizer, carried state, position, best model, logs, samples."""
    for name in (
        f"checkpoints/step-{step}/model.safetensors",
        f"checkpoints/step-{step}/training.safetensors",
        "model.safetensors",
    ):
        (left, about), (right, others) = load_checked(one / name), load_checked(other / name)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), name
        if "state" in about:
            about["state"]["used"]["seconds"] = others["state"]["used"]["seconds"] = 0
            pairs = {key: (value, others["state"].get(key)) for key, value in about["state"].items()}
            unlike = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
            assert about["state"].keys() == others["state"].keys()
            assert not unlike, unlike
    assert logged(one) == logged(other)


def assert_resumes_exactly(text: Path, values: dict[str, Any], stop_after: int) -> None:
    """Hold a run that stops and is resumed equal to one that does not stop; they are in `broken` and `straight`."""

    def start(out: str, **more: Any) -> None:
        launch.start_run(TrainRequest.build((str(text),), values | {"out": out} | more, "test"), ProgressCallback()).train()

    start("straight")
    start("broken", stop_after=stop_after)
    launch.resume_run(Path("broken"), {"stop_after": None}, ProgressCallback()).train()
    assert_same_run(Path("straight"), Path("broken"), values["steps"])
