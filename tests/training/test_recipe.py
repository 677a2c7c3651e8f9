"""What is chosen when nobody says, and what is said of it in the end."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.cli import TINY_RUN
from unrolled.api import load
from unrolled.nn.device import DeviceConfig, fewer_threads_if_faster, select_device
from unrolled.nn.kernels.extension import native_module
from unrolled.options import BUDGET_OPTIONS, PRESETS, TrainRequest
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback
from unrolled.training.diagnosis import (
    TABLE_VERDICTS,
    VERDICTS,
    RunEvidence,
    advice_from_run,
    advise,
    diagnose,
    diagnose_from_base,
    judge_table,
    verdict,
)
from unrolled.training.fine_tuning import MAX_EPOCHS_BY_TOKENS
from unrolled.training.recipe import (
    DROPOUT_BY_PRESSURE,
    RECIPE_OPTIONS,
    TOKEN_DROPOUT_BY_PRESSURE,
    TextStats,
    choose_text_options,
    choose_units,
    interpolate,
    threshold_value,
)
from unrolled.training.schedule import Budget, eval_fractions
from unrolled.training.throughput import measure_throughput

BOOK = TextStats(tokens=1_000_000, vocab_size=65)


def request(**values: Any) -> TrainRequest:
    return TrainRequest.build((), values, "test").check()


def at(rate: float, muon: float = 0.8) -> Callable[[TrainRequest], float]:
    """Return the pace of a machine that trains 256 units at `rate` symbols a second with AdamW."""
    return lambda asked: rate * (256 / asked.model.hidden) ** 2 * (muon if asked.training.optimizer == "muon" else 1.0)


def never(asked: TrainRequest) -> float:
    raise AssertionError("a budget in steps or epochs must not depend on the machine's speed")


def test_more_time_means_wider_layers_and_more_passes_more_dropout() -> None:
    found = [choose_text_options(request(minutes=minutes), BOOK, at(70_000))[0] for minutes in (0.02, 1, 3, 30, 300)]
    widths = [asked.model.hidden for asked in found]
    dropouts = [asked.model.dropout for asked in found]
    assert widths == sorted(widths)
    assert dropouts == sorted(dropouts)
    assert widths[0] < widths[2] < widths[-1]
    assert dropouts[0] < dropouts[2] < dropouts[-1]


def test_a_slow_machine_gets_a_smaller_network() -> None:
    fast, slow = (choose_text_options(request(minutes=1), BOOK, at(rate))[0].model.hidden for rate in (70_000, 3_000))
    assert slow < fast


def test_a_large_text_gets_no_dropout_and_a_small_one_a_small_network() -> None:
    large, _ = choose_text_options(request(minutes=3), TextStats(10**9, 96), at(70_000))
    small, _ = choose_text_options(request(minutes=3), TextStats(18_000, 60), at(70_000))
    assert large.model.dropout == 0
    assert small.model.hidden < large.model.hidden
    assert small.model.dropout >= 0.3


def test_muon_is_chosen_where_it_is_not_too_slow() -> None:
    assert choose_text_options(request(minutes=1), BOOK, at(70_000, muon=0.8))[0].training.optimizer == "muon"
    assert choose_text_options(request(minutes=1), BOOK, at(70_000, muon=0.3))[0].training.optimizer == "adamw"


@pytest.mark.parametrize("given", [{"hidden": 48}, {"dropout": 0.77}, {"optimizer": "rmsprop"}, {"hidden": 33, "dropout": 0.0}])
def test_what_was_given_is_never_touched(given: dict[str, Any]) -> None:
    chosen, sentence = choose_text_options(request(minutes=3, **given), BOOK, at(70_000))
    assert {name: chosen.to_dict()[name] for name in given} == given
    assert sentence


def test_a_given_embedding_decides_the_width_of_residual_layers() -> None:
    chosen, _ = choose_text_options(request(minutes=0.02, embedding=256), BOOK, at(70_000))
    assert chosen.model.hidden == 256
    chosen, _ = choose_text_options(request(minutes=0.02, embedding=64, residual=False), BOOK, at(70_000))
    assert chosen.model.hidden == 128


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_never_touched(preset: str) -> None:
    asked = TrainRequest.build((), {}, "test", preset).check()
    assert choose_text_options(asked, BOOK, never) == (asked, "")


def test_nothing_is_measured_for_a_budget_in_steps_or_epochs() -> None:
    for budget in ({"steps": 1000}, {"epochs": 3.0}):
        chosen, sentence = choose_text_options(request(**budget), BOOK, never)
        assert chosen.model.hidden in (128, 256, 384, 512)
        assert "times" in sentence or "%" in sentence


def test_a_short_text_is_read_as_often_as_its_smaller_batches_say() -> None:
    _, sentence = choose_text_options(request(steps=100), TextStats(tokens=640, vocab_size=20), never)
    assert sentence.endswith("batch 10 of 64 steps, muon: in 100 steps the text is read 100 times"), sentence


def test_every_process_has_the_lanes_of_one() -> None:
    for ranks, rate in ((1, 0.008), (2, 0.008 * 2**0.5), (4, 0.016), (64, 0.016)):
        chosen, _ = choose_text_options(request(minutes=1), BOOK, at(70_000), ranks)
        assert chosen.training.batch == 32 * ranks
        assert chosen.training.lr == pytest.approx(rate)
        wide, _ = choose_text_options(request(steps=10, hidden=512), BOOK, never, ranks)
        assert wide.training.batch == 64 * ranks
        given, _ = choose_text_options(request(minutes=1, batch=24), BOOK, at(70_000), ranks)
        assert (given.training.batch, given.training.lr) == (24, 0.008)
        given, _ = choose_text_options(request(minutes=1, lr=0.005), BOOK, at(70_000), ranks)
        assert given.training.lr == 0.005


def test_the_recipe_chooses_settings_only() -> None:
    asked = request(minutes=3)
    chosen, _ = choose_text_options(asked, BOOK, at(70_000))
    changed = {name for name, value in chosen.to_dict().items() if value != asked.to_dict()[name]}
    assert changed <= set(RECIPE_OPTIONS)
    assert not set(RECIPE_OPTIONS) & set(BUDGET_OPTIONS)


def test_rules_are_steady() -> None:
    for points in (DROPOUT_BY_PRESSURE, TOKEN_DROPOUT_BY_PRESSURE):
        shares = [interpolate(points, weight / 8) for weight in range(4000)]
        assert shares == sorted(shares)
        assert 0 == shares[0] < shares[-1] < 0.7
        assert max(later - earlier for earlier, later in zip(shares[:-1], shares[1:], strict=True)) < 0.02
    assert [choose_units(reads, 10**7) for reads in (0, 10**12)] == [128, 512]
    assert choose_units(10**12, 10**6) == 384, "more only learn a small text by heart"


@pytest.mark.slow
def test_what_was_chosen_is_reported_saved_and_resumed(book: Path, cli: Callable[..., Any]) -> None:
    done = cli("train", book, "--steps", 12, "--stop-after", 6, "--batch", 4, "--bptt", 8, "--sample-length", 0, "--out", "r")
    told = re.search(
        r"2 layers of (\d+) units, dropout ([\d.]+) \(of tokens [\d.]+\), batch 4 of 8 steps, (\w+): in 12 steps", done.err
    )
    assert told, done.err
    saved = json.loads(Path("r/config.json").read_text("utf-8"))["options"]
    assert (str(saved["hidden"]), f"{saved['dropout']:g}", saved["optimizer"]) == told.groups()
    again = cli("train", "--resume", "r", "--json")
    assert json.loads(again.out)["steps"] == 12
    assert "layers of" not in again.err


@pytest.mark.slow
def test_a_run_in_minutes_measures_this_machine(book: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unrolled")
    values = {"minutes": 0.02, "out": "r", "sample_length": 0, "bptt": 16, "batch": 4, "eval_tokens": 100}
    outcome = launch.start_run(TrainRequest.build((str(book),), values, "test"), ProgressCallback()).train()
    assert any("tokens/s" in message for message in caplog.messages)
    assert load("r").network.options.hidden == 128  # a small text
    assert outcome.diagnosis


@pytest.mark.slow
def test_a_processor_without_fast_bfloat16_trains_in_float32_without_a_word_more(
    book: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = TINY_RUN
    monkeypatch.setattr("unrolled.nn.device.instruction_sets", lambda: ["avx2"])
    done = cli("train", book, *small, "--minutes", 0.01, "--out", "r", "--json")
    answer = json.loads(done.out)
    fastest = "torch" if native_module() is None else "native"
    assert (done.code, answer["precision"], answer["kernels"]) == (0, "float32", fastest)
    assert "warn" not in done.err.lower()
    told = cli("train", book, *small, "--steps", 5, "--precision", "float32", "--out", "s", "--json")
    assert json.loads(told.out)["precision"] == "float32"
    assert "warn" not in told.err.lower()


def test_pace_counts_symbols_and_leaves_the_random_numbers_alone() -> None:
    asked = request(steps=1, hidden=16, batch=4, bptt=8)
    before = torch.random.get_rng_state()
    rate = measure_throughput(9, asked.model, asked.training, select_device(asked.machine), seconds=0.05)
    assert 100 < rate < 1e8
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("losses", "best_at", "epochs", "word"),
    [
        ((1.0, None), 1.0, 1.0, "not known"),
        ((0.4, 1.9), 0.3, 50.0, "Overfit"),
        ((0.632, 0.657), 0.9 - 1e-9, 0.7, "Underfit"),  # not overfit before one pass
        ((0.173, 0.172), 0.8, 5.0, "As good as this text allows"),
        ((0.173, 0.172), 1.0, 50.0, "As good as this text allows"),  # twice the time would bring 0.00
        ((0.3, 0.31), 1.0, 3.9, "As good as this text allows"),  # twice the time would bring 0.01
        ((0.6, 0.61), 1.0, 3.9, "Underfit"),
        ((1.0, 1.4), 1.0, 9.0, "Limited by the text"),
        ((1.35, 1.4), 1.0, 9.0, "Limited by time or size"),
        ((1.35, 1.4), 1.0, 3.0, "Underfit"),
        ((1.0, 1.4), 1.0, 0.4, "Underfit"),  # another part of the text, not learned by heart
    ],
)
def test_the_verdict_names_what_holds_it_back(
    losses: tuple[float, float | None], best_at: float, epochs: float, word: str
) -> None:
    words = diagnose(*losses, best_at, epochs, tokens_per_epoch=1_000_000)
    assert word in words
    assert "  " not in words
    assert losses[1] is None or diagnose(*losses, best_at, epochs, tokens_per_epoch=12).startswith("Too short to judge: ")


CONTRADICTIONS = {
    "Overfit": ("train longer", "larger --hidden"),
    "As good as this text allows": ("train longer", "more text"),
    "Limited by the text": ("train longer", "larger --hidden"),
    "Limited by time or size": ("more text",),
    "Underfit": ("more text", "larger --hidden"),
    "Too short to judge": ("train longer", "larger --hidden"),
}


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("better_ngram", [None, 5])
def test_advice_never_contradicts_the_verdict(verdict: str, better_ngram: int | None) -> None:
    lines = advise(f"{verdict}: and so on.", better_ngram, 0, (1.0, 1.0), False)
    assert len(lines) == 1
    assert not any(words in lines[0].lower() for words in CONTRADICTIONS[verdict])
    assert (better_ngram is None) or "5-gram" in lines[0]
    lines = advise(f"{verdict}.", better_ngram, 60, (0.5, 1.0), True)
    copies = verdict in ("Overfit", "Limited by the text", "Too short to judge")  # the others copy what the text repeats
    assert len(lines) == 2 + copies + (better_ngram is not None)
    assert not any(words in " ".join(lines).lower() for words in CONTRADICTIONS[verdict])
    assert copies is ("--dropout" in " ".join(lines[better_ngram is not None :]))


FALLING = [(step, 3.0 - step / 100) for step in range(10, 110, 10)]


@pytest.mark.parametrize("judged", VERDICTS)
@pytest.mark.parametrize("train", [1.0, 1.39])
def test_advice_from_a_run_never_contradicts_the_verdict(judged: str, train: float) -> None:
    diagnosis = f"{judged}: {train} nats per character on the training text, 1.400 on the validation text."
    for curve in (FALLING, FALLING[:2], [(step, 2.0) for step, _ in FALLING]):
        for epochs in (0.3, 9.0):
            lines = " ".join(advice_from_run(diagnosis, RunEvidence(curve, epochs, 128, 0.2))).lower()
            assert not any(words in lines for words in CONTRADICTIONS[judged])
            assert "twice as long" not in lines or judged in ("Underfit", "Limited by time or size")
            assert "--hidden" not in lines or judged == "Limited by time or size"


def test_advice_is_only_given_where_the_run_has_evidence() -> None:
    underfit = "Underfit: 1.390 nats per character on the training text, 1.400 on the validation text."
    (line,) = advice_from_run(underfit, RunEvidence(FALLING, 0.5, 128, 0.1))
    assert line.startswith("Train twice as long: the validation loss still fell by 20% in the last half of the run")
    assert line.endswith("from 2.500 to 2.000.")
    assert advice_from_run(underfit, RunEvidence(FALLING[:3], 0.5, 128, 0.1)) == []  # too few evaluations to say
    assert advice_from_run(underfit, RunEvidence([(step, 2.0) for step, _ in FALLING], 0.5, 128, 0.1)) == []
    overfit = "Overfit: 0.900 nats per character on the training text, 1.400 on the validation text."
    dropout, data = advice_from_run(overfit, RunEvidence(FALLING, 6.0, 128, 0.1))
    assert dropout.startswith("Use --dropout 0.2 (it was 0.1)")
    assert data.startswith("Use more text")
    steps = overfit.replace("nats per character on the training text", "on training steps").replace(
        "the validation text", "validation steps"
    )
    assert advice_from_run(steps, RunEvidence(FALLING, 6.0, 128, 0.5, "steps"))[0].startswith("Use longer or more series: ")
    assert len(advice_from_run(overfit, RunEvidence(FALLING, 6.0, 128, 0.5))) == 1  # no more dropout than half
    size = "Limited by time or size: 1.390 nats per character on the training text, 1.400 on the validation text."
    assert advice_from_run(size, RunEvidence([(1, 2.0)], 6.0, 128, 0.1))[0].startswith("Use --hidden 160 (it was 128)")
    assert advice_from_run("No rows were held out.", RunEvidence(FALLING, 6.0, 128, 0.1)) == []
    assert advise(underfit, None, 0, (1.0, 1.0), False, RunEvidence(FALLING, 0.5, 128, 0.1)) == [line]
    old_run = "Started from builtin:english: 0.300 nats per character on the training text, 0.400 on the validation text."
    assert advise(old_run, None, 0, (1.0, 1.0), False) == ["Use more text, or more --epochs."], "its width is that of the base"


@pytest.mark.parametrize(
    ("losses", "best_at", "epochs", "tokens", "judged", "advice"),
    [
        ((1.0, 1.157), 1.0, 1.35, 180_000, "Underfit", "Train longer."),
        ((1.0, 1.157), 1.0, 2.0, 180_000, "Limited by the text", "Use more text."),
        ((1.1, 1.157), 1.0, 2.0, 180_000, "As good as this text allows", "Use more text."),
        ((0.7, 1.2), 0.5, 4.0, 9_000, "Overfit", "Use more text or more --dropout."),
        ((2.476, 2.756), 1.0, 4.6, 279, "Too short to judge", "Use more text."),
    ],
)
def test_a_training_from_a_base_has_a_verdict(
    losses: tuple[float, float], best_at: float, epochs: float, tokens: int, judged: str, advice: str
) -> None:
    best_epochs = threshold_value(MAX_EPOCHS_BY_TOKENS, tokens)
    diagnosis = diagnose_from_base("builtin:english", losses, best_at, epochs, tokens, best_epochs)
    assert verdict(diagnosis) == judged
    assert diagnosis.endswith(" Started from builtin:english.")
    assert advise(diagnosis, None, 0, (1.0, 1.0), False) == [advice]
    evidence = RunEvidence(FALLING, 9.0, 128, 0.2)
    assert not any("--hidden" in line for line in advise(diagnosis, 5, 99, (0.1, 1.0), True, evidence)), "the base has a width"
    unvalidated = diagnose_from_base("builtin:english", (1.0, None), best_at, epochs, tokens, best_epochs)
    assert "no text to validate on" in unvalidated


@pytest.mark.parametrize(
    ("losses", "best_at", "epochs", "words"),
    [
        ((0.2, 0.9), 0.5, 9.0, "Overfit"),
        ((0.88, 0.9), 0.5, 9.0, "As good as these rows allow"),
        ((0.01, 0.02), 1.0, 9.0, "As good as these rows allow"),
        ((0.03, 0.04), 1.0, 1.8, "Underfit"),
        ((0.2, 0.9), 1.0, 9.0, "Limited by the rows"),
        ((0.88, 0.9), 1.0, 9.0, "Limited by time or size"),
        ((0.88, 0.9), 1.0, 0.5, "Underfit"),
        ((1.5, 1.7), 1.0, 2.6, "Underfit"),
    ],
)
def test_a_table_has_a_verdict(losses: tuple[float, float], best_at: float, epochs: float, words: str) -> None:
    diagnosis = (
        f"accuracy 0.5 on 40 validation rows. Loss {losses[0]:.3f} on training rows, {losses[1]:.3f} on validation rows."
    )
    judged = judge_table(*losses, best_at, epochs, 40)
    assert judged.startswith(f" {words}: ")
    assert verdict(diagnosis + judged) == TABLE_VERDICTS[words]
    few = judge_table(*losses, best_at, epochs, 5)
    assert few == " Too few rows to judge: 5 for validation, and a verdict needs 20."
    assert verdict(diagnosis + few) == TABLE_VERDICTS["Too few rows to judge"]
    no_better = judge_table(*losses, best_at, epochs, 40, "majority")
    assert no_better.startswith(" No better than a baseline (majority): ") == (words not in ("Overfit", "Underfit"))
    lines = advice_from_run(diagnosis + judged, RunEvidence(FALLING, epochs, 128, 0.1, "rows"))
    assert ("Use more rows" in " ".join(lines)) == (words in ("Overfit", "Limited by the rows"))


def test_a_likelihood_of_series_has_no_floor() -> None:
    assert judge_table(-0.3, -0.2, 1.0, 2.0, 100, is_series=True).startswith(" Underfit: ")
    no_better = judge_table(-0.3, -0.2, 1.0, 9.0, 100, "linear", is_series=True)
    assert no_better == (
        " No better than a baseline (linear): the steps were read 9 times. More time, or more units (--hidden), may help."
    )


def test_short_budgets_are_looked_at_less() -> None:
    short, usual, long = (eval_fractions(Budget("seconds", seconds)) for seconds in (60, 180, 3600))
    assert len(short) < len(usual) < len(long)
    assert short[-1] == usual[-1] == long[-1] == 1
    assert max(later - earlier for earlier, later in zip(long[:-1], long[1:], strict=True)) * 3600 < 360


def test_threads_are_those_that_are_faster_and_torchs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: counts[-1])
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    machine = DeviceConfig(torch.device("cpu"), torch.float32, 3)
    assert fewer_threads_if_faster(machine, lambda: {3: 10.0, 1: 20.0}[counts[-1]]).threads == 1
    assert fewer_threads_if_faster(machine, lambda: {3: 20.0, 1: 10.0}[counts[-1]]).threads == 3
    assert counts[-1] == 3
