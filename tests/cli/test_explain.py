"""`explain`, clamped samples, novel samples and baselines, from the command line and from Python."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from support.cli import Cli, StandardInput
from support.texts import sentences
from unrolled.analysis.novel_samples import MIN_COPY_TOKENS
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.compressors import compressor_nats
from unrolled.evaluation.memorization import matching_statistics
from unrolled.evaluation.ngram import KneserNey

pytestmark = pytest.mark.xdist_group("explain")  # the tests of this module share their runs

SMALL: dict[str, Any] = {
    "hidden": 16, "batch": 4, "bptt": 16, "sample_length": 0, "progress": False, "threads": 1, "precision": "float32",
}  # fmt: skip
EXACT = ("--precision", "float32", "--threads", 1)
NAMES = [a + b + c for a in "bdfgk" for b in "aeio" for c in "lmnrst"]  # 120
GATES = ["i", "f", "g", "o"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of three runs (sentences with quotes, a list of names, bytes), of their text, and of a model without its run."""
    folder = tmp_path_factory.mktemp("inside")
    book, names = folder / "book.txt", folder / "names.txt"
    lines = [f'"{line}"' if place % 3 == 0 else line for place, line in enumerate(sentences(800).splitlines())]
    book.write_text("\n".join(lines) + "\n", "utf-8")
    names.write_text("".join(name + "\n" for name in NAMES), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(folder / "cache"))
        unrolled.train(str(book), out=str(folder / "book"), steps=150, **SMALL)
        unrolled.train(str(names), out=str(folder / "names"), documents="line", steps=150, train_fraction=1.0, **SMALL)
        unrolled.train(str(book), out=str(folder / "raw"), tokens="bytes", steps=5, **SMALL)
    moved = folder / "moved.safetensors"
    moved.write_bytes((folder / "book" / "model.safetensors").read_bytes())
    return {
        "text": str(book), "book": str(folder / "book"), "names": str(folder / "names"), "raw": str(folder / "raw"),
        "moved": str(moved),
    }  # fmt: skip


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "short.txt"
    path.write_text('"The old <fox> sleeps & jumps."\nA dog.\n' * 8, "utf-8")
    return path


def load(path: str) -> unrolled.Model:
    return unrolled.load(path, precision="float32", threads=1)


# explain


@pytest.mark.slow
def test_explain_writes_a_page_into_the_run_and_prints_detectors(cli: Cli, runs: dict[str, str]) -> None:
    done = cli("explain", runs["book"], "--length", 400, *EXACT)
    assert done.code == 0, done.err
    page = Path(runs["book"]) / "explain.html"
    assert done.out.splitlines()[-1] == f"page: {page}"
    assert re.search(r"^searching for detectors on \d,\d{3} tokens$", done.err, re.M)
    assert re.search(r"^\d+\.\d% of the units are detectors", done.out, re.M)
    assert ("*: a detector" in done.out) is bool(re.search(r"^ *\d+\.\d+\* ", done.out, re.M))
    html = page.read_text("utf-8")
    assert html.lower().startswith("<!doctype html>")
    assert "book - neuron explorer" in html
    page.unlink()


