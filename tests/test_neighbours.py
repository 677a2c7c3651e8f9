"""Ranks of one machine hand each other numbers through memory: what one gives, all have, and nobody waits for the dead."""

import mmap
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from unrolled.errors import UnrolledError
from unrolled.nn.kernels.library import library
from unrolled.training import neighbours
from unrolled.training.neighbours import HEAD, Neighbours, introduce

NATIVE = library()
pytestmark = pytest.mark.skipif(NATIVE is None, reason="ranks meet in the native library")


def together(size: int, capacity: int, do: Callable[[Neighbours], Any]) -> list[Any]:
    """Return what ranks that are threads of this process make of it, all at once."""
    memory = mmap.mmap(-1, HEAD + 2 * size * capacity)
    ranks = [Neighbours(rank, size, memory, capacity, NATIVE) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(do, ranks))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_many_exchanges_in_turn(size: int) -> None:
    def do(near: Neighbours) -> bool:
        for turn in range(300):
            given = near.exchange(torch.full((7,), float(100 * turn + near.rank)))
            if [part.tolist() for part in given] != [[float(100 * turn + rank)] * 7 for rank in range(size)]:
                return False
        return True

    assert all(together(size, 4096, do))


def test_what_is_made_in_its_place_is_handed_over_as_it_is() -> None:
    def do(near: Neighbours) -> bool:
        alike = True
        for turn in range(50):
            place = near.place(9, torch.bfloat16)
            assert place is not None
            place.fill_(4 * turn + near.rank)  # below 256, all whole numbers are there
            given = near.exchange(place)
            alike &= [part.tolist() for part in given] == [[4.0 * turn + rank] * 9 for rank in range(3)]
            alike &= given[near.rank].data_ptr() == place.data_ptr()
        return alike and near.place(4097, torch.uint8) is None

    assert all(together(3, 4096, do))


@pytest.mark.parametrize("shape", [(3,), (1, 5), (3000, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8])
def test_gathered_in_pieces(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    own = [(torch.randn(shape) * 50).abs().to(dtype) for _ in range(3)]
    for whole in together(3, 4096, lambda near: near.gather(own[near.rank])):
        assert whole.dtype == dtype
        assert torch.equal(whole, torch.cat(own))


@pytest.mark.parametrize("length", [1, 16, 5000])
@pytest.mark.parametrize("sent", [torch.float32, torch.bfloat16])
def test_mean_is_the_same_for_all(length: int, sent: torch.dtype) -> None:
    if sent == torch.bfloat16 and not {"avx512_bf16", "amx"} & set(NATIVE.available_isas()):
        pytest.skip("no bfloat16 here")
    torch.manual_seed(length)
    own = [torch.randn(length) for _ in range(3)]
    mean = torch.stack([part.to(sent).double() for part in own]).mean(0)

    def do(near: Neighbours) -> torch.Tensor:
        numbers = own[near.rank].clone()
        near.mean(numbers, sent)
        return numbers

    found = together(3, 8192, do)
    assert all(torch.equal(found[0], other) for other in found)
    torch.testing.assert_close(found[0].double(), mean, rtol=1e-6, atol=1e-6)


def test_totals_are_added_in_order() -> None:
    values = [[1e16, 1.0], [1.0, 2.0], [-1e16, 3.0]]
    found = together(3, 4096, lambda near: near.total(values[near.rank]))
    assert found == [[sum(part) for part in zip(*values, strict=True)]] * 3


def test_a_rank_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PATIENCE", 0.05)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    memory = mmap.mmap(-1, HEAD + 4 * 4096)
    near = Neighbours(0, 2, memory, 4096, NATIVE)
    near._processes[1] = gone.pid
    with pytest.raises(UnrolledError, match="Rank 1 is gone"):
        near.total([1.0])


def test_a_rank_that_is_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PATIENCE", 0.05)
    late = threading.Event()

    def do(near: Neighbours) -> list[float]:
        if near.rank:
            late.wait(0.4)
        return near.total([1.0])

    assert together(2, 4096, do) == [[2.0], [2.0]]


def introduced(size: int) -> list[Neighbours | None]:
    names: list[str] = [""]
    meet = threading.Barrier(size, timeout=30)
    counts = [0.0] * size

    def ask(rank: int) -> Neighbours | None:
        def share(make: Callable[[], str]) -> str:
            if rank == 0:
                names[0] = make()
            meet.wait()
            return names[0]

        def total(values: list[float]) -> list[float]:
            counts[rank] = values[0]
            meet.wait()
            return [sum(counts)]

        return introduce(rank, size, 1000, NATIVE, share, total)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(ask, range(size)))


def test_the_memory_has_no_name_once_all_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "FOLDERS", (tmp_path / "missing", tmp_path))
    ranks = introduced(3)
    assert all(rank is not None for rank in ranks)
    assert not list(tmp_path.glob("unrolled-*"))
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda near: near.total([2.0]), ranks)) == [[6.0]] * 3


def test_without_room_nobody_has_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(neighbours, "FOLDERS", (tmp_path,))
    monkeypatch.setattr("os.posix_fallocate", full)
    assert introduced(2) == [None, None]
    assert not list(tmp_path.glob("unrolled-*"))


def test_wrong_boards_are_refused() -> None:
    with pytest.raises(ValueError, match="board"):
        NATIVE.meet(torch.zeros(2), 0, 1, 0.1)
    with pytest.raises(ValueError, match="rank"):
        NATIVE.meet(torch.zeros(2, dtype=torch.int64), 2, 1, 0.1)
    with pytest.raises(ValueError, match="parts"):
        NATIVE.mean([torch.zeros(3), torch.zeros(4)], torch.zeros(3), 1)
    with pytest.raises(ValueError, match="mean of"):
        NATIVE.mean([], torch.zeros(3), 1)
