"""The same calls from Python: `train`, `load`, `Model`, `TableModel`. The command line makes these calls and no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from unrolled.analysis.baselines import Baselines, baselines
from unrolled.analysis.explain_table import explore_rows
from unrolled.analysis.explain_text import Explored, Note, explore
from unrolled.analysis.notebook import ShownRun, ShownSample, ShownTrace, facts
from unrolled.analysis.novel_samples import draw_samples
from unrolled.analysis.report_data import Written, write_report
from unrolled.analysis.report_table import report_rows
from unrolled.analysis.report_text import TextReport
from unrolled.analysis.score_text import Scored, open_scoring, score_text
from unrolled.analysis.table_session import RowSubject
from unrolled.analysis.text_session import Subject
from unrolled.checkpoints.model_file import Saved, SavedModel, SavedPairs, load_model
from unrolled.checkpoints.run_dir import find_model
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.evaluation.language_model import Evaluation, evaluate
from unrolled.evaluation.line_surprisal import Scoring
from unrolled.evaluation.metric_report import Report
from unrolled.evaluation.predictor import Answer, Answerer
from unrolled.generation.sampling import Sample, first_seed, prompt_ids, stepping, stream_text
from unrolled.interpret.activations import Trace, trace
from unrolled.interpret.intervention import hold_from
from unrolled.interpret.table_activations import RowTrace, row_trace
from unrolled.nn.device import choose_machine
from unrolled.options import (
    EvaluateOptions,
    ExplainOptions,
    MachineOptions,
    PredictOptions,
    ReportOptions,
    SampleOptions,
    ScoreOptions,
    TrainRequest,
    check,
    from_dict,
)
from unrolled.tables.cell_values import Cell
from unrolled.tables.table_files import Row, Table, open_table
from unrolled.text.corpus import Corpus
from unrolled.text.tokenizer import Ids
from unrolled.training import launch
from unrolled.training.callbacks import Observer
from unrolled.training.launch import Outcome
from unrolled.views.progress import Plain, Quiet


class Trained:
    """A trained model and where it came from. `path` is its file, `run` its run folder, if any."""

    def __init__(self, path: Path, saved: Saved, machine: MachineOptions | None = None) -> None:
        self.path, self.history = path, saved.history
        self.outcome: Outcome | None = None
        options = machine or MachineOptions()
        here = choose_machine(options)
        network = saved.model.to(here.device).eval()
        self.machine, self.kernels = launch.choose_kernel(network, here, options, lambda note: None)
        self.parameters = sum(weight.numel() for weight in network.parameters())
        folder = self.path.parent
        self.run = ShownRun(folder) if (folder / "config.json").is_file() else None

    def _repr_html_(self) -> str:
        nats = self.history.get("val_nats")
        loss = [("loss on what was held out", f"{nats:.4f} nats")] if isinstance(nats, float) else []
        return facts([("model", repr(self)), ("parameters", f"{self.parameters:,}"), *loss], self.run)


class Model(Trained):
    """A trained model of texts, with all it needs to sample and be evaluated."""

    def __init__(self, path: Path, saved: SavedModel, machine: MachineOptions | None = None) -> None:
        super().__init__(path, saved, machine)
        self.saved, self.network, self.vocabulary = saved, saved.model, saved.vocabulary
        self.subject = Subject(self.path, saved, self.machine, self.run)

    def __repr__(self) -> str:
        options = self.network.options
        shape = f"{options.layers}x{options.hidden} {options.cell}"
        return f"<unrolled.Model {shape}, {self.parameters:,} parameters, {self.vocabulary.size} symbols, {self.path}>"

    def sample(self, prompt: str = "", **options: Any) -> str:
        """Return one sample, its prompt included. Options are those of `unrolled sample`: length, temperature, seed ..."""
        return next(self.samples(prompt, **{**options, "count": 1})).text

    def samples(self, prompt: str = "", **options: Any) -> Iterator[Sample]:
        """Yield `count` samples with their seeds; sample i is what the seed `seed + i` draws, alone or among others."""
        chosen = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        for sample in draw_samples(self.subject, chosen, first_seed(chosen)):
            yield ShownSample(**vars(sample), colour=lambda text: self.score(text)._repr_html_())

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Yield one sample after its prompt, piece by piece as it is drawn; memory and time a symbol do not grow."""
        chosen = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        if chosen.novel_only:
            raise UsageError("Whether a sample is novel is known when it is whole: ask `samples`, and not `stream`.")
        holds = [hold_from(unit) for unit in chosen.clamp]
        return stream_text(self.network, self.vocabulary, chosen, first_seed(chosen), holds, self.subject.sampling)

    def sampling(self, **options: Any) -> dict[str, str]:
        """Return with which `step` and which `precision` samples are drawn: native, with its instruction set, or reference."""
        chosen = from_dict(SampleOptions, options, "sample")
        return stepping(self.network, chosen, chosen.clamp, self.subject.sampling)

    def replaced(self, prompt: str) -> dict[str, str]:
        """Return the characters of a prompt that the model never saw, each with what it is read as."""
        return prompt_ids(self.vocabulary, prompt)[1]

    def evaluate(self, *inputs: str, **options: Any) -> Evaluation:
        """Return the loss on `inputs` (files, folders), or on the run's own text.

        `split`: train, validation or all; `window`: start every N symbols from zero. What the model's vocabulary lacks is left
        out and counted as `unknown`.
        """
        chosen = from_dict(EvaluateOptions, options, "evaluate")
        ids, corpus = self._part(inputs, chosen)
        if len(ids) < 2:
            raise DataError(
                f"There are {len(ids)} known symbols to evaluate ({corpus.unknown} unknown); at least 2 are needed."
            )
        end, longest = self.vocabulary.end, corpus.longest
        begins = self.vocabulary.begins_character() if corpus.is_text else None
        result = evaluate(self.network, self.machine, ids, end, longest, chosen.window, begins=begins)
        return dataclasses.replace(result, unknown=corpus.unknown)

    def _part(self, inputs: tuple[str, ...], chosen: EvaluateOptions) -> tuple[Ids, Corpus]:
        """Return the ids that are to be evaluated, and the text they are of."""
        fraction, corpus = self.subject.corpus(inputs)
        first, last = corpus.split(fraction)
        split = chosen.split or ("all" if inputs else "validation")
        return {"train": first, "validation": last, "all": corpus.ids}[split], corpus

    def baselines(self, *inputs: str, note: Note = lambda message: None, **options: Any) -> Baselines:
        """Return what n-grams, xz and chance make of the text that `evaluate` measures, counted in the run's training text."""
        chosen = from_dict(EvaluateOptions, options, "evaluate")
        if self.run is None:
            raise UsageError(f"{self.path} is a model without its run folder: n-grams need the text it was trained on.")
        ids, corpus = self._part(inputs, chosen)
        follows = not inputs and chosen.split in (None, "validation")
        return baselines(self.vocabulary, self.subject.parts()[0], ids, chosen.order, follows, note, corpus.is_text)

    def trace(self, text: str, clamp: Sequence[str] = ()) -> Trace:
        """Return what every unit does while the model reads a text: states, gates, odds, as arrays `(T, L, H)`.

        What the model never saw is read as the closest it knows. `clamp` holds units, as `--clamp` does.
        """
        found = trace(self.network, self.subject.reading(text), [hold_from(unit) for unit in clamp])
        return ShownTrace(**vars(found))

    def score(self, text: str, clamp: Sequence[str] = ()) -> Scored:
        """Return how surprising each character of a text is, in bits."""
        return score_text(self.subject, text, [hold_from(unit) for unit in clamp])

    def scoring(self, name: str | None = None, **options: Any) -> Scoring:
        """Return a text of any length being scored line by line: a file, a folder, `-`, or what the run held out.

        Options are those of `unrolled score`: against, clamp.
        """
        return open_scoring(self.subject, name, from_dict(ScoreOptions, options, "score"))

    def explain(self, name: str | None = None, note: Note = lambda message: None, **options: Any) -> Explored:
        """Look inside the model while it reads a text (a file or `-`; None: what its run held out), and write the explorer.

        Options are those of `unrolled explain`: length, clamp, out, arrays ... `note` is told what goes on.
        """
        return explore(self.subject, name, from_dict(ExplainOptions, options, "explain"), note)

    def report(self, note: Note = lambda message: None, **options: Any) -> Written:
        """Put the run on one page, and return what is on it. Options are those of `unrolled report`: out, order, samples."""
        chosen = from_dict(ReportOptions, options, "report")
        return write_report(self.run, self.path, chosen, lambda: TextReport(self.subject, chosen, note).data())


