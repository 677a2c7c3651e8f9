"""The model file as plain arrays: every cell and shape of network, in every stored number format, and nothing else."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unrolled.checkpoints.array_file import read_model, save_arrays
from unrolled.checkpoints.model_file import TextModelFile, load_text_model, save_checked, save_model
from unrolled.errors import ModelError
from unrolled.network_shapes import LINEAR_CELLS
from unrolled.nn.cells import CELLS
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.runtime.numpy_model import CELL_STEPS
from unrolled.runtime.text_network import GATE_NAMES, STATE_NAMES, read_text_model
from unrolled.text.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("\n abcd\u00e9", True)
GOLDEN = Path(__file__).parents[1] / "checkpoints" / "golden"
SHAPES: list[dict[str, Any]] = [
    {"residual": False, "embedding": 0, "two_biases": True},
    {"residual": False, "embedding": 5},
    {"residual": True},
    {"residual": True, "two_biases": True},
]


def saved_model(path: Path, **options: Any) -> RecurrentLM:
    torch.manual_seed(1)
    model = RecurrentLM(TOKENIZER.vocab_size, ModelOptions(hidden=9, layers=3, **options)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, 0, 0.4)
    save_model(path, TextModelFile(model, TOKENIZER, "line", {"steps": 3}))
    return model


def test_the_gates_are_those_of_the_cells() -> None:
    for name in CELL_STEPS:
        cell = CELLS[name]
        assert len(GATE_NAMES[name]) == cell.num_gates
        assert cell.gate_names in ((), GATE_NAMES[name])
        assert cell(3, 4).initial_state(1)._fields == STATE_NAMES.get(name, ("h",))


@pytest.mark.parametrize(("cell", "shape"), [*itertools.product(CELL_STEPS, SHAPES)])
def test_arrays_are_those_of_the_network(tmp_path: Path, cell: str, shape: dict[str, Any]) -> None:
    if cell in LINEAR_CELLS:
        shape = shape | {"two_biases": False}
    network = saved_model(tmp_path / "m", cell=cell, **shape)
    model = read_text_model(tmp_path / "m")
    expected = network.state_dict()
    assert {name: array.tolist() for name, array in model.network.arrays().items()} == {
        name: tensor.tolist() for name, tensor in expected.items()
    }
    assert model.network.num_parameters == sum(tensor.numel() for tensor in expected.values())
    assert (model.network.vocab_size, model.network.hidden_size) == (TOKENIZER.vocab_size, 9)
    assert (model.tokenizer.to_json(), model.documents, model.history) == (TOKENIZER.to_json(), "line", {"steps": 3})
    assert model.options == network.options
    assert model.network.embedding_matrix().tolist() == network.embedding_matrix().tolist()
    names = GATE_NAMES[cell]
    last = model.network.layers[2]
    stacked = {key: np.concatenate([last.gate(name)[key] for name in names]) for key in last.gate(names[0])}
    assert all(np.array_equal(array, expected[f"stack.layers.2.cell.{key}"]) for key, array in stacked.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_shorter_formats_are_converted_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    network = saved_model(tmp_path / "m")
    tensors = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    tensors["head.bias"][:3] = torch.tensor([-0.0, 65280.0, 2.0**-24])
    header, _ = read_model(tmp_path / "m")
    save_checked(tmp_path / "short", tensors, header)
    arrays = read_text_model(tmp_path / "short").network.arrays()
    loaded = load_text_model(tmp_path / "short").model.state_dict()
    for name, tensor in tensors.items():
        assert arrays[name].dtype == np.float32
        assert arrays[name].tobytes() == tensor.float().numpy().tobytes() == loaded[name].numpy().tobytes()


def test_arrays_are_written_as_tensors_are(tmp_path: Path) -> None:
    tensors = {
        "b": torch.ones(2, 3),
        "a": torch.arange(5),
        "c": torch.zeros(0, 4),
        "d": torch.tensor(True),
        "e": torch.eye(3).T,
    }
    save_checked(tmp_path / "torch", tensors, {"kind": "training"})
    save_arrays(tmp_path / "numpy", {name: tensor.numpy() for name, tensor in tensors.items()}, {"kind": "training"})
    assert (tmp_path / "torch").read_bytes() == (tmp_path / "numpy").read_bytes()
    header, arrays = read_model(tmp_path / "numpy")
    assert header == {"format": 2, "kind": "training"}
    assert {name: array.tolist() for name, array in arrays.items()} == {name: t.tolist() for name, t in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"hidden": 8, "layers": 3}}, "the weights are not those of its options"),
        ({"options": {"hidden": 9, "layers": 2}}, "the weights are not those of its options"),
        ({"options": {"hidden": 9, "layers": 3, "cell": "gru"}}, "the weights are not those of its options"),
        ({"options": {"hidden": 9, "layers": 3, "embedding": 4}}, "Residual layers need embedding= equal to hidden="),
        ({"options": {"hiden": 9}}, "unknown setting 'hiden'; did you mean 'hidden'"),
        ({"options": {"hidden": 9, "layers": 3, "cell": "mgu"}}, "expected one of rnn, gru, gru-reset-before, lstm"),
        ({"tokenizer": {"kind": "tiles"}}, "tokenizer cannot be read"),
        ({"history": 3}, "no model that this version can read"),
        ({"generation": {"length": 9}}, "its generation is .*, and some of temperature, top_k, top_p, min_p are expected"),
        ({"generation": {"temperature": -1}}, "no model that this version can read: .*temperature"),
        ({"kind": "table"}, "is a model of a table, and one of texts is expected"),
        ({"kind": "training"}, "holds no model but 'training'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    saved_model(tmp_path / "m")
    header, arrays = read_model(tmp_path / "m")
    save_arrays(tmp_path / "bad", arrays, header | change)
    with pytest.raises(ModelError, match=message):
        read_text_model(tmp_path / "bad")


def test_a_vocabulary_that_does_not_fit_the_head_is_refused(tmp_path: Path) -> None:
    saved_model(tmp_path / "m")
    header, arrays = read_model(tmp_path / "m")
    save_arrays(tmp_path / "bad", arrays, header | {"tokenizer": CharTokenizer("ab").to_json()})
    with pytest.raises(ModelError, match="the weights are not those of its options"):
        read_text_model(tmp_path / "bad")
    save_arrays(tmp_path / "bad", arrays | {"head.bias": arrays["head.bias"].astype(np.float64)}, header)
    with pytest.raises(ModelError, match="the weights are not float32"):
        read_text_model(tmp_path / "bad")


def test_files_of_format_1_are_read() -> None:
    model = read_text_model(GOLDEN / "run" / "model.safetensors")
    loaded = load_text_model(GOLDEN / "run" / "model.safetensors")
    assert model.network.arrays().keys() == loaded.model.state_dict().keys()
    assert model.tokenizer.to_json() == loaded.tokenizer.to_json()


def test_reading_does_not_import_torch() -> None:
    path = GOLDEN / "run" / "model.safetensors"
    script = (
        "import json, sys\nfrom pathlib import Path\nfrom unrolled.runtime.text_network import read_text_model\n"
        f"model = read_text_model(Path({str(path)!r}))\n"
        "print(json.dumps([model.network.cell, [name for name in sys.modules if name.split('.')[0] == 'torch']]))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == ["lstm", []]
