"""Predict the target of each row of a table.

The table needs the source column. It is printed as CSV, with two more
columns: 'predicted' and 'probability'.

Examples:
  unrolled predict runs/questions new.csv > out.csv
  unrolled predict runs/questions new.csv --probabilities
  unrolled predict runs/pairs new.tsv --beam 1
  unrolled predict runs/painter labels.csv --image-dir painted
"""

from __future__ import annotations

from unrolled.cli.json_output import JSON_VERSION
from unrolled.cli.parser import CommandParser, print_note
from unrolled.keyword_docs import accepted_options
from unrolled.options import MachineOptions, PredictOptions
from unrolled.output_paths import check_outputs
from unrolled.printable import result_stream


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("predict", __doc__)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", metavar="INPUT", help="Table with the source column.")
    parser.add_options("prediction", PredictOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, table_name, as_json = (cli_values.pop(name) for name in ("run", "input", "json"))
    options, settings, machine_settings = parser.split_options(cli_values, PredictOptions)
    from unrolled.api import load_table
    from unrolled.views.prediction_writer import write_csv, write_json
    from unrolled.views.progress import MessageHandler

    model = load_table(run_path, **machine_settings)
    images = options.image_dir if model.spec.source.kind == "image" else None  # the source may be in the same folder
    check_outputs(options, (run_path, model.path, table_name, images), model.session.run_path)
    table, rows = model.predict_table(table_name, **accepted_options(model.predict_table, settings))
    with MessageHandler(print_note, "unrolled.models"):
        if as_json:
            write_json(result_stream(), table, model.spec, rows, options, JSON_VERSION)
        else:
            write_csv(result_stream(), table, model.spec, rows, options)
    return 0
