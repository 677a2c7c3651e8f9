"""Recorded activations compared with steps by hand: in chunks, with clamped units, and for rows of tables."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from support.encoder_decoders import MACHINE, random_encoder_decoder
from support.tables import MODES as TABLES
from support.tables import read_mode
from unrolled.errors import UsageError
from unrolled.evaluation.predictor import Predictor
from unrolled.evaluation.text_loss import evaluate
from unrolled.generation.sampling import generate, stream_text
from unrolled.interpret.activations import Activations, record_activations, stream_activations
from unrolled.interpret.intervention import measure_effect, unit_importance
from unrolled.interpret.table_activations import record_row
from unrolled.nn.cell_wrappers import clamped
from unrolled.nn.cells import CELLS, GatedCell, state_tensors
from unrolled.nn.device import DeviceConfig
from unrolled.nn.encoder import BidirectionalLayer
from unrolled.nn.kernels.select import KERNELS, set_kernel, unsupported_reason
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.unit_clamp import Clamp, parse_clamp
from unrolled.options import ModelOptions, PredictOptions, SampleOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.pair_batching import PairDataset
from unrolled.text.tokenized_text import TokenizedText, from_ids, tokenize
from unrolled.text.tokenizer import CharTokenizer

pytestmark = pytest.mark.xdist_group("activations")  # the tests of this module share their tables

LETTERS = "\nabcdef"  # V = 7, and 8 with an end-of-sequence token
L, H, E = 3, 5, 4
CPU = DeviceConfig(torch.device("cpu"), torch.float32, 2)
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
GATES = {"rnn": (), "gru": ("r", "z", "n"), "gru-reset-before": ("r", "z", "n"), "lstm": ("i", "f", "g", "o")}

VARIANTS = [(cell, residual, not residual) for cell in GATES for residual in (True, False)]
"""Residual layers with one bias, and plain ones with two."""

every_model = pytest.mark.parametrize(("cell", "residual", "two_biases"), VARIANTS)
every_cell = pytest.mark.parametrize("cell", CELLS)
cell_by_hand = pytest.mark.parametrize("cell", GATES)
"""Cells whose steps are written out here; gates and clamps of the others are in tests/nn/test_new_cells.py."""


def network(
    cell: str = "lstm", residual: bool = True, two_biases: bool = False, symbols: int = 7, kernel: str = "auto"
) -> RecurrentLM:
    """Return a model with weights large enough that no gate is constant."""
    torch.manual_seed(4)
    options = ModelOptions(
        cell=cell,  # type: ignore[arg-type]  # a key of CELLS
        layers=L,
        hidden=H,
        embedding=None if residual else E,
        residual=residual,
        two_biases=two_biases,
        dropout=0.3,
    )
    model = RecurrentLM(symbols, options).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn_like(weight))
    set_kernel(model, kernel)
    return model


def text(size: int, seed: int = 0, letters: str = LETTERS) -> str:
    return "".join(np.random.default_rng(seed).choice(list(letters), size))


def stream_reading(size: int, seed: int = 0) -> TokenizedText:
    return tokenize(CharTokenizer(LETTERS), "stream", text(size, seed))


def line_reading(size: int) -> TokenizedText:
    return tokenize(CharTokenizer(LETTERS[1:], True), "line", text(size, 1))


def gates_by_hand(kind: str, cell: GatedCell, x: Tensor, h: Tensor) -> dict[str, Tensor]:
    """Return the gates of one step by the equations of the papers, gate by gate."""
    names = GATES[kind]
    if not names:
        return {}
    bias_h = torch.zeros_like(cell.bias) if cell.bias_hh is None else cell.bias_hh
    w, u, b, d = (m.chunk(len(names)) for m in (cell.weight_ih, cell.weight_hh, cell.bias, bias_h))
    at = {name: (x @ w[i].T + b[i], u[i], d[i]) for i, name in enumerate(names)}
    sums = {name: own + h @ matrix.T + more for name, (own, matrix, more) in at.items()}
    if kind == "lstm":
        return {name: torch.tanh(sums[name]) if name == "g" else torch.sigmoid(sums[name]) for name in names}
    r, z = torch.sigmoid(sums["r"]), torch.sigmoid(sums["z"])
    own, matrix, more = at["n"]
    inner = r * (h @ matrix.T + more) if kind == "gru" else (r * h) @ matrix.T + more
    return {"r": r, "z": z, "n": torch.tanh(own + inner)}


@torch.no_grad()
def by_hand(kind: str, model: RecurrentLM, reading: TokenizedText, clamps: list[Clamp] | None = None) -> dict[str, Tensor]:
    """Read a text one token at a time, layer by layer; return h, c, the gates and the logits."""
    layers = model.stack.layer_list()
    states: list[Any] = [layer.cell.initial_state(1) for layer in layers]
    found: dict[str, list[Tensor]] = {}
    logits = []
    for t, symbol in enumerate(reading.ids.tolist()):
        if reading.reset_mask is not None and reading.reset_mask[t]:
            states = [layer.cell.initial_state(1) for layer in layers]
        x = model.embedding(torch.tensor([symbol]))
        step: dict[str, list[Tensor]] = {}
        for index, layer in enumerate(layers):
            inner = layer.cell_input(x)
            gates = gates_by_hand(kind, layer.cell, inner, states[index].h)  # type: ignore[arg-type]  # it is gated
            y, states[index] = layer.cell.step(inner, states[index])
            for clamp in clamps or []:
                if clamp.layer == index:
                    y = y.clone()
                    y[:, clamp.unit] = clamp.value
                    states[index] = states[index]._replace(h=y)
            x = layer.add_residual(x, y)
            memory = {"c": states[index].c} if kind == "lstm" else {}
            for name, value in ({"h": states[index].h} | memory | gates).items():
                step.setdefault(name, []).append(value[0])
        for name, values in step.items():
            found.setdefault(name, []).append(torch.stack(values))
        logits.append(model.head(x)[0])
    return {name: torch.stack(values) for name, values in found.items()} | {"logits": torch.stack(logits)}


def same(found: Activations, expected: dict[str, Tensor]) -> None:
    assert set(found.arrays()) == {"ids", *expected}
    for name, values in expected.items():
        torch.testing.assert_close(torch.from_numpy(found.arrays()[name]), values, **CLOSE)


@every_model
@pytest.mark.parametrize("unit", ["stream", "line"])
def test_activations_are_those_of_steps_by_hand(cell: str, residual: bool, two_biases: bool, unit: str) -> None:
    model = network(cell, residual, two_biases)
    reading = stream_reading(41) if unit == "stream" else line_reading(41)
    assert reading.reset_mask is None or 3 <= reading.reset_mask.sum() < len(reading) - 3
    found = record_activations(model, reading)
    same(found, by_hand(cell, model, reading))
    assert tuple(found.gates) == GATES[cell]
    assert (found.c is not None) == (cell == "lstm")
    assert list(found.states_and_gates) == ["h", *(["c"] if cell == "lstm" else []), *GATES[cell]]
    assert all(values.shape == (len(reading), L, H) for values in found.states_and_gates.values())


@every_model
@pytest.mark.parametrize("kernel", KERNELS)
def test_logits_are_those_of_training(cell: str, residual: bool, two_biases: bool, kernel: str) -> None:
    if unsupported_reason(kernel, CELLS[cell](4, 4)):
        kernel = "auto"
    model = network(cell, residual, two_biases, kernel=kernel)
    for reading in (stream_reading(30), line_reading(30)):
        resets = None if reading.reset_mask is None else torch.from_numpy(reading.reset_mask).unsqueeze(-1)
        with torch.no_grad():
            logits, state = model(torch.from_numpy(reading.ids).unsqueeze(-1), model.initial_state(1), resets)
        found = record_activations(model, reading)
        torch.testing.assert_close(torch.from_numpy(found.logits), logits[:, 0], **CLOSE)
        last = [torch.from_numpy(values[-1]) for values in (found.h, found.c) if values is not None]
        for layer, own in enumerate(state.layers):
            for values, tensor in zip(last, state_tensors(own), strict=True):
                torch.testing.assert_close(values[layer], tensor[0], **CLOSE)


@pytest.mark.slow
@every_cell
def test_chunks_are_the_whole_text(cell: str) -> None:
    model = network(cell)
    for steps, reading in itertools.product((1, 7, 1000), (stream_reading(22), line_reading(22))):
        whole, pieces = record_activations(model, reading), list(stream_activations(model, reading, chunk_steps=steps))
        assert [len(piece.tokenized) for piece in pieces[:-1]] == [steps] * (len(pieces) - 1)
        assert "".join(piece.tokenized.text for piece in pieces) == reading.text
        for name, values in whole.arrays().items():
            joined = np.concatenate([piece.arrays()[name] for piece in pieces])
            np.testing.assert_allclose(joined, values, rtol=1e-4, atol=1e-5, err_msg=name)
        if reading.reset_mask is not None:
            starts = np.concatenate([piece.tokenized.reset_mask for piece in pieces if piece.tokenized.reset_mask is not None])
            assert starts.tolist() == reading.reset_mask.tolist()


@pytest.mark.slow
@every_cell
def test_bits_are_the_evaluated_loss(cell: str) -> None:
    model = network(cell)
    whole = tokenize(CharTokenizer(LETTERS[1:], True), "line", text(300, 1) + "a\n")  # an unfinished line has no row
    for reading, end in ((stream_reading(300), None), (whole, 6)):
        longest = None if end is None else int(np.diff(np.flatnonzero(reading.ids == end)).max())
        result = evaluate(model, CPU, reading.ids, eos_id=end, max_document_length=longest)
        bits = record_activations(model, reading).bits()
        assert math.isnan(bits[0])
        assert result.num_tokens == len(bits) - 1 == np.isfinite(bits).sum()
        assert bits[1:].mean() == pytest.approx(result.bits, abs=1e-5)


def test_top_predictions_are_in_descending_order() -> None:
    found = record_activations(network(), stream_reading(23))
    chances = np.exp(found.log_probs())
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
    ids, values = found.top_predictions(4)
    assert ids.shape == values.shape == (23, 4)
    assert (np.diff(values, axis=1) <= 0).all()
    np.testing.assert_allclose(values, np.sort(chances, 1)[:, ::-1][:, :4], atol=1e-6)
    np.testing.assert_allclose(values, np.take_along_axis(chances, ids, 1), atol=1e-6)
    everything, all_values = found.top_predictions(100)
    assert everything.shape == (23, 7)
    np.testing.assert_allclose(all_values.sum(1), 1, atol=1e-5)
    assert {*map(tuple, np.sort(everything, 1).tolist())} == {tuple(range(7))}


@every_cell
def test_no_token_and_one_token(cell: str) -> None:
    model = network(cell)
    empty = record_activations(model, tokenize(CharTokenizer(LETTERS), "stream", ""))
    assert (empty.h.shape, empty.logits.shape, empty.bits().shape) == ((0, L, H), (0, 7), (0,))
    assert empty.top_predictions()[0].shape == (0, 5)
    one = record_activations(model, stream_reading(1))
    assert (one.h.shape, one.logits.shape) == ((1, L, H), (1, 7))
    assert np.isnan(one.bits()).tolist() == [True]
    end = record_activations(model, tokenize(CharTokenizer(LETTERS[1:], True), "line", ""))
    assert (end.tokenized.ids.tolist(), end.tokenized.text, len(end.bits())) == ([6], "", 1)
    shapes, one_shapes = ({name: v.shape[1:] for name, v in found.arrays().items()} for found in (empty, one))
    assert list(shapes.items()) == list(one_shapes.items())


def test_unknown_characters_are_replaced_and_documents_reset_the_state() -> None:
    letters = CharTokenizer(LETTERS[1:], True)
    reading = tokenize(letters, "line", "aB\u00e9\nf")
    assert reading.ids.tolist() == [6, 0, 1, 4, 6, 5]
    assert reading.token_texts == ["", "a", "B", "\u00e9", "\n", "f"]
    assert reading.known_mask.tolist() == [True, True, False, False, True, True]
    assert reading.reset_mask is not None
    assert reading.reset_mask.tolist() == [True, False, False, False, True, False]
    again = from_ids(letters, "line", reading.ids)
    assert (again.ids.tolist(), again.text, again.known_mask.tolist()) == (reading.ids.tolist(), "abe\nf", [True] * 6)
    assert again.reset_mask is not None
    assert again.reset_mask.tolist() == reading.reset_mask.tolist()
    assert (len(reading.head(3)), reading.head(3).text) == (3, "aB")


def test_recording_leaves_the_model_unchanged() -> None:
    model = network().train()
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    cells = model.cells()
    record_activations(model, stream_reading(9))
    for _ in stream_activations(model, stream_reading(9), [Clamp(1, 2, 0.5)], chunk_steps=2):
        break
    assert model.training
    assert all(before is after for before, after in zip(cells, model.cells(), strict=True))
    assert all((weights[name] == weight).all() for name, weight in model.state_dict().items())


def test_between_two_chunks_torch_settings_are_unchanged() -> None:
    model = network()
    for _ in stream_activations(model, stream_reading(9), chunk_steps=2):
        assert not torch.is_inference_mode_enabled()


# Units that are held


@every_model
def test_a_clamped_unit_has_its_value_and_the_rest_follows(cell: str, residual: bool, two_biases: bool) -> None:
    model = network(cell, residual, two_biases)
    for reading in (stream_reading(25), line_reading(25)):
        free = record_activations(model, reading)
        clamps = [Clamp(1, 2, 0.7), Clamp(1, 4, -1.5), Clamp(2, 0)]
        held = record_activations(model, reading, clamps)
        same(held, by_hand(cell, model, reading, clamps))
        for clamp in clamps:
            assert (held.h[:, clamp.layer, clamp.unit] == np.float32(clamp.value)).all()
        assert (held.h[:, 0] == free.h[:, 0]).all()
        assert not np.allclose(held.h[1:, 1, 0], free.h[1:, 1, 0])
        assert not np.allclose(held.logits, free.logits, atol=1e-3)
        np.testing.assert_array_equal(record_activations(model, reading).logits, free.logits)


@every_cell
def test_clamps_of_single_batch_columns(cell: str) -> None:
    model = network(cell)
    ids = torch.from_numpy(stream_reading(12).ids)
    clamps = [Clamp(0, 1, 0.9, 0), Clamp(0, 1, -0.6, 3), Clamp(2, 3, -0.4, 2), Clamp(1, 0, 0.2, 2)]
    with torch.no_grad():
        with clamped(model.stack, clamps, 4):
            together, _ = model(ids.unsqueeze(-1).expand(-1, 4), model.initial_state(4))
        free, _ = model(ids.unsqueeze(-1), model.initial_state(1))
    for lane in range(4):
        own = [clamp._replace(row=None) for clamp in clamps if clamp.row == lane]
        alone = record_activations(model, stream_reading(12), own).logits if own else free[:, 0].numpy()
        torch.testing.assert_close(together[:, lane], torch.from_numpy(alone), **CLOSE)


def test_clamps_are_removed_after_an_error() -> None:
    model = network()
    before = model.cells()

    def fail() -> None:
        with clamped(model.stack, [Clamp(0, 1), Clamp(2, 4)]):
            assert all(own is not held for own, held in zip(before[::2], model.cells()[::2], strict=True))
            assert model.cells()[1] is before[1]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(own is held for own, held in zip(before, model.cells(), strict=True))


@pytest.mark.parametrize(
    ("clamp", "sentence"),
    [
        (Clamp(3, 0), "no layer 3 to clamp a unit of: the model has layers 0 to 2"),
        (Clamp(-1, 0), "no layer -1"),
        (Clamp(1, 5), "Layer 1 has no unit 5 .*0 to 4"),
        (Clamp(1, -1), "no unit -1"),
    ],
)
def test_a_unit_that_does_not_exist_cannot_be_clamped(clamp: Clamp, sentence: str) -> None:
    model = network()
    before = model.cells()
    with pytest.raises(UsageError, match=sentence):
        record_activations(model, stream_reading(5), [Clamp(0, 0), clamp])
    assert all(own is held for own, held in zip(before, model.cells(), strict=True))


def test_parse_clamp() -> None:
    assert parse_clamp("0.17=-1") == Clamp(0, 17, -1.0)
    assert parse_clamp("1.2") == Clamp(1, 2, 0.0)
    assert parse_clamp("12.0=.25") == Clamp(12, 0, 0.25)
    assert parse_clamp("0.1=1e-3") == Clamp(0, 1, 0.001)


@given(st.integers(0, 99), st.integers(0, 9999), st.floats(-1e6, 1e6, allow_nan=False))
def test_every_clamp_can_be_parsed(layer: int, unit: int, value: float) -> None:
    assert parse_clamp(f"{layer}.{unit}={value!r}") == Clamp(layer, unit, value)


@pytest.mark.parametrize(
    "wrong_text",
    ["", "1", "1.", ".1", "1.2=", "1.2=x", "=1", "a.b", "1.2.3", "1,2", "1.2=nan", "1.2=inf", "1.2=1e999", "1=2.0"],
)
def test_other_texts_are_no_clamps(wrong_text: str) -> None:
    with pytest.raises(UsageError, match=r"LAYER.UNIT=VALUE, such as 0.17=-1 \(layers and units count from 0\); got "):
        parse_clamp(wrong_text)


@given(st.text("0123456789.=-+einfax \u00b2", max_size=9))
def test_any_other_text_is_a_usage_error(wrong_text: str) -> None:
    try:
        found = parse_clamp(wrong_text)
    except UsageError:
        pass
    else:
        assert math.isfinite(found.value)
        assert "." in wrong_text


def test_a_value_too_large_for_float32_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        record_activations(network(), stream_reading(5), [parse_clamp("0.1=1e39")])


@cell_by_hand
def test_samples_with_clamped_units(cell: str) -> None:
    model, letters = network(cell), CharTokenizer(LETTERS)
    options = SampleOptions(length=40, count=3, prompt="ab")
    free, held, again = (
        [sample.text for sample in generate(model, letters, options, 5, clamps)]
        for clamps in ([], [Clamp(2, 1, 3.0)], [Clamp(2, 1, 3.0)])
    )
    assert held == again != free
    assert held[1] == "ab" + "".join(stream_text(model, letters, SampleOptions(length=40, prompt="ab"), 6, [Clamp(2, 1, 3.0)]))
    with torch.no_grad():  # no weight reads the unit
        model.head.weight[:, 1] = 0
        model.cells()[2].weight_hh[:, 1] = 0
    unread, unchanged = (
        [sample.text for sample in generate(model, letters, options, 5, clamps)] for clamps in ([], [Clamp(2, 1, 3.0)])
    )
    assert unread == unchanged


def test_an_effect_is_the_difference_of_two_recordings() -> None:
    model, letters, reading = network(), CharTokenizer(LETTERS), stream_reading(50)
    clamp, options = Clamp(2, 1, 3.0), SampleOptions(length=30, temperature=0.8, seed=4, count=7)
    found = measure_effect(model, letters, reading, clamp, options)
    changes = record_activations(model, reading, [clamp]).bits() - record_activations(model, reading).bits()
    np.testing.assert_array_equal(found.bit_changes, changes)
    assert found.mean_bit_change == pytest.approx(float(changes[1:].mean()))
    own = SampleOptions(length=30, temperature=0.8)
    assert (found.seed, found.clamp) == (4, clamp)
    assert found.sample_before == next(generate(model, letters, own, 4)).text
    assert found.sample_after == next(generate(model, letters, own, 4, [clamp])).text != found.sample_before
    given_bits = measure_effect(model, letters, reading, clamp, options, np.zeros(50))
    np.testing.assert_allclose(given_bits.bit_changes[1:], record_activations(model, reading, [clamp]).bits()[1:])


@pytest.mark.slow
@every_cell
def test_importance_is_one_pass_for_every_unit(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.interpret.intervention.MAX_UNITS_PER_BATCH", 4)  # 15 units: three batches of 4 and one of 3
    model = network(cell)
    for reading, value in ((stream_reading(70), 0.0), (line_reading(70), 0.6)):
        free = record_activations(model, reading).bits()[1:].mean()
        expected = [
            [record_activations(model, reading, [Clamp(layer, unit, value)]).bits()[1:].mean() - free for unit in range(H)]
            for layer in range(L)
        ]
        found = unit_importance(model, reading, value=value)
        assert found.shape == (L, H)
        np.testing.assert_allclose(found, expected, atol=2e-5)
        assert found.std() > 1e-3
    assert not unit_importance(model, stream_reading(1)).any()


# Rows of tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PairDataset]:
    folder = tmp_path_factory.mktemp("tables")
    return {mode: read_mode(folder, mode, 30) for mode in TABLES}


def row_answerer(pairs: PairDataset, cell: str = "lstm", end: float = -50.0, **pair: Any) -> Predictor:
    """Return an untrained model; a decoder generates up to its limit, or nothing if the end-of-sequence token is probable."""
    answerer = Predictor(random_encoder_decoder(pairs, cell, **pair), pairs.spec, MACHINE, PredictOptions())
    if answerer.model.decoder is not None:
        answerer.max_new_tokens = 5
        with torch.no_grad():
            answerer.model.decoder.bias[-1] += end
    return answerer


VALUES: dict[str, Any] = {
    "many-to-one": "the red dog sleeps",
    "many-to-many": "dbca",
    "synced": [[0.1, 0.9], [0.8, 0.3], [0.5, 0.4], [0.2, 0.7]],
    "one-to-one": [[0, 255, 0, 0]] * 4,
    "one-to-many": "three",
}


def source(mode: str) -> Cell:
    return Cell(VALUES[mode], "value")


@torch.no_grad()
def read_by_hand(answerer: Predictor, cell: Cell) -> list[Tensor]:
    """Return the states `(S, H)` of each encoder layer, one step at a time, the backward half from the last step on."""
    model = answerer.model
    reader = model.encoder
    xs = reader.input_layer(answerer.collate([answerer.spec.encode_source(cell)])["source"])
    found = []

    def run(cell: Any, inputs: list[Tensor]) -> list[Tensor]:
        state, ys = cell.initial_state(1), []
        for x in inputs:
            y, state = cell.step(x, state)
            ys.append(y)
        return ys

    if reader.bidirectional:
        for layer in reader.layers:
            assert isinstance(layer, BidirectionalLayer)
            steps = list(layer.norm(xs))
            ahead, back = run(layer.forward_cell, steps), run(layer.backward_cell, steps[::-1])[::-1]
            ys = torch.cat([torch.stack(ahead), torch.stack(back)], -1)
            found.append(ys[:, 0])
            xs = xs + ys
    elif reader.stack is not None:
        for one in reader.stack.layer_list():
            ys = torch.stack(run(one.cell, list(one.cell_input(xs))))
            found.append(ys[:, 0])
            xs = xs + ys
    return found


@cell_by_hand
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("mode", TABLES)
def test_a_row_is_encoded_as_by_hand_and_predicted_as_by_predict(
    tables: dict[str, PairDataset], mode: str, cell: str, both: bool
) -> None:
    answerer = row_answerer(tables[mode], cell, bidirectional=both)
    modules = dict(answerer.model.named_modules())
    own = source(mode)
    found = record_row(answerer, own)
    expected = read_by_hand(answerer, own)
    if expected:
        assert list(found.encoder) == ["h", *(["c"] if cell == "lstm" else []), *GATES[cell]]
        steps = len(answerer.spec.encode_source(own))
        assert all(values.shape == (steps, 2, 12) for values in found.encoder.values())
        for layer, states in enumerate(expected):
            torch.testing.assert_close(torch.from_numpy(found.encoder["h"][:, layer]), states, **CLOSE)
    else:
        assert (found.encoder, mode[:4]) == ({}, "one-")
    alone = answerer.predict([own])[0]
    assert (found.prediction.text, found.prediction.values.tolist()) == (alone.text, alone.values.tolist())
    assert (found.step_probs is not None) == (mode == "synced")
    assert "".join(found.source_tokens) == (VALUES[mode].replace(" ", "") if mode.startswith("many") else "")
    assert all(module is modules[name] for name, module in answerer.model.named_modules())


@every_cell
def test_the_backward_half_begins_with_the_last_step(tables: dict[str, PairDataset], cell: str) -> None:
    answerer = row_answerer(tables["many-to-one"], cell)
    long, short, other = (
        record_row(answerer, Cell(value, "value")) for value in ("the red dog sleeps", "dog sleeps", "the red cat")
    )
    assert (long.source_tokens, short.source_tokens) == (["the", "red", "dog", "sleeps"], ["dog", "sleeps"])
    for name, values in long.encoder.items():
        ahead, back = values[:, 0, :6], values[:, 0, 6:]
        np.testing.assert_allclose(back[2:], short.encoder[name][:, 0, 6:], atol=1e-5, err_msg=name)
        np.testing.assert_allclose(ahead[:2], other.encoder[name][:2, 0, :6], atol=1e-5, err_msg=name)
    assert not np.allclose(long.encoder["h"][2:, 0, :6], short.encoder["h"][:, 0, :6], atol=1e-3)
    assert not np.allclose(long.encoder["h"][:2, 0, 6:], other.encoder["h"][:2, 0, 6:], atol=1e-3)


@cell_by_hand
@pytest.mark.parametrize("both", [True, False])
def test_step_probabilities_are_those_of_predict_in_any_batch(tables: dict[str, PairDataset], cell: str, both: bool) -> None:
    answerer = row_answerer(tables["synced"], cell, bidirectional=both)
    longer = Cell([[0.3, 0.6]] * 9, "value")
    among = answerer.predict([longer, source("synced"), longer])[1]
    found = record_row(answerer, source("synced"))
    assert found.step_probs is not None
    assert found.step_probs.shape == (4, len(tables["synced"].spec.target.labels))
    np.testing.assert_allclose(found.step_probs.sum(1), 1, atol=1e-5)
    assert found.step_probs.argmax(1).tolist() == among.values.tolist() == found.prediction.values.tolist()
    likely = np.log(found.step_probs.max(1)).mean()
    assert among.probability == pytest.approx(float(np.exp(likely)), abs=1e-5)


@cell_by_hand
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("mode", ["many-to-many", "one-to-many"])
def test_decoder_activations_are_its_steps(tables: dict[str, PairDataset], mode: str, cell: str, attention: bool) -> None:
    answerer = row_answerer(tables[mode], cell, attention=attention)
    own = source(mode)
    found = record_row(answerer, own)
    model, symbols = answerer.model, found.prediction.values.tolist()
    assert model.decoder is not None
    assert len(symbols) == 5
    assert all(values.shape == (len(symbols), 2, 12) for values in found.decoder.values())
    assert (found.attention is not None) == attention
    with torch.no_grad():
        memory = model.encode(answerer.collate([answerer.spec.encode_source(own)]))
        state = model.decoder.initial_state(memory)
        for at, symbol in enumerate(symbols):
            _, layers, weights = model.decoder.step(state, memory, at)
            for layer, there in enumerate(layers.layers):
                torch.testing.assert_close(torch.from_numpy(found.decoder["h"][at, layer]), there.h[0], **CLOSE)
                if cell == "lstm":
                    torch.testing.assert_close(torch.from_numpy(found.decoder["c"][at, layer]), there.c[0], **CLOSE)
            if weights is not None and found.attention is not None:
                np.testing.assert_allclose(found.attention[at], weights[0].numpy(), atol=1e-5)
            state = model.decoder.append(state, layers, torch.tensor([symbol]))
    if found.attention is not None:
        assert found.attention.shape == (len(symbols), len(answerer.spec.encode_source(own)))
        np.testing.assert_allclose(found.attention.sum(1), 1, atol=1e-5)
    names = {f"decoder.{name}" for name in found.decoder} | {f"encoder.{name}" for name in found.encoder}
    assert set(found.arrays()) == names | ({"attention"} if attention else set())


@cell_by_hand
@pytest.mark.parametrize("mode", ["many-to-many", "one-to-many"])
def test_a_row_with_an_empty_prediction(tables: dict[str, PairDataset], mode: str, cell: str) -> None:
    answerer = row_answerer(tables[mode], cell, end=50.0)
    found = record_row(answerer, source(mode))
    assert (found.prediction.text, len(found.prediction.values)) == ("", 0)
    assert all(len(values) == 0 for values in found.decoder.values())
    assert bool(found.encoder) == (mode == "many-to-many")


def test_recording_ends_after_an_error(tables: dict[str, PairDataset], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answerer = row_answerer(tables["many-to-one"])
    modules = dict(answerer.model.named_modules())

    def fail(batch: Any) -> Any:
        assert dict(answerer.model.named_modules()).keys() != modules.keys()
        raise KeyError

    answerer.predict_with_attention(source("many-to-one"))
    monkeypatch.setattr(answerer, "predict_with_attention", lambda cell: (None, None))
    monkeypatch.setattr(answerer.model, "logits", fail)
    with pytest.raises(KeyError):
        record_row(answerer, source("many-to-one"))
    assert all(module is modules[name] for name, module in answerer.model.named_modules())
