"""Clusters of an embedding, found without labels: what a refinement keeps apart."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from .._filters import FILTERS_LOCK
from .._validation import check_integer
from ._base import FloatArray

# Rows for each cluster and component at least: fewer tell little of where a cluster is.
ROWS_PER_CLUSTER = 10
# Rows that clusters are found from at most.
CLUSTER_ROWS = 20_000
# Standard deviation of noise on them, so that repeated rows are no cluster of their own.
JITTER = 0.05
# Steps of expectation maximisation. It need not converge.
CLUSTER_STEPS = 50
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
    n_clusters = min(n_clusters, n // (ROWS_PER_CLUSTER * d))
    if n_clusters < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = z[rng.choice(n, CLUSTER_ROWS, replace=False)] if n > CLUSTER_ROWS else z
    rows = rows + JITTER * rng.standard_normal(rows.shape)
    # k-means would add in the order in which its threads come.
    mixture = GaussianMixture(
        n_clusters,
        init_params="k-means++",
        reg_covar=RIDGE,
        max_iter=CLUSTER_STEPS,
        random_state=seed,
    )
    with FILTERS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(rows)
