"""The pages about molecules, genomes and music are programs: their blocks run as they are written."""

import re
import shlex
from pathlib import Path

from support.cli import Cli, CommandResult

PAGES = Path(__file__).parents[2] / "docs" / "howto"


def run_page(name: str, cli: Cli) -> dict[str, CommandResult]:
    outputs = {}
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", (PAGES / name).read_text("utf-8"), re.DOTALL):
        if language == "python":
            exec(compile(block, name, "exec"), {})
            continue
        for line in block.strip().splitlines():
            words = shlex.split(line)
            assert words[0] == "unrolled"
            result = cli(*words[1:], *(["--threads", "1", "--sample-length", "0"] if words[1] == "train" else []))
            assert result.code == 0, result.err
            outputs[words[1]] = result
    return outputs


def test_molecules(cli: Cli) -> None:
    outputs = run_page("molecules.md", cli)
    assert "bits per token" in outputs["eval"].out
    assert len(outputs["sample"].out.split()) >= 10
    assert re.search("10 of [0-9]+ samples were kept by", outputs["sample"].err)
    found = re.search(r'"valid": ?([0-9.]+)', Path("runs/molecules/report.html").read_text("utf-8"))
    assert found is not None
    assert float(found[1]) > 0.3


def test_genomes(cli: Cli) -> None:
    outputs = run_page("genomes.md", cli)
    assert "60 records" in outputs["train"].err
    assert "each read on both strands" in outputs["train"].err
    bits = re.search("([0-9.]+) bits per character", outputs["score"].out)
    assert bits is not None
    assert float(bits[1]) < 2
    assert set("".join(re.findall("^[A-Z]+$", outputs["sample"].out, re.MULTILINE))) <= set("ACGT")


def test_music(cli: Cli) -> None:
    outputs = run_page("music.md", cli)
    assert "200 tunes" in outputs["train"].err
    assert outputs["sample"].out.count("K:G") == 2
