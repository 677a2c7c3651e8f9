"""Files of records: sequences of FASTA and tunes of ABC notation are documents, with tokens of their own."""

import gzip
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from unrolled.cli.main import main
from unrolled.errors import DataError, UsageError
from unrolled.options import DataOptions, TrainRequest
from unrolled.text.corpus import Corpus, open_corpus
from unrolled.text.record_files import MAX_RECORD_SYMBOLS
from unrolled.text.record_tokenizers import FastaTokenizer
from unrolled.training.open_data import with_recognized_tokens

SMALL: dict[str, Any] = {"hidden": 8, "layers": 1, "batch": 2, "bptt": 8, "steps": 2, "sample_length": 0, "threads": 1}
TUNE = """X:{0}
T:Tune {0}
M:6/8
K:Gmaj
|:G2G "Am"A/2B/ c'|[1d^f_e =B,,z2 (3abc A>B :|[2 ~G3 d-d|]"""


def documents(corpus: Corpus) -> list[str]:
    ends = np.flatnonzero(corpus.ids == corpus.tokenizer.eos_id)
    return [corpus.tokenizer.decode(corpus.ids[start + 1 : stop]) for start, stop in zip(ends, ends[1:], strict=False)]


def open_text(name: str, tokens: str) -> Corpus:
    return open_corpus([name], DataOptions(tokens=tokens))


