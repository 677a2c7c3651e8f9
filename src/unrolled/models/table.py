"""A trained model that predicts one column of a table from another. Each method imports what it needs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unrolled.errors import UsageError
from unrolled.keyword_docs import keyword_arguments
from unrolled.keywords import ExplainKwargs, PredictKwargs, ReportKwargs
from unrolled.models.base import TrainedModel
from unrolled.option_rules import check_prediction, refuse_unused
from unrolled.options import ExplainOptions, MachineOptions, PredictOptions, ReportOptions, from_dict, present_names
from unrolled.tables.cell_values import Cell
from unrolled.tables.row_tally import RowTally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unrolled.analysis.explain_text import ExplainResult
    from unrolled.analysis.report_data import WrittenReport
    from unrolled.checkpoints.model_file import TableModelFile
    from unrolled.datasets.tables import Row
    from unrolled.evaluation.predictor import Prediction, Predictor
    from unrolled.interpret.table_activations import RowActivations
    from unrolled.tables.metric_report import MetricReport
    from unrolled.tables.table_files import Table


logger = logging.getLogger(__name__)


class TableModel(TrainedModel):
    """A trained model that predicts the target column of a table from its source column.

    `train_table` and `load_table` return it.

    Attributes:
        network: The `torch.nn.Module`.
        spec: Source and target column, sequence mode, and statistics of the training rows.
    """

    def __init__(self, path: Path, model_file: TableModelFile, machine: MachineOptions | None = None) -> None:
        from unrolled.analysis.table_session import TableSession
        from unrolled.nn.device import select_device
        from unrolled.nn.kernels.select import choose_kernel

        options, network = machine or MachineOptions(), model_file.model
        device_config = select_device(options)
        super().__init__(path, model_file.history, sum(weight.numel() for weight in network.parameters()))
        network.to(device_config.device).eval()
        self.machine, self.kernels = choose_kernel(network, device_config, options)
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

        settings = self._options(options)
        table = open_table(name, split="test")
        return table, self._predict_rows(table, table.find_column(self.spec.source.name), settings)

    def _predict_rows(self, table: Table, column: str, settings: PredictOptions) -> Iterator[tuple[Row, Prediction]]:
        pending: list[Row] = []
        tally = RowTally()
        predictor = self.session.predictor(settings, tally)

        def sources() -> Iterator[Cell]:
            for line, row in table.rows():
                pending.append(row)
                yield Cell(row[column], table.name, line, table.folder)

        for prediction in predictor.predict_iter(sources()):
            yield pending.pop(0), prediction
        for message in tally.messages("have no prediction"):
            logger.info(message)

    @keyword_arguments(PredictOptions, exclude=("probabilities", "image_dir"))
    def evaluate(self, name: str | None = None, split: str | None = None, **options: Unpack[PredictKwargs]) -> MetricReport:
        """Return the metrics on a table.

        Args:
            name: A table with both columns; None: that of the run.
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
        refuse_unused(settings, options, dict.fromkeys(("order", "samples", "seed"), "is for models of texts"))
        return write_report(self.run, self.path, settings, lambda: build_table_report(self.session))

    def _options(self, options: Mapping[str, Any]) -> PredictOptions:
        settings = from_dict(PredictOptions, options, "predict")
        check_prediction(settings, present_names(options, (PredictOptions,)), self.spec.dims, self.spec.target.kind)
        return settings

    def _predictor(self, options: Mapping[str, Any]) -> Predictor:
        return self.session.predictor(self._options(options))
