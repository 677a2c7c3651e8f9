"""What is committed: nothing that a run, a build or a machine has left."""

import subprocess
from pathlib import Path, PurePath

import pytest

from unrolled.datasets.base_models import BASE_MODELS

ROOT = Path(__file__).parents[2]
GOLDEN = PurePath("tests/checkpoints/golden")


@pytest.fixture(scope="module")
def tracked() -> list[PurePath]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone: only git knows what is committed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    return [PurePath(name) for name in listed.stdout.split("\0") if name]


def test_no_run_folder_is_committed(tracked: list[PurePath]) -> None:
    left = [path for path in tracked if path.name in ("metrics.jsonl", "model.safetensors") or "checkpoints" in path.parts[:-2]]
    assert [str(path) for path in left if not path.is_relative_to(GOLDEN)] == []


FILES_AT_THE_TOP = {
    "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "constraints.txt", "package-lock.json",
    "package.json", "pyproject.toml", "tsconfig.json",
}  # fmt: skip


def test_no_other_file_lies_at_the_top(tracked: list[PurePath]) -> None:
    files = {path.name for path in tracked if len(path.parts) == 1 and not path.name.startswith(".")}
    assert files - FILES_AT_THE_TOP == set()


def test_every_folder_at_the_top_is_in_the_architecture(tracked: list[PurePath]) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    folders = {path.parts[0] for path in tracked if len(path.parts) > 1 and not path.parts[0].startswith(".")}
    assert {folder for folder in folders if f"{folder}/" not in page} == set()


def test_no_binary_is_large_and_none_is_a_weight_of_others(tracked: list[PurePath]) -> None:
    large = [str(path) for path in tracked if (ROOT / path).exists() and (ROOT / path).stat().st_size > 300_000]
    own_weights = [f"src/unrolled/datasets/base/{name}.safetensors" for name in BASE_MODELS]  # up to 6 MB: test_base_models.py
    assert large == own_weights
