"""What holds for all metrics of a sample, and each against a formula or another library."""

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
from around import process
from numpy.testing import assert_allclose
from over import over
from scipy import stats
from scipy.spatial import procrustes
from scipy.special import ndtr
from scipy.stats import ortho_group
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from small import fails

from benchmarks.metrics_power import ALTERNATIVES, JOINT_TESTS, MARGINAL_TESTS
from sknoisydim import metrics
from sknoisydim.metrics import DISTANCES, classifier_auc, effective_rank, intrinsic_dimension
from sknoisydim.metrics._samples import holm
from sknoisydim.targets import Independent, MultivariateNormal, resolve_target

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
    for target in ("uniform", independent, joint):
        found = call(name, resolve_target(target, 3).push(Z), target)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert np.isfinite(call(name, Z[:, :1])).all()


@each_two_sample
def test_a_reference_sample(name, Z):
    rng = np.random.default_rng(2)
    Y = rng.standard_normal((120, 3))
    same, further = call(name, Z, Y), call(name, 3 * Z + 4 * Z[:, [1]], Y)
    assert further.ravel()[0] > same.ravel()[0]
    assert np.isfinite(call(name, Z, Y[:50])).all()
    fails("3 columns but the reference sample has 2", call, name, Z, Y[:, :2])


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
    fails("NaN", call, name, np.where(Z > 2, np.nan, Z))
    fails("Expected 2D array", call, name, Z[:, 0])
    fails("minimum", call, name, Z[:1])
    fails("Did you mean 'normal'", call, name, Z, "norml")
    fails("n_components=3", call, name, Z, Independent(["normal", "normal"]))
    if name not in TWO_SAMPLE:
        fails(f"{name} needs a known distribution", call, name, Z, Z.copy(), error=TypeError)


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
    given = {key: given[key] for key in given if key in taken} | params
    fails(message, getattr(metrics, name), **given, error=error)


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
        Z = ALTERNATIVES["lattice"](500, 4, np.random.default_rng(0))
        assert (MARGINAL_TESTS[name](Z).pvalue_holm < 0.001).all()


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
        given = {"n_repeats": 40 if few else 10, "random_state": repeat}
        found.append(metrics.relative_distance(name, Z, reference, **given))
    assert np.mean(found) == pytest.approx(1.0, abs=0.16)


@over(name=list(DISTANCES))
def test_more_away_from_the_target_with_a_small_p_value(name):
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((300, 3)) + rng.standard_normal((300, 1))
    assert metrics.relative_distance(name, Z, random_state=0) > 2.0
    assert metrics.monte_carlo_test(name, Z, n_resamples=19, random_state=0).pvalue == 0.05


def test_is_the_ratio_of_two_distances():
    # The definition, with the draws made outside.
    rng = np.random.default_rng(0)
    Z = 1.2 * rng.standard_normal((2000, 4))
    draws = [rng.standard_normal((2000, 4)) for _ in range(20)]
    pairs = zip(draws[::2], draws[1::2], strict=True)
    above = np.mean([metrics.sliced_wasserstein(Z, Y, random_state=0) for Y in draws])
    below = np.mean([metrics.sliced_wasserstein(A, B, random_state=0) for A, B in pairs])
    found = metrics.relative_distance("sliced_wasserstein", Z, random_state=0)
    assert found == pytest.approx(above / below, rel=0.1)
    # None, where samples of the target have no distance.
    assert np.isnan(metrics.relative_distance("max_correlation", np.zeros((10, 1))))


def test_any_function_is_a_distance():
    calls = []

    def gap_of_means(Z, reference, *, random_state):
        calls.append(reference)
        draws = np.random.default_rng(random_state).standard_normal(Z.shape)
        return float(np.linalg.norm(Z.mean(axis=0) - draws.mean(axis=0)))

    Z = np.random.default_rng(0).standard_normal((100, 2)) + 1.0
    assert metrics.relative_distance(gap_of_means, Z, n_repeats=5, random_state=0) > 3.0
    assert calls == ["normal"] * 10
    assert metrics.monte_carlo_test(gap_of_means, Z, n_resamples=19, random_state=0).pvalue == 0.05


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def rows(rng):
    return rng.standard_normal((80, 3)) @ np.array([[1.0, 0.3, 0.0], [0, 1, 0.5], [0, 0, 2]]) + 0.1


def test_kolmogorov_smirnov_is_scipys(rows):
    found = metrics.kolmogorov_smirnov(rows)
    for j, expected in enumerate(stats.kstest(z, "norm") for z in rows.T):
        assert found.statistic[j] == pytest.approx(expected.statistic)
        assert found.pvalue[j] == pytest.approx(expected.pvalue)


