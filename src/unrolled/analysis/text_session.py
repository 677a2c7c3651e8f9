"""A trained model of texts, and the texts that it can be asked about."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.checkpoints.model_file import SavedModel
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import DataError, UsageError
from unrolled.generation.sampling import step_precision
from unrolled.nn.device import Machine
from unrolled.nn.kernels.native_decoder import Precision
from unrolled.nn.language_model import SequenceModel
from unrolled.options import DataOptions, TrainRequest, from_dict
from unrolled.text.corpus import Corpus, open_corpus
from unrolled.text.text_files import READERS, gather
from unrolled.text.tokenized_text import LINE_FEED, Reading, read, reread
from unrolled.text.tokenizer import Characters, Ids, Vocabulary
from unrolled.training.resume import saved_request
from unrolled.training.tasks.text import same_corpus

STANDARD_INPUT = Path("/dev/stdin")


@dataclass(frozen=True)
class Subject:
    """A model with its vocabulary, where it runs, and the run it came from, if that is there."""

    path: Path
    saved: SavedModel
    machine: Machine
    run: Run | None

    @property
    def model(self) -> SequenceModel:
        """The network."""
        return self.saved.model

    @property
    def vocabulary(self) -> Vocabulary:
        """Its symbols."""
        return self.saved.vocabulary

    @property
    def sampling(self) -> Precision | None:
        """The numbers it samples with in the native step; None for the definition, where the reference kernel was asked for."""
        return step_precision(self.model, self.machine.dtype)

    @property
    def name(self) -> str:
        """What it is called: its run, or its file."""
        return self.path.stem if self.run is None else self.run.path.resolve().name

    @property
    def shape(self) -> str:
        """Its layers in a few words."""
        options = self.model.options
        count = sum(weight.numel() for weight in self.model.parameters())
        return f"{options.layers} x {options.hidden} {options.cell.upper()}, {count:,} parameters"

    def corpus(self, inputs: tuple[str, ...]) -> tuple[float, Corpus]:
        """Return the share that trains, and the text: `inputs` in the model's symbols, or what the run was trained on."""
        if self.run is None:
            request, origin = TrainRequest(), {"text": "", "corpus": ""}
        else:
            request, origin = saved_request(self.run)
        if inputs:
            own = {"tokens": self.vocabulary.kind, "unit": self.saved.unit}
            data = from_dict(DataOptions, dataclasses.asdict(request.data) | own, str(self.path))
            return data.train_fraction, open_corpus(inputs, data, self.vocabulary)
        if self.run is None:
            raise UsageError(f"{self.path} is a model without its run folder: name the text.")
        return request.data.train_fraction, same_corpus(request, origin, lambda note: None)

    def parts(self) -> tuple[Ids, Ids]:
        """Return the ids that the run was trained on, and those held out (those trained on, where none were)."""
        fraction, corpus = self.corpus(())
        train, held = corpus.split(fraction)
        return train, held if len(held) > 1 else train

    def held_out(self, symbols: int) -> Reading:
        """Return the beginning of the text that was held out."""
        return reread(self.vocabulary, self.saved.unit, np.asarray(self.parts()[1][:symbols]))

    def reading(self, text: str) -> Reading:
        """Return how the model reads a text."""
        return read(self.vocabulary, self.saved.unit, text)

    def beginning(self, name: str, symbols: int) -> Reading:
        """Return how the model reads the first symbols of a file, folder or standard input."""
        points = np.zeros(0, dtype=np.uint8)
        for piece in self.pieces(name):
            points = np.concatenate([points, piece])
            if len(points) >= symbols:
                break
        if not len(points):
            raise DataError(f"There is no text in {name}.")
        text = points[:symbols]
        if self.vocabulary.kind == "bytes":
            return self.reading(text.tobytes().decode("utf-8", "surrogateescape"))
        return self.reading(text.astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass"))

    def pieces(self, name: str | None) -> Iterator[Any]:
        """Yield a text as arrays of points: a file, folder or `-`; None is what the run held out."""
        if name is None:
            yield from self._held_out_points()
            return
        here = name == "-" and os.path.exists(STANDARD_INPUT)
        notes: dict[str, int] = {}
        last = LINE_FEED
        for path in [STANDARD_INPUT] if here else gather([name]):
            if last != LINE_FEED and self.vocabulary.kind == "characters":
                yield np.array([LINE_FEED], dtype=np.uint8)
            for piece in READERS[self.vocabulary.kind](path, notes):
                if len(piece):
                    yield piece
                    last = int(piece[-1])

    def _held_out_points(self) -> Iterator[Any]:
        held, vocabulary = self.parts()[1], self.vocabulary
        if isinstance(vocabulary, Characters):
            table = np.array([ord(symbol) for symbol in vocabulary.symbols] + [LINE_FEED], dtype=np.uint32)
        else:
            table = np.append(np.arange(256), LINE_FEED).astype(np.uint8)
        skip = int(vocabulary.end is not None and len(held) > 0 and held[0] == vocabulary.end)
        for start in range(skip, len(held), 1 << 20):
            yield table[held[start : start + (1 << 20)]]
