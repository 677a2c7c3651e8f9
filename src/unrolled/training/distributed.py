"""Data-parallel training with several processes: `torchrun --nproc-per-node N -m unrolled train ...`.

DistributedDataParallel averages the gradients: over gloo on CPUs, over NCCL on GPUs. Each process trains on its shard of every
batch, and all of them take the same optimizer step. The main process (rank 0) evaluates, writes all files and prints. Once per
step, all processes agree on the elapsed time, on stop signals and on saving.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.errors import UnrolledError, UsageError
from unrolled.nn.cells import State
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.sequence_model import Network
from unrolled.tables.pair_batching import PairBatch
from unrolled.tables.series_rows import count_targets
from unrolled.text.batching import Batch, BatchSource, StreamBatches

RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""Environment variable: how often torchrun has restarted all processes after one of them was lost."""


class ProcessGroup:
    """The processes that train together, seen from one of them: `rank` of `world_size`, `local_rank` on its machine.

    A single process never imports torch.distributed: every collective then returns its input.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, local_rank: int = 0, local_world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size
        self.local_rank, self.local_world_size = local_rank, local_world_size

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which evaluates, writes files and prints."""
        return self.rank == 0

    @property
    def restarts(self) -> int:
        """How often torchrun has restarted all processes."""
        return int(os.environ.get(RESTARTS, "0")) if self.world_size > 1 else 0

    def all_reduce_sum(self, values: list[float]) -> list[float]:
        """Return the sums of the values of all processes. Every process must call this."""
        if self.world_size == 1:
            return values
        import torch.distributed as dist

        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(number) for number in sums]

    def broadcast_str(self, make: Callable[[], str]) -> str:
        """Call `make` in the main process and return its text in all processes. Every process must call this."""
        if self.world_size == 1:
            return make()
        import torch.distributed as dist

        content = (self._main_process_only(make) or "").encode()
        length = int(self.all_reduce_sum([float(len(content))])[0])
        data = torch.zeros(length, dtype=torch.uint8)
        if self.is_main:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8) if length else data
        dist.broadcast(data, 0)
        return bytes(data.tolist()).decode()

    def main_process_first(self, make: Callable[[], Any]) -> Any:
        """Call `make` in the main process, then in the others: they find on the disk what the main process has written."""
        result = self._main_process_only(make)
        return result if self.is_main else make()

    def _main_process_only(self, make: Callable[[], Any]) -> Any:
        """Return the result of `make` in the main process and None in the others, which wait for it and fail if it fails."""
        result = None
        try:
            result = make() if self.is_main else None
        except UnrolledError:
            self.all_reduce_sum([1.0])
            raise
        if self.all_reduce_sum([0.0])[0]:
            raise UnrolledError("The main process failed; its own message gives the reason.")
        return result

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """Return the rows `(B, ...)` of all processes in rank order.

        If the processes have different numbers of rows, each gets back its own: those rows all start from a zero state.
        """
        if self.world_size == 1:
            return rows
        count, squares = self.all_reduce_sum([float(len(rows)), float(len(rows) ** 2)])
        if squares * self.world_size != count**2:
            return rows
        return self.all_gather(rows)

    def all_gather(self, shard: Tensor) -> Tensor:
        """Return the shards `(N, ...)` of all processes in rank order, bit for bit; all shards must have the same shape."""
        if self.world_size == 1:
            return shard
        import torch.distributed as dist

        gathered = shard.new_empty(self.world_size * len(shard), *shard.shape[1:])
        dist.all_gather(list(_as_bytes(gathered).chunk(self.world_size)), _as_bytes(shard.contiguous()))
        return gathered

    def shard_slice(self, rows: int) -> slice:
        """Return which of `rows` rows (or batch columns) belong to this process."""
        return slice(rows * self.rank // self.world_size, rows * (self.rank + 1) // self.world_size)

    @contextlib.contextmanager
    def lost_process_errors(self) -> Iterator[None]:
        """Raise `UnrolledError` in place of the backend's error when another process has died."""
        try:
            yield
        except RuntimeError as error:
            if self.world_size == 1 or not _is_backend_error(error):
                raise
            raise UnrolledError(
                "Another process of this training was lost, with the steps since the last checkpoint. Go on from there with "
                "--resume, or let torchrun restart lost processes: --max-restarts."
            ) from error

    def close(self) -> None:
        """Leave the process group."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()


SINGLE_PROCESS = ProcessGroup()


def _as_bytes(tensor: Tensor) -> Tensor:
    """Return a tensor's bytes: gloo does not support bfloat16, but it can copy bytes of any dtype."""
    return tensor.view(-1).view(torch.uint8)


def _is_backend_error(error: RuntimeError) -> bool:
    """Return whether gloo or NCCL has failed. For gloo, torch raises a plain RuntimeError with gloo's source file in it."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error)


def join() -> ProcessGroup:
    """Join the processes that torchrun has started; without torchrun, return the group of a single process."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or "RANK" not in os.environ:
        return SINGLE_PROCESS
    import torch.distributed as dist

    if not dist.is_available():
        raise UsageError("This build of torch cannot train with several processes: it has no torch.distributed.")
    from torch.distributed.rendezvous import rendezvous

    environment = os.environ
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, _ = next(rendezvous("env://"))
        # torchrun's store survives a restart, and with it the addresses of processes that no longer exist (torch 2.13): the
        # process that starts first would try to connect to them. A prefix per restart keeps the keys apart.
        prefix = f"attempt-{environment.get(RESTARTS, '0')}"
        fresh = dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]  # documented, but not in torch's __all__
        dist.init_process_group(backend, store=fresh, rank=rank, world_size=world_size)
    if dist.get_rank() != 0:
        logging.getLogger("unrolled").setLevel(logging.ERROR)  # the main process logs for all
    local_rank = int(environment.get("LOCAL_RANK", "0"))
    return ProcessGroup(dist.get_rank(), world_size, local_rank, int(environment.get("LOCAL_WORLD_SIZE", str(world_size))))


