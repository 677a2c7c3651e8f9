"""TensorBoard's files say what the run's own logs say, once a step, and only where that was asked for."""

import sys
from pathlib import Path
from typing import Any

import pytest

from support.texts import sentences
from unrolled.checkpoints.run_dir import Run
from unrolled.checkpoints.tensorboard import SCALARS, TensorBoardWriter
from unrolled.cli.main import main

SMALL = (
    "--hidden",
    "8",
    "--batch",
    "4",
    "--bptt",
    "16",
    "--sample-length",
    "12",
    "--eval-every",
    "15",
    "--eval-tokens",
    "100",
    "--out",
    "run",
)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(sentences(200), "utf-8")
    return path


def events(run: str = "run") -> list[Any]:
    """Return all events of a run, in the order of its files, as TensorBoard's own reader finds them."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    return [event for path in sorted(Path(run, "tensorboard").iterdir()) for event in LegacyEventFileLoader(str(path)).Load()]


def shown(run: str = "run") -> dict[str, dict[int, Any]]:
    """Return tag -> step -> value; a step that is there twice is an error."""
    found: dict[str, dict[int, Any]] = {}
    for event in events(run):
        for value in event.summary.value:
            steps = found.setdefault(value.tag, {})
            assert event.step not in steps, (value.tag, event.step)
            steps[event.step] = value.tensor.string_val[0].decode() if value.HasField("tensor") else value.simple_value
    return found


def logged(run: str = "run") -> dict[str, dict[int, Any]]:
    """Return the same out of the run's own logs."""
    found: dict[str, dict[int, Any]] = {}
    for record in Run(Path(run)).metrics.read():
        for name, tag in SCALARS.get(record["event"], {}).items():
            found.setdefault(tag, {})[record["step"]] = pytest.approx(record[name], rel=1e-6)
    for record in Run(Path(run)).samples.read():
        found.setdefault("sample", {})[record["step"]] = "".join(f"    {line}\n" for line in record["text"].split("\n"))
    return found


def test_the_board_says_what_the_logs_say(words: Path) -> None:
    assert main(["train", str(words), *SMALL, "--steps", "45", "--log-to", "tensorboard"]) == 0
    assert shown() == logged()
    assert {"loss/train", "loss/validation", "training/learning_rate", "sample"} <= set(shown())
    times = [event.wall_time for event in events()]
    assert times == sorted(times)
    assert events()[0].file_version == "brain.Event:2"


@pytest.mark.slow
def test_a_resumed_run_has_every_step_once(words: Path) -> None:
    arguments = ["train", str(words), *SMALL, "--steps", "60", "--log-to", "tensorboard"]
    assert main([*arguments, "--stop-after", "25"]) == 0
    run = Run(Path("run"))
    losses = {"train_nats": 1.0, "lr": 1.0, "tokens_per_second": 1.0}
    late = {"event": "train", "step": 30, "seconds": 99.0, **losses}  # a resume from step 25 must drop it
    TensorBoardWriter(run).on_append(late)
    run.metrics.append(late)
    with open(next(Path("run", "tensorboard").iterdir()), "ab") as file:
        file.write(b"half a record")
    assert main(["train", "--resume", "run"]) == 0
    assert shown() == logged()
    assert sorted(shown()["loss/train"]) == [10, 20, 30, 40, 50, 60]
    assert shown()["training/learning_rate"][30] < 0.5


@pytest.mark.slow
def test_a_run_may_begin_to_be_shown_later(words: Path) -> None:
    assert main(["train", str(words), *SMALL, "--steps", "60", "--stop-after", "25"]) == 0
    assert main(["train", "--resume", "run", "--log", "tensorboard"]) == 0
    assert shown() == logged()
    assert sorted(shown()["loss/train"]) == [10, 20, 30, 40, 50, 60]


def test_a_divergence_leaves_no_step_twice(words: Path) -> None:
    assert main(["train", str(words), *SMALL, "--steps", "30", "--lr", "1e20", "--log-to", "tensorboard"]) == 5
    assert shown() == logged()


def test_a_missing_package_is_reported_before_anything_begins(
    words: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    assert main(["train", str(words), *SMALL, "--steps", "5", "--log-to", "tensorboard"]) == 2
    assert "--log-to tensorboard needs the package tensorboard: pip install 'unrolled[log]'" in capsys.readouterr().err
    assert not Path("run").exists()
