"""Small random models of tables."""

from typing import Any

import torch

from unrolled.nn.device import select_device
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.kernels.select import set_kernel
from unrolled.options import MachineOptions, ModelOptions, PairOptions
from unrolled.tables.pair_batching import PairDataset

MACHINE = select_device(MachineOptions(precision="float32", threads=1))


def random_encoder_decoder(pairs: PairDataset, cell: str = "lstm", **pair: Any) -> EncoderDecoder:
    """Return a model for some pairs with weights large enough that every gate moves."""
    torch.manual_seed(5)
    options = ModelOptions(cell=cell, hidden=12, layers=2, dropout=0.0)  # type: ignore[arg-type]  # a name of a cell
    model = EncoderDecoder(pairs.spec.dims, options, PairOptions(**pair)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    set_kernel(model, "auto")
    return model
