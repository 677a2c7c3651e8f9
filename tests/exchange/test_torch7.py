"""Files of char-rnn and torch-rnn: the same numbers as their equations give, and nothing but an error from a bad file."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from support.imported import text_model
from support.torch7 import (
    CharRnn,
    LuaFunction,
    LuaTable,
    Torch7Writer,
    char_rnn_parameters,
    table,
    thing,
    torch_rnn_checkpoint,
    write_torch7,
)
from unrolled.checkpoints.model_file import TextModelFile
from unrolled.errors import ModelError, UnrolledError
from unrolled.exchange.import_options import ImportOptions
from unrolled.exchange.imports import import_file
from unrolled.exchange.source_model import ABSENT_BIAS
from unrolled.exchange.torch7 import Storage, Tensor

LETTERS = [bytes([code]) for code in b"ehalo tx\n"]
IDS = [3, 1, 0, 8, 5, 5, 2, 7, 4, 6, 0]


def logits(path: Path, ids: list[int], options: ImportOptions | None = None) -> np.ndarray:
    model_file = import_file(path, options or ImportOptions()).model_file
    assert isinstance(model_file, TextModelFile)
    model = model_file.model
    with torch.inference_mode():
        return np.asarray(model(torch.tensor(ids)[:, None], model.initial_state(1))[0][:, 0])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def char_rnn_logits(cell: str, layers: list[dict[str, np.ndarray]], head: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Read the equations of char-rnn's LSTM.lua, GRU.lua and RNN.lua once more, gate by gate."""
    units = len(next(iter(layers[0].values())))
    h, c = [np.zeros(units) for _ in layers], [np.zeros(units) for _ in layers]
    found = []
    for token in ids:
        x = np.eye(len(head["bias"]))[token]
        for k, layer in enumerate(layers):
            before = h[k]
            a = {
                g: layer[f"x_{g}"] @ x + layer[f"bx_{g}"] + layer[f"h_{g}"] @ before + layer[f"bh_{g}"]
                for g in "ifogzrn"
                if f"x_{g}" in layer
            }
            if cell == "lstm":
                c[k] = sigmoid(a["f"]) * c[k] + sigmoid(a["i"]) * np.tanh(a["g"])
                h[k] = sigmoid(a["o"]) * np.tanh(c[k])
            elif cell == "gru":
                z, r = sigmoid(a["z"]), sigmoid(a["r"])
                n = np.tanh(layer["x_n"] @ x + layer["bx_n"] + layer["h_n"] @ (r * before) + layer["bh_n"])
                h[k] = z * n + (1 - z) * before
            else:
                h[k] = np.tanh(a["n"])
            x = h[k]
        found.append(head["weight"] @ x + head["bias"])
    return np.array(found)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(("kind", "tolerance"), [("Float", 1e-5), ("Double", 1e-5), ("Cuda", 1e-5), ("CudaHalf", 1e-2)])
def test_char_rnn_gives_the_numbers_of_its_equations(cell: str, kind: str, tolerance: float, tmp_path: Path) -> None:
    layers, head = char_rnn_parameters(cell, len(LETTERS), units=5, num_layers=3)
    path = write_torch7(tmp_path / "lm.t7", CharRnn(cell, LETTERS, layers, head, kind).checkpoint(dropout=0.25))
    assert logits(path, IDS) == pytest.approx(char_rnn_logits(cell, layers, head, IDS), abs=tolerance)
    imported = import_file(path, ImportOptions())
    assert text_model(imported).tokenizer.token_strings() == [letter.decode() for letter in LETTERS]
    assert imported.notes[0] == "dropout 0.25 between the layers is active in training only"
    assert imported.model_file.history["val_nats"] == 1.5
    assert imported.model_file.history["steps"] == 50


def test_early_char_rnn_cuts_its_gates_with_narrow(tmp_path: Path) -> None:
    layers, head = char_rnn_parameters("lstm", len(LETTERS), units=5, num_layers=2)
    path = write_torch7(tmp_path / "lm.t7", CharRnn("lstm", LETTERS, layers, head).checkpoint(is_early=True))
    assert logits(path, IDS) == pytest.approx(char_rnn_logits("lstm", layers, head, IDS), abs=1e-5)


