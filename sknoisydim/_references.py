"""Reference features: what a linear model of the embedding should predict of a sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel
from torch import nn

from sknoisydim._kernel_ridge import KernelRidge
from sknoisydim._labels import standardised
from sknoisydim._linear import RIDGE
from sknoisydim._modules import make_generator
from sknoisydim._validation import naming, resolve, set_seeds

# (positions of rows, these rows scaled) -> reference features (n, k).
Reference = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Rows, and cells of them, that reference features are fitted to.
FITTED_ROWS, FITTED_CELLS = 2**12, 2**22
# Principal components that the kernel sees, and rows that stand for all others in it, at most.
KERNEL_COLUMNS, LANDMARKS = 64, 256
# Squared distance over its mean at which the kernel is exp(-2 * WIDTH), and the power of the
# components' variances by which they are divided in it. LogisticRegression of these components
# finds 0.899 of the classes in the mean of 13 tables, and of PCA 0.881; on none is it more than
# 0.02 below (benchmarks/frontier.py --methods PCA --seeds 1).
WIDTH, POWER = 0.3, 0.25
# Share of the first variance, or of the mean one, below which a component is rounding.
LEAST_VARIANCE = 1e-6
# Linear information about y counts up to this times what ridge regression on a kernel of the
# columns has of samples that are left out: the rest would be learnt by heart. R2 of Ridge on the
# embedding of diabetes is 0.41, and was -0.08 without a limit (benchmarks/frontier.py --regression
# --methods "labels 100.0"); with 1.0 tables whose y has no noise lose 0.01.
BEYOND_RIDGE = 1.1
# Samples and cells up to which that is so: more are not learnt by heart, and a network may know
# them better. Samples that its kernel is centred at, and widths: few, for the time.
LIMITED_ROWS, LIMITED_CELLS = 2**14, 2**23
CENTERS, WIDTHS = 2**9, (1.0, 4.0)


class Components(nn.Module):
    """Principal components of scaled rows, or those of a Gaussian kernel: (n, ...) -> (n, k).

    Centred rows are multiplied by `axes` (p, m); the kernel exp(-|x - z|^2 / 2) of landmarks z
    (l, m) is centred at `mean` (l,) and multiplied by `weights` (l, k).
    """

    def __init__(self, *arrays: np.ndarray) -> None:
        super().__init__()
        tensors = [torch.as_tensor(np.ascontiguousarray(value)).float() for value in arrays]
        self.center, self.axes, *kernel = map(nn.Buffer, tensors)
        self.in_kernel = bool(kernel)
        if kernel:
            self.landmarks, self.mean, self.weights = kernel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the components of scaled rows; a missing cell counts as 0."""
        u = (x.flatten(1).nan_to_num(0.0) - self.center) @ self.axes
        if not self.in_kernel:
            return u
        squares = u.square().sum(1, keepdim=True) + self.landmarks.square().sum(1)
        kernel = torch.exp(-0.5 * (squares - 2 * u @ self.landmarks.T).clamp(min=0))
        return (kernel - self.mean) @ self.weights


class PrincipalComponents(BaseEstimator):
    """The first d principal components of the scaled columns."""

    def build(self, rows: torch.Tensor, n_components: int, seed: int) -> Components:
        """Return the module for scaled rows (n, ...)."""
        x = rows.flatten(1).nan_to_num(0.0).numpy()
        pca, deviations = _principal(x, n_components, seed)
        return Components(pca.mean_, pca.components_[: len(deviations)].T / deviations)


