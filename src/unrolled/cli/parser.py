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

from unrolled.errors import UsageError, did_you_mean
from unrolled.options import MachineOptions, choices, flag_name, from_dict, split_by_class

HELP_WIDTH = 80
_MESSAGE_REWRITES = (
    (r"^argument ", ""),
    (r"invalid int value: (.*)", r"\1 is no whole number"),
    (r"invalid float value: (.*)", r"\1 is no number"),
    (r"invalid choice: ('[^']*') \(choose from (.*)\)", r"\1 is none of \2"),
    (r"expected one argument", "a value is missing behind it"),
)
"""What argparse says, and how we say it."""


class CommandParser(argparse.ArgumentParser):
    """The parser of one command: its examples first, then its flags in groups, one for each option class."""

    def __init__(self, command: str, help_text: str) -> None:
        super().__init__(
            prog=f"unrolled {command}",
            usage=argparse.SUPPRESS,
            description=help_text,
            add_help=False,
            allow_abbrev=False,
            formatter_class=lambda prog: _HelpFormatter(prog, max_help_position=30, width=HELP_WIDTH),
            argument_default=argparse.SUPPRESS,
        )
        self._old_names: dict[str, str] = {}
        self._old_values: dict[tuple[str, str], str] = {}
        self._general = self.add_argument_group("general")
        self.add_switch("--json", "Print one JSON document on stdout, and nothing else there.")
        self._general.add_argument("-h", "--help", action="help", help="Show this and leave.")

    def add_switch(self, name: str, help_text: str) -> None:
        """Add a flag without a value."""
        self._general.add_argument(name, action="store_true", default=False, help=help_text)

    def add_value(self, name: str, metavar: str, help_text: str) -> None:
        """Add a flag with a text for its value; None if it is not given."""
        self._general.add_argument(name, metavar=metavar, default=None, help=help_text)

    def add_options(self, title: str, option_class: type[Any]) -> None:
        """Add the flags of an option class."""
        group = self.add_argument_group(
            title, textwrap.fill(inspect.cleandoc(option_class.__doc__ or "").split("\n")[0], HELP_WIDTH - 4)
        )
        hints = typing.get_type_hints(option_class)
        for field in dataclasses.fields(option_class):
            help_text = field.metadata["help"].replace("%", "%%")
            if field.metadata["chosen"]:
                help_text += " (default: the recipe chooses)"
            elif field.default is not None and field.default != () and field.default != "":
                help_text += f" (default: {_format_default(field.default)})"
            group.add_argument(flag_name(field.name), help=help_text, **_argument_kwargs(field.name, hints[field.name]))
            self._old_values |= {(flag_name(field.name), old): new for old, new in field.metadata["old_values"].items()}
            self._old_names |= {flag_name(name): flag_name(field.name) for name in field.metadata["old_names"]}

    def parse_cli_values(self, argv: list[str]) -> dict[str, Any]:
        """Return the values that were typed, by field name. A mistake is a `UsageError` that names the nearest flag."""
        namespace, unknown = self.parse_known_args(self._normalize(argv))
        if unknown:
            name = unknown[0].split("=")[0]
            known_flags = [*self._option_string_actions, *self._old_names]
            noun = "flag" if name.startswith("-") else "argument"
            raise UsageError(f"Unknown {noun} {name}{did_you_mean(name, known_flags) or '.'} See {self.prog} --help")
        return dict(vars(namespace))

    def split_options(self, cli_values: dict[str, Any], option_class: type[Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Return the options of a command, checked; what was typed of them; and what was typed of the machine."""
        settings, machine_settings = split_by_class(cli_values, (option_class, MachineOptions), "the command line")
        return from_dict(option_class, settings, "the command line"), settings, machine_settings

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print without argparse's forgiveness: a help that cannot be written is an error."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into ours."""
        for pattern, replacement in _MESSAGE_REWRITES:
            message = re.sub(pattern, replacement, message)
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help")

    def _normalize(self, argv: list[str]) -> list[str]:
        """Write flags with dashes and by their new names, and tie each to its value, which may itself begin with a dash."""
        result: list[str] = []
        indices = iter(range(len(argv)))
        for index in indices:
            name, equals, value = argv[index].partition("=")
            if not name.startswith("--") or name == "--":
                result.append(argv[index])
                continue
            name = name.replace("_", "-")
            name = self._old_names.get(name, name)
            action = self._option_string_actions.get(name)
            next_argument = (argv + [""])[index + 1]
            takes_value = action is not None and action.nargs != 0 and not equals and index + 1 < len(argv)
            if takes_value and next_argument.split("=")[0].replace("_", "-") not in self._option_string_actions:
                equals, value = "=", next_argument
                next(indices)
            result.append(name + equals + self._old_values.get((name, value), value))
        return result


def print_note(message: str) -> None:
    """Tell a user something beside the result."""
    print(message, file=sys.stderr, flush=True)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Flags with one metavar a line, defaults kept beside the help."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{action.option_strings[0][2:]}"
        return super()._format_action_invocation(action)


def _format_default(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _argument_kwargs(name: str, hint: Any) -> dict[str, Any]:
    """Return what argparse needs to know of a field's type."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(hint) is Literal:
        return {"choices": choices(name, hint), "metavar": "NAME" if len(str(hint)) > 60 else None}
    if typing.get_origin(hint) is tuple:
        return {"action": "append", "metavar": "TEXT"}
    return {"type": hint, "metavar": {int: "N", float: "X"}.get(hint, "TEXT")}
