"""A model is made as sure of itself as it should be, on text that neither trained nor validates it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import sentences

from unrolled import job
from unrolled.api import load
from unrolled.data.corpus import open_corpus
from unrolled.inference.calibrate import LIMITS, calibrate
from unrolled.material import Material
from unrolled.nn.loss import cross_entropy
from unrolled.nn.model import SequenceModel
from unrolled.options import DataOptions, ModelOptions, TrainRequest
from unrolled.views.console import Quiet


def drawn(sureness: float) -> tuple[SequenceModel, torch.Tensor, torch.Tensor]:
    """Return a model, inputs, and targets drawn from its own odds; then its logits are made larger by `sureness`."""
    torch.manual_seed(0)
    model = SequenceModel(7, ModelOptions(hidden=16, layers=1, dropout=0)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.5)
    ids = torch.randint(7, (50, 400))
    with torch.no_grad():
        logits, _ = model(ids, model.initial_state(400))
        targets = torch.multinomial(logits.softmax(-1).flatten(0, 1), 1).view(50, 400)
        model.head.weight.mul_(sureness)
        model.head.bias.mul_(sureness)
    return model, ids, targets


@pytest.mark.parametrize("sureness", [0.9, 1.0, 1.1, 1.25])
def test_the_divisor_is_found(sureness: float) -> None:
    model, ids, targets = drawn(sureness)

    def loss() -> float:
        with torch.no_grad():
            return float(cross_entropy(model(ids, model.initial_state(400))[0], targets))

    before, weight = loss(), model.head.weight.clone()
    divisor = calibrate(model, loss)
    assert divisor == pytest.approx(sureness, rel=0.05)
    assert loss() <= before
    torch.testing.assert_close(model.head.weight, weight / divisor)


def test_a_loss_that_says_nothing_changes_nothing() -> None:
    model, _, _ = drawn(1.0)
    weight = model.head.weight.clone()
    assert calibrate(model, lambda: 1.0) == 1.0
    assert torch.equal(model.head.weight, weight)
    assert calibrate(model, lambda: float(model.head.weight.norm())) == LIMITS[1]  # no least in reach: never beyond the limits


def test_calibration_has_text_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(sentences(12000), "utf-8")
    for unit in ("stream", "line"):
        options = DataOptions(unit=unit)
        corpus = open_corpus([str(tmp_path / "long.txt")], options)
        material = Material(corpus, options, lambda note: None)
        assert material.kept is not None
        assert material.validation is not None
        assert 8192 - 100 <= len(material.kept) <= 8192 + 100
        parts = [material.train, material.kept, material.validation]
        if unit == "line":  # parts begin with the end that the one before ends with
            parts = [parts[0], parts[1][1:], parts[2][1:]]
        np.testing.assert_array_equal(np.concatenate(parts), corpus.ids)
    (tmp_path / "short.txt").write_text(sentences(400), "utf-8")
    assert Material(open_corpus([str(tmp_path / "short.txt")], DataOptions()), DataOptions(), lambda note: None).kept is None


def test_a_run_is_calibrated_in_the_end_and_its_file_with_it(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(sentences(12000), "utf-8")
    values = {"steps": 40, "hidden": 16, "batch": 8, "bptt": 16, "sample_length": 0, "out": "r", "precision": "float32"}
    outcome = job.start(TrainRequest.build((str(tmp_path / "long.txt"),), values, "test"), Quiet()).train()
    model = load("r", precision="float32")
    divisor = model.history["calibration"]
    assert LIMITS[0] <= divisor <= LIMITS[1]
    assert outcome.val_nats == pytest.approx(model.evaluate().nats, abs=1e-5)
    last = load("r/checkpoints/step-40")
    torch.testing.assert_close(model.network.head.weight * divisor, last.network.head.weight)
    assert math.isfinite(outcome.val_nats or math.nan)
