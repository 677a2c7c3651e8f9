"""Models that come with the package: base models, to write with at once and to fine-tune on a small text.

How each was made is in its card, `NAME.md` next to the weights; scripts/train_base.py makes it.
"""

from __future__ import annotations

from pathlib import Path

from unrolled.datasets.stdlib import PREFIX
from unrolled.errors import ModelError, did_you_mean

FOLDER = Path(__file__).with_name("base")
BASE_MODELS = ("english", "python")
"""Their names, as in `builtin:english`."""


def display_path(path: Path) -> str:
    """Return the name of a model file as a user types it: `builtin:NAME` for one of the package.

    Example:
        >>> display_path(base_model_path("builtin:english")), display_path(Path("a.safetensors"))
        ('builtin:english', 'a.safetensors')
    """
    return PREFIX + path.stem if path.parent == FOLDER else str(path)


def base_model_path(name: str) -> Path:
    """Return the model file of `builtin:NAME`.

    Raises:
        ModelError: There is no such model.

    Example:
        >>> base_model_path("builtin:english").name
        'english.safetensors'
    """
    short_name = name.removeprefix(PREFIX)
    if short_name not in BASE_MODELS:
        hint = did_you_mean(short_name, BASE_MODELS) or "."
        raise ModelError(f"There is no built-in model '{short_name}'{hint} Built-in models: {', '.join(BASE_MODELS)}.")
    return FOLDER / f"{short_name}.safetensors"
