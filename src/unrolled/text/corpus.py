"""Text files, encoded once, as a memory-mapped array of token ids.

A new text is read three times, a few megabytes at a time: for its fingerprint, for its characters, and to write its ids as
uint8, uint16 or uint32; then the ids are read once, for their CRC-32. The cache key is made from the *contents* of the files,
so an edited file is noticed and a renamed one is not encoded again. An entry is created atomically, and checked when it is
opened. A large text is encoded in shards (see `parallel_encode`), with the same result.

Documents (`--documents line|blank-line|file`) are stored as `EOS d1 EOS ... dn EOS`: the end of one is the start of the next.
Empty lines are no documents.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import atomic_dir, has_file_locks, make_dir, remove_tmp, storage_error
from unrolled.display import plural
from unrolled.errors import DataError, ModelError, StorageError
from unrolled.options import DataOptions
from unrolled.text.document_files import accepted_heads, needs_copy, prepare_files, remove_copies, with_records
from unrolled.text.encodings import all_encoding_errors
from unrolled.text.fingerprint import (
    DAMAGED_AT_ONCE,
    TEXT_CHANGED,
    cached_fingerprint,
    checksum,
    digest,
    from_checked_json,
    stat_files,
    to_checked_json,
)
from unrolled.text.line_format import PLAIN_LINES, LineFormat
from unrolled.text.normalization import normalize_chunks
from unrolled.text.rule_tokenizer import RuleTokenizer, whole_lines
from unrolled.text.splitting import MIN_TEXT_TOKENS, HeldOutFractions, Splits, split_documents, split_stream
from unrolled.text.text_encoder import (
    CharSet,
    CorpusStats,
    FileSlice,
    TextEncoder,
    fit_tokenizer,
    merge_stats,
    require_nonempty,
    require_same_tokens,
)
from unrolled.text.text_files import read_code_points, resolve_inputs
from unrolled.text.tokenizer import Ids, Tokenizer
from unrolled.text.tokenizers import tokenizer_class, tokenizer_from_json

logger = logging.getLogger(__name__)

DAY_SECONDS = 86400.0
FORMAT = 2
MIN_SHARDED_BYTES = 512 << 20
"""Texts of at least as many bytes are encoded in shards, by several processes."""


@dataclass(frozen=True)
class Corpus:
    """An encoded text: its `ids` `(N,)` are on the disk; `num_unknown` characters were left out.

    `documents` is the option, `content_hash` the fingerprint of the files. `is_text` is false for bytes that are not UTF-8.
    `longest_document` is in ids; without documents it is N. `notes` say what was normalized.
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

    def split(self, options: DataOptions, seed: int) -> Splits:
        """Return the training, validation and test split: parts of the stream, or documents drawn at random by the seed."""
        fractions = HeldOutFractions.choose(options, len(self.ids) > MIN_TEXT_TOKENS)
        eos_id = self.tokenizer.eos_id
        if eos_id is None or options.split_by == "order":
            return split_stream(self.ids, options.train_fraction, fractions.test, eos_id)
        by_content = options.split_by == "source"
        complement = self.tokenizer.complement_ids()
        folder = cache_folder() / self.cache_key
        return split_documents(self.ids, eos_id, fractions, seed, by_content, folder, complement)


