"""The network of a table: rows are independent, directions and attention are right under padding, search finds the best."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.encoder_decoders import MACHINE, random_encoder_decoder
from support.tables import MODES as TABLES
from support.tables import read_mode
from unrolled.checkpoints.model_file import TableModelFile, load_model, save_model
from unrolled.errors import ModelError, UsageError
from unrolled.evaluation.calibration import fit_temperature, mean_loss
from unrolled.evaluation.predictor import Predictor
from unrolled.generation.beam_search import attention_weights, beam_search, sample_sequences
from unrolled.nn.attention import POOLS, Pooling
from unrolled.nn.encoder import BidirectionalLayer, make_reverse_index
from unrolled.nn.encoder_decoder import EncoderDecoder, append_eos
from unrolled.options import ModelOptions, PairOptions, PredictOptions, SampleOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.pair_batching import PairDataset, bucket_by_length


def tensors(pairs: PairDataset, index: Any) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in pairs.collate(np.array(index)).arrays().items()}


@pytest.mark.parametrize("mode", TABLES)
@pytest.mark.parametrize("cell", ["rnn", "gru", "gru-reset-before", "lstm"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_row_does_not_depend_on_its_neighbours(tmp_path: Path, mode: str, cell: str, bidirectional: bool) -> None:
    pairs = read_mode(tmp_path, mode, 40)
    model = random_encoder_decoder(pairs, cell, bidirectional=bidirectional)
    with torch.no_grad():
        together = model.loss_per_target(tensors(pairs, range(12)))
        for row in range(12):
            alone = model.loss_per_target(tensors(pairs, [row]))[:, 0]
            torch.testing.assert_close(together[: len(alone), row], alone, atol=1e-5, rtol=1e-5)
            assert not together[len(alone) :, row].any()


@pytest.mark.parametrize("pool", POOLS)
def test_pools_see_only_what_is_there(pool: str) -> None:
    layer = Pooling(6, pool, bidirectional=True).eval()
    memory = torch.randn(5, 3, 6)
    lengths = torch.tensor([5, 2, 3])
    whole = layer(memory, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(layer(memory[:length, row : row + 1], lengths[row : row + 1])[0], whole[row])
        memory[length:, row] = 1e6
    torch.testing.assert_close(layer(memory, lengths), whole)


def test_the_backward_direction_is_the_forward_one_of_the_row_turned_round() -> None:
    layer = BidirectionalLayer(ModelOptions(cell="lstm", hidden=6, dropout=0.0)).eval()
    xs, lengths = torch.randn(5, 2, 6), torch.tensor([5, 3])
    ys = layer(xs, make_reverse_index(5, lengths)) - xs
    for row, length in enumerate(lengths.tolist()):
        turned = layer.norm(xs[:length, row : row + 1]).flip(0)
        back, _ = layer.backward_cell.unroll(turned, layer.backward_cell.initial_state(1))
        torch.testing.assert_close(ys[:length, row, 3:], back.flip(0)[:, 0])


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("attention", [True, False])
def test_writing_step_by_step_is_writing_at_once(tmp_path: Path, cell: str, attention: bool) -> None:
    pairs = read_mode(tmp_path, "many-to-many", 40)
    model = random_encoder_decoder(pairs, cell, attention=attention)
    assert model.decoder is not None
    batch = tensors(pairs, range(6))
    with torch.no_grad():
        memory = model.encode(batch)
        ids = append_eos(batch["target"], model.decoder.eos_id).clamp_min(0)
        whole, _ = model.decoder(ids, memory)
        state = model.decoder.initial_state(memory)
        for at in range(len(ids)):
            scores, layers, _ = model.decoder.step(state, memory, at)
            torch.testing.assert_close(scores, whole[at], atol=1e-5, rtol=1e-5)
            state = model.decoder.append(state, layers, ids[at])


def test_what_is_looked_at_is_there_and_adds_up(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-many", 40)
    model, batch = random_encoder_decoder(pairs), tensors(pairs, range(6))
    written = beam_search(model, batch, PredictOptions(beam=2), 7)
    weights = attention_weights(model, batch, written)
    assert weights is not None
    for row, one in enumerate(weights):
        assert one.shape == (len(written[row].ids), int(batch["lengths"][row]))
        np.testing.assert_allclose(one.sum(1), 1, atol=1e-5)
    assert attention_weights(random_encoder_decoder(pairs, attention=False), batch, written) is None


def chance(model: EncoderDecoder, batch: dict[str, Tensor], ids: tuple[int, ...]) -> float:
    assert model.decoder is not None
    whole = torch.tensor([*ids, model.decoder.eos_id])[:, None]
    with torch.no_grad():
        scores, _ = model.decoder(whole, model.encode(batch))
    return float(scores.log_softmax(-1).gather(-1, whole.unsqueeze(-1)).sum())


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all(tmp_path: Path, penalty: float) -> None:
    pairs = read_mode(tmp_path, "one-to-many", 40)
    model, batch = random_encoder_decoder(pairs), tensors(pairs, [1])
    symbols, limit = model.shape.target_size, 3
    texts = [ids for length in range(limit + 1) for ids in itertools.product(range(symbols), repeat=length)]

    def worth(ids: tuple[int, ...]) -> float:
        return float(chance(model, batch, ids) / ((5 + len(ids) + 1) / 6) ** penalty)

    best = max(texts, key=worth)
    found = beam_search(model, batch, PredictOptions(beam=200, length_penalty=penalty), limit)[0]
    assert tuple(found.ids.tolist()) == best
    assert found.log_prob == pytest.approx(chance(model, batch, best), abs=1e-4)


def test_a_beam_of_one_takes_the_likeliest_each_time(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-many", 40)
    model, batch = random_encoder_decoder(pairs), tensors(pairs, range(8))
    assert model.decoder is not None
    found = beam_search(model, batch, PredictOptions(beam=1), 6)
    with torch.no_grad():
        memory = model.encode(batch)
        state = model.decoder.initial_state(memory)
        texts: list[list[int]] = [[] for _ in range(8)]
        ended = [False] * 8
        for at in range(6):
            scores, layers, _ = model.decoder.step(state, memory, at)
            ids = scores.argmax(-1)
            for row, symbol in enumerate(ids.tolist()):
                ended[row] |= symbol == model.decoder.eos_id
                texts[row] += [] if ended[row] else [symbol]
            state = model.decoder.append(state, layers, ids)
    assert [row.ids.tolist() for row in found] == texts


def test_draws_follow_their_seeds_alone_or_among_others(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-many", 40)
    model, batch = random_encoder_decoder(pairs), tensors(pairs, range(5))
    options = SampleOptions(temperature=1.0)
    together = sample_sequences(model, batch, options, [10, 11, 12, 13, 14], 9)
    for row in range(5):
        alone = sample_sequences(model, tensors(pairs, [row]), options, [10 + row], 9)[0]
        assert alone.ids.tolist() == together[row].ids.tolist()
        assert alone.log_prob == pytest.approx(together[row].log_prob, abs=1e-4)


@pytest.mark.parametrize("mode", TABLES)
def test_answers_come_in_the_order_of_the_rows_and_do_not_depend_on_each_other(tmp_path: Path, mode: str) -> None:
    make, source, _ = TABLES[mode]
    pairs = read_mode(tmp_path, mode, 40)
    answerer = Predictor(random_encoder_decoder(pairs), pairs.spec, MACHINE, PredictOptions(beam=2))
    cells = [Cell(row[source.split(":")[0]], f"row {n}") for n, row in enumerate(make(30, 8))]
    cells[7] = Cell("", "row 7")
    together = list(answerer.predict_iter(cells))
    assert together[7].text == ""
    for cell, answer in zip(cells, together, strict=True):
        alone = answerer.predict([cell])[0]
        assert alone.text == answer.text
        assert (alone.probability or 0) == pytest.approx(answer.probability or 0, abs=1e-5)


@pytest.mark.parametrize("mode", TABLES)
def test_a_model_in_its_file_is_the_model(tmp_path: Path, mode: str) -> None:
    pairs = read_mode(tmp_path, mode, 40)
    model = random_encoder_decoder(pairs)
    save_model(tmp_path / "m.safetensors", TableModelFile(model, pairs.spec, {"steps": 3}))
    saved = load_model(tmp_path / "m.safetensors")
    assert isinstance(saved, TableModelFile)
    assert saved.spec.to_json() == pairs.spec.to_json()
    assert saved.history == {"steps": 3}
    for (name, one), other in zip(model.state_dict().items(), saved.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_file_that_draws_more_than_it_holds_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    from unrolled.checkpoints.model_file import save_checked

    pairs = read_mode(tmp_path, "synced", 40)
    about = TableModelFile(random_encoder_decoder(pairs), pairs.spec).metadata()
    for change in ({"hidden": 65536}, {"layers": 64}, {"cell": "transformer"}):
        options = about["options"] | change
        weights = random_encoder_decoder(pairs).state_dict()
        save_checked(tmp_path / "m", weights, about | {"options": options})
        with pytest.raises(ModelError):
            load_model(tmp_path / "m")


def test_a_temperature_makes_probabilities_honest_and_changes_no_answer(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-one", 200)
    model, index = random_encoder_decoder(pairs), np.arange(200)
    assert model.head is not None
    with torch.no_grad():
        model.head.weight.mul_(30)  # far too sure of itself
    before = mean_loss(model, pairs, index, MACHINE)
    answers = [a.text for a in Predictor(model, pairs.spec, MACHINE, PredictOptions()).predict([Cell("a red dog sleeps", "")])]
    after = fit_temperature(model, pairs, index, MACHINE)
    assert after < before
    assert after == pytest.approx(mean_loss(model, pairs, index, MACHINE), abs=1e-5)
    assert float(model.temperature) > 1
    again = [a.text for a in Predictor(model, pairs.spec, MACHINE, PredictOptions()).predict([Cell("a red dog sleeps", "")])]
    assert answers == again


@pytest.mark.parametrize("read", ["whole", "columns", "rows", "pixels"])
def test_a_picture_is_read_at_once_or_as_a_sequence(tmp_path: Path, read: str) -> None:
    pairs = read_mode(tmp_path, "one-to-one", 40)
    model = random_encoder_decoder(pairs, read=read, bidirectional=False)
    with torch.no_grad():
        memory, lengths, whole = model.encoder(tensors(pairs, [0, 1])["source"], torch.tensor([1, 1]))
    assert len(memory) == {"whole": 4, "columns": 4, "rows": 4, "pixels": 16}[read]
    assert lengths.tolist() == [len(memory)] * 2
    assert whole.shape == (2, 12)
    if read in ("columns", "rows"):  # without looking back, the first step knows nothing of the last
        changed = tensors(pairs, [0, 1])["source"].clone()
        changed[(slice(None), slice(None), slice(None), -1) if read == "columns" else (slice(None), slice(None), -1)] += 1
        with torch.no_grad():
            other, _, _ = model.encoder(changed, torch.tensor([1, 1]))
        torch.testing.assert_close(other[:-1], memory[:-1])
        assert not torch.allclose(other[-1], memory[-1])


def test_groups_hold_every_row_and_keep_their_bounds() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 300)
    groups = bucket_by_length(np.arange(300), lengths, max_rows=9, max_steps=100)
    assert sorted(np.concatenate(groups).tolist()) == list(range(300))
    assert all(len(group) <= 9 and (len(group) == 1 or len(group) * lengths[group].max() <= 100) for group in groups)
    assert bucket_by_length(np.arange(0), lengths, 9, 100) == []


def test_what_only_texts_have_is_refused(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "synced", 40)
    for options in (ModelOptions(residual=False), ModelOptions(embedding=3), ModelOptions(initialization="uniform")):
        with pytest.raises(UsageError, match="is for texts"):
            EncoderDecoder(pairs.spec.dims, options, PairOptions())
