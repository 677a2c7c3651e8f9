"""Small random models of tables."""

from typing import Any

import torch

from unrolled.nn.device import choose_machine
from unrolled.nn.encoder_decoder import PairModel
from unrolled.nn.kernels import use
from unrolled.options import MachineOptions, ModelOptions, PairOptions
from unrolled.tables.pair_batching import Pairs

MACHINE = choose_machine(MachineOptions(precision="float32", threads=1))


def random_encoder_decoder(pairs: Pairs, cell: str = "lstm", **pair: Any) -> PairModel:
    """Return a model for some pairs with weights large enough that every gate moves."""
    torch.manual_seed(5)
    options = ModelOptions(cell=cell, hidden=12, layers=2, dropout=0.0)  # type: ignore[arg-type]  # a name of a cell
    model = PairModel(pairs.task.shape, options, PairOptions(**pair)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    use(model, "auto")
    return model
