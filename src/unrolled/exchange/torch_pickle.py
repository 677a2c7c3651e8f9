"""Reader of files of `torch.save`, of state_dicts and of whole models, as data: nothing in a file is imported or called.

The instructions of the pickle are taken one by one from `pickletools`, which only splits them. Containers, numbers and texts
become those of Python, tensors become views of the bytes of the file, and an object of any other class, or what a call of a
function would return, is an `Instance`: a dictionary of its attributes. So a whole model (`torch.save(model, path)`), a
TorchScript archive and a checkpoint with objects of its program are read without the program.

Memory grows with the size of the file only: all lengths are compared with it, and references are not copied.

Layouts: since torch 1.6 a zip archive with `data.pkl` and the storages as stored files; before, four pickles, one with the
names of the storages, and the storages.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from unrolled.atomic_io import storage_error
from unrolled.errors import ModelError
from unrolled.exchange.torch7 import MAX_DIMENSIONS, Storage, Tensor, read_whole

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch.save before version 1.6 begin."""

MAX_INSTRUCTIONS = 5_000_000
"""Instructions of a pickle, and entries that are copied from one of its containers to another."""

MAX_NAME = 300
ELEMENT_TYPES = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": "<u2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "<i1", "Byte": "<u1", "Bool": "<u1",
}  # fmt: skip
REBUILD_TENSOR = {"torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"}
WRAPPERS = {
    "torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state", "torch.nn.parameter Parameter",
    "torch.autograd.variable Variable",
}  # fmt: skip
"""Calls whose first argument is the tensor itself."""

MAPPINGS = {"collections OrderedDict", "collections defaultdict", "collections Counter"}
SEQUENCES = {f"{module} {name}" for module in ("__builtin__", "builtins") for name in ("set", "frozenset", "list", "tuple")}
RECONSTRUCTORS = {"copy_reg _reconstructor", "copyreg _reconstructor"}
FindStorage: TypeAlias = Callable[[str, str, int], Storage]


class Instance(dict[Any, Any]):
    """An object of a class, or what a call would return, as the dictionary of its attributes and entries."""

    __slots__ = ("class_name",)

    def __init__(self, class_name: str = "") -> None:
        super().__init__()
        self.class_name = class_name


