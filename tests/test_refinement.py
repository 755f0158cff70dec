"""A refinement is an invertible map that takes embeddings closer to N(0, I)."""

import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, log_loss, roc_auc_score

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc, relative_distance
from sknoisydim.refinement import (
    REFINEMENTS,
    FlowRefinement,
    RotationGaussianization,
    _clusters,
    _coupling,
    resolve_refinement,
)
from sknoisydim.refinement._base import Identity, Scale, spread_of
from sknoisydim.refinement._clusters import find_clusters
from sknoisydim.refinement._coupling import Couplings, auto_couplings
from sknoisydim.refinement._flow import auto_lr
from sknoisydim.refinement._rotation import RotationMap, discriminant_axes, towards_normal

X, _ = load_iris(return_X_y=True)
TABLE = np.concatenate([X + 0.01 * shift for shift in range(4)])

# Parameters with which a member of the table is quick; a new one is tested without an entry.
QUICK = {
    "flow": {"max_epochs": 4, "start": RotationGaussianization(max_layers=40, couplings=2)},
    "rotation": {"max_layers": 60, "couplings": 4},
}

each = pytest.mark.parametrize("name", REFINEMENTS)


def component(name):
    return resolve_refinement(name).set_params(**QUICK.get(name, {}))


def bent(n, seed=0):
    """Uncorrelated, and far from normal jointly: a parabola with noise."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(n)
    v = (u**2 - 1) / np.sqrt(2)
    return np.stack([u, 0.9 * v + np.sqrt(0.19) * rng.standard_normal(n)], axis=1)


class Keeper(BaseEstimator):
    """A refinement that changes nothing, and tells what it was given."""

    def build(self, z, seed, held_out):
        given = Identity(z.shape[1])
        given.z, given.held_out = z, held_out
        return given


@pytest.fixture(scope="module")
def maps():
    return {name: component(name).build(bent(4000), seed=0) for name in REFINEMENTS}


@each
class TestMap:
    def test_inverse(self, maps, name):
        z = np.concatenate([bent(500, 1), 10 * bent(50, 2)])
        assert_allclose(maps[name].inverse(maps[name].forward(z)), z, atol=1e-5)
        assert_allclose(maps[name].forward(maps[name].inverse(z)), z, atol=1e-5)

    def test_finite_for_finite_rows(self, maps, name):
        rows = np.array([[1e300, -1e300], [1e30, 0], [0, -1e30], [5, -5], [5.0, 1e-300], [0, 0]])
        for method in ("forward", "inverse", "log_abs_det"):
            assert np.isfinite(getattr(maps[name], method)(rows)).all()
        # A far row is moved by a bounded distance: no number of layers makes it much farther.
        assert np.abs(maps[name].forward(rows)).max() < 2.1e300

    def test_log_det_is_that_of_the_jacobian(self, maps, name):
        step = 1e-6
        for z in bent(20, 3):
            ends = maps[name].forward(z + step * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]))
            jacobian = (ends[[0, 2]] - ends[[1, 3]]) / (2 * step)
            expected = np.linalg.slogdet(jacobian)[1]
            assert_allclose(maps[name].log_abs_det(z[None])[0], expected, atol=1e-3)

    def test_the_density_integrates_to_one(self, maps, name):
        axis = np.linspace(-8, 8, 401)
        grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        total = np.exp(maps[name].log_density(grid)).sum() * (axis[1] - axis[0]) ** 2
        assert_allclose(total, 1, atol=0.02)

    def test_rows_do_not_know_each_other(self, maps, name):
        z = bent(300, 4)
        alone = np.concatenate([maps[name].forward(row[None]) for row in z[:50]])
        assert_allclose(maps[name].forward(z)[:50], alone, atol=1e-10)

    def test_deterministic_and_picklable(self, maps, name):
        z = bent(100, 5)
        before = torch.get_rng_state()
        again = pickle.loads(pickle.dumps(component(name).build(bent(4000), seed=0)))
        assert torch.equal(torch.get_rng_state(), before)
        assert_array_equal(again.forward(z), maps[name].forward(z))

    def test_the_law_comes_closer_on_held_out_rows(self, maps, name):
        z = bent(3000, 6)
        for classifier in ("boosting", "mlp"):
            raw = classifier_auc(z, classifier=classifier, random_state=0)
            refined = classifier_auc(maps[name].forward(z), classifier=classifier, random_state=0)
            assert raw > 0.75
            assert refined < 0.6
        gain = maps[name].log_density(z).mean() - stats.norm.logpdf(z).sum(1).mean()
        assert gain > 0.3

    def test_wrong_shape(self, maps, name):
        for rows in (np.zeros(2), np.zeros((3, 4))):
            with pytest.raises(ValueError, match=r"rows of shape \(n, 2\)"):
                maps[name].forward(rows)


@each
@pytest.mark.parametrize("d", [1, 4])
def test_normal_rows_stay_as_they_are(name, d):
    rng = np.random.default_rng(0)
    refined = component(name).build(rng.standard_normal((4000, d)), seed=0)
    z = rng.standard_normal((2000, d))
    assert relative_distance("sliced_wasserstein", refined.forward(z), random_state=0) < 1.5
    loss = (stats.norm.logpdf(z).sum(1) - refined.log_density(z)).mean()
    assert loss < 0.02
    assert np.sqrt(np.square(refined.forward(z) - z).sum(1).mean()) < 0.2 * np.sqrt(d)


@each
@pytest.mark.parametrize("n", [2, 3, 30, 100, 210])
def test_few_rows(name, n):
    z = bent(n)
    refined = component(name).build(z, seed=0)
    assert_allclose(refined.inverse(refined.forward(z)), z, atol=1e-5)
    if n < 200:  # fewer than 20 rows held out
        assert_array_equal(refined.forward(z), z)


@each
@pytest.mark.parametrize("rows", [np.zeros((500, 3)), np.tile(np.eye(3), (200, 1))])
def test_repeated_rows(name, rows):
    refined = component(name).build(rows, seed=0)
    assert np.isfinite(refined.log_density(rows)).all()
    assert np.abs(refined.log_abs_det(rows)).max() < 3 * 6
    assert_allclose(refined.inverse(refined.forward(rows)), rows, atol=1e-5)


@pytest.fixture(scope="module")
def fitted():
    # With clean_weight=1 a refinement changes nothing before it.
    shared = {"clean_weight": 1.0, "max_epochs": 2, "random_state": 0}
    return {
        name: NoisyDIMTransformer(3, refine=component(name), **shared).fit(TABLE)
        for name in REFINEMENTS
    }


@each
class TestEstimator:
    def test_comes_between_encoder_and_target(self, fitted, name):
        model = fitted[name]
        plain = clone(model).set_params(refine=Keeper()).fit(TABLE)
        z, refined = plain.transform(X), model.transform(X)
        assert_allclose(refined, model.refinement_.forward(z))
        assert_allclose(model.refinement_.inverse(refined), z, atol=1e-5)
        assert model.mutual_information_ == plain.mutual_information_
        assert model.score(X) == plain.score(X)
        assert_allclose(model.retarget("uniform").transform(X), stats.norm.cdf(refined), atol=1e-6)

    def test_score_samples_is_the_density_of_the_embedding(self, fitted, name):
        model = fitted[name]
        refined = model.transform(X)
        z = model.refinement_.inverse(refined)
        expected = stats.norm.logpdf(refined).sum(1) + model.refinement_.log_abs_det(z)
        assert_allclose(model.score_samples(X), expected, atol=1e-6)
        assert_allclose(model.retarget(stats.beta(2, 5)).score_samples(X), expected, atol=1e-6)

    def test_pickle_and_clone(self, fitted, name):
        model = fitted[name]
        assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))
        again = clone(model).fit(TABLE)
        assert_array_equal(again.transform(X), model.transform(X))

    def test_by_name(self, name):
        model = NoisyDIMTransformer(2, refine=name, max_epochs=1, random_state=0).fit(X)
        assert model.transform(X).shape == (len(X), 2)


class TestRowsThatTrainingDoesNotSee:
    """A refinement stops by rows that are embedded as new ones are."""

    def given(self, table=TABLE, fit=None, **parameters):
        parameters = {"refine": Keeper(), "max_epochs": 2, "random_state": 0} | parameters
        model = NoisyDIMTransformer(2, **parameters).fit(table, **fit or {})
        return model, model.refinement_.z, model.refinement_.held_out

    def test_they_are_a_share_of_the_table(self):
        model, z, held_out = self.given(validation_fraction=0.25)
        assert (len(z), len(held_out)) == (450, 150)
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

    def test_no_more_than_the_refinement_reads(self, monkeypatch):
        monkeypatch.setattr("sknoisydim._training._fit.HELD_OUT_ROWS", 30)
        _, z, held_out = self.given()
        assert (len(z), len(held_out)) == (570, 30)
        _, z, held_out = self.given(early_stopping=True)
        assert (len(z), len(held_out)) == (540, 60)

    def test_early_stopping_and_the_refinement_share_them(self):
        _, z, held_out = self.given()
        model, z_too, held_out_too = self.given(early_stopping=True)
        assert (z.shape, held_out.shape) == (z_too.shape, held_out_too.shape)
        assert len(model.history_["valid_information"]) == 2

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_rows_that_are_passed_take_their_place(self, early_stopping):
        model, z, held_out = self.given(fit={"X_val": X}, early_stopping=early_stopping)
        assert_allclose(z, model.transform(TABLE), atol=1e-5)
        assert_allclose(held_out, model.transform(X), atol=1e-5)

    def test_a_small_table_has_none_to_spare(self):
        model, z, held_out = self.given(X)
        assert held_out is None
        assert_allclose(z, model.transform(X), atol=1e-5)

    def test_a_stream_holds_none_out(self):
        model = NoisyDIMTransformer(2, refine=Keeper()).partial_fit(TABLE)
        assert model.refinement_.held_out is None

    def test_without_a_refinement_training_sees_all(self):
        seen = []
        for fraction in (0.1, 0.4):
            model = NoisyDIMTransformer(2, validation_fraction=fraction, max_epochs=2)
            seen.append(model.set_params(random_state=0).fit(TABLE).transform(X))
        assert_array_equal(*seen)

    def test_rows_of_weight_zero_are_not_among_them(self):
        weights = np.repeat([0.0, 1.0], len(TABLE) // 2)
        model, _, held_out = self.given(fit={"sample_weight": weights})
        z = model.transform(TABLE[300:])
        assert len(held_out) == 30
        assert max(np.abs(z - row).max(1).min() for row in held_out) < 1e-5

    @each
    def test_the_map_stops_by_them(self, name):
        z = bent(600)
        # The law of these has no need of any map.
        normal = np.random.default_rng(0).standard_normal((4000, 2))
        kept = component(name).build(z, 0, normal)
        moved = component(name).build(z, 0, bent(4000, 2))
        near, far_off = (np.abs(map_.forward(z) - z).mean() for map_ in (kept, moved))
        assert near < 0.05 < far_off
        # Too few say nothing.
        few = component(name).build(z, 0, z[:19])
        assert_array_equal(few.forward(z), component(name).build(z, 0).forward(z))


def test_the_spread_is_that_of_held_out_rows():
    rng = np.random.default_rng(0)
    held_out = rng.standard_normal((2000, 4))
    fitted = rng.standard_normal((20_000, 4))
    assert spread_of(1.1 * held_out, held_out, fitted).factor == pytest.approx(1.1, abs=0.01)
    # What is chance stays out: these rows are further out than others before the map, too.
    far = held_out[np.square(held_out).sum(1) > 2]
    assert spread_of(far, far, fitted).factor == pytest.approx(1, abs=0.01)
    # Rows of another law, which a map pulls in and not far enough: no row is pushed out for them.
    assert spread_of(2 * held_out, 3 * held_out, fitted).factor == 1
    few = held_out[:20]
    noise = few + 0.3 * rng.standard_normal(few.shape)
    assert abs(spread_of(noise, few, fitted).factor - 1) < 0.1
    scale = Scale(4, 2.0)
    assert_allclose(scale.inverse(scale.forward(few)), few)
    assert_allclose(scale.log_abs_det(few), -4 * np.log(2))


@each
def test_rows_that_are_none_are_refused(name):
    component = resolve_refinement(name)
    z = bent(100)
    for rows, held_out, message in (
        (z[:, 0], None, r"shape \(n, d\), got \(100,\)"),
        (z[:, :0], None, r"shape \(n, d\), got \(100, 0\)"),
        (z, z[:, :1], r"shape \(m, 2\), got \(100, 1\)"),
        (np.full((100, 2), np.nan), None, "finite rows, got NaN"),
        (z, np.full((100, 2), np.inf), "finite rows, got NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            component.build(rows, 0, held_out)


def test_an_unknown_name_and_a_wrong_object():
    with pytest.raises(ValueError, match="Did you mean 'rotation'"):
        NoisyDIMTransformer(refine="rotatoin").fit(X)
    with pytest.raises(TypeError, match="an object with a method 'build'"):
        NoisyDIMTransformer(refine=3).fit(X)


@pytest.mark.parametrize(
    "refine",
    [
        RotationGaussianization(shrinkage=-1),
        RotationGaussianization(knots=2),
        RotationGaussianization(clusters=-1),
        RotationGaussianization(couplings=-1),
        RotationGaussianization(separation=-1),
        FlowRefinement(lr=0),
        FlowRefinement(transport=-1),
        FlowRefinement(clusters=-1),
        FlowRefinement(separation=-1),
    ],
    ids=[
        *("shrinkage", "knots", "clusters", "couplings", "separation"),
        *("lr", "transport", "flow clusters", "flow separation"),
    ],
)
def test_unusable_parameters_are_refused_before_training(refine):
    with pytest.raises(ValueError, match=r"refine \w+ must be"):
        NoisyDIMTransformer(refine=refine, max_epochs=10**9).fit(X)


def test_a_refinement_that_takes_no_held_out_rows_is_refused_before_training():
    class Old(BaseEstimator):
        def build(self, z, seed):
            raise AssertionError

    model = NoisyDIMTransformer(refine=Old(), max_epochs=10**9)
    with pytest.raises(
        TypeError, match=r"refine=Old\(\) .* as build\(z, seed, held_out\): too many"
    ):
        model.fit(X)


@pytest.mark.parametrize(
    "parameters",
    [
        {"step": 0},
        {"step": 1.5},
        {"knots": 2},
        {"max_layers": 0},
        {"shrinkage": -1},
        {"validation_fraction": 1.0},
    ],
)
def test_parameters_are_checked(parameters):
    with pytest.raises(ValueError, match=f"refine {next(iter(parameters))}"):
        RotationGaussianization(**parameters).build(bent(300), seed=0)


@pytest.mark.parametrize(
    "component",
    [
        RotationGaussianization(knots="some"),
        RotationGaussianization(knots=None),
        RotationGaussianization(couplings="some"),
        RotationGaussianization(couplings=None),
        FlowRefinement(lr="some"),
    ],
    ids=["knots", "no knots", "couplings", "no couplings", "lr"],
)
def test_what_may_be_auto_is_no_other_string(component):
    with pytest.raises(TypeError, match=r"refine (knots|couplings|lr) must be 'auto' or a"):
        component.build(bent(300), seed=0)


def test_auto_follows_the_rows_of_a_component():
    few, many = (
        RotationGaussianization(max_layers=1, couplings=0).build(bent(n), seed=0)
        for n in (400, 8000)
    )
    assert few.layers[0][1].x.shape[1] < many.layers[0][1].x.shape[1]


@pytest.mark.parametrize(
    ("n", "expected"), [(9, 2.5e-4), (4250, 2.5e-4), (6800, 6.4e-4), (8500, 1e-3), (10**6, 1e-3)]
)
def test_few_rows_have_short_steps(n, expected):
    assert auto_lr(n, 10) == pytest.approx(expected)


def test_what_may_be_chance_is_moved_less():
    rng = np.random.default_rng(0)
    normal, far = rng.standard_normal((1000, 8)), np.tile(bent(1000), 4)
    moved = {}
    for shrinkage in (0, 1, 4):
        for rows, name in ((normal, "normal"), (far, "far")):
            splines = towards_normal(rows, 14, 0.3, shrinkage)
            moved[name, shrinkage] = np.square(splines.y - splines.x).sum()
    assert moved["normal", 1] < 0.5 * moved["normal", 0]
    assert moved["normal", 4] < 1e-3 * moved["normal", 0]
    assert moved["far", 4] > 0.6 * moved["far", 0]


def blobs(seed, n=2400, d=3):
    """Twelve round clusters, white together, and the cluster of each row."""
    rng = np.random.default_rng(seed)
    y = rng.integers(12, size=n)
    z = rng.standard_normal((12, d))[y] + 0.1 * rng.standard_normal((n, d))
    z = z - z.mean(0)
    return z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T, y


def loss_of_clusters(refinement):
    """Return what a linear model of refined rows does not know of the clusters of new ones."""
    lost = 0
    for seed in range(2):
        z, y = blobs(seed)
        refined = refinement.build(z[:1600], seed).forward(z)
        model = LogisticRegression(max_iter=1000).fit(refined[:1600], y[:1600])
        lost += log_loss(y[1600:], model.predict_proba(refined[1600:]))
    return lost


class TestClusters:
    def test_they_are_found_without_labels(self):
        z, y = blobs(0)
        found = find_clusters(z, 12, seed=0).predict(z)
        assert adjusted_rand_score(y, found) > 0.8

    @pytest.mark.parametrize(("n", "most", "expected"), [(2400, 12, 12), (100, 12, 3), (59, 12, 0)])
    def test_few_rows_have_few(self, n, most, expected):
        found = find_clusters(blobs(0, n)[0], most, seed=0)
        assert (0 if found is None else found.n_components) == expected

    def test_repeated_rows_warn_of_nothing(self):
        before = list(warnings.filters)
        rows = np.repeat(blobs(0)[0][:2], 300, axis=0)
        assert np.isfinite(find_clusters(rows, 12, seed=0).means_).all()
        assert list(warnings.filters) == before

    def test_the_rows_that_they_are_found_from_count(self, monkeypatch):
        monkeypatch.setattr(_clusters, "CLUSTER_ROWS", 90)
        assert find_clusters(blobs(0)[0], 12, seed=0).n_components == 3

    def test_a_row_too_far_out_for_a_covariance_leaves_none(self):
        z = blobs(0)[0]
        z[0] = 1e100
        assert find_clusters(z, 12, seed=0) is None
        assert np.isfinite(RotationGaussianization(max_layers=2).build(z, seed=0).forward(z)).all()

    def test_an_axis_tells_two_of_them_apart(self):
        z, y = blobs(0)
        told = []
        for seed in range(10):
            axes = discriminant_axes(z[y < 2], y[y < 2], np.random.default_rng(seed))
            assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
            share = roc_auc_score(y[y < 2], z[y < 2] @ axes[0])
            told.append(max(share, 1 - share))
        # The pair is drawn, and may be one cluster twice.
        assert np.median(told) > 0.99

    def test_every_other_layer_follows_them(self):
        z, _ = blobs(0)
        with_, without = (
            RotationGaussianization(4, clusters=clusters, knots=5, couplings=0).build(z, seed=0)
            for clusters in (12, 0)
        )
        assert_array_equal(with_.layers[0][0], without.layers[0][0])
        assert np.abs(with_.layers[1][0] - without.layers[1][0]).max() > 1e-3

    def test_separation_keeps_them_for_a_linear_model(self):
        settings = {"hidden": 64, "start": None, "max_epochs": 10, "batch_size": 64, "clusters": 12}
        lost = {
            separation: loss_of_clusters(FlowRefinement(**settings, separation=separation))
            for separation in (0, 3)
        }
        assert lost[3] < 0.8 * lost[0]


class TestCouplings:
    def layers(self, d, n_layers=6, size=0.5):
        """Layers whose weights are not zero, as training leaves them."""
        layers = Couplings(n_layers, d, torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in (layers.turn, layers.outer, layers.outer_bias):
                parameter.normal_(0, size, generator=generator)
        return layers

    @pytest.mark.parametrize("d", [2, 3, 8])
    def test_they_start_at_the_identity(self, d):
        z = torch.randn(50, d, generator=torch.Generator().manual_seed(0))
        moved, log_det = Couplings(4, d, torch.Generator().manual_seed(0))(z)
        assert_allclose(moved.detach().numpy(), z.numpy(), atol=1e-5)
        assert_array_equal(log_det.detach().numpy(), 0)

    @pytest.mark.parametrize("d", [2, 3, 8])
    def test_the_map_is_what_was_trained(self, d):
        layers = self.layers(d)
        z = 2 * np.random.default_rng(0).standard_normal((200, d))
        moved, log_det = layers(torch.from_numpy(z).float())
        fitted = layers.to_map()
        assert np.abs(fitted.forward(z) - z).max() > 1
        assert_allclose(fitted.forward(z), moved.detach().numpy(), atol=1e-3)
        close = np.isclose(fitted.log_abs_det(z), log_det.detach().numpy(), atol=1e-3)
        assert close.mean() > 0.98  # a row may lie on either side of a bound in float32

    @pytest.mark.parametrize("d", [2, 3, 8])
    def test_inverse_and_log_det(self, d):
        fitted = self.layers(d).to_map()
        z = 3 * np.random.default_rng(0).standard_normal((6000, d))
        assert_allclose(fitted.inverse(fitted.forward(z)), z, atol=1e-8)
        assert_allclose(fitted.forward(fitted.inverse(z)), z, atol=1e-8)
        for row in np.random.default_rng(1).standard_normal((10, d)):
            steps = row + 1e-6 * np.concatenate([np.eye(d), -np.eye(d)])
            ends = fitted.forward(steps)
            expected = np.linalg.slogdet((ends[:d] - ends[d:]) / 2e-6)[1]
            assert_allclose(fitted.log_abs_det(row[None])[0], expected, atol=1e-3)

    def test_a_far_row_is_moved_by_a_bounded_distance(self):
        fitted = self.layers(4).to_map()
        far = np.random.default_rng(0).standard_normal((100, 4))
        far *= 1e6 / np.linalg.norm(far, axis=1, keepdims=True)
        for size in (1, 1e6):
            assert np.abs(fitted.forward(size * far) - size * far).max() < 1e3

    @pytest.mark.parametrize(("n", "d", "expected"), [(205, 5, 0), (1200, 4, 7)])
    def test_few_rows_have_few(self, n, d, expected):
        z = np.random.default_rng(0).standard_t(4, size=(n, d))
        refined = RotationGaussianization(max_layers=1).build(z, seed=0)
        assert auto_couplings(n, d) == expected
        assert isinstance(refined, RotationMap) == (expected == 0)

    def test_one_component_has_none(self):
        z = np.random.default_rng(0).standard_t(4, size=(400, 1))
        assert type(RotationGaussianization(couplings=3).build(z, seed=0)) is RotationMap

    def test_more_rows_take_no_more_steps(self, monkeypatch):
        steps = []

        def descend(module, forward, objective, fitted, held_out, *, max_epochs, **kwargs):
            steps.append(max_epochs * -(-len(fitted) // 512))

        monkeypatch.setattr(_coupling, "descend", descend)
        rows = np.zeros((2_000_000, 2))
        for n in (1000, 11_000, 100_000, 2_000_000):
            _coupling.fit_couplings((rows[:n], None), (rows[:50], None), 1, None, 1.0, seed=0)
        assert steps == [32, 352, 196, 356]

    @pytest.mark.parametrize(("d", "n"), [(4, 4000), (8, 8000)])
    def test_rows_without_clusters_are_not_pulled_apart(self, d, n):
        rng = np.random.default_rng(0)
        refined = RotationGaussianization(max_layers=20).build(rng.standard_normal((n, d)), seed=0)
        z = rng.standard_normal((4000, d))
        assert (stats.norm.logpdf(z).sum(1) - refined.log_density(z)).mean() < 0.005

    @pytest.mark.parametrize("far", [30, 1e3, 1e6, 1e100])
    @pytest.mark.parametrize("where", ["fitted", "held out"])
    def test_a_row_far_out_costs_the_others_little(self, far, where):
        centres = np.random.default_rng(0).standard_normal((12, 3))

        def rows(n, seed):
            rng = np.random.default_rng(seed)
            return centres[rng.integers(12, size=n)] + 0.1 * rng.standard_normal((n, 3))

        parts = {"fitted": rows(1600, 1), "held out": rows(160, 2)}
        rotation = RotationGaussianization(60, couplings=8, clusters=12)
        without = rotation.build(parts["fitted"], 0, parts["held out"])
        parts[where][0] = far
        refined = rotation.build(parts["fitted"], 0, parts["held out"])
        new = rows(2000, 3)
        assert refined.log_density(new).mean() > without.log_density(new).mean() - 0.3

    def test_they_see_what_the_steps_along_axes_leave(self):
        for seed in range(2):
            z, _ = blobs(seed)
            density = {
                couplings: RotationGaussianization(60, clusters=12, couplings=couplings)
                .build(z[:1600], seed)
                .log_density(z[1600:])
                .mean()
                for couplings in (0, 8)
            }
            assert density[8] > density[0] + 0.05

    def test_separation_keeps_clusters_for_a_linear_model(self):
        lost = {
            separation: loss_of_clusters(
                RotationGaussianization(60, clusters=12, separation=separation)
            )
            for separation in (0, 3)
        }
        assert lost[3] < 0.9 * lost[0]


def test_the_flow_starts_at_the_identity():
    for d in (1, 5):
        z = torch.randn(100, d, generator=torch.Generator().manual_seed(0))
        moved, log_det = FlowRefinement()._flow(d, 0)().call_and_ladj(z)
        assert_allclose(moved.detach().numpy(), z.numpy(), atol=1e-6)
        assert_allclose(log_det.detach().numpy(), 0, atol=1e-5)


def test_without_zuko_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    model = NoisyDIMTransformer(refine="flow", max_epochs=10**9)
    with pytest.raises(ImportError, match=r'pip install "sknoisydim\[flow\]"'):
        model.fit(X)
    assert not hasattr(model, "net_")
