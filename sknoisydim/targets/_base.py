"""What every target shares: binding to a number of components, checks of rows, sampling."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state

from .._context import own_context
from .._validation import check_integer

FloatArray = NDArray[np.float64]
SomeTarget = TypeVar("SomeTarget", bound="Target")

TINY = float(np.finfo(np.float64).tiny)
EPS = float(np.finfo(np.float64).eps)

# Beyond it (37.5) the tail probability of N(0, 1) loses its digits, and soon is 0.
Z_MAX = -float(ndtri(TINY))


class Target(BaseEstimator):
    r"""Base class of the distributions that embeddings can have.

    A target is the distribution of :math:`T(Z)`, where :math:`Z \sim N(0, I_d)` has as many
    components :math:`d` as the embedding, and :math:`T` is an invertible map. A trained
    encoder gives rows close to :math:`N(0, I_d)`, and :math:`T` (:meth:`push`) turns them into
    the target without losing information. A new target is a subclass with the hooks ``_bind``
    (optional), ``_push``, ``_pull`` and ``_logpdf``, which receive checked rows of their own.

    Attributes
    ----------
    n_components_ : int
        Number of components :math:`d`; only :meth:`bind` sets it, on the copy it returns.

    See Also
    --------
    sknoisydim.targets.resolve_target : From a name or a scipy.stats distribution to a target.

    References
    ----------
    .. [1] I. Butakov et al., "Efficient Distribution Matching of Representations via
       Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993.
    """

    @own_context()
    def bind(self: SomeTarget, n_components: int) -> SomeTarget:
        """Return a copy for embeddings with `n_components` components.

        Parameters
        ----------
        n_components : int
            Number of components, at least 1.

        Returns
        -------
        target : Target
            A copy that can push, pull, sample and give densities. The target itself does
            not change.

        Raises
        ------
        TypeError
            If `n_components` or a parameter has the wrong type.
        ValueError
            If a parameter has an invalid value, or if the parameters are made for another
            number of components.
        """
        n_components = check_integer(n_components, "n_components", minimum=1)
        bound: SomeTarget = clone(self)
        bound.n_components_ = n_components
        bound._bind(n_components)
        return bound

    @own_context()
    def push(self, z: ArrayLike) -> FloatArray:
        """Map rows of N(0, I) to the target.

        Parameters
        ----------
        z : array-like of shape (n_samples, n_components)
            Rows of N(0, I), as the encoder gives them.

        Returns
        -------
        x : ndarray of shape (n_samples, n_components), dtype float64
            Rows of the target, finite wherever `z` is; NaN stays NaN.

        Raises
        ------
        NotFittedError
            If :meth:`bind` did not make this target.
        TypeError
            If `z` does not hold real numbers.
        ValueError
            If `z` has the wrong shape.
        """
        return self._push(self._rows(z, "z"))

    @own_context()
    def push_into(self, z: FloatArray, out: NDArray[np.floating]) -> None:
        """Map rows of N(0, I) to the target, into an array of float32 or float64.

        What `out` cannot hold becomes its outermost finite number; `z` may be overwritten.
        """
        limit = np.finfo(out.dtype).max
        np.clip(self._push(z), -limit, limit, out=out)

    @own_context()
    def pull(self, x: ArrayLike) -> FloatArray:
        """Map rows of the target to rows of N(0, I): the inverse of :meth:`push`.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_components)
            Rows of the target.

        Returns
        -------
        z : ndarray of shape (n_samples, n_components), dtype float64
            Rows of N(0, I). At an edge of the support and beyond it they are the finite ones
            nearest to that edge; NaN stays NaN.

        Raises
        ------
        NotFittedError
            If :meth:`bind` did not make this target.
        TypeError
            If `x` does not hold real numbers.
        ValueError
            If `x` has the wrong shape.
        """
        return self._pull(self._rows(x, "x"))

    @own_context()
    def sample(
        self, n_samples: int, random_state: int | np.random.RandomState | None = None
    ) -> FloatArray:
        """Draw rows of the target.

        They are pushed normal draws, so the same `random_state` gives coupled samples of
        different targets.

        Parameters
        ----------
        n_samples : int
            Number of rows, at least 1.
        random_state : int, RandomState instance or None, default=None
            Pass an int for the same rows in every call.

        Returns
        -------
        x : ndarray of shape (n_samples, n_components), dtype float64

        Raises
        ------
        NotFittedError
            If :meth:`bind` did not make this target.
        """
        n_components = self._bound_n_components()
        n_samples = check_integer(n_samples, "n_samples", minimum=1)
        rng = check_random_state(random_state)
        return self._push(rng.standard_normal((n_samples, n_components)))

    @own_context()
    def logpdf(self, x: ArrayLike) -> FloatArray:
        """Log density of each row under the target.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_components)
            Rows, of any distribution.

        Returns
        -------
        logpdf : ndarray of shape (n_samples,), dtype float64
            Joint log density of all components, in nats; -inf outside the support.

        Raises
        ------
        NotFittedError
            If :meth:`bind` did not make this target.
        TypeError
            If `x` does not hold real numbers.
        ValueError
            If `x` has the wrong shape.
        """
        return self._logpdf(self._rows(x, "x"))

    @property
    def _iid(self) -> bool:
        """Whether the components are independent and alike, so that one object serves any d."""
        return False

    def _bind(self, n_components: int) -> None:
        """Check the parameters against `n_components` and precompute, on the copy."""

    def _push(self, z: FloatArray) -> FloatArray:
        raise NotImplementedError

    def _pull(self, x: FloatArray) -> FloatArray:
        raise NotImplementedError

    def _logpdf(self, x: FloatArray) -> FloatArray:
        raise NotImplementedError

    def _bound_n_components(self) -> int:
        try:
            n_components: int = self.n_components_
        except AttributeError:
            name = type(self).__name__
            raise NotFittedError(
                f"This {name} has no number of components yet: call bind(n_components) and use "
                "the target that it returns."
            ) from None
        return n_components

    def _rows(self, values: ArrayLike, name: str) -> FloatArray:
        """Return a float64 copy of `values`, so that the hooks may work in place."""
        n_components = self._bound_n_components()
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise TypeError(
                f"{name} must be an array of real numbers, got {type(values).__name__} with "
                f"dtype {array.dtype}."
            )
        if array.ndim != 2:
            raise ValueError(
                f"{name} must have the shape (n_samples, {n_components}), got {array.shape}. "
                f"Reshape one row by {name}.reshape(1, -1), one component by "
                f"{name}.reshape(-1, 1)."
            )
        if array.shape[1] != n_components:
            raise ValueError(
                f"{name} has {array.shape[1]} components, but this {type(self).__name__} was "
                f"bound to {n_components}."
            )
        return np.array(array, dtype=np.float64, order="C")


def check_vector(value: Any, name: str, n_components: int) -> FloatArray:
    """Return a scalar or one number per component as a float64 array of its own.

    Raises
    ------
    TypeError
        If `value` does not hold real numbers.
    ValueError
        If it holds infinity or NaN, or not one number per component.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be a number or one per component, got {value!r}.")
    if array.ndim > 1 or (array.ndim == 1 and array.size != n_components):
        raise ValueError(
            f"{name} has shape {array.shape}, but n_components={n_components}: it must be a "
            "number or one per component."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {value!r}.")
    return np.array(array, dtype=np.float64)
