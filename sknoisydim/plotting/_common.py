"""What the displays share: colours, axes, and the way from an estimator to rows and a target."""

from __future__ import annotations

from collections.abc import Sequence
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
ROWS, LAW, BAND, REFERENCE = PALETTE[0], PALETTE[5], "0.85", "0.35"

SMALL, TINY = 9, 8


def fitted_step(estimator: Any) -> Any:
    """Return the fitted transformer that an estimator is, or that a Pipeline ends with.

    Raises
    ------
    TypeError
        If there is none.
    NotFittedError
        If it is not fitted.
    """
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
    """Return embedded rows in float64, and the target bound to their components."""
    rows: FloatArray = check_array(Z, dtype=np.float64, input_name="Z", ensure_min_samples=2)
    d = rows.shape[1]
    if isinstance(target, Target) and getattr(target, "n_components_", None) == d:
        return rows, target
    return rows, resolve_target(target, d)


def preimage(Z: FloatArray, target: Target) -> FloatArray:
    """Return rows where the target is N(0, I)."""
    return np.asarray(target.pull(Z), dtype=np.float64)


def check_components(components: Any, d: int, default: int) -> list[int]:
    """Return positions of components; None takes the first few."""
    if components is None:
        return list(range(min(d, default)))
    if not isinstance(components, (list, tuple, range, np.ndarray)) or len(components) == 0:
        raise TypeError(f"components must be a list of positions or None, got {components!r}.")
    return [check_position(c, "components", d) for c in components]


def check_position(value: Any, name: str, d: int) -> int:
    """Return the position of a component among d, or raise TypeError or ValueError."""
    position = check_integer(value, name, minimum=0)
    if position >= d:
        raise ValueError(f"{name} must hold positions from 0 to {d - 1}, got {position}.")
    return position


def panels(ax: Any, n_rows: int, n_columns: int, size: tuple[float, float]) -> NDArray[np.object_]:
    """Return axes (n_rows, n_columns): of a new figure, inside one Axes, or those that were given.

    Parameters
    ----------
    ax : Axes, array of Axes or None
        One Axes is divided where several are needed.
    n_rows, n_columns : int
        What is needed.
    size : tuple of float
        Width and height of one panel of a new figure, in inches.

    Raises
    ------
    ValueError
        If an array of Axes has another number of them.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(size[0] * n_columns, size[1] * n_rows), layout="constrained")
        new: NDArray[np.object_] = figure.subplots(n_rows, n_columns, squeeze=False)
        return new
    if isinstance(ax, (list, tuple, np.ndarray)):
        given = np.asarray(ax, dtype=object)
        if given.size != n_rows * n_columns:
            raise ValueError(
                f"ax has {given.size} axes, but the display draws {n_rows * n_columns} panels "
                f"({n_rows} x {n_columns})."
            )
        return given.reshape(n_rows, n_columns)
    if n_rows == n_columns == 1:
        return np.array([[ax]], dtype=object)
    ax.set_axis_off()
    grid = ax.get_subplotspec()
    if grid is None:
        raise ValueError("ax is no part of a grid and cannot be divided: pass an array of Axes.")
    inner = grid.subgridspec(n_rows, n_columns)
    figure = ax.figure
    found = [[figure.add_subplot(inner[i, j]) for j in range(n_columns)] for i in range(n_rows)]
    return np.array(found, dtype=object)


def component_name(i: int, names: Sequence[str] | None = None) -> str:
    """Return what the axis of a component is called."""
    return f"component {i}" if names is None else str(names[i])


def tidy(ax: Axes) -> None:
    """Take away what is not needed, and set sizes that a notebook shows well."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=TINY)
    ax.xaxis.label.set_fontsize(SMALL)
    ax.yaxis.label.set_fontsize(SMALL)
    ax.title.set_fontsize(SMALL)
