"""A text as a trained model reads it: its token ids, aligned with the text that a person sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.text.tokenizer import DOCUMENT_ENDINGS, DOCUMENT_SEPARATORS, Ids, Tokenizer, require_text


@dataclass(frozen=True)
class TokenizedText:
    """Token `ids` `(T,)`, the text of each, whether each is known, and where the state is reset to zero (None: nowhere).

    `token_texts` joined is the text. A character of several bytes is the text of its last byte, the eos of a line is its line
    end, and the eos that a text starts from is empty.
    """

    ids: npt.NDArray[np.int64]
    token_texts: list[str]
    known_mask: npt.NDArray[np.bool_]
    reset_mask: npt.NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.ids)

    def head(self, num_tokens: int) -> TokenizedText:
        """Return the first tokens only."""
        reset_mask = None if self.reset_mask is None else self.reset_mask[:num_tokens]
        return TokenizedText(self.ids[:num_tokens], self.token_texts[:num_tokens], self.known_mask[:num_tokens], reset_mask)

    @property
    def text(self) -> str:
        """The text, decoded."""
        return "".join(self.token_texts)

    def one_char_per_token(self) -> str:
        """Return one character for each token: its last, or a null character for a token without text."""
        return "".join(token_text[-1:] or "\0" for token_text in self.token_texts)


def tokenize(tokenizer: Tokenizer, documents: str, text: str) -> TokenizedText:
    """Return how a model of `documents` reads a text; an unknown character becomes the nearest known one.

    A model of documents reads each from its eos on, and from a zero state.
    """
    text = tokenizer.normalize(require_text(text))
    code_points = tokenizer.code_points(text)
    ids, known_mask = tokenizer.encode_lossy(code_points)
    token_texts = tokenizer.texts_of(code_points)
    if tokenizer.eos_id is None:
        return TokenizedText(ids, token_texts, known_mask, None)
    if documents in DOCUMENT_SEPARATORS:
        is_end = code_points == DOCUMENT_SEPARATORS[documents]
        ids, known_mask = np.where(is_end, tokenizer.eos_id, ids), known_mask | is_end
        ending = DOCUMENT_ENDINGS[documents] or ""
        token_texts = [ending if end else text for text, end in zip(token_texts, is_end.tolist(), strict=True)]
    ids, known_mask = np.append(tokenizer.eos_id, ids), np.append(True, known_mask)
    return TokenizedText(ids, ["", *token_texts], known_mask, ids == tokenizer.eos_id)


def from_ids(tokenizer: Tokenizer, documents: str, ids: Ids) -> TokenizedText:
    """Return the tokenized text of ids of a corpus."""
    eos_text = DOCUMENT_ENDINGS.get(documents) or ""
    stream = tokenizer.decode_stream()
    token_texts = [eos_text if token_id == tokenizer.eos_id else stream.decode_step(token_id) for token_id in ids.tolist()]
    if tokenizer.eos_id is not None and token_texts and ids[0] == tokenizer.eos_id:
        token_texts[0] = ""
    token_ids = ids.astype(np.int64)
    reset_mask = None if tokenizer.eos_id is None else token_ids == tokenizer.eos_id
    return TokenizedText(token_ids, token_texts, np.ones(len(ids), dtype=bool), reset_mask)
