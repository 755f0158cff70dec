"""The paper's theorems, measured: capacity, the bound on the divergence, the uniform grid.

For Gaussian noise over its scale s and uniform noise over its half width e, with 1, 2 and 4
components: the information that a trained embedding sends (InfoNCE with the channel's own density,
in batches of 4,096 rows), the capacity, and what is left of it beside a nearest-neighbour estimate
of the divergence that it bounds, KL(f(X) + Z || output at capacity). Synthetic table,
nothing in the objective but I(f(X); f(X) + Z): the theorem is about it.

    OMP_NUM_THREADS=1 python benchmarks/paper/theorems.py            docs/paper/theorems*
    OMP_NUM_THREADS=1 python benchmarks/paper/theorems.py --quick    prints a few lines only
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import common
import datasets
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln

from sknoisydim import NoisyDIMTransformer
from sknoisydim.bounds import infonce
from sknoisydim.noise import GaussianNoise, UniformNoise

N_ROWS = 8192
BATCH = 4096  # rows that a measurement of information compares: log 4,096 = 8.3 nats
NEIGHBOURS = 5
EPOCHS = 68
SCALES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
LEVELS = {1: (2, 4, 8, 16), 2: (2, 4, 8, 16), 4: (2, 4)}
HEADER = ("channel", "d", "noise", "capacity", "I", "C - I", "KL", "KL of p*", "I / C")


def entropy(y: np.ndarray) -> float:
    """Kozachenko and Leonenko's estimate from nearest neighbours, in nats."""
    n, d = y.shape
    distances = cKDTree(y).query(y, NEIGHBOURS + 1)[0][:, -1]
    ball = 0.5 * d * math.log(math.pi) - gammaln(0.5 * d + 1)
    return float(digamma(n) - digamma(NEIGHBOURS) + ball + d * np.log(distances).mean())


def log_best(channel: Any, y: np.ndarray) -> np.ndarray:
    """Log density of the distribution of the output at capacity; -inf where that has no mass."""
    d = y.shape[1]
    if channel.exact:
        variance = 1 + channel.scale**2
        return -0.5 * (np.square(y).sum(1) / variance + d * math.log(2 * math.pi * variance))
    e = channel.half_width
    inside = ((y >= -e - 1e-6) & (y <= 1 + e + 1e-6)).all(1)
    return np.where(inside, -d * math.log1p(2 * e), -np.inf)


def divergence(channel: Any, y: np.ndarray) -> float:
    return -entropy(y) - float(log_best(channel, y).mean())


def best_output(channel: Any, n: int) -> np.ndarray:
    """Draws of the output at capacity, whose true divergence is 0: the error of the estimate."""
    rng = np.random.default_rng(1)
    shape = (n, channel.n_components)
    if channel.exact:
        return math.sqrt(1 + channel.scale**2) * rng.standard_normal(shape)
    return rng.uniform(-channel.half_width, 1 + channel.half_width, shape)


def information(channel: Any, z: torch.Tensor) -> float:
    generator = torch.Generator().manual_seed(0)
    return float(
        np.mean(
            [
                infonce(channel.log_ratio(part, channel.transmit(part, generator))).item()
                for part in z.split(BATCH)
            ]
        )
    )


def fit(X: np.ndarray, d: int, noise: Any, epochs: Any) -> NoisyDIMTransformer:
    target = "uniform" if isinstance(noise, UniformNoise) else "normal"
    return NoisyDIMTransformer(
        d,
        target,
        noise=noise,
        keep=None,
        match_weight=0,
        refine=None,
        max_epochs=epochs,
        random_state=0,
    ).fit(X)


def one(X: np.ndarray, d: int, noise: Any, size: str, epochs: Any) -> list[Any]:
    model = fit(X, d, noise, epochs)
    channel = model.channel_
    with torch.no_grad():
        z = model.encoder_(torch.from_numpy(X))
        y = channel.transmit(z, torch.Generator().manual_seed(2)).double().numpy()
    shown, capacity = information(channel, z), channel.capacity
    name = "Gaussian" if channel.exact else "uniform"
    control = divergence(channel, best_output(channel, len(X)))
    row = [name, d, size, capacity, shown, capacity - shown, divergence(channel, y), control]
    return [*row, shown / capacity]


