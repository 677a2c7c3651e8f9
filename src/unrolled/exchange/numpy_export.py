"""`--to numpy`: one readable Python file that needs numpy only, and the model's weights as safetensors next to it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from unrolled.display import shell_argument
from unrolled.errors import UsageError
from unrolled.exchange.export_job import (
    ExportError,
    ExportJob,
    ExportResult,
    Runner,
    States,
    compare_with_reference,
    reference_run,
    run_program,
)
from unrolled.network_shapes import HARD_SIGMOID_CELLS
from unrolled.runtime.portable_arithmetic import Floats

CHECK_TOKENS, CHECK_LOGITS = 20, 8

LSTM_STEP = """\
    i, f, g, o = np.split(x @ w["weight_ih"].T + w["bias"] + h @ w["weight_hh"].T + w.get("bias_hh", 0), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c"""
GRU_STEP = """\
    xr, xz, xn = np.split(x @ w["weight_ih"].T + w["bias"], 3, axis=-1)
    hr, hz, hn = np.split(h @ w["weight_hh"].T + w.get("bias_hh", 0), 3, axis=-1)
    z, n = sigmoid(xz + hz), np.tanh(xn + sigmoid(xr + hr) * hn)
    return ((1 - z) * n + z * state[0],)"""
MOGRIFIER_ROUNDS = """\
    # input and h modulate each other before the gates read them
    for q, r in zip(w["mogrifier_q"], [*w["mogrifier_r"], None]):
        x = 2 * sigmoid(h @ q.T) * x
        h = h if r is None else 2 * sigmoid(x @ r.T) * h
"""
LSTM_STATE = "    h, c = state  # gates i, f, g, o\n"
GRU_STATE = "    h, = state  # gates r, z, n; the reset gate after the product\n"

CELL_STEPS = {
    "rnn": """\
    h, = state
    h = np.tanh(x @ w["weight_ih"].T + w["bias"] + h @ w["weight_hh"].T + w.get("bias_hh", 0))
    return (h,)""",
    "gru": GRU_STATE + GRU_STEP,
    "gru-reset-before": """\
    h, = state  # gates r, z, n; the reset gate before the product, as published
    (wr, wz, wn), b = np.split(w["weight_hh"], 3), np.split(w.get("bias_hh", 0 * w["bias"]), 3)
    xr, xz, xn = np.split(x @ w["weight_ih"].T + w["bias"], 3, axis=-1)
    r, z = sigmoid(xr + h @ wr.T + b[0]), sigmoid(xz + h @ wz.T + b[1])
    n = np.tanh(xn + (r * h) @ wn.T + b[2])
    return ((1 - z) * n + z * h,)""",
    "lstm": LSTM_STATE + LSTM_STEP,
    "mogrifier-gru": GRU_STATE + MOGRIFIER_ROUNDS + GRU_STEP,
    "mogrifier-lstm": LSTM_STATE + MOGRIFIER_ROUNDS + LSTM_STEP,
    "mingru": """\
    h, = state  # gates z, n, of the input only
    z, n = np.split(x @ w["weight_ih"].T + w["bias"], 2, axis=-1)
    return ((1 - sigmoid(z)) * h + sigmoid(z) * n,)""",
    "minlstm": """\
    h, = state  # gates i, f, n, of the input only; i and f are divided by their sum
    i, f, n = np.split(x @ w["weight_ih"].T + w["bias"], 3, axis=-1)
    share = sigmoid(log_sigmoid(i) - log_sigmoid(f))
    return ((1 - share) * h + share * n,)""",
    "rg-lru": """\
    h, = state  # gates r, i, n, of the input only
    r, i, n = np.split(x @ w["weight_ih"].T + w["bias"], 3, axis=-1)
    log_a = 8 * sigmoid(r) * log_sigmoid(w["decay_logit"])
    return (np.exp(log_a) * h + np.sqrt(np.maximum(-np.expm1(2 * log_a), np.float32(1e-12))) * sigmoid(i) * n,)""",
    "slstm": """\
    h, c, n, m = state  # gates i, f, g, o; n normalizes c, and m keeps the exponential gates in range
    i, f, g, o = np.split(x @ w["weight_ih"].T + w["bias"] + h @ w["weight_hh"].T + w.get("bias_hh", 0), 4, axis=-1)
    kept = np.where(n == 0, i, log_sigmoid(f) + m)
    m = np.maximum(kept, i)
    i, f = np.exp(i - m), np.exp(kept - m)
    c, n = f * c + i * np.tanh(g), f * n + i
    return sigmoid(o) * c / n, c, n, m""",
}
"""The body of `cell_step` in the exported file, by cell."""

CELL_STEPS |= {hard: CELL_STEPS[cell].replace("sigmoid(", "hard_sigmoid(") for cell, hard in HARD_SIGMOID_CELLS.items()}

FUNCTIONS = {"log_sigmoid": "np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))", "hard_sigmoid": "np.clip(0.2 * x + 0.5, 0, 1)"}
"""What else a step can call."""

SCRIPT = '''\
"""@TITLE@

@DESCRIPTION@. Needs numpy only; the weights are in @WEIGHTS@.

    python @FILE@ "prompt" 500 0.8 1        prompt, length, temperature, seed
"""

import json
import sys
from pathlib import Path

import numpy as np


def read_safetensors(path):
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    meta = json.loads(header.pop("__metadata__")["unrolled"])
    read = lambda a: np.frombuffer(content, "<f4", int(np.prod(a["shape"])), start + a["data_offsets"][0]).reshape(a["shape"])
    return {name: read(item) for name, item in header.items()}, meta


WEIGHTS, META = read_safetensors(Path(__file__).with_name("@WEIGHTS@"))
TOKENIZER, LAYERS, HIDDEN, RESIDUAL = META["tokenizer"], @LAYERS@, @HIDDEN@, @RESIDUAL@
CELLS = [{k.rsplit(".", 1)[1]: v for k, v in WEIGHTS.items() if k.startswith(f"stack.layers.{i}.cell.")} for i in range(LAYERS)]
EMBEDDING = WEIGHTS.get("embedding.weight", np.eye(len(WEIGHTS["head.bias"]), dtype=np.float32))


def sigmoid(x):
    return 0.5 * np.tanh(0.5 * x) + 0.5
@FUNCTIONS@

def layer_norm(x, weight, bias):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight + bias


def cell_step(w, x, state):
@CELL@


def initial_state(batch):
    return [(np.zeros((batch, HIDDEN), np.float32),) * @PARTS@ for _ in range(LAYERS)]


def step(ids, state):
    """Read ids (B,); return the logits (B, V) of the next token, and the next state."""
    x, next_state = EMBEDDING[ids], []
    for i, (w, layer_state) in enumerate(zip(CELLS, state)):
        norm = f"stack.layers.{i}.norm."
        inputs = layer_norm(x, WEIGHTS[norm + "weight"], WEIGHTS[norm + "bias"]) if RESIDUAL else x
        next_state.append(cell_step(w, inputs, layer_state))
        x = x + next_state[-1][0] if RESIDUAL else next_state[-1][0]
    return x @ WEIGHTS["head.weight"].T + WEIGHTS["head.bias"], next_state


def sample(prompt="", length=500, temperature=0.8, seed=1):
    """Return the prompt and a text that continues it. Unknown characters of the prompt are left out."""
    random, is_bytes, end = np.random.default_rng(seed), TOKENIZER["kind"] == "bytes", TOKENIZER["has_eos"]
    tokens = [bytes([i]) for i in range(256)] if is_bytes else list(TOKENIZER["tokens"])
    ids = [tokens.index(t) for t in (map(lambda b: bytes([b]), prompt.encode()) if is_bytes else prompt) if t in tokens]
    ids, state, text = [@BEGIN@] * (end or not ids) + ids, initial_state(1), []
    for token in ids:
        logits, state = step(np.array([token]), state)
    for _ in range(length):
        odds = np.exp((logits[0].astype(float) - logits.max()) / max(temperature, 1e-6))
        token = int(random.choice(len(odds), p=odds / odds.sum()))
        if token == len(tokens):
            break
        text.append(tokens[token])
        logits, state = step(np.array([token]), state)
    return prompt + (b"".join(text).decode("utf-8", "replace") if is_bytes else "".join(text))


# After these tokens the first logits are these, to about six digits: a check of a copy of this file.
CHECK_TOKENS = @CHECK_TOKENS@
CHECK_LOGITS = @CHECK_LOGITS@

if __name__ == "__main__":
    state = initial_state(1)
    for token in CHECK_TOKENS:
        logits, state = step(np.array([token]), state)
    if np.abs(logits[0, : len(CHECK_LOGITS)] - CHECK_LOGITS).max() > 1e-3 * np.abs(logits).max():
        sys.exit("the weights are not those that this file was written for")
    kinds = (str, int, float, int)
    print(sample(*(kind(value) for kind, value in zip(kinds, sys.argv[1:]))))
'''


def export(job: ExportJob) -> ExportResult:
    """Return the Python file and the weights of a model, checked. Raises `ExportError` if it computes something else."""
    if job.out.suffix != ".py":
        raise UsageError(f"--out is {job.out}; --to numpy writes a Python file: give it a name that ends with .py.")
    weights_path = job.out.with_suffix(".safetensors")
    files = {job.out: numpy_script(job, weights_path.name).encode(), weights_path: job.path.read_bytes()}
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            (Path(folder) / path.name).write_bytes(content)
        check = compare_with_reference(job, script_runner(Path(folder) / job.out.name))
    return ExportResult(files, [f"{job.out.name} in numpy {np.__version__}: {check}"], {})


def numpy_script(job: ExportJob, weights_name: str) -> str:
    """Return the Python file of a model whose weights are in the file `weights_name` next to it."""
    network, tokenizer = job.model.network, job.model.tokenizer
    tokens = np.random.default_rng(2).integers(0, network.vocab_size, (CHECK_TOKENS, 1))
    zero = np.zeros((1, network.hidden_size), np.float32)
    parts = len(network.state_names)
    logits, _ = reference_run(job.reference, tokens, [(zero,) * parts] * len(network.layers))
    values = {
        "TITLE": _comment(job.title),
        "DESCRIPTION": _comment(job.description),
        "WEIGHTS": weights_name,
        "FILE": shell_argument(job.out.name),
        "LAYERS": len(network.layers),
        "HIDDEN": network.hidden_size,
        "RESIDUAL": network.residual,
        "CELL": CELL_STEPS[network.cell],
        "FUNCTIONS": "".join(
            f"\n\ndef {name}(x):\n    return {result}\n"
            for name, result in FUNCTIONS.items()
            if f"{name}(" in CELL_STEPS[network.cell]
        ),
        "PARTS": parts,
        "BEGIN": tokenizer.bos_id,
        "CHECK_TOKENS": tokens[:, 0].tolist(),
        "CHECK_LOGITS": [float(f"{value:.6g}") for value in logits[-1, 0, :CHECK_LOGITS]],
    }
    script = SCRIPT
    for name, value in values.items():
        script = script.replace(f"@{name}@", str(value))
    return script


def _comment(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'").replace("\n", " ")


RUNNER = """
import importlib.util, sys
import numpy as np
from safetensors.numpy import load_file, save_file
spec = importlib.util.spec_from_file_location("exported", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
arrays = load_file(sys.argv[2])
ids, parts = arrays.pop("ids"), [arrays[f"state_{i}"] for i in range(len(arrays))]
per_layer = len(module.initial_state(1)[0])
state, logits = [tuple(parts[i : i + per_layer]) for i in range(0, len(parts), per_layer)], []
for row in ids:
    step_logits, state = module.step(row, state)
    logits.append(step_logits)
flat = [part for layer in state for part in layer]
save_file({"logits": np.stack(logits), **{f"state_{i}": np.ascontiguousarray(p) for i, p in enumerate(flat)}}, sys.argv[3])
"""
"""Runs an exported file in a process of its own, as a user would."""


def script_runner(path: Path) -> Runner:
    """Return a function that runs the `step` of an exported Python file over sequences."""

    def run(ids: NDArray[np.int64], states: States) -> tuple[Floats, States]:
        parts = [part for layer in states for part in layer]
        inputs, outputs = path.with_name("inputs.bin"), path.with_name("outputs.bin")
        states_by_name = {f"state_{index}": np.ascontiguousarray(part) for index, part in enumerate(parts)}
        save_file({"ids": np.ascontiguousarray(ids), **states_by_name}, inputs)
        command = [sys.executable, "-I", "-c", RUNNER, str(path), str(inputs), str(outputs)]
        run_program(command, "The exported Python file fails")
        arrays = load_file(outputs)
        if len(arrays) != len(parts) + 1:
            raise ExportError(f"The exported Python file has {len(arrays) - 1} states, and the model has {len(parts)}.")
        flat, per_layer = [arrays[f"state_{index}"] for index in range(len(parts))], len(states[0])
        return arrays["logits"], [tuple(flat[i : i + per_layer]) for i in range(0, len(flat), per_layer)]

    return run
