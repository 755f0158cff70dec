"""What every target shares, and the two with a name: normal and uniform components."""

import math
import sys
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array, check_random_state

from sknoisydim._context import own_context
from sknoisydim._normal import normal_logpdf
from sknoisydim._validation import check_integer

FloatArray = NDArray[np.float64]
RandomState = int | np.random.RandomState | None

TINY, EPS, LARGEST = sys.float_info.min, sys.float_info.epsilon, sys.float_info.max
# Beyond it (37.5) the tail probability of N(0, 1) loses its digits, and soon is 0.
Z_MAX = -float(ndtri(TINY))


class Target(BaseEstimator):
    r"""Base class of the distributions that embeddings can have.

    A target is the distribution of :math:`T(Z)`, where :math:`Z \sim N(0, I_d)` has as many
    components :math:`d` as the embedding, and :math:`T` (:meth:`push`) is an invertible map, which
    loses no information (Butakov et al., arXiv:2410.06993). What the methods return is float64. A
    new target is a subclass with the hooks ``_bind`` (optional), ``_push``, ``_pull`` and
    ``_logpdf``, which receive checked rows of their own.

    Raises
    ------
    TypeError, ValueError
        By :meth:`bind`, if a parameter is not valid, or made for another number of components; by
        the other methods, if rows are no real numbers, or have another shape.
    NotFittedError
        By the other methods, before :meth:`bind`.
    """

    # Whether `_push` takes rows of float32 as well as those of float64.
    _in_single = False

    @own_context()
    def bind(self, n_components: int) -> Self:
        """Return a copy with `n_components_`, which can push, pull, sample and give densities.

        Parameters
        ----------
        n_components : int
            Number d of components of the embedding, at least 1.

        Returns
        -------
        bound : Target
        """
        n_components = check_integer(n_components, "n_components", minimum=1)
        bound: Self = clone(self)
        bound.n_components_ = n_components
        bound._bind(n_components)
        return bound

    @own_context()
    def push(self, z: ArrayLike) -> FloatArray:
        """Map rows of N(0, I) to the target.

        Parameters
        ----------
        z : array-like of shape (n_samples, n_components)
            Rows of N(0, I).

        Returns
        -------
        x : ndarray of shape (n_samples, n_components)
            Finite wherever `z` is; NaN stays NaN.
        """
        return self._push(self._rows(z, "z"))

    @own_context()
    def pull(self, x: ArrayLike) -> FloatArray:
        """Map rows of the target to rows of N(0, I): the inverse of :meth:`push`.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_components)
            Rows of the target.

        Returns
        -------
        z : ndarray of shape (n_samples, n_components)
            Of a row beyond the support, the finite one nearest to its edge; NaN stays NaN.
        """
        return self._pull(self._rows(x, "x"))

    @own_context()
    def sample(self, n_samples: int, random_state: RandomState = None) -> FloatArray:
        """Draw rows of the target: pushed normal draws.

        Parameters
        ----------
        n_samples : int
            How many, at least 1.
        random_state : int, RandomState instance or None, default=None
            The same int gives coupled samples of different targets.

        Returns
        -------
        x : ndarray of shape (n_samples, n_components)
        """
        shape = check_integer(n_samples, "n_samples", minimum=1), self._bound_n_components()
        return self._push(check_random_state(random_state).standard_normal(shape))

    @own_context()
    def logpdf(self, x: ArrayLike) -> FloatArray:
        """Return the joint log density of each row, in nats; -inf outside the support.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_components)
            Rows of the target.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
        """
        return self._logpdf(self._rows(x, "x"))

    def _bind(self, n_components: int) -> None:
        """Check the parameters against `n_components` and precompute, on the copy."""

    def _push(self, rows: FloatArray) -> FloatArray:
        raise NotImplementedError  # each subclass has its own

    _pull = _logpdf = _push

    def _bound_n_components(self) -> int:
        if not hasattr(self, "n_components_"):
            raise NotFittedError(
                f"This {type(self).__name__} has no number of components yet: call "
                "bind(n_components) and use the target that it returns."
            )
        return self.n_components_

    def _rows(self, values: ArrayLike, name: str) -> FloatArray:
        """Return a float64 copy of `values`, so that the hooks may work in place."""
        n_components = self._bound_n_components()
        options: Any = {"ensure_all_finite": False, "ensure_min_samples": 0, "input_name": name}
        rows: FloatArray = check_array(values, dtype=np.float64, order="C", copy=True, **options)
        if rows.shape[1] != n_components:
            raise ValueError(
                f"{name} has {rows.shape[1]} components, but this {type(self).__name__} was bound "
                f"to {n_components}."
            )
        return rows


