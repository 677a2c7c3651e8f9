"""Surprisal of a text of any length: the same as its recorded activations give, for any chunks; and its sums over lines."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unrolled
from support.cli import Cli, StandardInput
from support.texts import sentences
from unrolled.evaluation import surprisal
from unrolled.evaluation.line_surprisal import MAX_KEPT_TOKENS, ScoredLine, ScoringStream
from unrolled.evaluation.surprisal import UNKNOWN_BITS, CodePoints, SurprisalScorer, score_blocks, text_blocks
from unrolled.evaluation.text_loss import evaluate
from unrolled.interpret.activations import record_activations
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import ModelOptions
from unrolled.text.tokenized_text import tokenize
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

pytestmark = pytest.mark.xdist_group("surprisal")  # the tests of this module share their runs

CPU = DeviceConfig(torch.device("cpu"), torch.float32, 2)
LETTERS = "\n abcdeABC\u00e9"
SMALL: dict[str, Any] = {"hidden": 16, "batch": 4, "bptt": 8, "sample_length": 0, "progress": False, "threads": 1}
KINDS: dict[str, tuple[Tokenizer, str]] = {
    "stream": (CharTokenizer(LETTERS), "none"),
    "line": (CharTokenizer(LETTERS.replace("\n", ""), True), "line"),
    "file": (CharTokenizer(LETTERS, True), "file"),
    "bytes": (ByteTokenizer(), "none"),
    "lines of bytes": (ByteTokenizer(True), "line"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def network(vocab_size: int, seed: int = 0, cell: str = "lstm") -> RecurrentLM:
    torch.manual_seed(seed)
    options = ModelOptions(hidden=12, dropout=0.3, cell=cell)  # type: ignore[arg-type]  # a key of CELLS
    model = RecurrentLM(vocab_size, options).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
        model.head.weight.mul_(2)
        for cell_module in model.cells():
            cell_module.bias.zero_()  # a short memory, so that after the warm-up a column has the state of the one before
    return model


MODELS = {kind: [network(tokenizer.vocab_size, seed) for seed in (0, 1)] for kind, (tokenizer, _) in KINDS.items()}


def scorer(kind: str, seed: int = 0, clamps: Sequence[Clamp] = ()) -> SurprisalScorer:
    tokenizer, documents = KINDS[kind]
    return SurprisalScorer(MODELS[kind][seed], tokenizer, documents, CPU, clamps)


def points(kind: str, text: str) -> CodePoints:
    return KINDS[kind][0].code_points(text)


def scoring(kind: str, text: str, *more: SurprisalScorer, chunks: list[CodePoints] | None = None) -> ScoringStream:
    scorers = [scorer(kind), *more]
    names = [f"model {index}" for index in range(len(scorers))]
    return ScoringStream(names, scorers, text_blocks([points(kind, text)] if chunks is None else chunks))


def bits_of(kind: str, text: str, chunks: list[CodePoints] | None = None) -> Any:
    blocks = list(score_blocks([scorer(kind)], text_blocks([points(kind, text)] if chunks is None else chunks)))
    return np.concatenate([block.bits[0] for block in blocks])


def recorded_bits(kind: str, text: str, clamps: Sequence[Clamp] = (), seed: int = 0) -> Any:
    """Return the bits of the tokens of a text from its recorded activations, without those of the token that it starts from."""
    tokenizer, documents = KINDS[kind]
    bits = record_activations(MODELS[kind][seed], tokenize(tokenizer, documents, text), clamps).bits()
    return bits[1:] if tokenizer.eos_id is not None else bits


def some_text(size: int, seed: int = 0, longest: int = 30) -> str:
    draw = np.random.default_rng(seed)
    lines = ["".join(draw.choice(list(LETTERS[1:]), draw.integers(0, longest))) for _ in range(2 + 3 * size // longest)]
    return "\n".join(lines)[:size]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 200 tokens, read in batch columns of about 30 after a warm-up of 120."""
    for name, value in {
        "BLOCK_TOKENS": 200, "MAX_COLUMN_TOKENS": 30, "MAX_COLUMNS": 3, "WARMUP_TOKENS": 120, "CHUNK_STEPS": 7,
        "MAX_BATCH_STEPS": 64,
    }.items():  # fmt: skip
        monkeypatch.setattr(surprisal, name, value)


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 700])
def test_short_texts_score_as_recorded_activations(kind: str, size: int) -> None:
    text = some_text(size)
    np.testing.assert_allclose(bits_of(kind, text), recorded_bits(kind, text), atol=2e-5)


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("longest", [30, 900])
def test_blocks_and_columns_score_as_recorded_activations(small_blocks: None, kind: str, longest: int) -> None:
    text = some_text(1501, longest=longest)
    blocks = list(score_blocks([scorer(kind)], text_blocks([points(kind, text)])))
    assert len(blocks) > 7
    assert max(len(block.code_points) for block in blocks) <= 200
    assert longest > 30 or all(block.code_points[-1] == 10 for block in blocks[:-1])  # cut at line ends where possible
    np.testing.assert_allclose(bits_of(kind, text), recorded_bits(kind, text), atol=1e-3)


