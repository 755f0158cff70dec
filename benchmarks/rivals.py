"""Other ways to embed a table, behind one signature: (X, y, d, seed, weight) to a fitted pipeline.

The networks are the bare p-256-256-d encoder on squashed columns, trained with AdamW and one cycle
for `n_steps`, on a batch and its view, in which half of the cells come from other rows. Behind each
method stands an affine map that whitens, as it does in ours, so none is judged by its scale.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sknoisydim._optimizers import one_cycle

BATCH_SIZE = 512
PEAK = 3e-3

# Embeddings of a batch and of its view, to a number.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def n_steps(n_rows: int) -> int:
    """Steps for a table of this size: 12 sqrt(n), from 200 to 2,400."""
    return int(min(max(12 * math.sqrt(n_rows), 200), 2400))


def encoder(p: int, d: int) -> nn.Sequential:
    """Return p-256-256-d with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for n_in, n_out in ((p, 256), (256, 256)):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, d))


def corrupt(x: torch.Tensor, rate: float = 0.5) -> torch.Tensor:
    """Each cell comes, with this probability, from a random row of the batch."""
    others = x.gather(0, torch.randint(len(x), x.shape))
    return torch.where(torch.rand(x.shape) < rate, others, x)


def normalize_exactly(network: nn.Sequential, x: torch.Tensor, batch: int) -> None:
    """Set the statistics of batch normalisation to those of rows without views."""
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        for rows in x[torch.randperm(len(x))][: len(x) // batch * batch].split(batch):
            network(rows)
    network.eval()


def train(X: np.ndarray, d: int, seed: int, loss: Loss) -> Pipeline:
    """Minimise a loss, and whiten."""
    torch.manual_seed(seed)
    scaler = StandardScaler().fit(X)

    def scale(rows: np.ndarray) -> torch.Tensor:
        u = torch.from_numpy(scaler.transform(rows).astype(np.float32))
        return u / (1 + (u / 3).square()).sqrt()

    x, network = scale(X), encoder(X.shape[1], d)
    batch, steps = min(BATCH_SIZE, len(x)), n_steps(len(x))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01, fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = one_cycle(step, steps, PEAK)
        rows = x[torch.randperm(len(x))[:batch]]
        value = loss(network(rows), network(corrupt(rows)))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
    normalize_exactly(network, x, batch)

    @torch.no_grad()
    def embed(rows: np.ndarray) -> np.ndarray:
        return torch.cat([network(part) for part in scale(rows).split(4096)]).double().numpy()

    return make_pipeline(FunctionTransformer(embed), PCA(whiten=True).fit(embed(X)))


def epps_pulley(
    z: torch.Tensor, generator: torch.Generator | None = None, slices: int = 256
) -> torch.Tensor:
    """Mean over random directions of the Epps-Pulley statistic against N(0, 1).

    The integrand is even in t: half of the 17 knots of the paper in [-5, 5] are enough.
    """
    directions = torch.randn(z.shape[1], slices, generator=generator)
    directions /= directions.norm(dim=0)
    t = torch.linspace(0, 5, 9)
    weight = torch.exp(-0.5 * t**2)
    angle = (z @ directions).unsqueeze(-1) * t
    gap = (angle.cos().mean(0) - weight).square() + angle.sin().mean(0).square()
    return 2 * len(z) * torch.trapezoid(gap * weight, t, dim=-1).mean()


def sigreg(X: np.ndarray, y: Any, d: int, seed: int, weight: float) -> Pipeline:
    """LeJEPA (arXiv:2511.08544): views agree, and random slices are normal, at this weight."""

    def loss(z: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        agreement = (z - view).square().mean() / 4
        normality = (epps_pulley(z) + epps_pulley(view)) / 2
        return (1 - weight) * agreement + weight * normality

    return train(X, d, seed, loss)


def wristband(z: torch.Tensor) -> torch.Tensor:
    """Distance to N(0, I) by radius and direction: both uniform, and independent.

    The radius goes through the distribution function of chi: its sorted values against uniform
    ones, and the logarithm of the mean Gaussian kernel over pairs of (direction, radius).
    """
    norm = z.norm(dim=1, keepdim=True)
    radius = torch.special.gammainc(torch.tensor(z.shape[1] / 2), norm.square() / 2)
    uniform = (torch.arange(len(z)) + 0.5) / len(z)
    radial = 12 * (radius.flatten().sort().values - uniform).square().mean()
    kernel = -2 * torch.pdist(torch.cat([z / norm, radius], 1)).square()
    return radial + (kernel.logsumexp(0) - math.log(len(kernel)))


def radial(X: np.ndarray, y: Any, d: int, seed: int, weight: float) -> Pipeline:
    """Views agree, and radius and direction are those of N(0, I), at this weight."""

    def loss(z: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        agreement = (z - view).square().mean() / 4
        return (1 - weight) * agreement + weight * (wristband(z) + wristband(view)) / 2

    return train(X, d, seed, loss)


def contrastive(X: np.ndarray, y: Any, d: int, seed: int, weight: float) -> Pipeline:
    """InfoNCE of cosines without noise, as in SCARF; the weight is the temperature."""

    def loss(z: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        z, view = (nn.functional.normalize(part, dim=1) for part in (z, view))
        return nn.functional.cross_entropy(z @ view.T / weight, torch.arange(len(z)))

    return train(X, d, seed, loss)


def umap(X: np.ndarray, y: Any, d: int, seed: int, weight: None) -> Pipeline:
    """UMAP with its own defaults, on scaled columns."""
    # Threads that numba starts go on spinning, and would count as CPU time of later fits.
    os.environ["NUMBA_NUM_THREADS"] = "1"
    from umap import UMAP

    scaler = StandardScaler().fit(X)
    model = UMAP(n_components=d, random_state=seed, n_jobs=1)
    whitening = PCA(whiten=True).fit(model.fit_transform(scaler.transform(X)).astype(float))
    embed = FunctionTransformer(lambda rows: model.transform(rows).astype(float))
    return make_pipeline(scaler, embed, whitening)


# Name, method and weights.
RIVALS = {
    "UMAP": (umap, (None,)),
    "SIGReg": (sigreg, (0.02, 0.05, 0.2, 0.5)),
    "radius and direction": (radial, (0.1, 0.5, 0.9)),
    "InfoNCE without noise": (contrastive, (0.1, 0.3, 1.0)),
}
