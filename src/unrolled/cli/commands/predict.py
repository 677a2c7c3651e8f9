"""Predict the target of each row of a table, or of each line.

INPUT needs the source columns; '-' is standard input. If the source is a text
and there is no such column, each line is one text; if it is numbers at every
step, a WAV or .npy file is one row. The table is printed as
CSV, with two more columns: 'predicted' and 'probability'.

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

from unrolled.cli.json_output import JSON_VERSION, print_json
from unrolled.cli.parser import CommandParser, accepted_options, print_note
from unrolled.cli.source_values import rows_of_values
from unrolled.display import plural
from unrolled.errors import UsageError
from unrolled.option_rules import check_prediction
from unrolled.options import MachineOptions, PredictOptions
from unrolled.output_paths import check_outputs
from unrolled.printable import result_stream


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
    from unrolled.views.prediction_writer import write_csv, write_json, write_sound
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
            write_json(result_stream(), table, model.spec, rows, options, JSON_VERSION)
        else:
            write_csv(result_stream(), table, model.spec, rows, options)
    return 0
