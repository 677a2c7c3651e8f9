"""Log-probabilities of the tokens of a given text."""

from __future__ import annotations

import math

import numpy as np

from unrolled.evaluation.surprisal import UNKNOWN_BITS
from unrolled.runtime.language_model import LanguageModel
from unrolled.server.catalog import LoadedModel
from unrolled.server.http_errors import ApiError
from unrolled.server.lanes import Filters, TokenInfo, log_softmax
from unrolled.server.limits import MAX_LOGPROB_TOKENS
from unrolled.server.requests import Prompt
from unrolled.text.tokenized_text import TokenizedText, from_ids

CHUNK_TOKENS = 1024


def score_tokens(model: LoadedModel, tokenized: TokenizedText, filters: Filters) -> list[TokenInfo]:
    """Return the tokens of a text, each with its log-probability given all before it, in nats.

    The first token of a text that is no document has no context, and so no log-probability. A character that the model does not
    know has the log-probability of one of all code points, as in `unrolled score`.
    """
    if len(tokenized) > MAX_LOGPROB_TOKENS:
        raise ApiError(400, f"The text has {len(tokenized):,} tokens, and at most {MAX_LOGPROB_TOKENS:,} are scored: cut it.")
    scorer = model.session.scoring_model(filters.clamps)
    tokens = [TokenInfo(tokenized.token_texts[0], None)] if len(tokenized) else []
    with scorer.inference():
        tokens += _scored(scorer, tokenized, model.token_strings, filters.guesses or 0)
    has_start = tokenized.reset_mask is not None
    return tokens[1:] if has_start else tokens


def _scored(scorer: LanguageModel, tokenized: TokenizedText, strings: list[str], guesses: int) -> list[TokenInfo]:
    ids, resets, tokens = tokenized.ids[:, None], tokenized.reset_mask, []
    state = scorer.initial_state(1)
    for start in range(0, len(ids) - 1, CHUNK_TOKENS):
        stop = min(start + CHUNK_TOKENS, len(ids) - 1)
        logits, state = scorer.unroll(ids[start:stop], state, None if resets is None else resets[start:stop, None])
        logprobs = log_softmax(logits[:, 0])
        best = np.argsort(-logprobs, axis=-1, kind="stable")[:, :guesses].tolist()
        for row, target in enumerate(ids[start + 1 : stop + 1, 0].tolist()):
            place = start + 1 + row
            logprob = float(logprobs[row, target]) if tokenized.known_mask[place] else -UNKNOWN_BITS * math.log(2)
            top = tuple((strings[guess], float(logprobs[row, guess])) for guess in best[row])
            tokens.append(TokenInfo(tokenized.token_texts[place], logprob, top))
    return tokens


def require_known_ids(model: LoadedModel, ids: list[int], param: str) -> None:
    """Raise `ApiError` 400 for a token id that the model does not have."""
    if ids and not 0 <= min(ids) <= max(ids) < model.network.vocab_size:
        raise ApiError(
            400, f"{param} has an id that is no token: the model has those from 0 to {model.network.vocab_size - 1}.", param
        )


def tokenized_prompt(model: LoadedModel, prompt: Prompt) -> TokenizedText:
    """Return a prompt as it is echoed: a text, or its ids, which begin as a document does if the model has documents."""
    if isinstance(prompt, str):
        return model.session.tokenize(prompt)
    begin = [] if model.tokenizer.eos_id is None else [model.tokenizer.eos_id]
    return from_ids(model.tokenizer, model.session.saved.documents, np.array([*begin, *prompt], np.int64))


def prompt_tokens(model: LoadedModel, prompt: Prompt, filters: Filters) -> list[TokenInfo]:
    """Return the tokens of a prompt that is echoed; the first one has no log-probability, as OpenAI's."""
    tokens = score_tokens(model, tokenized_prompt(model, prompt), filters)
    return [TokenInfo(tokens[0].text, None), *tokens[1:]] if tokens else []
