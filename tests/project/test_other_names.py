"""What people of other libraries try first is there, or an error says what is here instead."""

import math
from pathlib import Path
from typing import Any

import pytest

import unrolled


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> unrolled.Model:
    folder = tmp_path_factory.mktemp("model")
    (folder / "book.txt").write_text("the cat sat on the mat\n" * 40)
    return unrolled.train(folder / "book.txt", steps=12, hidden=8, batch=2, bptt=8, out=folder / "run", progress=False)


def test_the_losses_of_a_training_by_step(model: unrolled.Model, tmp_path: Path) -> None:
    curve = unrolled.load(model.path.parent).loss_curve()
    assert curve == model.loss_curve()
    assert [point["step"] for point in curve] == sorted({int(point["step"] or 0) for point in curve})
    assert curve[-1]["step"] == 12
    assert all(curve[-1][name] is not None for name in ("train_nats", "val_nats", "lr", "epochs", "seconds"))
    assert min(point["val_nats"] or math.inf for point in curve) == pytest.approx(model.history["val_nats"], rel=0.1)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(model.path.read_bytes())
    with pytest.raises(unrolled.UnrolledError, match="is not in a run folder"):
        unrolled.load(alone).loss_curve()


def test_a_model_is_exported_from_python(model: unrolled.Model) -> None:
    result = model.export(to="numpy", out="book.py")
    assert result.checks
    assert repr(result).startswith("<unrolled.ExportResult: book.py (")
    assert len(repr(result)) < 128
    assert Path("book.py").read_bytes() == result.files[Path("book.py")]
    with pytest.raises(unrolled.UnrolledError, match="out='book.py' exists and is not overwritten"):
        model.export(to="numpy", out="book.py")
    with pytest.raises(unrolled.UnrolledError, match="float16=True is for to='onnx'"):
        model.export(to="numpy", float16=True)


def test_the_name_of_a_file_is_not_scored_as_a_text(model: unrolled.Model) -> None:
    Path("page.txt").write_text("the cat sat\n")
    with pytest.raises(
        unrolled.UnrolledError, match=r"'page.txt' is a file, .* score\(pathlib.Path\('page.txt'\)\) reads the file"
    ):
        model.score("page.txt")
    assert len(model.score(Path("page.txt")).bits) == len("the cat sat\n")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("generate", "sample(prompt"), ("fit", "unrolled.train"), ("save_pretrained", "export()"), ("state_dict", "network"),
     ("perplexity", "evaluate()"), ("logits", "trace(text)"), ("eval", "evaluate()"), ("finetune", "init_from=model.path"),
     ("train", "unrolled.train"), ("predict", "score(text)"), ("smaple", "")],
)  # fmt: skip
def test_attributes_of_other_libraries_are_hinted_at(model: unrolled.Model, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"'Model' object has no attribute '{name}'") as caught:
        getattr(model, name)
    assert hint in str(caught.value)
    assert not hasattr(model, name)


def test_a_model_of_a_table_is_evaluated_not_scored() -> None:
    model: Any = object.__new__(unrolled.TableModel)
    with pytest.raises(AttributeError, match=r"'TableModel' object has no attribute 'score': evaluate\(table\)"):
        model.score("table.csv")


def test_functions_of_other_libraries_are_hinted_at() -> None:
    module: Any = unrolled
    for name in ("resume", "serve", "pipeline", "load_model", "Trainer"):
        with pytest.raises(AttributeError, match=f"module 'unrolled' has no attribute '{name}': "):
            getattr(module, name)
    with pytest.raises(AttributeError, match=r"no attribute 'fit': train\(text\)"):
        module.fit("book.txt")
    with pytest.raises(AttributeError, match=r"no attribute 'sample': load\(run\).sample"):
        module.sample("runs/book")


def test_settings_of_other_libraries_are_hinted_at() -> None:
    for name, here in (("validation_split", "train_fraction"), ("n_epochs", "epochs")):
        options: dict[str, Any] = {name: 1}
        with pytest.raises(unrolled.UnrolledError, match=f"unknown setting '{name}'; did you mean '{here}'"):
            unrolled.train(text="abc" * 9, **options)


def test_what_is_hinted_at_for_texts_is_there(model: unrolled.Model) -> None:
    assert model.trace("the cat").logits.shape == (7, model.tokenizer.vocab_size)
    ids = model.tokenizer.encode("the cat")
    assert (model.tokenizer.decode(ids), len(ids)) == ("the cat", 7), "ids alone, as of the tokenizers of Hugging Face"
    assert len(model.tokenizer) == model.tokenizer.vocab_size
    started = unrolled.train(text="the cat sat\n" * 60, init_from=model.path, steps=1, out="started", progress=False)
    assert started.info()["network"] == model.info()["network"]


def test_one_setting_by_two_names_is_refused() -> None:
    with pytest.raises(
        unrolled.UnrolledError, match=r"^learning_rate is another name of lr, and both are given: leave one out"
    ):
        unrolled.train(text="the cat sat\n" * 60, lr=1e-3, learning_rate=0.1, steps=1)  # type: ignore[call-arg]
