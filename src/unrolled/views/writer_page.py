"""A text model as one HTML page that works offline: write from a prompt, score a text, and show or clamp a unit.

The page computes with the portable step, in `static/writer/portable.js`, and replays test vectors when it opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unrolled.generation.prompt_replacements import prompt_replacements
from unrolled.runtime.portable import PortableNetwork
from unrolled.text.tokenizer import Tokenizer
from unrolled.views.html_page import WASM_POLICY, pack_array, render_page
from unrolled.views.portable_data import layer_data, matrix_data, packed_products

STYLES = ("shared/page.css", "writer/writer.css")
SCRIPT = "writer/main.js"
BODY = "writer/writer.html"


def writer_page(portable: PortableNetwork, tokenizer: Tokenizer, title: str, subtitle: str, vectors: Mapping[str, Any]) -> str:
    """Return the page of a model with int8 weights.

    Args:
        portable: The model. Raises `ValueError` for other weights than int8.
        tokenizer: Its tokenizer.
        title: The heading.
        subtitle: A short description of the model.
        vectors: Test vectors: `tokens`, `hashes`, `temperature`, `seed`, `drawn`.
    """
    data = {"title": title, "subtitle": subtitle, "vectors": dict(vectors)}
    data |= {"network": network_data(portable), "tokens": token_data(tokenizer)}
    return render_page(title, STYLES, SCRIPT, data, BODY, WASM_POLICY)


def token_data(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the tokens of a model as JSON values."""
    num_characters = tokenizer.vocab_size - (tokenizer.eos_id is not None)
    replacements = prompt_replacements(tokenizer)
    return {
        "isBytes": tokenizer.reads_bytes,
        "codePoints": tokenizer.code_point_of_id[:num_characters].tolist(),
        "beginId": tokenizer.bos_id,
        "endId": tokenizer.eos_id,
        "normalForm": None if tokenizer.normalization == "none" else tokenizer.normalization.upper(),
        "replacements": list(replacements.characters.items()),
        "otherReplacement": replacements.other,
    }


def network_data(portable: PortableNetwork) -> dict[str, Any]:
    """Return a network as JSON values, its arrays packed."""
    if portable.weights != "int8":
        raise ValueError(f"the page has int8 weights; got {portable.weights}")
    return {
        "cell": portable.network.cell,
        "stateNames": list(portable.network.state_names),
        "hiddenSize": portable.network.hidden_size,
        "vocabSize": portable.network.vocab_size,
        "embedding": matrix_data(portable.embedding),
        "layers": [layer_data(layer, portable.is_one_hot and index == 0) for index, layer in enumerate(portable.layers)],
        "head": matrix_data(portable.head),
        "headBias": pack_array(portable.head_bias),
        "products": packed_products(),
    }
