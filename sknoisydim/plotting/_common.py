"""What the displays share: colours, axes, and the way from an estimator to a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sknoisydim._validation import check_integer
from sknoisydim.targets import Target, resolve_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]

# Okabe and Ito's colours, which stay apart for colour-blind eyes; their yellow, too light for
# points on white, comes last.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
SAMPLES, TARGET, BAND, REFERENCE = PALETTE[0], PALETTE[5], "0.85", "0.35"

SMALL, TINY = 9, 8
LEGEND = {"fontsize": TINY, "framealpha": 0.7, "edgecolor": "none"}


def fitted_step(estimator: Any) -> Any:
    """Return the fitted transformer that an estimator is, or that a Pipeline ends with."""
    steps = getattr(estimator, "steps", None)
    step = steps[-1][1] if steps else estimator
    if not (hasattr(step, "retarget") and hasattr(step, "transform")):
        raise TypeError(
            f"estimator must be a NoisyDIMTransformer or a Pipeline that ends with one, got a "
            f"{type(step).__name__}; of a longer Pipeline pass the first steps, such as pipe[:-1]."
        )
    check_is_fitted(step)
    return step


def check_embedding(Z: Any, target: Any) -> tuple[FloatArray, Target]:
    """Return embedded samples in float64, and the target bound to their components."""
    Z = check_array(Z, dtype=np.float64, input_name="Z", ensure_min_samples=2)
    d = Z.shape[1]
    if isinstance(target, Target) and getattr(target, "n_components_", None) == d:
        return Z, target
    return Z, resolve_target(target, d)


def check_position(value: Any, name: str, d: int) -> int:
    """Return the position of a component among d."""
    position = check_integer(value, name, minimum=0)
    if position >= d:
        raise ValueError(f"{name} must hold positions from 0 to {d - 1}, got {position}.")
    return position


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
    axes: NDArray[np.object_] = grid.subplots(squeeze=False)
    return axes


def tidy(ax: Axes) -> None:
    """Hide the upper and right spine, and set font sizes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=TINY)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_fontsize(SMALL)


def color_bar(drawn: Any, axes: list[Axes], label: str) -> None:
    """Add a colour bar at the right of some axes."""
    bar = axes[0].figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=TINY)


def outside(ax: Axes, loc: str, anchor: tuple[float, float]) -> dict[str, Any]:
    """Return the place of a legend beside the axes, or inside where no layout makes space."""
    if ax.figure.get_layout_engine() is None:
        return {"loc": "best", **LEGEND}
    return {"loc": loc, "bbox_to_anchor": anchor, **LEGEND}
