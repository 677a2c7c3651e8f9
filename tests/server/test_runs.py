"""Runs: their status, metrics reduced for charts, events within a second, and trainings that are started and stopped."""

import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from support.servers import RunningServer, running_server, save_models
from support.text_networks import CHARACTERS
from support.texts import sentences
from unrolled.errors import UsageError
from unrolled.server import run_log
from unrolled.server.run_log import MANY_BYTES, RunLog
from unrolled.server.run_routes import LogTail
from unrolled.server.runs import RunFacts, lock_owners
from unrolled.server.trainings import training_flags
from unrolled.server.uploads import ABANDONED_SECONDS, Uploads
from unrolled.tables.wav_files import write_wav


def train_line(step: int, nats: float, **values: float) -> str:
    return json.dumps({"event": "train", "step": step, "train_nats": nats, "seconds": step / 10, **values}) + "\n"


def test_a_chart_has_the_smallest_and_the_largest_loss_of_each_column(tmp_path: Path) -> None:
    """For any number of columns, and although lines are damaged or cut."""
    random = np.random.default_rng(0)
    path = tmp_path / "metrics.jsonl"
    nats = random.uniform(1, 4, 3000)
    lines = [train_line(10 * (i + 1), float(value), lr=i / 1e4, tokens_per_second=500) for i, value in enumerate(nats)]
    lines.insert(700, '{"event": "validation", "step": 7000, "val_nats": 1.5, "seconds": 700}\n')
    lines.insert(900, "{damaged\n")
    lines.insert(901, "\n")
    assert path.write_text("".join(lines) + '{"event": "tr', "utf-8") > MANY_BYTES
    log = RunLog(path)
    assert log.update() == len(nats) + 1
    for columns in (1, 7, 100, 5000):
        reduced = log.reduced(columns, 0, 2.0)
        starts = np.array(reduced["step"])
        assert len(starts) <= columns
        rows = np.searchsorted(starts, 10 * np.arange(1, len(nats) + 1), side="right") - 1
        lowest = [2 * nats[rows == row].min() for row in range(len(starts))]
        highest = [2 * nats[rows == row].max() for row in range(len(starts))]
        np.testing.assert_allclose(reduced["train_min"], lowest)
        np.testing.assert_allclose(reduced["train_max"], highest)
        assert reduced["validation"] == [[7000.0, 3.0]]
        assert len(reduced["lr"]) == len(reduced["tokens_per_second"]) == len(starts)
    assert min(log.reduced(10, 20_000, 1.0)["step"]) >= 20_000
    with open(path, "a", encoding="utf-8") as file:
        file.write('ain", "step": 99990, "train_nats": 0.5, "seconds": 1}\n')
    assert log.update() == len(nats) + 2
    assert log.last["train_nats"] == 0.5
    path.write_text(train_line(10, 3.5), "utf-8")  # a resume that starts again
    os.utime(path, (1, 1))
    assert log.update() == 1
    path.unlink()
    assert log.update() == 0
    assert log.reduced(10, 0, 1.0)["step"] == []


