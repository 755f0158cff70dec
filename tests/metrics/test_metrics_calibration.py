"""Under the target p-values are uniform; otherwise the tests reject, where they are not blind."""

import itertools

import numpy as np
from over import over
from scipy.stats import kstest

from benchmarks.metrics_power import ALTERNATIVES
from sknoisydim.metrics import JOINT_TESTS, MARGINAL_TESTS


def joint_pvalues(test, n, d, repeats):
    """P-values of samples of the target, each with a seed of its own."""
    samples = (np.random.default_rng([r, n, d]).standard_normal((n, d)) for r in range(repeats))
    return np.array([test(Z, random_state=r).pvalue for r, Z in enumerate(samples)])


def marginal_pvalues(test, n, d, repeats):
    rng = np.random.default_rng(n)
    return np.concatenate(
        [test(rng.standard_normal((n, d)), "normal").pvalue for _ in range(repeats)]
    )


def assert_uniform(pvalues):
    assert kstest(pvalues, "uniform").pvalue > 0.005
    # The tail is what decides, and a test of the whole distribution hardly looks at it: no further
    # from 0.05 than a share of as many independent trials is once in a thousand times.
    spread = np.sqrt(0.05 * 0.95 / len(pvalues))
    assert abs((pvalues <= 0.05).mean() - 0.05) < 3.3 * spread


@over(name=list(JOINT_TESTS))
def test_joint_pvalues_are_uniform(name):
    # 500 samples: the least with which Henze-Zirkler trusts its asymptotic ones.
    n = 500 if name == "henze_zirkler" else 60
    assert_uniform(joint_pvalues(JOINT_TESTS[name], n, 3, 100))


@over(name=list(MARGINAL_TESTS))
def test_marginal_pvalues_are_uniform(name):
    assert_uniform(marginal_pvalues(MARGINAL_TESTS[name], 50, 5, 60))


# What the tests cannot see, whatever n: they estimate the covariance.
BLIND = {("henze_zirkler", "correlated")}
# What 2,000 rows of four components do not show them (benchmarks/metrics_power.py has the power).
WEAK = {("energy_test", "mixture"), ("energy_test", "copula")}


SEEN = set(itertools.product(JOINT_TESTS, ["mixture", "copula", "correlated", "lattice"]))
SEEN -= BLIND | WEAK


@over(case=sorted(SEEN))
def test_joint_tests_reject(case):
    name, alternative = case
    n = 500 if name == "mmd_test" else 2000
    Z = ALTERNATIVES[alternative](n, 4, np.random.default_rng(0))
    assert JOINT_TESTS[name](Z, "normal", random_state=0).pvalue <= 0.05


@over(name=list(MARGINAL_TESTS))
def test_marginal_tests_reject_a_lattice(name):
    Z = ALTERNATIVES["lattice"](500, 4, np.random.default_rng(0))
    assert (MARGINAL_TESTS[name](Z).pvalue_holm < 0.001).all()
