"""Nothing is overwritten: no flag of a command that writes takes an input, a file of a run, or a file of another kind."""

import argparse
import dataclasses
import json
import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import unrolled
from support.cli import Cli
from unrolled import options
from unrolled.cli.registry import COMMANDS
from unrolled.exchange.export_options import ExportOptions
from unrolled.exchange.import_options import ImportOptions
from unrolled.options import flag_name
from unrolled.output_paths import RUN_FILES

command_parser = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "generate_cli.py"))["command_parser"]
OPTION_CLASSES: list[type[Any]] = [
    kind
    for kind in (*vars(options).values(), ImportOptions, ExportOptions)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__.endswith("Options")
]
FIELDS = {(kind, field.name): field for kind in OPTION_CLASSES for field in dataclasses.fields(kind)}
NO_PATHS = {
    "--prompt", "--stop", "--clamp", "--neuron", "--glob", "--source", "--target", "--device", "--preset", "--min-probability",
    "--encoding", "--header", "--group-by", "--order-by", "--quantiles", "--host",
    "--allow-host", "--cells", "--languages", "--mask", "--keep-if", "--label", "--known-covariates",
}  # fmt: skip
READ = {"--config", "--resume", "--prompt-file", "--runs"}
"""Flags of commands themselves that name what is read."""
WRITTEN_BY_COMMAND = {"--midi"}
"""Flags of commands themselves that name what is written; their tests are with the command's."""


def writing_flags() -> Iterator[tuple[str, str, str]]:
    """Yield command, flag and kind of each flag that writes, from the parsers of all commands; `config` writes nothing."""
    for command in COMMANDS.keys() - {"config"}:
        for kind in OPTION_CLASSES:
            for field in dataclasses.fields(kind):
                parser = command_parser(command)
                group = next((group for group in parser._action_groups if _is_group_of(group, kind)), None)
                if group is not None and field.metadata["writes"]:
                    yield command, flag_name(field.name), field.metadata["writes"]


def _is_group_of(group: Any, kind: type) -> bool:
    flags = {action.option_strings[0] for action in group._group_actions if action.option_strings}
    return flags == {flag_name(field.name) for field in dataclasses.fields(kind)}


