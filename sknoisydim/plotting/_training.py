"""How training went: nats by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sknoisydim._context import own_context

from ._common import PALETTE, REFERENCE, TINY, fitted_step, panels, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What is drawn, in this order: key of `history_` -> name, colour, line style.
LINES = {
    "train_information": ("information, training", PALETTE[0], "-"),
    "train_view_information": ("view and row", PALETTE[1], "--"),
    "train_clean_information": ("row itself", PALETTE[2], "-."),
    "valid_information": ("information, held out", PALETTE[5], "-"),
}


class TrainingDisplay:
    r"""Information by epoch, with what bounds it: the capacity, and :math:`\log B`.

    A batch of B rows cannot show more than :math:`\log B` nats. A curve that is still rising at
    its end wants more epochs; one that lies at the cap, below the capacity, wants more noise.

    Parameters
    ----------
    history : dict of lists
        Nats by epoch, with keys as in the `history_` of a fitted transformer.
    capacity : float
        Capacity of the channel, in nats.
    batch_size : int
        Rows in a batch.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    lines_ : list of Line2D
        The curves.

    See Also
    --------
    TargetFitDisplay : Whether the law came out.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sklearn.datasets import load_iris
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.plotting import TrainingDisplay
    >>> dim = NoisyDIMTransformer(2, max_epochs=3, random_state=0).fit(load_iris().data)
    >>> ax = Figure().subplots()  # or leave ax out, for a figure of pyplot
    >>> display = TrainingDisplay.from_estimator(dim, ax=ax)
    >>> len(display.lines_)
    3
    """

    def __init__(
        self, history: Mapping[str, Sequence[float]], capacity: float, batch_size: int
    ) -> None:
        self.history = history
        self.capacity = capacity
        self.batch_size = batch_size

    @classmethod
    @own_context()
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> TrainingDisplay:
        """Draw the history of a fitted transformer.

        Parameters
        ----------
        estimator : NoisyDIMTransformer or Pipeline
            Fitted; a Pipeline ends with the transformer.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : TrainingDisplay

        Raises
        ------
        TypeError
            If there is no transformer.
        """
        step = fitted_step(estimator)
        return cls(step.history_, step.capacity_, step.batch_size_).plot(ax)

    @own_context()
    def plot(self, ax: Any = None) -> TrainingDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : TrainingDisplay
            This one.
        """
        axis: Axes = panels(ax, 1, 1, (6.0, 3.6))[0, 0]
        self.lines_ = []
        for key, (name, color, style) in LINES.items():
            if key not in self.history:
                continue
            nats = np.asarray(self.history[key], dtype=float)
            if np.isfinite(nats).any():
                epochs = np.arange(1, len(nats) + 1)
                marker = "o" if len(nats) == 1 else ""
                line = axis.plot(epochs, nats, style, color=color, marker=marker, label=name)
                self.lines_ += line
        cap = math.log(self.batch_size)
        # The two levels lie close together by default, so each says what it is in the legend.
        axis.axhline(
            cap, color=REFERENCE, linestyle=":", label=f"log({self.batch_size}) = {cap:.2f}"
        )
        label = f"capacity = {self.capacity:.2f}"
        axis.axhline(self.capacity, color=REFERENCE, linewidth=1, label=label)
        axis.locator_params(axis="x", integer=True)
        axis.set(xlabel="epoch", ylabel="information (nats)")
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        tidy(axis)
        # Curves rise to levels at the top, which leaves this corner free.
        axis.legend(fontsize=TINY, loc="lower right", framealpha=0.8, edgecolor="none")
        self.ax_, self.figure_ = axis, axis.figure
        return self
