"""The neuron explorer of a text model: activations on a text, probes of its units, and interventions."""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.analysis.table_session import TableSession
from unrolled.analysis.text_session import TextSession
from unrolled.atomic_io import write_atomic
from unrolled.display import Displayed, page_frame
from unrolled.errors import DataError, UsageError
from unrolled.interpret.activations import Activations, record_activations
from unrolled.interpret.intervention import InterventionEffect, measure_effect, unit_importance
from unrolled.interpret.probes import Probe, ProbeReport, probe_units, too_short_to_probe
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.unit_clamp import Clamp, parse_clamp
from unrolled.options import ExplainOptions, SampleOptions
from unrolled.output_paths import check_outputs
from unrolled.tables.table_format import TableFormat
from unrolled.views.colored_text import MARKED_VALUE, ResultConsole, activation_color, color_text, mark_text
from unrolled.views.explorer import ExplorerData, explorer_page

logger = logging.getLogger(__name__)

MAX_CLAMPED_DETECTORS = 3
"""Without --clamp, this many detectors are clamped: each to zero, and to its typical value where its feature is on."""

MIN_IMPORTANCE_TOKENS, IMPORTANCE_TOKENS, IMPORTANCE_WORK = 250, 1000, 5e11
"""Tokens on which the importance of each unit is measured: so many that tokens times units times weights of the layers are
`IMPORTANCE_WORK`, which are 1,000 tokens for two layers of 256 units."""

SAMPLE_TOKENS = 400
SAMPLE_TEMPERATURE = 0.7
CLAMP_PERCENTILE = 95
"""Percentile of a unit's states that is taken as its value where its feature is on."""


