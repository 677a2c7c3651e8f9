"""How much of a sample is copied from the training text: exact, in one pass over the training text.

For each position of the sample the longest run is found that starts there and occurs anywhere in the training text (its
*matching statistics*: Chang and Lawler 1994). The sample becomes a suffix automaton (Blumer et al. 1985), which reads the
training text and knows at each symbol the longest run that ends there and is also in the sample. Many stretches of the
training text are read side by side, one symbol of each at a time, so that numpy does the work. However often text or sample
repeat themselves, the work grows with the length of the training text only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.text.tokenizer import Ids

Ints = npt.NDArray[np.int64]

PIECE = 2**22
"""Symbols of the training text that are held in memory at a time."""

STRETCH = 1024
"""The fewest symbols that a stretch has; what is in the midst of a run at its end is read on beyond it."""

SHARE = 8
"""A stretch has at least the sample's length divided by this, for a run can be as long as the sample: so a symbol is read at
most so many times more."""

DENSE = 2**25
"""The most cells that the automaton's table may have (8 bytes each); a larger one is a sorted list, about five times slower."""

LONGEST_GRAM = 50


@dataclass(frozen=True)
class Memory:
    """What of a sample of `symbols` symbols is copied.

    The `longest` run that is also in the training text begins at `in_sample` of the one and at `in_training` of the other;
    both are 0 if nothing is shared. `mean` is the mean length of the longest runs from each position. `novelty[n - 1]` is the
    share of the sample's n-grams that are not in the training text, for n from 1 to `LONGEST_GRAM` or to the sample's length;
    it never falls with n.
    """

    symbols: int
    longest: int
    in_sample: int
    in_training: int
    mean: float
    novelty: tuple[float, ...]


def memorised(train_ids: Ids, sample_ids: Ids, piece: int = PIECE) -> Memory:
    """Return how much of a sample `(S,)` is copied from the training ids `(L,)`; an empty one has nothing that could be."""
    size = len(sample_ids)
    if not size:
        return Memory(0, 0, 0, 0, 0.0, ())
    reader = _Reader(train_ids, sample_ids)
    lengths = reader.read_all(piece)
    grams = range(1, min(LONGEST_GRAM, size) + 1)
    novelty = tuple(float((lengths[: size - n + 1] < n).mean()) for n in grams)
    return Memory(size, reader.length, reader.in_sample, reader.in_training, float(lengths.mean()), novelty)


def matches(train_ids: Ids, sample_ids: Ids, piece: int = PIECE) -> Ints:
    """Return, for each position of the sample `(S,)`, how long a run from there is also in the training ids `(L,)`: `(S,)`.

    `train_ids` may be a memory map of any size: `piece` symbols of it are held at a time. Building the automaton takes about
    a second for each 100,000 symbols of the sample.
    """
    if not len(sample_ids):
        return np.zeros(0, dtype=np.int64)
    return _Reader(train_ids, sample_ids).read_all(piece)


def known_documents(train_ids: Ids, end: int, documents: Sequence[Ids], piece: int = PIECE) -> npt.NDArray[np.bool_]:
    """Say which of the documents `(D,)` are documents of the training ids: as a whole, with the id `end` on either side.

    `train_ids` may be a memory map of any size: `piece` symbols of it are held at a time.
    """
    keys = [np.asarray(document, dtype=np.int64) for document in documents]
    wanted = {key.tobytes() for key in keys if not (key == end).any()}
    lengths = np.unique([len(key) for key in keys])
    found: set[bytes] = set()
    before = -1  # where the last end was, for a document may lie in several pieces
    for start in range(0, len(train_ids), piece):
        ends = np.flatnonzero(np.asarray(train_ids[start : start + piece]) == end) + start
        if not len(ends):
            continue
        starts = np.concatenate(([before], ends[:-1])) + 1
        kept = np.isin(ends - starts, lengths)
        kept[0] &= before >= 0
        found |= wanted.intersection(_contents(train_ids, starts[kept], ends[kept]))
        before = int(ends[-1])
    return np.array([key.tobytes() in found for key in keys], dtype=bool)


