"""Display of activations in a notebook."""

from __future__ import annotations

import html

from unrolled.interpret.activations import Activations
from unrolled.views.colored_text import surprisal_html


class NotebookActivations(Activations):
    """Activations that a notebook displays as their text, colored by surprisal, with the names and shapes of the arrays."""

    def _repr_html_(self) -> str:
        num_steps, num_layers, hidden_size = self.h.shape
        sizes = f"{num_steps:,} steps, {num_layers} layers of {hidden_size} units"
        heading = f"{sizes}; {', '.join(self.states_and_gates)}; logits {self.logits.shape}"
        return f"<div>{html.escape(heading)}</div>{surprisal_html(self.tokenized.token_texts, self.bits())}"
