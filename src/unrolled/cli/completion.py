"""Completion scripts and manual pages, made from the parsers of the commands."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Mapping

Parsers = Mapping[str, argparse.ArgumentParser]


def flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the flags of a command."""
    return [action for action in parser._actions if action.option_strings]


def summary(parser: argparse.ArgumentParser) -> str:
    """Return the first line of a command's help."""
    return (parser.description or "").split("\n")[0]


def argument_values(command: str, parsers: Parsers) -> list[str]:
    """Return the values of a command's first argument, if they are words and not files."""
    return {"completion": list(SHELLS), "man": list(parsers), "config": ["show"]}.get(command, [])


def bash(parsers: Parsers) -> str:
    """Return a completion script for bash."""
    cases = []
    for name, parser in parsers.items():
        names = [option for action in flags(parser) for option in action.option_strings if option.startswith("--")]
        choices = [
            f'      {option}) COMPREPLY=($(compgen -W {shlex.quote(" ".join(map(str, action.choices)))} -- "$cur")); return;;'
            for action in flags(parser)
            if action.choices
            for option in action.option_strings
        ]
        inner = "\n".join(["      case $prev in", *choices, "      esac;;"]) if choices else "      ;;"
        values = argument_values(name, parsers)
        first = f" values={shlex.quote(' '.join(values))}" if values else ""
        cases.append(f"    {name}) words={shlex.quote(' '.join(names))}{first}\n{inner}")
    return f"""\
# Completion of unrolled, made by `unrolled completion`.
_unrolled() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words= values=
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {shlex.quote(" ".join(parsers))} -- "$cur"))
    return
  fi
  if [ "$cur" = "=" ]; then cur=; elif [ "$prev" = "=" ]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
  case ${{COMP_WORDS[1]}} in
{chr(10).join(cases)}
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  elif [ -n "$values" ] && [ "$COMP_CWORD" -eq 2 ]; then
    COMPREPLY=($(compgen -W "$values" -- "$cur"))
  else
    local IFS=$'\\n'
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}}
complete -o filenames -F _unrolled unrolled
"""


def zsh(parsers: Parsers) -> str:
    """Return a completion script for zsh, with descriptions."""
    cases = []
    for name, parser in parsers.items():
        specs = [_zsh_flag(action, option) for action in flags(parser) for option in action.option_strings]
        if values := argument_values(name, parsers):
            specs.append(f":value:({' '.join(values)})")
        specs.append("*:file:_files")
        cases.append(f"    {name}) _arguments {' '.join(map(shlex.quote, specs))};;")
    commands = " ".join(shlex.quote(f"{name}:{summary(parser)}") for name, parser in parsers.items())
    return f"""\
#compdef unrolled
# Completion of unrolled, made by `unrolled completion`.
_unrolled() {{
  if (( CURRENT == 2 )); then
    local -a commands=({commands})
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{chr(10).join(cases)}
  esac
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
if [[ $funcstack[1] == _unrolled ]]; then _unrolled "$@"; else compdef _unrolled unrolled; fi
"""


def _zsh_flag(action: argparse.Action, option: str) -> str:
    """Return how `_arguments` of zsh describes a flag: its brackets and colons are escaped."""
    text = re.sub(r"[][\\:]", r"\\\g<0>", _help(action))
    if action.nargs == 0:
        return f"{option}[{text}]"
    choices = " ".join(str(choice).replace(":", r"\:") for choice in action.choices or ())
    values = f"({choices})" if choices else "_files"
    return f"{option}=[{text}]:value:{values}"


def fish(parsers: Parsers) -> str:
    """Return a completion script for fish."""
    lines = ["# Completion of unrolled, made by `unrolled completion`."]
    lines += ["function __unrolled_is", "    set -l words (commandline -opc)", '    test "$words[2]" = $argv[1]', "end"]
    lines.append("complete -c unrolled -n __fish_use_subcommand -f")
    for name, parser in parsers.items():
        lines.append(f"complete -c unrolled -n __fish_use_subcommand -a {name} -d {_fish_quote(summary(parser))}")
        if values := argument_values(name, parsers):
            lines.append(f"complete -c unrolled -n '__unrolled_is {name}' -f -a {_fish_quote(' '.join(values))}")
        for action in flags(parser):
            for option in action.option_strings:
                is_long = option.startswith("--")
                parts = [f"complete -c unrolled -n '__unrolled_is {name}'"]
                parts.append(f"-l {option[2:]}" if is_long else f"-s {option[1:]}")
                if action.choices:
                    parts.append(f"-x -a {_fish_quote(' '.join(map(str, action.choices)))}")
                elif action.nargs != 0:
                    parts.append("-r")
                lines.append(" ".join([*parts, f"-d {_fish_quote(_help(action))}"]))
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[Parsers], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""Shells with completion: each with the function that returns its script."""


def command_page(name: str, parser: argparse.ArgumentParser, version: str) -> str:
    """Return the manual page of a command in roff."""
    title, _, body = (parser.description or "").partition("\n")
    lines = [_heading(f"UNROLLED-{name.upper()}", version), ".SH NAME", _roff(f"unrolled-{name} - {title.rstrip('.')}")]
    usage = parser.format_usage() if parser.usage != argparse.SUPPRESS else parser.format_help().split("\n")[0]
    lines += [".SH SYNOPSIS", _roff(usage.removeprefix("usage: ").strip()), ".SH DESCRIPTION", ".nf"]
    lines += [*map(_roff, body.strip().split("\n")), ".fi"]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if actions:
            heading = "ARGUMENTS" if group.title == "positional arguments" else (group.title or "").upper()
            lines.append(f'.SH "{_roff(heading)}"')
            for action in actions:
                names = ", ".join(action.option_strings) or str(action.metavar)
                value = f" {action.metavar or 'VALUE'}" if action.option_strings and action.nargs != 0 else ""
                lines += [".TP", f".B {_roff(names + value)}", _roff(_help(action))]
    return "\n".join(lines) + "\n"


def overview_page(parsers: Parsers, version: str) -> str:
    """Return the manual page of the program in roff."""
    lines = [_heading("UNROLLED", version), ".SH NAME", "unrolled \\- recurrent sequence models", ".SH SYNOPSIS"]
    lines += ["unrolled COMMAND ...", ".SH COMMANDS"]
    for name, parser in parsers.items():
        lines += [".TP", f".B {_roff(f'unrolled-{name}')}(1)", _roff(summary(parser))]
    return "\n".join(lines) + "\n"


def _heading(title: str, version: str) -> str:
    return f'.TH "{title}" 1 "" "unrolled {version}" "unrolled"'


def _help(action: argparse.Action) -> str:
    return " ".join((action.help or "").replace("%%", "%").split())


def _roff(text: str) -> str:
    """Return a line of text for roff: a dot or quote at its beginning would be a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped[:1] in (".", "'") else escaped


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