@pytest.mark.slow
@every_kind
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 500), max_size=9))
def test_chunks_of_the_input_do_not_matter(small_blocks: None, kind: str, cuts: list[int]) -> None:
    text = some_text(450, seed=2)
    code_points = points(kind, text)
    chunks = np.split(code_points, sorted(min(cut, len(code_points)) for cut in cuts))
    np.testing.assert_array_equal(bits_of(kind, text, chunks), bits_of(kind, text))
    one, other = scoring(kind, text), scoring(kind, text, chunks=chunks)
    assert [line.bits for line in one.lines()] == [line.bits for line in other.lines()]
    assert one.totals == other.totals


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("end", ["", "\n"])
def test_lines_are_the_sums_of_their_tokens(small_blocks: None, kind: str, end: str) -> None:
    text = some_text(1000, longest=60) + "a" + end
    stream = scoring(kind, text, scorer(kind, 1))
    lines = list(stream.lines())
    texts = text.removesuffix("\n").split("\n")
    assert [line.text for line in lines] == texts
    assert [line.number for line in lines] == list(range(1, len(texts) + 1))
    bits = bits_of(kind, text)
    sizes = [len(points(kind, piece)) + 1 for piece in texts]
    expected = [np.nansum(part) for part in np.split(bits, np.cumsum(sizes)[:-1])]
    np.testing.assert_allclose([line.bits[0] for line in lines], expected, atol=1e-6)
    first = KINDS[kind][0].eos_id is None  # the first token has no context, so it is not counted
    counted = [len(piece) + 1 for piece in texts]
    counted[0] -= first
    counted[-1] -= not end
    assert [line.num_chars for line in lines] == counted
    totals = stream.totals
    assert (totals.num_lines, totals.num_chars, totals.num_unknown) == (len(lines), sum(counted), 0)
    assert totals.num_tokens == sum(line.num_tokens for line in lines) == len(bits) - first
    for model in range(2):
        assert totals.bits[model] == pytest.approx(sum(line.bits[model] for line in lines))
    assert totals.bits_per_character() == pytest.approx(float(np.nansum(bits)) / sum(counted))
    assert totals.best_lines == [sum(line.bits.index(min(line.bits)) == model for line in lines) for model in range(2)]
    for line in lines:
        assert np.nansum(line.code_point_bits) == pytest.approx(line.bits[0])
        chars, char_bits = line.chars_and_bits()
        assert ("".join(chars), len(char_bits)) == (line.text, len(chars))
        has_line_end = len(line.code_points) > 0 and line.code_points[-1] == 10
        last = line.code_point_bits[-1] if has_line_end else 0  # `text` has no line end
        assert np.nansum(char_bits) == pytest.approx(np.nansum(line.code_point_bits) - last, abs=1e-5)
        assert not line.is_truncated


