"""Sampling, scoring and evaluating a model of texts never imports torch; the texts and sentences are those that torch gives."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from unrolled.errors import ModelError
from unrolled.generation.sampling import stream_text
from unrolled.nn.kernels import extension
from unrolled.options import SampleOptions

GOLDEN = Path(__file__).parents[1] / "checkpoints" / "golden"
RUN = GOLDEN / "run"
WATCH = """
import contextlib, io, json, sys
from unrolled.cli.main import main
results = []
for argv in json.loads(sys.argv[1]):
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with contextlib.redirect_stdout(out):
        code = main(argv)
    results.append([code, out.buffer.getvalue().decode(), "torch" in sys.modules])
print(json.dumps(results))
"""
API = """
import json, sys
import unrolled
model = unrolled.load(sys.argv[1])
scored = model.score("cafe")
stream = model.scoring(sys.argv[2])
lines = [line.text for line in stream.lines()]
results = [model.sample("The", length=9), "".join(model.stream("The", length=9)), scored.bits_per_character, lines]
results += [model.evaluate(sys.argv[2]).bits, repr(model), model.parameters, model.sampling_backend(), model.run is None]
print(json.dumps([results, "torch" in sys.modules]))
"""


def run_python(script: str, *arguments: object, **environment: str) -> Any:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["", "none"], ids=["native", "without a compiler"])
def test_commands_and_functions_import_no_torch(tmp_path: Path, instructions: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the man\nand the cat\n", "utf-8")
    commands: list[list[str]] = [
        ["sample", str(RUN), "--length", "20"],
        ["sample", str(RUN), "--length", "20", "--count", "2", "--json", "--clamp", "0.3=1", "--top-k", "3"],
        ["sample", str(RUN), "--length", "20", "--kernels", "reference", "--prompt", "The"],
        ["score", str(RUN), str(text)],
        ["score", str(RUN), str(text), "--per", "character", "--clamp", "1.2=0"],
        ["score", str(RUN), str(text), "--json", "--compare", str(RUN)],
        ["eval", str(RUN), str(text)],
        ["eval", str(RUN), str(text), "--window", "4", "--json"],
    ]
    results = run_python(WATCH, json.dumps(commands), UNROLLED_INSTRUCTIONS=instructions)
    for command, (code, out, imported) in zip(commands, results, strict=True):
        assert (code, imported) == (0, False), command
        assert out, command
    found, imported = run_python(API, RUN, text, UNROLLED_INSTRUCTIONS=instructions)
    assert not imported
    model = unrolled.load(RUN, device="cpu", kernels="torch", precision="float32")
    assert found[0] == model.sample("The", length=9) == "The" + found[1]
    assert found[2] == pytest.approx(model.score("cafe").bits_per_character, abs=1e-4)
    assert found[3] == ["the man", "and the cat"]
    assert found[4] == pytest.approx(model.evaluate(str(text)).bits, abs=1e-4)
    assert found[5:7] == [repr(model), model.parameters]


def test_the_text_of_a_seed_is_the_same_before_and_after_torch_is_imported() -> None:
    settings: list[dict[str, Any]] = [{}, {"kernels": "reference"}, {"precision": "float32"}, {"precision": "bfloat16"}]
    for options in settings:
        model = unrolled.load(RUN, threads=1, **options)
        before = model.sample(length=60, seed=8), model.score("the man").bits
        network = model.network
        precision = model.session.sampling_precision
        assert model.sample(length=60, seed=8) == before[0]
        assert "".join(stream_text(network, model.tokenizer, SampleOptions(length=60), 8, precision=precision)) == before[0]
        np.testing.assert_allclose(model.score("the man").bits, before[1], atol=1e-6)


def test_weights_of_the_network_are_those_that_are_sampled_from() -> None:
    import torch

    model = unrolled.load(RUN, threads=1)
    before, bits = model.sample(length=60), model.score("the man").bits
    with torch.no_grad():
        model.network.head.weight.neg_()
    assert model.sample(length=60) != before
    assert not np.allclose(model.score("the man").bits[1:], bits[1:])


SENTENCES = {
    "README": ("is a text, and a run folder or model file is expected", 4),
    "cut": ("is no model file, or only the beginning of one", 4),
    "damaged": ("is damaged: its contents do not match its checksum", 4),
    "table": ("is a table model, not a text model: use `unrolled predict`", 4),
    "nothing": ("is no run folder and no model file", 4),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_what_is_no_model_of_texts_is_reported_as_before(cli: Cli, tmp_path: Path, name: str) -> None:
    good = (RUN / "model.safetensors").read_bytes()
    contents = {"README": b"# A model\n" * 20, "cut": good[:300], "damaged": good[:-1] + bytes([good[-1] ^ 1])}
    path = GOLDEN / "table.safetensors" if name == "table" else tmp_path / name
    if name in contents:
        path.write_bytes(contents[name])
    message, code = SENTENCES[name]
    (tmp_path / "text.txt").write_text("abc\n")
    for command in (["sample", path], ["score", path, tmp_path / "text.txt"]):
        result = cli(*command)
        assert (result.code, result.out) == (code, "")
        assert result.err.count("\n") == 1
        assert message in result.err
    with pytest.raises(ModelError, match="model"):
        unrolled.load(path)


def test_a_device_or_kernel_that_is_not_there_is_reported_at_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("cuda:77", "tpu"):
        with pytest.raises(unrolled.UnrolledError, match=f"device='{device}' is not available"):
            unrolled.load(RUN, device=device)
    monkeypatch.setattr(extension, "_load", lambda: (None, "not built here"))
    with pytest.raises(unrolled.UnrolledError, match="kernels='native' cannot run this model: not built here"):
        unrolled.load(RUN, kernels="native")
