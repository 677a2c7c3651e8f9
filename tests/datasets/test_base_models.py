"""The models of the package: small, sound, with a card that says what is true, and usable wherever a run is."""

import json
import re
from pathlib import Path

import pytest

import unrolled
from support.cli import Cli
from unrolled.datasets.base_models import BASE_MODELS, FOLDER, base_model_path, display_path
from unrolled.errors import DataError, ModelError

MAX_BYTES = 6_000_000


@pytest.mark.parametrize("name", BASE_MODELS)
def test_the_file_and_its_card(name: str) -> None:
    path = base_model_path(f"builtin:{name}")
    assert path.stat().st_size <= MAX_BYTES
    model = unrolled.load(f"builtin:{name}", threads=1)
    card = path.with_suffix(".md").read_text("utf-8")
    assert f"({model.history['val_nats']:.4f} nats) per character of the validation text" in card
    assert f"{model.parameters:,} parameters" in card
    for heading in ("Loss", "Memorization", "Training", "What it must not be used for", "Data"):
        assert f"## {heading}\n" in card
    assert {file.name for file in FOLDER.iterdir()} == {
        f"{base}.{end}" for base in BASE_MODELS for end in ("md", "safetensors")
    }


def test_names() -> None:
    assert display_path(base_model_path("builtin:english")) == "builtin:english"
    assert display_path(Path("english.safetensors")) == "english.safetensors"
    with pytest.raises(ModelError, match=r"There is no built-in model 'englsh'; did you mean 'english'\?"):
        unrolled.load("builtin:englsh")
    with pytest.raises(DataError, match="builtin:english is a model, and a text is expected.*init_from='builtin:english'"):
        unrolled.train("builtin:english", progress=False)


def test_the_english_model_has_its_own_temperature_which_a_call_overrides(cli: Cli) -> None:
    model = unrolled.load("builtin:english", threads=1)
    own, as_learned = (model.sample(length=40, seed=3, **options) for options in ({"temperature": 0.8}, {"temperature": 1}))
    assert (model.sample(length=40, seed=3), model.info()["generation"]) == (own, {"temperature": 0.8})
    assert own != as_learned
    call = ("sample", "builtin:english", "--length", 40, "--seed", 3)
    drawn, overridden = cli(*call), cli(*call, "--temperature", 1)
    assert (drawn.out.rstrip("\n"), overridden.out.rstrip("\n")) == (own.rstrip("\n"), as_learned.rstrip("\n"))
    note = "--temperature 0.8: the default of this model (--temperature 1: as it has learned)"
    assert (note in drawn.err, note in overridden.err) == (True, False)


def test_it_stands_where_a_run_does(cli: Cli) -> None:
    sample = cli("sample", "builtin:english", "--prompt", "It was ", "--length", 200)
    assert (sample.code, sample.out[:7], len(sample.out)) == (0, "It was ", 208)
    assert len(re.findall(r"\b(the|of|and|to|a|in|he|was|it|that|I)\b", sample.out)) > 5, "it reads as English"
    Path("text.txt").write_text("The old man was sitting by the fire when she came into the room.\n" * 3)
    assert json.loads(cli("eval", "builtin:english", "text.txt", "--json").out)["bits_per_character"] < 3
    assert "builtin:english" in cli("score", "builtin:english", "text.txt").out
    assert cli("export", "builtin:english", "--to", "card", "--out", "card.md").code == 0
    assert cli("info", "builtin:english").code == 0
    assert "builtin:english is a model without its run folder: name the text" in cli("eval", "builtin:english").err
