"""Text from a language model: logits processors, one draw per token, and blocks of ids that become text.

Logits processors are functions `(logits, options) -> logits`, applied in the order of `LOGITS_PROCESSORS`. Each draw uses a
random number keyed by (seed, position) and nothing else, and the logits of a sample do not depend on the other samples of a
batch: the native decoder computes each row in the same way, and the reference path always uses the same batch size. So a seed
gives the same text alone or in a batch, streamed or not.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from unrolled.display import Displayed
from unrolled.errors import UsageError
from unrolled.generation.portable_sampling import check_portable, portable_blocks, portable_model
from unrolled.generation.random_streams import PhiloxStreams, block_spans
from unrolled.generation.text_streamer import TextStreamer
from unrolled.nn.kernels.extension import native_module
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import SampleOptions
from unrolled.runtime.language_model import PROMPT_CHUNK_TOKENS, Floats, LanguageModel, softmax
from unrolled.runtime.native_decoder import NativeDecoder, Precision, unsupported_reason
from unrolled.runtime.numpy_model import has_numpy_model
from unrolled.runtime.text_network import TextNetwork
from unrolled.runtime.window_model import numpy_model
from unrolled.text.tokenizer import Tokenizer, replace_undecodable, to_utf8

if TYPE_CHECKING:  # torch is only imported for networks that are torch's
    from unrolled.nn.language_model import RecurrentLM

Network: TypeAlias = "TextNetwork | RecurrentLM"
"""A language model as plain arrays, or as a module of torch, whose arrays are taken where they are on the CPU."""

Doubles: TypeAlias = npt.NDArray[np.float64]

REFERENCE_BATCH = 4
"""Batch size of the reference path. It never changes, since matrix products of other sizes round differently."""

NATIVE_BATCH = 64
"""Most samples in one batch of the native decoder, which reads the weights once per step for all of them."""

MAX_DRAWN_SEED = 2**31
"""Seeds drawn for `--seed -1` are below this, so that they are short enough to type."""


@dataclass(frozen=True, repr=False)
class Sample(Displayed):
    """A finished sample: `text` with its prompt, the `seed` that repeats it, the number of tokens drawn, and why it ended
    (`end` of the document, `stop` string, or `length`). `data` are the bytes that a model of bytes drew, with the prompt: in
    `text`, those that are not UTF-8 are replacement marks."""

    text: str
    prompt: str
    seed: int
    num_tokens: int
    finish_reason: str
    data: bytes | None = None

    @property
    def facts(self) -> Mapping[str, object]:
        return {"text": self.text, "seed": self.seed, "tokens": self.num_tokens, "ended by": self.finish_reason}

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, bytes in base64."""
        data = {} if self.data is None else {"data_base64": base64.b64encode(self.data).decode()}
        return {
            "text": self.text, "prompt": self.prompt, "seed": self.seed,
            "tokens": self.num_tokens, "finish_reason": self.finish_reason, **data,
        }  # fmt: skip


def apply_temperature(logits: Doubles, options: SampleOptions) -> Doubles:
    """Divide by the temperature; 0 keeps only the most likely token."""
    if options.temperature == 0:
        best = np.full_like(logits, -np.inf)
        np.put_along_axis(best, logits.argmax(-1, keepdims=True), 0.0, -1)
        return best
    return logits if options.temperature == 1 else logits / options.temperature


def apply_top_k(logits: Doubles, options: SampleOptions) -> Doubles:
    """Keep the k most likely tokens, exactly k even with ties."""
    if not 0 < options.top_k < logits.shape[-1]:
        return logits
    filtered, ids = np.full_like(logits, -np.inf), _most_likely_first(logits)[..., : options.top_k]
    np.put_along_axis(filtered, ids, np.take_along_axis(logits, ids, -1), -1)
    return filtered


