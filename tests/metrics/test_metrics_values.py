"""Each metric against a formula written out, another library, or a closed form."""

import numpy as np
import pytest
from over import over
from scipy import stats
from scipy.integrate import quad
from scipy.special import ndtr, ndtri
from sklearn.linear_model import LogisticRegression

from benchmarks.metrics_power import ALTERNATIVES
from sknoisydim.metrics import (
    anderson_darling,
    classifier_auc,
    cramer_von_mises,
    dagostino_pearson,
    energy_distance,
    energy_test,
    epps_pulley_sliced,
    henze_zirkler,
    intrinsic_dimension,
    kolmogorov_smirnov,
    mardia,
    max_correlation,
    mmd_distance,
    sliced_wasserstein,
    total_correlation,
)
from sknoisydim.metrics._samples import holm
from sknoisydim.metrics._tests import anderson_darling_survival


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def Z(rng):
    return rng.standard_normal((80, 3)) @ np.array([[1.0, 0.3, 0.0], [0, 1, 0.5], [0, 0, 2]]) + 0.1


def test_marginal_tests_are_scipys(Z):
    for ours, theirs in [
        (kolmogorov_smirnov, lambda z: stats.kstest(z, "norm")),
        (cramer_von_mises, lambda z: stats.cramervonmises(z, "norm")),
        (dagostino_pearson, stats.normaltest),
    ]:
        found = ours(Z)
        for j, expected in enumerate(map(theirs, Z.T)):
            assert found.statistic[j] == pytest.approx(expected.statistic)
            assert found.pvalue[j] == pytest.approx(expected.pvalue)


def test_anderson_darling_is_that_of_a_known_distribution(Z, rng):
    known = {"loc": 0.0, "scale": 1.0}
    expected = stats.goodness_of_fit(
        stats.norm, Z[:, 0], known_params=known, statistic="ad", n_mc_samples=1999, rng=rng
    )
    result = anderson_darling(Z)
    assert result.statistic[0] == pytest.approx(expected.statistic)
    assert result.pvalue[0] == pytest.approx(expected.pvalue, abs=0.04)


def test_anderson_darling_distribution_is_that_of_its_series():
    # The limit is a sum of chi-squared variables with the weights 1 / (j (j + 1)): its
    # distribution, by inversion of the characteristic function (Gil-Pelaez), with the tail of
    # weights as its mean.
    weights = 1.0 / (np.arange(1, 2001) * np.arange(2, 2002))

    def survival(x):
        def integrand(t):
            angle = 0.5 * np.arctan(2 * t * weights).sum() - t * (x - 1 / 2001)
            return np.sin(angle) / t * np.exp(-0.25 * np.log1p((2 * t * weights) ** 2).sum())

        return 0.5 + quad(integrand, 1e-12, 200, limit=2000)[0] / np.pi

    for statistic in (0.4, 0.8, 1.5, 2.5, 4.0, 6.0):
        expected = survival(statistic)
        assert anderson_darling_survival(statistic, 10**7) == pytest.approx(expected, abs=1e-8)


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


def test_mmd_distance_written_out(Z, rng):
    Y = rng.standard_normal((80, 3))

    def mean_kernel(A, B):
        squared = np.square(A[:, None] - B[None]).sum(axis=2)
        return np.mean(
            [np.exp(-squared / (2 * (c * s) ** 2)).mean() for c in (1, 0.5, 0.25, 0.125)]
        )

    s = np.median(np.linalg.norm(Y[:, None] - Y[None], axis=2)[np.triu_indices(80, 1)])
    squared = mean_kernel(Z, Z) + mean_kernel(Y, Y) - 2 * mean_kernel(Z, Y)
    assert mmd_distance(Z, Y) == pytest.approx(np.sqrt(squared))


def whitened(Z):
    centred = Z - Z.mean(axis=0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(Z.T, bias=True))).T