class _Global:
    """A class or a function, by name."""

    __slots__ = ("name",)

    def __init__(self, *parts: Any) -> None:
        if not all(isinstance(part, str) and len(part) <= MAX_NAME for part in parts):
            raise ModelError("The file is damaged: it has a class whose name is no name.")
        self.name = " ".join(parts)


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self, find_storage: FindStorage) -> None:
        self.find_storage = find_storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.num_copied = 0

    def run(self, source: Any) -> Any:
        """Return the value of the pickle at the position of a file."""
        for count, (instruction, argument, _) in enumerate(pickletools.genops(source)):
            if max(count, self.num_copied) > MAX_INSTRUCTIONS:
                raise ModelError(
                    f"The file has more than {MAX_INSTRUCTIONS:,} instructions of pickle, more than a model needs."
                )
            name = instruction.name
            if name == "STOP":
                return self.stack.pop()
            if name in _INSTRUCTIONS:
                _INSTRUCTIONS[name](self, argument)
            elif name in _CONSTANTS or name.startswith(_LITERALS):
                self.stack.append(_CONSTANTS.get(name, argument))
            elif name not in ("PROTO", "FRAME"):
                raise ModelError(f"The file has an instruction {name} of pickle, which torch.save never writes.")
        raise ModelError("The file is damaged: its pickle has no end.")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def take(self, count: int) -> list[Any]:
        """Take the last values from the stack."""
        if not 0 <= count <= len(self.stack):
            raise ModelError("The file is damaged: its pickle takes more values than it has.")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def marked(self) -> list[Any]:
        """Take what came after the last mark."""
        return self.take(len(self.stack) - self.marks.pop())

    def append(self, values: list[Any]) -> None:
        """Add values to the list on the stack; a set is a list, too."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Add keys and values in turn to the dictionary on the stack."""
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_entries(values))

    def build(self, state: Any) -> None:
        """Give the object on the stack its attributes; one with `__slots__` has two parts of them."""
        for part in state[:2] if isinstance(state, tuple) else (state,):
            if isinstance(self.stack[-1], Instance) and isinstance(part, dict):
                self.num_copied += len(part)
                self.stack[-1].update(part)

    def call(self, function: Any, arguments: Any) -> None:
        """Put the data on the stack that a call stands for; nothing is called."""
        name = function.name if isinstance(function, _Global) else ""
        first = arguments[0] if isinstance(arguments, tuple | list) and arguments else None
        if name in REBUILD_TENSOR:
            self.push(_tensor(*arguments[:4]))
        elif name in WRAPPERS or (name in MAPPINGS and isinstance(first, dict)):
            self.push(first)
        elif name in MAPPINGS:
            pairs = [pair for pair in first if len(pair) == 2] if isinstance(first, list) else []
            self.num_copied += len(pairs)
            self.push(_entries([part for pair in pairs for part in pair]))
        elif name in SEQUENCES:
            self.push(first if isinstance(first, list | tuple) else [])
        else:
            self.push(Instance(first.name if name in RECONSTRUCTORS and isinstance(first, _Global) else name))

    def persistent(self, reference: Any) -> Any:
        """Return a storage, or the class of a module, next to which torch before 0.4 put its source."""
        if reference[0] == "module":
            return reference[1]
        kind, key = reference[1].name.rpartition(" ")[2].removesuffix("Storage"), reference[2]
        if not isinstance(key, str) or kind not in ELEMENT_TYPES:
            raise ModelError(f"The file has a storage {kind:.60}: only tensors of numbers can be read.")
        if len(reference) > 5 and reference[5] is not None:
            raise ModelError("The file has a storage that is a part of another one: save the state_dict with a newer torch.")
        return self.find_storage(kind, key, reference[4])


