"""A training job: from a request to corpus, model, run folder and trainer, and from a run folder back to where it stopped."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unrolled.checkpoints.model_file import load_model
from unrolled.checkpoints.run_dir import Run, refuse_taken
from unrolled.checkpoints.tensorboard import Board, require_board
from unrolled.datasets.stdlib import PREFIX
from unrolled.errors import ModelError, UsageError
from unrolled.nn.device import Machine, choose_machine, fewer_threads_if_faster, running
from unrolled.nn.kernels import KERNELS, candidates, use, verify
from unrolled.nn.sequence_model import Network
from unrolled.options import MachineOptions, TrainingOptions, TrainRequest
from unrolled.tables.table_files import is_builtin_table
from unrolled.text.batching import Batches, Lanes
from unrolled.text.corpus import is_shared
from unrolled.training.callbacks import Looks, Observer
from unrolled.training.distributed import ProcessGroup, ShardedBatches, join
from unrolled.training.recipe import fill
from unrolled.training.resume import changed, conditions, config, refuse_other_conditions, saved_request
from unrolled.training.tasks.base import Material
from unrolled.training.tasks.table import open_rows, reopen_rows
from unrolled.training.tasks.text import open_text, reopen_text
from unrolled.training.trainer import Trainer
from unrolled.views.progress import Quiet

LONG_STEP = 0.2
"""Seconds of a step from which on all threads are faster than one, and measuring would only take time."""


@dataclass(frozen=True)
class Outcome:
    """What training came to: the keys of `train --json`. Losses are in nats or bits a character; `stopped` is a signal,
    0 after `--stop-after`, or None.

    `val_nats` is that of the model kept, the best; `train_nats` is the mean of the last steps, with dropout on. `verdict` says
    in words what came of it, if it went to the end; `unit` is what a loss is of: a character, or a target of a table.
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
    unit: str


WORTH_TELLING = 0.03
"""How far from one a sharpness is mentioned."""


class Job:
    """A trainer with what it was made of. `start` and `resume` make one; `train` runs it."""

    def __init__(self, request: TrainRequest, material: Material, machine: Machine, kernels: str, trainer: Trainer) -> None:
        self.request, self.material, self.machine, self.kernels, self.trainer = request, material, machine, kernels, trainer
        self.process_group = trainer.process_group

    def train(self) -> Outcome:
        """Train to the end of the budget or to a signal; everything is saved either way."""
        if self.process_group.is_main:
            self.trainer.run.lock()
        try:
            with running(self.machine), self.process_group.lost_process_errors():
                stopped = self.trainer.train()
                best, words = self.trainer.position.best, ""
                if stopped is None and self.process_group.is_main:
                    best, words = self._judge()
                self.process_group.all_reduce_sum([0.0])  # no process exits while another still needs it
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
            unit=self.material.unit,
        )

    def _judge(self) -> tuple[float | None, str]:
        """Measure the model that was kept; return its loss, and what came of it in words."""
        run, position = self.trainer.run, self.trainer.position
        saved = load_model(run.model_path)
        model = saved.model.to(self.machine.device)
        use(model, self.kernels, self.machine.dtype)
        epochs = position.spent.symbols / self.trainer.batches.symbols
        best_at = position.best_step / max(1, position.spent.steps)
        val, words = self.material.judge(model, self.machine, self.request.run.eval_symbols, best_at, epochs)
        sharpness = float(saved.history.get("sharpness", 1.0))
        if abs(sharpness - 1) > WORTH_TELLING:
            than = "less" if sharpness < 1 else "more"
            words += f" Its scores are kept times {sharpness:.2f}: {than} sure of itself, it was best on text it never saw."
        saved.history.update(val_nats=val, verdict=words)
        run.save_best(saved)
        return val, words


def start(request: TrainRequest, observer: Observer) -> Job:
    """Begin a new run. Nothing is written to the run folder before text, settings and machine are known to be good."""
    request, process_group = request.check(), join()
    observer = observer if process_group.is_main else Quiet()
    if process_group.restarts and (before := _started(request)) is not None:
        return resume(before, {}, observer)
    path = Path(request.run.out) if request.run.out else None
    if path is not None and process_group.is_main:
        refuse_taken(path)
    if request.run.log_to == "tensorboard":
        require_board()
    machine = choose_machine(request.machine, process_group.local_rank, process_group.local_world_size)
    material = _opened(request, observer.note, process_group)
    request, machine = _completed_together(request, material, machine, observer, process_group)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.training.seed)
        model = material.network(request)
    model = model.to(machine.device)
    machine, kernels = choose_kernel(model, machine, request.machine, observer.note, request.training)
    name = process_group.broadcast_str(
        lambda: str(
            Run.create(path or _free_name(request.inputs), config(request, material.origin, conditions(machine, kernels))).path
        )
    )
    return _assemble(request, material, machine, kernels, model, Run(Path(name)), observer, process_group)


