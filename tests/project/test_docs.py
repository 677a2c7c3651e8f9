"""The documentation agrees with the code: files, commands, flags, tests and links that it names exist."""

import dataclasses
import re
import runpy
import shlex
import typing
from pathlib import Path
from typing import Any

from unrolled.cli.registry import COMMANDS
from unrolled.exchange.export_options import ExportOptions
from unrolled.exchange.import_options import ImportOptions
from unrolled.options import (
    OPTION_CLASSES,
    PRESETS,
    AlertOptions,
    BenchOptions,
    EvaluateOptions,
    ExplainOptions,
    PredictOptions,
    ReportOptions,
    SampleOptions,
    ScoreOptions,
    ServeOptions,
    flag_name,
)
from unrolled.training.callbacks import Progress
from unrolled.training.launch import TrainResult

ROOT = Path(__file__).parents[2]
OTHER_PROGRAMS = {
    *("--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--max-restarts"),
    *("--nodes", "--ntasks-per-node", "--scoring", "--measure", "--compare", "--megabytes", "--debug"),
    *("--data-binary", "--no-stream"),
}
"""Flags of torchrun, srun, curl, llm, benchmarks/figures.py and benchmarks/scaling.py, which the documents name."""

OTHERS = (
    SampleOptions,
    PredictOptions,
    EvaluateOptions,
    AlertOptions,
    ScoreOptions,
    ExplainOptions,
    ReportOptions,
    BenchOptions,
    ExportOptions,
    ImportOptions,
    ServeOptions,
)
README = (ROOT / "README.md").read_text("utf-8")


def test_the_tree_in_the_architecture_page_is_the_tree() -> None:
    tree = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("src/unrolled/\n")[1].split("    native/")[0]
    commands = ROOT / "src" / "unrolled" / "cli" / "commands"
    files = {path.name for path in (ROOT / "src").rglob("*.py") if commands not in path.parents}
    assert set(re.findall(r"\b([a-z_0-9]+\.py)\b", tree)) == files - {"__init__.py", "__main__.py"}


def test_commands_and_flags_in_the_documents_exist() -> None:
    fields = {name for kind in (*OPTION_CLASSES, *OTHERS) for name in vars(kind).get("__dataclass_fields__", {})}
    switches = {name for kind in OPTION_CLASSES for name, hint in typing.get_type_hints(kind).items() if hint is bool}
    fields |= {f"no_{name}" for name in switches}
    known = (
        {*map(flag_name, fields)}
        | {"--json", "--allow-change", "--preset", "--config", "--resume", "--help", "--prompt-file", "--midi"}
        | OTHER_PROGRAMS
    )
    options = [field for kind in (*OPTION_CLASSES, *OTHERS) for field in dataclasses.fields(kind)]
    old = {f"--{name.replace('_', '-')}" for field in options for name in field.metadata["old_names"]}
    for path in (*PAGES, ROOT / "CHANGELOG.md"):
        text = path.read_text("utf-8")
        allowed = known | old if path.name == "CHANGELOG.md" else known
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) <= allowed, path
        assert set(re.findall(r"`unrolled ([a-z]+)\b", text)) <= {*COMMANDS, "help"}, path
        assert set(re.findall(r"--preset ([a-z][\w-]*)", text)) <= set(PRESETS), path


def test_tests_that_are_named_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "post.md").read_text("utf-8"))
    assert len(named) > 30
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text("utf-8"), f"{file}::{name}"


def test_source_files_that_documents_and_native_comments_name_exist() -> None:
    folders = ("src", "native", "tests", "docs", "benchmarks", "examples", "scripts")
    paths = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*")]
    known = {"/".join(path.parts[start:]) for path in paths for start in range(len(path.parts))}
    named = [
        (path, name)
        for path in (*PAGES, ROOT / "CONTRIBUTING.md")
        for name in re.findall(r"`((?:[\w*.-]+/)+[\w*-]+\.(?:py|[ch]pp|js))[`:]", path.read_text("utf-8"))
    ] + [
        (path, name)
        for path in (ROOT / "native").rglob("*.[ch]pp")
        for comment in re.findall(r"//(.*)", path.read_text("utf-8"))
        for name in re.findall(r"[\w/]+\.(?:py|[ch]pp)\b", comment)
    ]
    assert len(named) > 150
    dead = [
        f"{path.relative_to(ROOT)}: {name}" for path, name in named if name not in known and not re.search(r"NAME|\*", name)
    ]
    assert dead == []


def test_names_that_documents_place_in_a_file_are_defined_there() -> None:
    names, file = r"((?:`[A-Za-z_]\w*(?:\.\w+)?`(?:, | and )?)+)", r"`((?:[\w]+/)+\w+\.py)`"
    placed = re.compile(rf"{names} (?:in |of |\()(?:a module of )?{file}")
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"))
    found = [(name, path) for listed, path in placed.findall(pages) for name in re.findall(r"`([\w.]+)`", listed)]
    assert len(found) > 50
    for name, path in found:
        source = (ROOT / "src" / "unrolled" / path).read_text("utf-8")
        assert re.search(rf"\b(?:class|def) {name.split('.')[-1]}\b|^{name} ?[:=]", source, re.MULTILINE), f"{name} in {path}"


def test_the_run_folder_page_explains_every_key() -> None:
    page = (ROOT / "docs" / "run-folder.md").read_text("utf-8")
    metrics, result = page.split("## metrics.jsonl")[1].split("## train --json")
    assert {field.name for field in dataclasses.fields(TrainResult)} <= set(re.findall(r"`(\w+)`", result))
    record = Progress(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, None, None).to_record()
    assert {*record, "val_nats", "val_bits"} <= set(re.findall(r"`(\w+)`", metrics))


def test_the_changelog_knows_this_version() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


PAGES = (ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts))


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 10_000


def test_links_resolve() -> None:
    for path in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if not link.startswith(("http:", "https:", "#")):
                assert (path.parent / link.split("#")[0]).exists(), f"{path}: {link}"


def test_the_command_line_reference_and_examples_are_up_to_date() -> None:
    generator: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))
    assert generator["reference"]() == generator["PAGE"].read_text("utf-8"), "run `python docs/generate_cli.py`"
    flags = {name: set(generator["command_parser"](name)._option_string_actions) for name in COMMANDS}
    found = 0
    for path in (*PAGES, ROOT / "CONTRIBUTING.md"):
        for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", " ").splitlines()
            typed_lines = lines if kind == "sh" else [line[2:] for line in lines if line.startswith("$ ")]
            for command, *arguments in unrolled_commands(typed_lines):
                found += 1
                assert command in COMMANDS, f"{path}: unrolled {command}"
                typed = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
                assert typed <= flags[command], f"{path}: unrolled {command}: {typed - flags[command]}"
    assert found > 30


def unrolled_commands(lines: list[str]) -> list[list[str]]:
    """Return the words after each `unrolled` in lines of shell commands, up to the end of that command."""
    commands = []
    for line in lines:
        words = shlex.shlex(line, posix=True, punctuation_chars="|;<>&")
        words.whitespace_split = True
        segments: list[list[str]] = [[]]
        for word in words:
            if set(word) <= set("|;<>&"):
                segments.append([])
            else:
                segments[-1].append(word)
        commands += [words[words.index("unrolled") + 1 :] for words in segments if "unrolled" in words[:-1]]
    return commands
