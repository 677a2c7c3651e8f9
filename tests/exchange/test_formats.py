"""Keras, ml5, RTNeural and Neural Amp Modeler: the numbers of their equations, and bad files named."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unrolled
from support.cli import Cli
from support.imported import IDS, LETTERS, CharModel, E, H, V, log_probs, message, text_model
from support.keras_files import Layer, config, write_h5, write_keras, write_keras_1
from unrolled.checkpoints.model_file import TableModelFile
from unrolled.errors import ModelError, UsageError
from unrolled.exchange.import_options import ImportOptions
from unrolled.exchange.imports import ImportedModel, import_file, write_imported
from unrolled.exchange.numbers_lstm import read_numbers_model
from unrolled.tables.wav_files import read_wav, write_wav


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def keras_layers(kind: str, **settings: Any) -> list[Layer]:
    random = np.random.default_rng(4)
    gates = {"LSTM": 4, "CuDNNLSTM": 4, "GRU": 3, "SimpleRNN": 1}[kind]
    layers: list[Layer] = [("Embedding", "letters", {}, [random.normal(size=(V, E))]), ("Dropout", "drop", {}, [])]
    for number, size in enumerate((E, H)):
        is_double = (kind == "GRU" and settings.get("reset_after", True)) or kind == "CuDNNLSTM"
        bias = random.normal(size=(2, gates * H) if is_double else gates * H)
        kernels = [random.normal(0, 0.5, (rows, gates * H)) for rows in (size, H)]
        layers.append((kind, f"mine_{9 - number}", settings, [*kernels, bias.reshape(-1) if kind == "CuDNNLSTM" else bias]))
    return [*layers, ("Dense", "out", {}, [random.normal(size=(H, V)), random.normal(size=V)])]


def hard_sigmoid_of_keras_2(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(x < -2.5, 0, np.where(x > 2.5, 1, 0.2 * x + 0.5)))


def hard_sigmoid_of_keras_3(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(np.maximum(x + 3, 0), 6) / 6)


def keras_log_probs(layers: list[Layer], sigmoid: Callable[[np.ndarray], np.ndarray] = sigmoid) -> np.ndarray:
    """Read the equations of Keras once more: kernels on the right, gates i f c o and z r h."""
    (embedding,), dense = layers[0][3], layers[-1][3]
    states = [[np.zeros(H), np.zeros(H)] for _ in layers]
    found = []
    for token in IDS:
        x = embedding[token]
        for state, (kind, _, settings, weights) in zip(states, layers, strict=True):
            if kind not in ("LSTM", "GRU", "SimpleRNN"):
                continue
            (kernel, recurrent, bias), h = weights, state[0]
            if kind == "LSTM":
                i, f, c, o = np.split(x @ kernel + h @ recurrent + bias, 4)
                state[1] = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(c)
                state[0] = sigmoid(o) * np.tanh(state[1])
            elif kind == "GRU":
                first, second = bias if bias.ndim == 2 else (bias, np.zeros(3 * H))
                from_x, from_h = np.split(x @ kernel + first, 3), np.split(h @ recurrent + second, 3)
                z, r = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
                is_after = settings.get("reset_after", True)
                n = np.tanh(from_x[2] + (r * from_h[2] if is_after else (r * h) @ recurrent[:, 2 * H :]))
                state[0] = z * h + (1 - z) * n
            else:
                state[0] = np.tanh(x @ kernel + h @ recurrent + bias)
            x = state[0]
        logits = x @ dense[0] + dense[1]
        found.append(logits - np.log(np.exp(logits).sum()))
    return np.array(found)


@pytest.mark.parametrize(
    ("kind", "settings"), [("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False}), ("SimpleRNN", {})]
)  # fmt: skip
@pytest.mark.parametrize(("write", "name"), [(write_h5, "m.h5"), (write_keras, "m.keras")])
def test_keras(kind: str, settings: Any, write: Any, name: str, tmp_path: Path, vocabulary: str) -> None:
    layers = keras_layers(kind, **settings)
    path = write(tmp_path / name, layers)
    assert log_probs(path, vocabulary) == pytest.approx(keras_log_probs(layers), abs=1e-5)


HARD = {"recurrent_activation": "hard_sigmoid"}


VERSIONS: dict[str, tuple[Any, Callable[[np.ndarray], np.ndarray], str]] = {
    "1": (
        write_keras_1,
        hard_sigmoid_of_keras_2,
        "0.2 x + 0.5 (Keras before 3), at least 0 and at most 1: the file is of Keras 1.2.2",
    ),
    "2": (
        write_h5,
        hard_sigmoid_of_keras_2,
        "0.2 x + 0.5 (Keras before 3), at least 0 and at most 1: the file is of Keras 2.2.4",
    ),
    "3": (write_keras, hard_sigmoid_of_keras_3, "x / 6 + 0.5 (Keras 3), at least 0 and at most 1: the file is of Keras 3.15.1"),
}
"""By the version of Keras: its layout, its hard sigmoid, and what an import says of it."""


@pytest.mark.parametrize(
    ("version", "kind", "is_after"),
    [*((v, "LSTM", False) for v in VERSIONS), *((v, "GRU", False) for v in VERSIONS), ("2", "GRU", True), ("3", "GRU", True)],
)
def test_hard_sigmoids_of_keras(version: str, kind: str, is_after: bool, tmp_path: Path, vocabulary: str) -> None:
    """The slope is that of the version in the file: gates of Keras 3 are wider."""
    write, hard_sigmoid, named = VERSIONS[version]
    layers = keras_layers(kind, **HARD, **({"reset_after": is_after} if kind == "GRU" else {}))
    path = write(tmp_path / ("m.keras" if write is write_keras else "m.h5"), layers)
    expected = keras_log_probs(layers, hard_sigmoid)
    assert log_probs(path, vocabulary) == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected - keras_log_probs(layers)).max() > 0.1  # a sigmoid would be seen
    assert any(named in note for note in import_file(path, ImportOptions(vocabulary=vocabulary)).notes)


@pytest.mark.parametrize(("kind", "settings"), [("LSTM", {}), ("GRU", {"reset_after": True})])
def test_the_check_tries_the_other_gates_of_keras(kind: str, settings: Any, tmp_path: Path, vocabulary: str) -> None:
    """The same weights in three files, with three kinds of gates: each names the bits of the two others."""
    (tmp_path / "t.txt").write_text("hello text to exalt\n" * 20)
    options = ImportOptions(vocabulary=vocabulary, text=str(tmp_path / "t.txt"))
    hard, soft = (keras_layers(kind, **settings, **more) for more in (HARD, {}))
    files = {
        "gates: sigmoid": write_h5(tmp_path / "soft.h5", soft),
        "gates: hard sigmoid 0.2 x + 0.5 (Keras before 3)": write_h5(tmp_path / "2.h5", hard),
        "gates: hard sigmoid x / 6 + 0.5 (Keras 3)": write_h5(tmp_path / "3.h5", hard, 3),
    }
    checks = {name: import_file(path, options).check for name, path in files.items()}
    for name, check in checks.items():
        assert check is not None
        found = {other: bits for other, bits in check.others.items() if other.startswith("gates: ")}
        assert found == pytest.approx({other: c.bits for other, c in checks.items() if c and other != name}, abs=1e-5)
        assert len({check.bits, *found.values()}) == 3


@pytest.mark.slow
def test_a_hard_sigmoid_model_of_keras_is_used_like_any_other(tmp_path: Path, vocabulary: str, cli: Cli) -> None:
    path = write_h5(tmp_path / "m.h5", keras_layers("LSTM", **HARD))
    found = cli("import", path, "--vocabulary", vocabulary, "--out", "m.safetensors")
    assert found.code == 0
    assert "gates are the hard sigmoid 0.2 x + 0.5" in found.out
    Path("t.txt").write_text("hello text to exalt\n" * 5)
    texts = [
        cli("sample", "m.safetensors", "--length", 30, "--seed", 3, *more).out for more in ((), ("--kernels", "reference"))
    ]
    assert len(texts[0]) == 31
    assert texts[0] == texts[1]
    assert "int8" in cli("sample", "m.safetensors", "--int8").err
    assert len(cli("sample", "m.safetensors", "--length", 30, "--portable").out) == 31
    for command in (
        ("score", "m.safetensors", "t.txt"),
        ("eval", "m.safetensors", "t.txt"),
        ("explain", "m.safetensors", "t.txt"),
    ):
        assert cli(*command).code == 0, command
    for to, out in (("numpy", "n.py"), ("onnx", "n.onnx"), ("html", "n.html"), ("c", "n.c")):
        assert cli("export", "m.safetensors", "--to", to, "--out", out).code == 0, to


RECORDED = {
    ("LSTM", True): [-3.431802, -4.220238, -2.839044, -2.585504, -2.461819, -1.830346, -3.288343, -2.776231, -0.746737],
    ("GRU", True): [-4.086787, -4.726668, -3.490537, -1.581979, -0.800703, -4.843329, -1.418274, -3.351195, -5.4654],
    ("GRU", False): [-3.374639, -2.937646, -2.397878, -5.850177, -7.465001, -7.859711, -0.312737, -3.132456, -3.147076],
    ("SimpleRNN", True): [-3.787898, -3.911984, -2.723029, -4.047927, -5.690835, -4.853589, -4.052962, -0.171382, -5.752748],
}
"""Log-probabilities after the last token, by class and `reset_after`: Keras 3.15.1 and tf_keras 2.21.0 with these weights."""


@pytest.mark.parametrize(("kind", "is_after"), RECORDED)
def test_keras_itself_gave_these_numbers(kind: str, is_after: bool, tmp_path: Path, vocabulary: str) -> None:
    """In the layouts that both programs write: `.keras`, and `.h5` of Keras 2 and 3."""
    layers = keras_layers(kind, **({} if is_after else {"reset_after": False}))
    files = (write_keras(tmp_path / "m.keras", layers), *(write_h5(tmp_path / f"{v}.h5", layers, v) for v in (2, 3)))
    for path in files:
        assert log_probs(path, vocabulary)[-1] == pytest.approx(RECORDED[kind, is_after], abs=1e-5)


RECORDED_HARD = {
    ("2", "LSTM", False): [-3.39035, -4.135639, -2.832708, -2.501504, -2.434777, -1.817984, -3.18561, -2.773407, -0.785868],
    ("2", "GRU", True): [-4.179351, -4.771442, -3.591114, -1.839015, -0.742745, -4.957642, -1.345412, -3.191111, -5.242376],
    ("2", "GRU", False): [-3.726938, -2.848214, -2.556862, -6.166146, -7.647202, -8.216749, -0.255663, -3.431203, -3.478935],
    ("3", "LSTM", False): [-3.342703, -4.017685, -2.854548, -2.372016, -2.411174, -1.866077, -2.975192, -2.743776, -0.830146],
    ("3", "GRU", True): [-4.092964, -4.726121, -3.488832, -1.638751, -0.790174, -4.874515, -1.376343, -3.451246, -5.501728],
    ("3", "GRU", False): [-3.478322, -2.963312, -2.389847, -5.920686, -7.525278, -7.944218, -0.29829, -3.220498, -3.212626],
}
"""The same with hard sigmoids: tf_keras 2.21.0 and Keras 2.2.4 and 1.2.2, which agree, and Keras 3.15.1."""


@pytest.mark.parametrize(("version", "kind", "is_after"), RECORDED_HARD)
def test_keras_itself_gave_these_numbers_with_hard_sigmoids(
    version: str, kind: str, is_after: bool, tmp_path: Path, vocabulary: str
) -> None:
    layers = keras_layers(kind, **HARD, **({"reset_after": is_after} if kind == "GRU" else {}))
    files = [write_h5(tmp_path / "m.h5", layers, int(version))]
    if version == "3":
        files.append(write_keras(tmp_path / "m.keras", layers))
    elif not is_after:
        files.append(write_keras_1(tmp_path / "old.h5", layers))
    for path in files:
        found = log_probs(path, vocabulary)[-1]
        assert found == pytest.approx(RECORDED_HARD[version, kind, is_after], abs=1e-5)


def test_kernels_of_cudnn_are_turned_round(tmp_path: Path, vocabulary: str) -> None:
    """CuDNN stores each gate's kernel as `(H, I)` in the memory of `(I, H)`, the recurrent one transposed, and two biases."""
    layers = keras_layers("CuDNNLSTM")
    plain: list[Layer] = []
    for kind, name, settings, weights in layers:
        if kind == "CuDNNLSTM":
            kernel, recurrent, bias = weights
            turned = [block.reshape(H, -1).T for block in np.split(kernel, 4, axis=1)]
            recurrent = np.concatenate([block.T for block in np.split(recurrent, 4, axis=1)], 1)
            weights, kind = [np.concatenate(turned, 1), recurrent, bias.reshape(2, -1).sum(0)], "LSTM"
        plain.append((kind, name, settings, weights))
    assert log_probs(write_h5(tmp_path / "m.h5", layers), vocabulary) == pytest.approx(keras_log_probs(plain), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("LSTM", {"go_backwards": True}, "go_backwards=True"),
        ("LSTM", {"recurrent_activation": "elu"}, "recurrent_activation='elu', and LSTM of 'sigmoid' or 'hard_sigmoid'"),
        ("SimpleRNN", {"activation": "relu"}, "activation='relu'"),
        ("LSTM", {"return_sequences": False}, "return_sequences=False, and the next layer reads each of its steps"),
    ],
)  # fmt: skip
def test_settings_of_keras_that_no_cell_has_are_named(
    kind: str, settings: Any, expected: str, tmp_path: Path, vocabulary: str
) -> None:
    assert expected in message(write_h5(tmp_path / "m.h5", keras_layers(kind, **settings)), vocabulary)


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("Lambda", {"function": ["def", None, None]}, "Lambda"),
        ("BatchNormalization", {}, "BatchNormalization"),
        ("Bidirectional", {"merge_mode": "sum"}, "merge_mode='sum'"),
        ("TimeDistributed", {"layer": {"class_name": "Conv2D", "config": {}}}, "TimeDistributed of Conv2D"),
    ],
)  # fmt: skip
def test_layers_of_keras_that_no_model_has_are_named(
    kind: str, settings: Any, expected: str, tmp_path: Path, vocabulary: str
) -> None:
    layers = keras_layers("LSTM")
    layers.insert(3, (kind, "strange", settings, []))
    assert expected in message(write_keras(tmp_path / "m.keras", layers), vocabulary)


