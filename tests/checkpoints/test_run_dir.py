"""What lasts: whole files or none, nothing damaged loads, a run folder that looks after itself."""

import errno
import json
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from support.models import small_model
from unrolled import atomic_io
from unrolled.checkpoints import model_file
from unrolled.checkpoints.model_file import TextModelFile, load_checked, load_text_model, save_checked, save_model
from unrolled.checkpoints.run_dir import JsonLinesLog, Run, find_model
from unrolled.errors import ModelError, StorageError, UsageError
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.text.tokenizer import ByteTokenizer


@pytest.mark.parametrize("end", [False, True])
def test_a_model_comes_back_bit_equal(tmp_path: Path, end: bool) -> None:
    saved = small_model(end=end)
    save_model(tmp_path / "m.safetensors", saved)
    loaded = load_text_model(tmp_path / "m.safetensors")
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name])
    assert loaded.model.options == saved.model.options
    assert loaded.tokenizer.to_json() == saved.tokenizer.to_json()
    assert (loaded.documents, loaded.history) == (saved.documents, saved.history)
    assert all(weight.requires_grad for weight in loaded.model.parameters())


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    for name in "ab":
        save_model(tmp_path / name, small_model())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_bytes_need_no_symbols(tmp_path: Path) -> None:
    model = RecurrentLM(257, ModelOptions(hidden=4, layers=1))
    save_model(tmp_path / "m", TextModelFile(model, ByteTokenizer(True)))
    assert load_text_model(tmp_path / "m").tokenizer.eos_id == 256


def test_no_damaged_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, small_model())
    good, draw = path.read_bytes(), random.Random(0)
    for round_ in range(600):
        bad = bytearray(good)
        kind = round_ % 4
        if kind == 0:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del bad[draw.randrange(len(bad)) :]
        elif kind == 2:
            bad += draw.randbytes(draw.randint(1, 9))
        else:
            start = draw.randrange(len(bad))
            bad[start : start + 8] = draw.randbytes(8)
        if bytes(bad) == good:
            continue
        path.write_bytes(bad)
        with pytest.raises(ModelError):
            load_text_model(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 7, b"\xff" * 200, b"\x80\x04cos\nsystem\n", (2**62).to_bytes(8, "little") + b"{}", b"PK\x03\x04" * 50],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelError):
        load_text_model(tmp_path / "m")


def test_a_newer_format_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "FORMAT_VERSION", 3)
    save_model(tmp_path / "m", small_model())
    monkeypatch.undo()
    with pytest.raises(ModelError, match="format 3 and this version of unrolled reads up to 2: install a newer"):
        load_text_model(tmp_path / "m")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    saved = small_model()
    about = {"kind": "text", "options": {"hidden": 7, "layers": 1}, "documents": "none", "history": {}}
    save_checked(tmp_path / "m", saved.model.state_dict(), about | {"tokenizer": saved.tokenizer.to_json()})
    with pytest.raises(ModelError, match="the weights are not those of its options"):
        load_text_model(tmp_path / "m")
    about["options"] = {"hiden": 6}
    save_checked(tmp_path / "n", saved.model.state_dict(), about | {"tokenizer": saved.tokenizer.to_json()})
    with pytest.raises(ModelError, match="unknown setting 'hiden'; did you mean 'hidden'"):
        load_text_model(tmp_path / "n")


