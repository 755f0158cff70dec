"""
The idea, in pictures
=====================

Add noise to a number and send it on. How much does the receiver learn? At most the *capacity* of
this channel, and one law only reaches it: the normal one. So whoever maximises the information
through the channel makes the law normal.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from sknoisydim.noise import GaussianNoise
from sknoisydim.targets import resolve_target

# %%
# Four laws through one channel
# -----------------------------
#
# All four have mean 0 and variance 1, as whitening makes the encoder's output. In grey what goes
# into the channel, in colour what comes out, dashed the normal law that fills the channel.

SCALE = 0.3
LAWS = {
    "normal": stats.norm(),
    "uniform": stats.uniform(-np.sqrt(3), 2 * np.sqrt(3)),
    "Laplace": stats.laplace(scale=1 / np.sqrt(2)),
    "two clusters": [stats.norm(-0.98, 0.2), stats.norm(0.98, 0.2)],
}
x = np.linspace(-9, 9, 6001)
step = x[1] - x[0]


def density(law):
    """Density on the grid, of a law or of a mixture of equal parts."""
    parts = law if isinstance(law, list) else [law]
    return np.mean([part.pdf(x) for part in parts], axis=0)


def after(law, scale):
    """Density of the law with noise added."""
    noise = stats.norm(0, scale).pdf(x)
    return np.convolve(density(law), noise / noise.sum(), mode="same")


def information(law, scale):
    """Nats through the channel: entropy of what comes out, less that of the noise."""
    p = after(law, scale)
    p = p[p > 0]
    return -np.sum(p * np.log(p)) * step - stats.norm(0, scale).entropy()


figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained", sharey=True)
for k, (ax, (name, law)) in enumerate(zip(axes, LAWS.items(), strict=True)):
    ax.fill_between(x, density(law), color="0.85")
    ax.plot(x, after(law, SCALE), color=f"C{k}", lw=2)
    ax.plot(x, stats.norm(0, np.hypot(1, SCALE)).pdf(x), "k--", lw=0.8)
    ax.set_title(f"{name}: {information(law, SCALE):.2f} nats", fontsize=10)
    ax.set(xlim=(-4, 4), ylim=(0, 1.05), xlabel="$f(X) + Z$")
axes[0].set_ylabel("density")

capacity = GaussianNoise(SCALE).capacity(1)
print(f"capacity of the channel: {capacity:.3f} nats")
for name, law in LAWS.items():
    print(f"{name:13} passes {information(law, SCALE):.3f} nats")

# %%
# How far from the normal law, and how much is lost
# -------------------------------------------------
#
# For these laws what is missing to capacity *is* the Kullback-Leibler divergence of what comes out
# from the normal law. It depends on the noise: the more noise, the less the channel sees of a
# difference. With little noise it sees everything, but then a batch of rows cannot show all that
# passes (see the guide on noise).

scales = np.geomspace(0.1, 2, 25)
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for k, (name, law) in enumerate(LAWS.items()):
    gap = [GaussianNoise(s).capacity(1) - information(law, s) for s in scales]
    ax.plot(scales, np.maximum(gap, 1e-6), color=f"C{k}", label=name)
ax.set(xlabel="standard deviation $s$ of the noise", ylabel="capacity - information, nats")
ax.set(xscale="log", yscale="log", ylim=(1e-4, 1))
ax.set_xticks([0.1, 0.3, 1, 2], ["0.1", "0.3", "1", "2"])
ax.legend(frameon=False, fontsize=9)

losses = {name: capacity - information(law, SCALE) for name, law in LAWS.items()}
print("missing to capacity:", {name: f"{max(loss, 0):.3f}" for name, loss in losses.items()})

# %%
# Then any law
# ------------
#
# From the normal law an invertible map leads to the target. It is not trained, loses nothing, and
# can be exchanged: neighbours stay neighbours, as the colours show.

z = resolve_target("normal", 2).sample(1500, random_state=0)
colour = np.arctan2(*z.T)
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for ax, law in zip(axes, ("normal", "uniform", ["uniform", stats.expon()]), strict=True):
    ax.scatter(*resolve_target(law, 2).push(z).T, c=colour, cmap="twilight", s=5, linewidths=0)
    name = law if isinstance(law, str) else "uniform and exponential"
    ax.set_title(f"target: {name}", fontsize=10)
    ax.set(xlabel="component 0", ylabel="component 1")

# %%
# Conclusion: of laws with the same variance the normal one passes most information, its capacity,
# and each of the others passes less by what it differs. That is why maximising information through
# a noisy channel shapes the law. With many components an *estimate* of the information need not be
# largest for the normal law, which is why a distance to it is trained as well (see the guide).
