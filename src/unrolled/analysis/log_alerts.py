"""Alerts: lines of a log with more bits than a threshold, in a text, a labeled table, or a file that grows."""

from __future__ import annotations

import itertools
import logging
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unrolled.analysis.score_text import open_scorer
from unrolled.analysis.text_session import TextSession
from unrolled.datasets.base_models import display_path
from unrolled.display import plural
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.line_alerts import (
    Alert,
    AlertCooldown,
    AlertReport,
    LabelMetrics,
    Threshold,
    choose_threshold,
    is_anomaly,
    label_metrics,
    lines_needed,
    require_as_many,
)
from unrolled.evaluation.line_surprisal import FileStarts, LineAggregator, ScoredLine, ScoringStream
from unrolled.evaluation.log_blocks import LogBlocks
from unrolled.evaluation.surprisal import SurprisalScorer, TextBlock, score_blocks
from unrolled.options import AlertOptions, ScoreOptions
from unrolled.tables.cell_values import parse_text
from unrolled.tables.table_files import open_table
from unrolled.tables.table_format import TableFormat
from unrolled.text.followed_file import FollowedFile
from unrolled.text.line_format import split_lines
from unrolled.text.text_files import existing_file, read_lines
from unrolled.text.tokenizer import LINE_FEED

logger = logging.getLogger(__name__)

SESSION_COOLDOWN = 10
"""Lines of a session after an alert that belong to it, unless said otherwise."""

MIN_THRESHOLD_LINES = 20_000
EXPECTED_ABOVE = 100
"""Held-out lines above a threshold that are enough: their number is then known to 10%, and more lines are not read."""


class AlertScan:
    """Reads the lines of a text, of `name` or `text` itself, once: iterate over it for its alerts; or call `report`.

    Raises `UsageError` for settings that do not fit together, and `DataError` as `choose_threshold` and `label_metrics` do.
    """

    def __init__(
        self,
        session: TextSession,
        name: str | None,
        options: AlertOptions,
        score_options: ScoreOptions,
        labels: Sequence[str] | None = None,
        text: str | None = None,
    ) -> None:
        check_alert_options(options, score_options, labels)
        format = TableFormat(encoding=score_options.encoding)
        blocks: Iterable[TextBlock]
        files = FileStarts()
        self._blocks = LogBlocks(session.tokenizer)
        if text is not None:
            own_lines = split_lines(text)
            blocks = self._blocks.blocks_of_lines(own_lines)
            if labels is not None:
                require_as_many(len(labels), len(own_lines))
        elif options.label is not None:
            lines, labels = labeled_lines(name, options.label, options.source, format)
            blocks = self._blocks.blocks_of_lines(lines)
        else:
            blocks = session.text_blocks(name, format, files=files)
            labels = read_labels(options.labels) if options.labels is not None else labels
            if labels is not None and name not in (None, "-"):
                require_as_many(len(labels), _count_lines(session, name, format))
        self._labels = None if labels is None else list(map(str, labels))
        if self._labels is not None:
            is_anomaly(self._labels)
        self.threshold = alert_threshold(session, options, score_options)
        self._stream = ScoringStream(["model"], [open_scorer(session, score_options)], blocks, files)
        self._bits, self._alert_numbers, self.num_alerts = array("d"), array("q"), 0
        self._finder = AlertFinder.of(session, options, self.threshold)
        self._notes = self._blocks.notes if text is not None or options.label is not None else list

    def __iter__(self) -> Iterator[Alert]:
        """Yield the alerts, in order."""
        for line in self._stream.lines():
            if self._labels is not None:
                self._bits.append(line.bits[0])
            number = self._finder.alert_number(line)
            if number is not None and self._labels is not None:
                self._alert_numbers.append(number)
            if number == line.number:
                self.num_alerts += 1
                yield _alert(line)
        for note in self._notes():
            logger.info(note)

    @property
    def num_lines(self) -> int:
        """Lines that were read so far."""
        return self._stream.totals.num_lines

    @property
    def metrics(self) -> LabelMetrics | None:
        """How well the lines are separated, if they have labels."""
        if self._labels is None:
            return None
        return label_metrics(self._bits, self._labels, self.threshold, self._alert_numbers)

    @property
    def cooldown(self) -> AlertCooldown:
        """How many lines after an alert belong to it, and how many of them were above the threshold so far."""
        return self._finder.cooldown

    def report(self) -> AlertReport:
        """Read the text, and return all alerts."""
        alerts = list(self)
        return AlertReport(alerts, self.num_lines, self.threshold, self.metrics, self.cooldown.num_following)