def check_vector(value: object, name: str, n_components: int) -> FloatArray:
    """Return one number per component as a float64 array of its own."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be a number or one per component, got {value!r}.")
    if array.shape not in ((), (n_components,)):
        raise ValueError(
            f"{name} has shape {array.shape}, but n_components={n_components}: it must be a number "
            "or one per component."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {value!r}.")
    return np.full(n_components, array, dtype=np.float64)


class Normal(Target):
    r"""Independent standard normal components: :math:`N(0, I_d)`.

    The map is the identity, :math:`T(z) = z`, and the log density of a row :math:`x` is
    :math:`-\frac{1}{2}\sum_i x_i^2 - \frac{d}{2}\log(2\pi)` nats.

    Examples
    --------
    >>> from sknoisydim.targets import Normal
    >>> target = Normal().bind(2)
    >>> target.push([[0.5, -1.0]])
    array([[ 0.5, -1. ]])
    >>> target.logpdf([[0.0, 0.0]])
    array([-1.83787707])
    """

    _in_single = True

    def _push(self, z: FloatArray) -> FloatArray:
        return z

    def _pull(self, x: FloatArray) -> FloatArray:
        return np.clip(x, -LARGEST, LARGEST, out=x)

    def _logpdf(self, x: FloatArray) -> FloatArray:
        return normal_logpdf(x)


class Uniform(Target):
    r"""Independent uniform components: :math:`U[a, b]^d`.

    .. math:: T(z)_i = a_i + (b_i - a_i)\,\Phi(z_i)

    with :math:`a` for `low`, :math:`b` for `high` and :math:`\Phi` the distribution function of
    N(0, 1). The log density inside the box is :math:`-\sum_i \log(b_i - a_i)` nats. :meth:`pull`
    maps an edge to the outermost component that still rounds to it, such as 8.3.

    Parameters
    ----------
    low : float or array-like of shape (n_components,), default=0.0
        Lower edge of the box, the same for all components or one each.
    high : float or array-like of shape (n_components,), default=1.0
        Upper edge, above `low`.

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

    def _bind(self, n_components: int) -> None:
        self.low_ = check_vector(self.low, "low", n_components)
        self.high_ = check_vector(self.high, "high", n_components)
        with np.errstate(over="ignore"):
            self._width = self.high_ - self.low_
        if not ((self._width > 0) & np.isfinite(self._width)).all():
            raise ValueError(
                "low must be below high, by what a float64 holds, got "
                f"low={self.low!r}, high={self.high!r}."
            )
        self._in_single = bool(max(np.abs([self.low_, self.high_]).max(), self._width.max()) < 1e30)

    def _push(self, z: FloatArray) -> FloatArray:
        import torch  # which a target alone does not load

        # A third of the price of ndtr; erfc keeps its digits where 1 + erf has none.
        x: FloatArray = torch.from_numpy(z).mul(-math.sqrt(0.5)).erfc_().numpy()
        x *= (0.5 * self._width).astype(z.dtype)
        x += self.low_.astype(z.dtype)
        return np.minimum(x, self.high_.astype(z.dtype), out=x)

    def _pull(self, x: FloatArray) -> FloatArray:
        # Half a spacing of floats at an edge is the probability that rounds to that edge.
        edges = 0.5 * np.spacing(np.abs([self.low_, self.high_])) / self._width
        at_low, at_high = np.clip(edges, TINY, 0.5)
        with np.errstate(over="ignore"):
            below, above = (x - self.low_) / self._width, (self.high_ - x) / self._width
        low, high = ndtri(np.clip(below, at_low, 0.5)), -ndtri(np.clip(above, at_high, 0.5))
        return np.where(below <= 0.5, low, high)

    def _logpdf(self, x: FloatArray) -> FloatArray:
        inside = ((x >= self.low_) & (x <= self.high_)).all(axis=1)
        log_density = -np.log(self._width).sum()
        return np.where(np.isnan(x).any(1), np.nan, np.where(inside, log_density, -np.inf))
