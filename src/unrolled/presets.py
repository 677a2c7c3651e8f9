"""Settings of earlier work, for `--preset`."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "char-rnn": {
        "layers": 2, "hidden": 128, "embedding": 0, "dropout": 0.0, "token_dropout": 0.0, "residual": False,
        "two_biases": True, "initialization": "uniform", "train_fraction": 0.95, "epochs": 50.0, "batch": 50, "bptt": 50,
        "state_reset_prob": 0.0,
        "optimizer": "rmsprop", "lr": 2e-3, "schedule": "decay", "warmup": 0, "decay": 0.97, "decay_after": 10.0,
        "weight_decay": 0.0, "clip": 5.0, "clip_by": "value", "calibrate": False, "seed": 123,
    },
}  # fmt: skip
PRESETS["post-pg"] = PRESETS["char-rnn"] | {"hidden": 512, "batch": 100, "bptt": 100, "dropout": 0.5}
"""Settings of earlier work: the defaults of char-rnn (2015), and the blog post's model of Paul Graham's essays."""