WRITING = sorted(writing_flags())
FILE_FLAGS = [(command, flag) for command, flag, kind in WRITING if kind in ("html", "npz", "svg", "new")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a table, and a run of each."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "page.txt").write_text("the cat sat on the mat.\n" * 60, "utf-8")
    (folder / "t.csv").write_text("word,label\n" + "aba,a\nbab,b\n" * 20, "utf-8")
    small: dict[str, Any] = {"steps": 2, "hidden": 8, "layers": 1, "batch": 2, "progress": False, "threads": 1}
    unrolled.train(str(folder / "page.txt"), out=str(folder / "run"), bptt=8, sample_length=0, **small)
    unrolled.train_table(str(folder / "t.csv"), "word", "label", out=str(folder / "table"), **small)
    return folder


@pytest.fixture
def here(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(data, "data")
    monkeypatch.chdir("data")
    return Path.cwd()


def arguments(command: str, flag: str, value: object) -> list[object]:
    """Return a call of the command that writes to `value`."""
    reads: dict[str, list[object]] = {
        "import": ["run/model.safetensors"],
        "train": ["page.txt", "--steps", 1, "--hidden", 8],
        "score": ["run", "page.txt"],
        "explain": ["run", "page.txt"],
        "report": ["run"],
        "export": ["run"],
        "predict": ["table", "t.csv"],
        "bench": ["learning", "--text", "page.txt", "--seconds", 0.01],
    }
    return [command, *reads[command], flag, value]


def snapshot() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refuse(cli: Cli, *call: object, words: str = "", code: int = 2) -> str:
    """Hold that a call is refused in one sentence, before it wrote anything; return the message."""
    before = snapshot()
    done = cli(*call)
    assert done.code == code, (call, done.err)
    message = done.err.splitlines()[-1]
    assert message.startswith("unrolled: "), done.err
    assert words in message
    assert len(message) < 250
    assert snapshot() == before
    return message


def test_every_flag_with_a_path_says_whether_it_reads_or_writes() -> None:
    declared = {flag_name(name) for (_, name), field in FIELDS.items() if field.metadata["reads"] or field.metadata["writes"]}
    for command in COMMANDS:
        for action in command_parser(command)._actions:
            takes_text = bool(action.option_strings) and action.nargs != 0 and action.type in (None, str) and not action.choices
            if takes_text and not isinstance(action, argparse.BooleanOptionalAction):
                known = declared | NO_PATHS | READ | WRITTEN_BY_COMMAND
                assert action.option_strings[0] in known, f"{command} {action.option_strings[0]}"


def test_each_writing_flag_belongs_to_a_command() -> None:
    written = {(kind.__name__, name) for (kind, name), field in FIELDS.items() if field.metadata["writes"]}
    assert len(WRITING) == len(written) >= 7


@pytest.mark.slow
@pytest.mark.parametrize(("command", "flag"), FILE_FLAGS)
def test_a_file_that_is_needed_stays(cli: Cli, here: Path, data: Path, command: str, flag: str) -> None:
    os.symlink("page.txt", "soft.html")
    os.link("page.txt", "hard.html")
    os.link("run/model.safetensors", "model.html")
    Path("notes").write_text("mine", "utf-8")
    inputs = ["page.txt", "./run/../page.txt", "soft.html", "hard.html"]
    for name in inputs if command not in ("report", "export") else [str(data / "page.txt")]:
        refuse(cli, *arguments(command, flag, name), "--force", words="would replace the input")
    for name in (*sorted(RUN_FILES), "Config.JSON", "checkpoints/step-2/model.safetensors"):
        refuse(cli, *arguments(command, flag, f"run/{name}"), "--force", words="would replace what the run run needs")
    if command != "bench":
        refuse(cli, *arguments(command, flag, "model.html"), "--force", words="another name of a file that the run needs")
    refuse(cli, *arguments(command, flag, "notes"), words="--force")


@pytest.mark.parametrize(("command", "flag"), FILE_FLAGS)
def test_a_path_that_cannot_be_written(cli: Cli, here: Path, command: str, flag: str) -> None:
    refuse(cli, *arguments(command, flag, "run"), words="is a folder")
    refuse(cli, *arguments(command, flag, "."), words="is a folder")
    refuse(cli, *arguments(command, flag, "no/such/page.html"), words="does not exist")
    refuse(cli, *arguments(command, flag, "a" * 300), words="is too long, with 300 bytes")
    refuse(cli, *arguments(command, flag, "page.txt/page.html"), words="does not exist")
    refuse(cli, *arguments(command, flag, "/dev/null"), words="device")
    refuse(cli, *arguments(command, flag, ""), words="a path is expected")
    refuse(cli, *arguments(command, flag, "a\0b"), words="a path is expected")


@pytest.mark.parametrize(
    ("command", "flag", "name"), [("score", "--html", "a" * 250 + ".html"), ("explain", "--out", "p.html")]
)
def test_what_is_of_the_kind_is_replaced(cli: Cli, here: Path, command: str, flag: str, name: str) -> None:
    flags: list[list[str]] = [[], ["--force"]]
    for more in flags:
        for _ in range(2):
            done = cli(*arguments(command, flag, name), *more)
            assert done.code == 0, done.err
            assert Path(name).read_bytes().startswith(b"<!doctype html")
    Path(name).write_text("mine", "utf-8")
    assert cli(*arguments(command, flag, name), "--force").code == 0
    assert Path(name).read_bytes().startswith(b"<!doctype html")


def test_a_run_folder(cli: Cli, here: Path) -> None:
    for name, words in (
        ("run", "exists already"), ("page.txt", "would replace the input"), ("t.csv", "exists already"),
        ("run/checkpoints/new", "would replace what the run run needs"), ("t.csv/run", "is a file"), ("b" * 300, "too long"),
        ("", "a path is expected"), (".", "exists already"),
    ):  # fmt: skip
        refuse(cli, *arguments("train", "--out", name), words=words)
    assert cli(*arguments("train", "--out", "new/folders/run")).code == 0
    assert {path.name for path in Path("new/folders/run").iterdir()} <= RUN_FILES


def test_a_folder_of_images(cli: Cli, here: Path) -> None:
    Path("images").mkdir()
    Path("images/000001.png").write_text("mine", "utf-8")
    for name, words in (("t.csv", "would replace the input"), ("page.txt", "is a file"), ("run/checkpoints", "needs")):
        refuse(cli, *arguments("predict", "--image-dir", name), words=words if name != "t.csv" else "is a file")
    refuse(cli, *arguments("predict", "--image-dir", "images"), words="000001.png that is no image")
    refuse(cli, *arguments("predict", "--image-dir", "pictures"), words="is for a target of images")


METHODS: dict[str, Callable[[Any, str], Any]] = {
    "explain": lambda model, path: model.explain("page.txt", out=path),
    "explain arrays": lambda model, path: model.explain("page.txt", save_activations=path, terminal=True),
    "report": lambda model, path: model.report(out=path),
    "train": lambda model, path: unrolled.train("page.txt", out=path, steps=1, progress=False),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_write_over_nothing(here: Path, method: str) -> None:
    model = unrolled.load("run")
    before = snapshot()
    for path in ("page.txt", "run/model.safetensors", "run/config.json", "c" * 300):
        with pytest.raises(unrolled.UnrolledError):
            METHODS[method](model, path)
    assert snapshot() == before


def test_the_text_of_the_run_is_an_input(cli: Cli, here: Path) -> None:
    page = Path("page.html")
    page.write_text("<!doctype html>" + "the cat sat. " * 90, "utf-8")
    assert cli("train", "page.html", "--steps", 1, "--hidden", 8, "--batch", 2, "--bptt", 8, "--out", "r").code == 0
    assert json.loads(Path("r/config.json").read_text("utf-8"))["inputs"] == [str(page.absolute())]
    for command in ("explain", "report"):
        refuse(cli, command, "r", "--out", "page.html", words="would replace the input")


def test_a_folder_without_permission(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("locked").mkdir()
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and may(path, mode))  # root may always
    for command, flag, kind in WRITING:
        page = "locked/page" if kind in ("run", "images") else "locked/page.html"
        refuse(cli, *arguments(command, flag, page), words="no permission", code=6)