@pytest.mark.slow
@every_kind
def test_a_line_longer_than_a_block_is_one_line(small_blocks: None, kind: str) -> None:
    text = "ab\n" + "abcde" * 130 + "\n" + "d\n"
    lines = list(scoring(kind, text).lines())
    assert [(line.number, line.text) for line in lines] == [(1, "ab"), (2, ("abcde" * 130)[:MAX_KEPT_TOKENS]), (3, "d")]
    assert (lines[1].num_chars, lines[1].num_tokens, len(lines[1].code_point_bits)) == (651, 651, MAX_KEPT_TOKENS)
    assert [line.is_truncated for line in lines] == [False, True, False]
    assert lines[1].bits[0] == pytest.approx(recorded_bits(kind, text)[3:654].sum(), abs=0.05)
    (only,) = scoring(kind, "abcde" * 130).lines()
    assert (only.number, only.num_tokens) == (1, 650 - (KINDS[kind][0].eos_id is None))


@every_kind
def test_an_empty_text_has_no_lines_and_no_bits(kind: str) -> None:
    for chunks in ([], [np.zeros(0, dtype=np.uint8)] * 3):
        stream = scoring(kind, "", chunks=chunks)
        assert (list(stream.lines()), stream.top_lines(3), list(stream.tokens())) == ([], [], [])
        assert (stream.totals.num_chars, stream.totals.bits) == (0, [0.0])
        assert math.isnan(stream.totals.bits_per_character()), "0 would read as perfect"


@pytest.mark.parametrize("kind", ["stream", "line", "file"])
def test_unknown_characters_cost_a_code_point_and_are_counted(kind: str) -> None:
    text = "ab\u00e9\u2603\nZ\nabc\n"
    assert pytest.approx(math.log2(0x110000)) == UNKNOWN_BITS
    stream = scoring(kind, text)
    lines = list(stream.lines())
    assert ([line.num_unknown for line in lines], stream.totals.num_unknown) == ([1, 1, 0], 2)
    assert lines[0].code_point_bits[3] == lines[1].code_point_bits[0] == UNKNOWN_BITS
    known = text.replace("\u2603", " ").replace("Z", " ")
    expected = recorded_bits(kind, known)
    expected[[3, 5]] = UNKNOWN_BITS  # the model reads the most similar known character
    np.testing.assert_allclose(bits_of(kind, text), expected, atol=2e-5)
    assert [line.text for line in lines] == ["ab\u00e9\u2603", "Z", "abc"]


def test_all_bytes_are_known() -> None:
    stream = scoring("bytes", "a\u2603\u00e9\n")
    assert [line.num_unknown for line in stream.lines()] == [0]


@pytest.mark.parametrize("kind", ["bytes", "lines of bytes"])
def test_characters_of_several_bytes_are_one_at_any_chunk_end(small_blocks: None, kind: str) -> None:
    text = "\u00e9\u2603 a\U0001f600\n" * 50
    code_points = points(kind, text)
    for chunks in (
        [code_points],
        [code_points[at : at + 1] for at in range(len(code_points))],
        np.split(code_points, [1, 4, 5, 9, 100, 201]),
    ):
        lines = list(scoring(kind, text, chunks=chunks).lines())
        assert {line.text for line in lines} == {"\u00e9\u2603 a\U0001f600"}
        assert {line.num_chars for line in lines[1:]} == {6}
        assert {line.num_tokens for line in lines[1:]} == {12}
        found = list(scoring(kind, text, chunks=chunks).tokens())
        assert len(found) == len(code_points)
        assert "".join(token_text for token_text, _ in found) == text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["line", "lines of bytes"])
@pytest.mark.parametrize("longest", [12, 3000])
def test_documents_score_as_evaluate(kind: str, longest: int) -> None:
    tokenizer, documents = KINDS[kind]
    lines = [line for line in some_text(6000, longest=longest).split("\n") if line]
    text = "\n".join(lines) + "\n"
    tokenized = tokenize(tokenizer, documents, text)
    result = evaluate(
        MODELS[kind][0],
        CPU,
        tokenized.ids,
        eos_id=tokenizer.eos_id,
        max_document_length=max(map(len, lines)) * 2,
        char_counts=tokenizer.char_counts(),
    )
    stream = scoring(kind, text)
    found = list(stream.lines())
    assert (len(found), stream.totals.num_tokens, stream.totals.num_chars) == (len(lines), result.num_tokens, result.num_chars)
    assert stream.totals.bits_per_character() == pytest.approx(result.bits, abs=1e-4)
    if longest < 100:
        single = [next(scoring(kind, line + "\n").lines()) for line in lines[:40]]
        np.testing.assert_allclose([line.bits[0] for line in found[:40]], [line.bits[0] for line in single], atol=1e-4)