def test_holm():
    np.testing.assert_allclose(holm(np.array([0.011, 0.01, 0.5, 0.03])), [0.04, 0.04, 0.5, 0.06])
    assert holm(np.array([0.9, 0.8])).max() == 1.0


def test_sliced_wasserstein_of_a_shift(rng):
    # Every projection of a shift by v moves by u.v, whose mean square is |v|^2 / d.
    Y = rng.standard_normal((400, 3))
    far = metrics.sliced_wasserstein(Y + np.array([3, 0, 0]), Y, n_projections=9999, random_state=0)
    assert far == pytest.approx(np.sqrt(3.0), rel=0.02)


def test_sliced_wasserstein_of_samples_of_two_sizes(rows, rng):
    # Repeated until both have one size, samples have the same quantile functions.
    Y = rng.standard_normal((120, 3))
    found = [
        metrics.sliced_wasserstein(*pair, random_state=5)
        for pair in ((np.repeat(rows, 3, axis=0), np.repeat(Y, 2, axis=0)), (rows, Y), (Y, rows))
    ]
    assert found[1:] == pytest.approx([found[0]] * 2)


def test_energy_distance_is_scipys_on_the_line(rng):
    a, b = rng.standard_normal((60, 1)), rng.uniform(size=(90, 1))
    expected = stats.energy_distance(a.ravel(), b.ravel())
    assert metrics.energy_distance(a, b) == pytest.approx(expected)


def test_energy_statistic_is_the_distance(rows, rng):
    Y = rng.standard_normal((50, 3))
    scale = len(rows) * len(Y) / (len(rows) + len(Y))
    statistic = metrics.energy_test(rows, Y, random_state=0).statistic
    assert statistic == pytest.approx(scale * metrics.energy_distance(rows, Y, random_state=0) ** 2)
    # Of two and two samples a third of the permutations is the split that there is: they count.
    few = np.array([[0.1], [0.2], [0.7], [0.8]])
    assert 0.25 < metrics.energy_test(few[:2], few[2:], random_state=0).pvalue < 0.42


def test_henze_zirkler_written_out(rows):
    n, d = rows.shape
    centred = rows - rows.mean(axis=0)
    W = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T, bias=True))).T
    square = ((2 * d + 1) * n / 4) ** (2 / (d + 4)) / 2
    among = np.exp(-square / 2 * np.square(W[:, None] - W[None]).sum(axis=2)).sum() / n
    alone = np.exp(-square / (2 + 2 * square) * np.square(W).sum(axis=1)).sum()
    expected = among - 2 * (1 + square) ** (-d / 2) * alone + n * (1 + 2 * square) ** (-d / 2)
    assert metrics.henze_zirkler(rows).statistic == pytest.approx(expected)


def test_max_correlation(rows):
    expected = np.abs(np.corrcoef(rows.T) - np.eye(3)).max()
    assert metrics.max_correlation(rows) == pytest.approx(expected)
    assert metrics.max_correlation(np.column_stack([rows[:, 0], -rows[:, 0]])) == pytest.approx(1.0)
    assert metrics.max_correlation(np.column_stack([rows[:, 0], np.full(80, 0.1)])) == 0.0
    assert metrics.max_correlation(rows[:, :1]) == 0.0


def test_total_correlation(rows, rng):
    for d in (2, 4, 8):
        correlation = 0.4 * np.ones((d, d)) + 0.6 * np.eye(d)
        expected = -0.5 * np.linalg.slogdet(correlation)[1]
        normal = rng.standard_normal((4000, d)) @ np.linalg.cholesky(correlation).T
        # Not normal any more, but of the same copula.
        found = metrics.total_correlation(np.exp(normal), random_state=0)
        assert found == pytest.approx(expected, abs=0.08), d
    # A turned square: the entropies of its components are 1/2 nat, of the pair log 2.
    square = ALTERNATIVES["copula"](8000, 2, rng)
    found = metrics.total_correlation(square, random_state=0)
    assert found == pytest.approx(1 - np.log(2), abs=0.06)
    assert metrics.total_correlation(np.column_stack([rows, rows[:, 0]])) == np.inf


def test_classifier_auc_of_a_shift(rng):
    Z = rng.standard_normal((4000, 2)) + np.array([1.0, 0.0])
    auc = classifier_auc(Z, classifier=LogisticRegression(), random_state=0)
    assert auc == pytest.approx(ndtr(1.0 / np.sqrt(2.0)), abs=0.02)
    for n in (3, 9, 39):  # trees split few samples, too
        assert classifier_auc(Z[:n] + 100, random_state=0) == 1


