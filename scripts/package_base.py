"""Write a base model and its card into the package, from a run of scripts/train_base.py.

The weights are rounded to bfloat16, and the card has what was measured of the result.

    python scripts/package_base.py runs/english english --validation validation.txt --books README.md --words WORDS
    python scripts/package_base.py runs/python python --validation FOLDER --packages "starlette 0.46 and uvicorn 0.34"

`--books` is a Markdown file with a table `| title | author | ...` of the books of the corpus under a heading `## Train`, and
one of the validation text under `## Validation`; `--words` is a list of words, one a line (Debian: wamerican). `--packages`
says whose source code the validation text of `python` is.
"""

import argparse
import ast
import dataclasses
import platform
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import unrolled
from unrolled.checkpoints.model_file import TextModelFile, load_text_model, save_checked
from unrolled.checkpoints.run_dir import Run
from unrolled.datasets.base_models import FOLDER
from unrolled.display import plural
from unrolled.evaluation.memorization import matching_statistics
from unrolled.evaluation.text_loss import evaluate

SAMPLE_CHARS = 10_000
EVAL_CHARS = 200_000
TEMPERATURE = 0.8
"""Default temperature of the packaged models: at 1, one word in fifteen of the English one is no word."""

COPY_LENGTH = 60
"""A passage of this many characters that stands in the training text is memorized."""


def main() -> None:
    """Convert the weights, measure the packaged model, and write its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder")
    parser.add_argument("name", choices=("english", "python"), help="name of the model, as in builtin:NAME")
    parser.add_argument("--validation", required=True)
    for flag in ("--books", "--words", "--packages"):
        parser.add_argument(flag)
    arguments = parser.parse_args()
    path = FOLDER / f"{arguments.name}.safetensors"
    trained = unrolled.load(arguments.run, threads=1)
    model_file = load_text_model(trained.path)
    budgets = [run.history for run in budgets_of(trained)]
    totals = {key: sum(history[key] for history in budgets) for key in ("steps", "epochs", "seconds")}
    model_file = dataclasses.replace(model_file, history=totals)
    write(path, model_file)
    packaged = unrolled.load(path, threads=1)
    corpus, _ = packaged.session.corpus((arguments.validation,))
    after = evaluate(packaged.session.scoring_model(), None, corpus.ids, max_tokens=EVAL_CHARS)
    history = model_file.history | {"val_nats": after.nats}
    write(path, dataclasses.replace(model_file, history=history, generation={"temperature": TEMPERATURE}))
    sample = packaged.sample(length=SAMPLE_CHARS, seed=1, temperature=TEMPERATURE)
    train_ids, _ = trained.session.train_and_held_out()
    lengths = matching_statistics(train_ids, packaged.tokenizer.encode(sample)[0])
    facts = {
        "bits": after.bits, "nats": after.nats, "error": after.standard_error, "longest": int(lengths.max()),
        "memorized": share_in_passages(lengths),
        "read": model_file.history["epochs"] * (len(train_ids) - 1), "train_chars": len(train_ids), "budgets": len(budgets),
        "diagnosis": str(trained.history.get("diagnosis")),
    }  # fmt: skip
    describe = describe_english if arguments.name == "english" else describe_python
    path.with_suffix(".md").write_text(card(arguments.name, packaged, facts, describe(arguments, sample)), "utf-8")
    print(facts)


def budgets_of(model: unrolled.Model) -> list[unrolled.Model]:
    """Return the models of all budgets that a base model was trained with, the last one first."""
    earlier = Run(model.path.parent).config["options"].get("init_from")
    return [model, *(budgets_of(unrolled.load(earlier, threads=1)) if earlier else [])]


def write(path: Path, model_file: TextModelFile) -> None:
    """Write a model file with its weights in bfloat16."""
    weights = {name: weight.to(torch.bfloat16) for name, weight in model_file.model.state_dict().items()}
    save_checked(path, weights, model_file.metadata())


def share_in_passages(lengths: np.ndarray) -> float:
    """Return the share of a sample in passages of `COPY_LENGTH` characters or more, from the longest match at each position."""
    covered = np.zeros(len(lengths), dtype=bool)
    for start in np.flatnonzero(lengths >= COPY_LENGTH):
        covered[start : start + lengths[start]] = True
    return float(covered.mean())


def share_of_known_words(text: str, words_path: Path) -> float:
    """Return the share of the words of a text that stand in a list; words with an apostrophe count by what is before it."""
    known = {word.strip().lower() for word in words_path.read_text("utf-8").splitlines()}
    words = [word.lower() for word in re.findall(r"[A-Za-z]+", text)]
    return sum(word in known for word in words) / max(1, len(words))


def books(text: str) -> tuple[list[str], list[str]]:
    """Return the books of the training and of the validation text, each as `title (author)`."""

    def rows(heading: str) -> list[str]:
        section = text.split(f"\n## {heading}", 1)[1].split("\n## ")[0]
        cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in section.splitlines() if line[:1] == "|"]
        return [f"{row[0]} ({row[1]})" for row in cells[2:]]

    return rows("Train"), rows("Validation")


class Description(NamedTuple):
    """The parts of a card that differ: what the model is of, and whole paragraphs."""

    subject: str
    validation: str
    limits: str
    data: str


def describe_english(arguments: argparse.Namespace, sample: str) -> Description:
    """Return what the card of a model of English books says."""
    train, validation = books(Path(arguments.books).read_text("utf-8"))
    return Description(
        "English prose and verse",
        f"""\
