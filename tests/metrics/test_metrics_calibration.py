"""Under the target p-values are uniform; otherwise the tests reject, where they are not blind."""

import itertools
from functools import partial

import numpy as np
import pytest
from over import over
from scipy.special import ndtr
from scipy.stats import kstest

from benchmarks.metrics_power import ALTERNATIVES
from sknoisydim.metrics import (
    CLASSIFIERS,
    JOINT_TESTS,
    MARGINAL_TESTS,
    classifier_auc,
    monte_carlo_test,
)

MONTE_CARLO = {
    f"monte_carlo {name}": partial(monte_carlo_test, name, n_resamples=99)
    for name in ("energy_distance", "max_correlation", "mmd_distance", "sliced_wasserstein")
}

each_joint_test = pytest.mark.parametrize("name", JOINT_TESTS)
each_marginal_test = pytest.mark.parametrize("name", MARGINAL_TESTS)


def joint_pvalues(test, n, d, repeats, reference="normal", **params):
    """P-values of samples of the target, each with a seed of its own."""
    found = []
    for repeat in range(repeats):
        Z = np.random.default_rng([repeat, n, d]).standard_normal((n, d))
        rows = ndtr(Z) if reference == "uniform" else Z
        found.append(test(rows, reference, random_state=repeat, **params).pvalue)
    return np.array(found)


def marginal_pvalues(test, n, d, repeats):
    rng = np.random.default_rng(n)
    return np.concatenate(
        [test(rng.standard_normal((n, d)), "normal").pvalue for _ in range(repeats)]
    )


def assert_uniform(pvalues):
    assert kstest(pvalues, "uniform").pvalue > 0.005
    # The tail is what decides, and what a test of the whole law hardly looks at: no further from
    # 0.05 than a share of as many independent trials is once in a thousand times.
    spread = np.sqrt(0.05 * 0.95 / len(pvalues))
    assert abs((pvalues <= 0.05).mean() - 0.05) < 3.3 * spread


@each_joint_test
def test_joint_pvalues_are_uniform(name):
    # 500 rows: the least with which Henze-Zirkler and Mardia trust their asymptotic laws.
    n = 500 if name in ("henze_zirkler", "mardia") else 60
    params = {"n_projections": 16} if name == "epps_pulley_sliced" else {}
    assert_uniform(joint_pvalues(JOINT_TESTS[name], n, 3, 100, **params))


@pytest.mark.slow
@each_joint_test
def test_joint_pvalues_are_uniform_over_200_samples(name):
    assert_uniform(joint_pvalues(JOINT_TESTS[name], 150, 8, 200))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(500, 16), (2000, 8)])
@pytest.mark.parametrize("name", ["henze_zirkler", "mardia"])
def test_asymptotic_and_simulated_laws_are_uniform(name, n, d):
    assert_uniform(joint_pvalues(JOINT_TESTS[name], n, d, 200))


@pytest.mark.slow
@pytest.mark.parametrize("name", MONTE_CARLO)
def test_simulated_pvalues_are_uniform(name):
    assert_uniform(joint_pvalues(MONTE_CARLO[name], 40, 3, 200))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "space"), [("energy_test", "target"), ("mmd_test", "normal")])
def test_pvalues_are_uniform_for_the_uniform_target(name, space):
    assert_uniform(joint_pvalues(JOINT_TESTS[name], 60, 3, 200, "uniform", space=space))


@each_marginal_test
def test_marginal_pvalues_are_uniform(name):
    assert_uniform(marginal_pvalues(MARGINAL_TESTS[name], 50, 5, 60))


@pytest.mark.slow
@each_marginal_test
def test_marginal_pvalues_are_uniform_over_500_samples(name):
    assert_uniform(marginal_pvalues(MARGINAL_TESTS[name], 1000, 5, 500))


# What the tests cannot see, whatever n: they estimate the covariance.
BLIND = {("henze_zirkler", "correlated"), ("mardia", "correlated")}
# What 2,000 rows of four components do not show them (benchmarks/metrics_power.py has the power).
WEAK = {("energy_test", "mixture"), ("energy_test", "copula")}


SEEN = set(itertools.product(JOINT_TESTS, ["mixture", "copula", "correlated", "lattice"]))
SEEN -= BLIND | WEAK


@pytest.mark.parametrize(("name", "alternative"), sorted(SEEN))
def test_joint_tests_reject(name, alternative):
    n = 500 if name == "mmd_test" else 2000
    Z = ALTERNATIVES[alternative](n, 4, np.random.default_rng(0))
    assert JOINT_TESTS[name](Z, "normal", random_state=0).pvalue <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("alternative", ["mixture", "copula", "correlated", "lattice"])
def test_one_of_the_classifiers_tells(alternative):
    rows = ALTERNATIVES[alternative](1500, 4, np.random.default_rng(0))
    aucs = [classifier_auc(rows, classifier=name, random_state=0) for name in CLASSIFIERS]
    # Four standard deviations of the AUC of 1,500 rows and as many draws.
    assert max(aucs) > 0.5 + 4 / np.sqrt(6 * 1500)


@pytest.mark.parametrize(("name", "alternative"), sorted(BLIND))
def test_blind_tests_do_not_reject(name, alternative):
    pvalues = [
        JOINT_TESTS[name](ALTERNATIVES[alternative](500, 4, np.random.default_rng(repeat))).pvalue
        for repeat in range(100)
    ]
    assert_uniform(np.array(pvalues))


@pytest.mark.parametrize(("name", "alternative"), sorted(WEAK))
def test_energy_test_is_weak(name, alternative):
    rejected = [
        JOINT_TESTS[name](
            ALTERNATIVES[alternative](500, 4, np.random.default_rng(repeat)), random_state=0
        ).pvalue
        <= 0.05
        for repeat in range(8)
    ]
    assert np.mean(rejected) < 0.5


@over(
    alternative=["mixture", "copula", "correlated"],
    name=[name for name in MARGINAL_TESTS if name != "dagostino_pearson"],
)
def test_marginal_tests_do_not_see_the_joint_law(name, alternative):
    rejected = [
        MARGINAL_TESTS[name](
            ALTERNATIVES[alternative](500, 8, np.random.default_rng(repeat))
        ).pvalue_holm.min()
        <= 0.05
        for repeat in range(20)
    ]
    assert np.mean(rejected) < 0.3


@each_marginal_test
def test_marginal_tests_reject_a_lattice(name):
    Z = ALTERNATIVES["lattice"](500, 4, np.random.default_rng(0))
    assert (MARGINAL_TESTS[name](Z).pvalue_holm < 0.001).all()


@pytest.mark.parametrize("test", [ALTERNATIVES[name] for name in ("mixture", "copula", "lattice")])
def test_the_alternatives_have_the_moments_of_the_target(test):
    Z = test(200_000, 4, np.random.default_rng(0))
    np.testing.assert_allclose(Z.mean(axis=0), 0.0, atol=0.02)
    np.testing.assert_allclose(np.cov(Z.T), np.eye(4), atol=0.02)
