"""Sizes of the network of a text model that follow from its options, without building it."""

from __future__ import annotations

from unrolled.errors import UsageError
from unrolled.options import ModelOptions


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
    size, width, rows = options.hidden, embedding_dim(vocab_size, options), options.hidden * num_gates
    shapes: dict[str, tuple[int, ...]] = {"head.weight": (vocab_size, size), "head.bias": (vocab_size,)}
    if options.embedding != 0:
        shapes["embedding.weight"] = (vocab_size, width)
    for index in range(options.layers):
        layer = f"stack.layers.{index}."
        shapes |= {f"{layer}cell.weight_ih": (rows, size if index else width), f"{layer}cell.weight_hh": (rows, size)}
        shapes |= {f"{layer}cell.{name}": (rows,) for name in ("bias", *(["bias_hh"] if options.two_biases else []))}
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