def test_skip_connections_and_bad_activations_of_keras_are_named(tmp_path: Path, vocabulary: str) -> None:
    layers = keras_layers("LSTM")
    layers[-1] = ("Dense", "out", {"activation": "relu"}, layers[-1][3])
    assert "has the activation 'relu'" in message(write_h5(tmp_path / "m.h5", layers), vocabulary)
    functional = config(keras_layers("LSTM"))
    functional["class_name"] = "Functional"
    for before, entry in zip([None, *functional["config"]["layers"]], functional["config"]["layers"], strict=False):
        entry["inbound_nodes"] = [] if before is None else [[[before["config"]["name"], 0, 0, {}]]]
    entry["inbound_nodes"] = [[["letters", 0, 0, {}], ["mine_8", 0, 0, {}]]]
    import h5py

    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps(functional)
    assert "The layer out reads letters, mine_8" in message(tmp_path / "m.h5", vocabulary)


def test_hostile_and_damaged_hdf5_is_refused(tmp_path: Path, vocabulary: str) -> None:
    import h5py

    path = write_h5(tmp_path / "m.h5", keras_layers("LSTM"))
    content = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    assert "damaged" in message(tmp_path / "cut.h5", vocabulary)
    with h5py.File(path, "r+") as file:
        del file["model_weights/out/out/kernel:0"]
        file["model_weights/out/out/kernel:0"] = h5py.ExternalLink("/etc/hostname", "x")
    assert "links to 'kernel:0' instead of holding it" in message(path, vocabulary)
    with h5py.File(path, "r+") as file:
        del file["model_weights/out/out/kernel:0"]
        file.create_dataset("model_weights/out/out/kernel:0", (1 << 20, 1 << 12), "f4", chunks=(1 << 10, 1 << 10))
    assert "more than it can hold" in message(path, vocabulary)
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(50 << 20))
    assert "more than the file can hold" in message(tmp_path / "bomb.keras", vocabulary)


