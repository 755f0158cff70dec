"""
Balanced codes from a uniform embedding
=======================================

Cut the unit square into cells of equal size. If the embedding is *jointly* uniform, each cell gets
its share of the rows: codes that are equally frequent, for hashing, for buckets of an index, for
strata of a sample. The edges are known before the fit, because the target is.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, StandardScaler

from sknoisydim import NoisyDIMTransformer

X, X_test, y, y_test = train_test_split(
    *load_digits(return_X_y=True), test_size=0.5, random_state=0
)

# %%
# Four ways to the unit square
# ----------------------------
#
# Two scaled principal components, with the distribution function of N(0, 1) behind them; the same
# with a QuantileTransformer, which makes each component uniform by itself; and two embeddings
# with the joint target "uniform": with the defaults, and with ``keep=None``, where only the
# distribution matters.

cdf = FunctionTransformer(stats.norm.cdf)
methods = {
    "PCA, StandardScaler": make_pipeline(PCA(2), StandardScaler(), cdf),
    "PCA, QuantileTransformer": make_pipeline(
        PCA(2), QuantileTransformer(n_quantiles=500, random_state=0)
    ),
    "NoisyDIM": NoisyDIMTransformer(2, "uniform", random_state=0),
    "NoisyDIM, keep=None": NoisyDIMTransformer(2, "uniform", keep=None, random_state=0),
}
squares = {name: method.fit(X).transform(X_test) for name, method in methods.items()}

# %%
# Count the rows in 8 x 8 cells
# -----------------------------
#
# Rows that fall into 64 equal cells at random leave binomial counts. Pearson's statistic over its
# degrees of freedom is then about 1, and the p-value says how surprising it is. The entropy of the
# code is how many of its 6 bits are used.

SIDE = 8


def codes(square):
    """Number of the cell of each row, from 0 to SIDE**2 - 1."""
    i, j = np.clip((square * SIDE).astype(int), 0, SIDE - 1).T
    return SIDE * i + j


n = len(X_test)
share = 1 / SIDE**2
expected_empty = SIDE**2 * stats.binom.pmf(0, n, share)
largest = stats.binom.isf(0.05 / SIDE**2, n, share)
print(f"{n} held-out rows in {SIDE**2} cells, {n * share:.0f} each")
print(f"at random: {expected_empty:.1f} cells empty; 1 time in 20 one has more than {largest:.0f}")

counts = {name: np.bincount(codes(Z), minlength=SIDE**2) for name, Z in squares.items()}
random_entropy = stats.entropy(
    np.random.default_rng(0).multinomial(n, np.full(SIDE**2, share), size=200).T, base=2
).mean()
print(f"\n{'':26}{'empty':>6}{'largest':>9}{'Pearson':>9}{'p-value':>10}{'bits':>6}")
print(f"{'at random':26}{expected_empty:6.1f}{'':9}{1:9.2f}{'':10}{random_entropy:6.2f}")
for name, count in counts.items():
    found = stats.chisquare(count)
    print(
        f"{name:26}{(count == 0).sum():6}{count.max():9}{found.statistic / (SIDE**2 - 1):9.2f}"
        f"{found.pvalue:10.2g}{stats.entropy(count, base=2):6.2f}"
    )

# %%
# The squares and their cells; the darkest blue is three times the expected count.

figure, axes = plt.subplots(
    2, 2, figsize=(7.5, 6.6), layout="constrained", sharex=True, sharey=True
)
for ax, (name, Z) in zip(axes.flat, squares.items(), strict=True):
    picture = ax.imshow(
        counts[name].reshape(SIDE, SIDE).T,
        origin="lower",
        extent=(0, 1, 0, 1),
        cmap="Blues",
        vmin=0,
        vmax=3 * n * share,
    )
    ax.scatter(*Z.T, s=3, c="0.2", linewidths=0)
    ax.set_title(name, fontsize=10)
    ax.set(xlabel="component 0", ylabel="component 1")
    ax.label_outer()
figure.colorbar(picture, ax=axes, label="rows in a cell", shrink=0.8)

# %%
# Compare the counts of each method with the binomial distribution of balanced codes.

figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
values = np.arange(0, 41)
ax.plot(
    values, SIDE**2 * stats.binom.sf(values - 1, n, share), "k--", label="binomial distribution"
)
for name, count in counts.items():
    ax.step(values, [(count >= v).sum() for v in values], where="mid", label=name)
ax.set(xlabel="rows", ylabel="cells with at least so many", xlim=(0, 40))
ax.legend(frameon=False)

# %%
# A code is more than a bucket number if rows of one cell are alike. Give each cell the most
# frequent digit of its training rows, and ask held-out rows:

for name, method in methods.items():
    train, test = codes(method.transform(X)), codes(squares[name])
    table = np.zeros((SIDE**2, 10))
    np.add.at(table, (train, y), 1)
    print(f"{name:26} digit of the cell fits {np.mean(table[test].argmax(1) == y_test):.2f}")

# %%
# Conclusion: with scaled components, or with each made uniform by itself, Pearson's statistic is
# about five. With the defaults it is about half of that, and the code predicts the digit nearly as
# well. With ``keep=None`` it is close to one, and no cell has more samples than expected by chance,
# but the code predicts the digit far less well.