def test_many_layers_and_a_function_in_a_checkpoint(tmp_path: Path) -> None:
    layers, head = char_rnn_parameters("lstm", len(LETTERS), units=3, num_layers=12)
    checkpoint = CharRnn("lstm", LETTERS, layers, head).checkpoint(hook=LuaFunction(b"\x1bLJ os.exit()"))
    path = write_torch7(tmp_path / "lm.t7", checkpoint)
    assert logits(path, IDS) == pytest.approx(char_rnn_logits("lstm", layers, head, IDS), abs=1e-5)


def test_a_vocabulary_of_bytes_reads_utf_8(tmp_path: Path, cli: Cli) -> None:
    letters = [bytes([code]) for code in sorted(set("h\u00e9 \u65e5\u672c\n".encode()))]
    layers, head = char_rnn_parameters("gru", len(letters), units=4, num_layers=1)
    path = write_torch7(tmp_path / "lm.t7", CharRnn("gru", letters, layers, head).checkpoint())
    ids = list("\u65e5 h\u00e9".encode())
    expected = char_rnn_logits("gru", layers, head, [letters.index(bytes([code])) for code in ids])
    found = logits(path, ids)
    assert found[:, [letter[0] for letter in letters]] == pytest.approx(expected, abs=1e-5)
    assert found[0, 200] == ABSENT_BIAS
    assert cli("import", path, "--out", "r").code == 0
    text = unrolled.load("r").sample("\u65e5", length=200)
    known = "".join(char for char in text if char != "\ufffd" and not "\ud800" <= char <= "\udfff")
    assert set(known.encode()) <= set(b"".join(letters))


