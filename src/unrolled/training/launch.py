"""Start and resume training runs: from a request to task, model, run folder and trainer, and from a run folder back to them."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unrolled.checkpoints.model_file import load_model
from unrolled.checkpoints.run_data import load_request
from unrolled.checkpoints.run_dir import Run, find_started_run, require_free, unused_run_dir
from unrolled.checkpoints.tensorboard import TensorBoardWriter, require_tensorboard
from unrolled.display import Displayed, loss_text, plural, shell_argument
from unrolled.errors import ModelError, UsageError
from unrolled.nn.device import DeviceConfig, fewer_threads_if_faster, prediction_device, select_device, use_threads
from unrolled.nn.kernels.extension import usable_processors
from unrolled.nn.kernels.select import KERNELS, available_kernels, choose_kernel, set_kernel
from unrolled.nn.sequence_model import Network
from unrolled.option_rules import complete_text_request
from unrolled.options import MachineOptions, TrainRequest
from unrolled.output_paths import check_outputs, is_run
from unrolled.text.batching import BatchSource, StreamBatches
from unrolled.training.callbacks import ProgressCallback
from unrolled.training.distributed import ProcessGroup, ShardedBatches, join
from unrolled.training.open_data import is_table, open_with_base, with_recognized_tokens
from unrolled.training.recipe import fill_defaults
from unrolled.training.resume import apply_resume_changes, check_environment, environment, run_config
from unrolled.training.tasks.base import FinalEvaluation, TrainingSetup, TrainingTask
from unrolled.training.tasks.series import reopen_table_task
from unrolled.training.tasks.text import TextTask
from unrolled.training.thread_control import ThreadControl
from unrolled.training.trainer import Trainer

logger = logging.getLogger(__name__)

LONG_STEP_SECONDS = 0.2
"""Steps that take longer than this are faster with all threads: measuring one thread would only take time."""


@dataclass(frozen=True, repr=False)
class TrainResult(Displayed):
    """The result of a training: the keys of `train --json`. Losses are in nats or bits per `loss_unit`.

    `val_nats` is the loss of the saved model, the best one; `train_nats` is the mean over the last steps, with dropout.
    `test_nats` is its loss on the test split, which is not used for model selection, with its standard error; None without one.
    `stop_signal` is the number of the signal that stopped it, 0 after `--stop-after`, else None. `diagnosis` says in words
    whether the model underfits or overfits, and is empty if training was stopped. `loss_unit` is `character`, `target` or,
    where the targets are numbers, `number`: losses are then those of scaled numbers, and there are no bits.
    """

    run: str
    model: str
    steps: int
    epochs: float
    train_seconds: float
    tokens_per_second: float
    train_nats: float | None
    val_nats: float | None
    val_bits: float | None
    test_nats: float | None
    test_standard_error: float | None
    parameters: int
    device: str
    precision: str
    kernels: str
    seed: int
    stop_signal: int | None
    diagnosis: str
    test_summary: str
    loss_unit: str

    @property
    def val_loss_text(self) -> str:
        """The validation loss with its unit; empty if there is none."""
        return "" if self.val_nats is None else loss_text(self.val_nats, self.loss_unit)

    @property
    def facts(self) -> Mapping[str, object]:
        return {
            "run": self.run,
            "steps": f"{self.steps:,}",
            "epochs": f"{self.epochs:.2f}",
            "validation loss": "unknown" if self.val_nats is None else self.val_loss_text,
            "diagnosis": self.diagnosis,
        }


MIN_REPORTED_SCALE_CHANGE = 0.03
"""Logit scales that differ from 1 by more than this are reported."""


class TrainingRun:
    """A trainer, and the evaluation after it. `start_run` and `resume_run` return one; `train` runs it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.process_group = trainer, trainer.process_group
        self.request, self.task, self.machine = trainer.request, trainer.task, trainer.machine

    def train(self) -> TrainResult:
        """Train until the budget is used or a signal comes; everything is saved either way."""
        if self.process_group.is_main:
            self.trainer.run.lock()
        try:
            with use_threads(self.machine), self.process_group.lost_process_errors():
                stop_signal = self.trainer.train()
                final = FinalEvaluation(self.trainer.state.best_nats, "")
                if stop_signal is None and self.process_group.is_main:
                    final = self._final_eval()
                self.process_group.all_reduce_sum([0.0])  # no process exits while another still needs it
        finally:
            self.trainer.run.unlock()
        state, run = self.trainer.state, self.trainer.run
        return TrainResult(
            run=str(run.path),
            model=str(run.model_path),
            steps=state.used.steps,
            epochs=round(state.used.tokens / self.trainer.batches.tokens_per_epoch, 4),
            train_seconds=state.used.seconds,
            tokens_per_second=state.used.tokens / max(state.used.seconds, 1e-9),
            train_nats=self.trainer.current_progress().train_nats,
            val_nats=final.val_nats,
            val_bits=None if final.val_nats is None or self.task.loss_unit == "number" else final.val_nats / math.log(2),
            test_nats=final.test_nats,
            test_standard_error=final.test_standard_error,
            parameters=sum(weight.numel() for weight in self.trainer.model.parameters()),
            device=str(self.machine.device),
            precision=self.machine.precision,
            kernels=self.trainer.setup.kernels,
            seed=self.request.training.seed,
            stop_signal=stop_signal,
            diagnosis=final.diagnosis,
            test_summary=final.test_summary,
            loss_unit=self.task.loss_unit,
        )

    def _final_eval(self) -> FinalEvaluation:
        """Evaluate the saved model on more data, and save the results with it."""
        run, state = self.trainer.run, self.trainer.state
        model_file = load_model(run.model_path)
        machine = prediction_device(self.machine, self.task.loss_unit)
        model = model_file.model.to(machine.device)
        set_kernel(model, self.trainer.setup.kernels, machine.dtype)
        epochs = state.used.tokens / self.trainer.batches.tokens_per_epoch
        best_fraction = state.best_step / max(1, state.used.steps)
        final = self.task.final_eval(model, machine, self.request.run.eval_tokens, best_fraction, epochs)
        logit_scale = float(model_file.history.get("logit_scale", 1.0))
        if abs(logit_scale - 1) > MIN_REPORTED_SCALE_CHANGE:
            note = f" Its logits are scaled by {logit_scale:.2f}, to lower the validation loss (temperature scaling)."
            final = dataclasses.replace(final, diagnosis=final.diagnosis + note)
        model_file.history.update(val_nats=final.val_nats, diagnosis=final.diagnosis)
        if final.test_nats is not None:
            model_file.history.update(test_nats=final.test_nats, test_standard_error=final.test_standard_error)
        run.save_best(self.task.complete(model_file))
        return final


