"""Importing with the command line; the check refuses weights that were written in another convention."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.imported import text_model
from support.texts import sentences
from unrolled.checkpoints.model_file import TextModelFile
from unrolled.errors import ModelError, UsageError
from unrolled.exchange.gate_orders import ORDERS
from unrolled.exchange.import_check import PROSE, run_check
from unrolled.exchange.import_options import ImportOptions
from unrolled.exchange.imports import import_file

TRAINING: dict[str, Any] = {
    "hidden": 32, "layers": 1, "embedding": 8, "residual": False, "dropout": 0.0, "batch": 8, "bptt": 32, "steps": 120,
    "threads": 1, "sample_length": 0, "calibrate": False, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, torch.Tensor], str]]:
    """A trained LSTM and a trained GRU: tensors by the names of PyTorch, and characters."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "book.txt").write_text(sentences(800), "utf-8")
    found = {}
    for cell in ("lstm", "gru"):
        model = unrolled.train(
            str(folder / "book.txt"), cell=cell, two_biases=cell == "gru", out=str(folder / cell), **TRAINING
        )
        state = {name: value.detach() for name, value in model.network.state_dict().items()}
        prefix = "stack.layers.0.cell."
        names = {"weight_ih": "weight_ih_l0", "weight_hh": "weight_hh_l0", "bias": "bias_ih_l0", "bias_hh": "bias_hh_l0"}
        tensors = {f"rnn.{new}": state[prefix + old] for old, new in names.items() if prefix + old in state}
        tensors |= {name: state[name] for name in ("embedding.weight", "head.weight", "head.bias")}
        found[cell] = tensors, "".join(model.tokenizer.token_strings())
    return found


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "other.txt").write_text(sentences(80, seed=5), "utf-8")
    return str(tmp_path / "other.txt")


def write(folder: Path, tensors: dict[str, torch.Tensor], characters: str) -> Path:
    torch.save({"state_dict": tensors, "chars": characters}, folder / "lm.pt")
    return folder / "lm.pt"


def gates(tensors: dict[str, torch.Tensor], order: list[int]) -> dict[str, torch.Tensor]:
    """Return the tensors with the blocks of the gates in another order."""
    return {
        name: torch.cat([value.chunk(len(order))[i] for i in order]) if name.startswith("rnn") else value
        for name, value in tensors.items()
    }


@pytest.mark.slow
def test_a_right_file_passes_and_is_a_model_like_any_other(trained: Any, text: str, tmp_path: Path, cli: Cli) -> None:
    path = write(tmp_path, *trained["lstm"])
    done = cli("import", path, "--text", text)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == f"PyTorch model: lstm, 1 layer of 32 units, embedding 8, {len(trained['lstm'][1])} tokens"
    assert "bits per token; chance is 4." in lines[2]
    assert lines[-1] == "model: runs/lm/model.safetensors"
    assert "warning" not in done.out
    assert done.err == "Next: unrolled sample runs/lm\n"
    sampled = cli("sample", "runs/lm", "--prompt", "The ", "--length", 20)
    assert sampled.out.startswith("The ")
    assert cli("eval", "runs/lm", text).code == cli("score", "runs/lm", text).code == cli("explain", "runs/lm", text).code == 0
    model = unrolled.load("runs/lm")
    assert model.history["import"]["check"]["bits"] == pytest.approx(model.evaluate(text).bits, abs=0.2)
    assert model.history["import"]["check"]["better"] is None
    lines = cli("info", "runs/lm").out.splitlines()
    assert max(map(len, lines)) < 128
    assert f"      bits: {model.history['import']['check']['bits']:.4g}" in lines


@pytest.mark.slow
@pytest.mark.parametrize("order", [order for order in ORDERS["lstm"] if order != "ifgo"])
def test_an_lstm_in_another_order_is_refused_by_its_name(order: str, trained: Any, text: str, tmp_path: Path) -> None:
    tensors, characters = trained["lstm"]
    path = write(tmp_path, gates(tensors, ["ifgo".index(gate) for gate in order]), characters)
    with pytest.raises(ModelError, match=rf"gates in the order {' '.join(order)} .*Nothing was written"):
        import_file(path, ImportOptions(text=text))


