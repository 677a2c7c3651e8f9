"""What the documents say is so: files, commands, flags and tests that they name exist."""

import re
import typing
from pathlib import Path

from unrolled.cli.main import COMMANDS
from unrolled.options import (
    OPTION_CLASSES,
    PRESETS,
    BenchOptions,
    EvaluateOptions,
    ExplainOptions,
    PredictOptions,
    ReportOptions,
    SampleOptions,
    ScoreOptions,
)

ROOT = Path(__file__).parents[2]
OTHER_PROGRAMS = {
    *("--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--max-restarts"),
    *("--nodes", "--ntasks-per-node", "--scoring", "--measure", "--compare"),
}
"""Flags of torchrun, srun, benchmarks/figures.py and benchmarks/scaling.py, which the documents name."""

OTHERS = (SampleOptions, PredictOptions, EvaluateOptions, ScoreOptions, ExplainOptions, ReportOptions, BenchOptions)
TESTS = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
README = (ROOT / "README.md").read_text("utf-8")


def test_the_readme_tree_is_the_tree() -> None:
    tree = README.split("## The house")[1].split("## ")[0]
    named = set(re.findall(r"\b([a-z_]+\.py)\b", tree))
    there = {path.name for path in (ROOT / "src").rglob("*.py")} | {path.name for path in (ROOT / "examples").glob("*.py")}
    there |= {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    there -= {"__init__.py", "__main__.py", "aten.py"}
    assert named - {"test_floors.py"} == there


def test_commands_and_flags_in_the_documents_exist() -> None:
    fields = {name for kind in (*OPTION_CLASSES, *OTHERS) for name in vars(kind).get("__dataclass_fields__", {})}
    switches = {name for kind in OPTION_CLASSES for name, hint in typing.get_type_hints(kind).items() if hint is bool}
    fields |= {f"no_{name}" for name in switches}
    known = (
        {f"--{name.replace('_', '-')}" for name in fields}
        | {
            "--json",
            "--allow-change",
            "--preset",
            "--config",
            "--resume",
            "--help",
        }
        | OTHER_PROGRAMS
    )
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        text = path.read_text("utf-8")
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) <= known, path
        assert set(re.findall(r"`?unrolled ([a-z]+) ", text)) <= {*COMMANDS}, path
        assert set(re.findall(r"--preset ([\w-]+)", text)) <= set(PRESETS), path


def test_tests_that_are_named_exist() -> None:
    for file, name in re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "post.md").read_text("utf-8")):
        assert f"def {name}(" in TESTS[file].read_text("utf-8"), f"{file}::{name}"


def test_the_changelog_knows_this_version() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
