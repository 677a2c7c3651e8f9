"""A character-level recurrent network in plain numpy: read a text, learn to guess its next character.

    python examples/min_char_rnn.py book.txt [--steps N] [--check] [--seed S]

With no file it learns its own source.  Shape letters: V characters in the vocabulary, H hidden units,
T predictions in a chunk.  A chunk is T+1 character ids: each but the last is asked for the one after it.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Params = dict[str, Array]
HIDDEN, CHUNK, LEARNING_RATE, CLIP, TOLERANCE = 100, 25, 1e-1, 5.0, 1e-5


def init_params(vocab_size: int, hidden: int, rng: np.random.Generator, scale: float = 0.01) -> Params:
    """W_xh (H, V), W_hh (H, H), W_hy (V, H) drawn from scale * N(0, 1); b_h (H,) and b_y (V,) zero."""
    shapes = {"W_xh": (hidden, vocab_size), "W_hh": (hidden, hidden), "W_hy": (vocab_size, hidden)}
    weights: Params = {name: scale * rng.standard_normal(shape) for name, shape in shapes.items()}
    return weights | {"b_h": np.zeros(hidden), "b_y": np.zeros(vocab_size)}


def next_state(char_id: int, h: Array, params: Params) -> Array:
    """h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h), from (H,) to (H,); x_t is one-hot: it picks a column."""
    return np.tanh(params["W_xh"][:, char_id] + params["W_hh"] @ h + params["b_h"])


def output_probs(h: Array, params: Params, temperature: float = 1.0) -> Array:
    """softmax(y_t / temperature) with y_t = W_hy h_t + b_y, from (..., H) to (..., V)."""
    y = (h @ params["W_hy"].T + params["b_y"]) / temperature
    e: Array = np.exp(y - y.max(axis=-1, keepdims=True))  # the shift cancels out and prevents overflow
    e /= e.sum(axis=-1, keepdims=True)
    return e


def forward(ids: NDArray[np.int64], h: Array, params: Params) -> tuple[float, Array, Array]:
    """Loss -sum_t log p_t[ids_{t+1}] in nats of a chunk ids (T+1,) read from state h (H,).

    Also returns the states (T+1, H), of which the first is h, and the predicted probabilities p (T, V).
    """
    states = [h]
    for char_id in ids[:-1]:
        states.append(next_state(int(char_id), states[-1], params))
    hs = np.stack(states)
    probs = output_probs(hs[1:], params)  # unlike the states, the outputs can be computed all at once
    return float(-np.log(probs[np.arange(len(probs)), ids[1:]]).sum()), hs, probs


def backward(ids: NDArray[np.int64], hs: Array, probs: Array, params: Params) -> Params:
    """Gradient of forward's loss, shaped like params; the state the chunk starts from is a constant.

    With a_t the argument of tanh: dL/dy_t = p_t - onehot(ids_{t+1}), dL/da_t = (1 - h_t^2) * dL/dh_t,
    and h_t acts on the loss in two ways: dL/dh_t = W_hy^T dL/dy_t + W_hh^T dL/da_{t+1}.
    """
    dy = probs.copy()  # (T, V)
    dy[np.arange(len(dy)), ids[1:]] -= 1.0
    da = dy @ params["W_hy"]  # (T, H), so far dL/dh by way of y_t alone
    from_future = np.zeros_like(hs[0])  # nothing in this chunk comes after the last state
    for t in reversed(range(len(da))):
        da[t] = (1.0 - hs[t + 1] ** 2) * (da[t] + from_future)
        from_future = params["W_hh"].T @ da[t]
    dW_xh = np.zeros_like(params["W_xh"])
    np.add.at(dW_xh.T, ids[:-1], da)  # += would count a character that occurs twice only once
    return {"W_xh": dW_xh, "W_hh": da.T @ hs[:-1], "W_hy": dy.T @ hs[1:], "b_h": da.sum(0), "b_y": dy.sum(0)}


def gradient_check(seed: int = 0, vocab_size: int = 5, hidden: int = 7, steps: int = 12) -> dict[str, float]:
    """Compare backward with (L(w + eps) - L(w - eps)) / (2 eps) for every weight w of a small random model.

    Prints and returns |analytic - numeric| / (|analytic| + |numeric|) per parameter, |.| being the norm.
    """
    rng, eps = np.random.default_rng(seed), 1e-5
    params = init_params(vocab_size, hidden, rng, scale=0.5)  # large, so that every path through time counts
    h, ids = rng.uniform(-1, 1, hidden), rng.integers(vocab_size, size=steps + 1)
    errors: dict[str, float] = {}
    for name, analytic in backward(ids, *forward(ids, h, params)[1:], params).items():
        weights, numeric = params[name], np.zeros_like(analytic)
        for index in np.ndindex(weights.shape):
            kept = weights[index]
            for signed in (eps, -eps):
                weights[index] = kept + signed
                numeric[index] += forward(ids, h, params)[0] / (2 * signed)
            weights[index] = kept
        size = float(np.linalg.norm(analytic) + np.linalg.norm(numeric))
        errors[name] = float(np.linalg.norm(analytic - numeric)) / max(size, 1e-12)
        print(f"{name:5} relative error {errors[name]:.1e}")
    return errors


class Adagrad:
    """m += g^2; w -= rate * g / sqrt(m + 1e-8), elementwise: large gradients so far make small steps now."""

    def __init__(self, params: Params, rate: float = LEARNING_RATE) -> None:
        self.rate, self.memory = rate, {name: np.zeros_like(w) for name, w in params.items()}

    def step(self, params: Params, grads: Params) -> None:
        """Change params in place; each gradient has the shape of its parameter."""
        for name, grad in grads.items():
            self.memory[name] += grad**2
            params[name] -= self.rate * grad / np.sqrt(self.memory[name] + 1e-8)


def sample(params: Params, h: Array, first: int, length: int, rng: np.random.Generator, temperature: float = 1.0) -> list[int]:
    """Draw ids that follow the id first, read in state h (H,), by feeding each drawn id back in.

    A temperature below 1 favors likely characters (safe, repetitive); above 1 the text grows wilder.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    drawn = [first]
    for _ in range(length):
        h = next_state(drawn[-1], h, params)
        probs = output_probs(h, params, temperature)
        drawn.append(int(rng.choice(len(probs), p=probs)))
    return drawn[1:]


