"""A diagnosis of a training in words: underfit or overfit, and what would help."""

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
            return f"As good as this text allows: {losses}. It was best after {best_fraction:.0%} of the time."
        return (
            f"Overfit: {losses}. It was best after {best_fraction:.0%} of the time, and that model is kept. More time "
            "would not help; more text or more --dropout would."
        )
    reads = f"the text was {describe_epochs(epochs)}"
    gain = expected_gain(val, epochs, tokens_per_epoch)
    gain_note = f"Twice the time would bring about {gain:.2f} nats"
    if epochs >= MIN_MEMORIZE_EPOCHS and (val - train) / val > MIN_GENERALIZATION_GAP:
        return f"Limited by the text: {losses}; {reads}. {gain_note}; more text would bring more."
    if gain < MIN_GAIN_NATS:
        return f"As good as this text allows: {losses}; {reads}. Twice the time would bring nothing."
    return f"Underfit: {losses}; {reads}. {gain_note}: it is limited by time, not by the text."


def expected_gain(val: float, epochs: float, tokens_per_epoch: int) -> float:
    """Return, roughly, by how much twice the time would lower the loss `val`: a law laid through runs on two texts (LOG.md)."""
    tokens_read = max(1e5, epochs * tokens_per_epoch)
    return float(0.085 * val * (1e6 / tokens_read) ** 0.35 / (1 + epochs / 4))