def apply_top_p(logits: Doubles, options: SampleOptions) -> Doubles:
    """Keep the smallest set of most likely tokens with a total probability of at least p (nucleus sampling, Holtzman et al.
    2020)."""
    if options.top_p >= 1:
        return logits
    ids = _most_likely_first(logits)
    values = np.take_along_axis(logits, ids, -1)
    probs = softmax(values)
    is_removed = probs.cumsum(-1) - probs >= options.top_p
    filtered = np.empty_like(logits)
    np.put_along_axis(filtered, ids, np.where(is_removed, -np.inf, values), -1)
    return filtered


def apply_min_p(logits: Doubles, options: SampleOptions) -> Doubles:
    """Remove tokens whose probability is below `min_p` times that of the most likely one."""
    if options.min_p == 0:
        return logits
    probs = softmax(logits)
    filtered: Doubles = np.where(probs < options.min_p * probs.max(-1, keepdims=True), -np.inf, logits)
    return filtered


def _most_likely_first(logits: Doubles) -> npt.NDArray[np.int64]:
    """Return the ids of each row, the most likely one first, equally likely ones in their order."""
    order: npt.NDArray[np.int64] = np.argsort(-logits, axis=-1, kind="stable")
    return order


LogitsProcessor: TypeAlias = Callable[[Doubles, SampleOptions], Doubles]

NATIVE_PROCESSORS: tuple[LogitsProcessor, ...] = (apply_temperature, apply_top_k, apply_top_p, apply_min_p)
"""The processors that the native decoder has in C++ too, in its order."""

LOGITS_PROCESSORS: list[LogitsProcessor] = [*NATIVE_PROCESSORS]
"""The processors of every draw, in order: logits `(B, V)`, a float64 array, to logits of the same shape. With any other list
than the native one, samples are drawn by the reference path, which applies whatever is in it."""


def sample_token(logits: Floats, uniforms: Doubles, options: SampleOptions) -> npt.NDArray[np.int64]:
    """Apply the logits processors to `(B, V)` and draw one id per row, `(B,)`, by inverting the CDF at `uniforms` `(B,)`."""
    processed = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of a model whose weights are not finite
        for process in LOGITS_PROCESSORS:
            processed = process(processed, options)
        cumulative = softmax(processed).cumsum(-1)  # (B, V)
        thresholds = uniforms[:, None] * cumulative[:, -1:]
        # A threshold equal to a cumulative sum selects the token after it, so zero probability is never drawn.
        counts = (~(cumulative > thresholds)).sum(-1)
    ids: npt.NDArray[np.int64] = np.minimum(counts, logits.shape[-1] - 1)
    return ids


TokenBlocks: TypeAlias = Generator[npt.NDArray[np.int64], None, None]
"""Blocks of ids `(B, T)`: the next T tokens of each sample."""


def text_network(model: Network) -> tuple[TextNetwork | None, str | None]:
    """Return the arrays of a model and None, or None and the reason why only torch can run it."""
    if isinstance(model, TextNetwork):
        return model, None
    from unrolled.generation.torch_model import arrays_reason, as_text_network

    reason = arrays_reason(model)
    return (None, reason) if reason else (as_text_network(model), None)


def reference_model(model: Network, clamps: Sequence[Clamp] = ()) -> LanguageModel:
    """Return what takes single steps where the native decoder is not used: numpy, or torch where numpy cannot."""
    network, _ = text_network(model)
    if network is not None and has_numpy_model(network):
        return numpy_model(network, clamps)
    if isinstance(model, TextNetwork):
        raise UsageError(f"There is no step without torch for the cell {model.cell}: load the model with torch.")
    from unrolled.generation.torch_model import TorchModel

    return TorchModel(model, clamps=clamps)


