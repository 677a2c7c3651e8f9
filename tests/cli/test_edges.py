"""Values, files and streams at the edge: one sentence and an exit code for each."""

import dataclasses
import io
import json
import logging
import os
import re
import runpy
import subprocess
import sys
import threading
import typing
from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from support.cli import TINY_RUN, Cli
from support.models import small_model
from unrolled import options
from unrolled.checkpoints.model_file import load_model, save_checked, save_model
from unrolled.cli import main as main_module
from unrolled.cli.main import MEMORY_ADVICE
from unrolled.cli.registry import COMMANDS
from unrolled.display import PrintableStream, printable
from unrolled.errors import ModelError, UnrolledError, UsageError
from unrolled.options import from_dict
from unrolled.training.callbacks import Progress
from unrolled.views.colored_text import color_text, surprisal_html
from unrolled.views.progress import BarProgress, LogProgress, MessageHandler

CONTROLS = "\x1b[31m\x07\x9b2J\x7f\x00\r\u202e\u2028\ud800"
"""An escape sequence, a bell, the one-character form of an escape sequence, and marks that reorder or break lines."""

OPTION_CLASSES: list[type[Any]] = [
    kind
    for kind in vars(options).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__.endswith("Options")
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "book.txt").write_text("the cat sat on the mat.\nthe dog ran.\n" * 300, "utf-8")
    small: dict[str, Any] = {
        "hidden": 8,
        "layers": 1,
        "batch": 4,
        "bptt": 8,
        "sample_length": 0,
        "progress": False,
        "threads": 1,
    }
    unrolled.train(str(folder / "book.txt"), out=str(folder / "run"), steps=3, **small)
    return folder


# ---------------------------------------------------------------------------------------------------------------------------
# Model files


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    saved = small_model()
    with torch.no_grad():
        next(saved.model.parameters()).view(-1)[3] = value
    save_model(tmp_path / "m.safetensors", saved)
    with pytest.raises(ModelError, match=r"m\.safetensors is no model .* are not finite\.$"):
        unrolled.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("documents", "lines"), ("documents", 7), ("documents", None), ("history", []), ("history", "x"),
        ("history", {"val_nats": "low"}), ("history", {"val_nats": float("nan")}), ("history", {"steps": True}),
        ("history", {"seconds": 10**400}), ("history", {"diagnosis": 3}), ("options", []), ("options", "x"), ("options", None),
        ("options", {"hidden": "6"}), ("options", {"hidden": 10**20}), ("tokenizer", []), ("kind", []),
    ],
)  # fmt: skip
def test_header_fields_have_a_type_and_a_range(tmp_path: Path, field: str, value: Any) -> None:
    saved = small_model()
    save_checked(tmp_path / "m.safetensors", saved.model.state_dict(), saved.metadata() | {field: value})
    with pytest.raises(ModelError) as refused:
        load_model(tmp_path / "m.safetensors")
    assert re.fullmatch(r"[^\n]*[^.]\.", str(refused.value))


@pytest.mark.slow
@pytest.mark.parametrize("value", [[], "x", None, 3])
def test_settings_of_a_run_are_a_table(cli: Cli, trained: Path, tmp_path: Path, value: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = json.loads((trained / "run/config.json").read_text("utf-8"))
    (run / "config.json").write_text(json.dumps(config | {"options": value}), "utf-8")
    done = cli("train", "--resume", run)
    assert (done.code, "Traceback" in done.err) == (4, False)
    assert not done.err.rstrip("\n").endswith("..")


# ---------------------------------------------------------------------------------------------------------------------------
# Values


def int_options() -> list[tuple[type, str]]:
    hints = [(kind, typing.get_type_hints(kind)) for kind in OPTION_CLASSES]
    return [(kind, name) for kind, types in hints for name, hint in types.items() if int in (hint, *typing.get_args(hint))]


@pytest.mark.parametrize(("kind", "name"), int_options(), ids=lambda value: getattr(value, "__name__", value))
def test_a_number_of_twenty_digits_is_refused(kind: type, name: str) -> None:
    with pytest.raises(UsageError, match="expected a finite number"):
        from_dict(kind, {name: int("9" * 20)}, "test")


def test_what_is_no_text_is_refused(trained: Path) -> None:
    model = unrolled.load(trained / "run")
    for call in (model.score, model.trace, model.replaced_characters, model.sample):
        for value in (None, 3, b"bytes", ["a"]):
            with pytest.raises(UnrolledError, match="expected a string"):
                call(value)  # type: ignore[arg-type]


def test_the_largest_top_k_is_all(trained: Path) -> None:
    model = unrolled.load(trained / "run")
    assert model.sample(length=9, top_k=2**31 - 1) == model.sample(length=9)


# ---------------------------------------------------------------------------------------------------------------------------
# Streams


@pytest.mark.slow
def test_a_closed_stderr_leaves_only_the_document(trained: Path, tmp_path: Path) -> None:
    command = (
        f'"{sys.executable}" -m unrolled train "{trained}/book.txt" {" ".join(map(str, TINY_RUN))} --steps 2 --json 2>&- <&-'
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(unrolled.__file__).parents[1])}
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=environment)
    assert json.loads(done.stdout)["steps"] == 2
    assert done.returncode == 0


