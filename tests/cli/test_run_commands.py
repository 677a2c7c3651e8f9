"""Commands about runs and about the command line itself: list, info, config, completion, man; and --prompt-file."""

import io
import json
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from unrolled.cli.completion import SHELLS, flags
from unrolled.cli.registry import COMMANDS, command_parser
from unrolled.errors import DataError, UsageError
from unrolled.options import PRESETS, TrainRequest

SMALL: dict[str, Any] = {"hidden": 8, "layers": 1, "batch": 4, "progress": False, "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "book.txt").write_text("the cat sat on the mat.\n" * 60, "utf-8")
    (folder / "t.csv").write_text("word,label\n" + "aba,a\nbab,b\n" * 20, "utf-8")
    unrolled.train(str(folder / "book.txt"), out=str(folder / "runs/book"), steps=4, bptt=8, sample_length=0, **SMALL)
    unrolled.train_table(str(folder / "t.csv"), "word", "label", out=str(folder / "runs/words"), steps=4, **SMALL)
    (folder / "runs/notes").mkdir()
    (folder / "runs/broken").mkdir()
    (folder / "runs/broken/config.json").write_text('{"options": []}', "utf-8")
    return folder


def test_list(cli: Cli, folder: Path) -> None:
    lines = cli("list", folder / "runs").out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["table", "text"]  # the newest first
    assert lines[0].split()[:4] == ["run", "kind", "network", "steps"]
    assert all(" nats " in line for line in lines[1:])
    runs = json.loads(cli("list", folder / "runs", "--json").out)["runs"]
    assert [Path(run["path"]).name for run in runs] == ["words", "book"]
    assert [(run["steps"], run["has_model"], run["network"]) for run in runs] == [(4, True, "1x8 lstm")] * 2
    assert cli("list", folder / "runs/book").out.count("\n") == 2
    assert cli("list", folder / "runs/notes").err.endswith("has 0 runs\n")
    done = cli("list")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "unrolled train FILE" in done.err


def test_info(cli: Cli, folder: Path) -> None:
    text = json.loads(cli("info", folder / "runs/book", "--json").out)
    model = unrolled.load(folder / "runs/book")
    assert (text["kind"], text["network"], text["parameters"]) == ("text", "1x8 lstm", model.parameters)
    assert text["training"]["steps"] == 4
    assert text["diagnosis"] == model.history["diagnosis"]
    table = json.loads(cli("info", folder / "runs/words", "--json").out)
    assert (table["kind"], table["source"].split(":")[0], table["target"]) == ("table", "word", "label:label")
    out = cli("info", folder / "runs/words").out
    names = ["saved at" if name == "training" else name for name in table if name != "version"]
    assert [line.startswith(name) for line, name in zip(out.splitlines(), names, strict=True)] == [True] * len(names)
    assert cli("info", folder / "book.txt").code == 4


@pytest.mark.parametrize("arguments", [[], ["--preset", "char-rnn"], ["--hidden", "32", "--cell", "gru", "--steps", "9"]])
def test_config_show_is_a_config(cli: Cli, arguments: list[str], tmp_path: Path) -> None:
    out = cli("config", "show", *arguments).out
    settings = tomllib.loads(out)
    (tmp_path / "c.toml").write_text(out, "utf-8")
    again = json.loads(cli("config", "show", "--config", tmp_path / "c.toml", "--json").out)
    wanted = json.loads(cli("config", "show", *arguments, "--json").out)
    assert again["settings"] == wanted["settings"]
    assert set(again["given"]) == set(settings)
    for name, value in (PRESETS["char-rnn"] if "char-rnn" in arguments else {}).items():
        assert settings[name] == value
    assert "# hidden: the recipe chooses" in out or "hidden = " in out
    assert TrainRequest.build((), settings, "test").check()


def test_config_shows_the_settings_of_a_run(cli: Cli, folder: Path) -> None:
    settings = tomllib.loads(cli("config", "show", folder / "runs/book").out)
    assert (settings["hidden"], settings["layers"], settings["batch"], settings["steps"]) == (8, 1, 4, 4)
    assert "dropout" in settings, "what the recipe chose"
    for arguments in ((folder / "runs/book", "--hidden", 9), (folder / "runs/book", folder / "book.txt")):
        done = cli("config", "show", *arguments)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "name it alone" in done.err


def test_an_unknown_flag_is_named_and_not_its_value(cli: Cli, folder: Path) -> None:
    done = cli("sample", folder / "runs/book", "--tempreture", 0)
    assert (done.code, "Unknown flag --tempreture; did you mean '--temperature'?" in done.err) == (2, True)


def test_every_method_takes_a_path_of_a_text(folder: Path, tmp_path: Path) -> None:
    """Once, most methods raised `AttributeError` for a `Path`, and `score` did not say what to do instead."""
    model, text = unrolled.load(folder / "runs/book"), folder / "book.txt"
    methods: list[Callable[[Any], Any]] = [
        lambda name: model.score(name).bits.tolist()[1:],
        lambda name: [line.number for line in model.scoring(name).top_lines(2)],
        lambda name: [alert.number for alert in model.alerts(name, alert_above=1.0).alerts],
        lambda name: len(
            model.explain(name, length=100, probe_length=200, out=str(tmp_path / "page.html")).activations.tokenized
        ),
        lambda name: next(model.follow(name, lambda: True, alert_above=0.0, from_start=True), None),
    ]
    for method in methods:
        given = text.read_text("utf-8") if method is methods[0] else str(text)
        assert method(text) == method(given)
        if method is not methods[-1]:  # which waits for a file
            with pytest.raises(DataError, match="No such file: "):
                method(tmp_path / "nosuch")
    (tmp_path / "labels.txt").write_text("0\n1\n" * 30, "utf-8")
    labeled = model.alerts(text, labels=tmp_path / "labels.txt", alert_above=1.0)
    assert labeled.metrics == model.alerts(text, labels=[0, 1] * 30, alert_above=1.0).metrics


def test_what_is_no_text_and_no_table_is_refused_in_python(folder: Path) -> None:
    model, table_model = unrolled.load(folder / "runs/book"), unrolled.load_table(folder / "runs/words")
    assert model.evaluate(folder / "book.txt").bits == model.evaluate(str(folder / "book.txt")).bits
    assert table_model.evaluate(folder / "t.csv").num_rows == 40
    with pytest.raises(UsageError, match="Names of files are expected, and a list is given"):
        model.evaluate(["the cat"])  # type: ignore[arg-type]
    for rows in ([("x", 1), ("y", 2)], np.zeros((4, 2))):
        with pytest.raises(UsageError, match="has no column 'a'. Its columns: 0, 1"):
            unrolled.train_table(rows, "a", "b")
    for wrong in (["x", "y"], 5):
        with pytest.raises(UsageError, match=f"A table is expected, and a {type(wrong).__name__} is given"):
            unrolled.train_table(wrong, "a", "b")
    for use in (table_model.evaluate, table_model.explain, lambda table: table_model.predict_table(table)):
        with pytest.raises(UsageError, match="A table is expected, and a list is given"):
            use(["x", "y"])
    assert len(table_model.predict({"word": "aba"})) == 1, "not one for each character"
    assert table_model.evaluate({"word": "aba", "label": "a"}).num_rows == 1
    with pytest.raises(DataError, match="'label' is a single value, and other columns are lists"):
        table_model.evaluate({"word": ["aba"], "label": "a"})
    with pytest.raises(ValueError, match=r"step takes numbers, \(3,\) or \(B, 3\); got str"):
        unrolled.LSTM(3, 4, 2).step("abc")  # type: ignore[type-var]
    with pytest.raises(UsageError, match="and a int is given"):
        unrolled.train(5)  # type: ignore[arg-type]


def test_config_says_what_it_has(cli: Cli) -> None:
    done = cli("config", "shwo")
    assert (done.code, "did you mean 'show'?" in done.err) == (2, True)


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_every_flag(cli: Cli, shell: str, tmp_path: Path) -> None:
    script = cli("completion", shell).out
    for name in COMMANDS:
        assert name in script
        for action in flags(command_parser(name)):
            for option in action.option_strings:
                assert (option if shell != "fish" or len(option) == 2 else f"-l {option[2:]} ") in script or option == "-h"
    if shutil.which(shell):
        (tmp_path / "script").write_text(script, "utf-8")
        assert subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True).stderr == b""