def _opened(request: TrainRequest, note: Callable[[str], None], process_group: ProcessGroup) -> Material:
    """Open what a request names: in the main process before the others, or in all at once where they share the work.

    The other processes wait half an hour at most, which is torch's limit; a large text may take longer.
    """
    if is_table(request):
        return process_group.main_process_first(lambda: open_rows(request, note))  # type: ignore[no-any-return]
    if process_group.world_size > 1:
        encode_together = process_group.broadcast_str(lambda: str(is_shared(request.inputs, request.data)))
        if encode_together == str(True):
            return open_text(request, note)
    return process_group.main_process_first(lambda: open_text(request, note))  # type: ignore[no-any-return]


def resume(path: Path, wanted: dict[str, Any], observer: Observer, allow: bool = False) -> Job:
    """Go on with a run exactly where it stopped. `wanted` may change the budget, the machine and how often it is looked at.

    With `allow`, rates and their like may change too, and so may what the run runs on; it is then another run from here on.
    """
    process_group = join()
    observer = observer if process_group.is_main else Quiet()
    run = process_group.main_process_first(lambda: Run.open(path))
    if process_group.is_main:
        run.lock()
    try:
        return _resume(run, wanted, observer, process_group, allow)
    except BaseException:
        run.release()
        raise


def _resume(run: Run, wanted: dict[str, Any], observer: Observer, process_group: ProcessGroup, allow: bool) -> Job:
    request, origin = saved_request(run)
    request = changed(request, wanted, observer.note, allow).check()
    machine = choose_machine(request.machine, process_group.local_rank, process_group.local_world_size)
    saved, tensors, about, passed = run.load_checkpoint()
    for message in passed:
        observer.note(message)
    material: Material
    if is_table(request):
        material = reopen_rows(request, origin, saved, observer.note)
    else:
        material = reopen_text(request, origin, observer.note)
    if not material.fits(saved):
        raise ModelError(f"{run.path} was encoded by another version, with other symbols: resume it with that one.")
    model = saved.model.to(machine.device)
    asked = _as_before(model, request.machine, run)
    machine, kernels = choose_kernel(model, machine, asked, observer.note, request.training)
    now = conditions(machine, kernels)
    refuse_other_conditions(run.config.get("conditions"), now, set(wanted), allow, observer.note)
    job = _assemble(request, material, machine, kernels, model, run, observer, process_group)
    job.trainer.restore(tensors, about)
    if process_group.is_main:
        run.write_config(config(request, material.origin, now))
    spent = job.trainer.position.spent
    observer.note(f"going on with {run.path} from step {spent.steps:,}, after {spent.seconds:,.0f} s of training")
    if job.trainer.progress >= 1:
        observer.note("its budget is spent: give more with --minutes, --epochs or --steps")
    return job


def _as_before(model: Network, asked: MachineOptions, run: Run) -> MachineOptions:
    """Return the options with the kernel that the run had, where any would do and that one still can."""
    before = run.config.get("conditions")
    name = before.get("kernels") if isinstance(before, dict) else None
    if asked.kernels != "auto" or name not in KERNELS or name not in candidates(model):
        return asked
    return dataclasses.replace(asked, kernels=name)


def is_table(request: TrainRequest) -> bool:
    """Return whether a request is to learn from a table's columns, and not from a text."""
    return request.table.source is not None or any(is_builtin_table(name) for name in request.inputs)


def _assemble(
    request: TrainRequest,
    material: Material,
    machine: Machine,
    kernels: str,
    model: Network,
    run: Run,
    observer: Observer,
    process_group: ProcessGroup,
) -> Job:
    """Put model, batches and the ways of looking at the model together into a trainer."""
    batches = _shareable(material, request, process_group)
    if isinstance(batches, Lanes) and (batches.batch, batches.steps) != (request.training.batch, request.training.bptt):
        observer.note(f"the text is short: {batches.batch} lanes of {batches.steps} steps")
    observer.note(
        f"{sum(weight.numel() for weight in model.parameters()):,} parameters on {machine.device}, {machine.precision}, "
        f"{machine.threads} threads, {kernels} kernels, {request.training.optimiser}, seed {request.training.seed}"
    )
    if request.run.log_to == "tensorboard" and process_group.is_main:
        Board(run)
    looks = Looks(
        material.evaluator(model, machine, request),
        material.sampler(model, machine, request.run.sample_length),
    )
    trainer = Trainer(
        model,
        batches if process_group.world_size == 1 else ShardedBatches(batches, process_group),
        machine,
        request.training,
        request.run,
        run,
        observer,
        looks,
        lambda history, sharpness: material.saved(model, history, sharpness),
        material.symbols_per_character,
        process_group,
    )
    return Job(request, material, machine, kernels, trainer)


