"""Exact measure of how much of a sample is copied from the training text, in one pass over the training text.

For each position of the sample, find the longest substring that starts there and occurs anywhere in the training text (the
*matching statistics* of Chang and Lawler 1994). A suffix automaton of the sample (Blumer et al. 1985) reads the training
text and tracks the longest substring that ends at the current token and occurs in the sample. Many segments of the training
text are read in parallel, one token of each at a time, with numpy. The time is linear in the length of the training text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.text.tokenizer import Ids

Ints = npt.NDArray[np.int64]

CHUNK_TOKENS = 2**22
"""Tokens of the training text that are in memory at a time."""

MIN_SEGMENT_TOKENS = 1024
"""Minimum length of a segment. A match that is still open at the end of its segment is followed beyond it."""

MAX_REREADS = 8
"""A segment has at least the sample's length divided by this. A match can be as long as the sample, so this limits how often
a token is read again."""

MAX_DENSE_CELLS = 2**25
"""Maximum number of cells of a dense transition table (8 bytes each). Above it, a sorted list is used, about 5 times slower."""

MAX_NGRAM = 50


@dataclass(frozen=True)
class CopyStats:
    """How much of a sample of `num_tokens` tokens is copied from the training text.

    The longest common substring has `longest_match` tokens; it begins at `sample_start` of the sample and at `train_start` of
    the training text (both 0 if there is none). `mean_match` is the mean length of the longest matches from each position.
    `novel_ngram_rates[n - 1]` is the fraction of the sample's n-grams that are not in the training text, for n from 1 to
    `MAX_NGRAM` or to the sample's length; it never decreases with n.
    """

    num_tokens: int
    longest_match: int
    sample_start: int
    train_start: int
    mean_match: float
    novel_ngram_rates: tuple[float, ...]


def measure_memorization(train_ids: Ids, sample_ids: Ids, chunk_tokens: int = CHUNK_TOKENS) -> CopyStats:
    """Return how much of a sample `(S,)` is copied from the training ids `(L,)`."""
    num_tokens = len(sample_ids)
    if not num_tokens:
        return CopyStats(0, 0, 0, 0, 0.0, ())
    matcher = _Matcher(train_ids, sample_ids)
    lengths = matcher.match_all(chunk_tokens)
    ngram_sizes = range(1, min(MAX_NGRAM, num_tokens) + 1)
    novelty = tuple(float((lengths[: num_tokens - n + 1] < n).mean()) for n in ngram_sizes)
    return CopyStats(
        num_tokens, matcher.longest_match, matcher.sample_start, matcher.train_start, float(lengths.mean()), novelty
    )


def matching_statistics(train_ids: Ids, sample_ids: Ids, chunk_tokens: int = CHUNK_TOKENS) -> Ints:
    """Return, for each position of the sample `(S,)`, the length of the longest match with the training ids `(L,)`: `(S,)`.

    `train_ids` may be a memory map of any size: `chunk_tokens` of it are in memory at a time. Building the automaton takes
    about a second per 100,000 tokens of the sample.
    """
    if not len(sample_ids):
        return np.zeros(0, dtype=np.int64)
    return _Matcher(train_ids, sample_ids).match_all(chunk_tokens)


def find_known_documents(
    train_ids: Ids, eos_id: int, documents: Sequence[Ids], chunk_tokens: int = CHUNK_TOKENS
) -> npt.NDArray[np.bool_]:
    """Return which of D documents occur as whole documents, between two `eos_id`, in the training ids `(L,)`: `(D,)`.

    `train_ids` may be a memory map of any size: `chunk_tokens` of it are in memory at a time.
    """
    keys = [np.asarray(document, dtype=np.int64) for document in documents]
    candidates = {key.tobytes() for key in keys if not (key == eos_id).any()}
    lengths = np.unique([len(key) for key in keys])
    known: set[bytes] = set()
    previous_end = -1  # position of the last end-of-sequence token, since a document may span several chunks
    for start in range(0, len(train_ids), chunk_tokens):
        ends = np.flatnonzero(np.asarray(train_ids[start : start + chunk_tokens]) == eos_id) + start
        if not len(ends):
            continue
        starts = np.concatenate(([previous_end], ends[:-1])) + 1
        has_candidate_length = np.isin(ends - starts, lengths)
        has_candidate_length[0] &= previous_end >= 0
        known |= candidates.intersection(_spans_as_bytes(train_ids, starts[has_candidate_length], ends[has_candidate_length]))
        previous_end = int(ends[-1])
    return np.array([key.tobytes() in known for key in keys], dtype=bool)


def _spans_as_bytes(train_ids: Ids, starts: Ints, stops: Ints) -> Iterator[bytes]:
    """Yield the ids between each start and stop, both ascending, as bytes of int64."""
    if not len(starts):
        return
    first = int(starts[0])
    content, width = memoryview(np.asarray(train_ids[first : int(stops[-1])], dtype=np.int64).tobytes()), 8
    for start, stop in zip((starts - first).tolist(), (stops - first).tolist(), strict=True):
        yield bytes(content[start * width : stop * width])


class _Matcher:
    """Reads training ids with the automaton of a sample, and keeps the longest match of each state and of all."""

    def __init__(self, train_ids: Ids, sample_ids: Ids) -> None:
        self._train_ids = train_ids
        self._sample_vocab, sample = np.unique(np.asarray(sample_ids), return_inverse=True)
        self._automaton = _SuffixAutomaton(sample.tolist(), len(self._sample_vocab))
        self._longest_by_state = np.zeros(len(self._automaton.lengths), dtype=np.int64)
        self.longest_match = self.sample_start = self.train_start = 0

    def match_all(self, chunk_tokens: int) -> Ints:
        """Read the training ids in chunks; return the length of the longest match from each position of the sample `(S,)`."""
        for start in range(0, len(self._train_ids), chunk_tokens):
            self._match_chunk(start, min(start + chunk_tokens, len(self._train_ids)))
        lengths_by_end = self._automaton.lengths_by_end(self._longest_by_state)
        # The match from s is the rest, after s, of a match that ends at some position; those begin in the order of their ends.
        match_starts, positions = np.arange(len(lengths_by_end)) - lengths_by_end, np.arange(len(lengths_by_end) - 1)
        return np.asarray(match_starts.searchsorted(positions, side="right") - 1 - positions, dtype=np.int64)

    def _match_chunk(self, start: int, stop: int) -> None:
        """Read in segments of equal size; the last may extend beyond `stop`, since a match does not end there either."""
        min_tokens = max(MIN_SEGMENT_TOKENS, len(self._longest_by_state) // (2 * MAX_REREADS))
        num_segments = max(1, (stop - start) // min_tokens)
        segment_tokens = -(-(stop - start) // num_segments)
        local_ids = np.full(num_segments * segment_tokens, len(self._sample_vocab))
        content = np.asarray(self._train_ids[start : start + num_segments * segment_tokens])
        local_ids[: len(content)] = self._to_local_ids(content)
        starts = start + np.arange(num_segments) * segment_tokens
        states, lengths = np.zeros(num_segments, dtype=np.int64), np.zeros(num_segments, dtype=np.int64)
        for num_read, column in enumerate(np.ascontiguousarray(local_ids.reshape(num_segments, segment_tokens).T)):
            states, lengths = self._automaton.step(states, lengths, column)
            self._update_longest(states, lengths, starts + num_read + 1)
        self._finish_matches(starts + segment_tokens, states, lengths)

    def _finish_matches(self, positions: Ints, states: Ints, lengths: Ints) -> None:
        """Read beyond the ends of segments until no match is left that began within its segment."""
        num_read = 0
        while (is_open := (lengths > num_read) & (positions < len(self._train_ids))).any():
            states, lengths, positions = states[is_open], lengths[is_open], positions[is_open]
            states, lengths = self._automaton.step(states, lengths, self._to_local_ids(np.asarray(self._train_ids[positions])))
            positions, num_read = positions + 1, num_read + 1
            self._update_longest(states, lengths, positions)

    def _update_longest(self, states: Ints, lengths: Ints, ends: Ints) -> None:
        np.maximum.at(self._longest_by_state, states, lengths)
        best = int(lengths.argmax())
        if lengths[best] > self.longest_match:
            self.longest_match = int(lengths[best])
            self.train_start = int(ends[best]) - self.longest_match
            self.sample_start = int(self._automaton.first_ends[states[best]]) - self.longest_match

    def _to_local_ids(self, ids: Ids) -> Ints:
        """Return the indices of ids in the sample's vocabulary; the vocabulary's size for ids that the sample does not have."""
        indices = np.searchsorted(self._sample_vocab, ids)
        is_known = self._sample_vocab[np.minimum(indices, len(self._sample_vocab) - 1)] == ids
        return np.where(is_known, indices, len(self._sample_vocab))


class _SuffixAutomaton:
    """The suffix automaton of a sample: each state is a set of substrings that end at the same positions of it.

    The substrings of a state are the suffixes of its longest one (length `lengths`), down to one token more than the longest
    of the state that its suffix link (`links`) leads to.
    """

    def __init__(self, sample: list[int], vocab_size: int) -> None:
        transitions: list[dict[int, int]] = [{}]
        lengths, links, first_ends, prefix_states = [0], [-1], [0], [0]
        for token_id in sample:
            prefix_states.append(_add_token(transitions, lengths, links, first_ends, prefix_states[-1], token_id))
        self.lengths, self.links = np.array(lengths), np.array(links)
        self.first_ends = np.array(first_ends)
        """Where in the sample the substrings of each state end for the first time."""
        self._prefix_states = prefix_states  # the state of each prefix of the sample
        self._states_by_length = np.argsort(self.lengths, kind="stable")
        self._num_columns = vocab_size + 1  # the last is for tokens that the sample does not have
        self._is_dense = len(lengths) * self._num_columns <= MAX_DENSE_CELLS
        if self._is_dense:
            self._build_dense_table(transitions)
        else:
            self._build_sparse_table(transitions)

    def _build_dense_table(self, transitions: list[dict[int, int]]) -> None:
        """Store, for each state and token, the next state and the length of the match that is kept before it."""
        shape = len(self.lengths), self._num_columns
        targets, kept_lengths = np.zeros(shape, dtype=np.int32), np.full(shape, -1, dtype=np.int32)
        for state in self._states_by_length.tolist():
            if state:
                targets[state], kept_lengths[state] = targets[self.links[state]], kept_lengths[self.links[state]]
            token_ids = list(transitions[state])
            targets[state, token_ids] = list(transitions[state].values())
            kept_lengths[state, token_ids] = self.lengths[state]
        self._targets, self._kept_lengths = targets.ravel(), kept_lengths.ravel()

    def _build_sparse_table(self, transitions: list[dict[int, int]]) -> None:
        """Store only the transitions that exist, sorted by state and token."""
        cells = {
            state * self._num_columns + token_id: next_state
            for state, next_states in enumerate(transitions)
            for token_id, next_state in next_states.items()
        }
        keys = np.fromiter(cells, np.int64, len(cells))
        by_key = np.argsort(keys)
        self._keys, self._next_states = keys[by_key], np.fromiter(cells.values(), np.int64, len(cells))[by_key]

    def step(self, states: Ints, lengths: Ints, token_ids: Ints) -> tuple[Ints, Ints]:
        """Read one token in each of P segments: return the states and lengths of the longest matches that end there, `(P,)`."""
        if self._is_dense:
            cells = states * self._num_columns + token_ids
            return self._targets[cells].astype(np.int64), np.minimum(lengths, self._kept_lengths[cells]) + 1
        states, lengths = states.copy(), lengths.copy()
        pending = np.arange(len(states))
        while len(pending):
            keys = states[pending] * self._num_columns + token_ids[pending]
            indices = np.minimum(self._keys.searchsorted(keys), len(self._keys) - 1)
            has_transition = self._keys[indices] == keys
            advanced = pending[has_transition]
            states[advanced], lengths[advanced] = self._next_states[indices[has_transition]], lengths[advanced] + 1
            pending = pending[~has_transition]
            at_root = pending[states[pending] == 0]
            lengths[at_root] = 0
            pending = pending[states[pending] != 0]
            states[pending] = self.links[states[pending]]
            lengths[pending] = self.lengths[states[pending]]
        return states, lengths

    def lengths_by_end(self, longest_by_state: Ints) -> Ints:
        """Return the longest match that ends at each position of the sample `(S + 1,)`, from the longest of each state."""
        match_lengths, links = longest_by_state.tolist(), self.links.tolist()
        order, lengths = self._states_by_length[1:].tolist(), self.lengths.tolist()
        for state in reversed(order):
            if match_lengths[state]:  # then the shorter substrings of its suffix link occurred too
                match_lengths[links[state]] = lengths[links[state]]
        for state in order:
            match_lengths[state] = match_lengths[state] or match_lengths[links[state]]
        return np.array([match_lengths[state] for state in self._prefix_states], dtype=np.int64)


def _add_token(
    transitions: list[dict[int, int]], lengths: list[int], links: list[int], first_ends: list[int], last: int, token_id: int
) -> int:
    """Extend the automaton by one token of the sample; return the state of the whole sample so far."""
    new_state = len(lengths)
    lengths.append(lengths[last] + 1)
    links.append(0)
    first_ends.append(lengths[new_state])
    transitions.append({})
    state = last
    while state >= 0 and token_id not in transitions[state]:
        transitions[state][token_id] = new_state
        state = links[state]
    if state < 0:
        return new_state
    next_state = transitions[state][token_id]
    if lengths[next_state] == lengths[state] + 1:
        links[new_state] = next_state
        return new_state
    clone = len(lengths)
    lengths.append(lengths[state] + 1)
    links.append(links[next_state])
    first_ends.append(first_ends[next_state])
    transitions.append(transitions[next_state].copy())
    links[new_state] = links[next_state] = clone
    while state >= 0 and transitions[state].get(token_id) == next_state:
        transitions[state][token_id] = clone
        state = links[state]
    return new_state
