"""Every export computes what the model computes, proves it before it is written, and finds a wrong writer."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.cli import Cli
from support.programs import change_script, need
from support.text_networks import CELLS, HARD_CELLS, LAYERS, NEWER_CELLS, job_of, saved_model
from unrolled.errors import UsageError
from unrolled.exchange import c_export, c_source, card_export, export_job, html_export, numpy_export, onnx_builder, onnx_graph
from unrolled.exchange.export_job import ExportError, ExportJob, compare_with_reference, rounding_cost
from unrolled.exchange.exports import EXPORTS, export_model
from unrolled.exchange.onnx_export import step_path
from unrolled.exchange.vectors import make_vectors
from unrolled.generation.sampling import encode_prompt
from unrolled.runtime import portable
from unrolled.runtime.portable import PortableNetwork
from unrolled.views import writer_page

WEIGHTS = ("int8", "int4", "float32")
PAIRS = [*((c, k) for c in CELLS for k in LAYERS), *NEWER_CELLS, *HARD_CELLS]
COMBINATIONS = [(cell, layers, WEIGHTS[i % 3]) for i, (cell, layers) in enumerate(PAIRS)]
DIAGONAL = [*((cell, list(LAYERS)[index % 4]) for index, cell in enumerate((*CELLS, *CELLS[2:]))), *NEWER_CELLS, *HARD_CELLS]
"""Every cell and every kind of layer at least once, where a combination takes a process or more."""


@pytest.fixture
def onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError:
        onnxruntime = None
    return need(onnxruntime, "onnx and onnxruntime")


def saved_job(tmp_path: Path, out: str, cell: str = "lstm", layers: str = "residual", **options: Any) -> ExportJob:
    return job_of(saved_model(tmp_path / "m.safetensors", cell, layers), out, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "layers", "weights"), COMBINATIONS)
def test_c_has_the_bits_of_the_definition(tmp_path: Path, compiler: str, cell: str, layers: str, weights: Any) -> None:
    """Compiled for this processor in GNU mode: there gcc would contract a product and a sum to one operation, if it might."""
    job = saved_job(tmp_path, "m.c", cell, layers)
    source, flash, _ = c_source.c_source(PortableNetwork(job.model.network, weights), job.model.tokenizer, "t", "m.c")
    assert flash > 1000
    level = "-O3" if cell in CELLS else "-O1"  # a third of the time
    reply = c_export.run_c_test(compiler, source, "-std=gnu11", level, "-march=native", "-Wall", "-Wextra", "-Werror")
    assert reply == "32 steps with all logits and states, 200 draws"


def test_fused_operations_are_noticed(tmp_path: Path, compiler: str) -> None:
    job = saved_job(tmp_path, "m.c")
    source, *_ = c_source.c_source(PortableNetwork(job.model.network), job.model.tokenizer, "t", "m.c")
    assert "fp-contract=off" in source
    with pytest.raises(ExportError, match="compile without -ffast-math"):
        c_export.run_c_test(compiler, source, "-O2", "-ffast-math")
    broken = source.replace("float r = (x - n *", "float r = (float)((double)x - (double)n *", 1)
    assert broken != source
    with pytest.raises(ExportError, match="draw|step"):
        c_export.run_c_test(compiler, broken.replace("y = y > -1.0f", "y = y * 1.0000001f; y = y > -1.0f", 1), "-O0")


@pytest.mark.slow
@pytest.mark.parametrize(("has_eos", "is_bytes"), [(True, False), (False, True)])
def test_c_and_the_command_line_write_the_same_text(
    tmp_path: Path, compiler: str, cli: Cli, has_eos: bool, is_bytes: bool
) -> None:
    path = saved_model(tmp_path / "m.safetensors", "gru", has_eos=has_eos, is_bytes=is_bytes)
    assert cli("export", path, "--to", "c", "--out", "m.c").code == 0
    subprocess.run([compiler, "-O2", "-DMAIN", "m.c", "-o", "m", "-lm"], check=True)
    unknown = "A\u00c9\u201c\ufb01\u0327\u672c\U0001d41a"  # some have a case, some a decomposition, some nothing known
    for prompt, temperature, seed in (
        ("", 1.0, 3),
        ("caf\u00e9 \u65e5", 0.6, 2**40 + 1),
        (unknown, 0.5, 7),
        ("a", 1e-40, 1),
        ("a", 1e-46, 1),
    ):
        arguments = ["--length", 120, "--temperature", temperature, "--seed", seed, "--prompt", prompt]
        ours = json.loads(cli("sample", path, "--portable", "--json", *arguments).out)["samples"][0]["text"] + "\n"
        done = subprocess.run(["./m", "120", str(temperature), str(seed), prompt], capture_output=True, check=True)
        assert done.stdout.decode("utf-8", "replace") == ours
        assert len(ours) > len(prompt) + 1


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "layers"), DIAGONAL)
def test_the_script_of_the_page_has_the_same_bits(tmp_path: Path, node: str, cell: str, layers: str) -> None:
    job = saved_job(tmp_path, "m.html", cell, layers)
    result = html_export.export(job)
    assert "node: 32 steps with all logits and states, 200 draws, the same bits with and without WebAssembly" in result.checks
    assert b"https:" not in result.files[job.out]


@pytest.mark.slow
@pytest.mark.parametrize("float16", [False, True])
@pytest.mark.parametrize(("cell", "layers"), [(cell, layers) for cell, layers, _ in COMBINATIONS])
def test_onnx_computes_the_model(tmp_path: Path, onnxruntime: Any, cell: str, layers: str, float16: bool) -> None:
    job = saved_job(tmp_path, "m.onnx", cell, layers, to="onnx", float16=float16)
    result = export_model(job, "onnx")
    assert len(result.checks) == 2
    session = onnxruntime.InferenceSession(str(step_path(job.out)), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    assert names[:2] == ["token", "h_0"]
    assert [item.name for item in session.get_outputs()] == ["logits", *(f"next_{name}" for name in names[1:])]
    outputs = onnxruntime.InferenceSession(str(job.out), providers=["CPUExecutionProvider"]).get_outputs()
    assert outputs[0].shape[:2] == ["T", "B"]


def graphs_of(graph: Any) -> list[Any]:
    """Return a graph and those inside its nodes."""
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return [graph, *(found for part in inner for found in graphs_of(part))]


@pytest.mark.parametrize(("cell", "layers"), [("lstm", "residual"), ("gru", "plain"), ("slstm", "plain")])
def test_the_graphs_suit_other_programs(tmp_path: Path, onnxruntime: Any, cell: str, layers: str) -> None:
    """Quantizers and converters name nodes; OpenVINO lists each name of a value; tract fixes the sizes of the inputs alone.

    OpenCV, IREE, OpenVINO and emx-onnx-cgen drop or refuse other attributes of recurrent nodes, and lengths, their fifth input.
    """
    network = saved_job(tmp_path, "m.onnx", cell, layers).model.network
    for is_step, float16 in ((False, False), (True, False), (False, True)):
        graphs = graphs_of(onnx_graph.build_graph(network, is_step, float16, {}).graph)
        nodes = [node for graph in graphs for node in graph.node]
        assert all(node.name == node.output[0] for node in nodes)
        assert len({node.name for node in nodes}) == len(nodes)
        main = graphs[0]
        assert not any(node.op_type == "Identity" for node in main.node)
        produced = {name for node in main.node for name in node.output}
        assert {item.name for item in main.output} <= produced
        recurrent = [node for node in nodes if node.op_type in ("RNN", "GRU", "LSTM")]
        assert {attribute.name for node in recurrent for attribute in node.attribute} <= {"hidden_size", "linear_before_reset"}
        assert not any(node.input[4] for node in recurrent)
        assert len(graphs) == (1 if cell in CELLS or is_step else 1 + len(network.layers))
        infos = [info for graph in graphs[1:] for info in (*graph.input, *graph.output)]
        assert not any(dim.dim_param for info in infos for dim in info.type.tensor_type.shape.dim)


@pytest.mark.parametrize(("cell", "layers"), [("gru-reset-before", "plain"), ("mingru", "residual")])
def test_sizes_can_be_fixed_for_compilers(tmp_path: Path, onnxruntime: Any, cell: str, layers: str) -> None:
    """As docs/formats.md says of IREE, with the tool that comes with onnxruntime."""
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    network = saved_job(tmp_path, "m.onnx", cell, layers).model.network
    model, generator = onnx_graph.build_graph(network, False, False, {}), np.random.default_rng(0)
    feed = {"tokens": generator.integers(0, network.vocab_size, (5, 3))}
    feed |= {item.name: generator.normal(size=(3, network.hidden_size)).astype("f") for item in model.graph.input[1:]}
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)
    for name, size in (("T", 5), ("B", 3)):
        make_dim_param_fixed(model.graph, name, size)
    infos = (*model.graph.input, *model.graph.output)
    assert not any(dim.dim_param for info in infos for dim in info.type.tensor_type.shape.dim)
    outputs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)
    for output, right in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, right, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "layers"), [*DIAGONAL[:4], *NEWER_CELLS, *HARD_CELLS])
def test_the_numpy_file_computes_the_model(tmp_path: Path, cell: str, layers: str) -> None:
    job = saved_job(tmp_path, "m.py", cell, layers, to="numpy")
    result = export_model(job, "numpy")
    assert "states carried over" in result.checks[0]
    assert set(os.listdir()) == {"m.py", "m.safetensors"}


def test_the_numpy_file_is_readable_and_runs(tmp_path: Path, cli: Cli) -> None:
    path = saved_model(tmp_path / "m.safetensors", "lstm", is_bytes=True)
    assert cli("export", path, "--to", "numpy", "--out", "m.py").code == 0
    assert len([line for line in Path("m.py").read_text("utf-8").splitlines() if line.strip()]) <= 85
    done = subprocess.run(["python3", "m.py", "ab", "30"], capture_output=True)
    assert done.stdout.decode().startswith("ab")
    content = Path("m.safetensors").read_bytes()
    Path("m.safetensors").write_bytes(content[:-400] + bytes(400))
    assert b"the weights are not those" in subprocess.run(["python3", "m.py"], capture_output=True).stderr


def swapped(array: np.ndarray) -> np.ndarray:
    """Return an array of four gates with the second and the third exchanged."""
    i, f, g, o = np.split(array, 4)
    return np.concatenate([i, g, f, o])


def swap_onnx_gates(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(onnx_builder.GATES, "lstm", ("i", "f", "o", "g"))


def change_onnx_layer(change: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    original = onnx_graph.add_layer
    return lambda patch: patch.setattr(onnx_graph, "add_layer", lambda *args: change(original, *args))


def drop_onnx_layer(original: Any, graph: Any, index: int, x: str, *rest: Any) -> str:
    y = original(graph, index, x, *rest)
    return x if index == 1 else str(y)


def drop_onnx_state(original: Any, graph: Any, *rest: Any) -> str:
    y = original(graph, *rest)
    recurrent = [node for node in graph.nodes if node.op_type == "LSTM"][-1]
    del recurrent.input[5:]
    return str(y)


def freeze_onnx_time(original: Any, graph: Any, index: int, x: str, *rest: Any) -> str:
    if index == 0 and not graph.is_step:
        bounds = [graph.weight(f"frozen_{value}", np.array([value])) for value in (0, 7)]
        x = graph.node("Slice", [x, *bounds], ["frozen"])
    return str(original(graph, index, x, *rest))


ONNX_FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "two gates are swapped": swap_onnx_gates,
    "the second layer is dropped": change_onnx_layer(drop_onnx_layer),
    "the initial state is dropped": change_onnx_layer(drop_onnx_state),
    "time is frozen": change_onnx_layer(freeze_onnx_time),
}


@pytest.mark.parametrize("fault", ONNX_FAULTS)
def test_a_wrong_onnx_writer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onnxruntime: Any, fault: str) -> None:
    ONNX_FAULTS[fault](monkeypatch)
    with pytest.raises(ExportError, match="exported (logits|h|c)"):
        export_model(saved_job(tmp_path, "m.onnx", to="onnx"), "onnx")
    assert os.listdir() == []


C_FAULTS = {
    "two gates are swapped": ("2 * RNN_HIDDEN + i] + recurrent[2 *", "RNN_HIDDEN + i] + recurrent["),
    "the second layer is dropped": ("index < RNN_LAYERS", "index < 1"),
    "the initial state is dropped": (
        "cell_step(model, layer, index);",
        "memset(model->h, 0, 9); cell_step(model, layer, index);",
    ),
    "time is frozen": ("void m_step(m_model *model, int token) {", "void m_step(m_model *model, int token) { token = 0;"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", C_FAULTS)
def test_a_wrong_c_writer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, fault: str) -> None:
    old, new = C_FAULTS[fault]

    def wrong(*arguments: Any) -> tuple[str, int, int]:
        source, flash, ram = c_source.c_source(*arguments)
        assert old in source
        return source.replace(old, new, 1), flash, ram

    monkeypatch.setattr(c_export, "c_source", wrong)
    with pytest.raises(ExportError, match="FAILED at step"):
        export_model(saved_job(tmp_path, "m.c", to="c"), "c")
    assert os.listdir() == []


def page_fault(fault: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a page as a wrong writer would write them."""
    if fault == "two gates are swapped":
        data["layers"][0]["bias"], data["layers"][1]["bias"] = data["layers"][1]["bias"], data["layers"][0]["bias"]
    elif fault == "the second layer is dropped":
        data["layers"] = data["layers"][:1]
    else:
        data["cell"] = "gru"
    return data


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["two gates are swapped", "the second layer is dropped", "the cell is another"])
def test_a_wrong_page_writer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str, fault: str) -> None:
    original = writer_page.network_data
    monkeypatch.setattr(writer_page, "network_data", lambda model: page_fault(fault, original(model)))
    with pytest.raises(ExportError, match="computes something else"):
        export_model(saved_job(tmp_path, "m.html"), "html")
    assert os.listdir() == []


