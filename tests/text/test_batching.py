"""Every token is used exactly once an epoch, the state is reset where it must be, and batches resume from any cursor."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.text.batching import (
    IGNORE_INDEX,
    MAX_ROW_LENGTH,
    Batch,
    BatchSource,
    DocumentBatches,
    IdReader,
    StreamBatches,
    fit_batch_shape,
    length_sorted_batches,
    pad_documents,
    read_documents,
)
from unrolled.text.tokenizer import Ids

Document = tuple[int, ...]

SIZES = st.integers(2, 300)
BATCHES = st.integers(1, 9)
STEPS = st.integers(1, 20)


def take(batches: BatchSource, count: int) -> list[Batch]:
    return [batch for batch in itertools.islice(iter(batches), count) if isinstance(batch, Batch)]


def same(one: Batch, other: Batch) -> bool:
    if (one.carry_state, one.num_targets, one.resets is None) != (other.carry_state, other.num_targets, other.resets is None):
        return False
    arrays = [(one.inputs, other.inputs), (one.targets, other.targets), (one.resets, other.resets)]
    return all(np.array_equal(a, b) for a, b in arrays if a is not None and b is not None)


def stream(documents: list[Document], eos_id: int) -> Ids:
    """Return `EOS d1 EOS d2 ... EOS`."""
    return np.array([eos_id, *(symbol for document in documents for symbol in (*document, eos_id))], np.uint16)


# Streams. In the text 0, 1, 2, ... an id is its own position, and that of the pair that it begins.


@given(size=SIZES, batch=BATCHES, steps=STEPS, count=st.integers(1, 40))
def test_every_pair_is_read_once_before_any_is_read_twice(size: int, batch: int, steps: int, count: int) -> None:
    source = StreamBatches(np.arange(size), batch, steps)
    assert source.tokens_per_epoch == size - 1
    read: Counter[int] = Counter()
    for piece in take(source, count):
        read.update(piece.inputs.ravel().tolist())
        assert (piece.targets == piece.inputs + 1).all(), "the next token is the target, never the first after the last"
        assert piece.num_targets == piece.inputs.size == source.batch_size * source.seq_len
    times = [read[pair] for pair in range(size - 1)]
    assert read.total() == sum(times), "the last token begins no pair"
    assert max(times) - min(times) <= 1


@pytest.mark.parametrize(("batch", "steps", "batches"), [(1, 1, 60), (3, 4, 5), (4, 5, 3), (6, 10, 1), (60, 1, 1), (1, 60, 1)])
def test_an_epoch_reads_every_pair_exactly_once(batch: int, steps: int, batches: int) -> None:
    source = StreamBatches(np.arange(61), batch, steps)
    for _ in range(3):
        epoch = take(source, batches)
        assert sorted(np.concatenate([piece.inputs.ravel() for piece in epoch]).tolist()) == list(range(60))


@given(size=SIZES, batch=BATCHES, steps=STEPS)
def test_one_batch_reads_no_pair_twice(size: int, batch: int, steps: int) -> None:
    for piece in take(StreamBatches(np.arange(size), batch, steps), 5):
        assert len(np.unique(piece.inputs)) == piece.inputs.size


@given(size=SIZES, batch=BATCHES, steps=STEPS, count=st.integers(2, 40))
def test_a_column_continues_and_is_reset_only_at_the_start_of_the_text(size: int, batch: int, steps: int, count: int) -> None:
    pieces = take(StreamBatches(np.arange(size), batch, steps), count)
    assert [piece.carry_state for piece in pieces] == [False] + [True] * (count - 1)
    inputs = np.concatenate([piece.inputs for piece in pieces])  # (count T, B)
    targets = np.concatenate([piece.targets for piece in pieces])
    resets = np.concatenate([np.zeros_like(p.inputs, bool) if p.resets is None else p.resets for p in pieces])
    assert (inputs[1:] == np.where(targets[:-1] == size - 1, 0, targets[:-1])).all()
    assert (resets == (inputs == 0)).all()
    assert all(piece.resets is None or piece.resets.any() for piece in pieces)
    assert inputs[0, 0] == 0
    assert (np.diff(inputs[0]) >= (size - 1) // inputs.shape[1]).all(), "columns are evenly spread"


@given(
    documents=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12).map(tuple), min_size=1, max_size=20),
    batch=BATCHES,
    steps=STEPS,
)
def test_the_state_is_reset_only_where_a_document_starts(documents: list[Document], batch: int, steps: int) -> None:
    eos_id = 4
    ids = stream(documents, eos_id)
    source, places = StreamBatches(ids, batch, steps, eos_id), StreamBatches(np.arange(len(ids)), batch, steps)
    for piece, place in zip(take(source, 12), take(places, 12), strict=True):
        assert (piece.inputs == ids[place.inputs]).all()
        assert (piece.targets == ids[place.targets]).all()
        starts = (ids[place.inputs] == eos_id) | (place.inputs == 0)
        assert (starts == (piece.resets if piece.resets is not None else False)).all()


@given(size=SIZES, batch=st.integers(1, 10**6), steps=st.integers(1, 10**6))
def test_the_batch_shape_fits_any_text(size: int, batch: int, steps: int) -> None:
    fitted, fitted_steps = fit_batch_shape(size, batch, steps)
    assert 1 <= fitted <= batch
    assert 1 <= fitted_steps <= steps
    assert fitted * fitted_steps <= size - 1
    assert (fitted + 1) * fitted_steps > size - 1 or fitted == batch, "as many columns as the text allows"
    source = StreamBatches(np.arange(size), batch, steps)
    assert (source.batch_size, source.seq_len) == (fitted, fitted_steps)
    assert take(source, 1)[0].inputs.shape == (fitted_steps, fitted)


@given(batch=BATCHES, steps=STEPS, more=st.integers(0, 100))
def test_the_batch_shape_is_kept_for_a_long_text(batch: int, steps: int, more: int) -> None:
    assert fit_batch_shape(batch * steps + 1 + more, batch, steps) == (batch, steps)


def test_two_tokens_make_batches() -> None:
    pieces = take(StreamBatches(np.array([7, 9], np.uint8), 32, 64), 3)
    assert [(p.inputs.tolist(), p.targets.tolist(), p.resets is not None) for p in pieces] == [([[7]], [[9]], True)] * 3


# Both: cursors, and the arrays of a batch


def many_documents(seed: int, count: int, longest: int) -> list[Document]:
    """Return documents of which each is known by its first symbols."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, longest, count, endpoint=True).tolist()
    return [tuple([1 + i % 250, 1 + i // 250 % 250, *[0] * length][: max(2, length)]) for i, length in enumerate(lengths)]


EOS = 300
FEW = many_documents(1, 40, 12)
MANY = many_documents(2, 3000, 60)  # many blocks, in more than one window
LONG = many_documents(3, 120, MAX_ROW_LENGTH)


def sources() -> dict[str, Any]:
    """Return, by name, functions that make sources of batches."""
    return {
        "stream": lambda: StreamBatches(np.arange(100), 4, 7),
        "stream of documents": lambda: StreamBatches(stream(FEW, EOS), 3, 5, EOS),
        "rows": lambda: DocumentBatches(stream(FEW, EOS), 4, 5, EOS, seed=1),
        "rows in windows": lambda: DocumentBatches(stream(MANY, EOS), 32, 64, EOS, seed=1),
        "long rows": lambda: DocumentBatches(stream(LONG, EOS), 8, 64, EOS, seed=1),
    }


@pytest.mark.parametrize("name", sources())
def test_batches_resume_from_any_cursor(name: str) -> None:
    make = sources()[name]
    straight = make()
    cursors, pieces = [straight.cursor], []
    for piece in itertools.islice(straight, 150):
        pieces.append(piece)
        cursors.append(json.loads(json.dumps(straight.cursor)))
    assert len({json.dumps(cursor) for cursor in cursors}) == len(cursors)
    for at in [*range(0, 60), *range(60, 148, 11)]:
        again = make()
        again.seek(cursors[at])
        assert again.cursor == cursors[at]
        assert all(same(one, other) for one, other in zip(take(again, 2), pieces[at : at + 2], strict=True)), at
        assert again.cursor == cursors[at + 2]


def test_the_cursors_cover_windows_and_epochs() -> None:
    rows = sources()["rows in windows"]()
    assert -(-rows.tokens_per_epoch // rows._block_size) > DocumentBatches.BLOCKS_PER_WINDOW, "more than one window"
    take(rows, 150)
    assert rows.cursor["epoch"] > 0, "more than one epoch"
    source = sources()["stream"]()
    take(source, 60)
    assert source.cursor["position"] > source.tokens_per_epoch, "past the end of the text"


@pytest.mark.parametrize("name", sources())
def test_a_second_iterator_continues(name: str) -> None:
    make = sources()[name]
    one, other = make(), make()
    assert all(same(a, b) for a, b in zip([*take(one, 3), *take(one, 3)], take(other, 6), strict=True))


@pytest.mark.parametrize("name", sources())
def test_batches_have_the_documented_types_and_shapes(name: str) -> None:
    for piece in take(sources()[name](), 20):
        assert piece.inputs.dtype == np.int64
        assert piece.targets.dtype == np.int64
        assert piece.inputs.shape == piece.targets.shape
        assert piece.resets is None or (piece.resets.dtype == bool and piece.resets.shape == piece.inputs.shape)
        assert piece.num_targets == np.count_nonzero(piece.targets != IGNORE_INDEX)
        assert piece.inputs.min() >= 0


@pytest.mark.parametrize("eos_id", [None, EOS])
def test_ids_on_the_disk_are_read_like_ids_in_memory(tmp_path: Path, eos_id: int | None) -> None:
    ids = stream(FEW, EOS)
    ids.tofile(tmp_path / "ids.bin")
    disk = np.memmap(tmp_path / "ids.bin", ids.dtype, "r")
    pairs: list[tuple[BatchSource, BatchSource]] = [
        (StreamBatches(ids, 3, 5, eos_id), StreamBatches(disk, 3, 5, eos_id)),
        (DocumentBatches(ids, 3, 5, EOS, seed=2), DocumentBatches(disk, 3, 5, EOS, seed=2)),
    ]
    for memory, mapped in pairs:
        assert all(same(one, other) for one, other in zip(take(memory, 600), take(mapped, 600), strict=True))


@pytest.mark.parametrize("eos_id", [None, EOS])
def test_a_large_text_is_read_through_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eos_id: int | None) -> None:
    ids = stream(FEW, EOS).astype(np.uint16)
    ids.tofile(tmp_path / "ids.bin")
    disk = np.memmap(tmp_path / "ids.bin", ids.dtype, "r")
    monkeypatch.setattr(IdReader, "MAX_MAPPED_BYTES", 0)
    for part in (slice(None), slice(7, -9)):
        pairs: list[tuple[BatchSource, BatchSource]] = [
            (StreamBatches(ids[part], 3, 5, eos_id), StreamBatches(disk[part], 3, 5, eos_id)),
            (DocumentBatches(ids[part], 3, 5, EOS, seed=2), DocumentBatches(disk[part], 3, 5, EOS, seed=2)),
        ]
        for memory, filed in pairs:
            assert all(same(one, other) for one, other in zip(take(memory, 600), take(filed, 600), strict=True))
        reader = IdReader(disk[part])
        assert np.array_equal(reader.read(2, 10**9), ids[part][2:])
        repeated = np.array([[0, 3], [0, 4], [1, 0]])
        inputs, targets = reader.inputs_and_targets(repeated)
        assert np.array_equal(inputs, ids[part][repeated])
        assert np.array_equal(targets, ids[part][repeated + 1])


# Documents


def rows_of(piece: Batch) -> list[Document]:
    """Return the documents of a padded batch, after a check: inputs EOS c1 .. cn, targets c1 .. cn EOS, then padding."""
    assert piece.resets is None
    assert not piece.carry_state
    documents = []
    for inputs, targets in zip(piece.inputs.T.tolist(), piece.targets.T.tolist(), strict=True):
        length = targets.index(IGNORE_INDEX) if IGNORE_INDEX in targets else len(targets)
        assert set(targets[length:]) <= {IGNORE_INDEX}
        assert set(inputs[length:]) <= {EOS}, "padding is a valid id"
        document = tuple(targets[: length - 1])
        assert targets[length - 1] == EOS
        assert inputs[:length] == [EOS, *document]
        assert EOS not in document
        documents.append(document)
    assert piece.inputs.shape[0] == 1 + max(map(len, documents)), "no more steps than the longest document needs"
    assert piece.num_targets == sum(len(document) + 1 for document in documents)
    return documents


def epoch(rows: DocumentBatches) -> list[Batch]:
    """Return the batches of one epoch: as many as have all tokens of the text."""
    pieces: list[Batch] = []
    source = iter(rows)
    while sum(piece.num_targets for piece in pieces) < rows.tokens_per_epoch:
        pieces.append(next(source))
    return pieces


def order_of(pieces: list[Batch]) -> list[Document]:
    return [document for piece in pieces for document in rows_of(piece)]


TEXTS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=30).map(tuple), min_size=1, max_size=60)


@given(documents=TEXTS, batch=BATCHES, steps=STEPS, seed=st.integers(0, 2**63 - 1))
def test_an_epoch_reads_every_document_exactly_once(documents: list[Document], batch: int, steps: int, seed: int) -> None:
    rows = DocumentBatches(stream(documents, EOS), batch, steps, EOS, seed)
    assert rows.tokens_per_epoch == sum(len(document) + 1 for document in documents)
    for _ in range(2):
        pieces = epoch(rows)
        assert Counter(order_of(pieces)) == Counter(documents)
        assert all(piece.inputs.size <= batch * steps or piece.inputs.shape[1] == 1 for piece in pieces)


@pytest.mark.parametrize("documents", [MANY, LONG], ids=["many", "long"])
def test_every_document_of_a_large_text_is_read_once_in_batches_of_the_requested_size(documents: list[Document]) -> None:
    batch, steps = 40, 128
    rows = DocumentBatches(stream(documents, EOS), batch, steps, EOS, seed=5)
    for _ in range(3):
        pieces = epoch(rows)
        assert Counter(order_of(pieces)) == Counter(documents)
        cells = [piece.inputs.size for piece in pieces]
        assert max(cells) <= batch * steps
        assert np.mean([piece.num_targets for piece in pieces]) > 0.7 * batch * steps
        assert sum(cells) < 1.2 * rows.tokens_per_epoch, "there is little padding"


def orders(documents: list[Document], seed: int) -> list[list[Document]]:
    """Return the documents of three epochs."""
    rows = DocumentBatches(stream(documents, EOS), 8, 64, EOS, seed)
    return [order_of(epoch(rows)) for _ in range(3)]


@pytest.mark.parametrize("documents", [FEW * 5, MANY], ids=["one window", "windows"])
def test_the_order_depends_on_the_seed_and_the_epoch(documents: list[Document]) -> None:
    first, other = orders(documents, 7), orders(documents, 8)
    assert first == orders(documents, 7)
    assert len({tuple(order) for order in [*first, *other]}) == 6


def test_short_and_long_documents_are_mixed() -> None:
    order = orders(FEW * 5, 7)[0]
    lengths = [len(document) for document in order]
    assert lengths != sorted(lengths)


def test_training_shuffles_the_documents() -> None:
    first, second, _ = orders(MANY, 7)
    neighbors = set(itertools.pairwise(MANY))
    assert sum(pair in neighbors for pair in itertools.pairwise(first)) < len(MANY) / 20
    beginning = len(MANY) // 4
    assert len({*first[:beginning]} & {*second[:beginning]}) < beginning / 2, "an epoch begins with other parts of the text"


def test_any_valid_seed_works() -> None:
    for seed in (0, 1, 2**63 - 1):
        assert take(DocumentBatches(stream(FEW, EOS), 4, 5, EOS, seed), 1)


@given(documents=TEXTS, data=st.data())
def test_a_document_belongs_to_the_block_it_starts_in(documents: list[Document], data: st.DataObject) -> None:
    ids = stream(documents, EOS)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ids) - 1)))) if len(ids) > 1 else []
    borders = [0, *(cut for cut in cuts if cut < len(ids) - 1), len(ids) - 1]
    found = [d for first, last in itertools.pairwise(borders) for d in read_documents(IdReader(ids), EOS, first, last)]
    assert [tuple(document.tolist()) for document in found] == [(EOS, *document, EOS) for document in documents]


