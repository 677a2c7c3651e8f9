"""Token ids to text one by one, where an incomplete character waits for its next bytes."""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer[Any]]


class DecodeStream:
    """Turns token ids into text one by one; an incomplete character waits for its next bytes."""

    def decode_step(self, token_id: int) -> str:
        """Return the text that `token_id` completes, possibly empty."""
        raise NotImplementedError

    def decode_ids(self, ids: Ids) -> str:
        """Return the text that the ids `(N,)` complete."""
        return "".join(map(self.decode_step, ids.tolist()))

    def finish(self) -> str:
        """Return what is left: a replacement mark for an incomplete character."""
        raise NotImplementedError


class CharDecodeStream(DecodeStream):
    """A decode stream of characters."""

    def __init__(self, code_points: npt.NDArray[Any], has_eos: bool) -> None:
        self._code_points, self._has_eos = code_points, has_eos

    def decode_step(self, token_id: int) -> str:
        return chr(self._code_points[token_id]) if token_id < len(self._code_points) else ""

    def decode_ids(self, ids: Ids) -> str:
        without_eos = ids[ids < len(self._code_points)] if self._has_eos else ids
        return self._code_points[without_eos].tobytes().decode("utf-32-le", "surrogatepass")

    def finish(self) -> str:
        return ""


class ByteDecodeStream(DecodeStream):
    """A decode stream of the bytes of UTF-8; `errors` is that of Python's decoders."""

    def __init__(self, errors: str = "replace") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)

    def decode_step(self, token_id: int) -> str:
        return self._decoder.decode(bytes([token_id])) if token_id < 256 else ""

    def decode_ids(self, ids: Ids) -> str:
        return self._decoder.decode(ids[ids < 256].astype(np.uint8).tobytes())

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)
