"""A large text is encoded in shards by several processes, resumed after a kill, and has the ids of one pass over it."""

import bz2
import errno
import functools
import gzip
import json
import lzma
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard

from support.faults import act_on_a_bad_disk
from support.texts import sentences
from unrolled.atomic_io import TMP_MARK, file_lock
from unrolled.errors import DataError, StorageError, UnrolledError
from unrolled.options import DataOptions
from unrolled.text import compressed_files, parallel_encode, shards
from unrolled.text import corpus as corpus_module
from unrolled.text.corpus import Corpus, cache_folder, cached_corpus, is_encoded_jointly, open_corpus
from unrolled.text.encodings import EncodingError
from unrolled.text.fingerprint import stat_files
from unrolled.text.tokenizer import CharTokenizer, Tokenizer
from unrolled.views.progress import MessageHandler

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress,
}  # fmt: skip
ODD = [
    b"ab", b"b", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\r\n", b"\xef\xbb\xbf", "\u00e9".encode(), "\u65e5\u672c".encode(),
    "\U0001f600".encode(), b" ", b"aaaaaaaa", "\u2028".encode(), b"e", "\u0301".encode(), "\u0323\u0302".encode(),
    "\u1100\u1161".encode(), "\u11a8".encode(), "\ufb01".encode(),
]  # fmt: skip
WRONG = [b"\0", b"\xff", b"\x80", b"\x80" * 9, b"\xc3", b"\xe6\x97", b"\xf0\x9f\x98", b"\xff\xfe"]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes check often what the others have done, because shards are tiny here."""
    monkeypatch.setattr(parallel_encode, "POLL_SECONDS", 0.01)


@contextmanager
def cut_at(size: int | None, processes: int = 1) -> Iterator[None]:
    """Split texts into shards of about `size` bytes; None encodes them like small texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "MIN_SHARDED_BYTES", 1 << 40 if size is None else 1)
        patch.setattr(shards, "SHARD_BYTES", size)
        patch.setattr(parallel_encode, "num_processes", lambda: processes)
        yield


def everything(corpus: Corpus) -> tuple[Any, ...]:
    facts = (
        corpus.num_documents,
        corpus.longest_document,
        corpus.num_unknown,
        corpus.notes,
        corpus.is_text,
        corpus.documents,
        corpus.content_hash,
        corpus.cache_key,
    )
    return bytes(corpus.ids), corpus.ids.dtype, corpus.tokenizer.to_json(), *facts


def result(names: list[str], size: int | None, piece: int, known: Tokenizer | None, options: DataOptions) -> tuple[Any, ...]:
    """Return the encoded text with all its statistics, or the error with which it is refused."""
    with tempfile.TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as patch, cut_at(size):
        patch.setenv("UNROLLED_CACHE", cache)
        patch.setattr(compressed_files, "CHUNK_BYTES", piece)
        try:
            corpus = open_corpus(names, options, known)
        except UnrolledError as error:
            assert list(Path(cache).iterdir()) == [], "nothing is left in the cache"
            return type(error), str(error)
        assert sorted(file.name for file in Path(cache, corpus.cache_key).iterdir()) == ["corpus.json", "ids.bin"]
        assert [path.name for path in Path(cache).iterdir()] == [corpus.cache_key]
        return everything(corpus)


def folder_of(draw: random.Random, wrong: bool) -> list[str]:
    """Write random files with unusual content; return their names."""
    names = []
    for index in range(draw.randint(1, 5)):
        kinds = ODD + WRONG if wrong and draw.random() < 0.5 else draw.sample(ODD, draw.randint(1, len(ODD)))
        content = b"".join(draw.choices(kinds, k=draw.choice([0, 1, 3, 12, 40])))
        ending = draw.choice(["", "", *PACKERS])
        names.append(f"{index}.txt{ending}")
        Path(names[-1]).write_bytes(PACKERS.get(ending, bytes)(content))
    return names


