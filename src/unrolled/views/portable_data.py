"""Networks of the portable step as JSON values for the scripts of pages (`static/portable/packed_network.js`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from unrolled.runtime.portable import PortableLayer
from unrolled.runtime.portable_arithmetic import FloatMatrix, Floats, Int8Matrix, Matrix, TableMatrix
from unrolled.runtime.text_network import STATE_NAMES
from unrolled.views.html_page import pack_array
from unrolled.views.wasm_products import products_module


def layer_data(layer: PortableLayer, is_one_hot: bool = False) -> dict[str, Any]:
    """Return a layer as JSON values; `is_one_hot` if its inputs are tokens, which are then the rows of the input matrix."""
    norm_weight, norm_bias = layer.norm or (None, None)
    return {
        "input": matrix_data(layer.input, is_one_hot),
        "recurrent": matrix_data(layer.recurrent),
        "recurrentN": matrix_data(layer.recurrent_n),
        "bias": packed(layer.bias),
        "biasHh": packed(layer.bias_hh),
        "normWeight": packed(norm_weight),
        "normBias": packed(norm_bias),
        "rounds": [matrix_data(matrix) for matrix in layer.mogrifier],
        "decay": packed(layer.decay),
    }


def recurrent_layers(cell: str, hidden_size: int, layers: list[PortableLayer]) -> dict[str, Any]:
    """Return recurrent layers as JSON values."""
    return {
        "cell": cell,
        "stateNames": list(STATE_NAMES.get(cell, ("h",))),
        "hiddenSize": hidden_size,
        "layers": [layer_data(layer) for layer in layers],
    }


def linear_layer(
    name: str, weight: Floats | None, bias: Floats | None = None, matrix: type[TableMatrix] = FloatMatrix
) -> dict[str, Any]:
    """Return `NAMEWeight`, in a number format, and `NAMEBias` as JSON values."""
    return {f"{name}Weight": None if weight is None else matrix_data(matrix(weight)), f"{name}Bias": packed(bias)}


def packed_products() -> str:
    """Return the WebAssembly module of products and tanh, packed."""
    return pack_array(np.frombuffer(products_module(), np.uint8))


def packed(array: Floats | None) -> str | None:
    """Return an array packed, or None for None."""
    return None if array is None else pack_array(array)


def matrix_data(matrix: Matrix | None, is_transposed: bool = False) -> dict[str, Any] | None:
    """Return a matrix of int8 or float32 weights as JSON values, None for None.

    `is_transposed` is for the matrix of one-hot inputs, whose scales are those of its columns.
    """
    if not isinstance(matrix, Int8Matrix | FloatMatrix):
        return None
    weight = np.ascontiguousarray(matrix.weight.T) if is_transposed else matrix.weight
    rows, columns = weight.shape
    scale = packed(matrix.scale) if isinstance(matrix, Int8Matrix) else None
    return {"rows": rows, "columns": columns, "weight": pack_array(weight), "scale": scale}
