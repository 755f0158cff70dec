"""What holds for all metrics of a sample: references, randomness, errors, levels, what they see.

Under the target p-values are uniform, and relative distances one; otherwise tests reject, where
they are not blind.
"""

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
from around import process
from over import over
from scipy import stats
from scipy.special import ndtr
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from benchmarks.metrics_power import ALTERNATIVES, JOINT_TESTS, MARGINAL_TESTS
from sknoisydim import metrics
from sknoisydim.metrics import DISTANCES, monte_carlo_test, relative_distance, sliced_wasserstein
from sknoisydim.targets import Independent, MultivariateNormal

# What takes a reference sample, too; the others compare with a known distribution only.
TWO_SAMPLE = [*DISTANCES, "energy_test", "mmd_test", "classifier_auc"]
ALL = {*TWO_SAMPLE, *MARGINAL_TESTS, *JOINT_TESTS, "total_correlation"}
RANDOM = ALL - set(MARGINAL_TESTS)

each = over(name=sorted(ALL))
each_two_sample = over(name=TWO_SAMPLE)


@pytest.fixture
def Z():
    return np.random.default_rng(1).standard_normal((120, 3)) * [1.0, 1.2, 0.9]


def call(name, Z, reference="normal", **params):
    """The result as an array of numbers."""
    if name in RANDOM:
        params.setdefault("random_state", 0)
    result = getattr(metrics, name)(Z, reference, **params)
    if dataclasses.is_dataclass(result):
        values = dataclasses.astuple(result)
        if name in MARGINAL_TESTS:
            assert {value.shape for value in values} == {(Z.shape[1],)}
            assert (result.pvalue_holm >= result.pvalue).all()
        else:
            assert [type(value) for value in values] == [float, float]
            assert 0 <= result.pvalue <= 1
        return np.array(values, dtype=float)
    assert type(result) is float
    return np.array(result)


@each
def test_a_target_is_compared_in_its_normal_preimage(name, Z):
    independent = Independent([stats.expon(), stats.t(3), stats.norm(5, 2)])
    joint = MultivariateNormal([1.0, 2.0, 3.0], [[2.0, 1.0, 0], [1.0, 2.0, 1.0], [0, 1.0, 2.0]])
    expected = call(name, Z)
    for target, rows in [
        ("uniform", ndtr(Z)),
        (independent, independent.bind(3).push(Z)),
        (joint, joint.bind(3).push(Z)),
    ]:
        np.testing.assert_allclose(call(name, rows, target), expected, rtol=1e-5, atol=1e-7)


@each_two_sample
def test_a_reference_sample(name, Z):
    rng = np.random.default_rng(2)
    Y = rng.standard_normal((120, 3))
    same, further = call(name, Z, Y), call(name, 3 * Z + 4 * Z[:, [1]], Y)
    assert further.ravel()[0] > same.ravel()[0]
    assert np.isfinite(call(name, Z, Y[:50])).all()
    with pytest.raises(ValueError, match="3 columns but the reference sample has 2"):
        call(name, Z, Y[:, :2])


@each
def test_the_order_of_samples_hardly_matters_and_they_are_not_changed(name, Z):
    before = Z.copy()
    Z.flags.writeable = False
    first, second = call(name, Z[::-1]), call(name, Z)
    np.testing.assert_array_equal(Z, before)
    # Exactly not, for what draws nothing.
    if name in MARGINAL_TESTS or name == "max_correlation":
        np.testing.assert_allclose(first, second, rtol=1e-9)
    else:
        assert first.ravel()[0] == pytest.approx(second.ravel()[0], rel=0.5, abs=0.3)


@over(name=sorted(RANDOM))
def test_random_state_decides(name, Z):
    before = process()
    for make in (int, np.random.default_rng, np.random.RandomState):
        first = call(name, Z, random_state=make(3))
        np.testing.assert_array_equal(first, call(name, Z, random_state=make(3)))
    call(name, Z, random_state=None)
    assert process() == before


@each
def test_bad_input(name, Z):
    for rows, reference, message in (
        (np.where(Z > 2, np.nan, Z), "normal", "NaN"),
        (Z[:, 0], "normal", "Expected 2D array"),
        (Z[:1], "normal", "minimum"),
        (Z, "norml", "Did you mean 'normal'"),
        (Z, Independent(["normal", "normal"]), "n_components=3"),
    ):
        with pytest.raises(ValueError, match=message):
            call(name, rows, reference)
    if name not in TWO_SAMPLE:
        with pytest.raises(TypeError, match=f"{name} needs a known distribution"):
            call(name, Z, Z.copy())