def sweep(X: np.ndarray, components: Any, scales: Any, levels: Any, epochs: Any) -> list[list[Any]]:
    rows = []
    for d in components:
        for s in scales:
            rows.append(one(X, d, GaussianNoise(s), f"s = {s:g}", epochs))
            print(*map(common.cell, rows[-1]), flush=True)
        for k in levels[d]:
            rows.append(one(X, d, UniformNoise(0.5 / k), f"1/2e = {k}", epochs))
            print(*map(common.cell, rows[-1]), flush=True)
    return rows


def draw_information(rows: list[list[Any]]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
    for ax, name in zip(axes, ("Gaussian", "uniform"), strict=True):
        mine = [row for row in rows if row[0] == name]
        looks = {1: (common.BLUE, "o"), 2: (common.RED, "s"), 4: (common.GREEN, "^")}
        top = max(row[3] for row in mine)
        for d, (colour, marker) in looks.items():
            points = [(row[3], row[4]) for row in mine if row[1] == d]
            ax.plot(*zip(*points, strict=True), marker, color=colour, label=f"d = {d}", ms=6)
        ax.plot([0, top], [0, top], "-", color="0.6", lw=1, label="capacity", zorder=0)
        ax.axhline(math.log(512), color="0.35", ls="--", lw=1, label="log 512, a batch of training")
        ax.set(xlabel="capacity, nats", ylabel="information, nats", title=f"{name} noise")
        ax.legend(fontsize=8, loc="lower right", frameon=False)
    figure.tight_layout()
    common.write_figure(figure, "theorems_information")


def draw_grid(X: np.ndarray, levels: Any, epochs: Any) -> list[list[Any]]:
    figure, axes = plt.subplots(1, len(levels), figsize=(3.4 * len(levels), 3.6))
    rows = []
    for ax, k in zip(axes, levels, strict=True):
        model = fit(X, 2, UniformNoise(0.5 / k), epochs)
        f = model.transform(X).astype(float)
        off = float(np.abs(k * f - np.rint(k * f)).mean())
        shares = np.bincount((np.rint(k * f) @ [k + 1, 1]).astype(int), minlength=(k + 1) ** 2)
        rows.append([k, (k + 1) ** 2, off, shares.min() / len(f), shares.max() / len(f)])
        grid = np.linspace(0, 1, k + 1)
        for value in grid:
            ax.axvline(value, color="0.88", lw=0.6, zorder=0)
            ax.axhline(value, color="0.88", lw=0.6, zorder=0)
        ax.plot(*f[:3000].T, ".", ms=2, color=common.BLUE, alpha=0.5, rasterized=True)
        ax.set(aspect="equal", xlim=(-0.06, 1.06), ylim=(-0.06, 1.06), title=f"1/2e = {k}")
        ax.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    figure.tight_layout()
    common.write_figure(figure, "theorems_grid")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few fits, nothing is written")
    options = parser.parse_args()
    print(common.versions())
    X = datasets.synthetic(N_ROWS)[0].astype(np.float32)
    if options.quick:
        rows = sweep(X[:2048], (1, 2), (0.2, 1.0), {1: (4,), 2: (4,)}, 20)
        common.show("Information and divergence, nats", HEADER, rows)
        return
    rows = sweep(X, (1, 2, 4), SCALES, LEVELS, EPOCHS)
    common.show("Information and divergence, nats", HEADER, rows)
    broken = [row for row in rows if row[6] - row[7] > row[5] + 0.03]
    print(f"\nKL <= C - I fails by more than 0.03 nats in {len(broken)} of {len(rows)} rows")
    common.write_table("theorems", HEADER, rows)
    draw_information(rows)
    header = ("1/2e", "points", "distance, cells", "least share", "largest share")
    grid = draw_grid(X, (2, 4, 8), 150)
    common.show("The grid, d = 2", header, grid)
    common.write_table("theorems_grid", header, grid)
    common.write_note(
        "theorems",
        "OMP_NUM_THREADS=1 python benchmarks/paper/theorems.py",
        f"Synthetic table of ``benchmarks/datasets.py``, {N_ROWS:,} rows, seed 0, one fit a line, "
        f"``keep=None, match_weight=0, refine=None``, {EPOCHS} epochs (150 for the grid). Measured "
        "on the training rows.",
    )


if __name__ == "__main__":
    main()