@dataclass(frozen=True)
class AlertFinder:
    """Tells which lines are alerts. Without sessions, all lines are one."""

    threshold: Threshold | None
    cooldown: AlertCooldown
    has_sessions: bool

    @staticmethod
    def of(session: TextSession, options: AlertOptions, threshold: Threshold | None) -> AlertFinder:
        """Return what finds the alerts of a model's text."""
        has_sessions = session.saved.documents == "session"
        default = SESSION_COOLDOWN if has_sessions else 0
        cooldown = AlertCooldown(default if options.alert_cooldown is None else options.alert_cooldown)
        return AlertFinder(threshold, cooldown, has_sessions)

    def alert_number(self, line: ScoredLine) -> int | None:
        """Return the number of the alert that a line belongs to, its own if it is one; None if it is not above."""
        is_above = self.threshold is not None and line.bits[0] > self.threshold.bits
        return self.cooldown.alert_of(line.number, line.key if self.has_sessions else "", is_above)


def check_alert_options(options: AlertOptions, score_options: ScoreOptions, labels: object = None) -> None:
    """Raise `UsageError` for settings that do not fit together."""
    has_labels = options.labels is not None or options.label is not None or labels is not None
    has_alerts = options.alert_rate is not None or options.alert_above is not None
    if options.alert_rate is not None and options.alert_above is not None:
        raise UsageError("--alert-rate and --alert-above both give the threshold: leave one out.")
    if options.alert_cooldown is not None and not has_alerts:
        raise UsageError("--alert-cooldown is for alerts: give --alert-rate or --alert-above, or leave it out.")
    if not has_alerts and not has_labels:
        raise UsageError("Alerts need a threshold: give --alert-rate, as in --alert-rate 0.001, or --alert-above BITS.")
    if (options.labels is not None) + (options.label is not None) + (labels is not None) > 1:
        raise UsageError("--labels and --label both give the labels: leave one out.")
    if options.source is not None and options.label is None:
        raise UsageError(
            "--source names the lines of a table whose labels are in --label: it would have no effect, so leave it out."
        )
    for name in ("compare", "clamp", "html"):
        if getattr(score_options, name):
            raise UsageError(f"--{name} does not go together with alerts or labels: leave it out.")
    if score_options.per == "character":
        raise UsageError("--per character does not go together with alerts or labels, which are about lines: leave it out.")
    if score_options.adapt and options.alert_rate is not None:
        raise UsageError(
            "--adapt changes the model while it reads, and --alert-rate is a threshold of the model as it is: leave one out."
        )


def alert_threshold(session: TextSession, options: AlertOptions, score_options: ScoreOptions) -> Threshold | None:
    """Return the threshold of the bits of a line: as given, or chosen on the run's validation lines; None without alerts."""
    if options.alert_above is not None:
        return Threshold(options.alert_above)
    if options.alert_rate is None:
        return None
    if session.run is None:
        raise UsageError(
            f"{display_path(session.path)} is a model without its run folder, which has the held-out lines for --alert-rate: "
            "name a run, or give the threshold with --alert-above BITS."
        )
    stream = ScoringStream(["model"], [open_scorer(session, score_options)], session.held_out_blocks(session.validation_ids()))
    most = max(MIN_THRESHOLD_LINES, EXPECTED_ABOVE * lines_needed(options.alert_rate))
    lines = itertools.islice(stream.lines(), most)
    return choose_threshold((line.bits[0] for line in lines if line.num_tokens), options.alert_rate)


def _alert(line: ScoredLine) -> Alert:
    return Alert(
        line.number_in_file,
        line.bits[0],
        line.text if line.source is None else line.source,
        None if line.key is None else str(line.key),
        line.file,
    )


def read_labels(name: str) -> list[str]:
    """Return the labels in a file, one for each line."""
    lines = [line.decode("utf-8", "replace").strip() for line in read_lines(existing_file(name), as_bytes=False)]
    return lines[:-1] if lines and not lines[-1] else lines