def native_precision(
    model: Network, options: SampleOptions, clamps: Sequence[object], precision: Precision | None
) -> Precision | None:
    """Return the precision of the native decoder's weights, or None where samples are drawn by the reference path.

    Raises `UsageError` if int8, which only the native decoder has, was asked for and it cannot be used.
    """
    if options.portable:
        check_portable(options, tuple(LOGITS_PROCESSORS) == NATIVE_PROCESSORS)
        return None
    network, reason = text_network(model)
    if network is not None:
        reason = unsupported_reason(network)
    if clamps:
        reason = "units are clamped"
    if tuple(LOGITS_PROCESSORS) != NATIVE_PROCESSORS:
        reason = "it does not have these logits processors"
    if precision is None:
        reason = "the reference kernel was asked for"
    if options.int8 and reason:
        raise UsageError(f"--int8 needs the native decoder, which cannot be used here: {reason}.")
    return None if reason else "int8" if options.int8 else precision


def sampling_backend(
    model: Network, options: SampleOptions, clamps: Sequence[object], precision: Precision | None
) -> dict[str, str]:
    """Return which `step` draws samples, native or reference, and the `precision` of its weights."""
    native_weights = native_precision(model, options, clamps, precision)
    if options.portable:
        return {"backend": "portable", "precision": "int8"}
    if native_weights is None:
        weight = model.head_weight if isinstance(model, TextNetwork) else model.head.weight
        return {"backend": "reference", "precision": str(weight.dtype).removeprefix("torch.")}
    return {"backend": f"native ({native_module().active_isa()})", "precision": native_weights}


def make_native_decoder(
    model: Network, num_streams: int, options: SampleOptions, clamps: Sequence[Clamp], precision: Precision | None
) -> NativeDecoder | None:
    """Return a native decoder for at most `NATIVE_BATCH` samples at a time; None where the reference path is used."""
    weights, (network, _) = native_precision(model, options, clamps, precision), text_network(model)
    return None if weights is None or network is None else NativeDecoder(network, min(num_streams, NATIVE_BATCH), weights)


def stream_ids(
    model: Network,
    prefix_ids: list[int],
    seeds: list[int],
    options: SampleOptions,
    clamps: Sequence[Clamp] = (),
    decoder: NativeDecoder | None = None,
) -> TokenBlocks:
    """Yield `options.length` ids for each of `seeds` in blocks, continuing the ids of a prompt.

    There may be as many seeds as `decoder` has streams; without one, `REFERENCE_BATCH`.
    """
    if decoder is not None:
        return _native_blocks(decoder, prefix_ids, seeds, options)
    if options.portable:
        return portable_blocks(portable_model(*text_network(model), clamps), prefix_ids, seeds, options)
    return _reference_blocks(reference_model(model, clamps), prefix_ids, seeds, options)


def _reference_blocks(model: LanguageModel, prefix_ids: list[int], seeds: list[int], options: SampleOptions) -> TokenBlocks:
    random_streams = PhiloxStreams(seeds + [0] * (REFERENCE_BATCH - len(seeds)))
    with model.inference():  # never around a yield: the caller would be in inference mode too
        logits, state = model.prefill(prefix_ids)
        logits, state = np.repeat(logits, REFERENCE_BATCH, axis=0), model.repeat_row(state, REFERENCE_BATCH)
    for position in range(options.length):
        ids = sample_token(logits, random_streams.at(position), options)
        yield ids[: len(seeds), None]
        with model.inference():
            logits, state = model.step(ids, state)


def _native_blocks(decoder: NativeDecoder, prefix_ids: list[int], seeds: list[int], options: SampleOptions) -> TokenBlocks:
    if decoder.prefix_ids != prefix_ids:
        decoder.reset_prefix()
        for start in range(0, len(prefix_ids), PROMPT_CHUNK_TOKENS):
            decoder.read(np.array(prefix_ids[start : start + PROMPT_CHUNK_TOKENS])[:, None])
        decoder.save_prefix(prefix_ids)
    decoder.restore_prefix()
    random_streams = PhiloxStreams(seeds)
    for position, count in block_spans(options.length):
        yield np.ascontiguousarray(decoder.sample(random_streams.block(position, count), options).T)


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> tuple[list[int], dict[str, str]]:
    """Return the ids that a sample continues, and the replacements of characters of the prompt that the model does not know."""
    ids, replacements = tokenizer.encode_prompt(prompt)
    if tokenizer.eos_id is not None or not ids:
        ids = [tokenizer.bos_id, *ids]
    return ids, replacements


