"""What came of a training, in plain words: under- or overfit, and what would help."""

from __future__ import annotations

from unrolled.training.recipe import passes

OVERFIT = 0.9
"""If the best model came before this share of the steps, the rest was memorising."""

GAP = 0.12
"""Loss on new text above that on the text trained on, as a share, from which the text itself is the limit."""

EPOCHS_TO_MEMORISE = 1.5
"""Before a text was read so often, a gap is a difference between its two parts."""


def verdict(train: float, val: float | None, best_at: float, epochs: float, symbols: int) -> str:
    """Return a verdict of one or two sentences.

    `train` and `val` are losses of the model kept, in nats a character, dropout off; `best_at` is the share of the steps after
    which it was kept; the text of `symbols` was read `epochs` times.
    """
    if val is None:
        return "There was no text to validate on, so whether it overfits is not known: give it more text."
    losses = f"{train:.3f} nats a character on the text it learned from, {val:.3f} on text it never saw"
    if best_at < OVERFIT:
        return (
            f"Overfit: {losses}. It was best after {best_at:.0%} of the time, and that model is kept. More time would not "
            "help; more text or more --dropout would."
        )
    read = f"the text was {passes(epochs)}"
    twice = f"Twice the time would bring about {gain(val, epochs, symbols):.2f} nats"
    if epochs >= EPOCHS_TO_MEMORISE and (val - train) / val > GAP:
        return f"Limited by the text: {losses}; {read}. {twice}; more text would bring more."
    return f"Underfit: {losses}; {read}. {twice}: it is limited by time, not by the text."


def gain(val: float, epochs: float, symbols: int) -> float:
    """Return, roughly, by how much twice the time would lower the loss `val`: a law laid through runs on two texts (LOG.md)."""
    read = max(1e5, epochs * symbols)
    return float(0.085 * val * (1e6 / read) ** 0.35 / (1 + epochs / 4))