def test_unknown_documents_are_refused_with_all_choices(tmp_path: Path) -> None:
    saved = small_model()
    save_checked(tmp_path / "m", saved.model.state_dict(), saved.metadata() | {"documents": "page"})
    with pytest.raises(ModelError, match="'page', and one of none, line, blank-line, file, cell, record, session is expected"):
        load_text_model(tmp_path / "m")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    save_model(path, small_model(1))
    after = path.read_bytes()
    save_model(path, small_model(0))
    before = path.read_bytes()
    calls = {"count": 0, "fail_at": 0}

    def failing(real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            calls["count"] += 1
            if calls["count"] == calls["fail_at"]:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **named)

        return call

    for name in ("fsync", "replace", "chmod", "open"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    failures = []
    for fail_at in range(1, 40):
        calls.update(count=0, fail_at=fail_at)
        try:
            save_model(path, small_model(1))
        except StorageError as error:
            failures.append(str(error))
        assert path.read_bytes() in (before, after)
        path.write_bytes(before)
        if calls["count"] < fail_at:
            break
    assert all("the disk is full" in failure for failure in failures)
    assert len(failures) >= 4
    assert not list(tmp_path.glob(f"*{atomic_io.TMP_MARK}*"))


def test_faults_are_reported_with_path_and_reason(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        atomic_io.write_atomic(blocker / "m", b"x")
    with pytest.raises(StorageError, match="make the folder"):
        atomic_io.make_dir(blocker / "folder")


def test_files_have_ordinary_rights(tmp_path: Path) -> None:
    atomic_io.write_atomic(tmp_path / "m", b"x")
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o666 & ~atomic_io._umask()


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_io.atomic_dir(tmp_path / "f") as folder:
            (folder / "a").write_text("1")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not list(tmp_path.glob("f*"))
    for text in ("1", "2"):
        with atomic_io.atomic_dir(tmp_path / "f") as folder:
            (folder / "a").write_text(text)
    assert (tmp_path / "f" / "a").read_text() == "2"
    assert [path.name for path in tmp_path.glob("f*")] == ["f"]
    (tmp_path / f"g{atomic_io.TMP_MARK}x").mkdir()
    (tmp_path / f"h{atomic_io.TMP_MARK}x").write_text("x")
    atomic_io.remove_tmp(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if atomic_io.TMP_MARK in path.name] == []


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    first = Run.create(tmp_path / "r", {"format": 2, "a": 0})
    with pytest.raises(UsageError, match="being trained by another process"):  # two trainings begin at once
        Run.create(tmp_path / "r", {"format": 2, "a": 2})
    assert first.config["a"] == 0
    first.unlock()
    run = Run.create(tmp_path / "r", {"format": 2, "a": 1})  # nothing was learned in it yet
    run.save_best(small_model())
    with pytest.raises(UsageError, match="exists already"):
        Run.create(tmp_path / "r", {})
    assert Run.open(tmp_path / "r").config == {"format": 2, "a": 1}
    with pytest.raises(ModelError, match=r"did you mean 'r'|Runs there: r"):
        Run.open(tmp_path / "rr")


def test_the_last_two_checkpoints_are_kept_and_damage_is_passed_over(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", {})
    with pytest.raises(ModelError, match=r"no checkpoint to go on from: .*Train it again: out='.*r'$"):
        run.load_checkpoint()
    for step in (10, 20, 100):
        run.save_checkpoint(step, small_model(step), {"x": torch.tensor([step])}, {"state": {"step": step}})
    assert [step for step, _ in run.checkpoints()] == [20, 100]
    _, tensors, about, passed = run.load_checkpoint()
    assert (tensors["x"].item(), about["state"], passed) == (100, {"step": 100}, [])
    damaged = run.path / "checkpoints" / "step-100" / "training.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    _, tensors, _, passed = run.load_checkpoint()
    assert tensors["x"].item() == 20
    assert len(passed) == 1
    (run.path / "checkpoints" / "step-20" / "MANIFEST.json").unlink()
    with pytest.raises(ModelError, match="no checkpoint to go on from"):
        run.load_checkpoint()


def test_run_names_a_folder_a_checkpoint_or_a_file(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", {})
    with pytest.raises(ModelError, match="no model yet"):
        find_model(run.path)
    run.save_best(small_model())
    run.save_checkpoint(1, small_model(), {}, {})
    assert find_model(run.path) == find_model(run.model_path) == run.model_path
    assert load_text_model(find_model(run.path / "checkpoints" / "step-1")).tokenizer.vocab_size == 4
    run.model_path.unlink()
    with pytest.raises(ModelError, match=r"has checkpoints, but its model.safetensors is missing: unrolled train --resume "):
        find_model(run.path)
    with pytest.raises(ModelError, match="no run folder and no model file"):
        find_model(tmp_path / "none")


def test_a_log_forgives_its_last_line(tmp_path: Path) -> None:
    log = JsonLinesLog(tmp_path / "log.jsonl")
    assert list(log.read()) == []
    for step in (1, 2, 3):
        log.append({"step": step, "text": "\u2028\u00e9\n"})
    with open(log.path, "a", encoding="utf-8") as file:
        file.write('{"step": 4, "te')
    assert [record["step"] for record in log.read()] == [1, 2, 3]
    log.truncate_after(2)
    assert [json.loads(line)["step"] for line in log.path.read_text("utf-8").splitlines()] == [1, 2]


def test_sealed_files_hold_other_kinds_too(tmp_path: Path) -> None:
    save_checked(tmp_path / "t", {"a": torch.arange(3)}, {"kind": "training", "x": [1.5]})
    tensors, about = load_checked(tmp_path / "t")
    assert tensors["a"].tolist() == [0, 1, 2]
    assert about["x"] == [1.5]
    with pytest.raises(ModelError, match="holds no model"):
        load_text_model(tmp_path / "t")
