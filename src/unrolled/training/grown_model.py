"""The network of a base model for the vocabulary of another text: its tokens stay, those that are new get rows of their own."""

from __future__ import annotations

import dataclasses
import logging
from typing import cast

import torch
from torch import Tensor

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.display import plural
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, TrainRequest
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

logger = logging.getLogger(__name__)

NEW_TOKEN_BIAS = -3.0
"""What is added to the output bias of a new token: it begins 20 times less likely than the token whose row it has."""


def grow_tokenizer(base: Tokenizer, text: Tokenizer, shrink: bool = False) -> Tokenizer:
    """Return the tokens of a base model, then those of a text that are new; with `shrink`, without those that it lacks.

    Example:
        >>> grow_tokenizer(CharTokenizer("abc"), CharTokenizer("bcd")).token_strings()
        ['a', 'b', 'c', 'd']
    """
    has_eos = text.eos_id is not None
    grown: Tokenizer
    if isinstance(base, CharTokenizer) and isinstance(text, CharTokenizer):
        known, used = set(base.tokens), set(text.tokens)
        kept = [token for token in base.tokens if token in used or not shrink]
        grown = text.with_tokens(kept + [token for token in text.tokens if token not in known])
    else:
        grown = ByteTokenizer(has_eos)
    grown.normalization, grown.line_format = text.normalization, text.line_format
    return grown


def log_growth(request: TrainRequest, base: Tokenizer, grown: Tokenizer) -> None:
    """Log how many characters of a vocabulary the base of a request does not know."""
    if num_new := len(set(grown.token_strings()) - set(base.token_strings())):
        name = request.training.init_from
        logger.info(f"the vocabulary grows by {plural(num_new, 'character')} that {name} does not know")


def row_sources(base: Tokenizer, grown: Tokenizer) -> list[list[int]]:
    """Return, for each token of `grown`, the ids of the base tokens whose mean is its row.

    That is the token itself; for a new character the one of the other case, without its accent or of a similar form; for the
    end of a document the line end; for any other all tokens.
    """
    everything = list(range(base.vocab_size))
    ids = {token: index for index, token in enumerate(base.token_strings()) if index != base.eos_id}
    sources = []
    for index, token in enumerate(grown.token_strings()):
        if index == grown.eos_id:
            line_end = [ids["\n"]] if "\n" in ids else everything
            sources.append(line_end if base.eos_id is None else [base.eos_id])
        elif token in ids:
            sources.append([ids[token]])
        else:
            nearest = cast(CharTokenizer, base).nearest_known(token) if len(token) == 1 else ""
            is_similar = bool(nearest.strip()) or token.isspace()
            sources.append([ids[char] for char in nearest] if nearest and is_similar else everything)
    return sources


def grow_model(base: TextModelFile, tokenizer: Tokenizer, options: ModelOptions) -> RecurrentLM:
    """Return a network for `tokenizer` with the weights of a base model; `options` may differ from its own in dropout only."""
    sources = row_sources(base.tokenizer, tokenizer)
    known = set(base.tokenizer.token_strings())
    is_new = [index != tokenizer.eos_id and token not in known for index, token in enumerate(tokenizer.token_strings())]

    def grow(rows: Tensor) -> Tensor:
        return torch.stack([rows[source].mean(0) for source in sources])

    weights = {name: weight.detach().clone() for name, weight in base.model.state_dict().items()}
    for name in {"embedding.weight", "head.weight", "head.bias"} & weights.keys():
        weights[name] = grow(weights[name])
    weights["head.bias"] += NEW_TOKEN_BIAS * torch.tensor(is_new)
    if options.embedding == 0:  # a column of the first layer is the vector of a token
        name = "stack.layers.0.cell.weight_ih"
        weights[name] = grow(weights[name].T).T.contiguous()
    with torch.random.fork_rng(devices=[]):
        network = RecurrentLM(tokenizer.vocab_size, dataclasses.replace(options))
    network.load_state_dict(weights)
    return network


def load_reader(model: EncoderDecoder, base: TextModelFile, tokenizer: Tokenizer) -> None:
    """Give the encoder of a table's model, which reads texts in `tokenizer`, the embedding and the layers of a base model.

    The vector of the unknown token is the mean of all. Norm, pooling and output layer stay as they are.
    """
    rows = base.model.embedding_matrix().detach()
    vectors = torch.stack([rows[source].mean(0) for source in row_sources(base.tokenizer, tokenizer)] + [rows.mean(0)])
    weights = {f"encoder.{name}": weight for name, weight in base.model.state_dict().items() if name.startswith("stack.")}
    weights["encoder.input_layer.embedding.weight"] = vectors
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or any(name.startswith(("encoder.stack.", "encoder.input_layer.")) for name in missing):
        raise ValueError("The base has another network than the encoder of the table.")
