"""A text that is encoded already, in the ids of another tokenizer: that of a base model, which knows more characters."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path

import numpy as np

from unrolled.atomic_io import atomic_dir, make_dir, storage_error
from unrolled.errors import StorageError
from unrolled.text.corpus import Corpus, cache_folder, cached_corpus
from unrolled.text.fingerprint import digest, from_checked_json, to_checked_json
from unrolled.text.tokenizer import CharTokenizer, Ids, Tokenizer

CHUNK_TOKENS = 1 << 22


def recode(corpus: Corpus, tokenizer: Tokenizer) -> Corpus:
    """Return a text in the ids of a tokenizer that knows all of its characters, from the cache if it is there.

    Raises:
        ValueError: The tokenizer lacks a character of the text, or the token that ends documents.
        StorageError: The cache cannot be written.
    """
    if tokenizer.to_json() == corpus.tokenizer.to_json():
        return corpus
    table = _id_table(corpus.tokenizer, tokenizer)
    key = digest(json.dumps(["recoded", corpus.cache_key, tokenizer.to_json()]))
    cached = cached_corpus(key)
    if cached is None:
        with atomic_dir(cache_folder() / key, keep_existing=True) as folder:
            _write(corpus, tokenizer, table, folder)
        cached = cached_corpus(key)
    if cached is None:
        raise StorageError(f"The encoded text in {cache_folder() / key} is damaged as soon as it is written. Check the disk.")
    return dataclasses.replace(cached, notes=corpus.notes)


def _id_table(old: Tokenizer, new: Tokenizer) -> Ids:
    """Return the new id of each old id, `(V,)`, in the smallest type for the new ones."""
    if isinstance(old, CharTokenizer) and isinstance(new, CharTokenizer):
        new_ids = {token: token_id for token_id, token in enumerate(new.tokens)}
        table = np.array([new_ids.get(token, -1) for token in old.tokens], dtype=np.int64)
    else:
        table = new.id_of_code_point[old.code_point_of_id[: old.vocab_size - (old.eos_id is not None)]]
    if old.eos_id is not None:
        table = np.append(table, -1 if new.eos_id is None else new.eos_id)
    if (table < 0).any():
        raise ValueError("The tokenizer does not know all tokens of the text.")
    smallest: Ids = table.astype(np.min_scalar_type(new.vocab_size - 1))
    return smallest


def _write(corpus: Corpus, tokenizer: Tokenizer, table: Ids, folder: Path) -> None:
    """Write the entry of the cache: the ids, and the header of the text with the other vocabulary."""
    make_dir(folder)
    crc = 0
    try:
        header = from_checked_json((cache_folder() / corpus.cache_key / "corpus.json").read_bytes())
        with open(folder / "ids.bin", "wb") as file:
            for start in range(0, len(corpus.ids), CHUNK_TOKENS):
                ids = table[corpus.ids[start : start + CHUNK_TOKENS]]
                crc = zlib.crc32(ids.data, crc)
                file.write(ids.data)
        header = {name: value for name, value in header.items() if name != "shards"}
        header |= {"dtype": table.dtype.str, "crc32": crc, "vocabulary": tokenizer.to_json()}
        (folder / "corpus.json").write_bytes(to_checked_json(header))
    except OSError as error:
        raise storage_error(error, folder, "write the encoded text to") from error
