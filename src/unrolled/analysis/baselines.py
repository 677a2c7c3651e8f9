"""Baselines for a language model on the same text: uniform distribution, Kneser-Ney n-grams and compressors."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from unrolled.display import Displayed, html_table
from unrolled.evaluation.compressors import compressor_nats, xz_nats
from unrolled.evaluation.ngram import KneserNey, loss_by_order, uniform_nats
from unrolled.text.tokenizer import Ids, Tokenizer

logger = logging.getLogger(__name__)

MAX_TRAIN_TOKENS = 1 << 24
"""Tokens of the training text that are counted; of a longer one, the last ones."""

MAX_EVAL_TOKENS = 1 << 22
SAMPLED_ORDERS = (3, 6, 10, 20)
NGRAM_SAMPLE_TOKENS = 400


@dataclass(frozen=True, repr=False)
class Baselines(Displayed):
    """Losses in nats per character: of the uniform distribution, of Kneser-Ney n-grams by their order, and of compressors.

    `xz` is always there; `compressors` has the others by name, those that this machine has (PPMd, zpaq). All have the training
    text.
    n-grams of order n have n - 1 tokens of context. They are counted in `num_counted` of the `num_train` training tokens.
    """

    uniform: float
    ngram_nats: dict[int, float]
    xz: float
    num_counted: int
    num_train: int
    compressors: dict[str, float] = field(default_factory=dict)

    @property
    def facts(self) -> Mapping[str, object]:
        order, nats = self.best_ngram
        return {
            "best n-gram": f"order {order}, {nats:.4f} nats per character",
            "xz": f"{self.xz:.4f}",
            **{name: f"{nats:.4f}" for name, nats in self.compressors.items()},
            "uniform": f"{self.uniform:.4f}",
        }

    @property
    def best_ngram(self) -> tuple[int, float]:
        """The order with the lowest loss, and that loss."""
        return min(self.ngram_nats.items(), key=lambda item: item[1])

    def _repr_html_(self) -> str:
        order, best_nats = self.best_ngram
        losses = {"uniform": self.uniform, f"{order}-gram (the best order)": best_nats, "xz": self.xz}
        losses |= self.compressors
        rows = [[name, f"{nats:.4f}", f"{nats / math.log(2):.4f}"] for name, nats in losses.items()]
        return html_table(rows, ["", "nats per character", "bits per character"])

    def to_json(self) -> dict[str, float]:
        """Return all losses by name."""
        return {"uniform": self.uniform, **{f"{n}-gram": nats for n, nats in self.ngram_nats.items()}, "xz": self.xz} | {
            name: nats for name, nats in self.compressors.items()
        }

    def other_orders(self) -> str:
        """Return the losses of the orders next to the best one in one line; an empty text if there is only one."""
        best, orders = self.best_ngram[0], sorted(self.ngram_nats)
        others = [f"{n}: {self.ngram_nats[n]:.3f}" for n in orders if abs(n - best) == 1]
        measured = f"({orders[0]} to {orders[-1]} were measured)"
        return f"n-grams of other orders, in nats: {', '.join(others)} {measured}" if others else ""

    def to_text(self, model_nats: float) -> str:
        """Return a table of all losses and that of the model."""
        rows = [("uniform distribution", self.uniform)]
        rows += [(f"{self.best_ngram[0]}-gram, Kneser-Ney (the best order)", self.best_ngram[1])]
        rows += [(f"{name}, given the training text", nats) for name, nats in {"xz -9": self.xz, **self.compressors}.items()]
        rows += [("this model", model_nats)]
        counted_note = (
            f" (counted: the last {self.num_counted:,} tokens of the training text)"
            if self.num_counted < self.num_train
            else ""
        )
        lines = [f"{'':38} {'nats':>8} {'bits':>8}  per character{counted_note}"]
        lines += [f"{name:38} {row_nats:8.4f} {row_nats / math.log(2):8.4f}" for name, row_nats in rows]
        return "\n".join([*lines, *filter(None, [self.other_orders()])])


def measure_baselines(
    tokenizer: Tokenizer,
    train: Ids,
    test: Ids,
    max_order: int,
    continues_train: bool,
    is_text: bool = True,
    with_compressors: bool = False,
) -> Baselines:
    """Measure the baselines on the ids `test`, of a long text on the first `MAX_EVAL_TOKENS`.

    With `with_compressors`, PPMd and zpaq are measured too, where they are installed.
    The first token is not predicted, as with a network. With `continues_train`, the end of the training text is its context.
    """
    num_train = len(train)
    train, test = np.asarray(train[-MAX_TRAIN_TOKENS:]), np.asarray(test[:MAX_EVAL_TOKENS])
    logger.info(f"counting n-grams up to order {max_order} in {len(train):,} tokens, and compressing")
    context = np.concatenate([train[-max_order:], test[:1]]) if continues_train else test[:1]
    char_counts = tokenizer.char_counts() if is_text else np.ones(tokenizer.vocab_size, dtype=np.int64)
    predicted = test[1:]
    tokens_per_char = len(predicted) / max(1, int(char_counts[predicted].sum()))
    ngram_nats = {
        n: nats * tokens_per_char
        for n, nats in loss_by_order(train, predicted, tokenizer.vocab_size, range(1, max_order + 1), context)
    }
    num_chars = max(1, int(char_counts[predicted].sum()))
    texts = _to_bytes(tokenizer, train), _to_bytes(tokenizer, predicted)
    xz = xz_nats(*texts, num_chars)
    others = compressor_nats(*texts, num_chars) if with_compressors else {}
    return Baselines(uniform_nats(tokenizer.vocab_size) * tokens_per_char, ngram_nats, xz, len(train), num_train, others)


def ngram_samples(tokenizer: Tokenizer, train: Ids, seed: int) -> dict[int, str]:
    """Return a sample of a Kneser-Ney model of each of `SAMPLED_ORDERS`, by order."""
    train_ids = np.asarray(train[-MAX_TRAIN_TOKENS:])
    texts = {}
    for order in SAMPLED_ORDERS:
        ids = KneserNey(train_ids, tokenizer.vocab_size, order).sample(NGRAM_SAMPLE_TOKENS, seed, [tokenizer.bos_id])
        texts[order] = _decode_documents(tokenizer, ids)
    return texts


def _decode_documents(tokenizer: Tokenizer, ids: Ids) -> str:
    """Return the text of ids, with a line end between documents."""
    if tokenizer.eos_id is None:
        return tokenizer.decode(ids.tolist())
    documents = np.split(ids, np.flatnonzero(ids == tokenizer.eos_id))
    return "\n".join(tokenizer.decode(document.tolist()) for document in documents).strip("\n")


def _to_bytes(tokenizer: Tokenizer, ids: Ids) -> bytes:
    """Return the text of ids in UTF-8, with a line end between documents."""
    code_points = tokenizer.code_point_of_id[ids]
    return (
        code_points.tobytes() if tokenizer.reads_bytes else "".join(tokenizer.texts_of(code_points)).encode("utf-8", "replace")
    )