def _refuse_runs(inputs: tuple[str, ...]) -> None:
    """Raise `UsageError` for a run folder as what is learned from: its logs and pages would be."""
    for name in inputs:
        if is_run(Path(name)):
            shown = shell_argument(name)
            raise UsageError(
                f"{name} is a run, and a text or table is expected: --resume {shown} goes on with it, and --from {shown} "
                "starts from its weights."
            )


def start_run(request: TrainRequest, callback: ProgressCallback) -> TrainingRun:
    """Start a new run. The run folder is written only after data, settings and machine have been checked."""
    request, process_group = request.check(), join()
    callback = callback if process_group.is_main else ProgressCallback()
    if process_group.restarts and (started_run := find_started_run(request)) is not None:
        return resume_run(started_run, {}, callback)
    path = None if request.run.out is None else Path(request.run.out)
    _refuse_runs(request.inputs)
    if process_group.is_main:
        out = str(unused_run_dir(request.inputs)) if request.run.out is None else request.run.out
        check_outputs(dataclasses.replace(request.run, out=out), (*request.inputs, request.table.validation))
        require_free(Path(out))
    if request.run.log_to == "tensorboard":
        require_tensorboard()
    machine = select_device(request.machine, process_group.local_rank, process_group.local_world_size)
    request = request if is_table(request) else complete_text_request(with_recognized_tokens(request))
    request, task = open_with_base(request, machine, process_group)
    request, machine = _apply_recipe_on_all_ranks(request, task, machine, process_group)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.training.seed)
        model = task.build_model(request)
    model = model.to(machine.device)
    machine, kernels = choose_kernel(model, machine, request.machine, request.training)
    run = _create_run(path, request, run_config(request, task, environment(machine, kernels, task)), process_group)
    try:
        return _build_run(TrainingSetup(request, task, model, machine, kernels), run, callback, process_group)
    except BaseException:
        run.unlock()
        raise


