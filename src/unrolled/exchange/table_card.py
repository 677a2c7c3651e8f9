"""`--to card` for models of tables: README.md in the form of Hugging Face, with columns, data, results and limits."""

from __future__ import annotations

from unrolled import __version__
from unrolled.display import loss_text, shell_argument
from unrolled.exchange.card_export import UNKNOWN_DATA, card_markdown, joined_line, training_lines
from unrolled.exchange.export_job import ExportResult
from unrolled.exchange.table_export import TableExportJob
from unrolled.tables.spec import TableSpec

MAX_LABELS = 20
"""Labels that a card names."""


def export_table_card(job: TableExportJob) -> ExportResult:
    """Return the card of a model of a table. Its figures are those of the run; what is not known is said to be unknown."""
    return ExportResult({job.out: table_card(job).encode()}, [], {"mode": job.model_file.spec.mode.name})


def pipeline_tag(spec: TableSpec) -> str:
    """Return the task as Hugging Face names it; empty for one that has no name there.

    Example:
        >>> pipeline_tag(table_model.spec)
        'text-classification'
    """
    reads_text, target = spec.source.kind == "text" and not spec.others, spec.target.kind
    if spec.source.kind == "image":
        return {"label": "image-classification", "text": "image-to-text"}.get(target, "")
    if target == "label":
        return "text-classification" if reads_text else "tabular-classification"
    if target == "labels":
        return "token-classification"
    if target == "text":
        return "text2text-generation" if reads_text else ""
    if spec.horizon:
        return "time-series-forecasting"
    return "tabular-regression" if target == "number" else ""


def table_card(job: TableExportJob) -> str:
    """Return the Markdown text of a card, with the header that Hugging Face reads."""
    spec, options, history = job.model_file.spec, job.model_file.model.options, job.model_file.history
    rows = [(column.name, "source", column) for column in spec.sources] + [(spec.target.name, "target", spec.target)]
    columns = [f"| {_cell(name)} | {role} | {_cell(column.kind)} |" for name, role, column in rows]
    columns += [f"| {_cell(known.name)} | known in advance | {known.kind} |" for known in spec.known_covariates]
    labels = spec.target.labels if spec.target.kind in ("label", "labels") else ()
    shown = ", ".join(_cell(label) for label in labels[:MAX_LABELS])
    label_line = f"{len(labels):,} labels: {shown}{', ...' if len(labels) > MAX_LABELS else ''}."
    results = [
        f"- {split}: {loss_text(history[key], spec.loss_unit)}"
        for split, key in (
            ("loss on the validation rows, by which the checkpoint was selected", "val_nats"),
            ("loss on the test rows, which are not used for model selection", "test_nats"),
        )
        if isinstance(history.get(key), float)
    ]
    if history.get("diagnosis"):
        results.append(f"- {joined_line(str(history['diagnosis']))}")
    parameters = sum(weight.numel() for weight in job.model_file.model.parameters())
    sections = {
        "Columns": ["| column | role | kind |", "|---|---|---|", *columns, *(["", label_line] if labels else [])],
        "Data": [job.data or UNKNOWN_DATA],
        "Results": results or ["Not known."],
        "Training": ["Of the saved model, the best on the validation rows:", "", *training_lines(history)],
        "Use": ["```sh", f"unrolled predict {shell_argument(job.path.name)} new.csv", "```"],
        "Limits": [
            "The model answers as the rows that it was trained on do. It has not seen other kinds of rows, and its "
            "probabilities are those of rows like them."
        ],
    }
    description = (
        f"{spec.mode_text.capitalize()}, {options.layers} x {options.hidden} {options.cell.upper()}, {parameters:,} "
        f"parameters, trained with unrolled {__version__}."
    )
    return card_markdown(pipeline_tag(spec), ["rnn", options.cell], job.title, description, sections)


def _cell(text: str) -> str:
    return joined_line(text).replace("|", "\\|")
