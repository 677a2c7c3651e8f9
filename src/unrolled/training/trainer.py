"""The training loop: takes steps until the budget is used; evaluates, logs and saves checkpoints on the way.

All that the loop must remember is in its `TrainerState` and in tensors, and all random numbers follow from the seed and the
step number. So training that was stopped and resumed is equal, bit for bit, to training that was not stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from unrolled.checkpoints.model_file import ModelFile
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import DivergedError, Interrupted, ModelError
from unrolled.nn.device import gc_frozen
from unrolled.text.batching import AnyBatch, BatchSource
from unrolled.training.callbacks import LOG_EVERY, Progress, ProgressCallback, TrainerState, is_record_of_stop
from unrolled.training.distributed import SINGLE_PROCESS, ProcessGroup
from unrolled.training.schedule import Budget, eval_fractions, learning_rate, make_budget
from unrolled.training.signals import STOP_SIGNALS, StopSignals
from unrolled.training.tasks.base import TrainingSetup
from unrolled.training.thread_control import ThreadControl
from unrolled.training.train_step import TrainStep

logger = logging.getLogger(__name__)

MAX_ROLLBACKS = 3
"""How often training goes back to its last checkpoint, each time with half the learning rate, before it gives up."""

DIVERGENCE_RATIO, NUMBER_DIVERGENCE_RATIO = 1.2, 10.0
"""A training loss above this multiple of the first one (plus 1 nat) counts as divergence: of tokens and labels, and of numbers,
whose losses have no bound and differ from batch to batch. Both are means of `LOG_EVERY` steps."""


STOPPING = "stopping: this step is finished and saved; a second signal exits at once"


class Trainer:
    """Trains a model on batches and writes the run folder.

    `batches` are the task's, or this process's shard of them. `thread_control` chooses the threads of each step; without it,
    their number is fixed. `train` runs to the end of the budget or to a stop signal.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        batches: BatchSource,
        run: Run,
        callback: ProgressCallback,
        process_group: ProcessGroup = SINGLE_PROCESS,
        thread_control: ThreadControl | None = None,
    ) -> None:
        self.setup, self.batches, self.run, self.callback = setup, batches, run, callback
        self.task, self.request, self.model, self.machine = setup.task, setup.request, setup.model, setup.machine
        self.options, self.run_options = self.request.training, self.request.run
        self.train_step = TrainStep(self.model, self.machine, self.options, batches.batch_size, process_group)
        self.process_group, self.thread_control = process_group, thread_control
        self.budget: Budget = make_budget(self.options, batches.tokens_per_epoch)
        self._eval_fractions = eval_fractions(self.budget)
        self.state = TrainerState()
        self.lr = 0.0
        self._running_sums = torch.zeros(3, dtype=torch.float64, device=self.machine.device)  # loss, tokens, gradient norm
        self._last_save_time = time.monotonic()
        self._last_save_step = -1
        self._stop_signal: int | None = None

    @property
    def budget_fraction(self) -> float:
        """Fraction of the budget that is used."""
        return self.budget.progress(self.state.used)

    @property
    def stops_early(self) -> bool:
        """Early stopping: whether the validation loss did not fall for as many evaluations as `--patience` allows."""
        patience = self.run_options.patience
        return patience is not None and self.state.evals_without_progress >= patience

    def train(self) -> int | None:
        """Train until the budget is used; return None, or the number of the signal that stopped it (0: `stop_after`).

        Everything is saved either way. Raises `DivergedError` if training still diverges after `MAX_ROLLBACKS` rollbacks.
        """
        self.model.train()
        with StopSignals(STOPPING) as stop, gc_frozen():
            try:
                if self._last_save_step < 0:
                    self.state.cursor = self.batches.cursor
                    self.save()
                self._log_baselines()
                self._evaluate_if_due(stop)
                while True:
                    try:
                        return self._train_steps(iter(self.batches), stop)
                    except DivergedError as error:
                        self._roll_back(error)
            except Interrupted:
                self._save_last()
                return self._stop_signal

    def _log_baselines(self) -> None:
        """Record the losses of simple models, for charts, before anything else."""
        if self.state.used.steps or not self.process_group.is_main or any(self.run.metrics.read()):
            return
        if losses := self.task.baseline_losses(self.run_options.eval_tokens):
            self.run.metrics.append({"event": "baselines", "step": 0, "seconds": 0.0, "nats": losses})

    def _train_steps(self, iterator: Iterator[AnyBatch], stop: StopSignals) -> int | None:
        """Train until the budget or the patience is used and return None, or until `stop_after` and return 0."""
        while self.budget_fraction < 1 and not self.stops_early:
            save_due = self._timed_step(iterator, stop)
            self.callback.on_step(self.current_progress)
            if self.state.used.steps % LOG_EVERY == 0:
                self._log()
            self._raise_if_stopped()
            self._evaluate_if_due(stop)
            if self.state.used.steps == self.run_options.stop_after and self.budget_fraction < 1 and not self.stops_early:
                self._save_last()
                return 0
            if save_due:
                self.save()
        self._save_last()
        return None

    def _save_last(self) -> None:
        """Save, and record how far the training came: at a stop, most often between two records."""
        self.save()
        if self.state.used.steps % LOG_EVERY:
            self._append_progress(self.current_progress())

    def _roll_back(self, error: DivergedError) -> None:
        """Go back to the last checkpoint and halve the learning rate; raise the error after too many rollbacks.

        The lost time counts as used, so that a budget in minutes ends on time.
        """
        rollbacks, seconds, diverged_step = self.state.rollbacks + 1, self.state.used.seconds, self.state.used.steps
        if rollbacks > MAX_ROLLBACKS:
            raise error
        saved, tensors, metadata, _ = self.run.load_checkpoint()
        self.model.load_state_dict(saved.model.state_dict())
        self.restore(tensors, metadata)
        self.state.rollbacks, self.state.used.seconds = rollbacks, max(seconds, self.state.used.seconds)
        restored_step = self.state.used.steps
        message = f"training diverged at step {diverged_step}: back to step {restored_step}, at 1/{2**rollbacks} of the rate"
        if self.process_group.is_main:
            self.run.metrics.append(
                {"event": "rollback", "step": restored_step, "diverged_at": diverged_step, "lr_factor": 0.5**rollbacks}
            )
        logger.warning(message)

    def _timed_step(self, iterator: Iterator[AnyBatch], stop: StopSignals) -> bool:
        """Take a step and combine time, stop signals and losses of all processes; return whether a checkpoint is due."""
        if self.thread_control is not None:
            torch.set_num_threads(self.thread_control.threads)
        started = time.perf_counter()
        batch, micro_batches = next(iterator), self.train_step.micro_batches
        loss = self.step(batch)
        if self.train_step.micro_batches > micro_batches:
            logger.warning(f"out of memory: from here on, each batch is processed in {self.train_step.micro_batches} parts")
        seconds = time.perf_counter() - started
        if self.thread_control is not None:
            self.thread_control.record(batch.num_targets, seconds)
        save_due = time.monotonic() - self._last_save_time > self.run_options.save_every
        if self.process_group.world_size == 1:
            self._stop_signal, tokens = stop.number, float(batch.num_targets)
            self._running_sums[0] += loss * batch.num_targets
        else:
            values = [
                seconds * self.process_group.is_main,
                float(save_due) * self.process_group.is_main,
                float(stop.number or 0),
            ]
            values += [float(batch.num_targets), float(loss) * batch.num_targets]
            seconds, num_due, num_stopped, tokens, loss_sum = self.process_group.all_reduce_sum(values)
            save_due, self._stop_signal = num_due > 0, (stop.number or STOP_SIGNALS[-1]) if num_stopped else None
            self._running_sums[0] += loss_sum
        self._running_sums[1] += tokens
        self.state.used.seconds += seconds
        self.state.used.tokens += round(tokens)
        return save_due

    def _raise_if_stopped(self) -> None:
        if self._stop_signal is not None:
            raise Interrupted("Stopped.", self._stop_signal)

    def step(self, batch: AnyBatch) -> Tensor:
        """Take one training step at the scheduled learning rate; return its loss in nats per token."""
        used = self.state.used
        self.lr = (
            learning_rate(self.options, used, self.budget_fraction, self.batches.tokens_per_epoch) * 0.5**self.state.rollbacks
        )
        loss, norm = self.train_step.step(batch, self.lr, (self.options.seed * 1_000_003 + used.steps) % (1 << 63))
        self._running_sums[2] += norm
        used.steps += 1
        self.state.cursor = self.batches.cursor
        return loss

    def current_progress(self) -> Progress:
        """Return the progress; its loss is the mean since the last record of metrics."""
        used = self.state.used
        loss, tokens, norm = self._running_sums.tolist()
        steps = (used.steps - 1) % LOG_EVERY + 1
        return Progress(
            step=used.steps,
            fraction=min(1.0, self.budget_fraction),
            epochs=used.tokens / self.batches.tokens_per_epoch,
            seconds=used.seconds,
            eta=max(0.0, used.seconds / max(self.budget_fraction, 1e-9) - used.seconds),
            tokens_per_second=used.tokens / max(used.seconds, 1e-9),
            lr=self.lr,
            train_nats=loss / tokens * self.task.tokens_per_character if tokens else self.state.train_nats,
            gradient_norm=norm / steps if tokens else None,
            best_nats=self.state.best_nats,
            loss_unit=self.task.loss_unit,
        )

    def _log(self) -> None:
        progress = self.current_progress()
        self._check_finite(progress)
        self._check_divergence(progress)
        self.state.train_nats = progress.train_nats
        self._running_sums.zero_()
        self._append_progress(progress)

    def _append_progress(self, progress: Progress) -> None:
        if self.process_group.is_main:
            self.run.metrics.append(progress.to_record())

    def _check_finite(self, progress: Progress) -> None:
        """Raise `DivergedError` if loss, gradient or a weight is not finite."""
        values = (progress.train_nats, progress.gradient_norm)
        if any(value is not None and not math.isfinite(value) for value in values):
            raise self._divergence_error(progress.step, progress.train_nats)
        weights_finite = torch.stack([weight.detach().isfinite().all() for weight in self.model.parameters()]).all()
        if not bool(weights_finite):
            raise self._divergence_error(progress.step, math.nan)

    def _check_divergence(self, progress: Progress) -> None:
        """Raise `DivergedError` if the loss of the last `LOG_EVERY` steps is far above that of the first."""
        ratio = NUMBER_DIVERGENCE_RATIO if self.task.loss_unit == "number" else DIVERGENCE_RATIO
        if self.state.first_nats is None:
            self.state.first_nats = progress.train_nats
        elif progress.train_nats is not None and progress.train_nats > ratio * self.state.first_nats + 1:
            raise self._divergence_error(progress.step, progress.train_nats)

    def _divergence_error(self, step: int, nats: float | None) -> DivergedError:
        hint = f"The best model so far is in {self.run.model_path}" if self.run.model_path.exists() else "Nothing was kept"
        return DivergedError(
            f"Training diverged at step {step}: the loss is {nats}. {hint}. Try a lower rate than --lr {self.options.lr:g}."
        )

    def _evaluate_if_due(self, stop: StopSignals) -> None:
        """Evaluate at the scheduled fractions of the budget, or every `--eval-every` steps, and at the end.

        An evaluation that a signal interrupted is due again after a resume, so that the results do not differ.
        """
        state, step = self.state, self.state.used.steps
        num_passed = self._num_passed
        if self.run_options.eval_every is None:
            due = num_passed > state.evals
        else:
            due = self.budget_fraction >= 1 or step % self.run_options.eval_every == 0
        if due and step > state.last_eval_step:
            self._evaluate_in_main_process(stop)
            state.evals, state.last_eval_step = num_passed, step
            self._last_save_step = -1

    @property
    def _num_passed(self) -> int:
        """How many of the scheduled evaluations lie before the used share of the budget."""
        return sum(share <= self.budget_fraction for share in self._eval_fractions)

    def _evaluate_in_main_process(self, stop: StopSignals) -> None:
        """Evaluate in the main process, and let all know whether a signal interrupted it, and how long nothing has improved."""
        if self.process_group.is_main:
            try:
                self._evaluate(stop.check)
            except Interrupted as stopped:
                self._stop_signal = stopped.exit_code - 128
        stalled = float(self.state.evals_without_progress * self.process_group.is_main)
        is_stopped, stalled = self.process_group.all_reduce_sum([float(self._stop_signal or 0), stalled])
        self.state.evals_without_progress = round(stalled)
        if is_stopped:
            self._stop_signal = self._stop_signal or STOP_SIGNALS[-1]
            self._raise_if_stopped()

    def _evaluate(self, check: Callable[[], None]) -> None:
        """Measure the validation loss, save the model if it is the best so far, and log a sample."""
        progress = self.current_progress()
        self._check_finite(progress)
        state, step = self.state, self.state.used.steps
        self.model.eval()
        try:
            val_nats, logit_scale = self.task.evaluate(self.model, self.machine, self.request, check, state.logit_scale)
        finally:
            self.model.train()
        if val_nats is not None and not math.isfinite(val_nats):
            raise self._divergence_error(step, val_nats)
        is_repeated = state.best_step == step  # an interrupted evaluation had already found this step to be the best
        improved = val_nats is None or state.best_nats is None or val_nats < state.best_nats or is_repeated
        if improved:
            state.best_nats, state.best_step = val_nats, step
            self.run.save_best(self.model_file(logit_scale))
        self.model.eval()
        try:
            text = self.task.sample(self.model, self.machine, self.run_options.sample_length, check)
        finally:
            self.model.train()
        if val_nats is not None:
            bits = val_nats / math.log(2)
            self.run.metrics.append(
                {"event": "validation", "step": step, "val_nats": val_nats, "val_bits": bits, "seconds": progress.seconds}
            )
        if text is not None:
            self.run.samples.append({"step": step, "seconds": progress.seconds, "val_nats": val_nats, "text": text})
        self.callback.on_evaluate(progress, val_nats, text)
        # Last, since an interrupted evaluation is repeated from the same scale and the same count.
        state.logit_scale = logit_scale
        state.evals_without_progress = 0 if improved else state.evals_without_progress + 1

    def model_file(self, logit_scale: float = 1.0) -> ModelFile:
        """Return the current model, its logits multiplied by `logit_scale`, with its training history."""
        state = self.state
        history = {
            "steps": state.used.steps,
            "epochs": state.used.tokens / self.batches.tokens_per_epoch,
            "seconds": state.used.seconds,
            "val_nats": state.best_nats if state.best_step == state.used.steps else None,
            "logit_scale": logit_scale,
        }
        return self.task.model_file(self.model, history, logit_scale)

    def save(self) -> None:
        """Write a checkpoint, and the model file too if no model has been saved yet."""
        step = self.state.used.steps
        if step == self._last_save_step:
            return
        self._check_finite(self.current_progress())
        tensors = self.train_step.state_dict() | {"running_sums": self._running_sums}
        if self.process_group.is_main:
            self.run.save_checkpoint(step, self.model_file(), tensors, {"state": asdict(self.state)})
            if step and not self.run.model_path.exists():
                self.run.save_best(self.model_file())
        self._last_save_time, self._last_save_step = time.monotonic(), step

    def restore(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Load the tensors and the state of a checkpoint. The weights of the model must already be those of the checkpoint."""
        try:
            self.state = TrainerState.from_json(metadata["state"])
            self.train_step.load_state_dict(tensors)
            self._running_sums = tensors["running_sums"].to(self.machine.device)
            self.batches.seek(self.state.cursor)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The checkpoint of {self.run.path} lacks what a resume needs: {error}.") from error
        if self.process_group.is_main:
            self.run.metrics.truncate_after(self.state.used.steps, is_record_of_stop)
            self.run.samples.truncate_after(self.state.used.steps)
        self.state.evals = min(self.state.evals, self._num_passed)  # of a larger budget, some are due again
        self._last_save_step = self.state.used.steps
