"""A trained model that predicts one column of a table from another. Each method imports what it needs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from unrolled.display import agree, plural
from unrolled.errors import UsageError
from unrolled.keyword_docs import keyword_arguments
from unrolled.keywords import ExplainKwargs, PredictKwargs
from unrolled.models.base import MAX_PATH_CHARS, TrainedModel
from unrolled.option_rules import NOT_FOR_ROWS, NOT_IN_PYTHON, check_prediction
from unrolled.options import (
    ExplainOptions,
    MachineOptions,
    ModelOptions,
    PredictOptions,
    ReportOptions,
    from_dict,
    present_names,
)
from unrolled.output_paths import check_new_file
from unrolled.tables.cell_values import Cell
from unrolled.tables.frames import is_frame, is_scalar, name_values, table_of_frame
from unrolled.tables.row_tally import RowTally
from unrolled.tables.source_columns import join_cells
from unrolled.tables.table_format import has_table_suffix

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unrolled.analysis.explain_table import ExplainTableResult
    from unrolled.checkpoints.model_file import TableModelFile
    from unrolled.datasets.tables import Row
    from unrolled.evaluation.predictor import Prediction, Predictor
    from unrolled.interpret.table_activations import RowActivations
    from unrolled.nn.encoder_decoder import EncoderDecoder
    from unrolled.tables.metric_report import MetricReport
    from unrolled.tables.table_files import Table


class TableModel(TrainedModel):
    """A trained model that predicts the target column of a table from its source column.

    `train_table` and `load_table` return it.

    Attributes:
        network: The `torch.nn.Module`.
        spec: Source and target column, sequence mode, and statistics of the training rows.
    """

    network: EncoderDecoder
    _unused_in_report = ("order", "samples", "seed")

    def __init__(
        self, path: Path, model_file: TableModelFile, machine: MachineOptions | None = None, cell_files: bool = True
    ) -> None:
        from unrolled.analysis.table_session import TableSession
        from unrolled.nn.device import prediction_device, select_device
        from unrolled.nn.kernels.select import choose_kernel

        options, network = machine or MachineOptions(), model_file.model
        device_config = select_device(options)
        if options.precision == "auto":
            device_config = prediction_device(device_config, model_file.spec.loss_unit)
        super().__init__(path, model_file.history, sum(weight.numel() for weight in network.parameters()))
        network.to(device_config.device).eval()
        self.machine, self.kernels = choose_kernel(network, device_config, options)
        self.model_file, self.network, self.spec = model_file, model_file.model, model_file.spec
        self.session = TableSession(self.path, model_file, self.machine, self.run, cell_files)

    def __repr__(self) -> str:
        spec, options = self.spec, self.network.options
        network = f"{options.layers}x{options.hidden}, {self.parameters:,} parameters"
        return f"<unrolled.TableModel {spec.columns_text}, {network}, {self.path}>"

    @property
    def _model_options(self) -> ModelOptions:
        return self.network.options

    @property
    def _loss_unit(self) -> str:
        return self.spec.loss_unit

    def _kind_facts(self) -> dict[str, Any]:
        source, target = self.spec.columns_text.split(" -> ")
        return {"kind": "table", "source": source, "target": target, "mode": self.spec.mode_text}

    @keyword_arguments(PredictOptions, exclude=NOT_IN_PYTHON)
    def predictions(self, values: Any, **options: Unpack[PredictKwargs]) -> list[Prediction]:
        """Predict the target of each source value, with probabilities.

        Args:
            values: Source values: strings, numbers, lists or arrays, as the source column needs; one string or number is one
                value. Or a frame with the source columns, as for `train_table`, or the `pathlib.Path` of a table; a dictionary
                of single values is one row. Of several source columns, a tuple or array with a value of each, in the order
                in which they were given, is a row; lists of such and arrays `(N, D)` are rows.

        Returns:
            Prediction objects: `text`, `values` (ids or numbers), `probability`, and for labels `probabilities` `(labels,)`.

        Raises:
            DataError: A value does not fit the source column.

        Example:
            >>> predictions = table_model.predictions(["aba", "bab"])
            >>> len(predictions), predictions[0].probabilities.shape
            (2, (2,))
        """
        if self.spec.others:
            values = self._named_sources(values)
        elif self.spec.source.kind == "number" and getattr(values, "ndim", 0) == 2 and not is_frame(values):
            values = np.ravel(values)  # (N, 1), as scikit-learn has them
        if isinstance(values, Mapping) and any(map(is_scalar, values.values())):
            values = [values]
        if is_frame(values) or isinstance(values, os.PathLike):
            _, predicted = self.predict_table(values, **options)
            return [prediction for _, prediction in predicted]
        if isinstance(values, bytes | bytearray):
            raise UsageError("A source value is text, and bytes are given: decode them, as in value.decode().")
        if isinstance(values, str | int | float):
            self._refuse_table_file(values)
            values = [values]
        if not isinstance(values, Iterable):
            raise UsageError(f"A source value, a list of them or a table is expected; this is {type(values).__name__}.")
        _, rows = self.predict_values(values, **options)
        return [prediction for _, prediction in rows]

    def _refuse_table_file(self, value: Any) -> None:
        """Raise `UsageError` for the name of a table where a value is expected: it would be read as the text itself."""
        if isinstance(value, str) and len(value) <= MAX_PATH_CHARS and has_table_suffix(value) and os.path.isfile(value):
            raise UsageError(
                f"{value!r} is a file, and a source value is expected: predict(pathlib.Path({value!r})) or predict_table reads "
                f"the file, and predict([{value!r}]) takes this text as the value."
            )

    @keyword_arguments(PredictOptions, exclude=NOT_IN_PYTHON)
    def predict(self, values: Any, **options: Unpack[PredictKwargs]) -> list[str]:
        """Predict the target of each source value, as text.

        Args:
            values: Source values, rows or a table, as for `predictions`.

        Returns:
            One string per value.

        Raises:
            DataError: A value does not fit the source column.

        Example:
            >>> set(table_model.predict(["aba", "bab"])) <= {"starts with a", "starts with b"}
            True
        """
        return [prediction.text for prediction in self.predictions(values, **options)]

    @keyword_arguments(PredictOptions, exclude=NOT_FOR_ROWS)
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
        prediction, weights = self._predictor(options).predict_with_attention(self._cell(value))
        if weights is None:
            raise UsageError(
                f"{self.path} has no attention over the source: train a model that generates text, with attention."
            )
        return prediction, weights

    @keyword_arguments(PredictOptions, exclude=NOT_IN_PYTHON)
    def predict_table(self, name: Any, **options: Unpack[PredictKwargs]) -> tuple[Table, Iterator[tuple[Row, Prediction]]]:
        """Predict the target of each row of a table.

        Args:
            name: A table file, `-` or `builtin:NAME`, or a frame as for `train_table`. It needs the source
                column; if that is a text, plain lines do, too.

        Returns:
            The table, and an iterator of its rows, each with its prediction; rows are read as the iterator advances.

        Raises:
            DataError: The table cannot be read, or has no source column.

        Example:
            >>> table, rows = table_model.predict_table("words.csv")
            >>> len(list(rows))
            40
        """
        settings = self._options(options)
        table, columns = self.session.open_sources(name, settings.header, settings.encoding)
        return table, self._predict_rows(table, columns, settings)

    @keyword_arguments(PredictOptions, exclude=NOT_IN_PYTHON)
    def predict_values(
        self, values: Iterable[Any], **options: Unpack[PredictKwargs]
    ) -> tuple[Table, Iterator[tuple[Row, Prediction]]]:
        """Predict the target of each source value, as `predict_table` does for the rows of a table.

        Args:
            values: Source values, as for `predictions`.

        Returns:
            A table with the values as its only column, and an iterator of its rows, each with its prediction.

        Raises:
            DataError: A value does not fit the source column.

        Example:
            >>> table, rows = table_model.predict_values(["aba", "bab"])
            >>> [row["word"] for row, _ in rows]
            ['aba', 'bab']
        """
        from unrolled.tables.table_files import table_of_values

        self._require_one_source(values)
        table = self.session.readable_table(table_of_values(self.spec.source.name, values))
        return table, self._predict_rows(table, (self.spec.source.name,), self._options(options))

    def save_wav(self, path: str | Path, values: NDArray[Any], rate: int | None = None, force: bool = False) -> int:
        """Write predicted numbers as a WAV file of 32-bit floats.

        Args:
            path: The file to write.
            values: The `values` `(T, channels)` of a prediction.
            rate: Samples per second (None: that of the WAV files the model was trained on).
            force: Replace an existing file that is no WAV file.

        Returns:
            The samples per second of the file.

        Raises:
            UsageError: The rate is not known, the target is no column of numbers, or the file is not to be replaced.

        Example:
            >>> table_model.save_wav("out.wav", [0.0, 0.1])  # it predicts a label
            Traceback (most recent call last):
            unrolled.errors.UsageError: ...
        """
        from unrolled.tables.numbers_column import NumbersColumn
        from unrolled.tables.wav_files import write_wav

        target = self.spec.target
        if not isinstance(target, NumbersColumn):
            raise UsageError(f"'{target.name}' is {target.kind}, and numbers at every step are written as a WAV file.")
        rate = rate or target.rate
        if not rate:
            raise UsageError("The model does not know the samples per second: give the rate.")
        check_new_file("path", Path(path), (self.path,), self.session.run_path, force, "wav")
        write_wav(Path(path), np.asarray(values, np.float64).reshape(-1, len(target.columns)), rate)
        return rate

    def _named_sources(self, values: Any) -> Any:
        return name_values(values, [column.name for column in self.spec.given_sources])

    def _require_one_source(self, value: Any) -> None:
        """Raise `UsageError` for a source value of a model that reads several columns."""
        if self.spec.others:
            names = ", ".join(column.name for column in self.spec.given_sources)
            raise UsageError(
                f"The model reads {len(self.spec.sources)} columns, {names}: give a table, or dictionaries or tuples with all "
                f"of them; this is {type(value).__name__}."
            )

    def _cell(self, value: Any) -> Cell:
        """Return a source value as a cell: of several columns, a dictionary with all of them."""
        folder = Path() if self.session.cell_files else None
        if not self.spec.others:
            return Cell(value, "value", folder=folder)
        named = self._named_sources(value)
        value = named[0] if isinstance(named, list) and len(named) == 1 else named
        if not isinstance(value, Mapping):
            self._require_one_source(value)
        table = table_of_frame([value])
        (_, row), columns = next(iter(table.rows())), self.spec.find_sources(table)
        return join_cells([Cell(row[column], "value", folder=folder) for column in columns])

    def _predict_rows(
        self, table: Table, columns: tuple[str, ...], settings: PredictOptions
    ) -> Iterator[tuple[Row, Prediction]]:
        pending: list[Row] = []
        tally = RowTally(self.spec.medians, settings.unknown)
        predictor = self.session.predictor(settings, tally)  # here, so that settings are checked before a row is asked for

        def sources() -> Iterator[Cell]:
            for line, row in table.rows():
                pending.append(row)
                yield join_cells([table.cell(line, row, column) for column in columns])

        def predicted_rows() -> Iterator[tuple[Row, Prediction]]:
            num_withheld = 0
            for prediction in predictor.predict_iter(sources()):
                kept = prediction.withhold_below(settings.min_probability)
                num_withheld += kept is not prediction
                yield pending.pop(0), kept
            if num_withheld:
                rows = f"{num_withheld:,} of {plural(tally.num_rows + tally.num_empty, 'row')}"
                reason = f"its probability being less than {settings.min_probability:g}"
                logger.info(f"{rows} {agree(num_withheld, 'have an empty answer')}, {reason}")
            for message in (*tally.messages("have no prediction"), predictor.length_note()):
                if message is not None:
                    logger.info(message)

        return predicted_rows()

    @keyword_arguments(PredictOptions, exclude=NOT_FOR_ROWS)
    def evaluate(self, name: Any = None, split: str | None = None, **options: Unpack[PredictKwargs]) -> MetricReport:
        """Return the metrics on a table.

        Args:
            name: A table with both columns, or a frame as for `train_table`; None: that of the run.
            split: "validation" or "test" of the run's table (default: its test rows, or validation rows if there are none).

        Returns:
            A MetricReport: `metrics` and `baselines` by name, `headline` (the main metric), its `standard_error`,
            `num_rows`, `split`, and for few labels
            `confusion` `(labels, labels)`, counts by [truth, predicted].

        Raises:
            DataError: The table cannot be read, or lacks a column.

        Example:
            >>> table_model.evaluate("words.csv").headline
            'accuracy'
        """
        return self.session.evaluate(name, self._options(options), split).report

    @keyword_arguments(PredictOptions, exclude=NOT_FOR_ROWS)
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

        return record_row(self._predictor(options), self._cell(value))

    @keyword_arguments(ExplainOptions)
    def explain(self, name: Any = None, **options: Unpack[ExplainKwargs]) -> ExplainTableResult:
        """Show the answers to rows with what moved them, as an HTML page; and its hidden units, as another.

        Args:
            name: A table with the source columns, or a frame as for `train_table`; None: the held-out rows of the run.

        Returns:
            An ExplainTableResult: `rows`, `neurons`, `page_path`.

        Raises:
            UsageError: A setting is for models of texts.
            DataError: No row can be read.

        Example:
            >>> table_model.explain("words.csv", length=100, probe_length=100).page_path.name
            'explain.html'
        """
        from unrolled.analysis.explain_table import explain_table

        return explain_table(self.session, name, from_dict(ExplainOptions, options, "explain"))

    def _build_report(self, settings: ReportOptions) -> dict[str, Any]:
        from unrolled.analysis.report_table import build_table_report

        return build_table_report(self.session)

    def _options(self, options: Mapping[str, Any]) -> PredictOptions:
        settings = from_dict(PredictOptions, options, "predict")
        check_prediction(settings, present_names(options, (PredictOptions,)), self.spec.dims, self.spec.target.kind)
        return settings

    def _predictor(self, options: Mapping[str, Any]) -> Predictor:
        return self.session.predictor(self._options(options))
