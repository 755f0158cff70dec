"""Normalisation of the encoder's output: batch statistics in training, exact ones afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from sklearn.base import BaseEstimator
from torch import nn

from sknoisydim._context import own_context, own_forward
from sknoisydim._validation import check_real, resolve

__all__ = ["BatchNormalization", "Normalizer", "Whitening"]

# Variances below it count as none: the matrix is kept in float32, where its inverse must be finite.
SMALLEST = torch.finfo(torch.float32).tiny


class Normalizer(nn.Module):
    """Map x (n, d) to (x - mean) @ matrix.T.

    In training, mean and matrix come from the batch, and gradients flow through them; in
    evaluation, from `set_statistics`. Running averages over views would not describe clean rows.

    Parameters
    ----------
    n_components : int
        Number d of components.
    ridge : float
        Is added to the diagonal of the covariance, relative to the mean variance.
    """

    #: Whether a rotation of normalised rows leaves them normalised.
    isotropic = False
    #: Standard deviation of a normalised component.
    deviation = 1.0

    def __init__(self, n_components: int, ridge: float) -> None:
        super().__init__()
        self.ridge = ridge
        self.mean = nn.Buffer(torch.zeros(n_components, dtype=torch.float32))
        self.matrix = nn.Buffer(torch.eye(n_components, dtype=torch.float32))

    def set_target_std(self, deviation: float) -> None:
        """Normalise to another standard deviation, for a channel that has axes of its own.

        Parameters
        ----------
        deviation : float
            That of each component.
        """
        self.deviation = deviation

    def set_statistics(self, mean: torch.Tensor, covariance: torch.Tensor) -> None:
        """Set the statistics of evaluation.

        Parameters
        ----------
        mean, covariance : Tensor of shape (d,), Tensor of shape (d, d)
            Of the encoder's outputs, in float64.
        """
        self.mean.copy_(mean)
        self.matrix.copy_(self.deviation * self._from_covariance(covariance))

    def _from_covariance(self, covariance: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError  # each subclass has its own

    @own_forward
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return (x - self.mean) @ self.matrix.T
        z = self._normalize_batch(x - x.mean(0))
        return z if self.deviation == 1 else self.deviation * z

    def _normalize_batch(self, centred: torch.Tensor) -> torch.Tensor:
        """Normalise centred rows (n, d) by their own covariance."""
        covariance = centred.T @ centred / len(centred)
        return centred @ self._from_covariance(covariance).T

    def _level(self, variances: torch.Tensor) -> torch.Tensor:
        """Return what is added to these variances (d,): `ridge` times their mean."""
        mean = variances.mean()
        # A batch of equal rows has no variance: any positive number maps it to zero.
        return torch.where(mean > SMALLEST, mean * self.ridge, 1.0)


class _Whitener(Normalizer):
    isotropic = True

    def _from_covariance(self, covariance: torch.Tensor) -> torch.Tensor:
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        covariance = covariance + self._level(covariance.diagonal()) * eye
        if covariance.is_cpu:
            factor = torch.linalg.cholesky(covariance)
        else:
            # To raise, every step would wait for the device; NaN says it at the end of the epoch.
            factor, failed = torch.linalg.cholesky_ex(covariance)
            factor = torch.where(failed == 0, factor, math.nan)
        return torch.linalg.solve_triangular(factor, eye, upper=False)


class _PerComponent(Normalizer):
    def _from_covariance(self, covariance: torch.Tensor) -> torch.Tensor:
        return torch.diag_embed(self._scales(covariance.diagonal()))

    def _normalize_batch(self, centred: torch.Tensor) -> torch.Tensor:
        return centred * self._scales(centred.square().mean(0))

    def _scales(self, variances: torch.Tensor) -> torch.Tensor:
        return torch.rsqrt(variances + self._level(variances))


class _Normalization(BaseEstimator):
    module: type[Normalizer]

    def __init__(self, ridge: float = 1e-4) -> None:
        self.ridge = ridge

    @own_context()
    def build(self, n_components: int) -> Normalizer:
        """Return the module.

        Parameters
        ----------
        n_components : int
            Number d of components.

        Returns
        -------
        normalizer : Normalizer
            Outputs (n, d) of the encoder -> embeddings (n, d).

        Raises
        ------
        TypeError, ValueError
            If `ridge` is no finite number above 0.
        """
        ridge = check_real(self.ridge, "normalization ridge", minimum=0, closed="neither")
        return self.module(n_components, ridge)


class Whitening(_Normalization):
    r"""Zero mean and identity covariance, by the Cholesky factor of the batch's covariance.

    .. math:: z = L^{-1} (x - \mu), \qquad L L^\top = \Sigma + \rho \bar\sigma^2 I

    Parameters
    ----------
    ridge : float, default=1e-4
        :math:`\rho`, relative to the mean variance :math:`\bar\sigma^2` of the components.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.normalization import Whitening
    >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).cumsum(1)
    >>> torch.allclose(Whitening().build(3)(x).T.cov(correction=0), torch.eye(3), atol=1e-3)
    True
    """

    module = _Whitener


class BatchNormalization(_Normalization):
    r"""Zero mean and unit variance of each component by itself.

    .. math:: z_i = (x_i - \mu_i) / \sqrt{\sigma_i^2 + \rho \bar\sigma^2}

    Parameters
    ----------
    ridge : float, default=1e-4
        :math:`\rho`, relative to the mean variance :math:`\bar\sigma^2` of the components.
    """

    module = _PerComponent


NORMALIZATIONS: Mapping[str, type] = {"whiten": Whitening, "batch": BatchNormalization}


def resolve_normalization(normalization: object) -> BaseEstimator:
    """Return the component that a value of the parameter `normalization` stands for."""
    return resolve(normalization, NORMALIZATIONS, "normalization")
