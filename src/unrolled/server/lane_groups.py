"""Blocks of tokens for many samples of one model at once. Samples join and leave between blocks.

What a sample draws does not depend on the others: the result of a row does not depend on the other rows of a step, its random
numbers are keyed by its seed and position, and each row has its own temperature, top-k, top-p and min-p. Samples with other
clamps, or with log-probabilities where others have none, are another group, which takes turns with the first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unrolled.generation.sampling import REFERENCE_BATCH, sample_token
from unrolled.runtime.language_model import PROMPT_CHUNK_TOKENS, Floats, State
from unrolled.runtime.native_decoder import NativeDecoder, Precision
from unrolled.runtime.numpy_model import NumpyModel
from unrolled.runtime.text_network import TextNetwork
from unrolled.server.lanes import Filters, Lane, RowState, log_softmax, token_infos
from unrolled.server.limits import MAX_LANES


def zero_state(network: TextNetwork) -> RowState:
    """Return the state before the first token."""
    zero = np.zeros(network.hidden_size, np.float32)
    return [(zero,) * len(network.state_names)] * len(network.layers)


def stack_rows(states: list[RowState]) -> State:
    """Return the states of B samples as one of B rows."""
    return tuple(tuple(map(np.stack, zip(*rows, strict=True))) for rows in zip(*states, strict=True))


def take_row(state: State, row: int) -> RowState:
    """Return the state of one row."""
    return [tuple(part[row] for part in layer) for layer in state]


class NativeReader:
    """Reads up to `max_rows` prompts together with the native decoder."""

    piece_tokens = 512
    """Tokens of all prompts that are read before samples have their turn."""

    def __init__(self, network: TextNetwork, precision: Precision, max_rows: int = 1) -> None:
        self.max_rows = max_rows
        self._decoder = NativeDecoder(network, max_rows, precision)

    def read_pieces(self, states: list[RowState], ids: npt.NDArray[np.int64], filters: Filters) -> list[RowState]:
        """Read some ids of B prompts `(T, B)`, each from its state; return the states after them."""
        rows = len(states)
        self._decoder.threads = self._decoder.threads_for(rows)
        self._decoder.state = stack_rows(states)
        self._decoder.read(ids)
        state = self._decoder.first_states(rows)
        return [take_row(state, row) for row in range(rows)]


class NativeSampler(NativeReader):
    """The native decoder of a model, shared by its groups; each puts its samples into the rows when it is its turn."""

    def __init__(self, network: TextNetwork, precision: Precision, token_strings: list[str]) -> None:
        super().__init__(network, precision, MAX_LANES)
        self.token_strings = token_strings
        self._batch = NativeDecoder(network, MAX_LANES, precision)
        self._rows: list[Lane] = []

    def tail_length(self, length: int) -> int:
        """Return with how many of the last ids of a prompt of `length` ids the samples begin; those before are read first."""
        return 1

    def start(self, lanes: list[Lane], state: RowState, ids: npt.NDArray[np.int64]) -> None:
        """Let samples begin from the state before the last id of a prompt, `(1,)`."""
        for lane in lanes:
            lane.state, lane.last_id = (stack_rows([state]), 0), int(ids[0])

    def draw(self, lanes: list[Lane], steps: int) -> None:
        """Draw `steps` tokens for each of up to `MAX_LANES` samples of one group."""
        rows = len(lanes)
        self._batch.threads = self._batch.threads_for(rows)
        if self._rows != lanes:
            self._batch.state = stack_rows([take_row(*lane.state) for lane in lanes])
            self._batch.read(np.array([[lane.last_id for lane in lanes]], np.int64))
            self._rows = list(lanes)
        uniforms = np.stack([lane.uniforms(steps) for lane in lanes], axis=1)
        options, logprobs = [lane.options for lane in lanes], []
        ids = np.empty((steps, rows), np.int64)
        if lanes[0].filters.guesses is not None:
            for step in range(steps - 1):
                logprobs.append(log_softmax(self._batch.logits(rows)))
                ids[step] = self._batch.sample(uniforms[step : step + 1], *options)
            logprobs.append(log_softmax(self._batch.logits(rows)))
        elif steps > 1:
            ids[:-1] = self._batch.sample(uniforms[:-1], *options)
        state = self._batch.first_states(rows)
        ids[-1] = self._batch.sample(uniforms[-1:], *options)
        for row, lane in enumerate(lanes):
            lane.state, lane.last_id = (state, row), int(ids[-1, row])
            own, guesses = ids[:, row], lane.filters.guesses
            if guesses is None:
                lane.push(own)
            else:
                rows_logprobs = np.stack([values[row] for values in logprobs])
                lane.push(own, token_infos(self.token_strings, rows_logprobs, own, guesses))


class ReferenceSampler:
    """The step in numpy, for units that are held and for models that the native decoder cannot run.

    The number of rows is always `REFERENCE_BATCH`, since matrix products of other sizes round differently.
    """

    piece_tokens = 64
    max_rows = 1

    def __init__(self, network: TextNetwork, token_strings: list[str]) -> None:
        self.network, self.token_strings = network, token_strings
        self._models: dict[tuple[object, ...], NumpyModel] = {}

    def _model(self, filters: Filters) -> NumpyModel:
        if filters.clamps not in self._models:
            if len(self._models) >= MAX_LANES:
                self._models.clear()
            self._models[filters.clamps] = NumpyModel(self.network, filters.clamps)
        return self._models[filters.clamps]

    def read_pieces(self, states: list[RowState], ids: npt.NDArray[np.int64], filters: Filters) -> list[RowState]:
        """Read some ids of one prompt `(T, 1)` from its state; return the state after them."""
        model = self._model(filters)
        with model.inference():
            return [take_row(model.unroll(ids, stack_rows(states))[1], 0)]

    def tail_length(self, length: int) -> int:
        """Return with how many of the last ids of a prompt of `length` ids the samples begin; those before are read first.

        Logits are products of as many rows as in `unrolled sample`, so that they have the same bits.
        """
        return length - (length - 1) // PROMPT_CHUNK_TOKENS * PROMPT_CHUNK_TOKENS

    def start(self, lanes: list[Lane], state: RowState, ids: npt.NDArray[np.int64]) -> None:
        """Let samples begin after the last ids of a prompt, `(T,)`."""
        model = self._model(lanes[0].filters)
        with model.inference():
            logits, rows = model.unroll(ids[:, None], stack_rows([state]))
        for lane in lanes:
            lane.state = (logits[-1, 0], take_row(rows, 0))

    def draw(self, lanes: list[Lane], steps: int) -> None:
        """Draw one token for each of the first `REFERENCE_BATCH` samples, and so on for the others."""
        for first in range(0, len(lanes), REFERENCE_BATCH):
            self._draw(lanes[first : first + REFERENCE_BATCH])

    def _draw(self, lanes: list[Lane]) -> None:
        padded = [*lanes, *lanes[:1] * (REFERENCE_BATCH - len(lanes))]
        model = self._model(lanes[0].filters)
        logits: Floats = np.stack([lane.state[0] for lane in padded])
        uniforms = np.array([lane.uniforms(1)[0] for lane in padded])
        ids = np.empty(len(padded), np.int64)
        for options in {lane.options for lane in padded}:
            rows = [row for row, lane in enumerate(padded) if lane.options == options]
            ids[rows] = sample_token(logits[rows], uniforms[rows], options)
        with model.inference():
            next_logits, state = model.step(ids, stack_rows([lane.state[1] for lane in padded]))
        for row, lane in enumerate(lanes):
            lane.state = (next_logits[row], take_row(state, row))
            guesses, infos = lane.filters.guesses, None
            if guesses is not None:
                infos = token_infos(self.token_strings, log_softmax(logits[row : row + 1]), ids[row : row + 1], guesses)
            lane.push(ids[row : row + 1], infos)


Sampler = NativeSampler | ReferenceSampler
