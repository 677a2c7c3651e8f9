"""How it learns: exact budgets, exact resumes, exact clipping; nothing of validation in training."""

import gc
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.native import built
from support.runs import assert_same_run, logged
from unrolled.analysis.report_data import training_time
from unrolled.api import load
from unrolled.checkpoints.model_file import load_text_model
from unrolled.checkpoints.run_dir import Run
from unrolled.checkpoints.run_summary import summarize_run
from unrolled.errors import DataError, Interrupted, UsageError
from unrolled.evaluation.ngram import loss_by_order, uniform_nats
from unrolled.evaluation.text_loss import evaluate
from unrolled.nn import device
from unrolled.nn.cells import map_state, state_tensors
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM, cross_entropy
from unrolled.options import ModelOptions, TrainingOptions, TrainRequest
from unrolled.server.runs import RunFacts
from unrolled.text.batching import StreamBatches
from unrolled.text.corpus import open_corpus
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback
from unrolled.training.optim import OPTIMIZERS, Muon, clip_gradient, make_optimizer, polar_express
from unrolled.training.schedule import Budget, BudgetUsed, learning_rate, make_budget
from unrolled.training.tasks.table import TableTask
from unrolled.training.tasks.text import TextTask
from unrolled.training.train_step import TrainStep

SMALL: dict[str, Any] = {"hidden": 12, "batch": 4, "bptt": 8, "sample_length": 30, "precision": "float32", "eval_tokens": 200}


def start(text: Path, out: str, **values: Any) -> launch.TrainingRun:
    return launch.start_run(TrainRequest.build((str(text),), SMALL | {"out": out} | values, "test"), ProgressCallback())


def resume(out: str, **wanted: Any) -> launch.TrainingRun:
    return launch.resume_run(Path(out), wanted, ProgressCallback())


CASES = [
    {"cell": "lstm", "dropout": 0.2},
    {"cell": "gru", "optimizer": "rmsprop"},
    {"cell": "rnn", "documents": "line", "optimizer": "muon"},
    {"cell": "lstm", "documents": "file", "precision": "bfloat16", "dropout": 0.1},
    {"cell": "gru-reset-before", "tokens": "bytes", "residual": False, "schedule": "decay", "decay_after": 0.0},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", CASES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.long), 17, pytest.param(30, marks=pytest.mark.long)])
def test_a_resumed_run_is_the_run_that_was_not_stopped(book: Path, settings: dict[str, Any], stop: int) -> None:
    start(book, "straight", steps=60, **settings).train()
    first = start(book, "broken", steps=60, stop_after=stop, **settings).train()
    assert (first.stop_signal, first.steps) == (0, stop)
    second = resume("broken", stop_after=None).train()
    assert (second.stop_signal, second.steps) == (None, 60)
    assert_same_run(Path("straight"), Path("broken"), 60)


def test_a_stopped_run_says_how_far_it_came(book: Path) -> None:
    """Once, a list and a report said the step of the last record: up to nine before that of the stop."""
    start(book, "run", steps=40, eval_every=40, stop_after=17).train()
    summary = summarize_run(Path("run"))
    assert summary is not None
    assert summary.steps == 17
    record = list(Run(Path("run")).metrics.read())[-1]
    assert training_time(Run(Path("run")))["note"] == f"{record['epochs']:.2f} passes"
    assert RunFacts(Path("run")).to_json("run", None)["steps"] == 17
    resume("run", stop_after=None).train()
    steps = [record["step"] for record in Run(Path("run")).metrics.read() if record["event"] == "train"]
    assert steps == [10, 20, 30, 40]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["evaluate", "sample"])
