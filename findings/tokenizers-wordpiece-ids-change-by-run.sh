#!/usr/bin/env bash
# One would guess: training a tokenizer is deterministic: the same text and settings give the same file, as they do for plain BPE
#   in this library and for sentencepiece.
# What happens: with WordPieceTrainer, or BpeTrainer with continuing_subword_prefix or end_of_word_suffix, the pieces of one
#   character ("##a", "a</w>") get their ids in an order that changes from one training to the next, in one process too. Equal
#   counts are settled by ids, and so other pieces may be merged, and some texts are cut otherwise. There is no seed, and one thread
#   does not help. Plain BPE repeats, byte for byte.
# Version: tokenizers 0.23.3.
# Why it matters: a model that was trained with one file and is read with a file trained again, or a cache of token ids, has other
#   tokens under its numbers without an error, since the sizes are equal; a comparison by seeds has one source of chance more. Keep
#   the file, or train plain BPE.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3 2>/dev/null
TOKENIZERS_PARALLELISM=false "$folder/venv/bin/python" - <<'PY'
import random
import sys

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

print("tokenizers", tokenizers.__version__)
generator = random.Random(0)


def sentences(letters, words=2000, longest=8):
    """Texts of made-up words."""
    lexicon = ["".join(generator.choices(letters, k=generator.randint(2, longest))) for _ in range(words)]
    return [" ".join(generator.choices(lexicon, k=20)) for _ in range(1000)]


LATIN, MANY = "abcdefghijklmnop", [chr(0x4E00 + i) for i in range(400)]
BPE = {"plain": {}, "prefix": {"continuing_subword_prefix": "##"}, "suffix": {"end_of_word_suffix": "</w>"}}


def train(kind, texts):
    """A tokenizer of 1,000 pieces."""
    settings = {"vocab_size": 1000, "show_progress": False}
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]"], **settings)
    else:
        tokenizer = Tokenizer(models.BPE(**BPE[kind]))
        trainer = trainers.BpeTrainer(**BPE[kind], **settings)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


ok = True
for name, texts in (("16 letters", sentences(LATIN)), ("400 characters", sentences(MANY, longest=3))):
    for kind in ("plain", "WordPiece", "prefix", "suffix"):
        trained = [train(kind, texts) for _ in range(3)]
        first, *others = (tokenizer.get_vocab() for tokenizer in trained)
        moved = [sum(first[piece] != other.get(piece) for piece in first) for other in others]
        cuts = [[tokenizer.encode(text).tokens for text in texts[:200]] for tokenizer in trained]
        alike = cuts[0] == cuts[1] == cuts[2]
        label = kind if kind == "WordPiece" else f"BPE, {kind}"
        print(f"{name}, {label}: of {len(first)} ids {moved} differ in two further trainings; texts cut alike: {alike}")
        ok &= (alike and max(moved) == 0) if kind == "plain" else min(moved) > 0
sys.exit(0 if ok else 1)
PY