class ShardedBatches:
    """This process's shard of every batch. The cursor is that of the whole batch, so any number of processes can resume."""

    def __init__(self, batches: BatchSource, process_group: ProcessGroup) -> None:
        self._batches, self._process_group = batches, process_group
        self.seq_len, self.tokens_per_epoch = batches.seq_len, batches.tokens_per_epoch
        shard = process_group.shard_slice(batches.batch_size)
        self.batch_size = shard.stop - shard.start
        if isinstance(batches, StreamBatches):
            batches.select_columns(shard)

    @property
    def cursor(self) -> dict[str, int]:
        """The position in the data, as `seek` takes it."""
        return self._batches.cursor

    def seek(self, cursor: dict[str, int]) -> None:
        """Continue from a cursor that was read earlier."""
        self._batches.seek(cursor)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            # streams are read one shard at a time already: see `select_columns` above
            yield batch if isinstance(self._batches, StreamBatches) else shard_batch(batch, self._process_group)


def shard_batch(batch: Any, process_group: ProcessGroup) -> Any:
    """Return a process's rows of a batch, weighted so that the mean over the processes is the mean over the batch's targets.

    A process with no rows of its own gets the first row with weight zero, since DistributedDataParallel needs a backward pass.
    """
    shard = process_group.shard_slice(batch.batch_size)
    empty = shard.start == shard.stop
    rows = slice(0, 1) if empty else shard
    if isinstance(batch, Batch):
        resets = None if batch.resets is None else batch.resets[:, rows]
        num_targets = int((batch.targets[:, rows] >= 0).sum())
        part: Any = dataclasses.replace(
            batch, inputs=batch.inputs[:, rows], targets=batch.targets[:, rows], resets=resets, num_targets=num_targets
        )
    elif isinstance(batch, PairBatch):
        target, index = batch.target[:, rows], batch.index[rows]
        numeric = target.ndim == 3
        ends = (batch.num_targets - (0 if numeric else int((batch.target >= 0).sum()))) // batch.batch_size
        num_targets = len(index) if numeric else int((target >= 0).sum()) + ends * len(index)
        resets = batch.resets
        if resets is not None:
            num_targets, resets = count_targets(target), resets[:, rows]
        source = batch.source[:, rows]
        part = dataclasses.replace(
            batch,
            source=source,
            lengths=batch.lengths[rows],
            target=target,
            index=index,
            num_targets=num_targets,
            resets=resets,
            others=tuple((steps[:, rows], lengths[rows]) for steps, lengths in batch.others),
            ngrams=None if batch.ngrams is None else batch.ngrams[:, rows],
        )
    else:
        raise ValueError(f"{type(batch).__name__} cannot be sharded.")
    loss_weight = 0.0 if empty else part.num_targets * process_group.world_size / max(1, batch.num_targets)
    return dataclasses.replace(part, loss_weight=loss_weight, num_targets=0 if empty else part.num_targets)


class _LossModule(nn.Module):
    """A network's loss as the output of a module: DistributedDataParallel wraps a module's `forward`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, tensors: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
        return self.network.loss(tensors, state)


def ddp_loss(network: Network, process_group: ProcessGroup) -> Callable[[Mapping[str, Tensor], State], tuple[Tensor, State]]:
    """Return the network's loss function; with several processes, its backward pass averages the gradients over them."""
    if process_group.world_size == 1:
        return network.loss
    from torch.nn.parallel import DistributedDataParallel

    device = network.device
    return DistributedDataParallel(
        _LossModule(network),
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        broadcast_buffers=False,  # all processes fitted the same
        find_unused_parameters=isinstance(network, EncoderDecoder) and network.has_unused_weights,
    )
