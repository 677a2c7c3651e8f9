"""Reader of files of Torch7 (`torch.save` in Lua), in its binary form.

Only data is read: numbers, texts, tables and tensors. A Lua function in a file is skipped and stands as `LUA_FUNCTION`; an
object of any class is a `TorchObject` with its fields, and no code of a class is run. All lengths are compared with what is
left of the file, tensors are views of the bytes of the file, and the number of values is bounded, so memory grows with the
size of the file only. Objects are read with an explicit stack, so that deep nesting does not reach Python's recursion limit.
Cyclic references are allowed, as in Torch.

The layout, all numbers little-endian: a value is an `int32` type, then a number (`float64`), a string (`int32` length, bytes),
a boolean (`int32`), or for tables, objects and functions an `int32` index, by which later values refer to the same object, and
its content. Source: `File.lua`, `generic/Tensor.c` and `generic/Storage.c` of torch/torch7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.atomic_io import storage_error
from unrolled.errors import ModelError

NIL, NUMBER, STRING, TABLE, OBJECT, BOOLEAN, FUNCTION, OLD_CLOSURE, CLOSURE = range(9)
MAX_VALUES = 5_000_000
"""Values in a file beyond which it is not read: a checkpoint of a long training has some 100,000 losses."""

MAX_FILE_BYTES = 4 << 30
MAX_DIMENSIONS = 16
MAX_READS = 16
"""How often the elements of a storage may be read: tensors that share them are small in a file, and their arrays are not."""

ELEMENT_TYPES = {
    "Double": "<f8", "Float": "<f4", "Cuda": "<f4", "CudaDouble": "<f8", "CudaHalf": "<f2", "Half": "<f2", "Cl": "<f4",
    "Long": "<i8", "CudaLong": "<i8", "Int": "<i4", "CudaInt": "<i4", "Short": "<i2", "CudaShort": "<i2", "Char": "<i1",
    "CudaChar": "<i1", "Byte": "<u1", "CudaByte": "<u1",
}  # fmt: skip
"""The numpy type of the elements of `torch.NAMETensor` and `torch.NAMEStorage`."""


class _LuaFunction:
    """Stands for a Lua function, whose code is not kept."""


LUA_FUNCTION = _LuaFunction()


@dataclass(eq=False)
class Table:
    """A Lua table. Keys are numbers, bytes, booleans or objects; an object is a key by its identity."""

    entries: dict[Any, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """Return the value of a text key, or None."""
        return self.entries.get(name.encode())

    def sequence(self) -> list[Any]:
        """Return the values of the keys 1, 2, 3 ... up to the first that is missing."""
        values: list[Any] = []
        while (value := self.entries.get(float(len(values) + 1))) is not None:
            values.append(value)
        return values


@dataclass(eq=False)
class TorchObject:
    """An object of a Torch class, such as `nn.Linear`; `value` is what was written for it, mostly a table of its fields."""

    class_name: str
    value: Any = None

    def get(self, name: str) -> Any:
        """Return a field, or None."""
        return self.value.get(name) if isinstance(self.value, Table) else None


@dataclass(eq=False)
class Storage:
    """The elements that tensors share: a view of the bytes of the file. Those of bfloat16 are integers of 16 bits."""

    elements: npt.NDArray[Any]
    is_bfloat16: bool = False
    num_read: int = 0


@dataclass(eq=False)
class Tensor:
    """A tensor: sizes, strides and an offset into a storage."""

    class_name: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: Storage | None = None

    def array(self) -> npt.NDArray[np.float32]:
        """Return the elements as float32. Raises `ModelError` if they are not all within the storage."""
        storage = self.storage or Storage(np.zeros(0))
        elements = storage.elements
        count = 1
        for size in self.sizes:
            count *= size
        if not self.sizes or count == 0:
            return np.zeros(self.sizes or (0,), np.float32)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.sizes, self.strides, strict=True))
        if self.offset < 0 or min(self.strides) < 0 or last >= len(elements) or count > len(elements):
            raise ModelError(
                f"The file is damaged: a tensor of {self.sizes} does not fit its storage of {len(elements)} elements."
            )
        storage.num_read += count
        if storage.num_read > MAX_READS * len(elements):
            raise ModelError(f"The file is damaged: more than {MAX_READS} of its tensors are the same part of it.")
        strides = [stride * elements.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(elements[self.offset :], self.sizes, strides, writeable=False)
        if storage.is_bfloat16:
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view.astype(np.float32, copy=False)


@dataclass
class _Frame:
    """A table, object or tensor of which `remaining` values are still to be read; `key` waits for its value."""

    target: Table | TorchObject | Tensor | None
    remaining: int
    has_key: bool = False
    key: Any = None

    def add(self, value: Any) -> None:
        self.remaining -= 1
        if isinstance(self.target, Table):
            if not self.has_key:
                self.has_key, self.key = True, value
                return
            if self.key is not None and self.key == self.key:
                self.target.entries[self.key] = value
            self.has_key, self.key = False, None
        elif isinstance(self.target, TorchObject):
            self.target.value = value
        elif isinstance(self.target, Tensor):
            if value is not None and not isinstance(value, Storage):
                raise ModelError("The file is damaged: a tensor without a storage.")
            self.target.storage = value


class _Reader:
    """Reads one value, with everything in it, from the bytes of a file."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position, self.num_values = content, 0, 0
        self.objects: dict[int, Any] = {}

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; a `ModelError` if there are fewer."""
        if not 0 <= size <= len(self.content) - self.position:
            raise ModelError(
                f"The file is damaged or cut short: {size:,} bytes are announced at byte {self.position:,}, and "
                f"{len(self.content) - self.position:,} are left."
            )
        self.position += size
        return self.content[self.position - size : self.position]

    def integers(self, count: int, size: int = 4) -> tuple[int, ...]:
        """Return the next `count` signed integers of `size` bytes."""
        return struct.unpack(f"<{count}{'i' if size == 4 else 'q'}", self.take(count * size))

    def string(self) -> bytes:
        """Return the next string."""
        return self.take(self.integers(1)[0])

    def read(self) -> Any:
        """Return the value at the beginning of the file."""
        result: list[Any] = []
        frames: list[_Frame] = []
        while True:
            value, frame = self._begin()
            if frame is not None:
                frames.append(frame)
            else:
                self._deliver(value, frames, result)
            while frames and frames[-1].remaining == 0:
                finished = frames.pop().target
                self._deliver(LUA_FUNCTION if finished is None else finished, frames, result)
            if not frames:
                return result[0]

    @staticmethod
    def _deliver(value: Any, frames: list[_Frame], result: list[Any]) -> None:
        frames[-1].add(value) if frames else result.append(value)

    def _begin(self) -> tuple[Any, _Frame | None]:
        """Read the next value; return it, or the frame of one that holds further values."""
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            raise ModelError(f"The file has more than {MAX_VALUES:,} values, more than a checkpoint of a text model can have.")
        kind = self.integers(1)[0]
        if kind == NIL:
            return None, None
        if kind == NUMBER:
            return struct.unpack("<d", self.take(8))[0], None
        if kind == STRING:
            return self.string(), None
        if kind == BOOLEAN:
            return self.integers(1)[0] == 1, None
        if kind == FUNCTION:
            self.string()
            return None, _Frame(None, 1)
        if kind not in (TABLE, OBJECT, OLD_CLOSURE, CLOSURE):
            raise ModelError(
                f"The file is damaged, or no binary file of Torch7: a value of type {kind} at byte {self.position - 4:,}."
            )
        index = self.integers(1)[0]
        if index in self.objects:
            return self.objects[index], None
        return self._begin_object(kind, index)

    def _begin_object(self, kind: int, index: int) -> tuple[Any, _Frame | None]:
        if kind == TABLE:
            size = self.integers(1)[0]
            if not 0 <= 8 * size <= len(self.content) - self.position:  # an entry is at least two types
                raise ModelError(
                    f"The file is damaged: a table of {size:,} entries at byte {self.position:,} is longer than the file."
                )
            self.objects[index] = table = Table()
            return None, _Frame(table, 2 * size)
        if kind in (OLD_CLOSURE, CLOSURE):
            self.string()
            self.objects[index] = LUA_FUNCTION
            return None, _Frame(None, 1)
        version = self.string()
        name = (self.string() if version.startswith(b"V ") else version).decode("ascii", "replace")
        package, _, element = name.partition(".")
        if package == "torch" and element.removesuffix("Storage") in ELEMENT_TYPES and element.endswith("Storage"):
            self.objects[index] = storage = self._storage(ELEMENT_TYPES[element.removesuffix("Storage")])
            return storage, None
        if package == "torch" and element.removesuffix("Tensor") in ELEMENT_TYPES and element.endswith("Tensor"):
            self.objects[index] = tensor = self._tensor_header(name)
            return None, _Frame(tensor, 1)
        self.objects[index] = thing = TorchObject(name)
        return None, _Frame(thing, 1)

    def _storage(self, element_type: str) -> Storage:
        dtype = np.dtype(element_type)
        (count,) = self.integers(1, 8)
        if not 0 <= count * dtype.itemsize <= len(self.content) - self.position:
            raise ModelError(
                f"The file is damaged or cut short: a storage of {count:,} elements at byte {self.position:,} is longer "
                "than the file."
            )
        elements = np.frombuffer(self.content, dtype, count, self.position)
        self.position += count * dtype.itemsize
        return Storage(elements)

    def _tensor_header(self, name: str) -> Tensor:
        (dimensions,) = self.integers(1)
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise ModelError(f"The file is damaged: a tensor of {dimensions} dimensions at byte {self.position:,}.")
        sizes, strides = self.integers(dimensions, 8), self.integers(dimensions, 8)
        if any(size < 0 for size in sizes):
            raise ModelError(f"The file is damaged: a tensor of size {sizes} at byte {self.position:,}.")
        return Tensor(name, sizes, strides, self.integers(1, 8)[0] - 1)


def is_torch7(head: bytes) -> bool:
    """Return whether a file that begins with these bytes looks like one of Torch7: a table or an object with index 1."""
    return head[:8] in (struct.pack("<2i", TABLE, 1), struct.pack("<2i", OBJECT, 1)) or head[:4] in (b"3\n1\n", b"4\n1\n")


def read_whole(path: Path) -> bytes:
    """Return the bytes of a checkpoint. Raises `ModelError` if it is too large, `StorageError` if it cannot be read."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path} is larger than {MAX_FILE_BYTES >> 30} GiB, more than a checkpoint of a text model has.")
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error, path, "read") from error


def read_torch7(path: Path) -> Any:
    """Return the value that a file of Torch7 holds. Raises `ModelError` if it is damaged or not in the binary form."""
    content = read_whole(path)
    if content[:2] in (b"3\n", b"4\n"):
        raise ModelError(f"{path} is in the ASCII form of Torch7: in Torch, torch.save it again in the binary form.")
    return _Reader(content).read()


def modules_within(root: Any) -> Iterator[TorchObject]:
    """Yield every object within a value once, however it is nested."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or not isinstance(value, Table | TorchObject):
            continue
        seen.add(id(value))
        if isinstance(value, TorchObject):
            yield value
            waiting.append(value.value)
        else:
            waiting += [*value.entries, *value.entries.values()]