@pytest.mark.parametrize("size", [200, 777, 5000])
def test_a_log_is_read_in_parts_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Lines that are cut by the end of a part are whole; only one that is longer than a part is left out."""
    monkeypatch.setattr(run_log, "READ_BYTES", size)
    monkeypatch.setattr(run_log, "MANY_BYTES", 100)
    lines = [train_line(step, 4 - step / 100, lr=0.01) for step in range(1, 101)]
    lines.insert(50, '{"event": "validation", "step": 50, "val_nats": 2.5, "seconds": 9}\n')
    lines.insert(60, json.dumps({"event": "note", "step": 60, "text": "x" * 2 * size}) + "\n")
    path = tmp_path / "metrics.jsonl"
    log = RunLog(path)
    for stop in range(1, len(lines) + 1, 40):
        path.write_text("".join(lines[:stop])[:-3], "utf-8")
        log.update()
    path.write_text("".join(lines), "utf-8")
    assert log.update() == 101
    reduced = log.reduced(200, 0, 1.0)
    assert reduced["step"] == list(range(1, 101))
    np.testing.assert_allclose(reduced["train_min"], [4 - step / 100 for step in range(1, 101)])
    assert (reduced["validation"], log.last["lr"], log.last["seconds"]) == ([[50.0, 2.5]], 0.01, 10.0)


@pytest.mark.long
def test_a_log_of_a_million_lines_opens_in_time(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for step in range(1_000_000):
            file.write(train_line(10 * step, 3 + math.sin(step), lr=0.01, tokens_per_second=9000.5, gradient_norm=0.5123))
    log = RunLog(path)
    started = time.process_time()
    assert log.update() == 1_000_000
    assert len(log.reduced(1000, 0, 1.0)["step"]) == 1000
    assert time.process_time() - started < 1.2  # 0.7 seconds, on a machine that does nothing else


def test_a_tail_gives_each_record_once_whatever_the_writes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(train_line(1, 1.0), "utf-8")
    tail, whole = LogTail(path, from_end=True), LogTail(path, from_end=False)
    assert tail.new_records() == []
    assert [record["step"] for record in whole.new_records()] == [1]
    content = (train_line(2, 2.0) + "damaged\n[1]\n" + train_line(3, 3.0)).encode()
    found = []
    for start in range(0, len(content), 7):
        with open(path, "ab") as file:
            file.write(content[start : start + 7])
        found += [record["step"] for record in tail.new_records()]
    assert found == [2, 3]
    late = LogTail(tmp_path / "later.jsonl", from_end=True)
    assert late.new_records() == []
    (tmp_path / "later.jsonl").write_text(train_line(5, 1.0), "utf-8")
    assert [record["step"] for record in late.new_records()] == [5]


def make_run(path: Path, steps: int, checkpoint: int | None) -> RunFacts:
    (path / "checkpoints").mkdir(parents=True)
    if checkpoint is not None:
        (path / "checkpoints" / f"step-{checkpoint}").mkdir()
    config = {"inputs": ["a.txt"], "options": {"steps": 100, "source": None}, "explicit_options": ["steps"]}
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    (path / "metrics.jsonl").write_text("".join(train_line(step, 2.0) for step in range(10, steps + 1, 10)), "utf-8")
    return RunFacts(path)


@pytest.mark.parametrize(
    ("setting", "loss_unit", "unit", "loss"),
    [
        ("source", None, "bits per character", 2.0 / math.log(2)),
        ("target", "target", "bits per target", 2.0 / math.log(2)),
        ("target", None, "", 2.0),  # a run of an older version
        ("horizon", "number", "of scaled numbers", 2.0),
    ],
)
def test_losses_are_in_the_unit_of_what_is_predicted(
    tmp_path: Path, setting: str, loss_unit: str | None, unit: str, loss: float
) -> None:
    facts = make_run(tmp_path / "run", 20, 20)
    config = {"inputs": ["a.csv"], "options": {"source": "a", setting: "12"}} | ({"loss_unit": loss_unit} if loss_unit else {})
    (facts.path / "config.json").write_text(json.dumps(config), "utf-8")
    shown = facts.to_json("run", None)
    assert shown["unit"] == unit
    assert shown["loss"] == pytest.approx(loss)


def test_the_command_of_a_run_can_be_typed(tmp_path: Path) -> None:
    facts = make_run(tmp_path / "run", 40, 40)
    options = {
        "init_from": "none", "minutes": 8.0, "lr": 1e-4, "attention": False, "balance": True, "source": "v1.0",
        "known_covariates": ["a b", "c"], "horizon": 3,
    }  # fmt: skip
    config = {"inputs": ["my book.txt"], "options": options, "explicit_options": list(options)}
    (facts.path / "config.json").write_text(json.dumps(config), "utf-8")
    assert facts.to_json("run", None)["command"] == (
        "unrolled train 'my book.txt' --from none --minutes 8 --lr 0.0001 --no-attention --balance --source v1.0 "
        "--known-covariates 'a b' --known-covariates c --horizon 3"
    )


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not list locks")
def test_the_status_of_a_run_is_that_of_its_process_and_of_its_files(tmp_path: Path) -> None:
    stopped, dead = make_run(tmp_path / "stopped", 40, 40), make_run(tmp_path / "dead", 40, 20)
    assert stopped.to_json("stopped", None)["status"] == "stopped"
    assert dead.to_json("dead", None)["status"] == "dead"
    code = "import fcntl, os, sys, time; d = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(d, 2); print(flush=True)"
    code += "; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(dead.path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        pid = lock_owners().get(dead.path.stat().st_ino)
        assert pid == process.pid
        run = dead.to_json("dead", pid)
        assert (run["status"], run["steps"], run["total_steps"]) == ("running", 40, 100)
        assert run["eta_seconds"] == pytest.approx(6.0)
        assert run["command"] == "unrolled train a.txt --steps 100"
        process.send_signal(19)
        deadline = time.monotonic() + 5
        while dead.to_json("dead", pid)["status"] != "paused" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert dead.to_json("dead", pid)["status"] == "paused"
    finally:
        process.kill()
        process.wait()
        process.stdout.close() if process.stdout else None
    assert lock_owners().get(dead.path.stat().st_ino) is None


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of an empty folder."""
    (tmp_path / "runs").mkdir()
    with running_server(tmp_path / "runs") as running:
        yield running


