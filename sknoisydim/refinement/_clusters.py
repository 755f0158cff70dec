"""Clusters of an embedding, found without labels: what a refinement keeps apart."""

from __future__ import annotations

import numpy as np
from sklearn.mixture import GaussianMixture

from .._validation import check_integer
from ._base import FloatArray

# Rows for each cluster and component at least: fewer tell little of where a cluster is.
ROWS_PER_CLUSTER = 10
# Rows that clusters are found from at most.
CLUSTER_ROWS = 20_000
# Standard deviation of noise on them, so that repeated rows are no cluster of their own.
JITTER = 0.05
# Steps of expectation maximisation at most, and the gain in nats that is worth another.
CLUSTER_STEPS, CLUSTER_TOL = 50, 1e-3
# Added to the variances of a cluster.
RIDGE = 1e-3


def check_clusters(clusters: int) -> int:
    """Return a number of clusters, at least 0.

    Raises
    ------
    ValueError, TypeError
        If it is none.
    """
    return check_integer(clusters, "refine clusters", minimum=0)


def find_clusters(z: FloatArray, n_clusters: int, seed: int) -> GaussianMixture | None:
    """Return a Gaussian mixture for embeddings z (n, d); None where there are not two clusters.

    It has fewer than `n_clusters` components where there are too few rows for so many.
    """
    n, d = z.shape
    n_clusters = min(n_clusters, min(n, CLUSTER_ROWS) // (ROWS_PER_CLUSTER * d))
    if n_clusters < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = z[rng.choice(n, CLUSTER_ROWS, replace=False)] if n > CLUSTER_ROWS else z
    rows = rows + JITTER * rng.standard_normal(rows.shape)
    # k-means would add in the order in which its threads come. Where it stops by itself before it
    # has converged, scikit-learn warns, and filters belong to the whole process: so it goes one
    # step at a time, each of which is as good as converged by this tolerance.
    mixture = GaussianMixture(
        n_clusters,
        init_params="k-means++",
        reg_covar=RIDGE,
        max_iter=2,
        tol=1e300,
        warm_start=True,
        random_state=seed % 2**32,
    )
    before = -np.inf
    try:
        for _ in range(CLUSTER_STEPS):
            gain, before = mixture.fit(rows).lower_bound_ - before, mixture.lower_bound_
            if gain < CLUSTER_TOL:
                break
    except ValueError:  # a row so far out that a covariance has no Cholesky factor in float64
        return None
    return mixture
