"""What is drawn of embedded samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import ndtr, ndtri
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, column_or_1d

from sknoisydim._sources import MatrixLike
from sknoisydim._validation import check_integer, check_real
from sknoisydim.metrics import _samples
from sknoisydim.metrics._information import find_step
from sknoisydim.metrics._samples import FloatArray
from sknoisydim.targets import Target, resolve_target

from ._axes import BAND, PALETTE, SAMPLES, TARGET, TINY, Display, Place, color_bar, outside, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASSES = (0.5, 0.95)
MAX_PAIRS, MAX_COMPONENTS = 3, 4
MARKERS = ("o", "^", "s")
MAX_CLASSES = len(MARKERS) * len(PALETTE)
N_DRAWS = 1000
# Points of a Q-Q line, at most: more are not seen.
MAX_POINTS = 400


@dataclass(eq=False, repr=False)
class _OfSamples(Display):
    embedding: ArrayLike
    target: object = "normal"

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, X: MatrixLike, *args: object, **params: Any
    ) -> Self:
        """Embed samples with a fitted transformer, and draw them.

        Parameters
        ----------
        estimator : NoisyDIMTransformer, Pipeline or fitted search
            As of `sknoisydim.metrics.mutual_information`.
        X : array-like of shape (n_samples, n_features)
            Samples, at least two.
        *args, **params : object
            Passed to `from_embedding`, after the embedding and its target.

        Returns
        -------
        display : object
            The display, drawn.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As of `sknoisydim.metrics.mutual_information` and of `plot`.
        """
        transformer, before = find_step(estimator)
        for steps in before:
            X = steps.transform(X)
        Z = transformer.transform(X)
        return cls.from_embedding(Z, transformer.target_, *args, **params)

    @classmethod
    def from_embedding(
        cls, Z: ArrayLike, target: object = "normal", *args: object, ax: Place = None, **params: Any
    ) -> Self:
        """Draw embedded samples.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Embedded samples.
        target : str, object or sequence, default="normal"
            Their target, as for `NoisyDIMTransformer`.
        *args : object
            Other parameters of the class, in their order.
        ax : matplotlib Axes or array of them, default=None
            As of `plot`.
        **params : object
            Other parameters of the class, by name.

        Returns
        -------
        display : object
            The display, drawn.
        """
        return cls(Z, target, *args, **params).plot(ax)


@dataclass(eq=False, repr=False)
class EmbeddingDisplay(_OfSamples):
    """Scatter plots of pairs of components, over regions that hold a known share of the target.

    The inner curve holds 50 %, the outer 95 % of the target's mass; the title says which share of
    the samples lies inside each. Where the target's map mixes more than the two components, draws
    of the target in grey stand in for the curves.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        Embedded samples, of two components at least.
    target : str, object or sequence, default="normal"
        Their target, as for `NoisyDIMTransformer`.
    y : array-like of shape (n_samples,), default=None
        What colours the samples: numbers, or at most 24 classes, which is what colours tell apart.
    pairs : list of pairs of int, default=None
        Components to draw against each other; None takes the first three pairs.

    Attributes
    ----------
    coverage_ : ndarray of shape (n_pairs, 2)
        Share of the samples inside the curves that hold 50 % and 95 %; NaN without curves.
    """

    y: ArrayLike | None = None
    _: KW_ONLY
    pairs: Sequence[Sequence[int]] | None = None

    def _draw(self, ax: Place) -> np.ndarray:
        Z = _samples.check_sample(self.embedding)
        target = resolve_target(self.target, Z.shape[1])
        if self.y is not None:
            check_consistent_length(Z, column_or_1d(self.y))
        pairs = _check_pairs(self.pairs, Z.shape[1])
        groups, size = _groups(self.y), float(np.clip(6000 / len(Z), 3, 14))
        self.axes_ = panels(ax, 1, len(pairs), (3.6, 3.6))[0]
        z = target.pull(Z)
        self.coverage_ = np.full((len(pairs), len(MASSES)), np.nan)
        for number, ((i, j), axis) in enumerate(zip(pairs, self.axes_, strict=True)):
            if _stands_alone(target, i, j, Z.shape[1]):
                self.coverage_[number] = _curves(axis, target, z, i, j)
            else:
                draws = target.sample(N_DRAWS, random_state=0)
                axis.scatter(draws[:, i], draws[:, j], s=6, c="0.8", linewidths=0, zorder=1)
                axis.set_title("grey: draws of the target")
            for of, look in groups:
                points = {"s": size, "linewidths": 0, "zorder": 2} | look
                drawn = axis.scatter(Z[of, i], Z[of, j], **points)
            axis.set(xlabel=f"component {i}", ylabel=f"component {j}")
            if 0.67 < np.ptp(axis.get_xlim()) / np.ptp(axis.get_ylim()) < 1.5:
                axis.set_aspect("equal", adjustable="datalim")
        # Beside the last pair, what the colours mean.
        if "label" in look:
            scale = {"markerscale": np.sqrt(25 / size), "ncols": -(-len(groups) // 12)}
            tight = {"handletextpad": 0.1, "borderaxespad": 0.1}
            axis.legend(**scale, **tight, **outside(axis, "upper left", (1.0, 1.0)))
        elif self.y is not None:
            color_bar(drawn, list(self.axes_), "y")
        return self.axes_


def _curves(axis: Axes, target: Target, z: FloatArray, i: int, j: int) -> list[float]:
    """Draw the curves of `MASSES`; return the shares of normal samples z (n, d) inside."""
    radii = np.sqrt(stats.chi2.ppf(MASSES, 2))
    shares = [float((np.hypot(z[:, i], z[:, j]) <= radius).mean()) for radius in radii]
    texts = (f"{s:.0%} (of {mass:.0%})" for s, mass in zip(shares, MASSES, strict=True))
    axis.set_title(f"samples inside: {', '.join(texts)}")
    angle = np.linspace(0, 2 * np.pi, 361)
    circle = np.zeros((len(angle), z.shape[1]))
    circle[:, i], circle[:, j] = np.cos(angle), np.sin(angle)
    for radius, width in zip(radii, (1.6, 1.0), strict=True):
        curve = np.asarray(target.push(radius * circle))
        axis.plot(curve[:, i], curve[:, j], color="black", linewidth=width, zorder=3)
    return shares


@dataclass(eq=False, repr=False)
class TargetFitDisplay(_OfSamples):
    r"""Histogram of the PIT and Q-Q line of each component, with sampling bands.

    Above, the histogram of the probability integral transform :math:`\Phi(z_i)` of component
    :math:`z_i` of the N(0, I) pre-image, flat for a perfect match; below, its sorted values against
    the quantiles of N(0, 1), on the diagonal for a perfect match. Each bar and each point of a
    sample of the target stays inside the grey band with probability `level` or more, by itself.
    They say nothing about the joint distribution: see `sknoisydim.metrics.classifier_auc`.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        Embedded samples.
    target : str, object or sequence, default="normal"
        Their target, as for `NoisyDIMTransformer`.
    level : float, default=0.95
        Probability of the bands, between 0 and 1.
    components : list of int, default=None
        Components to draw; None takes the first four.

    Attributes
    ----------
    outside_ : ndarray of shape (2, n_components)
        Share of the bars, and of the points, outside the band.
    """

    _: KW_ONLY
    level: float = 0.95
    components: Sequence[int] | None = None

    def _draw(self, ax: Place) -> np.ndarray:
        z = _samples.normal_preimage(self.embedding, self.target, test="TargetFitDisplay")
        chosen = self.components
        level = check_real(self.level, "level", minimum=0, maximum=1, closed="neither")
        if chosen is None:
            chosen = range(min(z.shape[1], MAX_COMPONENTS))
        if np.ndim(chosen) != 1 or len(chosen) == 0:
            raise TypeError(f"components must be a list of positions or None, got {chosen!r}.")
        for i in chosen:
            check_integer(i, "each of components", minimum=0, maximum=z.shape[1] - 1)
        self.axes_ = panels(ax, 2, len(chosen), (2.5 if len(chosen) > 1 else 3.4, 2.4))
        self.outside_ = np.empty((2, len(chosen)))
        for column, i in enumerate(chosen):
            above, below = self.axes_[:, column]
            self.outside_[:, column] = _histogram(above, z[:, i], level), _qq(below, z[:, i], level)
            above.set(title=f"component {i}", xlabel="PIT", ylabel="" if column else "density")
            below.set(xlabel="normal quantile", ylabel="" if column else "quantile of the samples")
        return self.axes_


@dataclass(eq=False, repr=False)
class DependenceDisplay(_OfSamples):
    r"""Heat map of the dependence between components, in the N(0, I) pre-image.

    Below the diagonal Pearson's correlation :math:`|r(z_i, z_j)|`, above it that of the squares,
    :math:`|r(z_i^2, z_j^2)|`, which sees dependence without correlation. Both are zero for a
    perfect match; the title says what sampling leaves.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        Embedded samples, of two components at least.
    target : str, object or sequence, default="normal"
        Their target, as for `NoisyDIMTransformer`.

    Attributes
    ----------
    dependence_ : ndarray of shape (n_components, n_components)
        Absolute correlations: of the components below the diagonal, of their squares above.
    image_ : matplotlib AxesImage
        The heat map.
    """

    def _draw(self, ax: Place) -> np.ndarray:
        z = _samples.normal_preimage(self.embedding, self.target, test="DependenceDisplay")
        n, d = z.shape
        if d < 2:
            raise ValueError("dependence needs at least two components, got one.")
        below, above = (np.abs(_samples.correlation_matrix(of)) for of in (z, np.square(z)))
        self.dependence_ = values = np.tril(below, -1) + np.triu(above, 1)
        np.fill_diagonal(values, np.nan)
        axes = panels(ax, 1, 1, (5.0, 4.2))
        axis = self.ax_ = axes[0, 0]
        self.image_ = axis.imshow(values, cmap="cividis", vmin=0, vmax=1)
        axis.set_facecolor("0.9")
        ticks = range(0, d, max(1, -(-d // 10)))
        # Largest of d (d - 1) / 2 independent correlations, each close to N(0, 1 / n).
        left = stats.norm.isf(0.05 / (d * (d - 1))) / np.sqrt(n)
        axis.set(xticks=ticks, yticks=ticks, xlabel="component", ylabel="component")
        said = f"sampling leaves up to {left:.2f}"
        axis.set_title(f"below the diagonal: correlation; above: of squares\n{said}")
        for i, j in np.argwhere(np.isfinite(values)) if d <= 8 else ():
            look = {"fontsize": TINY, "ha": "center", "va": "center"}
            color = "white" if values[i, j] < 0.5 else "black"
            axis.text(j, i, f"{values[i, j]:.2f}", color=color, **look)
        color_bar(self.image_, [axis], "absolute correlation")
        return axes


def _check_pairs(pairs: Sequence[Sequence[int]] | None, d: int) -> list[tuple[int, int]]:
    if d < 2:
        raise ValueError("a pair needs at least two components, got one: see TargetFitDisplay.")
    if pairs is None:
        return [(i, i + 1) for i in range(0, d - 1, 2)][:MAX_PAIRS]
    if len(pairs) == 0 or any(np.shape(pair) != (2,) for pair in pairs):
        raise ValueError(f"pairs must be pairs of positions such as [(0, 1)], got {pairs!r}.")
    check = partial(check_integer, name="a position in pairs", minimum=0, maximum=d - 1)
    return [(check(i), check(j)) for i, j in pairs]


def _groups(y: ArrayLike | None) -> list[tuple[slice | np.ndarray, dict[str, object]]]:
    """Return which samples are drawn alike, and how: classes, or all by their numbers, if any."""
    if y is None:
        return [(slice(None), {"c": SAMPLES, "alpha": 0.6})]
    y, n = np.asarray(y), len(PALETTE)
    found = np.unique(y)
    if len(found) <= MAX_CLASSES and (y.dtype.kind != "f" or (found == np.round(found)).all()):
        return [
            (y == label, {"color": PALETTE[k % n], "marker": MARKERS[k // n], "label": str(label)})
            for k, label in enumerate(found)
        ]
    if y.dtype.kind in "OUS":
        raise ValueError(f"y has {len(found)} classes; colours tell {MAX_CLASSES} apart at most.")
    return [(slice(None), {"c": y, "cmap": "viridis"})]


def _stands_alone(target: Target, i: int, j: int, d: int) -> bool:
    """Tell whether components i and j of the target come from the same two of N(0, I) alone."""
    z = np.random.default_rng(0).standard_normal((16, d))
    others = z.copy()
    others[:, [k for k in range(d) if k not in (i, j)]] *= -0.5
    first, second = (np.asarray(target.push(values))[:, [i, j]] for values in (z, others))
    return bool(np.allclose(first, second, equal_nan=True))


def _histogram(axis: Axes, z: FloatArray, level: float) -> float:
    """Draw the histogram of the PIT; return the share of bars outside the band."""
    n = len(z)
    bins = int(np.clip(n // 25, 5, 20))
    counts, edges = np.histogram(ndtr(z), bins=bins, range=(0, 1))
    low, high = stats.binom.interval(level, n, 1 / bins)
    axis.axhspan(low * bins / n, high * bins / n, color=BAND, zorder=0)
    axis.stairs(counts * bins / n, edges, fill=True, color=SAMPLES, alpha=0.4, zorder=1)
    axis.stairs(counts * bins / n, edges, color=SAMPLES, zorder=2)
    axis.axhline(1, color=TARGET, linewidth=1.2, zorder=3)
    axis.set(xlim=(0, 1), ylim=(0, None), xticks=(0, 0.5, 1))
    return float(((counts < low) | (counts > high)).mean())


def _qq(axis: Axes, z: FloatArray, level: float) -> float:
    """Draw the Q-Q line; return the share of points outside the band."""
    n = len(z)
    rank = np.arange(1, n + 1)
    expected = ndtri((rank - 0.5) / n)
    # The k-th smallest of n uniform numbers follows a beta distribution.
    order = stats.beta(rank, n + 1 - rank)
    low, high = (np.asarray(ndtri(order.ppf(q))) for q in ((1 - level) / 2, (1 + level) / 2))
    ordered = np.sort(z)
    # Both ends in full, where it matters; thinned between.
    ends = min(n // 2, 20)
    thinned = np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(int)
    shown = np.unique(np.r_[:ends, thinned, n - ends : n])
    axis.fill_between(expected[shown], low[shown], high[shown], color=BAND, linewidth=0, zorder=0)
    axis.plot(expected[[0, -1]], expected[[0, -1]], color=TARGET, linewidth=1.2, zorder=1)
    axis.plot(expected[shown], ordered[shown], ".", color=SAMPLES, markersize=3, zorder=2)
    return float(((ordered < low) | (ordered > high)).mean())
