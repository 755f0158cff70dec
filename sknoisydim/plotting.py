"""Pictures of a fit, of embedded samples and of a search, as scikit-learn Display classes.

Each display holds what its `plot` draws, on given axes or on a new figure. matplotlib (the extra
`plot`) is imported when something is drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import ndtr, ndtri
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, column_or_1d

from sknoisydim._context import own_context
from sknoisydim._sources import MatrixLike
from sknoisydim._validation import check_integer, check_name, check_real
from sknoisydim.metrics import _samples
from sknoisydim.metrics._information import find_step
from sknoisydim.metrics._samples import FloatArray
from sknoisydim.targets import Target, resolve_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

__all__ = [
    "DependenceDisplay",
    "EmbeddingDisplay",
    "TargetFitDisplay",
    "TradeOffDisplay",
    "TrainingDisplay",
]

Place: TypeAlias = "Axes | Sequence[Axes] | np.ndarray | None"  # where a user lets draw

# Okabe and Ito's colours, which stay apart for colour-blind eyes; their yellow, too light for
# points on white, comes last.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
SAMPLES, TARGET, BAND, REFERENCE = PALETTE[0], PALETTE[5], "0.85", "0.35"
SMALL, TINY = 9, 8
LEGEND = {"fontsize": TINY, "framealpha": 0.7, "edgecolor": "none"}
CENTRE = {"fontsize": TINY, "ha": "center", "va": "center"}

MASSES, MARKERS = (0.5, 0.95), ("o", "^", "s")
MAX_CLASSES = len(MARKERS) * len(PALETTE)
MAX_PAIRS, MAX_COMPONENTS, N_DRAWS = 3, 4, 1000
# Points of a Q-Q line, at most: more are not seen.
MAX_POINTS = 400
# Keys of `history_`, with the name, colour and line style of their curves.
CURVES = {
    "train_information": ("information, training", PALETTE[0], "-"),
    "train_view_information": ("view and sample", PALETTE[1], "--"),
    "train_clean_information": ("sample itself", PALETTE[2], "-."),
    "train_linear_information": ("linear: reference features, y", PALETTE[3], "-"),
    "valid_information": ("information, held out", PALETTE[5], "-"),
}


class _Display:
    # Each display's own: what an estimator and samples give it; to draw, and return the axes.
    _fields: Callable[..., tuple[Any, ...]]
    _draw: Callable[[Place], Any]

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, X: Any = None, *args: Any, ax: Place = None, **params: Any
    ) -> Self:
        """Draw a fitted transformer, samples that it embeds, or a search.

        Parameters
        ----------
        estimator : NoisyDIMTransformer, Pipeline or fitted search
            As of `sknoisydim.metrics.mutual_information`; of TradeOffDisplay any fitted search with
            several scores.
        X : array-like of shape (n_samples, n_features), default=None
            Samples to embed, at least two; TrainingDisplay and TradeOffDisplay take none.
        *args : object
            Other parameters of the class, behind what the estimator and X give.
        ax : matplotlib Axes or array of them, default=None
            As of `plot`.
        **params : object
            Other parameters of the class, by name.

        Returns
        -------
        display : object

        Raises
        ------
        NotFittedError, ValueError, TypeError
            If there is no such fitted estimator, or more than one transformer; and as of `plot`.
        """
        of_samples = issubclass(cls, _OfSamples)
        if of_samples is (X is None):
            wanted = "samples to embed, X" if of_samples else "no X"
            raise TypeError(f"{cls.__name__}.from_estimator takes {wanted}.")
        fields = cls._fields(estimator, *[X] * of_samples)
        return cls(*fields, *args, **params).plot(ax)

    @own_context()
    def plot(self, ax: Place = None) -> Self:
        """Draw on the given axes, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one for each panel, or one that is divided; None makes a figure.

        Returns
        -------
        self : object
            The display, with `figure_`, and `axes_` or for one panel `ax_`.

        Raises
        ------
        ValueError, TypeError
            If what the display holds is not as documented, or `ax` has another number of axes.
        """
        axes = np.ravel(self._draw(ax))
        self.figure_ = axes[0].figure
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=TINY)
            for text in (axis.xaxis.label, axis.yaxis.label, axis.title):
                text.set_fontsize(SMALL)
        return self


@dataclass(eq=False, repr=False)
class _OfSamples(_Display):
    embedding: ArrayLike
    target: object = "normal"

    @staticmethod
    def _fields(estimator: BaseEstimator, X: MatrixLike) -> tuple[ArrayLike, object]:
        transformer, before = find_step(estimator)
        for steps in before:
            X = steps.transform(X)
        return transformer.transform(X), transformer.target_

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
        self.axes_, z = _panels(ax, 1, len(pairs), (3.6, 3.6))[0], target.pull(Z)
        self.coverage_ = np.full((len(pairs), len(MASSES)), np.nan)
        for (i, j), axis, shares in zip(pairs, self.axes_, self.coverage_, strict=True):
            if _stands_alone(target, i, j, Z.shape[1]):
                shares[:] = _curves(axis, target, z, i, j)
            else:
                draws = target.sample(N_DRAWS, random_state=0)
                axis.scatter(draws[:, i], draws[:, j], s=6, c="0.8", linewidths=0, zorder=1)
                axis.set_title("grey: draws of the target")
            for of, look in groups:
                drawn = axis.scatter(Z[of, i], Z[of, j], s=size, linewidths=0, zorder=2, **look)
            axis.set(xlabel=f"component {i}", ylabel=f"component {j}")
            if 0.67 < np.ptp(axis.get_xlim()) / np.ptp(axis.get_ylim()) < 1.5:
                axis.set_aspect("equal", adjustable="datalim")
        # Beside the last pair, what the colours mean.
        if "label" in look:
            scale = {"markerscale": np.sqrt(25 / size), "ncols": -(-len(groups) // 12)}
            tight = {"handletextpad": 0.1, "borderaxespad": 0.1}
            axis.legend(**scale, **tight, **_outside(axis, "upper left", (1.0, 1.0)))
        elif self.y is not None:
            _color_bar(drawn, list(self.axes_), "y")
        return self.axes_


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
        level = check_real(self.level, "level", minimum=0, maximum=1, closed="neither")
        first = range(min(z.shape[1], MAX_COMPONENTS))
        chosen = first if self.components is None else self.components
        if np.ndim(chosen) != 1 or len(chosen) == 0:
            raise TypeError(f"components must be a list of positions or None, got {chosen!r}.")
        for i in chosen:
            check_integer(i, "each of components", minimum=0, maximum=z.shape[1] - 1)
        self.axes_ = _panels(ax, 2, len(chosen), (2.5 if len(chosen) > 1 else 3.4, 2.4))
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

    def _draw(self, ax: Place) -> Axes:
        z = _samples.normal_preimage(self.embedding, self.target, test="DependenceDisplay")
        n, d = z.shape
        if d < 2:
            raise ValueError("dependence needs at least two components, got one.")
        below, above = (np.abs(_samples.correlation_matrix(of)) for of in (z, np.square(z)))
        self.dependence_ = values = np.tril(below, -1) + np.triu(above, 1)
        np.fill_diagonal(values, np.nan)
        axis = self.ax_ = _panels(ax, 1, 1, (5.0, 4.2))[0, 0]
        self.image_ = axis.imshow(values, cmap="cividis", vmin=0, vmax=1)
        axis.set_facecolor("0.9")
        ticks = range(0, d, max(1, -(-d // 10)))
        # Largest of d (d - 1) / 2 independent correlations, each close to N(0, 1 / n).
        left = stats.norm.isf(0.05 / (d * (d - 1))) / np.sqrt(n)
        axis.set(xticks=ticks, yticks=ticks, xlabel="component", ylabel="component")
        title = "below the diagonal: correlation; above: of squares\nsampling leaves up to"
        axis.set_title(f"{title} {left:.2f}")
        for i, j in np.argwhere(np.isfinite(values)) if d <= 8 else ():
            color = "white" if values[i, j] < 0.5 else "black"
            axis.text(j, i, f"{values[i, j]:.2f}", color=color, **CENTRE)
        _color_bar(self.image_, [axis], "absolute correlation")
        return axis


@dataclass(eq=False, repr=False)
class TrainingDisplay(_Display):
    r"""Information by epoch, with what bounds it: the capacity, and :math:`\log B`.

    A curve that is still rising at its end wants more epochs; one that lies at :math:`\log B`,
    which a batch of B samples cannot exceed, wants more noise.

    Parameters
    ----------
    history : dict of lists
        Nats by epoch, with keys as in the `history_` of a fitted transformer.
    capacity : float
        Capacity of the channel, in nats.
    batch_size : int
        Samples in a batch.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The curves.
    """

    history: Mapping[str, Sequence[float]]
    capacity: float
    batch_size: int

    @staticmethod
    def _fields(estimator: BaseEstimator) -> tuple[Any, ...]:
        step, _ = find_step(estimator)
        return step.history_, step.capacity_, step.batch_size_

    def _draw(self, ax: Place) -> Axes:
        axis = self.ax_ = _panels(ax, 1, 1, (6.0, 3.6))[0, 0]
        self.lines_ = []
        for key, (name, color, style) in CURVES.items():
            nats = np.asarray(self.history.get(key, ()), dtype=float)
            if nats.any() and np.isfinite(nats).any():  # 0 throughout: no part of the objective
                marker = "o" if len(nats) == 1 else ""
                look: dict[str, Any] = {"color": color, "marker": marker, "label": name}
                self.lines_ += axis.plot(np.arange(1, len(nats) + 1), nats, style, **look)
        # The two levels lie close together by default, so each says what it is in the legend.
        levels = {f"log({self.batch_size})": math.log(self.batch_size), "capacity": self.capacity}
        for (name, level), style in zip(levels.items(), ":-", strict=True):
            label = f"{name} = {level:.2f}"
            axis.axhline(level, color=REFERENCE, linestyle=style, linewidth=1, label=label)
        axis.locator_params(axis="x", integer=True)
        axis.set(xlabel="epoch", ylabel="information (nats)")
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        axis.legend(loc="best", **LEGEND)
        return axis


@dataclass(eq=False, repr=False)
class TradeOffDisplay(_Display):
    """Two scores of a grid search against each other, with the settings that no other beats.

    These are joined by a line and labelled; the others are grey. Bars are standard errors.

    Parameters
    ----------
    results : dict
        The `cv_results_` of a search with several scores.
    x : str, default="match"
        Name of a score, a key of its `scoring`; more is better.
    y : str, default="accuracy"
        Name of the other score.

    Attributes
    ----------
    best_ : ndarray of int
        Positions of the settings that no other beats, by rising x.
    """

    results: Mapping[str, Any]
    _: KW_ONLY
    x: str = "match"
    y: str = "accuracy"

    @staticmethod
    def _fields(estimator: object) -> tuple[Mapping[str, Any]]:
        results = getattr(estimator, "cv_results_", None)
        if results is None:
            kind = type(estimator).__name__
            raise TypeError(f"estimator must be a fitted grid search, got a {kind}.")
        return (results,)

    def _draw(self, ax: Place) -> Axes:
        (x, x_error), (y, y_error) = self._score("x"), self._score("y")
        axis = self.ax_ = _panels(ax, 1, 1, (6.0, 4.0))[0, 0]
        settings = self.results["params"]
        self.best_ = best = _unbeaten(x, y)
        axis.errorbar(x, y, y_error, x_error, fmt="o", color="0.7", markersize=4, lw=0.8)
        axis.plot(x[best], y[best], "-", color=REFERENCE, lw=1, zorder=3)
        # A number at the point and its setting in the legend: labels of neighbours would overlap.
        for number, k in enumerate(best, start=1):
            label = f"{number}: {_label(settings[k], settings)}"
            axis.plot(x[k], y[k], "o", color=PALETTE[0], markersize=13, zorder=4, label=label)
            axis.annotate(str(number), (x[k], y[k]), zorder=5, color="white", **CENTRE)
        axis.set(xlabel=self.x, ylabel=self.y)
        axis.legend(markerscale=0.4, **_outside(axis, "lower left", (0, 1.01)))
        return axis

    def _score(self, parameter: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the means of a score over the folds, and their standard errors."""
        results, start = self.results, "mean_test_"
        known = {key.removeprefix(start): key for key in results if key.startswith(start)}
        name = check_name(getattr(self, parameter), known, parameter)
        n_folds = sum(key.startswith("split") and key.endswith(f"_test_{name}") for key in results)
        mean, spread = (np.asarray(results[f"{of}_test_{name}"], float) for of in ("mean", "std"))
        return mean, spread / np.sqrt(n_folds)


