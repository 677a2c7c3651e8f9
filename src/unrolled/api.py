"""The same calls from Python: `train`, `load`, `Model`, `TableModel`. The command line makes these calls and no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from unrolled.analysis.baselines import Baselines, measure_baselines
from unrolled.analysis.explain_table import explain_table
from unrolled.analysis.explain_text import ExplainResult, Note, explain_text
from unrolled.analysis.notebook import NotebookActivations, NotebookRun, NotebookSample, facts_table
from unrolled.analysis.novel_samples import draw_samples
from unrolled.analysis.report_data import WrittenReport, write_report
from unrolled.analysis.report_table import build_table_report
from unrolled.analysis.report_text import TextReportBuilder
from unrolled.analysis.score_text import ScoredText, open_scoring_stream, score_text
from unrolled.analysis.table_session import TableSession
from unrolled.analysis.text_session import TextSession
from unrolled.checkpoints.model_file import ModelFile, TableModelFile, TextModelFile, load_model
from unrolled.checkpoints.run_dir import find_model
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.evaluation.language_model import Evaluation, evaluate
from unrolled.evaluation.line_surprisal import ScoringStream
from unrolled.evaluation.metric_report import MetricReport
from unrolled.evaluation.predictor import Prediction, Predictor
from unrolled.generation.sampling import Sample, encode_prompt, resolve_seed, sampling_backend, stream_text
from unrolled.interpret.activations import Activations, record_activations
from unrolled.interpret.table_activations import RowActivations, record_row
from unrolled.nn.clamp import parse_clamp
from unrolled.nn.device import select_device
from unrolled.nn.kernels.select import choose_kernel
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
from unrolled.training.callbacks import ProgressCallback
from unrolled.training.launch import TrainResult
from unrolled.views.progress import LogProgress, NullProgress


class TrainedModel:
    """A trained model and where it came from. `path` is its file, `run` its run folder, if any."""

    def __init__(self, path: Path, model_file: ModelFile, machine: MachineOptions | None = None) -> None:
        self.path, self.history = path, model_file.history
        self.result: TrainResult | None = None
        options = machine or MachineOptions()
        device_config = select_device(options)
        network = model_file.model.to(device_config.device).eval()
        self.machine, self.kernels = choose_kernel(network, device_config, options, lambda note: None)
        self.parameters = sum(weight.numel() for weight in network.parameters())
        run_dir = self.path.parent
        self.run = NotebookRun(run_dir) if (run_dir / "config.json").is_file() else None

    def _repr_html_(self) -> str:
        nats = self.history.get("val_nats")
        loss = [("loss on what was held out", f"{nats:.4f} nats")] if isinstance(nats, float) else []
        return facts_table([("model", repr(self)), ("parameters", f"{self.parameters:,}"), *loss], self.run)


class Model(TrainedModel):
    """A trained model of texts, with all it needs to sample and be evaluated."""

    def __init__(self, path: Path, model_file: TextModelFile, machine: MachineOptions | None = None) -> None:
        super().__init__(path, model_file, machine)
        self.model_file, self.network, self.tokenizer = model_file, model_file.model, model_file.tokenizer
        self.session = TextSession(self.path, model_file, self.machine, self.run)

    def __repr__(self) -> str:
        options = self.network.options
        shape = f"{options.layers}x{options.hidden} {options.cell}"
        return f"<unrolled.Model {shape}, {self.parameters:,} parameters, {self.tokenizer.vocab_size} symbols, {self.path}>"

    def sample(self, prompt: str = "", **options: Any) -> str:
        """Return one sample, its prompt included. Options are those of `unrolled sample`: length, temperature, seed ..."""
        return next(self.samples(prompt, **{**options, "count": 1})).text

    def samples(self, prompt: str = "", **options: Any) -> Iterator[Sample]:
        """Yield `count` samples with their seeds; sample i is what the seed `seed + i` draws, alone or among others."""
        settings = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        for sample in draw_samples(self.session, settings, resolve_seed(settings)):
            yield NotebookSample(**vars(sample), to_html=lambda text: self.score(text)._repr_html_())

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Yield one sample after its prompt, piece by piece as it is drawn; memory and time a symbol do not grow."""
        settings = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        if settings.novel_only:
            raise UsageError("Whether a sample is novel is known when it is whole: ask `samples`, and not `stream`.")
        clamps = [parse_clamp(unit) for unit in settings.clamp]
        return stream_text(
            self.network, self.tokenizer, settings, resolve_seed(settings), clamps, self.session.sampling_precision
        )

    def sampling_backend(self, **options: Any) -> dict[str, str]:
        """Return with which `step` and which `precision` samples are drawn: native, with its instruction set, or reference."""
        settings = from_dict(SampleOptions, options, "sample")
        return sampling_backend(self.network, settings, settings.clamp, self.session.sampling_precision)

    def replaced_characters(self, prompt: str) -> dict[str, str]:
        """Return the characters of a prompt that the model never saw, each with what it is read as."""
        return encode_prompt(self.tokenizer, prompt)[1]

    def evaluate(self, *inputs: str, **options: Any) -> Evaluation:
        """Return the loss on `inputs` (files, folders), or on the run's own text.

        `split`: train, validation or all; `window`: start every N symbols from zero. What the model's vocabulary lacks is left
        out and counted as `unknown`.
        """
        settings = from_dict(EvaluateOptions, options, "evaluate")
        ids, corpus = self._select_split(inputs, settings)
        if len(ids) < 2:
            raise DataError(
                f"There are {len(ids)} known symbols to evaluate ({corpus.num_unknown} unknown); at least 2 are needed."
            )
        eos_id, longest = self.tokenizer.eos_id, corpus.longest_document
        char_starts = self.tokenizer.char_start_mask() if corpus.is_text else None
        result = evaluate(self.network, self.machine, ids, eos_id, longest, settings.window, char_starts=char_starts)
        return dataclasses.replace(result, num_unknown=corpus.num_unknown)

    def _select_split(self, inputs: tuple[str, ...], settings: EvaluateOptions) -> tuple[Ids, Corpus]:
        """Return the ids that are to be evaluated, and the text they are of."""
        fraction, corpus = self.session.corpus(inputs)
        train_ids, validation_ids = corpus.split(fraction)
        split = settings.split or ("all" if inputs else "validation")
        return {"train": train_ids, "validation": validation_ids, "all": corpus.ids}[split], corpus

    def baselines(self, *inputs: str, note: Note = lambda message: None, **options: Any) -> Baselines:
        """Return what n-grams, xz and chance make of the text that `evaluate` measures, counted in the run's training text."""
        settings = from_dict(EvaluateOptions, options, "evaluate")
        if self.run is None:
            raise UsageError(f"{self.path} is a model without its run folder: n-grams need the text it was trained on.")
        ids, corpus = self._select_split(inputs, settings)
        continues_training = not inputs and settings.split in (None, "validation")
        return measure_baselines(
            self.tokenizer, self.session.train_and_held_out()[0], ids, settings.order, continues_training, note, corpus.is_text
        )

    def trace(self, text: str, clamp: Sequence[str] = ()) -> Activations:
        """Return what every unit does while the model reads a text: states, gates, odds, as arrays `(T, L, H)`.

        What the model never saw is read as the closest it knows. `clamp` holds units, as `--clamp` does.
        """
        result = record_activations(self.network, self.session.tokenize(text), [parse_clamp(unit) for unit in clamp])
        return NotebookActivations(**vars(result))

    def score(self, text: str, clamp: Sequence[str] = ()) -> ScoredText:
        """Return how surprising each character of a text is, in bits."""
        return score_text(self.session, text, [parse_clamp(unit) for unit in clamp])

    def scoring(self, name: str | None = None, **options: Any) -> ScoringStream:
        """Return a text of any length being scored line by line: a file, a folder, `-`, or what the run held out.

        Options are those of `unrolled score`: against, clamp.
        """
        return open_scoring_stream(self.session, name, from_dict(ScoreOptions, options, "score"))

    def explain(self, name: str | None = None, note: Note = lambda message: None, **options: Any) -> ExplainResult:
        """Look inside the model while it reads a text (a file or `-`; None: what its run held out), and write the explorer.

        Options are those of `unrolled explain`: length, clamp, out, arrays ... `note` is told what goes on.
        """
        return explain_text(self.session, name, from_dict(ExplainOptions, options, "explain"), note)

    def report(self, note: Note = lambda message: None, **options: Any) -> WrittenReport:
        """Put the run on one page, and return what is on it. Options are those of `unrolled report`: out, order, samples."""
        settings = from_dict(ReportOptions, options, "report")
        return write_report(self.run, self.path, settings, lambda: TextReportBuilder(self.session, settings, note).build())


