"""Predict the target of each row of a table, or of each line.

INPUT needs the source columns; '-' is standard input. If the source is a text
and there is no such column, each line is one text; if it is numbers at every
step, a WAV or .npy file is one row. The table is printed as
CSV, with two more columns: 'predicted' and 'probability'; a CoNLL file is
printed as such a file.

Examples:
  unrolled predict runs/questions new.csv > out.csv
  unrolled predict runs/questions new.csv --probabilities
  unrolled predict runs/questions --text "Who wrote it?" --count 3
  unrolled predict runs/people --text age=30 --text "review=so, so"
  cat lines.txt | unrolled predict runs/questions -
  unrolled predict runs/pairs new.tsv --beam 1
  unrolled predict runs/painter labels.csv --image-dir painted
  unrolled predict runs/amplifier riff.wav --wav riff-wet.wav
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any

from unrolled.cli.json_output import print_json, write_json_list
from unrolled.cli.parser import CommandParser, accepted_options, print_note
from unrolled.display import plural, printable, result_stream, shell_argument
from unrolled.errors import UsageError, did_you_mean
from unrolled.option_rules import check_prediction
from unrolled.options import MachineOptions, PredictOptions
from unrolled.output_paths import check_outputs


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("predict", __doc__)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", metavar="INPUT", nargs="?", default=None, help="Table, lines of text, or '-'.")
    parser.add_values(
        "--text",
        "TEXT",
        "A source value, in place of INPUT; may be repeated. Of several: COLUMN=VALUE, or a row as 30,Rome or as JSON.",
    )
    parser.add_options("prediction", PredictOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, table_name, texts, as_json = (cli_values.pop(name) for name in ("run", "input", "text", "json"))
    if (table_name is None) is (not texts):
        problem = "nothing is given" if table_name is None else "both are given"
        raise UsageError(f"A table to predict, as INPUT, or --text is expected, and {problem}. See unrolled predict --help")
    options, settings, machine_settings = parser.split_options(cli_values, PredictOptions)
    from unrolled.api import load_table
    from unrolled.views.prediction_writer import json_rows, write_csv, write_sound
    from unrolled.views.progress import MessageHandler

    model = load_table(run_path, **machine_settings)
    columns = [column.name for column in model.spec.given_sources]
    images = options.image_dir if model.spec.source.kind == "image" else None  # the source may be in the same folder
    check_outputs(options, (run_path, model.path, table_name, images), model.session.run_path)
    check_prediction(options, settings, model.spec.dims, model.spec.target.kind)  # also those that only this command has
    settings = accepted_options(model.predict_table, settings)
    with MessageHandler(print_note):
        if texts and len(columns) == 1:
            table, rows = model.predict_values(texts, **settings)
        else:
            table, rows = model.predict_table(rows_of_values(texts, columns) if texts else table_name, **settings)
        if options.wav is not None:
            sound = write_sound(model.save_wav, table, model.spec, rows, options)
            written = f"{sound['wav']}: {plural(sound['samples'], 'sample')}, {sound['rate']:,} a second"
            print_json(sound) if as_json else print(written)
        elif as_json:
            write_json_list("rows", json_rows(table, model.spec, rows, options), out=result_stream(), ensure_ascii=False)
        else:
            write_csv(result_stream(), table, model.spec, rows, options)
    return 0


MAX_SHOWN_CHARS = 40
"""Characters of a value of --text in a message."""


def rows_of_values(texts: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows that values of --text are, for a model that reads `columns`.

    A value is a JSON object or list, COLUMN=VALUE (several with commas between them), all cells of a row in the order of
    `columns` with commas between them, or one cell; a row begins where a column is given again.

    Raises:
        UsageError: A value is none of these, or a row lacks a column.

    Example:
        >>> rows_of_values(["age=30", "town=Rome", '{"age": 4, "town": "Oslo"}', "7,Bonn"], ["age", "town"])
        [{'age': '30', 'town': 'Rome'}, {'age': 4, 'town': 'Oslo'}, {'age': '7', 'town': 'Bonn'}]
    """
    rows: list[dict[str, Any]] = [{}]
    for text in texts:
        missing = [column for column in columns if column not in rows[-1]]
        cells = _cells(text, columns, bool(rows[-1] and missing))
        if not missing or any(name in rows[-1] for name in cells):
            rows.append({})
            missing = list(columns)
        rows[-1].update({missing[0] if name is None else name: value for name, value in cells.items()})
    for row in rows:
        if missing := [column for column in columns if column not in row]:
            typed = " ".join(f"--text {shell_argument(f'{column}=...')}" for column in columns)
            raise UsageError(f"A row of --text has no {', '.join(missing)}, and the model reads {', '.join(columns)}: {typed}")
    return [{column: row[column] for column in columns} | row for row in rows]


def _cells(text: str, columns: Sequence[str], is_begun: bool) -> dict[str | None, Any]:
    """Return the cells that one value of --text gives by their columns; a single cell without its column has the name None.

    A text with commas is a row, but a cell where a row `is_begun`.
    """
    if text.lstrip().startswith(("{", "[")) and (row := _from_json(text, columns)) is not None:
        return row
    parts = next(csv.reader([text], skipinitialspace=True), [])
    pairs = [part.partition("=") for part in parts]
    if pairs and all(name.strip() in columns for name, _, _ in pairs) and "=" in text and len(pairs) > 1:
        return {name.strip(): value for name, _, value in pairs}
    name, equals, value = text.partition("=")
    if equals and name.strip() in columns:
        return {name.strip(): value}
    if len(parts) == len(columns) and not is_begun:
        return dict(zip(columns, parts, strict=True))
    if equals and (nearest := did_you_mean(name.strip(), columns)):
        raise UsageError(f"The model reads no column {printable(name.strip())[:MAX_SHOWN_CHARS]!r}{nearest}")
    return {None: text}


def _from_json(text: str, columns: Sequence[str]) -> dict[str | None, Any] | None:
    """Return the cells of a JSON object or list, or None for another text."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(row, list) and len(row) == len(columns):
        return dict(zip(columns, row, strict=True))
    return row if isinstance(row, dict) else None
