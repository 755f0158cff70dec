"""From a distance to a number that means the same for every n and d."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._context import own_context
from .._options import unknown_option
from .._validation import check_integer
from ._reference import (
    Comparison,
    FloatArray,
    RandomState,
    Space,
    compare,
    generator,
    is_sample,
    seed_of,
    subsample,
)
from ._results import JointTest
from ._tables import DISTANCES


@own_context()
def in_floors(
    distance: str | Callable[..., float],
    Z: Any,
    reference: Any = "normal",
    *,
    n_repeats: int = 10,
    space: Space = "normal",
    random_state: RandomState = None,
    **params: Any,
) -> float:
    r"""Divide a distance by the same distance between two samples of the target.

    .. math:: \frac{\sum_{r=1}^{R} D(Z, Y_r)}{\sum_{r=1}^{R} D(Y'_r, Y_r)}

    with D the distance, R repeats, and :math:`Y_r, Y'_r` independent samples of the target of as
    many rows as Z: a mean over R draws on both sides. 1.0 is perfect, whatever n and d.

    Parameters
    ----------
    distance : str or callable
        A key of `sknoisydim.metrics.DISTANCES`, or a function
        ``distance(Z, reference, random_state=..., **params)`` that returns a float, for a
        reference that is "normal" or a sample.
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform", target or array-like of shape (m, d), default="normal"
        Law that the rows should follow, or a sample of it. Of a sample, disjoint parts take the
        place of :math:`Y_r` and :math:`Y'_r`; all three then have min(n, m // 2) rows.
    n_repeats : int, default=10
        Number R of repeats.
    space : {"normal", "target"}, default="normal"
        Where a target is compared: in its N(0, I) pre-image or as it is.
    random_state : int, Generator, RandomState or None, default=None
        Every draw.
    **params : keyword arguments
        Handed to the distance, e.g. ``n_projections=50``.

    Returns
    -------
    floors : float
        1.0 for a perfect match; a few percent below and above are chance.

    Raises
    ------
    ValueError
        If the name is unknown, or an array is not finite or of the wrong shape, or a reference
        sample has fewer than four rows.

    See Also
    --------
    monte_carlo_test : The same idea as a p-value.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import in_floors
    >>> Z = np.random.default_rng(0).standard_normal((500, 4))
    >>> near = in_floors("energy_distance", Z, "normal", random_state=0)
    >>> far = in_floors("energy_distance", 1.5 * Z, "normal", random_state=0)
    >>> bool(0.9 < near < 1.1 < 2.0 < far)
    True
    """
    measure = _distance(distance)
    check_integer(n_repeats, "n_repeats", minimum=1)
    rng = generator(random_state)
    pair = compare(Z, reference, space=space, min_samples=4 if is_sample(reference) else 2)
    above = below = 0.0
    for _ in range(n_repeats):
        rows, twin, against = _triple(pair, rng)
        # One seed for both: they see the same directions and the same draws.
        seed = seed_of(rng)
        above += measure(rows, against, random_state=seed, **params)
        below += measure(twin, against, random_state=seed, **params)
    return above / below if below > 0.0 else float("nan")


@own_context()
def monte_carlo_test(
    distance: str | Callable[..., float],
    Z: Any,
    reference: Any = "normal",
    *,
    n_resamples: int = 99,
    space: Space = "normal",
    random_state: RandomState = None,
    **params: Any,
) -> JointTest:
    r"""Give a distance a p-value by simulation under the target.

    .. math:: p = \frac{1 + \#\{b : D(Y_b) \ge D(Z)\}}{1 + B}

    with D the distance to the target, :math:`Y_b` one of B samples of the target of as many rows
    as Z. Exact for every n and d, for the cost of B + 1 distances.

    Parameters
    ----------
    distance : str or callable
        A key of `sknoisydim.metrics.DISTANCES`, or a function
        ``distance(Z, reference, random_state=..., **params)`` that returns a float, for a
        reference that is "normal" or a sample.
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform" or target, default="normal"
        Law that the rows should follow.
    n_resamples : int, default=99
        Number B of samples; the least p-value is 1 / (1 + B).
    space : {"normal", "target"}, default="normal"
        Where a target is compared: in its N(0, I) pre-image or as it is.
    random_state : int, Generator, RandomState or None, default=None
        Every draw.
    **params : keyword arguments
        Handed to the distance.

    Returns
    -------
    result : JointTest

    Raises
    ------
    TypeError
        If the reference is a sample: nothing can be drawn from its law.
    ValueError
        If the name is unknown, or `Z` is not finite or of the wrong shape.

    See Also
    --------
    energy_test : A permutation test, which takes a reference sample too.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import monte_carlo_test
    >>> Z = np.random.default_rng(0).standard_normal((200, 3))
    >>> Z[:, 1] = 0.6 * Z[:, 0] + 0.8 * Z[:, 1]
    >>> monte_carlo_test("max_correlation", Z, "normal", random_state=0).pvalue
    0.01
    """
    measure = _distance(distance)
    check_integer(n_resamples, "n_resamples", minimum=1)
    if is_sample(reference):
        raise TypeError("monte_carlo_test draws from a law: reference must not be a sample.")
    rng = generator(random_state)
    pair = compare(Z, reference, space=space)
    n = len(pair.Z)
    observed = measure(pair.Z, _against(pair, n, rng), random_state=seed_of(rng), **params)
    null = [
        measure(pair.draw(n, rng), _against(pair, n, rng), random_state=seed_of(rng), **params)
        for _ in range(n_resamples)
    ]
    pvalue = (1 + int(np.sum(np.asarray(null) >= observed))) / (1 + n_resamples)
    return JointTest(observed, pvalue)


def _distance(distance: str | Callable[..., float]) -> Callable[..., float]:
    if callable(distance):
        return distance
    if distance not in DISTANCES:
        raise ValueError(unknown_option(str(distance), DISTANCES, "distance"))
    return DISTANCES[distance]


def _against(pair: Comparison, k: int, rng: np.random.Generator) -> str | FloatArray:
    # A distance to N(0, I) may know that law in closed form; any other law is a sample to it.
    return "normal" if pair.is_standard_normal else pair.draw(k, rng)


def _triple(
    pair: Comparison, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, str | FloatArray]:
    """Return rows of Z, as many rows of the reference, and what both are compared with."""
    if pair.n_available is None:
        n = len(pair.Z)
        return pair.Z, pair.draw(n, rng), _against(pair, n, rng)
    k = min(len(pair.Z), pair.n_available // 2)
    parts = rng.permutation(pair.draw(pair.n_available, rng))
    return subsample(pair.Z, k, rng), parts[:k], parts[k : 2 * k]