class TableModel(TrainedModel):
    """A trained model of a table's two columns: it answers rows, and is judged by tables that have both columns."""

    def __init__(self, path: Path, model_file: TableModelFile, machine: MachineOptions | None = None) -> None:
        super().__init__(path, model_file, machine)
        self.model_file, self.network, self.spec = model_file, model_file.model, model_file.spec
        self.session = TableSession(self.path, model_file, self.machine, self.run)

    def __repr__(self) -> str:
        spec, options = self.spec, self.network.options
        columns = f"{spec.source.name}:{spec.source.kind} -> {spec.target.name}:{spec.target.kind}"
        return (
            f"<unrolled.TableModel {columns}, {options.layers}x{options.hidden}, {self.parameters:,} parameters, {self.path}>"
        )

    def predictions(self, values: Iterable[Any], **options: Any) -> list[Prediction]:
        """Return what is answered to source values (texts, numbers, lists, arrays ...), with probabilities.

        Options are those of `unrolled predict`: beam, length_penalty, temperature, seed.
        """
        rows = (Cell(value, f"value {number}") for number, value in enumerate(values, 1))
        return list(self._predictor(options).predict_iter(rows))

    def predict(self, values: Iterable[Any], **options: Any) -> list[str]:
        """Return the answers as texts."""
        return [prediction.text for prediction in self.predictions(values, **options)]

    def attention(self, value: Any, **options: Any) -> tuple[Prediction, NDArray[Any]]:
        """Return the answer to one source value, and the weights `(M, S)` with which its M symbols looked at the S steps.

        Raises `UsageError` for a model that does not write, or was trained with --no-attention.
        """
        predictor = self._predictor({"beam": 5, **options})
        prediction, weights = predictor.predict_with_attention(Cell(value, "value"))
        if weights is None:
            raise UsageError(f"{self.path} looks at nothing while it answers: it has no attention over a source.")
        return prediction, weights

    def predict_table(self, name: str, **options: Any) -> tuple[Table, Iterator[tuple[Row, Prediction]]]:
        """Open a table that has the source column; return it, and its rows with an answer each, as they come."""
        table = open_table(name, split="test")
        table.require_column(self.spec.source.name)
        return table, self._predict_rows(table, options)

    def _predict_rows(self, table: Table, options: dict[str, Any]) -> Iterator[tuple[Row, Prediction]]:
        pending: list[Row] = []

        def sources() -> Iterator[Cell]:
            for line, row in table.rows():
                pending.append(row)
                yield Cell(row[self.spec.source.name], table.name, line, table.folder)

        for prediction in self._predictor(options).predict_iter(sources()):
            yield pending.pop(0), prediction

    def evaluate(self, name: str | None = None, **options: Any) -> MetricReport:
        """Return the metrics on a table, or, without one, on the rows that the run held out (of a built-in table: its test)."""
        return self.session.evaluate(name, from_dict(PredictOptions, options, "predict")).report

    def trace(self, value: Any, **options: Any) -> RowActivations:
        """Return what goes on inside while the model reads one source value and answers: states, gates, attention.

        Options are those of `unrolled predict`.
        """
        return record_row(self._predictor({"beam": 5, **options}), Cell(value, "value"))

    def explain(self, name: str | None = None, note: Note = lambda message: None, **options: Any) -> ExplainResult:
        """Look inside the model while it reads rows (of a table; None: those its run held out), and write the explorer."""
        return explain_table(self.session, name, from_dict(ExplainOptions, options, "explain"), note)

    def report(self, note: Note = lambda message: None, **options: Any) -> WrittenReport:
        """Put the run on one page: settings, curves, metrics beside baselines, confusion, attention, errors."""
        settings = from_dict(ReportOptions, options, "report")
        return write_report(self.run, self.path, settings, lambda: build_table_report(self.session, note))

    def _predictor(self, options: dict[str, Any]) -> Predictor:
        settings = from_dict(PredictOptions, options, "predict")
        return self.session.predictor(settings)