def test_explain_as_json(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "there.html"
    done = cli("explain", runs["book"], "--length", 300, "--clamp", "1.3=0.9", "--clamp", "0.2", "--out", out, "--json", *EXACT)
    answer = json.loads(done.out)
    assert list(answer) == ["version", "page", "tokens", "detectors", "units", "detector_fraction", "effects"]
    assert (answer["version"], answer["page"], answer["tokens"]) == (2, str(out), 300)
    assert out.is_file()
    assert not (Path(runs["book"]) / "explain.html").exists()
    assert answer["detectors"]
    keys = {"layer", "unit", "feature", "description", "kind", "score", "sign", "p_value", "trivial"}
    assert all(set(one) == keys for one in answer["detectors"] + answer["units"])
    assert answer["detector_fraction"] == pytest.approx(len(answer["units"]) / 32)
    first, second = answer["effects"]
    assert set(first) == {"layer", "unit", "value", "feature", "bits", "before", "after", "seed"}
    assert [(one["layer"], one["unit"], one["value"]) for one in (first, second)] == [(1, 3, 0.9), (0, 2, 0.0)]
    assert first["before"] == second["before"] != first["after"]
    model = load(runs["book"])
    held_out = Path(runs["text"]).read_text("utf-8")
    text = held_out[int(len(held_out) * 0.9) :][:300]
    unclamped, clamped = (model.trace(text, clamp).bits()[1:] for clamp in ([], ["1.3=0.9"]))
    if model.trace(text).tokenized.text == model.session.held_out_text(300).text:  # the split may be one token off
        assert first["bits"] == pytest.approx(float((clamped - unclamped).mean()), abs=1e-5)


@pytest.mark.slow
def test_the_best_detectors_are_clamped_by_default(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    answer = json.loads(cli("explain", runs["book"], "--length", 300, "--out", tmp_path / "x.html", "--json", *EXACT).out)
    units = [(one["layer"], one["unit"]) for one in answer["detectors"]]
    strong = [
        unit for one, unit in zip(answer["detectors"], units, strict=True) if one["p_value"] <= 0.05 and not one["trivial"]
    ]
    clamped = [(one["layer"], one["unit"]) for one in answer["effects"]]
    assert clamped == [unit for unit in dict.fromkeys(clamped) for _ in range(2)]
    assert len(set(clamped)) <= 3
    assert clamped
    assert set(clamped) <= set(strong)
    assert [one["value"] for one in answer["effects"]][::2] == [0.0] * (len(clamped) // 2)
    model = load(runs["book"])
    states = model.trace(model.session.held_out_text(300).text).h
    signs = {unit: one["sign"] for one, unit in reversed([*zip(answer["detectors"], units, strict=True)])}
    for one in answer["effects"][1::2]:
        values = states[:, one["layer"], one["unit"]]
        is_beyond = (values > one["value"] - 0.01) if signs[one["layer"], one["unit"]] > 0 else (values < one["value"] + 0.01)
        assert 0.03 < is_beyond.mean() < 0.3


@pytest.mark.slow
def test_explain_reads_a_text_or_standard_input(cli: Cli, runs: dict[str, str], short: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    named = json.loads(cli("explain", runs["book"], short, "--length", 60, "--out", first, "--json", *EXACT).out)
    with StandardInput(short):
        piped = json.loads(cli("explain", runs["book"], "-", "--length", 60, "--out", second, "--json", *EXACT).out)
    assert named["tokens"] == piped["tokens"] == 60
    assert {**named, "page": None} == {**piped, "page": None}
    assert first.read_bytes() == second.read_bytes()
    answer = json.loads(cli("explain", runs["book"], short, "--out", first, "--json", *EXACT).out)
    assert answer["tokens"] == len(short.read_text("utf-8"))


def test_explain_on_a_terminal_without_colors_has_marks(cli: Cli, runs: dict[str, str], short: Path) -> None:
    done = cli("explain", runs["book"], short, "--terminal", "--neuron", "1.3", *EXACT)
    head, *lines = done.out.splitlines()
    assert head == "unit 1.3: + below what is at least 0.5, - below what is at most -0.5"
    texts, marks = lines[::2], lines[1::2]
    assert "\n".join(texts).replace("\u21b5", "").rstrip("\n") == short.read_text("utf-8").rstrip("\n")
    assert set("".join(marks)) <= {"+", "-", " "}
    assert all(len(mark) <= len(text) for mark, text in zip(marks, texts, strict=True))


def test_explain_on_a_terminal_writes_nothing(
    cli: Cli, runs: dict[str, str], short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    done = cli("explain", runs["book"], short, "--terminal", "--neuron", "1.3", *EXACT)
    assert done.out.startswith("unit 1.3: green = positive, blue = negative\n")
    printed = re.sub("\x1b\\[[0-9;]*m", "", done.out.split("\n", 1)[1])
    assert "\x1b[" in done.out
    assert printed.replace("\u21b5\n", "\n").rstrip("\n") == short.read_text("utf-8").rstrip("\n")
    best = cli("explain", runs["book"], short, "--terminal", *EXACT).out
    assert re.match(r"unit [01]\.\d+ follows .+ \(.+\): green = positive", best)
    answer = json.loads(cli("explain", runs["book"], short, "--terminal", "--json", *EXACT).out)
    assert (answer["page"], answer["effects"]) == (None, [])
    assert not (Path(runs["book"]) / "explain.html").exists()
    assert not list(Path().iterdir())


def test_explain_saves_activations(cli: Cli, runs: dict[str, str], short: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    done = cli("explain", runs["book"], short, "--terminal", "--save-activations", path, *EXACT)
    assert f"arrays: {path}" in done.err
    model, text = load(runs["book"]), short.read_text("utf-8")
    activations = model.trace(text)
    with np.load(path) as arrays:
        assert list(arrays) == ["ids", "h", "c", *GATES, "logits"]
        for name, values in activations.arrays().items():
            np.testing.assert_array_equal(arrays[name], values)
        assert arrays["h"].shape == (len(text), 2, 16)
        assert arrays["logits"].shape == (len(text), model.tokenizer.vocab_size)
    done = cli("explain", runs["book"], short, "--terminal", "--save-activations", tmp_path / "no" / "a.npz", *EXACT)
    assert (done.code, "does not exist" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [("", 3, "There is no text in "), ("T", 3, "The text has one token: at least two are needed")],
)
def test_a_text_too_short_to_explain(
    cli: Cli, runs: dict[str, str], tmp_path: Path, content: str, code: int, sentence: str
) -> None:
    path = tmp_path / "tiny.txt"
    path.write_text(content, "utf-8")
    done = cli("explain", runs["book"], path, "--out", tmp_path / "x.html", *EXACT)
    assert (done.code, sentence in done.err, done.out) == (code, True, ""), done.err
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("flags", [("--clamp", "2.0"), ("--clamp", "0.16"), ("--terminal", "--neuron", "0.16")])
def test_a_unit_that_does_not_exist_is_a_usage_error(
    cli: Cli, runs: dict[str, str], short: Path, flags: tuple[str, ...]
) -> None:
    done = cli("explain", runs["book"], short, *flags, *EXACT)
    assert "layers are 0 to 1, units 0 to 15" in done.err
    assert (done.code, done.out) == (2, "")


def test_the_message_about_a_wrong_unit_names_the_flag(cli: Cli, runs: dict[str, str], short: Path) -> None:
    done = cli("explain", runs["book"], short, "--terminal", "--neuron", "first", *EXACT)
    assert done.code == 2
    assert "--neuron takes LAYER.UNIT" in done.err


def test_a_model_without_its_run_explains_a_text_and_asks_for_one(cli: Cli, runs: dict[str, str], short: Path) -> None:
    done = cli("explain", runs["moved"], *EXACT)
    assert (done.code, "is a model without its run folder: name the text." in done.err) == (2, True)
    done = cli("explain", runs["moved"], short, *EXACT)
    assert done.code == 0, done.err
    assert "too short to find detectors: 312 tokens, and 2,000 are needed" in done.err
    assert done.out == "page: explain.html\n"
    assert "moved - neuron explorer" in Path("explain.html").read_text("utf-8")


@pytest.mark.parametrize("model", ["names", "raw"])
def test_documents_and_bytes_are_explained_too(cli: Cli, runs: dict[str, str], tmp_path: Path, model: str) -> None:
    text, arrays = tmp_path / "t.txt", tmp_path / "a.npz"
    text.write_text("b\u00e9l\ngot\n", "utf-8")
    for source in ([], [text]):
        done = cli(
            "explain", runs[model], *source, "--out", tmp_path / "x.html", "--save-activations", arrays, "--json", *EXACT
        )
        assert done.code == 0, done.err
    with np.load(arrays) as saved:
        eos_ids = [load(runs[model]).tokenizer.eos_id] if model == "names" else []
        assert (len(saved["ids"]), saved["ids"][:1].tolist()) == (9, eos_ids or [98])
    assert json.loads(done.out)["tokens"] == 9


# samples


def test_samples_with_clamped_units(cli: Cli, runs: dict[str, str]) -> None:
    def draw(*flags: object) -> str:
        done = cli("sample", runs["book"], "--length", 80, "--prompt", "The ", *flags, *EXACT)
        assert done.code == 0, done.err
        return done.out

    unclamped, clamped = draw(), draw("--clamp", "1.3=0.9")
    assert unclamped != clamped == draw("--clamp", "1.3=0.9")
    assert unclamped == draw()
    both = draw("--clamp", "1.3=0.9", "--clamp", "0.2=-1")
    assert both not in (unclamped, clamped)
    answer = json.loads(draw("--clamp", "1.3=0.9", "--count", 3, "--json"))
    assert answer["samples"][0]["text"] + "\n" == clamped
    assert load(runs["book"]).sample("The ", length=80, clamp=["1.3=0.9"]) + "\n" == clamped
    assert cli("sample", runs["book"], "--clamp", "2.0", *EXACT).code == 2
    assert cli("sample", runs["book"], "--clamp", "x", *EXACT).code == 2


@pytest.mark.parametrize("count", [2, 25])
def test_novel_names_are_not_in_the_list(cli: Cli, runs: dict[str, str], count: int) -> None:
    flags = ("--temperature", 1.2, "--count", count, *EXACT)
    known = cli("sample", runs["names"], *flags).out.splitlines()
    done = cli("sample", runs["names"], "--novel-only", *flags)
    assert done.code == 0, done.err
    novel = done.out.splitlines()
    assert len(known) == len(novel) == count
    assert not set(novel) & set(NAMES)
    assert set(known) & set(NAMES)
    assert [name for name in known if name not in NAMES] == novel[: sum(name not in NAMES for name in known)]


def test_a_single_sample_is_novel_too(cli: Cli, runs: dict[str, str]) -> None:
    for seed in range(1, 9):
        flags = ("--temperature", 1.2, "--seed", seed, "--novel-only", *EXACT)
        (name,) = cli("sample", runs["names"], *flags).out.splitlines()
        (same,) = json.loads(cli("sample", runs["names"], "--json", *flags).out)["samples"]
        assert name not in NAMES
        assert name == same["text"]


def test_novel_samples_keep_their_seeds(runs: dict[str, str]) -> None:
    model = load(runs["names"])
    novel = list(model.samples(count=12, novel_only=True, temperature=1.2, seed=7))
    assert [one.seed for one in novel] == sorted({one.seed for one in novel})
    assert novel[0].seed >= 7
    for one in novel:
        assert model.sample(seed=one.seed, temperature=1.2) == one.text
        assert one.text not in NAMES
    skipped = {seed for seed in range(7, novel[-1].seed)} - {one.seed for one in novel}
    assert skipped
    assert all(model.sample(seed=seed, temperature=1.2) in NAMES for seed in skipped)


def test_only_copies_is_a_usage_error(cli: Cli, runs: dict[str, str]) -> None:
    prompt = Path(runs["text"]).read_text("utf-8")[1:60]
    for flags in (("--count", 2), ("--json",)):
        done = cli("sample", runs["book"], "--prompt", prompt, "--length", 10, "--novel-only", *flags, *EXACT)
        assert done.code == 2, flags
        assert "were not copies of the training text: try a higher --temperature or another --prompt." in done.err


def test_novel_samples_of_a_stream_have_no_long_copies(cli: Cli, runs: dict[str, str]) -> None:
    flags = ("--length", 120, "--temperature", 0.3, "--count", 3, "--json", *EXACT)
    done = cli("sample", runs["book"], "--novel-only", *flags)
    assert done.code == 0, done.err
    model = load(runs["book"])
    train_ids = model.session.train_and_held_out()[0]
    for sample in json.loads(done.out)["samples"]:
        assert matching_statistics(train_ids, model.tokenizer.encode(sample["text"])).max() < MIN_COPY_TOKENS


# baselines

COMPRESSORS = ["xz", *compressor_nats(b"some text", b"more text", 9)]
"""Those of this machine."""


def test_baselines_are_added_to_the_evaluation(cli: Cli, runs: dict[str, str]) -> None:
    plain = json.loads(cli("eval", runs["book"], "--json", *EXACT).out)
    assert plain["baselines"] == {}
    done = cli("eval", runs["book"], "--baselines", "--order", 5, "--json", *EXACT)
    answer = json.loads(done.out)
    assert list(answer["baselines"]) == ["uniform", *[f"{n}-gram" for n in range(1, 6)], *COMPRESSORS]
    assert {**answer, "baselines": {}} == plain
    model = load(runs["book"])
    baselines = answer["baselines"]
    assert baselines["uniform"] == pytest.approx(math.log(model.tokenizer.vocab_size))
    assert baselines["uniform"] > baselines["1-gram"] > baselines["2-gram"] > baselines["3-gram"] > 0
    assert 0 < baselines["xz"] < baselines["uniform"]
    train, held_out = model.session.train_and_held_out()
    for order in (1, 3):  # the training text is the context of the held-out text, whose first token is not predicted
        ngram_model = KneserNey(train, model.tokenizer.vocab_size, order)
        losses = ngram_model.losses(held_out[1:], np.concatenate([train, held_out[:1]]))
        assert baselines[f"{order}-gram"] == pytest.approx(float(losses.mean()), abs=1e-6)
    assert "counting n-grams up to order 5 in" in done.err
    assert model.baselines(order=5).to_json() == pytest.approx(baselines)

    table = cli("eval", runs["book"], "--baselines", "--order", 3, *EXACT).out.splitlines()
    assert re.match(
        r"\d\.\d{4} nats, \d\.\d{4} bits per character \(standard error .*\) over [\d,]+ characters of the ", table[0]
    )
    names = ["uniform", "3-gram", "xz -9", *COMPRESSORS[1:], "this model", "n-grams of other orders, in nats: 2: "]
    assert [row.startswith(name) for row, name in zip(table[2:], names, strict=True)] == [True] * len(names)
    nats = float(table[-2].split()[-2])
    assert nats == pytest.approx(answer["nats_per_character"], abs=1e-4)
    assert float(table[-2].split()[-1]) == pytest.approx(nats / math.log(2), abs=2e-4)


def test_baselines_are_of_the_same_text(cli: Cli, runs: dict[str, str], short: Path) -> None:
    answer = json.loads(cli("eval", runs["book"], short, "--baselines", "--order", 4, "--json", *EXACT).out)
    assert answer["baselines"]["uniform"] == pytest.approx(math.log(load(runs["book"]).tokenizer.vocab_size))
    assert answer["baselines"]["4-gram"] < 3
    for name in ("names", "raw"):
        found = json.loads(cli("eval", runs[name], short, "--baselines", "--order", 2, "--json", *EXACT).out)["baselines"]
        assert list(found) == ["uniform", "1-gram", "2-gram", *COMPRESSORS]
    done = cli("eval", runs["moved"], short, "--baselines", *EXACT)
    assert (done.code, "n-grams need the training text" in done.err) == (2, True)


def test_baselines_of_binary_data_are_per_byte(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "any.bin"
    path.write_bytes(bytes(np.random.default_rng(0).integers(0, 256, 4000).tolist()))
    unrolled.train(str(path), tokens="bytes", out="r", steps=3, **SMALL)
    answer = json.loads(cli("eval", "r", "--baselines", "--order", 1, "--json", *EXACT).out)
    assert answer["characters"] == 399
    assert answer["baselines"]["uniform"] == pytest.approx(math.log(256), abs=1e-6)


# Python


def test_the_same_from_python(runs: dict[str, str], short: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, text = load(runs["book"]), re.sub("[<>&]", "", short.read_text("utf-8"))
    short.write_text(text, "utf-8")
    activations = model.trace(text)
    assert activations.tokenized.text == text
    assert (list(activations.states_and_gates), activations.h.shape) == (["h", "c", *GATES], (len(text), 2, 16))
    assert (model.trace(text, clamp=["1.3=0.9"]).h[:, 1, 3] == np.float32(0.9)).all()
    scored = model.score(text)
    np.testing.assert_allclose(scored.bits, activations.bits(), rtol=1e-3, atol=1e-4)
    assert scored.text == text
    assert scored.bits_per_character == pytest.approx(float(scored.bits[1:].mean()))
    clamped_bits = model.score(text, clamp=["1.3=0.9"]).bits
    np.testing.assert_allclose(clamped_bits, model.trace(text, clamp=["1.3=0.9"]).bits(), rtol=1e-3, atol=1e-4)
    stream = model.scoring(str(short), compare=[runs["names"]])
    lines = list(stream.lines())
    assert len(lines) == text.count("\n") == stream.totals.num_lines
    assert stream.totals.bits[0] == pytest.approx(float(np.nansum(scored.bits)), rel=1e-4)
    assert stream.model_names == [runs["book"], runs["names"]]
    caplog.set_level("INFO", "unrolled")
    result = model.explain(str(short), length=50, out="x.html", clamp=("0.1",))
    assert (result.page_path, len(result.activations.tokenized), len(result.effects)) == (Path("x.html"), 50, 1)
    assert caplog.messages
    assert result.unit_importance is not None
    assert result.unit_importance.shape == (2, 16)
    for wrong in ({"lenght": 5}, {"clamp": ("a",)}):
        with pytest.raises(UsageError):
            model.explain(str(short), **wrong)
    with pytest.raises(DataError):
        model.explain("nowhere.txt")


def test_bits_per_character_counts_characters_for_all_tokens(runs: dict[str, str]) -> None:
    for name in ("book", "raw", "names"):
        model = load(runs[name])
        scored = model.score("a\u00e9\u2603b")
        path = Path(f"{name}.txt")
        path.write_text("a\u00e9\u2603b", "utf-8")
        counted = 4 if name == "names" else 3
        assert scored.bits_per_character == pytest.approx(float(np.nansum(scored.bits)) / counted)
        stream = model.scoring(str(path))
        list(stream.lines())
        assert stream.totals.num_chars == counted
    assert "tokens, " in repr(scored)


def test_a_scored_text_in_a_notebook_is_escaped(runs: dict[str, str]) -> None:
    hostile = "<script>alert('x')</script>&\"\x1b[0m\n"
    model = load(runs["book"])
    results: list[Any] = [model.score(hostile), model.trace(hostile)]
    for result in results:
        html = result._repr_html_()
        assert "<script" not in html
        assert "\x1b" not in html
        assert html.count("&lt;") == html.count("&gt;") == 2
        assert "&amp;" in html
        assert html.count("<span") == html.count("</span>") == len(hostile)
    assert '<span style="" title="">&lt;</span>' in html  # the first token has no context
    long = model.score("The old fox. " * 400)._repr_html_()
    assert long.count("<span") == 4000
    assert "and 1,200 more tokens" in long
    assert model.score("")._repr_html_().count("<span") == 0
