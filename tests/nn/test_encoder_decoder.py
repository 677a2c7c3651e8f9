"""EncoderDecoder: rows are independent, directions and attention are correct under padding, beam search finds the best."""

import itertools
import typing
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
from unrolled.nn.attention import Pooling
from unrolled.nn.encoder import BidirectionalLayer, make_reverse_index
from unrolled.nn.encoder_decoder import EncoderDecoder, append_eos
from unrolled.options import ModelOptions, PairOptions, PredictOptions, SampleOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.pair_batching import PairDataset, bucket_by_length


def tensors(pairs: PairDataset, index: Any) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in pairs.collate(np.array(index)).arrays().items()}


READERS = [
    (mode, cell, (index + place) % 2 == 0)
    for index, mode in enumerate(TABLES)
    for place, cell in enumerate(("rnn", "gru", "gru-reset-before", "lstm"))
]
"""Every mode with every cell, by turns in one direction and in both."""


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "cell", "bidirectional"), READERS)
def test_a_row_does_not_depend_on_its_neighbors(tmp_path: Path, mode: str, cell: str, bidirectional: bool) -> None:
    pairs = read_mode(tmp_path, mode, 40)
    model = random_encoder_decoder(pairs, cell, bidirectional=bidirectional)
    with torch.no_grad():
        together = model.loss_per_target(tensors(pairs, range(12)))
        for row in range(12):
            alone = model.loss_per_target(tensors(pairs, [row]))[:, 0]
            torch.testing.assert_close(together[: len(alone), row], alone, atol=1e-5, rtol=1e-5)
            assert not together[len(alone) :, row].any()


@pytest.mark.parametrize("pool", typing.get_args(typing.get_type_hints(PairOptions)["pool"]))
def test_pooling_ignores_padding(pool: str) -> None:
    layer = Pooling(6, pool, bidirectional=True).eval()
    memory = torch.randn(5, 3, 6)
    lengths = torch.tensor([5, 2, 3])
    whole = layer(memory, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(layer(memory[:length, row : row + 1], lengths[row : row + 1])[0], whole[row])
        memory[length:, row] = 1e6
    torch.testing.assert_close(layer(memory, lengths), whole)


def test_the_backward_half_is_a_forward_pass_over_the_reversed_row() -> None:
    layer = BidirectionalLayer(ModelOptions(cell="lstm", hidden=6, dropout=0.0)).eval()
    xs, lengths = torch.randn(5, 2, 6), torch.tensor([5, 3])
    ys = layer(xs, make_reverse_index(5, lengths)) - xs
    for row, length in enumerate(lengths.tolist()):
        flipped = layer.norm(xs[:length, row : row + 1]).flip(0)
        backward, _ = layer.backward_cell.unroll(flipped, layer.backward_cell.initial_state(1))
        torch.testing.assert_close(ys[:length, row, 3:], backward.flip(0)[:, 0])


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "mogrifier-lstm", "mingru", "slstm", "mlstm", "gated-deltanet"])
@pytest.mark.parametrize("attention", [True, False])
def test_decoder_steps_equal_teacher_forcing(tmp_path: Path, cell: str, attention: bool) -> None:
    pairs = read_mode(tmp_path, "many-to-many", 40)
    model = random_encoder_decoder(pairs, cell, attention=attention)
    assert model.decoder is not None
    batch = tensors(pairs, range(6))
    with torch.no_grad():
        memory = model.encode(batch)
        ids = append_eos(batch["target"], model.decoder.eos_id).clamp_min(0)
        expected, _ = model.decoder(ids, memory)
        state = model.decoder.initial_state(memory)
        for position in range(len(ids)):
            logits, layers, _ = model.decoder.step(state, memory, position)
            torch.testing.assert_close(logits, expected[position], atol=1e-5, rtol=1e-5)
            state = model.decoder.append(state, layers, ids[position])