def _panels(ax: Place, n_rows: int, n_columns: int, size: tuple[float, float]) -> np.ndarray:
    """Return given axes, or those of a new figure, whose panels have this size in inches."""
    if ax is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(size[0] * n_columns, size[1] * n_rows), layout="constrained")
        return figure.subplots(n_rows, n_columns, squeeze=False)
    given: Any = np.array(ax, dtype=object, ndmin=1)
    if given.size == n_rows * n_columns:
        return given.reshape(n_rows, n_columns)
    if given.size > 1:
        raise ValueError(
            f"ax has {given.size} axes, but the display draws {n_rows * n_columns} panels "
            f"({n_rows} x {n_columns})."
        )
    place = given.item().get_subplotspec()
    if place is None:
        raise ValueError("ax is not in a grid and cannot be divided: pass an array of Axes.")
    given.item().set_axis_off()
    return place.subgridspec(n_rows, n_columns).subplots(squeeze=False)


def _color_bar(drawn: ScalarMappable, axes: list[Axes], label: str) -> None:
    """Add a colour bar at the right of some axes."""
    bar = axes[0].figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=TINY)


def _outside(axis: Axes, loc: str, anchor: tuple[float, float]) -> dict[str, object]:
    """Return the place of a legend beside the axes, or inside where no layout makes space."""
    if axis.figure.get_layout_engine() is None:
        return {"loc": "best", **LEGEND}
    return {"loc": loc, "bbox_to_anchor": anchor, **LEGEND}


