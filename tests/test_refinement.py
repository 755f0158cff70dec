"""A refinement is an invertible map that takes embeddings closer to N(0, I)."""

import functools
import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, log_loss
from small import fails

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc
from sknoisydim.refinement import InvertibleMap, RotationGaussianization
from sknoisydim.refinement import _rotation as couplings
from sknoisydim.refinement._maps import Scale
from sknoisydim.refinement._rotation import apply, fit_rescaling, tables_map, towards_normal

X, _ = load_iris(return_X_y=True)
TABLE = np.concatenate([X + 0.01 * shift for shift in range(4)])


def bent(n, seed=0):
    """Uncorrelated, and far from normal jointly: a parabola with noise."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(n)
    v = (u**2 - 1) / np.sqrt(2)
    return np.stack([u, 0.9 * v + np.sqrt(0.19) * rng.standard_normal(n)], axis=1)


def groups(n, d=4, k=5, seed=0):
    """Clusters with unit covariance over all, and which one a row is of."""
    rng = np.random.default_rng(seed)
    centers = 3 * np.random.default_rng(7).standard_normal((k, d))
    codes = rng.integers(k, size=n)
    z = centers[codes] + rng.standard_normal((n, d))
    return (z - centers.mean(0)) / np.sqrt(centers.var(0) + 1), codes


def mapped(refined, z):
    return apply(refined, np.asarray(z, np.float64))[0]


class Keeper(BaseEstimator):
    """A refinement that changes nothing, and tells what it was given."""

    def build(self, z, seed, held_out):
        given = InvertibleMap(z.shape[1])
        given.z, given.held_out = z, held_out
        return given


def tables():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.uniform(0.01, 0.2, (2, 3, 129)), axis=2) - 6
    axes = [np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in values]
    return tables_map(list(zip(axes, values, strict=True)), 3)


@functools.cache
def whole():
    return RotationGaussianization().build(bent(4000), seed=0)


def trained_couplings(d):
    z, codes = groups(2000, d=d)
    return couplings.train_couplings([z, z[:200]], [codes, codes[:200]], 4, 0.1, 1.0, 0)


# Maps, their number of components, and how exact the logarithm of the determinant is.
MAPS = {
    "all of it": (whole, 2, 1e-8),
    "tables": (tables, 3, 1e-8),
    "couplings of two": (lambda: trained_couplings(2), 2, 1e-6),
    "couplings of seven": (lambda: trained_couplings(7), 7, 1e-6),
    "scale": (lambda: Scale(4, 2.0), 4, 1e-8),
}


@over("make, d, atol", MAPS)
def test_inverse_and_log_det(make, d, atol):
    layers, rng = make(), np.random.default_rng(1)
    z = torch.from_numpy(np.r_[rng.standard_normal((100, d)), 10 * rng.standard_normal((20, d))])
    assert (layers(z) - z).abs().max() > 0.1
    assert_allclose(layers.inverse(layers(z)), z, atol=1e-8)
    assert_allclose(layers(layers.inverse(z)), z, atol=1e-8)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: layers(row[None])[0]))(z)
    assert_allclose(layers.log_abs_det(z), jacobian.det().abs().log(), atol=atol)


def test_the_distribution_comes_closer_on_held_out_rows():
    z = bent(3000, 6)
    before, after = (classifier_auc(rows, random_state=0) for rows in (z, mapped(whole(), z)))
    assert after < 0.6 < 0.75 < before


def test_finite_for_finite_rows():
    rows = [[1e300, -1e300], [1e30, 0], [0, -1e30], [5, -5], [5.0, 1e-300], [0, 0]]
    z, refined = torch.tensor(rows, dtype=torch.float64), whole()
    for method in (refined, refined.inverse, refined.log_abs_det):
        assert method(z).isfinite().all()
    # A far row is moved by a bounded distance: no number of layers makes it much farther.
    assert refined(z).abs().max() < 2.1e300


@over(n=[2, 30, 210])
def test_few_rows(n):
    z = bent(n)
    refined = RotationGaussianization().build(z, seed=0)
    assert_allclose(refined.inverse(refined(torch.from_numpy(z))), z, atol=1e-6)
    if n < 200:  # fewer than 20 rows held out
        assert_array_equal(mapped(refined, z), z)


@over(rows=[np.zeros((500, 3)), np.tile(np.eye(3), (200, 1))])
def test_repeated_rows(rows):
    refined = RotationGaussianization().build(rows, seed=0)
    moved, log_det = apply(refined, rows)
    assert np.isfinite(moved).all()
    assert np.abs(log_det).max() < 4 * 6
    assert_allclose(refined.inverse(torch.from_numpy(moved)), rows, atol=1e-5)


def test_it_comes_between_encoder_and_target():
    model = NoisyDIMTransformer(3, max_epochs=2, random_state=0).fit(TABLE)
    plain = clone(model).set_params(refine=Keeper()).fit(TABLE)
    z, refined = plain.transform(X), model.transform(X)
    assert_allclose(refined, mapped(model.refinement_, z))
    assert np.abs(refined - z).max() > 0.01
    assert model.mutual_information_ == plain.mutual_information_
    assert_allclose(model.retarget("uniform").transform(X), stats.norm.cdf(refined), atol=1e-6)
    expected = stats.norm.logpdf(refined).sum(1) + apply(model.refinement_, z)[1]
    for target in ("normal", stats.beta(2, 5)):
        assert_allclose(model.retarget(target).score_samples(X), expected, atol=1e-6)
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), refined)
    assert_array_equal(clone(model).fit(TABLE).transform(X), refined)


class TestRowsThatTrainingDoesNotSee:
    def given(self, table=TABLE, fit=None, **parameters):
        parameters = {"refine": Keeper(), "max_epochs": 2, "random_state": 0} | parameters
        model = NoisyDIMTransformer(2, **parameters).fit(table, **fit or {})
        return model, model.refinement_.z, model.refinement_.held_out

    def test_they_are_a_share_of_the_table(self):
        model, z, held_out = self.given()
        assert (len(z), len(held_out)) == (540, 60)
        everything = model.transform(TABLE)
        rows = np.concatenate([z, held_out])
        assert_allclose(np.sort(rows, axis=0), np.sort(everything, axis=0), atol=1e-5)
        assert "valid_information" not in model.history_

    def test_the_encoder_does_not_know_them(self):
        table = np.random.default_rng(0).standard_normal((600, 4))
        model, _, held_out = self.given(table, scaling=None)
        z = model.transform(table)
        gone = np.array([np.abs(held_out - row).max(1).min() < 1e-5 for row in z])
        assert gone.sum() == len(held_out) == 60
        other = table + 3 * gone[:, np.newaxis]
        again, _, moved = self.given(other, scaling=None)
        assert_array_equal(again.transform(table), z)
        assert np.abs(moved - held_out).max() > 0.1

    def test_rows_that_are_passed_take_their_place(self):
        for early_stopping in (False, True):
            model, z, held_out = self.given(fit={"X_val": X}, early_stopping=early_stopping)
            assert_allclose(z, model.transform(TABLE), atol=1e-5)
            assert_allclose(held_out, model.transform(X), atol=1e-5)

    def test_the_map_stops_by_them(self):
        z, component = bent(600), RotationGaussianization()
        # The distribution of these has no need of any map.
        normal = np.random.default_rng(0).standard_normal((4000, 2))
        kept, moved = component.build(z, 0, normal), component.build(z, 0, bent(4000, 2))
        near, far_off = (np.abs(mapped(map_, z) - z).mean() for map_ in (kept, moved))
        assert near < 0.05 < far_off
        # Too few say nothing.
        few = component.build(z, 0, z[:19])
        assert_array_equal(mapped(few, z), mapped(component.build(z, 0), z))


def test_the_spread_is_that_of_held_out_rows():
    rng = np.random.default_rng(0)
    held_out = rng.standard_normal((2000, 4))
    fitted = rng.standard_normal((20_000, 4))
    assert fit_rescaling(1.1 * held_out, held_out, fitted) == pytest.approx(1.1, abs=0.01)
    # What is chance stays out: these rows are further out than others before the map, too.
    far = held_out[np.square(held_out).sum(1) > 2]
    assert fit_rescaling(far, far, fitted) == pytest.approx(1, abs=0.01)
    # Rows of another distribution, which a map pulls in and not far enough: none is pushed out.
    assert fit_rescaling(2 * held_out, 3 * held_out, fitted) == 1
    # Of what twenty rows show, what may be chance is taken off: 0.022 in the mean, or else 0.037.
    off = []
    for few in np.split(held_out[:800], 40):
        noisy = few + 0.3 * rng.standard_normal(few.shape)
        off.append(abs(fit_rescaling(noisy, few, fitted) - 1))
    assert np.mean(off) < 0.03


def test_rows_that_are_refused():
    nothing = np.zeros((30, 2))
    build = RotationGaussianization().build
    fails("Expected 2D array", build, np.zeros(3), 0)
    fails("z contains NaN", build, nothing + np.nan, 0)
    fails("held_out has 3 components, and z has 2", build, nothing, 0, np.zeros((30, 3)))
    fails("held_out contains infinity", build, nothing, 0, nothing + np.inf)


def test_what_may_be_chance_is_moved_less():
    rng = np.random.default_rng(0)
    normal, far = rng.standard_normal((2000, 1)), rng.uniform(-1.7, 1.7, (2000, 1))
    points = np.linspace(-5, 5, 129)
    inside = np.abs(points) < 1.5
    moved = [np.abs(towards_normal(u, 1.0)[0] - points)[inside].max() for u in (normal, far)]
    assert moved[0] < 0.01
    assert moved[1] > 0.1


class TestClusters:
    def test_they_are_found_without_labels(self):
        z, codes = groups(3000, d=6, k=12)
        (found,) = couplings.find_clusters([z], 12, 0)
        assert adjusted_rand_score(codes, found) > 0.7

    def test_separation_keeps_them_for_a_linear_model(self):
        z, codes = groups(3000, k=12)
        new, told = groups(3000, k=12, seed=1)
        losses = []
        for separation in (0.0, 3.0):
            refined = RotationGaussianization(separation=separation).build(z, 0)
            model = LogisticRegression(max_iter=2000).fit(mapped(refined, z), codes)
            losses.append(log_loss(told, model.predict_proba(mapped(refined, new))))
        assert losses[1] < 0.96 * losses[0]


class TestCouplings:
    def test_one_component_has_none(self):
        z = np.random.default_rng(0).exponential(size=(2000, 1)) - 1
        refined = RotationGaussianization(step=1.0).build(z, 0)
        assert stats.kstest(mapped(refined, z)[:, 0], "norm").statistic < 0.05

    def test_they_see_what_the_steps_along_axes_leave(self):
        def auc(z, **parameters):
            rows = mapped(RotationGaussianization(**parameters).build(z, 0), bent(3000, 1))
            return classifier_auc(rows, classifier="mlp", random_state=0)

        z = bent(4000)
        assert auc(z, couplings=12) < auc(z, couplings=0) - 0.01
        z[0] = 1e30  # a row far out costs the others little
        assert auc(z) < 0.62

    def test_more_rows_take_no_more_steps(self, monkeypatch):
        monkeypatch.setattr(couplings, "STEPS", 20)
        z, codes = bent(30_000), np.zeros(30_000, dtype=np.int64)
        step = torch.optim.Adam.step
        with mock.patch.object(torch.optim.Adam, "step", autospec=True, side_effect=step) as steps:
            couplings.train_couplings([z, z[:60]], [codes, codes[:60]], 2, 0.4, 0.0, 0)
        assert 10 < steps.call_count <= 20


def test_a_cluster_may_be_among_the_held_out_rows_alone():
    rows, codes = np.random.default_rng(0).standard_normal((60, 2)), np.zeros(60, dtype=np.int64)
    parts = [rows, rows[:20] + 1], [codes, codes[:20] + 1]
    layers = couplings.train_couplings(*parts, 1, 0.1, 1.0, seed=0)
    assert torch.isfinite(layers(torch.from_numpy(rows))).all()
