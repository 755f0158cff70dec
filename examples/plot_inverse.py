"""
The way back: digits from eight numbers
=======================================

``decoder="kernel_ridge"`` fits a regression of the columns on the embedding. Then
``inverse_transform`` returns samples for embeddings, and ``sample`` draws new ones.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from sknoisydim import NoisyDIMTransformer

X, X_test = train_test_split(load_digits().data, random_state=0)

# %%
# Held-out digits and back
# ------------------------
#
# 64 pixels become eight numbers, each uniform and independent of the others as far as training
# gets, and 64 pixels again. PCA of the same size is the usual way.

dim = NoisyDIMTransformer(8, target="uniform", decoder="kernel_ridge", random_state=0).fit(X)
pca = PCA(8).fit(X)
rows = {
    "held-out digits": X_test,
    "8 components": dim.inverse_transform(dim.transform(X_test)),
    "8 of PCA": pca.inverse_transform(pca.transform(X_test)),
    "drawn": dim.sample(12, random_state=0),
}
for name in ("8 components", "8 of PCA"):
    share = r2_score(X_test, rows[name], multioutput="variance_weighted")
    print(f"{name}: {share:.2f} of the variance of the pixels")

figure, axes = plt.subplots(4, 12, figsize=(9, 3.4), layout="constrained")
for line, (name, images) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, image in zip(line, images, strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)

# %%
# The last line are draws from the uniform distribution, decoded, with the residual of a training
# sample near the draw. They are no rival of a generative model, and made of training samples:
# :doc:`/guide/inverse` says how far each of this holds.
#
# What a component stands for
# ---------------------------
#
# One component moves, the others stay at their medians. The target is known, so the steps are too.

steps = np.linspace(0.05, 0.95, 12)
figure, axes = plt.subplots(4, 12, figsize=(9, 3.4), layout="constrained")
for number, line in enumerate(axes):
    Z = np.full((12, 8), 0.5)
    Z[:, number] = steps
    line[0].set_ylabel(f"component {number}", rotation=0, ha="right", va="center")
    for ax, image in zip(line, dim.inverse_transform(Z), strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
for ax, step in zip(axes[0], steps, strict=True):
    ax.set_title(f"{step:.2f}", fontsize=8)
