"""Formal languages: labels are what the language says, the benchmark gives every model the same, and scores what it should."""

import json
import random
import xml.etree.ElementTree as Xml
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.cli import Cli
from unrolled.bench import languages
from unrolled.bench.languages import TRANSFORMER, Curriculum, Encoder, accuracy_at, build, compare, take_step
from unrolled.datasets.formal_languages import LANGUAGES, MAX_DEPTH, UNSCORED, LabeledString
from unrolled.errors import UnrolledError
from unrolled.nn.cells import CELLS


def made(name: str, count: int = 60) -> list[LabeledString]:
    rng = random.Random(3)
    return [LANGUAGES[name].make(rng, rng.randint(3, 60)) for _ in range(count)]


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_symbol_has_a_label_and_something_is_scored(name: str) -> None:
    for length in range(3, 60):
        one, same = (LANGUAGES[name].make(random.Random(length), length) for _ in range(2))
        assert one == same
        assert len(one.labels) == len(one.symbols)
        assert abs(len(one.symbols) - length) <= 2 + length // 4
        assert one.scored
        assert all(one.labels[position] != UNSCORED for position in one.scored)


def evaluate(text: str) -> int:
    value, operator = 0, "+"
    for symbol in text:
        if symbol.isdigit():
            value = {"+": value + int(symbol), "-": value - int(symbol), "*": value * int(symbol)}[operator]
        operator = symbol if symbol in "+-*" else operator
    return value % 5


def test_last_labels_are_what_the_languages_say() -> None:
    for one in made("parity"):
        assert one.labels[-1] == str(one.symbols.count("1") % 2)
    for one in made("mod-3"):
        assert one.labels[-1] == str(one.symbols.count("1") % 3)
    for one in made("modular-arithmetic"):
        assert one.labels[-1] == str(evaluate(one.symbols))
    for one in made("first-token"):
        assert one.labels[-1] == one.symbols[0]
    for name in ("anbn", "anbncn"):
        for one in made(name):
            first, *_, last = (one.symbols.count(symbol) for symbol in dict.fromkeys(one.symbols))
            assert one.labels[-1] == ("lower" if last < first else "higher" if last > first else "equal")
    for one in made("dyck-1"):
        assert (one.labels[-1] == ".") == (one.symbols.count("(") == one.symbols.count(")"))
        assert one.symbols[-1] == ")"


def test_dyck_2_names_the_bracket_that_closes_next() -> None:
    for one in made("dyck-2"):
        stack: list[str] = []
        for symbol, label in zip(one.symbols, one.labels, strict=True):
            if symbol in "([":
                stack.append({"(": ")", "[": "]"}[symbol])
            else:
                assert stack.pop() == symbol
            assert label == (stack[-1] if stack else ".")
            assert len(stack) <= MAX_DEPTH


def test_recall_sorting_and_copying() -> None:
    for one in made("associative-recall"):
        known = {one.symbols[i]: one.symbols[i + 1] for i in range(0, len(one.symbols), 2)}
        assert [one.labels[i] for i in one.scored] == [known[one.symbols[i]] for i in one.scored]
        assert all(one.symbols[i] in one.symbols[:i] for i in one.scored)
    for name in ("sorting", "copying"):
        for one in made(name):
            half = one.symbols.index(">")
            expected = sorted(one.symbols[:half]) if name == "sorting" else list(one.symbols[:half])
            assert [one.labels[i] for i in one.scored] == expected


@pytest.mark.parametrize("name", ["parity", "mod-3", "anbn", "dyck-1"])
def test_what_is_scored_cannot_be_guessed(name: str) -> None:
    """No answer is much more frequent than others, and the last two symbols do not tell it."""
    strings = made(name, 600)
    for ending in {one.symbols[-2:] for one in strings}:
        answers = [one.labels[-1] for one in strings if one.symbols[-2:] == ending]
        assert len(answers) < 60 or max(map(answers.count, answers)) < 0.75 * len(answers)


