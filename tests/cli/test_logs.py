"""Logs from the command line and from Python: masks, sessions, alerts, labels, and a file that grows."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import unrolled
from support.cli import Cli, StandardInput
from unrolled.checkpoints.run_data import load_request
from unrolled.checkpoints.run_dir import Run
from unrolled.datasets.service_log import KEY_PATTERN, service_log
from unrolled.errors import DataError, UsageError
from unrolled.text.line_format import MASKS

MASK = "numbers,hex,ip,uuid,path,time,key"
STRANGE = "2026-03-01 12:00:09.000 FATAL [0badf00d] KERNEL PANIC ??? %%%%"


@pytest.fixture(scope="module")
def log_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a log, good enough to tell lines of no known kind."""
    folder = tmp_path_factory.mktemp("log")
    (folder / "a.log").write_text("".join(f"{line.text}\n" for line in service_log(1500)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(folder / "cache"))
        unrolled.train(
            str(folder / "a.log"), mask=MASK, group_by=KEY_PATTERN, hidden=24, layers=1, batch=8, steps=60, threads=1,
            sample_length=0, train_fraction=0.7, init_from="none", progress=False, out=str(folder / "run"),
        )  # fmt: skip
    return folder / "run"


@pytest.fixture
def new_log(tmp_path: Path) -> Path:
    lines = [line.text for line in service_log(300, seed=2)]
    lines.insert(200, STRANGE)
    (tmp_path / "new.log").write_text("\n".join(lines) + "\n")
    (tmp_path / "new.labels").write_text("normal\n" * 200 + "attack\n" + "normal\n" * 100)
    return tmp_path / "new.log"


def test_alerts_of_a_log(cli: Cli, log_run: Path, new_log: Path) -> None:
    result = cli("score", log_run, new_log, "--alert-rate", 0.02, "--threads", 1)
    assert result.code == 0
    assert f": {STRANGE}\n" in result.out
    assert "line 201: " in result.out
    assert "held-out lines are above it, at most 0.02 of them" in result.out
    assert "masked: " in result.err
    document = json.loads(
        cli("score", log_run, new_log, "--alert-rate", 0.02, "--json", "--labels", new_log.with_suffix(".labels")).out
    )
    (alert,) = [alert for alert in document["alerts"] if alert["line"] == 201]
    assert (alert["text"], alert["session"]) == (STRANGE, "0badf00d")
    assert alert["bits"] > document["threshold"]["bits"]
    assert (document["lines"], document["num_alerts"]) == (301, len(document["alerts"]))
    assert document["metrics"]["roc_auc"] > 0.95
    assert document["metrics"]["recall"] == 1
    given = cli("score", log_run, new_log, "--alert-above", alert["bits"] - 0.1, "--labels", new_log.with_suffix(".labels"))
    assert "precision: 1.0000  recall: 1.0000  F1: 1.0000" in given.out
    assert "threshold: " in given.out
    assert "as given" in given.out
    only = cli("score", log_run, new_log, "--labels", new_log.with_suffix(".labels"))
    assert only.out.startswith("ROC AUC: ")


def test_the_same_in_python(log_run: Path, new_log: Path, cli: Cli) -> None:
    model = unrolled.load(str(log_run), threads=1)
    labels = [False] * 200 + [True] + [False] * 100
    report = model.alerts(str(new_log), labels, alert_rate=0.02)
    document = json.loads(cli("score", log_run, new_log, "--alert-rate", 0.02, "--json", "--threads", 1).out)
    assert [alert.number for alert in report.alerts] == [alert["line"] for alert in document["alerts"]]
    assert report.metrics is not None
    assert report.metrics.recall == 1
    scored = model.score(new_log.read_text(), alert_rate=0.02, labels=labels)
    assert scored.report == report
    lines = list(model.scoring(str(new_log)).lines())
    assert np.nansum(scored.bits) == pytest.approx(sum(line.bits[0] for line in lines), rel=1e-5)
    assert scored.text.count(MASKS["time"].symbol) == 301
    for wrong in (labels[1:], [*labels, True], [False] * 301):
        with pytest.raises(DataError, match=r"labels"):
            model.score(new_log.read_text(), labels=wrong)
    with pytest.raises(DataError, match="one label for each line"):
        model.alerts(str(new_log), 7)  # type: ignore[arg-type]  # what a user may write
    with pytest.raises(UsageError, match="Alerts need a threshold"):
        model.alerts(str(new_log))


def test_lines_that_follow_an_alert_of_their_session_belong_to_it(cli: Cli, log_run: Path, tmp_path: Path) -> None:
    lines = [line.text for line in service_log(300, seed=2)]
    places = {100: "0badf00d", 103: "0badf00d", 104: "1badf00d", 180: "0badf00d"}
    for place, key in places.items():
        lines.insert(place, STRANGE.replace("0badf00d", key))
    log, labels = tmp_path / "new.log", tmp_path / "new.labels"
    log.write_text("\n".join(lines) + "\n")
    labels.write_text("".join(f"{'attack' if place in (103, 180) else 'normal'}\n" for place in range(len(lines))))
    model = unrolled.load(str(log_run))
    above = min(line.bits[0] for line in model.scoring(str(log)).lines() if "KERNEL PANIC" in str(line.source)) - 0.1
    arguments = ("score", log_run, log, "--alert-above", above)
    result = cli(*arguments)
    assert [line.split(":")[0] for line in result.out.splitlines()[:2]] == ["line 101", "line 105"]
    assert "2 alerts in 304 lines" in result.out
    assert "2 more lines above the threshold came within 10 lines after an alert of their session" in result.out
    document = json.loads(cli(*arguments, "--alert-cooldown", 1, "--labels", labels, "--json").out)
    assert [alert["line"] for alert in document["alerts"]] == [101, 105, 181]
    assert document["num_following"] == 1
    metrics = document["metrics"]  # the first alert is true for the line that belongs to it, and the second is false
    assert (metrics["num_found"], metrics["num_false"], metrics["recall"]) == (2, 1, 1.0)
    assert metrics["precision"] == pytest.approx(2 / 3)
    for cooldown, expected in ((None, [101, 105]), (0, [101, 104, 105, 181])):
        report = model.alerts(str(log), alert_above=above, alert_cooldown=cooldown)
        asked = iter([False, True])
        followed = model.follow(
            str(log), functools.partial(next, asked), alert_above=above, alert_cooldown=cooldown, from_start=True
        )
        scored = model.score(log.read_text(), alert_above=above, alert_cooldown=cooldown).report
        assert scored is not None
        found = [[alert.number for alert in alerts] for alerts in (report.alerts, followed, scored.alerts)]
        assert found == [expected] * 3
    assert "--alert-cooldown is for alerts" in cli("score", log_run, log, "--labels", labels, "--alert-cooldown", 1).err


def test_the_model_masks_all_that_it_is_given(cli: Cli, log_run: Path, new_log: Path) -> None:
    prompts = ("2026-03-01 12:00:00.000 INFO", "2027-04-02 13:00:00.000 INFO", f"{MASKS['time'].symbol} INFO")
    samples = [cli("sample", log_run, "--prompt", prompt, "--length", 30, "--threads", 1).out for prompt in prompts]
    assert len({sample.partition("INFO")[2] for sample in samples}) == 1
    assert cli("eval", log_run, new_log, "--threads", 1).code == 0
    assert cli("eval", log_run, "--threads", 1).code == 0
    top = json.loads(cli("score", log_run, new_log, "--top", 1, "--json").out)
    assert top["lines"][0]["text"] == STRANGE
    assert top["lines"][0]["session"] == "0badf00d"
    assert top["lines"][0]["masked"].startswith(f"{MASKS['time'].symbol} FATAL [{MASKS['key'].symbol}]")


def test_lines_are_shown_as_they_were_written(cli: Cli, log_run: Path, new_log: Path) -> None:
    shown = cli("score", log_run, new_log, "--top", 20, "--html", "heat.html", "--threads", 1)
    assert shown.code == 0
    lines = new_log.read_text().splitlines()
    page = Path("heat.html").read_text("utf-8")
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert ["".join(line["characters"]) for line in data["lines"]] == lines
    strange = data["topLines"][0]
    assert "".join(strange["characters"]) == STRANGE
    assert "2026-03-01 12:00:09.000" in strange["characters"]  # one value, with the bits of its symbol
    printed = cli("score", log_run, new_log, "--top", 20, "--threads", 1).out.splitlines()[-20:]
    assert STRANGE in printed[0]
    assert all(line.split(maxsplit=3)[-1] in lines for line in printed)


@pytest.mark.parametrize(("version", "mask"), [(3, MASK.replace("hex", "hex-1")), (4, MASK)])
def test_a_run_of_before_masks_its_text_as_it_did(log_run: Path, tmp_path: Path, version: int, mask: str) -> None:
    config = json.loads((log_run / "config.json").read_text())
    assert config["format"] == 4
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": version}))
    assert load_request(Run(tmp_path))[0].data.mask == mask


def test_unknown_tokens_are_those_of_masked_lines(cli: Cli) -> None:
    Path("w.log").write_text("".join(f"user {number * 977} came\n" for number in range(60)))
    tiny = ("--threads", 1, "--steps", 2, "--hidden", 8, "--layers", 1, "--batch", 4, "--sample-length", 0)
    assert (
        "next: unrolled score r\n" in cli("train", "w.log", "--tokens", "words", "--mask", "numbers", "--out", "r", *tiny).err
    )
    assert "not in the vocabulary" not in cli("score", "r", "w.log").err
    Path("x.log").write_text("user 31337 zoomed off\nuser 5 came\n")
    assert "2 tokens are not in the vocabulary of the model (spelled in characters): ' zoomed', ' off'" in (
        cli("score", "r", "x.log").err
    )


def test_a_labeled_table(cli: Cli, log_run: Path, new_log: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rows = [*(f'"{line}",ok' for line in new_log.read_text().splitlines()[:100]), f'"{STRANGE}",bad']
    table.write_text("message,label\n" + "\n".join(rows) + "\n")
    result = cli("score", log_run, table, "--label", "label", "--alert-above", 60)
    assert result.code == 0, result.err
    assert "ROC AUC: 1.0000, of 1 anomalies and 100 normal lines" in result.out
    wide = tmp_path / "w.csv"
    wide.write_text("id,message,label\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows)))
    refused = cli("score", log_run, wide, "--label", "label")
    assert refused.code == 2
    assert "2 columns other than 'label': name that of the lines with --source" in refused.err
    named = cli("score", log_run, wide, "--label", "label", "--source", "message", "--alert-above", 60)
    assert named.out == result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--alert-rate", 1e-5), 3, "needs at least 100,000 held-out lines, and there are"),
        (("--alert-rate", 0), 2, "--alert-rate is 0; expected a finite number above 0 and below 1"),
        (("--alert-rate", 1), 2, "--alert-rate is 1"),
        (("--alert-rate", "nan"), 2, "--alert-rate is nan"),
        (("--alert-above", -1), 2, "--alert-above is -1"),
        (("--alert-rate", 0.1, "--alert-above", 3), 2, "both give the threshold"),
        (("--alert-rate", 0.1, "--top", 3), 2, "--top is for scores"),
        (("--alert-rate", 0.1, "--html", "a.html"), 2, "--html does not go together"),
        (("--alert-rate", 0.1, "--per", "character"), 2, "--per character does not go together"),
        (("--alert-rate", 0.1, "--adapt"), 2, "leave one out"),
        (("--adapt",), 2, "--adapt reads a text in its order"),
        (("--labels", "no.txt"), 3, "No such file: no.txt"),
        (("--labels", "short.txt"), 3, "There are 2 labels and 301 lines"),
        (("--labels", "equal.txt"), 3, "All 301 labels are those of normal lines"),
        (("--label", "x", "--labels", "short.txt"), 2, "leave one out"),
        (("--source", "x"), 2, "Alerts need a threshold"),
        (("--source", "x", "--alert-above", 3), 2, "--source names the lines of a table"),
        (("--from-start",), 2, "--from-start is for --follow"),
        (("--follow", "x.log", "--alert-above", 1), 2, "are given; expected one text"),
    ],
)
def test_what_cannot_be_used_is_refused(
    cli: Cli, log_run: Path, new_log: Path, arguments: tuple[object, ...], code: int, message: str
) -> None:
    Path("short.txt").write_text("0\n1\n")
    Path("equal.txt").write_text("0\n" * 301)
    result = cli("score", log_run, new_log, *arguments)
    assert (result.code, message in result.err) == (code, True), result.err
    assert result.err.count("unrolled: ") == 1


def test_a_model_without_its_run_and_standard_input(cli: Cli, log_run: Path, new_log: Path, tmp_path: Path) -> None:
    alone = tmp_path / "m.safetensors"
    shutil.copy(log_run / "model.safetensors", alone)
    assert "is a model without its run folder" in cli("score", alone, new_log, "--alert-rate", 0.1).err
    expected = cli("score", log_run, new_log, "--alert-above", 60)
    with StandardInput(new_log):
        assert cli("score", alone, "-", "--alert-above", 60).out == expected.out
    with StandardInput(new_log):
        assert "There are 2 labels" in cli("score", alone, "-", "--labels", _file(tmp_path, "0\n1\n")).err


def _file(folder: Path, text: str) -> Path:
    (folder / "f.txt").write_text(text)
    return folder / "f.txt"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--mask", "number"), 2, "did you mean 'numbers'"),
        (("--mask", "key"), 2, "add --group-by"),
        (("--group-by", "("), 2, "is no regular expression"),
        (("--group-by", "x*"), 2, "matches an empty text"),
        (("--group-by", "nowhere=(.)"), 3, "finds no key in any of 40 lines"),
        (("--group-by", "(([a-z0-9: .-]+)+)@"), 3, "takes more than 0.2 s at line 1: it backtracks"),
        (("--group-by", r"\[(\w+)", "--documents", "line"), 2, "sessions are documents"),
        (("--documents", "session"), 2, "needs the pattern of their key"),
    ],
)
def test_formats_that_cannot_be_learned(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.setattr("unrolled.text.line_format.MAX_SEARCH_SECONDS", 0.2)
    log = _file(tmp_path, "".join(f"{line.text}\n" for line in service_log(40)))
    result = cli("train", log, "--steps", 2, *arguments)
    assert (result.code, message in result.err) == (code, True), result.err
    assert not Path("runs").exists()


def test_a_masked_model_goes_on_and_is_a_base(cli: Cli, tmp_path: Path) -> None:
    log = _file(tmp_path, "".join(f"{line.text}\n" for line in service_log(150)))
    tiny = ("--hidden", 8, "--layers", 1, "--batch", 2, "--sample-length", 0, "--threads", 1)
    assert (
        cli("train", log, "--mask", "numbers,time", "--from", "none", "--steps", 4, "--stop-after", 2, *tiny, "--out", "a").code
        == 0
    )
    resumed = cli("train", "--resume", "a")
    assert resumed.code == 0, resumed.err
    plain = unrolled.load("a")
    assert plain.tokenizer.line_format.mask == ("time", "numbers")
    assert plain.text_model.documents == "none"
    session = cli(
        "train", log, "--from", "a", "--group-by", KEY_PATTERN, "--steps", 2, "--batch", 2, "--sample-length", 0, "--out", "b"
    )
    assert session.code == 0, session.err
    line_format = unrolled.load("b").tokenizer.line_format
    assert (line_format.mask, line_format.group_by) == (("time", "numbers"), KEY_PATTERN)
    other = cli("train", log, "--from", "a", "--mask", "ip", "--steps", 2)
    assert (other.code, "leave it out, or use --from none" in other.err) == (2, True)
    assert "differently" in cli("score", "a", log, "--compare", "b").err


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_file_that_grows(log_run: Path, tmp_path: Path, stop: signal.Signals) -> None:
    path, lines = tmp_path / "app.log", [line.text for line in service_log(20, seed=4)]
    bits = [
        line.bits[0]
        for line in unrolled.load(str(log_run), threads=1).scoring(str(_file(tmp_path, "\n".join([*lines, STRANGE])))).lines()
    ]
    threshold = (sorted(bits)[-2] + bits[-1]) / 2
    assert bits[-1] == max(bits)
    command = [
        sys.executable,
        "-m",
        "unrolled",
        "score",
        str(log_run),
        "--follow",
        str(path),
        "--alert-above",
        str(threshold),
        "--alert-cooldown",
        "0",
        "--json",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as follower:
        assert follower.stdout is not None
        watchdog = threading.Timer(60, follower.kill)  # a line that never comes would be waited for without end
        watchdog.start()
        start = json.loads(follower.stdout.readline())
        assert (start["event"], start["file"], start["threshold"]["bits"]) == ("start", str(path), threshold)
        path.write_text("\n".join([*lines, STRANGE]) + "\n")
        alert = json.loads(follower.stdout.readline())  # at once: nothing else is written
        assert (alert["event"], alert["line"], alert["text"], alert["session"]) == ("alert", 21, STRANGE, "0badf00d")
        path.rename(tmp_path / "app.log.1")
        path.write_text(STRANGE[:30])
        time.sleep(0.1)
        with open(path, "a") as file:
            file.write(STRANGE[30:] + "\n")
        assert json.loads(follower.stdout.readline())["line"] == 22
        follower.send_signal(stop)
        out, err = follower.communicate(timeout=20)
        watchdog.cancel()
    assert (follower.returncode, out) == (0, "")
    assert "is another file now" in err
    assert "22 lines read, 1 rotation" in err
    assert "Traceback" not in err


def test_follow_in_python_and_its_refusals(cli: Cli, log_run: Path, tmp_path: Path) -> None:
    path = _file(tmp_path, f"{STRANGE}\n")
    model = unrolled.load(str(log_run), threads=1)
    looks = iter([False, True, True])
    (alert,) = model.follow(str(path), lambda: next(looks), alert_above=60, from_start=True)
    assert (alert.text, alert.number) == (STRANGE, 1)
    result = cli("score", log_run, "--follow", path)
    assert (result.code, "Alerts need a threshold" in result.err) == (2, True)
    folder = cli("score", log_run, "--follow", tmp_path, "--alert-above", 1)
    assert (folder.code, "is a folder" in folder.err) == (3, True)
    labels = cli("score", log_run, "--follow", path, "--labels", path, "--alert-above", 1)
    assert (labels.code, "leave one out" in labels.err) == (2, True)


def test_follow_with_a_model_of_one_stream(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.text.followed_file.POLL_SECONDS", 0.001)
    text = "".join(f"line {number} is fine\n" for number in range(200))
    (tmp_path / "a.txt").write_text(text)
    assert (
        cli(
            "train",
            tmp_path / "a.txt",
            "--steps",
            3,
            "--hidden",
            8,
            "--layers",
            1,
            "--batch",
            2,
            "--out",
            "r",
            "--from",
            "none",
        ).code
        == 0
    )
    model = unrolled.load("r", threads=1)
    looks = iter([False] * 40 + [True] * 9)
    found = list(model.follow(str(tmp_path / "a.txt"), lambda: next(looks), alert_above=0.0, from_start=True))
    scored = list(model.scoring(str(tmp_path / "a.txt")).lines())
    np.testing.assert_allclose([alert.bits for alert in found], [line.bits[0] for line in scored], rtol=1e-3)
