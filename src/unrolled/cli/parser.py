"""The command-line parser: argparse flags made from the option classes of `options.py`.

The result holds only the flags that the user typed, so that they override presets and files, and defaults do not. argparse is
used because it starts in a few milliseconds; a library that reads dataclasses takes 250 for the help of `train`.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from unrolled.datasets.base_models import BASE_MODELS
from unrolled.datasets.stdlib import PREFIX
from unrolled.display import printable, shell_argument
from unrolled.errors import UsageError, did_you_mean
from unrolled.flag_names import KEYWORD_FLAGS
from unrolled.option_fields import SHEET_HINT, SHEET_NAMES
from unrolled.options import MachineOptions, choices, flag_name, from_dict, split_by_class
from unrolled.output_paths import is_run

HELP_WIDTH = 80
_MESSAGE_REWRITES = (
    (r"^argument ", ""),
    (r"invalid int value: (.*)", r"\1 is not a whole number"),
    (r"invalid float value: (.*)", r"\1 is not a number"),
    (r"invalid choice: ('[^']*') \(choose from (.*)\)", r"\1 is not one of \2"),
    (r"expected one argument", "the value is missing"),
)
"""Parts of argparse's messages, each with its replacement."""


DESCRIBE: list[str] = ["DESCRIBE"]
"""Arguments, known by identity, with which a command does not run, but gives its parser."""


class ParserFound(Exception):
    """Carries the parser of a command out of it."""

    def __init__(self, parser: CommandParser) -> None:
        super().__init__()
        self.parser = parser


