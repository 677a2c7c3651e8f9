#!/usr/bin/env bash
# One would guess: a recurrent language model of transformers that takes an attention_mask leaves out what the mask leaves out, so
#   that a text padded on the left, as generate() wants a batch, gives the same next token as the text alone.
# What happens: Mamba, Mamba-2 and Falcon-Mamba do that, to the last bit. xLSTM and RWKV take the mask and do not read it: the
#   padding is read as text, the state holds it, and the logits after it are others. No warning, with or without the mask.
# Version: transformers 5.24.0, torch 2.13.0 (CPU); models of random weights.
# Why it matters: sampling or scoring texts of several lengths in one batch answers another question for each but the longest,
#   and what a text gets depends on its neighbours. Batches of equal lengths, or one text at a time, are the way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.24.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
print("transformers", transformers.__version__, "torch", torch.__version__)
TOKENS = dict(vocab_size=50, pad_token_id=0, bos_token_id=1, eos_token_id=2)
SIZES = {
    "mamba": dict(hidden_size=32, num_hidden_layers=2, state_size=8),
    "mamba2": dict(hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=8, n_groups=1),
    "falcon_mamba": dict(hidden_size=32, num_hidden_layers=2, state_size=8),
    "xlstm": dict(hidden_size=64, num_hidden_layers=2, num_heads=2, qk_dim_factor=1.0, v_dim_factor=1.0),
    "rwkv": dict(hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, intermediate_size=64, context_length=64),
}
seen = {}
for name, sizes in SIZES.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[name](**TOKENS, **sizes)).eval().float()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and weight.std() < 0.05:
                weight.mul_(5)  # initial weights hardly answer to their inputs
        text = torch.randint(3, 50, (1, 6))
        padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), text], 1)
        mask = (padded != 0).long()
        alone = model(input_ids=text, attention_mask=torch.ones_like(text)).logits[0, -1]
        with_mask = model(input_ids=padded, attention_mask=mask).logits[0, -1]
        without_mask = model(input_ids=padded).logits[0, -1]
    off, unread = (alone - with_mask).abs().max().item(), torch.equal(with_mask, without_mask)
    seen[name] = off > 0.1 and unread
    print(f"{name:13}padded against alone: {off:.1e}; the mask is {'not read' if unread else 'read'}")
    if not seen[name] and off > 1e-5:
        sys.exit(1)
sys.exit(0 if {name for name, is_ignored in seen.items() if is_ignored} == {"xlstm", "rwkv"} else 1)
PY
