"""Cells and codes of samples: how balanced they are, and whether neighbours share them.

Half of a table is fitted. 200 of the other half are queries, the rest is the index; none of these
was seen in the fit. Every method cuts the space into k = 2^bits cells. Means over seeds:

    imbalance     k times the sum of squared shares of the index in the cells; "chance" is what
                  samples have that fall into equal cells at random, 1 + (k - 1) / n
    largest       share of the largest cell, times k
    recall .01    share of a query's ten nearest neighbours of the index (Euclidean distance of
                  standardised features; of pixels as they are) that are found when a hundredth of
                  the index is scanned, cells in order of their distance to the query
    s             CPU seconds of the fit

    OMP_NUM_THREADS=1 python benchmarks/codes.py                      # a few minutes
    OMP_NUM_THREADS=1 python benchmarks/codes.py --seeds 1 --tables digits
    OMP_NUM_THREADS=1 python benchmarks/codes.py --strata             # what splits are worth

With --strata: the spread of the test half's feature means and class shares over 200 stratified
splits (test_size=0.2), root mean square, over that of splits without strata; 1 is no gain. k-means
has more cells than strata: those with fewer than ten samples are joined, as ours are.

FAISS (pip install faiss-cpu) is skipped where it is not installed, with the reason.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
import torch
from datasets import TABLES
from frontier import PCARotation
from scipy.special import ndtr
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import sknoisydim
from sknoisydim import NoisyDIMTransformer, UniformCodes

BITS = {"digits": 6, "mnist": 8, "satimage": 8, "optdigits": 8}
PIXELS = {"digits", "mnist", "optdigits"}
N_QUERIES, N_NEIGHBORS = 200, 10
SHARES = (0.01, 0.05, 0.1, 0.2)

# Cells (n,) of samples, and distances (n, k) of samples to all cells.
Cells = tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]
Fit = Callable[[np.ndarray, int, int], Cells]


def uniform_codes(hamming: bool = False, **parameters: Any) -> Fit:
    """Return ours: cells by their distance, or by the number of bits that differ."""

    def fit(X: np.ndarray, bits: int, seed: int) -> Cells:
        base = NoisyDIMTransformer((bits + 1) // 2, **parameters) if parameters else None
        model = UniformCodes(base, bits=bits, random_state=seed).fit(X)

        def distances(rows: np.ndarray) -> np.ndarray:
            return np.argsort(model.nearest_cells(rows, 2**bits), axis=1)

        def differing(rows: np.ndarray) -> np.ndarray:
            return np.bitwise_count(model.codes(rows)[:, None] ^ np.arange(2**bits))

        return model.codes, differing if hamming else distances

    return fit


def k_means(X: np.ndarray, bits: int, seed: int) -> Cells:
    """Cells of the nearest of k centres."""
    model = KMeans(2**bits, n_init=1, random_state=seed).fit(X)
    return model.predict, model.transform


def faiss_ivf(X: np.ndarray, bits: int, seed: int) -> Cells:
    """The inverted file of FAISS: its own k-means."""
    import faiss

    model = faiss.Kmeans(X.shape[1], 2**bits, seed=seed, min_points_per_centroid=1)
    model.train(np.ascontiguousarray(X, np.float32))
    centers = model.centroids
    return (
        lambda rows: model.index.search(np.ascontiguousarray(rows, np.float32), 1)[1][:, 0],
        lambda rows: pairwise_distances(rows, centers),
    )


def by_signs(project: Callable[[np.ndarray], np.ndarray], bits: int) -> Cells:
    """Cells by the signs of projections; the distance is the sum of those that would change."""
    powers = 1 << np.arange(bits)
    signs = (np.arange(2**bits)[:, None] & powers) > 0

    def distances(rows: np.ndarray) -> np.ndarray:
        values = project(rows)
        return np.maximum(values, 0) @ ~signs.T + np.maximum(-values, 0) @ signs.T

    return lambda rows: (project(rows) > 0) @ powers, distances


def hyperplanes(X: np.ndarray, bits: int, seed: int) -> Cells:
    """Random hyperplanes through the mean (locality-sensitive hashing)."""
    mean = X.mean(0)
    directions = np.random.default_rng(seed).standard_normal((X.shape[1], bits))
    return by_signs(lambda rows: (rows - mean) @ directions, bits)


def itq(X: np.ndarray, bits: int, seed: int) -> Cells:
    """Iterative quantisation: principal components, turned towards their signs (50 iterations).

    Y. Gong, S. Lazebnik, "Iterative Quantization", CVPR 2011.
    """
    pca = PCA(bits, random_state=seed).fit(X)
    V = pca.transform(X)
    R = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0]
    for _ in range(50):
        left, _, right = np.linalg.svd(V.T @ np.sign(V @ R))
        R = left @ right
    return by_signs(lambda rows: pca.transform(rows) @ R, bits)


def grid(embed: Callable[[np.ndarray], np.ndarray], bits: int, d: int) -> Cells:
    """Boxes of equal size of the unit cube, by the distance of a point to them."""
    sizes = [2 ** (bits // d + (j < bits % d)) for j in range(d)]

    def cells(rows: np.ndarray) -> np.ndarray:
        slices = [
            np.minimum(u * m, m - 1).astype(int) for u, m in zip(embed(rows).T, sizes, strict=True)
        ]
        return np.ravel_multi_index(slices, sizes)

    def distances(rows: np.ndarray) -> np.ndarray:
        total = np.zeros((len(rows), 1))
        for u, m in zip(embed(rows).T, sizes, strict=True):
            low = np.arange(m) / m
            outside = np.maximum(np.maximum(low - u[:, None], u[:, None] - low - 1 / m), 0)
            total = (total[:, :, None] + outside[:, None] ** 2).reshape(len(rows), -1)
        return total

    return cells, distances


def pca_quantile(X: np.ndarray, bits: int, seed: int) -> Cells:
    """Principal components, each made uniform by its ranks: balanced slices, not boxes."""
    d = (bits + 1) // 2
    pca = PCA(d, random_state=seed).fit(X)
    known = np.sort(pca.transform(X), axis=0)

    def embed(rows: np.ndarray) -> np.ndarray:
        pairs = zip(known.T, pca.transform(rows).T, strict=True)
        return np.stack([np.searchsorted(*pair) / (len(X) + 1) for pair in pairs], axis=1)

    return grid(embed, bits, d)


def pca_rotation(X: np.ndarray, bits: int, seed: int) -> Cells:
    """Whitened principal components, and our refinement: no training."""
    model = PCARotation(X, None, (bits + 1) // 2, seed, None)
    return grid(lambda rows: ndtr(model.transform(rows)), bits, (bits + 1) // 2)


def pca_tree(X: np.ndarray, bits: int, seed: int) -> Cells:
    """A tree that halves each cell at the median of its own first principal component."""
    tree: dict[int, tuple[np.ndarray, float]] = {}

    def grow(rows: np.ndarray, node: int) -> None:
        if node >= 2**bits:
            return
        axis = PCA(1, random_state=seed).fit(rows).components_[0]
        values = rows @ axis
        tree[node] = axis, float(np.median(values))
        above = values > tree[node][1]
        grow(rows[~above], 2 * node)
        grow(rows[above], 2 * node + 1)

    grow(X, 1)

    def distances(rows: np.ndarray) -> np.ndarray:
        # Squared distances to the hyperplanes on the way to a leaf that are crossed.
        total = {1: np.zeros(len(rows))}
        for node in sorted(tree):
            axis, middle = tree[node]
            beyond, before = rows @ axis - middle, total.pop(node)
            total[2 * node] = before + np.maximum(beyond, 0) ** 2
            total[2 * node + 1] = before + np.maximum(-beyond, 0) ** 2
        return np.stack([total[leaf] for leaf in sorted(total)], axis=1)

    return lambda rows: distances(rows).argmin(1), distances


METHODS: dict[str, Fit] = {
    "UniformCodes": uniform_codes(),
    "UniformCodes, Hamming": uniform_codes(hamming=True),
    "UniformCodes, keep=None": uniform_codes(keep=None),
    "PCA, rotation": pca_rotation,
    "PCA, quantiles": pca_quantile,
    "PCA tree, medians": pca_tree,
    "k-means": k_means,
    "k-means of FAISS": faiss_ivf,
    "ITQ": itq,
    "random hyperplanes": hyperplanes,
}


def split(X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples to fit, an index, and queries."""
    X = np.random.default_rng(seed).permutation(X)
    return X[: len(X) // 2], X[len(X) // 2 : -N_QUERIES], X[-N_QUERIES:]


def recalls(distances: np.ndarray, cell: np.ndarray, neighbors: np.ndarray) -> list[float]:
    """Return the recall after each share of the index; in part of a cell, as on average."""
    found = []
    for to_cell, true in zip(distances, neighbors, strict=True):
        ranked, reached = np.sort(to_cell[cell]), to_cell[cell[true]]
        before = np.searchsorted(ranked, reached)
        alike = np.searchsorted(ranked, reached, side="right") - before
        found.append([np.clip((s * len(cell) - before) / alike, 0, 1).mean() for s in SHARES])
    return np.mean(found, axis=0).tolist()


def measure(X: np.ndarray, bits: int, seed: int, fit: Fit) -> list[float]:
    """Return imbalance, largest cell, recalls and seconds of one fit."""
    X_fit, index, queries = split(X, seed)
    neighbors = np.argsort(pairwise_distances(queries, index), axis=1)[:, :N_NEIGHBORS]
    start = time.process_time()
    cells, distances = fit(X_fit, bits, seed)
    seconds = time.process_time() - start
    cell = cells(index)
    share = np.bincount(cell, minlength=2**bits) / len(index)
    balance = [2**bits * np.square(share).sum(), 2**bits * share.max()]
    return [*balance, *recalls(distances(queries), cell, neighbors), seconds]


def joined(cell: np.ndarray, least: int = 10) -> np.ndarray:
    """Return labels of cells; those with fewer samples than this are one label, or the next."""
    _, label, counts = np.unique(cell, return_inverse=True, return_counts=True)
    small = counts < least
    names = np.where(small, -1, np.arange(len(counts)))
    if 0 < counts[small].sum() < least:
        names[small] = np.flatnonzero(~small)[0]
    return names[label]


def strata(X: np.ndarray, y: np.ndarray, bits: int, seed: int) -> dict[str, list[float]]:
    """Return the number of strata, and the spread of means and class shares over that at random."""
    X_fit, rest, y_rest = *train_test_split(X, test_size=0.5, random_state=seed), None
    _, y_rest = train_test_split(y, test_size=0.5, random_state=seed)
    codes = UniformCodes(bits=bits, random_state=seed).fit(X_fit)
    labels = {
        "UniformCodes": codes.strata(rest),
        "PCA tree, medians": joined(pca_tree(X_fit, bits, seed)[0](rest)),
        "k-means": joined(k_means(X_fit, bits, seed)[0](rest)),
        "classes": y_rest,
    }
    varies = rest.std(0) > 0
    values = np.c_[rest[:, varies], y_rest[:, None] == np.unique(y_rest)]
    values = (values - values.mean(0)) / values.std(0)
    n_features, row = int(varies.sum()), np.arange(len(rest))

    def spread(label: np.ndarray | None) -> np.ndarray:
        means = np.array(
            [
                values[
                    train_test_split(row, test_size=0.2, stratify=label, random_state=i)[1]
                ].mean(0)
                for i in range(200)
            ]
        )
        squares = np.square(means).mean(0)
        return np.sqrt([squares[:n_features].mean(), squares[n_features:].mean()])

    at_random = spread(None)
    return {
        name: [len(np.unique(label)), *(spread(label) / at_random)]
        for name, label in labels.items()
    }


def show(name: str, values: np.ndarray, formats: tuple[str, ...]) -> None:
    print(
        f"{name:26}",
        *(f"{value:{form}}" for value, form in zip(values, formats, strict=True)),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", default=["digits", "mnist"], choices=BITS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strata", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}, sknoisydim {sknoisydim.__version__}"
    )
    for table in given.tables:
        X, y = TABLES[table]()
        X = X.astype(float) if table in PIXELS else StandardScaler().fit_transform(X)
        bits, seeds = BITS[table], range(given.seeds)
        if given.strata:
            print(f"\n{table}: strata of {2**bits} cells\n{'':26} strata features classes")
            runs = [strata(X, y, bits, seed) for seed in seeds]
            for name in runs[0]:
                mean = np.mean([run[name] for run in runs], axis=0)
                show(name, mean, ("6.0f", "8.3f", "7.3f"))
            continue
        n_index = len(split(X, 0)[1])
        print(f"\n{table}: {2**bits} cells, {n_index} samples in the index")
        titles = [f"at {share:g}" for share in SHARES]
        print(f"{'':26} imbalance largest", *(f"{title:>7}" for title in titles), f"{'s':>5}")
        show("chance", np.array([1 + (2**bits - 1) / n_index]), ("9.3f",))
        for name in given.methods:
            try:
                found = np.mean([measure(X, bits, s, METHODS[name]) for s in seeds], axis=0)
            except ImportError as error:
                print(f"{name:26} skipped: {error}")
                continue
            show(name, found, ("9.3f", "7.2f", *["7.3f"] * len(SHARES), "5.1f"))


if __name__ == "__main__":
    main()