class TableModel(Trained):
    """A trained model of a table's two columns: it answers rows, and is judged by tables that have both columns."""

    def __init__(self, path: Path, saved: SavedPairs, machine: MachineOptions | None = None) -> None:
        super().__init__(path, saved, machine)
        self.saved, self.network, self.task = saved, saved.model, saved.task
        self.subject = RowSubject(self.path, saved, self.machine, self.run)

    def __repr__(self) -> str:
        task, options = self.task, self.network.options
        columns = f"{task.source.name}:{task.source.kind} -> {task.target.name}:{task.target.kind}"
        return (
            f"<unrolled.TableModel {columns}, {options.layers}x{options.hidden}, {self.parameters:,} parameters, {self.path}>"
        )

    def answers(self, values: Iterable[Any], **options: Any) -> list[Answer]:
        """Return what is answered to source values (texts, numbers, lists, arrays ...), with probabilities.

        Options are those of `unrolled predict`: beam, length_penalty, temperature, seed.
        """
        rows = (Cell(value, f"value {number}") for number, value in enumerate(values, 1))
        return list(self._answerer(options).stream(rows))

    def predict(self, values: Iterable[Any], **options: Any) -> list[str]:
        """Return the answers as texts."""
        return [answer.text for answer in self.answers(values, **options)]

    def attention(self, value: Any, **options: Any) -> tuple[Answer, NDArray[Any]]:
        """Return the answer to one source value, and the weights `(M, S)` with which its M symbols looked at the S steps.

        Raises `UsageError` for a model that does not write, or was trained with --no-attention.
        """
        answerer = self._answerer({"beam": 5, **options})
        answer, weights = answerer.looked(Cell(value, "value"))
        if weights is None:
            raise UsageError(f"{self.path} looks at nothing while it answers: it has no attention over a source.")
        return answer, weights

    def answer_table(self, name: str, **options: Any) -> tuple[Table, Iterator[tuple[Row, Answer]]]:
        """Open a table that has the source column; return it, and its rows with an answer each, as they come."""
        table = open_table(name, part="test")
        table.require(self.task.source.name)
        return table, self._answered(table, options)

    def _answered(self, table: Table, options: dict[str, Any]) -> Iterator[tuple[Row, Answer]]:
        waiting: list[Row] = []

        def sources() -> Iterator[Cell]:
            for line, row in table.rows():
                waiting.append(row)
                yield Cell(row[self.task.source.name], table.name, line, table.folder)

        for answer in self._answerer(options).stream(sources()):
            yield waiting.pop(0), answer

    def evaluate(self, name: str | None = None, **options: Any) -> Report:
        """Return the metrics on a table, or, without one, on the rows that the run held out (of a built-in table: its test)."""
        return self.subject.judged(name, from_dict(PredictOptions, options, "predict")).report

    def trace(self, value: Any, **options: Any) -> RowTrace:
        """Return what goes on inside while the model reads one source value and answers: states, gates, attention.

        Options are those of `unrolled predict`.
        """
        return row_trace(self._answerer({"beam": 5, **options}), Cell(value, "value"))

    def explain(self, name: str | None = None, note: Note = lambda message: None, **options: Any) -> Explored:
        """Look inside the model while it reads rows (of a table; None: those its run held out), and write the explorer."""
        return explore_rows(self.subject, name, from_dict(ExplainOptions, options, "explain"), note)

    def report(self, note: Note = lambda message: None, **options: Any) -> Written:
        """Put the run on one page: settings, curves, metrics beside baselines, confusion, attention, errors."""
        chosen = from_dict(ReportOptions, options, "report")
        return write_report(self.run, self.path, chosen, lambda: report_rows(self.subject, note))

    def _answerer(self, options: dict[str, Any]) -> Answerer:
        chosen = from_dict(PredictOptions, options, "predict")
        return self.subject.answerer(chosen)


