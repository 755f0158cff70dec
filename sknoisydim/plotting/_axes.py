"""Axes to draw on, and what all displays look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sknoisydim._context import own_context

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorizer import ColorizingArtist

# Okabe and Ito's colours, which stay apart for colour-blind eyes; their yellow, too light for
# points on white, comes last.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
SAMPLES, TARGET, BAND, REFERENCE = PALETTE[0], PALETTE[5], "0.85", "0.35"

SMALL, TINY = 9, 8
LEGEND = {"fontsize": TINY, "framealpha": 0.7, "edgecolor": "none"}


def panels(ax: Any, n_rows: int, n_columns: int, size: tuple[float, float]) -> NDArray[np.object_]:
    """Return axes (n_rows, n_columns): of a new figure, inside one Axes, or those that were given.

    `size` is that of one panel of a new figure, in inches.
    """
    if isinstance(ax, (list, tuple, np.ndarray)) or (ax is not None and n_rows == n_columns == 1):
        given = np.asarray(ax, dtype=object)
        if given.size != n_rows * n_columns:
            raise ValueError(
                f"ax has {given.size} axes, but the display draws {n_rows * n_columns} panels "
                f"({n_rows} x {n_columns})."
            )
        return given.reshape(n_rows, n_columns)
    if ax is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(size[0] * n_columns, size[1] * n_rows), layout="constrained")
        grid = figure.add_gridspec(n_rows, n_columns)
    else:
        if ax.get_subplotspec() is None:
            raise ValueError("ax is not in a grid and cannot be divided: pass an array of Axes.")
        ax.set_axis_off()
        grid = ax.get_subplotspec().subgridspec(n_rows, n_columns)
    return grid.subplots(squeeze=False)


def tidy(ax: Axes) -> None:
    """Hide the upper and right spine, and set font sizes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=TINY)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_fontsize(SMALL)


def color_bar(drawn: ColorizingArtist, axes: list[Axes], label: str) -> None:
    """Add a colour bar at the right of some axes."""
    bar = axes[0].figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=TINY)


def outside(ax: Axes, loc: str, anchor: tuple[float, float]) -> dict[str, object]:
    """Return the place of a legend beside the axes, or inside where no layout makes space."""
    if ax.figure.get_layout_engine() is None:
        return {"loc": "best", **LEGEND}
    return {"loc": loc, "bbox_to_anchor": anchor, **LEGEND}


class OnOneAxes:
    """A display that takes one Axes."""

    _size: ClassVar[tuple[float, float]]  # of a new figure, in inches
    _draw: Callable[[Any], None]  # that of each display

    @own_context()
    def plot(self, ax: Axes | None = None) -> Self:
        """Draw on the given Axes, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        self : object
            The display, with `ax_` and `figure_`.

        Raises
        ------
        ValueError
            If `ax` is an array of several.
        """
        self.ax_ = panels(ax, 1, 1, self._size)[0, 0]
        self.figure_ = self.ax_.figure
        self._draw(self.ax_)
        tidy(self.ax_)
        return self
