"""What a grid search gives up of one score to win another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sknoisydim._context import own_context

from ._common import PALETTE, REFERENCE, TINY, panels, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TradeOffDisplay:
    r"""Two scores of a grid search against each other, with the settings that no other beats.

    Settings for which no other is at least as good in both scores, and better in one, are joined
    by a line and labelled; the others are grey. Bars are standard errors over the folds.

    Parameters
    ----------
    x, y : ndarray of shape (n_settings,)
        Mean scores; more is better.
    x_error, y_error : ndarray of shape (n_settings,)
        Their standard errors.
    labels : sequence of str
        What each setting is called.
    x_name, y_name : str
        Names of the scores.

    Attributes
    ----------
    best_ : ndarray of int
        Positions of the settings that no other beats, by rising x.
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure of it.

    See Also
    --------
    EmbeddingDisplay : What one of the settings looks like.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sknoisydim.plotting import TradeOffDisplay
    >>> results = {
    ...     "params": [{"noise": s} for s in (0.1, 0.3, 0.5)],
    ...     "mean_test_match": [0.6, 0.8, 0.7],
    ...     "mean_test_accuracy": [0.9, 0.8, 0.7],
    ... }
    >>> ax = Figure().subplots()
    >>> display = TradeOffDisplay.from_cv_results(results, x="match", y="accuracy", ax=ax)
    >>> display.best_
    array([0, 1])
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        x_error: Any,
        y_error: Any,
        labels: Sequence[str],
        x_name: str,
        y_name: str,
    ) -> None:
        self.x = x
        self.y = y
        self.x_error = x_error
        self.y_error = y_error
        self.labels = labels
        self.x_name = x_name
        self.y_name = y_name

    @classmethod
    @own_context()
    def from_estimator(
        cls, search: Any, *, x: str = "match", y: str = "accuracy", ax: Any = None
    ) -> TradeOffDisplay:
        """Draw two scores of a fitted search.

        Parameters
        ----------
        search : GridSearchCV or the like
            Fitted with several scores: ``scoring={"match": ..., "accuracy": ...}``.
        x, y : str, default="match", "accuracy"
            Names of the two scores.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : TradeOffDisplay

        Raises
        ------
        TypeError
            If it is no fitted search.
        ValueError
            If it has no score of that name.
        """
        results = getattr(search, "cv_results_", None)
        if results is None:
            raise TypeError(f"search must be a fitted grid search, got a {type(search).__name__}.")
        return cls.from_cv_results(results, x=x, y=y, ax=ax)

    @classmethod
    @own_context()
    def from_cv_results(
        cls, results: Any, *, x: str = "match", y: str = "accuracy", ax: Any = None
    ) -> TradeOffDisplay:
        """Draw two scores of a table of results.

        Parameters
        ----------
        results : dict
            The `cv_results_` of a search.
        x, y : str, default="match", "accuracy"
            Names of the two scores.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : TradeOffDisplay

        Raises
        ------
        ValueError
            If there is no score of that name.
        """
        names = [key.removeprefix("mean_test_") for key in results if key.startswith("mean_test_")]
        for name in (x, y):
            if name not in names:
                raise ValueError(f"the search has no score {name!r}; it has {sorted(names)}.")
        n_folds = sum(key.startswith("split") and key.endswith(f"test_{x}") for key in results)
        labels = [_label(parameters, results["params"]) for parameters in results["params"]]
        left, up = (np.asarray(results[f"mean_test_{name}"], dtype=float) for name in (x, y))
        left_error, up_error = (
            np.asarray(results.get(f"std_test_{name}", np.zeros(len(labels))), dtype=float)
            / np.sqrt(max(n_folds, 1))
            for name in (x, y)
        )
        return cls(left, up, left_error, up_error, labels, x, y).plot(ax)

    @own_context()
    def plot(self, ax: Any = None) -> TradeOffDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : TradeOffDisplay
            This one.
        """
        x, y = np.asarray(self.x, dtype=float), np.asarray(self.y, dtype=float)
        self.best_ = _unbeaten(x, y)
        axis: Axes = panels(ax, 1, 1, (6.0, 4.0))[0, 0]
        axis.errorbar(
            x, y, xerr=self.x_error, yerr=self.y_error, fmt="o", color="0.7", markersize=4, lw=0.8
        )
        axis.plot(x[self.best_], y[self.best_], "-", color=REFERENCE, lw=1, zorder=3)
        # A number at the point and its setting in the legend: labels of neighbours would overlap.
        for number, k in enumerate(self.best_, start=1):
            axis.plot(
                x[k],
                y[k],
                "o",
                color=PALETTE[0],
                markersize=13,
                zorder=4,
                label=f"{number}: {self.labels[k]}",
            )
            axis.annotate(
                str(number),
                (x[k], y[k]),
                color="white",
                fontsize=TINY,
                ha="center",
                va="center",
                zorder=5,
            )
        axis.set(xlabel=self.x_name, ylabel=self.y_name)
        tidy(axis)
        # Above the axes, where a layout engine makes room for it; else it would be cut.
        free = axis.figure.get_layout_engine() is not None
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1.01)} if free else {"loc": "best"}
        axis.legend(fontsize=TINY, framealpha=0.7, edgecolor="none", markerscale=0.4, **place)
        self.ax_, self.figure_ = axis, axis.figure
        return self


def _label(parameters: Any, settings: Sequence[Any]) -> str:
    """Name a setting by what differs between settings, without the steps' names."""
    differs = [key for key in parameters if len({repr(other.get(key)) for other in settings}) > 1]
    return ", ".join(f"{key.split('__', 1)[-1]}={parameters[key]!r}" for key in differs)


def _unbeaten(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the positions of points that no other beats, by rising x."""
    usable = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    beaten = [
        any(
            x[j] >= x[k] and y[j] >= y[k] and (x[j] > x[k] or y[j] > y[k]) for j in usable if j != k
        )
        for k in usable
    ]
    best = usable[~np.array(beaten, dtype=bool)]
    order: np.ndarray = best[np.argsort(x[best], kind="stable")]
    return order
