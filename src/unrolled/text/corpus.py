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
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import atomic_dir, has_file_locks, make_dir, remove_tmp, storage_error
from unrolled.errors import DataError, ModelError, StorageError
from unrolled.options import DataOptions
from unrolled.text.fingerprint import cached_fingerprint
from unrolled.text.parallel_encode import EncodingJob, encode_in_shards, stat_files, work_folder
from unrolled.text.shards import TEXT_CHANGED, checksum, corrupt_shards, digest, plan_shards
from unrolled.text.text_encoder import (
    CharSet,
    CorpusStats,
    FileSlice,
    TextEncoder,
    char_tokenizer,
    merge_stats,
    require_nonempty,
    require_same_tokens,
)
from unrolled.text.text_files import CHUNK_BYTES, CHUNK_READERS, is_stdin_buffer, resolve_inputs
from unrolled.text.tokenizer import ByteTokenizer, Ids, Tokenizer, tokenizer_from_json

logger = logging.getLogger(__name__)

DAY_SECONDS = 86400.0
FORMAT = 2
MIN_SHARDED_BYTES = 512 << 20
"""Bytes of files from which on they are encoded in shards, by several processes."""


@dataclass(frozen=True)
class Corpus:
    """An encoded text: `ids` is `(N,)` on the disk, `longest` the longest document, `unknown` what was left out.

    `text` is the digest of the files it was made from. `is_text` says that its symbols are characters, or bytes of UTF-8.
    """

    ids: Ids
    tokenizer: Tokenizer
    documents: str
    cache_key: str
    content_hash: str
    is_text: bool
    num_documents: int
    longest_document: int
    num_unknown: int
    notes: tuple[str, ...]

    def split(self, train_fraction: float) -> tuple[Ids, Ids]:
        """Return the first part, to train on, and the rest; documents stay whole, and both parts start with an end."""
        boundary = int(len(self.ids) * train_fraction)
        eos_id = self.tokenizer.eos_id
        if eos_id is None or boundary >= len(self.ids):
            return self.ids[:boundary], self.ids[boundary:]
        boundary += next((int(positions[0]) for positions in _positions_of(self.ids[boundary:], eos_id) if len(positions)), 0)
        return self.ids[: boundary + 1], self.ids[boundary:]


def cache_folder() -> Path:
    """Return the folder of encoded texts: `$UNROLLED_CACHE`, or `unrolled` in the user's cache. Safe to delete."""
    base = os.environ.get("UNROLLED_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "unrolled"
    return Path(base).expanduser()


def open_corpus(
    inputs: Sequence[str],
    options: DataOptions,
    tokenizer: Tokenizer | None = None,
) -> Corpus:
    """Return the encoded text of `inputs` (see `sources.gather`), from the cache if its contents are known there.

    With a `vocabulary`, that of a model, the text is put in its ids, and symbols it lacks are left out and counted;
    without, the text's own is made. Raises `DataError` for what is not text, `StorageError` for faults of the disk.
    """
    cache = cache_folder()
    paths = resolve_inputs(inputs, options.glob, cache)
    try:
        file_stats = stat_files(paths)
        kind = "stream" if options.documents == "none" else options.documents  # its earlier name: entries stay valid
        key_parts = [
            FORMAT,
            cached_fingerprint(paths, cache),
            options.tokens,
            kind,
            tokenizer and tokenizer.to_json(),
        ]
        key = hashlib.blake2b(json.dumps(key_parts).encode(), digest_size=16).hexdigest()
        cached = cached_corpus(key)
        if cached is not None:
            return cached
        with contextlib.suppress(OSError):
            os.utime(work_folder(cache / key))  # what is left of this very text is gone on with, however old
        remove_tmp(cache, min_age=DAY_SECONDS)
        num_bytes = sum(stamp[0] for stamp in file_stats)
        logger.info(f"reading {len(paths)} file{'s' * (len(paths) != 1)}, {num_bytes:,} bytes, for the first time")
        if tokenizer is not None:
            require_same_tokens(tokenizer, options)
        in_shards = _needs_shards(paths, file_stats)
        if in_shards:
            job, content_hash = EncodingJob(paths, file_stats, options, tokenizer), str(key_parts[1])
            encode_in_shards(cache / key, job, lambda *results: _header_json(options, content_hash, *results))
        else:
            with atomic_dir(cache / key, keep_existing=True) as folder:  # two processes may read one text at the same time
                _encode(paths, options, tokenizer, folder, str(key_parts[1]))
        if stat_files(paths) != file_stats:
            shutil.rmtree(cache / key, ignore_errors=True)
            raise DataError(TEXT_CHANGED)
    finally:
        for path in paths:
            if is_stdin_buffer(path, cache):
                path.unlink(missing_ok=True)
    encoded = cached_corpus(key, in_shards)
    if encoded is None:
        raise StorageError(f"The encoded text in {cache / key} was damaged at once. Check the disk, and run again.")
    return encoded


def is_encoded_jointly(inputs: Sequence[str], options: DataOptions) -> bool:
    """Return whether processes that open this text at the same time share the work of encoding it.

    Where they do not, one had better open it before the others. Standard input is each one's own.
    """
    if "-" in inputs or not has_file_locks():
        return False
    paths = resolve_inputs(inputs, options.glob)
    return _needs_shards(paths, stat_files(paths))


def _needs_shards(paths: list[Path], file_stats: list[tuple[int, int]]) -> bool:
    """Return whether a text is large, and can be cut."""
    sizes = [size for size, _ in file_stats]
    return sum(sizes) >= MIN_SHARDED_BYTES and len(plan_shards(paths, sizes)) > 2


def cached_corpus(key: str, verified: bool = False) -> Corpus | None:
    """Return the cached entry `key` if it is there and undamaged; a damaged one is removed.

    With `checked`, its ids were found undamaged a moment ago.
    """
    folder = cache_folder() / key
    for _ in range(2):  # one that another process made meanwhile is whole when it is looked at again
        try:
            return _read_entry(folder, verified)
        except FileNotFoundError:
            if not folder.exists():
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, ModelError):
            break
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _read_entry(folder: Path, verified: bool) -> Corpus:
    header = json.loads((folder / "corpus.json").read_text("utf-8"))
    expected, path = header.pop("digest"), folder / "ids.bin"
    if expected != digest(header) or not (verified or _is_intact(path, header)):
        raise ValueError("checksum")
    ids = np.memmap(path, dtype=header["dtype"], mode="r", shape=(header["size"],))
    tokenizer = tokenizer_from_json(header["vocabulary"])
    return Corpus(
        ids, tokenizer, documents="none" if header["unit"] == "stream" else header["unit"], content_hash=header["text"],
        is_text=header["is_text"], num_documents=header["documents"], longest_document=header["longest"],
        num_unknown=header["unknown"], cache_key=folder.name, notes=tuple(header["notes"]),
    )  # fmt: skip


