"""Export a model: C, a web page, ONNX, numpy, a model card.

Each format is run and compared with the model before it is written, at
several lengths, batch sizes and states. What it writes needs no unrolled.
A model of a table that predicts a label, labels or a number: --to onnx;
one that labels a text: --to html and c, too; one of a text and a number: --to
c, too; one of a series, numbers at every step: --to onnx, html or c.

Examples:
  unrolled export runs/book --to c --out book.c
  unrolled export runs/book --to c --weights int4
  unrolled export runs/book --to html
  unrolled export runs/book --to onnx --float16
  unrolled export runs/book --to numpy
  unrolled export runs/book --to card
  unrolled export runs/reviews --to onnx
  unrolled export runs/reviews --to html --weights float32
  unrolled export runs/sensor --to c --out sensor.c
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser
from unrolled.display import printable
from unrolled.exchange.export_options import ExportOptions
from unrolled.options import from_dict

if TYPE_CHECKING:
    from unrolled.exchange.export_job import ExportResult


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("export", __doc__)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_options("export", ExportOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, as_json = (cli_values.pop(key) for key in ("run", "json"))
    options = from_dict(ExportOptions, cli_values, "the command line")
    from unrolled.exchange.export_file import export_file

    result = export_file(Path(run_path), options, cli_values)
    if as_json:
        print_json({"files": {str(path): len(content) for path, content in result.files.items()},
                    "checks": result.checks, **result.facts})  # fmt: skip
    else:
        _print_result(result)
    return 0


def _print_result(result: ExportResult) -> None:
    for check in result.checks:
        print(f"checked: {check}")
    rounding: dict[str, Any] | None = result.facts.get("rounding")
    if rounding is not None and "labels" in rounding:
        print(
            f"weights: {result.facts['weights']}, {rounding['labels']:,} held-out labels: accuracy {rounding['accuracy']:.4f} "
            f"({rounding['extra_accuracy']:+.4f} by rounding), {rounding['bits']:.4f} bits ({rounding['extra_bits']:+.4f})"
        )
    elif rounding is not None:
        print(
            f"weights: {result.facts['weights']}, {rounding['bits']:.4f} bits per token on {rounding['tokens']:,} tokens, "
            f"{rounding['extra_bits']:+.4f} by rounding"
        )
    elif "rounding" in result.facts:
        missing = "the table of its run" if "mode" in result.facts else "a text: name one with --text"
        print(f"weights: {result.facts['weights']}; what the rounding costs is not known without {missing}")
    if "flash_bytes" in result.facts:
        flash, ram = result.facts["flash_bytes"], result.facts["ram_bytes"]
        print(f"flash: {flash:,} bytes of tables and 3 to 10 kB of code; RAM: {ram:,} bytes")
    for path, content in result.files.items():
        print(printable(f"wrote {path} ({len(content):,} bytes)"))
