"""Embedded rows, two components at a time, with the target that they should follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.utils import check_consistent_length, column_or_1d

from sknoisydim._context import own_context
from sknoisydim.targets import Target

from ._common import (
    PALETTE,
    SMALL,
    TINY,
    FloatArray,
    check_embedding,
    check_position,
    component_name,
    fitted_step,
    panels,
    preimage,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASSES = (0.5, 0.95)
MAX_PAIRS = 3
MAX_CLASSES = 24
MARKERS = ("o", "^", "s")
N_DRAWS = 1000


class EmbeddingDisplay:
    r"""Scatter plots of pairs of components, over regions that hold a known share of the target.

    The inner curve holds 50 %, the outer 95 % of the target's mass: images of circles of
    :math:`N(0, I)` under the target's map, which for the normal law are its density contours.
    The title says which share of the rows lies inside each. Where the map mixes more than the two
    components, draws of the target in grey stand in for the curves.

    Parameters
    ----------
    embedding : ndarray of shape (n, d)
        Embedded rows.
    target : Target
        Their law, bound to d components.
    y : array-like of shape (n,), default=None
        Classes or numbers that colour the rows.
    names : sequence of str, default=None
        Names of the components.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_pairs,)
        What was drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    coverage_ : ndarray of shape (n_pairs, 2)
        Share of the rows inside the curves that hold 50 % and 95 %; NaN without curves.

    See Also
    --------
    TargetFitDisplay : Each component by itself, with sampling bands.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from sknoisydim.plotting import EmbeddingDisplay
    >>> Z = np.random.default_rng(0).uniform(size=(2000, 2))
    >>> ax = Figure().subplots()  # or leave ax out, for a figure of pyplot
    >>> display = EmbeddingDisplay.from_embedding(Z, "uniform", ax=ax)
    >>> bool((abs(display.coverage_ - [0.5, 0.95]) < 0.05).all())
    True
    """

    def __init__(
        self,
        embedding: Any,
        target: Any,
        *,
        y: Any = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.embedding = embedding
        self.target = target
        self.y = y
        self.names = names

    @classmethod
    @own_context()
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, pairs: Any = None, ax: Any = None
    ) -> EmbeddingDisplay:
        """Embed rows and draw them.

        Parameters
        ----------
        estimator : NoisyDIMTransformer or Pipeline
            Fitted; a Pipeline ends with the transformer.
        X : array-like of shape (n, p)
            Rows, best held-out ones.
        y : array-like of shape (n,), default=None
            Classes or numbers that colour the rows.
        pairs : list of pairs of int, default=None
            Components to draw against each other; None takes (0, 1), (2, 3), (4, 5), as far as
            there are any.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one per pair; one Axes is divided; None makes a figure.

        Returns
        -------
        display : EmbeddingDisplay

        Raises
        ------
        TypeError
            If there is no transformer.
        ValueError
            If `pairs` or `y` does not fit.
        """
        step = fitted_step(estimator)
        Z = estimator.transform(X)
        return cls.from_embedding(Z, step.target_, y, pairs=pairs, ax=ax)

    @classmethod
    @own_context()
    def from_embedding(
        cls, Z: Any, target: Any = "normal", y: Any = None, *, pairs: Any = None, ax: Any = None
    ) -> EmbeddingDisplay:
        """Draw embedded rows.

        Parameters
        ----------
        Z : array-like of shape (n, d)
            Embedded rows, d >= 2; a data frame names the components.
        target : str, object or sequence, default="normal"
            Their law, as for `NoisyDIMTransformer`.
        y : array-like of shape (n,), default=None
            Classes or numbers that colour the rows.
        pairs : list of pairs of int, default=None
            Components to draw against each other.
        ax : matplotlib Axes or array of them, default=None
            Where to draw.

        Returns
        -------
        display : EmbeddingDisplay

        Raises
        ------
        ValueError
            If there are fewer than two components, `pairs` or `y` does not fit, or `Z` is not
            finite.
        """
        columns = getattr(Z, "columns", None)
        names = None if columns is None else [str(name) for name in columns]
        rows, bound = check_embedding(Z, target)
        if y is not None:
            y = column_or_1d(y)
            check_consistent_length(rows, y)
        return cls(rows, bound, y=y, names=names).plot(pairs, ax=ax)

    @own_context()
    def plot(self, pairs: Any = None, *, ax: Any = None) -> EmbeddingDisplay:
        """Draw.

        Parameters
        ----------
        pairs : list of pairs of int, default=None
            Components to draw against each other; None takes (0, 1), (2, 3), (4, 5), as far as
            there are any.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one per pair; one Axes is divided; None makes a figure.

        Returns
        -------
        display : EmbeddingDisplay
            This one.

        Raises
        ------
        ValueError
            If a pair does not fit.
        """
        Z = np.asarray(self.embedding, dtype=np.float64)
        pairs = _check_pairs(pairs, Z.shape[1])
        self.axes_ = panels(ax, 1, len(pairs), (3.6, 3.6))[0]
        self.figure_ = self.axes_[0].figure
        z = preimage(Z, self.target)
        radii = np.sqrt(stats.chi2.ppf(MASSES, 2))
        self.coverage_ = np.full((len(pairs), len(MASSES)), np.nan)
        for number, ((i, j), axis) in enumerate(zip(pairs, self.axes_, strict=True)):
            with_curves = _stands_alone(self.target, i, j, Z.shape[1])
            if with_curves:
                distance = np.hypot(z[:, i], z[:, j])
                self.coverage_[number] = [(distance <= r).mean() for r in radii]
                self._draw_curves(axis, i, j, radii)
                shares = ", ".join(
                    f"{share:.0%} (of {mass:.0%})"
                    for share, mass in zip(self.coverage_[number], MASSES, strict=True)
                )
                axis.set_title(f"rows inside: {shares}")
            else:
                draws = self.target.sample(N_DRAWS, random_state=0)
                axis.scatter(draws[:, i], draws[:, j], s=6, c="0.8", linewidths=0, zorder=1)
                axis.set_title("grey: draws of the target")
            self._draw_rows(axis, Z[:, [i, j]], last=number == len(pairs) - 1)
            axis.set(xlabel=component_name(i, self.names), ylabel=component_name(j, self.names))
            if _alike(*axis.get_xlim(), *axis.get_ylim()):
                axis.set_aspect("equal", adjustable="datalim")
            tidy(axis)
        return self

    def _draw_curves(self, axis: Axes, i: int, j: int, radii: FloatArray) -> None:
        angle = np.linspace(0, 2 * np.pi, 361)
        for radius, width in zip(radii, (1.6, 1.0), strict=True):
            circle = np.zeros((len(angle), self.target.n_components_))
            circle[:, i], circle[:, j] = radius * np.cos(angle), radius * np.sin(angle)
            curve = np.asarray(self.target.push(circle))[:, [i, j]]
            axis.plot(curve[:, 0], curve[:, 1], color="black", linewidth=width, zorder=3)

    def _draw_rows(self, axis: Axes, points: FloatArray, *, last: bool) -> None:
        size = float(np.clip(6000 / len(points), 3, 14))
        if self.y is None:
            axis.scatter(
                points[:, 0], points[:, 1], s=size, c=PALETTE[0], alpha=0.6, linewidths=0, zorder=2
            )
            return
        y = np.asarray(self.y)
        classes = _classes(y)
        if classes is None:
            drawn = axis.scatter(
                points[:, 0], points[:, 1], s=size, c=y, cmap="viridis", linewidths=0, zorder=2
            )
            if last:
                bar = self.figure_.colorbar(drawn, ax=list(self.axes_), fraction=0.04, pad=0.02)
                bar.set_label("y", fontsize=SMALL)
                bar.ax.tick_params(labelsize=TINY)
            return
        for k, label in enumerate(classes):
            axis.scatter(
                points[y == label, 0],
                points[y == label, 1],
                s=size,
                color=PALETTE[k % len(PALETTE)],
                marker=MARKERS[k // len(PALETTE)],
                linewidths=0,
                label=str(label),
                zorder=2,
            )
        if last:
            # Beside the axes, where a layout engine makes room for it; else it would be cut.
            free = self.figure_.get_layout_engine() is not None
            place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if free else {"loc": "best"}
            axis.legend(
                fontsize=TINY,
                framealpha=0.7,
                edgecolor="none",
                ncols=-(-len(classes) // 12),
                markerscale=np.sqrt(25 / size),
                handletextpad=0.1,
                borderaxespad=0.1,
                **place,
            )


def _check_pairs(pairs: Any, d: int) -> list[tuple[int, int]]:
    if d < 2:
        raise ValueError("a pair needs at least two components, got one: see TargetFitDisplay.")
    if pairs is None:
        return [(i, i + 1) for i in range(0, d - 1, 2)][:MAX_PAIRS]
    checked = []
    for pair in pairs:
        if np.shape(pair) != (2,):
            raise ValueError(f"pairs must be pairs of positions such as (0, 1), got {pair!r}.")
        i, j = (check_position(k, "pairs", d) for k in pair)
        checked.append((i, j))
    if not checked:
        raise ValueError("pairs must hold at least one pair, got none.")
    return checked


def _classes(y: NDArray[Any]) -> NDArray[Any] | None:
    """Return the classes, or None where y holds numbers to measure by, or too many classes."""
    if y.dtype.kind == "f" and not np.equal(y, np.round(y)).all():
        return None
    found = np.unique(y)
    if len(found) > MAX_CLASSES:
        if y.dtype.kind in "OUS":
            raise ValueError(
                f"y has {len(found)} classes, and colours can tell at most {MAX_CLASSES} apart."
            )
        return None
    return found


def _stands_alone(target: Target, i: int, j: int, d: int) -> bool:
    """Tell whether components i and j of the target come from the same two of N(0, I) alone."""
    if d == 2:
        return True
    z = np.random.default_rng(0).standard_normal((16, d))
    others = z.copy()
    others[:, [k for k in range(d) if k not in (i, j)]] *= -0.5
    return bool(
        np.allclose(target.push(z)[:, [i, j]], target.push(others)[:, [i, j]], equal_nan=True)
    )


def _alike(left: float, right: float, bottom: float, top: float) -> bool:
    """Tell whether two axes have so similar ranges that one unit may have one length."""
    ratio = (right - left) / (top - bottom)
    return 0.67 < ratio < 1.5
