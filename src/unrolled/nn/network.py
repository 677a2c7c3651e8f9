"""What training and files ask of a network, whether it learns texts or tables."""

from __future__ import annotations

from unrolled.nn.model import SequenceModel
from unrolled.nn.pairs import PairModel

Network = SequenceModel | PairModel
"""Has `loss(batch, state)`, `initial_state(rows)`, `seed_dropout(seed)`, `cells()` and `device`."""
