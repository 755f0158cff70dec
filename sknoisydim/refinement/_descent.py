"""Gradient descent on a map: penalised maximum likelihood that keeps clusters apart."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import nn

from ._base import FloatArray

# Largest norm of a gradient: single rows beside the bulk have huge ones.
CLIP = 5.0
# Steps, and their size, in which the linear model of clusters is fitted before the map moves, and
# about how many rows it sees.
HEAD_STEPS, HEAD_LR, HEAD_ROWS = 200, 0.1, 5000
# Peak of the learning rate of that model while the map moves.
HEAD_PEAK = 0.01

Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Clustered:
    """Rows (n, d) in float32, and the cluster of each.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    labels : ndarray of shape (n,) or None
        None where there are no clusters.
    """

    def __init__(self, rows: FloatArray, labels: np.ndarray | None) -> None:
        self.rows = torch.from_numpy(rows).float()
        codes = np.zeros(len(rows)) if labels is None else labels
        self.codes = torch.from_numpy(codes).long()

    def __len__(self) -> int:
        return len(self.rows)


def clusters_of(mixture: GaussianMixture | None, z: FloatArray) -> np.ndarray | None:
    """Return the cluster of each embedding z (n, d), or None where there are no clusters."""
    return None if mixture is None else mixture.predict(z)


def blurred(rows: torch.Tensor, jitter: float, generator: torch.Generator) -> torch.Tensor:
    """Return rows with noise of standard deviation `jitter`."""
    return rows + jitter * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)


def linear_head(data: Clustered, n_clusters: int) -> nn.Linear:
    """Return a linear model of the clusters, fitted to rows from all over the table."""
    some = slice(None, None, -(-len(data) // HEAD_ROWS))
    rows, codes = data.rows[some], data.codes[some]
    head = nn.utils.skip_init(nn.Linear, rows.shape[1], n_clusters, dtype=torch.float32)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(head.parameters(), lr=HEAD_LR, fused=True)
    for _ in range(HEAD_STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(rows), codes).backward()
        optimizer.step()
    return head


class Objective:
    """What a map minimises, on rows z (n, d) of the clusters `codes` (n,).

    `head` gives the logits of the clusters from refined rows; without, nothing is kept apart.
    """

    def __init__(self, transport: float, separation: float, head: nn.Linear | None) -> None:
        self.transport = transport
        self.separation = separation
        self.head = head

    def __call__(self, forward: Forward, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        moved, log_det = forward(z)
        loss = 0.5 * moved.square().sum(1) - log_det
        if self.transport:
            loss = loss + self.transport * (moved - z).square().sum(1)
        if self.head is not None:
            told = nn.functional.cross_entropy(self.head(moved), codes, reduction="none")
            loss = loss + self.separation * told
        return loss.mean()


def descend(
    module: nn.Module,
    forward: Forward,
    objective: Objective,
    fitted: Clustered,
    held_out: Clustered,
    *,
    jitter: float,
    batch_size: int,
    max_epochs: int,
    patience: int,
    lr: float,
    generator: torch.Generator,
) -> None:
    """Fit `forward`, whose parameters are those of `module`.

    Leaves the weights that were best on held-out rows, which may be those of the start. Adam with
    a one-cycle learning rate.
    """
    rows, codes = fitted.rows, fitted.codes
    judged = blurred(held_out.rows, jitter, generator)
    groups, peaks = [{"params": list(module.parameters())}], [lr]
    if objective.head is not None:
        groups.append({"params": list(objective.head.parameters())})
        peaks.append(HEAD_PEAK)
    optimizer = torch.optim.Adam(groups, lr=lr, fused=True)
    n_batches = -(-len(rows) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, max_epochs * n_batches)
    weights, best_epoch = copy.deepcopy(module.state_dict()), 0
    with torch.no_grad():
        best = objective(forward, judged, held_out.codes)
    for epoch in range(1, max_epochs + 1):
        for index in torch.randperm(len(rows), generator=generator).split(batch_size):
            batch = blurred(rows[index], jitter, generator)
            optimizer.zero_grad()
            objective(forward, batch, codes[index]).backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            value = objective(forward, judged, held_out.codes)
        if value < best:  # never true of NaN
            best, best_epoch, weights = value, epoch, copy.deepcopy(module.state_dict())
        if epoch - best_epoch >= patience:
            break
    module.load_state_dict(weights)
