"""`unrolled bench` and `unrolled doctor`: what the machine does."""

from __future__ import annotations

import json
import sys

from unrolled import __version__
from unrolled.cli.help import BENCH, DOCTOR
from unrolled.cli.parser import Parser
from unrolled.errors import UsageError, nearest
from unrolled.options import BenchOptions, from_dict


def bench(arguments: list[str]) -> int:
    """Measure this package against what people write instead."""
    parser = Parser("bench", BENCH)
    parser.add_argument("part", nargs="*", default=[], help="training, kernels, sampling, encoding, learning.")
    parser.options("benchmark", BenchOptions)
    typed = parser.parse(arguments)
    parts, as_json = typed.pop("part"), typed.pop("json")
    options = from_dict(BenchOptions, typed, "the command line")
    from unrolled.bench import PARTS, run

    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UsageError(f"bench has no part '{unknown[0]}'{nearest(unknown[0], PARTS) or '.'} Parts: {', '.join(PARTS)}.")
    results = run(parts, options, note=lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True))
    print(json.dumps({"version": 1, **results}))
    return 0


def doctor(arguments: list[str]) -> int:
    """Tell what there is, and try it."""
    typed = Parser("doctor", DOCTOR).parse(arguments)
    print(f"unrolled {__version__}: looking around", file=sys.stderr, flush=True)
    from unrolled.doctor import examine, show

    findings = examine()
    print(json.dumps({"version": 1, **findings}) if typed["json"] else show(findings))
    return 0 if findings["self_test"]["passed"] else 1
