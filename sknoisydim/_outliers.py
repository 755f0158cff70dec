"""NoisyDIMOutlierDetector: p-values of samples that are unlike those of `fit`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from sknoisydim._context import own_context
from sknoisydim._modules import RandomState
from sknoisydim._sources import MatrixLike
from sknoisydim._validation import check_integer, check_name, check_real
from sknoisydim._wrapped import LIMIT, FloatArray, ScaledFeatures, WrapsTransformer, without_names
from sknoisydim.metrics._information import normal_embedding

# Threshold, scale and shape of a generalised Pareto distribution.
Tail = tuple[float, float, float] | None

# Penalty of the linear decoder, in units of one sample of a whitened embedding, and the least
# variance of a residual's component, relative to its largest: smaller ones are rounding.
RIDGE, FLOOR = 1.0, 1e-3
# Share of the held-out samples that the tail is fitted to, and the least number of them.
TAIL_SHARE, TAIL_SAMPLES = 0.1, 20
# Where p-values come from: as many ranks as this, the most unusual, are left to the tail.
CALIBRATIONS: Mapping[str, float] = {"auto": 10, "distribution": np.inf, "conformal": 0}


class NoisyDIMOutlierDetector(OutlierMixin, WrapsTransformer):
    r"""Find samples that are unlike those of `fit`, with p-values.

    The score of a sample x is, up to a constant, the log density of its embedding z = f(x), and of
    what the embedding does not hold, averaged over `n_estimators` transformers:

    .. math:: \log p(z) - \tfrac13 \sum_{i=1}^3 \tfrac12 r_i^\top \Sigma_i^{-1} r_i

    with three residuals :math:`r_i` of covariances :math:`\Sigma_i`: of the standardised features,
    and of the scaled features that the encoder is given, each after a linear decoder of z; and of
    the scaled features after their mean alone.

    A share of the samples of `fit` is held out of the training of each transformer. Their scores
    give a score its p-value: the probability that a sample like those of `fit` is as unusual. The
    geometric mean over the transformers is taken, which is approximate: only e times as much is a
    p-value for certain. `calibration="conformal"` is exact.

    Parameters
    ----------
    transformer : NoisyDIMTransformer, FrozenEstimator or None, default=None
        What embeds samples. It is cloned and fitted, unless it is fitted already and comes in a
        `sklearn.frozen.FrozenEstimator`; `fit` then takes samples that it was not trained on. None
        takes ``NoisyDIMTransformer(keep="pca", keep_weight=10, refine="rotation")``.
    alpha : float, default=0.05
        Level of `predict`, between 0 and 1: the share of usual samples that are called outliers.
    fdr : float or None, default=None
        If not None, `predict` controls the false discovery rate over the samples of a call in place
        of the level (Benjamini and Hochberg): the expected share of usual samples among outliers.
    calibration : {"auto", "distribution", "conformal"}, default="auto"
        Where p-values come from. "conformal": the rank of a score among the n held-out ones, the
        same for all transformers: the level is exact, and no p-value is below 1 / (n + 1).
        "distribution": a generalised Pareto distribution, fitted to the tenth of the held-out
        scores that are the most unusual (at least 20). "auto": ranks, and the distribution where
        fewer than ten held-out scores are more unusual.
    calibration_fraction : float, default=0.25
        Share of the samples of `fit` that are held out of training, between 0 and 1.
    n_estimators : int, default=3
        Number of transformers, trained from different seeds.
    random_state : int, RandomState instance or None, default=None
        Which samples are held out, and the `random_state` of each transformer.

    Attributes
    ----------
    transformers_ : list of NoisyDIMTransformer
        The fitted transformers.
    calibration_scores_ : list of ndarray of shape (n,)
        Sorted scores of the samples held out of each transformer, or of all.
    tails_ : list of tuple of float or None
        Threshold, scale and shape of the distribution of minus each of these scores beyond the
        threshold; None where they are too few for it.
    offset_ : float
        Score of the p-value `alpha`; minus infinity where no p-value is that small.
    n_features_in_, feature_names_in_ : int, ndarray of shape (p,)
        Number of features seen in `fit`, and their names, where all are strings.

    Raises
    ------
    ValueError, TypeError
        By each method, if a parameter, or X, is not as documented.
    NotFittedError
        By all but `fit`, before it.

    See Also
    --------
    NoisyDIMTransformer : Its `score_samples` is the log density of the embedding alone.
    sklearn.ensemble.IsolationForest : Ranks samples without training, and has no p-values.

    References
    ----------
    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", Springer 2005, chapter 4.
    Bates et al., "Testing for Outliers with Conformal p-values", Annals of Statistics 51 (2023).
    Vovk, Wang, "Combining p-values via averaging", Biometrika 107 (2020). Zhang, Stephens, "A New
    and Efficient Estimation Method for the Generalized Pareto Distribution", Technometrics 51.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim import NoisyDIMOutlierDetector
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> detector = NoisyDIMOutlierDetector(n_estimators=1, random_state=0).fit(X)
    >>> detector.predict([[0, 0], [9, -9]])
    array([ 1, -1])
    """

    def __init__(
        self,
        transformer: BaseEstimator | None = None,
        *,
        alpha: float = 0.05,
        fdr: float | None = None,
        calibration: str = "auto",
        calibration_fraction: float = 0.25,
        n_estimators: int = 3,
        random_state: RandomState = None,
    ) -> None:
        self.transformer = transformer
        self.alpha = alpha
        self.fdr = fdr
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.n_estimators = n_estimators
        self.random_state = random_state

    def _fit(self, X: MatrixLike) -> None:
        self._check_levels()
        n_members = check_integer(self.n_estimators, "n_estimators", minimum=1)
        X, order, n_held_out, rng = self._to_split(X, least=1)
        n_members = 1 if self._is_frozen() else n_members
        # Ranks are exact where the same samples are held out of all.
        step = 0 if self.calibration == "conformal" else n_held_out
        self.transformers_, self._members, scores = [], [], []
        for k, seed in enumerate(rng.integers(np.iinfo(np.int32).max, size=n_members)):
            turned = np.roll(order, -k * step)
            held_out, others = X[turned[:n_held_out]], X[np.sort(turned[n_held_out:])]
            self.transformers_.append(self._embedder(others, int(seed)))
            self._members.append(_Member(self.transformers_[-1], others))
            scores.append(self._members[-1].score(held_out))
        if step == 0:
            scores = [np.mean(scores, axis=0)]
        self.calibration_scores_ = [np.sort(part) for part in scores]
        self.tails_ = [_fit_tail(-part[::-1]) for part in self.calibration_scores_]
        least = _p_values(np.array([-np.inf]), *self._calibration())[0]
        name, level = ("alpha", self.alpha) if self.fdr is None else ("fdr", self.fdr)
        hint = "" if self.tails_[0] is None else ", or calibration='auto'"
        if least > level:
            found = f"none reaches {name}={level:g}, and every sample is predicted to be usual"
        elif self.fdr is None or hint:
            return
        else:  # what the false discovery rate needs depends on the samples of a call
            found = f"with fdr={level:g} every sample is predicted to be usual, unless "
            found += f"{least / level:.0%} of those in a call, or more, are outliers"
        warnings.warn(
            f"no p-value is below {least:.3g} with {n_held_out} samples held out, so {found}. "
            f"Use more samples{hint}.",
            UserWarning,
            stacklevel=4,  # beyond `fit` and its decorator
        )

    @own_context()
    def score_samples(self, X: MatrixLike) -> FloatArray:
        """Log density of samples, up to a constant.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, with features as in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In nats, finite; the smaller, the more unusual.
        """
        check_is_fitted(self, "tails_")
        X = self._samples(X)
        return np.asarray(np.mean([member.score(X) for member in self._members], axis=0))

    def decision_function(self, X: MatrixLike) -> FloatArray:
        """Distance of each score from that of the p-value `alpha`: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, with features as in `fit`.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            `score_samples` minus `offset_`, in nats.
        """
        return self.score_samples(X) - self.offset_

    @property
    def offset_(self) -> float:
        """Score of the p-value `alpha`; minus infinity where no p-value is that small."""
        return _offset(self.alpha, *self._calibration())

    @own_context()
    def p_values(self, X: MatrixLike) -> FloatArray:
        """Probability of a usual sample to be as unusual as each one of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, with features as in `fit`.

        Returns
        -------
        pvalues : ndarray of shape (n_samples,)
            From 0 to 1; the smaller a score, the smaller its p-value, or the same.
        """
        return _p_values(self.score_samples(X), *self._calibration())

    @own_context()
    def predict(self, X: MatrixLike) -> NDArray[np.int64]:
        """Tell outliers from usual samples: by `alpha` each by itself, by `fdr` all together.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, with features as in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            -1 for outliers, 1 for usual samples.
        """
        self._check_levels()
        if self.fdr is None:
            return np.where(self.decision_function(X) < 0, -1, 1)
        return np.where(false_discovery_control(self.p_values(X)) <= self.fdr, -1, 1)

    def _calibration(self) -> tuple[list[FloatArray], list[Tail], float]:
        """Return held-out scores and their tail, part by part, and the ranks left to the tail."""
        self._check_levels()
        return self.calibration_scores_, self.tails_, CALIBRATIONS[self.calibration]

    def _check_levels(self) -> None:
        check_name(self.calibration, CALIBRATIONS, "calibration")
        check_real(self.alpha, "alpha", minimum=0, maximum=1, closed="neither")
        if self.fdr is not None:
            check_real(self.fdr, "fdr", minimum=0, maximum=1, closed="neither", also="None")


class _Member:
    """One fitted transformer, and what its embedding does not hold of samples."""

    def __init__(self, transformer: BaseEstimator, X: FloatArray) -> None:
        self.transformer = without_names(transformer)
        with np.errstate(over="ignore", invalid="ignore"):
            self.standard = StandardScaler().fit(X)
        self.scaled = ScaledFeatures(transformer, X)
        targets, z = self._views(X)
        self.mean, self.decoder = targets.mean(0), Ridge(RIDGE).fit(z, targets)
        self.whitenings = [_whitening(part) for part in self._residuals(X)]

    def score(self, X: FloatArray) -> FloatArray:
        """Return the log density of samples (n, p), up to a constant."""
        residuals = zip(self._residuals(X), self.whitenings, strict=True)
        squares = [np.square(part @ whitening).sum(1) for part, whitening in residuals]
        # Their mean: the three say much of the same, and their sum drowns the embedding.
        return np.asarray(self.transformer.score_samples(X) - np.mean(squares, axis=0) / 2)

    def _residuals(self, X: FloatArray) -> list[FloatArray]:
        """Return the three residuals of samples (n, p)."""
        targets, z = self._views(X)
        residual, p = targets - self.decoder.predict(z), X.shape[1]
        return [residual[:, :p], residual[:, p:], (targets - self.mean)[:, p:]]

    def _views(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return standardised features beside those that the encoder is given, and embeddings."""
        with np.errstate(over="ignore", invalid="ignore"):
            standard = np.clip(self.standard.transform(X), -LIMIT, LIMIT)
        z = normal_embedding(self.transformer, self.transformer._check(X), refined=False)
        return np.hstack([np.nan_to_num(standard), self.scaled(X)]), z


