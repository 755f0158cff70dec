"""The Pipeline of the gallery on all of Adult, the census incomes.

    OMP_NUM_THREADS=1 python benchmarks/adult.py --data adult.csv.gz    # about 3 minutes
    OMP_NUM_THREADS=1 python benchmarks/adult.py --data adult.csv.gz --quick

The table is that of the UCI Machine Learning Repository (B. Becker, R. Kohavi, 1996; CC BY 4.0)
with a header, gaps as `?`, and `income` as the class. A third of the rows is held out. One line a
method, medians over seeds: LogisticRegression behind it on held-out rows (accuracy, and area under
the ROC curve, since three of four have the same class), and two classifiers that try to tell 4,000
held-out rows from draws of the uniform distribution (0.5 is perfect), with the sliced Wasserstein
distance, relative (1 is perfect) and the share of embedded rows that repeat another.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import pandas as pd
import sklearn
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import sknoisydim
from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc, relative_distance

COLUMNS = ("accuracy", "ROC area", "boosting", "mlp", "relative", "repeated", "s")
JUDGED_ROWS = 4000
KINDS = ("boosting", "mlp")


def columns():
    """Make numbers of all columns: categories, gaps among them, become columns of 0 and 1."""
    return make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore", min_frequency=20, sparse_output=False),
            make_column_selector(dtype_exclude="number"),
        ),
        (SimpleImputer(), make_column_selector(dtype_include="number")),
        verbose_feature_names_out=False,
    )


def embedding(n_components: int, supervision: float, seed: int) -> Pipeline:
    """Return the Pipeline of the gallery, up to its classifier."""
    dim = NoisyDIMTransformer(n_components, "uniform", supervision=supervision, random_state=seed)
    return Pipeline([("columns", columns()), ("dim", dim)])


def classified(model, data) -> list[float]:
    """Accuracy and area under the ROC curve of a classifier, on held-out rows."""
    X, X_test, y, y_test = data
    model.fit(X, y)
    area = roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])
    return [model.score(X_test, y_test), area]


def ours(data, n_components: int, supervision: float, seed: int) -> list[float]:
    """Fit, and return the columns."""
    X, X_test, y, y_test = data
    start = time.process_time()
    pipe = embedding(n_components, supervision, seed).fit(X, y)
    seconds = time.process_time() - start
    Z, Z_test = pipe.transform(X), pipe.transform(X_test)
    rows = Z_test[:JUDGED_ROWS].astype(np.float64)
    aucs = [classifier_auc(rows, "uniform", classifier=c, random_state=seed) for c in KINDS]
    relative = relative_distance("sliced_wasserstein", rows, "uniform", random_state=seed)
    repeated = 1 - len(np.unique(rows, axis=0)) / len(rows)
    figures = classified(LogisticRegression(), (Z, Z_test, y, y_test))
    return [*figures, *aucs, relative, repeated, seconds]


def line(name: str, figures) -> str:
    """Return a line of the table; columns that a method has not are empty."""
    texts = [f"{value:.3f}" for value in figures]
    texts += [""] * (len(COLUMNS) - len(texts))
    return "| " + " | ".join([name, *texts]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="PATH", help="adult.csv or adult.csv.gz")
    parser.add_argument("--seeds", type=int, default=3, help="fits of each method")
    parser.add_argument("--components", type=int, nargs="+", default=[4], metavar="D")
    parser.add_argument("--quick", action="store_true", help="one seed, 6,000 rows, d = 4")
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.data, na_values="?", skipinitialspace=True)
    if arguments.quick:
        table = table.sample(6000, random_state=0)
        arguments.seeds, arguments.components = 1, [4]
    income = (table.pop("income") == ">50K").to_numpy()
    data = train_test_split(table, income, test_size=1 / 3, stratify=income, random_state=0)
    X, X_test, _, y_test = data
    modules = (torch, sklearn, np)
    print(f"Python {platform.python_version()}, sknoisydim {sknoisydim.__version__}", end="")
    print("".join(f", {module.__name__} {module.__version__}" for module in modules))
    width = columns().fit_transform(X).shape[1]
    print(f"{len(X):,} rows to fit, {len(X_test):,} held out; {width} columns of numbers\n")
    print("| " + " | ".join(["method", *COLUMNS]) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    share = max(y_test.mean(), 1 - y_test.mean())
    print(line("always the frequent class", [share, 0.5]))
    simple = LogisticRegression(max_iter=2000)
    raw = make_pipeline(columns(), StandardScaler(), simple)
    print(line("scaled columns", classified(raw, data)))
    trees = make_pipeline(columns(), HistGradientBoostingClassifier(random_state=0))
    print(line("boosted trees on the columns", classified(trees, data)), flush=True)
    for d in arguments.components:
        for supervision in (0.0, 100.0):
            found = [ours(data, d, supervision, seed) for seed in range(arguments.seeds)]
            name = f"d = {d}, {'with' if supervision else 'without'} labels"
            print(line(name, np.median(found, axis=0)), flush=True)


if __name__ == "__main__":
    main()
