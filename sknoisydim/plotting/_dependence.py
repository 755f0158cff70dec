"""Which components depend on each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from sknoisydim._context import own_context

from ._common import SMALL, TINY, check_embedding, fitted_step, panels, preimage

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class DependenceDisplay:
    r"""Heat map of the dependence between components, in the N(0, I) pre-image.

    Below the diagonal Pearson's correlation :math:`|r(z_i, z_j)|`, above it that of the squares,
    :math:`|r(z_i^2, z_j^2)|`, which sees dependence without correlation. Both are zero for a
    perfect match; what sampling leaves is written beside the picture.

    Parameters
    ----------
    dependence : ndarray of shape (d, d)
        Absolute correlations: of the components below the diagonal, of their squares above.
    n_samples : int
        Rows that they were computed from.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    image_ : AxesImage
        The heat map.

    See Also
    --------
    sknoisydim.metrics.max_correlation : The largest number below the diagonal.
    sknoisydim.metrics.total_correlation : Dependence of every form, as one number.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from sknoisydim.plotting import DependenceDisplay
    >>> z = np.random.default_rng(0).standard_normal((1000, 3))
    >>> z[:, 2] = np.sign(z[:, 2]) * np.abs(z[:, 0])
    >>> display = DependenceDisplay.from_embedding(z, ax=Figure().subplots())
    >>> display.dependence[2, 0] < 0.1, display.dependence[0, 2] > 0.9  # below, above
    (np.True_, np.True_)
    """

    def __init__(self, dependence: Any, n_samples: int) -> None:
        self.dependence = dependence
        self.n_samples = n_samples

    @classmethod
    @own_context()
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None) -> DependenceDisplay:
        """Embed rows and draw how their components depend on each other.

        Parameters
        ----------
        estimator : NoisyDIMTransformer or Pipeline
            Fitted; a Pipeline ends with the transformer.
        X : array-like of shape (n, p)
            Rows, best held-out ones.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : DependenceDisplay

        Raises
        ------
        TypeError
            If there is no transformer.
        """
        step = fitted_step(estimator)
        return cls.from_embedding(estimator.transform(X), step.target_, ax=ax)

    @classmethod
    @own_context()
    def from_embedding(cls, Z: Any, target: Any = "normal", *, ax: Any = None) -> DependenceDisplay:
        """Draw how the components of embedded rows depend on each other.

        Parameters
        ----------
        Z : array-like of shape (n, d)
            Embedded rows, d >= 2.
        target : str, object or sequence, default="normal"
            Their law, as for `NoisyDIMTransformer`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : DependenceDisplay

        Raises
        ------
        ValueError
            If there are fewer than two components, or `Z` is not finite.
        """
        rows, bound = check_embedding(Z, target)
        if rows.shape[1] < 2:
            raise ValueError("dependence needs at least two components, got one.")
        z = preimage(rows, bound)
        below, above = (np.abs(_correlation(values)) for values in (z, np.square(z)))
        dependence = np.tril(below, -1) + np.triu(above, 1)
        np.fill_diagonal(dependence, np.nan)
        return cls(dependence, len(z)).plot(ax)

    @own_context()
    def plot(self, ax: Any = None) -> DependenceDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : DependenceDisplay
            This one.
        """
        values = np.asarray(self.dependence, dtype=float)
        d = len(values)
        axis: Axes = panels(ax, 1, 1, (5.0, 4.2))[0, 0]
        self.image_ = axis.imshow(values, cmap="cividis", vmin=0, vmax=1)
        axis.set_facecolor("0.9")
        step = max(1, -(-d // 10))
        axis.set_xticks(range(0, d, step))
        axis.set_yticks(range(0, d, step))
        axis.tick_params(labelsize=TINY, length=2)
        if d <= 8:
            for (i, j), value in np.ndenumerate(values):
                if i != j:
                    shade = "white" if value < 0.5 else "black"
                    axis.text(
                        j, i, f"{value:.2f}", color=shade, fontsize=TINY, ha="center", va="center"
                    )
        axis.set_xlabel("component", fontsize=SMALL)
        axis.set_ylabel("component", fontsize=SMALL)
        # Largest of d (d - 1) / 2 independent correlations, each close to N(0, 1 / n).
        left = stats.norm.isf(0.05 / (d * (d - 1))) / np.sqrt(self.n_samples)
        axis.set_title(
            f"below the diagonal: correlation; above: of squares\n"
            f"sampling leaves correlations up to {left:.2f}",
            fontsize=SMALL,
        )
        bar = axis.figure.colorbar(self.image_, ax=axis, fraction=0.046, pad=0.03)
        bar.set_label("absolute correlation", fontsize=SMALL)
        bar.ax.tick_params(labelsize=TINY)
        self.ax_, self.figure_ = axis, axis.figure
        return self


def _correlation(values: np.ndarray) -> np.ndarray:
    """Return Pearson's correlations; a constant column has none, and counts as 0."""
    centred = values - values.mean(axis=0)
    scale = np.sqrt(np.square(centred).mean(axis=0))
    centred /= np.where(scale > 0, scale, 1.0)
    result: np.ndarray = centred.T @ centred / len(values)
    return result
