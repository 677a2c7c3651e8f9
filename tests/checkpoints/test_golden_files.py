"""Files of format 1, written by version 0.1: they still load with the same logits and samples, and their training resumes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from unrolled.checkpoints.format_1 import upgrade
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.options import ModelOptions, PairOptions
from unrolled.tables.model_dims import ModelDims
from unrolled.tables.modes import Mode
from unrolled.training import launch
from unrolled.training.callbacks import NullProgress
from unrolled.training.launch import TrainResult

GOLDEN = Path(__file__).parent / "golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
REFERENCE: dict[str, Any] = {"kernels": "reference", "precision": "float32", "threads": 1}


@pytest.mark.parametrize("kernels", ["reference", "torch"])
def test_a_text_model_has_the_same_logits_and_the_same_sample(kernels: str) -> None:
    model = unrolled.load(GOLDEN / "run" / "model.safetensors", **{**REFERENCE, "kernels": kernels})
    assert np.abs(model.trace(EXPECTED["text"]).logits[-1] - np.array(EXPECTED["logits"])).max() < 1e-5
    assert model.sample("The", length=80, seed=7) == EXPECTED["sample"]


def test_a_model_of_bytes_has_the_same_logits_and_the_same_sample() -> None:
    model, expected = unrolled.load(GOLDEN / "bytes_run" / "model.safetensors", **REFERENCE), EXPECTED["bytes"]
    assert np.abs(model.trace(expected["text"]).logits[-1] - np.array(expected["logits"])).max() < 1e-5
    assert model.sample("na", length=40, seed=7) == expected["sample"]


@pytest.mark.parametrize("name", ["table", "decoder", "image"])
def test_a_table_model_has_the_same_predictions(name: str) -> None:
    expected = EXPECTED["tables"][name]
    predictions = unrolled.load_table(GOLDEN / f"{name}.safetensors", **REFERENCE).predictions(expected["sources"])
    assert [prediction.text for prediction in predictions] == expected["answers"]
    assert [prediction.probability for prediction in predictions] == pytest.approx(expected["probabilities"], abs=1e-5)


def test_every_weight_of_an_image_model_has_a_new_name() -> None:
    """A convolution is too large for a golden file, so its names are compared with those of a new model."""
    old_names = [
        *("head.weight", "head.bias", "temperature", "reader.norm.weight", "reader.norm.bias"),
        *("reader.front.into.weight", "reader.front.into.bias", "reader.front.place"),
        *(f"reader.front.layers.{layer}.{kind}" for layer in (0, 2, 4, 5) for kind in ("weight", "bias")),
    ]
    names, _ = upgrade(dict.fromkeys(old_names), {})
    dims = ModelDims(Mode("one-to-one", False, "single"), "image", 0, (4, 4, 1), "ids", 3, 0, 0)
    assert set(names) == set(EncoderDecoder(dims, ModelOptions(hidden=8, layers=1), PairOptions()).state_dict())


def resume(name: str, text: str) -> TrainResult:
    """Resume a golden run in a copy of its folder, on another machine than it began on."""
    shutil.copytree(GOLDEN / name, name)
    config = json.loads(Path(name, "config.json").read_text("utf-8"))
    config["inputs"] = [str(GOLDEN / text)]
    Path(name, "config.json").write_text(json.dumps(config), "utf-8")
    return launch.resume_run(Path(name), {"stop_after": None}, NullProgress(), allow_change=True).train()


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint() -> None:
    result = resume("run", "words.txt")
    assert result.steps == 120
    assert result.val_nats is not None
    assert result.val_nats < 2.6
    steps = [json.loads(line)["step"] for line in Path("run", "metrics.jsonl").read_text("utf-8").splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 120


def test_a_run_of_lines_of_bytes_with_rmsprop_goes_on_as_it_did_in_format_1() -> None:
    result = resume("bytes_run", "bytes.txt")
    assert result.steps == 40
    assert result.val_nats == pytest.approx(EXPECTED["bytes"]["val_nats_after_resume"], abs=1e-4)
    config = json.loads(Path("bytes_run", "config.json").read_text("utf-8"))
    assert config["format"] == 4
    assert {"content_hash", "cache_key", "explicit_options", "environment"} < set(config)