def _create_run(path: Path | None, request: TrainRequest, config: dict[str, Any], process_group: ProcessGroup) -> Run:
    """Create the run's folder in the main process, which keeps it locked: two trainings may begin the same one at once."""
    created: list[Run] = []

    def create() -> str:
        created.append(Run.create(path or unused_run_dir(request.inputs), config))
        return str(created[0].path)

    name = process_group.broadcast_str(create)
    return created[0] if created else Run(Path(name))


def resume_run(path: Path, changes: dict[str, Any], callback: ProgressCallback, allow_change: bool = False) -> TrainingRun:
    """Resume a run exactly where it stopped. `changes` may change the budget, the machine and the evaluation interval.

    With `allow_change`, the settings of `ALLOWED_CHANGES` and the environment may change too: the run then continues
    differently from one that was not stopped.
    """
    process_group = join()
    callback = callback if process_group.is_main else ProgressCallback()
    run = process_group.main_process_first(lambda: Run.open(path))
    if process_group.is_main:
        run.lock()
    try:
        return _resume(run, changes, callback, process_group, allow_change)
    except BaseException:
        run.unlock()
        raise


def _resume(
    run: Run, changes: dict[str, Any], callback: ProgressCallback, process_group: ProcessGroup, allow_change: bool
) -> TrainingRun:
    request, origin = load_request(run)
    request = apply_resume_changes(request, changes, allow_change).check()
    machine = select_device(request.machine, process_group.local_rank, process_group.local_world_size)
    model_file, tensors, metadata, skipped = run.load_checkpoint()
    for message in skipped:
        logger.warning(message)
    reopen = reopen_table_task if is_table(request) else TextTask.reopen
    task: TrainingTask = reopen(request, origin, model_file)
    if not task.matches(model_file):
        raise ModelError(f"{run.path} was encoded by another version, with another vocabulary: resume it with that one.")
    model = model_file.model.to(machine.device)
    machine_options = _keep_kernel(model, request.machine, run)
    machine, kernels = choose_kernel(model, machine, machine_options, request.training)
    current_environment = environment(machine, kernels, task)
    check_environment(run.config.get("environment"), current_environment, set(changes), allow_change)
    setup = TrainingSetup(request, task, model, machine, kernels)
    training_run = _build_run(setup, run, callback, process_group)
    training_run.trainer.restore(tensors, metadata)
    if process_group.is_main:
        run.write_config(run_config(request, task, current_environment))
    used = training_run.trainer.state.used
    logger.info(f"going on with {run.path} from step {used.steps:,}, after {used.seconds:,.0f} s of training")
    if training_run.trainer.budget_fraction >= 1:
        logger.warning(
            "nothing is left to train: the budget of this run is used; resume it with a larger --minutes, --epochs or --steps"
        )
    return training_run


def _keep_kernel(model: Network, options: MachineOptions, run: Run) -> MachineOptions:
    """Return the options with the kernel that the run used before, if none was asked for and that one is available."""
    saved_environment = run.config.get("environment")
    name = saved_environment.get("kernels") if isinstance(saved_environment, dict) else None
    if options.kernels != "auto" or name not in KERNELS or name not in available_kernels(model):
        return options
    return dataclasses.replace(options, kernels=name)