def _is_intact(path: Path, header: dict[str, Any]) -> bool:
    """Return whether `ids.bin` is what its head says, as a whole or shard by shard."""
    if "shards" not in header:
        return bool(checksum(path) == header["crc32"])
    itemsize = np.dtype(header["dtype"]).itemsize
    return path.stat().st_size == header["size"] * itemsize and not corrupt_shards(path, header["shards"], itemsize)


def _encode(paths: list[Path], options: DataOptions, tokenizer: Tokenizer | None, folder: Path, content_hash: str) -> None:
    """Write `ids.bin` and `corpus.json` for the text of `paths` into `folder`."""
    has_eos = options.documents != "none"
    if tokenizer is None:
        tokenizer = ByteTokenizer(has_eos) if options.tokens == "bytes" else _scan_chars(paths, options)
    encoder = TextEncoder(tokenizer, options)
    make_dir(folder)
    crc = 0
    try:
        with open(folder / "ids.bin", "wb") as file:
            first_ids = [np.array([encoder.eos_id], dtype=encoder.dtype)] if has_eos else []
            for ids in itertools.chain(first_ids, encoder.encode(map(FileSlice, paths))):
                crc = zlib.crc32(ids.data, crc)
                file.write(ids.data)
    except OSError as error:
        raise storage_error(error, folder, "write the encoded text to") from error
    stats = merge_stats([encoder.stats], has_eos, encoder.separator is not None)
    require_nonempty(stats, has_eos, paths)
    (folder / "corpus.json").write_bytes(_header_json(options, content_hash, tokenizer, stats, crc))


def _scan_chars(paths: Iterable[Path], options: DataOptions) -> Tokenizer:
    """Return the vocabulary of all code points in the files, in their order."""
    char_set = CharSet()
    for path in paths:
        for chunk in CHUNK_READERS["characters"](path, {}):
            char_set.add(chunk)
    return char_tokenizer(char_set.chars, options)


def _header_json(
    options: DataOptions, content_hash: str, tokenizer: Tokenizer, stats: CorpusStats, crc32: int | list[dict[str, int]]
) -> bytes:
    """Return the content of `corpus.json`; `checks` is the CRC-32 of all ids, or the index of the shards with one for each."""
    crc_fields = {"crc32": crc32} if isinstance(crc32, int) else {"shards": crc32}
    header = {
        "format": FORMAT, "text": content_hash, "is_text": stats.is_text,
        "dtype": TextEncoder(tokenizer, options).dtype.str, "size": stats.num_tokens, **crc_fields, "unit": options.documents,
        "documents": stats.num_documents, "longest": stats.longest_document, "unknown": stats.num_unknown,
        "vocabulary": tokenizer.to_json(), "notes": list(stats.notes),
    }  # fmt: skip
    return json.dumps(header | {"digest": digest(header)}).encode()


def _positions_of(ids: Ids, token_id: int) -> Iterator[Any]:
    """Yield where `symbol` stands in `ids`, a few megabytes at a time."""
    for start in range(0, len(ids), CHUNK_BYTES):
        yield np.flatnonzero(ids[start : start + CHUNK_BYTES] == token_id) + start