class CommandParser(argparse.ArgumentParser):
    """The parser of one command.

    Args:
        command: The name of the command.
        description: The help text, normally the module's docstring: one line, then examples. The usage line before it and
            the flags after it, one group per option class, are generated.
        has_json: Whether the command has --json.
    """

    def __init__(self, command: str, description: str | None, has_json: bool = True) -> None:
        super().__init__(
            prog=f"unrolled {command}",
            usage=argparse.SUPPRESS,
            description=(description or "").strip(),
            add_help=False,
            allow_abbrev=False,
            formatter_class=lambda prog: _HelpFormatter(prog, max_help_position=30, width=HELP_WIDTH),
            argument_default=argparse.SUPPRESS,
        )
        self._list_names: list[str] = []
        self._old_names: dict[str, str] = {}
        self._old_values: dict[tuple[str, str], str] = {}
        self._general = self.add_argument_group("general")
        if has_json:
            self.add_switch("--json", "Print the result as one JSON document on stdout.")
        self._general.add_argument("-h", "--help", action="help", help="Show this help.")

    def add_model(self) -> None:
        """Add RUN, the model of a command for which a base model will do, too."""
        names = " or ".join(PREFIX + name for name in BASE_MODELS)
        self.add_argument("run", metavar="RUN", help=f"Run folder, model file, {names}.")

    def add_switch(self, name: str, help_text: str) -> None:
        """Add a flag without a value."""
        self._general.add_argument(name, action="store_true", default=False, help=help_text)

    def add_value(self, name: str, metavar: str, help_text: str) -> None:
        """Add a flag with a string value; its default is None."""
        self._general.add_argument(name, metavar=metavar, default=None, help=help_text)

    def add_values(self, name: str, metavar: str, help_text: str) -> None:
        """Add a flag with a string value that may be repeated; its default is an empty list."""
        self._general.add_argument(name, metavar=metavar, action="append", default=[], help=help_text)

    def add_options(self, title: str, option_class: type[Any]) -> None:
        """Add the flags of an option class."""
        group = self.add_argument_group(
            title, textwrap.fill(inspect.cleandoc(option_class.__doc__ or "").split("\n")[0], HELP_WIDTH - 4)
        )
        hints = typing.get_type_hints(option_class)
        for field in dataclasses.fields(option_class):
            help_text = field.metadata["help"].replace("%", "%%")
            if field.metadata["by_recipe"]:
                help_text += " (default: the recipe chooses)"
            elif field.default is not None and field.default != () and field.default != "":
                help_text += f" (default: {_format_default(field.default)})"
            kwargs = _argument_kwargs(field.name, hints[field.name])
            if field.metadata["is_list"]:
                kwargs = {"action": "append", "metavar": kwargs["metavar"]}
                self._list_names.append(field.name)
            group.add_argument(flag_name(field.name), dest=field.name, help=help_text, **kwargs)
            self._old_values |= {(flag_name(field.name), old): new for old, new in field.metadata["old_values"].items()}
            self._old_names |= {flag_name(name): flag_name(field.name) for name in field.metadata["old_names"]}
            self._old_names |= (
                {f"--{field.name.replace('_', '-')}": flag_name(field.name)} if field.name in KEYWORD_FLAGS else {}
            )

    def parse_cli_values(self, argv: list[str]) -> dict[str, Any]:
        """Return the typed values, by field name. An unknown flag is a `UsageError` that names the nearest flag."""
        if argv is DESCRIBE:
            raise ParserFound(self)
        namespace, unknown = self.parse_known_args(self._normalize(argv))
        if unknown:
            name = next(filter(lambda text: text.startswith("-"), unknown), unknown[0]).split("=")[0]  # not the flag's value
            known_flags = [*self._option_string_actions, *self._old_names]
            noun = "flag" if name.startswith("-") else "argument"
            hint = SHEET_HINT + "." if name.lstrip("-") in SHEET_NAMES else did_you_mean(name, known_flags)
            raise UsageError(f"Unknown {noun} {name}{hint or '.'} See {self.prog} --help")
        values = vars(namespace)
        self._check_order(values)
        return {name: ",".join(value) if name in self._list_names else value for name, value in values.items()}

    def _check_order(self, values: dict[str, Any]) -> None:
        """Raise `UsageError` if a run is named after a file where RUN comes first."""
        given = (values[action.dest] for action in self._get_positional_actions())
        named = [name for value in given for name in (value if isinstance(value, list) else [value]) if name is not None]
        if "run" in values and len(named) > 1 and os.path.isfile(named[0]) and is_run(Path(named[1])):
            raise UsageError(f"RUN comes first: {self.prog} {shell_argument(named[1])} {shell_argument(named[0])}")

    def split_options(self, cli_values: dict[str, Any], option_class: type[Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Return the checked options of a command, the typed values among them, and the typed values of `MachineOptions`."""
        settings, machine_settings = split_by_class(cli_values, (option_class, MachineOptions), "the command line")
        return from_dict(option_class, settings, "the command line"), settings, machine_settings

    def format_help(self) -> str:
        """Return the usage line, then argparse's help."""
        patterns = {"*": "[{} ...]", "?": "[{}]"}
        arguments = [patterns.get(str(action.nargs), "{}").format(action.metavar) for action in self._get_positional_actions()]
        return f"usage: {' '.join([self.prog, *arguments, '[flags]'])}\n\n{super().format_help()}"

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print, and unlike argparse do not hide an error: a help text that cannot be written is a failure."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message as a `UsageError`, in our words."""
        for pattern, replacement in _MESSAGE_REWRITES:
            message = re.sub(pattern, replacement, message)
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help")

    def _is_file(self, argument: str) -> bool:
        """Return whether an argument that looks like a flag, and is none, is a file or folder, such as `-x.txt`."""
        return argument[:1] == "-" and argument not in ("-", "--", *self._option_string_actions) and os.path.lexists(argument)

    def _normalize(self, argv: list[str]) -> list[str]:
        """Return the arguments with dashes, present names and present values; each value is joined to its flag by "=".

        argparse would take a separate value that begins with a dash for a flag.
        """
        result: list[str] = []
        indices = iter(range(len(argv)))
        for index in indices:
            name, equals, value = argv[index].partition("=")
            if not name.startswith("--") or name == "--":
                result.append(f"./{argv[index]}" if self._is_file(argv[index]) else argv[index])
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
        return _positionals_first(result)


def _positionals_first(argv: list[str]) -> list[str]:
    """Return arguments with all positional ones together: argparse gives an optional one up at the first flag.

    Example:
        >>> _positionals_first(["run", "--count=2", "new.csv"])
        ['run', 'new.csv', '--count=2']
    """
    end = argv.index("--") if "--" in argv else len(argv)
    flags = [argument for argument in argv[:end] if argument.startswith("-") and argument != "-"]
    positionals = [argument for argument in argv[:end] if not argument.startswith("-") or argument == "-"]
    return positionals + flags if end == len(argv) else [*flags, "--", *positionals, *argv[end + 1 :]]


def accepted_options(function: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `settings` that a function of the Python interface accepts; the command itself has the others."""
    return {name: value for name, value in settings.items() if name in inspect.signature(function).parameters}


def program_name() -> str:
    """Return what a shell calls this program: its name, or its path where it was started by that and is not on the PATH."""
    path = sys.argv[0]
    is_found = os.path.basename(path) != "unrolled" or os.sep not in path or shutil.which("unrolled") is not None
    return "unrolled" if is_found else shell_argument(os.path.relpath(path))


def print_note(message: str) -> None:
    """Print a message for the user on stderr."""
    print(printable(message), file=sys.stderr, flush=True)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the description, shows a switch as `--[no-]name`, and names many choices in the help text."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{action.option_strings[0][2:]}"
        return f"{action.option_strings[0]} NAME" if _many_choices(action) else super()._format_action_invocation(action)

    def _expand_help(self, action: argparse.Action) -> str:
        return super()._expand_help(action) + _many_choices(action)


def _many_choices(action: argparse.Action) -> str:
    """Return a sentence with the choices of a flag if they do not fit behind it."""
    names = ", ".join(action.choices) if action.choices and action.option_strings else ""
    return f" One of {names}." if len(names) > HELP_WIDTH // 2 else ""


def _format_default(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _argument_kwargs(name: str, hint: Any) -> dict[str, Any]:
    """Return the arguments of `add_argument` for the type of a field."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)  # of Literal[...] | str, the first
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(hint) is Literal:
        return {"choices": choices(name, hint)}
    if typing.get_origin(hint) is tuple:
        return {"action": "append", "metavar": "TEXT"}
    return {"type": hint, "metavar": {int: "N", float: "X"}.get(hint, "TEXT")}
