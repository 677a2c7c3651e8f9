"""The training loop: one step after the other until the budget is spent, looked at, logged and saved on the way.

Everything the loop knows is in its `Position` and in tensors, and everything random follows from the seed and the step, so that
training that was stopped and resumed is the same, bit for bit, as training that was not.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.checkpoints.model_file import Saved
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import DivergedError, Interrupted, ModelError
from unrolled.nn.device import Machine
from unrolled.nn.sequence_model import Network
from unrolled.options import RunOptions, TrainingOptions
from unrolled.text.batching import AnyBatch, Batches
from unrolled.training.callbacks import Looks, Observer, Status, milestones
from unrolled.training.distributed import SINGLE_PROCESS, ProcessGroup
from unrolled.training.schedule import Budget, Spent, learning_rate, make_budget
from unrolled.training.signals import STOPS, StopSignals
from unrolled.training.train_step import Learner

MOST_SLOWED = 3
"""Times that training goes back to its last checkpoint, at half of the rate, before it gives up."""

EXPLODED = 1.2
"""A training loss so many times that of the first steps is no learning any more."""

LOG_EVERY = 10
"""Steps between two lines of metrics."""


@dataclass
class Position:
    """Where training stands; all of it is saved. `best` is the lowest validation loss, in nats a character.

    `first_nats` is the training loss of the first steps; `slowed` counts how often the rate was lowered after a divergence;
    `sharpness` is what the scores are best multiplied by, as the last look found.
    """

    spent: Spent = field(default_factory=Spent)
    cursor: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    looked_at: int = 0
    best: float | None = None
    best_step: int = 0
    train_nats: float | None = None
    first_nats: float | None = None
    slowed: int = 0
    sharpness: float = 1.0

    @staticmethod
    def from_json(value: dict[str, Any]) -> Position:
        """Read a position as `asdict` wrote it."""
        return Position(**{**value, "spent": Spent(**value["spent"])})


@contextlib.contextmanager
def nothing_collected() -> Iterator[None]:
    """Spare the collector what is there already: it walked through all modules' objects some times a minute, for nothing."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Trainer:
    """Trains `model` on `batches` into `run`. `train` runs to the end of the budget or to a signal."""

    def __init__(
        self,
        model: Network,
        batches: Batches,
        machine: Machine,
        options: TrainingOptions,
        run_options: RunOptions,
        run: Run,
        observer: Observer,
        looks: Looks,
        keep: Callable[[dict[str, Any], float], Saved],
        symbols_per_character: float = 1.0,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.model, self.batches, self.machine, self._keep = model, batches, machine, keep
        self.options, self.run_options, self.run, self.observer, self.looks = options, run_options, run, observer, looks
        self.learner, self.process_group = Learner(model, machine, options, batches.batch, process_group), process_group
        self.symbols_per_character = symbols_per_character
        self.budget: Budget = make_budget(options, batches.symbols)
        self._shares = milestones(self.budget)
        self.position = Position()
        self.rate = 0.0
        self._window = torch.zeros(3, dtype=torch.float64, device=machine.device)  # loss, symbols, gradient norm
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._stopped: int | None = None

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        return self.budget.progress(self.position.spent)

    def train(self) -> int | None:
        """Train until the budget is spent; return None, or the number of the signal that stopped it (0: `stop_after`).

        Either way everything is saved. Raises `DivergedError` if the loss is no longer finite; what was saved stays good.
        """
        self.model.train()
        with StopSignals(self.observer.note) as stop, nothing_collected():
            try:
                if self._saved_step < 0:
                    self.position.cursor = self.batches.cursor
                    self.save()
                self._look_if_due(stop)
                while True:
                    try:
                        return self._train_on(iter(self.batches), stop)
                    except DivergedError as error:
                        self._roll_back(error)
            except Interrupted:
                self.save()
                return self._stopped

    def _train_on(self, iterator: Iterator[AnyBatch], stop: StopSignals) -> int | None:
        """Train until the budget is spent, and return None, or 0 at `stop_after`."""
        while self.progress < 1:
            due = self._timed_step(iterator, stop)
            self.observer.stepped(self.status)
            if self.position.spent.steps % LOG_EVERY == 0:
                self._log()
            self._leave_if_stopped()
            self._look_if_due(stop)
            if self.position.spent.steps == self.run_options.stop_after and self.progress < 1:
                self.save()
                return 0
            if due:
                self.save()
        self.save()
        return None

    def _roll_back(self, error: DivergedError) -> None:
        """Go back to the last checkpoint and go on at half of the rate; raise the error again once that was tried often enough.

        The time that was lost stays spent, so that a budget in minutes ends when it should.
        """
        slowed, seconds, step = self.position.slowed + 1, self.position.spent.seconds, self.position.spent.steps
        if slowed > MOST_SLOWED:
            raise error
        saved, tensors, about, _ = self.run.load_checkpoint()
        self.model.load_state_dict(saved.model.state_dict())
        self.restore(tensors, about)
        self.position.slowed, self.position.spent.seconds = slowed, max(seconds, self.position.spent.seconds)
        back = self.position.spent.steps
        told = f"training diverged at step {step}: back to step {back}, at 1/{2**slowed} of the rate"
        if self.process_group.is_main:
            self.run.metrics.append({"event": "rollback", "step": back, "diverged_at": step, "rate": 0.5**slowed})
        self.observer.note(told)

    def _timed_step(self, iterator: Iterator[AnyBatch], stop: StopSignals) -> bool:
        """Take a step, agree with the other processes on time, stop signals and losses; return whether a checkpoint is due."""
        started = time.perf_counter()
        batch, splits = next(iterator), self.learner.splits
        loss = self.step(batch)
        if self.learner.splits > splits:
            self.observer.note(f"out of memory: a batch is learned from in {self.learner.splits} parts from here on")
        seconds = time.perf_counter() - started
        due = time.monotonic() - self._saved_at > self.run_options.save_every
        if self.process_group.world_size == 1:
            self._stopped, symbols = stop.number, float(batch.symbols)
            self._window[0] += loss * batch.symbols
        else:
            own = [seconds * self.process_group.is_main, float(due) * self.process_group.is_main, float(stop.number or 0)]
            own += [float(batch.symbols), float(loss) * batch.symbols]
            seconds, saves, stops, symbols, nats = self.process_group.all_reduce_sum(own)
            due, self._stopped = saves > 0, (stop.number or STOPS[-1]) if stops else None
            self._window[0] += nats
        self._window[1] += symbols
        self.position.spent.seconds += seconds
        self.position.spent.symbols += round(symbols)
        return due

    def _leave_if_stopped(self) -> None:
        if self._stopped is not None:
            raise Interrupted("Stopped.", self._stopped)

    def step(self, batch: AnyBatch) -> Tensor:
        """Take one training step at the rate that the schedule asks for; return its loss, in nats a symbol."""
        spent = self.position.spent
        self.rate = learning_rate(self.options, spent, self.progress, self.batches.symbols) * 0.5**self.position.slowed
        loss, norm = self.learner.step(batch, self.rate, (self.options.seed * 1_000_003 + spent.steps) % (1 << 63))
        self._window[2] += norm
        spent.steps += 1
        self.position.cursor = self.batches.cursor
        return loss

    def status(self) -> Status:
        """Return where training stands; the loss is the mean since the last line of metrics."""
        spent = self.position.spent
        loss, symbols, norm = self._window.tolist()
        steps = (spent.steps - 1) % LOG_EVERY + 1
        return Status(
            step=spent.steps,
            progress=min(1.0, self.progress),
            epochs=spent.symbols / self.batches.symbols,
            seconds=spent.seconds,
            eta=max(0.0, spent.seconds / max(self.progress, 1e-9) - spent.seconds),
            rate=spent.symbols / max(spent.seconds, 1e-9),
            lr=self.rate,
            train_nats=loss / symbols * self.symbols_per_character if symbols else self.position.train_nats,
            gradient_norm=norm / steps if symbols else None,
            best=self.position.best,
        )

    def _log(self) -> None:
        status = self.status()
        self._check_finite(status)
        self.position.train_nats = status.train_nats
        if self.position.first_nats is None:
            self.position.first_nats = status.train_nats
        self._window.zero_()
        record = asdict(status)
        if self.process_group.is_main:
            self.run.metrics.append({"event": "train", **{k: v for k, v in record.items() if k not in ("progress", "eta")}})

    def _check_finite(self, status: Status) -> None:
        """Raise `DivergedError` if loss, gradient or a weight is no number, or the loss is far above what it began with."""
        values = (status.train_nats, status.gradient_norm)
        if any(value is not None and not math.isfinite(value) for value in values):
            raise self._diverged(status.step, status.train_nats)
        first = self.position.first_nats
        if first is not None and status.train_nats is not None and status.train_nats > EXPLODED * first + 1:
            raise self._diverged(status.step, status.train_nats)
        finite = torch.stack([weight.detach().isfinite().all() for weight in self.model.parameters()]).all()
        if not bool(finite):
            raise self._diverged(status.step, math.nan)

    def _diverged(self, step: int, nats: float | None) -> DivergedError:
        kept = f"The best model so far is in {self.run.model_path}" if self.run.model_path.exists() else "Nothing was kept"
        return DivergedError(
            f"Training diverged at step {step}: the loss is {nats}. {kept}. Try a lower rate than --lr {self.options.lr:g}."
        )

    def _look_if_due(self, stop: StopSignals) -> None:
        """Look at the model at the shares of the budget, or the steps of --eval-every, that ask for it, and at the end.

        A look that was given up because of a signal is due again when the run is resumed, so that nothing differs.
        """
        position, step = self.position, self.position.spent.steps
        passed = sum(share <= self.progress for share in self._shares)
        if self.run_options.eval_every is None:
            due = passed > position.looks
        else:
            due = self.progress >= 1 or step % self.run_options.eval_every == 0
        if due and step > position.looked_at:
            self._evaluate_in_main_process(stop)
            position.looks, position.looked_at = passed, step
            self._saved_step = -1

    def _evaluate_in_main_process(self, stop: StopSignals) -> None:
        """Evaluate in the main process, and let all processes know whether a signal stopped it meanwhile."""
        if self.process_group.is_main:
            try:
                self._look(stop.check)
            except Interrupted as stopped:
                self._stopped = stopped.exit_code - 128
        if self.process_group.all_reduce_sum([float(self._stopped or 0)])[0]:
            self._stopped = self._stopped or STOPS[-1]
            self._leave_if_stopped()

    def _look(self, check: Callable[[], None]) -> None:
        """Validate, keep the model if it is the best so far, and let it write."""
        status = self.status()
        self._check_finite(status)
        position, step = self.position, self.position.spent.steps
        self.model.eval()
        try:
            val_nats, sharpness = self.looks.evaluate(check, position.sharpness) if self.looks.evaluate else (None, 1.0)
        finally:
            self.model.train()
        if val_nats is not None and not math.isfinite(val_nats):
            raise self._diverged(step, val_nats)
        if val_nats is None or position.best is None or val_nats < position.best:
            position.best, position.best_step = val_nats, step
            self.run.save_best(self.saved(sharpness))
        self.model.eval()
        try:
            text = self.looks.sample(check) if self.looks.sample else None
        finally:
            self.model.train()
        if val_nats is not None:
            bits = val_nats / math.log(2)
            self.run.metrics.append(
                {"event": "validation", "step": step, "val_nats": val_nats, "val_bits": bits, "seconds": status.seconds}
            )
        if text is not None:
            self.run.samples.append({"step": step, "seconds": status.seconds, "val_nats": val_nats, "text": text})
        self.observer.looked(status, val_nats, text)
        position.sharpness = sharpness  # not before: a look that is given up begins anew, from the same one

    def saved(self, sharpness: float = 1.0) -> Saved:
        """Return the model as it is now, its scores times `sharpness`, with what is worth knowing of its training."""
        position = self.position
        history = {
            "steps": position.spent.steps,
            "epochs": position.spent.symbols / self.batches.symbols,
            "seconds": position.spent.seconds,
            "val_nats": position.best if position.best_step == position.spent.steps else None,
            "sharpness": sharpness,
        }
        return self._keep(history, sharpness)

    def save(self) -> None:
        """Write a checkpoint of everything; and the model, if none was good enough to be kept yet."""
        step = self.position.spent.steps
        if step == self._saved_step:
            return
        self._check_finite(self.status())
        tensors = self.learner.to_tensors() | {"window": self._window}
        if self.process_group.is_main:
            self.run.save_checkpoint(step, self.saved(), tensors, {"position": asdict(self.position)})
            if step and not self.run.model_path.exists():
                self.run.save_best(self.saved())
        self._saved_at, self._saved_step = time.monotonic(), step

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Go on from a checkpoint's tensors and position; the model's weights are those of the checkpoint already."""
        try:
            self.position = Position.from_json(about["position"])
            self.learner.from_tensors(tensors)
            self._window = tensors["window"].to(self.machine.device)
            self.batches.seek(self.position.cursor)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The checkpoint of {self.run.path} lacks what a resume needs: {error}.") from error
        for log in (self.run.metrics, self.run.samples) if self.process_group.is_main else ():
            log.keep_until(self.position.spent.steps)
        self._saved_step = self.position.spent.steps
