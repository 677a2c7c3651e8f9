"""The check at the end of an import: bits of a short text against chance, and against the same weights read in other
conventions."""

from __future__ import annotations

import dataclasses
import inspect
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.errors import ModelError
from unrolled.exchange.gate_orders import Alternative, alternatives
from unrolled.exchange.source_model import SourceModel
from unrolled.generation.torch_model import TorchModel
from unrolled.nn.kernels.select import set_kernel
from unrolled.runtime.language_model import LanguageModel
from unrolled.runtime.text_network import TextModel
from unrolled.runtime.window_model import numpy_model
from unrolled.text.tokenized_text import tokenize

NUM_COLUMNS = 8
MIN_CHECKED = 50
MIN_KNOWN = 0.9
"""Fraction of the characters of a built-in text that the model must know."""

MAX_OF_CHANCE = 0.9
"""A model that has learned the text has fewer bits than this fraction of those of chance."""

MAX_OF_CHANCE_BUILT_IN = 0.7
"""The same for a text that is not like the training text: wrong weights can come near chance where right ones are far above
it."""

MIN_ADVANTAGE, MIN_ERRORS = 0.05, 4.0
"""Another convention is clearly better by this many bits per token, and by this many standard errors of the difference."""

BUILT_IN = "built-in"
PROSE = """\
The road from the harbour to the upper town is short and steep, and in
winter nobody takes it after dark. On the left there is a wall of grey
stone, as high as a man; on the right, behind a row of old trees, lie the
gardens of the rich. "You will see the house when you come to the second
bend," the sailor had said. "It is the only one with a light." But there was
no light, and it had begun to rain.

She stopped under a tree and counted her money. Eleven pounds, two of them
in small coins: that would have to be enough until Monday. In the morning
she would write to her brother, who had always been kind to her, and who
knew most of the people in this part of the country. He would ask what had
happened, of course, and she did not know yet what she was going to tell
him. The truth was long, and it did her no credit.

At last a window opened above her. "Who is there?" called a woman's voice,
not very friendly. "If you have come about the horse, my husband is not at
home. He went to the market with the others and will not be back before ten
o'clock."

"I have not come about a horse," she answered. "I am looking for Mr. Wood.
They told me that he lived here."

There was a silence, in which she could hear the water running down the
street. Then the door was unlocked, first one bolt and then another, and a
small girl with a candle stood before her and looked up. "You had better
come in," said the child. "Mother says that you can have some soup, and that
he has been dead for three years."
"""


@dataclass(frozen=True)
class ImportCheck:
    """What the check measured, in bits per token.

    Attributes:
        text: Which text was read.
        num_tokens: How many tokens of it were predicted.
        bits: Of the model as it was imported.
        chance: Of equal probabilities for all tokens.
        others: By the name of another convention, of the same weights in it.
        better: The other convention that is clearly better, or None.
    """

    text: str
    num_tokens: int
    bits: float
    chance: float
    others: dict[str, float]
    better: str | None = None

    @property
    def has_learned(self) -> bool:
        """Whether the model predicts the text better than chance, clearly enough for a comparison."""
        return self.bits < MAX_OF_CHANCE * self.chance

    def to_json(self) -> dict[str, Any]:
        """Return all of it as a JSON value."""
        return dataclasses.asdict(self)

    def to_text(self) -> str:
        """Return the result as lines for people."""
        lines = [
            f"check on {self.num_tokens:,} tokens of {self.text}: {self.bits:.3f} bits per token; chance is {self.chance:.3f}"
        ]
        lines += [f"  {name}: {bits:.3f}" for name, bits in sorted(self.others.items(), key=lambda item: item[1])[:4]]
        more = len(self.others) - 4
        lines += [f"  {more} more conventions: all above {sorted(self.others.values())[3]:.3f}"] * (more > 0)
        if self.better is not None:
            lines.append(f"  warning: {self.better} is clearly better: check with a text like the training text, with --text")
        elif not self.has_learned:
            lines.append(
                "  warning: not clearly better than chance: give a text like the training text with --text, to be sure"
            )
        return "\n".join(lines)


