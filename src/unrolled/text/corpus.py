"""Text files to a memory-mapped array of ids on the disk, encoded once.

Two passes over the files, a few megabytes at a time: the first collects the alphabet, the second writes the ids as uint8,
uint16 or uint32. The result is kept in the cache under a key made of the files' *contents*, so an edited file is noticed
and a renamed one is not encoded again. An entry appears whole or not at all, and is checked when it is opened. A large text
is encoded in shards (see `workshop`), with the same result.

Documents (`--unit line|file`) are written as `END d1 END d2 END ... dn END`: the end of one is the start of the next.
Blank lines are no documents.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import can_claim, make_folder, new_folder, remove_partials, storage_error
from unrolled.errors import DataError, ModelError, StorageError
from unrolled.options import DataOptions
from unrolled.text.fingerprint import identity
from unrolled.text.parallel_encode import Task, encode_in_shards, stamps, work_folder
from unrolled.text.shards import CHANGED, checksum, damaged, digest, plan
from unrolled.text.text_encoder import Alphabet, Encoder, Part, Whole, characters, join, refuse_nothing, refuse_other_symbols
from unrolled.text.text_files import PIECE, READERS, gather, is_spooled
from unrolled.text.tokenizer import Bytes, Ids, Vocabulary, vocabulary_from_json

A_DAY = 86400.0
FORMAT = 2
LARGE = 512 << 20
"""Bytes of files from which on they are encoded in shards, by several processes."""

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
        before = stamps(paths)
        recipe = [FORMAT, identity(paths, cache), options.tokens, options.unit, vocabulary and vocabulary.to_json()]
        key = hashlib.blake2b(json.dumps(recipe).encode(), digest_size=16).hexdigest()
        known = cached_corpus(key)
        if known is not None:
            return known
        with contextlib.suppress(OSError):
            os.utime(work_folder(cache / key))  # what is left of this very text is gone on with, however old
        remove_partials(cache, older_than=A_DAY)
        size = sum(stamp[0] for stamp in before)
        report(f"reading {len(paths)} file{'s' * (len(paths) != 1)}, {size:,} bytes, for the first time")
        if vocabulary is not None:
            refuse_other_symbols(vocabulary, options)
        checked = _in_shards(paths, before)
        if checked:
            task, text = Task(paths, before, options, vocabulary), str(recipe[1])
            encode_in_shards(cache / key, task, report, lambda *found: _head(options, text, *found))
        else:
            with new_folder(cache / key, first_wins=True) as folder:  # two processes may read one text at the same time
                _encode(paths, options, vocabulary, folder, str(recipe[1]))
        if stamps(paths) != before:
            shutil.rmtree(cache / key, ignore_errors=True)
            raise DataError(CHANGED)
    finally:
        for path in paths:
            if is_spooled(path, cache):
                path.unlink(missing_ok=True)
    encoded = cached_corpus(key, checked)
    if encoded is None:
        raise StorageError(f"The encoded text in {cache / key} was damaged at once. Check the disk, and run again.")
    return encoded


def is_shared(inputs: Sequence[str], options: DataOptions) -> bool:
    """Return whether processes that open this text at the same time share the work of encoding it.

    Where they do not, one had better open it before the others. Standard input is each one's own.
    """
    if "-" in inputs or not can_claim():
        return False
    paths = gather(inputs, options.glob)
    return _in_shards(paths, stamps(paths))


def _in_shards(paths: list[Path], states: list[tuple[int, int]]) -> bool:
    """Return whether a text is large, and can be cut."""
    sizes = [size for size, _ in states]
    return sum(sizes) >= LARGE and len(plan(paths, sizes)) > 2


def cached_corpus(key: str, checked: bool = False) -> Corpus | None:
    """Return the cached entry `key` if it is there and undamaged; a damaged one is removed.

    With `checked`, its ids were found undamaged a moment ago.
    """
    folder = cache_folder() / key
    for _ in range(2):  # one that another process made meanwhile is whole when it is looked at again
        try:
            return _read_entry(folder, checked)
        except FileNotFoundError:
            if not folder.exists():
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, ModelError):
            break
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _read_entry(folder: Path, checked: bool) -> Corpus:
    head = json.loads((folder / "corpus.json").read_text("utf-8"))
    told, path = head.pop("digest"), folder / "ids.bin"
    if told != digest(head) or not (checked or _is_sound(path, head)):
        raise ValueError("checksum")
    ids = np.memmap(path, dtype=head["dtype"], mode="r", shape=(head["size"],))
    vocabulary = vocabulary_from_json(head["vocabulary"])
    about = {name: head[name] for name in ("unit", "text", "is_text", "documents", "longest", "unknown")}
    return Corpus(ids, vocabulary, key=folder.name, notes=tuple(head["notes"]), **about)


def _is_sound(path: Path, head: dict[str, Any]) -> bool:
    """Return whether `ids.bin` is what its head says, as a whole or shard by shard."""
    if "shards" not in head:
        return bool(checksum(path) == head["crc32"])
    itemsize = np.dtype(head["dtype"]).itemsize
    return path.stat().st_size == head["size"] * itemsize and not damaged(path, head["shards"], itemsize)


def _encode(paths: list[Path], options: DataOptions, vocabulary: Vocabulary | None, folder: Path, text: str) -> None:
    """Write `ids.bin` and `corpus.json` for the text of `paths` into `folder`."""
    has_end = options.unit != "stream"
    if vocabulary is None:
        vocabulary = Bytes(has_end) if options.tokens == "bytes" else _scan_alphabet(paths, options)
    encoder = Encoder(vocabulary, options)
    make_folder(folder)
    crc = 0
    try:
        with open(folder / "ids.bin", "wb") as file:
            led = [np.array([encoder.end], dtype=encoder.dtype)] if has_end else []
            for ids in itertools.chain(led, encoder.encode(map(Part, paths))):
                crc = zlib.crc32(ids.data, crc)
                file.write(ids.data)
    except OSError as error:
        raise storage_error(error, folder, "write the encoded text to") from error
    whole = join([encoder.facts], has_end, encoder.border is not None)
    refuse_nothing(whole, has_end, paths)
    (folder / "corpus.json").write_bytes(_head(options, text, vocabulary, whole, crc))


def _scan_alphabet(paths: Iterable[Path], options: DataOptions) -> Vocabulary:
    """Return the vocabulary of all code points in the files, in their order."""
    alphabet = Alphabet()
    for path in paths:
        for piece in READERS["characters"](path, {}):
            alphabet.add(piece)
    return characters(alphabet.symbols, options)


def _head(options: DataOptions, text: str, vocabulary: Vocabulary, whole: Whole, checks: int | list[dict[str, int]]) -> bytes:
    """Return the content of `corpus.json`; `checks` is the CRC-32 of all ids, or the index of the shards with one for each."""
    check = {"crc32": checks} if isinstance(checks, int) else {"shards": checks}
    head = {
        "format": FORMAT, "text": text, "is_text": whole.is_text,
        "dtype": Encoder(vocabulary, options).dtype.str, "size": whole.size, **check, "unit": options.unit,
        "documents": whole.documents, "longest": whole.longest, "unknown": whole.unknown,
        "vocabulary": vocabulary.to_json(), "notes": list(whole.notes),
    }  # fmt: skip
    return json.dumps(head | {"digest": digest(head)}).encode()


def _positions(ids: Ids, symbol: int) -> Iterator[Any]:
    """Yield where `symbol` stands in `ids`, a few megabytes at a time."""
    for start in range(0, len(ids), PIECE):
        yield np.flatnonzero(ids[start : start + PIECE] == symbol) + start
