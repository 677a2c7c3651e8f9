#!/usr/bin/env bash
# One would guess: BPE(byte_fallback=True), trained by tokenizers' own BpeTrainer, spells what it has not seen as bytes, as
#   a model of sentencepiece trained with byte_fallback=True does.
# What happens: the trainer adds none of the 256 tokens <0x00> ... <0xFF>, and without them the fallback does nothing, in silence:
#   unseen characters are dropped, or become <unk> where there is one. The tokens as special tokens of the trainer make it work.
# Version: tokenizers 0.23.3; sentencepiece 0.2.2 for comparison.
# Why it matters: a vocabulary that was chosen so that no text is lost loses text, and the loss of the model on it looks better
#   for it. Test decode(encode(s)) == s on a character that is not in the training text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3 sentencepiece==0.2.2 2>/dev/null
"$folder/venv/bin/python" - <<'PY' 2>/dev/null
import io
import sys

import sentencepiece
import tokenizers
from tokenizers import Tokenizer, decoders, models, trainers

TEXT, UNSEEN = ["the cat sat on the mat"] * 20, "the caf\u00e9"
BYTES = [f"<0x{value:02X}>" for value in range(256)]
print("tokenizers", tokenizers.__version__, "sentencepiece", sentencepiece.__version__)
read_back = {}
for name, unknown, special_tokens in (("plain", None, []), ("<unk>", "<unk>", ["<unk>"]), ("bytes given", None, BYTES)):
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=unknown))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special_tokens, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    encoding = tokenizer.encode(UNSEEN)
    read_back[name] = tokenizer.decode(encoding.ids, skip_special_tokens=False)
    learned = sum(token in tokenizer.get_vocab() for token in BYTES)
    print(f"{name:12}{learned} byte tokens, {encoding.tokens} -> {read_back[name]!r}")
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXT), model_writer=model, model_type="bpe", vocab_size=280, byte_fallback=True,
    hard_vocab_limit=False, minloglevel=2,
)  # fmt: skip
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
read_back["sentencepiece"] = processor.decode(processor.encode(UNSEEN))
print("sentencepiece", processor.encode(UNSEEN, out_type=str), "->", repr(read_back["sentencepiece"]))
expected = {"plain": "the ca", "<unk>": "the ca<unk><unk>", "bytes given": UNSEEN, "sentencepiece": UNSEEN}
sys.exit(0 if read_back == expected else 1)
PY