WRONG = [
    ("classifier_auc", {"classifier": "bosting"}, ValueError, "Did you mean 'boosting'"),
    ("classifier_auc", {"classifier": 3}, TypeError, "one of 'boosting', 'mlp'"),
    ("classifier_auc", {"classifier": LinearRegression()}, TypeError, "one of 'boosting', 'mlp'"),
    ("classifier_auc", {"cv": 1}, ValueError, "cv must be an integer >= 2"),
    ("sliced_wasserstein", {"n_projections": 0}, ValueError, "n_projections must be"),
    ("energy_test", {"n_permutations": 0}, ValueError, "n_permutations must be"),
    ("mmd_test", {"n_permutations": 9.5}, TypeError, "n_permutations must be"),
    ("total_correlation", {"n_neighbors": 0}, ValueError, "n_neighbors must be"),
    ("total_correlation", {"n_neighbors": 120}, ValueError, "more rows than columns and neighb"),
    ("henze_zirkler", {"Z": np.eye(3)}, ValueError, "more rows than columns"),
    ("relative_distance", {"n_repeats": 0}, ValueError, "n_repeats must be"),
    ("relative_distance", {"reference": np.zeros((3, 3))}, ValueError, "minimum of 4"),
    ("relative_distance", {"distance": "energy_distanc"}, ValueError, "Did you mean 'energy_d"),
    ("monte_carlo_test", {"distance": "energy_distanc"}, ValueError, "Did you mean 'energy_d"),
    ("monte_carlo_test", {"distance": 3}, TypeError, "one of 'energy_distance'"),
    ("monte_carlo_test", {"n_resamples": 0}, ValueError, "n_resamples must be"),
    ("monte_carlo_test", {"reference": np.eye(3)}, TypeError, "needs a known distrib"),
    ("make_match_scorer", {"metric": "energy_distanc"}, ValueError, "Did you mean 'energy_d"),
]


@over("name, params, error, message", WRONG)
def test_what_is_wrong_is_said(name, params, error, message, Z):
    given = {"Z": Z, "distance": "energy_distance"}
    taken = inspect.signature(getattr(metrics, name)).parameters
    with pytest.raises(error, match=message):
        getattr(metrics, name)(**{key: given[key] for key in given if key in taken} | params)


def test_a_classifier_of_the_user_is_copied(Z):
    model = GaussianNB()
    metrics.classifier_auc(Z, classifier=model, random_state=0)
    assert not hasattr(model, "classes_")


@over(name=[*JOINT_TESTS, *MARGINAL_TESTS])
def test_a_constant_component_is_rejected_and_no_other(name, Z):
    Z[:, 1] = 0.3
    result = getattr(metrics, name)(Z)
    if name in JOINT_TESTS:
        assert result.pvalue <= 0.005
    else:
        np.testing.assert_array_equal(result.pvalue_holm < 0.001, [False, True, False])


def assert_uniform(pvalues):
    assert stats.kstest(pvalues, "uniform").pvalue > 0.005
    # The tail is what decides, and a test of the whole distribution hardly looks at it: no further
    # from 0.05 than a share of as many independent trials is once in a thousand times.
    spread = np.sqrt(0.05 * 0.95 / len(pvalues))
    assert abs((pvalues <= 0.05).mean() - 0.05) < 3.3 * spread


@over(name=list(JOINT_TESTS))
def test_joint_pvalues_are_uniform(name):
    # 500 samples: the least with which Henze-Zirkler trusts its asymptotic ones.
    n = 500 if name == "henze_zirkler" else 60
    draws = (np.random.default_rng([r, n, 3]).standard_normal((n, 3)) for r in range(100))
    pvalues = [JOINT_TESTS[name](Z, random_state=r).pvalue for r, Z in enumerate(draws)]
    assert_uniform(np.array(pvalues))


@over(name=list(MARGINAL_TESTS))
def test_marginal_pvalues_are_uniform(name):
    rng = np.random.default_rng(50)
    draws = (rng.standard_normal((50, 5)) for _ in range(60))
    assert_uniform(np.concatenate([MARGINAL_TESTS[name](Z, "normal").pvalue for Z in draws]))


# But for what a test cannot see, as it estimates the covariance, and for what 2,000 rows of four
# components do not show (benchmarks/metrics_power.py has the power).
UNSEEN = {("henze_zirkler", "correlated"), ("energy_test", "mixture"), ("energy_test", "copula")}
SEEN = set(itertools.product(JOINT_TESTS, ["mixture", "copula", "correlated", "lattice"])) - UNSEEN


@over("name, alternative", sorted(SEEN))
def test_joint_tests_reject(name, alternative):
    n = 500 if name == "mmd_test" else 2000
    Z = ALTERNATIVES[alternative](n, 4, np.random.default_rng(0))
    assert JOINT_TESTS[name](Z, "normal", random_state=0).pvalue <= 0.05


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


@over(name=list(DISTANCES))
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


def test_no_ratio_where_samples_of_the_target_have_no_distance():
    assert np.isnan(relative_distance("max_correlation", np.zeros((10, 1))))
