"""Pages of docs/howto that are programs: their blocks run as they are written."""

import re
import shlex
from pathlib import Path

from support.cli import Cli, CommandResult

FOLDER = Path(__file__).parents[2] / "docs" / "howto"


def run_page(name: str, cli: Cli) -> list[tuple[list[str], CommandResult]]:
    """Run the blocks of Python and the commands of a page in their order; return the words and the result of each command."""
    results = []
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", (FOLDER / name).read_text("utf-8"), re.DOTALL):
        if language == "python":
            exec(compile(block, name, "exec"), {})
            continue
        for line in block.strip().splitlines():
            program, *words = shlex.split(line)
            assert program == "unrolled"
            result = cli(*words, *(["--threads", "1", "--sample-length", "0"] if words[0] == "train" else []))
            assert result.code == 0, result.err
            results.append((words, result))
    return results