def test_attention_weights_sum_to_one_over_the_source(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-many", 40)
    model, batch = random_encoder_decoder(pairs), tensors(pairs, range(6))
    hypotheses = [best for best, *_ in beam_search(model, batch, PredictOptions(beam=2), 7)]
    weights = attention_weights(model, batch, hypotheses)
    assert weights is not None
    for row, row_weights in enumerate(weights):
        assert row_weights.shape == (len(hypotheses[row].ids), int(batch["lengths"][row]))
        np.testing.assert_allclose(row_weights.sum(1), 1, atol=1e-5)
    assert attention_weights(random_encoder_decoder(pairs, attention=False), batch, hypotheses) is None


def log_probability(model: EncoderDecoder, batch: dict[str, Tensor], ids: tuple[int, ...]) -> float:
    assert model.decoder is not None
    targets = torch.tensor([*ids, model.decoder.eos_id])[:, None]
    with torch.no_grad():
        logits, _ = model.decoder(targets, model.encode(batch))
    return float(logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).sum())


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(tmp_path: Path, penalty: float) -> None:
    pairs = read_mode(tmp_path, "one-to-many", 40)
    model, batch = random_encoder_decoder(pairs), tensors(pairs, [1])
    vocab_size, max_tokens = model.dims.target_size, 3
    sequences = [ids for length in range(max_tokens + 1) for ids in itertools.product(range(vocab_size), repeat=length)]

    def score(ids: tuple[int, ...]) -> float:
        return float(log_probability(model, batch, ids) / ((5 + len(ids) + 1) / 6) ** penalty)

    best = max(sequences, key=score)
    hypothesis = beam_search(model, batch, PredictOptions(beam=200, length_penalty=penalty), max_tokens)[0][0]
    assert tuple(hypothesis.ids.tolist()) == best
    assert hypothesis.log_prob == pytest.approx(log_probability(model, batch, best), abs=1e-4)