def test_bench_prints_json_only_if_asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from unrolled.bench import benchmarks

    def measure(options: object) -> dict[str, int]:
        benchmarks.logger.info("5 MB/s")
        return {"rate": 5}

    monkeypatch.setitem(benchmarks.BENCHMARKS, "encoding", measure)
    assert cli("bench", "encoding").out == "5 MB/s\n"
    done = cli("bench", "encoding", "--json")
    assert (json.loads(done.out)["encoding"], done.err) == ({"rate": 5}, "5 MB/s\n")


# ---------------------------------------------------------------------------------------------------------------------------
# Control characters


def harmless(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" for c in text)


def test_control_characters_are_replaced_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("unrolled"), "propagate", False)  # pytest-xdist cannot send a log with surrogates
    assert not harmless(CONTROLS)
    assert printable("a\tb\nc\u200d\u00e9") == "a\tb\nc\u200d\u00e9"
    stream = io.StringIO()
    PrintableStream(stream).write(CONTROLS)
    shown = [
        printable(CONTROLS),
        str(UnrolledError(CONTROLS)),
        stream.getvalue(),
        color_text([CONTROLS], torch.ones(1).numpy(), lambda _: None).plain,
    ]
    shown.append(surprisal_html([CONTROLS], torch.ones(1).numpy()))
    with MessageHandler(shown.append):
        logging.getLogger("unrolled.test").warning(CONTROLS)
    progress = LogProgress()
    progress.on_message(CONTROLS)
    shown.append(capsys.readouterr().err)
    assert len(shown) == 7
    for text in shown:
        assert "\ufffd" in text
        assert harmless(text)


@pytest.mark.parametrize(("unit", "rate"), [("character", "1,234 tokens/s"), ("target", "1,234 targets/s")])
def test_the_bar_names_what_is_counted(capsys: pytest.CaptureFixture[str], unit: str, rate: str) -> None:
    known: dict[str, Any] = dict.fromkeys((field.name for field in dataclasses.fields(Progress)), 1)
    with BarProgress() as bar:
        bar.on_evaluate(Progress(**known | {"tokens_per_second": 1234.0, "loss_unit": unit}), 1.0, "abc")
    assert rate in capsys.readouterr().err


def test_cells_reach_no_terminal_raw(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label, table = "b\x1b[2J\x9b1m", tmp_path / "t.csv"
    table.write_text("word,label\n" + f"aba,a\nbab,{label}\n" * 20, "utf-8")
    done = cli(
        "train", table, "--source", "word", "--target", "label", "--hidden", 8, "--layers", 1, "--steps", 30, "--out", "r"
    )
    assert done.code == 0
    assert harmless(done.err)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for call in (
        ["predict", "r", table],
        ["predict", "r", table, "--probabilities"],
        ["predict", "r", table, "--json"],
        ["eval", "r"],
    ):
        done = cli(*call)
        assert (done.code, harmless(done.out + done.err)) == (0, True), call
    done = cli("train", table, "--source", "word", "--target", label)
    assert (done.code, harmless(done.err)) == (2, True)


def test_the_logs_of_a_run_are_harmless(tmp_path: Path) -> None:
    from unrolled.checkpoints.run_dir import JsonLinesLog

    log = JsonLinesLog(tmp_path / "log")
    log.append({"step": 1, "text": CONTROLS})
    assert harmless((tmp_path / "log").read_text("utf-8"))
    assert next(log.read())["text"] == CONTROLS


# ---------------------------------------------------------------------------------------------------------------------------
# Advice


def test_advice_on_memory_names_flags_of_the_command() -> None:
    command_parser = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "generate_cli.py"))["command_parser"]
    for command, advice in MEMORY_ADVICE.items():
        flags = re.findall(r"--[a-z-]+", advice)
        assert flags
        assert set(flags) <= set(command_parser(command)._option_string_actions), command
    assert {"train", "sample", "predict", "eval", "score", "explain", "report"} <= MEMORY_ADVICE.keys() <= COMMANDS.keys()