def train(text: str, steps: int, seed: int = 0, report_every: int = 1000) -> tuple[Params, str, float]:
    """Learn from one chunk per step; return parameters, vocabulary and smoothed loss (nats/character)."""
    vocab, rng = "".join(sorted(set(text))), np.random.default_rng(seed)
    id_of = {char: i for i, char in enumerate(vocab)}
    ids = np.array([id_of[char] for char in text], dtype=np.int64)
    params = init_params(len(vocab), HIDDEN, rng)
    optimizer, smooth = Adagrad(params), math.log(len(vocab))  # a uniform guess costs log V
    # Neighboring chunks share one id, so every pair of neighbors in the text is learned, and no other pair.
    starts = range(0, len(ids) - 1, CHUNK)
    for step in range(1, steps + 1):
        start = starts[(step - 1) % len(starts)]
        if start == 0:
            h = np.zeros(HIDDEN)  # the text starts again: do not remember how it ended
        chunk = ids[start : start + CHUNK + 1]
        loss, hs, probs = forward(chunk, h, params)
        grads = backward(chunk, hs, probs, params)
        # Gradients through many steps can explode; clipping limits what one chunk can do to the weights.
        optimizer.step(params, {name: np.clip(g, -CLIP, CLIP) for name, g in grads.items()})
        smooth = 0.999 * smooth + 0.001 * loss / len(probs)
        h = hs[-1]  # the state flows into the next chunk, but no gradient flows back
        if step in (1, steps) or step % report_every == 0:
            drawn = "".join(vocab[i] for i in sample(params, h, int(chunk[-1]), 200, rng))
            bits = smooth / math.log(2)
            print(f"step {step}: smoothed loss {smooth:.3f} nats = {bits:.3f} bits per character")
            print(f"----\n{drawn}\n----", flush=True)
    return params, vocab, smooth


def read_text(path: Path) -> str:
    """The text of a file, or an exit with one sentence that says what is wrong with the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        sys.exit(f"Cannot read {path}: {error.strerror}.")
    except UnicodeDecodeError:
        sys.exit(f"Cannot read {path}: it is not UTF-8 text.")
    if len(text) <= CHUNK:
        sys.exit(f"{path} is too short: it has {len(text)} characters, and {CHUNK + 1} are needed.")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a character-level RNN with numpy alone.")
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__), help="default: this program")
    parser.add_argument("--steps", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="only check the gradients, without training")
    args = parser.parse_args()
    if args.steps < 1 or args.seed < 0:
        parser.error("--steps must be at least 1 and --seed at least 0")
    if args.check:  # all(... <= ...) rather than any(... > ...), so that NaN fails too
        sys.exit(0 if all(error <= TOLERANCE for error in gradient_check(args.seed).values()) else 1)
    train(read_text(args.file), args.steps, args.seed)


if __name__ == "__main__":
    main()
