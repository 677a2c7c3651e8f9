"""Import a model of char-rnn, textgenrnn, PyTorch, Keras or others.

The result is a model file for sample, score, eval and explain. It is checked
on a short text, also against other gate orders. Models of audio samples (.nam,
RTNeural, GuitarML) are for predict and eval.

Examples:
  unrolled import lm_lstm_epoch50.00_1.17.t7
  unrolled import model.pt --vocabulary chars.json --out runs/old
  unrolled import model.keras --vocabulary book.txt
  unrolled import models/hemingway --text book.txt
  unrolled import amplifier.nam
"""

from __future__ import annotations

from pathlib import Path

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, print_note
from unrolled.display import printable, shell_argument
from unrolled.exchange.import_options import ImportOptions
from unrolled.options import from_dict


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("import", __doc__)
    parser.add_argument("file", metavar="FILE", help="The model's file, or the folder of an ml5 model.")
    parser.add_options("import", ImportOptions)
    cli_values = parser.parse_cli_values(argv)
    path, as_json = Path(cli_values.pop("file")), cli_values.pop("json")
    options = from_dict(ImportOptions, cli_values, "the command line")
    from unrolled.exchange.imports import import_file, output_path, write_imported

    target = output_path(path, options)
    imported = import_file(path, options)
    write_imported(imported, target)
    if as_json:
        print_json({"model": str(target), **imported.to_json()})
        return 0
    print(printable(imported.description))
    for note in imported.notes:
        print(printable(f"  {note}"))
    is_text = imported.is_text
    if imported.check is not None:
        print(imported.check.to_text())
    elif is_text:
        print("no check: the model does not know the letters of the built-in texts; check it with --text FILE --force")
    print(printable(f"model: {target}"))
    run_name = target.parent if target.name == "model.safetensors" else target
    name = shell_argument(run_name)
    print_note(f"Next: unrolled sample {name}" if is_text else f"Next: unrolled predict {name} in.wav --wav out.wav")
    return 0
