"""Files of strangers: damaged in every way, or made to harm. Each is read, or refused in one sentence; nothing else happens."""

import base64
import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import math
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard

from support.forks import Forks
from support.models import checkpoint_parts
from support.runs import train, write_data
from unrolled.checkpoints.model_file import load_checked, load_text_model, save_checked, save_model
from unrolled.checkpoints.run_data import load_request
from unrolled.checkpoints.run_dir import JsonLinesLog, Run
from unrolled.errors import UnrolledError
from unrolled.options import DataOptions
from unrolled.tables.cell_values import Cell, parse_array, parse_image
from unrolled.tables.pair_batching import read_pairs
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.table_files import open_table
from unrolled.text.corpus import cache_folder, cached_corpus, open_corpus
from unrolled.text.text_files import read_chunks, read_code_points

LONG = pytest.mark.long

MUTANTS_P, MUTANTS_N = 10_000, 10_000
"""Of all formats together; of each format."""

SLOWEST = 1.0
GROWTH = 200.0


# ---------------------------------------------------------------------------------------------------------------------------
# Mutants


def mutant(good: bytes, draw: random.Random) -> bytes:
    """Return a file with one to three faults: bits flipped, bytes changed, taken out, put in, cut off, doubled."""
    bad = bytearray(good)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        at = draw.randrange(len(bad) + 1)
        size = draw.choice([1, 1, 2, 8, 64])
        kind = draw.randrange(7)
        if kind == 0 and bad:
            bad[min(at, len(bad) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            bad[at : at + size] = draw.randbytes(size)
        elif kind == 2:
            del bad[at : at + size]
        elif kind == 3:
            bad[at:at] = draw.randbytes(size)
        elif kind == 4:
            del bad[at:]
        elif kind == 5:
            bad[at:at] = bad[at : at + size]
        else:
            digits = [i for i, byte in enumerate(bad[:4096]) if 48 <= byte <= 57] or [0]
            where = draw.choice(digits)
            bad[where : where + 1] = draw.choice([b"0", b"9", b"-1", b"1e999", b"99999999999999999999", b"9" * 400])
    return bytes(bad)


Read = Callable[[Path], Any]
"""Reads a file and returns what was made of it; of sealed formats, what must be that of the original."""


class Format:
    """A format that we read: how a sound file is made, how it is read, and whether it is sealed."""

    def __init__(self, name: str, make: Callable[[Path], None], read: Read, sealed: bool = False) -> None:
        self.name, self.make, self.read, self.sealed = name, make, read, sealed


def frozen(tensors: dict[str, torch.Tensor]) -> Any:
    return {name: (str(tensor.dtype), tensor.tolist()) for name, tensor in tensors.items()}


def _model(path: Path) -> None:
    save_model(path, checkpoint_parts(1)[0])


def _read_model(path: Path) -> Any:
    saved = load_text_model(path)
    return frozen(saved.model.state_dict()), json.dumps(saved.metadata())


def _training(path: Path) -> None:
    save_checked(path, {"a": torch.arange(5), "b": torch.ones(2, 3)}, {"kind": "training", "position": {"x": 1.5}})


def _read_training(path: Path) -> Any:
    tensors, about = load_checked(path)
    return frozen(tensors), about


def _beside(path: Path) -> Path:
    """Return a run with one checkpoint, for the formats that live in one."""
    folder = path.parent / "beside"
    if not folder.exists():
        run = Run.create(folder, {"a": 1})
        run.save_checkpoint(1, *checkpoint_parts(1))
    return folder


def _manifest(path: Path) -> None:
    shutil.copy(_beside(path) / "checkpoints" / "step-1" / "MANIFEST.json", path)


def _read_manifest(path: Path) -> Any:
    folder = _beside(path)
    shutil.copy(path, folder / "checkpoints" / "step-1" / "MANIFEST.json")
    saved, tensors, about, _ = Run(folder).load_checkpoint()
    return frozen(saved.model.state_dict()), frozen(tensors), about


CONFIG = {
    "format": 2, "inputs": ["a.txt"], "content_hash": "0", "cache_key": "1", "explicit_options": ["steps"], "environment": {},
    "options": {"hidden": 16, "steps": 30, "lr": 0.01, "dropout": 0.1, "seed": 1, "documents": "line", "residual": True},
}  # fmt: skip


def _config(path: Path) -> None:
    path.write_text(json.dumps(CONFIG), "utf-8")


def _read_config(path: Path) -> Any:
    folder = path.parent / "configured"
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / "config.json")
    request, _ = load_request(Run(folder))
    request.check()
    assert request.model.hidden <= 65536


def _entry(path: Path, name: str) -> Path:
    """Return a file of the corpus cache, after making its entry whole again."""
    text, pattern = path.parent / "text.txt", path.parent / "pattern"
    if not pattern.exists():
        text.write_text("caf\u00e9 \u65e5\nabc\n" * 9, "utf-8")
        corpus = open_corpus([str(text)], DataOptions(documents="line"))
        shutil.copytree(cache_folder() / corpus.cache_key, pattern)
        (path.parent / "key").write_text(corpus.cache_key)
    entry = cache_folder() / (path.parent / "key").read_text()
    if not entry.exists():
        shutil.copytree(pattern, entry)
    shutil.copy(pattern / name, entry / name)
    return entry / name


def _cache(name: str) -> tuple[Callable[[Path], None], Read]:
    def make(path: Path) -> None:
        shutil.copy(_entry(path, name), path)

    def read(path: Path) -> Any:
        entry = _entry(path, name)
        shutil.copy(path, entry)
        corpus = cached_corpus(entry.parent.name)
        if corpus is None:
            raise UnrolledError("made again")
        return (
            corpus.ids.tolist(),
            corpus.tokenizer.to_json(),
            corpus.documents,
            corpus.num_documents,
            corpus.longest_document,
            corpus.notes,
        )

    return make, read


def _log(path: Path) -> None:
    log = JsonLinesLog(path)
    for step in range(1, 12):
        log.append({"event": "train", "step": step, "seconds": step / 7, "text": "caf\u00e9 \u2028\n"})


def _read_log(path: Path) -> Any:
    log = JsonLinesLog(path)
    before = list(log.read())
    log.truncate_after(7)
    after = list(log.read())
    assert all(record in before or record != record for record in after)
    assert all(record.get("step", 0) <= 7 for record in after)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress,
}  # fmt: skip