def follow(server: RunningServer, found: list[tuple[float, str, Any]], stop: threading.Event) -> None:
    with (
        httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client,
        client.stream("GET", "/api/events") as answer,
    ):
        event = ""
        for line in answer.iter_lines():
            if stop.is_set():
                return
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                found.append((time.monotonic(), event, json.loads(line[6:])))


def test_events_follow_a_log_within_a_second(fresh: RunningServer, tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "one", 20, 20)
    found: list[tuple[float, str, Any]] = []
    stop = threading.Event()
    thread = threading.Thread(target=follow, args=(fresh, found, stop))
    thread.start()
    while not found:
        time.sleep(0.01)
    assert (found[0][1], found[0][2]["run"], found[0][2]["status"]) == ("status", "one", "stopped")
    written = time.monotonic()
    with open(tmp_path / "runs" / "one" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(train_line(30, 1.25))
    (tmp_path / "runs" / "one" / "samples.jsonl").write_text(
        '{"step": 30, "text": "<script>alert(1)</script>\\r\\n"}\n', "utf-8"
    )
    deadline = time.monotonic() + 10
    while len({event for _, event, _ in found} & {"metrics", "sample"}) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    events = {event: (when, value) for when, event, value in found}
    assert events["metrics"][1]["step"] == 30
    assert events["sample"][1]["text"] == "<script>alert(1)</script>\r\n"
    assert events["metrics"][0] - written < 1
    stop.set()
    make_run(tmp_path / "runs" / "two", 20, 20)
    thread.join(20)
    assert not thread.is_alive()
    runs = {run["id"]: run for run in fresh.client.get("/api/runs").json()}
    assert runs.keys() == {"one", "two"}
    metrics = fresh.client.get("/api/runs/one/metrics?columns=5").json()
    assert metrics["unit"] == "bits per character"
    assert metrics["train_min"][-1] == pytest.approx(1.25 / math.log(2))
    assert fresh.client.get("/api/runs/one/samples?last=1").json()["samples"][0]["step"] == 30
    for query in ("columns=0", "columns=x", "columns=1e9", "from=-1", "from=nan"):
        assert fresh.client.get(f"/api/runs/one/metrics?{query}").status_code == 400


def test_settings_of_a_training_become_its_flags() -> None:
    flags = training_flags({"steps": 5, "residual": False, "hidden": 16, "calibrate": True, "documents": "line", "lr": None})
    assert flags == ["--steps=5", "--no-residual", "--hidden=16", "--calibrate", "--documents=line"]
    known = training_flags({"source": "a", "horizon": 2, "known_covariates": ["2", "holiday"]})
    assert known[-2:] == ["--known-covariates=2", "--known-covariates=holiday"]
    for options in (
        {"bogus": 1},
        {"steps": "x"},
        {"out": "/tmp/x"},
        {"checkpoint_dir": "/tmp/x"},
        {"checkpoint-dir": "/tmp/x"},
        {"validation": "/etc/passwd"},
        {"cell_files": True},
        {"init_from": "/etc/passwd"},
        {"steps": 1, "minutes": 1},
    ):
        with pytest.raises(UsageError):
            training_flags(options)


def test_refusals_name_the_settings_of_the_request(fresh: RunningServer) -> None:
    def message(**options: object) -> str:
        return str(fresh.client.post("/api/train", json={"text": sentences(9), "options": options}).json()["error"]["message"])

    assert message(hidden=0) == "hidden= is 0; expected a finite number of at least 1 and of at most 65,536."
    assert message(steps=1, minutes=1).startswith("minutes= and steps= are given")
    assert message(residual="no") == "residual is 'no'; expected true or false."
    assert message(out="/tmp/x") == "options: out cannot be set here; the field name is the name of the run."
    assert message(threads=2) == "options: threads cannot be set here; the server's command line has it."
    assert message(validation="v.csv").endswith("it names files of the server, and clients name none: leave it out.")
    run = fresh.client.post("/api/train", json={"text": "abc"}).json()["run"]
    error = wait_for(fresh, run, ("dead",))["error"]
    assert error == "The text has 3 tokens, and at least 10 are needed to learn from: give more text."


def test_two_trainings_without_a_name_have_two(fresh: RunningServer) -> None:
    """The second one comes before the first one has a folder."""
    body = {"text": sentences(30), "options": {"steps": 1, "hidden": 4, "layers": 1, "seed": -1}}
    runs = [fresh.client.post("/api/train", json=body).json()["run"] for _ in range(2)]
    processes = [training.process for training in fresh.services.trainings._started.values()]
    assert runs == ["text", "text-2"]
    assert [process.wait(60) for process in processes] == [0, 0]
    for run in runs:
        wait_for(fresh, run, ("finished",))


def test_uploads_that_no_run_has_used_are_removed_after_a_day(fresh: RunningServer, tmp_path: Path) -> None:
    ids = [fresh.client.post("/api/uploads?name=a.txt", content=b"abc").json()["upload"] for _ in range(3)]
    work = fresh.services.trainings.uploads.work_folder
    make_run(tmp_path / "runs" / "one", 20, 20)
    (tmp_path / "runs" / "one" / "config.json").write_text(json.dumps({"inputs": [str(work / ids[0] / "a.txt")]}))
    make_run(tmp_path / "runs" / "damaged", 20, 20)
    (tmp_path / "runs" / "damaged" / "config.json").write_bytes(b"\xff")
    for name in ids:
        os.utime(work / name, (0, time.time() - 25 * 3600))
    fresh.services.trainings.uploads.path(ids[2])  # a training is about to begin
    new = fresh.client.post("/api/uploads?name=b.txt", content=b"abc").json()["upload"]
    assert {path.name for path in work.glob("upload-*")} == {ids[0], ids[2], new}


def test_half_an_upload_is_none_and_is_removed(fresh: RunningServer) -> None:
    """That of a server that was killed in the middle of it; one whose bytes still come stays."""
    uploads = fresh.services.trainings.uploads
    with uploads.receive("a.txt") as path:
        path.write_text("half a te")
        dead = uploads.work_folder / ("upload-" + "0" * 16 + path.parent.name[23:])
        shutil.copytree(path.parent, dead)
        for name in (path.parent.name, dead.name, dead.name[:23]):
            assert fresh.client.post("/api/train", json={"upload": name}).status_code in (400, 404)
        for changed in (dead, dead / "a.txt"):
            os.utime(changed, (0, time.time() - ABANDONED_SECONDS - 1))
        os.utime(path.parent, (0, 0))  # its file is newer
        Uploads(uploads.folder)  # as the next start
        assert list(uploads.work_folder.glob("upload-*")) == [path.parent]
    assert list(uploads.work_folder.glob("upload-*")) == []


def test_an_upload_that_a_client_breaks_off_leaves_nothing(fresh: RunningServer) -> None:
    work = fresh.services.trainings.uploads.work_folder
    with fresh.socket() as client:
        client.sendall(b"POST /api/uploads?name=a.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nhalf")
        wait_until(lambda: any(work.glob("upload-*/a.txt")))
    wait_until(lambda: not any(work.glob("upload-*")))


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_cannot_be_trained_is_refused(fresh: RunningServer) -> None:
    bodies: list[dict[str, Any]] = [
        {}, {"text": "a", "upload": "b"}, {"text": " "}, {"text": "abc", "name": "../x"}, {"text": "abc", "name": ".x"},
        {"text": "abc", "name": "a/b"}, {"upload": "upload-x"}, {"upload": "../x"}, {"text": "abc", "options": {"out": "x"}},
        {"text": "abc", "options": {"steps": "--out=x"}}, {"text": "abc", "options": [1]},
        *({"text": "abc", "options": {"from": base}} for base in ("/etc/passwd", "../x", "runs/one", "builtin:x", ".", 1)),
        {"text": "abc", "options": {"cell-files": True}}, {"text": "abc", "options": {"config": "/etc/passwd"}},
    ]  # fmt: skip
    for body in bodies:
        answer = fresh.client.post("/api/train", json=body)
        assert answer.status_code in (400, 404, 422), (body, answer.text)
    assert fresh.client.get("/api/runs").json() == []


UNUSUAL_NAMES = ("my book", "Größe (2)", "日本語", "a&b;c='d'", "नमस्ते.txt")


def test_runs_of_any_name_are_listed_and_write(fresh: RunningServer, runs_folder: Path) -> None:
    """As `unrolled train "my book.txt"` names them, in every place that takes an id; a blank at an end is none."""
    for name in (*UNUSUAL_NAMES, ".hidden", "a\nb", " b "):
        shutil.copytree(runs_folder / "letters", fresh.services.trainings.folder / name)
    assert {run["id"] for run in fresh.client.get("/api/runs").json()} == set(UNUSUAL_NAMES)
    for name in UNUSUAL_NAMES:
        body = {"model": name, "prompt": "ab", "max_tokens": 4}
        assert fresh.client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 4
        in_path = quote(name, safe="")
        assert fresh.client.get(f"/api/models/{in_path}").json()["id"] == name
        assert fresh.client.get(f"/api/runs/{in_path}/samples").json() == {"samples": []}
        assert fresh.client.post("/api/train", json={"text": "abc", "name": f" {name} "}).status_code == 409


def test_a_run_has_the_name_that_was_typed(fresh: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def spawn(run_id: str, arguments: list[str]) -> str:
        started.append(arguments)
        return run_id

    monkeypatch.setattr(fresh.services.trainings, "_spawn", spawn)
    for name, run_id in (("My poems", "My poems"), (" Größe (2) ", "Größe (2)"), (None, "text")):
        body = {"text": "abc"} | ({} if name is None else {"name": name})
        assert fresh.client.post("/api/train", json=body).json() == {"run": run_id}
        assert started[-1][1:3] == ["--out", str(fresh.services.trainings.folder / run_id)]
    for name in ("a/b", "a\\b", ".a", "a\nb", "x" * 129, "語" * 100):
        assert fresh.client.post("/api/train", json={"text": "abc", "name": name}).status_code == 400, name


def wait_for(server: RunningServer, run_id: str, statuses: tuple[str, ...], seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        runs = {run["id"]: run for run in server.client.get("/api/runs").json()}
        if run_id in runs and runs[run_id]["status"] in statuses:
            return dict(runs[run_id])
        assert time.monotonic() < deadline, runs
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not list locks")
def test_a_training_is_started_paused_resumed_stopped_and_continued(fresh: RunningServer) -> None:
    """Uploaded with a hostile name; a training that fails says why."""
    upload = fresh.client.post("/api/uploads?name=../../..%2Fbook%20%3Cx%3E.txt", content=sentences(400).encode()).json()
    assert upload["name"] == "book -x-.txt"
    settings = {"hidden": 16, "layers": 1, "batch": 8, "steps": 100_000, "save_every": 1}
    run_id = fresh.client.post("/api/train", json={"upload": upload["upload"], "options": settings}).json()["run"]
    wait_for(fresh, run_id, ("running",))
    deadline = time.monotonic() + 60
    while wait_for(fresh, run_id, ("running",))["steps"] < 20 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert fresh.client.post(f"/api/runs/{run_id}/pause", json={}).json()["status"] == "paused"
    paused = wait_for(fresh, run_id, ("paused",))
    time.sleep(1)
    assert wait_for(fresh, run_id, ("paused",))["steps"] == paused["steps"]
    fresh.client.post(f"/api/runs/{run_id}/resume", json={})
    wait_for(fresh, run_id, ("running",))
    fresh.client.post(f"/api/runs/{run_id}/stop", json={})
    stopped = wait_for(fresh, run_id, ("stopped",))
    assert stopped["has_model"]
    assert fresh.client.post(f"/api/runs/{run_id}/stop").status_code == 409
    fresh.client.post(f"/api/runs/{run_id}/resume", json={})
    wait_for(fresh, run_id, ("running",))
    fresh.client.post(f"/api/runs/{run_id}/stop", json={})
    assert wait_for(fresh, run_id, ("stopped",))["steps"] >= stopped["steps"]
    assert fresh.client.post("/api/train", json={"text": "abc", "name": run_id}).status_code == 409
    failed = fresh.client.post("/api/train", json={"text": "a\nb\nc", "name": "bad", "options": {"source": "x"}}).json()["run"]
    assert wait_for(fresh, failed, ("dead",))["error"]


@pytest.mark.parametrize(
    ("name", "content", "answer"),
    [
        ("a.csv", b"x;y\n1;2\n", ["x", "y"]),
        ("a.jsonl", b'{"q": 1, "r": 2}\n', ["q", "r"]),
        ("a.csv", b"", "The file is empty."),
        ("a.csv", b"x,y\n", "a.csv has no rows: at least one is needed."),
        ("a.csv", b"\x89PNG\r\n\x1a\n" + bytes(99), "a.csv is an image: a cell of a table names it"),
        ("a.txt", b"\x40\0\0\0\0\0\0\0" + b'{"__metadata__":{}}', "a.txt is a model file (safetensors): name it with init_"),
    ],
)  # fmt: skip
def test_the_columns_of_an_uploaded_table_are_named(fresh: RunningServer, name: str, content: bytes, answer: Any) -> None:
    """A refused file is not kept."""
    response = fresh.client.post(f"/api/uploads?name={name}&columns=1", content=content)
    work = (fresh.services.catalog.folder or Path()) / ".server"
    if response.status_code == 200:
        assert response.json()["columns"] == answer
        assert fresh.services.trainings.uploads.path(response.json()["upload"]).read_bytes() == content
    else:
        assert response.json()["error"]["message"].startswith(answer)
        assert not list(work.iterdir())


@pytest.mark.parametrize(
    ("content", "source", "target"),
    [
        ("id,label,text\n1,a,the red dog\n2,b,the blue cat\n3,a,a red fox\n", "text", "label"),  # not the first two
        ("text,from,mood\nwell done,web,yes\nnot so good,web,no\n", "text", "mood"),  # not the one that is always the same
        ("de,en\nhund,dog\nkatze,cat\n", "de", "en"),
        ("text\none\ntwo\n", None, None),
    ],
)  # fmt: skip
def test_a_source_and_a_target_are_suggested(fresh: RunningServer, content: str, source: str, target: str) -> None:
    answer = fresh.client.post("/api/uploads?name=a.csv&columns=1", content=content.encode()).json()
    assert (answer.get("source"), answer.get("target")) == (source, target)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["private.npy", "private.wav", "missing.wav"])
def test_an_uploaded_table_cannot_name_files_of_the_server(fresh: RunningServer, tmp_path: Path, name: str) -> None:
    """The training says so in one sentence, which is the same whether there is such a file or not."""
    np.save(tmp_path / "private.npy", np.arange(20.0))
    write_wav(tmp_path / "private.wav", np.zeros((20, 1)), 8000)
    table = "x,y\n" + "".join(f"{tmp_path / name},{'ab'[row % 2]}\n" for row in range(40))
    upload = fresh.client.post("/api/uploads?name=t.csv", content=table.encode()).json()["upload"]
    options = {"source": "x:numbers", "target": "y", "steps": 2, "hidden": 8, "layers": 1}
    run_id = fresh.client.post("/api/train", json={"upload": upload, "options": options}).json()["run"]
    error = wait_for(fresh, run_id, ("dead",))["error"]
    assert error == "t.csv, line 2: files of this machine cannot be named here: send the numbers or pixels themselves."


@pytest.mark.slow
def test_a_training_starts_from_a_model_of_the_server_by_its_id(fresh: RunningServer) -> None:
    runs = fresh.services.catalog.folder or Path()
    save_models(runs)
    (runs / "linked").symlink_to(runs.parent)
    options = {"steps": 1, "batch": 2, "bptt": 4, "from": "letters", "unknown": "keep", "sample_length": 0}
    run_id = fresh.client.post("/api/train", json={"text": "abc " * 200, "options": options}).json()["run"]
    training = fresh.services.trainings._started[run_id]
    run = wait_for(fresh, run_id, ("finished", "stopped", "dead"))
    assert (run["error"], training.process.wait(60)) == (None, 0)
    assert json.loads((runs / run_id / "config.json").read_text("utf-8"))["options"]["init_from"].endswith(
        "letters/model.safetensors"
    )
    assert fresh.client.post("/api/train", json={"text": "abc", "options": {"from": "linked"}}).status_code == 404


def test_the_lock_of_a_training_is_never_taken(tmp_path: Path) -> None:
    """A training that starts at the moment in which the list is read must not find its folder locked."""
    facts = make_run(tmp_path / "run", 20, 20)
    facts.to_json("run", lock_owners().get(facts.path.stat().st_ino))
    descriptor = os.open(facts.path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_resumed_training_is_shown_as_starting_and_a_failed_one_says_why(
    fresh: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that has let go of its run, and is about to end, is waited for: else its resume would be lost."""
    make_run(fresh.services.catalog.folder / "late", 40, 40)  # type: ignore[operator]
    program = tmp_path / "program"
    monkeypatch.setattr(sys, "executable", str(program))

    def resume(script: str) -> None:
        program.write_text(f"#!/bin/sh\necho begun >> {tmp_path}/begun\n{script}\n", "utf-8")
        program.chmod(0o755)
        assert fresh.client.post("/api/runs/late/resume", json={}).status_code == 200

    resume("trap 'sleep 0.3; exit 0' TERM; while :; do sleep 0.02; done")
    assert wait_for(fresh, "late", ("starting",))["error"] is None
    resume("exit 1")
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    time.sleep(0.1)  # for its trap
    fresh.client.post("/api/runs/late/stop", json={})
    resume("echo unrolled: it failed; exit 2")
    assert wait_for(fresh, "late", ("stopped",))["error"] == "it failed"
    resume("kill -9 $$")
    assert "signal 9" in wait_for(fresh, "late", ("stopped",))["error"]
    assert (tmp_path / "begun").read_text("utf-8") == "begun\n" * 3


def test_the_uniform_baseline_is_in_the_unit_of_the_losses(server: RunningServer) -> None:
    """Per character: a model of bytes has none, since a character may be several bytes."""
    baselines = {run["id"]: run["baselines"] for run in server.client.get("/api/runs").json()}
    assert baselines["letters"] == {"uniform": pytest.approx(math.log2(len(CHARACTERS)))}
    assert baselines["bytes"] == {}