def test_a_missing_one_on_the_forget_gate_is_noticed(trained: Any, text: str, tmp_path: Path) -> None:
    tensors, characters = trained["lstm"]
    bias = tensors["rnn.bias_ih_l0"].clone()
    bias[32:64] -= 1
    path = write(tmp_path, {**tensors, "rnn.bias_ih_l0": bias}, characters)
    with pytest.raises(ModelError, match=r"another convention .*: \+1 on the forget gate"):
        import_file(path, ImportOptions(text=text))


def test_a_gru_in_another_convention_is_refused(trained: Any, text: str, tmp_path: Path) -> None:
    tensors, characters = trained["gru"]
    import_file(write(tmp_path, tensors, characters), ImportOptions(text=text))
    swapped = write(tmp_path, gates(tensors, [1, 0, 2]), characters)
    with pytest.raises(ModelError, match="gates in the order z r n"):
        import_file(swapped, ImportOptions(text=text))
    signs = torch.ones(96)
    signs[32:64] = -1
    inverted = {k: v * (signs[:, None] if v.ndim == 2 else signs) if k.startswith("rnn") else v for k, v in tensors.items()}
    with pytest.raises(ModelError, match="update gate inverted"):
        import_file(write(tmp_path, inverted, characters), ImportOptions(text=text))


def test_transposed_recurrent_weights_are_refused(trained: Any, text: str, tmp_path: Path) -> None:
    tensors, characters = trained["lstm"]
    turned = torch.cat([block.T for block in tensors["rnn.weight_hh_l0"].chunk(4)])
    with pytest.raises(ModelError, match="recurrent weights transposed"):
        import_file(write(tmp_path, {**tensors, "rnn.weight_hh_l0": turned}, characters), ImportOptions(text=text))


def test_the_order_of_the_characters_of_a_text_is_found(trained: Any, tmp_path: Path) -> None:
    """A text has no order of ids: programs sort its characters, or number them by frequency or first occurrence."""
    tensors, characters = trained["lstm"]
    book = sentences(800)
    (tmp_path / "book.txt").write_text(book)
    by_frequency = sorted(set(book), key=lambda c: (-book.count(c), book.index(c)))
    order = [characters.index(c) for c in by_frequency]
    permuted = {k: v[order] if not k.startswith("rnn") else v for k, v in tensors.items()}
    torch.save(permuted, tmp_path / "lm.pt")
    imported = import_file(tmp_path / "lm.pt", ImportOptions(vocabulary=str(tmp_path / "book.txt")))
    assert imported.notes[-1].endswith("are numbered in the order: frequency")
    assert imported.check is not None
    assert imported.check.has_learned
    assert "".join(text_model(imported).tokenizer.token_strings()) == "".join(by_frequency)


def test_a_random_model_is_imported_with_a_warning(tmp_path: Path, cli: Cli) -> None:
    torch.manual_seed(8)
    characters = "".join(sorted(set(PROSE)))
    rnn, head = torch.nn.LSTM(len(characters), 7, 2), torch.nn.Linear(7, len(characters))
    tensors = torch.nn.ModuleDict({"rnn": rnn, "head": head}).state_dict()
    done = cli("import", write(tmp_path, tensors, characters), "--json", "--out", "there.safetensors")
    result = json.loads(done.out)
    assert result["model"] == "there.safetensors"
    assert result["check"]["text"] == "built-in prose"
    assert result["check"]["bits"] == pytest.approx(result["check"]["chance"], abs=0.3)
    assert len(result["check"]["others"]) == 9
    assert "warning: not clearly better than chance" in cli("import", tmp_path / "lm.pt", "--out", "r2").out


