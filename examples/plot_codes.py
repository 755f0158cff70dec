"""
Balanced codes from a uniform embedding
=======================================

If an embedding is *jointly* uniform, boxes of equal size of the unit square have equal shares of
the samples. ``UniformCodes`` numbers the boxes: codes for buckets of an index, or for strata of a
split. Their edges are known before the fit, because the target is.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import train_test_split

from sknoisydim import NoisyDIMTransformer, UniformCodes

X, X_test, y, y_test = train_test_split(
    *load_digits(return_X_y=True), test_size=0.5, random_state=0
)

# %%
# Cells of a square
# -----------------
#
# Two components, so that the cells can be drawn: six bits make 8 x 8 of them. The samples are held
# out of the fit. The darkest colour stands for three times the equal share.

square = NoisyDIMTransformer(2, keep="pca", match_weight=10)
flat = UniformCodes(square, bits=6, random_state=0).fit(X)
u = flat.transformer_.transform(X_test)
across, up = flat.n_slices_

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
counts, *_ = np.histogram2d(*u.T, bins=(across, up), range=[[0, 1], [0, 1]])
picture = left.imshow(
    counts.T,
    origin="lower",
    extent=(0, 1, 0, 1),
    cmap="Blues",
    vmin=0,
    vmax=3 * len(u) / 2**6,
)
left.scatter(*u.T, s=3, c="0.2", linewidths=0)
left.set(xlabel="component 0", ylabel="component 1", title="held-out samples in 64 cells")
figure.colorbar(picture, ax=left, label="samples in a cell")
codes = flat.codes(X_test)
for code in np.unique(codes):
    i, j = np.floor(u[codes == code][0] * flat.n_slices_)
    where = (i + 0.5) / across, (j + 0.5) / up
    right.text(*where, f"{code:06b}", fontsize=5.5, ha="center", va="center")
right.set(xlabel="component 0", title="their codes: neighbours differ in one bit")
right.set_xticks(np.arange(across + 1) / across, labels=[])
right.set_yticks(np.arange(up + 1) / up, labels=[])
right.grid(lw=0.5)
right.set_aspect("equal")

# %%
# Balance
# -------
#
# Without a transformer, six bits have three components. The imbalance is 64 times the sum of
# squared shares: 1 for equal shares, and a little more for samples that fall into equal cells at
# random. With ``keep=None`` the embedding has nothing to do but to match.

model = UniformCodes(bits=6, random_state=0).fit(X)
only = UniformCodes(NoisyDIMTransformer(3, keep=None), bits=6, random_state=0).fit(X)
centres = KMeans(64, n_init=1, random_state=0).fit(X)
cells = {
    "UniformCodes": model.codes(X_test),
    "keep=None": only.codes(X_test),
    "k-means": centres.predict(X_test),
}

n, k = len(X_test), 2**6
print(f"at random    imbalance {1 + (k - 1) / n:.2f}")
figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
values = np.arange(0, 51)
expected = k * stats.binom.sf(values - 1, n, 1 / k)
ax.plot(values, expected, "k--", label="binomial distribution")
for name, cell in cells.items():
    counts = np.bincount(cell, minlength=k)
    print(f"{name:12} imbalance {k * np.square(counts / n).sum():.2f}, largest {counts.max()}")
    ax.step(values, [(counts >= v).sum() for v in values], where="mid", label=name)
ax.set(xlabel="samples", ylabel="cells with at least so many", xlim=(0, 50))
ax.legend(frameon=False)

# %%
# Neighbours
# ----------
#
# Use the codes as an index: scan the cells nearest to a query, and count how many of its ten
# nearest neighbours are there. Cells of k-means follow the samples more closely, and find more.

queries, index = X_test[:200], X_test[200:]
true = np.argsort(pairwise_distances(queries, index), axis=1)[:, :10]
orders = {
    "UniformCodes": model.nearest_cells(queries, k),
    "keep=None": only.nearest_cells(queries, k),
    "k-means": np.argsort(centres.transform(queries), axis=1),
}
figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for name, order in orders.items():
    # The place of the cell of each indexed sample in the order of each query.
    place = np.argsort(order, axis=1)[:, cells[name][200:]]
    scanned = [(place < m).mean() for m in range(1, k)]
    found = [(np.take_along_axis(place, true, axis=1) < m).mean() for m in range(1, k)]
    ax.plot(scanned, found, label=name)
    print(f"{name:12} scans {scanned[3]:.0%} in four cells, finds {found[3]:.0%}")
ax.plot([0, 1], [0, 1], "k--", label="at random")
ax.set(xlabel="share of the index scanned", ylabel="neighbours found", xlim=(0, 0.5))
ax.legend(frameon=False)

# %%
# Strata
# ------
#
# ``strata`` joins cells of few samples, so that ``train_test_split`` can take them. The test halves
# resemble the whole more than without: here by the mean of each pixel, over 100 splits.

labels = model.strata(X_test)


def error_of_means(stratify):
    """Root mean square error of the pixels' means in test sets of a fifth."""
    errors = [
        train_test_split(X_test, test_size=0.2, stratify=stratify, random_state=seed)[1].mean(0)
        - X_test.mean(0)
        for seed in range(100)
    ]
    return np.sqrt(np.mean(np.square(errors)))


at_random, stratified = error_of_means(None), error_of_means(labels)
print(f"{labels.max() + 1} strata; error of means {at_random:.3f} at random, {stratified:.3f} with")

# %%
# Conclusion: the cells are a little more balanced than those of k-means, with ``keep=None`` nearly
# as balanced as at random, and their edges are known beforehand. But they hold fewer of the nearest
# neighbours, with ``keep=None`` far fewer. For a search use k-means or a tree of medians: see the
# user guide.
