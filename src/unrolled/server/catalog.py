"""The models and runs that a server offers, by id. A request names an id, never a path."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.analysis.text_session import TextSession
from unrolled.checkpoints.array_file import read_header, read_model
from unrolled.checkpoints.run_dir import MODEL_FILE_NAME, find_model, is_run_dir, run_of_model
from unrolled.datasets.base_models import BASE_MODELS, base_model_path
from unrolled.errors import UnrolledError, UsageError
from unrolled.options import MachineOptions
from unrolled.runtime.native_decoder import unsupported_reason
from unrolled.runtime.numpy_model import CELL_STEPS
from unrolled.runtime.text_network import to_text_model
from unrolled.server.http_errors import ApiError
from unrolled.server.ids import is_id, to_id
from unrolled.server.lane_groups import NativeReader, NativeSampler, ReferenceSampler, Sampler
from unrolled.server.lanes import Filters

MAX_LOADED_MODELS = 8


@dataclass(frozen=True)
class ModelEntry:
    """A model file that can be asked for, and what its header says."""

    id: str
    path: Path
    kind: str
    header: dict[str, Any]
    parameters: int
    created: int

    def to_json(self) -> dict[str, Any]:
        """Return it as OpenAI lists models, with more facts."""
        options = self.header.get("options")
        options = options if isinstance(options, dict) else {}
        tokenizer = self.header.get("tokenizer")
        history = self.header.get("history")
        return {
            "id": self.id, "object": "model", "created": self.created, "owned_by": "unrolled", "kind": self.kind,
            "tokens": tokenizer.get("kind") if isinstance(tokenizer, dict) else None,
            "documents": self.header.get("documents", "none") if self.kind == "text" else None,
            "layers": options.get("layers"), "hidden": options.get("hidden"), "cell": options.get("cell"),
            "parameters": self.parameters, "steps": history.get("steps") if isinstance(history, dict) else None,
        }  # fmt: skip


class LoadedModel:
    """A text model in memory, with what samples from it. It has no torch.

    Args:
        entry: Its entry.
        options: Number format and kernels, as of the command line.
    """

    def __init__(self, entry: ModelEntry, options: MachineOptions) -> None:
        header, arrays = read_model(entry.path)
        text_model = to_text_model(entry.path, header, arrays)
        run = run_of_model(entry.path)
        self.entry = entry
        self.session = TextSession(entry.path, text_model, options, run)
        self.network, self.tokenizer = text_model.network, text_model.tokenizer
        self.generation_defaults = text_model.generation
        self.token_strings = self.tokenizer.token_strings()
        self._precision = self.session.sampling_precision
        if unsupported_reason(self.network) is not None:
            self._precision = None
        self._reference = ReferenceSampler(self.network, self.token_strings)
        self._native: Sampler = self._reference
        if self._precision is not None:
            self._native = NativeSampler(self.network, self._precision, self.token_strings)

    def reader(self) -> NativeReader | ReferenceSampler:
        """Return what reads texts outside the engine's thread."""
        return self._reference if self._precision is None else NativeReader(self.network, self._precision)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the weights of this model: a state that other weights computed cannot be continued."""
        digest = hashlib.sha256()
        for name, array in sorted(self.network.arrays().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:32]

    def sampler(self, filters: Filters) -> Sampler:
        """Return what draws samples with these filters."""
        return self._reference if filters.clamps else self._native


class Catalog:
    """The models of a folder of runs, and of runs that were named.

    Args:
        folder: All runs in it are offered, also those that begin later, and the models of the package, as `builtin-NAME`;
            None: only `paths`.
        paths: Run folders and model files.
        options: Number format and kernels.
    """

    def __init__(self, folder: Path | None, paths: list[Path], options: MachineOptions) -> None:
        self.folder, self.options = folder, options
        self._named = _unique_ids(paths)
        if folder is not None:
            self._named |= {f"builtin-{name}": base_model_path(name) for name in BASE_MODELS}
        self._headers: dict[Path, tuple[tuple[int, int], dict[str, Any], int]] = {}
        self._loaded: OrderedDict[str, tuple[tuple[int, int], LoadedModel]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def has_folder(self) -> bool:
        """Whether runs of a folder are offered, so that new ones are, too."""
        return self.folder is not None

    def check_named(self) -> None:
        """Raise `ModelError` if a model that was named cannot be read; a run may have none yet."""
        for path in self._named.values():
            model_path = path / MODEL_FILE_NAME if path.is_dir() else path
            if path.is_file() or model_path.exists():
                read_header(model_path)

    def run_folders(self) -> dict[str, Path]:
        """Return the run folders by id."""
        found = {name: path for name, path in self._named.items() if is_run_dir(path)}
        if self.folder is not None and self.folder.is_dir():
            root = self.folder.resolve()
            for path in sorted(self.folder.iterdir()):
                is_inside = root in path.resolve().parents  # not what a link points to elsewhere
                if is_inside and is_id(path.name) and is_run_dir(path):
                    found.setdefault(path.name, path)
        return found

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run. Raises `ApiError` if there is none."""
        folders = self.run_folders()
        if run_id not in folders:
            raise ApiError(404, "There is no run with this id: GET /api/runs lists them.", "id", "run_not_found")
        return folders[run_id]

    def entries(self) -> dict[str, ModelEntry]:
        """Return the models by id; what cannot be read is left out."""
        paths = {name: path / MODEL_FILE_NAME for name, path in self.run_folders().items()}
        paths |= {name: path for name, path in self._named.items() if path.is_file()}
        found = {}
        for name, path in paths.items():
            entry = self._entry(name, path)
            if entry is not None:
                found[name] = entry
        return found

    def entry(self, model_id: str, kind: str | None = None) -> ModelEntry:
        """Return a model, of a kind if one is named. Raises `ApiError` if there is none."""
        path = self._model_path(model_id)
        entry = None if path is None else self._entry(model_id, path)
        if entry is None:
            raise ApiError(
                404, "There is no model with this id, or no longer: GET /v1/models lists them.", "model", "model_not_found"
            )
        if kind is not None and entry.kind != kind:
            use = "POST /api/predict" if entry.kind == "table" else "POST /v1/completions"
            raise ApiError(400, f"This is a model of a {entry.kind}, and one of a {kind} is expected: see {use}.", "model")
        return entry

    async def text_model(self, model_id: str) -> LoadedModel:
        """Return a text model, loaded in another thread if it is not in memory or its file has changed."""
        entry = self.entry(model_id, "text")
        loaded = self._loaded.get(model_id)
        if loaded is not None and loaded[0] == _version(entry.path):
            return loaded[1]
        return await asyncio.to_thread(self.load, entry)

    def load(self, entry: ModelEntry) -> LoadedModel:
        """Return a text model, from memory if its file has not changed. Raises `ApiError` for a cell that needs torch."""
        cell = (entry.header.get("options") or {}).get("cell")
        if entry.header.get("window") is not None:
            raise ApiError(
                400, "The server keeps the states of texts, and this model (textgenrnn) has none: use unrolled sample.", "model"
            )
        if cell not in CELL_STEPS:
            cells = ", ".join(CELL_STEPS)
            raise ApiError(400, f"The server runs the cells {cells}, and this model has {cell}: use unrolled sample.", "model")
        with self._lock:
            version = _version(entry.path)
            if entry.id in self._loaded and self._loaded[entry.id][0] == version:
                self._loaded.move_to_end(entry.id)
                return self._loaded[entry.id][1]
            model = LoadedModel(entry, self.options)
            self._loaded[entry.id] = (version, model)
            while len(self._loaded) > MAX_LOADED_MODELS:
                self._loaded.popitem(last=False)
            return model

    def _model_path(self, model_id: str) -> Path | None:
        """Return the file of one model; the folder is not listed for it."""
        path = self._named.get(model_id)
        if path is None and self.folder is not None and is_id(model_id):
            path = self.folder / model_id
            if self.folder.resolve() not in path.resolve().parents or not is_run_dir(path):
                return None
        return path / MODEL_FILE_NAME if path is not None and path.is_dir() else path

    def _entry(self, name: str, path: Path) -> ModelEntry | None:
        try:
            version = _version(path)
            if path not in self._headers or self._headers[path][0] != version:
                self._headers[path] = (version, *read_header(path))
            _, header, parameters = self._headers[path]
        except (UnrolledError, OSError):
            return None
        return ModelEntry(name, path, str(header.get("kind")), header, parameters, version[0] // 10**9)


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _unique_ids(paths: list[Path]) -> dict[str, Path]:
    """Return run folders and model files by an id made of their name."""
    found: dict[str, Path] = {}
    for path in paths:
        if not is_run_dir(path):
            path = find_model(path)
        is_run_model = path.name == MODEL_FILE_NAME
        if is_run_model and is_run_dir(path.parent):
            path = path.parent
        stem = path.resolve().parent.name if is_run_model and path.is_file() else path.resolve().name
        name = base = to_id(stem.removesuffix(".safetensors")[:100], "model")
        number = 1
        while name in found:
            if found[name].resolve() == path.resolve():
                raise UsageError(f"{path} is named twice: leave one out.")
            number += 1
            name = f"{base}-{number}"
        found[name] = path
    return found
