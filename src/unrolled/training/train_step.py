"""One training step: forward, backward, clip, update. All that a step changes lives here."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from unrolled.errors import ModelError, is_out_of_memory
from unrolled.nn.cells import State, map_state, state_tensors
from unrolled.nn.device import Machine
from unrolled.nn.sequence_model import Network
from unrolled.options import TrainingOptions
from unrolled.text.batching import AnyBatch
from unrolled.training.distributed import SINGLE_PROCESS, ProcessGroup, ddp_loss, shard_batch
from unrolled.training.optim import clip_gradient, make_optimizer

APART = 15_485_863
"""Distance between the dropout seeds of two processes: their masks must differ."""


class Learner:
    """A model, its optimiser, and the state carried from one chunk of `batch` lanes to the next.

    With several processes, `batch` is this process's number of lanes. A batch for which there is not enough memory is learned
    from in `splits` parts, whose gradients are added up: the same step, a little slower.
    """

    def __init__(
        self,
        model: Network,
        machine: Machine,
        options: TrainingOptions,
        batch: int,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.model, self.machine, self.options = model, machine, options
        self.process_group = process_group
        self._loss = ddp_loss(model, process_group)
        self.optimizer = make_optimizer(model, options, process_group)
        self.carried: State = model.initial_state(batch)
        self.splits = 1

    def step(self, batch: AnyBatch, rate: float, seed: int) -> tuple[Tensor, Tensor]:
        """Learn from one batch at the learning rate `rate`; return its loss in nats a symbol and the gradient's length.

        `seed` is that of the dropout masks: the same seed, batch and state make the same step.
        """
        before = self._partly_reset(seed) if batch.carried else self.model.initial_state(batch.rows)
        while True:
            self.model.seed_dropout(seed + self.process_group.rank * APART)
            self.optimizer.zero_grad()
            try:
                loss, after = self._gradients(batch, before)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self.process_group.world_size > 1 or self.splits >= batch.rows:
                    raise
                self.splits *= 2
        norm, scale = clip_gradient(self.optimizer.weights.values(), self.options)
        self.optimizer.step(rate, scale)
        self.carried = after
        return loss, norm

    def _gradients(self, batch: AnyBatch, before: State) -> tuple[Tensor, State]:
        """Add the gradients of a batch to the weights'; return its loss, and the state after it, both detached."""
        if self.splits == 1:
            return self._part(batch, before)
        losses, states = [], []
        for index in range(self.splits):
            part = ProcessGroup(index, self.splits)
            rows = part.shard_slice(batch.rows)
            if rows.start < rows.stop:
                own = shard_batch(batch, part)
                own = dataclasses.replace(own, weight=own.weight / self.splits)
                loss, after = self._part(own, map_state(lambda s, rows=rows: s[rows], before))
                losses.append(loss * own.weight)
                states.append(after)
        return torch.stack(losses).sum(), map_state(lambda *parts: torch.cat(parts), states[0], *states[1:])

    def _part(self, batch: AnyBatch, before: State) -> tuple[Tensor, State]:
        device = self.machine.device
        tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.arrays().items()}
        with self.machine.autocast():
            loss, state = self._loss(tensors, before)
        weighted = loss if batch.weight == 1 else loss * batch.weight
        weighted.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach(), map_state(Tensor.detach, state)

    def _partly_reset(self, seed: int) -> State:
        """Return the carried state, zero in a few lanes, so that the network also learns to begin, as sampling must."""
        share = self.options.reset_probability
        if share == 0:
            return self.carried
        lanes = len(state_tensors(self.carried)[0]) * self.process_group.world_size
        kept = torch.rand(lanes, 1, generator=torch.Generator().manual_seed(seed)) >= share
        kept = kept[self.process_group.shard_slice(lanes)].to(self.machine.device)
        return map_state(lambda s: s * kept, self.carried)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return what a step changes except the weights: the optimizer state and the carried state, of all processes."""
        tensors = {f"optimiser/{name}": value for name, value in self.optimizer.to_tensors().items()}
        # copies, since h and c may be one tensor of zeros
        carried = [self.process_group.all_gather_rows(tensor).clone() for tensor in state_tensors(self.carried)]
        return tensors | {f"carried/{index}": tensor for index, tensor in enumerate(carried)}

    def from_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `to_tensors` gave; raise `ModelError` if it is not that of this model and optimiser."""
        prefix = "optimiser/"
        self.optimizer.from_tensors({n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)})
        try:
            carried = iter([tensors[f"carried/{index}"] for index in range(len(state_tensors(self.carried)))])
        except KeyError as error:
            raise ModelError(f"The checkpoint lacks the state that this model carries: {error}.") from error
        self.carried = map_state(lambda s: self._own(next(carried)).to(s.device), self.carried)

    def _own(self, carried: Tensor) -> Tensor:
        """Return this process's rows of the carried state `(B, H)` of all processes."""
        return carried[self.process_group.shard_slice(len(carried))]