def _shareable(material: Material, request: TrainRequest, process_group: ProcessGroup) -> Batches:
    """Return the batches of a training, whose lanes can be dealt out: a short text may have fewer than were chosen for it."""
    batches, processes = material.batches(request.training), process_group.world_size
    if isinstance(batches, Lanes) and (left := batches.batch % processes):
        if "batch" in request.given or left == batches.batch:
            raise UsageError(f"{batches.batch} lanes cannot be shared among {processes} processes: choose another --batch.")
        batches = material.batches(dataclasses.replace(request.training, batch=batches.batch - left))
    return batches


def _started(request: TrainRequest) -> Path | None:
    """Return the run that this very job had begun before its processes were started anew; None if it saved nothing yet."""
    if request.run.out:
        found = [Path(request.run.out)]
    else:
        found = sorted(Path("runs").glob(f"{_stem(request.inputs)}*"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path for path in found if Run(path).checkpoints()), None)


def _completed_together(
    request: TrainRequest, material: Material, machine: Machine, observer: Observer, process_group: ProcessGroup
) -> tuple[TrainRequest, Machine]:
    """Let the main process's recipe choose the settings of all processes."""
    if (processes := process_group.world_size) == 1:
        return _complete(request, material, machine, observer)
    machine = dataclasses.replace(machine, ranks=processes)

    def chosen() -> str:
        own, _ = _complete(request, material, machine, observer)
        shared = own if "batch" in own.given else fill(own, batch=-(-own.training.batch // processes) * processes)
        return json.dumps({**shared.flat(), "given": sorted(own.given)})

    values = json.loads(process_group.broadcast_str(chosen))
    given = frozenset(values.pop("given"))
    return dataclasses.replace(TrainRequest.build(request.inputs, values, "the main process"), given=given), machine


def _complete(request: TrainRequest, material: Material, machine: Machine, observer: Observer) -> tuple[TrainRequest, Machine]:
    """Let the recipe fill in what was not given; return the request and the machine with as many threads as are fastest."""
    timed = request.training.minutes is not None
    request = material.complete(request, machine, observer.note)
    if (
        timed
        and machine.ranks == 1
        and request.machine.threads == 0
        and machine.threads > 1
        and material.step_seconds(request, machine) < LONG_STEP
    ):
        machine = fewer_threads_if_faster(machine, lambda: material.pace(request, machine))
        kept = dataclasses.replace(request.machine, threads=machine.threads)  # for a resume
        request = dataclasses.replace(request, machine=kept)
    return request, machine


def choose_kernel(
    model: Network,
    machine: Machine,
    asked: MachineOptions,
    note: Callable[[str], None],
    training: TrainingOptions | None = None,
) -> tuple[Machine, str]:
    """Return the machine and the kernel to use; for `training`, one whose gradients were found right at the sizes in use.

    Where bfloat16 is only an offer and slow or wrong, float32. Raises `UsageError` if what was asked for is wrong here.
    """
    dtypes = [machine.dtype]
    if asked.precision == "auto" and machine.dtype != torch.float32:
        dtypes.append(torch.float32)
    auto, why = asked.kernels == "auto", ""
    attempts = [(d, name) for d in dtypes for name in (candidates(model, d) if auto else [use(model, asked.kernels)])]
    for dtype, name in attempts:
        if name == "reference":
            continue
        fault = None if training is None else verify.fault(model, name, dtype, training.batch, training.bptt)
        if fault is None:
            if why:
                note(f"{'float32' if dtype != machine.dtype else name + ' kernels'}, because {why}")
            return dataclasses.replace(machine, dtype=dtype), use(model, name)
        why = fault
    if asked.kernels not in ("auto", "reference"):
        raise UsageError(f"--kernels {asked.kernels} cannot train this model: {why}.")
    if why:
        note(f"reference kernel, which is slow, because {why}")
    elif dtypes[-1] != machine.dtype:
        note("float32, because the reference kernel is slow in bfloat16")
    return dataclasses.replace(machine, dtype=dtypes[-1]), use(model, "reference")


def _free_name(inputs: tuple[str, ...]) -> Path:
    """Return `runs/NAME`, after the first input, with a number behind it if that is taken."""
    stem = _stem(inputs)
    path = Path("runs") / stem
    number = 2
    while path.exists():
        path = Path("runs") / f"{stem}-{number}"
        number += 1
    return path


def _stem(inputs: tuple[str, ...]) -> str:
    """Return what a run is called after its first input."""
    name = inputs[0]
    plain = name.removeprefix(PREFIX) if name.startswith(PREFIX) else Path(name).absolute().name.split(".")[0]
    return {"-": "stdin"}.get(name, plain) or "text"
