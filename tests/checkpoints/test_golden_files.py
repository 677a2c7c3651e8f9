"""Files of this format, made once and kept: they load for ever, with the same scores, the same text, and go on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from unrolled.training import launch
from unrolled.training.callbacks import NullProgress

GOLDEN = Path(__file__).parent / "golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
PLAIN = {"kernels": "reference", "precision": "float32", "threads": 1}


@pytest.mark.parametrize("kernels", ["reference", "torch"])
def test_a_model_of_texts_has_the_same_logits_and_the_same_text(kernels: str) -> None:
    model = unrolled.load(GOLDEN / "run" / "model.safetensors", **{**PLAIN, "kernels": kernels})
    assert np.abs(model.trace(EXPECTED["text"]).logits[-1] - np.array(EXPECTED["logits"])).max() < 1e-5
    assert model.sample("The", length=80, seed=7) == EXPECTED["sample"]


def test_a_model_of_a_table_has_the_same_answers() -> None:
    model = unrolled.load_table(GOLDEN / "table.safetensors", **PLAIN)
    answers = model.answers(EXPECTED["sources"])
    assert [answer.text for answer in answers] == EXPECTED["answers"]
    assert [answer.probability for answer in answers] == pytest.approx(EXPECTED["probabilities"], abs=1e-5)


def test_a_run_goes_on_from_its_checkpoint() -> None:
    shutil.copytree(GOLDEN / "run", "run")
    config = json.loads(Path("run", "config.json").read_text("utf-8"))
    config["inputs"] = [str(GOLDEN / "words.txt")]
    Path("run", "config.json").write_text(json.dumps(config), "utf-8")
    outcome = launch.resume_run(Path("run"), {}, NullProgress(), allow_change=True).train()
    assert outcome.steps == 120
    assert outcome.val_nats is not None
    assert outcome.val_nats < 2.6
    steps = [json.loads(line)["step"] for line in Path("run", "metrics.jsonl").read_text("utf-8").splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 120
