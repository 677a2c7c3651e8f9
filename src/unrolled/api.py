"""The same calls from Python: `train`, `load`, `Model`. The command line makes these calls and no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unrolled import job
from unrolled.data.corpus import Corpus, open_corpus
from unrolled.errors import DataError, UsageError
from unrolled.inference.evaluate import Evaluation, evaluate
from unrolled.inference.generate import Sample, first_seed, generate, prompt_ids, stream_text
from unrolled.job import Outcome
from unrolled.nn.machine import choose_machine
from unrolled.options import DataOptions, EvaluateOptions, MachineOptions, SampleOptions, TrainRequest, check, from_dict
from unrolled.store.model_file import load_model
from unrolled.store.run import Run, find_model
from unrolled.training.loop import Observer
from unrolled.views.console import Plain, Quiet


class Model:
    """A trained model with all it needs to sample and be evaluated. `path` is its file, `run` its run folder, if any."""

    def __init__(self, path: Path, machine: MachineOptions | None = None) -> None:
        self.path = find_model(path)
        self.saved = load_model(self.path)
        self.vocabulary, self.history = self.saved.vocabulary, self.saved.history
        self.outcome: Outcome | None = None
        options = machine or MachineOptions()
        here = choose_machine(options)
        self.network = self.saved.model.to(here.device).eval()
        self.machine, self.kernels = job.choose_kernel(self.network, here, options, lambda note: None)
        folder = self.path.parent
        self.run = Run(folder) if (folder / "config.json").is_file() else None

    def __repr__(self) -> str:
        options = self.network.options
        shape = f"{options.layers}x{options.hidden} {options.cell}"
        return f"<unrolled.Model {shape}, {self.parameters:,} parameters, {self.vocabulary.size} symbols, {self.path}>"

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.network.parameters())

    def sample(self, prompt: str = "", **options: Any) -> str:
        """Return one sample, its prompt included. Options are those of `unrolled sample`: length, temperature, seed ..."""
        return next(self.samples(prompt, **{**options, "count": 1})).text

    def samples(self, prompt: str = "", **options: Any) -> Iterator[Sample]:
        """Yield `count` samples with their seeds; sample i is what the seed `seed + i` draws, alone or among others."""
        chosen = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        return generate(self.network, self.vocabulary, chosen, first_seed(chosen))

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Yield one sample after its prompt, piece by piece as it is drawn; memory and time a symbol do not grow."""
        chosen = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        return stream_text(self.network, self.vocabulary, chosen, first_seed(chosen))

    def replaced(self, prompt: str) -> dict[str, str]:
        """Return the characters of a prompt that the model never saw, each with what it is read as."""
        return prompt_ids(self.vocabulary, prompt)[1]

    def evaluate(self, *inputs: str, **options: Any) -> Evaluation:
        """Return the loss on `inputs` (files, folders), or on the run's own text.

        `split`: train, validation or all; `window`: start every N symbols from zero. What the model's vocabulary lacks is left
        out and counted as `unknown`.
        """
        chosen = from_dict(EvaluateOptions, options, "evaluate")
        split = chosen.split or ("all" if inputs else "validation")
        fraction, corpus = self._read(inputs)
        first, last = corpus.split(fraction)
        ids = {"train": first, "validation": last, "all": corpus.ids}[split]
        if len(ids) < 2:
            raise DataError(
                f"There are {len(ids)} known symbols to evaluate ({corpus.unknown} unknown); at least 2 are needed."
            )
        end, longest = self.vocabulary.end, corpus.longest
        begins = self.vocabulary.begins_character() if corpus.is_text else None
        result = evaluate(self.network, self.machine, ids, end, longest, chosen.window, begins=begins)
        return dataclasses.replace(result, unknown=corpus.unknown)

    def _read(self, inputs: tuple[str, ...]) -> tuple[float, Corpus]:
        """Return the share that trains, and the text: `inputs` in the model's symbols, or what the run was trained on."""
        if self.run is None:
            request, key, text = TrainRequest(), "", ""
        else:
            request, key, text = job.saved_request(self.run)
        if inputs:
            own = {"tokens": self.vocabulary.to_json()["kind"], "unit": self.saved.unit}
            data = from_dict(DataOptions, dataclasses.asdict(request.data) | own, str(self.path))
            return data.train_fraction, open_corpus(inputs, data, self.vocabulary)
        if self.run is None:
            raise UsageError(f"{self.path} is a model without its run folder: name the text to evaluate it on.")
        return request.data.train_fraction, job.same_corpus(request, key, text, lambda note: None)


def train(*inputs: str, preset: str | None = None, resume: str | None = None, progress: bool = True, **options: Any) -> Model:
    """Train on texts (files, folders; none: a built-in corpus) and return the best model.

    Options are those of `unrolled train`: `minutes=3`, `hidden=512`, `cell="gru"`, `unit="line"`, `out="runs/x"` ... A stop
    signal (Ctrl-C) saves, and the model trained so far is returned; `model.outcome.stopped` tells. `resume` goes on with a
    run.
    """
    observer: Observer = Plain() if progress else Quiet()
    if resume is not None:
        work = job.resume(Path(resume), options, observer)
    else:
        work = job.start(TrainRequest.build(tuple(map(str, inputs)), options, "train", preset), observer)
    outcome = work.train()
    model = Model(Path(outcome.model), work.request.machine)
    model.outcome = outcome
    return model


def load(path: str | Path, **options: Any) -> Model:
    """Load a model from a run folder, a checkpoint or a model file. Options: device, precision, threads, kernels."""
    machine = from_dict(MachineOptions, options, "load")
    check(machine)
    return Model(Path(path), machine)
