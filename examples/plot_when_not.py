"""
When something simpler is enough
================================

A learned embedding costs training time. Three tables with a known answer: on one PCA is enough, on
one a QuantileTransformer, on the third neither.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc

# %%
# Three tables of two columns
# ---------------------------

rng = np.random.default_rng(0)
N = 2000


def correlated(n):
    """Normal, with correlation 0.8."""
    return rng.multivariate_normal([3, -1], [[4, 1.6], [1.6, 1]], n)


def skewed(n):
    """Independent columns with long tails."""
    return np.column_stack([rng.lognormal(0, 1, n), rng.gamma(0.7, 2, n)])


def curved(n):
    """A bent band: each column depends on the other, without much correlation."""
    x = rng.normal(0, 1, n)
    return np.column_stack([x, x**2 + 0.4 * rng.normal(0, 1, n)])


tables = {"correlated": correlated, "skewed": skewed, "curved": curved}

# %%
# Three ways to N(0, I)
# ---------------------
#
# A classifier tries to tell held-out rows from draws of N(0, I): 0.5 means that it cannot.

methods = {
    "PCA": PCA(2, whiten=True),
    "QuantileTransformer": QuantileTransformer(
        n_quantiles=200, output_distribution="normal", random_state=0
    ),
    "both": make_pipeline(
        PCA(2), QuantileTransformer(n_quantiles=200, output_distribution="normal", random_state=0)
    ),
    "NoisyDIM": NoisyDIMTransformer(2, keep=None, max_epochs=150, random_state=0),
}
figure, axes = plt.subplots(3, 4, figsize=(9, 7), layout="constrained", sharex=True, sharey=True)
print(f"{'AUC':12}" + "".join(f"{name:>22}" for name in methods))
seconds = dict.fromkeys(methods, 0.0)
for row, (table, draw) in zip(axes, tables.items(), strict=True):
    X, X_test = draw(N), draw(N)
    line = f"{table:12}"
    for ax, (name, method) in zip(row, methods.items(), strict=True):
        start = time.perf_counter()
        Z = method.fit(X).transform(X_test)
        seconds[name] += (time.perf_counter() - start) / len(tables)
        auc = classifier_auc(Z, "normal", classifier="boosting", random_state=0)
        line += f"{auc:22.2f}"
        ax.scatter(*Z.T, s=2, c="0.3", linewidths=0)
        ax.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
        ax.set_title(f"{name}: AUC {auc:.2f}", fontsize=9)
    row[0].set_ylabel(table)
    print(line)
print(f"{'seconds':12}" + "".join(f"{value:22.3f}" for value in seconds.values()))

# %%
# Conclusion: on correlated normal columns PCA is enough, and on independent ones a
# QuantileTransformer, in milliseconds where training takes seconds. Only if columns depend on each
# other along a curve does the joint distribution need a learned map: there neither of them matches,
# nor do both together.
