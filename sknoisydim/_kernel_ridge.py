"""Ridge regression on a kernel, with the residuals of samples that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from sklearn.metrics.pairwise import euclidean_distances

FloatArray = NDArray[np.float64]

# Samples that the kernel is centred at.
CENTERS = 2**10
# Widths of the kernel, relative to the root of the number of components, and penalties to try.
WIDTHS = (0.5, 1.0, 2.0, 4.0)
PENALTIES = 10.0 ** np.arange(-5, 3, 0.5)
# Least share that leaving a sample out leaves of its weight, so that its residual is finite.
LEAST_SHARE = 1e-6


class KernelRidge:
    r"""Ridge regression on a multiquadric and a linear kernel, tuned by leaving one out.

    .. math:: k(z, z') = (1 + |z - z'|^2 / (w^2 d))^{-1/2} + z^\top z' / d

    The first mixes Gaussian kernels of all widths, since what is predicted is not equally smooth
    everywhere, centred at `n_centers` of the samples at most (Williams, Seeger, "Using the Nystroem
    Method to Speed Up Kernel Machines", NIPS 2000). Width w and penalty have the smallest squared
    leave-one-out residuals, by the hat matrix. One penalty for all targets: a linear relation that
    holds among them holds among what is predicted.
    """

    kernel = "gaussian"  # of files that were saved when there was no other

    def __init__(self) -> None:
        self.kernel = "multiquadric"
        self.centers: FloatArray = np.empty((0, 0))
        self.weights: FloatArray = np.empty((0, 0))
        self.width = 1.0

    def fit(
        self,
        z: FloatArray,
        targets: FloatArray,
        rng: np.random.Generator,
        n_centers: int = CENTERS,
        widths: Sequence[float] = WIDTHS,
    ) -> FloatArray:
        """Return leave-one-out residuals (n, p) of a fit to (n, d) and centred targets (n, p)."""
        self.centers = z[np.sort(rng.permutation(len(z))[:n_centers])]
        best, found = np.inf, targets
        among, across = self._squares(self.centers), self._squares(z)
        for width in widths:
            kernel = self._kernel(self.centers, among, width)
            kernel[np.diag_indices_from(kernel)] += 1e-6 * kernel.diagonal().max()
            root = np.linalg.cholesky(kernel)
            features = solve_triangular(root, self._kernel(z, across, width).T, lower=True).T
            values, axes = np.linalg.eigh(features.T @ features)
            values, turned = np.maximum(values, 0), features @ axes
            moments, squares = turned.T @ targets, turned**2
            for penalty in PENALTIES:
                shrink = 1 / (values + penalty)
                left = np.maximum(1 - squares @ shrink, LEAST_SHARE)
                residuals = (targets - turned @ (shrink[:, None] * moments)) / left[:, None]
                error = np.square(residuals).mean()
                if error < best:
                    best, found, self.width = error, residuals, width
                    weights = axes @ (shrink[:, None] * moments)
                    self.weights = solve_triangular(root, weights, lower=True, trans="T")
        return found

    def predict(self, z: FloatArray) -> Any:
        """Return predicted targets (n, p)."""
        return self._kernel(z, self._squares(z), self.width) @ self.weights

    def _squares(self, z: FloatArray) -> Any:
        return euclidean_distances(z, self.centers, squared=True)

    def _kernel(self, z: FloatArray, squares: FloatArray, width: float) -> Any:
        d = z.shape[1]
        squares = squares / (width**2 * d)
        near = np.exp(-squares / 2) if self.kernel == "gaussian" else 1 / np.sqrt(1 + squares)
        return near + z @ self.centers.T / d
