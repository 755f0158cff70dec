"""NoisyDIMDriftMonitor: whether the distribution of new samples has moved since `fit`."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum
from scipy.special import ndtri, xlogy
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from sknoisydim._context import own_context
from sknoisydim._modules import RandomState
from sknoisydim._sources import MatrixLike
from sknoisydim._validation import check_integer, check_real
from sknoisydim._wrapped import FloatArray, ScaledFeatures, WrapsTransformer, without_names
from sknoisydim.metrics._information import normal_embedding
from sknoisydim.metrics._report import PARTS, DriftReport, drift_verdict

# Levels at which distribution functions are compared.
LEVELS = np.arange(1, 16) / 16
# Frequencies of the kernel's features for each width, and the widths in units of the median
# distance between two draws of N(0, I), about sqrt(2 d).
N_FREQUENCIES, WIDTHS = 64, (0.35, 0.7, 1.4)
# Principal components, at most: products of two of them are features. Variances below this share
# of the mean count as this (they are rounding), and whitened values beyond the bound as the bound,
# so that one sample does not decide on a mean.
MAX_PRINCIPAL, FLOOR, BOUND = 64, 1e-3, 5.0
# Random splits of the held-out samples, and how many of these samples are split at most. A split's
# batch is a half of them, and smaller by the ratio each time.
N_SPLITS, MAX_SPLIT_SAMPLES, SIZE_RATIO = 1000, 2048, 4
# Samples whose features are held in memory at a time.
SLICE = 2048
# Beyond the tenth largest of the splits' statistics p-values are those of an exponential tail,
# whose scale is the mean excess of the largest tenth.
TAIL, TAIL_SHARE = 10, 0.1
# Held-out samples below which a drift is found where there is none: their splits are too few.
FEW_SAMPLES = 20


class NoisyDIMDriftMonitor(WrapsTransformer):
    r"""Tell whether the distribution of a batch differs from that of `fit`.

    A share of the samples of `fit` trains an embedding z = f(x). Of the others, which are held out,
    only means and variances of bounded features :math:`\varphi(x)` are kept. With n of them, a
    batch of m samples, and the variance :math:`\sigma_k^2` of both together,

    .. math:: t_k = (\bar\varphi_k^{batch} - \bar\varphi_k^{held\,out})
              \, / \, \sigma_k \sqrt{1/m + 1/n}

    or, for a feature of 0 and 1, twice the log likelihood ratio in place of :math:`t_k^2`. Of three
    parts of the features the largest :math:`t_k^2` counts, of two their sum:

    - *columns*: whether a column is at most one of its quantiles.
    - *columns given the others*: the same of residuals of a linear model, and their squares.
    - *components*: the same of the components of z, and quantiles of N(0, 1).
    - *embedding* (sum): random Fourier features of z, for Gaussian kernels of three widths.
    - *second moments* (sum): products of components of z and of whitened principal components.

    Splits of the held-out samples at random, into a batch and the rest, give each statistic its
    p-value, and the smallest of the five p-values its own.

    Parameters
    ----------
    transformer : NoisyDIMTransformer, FrozenEstimator or None, default=None
        What embeds samples, as for `NoisyDIMOutlierDetector`.
    alpha : float, default=0.05
        Level, between 0 and 1: the probability of a false alarm for one batch, or with
        `batch_number` for all batches together. With few samples held out there are more.
    calibration_fraction : float, default=0.5
        Share of the samples of `fit` that are held out of training, between 0 and 1.
    random_state : int, RandomState instance or None, default=None
        Which samples are held out, the splits, and the `random_state` of the transformer.

    Attributes
    ----------
    transformer_ : NoisyDIMTransformer
        The fitted transformer.
    n_reference_ : int
        Number of held-out samples.
    n_features_in_, feature_names_in_ : int, ndarray of shape (p,)
        Number of features seen in `fit`, and their names, where all are strings.

    Raises
    ------
    ValueError, TypeError
        By each method, if a parameter, or X, is not as documented.
    NotFittedError
        By `check`, before `fit`.

    See Also
    --------
    NoisyDIMOutlierDetector : P-values of single samples.
    sknoisydim.metrics.mmd_test : A test of two samples that are both at hand.

    References
    ----------
    Gretton et al., "A Kernel Two-Sample Test", JMLR 13 (2012). Rahimi, Recht, "Random Features for
    Large-Scale Kernel Machines", NeurIPS 20 (2007). Westfall, Young, "Resampling-Based Multiple
    Testing", Wiley 1993, section 2.3: the smallest p-value, and which columns moved.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim import NoisyDIMDriftMonitor
    >>> rng = np.random.default_rng(0)
    >>> monitor = NoisyDIMDriftMonitor(random_state=0).fit(rng.normal(size=(1000, 3)))
    >>> report = monitor.check(rng.normal(size=(200, 3)) + [0, 0, 1])
    >>> report.drift, list(report.columns)
    (True, [2])
    """

    def __init__(
        self,
        transformer: BaseEstimator | None = None,
        *,
        alpha: float = 0.05,
        calibration_fraction: float = 0.5,
        random_state: RandomState = None,
    ) -> None:
        self.transformer = transformer
        self.alpha = alpha
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    def _fit(self, X: MatrixLike) -> None:
        X, order, n_held_out, rng = self._to_split(X, least=2)
        held_out, others = X[order[:n_held_out]], X[order[n_held_out:]]
        seed = int(rng.integers(np.iinfo(np.int32).max))
        self.transformer_ = without_names(self._embedder(others, seed))
        self._features = _Features(self.transformer_, others, rng)
        self._calibrate(held_out, rng)
        if n_held_out < FEW_SAMPLES:
            warnings.warn(
                f"with {n_held_out} samples held out, fewer than {FEW_SAMPLES}, false alarms are "
                f"several times as frequent as alpha={self.alpha:g} says. Use more samples, or a "
                "larger calibration_fraction.",
                UserWarning,
                stacklevel=4,  # beyond `fit` and its decorator
            )

    def _calibrate(self, held_out: FloatArray, rng: np.random.Generator) -> None:
        self.n_reference_ = len(held_out)
        self._mean, self._variance = self._features.moments(held_out)
        self._null = _Null(self._features, held_out[:MAX_SPLIT_SAMPLES], rng)

    @own_context()
    def check(self, X: MatrixLike, batch_number: int | None = None) -> DriftReport:
        r"""Compare a batch with the samples of `fit`. The monitor stays as it is.

        Parameters
        ----------
        X : array-like of shape (m, n_features)
            At least two samples, with features as in `fit`.
        batch_number : int or None, default=None
            k for the k-th batch since `fit`, from 1, whose level is :math:`\alpha / (k (k + 1))`.
            These add up to `alpha`, so that the probability of any false alarm in a sequence of
            batches is at most `alpha`. None: the level is `alpha` for each batch by itself.

        Returns
        -------
        report : sknoisydim.metrics.DriftReport
            P-values, effect sizes, what moved, and a sentence.
        """
        check_is_fitted(self, "_null")
        level = check_real(self.alpha, "alpha", minimum=0, maximum=1, closed="neither")
        if batch_number is not None:
            batch_number = k = check_integer(batch_number, "batch_number", minimum=1, also="None")
            level /= k * (k + 1)
        X = self._samples(X, ensure_min_samples=2)
        m, n, features = len(X), self.n_reference_, self._features
        mean, variance = features.moments(X)
        difference = mean - self._mean
        # Of both together, so that it does not matter which of them a rare value is in.
        pooled = (n * self._variance + m * variance) / (n + m)
        pooled += n * m / (n + m) ** 2 * np.square(difference)
        squares = features.squares((mean, m), (self._mean, n), pooled)
        largest = [_largest(squares[part], owner) for part, owner in features.owned]
        part_pvalues, pvalue, single = self._null.pvalues(m, features.statistics(squares), largest)
        names = getattr(self, "feature_names_in_", np.arange(self.n_features_in_)).tolist()
        distances = np.abs(difference[: features.n_shares])
        moved = []
        labels = (names, names, range(len(single[2])))
        for label, t, p, (part, owner) in zip(labels, largest, single, features.owned, strict=True):
            is_share = part < features.n_shares
            distance = _largest(distances[part[is_share]], owner[is_share])
            clearest = [i for i in np.argsort(-t, kind="stable") if p[i] <= level]
            moved.append({label[i]: float(distance[i]) for i in clearest})
        report = DriftReport(
            drift=pvalue <= level,
            pvalue=pvalue,
            level=level,
            part_pvalues=dict(zip(PARTS, part_pvalues.tolist(), strict=True)),
            effect_size=float(distances.max()),
            effect_size_by_chance=self._null.distance * float(np.sqrt(1 / m + 1 / n)),
            columns=moved[0],
            columns_given_others=moved[1],
            components=moved[2],
            n_samples=m,
            n_reference=n,
            batch_number=batch_number,
        )
        report.verdict = drift_verdict(report)
        return report


class _Features:
    """From samples to the bounded features whose means are compared."""

    def __init__(self, transformer: BaseEstimator, X: FloatArray, rng: np.random.Generator) -> None:
        self.transformer, d = transformer, transformer.n_components_
        self.scaled = ScaledFeatures(transformer, X)
        features = self.scaled(X)
        n_principal = min(MAX_PRINCIPAL, *features.shape)
        pca = PCA(n_principal, random_state=int(rng.integers(2**31 - 1)))
        with np.errstate(invalid="ignore"):  # shares of the variance, where there is none
            pca.fit(features)
        least = FLOOR * float(features.var(0).mean()) or 1.0
        self.mean, self.principal = pca.mean_, pca.components_
        self.deviations = np.sqrt(np.maximum(pca.explained_variance_, least))
        self.rest, self.scale = max(float(pca.noise_variance_), least), np.ones(features.shape[1])
        spread = self._linear(X)[1].std(0)
        # What the others determine, up to rounding, has no residual.
        self.scale = np.where(spread > 1e-6 * spread.max(), spread, np.inf)
        owner, level = _quantiles(self._linear(X)[1])
        normal = np.repeat(np.arange(d), len(LEVELS)), np.tile(ndtri(LEVELS), d)
        self.levels = _quantiles(X), (owner, level + 1e-6), normal  # equals differ by rounding
        widths = np.repeat(WIDTHS, N_FREQUENCIES) * np.sqrt(2 * d)
        self.frequencies = rng.standard_normal((d, len(widths))) / widths
        self.pairs = np.triu_indices(d + n_principal)
        # Features of each part, and for the first three which column or component each is of.
        owners = [owner for owner, _ in self.levels]
        sizes = [*map(len, owners), len(self.scale), 2 * len(widths), len(self.pairs[0])]
        *shares, squares, fourier, products = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        shares[1], owners[1] = np.r_[shares[1], squares], np.r_[owners[1], np.arange(len(squares))]
        self.n_shares, self.parts = int(squares[0]), [*shares, fourier, products]
        self.owned = list(zip(shares, owners, strict=True))
        self.least = np.zeros(sum(sizes), np.float32)
        self.least[squares], self.least[fourier], self.least[products] = 1.0, 0.5, 1.0

    def __call__(self, X: FloatArray) -> NDArray[np.float32]:
        """Return features (n, D) of samples (n, p)."""
        whitened, residuals = self._linear(X)
        z = np.clip(self._embedding(X), -BOUND, BOUND)
        both = np.hstack([z, np.clip(whitened, -BOUND, BOUND)])
        phases = z @ self.frequencies
        first, second = self.pairs
        blocks = [
            *(v[:, of] <= at for v, (of, at) in zip((X, residuals, z), self.levels, strict=True)),
            np.square(np.clip(residuals, -BOUND, BOUND)),
            np.cos(phases),
            np.sin(phases),
            both[:, first] * both[:, second],
        ]
        return np.hstack([block.astype(np.float32) for block in blocks])

    def _embedding(self, X: FloatArray) -> FloatArray:
        return normal_embedding(self.transformer, self.transformer._check(X))

    def _linear(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return whitened principal components, and residuals of each column by the others.

        The latter are those of the Gaussian whose covariance has these principal components, and
        one variance for all directions beyond them: the rows of its inverse, times the column.
        """
        features = self.scaled(X) - self.mean
        projected = features @ self.principal.T
        whitened = projected / self.deviations
        beyond = (features - projected @ self.principal) / self.rest
        residuals = whitened / self.deviations @ self.principal + beyond
        return whitened, residuals / self.scale

    def moments(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of each feature."""
        values = (self(X[part]).astype(np.float64) for part in gen_batches(len(X), SLICE))
        sums = [(part.sum(0), np.square(part).sum(0)) for part in values]
        mean, square = np.sum(sums, axis=0) / len(X)
        return mean, np.maximum(square - np.square(mean), 0.0)

    def squares(
        self, batch: tuple[np.ndarray, int], rest: tuple[np.ndarray, int], variance: np.ndarray
    ) -> FloatArray:
        """Return how unlike two samples are, of the means and the size of each: (..., D).

        No feature but shares counts as less variable than for N(0, I): the few samples in which a
        rare product is not 0 would decide. What does not vary, up to rounding, is no difference.
        """
        (mean, m), (other, n), k = batch, rest, self.n_shares
        variance = np.maximum(variance, self.least)
        varies = variance > 1e-7
        scale = np.where(varies, variance * (1 / m + 1 / n), 1.0)
        found = np.where(varies, np.square(mean - other) / scale, 0.0)
        found[..., :k] = _deviance(mean[..., :k], m, other[..., :k], n)
        return found

    def statistics(self, squares: FloatArray) -> FloatArray:
        """Return the statistic of each part (..., 5), of squares (..., D)."""
        of = [squares[..., part] for part in self.parts]
        return np.stack([*(v.max(-1) for v in of[:3]), *(v.sum(-1) for v in of[3:])], axis=-1)


class _Null:
    """What statistics are when a batch is a random part of the held-out samples."""

    def __init__(self, features: _Features, held_out: FloatArray, rng: np.random.Generator) -> None:
        n, values = len(held_out), features(held_out)
        mean = values.mean(0, dtype=np.float64).astype(np.float32)
        values -= mean
        variance = np.square(values).mean(0)
        self.sizes = [max(n // 2, 1)]
        while self.sizes[-1] >= 2 * SIZE_RATIO:
            self.sizes.append(self.sizes[-1] // SIZE_RATIO)
        self.parts, self.smallest = [], []
        for m in self.sizes:
            batch = rng.permuted(np.tile(np.arange(n) < m, (N_SPLITS, 1)), axis=1)
            weights = np.where(batch, np.float32(1 / m), np.float32(-1 / (n - m)))
            difference, scale = weights @ values, 1 / m + 1 / (n - m)
            of_batch, of_rest = mean + (1 - m / n) * difference, mean - m / n * difference
            squares = features.squares((of_batch, m), (of_rest, n - m), variance)
            statistics = features.statistics(squares).T.astype(np.float32)
            parts = np.sort(statistics, axis=1)
            p = [_pvalues(of, null, own=True) for of, null in zip(statistics, parts, strict=True)]
            self.parts.append(parts)
            self.smallest.append(np.sort(-np.log(np.min(p, axis=0))).astype(np.float32))
            if m == self.sizes[0]:
                furthest = np.abs(difference[:, : features.n_shares]).max(1)
                self.distance = float(np.median(furthest) / np.sqrt(scale))

    def pvalues(
        self, m: int, statistics: FloatArray, largest: list[FloatArray]
    ) -> tuple[FloatArray, float, list[FloatArray]]:
        """Return p-values of the parts, of the smallest of them, and of columns and components.

        The last are corrected for all others and for all parts.
        """
        logs = []
        for nulls, smallest in zip(self.parts, self.smallest, strict=True):
            p = np.array([_pvalues(t, null) for t, null in zip(statistics, nulls, strict=True)])
            single = [_pvalues(t, null) for t, null in zip(largest, nulls, strict=False)]
            overall = [_pvalues(-np.log(x), smallest) for x in (p.min(), *single)]
            logs.append(np.log(np.hstack([p, *overall])))
        # Between two sizes of splits a p-value is interpolated, on logarithmic scales.
        sizes, rows = np.log(self.sizes[::-1]), np.array(logs[::-1])
        found = np.exp([np.interp(np.log(m), sizes, column) for column in rows.T])
        k = len(statistics)
        # Corrected for the other parts none is smaller, whatever the tails that are fitted say.
        found[k] = max(found[k], found[:k].min())
        cuts = np.cumsum([len(t) for t in largest])[:-1]
        return found[:k], float(found[k]), np.split(found[k + 1 :], cuts)


def _quantiles(values: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Return the column of each level of columns (n, p), one after the other, and the levels."""
    levels = []
    for column in values.T:
        column = column[~np.isnan(column)]
        found = np.quantile(column if len(column) else [0.0], LEVELS, method="inverted_cdf")
        # Below the lowest, too: a column of few values may get a smaller one.
        found = np.unique(np.r_[np.nextafter(found[0], -np.inf), found])
        levels.append(found)
    return np.repeat(np.arange(len(levels)), [*map(len, levels)]), np.concatenate(levels)


def _largest(values: FloatArray, owner: NDArray[np.intp]) -> FloatArray:
    """Return the largest of the values of each owner."""
    return np.asarray(maximum(values, owner, np.arange(owner.max() + 1)))


def _deviance(share: np.ndarray, m: int, other: np.ndarray, n: int) -> np.ndarray:
    """Return twice the log likelihood ratio of shares of m and of n samples being different."""
    share, other = np.clip(share, 0.0, 1.0), np.clip(other, 0.0, 1.0)
    both = (m * share + n * other) / (m + n)
    a, b, c = (xlogy(p, p) + xlogy(1 - p, 1 - p) for p in (share, other, both))
    gain = m * a + n * b - (m + n) * c
    return np.maximum(2 * gain, 0.0)


def _pvalues(statistics: ArrayLike, null: NDArray[np.float32], *, own: bool = False) -> FloatArray:
    """Return the probability of statistics at least as large as these.

    `null` is sorted. P-values are ranks, and those of an exponential tail beyond the `TAIL`
    largest: that of a quadratic form of normal variables is exponential, of a maximum shorter.
    `own` statistics are those of `null`, and none is counted as one of the others.
    """
    n = len(null)
    values = np.asarray(statistics, dtype=np.float32)
    others = n - np.searchsorted(null, values, side="left") - own
    p = (1 + others) / (n + 1)
    k = int(TAIL_SHARE * n)
    scale = float(np.mean(null[-k:] - null[-k - 1]))
    if scale <= 0:
        return np.asarray(p)
    beyond = (values.astype(np.float64) - null[-TAIL]) / scale
    tail = TAIL / (n + 1) * np.exp(-np.clip(beyond, 0, 600))
    return np.where(beyond > 0, tail, p)
