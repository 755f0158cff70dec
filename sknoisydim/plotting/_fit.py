"""What is drawn of a fit, and of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from sknoisydim._validation import check_name
from sknoisydim.metrics._information import find_step

from ._axes import LEGEND, PALETTE, REFERENCE, TINY, Display, Place, outside, panels

# Keys of `history_`, with the name, colour and line style of their curves.
CURVES = {
    "train_information": ("information, training", PALETTE[0], "-"),
    "train_view_information": ("view and sample", PALETTE[1], "--"),
    "train_clean_information": ("sample itself", PALETTE[2], "-."),
    "train_linear_information": ("linear: reference features, y", PALETTE[3], "-"),
    "valid_information": ("information, held out", PALETTE[5], "-"),
}


@dataclass(eq=False, repr=False)
class TrainingDisplay(Display):
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

    @classmethod
    def from_estimator(cls, estimator: BaseEstimator, *, ax: Place = None) -> TrainingDisplay:
        """Draw the history of a fitted transformer.

        Parameters
        ----------
        estimator : NoisyDIMTransformer, Pipeline or fitted search
            Fitted, or with such a transformer.
        ax : matplotlib Axes, default=None
            As of `plot`.

        Returns
        -------
        display : TrainingDisplay
            The display, drawn.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            If there is no such fitted transformer, or more than one.
        """
        step, _ = find_step(estimator)
        return cls(step.history_, step.capacity_, step.batch_size_).plot(ax)

    def _draw(self, ax: Place) -> np.ndarray:
        axes = panels(ax, 1, 1, (6.0, 3.6))
        axis = self.ax_ = axes[0, 0]
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
        return axes


@dataclass(eq=False, repr=False)
class TradeOffDisplay(Display):
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

    @classmethod
    def from_estimator(
        cls, search: object, *, x: str = "match", y: str = "accuracy", ax: Place = None
    ) -> TradeOffDisplay:
        """Draw two scores of a fitted search.

        Parameters
        ----------
        search : GridSearchCV or another search
            Fitted, with several scores.
        x : str, default="match"
            As of the class.
        y : str, default="accuracy"
            As of the class.
        ax : matplotlib Axes, default=None
            As of `plot`.

        Returns
        -------
        display : TradeOffDisplay
            The display, drawn.

        Raises
        ------
        TypeError, ValueError
            If it is no fitted search; if it has no score of the name `x` or `y`.
        """
        results = getattr(search, "cv_results_", None)
        if results is None:
            raise TypeError(f"search must be a fitted grid search, got a {type(search).__name__}.")
        return cls(results, x=x, y=y).plot(ax)

    def _draw(self, ax: Place) -> np.ndarray:
        (x, x_error), (y, y_error) = self._score("x"), self._score("y")
        axes = panels(ax, 1, 1, (6.0, 4.0))
        axis = self.ax_ = axes[0, 0]
        settings = self.results["params"]
        self.best_ = best = _unbeaten(x, y)
        axis.errorbar(x, y, y_error, x_error, fmt="o", color="0.7", markersize=4, lw=0.8)
        axis.plot(x[best], y[best], "-", color=REFERENCE, lw=1, zorder=3)
        # A number at the point and its setting in the legend: labels of neighbours would overlap.
        centre = {"ha": "center", "va": "center", "color": "white", "fontsize": TINY}
        for number, k in enumerate(best, start=1):
            label = f"{number}: {_label(settings[k], settings)}"
            axis.plot(x[k], y[k], "o", color=PALETTE[0], markersize=13, zorder=4, label=label)
            axis.annotate(str(number), (x[k], y[k]), zorder=5, **centre)
        axis.set(xlabel=self.x, ylabel=self.y)
        axis.legend(markerscale=0.4, **outside(axis, "lower left", (0, 1.01)))
        return axes

    def _score(self, parameter: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the means of a score over the folds, and their standard errors."""
        results, start = self.results, "mean_test_"
        known = {key.removeprefix(start): key for key in results if key.startswith(start)}
        name = check_name(getattr(self, parameter), known, parameter)
        n_folds = sum(key.startswith("split") and key.endswith(f"_test_{name}") for key in results)
        mean, spread = (np.asarray(results[f"{of}_test_{name}"], float) for of in ("mean", "std"))
        return mean, spread / np.sqrt(n_folds)


def _label(setting: Mapping[str, object], settings: Sequence[Mapping[str, object]]) -> str:
    """Name a setting by what differs between settings, without the names of steps."""
    differs = [key for key in setting if len({repr(other.get(key)) for other in settings}) > 1]
    return ", ".join(f"{key.split('__', 1)[-1]}={setting[key]!r}" for key in differs)


def _unbeaten(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the positions of points that no other beats, by rising x."""
    beats = (x[:, None] >= x) & (y[:, None] >= y) & ((x[:, None] > x) | (y[:, None] > y))
    best = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & ~beats.any(axis=0))
    return best[np.argsort(x[best], kind="stable")]