def test_layers_of_different_widths_are_padded_with_units_that_stay_zero(tmp_path: Path) -> None:
    torch.manual_seed(9)
    for kind in (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN):
        emb, one, two, fc = torch.nn.Embedding(9, 3), kind(3, 8), kind(8, 5), torch.nn.Linear(5, 9)
        ids = torch.arange(9)
        expected = fc(two(one(emb(ids))[0])[0]).detach().numpy()
        tensors = torch.nn.ModuleDict({"emb": emb, "rnn1": one, "rnn2": two, "fc": fc}).state_dict()
        model_file = import_file(write(tmp_path, tensors, "abcdefgh\n"), ImportOptions()).model_file
        assert isinstance(model_file, TextModelFile)
        model = model_file.model
        ys, state = model.stack.unroll(model.embedding(ids[:, None]), model.initial_state(1))
        assert model.head(ys)[:, 0].detach().numpy() == pytest.approx(expected, abs=1e-5)
        assert np.count_nonzero(state.layers[1].h.detach().numpy()[0, 5:]) == 0


def test_what_exists_is_not_overwritten(trained: Any, text: str, tmp_path: Path, cli: Cli) -> None:
    path = write(tmp_path, *trained["lstm"])
    assert cli("import", path, "--text", text, "--out", "r").code == 0
    before = Path("r/model.safetensors").read_bytes()
    again = cli("import", path, "--text", text, "--out", "r")
    assert (again.code, again.err) == (
        2, "unrolled: r/model.safetensors exists already: choose another name with --out, or overwrite it with --force.\n",
    )  # fmt: skip
    assert cli("import", path, "--text", text, "--out", "r", "--force").code == 0
    assert Path("r/model.safetensors").read_bytes() == before
    Path("r/config.json").write_text("{}")
    assert "is the folder of a training" in cli("import", path, "--out", "r", "--force").err
    assert "is a model of unrolled already" in cli("import", "r/model.safetensors", "--out", "r2").err
    assert cli("import", tmp_path / "no.t7").code == 4
    assert "There is no text" in cli("import", path, "--text", "no.txt", "--out", "r3").err
    assert "There is no vocabulary file" in cli("import", path, "--vocabulary", "no.json", "--out", "r3").err
    assert not Path("r3").exists()


def test_a_text_that_the_model_cannot_read_is_refused(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("\u65e5\u672c" * 100)
    with pytest.raises(ModelError, match="has 0 characters that the model can be checked on"):
        import_file(write(tmp_path, *trained["lstm"]), ImportOptions(text=str(tmp_path / "other.txt")))


def test_import_model_of_python(trained: Any, text: str, tmp_path: Path) -> None:
    model = unrolled.import_model(write(tmp_path, *trained["gru"]), text=text, out="g")
    assert isinstance(model, unrolled.Model)
    assert model.sample("The ", length=10).startswith("The ")
    assert model.network.options.two_biases
    with pytest.raises(UsageError, match="unknown setting 'vocab'"):
        unrolled.import_model(tmp_path / "lm.pt", vocab="x")  # type: ignore[call-arg]  # that is the test


def test_built_in_texts_are_not_used_where_letters_are_unknown(trained: Any, tmp_path: Path, cli: Cli) -> None:
    path = write(tmp_path, *trained["lstm"])
    imported = import_file(path, ImportOptions())
    assert imported.check is None
    assert run_check.__doc__ is not None
    assert "no check: the model does not know the letters" in cli("import", path).out


def test_a_file_that_is_no_model_is_called_so_wherever_it_would_go(cli: Cli) -> None:
    Path("page.txt").write_text("not a model", "utf-8")
    Path("runs/page").mkdir(parents=True)
    Path("runs/page/model.safetensors").write_bytes(b"an older model")
    for name, words in (("page.txt", "is no model of a known format"), ("nosuch.txt", "There is no file nosuch.txt")):
        for out in ([], ["--out", "no/such/folder"], ["--out", "page.txt/x"]):
            done = cli("import", name, *out)
            assert (done.code, words in done.err) == (4, True), done.err
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/config.json").write_text("{}", "utf-8")
    assert "run is a run of unrolled already" in cli("import", "run").err
