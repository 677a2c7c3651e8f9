"""How a model of texts finds what is unusual: the surprisal of tokens and lines, and alerts of logs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from unrolled.errors import UsageError
from unrolled.keyword_docs import keyword_arguments
from unrolled.keywords import AlertKwargs, ScoreKwargs
from unrolled.models.base import MAX_PATH_CHARS, TrainedModel
from unrolled.nn.unit_clamp import parse_clamp
from unrolled.options import AlertOptions, ScoreOptions, from_dict

if TYPE_CHECKING:
    from unrolled.analysis.score_text import ScoredText
    from unrolled.analysis.text_session import TextSession
    from unrolled.evaluation.line_alerts import Alert, AlertReport
    from unrolled.evaluation.line_surprisal import ScoringStream


def file_name(name: object) -> str:
    """Return the name of a file as a string. Raises `UsageError` for what is no name."""
    if not isinstance(name, str | os.PathLike):
        raise UsageError(
            f"Names of files are expected, and a {type(name).__name__} is given: name files one by one, or give a text to "
            "score(text)."
        )
    return str(name)


def file_name_or_none(name: object) -> str | None:
    """Return the same for a method that reads the run's own text without a name."""
    return None if name is None else file_name(name)


class ScoringModel(TrainedModel):
    """The methods of `Model` that score texts and logs. `session` has the network and the tokenizer."""

    session: TextSession

    def score(
        self,
        text: str | Path,
        clamp: Sequence[str] = (),
        adapt: bool = False,
        *,
        alert_rate: float | None = None,
        alert_above: float | None = None,
        alert_cooldown: int | None = None,
        labels: Sequence[object] | None = None,
    ) -> ScoredText:
        """Return how surprising each token of a text is and, with a threshold of alerts or labels, which lines are alerts.

        Args:
            text: The text, T tokens; or the `pathlib.Path` of a file that has it.
            clamp: Hidden units to set to a constant, each as "LAYER.UNIT=VALUE".
            adapt: Whether the model goes on learning while it reads; the model itself does not change.
            alert_rate: Fraction of the run's validation lines that may be above the threshold of alerts.
            alert_above: The threshold itself, in bits of a line.
            alert_cooldown: Lines of a session after an alert that belong to it; None: 10 with sessions, else 0.
            labels: A label for each line, as for `alerts`.

        Returns:
            A ScoredText: `bits` `(T,)`, nan for a token without context; `bits_per_character`, the mean; `report`, an
            AlertReport, or None if it was not asked for.

        Raises:
            UsageError: A clamp names no unit of the model, clamp and adapt are given, or the text is the name of a file.

        Example:
            >>> model.score("The cat").bits.shape
            (7,)
        """
        from unrolled.analysis.score_text import score_text

        if isinstance(text, str) and len(text) <= MAX_PATH_CHARS and "." in text and os.path.isfile(text):
            raise UsageError(f"{text!r} is a file, and a text is expected: score(pathlib.Path({text!r})) reads the file.")
        text = self.session.read_text(str(text)) if isinstance(text, os.PathLike) else text
        scored = score_text(self.session, text, [parse_clamp(unit) for unit in clamp], adapt)
        if alert_rate is None and alert_above is None and alert_cooldown is None and labels is None:
            return scored
        from unrolled.analysis.log_alerts import AlertScan, as_labels

        given = {"alert_rate": alert_rate, "alert_above": alert_above, "alert_cooldown": alert_cooldown}
        alert_options = from_dict(AlertOptions, given, "score")
        options = ScoreOptions(clamp=tuple(clamp), adapt=adapt)
        scan = AlertScan(self.session, None, alert_options, options, None if labels is None else as_labels(labels), text)
        return dataclasses.replace(scored, report=scan.report())

    @keyword_arguments(
        ScoreOptions,
        exclude={
            "per": "call lines() or tokens() of the result",
            "top": "call top_lines(...) of the result",
            "html": "the command line writes it",
            "force": "nothing is written",
        },
    )
    def scoring(self, name: str | Path | None = None, **options: Unpack[ScoreKwargs]) -> ScoringStream:
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

        return open_scoring_stream(self.session, file_name_or_none(name), from_dict(ScoreOptions, options, "score"))

    @keyword_arguments(AlertOptions, exclude={"labels": "", "follow": "call follow(...)", "from_start": "call follow(...)"})
    def alerts(  # type: ignore[misc]  # labels may be a list here, and is a file on the command line
        self,
        name: str | Path | None = None,
        labels: Sequence[object] | str | Path | None = None,
        encoding: str | None = None,
        **options: Unpack[AlertKwargs],
    ) -> AlertReport:
        """Return the lines of a log that have more bits than a threshold.

        Args:
            name: A file, a folder or `-`, or a table with `label`; None: the validation split of the run.
            labels: A label for each line, or a file of them: false, 0, no, normal, ok, benign or - for a normal line.
            encoding: Encoding of the text; None: UTF-8.

        Returns:
            An AlertReport: `alerts`, each with `number`, `bits`, `text` and `key`; `threshold`; and with labels `metrics`.

        Raises:
            UsageError: There is no threshold and there are no labels.
            DataError: There are too few held-out lines for `alert_rate`, or the labels are not those of the lines.

        Example:
            >>> report = model.alerts("book.txt", alert_above=1.0)
            >>> report.num_lines, report.alerts[0].number
            (60, 1)
        """
        from unrolled.analysis.log_alerts import AlertScan, as_labels

        is_file = isinstance(labels, str | os.PathLike)
        alert_options = from_dict(AlertOptions, {**options, **({"labels": str(labels)} if is_file else {})}, "alerts")
        given = None if labels is None or is_file else as_labels(labels)
        return AlertScan(self.session, file_name_or_none(name), alert_options, ScoreOptions(encoding=encoding), given).report()

    @keyword_arguments(
        AlertOptions, exclude=dict.fromkeys(("label", "labels", "source"), "call alerts(...)") | {"follow": "give path"}
    )
    def follow(
        self, path: str | Path, should_stop: Callable[[], bool] = lambda: False, **options: Unpack[AlertKwargs]
    ) -> Iterator[Alert]:
        """Yield the alerts of the lines that are appended to a file, as `tail -F` does, until `should_stop` returns True.

        Args:
            path: The file. It may not exist yet, and may be replaced by another one or become shorter.
            should_stop: Asked a few times each second.

        Yields:
            Alerts, each with `number`, `bits`, `text` and `key`, as soon as their line is complete.

        Raises:
            UsageError: There is no threshold.

        Example:
            >>> with open("grows.log", "w") as file:
            ...     print("The cat", file=file)
            >>> looks = iter([False, True])
            >>> [alert.text for alert in model.follow("grows.log", looks.__next__, alert_above=0.1, from_start=True)]
            ['The cat']
        """
        from unrolled.analysis.log_alerts import follow_alerts

        return follow_alerts(
            self.session, from_dict(AlertOptions, {**options, "follow": file_name(path)}, "follow"), ScoreOptions(), should_stop
        )
