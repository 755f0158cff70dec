"""What each method keeps of a table, over how close its embedding comes to N(0, I).

One line a method and weight, means over splits; a split is drawn by its seed, and all figures but
the seconds are of held-out rows:

    LR, kNN, NB   accuracy of LogisticRegression, KNeighborsClassifier(5), GaussianNB
    AUC           of a classifier that tells rows from draws of N(0, I), the larger of boosting and
                  MLP, 4,000 rows at most: 0.5 is perfect
    var           variance of |z|^2 over that of N(0, I), 2 d
    R2            share of the variance of the standardised columns that a linear model reads back
    s, units      CPU seconds of the fit, and the same over a unit that no machine changes: forward,
                  backward and AdamW step of the bare p-256-256-d encoder, min(512, n) rows, 12
                  sqrt(n) steps (200 to 2,400), measured before and after each fit

    OMP_NUM_THREADS=1 python benchmarks/frontier.py
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --quick          one seed of two small tables
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --csv runs.csv   one row a fit, appended
"""

from __future__ import annotations

import argparse
import csv
import math
import platform
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import sklearn
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import sknoisydim
from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc
from sknoisydim.refinement import RotationGaussianization


class Dial(tuple):
    """Values that one parameter goes through: a line each."""


# Ours: what stands beside n_components and random_state. One parameter may be a Dial.
OURS: dict[str, dict[str, Any]] = {
    "default": {},
    "clean": {"clean_weight": Dial((0.8, 0.9, 1.0))},
    "rotation": {"refine": "rotation"},
    "labels": {"supervision": 0.5},
}
# Components; min(16, columns) for the others.
COMPONENTS = {"synthetic": 8, "mnist": 32}
HELD_OUT = {"synthetic": 8000}
JUDGED_ROWS = 4000
UNIT_STEPS = 30
COLUMNS = ("LR", "kNN", "NB", "AUC", "var", "R2", "s", "units")
KEYS = ("table", "d", "method", "weight", "seed")

# (X, y, d, seed, weight) to what transforms rows.
Fit = Callable[[np.ndarray, np.ndarray, int, int, Any], Any]


def raw(X, y, d, seed, weight):
    """Scaled columns."""
    return StandardScaler().fit(X)


def pca(X, y, d, seed, weight):
    """Whitened principal components."""
    return make_pipeline(StandardScaler(), PCA(d, whiten=True, random_state=seed)).fit(X)


def pca_rotation(X, y, d, seed, weight):
    """Our own refinement behind whitened principal components."""
    start = pca(X, y, d, seed, weight)
    rotation = RotationGaussianization().build(start.transform(X), seed, None)
    return make_pipeline(start, FunctionTransformer(rotation.forward))


def ours(X, y, d, seed, weight, parameters):
    """NoisyDIMTransformer, with the Dial among its parameters at the weight."""
    values = {k: weight if isinstance(v, Dial) else v for k, v in parameters.items()}
    return NoisyDIMTransformer(d, random_state=seed, **values).fit(X, y)


def methods() -> dict[str, tuple[Fit, tuple]]:
    """Return what fits each method, and its weights."""
    table: dict[str, tuple[Fit, tuple]] = {
        "raw": (raw, (None,)),
        "PCA": (pca, (None,)),
        "PCA + rotation": (pca_rotation, (None,)),
    }
    for name, parameters in OURS.items():
        dials = [value for value in parameters.values() if isinstance(value, Dial)]

        def fit(X, y, d, seed, weight, parameters=parameters):
            return ours(X, y, d, seed, weight, parameters)

        table[f"ours, {name}"] = (fit, dials[0] if dials else (None,))
    return table


@cache
def load(table: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows in float32, and classes."""
    X, y = datasets.TABLES[table]()
    return X.astype(np.float32), y


def split(table: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split a table anew for each seed."""
    X, y = load(table)
    return train_test_split(X, y, test_size=HELD_OUT.get(table, 0.3), stratify=y, random_state=seed)


def step_seconds(n: int, p: int, d: int) -> float:
    """CPU seconds of one step of the bare encoder, the median of several."""
    layers: list[torch.nn.Module] = []
    for width_in, width in ((p, 256), (256, 256)):
        layers += [torch.nn.Linear(width_in, width), torch.nn.BatchNorm1d(width), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(256, d))
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    rows = torch.randn(min(512, n), p)
    seconds = []
    for _ in range(UNIT_STEPS):
        clock = time.process_time()
        loss = network(rows).square().sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.process_time() - clock)
    return float(np.median(seconds))