def _packed(ending: str) -> tuple[Callable[[Path], None], Read]:
    text = "".join(f"line {n} caf\u00e9 \u65e5\U0001f600\r\n" for n in range(60)).encode()

    def make(path: Path) -> None:
        path.write_bytes(PACKERS[ending](text))

    def read(path: Path) -> Any:
        raw = b"".join(piece.tobytes() for piece in read_chunks(path, True, {}))
        points = np.concatenate([np.zeros(0, np.uint32), *read_code_points(path, {})])
        assert all(0 <= point < 0x110000 for point in points.tolist())
        assert len(points) <= len(raw)

    return make, read


ROWS: list[dict[str, Any]] = [
    {"text": f"a {('blue', 'red')[n % 2]} dog, \u65e5 {n}", "label": ("cold", "warm")[n % 2], "x": n / 4} for n in range(24)
]  # fmt: skip


def _read_table(columns: tuple[str, str]) -> Read:
    def read(path: Path) -> Any:
        table = open_table(str(path))
        task, _ = infer_spec(table, *columns)
        assert len(read_pairs(table, task))

    return read


def _separated(delimiter: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE)
            writer.writerow(ROWS[0])
            writer.writerows(row.values() for row in ROWS)

    return make


def _jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row | {"frames": [[1, 2], [3, 4]]}) + "\n" for row in ROWS), "utf-8")


def _parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, compression="none")


def _png(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)


def _npy(path: Path) -> None:
    np.save(path, np.arange(12.0).reshape(3, 4))


def _cell(read: Callable[[Cell], Any]) -> Read:
    def reading(path: Path) -> Any:
        array = read(Cell(path.name, "table", 3, path.parent))
        assert np.isfinite(array).all()

    return reading


FORMATS = {
    form.name: form
    for form in (
        Format("model.safetensors", _model, _read_model, sealed=True),
        Format("training.safetensors", _training, _read_training, sealed=True),
        Format("MANIFEST.json", _manifest, _read_manifest, sealed=True),
        Format("config.json", _config, _read_config),
        Format("ids.bin", *_cache("ids.bin"), sealed=True),
        Format("corpus.json", *_cache("corpus.json"), sealed=True),
        Format("metrics.jsonl", _log, _read_log),
        *(Format(f"text.txt{ending}", *_packed(ending)) for ending in PACKERS),
        Format("table.csv", _separated(","), _read_table(("text", "label"))),
        Format("numbers.csv", _separated(","), _read_table(("text", "x"))),
        Format("table.tsv", _separated("\t"), _read_table(("text", "label"))),
        Format("table.jsonl", _jsonl, _read_table(("text", "label"))),
        Format("frames.jsonl", _jsonl, _read_table(("frames", "label"))),
        Format("table.parquet", _parquet, _read_table(("text", "label"))),
        Format("picture.png", _png, _cell(parse_image)),
        Format("array.npy", _npy, _cell(parse_array)),
    )
}