def _check_pairs(pairs: Sequence[Sequence[int]] | None, d: int) -> Sequence[Sequence[int]]:
    if d < 2:
        raise ValueError("a pair needs at least two components, got one: see TargetFitDisplay.")
    if pairs is None:
        return [(i, i + 1) for i in range(0, d - 1, 2)][:MAX_PAIRS]
    if len(pairs) == 0 or any(np.shape(pair) != (2,) for pair in pairs):
        raise ValueError(f"pairs must be pairs of positions such as [(0, 1)], got {pairs!r}.")
    for i in itertools.chain(*pairs):
        check_integer(i, "a position in pairs", minimum=0, maximum=d - 1)
    return pairs


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
    others = -0.5 * z
    others[:, [i, j]] = z[:, [i, j]]
    first, second = (np.asarray(target.push(values))[:, [i, j]] for values in (z, others))
    return bool(np.allclose(first, second, equal_nan=True))


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
    n, ordered = len(z), np.sort(z)
    rank = np.arange(1, n + 1)
    expected = ndtri((rank - 0.5) / n)
    # The k-th smallest of n uniform numbers follows a beta distribution.
    low, high = ndtri(stats.beta.interval(level, rank, n + 1 - rank))
    # Both ends in full, where it matters; thinned between.
    ends = min(n // 2, 20)
    thinned = np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(int)
    shown = np.unique(np.r_[:ends, thinned, n - ends : n])
    axis.fill_between(expected[shown], low[shown], high[shown], color=BAND, linewidth=0, zorder=0)
    axis.plot(expected[[0, -1]], expected[[0, -1]], color=TARGET, linewidth=1.2, zorder=1)
    axis.plot(expected[shown], ordered[shown], ".", color=SAMPLES, markersize=3, zorder=2)
    return float(((ordered < low) | (ordered > high)).mean())


def _label(setting: Mapping[str, object], settings: Sequence[Mapping[str, object]]) -> str:
    """Name a setting by what differs between settings, without the names of steps."""
    differs = [key for key in setting if len({repr(other.get(key)) for other in settings}) > 1]
    return ", ".join(f"{key.split('__', 1)[-1]}={setting[key]!r}" for key in differs)


def _unbeaten(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the positions of points that no other beats, by rising x."""
    beats = (x[:, None] >= x) & (y[:, None] >= y) & ((x[:, None] > x) | (y[:, None] > y))
    best = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & ~beats.any(axis=0))
    return best[np.argsort(x[best], kind="stable")]
