"""The house stands: imports go down, functions and files keep their budgets, and nothing hides in a catch-all."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "unrolled"
FLOORS = [
    {"errors"}, {"options", "files"}, {"data"}, {"nn"}, {"store"}, {"training", "inference"}, {"views"},
    {"material"}, {"kept"}, {"job"}, {"study"}, {"api", "doctor"}, {"bench"}, {"flags", "usage"}, {"commands"}, {"cli"},
    {"__main__"},
]  # fmt: skip
ORDER = {  # within a room, the order the data passes
    "data": [
        "vocab",
        "reading",
        "words",
        "builtin",
        "cldr",
        "glyphs",
        "builtin_tables",
        "sources",
        "identity",
        "cells",
        "columns",
        "kinds",
        "layout",
        "packed",
        "table",
        "task",
        "encoding",
        "shards",
        "workshop",
        "corpus",
        "batches",
        "pairs",
    ],
    "nn": [
        "cells",
        "stack",
        "hold",
        "loss",
        "attention",
        "reader",
        "writer",
        "pairs",
        "listen",
        "model",
        "network",
        "machine",
        "stateful",
        "kernels",
    ],
    "store": ["model_file", "run", "board"],
    "training": [
        "distributed",
        "optim",
        "learner",
        "pace",
        "schedule",
        "recipe",
        "pair_recipe",
        "verdict",
        "signals",
        "looks",
        "loop",
    ],
    "inference": [
        "generate",
        "evaluate",
        "judgement",
        "metrics",
        "decode",
        "answer",
        "loss",
        "score",
        "lines",
        "trace",
        "features",
        "probes",
        "cause",
        "reach",
        "anatomy",
        "row_trace",
        "saturation",
        "ngram",
        "memory",
    ],
    "material": ["contract", "text", "table"],
    "views": ["console", "answers", "curves", "shades", "js_linker", "page", "heat", "explorer", "report"],
    "study": [
        "notebook",
        "subject",
        "rows",
        "scores",
        "writing",
        "explain",
        "explain_rows",
        "baselines",
        "logs",
        "report",
        "report_rows",
    ],
    "commands": ["train", "write", "judge", "inside", "machine"],
    "bench": ["peers", "subjects", "worker", "learning"],
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def floor(room: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> set[tuple[str, ...]]:
    tree = ast.parse(path.read_text("utf-8"))
    names = {f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module for a in n.names}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {tuple(name.split(".")[1:]) for name in names if name.startswith("unrolled.") and "__version__" not in name}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_go_down(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts
    for other in imports(path):
        if other[0] != own[0]:
            assert floor(other[0]) < floor(own[0]), f"{'.'.join(own)} imports {'.'.join(other)}"
        elif own[1] != other[1] and own[1] != "__init__":
            order = ORDER[own[0]]
            assert order.index(other[1]) < order.index(own[1]), f"{'.'.join(own)} imports {'.'.join(other)}"


def test_every_file_has_its_place() -> None:
    for path in FILES:
        own = path.relative_to(ROOT).with_suffix("").parts
        floor(own[0])
        assert not {"utils", "common", "helpers", "misc"} & set(own), path
        if len(own) > 1 and own[1] != "__init__":
            assert own[1] in ORDER[own[0]], f"{path} is not in the order of its room"


def code_lines(node: ast.AST, text: list[str], first: int, last: int) -> int:
    """Count lines that are no docstring of `node` or of anything in it."""
    hidden: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(inner):
            body = inner.body[0]
            hidden |= set(range(body.lineno, (body.end_lineno or body.lineno) + 1))
    return sum(1 for line in range(first, last + 1) if line not in hidden and text[line - 1].strip())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_budgets(path: Path) -> None:
    source = path.read_text("utf-8")
    tree, text = ast.parse(source), source.splitlines()
    assert code_lines(tree, text, 1, len(text)) <= 300, f"{path} is too long: split it by noun"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert code_lines(node, text, node.lineno, node.end_lineno or 0) <= 40, f"{path}: {node.name} is too long"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


def test_nothing_is_unpickled_or_evaluated() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "marshal", "shelve", "dill"}, path
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in {"eval", "exec", "torch.load", "torch.save", "np.load", "yaml.load"}, (path, name)


def test_only_files_replaces_files() -> None:
    for path in FILES:
        if path.name != "files.py":
            calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)}
            assert not calls & {"os.replace", "os.rename", "shutil.move"}, path
