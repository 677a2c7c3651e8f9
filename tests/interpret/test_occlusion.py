"""What moved an answer: the effect of a part is what leaving it out changes, for every kind of source and target."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from support.tables import MODES, write_jsonl
from unrolled.evaluation.predictor import Prediction
from unrolled.interpret.occlusion import MAX_LOG_ODDS, MAX_PARTS, _log_odds, _merge, _words, answer_scores, occlude
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.source_columns import EncodedSource

TINY: dict[str, Any] = {"hidden": 12, "layers": 1, "batch": 8, "threads": 1, "precision": "float32", "progress": False}


def model_of(mode: str, steps: int = 5, **settings: Any) -> tuple[unrolled.TableModel, list[Cell]]:
    make, source, target = MODES[mode]
    rows = make(60, 1)
    model = unrolled.train_table(
        str(write_jsonl(Path(f"{mode}.jsonl"), rows)), source, target, steps=steps, out=mode, **TINY, **settings
    )
    return model, [Cell(row[model.spec.source.name], "row") for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_part_has_an_effect(mode: str) -> None:
    model, cells = model_of(mode)
    predictor = model.session.predictor(PredictOptions(beam=1))
    for cell in cells[:5]:
        prediction, _ = predictor.predict_with_attention(cell)
        parts = occlude(predictor, cell, prediction)
        if mode == "one-to-many":  # nothing is left of a label that is left out
            assert parts == []
            continue
        if not parts:  # there is no answer, or nothing is left without the only part
            assert not len(prediction.values) or len(cell.value) == 1
            continue
        (column,) = parts
        assert column.name == model.spec.source.name
        assert np.isfinite(column.effect).all()
        if column.texts:
            assert len(column.texts) == len(column.effect)
            assert "".join(column.texts).strip() == cell.value
        else:
            rows, columns = column.grid or (1, len(cell.value))
            assert column.effect.shape == (rows * columns,)


def test_an_effect_is_the_change_of_the_log_odds() -> None:
    model, _ = model_of("many-to-one", 60, lr=0.02)
    model.network.temperature.fill_(2.0)  # or the answer is so sure that its probability is 1 in a float64
    predictor = model.session.predictor(PredictOptions())
    prediction = model.predictions("the red dog sleeps")[0]
    (column,) = occlude(predictor, Cell("the red dog sleeps", "row"), prediction)
    assert column.texts == ("the ", "red ", "dog ", "sleeps ")
    without = model.predictions("the dog sleeps")[0].probabilities
    assert prediction.probability is not None
    assert without is not None
    expected = log_odds(prediction.probability) - log_odds(without[int(prediction.values[0])])
    assert column.effect[1] == pytest.approx(expected, abs=1e-4)
    assert column.effect.argmax() == 1  # the color decides


def log_odds(probability: float) -> float:
    return float(np.log(probability) - np.log1p(-probability))


def test_an_answer_that_is_sure_still_has_parts_that_moved_it() -> None:
    model, cells = model_of("many-to-one")
    model.network.temperature.fill_(0.2)
    predictor = model.session.predictor(PredictOptions())
    explained = [(predictor.predict_with_attention(cell)[0], cell) for cell in cells]
    prediction, cell = max(explained, key=lambda item: item[0].probability or 0)
    assert (prediction.probability or 0) > 1 - 1e-9
    (column,) = occlude(predictor, cell, prediction)
    assert np.abs(column.effect).max() > 0.5  # nats; the probability itself differs by less than a float32 tells


def test_the_log_odds_of_an_answer_of_several_tokens() -> None:
    model, cells = model_of("many-to-many")
    predictor = model.session.predictor(PredictOptions(beam=1))
    prediction = Prediction("a", np.array([0]))
    batch = predictor.collate([predictor.encode(cells[0])])
    with torch.inference_mode():
        loss = predictor.model.loss_per_target({**batch, "target": torch.tensor([[0]])}).sum()
    (score,) = answer_scores(predictor, [predictor.encode(cells[0])], prediction)
    assert score == pytest.approx(log_odds(float(torch.exp(-loss))), abs=1e-4)
    sure = torch.tensor([[[30.0, 0.0, 0.0]], [[0.0, 40.0, 0.0]]])  # of float32, the probabilities are 1
    odds = _log_odds(sure, torch.tensor([[0], [1]]))
    assert odds.flatten().tolist() == pytest.approx([30 - np.log(2), 40 - np.log(2)])
    assert _log_odds(torch.zeros(1, 1, 1), torch.tensor([[0]])).item() == MAX_LOG_ODDS  # the only label


def test_the_effect_on_a_number_is_in_its_unit() -> None:
    rows = [{"a": i / 7, "b": (i * 3) % 11 / 5, "y": 1000 + 40 * (i / 7)} for i in range(80)]
    model = unrolled.train_table(rows, ["a", "b"], "y", steps=40, lr=0.01, **TINY)
    predictor = model.session.predictor(PredictOptions())
    cell = Cell(rows[79]["a"], "row", others=(Cell(rows[79]["b"], "row"),))
    (prediction,) = predictor.predict([cell])
    first, second = occlude(predictor, cell, prediction)
    assert (first.name, second.name) == ("a", "b")
    assert abs(first.effect[0]) > abs(second.effect[0])
    held = model.predictions([{"a": model.spec.source.mean[0], "b": rows[79]["b"]}])[0]  # type: ignore[attr-defined]
    assert first.effect[0] == pytest.approx(float(prediction.text) - float(held.text), rel=1e-3, abs=1e-2)


def test_scores_do_not_depend_on_the_batch() -> None:
    model, cells = model_of("many-to-many")
    predictor = model.session.predictor(PredictOptions(beam=1))
    prediction = Prediction("abc", np.array([0, 1, 2]))
    sources = [predictor.encode(cell) for cell in cells]
    together = answer_scores(predictor, sources * 2, prediction)
    alone = [answer_scores(predictor, [source], prediction)[0] for source in sources]
    assert np.allclose(together, alone * 2, atol=1e-4)
    assert len(EncodedSource(np.zeros(3), (np.zeros(0),))) == 0


def test_long_texts_have_few_parts() -> None:
    bounds = _merge([(i, i + 1) for i in range(1000)])
    assert len(bounds) <= MAX_PARTS
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 1000
    assert all(first[1] == second[0] for first, second in zip(bounds, bounds[1:], strict=False))
    assert _words("ab  cd e") == [(0, 4), (4, 7), (7, 8)]
    assert _words("abc") == [(0, 1), (1, 2), (2, 3)]


def test_a_whole_column_has_an_effect_where_its_words_say_the_same() -> None:
    """Either of two words decides the answer, so neither is missed; without both, the answer falls."""
    rows = [
        {"age": number % 7, "review": f"{words[0]} room {words[1]}", "mood": mood}
        for number, (mood, words) in enumerate([("good", ("fine", "warm")), ("bad", ("cold", "rude"))] * 40)
    ]
    model = unrolled.train_table(rows, ["age", "review:words"], "mood", steps=60, lr=0.02, out="m", **TINY)
    predictor = model.session.predictor(PredictOptions())
    cell = Cell("fine room warm", "row", others=(Cell(3, "row"),))
    review, age = occlude(predictor, cell, predictor.predict_with_attention(cell)[0])
    assert (review.name, age.name, age.whole) == ("review", "age", None)
    assert review.whole is not None
    assert review.whole > 3 * max(np.abs(review.effect).max(), np.abs(age.effect).max())