def train(*inputs: str, preset: str | None = None, resume: str | None = None, progress: bool = True, **options: Any) -> Model:
    """Train on texts (files, folders; none: a built-in corpus) and return the best model.

    Options are those of `unrolled train`: `minutes=3`, `hidden=512`, `cell="gru"`, `unit="line"`, `out="runs/x"` ... A stop
    signal (Ctrl-C) saves, and the model trained so far is returned; `model.outcome.stopped` tells. `resume` goes on with a
    run.
    """
    return _of_texts(_train(inputs, preset, resume, progress, options))


def train_table(
    table: str, source: str | None = None, target: str | None = None, progress: bool = True, **options: Any
) -> TableModel:
    """Train on two columns of a table (a file, or `builtin:NAME`, which knows its columns) and return the best model.

    `source` and `target` are columns, as NAME or NAME:KIND; the mode follows. Options are those of `unrolled train`.
    """
    columns = {name: column for name, column in (("source", source), ("target", target)) if column is not None}
    return _of_tables(_train((table,), None, None, progress, {**columns, **options}))


def _train(
    inputs: tuple[str, ...], preset: str | None, resume: str | None, progress: bool, options: dict[str, Any]
) -> Model | TableModel:
    observer: Observer = Plain() if progress else Quiet()
    if resume is not None:
        allow = bool(options.pop("allow_change", False))
        work = launch.resume(Path(resume), options, observer, allow)
    else:
        work = launch.start(TrainRequest.build(tuple(map(str, inputs)), options, "train", preset), observer)
    outcome = work.train()
    model = open_model(Path(outcome.model), work.request.machine)
    model.outcome = outcome
    return model


def load(path: str | Path, **options: Any) -> Model:
    """Load a model of texts from a run folder, a checkpoint or a model file. Options: device, precision, threads, kernels."""
    return _of_texts(open_model(Path(path), _machine(options)))


def load_table(path: str | Path, **options: Any) -> TableModel:
    """Load a model of a table, as `load` does one of texts."""
    return _of_tables(open_model(Path(path), _machine(options)))


def open_model(path: Path, machine: MachineOptions) -> Model | TableModel:
    """Load a model of either kind."""
    path = find_model(path)
    saved = load_model(path)
    return Model(path, saved, machine) if isinstance(saved, SavedModel) else TableModel(path, saved, machine)


def _machine(options: dict[str, Any]) -> MachineOptions:
    machine = from_dict(MachineOptions, options, "load")
    check(machine)
    return machine


def _of_texts(model: Model | TableModel) -> Model:
    if isinstance(model, Model):
        return model
    raise ModelError(f"{model.path} answers rows of a table: use `unrolled predict`, or unrolled.load_table.")


def _of_tables(model: Model | TableModel) -> TableModel:
    if isinstance(model, TableModel):
        return model
    raise ModelError(f"{model.path} was trained on a text, and predicts no column: use `unrolled sample`, or unrolled.load.")
