"""A model of series as its exporters read it: columns and weights; steps to compare on, and its outputs for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from unrolled.exchange.export_job import SHAPES, array_of
from unrolled.nn.number_loss import deviation, split_outputs
from unrolled.runtime.portable_arithmetic import Floats
from unrolled.runtime.text_network import GATE_NAMES, TextLayer, cell_layer
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.step_arrays import StepArray
from unrolled.tables.time_features import CYCLES, DAY, next_seconds

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile
    from unrolled.nn.encoder_decoder import EncoderDecoder
    from unrolled.tables.column import Column
    from unrolled.tables.known_covariates import Covariate

MAX_NAMED_LABELS = 40
MAX_COMPARED_LAG = 500
"""Steps, at most, that the longest compared series has more because of the lag of a model of changes."""


def unsupported_cell(model_file: TableModelFile, cells: Collection[str], where: str) -> str | None:
    """Say that the cell of a model is not one of `cells`, those that are `where` it goes, or return None."""
    cell = model_file.model.options.cell
    return None if cell in cells else f"the cell {cell} is not {where}; these are: {', '.join(cells)}"


def unsupported_series(model_file: TableModelFile, cells: Collection[str], where: str) -> str | None:
    """Say why a step of a model of series cannot be exported, or return None: its cell is not one of `cells`, those that are
    `where` it goes, or a step needs the others."""
    source = model_file.spec.source
    if reason := unsupported_cell(model_file, cells, where):
        return reason
    if isinstance(source, NumbersColumn) and source.covariates:
        return "--known-covariates are read with the step that is predicted, and an exported step has its own numbers alone"
    if isinstance(source, NumbersColumn) and (source.center != "none" or source.scale != "all"):
        return "--center and --scale need the other numbers of a series, which a step does not know"
    return None


class Head(NamedTuple):
    """The output layer: `weight` `(V, H)` for features, `skip` `(V, I)` for the inputs of the step, and `bias` `(V,)`."""

    weight: Floats
    bias: Floats
    skip: Floats


@dataclass(frozen=True)
class SeriesModel:
    """A model of series: its columns, of which a target of numbers is `numbers` too, and the network."""

    source: NumbersColumn
    target: Column
    numbers: NumbersColumn | None
    horizon: int
    network: EncoderDecoder
    covariates: tuple[Covariate, ...] = ()
    """Columns that are known in advance."""

    @staticmethod
    def of(model_file: TableModelFile) -> SeriesModel:
        """Return the model of a file. Raises `ValueError` if it does not predict something at every step of a series."""
        spec = model_file.spec
        if not isinstance(spec.source, NumbersColumn) or not spec.is_stream:
            raise ValueError("The model does not read a series.")
        numbers = spec.target if isinstance(spec.target, NumbersColumn) else None
        return SeriesModel(spec.source, spec.target, numbers, spec.horizon, model_file.model, spec.known_covariates)

    @property
    def num_labels(self) -> int:
        """Labels that can be predicted: all but the unknown one."""
        return 0 if self.numbers else max(1, self.network.dims.target_size - 1)

    @property
    def describe_outputs(self) -> str:
        """What a step writes, in words."""
        if self.numbers is None:
            return f"the probabilities of {', '.join(list(self.target.labels)[:MAX_NAMED_LABELS])}"
        columns, when = ", ".join(self.numbers.columns), "the next step" if self.horizon else "this step"
        if self.numbers.loss == "gaussian":
            return f"the mean of {columns} at {when}, then the standard deviation of each"
        if self.numbers.loss == "quantiles":
            levels = ", ".join(f"{level:g}" for level in self.numbers.quantiles)
            return f"the quantiles {levels} at {when}, each of {columns}"
        return f"{columns} at {when}"

    @property
    def layers(self) -> tuple[TextLayer, ...]:
        """The recurrent layers, with the norms before them."""
        stack, names = cast(Any, self.network.encoder.stack), GATE_NAMES[self.network.options.cell]
        layers = []
        for layer in stack.layer_list():
            norm = (
                {} if layer.norm is None else {f"norm_{key}": array_of(getattr(layer.norm, key)) for key in ("weight", "bias")}
            )
            layers.append(cell_layer({name: array_of(value) for name, value in layer.cell.named_parameters()}, names, **norm))
        return tuple(layers)

    @property
    def head(self) -> Head:
        """The output layer, with the temperature of labels in it."""
        head, skip = cast(Any, self.network.head), cast(Any, self.network.skip)
        known, temperature = (
            slice(self.num_labels or None),
            np.float32(1.0 if self.numbers else float(self.network.temperature)),
        )
        return Head(*(array_of(part)[known] / temperature for part in (head.weight, head.bias, skip.weight)))

    def seconds_read(self, values: StepArray) -> NDArray[np.float64]:
        """Return the times that a step reads with the steps of a series: of a forecast, those of the next ones."""
        seconds = values.seconds
        return np.append(seconds[1:], next_seconds(seconds, 1)) if self.horizon else seconds

    def compared_steps(self, num_steps: int, seed: int, ahead: int = 1) -> StepArray:
        """Return steps to compare on: a walk through the range of each column, with a spike if spikes are clipped, and gaps if
        there may be some. A spike that is not clipped would be the range of the outputs, and hide all differences.

        Covariates are known of `ahead` steps more.
        """
        source, draw = self.source, np.random.default_rng(seed)
        walk = np.cumsum(draw.standard_normal((num_steps, len(source.columns))), axis=0)
        values = source.scaling.center + source.scaling.spread * (0.4 * walk + draw.standard_normal(walk.shape))
        if np.isfinite(source.scaling.high[0]):
            values[num_steps // 2, 0] += 1000 * source.scaling.spread[0]
        if source.scaling.has_gaps:
            values[draw.random(values.shape) < 0.1] = np.nan
            values[:2, -1] = np.nan  # before the first number, too
        start = float(np.datetime64("2024-02-27", "s").astype(np.int64))
        step = min((CYCLES[cycle] for cycle in source.cycles), default=DAY) / 7
        covariates = draw.standard_normal((num_steps + ahead, len(source.covariates))).astype(np.float32)
        return StepArray.make(values, seconds=start + step * np.arange(num_steps), covariates=covariates)

    def expected_outputs(self, values: StepArray) -> NDArray[np.float64]:
        """Return the outputs `(T, V)` for the steps of a series, as the network of PyTorch and its columns give them."""
        import torch

        inputs, target = self.source.to_inputs(values), self.numbers
        with torch.inference_mode():
            outputs, _ = self.network.stream(torch.from_numpy(inputs)[:, None], self.network.initial_state(1))
            outputs = outputs[:, 0].float()
            if target is None:
                return np.asarray(outputs[:, : self.num_labels].double().softmax(-1).numpy())
            parts = split_outputs(outputs, len(target.columns))
            deviations = deviation(parts[1]).double().numpy() if target.loss == "gaussian" else None
        lag, steps = max(1, target.difference), np.arange(len(inputs))
        before = np.where(steps + 1 >= lag, steps + 1 - lag, steps)  # of a series that is shorter than the lag, the last number
        levels = inputs[before, : len(target.columns)].astype(np.float64)
        numbers = [target.unscale(target.after(part, levels)) for part in parts.double().numpy()]
        if deviations is not None:
            numbers[1] = deviations * target.scaling.spread * (target.change.spread if target.difference else 1.0)
        if target.loss == "quantiles":
            numbers = list(np.sort(np.stack(numbers), axis=0))
        return np.concatenate(numbers, axis=1)

    def output_ranges(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the range of each output over steps `(T, V)`, of which a difference is a fraction; 1 is added for labels."""
        ranges = np.ptp(outputs, axis=0) + (self.num_labels > 0)
        return np.asarray(np.maximum(ranges, 1e-3 * ranges.max()))


def compared_series(series: SeriesModel) -> Iterator[list[StepArray]]:
    """Yield batches of series `(2 T, D)` to compare on, by `SHAPES`; the last are longer than the lag, if there is one."""
    for steps, batch_size in SHAPES:
        steps += min(series.source.difference, MAX_COMPARED_LAG) if (steps, batch_size) == SHAPES[-1] else 0
        yield [series.compared_steps(2 * steps, seed) for seed in range(batch_size)]
