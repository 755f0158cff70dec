"""What the scaling makes of columns, and what heavy tails cost."""

import math

import numpy as np
import torch
from over import over
from scipy import stats
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MinMaxScaler
from small import EPS, generator

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc
from sknoisydim.scaling import SCALINGS, Standardize, fit_scaling

RNG = np.random.default_rng(0)


@over(scaling=[*SCALINGS, None, MinMaxScaler()])
def test_there_and_back(scaling):
    rows = RNG.normal(3, [1.0, 10.0], size=(300, 2))
    module, x = fit_scaling(scaling, rows, 0), torch.from_numpy(rows)
    torch.testing.assert_close(module.inverse(module(x)), x, rtol=1e-5, atol=1e-5)
    if isinstance(scaling, str | None):
        x, step = 0.9 * x + 0.123, 1e-5  # the slope of quantiles jumps at each of the rows
        slopes = (module(x + step) - module(x - step)) / (2 * step)
        near = (module.log_abs_det(x) - slopes.log().sum(1)).abs() < 1e-4
        assert near.double().mean() > 0.9


def test_quantiles_make_columns_normal():
    rows = RNG.exponential(size=(2000, 2)) ** 3
    scaled = fit_scaling("quantile", rows, 0)(torch.from_numpy(rows)).numpy()
    assert (stats.kstest(scaled, "norm").statistic < 0.02).all()


def test_heavy_tails_do_not_drown_the_rest():
    """Cauchy columns, by default: the distribution is close, and what tells the classes is kept."""
    y = np.arange(1200) % 2
    rows = np.random.default_rng(5).standard_cauchy(size=(1200, 4)) + 4 * y[:, None]
    dim = NoisyDIMTransformer(2, keep_weight=0.3, max_epochs=20, batch_size=64, random_state=0)
    z = dim.fit(rows[:600]).transform(rows)
    judge = LogisticRegression().fit(z[:600], y[:600])
    assert judge.score(z[600:], y[600:]) > 0.8
    # 0.52; of columns that are standardised only 0.61.
    assert classifier_auc(z[600:], random_state=0) < 0.57


class TestHeavyTails:
    def scaled(self, rows, **options):
        return fit_scaling("squash", rows, 0, **options)(torch.from_numpy(rows)).numpy()

    def test_neighbours_of_lognormal_columns(self):
        X, y = make_classification(3000, 10, n_informative=6, random_state=0)
        rows = np.exp(3 * (X - X.mean(0)) / X.std(0))
        found = self.scaled(rows)
        judge = KNeighborsClassifier().fit(found[:2000], y[:2000])
        # 0.85; by mean and deviation 0.79, since most rows are next to each other.
        assert judge.score(found[2000:], y[2000:]) > 0.82

    def test_others_are_standardised_as_before(self):
        rows = np.stack([RNG.normal(size=999), RNG.exponential(size=999), np.arange(999) % 2], 1)
        u = (rows - rows.mean(0)) / rows.std(0)
        np.testing.assert_allclose(self.scaled(rows), u / np.sqrt(1 + (u / 3) ** 2))

    def test_a_row_far_out_stays_far_out(self):
        rows = RNG.standard_cauchy(size=(999, 1))
        scale = fit_scaling("squash", rows, 0)
        ends = scale(torch.tensor([[-1e9], [1e9]], dtype=torch.float64))
        torch.testing.assert_close(ends, torch.tensor([[-3.0], [3.0]], dtype=torch.float64))

    def test_weights_count(self):
        rows = np.concatenate([RNG.standard_cauchy(size=(500, 1)), np.full((500, 1), 7.0)])
        weights = np.repeat([1.0, 1e-9], 500)
        found = self.scaled(rows, weights=weights)[:500]
        np.testing.assert_allclose(found, self.scaled(rows[:500]), atol=0.05)


class TestSquash:
    # No float32 is the last of these means.
    mean, scale = np.array([0.0, 1e6, -3.0, 1e6 + 0.03]), np.array([1.0, 1e-12, 1e12, 1.0])

    @over(dtype=list(EPS), bound=[3.0, None])
    def test_is_its_formula(self, dtype, bound):
        u = 5 * torch.randn(200, 4, generator=generator(), dtype=torch.float64)
        x = (u * torch.as_tensor(self.scale) + torch.as_tensor(self.mean)).to(dtype)
        u = (x.double() - torch.as_tensor(self.mean)) / torch.as_tensor(self.scale)
        expected = u / (1 + (u / (bound or np.inf)).square()).sqrt()
        found = Standardize(self.mean, self.scale, bound)(x).double()
        torch.testing.assert_close(found, expected, rtol=6 * EPS[dtype], atol=0)

    @over(dtype=list(EPS))
    def test_keeps_the_order_within_the_bound(self, dtype):
        largest = math.log10(torch.finfo(dtype).max)
        powers = 10 ** torch.linspace(-30, largest - 0.01, 2000, dtype=torch.float64)
        x = torch.cat([-powers.flip(0), torch.zeros(1), powers])[:, None].expand(-1, 4).to(dtype)
        z = Standardize(self.mean, self.scale, 3.0)(x)
        assert z.isfinite().all()
        assert z.abs().max() <= 3 * (1 + 2 * EPS[dtype])
        assert (z.diff(dim=0) >= -6 * EPS[dtype]).all()
