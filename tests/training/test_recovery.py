"""Training that goes wrong goes on: back to what was good, at a lower rate; in smaller parts; or not at all, and says so."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unrolled.checkpoints.model_file import load_model
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import DivergedError, UsageError
from unrolled.options import TrainRequest
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback

SETTINGS: dict[str, Any] = {
    "hidden": 12, "batch": 4, "bptt": 8, "sample_length": 0, "precision": "float32", "dropout": 0.0, "token_dropout": 0.0,
    "state_reset_prob": 0.0, "optimizer": "adamw", "eval_tokens": 100,
}  # fmt: skip


def start(book: Path, out: str, **options: Any) -> launch.TrainingRun:
    return launch.start_run(TrainRequest.build((str(book),), {**SETTINGS, "out": out, **options}, "test"), ProgressCallback())


def rollbacks(run: str) -> list[dict[str, Any]]:
    return [record for record in Run(Path(run)).metrics.read() if record["event"] == "rollback"]


def all_finite(run: str) -> bool:
    models = [load_model(path) for path in Path(run).rglob("model.safetensors")]
    return bool(models) and all(bool(w.isfinite().all()) for saved in models for w in saved.model.parameters())


def poison(work: launch.TrainingRun, at: Callable[[int], bool], harm: Callable[[Tensor], Tensor]) -> list[int]:
    """Let the loss of some calls be harmed; return where it was."""
    network: Any = work.trainer.model
    honest, calls, harmed = network.loss, iter(range(10**9)), list[int]()

    def loss(batch: Mapping[str, Tensor], state: Any) -> tuple[Tensor, Any]:
        value, after = honest(batch, state)
        call = next(calls)
        if at(call):
            harmed.append(call)
            value = harm(value)
        return value, after

    work.trainer.train_step._loss = loss
    return harmed


@pytest.mark.slow
@pytest.mark.parametrize(("at", "harm"), [(0, math.nan), (7, math.inf), (33, -math.inf), (33, math.nan)])
def test_one_bad_step_is_gone_back_on(book: Path, harm: float, at: int, caplog: pytest.LogCaptureFixture) -> None:
    work = start(book, "run", steps=60)
    harmed = poison(work, lambda call: call == at, lambda loss: loss * harm)
    outcome = work.train()
    assert (outcome.steps, outcome.stop_signal, harmed) == (60, None, [at])
    assert [(record["step"], record["lr_factor"]) for record in rollbacks("run")] == [(0, 0.5)]
    assert sum("diverged" in message for message in caplog.messages) == 1
    assert all_finite("run")
    assert outcome.val_nats is not None
    assert math.isfinite(outcome.val_nats)
    rates = {record["step"]: record["lr"] for record in Run(Path("run")).metrics.read() if record["event"] == "train"}
    assert rates[30] == pytest.approx(0.5 * 8e-3 * 0.5, rel=0.1)


def test_it_goes_back_to_the_last_checkpoint_and_not_to_the_start(book: Path) -> None:
    work = start(book, "run", steps=60, save_every=1e-9)
    poison(work, lambda call: call == 44, lambda loss: loss * math.nan)
    assert work.train().steps == 60
    (record,) = rollbacks("run")
    assert 30 <= record["step"] <= 44


def test_an_explosion_is_gone_back_on(book: Path) -> None:
    work = start(book, "run", steps=60)
    poison(work, lambda call: 20 <= call < 30, lambda loss: loss * 50)
    assert work.train().steps == 60
    assert len(rollbacks("run")) == 1


def test_what_always_diverges_is_given_up_and_the_good_is_kept(book: Path, caplog: pytest.LogCaptureFixture) -> None:
    work = start(book, "run", steps=60, eval_every=10, save_every=1e-9)
    poison(work, lambda call: call >= 25, lambda loss: loss * math.nan)
    with pytest.raises(DivergedError, match="diverged"):
        work.train()
    assert [record["lr_factor"] for record in rollbacks("run")] == [0.5, 0.25, 0.125]
    assert sum("back to step" in message for message in caplog.messages) == 3
    assert all_finite("run")


@pytest.mark.slow
def test_a_resumed_run_remembers_that_it_was_slowed(book: Path) -> None:
    work = start(book, "run", steps=60, stop_after=40)
    poison(work, lambda call: call == 5, lambda loss: loss * math.nan)
    assert work.train().stop_signal == 0
    again = launch.resume_run(Path("run"), {}, ProgressCallback())
    assert again.trainer.state.rollbacks == 1
    assert again.train().steps == 60


@pytest.mark.slow
def test_a_resume_with_a_larger_budget_is_evaluated_again(book: Path) -> None:
    """The evaluations of the first budget counted for the second one too: what was learned later was never kept."""
    start(book, "run", steps=40).train()
    launch.resume_run(Path("run"), {"steps": 80}, ProgressCallback()).train()
    evaluated = [record["step"] for record in Run(Path("run")).metrics.read() if record["event"] == "validation"]
    assert evaluated[-1] == 80
    assert len([step for step in evaluated if step > 40]) >= 3


def short_of_memory(work: launch.TrainingRun, most_rows: int) -> None:
    """Let batches of more rows than `most_rows` find no memory."""
    network: Any = work.trainer.model
    honest = network.loss

    def loss(batch: Mapping[str, Tensor], state: Any) -> tuple[Tensor, Any]:
        if batch["inputs"].shape[1] > most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        result: tuple[Tensor, Any] = honest(batch, state)
        return result

    work.trainer.train_step._loss = loss


@pytest.mark.slow
@pytest.mark.parametrize(("documents", "most_rows"), [("none", 1), ("line", 2), ("none", 3)])
def test_a_batch_too_large_is_learned_from_in_parts(
    book: Path, documents: str, most_rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    straight = start(book, "straight", steps=12, documents=documents, batch=6, bptt=64)
    straight.train()
    work = start(book, "split", steps=12, documents=documents, batch=6, bptt=64)
    short_of_memory(work, most_rows)
    outcome = work.train()
    assert outcome.steps == 12
    assert any("out of memory" in message for message in caplog.messages)
    one, other = (dict(job.trainer.model.named_parameters()) for job in (straight, work))
    assert max(float((one[name] - other[name]).detach().abs().max()) for name in one) < 1e-5


def test_no_memory_for_a_single_row_is_an_error(book: Path) -> None:
    work = start(book, "run", steps=5)
    short_of_memory(work, 0)
    with pytest.raises(torch.OutOfMemoryError):
        work.train()


@pytest.mark.slow
def test_other_conditions_are_refused_unless_they_are_allowed(book: Path, caplog: pytest.LogCaptureFixture) -> None:
    work = start(book, "run", steps=20, stop_after=10)
    work.train()
    path = Path("run", "config.json")
    config = json.loads(path.read_text())
    config["environment"]["torch"] = "1.0"
    config["environment"]["device"] = "cuda"
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"torch was 1\.0.*device was cuda.*allow_change=True"):
        launch.resume_run(Path("run"), {}, ProgressCallback())
    assert launch.resume_run(Path("run"), {}, ProgressCallback(), allow_change=True).train().steps == 20
    assert any("torch was 1.0, now" in message and "results differ from those of" in message for message in caplog.messages)


@pytest.mark.slow
def test_rates_may_change_if_that_is_allowed_and_shapes_never(book: Path) -> None:
    work = start(book, "run", steps=20, stop_after=10)
    work.train()
    with pytest.raises(UsageError, match=r"lr= was .*allow_change=True"):
        launch.resume_run(Path("run"), {"lr": 0.1}, ProgressCallback())
    with pytest.raises(UsageError, match="hidden= was 12"):
        launch.resume_run(Path("run"), {"hidden": 13}, ProgressCallback(), allow_change=True)
    again = launch.resume_run(Path("run"), {"lr": 0.004}, ProgressCallback(), allow_change=True)
    assert again.request.training.lr == 0.004
    assert again.train().steps == 20


def test_allow_change_is_for_resume(cli: Callable[..., Any], book: Path) -> None:
    assert cli("train", book, "--allow-change").code == 2