def resolve_seed(options: SampleOptions) -> int:
    """Return the seed of the options; for -1, a random one."""
    return secrets.randbelow(MAX_DRAWN_SEED) if options.seed < 0 else options.seed


def _stream_pieces(
    model: Network,
    prefix_ids: list[int],
    seeds: list[int],
    streamers: list[TextStreamer],
    options: SampleOptions,
    clamps: Sequence[Clamp],
    decoder: NativeDecoder | None,
    check: Callable[[], None],
) -> Iterator[list[str]]:
    """Yield the next piece of text of each sample until all have ended; this one loop draws every sample."""
    with contextlib.closing(stream_ids(model, prefix_ids, seeds, options, clamps, decoder)) as blocks:
        for block in blocks:
            check()
            yield [streamer.push(ids) for streamer, ids in zip(streamers, block, strict=True)]
            if all(streamer.finish_reason for streamer in streamers):
                break
    yield [streamer.finish() for streamer in streamers]


def stream_text(
    model: Network,
    tokenizer: Tokenizer,
    options: SampleOptions,
    seed: int,
    clamps: Sequence[Clamp] = (),
    precision: Precision | None = "float32",
) -> Iterator[str]:
    """Yield the text of one sample after its prompt, piece by piece as it is drawn; arguments as for `generate`.

    A byte of a model of bytes that is not UTF-8 is a surrogate (see `Tokenizer.raw_decode_stream`).
    """
    prefix_ids, _ = encode_prompt(tokenizer, options.prompt)
    decoder = make_native_decoder(model, 1, options, clamps, precision)
    streamers = [TextStreamer(tokenizer, options.stop)]
    for (piece,) in _stream_pieces(model, prefix_ids, [seed], streamers, options, clamps, decoder, lambda: None):
        if piece:
            yield piece


def generate(
    model: Network,
    tokenizer: Tokenizer,
    options: SampleOptions,
    seed: int,
    clamps: Sequence[Clamp] = (),
    check: Callable[[], None] = lambda: None,
    precision: Precision | None = "float32",
) -> Iterator[Sample]:
    """Yield `options.count` samples in order; sample i is what the seed `seed + i` draws, alone or in any batch.

    Args:
        model: the language model, in eval mode if it is torch's.
        tokenizer: the tokenizer that it was trained with.
        options: prompt, length, logits processors' settings, stop strings, count. Its `seed`, `clamp` and `novel_only` are
            not read here.
        seed: seed of the first sample.
        clamps: units to clamp; the reference path is used then.
        check: called before every block of tokens, and may raise to stop.
        precision: of the native decoder's weights; None uses the reference path.
    """
    prefix_ids, _ = encode_prompt(tokenizer, options.prompt)
    decoder = make_native_decoder(model, options.count, options, clamps, precision)
    batch_size = NATIVE_BATCH if options.portable else REFERENCE_BATCH if decoder is None else decoder.streams
    for first in range(0, options.count, batch_size):
        seeds = [seed + i for i in range(first, min(first + batch_size, options.count))]
        streamers = [TextStreamer(tokenizer, options.stop) for _ in seeds]
        texts = [[options.prompt] for _ in seeds]
        for pieces in _stream_pieces(model, prefix_ids, seeds, streamers, options, clamps, decoder, check):
            for text, piece in zip(texts, pieces, strict=True):
                text.append(piece)
        for sample_seed, streamer, text in zip(seeds, streamers, texts, strict=True):
            drawn, reason = "".join(text), streamer.finish_reason or "length"
            data = to_utf8(drawn) if tokenizer.reads_bytes else None
            shown = drawn if data is None else replace_undecodable(drawn)
            yield Sample(shown, options.prompt, sample_seed, streamer.num_tokens, reason, data)
