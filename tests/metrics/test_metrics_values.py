"""Each metric against a formula written out, another library, or a closed form."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from over import over
from scipy import stats
from scipy.spatial import procrustes
from scipy.special import ndtr
from scipy.stats import ortho_group
from sklearn.linear_model import LogisticRegression

from benchmarks.metrics_power import ALTERNATIVES
from sknoisydim.metrics import (
    align,
    classifier_auc,
    consistency,
    effective_rank,
    energy_distance,
    energy_test,
    henze_zirkler,
    intrinsic_dimension,
    kolmogorov_smirnov,
    max_correlation,
    sliced_wasserstein,
    total_correlation,
)
from sknoisydim.metrics._samples import holm


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def Z(rng):
    return rng.standard_normal((80, 3)) @ np.array([[1.0, 0.3, 0.0], [0, 1, 0.5], [0, 0, 2]]) + 0.1


def test_kolmogorov_smirnov_is_scipys(Z):
    found = kolmogorov_smirnov(Z)
    for j, expected in enumerate(stats.kstest(z, "norm") for z in Z.T):
        assert found.statistic[j] == pytest.approx(expected.statistic)
        assert found.pvalue[j] == pytest.approx(expected.pvalue)


def test_holm():
    np.testing.assert_allclose(holm(np.array([0.011, 0.01, 0.5, 0.03])), [0.04, 0.04, 0.5, 0.06])
    assert holm(np.array([0.9, 0.8])).max() == 1.0


def test_sliced_wasserstein_of_a_shift(rng):
    # Every projection of a shift by v moves by u.v, whose mean square is |v|^2 / d.
    Y = rng.standard_normal((400, 3))
    distance = sliced_wasserstein(
        Y + np.array([3.0, 0, 0]), Y, n_projections=20_000, random_state=0
    )
    assert distance == pytest.approx(np.sqrt(3.0), rel=0.02)


def test_sliced_wasserstein_of_samples_of_two_sizes(Z, rng):
    # Repeated until both have one size, samples have the same quantile functions.
    Y = rng.standard_normal((120, 3))
    expected = sliced_wasserstein(np.repeat(Z, 3, axis=0), np.repeat(Y, 2, axis=0), random_state=5)
    assert sliced_wasserstein(Z, Y, random_state=5) == pytest.approx(expected)
    assert sliced_wasserstein(Y, Z, random_state=5) == pytest.approx(expected)


def test_energy_distance_is_scipys_on_the_line(rng):
    a, b = rng.standard_normal((60, 1)), rng.uniform(size=(90, 1))
    expected = stats.energy_distance(a.ravel(), b.ravel())
    assert energy_distance(a, b) == pytest.approx(expected)


def test_energy_statistic_is_the_distance(Z, rng):
    Y = rng.standard_normal((50, 3))
    scale = len(Z) * len(Y) / (len(Z) + len(Y))
    statistic = energy_test(Z, Y, random_state=0).statistic
    assert statistic == pytest.approx(scale * energy_distance(Z, Y, random_state=0) ** 2)
    # Of two and two samples a third of the permutations is the split that there is: they count.
    few = np.array([[0.1], [0.2], [0.7], [0.8]])
    assert 0.25 < energy_test(few[:2], few[2:], random_state=0).pvalue < 0.42


def test_henze_zirkler_written_out(Z):
    n, d = Z.shape
    centred = Z - Z.mean(axis=0)
    W = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(Z.T, bias=True))).T
    beta = ((2 * d + 1) * n / 4) ** (1 / (d + 4)) / np.sqrt(2)
    pairs = np.square(W[:, None] - W[None]).sum(axis=2)
    expected = (
        np.exp(-(beta**2) / 2 * pairs).sum() / n
        - 2
        * (1 + beta**2) ** (-d / 2)
        * np.exp(-(beta**2) / (2 * (1 + beta**2)) * np.square(W).sum(axis=1)).sum()
        + n * (1 + 2 * beta**2) ** (-d / 2)
    )
    assert henze_zirkler(Z).statistic == pytest.approx(expected)


def test_max_correlation(Z):
    expected = np.abs(np.corrcoef(Z.T) - np.eye(3)).max()
    assert max_correlation(Z) == pytest.approx(expected)
    assert max_correlation(np.column_stack([Z[:, 0], -Z[:, 0]])) == pytest.approx(1.0)
    assert max_correlation(np.column_stack([Z[:, 0], np.full(80, 0.1)])) == 0.0
    assert max_correlation(Z[:, :1]) == 0.0


def test_total_correlation(Z, rng):
    for d in (2, 4, 8):
        correlation = 0.4 * np.ones((d, d)) + 0.6 * np.eye(d)
        expected = -0.5 * np.linalg.slogdet(correlation)[1]
        normal = rng.standard_normal((4000, d)) @ np.linalg.cholesky(correlation).T
        # Not normal any more, but of the same copula.
        found = total_correlation(np.exp(normal), random_state=0)
        assert found == pytest.approx(expected, abs=0.08), d
    # A turned square: the entropies of its components are 1/2 nat, of the pair log 2.
    square = ALTERNATIVES["copula"](8000, 2, rng)
    assert total_correlation(square, random_state=0) == pytest.approx(1 - np.log(2), abs=0.06)
    assert total_correlation(np.column_stack([Z, Z[:, 0]])) == np.inf


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
        found = consistency(LEFT, 1e200 * (LEFT @ TURN + 3))
        assert_allclose([found.cka, found.procrustes], 1)
        assert_allclose(align(LEFT @ TURN + 3, LEFT), LEFT)

    def test_values_are_those_of_the_definitions(self):
        other = LEFT[:, :3] + OTHER[:, :3]
        found, back = consistency(LEFT, other), consistency(other, LEFT)
        K, L = ((C @ C.T) for C in (LEFT - LEFT.mean(0), other - other.mean(0)))
        assert_allclose(found.cka, (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L))
        padded = np.column_stack([other, np.zeros(500)])
        assert_allclose(found.procrustes, 1 - procrustes(LEFT, padded)[2])
        assert_allclose([found.cka, found.procrustes], [back.cka, back.procrustes])

    def test_what_has_nothing_in_common(self):
        found = consistency(LEFT, OTHER)
        assert max(found.cka, found.procrustes) < 0.05
        constant = consistency(LEFT, np.full((500, 2), 7.3))
        assert constant.cka == constant.procrustes == 0

    def test_what_does_not_fit_together(self):
        for call, other, message in (
            (consistency, LEFT[:400], "Z1 has 500 samples and Z2 400"),
            (align, LEFT[:, :3], "Z1 has 4 components and Z2 3"),
            (consistency, np.full((500, 2), np.nan), "Z2 contains NaN"),
        ):
            with pytest.raises(ValueError, match=message):
                call(LEFT, other)


def test_the_effective_rank_counts_directions():
    assert effective_rank(np.vstack([np.eye(4), -np.eye(4)])) == pytest.approx(4)
    assert effective_rank(LEFT[:, :1] @ OTHER[:1]) == pytest.approx(1, abs=1e-6)
    assert effective_rank(np.ones((9, 3))) == 0
    assert effective_rank(LEFT) == pytest.approx(effective_rank(1e-200 * LEFT @ TURN), abs=1e-6)
    assert 3 < effective_rank(LEFT) < 4
