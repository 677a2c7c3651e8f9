"""Text from a model: filters, one draw, and a stream of ids that everyone shares.

The filters are pure `logits -> logits` functions, applied in the order of `FILTERS`. The draw takes its random number from a
stream keyed by (seed, position) and by nothing else. The native step gives each sample the same alone or among others; where
there is none, samples are stepped in groups of a fixed number of lanes, padded if need be. So a seed gives the same text alone
or among others, streamed or not.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unrolled.data.vocab import Vocabulary
from unrolled.errors import UsageError
from unrolled.nn.cells import State, map_state, unroll_by_step
from unrolled.nn.hold import Hold, holding
from unrolled.nn.kernels.library import library
from unrolled.nn.kernels.step import NativeStep, Precision, refusal
from unrolled.nn.model import SequenceModel
from unrolled.options import SampleOptions

LANES = 4
"""Samples stepped together. Matrix products of different heights round differently, so the height never changes."""

NATIVE_LANES = 64
"""Samples that the native step takes together: it reads the weights once for all of them."""

LONGEST_BLOCK = 64
"""Symbols of a sample that are drawn in one native call."""

PROMPT_CHUNK = 1024
SEED_LIMIT = 2**31
"""Seeds drawn for `--seed -1` are below this, to be short enough to type."""


@dataclass(frozen=True)
class Sample:
    """A finished sample: `text` with its prompt, the `seed` that draws it again, `symbols` drawn, and why it `ended`."""

    text: str
    prompt: str
    seed: int
    symbols: int
    ended: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "text": self.text, "prompt": self.prompt, "seed": self.seed, "symbols": self.symbols, "ended": self.ended,
        }  # fmt: skip


def by_temperature(logits: Tensor, options: SampleOptions) -> Tensor:
    """Divide by the temperature; 0 leaves only the likeliest symbol."""
    if options.temperature == 0:
        best = torch.full_like(logits, -torch.inf)
        return best.scatter(-1, logits.argmax(-1, keepdim=True), 0.0)
    return logits if options.temperature == 1 else logits / options.temperature


def by_top_k(logits: Tensor, options: SampleOptions) -> Tensor:
    """Keep the k likeliest, exactly k even among equals."""
    if not 0 < options.top_k < logits.shape[-1]:
        return logits
    kept = torch.full_like(logits, -torch.inf)
    values, ids = logits.topk(options.top_k, -1)
    return kept.scatter(-1, ids, values)


def by_top_p(logits: Tensor, options: SampleOptions) -> Tensor:
    """Keep the fewest likeliest symbols that together have probability p (Holtzman et al. 2020)."""
    if options.top_p >= 1:
        return logits
    values, ids = logits.sort(-1, descending=True)
    chances = values.softmax(-1)
    beyond = chances.cumsum(-1) - chances >= options.top_p
    return torch.empty_like(logits).scatter(-1, ids, values.masked_fill(beyond, -torch.inf))


def by_min_p(logits: Tensor, options: SampleOptions) -> Tensor:
    """Drop symbols whose probability is below a share of the likeliest one's."""
    if options.min_p == 0:
        return logits
    chances = logits.softmax(-1)
    return logits.masked_fill(chances < options.min_p * chances.amax(-1, keepdim=True), -torch.inf)


FILTERS: tuple[Callable[[Tensor, SampleOptions], Tensor], ...] = (by_temperature, by_top_k, by_top_p, by_min_p)


