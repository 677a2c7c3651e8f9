"""Sessions of a log: each line is scored as if its session were alone, for every runtime, and within bounds."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from support.text_networks import CHARACTERS, noisy_model
from unrolled.evaluation import session_surprisal
from unrolled.evaluation.log_blocks import LogBlocks, decode_points, held_out_sessions
from unrolled.evaluation.session_surprisal import SessionScorer
from unrolled.evaluation.surprisal import SurprisalScorer, score_blocks, token_bits
from unrolled.generation.torch_model import TorchModel, as_text_network
from unrolled.runtime.language_model import LanguageModel
from unrolled.runtime.native_model import NativeModel, unsupported_reason
from unrolled.runtime.numpy_model import NumpyModel
from unrolled.runtime.portable import PortableNetwork
from unrolled.text.line_format import LineFormat
from unrolled.text.rule_tokenizer import WordRuleTokenizer
from unrolled.text.tokenized_text import from_ids
from unrolled.text.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer(sorted(CHARACTERS + "\U0001f15d\U0001f15a"), has_eos=True)
EOS = TOKENIZER.eos_id or 0


def runtimes(cell: str) -> dict[str, LanguageModel]:
    network = noisy_model(TOKENIZER, cell=cell, hidden=11, layers=2).model
    arrays = as_text_network(network)
    found: dict[str, LanguageModel] = {
        "numpy": NumpyModel(arrays),
        "torch": TorchModel(network),
        "portable": PortableNetwork(arrays),
    }
    return found if unsupported_reason(arrays) else found | {"native": NativeModel(arrays)}


def interleaved(num_lines: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return lines with few different words, so that many have the same history, and the key of each."""
    draw = np.random.default_rng(seed)
    words = ["ab", "abc de", "fed", "a"]
    return [words[i] for i in draw.integers(0, 4, num_lines)], [f"k{i}" for i in draw.integers(0, 7, num_lines)]


def alone(model: LanguageModel, lines: list[str], keys: list[str]) -> list[float]:
    """Return the bits of each line, its session read from its start as one text."""
    sessions: dict[str, str] = defaultdict(str)
    bits = []
    for line, key in zip(lines, keys, strict=True):
        sessions[key] += line + "\n"
        ids = np.append(EOS, TOKENIZER.encode(sessions[key]))
        bits.append(float(token_bits(model, from_ids(TOKENIZER, "session", ids))[-len(line) - 1 :].sum()))
    return bits


def scored(scorer: SessionScorer, lines: list[str], keys: Sequence[str | None]) -> list[float]:
    ids = [TOKENIZER.encode(line + "\n").astype(np.int32) for line in lines]
    return [float(nats.sum()) / math.log(2) for nats in scorer.score(ids, keys)]


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_each_line_is_scored_as_in_its_session_alone(cell: str) -> None:
    lines, keys = interleaved(90)
    for name, model in runtimes(cell).items():
        scorer = SessionScorer(model, EOS)
        found = [bits for cut in (slice(0, 31), slice(31, 32), slice(32, 90)) for bits in scored(scorer, lines[cut], keys[cut])]
        np.testing.assert_allclose(found, alone(model, lines, keys), rtol=1e-4, err_msg=name)
        assert scorer.counts.num_sessions == 7
        assert scorer.counts.num_forgotten == 0


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "tokens", "known"), [(1, 1, 1), (3, 7, 1), (2, 5, 1 << 20)])
def test_bounds_of_the_work_do_not_change_the_result(
    rows: int, tokens: int, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, keys = interleaved(60, seed=1)
    model = runtimes("lstm")["numpy"]
    expected = alone(model, lines, keys)
    for name, value in {"MAX_ROWS": rows, "MAX_BATCH_TOKENS": tokens, "MAX_KNOWN_BYTES": known}.items():
        monkeypatch.setattr(session_surprisal, name, value)
    scorer = SessionScorer(model, EOS)
    found = [bits for start in range(0, 60, 20) for bits in scored(scorer, lines[start : start + 20], keys[start : start + 20])]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_session_whose_state_was_dropped_starts_again_and_is_counted() -> None:
    model = runtimes("gru")["numpy"]
    scorer = SessionScorer(model, EOS, max_states=2)
    for key in ("a", "b", "c", "d"):
        scored(scorer, [f"{key}{key}"], [key])
    assert len(scorer._states) == 2
    again = scored(scorer, ["fed"], ["a"])
    np.testing.assert_allclose(again, alone(model, ["fed"], ["x"]), rtol=1e-4)
    assert scorer.counts.num_forgotten == 1
    kept = scored(scorer, ["fed"], ["d"])
    np.testing.assert_allclose(kept, alone(model, ["dd", "fed"], ["d", "d"])[1:], rtol=1e-4)


def test_the_number_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_surprisal, "MAX_SESSIONS", 3)
    scorer = SessionScorer(runtimes("gru")["numpy"], EOS)
    for number in range(9):
        scored(scorer, ["ab"], [str(number)])
    assert (len(scorer._sessions), scorer.counts.num_forgotten) == (3, 6)


def test_a_line_without_a_key_is_a_session_of_its_own() -> None:
    model = runtimes("gru")["numpy"]
    found = scored(SessionScorer(model, EOS), ["ab", "ab", "fed"], [None, None, None])
    np.testing.assert_allclose(found, alone(model, ["ab", "ab", "fed"], ["x", "y", "z"]), rtol=1e-4)


def test_blocks_of_a_log_and_its_held_out_sessions_have_the_same_bits() -> None:
    tokenizer = CharTokenizer(TOKENIZER.tokens, has_eos=True)
    tokenizer.line_format = LineFormat.parse("numbers,key", r"^(\w+) ")
    model = runtimes("lstm")["numpy"]
    log = "k1 ab 12\nk2 fed\nk1 a 3\nno key\n\nk2 ab\nk1 last\n"
    blocks = LogBlocks(tokenizer)
    chunk = np.frombuffer(log.encode(), np.uint8)
    (block,) = score_blocks([SurprisalScorer(model, tokenizer, "session")], blocks.blocks([chunk]))
    n, k = "\U0001f15d", "\U0001f15a"
    masked = f"{k} ab {n}\n{k} fed\n{k} a {n}\nno key\n\n{k} ab\n{k} last\n"
    assert "".join(map(chr, block.code_points.tolist())) == masked.replace("no key", f"{k} key")
    assert block.keys == ["k1", "k2", "k1", "no", None, "k2", "k1"]
    assert list(block.sources or ()) == log.splitlines()
    grouped = f"{k} ab {n}\n{k} a {n}\n{k} last\n\x1e{k} fed\n{k} ab\n\x1e{k} key\n\x1e"
    held_out = held_out_sessions([tokenizer.code_points(grouped)])
    (other,) = score_blocks([SurprisalScorer(model, tokenizer, "session")], held_out)
    assert sorted(block.bits[0][~np.isnan(block.bits[0])].round(4)) == sorted(other.bits[0].round(4))
    assert other.keys == [0, 0, 0, 1, 1, 2]
    assert np.isnan(block.bits[0]).sum() == 1  # the empty line


def test_code_points_are_decoded_whether_they_stand_for_tokens_or_for_characters() -> None:
    tokenizer = WordRuleTokenizer(["a", " open", " \U000f0000"], argument="")
    for text in ("a open \U000f0000 open", "plain \ud800 \u00e9", ""):
        tokens, characters = tokenizer.code_points(text), np.array(list(map(ord, text)), dtype=np.uint32)
        assert decode_points(tokenizer, tokens) == text
        if not text.startswith("a"):
            assert decode_points(tokenizer, characters) == text