def _contents(train_ids: Ids, starts: Ints, stops: Ints) -> Iterator[bytes]:
    """Yield the ids between the starts and the stops, both ascending, as bytes of int64."""
    if not len(starts):
        return
    first = int(starts[0])
    content, width = memoryview(np.asarray(train_ids[first : int(stops[-1])], dtype=np.int64).tobytes()), 8
    for start, stop in zip((starts - first).tolist(), (stops - first).tolist(), strict=True):
        yield bytes(content[start * width : stop * width])


class _Reader:
    """Reads training ids with the automaton of a sample, and keeps the longest run of each state and of all."""

    def __init__(self, train_ids: Ids, sample_ids: Ids) -> None:
        self._train = train_ids
        self._alphabet, sample = np.unique(np.asarray(sample_ids), return_inverse=True)
        self._automaton = _Automaton(sample.tolist(), len(self._alphabet))
        self._longest = np.zeros(len(self._automaton.lengths), dtype=np.int64)
        self.length = self.in_sample = self.in_training = 0

    def read_all(self, piece: int) -> Ints:
        """Read the training ids, some at a time; return the longest run from each position of the sample `(S,)`."""
        for start in range(0, len(self._train), piece):
            self._read(start, min(start + piece, len(self._train)))
        ending = self._automaton.ending(self._longest)
        # A run from s is what the longest one ending there has after s, and those begin in the order of their ends.
        begins, at = np.arange(len(ending)) - ending, np.arange(len(ending) - 1)
        return np.asarray(begins.searchsorted(at, side="right") - 1 - at, dtype=np.int64)

    def _read(self, start: int, stop: int) -> None:
        """Read in stretches of one size; the last may go on beyond `stop`, for a run does not end there either."""
        least = max(STRETCH, len(self._longest) // (2 * SHARE))
        stretches = max(1, (stop - start) // least)
        size = -(-(stop - start) // stretches)
        symbols = np.full(stretches * size, len(self._alphabet))
        content = np.asarray(self._train[start : start + stretches * size])
        symbols[: len(content)] = self._numbers(content)
        starts = start + np.arange(stretches) * size
        states, lengths = np.zeros(stretches, dtype=np.int64), np.zeros(stretches, dtype=np.int64)
        for read, column in enumerate(np.ascontiguousarray(symbols.reshape(stretches, size).T)):
            states, lengths = self._automaton.step(states, lengths, column)
            self._keep(states, lengths, starts + read + 1)
        self._read_on(starts + size, states, lengths)

    def _read_on(self, at: Ints, states: Ints, lengths: Ints) -> None:
        """Read beyond the ends of stretches: a run that began before goes on, one that began after is the next stretch's."""
        read = 0
        while (going := (lengths > read) & (at < len(self._train))).any():
            states, lengths, at = states[going], lengths[going], at[going]
            states, lengths = self._automaton.step(states, lengths, self._numbers(np.asarray(self._train[at])))
            at, read = at + 1, read + 1
            self._keep(states, lengths, at)

    def _keep(self, states: Ints, lengths: Ints, ends: Ints) -> None:
        np.maximum.at(self._longest, states, lengths)
        best = int(lengths.argmax())
        if lengths[best] > self.length:
            self.length = int(lengths[best])
            self.in_training = int(ends[best]) - self.length
            self.in_sample = int(self._automaton.first_ends[states[best]]) - self.length

    def _numbers(self, ids: Ids) -> Ints:
        """Return the places of ids in the sample's alphabet; its length for those that it does not have."""
        at = np.searchsorted(self._alphabet, ids)
        known = self._alphabet[np.minimum(at, len(self._alphabet) - 1)] == ids
        return np.where(known, at, len(self._alphabet))


class _Automaton:
    """The suffix automaton of a sample: each state is a set of runs that end at the same places of it.

    The runs of a state are the endings of its longest one, `lengths`, down to one symbol more than the longest of its `links`.
    """

    def __init__(self, sample: list[int], alphabet: int) -> None:
        following: list[dict[int, int]] = [{}]
        lengths, links, firsts, ends = [0], [-1], [0], [0]
        for symbol in sample:
            ends.append(_extend(following, lengths, links, firsts, ends[-1], symbol))
        self.lengths, self.links = np.array(lengths), np.array(links)
        self.first_ends = np.array(firsts)
        """Where in the sample the runs of each state end for the first time."""
        self._ends = ends  # the state of each beginning of the sample
        self._by_length = np.argsort(self.lengths, kind="stable")
        self._columns = alphabet + 1  # the last is for symbols that the sample does not have
        self._dense = len(lengths) * self._columns <= DENSE
        if self._dense:
            self._fill_table(following)
        else:
            self._sort_list(following)

    def _fill_table(self, following: list[dict[int, int]]) -> None:
        """Write down, for each state and symbol, the next state and how much of the run before it can stay."""
        shape = len(self.lengths), self._columns
        targets, kept = np.zeros(shape, dtype=np.int32), np.full(shape, -1, dtype=np.int32)
        for state in self._by_length.tolist():
            if state:
                targets[state], kept[state] = targets[self.links[state]], kept[self.links[state]]
            symbols = list(following[state])
            targets[state, symbols] = list(following[state].values())
            kept[state, symbols] = self.lengths[state]
        self._targets, self._kept = targets.ravel(), kept.ravel()

    def _sort_list(self, following: list[dict[int, int]]) -> None:
        """Write down the next states only, by state and symbol: the table would be too large."""
        cells = {state * self._columns + c: to for state, row in enumerate(following) for c, to in row.items()}
        keys = np.fromiter(cells, np.int64, len(cells))
        by_key = np.argsort(keys)
        self._keys, self._next = keys[by_key], np.fromiter(cells.values(), np.int64, len(cells))[by_key]

    def step(self, states: Ints, lengths: Ints, symbols: Ints) -> tuple[Ints, Ints]:
        """Read one symbol in each of P stretches: return the states and lengths of the longest runs ending with it, `(P,)`."""
        if self._dense:
            cells = states * self._columns + symbols
            return self._targets[cells].astype(np.int64), np.minimum(lengths, self._kept[cells]) + 1
        states, lengths = states.copy(), lengths.copy()
        waiting = np.arange(len(states))
        while len(waiting):
            keys = states[waiting] * self._columns + symbols[waiting]
            at = np.minimum(self._keys.searchsorted(keys), len(self._keys) - 1)
            hit = self._keys[at] == keys
            going = waiting[hit]
            states[going], lengths[going] = self._next[at[hit]], lengths[going] + 1
            waiting = waiting[~hit]
            lost = waiting[states[waiting] == 0]
            lengths[lost] = 0
            waiting = waiting[states[waiting] != 0]
            states[waiting] = self.links[states[waiting]]
            lengths[waiting] = self.lengths[states[waiting]]
        return states, lengths

    def ending(self, longest: Ints) -> Ints:
        """Return how long a run that ends at each place of the sample was read `(S + 1,)`, from the longest of each state."""
        read, links = longest.tolist(), self.links.tolist()
        order, lengths = self._by_length[1:].tolist(), self.lengths.tolist()
        for state in reversed(order):
            if read[state]:  # then all of the shorter runs of its link were read, too
                read[links[state]] = lengths[links[state]]
        for state in order:
            read[state] = read[state] or read[links[state]]
        return np.array([read[state] for state in self._ends], dtype=np.int64)


def _extend(
    following: list[dict[int, int]], lengths: list[int], links: list[int], firsts: list[int], last: int, symbol: int
) -> int:
    """Add one symbol of the sample to the states' lists; return the state of the whole sample so far."""
    new = len(lengths)
    lengths.append(lengths[last] + 1)
    links.append(0)
    firsts.append(lengths[new])
    following.append({})
    state = last
    while state >= 0 and symbol not in following[state]:
        following[state][symbol] = new
        state = links[state]
    if state < 0:
        return new
    other = following[state][symbol]
    if lengths[other] == lengths[state] + 1:
        links[new] = other
        return new
    twin = len(lengths)
    lengths.append(lengths[state] + 1)
    links.append(links[other])
    firsts.append(firsts[other])
    following.append(following[other].copy())
    links[new] = links[other] = twin
    while state >= 0 and following[state].get(symbol) == other:
        following[state][symbol] = twin
        state = links[state]
    return new
