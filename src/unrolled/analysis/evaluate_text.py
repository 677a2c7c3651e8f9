"""The loss of a text model on a split of a text."""

from __future__ import annotations

import dataclasses
import logging

from unrolled.analysis.text_session import TextSession
from unrolled.display import plural
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.text_loss import Evaluation, evaluate_part
from unrolled.option_rules import check_adaptation
from unrolled.options import EvaluateOptions
from unrolled.tables.table_format import TableFormat
from unrolled.text.corpus import Corpus
from unrolled.text.tokenizer import Ids

logger = logging.getLogger(__name__)


def select_split(session: TextSession, inputs: tuple[str, ...], options: EvaluateOptions) -> tuple[Ids, Corpus, str]:
    """Return the token ids to evaluate, the text that they are part of, and the name of the split.

    The default is all of another text; of the run's own, the test split, or the validation split if there is none.
    """
    if inputs and options.unknown == "refuse":
        _require_known(session, inputs, options)
    corpus, splits = session.corpus(inputs, TableFormat(options.header, options.encoding))
    split = options.split or ("all" if inputs else "test" if len(splits.test) > 1 else "validation")
    return (splits._asdict() | {"all": corpus.ids})[split], corpus, split


def _require_known(session: TextSession, inputs: tuple[str, ...], options: EvaluateOptions) -> None:
    """Raise `DataError` for a text with a token that the model does not know."""
    if "-" in inputs:
        raise UsageError("--unknown refuse reads a text before it is evaluated, and '-' is read once: name a file.")
    for name in inputs:
        for _ in session.code_point_chunks(name, TableFormat(options.header, options.encoding), "refuse"):
            pass


def evaluate_text(session: TextSession, inputs: tuple[str, ...], options: EvaluateOptions) -> Evaluation:
    """Return the loss on a split of a text. Raises `DataError` if it has fewer than two tokens that the model knows."""
    ids, corpus, split = select_split(session, inputs, options)
    for message in corpus.notes if inputs else ():
        logger.info(message)
    if len(ids) < 2:
        text = "text" if split == "all" else f"{split} split of the text"
        unknown = f" ({corpus.num_unknown:,} unknown)" if split == "all" else ""
        to_do = ": train with --test-fraction to have one" if split == "test" and not len(ids) else ""
        raise DataError(f"The {text} has {plural(len(ids), 'known token')}{unknown}; at least 2 are needed{to_do}.")
    check_adaptation(options)
    model = session.scoring_model(portable=options.portable, adapt=options.adapt)
    result = evaluate_part(corpus, ids, model, None, window=options.window, in_order=options.adapt)
    return dataclasses.replace(result, num_unknown=corpus.num_unknown, split=split)
