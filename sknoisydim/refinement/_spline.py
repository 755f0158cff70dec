"""Monotone rational-quadratic splines: one map of the line per column, with an exact inverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._base import FloatArray


@dataclass(frozen=True)
class Splines:
    r"""Increasing, continuously differentiable maps of d columns, and a shift beyond the knots.

    Between two knots, with s the slope of the chord, :math:`\xi` the position in [0, 1], h the
    height and a, b the slopes at the two knots,

    .. math::
        y = y_k + h \, \frac{s \xi^2 + a \xi (1 - \xi)}{s + (a + b - 2 s) \xi (1 - \xi)}

    (Gregory and Delbourgo 1982), which is increasing for all positive slopes, and whose inverse is
    the root of a quadratic. The outermost slopes are 1 and so is that of both tails: a far row is
    moved by a bounded distance, so no number of layers makes a finite row infinite.

    Parameters
    ----------
    x, y : ndarray of shape (d, k)
        Knots, strictly increasing along each row, k >= 2.
    slopes : ndarray of shape (d, k)
        Derivatives at the knots, positive.
    """

    x: FloatArray
    y: FloatArray
    slopes: FloatArray

    @classmethod
    def through(cls, x: FloatArray, y: FloatArray) -> Splines:
        """Return the splines whose inner slopes are geometric means of the chords beside them."""
        logs = np.log(np.diff(y, axis=1) / np.diff(x, axis=1))
        slopes = np.ones_like(x)
        slopes[:, 1:-1] = np.exp(0.5 * (logs[:, 1:] + logs[:, :-1]))
        return cls(x, y, slopes)

    def forward(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Map u (n, d); return the values and the log of the derivative, summed over columns."""
        out = np.empty_like(u)
        log_det = np.zeros(len(u))
        for j, column in enumerate(u.T):
            inside = np.clip(column, self.x[j, 0], self.x[j, -1])
            low, width, base, height, a, b = self._segments(j, self.x[j], inside)
            s = height / width
            xi = (inside - low) / width
            across = xi * (1 - xi)
            below = s + (a + b - 2 * s) * across
            out[:, j] = base + height * (s * xi**2 + a * across) / below + (column - inside)
            slope = s**2 * (b * xi**2 + 2 * s * across + a * (1 - xi) ** 2) / below**2
            log_det += np.log(np.where(column == inside, slope, 1.0))
        return out, log_det

    def inverse(self, v: FloatArray) -> FloatArray:
        """Map v (n, d) back."""
        out = np.empty_like(v)
        for j, column in enumerate(v.T):
            inside = np.clip(column, self.y[j, 0], self.y[j, -1])
            low, width, base, height, a, b = self._segments(j, self.y[j], inside)
            s = height / width
            rise = inside - base
            bend = rise * (a + b - 2 * s)
            q = height * a - bend
            root = np.sqrt(np.maximum(q**2 + 4 * (height * (s - a) + bend) * s * rise, 0.0))
            out[:, j] = low + width * (2 * s * rise / (q + root)) + (column - inside)
        return out

    def _segments(self, j: int, knots: FloatArray, inside: FloatArray) -> tuple[FloatArray, ...]:
        """Return, for each value, left end, width, base, height and both slopes of its segment."""
        k = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
        x, y, slopes = self.x[j], self.y[j], self.slopes[j]
        return x[k], np.diff(x)[k], y[k], np.diff(y)[k], slopes[k], slopes[k + 1]