def token_losses(source: SourceModel, model_file: TextModelFile | TextModel, text: str) -> np.ndarray:
    """Return the nats of each token of a text, `(N,)`; unknown characters are left out.

    The text is read in columns, each from the zero state.
    """
    ids = _known_ids(model_file, source.vocabulary.known_ids, text)[: source.max_checked + 1]
    if len(ids) < 2:
        return np.zeros(0)
    columns = max(1, min(NUM_COLUMNS, (len(ids) - 1) // 200))
    steps = (len(ids) - 1) // columns
    inputs, targets = (ids[first : first + columns * steps].reshape(columns, steps).T for first in (0, 1))
    eos_id = model_file.tokenizer.eos_id
    resets = None if eos_id is None else inputs == eos_id
    if isinstance(model_file, TextModel):
        model: LanguageModel = numpy_model(model_file.network)
    else:
        set_kernel(model_file.model, "auto")
        model = TorchModel(model_file.model)
    with model.inference():
        return model.token_losses(inputs, targets, model.initial_state(columns), resets)[0].flatten()


def _known_ids(model_file: TextModelFile | TextModel, known: list[int], text: str) -> np.ndarray:
    """Return the ids of a text, `(N,)`, without unknown characters; a model of documents reads each from its eos on."""
    read = tokenize(model_file.tokenizer, model_file.documents, text)
    return read.ids[read.known_mask & np.isin(read.ids, known)]


def run_check(
    source: SourceModel, model_file: TextModelFile | TextModel, name: str | None, text: str | None
) -> ImportCheck | None:
    """Measure an imported model on a text, or on the built-in text that it predicts best.

    Args:
        source: The model as it was read.
        model_file: The same model in our form.
        name: The name of the text, for messages.
        text: A text like the one that the model was trained on; None: prose and Python source are tried.

    Returns:
        The result, or None if the model does not know the characters of the built-in texts.

    Raises:
        ModelError: Another convention is clearly better: then the file is not what it seems, and the model would be wrong.
    """
    found = _choose_text(source, model_file, name, text)
    if found is None:
        return None
    name, text, losses = found
    chance = math.log2(len(source.vocabulary.known_ids))
    is_built_in = name.startswith(BUILT_IN)
    limit = chance * (MAX_OF_CHANCE_BUILT_IN if is_built_in else MAX_OF_CHANCE)
    others, better, is_slight = {}, None, False
    best = float(losses.mean())
    for other in alternatives(source):
        other_losses = _losses_of(other, text)
        others[other.name] = float(other_losses.mean()) / math.log(2)
        if _is_clearly_better(other_losses, losses, limit) and other_losses.mean() < best:
            best, better, is_slight = float(other_losses.mean()), other.name, other.is_slight
    check = ImportCheck(name, len(losses), float(losses.mean()) / math.log(2), chance, others, better)
    if better is not None and not (is_slight and is_built_in):
        raise ModelError(
            f"The weights fit another convention than that of this format: {better} gives {best / math.log(2):.3f} bits per "
            "token on "
            f"{name}, and as the format says {check.bits:.3f}. Nothing was written: convert the file with the program that "
            "made it."
        )
    return check


def _losses_of(other: Alternative, text: str) -> np.ndarray:
    return token_losses(other.model, other.model.to_model_file(), text)


def _is_clearly_better(losses: np.ndarray, own: np.ndarray, limit: float) -> bool:
    difference = (own - losses) / math.log(2)
    error = difference.std() / math.sqrt(len(difference))
    advantage = float(difference.mean())
    is_better = advantage > MIN_ADVANTAGE and advantage > MIN_ERRORS * error
    return is_better and float(losses.mean()) / math.log(2) < limit


def _choose_text(
    source: SourceModel, model_file: TextModelFile | TextModel, name: str | None, text: str | None
) -> tuple[str, str, np.ndarray] | None:
    if text is not None:
        losses = token_losses(source, model_file, text)
        if len(losses) < MIN_CHECKED:
            raise ModelError(
                f"{name} has {len(losses)} characters that the model can be checked on, and at least {MIN_CHECKED} are "
                "needed: give a "
                "text like the one that it was trained on."
            )
        return name or "the text", text, losses
    candidates = [(name, text, token_losses(source, model_file, text)) for name, text in _built_in_texts(source, model_file)]
    return min(candidates, key=lambda candidate: float(candidate[2].mean()), default=None)


def _built_in_texts(source: SourceModel, model_file: TextModelFile | TextModel) -> Iterator[tuple[str, str]]:
    """Yield the built-in texts that the model knows, in lower case where it knows only that."""
    for name, text in (
        (f"{BUILT_IN} prose", PROSE),
        (f"{BUILT_IN} Python source", inspect.getsource(textwrap)[: 2 * source.max_checked]),
    ):
        for variant in (text, text.lower()):
            known = _known_ids(model_file, source.vocabulary.known_ids, variant)
            if model_file.tokenizer.char_counts()[known].sum() >= MIN_KNOWN * len(variant):
                yield name, variant
                break