def torch_rnn_logits(
    cell: str, embedding: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]], head: dict[str, np.ndarray], norm: Any = None
) -> np.ndarray:
    """Read the equations of torch-rnn's LSTM.lua, GRU.lua and VanillaRNN.lua once more."""
    units = head["weight"].shape[1]
    h, c = [np.zeros(units) for _ in layers], [np.zeros(units) for _ in layers]
    found = []
    for token in IDS:
        x = embedding[token]
        for k, (weight, bias) in enumerate(layers):
            w_x, w_h = weight[: len(x)], weight[len(x) :]
            if cell == "gru":
                u, r = np.split(sigmoid(x @ w_x[:, : 2 * units] + h[k] @ w_h[:, : 2 * units] + bias[: 2 * units]), 2)
                n = np.tanh(x @ w_x[:, 2 * units :] + (r * h[k]) @ w_h[:, 2 * units :] + bias[2 * units :])
                h[k] = (1 - u) * h[k] + u * n
            elif cell == "lstm":
                i, f, o, g = np.split(x @ w_x + h[k] @ w_h + bias, 4)
                c[k] = sigmoid(f) * c[k] + sigmoid(i) * np.tanh(g)
                h[k] = sigmoid(o) * np.tanh(c[k])
            else:
                h[k] = np.tanh(x @ w_x + h[k] @ w_h + bias)
            x = h[k]
            if norm is not None:
                x = (x - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
        found.append(head["weight"] @ x + head["bias"])
    return np.array(found)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("is_normalized", [False, True])
def test_torch_rnn_gives_the_numbers_of_its_equations(cell: str, is_normalized: bool, tmp_path: Path) -> None:
    class_name, gates = {"lstm": ("nn.LSTM", 4), "gru": ("nn.GRU", 3), "rnn": ("nn.VanillaRNN", 1)}[cell]
    random = np.random.default_rng(1)
    embedding, units = random.normal(size=(len(LETTERS), 3)), 5
    layers = [(random.normal(0, 0.5, (size + units, gates * units)), random.normal(size=gates * units)) for size in (3, 5)]
    head = {"weight": random.normal(size=(len(LETTERS), units)), "bias": random.normal(size=len(LETTERS))}
    names = ("running_mean", "running_var", "weight", "bias")
    norm = {name: random.uniform(0.2, 1, units) for name in names} if is_normalized else None
    path = write_torch7(tmp_path / "cp.t7", torch_rnn_checkpoint(class_name, LETTERS, embedding, layers, head, norm))
    assert logits(path, IDS) == pytest.approx(torch_rnn_logits(cell, embedding, layers, head, norm), abs=1e-5)


def test_torch_rnn_writes_bytes_above_127_in_brackets(tmp_path: Path) -> None:
    tokens = [b"a", b"\n", b"[195]", b"[169]"]
    random = np.random.default_rng(2)
    head = {"weight": random.normal(size=(4, 2)), "bias": random.normal(size=4)}
    layer = (random.normal(size=(4, 8)), random.normal(size=8))
    path = write_torch7(tmp_path / "cp.t7", torch_rnn_checkpoint("nn.LSTM", tokens, random.normal(size=(4, 2)), [layer], head))
    imported = import_file(path, ImportOptions())
    assert text_model(imported).tokenizer.encode("\u00e9a").tolist() == [195, 169, 97]
    assert "the vocabulary is of 4 bytes (UTF-8); the 252 other bytes get the probability zero" in imported.notes


def small_file() -> bytes:
    layers, head = char_rnn_parameters("lstm", len(LETTERS), units=2, num_layers=1)
    return Torch7Writer().to_bytes(CharRnn("lstm", LETTERS, layers, head).checkpoint())


def outcome(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    try:
        import_file(path, ImportOptions())
    except UnrolledError as error:
        return str(error)
    return "imported"


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = small_file()
    for length in [*range(0, 64), *range(64, len(content), 97), len(content) - 1]:
        message = outcome(tmp_path / "lm.t7", content[:length])
        assert "cut short" in message or "longer than the file" in message or "no model of a known format" in message, (
            length,
            message,
        )


def test_changed_bytes_are_refused_or_change_a_number(tmp_path: Path) -> None:
    content, random = small_file(), np.random.default_rng(3)
    outcomes = []
    for _ in range(150):
        changed = bytearray(content)
        for position in random.integers(0, len(content), 2):
            changed[position] ^= 1 << int(random.integers(8))
        outcomes.append(outcome(tmp_path / "lm.t7", bytes(changed)))
    assert "imported" in outcomes
    assert len(set(outcomes)) > 10


def tensor_bytes(size: int, stride: int, elements: int, announced: int | None = None) -> bytes:
    header = struct.pack("<2i", 4, 7) + struct.pack("<i", 3) + b"V 1" + struct.pack("<i", 17) + b"torch.FloatTensor"
    storage = struct.pack("<2i", 4, 8) + struct.pack("<i", 3) + b"V 1" + struct.pack("<i", 18) + b"torch.FloatStorage"
    content = struct.pack("<q", elements if announced is None else announced) + bytes(4 * elements)
    return header + struct.pack("<i3q", 1, size, stride, 1) + storage + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<3i", 3, 1, 1) + struct.pack("<2i", 2, 2**31 - 1) + b"abc", "2,147,483,647 bytes are announced"),
        (struct.pack("<3i", 3, 1, -5), "a table of -5 entries"),
        (struct.pack("<3i", 3, 1, 2**30), "a table of 1,073,741,824 entries"),
        (struct.pack("<3i", 3, 1, 1) + struct.pack("<2i", 2, -3), "-3 bytes are announced"),
        (struct.pack("<3i", 3, 1, 1) + struct.pack("<id", 1, 1.0) + tensor_bytes(4, 1, 4, 2**60), "storage of 1,152,9"),
        (struct.pack("<3i", 3, 1, 1) + struct.pack("<id", 1, 1.0) + struct.pack("<i", 99), "a value of type 99"),
        (b"3\n1\n2\n", "ASCII form of Torch7"),
    ],
)  # fmt: skip
def test_lengths_that_lie_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    assert message in outcome(tmp_path / "lm.t7", content)


