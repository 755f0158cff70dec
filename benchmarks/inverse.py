"""The way back: what an embedding keeps of the columns, and how samples compare with real ones.

Seven tenths of a table are fitted, the rest is held out. Medians over the splits:

    R2        of the standardised columns of held-out samples, from d components: the mean over the
              columns that vary; PCA of standardised columns, the transformer as it is, and the same
              with keep="pca" and keep_weight=100, both with decoder="kernel_ridge"
    AUC       of boosted trees that tell samples from as many held-out ones (five folds; 0.5 is
              best): samples of the transformers; of a Gaussian mixture of ten components in the
              standardised columns; of that with the same rounding as ours; of the Gaussian copula
              of copulas, a distribution chosen for each column; and, as the best there is,
              training samples
    near      share of samples nearer to a training sample than 95 % of held-out ones are:
              0.05 would be as near as new samples are
    s         CPU seconds of the fit with its decoder

    pip install --no-deps copulas                        # without it, its line is left out
    OMP_NUM_THREADS=1 python benchmarks/inverse.py --seeds 5
    OMP_NUM_THREADS=1 python benchmarks/inverse.py --seeds 4 --first 10 --no-samples    # new splits
"""

from __future__ import annotations

import argparse
import time
import warnings
from importlib.util import find_spec

import numpy as np
import pandas as pd
from datasets import TABLES
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoisydim import NoisyDIMTransformer

DECODED = ("segment", "vehicle", "optdigits", "breast_cancer")
SAMPLED = ("segment", "vehicle", "breast_cancer")


def r2(X: np.ndarray, found: np.ndarray) -> float:
    """Mean over the columns that vary of the share of their variance that is found."""
    variance = X.var(0)
    some = variance > 1e-12 * np.maximum(1, X.mean(0) ** 2)
    errors = np.square(X - found).mean(0)[some] / variance[some]
    return float(1 - errors.mean())


def auc(samples: np.ndarray, real: np.ndarray) -> float:
    """Area under the ROC curve of boosted trees, by cross-validation."""
    X, y = np.vstack([samples, real]), np.repeat([0, 1], [len(samples), len(real)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    trees = HistGradientBoostingClassifier(random_state=0)
    return float(cross_val_score(trees, X, y, scoring="roc_auc", cv=folds).mean())


def rounded(samples: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Round samples to what the columns of X are like, as `sample` does."""
    samples = np.clip(samples, X.min(0), X.max(0))
    for j, column in enumerate(X.T):
        values = np.unique(column)
        if len(values) <= len(column) / 2:
            cuts = (values[1:] + values[:-1]) / 2
            samples[:, j] = values[np.searchsorted(cuts, samples[:, j])]
        elif (column == np.rint(column)).all():
            samples[:, j] = np.rint(samples[:, j])
    return samples


def copula(X: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw from the Gaussian copula that synthetic data vault's generator of that name fits."""
    from copulas.multivariate import GaussianMultivariate

    model = GaussianMultivariate(random_state=seed)
    model.fit(pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])]))
    return model.sample(n).to_numpy()


def run(name: str, seed: int, sampled: bool) -> dict[str, float]:
    """Return all figures of one split; those of samples if they are wanted."""
    X, _ = TABLES[name]()
    X, new = train_test_split(X, test_size=0.3, random_state=seed)
    scaler, found = StandardScaler().fit(X), {}
    for d in (4, 8):
        pca = make_pipeline(StandardScaler(), PCA(d)).fit(X)
        found[f"R2 PCA {d}"] = r2(new, pca.inverse_transform(pca.transform(new)))
        for keep, weight in (("kernel_pca", 10), ("pca", 100)):
            start = time.process_time()
            dim = NoisyDIMTransformer(
                d, keep=keep, keep_weight=weight, decoder="kernel_ridge", random_state=seed
            ).fit(X)
            found[f"s {keep} {d}"] = time.process_time() - start
            found[f"R2 {keep} {d}"] = r2(new, dim.inverse_transform(dim.transform(new)))
            if sampled:
                samples = dim.sample(len(new), random_state=seed)
                found[f"AUC {keep} {d}"] = auc(samples, new)
                tree = cKDTree(scaler.transform(X))
                usual = np.quantile(tree.query(scaler.transform(new))[0], 0.05)
                near = tree.query(scaler.transform(samples))[0] < usual
                found[f"near {keep} {d}"] = float(near.mean())
    if sampled:
        mixture = GaussianMixture(10, random_state=seed).fit(scaler.transform(X))
        samples = scaler.inverse_transform(mixture.sample(len(new))[0])
        found["AUC mixture"] = auc(samples, new)
        found["AUC mixture, rounded"] = auc(rounded(samples, X), new)
        if find_spec("copulas"):
            samples = copula(X, len(new), seed)
            found["AUC Gaussian copula"] = auc(samples, new)
            found["AUC copula, rounded"] = auc(rounded(samples, X), new)
        some = np.random.default_rng(seed).choice(len(X), min(len(X), len(new)), replace=False)
        found["AUC training"] = auc(X[some], new)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed of the first split")
    parser.add_argument("--no-samples", action="store_true", help="the way back alone")
    parser.add_argument("--only", nargs="+", default=DECODED, choices=DECODED)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name in arguments.only:
        first = arguments.first
        sampled = name in SAMPLED and not arguments.no_samples
        runs = [run(name, seed, sampled) for seed in range(first, first + arguments.seeds)]
        print(name)
        for key in runs[0]:
            values = [run[key] for run in runs]
            print(
                f"    {key:22} {np.median(values):7.3f}  ({min(values):.3f} to {max(values):.3f})"
            )


if __name__ == "__main__":
    main()
