"""The type of a trainable network: a language model of texts or an encoder-decoder of tables."""

from __future__ import annotations

from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.language_model import RecurrentLM

Network = RecurrentLM | EncoderDecoder
"""Both have `loss(batch, state)`, `initial_state(batch_size)`, `seed_dropout(seed)`, `cells()` and `device`."""
