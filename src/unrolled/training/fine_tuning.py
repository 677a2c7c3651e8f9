"""Training that starts from a base model: its settings, which a run takes over, and the recipe for the others.

The recipe has a low rate, a small batch, no dropout, and few passes, since a model that trains on a small text for long forgets
its language (benchmarks/LOG.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.checkpoints.model_file import TextModelFile, load_model
from unrolled.checkpoints.run_dir import find_model
from unrolled.errors import DataError, UsageError
from unrolled.network_shapes import embedding_dim
from unrolled.options import TrainRequest, flag_name
from unrolled.text.corpus import Corpus
from unrolled.text.line_format import LineFormat
from unrolled.text.tokenizer import CharTokenizer, Tokenizer
from unrolled.text.unknown_tokens import UnknownTokens
from unrolled.training.recipe import TextStats, describe_epochs, fill_defaults, threshold_value
from unrolled.training.schedule import make_budget

SHAPE_OPTIONS = ("cell", "layers", "hidden", "embedding", "residual", "two_biases")
"""Settings of the network that are those of the base model."""

FINE_TUNING = {"optimizer": "muon", "lr": 1e-3, "batch": 8, "dropout": 0.0, "token_dropout": 0.0, "state_reset_prob": 0.03}
"""What the recipe chooses, where it was not given."""

LONG_TEXT = {"lr": 2e-3, "batch": 32}
"""What it chooses for texts of at least `LONG_TEXT_TOKENS`: larger batches are read faster."""

SLOW_LONG_TEXT = {"optimizer": "adamw", "lr": 1e-3}
"""What it chooses for such a text if less than a pass over it would be read otherwise: without fast products of bfloat16, a
step of AdamW takes less than half of the time."""

LONG_TEXT_TOKENS = 500_000

MAX_EPOCHS_BY_TOKENS = ((0.0, 4.0), (1e5, 2.0))
"""Passes over a text, by its tokens, after which more training only makes the model forget its language."""


def load_base(name: str) -> TextModelFile:
    """Return the model that training starts from: of a file, a run, or the package.

    Raises:
        ModelError: It is missing or damaged.
        UsageError: It is a model of a table.
    """
    model_file = load_model(find_model(Path(name)))
    if not isinstance(model_file, TextModelFile):
        raise UsageError(f"--from {name} is a model of a table, and one of texts is expected: name one, or leave it out.")
    return model_file


def adopt_settings(request: TrainRequest, base: TextModelFile) -> TrainRequest:
    """Return the request with the tokens, documents, normal form and network of its base, where none were given.

    Raises `UsageError` for a setting that was given and is another than the base has.
    """
    name, tokenizer = request.training.init_from, base.tokenizer
    data: dict[str, Any] = {"tokens": tokenizer.setting}
    if not tokenizer.reads_bytes:
        data["normalize"] = tokenizer.normalization
    for option, value in data.items():
        _require_same(request, option, value, getattr(request.data, option), f"{name} has {value}")
    if request.table.source is None and base.documents not in ("none", "cell") and "documents" not in request.explicit:
        data["documents"] = base.documents
    request, data = _adopt_line_format(request, tokenizer.line_format, data)
    network = {option: getattr(base.model.options, option) for option in SHAPE_OPTIONS}
    for option, value in network.items():
        given = getattr(request.model, option)
        is_same_width = option == "embedding" and given not in (None, 0) and given == embedding_dim(1, base.model.options)
        if not is_same_width:
            _require_same(request, option, value, given, f"{name} has {_describe(option, value)}")
    if "initialization" in request.explicit:
        raise UsageError(f"--initialization is for random weights, and they are those of {name}: leave it out.")
    return dataclasses.replace(
        request, data=dataclasses.replace(request.data, **data), model=dataclasses.replace(request.model, **network)
    )


def _adopt_line_format(
    request: TrainRequest, line_format: LineFormat, data: dict[str, Any]
) -> tuple[TrainRequest, dict[str, Any]]:
    """Return the request with the sessions of a base, and the settings of the data with its masks."""
    mask, name = ",".join(line_format.mask) or None, request.training.init_from
    if request.table.source is not None or line_format == LineFormat():
        return request, data
    given = LineFormat.parse(request.data.mask, request.series.group_by or line_format.group_by)
    if "mask" in request.explicit and given.mask != line_format.mask:
        raise UsageError(f"--mask {request.data.mask} is asked for, and {name} has {mask}: leave it out, or use --from none.")
    series = dataclasses.replace(request.series, group_by=given.group_by)
    split_by = request.data.split_by if "split_by" in request.explicit else "row"
    return dataclasses.replace(request, series=series), {**data, "mask": mask, "split_by": split_by}


def adopt_encoder(request: TrainRequest, base: TextModelFile) -> TrainRequest:
    """Return the request for a table with the network of the base model that reads its text.

    Raises `UsageError` for a setting that was given and is another than the base has, and for a base that cannot be the
    encoder of a column: one whose layers are not residual or are not as wide as its embedding.
    """
    name, options = request.training.init_from, base.model.options
    if not options.residual or embedding_dim(1, options) != options.hidden:
        embedding = f"an embedding of {embedding_dim(1, options)} for {options.hidden} units"
        fact = "layers that are not residual" if not options.residual else embedding
        raise UsageError(
            f"--from {name} has {fact}, and a table is read by residual layers as wide as their embedding: name another model."
        )
    _require_same(request, "tokens", base.tokenizer.kind, request.data.tokens, f"{name} has {base.tokenizer.kind}")
    if not base.tokenizer.reads_bytes:
        normal: Any = base.tokenizer.normalization
        _require_same(request, "normalize", normal, request.data.normalize, f"{name} has {normal}")
        request = dataclasses.replace(request, data=dataclasses.replace(request.data, normalize=normal))
    _require_same(request, "bidirectional", False, request.pair.bidirectional, f"{name} reads forward only")
    network = {option: getattr(options, option) for option in SHAPE_OPTIONS if option != "embedding"}
    for option, value in network.items():
        given = getattr(request.model, option)
        _require_same(request, option, value, given, f"{name} has {_describe(option, value)}")
    return dataclasses.replace(
        request,
        model=dataclasses.replace(request.model, **network, embedding=None),
        pair=dataclasses.replace(request.pair, bidirectional=False),
        explicit=request.explicit | {*network, "bidirectional"},
    )


def _require_same(request: TrainRequest, option: str, value: Any, given: Any, fact: str) -> None:
    if option in request.explicit and given != value:
        shown = "" if isinstance(given, bool) else f" {given}"
        raise UsageError(
            f"{flag_name(option, given)}{shown} is asked for, and {fact}: leave it out, or start from random weights with "
            "--from none."
        )


def _describe(option: str, value: Any) -> str:
    """Return a setting of a network in words."""
    if isinstance(value, bool):
        return f"{'' if value else 'no '}{option.replace('_', ' ')}"
    return f"the {option} of its layers" if value is None else f"{option} {value}"


def require_common_tokens(name: str | None, base: Tokenizer, text: Tokenizer) -> None:
    """Raise `DataError` if a base model knows no character of a text, apart from white space."""
    if isinstance(base, CharTokenizer) and isinstance(text, CharTokenizer):
        known = set(base.tokens)
        if not any(token in known for token in text.tokens if not token.isspace()):
            raise DataError(f"{name} knows no character of this text: start from random weights with --from none.")


def refuse_new_tokens(corpus: Corpus, base: Tokenizer) -> None:
    """Raise `DataError` for a text with tokens that are not in the vocabulary of a base model."""
    tokenizer = corpus.tokenizer
    if not isinstance(base, CharTokenizer) or not isinstance(tokenizer, CharTokenizer):
        return
    ids, known = np.asarray(corpus.ids), set(base.tokens)
    is_new = np.array([token not in known for token in tokenizer.tokens] + [False])
    end_ids = [tokenizer.eos_id] if tokenizer.eos_id is not None else list(tokenizer.encode("\n"))
    is_line = corpus.documents in ("none", "line")
    unknown = UnknownTokens(base, "line" if is_line else "document")
    positions = np.flatnonzero(is_new[ids])
    new_ids, firsts, counts = np.unique(ids[positions], return_index=True, return_counts=True)
    skipped = int(tokenizer.eos_id is not None)  # a text of documents begins with the end of none
    for token_id, first, count in sorted(zip(new_ids, firsts, counts, strict=True), key=lambda found: found[1]):
        token = tokenizer.tokens[token_id]
        unknown.counts[token] = int(count)
        unknown.first[token] = 1 - skipped + int(np.isin(ids[: positions[first]], end_ids).sum())
    unknown.require_none("The text")


def choose_fine_tuning_options(
    request: TrainRequest, stats: TextStats, measure: Callable[[TrainRequest], float]
) -> tuple[TrainRequest, str]:
    """Return the request with what was not given filled in, and a sentence that says what was chosen.

    A budget in minutes is at most the passes of `MAX_EPOCHS_BY_TOKENS`, which are then the budget.
    """
    request, tokens_read = _fill_by_speed(request, stats, measure)
    training, model = request.training, request.model
    return request, (
        f"starts from {training.init_from}: dropout {model.dropout:g}, batch {training.batch} of {training.bptt} steps, "
        f"{training.optimizer} at {training.lr:g}: the text is {describe_epochs(tokens_read / stats.tokens)}"
        f"{', which takes less than the budget' if training.epochs is not None and 'epochs' not in request.explicit else ''}"
        "; --from none starts from random weights"
    )


def _fill_by_speed(
    given: TrainRequest, stats: TextStats, measure: Callable[[TrainRequest], float]
) -> tuple[TrainRequest, float]:
    """Return the request with what was not given filled in, and how many tokens will be read."""
    is_long = stats.tokens >= LONG_TEXT_TOKENS
    defaults = FINE_TUNING | (LONG_TEXT if is_long else {})
    request = fill_defaults(given, **defaults)
    budget = make_budget(request.training, stats.tokens)
    if budget.unit == "steps":
        return request, budget.total * request.training.batch * request.training.bptt
    if budget.unit != "seconds":
        return request, budget.total
    tokens_read = measure(request) * budget.total
    if is_long and tokens_read < stats.tokens and not {"optimizer", "lr"} & given.explicit:
        request = fill_defaults(given, **defaults | SLOW_LONG_TEXT)
        tokens_read = measure(request) * budget.total
    max_epochs = threshold_value(MAX_EPOCHS_BY_TOKENS, stats.tokens)
    if tokens_read > max_epochs * stats.tokens:
        training = dataclasses.replace(request.training, minutes=None, epochs=max_epochs)
        return dataclasses.replace(request, training=training), max_epochs * stats.tokens
    return request, tokens_read
