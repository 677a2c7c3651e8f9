"""Sizes of the network of a text model that follow from its options, without building it."""

from __future__ import annotations

from unrolled.errors import UsageError
from unrolled.options import ModelOptions

LINEAR_CELLS = ("mingru", "minlstm", "rg-lru")
"""The cells whose gates depend on the input only: they have no `weight_hh` and no second bias."""

HARD_SIGMOID_CELLS = {cell: f"{cell}-hard-sigmoid" for cell in ("gru", "gru-reset-before", "lstm")}
"""For cells with sigmoids as gates, their form with the hard sigmoid of Keras before 2.3, `clip(0.2 x + 0.5, 0, 1)`."""

MOGRIFIER_CELLS = ("mogrifier-gru", "mogrifier-lstm")
MOGRIFIER_ROUNDS = 5
"""Rounds in which input and state modulate each other: the input in the odd ones, counted from 1, the state in the others.
Five is the number that the paper found best."""


def sigmoid_cell(cell: str) -> str:
    """Return the cell with sigmoids that a cell of `HARD_SIGMOID_CELLS` else is; of any other cell, itself."""
    return cell.removesuffix("-hard-sigmoid")


def cell_shapes(cell: str, num_gates: int, input_size: int, size: int, two_biases: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of a cell of `size` units, by its name."""
    rows = num_gates * size
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size), "bias": (rows,)}
    if cell not in LINEAR_CELLS:
        shapes["weight_hh"] = (rows, size)
        shapes |= {"bias_hh": (rows,)} if two_biases else {}
    if cell in MOGRIFIER_CELLS:
        shapes["mogrifier_q"] = (MOGRIFIER_ROUNDS - MOGRIFIER_ROUNDS // 2, input_size, size)
        shapes["mogrifier_r"] = (MOGRIFIER_ROUNDS // 2, size, input_size)
    return shapes | ({"decay_logit": (size,)} if cell == "rg-lru" else {})


def embedding_dim(vocab_size: int, options: ModelOptions) -> int:
    """Return E: the `embedding` option, V for one-hot (0), or the hidden size (None).

    Raises `UsageError` for residual layers of another size.
    """
    width = {None: options.hidden, 0: vocab_size}.get(options.embedding, options.embedding)
    if options.residual and width != options.hidden:
        raise UsageError(
            f"Residual layers need --embedding equal to --hidden ({options.hidden}), or --no-residual; got {width}."
        )
    return int(width or 0)


def text_network_shapes(vocab_size: int, num_gates: int, options: ModelOptions) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of a text model with cells of `num_gates` gates, under its name in a model file.

    Raises `UsageError` as `embedding_dim` does.
    """
    size, width = options.hidden, embedding_dim(vocab_size, options)
    shapes: dict[str, tuple[int, ...]] = {"head.weight": (vocab_size, size), "head.bias": (vocab_size,)}
    if options.embedding != 0:
        shapes["embedding.weight"] = (vocab_size, width)
    for index in range(options.layers):
        layer = f"stack.layers.{index}."
        cell = cell_shapes(options.cell, num_gates, size if index else width, size, options.two_biases)
        shapes |= {f"{layer}cell.{name}": shape for name, shape in cell.items()}
        if options.residual:
            shapes |= {f"{layer}norm.{name}": (size,) for name in ("weight", "bias")}
    return shapes


def window_network_shapes(vocab_size: int, is_bidirectional: bool, options: ModelOptions) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of a network that reads windows (see `TextNetwork`), under its name in a model file.

    Its layers are plain LSTMs, whose other direction, if there is one, is under `backward`.
    """
    size, width = options.hidden, embedding_dim(vocab_size, options)
    directions = ("cell", "backward") if is_bidirectional else ("cell",)
    layer_width = size * len(directions)
    features = width + options.layers * layer_width
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocab_size, width), "attention.weight": (features,)}
    shapes |= {"head.weight": (vocab_size, features), "head.bias": (vocab_size,)}
    for index in range(options.layers):
        for direction in directions:
            prefix = f"stack.layers.{index}.{direction}."
            shapes[f"{prefix}weight_ih"] = (4 * size, layer_width if index else width)
            shapes |= {f"{prefix}weight_hh": (4 * size, size), f"{prefix}bias": (4 * size,)}
    return shapes
