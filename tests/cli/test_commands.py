"""The command line as people use it: results, exit codes, one clear sentence for every mistake."""

import base64
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from support.cli import TINY_RUN, Cli, StandardInput
from support.texts import sentences
from unrolled import __version__, doctor
from unrolled.cli.commands import train as train_command
from unrolled.cli.main import main
from unrolled.cli.registry import COMMANDS
from unrolled.options import OPTION_CLASSES, PRESETS, EvaluateOptions, SampleOptions, flag_name

RUNNING: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "unrolled", *map(str, arguments)]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a text of some 12 kB, trained once: the tests have copies."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "book.txt").write_text(sentences(400), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(folder / "cache"))
        arguments = ["train", folder / "book.txt", *TINY_RUN, "--eval-tokens", 2000, "--steps", 60, "--out", folder / "run"]
        assert main([str(argument) for argument in arguments]) == 0
    return folder / "run"


@pytest.fixture
def run(finished_run: Path) -> str:
    shutil.copytree(finished_run, "runs/book")
    return "runs/book"


@pytest.mark.slow
def test_train_prints_one_document_and_the_next_command(cli: Cli, book: Path) -> None:
    done = cli("train", book, *TINY_RUN, "--steps", 30, "--json")
    answer = json.loads(done.out)
    assert list(answer) == [
        "version", "run", "model", "steps", "epochs", "train_seconds", "tokens_per_second", "train_nats", "val_nats",
        "val_bits", "test_nats", "test_standard_error", "parameters", "device", "precision", "kernels", "seed", "stop_signal",
        "diagnosis", "test_summary", "loss_unit",
    ]  # fmt: skip
    assert (answer["run"], answer["steps"]) == ("runs/book", 30)
    assert "next: unrolled sample runs/book" in done.err
    assert cli("train", book, *TINY_RUN, "--steps", 3).err.count("runs/book-2") == 1
    names = {path.name for path in Path("runs/book").iterdir()}
    assert names == {"config.json", "metrics.jsonl", "samples.jsonl", "model.safetensors", "checkpoints"}


@pytest.mark.slow
def test_sample_streams_batches_and_repeats(cli: Cli, run: str) -> None:
    one = cli("sample", run, "--length", 50, "--prompt", "The ")
    assert one.code == 0
    assert one.out.startswith("The ")
    assert len(one.out) == 4 + 50 + 1
    assert cli("sample", run, "--length", 50, "--primetext", "The ").out == one.out
    many = json.loads(cli("sample", run, "--length", 50, "--prompt", "The ", "--count", 6, "--json").out)
    assert many["samples"][0]["text"] + "\n" == one.out
    assert [sample["seed"] for sample in many["samples"]] == [1, 2, 3, 4, 5, 6]
    third = cli("sample", run, "--length", 50, "--prompt", "The ", "--seed", 3).out
    assert third == many["samples"][2]["text"] + "\n"
    assert cli("sample", run, "--length", 20, "--count", 2).out.count("=== seed") == 2
    drawn = json.loads(cli("sample", run, "--length", 5, "--seed", -1, "--json").out)["samples"][0]["seed"]
    assert drawn >= 0


@pytest.mark.slow
def test_sample_maps_what_the_model_never_saw(cli: Cli, run: str) -> None:
    done = cli("sample", run, "--prompt", "Th\u00e9 \u2603", "--length", 5)
    assert done.code == 0
    assert done.err == "unknown character '\u00e9': replaced by 'e'\nunknown character '\u2603': replaced by ' '\n"


