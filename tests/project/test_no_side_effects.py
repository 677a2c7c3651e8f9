"""No surprise network, no surprise code: nothing is asked of any other machine, and an import does nothing but import."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.cli import TINY_RUN

WATCH = r"""
import json, os, socket, sys
tried, written, forked = [], [], []
LOCAL = (getattr(socket, "AF_UNIX", -1),)

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"):
        if arguments[0].family not in LOCAL:
            tried.append([event, str(arguments[1:])])
            raise ConnectionRefusedError("blocked by the test")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request", "ftplib.connect"):
        tried.append([event, str(arguments)])
        raise ConnectionRefusedError("blocked by the test")
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"):
        forked.append([event, str(arguments)])
    elif event == "open":
        path, mode, flags = arguments
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC):
            written.append(str(path))
    elif event in ("os.mkdir", "os.rename", "os.remove", "shutil.rmtree"):
        written.append(str(arguments[0]))

sys.addaudithook(watch)
"""

COMMANDS = (
    WATCH
    + r"""
from unrolled import doctor
from unrolled.cli.main import main
doctor.TRAIN_SECONDS = 0.5
results = []
for command in json.loads(sys.argv[1]):
    before = len(tried)
    code = main(command)
    results.append([command[0], code, len(tried) - before])
sys.stderr.write("RESULT " + json.dumps({"results": results, "tried": tried, "forked": forked}) + "\n")
"""
)

MODULES = (
    WATCH
    + r"""
import importlib, pkgutil, threading
import unrolled

def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1

first = {"written": list(written), "tried": list(tried), "forked": list(forked), "threads": threading.active_count(),
         "heavy": "torch" in sys.modules or "numpy" in sys.modules, "tasks": tasks()}
import torch, numpy, safetensors.torch, rich.live, zstandard
del written[:], tried[:], forked[:]
before = tasks()
names = [found.name for found in pkgutil.walk_packages(unrolled.__path__, "unrolled.") if not found.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
then = {"written": written, "tried": tried, "forked": forked, "threads": threading.active_count(), "modules": len(names),
        "tasks": tasks() - before + 1}
print(json.dumps([first, then]))
"""
)


def child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, env=environment
    )


@pytest.mark.slow
def test_no_command_asks_another_machine(book: Path) -> None:
    small = [str(word) for word in TINY_RUN]
    commands: list[list[str]] = [
        ["train", str(book), *small, "--steps", "20", "--out", "r"],
        ["train", "--resume", "r", "--steps", "25"],
        ["sample", "r", "--length", "10"],
        ["eval", "r", "--json"],
        ["score", "r", str(book)],
        ["explain", "r", str(book)],
        ["report", "r"],
        ["train", *small, "--steps", "2", "--out", "b"],
        ["train", "builtin:digits", "--hidden", "8", "--batch", "4", "--steps", "2", "--out", "d"],
        ["doctor", "--json"],
        ["train", "http://127.0.0.1:9/book.txt", "--steps", "2"],
        ["--version"],
    ]
    done = child(COMMANDS, json.dumps(commands))
    found = [line for line in done.stderr.splitlines() if line.startswith("RESULT ")]
    assert found, done.stderr
    answer: dict[str, Any] = json.loads(found[0].removeprefix("RESULT "))
    codes = {name: code for name, code, _ in answer["results"] if name not in ("doctor", "train")}
    assert codes == dict.fromkeys(codes, 0), done.stderr
    assert [code for name, code, _ in answer["results"] if name == "train"] == [0, 0, 0, 0, 3], done.stderr
    assert answer["tried"] == []
    assert not any("curl" in told or "wget" in told or "pip" in told for _, told in answer["forked"]), answer["forked"]
    print(f"\n{len(commands)} commands, 0 attempts; processes started: {len(answer['forked'])}")


@pytest.mark.slow
def test_an_import_only_imports() -> None:
    done = child(MODULES)
    assert done.returncode == 0, done.stderr
    first, then = json.loads(done.stdout)
    assert first == {"written": [], "tried": [], "forked": [], "heavy": False, "threads": 1, "tasks": 1}
    modules = then.pop("modules")
    assert then == {"written": [], "tried": [], "forked": [], "threads": 1, "tasks": 1}
    assert modules > 60
    print(f"\n{modules} modules imported: no thread, no file written, no process, no attempt")


@pytest.mark.parametrize("word", ["requests", "urllib", "http.client", "huggingface_hub", "wandb", "ftplib", "smtplib"])
def test_no_client_is_imported(word: str) -> None:
    root = Path(__file__).parents[2] / "src"
    found = [path for path in root.rglob("*.py") if f"import {word}" in path.read_text("utf-8")]
    assert found == []
