"""Linear information about reference features, the match to N(0, I), and what y becomes."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from over import over
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_friedman1
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures
from small import fails, small

from sknoisydim import _references
from sknoisydim._data import Rows, Table
from sknoisydim._labels import encode_target
from sknoisydim._linear import distance_to_normal, gaussian_mmd, linear_information
from sknoisydim._references import BEYOND_RIDGE, KernelComponents, PrincipalComponents
from sknoisydim._settings import auto_steps
from sknoisydim.metrics import classifier_auc
from sknoisydim.scaling import fit_scaling

X, Y = load_iris(return_X_y=True)
dim = small(max_epochs="auto", refine="rotation")


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def streamed(model, rows, y, known):
    for part in np.array_split(np.tile(np.flatnonzero(known), 5), 12):
        model.partial_fit(rows[part], y[part])
    return model


class TestLinearInformation:
    @over(rho=[0.0, 0.6, 0.95])
    def test_is_that_of_a_gaussian(self, rho):
        z, other = normal(200_000, 1), normal(200_000, 1, seed=1)
        u = rho * z + (1 - rho**2) ** 0.5 * other
        expected = -0.5 * np.log(1 - rho**2 / (1 + 0.3**2))
        assert float(linear_information(z, u + 3, 0.3)) == pytest.approx(expected, abs=0.01)

    def test_reaches_the_capacity_of_what_is_known_and_no_linear_map_matters(self):
        z = normal(50_000, 4)
        mixed = z @ normal(4, 6, seed=3) + 7
        capacity = 4 / 2 * np.log(1 + 1 / 0.5**2)
        assert float(linear_information(z, mixed, 0.5)) == pytest.approx(capacity, rel=0.01)

    def test_rows_of_which_nothing_is_known_do_not_count(self):
        z, u = normal(300, 3), normal(300, 2, seed=1) + normal(300, 3)[:, :2]
        some = u.clone()
        some[100:, 0] = torch.nan
        whole = linear_information(z[:100], u[:100], 0.2) / 3
        torch.testing.assert_close(linear_information(z, some, 0.2), whole, rtol=1e-4, atol=1e-4)

    def test_what_chance_shows_counts_above_a_limit(self):
        """Of features that say nothing (here of rank two), d * rank / 2 n nats in the mean."""
        draws = [(normal(400, 5, seed=2 * i), normal(400, 2, seed=2 * i + 1)) for i in range(40)]
        draws = [(z, torch.cat([u, u.sum(1, keepdim=True)], 1)) for z, u in draws]
        nats = [float(linear_information(z, u, 0.1)) for z, u in draws]
        assert np.mean(nats) == pytest.approx(5 * 2 / 800, rel=0.2)
        limited = [float(linear_information(z, u, 0.1, 0.0)) for z, u in draws]
        np.testing.assert_allclose(limited, np.minimum(nats, 5 * 2 / 800), atol=1e-4)

    def test_few_known_rows_give_finite_gradients(self):
        for known in (0, 1, 2):
            z, u = normal(8, 5).requires_grad_(), normal(8, 3, seed=1)
            u[known:] = torch.nan
            value = linear_information(z, u, 0.1)
            value.backward()
            assert torch.isfinite(value)
            assert torch.isfinite(z.grad).all()


class TestMatch:
    @over(d=[2, 8, 16])
    def test_is_the_kernel_distance_to_many_draws(self, d):
        z, y = 1.3 * normal(60, d) + 0.2, normal(200_000, d, seed=1)

        def kernel(a, b):
            return torch.exp(-(torch.cdist(a, b) ** 2) / (2 * d))

        pairs = (kernel(z, z).sum() - 60) / (60 * 59)
        among = (1 + 2 / d) ** (-d / 2)
        expected = (pairs - 2 * kernel(z, y).mean() + among) / (1 - among)
        assert float(gaussian_mmd(z)) == pytest.approx(float(expected), abs=5e-3)

    @over(d=[2, 8, 16])
    def test_sees_a_shell_and_clusters(self, d):
        z = normal(512, d)
        clean = [float(distance_to_normal(normal(512, d, seed=s))) for s in range(1, 20)]
        for other in (z / z.norm(dim=1, keepdim=True) * d**0.5, z.sign()):
            assert float(distance_to_normal(other)) > 10 * max(clean)


class TestDistribution:
    @over(d=[2, 4, 8, 16])
    def test_gaussian_latents_are_no_shell(self, d):
        latent = np.random.default_rng(0).standard_normal((5000, 20))
        model = dim(d).fit(latent[:4000])
        z = model.transform(latent[:4000])
        assert 0.85 < np.square(z).sum(1).var() / (2 * d) < 1.15
        held_out = model.transform(latent[4000:])
        assert classifier_auc(held_out, classifier="mlp", random_state=0) < 0.6


class TestKept:
    def test_components_are_those_of_scikit_learn(self):
        rows = normal(400, 6) @ normal(6, 6, seed=1)
        made = PrincipalComponents().build(rows, 3, 0)(rows).numpy()
        expected = PCA(3, whiten=True).fit_transform(rows.numpy())
        np.testing.assert_allclose(np.abs(made), np.abs(expected), rtol=1e-3, atol=1e-3)

    def test_the_kernel_knows_a_ring(self):
        rows, y = torch.cat([normal(500, 10), 3 * normal(500, 10, seed=1)]), np.repeat([0, 1], 500)
        cases = (KernelComponents(), 0.95, 1), (PrincipalComponents(), 0, 0.65)
        for component, least, most in cases:
            u = component.build(rows, 8, 0)(rows).numpy()
            assert least <= LogisticRegression().fit(u, y).score(u, y) <= most
            np.testing.assert_allclose(u.var(0), 1, atol=0.05)

    @over(component=[KernelComponents(), PrincipalComponents()])
    def test_poor_tables_make_finite_components(self, component):
        poor = torch.zeros(5, 3), normal(2, 3), normal(40, 1).repeat(1, 4), torch.zeros(3, 2) / 0
        for rows in poor:
            assert torch.isfinite(component.build(rows, 4, 0)(rows)).all()

    def test_what_is_kept_is_what_a_linear_model_reads(self):
        rows, read = load_digits().data, []
        first = PCA(8).fit_transform(rows)
        for weight in (0.0, 10.0):
            z = dim(8, keep="pca", keep_weight=weight, refine=None).fit_transform(rows)
            read.append(LinearRegression().fit(z, first).score(z, first))
        assert read[1] > max(0.9, read[0] + 0.1)

    def test_any_transformer_says_what_stays_readable(self):
        squares = PolynomialFeatures(2, include_bias=False)
        rows = np.random.default_rng(0).standard_normal((600, 3))
        wanted = squares.fit_transform(rows)[:, 3:]
        embedded = (dim(9, keep=keep).fit_transform(rows) for keep in ("pca", squares))
        before, after = (LinearRegression().fit(z, wanted).score(z, wanted) for z in embedded)
        assert after > before + 0.1
        few = {"max_epochs": 1, "refine": None, "random_state": 0}
        drawn = [dim(2, keep=RBFSampler(), **few).fit_transform(rows) for _ in range(2)]
        assert (drawn[0] == drawn[1]).all()
        sparse = OneHotEncoder(handle_unknown="ignore")
        assert np.isfinite(dim(2, keep=sparse, max_epochs=1).fit_transform(X)).all()
        assert np.isfinite(dim(2, keep=None, max_epochs=1).fit(X, X_val=X[:9]).transform(X)).all()

    def test_rows_of_small_weight_hardly_count(self):
        rows, far = normal(300, 6).numpy(), normal(300, 6, seed=1).numpy()
        rows[:, 0], far[:, 5] = 5 * rows[:, 0], 50 * far[:, 5]
        given = {"keep": "pca", "keep_weight": 10.0, "scaling": None, "refine": None}
        model = dim(1, **given, max_epochs=30)
        model.fit(np.concatenate([rows, far]), sample_weight=np.repeat([1.999, 0.001], 300))
        assert abs(np.corrcoef(model.transform(rows)[:, 0], rows[:, 0])[0, 1]) > 0.95


class TestLabels:
    @over(
        # Samples that training knows, of half of them the labels alone, and of a stream.
        case={
            "train": (lambda model, x, y, known: model.fit(x[known], y[known]), 100.0, 0.05),
            "labels": (lambda model, x, y, known: model.fit(x, np.where(known, y, -1)), 30.0, 0.03),
            "stream": (streamed, 100.0, 0.03),
        }
    )
    def test_classes_come_apart(self, case):
        (fit, supervision, gain), (rows, y) = case, load_digits(return_X_y=True)
        known, scores = np.random.default_rng(0).random(len(y)) < 0.6, []
        for weight in (0.0, supervision):
            z = fit(dim(8, supervision=weight, refine=None), rows, y, known).transform(rows)
            judge = LogisticRegression(max_iter=500).fit(z[known], y[known])
            scores.append(judge.score(z[~known], y[~known]))
        assert scores[1] > scores[0] + gain

    # Noise in y is not learnt by heart: the second is 0.2 below without a limit.
    @over(case={"kept": (1000, 0.5, 0.05), "noise": (1400, 5.0, -0.05)})
    def test_a_regression_is_kept_and_its_noise_is_not(self, case):
        n, noise, gain = case
        rows, y = make_friedman1(n, noise=noise, random_state=0)
        train, test, y_train, y_test = train_test_split(rows, y, random_state=0)
        model = dim(supervision=100.0).fit(train, y_train)
        ridge = Ridge().fit(model.transform(train), y_train)
        raw = Ridge().fit(train, y_train).score(test, y_test)
        assert ridge.score(model.transform(test), y_test) > raw + gain

    def test_information_about_y_is_limited_where_it_could_be_learnt_by_heart(self, monkeypatch):
        rows, y = normal(300, 4).numpy(), normal(300, 1, seed=1).numpy()

        def limits(y=y, shape=None, weights=None, **parameters):
            parameters = {"keep": None, "supervision": 1.0, "n_components": 4} | parameters
            table = Table(rows, y, weights, shape)
            table = Rows(table, fit_scaling("standard", rows, 0), torch.device("cpu"))
            made = _references.References(SimpleNamespace(**parameters), table, y is not None, 0)
            return made.limits(table, 0.5, 0)

        assert limits(y=None) == ()
        assert limits()[0] < 0.01  # y says nothing
        told = np.where(np.arange(300)[:, None] < 200, rows[:, :2], np.nan).astype(np.float32)
        assert limits(told)[0] == pytest.approx(BEYOND_RIDGE * np.log(1 + 1 / 0.5**2), rel=0.01)
        one = limits(told, n_components=1)[0]  # carries one of the two
        assert one == pytest.approx(BEYOND_RIDGE * np.log(1 + 1 / 0.5**2) / 2, rel=0.01)
        classes = (rows[:, 0] > 0).astype(int)
        assert 0.2 < limits(classes)[0] < 0.5 * np.log(1 + 1 / 0.5**2)
        assert limits(keep=PrincipalComponents(), keep_weight=1.0)[0] == np.inf
        some = np.where(np.arange(300)[:, None] < 200, rows[:, :1], y)  # the others hardly count
        weights = np.repeat([1.4999, 0.0002], [200, 100])
        assert limits(some)[0] < 0.5 < 0.8 < limits(some, weights=weights)[0]
        assert limits(shape=(2, 2)) == (np.inf,)
        monkeypatch.setattr("sknoisydim._references.LIMITED_ROWS", 299)
        assert limits() == (np.inf,)

    def test_y_may_be_in_any_of_many_columns(self):
        rows = normal(600, 100)
        found = _references._ridge_information(rows, rows[:, -1:], 8, 0.5, 0)
        assert found > 0.95 * 0.5 * np.log(5)

    def test_integers_of_a_regression_are_numbers(self):
        rows, y = load_diabetes(return_X_y=True)
        assert len(np.unique(y)) > 200
        assert encode_target(rows, y).shape == (442, 1)  # floats: not even a warning
        y = y.astype(int)
        with pytest.warns(UserWarning, match="taken for numbers"):
            codes = encode_target(rows, y)
        assert codes.shape == (442, 1)
        model = dim(2, supervision=1, refine=None, max_epochs=1)
        for call in (model.fit, model.partial_fit, partial(model.diagnose, classifier=False)):
            with pytest.warns(UserWarning, match="taken for numbers") as told:
                call(rows, y)
            assert told[0].filename == __file__
        np.testing.assert_allclose(codes[:, 0], (y - y.mean()) / y.std(), rtol=1e-5)
        assert encode_target(rows, [str(label) for label in y]).dtype == int
        with pytest.warns(UserWarning, match="taken for numbers"):
            around = encode_target(rows, y - y.min() - 1)  # -1 is a number here
        np.testing.assert_allclose(around, codes, rtol=1e-4, atol=1e-5)

    def test_what_y_becomes(self):
        for classes in (Y, Y[:, None], pd.Series(Y, dtype="Int64")):
            assert encode_target(X, classes).shape == (150,)
        for numbers in (Y + 0.5, [None, *(Y[1:] + 0.5)]):
            assert encode_target(X, numbers).shape == (150, 1)
        assert encode_target(X, np.column_stack([Y, Y])).shape == (150, 2)

    def test_what_is_refused(self):
        fit, dates = dim(supervision=1.0).fit, np.datetime64("2020-01-01") + np.arange(150)
        fails("requires y to be passed", fit, X)
        for unlabelled in (np.full(150, -1), np.full((150, 2), np.nan)):
            fails("unlabelled", fit, X, unlabelled)
        fails("infinity", fit, X, np.r_[np.inf, Y[1:]])
        fails("inconsistent", fit, X, Y[:9])
        fails("numbers", fit, X, np.array([["a", "b"]] * 150))
        fails("dates or durations", fit, X, dates, error=TypeError)

    def test_codes_of_a_batch_are_the_classes_that_two_rows_share(self):
        made = _references.of_targets(np.array([0, 0, 2, -1, -1, 5, 5]), torch.device("cpu"))
        features = made(torch.arange(7), torch.zeros(7, 1))
        unknown = [False, False, True, True, True, False, False]
        assert features.isnan().any(1).tolist() == unknown
        assert features.shape == (7, 2)


def test_steps_of_max_epochs_auto():
    assert [auto_steps(n) for n in (150, 1900, 12_000, 10**7)] == [67, 87, 219, 400]
