"""`--to c` for models that read one text of a table, and predict a label, a number, or a label for each token: one C99 file.

The code is `templates/text_reader.c`, which reads UTF-8, finds words or characters and n-grams, and computes; its tables and
definitions are filled in here. The file is compiled and replays its test vectors, which are texts, before it is written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unrolled import __version__
from unrolled.display import shell_argument
from unrolled.exchange.c_export import check_c_source
from unrolled.exchange.c_source import Tables, c_prefix, number_literal, wrap_lines
from unrolled.exchange.classifier_html_export import vectors_data
from unrolled.exchange.classifier_page_data import unsupported_reader
from unrolled.exchange.classifier_rounding import rounded_classifier, rounding_cost
from unrolled.exchange.export_job import ExportResult
from unrolled.exchange.text_c_tables import CELLS, ram_bytes, reader_tables, weight_tables
from unrolled.exchange.unicode_tables import c_string
from unrolled.runtime.portable import Weights
from unrolled.tables.cell_values import Cell
from unrolled.tables.label_columns import LabelsColumn
from unrolled.tables.text_column import TextColumn

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile

TEMPLATE = Path(__file__).parent / "templates" / "text_reader.c"
MAX_STEPS, MAX_TEXT = 512, 4096
"""Tokens and code points that the file reads of a text, at most, unless it is compiled with other numbers."""


def unsupported_text_in_c(model_file: TableModelFile) -> str | None:
    """Say why a model of a table has no C form, or return None if it has one."""
    spec = model_file.spec
    if not spec.reads_one_text and not spec.labels_each_token:
        return (
            "a C file reads a text that gets a label, a number, or a label for each token, or a series, and this model has "
            f"{spec.mode.name}: {spec.columns_text}"
        )
    return unsupported_reader(model_file, CELLS, "the C file")


def export_text_reader(
    model_file: TableModelFile, title: str, out: Path, weights: Weights = "int8", path: Path | None = None
) -> ExportResult:
    """Return the C file of a model that reads a text, checked. Raises `ExportError` if it computes something else.

    With int8 weights, it computes what the model with these weights computes; what they cost is measured on rows of the run
    at `path`.
    """
    source, flash, ram = text_reader_source(model_file, title, out.name, weights)
    checks = [check_c_source(source)]
    facts: dict[str, Any] = {"weights": weights, "flash_bytes": flash, "ram_bytes": ram, "mode": model_file.spec.mode.name}
    if weights == "int8" and model_file.spec.target.kind != "number":
        facts["rounding"] = None if path is None else rounding_cost(model_file, rounded_classifier(model_file), path)
    return ExportResult({out: source.encode()}, checks, facts)


def text_reader_source(model_file: TableModelFile, title: str, file_name: str, weights: Weights) -> tuple[str, int, int]:
    """Return the C file of a model that reads a text, the bytes of its tables, and the bytes of RAM."""
    spec, source = model_file.spec, cast(TextColumn, model_file.spec.source)
    computed = rounded_classifier(model_file) if weights == "int8" else model_file
    tables = Tables()
    lines, macros = weight_tables(tables, model_file, weights)
    each = macros["ANSWERS"] + 8 if weights == "int8" else 4 * macros["ANSWERS"] + 4
    macros |= reader_tables(tables, source)
    is_number = spec.target.kind == "number"
    steps = min(spec.step_limit, MAX_STEPS)
    text = steps if not macros["WORDS"] else MAX_TEXT
    ram = ram_bytes(macros, steps, text)
    if not is_number:
        labels = ", ".join(c_string(label) for label in list(spec.target.labels)[: macros["ANSWERS"]])
        lines.append(f"static const char *const LABELS[] = {{{labels}}};")
    values = {
        "TITLE": _comment(f"{title}: {source.describe()} -> {spec.target.describe()}"),
        "VERSION": __version__,
        "FILE": shell_argument(file_name),
        "RAM": f"{ram:,}",
        "FLASH": f"{tables.num_bytes:,}",
        "NGRAM_FLASH": f", {macros['BUCKETS'] * each:,} of them for n-grams" * (macros["BUCKETS"] > 0),
        "OUTPUTS": _outputs(model_file),
        "TOKENS": "words" if macros["WORDS"] else "characters",
        "NORMAL_FORM": "" if source.normalization == "none" else f"Give it in the form {source.normalization.upper()}. ",
        "DEFINES": "".join(f"#define RNN_{name} {value}\n" for name, value in macros.items()),
        "STEPS": str(steps),
        "TEXT": str(text),
        "PROTOTYPES": ""
        if is_number
        else "int rnn_best(const float *probabilities); /* the index of the answer */\nconst char *rnn_label(int index);",
        "WEIGHT": "int8_t" if weights == "int8" else "float",
        "TABLES": "\n".join([*tables.parts, *lines]),
        "VECTORS": _vectors(computed),
    }
    written = re.sub("@([A-Z0-9_]+)@", lambda found: values[found[1]], TEMPLATE.read_text("utf-8"))
    return re.sub(r"\brnn_", c_prefix(file_name), written), tables.num_bytes, ram


def _comment(text: str) -> str:
    return text.replace("*/", "* /").replace("\n", " ")


def _outputs(model_file: TableModelFile) -> str:
    target = model_file.spec.target
    if target.kind == "number":
        return f"the number '{_comment(target.name)}', in its own unit"
    each = " of each token" * isinstance(target, LabelsColumn)
    return f"the probability of each label{each}, in the order of rnn_label"


def _vectors(model_file: TableModelFile) -> str:
    """Return texts with their logits, or scaled numbers."""
    data, source = vectors_data(model_file, has_effects=False), cast(TextColumn, model_file.spec.source)
    cases = data["cases"]
    texts = [c_string(source.read_text(Cell(case["text"], ""))) for case in cases]
    expected = [number_literal(np.float32(value)) for case in cases for value in case["logits"]]
    return "\n".join(
        [
            f"#define TEST_CASES {len(cases)}",
            f"#define TEST_TOLERANCE {data['tolerance']!r}",
            f"static const char *const TEST_TEXTS[] = {{\n{wrap_lines(texts)}}};",
            f"static const int TEST_COUNTS[] = {{{', '.join(str(len(case['logits'])) for case in cases)}}};",
            f"static const float TEST_OUTPUTS[] = {{\n{wrap_lines(expected)}}};",
        ]
    )
