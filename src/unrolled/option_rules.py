"""Which settings have no effect together with others, or on the data at hand: they are refused before work begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from unrolled.errors import UsageError
from unrolled.options import MachineOptions, PairOptions, PredictOptions, SeriesOptions, TrainRequest, flag_name

TEXT_OPTIONS = ("documents", "mask", "glob", "state_reset_prob")
"""Settings of `train` that only texts have."""

TABLE_OPTIONS = (
    *(field.name for group in (PairOptions, SeriesOptions) for field in dataclasses.fields(group)), "target", "validation",
)  # fmt: skip
"""Settings of `train` that only tables have; a text refuses them, whatever their value."""


NOT_IN_PYTHON = {
    "probabilities": "predictions() returns them",
    "image_dir": "the pixels are in the values of predictions()",
    "wav": "save_wav() writes the values of predictions()",
    "force": "nothing is written",
}
"""Settings of `unrolled predict` that no method has, and what to use instead."""

NOT_FOR_ROWS = NOT_IN_PYTHON | {"min_probability": "predict() and predictions() leave answers empty"}
"""Settings that methods do not have whose answers are all needed, and what to use instead."""


def refuse_unused(options: Any, given: Collection[str], reasons: Mapping[str, str]) -> None:
    """Raise `UsageError` for the first setting of `reasons` that is `given`, unless `options` has its default value.

    Example:
        >>> refuse_unused(TrainingOptions(decay=0.5), {"decay"}, {"decay": "is for --schedule decay"})
        Traceback (most recent call last):
        unrolled.errors.UsageError: --decay is for --schedule decay: it would have no effect, so leave it out.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    for name, reason in reasons.items():
        if name in given and name in defaults and getattr(options, name) != defaults[name]:
            raise UsageError(f"{flag_name(name, getattr(options, name))} {reason}: it would have no effect, so leave it out.")


def check_portable_machine(portable: bool, machine: Mapping[str, Any]) -> None:
    """Raise `UsageError` for settings of `MachineOptions` that are given and that portable arithmetic does not have."""
    if portable:
        reasons = dict.fromkeys(("precision", "kernels"), "changes the arithmetic, and --portable has its own")
        refuse_unused(MachineOptions(**machine), machine, reasons)


def check_adaptation(options: Any) -> None:
    """Raise `UsageError` for settings of evaluate, score or sample that cannot be together with `adapt`."""
    if not options.adapt:
        return
    reasons = {
        "portable": "gives the same result on every machine, and learning does not",
        "window": "starts from a zero state again and again, and --adapt learns from the whole text in its order",
        "clamp": "compares one model with and without a clamp, and --adapt changes the model",
    }
    for name, reason in reasons.items():
        if getattr(options, name, None) and not (name == "clamp" and hasattr(options, "prompt")):
            raise UsageError(f"{flag_name(name)} {reason}: leave one of --adapt and {flag_name(name)} out.")
    if getattr(options, "prompt", None) == "":
        raise UsageError("--adapt learns from the prompt, and there is none: give --prompt or --prompt-file, or leave it out.")


def complete_text_request(request: TrainRequest) -> TrainRequest:
    """Return a request of a text with the documents and the split that its lines of logs need.

    Masked lines and sessions are often equal. Drawn one by one, the held-out ones are like all others, which thresholds are
    about; kept together, they would be the rare ones.

    Raises:
        UsageError: Sessions without a pattern, or a pattern together with other documents.
    """
    data, group_by = request.data, request.series.group_by
    if request.table.source is not None:
        return request
    if group_by is None and data.documents == "session":
        raise UsageError(r"--documents session needs the pattern of their key: add --group-by, as in 'session=(\w+)'.")
    if group_by is not None and data.documents not in ("none", "session"):
        raise UsageError(f"--documents {data.documents} and --group-by are given, and sessions are documents: leave one out.")
    changes: dict[str, Any] = {} if group_by is None else {"documents": "session"}
    if (group_by is not None or data.mask is not None) and "split_by" not in request.explicit:
        changes["split_by"] = "row"
    return dataclasses.replace(request, data=dataclasses.replace(data, **changes))