It is five books by authors who are not in the training text, which were not used to select anything. Of the words of a
sample of {SAMPLE_CHARS:,} characters at temperature {TEMPERATURE}, which is the default of this model,
{share_of_known_words(sample, Path(arguments.words)):.1%} stand in Debian's list of words, wamerican.""",
        """\
It continues text in the manner of books of the 18th to the early 20th century, with their views and prejudices, some
of them offensive. It knows nothing, and states nothing reliably: do not use it for information, advice, decisions
about people, or to pass its text off as written by a person or by one of these authors. It has read no modern English
and no other language.""",
        f"""\
Books in the public domain: all authors and named translators died before 1926.

Training: {"; ".join(train)}.

Validation: {"; ".join(validation)}.""",
    )


def describe_python(arguments: argparse.Namespace, sample: str) -> Description:
    """Return what the card of a model of Python's standard library says."""
    return Description(
        "Python source code",
        f"""\
It is the source of {arguments.packages}, which was not used to select anything. Of the statements at the left margin in a
sample of {SAMPLE_CHARS:,} characters at temperature {TEMPERATURE}, which is the default of this model,
{share_that_parses(sample):.1%} are correct syntax.""",
        """\
It writes what looks like code and does nothing useful: never run it. Its loss on a file of Python's standard library says
nothing, since it has read that file; neither has it read other languages, or Python that is newer.""",
        f"""\
Training: the standard library of Python {platform.python_version()} as `unrolled train builtin:python` reads it, under the
license of the Python Software Foundation.

Validation: {arguments.packages}.""",
    )


def share_that_parses(code: str) -> float:
    """Return the share of the statements at the left margin that are correct syntax, without the first and the last one."""
    statements = re.split(r"\n(?=[^\s#)\]}])", code)[1:-1]

    def parses(statement: str) -> bool:
        try:
            ast.parse(statement)
        except (SyntaxError, ValueError):
            return False
        return True

    with warnings.catch_warnings(action="ignore"):
        return sum(map(parses, statements)) / max(1, len(statements))


def card(name: str, model: unrolled.Model, facts: dict[str, Any], description: Description) -> str:
    """Return the card of a base model in Markdown."""
    options = model.text_model.options
    is_limited = facts["diagnosis"].startswith("Limited by the text")
    outlook = "More text would make it better" if is_limited else "A longer training of the same network would be better"
    return f"""\
# builtin:{name}

A recurrent language model of {description.subject} in single characters: {options.layers} layers of
{options.hidden} LSTM units, {model.parameters:,} parameters in bfloat16, {model.tokenizer.vocab_size} characters.
`unrolled sample builtin:{name}` writes with it, `unrolled train TEXT --from builtin:{name}` goes on from it.

## Loss

{facts["bits"]:.3f} bits ({facts["nats"]:.4f} nats) per character of the validation text, standard error
{facts["error"]:.4f} nats, on {EVAL_CHARS:,} characters spread evenly over it.
{description.validation}

## Memorization

{facts["memorized"]:.1%} of the sample lies in passages of {COPY_LENGTH} characters or more that stand in the training
text word for word; the longest such passage has {facts["longest"]} characters.

## Training

`scripts/train_base.py`: the default recipe, {facts["read"] / 1e6:.1f} million characters of a text of
{facts["train_chars"] / 1e6:.1f} million ({facts["read"] / facts["train_chars"]:.0%}), {model.history["steps"]:,} steps in
{model.history["seconds"] / 60:.0f} minutes of one thread on a busy machine, in {plural(int(facts["budgets"]), "budget")} with a
rate that falls to zero at the end of each. {outlook}: `python scripts/train_base.py TEXT --out
runs/{name} --minutes MINUTES --threads THREADS` trains one, and goes on where it was stopped, or from an earlier one
with `--from`; `python scripts/package_base.py` puts it in the place of this one.

## What it must not be used for

{description.limits}

## Data

{description.data}
"""


if __name__ == "__main__":
    main()
