"""Print the files of the package whose functions run while a command does, in the order in which they are entered.

    python scripts/walk.py sample runs/book --length 50

What only an import runs is left out.
"""

import sys
import threading
from pathlib import Path
from types import FrameType

import unrolled
from unrolled.cli.main import main

ROOT = Path(unrolled.__file__).parent


def is_import(frame: FrameType | None) -> bool:
    """Return whether a frame runs because a module of the package is imported."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(str(ROOT)):
            return True
        frame = frame.f_back
    return False


def walk(argv: list[str]) -> dict[str, list[str]]:
    """Run a command and return the functions that were called, by file."""
    entered: dict[str, list[str]] = {}

    def trace(frame: FrameType, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if path.startswith(str(ROOT)) and not is_import(frame):
            names = entered.setdefault(str(Path(path).relative_to(ROOT)), [])
            if frame.f_code.co_qualname not in names:
                names.append(frame.f_code.co_qualname)

    sys.settrace(trace)
    threading.settrace(trace)
    try:
        main(argv)
    finally:
        sys.settrace(None)
    return entered


if __name__ == "__main__":
    for number, (name, functions) in enumerate(walk(sys.argv[1:]).items(), 1):
        print(f"{number:3} {name}: {', '.join(functions)[:100]}", file=sys.stderr)
