"""A test of each component by itself, and one of joint normality, in the N(0, I) pre-image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.spatial.distance import pdist
from scipy.special import ndtr

from sknoisydim._context import own_context
from sknoisydim.metrics._distances import MAX_PAIRWISE_SAMPLES
from sknoisydim.metrics._samples import (
    FloatArray,
    JointTest,
    MarginalTest,
    RandomState,
    Reference,
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

    Raises
    ------
    ValueError, TypeError
        As of :func:`energy_test`; if the reference is a sample.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import kolmogorov_smirnov
    >>> Z = np.random.default_rng(0).standard_normal((500, 2))
    >>> Z[:, 1] += 0.5
    >>> kolmogorov_smirnov(Z).pvalue_holm < 0.01
    array([False,  True])
    """
    Z = normal_preimage(Z, reference, test="kolmogorov_smirnov")
    results = [stats.kstest(column, ndtr) for column in Z.T]
    statistic, pvalue = np.array([[found.statistic, found.pvalue] for found in results]).T
    return MarginalTest(statistic, pvalue, holm(pvalue))


#: ``test(Z, reference) -> MarginalTest``
MARGINAL_TESTS: dict[str, Callable[..., MarginalTest]] = {"kolmogorov_smirnov": kolmogorov_smirnov}


# Below max(500, 20 d) samples the asymptotic distributions are off: with n = 50 and d = 16 the
# variance of the Henze-Zirkler statistic is a third of the asymptotic one.
ENOUGH_SAMPLES, ENOUGH_SAMPLES_PER_COMPONENT = 500, 20
N_RESAMPLES = 199


@own_context()
def henze_zirkler(
    Z: ArrayLike, reference: Reference = "normal", *, random_state: RandomState = None
) -> JointTest:
    r"""Henze-Zirkler test of joint normality, with any mean and covariance.

    .. math:: HZ = n \int |\hat\varphi(t) - e^{-|t|^2 / 2}|^2 \, N(t; 0, \beta^2 I) \, dt

    with :math:`\hat\varphi` the characteristic function of the n samples after whitening by their
    own mean and covariance, and :math:`\beta = ((2d + 1) n / 4)^{1 / (d + 4)} / \sqrt 2`. Blind to
    the mean, to scales and to correlation. A singular covariance gives the statistic 4 n and
    p-value 0.

    The p-value comes from a log-normal distribution with the asymptotic mean and variance; with
    fewer than max(500, 20 d) samples from 199 simulated ones of the same size. Above 2,000 samples,
    2,000 drawn at random are used, by `random_state`. The other parameters are those of
    :func:`kolmogorov_smirnov`; Z has more samples than components.

    References
    ----------
    N. Henze, B. Zirkler, *A class of invariant consistent tests for multivariate normality*,
    Commun. Stat. Theory Methods 19, 1990, theorem 3.1 and section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import henze_zirkler
    >>> Z = np.random.default_rng(0).standard_normal((600, 3))
    >>> henze_zirkler(Z).pvalue > 0.05, henze_zirkler(np.abs(Z)).pvalue < 0.001
    (True, True)
    """
    rng = generator(random_state)
    Z = normal_preimage(Z, reference, test="henze_zirkler")
    if len(Z) <= Z.shape[1]:
        raise ValueError(f"henze_zirkler needs more rows than columns, got the shape {Z.shape}.")
    Z = subsample(Z, MAX_PAIRWISE_SAMPLES, rng)
    n, d = Z.shape
    white = whiten(Z)
    if white is None:
        return JointTest(4.0 * n, 0.0)
    statistic = _hz_statistic(white[0])
    if n >= max(ENOUGH_SAMPLES, ENOUGH_SAMPLES_PER_COMPONENT * d):
        return JointTest(statistic, _hz_survival(statistic, n, d))
    reached = 0
    for _ in range(N_RESAMPLES):
        white = whiten(rng.standard_normal((n, d)))
        reached += white is None or _hz_statistic(white[0]) >= statistic
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
