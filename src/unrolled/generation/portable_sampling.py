"""Samples in portable arithmetic: one seed is one text on every machine, and in the exported C file and HTML page."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from unrolled.errors import UsageError
from unrolled.generation.random_streams import block_spans
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import SampleOptions
from unrolled.runtime.native_portable import NativePortableNetwork, open_portable
from unrolled.runtime.portable import PortableNetwork
from unrolled.runtime.portable_draw import draw_token, filter_odds, token_odds
from unrolled.runtime.text_network import TextNetwork


def check_portable(options: SampleOptions, has_known_processors: bool) -> None:
    """Refuse options that portable sampling does not have."""
    if options.int8:
        raise UsageError("--portable and --int8 are given, and --portable has 8-bit weights of its own: leave out --int8.")
    if not has_known_processors:
        raise UsageError("--portable is given, and it does not have the logits processors that were added: leave it out.")


def portable_model(network: TextNetwork | None, reason: str | None, clamps: Sequence[Clamp] = ()) -> PortableNetwork:
    """Return a model in portable arithmetic, with int8 weights; `network` and `reason` as from `text_network`."""
    if network is None:
        raise UsageError(f"--portable cannot be used with this model: {reason}; leave it out.")
    return open_portable(network, clamps)


def portable_blocks(
    model: PortableNetwork, prefix_ids: list[int], seeds: list[int], options: SampleOptions
) -> Generator[npt.NDArray[np.int64], None, None]:
    """Yield `options.length` ids for each of `seeds` in blocks `(B, T)`, after the ids of a prompt.

    Rows do not depend on one another: their integer products are exact.
    """
    logits, state = model.prefill(prefix_ids)
    logits, state = np.repeat(logits, len(seeds), axis=0), model.repeat_row(state, len(seeds))
    if isinstance(model, NativePortableNetwork):
        for position, count in block_spans(options.length):
            ids, logits, state = model.sample(logits, state, seeds, position, count, options)
            yield ids
        return
    for position in range(options.length):
        rows = (
            filter_odds(token_odds(row, options.temperature), options.top_k, options.top_p, options.min_p) for row in logits
        )
        ids = np.array([draw_token(odds, seed, position) for odds, seed in zip(rows, seeds, strict=True)])
        yield ids[:, None]
        logits, state = model.step(ids, state)
