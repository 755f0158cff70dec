"""Features for a linear classifier with a known joint distribution, beside the usual ones.

On the digits that scikit-learn bundles: what each method keeps of the classes, how close its
features come to the target distribution, and a picture of two uniform components. `make demo`
runs it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from tqdm import tqdm

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc

SEEDS = (0, 1, 2)
D = 16
HEADER = """
Features for a linear classifier: digits, {n} samples to fit, {m} held out, {d} components.
accuracy: LogisticRegression on the features; AUC: how well boosted trees tell them from
samples of N(0, I), 0.5 is perfect. Medians over {k} splits.
"""


def embeddings(seed: int) -> dict[str, object]:
    """Return what makes features, by name."""
    reduced = (StandardScaler(), PCA(D, whiten=True, random_state=seed))
    quantiles = QuantileTransformer(
        n_quantiles=200, output_distribution="normal", random_state=seed
    )
    return {
        "scaled columns": StandardScaler(),
        "PCA": make_pipeline(*reduced),
        "PCA + quantiles": make_pipeline(*reduced, quantiles),
        "ours": NoisyDIMTransformer(D, random_state=seed),
        "ours, with labels": NoisyDIMTransformer(D, supervision=100, random_state=seed),
    }


def features(seed: int) -> tuple[dict[str, list[float]], tuple[int, int]]:
    """Return accuracy, AUC and seconds of a fit by method, and the sizes of the two parts."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    results = {}
    for name, embedding in embeddings(seed).items():
        start = time.perf_counter()
        Z = embedding.fit(X, y).transform(X)
        seconds = time.perf_counter() - start
        Z_test = embedding.transform(X_test)
        accuracy = LogisticRegression(max_iter=2000).fit(Z, y).score(Z_test, y_test)
        auc = classifier_auc(Z_test, random_state=seed) if Z.shape[1] == D else np.nan
        results[name] = [accuracy, auc, seconds]
    start = time.perf_counter()
    trees = HistGradientBoostingClassifier(random_state=seed).fit(X, y)
    results["boosted trees"] = [trees.score(X_test, y_test), np.nan, time.perf_counter() - start]
    return results, (len(X), len(X_test))


def show(columns: str, runs: list[dict[str, list[float]]]) -> None:
    """Print the medians of each method, without what is not there."""
    print(columns)
    for name in runs[0]:
        values = np.median([run[name] for run in runs], axis=0)
        print(f"{name:20}" + "".join(" " * 10 if np.isnan(v) else f"{v:10.3f}" for v in values))


def picture(path: Path) -> None:
    """Draw digits in two components, by PCA and by ours, beside uniform samples."""
    from matplotlib.figure import Figure

    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    quantiles = QuantileTransformer(n_quantiles=200, random_state=0)
    # Two components cannot keep much beside the classes.
    weights = {"supervision": 3.0, "keep_weight": 0.3}
    ours = NoisyDIMTransformer(2, "uniform", random_state=0, **weights)
    panels = {
        "PCA + quantiles": make_pipeline(StandardScaler(), PCA(2, random_state=0), quantiles),
        "NoisyDIM, with labels": ours,
    }
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    drawn = np.random.default_rng(0).random((len(X_test), 2))
    axes[0].scatter(*drawn.T, s=7, c="0.55", linewidths=0)
    axes[0].set_title("uniform samples", fontsize=9)
    for ax, (name, embedding) in zip(axes[1:], panels.items(), strict=True):
        neighbors = KNeighborsClassifier(15).fit(embedding.fit(X, y).transform(X), y)
        Z = embedding.transform(X_test)
        accuracy, auc = neighbors.score(Z, y_test), classifier_auc(Z, "uniform", random_state=0)
        points = ax.scatter(*Z.T, s=7, c=y_test, cmap="tab10", linewidths=0)
        ax.set_title(f"{name}\naccuracy {accuracy:.2f}, AUC {auc:.2f}", fontsize=9)
    for ax in axes:
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        ax.tick_params(labelsize=7)
    bar = figure.colorbar(points, ax=axes, ticks=range(10), fraction=0.02, pad=0.01)
    bar.mappable.set_clim(-0.5, 9.5)
    bar.set_label("digit (held-out samples)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo-output") / "embedding.png")
    path = parser.parse_args().output
    form = "{l_bar}{bar}{r_bar}"
    runs = [features(seed) for seed in tqdm(SEEDS, "splits", unit="split", bar_format=form)]
    n, m = runs[0][1]
    print(HEADER.format(n=n, m=m, d=D, k=len(SEEDS)))
    show(f"{'':20}{'accuracy':>10}{'AUC':>10}{'seconds':>10}", [results for results, _ in runs])
    picture(path)
    print(f"\nThe picture is in {path}. Its accuracy is that of 15 nearest neighbours.")


if __name__ == "__main__":
    main()
