"""What a run keeps of how it was asked for and of what it ran on, and what may be another when it goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unrolled import __version__
from unrolled.data.builtin import PREFIX
from unrolled.errors import ModelError, UsageError
from unrolled.nn.kernels.library import library
from unrolled.nn.machine import Machine
from unrolled.options import BUDGETS, TrainRequest, flag
from unrolled.store.run import Run

Note = Callable[[str], None]

ALLOWED = frozenset(
    ("lr", "schedule", "warmup", "decay", "decay_after", "weight_decay", "clip", "clip_by", "reset_probability")
)
"""Settings that may change on a resume with --allow-change: they change what is learned, and fit what was saved."""


def config(request: TrainRequest, origin: dict[str, Any], ran_on: dict[str, Any]) -> dict[str, Any]:
    """Return what `config.json` holds."""
    inputs = [name if name == "-" or name.startswith(PREFIX) else str(Path(name).absolute()) for name in request.inputs]
    # What stopped this run is not asked of the next one.
    options = request.flat() | {"stop_after": None}
    if request.table.validation is not None and not request.table.validation.startswith(PREFIX):
        options["validation"] = str(Path(request.table.validation).absolute())
    given = sorted(request.given)
    return {"format": 1, "inputs": inputs, **origin, "options": options, "given": given, "conditions": ran_on}


def conditions(machine: Machine, kernels: str) -> dict[str, Any]:
    """Return what the last digits of a training depend on, beside its settings."""
    return {
        "unrolled": __version__,
        "torch": torch.__version__,
        "device": machine.device.type,
        "precision": machine.precision,
        "kernels": kernels,
        **({"instructions": library().active_isa()} if kernels == "native" else {}),
        "threads": machine.threads,
        "processes": machine.ranks,
    }


def saved_request(run: Run) -> tuple[TrainRequest, dict[str, Any]]:
    """Return what a run was asked to do, and where its text or table came from."""
    kept = run.config
    try:
        request = TrainRequest.build(tuple(kept["inputs"]), kept["options"], str(run.path / "config.json"))
        request = dataclasses.replace(request, given=frozenset(map(str, kept.get("given", []))))
        return request, {"corpus": str(kept["corpus"]), "text": str(kept["text"])}
    except (KeyError, TypeError, UsageError) as error:
        raise ModelError(f"{run.path / 'config.json'} is not that of a run this version can use: {error}.") from error


def changed(request: TrainRequest, wanted: dict[str, Any], note: Note, allow: bool) -> TrainRequest:
    """Return the saved request with what a resume may change; refuse what would make it another training."""
    saved = request.flat()
    free = {field.name for part in (request.machine, request.run) for field in dataclasses.fields(part)} - {"out"}
    changes = {name: value for name, value in wanted.items() if value != saved[name]}
    others = [name for name in changes if name not in free and name not in BUDGETS]
    refused = [name for name in others if not (allow and name in ALLOWED)]
    if refused:
        told = ", ".join(f"{flag(name)} was {saved[name]!r}, now {changes[name]!r}" for name in refused)
        may = " (--allow-change goes on with them)" if set(refused) <= ALLOWED else ""
        raise UsageError(f"A resumed run keeps its settings: {told}. Leave these out{may}, or start a new run.")
    if others:
        note("changed: " + ", ".join(f"{flag(name)} was {saved[name]!r}, now {changes[name]!r}" for name in others))
    budget = {name: value for name, value in changes.items() if name in BUDGETS and value is not None}
    if budget:
        changes |= {name: budget.get(name) for name in BUDGETS}
        note("the budget changed: " + ", ".join(f"{flag(name)} {value:g}" for name, value in budget.items()))
    built = TrainRequest.build(request.inputs, saved | changes, "resume")
    return dataclasses.replace(built, given=request.given | set(budget) | (set(changes) - set(BUDGETS)))


def refuse_other_conditions(before: Any, now: dict[str, Any], asked: set[str], allow: bool, note: Note) -> None:
    """Raise `UsageError` where a run would go on under other conditions than it had, and so no longer bit for bit.

    What was `asked` for by a flag is known to whoever asked; with `allow` the rest is only told.
    """
    if not isinstance(before, dict):
        return
    others = {name: value for name, value in now.items() if name in before and before[name] != value}
    if "processes" in others:
        others.pop("threads", None)
    told = ", ".join(f"{name} was {before[name]}, now {value}" for name, value in others.items())
    unasked = set(others) - asked - {"processes"}
    if unasked and not allow:
        raise UsageError(f"This run would not go on bit for bit: {told}. Make it as it was, or go on with --allow-change.")
    if others:
        note(f"{told}: from here on it is not, bit for bit, the run that was not stopped")