def write_ml5(folder: Path, has_manifest: bool = True) -> np.ndarray:
    """Write a folder, and return the log-probabilities of TensorFlow's equations: gates i j f o, one added to f."""
    random = np.random.default_rng(5)
    folder.mkdir()
    values = {
        "embedding": random.normal(size=(V, H)),
        "rnnlm/softmax_w": random.normal(size=(H, V)),
        "rnnlm/softmax_b": random.normal(size=V),
    }
    for number in range(2):
        values[f"rnnlm/multi_rnn_cell/cell_{number}/basic_lstm_cell/kernel"] = random.normal(0, 0.5, (2 * H, 4 * H))
        values[f"rnnlm/multi_rnn_cell/cell_{number}/basic_lstm_cell/bias"] = random.normal(size=4 * H)
    for name, value in values.items():
        (folder / name.replace("/", "_")).write_bytes(value.astype("<f4").tobytes())
    manifest = {name: {"filename": name.replace("/", "_"), "shape": list(value.shape)} for name, value in values.items()}
    manifest["Variable"] = {"filename": "Variable", "shape": []}
    if has_manifest:
        (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(LETTERS)}))
    states, found = [(np.zeros(H), np.zeros(H))] * 2, []
    for token in IDS:
        x = values["embedding"][token]
        for number in range(2):
            kernel, bias = (values[f"rnnlm/multi_rnn_cell/cell_{number}/basic_lstm_cell/{part}"] for part in ("kernel", "bias"))
            h, c = states[number]
            i, j, f, o = np.split(np.concatenate([x, h]) @ kernel + bias, 4)
            c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
            x = np.tanh(c) * sigmoid(o)
            states[number] = x, c
        logits = x @ values["rnnlm/softmax_w"] + values["rnnlm/softmax_b"]
        found.append(logits - np.log(np.exp(logits).sum()))
    return np.array(found)


