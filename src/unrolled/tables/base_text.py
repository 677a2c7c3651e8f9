"""The language model whose states are features of a text classifier: its tokenizer and the options of its network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.options import ModelOptions, from_dict
from unrolled.text.tokenizer import Tokenizer
from unrolled.text.tokenizers import tokenizer_from_json

MAX_CHARACTERS = 500
"""Characters of a text that the language model reads."""

TOKENS = ("characters", "bytes")
"""Tokenizers of language models that may be used."""


@dataclass(frozen=True)
class BaseText:
    """The tokenizer of a language model, and the options of its network, as they are stored with a column."""

    tokenizer: Tokenizer
    options: ModelOptions

    def encode(self, text: str) -> npt.NDArray[np.int64]:
        """Return the ids of the first characters of a text, with a line end before and after them.

        An unknown character is replaced by a similar known one.

        Example:
            >>> from unrolled.text.tokenizer import CharTokenizer
            >>> BaseText(CharTokenizer(chr(10) + " abc"), ModelOptions()).encode("Cab")
            array([0, 4, 2, 3, 0])
        """
        return self._encode(text)[0]

    def known_share(self, texts: Iterable[str]) -> float:
        """Return the share of the characters of texts that the model knows; of no characters, 1."""
        counts = np.sum([[known.sum(), len(known)] for known in (self._encode(text)[1] for text in texts)], 0)
        return float(counts[0] / counts[1]) if counts.any() else 1.0

    def _encode(self, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        line = self.tokenizer.normalize(f"\n{text[:MAX_CHARACTERS]}\n")
        return self.tokenizer.encode_lossy(self.tokenizer.code_points(line))

    def to_json(self) -> dict[str, Any]:
        """Return it as it is stored in a model file."""
        return {"tokenizer": self.tokenizer.to_json(), "options": asdict(self.options)}

    @staticmethod
    def from_json(value: Any) -> BaseText | None:
        """Build what `to_json` described; None is None. Raises `ModelError`, `ValueError` or `TypeError` for anything else."""
        if value is None:
            return None
        tokenizer = tokenizer_from_json(value["tokenizer"])
        if tokenizer.kind not in TOKENS:
            raise ValueError(f"a language model of {tokenizer.kind} reads no column")
        return BaseText(tokenizer, from_dict(ModelOptions, value["options"], "model"))
