"""Models that read a text as C: words, n-grams and answers of the compiled file are those of the model; faults; refusals."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.classifiers import RARE, WORDS, base_text, classifier
from support.cli import Cli
from support.tables import many_to_one, rows_of, write_csv
from unrolled.checkpoints.model_file import TableModelFile, save_model
from unrolled.exchange import c_export, text_c_export
from unrolled.exchange.c_export import find_compiler, run_c_test
from unrolled.exchange.export_job import ExportError
from unrolled.exchange.text_c_export import text_reader_source, unsupported_text_in_c
from unrolled.exchange.unicode_tables import c_string, character_classes, lower_cases
from unrolled.runtime.portable import Weights
from unrolled.tables import ngrams
from unrolled.tables.cell_values import Cell
from unrolled.tables.text_column import TextColumn
from unrolled.text.tokenizer import ByteTokenizer

MODELS: dict[str, dict[str, Any]] = {
    "words": {},
    "words with their blanks": {"spaces": False},
    "characters": {"tokens": "characters", "bidirectional": False, "pool": "last"},
    "without n-grams": {"ngrams": 0, "pool": "max"},
    "old n-grams": {"version": 1, "pool": "mean", "bidirectional": False},
    "n-grams with case": {"version": ngrams.CASE_VERSION, "tokens": "characters"},
    "the last step, both ways": {"pool": "last", "cell": "gru"},
    "long texts are cut": {"max_length": 12},
    "long texts with blanks are cut": {"max_length": 12, "spaces": False},
    "long texts of characters": {"tokens": "characters", "max_length": 9, "normalization": "nfc"},
    "one label": {"labels": 1},
    "two labels with a threshold": {"labels": 2, "threshold": 0.2},
    "a language model helps": {"base": base_text()},
    "another one, of bytes": {
        "tokens": "characters",
        "base": base_text(ByteTokenizer(), cell="gru", residual=False, embedding=5),
    },
    "a label for each word": {"tags": "words"},
    "a label for each word, with their blanks": {"tags": "words", "spaces": False, "bidirectional": False, "cell": "gru"},
    "a label for each character": {"tokens": "characters", "tags": "characters"},
    "a number": {"number": True},
    "a number, of characters": {"number": True, "tokens": "characters", "bidirectional": False, "ngrams": 0},
    "rnn": {"cell": "rnn"},
    "gru-reset-before": {"cell": "gru-reset-before"},
}
QUICK = ("words", "characters", "n-grams with case", "a language model helps", "a label for each word", "a number")
COMPILERS = [
    (["gcc", "-O0"], None),
    (["gcc", "-O3"], None),
    (["clang", "-O0"], None),
    (["clang", "-O3"], None),
    (["arm-linux-gnueabihf-gcc", "-O3", "-static"], "qemu-arm"),
    (["aarch64-linux-gnu-gcc", "-O3", "-static"], "qemu-aarch64"),
]
ODD = [
    WORDS, RARE, "", " \t", "a", "  two  words ", "Who is the fastest?",
    "\u0130stanbul \u00df \u1e9e \u65e5\u672c\u8a9e\u3067\u3059 \U0001f600!",
    "x\u0301y", "tab\tline no-break\u00a0ideographic\u3000file\x1cnext\x85\u200bzero\ufeffmark",
    "1st 2nd \u00bd \u2460 \u00b2 \u0663 _under_ caf\u00e9s", "z" * 300, "y" * 499 + "  \u0130 end",
    "CamelCase UPPER-case A1 4-door O'Neil don\u2019t \u01c5ep \u2163 well-known-as 100%", "word  " * 120,
]  # fmt: skip
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


@needs_compiler
@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS])
def test_c_computes_what_the_model_computes(
    name: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, flash, ram = text_reader_source(classifier(**MODELS[name]), name, "x.c", weights)
    said = run_c_test(str(find_compiler()), source, "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined,address")
    assert re.search(r"\d\d outputs of 1\d texts", said)
    Path("x.c").write_text(source)
    Path("size.c").write_text(
        '#include "x.c"\n#include <stdio.h>\nint main(void) { printf("%zu", sizeof(x_model)); return 0; }\n'
    )
    subprocess.run([str(find_compiler()), "size.c", "-lm", "-o", "size"], check=True)
    assert int(subprocess.run(["./size"], capture_output=True, check=True).stdout) == ram
    assert 0 < flash < len(source)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("command", "emulator"), COMPILERS, ids=lambda value: value and " ".join(value))
def test_other_compilers_and_processors(command: list[str], emulator: str | None, tmp_path: Path) -> None:
    if not shutil.which(command[0]) or emulator and not shutil.which(emulator):
        pytest.skip(f"{command[0]} is not here")
    (tmp_path / "x.c").write_text(text_reader_source(classifier(base=base_text()), "m", "x.c", "int8")[0])
    subprocess.run([*command, "-std=c99", "-DTEST", "x.c", "-o", "x", "-lm"], cwd=tmp_path, check=True)
    done = subprocess.run([*([emulator] if emulator else []), "./x"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "ok: 39 outputs of 13 texts" in done.stdout


PROBE = """
#include "x.c"
#include <stdio.h>
static const char *const TEXTS[] = {%s};
int main(void) {
    static x_model model;
    static float outputs[RNN_VALUES];
    for (int i = 0; i < (int)(sizeof TEXTS / sizeof *TEXTS); i++) {
        int steps = x_predict(&model, TEXTS[i], outputs);
        for (int j = 0; j < steps; j++) printf(j ? " %%d" : "%%d", model.ids[j]);
        printf("|");
#if RNN_NGRAMS
        int count = steps ? hash_text(&model) : 0;
        for (int j = 0; j < count; j++) printf(j ? " %%u" : "%%u", model.hashes[j]);
#endif
        printf("\\n");
    }
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"spaces": False, "version": 1},
        {"tokens": "characters"},
        {"tokens": "characters", "version": ngrams.CASE_VERSION},
        {"max_length": 7},
        {"max_length": 7, "spaces": False},
    ],
)
def test_texts_are_read_as_in_python(settings: dict[str, Any], tmp_path: Path) -> None:
    """The ids of the tokens and the hashes of the n-grams are equal, of odd texts, too."""
    model_file = classifier(**settings)
    (tmp_path / "x.c").write_text(text_reader_source(model_file, "m", "x.c", "int8")[0])
    (tmp_path / "probe.c").write_text(PROBE % ", ".join(map(c_string, ODD)))
    command = [str(find_compiler()), "-O1", "-fsanitize=undefined,address", "probe.c", "-lm", "-o", "probe"]
    subprocess.run(command, cwd=tmp_path, check=True)
    printed = subprocess.run(["./probe"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for text, line in zip(ODD, printed.splitlines(), strict=True):
        found, hashes = ([int(number) for number in part.split()] for part in line.split("|"))
        assert (found, sorted(set(hashes))) == expected_reading(model_file, text), text


def expected_reading(model_file: TableModelFile, text: str) -> tuple[list[int], list[int]]:
    column, cell = model_file.spec.source, Cell(text, "")
    assert isinstance(column, TextColumn)
    if not text.strip():
        return [], []
    ids = column.encode(cell)
    kept = ids[: min(model_file.spec.step_limit, 512)]
    read = column.text_of_steps(cell, kept) if len(kept) < len(ids) else text
    return kept.tolist(), ngrams.hash_ngrams(read, column.ngram_version).tolist()


FAULTS: dict[str, Callable[[str], str]] = {
    "the second layer is dropped": lambda source: source.replace("#define RNN_LAYERS 2", "#define RNN_LAYERS 1"),
    "n-grams keep their case": lambda source: source.replace("CAPITALS[place] == c ? SMALL[place] : c", "c"),
    "the temperature is dropped": lambda source: re.sub(r"(define RNN_TEMPERATURE) .*", r"\1 1.0f", source),
    "the share is another": lambda source: re.sub(r"(define RNN_SHARE) .*", r"\1 1.0f", source),
    "the pooling is another": lambda source: source.replace("#define RNN_POOL_MAX 0", "#define RNN_POOL_MAX 1"),
    "the backward half is the forward one": lambda source: source.replace("*back = &BACKWARD[index]", "*back = &LAYERS[index]"),
    "the language model has no start": lambda source: source.replace("(int i = -1; i <= count", "(int i = 0; i <= count"),
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_caught(fault: str) -> None:
    source = text_reader_source(classifier(base=base_text()), "m", "m.c", "int8")[0]
    changed = FAULTS[fault](source)
    assert changed != source
    with pytest.raises(ExportError, match="fails its test: text"):
        run_c_test(str(find_compiler()), changed, "-O1")


def test_unicode_is_that_of_python() -> None:
    classes = character_classes()
    starts = classes >> 8
    for character in "aA_9\u00b2\u0663\u01c5\u2163\u00df \u3000\x1c\u65e5-\U0001f600\U0010ffff":
        bits = int(classes[np.searchsorted(starts, ord(character), "right") - 1] & 255)
        assert bool(bits & 1) == (re.match(r"\w", character) is not None), character
        assert bool(bits & 2) == (re.match(r"\d", character) is not None), character
        assert bool(bits & 32) == character.isspace(), character
    capitals, small = lower_cases()
    assert {chr(a): chr(b) for a, b in zip(capitals, small, strict=True)}["\u00c9"] == "\u00e9"


@needs_compiler
@pytest.mark.parametrize("target", ["label", "price:number"])
def test_a_run_answers_as_predict_does(target: str, cli: Cli) -> None:
    rows = [row | {"price": str(len(row["text"]) * 1.5)} for row in many_to_one(80, 1)]
    write_csv(Path("rows.csv"), rows)
    options = ["--steps", 30, "--hidden", 16, "--layers", 1, "--batch", 8, "--threads", 1, "--from", "none"]
    assert cli("train", "rows.csv", "--source", "text", "--target", target, *options, "--out", "run").code == 0
    done = cli("export", "run", "--to", "c", "--weights", "float32", "--out", "reader.c")
    assert done.code == 0, done.err
    assert "outputs of 13 texts" in done.out or target != "label"
    assert "bytes of tables" in done.out
    subprocess.run([str(find_compiler()), "-O2", "-DMAIN", "reader.c", "-lm", "-o", "reader"], check=True)
    lines = "".join(f"{row['text']}\n" for row in rows)
    printed = subprocess.run(["./reader"], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = rows_of(cli("predict", "run", "rows.csv", "--precision", "float32").out)
    if target == "label":
        assert [line.split("\t")[0] for line in printed] == [row["predicted"] for row in wanted]
        assert "by rounding)" in cli("export", "run", "--to", "c", "--out", "int8.c").out
    else:
        assert [float(line) for line in printed] == pytest.approx([float(row["predicted"]) for row in wanted], rel=1e-3)


def test_what_has_no_c_form_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the cell mingru is not in the C file" in str(unsupported_text_in_c(classifier(cell="mingru")))
    helped = classifier(base=base_text(cell="slstm"))
    assert "the cell slstm is not in the C file" in str(unsupported_text_in_c(helped))
    model_file = classifier(tokens="characters")
    model_file.spec.source.tokenizer = ByteTokenizer(False)
    assert "the C file reads words and characters, and 'text' has the tokens bytes" in str(unsupported_text_in_c(model_file))
    save_model(Path("m.safetensors"), classifier())
    assert "--weights is int4; the page or C file" in cli("export", "m.safetensors", "--to", "c", "--weights", "int4").err
    monkeypatch.setattr(c_export, "find_compiler", lambda: None)
    assert "there is no C compiler here" in text_c_export.export_text_reader(classifier(), "m", Path("m.c")).checks[0]