class KernelComponents(BaseEstimator):
    r"""The first d principal components of a Gaussian kernel of the scaled columns.

    .. math:: k(x, x') = e^{-0.3 |u - u'|^2 / v}, \qquad u_i = c_i / \operatorname{var}(c_i)^{1/4}

    with c the principal components of the scaled columns, v the sum of the variances of u, and the
    kernel by 256 rows. A linear model of them knows rings and clusters, too. Where d is not less
    than the number of columns, the principal components themselves, which leave nothing out.
    Sources: B. Schoelkopf, A. Smola, K.-R. Mueller, "Nonlinear Component Analysis as a Kernel
    Eigenvalue Problem", Neural Computation 10 (1998), section 3; C. Williams, M. Seeger, "Using the
    Nystroem Method to Speed Up Kernel Machines", NIPS 2000.
    """

    def build(self, rows: torch.Tensor, n_components: int, seed: int) -> Components:
        """Return the module for scaled rows (n, ...)."""
        x = rows.flatten(1).nan_to_num(0.0).numpy()
        # Of so few columns as many components of a kernel leave some out: outliers of ADBench's
        # Wilt had an area under the ROC curve of 0.52 (benchmarks/frontier.py --outliers).
        if n_components >= x.shape[1]:
            return PrincipalComponents().build(rows, n_components, seed)
        first, deviations = _principal(x, KERNEL_COLUMNS, seed)
        divisors = np.maximum(deviations, deviations[0] * 1e-3**0.5) ** (2 * POWER)
        axes = first.components_[: len(deviations)].T / divisors
        u = (x - first.mean_) @ axes
        u_scale = np.sqrt(2 * WIDTH / max(u.var(0).sum(), 1e-12))
        axes, u = axes * u_scale, u * u_scale
        nystroem = Nystroem(gamma=0.5, n_components=min(LANDMARKS, len(u)), random_state=seed)
        # Frames that a user has asked scikit-learn for are not for us.
        nystroem.set_output(transform="default").fit(u)
        second, deviations = _principal(nystroem.transform(u), n_components, seed)
        weights = second.components_[: len(deviations)].T / deviations
        # Nystroem multiplies the kernel by a matrix; the two products are one.
        weights = nystroem.normalization_.T @ weights
        mean = rbf_kernel(u, nystroem.components_, gamma=0.5).mean(0)
        return Components(first.mean_, axes, nystroem.components_, mean, weights)


def _principal(x: np.ndarray, most: int, seed: int) -> tuple[PCA, np.ndarray]:
    """Return the components of rows that are more than rounding, and their deviations."""
    with np.errstate(invalid="ignore"):  # shares of no variance at all
        pca = PCA(min(most, *x.shape), random_state=seed).fit(x)
    variances = pca.explained_variance_
    kept = int((variances > LEAST_VARIANCE * max(variances[0], LEAST_VARIANCE)).sum())
    return pca, np.sqrt(np.maximum(variances[: max(1, kept)], LEAST_VARIANCE**2))


KEPT: Mapping[str, type] = {"kernel_pca": KernelComponents, "pca": PrincipalComponents}


def resolve_keep(keep: object) -> BaseEstimator | None:
    """Return the component that a name stands for, a scikit-learn transformer as it is, or None."""
    if keep is None:
        return None
    also = ["None", "a scikit-learn transformer"]  # which has `transform`
    return resolve(keep, KEPT, "keep", method="transform", also=also)


