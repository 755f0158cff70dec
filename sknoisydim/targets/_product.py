"""The two targets with a name: independent normal and independent uniform components."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from .._context import own_context
from .._normal import normal_logpdf
from ._base import TINY, FloatArray, Target, check_vector

LARGEST = float(np.finfo(np.float64).max)


class Normal(Target):
    r"""Independent standard normal components: :math:`N(0, I_d)`.

    The map is the identity, :math:`T(z) = z`, and the log density of a row :math:`x` is
    :math:`-\frac{1}{2}\sum_i x_i^2 - \frac{d}{2}\log(2\pi)` nats.

    Attributes
    ----------
    n_components_ : int
        Number of components :math:`d`, set by :meth:`bind` on the copy it returns.

    See Also
    --------
    sknoisydim.targets.MultivariateNormal : Any mean and covariance.

    References
    ----------
    .. [1] I. Butakov et al., "Efficient Distribution Matching of Representations via
       Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993.

    Examples
    --------
    >>> from sknoisydim.targets import Normal
    >>> target = Normal().bind(2)
    >>> target.push([[0.5, -1.0]])
    array([[ 0.5, -1. ]])
    >>> target.logpdf([[0.0, 0.0]])
    array([-1.83787707])
    """

    @property
    def _iid(self) -> bool:
        return True

    def _push(self, z: FloatArray) -> FloatArray:
        return z

    def _pull(self, x: FloatArray) -> FloatArray:
        return np.clip(x, -LARGEST, LARGEST, out=x)

    def _logpdf(self, x: FloatArray) -> FloatArray:
        return normal_logpdf(x)


class Uniform(Target):
    r"""Independent uniform components: :math:`U[a, b]^d`.

    .. math:: T(z)_i = a_i + (b_i - a_i)\,\Phi(z_i)

    where :math:`a` is `low`, :math:`b` is `high` and :math:`\Phi` is the distribution function
    of N(0, 1). The log density inside the box is :math:`-\sum_i \log(b_i - a_i)` nats.

    Parameters
    ----------
    low : float or array-like of shape (n_components,), default=0.0
        Lower edge of the box, the same for all components or one each.
    high : float or array-like of shape (n_components,), default=1.0
        Upper edge, above `low`.

    Attributes
    ----------
    n_components_ : int
        Number of components :math:`d`, set by :meth:`bind` on the copy it returns.
    low_, high_ : ndarray of shape () or (n_components,)
        The edges as float64 arrays.

    Raises
    ------
    ValueError
        By :meth:`bind`, if `low` is not below `high`, or not one number per component.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : Uniform marginals without a network; what is
        `output_distribution` there is `target` here.

    Notes
    -----
    The image is the closed box: the float64 nearest to :math:`\Phi(z)` is 1 for z > 8.3.
    :meth:`pull` maps an edge to the outermost component that still rounds to it.

    References
    ----------
    .. [1] I. Butakov et al., "Efficient Distribution Matching of Representations via
       Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993.

    Examples
    --------
    >>> from sknoisydim.targets import Uniform
    >>> target = Uniform(low=-1.0, high=1.0).bind(2)
    >>> target.push([[0.0, 1.0]])
    array([[0.        , 0.68268949]])
    >>> target.logpdf([[0.0, 0.5], [0.0, 1.5]])
    array([-1.38629436,        -inf])
    """

    def __init__(self, low: ArrayLike = 0.0, high: ArrayLike = 1.0) -> None:
        self.low = low
        self.high = high

    @property
    def _iid(self) -> bool:
        return np.ndim(self.low) == 0 and np.ndim(self.high) == 0

    def _bind(self, n_components: int) -> None:
        self.low_ = check_vector(self.low, "low", n_components)
        self.high_ = check_vector(self.high, "high", n_components)
        if not (self.low_ < self.high_).all():
            raise ValueError(f"low must be below high, got low={self.low!r}, high={self.high!r}.")
        with np.errstate(over="ignore"):
            self._width = self.high_ - self.low_
        if not np.isfinite(self._width).all():
            raise ValueError(f"high - low overflows, got low={self.low!r}, high={self.high!r}.")
        sizes = np.abs([np.min(self._width), np.max(self._width), *np.ravel(self.low_)])
        self._in_single = bool(((sizes == 0) | ((sizes > 1e-30) & (sizes < 1e30))).all())

    def _push(self, z: FloatArray) -> FloatArray:
        # In place, and no pass more than needed: this runs on every row of transform.
        ndtr(z, out=z)
        if (self._width != 1.0).any():
            z *= self._width
        if (self.low_ != 0.0).any():
            z += self.low_
            np.minimum(z, self.high_, out=z)
        return z

    @own_context()
    def push_into(self, z: FloatArray, out: NDArray[np.floating]) -> None:
        """Map rows of N(0, I) to the box, into an array of float32 or float64."""
        if out.dtype != np.float32 or not self._in_single or not out.flags.c_contiguous:
            super().push_into(z, out)
            return
        import torch  # which a target alone does not load

        # What is rounded to float32 in the end may be computed there: as exact to some spacings
        # of floats, at a third of the price of ndtr. erfc keeps its digits where 1 + erf has none.
        halved = torch.from_numpy(z).to(torch.float32).mul_(-math.sqrt(0.5))
        torch.special.erfc(halved, out=torch.from_numpy(out))
        out *= np.asarray(0.5 * self._width, np.float32)
        if (self.low_ != 0.0).any():
            out += np.asarray(self.low_, np.float32)
        if (self.low_ != 0.0).any() or (self._width != 1.0).any():
            np.minimum(out, np.asarray(self.high_, np.float32), out=out)

    def _pull(self, x: FloatArray) -> FloatArray:
        # Half a spacing of floats at an edge is the probability that rounds to that edge.
        at_low = np.maximum(0.5 * np.spacing(np.abs(self.low_)) / self._width, TINY)
        at_high = np.maximum(0.5 * np.spacing(np.abs(self.high_)) / self._width, TINY)
        with np.errstate(over="ignore"):
            below, above = (x - self.low_) / self._width, (self.high_ - x) / self._width
        return np.where(
            below <= 0.5,
            ndtri(np.clip(below, np.minimum(at_low, 0.5), 0.5)),
            -ndtri(np.clip(above, np.minimum(at_high, 0.5), 0.5)),
        )

    def _logpdf(self, x: FloatArray) -> FloatArray:
        inside = ((x >= self.low_) & (x <= self.high_)).all(axis=1)
        log_density = -np.log(np.broadcast_to(self._width, x.shape[1:])).sum()
        values: FloatArray = np.where(inside, log_density, -np.inf)
        values[np.isnan(x).any(axis=1)] = np.nan
        return values
