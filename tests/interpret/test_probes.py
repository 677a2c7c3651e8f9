"""Text features, probes of units, loss by class of token, use of context, gate saturation."""

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unrolled.interpret.activations import Activations
from unrolled.interpret.context_use import CONTEXT_LENGTHS, MAX_GRADIENT_DISTANCE, measure_context_use
from unrolled.interpret.gate_saturation import NUM_BINS, activation_histograms, gate_saturation
from unrolled.interpret.loss_breakdown import CLASS_NAMES, MAX_RARE_COUNT, ClassLoss, count_words, loss_by_class
from unrolled.interpret.probes import MAX_P_VALUE, N_SHIFTS, Probe, ProbeReport, probe_units
from unrolled.interpret.text_features import FEATURES, Feature
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.text.tokenized_text import TokenizedText

CPU = DeviceConfig(torch.device("cpu"), torch.float32, 2)
BY_NAME: dict[str, Feature] = {feature.name: feature for feature in FEATURES}

# Each feature, a text, and below every character of it what the feature says there: 1 or . of one that is on or off.
TRUTHS = [
    ("double quotes", 'a "bc" d "e f"', "..111....1111."),
    ("double quotes", 'a "b\nc" d', "." * 9),
    ("double quotes", "x \u201cno\u201d", "..111."),
    ("single quotes", "it's 'so' isn't", ".....111......."),
    ("triple quotes", 'x """a"b""" y', "..11111111..."),
    ("comment", "a # b\nc", "..111.."),
    ("comment", "u http://x\ny // z\n", "." * 13 + "1111."),
    ("comment", "a /* b\nc */ d", "..11111111..."),
    ("comment or string", "'a' # b\nc", "11..111.."),
    ("round brackets", "f(a(b)c)d", ".111111.."),
    ("square brackets", "f[a](b]", ".11...."),
    ("curly brackets", "{a}} {b", "11...11"),
    ("markup [[ ]]", "a [[b c]] [d]", "..111111....."),
    ("tag < >", "1 <b>x</b>", "..11..111."),
    ("URL", "to http://a.b now", "...1111111111...."),
    ("end of line near", "abcdefgh\nijklmnop\n", "...111111...111111"),
    ("start of line", "abcde\nfghi", "111..1111."),
    ("in indentation", "  a b\n\tc", "11....1."),
    ("inside a word", "ab \u00e93 c", "11.1..1"),
    ("inside a number", "a12 3", ".11.1"),
    ("capital", "aBC \u00c9", ".11.1"),
    ("words in capitals", "A BIG CAT ran", "..1111111...."),
    ("white space", "a b\tc\n", ".1.1.1"),
    ("punctuation", "a, b_3!", ".1..1.1"),
    ("vowel", "oYou", "1.11"),
    ("line ends with a colon", "if x:\n y\n", "11111...."),
]
NUMBERS = [
    ("bracket depth", "a(b[c])}{", [0, 1, 1, 2, 2, 1, 0, 0, 1]),
    ("position in line", "ab\ncd\n\n", [1, 2, 0, 1, 2, 0, 0]),
    ("distance to line end", "ab\ncd", [2, 1, 0, 2, 1]),
    ("previous line's length", "abc\nd\nef", [0, 0, 0, 0, 3, 3, 1, 1]),
    ("indentation", "  a\n\tb c", [1, 2, 2, 0, 4, 4, 4, 4]),
    ("position in word", "ab c1d", [1, 2, 0, 1, 0, 1]),
    ("sentence position", "ab. c", [1, 2, 0, 1, 2]),
]


@pytest.mark.parametrize(("name", "text", "on"), TRUTHS)
def test_boolean_features(name: str, text: str, on: str) -> None:
    found = BY_NAME[name].compute(text)
    assert found.dtype == bool
    assert "".join("1" if one else "." for one in found) == on


@pytest.mark.parametrize(("name", "text", "values"), NUMBERS)
def test_numeric_features(name: str, text: str, values: list[int]) -> None:
    found = BY_NAME[name].compute(text)
    assert found.dtype == float
    assert found.tolist() == values


