"""Relative distances: one under the target, whatever n and d, and more away from it."""

import numpy as np
import pytest
from over import over
from scipy.special import ndtr

from sknoisydim.metrics import DISTANCES, monte_carlo_test, relative_distance, sliced_wasserstein

each_distance = over(name=list(DISTANCES))


@over(case=[(50, 2), (200, 8), "uniform", "a sample"], name=list(DISTANCES))
def test_one_under_the_target(name, case):
    n, d = case if isinstance(case, tuple) else (100, 3)
    # The correlation of just two components spreads as widely as it is large.
    few = name == "max_correlation" and d == 2
    found = []
    for repeat in range(200 if few else 20):
        rng = np.random.default_rng([repeat, n, d])
        Z, reference = rng.standard_normal((n, d)), "normal"
        if case == "uniform":
            Z, reference = ndtr(Z), case
        elif case == "a sample":
            Z, reference = rng.exponential(size=(100, 3)), rng.exponential(size=(400, 3))
        n_repeats = 40 if few else 10
        found.append(
            relative_distance(name, Z, reference, n_repeats=n_repeats, random_state=repeat)
        )
    assert np.mean(found) == pytest.approx(1.0, abs=0.16)


@each_distance
def test_more_away_from_the_target_with_a_small_p_value(name):
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((300, 3)) + rng.standard_normal((300, 1))
    assert relative_distance(name, Z, random_state=0) > 2.0
    assert monte_carlo_test(name, Z, n_resamples=19, random_state=0).pvalue == 0.05


def test_is_the_ratio_of_two_distances():
    # The definition, with the draws made outside.
    rng = np.random.default_rng(0)
    Z = 1.2 * rng.standard_normal((2000, 4))
    draws = [rng.standard_normal((2000, 4)) for _ in range(20)]
    pairs = zip(draws[::2], draws[1::2], strict=True)
    above = np.mean([sliced_wasserstein(Z, Y, random_state=0) for Y in draws])
    below = np.mean([sliced_wasserstein(A, B, random_state=0) for A, B in pairs])
    found = relative_distance("sliced_wasserstein", Z, random_state=0)
    assert found == pytest.approx(above / below, rel=0.1)


def test_any_function_is_a_distance():
    calls = []

    def gap_of_means(Z, reference, *, random_state):
        calls.append(reference)
        draws = np.random.default_rng(random_state).standard_normal(Z.shape)
        return float(np.linalg.norm(Z.mean(axis=0) - draws.mean(axis=0)))

    Z = np.random.default_rng(0).standard_normal((100, 2)) + 1.0
    assert relative_distance(gap_of_means, Z, n_repeats=5, random_state=0) > 3.0
    assert calls == ["normal"] * 10
    assert monte_carlo_test(gap_of_means, Z, n_resamples=19, random_state=0).pvalue == 0.05


def test_edges():
    assert np.isnan(relative_distance("max_correlation", np.zeros((10, 1))))
    with pytest.raises(ValueError, match="minimum of 4"):
        relative_distance("energy_distance", np.zeros((10, 1)), np.zeros((3, 1)))
    with pytest.raises(TypeError, match="must not be a sample"):
        monte_carlo_test("energy_distance", np.zeros((20, 2)), np.zeros((20, 2)))
    for function in (relative_distance, monte_carlo_test):
        with pytest.raises(ValueError, match="Did you mean 'energy_distance'"):
            function("energy_distanc", np.zeros((20, 2)))
