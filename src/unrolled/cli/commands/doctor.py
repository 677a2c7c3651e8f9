"""Print versions, processor and disk, and run a self-test.

The self-test takes about ten seconds. Paste the output into a bug report.

Examples:
  unrolled doctor
  unrolled doctor --json
"""

from __future__ import annotations

from unrolled import __version__
from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, print_note


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    cli_values = CommandParser("doctor", __doc__).parse_cli_values(argv)
    print_note(f"unrolled {__version__}: running the self-test")
    from unrolled.doctor import collect_findings, format_findings

    findings = collect_findings()
    if cli_values["json"]:
        print_json(findings)
    else:
        print(format_findings(findings))
    return 0 if findings["self_test"]["passed"] else 1
