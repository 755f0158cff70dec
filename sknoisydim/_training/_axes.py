"""Axes of an embedding: those along which one component at a time tells classes apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sknoisydim._data import Rows
from sknoisydim._isolation import make_generator
from sknoisydim._labels import UNLABELLED
from sknoisydim._objective import Objective

# Rows that axes are found on, and cells of their table of classes: more move them little.
AXES_ROWS = 2**14
AXES_CELLS = 2**22
# Steps of the search, and the multiplications after which it ends before.
STEPS = 50
WORK = 5e9
# Weight of the log density, as if each row counted half: components of a class are not quite
# independent, and full weight would follow the few rows between classes.
TEMPER = 0.5
# Rows of the pooled covariance that stand beside those of a class, for each component, and the
# least variance of a class along an axis.
POOLED = 1.0
RIDGE = 1e-3


class _Classes(NamedTuple):
    """Log shares (k,), means (k, d) and covariances (k, d, d) of classes; `within` is pooled."""

    shares: torch.Tensor
    means: torch.Tensor
    covariances: torch.Tensor
    within: torch.Tensor

    @classmethod
    def of(cls, z: torch.Tensor, codes: torch.Tensor) -> _Classes:
        d = z.shape[1]
        counts = torch.bincount(codes).to(z)
        means = z.new_zeros(len(counts), d).index_add_(0, codes, z) / counts[:, None]
        centred = z - means[codes]
        within = centred.T @ centred
        scatter = torch.stack([part.T @ part for part in _by_class(centred, codes, counts)])
        within = within / len(z)
        covariances = (scatter + POOLED * d * within) / (counts + POOLED * d)[:, None, None]
        return cls((counts / len(z)).log(), means, covariances, within)


def _by_class(z: torch.Tensor, codes: torch.Tensor, counts: torch.Tensor) -> list[torch.Tensor]:
    return list(z[codes.argsort(stable=True)].split(counts.long().tolist()))


def align(
    objective: Objective, rows: Rows, codes: np.ndarray | None, batch_size: int, seed: int
) -> np.ndarray | None:
    """Turn a white embedding to the axes that suit its classes best.

    N(0, I) has no preferred axes, so these are free to choose: those of `class_axes`. Models that
    look at one component at a time, such as naive Bayes or trees, gain by it.

    Parameters
    ----------
    objective : Objective
        In evaluation mode; its normalizer is turned.
    rows : Rows
        Of training.
    codes : ndarray of int or None
        Class of each row of the table, -1 for unlabelled.
    batch_size, seed : int
        Rows that are embedded at once, and what fixes those that are drawn.

    Returns
    -------
    ndarray of shape (d, d) or None
        The rotation; None without two rows of one class, or where the normalizer has axes of its
        own.
    """
    if codes is None or not objective.normalizer.isotropic:
        return None
    known = torch.from_numpy(np.asarray(rows.of(codes)).astype(np.int64))
    n_classes = len(known[known != UNLABELLED].unique())
    if n_classes == 0:
        return None
    drawn = rows.draw(min(AXES_ROWS, AXES_CELLS // n_classes), make_generator(seed)).long()
    drawn = drawn[known[drawn] != UNLABELLED]
    labels, compact = known[drawn].unique(return_inverse=True)
    if len(labels) == len(drawn):
        return None
    with torch.no_grad():
        z = torch.cat([objective.embed(rows.take(part)).cpu() for part in drawn.split(batch_size)])
    rotation = class_axes(z.double(), compact)
    objective.normalizer.rotate(rotation)
    found: np.ndarray = rotation.numpy()
    return found


def class_axes(z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    r"""Return orthogonal axes (d, d), one a row, along which naive Bayes knows the classes best.

    Minimises, over orthogonal matrices R, the mean cross entropy of

    .. math:: p(k \mid z) \propto \pi_k^\tau \prod_i
              N\bigl((R z)_i; (R \mu_k)_i, (R \Sigma_k R^\top)_{ii}\bigr)^\tau

    with the shares, means and covariances of the classes (those of small ones drawn to the pooled
    one), from the principal axes within the classes on. The first axes tell classes apart best.

    Parameters
    ----------
    z : Tensor of shape (n, d)
        White rows, in float64.
    codes : Tensor of shape (n,)
        Their classes, from 0 on; each has a row.
    """
    classes = _Classes.of(z, codes)
    start = torch.linalg.eigh(classes.within).eigenvectors.T
    n_classes, d = classes.means.shape
    axes = start
    if n_classes > 1 and d > 1:
        work = n_classes * d * d * d + len(z) * n_classes * d
        found = _search(_naive_bayes(z, codes, classes, start), d, min(STEPS, int(WORK / work)))
        axes = found @ start
    variances = torch.einsum("ij,jl,il->i", axes, classes.within, axes)
    axes = axes[variances.argsort(stable=True)]
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return axes * signs


def _naive_bayes(
    z: torch.Tensor, codes: torch.Tensor, classes: _Classes, start: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the mean cross entropy as a function of a rotation behind `start`."""
    z, means = z @ start.T, classes.means @ start.T
    covariances = start @ classes.covariances @ start.T

    def loss(rotation: torch.Tensor) -> torch.Tensor:
        u, mean = z @ rotation.T, means @ rotation.T
        variance = ((rotation @ covariances) * rotation).sum(-1) + RIDGE
        # The square of (u - mean) / deviation, summed over components, by matrix products.
        squares = u.square() @ (1 / variance).T - 2 * u @ (mean / variance).T
        squares = squares + (mean.square() / variance + variance.log()).sum(1)
        return cross_entropy(TEMPER * (classes.shares - 0.5 * squares), codes)

    return loss


def _search(loss: Callable[[torch.Tensor], torch.Tensor], d: int, n_steps: int) -> torch.Tensor:
    """Return the rotation (d, d), near the identity, that makes the loss small."""
    best = torch.eye(d, dtype=torch.float64)
    if n_steps < 1:
        return best
    with torch.enable_grad():
        skew = torch.zeros(d, d, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([skew], max_iter=n_steps, line_search_fn="strong_wolfe")

        def evaluate() -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(torch.linalg.matrix_exp(skew - skew.T))
            value.backward()
            return value

        before = optimizer.step(evaluate)
    with torch.no_grad():
        found = torch.linalg.matrix_exp(skew - skew.T)
        return found if loss(found) < before else best
