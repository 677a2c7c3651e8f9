"""The page about logs is a program: its blocks run as they are written."""

import json
import re
import shlex
from pathlib import Path

from support.cli import Cli

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "logs.md"


def test_the_page_runs(cli: Cli) -> None:
    outputs = []
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        if language == "python":
            exec(compile(block, "logs.md", "exec"), {})
            continue
        for line in block.strip().splitlines():
            words = shlex.split(line)
            assert words[0] == "unrolled"
            result = cli(*words[1:], *(["--threads", "1", "--sample-length", "0"] if words[1] == "train" else []))
            assert result.code == 0, result.err
            outputs.append(result)
    trained, alerts, labelled, document, top, page = outputs
    assert "3,000 lines in" in trained.err
    assert "masked: " in trained.err
    assert re.search(r"line [\d,]+: [\d.]+ bits: 2026-03-01 .* worker: segfault at 0x", alerts.out)
    assert "held-out lines are above it, at most 0.02 of them" in alerts.out
    assert re.search(r"recall by label: .*unknown 1\.000", labelled.out)
    assert json.loads(document.out)["num_alerts"] > 0
    assert top.out.count("\n") >= 6
    assert "page: heat.html" in page.out
    assert Path("heat.html").is_file()
