"""Lists as Python and numpy print them, and as pandas therefore writes them into CSV files: `['O', 'B-LOC']`, `[0.5 1.25]`."""

from __future__ import annotations

import re
from typing import Any

MAX_DEPTH = 8
_TOKEN = re.compile(
    r"""[\s,]*(?:(\[)|(\])|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+|inf|nan)\b\.?)"""
    r"|(True|False|None)\b)",
    re.IGNORECASE,
)
_CALL = re.compile(r"(?:np\.)?(?:array|tensor)\((\[.*\])(?:,\s*dtype=[\w.]+)?\)", re.DOTALL)
_SCALAR = re.compile(r"np\.\w+\(([^()]*)\)")
_WORDS = {"true": True, "false": False, "none": None}


def printed_list(text: str) -> list[Any] | None:
    """Return the list, perhaps of lists, that a text is; None for any other text.

    Example:
        >>> printed_list("['O', 'B-LOC']"), printed_list("[[0.  1.5]\\n [2.  nan]]"), printed_list("[see page 5]")
        (['O', 'B-LOC'], [[0.0, 1.5], [2.0, nan]], None)
    """
    text = text.strip()
    call = _CALL.fullmatch(text)
    text = _SCALAR.sub(r"\1", call[1] if call else text)
    stack, position = [list[Any]()], 0
    while (token := _TOKEN.match(text, position)) is not None and len(stack) <= MAX_DEPTH:
        position = token.end()
        opens, closes, string, number, word = token.groups()
        if opens:
            stack.append([])
        elif len(stack) == 1:
            return None
        elif closes:
            inner = stack.pop()
            stack[-1].append(inner)
            if len(stack) == 1:
                return inner if position == len(text) else None
        elif string and "\\" in string:
            stack[-1].append(_unescaped(string[1:-1]))
        elif string:
            stack[-1].append(string[1:-1])
        else:
            stack[-1].append(
                _WORDS[word.lower()] if word else float(number) if re.search(r"[.a-z]", number, re.I) else int(number)
            )
    return None


def _unescaped(text: str) -> str:
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:
        return text
