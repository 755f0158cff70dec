"""Joint distributions: normal, in a ball or a shell, and any map of the user's."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular
from scipy.special import gammainc, gammainccinv, gammaincinv, gammaln
from sklearn.utils import check_array

from sknoisydim._normal import normal_logpdf
from sknoisydim._validation import check_real
from sknoisydim.targets._base import EPS, Z_MAX, FloatArray, Target, check_vector

# A linear map and a square of numbers up to here do not overflow.
HUGE = 1e150

Map = Callable[[FloatArray], ArrayLike]


class MultivariateNormal(Target):
    r"""A normal distribution with any mean and covariance: :math:`N(\mu, \Sigma)`.

    .. math:: T(z) = \mu + L z, \qquad \Sigma = L L^\top

    with :math:`\mu` for `mean`, :math:`\Sigma` for `cov` and its Cholesky factor :math:`L`, the
    attribute `factor_`. The log density of a row :math:`x` is
    :math:`\log n(L^{-1}(x - \mu)) - \sum_i \log L_{ii}` nats, where :math:`n` is that of N(0, I).

    Parameters
    ----------
    mean : float or array-like of shape (n_components,)
        The mean; a number stands for the same in each component.
    cov : array-like of shape (n_components, n_components)
        The covariance, symmetric and positive definite.

    Examples
    --------
    >>> from sknoisydim.targets import MultivariateNormal
    >>> MultivariateNormal([1.0, 0.0], cov=[[4.0, 2.0], [2.0, 2.0]]).bind(2).push([[1.0, 1.0]])
    array([[3., 2.]])
    """

    def __init__(self, mean: ArrayLike, cov: ArrayLike) -> None:
        self.mean = mean
        self.cov = cov

    def _bind(self, n_components: int) -> None:
        self.mean_ = check_vector(self.mean, "mean", n_components)
        cov = check_array(self.cov, dtype=np.float64, input_name="cov")
        if cov.shape != (n_components, n_components):
            raise ValueError(f"cov must have {n_components} rows and columns, got {cov.shape}.")
        if np.abs(cov - cov.T).max() > 1e-8 * np.abs(cov).max():
            raise ValueError("cov must be symmetric, but it differs from its transpose.")
        try:
            self.factor_ = np.linalg.cholesky(cov)
        except np.linalg.LinAlgError:
            raise ValueError(
                f"cov must be positive definite: an eigenvalue is {np.linalg.eigvalsh(cov)[0]:.3g}."
            ) from None

    def _push(self, z: FloatArray) -> FloatArray:
        # Not a BLAS product, whose rounding depends on the number of rows.
        return self.mean_ + np.einsum("ij,kj->ik", np.clip(z, -HUGE, HUGE), self.factor_)

    def _pull(self, x: FloatArray) -> FloatArray:
        centred = np.clip(x - self.mean_, -HUGE, HUGE).T
        z = solve_triangular(self.factor_, centred, lower=True, check_finite=False)
        return np.ascontiguousarray(z.T)

    def _logpdf(self, x: FloatArray) -> FloatArray:
        return normal_logpdf(self._pull(x)) - float(np.log(np.diag(self.factor_)).sum())


class PushForward(Target):
    r"""The distribution of a user's map of N(0, I), such as a normalizing flow.

    :math:`T` is `forward`. The log density of a row :math:`x` is
    :math:`\log n(z) - \log|\det J_T(z)|` nats, where :math:`z = T^{-1}(x)`, :math:`n` is the
    density of N(0, I) and :math:`J_T` is the Jacobian matrix of :math:`T`.

    Parameters
    ----------
    forward : callable
        :math:`T`, on arrays of shape (n_samples, n_components), each row by itself.
    inverse : callable or None, default=None
        :math:`T^{-1}`, of the same shape. :meth:`pull` and :meth:`logpdf` need it.
    log_abs_det_jacobian : callable or None, default=None
        :math:`\log|\det J_T|` at **z** (n_samples,), in nats. :meth:`logpdf` needs it.

    Raises
    ------
    TypeError, ValueError
        By :meth:`bind`, if a parameter cannot be called, or `forward` fails or changes the shape;
        by the other methods, if the function that they need is missing or gives another shape; by
        :meth:`push`, if `forward` gives infinity or NaN for finite rows.

    Notes
    -----
    :meth:`push` clips `z` to [-37.5, 37.5], so that a map such as exp stays finite. Rows for which
    `inverse` gives infinity or NaN are outside the support: their log density is -inf, and
    :meth:`pull` clips infinity to that range and leaves NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.targets import PushForward
    >>> lognormal = PushForward(np.exp, inverse=np.log, log_abs_det_jacobian=lambda z: z.sum(1))
    >>> target = lognormal.bind(2)
    >>> target.push([[0.0, 1.0]])
    array([[1.        , 2.71828183]])
    >>> target.logpdf([[1.0, 1.0]])
    array([-1.83787707])
    """

    def __init__(
        self, forward: Map, inverse: Map | None = None, *, log_abs_det_jacobian: Map | None = None
    ) -> None:
        self.forward = forward
        self.inverse = inverse
        self.log_abs_det_jacobian = log_abs_det_jacobian

    def _bind(self, n_components: int) -> None:
        for name in ("forward", "inverse", "log_abs_det_jacobian"):
            function, or_none = getattr(self, name), " or None" * (name != "forward")
            if not callable(function) and not (or_none and function is None):
                raise TypeError(f"{name} must be callable{or_none}, got {function!r}.")
        try:
            self._apply("forward", np.zeros((2, n_components)), (2, n_components))
        except Exception as error:
            raise ValueError(
                f"forward failed on rows with n_components={n_components} numbers: {error}"
            ) from error

    def _push(self, z: FloatArray) -> FloatArray:
        known = ~np.isnan(z).any(axis=1)
        x = self._apply("forward", np.clip(z, -Z_MAX, Z_MAX), z.shape)
        if not np.isfinite(x[known]).all():
            raise ValueError("forward gave infinity or NaN for finite rows.")
        return x

    def _pull(self, x: FloatArray) -> FloatArray:
        return np.clip(self._apply("inverse", x, x.shape), -Z_MAX, Z_MAX)

    def _logpdf(self, x: FloatArray) -> FloatArray:
        known = ~np.isnan(x).any(axis=1)
        z = self._apply("inverse", x, x.shape)
        outside = known & ~np.isfinite(z).all(axis=1)
        z[outside] = 0.0
        # A copy, since the user's function may work in place.
        log_det = self._apply("log_abs_det_jacobian", z.copy(), z.shape[:1])
        return np.where(outside, -np.inf, normal_logpdf(z) - log_det)

    def _apply(self, name: str, rows: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        function = getattr(self, name)
        if function is None:
            raise ValueError(f"This PushForward was made without {name}, which is needed here.")
        # What numpy would warn of is in the result, and looked at there.
        with np.errstate(all="ignore"):
            image = np.asarray(function(rows))
        if image.dtype.kind not in "fiu":
            raise TypeError(f"{name} must return real numbers, got the dtype {image.dtype}.")
        if image.shape != shape:
            raise ValueError(f"{name} must return the shape {shape} here, got {image.shape}.")
        return image.astype(np.float64)


class SphericalShell(Target):
    r"""Uniform between two spheres: :math:`r \le \lVert x \rVert \le R` in d components.

    .. math:: T(z) = \frac{z}{\lVert z \rVert} \left(r^d + (R^d - r^d)\,
              F_d(\lVert z \rVert^2)\right)^{1/d}

    with :math:`r` for `inner`, :math:`R` for `outer` and :math:`F_d` the distribution function of
    the chi-squared distribution with d degrees of freedom. The log density inside is minus the log
    of the volume, :math:`-\log\frac{\pi^{d/2} (R^d - r^d)}{\Gamma(d/2 + 1)}` nats. A float has few
    digits left close to a sphere: :meth:`pull` gives a row back to 1e-6 while both tail
    probabilities of its :math:`\lVert z \rVert^2` are above 1e-9, as for all rows but one in 500
    million; of a thin shell :math:`\log_{10}(R / (R - r))` digits come off that.

    Parameters
    ----------
    inner, outer : float
        Inner radius, at least 0, and outer radius, above `inner`.

    Examples
    --------
    >>> from sknoisydim.targets import SphericalShell
    >>> SphericalShell(inner=1.0, outer=2.0).bind(2).push([[3.0, 4.0]])
    array([[1.19999832, 1.59999776]])
    """

    def __init__(self, inner: float, outer: float) -> None:
        self.inner = inner
        self.outer = outer

    def _radii(self) -> tuple[float, float]:
        outer = check_real(self.outer, "outer", minimum=0.0, closed="neither")
        inner = check_real(self.inner, "inner", minimum=0.0, maximum=outer, closed="left")
        return inner, outer

    def _bind(self, n_components: int) -> None:
        self._inner, self._outer = self._radii()
        # The hole's part of the ball, and the shell's, kept apart for the sake of thin shells.
        ratio = self._inner / self._outer
        log_ratio = math.log(ratio) if ratio > 0 else -math.inf
        self._hole = math.exp(n_components * log_ratio)
        self._shell = -math.expm1(n_components * log_ratio)

    def _push(self, z: FloatArray) -> FloatArray:
        direction, radius = _polar(z)
        part = self._hole + self._shell * gammainc(0.5 * self.n_components_, 0.5 * radius**2)
        radius = self._outer * part ** (1 / self.n_components_)
        return direction * np.clip(radius, self._inner, self._outer)[:, None]

    def _pull(self, x: FloatArray) -> FloatArray:
        direction, radius = _polar(x)
        half, least = 0.5 * self.n_components_, 0.5 * EPS
        part = np.minimum(radius / self._outer, 1.0) ** self.n_components_
        below = np.maximum((part - self._hole) / self._shell, least * (self._hole > 0))
        above = np.clip((1.0 - part) / self._shell, least, 1.0)
        t = np.where(below < 0.5, gammaincinv(half, below), gammainccinv(half, above))
        return direction * np.sqrt(2.0 * t)[:, None]

    def _logpdf(self, x: FloatArray) -> FloatArray:
        _, radius = _polar(x)
        d, half = self.n_components_, 0.5 * self.n_components_
        log_volume = half * math.log(math.pi) - float(gammaln(half + 1.0))
        log_volume = log_volume + d * math.log(self._outer) + math.log(self._shell)
        # The norm of a row that was pushed to the edge may round to the other side of it.
        inside = (radius >= self._inner * (1 - 8 * EPS)) & (radius <= self._outer * (1 + 8 * EPS))
        return np.where(np.isnan(radius), np.nan, np.where(inside, -log_volume, -np.inf))


class UniformBall(SphericalShell):
    """Uniform in a ball: the `SphericalShell` of inner radius 0 and outer radius `radius`.

    Parameters
    ----------
    radius : float, default=1.0
        Radius of the ball, above 0.

    Examples
    --------
    >>> from sknoisydim.targets import UniformBall
    >>> UniformBall(radius=2.0).bind(2).push([[0.6, 0.8]])
    array([[0.75272561, 1.00363415]])
    """

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = radius

    def _radii(self) -> tuple[float, float]:
        return 0.0, check_real(self.radius, "radius", minimum=0.0, closed="neither")


def _polar(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Split rows into unit vectors and lengths; a row of zeros gets any direction."""
    rows = np.clip(rows, -HUGE, HUGE)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows[length == 0.0, 0] = 1.0
    return rows / np.where(length == 0.0, 1.0, length)[:, None], length
