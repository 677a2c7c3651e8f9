"""Files of format 1 (before 0.2.0), read as format 2: one map of JSON keys, one of weight names.

Both formats have the same tensors with the same values. Only names differ, so an old model, checkpoint or run folder loads as a
new one and is written in format 2 from then on. The maps are applied nowhere but here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_METADATA_KEYS = {"vocabulary": "tokenizer", "unit": "documents", "pair": "table_options", "task": "spec", "position": "state"}
_KINDS = {"model": "text", "pairs": "table"}
_HISTORY_KEYS = {"sharpness": "logit_scale", "verdict": "diagnosis"}
_STATE_KEYS = {
    "spent": "used", "looks": "evals", "looked_at": "last_eval_step", "best": "best_nats", "slowed": "rollbacks",
    "sharpness": "logit_scale",
}  # fmt: skip
_CONFIG_KEYS = {"text": "content_hash", "corpus": "cache_key", "given": "explicit_options", "conditions": "environment"}
_ENVIRONMENT_KEYS = {"instructions": "instruction_set", "processes": "world_size"}

_TENSOR_NAMES = (
    (r"\.weight_x\b", ".weight_ih"),
    (r"\.weight_h\b", ".weight_hh"),
    (r"\.bias_h\b", ".bias_hh"),
    (r"\breader\.front\.into\.", "encoder.input_layer.proj."),
    (r"\breader\.front\.deep\.", "encoder.input_layer.mlp."),
    (r"\breader\.front\.place\b", "encoder.input_layer.position"),
    (r"\breader\.front\.", "encoder.input_layer."),
    (r"\breader\.", "encoder."),
    (r"\bwriter\.above\.", "decoder.above_table."),
    (r"\bwriter\.place\b", "decoder.position"),
    (r"\bwriter\.from_whole\.", "decoder.context_proj."),
    (r"\bwriter\.begin\.", "decoder.init_state_proj."),
    (r"\bwriter\.", "decoder."),
    (r"^optimiser/", "optimizer/"),
    (r"^(optimizer/.*)/mean$", r"\1/exp_avg"),
    (r"^(optimizer/.*)/square$", r"\1/exp_avg_sq"),  # of AdamW and Muon; RMSProp has only this one, see _tensor_name
    (r"^carried/", "state/"),
    (r"^window$", "running_sums"),
)


def upgrade(tensors: Mapping[str, T], metadata: Mapping[str, Any]) -> tuple[dict[str, T], dict[str, Any]]:
    """Return the tensors and the JSON header of a file of format 1 under their names in format 2.

    Args:
        tensors: tensors by name, of a model or of a training checkpoint.
        metadata: the JSON value of its header.

    Raises `TypeError` or `KeyError` if a value has another type than format 1 gave it.
    """
    header = _renamed(metadata, _METADATA_KEYS)
    header["kind"] = _KINDS.get(str(header.get("kind")), header.get("kind"))
    if isinstance(header.get("history"), dict):
        header["history"] = _renamed(header["history"], _HISTORY_KEYS)
    if isinstance(header.get("state"), dict):
        header["state"] = _upgrade_state(header["state"])
    if header.get("documents") == "stream":
        header["documents"] = "none"
    if isinstance(header.get("spec"), dict):
        header["spec"] = _upgrade_spec(header["spec"])
    return {_tensor_name(name, tensors): tensor for name, tensor in tensors.items()}, header


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's `config.json` of format 1 under the keys of format 2."""
    upgraded = _renamed(config, _CONFIG_KEYS)
    environment = upgraded.get("environment")
    if isinstance(environment, dict):
        environment = _renamed(environment, _ENVIRONMENT_KEYS)
        if environment.get("kernels") == "aten":
            environment["kernels"] = "torch"
        upgraded["environment"] = environment
    return upgraded | {"format": 2}


def _tensor_name(old_name: str, old_names: Collection[str]) -> str:
    name = old_name
    for pattern, replacement in _TENSOR_NAMES:
        name = re.sub(pattern, replacement, name)
    if name.endswith("/exp_avg_sq") and old_name.replace("/square", "/mean") not in old_names:
        return name.replace("/exp_avg_sq", "/square_avg")
    return name


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _upgrade_state(state: Mapping[str, Any]) -> dict[str, Any]:
    upgraded = _renamed(state, _STATE_KEYS)
    upgraded["used"] = _renamed(upgraded["used"], {"symbols": "tokens"})
    upgraded["cursor"] = _renamed(upgraded["cursor"], {"read": "position"})
    return upgraded


def _upgrade_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Rename what is in the header of a table model: `known`, the tokenizers of its columns, and the training statistics."""
    upgraded = _renamed(spec, {"known": "train_stats"})
    for side in ("source", "target"):
        upgraded[side] = _renamed(upgraded[side], {"vocabulary": "tokenizer"})
    stats = upgraded["train_stats"]
    upgraded["train_stats"] = _renamed(stats, {"steps": "step_labels", "longest": "max_length", "commonest": "most_common"})
    steps = upgraded["train_stats"].get("step_labels")
    if isinstance(steps, dict):
        names = {"labels": "label_counts", "symbols": "majority_by_label", "missed": "num_uncounted"}
        upgraded["train_stats"]["step_labels"] = _renamed(steps, names)
    return upgraded
