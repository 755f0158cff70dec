"""What every fitted refinement shares: an invertible map of rows, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._context import own_context
from .._normal import normal_logpdf
from .._validation import check_real

FloatArray = NDArray[np.float64]

# Fewer held-out rows than this say nothing about a law: a refinement stays the identity.
MIN_HELD_OUT = 20
# Least mean square that is scaled to one: rows that are all alike have none.
LEAST_SQUARE = 0.25
# Standard deviations, of the mean square of a normal row, beyond which a row is far out.
FAR = 10.0
# Rows that go through a map at once, where it needs much for each.
SLICE_ROWS = 4096


class InvertibleMap:
    """Base class of fitted refinements: an invertible, differentiable map of d components.

    A subclass has the hooks `_forward` (rows to rows and log determinants) and `_inverse`, which
    receive float64 rows (n, d) of their own.

    Parameters
    ----------
    n_components : int
        Number d of components.
    """

    def __init__(self, n_components: int) -> None:
        self.n_components = n_components

    @own_context()
    def forward(self, z: ArrayLike) -> FloatArray:
        """Map embeddings (n, d) closer to N(0, I); finite rows stay finite."""
        return self._forward(self._rows(z))[0]

    @own_context()
    def inverse(self, z: ArrayLike) -> FloatArray:
        """Map refined rows (n, d) back: the inverse of `forward`."""
        return self._inverse(self._rows(z))

    @own_context()
    def log_abs_det(self, z: ArrayLike) -> FloatArray:
        """Log of the absolute Jacobian determinant of `forward` at each row (n,), in nats."""
        return self._forward(self._rows(z))[1]

    @own_context()
    def log_density(self, z: ArrayLike) -> FloatArray:
        r"""Log density of embeddings (n, d) whose refined rows are N(0, I), in nats.

        .. math:: \log N(r(z); 0, I) + \log \lvert \det \partial r / \partial z \rvert
        """
        refined, log_det = self._forward(self._rows(z))
        return normal_logpdf(refined) + log_det

    def _forward(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        return z, np.zeros(len(z))

    def _inverse(self, z: FloatArray) -> FloatArray:
        return z

    def _rows(self, z: ArrayLike) -> FloatArray:
        rows = np.array(z, dtype=np.float64, order="C")
        if rows.ndim != 2 or rows.shape[1] != self.n_components:
            raise ValueError(
                f"a refinement of {self.n_components} components takes rows of shape "
                f"(n, {self.n_components}), got an array of shape {rows.shape}."
            )
        return rows


class Identity(InvertibleMap):
    """The map that changes nothing: what is left of a refinement with too few rows, or None."""


class Scale(InvertibleMap):
    """Division by one number.

    Parameters
    ----------
    n_components : int
        Number d of components.
    factor : float
        What rows are divided by, above 0.
    """

    def __init__(self, n_components: int, factor: float) -> None:
        super().__init__(n_components)
        self.factor = factor

    def _forward(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        return z / self.factor, np.full(len(z), -self.n_components * np.log(self.factor))

    def _inverse(self, z: FloatArray) -> FloatArray:
        return z * self.factor


class Composed(InvertibleMap):
    """Several maps, one after the other.

    Parameters
    ----------
    maps : sequence of InvertibleMap
        The first is applied first; at least one.
    """

    def __init__(self, maps: Sequence[InvertibleMap]) -> None:
        super().__init__(maps[0].n_components)
        self.maps = tuple(maps)

    def _forward(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_det = np.zeros(len(z))
        for part in self.maps:
            z, more = part._forward(z)
            log_det += more
        return z, log_det

    def _inverse(self, z: FloatArray) -> FloatArray:
        for part in reversed(self.maps):
            z = part._inverse(z)
        return z


def check_rows(z: ArrayLike, held_out: ArrayLike | None) -> tuple[FloatArray, FloatArray | None]:
    """Return finite embeddings (n, d), and the rows held out (m, d), in float64.

    Raises
    ------
    ValueError
        If they are no such thing.
    """
    rows = np.asarray(z, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"a refinement is fitted to rows of shape (n, d), got {rows.shape}.")
    d, others = rows.shape[1], None
    if held_out is not None:
        others = np.asarray(held_out, dtype=np.float64)
        if others.ndim != 2 or others.shape[1] != d:
            raise ValueError(
                f"the rows held out for a refinement must have the shape (m, {d}), got "
                f"{others.shape}."
            )
    for part in (rows, others):
        if part is not None and not np.isfinite(part).all():
            raise ValueError("a refinement is fitted to finite rows, got NaN or infinity.")
    return rows, others


def split_rows(
    z: FloatArray, held_out: FloatArray | None, fraction: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray] | None:
    """Return rows to fit and rows held out; None where these are too few to tell anything.

    Those held out are the ones passed, where these are enough, or a share of z.

    Raises
    ------
    ValueError, TypeError
        If the fraction is not usable.
    """
    fraction = check_real(
        fraction, "refine validation_fraction", minimum=0, maximum=1, closed="neither"
    )
    if held_out is not None and min(len(z), len(held_out)) >= MIN_HELD_OUT:
        return z, held_out
    n_held_out = round(fraction * len(z))
    if n_held_out < MIN_HELD_OUT or len(z) - n_held_out < MIN_HELD_OUT:
        return None
    order = rng.permutation(len(z))
    return z[order[n_held_out:]], z[order[:n_held_out]]


def spread_of(refined: FloatArray, held_out: FloatArray, fitted: FloatArray) -> Scale:
    """Return the map to a mean square of one, by held-out rows of which `refined` are the image.

    A trained map stretches rows that it was not fitted to. That these few are by chance further out
    than the others, or nearer, is taken off, and of the rest what may be chance (James and Stein
    1961). Rows held out may follow another law: where their images are too far out, nothing is
    pushed further. Single rows far out count as if they were nearer.
    """
    after, before, of_fit = (
        np.minimum(mean_squares(z), most_of(z)) for z in (refined, held_out, fitted)
    )
    moved = after - before
    excess = of_fit.mean() + moved.mean() - 1
    chance = moved.var() / len(moved) / max(excess**2, 1e-12)
    square = 1 + excess * max(0.0, 1 - chance)
    least = min(1.0, max(after.mean(), LEAST_SQUARE))
    return Scale(refined.shape[1], float(np.sqrt(max(square, least))))


def gains(fitted: InvertibleMap, held_out: FloatArray) -> bool:
    """Return whether rows (n, d) have a higher density with the map, and not by chance.

    In the mean of those that are not far out, by a standard error.
    """
    z = held_out[are_near(held_out)]
    if len(z) < MIN_HELD_OUT:
        return False
    gain = fitted.log_density(z) - normal_logpdf(z)
    return bool(gain.mean() > gain.std() / np.sqrt(len(z)))


def are_near(z: FloatArray) -> np.ndarray:
    """Return which rows of z (n, d) are not far out: as good as all, where z is about N(0, I)."""
    return mean_squares(z) <= most_of(z)


def most_of(z: FloatArray) -> float:
    """Return the mean square beyond which a row of z (n, d) is far out."""
    return 1 + FAR * float(np.sqrt(2 / z.shape[1]))


def mean_squares(z: FloatArray) -> FloatArray:
    """Return the mean square of each row of z (n, d), without overflow."""
    squares: FloatArray = np.square(np.clip(z, -1e9, 1e9)).mean(1)
    return squares
