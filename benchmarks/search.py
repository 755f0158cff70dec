"""What a grid search by `score` alone chooses, and how good a classifier is behind it.

    OMP_NUM_THREADS=1 python benchmarks/search.py
    OMP_NUM_THREADS=1 python benchmarks/search.py --quick      two sizes of the smallest table

The search goes over `n_components` and `noise`, without labels. Beside its choice stand the mean
accuracy of LogisticRegression behind it, and the best mean accuracy in the grid, which a search by
labels would find; all by the same five folds.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from sknoisydim import NoisyDIMTransformer

TABLES = {"wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
GRID = {"n_components": [2, 4, 8, 16, 32], "noise": [0.1, "auto", 1.0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    for name, load in list(TABLES.items())[: 1 if quick else None]:
        X, y = load(return_X_y=True)
        sizes = [d for d in GRID["n_components"] if d <= X.shape[1]][: 2 if quick else None]
        folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
        search = GridSearchCV(
            NoisyDIMTransformer(random_state=0),
            {**GRID, "n_components": sizes},
            cv=folds,
            refit=False,
        ).fit(X)
        results = search.cv_results_
        accuracies = [
            np.mean(
                cross_val_score(
                    make_pipeline(
                        clone(search.estimator).set_params(**parameters),
                        LogisticRegression(max_iter=2000),
                    ),
                    X,
                    y,
                    cv=folds,
                )
            )
            for parameters in results["params"]
        ]
        print(f"{name}: {search.best_params_}, score {search.best_score_:.3f}, accuracy", end=" ")
        print(f"{accuracies[search.best_index_]:.3f} (best of the grid {max(accuracies):.3f})")
        for parameters, score, accuracy in zip(
            results["params"], results["mean_test_score"], accuracies, strict=True
        ):
            print(f"    {parameters}: score {score:.3f}, accuracy {accuracy:.3f}", flush=True)


if __name__ == "__main__":
    main()
