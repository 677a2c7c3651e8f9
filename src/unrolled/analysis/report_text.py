"""The report of a run on a text: loss and baselines, loss by class of token, memorization, detectors and use of context."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from unrolled.analysis.baselines import MAX_TRAIN_TOKENS, Baselines, measure_baselines, ngram_samples
from unrolled.analysis.explain_text import probe_text
from unrolled.analysis.keep_if import CheckingCommand
from unrolled.analysis.novel_samples import sample_ids
from unrolled.analysis.report_data import created_by, run_evidence, run_sections, training_time
from unrolled.analysis.text_session import TextSession
from unrolled.display import shell_argument
from unrolled.errors import UsageError
from unrolled.evaluation.memorization import find_known_documents, measure_memorization
from unrolled.evaluation.ngram import KneserNey
from unrolled.evaluation.text_loss import Evaluation, evaluate_part
from unrolled.generation.sampling import Sample, generate
from unrolled.interpret.activations import Activations, record_activations
from unrolled.interpret.context_use import ContextUse, measure_context_use
from unrolled.interpret.gate_saturation import activation_histograms, gate_saturation
from unrolled.interpret.loss_breakdown import count_words, loss_by_class
from unrolled.interpret.probes import Probe, ProbeReport, too_short_to_probe
from unrolled.options import ReportOptions, SampleOptions
from unrolled.text.tokenizer import Ids
from unrolled.training.diagnosis import MIN_GAIN_NATS, advise

logger = logging.getLogger(__name__)

MAX_RECORDED_TOKENS = 30_000
"""Tokens of the validation text on which activations are recorded."""

MAX_CONTEXT_TOKENS = 200_000
MAX_WORD_COUNT_TOKENS = 10_000_000
"""Tokens of the training text whose words are counted, to find the rare words."""

MAX_SEARCHED_TOKENS = 1 << 27
"""Tokens of the training text that samples are searched in; of a longer one, the last ones."""

SAMPLE_TOKENS = 1000
NUM_DOCUMENT_SAMPLES = 200
SNIPPET_TOKENS = 400
SNIPPET_UNITS = 4


class TextReportBuilder:
    """Measures a text model; `build` returns the data of the page."""

    def __init__(self, session: TextSession, options: ReportOptions) -> None:
        self.session, self.options = session, options
        self.train_ids, self.held_out_ids = session.train_and_held_out()
        self.activations = record_activations(session.model, session.held_out_text(MAX_RECORDED_TOKENS))

    def build(self) -> dict[str, Any]:
        """Measure everything and return the data of the page."""
        session = self.session
        logger.info("measuring the loss on the validation text")
        evaluation = evaluate_part(session.corpus(())[0], self.held_out_ids, session.model, session.machine)
        baselines = measure_baselines(session.tokenizer, self.train_ids, self.held_out_ids, self.options.order, True)
        num_searched = min(len(self.train_ids), MAX_SEARCHED_TOKENS)
        logger.info(f"searching for samples in {num_searched:,} tokens of the training text")
        copying, samples = self._copying()
        probe_report = probe_text(self.activations, self.options.seed)
        logger.info("measuring the use of context")
        context_use = measure_context_use(
            session.model,
            session.machine,
            np.asarray(self.held_out_ids[:MAX_CONTEXT_TOKENS]).astype(np.int64),
            session.tokenizer.eos_id,
        )
        run_data = run_sections(session.run, len(self.train_ids))
        run_data["curves"]["references"] = [
            {"name": f"{baselines.best_ngram[0]}-gram", "nats": baselines.best_ngram[1]}, {"name": "xz", "nats": baselines.xz},
        ]  # fmt: skip
        history = session.saved.history
        return {
            "title": session.name,
            "subtitle": session.description,
            "created": created_by(),
            "command": f"unrolled sample {shell_argument(session.path.parent)}",
            "headline": self._headline(evaluation, baselines, copying, probe_report),
            "diagnosis": history.get("diagnosis") or "",
            "advice": self._advice(evaluation, baselines, copying, context_use, run_data),
            **run_data,
            "baselines": _baseline_rows(baselines, evaluation),
            "ngram_samples": self._ngram_samples(),
            "model_sample": samples[0].text[: SAMPLE_TOKENS // 2] if samples else "",
            "loss_breakdown": self._loss_breakdown(baselines),
            "memorization": copying,
            "detectors": self._detectors(probe_report),
            **_activation_plots(self.activations),
            "context_use": None if context_use is None else _context_use_dict(context_use),
        }

    def _headline(
        self, evaluation: Evaluation, baselines: Baselines, copying: dict[str, Any], probe_report: ProbeReport | None
    ) -> list[dict[str, str]]:
        order, best_nats = baselines.best_ngram
        return [
            {
                "name": "bits per character",
                "value": f"{evaluation.bits:.3f}",
                "note": f"{evaluation.nats:.3f} nats, on the validation text"
                + (
                    "" if evaluation.num_tokens == evaluation.num_chars else f"; {evaluation.bits_per_token:.3f} bits per token"
                ),
            },
            {
                "name": f"best n-gram ({order})",
                "value": f"{best_nats / math.log(2):.3f}",
                "note": f"{abs(best_nats - evaluation.nats) / math.log(2):.3f} bits "
                f"{'more' if best_nats > evaluation.nats else 'less'} than this model",
            },
            training_time(self.session.run),
            {"name": "longest copy", "value": f"{copying['longest_copy']} tokens", "note": "of the training text, in samples"},
            _detector_headline(probe_report, len(self.activations.tokenized)),
        ]

    def _ngram_samples(self) -> list[dict[str, str]]:
        samples = ngram_samples(self.session.tokenizer, self.train_ids, self.options.seed)
        return [{"name": f"{n}-gram", "text": text} for n, text in samples.items()]

    def _loss_breakdown(self, baselines: Baselines) -> dict[str, Any]:
        tokenized, order = self.activations.tokenized, baselines.best_ngram[0]
        ngram_model = KneserNey(np.asarray(self.train_ids[-MAX_TRAIN_TOKENS:]), self.session.tokenizer.vocab_size, order)
        losses = ngram_model.losses(tokenized.ids[1:], np.concatenate([self.train_ids[-order:], tokenized.ids[:1]]))
        bits = np.append(np.nan, losses / math.log(2))
        word_counts = count_words(self.session.tokenizer.decode(np.asarray(self.train_ids[-MAX_WORD_COUNT_TOKENS:]).tolist()))
        class_losses = loss_by_class(tokenized.token_texts, [self.activations.bits(), bits], word_counts)
        rows = [
            {"name": class_loss.name, "tokens": class_loss.num_tokens, "bits": list(class_loss.bits)}
            for class_loss in class_losses
        ]
        return {"models": ["this model", f"{order}-gram"], "rows": rows}

    def _copying(self) -> tuple[dict[str, Any], list[Sample]]:
        """Draw samples and search for them, and for validation text of the same length, in the training text."""
        session, options = self.session, self.options
        tokenizer, train_ids = session.tokenizer, self.train_ids[-MAX_SEARCHED_TOKENS:]
        if options.keep_if is not None and tokenizer.eos_id is None:
            raise UsageError("--keep-if judges documents, and this model has none: train with --documents, or leave it out.")
        count = options.samples if tokenizer.eos_id is None else NUM_DOCUMENT_SAMPLES
        sample_options = SampleOptions(length=SAMPLE_TOKENS, count=count)
        samples = list(generate(session.network, tokenizer, sample_options, options.seed, precision=session.sampling_precision))
        all_ids = [sample_ids(tokenizer, sample) for sample in samples]
        copy_stats = [measure_memorization(train_ids, ids) for ids in all_ids]
        most_copied = max(range(len(copy_stats)), key=lambda index: copy_stats[index].longest_match)
        start, length = copy_stats[most_copied].sample_start, copy_stats[most_copied].longest_match
        held_out_stats = measure_memorization(train_ids, np.asarray(self.held_out_ids[: SAMPLE_TOKENS * options.samples]))
        lengths = np.array([len(ids) for ids in all_ids])
        novelty = []
        for n in range(1, min(51, len(held_out_stats.novel_ngram_rates) + 1)):
            num_ngrams = np.maximum(lengths - n + 1, 0)
            rates = [stats.novel_ngram_rates[n - 1] if len(stats.novel_ngram_rates) >= n else 0.0 for stats in copy_stats]
            if num_ngrams.sum():
                novelty.append(
                    [n, float(np.dot(rates, num_ngrams) / num_ngrams.sum()), held_out_stats.novel_ngram_rates[n - 1]]
                )
        return {
            "samples": len(samples), "tokens": int(lengths.sum()), "seed": options.seed + most_copied,
            "longest_copy": length, "new_ngrams": novelty,
            "copied_text": tokenizer.decode(all_ids[most_copied][start : start + length].tolist()),
            "documents": None if tokenizer.eos_id is None else self._document_novelty(train_ids, samples, all_ids),
        }, samples  # fmt: skip

    def _document_novelty(self, train_ids: Ids, samples: list[Sample], all_ids: list[Ids]) -> dict[str, Any]:
        """Return which shares of generated documents are valid (None without `keep_if`), new, and differ from one another."""
        is_known = find_known_documents(train_ids, self.session.tokenizer.eos_id or 0, all_ids)
        num_distinct = len({ids.tobytes() for ids in all_ids})
        check = None if self.options.keep_if is None else CheckingCommand(self.options.keep_if)
        valid = None if check is None else sum(check.accepts(sample.text) for sample in samples) / max(1, len(samples))
        return {
            "generated": len(all_ids), "new": float(1 - is_known.mean()),
            "distinct": num_distinct / max(1, len(all_ids)), "valid": valid,
        }  # fmt: skip

    def _advice(
        self,
        evaluation: Evaluation,
        baselines: Baselines,
        copying: dict[str, Any],
        context_use: ContextUse | None,
        run_data: dict[str, Any],
    ) -> list[str]:
        """Return what to try next: the facts are measured here, and judged in `training/diagnosis.py`."""
        order, best_nats = baselines.best_ngram
        sample_rate, text_rate = copying["new_ngrams"][7][1:] if len(copying["new_ngrams"]) > 7 else (1.0, 1.0)
        lengths = () if context_use is None else context_use.context_lengths
        run, options = self.session.run, self.session.saved.options
        return advise(
            str(self.session.saved.history.get("diagnosis") or ""),
            better_ngram=order if best_nats < evaluation.nats - MIN_GAIN_NATS else None,
            longest_copy=copying["longest_copy"],
            new_ngram_rates=(sample_rate, text_rate),
            uses_longest_context=len(lengths) > 1 and context_use is not None and context_use.effective_context == lengths[-1],
            evidence=None if run is None else run_evidence(run, run_data, options, "text"),
        )

    def _detectors(self, probe_report: ProbeReport | None) -> dict[str, Any] | None:
        if probe_report is None:
            return None
        activations = self.activations
        states = activations.h if activations.c is None else np.tanh(activations.c)
        rows = [_detector(detector) for detector in probe_report.followed]
        detectors = [detector for detector in probe_report.best_units if detector.is_detector][:SNIPPET_UNITS]
        snippet_rows = [
            {
                "layer": detector.layer,
                "neuron": detector.unit,
                "feature": detector.feature,
                "values": np.round(states[:SNIPPET_TOKENS, detector.layer, detector.unit], 2).tolist(),
            }
            for detector in detectors
        ]
        snippet = {"tokens": activations.tokenized.token_texts[:SNIPPET_TOKENS], "rows": snippet_rows} if snippet_rows else None
        return {"share": probe_report.detector_fraction, "tokens": len(activations.tokenized), "rows": rows, "snippet": snippet}


def _detector_headline(probe_report: ProbeReport | None, num_tokens: int) -> dict[str, str]:
    if probe_report is None:
        return {"name": "detectors", "value": "not known", "note": too_short_to_probe(num_tokens)}
    return {
        "name": "detectors",
        "value": f"{probe_report.detector_fraction:.0%}",
        "note": "of the neurons follow a feature that needs memory",
    }


def _detector(one: Probe) -> dict[str, Any]:
    return {
        "layer": one.layer, "neuron": one.unit, "feature": one.feature, "description": one.description, "metric": one.kind,
        "score": one.score, "sign": one.sign, "p_value": one.p_value, "is_detector": one.is_detector,
    }  # fmt: skip


def _baseline_rows(baselines: Baselines, evaluation: Evaluation) -> dict[str, Any]:
    order, best_nats = baselines.best_ngram
    losses = {"uniform": baselines.uniform, f"{order}-gram (the best order)": best_nats, "xz": baselines.xz}
    rows = [{"name": name, "nats": nats, "bits": nats / math.log(2), "is_model": False} for name, nats in losses.items()]
    rows.append({"name": "this model", "nats": evaluation.nats, "bits": evaluation.bits, "is_model": True})
    note = f"n-grams: interpolated modified Kneser-Ney, counted in {baselines.num_counted:,} tokens of the training text."
    note += f" {baselines.other_orders()}" if baselines.other_orders() else ""
    return {"rows": rows, "note": note}


def _activation_plots(activations: Activations) -> dict[str, Any]:
    gates = gate_saturation(activations)
    _, num_layers, hidden_size = activations.h.shape
    shares_by_gate = {name: np.round(values.reshape(-1, 2), 3).tolist() for name, values in gates.items()}
    return {
        "gate_saturation": {"names": list(gates), "layers": num_layers, "hidden_size": hidden_size, "points": shares_by_gate}
        if gates
        else None,
        "histograms": [
            {"name": histogram.name, "low": histogram.low, "high": histogram.high, "counts": histogram.counts.tolist()}
            for histogram in activation_histograms(activations)
        ],
    }


def _context_use_dict(context_use: ContextUse) -> dict[str, Any]:
    return {
        "contexts": list(context_use.context_lengths), "nats": context_use.nats.tolist(),
        "effective_context": context_use.effective_context, "gradient_share": context_use.gradient_share.tolist(),
    }  # fmt: skip