@pytest.mark.slow
@pytest.mark.parametrize("model", [*CELLS, TRANSFORMER])
def test_models_have_about_as_many_parameters(model: str) -> None:
    encoder = Encoder.of("parity")
    sizes = [sum(weight.numel() for weight in build(name, encoder, 1).parameters()) for name in (model, "lstm")]
    assert 0.85 < sizes[0] / sizes[1] < 1.15


class Oracle(nn.Module):
    """Counts ones, and is wrong in every second row if `is_half` is set."""

    def __init__(self, encoder: Encoder, is_half: bool) -> None:
        super().__init__()
        self.encoder, self.is_half = encoder, is_half

    def forward(self, ids: Tensor) -> Tensor:
        odd = (ids == self.encoder.symbols["1"]).cumsum(0) % 2
        if self.is_half:
            odd = odd ^ (torch.arange(ids.shape[1]) % 2)
        order = torch.tensor([self.encoder.labels["0"], self.encoder.labels["1"]])
        return nn.functional.one_hot(order[odd], 2).float()


def test_accuracy_is_the_share_of_what_is_scored() -> None:
    encoder = Encoder.of("parity")
    assert accuracy_at(Oracle(encoder, False), "parity", encoder, 50) == 1.0
    assert accuracy_at(Oracle(encoder, True), "parity", encoder, 50) == 0.5


def test_the_transformer_sees_what_came_before_and_positions() -> None:
    encoder = Encoder.of("parity")
    network = build(TRANSFORMER, encoder, 1)
    ids = torch.randint(2, (12, 3))
    changed = ids.clone()
    changed[7] = 1 - changed[7]
    with torch.no_grad():
        before, after, moved = network(ids), network(changed), network(ids.flip(0))
    torch.testing.assert_close(before[:7], after[:7])
    assert not torch.allclose(before[8:], after[8:])
    assert not torch.allclose(before[-1], moved[-1])


@pytest.mark.parametrize("model", ["lstm", "gru", TRANSFORMER])
def test_noise_is_in_the_gradients_and_not_in_the_weights(model: str) -> None:
    encoder = Encoder.of("anbn")
    network = build(model, encoder, 1)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    ids, labels, _ = encoder.batch([LANGUAGES["anbn"].make(random.Random(1), 6)])
    with torch.no_grad():
        clean = network(ids)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    noisy, same, other, none = (
        take_step(network, optimizer, ids, labels, noise, torch.Generator().manual_seed(seed))
        for noise, seed in ((0.15, 1), (0.15, 1), (0.15, 2), (0.0, 1))
    )
    torch.testing.assert_close(noisy, same)
    torch.testing.assert_close(none, clean)
    assert not torch.allclose(noisy, other, atol=0.01)
    assert not torch.allclose(noisy, clean, atol=0.01)
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


