"""
The method in pictures
======================

Add noise to a number. The mutual information between the number and the noisy number is at most
the *capacity* of this channel, and only the normal distribution reaches it. So maximising the
mutual information makes the distribution normal.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from sknoisydim.noise import GaussianChannel
from sknoisydim.targets import resolve_target

# %%
# Four distributions through one channel
# --------------------------------------
#
# All four have mean 0 and variance 1, as the whitened output of the encoder. The input of the
# channel is grey, the output coloured, and the output of the normal distribution dashed.

SCALE = 0.3
INPUTS = {
    "normal": stats.norm(),
    "uniform": stats.uniform(-np.sqrt(3), 2 * np.sqrt(3)),
    "Laplace": stats.laplace(scale=1 / np.sqrt(2)),
    "two clusters": [stats.norm(-0.98, 0.2), stats.norm(0.98, 0.2)],
}
x = np.linspace(-20, 20, 8001)
step = x[1] - x[0]


def density(source):
    """Density on the grid, of a distribution or of a mixture of equal parts."""
    parts = source if isinstance(source, list) else [source]
    return np.mean([part.pdf(x) for part in parts], axis=0)


def after(source, scale):
    """Density with noise added."""
    noise = stats.norm(0, scale).pdf(x)
    return np.convolve(density(source), noise / noise.sum(), mode="same")


def information(source, scale):
    """Mutual information in nats: entropy of the output less that of the noise."""
    p = after(source, scale)
    p = p[p > 0]
    return -np.sum(p * np.log(p)) * step - stats.norm(0, scale).entropy()


figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained", sharey=True)
for k, (ax, (name, source)) in enumerate(zip(axes, INPUTS.items(), strict=True)):
    ax.fill_between(x, density(source), color="0.85")
    ax.plot(x, after(source, SCALE), color=f"C{k}", lw=2)
    ax.plot(x, stats.norm(0, np.hypot(1, SCALE)).pdf(x), "k--", lw=0.8)
    ax.set_title(f"{name}: {information(source, SCALE):.2f} nats", fontsize=10)
    ax.set(xlim=(-4, 4), ylim=(0, 1.05), xlabel="$f(X) + Z$")
axes[0].set_ylabel("density")

capacity = GaussianChannel(1, SCALE).capacity
print(f"capacity of the channel: {capacity:.3f} nats")
for name, source in INPUTS.items():
    print(f"{name:13} passes {information(source, SCALE):.3f} nats")

# %%
# Divergence and loss of information
# ----------------------------------
#
# The gap to the capacity *is* the Kullback-Leibler divergence of the output from that of the normal
# distribution. With more noise, the gap is smaller. With little noise it is large, but then the
# information is more than a batch can show (see the guide on noise).

scales = np.geomspace(0.1, 2, 25)
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for k, (name, source) in enumerate(INPUTS.items()):
    gap = [GaussianChannel(1, s).capacity - information(source, s) for s in scales]
    ax.plot(scales, np.maximum(gap, 1e-6), color=f"C{k}", label=name)
ax.set(xlabel="standard deviation $s$ of the noise", ylabel="capacity - information, nats")
ax.set(xscale="log", yscale="log", ylim=(1e-4, 1))
ax.set_xticks([0.1, 0.3, 1, 2], ["0.1", "0.3", "1", "2"])
ax.legend(frameon=False, fontsize=9)

losses = {name: capacity - information(source, SCALE) for name, source in INPUTS.items()}
for name, loss in losses.items():
    print(f"{name:13} misses {max(loss, 0):.3f} nats")

# %%
# Then any target
# ---------------
#
# An invertible map takes the normal distribution to the target. It is not trained, loses no
# information, and can be exchanged. Neighbours stay neighbours, as the colours show.

z = resolve_target("normal", 2).sample(1500, random_state=0)
colour = np.arctan2(*z.T)
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for ax, target in zip(axes, ("normal", "uniform", ["uniform", stats.expon()]), strict=True):
    ax.scatter(*resolve_target(target, 2).push(z).T, c=colour, cmap="twilight", s=5, linewidths=0)
    name = target if isinstance(target, str) else "uniform and exponential"
    ax.set_title(f"target: {name}", fontsize=10)
    ax.set(xlabel="component 0", ylabel="component 1")

# %%
# Conclusion: of all distributions with the same variance the normal one has the largest mutual
# information, the capacity, and the gap of any other is its divergence. So maximising the mutual
# information shapes the distribution. With many components an *estimate* of the information need
# not be largest for the normal distribution, so a distance to it is trained as well (see the
# guide).
