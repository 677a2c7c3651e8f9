"""A model that labels texts as one HTML page that works offline: probabilities while one types, the words that count, and rows.

The page computes with `static/text_classifier/classifier.js`, and replays test vectors when it opens.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from unrolled.generation.prompt_replacements import prompt_replacements
from unrolled.tables.base_text import MAX_CHARACTERS, BaseText
from unrolled.tables.text_column import TextColumn
from unrolled.tables.word_tokenizer import WordTokenizer
from unrolled.text.rule_tokenizer import WORD_PATTERN
from unrolled.text.tokenizer import CharTokenizer
from unrolled.views.html_page import WASM_POLICY, render_page
from unrolled.views.report import to_json_value

STYLES = (
    "shared/page.css", "report/drawings.css", "report/report.css", "rows/rows.css", "shared/form_page.css",
    "text_classifier/text_classifier.css",
)  # fmt: skip
TAGGER_STYLE = "text_tagger/text_tagger.css"
SCRIPT, TAGGER_SCRIPT = "text_classifier/main.js", "text_tagger/main.js"
BODY = "text_classifier/text_classifier.html"

END_OF_DIGITS = 0x20000
"""No character from it on is a digit but a decimal one."""

_CLASSES = {
    r"[^\W\d]": r"[\p{L}\p{Nl}\p{No}_]",
    r"[^\w\s]": r"[^\p{L}\p{N}_\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"\d": r"\p{Nd}",
    r"\s": r"[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
}
"""Classes of characters as Python has them, by what JavaScript calls them, the longer ones first."""


def text_classifier_page(data: Mapping[str, Any]) -> str:
    """Return the page. `data` has `title`, `subtitle`, the `model`, and the names of its columns `source` and `target`.

    A model without pooling gives each token a label.
    """
    is_tagger = data["model"]["pool"] is None
    styles, script = ((*STYLES, TAGGER_STYLE), TAGGER_SCRIPT) if is_tagger else (STYLES, SCRIPT)
    return render_page(str(data["title"]), styles, script, to_json_value(data), BODY, WASM_POLICY)


def reader_data(column: TextColumn, max_steps: int) -> dict[str, Any]:
    """Return how a text becomes ids, for `static/text_classifier/tokens.js`, as JSON values.

    Args:
        column: A column of words or of characters.
        max_steps: Steps that are read of a text at most.
    """
    tokenizer = column.tokenizer
    is_words = isinstance(tokenizer, WordTokenizer)
    replacements = None if is_words else prompt_replacements(tokenizer)
    return {
        "isWords": is_words,
        "tokens": tokenizer.tokens if isinstance(tokenizer, WordTokenizer) else tokenizer.token_strings(),
        "spaces": isinstance(tokenizer, WordTokenizer) and tokenizer.spaces,
        "wordPattern": _in_javascript(WORD_PATTERN),
        "otherDigits": other_digits() if is_words else "",
        "replacements": [
            [text, characters]
            for text, characters in (replacements.characters if replacements else {}).items()
            if len(text) == 1
        ],
        "otherReplacement": replacements.other if replacements else "",
        "normalForm": None if column.normalization == "none" else column.normalization.upper(),
        "unknownId": column.unk_id,
        "maxSteps": max_steps,
    }


def base_reader_data(base: BaseText) -> dict[str, Any]:
    """Return how a text becomes the ids that a language model reads, for `static/text_classifier/tokens.js`, as JSON values."""
    tokenizer = base.tokenizer
    replacements, form = prompt_replacements(tokenizer), tokenizer.normalization
    return {
        "tokens": tokenizer.tokens if isinstance(tokenizer, CharTokenizer) else None,
        "replacements": [[text[:1], characters] for text, characters in replacements.characters.items()],
        "otherReplacement": replacements.other[:1],
        "otherId": tokenizer.bos_id,
        "normalForm": None if form == "none" else form.upper(),
        "maxCharacters": MAX_CHARACTERS,
    }


@functools.cache
def other_digits() -> str:
    """Return the digits that are no decimal digits, such as superscripts: JavaScript has no name for them.

    Example:
        >>> other_digits()[:3]
        '\u00b2\u00b3\u00b9'
    """
    characters = map(chr, range(END_OF_DIGITS))
    return "".join(character for character in characters if character.isdigit() and not character.isdecimal())


def _in_javascript(pattern: str) -> str:
    for python, javascript in _CLASSES.items():
        pattern = pattern.replace(python, javascript)
    return pattern