class References:
    """What a linear model should predict of rows: what is kept of them, and y if `labelled`.

    It is fitted to the rows of training. `weights` are those of the blocks of features.
    """

    def __init__(self, settings: SimpleNamespace, rows: Any, labelled: bool, seed: int) -> None:
        self.keep, self.labelled, self.d = settings.keep, labelled, settings.n_components
        self.module: nn.Module | None = None
        self.weights = (settings.supervision,) if labelled else ()
        if self.keep is None:
            return
        self.weights = (settings.keep_weight, *self.weights)
        most = max(LANDMARKS, min(FITTED_ROWS, FITTED_CELLS // max(1, rows.X.shape[1])))
        # By their weights, where they have any; in order, as files are read fastest.
        some = rows.draw(min(len(rows), most), make_generator(seed)).long().sort().values
        if hasattr(self.keep, "build"):
            sample = rows.take(some).cpu()
            module = self.keep.build(sample, settings.n_components, seed % 2**31)
            self.module = module.to(rows.device)
        else:
            # A copy: messages show what the user has passed, without our seed.
            self.fitted = clone(self.keep, safe=False)
            set_seeds(self.fitted, seed % 2**31)
            with naming("keep", self.keep):
                self.fitted.fit(rows.X[some.numpy()])

    def of(self, rows: Any) -> list[Reference]:
        """Return the reference features of rows, with their y, if it is known."""
        module, found = self.module, []
        if module is not None:
            found.append(lambda positions, x: module(x))
        elif self.keep is not None:
            starts = range(0, len(rows), FITTED_ROWS)
            parts = [np.arange(i, min(i + FITTED_ROWS, len(rows))) for i in starts]
            made = np.concatenate([self._transformed(rows, part) for part in parts])
            found.append(by_position(standardised(made), rows.device))
        if self.labelled:
            known = rows.targets is not None
            found.append(of_targets(rows.targets, rows.device) if known else unknown)
        return found

    def limits(self, rows: Any, scale: float, seed: int) -> tuple[float, ...]:
        """Return the nats that count at most of each block, with noise of this relative scale."""
        limits = [math.inf] * len(self.weights)
        n, p = len(rows), rows.X.shape[1]
        if self.labelled and rows.shape is None and n <= LIMITED_ROWS and n * p <= LIMITED_CELLS:
            # Once each: of a row that is drawn again, its copy would know y.
            order = rows.draw(n, make_generator(seed)).long().unique()
            y = of_targets(rows.targets, torch.device("cpu"))(order, order.float())
            known = ~y.isnan().any(1)
            x, y = rows.take(order[known]), y[known]
            if 16 * y.numel() <= LIMITED_CELLS:  # a column of y takes more time than one of rows
                limits[-1] = BEYOND_RIDGE * _ridge_information(x, y, self.d, scale, seed)
        return tuple(limits)

    def _transformed(self, rows: Any, positions: np.ndarray) -> np.ndarray:
        made = self.fitted.transform(rows.X[positions])
        made = np.asarray(made.toarray() if hasattr(made, "toarray") else made, np.float64)
        if made.ndim != 2 or len(made) != len(positions) or not np.isfinite(made).all():
            raise ValueError(
                f"keep={self.keep!r} has to make finite numbers (n, k) of {len(positions)} rows, "
                f"and made an array of shape {made.shape}, or NaN or infinity."
            )
        return made


def _ridge_information(x: torch.Tensor, y: torch.Tensor, d: int, scale: float, seed: int) -> float:
    """Return the nats about y (n, k) of a channel whose d components predict what is left out."""
    if len(y) < 2:
        return math.inf
    rows = x.cpu().flatten(1).nan_to_num(0.0).double().numpy()
    rows -= rows.mean(0)
    rows /= np.sqrt(np.square(rows).mean()) or 1.0
    u = y.double().numpy()
    u = u - u.mean(0)
    left = KernelRidge().fit(rows, u, np.random.default_rng(seed), CENTERS, WIDTHS)
    within, without = (v.T @ v / len(v) + RIDGE * np.eye(u.shape[1]) for v in (u, left))
    # Shares of the variance of the best predicted combinations of y: d components carry d of them.
    shares = np.clip(1 - eigh(without, within, eigvals_only=True), 0, 1)[:d]
    return float(-0.5 * np.log1p(-shares / (1 + scale**2)).sum())


def by_position(values: np.ndarray, device: torch.device) -> Reference:
    """Return the reference that looks values (n, k) up."""
    table = torch.from_numpy(values).to(device)
    return lambda positions, x: table[positions.to(table.device)]


def unknown(positions: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the reference features of rows of which nothing is known."""
    return torch.full((len(x), 1), torch.nan, dtype=torch.float32, device=x.device)


def of_targets(targets: np.ndarray, device: torch.device) -> Reference:
    """Return the reference features of y: its numbers (n, k), or one-hot codes of classes (n,).

    Of classes, those with two rows or more in the batch, which is all the linear information.
    """
    if targets.ndim == 2:
        return by_position(targets, device)
    codes = torch.from_numpy(targets.astype(np.int64))

    def one_hot(positions: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        classes, inverse, counts = codes[positions].unique(return_inverse=True, return_counts=True)
        told = (classes >= 0) & (counts > 1)
        features = nn.functional.one_hot(inverse, len(classes)).float()
        share = counts.float() / counts[classes >= 0].sum().clamp(min=1)
        features = features / (share * (1 - share)).clamp(min=1e-6).sqrt()
        features[~told[inverse]] = torch.nan
        return features[:, told].to(x.device) if told.any() else unknown(positions, x)

    return one_hot