@pytest.mark.parametrize("has_manifest", [True, False])
def test_ml5(has_manifest: bool, tmp_path: Path) -> None:
    expected = write_ml5(tmp_path / "poet", has_manifest)
    assert log_probs(tmp_path / "poet") == pytest.approx(expected, abs=1e-5)
    if has_manifest:
        assert log_probs(tmp_path / "poet" / "manifest.json") == pytest.approx(expected, abs=1e-5)


def test_damaged_folders_of_ml5_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "poet"
    write_ml5(folder)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"filename": "embedding"', '"filename": "../../etc/passwd"'))
    assert "which is not in its folder" in message(folder)
    (folder / "manifest.json").write_text(manifest.replace(f"[{2 * H}, {4 * H}]", f"[{3 * H}, {4 * H}]"))
    assert "manifest.json says [15, 20]" in message(folder)
    (folder / "manifest.json").write_text(manifest)
    (folder / "rnnlm_softmax_b").write_bytes(b"abc")
    assert "It may be cut short" in message(folder)
    (folder / "rnnlm_softmax_b").unlink()
    assert "rnnlm_softmax_b" in message(folder)


def predicted(imported: ImportedModel, folder: Path, inputs: np.ndarray) -> np.ndarray:
    """Return what the model that is written and loaded again says to a series."""
    target = folder / "imported.safetensors"
    write_imported(imported, target)
    [prediction] = unrolled.load_table(target).predictions([inputs[:, 0].tolist()])
    return np.asarray(prediction.values)