def test_sequences_are_documents(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unrolled")
    text = ">one the first\r\nACGT\r\nac gt\r\n\r\n; old comment\r\n>empty\r\n>two\r\nNN-*\r\n"
    Path("plain.fa").write_bytes(text.encode())
    half = len(text) // 2
    Path("packed.fa.gz").write_bytes(gzip.compress(text[:half].encode()) + gzip.compress(text[half:].encode()))
    for name in ("plain.fa", "packed.fa.gz"):
        corpus = open_text(name, "fasta")
        assert documents(corpus) == ["ACGTacgt", "NN-*"]
        assert corpus.documents == "record"
    for line in ("2 records, 12 symbols", "3 headers are left out", "1 comment is", "1 record without a sequence"):
        assert line in caplog.text
    assert documents(open_text("plain.fa", "fasta:fold-case")) == ["ACGTACGT", "NN-*"]
    assert "4 small letters are read as capitals" in caplog.text


def test_both_strands_are_read_in_training_and_held_out_together() -> None:
    generator = random.Random(3)
    sequences = ["".join(generator.choices("ACGT", k=generator.randrange(5, 40))) for _ in range(50)]
    Path("dna.fa").write_text("".join(f">{n}\n{sequence}\n" for n, sequence in enumerate(sequences)))
    corpus = open_text("dna.fa", "fasta:reverse-complement")
    pairs = dict(zip("ACGT", "TGCA", strict=True))
    assert documents(corpus)[:2] == [sequences[0], "".join(pairs[base] for base in reversed(sequences[0]))]
    tokenizer, splits = corpus.tokenizer, corpus.split(DataOptions(), seed=1)
    assert isinstance(tokenizer, FastaTokenizer)
    complement = tokenizer.complement_ids()
    assert complement is not None
    is_end = [ids == tokenizer.eos_id for ids in splits]
    train, held_out = (
        {tuple(part[1:].tolist()) for part in np.split(ids, np.flatnonzero(ends))[1:-1]}
        for ids, ends in zip(splits[:2], is_end[:2], strict=True)
    )
    other_strands = {tuple(complement[list(ids)[::-1]].tolist()) for ids in held_out}
    assert len(held_out) >= 2
    assert other_strands == held_out
    assert not held_out & train
    scored = open_corpus(["dna.fa"], DataOptions(tokens="fasta:reverse-complement"), tokenizer)
    assert scored.num_documents == 100
    assert isinstance(scored.tokenizer, FastaTokenizer)
    assert len(scored.tokenizer.first_strands(scored.ids)) == 51 + sum(map(len, sequences))


def test_eval_and_score_are_of_both_strands() -> None:
    generator = random.Random(4)
    sequences = ["".join(generator.choices("ACGT", [6, 2, 1, 1], k=generator.randrange(3, 60))) for _ in range(40)]
    reverse = ["".join({"A": "T", "C": "G", "G": "C", "T": "A"}[base] for base in reversed(sequence)) for sequence in sequences]
    for name, strands in (("dna.fa", sequences), ("reverse.fa", reverse)):
        Path(name).write_text("".join(f">{n}\n{sequence}\n" for n, sequence in enumerate(strands)))
    model = unrolled.train("dna.fa", tokens="fasta:reverse-complement", out="run", progress=False, **SMALL | {"steps": 20})
    evaluated = [model.evaluate(name).bits for name in ("dna.fa", "reverse.fa")]
    assert evaluated[0] == pytest.approx(evaluated[1], abs=1e-6)
    for name, strands in (("dna.fa", sequences), ("reverse.fa", reverse)):
        stream = model.scoring(name)
        lines = list(stream.lines())
        assert [line.text for line in lines] == strands
        assert stream.totals.bits_per_character() == pytest.approx(evaluated[0], abs=1e-5)
        scored = model.score(strands[0])
        assert scored.bits[1:] == pytest.approx(lines[0].chars_and_bits()[1], abs=1e-4)
    assert model.score(sequences[1]).bits[1:] == pytest.approx(model.score(reverse[1]).bits[:0:-1], abs=1e-4)
    held_out = model.scoring(None)
    assert len(list(held_out.lines())) < 10
    assert held_out.totals.bits_per_character() == pytest.approx(model.evaluate(split="validation").bits, abs=1e-5)


def test_a_long_sequence_is_cut() -> None:
    Path("genome.fa").write_text(">chr\n" + "ACGTTGCA" * (MAX_RECORD_SYMBOLS // 4) + "AC\n")
    assert list(map(len, documents(open_text("genome.fa", "fasta")))) == [MAX_RECORD_SYMBOLS, MAX_RECORD_SYMBOLS, 2]


@pytest.mark.parametrize(
    ("content", "tokens", "message"),
    [
        (">p\nAC1T\n", "fasta", "Line 2 of x has '1', and a sequence has letters"),
        ("@r\nACGT\n", "fasta", "Line 1 of x is not FASTA: it looks like FASTQ"),
        ("@r\nACGT\n", "fasta", r"sed -n '1~4s/\^@/>/p;2~4p' x > NEW.fasta. To learn"),
        ("LOCUS  X 9 bp\n", "fasta", "it looks like GenBank: Bio.SeqIO.convert"),
        ("ACGT\n", "fasta", "Line 1 of x is not FASTA: '>' and a name"),
        (">p\nMKVL\n", "fasta:reverse-complement", "The record at line 1 of x has 'L', which is no base"),
        (">p\n", "fasta", "There is no text"),
        ("no tune\n", "abc", "x has no tune"),
    ],
)
def test_other_files_are_refused(content: str, tokens: str, message: str) -> None:
    Path("x").write_text(content)
    with pytest.raises(DataError, match=message):
        open_text("x", tokens)


def test_settings_are_refused() -> None:
    Path("x").write_text(">p\nACGT\n")
    for options, message in (
        (DataOptions(tokens="fasta:fold"), "expected fold-case, reverse-complement or both"),
        (DataOptions(tokens="abc:x"), "abc has no setting"),
        (DataOptions(tokens="fasta", documents="line"), "documents='line' does not go with tokens='fasta'"),
        (DataOptions(documents="record"), "documents='record' is for tokens='fasta', abc and midi"),
    ):
        with pytest.raises(UsageError, match=message):
            open_corpus(["x"], options)


def test_tunes_are_documents_of_notes_and_bars(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unrolled")
    tunes = [TUNE.format(number) for number in range(1, 21)]
    Path("tunes.abc").write_text("%abc-2.1\nmy book\n\n" + "\n% copied\n\n".join(tunes))
    corpus = open_text("tunes.abc", "abc")
    assert documents(corpus) == tunes
    assert "20 tunes" in caplog.text
    assert "1 line outside of tunes is left out" in caplog.text
    expected = """X: T: M:6/8 K:Gmaj |: G2 "Am" A/2 B/ c' [1 ^f _e =B,, z2 (3 > :| [2 G3 |]"""
    assert set(expected.split()) <= set(corpus.tokenizer.token_strings())


def test_tunes_have_the_meter_of_their_book_and_no_comments(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unrolled")
    header = "%abc-2.1\nL:1/8\nM:4/4 % common time\nR:reel\nU:T=!trill!\n\n"
    first = "X:1\nT:100\\% wool\nM:3/4\nK:G % one sharp\n%%MIDI program 4\nGAB|\n  % end of the part\nTd3|]\n\n"
    Path("book.abc").write_text(f"{header}{first}X:2\nK:D\nd4|]\n", newline="\r\n")
    assert documents(open_text("book.abc", "abc")) == [
        "X:1\nT:100\\% wool\nM:3/4\nL:1/8\nU:T=!trill!\nK:G\nGAB|\nTd3|]",
        "X:2\nL:1/8\nM:4/4\nU:T=!trill!\nK:D\nd4|]",
    ]
    assert "5 comments and directives are left out" in caplog.text
    assert "1 line outside of tunes is left out" in caplog.text
    assert "2 tunes have a meter, a length or symbols of the header" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "flags"),
    [
        ("x.abc", TUNE.format(1), "--tokens abc reads each tune"),
        ("x.fasta.gz", ">a\nACGT\n", "--tokens fasta reads each sequence"),
        ("x.smi", "CCO\n", "--tokens smiles --documents line reads each molecule"),
        ("x.txt", "CCO\n", ""),
    ],
)
def test_a_rule_for_a_known_suffix_is_named(name: str, content: str, flags: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unrolled")
    Path(name).write_text(content)
    with_recognized_tokens(TrainRequest(inputs=(name,)))
    assert (f"learned as characters; {flags}" in caplog.text) == bool(flags)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tokens"), [("x.fa", "fasta:fold-case,reverse-complement"), ("x.abc", "abc")])
def test_every_command_reads_them(name: str, tokens: str) -> None:
    sequences = "".join(f">{n}\nACGT{'acgtn'[n % 5] * n}\n" for n in range(20))
    Path(name).write_text(sequences if name == "x.fa" else "\n\n".join(map(TUNE.format, range(20))))
    unrolled.train(name, tokens=tokens, out="run", progress=False, **SMALL)
    for arguments in (
        ["sample", "run", "--length", "20", "--count", "2"], ["eval", "run"], ["eval", "run", name], ["score", "run", name],
        ["score", "run", "--json"], ["explain", "run", name, "--force"], ["train", "--resume", "run", "--steps", "3"],
        ["train", name, "--from", "run", "--out", "tuned", "--steps", "2", "--threads", "1"],
    ):  # fmt: skip
        assert main(arguments) == 0, arguments
    has_long_tokens = name == "x.abc"
    assert main(["export", "run", "--to", "numpy", "--out", "x.py"]) == (2 if has_long_tokens else 0)
