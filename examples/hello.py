"""The worked example of the blog post: a network of three units learns to spell "hello".

Four letters, four training pairs: h -> e, e -> l, l -> l, l -> o. First the post's own figure: having read `h`, the network
scores the next letter h 1.0, e 2.2, l -3.0, o 4.1, and one small step of gradient descent raises the right score, that of e,
to about 2.3 and lowers the three others. Then training: after some hundred steps it spells, and gives the two `l`
different answers, which only the hidden state can tell apart.

    python examples/hello.py
"""

import math

import torch
from torch import Tensor, nn

import unrolled

LETTERS = "helo"
WORD = "hello"
POST_SCORES = (1.0, 2.2, -3.0, 4.1)


def one_hot(letter: str) -> Tensor:
    """Return the letter as a vector `(4,)` of zeros with a single one."""
    return torch.eye(len(LETTERS))[LETTERS.index(letter)]


def scores(rnn: unrolled.RNN, word: str = WORD) -> Tensor:
    """Feed all letters of a word but the last, from the zero state; return the scores of the next letter, `(T, 4)`."""
    rnn.reset()
    return torch.stack([rnn.step(one_hot(letter)) for letter in word[:-1]])


def targets(word: str = WORD) -> Tensor:
    """Return the index of the right next letter at every position, `(T,)`."""
    return torch.tensor([LETTERS.index(letter) for letter in word[1:]])


def descend(rnn: unrolled.RNN, rate: float, word: str = WORD) -> float:
    """Take one step of gradient descent on the cross-entropy of all positions at once; return the loss before it, in nats."""
    loss = nn.functional.cross_entropy(scores(rnn, word), targets(word))
    rnn.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.no_grad():
        for matrix in rnn.parameters():
            if matrix.grad is not None:
                matrix.sub_(rate * matrix.grad)
    return float(loss.detach())


def as_in_the_post() -> unrolled.RNN:
    """Return a network of three units that scores the letter after `h` as the post's figure does."""
    rnn = unrolled.RNN(len(LETTERS), 3, len(LETTERS), seed=1)
    excited = 0.995
    with torch.no_grad():
        rnn.W_xh[:, LETTERS.index("h")] = math.atanh(excited)
        rnn.W_hy.copy_(torch.tensor(POST_SCORES).unsqueeze(1).expand(-1, 3) / (3 * excited))
    return rnn


def spell(rnn: unrolled.RNN, first: str = "h", length: int = 5) -> str:
    """Write from the first letter on, always the likeliest next one."""
    rnn.reset()
    word = first
    while len(word) < length:
        word += LETTERS[int(rnn.step(one_hot(word[-1])).argmax())]
    return word


def main() -> None:
    """Show the scores before and after one step, then train until it spells."""
    rnn = as_in_the_post()
    before = scores(rnn, "he")[0].tolist()
    descend(rnn, 0.04, "he")
    after = scores(rnn, "he")[0].tolist()
    print("after reading h, the scores of the next letter, before and after one step towards e:")
    for letter, one, other in zip(LETTERS, before, after, strict=True):
        print(f"  {letter}  {one:+.3f} -> {other:+.3f}  {'higher' if other > one else 'lower'}")
    rnn = unrolled.RNN(len(LETTERS), 3, len(LETTERS), seed=4)
    for step in range(1, 501):
        loss = descend(rnn, rate=0.3)
        if step in (1, 10, 50, 100, 500):
            print(f"step {step:3}: {loss:.3f} nats a letter, it spells {spell(rnn)!r}")


if __name__ == "__main__":
    main()