def test_henze_zirkler_written_out(Z):
    n, d = Z.shape
    W = whitened(Z)
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


def test_mardia_written_out(rng):
    Z = rng.exponential(size=(3000, 3)) ** 0.3
    n, d = Z.shape
    W = whitened(Z)
    skewness = ((W @ W.T) ** 3).mean()
    kurtosis = (np.square(W).sum(axis=1) ** 2).mean()
    correction = (d + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (d + 1) - 6))
    skewness_pvalue = stats.chi2.sf(n * correction * skewness / 6, d * (d + 1) * (d + 2) / 6)
    score = (kurtosis - d * (d + 2)) / np.sqrt(8 * d * (d + 2) / n)
    least = min(skewness_pvalue, 2 * stats.norm.sf(abs(score)))
    # The score above has Mardia's moments for large n, the test the exact ones.
    assert mardia(Z).statistic == pytest.approx(-ndtri(least), rel=0.05)
    assert mardia(Z).pvalue == pytest.approx(1 - (1 - ndtr(-mardia(Z).statistic)) ** 2)


@pytest.mark.parametrize("name", ["henze_zirkler", "mardia"])
def test_affine_maps_do_not_matter(name, rng):
    test = {"henze_zirkler": henze_zirkler, "mardia": mardia}[name]
    Z = rng.uniform(size=(600, 3))
    moved = Z @ np.array([[2.0, 1.0, 0.0], [0.0, 1e-4, 0.0], [5.0, 0.0, 1e3]]) - 7.0
    assert test(moved).statistic == pytest.approx(test(Z).statistic, rel=1e-4)


def test_epps_pulley_written_out(rng):
    z = rng.uniform(-1, 1, size=40)

    def integrand(t):
        gap = np.exp(1j * t * z).mean() - np.exp(-(t**2) / 2)
        return np.abs(gap) ** 2 * stats.norm.pdf(t)

    expected = 40 * quad(integrand, -8, 8)[0]
    # On the line all directions are the same up to the sign.
    assert epps_pulley_sliced(z[:, None]).statistic == pytest.approx(expected, rel=1e-3)


def test_max_correlation(Z):
    expected = np.abs(np.corrcoef(Z.T) - np.eye(3)).max()
    assert max_correlation(Z) == pytest.approx(expected)
    assert max_correlation(np.column_stack([Z[:, 0], -Z[:, 0]])) == pytest.approx(1.0)
    assert max_correlation(np.column_stack([Z[:, 0], np.full(80, 0.1)])) == 0.0
    assert max_correlation(Z[:, :1]) == 0.0


@pytest.mark.parametrize("d", [2, 4, 8])
def test_total_correlation_of_correlated_normals(d, rng):
    correlation = 0.4 * np.ones((d, d)) + 0.6 * np.eye(d)
    expected = -0.5 * np.linalg.slogdet(correlation)[1]
    Z = rng.standard_normal((4000, d)) @ np.linalg.cholesky(correlation).T
    # Not normal any more, but of the same copula.
    found = total_correlation(np.exp(Z), random_state=0)
    assert found == pytest.approx(expected, abs=0.08)


def test_total_correlation_sees_what_no_correlation_shows(rng):
    # A turned square: the entropies of its components are 1/2 nat, of the pair log 2.
    Z = ALTERNATIVES["copula"](8000, 2, rng)
    assert total_correlation(Z, random_state=0) == pytest.approx(1 - np.log(2), abs=0.06)


def test_total_correlation_of_a_copy_is_infinite(Z):
    assert total_correlation(np.column_stack([Z, Z[:, 0]])) == np.inf


def test_classifier_auc_of_a_shift(rng):
    Z = rng.standard_normal((4000, 2)) + np.array([1.0, 0.0])
    auc = classifier_auc(Z, classifier=LogisticRegression(), random_state=0)
    assert auc == pytest.approx(ndtr(1.0 / np.sqrt(2.0)), abs=0.02)


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
