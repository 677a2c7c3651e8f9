"""A command is one module and one line in `COMMANDS`; everything else follows from them."""

from pathlib import Path

import pytest

from support.cli import Cli
from unrolled.cli.registry import COMMANDS

MODULE = '''\
"""Count the characters of a text.

Examples:
  unrolled count book.txt
"""

from pathlib import Path

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser


def run(argv):
    parser = CommandParser("count", __doc__)
    parser.add_argument("input", metavar="INPUT", help="A text.")
    values = parser.parse_cli_values(argv)
    count = len(Path(values["input"]).read_text("utf-8"))
    print_json({"characters": count}) if values["json"] else print(f"{count} characters")
    return 0
'''


def test_a_command_from_outside_runs_and_is_in_the_help(
    cli: Cli, book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside_count.py").write_text(MODULE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(COMMANDS, "count", "outside_count")
    size = len(book.read_text("utf-8"))
    assert "  count      Count the characters of a text.\n" in cli("--help").out
    assert cli("count", "--help").out.startswith("usage: unrolled count INPUT [flags]\n\nCount the characters")
    assert cli("count", book).out == f"{size} characters\n"
    assert cli("count", book, "--json").out == f'{{"version": 2, "characters": {size}}}\n'
    wrong = cli("count", book, "--jsn")
    assert (wrong.code, wrong.err) == (2, "unrolled: Unknown flag --jsn; did you mean '--json'? See unrolled count --help\n")
    assert "did you mean 'count'" in cli("cuont").err
