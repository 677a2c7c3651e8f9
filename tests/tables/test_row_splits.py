"""Which rows of a table are held out, and what the splits share."""

from __future__ import annotations

import logging
import random
import re
from pathlib import Path

import numpy as np
import pytest

from unrolled.checkpoints.model_file import TableModelFile
from unrolled.errors import DataError
from unrolled.options import TrainRequest
from unrolled.training.tasks.series import reopen_table_task
from unrolled.training.tasks.table import TableTask

WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nrst"]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return str(path)


def open_task(path: str, **options: object) -> TableTask:
    values = {"source": "text:text", "target": "label:label", "seed": 1, **options}
    return TableTask(TrainRequest.build((path,), values, "test").check(), None)


def cells(task: TableTask) -> tuple[set[str], set[str], set[str]]:
    """Return the sources of the three splits."""
    train = {task.spec.source.decode(task.dataset.source[int(row)]) for row in task.train_rows}
    validation, test = ({source.value for source, _ in part} for part in (task.validation_cells, task.test_cells))
    return train, validation, test


def test_equal_sources_are_in_one_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(0)
    rows = [(word, label) for word in WORDS[:60] for label in [rng.choice("ab")] for _ in range(4)]
    path = write_rows(tmp_path / "t.csv", rows)
    with caplog.at_level(logging.INFO):
        parts = cells(open_task(path, test_fraction=0.05, tokens="characters"))
    assert all(len(part) for part in parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert "have a source that" not in caplog.text
    with caplog.at_level(logging.INFO):
        open_task(path, split_by="row")
    assert "validation rows have a source that training rows have too" in caplog.text


def test_texts_that_differ_in_case_and_blanks_only_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(form, "ab"[i % 2]) for i, word in enumerate(WORDS) for form in (f"{word} x", f"{word.upper()}  X")]
    with caplog.at_level(logging.INFO):
        open_task(write_rows(tmp_path / "t.csv", rows), tokens="characters", test_fraction=0.0)
    assert re.search(
        r"\d+ of the \d+ validation rows have a source that training rows have too, but for case and b", caplog.text
    )


def test_the_splits_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [(word, "ab"[word[1] in "ae"]) for word in WORDS for _ in range(5)]
    first = open_task(write_rows(tmp_path / "a.csv", rows))
    random.Random(1).shuffle(rows)
    second = open_task(write_rows(tmp_path / "b.csv", rows))
    assert len(first.test_rows) == len(second.test_rows) == 35, "700 rows have a test split"
    for one, other in ((first.train_rows, second.train_rows), (first.test_rows, second.test_rows)):
        assert [first.dataset.source[int(row)].tolist() for row in one] == [
            second.dataset.source[int(row)].tolist() for row in other
        ]
    assert [source.value for source, _ in first.validation_cells] == [source.value for source, _ in second.validation_cells]


def test_labels_as_source_are_drawn_row_by_row_and_what_is_shared_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("red" if index % 2 else "blue", "ab"[index % 2]) for index in range(100)]
    with caplog.at_level(logging.INFO):
        task = open_task(write_rows(tmp_path / "t.csv", rows), source="text:label")
    assert len(task.validation_rows) == 10
    assert "10 of the 10 validation rows have a source that training rows have too" in caplog.text


def test_by_order_the_last_rows_are_held_out(tmp_path: Path) -> None:
    rows = [(word, "ab"[index % 2]) for index, word in enumerate(WORDS)]
    task = open_task(write_rows(tmp_path / "t.csv", rows), split_by="order", test_fraction=0.05)
    assert [source.value for source, _ in task.validation_cells + task.test_cells] == [word for word, _ in rows[-14:]]
    assert task.train_rows.tolist() == list(range(126))


def test_the_rows_of_another_table_are_compared_with_the_training_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(word, "ab"[index % 2]) for index, word in enumerate(WORDS)]
    other = write_rows(tmp_path / "v.csv", [*rows[:3], ("zzz", "a")])
    with caplog.at_level(logging.INFO):
        task = open_task(write_rows(tmp_path / "t.csv", rows), validation=other, tokens="characters")
    assert len(task.train_rows) == len(rows)
    assert len(task.validation_cells) == 4
    assert "3 of the 4 validation rows have a source that" in caplog.text


def test_the_rows_of_another_table_are_left_out_by_the_same_rules(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(word, word[::-1]) for word in WORDS]
    other = write_rows(tmp_path / "v.csv", [rows[0], ("", "x"), ("zz", "y" * 30), rows[2]])
    with caplog.at_level(logging.INFO):
        task = open_task(
            write_rows(tmp_path / "t.csv", rows),
            validation=other,
            target="label:characters",
            source="text:characters",
            max_length=9,
        )
    assert [source.value for source, _ in task.validation_cells] == [WORDS[0], WORDS[2]]
    assert len(task.validation_rows) == 2
    assert f"{other}: 1 of 4 rows is left out, a cell being empty: line 3" in caplog.text
    assert f"{other}: 1 of 4 rows is left out, since the target has more than 9 steps: line 4 (see --max-length)" in caplog.text


def test_single_rows_are_drawn_as_before_the_option(tmp_path: Path) -> None:
    rows = [(word, "ab"[index % 2]) for index, word in enumerate(WORDS)]
    task = open_task(write_rows(tmp_path / "t.csv", rows), split_by="row", test_fraction=0, seed=5)
    draws = np.random.default_rng([5, 2]).random(len(rows))
    assert task.validation_rows.tolist() == np.flatnonzero(draws < 1 - 0.9).tolist()


def test_a_table_that_has_changed_is_refused_before_its_rows_are_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(word, "ab"[word[1] in "ae"]) for word in WORDS[:60]]
    task = open_task(write_rows(tmp_path / "t.csv", rows))
    assert task.trained_share[0] == 60 - len(task.validation_cells) - len(task.test_cells) == len(task.train_rows)
    request = TrainRequest.build((task.table.name,), {"source": "text:text", "target": "label:label"}, "test").check()
    model_file = TableModelFile(task.build_model(request), task.spec)
    assert len(reopen_table_task(request, task.origin, model_file).dataset) == 60
    write_rows(tmp_path / "t.csv", rows[1:])
    monkeypatch.setattr(TableTask, "_encode_rows", lambda *arguments: pytest.fail("the rows were encoded"))
    with pytest.raises(DataError, match="table of this run has changed since"):
        reopen_table_task(request, task.origin, model_file)