def timed(fit: Callable[[], Any], n: int, p: int, d: int) -> tuple[Any, float, float]:
    """Return what was fitted, its CPU seconds, and these in units."""
    before = step_seconds(n, p, d)
    clock = time.process_time()
    model = fit()
    seconds = time.process_time() - clock
    step = (before + step_seconds(n, p, d)) / 2
    return model, seconds, seconds / (step * min(max(12 * math.sqrt(n), 200), 2400))


def accuracies(Z, y, Z_test, y_test) -> list[float]:
    """Accuracy of three classifiers that are fitted to one embedding."""
    models = (LogisticRegression(max_iter=2000), KNeighborsClassifier(5), GaussianNB())
    return [model.fit(Z, y).score(Z_test, y_test) for model in models]


def distance(Z_test: np.ndarray, seed: int) -> list[float]:
    """AUC and var of held-out rows."""
    rows = Z_test[:JUDGED_ROWS]
    aucs = [classifier_auc(rows, classifier=c, random_state=seed) for c in ("boosting", "mlp")]
    return [max(aucs), float(np.square(Z_test).sum(1).var() / (2 * Z_test.shape[1]))]


def read_back(Z, X, Z_test, X_test) -> float:
    """R^2 of the standardised columns by a linear model of the embedding, weighted by variance."""
    scaler = StandardScaler().fit(X)
    model = LinearRegression().fit(Z, scaler.transform(X))
    predicted = model.predict(Z_test)
    return r2_score(scaler.transform(X_test), predicted, multioutput="variance_weighted")


def run(fit: Fit, data, d: int, seed: int, weight: Any) -> dict[str, float]:
    """Fit a method to one split, and judge it."""
    X, X_test, y, y_test = data
    model, seconds, units = timed(lambda: fit(X, y, d, seed, weight), *X.shape, d)
    Z, Z_test = (np.asarray(model.transform(rows), np.float64) for rows in (X, X_test))
    values = [*accuracies(Z, y, Z_test, y_test), *distance(Z_test, seed)]
    return dict(
        zip(COLUMNS, [*values, read_back(Z, X, Z_test, X_test), seconds, units], strict=True)
    )


def warm_up(fit: Fit, weight: Any) -> None:
    """Fit a small table: imports and compilation count for no method."""
    X, y = load("wine")
    fit(X, y, 2, 0, weight).transform(X)


def line(name: str, values: list[float]) -> str:
    """One row of what is printed."""
    return f"{name:32}" + "".join(f"{value:9.3f}" for value in values)


def append(path: Path, row: dict[str, Any]) -> None:
    """Write one fit to the csv file."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*KEYS, *COLUMNS])
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def chosen(options) -> list[tuple[str, Fit, Any]]:
    """Name, fit and weight of each line."""
    lines = []
    for name, (fit, weights) in methods().items():
        if not options.methods or any(text in name for text in options.methods):
            lines += [(name, fit, weight) for weight in weights]
    return lines


def measure(table: str, lines, options) -> dict[str, np.ndarray]:
    """Print the lines of one table, and return their means over seeds."""
    p = load(table)[0].shape[1]
    d = min(COMPONENTS.get(table, 16), p)
    means = {}
    for name, fit, weight in lines:
        runs = []
        for seed in range(options.seeds):
            row = run(fit, split(table, seed), d, seed, weight)
            runs.append(list(row.values()))
            if options.csv:
                keys = (table, d, name, weight, seed)
                append(options.csv, dict(zip(KEYS, keys, strict=True)) | row)
        label = name if weight is None else f"{name} {weight}"
        means[label] = np.mean(runs, axis=0)
        print(line(label, means[label]), flush=True)
    return means


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", default=list(datasets.TABLES))
    parser.add_argument("--methods", nargs="+", help="those whose name holds one of these texts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="file to which a row a fit is appended")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.tables, options.seeds = ["wine", "digits"], 1
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    print(
        f"sknoisydim {sknoisydim.__version__}, scikit-learn {sklearn.__version__}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}; means over {options.seeds} seeds"
    )
    lines = chosen(options)
    for _, fit, weight in lines:
        warm_up(fit, weight)
    results = {}
    for table in options.tables:
        try:
            X, _ = load(table)
        except FileNotFoundError as error:
            print(f"\n{table}: skipped, {error}")
            continue
        print(f"\n{table}: {X.shape[0]} rows, {X.shape[1]} columns")
        print(f"{'':32}" + "".join(f"{name:>9}" for name in COLUMNS))
        results[table] = measure(table, lines, options)
    print(f"\nmean over {len(results)} tables")
    for label in next(iter(results.values()), {}):
        print(line(label, np.mean([means[label] for means in results.values()], axis=0)))


if __name__ == "__main__":
    main()