def read_mutants(name: str, count: int, seed: int, folder: str) -> dict[str, Any]:
    """Read mutants of one format in this process; return what was found, with the first faults as base64."""
    os.environ["UNROLLED_CACHE"] = str(Path(folder) / "cache")
    warnings.simplefilter("error")
    form, draw, path = FORMATS[name], random.Random(f"{name} {seed}"), Path(folder) / name
    form.make(path)
    good = path.read_bytes()
    wanted = form.read(path)
    found: dict[str, Any] = {"count": 0, "refused": 0, "accepted": 0, "slowest": 0.0, "faults": []}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        bad = mutant(good, draw)
        path.unlink(missing_ok=True)
        path.write_bytes(bad)
        signal.alarm(20)
        started = time.process_time()
        fault = ""
        try:
            result = form.read(path)
        except UnrolledError as error:
            found["refused"] += 1
            fault = "no sentence" if not str(error) else ""
        except Exception:
            fault = traceback.format_exc(limit=-4)
        else:
            found["accepted"] += 1
            if form.sealed and result != wanted:
                fault = "accepted, and not what it was"
        took = time.process_time() - started
        signal.alarm(0)
        found["count"] += 1
        found["slowest"] = max(found["slowest"], took)
        if fault or took > SLOWEST:
            found["faults"].append([fault or f"{took:.1f} s", base64.b64encode(bad[:6000]).decode()])
            if len(found["faults"]) >= 5:
                break
    found["grown"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return found


def hold_mutants(forks: Forks, name: str, count: int, seed: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=forks.folder))
    left = forks.call(read_mutants, name, count, seed, folder, most=60 + count / 50)
    shutil.rmtree(folder)
    assert left.value is not None, (left.code, left.err)
    found = left.value
    assert not found["faults"], "\n".join(f"{told}\n{content}" for told, content in found["faults"][:3])
    assert found["count"] == count
    assert found["grown"] < 100, "megabytes"
    told = f"{found['refused']:,} refused, {found['accepted']:,} accepted{' and all equal' * FORMATS[name].sealed}"
    print(f"\n{name}: {count:,} mutants, {told}, slowest {found['slowest'] * 1000:.0f} ms")


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused(forks: Forks, name: str) -> None:
    hold_mutants(forks, name, MUTANTS_P // len(FORMATS), seed=0)


@LONG
@pytest.mark.parametrize("name", FORMATS)
def test_many_damaged_files_are_read_or_refused(forks: Forks, name: str) -> None:
    hold_mutants(forks, name, MUTANTS_N, seed=1)


@pytest.mark.parametrize("name", ["size", "dtype", "crc32", "vocabulary", "digest"])
def test_an_odd_head_of_the_cache_is_damage(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.txt").write_text("abcd", "utf-8")
    for value in (10**30, -1, 2**63, 1.5, "x", None, [3], {"a": 1}, True, math.inf, math.nan):
        corpus = open_corpus([str(tmp_path / "t.txt")], DataOptions())
        head = cache_folder() / corpus.cache_key / "corpus.json"
        head.write_text(json.dumps(json.loads(head.read_text()) | {name: value}))
        assert cached_corpus(corpus.cache_key) is None, value
        assert not head.exists()
    for content in ("[" * 100_000, "[]", "3", '{"digest": {}}'):
        head.parent.mkdir()
        head.write_text(content)
        assert cached_corpus(corpus.cache_key) is None, content[:9]
        assert not head.exists()


# ---------------------------------------------------------------------------------------------------------------------------
# Files made to harm


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


Hostile = Callable[[Path, Path], list[list[str]]]
"""Makes a file in a folder, which would make the marker; returns the commands that are to meet it."""

HOSTILE: dict[str, Hostile] = {}


def hostile(make: Hostile) -> Hostile:
    HOSTILE[make.__name__] = make
    return make


THOROUGH = False
"""Whether each file is met by all commands that take it, or by those that read it in different ways."""

SAMPLE = ["--length", "5"]
TRAIN = ["--hidden", "8", "--batch", "2", "--bptt", "4", "--steps", "2", "--sample-length", "5", "--out", "made"]


def as_model(path: Path) -> list[list[str]]:
    """Return the commands that take a model."""
    commands = [
        ["sample", str(path), *SAMPLE],
        ["eval", str(path)],
        ["score", str(path), "t.txt"],
        ["explain", str(path), "t.txt"],
    ]
    return commands if THOROUGH else commands[:1]


def as_text(path: Path) -> list[list[str]]:
    """Return the commands that take a text, as characters and as bytes."""
    return [["train", str(path), *TRAIN], ["train", str(path), *TRAIN, "--tokens", "bytes"]]


def as_table(path: Path, source: str = "a", target: str = "b") -> list[list[str]]:
    """Return the command that takes a table."""
    return [["train", str(path), *TRAIN, "--source", source, "--target", target]]


def cells_of(folder: Path, cell: str, kind: str = "") -> list[list[str]]:
    """Return the commands for a table of rows with such a cell."""
    rows = [{"a": cell, "b": str(n % 2)} for n in range(20)]
    path = folder / f"cells-{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return as_table(path, f"a:{kind}" if kind else "a")


def pickled(marker: Path) -> bytes:
    return pickle.dumps(Bomb(marker))


def as_torch(marker: Path) -> bytes:
    content = io.BytesIO()
    torch.save({"weights": Bomb(marker)}, content)
    return content.getvalue()


def as_numpy(marker: Path) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    return content.getvalue()


def as_zip(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return packed.getvalue()


def as_tar(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        file.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("../../outside")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return packed.getvalue()


PICKLES: dict[str, Callable[[Path], bytes]] = {
    "m.pkl": pickled, "m.pt": as_torch, "m.npy": as_numpy, "m.npz": lambda marker: as_zip("a.npy", as_numpy(marker)),
    "m.zip": lambda marker: as_zip("archive/data.pkl", pickled(marker)),
    "m.tar": lambda marker: as_tar("data.pkl", pickled(marker)), "m.pth.gz": lambda marker: gzip.compress(as_torch(marker)),
}  # fmt: skip


def _pickle_as_model(name: str) -> Hostile:
    def make(folder: Path, marker: Path) -> list[list[str]]:
        (folder / name).write_bytes(PICKLES[name](marker))
        run = Run.create(folder / "run", CONFIG)
        run.model_path.write_bytes(PICKLES[name](marker))
        return as_model(folder / name)[:2] + [["sample", str(folder / "run")]]

    return make


def _pickle_as_data(name: str) -> Hostile:
    def make(folder: Path, marker: Path) -> list[list[str]]:
        (folder / name).write_bytes(PICKLES[name](marker))
        for ending in (".csv", ".jsonl", ".parquet", ".npy", ".png"):
            (folder / f"copy{ending}").write_bytes(PICKLES[name](marker))
        tables = [command for ending in (".csv", ".jsonl", ".parquet") for command in as_table(folder / f"copy{ending}")]
        cells = cells_of(folder, "copy.npy", "vector")
        return as_text(folder / name) + tables + cells

    return make


for _name in PICKLES:
    HOSTILE[f"{_name} as a model"] = _pickle_as_model(_name)
    HOSTILE[f"{_name} as text, table and cell"] = _pickle_as_data(_name)


def _bomb(ending: str, content: bytes) -> Hostile:
    def make(folder: Path, marker: Path) -> list[list[str]]:
        (folder / f"bomb{ending}").write_bytes(content)
        return as_text(folder / f"bomb{ending}")[:1] + as_table(folder / f"bomb{ending}")

    return make


def _bombs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    yield ".gz", lambda: gzip.compress(bytes(1 << 28))
    yield ".bz2", lambda: bz2.compress(bytes(1 << 25)) * 8
    yield ".xz", lambda: lzma.compress(bytes(1 << 28))
    yield ".zst", lambda: zstandard.compress(bytes(1 << 28))
    yield ".csv.gz", lambda: gzip.compress(b"a,b\n" + b"x" * (1 << 28))
    yield ".csv.zst", lambda: zstandard.compress(b'a,b\n"' + b"x\n" * (1 << 27))
    yield ".jsonl.gz", lambda: gzip.compress(b'{"a": "' + b"x" * (1 << 28))
    yield ".zip", lambda: as_zip("a", bytes(1 << 28))


for _ending, _content in _bombs():
    HOSTILE[f"bomb{_ending}"] = lambda folder, marker, e=_ending, c=_content: _bomb(e, c())(folder, marker)  # type: ignore[misc]  # bound early


def headed(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def sealed(about: dict[str, Any], tensors: Any = None, data: bytes = b"", **more: Any) -> bytes:
    """Return a file as anybody can make it who knows how we seal."""
    inner = json.dumps({"format": 2, "sha256": "0" * 64, **about, **more})
    header = json.dumps({"__metadata__": {"unrolled": inner}, **(tensors or {})}).encode()
    content = headed(header, data)
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def _model_file(content: Callable[[], bytes]) -> Hostile:
    def make(folder: Path, marker: Path) -> list[list[str]]:
        (folder / "m.safetensors").write_bytes(content())
        return as_model(folder / "m.safetensors")

    return make


GOOD: dict[str, Any] = {
    "kind": "text", "options": {"hidden": 4, "layers": 1}, "documents": "none", "history": {},
    "tokenizer": {"kind": "bytes", "has_eos": False},
}  # fmt: skip
DEEP = "[" * 100_000
FORMAT_1: dict[str, Any] = {"format": 1, "seal": "0" * 64, "sha256": None}
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _overlapping() -> dict[str, Any]:
    return {"a": F32, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}


MODEL_FILES: dict[str, Callable[[], bytes]] = {
    "a header of 2 GB": lambda: headed(b'{"a":', length=2 << 30),
    "a header of 2^64 bytes": lambda: headed(b"{}", length=2**64 - 1),
    "a header of 10 million entries": lambda: headed(b"{" + b",".join(b'"%d":0' % n for n in range(10_000_000)) + b"}"),
    "a header of 5 million entries": lambda: headed(b"{" + b",".join(b'"%d":0' % n for n in range(5_000_000)) + b"}"),
    "a header of empty lists": lambda: headed(b'{"a":[' + b"[]," * 20_000_000 + b"[]]}"),
    "a header of brackets": lambda: headed(DEEP.encode()),
    "a header of braces": lambda: headed(b'{"a":' * 100_000),
    "metadata of brackets": lambda: headed(json.dumps({"__metadata__": {"unrolled": DEEP}}).encode()),
    "overlapping offsets": lambda: sealed(GOOD, _overlapping(), bytes(12)),
    "negative offsets": lambda: sealed(GOOD, {"a": F32 | {"data_offsets": [-8, 0]}}, bytes(8)),
    "offsets beyond the end": lambda: sealed(GOOD, {"a": F32 | {"data_offsets": [0, 2**63]}}, bytes(8)),
    "offsets the wrong way": lambda: sealed(GOOD, {"a": F32 | {"data_offsets": [8, 0]}}, bytes(8)),
    "a type that is none": lambda: sealed(GOOD, {"a": F32 | {"dtype": "F1024"}}, bytes(8)),
    "a type that is a number": lambda: sealed(GOOD, {"a": F32 | {"dtype": 7}}, bytes(8)),
    "a shape that overflows": lambda: sealed(GOOD, {"a": F32 | {"shape": [2**62, 2**62]}}, bytes(8)),
    "a negative shape": lambda: sealed(GOOD, {"a": F32 | {"shape": [-2]}}, bytes(8)),
    "weights of other types": lambda: sealed(GOOD, {"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}, bytes(8)),
    "an infinite format": lambda: sealed(GOOD, format=math.inf),
    "a format of many digits": lambda: sealed(GOOD, format=10**300),
    "a seal that is no digest": lambda: headed(
        json.dumps({"__metadata__": {"unrolled": json.dumps({"format": 2, "sha256": "\ud800" * 64})}}).encode()
    ),
    "hidden of 10^12": lambda: sealed(GOOD | {"options": {"hidden": 10**12}}),
    "hidden of 10^400": lambda: sealed(GOOD | {"options": {"hidden": 10**400}}),
    "the largest there may be": lambda: sealed(GOOD | {"options": {"hidden": 65536, "layers": 64}}),
    "options that are no numbers": lambda: sealed(GOOD | {"options": {"dropout": math.nan, "hidden": 4}}),
    "options of many digits": lambda: sealed(GOOD | {"options": {"dropout": 10**400, "hidden": 4}}),
    "a vocabulary of a million": lambda: sealed(GOOD | {"tokenizer": {"kind": "characters", "tokens": "a" * 10**6}}),
    "a vocabulary that is a list": lambda: sealed(GOOD | {"tokenizer": [[]]}),
    "history that is a list": lambda: sealed(GOOD | {"history": [1]}),
    "a spec without a target": lambda: sealed(
        {"kind": "table", "options": {}, "table_options": {}, "spec": {"source": {}}, "history": {}}),
    "a picture of 10^12": lambda: sealed(
        {"kind": "table", "options": {"hidden": 4}, "table_options": {}, "history": {}, "spec": {
            "source": {"kind": "image", "name": "a", "shape": [10**6, 10**6, 1], "low": 0, "high": 1, "mean": 0, "scale": 1},
            "target": {"kind": "label", "name": "b", "labels": ["x", "y"]}, "train_stats": {}}},
        {"encoder.norm.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)),
    "numbers of 10^400": lambda: sealed(
        {"kind": "table", "options": {"hidden": 4}, "table_options": {}, "history": {}, "spec": {
            "source": {"kind": "number", "name": "a", "mean": [10**400], "scale": [1]},
            "target": {"kind": "label", "name": "b", "labels": ["x", "y"]}, "train_stats": {}}},
        {"encoder.norm.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)),
    "a table model of format 1 without columns": lambda: sealed({"kind": "pairs", "task": {"source": {}}}, **FORMAT_1),
    "a checkpoint of format 1 that is a list": lambda: sealed({"kind": "training", "position": {"spent": []}}, **FORMAT_1),
}  # fmt: skip
for _name, _make in MODEL_FILES.items():
    HOSTILE[_name] = _model_file(_make)


@hostile
def a_sparse_file_of_4_gb(folder: Path, marker: Path) -> list[list[str]]:
    with open(folder / "m.safetensors", "wb") as file:
        file.truncate(4 << 30)
    return as_model(folder / "m.safetensors")


def made_run(folder: Path) -> Path:
    """Return a sound run that stopped at step 2."""
    pattern = folder.parent / "made-run"
    if not pattern.exists():
        train("text", str(pattern), 4, stop_after=2)
    shutil.copytree(pattern, folder / "run")
    return folder / "run"


def as_run(path: Path) -> list[list[str]]:
    """Return the commands that take a run."""
    commands = [["train", "--resume", str(path)], ["report", str(path)], ["eval", str(path)], ["sample", str(path), *SAMPLE]]
    return commands if THOROUGH else commands[:1]


def _options(**values: Any) -> Hostile:
    def make(folder: Path, marker: Path) -> list[list[str]]:
        path = made_run(folder)
        config = json.loads((path / "config.json").read_text())
        config["options"] |= values
        (path / "config.json").write_text(json.dumps(config))
        return as_run(path)[:3] if THOROUGH else as_run(path)[:1]

    return make


OPTIONS: dict[str, dict[str, Any]] = {
    "a configuration of hidden 10^12": {"hidden": 10**12},
    "a configuration of hidden 10^400": {"hidden": 10**400},
    "a configuration of lr 10^400": {"lr": 10**400},
    "a configuration of batch 10^12": {"batch": 10**12},
    "a configuration of bptt 10^12": {"bptt": 10**12},
    "a configuration of steps 10^300": {"steps": 10**300, "stop_after": 3},
    "a configuration of eval_symbols 10^300": {"eval_symbols": 10**300},
    "a configuration of seed 2^62": {"seed": 2**62},
    "a configuration of nan": {"lr": math.nan},
    "a configuration of infinite minutes": {"minutes": math.inf, "steps": None},
    "a configuration of save_every nan": {"save_every": math.nan},
    "a configuration of texts": {"hidden": "16", "lr": "0.1"},
    "a configuration of lists": {"hidden": [16], "cell": ["lstm"]},
}
for _name, _values in OPTIONS.items():
    HOSTILE[_name] = _options(**_values)


def _replaced(name: str, content: bytes | Callable[[Path], None]) -> Hostile:
    def make(folder: Path, marker: Path) -> list[list[str]]:
        path = made_run(folder)
        (path / name).unlink(missing_ok=True)
        if callable(content):
            content(path / name)
        else:
            (path / name).write_bytes(content)
        return as_run(path) + [["report", str(path)]] * (name.endswith("l") and not callable(content))

    return make


STEP = "checkpoints/step-2"
OUTSIDE = "/etc/passwd"


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: os.symlink(target, path)


def _manifest_of(**digests: str) -> bytes:
    return json.dumps({"step": 2, "sha256": digests}).encode()


HOSTILE |= {
    "a configuration of brackets": _replaced("config.json", DEEP.encode()),
    "a manifest of brackets": _replaced(f"{STEP}/MANIFEST.json", DEEP.encode()),
    "a manifest of 20 MB": _replaced(f"{STEP}/MANIFEST.json", b"[" + b"[]," * 7_000_000 + b"[]]"),
    "a log of brackets": _replaced("metrics.jsonl", b'{"step": 1}\n' + DEEP.encode() + b"\n"),
    "a log of odd records": _replaced(
        "metrics.jsonl", b'{"step": "x"}\n{"step": null}\n{"step": [1]}\n3\n"x"\n{"event": "train"}\n'
    ),
    "a log of odd samples": _replaced("samples.jsonl", b'{"step": {}}\n{"text": 5}\n{}\n'),
    "a manifest that climbs": _replaced(f"{STEP}/MANIFEST.json", _manifest_of(**{"../../etc/passwd": "0" * 64})),
    "a manifest of absolute paths": _replaced(f"{STEP}/MANIFEST.json", _manifest_of(**{OUTSIDE: "0" * 64, "\0": "1"})),
    "a manifest that vouches for nothing": _replaced(f"{STEP}/MANIFEST.json", _manifest_of()),
    "a manifest that never ends": _replaced(f"{STEP}/MANIFEST.json", _link("/dev/zero")),
    "training tensors that never end": _replaced(f"{STEP}/training.safetensors", _link("/dev/zero")),
    "a model that never ends": _replaced("model.safetensors", _link("/dev/zero")),
    "a log that never ends": _replaced("metrics.jsonl", _link("/dev/zero")),
    "a log that waits": _replaced("samples.jsonl", os.mkfifo),
    "a manifest that waits": _replaced(f"{STEP}/MANIFEST.json", os.mkfifo),
    "a model that waits": _replaced("model.safetensors", os.mkfifo),
    "a configuration that waits": _replaced("config.json", os.mkfifo),
    "a configuration of another": _replaced("config.json", _link(OUTSIDE)),
    "a log of another": _replaced("metrics.jsonl", _link("../outside.txt")),
    "a model of another": _replaced("model.safetensors", _link(OUTSIDE)),
}  # fmt: skip


@hostile
def a_checkpoint_of_another_run(folder: Path, marker: Path) -> list[list[str]]:
    path = made_run(folder)
    shutil.move(path / STEP, folder / "elsewhere")
    os.symlink(folder / "elsewhere", path / STEP)
    return [*as_run(path), ["train", "--resume", str(path), "--steps", "9"]]


def _table(name: str, content: Callable[[], bytes], *columns: tuple[str, str]) -> Hostile:
    def make(folder: Path, marker: Path) -> list[list[str]]:
        (folder / name).write_bytes(content())
        return [command for pair in columns or [("a", "b")] for command in as_table(folder / name, *pair)]

    return make


WIDE = ",".join(f"c{n}" for n in range(100_000)) + "\n" + ",".join(["1"] * 100_000) + "\n"
SURROGATES = '{"a": "x\\ud800y", "b": "\\udfff"}\n{"a": "b", "b": "c"}\n' * 9
HOSTILE |= {
    "a_field_of_100_mb": _table("big.csv", lambda: b"a,b\n" + b"x" * 100_000_000 + b",1\nc,2\n"),
    "a_quoted_field_of_100_mb": _table("big.csv", lambda: b'a,b\n"' + b"xyz\n" * 25_000_000 + b'",1\nc,2\n'),
    "a_header_of_100_mb": _table("big.csv", lambda: b"x" * 100_000_000),
    "a_row_of_json_of_100_mb": _table("big.jsonl", lambda: b'{"a": "' + b"x" * 100_000_000 + b'", "b": "1"}\n'),
    "columns_100_000": _table("wide.csv", WIDE.encode, ("c0", "c99999"), ("nope", "c1")),
    "a_row_of_brackets": _table("deep.jsonl", f'{{"a": {DEEP}\n'.encode),
    "a_lone_surrogate": _table("s.jsonl", SURROGATES.encode, ("a", "b"), ("a:bytes", "b:bytes"), ("a:bpe", "b:text")),
}


@hostile
def rows_of_nearly_too_many_brackets(folder: Path, marker: Path) -> list[list[str]]:
    commands = []
    for depth in (100, 500, *range(900, 1000, 12)):
        name = folder / f"deep-{depth}.jsonl"
        row = f'{{"a": {"[" * depth}1{"]" * depth}, "b": "1"}}\n'
        name.write_text(row * 3, "utf-8")
        commands += as_table(name)
    return commands


@hostile
def numbers_of_10_to_the_400(folder: Path, marker: Path) -> list[list[str]]:
    commands = []
    for index, value in enumerate((10**400, [10**400, 1], [[10**400]], "1e999", math.inf)):
        name = folder / f"n{index}.jsonl"
        name.write_text("".join(json.dumps({"a": value, "b": str(n % 2)}) + "\n" for n in range(20)), "utf-8")
        commands += as_table(name) + as_table(name, "a:number") + as_table(name, "a:vector") + as_table(name, "b", "a:number")
    return commands


def _png_of(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _npy_of(header: str) -> bytes:
    padded = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + bytes(64)


NPY = (
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': [('a', '<f8'), ('b', '<i4')], 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (8L,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (8,",
    "{[]: 1}", "__import__('os').system('touch marker')", "(" * 4000, "[" * 9000, "-" * 9000, "{'descr': " + "(" * 150,
    "'" * 3, "1_0", "{'shape'", "\\", "{'descr': '<f8', 'fortran_order': False, 'shape': (8,), } \x00",
)  # fmt: skip


@hostile
def arrays_of_strangers(folder: Path, marker: Path) -> list[list[str]]:
    commands = []
    for index, header in enumerate(NPY):
        (folder / f"a{index}.npy").write_bytes(_npy_of(header))
        rows = [{"a": f"a{index}.npy", "b": str(n % 2)} for n in range(4)]
        (folder / f"a{index}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        commands += as_table(folder / f"a{index}.jsonl")
    return commands


def _endless(folder: Path, marker: Path) -> list[list[str]]:
    os.symlink("/dev/zero", folder / "zero.npy")
    os.symlink("/dev/zero", folder / "zero.png")
    return cells_of(folder, "zero.npy", "vector") + cells_of(folder, "zero.png", "image")


def _picture(side: int, kind: str = "") -> Hostile:
    def make(folder: Path, marker: Path) -> list[list[str]]:
        (folder / "p.png").write_bytes(_png_of(side, side))
        return cells_of(folder, "p.png", kind)

    return make


HOSTILE |= {
    "a_picture_of_100_000_squared": _picture(100_000, "image"), "a_picture_of_9_000_squared": _picture(9_000),
    "a_cell_that_climbs": lambda folder, marker: cells_of(folder, "../../../../etc/passwd.npy", "vector"),
    "a_cell_that_never_ends": _endless,
}  # fmt: skip


def meet(name: str, folder: str, marker: str) -> dict[str, Any]:
    """Call the command line with the commands that a hostile file is for; return what came of them."""
    from unrolled.cli.main import main

    commands = json.loads((Path(folder) / "commands.json").read_text())
    os.chdir(folder)
    found: dict[str, Any] = {"codes": [], "seconds": [], "said": []}
    for command in commands:
        told, stderr = io.StringIO(), sys.stderr
        sys.stderr = told
        started = time.process_time()
        try:
            code: Any = main(command)
        except Exception:
            code = traceback.format_exc(limit=-5)
        finally:
            sys.stderr = stderr
        found["codes"].append(code)
        found["seconds"].append(time.process_time() - started)
        said = [line for line in told.getvalue().splitlines() if line.startswith("unrolled: ")]
        found["said"].append([line[:5000] for line in said])
        if isinstance(code, int) and "--out" in command:
            shutil.rmtree("made", ignore_errors=True)
    return found


def make_hostile(name: str, folder: str, marker: str, thorough: bool) -> list[list[str]]:
    """Make the file in a child, since making it takes memory too."""
    global THOROUGH
    THOROUGH = thorough
    write_data(Path(folder))
    write_data(Path(folder).parent)
    (Path(folder) / "outside.txt").write_text("not yours\n", "utf-8")
    commands = HOSTILE[name](Path(folder), Path(marker))
    (Path(folder) / "commands.json").write_text(json.dumps(commands))
    return commands


SLOW = {
    "bomb.csv.gz", "bomb.gz", "bomb.bz2", "bomb.xz", "bomb.csv.zst", "bomb.jsonl.gz", "bomb.zip",
    "a header of 10 million entries", "a header of 5 million entries", "a manifest of 20 MB", "a_quoted_field_of_100_mb",
    "a configuration of lr 10^400", "a configuration of eval_symbols 10^300", "a configuration of infinite minutes",
    "a configuration of save_every nan", "a configuration of lists", "a configuration of texts",
    "m.pkl as text, table and cell", "m.npz as text, table and cell", "m.tar as text, table and cell",
    "m.pth.gz as text, table and cell", "a configuration of batch 10^12", "a manifest that climbs", "a model that waits",
}  # fmt: skip
"""Files that take long to make or to read, or are like others: met in the longer run."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in SLOW])
def test_a_file_made_to_harm_does_none(forks: Forks, name: str) -> None:
    meet_hostile(forks, name, thorough=False)


@LONG
@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_made_to_harm_does_none_whoever_reads_it(forks: Forks, name: str) -> None:
    meet_hostile(forks, name, thorough=True)


def meet_hostile(forks: Forks, name: str, thorough: bool) -> None:
    folder = Path(tempfile.mkdtemp(dir=forks.folder))
    marker = folder / "marker"
    try:
        prepared = forks.call(make_hostile, name, folder, marker, thorough)
        assert prepared.value, prepared.err
        left = forks.call(meet, name, folder, marker)
        assert left.value is not None, (left.code, left.err[-2000:])
        for command, code, said in zip(prepared.value, left.value["codes"], left.value["said"], strict=True):
            assert code in (0, 1, 2, 3, 4), (command, code)
            assert len(said) == (code != 0), (command, said)
            assert all(len(line) < 4000 for line in said), (command, "a sentence is expected")
        assert not marker.exists(), "it ran"
        assert not Path("/tmp/outside").exists()
        assert (folder / "outside.txt").read_text("utf-8") == "not yours\n"
        slowest, told = max(left.value["seconds"]), left.value["codes"]
        assert slowest < 2.0 * (1 + 3 * ("bomb" in name)), (slowest, prepared.value)
        assert left.grown < GROWTH, f"{left.grown:.0f} megabytes"
        print(f"\n{name}: codes {told}, {slowest:.2f} s, {max(0.0, left.grown):.0f} MB")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_there_are_many() -> None:
    assert len(HOSTILE) - len(SLOW) >= 30
    assert set(HOSTILE) >= SLOW