def test_a_line_end_that_follows_another_is_an_empty_line() -> None:
    found = BY_NAME["empty line"].compute("a\n\nb\n\n\nc\n")
    assert np.flatnonzero(found).tolist() == [2, 5, 6]


def test_every_feature_has_a_name_a_description_and_an_example_here() -> None:
    assert len(BY_NAME) == len(FEATURES)
    assert all(feature.description for feature in FEATURES)
    assert {name for name, *_ in TRUTHS} | {name for name, *_ in NUMBERS} | {"empty line"} == set(BY_NAME)
    plain = {feature.name for feature in FEATURES if feature.trivial}
    assert plain == {"inside a word", "inside a number", "capital", "white space", "punctuation", "vowel"}


ODD = st.characters(codec=None) | st.sampled_from(list("\"'\n\t ()[]{}<>#/*:.?!\u201c\u201d\u2018\u2019aA1\0\ud800"))


@given(st.text(ODD, max_size=80))
def test_every_feature_has_a_value_for_every_character_of_any_text(text: str) -> None:
    for feature in FEATURES:
        found = feature.compute(text)
        assert found.shape == (len(text),), feature.name
        assert found.dtype in (bool, float), feature.name
        assert np.isfinite(found.astype(float)).all(), feature.name
        assert (found.astype(float) >= 0).all(), feature.name


@given(st.text(ODD, max_size=40))
def test_a_trivial_feature_depends_on_the_current_character_only(text: str) -> None:
    for feature in FEATURES:
        if feature.trivial:
            assert feature.compute(text).tolist() == [bool(feature.compute(character)[0]) for character in text], feature.name


# Units held against features

L, H = 2, 7
LINE = 'He said "yes, I will" and left (by 5 o\'clock).\nThen "no" was all; 23 Words, and (why) "he" asked.\n'


def prose(size: int = 4000, seed: int = 0) -> str:
    """Return lines with quotes at irregular positions."""
    draw, parts = np.random.default_rng(seed), [""]
    while sum(map(len, parts)) < size:
        some = " ".join("".join(draw.choice(list("abcdeio"), draw.integers(1, 8))) for _ in range(draw.integers(1, 9)))
        style = draw.random()
        parts.append(f'"{some}" ' if style < 0.3 else f"({some}).\n" if style < 0.4 else f"{some} ")
    return "".join(parts)[:size]


def made_trace(text: str, h: npt.NDArray[Any], c: npt.NDArray[Any] | None = None, **gates: npt.NDArray[Any]) -> Activations:
    count = len(text)
    reading = TokenizedText(np.zeros(count, dtype=np.int64), list(text), np.ones(count, dtype=bool), None)
    memory = None if c is None else c.astype(np.float32)
    own = {name: values.astype(np.float32) for name, values in gates.items()}
    return Activations(reading, h.astype(np.float32), memory, own, np.zeros((count, 3), dtype=np.float32))


def noise(count: int, seed: int = 1) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, L, H)).clip(-3, 3) / 3


def found_in(findings: ProbeReport, feature: str) -> Probe:
    return next(one for one in findings.best_units if one.feature == feature)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_unit_that_follows_quotes_is_found_first(sign: int, in_memory: bool) -> None:
    text = prose()
    states = noise(len(text))
    quotes = BY_NAME["double quotes"].compute(text)
    states[:, 1, 4] = sign * (quotes - 0.5) + 0.01 * noise(len(text), 2)[:, 0, 0]
    other = noise(len(text), 3)
    findings = probe_units(made_trace(text, other, states) if in_memory else made_trace(text, states), text)
    first = findings.best_units[0]
    assert (first.layer, first.unit, first.feature, first.kind, first.sign) == (1, 4, "double quotes", "AUC", sign)
    assert first.score == pytest.approx(1, abs=1e-5)
    assert first.p_value == pytest.approx(1 / (N_SHIFTS + 1))
    assert first.is_detector
    assert first.description == BY_NAME["double quotes"].description
    unit = findings.best_features[H + 4]
    assert (unit.layer, unit.unit, unit.is_detector) == (1, 4, True)
    assert [(one.layer, one.unit) for one in findings.best_features] == [
        (layer, unit) for layer in range(L) for unit in range(H)
    ]
    assert findings.detector_fraction == pytest.approx(1 / (L * H))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_unit_that_counts_is_found_by_rank_correlation(sign: int) -> None:
    text = prose()
    states = noise(len(text))
    states[:, 0, 2] = sign * np.tanh(BY_NAME["position in line"].compute(text) / 100)  # any rising function of it
    findings = probe_units(made_trace(text, states), text)
    first = found_in(findings, "position in line")
    assert (first.kind, first.layer, first.unit, first.sign) == ("correlation", 0, 2, sign)
    assert first.score == pytest.approx(1, abs=1e-4)
    assert first.is_detector