@pytest.mark.parametrize(
    ("command", "error", "advice"),
    [
        ("sample", MemoryError(), "a smaller --count"),
        ("train", ImportError("torch.so: failed to map segment from shared object"), MEMORY_ADVICE["train"]),
    ],
    ids=["memory", "library"],
)
def test_memory_that_runs_out(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str, error: Exception, advice: str) -> None:
    def fail(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(main_module, "_run_command", fail)
    done = cli(command, "run")
    assert (done.code, done.err) == (1, f"unrolled: out of memory: try {advice}\n")


def test_a_resume_with_nothing_left_says_so(cli: Cli, trained: Path) -> None:
    done = cli("train", "--resume", trained / "run")
    assert done.code == 0
    assert "nothing is left to train" in done.err


def test_an_unknown_builtin_lists_all(cli: Cli) -> None:
    for call in (["train", "builtin:nosuch"], ["train", "builtin:nosuch", "--source", "a", "--target", "b"]):
        done = cli(*call)
        assert done.code == 3
        for name in ("python", "digits", "glyphs", "languages", "dates", "python-tokens"):
            assert name in done.err


def test_a_prompt_is_read_from_a_pipe_and_never_from_a_folder(cli: Cli, trained: Path, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=pipe.write_text, args=("the cat",))
    writer.start()
    done = cli("sample", trained / "run", "--prompt-file", pipe, "--length", 3)
    writer.join()
    assert done.out.startswith("the cat")
    refused = cli("sample", trained / "run", "--prompt-file", tmp_path)
    assert (refused.code, "is a folder, and a file is expected" in refused.err) == (3, True)


def test_splits_that_are_not_there_and_layers_that_are_not_there(cli: Cli, trained: Path) -> None:
    done = cli("eval", trained / "run", "--split", "test")
    assert "test split of the text has 0 known tokens; at least 2 are needed: train with --test-fraction" in done.err
    assert "the model has layer 0 only." in cli("sample", trained / "run", "--clamp", "1.1=0").err
    (trained / "one.txt").write_text("aZ", "utf-8")
    (trained / "a.txt").write_text("a", "utf-8")
    scored = cli("score", trained / "run", trained / "a.txt").out
    assert "nothing to predict: at least 2 characters are needed" in scored
    assert "0.0000 bits per character" not in scored, "it would read as perfect"
    assert "The text has 1 known token (1 unknown);" in cli("eval", trained / "run", trained / "one.txt").err


def test_one_hot_layers_may_be_residual_where_the_vocabulary_has_the_hidden_size(cli: Cli) -> None:
    Path("t.txt").write_text("abcdefgh" * 100, "utf-8")
    tiny = ["--embedding", 0, "--layers", 1, "--batch", 4, "--bptt", 8, "--sample-length", 0, "--steps", 2, "--threads", 1]
    done = cli("train", "t.txt", "--hidden", 8, "--out", "r", *tiny)
    assert done.code == 0, done.err
    assert "1 layer of 8 units" in done.err
    assert "1 thread," in done.err
    texts = [cli("sample", "r", "--length", 40, "--kernels", kernels).out for kernels in ("auto", "reference")]
    assert texts[0] == texts[1]
    assert "(9), or --no-residual; got 8." in cli("train", "t.txt", "--hidden", 9, "--out", "s", *tiny).err
    assert not Path("s").exists()


def test_names_of_files_are_never_printed_raw_and_can_be_typed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "it's\n\x1b[31mred"
    Path(f"{name}.txt").write_text("the cat sat on the mat.\n" * 100, "utf-8")
    done = cli("train", f"{name}.txt", "--steps", 2, "--layers", 1, "--threads", 1, "--from", "none", *TINY_RUN)
    assert done.code == 0, done.err
    typed = done.err.split("next: ")[1].strip()
    assert typed == "unrolled sample $'runs/it\\047s\\012\\033[31mred'"
    shown = subprocess.run(["bash", "-c", typed.replace("unrolled sample", "printf %s")], capture_output=True, check=True)
    assert shown.stdout.decode() == f"runs/{name}"
    for command in (["info"], ["eval"], ["score", "--top", 1], ["sample", "--length", 3], ["explain", "--length", 50]):
        done = cli(command[0], f"runs/{name}", *command[1:])
        assert "\x1b" not in done.out + done.err
    lines = cli("list").out.splitlines()
    assert len(lines) == 2, "a line a run, whatever its name"
    assert "\x1b" not in lines[1]
