"""A trained text model with its device and run, and the texts to use it on."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled.checkpoints.run_dir import Run, model_name
from unrolled.datasets.base_models import display_path
from unrolled.display import Displayed
from unrolled.errors import DataError, UsageError
from unrolled.generation.portable_sampling import portable_model
from unrolled.generation.sampling import Network, text_network
from unrolled.nn.kernels.extension import set_num_threads
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import DataOptions, MachineOptions, TrainRequest, from_dict
from unrolled.runtime import native_model
from unrolled.runtime.language_model import LanguageModel
from unrolled.runtime.native_decoder import Precision, sampling_precision
from unrolled.runtime.numpy_model import has_numpy_model
from unrolled.runtime.text_network import TextModel
from unrolled.runtime.window_model import numpy_model, numpy_reader
from unrolled.text.encodings import display_name
from unrolled.text.normalization import change_note, normalize_chunks
from unrolled.text.tokenized_text import TokenizedText, from_ids, tokenize
from unrolled.text.tokenizer import DOCUMENT_SEPARATORS, LINE_FEED, RECORD_SEPARATOR, Ids, Tokenizer
from unrolled.text.unknown_tokens import refuse_unknown

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TextModelFile
    from unrolled.evaluation.line_surprisal import FileStarts
    from unrolled.evaluation.surprisal import TextBlock
    from unrolled.nn.device import DeviceConfig
    from unrolled.nn.language_model import RecurrentLM
    from unrolled.tables.table_format import TableFormat
    from unrolled.text.corpus import Corpus
    from unrolled.text.splitting import Splits

logger = logging.getLogger(__name__)

STDIN_PATH = Path("/dev/stdin")

GPU_DRIVER_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", r"C:\Windows\System32\nvcuda.dll")
"""Files of the drivers of GPUs that torch's `cuda` can be: NVIDIA's, AMD's, and either under WSL."""


