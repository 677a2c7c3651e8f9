"""Text files to a memory-mapped array of ids on the disk, encoded once.

Two passes over the files, a few megabytes at a time: the first collects the alphabet, the second writes the ids as uint8,
uint16 or uint32. The result is kept in the cache under a key made of the files' *contents*, so an edited file is noticed
and a renamed one is not encoded again. An entry appears whole or not at all, and is checked when it is opened.

Documents (`--unit line|file`) are written as `END d1 END d2 END ... dn END`: the end of one is the start of the next.
Blank lines are no documents.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.data.identity import identity
from unrolled.data.sources import PIECE, READERS, Piece, gather, is_spooled, shown
from unrolled.data.vocab import CODE_POINTS, Bytes, Characters, Ids, Vocabulary, vocabulary_from_json
from unrolled.errors import DataError, ModelError, StorageError
from unrolled.files import make_folder, new_folder, remove_partials, storage_error
from unrolled.options import DataOptions

A_DAY = 86400.0
FORMAT = 2
Report = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """An encoded text: `ids` is `(N,)` on the disk, `longest` the longest document, `unknown` what was left out.

    `text` is the digest of the files it was made from. `is_text` says that its symbols are characters, or bytes of UTF-8.
    """

    ids: Ids
    vocabulary: Vocabulary
    unit: str
    key: str
    text: str
    is_text: bool
    documents: int
    longest: int
    unknown: int
    notes: tuple[str, ...]

    def split(self, train_fraction: float) -> tuple[Ids, Ids]:
        """Return the first part, to train on, and the rest; documents stay whole, and both parts start with an end."""
        cut = int(len(self.ids) * train_fraction)
        end = self.vocabulary.end
        if end is None or cut >= len(self.ids):
            return self.ids[:cut], self.ids[cut:]
        cut += next((int(at[0]) for at in _positions(self.ids[cut:], end) if len(at)), 0)
        return self.ids[: cut + 1], self.ids[cut:]


def cache_folder() -> Path:
    """Return the folder of encoded texts: `$UNROLLED_CACHE`, or `unrolled` in the user's cache. Safe to delete."""
    base = os.environ.get("UNROLLED_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "unrolled"
    return Path(base).expanduser()


def open_corpus(
    inputs: Sequence[str],
    options: DataOptions,
    vocabulary: Vocabulary | None = None,
    report: Report = lambda message: None,
) -> Corpus:
    """Return the encoded text of `inputs` (see `sources.gather`), from the cache if its contents are known there.

    With a `vocabulary`, that of a model, the text is put in its ids, and symbols it lacks are left out and counted;
    without, the text's own is made. Raises `DataError` for what is not text, `StorageError` for faults of the disk.
    """
    cache = cache_folder()
    paths = gather(inputs, options.glob, cache)
    try:
        before = _stamps(paths)
        recipe = [FORMAT, identity(paths, cache), options.tokens, options.unit, vocabulary and vocabulary.to_json()]
        key = hashlib.blake2b(json.dumps(recipe).encode(), digest_size=16).hexdigest()
        known = cached_corpus(key)
        if known is not None:
            return known
        remove_partials(cache, older_than=A_DAY)
        size = sum(stamp[0] for stamp in before)
        report(f"reading {len(paths)} file{'s' * (len(paths) != 1)}, {size:,} bytes, for the first time")
        with new_folder(cache / key, first_wins=True) as folder:  # two processes may read one text at the same time
            _encode(paths, options, vocabulary, folder, str(recipe[1]))
        if _stamps(paths) != before:
            shutil.rmtree(cache / key, ignore_errors=True)
            raise DataError("The text changed while it was read. Run again once nothing writes to it.")
    finally:
        for path in paths:
            if is_spooled(path, cache):
                path.unlink(missing_ok=True)
    encoded = cached_corpus(key)
    if encoded is None:
        raise StorageError(f"The encoded text in {cache / key} was damaged at once. Check the disk, and run again.")
    return encoded


def _stamps(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """Return size and time of change of each file: enough to notice writing that goes on while we read. Gone: nothing."""
    try:
        return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, paths)]
    except OSError:
        return []


