"""How a setting is declared and checked: `option` declares one field of an option class, the functions below read its metadata.

The option classes themselves are in `options.py`. Neither file imports torch or numpy, so that `--help` is immediate.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar

from unrolled.errors import UsageError, did_you_mean
from unrolled.flag_names import DECLARED
from unrolled.flag_names import flag_name as flag_name

Options = TypeVar("Options")

REGISTRIES: dict[str, Collection[str]] = {}
"""Registries of classes by the setting that names one. What an extension adds to a registry is a choice of the setting."""


def option(
    default: Any,
    help: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    old_names: tuple[str, ...] = (),
    old_values: Mapping[str, str] | None = None,
    by_recipe: bool = False,
    reads: bool = False,
    writes: str = "",
    is_list: bool = False,
) -> Any:
    """Declare one setting as a dataclass field.

    Args:
        default: The value of an object made without this setting.
        help: One or two sentences for `--help` and the Python reference.
        gt, ge, lt, le: Bounds of a number, named as in pydantic: greater than, greater or equal, less than, less or equal.
        old_names: Earlier names, and those of char-rnn. They are still accepted everywhere.
        old_values: Earlier spellings of a value, each with its present one.
        by_recipe: Whether the training recipe chooses the value if the user does not set it.
        reads: Whether the value is a path that is read.
        is_list: Whether several values, in a list or a repeated flag, are joined by commas (see `join_list`).
        writes: The kind of what is written to the path that the value is, as in `output_paths`; "": it is no such path.
    """
    bounds = {name: bound for name, bound in {"gt": gt, "ge": ge, "lt": lt, "le": le}.items() if bound is not None}
    metadata = {"help": help, "old_names": old_names, "old_values": old_values or {}, "by_recipe": by_recipe}
    metadata |= {"reads": reads, "writes": writes, "is_list": is_list}
    field: dataclasses.Field[Any] = dataclasses.field(default=default, metadata=metadata | bounds)
    DECLARED.append(field)
    return field


def join_list(values: Iterable[str]) -> str:
    """Return several values as one: separated by commas, with quotes around one that has a comma, as in CSV.

    Example:
        >>> join_list(["age", "first, last"])
        'age,"first, last"'
    """
    quoted = ['"' + value.replace('"', '""') + '"' if "," in value else value for value in values]
    return ",".join(quoted)


def force_option() -> Any:
    """Declare the setting `force` of a command that writes."""
    return option(False, "Replace an existing file that is of another kind than what is written.")


def check(options: Any) -> None:
    """Raise `UsageError` if a value has the wrong type, is not one of the choices, or is out of bounds."""
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        expected = _expected_type(hints[field.name], value, choices(field.name, hints[field.name]))
        if expected:
            raise UsageError(f"{flag_name(field.name)} is {value!r}; expected {expected}.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        bounds = {k: v for k, v in field.metadata.items() if k in _BOUND_CHECKS}
        fits_float = abs(value) <= sys.float_info.max  # an int can be larger than the largest float; nan is not smaller
        if fits_float and all(_BOUND_CHECKS[name](value, bound) for name, bound in bounds.items()):
            continue
        expected = " and ".join(f"{_BOUND_WORDS[name]} {bound:,.15g}" for name, bound in bounds.items())
        value_text = f"{value:.12g}" if fits_float or isinstance(value, float) else "a number with too many digits"
        raise UsageError(f"{flag_name(field.name)} is {value_text}; expected a finite number {expected}".rstrip() + ".")


def choices(name: str, hint: Any) -> tuple[str, ...]:
    """Return the allowed values of the setting `name`, of type `hint`: those of its `Literal`, and of its registry."""
    literals = [part for part in (hint, *typing.get_args(hint)) if typing.get_origin(part) is Literal]
    if not literals:
        return ()
    names, registry = typing.get_args(literals[0]), REGISTRIES.get(name, ())
    with_argument = {choice.partition(":")[0] for choice in names if ":" in choice}
    return Choices(dict.fromkeys((*names, *(added for added in registry if added not in with_argument))))


class Choices(tuple[str, ...]):
    """The allowed values of a setting; `name:ARGUMENT` among them stands for every value that begins with `name:`."""

    def __contains__(self, value: object) -> bool:
        prefix = value.partition(":")[0] + ":" if isinstance(value, str) and ":" in value else None
        return super().__contains__(value) or (prefix is not None and any(choice.startswith(prefix) for choice in self))


def _expected_type(hint: Any, value: Any, allowed: tuple[str, ...]) -> str:
    """Return what was expected, if `value` is not of the type `hint`; an empty string if it is."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(hint) if part is not str or not allowed]  # of Literal[...] | str, the choices
        expectations = [_expected_type(part, value, allowed) for part in parts]
        return "" if "" in expectations else expectations[0]
    if typing.get_origin(hint) is Literal:
        return "" if value in allowed else "one of " + ", ".join(allowed)
    if typing.get_origin(hint) is tuple:
        return "" if isinstance(value, tuple) and all(isinstance(part, str) for part in value) else "a list of strings"
    if hint is float:
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    return "" if type(value) is hint else _TYPE_NAMES.get(hint, "no value")