def _whitening(residual: FloatArray) -> FloatArray:
    """Return the matrix that maps residuals (n, p) to identity covariance."""
    values, vectors = np.linalg.eigh(residual.T @ residual / len(residual))
    largest = values[-1] if values[-1] > 0 else 1.0
    return vectors / np.sqrt(np.maximum(values, FLOOR * largest))


def _fit_tail(unusual: FloatArray) -> Tail:
    """Return threshold, scale and shape >= 0 of a generalised Pareto distribution of the largest.

    `unusual` is sorted, the largest last. The estimate is that of Zhang and Stephens (2009). A
    shape below 0 has an end, beyond which p-values were 0: it becomes 0, an exponential tail.
    """
    if len(unusual) < 2 * TAIL_SAMPLES:  # a tail of fewer is steep by chance
        return None
    k = max(TAIL_SAMPLES, int(TAIL_SHARE * len(unusual)))
    threshold = float(unusual[-k - 1])
    excess = unusual[-k:] - threshold
    mean = float(excess.mean())
    if mean <= 0:  # as good as all scores alike
        return None
    excess = np.maximum(excess, 1e-9 * mean)
    n_grid = 30 + int(np.sqrt(k))
    grid = 1 - np.sqrt(n_grid / (np.arange(n_grid) + 0.5))
    grid = grid / (3 * excess[max(int(k / 4 + 0.5) - 1, 0)]) + 1 / excess[-1]
    # Zero is no value of the profile likelihood, which is continuous there.
    grid = np.where(np.abs(grid) < 1e-9 / mean, 1e-9 / mean, grid)
    shapes = np.log1p(-grid[:, None] * excess).mean(1)
    likelihood = k * (np.log(-grid / shapes) - shapes - 1)
    weights = np.exp(likelihood - likelihood.max())
    center = float(grid @ weights / weights.sum())
    shape = float(np.log1p(-center * excess).mean())
    if shape <= 0:
        return threshold, mean, 0.0
    return threshold, -shape / center, shape