def cached_corpus(key: str) -> Corpus | None:
    """Return the cached entry `key` if it is there and undamaged; a damaged one is removed."""
    folder = cache_folder() / key
    for _ in range(2):  # one that another process made meanwhile is whole when it is looked at again
        try:
            return _read_entry(folder)
        except FileNotFoundError:
            if not folder.exists():
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, ModelError):
            break
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _read_entry(folder: Path) -> Corpus:
    head = json.loads((folder / "corpus.json").read_text("utf-8"))
    if head["digest"] != _digest(head) or _checksum(folder / "ids.bin") != head["crc32"]:
        raise ValueError("checksum")
    ids = np.memmap(folder / "ids.bin", dtype=head["dtype"], mode="r", shape=(head["size"],))
    vocabulary = vocabulary_from_json(head["vocabulary"])
    about = {name: head[name] for name in ("unit", "text", "is_text", "documents", "longest", "unknown")}
    return Corpus(ids, vocabulary, key=folder.name, notes=tuple(head["notes"]), **about)


def _digest(head: dict[str, Any]) -> str:
    content = json.dumps({name: value for name, value in head.items() if name != "digest"})
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    crc = 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(PIECE):
            crc = zlib.crc32(piece, crc)
    return crc


def _encode(paths: list[Path], options: DataOptions, vocabulary: Vocabulary | None, folder: Path, text: str) -> None:
    """Write `ids.bin` and `corpus.json` for the text of `paths` into `folder`."""
    notes: dict[str, int] = {}
    has_end = options.unit != "stream"
    if vocabulary is None:
        vocabulary = Bytes(has_end) if options.tokens == "bytes" else _scan_alphabet(paths, options)
    elif (vocabulary.end is not None) != has_end:
        raise DataError("The model and the text disagree on documents: use the --unit the model was trained with.")
    elif vocabulary.kind != options.tokens:
        raise DataError(f"The model reads {vocabulary.kind}, and the text is to be read as {options.tokens}: choose --tokens.")
    writer = _Encoder(vocabulary, options)
    make_folder(folder)
    crc = 0
    try:
        with open(folder / "ids.bin", "wb") as file:
            for ids in writer.encode(paths, notes):
                crc = zlib.crc32(ids.data, crc)
                file.write(ids.data)
    except OSError as error:
        raise storage_error(error, folder, "write the encoded text to") from error
    if writer.size <= has_end and writer.unknown:
        raise DataError(f"The model knows none of the {writer.unknown:,} symbols in {_names(paths)}.")
    if writer.size <= has_end:
        raise DataError(f"There is no text in {_names(paths)}: nothing to learn from.")
    head = {
        "format": FORMAT, "text": text, "is_text": writer.is_text,
        "dtype": writer.dtype.str, "size": writer.size, "crc32": crc, "unit": options.unit,
        "documents": writer.documents, "longest": writer.longest, "unknown": writer.unknown,
        "vocabulary": vocabulary.to_json(), "notes": [f"{count:,} {what}" for what, count in notes.items()],
    }  # fmt: skip
    (folder / "corpus.json").write_text(json.dumps(head | {"digest": _digest(head)}), "utf-8")


def _names(paths: list[Path]) -> str:
    return shown(paths[0]) if len(paths) == 1 else f"these {len(paths)} files"


def _scan_alphabet(paths: Iterable[Path], options: DataOptions) -> Characters:
    """Return the vocabulary of all code points in the files, in their order."""
    ascii_seen = b""
    seen = np.zeros(CODE_POINTS, dtype=bool)
    for path in paths:
        for piece in READERS["characters"](path, {}):
            if piece.dtype == np.uint8:
                # Deleting what is known leaves next to nothing to look at: 5 times faster than marking every byte.
                ascii_seen += bytes(set(piece.tobytes().translate(None, ascii_seen)))
            else:
                seen[piece] = True
    seen[list(ascii_seen)] = True
    if options.unit == "line":
        seen[ord("\n")] = False
    return Characters([chr(point) for point in np.flatnonzero(seen)], options.unit != "stream")