def draw(logits: Tensor, numbers: Tensor, options: SampleOptions) -> Tensor:
    """Filter logits `(B, V)` and draw a symbol a row by its number in [0, 1) `(B,)`: ids `(B,)`."""
    logits = logits.double()
    for keep in FILTERS:
        logits = keep(logits, options)
    bounds = logits.softmax(-1).cumsum(-1)  # (B, V)
    level = numbers.unsqueeze(-1) * bounds[:, -1:]
    # Where the level meets a bound exactly, the symbol after it is meant: one with no probability is never drawn.
    return torch.searchsorted(bounds, level, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


class RandomNumbers:
    """Numbers in [0, 1) for each position of each sample, keyed by (seed, position)."""

    BLOCK = 256
    _STRETCH = 1 << 64
    """Steps of a generator from one block's numbers to the next one's: each has a stretch of the counter of its own."""

    _STEPS = BLOCK // 4

    def __init__(self, seeds: list[int]) -> None:
        zero = np.zeros(4, np.uint64)
        self._streams = [np.random.Philox(key=np.array([seed, 0], np.uint64), counter=zero) for seed in seeds]
        self._first, self._next = -self.BLOCK, 0
        self._block = torch.empty(0)

    def at(self, position: int) -> Tensor:
        """Return the numbers of all samples at `position`, `(B,)` float64."""
        return self.block(position, 1)[0]

    def block(self, position: int, count: int) -> Tensor:
        """Return the numbers at `count` positions, `(count, B)`; none may be beyond the `BLOCK` that the first is in."""
        if not self._first <= position < self._first + self.BLOCK:
            self._first = position // self.BLOCK * self.BLOCK
            index = self._first // self.BLOCK
            if ahead := (index - self._next) * self._STRETCH % (1 << 256):
                for stream in self._streams:
                    stream.advance(ahead)
            rows = [np.random.Generator(stream).random(self.BLOCK) for stream in self._streams]
            for stream in self._streams:
                stream.advance(self._STRETCH - self._STEPS)
            self._next = index + 1
            self._block = torch.from_numpy(np.stack(rows, axis=1))  # (BLOCK, B)
        return self._block[position - self._first : position - self._first + count]


Blocks: TypeAlias = Generator[NDArray[np.int64], None, None]
"""The next ids of each sample `(B, T)`, some at a time."""


def native_precision(
    model: SequenceModel, options: SampleOptions, holds: Sequence[object], precision: Precision | None
) -> Precision | None:
    """Return the numbers of the native step's weights, or None where the model is stepped as it is defined.

    Raises `UsageError` if that is so but int8 was asked for.
    """
    reason = "units are held" if holds else refusal(model)
    if precision is None:
        reason = "the reference kernel was asked for"
    if options.int8 and reason:
        raise UsageError(f"--int8 needs the native step, which cannot be used here: {reason}.")
    return None if reason else "int8" if options.int8 else precision


def step_precision(model: SequenceModel, dtype: torch.dtype) -> Precision | None:
    """Return the numbers to sample with where products are in `dtype`; None where the reference kernel was asked for."""
    if model.cells()[0].kernel is unroll_by_step:
        return None
    return "bfloat16" if dtype == torch.bfloat16 else "float32"


def stepping(
    model: SequenceModel, options: SampleOptions, holds: Sequence[object], precision: Precision | None
) -> dict[str, str]:
    """Return with which `step` and which `precision` of the weights samples are drawn, in words."""
    native = native_precision(model, options, holds, precision)
    if native is None:
        return {"step": "reference", "precision": str(model.head.weight.dtype).removeprefix("torch.")}
    return {"step": f"native ({library().active_isa()})", "precision": native}


def native_step(
    model: SequenceModel, streams: int, options: SampleOptions, holds: Sequence[Hold], precision: Precision | None
) -> NativeStep | None:
    """Return the native step for so many streams at once; None where the model is stepped as it is defined."""
    native = native_precision(model, options, holds, precision)
    return None if native is None else NativeStep(model, min(streams, NATIVE_LANES), native)


def stream_ids(
    model: SequenceModel,
    prompt: list[int],
    seeds: list[int],
    options: SampleOptions,
    holds: Sequence[Hold] = (),
    native: NativeStep | None = None,
) -> Blocks:
    """Yield `options.length` ids for each of `seeds`, in blocks, going on from the ids of a prompt.

    There are as many seeds at most as `native` has streams; without it, `LANES`. `holds` are units held at a value meanwhile;
    nobody else may use the model until the stream ends or is closed.
    """
    return _by_model(model, prompt, seeds, options, holds) if native is None else _by_kernel(native, prompt, seeds, options)


def _by_model(
    model: SequenceModel, prompt: list[int], seeds: list[int], options: SampleOptions, holds: Sequence[Hold]
) -> Blocks:
    device = model.head.weight.device
    numbers = RandomNumbers(seeds + [0] * (LANES - len(seeds)))
    with holding(model.stack, holds):
        with torch.inference_mode():  # never around a yield: it would hold for whoever reads the stream, too
            logits, state = read_prompt(model, prompt)
            logits = logits.expand(LANES, -1)
            state = map_state(lambda s: s.expand(LANES, -1).contiguous(), state)
        for position in range(options.length):
            with torch.inference_mode():
                ids = draw(logits, numbers.at(position).to(device), options)
            yield ids[: len(seeds), None].cpu().numpy()
            with torch.inference_mode():
                logits, state = model.step(ids, state)


def _by_kernel(native: NativeStep, prompt: list[int], seeds: list[int], options: SampleOptions) -> Blocks:
    if native.read_so_far != prompt:
        native.clear()
        for start in range(0, len(prompt), PROMPT_CHUNK):
            native.read(torch.tensor(prompt[start : start + PROMPT_CHUNK]).unsqueeze(-1))
        native.mark(prompt)
    native.restart()
    numbers, position = RandomNumbers(seeds), 0
    while position < options.length:
        # The first symbol comes at once. Blocks double up to the longest, so none has numbers of two blocks of theirs.
        count = min(max(position, 1), LONGEST_BLOCK, options.length - position)
        yield native.draw(numbers.block(position, count), options).T.contiguous().numpy()
        position += count


def read_prompt(model: SequenceModel, prompt: list[int]) -> tuple[Tensor, State]:
    """Read a prompt of any length; return the logits `(1, V)` after it and the state of one row."""
    state: State = model.initial_state(1)
    ids = torch.tensor(prompt, device=model.head.weight.device).unsqueeze(-1)  # (T, 1)
    logits = torch.zeros(1, model.symbols, device=ids.device)
    for start in range(0, len(ids), PROMPT_CHUNK):
        chunk, state = model(ids[start : start + PROMPT_CHUNK], state)
        logits = chunk[-1]
    return logits, state


class _Lane:
    """One sample on its way: its ids become text; what might be the beginning of a stop string is held back."""

    def __init__(self, vocabulary: Vocabulary, stops: tuple[str, ...]) -> None:
        self.decoder, self.end, self.stops = vocabulary.decoder(), vocabulary.end, tuple(filter(None, stops))
        self.held, self.symbols, self.ended = "", 0, ""

    def push(self, ids: NDArray[np.int64]) -> str:
        """Take the next ids `(T,)`; return the text that is sure to belong to the sample. Ids after its end are nothing."""
        if self.stops:
            return "".join(self._push_one(symbol) for symbol in ids.tolist() if not self.ended)
        if self.ended:
            return ""
        if self.end is not None and (ends := np.flatnonzero(ids == self.end)).size:
            self.ended, ids = "end", ids[: ends[0] + 1]
        self.symbols += len(ids)
        text = self.decoder.push_all(ids)
        return text + self.finish() if self.ended else text

    def _push_one(self, symbol: int) -> str:
        self.symbols += 1
        if symbol == self.end:
            self.ended = "end"
            return self.finish()
        self.held += self.decoder.push(symbol)
        found = [at for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if found:
            self.ended = "stop"
            self.held = self.held[: min(found)]
            return self._release(len(self.held))
        return self._release(len(self.held) - self._could_begin_a_stop())

    def _could_begin_a_stop(self) -> int:
        sizes = (size for stop in self.stops for size in range(1, len(stop)) if self.held.endswith(stop[:size]))
        return max(sizes, default=0)

    def _release(self, count: int) -> str:
        text, self.held = self.held[:count], self.held[count:]
        return text

    def finish(self) -> str:
        """Return what was held back."""
        text, self.held = self.held + self.decoder.finish(), ""
        return text


def prompt_ids(vocabulary: Vocabulary, prompt: str) -> tuple[list[int], dict[str, str]]:
    """Return the ids a sample starts from, and the characters of the prompt that had to be replaced, by what."""
    ids, replaced = vocabulary.encode_prompt(prompt)
    if vocabulary.end is not None or not ids:
        ids = [vocabulary.start(), *ids]
    return ids, replaced


def first_seed(options: SampleOptions) -> int:
    """Return the seed to start from; for -1 one is drawn."""
    return secrets.randbelow(SEED_LIMIT) if options.seed < 0 else options.seed


def stream_text(
    model: SequenceModel,
    vocabulary: Vocabulary,
    options: SampleOptions,
    seed: int,
    holds: Sequence[Hold] = (),
    precision: Precision | None = "float32",
) -> Iterator[str]:
    """Yield one sample, after its prompt, piece by piece as it is drawn. `precision` is as `generate` has it."""
    lane = _Lane(vocabulary, options.stop)
    ids, _ = prompt_ids(vocabulary, options.prompt)
    for (symbols,) in stream_ids(model, ids, [seed], options, holds, native_step(model, 1, options, holds, precision)):
        if text := lane.push(symbols):
            yield text
        if lane.ended:
            return
    if text := lane.finish():
        yield text


def generate(
    model: SequenceModel,
    vocabulary: Vocabulary,
    options: SampleOptions,
    seed: int,
    holds: Sequence[Hold] = (),
    check: Callable[[], None] = lambda: None,
    precision: Precision | None = "float32",
) -> Iterator[Sample]:
    """Yield `options.count` whole samples in their order; sample i is the one that the seed `seed + i` draws.

    `check` is called before every block of symbols, and may raise. `precision` is that of the native step's weights; with None,
    with units held and where there is no native step, the model is stepped as it is defined.
    """
    ids, _ = prompt_ids(vocabulary, options.prompt)
    native = native_step(model, options.count, options, holds, precision)
    width = LANES if native is None else native.streams
    for first in range(0, options.count, width):
        seeds = [seed + i for i in range(first, min(first + width, options.count))]
        lanes = [_Lane(vocabulary, options.stop) for _ in seeds]
        texts = [[options.prompt] for _ in seeds]
        with contextlib.closing(stream_ids(model, ids, seeds, options, holds, native)) as stream:
            for block in stream:
                check()
                for lane, text, symbols in zip(lanes, texts, block, strict=True):
                    text.append(lane.push(symbols))
                if all(lane.ended for lane in lanes):
                    break
        for own, lane, text in zip(seeds, lanes, texts, strict=True):
            text.append(lane.finish())
            yield Sample("".join(text), options.prompt, own, lane.symbols, lane.ended or "length")
