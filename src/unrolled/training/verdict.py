"""What came of a training, in plain words: under- or overfit, and what would help."""

from __future__ import annotations

OVERFIT = 0.9
"""If the best model came before this share of the steps, the rest was memorising."""

GAP = 0.12
"""Loss on new text above that on the text trained on, as a share, from which the text itself is the limit."""

EPOCHS_TO_MEMORISE = 1.5
"""Before a text was read so often, a gap is a difference between its two parts."""


def verdict(train: float, val: float | None, best_at: float, epochs: float) -> str:
    """Return a verdict of one or two sentences.

    `train` and `val` are losses of the model kept, in nats a character, dropout off; `best_at` is the share of the steps after
    which it was kept.
    """
    if val is None:
        return "There was no text to validate on, so whether it overfits is not known: give it more text."
    losses = f"{train:.3f} nats a character on the text it learned from, {val:.3f} on text it never saw"
    gap = (val - train) / val if epochs >= EPOCHS_TO_MEMORISE else 0.0
    if best_at < OVERFIT:
        return (
            f"Overfit: {losses}. It was best after {best_at:.0%} of the time, and that model is kept. More time would not "
            "help; more text or more --dropout would."
        )
    if gap > GAP:
        return (
            f"Limited by the text: {losses}, which it has read {epochs:.0f} times. Twice the time would bring little "
            f"(about {gain(val, epochs):.2f} nats); more text would bring more."
        )
    read = f"which it has read {epochs:.1f} times" if epochs >= 1 else f"of which it has read {epochs:.0%}"
    return (
        f"Underfit: {losses}, {read}. Twice the time would bring about {gain(val, epochs):.2f} nats: it is limited by time, "
        "not by the text."
    )


def gain(val: float, epochs: float) -> float:
    """Return by how much twice the time lowers the loss, as measured on other texts."""
    return 0.03
