"""Ranks on one machine hand each other numbers through memory that they share.

Over gloo's sockets, the gradients of a small model take a fifth of a step of two processes, and every question of a few numbers
half a millisecond. Here a rank writes into a slot of its own, all meet, and each reads the slots of all. Every rank has two
slots in turn: who comes to the next meeting has read what was there at the last one.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrolled.errors import UnrolledError

HEAD = 1 << 16
"""Bytes before the slots, for each rank's count of meetings and its process."""

LARGEST = 64 << 20
"""Bytes of a slot at most: what is larger is handed over in pieces."""

PATIENCE = 0.5
"""Seconds of waiting after which a rank looks whether the others are still there."""

FOLDERS = (Path("/dev/shm"), None)
"""Where the memory is made: in the first folder that has room; None is the system's for temporary files."""


class Neighbours:
    """Slots of `capacity` bytes for each of `size` ranks in `memory`, which all of them map; `native` is the library."""

    def __init__(self, rank: int, size: int, memory: mmap.mmap, capacity: int, native: Any) -> None:
        self.rank, self.size, self.capacity, self._native = rank, size, capacity, native
        numbers = torch.frombuffer(memory, dtype=torch.int64, count=HEAD // 8)
        self._board, self._processes = numbers[:size], numbers[size : 2 * size]
        self._processes[rank] = os.getpid()
        self._slots = torch.frombuffer(memory, dtype=torch.uint8, offset=HEAD).view(2, size, capacity)
        self._meetings = 0

    def exchange(self, own: Tensor, sent: torch.dtype | None = None) -> list[Tensor]:
        """Return what every rank gave, each as flat numbers of the type `sent`; good until the next but one exchange.

        All ranks must give as many, and no more than a slot holds. What was made in a `place` is there already.
        """
        sent = sent or own.dtype
        slots = self._parts(own.numel(), sent)
        place = slots[self.rank]
        if sent == torch.bfloat16 and own.dtype == torch.float32 and self._native.has_narrow():
            self._native.narrow(own.reshape(-1), place, torch.get_num_threads())
        elif own.data_ptr() != place.data_ptr():
            place.copy_(own.reshape(-1))
        self._meet()
        return slots

    def place(self, count: int, sent: torch.dtype) -> Tensor | None:
        """Return where to make `count` numbers that are to be exchanged next; None if they are more than a slot holds."""
        return self._parts(count, sent)[self.rank] if count * sent.itemsize <= self.capacity else None

    def _parts(self, count: int, sent: torch.dtype) -> list[Tensor]:
        """Return every rank's slot of this turn, as `count` numbers."""
        return [slot[: count * sent.itemsize].view(sent) for slot in self._slots[self._meetings % 2]]

    def mean(self, own: Tensor, sent: torch.dtype) -> None:
        """Make `own`, `(N,)` float32, the mean over all ranks, bit for bit the same on each; numbers travel as `sent`."""
        for piece in torch.split(own, self.capacity // sent.itemsize):
            self._native.mean(self.exchange(piece, sent), piece, torch.get_num_threads())

    def gather(self, own: Tensor) -> Tensor:
        """Return every rank's `(N, ...)` one after the other; all must have as many."""
        whole = own.new_empty(self.size, *own.shape)
        into, pieces = whole.view(self.size, -1), torch.split(own.reshape(-1), self.capacity // own.element_size())
        first = 0
        for piece in pieces:
            for part, given in zip(into, self.exchange(piece), strict=True):
                part[first : first + len(piece)].copy_(given)
            first += len(piece)
        return whole.flatten(0, 1)

    def total(self, values: list[float]) -> list[float]:
        """Return the sums of every rank's values, added up in the order of the ranks."""
        given = [part.tolist() for part in self.exchange(torch.tensor(values, dtype=torch.float64))]
        return [sum(parts) for parts in zip(*given, strict=True)]

    def _meet(self) -> None:
        """Wait for all ranks; raise `UnrolledError` if one is gone."""
        self._meetings += 1
        while not self._native.meet(self._board, self.rank, self._meetings, PATIENCE):
            for rank, process in enumerate(self._processes.tolist()):
                if not _lives(process):
                    raise UnrolledError(
                        f"Rank {rank} is gone, and what it had learned since the last checkpoint. Go on from there with "
                        "--resume, or let torchrun start lost ranks anew: --max-restarts."
                    )


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def introduce(
    rank: int,
    size: int,
    wanted: int,
    native: Any,
    share: Callable[[Callable[[], str]], str],
    total: Callable[[list[float]], list[float]],
) -> Neighbours | None:
    """Return the ranks of this machine as neighbours with slots for `wanted` bytes; None if the memory cannot be had.

    All ranks must ask; `share` and `total` are how they speak with each other until then. The memory has no name once all
    have it, so that it goes with the last of them, however they end.
    """
    capacity = -(-min(max(wanted, 1 << 16), LARGEST) // 4096) * 4096
    length = HEAD + 2 * size * capacity
    name = share(lambda: _fresh(length))
    memory: mmap.mmap | None = None
    try:
        if name:
            with open(name, "r+b") as file:
                memory = mmap.mmap(file.fileno(), length)
    except (OSError, ValueError):
        memory = None
    neighbours = Neighbours(rank, size, memory, capacity, native) if memory is not None else None
    together = total([float(neighbours is not None)])[0] == size
    if rank == 0 and name:
        os.unlink(name)
    return neighbours if together else None


def _fresh(length: int) -> str:
    """Return the name of a new file of so many bytes that are really there, in memory if possible; none without room."""
    for folder in FOLDERS:
        try:
            descriptor, name = tempfile.mkstemp(prefix="unrolled-ranks-", dir=folder)
        except OSError:
            continue
        try:
            os.posix_fallocate(descriptor, 0, length)
            return name
        except (OSError, AttributeError):
            os.unlink(name)
        finally:
            os.close(descriptor)
    return ""
