"""A cell from outside the package: a class and one entry in CELLS, and everything else works with it."""

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import unrolled
from support.cli import TINY_RUN, Cli
from unrolled.bench.languages import choose, compare
from unrolled.errors import UsageError
from unrolled.nn.cells import CELLS, GatedCell, GRUState
from unrolled.nn.kernels.select import available_kernels, set_kernel
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, check, choices


class MGUCell(GatedCell):
    """The minimal gated unit (Zhou et al. 2016): f = sigmoid(W_f x + U_f h + b_f), n = tanh(W_n x + U_n (f * h) + b_n)."""

    num_gates = 2
    gate_names = ("f", "n")

    def initial_state(self, batch_size: int) -> GRUState:
        return GRUState(self.weight_hh.new_zeros(batch_size, self.hidden_size))

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        f_x, n_x = F.linear(x, self.weight_ih, self.bias).chunk(2, -1)
        u_f, u_n = self.weight_hh.chunk(2)
        f = torch.sigmoid(f_x + F.linear(h, u_f))
        return f, torch.tanh(n_x + F.linear(f * h, u_n))

    def step(self, x: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
        f, n = self.gate_activations(x, state.h)
        h = (1 - f) * state.h + f * n
        return h, GRUState(h)


@pytest.fixture
def mgu() -> Iterator[Any]:
    CELLS["mgu"] = MGUCell
    yield "mgu"
    del CELLS["mgu"]


def test_the_names_that_options_list_are_those_of_the_cells() -> None:
    hint = typing.get_type_hints(ModelOptions)["cell"]
    assert list(CELLS) == list(typing.get_args(hint)) == list(choices("cell", hint))


def test_a_registered_cell_steps_and_unrolls(mgu: Any) -> None:
    model = RecurrentLM(5, ModelOptions(cell=mgu, hidden=6, layers=2)).eval()
    ids = torch.randint(5, (7, 3))
    logits, final_state = model(ids, model.initial_state(3))
    state = model.initial_state(3)
    for t in range(len(ids)):
        step_logits, state = model.step(ids[t], state)
        torch.testing.assert_close(step_logits, logits[t])
    torch.testing.assert_close(state.layers[1].h, final_state.layers[1].h)


def test_a_registered_cell_is_put_through_the_languages(mgu: Any) -> None:
    """All that it needs is to be in `CELLS`: its size follows, and it learns to keep the first token."""
    (row,) = compare(["first-token"], [mgu], 0.2, [1], (40,))
    assert row["model"] == mgu
    assert row["steps"] > 1
    assert "mgu" in choose("--cells", None, CELLS)
    assert "lstm-hard-sigmoid" not in choose("--cells", None, CELLS)


def test_kernels_without_the_cell_refuse_it_by_name(mgu: Any) -> None:
    model = RecurrentLM(5, ModelOptions(cell=mgu, hidden=6))
    assert list(available_kernels(model)) == ["reference"]
    for kernel in ("native", "torch"):
        with pytest.raises(UsageError, match=f"kernels='{kernel}' cannot run this model: "):
            set_kernel(model, kernel)
    with pytest.raises(UsageError, match="torch has no fused layer for MGUCell"):
        set_kernel(model, "torch")


@pytest.mark.slow
def test_a_registered_cell_trains_saves_loads_samples_and_explains(mgu: Any, book: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"hidden": 12, "batch": 4, "bptt": 16, "sample_length": 0, "eval_tokens": 100}
    model = unrolled.train(str(book), progress=False, out=str(tmp_path / "run"), cell=mgu, steps=20, seed=1, **options)
    assert isinstance(model.network.cells()[0], MGUCell)
    assert model.kernels == "reference"
    loaded = unrolled.load(tmp_path / "run")
    assert loaded.sample("The ", length=40) == model.sample("The ", length=40)
    assert loaded.evaluate().bits < 8
    activations = loaded.trace("The dog")
    assert set(activations.gates) == {"f", "n"}
    assert loaded.explain(out=str(tmp_path / "explain.html"), length=200, probe_length=400)
    assert (tmp_path / "explain.html").is_file()


def test_the_command_line_takes_a_registered_cell(mgu: str, cli: Cli, book: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("train", book, "--cell", mgu, "--steps", 3, "--out", run, *TINY_RUN).code == 0
    assert len(cli("sample", run, "--length", 20).out) >= 20
    assert mgu in cli("train", "--help").out


def test_a_name_that_is_not_registered_is_refused() -> None:
    with pytest.raises(UsageError, match="cell= is 'mgu'; expected one of rnn, gru, gru-reset-before, lstm"):
        check(ModelOptions(cell=cast(Any, "mgu")))
