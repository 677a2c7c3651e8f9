"""The saved configuration of a run: its settings and environment, and which of them a resume may change."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from unrolled import __version__
from unrolled.datasets.stdlib import PREFIX
from unrolled.errors import UsageError
from unrolled.nn.device import DeviceConfig
from unrolled.nn.kernels.extension import native_module
from unrolled.options import BUDGET_OPTIONS, OPTION_CLASSES, TrainRequest, flag_name, from_dict, split_by_class
from unrolled.training.tasks.base import TrainingTask

logger = logging.getLogger(__name__)

ALLOWED_CHANGES = frozenset(
    ("lr", "schedule", "warmup", "decay", "decay_after", "weight_decay", "clip", "clip_by", "state_reset_prob")
)
"""Settings that may change on a resume with --allow-change: they change the training, but fit the saved tensors."""


def run_config(request: TrainRequest, task: TrainingTask, environment_values: dict[str, Any]) -> dict[str, Any]:
    """Return the content of `config.json`."""
    inputs = [name if name == "-" or name.startswith(PREFIX) else str(Path(name).absolute()) for name in request.inputs]
    # A resumed run must not stop at the same step again.
    options = _with_absolute_paths(request.to_dict() | {"stop_after": None})
    explicit = sorted(request.explicit)
    return {
        "format": 4, "inputs": inputs, **task.origin, "loss_unit": task.loss_unit, "options": options,
        "explicit_options": explicit, "environment": environment_values,
    }  # fmt: skip


def _with_absolute_paths(options: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the paths of the files that a resume reads again from whatever folder it is started in."""
    paths = {
        name: str(Path(options[name]).absolute())
        for name in ("validation", "init_from")
        if options.get(name) not in (None, "none") and not options[name].startswith(PREFIX)
    }
    return options | paths


def environment(machine: DeviceConfig, kernels: str, task: TrainingTask) -> dict[str, Any]:
    """Return what the last digits of the weights depend on, apart from the settings."""
    return {
        "unrolled": __version__,
        "torch": torch.__version__,
        "device": machine.device.type,
        "precision": machine.precision,
        "kernels": kernels,
        **({"instruction_set": native_module().active_isa()} if kernels == "native" else {}),
        **({"threads": machine.threads} if task.depends_on_threads(machine, kernels) else {}),
        "world_size": machine.world_size,
    }


def apply_resume_changes(request: TrainRequest, requested: dict[str, Any], allow_change: bool) -> TrainRequest:
    """Return the saved request with the requested changes. Raises `UsageError` for changes that a resume may not make."""
    saved = request.to_dict()
    requested = _normalized(requested)
    always_allowed = {field.name for part in (request.machine, request.run) for field in dataclasses.fields(part)} - {"out"}
    changes = {name: value for name, value in requested.items() if value != saved[name]}
    others = [name for name in changes if name not in always_allowed and name not in BUDGET_OPTIONS]
    rejected = [name for name in others if not (allow_change and name in ALLOWED_CHANGES)]
    if rejected:
        differences = ", ".join(f"{flag_name(name)} was {saved[name]!r}, now {changes[name]!r}" for name in rejected)
        hint = " (--allow-change goes on with them)" if set(rejected) <= ALLOWED_CHANGES else ""
        raise UsageError(f"A resumed run keeps its settings: {differences}. Leave these out{hint}, or start a new run.")
    if others:
        logger.info("changed: " + ", ".join(f"{flag_name(name)} was {saved[name]!r}, now {changes[name]!r}" for name in others))
    budget = {name: value for name, value in changes.items() if name in BUDGET_OPTIONS and value is not None}
    if budget:
        changes |= {name: budget.get(name) for name in BUDGET_OPTIONS}
        logger.info("the budget changed: " + ", ".join(f"{flag_name(name)} {value:g}" for name, value in budget.items()))
    updated = TrainRequest.build(request.inputs, saved | changes, "resume")
    return dataclasses.replace(updated, explicit=request.explicit | set(budget) | (set(changes) - set(BUDGET_OPTIONS)))


def _normalized(requested: dict[str, Any]) -> dict[str, Any]:
    """Return checked settings as a request holds them: a list of source columns is one string, for example."""
    checked: dict[str, Any] = {}
    for option_class, values in zip(OPTION_CLASSES, split_by_class(requested, OPTION_CLASSES, "resume"), strict=True):
        options: Any = from_dict(option_class, values, "resume")
        checked |= {name: getattr(options, name) for name in values}
    return _with_absolute_paths(checked)


def check_environment(saved: Any, current: dict[str, Any], explicit: set[str], allow_change: bool) -> None:
    """Raise `UsageError` if the environment of a run has changed, so that it would not continue bit for bit.

    Changes that flags in `explicit` ask for are allowed; with `allow_change`, all are, and a warning is logged.
    """
    if not isinstance(saved, dict):
        return
    changes = {name: value for name, value in current.items() if name in saved and saved[name] != value}
    if "world_size" in changes:
        changes.pop("threads", None)
    differences = ", ".join(f"{name} was {saved[name]}, now {value}" for name, value in changes.items())
    unexpected = set(changes) - explicit - {"world_size"}
    if unexpected and not allow_change:
        raise UsageError(
            f"This run would not go on bit for bit: {differences}. Restore that environment, or go on with --allow-change."
        )
    if changes:
        logger.warning(f"{differences}: from here on, results differ from those of a run that was not stopped")