SCRIPT_FAULTS = {"the initial state is dropped": "state.h[0].fill(0);", "time is frozen": "token = 0;"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", SCRIPT_FAULTS)
def test_a_wrong_script_of_the_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str, fault: str) -> None:
    begin = "step(state, token, hold = null) {"
    change_script(monkeypatch, begin, begin + SCRIPT_FAULTS[fault])
    with pytest.raises(ExportError, match="computes something else"):
        export_model(saved_job(tmp_path, "m.html"), "html")
    assert os.listdir() == []


def test_a_wrong_numpy_writer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = saved_job(tmp_path, "m.py", to="numpy")
    with monkeypatch.context() as patch:
        patch.setitem(numpy_export.CELL_STEPS, "lstm", numpy_export.CELL_STEPS["lstm"].replace("i, f, g, o =", "i, f, o, g ="))
        with pytest.raises(ExportError, match="exported logits differ"):
            export_model(job, "numpy")
    for old, new in (
        ("zip(CELLS, state)", "zip(CELLS[:1], state)"),
        ("x, state):\n@CELL@", "x, state):\n    state = [0 * s for s in state]\n@CELL@"),
        ("= EMBEDDING[ids], []", "= EMBEDDING[0 * ids], []"),  # time is frozen
    ):
        with monkeypatch.context() as patch:
            assert old in numpy_export.SCRIPT
            patch.setattr(numpy_export, "SCRIPT", numpy_export.SCRIPT.replace(old, new))
            with pytest.raises(ExportError):
                export_model(job, "numpy")
    assert os.listdir() == []


