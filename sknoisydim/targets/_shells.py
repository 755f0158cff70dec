"""Uniform distributions in a ball and between two spheres."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv, gammaln, hyp1f1

from .._validation import check_real
from ._base import EPS, FloatArray, Target

# Squares of numbers up to here do not overflow.
_LARGEST_RADIUS = 1e150


class SphericalShell(Target):
    r"""Uniform between two spheres: :math:`r \le \lVert x \rVert \le R` in d components.

    .. math:: T(z) = \frac{z}{\lVert z \rVert} \left(r^d + (R^d - r^d)\,
              F_d(\lVert z \rVert^2)\right)^{1/d}

    where :math:`r` is `inner`, :math:`R` is `outer` and :math:`F_d` is the distribution function
    of the chi-squared distribution with d degrees of freedom. The log density inside is minus the
    log of the volume, :math:`-\log\frac{\pi^{d/2} (R^d - r^d)}{\Gamma(d/2 + 1)}` nats.

    Parameters
    ----------
    inner : float
        Inner radius, at least 0.
    outer : float
        Outer radius, above `inner`.

    Attributes
    ----------
    n_components_ : int
        Number of components :math:`d`, set by :meth:`bind` on the copy it returns.

    Raises
    ------
    TypeError
        By :meth:`bind`, if a radius is not a number.
    ValueError
        By :meth:`bind`, if the radii are not finite or not in order.

    See Also
    --------
    sknoisydim.targets.UniformBall : Without the hole.

    Notes
    -----
    A float has few digits left close to a sphere, where almost all the volume of many components
    is: :meth:`pull` gives a row back to 1e-6 while both tail probabilities of its
    :math:`\lVert z \rVert^2` are above 1e-9, which all rows but one in 500 million have. The
    digits that a thin shell lacks, :math:`\log_{10}(R / (R - r))`, come off that.

    References
    ----------
    .. [1] I. Butakov et al., "Efficient Distribution Matching of Representations via
       Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993.

    Examples
    --------
    >>> from sknoisydim.targets import SphericalShell
    >>> target = SphericalShell(inner=1.0, outer=2.0).bind(2)
    >>> target.push([[3.0, 4.0]])
    array([[1.19999832, 1.59999776]])
    >>> target.logpdf([[0.0, 1.5], [0.0, 0.5]])
    array([-2.24334217,        -inf])
    """

    def __init__(self, inner: float, outer: float) -> None:
        self.inner = inner
        self.outer = outer

    def _radii(self) -> tuple[float, float]:
        outer = check_real(self.outer, "outer", minimum=0.0, closed="neither")
        inner = check_real(self.inner, "inner", minimum=0.0, maximum=outer, closed="left")
        return inner, outer

    def _bind(self, n_components: int) -> None:
        inner, self._outer = self._radii()
        self._inner = inner
        # The hole's part of the ball, and the shell's, kept apart for the sake of thin shells.
        log_ratio = math.log(inner / self._outer) if inner / self._outer > 0 else -math.inf
        self._hole = math.exp(n_components * log_ratio)
        self._shell = -math.expm1(n_components * log_ratio)

    def _push(self, z: FloatArray) -> FloatArray:
        direction, radius = _polar(z)
        half = 0.5 * self.n_components_
        t = 0.5 * radius**2
        with np.errstate(divide="ignore"):
            log_below = _log_gammainc(half, 2.0 * np.log(radius) - math.log(2.0))
            log_part = np.where(
                t < half,
                np.log(self._hole + self._shell * np.exp(log_below)) if self._hole else log_below,
                np.log1p(-self._shell * gammaincc(half, t)),
            )
        ratio = np.exp(log_part / self.n_components_)
        direction *= np.clip(self._outer * ratio, self._inner, self._outer)[:, None]
        return direction

    def _pull(self, x: FloatArray) -> FloatArray:
        direction, radius = _polar(x)
        half = 0.5 * self.n_components_
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            log_part = self.n_components_ * np.log(np.minimum(radius / self._outer, 1.0))
            above = np.maximum(-np.expm1(log_part) / self._shell, 0.5 * EPS)
            below = (np.exp(log_part) - self._hole) / self._shell
            log_below = np.log(np.maximum(below, 0.5 * EPS)) if self._hole else log_part
            log_t = np.where(
                below < gammainc(half, half),
                _inverse_log_gammainc(half, log_below),
                np.log(gammainccinv(half, np.minimum(above, 1.0))),
            )
        direction *= np.exp(0.5 * (log_t + math.log(2.0)))[:, None]
        return direction

    def _logpdf(self, x: FloatArray) -> FloatArray:
        _, radius = _polar(x)
        half = 0.5 * self.n_components_
        log_volume = (
            half * math.log(math.pi)
            - float(gammaln(half + 1.0))
            + self.n_components_ * math.log(self._outer)
            + math.log(self._shell)
        )
        # The norm of a row that was pushed to the edge may round to the other side of it.
        inside = (radius >= self._inner * (1 - 8 * EPS)) & (radius <= self._outer * (1 + 8 * EPS))
        values: FloatArray = np.where(inside, -log_volume, -np.inf)
        values[np.isnan(radius)] = np.nan
        return values


class UniformBall(SphericalShell):
    r"""Uniform in a ball: :math:`\lVert x \rVert \le R` in d components.

    .. math:: T(z) = R\,\frac{z}{\lVert z \rVert}\,F_d(\lVert z \rVert^2)^{1/d}

    where :math:`R` is `radius` and :math:`F_d` is the distribution function of the chi-squared
    distribution with d degrees of freedom. The log density inside is minus the log of the volume,
    :math:`-\log\frac{\pi^{d/2} R^d}{\Gamma(d/2 + 1)}` nats.

    Parameters
    ----------
    radius : float, default=1.0
        Radius of the ball, above 0.

    Attributes
    ----------
    n_components_ : int
        Number of components :math:`d`, set by :meth:`bind` on the copy it returns.

    Raises
    ------
    TypeError
        By :meth:`bind`, if `radius` is not a number.
    ValueError
        By :meth:`bind`, if it is not finite or not above 0.

    See Also
    --------
    sknoisydim.targets.SphericalShell : Its notes on digits near the edge hold here too.
    sknoisydim.targets.Uniform : Uniform in a box, with independent components.

    References
    ----------
    .. [1] I. Butakov et al., "Efficient Distribution Matching of Representations via
       Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993.

    Examples
    --------
    >>> from sknoisydim.targets import UniformBall
    >>> target = UniformBall(radius=2.0).bind(2)
    >>> target.push([[0.6, 0.8]])
    array([[0.75272561, 1.00363415]])
    >>> target.logpdf([[0.0, 0.0], [0.0, 3.0]])
    array([-2.53102425,        -inf])
    """

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = radius

    def _radii(self) -> tuple[float, float]:
        return 0.0, check_real(self.radius, "radius", minimum=0.0, closed="neither")


def _polar(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Split rows into unit vectors and lengths, without overflow or underflow of squares."""
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    np.clip(rows, -_LARGEST_RADIUS, _LARGEST_RADIUS, out=rows)
    largest = np.clip(largest, None, _LARGEST_RADIUS)
    # The origin has no direction; any will do, and this one is finite.
    origin = largest[:, 0] == 0.0
    rows[origin, 0] = 1.0
    largest[origin] = 1.0
    rows /= largest
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= length[:, None]
    length *= largest[:, 0]
    length[origin] = 0.0
    return rows, length


def _log_gammainc(a: float, log_t: FloatArray) -> FloatArray:
    """Log of the regularised lower incomplete gamma function P(a, t), for t up to about a.

    By its series (DLMF 8.5.1), since P itself underflows when a is large or t is small.
    """
    log_t = np.minimum(log_t, math.log(a))
    t = np.exp(log_t)
    series = np.log(hyp1f1(1.0, a + 1.0, t))
    return np.asarray(a * log_t - t - gammaln(a + 1.0) + series, dtype=np.float64)


def _inverse_log_gammainc(a: float, log_p: FloatArray) -> FloatArray:
    """Solve log P(a, t) = log_p for t, for log_p up to about log P(a, a); return log t."""
    log_t: FloatArray = np.log(gammaincinv(a, np.exp(log_p)))
    # Where P underflows, Newton's method on log P, which is concave in log t, from below.
    small = (log_p < -600.0) & np.isfinite(log_p)
    if small.any():
        s = (log_p[small] + gammaln(a + 1.0)) / a
        for _ in range(50):
            slope = a / hyp1f1(1.0, a + 1.0, np.minimum(np.exp(s), a))
            s += (log_p[small] - _log_gammainc(a, s)) / slope
        log_t[small] = s
    return log_t
