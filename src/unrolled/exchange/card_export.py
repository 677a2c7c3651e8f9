"""`--to card`: a model card, README.md in the form of Hugging Face: data, loss and baselines, what is memorized, limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unrolled import __version__
from unrolled.display import shell_argument
from unrolled.exchange.export_job import ExportJob, ExportResult
from unrolled.runtime.text_network import GATE_NAMES, TextNetwork

MEMORY_TOKENS = 2000
"""Tokens of the sample that is searched for copies of the training text."""

COPY_LENGTH = 50
"""A copied passage of this many tokens or more counts as memorized."""

BASELINE_ORDER = 6
UNKNOWN_DATA = "Not known: the model file is not in its run folder."


def export(job: ExportJob) -> ExportResult:
    """Return the card of a model. Its figures are those of the run; what is not known is said to be unknown."""
    facts = card_facts(job)
    return ExportResult({job.out: card_text(job, facts).encode()}, [], facts)


def card_facts(job: ExportJob) -> dict[str, Any]:
    """Return the measured figures of a card: baselines and memorized share, where the run's text is at hand."""
    facts: dict[str, Any] = {}
    if job.train_text is None or job.held_out is None or len(job.held_out) < 2:
        return facts
    from unrolled.analysis.baselines import measure_baselines
    from unrolled.evaluation.memorization import matching_statistics
    from unrolled.generation.sampling import generate
    from unrolled.options import SampleOptions

    tokenizer = job.model.tokenizer
    baselines = measure_baselines(tokenizer, job.train_text, job.held_out, BASELINE_ORDER, continues_train=True)
    order, nats = baselines.best_ngram
    facts["baselines"] = {
        "uniform": baselines.uniform,
        f"Kneser-Ney {order}-gram": nats,
        "xz -9, given the training text": baselines.xz,
    }
    drawn = next(generate(job.reference, tokenizer, SampleOptions(length=MEMORY_TOKENS), 1, precision=None))
    ids = tokenizer.encode(drawn.text)
    lengths = matching_statistics(job.train_text, np.asarray(ids))
    covered = np.zeros(len(lengths) + 1, dtype=np.int64)
    for start in np.flatnonzero(lengths >= COPY_LENGTH):
        covered[start] += 1
        covered[min(len(lengths), start + lengths[start])] -= 1
    facts["memorized"] = float((np.cumsum(covered)[:-1] > 0).mean()) if len(lengths) else 0.0
    return facts


def card_text(job: ExportJob, facts: dict[str, Any]) -> str:
    """Return the Markdown text of a card, with the header that Hugging Face reads."""
    network, history = job.model.network, job.model.history
    rows = [("this model", history.get("val_nats")), *facts.get("baselines", {}).items()]
    table = [f"| {name} | {nats / math.log(2):.3f} |" for name, nats in rows if isinstance(nats, float)]
    if isinstance(history.get("test_nats"), float):
        name = "this model, on the test split, which is not used for model selection"
        table.append(f"| {name} | {history['test_nats'] / math.log(2):.3f} |")
    tokenizer = job.model.tokenizer
    unit = "byte" if tokenizer.reads_bytes else "character"
    memorized = (
        f"{facts['memorized']:.1%} of a sample of {MEMORY_TOKENS:,} tokens lies in passages of {COPY_LENGTH} tokens or more "
        "that stand in the training text word for word."
        if "memorized" in facts
        else "Not measured: the training text was not found."
    )
    selection = "The figures are of the validation split, by which the checkpoint was selected, unless they say otherwise."
    sections = {
        "Data": [joined_line(job.data) or UNKNOWN_DATA, "", selection],
        "Loss": [f"| | bits per {unit} |", "|---|---|", *(table or ["| this model | not known |"])],
        "Memorization": [memorized],
        "Training": training_lines(history),
        "Use": ["```sh", f'unrolled sample {shell_argument(job.path.name)} --prompt "The "', "```"],
        "Limits": [
            "The model continues text in the manner of its training text. It knows nothing else, states nothing reliably, and "
            "repeats what the training text contains, personal data and offensive passages included."
        ],
    }
    description = (
        f"{joined_line(job.description)}, trained with unrolled {__version__}. The next token is predicted from a state of "
        f"{_state_size(network)}."
    )
    tags = ["rnn", network.cell, f"{tokenizer.kind if tokenizer.splits_text else unit}-level"]
    return card_markdown("text-generation", tags, job.title, description, sections)


def card_markdown(pipeline_tag: str, tags: list[str], title: str, description: str, sections: dict[str, list[str]]) -> str:
    """Return a model card: the header that Hugging Face reads, a title, and sections by their heading, as lines."""
    task = [f"pipeline_tag: {pipeline_tag}"] if pipeline_tag else []
    header = ["---", "library_name: unrolled", *task, "tags:", *(f"- {tag}" for tag in tags), "---"]
    body = [line for heading, lines in sections.items() for line in (f"## {heading}", "", *lines, "")]
    return "\n".join([*header, "", f"# {joined_line(title)}", "", description, "", *body])


def training_lines(history: dict[str, Any]) -> list[str]:
    """Return the known facts of a training as items of a list."""
    known = {key: history[key] for key in ("steps", "epochs", "seconds", "seed") if key in history}
    return [f"- {key}: {round(value, 2) if isinstance(value, float) else value}" for key, value in known.items()]


def _state_size(network: TextNetwork) -> str:
    """Say how large the state is; that of cells which only torch can run is not known here."""
    if network.cell not in GATE_NAMES:
        return "fixed size"
    names = network.state_names
    times = {2: ", twice (h and c)", 4: ", four times (h, c, n and m)"}
    return f"{network.hidden_size} numbers per layer{times.get(len(names), '')}"


def joined_line(text: str) -> str:
    """Return a text in one line of Markdown."""
    return " ".join(text.split())
