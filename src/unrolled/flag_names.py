"""How messages name a setting: as the flag of a command, or as the keyword argument in Python.

Messages are written with the flags of commands (`--minutes`). Outside a command, they are shown with the keyword arguments of
Python (`minutes=`): `in_terms_of_caller` replaces one by the other where a message is raised or logged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

KEYWORD_FLAGS = {"init_from": "--from"}
"""Flags whose name is a keyword of Python, so that the field has another one."""

DECLARED: list[dataclasses.Field[Any]] = []
"""The fields of the option classes, as `option` declares them."""

_PROSE = """above and are asks both cannot captures changes draws equal for forecasts goes has have in is judges learns leaves
may named names need needs nothing or out prints ranks reads themselves to was with works would"""

PROSE = frozenset(_PROSE.split())
"""Words of messages that follow a flag and are not its value."""

_UNCHANGED = r"`[^`]*`|\bunrolled [a-z]+ (?:(?! or |\. |[;)\n]).)*"
_FLAG = r"""(?<![\w-])--(?P<no>no-)?(?P<name>[a-z][a-z0-9-]*)(?P<value>[ =](?:"[^"]*"|'[^']*'|[^\s"'(]*[^\s"'(.,:;)]))?"""
_NUMBER = re.compile(r"-?[\d.]+(e[-+]?\d+)?")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z.,]*|['\"].*")
_state = {"command_runs": False}


def flag_name(name: str, value: object = None) -> str:
    """Return the flag of a field, as a user types it for a value: of False, that is `--no-NAME`."""
    return KEYWORD_FLAGS.get(name) or ("--no-" if value is False else "--") + name.replace("_", "-")


@contextlib.contextmanager
def naming_flags() -> Iterator[None]:
    """Let messages name flags, while a command runs."""
    before, _state["command_runs"] = _state["command_runs"], True
    try:
        yield
    finally:
        _state["command_runs"] = before


def in_terms_of_caller(message: str) -> str:
    """Return a message with flags while a command runs, else with keyword arguments."""
    return message if _state["command_runs"] or "--" not in message else with_keywords(message)


def with_keywords(message: str) -> str:
    """Return a message with keyword arguments for flags. Commands in it stay as they are.

    Example:
        >>> with_keywords("--minutes is 0: leave out --source, or say --header none and --no-residual.")
        "minutes= is 0: leave out source=, or say header='none' and residual=False."
    """
    switches = {"allow_change", *(field.name for field in DECLARED if isinstance(field.default, bool))}
    fields = {flag: name for name, flag in KEYWORD_FLAGS.items()}

    def keyword(match: re.Match[str]) -> str:
        if match["name"] is None:
            return match[0]
        name, value = match["name"].replace("-", "_"), (match["value"] or "")[1:]
        name = fields.get(f"--{match['name']}", name)
        rest = f" {value}" if value else ""
        is_refused = value == "is" and "; expected true or false" in match.string[match.end() :]
        if name in switches and (value == "was" or is_refused):  # a setting, and not what to say
            return f"{name}{rest}"
        if match["no"] or name in switches:
            return f"{name}={not match['no']}{rest}"
        if not value or value in PROSE:
            return f"{name}={rest}"
        is_plain = _NUMBER.fullmatch(value) or _PLACEHOLDER.fullmatch(value)
        return f"{name}={value if is_plain else repr(value)}"

    return re.sub(f"{_UNCHANGED}|{_FLAG}", keyword, message)
