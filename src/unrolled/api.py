"""The Python functions: `train`, `load`, `Model`, and `train_table`, `load_table`, `TableModel` for tables.

The command line calls these functions and no others. Each method imports what it needs, so that sampling from a loaded model
imports neither the training loop nor the HTML pages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unrolled.checkpoints.model_file import ModelFile, TableModelFile, TextModelFile, load_model
from unrolled.checkpoints.run_dir import Run, find_model
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.generation.sampling import Sample, encode_prompt, resolve_seed, sampling_backend, stream_text
from unrolled.keyword_docs import keyword_arguments
from unrolled.keywords import (
    EvaluateKwargs,
    ExplainKwargs,
    MachineKwargs,
    PredictKwargs,
    ReportKwargs,
    SampleKwargs,
    ScoreKwargs,
    TrainKwargs,
    TrainTableKwargs,
)
from unrolled.nn.clamp import parse_clamp
from unrolled.nn.device import select_device
from unrolled.nn.kernels.select import choose_kernel
from unrolled.options import (
    OPTION_CLASSES,
    DataOptions,
    EvaluateOptions,
    ExplainOptions,
    MachineOptions,
    ModelOptions,
    PredictOptions,
    ReportOptions,
    RunOptions,
    SampleOptions,
    ScoreOptions,
    TrainingOptions,
    TrainRequest,
    from_dict,
    present_names,
    split_by_class,
)
from unrolled.tables.cell_values import Cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unrolled.analysis.baselines import Baselines
    from unrolled.analysis.explain_text import ExplainResult
    from unrolled.analysis.report_data import WrittenReport
    from unrolled.analysis.score_text import ScoredText
    from unrolled.datasets.tables import Row
    from unrolled.evaluation.language_model import Evaluation
    from unrolled.evaluation.line_surprisal import ScoringStream
    from unrolled.evaluation.predictor import Prediction, Predictor
    from unrolled.interpret.activations import Activations
    from unrolled.interpret.table_activations import RowActivations
    from unrolled.tables.metric_report import MetricReport
    from unrolled.tables.table_files import Table
    from unrolled.text.corpus import Corpus
    from unrolled.text.tokenizer import Ids
    from unrolled.training.launch import TrainResult


class TrainedModel:
    """What `Model` and `TableModel` have in common.

    Attributes:
        path: The model file.
        run: The run folder, or None if the file is not in one.
        result: The `TrainResult`, if this object comes from `train` or `train_table`; `result.stop_signal` is the number of
            the signal that stopped the training, 0 after `stop_after`, or None if the budget was used up.
        history: Facts about the training that are stored in the model file, such as `val_nats`.
        machine: Device, number format and threads.
        kernels: Name of the implementation of the recurrent layers.
        parameters: Number of parameters.
    """

    def __init__(self, path: Path, model_file: ModelFile, machine: MachineOptions | None = None) -> None:
        from unrolled.analysis.notebook import NotebookRun

        self.path, self.history = path, model_file.history
        self.result: TrainResult | None = None
        options = machine or MachineOptions()
        device_config = select_device(options)
        network = model_file.model.to(device_config.device).eval()
        self.machine, self.kernels = choose_kernel(network, device_config, options)
        self.parameters = sum(weight.numel() for weight in network.parameters())
        run_dir = self.path.parent
        self.run = NotebookRun(run_dir) if (run_dir / "config.json").is_file() else None

    def _repr_html_(self) -> str:
        from unrolled.analysis.notebook import facts_table

        nats = self.history.get("val_nats")
        loss = [("validation loss", f"{nats:.4f} nats")] if isinstance(nats, float) else []
        return facts_table([("model", repr(self)), ("parameters", f"{self.parameters:,}"), *loss], self.run)


class Model(TrainedModel):
    """A trained language model of texts. `train` and `load` return it.

    Attributes:
        network: The `torch.nn.Module`.
        tokenizer: Converts text to token ids and back; `tokenizer.vocab_size` is the number of tokens.
    """

    def __init__(self, path: Path, model_file: TextModelFile, machine: MachineOptions | None = None) -> None:
        from unrolled.analysis.text_session import TextSession

        super().__init__(path, model_file, machine)
        self.model_file, self.network, self.tokenizer = model_file, model_file.model, model_file.tokenizer
        self.session = TextSession(self.path, model_file, self.machine, self.run)

    def __repr__(self) -> str:
        options = self.network.options
        shape = f"{options.layers}x{options.hidden} {options.cell}"
        return f"<unrolled.Model {shape}, {self.parameters:,} parameters, {self.tokenizer.vocab_size} tokens, {self.path}>"

    @keyword_arguments(SampleOptions, exclude=("prompt",))
    def sample(self, prompt: str = "", **options: Unpack[SampleKwargs]) -> str:
        """Draw one sample.

        Args:
            prompt: Text to continue. Unknown characters are replaced, see `replaced_characters`.

        Returns:
            The prompt and the new text.

        Raises:
            UsageError: An option is unknown or cannot be used.

        Example:
            >>> text = model.sample("The ", length=40, temperature=0.8, seed=3)
            >>> text.startswith("The "), len(text)
            (True, 44)
        """
        options["count"] = 1
        return next(self.samples(prompt, **options)).text

    @keyword_arguments(SampleOptions, exclude=("prompt",))
    def samples(self, prompt: str = "", **options: Unpack[SampleKwargs]) -> Iterator[Sample]:
        """Draw `count` samples in one batch.

        Args:
            prompt: Text that each sample continues.

        Yields:
            Sample objects: `text` (with the prompt), `seed`, `num_tokens`, `finish_reason`. Sample i has the seed
            `seed + i` and is the same text that `sample` draws with that seed.

        Raises:
            UsageError: An option cannot be used, or with `novel_only` nearly all samples are copies.

        Example:
            >>> [sample.seed for sample in model.samples("The ", count=3, length=20, seed=5)]
            [5, 6, 7]
        """
        from unrolled.analysis.notebook import NotebookSample
        from unrolled.analysis.novel_samples import draw_samples

        settings = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        for sample in draw_samples(self.session, settings, resolve_seed(settings)):
            yield NotebookSample(**vars(sample), to_html=lambda text: self.score(text)._repr_html_())

    @keyword_arguments(SampleOptions, exclude=("prompt", "novel_only", "count"))
    def stream(self, prompt: str = "", **options: Unpack[SampleKwargs]) -> Iterator[str]:
        """Draw one sample piece by piece, in constant memory and time per token.

        Args:
            prompt: Text to continue.

        Yields:
            Pieces of the new text, without the prompt. Joined, they are the text that `sample` draws.

        Raises:
            UsageError: An option cannot be used; `novel_only` needs complete samples.

        Example:
            >>> "".join(model.stream("The ", length=20)) == model.sample("The ", length=20)[4:]
            True
        """
        settings = from_dict(SampleOptions, {"prompt": prompt, **options}, "sample")
        if settings.novel_only:
            raise UsageError("novel_only is given, and a stream cannot take pieces back: use samples().")
        clamps = [parse_clamp(unit) for unit in settings.clamp]
        return stream_text(
            self.network, self.tokenizer, settings, resolve_seed(settings), clamps, self.session.sampling_precision
        )

    @keyword_arguments(SampleOptions)
    def sampling_backend(self, **options: Any) -> dict[str, str]:
        """Return which implementation and number format `sample` would use with these options.

        Returns:
            A dictionary with the keys `backend` (native, with its instruction set, or reference) and `precision`.

        Example:
            >>> model.sampling_backend(top_k=5)["precision"] in ("float32", "bfloat16")
            True
        """
        settings = from_dict(SampleOptions, options, "sample")
        return sampling_backend(self.network, settings, settings.clamp, self.session.sampling_precision)

    def replaced_characters(self, prompt: str) -> dict[str, str]:
        """Return the characters of a prompt that the model does not know, each with its replacement ("": removed).

        Example:
            >>> model.replaced_characters("Th\u00e9 cat")
            {'\u00e9': 'e'}
        """
        return encode_prompt(self.tokenizer, prompt)[1]

    @keyword_arguments(EvaluateOptions)
    def evaluate(self, *inputs: str, **options: Unpack[EvaluateKwargs]) -> Evaluation:
        """Return the loss on a text. `baselines` and `order` are for the method `baselines` and have no effect here.

        Args:
            inputs: Files, folders or `builtin:NAME`; none: the run's own text.

        Returns:
            An Evaluation: `nats` and `bits` per character, `num_tokens`, `num_chars`, `context`, and `num_unknown`, the
            number of characters that the model does not know, which are left out.

        Raises:
            DataError: The text has fewer than two known tokens.
            UsageError: There is no input, and the model file is not in a run folder.

        Example:
            >>> result = model.evaluate("book.txt", split="validation")
            >>> 0 < result.bits < 8, result.context
            (True, 'carried')
        """
        from unrolled.evaluation.language_model import evaluate

        settings = from_dict(EvaluateOptions, options, "evaluate")
        ids, corpus = self._select_split(inputs, settings)
        if len(ids) < 2:
            raise DataError(f"The text has {len(ids)} known tokens ({corpus.num_unknown} unknown); at least 2 are needed.")
        eos_id, longest = self.tokenizer.eos_id, corpus.longest_document
        char_starts = self.tokenizer.char_start_mask() if corpus.is_text else None
        result = evaluate(self.network, self.machine, ids, eos_id, longest, settings.window, char_starts=char_starts)
        return dataclasses.replace(result, num_unknown=corpus.num_unknown)

    def _select_split(self, inputs: tuple[str, ...], settings: EvaluateOptions) -> tuple[Ids, Corpus]:
        """Return the token ids to evaluate, and the text that they are part of."""
        fraction, corpus = self.session.corpus(inputs)
        train_ids, validation_ids = corpus.split(fraction)
        split = settings.split or ("all" if inputs else "validation")
        return {"train": train_ids, "validation": validation_ids, "all": corpus.ids}[split], corpus

    @keyword_arguments(EvaluateOptions)
    def baselines(self, *inputs: str, **options: Unpack[EvaluateKwargs]) -> Baselines:
        """Return the losses of n-gram models, xz and the uniform distribution on the text that `evaluate` takes.

        Args:
            inputs: Files, folders or `builtin:NAME`; none: the run's own text.

        Returns:
            Baselines, in nats per character: `uniform`, `ngram_nats` by order (counted on the training split), `xz`.

        Raises:
            UsageError: The model file is not in a run folder.

        Example:
            >>> sorted(model.baselines(order=3).ngram_nats)
            [1, 2, 3]
        """
        from unrolled.analysis.baselines import measure_baselines

        settings = from_dict(EvaluateOptions, options, "evaluate")
        if self.run is None:
            raise UsageError(f"{self.path} is not in a run folder, and n-grams need the training text: name a run folder.")
        ids, corpus = self._select_split(inputs, settings)
        continues_training = not inputs and settings.split in (None, "validation")
        return measure_baselines(
            self.tokenizer, self.session.train_and_held_out()[0], ids, settings.order, continues_training, corpus.is_text
        )

    def trace(self, text: str, clamp: Sequence[str] = ()) -> Activations:
        """Return the activations of all hidden units while the model reads a text.

        Args:
            text: The text, T tokens. Unknown characters are replaced by similar ones.
            clamp: Hidden units to set to a constant, each as "LAYER.UNIT=VALUE".

        Returns:
            Activations as arrays: states `h` `(T, L, H)` for L layers of H units, `c` of an LSTM, `gates` by name,
            `logits` `(T, V)` for V tokens; `bits()` `(T,)` is the surprisal of each token.

        Raises:
            UsageError: A clamp names no unit of the model.

        Example:
            >>> activations = model.trace("The cat", clamp=["0.3=1"])
            >>> activations.h.shape, float(activations.h[-1, 0, 3])
            ((7, 2, 8), 1.0)
        """
        from unrolled.analysis.notebook import NotebookActivations
        from unrolled.interpret.activations import record_activations

        result = record_activations(self.network, self.session.tokenize(text), [parse_clamp(unit) for unit in clamp])
        return NotebookActivations(**vars(result))

    def score(self, text: str, clamp: Sequence[str] = ()) -> ScoredText:
        """Return how surprising each token of a text is.

        Args:
            text: The text, T tokens.
            clamp: Hidden units to set to a constant, each as "LAYER.UNIT=VALUE".

        Returns:
            A ScoredText: `bits` `(T,)`, nan for a token without context; `bits_per_character`, the mean.

        Raises:
            UsageError: A clamp names no unit of the model.

        Example:
            >>> model.score("The cat").bits.shape
            (7,)
        """
        from unrolled.analysis.score_text import score_text

        return score_text(self.session, text, [parse_clamp(unit) for unit in clamp])

    @keyword_arguments(ScoreOptions, exclude=("per", "top", "html"))
    def scoring(self, name: str | None = None, **options: Unpack[ScoreKwargs]) -> ScoringStream:
        """Score a text of any length as a stream.

        Args:
            name: A file, a folder or `-`; None: the validation split of the run.

        Returns:
            A ScoringStream. One of its iterators `lines()`, `top_lines(n)` and `tokens()` reads the text; `totals` are the
            sums so far.

        Raises:
            UsageError: A model to compare with has another tokenizer.

        Example:
            >>> stream = model.scoring("book.txt")
            >>> [line.number for line in stream.top_lines(2)] != [], stream.totals.num_lines
            (True, 60)
        """
        from unrolled.analysis.score_text import open_scoring_stream

        return open_scoring_stream(self.session, name, from_dict(ScoreOptions, options, "score"))

    @keyword_arguments(ExplainOptions)
    def explain(self, name: str | None = None, **options: Unpack[ExplainKwargs]) -> ExplainResult:
        """Record the hidden units while the model reads a text, and write the neuron explorer, an HTML page.

        Args:
            name: A file or `-`; None: the validation split of the run.

        Returns:
            An ExplainResult: `page_path`, `activations`, `probe_report` (what units detect) and `effects` (of clamping).

        Raises:
            DataError: The text is too short.

        Example:
            >>> model.explain("book.txt", length=100, probe_length=200).page_path.name
            'explain.html'
        """
        from unrolled.analysis.explain_text import explain_text

        return explain_text(self.session, name, from_dict(ExplainOptions, options, "explain"))

    @keyword_arguments(ReportOptions)
    def report(self, **options: Unpack[ReportKwargs]) -> WrittenReport:
        """Write the report of the run, an HTML page.

        Returns:
            A WrittenReport: `page_path`, `data` (everything on the page) and `summary()`.

        Raises:
            UsageError: The model file is not in a run folder.

        Example:
            >>> model.report(order=2, samples=1).page_path.name
            'report.html'
        """
        from unrolled.analysis.report_data import write_report
        from unrolled.analysis.report_text import TextReportBuilder

        settings = from_dict(ReportOptions, options, "report")
        return write_report(self.run, self.path, settings, lambda: TextReportBuilder(self.session, settings).build())


class TableModel(TrainedModel):
    """A trained model that predicts the target column of a table from its source column.

    `train_table` and `load_table` return it.

    Attributes:
        network: The `torch.nn.Module`.
        spec: Source and target column, sequence mode, and statistics of the training rows.
    """

    def __init__(self, path: Path, model_file: TableModelFile, machine: MachineOptions | None = None) -> None:
        from unrolled.analysis.table_session import TableSession

        super().__init__(path, model_file, machine)
        self.model_file, self.network, self.spec = model_file, model_file.model, model_file.spec
        self.session = TableSession(self.path, model_file, self.machine, self.run)

    def __repr__(self) -> str:
        spec, options = self.spec, self.network.options
        columns = f"{spec.source.name}:{spec.source.kind} -> {spec.target.name}:{spec.target.kind}"
        return (
            f"<unrolled.TableModel {columns}, {options.layers}x{options.hidden}, {self.parameters:,} parameters, {self.path}>"
        )

    @keyword_arguments(PredictOptions, exclude=("probabilities", "image_dir"))
    def predictions(self, values: Iterable[Any], **options: Unpack[PredictKwargs]) -> list[Prediction]:
        """Predict the target of each source value, with probabilities.

        Args:
            values: Source values: strings, numbers, lists or arrays, as the source column needs; one string is one value.

        Returns:
            Prediction objects: `text`, `values` (ids or numbers), `probability`, and for labels `probabilities` `(labels,)`.

        Raises:
            DataError: A value does not fit the source column.

        Example:
            >>> predictions = table_model.predictions(["aba", "bab"])
            >>> len(predictions), predictions[0].probabilities.shape
            (2, (2,))
        """
        values = [values] if isinstance(values, str) else values
        rows = (Cell(value, f"value {number}") for number, value in enumerate(values, 1))
        return list(self._predictor(options).predict_iter(rows))

    @keyword_arguments(PredictOptions, exclude=("probabilities", "image_dir"))
    def predict(self, values: Iterable[Any], **options: Unpack[PredictKwargs]) -> list[str]:
        """Predict the target of each source value, as text.

        Args:
            values: Source values: strings, numbers, lists or arrays, as the source column needs; one string is one value.

        Returns:
            One string per value.

        Raises:
            DataError: A value does not fit the source column.

        Example:
            >>> set(table_model.predict(["aba", "bab"])) <= {"starts with a", "starts with b"}
            True
        """
        return [prediction.text for prediction in self.predictions(values, **options)]

    @keyword_arguments(PredictOptions, exclude=("probabilities", "image_dir"))
    def attention(self, value: Any, **options: Unpack[PredictKwargs]) -> tuple[Prediction, NDArray[Any]]:
        """Predict the target of one source value, and return the attention weights.

        Returns:
            The prediction, and the weights `(M, S)` of its M tokens over the S source steps.

        Raises:
            UsageError: The model has no attention: it generates no text, or was trained with `attention=False`.

        Example:
            >>> table_model.attention("aba")  # it predicts a label
            Traceback (most recent call last):
            unrolled.errors.UsageError: ...
        """
        prediction, weights = self._predictor(options).predict_with_attention(Cell(value, "value"))
        if weights is None:
            raise UsageError(
                f"{self.path} has no attention over the source: train a model that generates text, with attention."
            )
        return prediction, weights

    @keyword_arguments(PredictOptions, exclude=("probabilities", "image_dir"))
    def predict_table(self, name: str, **options: Unpack[PredictKwargs]) -> tuple[Table, Iterator[tuple[Row, Prediction]]]:
        """Predict the target of each row of a table.

        Args:
            name: A table file, `-` or `builtin:NAME`. It needs the source column.

        Returns:
            The table, and an iterator of its rows, each with its prediction; rows are read as the iterator advances.

        Raises:
            DataError: The table cannot be read, or has no source column.

        Example:
            >>> table, rows = table_model.predict_table("words.csv")
            >>> len(list(rows))
            40
        """
        from unrolled.tables.table_files import open_table

        table = open_table(name, split="test")
        return table, self._predict_rows(table, table.find_column(self.spec.source.name), options)

    def _predict_rows(self, table: Table, column: str, options: Mapping[str, Any]) -> Iterator[tuple[Row, Prediction]]:
        pending: list[Row] = []

        def sources() -> Iterator[Cell]:
            for line, row in table.rows():
                pending.append(row)
                yield Cell(row[column], table.name, line, table.folder)

        for prediction in self._predictor(options).predict_iter(sources()):
            yield pending.pop(0), prediction

    @keyword_arguments(PredictOptions, exclude=("probabilities", "image_dir"))
    def evaluate(self, name: str | None = None, **options: Unpack[PredictKwargs]) -> MetricReport:
        """Return the metrics on a table.

        Args:
            name: A table with both columns; None: the held-out rows of the run (of a built-in table: its test rows).

        Returns:
            A MetricReport: `metrics` and `baselines` by name, `headline` (the main metric), `num_rows`, and for few labels
            `confusion` `(labels, labels)`, counts by [truth, predicted].

        Raises:
            DataError: The table cannot be read, or lacks a column.

        Example:
            >>> table_model.evaluate("words.csv").headline
            'accuracy'
        """
        return self.session.evaluate(name, from_dict(PredictOptions, options, "predict")).report

    @keyword_arguments(PredictOptions, exclude=("probabilities", "image_dir"))
    def trace(self, value: Any, **options: Unpack[PredictKwargs]) -> RowActivations:
        """Return the activations of all hidden units while the model predicts one target.

        Args:
            value: The source value.

        Returns:
            RowActivations: `prediction`, `encoder` and `decoder` (states and gates by name, `(steps, L, H)`), `attention`.

        Raises:
            DataError: The value does not fit the source column.

        Example:
            >>> "h" in table_model.trace("aba").encoder
            True
        """
        from unrolled.interpret.table_activations import record_row

        return record_row(self._predictor(options), Cell(value, "value"))

    @keyword_arguments(ExplainOptions)
    def explain(self, name: str | None = None, **options: Unpack[ExplainKwargs]) -> ExplainResult:
        """Record the hidden units while the model reads rows, and write the neuron explorer, an HTML page.

        Args:
            name: A table with the source column; None: the held-out rows of the run.

        Returns:
            An ExplainResult, see `Model.explain`.

        Raises:
            UsageError: The source column is not a sequence of tokens.

        Example:
            >>> table_model.explain("words.csv", length=100, probe_length=100).page_path.name
            'explain.html'
        """
        from unrolled.analysis.explain_table import explain_table

        return explain_table(self.session, name, from_dict(ExplainOptions, options, "explain"))

    @keyword_arguments(ReportOptions)
    def report(self, **options: Unpack[ReportKwargs]) -> WrittenReport:
        """Write the report of the run, an HTML page.

        Returns:
            A WrittenReport: `page_path`, `data` (everything on the page) and `summary()`.

        Raises:
            UsageError: The model file is not in a run folder.

        Example:
            >>> table_model.report().page_path.name
            'report.html'
        """
        from unrolled.analysis.report_data import write_report
        from unrolled.analysis.report_table import build_table_report

        settings = from_dict(ReportOptions, options, "report")
        return write_report(self.run, self.path, settings, lambda: build_table_report(self.session))

    def _predictor(self, options: Mapping[str, Any]) -> Predictor:
        return self.session.predictor(from_dict(PredictOptions, options, "predict"))


@keyword_arguments(DataOptions, ModelOptions, TrainingOptions, MachineOptions, RunOptions)
def train(
    *inputs: str,
    preset: str | None = None,
    resume: str | None = None,
    progress: bool = True,
    allow_change: bool = False,
    **options: Unpack[TrainKwargs],
) -> Model:
    """Train a language model on texts and return the one with the best validation loss.

    Ctrl-C saves a checkpoint and returns the model trained so far; `model.result.stop_signal` tells that this happened.

    Args:
        inputs: Files, folders, `-` or `builtin:NAME`; none: a built-in corpus.
        preset: A set of options by name: "char-rnn" or "post-pg". `options` override it.
        resume: A run folder to continue exactly where it stopped; then no inputs and no preset.
        progress: Whether to print progress on stderr.
        allow_change: With `resume`: accept other versions, another machine, or other learning rates.

    Returns:
        The model. It is also saved in the run folder `model.run.path`.

    Raises:
        UsageError: An option is unknown or cannot be used.
        DataError: A text cannot be read.
        DivergedError: The loss is not finite any more.
        StorageError: The run folder cannot be written.

    Example:
        >>> model = unrolled.train("book.txt", steps=20, hidden=8, batch=4, sample_length=0, progress=False)
        >>> model.result.steps
        20
    """
    model = _train(inputs, preset, resume, progress, allow_change, options, expect_table=False)
    return _require_text_model(model)


@keyword_arguments(*OPTION_CLASSES, exclude=("source", "target"))
def train_table(
    table: str | None = None,
    source: str | None = None,
    target: str | None = None,
    progress: bool = True,
    *,
    resume: str | None = None,
    allow_change: bool = False,
    **options: Unpack[TrainTableKwargs],
) -> TableModel:
    """Train a model to predict one column of a table from another, and return the one with the best validation loss.

    Args:
        table: A file (CSV, TSV, JSON lines, Parquet) or `builtin:NAME`, which knows its columns.
        source: Input column, as NAME or NAME:KIND.
        target: Column to predict, as NAME or NAME:KIND. The kinds determine the sequence mode.
        progress: Whether to print progress on stderr.
        resume: A run folder to continue exactly where it stopped; then no table and no columns.
        allow_change: With `resume`: accept other versions, another machine, or other learning rates.

    Returns:
        The model. It is also saved in the run folder `model.run.path`.

    Raises:
        UsageError: An option is unknown or cannot be used.
        DataError: The table cannot be read, or lacks a column.
        DivergedError: The loss is not finite any more.
        StorageError: The run folder cannot be written.

    Example:
        >>> model = unrolled.train_table("words.csv", "word", "label", steps=5, hidden=8, progress=False)
        >>> model.spec.mode.name
        'many-to-one'
    """
    columns = {name: column for name, column in (("source", source), ("target", target)) if column is not None}
    inputs = () if table is None else (table,)
    return _require_table_model(_train(inputs, None, resume, progress, allow_change, {**columns, **options}, expect_table=True))


def _train(
    inputs: Sequence[str],
    preset: str | None,
    resume: str | None,
    progress: bool,
    allow_change: bool,
    options: Mapping[str, Any],
    expect_table: bool,
) -> Model | TableModel:
    from unrolled.training import launch
    from unrolled.training.callbacks import NullProgress
    from unrolled.training.resume import load_request
    from unrolled.views.progress import LogProgress

    if resume is not None and (inputs or preset):
        raise UsageError("resume continues with the run's own text and settings: leave inputs and preset out.")
    split_by_class(options, OPTION_CLASSES, "train")  # a resumed run does not build a request of them
    inputs = tuple(map(str, inputs))
    if resume is None:
        request = TrainRequest.build(inputs, options, "train", preset)
    else:
        request, _ = load_request(Run.open(Path(resume)))
    if launch.is_table(request) is not expect_table:
        noun, function = ("a text", "unrolled.train") if expect_table else ("a table", "unrolled.train_table")
        raise UsageError(f"This is the training of {noun}: use {function}.")
    callback = LogProgress() if progress else NullProgress()
    if resume is None:
        training_run = launch.start_run(request, callback)
    else:
        training_run = launch.resume_run(Path(resume), present_names(options, OPTION_CLASSES), callback, allow_change)
    result = training_run.train()
    model = open_model(Path(result.model), training_run.request.machine)
    model.result = result
    return model


@keyword_arguments(MachineOptions)
def load(path: str | Path, **options: Unpack[MachineKwargs]) -> Model:
    """Load a language model of texts.

    Args:
        path: A run folder, a checkpoint folder or a model file.

    Returns:
        The model, on the chosen device.

    Raises:
        ModelError: The file is missing, damaged, or a model of a table.
        UsageError: The device or kernel is not available.

    Example:
        >>> unrolled.load("runs/book", threads=1).sample(length=5) == model.sample(length=5)
        True
    """
    return _require_text_model(open_model(Path(path), from_dict(MachineOptions, options, "load")))


@keyword_arguments(MachineOptions)
def load_table(path: str | Path, **options: Unpack[MachineKwargs]) -> TableModel:
    """Load a model of a table.

    Args:
        path: A run folder, a checkpoint folder or a model file.

    Returns:
        The model, on the chosen device.

    Raises:
        ModelError: The file is missing, damaged, or a model of texts.
        UsageError: The device or kernel is not available.

    Example:
        >>> unrolled.load_table("runs/words").predict(["aba"]) == table_model.predict(["aba"])
        True
    """
    return _require_table_model(open_model(Path(path), from_dict(MachineOptions, options, "load")))


def open_model(path: Path, machine: MachineOptions) -> Model | TableModel:
    """Load a model of either kind; `path` as for `load`."""
    path = find_model(path)
    model_file = load_model(path)
    return Model(path, model_file, machine) if isinstance(model_file, TextModelFile) else TableModel(path, model_file, machine)


def _require_text_model(model: Model | TableModel) -> Model:
    if isinstance(model, Model):
        return model
    raise ModelError(f"{model.path} is a table model, not a text model: use `unrolled predict`, or unrolled.load_table.")


def _require_table_model(model: Model | TableModel) -> TableModel:
    if isinstance(model, TableModel):
        return model
    raise ModelError(f"{model.path} is a text model, not a table model: use `unrolled sample`, or unrolled.load.")
