"""Ids of a sample to text, piece by piece, up to a stop string or the end of the document."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unrolled.text.tokenizer import Tokenizer


class TextStreamer:
    """Turns the ids of one sample into text; text that may be the beginning of a stop string is held back.

    In the text of a model of bytes, an undecodable byte is a surrogate (see `Tokenizer.raw_decode_stream`).
    """

    def __init__(self, tokenizer: Tokenizer, stop_strings: tuple[str, ...]) -> None:
        self.decoder, self.eos_id = tokenizer.raw_decode_stream(), tokenizer.eos_id
        self.stop_strings = tuple(map(tokenizer.normalize, filter(None, stop_strings)))
        self.pending, self.num_tokens, self.finish_reason = "", 0, ""

    def push(self, ids: npt.NDArray[np.int64]) -> str:
        """Take the next ids `(T,)`; return the text that is certain to belong to the sample. Ids after its end are ignored."""
        if self.stop_strings:
            return "".join(self._push_token(token_id) for token_id in ids.tolist() if not self.finish_reason)
        if self.finish_reason:
            return ""
        if self.eos_id is not None and (eos_positions := np.flatnonzero(ids == self.eos_id)).size:
            self.finish_reason, ids = "end", ids[: eos_positions[0] + 1]
        self.num_tokens += len(ids)
        text = self.decoder.decode_ids(ids)
        return text + self.finish() if self.finish_reason else text

    def _push_token(self, token_id: int) -> str:
        self.num_tokens += 1
        if token_id == self.eos_id:
            self.finish_reason = "end"
            return self.finish()
        self.pending += self.decoder.decode_step(token_id)
        stop_positions = [position for stop in self.stop_strings if (position := self.pending.find(stop)) >= 0]
        if stop_positions:
            self.finish_reason = "stop"
            self.pending = self.pending[: min(stop_positions)]
            return self._release(len(self.pending))
        return self._release(len(self.pending) - self._partial_stop_length())

    def _partial_stop_length(self) -> int:
        lengths = (
            length for stop in self.stop_strings for length in range(1, len(stop)) if self.pending.endswith(stop[:length])
        )
        return max(lengths, default=0)

    def _release(self, count: int) -> str:
        text, self.pending = self.pending[:count], self.pending[count:]
        return text

    def finish(self) -> str:
        """Return the text held back."""
        text, self.pending = self.pending + self.decoder.finish(), ""
        return text
