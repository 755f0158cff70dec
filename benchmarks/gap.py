"""What could close the gap of the joint law during training, each way with its figures.

    OMP_NUM_THREADS=1 python benchmarks/gap.py                    about 50 minutes
    OMP_NUM_THREADS=1 python benchmarks/gap.py --components 8 --seeds 3
    OMP_NUM_THREADS=1 python benchmarks/gap.py --quick            one seed, few epochs

The synthetic table of benchmarks/match.py, with its judges, for `clean_weight=1` (no views) and for
the defaults. The ways:

longer        four times the epochs
batch 2048    four times the rows in a batch, in as many steps, and the noise that goes with it
levels        each row has its own noise, half, once or twice that of "auto"
memory        the exact critic also tells a row from 2,048 embeddings of earlier batches, and the
              noise is what so many rows can show
projections   the clean term sees a random plane of the embedding in each step, with the noise for
              two components
learned       the clean term takes the learned critic, too
"""

from __future__ import annotations

import argparse
import platform
import warnings

import match
import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning

import sknoisydim
from sknoisydim._settings import auto_epochs
from sknoisydim.bounds import infonce
from sknoisydim.noise import GaussianChannel, GaussianNoise, auto_scale

COLUMNS = ("boosting", "mlp", "floors", "corr", "LR", "NB", "kNN", "s")
BATCH_SIZE = 512
MEMORY = 2048
PLANE = 2


class LevelsChannel(GaussianChannel):
    """Noise of one of three scales for each row, which the exact critic knows."""

    def transmit(self, clean, generator):
        if not clean.requires_grad:
            return super().transmit(clean, generator)
        level = torch.randint(-1, 2, (len(clean), 1), generator=generator)
        self.scales = self.scale * 2.0**level
        return clean + self.scales * torch.empty_like(clean).normal_(generator=generator)

    def log_ratio(self, clean, noisy, spread=None):
        if not clean.requires_grad:
            return super().log_ratio(clean, noisy, spread)
        precision, output = self.scales**-2, 1 + self.scales**2
        capacity = 0.5 * self.n_components * torch.log(output * precision)
        y_term = capacity - 0.5 * noisy.square().sum(1, keepdim=True) * (precision - 1 / output)
        f_term = -0.5 * precision * clean.square().sum(1)
        return precision * (noisy @ clean.T) + f_term + y_term


class MemoryChannel(GaussianChannel):
    """Earlier embeddings stand beside those of the batch, as columns of the scores."""

    past = None

    def log_ratio(self, clean, noisy, spread=None):
        if not clean.requires_grad:
            return super().log_ratio(clean, noisy, spread)
        known = clean if self.past is None else torch.cat([clean, self.past])
        self.past = known[:MEMORY].detach()
        return super().log_ratio(known, noisy, spread)


def infonce_with_memory(scores):
    """InfoNCE in both directions; columns beyond the rows are further rivals of each row."""
    n, m = scores.shape
    if n == m:
        return infonce(scores)
    own = scores.diagonal().mean()
    by_row = own - scores.logsumexp(1).mean() + np.log(m)
    by_column = own - scores[:, :n].logsumexp(0).mean() + np.log(n)
    return (by_row + by_column) / 2


class ProjectedChannel(GaussianChannel):
    """The exact critic sees a random plane of the embedding, through the noise of a plane."""

    def transmit(self, clean, generator):
        self.generator = generator
        return super().transmit(clean, generator)

    def log_ratio(self, clean, noisy, spread=None):
        if not clean.requires_grad:
            return super().log_ratio(clean, noisy, spread)
        frame = torch.empty(self.n_components, PLANE).normal_(generator=self.generator)
        seen = clean @ torch.linalg.qr(frame).Q
        channel = GaussianChannel(PLANE, auto_scale(PLANE, len(clean)))
        return channel.log_ratio(seen, channel.transmit(seen, self.generator))


class LearnedChannel(GaussianChannel):
    """Says that its exact critic is not to be used."""

    exact, deviation = False, 1.0

    def for_critic(self, view, noisy):
        return view, noisy


class Channel(GaussianNoise):
    """Noise that makes a channel of another kind."""

    def __init__(self, kind=GaussianChannel, rivals=0):
        self.kind = kind
        self.rivals = rivals

    def build(self, n_components, batch_size):
        return self.kind(n_components, auto_scale(n_components, batch_size + self.rivals))


def ways(epochs):
    """Return the parameters of each way, by name."""
    return {
        "as it is": {"max_epochs": epochs},
        "longer": {"max_epochs": 4 * epochs},
        "batch 2048": {"max_epochs": 4 * epochs, "batch_size": 2048},
        "levels": {"max_epochs": epochs, "noise": Channel(LevelsChannel)},
        "memory": {
            "max_epochs": epochs,
            "noise": Channel(MemoryChannel, MEMORY),
            "bound": infonce_with_memory,
        },
        "projections": {"max_epochs": epochs, "noise": Channel(ProjectedChannel)},
        "learned": {"max_epochs": epochs, "noise": Channel(LearnedChannel)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--components", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--weights", nargs="+", type=float, default=[1.0, 0.5])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=None, help="default: what auto takes")
    parser.add_argument("--only", default="", help="ways whose name holds this text")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if not any(options.only in name for name in ways(1)):
        parser.error(f"--only {options.only}: the ways are {', '.join(ways(1))}.")
    if options.quick:
        options.components, options.epochs, options.seeds = [8], 2, 1
    warnings.simplefilter("ignore", ConvergenceWarning)
    data = match.load("synthetic")
    epochs = options.epochs or auto_epochs(len(data[0]), BATCH_SIZE)
    print(
        f"sknoisydim {sknoisydim.__version__}, scikit-learn {sklearn.__version__}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}; {epochs} epochs, medians over {options.seeds} seeds"
    )
    for d in options.components:
        for weight in options.weights:
            print(f"\nd = {d}, clean_weight = {weight:g}")
            print(f"| {'way':12} | " + " | ".join(f"{name:>8}" for name in COLUMNS) + " |")
            print("|---" * (1 + len(COLUMNS)) + "|")
            for name, parameters in ways(epochs).items():
                if options.only not in name:
                    continue
                fits = [
                    match.ours(data, seed, n_components=d, clean_weight=weight, **parameters)
                    for seed in range(options.seeds)
                ]
                row = np.median(fits, axis=0)[[0, 1, 2, 3, 4, 5, 6, -1]]
                cells = [f"{value:8.3f}" for value in row[:-1]] + [f"{row[-1]:8.0f}"]
                print(f"| {name:12} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