@pytest.mark.parametrize(("size", "stride"), [(2**40, 0), (5, 1), (4, 2), (4, -1), (2**62, 2**62)])
def test_a_tensor_outside_of_its_storage_is_refused(size: int, stride: int, tmp_path: Path) -> None:
    module = Torch7Writer()
    module.ints(4, 2)
    module.string(b"V 1")
    module.string(b"nn.LookupTable")
    module.parts.append(struct.pack("<3i", 3, 3, 1) + struct.pack("<2i", 2, 6) + b"weight" + tensor_bytes(size, stride, 4))
    table_start = struct.pack("<3i", 3, 1, 1) + struct.pack("<2i", 2, 1) + b"x"
    path = tmp_path / "lm.t7"
    path.write_bytes(table_start + b"".join(module.parts))
    from unrolled.exchange.torch7 import read_torch7
    from unrolled.exchange.torch7_graph import tensor

    with pytest.raises(ModelError, match="does not fit its storage of 4 elements"):
        tensor(read_torch7(path).get("x"), "weight")


def test_an_embedding_without_columns_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    head = {"weight": random.normal(size=(4, 3)), "bias": random.normal(size=4)}
    layer = (random.normal(size=(7, 12)), random.normal(size=12))
    value = torch_rnn_checkpoint("nn.LSTM", [b"a", b"b", b"c", b"d"], random.normal(size=16), [layer], head)
    assert "The embedding has weights of shape (16,)" in outcome(tmp_path / "lm.t7", Torch7Writer().to_bytes(value))


def test_many_tensors_of_one_storage_are_refused_before_they_fill_the_memory() -> None:
    storage = Storage(np.zeros(1000, "<f8"))
    tensors = [Tensor("torch.DoubleTensor", (1000,), (1,), 0, storage) for _ in range(20)]
    with pytest.raises(ModelError, match="more than 16 of its tensors are the same part"):
        [tensor.array() for tensor in tensors]


def test_a_file_may_refer_to_itself_and_nest_deeply(tmp_path: Path) -> None:
    loop = LuaTable()
    loop.entries += [("self", loop), ("protos", loop), (loop, loop)]
    assert "nn.gModule" in outcome(tmp_path / "lm.t7", Torch7Writer().to_bytes(loop))
    deep = b"".join(struct.pack("<3i", 3, index, 1) + struct.pack("<id", 1, 1.0) for index in range(1, 30_000)) + struct.pack(
        "<i", 0
    )
    assert "neither a checkpoint of char-rnn nor one of torch-rnn" in outcome(tmp_path / "lm.t7", deep)


def test_a_cycle_in_a_graph_is_refused(tmp_path: Path) -> None:
    data = LuaTable([("module", thing("nn.Tanh"))])
    data.entries.append(("mapindex", table(data)))
    node = thing("nngraph.Node", data=data)
    graph = thing("nn.gModule", innode=thing("nngraph.Node", data=LuaTable()), outnode=node)
    assert "has a cycle" in outcome(
        tmp_path / "lm.t7", Torch7Writer().to_bytes(table(protos=table(rnn=graph), vocab=LuaTable()))
    )


@pytest.mark.parametrize("module", ["nn.BatchNormalization", "nn.JoinTable", "nn.ReLU", "posix.Shell"])
def test_an_unknown_module_is_named(module: str, tmp_path: Path) -> None:
    layers, head = char_rnn_parameters("rnn", len(LETTERS), units=2, num_layers=1)
    content = Torch7Writer().to_bytes(CharRnn("rnn", LETTERS, layers, head).checkpoint())
    changed = content.replace(struct.pack("<i", 7) + b"nn.Tanh", struct.pack("<i", len(module)) + module.encode())
    assert module in outcome(tmp_path / "lm.t7", changed)


def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    layers, head = char_rnn_parameters("rnn", len(LETTERS), units=2, num_layers=1)
    path = write_torch7(tmp_path / "lm.t7", CharRnn("rnn", LETTERS[:-2], layers, head).checkpoint())
    with pytest.raises(ModelError, match=r"has 7 entries, and the output layer of the model has 9 tokens"):
        import_file(path, ImportOptions())