def train(*inputs: str, preset: str | None = None, resume: str | None = None, progress: bool = True, **options: Any) -> Model:
    """Train on texts (files, folders; none: a built-in corpus) and return the best model.

    Options are those of `unrolled train`: `minutes=3`, `hidden=512`, `cell="gru"`, `unit="line"`, `out="runs/x"` ... A stop
    signal (Ctrl-C) saves, and the model trained so far is returned; `model.outcome.stopped` tells. `resume` goes on with a
    run.
    """
    return _require_text_model(_train(inputs, preset, resume, progress, options))


def train_table(
    table: str, source: str | None = None, target: str | None = None, progress: bool = True, **options: Any
) -> TableModel:
    """Train on two columns of a table (a file, or `builtin:NAME`, which knows its columns) and return the best model.

    `source` and `target` are columns, as NAME or NAME:KIND; the mode follows. Options are those of `unrolled train`.
    """
    columns = {name: column for name, column in (("source", source), ("target", target)) if column is not None}
    return _require_table_model(_train((table,), None, None, progress, {**columns, **options}))


def _train(
    inputs: tuple[str, ...], preset: str | None, resume: str | None, progress: bool, options: dict[str, Any]
) -> Model | TableModel:
    callback: ProgressCallback = LogProgress() if progress else NullProgress()
    if resume is not None:
        allow_change = bool(options.pop("allow_change", False))
        training_run = launch.resume_run(Path(resume), options, callback, allow_change)
    else:
        training_run = launch.start_run(TrainRequest.build(tuple(map(str, inputs)), options, "train", preset), callback)
    result = training_run.train()
    model = open_model(Path(result.model), training_run.request.machine)
    model.result = result
    return model