def _build_run(setup: TrainingSetup, run: Run, callback: ProgressCallback, process_group: ProcessGroup) -> TrainingRun:
    """Build the trainer, and log what it trains."""
    request, task, machine, kernels = setup.request, setup.task, setup.machine, setup.kernels
    batches, chosen = _shardable_batches(task, request, process_group), (request.training.batch, request.training.bptt)
    if isinstance(batches, StreamBatches) and (batches.batch_size, batches.seq_len) != chosen:
        logger.info(f"the text is short: batch {batches.batch_size} of {plural(batches.seq_len, 'step')}")
    control = _thread_control(request, task, machine, kernels)
    threads = plural(machine.threads, "thread") if control is None else f"up to {plural(control.max_threads, 'thread')}"
    logger.info(
        f"{sum(weight.numel() for weight in setup.model.parameters()):,} parameters on {machine.device}, {machine.precision}, "
        f"{threads}, {kernels} kernels, {request.training.optimizer}, seed {request.training.seed}"
    )
    if request.run.log_to == "tensorboard" and process_group.is_main:
        TensorBoardWriter(run)
    sharded = batches if process_group.world_size == 1 else ShardedBatches(batches, process_group)
    return TrainingRun(Trainer(setup, sharded, run, callback, process_group, control))


def _thread_control(request: TrainRequest, task: TrainingTask, machine: DeviceConfig, kernels: str) -> ThreadControl | None:
    """Return what chooses the threads of each step, or None where they are fixed: asked for, or part of the results."""
    asked_for = machine.device.type != "cpu" or machine.world_size > 1 or "threads" in request.explicit
    if asked_for or task.depends_on_threads(machine, kernels):
        return None
    return ThreadControl(max(machine.threads, usable_processors()), machine.threads)


def _shardable_batches(task: TrainingTask, request: TrainRequest, process_group: ProcessGroup) -> BatchSource:
    """Return batches whose columns divide evenly among the processes: a short text may have fewer columns than were chosen."""
    batches, processes = task.batches(request.training), process_group.world_size
    if isinstance(batches, StreamBatches) and (remainder := batches.batch_size % processes):
        if "batch" in request.explicit or remainder == batches.batch_size:
            raise UsageError(
                f"A batch of {batches.batch_size} cannot be shared equally among {processes} processes: choose another --batch."
            )
        batches = task.batches(dataclasses.replace(request.training, batch=batches.batch_size - remainder))
    return batches


def _apply_recipe_on_all_ranks(
    request: TrainRequest, task: TrainingTask, machine: DeviceConfig, process_group: ProcessGroup
) -> tuple[TrainRequest, DeviceConfig]:
    """Let the recipe of the main process choose the settings of all processes."""
    if (processes := process_group.world_size) == 1:
        return _apply_recipe(request, task, machine)
    machine = dataclasses.replace(machine, world_size=processes)

    def choose_on_main() -> str:
        completed, _ = _apply_recipe(request, task, machine)
        divisible = (
            completed
            if "batch" in completed.explicit
            else fill_defaults(completed, batch=-(-completed.training.batch // processes) * processes)
        )
        return json.dumps({**divisible.to_dict(), "explicit_options": sorted(completed.explicit)})

    values = json.loads(process_group.broadcast_str(choose_on_main))
    explicit = frozenset(values.pop("explicit_options"))
    return dataclasses.replace(TrainRequest.build(request.inputs, values, "the main process"), explicit=explicit), machine


def _apply_recipe(request: TrainRequest, task: TrainingTask, machine: DeviceConfig) -> tuple[TrainRequest, DeviceConfig]:
    """Fill in the settings that were not given; return the request, and the machine with the fastest number of threads."""
    has_time_budget = request.training.minutes is not None
    request = task.apply_recipe(request, machine)
    if (
        has_time_budget
        and machine.world_size == 1
        and request.machine.threads == 0
        and machine.threads > 1
        and task.step_seconds(request, machine) < LONG_STEP_SECONDS
    ):
        machine = fewer_threads_if_faster(machine, lambda: task.throughput(request, machine))
        machine_options = dataclasses.replace(request.machine, threads=machine.threads)  # for a resume
        request = dataclasses.replace(request, machine=machine_options)
    return request, machine
