"""The examples do what they say; the worked example of the post is a test."""

import dataclasses
import itertools
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import unrolled
from support.modules import load_file
from unrolled.datasets.stdlib import PREFIX
from unrolled.datasets.tables import TABLES, Row

EXAMPLES = Path(__file__).parents[2] / "examples"


hello, numpy_rnn = (load_file(name, EXAMPLES / f"{name}.py") for name in ("hello", "min_char_rnn"))


def test_one_step_raises_the_right_score_and_lowers_the_others() -> None:
    rnn = hello.as_in_the_post()
    before = hello.scores(rnn, "he")[0].detach()
    assert before.tolist() == pytest.approx([1.0, 2.2, -3.0, 4.1], abs=1e-3)
    hello.descend(rnn, 0.04, "he")
    after = hello.scores(rnn, "he")[0].detach()
    assert after[1].item() == pytest.approx(2.3, abs=0.02)
    assert (after < before).tolist() == [True, False, True, True]


def test_hello_is_four_pairs_and_is_learned() -> None:
    assert hello.targets().tolist() == [1, 2, 2, 3]
    rnn = unrolled.RNN(4, 3, 4, seed=4)
    first = hello.descend(rnn, 0.3)
    for _ in range(300):
        last = hello.descend(rnn, 0.3)
    assert last < 0.1 < first
    assert hello.spell(rnn) == "hello"


def test_the_second_l_needs_the_state() -> None:
    rnn = unrolled.RNN(4, 3, 4, seed=4)
    for _ in range(300):
        hello.descend(rnn, 0.3)
    rnn.reset()
    answers = [int(rnn.step(hello.one_hot(letter)).argmax()) for letter in "hell"]
    assert [hello.LETTERS[answer] for answer in answers] == ["e", "l", "l", "o"]
    with torch.no_grad():
        rnn.W_hh.zero_()  # without the state both `l` get the same answer
    first, second = hello.scores(rnn)[2:]
    assert torch.equal(first, second)


def test_the_numpy_gradients_are_right() -> None:
    errors = numpy_rnn.gradient_check()
    assert set(errors) == {"W_xh", "W_hh", "W_hy", "b_h", "b_y"}
    assert max(errors.values()) < 1e-6


def test_the_numpy_network_agrees_with_ours() -> None:
    params = numpy_rnn.init_params(4, 3, np.random.default_rng(0), scale=0.5)
    rnn = unrolled.RNN(4, 3, 4).double()
    with torch.no_grad():
        for name, matrix in rnn.named_parameters():
            matrix.copy_(torch.from_numpy(params[name]))
    _, _, chances = numpy_rnn.forward(np.array([0, 1, 2, 2, 3]), np.zeros(3), params)
    torch.testing.assert_close(torch.from_numpy(chances), hello.scores(rnn.double()).softmax(-1).double(), rtol=1e-5, atol=1e-6)


def test_the_numpy_network_learns() -> None:
    _, _, loss = numpy_rnn.train("hello world, " * 20, steps=400, report_every=1000)
    assert loss < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hello", "min_char_rnn"])
def test_examples_run(name: str) -> None:
    arguments = ["--steps", "300"] if name == "min_char_rnn" else []
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py", *arguments], capture_output=True, text=True, check=True)
    assert done.stdout
    assert not done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((EXAMPLES / "modes").glob("*.toml")), ids=lambda path: path.stem)
def test_an_example_of_each_mode_trains(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table that the comment names is cut short here; what comes of all of it is measured, not tested."""
    words = path.read_text("utf-8").split()
    name = words[words.index("train") + 1].removeprefix(PREFIX)
    table = TABLES[name]

    def few(part: str) -> Iterator[Row]:
        return itertools.islice(table.rows(part), 40)

    monkeypatch.setitem(TABLES, name, dataclasses.replace(table, rows=few))
    settings = tomllib.loads(path.read_text("utf-8"))
    minutes = settings.pop("minutes")
    assert 0 < minutes <= 3
    model = unrolled.train_table(PREFIX + name, **settings, steps=2, hidden=8, out="r", progress=False)
    mode = model.spec.mode.name
    assert path.stem in (mode, "painter")
    assert model.evaluate().num_rows == 40