def load(path: str | Path, **options: Any) -> Model:
    """Load a model of texts from a run folder, a checkpoint or a model file. Options: device, precision, threads, kernels."""
    return _require_text_model(open_model(Path(path), _machine_options(options)))


def load_table(path: str | Path, **options: Any) -> TableModel:
    """Load a model of a table, as `load` does one of texts."""
    return _require_table_model(open_model(Path(path), _machine_options(options)))


def open_model(path: Path, machine: MachineOptions) -> Model | TableModel:
    """Load a model of either kind."""
    path = find_model(path)
    model_file = load_model(path)
    return Model(path, model_file, machine) if isinstance(model_file, TextModelFile) else TableModel(path, model_file, machine)


def _machine_options(options: dict[str, Any]) -> MachineOptions:
    machine = from_dict(MachineOptions, options, "load")
    check(machine)
    return machine


def _require_text_model(model: Model | TableModel) -> Model:
    if isinstance(model, Model):
        return model
    raise ModelError(f"{model.path} answers rows of a table: use `unrolled predict`, or unrolled.load_table.")


def _require_table_model(model: Model | TableModel) -> TableModel:
    if isinstance(model, TableModel):
        return model
    raise ModelError(f"{model.path} was trained on a text, and predicts no column: use `unrolled sample`, or unrolled.load.")
