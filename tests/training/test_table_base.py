"""A table whose text is read from a base model on, where no label is predicted: weights, tokens and refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from support.cli import Cli
from support.tables import many_to_one, write_csv
from unrolled.checkpoints.model_file import TableModelFile, TextModelFile, load_model, save_model
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback

LETTERS = "\n abcdefghijklmnopqrstuvwxyz"
SETTINGS: dict[str, Any] = {"threads": 1, "progress": False, "batch": 8, "steps": 1, "lr": 1e-9, "weight_decay": 0.0}


def save_base(tokenizer: Tokenizer | None = None, **options: Any) -> TextModelFile:
    tokenizer = tokenizer or CharTokenizer(LETTERS)
    torch.manual_seed(0)
    network = RecurrentLM(tokenizer.vocab_size, ModelOptions(**{"hidden": 12, "layers": 2, **options}))
    model_file = TextModelFile(network, tokenizer)
    save_model(Path("base.safetensors"), model_file)
    return model_file


def train(**settings: Any) -> TableModelFile:
    rows = [{**row, "size": len(row["text"])} for row in many_to_one(40, 1)]
    rows[0]["text"] = "The réd dog"
    write_csv(Path("rows.csv"), rows)
    settings = {"init_from": "base.safetensors", "out": "run", **SETTINGS, **settings}
    model_file = load_model(Path(unrolled.train_table("rows.csv", "text", "size:number", **settings).path))
    assert isinstance(model_file, TableModelFile)
    return model_file


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "tokenizer"), [("lstm", None), ("gru", None), ("lstm", ByteTokenizer())])
def test_the_reader_has_the_weights_of_the_base(cell: Any, tokenizer: Tokenizer | None) -> None:
    base = save_base(tokenizer, cell=cell)
    model_file = train()
    encoder, column = model_file.model.encoder, model_file.spec.source
    assert model_file.model.options.cell == cell
    assert not model_file.model.pair.bidirectional
    assert encoder.stack is not None
    for name, weight in base.model.stack.state_dict().items():
        torch.testing.assert_close(encoder.stack.state_dict()[name], weight, rtol=0, atol=1e-6)
    vectors, rows = encoder.state_dict()["input_layer.embedding.weight"], base.model.embedding_matrix().detach()
    torch.testing.assert_close(vectors[: len(rows)], rows, rtol=0, atol=1e-6)
    torch.testing.assert_close(vectors[-1], rows.mean(0), rtol=0, atol=1e-6)
    if tokenizer is None:
        assert column.tokenizer is not None
        tokens = column.tokenizer.token_strings()
        assert tokens[: len(LETTERS)] == list(LETTERS)
        assert sorted(tokens[len(LETTERS) :]) == ["T", "é"]
        torch.testing.assert_close(vectors[tokens.index("T")], rows[LETTERS.index("t")], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_it_is_stored_resumed_and_read_without_the_base() -> None:
    save_base()
    whole = train(out="whole", steps=6, lr=1e-2).model.state_dict()
    train(steps=6, lr=1e-2, stop_after=2)
    Path("base.safetensors").unlink()
    launch.resume_run(Path("run"), {"stop_after": None}, ProgressCallback()).train()
    resumed = load_model(Path("run/model.safetensors")).model.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert float(unrolled.load_table("run").predict("a red dog")[0]) > 0


REFUSALS = {
    "--cell gru": "--cell gru is asked for, and base.safetensors has cell lstm",
    "--hidden 16": "--hidden 16 is asked for, and base.safetensors has hidden 12",
    "--layers 1": "--layers 1 is asked for, and base.safetensors has layers 2",
    "--bidirectional": "--bidirectional is asked for, and base.safetensors reads forward only",
    "--tokens words": "--tokens words is asked for, and base.safetensors has characters",
    "--source text:words": "has characters, and the source is text: text as words",
    "--source text:label": "reads one text, and the source is text:label -> size:number",
    "--source text,label --target size:number": "reads one text, and the source is",
}


@pytest.mark.parametrize("flags", REFUSALS)
def test_what_does_not_fit_is_refused_by_name(flags: str, cli: Cli) -> None:
    save_base()
    write_csv(Path("rows.csv"), [{**row, "size": len(row["text"]) + 1} for row in many_to_one(40, 1)])
    columns = [] if "--source" in flags else ["--source", "text"]
    target = [] if "--target" in flags else ["--target", "size:number"]
    result = cli("train", "rows.csv", *columns, *target, "--from", "base.safetensors", *flags.split(), "--steps", "1")
    assert result.code == 2
    assert REFUSALS[flags] in result.err


def test_bases_that_read_no_table(cli: Cli) -> None:
    write_csv(Path("rows.csv"), [{**row, "size": len(row["text"])} for row in many_to_one(40, 1)])
    flags = ["train", "rows.csv", "--source", "text", "--target", "size:number", "--steps", "1", "--from"]
    save_base(residual=False, embedding=8)
    assert "has layers that are not residual" in cli(*flags, "base.safetensors").err
    save_base(CharTokenizer("漢字"))
    assert "knows no character of this text" in cli(*flags, "base.safetensors").err
    train(init_from="none", hidden=8, layers=1)
    assert "is a model of a table, and one of texts is expected" in cli(*flags, "run").err
    assert "missing" in cli(*flags, "missing").err
