"""Where a command may write: checked before its work begins, by one function for every flag and method that writes.

An output never replaces an input of the same command, nor a file that a run needs. It replaces an existing file only if that
is of the kind that is written, or with `--force`.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unrolled.errors import StorageError, UsageError
from unrolled.option_fields import flag_name

RUN_FILES = frozenset(("config.json", "metrics.jsonl", "samples.jsonl", "model.safetensors", "checkpoints", "tensorboard"))
"""What a run folder needs, by the first part of the path in it."""

NUMBERED_IMAGE = re.compile(r"\d{6,}\.png")
"""Names of the images that `predict --image-dir` writes."""

MAX_NAME_BYTES = 255  # where the file system does not report its limit
MAX_PATH_BYTES = 4095
MAX_SHOWN = 60
"""Characters of a path that a message shows."""


def check_outputs(
    options: Any, inputs: Iterable[object] = (), run: Path | None = None, default_path: Path | None = None
) -> None:
    """Check every output that `options` name. It is called before the work begins.

    Args:
        options: An object of an option class; its fields with `writes` are the outputs.
        inputs: Files, folders and patterns that the same command reads; what is no path, `-` and `builtin:NAME` are no files.
        run: The run folder that is read; the texts and tables it was trained on are inputs too.
        default_path: What the option `out` is if it is not given.

    Raises:
        UsageError: An output would replace an input, a file that a run needs, or an existing file of another kind; or it is a
            folder, is in no folder that exists, or its name is too long.
        StorageError: The folder of an output cannot be written to.
    """
    kept = _kept_files(inputs, run)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == "out" and value is None and default_path is not None:
            value = str(default_path)
        if field.metadata["writes"] and value is not None:
            output = _Output(flag_name(field.name), value, field.metadata["writes"])
            output.check(*kept, force=getattr(options, "force", False))


def check_new_file(flag: str, path: Path, inputs: Iterable[object], run: Path | None, force: bool, kind: str = "new") -> None:
    """Check a file that is written because of `flag`, as `check_outputs` does for outputs of this kind.

    Args:
        flag: The flag, for messages.
        path: The file.
        inputs: Files that are read; what is no path among them is ignored.
        run: The run folder, whose files must not be replaced, or None.
        force: Whether an existing file may be replaced.
        kind: What is written: a key of `_KINDS`, or `run`, `images` or `new`.

    Raises `UsageError` if it may not be written.
    """
    _Output(flag, str(path), kind).check(*_kept_files(inputs, run), force)


def _kept_files(inputs: Iterable[object], run: Path | None) -> tuple[list[str], list[Path]]:
    """Return what must not be replaced: the inputs, with those of the run, and the files that the run needs."""
    names = [os.fspath(name) for name in (*inputs, *_inputs_of_run(run)) if isinstance(name, str | os.PathLike)]
    return names, [] if run is None else [run / name for name in RUN_FILES]


@dataclasses.dataclass(frozen=True)
class _Output:
    """One path that is written to: the flag that names it, its value, and a key of `_KINDS`, or `run`, `images`
    or `new`."""

    flag: str
    value: str
    kind: str

    @property
    def path(self) -> Path:
        return Path(self.value)

    @property
    def shown(self) -> str:
        """The flag and its value as a message shows them."""
        return f"{self.flag} {self.value[:MAX_SHOWN]}{'...' if len(self.value) > MAX_SHOWN else ''}"

    def check(self, inputs: list[str], needed: list[Path], force: bool) -> None:
        self._check_name()
        self._check_runs(needed)
        replaced = self._numbered_images() if self.kind == "images" else [self.path] if self.path.is_file() else []
        for name in _input_files(inputs):
            if any(_is_same_file(path, name) for path in replaced):
                raise UsageError(f"{self.shown} would replace the input {name}: name another file.")
        if self.kind == "run":  # `require_free` checks what is there
            self._check_writable()
        elif self.kind == "images":
            self._check_image_folder(force)
        else:
            self._check_file(force)

    def _check_name(self) -> None:
        if not self.value or "\0" in self.value:
            raise UsageError(f"{self.flag} is {self.value[:MAX_SHOWN]!r}, and a path is expected: name a file or folder.")
        longest = max(map(len, map(os.fsencode, self.path.parts)), default=0)  # '.' has no parts
        limit = _name_limit(self.path)
        if longest > limit or len(os.fsencode(os.path.abspath(self.path))) > MAX_PATH_BYTES:
            size = longest if longest > limit else len(os.fsencode(self.value))
            raise UsageError(f"{self.shown} is too long, with {size:,} bytes: use a name of at most {limit} bytes.")

    def _check_runs(self, needed: list[Path]) -> None:
        for path in {Path(os.path.abspath(self.path)), Path(os.path.realpath(self.path))}:
            for folder in path.parents:
                part = path.relative_to(folder).parts[0]
                if part.casefold() in RUN_FILES and is_run(folder):
                    raise UsageError(
                        f"{self.shown} would replace what the run {folder.name} needs ({part}): name another path."
                    )
        if any(_is_same_file(self.path, file) for file in needed):
            raise UsageError(f"{self.shown} is another name of a file that the run needs: name another path.")

    def _check_file(self, force: bool) -> None:
        if self.path.is_dir():
            raise UsageError(f"{self.shown} is a folder, and a file is expected: name a file in it.")
        if not self.path.parent.is_dir():
            raise UsageError(f"{self.shown} is in a folder that does not exist: make it first, or name a file elsewhere.")
        if self.path.exists() and not self.path.is_file():
            raise UsageError(f"{self.shown} is a pipe or a device, and a file is expected: name a file.")
        self._check_writable()
        if self.kind == "new" and self.path.exists() and not force:
            raise UsageError(f"{self.shown} exists and is not overwritten: name another file, or add --force.")
        is_of_kind, noun = _KINDS[self.kind]
        if self.path.is_file() and self.path.stat().st_size and not force and not is_of_kind(self.path):
            raise UsageError(f"{self.shown} exists and is not {noun}: name another file, or replace it with --force.")

    def _check_image_folder(self, force: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.shown} is a file, and a folder is expected: name a folder.")
        self._check_writable()
        other = next((path for path in self._numbered_images() if not _starts_with(path, b"\x89PNG")), None)
        if other is not None and not force:
            raise UsageError(f"{self.shown} has a file {other.name} that is no image: name another folder, or use --force.")

    def _numbered_images(self) -> list[Path]:
        return [path for path in self.path.glob("*.png") if NUMBERED_IMAGE.fullmatch(path.name)]

    def _check_writable(self) -> None:
        folder = Path(os.path.abspath(self.path)).parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise UsageError(f"{self.shown} is below {folder}, which is a file: name a path in a folder.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"Cannot write {self.shown}: no permission to write in {folder}. Choose another folder.")


def _is_same_file(path: Path, other: Path) -> bool:
    """Return whether two paths are one existing file: also as links, or in another case where the case does not matter."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def is_run(folder: Path) -> bool:
    """Return whether a folder has what a run has, and not only a `config.json` of another program."""
    return (folder / "config.json").is_file() and any((folder / name).exists() for name in ("checkpoints", "model.safetensors"))


