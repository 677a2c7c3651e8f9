"""Train a base model of `unrolled`: an ordinary run on a large text, which is resumed if it was stopped.

    python scripts/train_base.py train.txt --out runs/english --minutes 75 --threads 1     start, or go on where it stopped
    python scripts/train_base.py train.txt --out runs/more --from runs/english --minutes 100      a further budget

The learning rate falls to zero at the end of the budget, so the budget must be known at the start. A further one begins with a
lower rate. `scripts/package_base.py` writes the file of the package from the run.
"""

import argparse
from pathlib import Path

import unrolled

NO_LIMIT = 10**6
"""Evaluations without progress: at the high rate of a new start there are many."""

CONTINUED_RATE = 0.006
"""Learning rate at the start of a further budget; that of the first one is the recipe's, 0.008."""

HELD_OUT = 0.005
"""Share of the corpus on which the best model is chosen. The published figure is of another text, by other authors."""


def main() -> None:
    """Start or resume the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="the text, a file that `unrolled train` can read")
    parser.add_argument("--out", required=True, help="run folder")
    parser.add_argument("--minutes", type=float, required=True, help="minutes of training, from the first step to the last")
    parser.add_argument("--from", dest="init_from", help="the run of an earlier budget")
    parser.add_argument("--hidden", type=int, default=384, help="units of each of the two layers (default: 384)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    arguments = parser.parse_args()
    if (Path(arguments.out) / "config.json").is_file():
        model = unrolled.train(resume=arguments.out)
    else:
        continued = {"init_from": arguments.init_from, "lr": CONTINUED_RATE, "patience": NO_LIMIT, "seed": 2}
        model = unrolled.train(
            arguments.corpus,
            out=arguments.out,
            minutes=arguments.minutes,
            hidden=arguments.hidden,
            threads=arguments.threads,
            batch=32,
            bptt=64,
            optimizer="muon",
            dropout=0.0,
            token_dropout=0.0,
            state_reset_prob=0.03,
            train_fraction=1 - HELD_OUT,
            test_fraction=0,
            **(continued if arguments.init_from else {"seed": 1}),
        )
    print(model.result)


if __name__ == "__main__":
    main()
