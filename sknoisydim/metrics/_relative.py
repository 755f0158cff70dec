"""What a distance means: relative to two samples of the target, and as a p-value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._context import own_context
from .._options import unknown_option
from .._validation import check_integer
from ._dependence import max_correlation
from ._samples import (
    FloatArray,
    JointTest,
    RandomState,
    compare,
    generator,
    is_sample,
    seed_of,
    subsample,
)
from ._two_sample import energy_distance, mmd_distance, sliced_wasserstein

#: ``distance(Z, reference, *, space, random_state) -> float``
DISTANCES: dict[str, Callable[..., float]] = {
    "energy_distance": energy_distance,
    "max_correlation": max_correlation,
    "mmd_distance": mmd_distance,
    "sliced_wasserstein": sliced_wasserstein,
}


@own_context()
def relative_distance(
    distance: str | Callable[..., float],
    Z: Any,
    reference: Any = "normal",
    *,
    n_repeats: int = 10,
    random_state: RandomState = None,
    **params: Any,
) -> float:
    r"""Distance to the target, relative to the distance between two samples of the target.

    .. math:: \frac{\sum_{r=1}^{R} D(Z, Y_r)}{\sum_{r=1}^{R} D(Y'_r, Y_r)}

    with D the distance and :math:`Y_r, Y'_r` independent samples of the target of the size of Z. A
    sample of the target has about 1, whatever n and d.

    Parameters
    ----------
    distance : str or callable
        A key of `sknoisydim.metrics.DISTANCES`, or a function
        ``distance(Z, reference, random_state=..., **params)`` that returns a float, for a
        reference that is "normal" or a sample.
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        "normal", "uniform" or another target distribution, or a sample of it. Of a sample, disjoint
        parts take the place of :math:`Y_r, Y'_r`; all three then have min(n, m // 2) samples.
    n_repeats : int, default=10
        Number R of repeats.
    random_state : int, Generator, RandomState or None, default=None
        Seed of all draws.
    **params : keyword arguments
        Passed to the distance, e.g. ``n_projections=50``.

    Returns
    -------
    relative : float
        1.0 for a perfect match; a few percent below and above are chance.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import relative_distance
    >>> Z = np.random.default_rng(0).standard_normal((500, 4))
    >>> near = relative_distance("energy_distance", Z, "normal", random_state=0)
    >>> far = relative_distance("energy_distance", 1.5 * Z, "normal", random_state=0)
    >>> bool(0.9 < near < 1.1 < 2.0 < far)
    True
    """
    measure = _resolve(distance)
    check_integer(n_repeats, "n_repeats", minimum=1)
    rng = generator(random_state)
    Z, Y = compare(Z, reference, min_samples=4 if is_sample(reference) else 2)
    above = below = 0.0
    for _ in range(n_repeats):
        sample, twin, against = _triple(Z, Y, rng)
        # One seed for both: they see the same directions and the same draws.
        seed = seed_of(rng)
        above += measure(sample, against, random_state=seed, **params)
        below += measure(twin, against, random_state=seed, **params)
    return above / below if below > 0.0 else float("nan")


@own_context()
def monte_carlo_test(
    distance: str | Callable[..., float],
    Z: Any,
    reference: Any = "normal",
    *,
    n_resamples: int = 99,
    random_state: RandomState = None,
    **params: Any,
) -> JointTest:
    r"""P-value of a distance, by simulation under the target.

    .. math:: p = \frac{1 + \#\{b : D(Y_b) \ge D(Z)\}}{1 + B}

    with D the distance to the target and :math:`Y_b` one of B = `n_resamples` samples of the target
    of the size of Z: exact for every n and d. The smallest p-value is 1 / (1 + B). The other
    parameters are those of :func:`relative_distance`, with a target as the reference.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import monte_carlo_test
    >>> Z = np.random.default_rng(0).standard_normal((200, 3))
    >>> Z[:, 1] = 0.6 * Z[:, 0] + 0.8 * Z[:, 1]
    >>> monte_carlo_test("max_correlation", Z, "normal", random_state=0).pvalue
    0.01
    """
    measure = _resolve(distance)
    check_integer(n_resamples, "n_resamples", minimum=1)
    if is_sample(reference):
        raise TypeError("monte_carlo_test draws from a target: reference must not be a sample.")
    rng = generator(random_state)
    Z, _ = compare(Z, reference)
    observed = measure(Z, "normal", random_state=seed_of(rng), **params)
    null = [
        measure(rng.standard_normal(Z.shape), "normal", random_state=seed_of(rng), **params)
        for _ in range(n_resamples)
    ]
    pvalue = (1 + int(np.sum(np.asarray(null) >= observed))) / (1 + n_resamples)
    return JointTest(observed, pvalue)


def _triple(
    Z: FloatArray, Y: FloatArray | None, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, str | FloatArray]:
    """Return a part of Z, as many samples of the reference, and what to compare both with."""
    if Y is None:
        return Z, rng.standard_normal(Z.shape), "normal"
    k = min(len(Z), len(Y) // 2)
    parts = rng.permutation(Y)
    return subsample(Z, k, rng), parts[:k], parts[k : 2 * k]


def _resolve(distance: str | Callable[..., float]) -> Callable[..., float]:
    if callable(distance):
        return distance
    if distance not in DISTANCES:
        raise ValueError(unknown_option(str(distance), DISTANCES, "distance"))
    return DISTANCES[distance]
