"""Distances and tests between a sample and a reference, and what a distance means."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from scipy.special import ndtr, ndtri
from sklearn.base import BaseEstimator, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoisydim._context import own_context
from sknoisydim._validation import allowed, check_integer, check_name, resolve
from sknoisydim.metrics import _samples
from sknoisydim.metrics._dependence import max_correlation
from sknoisydim.metrics._samples import FloatArray, JointTest, MarginalTest, RandomState, Reference

#: Samples on each side that a pairwise method uses, at most (its largest array then has 128 MB);
#: and draws of a target for each sample, in a permutation test: with fewer it has less power.
MAX_PAIRWISE_SAMPLES, DRAWS_PER_SAMPLE = 2_000, 4
#: Widths of Gaussian kernels: the median distance, its half, its quarter and its eighth.
N_WIDTHS = 4


@own_context()
def sliced_wasserstein(
    Z: ArrayLike,
    reference: Reference = "normal",
    *,
    n_projections: int = 200,
    random_state: RandomState = None,
) -> float:
    r"""Sliced 2-Wasserstein distance between a sample and draws of the reference.

    .. math:: SW_2 = \Bigl( \frac{1}{K} \sum_{k=1}^{K} W_2^2(u_k^T Z, u_k^T Y) \Bigr)^{1/2}

    with :math:`u_k` uniform on the unit sphere, Y as many draws of a target as samples, :math:`W_2`
    that on the line (Bonneel et al., J. Math. Imaging Vis. 51, 2015, section 3). Not zero for a
    sample of the target (see `relative_distance`). From 8 dimensions on it hardly sees more than
    mean and covariance.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        As of `energy_test`.
    n_projections : int, default=200
        Number K of directions.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the directions and draws.

    Returns
    -------
    distance : float, 0 or more

    Raises
    ------
    ValueError, TypeError
        As of `energy_test`; if `n_projections` is no positive integer.
    """
    check_integer(n_projections, "n_projections", minimum=1)
    rng = _samples.generator(random_state)
    Z, Y = _samples.compare(Z, reference)
    directions = rng.standard_normal((Z.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    projected = np.sort(directions.T @ Z.T, axis=1)
    draws = _samples.draw(Y, len(Z) if Y is None else len(Y), Z.shape[1], rng)
    drawn = np.sort(directions.T @ draws.T, axis=1)
    n, m = projected.shape[1], drawn.shape[1]
    # Both quantile functions are constant between these levels, in units of 1 / (n m).
    levels = np.union1d(m * np.arange(1, n + 1), n * np.arange(1, m + 1))
    gap = projected[:, (levels - 1) // m] - drawn[:, (levels - 1) // n]
    return float(np.sqrt((np.square(gap) @ np.diff(levels, prepend=0)).mean() / (n * m)))


def marginal_wasserstein(Z: FloatArray, reference: object, *, random_state: RandomState) -> float:
    """Return the root mean square over components of their Wasserstein distance from N(0, 1)."""
    levels = (np.arange(len(Z)) + 0.5) / len(Z)
    return float(np.sqrt(np.square(np.sort(Z, axis=0) - ndtri(levels)[:, None]).mean()))


@own_context()
def energy_distance(
    Z: ArrayLike, reference: Reference = "normal", *, random_state: RandomState = None
) -> float:
    r"""Energy distance between a sample and draws of the reference.

    .. math:: E = \bigl( 2\, E|Z - Y| - E|Z - Z'| - E|Y - Y'| \bigr)^{1/2}

    as in :func:`energy_test`, with as many draws as samples. It sees mean, scales, correlation.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        As of `energy_test`.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the draws, and of which samples are used.

    Returns
    -------
    distance : float, 0 or more
    """
    A, B, _ = _limited(Z, reference, random_state)
    within = sum(2.0 * pdist(part).sum() / len(part) ** 2 for part in (A, B))
    # Rounding can leave it at -1e-17.
    return float(np.sqrt(max(2.0 * cdist(A, B).mean() - within, 0.0)))


@own_context()
def energy_test(
    Z: ArrayLike,
    reference: Reference = "normal",
    *,
    n_permutations: int = 199,
    random_state: RandomState = None,
) -> JointTest:
    r"""Permutation test of the energy distance between a sample and a reference.

    .. math:: T = \frac{n m}{n + m} \bigl( 2\, E|Z - Y| - E|Z - Z'| - E|Y - Y'| \bigr)

    with Z, Z' of the n samples, Y, Y' of m draws of the reference, and each mean taken over all
    pairs (Szekely, Rizzo, J. Stat. Plan. Inference 143, 2013, equation 2.1 and section 6). The
    p-value is :math:`(1 + \#\{T_b \ge T\}) / (1 + B)` over B random permutations of all n + m, and
    exact. At most 2,000 on each side are used; m = min(4 n, 2000) for a target.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        "normal", "uniform" or another target distribution, or a sample of it.
    n_permutations : int, default=199
        Number B of permutations; the smallest p-value is 1 / (1 + B).
    random_state : int, Generator, RandomState or None, default=None
        Seed of the draws and permutations, and of which samples are used.

    Returns
    -------
    test : JointTest

    Raises
    ------
    ValueError, TypeError
        As other metrics of a sample: if Z or a sample is no table of finite numbers with two rows
        at least, if they have other numbers of components, if a row of Z has no pre-image, or a
        parameter is not as above.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import energy_test
    >>> Z = np.random.default_rng(0).standard_normal((300, 3))
    >>> energy_test(Z + 0.5, "normal", random_state=0).pvalue
    0.005
    """
    distances, n, rng = _pooled_distances(Z, reference, n_permutations, random_state)
    scale = n * (1 - n / len(distances))
    member = _splits(len(distances), n, n_permutations, rng)
    return _rank(scale * _discrepancy(np.negative(distances, out=distances), member))


@own_context()
def mmd_test(
    Z: ArrayLike,
    reference: Reference = "normal",
    *,
    n_permutations: int = 199,
    random_state: RandomState = None,
) -> JointTest:
    r"""Permutation test of the maximum mean discrepancy, over several kernel widths.

    .. math:: T = \max_c \frac{M_c - \mu_c}{\sigma_c}, \qquad
        M_c = E k_c(Z, Z') + E k_c(Y, Y') - 2\, E k_c(Z, Y)

    with :math:`k_c(a, b) = \exp(-|a - b|^2 / (2 (c s)^2))` for c = 1, 1/2, 1/4 and 1/8, s the
    median distance in the pooled sample, and :math:`\mu_c, \sigma_c` mean and standard deviation of
    :math:`M_c` over the permutations (Gretton et al., JMLR 13, 2012, sections 2 and 8), and else as
    in :func:`energy_test`. Blind to structure finer than the distance between neighbours.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        As of `energy_test`.
    n_permutations : int, default=199
        Number of permutations.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the draws and permutations, and of which samples are used.

    Returns
    -------
    test : JointTest
    """
    distances, n, rng = _pooled_distances(Z, reference, n_permutations, random_state)
    size, scores = len(distances), []
    # Of pooled samples drawn at random: a width that knew which are which would break exactness.
    width = float(np.median(distances[rng.choice(size, min(size, 100))])) or 1.0
    member = _splits(size, n, n_permutations, rng)
    kernel = np.square(distances, out=distances)
    kernel *= -0.5 / width**2
    np.exp(kernel, out=kernel)
    for _ in range(N_WIDTHS):
        found = _discrepancy(kernel, member)
        scores.append((found - found.mean()) / (found.std() or 1.0))
        # Half the width is the fourth power, which is cheaper than another exponential.
        for _ in range(2):
            np.square(kernel, out=kernel)
    return _rank(np.max(scores, axis=0))


def _limited(
    Z: ArrayLike, reference: Reference, random_state: RandomState, draws_per_sample: int = 1
) -> tuple[FloatArray, FloatArray, np.random.Generator]:
    rng = _samples.generator(random_state)
    Z, Y = _samples.compare(Z, reference)
    Z = _samples.subsample(Z, MAX_PAIRWISE_SAMPLES, rng)
    m = draws_per_sample * len(Z) if Y is None else len(Y)
    return Z, _samples.draw(Y, min(m, MAX_PAIRWISE_SAMPLES), Z.shape[1], rng), rng


def _pooled_distances(
    Z: ArrayLike, reference: Reference, n_permutations: int, random_state: RandomState
) -> tuple[FloatArray, int, np.random.Generator]:
    """Return distances between all samples and draws, and how many samples come before draws."""
    check_integer(n_permutations, "n_permutations", minimum=1)
    A, B, rng = _limited(Z, reference, random_state, DRAWS_PER_SAMPLE)
    pooled = np.concatenate([A, B])
    return cdist(pooled, pooled), len(A), rng


def _splits(size: int, n: int, n_permutations: int, rng: np.random.Generator) -> FloatArray:
    """Mark n of all samples in each column: the first n in column 0, n at random in the others."""
    member = np.zeros((size, 1 + n_permutations))
    for column in range(1 + n_permutations):
        member[rng.permutation(size)[:n] if column else slice(n), column] = 1.0
    return member


def _discrepancy(similarity: FloatArray, member: FloatArray) -> FloatArray:
    """Return, for each split, how much more alike samples are within its parts than across."""
    n = int(member[:, 0].sum())
    m = len(similarity) - n
    to_all = similarity.sum(axis=1)
    inside = np.einsum("ij,ij->j", member, similarity @ member)
    across = to_all @ member - inside
    outside = to_all.sum() - 2.0 * across - inside
    return inside / n**2 + outside / m**2 - 2.0 * across / (n * m)


def _rank(statistic: FloatArray) -> JointTest:
    # A permutation that gives the same split as the samples must count, whatever the rounding.
    reached = statistic[1:] >= statistic[0] - 1e-10 * np.abs(statistic).max()
    return JointTest(float(statistic[0]), (1 + int(reached.sum())) / len(statistic))


@own_context()
def kolmogorov_smirnov(Z: ArrayLike, reference: Reference = "normal") -> MarginalTest:
    r"""Kolmogorov-Smirnov test of each component, by `scipy.stats.ks_1samp`.

    .. math:: D_i = \sup_x | F_{n,i}(x) - \Phi(x) |

    with :math:`F_{n,i}` the empirical distribution function of component i of the N(0, I)
    pre-image and :math:`\Phi` that of N(0, 1).

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str or target, default="normal"
        As of `energy_test`, but no sample.

    Returns
    -------
    test : MarginalTest

    Raises
    ------
    ValueError, TypeError
        As of `energy_test`; if the reference is a sample.
    """
    Z = _samples.normal_preimage(Z, reference, test="kolmogorov_smirnov")
    found: Any = stats.ks_1samp(Z, ndtr)
    return MarginalTest(found.statistic, found.pvalue, _samples.holm(found.pvalue))


@own_context()
def henze_zirkler(
    Z: ArrayLike, reference: Reference = "normal", *, random_state: RandomState = None
) -> JointTest:
    r"""Henze-Zirkler test of joint normality, with any mean and covariance.

    .. math:: HZ = n \int |\hat\varphi(t) - e^{-|t|^2 / 2}|^2 \, N(t; 0, \beta^2 I) \, dt

    with :math:`\hat\varphi` the characteristic function of the n samples after whitening by their
    own mean and covariance, and :math:`\beta = ((2d + 1) n / 4)^{1 / (d + 4)} / \sqrt 2` (Commun.
    Stat. Theory Methods 19, 1990, theorem 3.1 and section 4). A singular covariance gives the
    statistic 4 n and p-value 0. At most 2,000 samples are used. The p-value is that of
    a log-normal distribution with the asymptotic mean and variance, and with fewer than
    max(500, 20 d) samples that of 199 simulated ones.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples, more than components.
    reference : str or target, default="normal"
        As of `energy_test`, but no sample.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the simulation, and of which samples are used.

    Returns
    -------
    test : JointTest

    Raises
    ------
    ValueError, TypeError
        As of `kolmogorov_smirnov`; if there are no more samples than components.
    """
    rng = _samples.generator(random_state)
    Z = _samples.normal_preimage(Z, reference, test="henze_zirkler")
    if len(Z) <= Z.shape[1]:
        raise ValueError(f"henze_zirkler needs more rows than columns, got the shape {Z.shape}.")
    Z = _samples.subsample(Z, MAX_PAIRWISE_SAMPLES, rng)
    n, d = Z.shape
    white = _samples.whiten(Z)
    if white is None:
        return JointTest(4.0 * n, 0.0)
    beta_squared = 0.5 * ((2 * d + 1) * n / 4) ** (2 / (d + 4))
    statistic = _hz_statistic(white[0], beta_squared)
    # With n = 50 and d = 16 the variance of the statistic is a third of the asymptotic one.
    if n >= max(500, 20 * d):
        return JointTest(statistic, _hz_survival(statistic, d, beta_squared))
    null = (_samples.whiten(rng.standard_normal((n, d))) for _ in range(199))
    reached = sum(w is None or _hz_statistic(w[0], beta_squared) >= statistic for w in null)
    return JointTest(statistic, (1 + reached) / 200)


def _hz_statistic(white: FloatArray, b: float) -> float:
    n, d = white.shape
    pairs = 1.0 + 2.0 * np.exp(-0.5 * b * pdist(white, "sqeuclidean")).sum() / n
    own = np.exp(-0.5 * b / (1 + b) * np.square(white).sum(axis=1)).sum()
    return float(pairs - 2 * (1 + b) ** (-d / 2) * own + n * (1 + 2 * b) ** (-d / 2))


def _hz_survival(statistic: float, d: int, b: float) -> float:
    a, w = 1 + 2 * b, (1 + b) * (1 + 3 * b)
    mean = 1 - a ** (-d / 2) * (1 + d * b / a + d * (d + 2) * b**2 / (2 * a**2))
    variance = (
        2 * (1 + 4 * b) ** (-d / 2)
        + 2 * a**-d * (1 + 2 * d * b**2 / a**2 + 3 * d * (d + 2) * b**4 / (4 * a**4))
        - 4 * w ** (-d / 2) * (1 + 3 * d * b**2 / (2 * w) + d * (d + 2) * b**4 / (2 * w**2))
    )
    spread = np.log1p(variance / mean**2)
    return float(stats.lognorm.sf(statistic, np.sqrt(spread), scale=mean * np.exp(-spread / 2)))


def _mlp(random_state: int) -> BaseEstimator:
    # 80 epochs without early stopping: with it, a plateau at the start ends training and the AUC
    # of hard cases comes out 0.01 to 0.02 lower.
    given = {"alpha": 0.1, "learning_rate_init": 3e-3, "max_iter": 80, "random_state": random_state}
    return make_pipeline(StandardScaler(), MLPClassifier((64, 64), **given))


#: Every named classifier: ``make(random_state=seed) -> estimator``.
CLASSIFIERS: dict[str, Callable[..., Any]] = {
    "boosting": partial(HistGradientBoostingClassifier, max_iter=200, early_stopping=False),
    "mlp": _mlp,
}


@own_context()
def classifier_auc(
    Z: ArrayLike,
    reference: Reference = "normal",
    *,
    classifier: object = "boosting",
    cv: int = 3,
    random_state: RandomState = None,
) -> float:
    """Area under the ROC curve of a classifier of samples against draws of the reference.

    The classifier is cross-validated on as many draws as there are samples, and the scores of all
    folds are pooled (Lopez-Paz, Oquab, ICLR 2017, section 3). Trees see repeated samples and
    lattices, the network what is smooth in all components: report both.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples, held out from the fit.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        As of `energy_test`. Of the larger of two samples, min(n, m) drawn at random are used.
    classifier : {"boosting", "mlp"} or classifier, default="boosting"
        "boosting" is `HistGradientBoostingClassifier`, "mlp" an `MLPClassifier` with two layers of
        64 units on standardised components. A classifier of your own is cloned and keeps its seed.
    cv : int, default=3
        Number of stratified, shuffled folds.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the draws, the folds and the named classifiers.

    Returns
    -------
    auc : float
        0.5 when the classifier cannot tell (a little less is chance), 1.0 when it always can.

    Raises
    ------
    ValueError, TypeError
        As of `energy_test`, with `cv` samples at least; if `cv` is no integer from 2 on; if
        `classifier` is an unknown name, or no classifier.
    """
    check_integer(cv, "cv", minimum=2)
    rng = _samples.generator(random_state)
    Z, Y = _samples.compare(Z, reference, min_samples=cv)
    seed = _samples.seed_of(rng)
    named = {name: partial(make, random_state=seed) for name, make in CLASSIFIERS.items()}
    # Its 20 samples in a leaf are more than a third of few samples: it would never split.
    leaf = int(np.clip(len(Z) // 5, 1, 20))
    named["boosting"] = partial(named["boosting"], min_samples_leaf=leaf)
    also = ["a scikit-learn classifier"]
    model = resolve(classifier, named, "classifier", method="predict", also=also)
    if not is_classifier(model):
        raise TypeError(f"classifier must be {allowed(named, also)}, got {classifier!r}.")
    draws = _samples.draw(Y, len(Z), Z.shape[1], rng)
    sample = _samples.subsample(Z, len(draws), rng)
    label = np.repeat([1, 0], [len(sample), len(draws)])
    folds = StratifiedKFold(cv, shuffle=True, random_state=_samples.seed_of(rng))
    method = "predict_proba" if hasattr(model, "predict_proba") else "decision_function"
    with warnings.catch_warnings():
        # The MLP stops after a set number of epochs; that is its regularisation.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pooled = np.concatenate([sample, draws])
        score = cross_val_predict(model, pooled, label, cv=folds, method=method)
    return float(roc_auc_score(label, score if score.ndim == 1 else score[:, 1]))


#: ``distance(Z, reference, *, random_state) -> float``
DISTANCES: dict[str, Callable[..., float]] = {
    "energy_distance": energy_distance,
    "max_correlation": max_correlation,
    "sliced_wasserstein": sliced_wasserstein,
}


def _distance(known: str | Callable[..., float]) -> Callable[..., float]:
    return known if callable(known) else DISTANCES[check_name(known, DISTANCES, "distance")]


@own_context()
def relative_distance(
    distance: str | Callable[..., float],
    Z: ArrayLike,
    reference: Reference = "normal",
    *,
    n_repeats: int = 10,
    random_state: RandomState = None,
    **params: object,
) -> float:
    r"""Distance to the target, relative to the distance between two samples of the target.

    .. math:: \frac{\sum_{r=1}^{R} D(Z, Y_r)}{\sum_{r=1}^{R} D(Y'_r, Y_r)}

    with D the distance and :math:`Y_r, Y'_r` independent samples of the target of the size of Z. A
    sample of the target has 1, give or take a few percent, whatever n and d.

    Parameters
    ----------
    distance : str or callable
        A key of `sknoisydim.metrics.DISTANCES`, or a function ``distance(Z, reference,
        random_state=..., **params)`` -> float, for a reference that is "normal" or a sample.
        It comes before Z, unlike in the other metrics.
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        As of `energy_test`. :math:`Y_r, Y'_r` are disjoint parts of a sample, and of Z as many are
        used: min(n, m // 2).
    n_repeats : int, default=10
        Number R of repeats, at least 1.
    random_state : int, Generator, RandomState or None, default=None
        Seed of all draws.
    **params : keyword arguments
        Passed to the distance, e.g. ``n_projections=50``.

    Returns
    -------
    ratio : float
        1 for a sample of the target; NaN where two samples of it have the distance 0.

    Raises
    ------
    ValueError, TypeError
        As of `energy_test`, with four rows of a sample and of Z at least; if `distance` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import relative_distance
    >>> Z = np.random.default_rng(0).standard_normal((500, 4))
    >>> relative_distance("energy_distance", 1.5 * Z, random_state=0) > 2.0
    True
    """
    measure = _distance(distance)
    check_integer(n_repeats, "n_repeats", minimum=1)
    rng = _samples.generator(random_state)
    Z, Y = _samples.compare(Z, reference, min_samples=4 if _samples.is_sample(reference) else 2)
    above = below = 0.0
    for _ in range(n_repeats):
        against: Reference = "normal"
        if Y is None:
            sample, twin = Z, rng.standard_normal(Z.shape)
        else:
            k, parts = min(len(Z), len(Y) // 2), rng.permutation(Y)
            sample, twin, against = _samples.subsample(Z, k, rng), parts[:k], parts[k : 2 * k]
        # One seed for both: they see the same directions and the same draws.
        seed = _samples.seed_of(rng)
        above += measure(sample, against, random_state=seed, **params)
        below += measure(twin, against, random_state=seed, **params)
    return above / below if below > 0.0 else float("nan")


@own_context()
def monte_carlo_test(
    distance: str | Callable[..., float],
    Z: ArrayLike,
    reference: Reference = "normal",
    *,
    n_resamples: int = 99,
    random_state: RandomState = None,
    **params: object,
) -> JointTest:
    r"""P-value of a distance, by simulation under the target.

    .. math:: p = \frac{1 + \#\{b : D(Y_b) \ge D(Z)\}}{1 + B}

    with D the distance to the target and :math:`Y_b` one of B samples of it, of the size of Z.

    Parameters
    ----------
    distance : str or callable
        As of `relative_distance`.
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str or target, default="normal"
        As of `energy_test`, but no sample.
    n_resamples : int, default=99
        Number B of samples of the target, at least 1; the smallest p-value is 1 / (1 + B).
    random_state : int, Generator, RandomState or None, default=None
        Seed of all draws.
    **params : keyword arguments
        Passed to the distance.

    Returns
    -------
    test : JointTest

    Raises
    ------
    ValueError, TypeError
        As of `relative_distance`; if the reference is a sample.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import monte_carlo_test
    >>> Z = np.random.default_rng(0).standard_normal((200, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
    >>> monte_carlo_test("max_correlation", Z, random_state=0).pvalue
    0.01
    """
    measure = _distance(distance)
    check_integer(n_resamples, "n_resamples", minimum=1)
    Z = _samples.normal_preimage(Z, reference, test="monte_carlo_test")
    rng = _samples.generator(random_state)
    observed = measure(Z, "normal", random_state=_samples.seed_of(rng), **params)
    reached = 1
    for _ in range(n_resamples):
        draws, seed = rng.standard_normal(Z.shape), _samples.seed_of(rng)
        reached += measure(draws, "normal", random_state=seed, **params) >= observed
    return JointTest(observed, float(reached / (1 + n_resamples)))