def cache_folder() -> Path:
    """Return the folder of encoded texts: `$UNROLLED_CACHE`, or `unrolled` in the user's cache. It may be deleted."""
    base = os.environ.get("UNROLLED_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "unrolled"
    return Path(base).expanduser()


def open_corpus(
    inputs: Sequence[str], options: DataOptions, tokenizer: Tokenizer | None = None, line_format: LineFormat = PLAIN_LINES
) -> Corpus:
    """Return the encoded text of `inputs` (see `resolve_inputs`), from the cache if the same contents are there.

    `line_format` says what is masked in the lines of the files, and how they are grouped. With the `tokenizer` of a model,
    unknown characters are left out and counted; without, one is fitted to the text.
    Raises `DataError` for what is not text, `StorageError` for errors of the disk.
    """
    cache, options = cache_folder(), with_records(options)
    files = resolve_inputs(inputs, options.glob, cache, accepted_heads(options.tokens))
    paths = prepare_files(files, options, cache, line_format)
    try:
        file_stats = stat_files(paths)
        content_hash = cached_fingerprint(paths, cache)
        key = _cache_key(content_hash, options, tokenizer)
        cached = cached_corpus(key)
        if cached is not None:
            return cached
        num_bytes = sum(size for size, _ in file_stats)
        logger.info(f"reading {plural(len(paths), 'file')}, {plural(num_bytes, 'byte')}, for the first time")
        if tokenizer is not None:
            require_same_tokens(tokenizer, options)
        in_shards = not tokenizer_class(options.tokens).splits_text and _needs_shards(paths, file_stats)
        with all_encoding_errors(paths):
            if in_shards:
                _encode_in_shards(cache / key, paths, file_stats, options, tokenizer, content_hash)
            else:
                remove_tmp(cache, min_age=DAY_SECONDS)
                with atomic_dir(cache / key, keep_existing=True) as folder:  # two processes may read one text at the same time
                    _encode(paths, options, tokenizer, folder, content_hash)
        if stat_files(paths) != file_stats:
            shutil.rmtree(cache / key, ignore_errors=True)
            raise DataError(TEXT_CHANGED)
    finally:
        remove_copies(paths, cache)
    encoded = cached_corpus(key, in_shards)
    if encoded is None:
        raise StorageError(DAMAGED_AT_ONCE.format(cache / key))
    return encoded


def _cache_key(content_hash: str, options: DataOptions, tokenizer: Tokenizer | None) -> str:
    documents = "stream" if options.documents == "none" else options.documents  # its name in the keys of the cache
    has_form = tokenizer is None and options.normalize != "none" and not tokenizer_class(options.tokens).reads_bytes
    form = [options.normalize] if has_form else []
    return digest(json.dumps([FORMAT, content_hash, options.tokens, documents, tokenizer and tokenizer.to_json(), *form]))


def is_encoded_jointly(inputs: Sequence[str], options: DataOptions) -> bool:
    """Return whether processes that open this text at the same time share the work of encoding it.

    If not, one should open it before the others. Standard input is never shared.
    """
    needs_copies = options.encoding is not None or options.mask is not None
    if "-" in inputs or not has_file_locks() or needs_copies or options.documents in ("blank-line", "cell", "session"):
        return False
    if tokenizer_class(options.tokens).splits_text:
        return False
    paths = resolve_inputs(inputs, options.glob)
    if any(map(needs_copy, paths)):
        return False
    return _needs_shards(paths, stat_files(paths))


def _needs_shards(paths: list[Path], file_stats: list[tuple[int, int]]) -> bool:
    """Return whether a text is large, and can be split."""
    sizes = [size for size, _ in file_stats]
    if sum(sizes) < MIN_SHARDED_BYTES:
        return False
    from unrolled.text.shards import plan_shards

    return len(plan_shards(paths, sizes)) > 2


def _encode_in_shards(
    entry: Path,
    paths: list[Path],
    file_stats: list[tuple[int, int]],
    options: DataOptions,
    tokenizer: Tokenizer | None,
    content_hash: str,
) -> None:
    from unrolled.text.parallel_encode import EncodingJob, encode_in_shards, work_folder

    with contextlib.suppress(OSError):
        os.utime(work_folder(entry))  # unfinished work on this very text is resumed, however old
    remove_tmp(entry.parent, min_age=DAY_SECONDS)
    job = EncodingJob(paths, file_stats, options, tokenizer)
    encode_in_shards(entry, job, lambda *results: _header_json(options, content_hash, *results))


def cached_corpus(key: str, verified: bool = False) -> Corpus | None:
    """Return the cached entry `key`, or None if it is missing or damaged; a damaged one is removed.

    With `verified`, the checksum of its ids is not checked again.
    """
    folder = cache_folder() / key
    for _ in range(2):  # an entry that another process makes at the moment is complete at the second attempt
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
    header, path = from_checked_json((folder / "corpus.json").read_bytes()), folder / "ids.bin"
    if not verified and not _is_intact(path, header):
        raise ValueError("checksum")
    ids = np.memmap(path, dtype=header["dtype"], mode="r", shape=(header["size"],))
    tokenizer = tokenizer_from_json(header["vocabulary"])
    return Corpus(
        ids, tokenizer, documents="none" if header["unit"] == "stream" else header["unit"], content_hash=header["text"],
        is_text=header["is_text"], num_documents=header["documents"], longest_document=header["longest"],
        num_unknown=header["unknown"], cache_key=folder.name, notes=tuple(header["notes"]),
    )  # fmt: skip


def _is_intact(path: Path, header: dict[str, Any]) -> bool:
    """Return whether the checksums of `ids.bin`, one or that of each shard, are those of its header."""
    if "shards" not in header:
        return bool(checksum(path) == header["crc32"])
    from unrolled.text.shards import corrupt_shards

    itemsize = np.dtype(header["dtype"]).itemsize
    return path.stat().st_size == header["size"] * itemsize and not corrupt_shards(path, header["shards"], itemsize)


def _encode(paths: list[Path], options: DataOptions, tokenizer: Tokenizer | None, folder: Path, content_hash: str) -> None:
    """Write `ids.bin` and `corpus.json` for the text of `paths` into `folder`."""
    has_eos = options.documents != "none"
    notes: dict[str, int] = {}
    is_fitted_here = tokenizer is None
    tokenizer = tokenizer or _fit_tokenizer(paths, options, notes)
    encoder = TextEncoder(tokenizer, options, is_fitted_here)
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
    encoder.stats.notes |= notes
    stats = merge_stats([encoder.stats], has_eos, encoder.separator is not None)
    require_nonempty(stats, has_eos, paths)
    (folder / "corpus.json").write_bytes(_header_json(options, content_hash, tokenizer, stats, crc))


def _fit_tokenizer(paths: Iterable[Path], options: DataOptions, notes: dict[str, int]) -> Tokenizer:
    """Return the tokenizer of the text of `paths`, and say in `notes` what a rule did not cover."""
    tokenizer_type = tokenizer_class(options.tokens)
    if not issubclass(tokenizer_type, RuleTokenizer):
        return fit_tokenizer([] if tokenizer_type.reads_bytes else _scan_chars(paths, options.normalize), options)
    chunks = (normalize_chunks(read_code_points(path, {}), options.normalize, {}) for path in paths)
    texts = itertools.chain.from_iterable(map(whole_lines, chunks))
    tokenizer = tokenizer_type.fit_texts(options.tokens.partition(":")[2], texts, options.documents, notes)
    tokenizer.normalization = options.normalize
    return tokenizer


def _scan_chars(paths: Iterable[Path], form: str) -> list[str]:
    """Return all characters in the files, in the normal form `form`, sorted."""
    char_set = CharSet()
    for path in paths:
        for chunk in normalize_chunks(read_code_points(path, {}), form, {}):
            char_set.add(chunk)
    return char_set.chars


def _header_json(
    options: DataOptions, content_hash: str, tokenizer: Tokenizer, stats: CorpusStats, crc32: int | list[dict[str, int]]
) -> bytes:
    """Return the content of `corpus.json`; `crc32` is that of all ids, or the index of the shards with that of each."""
    crc_fields = {"crc32": crc32} if isinstance(crc32, int) else {"shards": crc32}
    header = {
        "format": FORMAT, "text": content_hash, "is_text": stats.is_text,
        "dtype": TextEncoder(tokenizer, options).dtype.str, "size": stats.num_tokens, **crc_fields, "unit": options.documents,
        "documents": stats.num_documents, "longest": stats.longest_document, "unknown": stats.num_unknown,
        "vocabulary": tokenizer.to_json(), "notes": list(stats.notes),
    }  # fmt: skip
    return to_checked_json(header)
