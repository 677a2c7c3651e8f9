"""The JSON documents of `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

JSON_VERSION = 2
"""Version of the keys in all documents of `--json`. It goes up when a key changes its name or meaning, or goes away."""


def print_json(document: Mapping[str, Any]) -> None:
    """Print one document on stdout, with its version first."""
    print(json.dumps({"version": JSON_VERSION, **document}), flush=True)


def write_json_list(
    name: str,
    items: Iterable[Any],
    summary: Callable[[], Mapping[str, Any]] = dict,
    out: IO[str] | None = None,
    ensure_ascii: bool = True,
) -> None:
    """Write one document with a list, item by item while it is made; what `summary` returns after that comes last."""
    out = out or sys.stdout
    out.write(f'{{"version": {JSON_VERSION}, "{name}": [')
    for index, item in enumerate(items):
        out.write((",\n" if index else "\n") + json.dumps(item, ensure_ascii=ensure_ascii))
    last = json.dumps(summary(), ensure_ascii=ensure_ascii)[1:]
    out.write(f"\n]{last if last == '}' else ', ' + last}\n")