def test_bash_completes(cli: Cli, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    script = cli("completion", "bash").out
    Path("my book.txt").touch()
    for words, expected in (
        (["unrolled", "tra"], ["train"]), (["unrolled", "train", "--hid"], ["--hidden"]),
        (["unrolled", "train", "--cell", "ls"], ["lstm", "lstm-hard-sigmoid"]),
        (["unrolled", "sample", "--prompt-f"], ["--prompt-file"]),
        (["unrolled", "train", "--cell", "=", "sl"], ["slstm"]), (["unrolled", "config", "s"], ["show"]),
        (["unrolled", "man", "exp"], ["explain", "export"]), (["unrolled", "train", "my"], ["my book.txt"]),
    ):  # fmt: skip
        call = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _unrolled"
        program = f"{script}\n{call}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run([bash, "-c", program], capture_output=True, text=True)
        assert (done.stdout.splitlines(), done.stderr) == (expected, "")
    refused = cli("completion", "tcsh")
    assert (refused.code, "bash, zsh, fish" in refused.err) == (2, True)


def test_fish_completes(cli: Cli, tmp_path: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("there is no fish here")
    (tmp_path / "script").write_text(cli("completion", "fish").out, "utf-8")
    for line, expected in (
        ("unrolled tra", ["train"]), ("unrolled train --optimizer m", ["muon"]), ("unrolled config s", ["show"]),
        ("unrolled sample eval --bat", []), ("unrolled train eval --bat", ["--batch"]),
    ):  # fmt: skip
        program = f"source {tmp_path}/script; complete -C {shlex.quote(line)}"
        done = subprocess.run([fish, "--no-config", "-c", program], capture_output=True, text=True)
        assert ([found.split("\t")[0] for found in done.stdout.splitlines()], done.stderr) == (expected, "")


def test_zsh_has_descriptions_without_its_brackets_and_colons(cli: Cli) -> None:
    script = cli("completion", "zsh").out
    assert "'--top-k=[Draw from the k most likely tokens; 0\\: from all. (default\\: 0)" in script
    assert r"fasta\:SETTINGS" in script
    assert "'train:Train a model on texts or a table" in script


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_manual_pages(cli: Cli, name: str | None) -> None:
    page = cli("man", *([name] if name else [])).out
    assert page.startswith('.TH "UNROLLED')
    assert all(line.startswith((".TH ", ".SH ", ".TP", ".B ", ".nf", ".fi")) for line in page.splitlines() if line[:1] == ".")
    for action in flags(command_parser(name)) if name else []:
        assert action.option_strings[-1].replace("-", "\\-") in page


def test_a_prompt_from_a_file(cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, prompt = folder / "runs/book", tmp_path / "p.txt"
    prompt.write_bytes(b"\xef\xbb\xbfthe cat\n sat")
    expected = cli("sample", run, "--prompt", "the cat\n sat", "--length", 9).out
    assert cli("sample", run, "--prompt-file", prompt, "--length", 9).out == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(prompt.read_bytes())))
    assert cli("sample", run, "--prompt-file", "-", "--length", 9).out == expected
    for call, code, words in (
        (["--prompt-file", prompt, "--prompt", "a"], 2, "choose one"), (["--prompt-file", "nosuch"], 3, "No such file: nosuch"),
    ):  # fmt: skip
        done_cli = cli("sample", run, *call)
        assert (done_cli.code, words in done_cli.err) == (code, True)
    prompt.write_bytes(b"ab\xff")
    refused = cli("sample", run, "--prompt-file", prompt)
    assert (refused.code, "is not UTF-8 at byte 2" in refused.err) == (3, True)


def test_help_of_a_command(cli: Cli) -> None:
    for name in ("train", "score"):
        assert cli("help", name).out == cli(name, "--help").out != cli("help").out
    misspelled = cli("help", "trian")
    assert (misspelled.code, "did you mean 'train'" in misspelled.err) == (2, True)
