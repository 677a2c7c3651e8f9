"""The neuron explorer of a model and a text: traced, probed, and units held to see what they cause."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from unrolled.analysis.table_session import RowSubject
from unrolled.analysis.text_session import Subject
from unrolled.atomic_io import storage_error, write_bytes
from unrolled.errors import DataError, UsageError
from unrolled.interpret.activations import Trace, trace
from unrolled.interpret.intervention import Effect, effect, hold_from, importance
from unrolled.interpret.probes import Findings, Probe, probe
from unrolled.nn.clamp import Hold
from unrolled.options import ExplainOptions, SampleOptions
from unrolled.text.tokenized_text import Reading
from unrolled.views.colored_text import by_state, coloured
from unrolled.views.explorer import ExplorerData, explorer_page

SHOWN_DETECTORS = 3
"""Detectors that are held, each silenced and each as if what it follows were there, when nobody says which."""

IMPORTANCE_SYMBOLS = 1000
FEWEST_PROBED = 2000
"""Symbols below which a text is too short to hold units against."""

SAMPLE_LENGTH = 400
SAMPLE_TEMPERATURE = 0.7
EXTREME = 95
"""Percentile of a unit's states that stands for: what it follows is there."""

Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Explored:
    """What was found inside a model: the `trace` of the text shown, what units follow, what holding some changes."""

    subject: Subject | RowSubject
    trace: Trace
    findings: Findings | None
    importance: np.ndarray[Any, Any] | None
    effects: list[Effect]
    page: Path | None
    alphabet: list[str]
    end: int | None = None

    def data(self) -> ExplorerData:
        """Return what the page shows."""
        reading, found = self.trace.reading, self.trace
        steps, layers, size = found.h.shape
        ids, chances = found.guesses()
        ends = [] if self.end is None else np.flatnonzero(reading.ids == self.end).tolist()
        return ExplorerData(
            title=self.subject.name,
            subtitle=self.subject.shape,
            symbols=reading.shown,
            layers=layers,
            hidden=size,
            signals={name: values.reshape(steps, -1) for name, values in found.signals.items()},
            bits=found.bits() if self.predicts else np.full(steps, np.nan),
            alphabet=self.alphabet,
            guess_ids=ids,
            guess_chances=chances,
            probes=[] if self.findings is None else [_as_dict(one) for one in self.findings.features],
            importance=None if self.importance is None else self.importance.reshape(-1),
            effects=[self._effect(one) for one in self.effects],
            ends=ends,
            end_ids=[] if self.end is None else [self.end],
            labels=not self.predicts,
        )

    @property
    def predicts(self) -> bool:
        """Whether the model guesses the symbols of the text itself, as one of texts does."""
        return isinstance(self.subject, Subject)

    def _effect(self, one: Effect) -> dict[str, Any]:
        named = {} if self.findings is None else {(p.layer, p.unit): p.feature for p in reversed(self.findings.features)}
        layer, unit, value, _ = one.hold
        return {
            "layer": layer, "unit": unit, "value": value, "feature": named.get((layer, unit), ""), "bits": one.bits,
            "changes": np.nan_to_num(one.changes), "before": one.before, "after": one.after, "seed": one.seed,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return what a program wants to know."""
        findings = self.findings or Findings([], [], 0.0)
        effects = [{k: v for k, v in self._effect(one).items() if k != "changes"} for one in self.effects]
        return {
            "page": None if self.page is None else str(self.page),
            "symbols": len(self.trace.reading),
            "detectors": [_as_dict(one) for one in findings.features],
            "units": [_as_dict(one) for one in findings.units if one.strong],
            "share": findings.share,
            "effects": effects,
        }

    def summary(self) -> str:
        """Return what was found, in a few lines."""
        lines = []
        if self.findings is not None and self.findings.features:
            lines += [f"{'unit':>7}  {'score':>6} {'':11}  follows"]
            lines += [_told(one) for one in self.findings.features if one.p <= 0.05 and not one.plain]
            lines += [f"{self.findings.share:.1%} of the units are detectors of something that takes memory to know"]
        lines += [_cause(one) for one in self.effects]
        return "\n".join([*lines, f"page: {self.page}"])

    def print(self, unit: str | None) -> None:
        """Colour the text on the terminal by a unit: the one that is named, or the clearest detector."""
        found = self.trace
        if unit is not None:
            layer, number, _, _ = hold_from(unit, "--unit")
            _check_unit(found, layer, number)
            head = f"unit {layer}.{number}"
        else:
            best = self._clearest()
            layer, number = (best.layer, best.unit) if best else (0, 0)
            head = f"unit {layer}.{number}" + (f" follows {best.feature} ({best.means})" if best else "")
        values = found.h[:, layer, number] if found.c is None else np.tanh(found.c[:, layer, number])
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"{head}: green = excited, blue = not")
        console.print(coloured(found.reading.shown, values, by_state))

    def _clearest(self) -> Probe | None:
        return None if self.findings is None or not self.findings.features else self.findings.features[0]


def explore(subject: Subject, name: str | None, options: ExplainOptions, note: Note) -> Explored:
    """Look inside a model while it reads a text (None: what its run held out), and write the page.

    Raises `DataError` for a text of fewer than two symbols, `UsageError` for a unit that is not there.
    """
    asked = [hold_from(text) for text in options.clamp]
    reading = subject.held_out(options.length) if name is None else subject.beginning(name, options.length)
    if len(reading) < 2:
        raise DataError("There is one symbol to look at: at least two are needed, to guess one from the other.")
    found = trace(subject.model, reading)
    for hold in asked:
        _check_unit(found, hold.layer, hold.unit)
    findings = _findings(subject, found, options, note)
    vocabulary = subject.vocabulary
    explored = Explored(subject, found, findings, None, [], None, vocabulary.shown(), vocabulary.end)
    if options.terminal:
        return finish(explored, options, note)
    note("what each unit is worth, and what holding some changes")
    worth = importance(subject.model, reading.head(IMPORTANCE_SYMBOLS))
    holds = asked or _holds(findings, found)
    drawn = SampleOptions(length=SAMPLE_LENGTH, temperature=SAMPLE_TEMPERATURE, seed=options.seed)
    bits = found.bits()
    effects = [effect(subject.model, subject.vocabulary, reading, hold, drawn, bits) for hold in holds]
    return finish(dataclasses.replace(explored, importance=worth, effects=effects), options, note)


def finish(explored: Explored, options: ExplainOptions, note: Note) -> Explored:
    """Write what was asked for: the page, unless the terminal is to show it, and the arrays."""
    if options.arrays is not None:
        _write_arrays(Path(options.arrays), explored.trace, note)
    if options.terminal:
        return explored
    run = explored.subject.run
    page = Path(options.out) if options.out else (Path() if run is None else run.path) / "explain.html"
    write_bytes(page, explorer_page(explored.data()).encode())
    return dataclasses.replace(explored, page=page)


def _findings(subject: Subject, shown: Trace, options: ExplainOptions, note: Note) -> Findings | None:
    """Hold units against features: on what the run held out, or, without it, on the text shown if it is long enough."""
    found = shown
    if subject.run is not None:
        found = trace(subject.model, subject.held_out(options.probe_length))
    if len(found.reading) < FEWEST_PROBED:
        note(f"too short to tell what units follow: {len(found.reading):,} symbols, and {FEWEST_PROBED:,} are needed")
        return None
    note(f"what units follow, on {len(found.reading):,} symbols")
    return probe(found, one_each(found.reading), seed=options.seed)


def one_each(reading: Reading) -> str:
    """Return a character for every symbol: what is part of one counts for none."""
    return "".join(shown[-1:] or "\0" for shown in reading.shown)


def _holds(findings: Findings | None, found: Trace) -> list[Hold]:
    """Return the clearest detectors, silenced, and held as if what they follow were there."""
    holds: list[Hold] = []
    seen: set[tuple[int, int]] = set()
    for one in findings.features if findings else []:
        if not one.strong or (one.layer, one.unit) in seen or len(seen) == SHOWN_DETECTORS:
            continue
        seen.add((one.layer, one.unit))
        states = found.h[:, one.layer, one.unit]
        extreme = float(np.percentile(states, EXTREME if one.sign > 0 else 100 - EXTREME))
        holds += [Hold(one.layer, one.unit, 0.0), Hold(one.layer, one.unit, round(extreme, 2))]
    return holds


def _check_unit(found: Trace, layer: int, unit: int) -> None:
    _, layers, size = found.h.shape
    if not (0 <= layer < layers and 0 <= unit < size):
        raise UsageError(f"There is no unit {layer}.{unit}: layers are 0 to {layers - 1}, units 0 to {size - 1}.")


def _write_arrays(path: Path, found: Trace, note: Note) -> None:
    try:
        with open(path, "wb") as file:
            np.savez(file, **found.arrays())  # type: ignore[arg-type]  # its stub takes every name for allow_pickle
    except OSError as error:
        raise storage_error(error, path, "write the arrays to") from error
    note(f"arrays: {path}")


def _as_dict(one: Probe) -> dict[str, Any]:
    return dataclasses.asdict(one)


def _told(one: Probe) -> str:
    mark = "*" if one.strong else " "
    name = f"{one.layer}.{one.unit}"
    return f"{name:>7}{mark} {one.score:6.3f} {one.kind:11}  {one.feature} ({one.means})"


def _cause(one: Effect) -> str:
    layer, unit, value, _ = one.hold
    return f"{layer}.{unit} held at {value:g}: {one.bits:+.4f} bits a symbol"