def labeled_lines(name: str | None, label: str, source: str | None, format: TableFormat) -> tuple[list[str], list[str]]:
    """Return the lines and the labels of the rows of a table."""
    if name is None:
        raise UsageError("--label names a column of a table: give the table as INPUT.")
    table = open_table(name, format=format, stdin=True)
    label = table.find_column(label)
    others = [column for column in table.columns if column != label]
    if source is None and len(others) != 1:
        raise UsageError(
            f"{table.name} has {plural(len(others), 'column')} other than '{label}': name that of the lines with --source."
        )
    source = others[0] if source is None else table.find_column(source)
    lines, labels, num_joined = [], [], 0
    for number, row in table.rows():
        text = parse_text(table.cell(number, row, source))
        num_joined += "\n" in text
        lines.append(text.replace("\n", " "))
        labels.append(parse_text(table.cell(number, row, label)))
    for note in table.notes:
        logger.info(note)
    if num_joined:
        logger.info(f"{plural(num_joined, 'cell')} of '{source}' had line ends, which became spaces")
    return lines, labels


def _count_lines(session: TextSession, name: str, format: TableFormat) -> int:
    """Return the number of lines of a text, so that labels that do not match are refused before it is scored."""
    count, last = 0, LINE_FEED
    for chunk in session.code_point_chunks(name, format):
        count += int((chunk == LINE_FEED).sum())
        last = int(chunk[-1])
    return count + (last != LINE_FEED)


def follow_alerts(
    session: TextSession,
    options: AlertOptions,
    score_options: ScoreOptions,
    should_stop: Callable[[], bool] = lambda: False,
    on_start: Callable[[Threshold, int], None] = lambda threshold, num_earlier: None,
) -> Iterator[Alert]:
    """Yield the alerts of the lines that are appended to the file `options.follow`, until `should_stop`.

    `on_start` receives the threshold, and how many lines before the end of the file were read to know what is open there.
    """
    check_alert_options(options, score_options)
    file = FollowedFile(Path(options.follow or ""), options.from_start, should_stop)
    threshold = alert_threshold(session, options, score_options)
    if threshold is None:
        raise UsageError("--follow prints alerts, which need a threshold: give --alert-rate or --alert-above.")
    scorer = open_scorer(session, score_options)
    if session.saved.documents != "session":
        scorer = replace(scorer, in_order=True)
    finder = AlertFinder.of(session, options, threshold)
    blocks, lines = LogBlocks(session.tokenizer), LineAggregator(1, session.tokenizer)
    earlier = file.earlier_lines()
    for _ in score_blocks([scorer], blocks.blocks_of_lines(earlier)):
        pass
    on_start(threshold, len(earlier))
    for batch in file.batches():
        for block in score_blocks([scorer], [blocks.block(batch)]):
            yield from (_alert(line) for line in lines.add(block, -math.inf) if finder.alert_number(line) == line.number)
    for note in (
        *following_notes(finder.cooldown),
        *blocks.notes(),
        *_file_notes(file, lines.totals.num_lines),
        *_session_notes(scorer),
    ):
        logger.info(note)


def following_notes(cooldown: AlertCooldown) -> list[str]:
    """Return how many lines above the threshold were no alerts of their own."""
    count = cooldown.num_following
    if not count:
        return []
    where = f"came within {plural(cooldown.num_lines, 'line')} after an alert of their session and belong to it"
    return [f"{plural(count, 'more line')} above the threshold {where} (--alert-cooldown 0: each is an alert)"]


def _file_notes(file: FollowedFile, num_lines: int) -> list[str]:
    counts = {"rotation": file.num_rotations, "truncation": file.num_truncations}
    notes = [f"{plural(num_lines, 'line')} read", *(plural(count, noun) for noun, count in counts.items() if count)]
    if file.num_undecodable:
        notes.append(f"{plural(file.num_undecodable, 'line')} not UTF-8, with replacement marks")
    return [", ".join(notes)]


def _session_notes(scorer: SurprisalScorer) -> list[str]:
    if scorer.documents != "session":
        return []
    counts = scorer.sessions.counts
    forgotten = f"; {counts.num_forgotten:,} were forgotten to bound the memory" if counts.num_forgotten else ""
    return [f"{plural(counts.num_sessions, 'session')}{forgotten}"]


def as_labels(labels: object) -> list[str]:
    """Return labels that were given in Python. Raises `DataError` for anything but a sequence."""
    if isinstance(labels, str) or not hasattr(labels, "__iter__"):
        raise DataError(f"labels is {str(labels)[:40]!r}; expected one label for each line, in a list.")
    return [("1" if label else "0") if isinstance(label, bool) else str(label) for label in labels]
