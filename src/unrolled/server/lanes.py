"""Samples that are being drawn: their random numbers, their state between blocks, and what their reader has not taken yet."""

from __future__ import annotations

import asyncio
import codecs
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unrolled.generation.random_streams import PhiloxStreams
from unrolled.generation.text_streamer import TextStreamer
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import SampleOptions
from unrolled.runtime.language_model import Floats
from unrolled.server.limits import MAX_UNSENT_CHARS
from unrolled.text.tokenizer import Tokenizer, to_utf8

RowState = list[tuple[Floats, ...]]
"""The state of one sample: of each layer the parts of `STATE_NAMES`, `(H,)` each."""


class Filters(NamedTuple):
    """How a sample is drawn, and what is reported with it."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    guesses: int | None = None
    """Number of most likely tokens that are reported with each token; None: no log-probabilities at all."""
    clamps: tuple[Clamp, ...] = ()

    def options(self) -> SampleOptions:
        """Return them as options of sampling."""
        return SampleOptions(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p)

    @property
    def group(self) -> tuple[tuple[Clamp, ...], bool]:
        """What samples must have in common to be drawn together: the clamps, and whether log-probabilities are reported."""
        return self.clamps, self.guesses is not None


@dataclass(frozen=True)
class TokenInfo:
    """A token with its log-probability (None: it has no context) and the most likely tokens at its place."""

    text: str
    logprob: float | None
    guesses: tuple[tuple[str, float], ...] = ()


@dataclass
class Piece:
    """What a lane has drawn since its reader last asked; `finish_reason` is that of the lane once it has ended."""

    text: str = ""
    tokens: list[TokenInfo] = field(default_factory=list)
    finish_reason: str = ""
    num_tokens: int = 0


class Output:
    """Text from the engine's thread to a reader in an event loop. The reader is woken at most once per `take`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._lock, self._piece = loop, threading.Lock(), Piece()
        self._ready, self._is_awaited = asyncio.Event(), False

    @property
    def is_full(self) -> bool:
        """Whether the reader is far behind."""
        return len(self._piece.text) + len(self._piece.tokens) >= MAX_UNSENT_CHARS

    def push(self, text: str, tokens: list[TokenInfo], num_tokens: int, finish_reason: str) -> None:
        """Add what was drawn. Called by the engine."""
        with self._lock:
            self._piece.text += text
            self._piece.tokens += tokens
            self._piece.num_tokens, self._piece.finish_reason = num_tokens, finish_reason
            wake, self._is_awaited = self._is_awaited, False
        if wake:
            self._loop.call_soon_threadsafe(self._ready.set)

    async def take(self, min_chars: int = 1) -> Piece:
        """Wait until there is some text or the lane has ended, and return what there is."""
        while True:
            with self._lock:
                piece = self._piece
                if piece.finish_reason or piece.tokens or len(piece.text) >= min_chars:
                    self._piece = Piece(num_tokens=piece.num_tokens, finish_reason=piece.finish_reason)
                    return piece
                self._is_awaited = True
                self._ready.clear()
            await self._ready.wait()


class Lane:
    """One sample.

    Args:
        tokenizer: The tokenizer of the model.
        seed: Of its random numbers.
        filters: Of its logits.
        max_tokens: At most so many are drawn.
        stop: Strings before which it ends.
        output: Receives the text.
    """

    def __init__(
        self, tokenizer: Tokenizer, seed: int, filters: Filters, max_tokens: int, stop: tuple[str, ...], output: Output
    ) -> None:
        self.seed, self.filters, self.max_tokens, self.output = seed, filters, max_tokens, output
        self.options = filters.options()
        self.streamer = TextStreamer(tokenizer, stop)
        self.position, self.num_chars = 0, 0
        self.state: Any = None
        """Before the last token that was read, or whatever the group keeps."""
        self.last_id = 0
        self.finish_reason = ""
        self._random = PhiloxStreams([seed])
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._eos_id = tokenizer.eos_id
        self._pending: list[tuple[int, TokenInfo]] = []

    def uniforms(self, count: int) -> npt.NDArray[np.float64]:
        """Return the random numbers of the next `count` positions, `(count,)`."""
        parts, position = [], self.position
        while count > 0:
            size = min(count, PhiloxStreams.BLOCK - position % PhiloxStreams.BLOCK)
            parts.append(self._random.block(position, size)[:, 0])
            position, count = position + size, count - size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def push(self, ids: npt.NDArray[np.int64], tokens: list[TokenInfo] | None = None) -> None:
        """Take the next ids `(T,)` that were drawn, with their log-probabilities where they were asked for."""
        ids = ids[: self.max_tokens - self.position]
        self.position += len(ids)
        released: list[TokenInfo] = []
        if tokens is None:
            text = self.streamer.push(ids)
            self.num_chars += len(text)
        else:
            text, released = self._push_tokens(ids, tokens)
        reason = self.streamer.finish_reason or ("length" if self.position >= self.max_tokens else "")
        if reason == "length":
            text += self.streamer.finish()
            released += [token for _, token in self._pending]
        self.finish_reason = reason
        self._send(text, released)

    def finish(self, reason: str) -> None:
        """End the lane from outside: it was cancelled, or the server stops."""
        if not self.finish_reason:
            self.finish_reason = reason
            self._send(self.streamer.finish(), [])

    def _send(self, text: str, tokens: list[TokenInfo]) -> None:
        shown = self._utf8.decode(to_utf8(text), final=bool(self.finish_reason))
        self.output.push(shown, tokens, self.streamer.num_tokens, self.finish_reason)

    def _push_tokens(self, ids: npt.NDArray[np.int64], tokens: list[TokenInfo]) -> tuple[str, list[TokenInfo]]:
        """Return the text that is certain, and its tokens: those of a stop string are left out."""
        text, released = "", []
        for token_id, token in zip(ids, tokens, strict=False):
            text += self.streamer.push(np.array([token_id]))
            if token_id != self._eos_id and self.streamer.finish_reason != "stop":  # the token that completes a stop string
                self._pending.append((self.num_chars + len(text) + len(self.streamer.pending), token))
            while self._pending and self._pending[0][0] <= self.num_chars + len(text):
                released.append(self._pending.pop(0)[1])
            if self.streamer.finish_reason:
                break
        self.num_chars += len(text)
        return text, released


def log_softmax(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return the log-probabilities of logits `(..., V)`, in nats."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def token_infos(
    token_strings: list[str], logprobs: npt.NDArray[np.float64], ids: npt.NDArray[np.integer[Any]], guesses: int
) -> list[TokenInfo]:
    """Return the tokens `ids` `(T,)` with their log-probabilities, of `(T, V)`, and the `guesses` most likely ones."""
    best = np.argsort(-logprobs, axis=-1, kind="stable")[:, :guesses] if guesses else np.empty((len(ids), 0), np.int64)
    return [
        TokenInfo(
            token_strings[token_id],
            float(row[token_id]),
            tuple((token_strings[guess], float(row[guess])) for guess in row_best),
        )
        for token_id, row, row_best in zip(ids.tolist(), logprobs, best.tolist(), strict=True)
    ]