_TYPE_NAMES: dict[Any, str] = {bool: "true or false", int: "a whole number", str: "a string"}
_BOUND_CHECKS = {
    "gt": lambda value, bound: value > bound,
    "ge": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "le": lambda value, bound: value <= bound,
}
_BOUND_WORDS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}


NAMES_ELSEWHERE = {
    "max_tokens": "length", "max_new_tokens": "length", "max_length": "length", "n": "count", "num_samples": "count",
    "num_return_sequences": "count", "x": "source", "y": "target", "label": "target", "labels": "target",
    "hidden_size": "hidden", "units": "hidden", "num_layers": "layers", "batch_size": "batch", "seq_length": "bptt",
    "seq_len": "bptt", "num_epochs": "epochs", "random_state": "seed", "from_": "init_from", "base": "init_from",
    "learning_rate": "lr", "num_epoch": "epochs", "output_dir": "out", "temp": "temperature",
    "validation_split": "train_fraction", "val_split": "train_fraction", "test_size": "test_fraction",
}  # fmt: skip
"""What settings are called in other libraries and interfaces, and here."""

SHEET_HINT = "; a sheet of a spreadsheet is named with its file, as in 'book.xlsx:March'"
SHEET_NAMES = ("sheet", "sheet_name")


def _unknown_setting(origin: str, name: str, names: Collection[str]) -> UsageError:
    elsewhere = NAMES_ELSEWHERE.get(name.lower())
    hint = f"; did you mean '{elsewhere}'?" if elsewhere in names else did_you_mean(name, names)
    hint = SHEET_HINT if name.lower() in SHEET_NAMES else hint
    return UsageError(f"{origin}: unknown setting '{name}'{hint}")


def present_names(values: Mapping[str, Any], option_classes: Iterable[type]) -> dict[str, Any]:
    """Return `values` with underscores for dashes in each name, and with old names replaced by the present ones.

    Raises `UsageError` if a setting has two values, by two of its names.
    """
    if not isinstance(values, Mapping):  # a damaged or hand-written file
        raise UsageError(f"The settings are {str(values)[:40]!r}; expected names with values.")
    fields = [field for option_class in option_classes for field in dataclasses.fields(option_class)]
    new_names = {old: field.name for field in fields for old in field.metadata["old_names"]}
    new_names |= {field.name: field.name for field in fields}  # a present name wins over the same word as an old name
    present: dict[str, Any] = {}
    for given, value in values.items():
        name = new_names.get(given.replace("-", "_"), given.replace("-", "_"))
        if name in present and present[name] != value:
            raise UsageError(f"{given} is another name of {name}, and both are given: leave one out.")
        present[name] = value
    return present


def _plain_setting(value: Any) -> Any:
    """Return a number of numpy or torch as one of Python, and a device or dtype of torch as its name; other values as is."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    if type(value).__module__ == "torch" and type(value).__name__ in ("device", "dtype"):
        return str(value).removeprefix("torch.")
    return value


def _path_text(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return a path as a text, if the setting is one."""
    is_path = isinstance(value, os.PathLike) and (field.metadata["reads"] or field.metadata["writes"])
    return os.fspath(value) if is_path else value


def from_dict(option_class: type[Options], values: Mapping[str, Any], origin: str) -> Options:
    """Build checked options from saved or hand-written values.

    Args:
        option_class: The class to build.
        values: Values by field name. Old names and old values are replaced, lists become tuples.
        origin: Where the values come from, for messages.

    Raises:
        UsageError: An unknown name, with the nearest known one; or a value that `check` refuses.
    """
    fields = {field.name: field for field in dataclasses.fields(option_class)}  # type: ignore[arg-type]  # a dataclass type
    renamed = present_names(values, (option_class,))
    for name, value in renamed.items():
        if name not in fields:
            raise _unknown_setting(origin, name, fields)
        renamed[name] = value = _plain_setting(value)
        if isinstance(value, str):
            renamed[name] = fields[name].metadata["old_values"].get(value, value)
        elif isinstance(value, list | tuple) and fields[name].metadata["is_list"]:
            renamed[name] = join_list(map(str, value)) if len(value) > 1 else "".join(map(str, value)) or None
        elif isinstance(value, list | tuple):
            renamed[name] = tuple(_path_text(fields[name], part) for part in value)
        else:
            renamed[name] = _path_text(fields[name], value)
    options = option_class(**renamed)
    check(options)
    return options


def split_by_class(values: Mapping[str, Any], option_classes: tuple[type, ...], origin: str) -> list[dict[str, Any]]:
    """Return one dictionary for each option class, with the values of its fields; an unknown name is a `UsageError`."""
    owners = {field.name: index for index, kind in enumerate(option_classes) for field in dataclasses.fields(kind)}
    grouped: list[dict[str, Any]] = [{} for _ in option_classes]
    for name, value in present_names(values, option_classes).items():
        if name not in owners:
            raise _unknown_setting(origin, name, owners)
        grouped[owners[name]][name] = value
    return grouped
