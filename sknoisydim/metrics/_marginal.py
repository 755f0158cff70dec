"""Tests of each component by itself, with Holm's correction for their number."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.polynomial.polynomial import polyval
from scipy import stats
from scipy.integrate import quad
from scipy.special import log_ndtr, ndtr

from .._context import own_context
from ._samples import FloatArray, MarginalTest, constant_columns, holm, normal_preimage


@own_context()
def kolmogorov_smirnov(Z: Any, reference: Any = "normal") -> MarginalTest:
    r"""Kolmogorov-Smirnov test of each component, by `scipy.stats.kstest`.

    .. math:: D_i = \sup_x | F_{n,i}(x) - \Phi(x) |

    with :math:`F_{n,i}` the empirical distribution function of component i of the N(0, I)
    pre-image and :math:`\Phi` that of N(0, 1). Blind to dependence between components.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : "normal", "uniform" or target, default="normal"
        Target distribution.

    Returns
    -------
    result : MarginalTest

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import kolmogorov_smirnov
    >>> Z = np.random.default_rng(0).standard_normal((500, 2))
    >>> Z[:, 1] += 0.5
    >>> kolmogorov_smirnov(Z).pvalue_holm < 0.01
    array([False,  True])
    """
    return _by_component(
        Z, reference, "kolmogorov_smirnov", lambda z: _values(stats.kstest(z, ndtr))
    )


@own_context()
def cramer_von_mises(Z: Any, reference: Any = "normal") -> MarginalTest:
    r"""Cramer-von Mises test of each component, by `scipy.stats.cramervonmises`.

    .. math:: W_i^2 = n \int (F_{n,i}(x) - \Phi(x))^2 \, d\Phi(x)

    with parameters and notation of :func:`kolmogorov_smirnov`.
    """
    return _by_component(
        Z, reference, "cramer_von_mises", lambda z: _values(stats.cramervonmises(z, ndtr))
    )


@own_context()
def anderson_darling(Z: Any, reference: Any = "normal") -> MarginalTest:
    r"""Anderson-Darling test of each component, which weights the tails.

    .. math:: A_i^2 = n \int \frac{(F_{n,i}(x) - \Phi(x))^2}{\Phi(x) (1 - \Phi(x))} \, d\Phi(x)

    with parameters and notation of :func:`kolmogorov_smirnov`. Mean and scale are not estimated,
    unlike in `scipy.stats.anderson`. P-values are exact to about 0.001; below 1e-5 they are those
    of the limit distribution.

    References
    ----------
    T. Anderson, D. Darling, *A Test of Goodness of Fit*, JASA 49, 1954. G. Marsaglia, J. Marsaglia,
    *Evaluating the Anderson-Darling Distribution*, J. Stat. Softw. 9(2), 2004.
    """
    return _by_component(Z, reference, "anderson_darling", _anderson_darling)


@own_context()
def dagostino_pearson(Z: Any, reference: Any = "normal") -> MarginalTest:
    r"""D'Agostino-Pearson test of skewness and kurtosis, by `scipy.stats.normaltest`.

    .. math:: K_i^2 = z(\sqrt{b_{1,i}})^2 + z(b_{2,i})^2

    with :math:`z(\cdot)` the normal scores of skewness and kurtosis, and parameters and notation of
    :func:`kolmogorov_smirnov`. It needs 20 samples, and is blind to mean and scale, which it
    estimates. Below a few hundred samples it rejects the target itself too often. A constant
    component has an infinite statistic and p-value 0.
    """

    def measure(z: FloatArray) -> tuple[float, float]:
        return (math.inf, 0.0) if constant_columns(z[:, None])[0] else _values(stats.normaltest(z))

    return _by_component(Z, reference, "dagostino_pearson", measure, min_samples=20)


#: ``test(Z, reference) -> MarginalTest``
MARGINAL_TESTS: dict[str, Callable[..., MarginalTest]] = {
    "anderson_darling": anderson_darling,
    "cramer_von_mises": cramer_von_mises,
    "dagostino_pearson": dagostino_pearson,
    "kolmogorov_smirnov": kolmogorov_smirnov,
}


_values = attrgetter("statistic", "pvalue")


def _by_component(
    Z: Any,
    reference: Any,
    test: str,
    measure: Callable[[FloatArray], tuple[float, float]],
    min_samples: int = 2,
) -> MarginalTest:
    Z = normal_preimage(Z, reference, test=test, min_samples=min_samples)
    statistic, pvalue = np.array([measure(column) for column in Z.T], dtype=np.float64).T
    return MarginalTest(statistic, pvalue, holm(pvalue))


def _anderson_darling(z: FloatArray) -> tuple[float, float]:
    n = len(z)
    z = np.sort(z)
    odd = np.arange(1, 2 * n, 2)
    # Logarithms of both tails, so that a sample at 38 counts for what it is.
    statistic = float(-n - (odd * (log_ndtr(z) + log_ndtr(-z[::-1]))).mean())
    return statistic, anderson_darling_survival(statistic, n)


def anderson_darling_survival(statistic: float, n: int) -> float:
    """Return the p-value of A^2 for n samples when no parameter is estimated.

    The limit distribution is the series of Anderson and Darling (1954), its correction for n the
    "errfix" of Marsaglia and Marsaglia (2004).

    Examples
    --------
    >>> round(anderson_darling_survival(2.492, 10_000), 3)
    0.05
    """
    limit = _limit_survival(statistic)
    # The correction is absolute, and below 1e-5 larger than what it corrects.
    return min(max(limit - _correction(1.0 - limit, n), 0.0), 1.0) if limit > 1e-5 else limit


def _limit_survival(z: float) -> float:
    if z < 0.02:
        return 1.0
    if z > 20.0:
        # Beyond, the series has no digits of the tail left, and the tail is its leading term:
        # A^2 is a sum of chi-squared variables with weights 1 / (j (j + 1)).
        return math.sqrt(3.0 / (math.pi * z)) * math.exp(-z)
    total, coefficient, j = 0.0, 1.0, 0
    while True:
        decay = (4 * j + 1) ** 2 * math.pi**2 / (8.0 * z)
        if decay > 40.0 + z / 8.0:
            return min(1.0 - math.sqrt(2.0 * math.pi) / z * total, 1.0)
        integral, _ = quad(
            lambda y, decay=decay: math.exp(z / (8.0 * (1.0 + y * y)) - decay * (1.0 + y * y)),
            0.0,
            math.inf,
            epsabs=1e-15,
        )
        total += coefficient * (4 * j + 1) * integral
        coefficient *= -(j + 0.5) / (j + 1)
        j += 1


def _correction(x: float, n: int) -> float:
    """Return what a finite n adds to the limit distribution function where that is x."""
    if x > 0.8:
        series = (-130.2137, 745.2337, -1705.091, 1950.646, -1116.360, 255.7844)
        return float(polyval(x, series)) / n
    edge = 0.01265 + 0.1757 / n
    if x < edge:
        t = x / edge
        shape = math.sqrt(t) * (1.0 - t) * (49.0 * t - 102.0)
        return shape * (0.0037 / n**2 + 0.00078 / n + 0.00006) / n
    t = (x - edge) / (0.8 - edge)
    series = (-0.00022633, 6.54034, -14.6538, 14.458, -8.259, 1.91864)
    return float(polyval(t, series)) * (0.04213 + 0.01365 / n) / n
