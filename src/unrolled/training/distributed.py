"""Several processes that train one model: `torchrun --nproc-per-node N -m unrolled train ...`.

The work is torch's own: DistributedDataParallel averages the gradients while they are made (gloo between processors, NCCL
between GPUs). What is here is who does what: each rank owns some lanes of the stream, or some rows of a batch; all take the
same steps at the same rates; the first one looks, writes and talks; and all agree, once a step, on time, stops and saves.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.data.batches import Batch, Batches, Lanes
from unrolled.data.pairs import PairBatch
from unrolled.errors import UnrolledError, UsageError
from unrolled.nn.cells import State
from unrolled.nn.kernels.library import library
from unrolled.nn.network import Network
from unrolled.training.neighbours import Neighbours, introduce

RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""How often torchrun has started all ranks anew because one of them was lost."""


BUCKET = 128
"""Megabytes of gradients that neighbours average at once: all of them, unless the model is large."""


class Ranks:
    """This process among those that train together: `rank` of `size`, `local` among those of its machine.

    One alone needs nothing of torch.distributed, and everything here is then what it was.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0, on_machine: int = 1) -> None:
        self.rank, self.size, self.local, self.on_machine = rank, size, local, on_machine
        self.neighbours: Neighbours | None = None

    @property
    def first(self) -> bool:
        """Whether this is the one that looks, writes and talks."""
        return self.rank == 0

    def introduce(self, wanted: int) -> None:
        """Let ranks that all share one machine's processor speak through its memory, `wanted` bytes at once; all must ask."""
        native = library()
        alike = self.size == self.on_machine > 1 and native is not None and not torch.cuda.is_available()
        if self.neighbours is None and alike:
            self.neighbours = introduce(self.rank, self.size, wanted, native, self.share, self.total)

    @property
    def restarts(self) -> int:
        """How often all ranks were started anew."""
        return int(os.environ.get(RESTARTS, "0")) if self.size > 1 else 0

    def total(self, values: list[float]) -> list[float]:
        """Return the sums of every rank's values; all ranks must ask."""
        if self.size == 1:
            return values
        if self.neighbours is not None:
            return self.neighbours.total(values)
        import torch.distributed as group

        numbers = torch.tensor(values, dtype=torch.float64)
        group.all_reduce(numbers)
        return [float(number) for number in numbers]

    def share(self, make: Callable[[], str]) -> str:
        """Return the text that the first rank makes; the others wait for it."""
        if self.size == 1:
            return make()
        import torch.distributed as group

        content = (self._by_first(make) or "").encode()
        length = int(self.total([float(len(content))])[0])
        letters = torch.zeros(length, dtype=torch.uint8)
        if self.first:
            letters = torch.frombuffer(bytearray(content), dtype=torch.uint8) if length else letters
        group.broadcast(letters, 0)
        return bytes(letters.tolist()).decode()

    def in_turn(self, make: Callable[[], Any]) -> Any:
        """Make something on the first rank, then on the others: what it leaves on the disk is there for them."""
        made = self._by_first(make)
        return made if self.first else make()

    def _by_first(self, make: Callable[[], Any]) -> Any:
        """Return what the first rank makes, None on the others, which leave in a word if it cannot; all of them wait for it."""
        made = None
        try:
            made = make() if self.first else None
        except UnrolledError:
            self.total([1.0])
            raise
        if self.total([0.0])[0]:
            raise UnrolledError("The first rank could not go on, and says why.")
        return made

    def lanes(self, own: Tensor) -> Tensor:
        """Return every rank's `(B, ...)` one after the other; own alone where they have not as many: rows, from zero each."""
        if self.size == 1:
            return own
        count, squares = self.total([float(len(own)), float(len(own) ** 2)])
        if squares * self.size != count**2:
            return own
        return self.gather(own)

    def gather(self, own: Tensor) -> Tensor:
        """Return every rank's `(N, ...)` one after the other, bit for bit; all must have as many."""
        if self.size == 1:
            return own
        if self.neighbours is not None:
            return self.neighbours.gather(own)
        import torch.distributed as group

        whole = own.new_empty(self.size * len(own), *own.shape[1:])
        group.all_gather(list(_as_bytes(whole).chunk(self.size)), _as_bytes(own.contiguous()))
        return whole

    def place(self, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        """Return memory for numbers that `parts` is to hand over next."""
        found = self.neighbours.place(math.prod(shape), kind) if self.neighbours is not None else None
        return torch.empty(shape, dtype=kind) if found is None else found.view(shape)

    def parts(self, own: Tensor) -> list[Tensor]:
        """Return every rank's numbers, in some pieces one after the other; all must have as many.

        What neighbours return is good until they have spoken with each other twice more.
        """
        if self.neighbours is not None and own.nbytes <= self.neighbours.capacity:
            return self.neighbours.exchange(own)
        return [self.gather(own)]

    def own(self, lanes: int) -> slice:
        """Return this rank's part of so many lanes or rows."""
        return slice(lanes * self.rank // self.size, lanes * (self.rank + 1) // self.size)

    def close(self) -> None:
        """Leave the others."""
        if self.size > 1:
            import torch.distributed as group

            self.neighbours = None
            group.destroy_process_group()


ALONE = Ranks()


def _as_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor: gloo knows no bfloat16, and need not know what it carries."""
    return tensor.view(-1).view(torch.uint8)


def join() -> Ranks:
    """Join the processes that torchrun started, or return the one that is alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return ALONE
    import torch.distributed as group

    if not group.is_available():
        raise UsageError("This build of torch cannot train with several processes: it has no torch.distributed.")
    from torch.distributed.rendezvous import rendezvous

    environment = os.environ
    if not group.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, _ = next(rendezvous("env://"))
        # torchrun's store outlives a restart, and with it the addresses of processes that are gone (torch 2.13): a rank that
        # starts first would call on the dead. So every attempt has names of its own.
        prefix = f"attempt-{environment.get(RESTARTS, '0')}"
        fresh = group.PrefixStore(prefix, store)  # type: ignore[attr-defined]  # documented, and not in its list of names
        group.init_process_group(backend, store=fresh, rank=rank, world_size=size)
    return Ranks(
        group.get_rank(), size, int(environment.get("LOCAL_RANK", "0")), int(environment.get("LOCAL_WORLD_SIZE", str(size)))
    )


class OwnBatches:
    """This rank's part of every batch; the cursor is that of the whole, so that any number of ranks can go on from it."""

    def __init__(self, batches: Batches, ranks: Ranks) -> None:
        self._batches, self._ranks = batches, ranks
        self.steps, self.symbols = batches.steps, batches.symbols
        own = ranks.own(batches.batch)
        self.batch = own.stop - own.start
        if isinstance(batches, Lanes):
            batches.keep(own)

    @property
    def cursor(self) -> dict[str, int]:
        """What `seek` needs to go on from here."""
        return self._batches.cursor

    def seek(self, cursor: dict[str, int]) -> None:
        """Go on from a cursor that was read earlier."""
        self._batches.seek(cursor)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            yield batch if isinstance(self._batches, Lanes) else part_of(batch, self._ranks)


def part_of(batch: Any, ranks: Ranks) -> Any:
    """Return a rank's rows of a batch, weighted so that the mean over ranks is the mean over the batch's targets.

    A rank for which no row is left learns from the first one, with no weight.
    """
    own = ranks.own(batch.rows)
    empty = own.start == own.stop
    rows = slice(0, 1) if empty else own
    if isinstance(batch, Batch):
        resets = None if batch.resets is None else batch.resets[:, rows]
        symbols = int((batch.targets[:, rows] >= 0).sum())
        part: Any = dataclasses.replace(
            batch, inputs=batch.inputs[:, rows], targets=batch.targets[:, rows], resets=resets, symbols=symbols
        )
    elif isinstance(batch, PairBatch):
        target, index = batch.target[:, rows], batch.index[rows]
        numbers = target.ndim == 3
        ends = (batch.symbols - (0 if numbers else int((batch.target >= 0).sum()))) // batch.rows
        symbols = len(index) if numbers else int((target >= 0).sum()) + ends * len(index)
        source = batch.source[:, rows]
        part = dataclasses.replace(
            batch, source=source, lengths=batch.lengths[rows], target=target, index=index, symbols=symbols
        )
    else:
        raise ValueError(f"No part can be taken of {type(batch).__name__}.")
    weight = 0.0 if empty else part.symbols * ranks.size / max(1, batch.symbols)
    return dataclasses.replace(part, weight=weight, symbols=0 if empty else part.symbols)


class _Loss(nn.Module):
    """The loss of a network as a module's output, which is what DistributedDataParallel watches."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, tensors: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
        return self.network.loss(tensors, state)


def shared_loss(
    network: Network, ranks: Ranks, sent: torch.dtype = torch.float32
) -> Callable[[Mapping[str, Tensor], State], tuple[Tensor, State]]:
    """Return the loss of a network; among several ranks, one whose gradients are averaged over them.

    That happens while the backward pass still runs, but for neighbours on one processor: their exchange is work for the same
    cores. They do it at once, in numbers of the kind `sent`.
    """
    if ranks.size == 1:
        return network.loss
    from torch.nn.parallel import DistributedDataParallel

    device = network.device
    ranks.introduce(sum(weight.numel() for weight in network.parameters()) * sent.itemsize)
    shared = DistributedDataParallel(
        _Loss(network),
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        bucket_cap_mb=BUCKET if ranks.neighbours else None,
    )
    if ranks.neighbours:
        # torch wants the hook's types themselves where it has any, and in this file they are strings
        shared.register_comm_hook(ranks.neighbours, lambda near, bucket: _averaged(bucket.buffer(), near, sent))
    return shared


def _averaged(gradients: Tensor, neighbours: Neighbours, sent: torch.dtype) -> torch.futures.Future[Tensor]:
    """Average the gradients over the ranks, and return them as what torch's hooks return."""
    neighbours.mean(gradients, sent)
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(gradients)
    return done
