"""Tests of each component on its own, corrected for their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import log_ndtr, ndtr

from .._context import own_context
from ._anderson_darling import anderson_darling_survival
from ._reference import FloatArray, constant_columns, normal_preimage
from ._results import MarginalTest, holm


@own_context()
def kolmogorov_smirnov(Z: Any, reference: Any = "normal") -> MarginalTest:
    r"""Kolmogorov-Smirnov test of each component against N(0, 1).

    .. math:: D_i = \sup_x | F_{n,i}(x) - \Phi(x) |

    with :math:`F_{n,i}` the empirical distribution function of component i over n rows and
    :math:`\Phi` that of N(0, 1); for other targets the components of the N(0, I) pre-image.
    P-values are exact.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform" or target, default="normal"
        Law that the rows should follow.

    Returns
    -------
    result : MarginalTest
        Statistics in [0, 1].

    Raises
    ------
    TypeError
        If the reference is a sample.
    ValueError
        If `Z` is not finite or the target has another number of components.

    See Also
    --------
    anderson_darling : Sees the tails better.
    energy_test : Sees the joint law.

    Notes
    -----
    Blind to every dependence between components.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 0.07 / 0.08, turned squares made normal 0.09 /
    0.02, correlation 0.2 0.08 / 0.07, a lattice of four values 1.00 / 1.00, rounding to 0.25 0.98 /
    0.97.

    References
    ----------
    A. Kolmogorov, *Sulla determinazione empirica di una legge di distribuzione*, G. Ist. Ital.
    Attuari 4, 1933; p-values of `scipy.stats.kstest`.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import kolmogorov_smirnov
    >>> Z = np.random.default_rng(0).standard_normal((500, 2))
    >>> Z[:, 1] += 0.5
    >>> kolmogorov_smirnov(Z).pvalue_holm < 0.01
    array([False,  True])
    """
    return _by_component(Z, reference, "kolmogorov_smirnov", _ks)


@own_context()
def cramer_von_mises(Z: Any, reference: Any = "normal") -> MarginalTest:
    r"""Cramer-von Mises test of each component against N(0, 1).

    .. math:: W_i^2 = n \int (F_{n,i}(x) - \Phi(x))^2 \, d\Phi(x)

    with :math:`F_{n,i}` the empirical distribution function of component i over n rows and
    :math:`\Phi` that of N(0, 1); for other targets the components of the N(0, I) pre-image.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform" or target, default="normal"
        Law that the rows should follow.

    Returns
    -------
    result : MarginalTest

    Raises
    ------
    TypeError
        If the reference is a sample.
    ValueError
        If `Z` is not finite or the target has another number of components.

    See Also
    --------
    anderson_darling : Sees the tails better.
    energy_test : Sees the joint law.

    Notes
    -----
    Blind to every dependence between components.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 0.06 / 0.08, turned squares made normal 0.08 /
    0.02, correlation 0.2 0.06 / 0.08, a lattice of four values 1.00 / 1.00, rounding to 0.25 0.20 /
    0.26.

    References
    ----------
    S. Csorgo, J. Faraway, *The Exact and Asymptotic Distributions of Cramer-von Mises Statistics*,
    J. R. Stat. Soc. B 58, 1996, equation 1.8; p-values of `scipy.stats.cramervonmises`.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import cramer_von_mises
    >>> Z = np.random.default_rng(0).standard_normal((500, 2))
    >>> Z[:, 1] += 0.5
    >>> cramer_von_mises(Z).pvalue_holm < 0.01
    array([False,  True])
    """
    return _by_component(Z, reference, "cramer_von_mises", _cvm)


@own_context()
def anderson_darling(Z: Any, reference: Any = "normal") -> MarginalTest:
    r"""Anderson-Darling test of each component against the fully specified N(0, 1).

    .. math:: A_i^2 = n \int \frac{(F_{n,i}(x) - \Phi(x))^2}{\Phi(x) (1 - \Phi(x))} \, d\Phi(x)

    with :math:`F_{n,i}` the empirical distribution function of component i over n rows and
    :math:`\Phi` that of N(0, 1); for other targets the components of the N(0, I) pre-image. No
    parameter is estimated ("case 0"), unlike in `scipy.stats.anderson`.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform" or target, default="normal"
        Law that the rows should follow.

    Returns
    -------
    result : MarginalTest
        P-values exact to about 0.001; below 1e-5 those of the limit law for large n.

    Raises
    ------
    TypeError
        If the reference is a sample.
    ValueError
        If `Z` is not finite or the target has another number of components.

    See Also
    --------
    energy_test : Sees the joint law.

    Notes
    -----
    Blind to every dependence between components.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 0.07 / 0.07, turned squares made normal 0.08 /
    0.02, correlation 0.2 0.06 / 0.04, a lattice of four values 1.00 / 1.00, rounding to 0.25 0.20 /
    0.28.

    References
    ----------
    T. Anderson, D. Darling, *A Test of Goodness of Fit*, JASA 49, 1954, for the limit law, and
    G. Marsaglia, J. Marsaglia, *Evaluating the Anderson-Darling Distribution*, J. Stat. Softw. 9
    (2), 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import anderson_darling
    >>> Z = np.random.default_rng(0).standard_normal((500, 2))
    >>> Z[:, 1] *= 1.5
    >>> anderson_darling(Z).pvalue_holm < 0.01
    array([False,  True])
    """
    return _by_component(Z, reference, "anderson_darling", _ad)


@own_context()
def dagostino_pearson(Z: Any, reference: Any = "normal") -> MarginalTest:
    r"""D'Agostino-Pearson test of the skewness and kurtosis of each component.

    .. math:: K_i^2 = z(\sqrt{b_{1,i}})^2 + z(b_{2,i})^2

    with :math:`z(\cdot)` the normal scores of skewness and kurtosis of component i, which make
    :math:`K_i^2` follow :math:`\chi^2_2`; for other targets of the N(0, I) pre-image.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge, n >= 20.
    reference : "normal", "uniform" or target, default="normal"
        Law that the rows should follow.

    Returns
    -------
    result : MarginalTest
        A constant component has an infinite statistic and the p-value 0.

    Raises
    ------
    TypeError
        If the reference is a sample.
    ValueError
        If `Z` is not finite, has fewer than 20 rows or the target has another number of components.

    See Also
    --------
    anderson_darling : Sees mean and scale too.
    mardia : The same moments of the joint law.

    Notes
    -----
    Blind to every dependence between components, and to mean and scale, which it estimates.

    Below a few hundred rows it rejects the law itself too often, at level 0.01 up to twice
    (``benchmarks/metrics_power.py --only levels``); the other tests of components do not.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 0.03 / 0.09, turned squares made normal 0.04 /
    0.11, correlation 0.2 0.06 / 0.07, a lattice of four values 1.00 / 1.00, rounding to 0.25 0.07 /
    0.07.

    References
    ----------
    R. D'Agostino, E. Pearson, *Tests for departure from normality*, Biometrika 60, 1973; p-values
    of `scipy.stats.normaltest`.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import dagostino_pearson
    >>> Z = np.random.default_rng(0).standard_normal((500, 2))
    >>> Z[:, 1] = np.exp(Z[:, 1])
    >>> dagostino_pearson(Z).pvalue_holm < 0.01
    array([False,  True])
    """
    rows = normal_preimage(Z, reference, min_samples=20, test="dagostino_pearson")
    statistic = np.full(rows.shape[1], np.inf)
    pvalue = np.zeros(rows.shape[1])
    varies = ~constant_columns(rows)
    if varies.any():
        statistic[varies], pvalue[varies] = stats.normaltest(rows[:, varies], axis=0)
    return MarginalTest(statistic, pvalue, holm(pvalue))


def _by_component(
    Z: Any,
    reference: Any,
    test: str,
    measure: Callable[[FloatArray], tuple[float, float]],
) -> MarginalTest:
    rows = normal_preimage(Z, reference, min_samples=2, test=test)
    statistic, pvalue = np.array([measure(column) for column in rows.T]).T
    return MarginalTest(statistic, pvalue, holm(pvalue))


def _ks(column: FloatArray) -> tuple[float, float]:
    result = stats.kstest(column, ndtr)
    return float(result.statistic), float(result.pvalue)


def _cvm(column: FloatArray) -> tuple[float, float]:
    result = stats.cramervonmises(column, ndtr)
    return float(result.statistic), float(result.pvalue)


def _ad(column: FloatArray) -> tuple[float, float]:
    n = len(column)
    ordered = np.sort(column)
    odd = np.arange(1, 2 * n, 2)
    # Logarithms of both tails, so that a row at 38 counts for what it is.
    statistic = float(-n - (odd * (log_ndtr(ordered) + log_ndtr(-ordered[::-1]))).mean())
    return statistic, anderson_darling_survival(statistic, n)