class _Encoder:
    """Pieces of text in, arrays of ids out; counts what goes by."""

    def __init__(self, vocabulary: Vocabulary, options: DataOptions) -> None:
        self.options = options
        self.end = vocabulary.end
        bits = 8 if vocabulary.size < 256 or vocabulary.to_json() == {"kind": "bytes", "end": False} else 16
        self.dtype = np.dtype(f"uint{bits if vocabulary.size < 65536 else 32}")
        self.missing = int(np.iinfo(self.dtype).max)
        self.complete = isinstance(vocabulary, Bytes)
        if isinstance(vocabulary, Characters):
            table = vocabulary.table.astype(self.dtype)  # -1 becomes `missing`
        else:
            table = np.arange(256, dtype=self.dtype)
        if options.unit == "line":
            table[ord("\n")] = vocabulary.end or 0
        self.table = table
        self.bytes_table = table[:256].tobytes() if bits == 8 else None
        self.size = self.unknown = self.documents = self.longest = 0
        self.is_text = True
        self._last = -1
        self._open = 0

    def encode(self, paths: Iterable[Path], notes: dict[str, int]) -> Iterator[Ids]:
        """Yield the ids of all files, piece by piece."""
        if self.end is not None:
            yield self._count(np.array([self.end], dtype=self.dtype))
        line_end = int(self.table[ord("\n")])
        for path in paths:
            if self.size and self.options.unit == "stream" and not self.complete and self._last != line_end != self.missing:
                yield self._count(np.array([line_end], dtype=self.dtype))
            decoder = codecs.getincrementaldecoder("utf-8")()
            for piece in READERS[self.options.tokens](path, notes):
                self._watch_text(decoder, piece)
                ids = self._keep(self._look_up(piece))
                if len(ids):
                    yield self._count(ids)
            if self.end is not None and self._last != self.end:
                yield self._count(np.array([self.end], dtype=self.dtype))

    def _watch_text(self, decoder: codecs.IncrementalDecoder, piece: Piece) -> None:
        """Notice bytes that are not UTF-8: then there are no characters to measure by."""
        if self.complete and self.is_text:
            try:
                decoder.decode(piece.tobytes())
            except UnicodeDecodeError:
                self.is_text = False

    def _look_up(self, piece: Piece) -> Ids:
        if piece.dtype == np.uint8 and self.bytes_table is not None:
            return np.frombuffer(piece.tobytes().translate(self.bytes_table), dtype=np.uint8)
        return self.table[piece]

    def _keep(self, ids: Ids) -> Ids:
        """Leave out unknown symbols, and ends of documents that hold nothing."""
        if not self.complete:
            missing = ids == self.missing
            count = int(np.count_nonzero(missing))
            if count:
                self.unknown += count
                ids = ids[~missing]
        if self.options.unit == "line" and len(ids):
            ends = ids == self.end
            before = np.concatenate(([self._last == self.end], ends[:-1]))
            ids = ids[~(ends & before)]
        return ids

    def _count(self, ids: Ids) -> Ids:
        """Keep the totals: symbols, documents and the longest of them."""
        if self.end is None:
            self.longest += len(ids)
        else:
            at = np.flatnonzero(ids == self.end) + self.size
            if self.size and len(at):
                lengths = np.diff(at, prepend=self._open) - 1
                self.documents += len(at)
                self.longest = max(self.longest, int(lengths.max()))
            if len(at):
                self._open = int(at[-1])
        self.size += len(ids)
        self._last = int(ids[-1])
        return ids


def _positions(ids: Ids, symbol: int) -> Iterator[Any]:
    """Yield where `symbol` stands in `ids`, a few megabytes at a time."""
    for start in range(0, len(ids), PIECE):
        yield np.flatnonzero(ids[start : start + PIECE] == symbol) + start
