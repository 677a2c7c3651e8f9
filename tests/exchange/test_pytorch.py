"""Models of PyTorch: state_dicts, checkpoints, whole models and TorchScript, and hostile files of each."""

import contextlib
import io
import json
import pickle
import string
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from support.imported import IDS, LETTERS, CharModel, E, H, V, log_probs, message
from unrolled.checkpoints.model_file import TextModelFile
from unrolled.errors import UnrolledError
from unrolled.exchange.import_options import ImportOptions
from unrolled.exchange.imports import import_file


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("is_one_hot", [False, True])
def test_a_state_dict_of_pytorch(kind: type[nn.RNNBase], is_one_hot: bool, tmp_path: Path, vocabulary: str) -> None:
    torch.manual_seed(1)
    model = CharModel(kind, is_one_hot=is_one_hot)
    expected = model(torch.tensor(IDS)).detach().numpy()
    torch.save(model.state_dict(), tmp_path / "m.pt")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "m.safetensors")
    torch.save(
        {"epoch": 3, "model": {f"module.{k}": v for k, v in model.state_dict().items()}, "chars": tuple(LETTERS)},
        tmp_path / "c.pt",
    )
    torch.save(model.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert log_probs(tmp_path / "m.pt", vocabulary) == pytest.approx(expected, abs=1e-5)
    assert log_probs(tmp_path / "m.safetensors", vocabulary) == pytest.approx(expected, abs=1e-5)
    assert log_probs(tmp_path / "c.pt") == pytest.approx(expected, abs=1e-5)
    assert log_probs(tmp_path / "old.pt", vocabulary) == pytest.approx(expected, abs=1e-5)


def test_layers_of_several_modules_are_in_the_order_of_their_numbers(tmp_path: Path, vocabulary: str) -> None:
    torch.manual_seed(2)
    parts = {"lstm": nn.LSTM(E, H), **{f"lstm{i}": nn.LSTM(H, H) for i in range(2, 12)}}
    emb, fc = nn.Embedding(V, E), nn.Linear(H, V)
    xs = emb(torch.tensor(IDS))
    for part in parts.values():
        xs = part(xs)[0]
    tensors = nn.ModuleDict({**parts, "emb": emb, "fc": fc}).state_dict()
    safetensors.torch.save_file(dict(sorted(tensors.items())), tmp_path / "m.safetensors")
    assert log_probs(tmp_path / "m.safetensors", vocabulary) == pytest.approx(fc(xs).log_softmax(-1).detach().numpy(), abs=1e-5)


def expected_of(model: CharModel) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(model.eval()(torch.tensor(IDS)))


def notes(path: Path, vocabulary: str | None = None) -> str:
    return "; ".join(import_file(path, ImportOptions(vocabulary=vocabulary)).notes)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_whole_model_is_read_without_its_program(kind: type[nn.RNNBase], tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = CharModel(kind, dropout=0.5)
    model.itos = dict(enumerate(LETTERS))  # type: ignore[assignment]
    expected = expected_of(model)
    torch.save(model, tmp_path / "whole.pt")
    torch.save(model, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 1, "net": nn.DataParallel(model), "args": Opaque(lr=0.1)}, tmp_path / "checkpoint.pt")
    for name in ("whole.pt", "old.pt", "checkpoint.pt"):
        assert log_probs(tmp_path / name) == pytest.approx(expected, abs=1e-5)
    assert "a whole model, CharModel; its code is not run" in notes(tmp_path / "whole.pt")


class Opaque:
    """An object of the program that wrote a checkpoint."""

    def __init__(self, **values: Any) -> None:
        self.__dict__ |= values


def test_100_tokens_without_a_vocabulary_are_those_of_char_rnn_pytorch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = {"encoder": nn.Embedding(100, 8), "rnn": nn.GRU(8, 8), "decoder": nn.Linear(8, 100)}
    torch.save(nn.ModuleDict(parts).state_dict(), tmp_path / "m.pt")
    source = import_file(tmp_path / "m.pt", ImportOptions())
    assert any("taken to be the characters of Python's string.printable" in note for note in source.notes)
    ids = [string.printable.index(character) for character in "Hello, 42!\n"]
    xs, _ = parts["rnn"](parts["encoder"](torch.tensor(ids)))
    expected = parts["decoder"](xs).log_softmax(-1).detach().numpy()
    vocabulary = tmp_path / "printable.json"
    vocabulary.write_text(json.dumps(list(string.printable)))
    named = import_file(tmp_path / "m.pt", ImportOptions(vocabulary=str(vocabulary)))
    assert not any("string.printable" in note for note in named.notes)
    for result in (source, named):
        model_file = result.model_file
        assert isinstance(model_file, TextModelFile)
        tokens, model = model_file.tokenizer.token_strings(), model_file.model
        own = torch.tensor([tokens.index(character) for character in "Hello, 42!\n"])
        with torch.inference_mode():
            found = model(own[:, None], model.initial_state(1))[0][:, 0].log_softmax(-1)
        order = [tokens.index(character) for character in string.printable]
        assert found[:, order].numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_torchscript(tmp_path: Path, vocabulary: str) -> None:
    model = CharModel(nn.LSTM)
    torch.jit.trace(model.eval(), torch.tensor(IDS)).save(str(tmp_path / "m.pt"))  # type: ignore[no-untyped-call]
    assert log_probs(tmp_path / "m.pt", vocabulary) == pytest.approx(expected_of(model), abs=1e-5)


def test_a_checkpoint_of_a_training_with_objects_of_its_program(tmp_path: Path) -> None:
    model = CharModel(nn.GRU)
    averages = {i: {"step": torch.tensor(2.0), "exp_avg": torch.zeros_like(p)} for i, p in enumerate(model.parameters())}
    optimizer = {"state": averages, "param_groups": [{"lr": 1e-3}]}
    stoi = {letter: index for index, letter in enumerate(LETTERS)}
    checkpoint = {
        "net": model.state_dict(),
        "optimizer": optimizer,
        "losses": [np.float64(3.0)],
        "data": Opaque(vocab=Opaque(stoi=stoi)),
    }
    torch.save(checkpoint, tmp_path / "c.pt")
    assert log_probs(tmp_path / "c.pt") == pytest.approx(expected_of(model), abs=1e-5)


def test_modules_that_are_saved_apart(tmp_path: Path, vocabulary: str) -> None:
    model = CharModel(nn.LSTM)
    parts = {name: part.state_dict() for name, part in model.named_children()}
    torch.save({**parts, "optimizer": {"exp_avg": torch.zeros(V, H)}}, tmp_path / "m.pt")
    assert log_probs(tmp_path / "m.pt", vocabulary) == pytest.approx(expected_of(model), abs=1e-5)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("name", ["emb", "encoder"])
def test_tied_weights(name: str, has_bias: bool, tmp_path: Path, vocabulary: str) -> None:
    model = CharModel(nn.LSTM)
    model.emb, model.fc = nn.Embedding(V, H), nn.Linear(H, V, bias=has_bias)
    model.rnn = nn.LSTM(H, H, 2)
    model.fc.weight = model.emb.weight
    tensors = model.state_dict()
    torch.save(tensors, tmp_path / "m.pt")
    kept = {key.replace("emb.", f"{name}."): value for key, value in tensors.items() if key != "fc.weight"}
    safetensors.torch.save_file(kept, tmp_path / "m.safetensors")  # which stores no tensor twice
    for path in (tmp_path / "m.pt", tmp_path / "m.safetensors"):
        assert log_probs(path, vocabulary) == pytest.approx(expected_of(model), abs=1e-5)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("num_layers", [1, 2])
def test_projections_are_multiplied_into_the_weights(num_layers: int, tmp_path: Path, vocabulary: str) -> None:
    model = CharModel(nn.LSTM, num_layers, proj_size=3)
    model.fc = nn.Linear(3, V)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    assert log_probs(tmp_path / "m.pt", vocabulary) == pytest.approx(expected_of(model), abs=1e-5)
    assert "projections (proj_size) are multiplied" in notes(tmp_path / "m.pt", vocabulary)


class NormalizedModel(CharModel):
    """The same with batch normalization before the output layer."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM)
        self.bn = nn.BatchNorm1d(H)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        assert self.emb is not None
        logits: torch.Tensor = self.fc(self.bn(self.rnn(self.emb(ids))[0]))
        return logits.log_softmax(-1)


def test_batch_normalization_becomes_part_of_the_output_layer(tmp_path: Path, vocabulary: str) -> None:
    model = NormalizedModel()
    nn.init.normal_(model.bn.weight)
    nn.init.normal_(model.bn.bias)
    model.train()(torch.tensor(IDS))  # running statistics
    torch.save(model.state_dict(), tmp_path / "m.pt")
    assert log_probs(tmp_path / "m.pt", vocabulary) == pytest.approx(expected_of(model), abs=1e-5)
    assert "batch normalization" in notes(tmp_path / "m.pt", vocabulary)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_other_types(dtype: torch.dtype, tmp_path: Path, vocabulary: str) -> None:
    model = CharModel(nn.LSTM).to(dtype)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "m.safetensors")
    for path in (tmp_path / "m.pt", tmp_path / "m.safetensors"):
        assert log_probs(path, vocabulary) == pytest.approx(expected_of(model.float()), abs=1e-5)


def test_pytorch_layers_that_no_cell_has_are_named(tmp_path: Path, vocabulary: str) -> None:
    torch.save(nn.ModuleDict({"rnn": nn.LSTM(E, H, bidirectional=True)}).state_dict(), tmp_path / "m.pt")
    assert "is bidirectional (rnn.weight_ih_l0_reverse)" in message(tmp_path / "m.pt", vocabulary)
    torch.save(CharModel(nn.RNN, nonlinearity="relu"), tmp_path / "m.pt")
    assert "nn.RNN with the nonlinearity relu" in message(tmp_path / "m.pt", vocabulary)
    torch.save({"model": nn.Linear(2, 2).state_dict()}, tmp_path / "m.pt")
    assert "no parameters of nn.RNN, nn.GRU or nn.LSTM (weight_ih_l0 ...); it has weight, bias" in message(
        tmp_path / "m.pt", vocabulary
    )


def test_further_parameters_and_missing_ones_are_named(tmp_path: Path, vocabulary: str) -> None:
    model = CharModel(nn.LSTM).state_dict()
    torch.save({**model, "norm.weight": torch.ones(H), "norm.bias": torch.ones(H)}, tmp_path / "m.pt")
    assert "parameters that no model here has, so it cannot be imported: norm.weight, norm.bias" in message(
        tmp_path / "m.pt", vocabulary
    )
    torch.save({k: v for k, v in model.items() if "emb" not in k}, tmp_path / "m.pt")
    assert "neither an embedding of 4 nor one-hot input of 9" in message(tmp_path / "m.pt", vocabulary)
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    assert "no parameters of nn.RNN, nn.GRU or nn.LSTM" in message(tmp_path / "m.pt", vocabulary)
    torch.save({**model, "fc.bias": torch.full((V,), torch.nan)}, tmp_path / "m.pt")
    assert "not finite" in message(tmp_path / "m.pt", vocabulary)


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_code_in_a_pickle_is_never_run(tmp_path: Path, vocabulary: str) -> None:
    marker = tmp_path / "ran"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save({"model": Bomb(marker)}, tmp_path / "m.pt", **options)
        assert "holds no tensors" in message(tmp_path / "m.pt", vocabulary)
    torch.save({"model": CharModel(nn.LSTM), "args": Bomb(marker)}, tmp_path / "m.pt")
    assert len(log_probs(tmp_path / "m.pt", vocabulary)) == len(IDS)
    assert not marker.exists()


def test_damaged_and_compressed_files_of_pytorch_are_refused(tmp_path: Path, vocabulary: str) -> None:
    torch.save(CharModel(nn.LSTM).state_dict(), tmp_path / "m.pt")
    content = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    assert "cut.pt is" in message(tmp_path / "cut.pt", vocabulary)
    with zipfile.ZipFile(tmp_path / "m.pt") as source, zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert "is compressed" in message(tmp_path / "z.pt", vocabulary)
    (tmp_path / "cut.safetensors").write_bytes(safetensors.torch.save(CharModel(nn.LSTM).state_dict())[:-8])
    assert "damaged" in message(tmp_path / "cut.safetensors", vocabulary)


def test_a_vocabulary_in_a_pickle(tmp_path: Path) -> None:
    model = CharModel(nn.GRU)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    stoi = {letter: index for index, letter in enumerate(LETTERS)}
    for form in (stoi, list(LETTERS), tuple(LETTERS), Opaque(stoi=stoi, size=V)):
        for protocol in (2, 4):
            (tmp_path / "v.pkl").write_bytes(pickle.dumps(form, protocol))
            assert log_probs(tmp_path / "m.pt", str(tmp_path / "v.pkl")) == pytest.approx(expected_of(model), abs=1e-5)
        torch.save(form, tmp_path / "v.pt")
        assert log_probs(tmp_path / "m.pt", str(tmp_path / "v.pt")) == pytest.approx(expected_of(model), abs=1e-5)
    (tmp_path / "v.pkl").write_bytes(pickle.dumps({"a": 3}))
    assert "has 1 entries, and the model has 9 tokens" in message(tmp_path / "m.pt", str(tmp_path / "v.pkl"))
    (tmp_path / "v.pkl").write_bytes(b"\x80\x04")
    assert "is damaged, or no pickle" in message(tmp_path / "m.pt", str(tmp_path / "v.pkl"))


def written(path: Path, instructions: bytes) -> Path:
    """Write the pickle of a file of torch.save by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + instructions + b".")
        archive.writestr("archive/data/0", bytes(64))
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x10tQ"
HOSTILE = {
    "a key whose hash is a recursion": b"}" + b")" + b"\x85" * 200_000 + b"K\x01s",
    "a list in itself": b"]q\x00h\x00a",
    "a dictionary of itself": b"}q\x00" + text("a") + b"h\x00s",
    "2 to the power of 60 lists": b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)),
    "a name that grows": text("x" * 200) + b"q\x00" + b"h\x00h\x00\x93" * 10_000,
    "copies of a dictionary": b"}q\x00(" + b"".join(text(str(i)) + b"N" for i in range(2000)) + b"u0"
    + b"cm\nC\n)\x81h\x00b0" * 5000 + b"N",
    "a tensor larger than its storage": b"}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE
    + b"K\x00(M\xff\xffM\xff\xfft(K\x00K\x00t\x89}tRs",
    "a call with too few arguments": b"ctorch._utils\n_rebuild_tensor_v2\n)R",
    "an empty stack": b"0000",
    "a mark that is missing": b"]e",
    "an extension": b"\x82\x01",
    "an object that is built": b"cos\nsystem\n" + text("touch ran") + b"\x85R",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_in_little_time(name: str, tmp_path: Path, vocabulary: str) -> None:
    path = written(tmp_path / "m.pt", HOSTILE[name])
    assert len(message(path, vocabulary)) < 400
    assert list(tmp_path.glob("ran")) == []


def test_mutations_of_a_checkpoint(tmp_path: Path, vocabulary: str) -> None:
    random = np.random.default_rng(5)
    model = CharModel(nn.LSTM, 1)
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        buffer = io.BytesIO()
        torch.save({"model": model, "chars": list(LETTERS)}, buffer, **options)
        for _ in range(60):
            content = bytearray(buffer.getvalue())
            for place in random.integers(0, len(content), 4):
                content[place] = random.integers(256)
            (tmp_path / "m.pt").write_bytes(content[: random.integers(len(content) // 2, len(content) + 1)])
            with contextlib.suppress(UnrolledError):
                import_file(tmp_path / "m.pt", ImportOptions(vocabulary=vocabulary))