def test_a_wrong_portable_layout_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors come from the portable step itself, so that is compared with the network of PyTorch."""
    original = portable.portable_layer

    def wrong(cell: str, layer: Any, *formats: Any) -> Any:
        return original(cell, dataclasses.replace(layer, bias=swapped(layer.bias)), *formats)

    monkeypatch.setattr(portable, "portable_layer", wrong)
    with pytest.raises(ExportError, match="differ from the model's"):
        export_model(saved_job(tmp_path, "m.html"), "html")


def test_what_is_compared_are_several_sizes_with_states_carried_over(tmp_path: Path) -> None:
    job, seen = saved_job(tmp_path, "m.c"), []

    def run(ids: Any, states: Any) -> Any:
        seen.append((ids.shape, float(np.abs(states[0][0]).max())))
        return runner(ids, states)

    from unrolled.exchange.export_job import portable_runner

    runner = portable_runner(PortableNetwork(job.model.network, "float32"))
    assert "largest difference" in compare_with_reference(job, run)
    assert len({shape for shape, _ in seen}) >= 3
    assert len({shape[1] for shape, _ in seen}) >= 3
    assert all(largest > 0 for _, largest in seen)


def test_a_check_that_takes_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_job, "TIMEOUT_SECONDS", 0.001)
    with pytest.raises(ExportError, match="is too large: python"):
        export_model(saved_job(tmp_path, "m.py", to="numpy"), "numpy")
    assert os.listdir() == []


@pytest.mark.slow
@pytest.mark.parametrize("to", EXPORTS)
def test_a_file_that_exists_is_not_overwritten(tmp_path: Path, cli: Cli, to: str) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    path = saved_model(tmp_path / "m.safetensors", "rnn")
    out = {"numpy": "m.py", "card": "README.md"}.get(to, f"m.{to}")
    Path(out).write_text("mine")
    refused = cli("export", path, "--to", to, "--out", out)
    assert refused.code == 2
    assert f"{out} exists and is not overwritten" in refused.err
    assert Path(out).read_text() == "mine"
    assert cli("export", path, "--to", to, "--out", out, "--force").code == 0
    assert Path(out).read_bytes() != b"mine"


def test_a_second_file_is_not_overwritten_either(tmp_path: Path) -> None:
    Path("m.safetensors").write_text("mine")
    with pytest.raises(UsageError, match=r"m.safetensors' exists"):
        export_model(saved_job(tmp_path, "m.py", to="numpy"), "numpy")
    assert os.listdir() == ["m.safetensors"]


def test_places_and_models_that_cannot_be(tmp_path: Path, cli: Cli) -> None:
    path = saved_model(tmp_path / "m.safetensors", "rnn")
    with pytest.raises(UsageError, match="is in a folder that does not exist"):
        export_model(job_of(path, "nowhere/m.c"), "c")
    Path("folder").mkdir()
    assert "is a folder" in cli("export", path, "--to", "c", "--out", "folder").err
    assert "ends with .py" in cli("export", path, "--to", "numpy", "--out", "m.txt").err
    assert "int8 weights" in cli("export", path, "--weights", "int4").err
    Path("text.txt").write_text("no model")
    assert cli("export", "text.txt", "--to", "c").code == 4
    assert cli("export", "missing", "--to", "c").code == 4
    assert cli("export", path, "--to", "docx").code == 2


def test_what_rounding_costs_is_measured_on_a_text(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "m.safetensors", "lstm", has_eos=False)
    text = tmp_path / "text.txt"
    text.write_text("abc def ghi jkl mno\n" * 15, "utf-8")
    assert rounding_cost(job_of(path, "m.c"), PortableNetwork(job_of(path, "m.c").model.network)) is None
    job, costs = job_of(path, "m.c", text=str(text)), {}
    for weights in ("float32", "int8", "int4"):
        cost = rounding_cost(job, PortableNetwork(job.model.network, weights))
        assert cost is not None
        costs[weights] = abs(cost["extra_bits"])
        assert cost["tokens"] > 100
    assert costs["float32"] < 1e-5
    assert costs["int8"] < costs["int4"]


@pytest.mark.slow
def test_the_size_of_ram_is_the_size_of_the_struct(tmp_path: Path, compiler: str) -> None:
    for cell, layers in (
        ("lstm", "plain"),
        ("gru", "residual"),
        ("slstm", "plain"),
        ("mogrifier-gru", "one-hot"),
        ("mingru", "residual"),
    ):
        job = saved_job(tmp_path, "m.c", cell, layers)
        source, _, ram = c_source.c_source(PortableNetwork(job.model.network), job.model.tokenizer, "t", "m.c")
        size_check = f"\ntypedef char size_check[sizeof(m_model) == {ram} ? 1 : -1];\n"
        Path("checked.c").write_text(source + size_check, "utf-8")
        subprocess.run([compiler, "-fsyntax-only", "checked.c"], check=True)


def test_a_card_has_the_facts_of_the_run(book: Path, cli: Cli) -> None:
    options = ["--steps", 3, "--hidden", 8, "--layers", 1, "--batch", 4, "--bptt", 8, "--out", "r", "--sample-length", 0]
    assert cli("train", book, "--seed", 4, *options).code == 0
    assert cli("export", "r", "--to", "card").code == 0
    card = Path("README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: unrolled\n")
    for fact in ("book.txt", "seed 4", "Kneser-Ney", "| this model |", "of a sample of", "## Limits", "unrolled sample"):
        assert fact in card, fact
    assert str(book.parent) not in card


def test_a_card_names_the_unit_of_its_loss(tmp_path: Path) -> None:
    job = job_of(saved_model(tmp_path / "m.safetensors", "gru", is_bytes=True), "README.md", to="card")
    card = card_export.card_text(job, {})
    assert "bits per byte" in card
    assert "character" not in card


def test_vectors_cover_the_vocabulary_and_depend_on_every_part(tmp_path: Path) -> None:
    job = saved_job(tmp_path, "m.c", "lstm", "plain")
    vectors = make_vectors(PortableNetwork(job.model.network))
    assert len(set(vectors.tokens)) > len(vectors.tokens) // 3
    job.model.network.layers[-1].bias[-1] += 0.01
    changed = make_vectors(PortableNetwork(job.model.network))
    assert all(a != b for a, b in zip(vectors.hashes, changed.hashes, strict=True))


def test_prompts_of_the_page_and_the_command_line_are_the_same_ids(tmp_path: Path) -> None:
    job = saved_job(tmp_path, "m.html")
    data = writer_page.token_data(job.model.tokenizer)
    ids, _ = encode_prompt(job.model.tokenizer, "abc \u65e5")
    assert ids == [data["endId"], *(data["codePoints"].index(ord(character)) for character in "abc \u65e5")]