def hold_equal(seed: int) -> int:
    """Assert that shards of many sizes give the result of one pass for a random text; return whether it was encoded."""
    draw = random.Random(seed)
    tokens, unit = draw.choice(["characters", "bytes"]), draw.choice(["none", "line", "file"])
    form = draw.choice(["nfc", "nfc", "nfkc", "none"])
    options = DataOptions(tokens=tokens, documents=unit, normalize=form)  # type: ignore[arg-type]
    symbols = draw.sample("ab\n \u00e9\uac00\u65e5\U0001f600\ufeff\u2028", draw.randint(1, 9))
    known = None
    if tokens == "characters" and draw.random() < 0.4:
        known = CharTokenizer(sorted(set(symbols) - ({"\n"} if unit == "line" else set())) or ["a"], unit != "none")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        names = folder_of(draw, wrong=draw.random() < 0.3)
        piece = draw.choice([4, 7, 16, 1 << 22])
        expected = result(names, None, piece, known, options)
        for size in draw.sample([1, 2, 3, 5, 8, 13, 40], 2):
            assert result(names, size, piece, known, options) == expected, (seed, size, piece, names, options, known)
    return not (isinstance(expected[0], type) and issubclass(expected[0], DataError))


def test_shards_give_the_same_ids_as_one_pass() -> None:
    assert 18 < sum(map(hold_equal, range(32))) < 32


@pytest.mark.long
def test_shards_of_many_texts_give_the_same_ids_as_one_pass() -> None:
    assert 3_000 < sum(map(hold_equal, range(1000, 11_000))) < 10_000


# Several processes, and none


@functools.cache
def many_sentences() -> bytes:
    return sentences(60_000).encode()


@pytest.fixture
def text() -> str:
    """A text of about 1.6 MB, which is 30 shards for `cut_at(SHARD)`, with some that is not ASCII."""
    content = many_sentences()
    half = len(content) // 2
    Path("text.txt").write_bytes(content[:half] + "\u65e5\u672c\r\n\r\n".encode() * 9 + content[half:])
    return "text.txt"


SHARD = 50_000


def expected(name: str, **options: Any) -> tuple[Any, ...]:
    """Return the text as it is encoded like a small one, in a cache of its own."""
    return result([name], None, 1 << 22, None, DataOptions(**options))


def opened(name: str, **options: Any) -> tuple[tuple[Any, ...], list[str]]:
    """Open a text; return it with all its statistics, and the reported messages."""
    told: list[str] = []
    with MessageHandler(told.append):
        return everything(open_corpus([name], DataOptions(**options))), told