def _entries(values: list[Any]) -> dict[Any, Any]:
    """Return keys and values in turn as a dictionary; without keys that are containers, whose hash is unbounded recursion."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return {key: value for key, value in pairs if isinstance(key, str | bytes | int | float | None)}


def _tensor(storage: Any, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """Return a tensor. `Tensor.array` compares it with its storage."""
    if not isinstance(storage, Storage) or len(sizes) != len(strides) or len(sizes) > MAX_DIMENSIONS:
        raise ModelError(f"The file is damaged: a tensor of {len(sizes)} sizes and {len(strides)} strides.")
    if any(type(number) is not int or number < 0 for number in (offset, *sizes, *strides)):
        raise ModelError("The file is damaged: a tensor whose sizes are no numbers.")
    return Tensor("torch.Tensor", tuple(sizes), tuple(strides), offset, storage)


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": lambda machine, _: machine.take(1),
    "POP_MARK": lambda machine, _: machine.marked(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_SET": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.take(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.marked())),
    "LIST": lambda machine, _: machine.push(machine.marked()),
    "FROZENSET": lambda machine, _: machine.push(machine.marked()),
    "DICT": lambda machine, _: machine.push(_entries(machine.marked())),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    "APPENDS": lambda machine, _: machine.append(machine.marked()),
    "ADDITEMS": lambda machine, _: machine.append(machine.marked()),
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.marked()),
    "GLOBAL": lambda machine, name: machine.push(_Global(name)),
    "STACK_GLOBAL": lambda machine, _: machine.push(_Global(*machine.take(2))),
    "REDUCE": lambda machine, _: machine.call(*machine.take(2)),
    "NEWOBJ": lambda machine, _: machine.call(*machine.take(2)),
    "NEWOBJ_EX": lambda machine, _: machine.call(*machine.take(3)[:2]),
    "BUILD": lambda machine, _: machine.build(machine.take(1)[0]),
    "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.take(1)[0])),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
} | {
    name: function
    for prefix in ("", "BIN", "LONG_BIN")
    for name, function in (
        (f"{prefix}PUT", lambda machine, index: machine.memo.update({index: machine.stack[-1]})),
        (f"{prefix}GET", lambda machine, index: machine.push(machine.memo[index])),
    )
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = (
    "BININT",
    "INT",
    "LONG",
    "FLOAT",
    "BINFLOAT",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BIN",
    "STRING",
    "BINSTRING",
    "BINBYTES",
)


def read_torch_pickle(path: Path) -> Any:
    """Return what a file of `torch.save`, or of `pickle.dump`, holds. Raises `ModelError` if it is damaged, or no such file."""
    try:
        content = read_whole(path)
        if content.startswith(LEGACY_MAGIC):
            return _read_legacy(content)
        if not zipfile.is_zipfile(path):
            return _Machine(_no_storage).run(io.BytesIO(content))
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive, content)
    except ModelError:
        raise
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except Exception as error:  # of many kinds, for a damaged file
        raise ModelError(f"{path} is damaged, or no pickle ({error!r:.120}).") from error


def _no_storage(kind: str, key: str, count: int) -> Storage:
    raise ModelError("The file is a pickle with a storage in it, and has no storages.")


def _read_archive(path: Path, archive: zipfile.ZipFile, content: bytes) -> Any:
    members = {member.filename: member for member in archive.infolist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    folder = name.removesuffix("data.pkl")
    whole = np.frombuffer(content, np.uint8)
    storages: dict[str, Storage] = {}
    num_bytes = 0

    def bytes_of(member: zipfile.ZipInfo) -> npt.NDArray[np.uint8]:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"{path} is compressed, as torch.save never does: the size of its content is not known.")
        begin = member.header_offset + 30 + sum(struct.unpack_from("<2H", content, member.header_offset + 26))
        return whole[begin : begin + member.file_size]

    def find_storage(kind: str, key: str, count: int) -> Storage:
        nonlocal num_bytes
        if key not in storages:
            storages[key] = _storage(kind, bytes_of(members[f"{folder}data/{key}"]), count)
            num_bytes += storages[key].elements.nbytes
        if num_bytes > len(content):
            raise ModelError(f"{path} is damaged: its storages overlap.")
        return storages[key]

    if folder + "byteorder" in members and bytes_of(members[folder + "byteorder"]).tobytes() == b"big":
        raise ModelError(f"{path} was written on a big-endian machine: save it again on another one.")
    return _Machine(find_storage).run(io.BytesIO(bytes_of(members[name]).tobytes()))


def _read_legacy(content: bytes) -> Any:
    storages: dict[str, tuple[str, Storage]] = {}

    def find_storage(kind: str, key: str, count: int) -> Storage:
        return storages.setdefault(key, (kind, Storage(np.zeros(0))))[1]

    file, whole = io.BytesIO(content), np.frombuffer(content, np.uint8)
    values = [_Machine(find_storage).run(file) for _ in range(5)]  # magic number, version, machine, content, keys
    position = file.tell()
    for key in values[4]:
        kind, storage = storages[key]
        (count,) = struct.unpack_from("<q", content, position)
        filled = _storage(kind, whole[position + 8 :], count)
        storage.elements, storage.is_bfloat16 = filled.elements, filled.is_bfloat16
        position += 8 + filled.elements.nbytes
    return values[3]


def _storage(kind: str, content: npt.NDArray[np.uint8], count: int) -> Storage:
    """Return the first `count` elements in some bytes, without a copy."""
    dtype = np.dtype(ELEMENT_TYPES[kind])
    if type(count) is not int or not 0 <= count * dtype.itemsize <= len(content):
        raise ModelError(f"The file is damaged or cut short: a storage of {count!r:.40} elements has {len(content):,} bytes.")
    return Storage(content[: count * dtype.itemsize].view(dtype), kind == "BFloat16")
