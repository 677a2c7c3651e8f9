"""A training job: from a request to corpus, model, run folder and trainer, and from a run folder back to where it stopped."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unrolled import __version__
from unrolled.data.batches import Lanes
from unrolled.data.builtin import PREFIX
from unrolled.data.corpus import Corpus, cached_corpus, open_corpus
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.material import Material
from unrolled.nn.kernels import guard, use
from unrolled.nn.machine import Machine, choose_machine, fewer_threads_if_faster, running
from unrolled.nn.model import SequenceModel, embedding_width, parameter_count
from unrolled.options import BUDGETS, MachineOptions, ModelOptions, TrainingOptions, TrainRequest, flag
from unrolled.store.model_file import load_model
from unrolled.store.run import Run, refuse_taken
from unrolled.training.loop import Looks, Observer, Trainer
from unrolled.training.pace import measure
from unrolled.training.recipe import Text, choose
from unrolled.training.verdict import verdict

LONG_STEP = 0.2
"""Seconds of a step from which on all threads are faster than one, and measuring would only take time."""

JUDGED = 262144
"""Symbols of each part that the model kept is measured on in the end; of a longer part, pieces spread evenly over it."""


@dataclass(frozen=True)
class Outcome:
    """What training came to: the keys of `train --json`. Losses are in nats or bits a character; `stopped` is a signal,
    0 after `--stop-after`, or None.

    `val_nats` is that of the model kept, the best; `train_nats` is the mean of the last steps, with dropout on. `verdict` says
    in words what came of it, if it went to the end.
    """

    run: str
    model: str
    steps: int
    epochs: float
    train_seconds: float
    symbols_per_second: float
    train_nats: float | None
    val_nats: float | None
    val_bits: float | None
    parameters: int
    device: str
    precision: str
    kernels: str
    seed: int
    stopped: int | None
    verdict: str


class Job:
    """A trainer with what it was made of. `start` and `resume` make one; `train` runs it."""

    def __init__(self, request: TrainRequest, material: Material, machine: Machine, kernels: str, trainer: Trainer) -> None:
        self.request, self.material, self.machine, self.kernels, self.trainer = request, material, machine, kernels, trainer

    def train(self) -> Outcome:
        """Train to the end of the budget or to a signal; everything is saved either way."""
        self.trainer.run.lock()
        try:
            with running(self.machine):
                stopped = self.trainer.train()
                best, words = (self.trainer.position.best, "") if stopped is not None else self._judge()
        finally:
            self.trainer.run.release()
        position, run = self.trainer.position, self.trainer.run
        return Outcome(
            run=str(run.path),
            model=str(run.model_path),
            steps=position.spent.steps,
            epochs=round(position.spent.symbols / self.trainer.batches.symbols, 4),
            train_seconds=position.spent.seconds,
            symbols_per_second=position.spent.symbols / max(position.spent.seconds, 1e-9),
            train_nats=self.trainer.status().train_nats,
            val_nats=best,
            val_bits=None if best is None else best / math.log(2),
            parameters=sum(weight.numel() for weight in self.trainer.model.parameters()),
            device=str(self.machine.device),
            precision=self.machine.precision,
            kernels=self.kernels,
            seed=self.request.training.seed,
            stopped=stopped,
            verdict=words,
        )

    def _judge(self) -> tuple[float | None, str]:
        """Measure the model that was kept on more text than the looks did; return its loss, and the verdict in words."""
        material, run, position = self.material, self.trainer.run, self.trainer.position
        saved = load_model(run.model_path)
        model = saved.model.to(self.machine.device)
        use(model, self.kernels)
        ids = material.validation
        train = material.loss(model, self.machine, material.train, self.request.run.eval_symbols)
        val = None if ids is None else material.loss(model, self.machine, ids, max(JUDGED, self.request.run.eval_symbols))
        saved.history["val_nats"] = val
        run.save_best(saved)
        epochs = position.spent.symbols / self.trainer.batches.symbols
        best_at = position.best_step / max(1, position.spent.steps)
        return val, verdict(train, val, best_at, epochs, self.trainer.batches.symbols)


def start(request: TrainRequest, observer: Observer) -> Job:
    """Begin a new run. Nothing is written to the run folder before text, settings and machine are known to be good."""
    request = request.check()
    embedding_width(1, request.model)
    path = Path(request.run.out) if request.run.out else None
    if path is not None:
        refuse_taken(path)
    machine = choose_machine(request.machine)
    corpus = open_corpus(request.inputs, request.data, report=observer.note)
    material = Material(corpus, request.data, observer.note)
    request, machine = _complete(request, material, machine, observer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.training.seed)
        model = SequenceModel(corpus.vocabulary.size, request.model)
    model = model.to(machine.device)
    machine, kernels = choose_kernel(model, machine, request.machine, observer.note, request.training)
    run = Run.create(path or _free_name(request.inputs), _config(request, corpus))
    return _assemble(request, material, machine, kernels, model, run, observer)


def resume(path: Path, wanted: dict[str, Any], observer: Observer) -> Job:
    """Go on with a run exactly where it stopped. `wanted` may change the budget, the machine and how often it is looked at."""
    run = Run.open(path)
    run.lock()
    try:
        return _resume(run, wanted, observer)
    except BaseException:
        run.release()
        raise


def _resume(run: Run, wanted: dict[str, Any], observer: Observer) -> Job:
    request, key, text = saved_request(run)
    request = _changed(request, wanted, observer).check()
    machine = choose_machine(request.machine)
    corpus = same_corpus(request, key, text, observer.note)
    saved, tensors, about, passed = run.load_checkpoint()
    for message in passed:
        observer.note(message)
    if saved.vocabulary.to_json() != corpus.vocabulary.to_json():
        raise ModelError(f"{run.path} was encoded by another version, with other symbols: resume it with that one.")
    model = saved.model.to(machine.device)
    machine, kernels = choose_kernel(model, machine, request.machine, observer.note, request.training)
    job = _assemble(request, Material(corpus, request.data, lambda note: None), machine, kernels, model, run, observer)
    job.trainer.restore(tensors, about)
    run.write_config(_config(request, corpus))
    spent = job.trainer.position.spent
    observer.note(f"going on with {run.path} from step {spent.steps:,}, after {spent.seconds:,.0f} s of training")
    if job.trainer.progress >= 1:
        observer.note("its budget is spent: give more with --minutes, --epochs or --steps")
    return job


def saved_request(run: Run) -> tuple[TrainRequest, str, str]:
    """Return what a run was asked to do, the key of its encoded text in the cache, and the digest of the text itself."""
    config = run.config
    try:
        request = TrainRequest.build(tuple(config["inputs"]), config["options"], str(run.path / "config.json"))
        return request, str(config["corpus"]), str(config["text"])
    except (KeyError, TypeError, UsageError) as error:
        raise ModelError(f"{run.path / 'config.json'} is not that of a run this version can use: {error}.") from error


def _assemble(
    request: TrainRequest,
    material: Material,
    machine: Machine,
    kernels: str,
    model: SequenceModel,
    run: Run,
    observer: Observer,
) -> Job:
    """Put model, batches and the ways of looking at the model together into a trainer."""
    batches = material.batches(request.training)
    if isinstance(batches, Lanes) and (batches.batch, batches.steps) != (request.training.batch, request.training.bptt):
        observer.note(f"the text is short: {batches.batch} lanes of {batches.steps} steps")
    observer.note(
        f"{parameter_count(model.symbols, request.model):,} parameters on {machine.device}, {machine.precision}, "
        f"{machine.threads} threads, {kernels} kernels, {request.training.optimiser}, seed {request.training.seed}"
    )
    looks = Looks(
        material.evaluator(model, machine, request.run.eval_symbols), material.sampler(model, request.run.sample_length)
    )
    trainer = Trainer(
        model,
        material.corpus.vocabulary,
        batches,
        machine,
        request.training,
        request.run,
        run,
        observer,
        looks,
        material.corpus.unit,
        material.symbols_per_character(),
    )
    return Job(request, material, machine, kernels, trainer)


def _complete(request: TrainRequest, material: Material, machine: Machine, observer: Observer) -> tuple[TrainRequest, Machine]:
    """Let the recipe fill in what was not given; return the request and the machine with as many threads as are fastest."""
    vocabulary = material.corpus.vocabulary

    @functools.cache
    def measured(model: ModelOptions, training: TrainingOptions, threads: int) -> float:
        return measure(vocabulary.size, model, training, machine, kernels=request.machine.kernels)

    def pace(wanted: TrainRequest) -> float:
        return measured(wanted.model, wanted.training, torch.get_num_threads())

    text = Text(symbols=len(material.train) - 1, kinds=vocabulary.size)
    request, sentence = choose(request, text, pace)
    if sentence:
        observer.note(sentence)
    step = request.training.batch * request.training.bptt
    small = request.training.minutes is not None and step / pace(request) < LONG_STEP
    if small and request.machine.threads == 0 and machine.threads > 1:
        machine = fewer_threads_if_faster(machine, lambda: pace(request))
        kept = dataclasses.replace(request.machine, threads=machine.threads)  # for a resume
        request = dataclasses.replace(request, machine=kept)
    return request, machine


def choose_kernel(
    model: SequenceModel,
    machine: Machine,
    asked: MachineOptions,
    note: Callable[[str], None],
    training: TrainingOptions | None = None,
) -> tuple[Machine, str]:
    """Return the machine and the kernel to use; for `training`, one whose gradients were found right at the sizes in use.

    Where bfloat16 is only an offer and slow or wrong, float32. Raises `UsageError` if what was asked for is wrong here.
    """
    kernels = use(model, asked.kernels)
    fault = None
    if training is not None and kernels != "reference":
        fault = guard.fault(model, machine.dtype, training.batch, training.bptt)
    if asked.precision == "auto" and machine.dtype != torch.float32 and (fault or kernels == "reference"):
        note(f"float32, because {fault or 'the reference kernel is slow in bfloat16'}")
        return choose_kernel(model, dataclasses.replace(machine, dtype=torch.float32), asked, note, training)
    if fault and asked.kernels != "auto":
        raise UsageError(f"--kernels {kernels} cannot train this model: {fault}.")
    if fault:
        note(f"reference kernel, which is slow, because {fault}")
        kernels = use(model, "reference")
    return machine, kernels


def _config(request: TrainRequest, corpus: Corpus) -> dict[str, Any]:
    inputs = [name if name == "-" or name.startswith(PREFIX) else str(Path(name).absolute()) for name in request.inputs]
    versions = {"unrolled": __version__, "torch": torch.__version__}
    # What stopped this run is not asked of the next one.
    options = request.flat() | {"stop_after": None}
    return {"format": 1, "inputs": inputs, "text": corpus.text, "corpus": corpus.key, "options": options, "versions": versions}


def _free_name(inputs: tuple[str, ...]) -> Path:
    """Return `runs/NAME`, after the first input, with a number behind it if that is taken."""
    name = inputs[0]
    stem = {"-": "stdin"}.get(
        name, name.removeprefix(PREFIX) if name.startswith(PREFIX) else Path(name).absolute().name.split(".")[0]
    )
    path = Path("runs") / (stem or "text")
    number = 2
    while path.exists():
        path = Path("runs") / f"{stem}-{number}"
        number += 1
    return path


def _changed(request: TrainRequest, wanted: dict[str, Any], observer: Observer) -> TrainRequest:
    """Return the saved request with what a resume may change; refuse what would make it another training."""
    saved = request.flat()
    free = {field.name for part in (request.machine, request.run) for field in dataclasses.fields(part)} - {"out"}
    changes = {name: value for name, value in wanted.items() if value != saved[name]}
    refused = [name for name in changes if name not in free and name not in BUDGETS]
    if refused:
        told = ", ".join(f"{flag(name)} was {saved[name]!r}, now {changes[name]!r}" for name in refused)
        raise UsageError(f"A resumed run keeps its settings: {told}. Leave these out, or start a new run.")
    budget = {name: value for name, value in changes.items() if name in BUDGETS and value is not None}
    if budget:
        changes |= {name: budget.get(name) for name in BUDGETS}
        observer.note("the budget changed: " + ", ".join(f"{flag(name)} {value:g}" for name, value in budget.items()))
    return TrainRequest.build(request.inputs, saved | changes, "resume")


def same_corpus(request: TrainRequest, key: str, text: str, note: Callable[[str], None]) -> Corpus:
    """Return the text the run was trained on: read again, or from the cache if the files are gone."""
    try:
        corpus = None if "-" in request.inputs else open_corpus(request.inputs, request.data, report=note)
    except DataError as error:
        corpus = cached_corpus(key)
        if corpus is None:
            raise
        note(f"{error} The copy that was encoded for this run is used.")
    if corpus is None:
        corpus = cached_corpus(key)
    if corpus is None:
        raise DataError("The text of this run came from standard input, and its encoded copy is no longer in the cache.")
    if corpus.text != text:
        raise DataError(f"The text of this run has changed since: {', '.join(request.inputs)}. Start a new run with it.")
    return corpus