@pytest.mark.parametrize(("every", "number"), [(None, 3), (7, 3), (7, 8)])
def test_an_evaluation_that_a_signal_cut_short_is_made_on_resume(
    book: Path, every: int | None, number: int, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation that found the best step, cut short in its sample, once counted as one without progress on resume."""
    start(book, "straight", steps=60, eval_every=every).train()
    trainer = start(book, "broken", steps=60, eval_every=every).trainer
    whole, count = getattr(trainer.task, part), itertools.count()

    def interrupted(*arguments: Any) -> Any:
        if next(count) == number:
            raise Interrupted("stop", 2)
        return whole(*arguments)

    monkeypatch.setattr(trainer.task, part, interrupted)
    trainer.train()
    trainer.run.unlock()
    assert trainer.state.used.steps < 60 or number == 8
    resume("broken").train()
    assert_same_run(Path("straight"), Path("broken"), 60)


@pytest.mark.slow
def test_a_resume_may_change_the_budget_and_the_machine_only(book: Path) -> None:
    start(book, "r", steps=2).train()
    with pytest.raises(UsageError, match=r"hidden= was 12, now 13, lr= was 0.008, now 0.1"):
        resume("r", hidden=13, lr=0.1, save_every=5.0)
    outcome = resume("r", steps=4, threads=2).train()
    assert outcome.steps == 4
    assert resume("r").train().steps == 4


@pytest.mark.slow
@built
def test_a_resume_with_other_threads_is_the_same_run(book: Path) -> None:
    options = {"kernels": "native", "precision": "float32"}
    start(book, "straight", steps=20, threads=1, **options).train()
    start(book, "resumed", steps=20, stop_after=10, threads=3, **options).train()
    resume("resumed", threads=2).train()
    assert_same_run(Path("straight"), Path("resumed"), 20)


@pytest.mark.slow
def test_a_resume_notices_edited_text(book: Path) -> None:
    start(book, "r", steps=20, stop_after=10).train()
    text = book.read_text("utf-8")
    book.write_text(text.replace("fox", "cat", 1), "utf-8")
    with pytest.raises(DataError, match="has changed since"):
        resume("r")
    book.unlink()
    assert resume("r", stop_after=None).train().steps == 20


def test_the_forget_bias_is_not_overwritten_on_resume(book: Path) -> None:
    start(book, "r", steps=20, stop_after=10).train()
    work = resume("r")
    bias = work.trainer.model.cells()[0].bias
    assert not (bias[12:24] == 1).all()


def test_moments_survive_a_change_of_rate(book: Path) -> None:
    work = start(book, "r", steps=100)
    batches = iter(work.trainer.batches)
    for _ in range(3):
        work.trainer.step(next(batches))
    before = work.trainer.train_step.optimizer.to_tensors()["head.weight/exp_avg"].clone()
    rate = work.trainer.lr
    work.trainer.step(next(batches))
    assert work.trainer.lr != rate
    after = work.trainer.train_step.optimizer.to_tensors()
    assert after["head.weight/step"].item() == 4
    assert torch.cosine_similarity(before.flatten(), after["head.weight/exp_avg"].flatten(), dim=0) > 0.5


def test_state_is_carried_and_never_shuffled_between_lanes(book: Path) -> None:
    """Training chunks from the carried state is reading each lane on: the same outputs as one long read."""
    work = start(book, "r", steps=5)
    trainer, batches = work.trainer, iter(work.trainer.batches)
    model, state = trainer.model.eval(), trainer.model.initial_state(4)
    pieces, read = [], []
    for _ in range(3):
        inputs = torch.from_numpy(next(batches).arrays()["inputs"])
        logits, state = model(inputs, state)
        pieces.append(logits)
        read.append(inputs)
    whole, _ = model(torch.cat(read), model.initial_state(4))
    torch.testing.assert_close(torch.cat(pieces), whole)


def test_some_lanes_begin_anew_and_the_seed_says_which() -> None:
    model = RecurrentLM(5, ModelOptions(hidden=4, layers=1))
    machine = DeviceConfig(torch.device("cpu"), torch.float32, 1)
    train_step = TrainStep(model, machine, TrainingOptions(state_reset_prob=0.3), batch_size=1000)
    train_step.carried_state = map_state(torch.ones_like, train_step.carried_state)
    drawn = [state_tensors(train_step._randomly_reset_state(seed)) for seed in (1, 1, 2)]
    for h, c in drawn:
        assert torch.equal(h, c)  # a lane is reset as a whole
        assert (h == h[:, :1]).all()
        assert 0.65 < h.mean() < 0.75
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])
    never = TrainStep(model, machine, TrainingOptions(state_reset_prob=0.0), batch_size=3)
    assert never._randomly_reset_state(1) is never.carried_state


def test_validation_is_not_trained_on(book: Path) -> None:
    corpus = open_corpus([str(book)], TrainRequest().data)
    work = start(book, "r", steps=5)
    assert isinstance(work.trainer.batches, StreamBatches)
    cut = int(len(corpus.ids) * 0.9)
    epoch = math.ceil(work.trainer.batches.tokens_per_epoch / (4 * 8))
    for batch in itertools.islice(work.trainer.batches, 2 * epoch):
        assert batch.inputs.max() < corpus.tokenizer.vocab_size
    np.testing.assert_array_equal(work.trainer.batches._reader.read(0, 10**9), corpus.ids[:cut])


@pytest.mark.slow
def test_a_model_that_is_too_sure_of_itself_is_kept_less_sure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters drawn at random can only be learned by heart, and then one is sure of what never comes."""
    monkeypatch.chdir(tmp_path)
    text = "".join("abcdefgh"[index] for index in np.random.default_rng(0).integers(8, size=4000))
    Path("text.txt").write_text(text)
    given: dict[str, Any] = {"steps": 120, "lr": 0.02, "dropout": 0.0, "hidden": 48, "eval_every": 60, "eval_tokens": 4000}
    work, raw = (start(Path("text.txt"), out, calibrate=out == "calibrated", **given) for out in ("calibrated", "raw"))
    work.train()
    raw.train()
    for name, tensor in work.trainer.model.state_dict().items():
        assert torch.equal(tensor, raw.trainer.model.state_dict()[name]), "training itself knows nothing of it"
    kept, plain = (load_text_model(Path(out) / "model.safetensors") for out in ("calibrated", "raw"))
    assert plain.history["logit_scale"] == 1
    assert 0 < kept.history["logit_scale"] < 0.9
    held_out = open_corpus(["text.txt"], TrainRequest().data).ids[3600:]
    losses = [evaluate(saved.model, work.machine, held_out).nats for saved in (kept, plain)]
    assert losses[0] < losses[1]
    assert losses[0] < math.log(8) + 0.01, "there is nothing to know but that there are eight"


def test_the_best_model_is_kept(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = start(book, "r", steps=60, lr=0.02)
    losses = iter([3.0, 1.0, 2.0, *[5.0] * 20])
    monkeypatch.setattr(work.task, "evaluate", lambda *arguments: (next(losses), 1.0))
    outcome = work.train()
    assert work.trainer.state.best_nats == 1.0
    evaluations = [record for record in logged(Path("r")) if record.get("event") == "validation"]
    best_step = [record for record in evaluations if record["val_nats"] == 1.0][0]["step"]
    kept = load_text_model(Path("r/model.safetensors"))
    assert kept.history["steps"] == best_step < 60
    assert (
        outcome.val_nats == kept.history["val_nats"] == pytest.approx(load("r", precision="float32").evaluate().nats, abs=1e-5)
    )
    assert outcome.diagnosis.startswith("Underfit")  # the text was read 0.21 times


@pytest.mark.slow
def test_it_learns_and_beats_its_letters(book: Path) -> None:
    outcome = start(book, "r", steps=300, hidden=48).train()
    ids = open_corpus([str(book)], TrainRequest().data).ids
    counts = np.bincount(ids)
    chances = counts[counts > 0] / len(ids)
    assert outcome.val_nats is not None
    assert outcome.val_nats < 0.5 * -(chances * np.log(chances)).sum()
    assert outcome.val_bits == pytest.approx(outcome.val_nats / math.log(2))


def test_losses_of_simple_models_are_in_the_log(book: Path) -> None:
    work = start(book, "r", steps=2)
    work.train()
    task = work.task
    assert isinstance(task, TextTask)
    assert task.validation is not None
    by_order = dict(loss_by_order(task.train, task.validation[:200], task.corpus.tokenizer.vocab_size, (1, 5)))
    record = next(work.trainer.run.metrics.read())
    assert record == {"event": "baselines", "step": 0, "seconds": 0.0, "nats": {"1-gram": by_order[1], "5-gram": by_order[5]}}
    assert RunFacts(Path("r")).to_json("r", None)["baselines"] == pytest.approx(
        {name: nats / math.log(2) for name, nats in [("uniform", uniform_nats(task.corpus.tokenizer.vocab_size))]}
        | {"1-gram": by_order[1] / math.log(2), "5-gram": by_order[5] / math.log(2)}
    )


def test_the_loss_of_label_frequencies_is_in_the_log() -> None:
    Path("t.csv").write_text("text,kind\n" + "aa,x\nbb,x\ncc,x\ndd,y\n" * 30, "utf-8")
    work = start(Path("t.csv"), "r", steps=1, source="text", target="kind", eval_tokens=1000)
    work.train()
    task = work.task
    assert isinstance(task, TableTask)
    labels = ["xxxy"[row % 4] for row in range(120)]
    train, held_out = ([labels[row] for row in rows] for rows in (task.train_rows, task.validation_rows))
    chances = {name: (train.count(name) + 1) / (len(train) + 3) for name in "xy"}  # x, y, and labels that were not seen
    expected = -sum(math.log(chances[name]) for name in held_out) / len(held_out)
    assert next(work.trainer.run.metrics.read())["nats"] == {"label frequencies": pytest.approx(expected)}


def test_what_is_held_out_of_several_files_is_printed(book: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unrolled")
    Path("other.txt").write_text("another text. " * 20, "utf-8")
    for inputs, documents, is_printed in (
        ((str(book), "other.txt"), "none", True),
        ((str(book),), "none", False),
        ((str(book), "other.txt"), "file", False),
    ):
        caplog.clear()
        values = SMALL | {"out": f"r-{len(inputs)}-{documents}", "steps": 1, "documents": documents}
        launch.start_run(TrainRequest.build(inputs, values, "test"), ProgressCallback())
        assert ("its end is held out: that of the last file" in caplog.text) == is_printed


@pytest.mark.slow
def test_minutes_are_minutes_of_training(book: Path) -> None:
    work = start(book, "r", minutes=0.03)
    outcome = work.train()
    assert 1.8 <= outcome.train_seconds < 2.6
    left = 1 - (outcome.train_seconds - 0.6) / 1.8  # the last step may have been a slow one
    assert work.trainer.lr <= 8e-3 * left


def test_a_training_does_not_collect_the_objects_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gc", gc)  # the tests' trainings have another, see `quick_trainings`
    with device.gc_frozen():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


@pytest.mark.slow
def test_epochs_are_passes(book: Path) -> None:
    work = start(book, "r", epochs=2.0)
    outcome = work.train()
    assert outcome.epochs == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("budget", [{"steps": 100}, {"epochs": 2.0}, {"minutes": 1.0}])
def test_linear_ends_at_zero_exactly_with_the_budget(budget: dict[str, Any]) -> None:
    options = TrainingOptions(**budget, lr=1.0, warmup=10)
    total = make_budget(options, tokens_per_epoch=500)
    spent = [BudgetUsed(steps=n, seconds=60 * n / 100, tokens=10 * n) for n in range(101)]
    rates = [learning_rate(options, s, total.progress(s), 500) for s in spent]
    assert rates[-1] == 0.0
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))


def test_decay_is_char_rnns() -> None:
    options = TrainingOptions(schedule="decay", lr=2e-3, warmup=0, decay=0.97, decay_after=10)
    rates = [learning_rate(options, BudgetUsed(tokens=100 * epoch), 0.5, 100) for epoch in (0, 9, 10, 11, 20)]
    assert rates == pytest.approx([2e-3, 2e-3, 2e-3 * 0.97, 2e-3 * 0.97**2, 2e-3 * 0.97**11])


def test_a_short_budget_warms_up_in_a_tenth() -> None:
    options = TrainingOptions(steps=20, lr=1.0, warmup=1000)
    assert learning_rate(options, BudgetUsed(steps=2), Budget("steps", 20).progress(BudgetUsed(steps=2)), 1) == pytest.approx(
        0.9
    )


def test_clipping_by_norm_and_by_value() -> None:
    model = RecurrentLM(5, ModelOptions(hidden=4))
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 7.0)
    count = sum(weight.numel() for weight in model.parameters())
    length, left = clip_gradient(model.parameters(), TrainingOptions(clip=5, clip_by="value"))
    assert length.item() == pytest.approx(7 * count**0.5, rel=1e-5)
    assert left == 1.0
    assert all((weight.grad == 5).all() for weight in model.parameters() if weight.grad is not None)
    length, left = clip_gradient(model.parameters(), TrainingOptions(clip=1.0))
    assert length.item() == pytest.approx(5 * count**0.5, rel=1e-5)
    norm = torch.nn.utils.get_total_norm([w.grad for w in model.parameters() if w.grad is not None])
    assert norm.item() * left == pytest.approx(1.0, rel=1e-4), "what is left to do, the optimizer does"


