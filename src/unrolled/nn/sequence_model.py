"""What training and files ask of a network, whether it learns texts or tables."""

from __future__ import annotations

from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.language_model import RecurrentLM

Network = RecurrentLM | EncoderDecoder
"""Has `loss(batch, state)`, `initial_state(rows)`, `seed_dropout(seed)`, `cells()` and `device`."""
