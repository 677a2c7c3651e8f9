"""`unrolled bench` and `unrolled doctor`: what the machine does."""

from __future__ import annotations

import json
import sys

from unrolled import JSON_VERSION, __version__
from unrolled.cli.help import BENCH_HELP, DOCTOR_HELP
from unrolled.cli.parser import CommandParser
from unrolled.errors import UsageError, did_you_mean
from unrolled.options import BenchOptions, from_dict


def bench(argv: list[str]) -> int:
    """Measure this package against what people write instead."""
    parser = CommandParser("bench", BENCH_HELP)
    parser.add_argument("part", nargs="*", default=[], help="training, kernels, sampling, encoding, learning.")
    parser.add_options("benchmark", BenchOptions)
    cli_values = parser.parse_cli_values(argv)
    parts, as_json = cli_values.pop("part"), cli_values.pop("json")
    options = from_dict(BenchOptions, cli_values, "the command line")
    from unrolled.bench import BENCHMARKS, run_benchmarks
    from unrolled.views.progress import MessageHandler

    unknown = [part for part in parts if part not in BENCHMARKS]
    if unknown:
        raise UsageError(
            f"bench has no part '{unknown[0]}'{did_you_mean(unknown[0], BENCHMARKS) or '.'} Parts: {', '.join(BENCHMARKS)}."
        )
    with MessageHandler(lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True), "unrolled.bench"):
        results = run_benchmarks(parts, options)
    print(json.dumps({"version": JSON_VERSION, **results}))
    return 0


def doctor(argv: list[str]) -> int:
    """Tell what there is, and try it."""
    cli_values = CommandParser("doctor", DOCTOR_HELP).parse_cli_values(argv)
    print(f"unrolled {__version__}: looking around", file=sys.stderr, flush=True)
    from unrolled.doctor import collect_findings, format_findings

    findings = collect_findings()
    print(json.dumps({"version": JSON_VERSION, **findings}) if cli_values["json"] else format_findings(findings))
    return 0 if findings["self_test"]["passed"] else 1