@dataclass(frozen=True, eq=False, repr=False)
class ExplainResult(Displayed):
    """Results of `explain`: `activations` on the displayed text, probes of the units, and effects of interventions."""

    session: TextSession | TableSession
    activations: Activations
    probe_report: ProbeReport | None
    vocab_texts: list[str]
    eos_id: int | None = None
    unit_importance: np.ndarray[Any, Any] | None = None
    effects: list[InterventionEffect] = field(default_factory=list)
    page_path: Path | None = None
    is_series: bool = False

    @property
    def facts(self) -> Mapping[str, object]:
        return {
            "page": self.page_path,
            "steps" if self.is_series else "tokens": len(self.activations.tokenized),
            "effects": len(self.effects),
        }

    def explorer_data(self) -> ExplorerData:
        """Return the data of the page."""
        tokenized, activations = self.activations.tokenized, self.activations
        num_steps, num_layers, hidden_size = activations.h.shape
        top_ids, top_probs = activations.top_predictions()
        eos_positions = [] if self.eos_id is None else np.flatnonzero(tokenized.ids == self.eos_id).tolist()
        return ExplorerData(
            title=self.session.name,
            subtitle=self.session.description,
            token_texts=tokenized.token_texts,
            num_layers=num_layers,
            hidden_size=hidden_size,
            signals={name: values.reshape(num_steps, -1) for name, values in activations.states_and_gates.items()},
            bits=activations.bits() if self.predicts_text else np.full(num_steps, np.nan),
            vocab_texts=self.vocab_texts,
            top_ids=top_ids,
            top_probs=top_probs,
            probes=[] if self.probe_report is None else [dataclasses.asdict(item) for item in self.probe_report.followed],
            importance=None if self.unit_importance is None else self.unit_importance.reshape(-1),
            effects=[self._effect_dict(item) for item in self.effects],
            eos_positions=eos_positions,
            eos_ids=[] if self.eos_id is None else [self.eos_id],
            predicts_labels=not self.predicts_text,
            is_series=self.is_series,
        )

    def _repr_html_(self) -> str:
        if self.page_path is None:
            return super()._repr_html_()
        return page_frame(self.page_path, explorer_page(self.explorer_data()))

    @property
    def predicts_text(self) -> bool:
        """Whether the model predicts the tokens of the text itself (a text model, not a table model)."""
        return isinstance(self.session, TextSession)

    def _effect_dict(self, effect: InterventionEffect) -> dict[str, Any]:
        features = (
            {} if self.probe_report is None else {(p.layer, p.unit): p.feature for p in reversed(self.probe_report.followed)}
        )
        layer, unit, value, _ = effect.clamp
        return {
            "layer": layer, "unit": unit, "value": value, "feature": features.get((layer, unit), ""),
            "bits": effect.mean_bit_change, "changes": np.nan_to_num(effect.bit_changes), "before": effect.sample_before,
            "after": effect.sample_after, "seed": effect.seed,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON values, without the arrays."""
        probe_report = self.probe_report or ProbeReport([], [], 0.0)
        effects = [{k: v for k, v in self._effect_dict(item).items() if k != "changes"} for item in self.effects]
        return {
            "page": None if self.page_path is None else str(self.page_path),
            "tokens": len(self.activations.tokenized),
            "detectors": [dataclasses.asdict(item) for item in probe_report.best_units],
            "units": [dataclasses.asdict(item) for item in probe_report.best_features if item.is_detector],
            "detector_fraction": probe_report.detector_fraction,
            "effects": effects,
        }

    def summary(self) -> str:
        """Return the results as a few lines of text."""
        lines = []
        if self.probe_report is not None and self.probe_report.best_units:
            lines += [f"{'unit':>7}  {'score':>6} {'':11}  follows"]
            followed = [item for item in self.probe_report.followed if not item.trivial]
            lines += [_detector_line(item) for item in followed]
            lines += (
                ["        *: a detector: its score is high, and chance does not explain it"]
                if any(item.is_detector for item in followed)
                else []
            )
            lines += [f"{self.probe_report.detector_fraction:.1%} of the units are detectors of a feature that needs memory"]
        lines += [_effect_line(item) for item in self.effects]
        return "\n".join([*lines, f"page: {self.page_path}"])

    def print_colored(self, neuron: str | None) -> None:
        """Print the text on the terminal, colored by one unit: `neuron` ("LAYER.UNIT"), or the best detector; with a line of
        marks below each line where there are no colors."""
        activations = self.activations
        if neuron is not None:
            layer, unit, _, _ = parse_clamp(neuron, "--neuron")
            _require_unit(activations, layer, unit)
            heading = f"unit {layer}.{unit}"
        else:
            best = next(iter(self.probe_report.best_units), None) if self.probe_report is not None else None
            layer, unit = (best.layer, best.unit) if best else (0, 0)
            heading = f"unit {layer}.{unit}" + (f" follows {best.feature} ({best.description})" if best else "")
        values = activations.h[:, layer, unit] if activations.c is None else np.tanh(activations.c[:, layer, unit])
        console = ResultConsole(highlight=False, soft_wrap=True)
        texts = activations.tokenized.token_texts
        if console.color_system is None or console.no_color:
            console.print(f"{heading}: + below what is at least {MARKED_VALUE}, - below what is at most -{MARKED_VALUE}")
            console.print(mark_text(texts, values), markup=False)
            return
        console.print(f"{heading}: green = positive, blue = negative")
        console.print(color_text(texts, values, activation_color))


def explain_text(session: TextSession, name: str | None, options: ExplainOptions) -> ExplainResult:
    """Record a model's activations while it reads a text (None: its validation text), and write the page.

    Raises `DataError` for a text of fewer than two tokens, `UsageError` for a unit that does not exist.
    """
    check_outputs(options, (session.path, name), session.run_path, explorer_path(session))
    clamps = [parse_clamp(text) for text in options.clamp]
    tokenized = (
        session.held_out_text(options.length)
        if name is None
        else session.first_tokens(name, options.length, TableFormat(options.header, options.encoding))
    )
    if len(tokenized) < 2:
        raise DataError("The text has one token: at least two are needed, to predict one from the other.")
    activations = record_activations(session.model, tokenized)
    for clamp in clamps:
        _require_unit(activations, clamp.layer, clamp.unit)
    probe_report = _probe_units(session, activations, options)
    tokenizer = session.tokenizer
    result = ExplainResult(session, activations, probe_report, tokenizer.token_strings(), tokenizer.eos_id)
    if options.terminal:
        return write_outputs(result, options)
    logger.info("measuring the importance of each unit, and the effect of interventions")
    importance = unit_importance(session.model, tokenized.head(_importance_tokens(session.model)))
    chosen_clamps = clamps or _detector_clamps(probe_report, activations)
    sample_options = SampleOptions(length=SAMPLE_TOKENS, temperature=SAMPLE_TEMPERATURE, seed=options.seed)
    bits = activations.bits()
    effects = [
        measure_effect(session.model, session.tokenizer, tokenized, clamp, sample_options, bits) for clamp in chosen_clamps
    ]
    return write_outputs(dataclasses.replace(result, unit_importance=importance, effects=effects), options)


def explorer_path(session: TextSession | TableSession) -> Path:
    """Return the path of the page if none is given: in the run folder, or else in the working folder."""
    return (session.run_path or Path()) / "explain.html"


def write_outputs(result: ExplainResult, options: ExplainOptions) -> ExplainResult:
    """Write the page (not with `--terminal`) and, if requested, the arrays."""
    if options.save_activations is not None:
        _save_activations(Path(options.save_activations), result.activations)
    if options.terminal:
        return result
    page = explorer_path(result.session) if options.out is None else Path(options.out)
    write_atomic(page, explorer_page(result.explorer_data()).encode())
    return dataclasses.replace(result, page_path=page)


def _probe_units(session: TextSession, shown_activations: Activations, options: ExplainOptions) -> ProbeReport | None:
    """Compare units with features: on the run's validation text or, without a run, on the displayed text if long enough."""
    activations = shown_activations
    if session.run is not None:
        try:
            activations = record_activations(session.model, session.held_out_text(options.probe_length))
        except DataError as error:  # the text that was named is read nevertheless
            logger.warning(f"{error} Detectors are searched for on the text that is shown.")
    return probe_text(activations, options.seed)


def probe_text(activations: Activations, seed: int) -> ProbeReport | None:
    """Compare units with the features of the text that was read; return None, and say why, if it is too short."""
    tokenized = activations.tokenized
    if reason := too_short_to_probe(len(tokenized)):
        logger.info(reason)
        return None
    logger.info(f"searching for detectors on {len(tokenized):,} tokens")
    return probe_units(activations, tokenized.one_char_per_token(), seed)


def _importance_tokens(model: RecurrentLM) -> int:
    """Return on how many tokens the importance of each unit is measured."""
    num_weights = sum(parameter.numel() for parameter in model.stack.parameters())
    work = num_weights * model.options.hidden * len(model.cells())
    return max(MIN_IMPORTANCE_TOKENS, min(IMPORTANCE_TOKENS, int(IMPORTANCE_WORK / work)))


def _detector_clamps(probe_report: ProbeReport | None, activations: Activations) -> list[Clamp]:
    """Return two clamps for each of the best detectors: to zero, and to its typical value where its feature is on."""
    clamps: list[Clamp] = []
    seen: set[tuple[int, int]] = set()
    for detector in probe_report.best_units if probe_report else []:
        if not detector.is_detector or (detector.layer, detector.unit) in seen or len(seen) == MAX_CLAMPED_DETECTORS:
            continue
        seen.add((detector.layer, detector.unit))
        states = activations.h[:, detector.layer, detector.unit]
        extreme = float(np.percentile(states, CLAMP_PERCENTILE if detector.sign > 0 else 100 - CLAMP_PERCENTILE))
        values = dict.fromkeys((0.0, round(extreme, 2)))  # a unit may be 0 nearly everywhere
        clamps += [Clamp(detector.layer, detector.unit, value) for value in values]
    return clamps


def _require_unit(activations: Activations, layer: int, unit: int) -> None:
    _, layers, hidden_size = activations.h.shape
    if not (0 <= layer < layers and 0 <= unit < hidden_size):
        raise UsageError(f"There is no unit {layer}.{unit}: layers are 0 to {layers - 1}, units 0 to {hidden_size - 1}.")


def _save_activations(path: Path, activations: Activations) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **activations.arrays())  # type: ignore[arg-type]  # its stub takes every name for allow_pickle
    write_atomic(path, buffer.getvalue())
    logger.info(f"arrays: {path}")


def _detector_line(detector: Probe) -> str:
    mark = "*" if detector.is_detector else " "
    name = f"{detector.layer}.{detector.unit}"
    return f"{name:>7}{mark} {detector.score:6.3f} {detector.kind:11}  {detector.feature} ({detector.description})"


def _effect_line(effect: InterventionEffect) -> str:
    layer, unit, value, _ = effect.clamp
    return f"{layer}.{unit} clamped to {value:g}: {effect.mean_bit_change:+.4f} bits per token"
