"""Activations of an encoder-decoder model while it reads one row of a table and predicts its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.display import Displayed
from unrolled.errors import DataError
from unrolled.evaluation.predictor import Prediction, Predictor
from unrolled.interpret.activations import cell_activations
from unrolled.nn.cell_wrappers import CellRecord, record_cells
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.tables.cell_values import Cell

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class RowActivations(Displayed):
    """A row's `prediction`, and the activations of S encoder steps and M decoder steps.

    `encoder` has the encoder's activations by name (h, c and the gates; if bidirectional, the backward units come after the
    forward ones), each `(S, L, H)`, and `decoder` the decoder's `(M, L, H)`; each is empty if the model has no such part.
    `source_tokens` are those of a text, or numbers as texts; `step_probs` `(S, labels)` the probabilities of labels that are
    aligned with the steps; `attention` `(M, S)` the attention weights.
    """

    source_tokens: list[str]
    prediction: Prediction
    encoder: dict[str, Array]
    decoder: dict[str, Array]
    step_probs: Array | None
    attention: Array | None

    @property
    def facts(self) -> Mapping[str, object]:
        return {"predicted": self.prediction.text, "source steps": len(self.source_tokens), "arrays": ", ".join(self.arrays())}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all arrays by name, for `numpy.savez`."""
        arrays_by_name = {f"encoder.{name}": values for name, values in self.encoder.items()}
        arrays_by_name |= {f"decoder.{name}": values for name, values in self.decoder.items()}
        if self.attention is not None:
            arrays_by_name["attention"] = self.attention
        return arrays_by_name


@torch.inference_mode()
def record_row(predictor: Predictor, cell: Cell) -> RowActivations:
    """Return the activations for one source cell, and the prediction, the same as that of `Predictor.predict`.

    Raises `DataError` for an empty cell.
    """
    model, source = predictor.model, predictor.spec.source
    steps = predictor.encode(cell)
    if not len(steps):
        raise DataError(f"{cell.location}: the source is empty, so the model has nothing to read: leave it out.")
    prediction, attention = predictor.predict_with_attention(cell)
    batch = predictor.collate([steps])
    step_probs = None
    with record_cells(model) as records:
        if model.decoder is None:
            logits = model.logits(batch)
            if predictor.spec.mode.output == "aligned" and model.dims.target_tensor_kind == "ids":
                step_probs = logits[:, 0, :-1].softmax(-1).float().cpu().numpy()
        else:
            ids = torch.from_numpy(np.asarray(prediction.values, dtype=np.int64)).to(model.device).unsqueeze(-1)
            memory = model.encode(batch)
            if len(ids):
                model.decoder(ids, memory)
    source_tokens = list(source.cell_tokens(cell)) if source.tokenizer is not None or source.kind == "numbers" else []
    return RowActivations(
        source_tokens,
        prediction,
        _encoder_activations(model, records),
        _decoder_activations(model, records),
        step_probs,
        attention,
    )


def _encoder_activations(model: EncoderDecoder, records: dict[str, CellRecord]) -> dict[str, Array]:
    """Return the encoder's activations `(S, L, H)`."""
    layers: list[dict[str, Tensor]] = []
    for index in range(model.options.layers):
        forward = records.get(f"encoder.layers.{index}.forward_cell")
        backward = records.get(f"encoder.layers.{index}.backward_cell")
        one_way = records.get(f"encoder.stack.layers.{index}.cell")
        if forward is not None and backward is not None:
            forward_values, backward_values = _record_activations(forward), _record_activations(backward)
            layers.append(
                {name: torch.cat([forward_values[name], backward_values[name].flip(0)], -1) for name in forward_values}
            )
        elif one_way is not None:
            layers.append(_record_activations(one_way))
    return _stack_layers(layers)


def _decoder_activations(model: EncoderDecoder, records: dict[str, CellRecord]) -> dict[str, Array]:
    """Return the decoder's activations `(M, L, H)`."""
    layers = [records.get(f"decoder.stack.layers.{index}.cell") for index in range(model.options.layers)]
    return _stack_layers([_record_activations(layer) for layer in layers if layer is not None])


def _record_activations(record: CellRecord) -> dict[str, Tensor]:
    return {name: values[:, 0] for name, values in cell_activations(record.cell, record.xs, record.state, record.ys).items()}


def _stack_layers(layers: list[dict[str, Tensor]]) -> dict[str, Array]:
    if not layers:
        return {}
    return {name: torch.stack([layer[name] for layer in layers], 1).float().cpu().numpy() for name in layers[0]}