def check_training(request: TrainRequest, is_table: bool, has_folder: bool = False) -> None:
    """Raise `UsageError` for settings of a training that have no effect together with the others."""
    training = request.training
    reasons = dict.fromkeys(TEXT_OPTIONS if is_table else (), "is for texts, and a table is to be learned")
    if not is_table and not has_folder:
        reasons["glob"] = "chooses files of a folder, and no folder is given"
    if is_table and request.table.validation is not None:
        reasons["train_fraction"] = "is the part of one table, and --validation names another"
    if training.schedule != "decay":
        reasons |= dict.fromkeys(("decay", "decay_after"), "is for --schedule decay")
    if is_table or request.base_name is None:
        reasons["unknown"] = "is for a text and --from"
    if request.base_name is None:
        reasons["shrink_vocabulary"] = "is for --from"
    if training.clip == 0:
        reasons["clip_by"] = "is for --clip above 0"
    if training.optimizer == "rmsprop" and "optimizer" in request.explicit and training.weight_decay > 0:
        reasons["weight_decay"] = "is for the optimizers adamw and muon"
    for group in request.groups():
        refuse_unused(group, request.explicit, reasons)


def check_table_training(request: TrainRequest, dims: Any, is_calibrated: bool, reads_one_text: bool) -> None:
    """Raise `UsageError` for settings that have no effect on the columns of a table, given their `ModelDims`."""
    mode, is_image = dims.mode, dims.source_tensor_kind == "image"
    has_steps = mode.sequence_input or (is_image and request.pair.image_as != "whole")
    reasons: dict[str, str] = {}
    if not has_steps:
        reasons |= dict.fromkeys(("bidirectional", "pool"), "is for a source of many steps, and this one has one")
    elif mode.output == "aligned":
        reasons["pool"] = "is for a target of the whole row, and this one has a label for every step"
    if mode.output != "generated":
        reasons["attention"] = "is for a target that is generated, and this one is not"
    if not is_image:
        reasons |= dict.fromkeys(("image_as", "image_encoder"), "is for a source of images")
    if dims.target_tensor_kind == "floats":
        reasons["label_smoothing"] = "is for a target of labels or text, and this one is of numbers"
    if dims.source_tensor_kind != "ids" and mode.output != "generated":
        reasons["token_dropout"] = "is for texts, and no column is one"
    if not reads_one_text:
        reasons["ngrams"] = "is for a source of one text and a target of one label or number"
    if not is_calibrated:
        reasons["calibrate"] = "is for a target of labels, whose probabilities are calibrated"
    for group in request.groups():
        refuse_unused(group, request.explicit, reasons)


def check_prediction(options: PredictOptions, given: Collection[str], dims: Any, target_kind: str) -> None:
    """Raise `UsageError` for settings that have no effect on predictions of a target of this kind."""
    is_generated, is_image = dims.mode.output == "generated", dims.target_length > 0
    of_target = f"and the target is {target_kind}"
    reasons: dict[str, str] = {}
    if not is_generated or is_image:
        reasons |= dict.fromkeys(("beam", "length_penalty"), f"is for a target of text, {of_target}")
    elif options.temperature is not None:
        reasons |= dict.fromkeys(("beam", "length_penalty"), "is for beam search, and --temperature draws instead")
    if not is_generated:
        reasons |= dict.fromkeys(("temperature", "seed"), f"is for a target that is generated, {of_target}")
    elif options.temperature is None and not is_image:
        reasons["seed"] = "is for draws, and without --temperature nothing is drawn"
    if dims.mode.output != "single" or dims.target_tensor_kind == "floats":
        reasons["probabilities"] = f"is for a target of one label, {of_target}"
    if dims.target_tensor_kind == "floats" or is_image:
        reasons["min_probability"] = f"is for a target of labels or text, {of_target}"
    if target_kind != "numbers":
        reasons["wav"] = f"is for a target of numbers at every step, {of_target}"
    if not is_image:
        reasons["image_dir"] = f"is for a target of images, {of_target}"
    refuse_unused(options, given, reasons)
