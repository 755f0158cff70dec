"""Embeddings with a target distribution in a Pipeline, on data bundled with scikit-learn.

Prints how well they classify and how close they are to their target on held-out rows, picks noise
and number of components with a grid search, and draws two-component embeddings beside their
targets. `make demo` runs it; everything is bundled with scikit-learn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import (
    classifier_auc,
    kolmogorov_smirnov,
    max_correlation,
    relative_distance,
)

SEED = 0
DATA = {"digits": load_digits, "breast cancer": load_breast_cancer}
HEADER = (
    f"{'data':14} {'target':8} {'labels':>6} {'raw':>6} {'embedding':>10} {'information':>12}"
    f" {'capacity':>9}"
    f" {'AUC':>6} {'relative':>8} {'max corr':>9} {'KS':>6} {'seconds':>8}"
)
LEGEND = """
labels           weight of what is kept of the labels (supervision)
raw, embedding   accuracy of LogisticRegression on held-out rows: scaled columns, embedding
information      nats that the embedding sends through the noisy channel, and its capacity
AUC              of gradient boosting telling held-out embedded rows from the target; 0.5 is perfect
relative         sliced Wasserstein distance to the target over that of two samples of it; 1 is
                 perfect
max corr         largest correlation of two components
KS               largest Kolmogorov-Smirnov statistic of a component (marginals alone)
"""


def pipeline(target: str, **parameters: object) -> Pipeline:
    """Return the Pipeline of the README."""
    embedder = NoisyDIMTransformer(target=target, random_state=SEED, **parameters)
    return Pipeline([("dim", embedder), ("clf", LogisticRegression(max_iter=1000))])


def split(load):
    """Return train and test rows and labels of a table."""
    X, y = load(return_X_y=True)
    return train_test_split(X, y, test_size=0.3, stratify=y, random_state=SEED)


def row(name: str, target: str, supervision: float) -> str:
    """Fit on a table, and return a line of the printed one."""
    X, X_test, y, y_test = split(DATA[name])
    raw = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y)
    start = time.perf_counter()
    pipe = pipeline(target, supervision=supervision).fit(X, y)
    seconds = time.perf_counter() - start
    dim = pipe["dim"]
    Z = dim.transform(X_test)
    auc = classifier_auc(Z, target, random_state=SEED)
    relative = relative_distance("sliced_wasserstein", Z, target, random_state=SEED)
    ks = np.max(kolmogorov_smirnov(Z, target).statistic)
    return (
        f"{name:14} {target:8} {supervision:6.1f} {raw.score(X_test, y_test):6.3f}"
        f" {pipe.score(X_test, y_test):10.3f}"
        f" {dim.mutual_information_:12.2f} {dim.capacity_:9.2f} {auc:6.3f} {relative:8.2f}"
        f" {max_correlation(Z):9.3f} {ks:6.3f} {seconds:8.1f}"
    )


def search(name: str) -> GridSearchCV:
    """Choose noise and number of components by the classifier behind them."""
    X, X_test, y, y_test = split(DATA[name])
    grid = {"dim__noise": ["auto", 0.5], "dim__n_components": [4, 16]}
    found = GridSearchCV(pipeline("uniform"), grid, cv=3).fit(X, y)
    print(f"\nGridSearchCV on {name}, accuracy over 3 folds:")
    results = zip(found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True)
    for parameters, accuracy in results:
        mark = "  <- chosen" if parameters == found.best_params_ else ""
        noise, d = parameters["dim__noise"], parameters["dim__n_components"]
        print(f"  noise {noise!s:>5}, {d:2d} components: {accuracy:.3f}{mark}")
    print(f"  on held-out rows: {found.score(X_test, y_test):.3f}")
    return found


def picture(path: Path) -> None:
    """Draw two-component embeddings of the digits, each beside draws of its target."""
    from matplotlib.figure import Figure

    X, X_test, y, y_test = split(load_digits)
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 4)
    for target, (left, right) in zip(("uniform", "normal"), (axes[:2], axes[2:]), strict=True):
        # Two components cannot keep much beside the classes.
        weights = {"supervision": 1.0, "keep_weight": 0.3}
        dim = NoisyDIMTransformer(2, target, random_state=SEED, **weights).fit(X, y)
        drawn = dim.target_.sample(len(X_test), random_state=SEED)
        left.scatter(*drawn.T, s=7, c="0.55", linewidths=0)
        points = right.scatter(*dim.transform(X_test).T, s=7, c=y_test, cmap="tab10", linewidths=0)
        left.set_title(f"draws of the {target} target", fontsize=9)
        right.set_title(f"digits embedded, target {target!r}", fontsize=9)
        for ax in (left, right):
            limits = (-0.03, 1.03) if target == "uniform" else (-3.6, 3.6)
            ax.set(xlim=limits, ylim=limits, aspect="equal")
            ax.tick_params(labelsize=7)
    bar = figure.colorbar(points, ax=axes, ticks=range(10), fraction=0.02, pad=0.01)
    bar.mappable.set_clim(-0.5, 9.5)
    bar.set_label("digit (held-out rows)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo-output") / "embedding.png")
    path = parser.parse_args().output
    kinds = [("normal", 0.0), ("uniform", 0.0), ("uniform", 100.0)]
    jobs = [(name, *kind) for name in DATA for kind in kinds]
    lines = [
        row(*job)
        for job in tqdm(
            jobs, desc="fitting and judging", unit="fit", bar_format="{l_bar}{bar}{r_bar}"
        )
    ]
    print("\n".join([HEADER, *lines, LEGEND]))
    search("breast cancer")
    picture(path)
    print(f"\nThe picture is in {path}")


if __name__ == "__main__":
    main()
