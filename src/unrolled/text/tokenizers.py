"""The tokenizers by name. One that is added here is a choice of `--tokens` for texts, and for columns of tables."""

from __future__ import annotations

from typing import Any

from unrolled.errors import ModelError
from unrolled.options import REGISTRIES
from unrolled.text.bpe_tokenizer import BPETextTokenizer
from unrolled.text.normalization import require_form
from unrolled.text.record_tokenizers import AbcTokenizer, FastaTokenizer, MidiTokenizer
from unrolled.text.rule_tokenizer import RegexTokenizer, SmilesTokenizer, WordRuleTokenizer
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from unrolled.text.word_list_tokenizer import WordListTokenizer

TOKENIZERS: dict[str, type[Tokenizer]] = {
    tokenizer.kind: tokenizer
    for tokenizer in (
        CharTokenizer,
        ByteTokenizer,
        WordRuleTokenizer,
        BPETextTokenizer,
        RegexTokenizer,
        SmilesTokenizer,
        FastaTokenizer,
        AbcTokenizer,
        MidiTokenizer,
    )  # fmt: skip
}
"""The tokenizers by their kind, which is a choice of `--tokens`; of `kind:argument`, it is what is before the colon."""
REGISTRIES["tokens"] = TOKENIZERS
IMPORTED_TOKENIZERS: dict[str, type[Tokenizer]] = {WordListTokenizer.kind: WordListTokenizer}
"""Those of imported models, by their kind: no choice of `--tokens`, because a text loses what they do not read."""


def tokenizer_class(setting: str) -> type[Tokenizer]:
    """Return the class of a value of `--tokens`.

    Example:
        >>> tokenizer_class("regex:[a-z]+").kind
        'regex'
    """
    return TOKENIZERS[setting.partition(":")[0]]


def tokenizer_from_json(value: Any) -> Tokenizer:
    """Build the tokenizer that `to_json` described. Raises `ModelError` for anything else."""
    kind = value.get("kind") if isinstance(value, dict) else None
    known = TOKENIZERS | IMPORTED_TOKENIZERS
    if not isinstance(kind, str) or kind not in known:
        raise ModelError(f"The model's tokenizer cannot be read: expected one of {', '.join(TOKENIZERS)}, not {kind!r:.99}.")
    old_names = {"symbols": "tokens", "end": "has_eos"}  # those of format 1, also in entries of the cache
    tokenizer = known[kind].from_json({old_names.get(name, name): item for name, item in value.items()})
    tokenizer.normalization = require_form(value.get("normalize", "none"))
    return tokenizer
