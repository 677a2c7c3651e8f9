"""One training step: forward, backward, clip, update. All that a step changes lives here."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from unrolled.errors import ModelError, is_out_of_memory
from unrolled.nn.cells import State, keep_rows, map_state, state_tensors
from unrolled.nn.device import DeviceConfig
from unrolled.nn.sequence_model import Network
from unrolled.options import TrainingOptions
from unrolled.text.batching import AnyBatch
from unrolled.training.distributed import SINGLE_PROCESS, ProcessGroup, ddp_loss, shard_batch
from unrolled.training.optim import clip_gradient, make_optimizer

RANK_SEED_STRIDE = 15_485_863
"""Distance between the dropout seeds of two processes: their masks must differ."""


class TrainStep:
    """A model, its optimizer, and the recurrent state carried from one batch to the next.

    `batch_size` is the number of batch columns of this process. If memory is short, a batch is split into `micro_batches`, and
    their gradients are added: the same step, a little slower.
    """

    def __init__(
        self,
        model: Network,
        machine: DeviceConfig,
        options: TrainingOptions,
        batch_size: int,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.model, self.machine, self.options = model, machine, options
        self.process_group = process_group
        self._loss = ddp_loss(model, process_group)
        self.optimizer = make_optimizer(model, options, process_group)
        self.carried_state: State = model.initial_state(batch_size)
        self.micro_batches = 1

    def step(self, batch: AnyBatch, lr: float, seed: int) -> tuple[Tensor, Tensor]:
        """Train on one batch; return its loss in nats per token and the norm of the gradient.

        `seed` determines the dropout masks: the same seed, batch and state give the same step.
        """
        state = self._randomly_reset_state(seed) if batch.carry_state else self.model.initial_state(batch.batch_size)
        while True:
            self.model.seed_dropout(seed + self.process_group.rank * RANK_SEED_STRIDE)
            self.optimizer.zero_grad()
            try:
                loss, final_state = self._accumulate_gradients(batch, state)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self.process_group.world_size > 1 or self.micro_batches >= batch.batch_size:
                    raise
                self.micro_batches *= 2
        norm, scale = clip_gradient(self.optimizer.weights.values(), self.options)
        self.optimizer.step(lr, scale)
        self.carried_state = final_state
        return loss, norm

    def _accumulate_gradients(self, batch: AnyBatch, state: State) -> tuple[Tensor, State]:
        """Add the gradients of a batch to those of the weights; return its loss and the final state, both detached."""
        if self.micro_batches == 1:
            return self._forward_backward(batch, state)
        losses, states = [], []
        for index in range(self.micro_batches):
            shard = ProcessGroup(index, self.micro_batches)
            rows = shard.shard_slice(batch.batch_size)
            if rows.start < rows.stop:
                micro_batch = shard_batch(batch, shard)
                micro_batch = dataclasses.replace(micro_batch, loss_weight=micro_batch.loss_weight / self.micro_batches)
                loss, final_state = self._forward_backward(micro_batch, map_state(lambda s, rows=rows: s[rows], state))
                losses.append(loss * micro_batch.loss_weight)
                states.append(final_state)
        return torch.stack(losses).sum(), map_state(lambda *parts: torch.cat(parts), states[0], *states[1:])

    def _forward_backward(self, batch: AnyBatch, state: State) -> tuple[Tensor, State]:
        device = self.machine.device
        tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.arrays().items()}
        with self.machine.autocast():
            loss, final_state = self._loss(tensors, state)
        weighted = loss if batch.loss_weight == 1 else loss * batch.loss_weight
        weighted.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach(), map_state(Tensor.detach, final_state)

    def _randomly_reset_state(self, seed: int) -> State:
        """Return the carried state with random batch columns set to zero: sampling starts from zero, so train that too."""
        reset_prob = self.options.state_reset_prob
        if reset_prob == 0:
            return self.carried_state
        total_rows = len(state_tensors(self.carried_state)[0]) * self.process_group.world_size
        keep_mask = torch.rand(total_rows, generator=torch.Generator().manual_seed(seed)) >= reset_prob
        keep_mask = keep_mask[self.process_group.shard_slice(total_rows)].to(self.machine.device)
        return keep_rows(self.carried_state, keep_mask)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a step changes except the weights: the optimizer state and the carried state, of all processes."""
        tensors = {f"optimizer/{name}": value for name, value in self.optimizer.to_tensors().items()}
        # copies, since h and c may be one tensor of zeros
        carried = [self.process_group.all_gather_rows(tensor).clone() for tensor in state_tensors(self.carried_state)]
        return tensors | {f"state/{index}": tensor for index, tensor in enumerate(carried)}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Load what `state_dict` returned; raise `ModelError` if it is not of this model and optimizer."""
        prefix = "optimizer/"
        self.optimizer.from_tensors({n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)})
        try:
            carried = iter([tensors[f"state/{index}"] for index in range(len(state_tensors(self.carried_state)))])
        except KeyError as error:
            raise ModelError(f"The checkpoint lacks the state that this model carries, {error}: start a new run.") from error
        self.carried_state = map_state(lambda s: self._local_rows(next(carried)).to(s.device), self.carried_state)

    def _local_rows(self, carried: Tensor) -> Tensor:
        """Return this process's rows of the carried state `(B, H)` of all processes."""
        return carried[self.process_group.shard_slice(len(carried))]
