"""An optimizer from outside the package: a class and one entry in OPTIMIZERS, and everything else works with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from support.runs import assert_same_run
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import UsageError
from unrolled.training.optim import OPTIMIZERS, Optimizer

SMALL: dict[str, Any] = {
    "hidden": 12, "batch": 4, "bptt": 8, "sample_length": 9, "precision": "float32", "eval_tokens": 200, "progress": False,
}  # fmt: skip


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    state_keys = ("momentum",)

    @torch.no_grad()
    def step(self, lr: float, grad_scale: float = 1.0) -> None:
        for weight, momentum, gradient in zip(
            self.weights.values(), self.state["momentum"], self.gradients(grad_scale), strict=True
        ):
            weight.sub_(momentum.mul_(0.9).add_(gradient), alpha=lr)


@pytest.fixture
def sgd() -> Iterator[Any]:
    OPTIMIZERS["sgd"] = SGD
    yield "sgd"
    del OPTIMIZERS["sgd"]


def test_a_registered_optimizer_learns_and_resumes_exactly(sgd: Any, book: Path) -> None:
    unrolled.train(book, out="straight", optimizer=sgd, lr=0.5, steps=20, **SMALL)
    losses = [record["val_nats"] for record in Run(Path("straight")).metrics.read() if record["event"] == "validation"]
    assert losses[-1] < losses[0] - 0.2
    unrolled.train(book, out="broken", optimizer=sgd, lr=0.5, steps=20, stop_after=7, **SMALL)
    unrolled.train(resume="broken", stop_after=None, progress=False)
    assert_same_run(Path("straight"), Path("broken"), 20)


def test_an_unknown_optimizer_is_refused_with_the_names() -> None:
    with pytest.raises(UsageError, match="optimizer= is 'sgd'; expected one of adamw, muon, rmsprop"):
        unrolled.train("book.txt", optimizer="sgd")  # type: ignore[arg-type]  # not a key