def test_muon_turns_square_blocks_and_leaves_the_rest_to_adamw() -> None:
    torch.manual_seed(0)
    blocks = torch.randn(3, 32, 32)
    values = torch.linalg.svdvals(polar_express(blocks).float())
    assert 0.1 < values.min() < 0.7 < values.median() < values.max() < 2
    models = [RecurrentLM(5, ModelOptions(hidden=8)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    before = {name: weight.clone() for name, weight in models[0].named_parameters()}
    for model, name in zip(models, ("muon", "adamw"), strict=True):
        torch.manual_seed(1)
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight)
        make_optimizer(model, TrainingOptions(optimizer=name, weight_decay=0.0)).step(0.01)  # type: ignore[arg-type]  # a key
    adamw = dict(models[1].named_parameters())
    for name, weight in models[0].named_parameters():
        if name.endswith(("weight_ih", "weight_hh")):
            turned = (before[name] - weight).view(4, 8, 8) / (0.01 * Muon.lr_scale)
            values = torch.linalg.svdvals(turned)
            assert 0.5 < values.median() < values.max() < 1.9
        else:
            assert torch.equal(weight, adamw[name])


def test_every_optimizer_is_tested() -> None:
    assert set(OPTIMIZERS) == {"adamw", "muon", "rmsprop"}


@pytest.mark.parametrize("name", ["adamw", "rmsprop"])
def test_optimizers_are_torchs(name: str) -> None:
    """The same changes as torch's optimizer objects make, over five steps of changing rate."""
    torch.manual_seed(0)
    ours, theirs = RecurrentLM(5, ModelOptions(hidden=4)), RecurrentLM(5, ModelOptions(hidden=4))
    theirs.load_state_dict(ours.state_dict())
    optimizer = make_optimizer(ours, TrainingOptions(optimizer=name, weight_decay=0.1))  # type: ignore[arg-type]  # a key
    matrices = [w for n, w in theirs.named_parameters() if w.dim() > 1 and not n.startswith("embedding")]
    others = [w for w in theirs.parameters() if all(w is not m for m in matrices)]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    reference: torch.optim.Optimizer
    if name == "adamw":
        reference = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    else:
        reference = torch.optim.RMSprop(theirs.parameters(), alpha=0.95)
    for rate in (0.1, 0.2, 0.05, 0.1, 0.01):
        for own, their in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.grad = torch.randn_like(own)
            their.grad = own.grad.clone()
        for group in reference.param_groups:
            group["lr"] = rate
        optimizer.step(rate)
        reference.step()
    for own, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, their)


def test_ignored_steps_cost_nothing() -> None:
    logits, targets = torch.randn(4, 3, 5), torch.randint(5, (4, 3))
    half = targets.clone()
    half[2:] = -1
    torch.testing.assert_close(cross_entropy(logits, half), cross_entropy(logits[:2], targets[:2]))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["abcdefghij", "ab" * 5, "\u65e5\u672c" * 20, "a\n" * 30])
def test_tiny_texts_train(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tiny.txt"
    path.write_text(text, "utf-8")
    outcome = start(path, "r", steps=12, batch=32, bptt=64).train()
    assert outcome.steps == 12
    assert load_text_model(Path(outcome.model)).tokenizer.vocab_size == len(set(text))


@pytest.mark.slow
@pytest.mark.parametrize("documents", ["line", "file"])
def test_tiny_documents_train(tmp_path: Path, documents: str) -> None:
    path = tmp_path / "tiny.txt"
    path.write_text("anna\nbob\n", "utf-8")
    assert start(path, "r", steps=12, documents=documents).train().steps == 12