def _p_values(
    scores: FloatArray, held_out: list[FloatArray], tails: list[Tail], coarse: float
) -> FloatArray:
    """Return the geometric means of the p-values (n,) that each part of the held-out scores gives.

    These are ranks, and the tail where no more than `coarse` ranks are left. One part's vary by
    chance, in a tail by factors: their logarithms are averaged.
    """
    found: list[FloatArray] = []
    for part, tail in zip(held_out, tails, strict=True):
        n = len(part)
        p = (1 + np.searchsorted(part, scores, side="right")) / (n + 1)
        if tail is not None and coarse > 0:
            threshold, scale, shape = tail
            n_tail = int(np.searchsorted(part, -threshold, side="left"))
            start = part[int(min(n_tail, coarse)) - 1]
            t = np.maximum(-scores - threshold, 0) / scale
            log_p = -t if shape == 0 else -np.log1p(shape * t) / shape
            beyond = (n_tail + 1) / (n + 1) * np.exp(np.maximum(log_p, -700))
            # The rank where the tail starts bounds it: the more unusual has no larger p-value.
            bound = (1 + np.searchsorted(part, start, side="right")) / (n + 1)
            p = np.where(scores < start, np.minimum(beyond, bound), p)
        found.append(p)
    return found[0] if len(found) == 1 else np.exp(np.mean(np.log(found), axis=0))


def _offset(alpha: float, held_out: list[FloatArray], tails: list[Tail], coarse: float) -> float:
    """Return the smallest score with a p-value above alpha: p-values do not fall with the score."""

    def is_usual(score: float) -> bool:
        return bool(_p_values(np.array([score]), held_out, tails, coarse)[0] > alpha)

    if is_usual(-np.inf):
        return -np.inf
    high, step = max(float(part[-1]) for part in held_out), 1.0
    while is_usual(high - step):
        step *= 2
    low = high - step
    while low < (middle := low + (high - low) / 2) < high:
        low, high = (low, middle) if is_usual(middle) else (middle, high)
    return high