@pytest.mark.slow
def test_top_lines_are_in_descending_order(small_blocks: None) -> None:
    text = some_text(1500, longest=20)
    all_lines = list(scoring("stream", text).lines())
    ranked = sorted(all_lines, key=lambda line: (-line.excess_surprisal, line.number))
    for count in (0, 1, 7, len(all_lines), len(all_lines) + 10):
        stream = scoring("stream", text)
        top = stream.top_lines(count)
        assert [line.number for line in top] == [line.number for line in ranked[:count]]
        assert stream.totals.num_lines == len(all_lines)
        assert [line.bits for line in top] == [line.bits for line in ranked[:count]]


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 7, 10_000])
def test_first_and_top_lines_in_one_pass(small_blocks: None, count: int) -> None:
    text = some_text(1500, longest=20)
    stream, other = scoring("stream", text), scoring("stream", text)
    first_lines, top = stream.first_and_top_lines(5, count)
    assert [line.number for line in top] == [line.number for line in other.top_lines(count)]
    assert [line.number for line in first_lines] == [1, 2, 3, 4, 5]
    assert stream.totals == other.totals


def test_excess_surprisal_by_its_definition() -> None:
    stream = scoring("line", "abc\nAAAA\nde\n")
    lines, totals = list(stream.lines()), stream.totals
    rate = totals.bits[0] / totals.num_tokens
    assert [line.excess_surprisal for line in lines] == pytest.approx(
        [(line.bits[0] - rate * line.num_tokens) / math.sqrt(line.num_tokens) for line in lines]
    )
    assert min(line.excess_surprisal for line in lines) < 0 < max(line.excess_surprisal for line in lines)


@pytest.mark.parametrize("text", ["abcde", "abcde\n"])
def test_a_single_line_has_no_excess_surprisal(text: str) -> None:
    (line,) = scoring("line", text).lines()
    assert line.excess_surprisal == pytest.approx(0, abs=1e-6)


def test_several_models_and_clamped_units() -> None:
    clamps = [Clamp(1, 3, 0.9), Clamp(0, 2)]
    text = some_text(300)
    stream = scoring("stream", text, scorer("stream", 0, clamps), scorer("stream", 1), scorer("file"))
    assert (stream.model_names, stream.num_clamped) == (["model 0", "model 1", "model 2", "model 3"], 1)
    rows = np.array([bits for _, bits in stream.tokens()])
    expected = [
        recorded_bits("stream", text), recorded_bits("stream", text, clamps), recorded_bits("stream", text, seed=1),
        recorded_bits("file", text),
    ]  # fmt: skip
    np.testing.assert_allclose(rows, np.array(expected).T, atol=2e-5)
    assert not np.allclose(rows[1:, 0], rows[1:, 1])
    lines = list(scoring("stream", text, scorer("stream", 0, clamps)).lines())
    assert sum(line.bits[1] for line in lines) == pytest.approx(np.nansum(rows[:, 1]), abs=1e-3)


def test_tokens_are_the_text_with_its_bits() -> None:
    stream = scoring("stream", "ab\nc")
    found = list(stream.tokens())
    assert "".join(text for text, _ in found) == "ab\nc"
    assert math.isnan(found[0][1][0])
    assert [bits[0] for _, bits in found[1:]] == pytest.approx(recorded_bits("stream", "ab\nc")[1:].tolist(), abs=2e-5)
    assert (stream.totals.num_chars, stream.totals.num_lines) == (3, 2)


# The command