@pytest.mark.parametrize("before", range(0, 4))
def test_the_longest_row_is_complete_wherever_its_block_ends(before: int) -> None:
    documents = [(1,) * 2044, (2,) * MAX_ROW_LENGTH, (3,) * MAX_ROW_LENGTH, (4,) * MAX_ROW_LENGTH, (5,)]
    ids = stream([(0,) * before, *documents] if before else documents, EOS)
    rows = DocumentBatches(ids, 4, 2048, EOS, seed=0)
    starts = np.flatnonzero(ids == EOS)
    assert rows._block_size == 2048
    assert abs(int(starts[1 + bool(before)]) - rows._block_size) <= 3, "the second document starts at the end of a block"
    cut = [
        read_documents(IdReader(ids), EOS, at, min(at + 2048, rows.tokens_per_epoch))
        for at in range(0, rows.tokens_per_epoch, 2048)
    ]
    found = [tuple(document[1:-1].tolist()) for part in cut for document in part]
    assert found[bool(before) :] == documents


def test_a_document_longer_than_a_batch_is_a_batch() -> None:
    documents = [(1,) * 50, (2,), (3,) * 30]
    pieces = epoch(DocumentBatches(stream(documents, EOS), 2, 4, EOS, seed=0))
    assert sorted(map(rows_of, pieces), key=str) == [[document] for document in documents]


