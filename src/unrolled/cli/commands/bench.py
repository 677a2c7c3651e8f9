"""Measure speed and learning, and compare with other implementations.

PART: training, sampling, encoding (the default: these three, about three
minutes); kernels: each implementation of a layer; learning: loss after
training for --seconds, for four programs in turn; cells: the same for every
cell; languages: accuracy of every cell, and of a small Transformer, on formal
languages such as parity, counting and recall; busy: training steps next to
busy programs.

Examples:
  unrolled bench
  unrolled bench training --rounds 9
  unrolled bench kernels
  unrolled bench learning --text book.txt --seconds 60 --svg loss.svg
  unrolled bench cells --text book.txt --svg cells.svg
  unrolled bench languages --quick --svg languages.svg
"""

from __future__ import annotations

import sys

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser
from unrolled.errors import UsageError, did_you_mean
from unrolled.options import BenchOptions, from_dict


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("bench", __doc__)
    parser.add_argument(
        "part",
        metavar="PART",
        nargs="*",
        default=[],
        help="training, kernels, sampling, encoding, learning, cells, languages, busy.",
    )
    parser.add_options("benchmark", BenchOptions)
    cli_values = parser.parse_cli_values(argv)
    parts, as_json = cli_values.pop("part"), cli_values.pop("json")
    options = from_dict(BenchOptions, cli_values, "the command line")
    from unrolled.bench.benchmarks import BENCHMARKS, run_benchmarks
    from unrolled.views.progress import MessageHandler

    unknown = [part for part in parts if part not in BENCHMARKS]
    if unknown:
        raise UsageError(
            f"bench has no part '{unknown[0]}'{did_you_mean(unknown[0], BENCHMARKS) or '.'} Parts: {', '.join(BENCHMARKS)}."
        )
    with MessageHandler(lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True), "unrolled.bench"):
        results = run_benchmarks(parts, options)
    if as_json:
        print_json(results)
    return 0