EXACT = ("--precision", "float32")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of a text, and of runs on it with characters, bytes, and lines as documents."""
    folder = tmp_path_factory.mktemp("scored")
    book = folder / "book.txt"
    book.write_text(sentences(400), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(folder / "cache"))
        kinds: dict[str, dict[str, Any]] = {
            "stream": {"steps": 120}, "bytes": {"tokens": "bytes", "steps": 3}, "line": {"documents": "line", "steps": 20},
        }  # fmt: skip
        for name, options in kinds.items():
            unrolled.train(str(book), out=str(folder / name), **options, **SMALL)
    return {"book": str(book), **{name: str(folder / name) for name in kinds}}


@pytest.mark.slow
def test_json_of_lines(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("The fox sleeps.\nThe \u2603 fox.\n\nA dog", "utf-8")
    done = cli("score", runs["stream"], text, "--json")
    answer = json.loads(done.out)
    assert list(answer) == [
        "version", "lines", "characters", "bits", "bits_per_character", "unknown", "models",
    ]  # fmt: skip
    assert [line["text"] for line in answer["lines"]] == ["The fox sleeps.", "The \u2603 fox.", "", "A dog"]
    assert [line["line"] for line in answer["lines"]] == [1, 2, 3, 4]
    assert [line.get("unknown", 0) for line in answer["lines"]] == [0, 1, 0, 0] != answer["unknown"] == 1
    assert answer["characters"] == sum(line["characters"] for line in answer["lines"]) == 15 + 11 + 1 + 5
    assert answer["bits"] == pytest.approx(sum(line["bits"] for line in answer["lines"]))
    assert answer["bits_per_character"] == pytest.approx(answer["bits"] / 32)
    (model,) = answer["models"]
    assert (model["name"], model["bits"], model["best_lines"]) == (runs["stream"], answer["bits"], 4)
    top = json.loads(cli("score", runs["stream"], text, "--json", "--top", 2).out)
    assert len(top["lines"]) == 2
    assert 2 in [line["line"] for line in top["lines"]]
    assert top["bits"] == answer["bits"]
    assert json.loads(cli("score", runs["stream"], text, "--json", "--top", 0).out)["lines"] == []


@pytest.mark.slow
def test_lines_of_a_folder_are_found_in_their_files(
    cli: Cli, runs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, lines were counted through all files, and none was named; a file without a line end is a file, too."""
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("the dog\nthe cat")
    Path("texts/b.txt").write_text("a dog\n#####\nthe cat\n")
    lines = json.loads(cli("score", runs["stream"], "texts", "--json").out)["lines"]
    assert [(line["file"], line["line"], line["text"]) for line in lines] == [
        ("texts/a.txt", 1, "the dog"), ("texts/a.txt", 2, "the cat"),
        ("texts/b.txt", 1, "a dog"), ("texts/b.txt", 2, "#####"), ("texts/b.txt", 3, "the cat"),
    ]  # fmt: skip
    assert re.search("^texts/b.txt:2 .*  #####$", cli("score", runs["stream"], "texts", "--top", 1).out, re.MULTILINE)
    assert "line texts/b.txt:2: " in cli("score", runs["stream"], "texts", "--alert-above", 80).out
    [alert] = json.loads(cli("score", runs["stream"], "texts", "--alert-above", 80, "--json").out)["alerts"]
    assert (alert["file"], alert["line"]) == ("texts/b.txt", 2)
    assert cli("score", runs["stream"], "texts", "--html", "page.html").code == 0
    assert '"place":"texts/b.txt:2"' in Path("page.html").read_text()
    [line] = json.loads(cli("score", runs["stream"], "texts/a.txt", "--top", 1, "--json").out)["lines"]
    assert ("file" in line, line["line"] in (1, 2)) == (False, True)