def test_a_beam_of_one_is_greedy_search(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-many", 40)
    model, batch = random_encoder_decoder(pairs), tensors(pairs, range(8))
    assert model.decoder is not None
    hypotheses = [best for best, *_ in beam_search(model, batch, PredictOptions(beam=1), 6)]
    with torch.no_grad():
        memory = model.encode(batch)
        state = model.decoder.initial_state(memory)
        expected: list[list[int]] = [[] for _ in range(8)]
        is_done = [False] * 8
        for position in range(6):
            logits, layers, _ = model.decoder.step(state, memory, position)
            ids = logits.argmax(-1)
            for row, token_id in enumerate(ids.tolist()):
                is_done[row] |= token_id == model.decoder.eos_id
                expected[row] += [] if is_done[row] else [token_id]
            state = model.decoder.append(state, layers, ids)
    assert [hypothesis.ids.tolist() for hypothesis in hypotheses] == expected


def test_a_seed_draws_the_same_sequence_in_any_batch(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-many", 40)
    model, batch = random_encoder_decoder(pairs), tensors(pairs, range(5))
    options = SampleOptions(temperature=1.0)
    together = sample_sequences(model, batch, options, [10, 11, 12, 13, 14], 9)
    for row in range(5):
        alone = sample_sequences(model, tensors(pairs, [row]), options, [10 + row], 9)[0]
        assert alone.ids.tolist() == together[row].ids.tolist()
        assert alone.log_prob == pytest.approx(together[row].log_prob, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", TABLES)
def test_predictions_keep_the_order_of_rows_and_do_not_depend_on_other_rows(tmp_path: Path, mode: str) -> None:
    make, source, _ = TABLES[mode]
    pairs = read_mode(tmp_path, mode, 40)
    predictor = Predictor(random_encoder_decoder(pairs), pairs.spec, MACHINE, PredictOptions(beam=2))
    cells = [Cell(row[source.split(":")[0]], f"row {n}") for n, row in enumerate(make(12, 8))]
    cells[7] = Cell("", "row 7")
    together = list(predictor.predict_iter(cells))
    assert together[7].text == ""
    for cell, prediction in zip(cells, together, strict=True):
        alone = predictor.predict([cell])[0]
        assert alone.text == prediction.text
        assert (alone.probability or 0) == pytest.approx(prediction.probability or 0, abs=1e-5)


@pytest.mark.parametrize("mode", TABLES)
def test_a_model_file_keeps_every_weight(tmp_path: Path, mode: str) -> None:
    pairs = read_mode(tmp_path, mode, 40)
    model = random_encoder_decoder(pairs)
    save_model(tmp_path / "m.safetensors", TableModelFile(model, pairs.spec, {"steps": 3}))
    saved = load_model(tmp_path / "m.safetensors")
    assert isinstance(saved, TableModelFile)
    assert saved.spec.to_json() == pairs.spec.to_json()
    assert saved.history == {"steps": 3}
    for (name, weight), loaded in zip(model.state_dict().items(), saved.model.state_dict().values(), strict=True):
        assert torch.equal(weight, loaded), name


def test_a_file_whose_options_need_more_weights_than_it_has_is_refused_before_building(tmp_path: Path) -> None:
    from unrolled.checkpoints.model_file import save_checked

    pairs = read_mode(tmp_path, "synced", 40)
    metadata = TableModelFile(random_encoder_decoder(pairs), pairs.spec).metadata()
    for change in ({"hidden": 65536}, {"layers": 64}, {"cell": "transformer"}):
        options = metadata["options"] | change
        weights = random_encoder_decoder(pairs).state_dict()
        save_checked(tmp_path / "m", weights, metadata | {"options": options})
        with pytest.raises(ModelError):
            load_model(tmp_path / "m")


def test_temperature_scaling_lowers_the_loss_and_keeps_the_predictions(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "many-to-one", 200)
    model, index = random_encoder_decoder(pairs), np.arange(200)
    assert model.head is not None
    with torch.no_grad():
        model.head.weight.mul_(30)  # overconfident
    before = mean_loss(model, pairs, index, MACHINE)
    texts = [a.text for a in Predictor(model, pairs.spec, MACHINE, PredictOptions()).predict([Cell("a red dog sleeps", "")])]
    after = fit_temperature(model, pairs, index, MACHINE)
    assert after < before
    assert after == pytest.approx(mean_loss(model, pairs, index, MACHINE), abs=1e-5)
    assert float(model.temperature) > 1
    texts_after = [
        a.text for a in Predictor(model, pairs.spec, MACHINE, PredictOptions()).predict([Cell("a red dog sleeps", "")])
    ]
    assert texts == texts_after


@pytest.mark.parametrize("image_as", ["whole", "columns", "rows", "pixels"])
def test_an_image_is_read_at_once_or_as_a_sequence(tmp_path: Path, image_as: str) -> None:
    pairs = read_mode(tmp_path, "one-to-one", 40)
    model = random_encoder_decoder(pairs, image_as=image_as, bidirectional=False)
    with torch.no_grad():
        memory, lengths, pooled = model.encoder(tensors(pairs, [0, 1])["source"], torch.tensor([1, 1]))
    assert len(memory) == {"whole": 4, "columns": 4, "rows": 4, "pixels": 16}[image_as]
    assert lengths.tolist() == [len(memory)] * 2
    assert pooled.shape == (2, 12)
    if image_as in ("columns", "rows"):  # read forward only, the first steps do not depend on the last
        changed = tensors(pairs, [0, 1])["source"].clone()
        changed[(slice(None), slice(None), slice(None), -1) if image_as == "columns" else (slice(None), slice(None), -1)] += 1
        with torch.no_grad():
            other, _, _ = model.encoder(changed, torch.tensor([1, 1]))
        torch.testing.assert_close(other[:-1], memory[:-1])
        assert not torch.allclose(other[-1], memory[-1])


def test_buckets_hold_every_row_and_keep_their_limits() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 300)
    buckets = bucket_by_length(np.arange(300), lengths, max_rows=9, max_steps=100)
    assert sorted(np.concatenate(buckets).tolist()) == list(range(300))
    assert all(len(rows) <= 9 and (len(rows) == 1 or len(rows) * lengths[rows].max() <= 100) for rows in buckets)
    assert bucket_by_length(np.arange(0), lengths, 9, 100) == []


def test_options_of_texts_are_refused(tmp_path: Path) -> None:
    pairs = read_mode(tmp_path, "synced", 40)
    for options in (ModelOptions(residual=False), ModelOptions(embedding=3), ModelOptions(initialization="uniform")):
        with pytest.raises(UsageError, match="is for texts"):
            EncoderDecoder(pairs.spec.dims, options, PairOptions())