def test_an_amplifier_of_nam_is_read_and_stepped(tmp_path: Path) -> None:
    torch.manual_seed(6)
    lstm, head = nn.LSTM(1, H, 2), nn.Linear(H, 1)
    xs = torch.randn(50, 1)
    expected = head(lstm(xs)[0]).detach().numpy()
    weights: list[float] = []
    for layer in range(2):
        parts = {name: getattr(lstm, f"{name}_l{layer}").detach() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        weights += torch.cat([parts["weight_ih"], parts["weight_hh"]], 1).flatten().tolist()
        weights += (parts["bias_ih"] + parts["bias_hh"]).tolist() + [0.0] * (2 * H)
    weights += [*head.weight.detach().flatten().tolist(), *head.bias.detach().tolist()]
    about = {"version": "0.5.4", "architecture": "LSTM", "config": {"input_size": 1, "hidden_size": H, "num_layers": 2}}
    path = tmp_path / "amp.nam"
    path.write_text(json.dumps({**about, "weights": weights}))
    assert read_numbers_model(path).run(xs.numpy()) == pytest.approx(expected, abs=1e-5)
    np.savetxt(tmp_path / "x.csv", xs)
    np.savetxt(tmp_path / "y.csv", expected)
    vectors = (str(tmp_path / "x.csv"), str(tmp_path / "y.csv"))
    imported = import_file(path, ImportOptions(vectors=vectors))
    assert imported.description == "Neural Amp Modeler LSTM: lstm of 5 units, lstm of 5 units, dense to 1"
    assert "50 recorded outputs are met within" in imported.notes[0]
    assert "check: 1,500 samples are those of the file's equations" in imported.notes[1]
    assert predicted(imported, tmp_path, xs.numpy()) == pytest.approx(expected, abs=1e-5)
    stored = weights.copy()
    stored[-(H + 1) - 2 * H : -(H + 1)] = [0.5] * (2 * H)  # h and c of the second layer
    path.write_text(json.dumps({**about, "weights": stored}))
    settled = import_file(path, ImportOptions())
    assert settled.notes[1:] == ("it starts from the state that the file stores",)
    states = torch.zeros(2, 2, 1, H)
    states[:, 1] = 0.5
    from_stored = head(lstm(xs[:, None], tuple(states))[0])[:, 0].detach().numpy()
    assert abs(from_stored - expected)[0] > 0.01
    assert predicted(settled, tmp_path, xs.numpy()) == pytest.approx(from_stored, abs=1e-5)
    series = [xs[:, 0].tolist(), xs[:20, 0].tolist()]  # each starts from the stored state
    both = unrolled.load_table(tmp_path / "imported.safetensors").predictions(series)
    assert np.asarray(both[1].values) == pytest.approx(from_stored[:20], abs=1e-5)
    assert isinstance(settled.model_file, TableModelFile)
    network, resets = settled.model_file.model, torch.zeros(50, 2, dtype=torch.bool)
    resets[0], resets[30, 1] = True, True  # a second series begins in the second row
    outputs, _ = network.stream(xs[:, None].expand(50, 2, 1), network.initial_state(2), resets)
    alone, _ = network.stream(xs[30:, None], network.initial_state(1))
    assert outputs[:, 0].detach().numpy() == pytest.approx(from_stored, abs=1e-5)
    assert outputs[30:, 1].detach().numpy() == pytest.approx(alone[:, 0].detach().numpy(), abs=1e-6)
    path.write_text(json.dumps({**about, "weights": weights, "sample_rate": 44100.0}))
    sound = import_file(path, ImportOptions()).model_file
    assert isinstance(sound, TableModelFile)
    assert sound.spec.source.describe() == "input: numbers at 44,100 a second"
    path.write_text(json.dumps({**about, "weights": weights}))
    with pytest.raises(UsageError, match="text= is for models of texts"):
        import_file(path, ImportOptions(text=str(path)))
    np.savetxt(tmp_path / "y.csv", expected + 1e-3)
    with pytest.raises(ModelError, match=r"The outputs differ by 0\.001"):
        import_file(path, ImportOptions(vectors=vectors))
    path.write_text(json.dumps({**about, "weights": weights[:-1]}))
    assert "fewer than its configuration" in message(path)
    path.write_text(json.dumps({**about, "architecture": "WaveNet", "weights": weights}))
    assert "'WaveNet' of Neural Amp Modeler" in message(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"config": {"hidden_size": 10**9}}, "hidden_size=1000000000, and a whole number from 1 to 39 is expected"),
        ({"config": {"hidden_size": 2, "num_layers": 10**9}}, "num_layers=1000000000, and"),
        ({"config": {"hidden_size": 2.5}}, "hidden_size=2.5, and"),
        ({"config": {"hidden_size": "a"}}, "hidden_size='a', and"),
        ({"config": {"input_size": -1, "hidden_size": 2}}, "input_size=-1, and"),
        ({"config": {"hidden_size": 2, "out_channels": 10**9}}, "out_channels=1000000000, and"),
        ({"config": {"hidden_size": 3}}, "fewer than its configuration"),
        ({"config": {"hidden_size": 1}}, "39 weights, and its configuration"),
        ({"config": None}, "is damaged, or not a model of audio samples"),
        ({"weights": [1e39] * 39}, "weights that are not finite"),
        ({"weights": [float("nan")] * 39}, "weights that are not finite"),
        ({"weights": ["a"]}, "is damaged, or not a model of audio samples"),
        ({"sample_rate": -5}, "sample_rate=-5, and"),
        ({"sample_rate": 1e30}, "sample_rate=1e+30, and"),
    ],
)  # fmt: skip
def test_amplifiers_whose_files_lie_are_refused(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    settings = {"input_size": 1, "hidden_size": 2, "num_layers": 1}
    weights = np.random.default_rng(1).normal(0, 0.5, 4 * 2 * 3 + 4 * 2 + 2 * 2 + 2 + 1).tolist()
    path = tmp_path / "amp.nam"
    if isinstance(change.get("config"), dict):
        change = {"config": settings | change["config"]}
    path.write_text(json.dumps({"architecture": "LSTM", "config": settings, "weights": weights, **change}))
    assert expected in message(path)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_rtneural_is_read_and_stepped(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    gates = 4 if kind == "lstm" else 3
    weights = [
        random.normal(size=(1, gates * H)),
        random.normal(size=(H, gates * H)),
        random.normal(size=(2, gates * H) if kind == "gru" else gates * H),
    ]
    dense = [random.normal(size=(H, 1)), random.normal(size=1)]
    layers = [(kind, weights, "tanh"), ("dense", dense, "sigmoid")]
    entries = [
        {"type": k, "activation": a, "shape": [None, None, 1], "weights": [w.tolist() for w in ws]} for k, ws, a in layers
    ]
    path = tmp_path / "amp.json"
    path.write_text(json.dumps({"in_shape": [None, None, 1], "layers": entries}))
    xs, h, c, expected = random.normal(size=(20, 1)), np.zeros(H), np.zeros(H), []
    for x in xs:
        if kind == "lstm":
            i, f, g, o = np.split(x @ weights[0] + h @ weights[1] + weights[2], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (x_z, x_r, x_n), (h_z, h_r, h_n) = (
                np.split(x @ weights[0] + weights[2][0], 3),
                np.split(h @ weights[1] + weights[2][1], 3),
            )
            z = sigmoid(x_z + h_z)
            h = z * h + (1 - z) * np.tanh(x_n + sigmoid(x_r + h_r) * h_n)
        expected.append(sigmoid(h @ dense[0] + dense[1]))
    assert read_numbers_model(path).run(xs) == pytest.approx(np.array(expected), abs=1e-6)
    assert "and recurrent layers with one linear layer after them are expected" in message(path)
    entries[-1]["activation"] = ""
    path.write_text(json.dumps({"in_shape": [None, None, 1], "layers": entries}))
    logits = -np.log(1 / np.array(expected) - 1)
    assert predicted(import_file(path, ImportOptions()), tmp_path, xs) == pytest.approx(logits, abs=1e-5)


def test_linear_layers_of_rtneural_are_multiplied_into_others(tmp_path: Path) -> None:
    """Before a recurrent layer, between two and after them; a layer with an activation is named."""
    torch.manual_seed(9)
    linear = [nn.Linear(1, 3), nn.Linear(H, 4), nn.Linear(H, 6), nn.Linear(6, 1)]
    first, second = nn.LSTM(3, H), nn.LSTM(4, H)

    def dense(layer: nn.Linear) -> dict[str, Any]:
        return {"type": "dense", "activation": "", "weights": [layer.weight.T.tolist(), layer.bias.tolist()]}

    def lstm(layer: nn.LSTM) -> dict[str, Any]:
        weight_ih, weight_hh, bias_ih, bias_hh = layer.parameters()
        return {"type": "lstm", "weights": [weight_ih.T.tolist(), weight_hh.T.tolist(), (bias_ih + bias_hh).tolist()]}

    entries = [dense(linear[0]), lstm(first), dense(linear[1]), lstm(second), dense(linear[2]), dense(linear[3])]
    path, xs = tmp_path / "amp.json", torch.randn(30, 1)
    path.write_text(json.dumps({"in_shape": [None, None, 1], "layers": entries}))
    expected = linear[3](linear[2](second(linear[1](first(linear[0](xs))[0]))[0])).detach().numpy()
    assert predicted(import_file(path, ImportOptions()), tmp_path, xs.numpy()) == pytest.approx(expected, abs=1e-5)
    entries[2]["activation"] = "tanh"
    path.write_text(json.dumps({"in_shape": [None, None, 1], "layers": entries}))
    assert "lstm of 5 units, dense to 4, lstm of 5 units" in message(path)


def test_a_model_of_guitarml_adds_its_input_to_the_output(tmp_path: Path) -> None:
    torch.manual_seed(8)
    lstm, head = nn.LSTM(1, H), nn.Linear(H, 1)
    weights = {f"rec.{name}": value.tolist() for name, value in lstm.state_dict().items()}
    weights |= {f"lin.{name}": value.tolist() for name, value in head.state_dict().items()}
    settings = {"model": "SimpleRNN", "input_size": 1, "skip": 1, "unit_type": "LSTM", "hidden_size": H}
    path, xs = tmp_path / "pedal.json", torch.randn(30, 1)
    path.write_text(json.dumps({"model_data": settings, "state_dict": weights}))
    imported = import_file(path, ImportOptions())
    assert imported.description == "GuitarML JSON: lstm of 5 units, dense to 1, 1 input added to the output"
    expected = (head(lstm(xs)[0]) + xs).detach().numpy()
    assert predicted(imported, tmp_path, xs.numpy()) == pytest.approx(expected, abs=1e-5)
    path.write_text(json.dumps({"model_data": settings | {"skip": 10**9}, "state_dict": weights}))
    assert "skip=1000000000, and a whole number from 1 to 1 is expected" in message(path)


def test_an_imported_amplifier_plays_a_wav_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random, units = np.random.default_rng(9), 3
    weights = random.normal(0, 0.5, 4 * units * (1 + units) + 4 * units + 2 * units + units + 1)
    settings = {"input_size": 1, "hidden_size": units, "num_layers": 1}
    Path("amp.nam").write_text(json.dumps({"architecture": "LSTM", "config": settings, "weights": weights.tolist()}))
    sound = random.uniform(-1, 1, (200, 1)).astype(np.float32)
    write_wav(Path("in.wav"), sound, 44_100)
    imported = cli("import", "amp.nam")
    assert "Next: unrolled predict runs/amp in.wav --wav out.wav" in imported.err
    assert cli("predict", "runs/amp", "in.wav", "--wav", "out.wav").out == "out.wav: 200 samples, 44,100 a second\n"
    samples, rate = read_wav(Path("out.wav"), "out.wav")
    expected = read_numbers_model(Path("amp.nam")).run(sound.astype(np.float64))
    assert samples == pytest.approx(expected, abs=1e-5)
    assert rate == 44_100
    Path("two.csv").write_text("input\nin.wav\nin.wav\n")
    assert "two.csv has more than one row" in cli("predict", "runs/amp", "two.csv", "--wav", "out.wav").err
    assert "No such file: no.wav" in cli("predict", "runs/amp", "no.wav", "--wav", "out.wav").err
    assert "would replace the input in.wav" in cli("predict", "runs/amp", "in.wav", "--wav", "in.wav").err
    Path("words.csv").write_text("input\n1 2 3\n")
    assert "does not know the samples per second" in cli("predict", "runs/amp", "words.csv", "--wav", "out.wav").err


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (list("abc"), "has 3 entries, and the model has 9 tokens"),
        ({letter: index for index, letter in enumerate("abcdefgh") } | {"the": 8}, "'the', which is not one character"),
        (["a", "a", *"bcdefgh"], "names 'a' twice"),
        ({letter: 2**40 * index for index, letter in enumerate(LETTERS)}, "has 9 entries, and the model has 9 tokens"),
        ("abc", "has 3 different characters"),
    ],
)  # fmt: skip
def test_a_vocabulary_that_does_not_fit_is_refused(value: Any, expected: str, tmp_path: Path) -> None:
    torch.save(CharModel(nn.LSTM).state_dict(), tmp_path / "m.pt")
    path = tmp_path / "v.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    assert expected in message(tmp_path / "m.pt", str(path))


def test_forms_of_a_vocabulary(tmp_path: Path) -> None:
    torch.save(CharModel(nn.LSTM).state_dict(), tmp_path / "m.pt")
    path = tmp_path / "v.json"
    forms = [
        list(LETTERS), {str(i): c for i, c in enumerate(LETTERS)}, {c: i + 1 for i, c in enumerate(LETTERS)},
        {"idx_to_token": {str(i + 1): c for i, c in enumerate(LETTERS)}, "other": 3},
    ]  # fmt: skip
    for form in forms:
        path.write_text(json.dumps(form))
        tokens = text_model(import_file(tmp_path / "m.pt", ImportOptions(vocabulary=str(path)))).tokenizer.token_strings()
        assert "".join(tokens) == LETTERS, form
    path.write_text(json.dumps(["<pad>", "[UNK]", "</s>", *"abc\n", "d", "e"]))
    imported = import_file(tmp_path / "m.pt", ImportOptions(vocabulary=str(path)))
    assert text_model(imported).tokenizer.token_strings() == ["\x00", "\ufffd", *"abc\n", "d", "e", ""]
    assert text_model(imported).documents == "file"
    assert imported.notes[-1] == "token 2, '</s>', is the end of a document"


def test_no_vocabulary_is_a_usage_error(tmp_path: Path) -> None:
    torch.save(CharModel(nn.LSTM).state_dict(), tmp_path / "m.pt")
    with pytest.raises(UsageError, match="name it with vocabulary=FILE"):
        import_file(tmp_path / "m.pt", ImportOptions())


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"PK\x03\x04", b"{", b"hello", b"\x89HDF\r\n\x1a\n", b"\x80\x02", b"[" * 5000]
)
@pytest.mark.parametrize("suffix", [".t7", ".pt", ".h5", ".keras", ".json", ".nam", ".safetensors"])
def test_what_is_no_model_is_refused(content: bytes, suffix: str, tmp_path: Path, vocabulary: str) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    assert str(path) in message(path, vocabulary)


