"""Outlier detectors on the tables of a folder: ranking, level, and power.

A table is a file .npz with arrays X (n, p) and y (n,), where y is 1 for an outlier, such as those
of ADBench (https://github.com/Minqi824/ADBench). Half of the normal samples are fitted, and all
others are judged; the half is drawn by the seed. Means over the splits:

    AUC           area under the ROC curve
    level .05     share of normal samples with a p-value of at most 0.05, over 0.05: 1 is right
    level .01     the same at 0.01
    level .001    the same at 0.001
    power         share of the outliers found at a false discovery rate of 0.1 (Benjamini-Hochberg)
    FDP           share of normal samples among what was found so
    s             CPU seconds of the fit

    OMP_NUM_THREADS=1 python benchmarks/outliers.py FOLDER
    OMP_NUM_THREADS=1 python benchmarks/outliers.py FOLDER --seeds 1 --methods ours Forest
    OMP_NUM_THREADS=1 python benchmarks/outliers.py FOLDER --seeds 1 --restarts 5

--restarts fits each split again, with other random states, and prints the range of the means over
splits, for each table and of all of them. ECOD, COPOD and KNN are those of PyOD (pip install
--no-deps pyod); without, they are skipped, with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from frontier import PCARotation
from scipy.stats import chi2, false_discovery_control
from sklearn.covariance import EmpiricalCovariance
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import sknoisydim
from sknoisydim import NoisyDIMOutlierDetector, NoisyDIMTransformer

COLUMNS = ("AUC", "level .05", "level .01", "level .001", "power", "FDP", "s")
# For each line: scores, the larger the more unusual, and p-values or None, of samples to judge.
Judged = dict[str, tuple[np.ndarray, np.ndarray | None]]
Judge = Callable[[np.ndarray], Judged]
Fit = Callable[[np.ndarray, int], Judge]


def ours(*calibrations: str, **parameters: Any) -> Fit:
    """Return our detector, with a line for each of these calibrations of one fit."""

    def fit(X: np.ndarray, seed: int) -> Judge:
        detector = NoisyDIMOutlierDetector(
            calibration=calibrations[0], random_state=seed, **parameters
        ).fit(X)

        def judge(rows: np.ndarray) -> Judged:
            scores, lines = -detector.score_samples(rows), {}
            for calibration in calibrations:
                detector.calibration = calibration
                lines[f", {calibration}"] = scores, detector.p_values(rows)
            return lines

        return judge

    return fit


def density(X: np.ndarray, seed: int) -> Judge:
    """Density of the embedding alone, without p-values."""
    dim = NoisyDIMTransformer(refine="rotation", random_state=seed).fit(X)
    return lambda rows: {"": (-dim.score_samples(rows), None)}


def forest(X: np.ndarray, seed: int) -> Judge:
    """Isolation forest, without p-values."""
    model = IsolationForest(random_state=seed).fit(X)
    return lambda rows: {"": (-model.score_samples(rows), None)}


def conformal_forest(X: np.ndarray, seed: int) -> Judge:
    """Isolation forest with split conformal p-values, a quarter held out."""
    order = np.random.default_rng(seed).permutation(len(X))
    held_out, others = np.split(order, [len(X) // 4])
    model = IsolationForest(random_state=seed).fit(X[others])
    scores = np.sort(model.score_samples(X[held_out]))

    def judge(rows: np.ndarray) -> Judged:
        new = model.score_samples(rows)
        ranks = np.searchsorted(scores, new, side="right")
        return {"": (-new, (1 + ranks) / (len(scores) + 1))}

    return judge


def gaussian(X: np.ndarray, seed: int) -> Judge:
    """Mahalanobis distance, chi-square p-values."""
    scaler = StandardScaler().fit(X)
    model = EmpiricalCovariance().fit(scaler.transform(X))

    def judge(rows: np.ndarray) -> Judged:
        squares = model.mahalanobis(scaler.transform(rows))
        return {"": (squares, chi2.sf(squares, X.shape[1]))}

    return judge


def pca_rotation(X: np.ndarray, seed: int) -> Judge:
    """Density of whitened principal components, by our own refinement."""
    model = PCARotation(X, None, min(16, X.shape[1]), seed, None)
    return lambda rows: {"": (-model.score_samples(rows), None)}


def pyod(module: str, name: str) -> Fit:
    """Return a detector of PyOD on standardised features."""

    def fit(X: np.ndarray, seed: int) -> Judge:
        scaler = StandardScaler().fit(X)
        kind = getattr(importlib.import_module(f"pyod.models.{module}"), name)
        model = kind().fit(scaler.transform(X))
        return lambda rows: {"": (model.decision_function(scaler.transform(rows)), None)}

    return fit


METHODS: dict[str, Fit] = {
    # Other samples are held out of each transformer, or the same of all.
    "ours": ours("auto", "distribution"),
    "the same held out": ours("conformal", "auto"),
    "one transformer": ours("auto", n_estimators=1),
    "density of the default": density,
    "PCA + rotation": pca_rotation,
    "IsolationForest": forest,
    "conformal Forest": conformal_forest,
    "Gaussian": gaussian,
    "KNN": pyod("knn", "KNN"),
    "ECOD": pyod("ecod", "ECOD"),
    "COPOD": pyod("copod", "COPOD"),
}


def split_normal(y: np.ndarray, seed: int) -> np.ndarray:
    """Return which samples are fitted: half of the normal ones."""
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    return np.isin(np.arange(len(y)), normal[: len(normal) // 2])


def run(fit: Fit, X: np.ndarray, y: np.ndarray, seed: int, state: int) -> dict[str, list[float]]:
    """Fit one method to one split, and judge its lines: NaN for what does not apply."""
    chosen = split_normal(y, seed)
    clock = time.process_time()
    judge = fit(X[chosen], state)
    seconds = time.process_time() - clock
    outlier = y[~chosen] == 1
    lines = {}
    for name, (scores, p) in judge(X[~chosen]).items():
        lines[name] = [roc_auc_score(outlier, scores), *judged_p(p, outlier), seconds]
    return lines


def judged_p(p: np.ndarray | None, outlier: np.ndarray) -> list[float]:
    """Return the levels, power and the share of false discoveries."""
    if p is None:
        return [np.nan] * 5
    found = false_discovery_control(p) <= 0.1
    levels = [np.mean(p[~outlier] <= level) / level for level in (0.05, 0.01, 0.001)]
    false = np.sum(found & ~outlier) / max(found.sum(), 1)
    return [*levels, np.mean(found[outlier]), false]


def show(label: str, values: Any) -> None:
    """Print one line."""
    cells = ["" if np.isnan(value) else f"{value:.3f}" for value in values]
    print(f"{label:26}" + "".join(f"{cell:>11}" for cell in cells), flush=True)


def show_states(label: str, states: np.ndarray) -> None:
    """Print the mean over random states, and of several the smallest and the largest."""
    show(label, states.mean(0))
    if len(states) > 1:
        show("  smallest of the states", states.min(0))
        show("  largest", states.max(0))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the files .npz are")
    parser.add_argument("--seeds", type=int, default=5, help="splits")
    parser.add_argument("--restarts", type=int, default=1, help="random states for each split")
    parser.add_argument("--methods", nargs="+", help="those that hold one of these texts")
    options = parser.parse_args()
    options.files = sorted(options.folder.glob("*.npz"))
    if not options.files:
        parser.error(f"there is no file .npz in {options.folder}")
    return options


def main() -> None:
    options = parse()
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", module="pyod")
    torch.set_num_threads(1)
    print(
        f"sknoisydim {sknoisydim.__version__}, scikit-learn {sklearn.__version__}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}; {options.seeds} splits, {options.restarts} random states"
    )
    wanted = options.methods or [""]
    methods = {k: fit for k, fit in METHODS.items() if any(text in k for text in wanted)}
    results: dict[str, list[np.ndarray]] = {}
    for path in options.files:
        with np.load(path) as arrays:
            X, y = arrays["X"].astype(np.float64), arrays["y"].astype(int)
        print(f"\n{path.stem}: {len(X)} samples, {X.shape[1]} features, {y.sum()} outliers")
        print(f"{'':26}" + "".join(f"{name:>11}" for name in COLUMNS))
        for label, fit in methods.items():
            try:
                runs = [
                    [run(fit, X, y, seed, seed + 100 * state) for seed in range(options.seeds)]
                    for state in range(options.restarts)
                ]
            except ImportError as error:
                print(f"{label}: skipped, {error}")
                continue
            for name in runs[0][0]:
                values = np.array([[judged[name] for judged in splits] for splits in runs])
                results.setdefault(label + name, []).append(values.mean(1))
                show_states(label + name, values.mean(1))
    print(f"\nmean over {len(options.files)} tables")
    print(f"{'':26}" + "".join(f"{name:>11}" for name in COLUMNS))
    for label, tables in results.items():
        show_states(label, np.mean(tables, axis=0))


if __name__ == "__main__":
    main()