def test_json_of_characters(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("The fox.\n", "utf-8")
    done = cli("score", runs["stream"], text, "--per", "character", "--json", *EXACT)
    answer = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(answer)[:2] == ["version", "tokens"]
    assert "".join(token["text"] for token in answer["tokens"]) == "The fox.\n"
    assert answer["tokens"][0] == {"text": "T", "bits": None}
    expected = unrolled.load(runs["stream"], threads=1).trace("The fox.\n").bits()[1:]
    assert [token["bits"] for token in answer["tokens"][1:]] == pytest.approx(expected.tolist(), abs=1e-4)
    plain = cli("score", runs["stream"], text, "--per", "character", *EXACT).out.splitlines()
    assert [json.loads(line.split("\t")[0]) for line in plain] == list("The fox.\n")
    assert plain[1].split("\t")[1] == f"{expected[0]:.3f}"


@pytest.mark.slow
def test_json_of_characters_with_several_models(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("The fox.\n", "utf-8")
    done = cli("score", runs["stream"], text, "--per", "character", "--clamp", "0.1=1", "--json")
    answer = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [len(token["all_bits"]) for token in answer["tokens"]] == [2] * 9


def test_comparison_of_models_and_clamped_units(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text(sentences(30, seed=5), "utf-8")
    done = cli("score", runs["stream"], text, "--compare", runs["line"], "--clamp", "1.3=0.9", "--clamp", "0.2", "--json")
    answer = json.loads(done.out)
    assert [model["name"] for model in answer["models"]] == [runs["stream"], "with 1.3=0.9, 0.2", runs["line"]]
    assert sum(model["best_lines"] for model in answer["models"]) == 30
    for index, model in enumerate(answer["models"]):
        assert model["bits"] == pytest.approx(sum(line["all_bits"][index] for line in answer["lines"]))
    assert len({model["bits"] for model in answer["models"]}) == 3
    assert answer["bits"] == answer["models"][0]["bits"] == json.loads(cli("score", runs["stream"], text, "--json").out)["bits"]
    plain = cli("score", runs["stream"], text, "--compare", runs["line"])
    assert f"closest: {runs['stream']}, by " in plain.out
    assert "closest" not in cli("score", runs["stream"], text, "--clamp", "1.3=0.9").out


def test_models_with_other_tokens_are_an_error(cli: Cli, runs: dict[str, str]) -> None:
    done = cli("score", runs["stream"], runs["book"], "--compare", runs["bytes"])
    assert (done.code, done.out) == (2, "")
    assert "reads bytes, and " in done.err
    assert "characters: not comparable." in done.err
    assert cli("score", runs["stream"], runs["book"], "--clamp", "2.0").code == 2
    assert cli("score", runs["stream"], runs["book"], "--clamp", "0,1").code == 2


def test_standard_input_is_a_text(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("The fox sleeps.\nA dog.\n", "utf-8")
    for model in ("stream", "bytes"):
        with StandardInput(text):
            piped = cli("score", runs[model], "-", "--json")
        assert piped.out == cli("score", runs[model], text, "--json").out


def test_the_validation_text_is_the_default(cli: Cli, runs: dict[str, str]) -> None:
    for model in ("stream", "line", "bytes"):
        answer = json.loads(cli("score", runs[model], "--json").out)
        reported = json.loads(cli("eval", runs[model], "--json").out)
        assert answer["characters"] == reported["characters"]
        assert answer["bits_per_character"] == pytest.approx(reported["bits_per_character"], abs=1e-4)


def test_an_unusual_line_is_the_top_line(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    lines = sentences(300, seed=3).splitlines()
    for position, odd in (
        (0, "dfxo jgg tsu apdb lrj."),
        (170, "Today the the jumps xof depselsj og."),
        (299, "sleepssleepssleeps"),
    ):
        text = tmp_path / "t.txt"
        text.write_text("\n".join([*lines[:position], odd, *lines[position:]]) + "\n", "utf-8")
        (first,) = json.loads(cli("score", runs["stream"], text, "--json", "--top", 1).out)["lines"]
        assert (first["line"], first["text"]) == (position + 1, odd)
        plain = cli("score", runs["stream"], text, "--top", 3)
        assert re.search(rf"^ +{position + 1} +\d+\.\d\d +\d+\.\d\d  {re.escape(odd)}$", plain.out, re.M)
        assert "301 lines" in plain.out.splitlines()[0]
        assert len([line for line in plain.out.splitlines() if re.match(r" +\d+ ", line)]) == 3


def test_scoring_from_python(runs: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("The fox sleeps.\nA dog.\n", "utf-8")
    model = unrolled.load(runs["stream"], threads=1)
    stream = model.scoring(str(text), clamp=["0.1=1"])
    lines: list[ScoredLine] = stream.top_lines(1)
    assert (len(lines), stream.totals.num_lines, stream.model_names) == (1, 2, [runs["stream"], "with 0.1=1"])
    assert lines[0].text in text.read_text("utf-8")
    misspelled: Any = {"clmp": ["0.1=1"]}
    with pytest.raises(unrolled.UnrolledError, match="unknown setting 'clmp'"):
        model.scoring(str(text), **misspelled)
