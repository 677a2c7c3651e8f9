"""A diagnosis of a training in words: underfit or overfit, and what would help.

Every judgement about a run is here, so that the verdict, `explain` and `report` say the same: the verdict is the beginning of
the diagnosis, and the advice follows from the verdict.
"""

from __future__ import annotations

from unrolled.training.recipe import describe_epochs

OVERFIT_FRACTION = 0.9
"""If the best model came before this share of the steps, the rest was memorising."""

MIN_GENERALIZATION_GAP = 0.12
"""Loss on new text above that on the text trained on, as a share, from which the text itself is the limit."""

MIN_OVERFIT_GAP = 0.02
"""Loss on new text above that on the text trained on, as a share, from which it may be called overfitting."""

MIN_GAIN_NATS = 0.005
"""A gain that would be printed as 0.00 is none."""

MIN_COPY_TOKENS = 60
"""A copied substring of this length leads to advice against memorization. It is longer than the threshold of `--novel-only`,
so that common phrases do not lead to advice."""

MIN_NOVELTY = 0.8
"""New 8-grams of samples, as a share of those of real text, below which samples repeat the training text."""

MAX_UNDERFIT_EPOCHS = 4.0
"""A text that was read more often and still is not learned is held back by the size of the network too, not by time alone."""

OVERFIT, AT_FLOOR, TEXT_LIMITED, SIZE_LIMITED, UNDERFIT = (
    "Overfit", "As good as this text allows", "Limited by the text", "Limited by time or size", "Underfit",
)  # fmt: skip
VERDICTS = (OVERFIT, AT_FLOOR, TEXT_LIMITED, SIZE_LIMITED, UNDERFIT)
"""The verdicts: each is the beginning of a diagnosis."""

MIN_MEMORIZE_EPOCHS = 1.5
"""Before a text was read so often, a gap is a difference between its two parts."""


def diagnose(train: float, val: float | None, best_fraction: float, epochs: float, tokens_per_epoch: int) -> str:
    """Return one or two sentences.

    `train` and `val` are the losses of the saved model in nats per character, without dropout. It was saved after
    `best_fraction` of the steps. The text of `tokens_per_epoch` tokens was read `epochs` times.
    """
    if val is None:
        return "There was no text to validate on, so whether it overfits is not known: give it more text."
    losses = f"{train:.3f} nats per character on the training text, {val:.3f} on the validation text"
    if best_fraction < OVERFIT_FRACTION and epochs >= 1:
        if val - train <= MIN_OVERFIT_GAP * val:
            return f"{AT_FLOOR}: {losses}. It was best after {best_fraction:.0%} of the time."
        return (
            f"{OVERFIT}: {losses}. It was best after {best_fraction:.0%} of the time, and that model is kept. More time "
            "would not help; more text or more --dropout would."
        )
    reads = f"the text was {describe_epochs(epochs)}"
    gain = expected_gain(val, epochs, tokens_per_epoch)
    gain_note = f"Twice the time would bring about {gain:.2f} nats"
    if epochs >= MIN_MEMORIZE_EPOCHS and (val - train) / val > MIN_GENERALIZATION_GAP:
        return f"{TEXT_LIMITED}: {losses}; {reads}. {gain_note}; more text would bring more."
    if gain < MIN_GAIN_NATS:
        return f"{AT_FLOOR}: {losses}; {reads}. Twice the time would bring nothing."
    if epochs > MAX_UNDERFIT_EPOCHS:
        return (
            f"{SIZE_LIMITED}: {losses}; {reads}. {gain_note}; it is not the text that limits it, so a larger --hidden may help."
        )
    return f"{UNDERFIT}: {losses}; {reads}. {gain_note}: it is limited by time, not by the text."


def verdict(diagnosis: str) -> str:
    """Return which of `VERDICTS` a diagnosis begins with; an empty text for another, such as that of an older version."""
    return next((name for name in VERDICTS if diagnosis.startswith(name)), "")


def advise(
    diagnosis: str,
    better_ngram: int | None,
    longest_copy: int,
    new_ngram_rates: tuple[float, float],
    uses_longest_context: bool,
) -> list[str]:
    """Return advice on what to try next, which never contradicts the diagnosis.

    Args:
        diagnosis: The diagnosis of the run.
        better_ngram: The order of an n-gram model that predicts the text better, or None.
        longest_copy: Tokens of the longest passage of a sample that is in the training text.
        new_ngram_rates: The fraction of 8-grams that are not in the training text, of samples and of real text.
        uses_longest_context: Whether the loss still improves at the longest context that was measured.
    """
    judged, lines = verdict(diagnosis), []
    remedy = {
        OVERFIT: "use more text or more --dropout",
        TEXT_LIMITED: "use more text",
        AT_FLOOR: "try a larger --hidden",
        SIZE_LIMITED: "use a larger --hidden, or train longer",
        UNDERFIT: "train longer",
    }.get(judged, "train longer, or use a larger --hidden")
    if better_ngram is not None:
        article = "An" if better_ngram in (8, 11, 18) else "A"
        lines.append(f"{article} {better_ngram}-gram model predicts this text better: {remedy}.")
    if longest_copy >= MIN_COPY_TOKENS:
        lines.append(f"A sample copies {longest_copy} tokens of the training text: use more text or more --dropout.")
    sample_rate, text_rate = new_ngram_rates
    if text_rate > 0 and sample_rate < MIN_NOVELTY * text_rate:
        lines.append(
            f"Samples have fewer new 8-grams ({sample_rate:.0%}) than real text ({text_rate:.0%}): "
            "raise --temperature or --dropout."
        )
    if uses_longest_context:
        lines.append("The loss still improves at the longest measured context: a larger --bptt may help.")
    no_need = judged == AT_FLOOR
    return lines or ["There is nothing left to gain on this text." if no_need else f"{remedy[:1].upper()}{remedy[1:]}."]


def expected_gain(val: float, epochs: float, tokens_per_epoch: int) -> float:
    """Return, roughly, by how much twice the time would lower the loss `val`: a law laid through runs on two texts (LOG.md)."""
    tokens_read = max(1e5, epochs * tokens_per_epoch)
    return float(0.085 * val * (1e6 / tokens_read) ** 0.35 / (1 + epochs / 4))
