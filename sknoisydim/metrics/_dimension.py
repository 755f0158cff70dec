"""How many dimensions the rows have, whatever the number of their columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from .._context import own_context
from ._reference import FloatArray, RandomState, check_sample, generator, subsample

#: Rows whose neighbours are searched, at most.
MAX_DIMENSION_ROWS = 4_000

#: Fewer distinct rows than this say nothing.
MIN_DIMENSION_ROWS = 20


@own_context()
def intrinsic_dimension(X: Any, *, random_state: RandomState = 0) -> float:
    r"""Intrinsic dimension of rows, from the distances to two nearest neighbours (TwoNN).

    .. math:: \hat d = \frac{n - 1}{\sum_i \log (r_{i2} / r_{i1})}

    with :math:`r_{i1} \le r_{i2}` the distances of row i to its two nearest neighbours. Where the
    density changes little between neighbours, the logarithms are exponential with mean 1 / d.

    An embedding cannot fill more dimensions than the rows have: with more components than that its
    joint law stays different from the target, however long training goes on.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows, on scales that may be compared. Repeated rows count once; of more than 4,000 rows,
        4,000 drawn at random are used.
    random_state : int, Generator, RandomState or None, default=0
        Draws of rows above 4,000.

    Returns
    -------
    dimension : float
        NaN with fewer than 20 distinct rows, and for a lattice, where in a tenth of the rows or
        more both neighbours are equally far.

    Raises
    ------
    ValueError
        If `X` is not finite or not two-dimensional.

    Notes
    -----
    Its standard deviation is about d / sqrt(n). Above about 10 dimensions it is too low, because
    few rows do not fill them: compare it with that of as many rows of a law whose dimension is
    known. It looks at the smallest scale, so noise on the rows counts as dimensions.

    References
    ----------
    E. Facco, M. d'Errico, A. Rodriguez, A. Laio, *Estimating the intrinsic dimension of datasets
    by a minimal neighborhood information*, Sci. Rep. 7, 12140, 2017; as the estimate of maximum
    likelihood in F. Denti, D. Doimo, A. Laio, A. Mira, *The generalized ratios intrinsic dimension
    estimator*, Sci. Rep. 12, 20005, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import intrinsic_dimension
    >>> u, v = np.random.default_rng(0).uniform(size=(2, 1000))
    >>> round(intrinsic_dimension(np.column_stack([u, v, u * v, np.sin(3 * u), v**2])))
    2
    """
    rows = np.unique(
        subsample(check_sample(X), MAX_DIMENSION_ROWS, generator(random_state)), axis=0
    )
    if len(rows) < MIN_DIMENSION_ROWS:
        return float("nan")
    near, next_near = _two_nearest(rows).T
    ties = next_near <= near * (1 + 1e-9)
    if ties.mean() >= 0.1:
        return float("nan")
    return float((len(rows) - 1) / np.log(next_near / near).sum())


def _two_nearest(rows: FloatArray) -> FloatArray:
    distances: FloatArray = NearestNeighbors(n_neighbors=2).fit(rows).kneighbors()[0]
    # The square of a tiny difference can be zero, though the rows differ.
    return np.maximum(distances, np.finfo(np.float64).tiny)
