"""Series with what was predicted for them, as the report and the page of `explain` draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unrolled.display import plural
from unrolled.evaluation.predictor import Prediction
from unrolled.tables.cell_values import Array, Cell
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.series_baselines import forecast_baselines, regression_baselines
from unrolled.tables.spec import TableSpec
from unrolled.tables.step_arrays import SeriesName
from unrolled.tables.step_times import next_times, time_positions

MAX_SERIES, MAX_COLUMNS = 6, 6
"""Series that are drawn, and columns of each."""

MAX_DRAWN_STEPS, MAX_DRAWN_HISTORY = 600, 200
"""Steps of a chart, and known steps before the first forecast in it."""

BASELINE_NAMES = {"last_value": "last value", "seasonal_naive": "one period before", "linear": "linear model"}


class DrawnRow(NamedTuple):
    """A part of a series: what was read of it, the truth if it is known, and the prediction."""

    source: Cell
    truth: Cell | None
    prediction: Prediction


class _Part(NamedTuple):
    """Steps `start` to before `stop` of a series by name, `(N, D)` each, NaN where there is nothing. `source` is what was read,
    from the step `begin` on, and `times` are those from there."""

    start: int
    stop: int
    begin: int
    source: Array
    steps: dict[str, Array]
    times: list[Any]


class _Track(NamedTuple):
    """A series from its step `first` on, of all of its parts; `starts` are the steps at which a forecast starts."""

    first: int
    times: list[Any]
    steps: dict[str, Array]
    starts: list[int]


def series_charts(spec: TableSpec, rows: Sequence[DrawnRow], report: MetricReport | None) -> list[dict[str, Any]]:
    """Return charts of some series, evenly chosen: dictionaries of JSON values, for each column of each series.

    Args:
        spec: Of a model of series; of another one, there are no charts.
        rows: Parts of series in order; those of one series have its name.
        report: Of the evaluation, which says which baseline is the best; None: none is drawn.
    """
    groups: dict[str, list[DrawnRow]] = {}
    for row in rows if spec.is_stream else ():
        if len(row.prediction.values):
            groups.setdefault(SeriesName.of(row.source).name, []).append(row)
    baseline, names, charts = _best_baseline(report), list(groups), list[dict[str, Any]]()
    for place in np.unique(np.linspace(0, len(names) - 1, MAX_SERIES).astype(int)) if names else ():
        track = _track(spec, [_part(spec, row, baseline) for row in groups[names[place]]])
        for column in range(min(len(_drawn_columns(spec)), MAX_COLUMNS)):
            charts += _column_charts(spec, track, column, names[place], BASELINE_NAMES.get(baseline, baseline))
    return charts


def charts_note(spec: TableSpec, num_series: int) -> str:
    """Return a sentence about the series and columns that are not drawn, or an empty text."""
    num_columns = len(_drawn_columns(spec))
    parts = [f"{MAX_SERIES} of {num_series:,} series"] if num_series > MAX_SERIES else []
    parts += [f"the first {MAX_COLUMNS} of {plural(num_columns, 'column')}"] if num_columns > MAX_COLUMNS else []
    return f"Drawn: {' and '.join(parts)}." if parts else ""


def _drawn_columns(spec: TableSpec) -> Sequence[str]:
    """Return the columns of numbers that are drawn: those that are predicted, or, of labels, those that are read."""
    column = spec.target if isinstance(spec.target, NumbersColumn) else spec.source
    return column.columns if isinstance(column, NumbersColumn) else ()


def chart_line(chart: dict[str, Any]) -> str:
    """Return a chart of `series_charts` as a line of text: its series and column, and the errors."""
    name = ", ".join(filter(None, (chart["series"], chart["column"], chart["note"])))
    if chart["error"] is None:
        return f"{name}: the true numbers are not known"
    if chart["labels"]:
        return f"{name}: {chart['error']:.1%} of the labels are wrong"
    baseline = f", {chart['baseline_name']} {chart['baseline_error']:.4g}" if chart["baseline_error"] is not None else ""
    return f"{name}: root mean squared error {chart['error']:.4g}{baseline}"


def _best_baseline(report: MetricReport | None) -> str:
    """Return the name of the best baseline of numbers that knows no more than the model, or an empty text."""
    known = {} if report is None else report.baselines
    fair = {name: each["rmse"] for name, each in known.items() if report and name not in report.informed and "rmse" in each}
    return min(fair, key=lambda name: fair[name], default="")


def _part(spec: TableSpec, row: DrawnRow, baseline: str) -> _Part:
    """Return the steps that a row predicts: those of its truth; without one, all."""
    source, begin, values = spec.source.encode(row.source), getattr(row.source.value, "first", 0), row.prediction.values
    truth, count = _truth(spec, row, len(values))
    start = begin + len(source) - (0 if spec.horizon else count)
    own = slice(0, count) if spec.horizon else slice(len(values) - count, len(values))
    times = list(SeriesName.of(row.source).times)
    if spec.horizon and len(times) == len(source):
        after = [] if row.truth is None else list(SeriesName.of(row.truth).times)
        times += after if after or not times else next_times(times, count)
    times = times[: len(source) + count * bool(spec.horizon)]
    if spec.target.labels:
        steps = {"truth": source[len(source) - count :], "true_label": truth, "label": values[own, None].astype(np.float64)}
        return _Part(start, start + count, begin, source, steps, times)
    steps = {"truth": truth, "predicted": values[own]}
    if (bands := row.prediction.quantiles) is not None:
        steps |= {"low": bands[0, own], "high": bands[-1, own]}
    if baseline:
        stats = spec.train_stats
        made = forecast_baselines(source, count, stats) if spec.horizon else regression_baselines(source, truth, stats)
        steps |= {"baseline": made[baseline]} if baseline in made else {}
    return _Part(start, start + count, begin, source, steps, times)


def _truth(spec: TableSpec, row: DrawnRow, num_predicted: int) -> tuple[Array, int]:
    """Return the true numbers, or ids of labels, `(N, D)` of a row, NaN where unknown, and the number of steps."""
    target, width = spec.target, len(_drawn_columns(spec)) if not spec.target.labels else 1
    if row.truth is None:
        return np.full((num_predicted, width), np.nan), num_predicted
    if target.labels:
        places = {label: float(place) for place, label in enumerate(target.labels)}
        truth = np.array([places.get(label, np.nan) for label in row.truth.value])[:, None]
    else:
        truth = target.encode(row.truth)
    count = min(len(truth), num_predicted)
    return (truth[:count] if spec.horizon else truth[len(truth) - count :]), count


def _track(spec: TableSpec, parts: list[_Part]) -> _Track:
    """Return all steps of a series that parts of it predict, and some before them."""
    begin, end = min(part.start for part in parts), max(part.stop for part in parts)
    known = min(begin - parts[0].begin, MAX_DRAWN_HISTORY, 4 * spec.horizon + 20) if spec.horizon else 0
    first = begin - known
    steps = {name: np.full((end - first, values.shape[1]), np.nan) for name, values in parts[0].steps.items()}
    times: list[Any] = [None] * (end - first)
    for part in parts:
        skipped = max(0, first - part.begin)
        for place, time in enumerate(part.times[skipped:], part.begin + skipped - first):
            times[place] = time
        if spec.horizon:
            read = part.source[skipped:]
            steps["truth"][part.begin + skipped - first :][: len(read)] = read
        for name, values in part.steps.items():
            if name in steps:
                np.copyto(steps[name][part.start - first : part.stop - first], values, where=~np.isnan(values))
    return _Track(first, times, steps, [part.start - first for part in parts] if spec.horizon else [])


def _column_charts(spec: TableSpec, track: _Track, column: int, name: str, baseline: str) -> list[dict[str, Any]]:
    """Return the chart of one column of a series; of a long series, one of its last steps and one of its largest errors."""
    steps = {key: values[:, min(column, values.shape[1] - 1)] for key, values in track.steps.items()}
    source, target, labels = spec.source, spec.target, list(spec.target.labels)
    rate = source.rate if isinstance(source, NumbersColumn) else None
    kind, places = (
        ("seconds", [(track.first + s) / rate for s in range(len(track.times))]) if rate else time_positions(track.times)
    )
    guess, truth = (steps["label"], steps["true_label"]) if labels else (steps["predicted"], steps["truth"])
    errors = (guess != truth) & ~np.isnan(truth) if labels else np.abs(np.nan_to_num(guess - truth))
    shared = {
        "series": name, "column": _drawn_columns(spec)[column], "time": kind, "baseline_name": baseline,
        "time_name": (spec.long and spec.long.order_by) or "", "horizon": spec.horizon, "labels": labels,
        "levels": [target.quantiles[0], target.quantiles[-1]] if isinstance(target, NumbersColumn) else [],
        "error": _error(guess, truth, bool(labels)),
        "baseline_error": _error(steps["baseline"], truth) if "baseline" in steps else None,
    }  # fmt: skip
    charts = []
    for note, window in _windows(errors, steps["truth"], bool(rate)):
        drawn = {key: _numbers(values[window]) for key, values in steps.items()}
        x = places[window] if places else [track.first + step + 1 for step in range(window.start, window.stop)]
        texts = [str(time) for time in track.times[window]] if kind in ("date", "UTC") else []
        starts = [step - window.start for step in track.starts if window.start <= step < window.stop]
        charts.append({**shared, "note": note, "x": x, "times": texts, "starts": starts, **drawn})
    return charts


def _windows(errors: Array, truth: Array, is_audio: bool) -> list[tuple[str, slice]]:
    """Return which steps are drawn, and what to say of them. Of a sound, the end is often silent: the loudest part is drawn."""
    count = len(errors)
    if count <= MAX_DRAWN_STEPS:
        return [("", slice(0, count))]
    window, last = _largest(errors), slice(count - MAX_DRAWN_STEPS, count)
    usual = ("the loudest part", _largest(np.abs(np.nan_to_num(truth)))) if is_audio else ("the last steps", last)
    if window.start < usual[1].stop and usual[1].start < window.stop:
        return [usual]
    return [usual, ("the largest errors", window)]


def _largest(values: Array) -> slice:
    """Return the steps of a chart in which the squares of some values have the largest sum."""
    sums = np.cumsum(np.concatenate([[0.0], np.square(values)]))
    start = int(np.argmax(sums[MAX_DRAWN_STEPS:] - sums[:-MAX_DRAWN_STEPS]))
    return slice(start, start + MAX_DRAWN_STEPS)


def _error(guess: Array, truth: Array, are_labels: bool = False) -> float | None:
    """Return the root mean squared error of numbers, or the share of labels that are wrong; None without a truth."""
    errors = guess - truth
    errors = errors[~np.isnan(errors)]
    if not len(errors):
        return None
    return float(np.mean(errors != 0)) if are_labels else float(np.sqrt(np.mean(np.square(errors))))


def _numbers(values: Array) -> list[float | None]:
    """Return numbers with 7 digits, None for gaps."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.tolist()]