@pytest.mark.parametrize("classifier", ["boosting", "mlp"])
def test_classifier_auc_tells_the_joint_distribution_and_nothing_else(classifier, rng):
    Z = ALTERNATIVES["copula"](800, 4, rng)
    assert classifier_auc(Z, classifier=classifier, random_state=0) > 0.57
    N = rng.standard_normal((800, 4))
    assert 0.45 < classifier_auc(N, classifier=classifier, random_state=0) < 0.55


def curved(latent, rng, p=12):
    """A smooth, injective map of latent rows (n, k) to p columns."""
    k = latent.shape[1]
    return np.hstack([latent, np.sin(latent @ rng.standard_normal((k, p - k)))])


class TestIntrinsicDimension:
    @over(k=[1, 2, 4])
    def test_of_a_curved_surface(self, k, rng):
        found = [intrinsic_dimension(curved(rng.uniform(size=(1500, k)), rng)) for _ in range(3)]
        # Four standard deviations of a mean of three, and what the edges take away.
        assert np.mean(found) == pytest.approx(k, abs=4 * k / np.sqrt(4500) + 0.06 * k)

    def test_neither_coordinates_nor_repeated_rows_matter_and_noise_does(self, rng):
        rows = curved(rng.uniform(size=(500, 3)), rng)
        turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
        expected = intrinsic_dimension(rows)
        assert intrinsic_dimension(1e-6 * rows @ turn + 3.0) == pytest.approx(expected, rel=1e-4)
        assert intrinsic_dimension(np.hstack([rows, np.ones((500, 4))])) == pytest.approx(expected)
        assert intrinsic_dimension(np.vstack([rows, rows[::-1]])) == pytest.approx(expected)
        noisy = rows + 0.3 * rng.standard_normal(rows.shape)
        assert intrinsic_dimension(noisy) > expected + 1

    @over(
        rows={
            "numbers": np.arange(40.0)[:, None],
            "lattice": np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1).reshape(-1, 2),
            "constant": np.ones((50, 3)),
            "few": np.random.default_rng(0).standard_normal((19, 2)),
        }
    )
    def test_where_there_is_no_answer(self, rows):
        assert np.isnan(intrinsic_dimension(rows))


LEFT = np.random.default_rng(0).standard_normal((500, 4)) * [2.0, 1.0, 1.0, 0.5]
OTHER = np.random.default_rng(1).standard_normal((500, 4))
TURN = ortho_group.rvs(4, random_state=0)


class TestTwoEmbeddings:
    def test_a_turn_a_shift_and_a_scale_change_nothing(self):
        found = metrics.consistency(LEFT, 1e200 * (LEFT @ TURN + 3))
        assert_allclose([found.cka, found.procrustes], 1)
        assert_allclose(metrics.align(LEFT @ TURN + 3, LEFT), LEFT)

    def test_values_are_those_of_the_definitions(self):
        other = LEFT[:, :3] + OTHER[:, :3]
        found, back = metrics.consistency(LEFT, other), metrics.consistency(other, LEFT)
        K, L = ((C @ C.T) for C in (LEFT - LEFT.mean(0), other - other.mean(0)))
        assert_allclose(found.cka, (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L))
        padded = np.column_stack([other, np.zeros(500)])
        assert_allclose(found.procrustes, 1 - procrustes(LEFT, padded)[2])
        assert_allclose([found.cka, found.procrustes], [back.cka, back.procrustes])

    def test_what_has_nothing_in_common(self):
        found = metrics.consistency(LEFT, OTHER)
        assert max(found.cka, found.procrustes) < 0.05
        constant = metrics.consistency(LEFT, np.full((500, 2), 7.3))
        assert constant.cka == constant.procrustes == 0

    def test_what_does_not_fit_together(self):
        fails("Z1 has 500 samples and Z2 400", metrics.consistency, LEFT, LEFT[:400])
        fails("Z1 has 4 components and Z2 3", metrics.align, LEFT, LEFT[:, :3])
        fails("Z2 contains NaN", metrics.consistency, LEFT, LEFT + np.nan)


def test_the_effective_rank_counts_directions():
    assert effective_rank(np.vstack([np.eye(4), -np.eye(4)])) == pytest.approx(4)
    assert effective_rank(LEFT[:, :1] @ OTHER[:1]) == pytest.approx(1, abs=1e-6)
    assert effective_rank(np.ones((9, 3))) == 0
    assert effective_rank(LEFT) == pytest.approx(effective_rank(1e-200 * LEFT @ TURN), abs=1e-6)
    assert 3 < effective_rank(LEFT) < 4
