"""`--unknown refuse`: what a model has not seen is an error that names it with its line; `keep` is as ever."""

from pathlib import Path
from typing import Any

import pytest

import unrolled
from unrolled.cli.main import main
from unrolled.errors import DataError
from unrolled.options import DataOptions
from unrolled.text.corpus import open_corpus
from unrolled.text.rule_tokenizer import WordRuleTokenizer
from unrolled.text.tokenizer import CharTokenizer
from unrolled.text.unknown_tokens import UnknownTokens
from unrolled.training.fine_tuning import refuse_new_tokens

SMALL: dict[str, Any] = {"hidden": 8, "layers": 1, "batch": 2, "steps": 2, "threads": 1, "progress": False}


def test_they_are_named_with_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Path("seen.txt").write_text("the cat sat\n" * 30)
    Path("new.txt").write_text("the cat\nthe zat\n\na \u00e9z\n")
    model = unrolled.train("seen.txt", out="run", bptt=8, sample_length=0, **SMALL)
    expected = "has 3 tokens that the model does not know: 'z' (line 2), '\u00e9' (line 4); correct it, or read it with"
    for call in (
        lambda **setting: model.evaluate("new.txt", **setting),
        lambda **setting: list(model.scoring("new.txt", **setting).lines()),
    ):
        with pytest.raises(DataError) as error:
            call(unknown="refuse")
        assert f"new.txt {expected}" in str(error.value)
        call(unknown="keep")
    with pytest.raises(DataError, match="The prompt has 1 token that the model does not know: 'X'"):
        model.sample("the X", unknown="refuse")
    assert len(model.sample("the cat", unknown="refuse", length=3)) == 10
    model.evaluate("seen.txt", unknown="refuse")
    for arguments, code, message in (
        (["eval", "run", "new.txt", "--unknown", "refuse"], 3, expected),
        (["eval", "run", "-", "--unknown", "refuse"], 2, "name a file"),
        (["score", "run", "new.txt", "--unknown", "refuse"], 3, expected),
        (["sample", "run", "--prompt", "X", "--unknown", "refuse"], 3, "The prompt has 1 token"),
        (["train", "new.txt", "--from", "run", "--unknown", "refuse"], 3, "The text has 3 tokens that the model"),
        (["train", "new.txt", "--unknown", "refuse"], 2, "is for a text and --from"),
    ):
        assert main(arguments) == code
        assert message in capsys.readouterr().err


def test_lines_of_tokens_by_rule_and_of_documents() -> None:
    tally = UnknownTokens(WordRuleTokenizer([" cat", "cat", "\n", "x"]))
    tally.add("cat cat\n")
    tally.add("cat dog\n\nx \u00e9")
    assert tally.message("x").startswith("x has 2 tokens that the model does not know: ' dog' (line 2), ' \u00e9' (line 4);")
    Path("x.txt").write_text("aa\nbc\n\nab\n")
    for documents, place in (("none", "line 2"), ("line", "line 2"), ("blank-line", "document 1")):
        corpus = open_corpus(["x.txt"], DataOptions(documents=documents))  # type: ignore[arg-type]
        with pytest.raises(DataError, match=rf"The text has 1 token that the model does not know: 'c' \({place}\)"):
            refuse_new_tokens(corpus, CharTokenizer("ab\n"))


def test_cells_of_tables_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("seen.csv").write_text("name,kind\n" + "".join(f"ab{'ab' * (n % 3)},{'xy'[n % 2]}\n" for n in range(20)))
    Path("new.csv").write_text("name,kind\nab,x\nabQ,x\n")
    model = unrolled.train_table("seen.csv", source="name:text", target="kind", tokens="characters", out="run", **SMALL)
    expected = "new.csv, line 3: 1 symbol that the model does not know: 'Q'"
    with pytest.raises(DataError, match=expected):
        model.evaluate("new.csv", unknown="refuse")
    with pytest.raises(DataError, match=expected):
        list(model.predict_table("new.csv", unknown="refuse")[1])
    assert len(model.predictions(["ab", "abQ"])) == 2
    assert main(["predict", "run", "new.csv", "--unknown", "refuse"]) == 3
    assert expected in capsys.readouterr().err