@pytest.mark.slow
def test_names_come_one_a_line(cli: Cli, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{a}{b}{c}\n" for a in "abcde" for b in "aeiou" for c in "lmn") * 3, "utf-8")
    assert cli("train", names, "--documents", "line", *TINY_RUN, "--steps", 150).code == 0
    lines = cli("sample", "runs/names", "--count", 12).out.splitlines()
    assert len(lines) == 12
    assert sum(len(line) == 3 for line in lines) >= 6


def test_eval_tells_nats_bits_and_context(cli: Cli, run: str, tmp_path: Path) -> None:
    carried = json.loads(cli("eval", run, "--json").out)
    assert list(carried) == [
        "version",
        "nats_per_character",
        "bits_per_character",
        "standard_error",
        "bits_per_token",
        "characters",
        "tokens",
        "split",
        "context",
        "baselines",
        "unknown",
    ]
    windowed = json.loads(cli("eval", run, "--window", 4, "--json").out)
    assert (carried["context"], windowed["context"]) == ("carried", "window=4")
    assert windowed["nats_per_character"] > carried["nats_per_character"]
    assert windowed["characters"] == carried["characters"]
    other = tmp_path / "other.txt"
    other.write_text("The fox \u2603\u2603 sleeps.\n", "utf-8")
    done = cli("eval", run, other)
    assert done.err == "left out: 2 characters of the text, never seen in training\n"
    assert "over 16 characters of the text (carried)" in done.out


def test_flags_win_over_files_and_files_over_presets(cli: Cli, book: Path, tmp_path: Path) -> None:
    settings = tmp_path / "s.toml"
    settings.write_text('preset = "char-rnn"\nhidden = 10\nbatch = 3\nsteps = 7\n', "utf-8")
    assert cli("train", book, "--config", settings, "--batch", 2, "--sample-length", 0).code == 0
    options = json.loads(Path("runs/book/config.json").read_text())["options"]
    assert (options["hidden"], options["batch"], options["optimizer"], options["steps"]) == (10, 2, "rmsprop", 7)
    assert options["epochs"] is None
    settings.write_text("hiden = 10\n", "utf-8")
    done = cli("train", book, "--config", settings)
    assert (done.code, "unknown setting 'hiden'; did you mean 'hidden'?" in done.err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_train(cli: Cli, book: Path, preset: str) -> None:
    done = cli("train", book, "--preset", preset, "--steps", 2, "--sample-length", 0, "--json", "--hidden", 8)
    assert json.loads(done.out)["steps"] == 2


def test_a_name_that_begins_with_a_dash_is_a_file_if_it_exists(cli: Cli, book: Path) -> None:
    Path("-book.txt").write_bytes(book.read_bytes())
    assert cli("train", "-book.txt", *TINY_RUN, "--steps", 2, "--out", "-run").code == 0
    for argv in (["-run", "--length", 4], ["--length", 4, "--", "-run"]):
        done = cli("sample", *argv)
        assert (done.code, len(done.out.rstrip("\n")) <= 4) == (0, True), done.err
    assert "Unknown flag -nosuch.txt" in cli("train", "-nosuch.txt").err


BAD_FLAGS = [
    (["train", "BOOK", "--lerning-rate", "1"], "Unknown flag --lerning-rate; did you mean '--learning-rate'?"),
    (["train", "BOOK", "--hidden", "0"], "--hidden is 0; expected a finite number of at least 1 and of at most 65,536."),
    (["train", "BOOK", "--lr", "nan"], "--lr is nan; expected a finite number above 0"),
    (["train", "BOOK", "--minutes", "-1"], "--minutes is -1; expected a finite number above 0"),
    (["train", "BOOK", "--minutes", "3", "--steps", "4"], "--minutes and --steps are given, and one budget is expected"),
    (["train", "BOOK", "--cell", "lst"], "--cell: 'lst' is not one of"),
    (["train", "BOOK", "--hidden", "abc"], "--hidden: 'abc' is not a whole number."),
    (["train", "BOOK", "--hidden"], "--hidden: the value is missing."),
    (["train", "BOOK", "--embedding", "5"], "Residual layers need --embedding equal to --hidden (256)"),
    (["train", "BOOK", "--preset", "charrnn"], "There is no preset 'charrnn'; did you mean 'char-rnn'?"),
    (["train", "BOOK", "--device", "abacus"], "--device abacus is not available; this computer has:"),
    (["train", "BOOK", "--kernels", "torch", "--cell", "gru-reset-before"], "--kernels torch cannot run this model"),
    (["trian", "BOOK"], "There is no command 'trian'; did you mean 'train'?"),
    (["sample"], "following arguments are required: RUN"),
    (["sample", "runs/x", "--temperature", "-1"], "--temperature is -1; expected a finite number of at least 0"),
    (["sample", "runs/x", "--top-p", "2"], "--top-p is 2; expected a finite number above 0 and of at most 1"),
    (["eval", "runs/x", "--window", "0"], "--window is 0; expected a finite number of at least 1"),
    (["sample", "runs/x", "--portable", "--kernels", "torch"], "--kernels changes the arithmetic, and --portable has its own"),
    (["eval", "runs/x", "--portable", "--precision", "bfloat16"], "--precision changes the arithmetic"),
    (["score", "runs/x", "-", "--portable", "--kernels", "reference"], "--kernels changes the arithmetic"),
    (["sample", "runs/x", "--length", "-1"], "at least 0 and of at most 1,099,511,627,776."),
    (["export", "runs/x", "--to", "c", "--float16"], "--float16 is for --to onnx: it would have no effect"),
    (["export", "runs/x", "--to", "onnx", "--weights", "int4"], "--weights is for --to c or html: it would have no effect"),
    (["export", "runs/x", "--to", "numpy", "--text", "t.txt"], "--text is for --to c or html: it would have no effect"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD_FLAGS, ids=lambda a: " ".join(a) if isinstance(a, list) else "")
def test_usage_errors_are_one_sentence(cli: Cli, book: Path, arguments: list[str], sentence: str) -> None:
    done = cli(*[str(book) if a == "BOOK" else a for a in arguments])
    assert done.code == 2, done.err
    assert sentence in done.err
    assert done.err.strip().count("\n") == 0 or done.err.startswith("unrolled 0")
    assert done.out == ""
    assert not Path("runs").exists()


BAD_TEXTS = [
    (b"", "There is no text in"),
    (b"a", "The text has one character"),
    (b"aaaaaaaa", "The text has only one kind of token, 'a'"),
    (b"fine so far \xff\xfe", "is not UTF-8: byte 0xff at offset 12"),
    ("hello".encode("utf-16"), "is UTF-16, and UTF-8 is expected"),
    (b"one\0two", "has a NUL byte at offset 3: it is not UTF-8 text"),
]


@pytest.mark.parametrize(("content", "sentence"), BAD_TEXTS, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_texts_are_one_sentence_and_leave_nothing(cli: Cli, tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    done = cli("train", path, *TINY_RUN, "--steps", 5)
    assert done.code == 3
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert not Path("runs").exists()


def test_any_bytes_train_as_bytes(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "any.bin"
    path.write_bytes(bytes(range(256)) * 20)
    assert cli("train", path, "--tokens", "bytes", *TINY_RUN, "--steps", 5).code == 0
    done = cli("sample", "runs/any", "--length", 20, "--prompt", "\u65e5", "--json")  # without it, bytes that are no text
    assert done.code == 0
    assert len(base64.b64decode(json.loads(done.out)["samples"][0]["data_base64"])) == 23


@pytest.mark.parametrize("command", ["eval", "score", "explain", "predict"])
def test_a_run_after_its_text_is_told_the_order(cli: Cli, book: Path, run: str, command: str) -> None:
    done = cli(command, book, run)
    assert (done.code, done.err) == (2, f"unrolled: RUN comes first: unrolled {command} {run} {book}\n")


def test_a_command_comes_first(cli: Cli, run: str) -> None:
    done = cli(run, "sample")
    assert done.code == 2
    assert done.err.startswith(f"unrolled: A command comes first, as in: unrolled COMMAND {run}. Commands: train, ")


def test_a_run_is_not_learned_as_a_text(cli: Cli, run: str) -> None:
    done = cli("train", run)
    assert done.code == 2
    assert done.err.endswith(
        f"unrolled: {run} is a run, and a text or table is expected: --resume {run} goes on with it, and --from {run} "
        "starts from its weights.\n"
    )


@pytest.mark.slow
def test_one_very_long_line_trains(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_text("abcdefghij " * 20_000, "utf-8")
    for documents in ("none", "line"):
        assert cli("train", path, *TINY_RUN, "--steps", 3, "--documents", documents).code == 0


def test_missing_things_are_named(cli: Cli, book: Path, run: str) -> None:
    done = cli("train", book.with_name("bok.txt"))
    assert (done.code, "did you mean 'book.txt'?" in done.err) == (3, True)
    done = cli("sample", "runs/boook")
    assert (done.code, "runs/boook is no run folder and no model file; did you mean 'book'?" in done.err) == (4, True)
    done = cli("sample", "book")
    assert (done.code, "book is no run folder and no model file; did you mean runs/book?" in done.err) == (4, True)
    (book.parent / "empty").mkdir()
    assert cli("train", book.parent / "empty").code == 3
    done = cli("sample", book.parent / "empty")
    assert (done.code, f": unrolled train {book.parent / 'empty'} makes one." in done.err) == (4, True)
    done = cli("sample", book)
    assert done.err == (
        f"unrolled: {book} is a text, and a run folder or model file is expected: unrolled train {book} makes one.\n"
    )
    assert "is no run folder and no model file, but has some: name one, as in " in cli("sample", Path(run).parent).err
    assert cli("train", "--resume", book.parent / "empty").code == 4
    done = cli("train", book, "--out", run)
    assert (done.code, "exists already" in done.err) == (2, True)


@pytest.mark.parametrize("name", ["report", "explain", "eval"])
def test_a_text_that_is_gone_is_named_and_another_can_be_given(cli: Cli, run: str, name: str) -> None:
    path = Path(run, "config.json")
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"inputs": ["gone.txt"]}), "utf-8")
    done = cli(name, run)
    assert (done.code, done.out) == (3, "")
    assert "The text of this run is gone" in done.err.splitlines()[-1]
    assert "No such file: gone.txt. Put it back; eval, score and explain also take another text" in done.err
    if name != "report":
        Path("another.txt").write_text("the cat sat on the mat\n" * 200, "utf-8")
        done = cli(name, run, "another.txt")
        assert done.code == 0, done.err


def test_damaged_models_are_refused(cli: Cli, run: str) -> None:
    model = Path(run) / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-100] ^= 4
    model.write_bytes(content)
    assert cli("sample", run).code == 4
    model.write_bytes(content[:5000])
    done = cli("sample", model)
    assert (done.code, done.out) == (4, "")
    assert done.err.count("\n") == 1


def test_no_room_to_write_is_reported(cli: Cli, book: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("x")
    done = cli("train", book, *TINY_RUN, "--steps", 5, "--out", blocker / "run")
    assert (done.code, "which is a file" in done.err) == (2, True)


def test_divergence_has_its_code(cli: Cli, book: Path) -> None:
    done = cli("train", book, *TINY_RUN, "--steps", 300, "--lr", "1e30", "--warmup", 0, "--clip", 0)
    assert (done.code, "Try a lower rate than --lr 1e+30." in done.err) == (5, True)


@pytest.mark.slow
def test_a_signal_saves_and_leaves_and_resume_goes_on(cli: Cli, book: Path) -> None:
    """SIGTERM and SIGINT at any moment: `tests/reliability/test_kill.py`."""
    pace = ("--steps", 100000, "--save-every", 0.1)
    process = subprocess.Popen(command("train", book, *TINY_RUN, *pace), **RUNNING)
    log, checkpoints = Path("runs/book/metrics.jsonl"), Path("runs/book/checkpoints")
    wait_until(lambda: log.exists() and log.stat().st_size > 500 and any(checkpoints.glob("step-*")))
    busy = cli("train", "--resume", "runs/book")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert (busy.code, "being trained by another process" in busy.err) == (2, True)
    assert "stopped and saved; continue with: unrolled train --resume runs/book" in err
    step = max(int(path.name[5:]) for path in Path("runs/book/checkpoints").iterdir())
    done = cli("train", "--resume", "runs/book", "--steps", step + 5, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["steps"] == step + 5
    assert cli("sample", "runs/book", "--length", 5).code == 0


@pytest.mark.slow
def test_a_second_signal_leaves_at_once(book: Path) -> None:
    process = subprocess.Popen(command("train", book, *TINY_RUN, "--steps", 100000), **RUNNING)
    log = Path("runs/book/metrics.jsonl")
    wait_until(lambda: log.exists() and log.stat().st_size > 500)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode in (130, 143)


def wait_until(ready: Callable[[], bool]) -> None:
    for _ in range(400):
        if ready():
            return
        time.sleep(0.05)
    pytest.fail("nothing happened for twenty seconds")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "--length", 100000],
        pytest.param(["score", "many.txt", "--top", "1000"], marks=pytest.mark.slow),
        pytest.param(["score", "many.txt", "--per", "character"], marks=pytest.mark.slow),
    ],
    ids=["sample", "lines", "characters"],
)
def test_a_closed_pipe_is_quiet(run: str, arguments: list[Any]) -> None:
    Path("many.txt").write_text(sentences(8000), "utf-8")
    process = subprocess.Popen(command(arguments[0], run, *arguments[1:]), **RUNNING)
    assert process.stdout is not None
    process.stdout.read(20)
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_text_comes_from_standard_input(cli: Cli, book: Path) -> None:
    with StandardInput(book):
        done = cli("train", "-", *TINY_RUN, "--steps", 4)
    assert done.code == 0
    assert "next: unrolled sample runs/stdin" in done.err
    assert cli("train", "--resume", "runs/stdin", "--steps", 6).code == 0


def test_help_is_narrow_and_complete(cli: Cli) -> None:
    for name in ("", *COMMANDS):
        done = cli(*([name] if name else []), "--help")
        assert done.code == 0
        assert max(map(len, done.out.splitlines())) <= 80, name
        assert done.out.startswith("usage: unrolled")
        assert name in ("", "doctor") or "Examples:" in done.out
        if name not in ("", "doctor", "completion", "man", "serve"):  # what these print is for a shell and for man, or nothing
            assert done.out.index("Examples:") < done.out.index("--json")
    shown = cli("train", "--help").out + cli("sample", "--help").out + cli("eval", "--help").out
    for kind in (*OPTION_CLASSES, SampleOptions, EvaluateOptions):
        for field in dataclasses.fields(kind):
            assert re.search(rf"--(\[no-\])?{flag_name(field.name)[2:]}\b", shown), field.name
    assert cli("--version").out == f"unrolled {__version__}\n"
    assert cli().code == 2


@pytest.mark.serial
def test_help_is_quick() -> None:
    """The bar is 0.2 s; on a slow machine, it is what Python takes for the standard modules that help needs, four times."""
    modules = [sys.executable, "-c", "import argparse, dataclasses, logging, pathlib, tempfile"]
    help_seconds: list[float] = []
    python_seconds: list[float] = []
    for _ in range(5):
        for arguments, seconds in ((command("train", "--help"), help_seconds), (modules, python_seconds)):
            started = time.perf_counter()
            subprocess.run(arguments, check=True, capture_output=True)
            seconds.append(time.perf_counter() - started)
    assert min(help_seconds) < max(0.2, 4 * min(python_seconds))


def test_help_and_usage_errors_import_no_library() -> None:
    script = """if True:
        import contextlib, sys
        from unrolled.cli.main import main
        with contextlib.suppress(SystemExit):
            main(["train", "--help"])
        main(["train", "--hidden", "0"])
        print(sorted({"torch", "numpy", "safetensors", "unrolled.nn"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_torchs_compiler_and_tensorboard_are_not_imported(book: Path) -> None:
    """The compiler costs a second and 70 MB, and several of torch's conveniences import it unasked."""
    code = (
        "import sys, unrolled; m = unrolled.train(sys.argv[1], steps=9, hidden=8, eval_tokens=99, progress=False, out='r');"
        "m = unrolled.load('r'); m.sample(length=5); m.evaluate(); unrolled.train(resume='r', steps=10, progress=False);"
        "print([name for name in ('torch._dynamo', 'sympy', 'tensorboard') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(book)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert not Path("r", "tensorboard").exists()


@pytest.mark.slow
def test_no_arguments_train_on_the_built_in_corpus(cli: Cli) -> None:
    done = cli("train", *TINY_RUN, "--steps", 3, "--json")
    assert json.loads(done.out)["run"] == "runs/python"
    assert "the built-in corpus" in done.err


@pytest.mark.slow
def test_doctor_says_what_there_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TRAIN_SECONDS", 2.0)
    done = cli("doctor", "--json")
    findings = json.loads(done.out)
    assert done.code == 0, findings
    assert findings["self_test"]["passed"]
    assert {"torch", "numpy", "python", "unrolled"} <= set(findings["versions"])


def test_a_bug_keeps_its_traceback_and_debug_shows_any(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(train_command, "run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli("train")
    monkeypatch.undo()
    with pytest.raises(Exception, match="no run folder"):
        cli("sample", "nowhere", "--debug")


@pytest.mark.slow
def test_two_stops_and_one_go_are_bit_equal_from_the_command_line(cli: Cli, book: Path) -> None:
    common = [book, *TINY_RUN, "--steps", 40]
    assert cli("train", *common, "--out", "one").code == 0
    assert cli("train", *common, "--out", "two", "--stop-after", 20).code == 0
    assert cli("train", "--resume", "two", "--stop-after", 30).code == 0
    assert json.loads(cli("train", "--resume", "two", "--json").out)["steps"] == 40, "a stop is for one time"
    one, two = (safetensors.torch.load_file(Path(name) / "checkpoints/step-40/model.safetensors") for name in ("one", "two"))
    assert all(one[name].equal(two[name]) for name in one)
    assert Path("one/samples.jsonl").read_text().count("\n") == Path("two/samples.jsonl").read_text().count("\n")


BAD_SETTINGS = [
    ('residual = "no"', "--residual is 'no'; expected true or false."),
    ('schedule = "cosine"', "--schedule is 'cosine'; expected one of linear, decay, constant."),
    ('cell = "foo"', "--cell is 'foo'; expected one of rnn, gru, gru-reset-before, lstm, "),
    ("hidden = 16.5", "--hidden is 16.5; expected a whole number."),
    ("hidden = true", "--hidden is True; expected a whole number."),
    ('seed = "x"', "--seed is 'x'; expected a whole number."),
    ("eval_every = 2.5", "--eval-every is 2.5; expected a whole number."),
    ("preset = 3", "There is no preset 3. Presets:"),
    ("hidden = ", "cannot be read"),
]


@pytest.mark.parametrize(("content", "sentence"), BAD_SETTINGS, ids=lambda v: v.split()[0])
def test_settings_of_a_file_are_checked_like_flags(cli: Cli, book: Path, tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(content, "utf-8")
    done = cli("train", book, "--config", path)
    assert (done.code, sentence in done.err) == (2, True), done.err


@pytest.mark.parametrize("split", ["train", "validation", "all"])
def test_eval_takes_each_split(cli: Cli, run: str, split: str) -> None:
    assert cli("eval", run, "--split", split).code == 0
    assert cli("eval", run, "--split", "foo").code == 2


@pytest.mark.slow
def test_bits_are_a_characters_also_where_symbols_are_bytes(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "greek.txt"
    path.write_text("\u03b1\u03b2\u03b3 \u03b4\u03b5\u03b6\n" * 400, "utf-8")
    assert cli("train", path, "--tokens", "bytes", *TINY_RUN, "--steps", 30, "--out", "r").code == 0
    answer = json.loads(cli("eval", "r", "--split", "all", "--json").out)
    assert answer["characters"] == 400 * 8 - 1
    path.write_bytes(b"\xff\x80abc" * 200)
    answer = json.loads(cli("eval", "r", path, "--json").out)
    assert answer["characters"] == 1000 - 1


def test_a_run_folder_is_nobodys_text(cli: Cli, tmp_path: Path) -> None:
    Path("text.txt").write_text("hello world " * 50, "utf-8")
    assert cli("train", ".", *TINY_RUN, "--steps", 10, "--stop-after", 5).code == 0
    name = Path.cwd().name
    done = cli("train", "--resume", f"runs/{name}")
    assert (done.code, "from step 5" in done.err) == (0, True), done.err


def test_a_pattern_in_quotes_is_a_glob(cli: Cli, book: Path) -> None:
    assert cli("train", str(book.parent / "b*.txt"), *TINY_RUN, "--steps", 2).code == 0
    assert cli("train", str(book.parent / "x*.txt"), *TINY_RUN, "--steps", 2).code == 3


def test_a_run_that_never_began_is_begun_again(cli: Cli, book: Path) -> None:
    Path("r").mkdir()
    Path("r/config.json").write_text("{}")
    assert cli("train", book, *TINY_RUN, "--steps", 2, "--out", "r").code == 0
    done = cli("train", book, *TINY_RUN, "--steps", 2, "--out", "r")
    assert (done.code, "go on with it: --resume r" in done.err) == (2, True)
    done = cli("train", book, *TINY_RUN, "--steps", 2, "--out", __file__)
    assert (done.code, "and is no run" in done.err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["sample", "RUN", "--length", 2000], ["eval", "RUN", "--json"], ["train", "--help"]])
def test_a_full_disk_behind_the_output_is_reported(run: str, arguments: list[Any]) -> None:
    with open("/dev/full", "w") as full:
        words = [run if word == "RUN" else word for word in arguments]
        done = subprocess.run(command(*words), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 6
    assert done.stderr == "unrolled: the result cannot be written: No space left on device\n"


def test_too_large_a_model_is_one_sentence(cli: Cli, book: Path) -> None:
    done = cli("train", book, "--hidden", 65536, "--layers", 64, "--steps", 1)
    assert (done.code, "out of memory" in done.err) == (1, True)


def test_a_drawn_seed_is_reported(cli: Cli, run: str) -> None:
    done = cli("sample", run, "--length", 20, "--seed", -1)
    seed = re.fullmatch(r"seed (\d+)\n", done.err)
    assert seed is not None
    assert cli("sample", run, "--length", 20, "--seed", seed[1]).out == done.out


def test_ctrl_c_before_training_leaves_one_line(book: Path) -> None:
    for delay in (0.2, 0.5, 0.9):
        process = subprocess.Popen(command("train", book, "--hidden", 16, "--steps", 10**6), **RUNNING)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGINT), err
        assert "Traceback" not in err or process.returncode == -signal.SIGINT, err


@pytest.mark.parametrize("module", ["unrolled.cli.main", "unrolled.options", "unrolled.cli.commands.list"])
def test_ctrl_c_during_the_first_imports_leaves_one_line(module: str) -> None:
    script = f"""
import importlib.metadata, os, signal, sys
class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupter())
from unrolled.__main__ import main
main(["list"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nunrolled: interrupted\n")


def test_the_command_is_the_one_with_a_handler_of_ctrl_c() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["scripts"] == {"unrolled": "unrolled.__main__:main"}
