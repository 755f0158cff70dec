"""Axes to draw on, and what all displays look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from sknoisydim._context import own_context

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

Place: TypeAlias = "Axes | Sequence[Axes] | np.ndarray | None"  # where a user lets draw

# Okabe and Ito's colours, which stay apart for colour-blind eyes; their yellow, too light for
# points on white, comes last.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
SAMPLES, TARGET, BAND, REFERENCE = PALETTE[0], PALETTE[5], "0.85", "0.35"

SMALL, TINY = 9, 8
LEGEND = {"fontsize": TINY, "framealpha": 0.7, "edgecolor": "none"}


def panels(ax: Place, n_rows: int, n_columns: int, size: tuple[float, float]) -> np.ndarray:
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


def color_bar(drawn: ScalarMappable, axes: list[Axes], label: str) -> None:
    """Add a colour bar at the right of some axes."""
    bar = axes[0].figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=TINY)


def outside(ax: Axes, loc: str, anchor: tuple[float, float]) -> dict[str, object]:
    """Return the place of a legend beside the axes, or inside where no layout makes space."""
    if ax.figure.get_layout_engine() is None:
        return {"loc": "best", **LEGEND}
    return {"loc": loc, "bbox_to_anchor": anchor, **LEGEND}


class Display:
    """What all displays share."""

    _draw: Callable[[Place], np.ndarray]  # each display's own: to draw, and return the axes

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
        axes = self._draw(ax)
        self.figure_ = axes.flat[0].figure
        for axis in axes.flat:
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=TINY)
            for text in (axis.xaxis.label, axis.yaxis.label, axis.title):
                text.set_fontsize(SMALL)
        return self
