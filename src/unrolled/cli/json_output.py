"""The JSON documents of `--json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

JSON_VERSION = 2
"""Version of the keys in all documents of `--json`. It goes up when a key changes its name or meaning, or goes away."""


def print_json(document: Mapping[str, Any]) -> None:
    """Print one document on stdout, with its version first."""
    print(json.dumps({"version": JSON_VERSION, **document}), flush=True)
