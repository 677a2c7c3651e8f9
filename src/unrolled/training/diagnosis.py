"""A diagnosis of a training in words: underfit or overfit, and what would help.

Every judgment about a run is here, so that the verdict, `explain` and `report` say the same: the verdict is the beginning of
the diagnosis, and the advice follows from the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from unrolled.training.recipe import describe_epochs

OVERFIT_FRACTION = 0.9
"""If the best model came before this share of the steps, the rest was memorizing."""

MIN_GENERALIZATION_GAP = 0.12
"""Loss on new text above that on the text trained on, as a share, from which the text itself is the limit."""

MIN_OVERFIT_GAP = 0.02
"""Loss on new text above that on the text trained on, as a share, from which it may be called overfitting."""

MIN_GAIN_NATS = 0.005
"""A gain that would be printed as 0.00 is none."""

MIN_UNDERFIT_GAIN = 0.015
"""Nats that twice the time must bring for a network to be called underfit: less would be printed as 0.01."""

MIN_COPY_TOKENS = 60
"""A copied substring of this length leads to advice against memorization. It is longer than the threshold of `--novel-only`,
so that common phrases do not lead to advice."""

MIN_NOVELTY = 0.8
"""New 8-grams of samples, as a share of those of real text, below which samples repeat the training text."""

MAX_UNDERFIT_EPOCHS = 4.0
"""A text that was read more often and still is not learned is held back by the size of the network too, not by time alone."""

OVERFIT, AT_FLOOR, TEXT_LIMITED, SIZE_LIMITED, UNDERFIT, TOO_SHORT, NOT_LEARNED = (
    "Overfit", "As good as this text allows", "Limited by the text", "Limited by time or size", "Underfit",
    "Too short to judge", "No better than a baseline",
)  # fmt: skip
UNVALIDATED = "There was no text to validate on, so whether it overfits is not known: give it more text."
FROM_BASE = "Started from"
"""The last sentence of the diagnosis of a training from another model begins so; in older runs the first one, of no verdict."""

VERDICTS = (OVERFIT, AT_FLOOR, TEXT_LIMITED, SIZE_LIMITED, UNDERFIT, TOO_SHORT)
"""The verdicts: each is the beginning of a diagnosis."""

TABLE_VERDICTS = {
    "Overfit": OVERFIT, "Limited by time or size": SIZE_LIMITED, "Underfit": UNDERFIT,
    "No better than a baseline": NOT_LEARNED,
    **{f"As good as these {noun} allow": AT_FLOOR for noun in ("rows", "steps")},
    **{f"Limited by the {noun}": TEXT_LIMITED for noun in ("rows", "steps")},
    **{f"Too few {noun} to judge": TOO_SHORT for noun in ("rows", "steps")},
}  # fmt: skip
"""The verdicts on a table, each with the one on a text that means the same."""

REMEDIES = {
    OVERFIT: ("dropout", "data"), AT_FLOOR: (), TEXT_LIMITED: ("data", "dropout"), SIZE_LIMITED: ("width", "time"),
    UNDERFIT: ("time",), TOO_SHORT: (), NOT_LEARNED: (),
}  # fmt: skip
"""The advice that may be given with each verdict, so that none contradicts it."""

MIN_BASE_SHARE = 0.75
"""The share of the passes that a base gains from, below which time is the limit."""

MIN_JUDGED_TOKENS = 500
"""In a shorter text, the validation part is a few words, and its loss says nothing about what limits the model."""

MIN_FALL = 0.01
"""A fall of the validation loss in the last half of a run, as a share, below which more time is not advised."""

MAX_DROPOUT = 0.5
MIN_CURVE_POINTS = 4
MIN_JUDGED_ROWS = 20
"""With fewer validation rows, a table is not judged: their loss says too little."""

LOW_TABLE_LOSS = 0.05
"""Nats per target (for numbers: of their variance) below which little is left to gain."""

FLOOR_TABLE_LOSS = 0.01
"""The same of rows that were read a few times only, whose loss still falls."""

MIN_TABLE_GAP = 0.02
"""Difference of validation and training loss of a table that may be chance."""

MIN_MEMORIZE_EPOCHS = 1.5
"""Before a text was read so often, a gap is a difference between its two parts."""


def diagnose(train: float, val: float | None, best_fraction: float, epochs: float, tokens_per_epoch: int) -> str:
    """Return one or two sentences.

    `train` and `val` are the losses of the saved model in nats per character, without dropout. It was saved after
    `best_fraction` of the steps. The text of `tokens_per_epoch` tokens was read `epochs` times.
    """
    if val is None:
        return UNVALIDATED
    if plain := _judge_plain_cases(train, val, best_fraction, epochs, tokens_per_epoch):
        return plain
    losses, reads = _losses(train, val), f"the text was {describe_epochs(epochs)}"
    gain = expected_gain(val, epochs, tokens_per_epoch)
    gain_note = f"Twice the time would bring about {gain:.2f} nats"
    if epochs >= MIN_MEMORIZE_EPOCHS and (val - train) / val > MIN_GENERALIZATION_GAP:
        return f"{TEXT_LIMITED}: {losses}; {reads}. {gain_note}; more text would bring more."
    if gain < MIN_GAIN_NATS:
        return f"{AT_FLOOR}: {losses}; {reads}. Twice the time would bring nothing."
    if gain < MIN_UNDERFIT_GAIN and epochs <= MAX_UNDERFIT_EPOCHS:
        return f"{AT_FLOOR}: {losses}; {reads}. {gain_note}."
    if epochs > MAX_UNDERFIT_EPOCHS:
        return (
            f"{SIZE_LIMITED}: {losses}; {reads}. {gain_note}; it is not the text that limits it, so a larger --hidden may help."
        )
    return f"{UNDERFIT}: {losses}; {reads}. {gain_note}: it is limited by time, not by the text."


def diagnose_from_base(
    base: str,
    losses: tuple[float, float | None],
    best_fraction: float,
    epochs: float,
    tokens_per_epoch: int,
    best_epochs: float,
) -> str:
    """Return the diagnosis of a training that started from the model `base`; `losses` are those of `diagnose`.

    What twice the time would bring is not known. `best_epochs` is how often a text of this size is read until a base forgets
    more than it learns; the width of the network is that of the base.
    """
    train, val = losses
    started = f" {FROM_BASE} {base}."
    if val is None:
        return UNVALIDATED + started
    if plain := _judge_plain_cases(train, val, best_fraction, epochs, tokens_per_epoch):
        return plain + started
    told = f"{_losses(train, val)}; the text was {describe_epochs(epochs)}"
    if epochs < MIN_BASE_SHARE * best_epochs:
        return f"{UNDERFIT}: {told}. It is limited by time: a base gains from about {best_epochs:g} passes over it.{started}"
    if (val - train) / val > MIN_GENERALIZATION_GAP:
        return f"{TEXT_LIMITED}: {told}. More text would bring more than more time.{started}"
    return f"{AT_FLOOR}: {told}. A base gains from about {best_epochs:g} passes over it.{started}"


def _losses(train: float, val: float) -> str:
    return f"{train:.3f} nats per character on the training text, {val:.3f} on the validation text"


def _judge_plain_cases(train: float, val: float, best_fraction: float, epochs: float, tokens_per_epoch: int) -> str:
    """Return the diagnosis of a text that is too short, or of a training that was best before its end; else an empty text."""
    losses = _losses(train, val)
    if tokens_per_epoch < MIN_JUDGED_TOKENS:
        return f"{TOO_SHORT}: {losses}; {tokens_per_epoch:,} tokens are trained on, which is too little text to learn from."
    if best_fraction >= OVERFIT_FRACTION or epochs < 1:
        return ""
    if val - train <= MIN_OVERFIT_GAP * val:
        return f"{AT_FLOOR}: {losses}. It was best after {best_fraction:.0%} of the time."
    return (
        f"{OVERFIT}: {losses}. It was best after {best_fraction:.0%} of the time, and that model is kept. More time "
        "would not help; more text or more --dropout would."
    )


def verdict(diagnosis: str) -> str:
    """Return which of `VERDICTS` a diagnosis begins with, or one of `TABLE_VERDICTS` that begins a sentence in it.

    Returns an empty text for another diagnosis, such as that of an older version.
    """
    if found := next((name for name in VERDICTS if diagnosis.startswith(name)), ""):
        return found
    return next((name for words, name in TABLE_VERDICTS.items() if f". {words}:" in diagnosis), "")


def judge_table(
    train: float,
    val: float,
    best_fraction: float,
    epochs: float,
    num_validation: int,
    better_baseline: str = "",
    *,
    is_series: bool = False,
    is_number: bool = False,
) -> str:
    """Return the verdict on a training on a table as a sentence, with a blank before it.

    `train` and `val` are the losses of the saved model, which was saved after `best_fraction` of the steps; the rows were read
    `epochs` times. `num_validation` is how many rows `val` is the mean of; those of series are their steps, and their loss may
    be a likelihood, which has no floor; numbers (`is_number`) are learned without dropout. `better_baseline` is the name of a
    baseline that answers the validation rows as well or better, or empty.
    """
    noun = "steps" if is_series else "rows"
    more = "longer or more series" if is_series else "more rows"  # more steps could be those of a longer training
    reads, gap = f"the {noun} were {describe_epochs(epochs)}", val - train
    if num_validation < MIN_JUDGED_ROWS:
        return f" Too few {noun} to judge: {num_validation} for validation, and a verdict needs {MIN_JUDGED_ROWS}."
    is_gap = gap > max(MIN_TABLE_GAP, MIN_GENERALIZATION_GAP * val)
    if best_fraction < OVERFIT_FRACTION and epochs >= 1 and is_gap:
        best = f"it was best after {best_fraction:.0%} of the time, and that model is kept"
        return f" Overfit: {best}. More time would not help; {more if is_number else f'{more} or more --dropout'} would."
    if better_baseline and epochs > MAX_UNDERFIT_EPOCHS:
        if is_series:
            return f" No better than a baseline ({better_baseline}): {reads}. More time, or more units (--hidden), may help."
        return (
            f" No better than a baseline ({better_baseline}): {reads}, and what tells the answers apart was not found in the "
            "source. Other source columns, another kind of them (--source COLUMN:characters) or more rows may help."
        )
    is_low = not is_series and val < (LOW_TABLE_LOSS if epochs > MAX_UNDERFIT_EPOCHS else FLOOR_TABLE_LOSS)
    if is_low or (best_fraction < OVERFIT_FRACTION and epochs >= 1):
        return f" As good as these {noun} allow: {reads}. More time would bring little."
    if epochs > MAX_UNDERFIT_EPOCHS and is_gap:  # before, most tables are still being learned, whatever the gap
        return f" Limited by the {noun}: {reads}; {more} would bring more than more time."
    if epochs > MAX_UNDERFIT_EPOCHS:
        return f" Limited by time or size: {reads}, and new {noun} are answered about as well as those."
    return f" Underfit: {reads}. It is limited by time, not by the {noun}."


@dataclass(frozen=True)
class RunEvidence:
    """What a run shows of what would help: its validation `curve`, pairs of step and loss; how often the data were read; and
    the width and dropout of the network, None for numbers, which are learned without. `noun` is what the data are: text, rows
    or steps."""

    curve: Sequence[tuple[float, float]]
    epochs: float
    hidden: int
    dropout: float | None
    noun: str = "text"


_LOSSES = re.compile(
    r"(?<![-0-9.])([0-9.]+)(?: nats per character)? on (?:the )?training (?:text|rows|steps), ([0-9.]+) on (?:the )?validation"
)


def advice_from_run(diagnosis: str, evidence: RunEvidence) -> list[str]:
    """Return what a run itself gives reason to try, and why: twice the time, dropout, more data, a quarter more width.

    Nothing is advised that contradicts the verdict of the `diagnosis`, or for which the run has no evidence.
    """
    remedies, found = REMEDIES.get(verdict(diagnosis), ()), _LOSSES.search(diagnosis)
    if not found:
        return []
    if FROM_BASE in diagnosis:  # its width is that of the base
        remedies = tuple(remedy for remedy in remedies if remedy != "width")
    train, val = (float(text.rstrip(".")) for text in found.groups())
    is_gap, losses = val - train > MIN_GENERALIZATION_GAP * val, f"{train:.3f} in training, {val:.3f} in validation"
    half = _loss_at_half(evidence.curve)
    fall = 0.0 if half is None else (half - evidence.curve[-1][1]) / max(half, 1e-9)
    data, lines = "longer or more series" if evidence.noun == "steps" else f"more {evidence.noun}", []
    for remedy in remedies:
        if remedy == "time" and half is not None and fall >= MIN_FALL:
            end = f"from {half:.3f} to {evidence.curve[-1][1]:.3f}"
            lines.append(
                f"Train twice as long: the validation loss still fell by {fall:.0%} in the last half of the run, {end}."
            )
        if remedy == "dropout" and is_gap and evidence.dropout is not None and evidence.dropout < MAX_DROPOUT:
            more = min(MAX_DROPOUT, evidence.dropout + 0.1)
            lines.append(f"Use --dropout {more:.2g} (it was {evidence.dropout:g}): the loss is {losses}.")
        if remedy == "data" and is_gap and evidence.epochs >= MIN_MEMORIZE_EPOCHS:
            read = f"what there is was {describe_epochs(evidence.epochs)}"
            lines.append(f"Use {data}: {read}, and the loss is {losses}.")
        if remedy == "width" and not is_gap and val >= LOW_TABLE_LOSS and evidence.epochs > MAX_UNDERFIT_EPOCHS:
            wider = -(-evidence.hidden * 5 // 4 // 8) * 8
            lines.append(
                f"Use --hidden {wider} (it was {evidence.hidden}): the loss is {losses}, so the network does not memorize."
            )
    return lines


def _loss_at_half(curve: Sequence[tuple[float, float]]) -> float | None:
    """Return the validation loss at half of the steps; None if the curve is too short to say."""
    if len(curve) < MIN_CURVE_POINTS:
        return None
    half = curve[-1][0] / 2
    return min(curve, key=lambda point: abs(point[0] - half))[1]


def advise(
    diagnosis: str,
    better_ngram: int | None,
    longest_copy: int,
    new_ngram_rates: tuple[float, float],
    uses_longest_context: bool,
    evidence: RunEvidence | None = None,
) -> list[str]:
    """Return advice on what to try next, which never contradicts the diagnosis.

    Args:
        diagnosis: The diagnosis of the run.
        better_ngram: The order of an n-gram model that predicts the text better, or None.
        longest_copy: Tokens of the longest passage of a sample that is in the training text.
        new_ngram_rates: The fraction of 8-grams that are not in the training text, of samples and of real text.
        uses_longest_context: Whether the loss still improves at the longest context that was measured.
        evidence: What the logs of the run show, if there are any.
    """
    judged, lines = verdict(diagnosis), []
    remedy = {
        OVERFIT: "use more text or more --dropout",
        TEXT_LIMITED: "use more text",
        TOO_SHORT: "use more text",
        AT_FLOOR: "try a larger --hidden",
        SIZE_LIMITED: "use a larger --hidden, or train longer",
        UNDERFIT: "train longer",
    }.get(judged, "train longer, or use a larger --hidden")
    if FROM_BASE in diagnosis:  # its width is that of the base, and its budget may be a number of passes
        remedy = {"": "use more text, or more --epochs", AT_FLOOR: "use more text"}.get(judged, remedy)
    if better_ngram is not None:
        article = "An" if better_ngram in (8, 11, 18) else "A"
        lines.append(f"{article} {better_ngram}-gram model predicts this text better: {remedy}.")
    memorizes = judged not in (AT_FLOOR, SIZE_LIMITED, UNDERFIT)  # else it copies what the text repeats
    if longest_copy >= MIN_COPY_TOKENS and memorizes:
        lines.append(f"A sample copies {longest_copy} tokens of the training text: use more text or more --dropout.")
    sample_rate, text_rate = new_ngram_rates
    if text_rate > 0 and sample_rate < MIN_NOVELTY * text_rate:
        lines.append(
            f"Samples have fewer new 8-grams ({sample_rate:.0%}) than real text ({text_rate:.0%}): "
            f"raise --temperature{' or --dropout' if memorizes else ''}."
        )
    if uses_longest_context:
        lines.append("The loss still improves at the longest measured context: a larger --bptt may help.")
    lines += [] if evidence is None else advice_from_run(diagnosis, evidence)
    no_need = judged == AT_FLOOR and FROM_BASE not in diagnosis
    return lines or ["There is nothing left to gain on this text." if no_need else f"{remedy[:1].upper()}{remedy[1:]}."]


def expected_gain(val: float, epochs: float, tokens_per_epoch: int) -> float:
    """Estimate by how much twice the time would lower the loss `val`: a scaling law fitted to runs on two texts (LOG.md)."""
    tokens_read = max(1e5, epochs * tokens_per_epoch)
    return float(0.085 * val * (1e6 / tokens_read) ** 0.35 / (1 + epochs / 4))