class TextSession(Displayed):
    """A text model with its tokenizer, its device, and its run folder, if there is one.

    Sampling and scoring use the arrays of `saved`, without torch. The network of torch is built when `model` is first asked
    for, on the same memory, and at once where only torch can do what `options` ask for; from then on it is the model.

    Raises `UsageError` for a device or kernel that is not available.
    """

    def __init__(self, path: Path, saved: TextModel, options: MachineOptions, run: Run | None) -> None:
        self.path, self.saved, self.options, self.run = path, saved, options, run
        if options.threads:
            set_num_threads(options.threads)
        kernel_reason = native_model.unsupported_reason(saved.network) if options.kernels == "native" else None
        self.needs_torch = (
            options.device not in ("auto", "cpu")
            or options.kernels == "torch"
            or kernel_reason is not None
            or not has_numpy_model(saved.network)
        )
        if self.needs_torch:
            _ = self.torch_parts

    @cached_property
    def torch_parts(self) -> tuple[TextModelFile, DeviceConfig, str]:
        """The network of torch, its device and number format, and the name of its kernel."""
        from unrolled.generation.torch_model import as_text_model_file
        from unrolled.nn.device import select_device
        from unrolled.nn.kernels.select import choose_kernel

        model_file = as_text_model_file(self.path, self.saved)
        device_config = select_device(self.options)
        network = model_file.model.to(device_config.device).eval()
        return model_file, *choose_kernel(network, device_config, self.options)

    @property
    def facts(self) -> Mapping[str, object]:
        return {"path": self.path, "model": self.description}

    @property
    def model(self) -> RecurrentLM:
        """The network of torch."""
        return self.torch_parts[0].model

    @property
    def machine(self) -> DeviceConfig:
        """Device, number format and threads of the network of torch."""
        return self.torch_parts[1]

    @property
    def network(self) -> Network:
        """What samples are drawn from: the arrays, or the network of torch if it exists."""
        return self.model if "torch_parts" in self.__dict__ else self.saved.network

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return self.saved.tokenizer

    @property
    def sampling_precision(self) -> Precision | None:
        """Precision of the native sampling kernel; None where the reference kernel was requested."""
        return sampling_precision(self.options)

    def scoring_model(self, clamps: Sequence[Clamp] = (), portable: bool = False, adapt: bool = False) -> LanguageModel:
        """Return what reads a text to score it: torch on a GPU or in bfloat16, else the runtime, in float32 or portable.

        With `adapt`, it is a copy of the network that learns from the text while it reads it.
        """
        if adapt:
            from unrolled.evaluation.adaptation import AdaptiveModel

            return AdaptiveModel(self.model, self.machine)
        if portable:
            return portable_model(*text_network(self.saved.network), clamps)
        options = self.options
        if self.needs_torch or options.precision == "bfloat16" or self._may_use_gpu():
            from unrolled.generation.torch_model import TorchModel

            if self.needs_torch or options.precision == "bfloat16" or self.machine.device.type != "cpu":
                return TorchModel(self.model, self.machine, clamps)
        arrays, reason = text_network(self.network)
        if arrays is None:
            raise UsageError(f"The model cannot be read without torch: {reason}.")
        if options.kernels == "reference":
            return numpy_model(arrays, clamps)
        if native_model.unsupported_reason(arrays):
            return numpy_reader(arrays, clamps)
        return native_model.NativeModel(arrays, clamps)

    def _may_use_gpu(self) -> bool:
        """Return whether torch is to be asked for a GPU: if this machine has its driver. It has no network with a window."""
        has_driver = any(map(os.path.exists, GPU_DRIVER_FILES))
        return self.options.device == "auto" and self.saved.network.window is None and has_driver

    def adapted_to(self, text: str) -> TextSession:
        """Return a session whose network has learned from a text, on the CPU."""
        from unrolled.evaluation.adaptation import adapt
        from unrolled.generation.torch_model import as_text_network

        ids = np.asarray(self.tokenizer.encode_prompt(text)[0], dtype=np.int64)
        network = as_text_network(adapt(self.model, ids, self.machine).cpu())
        return TextSession(self.path, dataclasses.replace(self.saved, network=network), self.options, self.run)

    @property
    def name(self) -> str:
        """The name of the run, or of the model file."""
        return model_name(self.path, self.run)

    @property
    def run_path(self) -> Path | None:
        """The run folder, if there is one."""
        return None if self.run is None else self.run.path

    @property
    def column(self) -> str | None:
        """The column that the model learned to write like, if it is one of a table."""
        source = self.saved.history.get("source")
        return None if source is None else str(source)

    @property
    def description(self) -> str:
        """A short description of the layers."""
        options = self.saved.options
        network = self.saved.network
        window = "" if network.window is None else f" over windows of {network.window.length} tokens"
        return f"{options.layers} x {options.hidden} {options.cell.upper()}{window}, {network.num_parameters:,} parameters"

    def corpus(self, inputs: tuple[str, ...], format: TableFormat | None = None) -> tuple[Corpus, Splits]:
        """Return an encoded text and its splits: that of `inputs`, or of the run if there are none.

        `format` is how the files of `inputs` are read; its header is for models of a column of tables.
        """
        from unrolled.checkpoints.run_data import load_request, reopen_corpus  # not at the top: sampling needs no texts
        from unrolled.tables.column_text import open_column
        from unrolled.tables.table_format import FIRST_ROW, TableFormat
        from unrolled.text.corpus import open_corpus

        if self.run is None:
            request, fingerprints = TrainRequest(), {"content_hash": "", "cache_key": ""}
        else:
            request, fingerprints = load_request(self.run)
        if inputs:
            encoding = None if format is None else format.encoding
            overrides = {"tokens": self.tokenizer.setting, "documents": self.saved.documents, "encoding": encoding}
            overrides["normalize"] = self.tokenizer.normalization
            data = from_dict(DataOptions, dataclasses.asdict(request.data) | overrides, str(self.path))
            if self.column is not None:
                format = dataclasses.replace(format or TableFormat(), default_header=request.table.header or FIRST_ROW)
                corpus = open_column(inputs, self.column, format, data, self.tokenizer)
            else:
                corpus = open_corpus(inputs, data, self.tokenizer, self.tokenizer.line_format)
            return corpus, corpus.split(data, request.training.seed)
        if self.run is None:
            raise UsageError(f"{display_path(self.path)} is a model without its run folder: name the text.")
        corpus = reopen_corpus(request, fingerprints)
        return corpus, corpus.split(request.data, request.training.seed)

    def train_and_held_out(self) -> tuple[Ids, Ids]:
        """Return the run's training ids and validation ids (the training ids twice, if there are no validation ids)."""
        train, held_out, _ = self.corpus(())[1]
        return train, held_out if len(held_out) > 1 else train

    def validation_ids(self) -> Ids:
        """Return the run's validation ids, from the encoded copy of its text if that is in the cache; empty if it has none.

        Raises `UsageError` if there is no run folder.
        """
        from unrolled.checkpoints.run_data import load_request
        from unrolled.text.corpus import cached_corpus

        if self.run is not None:
            request, origin = load_request(self.run)
            corpus = None if "vocabulary" in origin else cached_corpus(origin["cache_key"])
            if corpus is not None and corpus.content_hash == origin["content_hash"]:  # the text itself need not be read
                return corpus.split(request.data, request.training.seed).validation
        return self.corpus(())[1].validation

    def held_out_text(self, max_tokens: int) -> TokenizedText:
        """Return the first tokens of the validation text."""
        return from_ids(self.tokenizer, self.saved.documents, np.asarray(self.train_and_held_out()[1][:max_tokens]))

    def tokenize(self, text: str) -> TokenizedText:
        """Return the tokens of a text."""
        return tokenize(self.tokenizer, self.saved.documents, text)

    def first_tokens(self, name: str, max_tokens: int, format: TableFormat | None = None) -> TokenizedText:
        """Return the first tokens of a file, a folder or standard input."""
        code_points = np.zeros(0, dtype=np.uint8)
        for chunk in self.code_point_chunks(name, format):
            code_points = np.concatenate([code_points, chunk])
            if len(code_points) >= max_tokens:
                break
        return self.tokenize(self._text_of(code_points[:max_tokens], name))

    def read_text(self, name: str) -> str:
        """Return all of a file, a folder or standard input, as the model reads it."""
        return self._text_of(np.concatenate([np.zeros(0, dtype=np.uint8), *self.code_point_chunks(name)]), name)

    def _text_of(self, code_points: Ids, name: str) -> str:
        if not len(code_points):
            raise DataError(f"There is no text in {name}.")
        if self.tokenizer.reads_bytes:
            return code_points.tobytes().decode("utf-8", "surrogateescape")
        return "".join(self.tokenizer.texts_of(code_points))

    def text_blocks(
        self, name: str | None, format: TableFormat | None = None, unknown: str = "keep", files: FileStarts | None = None
    ) -> Iterator[TextBlock]:
        """Yield a text, as `code_point_chunks` takes it, in the blocks that the model scores; report what was masked."""
        from unrolled.evaluation.log_blocks import LogBlocks, has_line_format
        from unrolled.evaluation.surprisal import text_blocks

        if name is None:
            yield from self.held_out_blocks(self.train_and_held_out()[1])
            return
        chunks = self.code_point_chunks(name, format, unknown, files)
        if not has_line_format(self.tokenizer):
            yield from text_blocks(chunks)
            return
        blocks = LogBlocks(self.tokenizer, keeps_separators=self.saved.documents in ("blank-line", "cell"))
        yield from blocks.blocks(chunks)
        for note in blocks.notes():
            logger.info(note)

    def held_out_blocks(self, ids: Ids) -> Iterator[TextBlock]:
        """Yield ids of the run's text in the blocks that the model scores."""
        from unrolled.evaluation.log_blocks import held_out_sessions
        from unrolled.evaluation.surprisal import text_blocks

        chunks = self._code_points_of(self.tokenizer.first_strands(np.asarray(ids)))  # the scorer reads the other ones too
        return held_out_sessions(chunks) if self.saved.documents == "session" else text_blocks(chunks)

    def code_point_chunks(
        self, name: str | None, format: TableFormat | None = None, unknown: str = "keep", files: FileStarts | None = None
    ) -> Iterator[Any]:
        """Yield a text as arrays of code points: a file, a folder, or `-` for standard input (None: the validation text).

        `files` records the line at which each file begins, if there are several. Raises `DataError` for a token that the model
        does not know, if `unknown` is `refuse`.
        """
        from unrolled.evaluation.log_blocks import has_line_format
        from unrolled.tables.table_format import TableFormat
        from unrolled.text.corpus import cache_folder
        from unrolled.text.document_files import remove_copies
        from unrolled.text.text_files import read_chunks

        if name is None:
            yield from self._code_points_of(self.train_and_held_out()[1])
            return
        warnings: dict[str, int] = {}
        spelled: Counter[str] = Counter()
        last, num_lines = LINE_FEED, 0
        form = self.tokenizer.normalization
        paths = self._files(name, format or TableFormat())
        try:
            for path in paths:
                if last not in (LINE_FEED, RECORD_SEPARATOR) and not self.tokenizer.reads_bytes:
                    yield np.array([LINE_FEED], dtype=np.uint8)
                    num_lines += 1
                if files is not None and len(paths) > 1:
                    files.add(display_name(path), num_lines)
                normalized = normalize_chunks(read_chunks(path, self.tokenizer.reads_bytes, warnings), form, warnings)
                if unknown == "refuse" and not self.tokenizer.reads_bytes:
                    normalized = refuse_unknown(normalized, self.tokenizer, self.saved.documents, display_name(path))
                for chunk in self._translated(normalized, spelled):
                    if len(chunk):
                        num_lines += int(np.isin(chunk, (LINE_FEED, RECORD_SEPARATOR)).sum())
                        yield chunk
                        last = int(chunk[-1])
        finally:
            remove_copies(paths, cache_folder())
        if form != "none" and (num_changed := warnings.get(change_note(form), 0)):
            logger.info(f"{num_changed:,} {change_note(form)}")
        notes: dict[str, int] = {}
        if not has_line_format(self.tokenizer):  # else the lines are masked first, and what is unknown in them is counted then
            self.tokenizer.note_spelled(spelled, notes)
        for note, count in notes.items():
            logger.info(f"{count:,} {note}")

    def _translated(self, chunks: Iterator[Any], spelled: Counter[str]) -> Iterator[Any]:
        """Yield the code points of tokens; of a text that is masked first, those of its characters, which need no search."""
        from unrolled.evaluation.log_blocks import has_line_format
        from unrolled.text.rule_tokenizer import PRIVATE_USE

        if not has_line_format(self.tokenizer):
            yield from self.tokenizer.translate(chunks, spelled)
            return
        for chunk in chunks:  # a character that could be taken for a token is not read as it is
            is_plain = chunk.max(initial=0) < PRIVATE_USE
            yield from [chunk] if is_plain else self.tokenizer.translate([chunk], spelled)

    def _files(self, name: str, format: TableFormat) -> list[Path]:
        """Return the files of a text, or copies of them in the cache as its documents or its encoding need them."""
        from unrolled.tables.column_text import column_tokens, write_column
        from unrolled.text.corpus import cache_folder
        from unrolled.text.document_files import accepted_heads, needs_copy, prepare_files
        from unrolled.text.text_files import resolve_inputs

        if self.column is not None:
            return [write_column(name, column_tokens(self.column, DataOptions())[0], format)]
        documents = self.saved.documents if self.saved.documents in ("blank-line", "record") else "none"
        settings = {"tokens": self.tokenizer.setting, "documents": documents, "encoding": format.encoding}
        options = from_dict(DataOptions, settings, str(self.path))
        is_changed = documents != "none" or format.encoding is not None
        if name == "-" and os.path.exists(STDIN_PATH) and not is_changed:
            return [STDIN_PATH]
        paths = resolve_inputs([name], stdin_folder=cache_folder(), accepts=accepted_heads(options.tokens))
        is_changed |= any(map(needs_copy, paths))
        return prepare_files(paths, options, cache_folder(), training=False) if is_changed else paths

    def _code_points_of(self, held_out_ids: Ids) -> Iterator[Any]:
        tokenizer = self.tokenizer
        code_point_of_id = tokenizer.code_point_of_id
        skip = int(tokenizer.eos_id is not None and len(held_out_ids) > 0 and held_out_ids[0] == tokenizer.eos_id)
        separator = DOCUMENT_SEPARATORS.get(self.saved.documents, LINE_FEED)
        if tokenizer.eos_id is not None and separator != LINE_FEED:
            code_point_of_id = code_point_of_id.copy()
            code_point_of_id[tokenizer.eos_id] = separator
        for start in range(skip, len(held_out_ids), 1 << 20):
            yield code_point_of_id[held_out_ids[start : start + (1 << 20)]]
