"""Each component against the target, with the bands that sampling leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from sknoisydim._context import own_context
from sknoisydim._validation import check_real

from ._common import (
    BAND,
    LAW,
    REFERENCE,
    ROWS,
    FloatArray,
    check_components,
    check_embedding,
    fitted_step,
    panels,
    preimage,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_COMPONENTS = 4
# Points of a Q-Q line, at most: more are not seen.
MAX_POINTS = 400


class TargetFitDisplay:
    r"""Histogram of the PIT and Q-Q line of each component, with sampling bands.

    Both look at the component :math:`z_i` of the N(0, I) pre-image, so they read alike for every
    target. Above, the histogram of the probability integral transform :math:`\Phi(z_i)`, flat for
    a perfect match; below, its sorted values against the quantiles of N(0, 1), on the diagonal
    for a perfect match. Each bar and each point of a sample of the target stays inside the grey
    band with probability `level` or more, by itself: at 0.95, one bar in twenty may stick out.

    A match of each component says nothing about the joint law: see
    `sknoisydim.metrics.classifier_auc`.

    Parameters
    ----------
    preimage : ndarray of shape (n, d)
        Embedded rows where the target is N(0, I).
    level : float, default=0.95
        Probability of the bands.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (2, n_components)
        What was drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    outside_ : ndarray of shape (2, n_components)
        Share of the bars, and of the points, outside the band.

    See Also
    --------
    EmbeddingDisplay : Pairs of components.
    sknoisydim.metrics.anderson_darling : The same as a test.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from sknoisydim.plotting import TargetFitDisplay
    >>> Z = np.random.default_rng(0).uniform(size=(500, 2))
    >>> Z[:, 1] **= 2
    >>> axes = Figure().subplots(2, 2)  # or leave ax out, for a figure of pyplot
    >>> display = TargetFitDisplay.from_embedding(Z, "uniform", ax=axes)
    >>> bars, points = display.outside_
    >>> bool(bars[0] < bars[1]), bool(points[0] < points[1])
    (True, True)
    """

    def __init__(self, preimage: Any, *, level: float = 0.95) -> None:
        self.preimage = preimage
        self.level = level

    @classmethod
    @own_context()
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        components: Any = None,
        level: float = 0.95,
        ax: Any = None,
    ) -> TargetFitDisplay:
        """Embed rows and draw each component against the target.

        Parameters
        ----------
        estimator : NoisyDIMTransformer or Pipeline
            Fitted; a Pipeline ends with the transformer.
        X : array-like of shape (n, p)
            Rows, best held-out ones.
        components : list of int, default=None
            Which to draw; None takes the first four.
        level : float, default=0.95
            Probability of the bands.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, two per component; one Axes is divided; None makes a figure.

        Returns
        -------
        display : TargetFitDisplay

        Raises
        ------
        TypeError
            If there is no transformer.
        """
        step = fitted_step(estimator)
        return cls.from_embedding(
            estimator.transform(X), step.target_, components=components, level=level, ax=ax
        )

    @classmethod
    @own_context()
    def from_embedding(
        cls,
        Z: Any,
        target: Any = "normal",
        *,
        components: Any = None,
        level: float = 0.95,
        ax: Any = None,
    ) -> TargetFitDisplay:
        """Draw each component of embedded rows against the target.

        Parameters
        ----------
        Z : array-like of shape (n, d)
            Embedded rows.
        target : str, object or sequence, default="normal"
            Their law, as for `NoisyDIMTransformer`.
        components : list of int, default=None
            Which to draw; None takes the first four.
        level : float, default=0.95
            Probability of the bands.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, two per component; one Axes is divided; None makes a figure.

        Returns
        -------
        display : TargetFitDisplay

        Raises
        ------
        ValueError
            If `Z` is not finite, or `components` or `level` is out of range.
        """
        rows, bound = check_embedding(Z, target)
        return cls(preimage(rows, bound), level=level).plot(components, ax=ax)

    @own_context()
    def plot(self, components: Any = None, *, ax: Any = None) -> TargetFitDisplay:
        """Draw.

        Parameters
        ----------
        components : list of int, default=None
            Which to draw; None takes the first four.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, two per component; one Axes is divided; None makes a figure.

        Returns
        -------
        display : TargetFitDisplay
            This one.
        """
        z = np.asarray(self.preimage, dtype=np.float64)
        level = check_real(self.level, "level", minimum=0, maximum=1, closed="neither")
        chosen = check_components(components, z.shape[1], MAX_COMPONENTS)
        self.axes_ = panels(ax, 2, len(chosen), (2.5 if len(chosen) > 1 else 3.4, 2.4))
        self.figure_ = self.axes_[0, 0].figure
        self.outside_ = np.empty((2, len(chosen)))
        for column, i in enumerate(chosen):
            above, below = self.axes_[:, column]
            self.outside_[0, column] = _pit(above, z[:, i], level)
            self.outside_[1, column] = _quantiles(below, z[:, i], level)
            above.set_title(f"component {i}")
            above.set_xlabel("PIT")
            below.set_xlabel("normal quantile")
            if column == 0:
                above.set_ylabel("density")
                below.set_ylabel("quantile of the rows")
            tidy(above)
            tidy(below)
        return self


def _pit(axis: Axes, z: FloatArray, level: float) -> float:
    """Draw the histogram; return the share of bars outside the band."""
    n = len(z)
    bins = int(np.clip(n // 25, 5, 20))
    counts, edges = np.histogram(ndtr(z), bins=bins, range=(0, 1))
    low, high = stats.binom.interval(level, n, 1 / bins)
    axis.axhspan(low * bins / n, high * bins / n, color=BAND, zorder=0)
    axis.stairs(counts * bins / n, edges, fill=True, color=ROWS, alpha=0.4, zorder=1)
    axis.stairs(counts * bins / n, edges, color=ROWS, zorder=2)
    axis.axhline(1, color=LAW, linewidth=1.2, zorder=3)
    axis.set(xlim=(0, 1), ylim=(0, None), xticks=(0, 0.5, 1))
    return float(((counts < low) | (counts > high)).mean())


def _quantiles(axis: Axes, z: FloatArray, level: float) -> float:
    """Draw the Q-Q line; return the share of points outside the band."""
    n = len(z)
    rank = np.arange(1, n + 1)
    expected = ndtri((rank - 0.5) / n)
    tail = (1 - level) / 2
    # The k-th smallest of n uniform numbers follows a beta law.
    low = np.asarray(ndtri(stats.beta.ppf(tail, rank, n + 1 - rank)))
    high = np.asarray(ndtri(stats.beta.isf(tail, rank, n + 1 - rank)))
    ordered = np.sort(z)
    # Both ends in full, where it matters; thinned between.
    ends = min(n // 2, 20)
    shown = np.unique(
        np.r_[:ends, np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(int), n - ends : n]
    )
    axis.fill_between(expected[shown], low[shown], high[shown], color=BAND, linewidth=0, zorder=0)
    line = np.array([expected[0], expected[-1]])
    axis.plot(line, line, color=LAW, linewidth=1.2, zorder=1)
    axis.plot(expected[shown], ordered[shown], ".", color=ROWS, markersize=3, zorder=2)
    axis.axhline(0, color=REFERENCE, linewidth=0.4, zorder=0)
    return float(((ordered < low) | (ordered > high)).mean())
