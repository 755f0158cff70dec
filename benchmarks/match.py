"""How close embeddings come to their target jointly, and what a classifier still finds in them.

Judges held-out rows: AUC of two classifiers that try to tell them from draws of the target (0.5 is
perfect), sliced Wasserstein distance, relative (1 is perfect), largest correlation; and accuracy of
LogisticRegression, GaussianNB and KNeighborsClassifier(5) on them. One line a method, medians over
seeds. The map to a target is invertible and component by component, so the joint distribution is
judged once (in the normal pre-image); accuracies are of the normal and of the uniform embedding.

    python benchmarks/match.py                  the whole table
    python benchmarks/match.py --curve          the trade-off over keep_weight
    python benchmarks/match.py --quick          one seed, digits, few components
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings

import datasets
import numpy as np
import sklearn
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

import sknoisydim
from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc, max_correlation, relative_distance

COLUMNS = ("boosting", "mlp", "relative", "corr", "LR", "NB", "kNN", "LR u", "NB u", "kNN u", "s")
HELD_OUT = {"synthetic": 8000, "mnist": 2500, "digits": 0.3, "breast_cancer": 0.3}
JUDGED_ROWS = 4000
COMPARED_ROWS = 2000


def accuracies(Z, y, Z_test, y_test) -> list[float]:
    """Accuracy of three classifiers that are fitted to one embedding."""
    models = (LogisticRegression(max_iter=2000), GaussianNB(), KNeighborsClassifier(5))
    return [model.fit(Z, y).score(Z_test, y_test) for model in models]


def judge(embed, embed_uniform, data, seed, *, joint=True) -> list[float]:
    """Return the columns of one fit."""
    X, X_test, y, y_test = data
    Z, Z_test = embed(X), embed(X_test)
    rows = Z_test[:JUDGED_ROWS].astype(np.float64)
    match = [np.nan] * 4
    if joint:
        match = [classifier_auc(rows, classifier=c, random_state=seed) for c in ("boosting", "mlp")]
        match.append(
            relative_distance("sliced_wasserstein", rows[:COMPARED_ROWS], random_state=seed)
        )
        match.append(max_correlation(rows) if rows.shape[1] > 1 else 0.0)
    uniform = [np.nan] * 3
    if embed_uniform is not None:
        uniform = accuracies(embed_uniform(X), y, embed_uniform(X_test), y_test)
    return [*match, *accuracies(Z, y, Z_test, y_test), *uniform]


def ours(data, seed, **parameters) -> list[float]:
    """Fit NoisyDIMTransformer, and judge both targets."""
    X, _, y, _ = data
    start = time.perf_counter()
    model = NoisyDIMTransformer(random_state=seed, **parameters).fit(X, y)
    seconds = time.perf_counter() - start
    return [*judge(model.transform, model.retarget("uniform").transform, data, seed), seconds]


def theirs(make, data, seed) -> list[float]:
    """Fit another transformer for both targets, and judge it."""
    start = time.perf_counter()
    normal = make("normal", seed).fit(data[0])
    seconds = time.perf_counter() - start
    uniform = make("uniform", seed).fit(data[0])
    return [*judge(normal.transform, uniform.transform, data, seed), seconds]


def quantile(target, seed):
    """Each column by itself."""
    return QuantileTransformer(output_distribution=target, random_state=seed)


def pca_quantile(d):
    """Whitened principal components, each mapped by itself."""
    return lambda target, seed: make_pipeline(
        StandardScaler(), PCA(d, whiten=True, random_state=seed), quantile(target, seed)
    )


def raw(data, seed) -> list[float]:
    """Scaled columns."""
    scaler = StandardScaler().fit(data[0])
    return [*judge(scaler.transform, None, data, seed, joint=False), 0.0]


def methods(table, components, curve):
    """Yield the name of each method, and what fits and judges it."""
    yield "raw columns, scaled", raw
    if curve:
        for d in components:
            for w in (0.0, 0.3, 1.0, 3.0, 10.0):
                yield (
                    f"ours, d = {d}, keep_weight {w}",
                    lambda data, seed, d=d, w=w: ours(data, seed, n_components=d, keep_weight=w),
                )
        return
    if table != "mnist":  # 784 columns: the joint test of raw columns says nothing new
        yield "QuantileTransformer", lambda data, seed: theirs(quantile, data, seed)
    for d in components:
        yield (
            f"PCA + Quantile, d = {d}",
            lambda data, seed, d=d: theirs(pca_quantile(d), data, seed),
        )
    variants = {
        "keep=None": {"keep": None},
        "defaults": {},
        "views": {"clean_weight": 0.5},
        "supervision=100": {"supervision": 100.0},
        "refine=None": {"refine": None},
    }
    for d in components:
        for name, parameters in variants.items():
            yield (
                f"ours, d = {d}, {name}",
                lambda data, seed, d=d, p=parameters: ours(data, seed, n_components=d, **p),
            )


def load(table):
    """Split a table; the split is the same for every method and seed."""
    X, y = datasets.TABLES[table]()
    return train_test_split(
        X.astype(np.float32), y, test_size=HELD_OUT[table], stratify=y, random_state=0
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["synthetic", "digits", "mnist"])
    parser.add_argument("--components", nargs="+", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="methods whose name holds this text")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.data, options.seeds, options.components = ["digits"], 1, [2, 16]
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        f"sknoisydim {sknoisydim.__version__}, scikit-learn {sklearn.__version__}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}; medians over {options.seeds} seeds"
    )
    for table in options.data:
        try:
            data = load(table)
        except FileNotFoundError as error:
            print(f"\n{table}: skipped, {error}")
            continue
        print(f"\n{table}: {data[0].shape[0]} training rows, {data[0].shape[1]} columns")
        print(f"{'':28}" + "".join(f"{name:>9}" for name in COLUMNS))
        standard = [32, 64] if table == "mnist" else [2, 4, 8, 16]
        for name, fit in methods(table, options.components or standard, options.curve):
            if options.only in name:
                runs = [fit(data, seed) for seed in range(options.seeds)]
                values = "".join(f"{value:9.3f}" for value in np.median(runs, axis=0))
                print(f"{name:28}{values}", flush=True)


if __name__ == "__main__":
    main()
