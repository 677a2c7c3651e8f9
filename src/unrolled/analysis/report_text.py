"""The report of a run on a text: how good it is beside counting, where the bits go, what it copied, what goes on inside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unrolled.analysis.baselines import MOST_COUNTED, Baselines, baselines, samples
from unrolled.analysis.explain_text import one_each
from unrolled.analysis.report_data import Note, made, run_parts, spent
from unrolled.analysis.text_session import Subject
from unrolled.evaluation.language_model import Evaluation, evaluate
from unrolled.evaluation.memorization import known_documents, memorised
from unrolled.evaluation.ngram import KneserNey
from unrolled.generation.sampling import Sample, generate
from unrolled.interpret.activations import Trace, trace
from unrolled.interpret.context_use import Reach, reach
from unrolled.interpret.gate_saturation import histograms, saturation
from unrolled.interpret.loss_breakdown import anatomy, words
from unrolled.interpret.probes import Findings, Probe, probe
from unrolled.options import ReportOptions, SampleOptions
from unrolled.text.tokenizer import Ids

LOOKED_AT = 30_000
"""Symbols of the held-out text that are looked at inside the model."""

REACHED = 200_000
WORDS_COUNTED = 10_000_000
"""Symbols of the training text whose words are counted, to know the rare ones."""

SEARCHED = 1 << 27
"""Symbols of the training text that samples are searched in; of a longer one, its end."""

SAMPLE_LENGTH = 1000
DOCUMENTS = 200
LONG_COPY = 60
"""Symbols in one piece from which on a sample has learned a passage by heart."""

SNIPPET = 400
SNIPPET_UNITS = 4


class TextReport:
    """What is found out about a model of texts; `data` is all of it, as the page takes it."""

    def __init__(self, subject: Subject, options: ReportOptions, note: Note) -> None:
        self.subject, self.options, self.note = subject, options, note
        self.train, self.held = subject.parts()
        self.looked = trace(subject.model, subject.held_out(LOOKED_AT))

    def data(self) -> dict[str, Any]:
        """Measure everything and return it."""
        subject = self.subject
        self.note("the loss on the text held out")
        result = self._evaluate()
        counted = baselines(subject.vocabulary, self.train, self.held, self.options.order, True, self.note)
        self.note(f"samples, searched for in {min(len(self.train), SEARCHED):,} symbols of the training text")
        memory, written = self._memory()
        self.note(f"what units follow, on {len(self.looked.reading):,} symbols, and how far back they remember")
        findings = probe(self.looked, one_each(self.looked.reading), seed=self.options.seed)
        back = reach(subject.model, subject.machine, np.asarray(self.held[:REACHED]).astype(np.int64), subject.vocabulary.end)
        parts = run_parts(subject.run, len(self.train))
        parts["curves"]["references"] = [
            {"name": f"{counted.best[0]}-gram", "nats": counted.best[1]}, {"name": "xz", "nats": counted.xz},
        ]  # fmt: skip
        history = subject.saved.history
        return {
            "title": subject.name,
            "subtitle": subject.shape,
            "created": made(),
            "command": f"unrolled sample {subject.path.parent}",
            "headline": self._headline(result, counted, memory, findings),
            "diagnosis": history.get("verdict") or "",
            "advice": advice(result, counted, memory, back),
            **parts,
            "baselines": _baseline_rows(counted, result),
            "ngram_samples": [{"name": f"{n}-gram", "text": text} for n, text in self._counting_writes().items()],
            "model_sample": written[0].text[: SAMPLE_LENGTH // 2] if written else "",
            "loss_breakdown": self._anatomy(counted),
            "memorization": memory,
            "detectors": self._detectors(findings),
            **_ranges(self.looked),
            "context_use": None if back is None else _reach(back),
        }

    def _evaluate(self) -> Evaluation:
        subject = self.subject
        fraction, corpus = subject.corpus(())
        begins = subject.vocabulary.begins_character() if corpus.is_text else None
        return evaluate(subject.model, subject.machine, self.held, subject.vocabulary.end, corpus.longest, begins=begins)

    def _headline(
        self, result: Evaluation, counted: Baselines, memory: dict[str, Any], findings: Findings
    ) -> list[dict[str, str]]:
        order, best = counted.best
        return [
            {"name": "held-out text", "value": f"{result.nats:.3f} nats", "note": f"{result.bits:.3f} bits a character"},
            {
                "name": f"best n-gram ({order})",
                "value": f"{best:.3f} nats",
                "note": f"{abs(best - result.nats):.3f} {'more' if best > result.nats else 'less'} than the network",
            },
            spent(self.subject.run),
            {"name": "longest copied run", "value": f"{memory['longest_copy']} symbols", "note": "in samples"},
            {"name": "detectors", "value": f"{findings.share:.0%}", "note": "of the units follow something"},
        ]

    def _counting_writes(self) -> dict[int, str]:
        return samples(self.subject.vocabulary, self.train, self.options.seed)

    def _anatomy(self, counted: Baselines) -> dict[str, Any]:
        reading, order = self.looked.reading, counted.best[0]
        counting = KneserNey(np.asarray(self.train[-MOST_COUNTED:]), self.subject.vocabulary.size, order)
        losses = counting.losses(reading.ids[1:], np.concatenate([self.train[-order:], reading.ids[:1]]))
        bits = np.append(np.nan, losses / math.log(2))
        common = words(self.subject.vocabulary.decode(np.asarray(self.train[-WORDS_COUNTED:]).tolist()))
        parts = anatomy(reading.shown, [self.looked.bits(), bits], common)
        rows = [{"name": part.name, "tokens": part.symbols, "bits": list(part.bits)} for part in parts]
        return {"models": ["this model", f"{order}-gram"], "rows": rows}

    def _memory(self) -> tuple[dict[str, Any], list[Sample]]:
        """Draw samples and look for them in the training text, and for as much real text that was held out."""
        subject, options = self.subject, self.options
        vocabulary, train = subject.vocabulary, self.train[-SEARCHED:]
        count = options.samples if vocabulary.end is None else DOCUMENTS
        asked = SampleOptions(length=SAMPLE_LENGTH, count=count)
        drawn = list(generate(subject.model, vocabulary, asked, options.seed, precision=subject.sampling))
        ids = [vocabulary.align(vocabulary.points(sample.text))[0] for sample in drawn]
        found = [memorised(train, own) for own in ids]
        longest = max(range(len(found)), key=lambda index: found[index].longest)
        start = found[longest].in_sample
        real = memorised(train, np.asarray(self.held[: SAMPLE_LENGTH * options.samples]))
        sizes = np.array([len(own) for own in ids])
        novelty = []
        for n in range(1, min(51, len(real.novelty) + 1)):
            grams = np.maximum(sizes - n + 1, 0)
            shares = [one.novelty[n - 1] if len(one.novelty) >= n else 0.0 for one in found]
            if grams.sum():
                novelty.append([n, float(np.dot(shares, grams) / grams.sum()), real.novelty[n - 1]])
        return {
            "samples": len(drawn), "tokens": int(sizes.sum()), "seed": options.seed + longest,
            "longest_copy": found[longest].longest, "new_ngrams": novelty,
            "copied_text": vocabulary.decode(ids[longest][start : start + found[longest].longest].tolist()),
            "documents": None if vocabulary.end is None else _documents(train, vocabulary.end, ids),
        }, drawn  # fmt: skip

    def _detectors(self, findings: Findings) -> dict[str, Any]:
        found = self.looked
        states = found.h if found.c is None else np.tanh(found.c)
        rows = [_detector(one) for one in findings.features if one.p <= 0.05]
        best = [one for one in findings.features if one.strong][:SNIPPET_UNITS]
        shown = [
            {
                "layer": one.layer,
                "neuron": one.unit,
                "feature": one.feature,
                "values": np.round(states[:SNIPPET, one.layer, one.unit], 2).tolist(),
            }
            for one in best
        ]
        snippet = {"tokens": found.reading.shown[:SNIPPET], "rows": shown} if shown else None
        return {"share": findings.share, "tokens": len(found.reading), "rows": rows, "snippet": snippet}


def advice(result: Evaluation, counted: Baselines, memory: dict[str, Any], back: Reach | None) -> list[str]:
    """Return what to try next, by what was measured."""
    said = []
    order, best = counted.best
    if best < result.nats:
        said.append(f"Counting ({order}-grams) predicts this text better: train longer, or give a larger --hidden.")
    if memory["longest_copy"] >= LONG_COPY:
        said.append(f"A sample repeats {memory['longest_copy']} symbols of the training text: more text, or more --dropout.")
    copied, real = memory["new_ngrams"][7][1:] if len(memory["new_ngrams"]) > 7 else (1.0, 1.0)
    if real > 0 and copied < 0.8 * real:
        said.append(
            f"Samples have fewer new 8-grams ({copied:.0%}) than real text ({real:.0%}): raise --temperature or --dropout."
        )
    if back is not None and back.enough == back.contexts[-1] and len(back.contexts) > 1:
        said.append("It gains from the longest context that was tried: a larger --bptt may bring more.")
    return said or ["Nothing stands out: more time and more text are what is left to try."]


def _detector(one: Probe) -> dict[str, Any]:
    return {
        "layer": one.layer, "neuron": one.unit, "feature": one.feature, "description": one.means, "metric": one.kind,
        "score": one.score, "sign": one.sign, "p_value": one.p, "is_detector": one.strong,
    }  # fmt: skip


def _documents(train: Ids, end: int, ids: list[Any]) -> dict[str, Any]:
    known = known_documents(train, end, ids)
    distinct = len({own.tobytes() for own in ids})
    return {"generated": len(ids), "new": float(1 - known.mean()), "distinct": distinct / max(1, len(ids))}


def _baseline_rows(counted: Baselines, result: Evaluation) -> dict[str, Any]:
    rows = [
        {"name": name, "nats": nats, "bits": nats / math.log(2), "is_model": False} for name, nats in counted.to_json().items()
    ]
    rows.append({"name": "this model", "nats": result.nats, "bits": result.bits, "is_model": True})
    note = f"n-grams: interpolated modified Kneser-Ney, counted in {counted.counted:,} symbols of the training text."
    return {"rows": rows, "note": note}


def _ranges(found: Trace) -> dict[str, Any]:
    gates = saturation(found)
    _, layers, size = found.h.shape
    points = {name: np.round(values.reshape(-1, 2), 3).tolist() for name, values in gates.items()}
    return {
        "gate_saturation": {"names": list(gates), "layers": layers, "hidden_size": size, "points": points} if gates else None,
        "histograms": [
            {"name": one.name, "low": one.low, "high": one.high, "counts": one.counts.tolist()} for one in histograms(found)
        ],
    }


def _reach(back: Reach) -> dict[str, Any]:
    return {
        "contexts": list(back.contexts), "nats": back.nats.tolist(), "effective_context": back.enough,
        "gradient_share": back.gradient.tolist(),
    }  # fmt: skip
