"""Training of coupling layers: penalised maximum likelihood that keeps clusters apart."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import nn

from .._isolation import make_generator
from ._maps import Couplings

FloatArray = NDArray[np.float64]

# Rows for each cluster and component at least: fewer tell little of where a cluster is.
ROWS_PER_CLUSTER = 10
# Rows that clusters are found from at most, and the standard deviation of noise on them, so that
# repeated rows are no cluster of their own.
CLUSTER_ROWS, CLUSTER_JITTER = 20_000, 0.05
# Steps of expectation maximisation at most, and the gain in nats that is worth another.
CLUSTER_STEPS, CLUSTER_TOL = 50, 1e-3
# Added to the variances of a cluster.
RIDGE = 1e-3
# Passes and steps at most; passes without improvement; rows in a batch; peak
# of the learning rate; largest norm of a gradient: single rows beside the bulk have huge ones.
EPOCHS, STEPS, PATIENCE, BATCH, LR, CLIP = 60, 360, 8, 512, 0.01, 5.0
# Standard deviation of noise on the rows, between these: the second over the rows for each
# component. Few rows have to stand for more of the space around them.
LEAST_JITTER, JITTER_ROWS, MOST_JITTER = 0.05, 64, 0.2
# The linear model of clusters: steps and their size before the map moves, about how many rows it
# sees, and the peak of its learning rate afterwards.
HEAD_STEPS, HEAD_LR, HEAD_ROWS, HEAD_PEAK = 200, 0.1, 5000, 0.01


def find_clusters(z: FloatArray, n_clusters: int, seed: int) -> GaussianMixture | None:
    """Return a Gaussian mixture for embeddings z (n, d); None where there are not two clusters.

    It has fewer than `n_clusters` components where there are too few rows for so many.
    """
    n, d = z.shape
    n_clusters = min(n_clusters, min(n, CLUSTER_ROWS) // (ROWS_PER_CLUSTER * d))
    if n_clusters < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = z[rng.choice(n, CLUSTER_ROWS, replace=False)] if n > CLUSTER_ROWS else z
    rows = rows + CLUSTER_JITTER * rng.standard_normal(rows.shape)
    # k-means would add in the order in which its threads come. Where it stops by itself before it
    # has converged, scikit-learn warns, and filters belong to the whole process: so it goes one
    # step at a time, each of which is as good as converged by this tolerance.
    mixture = GaussianMixture(
        n_clusters,
        init_params="k-means++",
        reg_covar=RIDGE,
        max_iter=2,
        tol=1e300,
        warm_start=True,
        random_state=seed % 2**32,
    )
    before = -np.inf
    try:
        for _ in range(CLUSTER_STEPS):
            gain, before = mixture.fit(rows).lower_bound_ - before, mixture.lower_bound_
            if gain < CLUSTER_TOL:
                break
    except ValueError:  # a row so far out that a covariance has no Cholesky factor in float64
        return None
    return mixture if len(np.unique(mixture.predict(z))) > 1 else None


class _Training(Couplings):
    """Couplings whose arrays are parameters: the identity at first, along axes at random.

    Axes are orthogonal, and turned by Cayley's map.
    """

    def __init__(self, n_components: int, n_layers: int, generator: torch.Generator) -> None:
        super().__init__(n_components, n_layers)
        for name in ("inner", "inner_bias", "outer", "outer_bias"):
            value = getattr(self, name).float()
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(value))
        del self.turns  # follow from the parameters
        start = torch.empty(n_layers, n_components, n_components, dtype=torch.float32)
        self.start = torch.linalg.qr(start.normal_(generator=generator))[0]
        self.turn = nn.Parameter(torch.zeros_like(start))
        with torch.no_grad():
            self.inner.normal_(0, self.halves[0] ** -0.5, generator=generator)
            self.inner_bias.normal_(0, 0.5, generator=generator)

    def axes(self) -> torch.Tensor:
        """Return axes (n_layers, d, d), one a row."""
        skew, eye = self.turn - self.turn.mT, torch.eye(self.n_components, dtype=self.turn.dtype)
        turned: torch.Tensor = self.start @ torch.linalg.solve(eye + skew, eye - skew)
        return turned

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        self.turns = between(self.axes())
        return super()._run(z, ladj)

    @torch.no_grad()
    def fixed(self) -> Couplings:
        """Return the layers, their axes orthogonal in float64."""
        layers = Couplings(self.n_components, len(self.inner))
        left, _, right = torch.linalg.svd(self.axes().double())
        layers.turns = between(left @ right)
        for name in ("inner", "inner_bias", "outer", "outer_bias"):
            setattr(layers, name, getattr(self, name).double())
        return layers


def between(axes: torch.Tensor) -> torch.Tensor:
    """Return what turns rows to the axes (n, d, d) of each layer from those of the one before."""
    eye = torch.eye(axes.shape[-1], dtype=axes.dtype)[None]
    return torch.cat([eye, axes]) @ torch.cat([axes.mT, eye])


class _Loss:
    """What layers minimise; rows come with the codes of their clusters (n,), or none do."""

    def __init__(self, layers: Couplings, transport: float, separation: float) -> None:
        self.layers, self.transport, self.separation = layers, transport, separation
        self.head: nn.Linear | None = None

    def fit_head(self, z: torch.Tensor, codes: torch.Tensor) -> None:
        """Fit the linear model of the clusters to rows from all over the table."""
        some = slice(None, None, -(-len(z) // HEAD_ROWS))
        n_clusters = int(codes.max()) + 1
        head = nn.utils.skip_init(nn.Linear, z.shape[1], n_clusters, dtype=torch.float32)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        optimizer = torch.optim.Adam(head.parameters(), lr=HEAD_LR, fused=True)
        for _ in range(HEAD_STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(z[some]), codes[some]).backward()
            optimizer.step()
        self.head = head

    def __call__(self, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        moved, log_det = self.layers.call_and_ladj(z)
        loss = 0.5 * moved.square().sum(1) - log_det
        loss = loss + self.transport * (moved - z).square().sum(1)
        if self.head is not None:
            told = nn.functional.cross_entropy(self.head(moved), codes, reduction="none")
            loss = loss + self.separation * told
        return loss.mean()


def train_couplings(
    fitted: FloatArray,
    held_out: FloatArray,
    codes: tuple[FloatArray, FloatArray] | None,
    n_layers: int,
    transport: float,
    separation: float,
    seed: int,
) -> Couplings:
    """Return layers for rows (n, d), with the weights that were best on rows held out (m, d).

    Which may be those of the start: the identity.

    Parameters
    ----------
    fitted, held_out : ndarray of shape (n, d) and (m, d)
    codes : tuple of ndarray of shape (n,) and (m,), or None
        Clusters of the rows.
    n_layers : int
    transport, separation : float
        Price of moving a row, and of what a linear model no longer tells of its cluster.
    seed : int
    """
    generator = make_generator(seed)
    if len(fitted) > STEPS * BATCH:
        some = slice(None, None, -(-len(fitted) // (STEPS * BATCH)))
        fitted, codes = fitted[some], None if codes is None else (codes[0][some], codes[1])
    rows, judged = (torch.from_numpy(part).float() for part in (fitted, held_out))
    known, told = (
        torch.from_numpy(np.zeros(len(part), np.int64) if codes is None else codes[i])
        for i, part in enumerate((fitted, held_out))
    )
    n, d = rows.shape
    layers = _Training(d, n_layers, generator)
    loss = _Loss(layers, transport, separation)
    if codes is not None and separation > 0:
        loss.fit_head(rows, known)
    jitter = min(max(JITTER_ROWS * d / n, LEAST_JITTER), MOST_JITTER)

    def blurred(z: torch.Tensor) -> torch.Tensor:
        return z + jitter * torch.empty_like(z).normal_(generator=generator)

    judged = blurred(judged)
    groups, peaks = [{"params": list(layers.parameters())}], [LR]
    if loss.head is not None:
        groups.append({"params": list(loss.head.parameters())})
        peaks.append(HEAD_PEAK)
    n_batches = -(-n // BATCH)
    n_epochs = max(1, min(EPOCHS, STEPS // n_batches))
    optimizer = torch.optim.Adam(groups, lr=LR, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, n_epochs * n_batches)
    with torch.no_grad():
        best, best_epoch, weights = loss(judged, told), 0, copy.deepcopy(layers.state_dict())
    for epoch in range(1, n_epochs + 1):
        for index in torch.randperm(n, generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss(blurred(rows[index]), known[index]).backward()
            nn.utils.clip_grad_norm_(layers.parameters(), CLIP)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            value = loss(judged, told)
        if value < best:  # never true of NaN
            best, best_epoch, weights = value, epoch, copy.deepcopy(layers.state_dict())
        if epoch - best_epoch >= PATIENCE:
            break
    layers.load_state_dict(weights)
    return layers.fixed()
