"""Weights of textgenrnn, in the layouts of CuDNNLSTM and of LSTM: the same probabilities as the equations in torch."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import unrolled
from support.cli import Cli
from unrolled.errors import ModelError, UnrolledError, UsageError
from unrolled.exchange.import_options import ImportOptions
from unrolled.exchange.imports import import_file
from unrolled.runtime.text_network import TextModel, read_text_model
from unrolled.runtime.window_model import WindowModel
from unrolled.server.catalog import Catalog
from unrolled.server.http_errors import ApiError

LETTERS = "abcdefgh .,"
V, E, H, W = len(LETTERS) + 2, 6, 5, 7
CONFIG = {"rnn_layers": 2, "rnn_size": H, "rnn_bidirectional": False, "max_length": W, "dim_embeddings": E, "word_level": False}


class Reference(torch.nn.Module):
    """The network of textgenrnn, written in torch: each prediction is of one whole, padded window."""

    def __init__(self, is_bidirectional: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        width = H * (1 + is_bidirectional)
        self.embedding = torch.nn.Embedding(V, E)
        self.rnns = torch.nn.ModuleList(
            torch.nn.LSTM(size, H, batch_first=True, bidirectional=is_bidirectional) for size in (E, width)
        )
        self.attention = torch.nn.Linear(E + 2 * width, 1, bias=False)
        self.output = torch.nn.Linear(E + 2 * width, V)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn_like(weight) * 0.5)

    def forward(self, window: list[int]) -> torch.Tensor:
        parts = [self.embedding(torch.tensor([[0] * (W - len(window[-W:])) + window[-W:]]))]
        for rnn in self.rnns:
            parts.append(rnn(parts[-1])[0])
        joined = torch.cat(parts, -1)
        logits: torch.Tensor = self.output((torch.softmax(self.attention(joined), 1) * joined).sum(1))[0]
        return logits

    def write(self, path: Path, is_cudnn: bool, is_whole: bool = False) -> Path:
        """Write the layout of Keras; that of CuDNNLSTM has two biases, and kernels transposed within each gate."""
        with h5py.File(path, "w") as file:
            root = file.create_group("model_weights") if is_whole else file
            root["embedding/embedding/embeddings:0"] = self.embedding.weight.detach().numpy()
            root["attention/attention_2/attention_W:0"] = self.attention.weight.detach().numpy().T
            root["output/output/kernel:0"] = self.output.weight.detach().numpy().T
            root["output/output/bias:0"] = self.output.bias.detach().numpy()
            for number, rnn in enumerate(self.rnns, 1):
                state = {name: value.numpy() for name, value in rnn.state_dict().items()}
                for suffix in ("", "_reverse") if rnn.bidirectional else ("",):
                    direction = {"": "forward", "_reverse": "backward"}[suffix] if rnn.bidirectional else "rnn"
                    group = root.create_group(f"rnn_{number}/rnn_{number}/{direction}_lstm/lstm_cell")
                    for name, source in (
                        ("kernel:0", f"weight_ih_l0{suffix}"),
                        ("recurrent_kernel:0", f"weight_hh_l0{suffix}"),
                    ):
                        blocks = np.split(state[source], 4)  # (H, I) each
                        group[name] = np.concatenate([b.reshape(b.shape[::-1]) if is_cudnn else b.T for b in blocks], 1)
                    biases = [state[f"bias_{part}_l0{suffix}"] for part in ("ih", "hh")]
                    group["bias:0"] = np.concatenate(biases) if is_cudnn else sum(biases)
        return path


def write(folder: Path, is_cudnn: bool = True, is_bidirectional: bool = False, **config: Any) -> tuple[Path, Reference]:
    reference = Reference(is_bidirectional)
    path = reference.write(folder / "poems_weights.hdf5", is_cudnn)
    vocabulary = {"<s>": V - 1, **{letter: index + 1 for index, letter in enumerate(LETTERS)}}
    (folder / "poems_vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "poems_config.json").write_text(json.dumps(CONFIG | {"rnn_bidirectional": is_bidirectional} | config), "utf-8")
    return path, reference


@pytest.mark.parametrize("is_cudnn", [True, False])
@pytest.mark.parametrize("is_bidirectional", [True, False])
def test_its_probabilities_are_those_of_the_equations(is_cudnn: bool, is_bidirectional: bool, tmp_path: Path) -> None:
    path, reference = write(tmp_path, is_cudnn, is_bidirectional)
    imported = import_file(path, ImportOptions())
    assert isinstance(imported.model_file, TextModel)
    network, tokenizer = imported.model_file.network, imported.model_file.tokenizer
    ids = [V - 1, *tokenizer.encode("abc. fed, gab hgf").tolist(), V - 1, *tokenizer.encode("dad").tolist()]
    resets = np.array(ids) == V - 1
    model = WindowModel(network)
    logits, _ = model.unroll(np.array(ids)[:, None], model.initial_state(1), resets[:, None])
    state = model.initial_state(1)
    for t in range(len(ids)):
        start = int(np.flatnonzero(resets[: t + 1])[-1])
        with torch.no_grad():
            expected = reference(ids[start : t + 1]).numpy()
        np.testing.assert_allclose(logits[t, 0, 1:], expected[1:], atol=1e-5)
        assert logits[t, 0, 0] < -9000  # padding, which textgenrnn never writes
        state = model.initial_state(1) if resets[t] else state
        step_logits, state = model.step(np.array(ids[t : t + 1]), state)
        np.testing.assert_allclose(step_logits[0], logits[t, 0], atol=1e-5)


def test_a_whole_model_and_a_long_text_in_blocks(tmp_path: Path) -> None:
    """A text that is longer than a block of windows, with rows side by side, is the same as each row alone."""
    path, reference = write(tmp_path)
    reference.write(path, is_cudnn=True, is_whole=True)
    model_file = import_file(path, ImportOptions()).model_file
    assert isinstance(model_file, TextModel)
    model = WindowModel(model_file.network)
    ids = np.random.default_rng(1).integers(1, V, (700, 3))
    logits, _ = model.unroll(ids, model.initial_state(3))
    alone, _ = model.unroll(ids[:, 1:2], model.initial_state(1))
    np.testing.assert_allclose(logits[:, 1:2], alone, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(logits[650, 2, 1:], reference(ids[:651, 2].tolist()).numpy()[1:], atol=1e-5)


def test_commands_use_it_and_what_needs_a_state_is_refused(tmp_path: Path, cli: Cli) -> None:
    path, _ = write(tmp_path)
    (tmp_path / "t.txt").write_text("abc. fed\nhad a bad dad, a fed cab\n" * 3, "utf-8")
    done = cli("import", path, "--out", tmp_path / "m", "--text", tmp_path / "t.txt")
    assert done.code == 0
    assert "2 layers of 5 units, embedding 6, 13 tokens, attention over windows of 7 tokens" in done.out
    assert "token 12, '<s>', is the end of a document" in done.out
    assert "bits per token; chance is 3.7" in done.out
    model = unrolled.load(tmp_path / "m")
    sample = cli("sample", tmp_path / "m", "--prompt", "a", "--length", 30, "--seed", 4).out
    assert sample.rstrip("\n") == model.sample("a", length=30, seed=4)
    assert "\0" not in sample
    assert cli("score", tmp_path / "m", tmp_path / "t.txt").code == cli("info", tmp_path / "m").code == 0
    nats = model.evaluate(str(tmp_path / "t.txt")).nats
    assert nats == pytest.approx(model.evaluate(str(tmp_path / "t.txt"), window=1000).nats, abs=1e-5)
    for arguments in (
        ("explain", tmp_path / "m", tmp_path / "t.txt"),
        ("eval", tmp_path / "m", tmp_path / "t.txt", "--adapt"),
        ("export", tmp_path / "m", "--to", "numpy"),
        ("train", tmp_path / "t.txt", "--from", tmp_path / "m"),
    ):
        refused = cli(*arguments)
        assert refused.code == 2, arguments
        assert "was imported from textgenrnn, whose network reads its last tokens anew at each step" in refused.err
    for flag in ("--portable", "--int8"):
        assert "lstm-window" in cli("sample", tmp_path / "m", flag).err
    assert "reads the last 7 tokens anew" in cli("sample", tmp_path / "m", "--clamp", "0.1=0").err
    catalog = Catalog(None, [tmp_path / "m" / "model.safetensors"], model.session.options)
    with pytest.raises(ApiError, match="this model \\(textgenrnn\\) has none"):
        catalog.load(next(iter(catalog.entries().values())))


def message(path: Path, **options: Any) -> str:
    with pytest.raises((ModelError, UsageError)) as caught:
        import_file(path, ImportOptions(**options))
    assert isinstance(caught.value, UnrolledError)
    return str(caught.value)


def test_files_that_do_not_fit_are_refused_by_what_is_wrong(tmp_path: Path) -> None:
    path, _ = write(tmp_path)
    for config, expected in (
        ({"rnn_size": 128}, "rnn_size 128, and the weights have 5: it is of another model"),
        ({"rnn_layers": 3}, "rnn_layers 3, and the weights have 2"),
        ({"word_level": True}, "word_level True, and the vocabulary is of characters"),
        ({"max_length": 0}, "max_length 0, and 1 to 4096 tokens are expected"),
        ({"max_length": "40"}, "max_length '40'"),
    ):
        write(tmp_path, **config)
        assert expected in message(path)
    (tmp_path / "poems_config.json").write_text("{", "utf-8")
    assert "poems_config.json is no JSON" in message(path)
    (tmp_path / "poems_config.json").write_text("[]", "utf-8")
    assert "a JSON object with max_length" in message(path)
    (tmp_path / "poems_config.json").unlink()
    assert any("windows of 40 tokens, textgenrnn's default" in note for note in import_file(path, ImportOptions()).notes)
    (tmp_path / "other.json").write_text('{"a": 1, "b": 2}', "utf-8")
    assert "2 entries, and the model has 13 tokens" in message(path, vocabulary=str(tmp_path / "other.json"))
    (tmp_path / "poems_vocab.json").unlink()
    assert "there is no poems_vocab.json next to it" in message(path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path, reference = write(tmp_path)
    for name, value, expected in (
        ("attention/attention_2/attention_W:0", np.ones((4, 1)), "attention.weight has the shape \\(4,\\)"),
        ("output/output/kernel:0", np.ones((3, V)), "head.weight has the shape"),
        ("output/output/bias:0", np.full(V, np.nan), "not finite"),
        ("rnn_2/rnn_2/rnn_lstm/lstm_cell/bias:0", np.ones(7), "7 biases"),
        ("embedding/embedding/embeddings:0", np.ones((V, E + 1)), "attention.weight has the shape \\(16,\\), and \\(17,\\)"),
    ):
        with h5py.File(reference.write(path, is_cudnn=True), "r+") as file:
            del file[name]
            file[name] = value
        with pytest.raises(ModelError, match=expected):
            import_file(path, ImportOptions())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "damaged" in message(path)


@pytest.mark.parametrize("window", [0, -1, 10**9, "7", 7.0, True])
def test_a_hostile_window_in_a_model_file_is_refused(window: Any, tmp_path: Path) -> None:
    from unrolled.checkpoints.array_file import read_model, save_arrays

    path, _ = write(tmp_path)
    unrolled.import_model(path, out=str(tmp_path / "m"))
    header, arrays = read_model(tmp_path / "m" / "model.safetensors")
    save_arrays(tmp_path / "bad.safetensors", arrays, header | {"window": window})
    with pytest.raises(ModelError, match="its window is"):
        read_text_model(tmp_path / "bad.safetensors")


def test_an_embedding_of_other_tokens_is_refused(tmp_path: Path) -> None:
    path, _ = write(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["embedding/embedding/embeddings:0"]
        file["embedding/embedding/embeddings:0"] = np.zeros((V - 3, E), np.float32)
    assert f"The layer embedding has weights of shape {(V - 3, E)}, and the output has {V} tokens" in message(path)


def test_a_model_of_words_reads_marks_apart(tmp_path: Path) -> None:
    """textgenrnn puts spaces around all marks of its texts, also where its list has a word with the mark."""
    path, reference = write(tmp_path, word_level=True)
    words = ["the", "end", "end.", ".", "of", "day", ",", "fox", "dog", "ran", "far"]
    (tmp_path / "poems_vocab.json").write_text(json.dumps({"<s>": V - 1} | {word: i for i, word in enumerate(words, 1)}))
    model_file = import_file(path, ImportOptions()).model_file
    assert isinstance(model_file, TextModel)
    assert model_file.documents == "line"
    ids = [0, *(words.index(word) + 1 for word in ("the", "end", ".", "dog", ",", "fox"))]
    assert [0, *model_file.tokenizer.encode("The END. dog, cat fox").tolist()] == ids
    ids[0] = V - 1
    model = WindowModel(model_file.network)
    logits, _ = model.unroll(np.array(ids)[:, None], model.initial_state(1))
    with torch.no_grad():
        np.testing.assert_allclose(logits[-1, 0, 1:], reference(ids).numpy()[1:], atol=1e-5)
