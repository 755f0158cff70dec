"""Tests of each component by itself, and of joint normality, in the N(0, I) pre-image."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike
from scipy import stats
from scipy.integrate import quad
from scipy.spatial.distance import pdist
from scipy.special import chdtrc, gammaincc, log_ndtr, ndtr, ndtri

from sknoisydim._context import own_context
from sknoisydim._validation import check_integer
from sknoisydim.metrics._distances import MAX_PAIRWISE_SAMPLES
from sknoisydim.metrics._samples import (
    FloatArray,
    JointTest,
    MarginalTest,
    RandomState,
    Reference,
    constant_columns,
    generator,
    holm,
    normal_preimage,
    subsample,
    whiten,
)


@own_context()
def kolmogorov_smirnov(Z: ArrayLike, reference: Reference = "normal") -> MarginalTest:
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
def cramer_von_mises(Z: ArrayLike, reference: Reference = "normal") -> MarginalTest:
    r"""Cramer-von Mises test of each component, by `scipy.stats.cramervonmises`.

    .. math:: W_i^2 = n \int (F_{n,i}(x) - \Phi(x))^2 \, d\Phi(x)

    with parameters and notation of :func:`kolmogorov_smirnov`.
    """
    return _by_component(
        Z, reference, "cramer_von_mises", lambda z: _values(stats.cramervonmises(z, ndtr))
    )


@own_context()
def anderson_darling(Z: ArrayLike, reference: Reference = "normal") -> MarginalTest:
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
def dagostino_pearson(Z: ArrayLike, reference: Reference = "normal") -> MarginalTest:
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
    Z: ArrayLike,
    reference: Reference,
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
    # Logarithms of both tails, so that a sample far out counts for what it is.
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


# Below max(500, 20 d) samples the asymptotic distributions are off: with n = 50 and d = 16 the
# variance of the Henze-Zirkler statistic is a third of the asymptotic one.
ENOUGH_SAMPLES, ENOUGH_SAMPLES_PER_COMPONENT = 500, 20
N_RESAMPLES = 199

# Numbers that an intermediate array of Mardia's and of the Epps-Pulley test holds at most.
_CHUNK = 2_000_000


@own_context()
def henze_zirkler(
    Z: ArrayLike, reference: Reference = "normal", *, random_state: RandomState = None
) -> JointTest:
    r"""Henze-Zirkler test of joint normality, with any mean and covariance.

    .. math:: HZ = n \int |\hat\varphi(t) - e^{-|t|^2 / 2}|^2 \, N(t; 0, \beta^2 I) \, dt

    with :math:`\hat\varphi` the characteristic function of the n samples after whitening by their
    own mean and covariance, and :math:`\beta = ((2d + 1) n / 4)^{1 / (d + 4)} / \sqrt 2`. Blind to
    the mean, to scales and to correlation.

    The p-value comes from a log-normal distribution with the asymptotic mean and variance; with
    fewer than max(500, 20 d) samples from 199 simulated ones of the same size. Above 2,000 samples,
    2,000 drawn at random are used.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples, more than components.
    reference : "normal", "uniform" or target, default="normal"
        Target distribution.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the simulation, and of which samples are used.

    Returns
    -------
    result : JointTest
        A singular covariance gives the statistic 4 n and p-value 0.

    References
    ----------
    N. Henze, B. Zirkler, *A class of invariant consistent tests for multivariate normality*,
    Commun. Stat. Theory Methods 19, 1990, theorem 3.1 and section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import henze_zirkler
    >>> Z = np.random.default_rng(0).standard_normal((600, 3))
    >>> henze_zirkler(Z).pvalue > 0.05
    True
    >>> henze_zirkler(np.abs(Z)).pvalue < 0.001
    True
    """
    rng = generator(random_state)
    Z = subsample(_check(Z, reference, "henze_zirkler"), MAX_PAIRWISE_SAMPLES, rng)
    return _test(Z, _hz_statistic, _hz_survival, 4.0 * len(Z), rng)


@own_context()
def mardia(
    Z: ArrayLike, reference: Reference = "normal", *, random_state: RandomState = None
) -> JointTest:
    r"""Mardia's test of joint skewness and kurtosis, with any mean and covariance.

    .. math::
        b_1 = \frac{1}{n^2} \sum_{i,j} (w_i^T w_j)^3, \qquad
        b_2 = \frac{1}{n} \sum_i |w_i|^4

    with :math:`w_i` the n samples after whitening by their own mean and covariance. Each moment is
    brought to a standard normal score: skewness by its :math:`\chi^2` distribution with Mardia's
    correction for small n, kurtosis, two-sided, by its exact mean and variance. The statistic is
    the larger score s, its p-value :math:`1 - \Phi(s)^2`; with fewer than max(500, 20 d) samples it
    comes from 199 simulated ones of the same size. Blind to the mean, scales and correlation. A
    singular covariance gives an infinite statistic and p-value 0. Parameters are those of
    :func:`henze_zirkler`.

    References
    ----------
    K. V. Mardia, *Applications of some measures of multivariate skewness and kurtosis in testing
    normality and robustness studies*, Sankhya B 36, 1974, sections 2 to 5.
    """
    Z = _check(Z, reference, "mardia")
    return _test(Z, _mardia_statistic, _mardia_survival, float("inf"), generator(random_state))


@own_context()
def epps_pulley_sliced(
    Z: ArrayLike,
    reference: Reference = "normal",
    *,
    n_projections: int = 64,
    random_state: RandomState = None,
) -> JointTest:
    r"""Sliced Epps-Pulley test of projections against N(0, 1).

    .. math::
        T = \frac{1}{K} \sum_{k=1}^{K} n \int
        \Bigl| \frac{1}{n} \sum_{j=1}^{n} e^{i t u_k^T z_j} - e^{-t^2 / 2} \Bigr|^2
        N(t; 0, 1) \, dt

    with :math:`z_j` the n samples and :math:`u_k` uniform on the unit sphere, K of them; the
    integral is Gauss-Hermite with 16 nodes. Nothing is estimated, so T is a quadratic form of means
    with known covariance under N(0, I); the p-value is that of a gamma distribution with its first
    three cumulants. From 8 dimensions on, projections of almost anything look normal.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : "normal", "uniform" or target, default="normal"
        Target distribution.
    n_projections : int, default=64
        Number K of directions.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the directions.

    Returns
    -------
    result : JointTest

    References
    ----------
    T. Epps, L. Pulley, *A test for normality based on the empirical characteristic function*,
    Biometrika 70, 1983, section 2. P. Hall, *Chi squared approximations to the distribution of a
    sum of independent random variables*, Ann. Probab. 11, 1983.
    """
    check_integer(n_projections, "n_projections", minimum=1)
    Z = normal_preimage(Z, reference, test="epps_pulley_sliced")
    directions = generator(random_state).standard_normal((Z.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    # The integrand is even: half of the nodes, twice their weight.
    nodes, weights = nodes[8:], 2.0 * weights[8:] / np.sqrt(2.0 * np.pi)
    frequencies = (directions[:, :, None] * nodes).reshape(Z.shape[1], -1)
    weights = np.tile(weights, n_projections) / n_projections
    cosine, sine = np.zeros((2, len(weights)))
    for part in np.array_split(Z, -(-len(Z) * len(weights) // _CHUNK)):
        angle = part @ frequencies
        cosine += np.cos(angle).sum(axis=0) / len(Z)
        sine += np.sin(angle).sum(axis=0) / len(Z)
    expected = np.tile(np.exp(-0.5 * nodes**2), n_projections)
    statistic = len(Z) * float(weights @ (np.square(cosine - expected) + np.square(sine)))
    return JointTest(statistic, _epps_pulley_survival(statistic, frequencies, weights))


def _check(Z: ArrayLike, reference: Reference, test: str) -> FloatArray:
    Z = normal_preimage(Z, reference, test=test)
    n, d = Z.shape
    if n <= d:
        raise ValueError(f"{test} needs more rows than columns, got {n} rows and {d} columns.")
    return Z


def _test(
    Z: FloatArray,
    measure: Callable[[FloatArray], float],
    survival: Callable[[float, int, int], float],
    singular: float,
    rng: np.random.Generator,
) -> JointTest:
    """Test whitened samples, with a simulated p-value where there are few of them."""
    n, d = Z.shape
    white = whiten(Z)
    if white is None:
        return JointTest(singular, 0.0)
    statistic = measure(white[0])
    if n >= max(ENOUGH_SAMPLES, ENOUGH_SAMPLES_PER_COMPONENT * d):
        return JointTest(statistic, survival(statistic, n, d))
    reached = 0
    for _ in range(N_RESAMPLES):
        white = whiten(rng.standard_normal((n, d)))
        reached += white is None or measure(white[0]) >= statistic
    return JointTest(statistic, (1 + reached) / (1 + N_RESAMPLES))


def _hz_beta_squared(n: int, d: int) -> float:
    return float(0.5 * ((2 * d + 1) * n / 4) ** (2 / (d + 4)))


def _hz_statistic(white: FloatArray) -> float:
    n, d = white.shape
    b = _hz_beta_squared(n, d)
    pairs = 1.0 + 2.0 * np.exp(-0.5 * b * pdist(white, "sqeuclidean")).sum() / n
    own = np.exp(-0.5 * b / (1 + b) * np.square(white).sum(axis=1)).sum()
    return float(pairs - 2 * (1 + b) ** (-d / 2) * own + n * (1 + 2 * b) ** (-d / 2))


def _hz_survival(statistic: float, n: int, d: int) -> float:
    b = _hz_beta_squared(n, d)
    a = 1 + 2 * b
    w = (1 + b) * (1 + 3 * b)
    mean = 1 - a ** (-d / 2) * (1 + d * b / a + d * (d + 2) * b**2 / (2 * a**2))
    variance = (
        2 * (1 + 4 * b) ** (-d / 2)
        + 2 * a**-d * (1 + 2 * d * b**2 / a**2 + 3 * d * (d + 2) * b**4 / (4 * a**4))
        - 4 * w ** (-d / 2) * (1 + 3 * d * b**2 / (2 * w) + d * (d + 2) * b**4 / (2 * w**2))
    )
    spread = np.log1p(variance / mean**2)
    if statistic <= 0.0:
        return 1.0
    return float(ndtr((np.log(mean) - 0.5 * spread - np.log(statistic)) / np.sqrt(spread)))


def _mardia_statistic(white: FloatArray) -> float:
    n, d = white.shape
    third = np.zeros((d, d * d))
    for part in np.array_split(white, -(-n * d * d // _CHUNK)):
        third += part.T @ (part[:, :, None] * part[:, None, :]).reshape(len(part), d * d)
    skewness = np.square(third / n).sum()
    kurtosis = np.square(np.square(white).sum(axis=1)).mean()
    correction = (d + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (d + 1) - 6))
    skewness_pvalue = chdtrc(d * (d + 1) * (d + 2) / 6, n * correction * skewness / 6)
    mean = d * (d + 2) * (n - 1) / (n + 1)
    factor = (n - 3) * (n - d - 1) * (n - d + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    # With n <= d + 1 or n <= 3 the kurtosis is a constant, and says nothing.
    score = abs(kurtosis - mean) / np.sqrt(8 * d * (d + 2) * factor) if factor > 0 else 0.0
    # -ndtri(p) is infinite for a p-value of 0, and 37.5 is the largest finite score.
    return float(min(-ndtri(min(skewness_pvalue, 2 * ndtr(-score))), 37.5))


def _mardia_survival(statistic: float, n: int, d: int) -> float:
    tail = ndtr(-statistic)
    return float(tail * (2.0 - tail))


def _epps_pulley_survival(statistic: float, frequencies: FloatArray, weights: FloatArray) -> float:
    """Return the p-value of a statistic under N(0, I).

    cos(a^T z) and cos(b^T z) have the covariance (e^{-|a-b|^2/2} + e^{-|a+b|^2/2}) / 2 -
    e^{-(|a|^2+|b|^2)/2}, the sines (e^{-|a-b|^2/2} - e^{-|a+b|^2/2}) / 2, and cosines with sines 0.
    """
    product = frequencies.T @ frequencies
    half = 0.5 * np.diag(product)
    scale = np.sqrt(weights[:, None] * weights) * np.exp(-half[:, None] - half)
    cumulant = np.zeros(3)
    for covariance in (scale * (np.cosh(product) - 1.0), scale * np.sinh(product)):
        eigenvalues = np.linalg.eigvalsh(covariance)
        cumulant += [(eigenvalues**power).sum() for power in (1, 2, 3)]
    mean, variance, third = cumulant * [1.0, 2.0, 8.0]
    shape = 4.0 * variance**3 / third**2
    standard = (statistic - mean) / np.sqrt(variance)
    return float(gammaincc(shape, max(shape + standard * np.sqrt(shape), 0.0)))
