"""Option classes to flags, through argparse: the fields of `options.py` are the only list of settings there is.

Only what was typed comes back, so that a flag can be told from a default and always wins over presets and files. argparse,
since it starts in a few milliseconds: a library that reads dataclasses by itself takes 250 for the help of `train`.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import textwrap
import types
import typing
from typing import Any, Literal, NoReturn

from unrolled.errors import UsageError, nearest
from unrolled.options import MachineOptions, flag, from_dict, split_by_class

WIDTH = 80
_WORDS = (
    (r"^argument ", ""),
    (r"invalid int value: (.*)", r"\1 is no whole number"),
    (r"invalid float value: (.*)", r"\1 is no number"),
    (r"invalid choice: ('[^']*') \(choose from (.*)\)", r"\1 is none of \2"),
    (r"expected one argument", "a value is missing behind it"),
)
"""What argparse says, and how we say it."""


class Parser(argparse.ArgumentParser):
    """The parser of one command: its examples first, then its flags in groups, one for each option class."""

    def __init__(self, command: str, about: str) -> None:
        super().__init__(
            prog=f"unrolled {command}",
            usage=argparse.SUPPRESS,
            description=about,
            add_help=False,
            allow_abbrev=False,
            formatter_class=lambda prog: _Formatter(prog, max_help_position=30, width=WIDTH),
            argument_default=argparse.SUPPRESS,
        )
        self._old_names: dict[str, str] = {}
        self._general = self.add_argument_group("general")
        self.switch("--json", "Print one JSON document on stdout, and nothing else there.")
        self._general.add_argument("-h", "--help", action="help", help="Show this and leave.")

    def switch(self, name: str, text: str) -> None:
        """Add a flag without a value."""
        self._general.add_argument(name, action="store_true", default=False, help=text)

    def value(self, name: str, metavar: str, text: str) -> None:
        """Add a flag with a text for its value; None if it is not given."""
        self._general.add_argument(name, metavar=metavar, default=None, help=text)

    def options(self, title: str, kind: type[Any]) -> None:
        """Add the flags of an option class."""
        group = self.add_argument_group(title, textwrap.fill(inspect.cleandoc(kind.__doc__ or "").split("\n")[0], WIDTH - 4))
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            text = field.metadata["help"].replace("%", "%%")
            if field.metadata["chosen"]:
                text += " (default: the recipe chooses)"
            elif field.default is not None and field.default != () and field.default != "":
                text += f" (default: {_shown(field.default)})"
            group.add_argument(flag(field.name), help=text, **_how(hints[field.name]))
            self._old_names |= {flag(name): flag(field.name) for name in field.metadata["old_names"]}

    def parse(self, arguments: list[str]) -> dict[str, Any]:
        """Return the values that were typed, by field name. A mistake is a `UsageError` that names the nearest flag."""
        values, unknown = self.parse_known_args(self._normalised(arguments))
        if unknown:
            name = unknown[0].split("=")[0]
            known = [*self._option_string_actions, *self._old_names]
            what = "flag" if name.startswith("-") else "argument"
            raise UsageError(f"Unknown {what} {name}{nearest(name, known) or '.'} See {self.prog} --help")
        return dict(vars(values))

    def dealt(self, typed: dict[str, Any], kind: type[Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Return the options of a command, checked; what was typed of them; and what was typed of the machine."""
        settings, machine = split_by_class(typed, (kind, MachineOptions), "the command line")
        return from_dict(kind, settings, "the command line"), settings, machine

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print without argparse's forgiveness: a help that cannot be written is an error."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into ours."""
        for theirs, ours in _WORDS:
            message = re.sub(theirs, ours, message)
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help")

    def _normalised(self, arguments: list[str]) -> list[str]:
        """Write flags with dashes and by their new names, and tie each to its value, which may itself begin with a dash."""
        result: list[str] = []
        waiting = iter(range(len(arguments)))
        for index in waiting:
            name, equals, value = arguments[index].partition("=")
            if not name.startswith("--") or name == "--":
                result.append(arguments[index])
                continue
            name = name.replace("_", "-")
            name = self._old_names.get(name, name)
            action = self._option_string_actions.get(name)
            following = (arguments + [""])[index + 1]
            takes_value = action is not None and action.nargs != 0 and not equals and index + 1 < len(arguments)
            if takes_value and following.split("=")[0].replace("_", "-") not in self._option_string_actions:
                equals, value = "=", following
                next(waiting)
            result.append(name + equals + value)
        return result


def note(message: str) -> None:
    """Tell a user something beside the result."""
    print(message, file=sys.stderr, flush=True)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Flags with one metavar a line, defaults kept beside the help."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{action.option_strings[0][2:]}"
        return super()._format_action_invocation(action)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _how(hint: Any) -> dict[str, Any]:
    """Return what argparse needs to know of a field's type."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(hint) is Literal:
        return {"choices": typing.get_args(hint), "metavar": "NAME" if len(str(hint)) > 60 else None}
    if typing.get_origin(hint) is tuple:
        return {"action": "append", "metavar": "TEXT"}
    return {"type": hint, "metavar": {int: "N", float: "X"}.get(hint, "TEXT")}
