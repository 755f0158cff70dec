"""What a report measures, on plain arrays: nothing here knows the transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

from sknoisydim.metrics import (
    InformationEstimate,
    classifier_auc,
    energy_test,
    henze_zirkler,
    in_floors,
    intrinsic_dimension,
    kolmogorov_smirnov,
    mmd_test,
    monte_carlo_test,
    total_correlation,
)
from sknoisydim.metrics._information import channel_information, reachable_information
from sknoisydim.metrics._reference import FloatArray, subsample
from sknoisydim.metrics._report import Pictures

#: Rows that are judged, at most: all of it in less than 20 s for 16 components.
MAX_JUDGED_ROWS = 4_000

#: Fewer rows than this give a classifier nothing to learn from.
MIN_CLASSIFIER_ROWS = 50

#: Draws of the noise behind the interval of the information.
N_NOISE_DRAWS = 20

#: Points of a scatter, and levels of quantiles: what the eye needs, and a notebook can store.
N_POINTS, N_LEVELS = 400, 61

NAN = float("nan")


def information(
    z: FloatArray, channel: Any, batch_size: int, rng: np.random.Generator
) -> tuple[InformationEstimate, float]:
    """Return the information of rows z (n, d), and what could be reached in training."""
    found = channel_information(z, channel, batch_size, N_NOISE_DRAWS, 0.95, rng)
    if found.batch_size == batch_size:
        return found, found.reachable
    return found, reachable_information(channel, batch_size, rng)


def law(Z: FloatArray, rng: np.random.Generator, *, classifier: bool) -> dict[str, Any]:
    """Return how far rows Z (n, d) are from N(0, I), under the names that a report has for it."""
    n, d = Z.shape
    ks = kolmogorov_smirnov(Z)
    worst = int(np.argmax(ks.statistic))
    energy = energy_test(Z, random_state=rng)
    strongest, pair = _largest_correlation(Z)
    auc = classifier and n >= MIN_CLASSIFIER_ROWS
    return {
        "marginal_floors": in_floors(marginal_wasserstein, Z, random_state=rng),
        "worst_component": worst,
        "worst_ks": float(ks.statistic[worst]),
        "worst_ks_pvalue": float(ks.pvalue_holm.min()),
        "sliced_wasserstein_floors": in_floors("sliced_wasserstein", Z, random_state=rng),
        "energy_floors": in_floors("energy_distance", Z, random_state=rng),
        "energy_pvalue": energy.pvalue,
        "mmd_pvalue": mmd_test(Z, random_state=rng).pvalue,
        "henze_zirkler_pvalue": henze_zirkler(Z, random_state=rng).pvalue if n > d + 1 else NAN,
        "max_correlation": strongest,
        "max_correlation_pair": pair,
        "max_correlation_pvalue": monte_carlo_test(
            "max_correlation", Z, n_resamples=199, random_state=rng
        ).pvalue
        if d > 1
        else NAN,
        "total_correlation": total_correlation(Z, random_state=rng) if 1 < d < n - 3 else NAN,
        "auc_boosting": classifier_auc(Z, random_state=rng) if auc else NAN,
        "auc_mlp": classifier_auc(Z, classifier="mlp", random_state=rng) if auc else NAN,
        "repeated_rows": 1.0 - len(np.unique(Z, axis=0)) / n,
    }


def marginal_wasserstein(Z: FloatArray, reference: Any, *, random_state: Any) -> float:
    """Return the root mean square over components of their Wasserstein distance from N(0, 1)."""
    levels = (np.arange(len(Z)) + 0.5) / len(Z)
    return float(np.sqrt(np.square(np.sort(Z, axis=0) - ndtri(levels)[:, None]).mean()))


def _largest_correlation(Z: FloatArray) -> tuple[float, tuple[int, ...]]:
    """Return the largest absolute correlation, and between which components it is."""
    if Z.shape[1] == 1:
        return NAN, ()
    centred = Z - Z.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    # A component that is constant up to rounding correlates with nothing.
    flat = norms <= 1e-12 * np.sqrt(len(Z)) * np.abs(Z).max(axis=0)
    unit = np.where(flat, 0.0, centred / np.where(flat, 1.0, norms))
    correlation = np.triu(np.abs(unit.T @ unit), 1)
    i, j = np.unravel_index(int(correlation.argmax()), correlation.shape)
    if i == j:
        return 0.0, (0, 1)
    return float(correlation[i, j]), (int(i), int(j))


def dimensions(scaled: FloatArray, n_components: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the dimension of scaled rows, and what N(0, I) reads with as many rows."""
    perfect = rng.standard_normal((len(scaled), n_components))
    return {
        "intrinsic_dimension": intrinsic_dimension(scaled),
        "intrinsic_dimension_needed": intrinsic_dimension(perfect),
    }


def pictures(Z: FloatArray, pair: tuple[int, ...], rng: np.random.Generator) -> Pictures:
    """Return what the pictures of a report are drawn from."""
    n = len(Z)
    k = min(n, N_LEVELS)
    levels = (np.arange(k) + 0.5) / k
    # Levels at the middle of ranks, so that the quantile of all n rows is the sorted rows.
    quantiles = np.quantile(Z, levels, axis=0, method="hazen")
    radii = np.quantile(np.linalg.norm(Z, axis=1), levels, method="hazen")
    return Pictures(levels, quantiles, radii, subsample(Z, N_POINTS, rng)[:, list(pair)])