@pytest.mark.parametrize(
    ("scores", "noise"), [({0.15: 1.0}, 0.15), ({0.15: 0.7, 0.0: 0.9}, 0.0), ({0.15: 0.7, 0.0: 0.6}, 0.15)]
)
def test_who_does_not_learn_with_noise_learns_without(
    scores: dict[float, float], noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[int, float] = {}

    def train(network: nn.Module, language: str, encoder: Encoder, seconds: float, seed: int, noise: float) -> int:
        trained[id(network)] = noise
        return len(trained)

    def score(network: nn.Module, language: str, encoder: Encoder, length: int, part: str = "") -> float:
        return scores[trained[id(network)]] if part == "validation" else trained[id(network)]

    monkeypatch.setattr(languages, "train", train)
    monkeypatch.setattr(languages, "accuracy_at", score)
    row = languages.measure("parity", "mingru", 1.0, 1, (40, 64))
    assert (row["noise"], set(row["accuracy"].values())) == (noise, {noise})
    assert list(trained.values()) == list(scores)


@pytest.mark.long
@pytest.mark.parametrize(
    ("language", "model", "least", "most"),
    [
        *[(language, "lstm", 0.99, 1.0) for language in ("parity", "mod-3", "anbn", "dyck-1")],
        ("parity", "slstm", 0.99, 1.0),
        ("parity", "gated-deltanet", 0.95, 1.0),
        ("parity", "gated-deltanet-positive", 0.0, 0.65),
        ("parity", "mingru", 0.0, 0.65),
    ],
)
def test_cells_hold_what_the_documents_say(language: str, model: str, least: float, most: float) -> None:
    """At 256 symbols, after strings of 3 to 40; chance is a half for parity."""
    row = languages.measure(language, model, languages.DEFAULT_SECONDS, 1, (256,))
    assert least <= row["accuracy"][256] <= most


def test_strings_grow_with_accuracy_and_with_time() -> None:
    curriculum = Curriculum(random.Random(1))
    assert max(curriculum.draw_length(0.0) for _ in range(50)) == languages.FIRST_LENGTH
    for _ in range(100):
        curriculum.record(6, 1.0)
    assert curriculum.longest > languages.FIRST_LENGTH
    assert {curriculum.draw_length(0.5) for _ in range(500)} >= {20, 40}
    curriculum.record(40, 1.0)
    assert max(curriculum.draw_length(0.0) for _ in range(200)) == 40  # never above, and never shorter again


def test_models_learn_the_same_strings_for_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "NUM_TEST_STRINGS", 8)
    threads = torch.get_num_threads()
    rows = list(compare(["first-token"], ["mingru", TRANSFORMER], 0.1, [1, 2], (40,)))
    assert [row["model"] for row in rows] == ["mingru", TRANSFORMER]
    assert all(row["steps"] >= 1 and 0 <= row["accuracy"][40] <= 1 for row in rows)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_processes_share_the_trainings_and_keep_their_order() -> None:
    """Rows come in the order of languages and models, each of its own job; an error of one ends all."""
    models = ["mingru", TRANSFORMER, "lstm"]
    rows = list(compare(["parity"], models, 0.05, [1, 2], (5,), processes=2))
    assert [(row["model"], set(row["accuracy"])) for row in rows] == [(model, {5}) for model in models]
    assert [row["parameters"] for row in rows] == [
        sum(weight.numel() for weight in build(model, Encoder.of("parity"), 1).parameters()) for model in models
    ]
    with pytest.raises(UnrolledError, match="process for 'languages' ended with code 1"):
        list(compare(["parity"], ["no such cell", "lstm"], 0.05, [1], (5,), processes=2))


def test_a_cell_that_other_processes_do_not_have_stays_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert [languages.num_processes(["lstm", TRANSFORMER], jobs) for jobs in (1, 3, 100)] == [1, 3, 4]
    outside = type("OutsideCell", (CELLS["lstm"],), {})
    monkeypatch.setitem(CELLS, "outside", outside)
    assert languages.num_processes(["lstm", "outside"], 100) == 1


def test_the_command_prints_a_table_and_draws_it(cli: Cli, tmp_path: Path) -> None:
    settings: tuple[Any, ...] = ("--languages", "parity", "--cells", "mingru", "--seconds", 0.1, "--quick")
    done = cli("bench", "languages", *settings, "--svg", tmp_path / "x.svg", "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)["languages"]
    assert (row["language"], row["model"]) == ("parity", "mingru")
    assert set(row["accuracy"]) == {"40", "64", "128", "256"}
    assert len(Xml.parse(tmp_path / "x.svg").getroot()) > 5
    for flag, known in (("--languages", "parity"), ("--cells", "mingru")):
        done = cli("bench", "languages", flag, known[:-1])
        assert done.code == 2
        assert f"did you mean {known}" in done.err.lower() or known in done.err
