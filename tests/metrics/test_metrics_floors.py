"""Floors: one under the target, whatever n and d, and more away from it."""

import numpy as np
import pytest
from scipy.special import ndtr

from sknoisydim.metrics import DISTANCES, in_floors, monte_carlo_test, sliced_wasserstein

each_distance = pytest.mark.parametrize("name", DISTANCES)


def mean_floors(name, n, d, repeats, reference="normal", **params):
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, n, d])
        Z = rng.standard_normal((n, d))
        rows = ndtr(Z) if reference == "uniform" else Z
        found.append(in_floors(name, rows, reference, random_state=repeat, **params))
    return float(np.mean(found))


@pytest.mark.parametrize(("n", "d"), [(50, 2), (200, 8)])
@each_distance
def test_one_under_the_target(name, n, d):
    # The correlation of just two components spreads as widely as it is large.
    few = name == "max_correlation" and d == 2
    repeats, n_repeats = (200, 40) if few else (20, 10)
    assert mean_floors(name, n, d, repeats, n_repeats=n_repeats) == pytest.approx(1.0, abs=0.16)


@each_distance
def test_one_under_the_uniform_target(name):
    floors = mean_floors(name, 100, 3, 20, "uniform", space="target")
    assert floors == pytest.approx(1.0, abs=0.12)


@each_distance
def test_one_for_a_sample_of_the_same_law(name):
    found = []
    for repeat in range(20):
        rng = np.random.default_rng(repeat)
        Z, reference = rng.exponential(size=(100, 3)), rng.exponential(size=(400, 3))
        found.append(in_floors(name, Z, reference, random_state=0))
    assert np.mean(found) == pytest.approx(1.0, abs=0.15)


@each_distance
def test_more_away_from_the_target(name):
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((400, 3)) + rng.standard_normal((400, 1))
    assert in_floors(name, Z, random_state=0) > 2.0


def test_is_the_ratio_of_two_distances():
    # The definition of design/method.md, with the draws made outside.
    rng = np.random.default_rng(0)
    Z = 1.2 * rng.standard_normal((2000, 4))
    draws = [rng.standard_normal((2000, 4)) for _ in range(20)]
    above = np.mean([sliced_wasserstein(Z, Y, random_state=0) for Y in draws])
    below = np.mean(
        [
            sliced_wasserstein(A, B, random_state=0)
            for A, B in zip(draws[::2], draws[1::2], strict=True)
        ]
    )
    found = in_floors("sliced_wasserstein", Z, random_state=0)
    assert found == pytest.approx(above / below, rel=0.1)


def test_any_function_is_a_distance():
    calls = []

    def gap_of_means(Z, reference, *, random_state):
        calls.append(reference if isinstance(reference, str) else reference.shape)
        draws = np.random.default_rng(random_state).standard_normal(Z.shape)
        return float(np.linalg.norm(Z.mean(axis=0) - draws.mean(axis=0)))

    Z = np.random.default_rng(0).standard_normal((100, 2)) + 1.0
    assert in_floors(gap_of_means, Z, n_repeats=5, random_state=0) > 3.0
    assert calls == ["normal"] * 10
    assert monte_carlo_test(gap_of_means, Z, n_resamples=19, random_state=0).pvalue == 0.05


def test_parameters_reach_the_distance():
    Z = np.random.default_rng(0).standard_normal((50, 2))
    few = in_floors("sliced_wasserstein", Z, n_projections=1, random_state=0)
    assert few != in_floors("sliced_wasserstein", Z, n_projections=500, random_state=0)


def test_parts_of_a_reference_sample_do_not_overlap():
    seen = []

    def spy(Z, reference, *, random_state):
        seen.append((Z[:, 0], reference[:, 0]))
        return 1.0

    reference = np.arange(100.0)[:, None]
    in_floors(spy, -np.arange(80.0)[:, None], reference, n_repeats=3, random_state=0)
    for (rows, against), (twin, again) in zip(seen[::2], seen[1::2], strict=True):
        assert len(rows) == len(twin) == len(against) == 50
        assert (rows <= 0).all()
        np.testing.assert_array_equal(against, again)
        assert not set(twin) & set(against)


def test_the_same_seed_gives_the_same_floors():
    Z = np.random.default_rng(0).standard_normal((60, 2))
    assert in_floors("energy_distance", Z, random_state=1) == in_floors(
        "energy_distance", Z, random_state=1
    )


def test_one_component_has_no_correlation_to_compare():
    assert np.isnan(in_floors("max_correlation", np.zeros((10, 1))))


def test_a_reference_sample_of_three_rows():
    with pytest.raises(ValueError, match="minimum of 4"):
        in_floors("energy_distance", np.zeros((10, 1)), np.zeros((3, 1)))


def test_a_law_is_needed_to_simulate():
    Z = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.raises(TypeError, match="must not be a sample"):
        monte_carlo_test("energy_distance", Z, Z)


@each_distance
def test_simulated_pvalue_of_a_wrong_law(name):
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((300, 3)) + rng.standard_normal((300, 1))
    assert monte_carlo_test(name, Z, n_resamples=19, random_state=0).pvalue == 0.05


def test_simulated_pvalue_under_the_target():
    pvalues = [
        monte_carlo_test(
            "max_correlation",
            np.random.default_rng(repeat).standard_normal((40, 3)),
            n_resamples=39,
            random_state=repeat,
        ).pvalue
        for repeat in range(60)
    ]
    assert 0.35 < np.mean(pvalues) < 0.65