def test_the_score_is_the_area_under_the_roc_curve() -> None:
    text = prose()
    states = noise(len(text))
    quotes = BY_NAME["double quotes"].compute(text)
    states[:, 0, 5] += 0.6 * quotes
    one = found_in(probe_units(made_trace(text, states), text), "double quotes")
    half = len(text) // 2
    values, on = states[half:, 0, 5].astype(np.float32), quotes[half:]
    area = (values[on][:, None] > values[~on][None]).mean()
    assert (one.layer, one.unit) == (0, 5)
    assert 0.6 < one.score < 0.99
    assert one.score == pytest.approx(float(area), abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_follows_nothing(seed: int) -> None:
    text = prose(seed=seed)
    findings = probe_units(made_trace(text, noise(len(text), seed + 10)), text, seed=seed)
    assert findings.detector_fraction == 0
    assert not any(one.is_detector for one in findings.best_units + findings.best_features)
    assert max(one.score for one in findings.best_units if one.kind == "AUC") < 0.65
    assert np.median([one.p_value for one in findings.best_units]) > 0.1
    assert len(findings.followed) < len(findings.best_units) / 2, "what chance explains is not listed as followed"
    assert all(one.p_value <= MAX_P_VALUE for one in findings.followed)


def test_a_constant_unit_follows_nothing() -> None:
    text = ("a b c.\n" * 150 + '"' + "x" * 300 + '"\n') * 2
    findings = probe_units(made_trace(text, np.full((len(text), L, H), 0.25)), text)
    assert not any(one.is_detector for one in findings.best_units + findings.best_features)
    assert all(one.score == pytest.approx(0.5, abs=0.01) for one in findings.best_units if one.kind == "AUC")
    assert findings.detector_fraction == 0


def test_trivial_features_come_last_and_are_no_detectors() -> None:
    text = prose()
    states = noise(len(text))
    for position, name in enumerate(("vowel", "white space", "double quotes")):
        states[:, 0, position] = BY_NAME[name].compute(text) + 0.01 * noise(len(text), 4)[:, 1, position]
    findings = probe_units(made_trace(text, states), text)
    plain = [one.trivial for one in findings.best_units]
    assert plain == sorted(plain)
    assert (findings.best_units[0].feature, findings.best_units[0].unit) == ("double quotes", 2)
    vowel = found_in(findings, "vowel")
    assert (vowel.unit, vowel.trivial, vowel.is_detector) == (0, True, False)
    assert vowel.score == pytest.approx(1, abs=1e-5)
    assert findings.detector_fraction == pytest.approx(1 / (L * H))


def test_units_are_selected_on_the_first_half() -> None:
    text = prose()
    quotes = BY_NAME["double quotes"].compute(text) - 0.5
    half = len(text) // 2
    states = noise(len(text))
    states[:half, 0, 1] = quotes[:half]  # follows, and stops following
    states[half:, 1, 6] = quotes[half:]
    one = found_in(probe_units(made_trace(text, states), text), "double quotes")
    assert (one.layer, one.unit, one.is_detector) == (0, 1, False)
    assert one.score < 0.65


def test_probes_are_deterministic() -> None:
    text = prose(3000)
    found = made_trace(text, noise(len(text)))
    assert probe_units(found, text, seed=3) == probe_units(found, text, seed=3)


def test_one_character_for_each_step_is_required() -> None:
    with pytest.raises(ValueError, match="99 characters were given for 100 steps"):
        probe_units(made_trace("a" * 100, noise(100)), "a" * 99)


@pytest.mark.parametrize("text", ["", "a", "ab" * 15, "a" * 300])
def test_a_text_in_which_nothing_varies_has_no_features(text: str) -> None:
    findings = probe_units(made_trace(text, noise(len(text))), text)
    assert all(one.kind == "correlation" for one in findings.best_units)
    assert findings.detector_fraction == 0


# Where the bits go


def test_every_token_has_the_first_class_that_matches() -> None:
    text = 'It\'s "3" (xyzzy), it\n'
    common = Counter({"it": MAX_RARE_COUNT + 1, "s": MAX_RARE_COUNT + 1, "xyzzy": MAX_RARE_COUNT})
    classes = [
        "start of line", "inside a word", "other punctuation", "start of word", "white space",
        "opening bracket or quote", "digit", "closing bracket or quote", "white space", "opening bracket or quote",
        "start of word", *["inside a rare word"] * 4, "closing bracket or quote", "other punctuation", "white space",
        "start of word", "inside a word", "line end",
    ]  # fmt: skip
    bits = np.arange(len(text), dtype=float)
    bits[0] = np.nan
    parts = loss_by_class(list(text), [bits, 2 * bits], common)
    for name in set(classes):
        positions = [position for position, class_name in enumerate(classes) if class_name == name and position]
        if positions:
            (part,) = [part for part in parts if part.name == name]
            assert part == ClassLoss(name, len(positions), (float(sum(positions)), float(2 * sum(positions))))
            assert part.mean_bits(1) == pytest.approx(2 * sum(positions) / len(positions))
    assert "start of line" not in [part.name for part in parts]  # its bits are not known


def test_bytes_within_a_character_are_parts_of_it() -> None:
    shown = ["", "\u00e9", "", "", "\u2603", "x", "", "\u00e9"]
    parts = {part.name: part.num_tokens for part in loss_by_class(shown, [np.ones(8)], Counter({"x\u00e9": 9}))}
    assert parts == {
        "part of a character": 4,
        "start of line": 1,
        "other punctuation": 1,
        "start of word": 1,
        "inside a word": 1,
    }


@given(st.text(ODD, max_size=60), st.integers(0, 9))
def test_the_bits_of_all_classes_are_those_of_the_text(text: str, seed: int) -> None:
    bits = np.random.default_rng(seed).exponential(size=(2, len(text)))
    bits[:, :1] = np.nan
    parts = loss_by_class(list(text), list(bits), count_words(text))
    assert sum(part.num_tokens for part in parts) == max(0, len(text) - 1)
    for model in range(2):
        assert sum(part.bits[model] for part in parts) == pytest.approx(float(np.nansum(bits[model])))
    assert {part.name for part in parts} <= set(CLASS_NAMES)
    assert [part.bits[0] for part in parts] == sorted((part.bits[0] for part in parts), reverse=True)


def test_words_are_counted_in_lower_case() -> None:
    assert count_words("It's it, IT 3x_y") == Counter({"it": 3, "s": 1, "x": 1, "y": 1})


# How far back

V = 11


def forgetful() -> RecurrentLM:
    """Return a vanilla RNN without recurrent weights."""
    torch.manual_seed(0)
    model = RecurrentLM(V, ModelOptions(cell="rnn", hidden=9, dropout=0)).eval()
    with torch.no_grad():
        for cell in model.cells():
            cell.weight_hh.zero_()
    return model


def ids_of(size: int, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, V, size)


def test_a_model_without_memory_uses_one_token_of_context() -> None:
    found = measure_context_use(forgetful(), CPU, ids_of(900))
    assert found is not None
    assert found.context_lengths == (1, 2, 4, 8, 16, 32, 64, 128)
    assert found.effective_context == 1
    np.testing.assert_allclose(found.nats, found.nats[0], atol=1e-5)
    assert found.gradient_share.shape == (MAX_GRADIENT_DISTANCE,)
    assert found.gradient_share[0] == pytest.approx(1, abs=1e-5)
    assert not found.gradient_share[1:].any()


@pytest.mark.parametrize("cell", ["rnn", "gru", "gru-reset-before", "lstm"])
def test_losses_and_gradient_shares_are_those_of_single_positions(cell: str) -> None:
    torch.manual_seed(1)
    options = ModelOptions(cell=cell, hidden=9, dropout=0)  # type: ignore[arg-type]  # a key of CELLS
    model = RecurrentLM(V, options).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    ids = ids_of(50)
    found = measure_context_use(model, CPU, ids)
    assert found is not None
    assert found.context_lengths == (1, 2, 4, 8)
    positions = range(8, 50)  # all of them
    for length, nats in zip(found.context_lengths, found.nats.tolist(), strict=True):
        losses = []
        for position in positions:
            state = model.initial_state(1)
            with torch.no_grad():
                for symbol in ids[position - length : position].tolist():
                    logits, state = model.step(torch.tensor([symbol]), state)
            losses.append(-float(logits.log_softmax(-1)[0, ids[position]]))
        assert nats == pytest.approx(float(np.mean(losses)), abs=1e-5)
    assert found.gradient_share.shape == (8,)
    assert (found.gradient_share > 0).all()
    assert found.gradient_share.sum() == pytest.approx(1, abs=1e-5)
    assert found.gradient_share[0] > found.gradient_share[-1]
    assert found.effective_context == next(
        n for n, loss in zip(found.context_lengths, found.nats, strict=True) if loss <= found.nats[-1] + 0.01
    )


def test_only_contexts_that_fit_are_measured() -> None:
    model = forgetful()
    assert measure_context_use(model, CPU, ids_of(3)) is None
    assert measure_context_use(model, CPU, ids_of(0)) is None
    for size in (4, 7, 8, 4 * CONTEXT_LENGTHS[-1]):
        found = measure_context_use(model, CPU, ids_of(size))
        assert found is not None
        assert found.context_lengths == tuple(length for length in CONTEXT_LENGTHS if length <= size // 4)


def test_measuring_context_use_leaves_the_model_unchanged() -> None:
    model = forgetful()
    measure_context_use(model, CPU, ids_of(100))
    assert all(weight.grad is None for weight in model.parameters())


# How units use their range


def test_gate_saturation_is_a_fraction_of_steps() -> None:
    gate = np.full((10, 2, 3), 0.5)
    gate[:4, 0, 1] = 0.05
    gate[4:5, 0, 1] = 0.95
    gate[:, 1, 2] = 1.0
    gate[:, 1, 0] = 0.1  # neither: the threshold itself
    found = gate_saturation(
        made_trace("a" * 10, np.zeros((10, 2, 3)), np.zeros((10, 2, 3)), i=gate, f=gate, g=gate, o=1 - gate)
    )
    assert list(found) == ["i", "f", "o"]
    assert found["i"].shape == (2, 3, 2)
    assert found["i"][0, 1].tolist() == pytest.approx([0.4, 0.1])
    assert found["o"][0, 1].tolist() == pytest.approx([0.1, 0.4])
    assert found["f"][1, 2].tolist() == [0, 1]
    assert found["f"][0, 0].tolist() == [0, 0]
    assert list(gate_saturation(made_trace("a" * 10, gate, r=gate, z=gate, n=gate))) == ["r", "z"]
    assert gate_saturation(made_trace("a" * 10, gate)) == {}


def test_histograms_count_every_state_of_a_layer() -> None:
    h = np.zeros((10, 2, 3))
    h[:, 0] = -1.0
    h[:, 1] = 1.0
    c = np.full((10, 2, 3), 50.0)
    first, second, *memory = activation_histograms(made_trace("a" * 10, h, c))
    assert [one.name for one in (first, second, *memory)] == ["h, layer 0", "h, layer 1", "tanh c, layer 0", "tanh c, layer 1"]
    assert (first.counts[0], second.counts[-1], memory[0].counts[-1]) == (30, 30, 30)
    assert all(one.counts.sum() == 30 and len(one.counts) == NUM_BINS for one in (first, second, *memory))
    assert all((one.low, one.high) == (-1, 1) for one in (first, second))
    assert len(activation_histograms(made_trace("a" * 10, h))) == 2
    assert math.isclose(sum(activation_histograms(made_trace("a" * 10, noise(10)))[1].counts), 10 * H)