def test_damage_that_hdf5_finds_late_and_weights_that_do_not_fit_are_one_sentence(tmp_path: Path, vocabulary: str) -> None:
    """h5py opens a file and fails when a group is read; a zip archive has places that are not in it."""
    path = write_h5(tmp_path / "m.h5", keras_layers("LSTM"))
    content = bytearray(path.read_bytes())
    first, causes = content.index(b"TREE") + 8, set()
    for start in range(first, len(content), max(1, (len(content) - first) // 60)):
        damaged = content[:start] + b"\xff" * 8 + content[start + 8 :]
        path.write_bytes(damaged)
        try:
            import_file(path, ImportOptions(vocabulary=vocabulary))
        except ModelError as error:
            causes.add(type(error.__cause__))
    assert RuntimeError in causes
    dense = {"type": "dense", "activation": "", "weights": [[[1.0]], [0.0, 0.0]]}
    (tmp_path / "r.json").write_text(json.dumps({"in_shape": [None, None, 1], "layers": [dense]}))
    with pytest.raises(ModelError, match=r"Layer 0 has weights of shape \(1, 1\), and \(2, 1\) is expected there"):
        read_numbers_model(tmp_path / "r.json")
    dense["weights"] = [[[1e308]], [0.0]]
    (tmp_path / "r.json").write_text(json.dumps({"in_shape": [None, None, 1], "layers": [dense]}))
    with pytest.raises(ModelError, match="not finite"):
        read_numbers_model(tmp_path / "r.json")