def _input_files(inputs: list[str]) -> Iterator[Path]:
    """Yield the files that inputs name: themselves, those of a folder that is no run, and those that match a pattern."""
    for name in inputs:
        if name == "-" or name.startswith("builtin:") or "\0" in name:
            continue
        if os.path.isdir(name) and not is_run(Path(name)):
            yield from (path for path in Path(name).rglob("*") if path.is_file())
        elif os.path.exists(name):
            yield Path(name)
        else:
            yield from map(Path, glob.iglob(name, recursive=True))


def _inputs_of_run(run: Path | None) -> list[str]:
    """Return the files a run was trained on, as far as its configuration can be read."""
    if run is None:
        return []
    try:
        config: Any = json.loads((run / "config.json").read_text("utf-8"))
        names = [*config["inputs"], config["options"].get("validation")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)]


def _name_limit(path: Path) -> int:
    folder = next((parent for parent in path.absolute().parents if os.path.isdir(parent)), Path("/"))
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return MAX_NAME_BYTES


def _starts_with(path: Path, *prefixes: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(tuple(prefix.lower() for prefix in prefixes))


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):  # a name in it may be damaged
        return False


_KINDS: Mapping[str, tuple[Callable[[Path], bool], str]] = {
    "html": (lambda path: _starts_with(path, b"<!doctype html", b"<html"), "an HTML page"),
    "svg": (lambda path: _starts_with(path, b"<svg", b"<?xml"), "an SVG image"),
    "npz": (_is_npz, "a numpy archive"),
    "midi": (lambda path: _starts_with(path, b"MThd"), "a MIDI file"),
    "wav": (lambda path: _starts_with(path, b"RIFF"), "a WAV file"),
    "new": (lambda path: True, "a new file"),
}
"""Kinds of files: whether an existing file is of the kind, and the kind in words."""