@settings(max_examples=50)
@given(documents=TEXTS, symbols=st.integers(1, 500))
def test_length_sorted_batches_have_every_document_once(documents: list[Document], symbols: int) -> None:
    pieces = list(length_sorted_batches(stream(documents, EOS), EOS, symbols))
    order = order_of(pieces)
    assert Counter(order) == Counter(documents)
    assert [len(document) for document in order] == sorted(len(document) for document in documents)
    assert all(piece.inputs.size <= symbols or piece.inputs.shape[1] == 1 for piece in pieces)


def test_length_sorted_batches_of_a_large_text_are_all_or_an_even_part_of_it() -> None:
    documents = many_documents(4, 12_000, 60)
    ids = stream(documents, EOS)
    assert len(ids) > 5 * 65536
    assert Counter(order_of(list(length_sorted_batches(ids, EOS, 4096)))) == Counter(documents)
    assert Counter(order_of(list(length_sorted_batches(ids, EOS, 4096, max_tokens=len(ids))))) == Counter(documents)
    for limit in (1, 65536, 140_000, len(ids) - 2):
        part = order_of(list(length_sorted_batches(ids, EOS, 4096, limit)))
        read = sum(len(document) + 1 for document in part)
        assert Counter(part) <= Counter(documents), "none twice"
        assert read <= max(limit, 65536) + MAX_ROW_LENGTH
        assert read >= 0.4 * limit
    spread = {documents.index(document) // 2000 for document in order_of(list(length_sorted_batches(ids, EOS, 4096, 140_000)))}
    assert {0, 5} <= spread, "from the first to the last part of the text"


def test_padding_follows_the_document() -> None:
    batch = pad_documents([np.array([EOS, 1, EOS]), np.array([EOS, 2, 3, 4, EOS])], EOS)
    assert batch.inputs.T.tolist() == [[EOS, 1, EOS, EOS], [EOS, 2, 3, 4]]
    assert batch.targets.T.tolist() == [[1, EOS, IGNORE_INDEX, IGNORE_INDEX], [2, 3, 4, EOS]]
    assert batch.num_targets == 6
    assert rows_of(batch) == [(1,), (2, 3, 4)]
