"""How the weight of the clean row, and the noise, change in training."""

from __future__ import annotations

import math
from dataclasses import dataclass


class Course:
    """Nothing changes."""

    def clean_weight(self, weight: float, capacity: float, done: float) -> float:
        """Return the weight w of the clean row after a share `done` of training.

        Parameters
        ----------
        weight : float
            The mean of w over the training.
        capacity : float
            Of the channel, in nats.
        done : float
            Share of the training, from 0 to 1.
        """
        return weight

    def capacity(self, whole: float, done: float) -> float:
        """Return the nats that the channel lets through after a share `done` of training.

        Parameters
        ----------
        whole : float
            Of the fit, and at the end.
        done : float
            Share of the training, from 0 to 1.
        """
        return whole


class Falling(Course):
    r"""Of a fit that a refinement follows.

    .. math:: w_t = w + 0.8 (1 - 2 t) \min(w, 1 - w)

    The law first, then what views tell: an invertible map finishes the law, and costs less of what
    the last steps have learnt than of what the first have.
    """

    def clean_weight(self, weight: float, capacity: float, done: float) -> float:
        """Return the weight w of the clean row after a share `done` of training."""
        return weight + 0.8 * (1 - 2 * done) * min(weight, 1 - weight)


@dataclass(frozen=True)
class Labelled(Course):
    r"""Of a fit whose views are rows of a class: the noise changes, too.

    .. math::
        C_t &= C_0 + (C - C_0) t^2, \quad C_0 = \max(H, \min(d^2 / 8, \tfrac{3}{2} C)) \\
        w_t &= w + a (1 - 2 t) \min(w, 1 - w), \quad a = 0.3 \log_2 \frac{C}{2 d}

    with C_0 at most C where it is H, and a between -0.6 and 0.2. In few components the classes find
    their places through a channel that has room for what labels tell; as it widens, the rows within
    each find theirs. In more of them so much noise is wider than what tells rows apart, and classes
    would settle like the corners of a simplex, where the law of the whole suffers. The smaller the
    capacity of a component, the less of a difference between laws comes through its noise, and the
    more weight the law needs at the end.

    Parameters
    ----------
    entropy : float
        H of the classes, in nats.
    n_components : int
        Number d of components.
    """

    entropy: float
    n_components: int

    def clean_weight(self, weight: float, capacity: float, done: float) -> float:
        """Return the weight w of the clean row after a share `done` of training."""
        slope = 0.3 * math.log2(max(0.25, capacity / (2 * self.n_components)))
        return weight + min(0.2, slope) * (1 - 2 * done) * min(weight, 1 - weight)

    def capacity(self, whole: float, done: float) -> float:
        """Return the nats that the channel lets through after a share `done` of training."""
        start = max(min(whole, self.entropy), min(self.n_components**2 / 8, 1.5 * whole))
        return start + (whole - start) * done**2
