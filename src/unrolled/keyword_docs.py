"""Puts the option classes into the signature and the docstring of a function that takes them as `**options`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, cast

from unrolled.errors import UsageError
from unrolled.flag_names import with_keywords
from unrolled.option_fields import NAMES_ELSEWHERE

Function = TypeVar("Function", bound=Callable[..., Any])


class _Recipe:
    """Default of a setting that the recipe chooses."""

    def __repr__(self) -> str:
        return "<recipe>"


def keyword_arguments(
    *option_classes: type, exclude: Mapping[str, str] | tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Return a decorator that shows the options of `**options` to `help()`, notebooks and documentation.

    `inspect.signature` lists each option with its default, and the docstring gets a section "Keyword arguments". What type
    checkers see is the annotation `Unpack[...]` of `**options`, see keywords.py.

    Args:
        option_classes: The classes whose fields the function accepts.
        exclude: Fields that are parameters of their own, or that the function does not accept; these are refused, with what
            to use instead if `exclude` maps them to that.
    """

    def decorate(function: Function) -> Function:
        fields = [f for kind in option_classes for f in dataclasses.fields(kind) if f.name not in exclude]
        hints = {name: hint for kind in option_classes for name, hint in typing.get_type_hints(kind).items()}
        signature = inspect.signature(function)
        named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field)) for field in fields]
        vars(function)["__signature__"] = signature.replace(parameters=[*named, *options])
        lines = "\n".join(_describe(field, hints[field.name]) for field in fields)
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nKeyword arguments:\n{lines}\n"
        refused = dict(exclude) if isinstance(exclude, Mapping) else dict.fromkeys(exclude, "")
        return _refuse(function, {name: hint for name, hint in refused.items() if name not in {p.name for p in named}})

    return decorate


def _refuse(function: Function, refused: Mapping[str, str]) -> Function:
    """Return the function, with a `UsageError` for options that it would ignore."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        for name in options:
            own_name = name if name in refused else NAMES_ELSEWHERE.get(name, "")
            if own_name not in refused:
                continue
            hint = refused[own_name] or "leave it out"
            raise UsageError(f"{function.__name__}() has no option '{name}': {hint}.")
        return function(*arguments, **options)

    call.__kwdefaults__ = function.__kwdefaults__  # type: ignore[attr-defined]  # functions have it, Callable has not
    return cast(Function, call) if refused else function


def _default(field: dataclasses.Field[Any]) -> Any:
    return _Recipe() if field.metadata["by_recipe"] else field.default


def _describe(field: dataclasses.Field[Any], hint: Any) -> str:
    default = "chosen by the recipe" if field.metadata["by_recipe"] else f"default {field.default!r}"
    type_text = _type_text(hint)
    entry = f"{field.name} ({type_text}, {default}): {with_keywords(field.metadata['help'])}"
    return textwrap.fill(entry, 100, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False)


def _type_text(hint: Any) -> str:
    if isinstance(hint, list) or typing.get_origin(hint) is Literal:
        return " or ".join(map(repr, typing.get_args(hint) or hint))
    if typing.get_origin(hint) is tuple:
        return "list of str"
    if isinstance(hint, type):
        return hint.__name__
    return " or ".join("None" if part is type(None) else _type_text(part) for part in typing.get_args(hint))
