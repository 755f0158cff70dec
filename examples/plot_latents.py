"""
Two embeddings compared: are the latents found?
===============================================

Observations are a nonlinear function of two independent variables that are not observed. An
embedding with the right distribution need not find them. With pairs of observations that belong
together it does, up to a turn, which ``metrics.align`` takes out.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import align, consistency

# %%
# Latents and observations
# ------------------------
#
# Each variable is bent by the other in turn, so the map can be undone; a pair is two observations
# whose latents are close.

BENDS = [(0, 1.5), (1, 1.0), (0, 0.8)]


def mix(latents):
    """Bend (n, 2) latents."""
    columns = list(latents.T)
    for moved, size in BENDS:
        columns[moved] = columns[moved] + size * torch.sin(1.5 * columns[1 - moved])
    return torch.stack(columns, 1)


def unmix(observed):
    """Undo `mix`."""
    columns = list(observed.T)
    for moved, size in reversed(BENDS):
        columns[moved] = columns[moved] - size * torch.sin(1.5 * columns[1 - moved])
    return torch.stack(columns, 1)


def pair(observed, generator):
    """Return observations whose latents are a small step away."""
    latents = unmix(observed)
    return mix(0.95 * latents + 0.31 * torch.randn(latents.shape, generator=generator))


latents = np.random.default_rng(0).standard_normal((5000, 2))
X = mix(torch.from_numpy(latents)).numpy()
X, X_test, latents = X[:4000], X[4000:], latents[4000:]

# %%
# Three embeddings
# ----------------

settings = {"scaling": None, "batch_size": 256, "max_epochs": 40, "random_state": 0}
alone = NoisyDIMTransformer(2, **settings).fit(X)
paired = NoisyDIMTransformer(
    2, augmentation=pair, clean_weight=0, critic="exact", keep=None, match_weight=0.1, **settings
).fit(X)
found = {
    "observations": X_test,
    "without pairs": alone.transform(X_test),
    "with pairs": paired.transform(X_test),
}
for name, Z in found.items():
    same = consistency(latents, Z)
    print(f"{name}: CKA {same.cka:.2f}, Procrustes R2 {same.procrustes:.2f}")

# %%
# Coloured by the latents, after the turn, shift and scale that bring each closest to them. Both
# embeddings are close to normal, but the one without pairs has folds where the latents have none.

shown = {"latents": latents} | {name: align(Z, latents) for name, Z in found.items()}
colors = np.column_stack([np.argsort(np.argsort(latents[:, i])) / len(latents) for i in (0, 1)])
colors = np.column_stack([colors[:, 0], 0.4 + 0 * colors[:, 0], colors[:, 1]])
figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained", sharex=True, sharey=True)
for ax, (name, Z) in zip(axes, shown.items(), strict=True):
    ax.scatter(*Z.T, s=4, c=colors, linewidths=0)
    ax.set(title=name, xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
