"""States that clients have: the memory of a model after a text, handed out, taken in, and continued."""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.nn.unit_clamp import Clamp
from unrolled.server.catalog import LoadedModel
from unrolled.server.http_errors import ApiError
from unrolled.server.lanes import Filters, RowState

MAX_STORED_BYTES = 64 << 20
MAX_STORED_STATES = 10_000
MAGIC = b"unrolled state 1\n"
MAX_HEADER_BYTES = 4096


@dataclass(frozen=True)
class StoredState:
    """The state of a model before its last token, and that token: all that a text left in it."""

    model_id: str
    fingerprint: str
    state: RowState
    last_id: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the arrays."""
        return sum(part.nbytes for layer in self.state for part in layer)

    def to_bytes(self) -> bytes:
        """Return it as a file: a line that names the format, the size of a JSON header, the header, float32 arrays."""
        content = b"".join(part.astype("<f4").tobytes() for layer in self.state for part in layer)
        header = {
            "model": self.model_id, "fingerprint": self.fingerprint, "last_id": self.last_id, "layers": len(self.state),
            "sha256": hashlib.sha256(content).hexdigest(),
        }  # fmt: skip
        encoded = json.dumps(header).encode()
        return MAGIC + struct.pack("<I", len(encoded)) + encoded + content


class StateStore:
    """The states in memory, by id; the ones that were not used for longest are dropped when there are too many."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, StoredState] = OrderedDict()
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._states)

    def add(self, state: StoredState) -> str:
        """Keep a state; return its id."""
        state_id = secrets.token_urlsafe(12)
        self._states[state_id] = state
        self._num_bytes += state.num_bytes
        while len(self._states) > 1 and (self._num_bytes > MAX_STORED_BYTES or len(self._states) > MAX_STORED_STATES):
            self._num_bytes -= self._states.popitem(last=False)[1].num_bytes
        return state_id

    def get(self, state_id: str) -> StoredState:
        """Return a state. Raises `ApiError` 404 if there is none."""
        if state_id not in self._states:
            raise ApiError(404, "There is no state with this id: it was deleted, or dropped for newer ones.", "state")
        self._states.move_to_end(state_id)
        return self._states[state_id]

    def remove(self, state_id: str) -> None:
        """Forget a state."""
        self._num_bytes -= self.get(state_id).num_bytes
        del self._states[state_id]

    def resume(self, state_id: str, model: LoadedModel, text: str) -> tuple[RowState, npt.NDArray[np.int64]]:
        """Return a state, and the ids that are to be read from it on: its last one, and those of a text."""
        stored = self.get(state_id)
        if stored.fingerprint != model.fingerprint:
            raise ApiError(
                409, "The state belongs to another model, or this model was trained further: make a new one.", "state"
            )
        ids = model.tokenizer.encode_prompt(text)[0] if text else []
        return stored.state, np.array([stored.last_id, *ids], np.int64)


def read_text(model: LoadedModel, state: RowState, ids: npt.NDArray[np.int64], clamps: tuple[Clamp, ...] = ()) -> StoredState:
    """Return the state after ids `(T,)`, read with units held if there are `clamps`."""
    filters = Filters(clamps=clamps)
    reader = model.sampler(filters) if clamps else model.reader()
    for start in range(0, len(ids) - 1, MAX_HEADER_BYTES):
        piece = ids[start : min(start + MAX_HEADER_BYTES, len(ids) - 1), None]
        state = reader.read_pieces([state], piece, filters)[0]
    return StoredState(
        model.entry.id, model.fingerprint, [tuple(part.copy() for part in layer) for layer in state], int(ids[-1])
    )


def load_state(content: bytes, model_of: Callable[[str], LoadedModel]) -> StoredState:
    """Return the state in a file. Raises `ApiError` for what `StoredState.to_bytes` of the same model did not write."""
    try:
        size = struct.unpack_from("<I", content, len(MAGIC))[0]
        start = len(MAGIC) + 4 + size
        if not content.startswith(MAGIC) or size > MAX_HEADER_BYTES:
            raise ValueError("it does not begin as one")
        header, body = json.loads(content[start - size : start]), content[start:]
        model_id, last_id = str(header["model"]), int(header["last_id"])
        if hashlib.sha256(body).hexdigest() != header["sha256"]:
            raise ValueError("its digest is wrong")
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise ApiError(400, f"The body is no state of this server: {error}.") from error
    model = model_of(model_id)
    network = model.network
    num_parts = len(network.state_names)
    expected = len(network.layers) * num_parts * network.hidden_size * 4
    values = np.frombuffer(body[:expected], "<f4").astype(np.float32) if len(body) == expected else np.zeros(0, np.float32)
    if header.get("fingerprint") != model.fingerprint or not len(values) or not np.isfinite(values).all():
        raise ApiError(409, "The state belongs to another model, or this model was trained further: make a new one.")
    if not 0 <= last_id < network.vocab_size:
        raise ApiError(400, "The body is no state of this server: its last token does not exist.")
    state: RowState = [tuple(layer) for layer in values.reshape(len(network.layers), num_parts, network.hidden_size)]
    return StoredState(model_id, model.fingerprint, state, last_id)
