"""Surprisal of the lines of many sessions that are interleaved, each read from its own state.

A line is scored given the lines of its session before it. Masked lines repeat, and so do beginnings of sessions: what was
computed for a line after the same history is kept and used again, with the same result. A history is a number; the state
after it is kept as long as `max_states` allow, the least recently used ones are dropped first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from unrolled.runtime.language_model import LanguageModel

Nats = npt.NDArray[np.float32]
LineIds = npt.NDArray[np.int32]

MAX_STATE_BYTES = 128 << 20
"""Bytes of the states that are kept."""

MAX_SESSIONS = 200_000
"""Sessions whose history is remembered."""

MAX_KNOWN_BYTES = 64 << 20
"""Bytes of the lines whose result is kept."""

MAX_ROWS = 256
"""Lines that are read at the same time."""

MAX_BATCH_TOKENS = 1 << 14
"""Tokens that are read in one call: their logits are in memory."""

START = 0
"""The history of a session that has no line yet."""


_SessionKey: TypeAlias = tuple[str, Hashable]
"""A session: "key" and its key, or "line" and the index of a line without one."""


class _Job(NamedTuple):
    """A line to compute: the history before it, and its ids, in bytes."""

    history: int
    line: bytes


@dataclass
class SessionCounts:
    """How many sessions there were, and how many had to be forgotten to stay within the bounds."""

    num_sessions: int = 0
    num_forgotten: int = 0


class SessionScorer:
    """Scores lines with the state of their session.

    Args:
        model: The model; each session begins at its zero state with the token `eos_id`.
        eos_id: The token that a session begins with.
        max_states: Number of states that are kept (default: as many as fit into `MAX_STATE_BYTES`).
    """

    def __init__(self, model: LanguageModel, eos_id: int, max_states: int | None = None) -> None:
        self.model, self.eos_id, self.counts = model, eos_id, SessionCounts()
        zero = model.initial_state(1)
        self.max_states = max_states or max(1000, MAX_STATE_BYTES // max(1, _state_bytes(zero)))
        self._zero = zero
        self._states: OrderedDict[int, tuple[Any, int]] = OrderedDict()  # by history: the state, and the token to read next
        self._sessions: OrderedDict[_SessionKey, int] = OrderedDict()
        self._known: OrderedDict[_Job, tuple[Nats, int]] = OrderedDict()
        self._num_histories, self._known_bytes = START, 0

    def score(self, lines: Sequence[LineIds], keys: Sequence[Hashable | None]) -> list[Nats]:
        """Return the nats of the tokens of each line, given the keys of sessions; a line without one is its own session."""
        nats: list[Nats] = [np.zeros(0, np.float32)] * len(lines)
        waiting: dict[_SessionKey, list[int]] = {}
        for index, key in enumerate(keys):
            waiting.setdefault(("line", index) if key is None else ("key", key), []).append(index)
        for queue in waiting.values():
            queue.reverse()
        histories = {key: self._history_of(key) for key in waiting}
        with self.model.inference():
            while waiting:
                jobs: dict[_Job, None] = {}
                for key in list(waiting):
                    job = self._advance(waiting[key], histories, key, lines, nats)
                    if job is None:
                        del waiting[key]
                    else:
                        jobs[job] = None
                self._compute(list(jobs))
        for key, history in histories.items():
            if key[0] == "key":
                self._sessions[key] = history
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
            self.counts.num_forgotten += 1
        return nats

    def _history_of(self, key: _SessionKey) -> int:
        history = self._sessions.pop(key, None)  # put back at the end, as the latest
        if history is None:
            self.counts.num_sessions += 1
            return START
        if history not in self._states:
            self.counts.num_forgotten += 1
            return START
        return history

    def _advance(
        self, queue: list[int], histories: dict[_SessionKey, int], key: _SessionKey, lines: Sequence[LineIds], nats: list[Nats]
    ) -> _Job | None:
        """Take the results that are known for the next lines of a session; return the first line to compute, or None."""
        while queue:
            job = _Job(histories[key], lines[queue[-1]].tobytes())
            known = self._known.get(job)
            if known is None or known[1] not in self._states:
                return job
            self._known.move_to_end(job)
            self._states.move_to_end(known[1])
            nats[queue.pop()], histories[key] = known
        return None

    def _compute(self, jobs: list[_Job]) -> None:
        """Compute lines, and keep their results, and the states after them as far as they are not of these jobs' sessions."""
        lines = {job: np.frombuffer(job.line, np.int32) for job in jobs}
        by_length = sorted(jobs, key=lambda job: -len(lines[job]))
        results: list[tuple[_Job, Nats, Any]] = []
        for first in range(0, len(by_length), MAX_ROWS):
            results += self._read(by_length[first : first + MAX_ROWS], lines)
        for job, line_nats, state in results:
            known = self._known.pop(job, None)
            self._num_histories += known is None
            self._known_bytes += 0 if known is not None else _bytes_of(job)
            history = self._num_histories if known is None else known[1]
            self._known[job] = (line_nats, history)
            self._states[history] = (state, int(lines[job][-1]))
        self._drop(len(results))

    def _drop(self, num_new: int) -> None:
        """Drop the least recently used states and results beyond the bounds, but none that was just computed."""
        while len(self._states) > max(self.max_states, num_new):
            self._states.popitem(last=False)
        while self._known_bytes > MAX_KNOWN_BYTES and len(self._known) > num_new:
            self._known_bytes -= _bytes_of(self._known.popitem(last=False)[0])

    def _read(self, jobs: list[_Job], lines: dict[_Job, LineIds]) -> list[tuple[_Job, Nats, Any]]:
        """Return the nats of lines, longest first, and the state of each after all its tokens but the last.

        Rows leave the batch where they end, so that each final state is that of its own last step.
        """
        starts = [(self._zero, self.eos_id) if job.history == START else self._states[job.history] for job in jobs]
        state = _stack([start for start, _ in starts])
        lengths = np.array([len(lines[job]) for job in jobs])
        targets = np.zeros((int(lengths[0]), len(jobs)), np.int64)
        for row, job in enumerate(jobs):
            targets[: lengths[row], row] = lines[job]
        inputs = np.concatenate([np.array([[token for _, token in starts]], np.int64), targets[:-1]])
        nats, finals = np.zeros(targets.shape, np.float32), dict[int, Any]()
        step, num_rows = 0, len(jobs)
        while num_rows:
            stop = min(int(lengths[num_rows - 1]), step + max(1, MAX_BATCH_TOKENS // num_rows))
            part = slice(step, stop)
            losses, state = self.model.token_losses(inputs[part, :num_rows], targets[part, :num_rows], state, None)
            nats[part, :num_rows] = losses
            remaining = int((lengths[:num_rows] > stop).sum())
            finals |= {row: _row(state, row) for row in range(remaining, num_rows)}
            state = _rows(state, remaining)
            step, num_rows = stop, remaining
        return [(job, nats[: lengths[row], row].copy(), finals[row]) for row, job in enumerate(jobs)]


def _map(state: Any, function: Any) -> Any:
    """Return a state, nested tuples and lists of arrays or tensors with a row for each sequence, with a function of each."""
    if state is None:
        return None
    if isinstance(state, tuple | list):
        parts = [_map(part, function) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return function(state)


def _row(state: Any, row: int) -> Any:
    return _map(
        state, lambda array: array[row : row + 1].copy() if isinstance(array, np.ndarray) else array[row : row + 1].clone()
    )


def _rows(state: Any, count: int) -> Any:
    return _map(state, lambda array: array[:count])


def _stack(states: Sequence[Any]) -> Any:
    """Return the states of several rows as one; an LSTM's cell state that is None is zero, as its first step takes it."""
    first = states[0]
    if first is None or isinstance(first, np.ndarray):
        arrays = [state for state in states if state is not None]
        if not arrays:
            return None
        zero = np.zeros_like(arrays[0])
        return np.concatenate([zero if state is None else state for state in states])
    if isinstance(first, tuple | list):
        parts = [_stack(parts) for parts in zip(*states, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    import torch

    return torch.cat(list(states))


def _bytes_of(job: _Job) -> int:
    """Return about how many bytes a result takes: ids and nats of 4 bytes each, and the objects around them."""
    return 2 * len(job.line) + 400


def _state_bytes(state: Any) -> int:
    sizes: list[int] = []
    _map(state, lambda array: sizes.append(int(array.nbytes)))
    return sum(sizes)