def work_folders() -> list[Path]:
    return list(cache_folder().glob(f"*{TMP_MARK}*"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Record which shards this process counts and writes."""
    numbers: dict[str, list[int]] = {"count": [], "write": []}
    one = parallel_encode.ShardWorker._run_one

    def noted(self: Any, step: str, number: int, make: Callable[[int], dict[str, Any]]) -> bool:
        def make_noted(number: int) -> dict[str, Any]:
            numbers[step].append(number)
            return make(number)

        return one(self, step, number, make_noted)

    monkeypatch.setattr(parallel_encode.ShardWorker, "_run_one", noted)
    return numbers


def slowly(make: Callable[..., Any], *of: Any) -> Any:
    time.sleep(0.1)
    return make(*of)


def test_worker_processes_do_a_part_of_the_work(text: str, made: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    count = shards.count
    monkeypatch.setattr(shards, "count", lambda *of: slowly(count, *of))  # here, not in the workers
    with cut_at(SHARD, processes=3):
        corpus, told = opened(text, documents="line")
    assert corpus == expected(text, documents="line")
    assert len(told) == 2, told
    assert told[0].startswith("reading 1 file, ")
    shown = int(told[1].removeprefix("in ").split()[0])
    assert told[1] == f"in {shown} shards, 3 processes"
    assert shown > 25
    assert 0 < len(made["count"]) < shown


def test_threads_that_open_a_text_at_the_same_time_share_its_shards(text: str, made: dict[str, list[int]]) -> None:
    found: list[Any] = []
    with cut_at(SHARD):
        others = [threading.Thread(target=lambda: found.append(opened(text)[0])) for _ in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        cuts = shards.plan_shards([Path(text)], [Path(text).stat().st_size])
    assert found == [expected(text)] * 4
    assert sorted(made["count"]) == sorted(made["write"]) == list(range(len(cuts) - 1)), "each shard once"
    assert not work_folders()


def test_a_system_without_file_locks_encodes_too(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.atomic_io.fcntl", None)
    assert parallel_encode.num_processes() == 1
    found: list[Any] = []
    with cut_at(SHARD):
        assert not is_encoded_jointly([text], DataOptions())
        others = [threading.Thread(target=lambda: found.append(opened(text)[0])) for _ in range(2)]
        for other in others:
            other.start()
        for other in others:
            other.join()
    assert found == [expected(text)] * 2


KILLED = """
import os, sys, time
from unrolled.text import corpus
from unrolled.text import shards
from unrolled.text import parallel_encode
from unrolled.options import DataOptions
name, step, limit, processes = sys.argv[1:]
corpus.MIN_SHARDED_BYTES, shards.SHARD_BYTES, parallel_encode.num_processes = 1, 50_000, lambda: int(processes)
make, left = getattr(shards, step), int(limit)
def last(*of):
    global left
    left -= 1
    if left < 0:
        limit = time.monotonic() + 20 * (int(processes) > 1)  # until workers have written some shards
        while time.monotonic() < limit and len(list(corpus.cache_folder().glob("*/*.write.json"))) < 5:
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
    time.sleep(0.02 * (int(processes) > 1))
    return make(*of)
setattr(shards, step, last)
corpus.open_corpus([name], DataOptions())
"""


def killed(name: str, step: str, after: int, processes: int = 1) -> None:
    """Encode a text in another process, which is killed in the middle of a shard.

    Where its workers were so quick that none was left for it, it is tried again with an empty cache.
    """
    command = [sys.executable, "-c", KILLED, name, step, str(after), str(processes)]
    for _ in range(5 if processes > 1 else 1):
        code = subprocess.run(command, check=False).returncode
        if code != 0:
            break
        shutil.rmtree(cache_folder())
    assert code == -signal.SIGKILL
    (folder,) = work_folders()
    assert parallel_encode.work_folder(cache_folder() / folder.name.split(TMP_MARK)[0]) == folder


@pytest.mark.slow
@pytest.mark.parametrize(("step", "after"), [("count", 0), ("count", 7), ("write", 0), ("write", 11)])
def test_a_killed_encoding_is_resumed(text: str, step: str, after: int, made: dict[str, list[int]]) -> None:
    killed(text, step, after)
    os.rename(text, "renamed.txt")  # a text is identified by its contents
    with cut_at(SHARD * 3):  # the existing plan is kept
        corpus, told = opened("renamed.txt")
    assert corpus == expected("renamed.txt")
    count = int(told[1].removeprefix("in ").split()[0])
    before = {"count": (after, 0), "write": (count, after)}[step]
    assert (len(made["count"]), len(made["write"])) == (count - before[0], count - before[1])
    assert (f"{before[0]} were counted and {before[1]} encoded before" in told[1]) == (before != (0, 0))
    assert not work_folders()


def test_workers_of_a_killed_process_exit(text: str, made: dict[str, list[int]]) -> None:
    killed(text, "write", 0, processes=3)
    (folder,) = work_folders()
    limit = time.monotonic() + 10
    while True:
        with file_lock(folder / "users.lock") as ours:
            assert ours
        free = []
        for lock in folder.glob("*.lock"):
            with file_lock(lock) as ours:
                free.append(ours)
        before = set(os.listdir(folder))
        time.sleep(0.3)
        if all(free) and before == set(os.listdir(folder)):
            break
        assert time.monotonic() < limit, "a worker is still running"
    with cut_at(SHARD):
        assert opened(text)[0] == expected(text)
    assert len(made["write"]) < 28


def test_a_worker_exits_when_its_parent_does(text: str) -> None:
    killed(text, "count", 3)
    (folder,) = work_folders()
    task = parallel_encode.EncodingJob([Path(text)], stat_files([Path(text)]), DataOptions(), None)
    count = parallel_encode.ShardWorker(folder, task).num_shards
    command = [sys.executable, "-c", "from unrolled.text.parallel_encode import worker_main; worker_main()", "", str(folder)]
    with file_lock(folder / "20.lock") as ours, subprocess.Popen(command, stdin=subprocess.PIPE) as worker:
        assert ours
        assert worker.stdin is not None
        worker.stdin.write(task.to_json().encode() + b"\n")
        worker.stdin.flush()
        limit = time.monotonic() + 20
        while len(list(folder.glob("*.count.json"))) < count - 1 and time.monotonic() < limit:
            time.sleep(0.05)
        assert worker.poll() is None, "it waits for the shard that this process has locked"
        worker.stdin.close()
        assert worker.wait(10) == 0


def test_unfinished_work_is_resumed_however_old(text: str, made: dict[str, list[int]]) -> None:
    killed(text, "count", 9)
    (folder,) = work_folders()
    os.utime(folder, (0, 0))
    with cut_at(SHARD):
        opened(text)
    assert len(made["count"]) < 28
    killed(put("other.txt", sentences(20_000, 5)), "count", 2)
    (folder,) = work_folders()
    os.utime(folder, (0, 0))
    open_corpus([put("small.txt", "abc\n")], DataOptions())
    assert not work_folders(), "work on other texts is removed after a day"


def put(name: str, content: str) -> str:
    Path(name).write_text(content, "utf-8")
    return name


# Damage, changes, errors


@pytest.mark.slow
@pytest.mark.parametrize("file", ["ids.bin", "3.write.json", "3.count.json", "plan.json"])
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_damaged_shards_are_done_again(text: str, file: str, damage: str) -> None:
    killed(text, "write", 11)
    (folder,) = work_folders()
    path = folder / file
    content = bytearray(path.read_bytes())
    content[min(200_001, len(content) // 2)] ^= 1
    path.unlink()
    if damage != "gone":
        path.write_bytes(content)
    with cut_at(SHARD):
        assert opened(text)[0] == expected(text)
    assert not work_folders()


def test_a_plan_of_other_files_is_invalid() -> None:
    paths, sizes = [Path("a"), Path("b.gz"), Path("c")], [10, 10, 0]
    assert shards.is_valid_plan([[0, 0], [0, 9], [1, 0], [2, 0], [3, 0]], paths, sizes)
    for cuts in (
        None, [], [[0, 0]], [[0, 0], [2, 0]], [[0, 1], [3, 0]], [[0, 0], [0, 10], [3, 0]], [[0, 0], [1, 5], [3, 0]],
        [[0, 0], [0, 5], [0, 5], [3, 0]], [[0, 0], [1, 0], [0, 5], [3, 0]], [[0, 0], [2, 1], [3, 0]], [[0, 0], [4, 0], [3, 0]],
        [[0, 0], [0, 1.5], [3, 0]], [[0, 0], [0, -1], [3, 0]], [[0, 0], "ab", [3, 0]], [[0, 0, 0], [3, 0]],
    ):  # fmt: skip
        assert not shards.is_valid_plan(cuts, paths, sizes), cuts


def test_every_shard_of_an_entry_is_checked(text: str) -> None:
    with cut_at(SHARD):
        first, _ = opened(text)
        entry = cache_folder() / first[-1]
        head = json.loads((entry / "corpus.json").read_bytes())
        assert "crc32" not in head
        assert sum(shard["size"] for shard in head["shards"]) == head["size"]
        for at in range(0, head["size"], 300_001):
            with open(entry / "ids.bin", "r+b") as file:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 4]))
            assert cached_corpus(entry.name) is None
            assert not entry.exists()
            assert opened(text)[0] == first


@pytest.mark.parametrize("wrong", ["order", "size", "offset", "gap", "negative", "none", "words", "number"])
def test_an_invalid_index_is_damage(text: str, wrong: str) -> None:
    with cut_at(SHARD):
        first, _ = opened(text)
    path = cache_folder() / first[-1] / "corpus.json"
    head = json.loads(path.read_bytes())
    index = head["shards"]
    head["shards"] = {
        "order": index[::-1], "none": None, "words": "abc", "number": 3, "gap": index[:3] + index[4:],
        "size": [index[0] | {"size": index[0]["size"] - 1}, *index[1:]],
        "offset": [index[0] | {"offset": 1}, *index[1:]],
        "negative": [{"offset": 0, "size": -1, "crc32": 0}, {"offset": -1, "size": head["size"] + 1, "crc32": 0}],
    }[wrong]  # fmt: skip
    del head["digest"]
    shards.write_checked_json(path, head)
    assert cached_corpus(first[-1]) is None
    assert not path.exists()


@pytest.mark.parametrize("processes", [1, 3])
def test_of_several_errors_the_first_in_the_text_is_raised(text: str, processes: int) -> None:
    content = bytearray(Path(text).read_bytes())
    for at in (700_001, 1_300_001, 1_500_001):
        content[at] = 0xFF
    Path(text).write_bytes(content)
    with cut_at(SHARD, processes), pytest.raises(DataError) as refused:
        opened(text)
    assert (EncodingError, str(refused.value)) == expected(text)
    assert "text.txt is not UTF-8: byte 0xff at offset 700,001, in line 27,435. " in str(refused.value)
    assert list(cache_folder().iterdir()) == []


@pytest.mark.parametrize("step", ["count", "write"])
@pytest.mark.parametrize("change", ["longer", "other", "gone"])
def test_a_text_that_changes_during_encoding_is_refused(
    text: str, step: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, calls = getattr(shards, step), [0]

    def changing(*of: Any) -> Any:
        calls[0] += 1
        if calls[0] == 5:
            if change == "gone":
                os.unlink(text)
            else:
                with open(text, "ab" if change == "longer" else "r+b") as file:
                    file.write(b"!")
        return make(*of)

    monkeypatch.setattr(shards, step, changing)
    with cut_at(SHARD), pytest.raises(UnrolledError, match=r"changed while it was read|Cannot read text\.txt: No such file"):
        opened(text)
    assert change == "gone" or list(cache_folder().iterdir()) == []


def test_a_full_disk_is_reported_and_finished_shards_are_kept(text: str, made: dict[str, list[int]]) -> None:
    calls = [0]

    def full(*of: Any) -> Any:
        calls[0] += 1
        if calls[0] > 6:
            raise OSError(28, "No space left on device")
        return original(*of)

    original = shards.zlib.crc32  # type: ignore[attr-defined]
    with cut_at(SHARD), pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards.zlib, "crc32", full)  # type: ignore[attr-defined]
        with pytest.raises(
            StorageError, match=r"Cannot write the encoded text to .*: the disk is full\. [\d,]+ bytes are free"
        ):
            opened(text)
    (folder,) = work_folders()
    assert len(list(folder.glob("*.write.json"))) == 6
    made["write"].clear()
    with cut_at(SHARD):
        assert opened(text)[0] == expected(text)
    assert sorted(made["write"])[0] == 6


def test_which_texts_are_encoded_jointly(text: str) -> None:
    Path("packed.gz").write_bytes(gzip.compress(Path(text).read_bytes(), 0))
    with cut_at(SHARD):
        assert is_encoded_jointly([text], DataOptions())
        assert is_encoded_jointly(["packed.gz", text], DataOptions())
        assert not is_encoded_jointly(["packed.gz"], DataOptions()), "compressed files are never split"
        assert not is_encoded_jointly(["-"], DataOptions())
        assert not is_encoded_jointly([put("a", "abc")], DataOptions())
    assert not is_encoded_jointly([text], DataOptions()), "it is small"


def test_ranks_open_a_large_text_at_the_same_time(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from unrolled.options import TrainRequest
    from unrolled.training import open_data
    from unrolled.training.distributed import ProcessGroup

    class Two(ProcessGroup):
        def __init__(self) -> None:
            super().__init__(1, 2, 1, 2)
            self.turns = 0

        def broadcast_str(self, make: Callable[[], str]) -> str:
            return make()

        def main_process_first(self, make: Callable[[], Any]) -> Any:
            self.turns += 1
            return make()

    request = TrainRequest.build((text,), {}, "test")
    for size, turns in ((SHARD, 0), (None, 1)):
        process_group = Two()
        with cut_at(size):
            open_data.open_task(request, process_group)
        assert process_group.turns == turns


LATER = [pytest.param(number, marks=pytest.mark.long) for number in (errno.EIO, errno.EACCES)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, *LATER], ids=errno.errorcode.get)
def test_each_failing_system_call_during_encoding(tmp_path: Path, number: int) -> None:
    name = put("a.txt", "abc\nabd\u65e5\n" * 2)
    wanted, refused = expected(name), 0
    with cut_at(12):
        for at in range(1, 1000):
            struck, told = act_on_a_bad_disk(functools.partial(opened, name), at, number, tmp_path)
            refused += told is not None
            assert opened(name)[0] == wanted, struck
            assert not work_folders(), struck
            shutil.rmtree(cache_folder())
            if not struck:
                break
    assert refused >= 20
