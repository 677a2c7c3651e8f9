"""Python's three lines, and the promise that importing costs nothing."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import unrolled
from unrolled.errors import DataError, UsageError

SMALL: dict[str, Any] = {"hidden": 16, "batch": 4, "bptt": 8, "sample_length": 0, "progress": False, "eval_tokens": 100}


def test_three_lines_do_the_whole_thing(book: Path) -> None:
    model = unrolled.train(str(book), steps=40, **SMALL)
    text = model.sample("The ", length=30)
    assert text.startswith("The ")
    assert len(text) == 34
    loaded = unrolled.load("runs/book")
    assert loaded.sample("The ", length=30) == text == "The " + "".join(loaded.stream("The ", length=30))
    result = loaded.evaluate()
    assert model.result is not None
    assert model.result.val_nats is not None
    assert result.nats == pytest.approx(model.result.val_nats, abs=1e-3)
    assert result.num_unknown == 0
    shape = f"2x16 lstm, {loaded.parameters:,} parameters, {loaded.tokenizer.vocab_size} tokens"
    assert repr(loaded) == f"<unrolled.Model {shape}, runs/book/model.safetensors>"


def test_a_stopped_run_goes_on(book: Path) -> None:
    first = unrolled.train(str(book), steps=20, stop_after=5, **SMALL)
    assert first.result is not None
    assert (first.result.steps, first.result.stop_signal) == (5, 0)
    again = unrolled.train(resume="runs/book", stop_after=None, progress=False)
    assert again.result is not None
    assert (again.result.steps, again.result.stop_signal) == (20, None)


def test_a_model_file_is_all_that_is_needed(book: Path, tmp_path: Path) -> None:
    unrolled.train(str(book), steps=5, **SMALL)
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(Path("runs/book/model.safetensors").read_bytes())
    model = unrolled.load(moved)
    assert len(model.sample(length=10)) == 10
    with pytest.raises(UsageError, match="name the text"):
        model.evaluate()
    assert model.evaluate(str(book)).nats > 0


def test_two_models_share_nothing(book: Path) -> None:
    one = unrolled.train(str(book), steps=5, out="one", **SMALL)
    text = one.sample(length=20)
    unrolled.train(str(book), steps=5, out="two", seed=9, **SMALL)
    assert one.sample(length=20) == text


def test_unknown_options_name_the_nearest(book: Path) -> None:
    with pytest.raises(UsageError, match="unknown setting 'minuts'; did you mean 'minutes'"):
        unrolled.train(str(book), minuts=3)  # type: ignore[call-arg]  # that is the test
    model = unrolled.train(str(book), steps=3, **SMALL)
    with pytest.raises(UsageError, match="unknown setting 'temprature'"):
        model.sample(temprature=3)  # type: ignore[call-arg]  # that is the test
    with pytest.raises(UsageError, match="unknown setting 'max_tokens'; did you mean 'length'"):
        model.sample(max_tokens=3)  # type: ignore[call-arg]  # the name in other interfaces
    with pytest.raises(UsageError, match=r"sample\(\) has no option 'num_samples': samples\(count=\.\.\.\)"):
        model.sample(num_samples=3)  # type: ignore[call-arg]  # the name in other interfaces


def test_settings_are_values_of_numpy_and_torch_too(book: Path) -> None:
    settings: dict[str, Any] = {
        "steps": np.int64(3), "hidden": np.int32(8), "layers": np.array(1), "dropout": np.float32(0.25),
        "calibrate": np.bool_(False), "device": torch.device("cpu"), "precision": torch.float32, "threads": torch.tensor(1),
    }  # fmt: skip
    model = unrolled.train(str(book), out=Path("r"), sample_length=0, progress=False, **settings)
    options = model.network.options
    assert (options.hidden, options.layers, options.dropout) == (8, 1, 0.25)
    drawn: dict[str, Any] = {"length": np.int64(4), "seed": np.uint8(3)}
    assert len(model.sample(**drawn)) == 4
    with pytest.raises(UsageError, match="precision= is 'float64'; expected one of auto, float32, bfloat16"):
        unrolled.load("r", precision=torch.float64)
    with pytest.raises(UsageError, match="hidden= is 8.5; expected a whole number"):
        unrolled.train(str(book), hidden=np.float64(8.5))  # type: ignore[arg-type]  # that is the test
    with pytest.raises(UsageError, match="unknown setting 'from_'; did you mean 'init_from'"):
        unrolled.train(str(book), from_="none")  # type: ignore[call-arg]  # what is left of --from in Python


def test_what_is_no_text_and_no_table_says_what_to_give() -> None:
    with pytest.raises(UsageError, match="text is bytes, and a string is expected: decode bytes"):
        unrolled.train(text=b"abc")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(DataError, match="The text is empty"):
        unrolled.train(text="")
    x, y = np.random.default_rng(0).random((40, 2)), np.arange(40) % 2
    with pytest.raises(UsageError, match=r"np.column_stack\(\(X, y\)\), with source=\[0, 1\], target=2"):
        unrolled.train_table((x, y), source="x", target="y")
    with pytest.raises(UsageError, match=r"Several tables are given: train, test. Give one of them, such as data\['train'\]"):
        unrolled.train_table({"train": pa.table({"a": ["x"]}), "test": pa.table({"a": ["x"]})}, source="a", target="b")


def test_columns_without_names_are_named_by_their_numbers() -> None:
    x, y = np.random.default_rng(0).random((40, 2)), np.arange(40) % 2
    tiny: dict[str, Any] = {"hidden": 8, "layers": 1, "steps": 3, "threads": 1, "progress": False, "sample_length": 0}
    both = unrolled.train_table(np.column_stack((x, y)), source=[0, 1], target=2, out="a", **tiny)
    assert len(both.predict(x[:3])) == 3
    one = unrolled.train_table(np.column_stack((x, y)), source=0, target=2, out="b", **tiny)
    assert one.predict(x[:3, :1]) == one.predict(x[:3, 0]) == one.predict(x[:3, 0].tolist())


def test_a_list_of_paths_is_files_and_names_of_files_are_not_texts(book: Path) -> None:
    one = unrolled.train([book], steps=2, out="one", **SMALL)
    other = unrolled.train(book, steps=2, out="other", **SMALL)
    assert one.sample(length=20) == other.sample(length=20)
    with pytest.raises(UsageError, match=r"are names of files: write train\(\*names\)"):
        unrolled.train([str(book), str(book)], steps=2, **SMALL)
    with pytest.raises(UsageError, match="a bytes is given"):
        unrolled.train(b"abc" * 100, steps=2, **SMALL)  # type: ignore[arg-type]  # that is the test
    texts = unrolled.train([str(book), "a text"] * 20, steps=2, out="texts", **SMALL)
    assert set(texts.tokenizer.token_strings()) >= set(str(book) + "a text")


def test_a_text_itself_is_evaluated_and_explained(book: Path) -> None:
    model = unrolled.train(book, steps=2, out="r", **SMALL)
    text = book.read_text("utf-8")
    assert model.evaluate(text=text).nats == model.evaluate(book).nats
    assert model.explain(text=text, length=100, probe_length=200).to_json()["page"]
    with pytest.raises(UsageError, match="give one of them"):
        model.explain(book, text=text)
    with pytest.raises(UsageError, match="text is int"):
        model.evaluate(text=3)  # type: ignore[arg-type]  # that is the test


def test_all_is_what_can_be_had_and_sorted() -> None:
    assert list(unrolled.__all__) == sorted(unrolled.__all__)
    for name in unrolled.__all__:
        assert getattr(unrolled, name) is not None
        assert name in dir(unrolled)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unrolled.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_starts_nothing() -> None:
    code = "import sys, threading, unrolled; print('torch' in sys.modules, threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False 1\n"
    assert importlib.import_module("unrolled").__version__


def test_sampling_imports_neither_training_nor_pages(book: Path) -> None:
    unrolled.train(str(book), steps=5, out="r", **SMALL)
    code = (
        "import sys, unrolled; model = unrolled.load('r'); model.sample('The ', length=5); list(model.stream(length=5));"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert "unrolled.generation.sampling" in names
    heavy: tuple[str, ...] = (
        "unrolled.training",
        "unrolled.checkpoints.tensorboard",
        "unrolled.views.explorer",
        "unrolled.views.report",
    )
    heavy += ("unrolled.views.html_page", "unrolled.analysis.report", "unrolled.analysis.explain", "unrolled.interpret.probes")
    assert [name for name in names if name.startswith((*heavy, "tensorboard", "torch.utils.tensorboard"))] == []


def test_a_run_of_the_other_kind_is_refused_before_training(book: Path) -> None:
    with pytest.raises(UsageError, match="training of a table: use unrolled.train_table"):
        unrolled.train("builtin:digits", steps=1, progress=False)
    with pytest.raises(UsageError, match="training of a text: use unrolled.train"):
        unrolled.train_table(str(book), steps=1, progress=False)
    unrolled.train(str(book), steps=20, stop_after=5, **SMALL)
    with pytest.raises(UsageError, match="training of a text"):
        unrolled.train_table(resume="runs/book")
    with pytest.raises(UsageError, match="unknown setting 'stepz'"):
        unrolled.train(resume="runs/book", stepz=3)  # type: ignore[call-arg]  # that is the test
