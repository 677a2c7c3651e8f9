"""A trained model of texts, and the texts that it can be asked about."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import DataError, UsageError
from unrolled.generation.sampling import sampling_precision
from unrolled.nn.device import DeviceConfig
from unrolled.nn.kernels.native_decoder import Precision
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import DataOptions, TrainRequest, from_dict
from unrolled.text.corpus import Corpus, open_corpus
from unrolled.text.text_files import CHUNK_READERS, resolve_inputs
from unrolled.text.tokenized_text import LINE_FEED, TokenizedText, from_ids, tokenize
from unrolled.text.tokenizer import CharTokenizer, Ids, Tokenizer

STDIN_PATH = Path("/dev/stdin")


@dataclass(frozen=True)
class TextSession:
    """A model with its vocabulary, where it runs, and the run it came from, if that is there."""

    path: Path
    saved: TextModelFile
    machine: DeviceConfig
    run: Run | None

    @property
    def model(self) -> RecurrentLM:
        """The network."""
        return self.saved.model

    @property
    def tokenizer(self) -> Tokenizer:
        """Its symbols."""
        return self.saved.tokenizer

    @property
    def sampling_precision(self) -> Precision | None:
        """The numbers it samples with in the native step; None for the definition, where the reference kernel was asked for."""
        return sampling_precision(self.model, self.machine.dtype)

    @property
    def name(self) -> str:
        """What it is called: its run, or its file."""
        return self.path.stem if self.run is None else self.run.path.resolve().name

    @property
    def description(self) -> str:
        """Its layers in a few words."""
        options = self.model.options
        num_parameters = sum(weight.numel() for weight in self.model.parameters())
        return f"{options.layers} x {options.hidden} {options.cell.upper()}, {num_parameters:,} parameters"

    def corpus(self, inputs: tuple[str, ...]) -> tuple[float, Corpus]:
        """Return the share that trains, and the text: `inputs` in the model's symbols, or what the run was trained on."""
        from unrolled.training.resume import load_request  # not at the top: sampling needs no training code
        from unrolled.training.tasks.text import reopen_corpus

        if self.run is None:
            request, fingerprints = TrainRequest(), {"content_hash": "", "cache_key": ""}
        else:
            request, fingerprints = load_request(self.run)
        if inputs:
            overrides = {"tokens": self.tokenizer.kind, "documents": self.saved.documents}
            data = from_dict(DataOptions, dataclasses.asdict(request.data) | overrides, str(self.path))
            return data.train_fraction, open_corpus(inputs, data, self.tokenizer)
        if self.run is None:
            raise UsageError(f"{self.path} is a model without its run folder: name the text.")
        return request.data.train_fraction, reopen_corpus(request, fingerprints, lambda note: None)

    def train_and_held_out(self) -> tuple[Ids, Ids]:
        """Return the ids that the run was trained on, and those held out (those trained on, where none were)."""
        fraction, corpus = self.corpus(())
        train, held_out = corpus.split(fraction)
        return train, held_out if len(held_out) > 1 else train

    def held_out_text(self, max_tokens: int) -> TokenizedText:
        """Return the beginning of the text that was held out."""
        return from_ids(self.tokenizer, self.saved.documents, np.asarray(self.train_and_held_out()[1][:max_tokens]))

    def tokenize(self, text: str) -> TokenizedText:
        """Return how the model reads a text."""
        return tokenize(self.tokenizer, self.saved.documents, text)

    def first_tokens(self, name: str, max_tokens: int) -> TokenizedText:
        """Return how the model reads the first symbols of a file, folder or standard input."""
        code_points = np.zeros(0, dtype=np.uint8)
        for chunk in self.code_point_chunks(name):
            code_points = np.concatenate([code_points, chunk])
            if len(code_points) >= max_tokens:
                break
        if not len(code_points):
            raise DataError(f"There is no text in {name}.")
        prefix = code_points[:max_tokens]
        if self.tokenizer.kind == "bytes":
            return self.tokenize(prefix.tobytes().decode("utf-8", "surrogateescape"))
        return self.tokenize(prefix.astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass"))

    def code_point_chunks(self, name: str | None) -> Iterator[Any]:
        """Yield a text as arrays of points: a file, folder or `-`; None is what the run held out."""
        if name is None:
            yield from self._held_out_code_points()
            return
        is_stdin = name == "-" and os.path.exists(STDIN_PATH)
        warnings: dict[str, int] = {}
        last = LINE_FEED
        for path in [STDIN_PATH] if is_stdin else resolve_inputs([name]):
            if last != LINE_FEED and self.tokenizer.kind == "characters":
                yield np.array([LINE_FEED], dtype=np.uint8)
            for chunk in CHUNK_READERS[self.tokenizer.kind](path, warnings):
                if len(chunk):
                    yield chunk
                    last = int(chunk[-1])

    def _held_out_code_points(self) -> Iterator[Any]:
        held_out_ids, tokenizer = self.train_and_held_out()[1], self.tokenizer
        if isinstance(tokenizer, CharTokenizer):
            code_point_of_id = np.array([ord(char) for char in tokenizer.tokens] + [LINE_FEED], dtype=np.uint32)
        else:
            code_point_of_id = np.append(np.arange(256), LINE_FEED).astype(np.uint8)
        skip = int(tokenizer.eos_id is not None and len(held_out_ids) > 0 and held_out_ids[0] == tokenizer.eos_id)
        for start in range(skip, len(held_out_ids), 1 << 20):
            yield code_point_of_id[held_out_ids[start : start + (1 << 20)]]
