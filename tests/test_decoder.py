"""The way back: `inverse_transform` and `sample`."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor
from small import fails, small

from sknoisydim import NoisyDIMTransformer
from sknoisydim._decoder import Decoder, KernelRidge
from sknoisydim._model import embeddings
from sknoisydim.targets import TARGETS

IRIS = load_iris().data
RNG = np.random.default_rng(0)
new = small(2, max_epochs="auto", refine="rotation", device="cpu", decoder="kernel_ridge")


@pytest.fixture(scope="module")
def dim():
    return new().fit(IRIS)


@pytest.fixture(scope="module")
def refined():
    X = np.vstack([RNG.standard_normal((200, 4)), RNG.standard_normal((200, 4)) + 6])
    return X, new(max_epochs=10).fit(X)


def table(n=300):
    """Integers, a category of 0 and 1, a few values, many, a constant, and a sum of two."""
    rng = np.random.default_rng(1)
    latent = rng.standard_normal((n, 2))
    a, b = latent.T
    few = rng.choice([0.25, 0.5, 4.0], n)
    return np.column_stack([1e6 + np.rint(1e4 * a), b > 0, few, a, np.full(n, 7.5), a - b, b])


class TestInverse:
    def test_it_tells_most_of_the_columns(self, dim):
        found = dim.inverse_transform(dim.transform(IRIS))
        assert (1 - np.square(found - IRIS).mean(0) / IRIS.var(0)).min() > 0.85
        assert_array_equal(found, np.clip(found, IRIS.min(0), IRIS.max(0)))

    @over(target=[*TARGETS, ["uniform", "normal"]])
    def test_every_target_and_the_refinement_are_inverted(self, refined, target):
        X, dim = refined[0], refined[1].retarget(target)
        z = embeddings(dim.encoder_, X, torch.device("cpu"))
        assert np.abs(dim.refinement_(torch.from_numpy(z)).numpy() - z).max() > 0.1
        found = dim.inverse_transform(dim.transform(X))
        assert_allclose(found, dim.decoder_.decode(z), atol=1e-4)

    def test_embeddings_of_single_precision_and_far_out(self, refined):
        _, dim = refined
        assert dim.inverse_transform(np.zeros((1, 2), np.float32)).dtype == np.float32
        assert np.isfinite(dim.inverse_transform([[1.7e308, 1.7e308], [0, -1e9]])).all()
        message = r"Z has 3 components, but this NoisyDIM\w+ has 2"
        fails(message, dim.inverse_transform, np.zeros((5, 3)))
        fails("Z contains NaN", dim.inverse_transform, [[np.nan, 0.0]])


class TestSample:
    def test_any_layout_is_taken(self, dim):
        z = dim.transform(IRIS)
        found = dim.inverse_transform(z)
        fixed = z.copy()
        fixed.flags.writeable = False
        for same in (z[::-1][::-1], np.asfortranarray(z), z.astype(">f8"), fixed, list(z)):
            assert_allclose(dim.inverse_transform(same), found)
        assert_allclose(dim.inverse_transform(z[::-1]), found[::-1])

    def test_columns_are_those_of_the_table(self):
        X = table()
        dim = new(n_components=3, keep="pca").fit(X)
        samples = dim.sample(500, random_state=0)
        assert_array_equal(samples[:, 0], np.rint(samples[:, 0]))
        for j in (1, 2, 4):
            assert set(samples[:, j]) <= set(X[:, j])
        assert_array_equal(samples, np.clip(samples, X.min(0), X.max(0)))
        assert len(np.unique(samples[:, 3])) > 400
        inside = ((samples > X.min(0)) & (samples < X.max(0)))[:, [3, 5, 6]].all(1)
        gap = samples[:, 5] - (samples[:, 3] - samples[:, 6])
        assert_allclose(gap[inside], 0, atol=1e-4)  # one penalty for all columns keeps the sum

    def test_spread_is_that_of_the_table(self, dim):
        samples = dim.sample(2000, random_state=0)
        assert_allclose(samples.mean(0), IRIS.mean(0), atol=0.25)
        assert_allclose(samples.std(0), IRIS.std(0), rtol=0.3)
        assert_allclose(np.corrcoef(samples.T), np.corrcoef(IRIS.T), atol=0.15)
        assert_array_equal(dim.sample(5, random_state=3), dim.sample(5, random_state=3))
        assert (dim.sample(5) != dim.sample(5)).any()
        fails("n_samples must be an integer >= 1", dim.sample, 0)

    def test_what_the_embedding_does_not_hold_is_drawn(self):
        X = RNG.standard_normal((400, 3))
        decoder = Decoder(KernelRidge())
        decoder.near, targets = X[:, :2], decoder._describe(X)
        decoder.residuals = decoder.regression.fit(X[:, :2], targets, np.random.default_rng(0))
        assert decoder.decode(np.zeros((300, 2))).std(0).max() < 1e-12
        drawn = decoder.draw(RNG.standard_normal((400, 2)), np.random.default_rng(0))
        assert 0.85 < drawn[:, 2].std() / X[:, 2].std() < 1.15


class TestRegressions:
    def test_residuals_leave_one_out(self):
        z = RNG.standard_normal((40, 2))
        targets = np.column_stack([np.sin(z[:, 0]), z[:, 1] ** 2])
        targets -= targets.mean(0)
        ridge = KernelRidge()
        error = np.square(ridge.fit(z, targets, np.random.default_rng(0))).mean()
        assert 2 * np.square(targets - ridge.predict(z)).mean() < error < 0.02

    def test_detail_and_trend_at_once(self):
        z = RNG.uniform(-2, 2, (400, 2))
        truth = np.tanh(20 * z[:, :1]) + np.sin(z[:, 1:])
        ridge, gaussian = KernelRidge(), KernelRidge()
        del gaussian.kernel  # as in files of before
        noisy = truth + 0.1 * RNG.standard_normal(truth.shape)
        for model in (ridge, gaussian):
            model.fit(z, noisy, np.random.default_rng(0))
        errors = [np.square(model.predict(z) - truth).mean() for model in (ridge, gaussian)]
        assert errors[0] < 0.9 * errors[1]
        width = gaussian.width
        near = np.exp(-np.square(z[:1] - gaussian.centers).sum(1) / (4 * width**2))
        expected = (near + z[:1] @ gaussian.centers.T / 2) @ gaussian.weights
        assert_allclose(gaussian.predict(z[:1]), expected)

    def test_a_regressor_of_the_users(self):
        tree = DecisionTreeRegressor()
        dim = new(decoder=tree, max_epochs=2).fit(IRIS)
        assert not hasattr(tree, "tree_")
        again = new(decoder=tree, max_epochs=2).fit(IRIS)
        assert_array_equal(dim.sample(9, 0), again.sample(9, 0))
        assert np.abs(dim.decoder_.residuals).mean() > 0.05  # those of training are 0
        one = new(decoder=LinearRegression(), max_epochs=2, n_components=1).fit(IRIS[:, :1])
        assert one.inverse_transform(one.transform(IRIS[:, :1])).shape == (150, 1)

    def test_no_more_than_some_samples_are_kept(self, monkeypatch):
        monkeypatch.setattr("sknoisydim._decoder.MOST_SAMPLES", 60)
        weights = np.r_[np.zeros(50), np.full(50, 1.0), np.full(50, 1e-9)]
        dim = new(max_epochs=2).fit(IRIS, sample_weight=weights)
        assert len(dim.decoder_.near) == 60
        assert (dim.decoder_.high <= IRIS[50:100].max(0)).all()


class TestFits:
    def test_a_way_to_get_one_is_said(self, dim):
        plain = new(decoder=None, max_epochs=1).fit(IRIS)
        stream = pickle.loads(pickle.dumps(dim)).partial_fit(IRIS)
        said = {"decoder='kernel_ridge'": plain, "`partial_fit` fits none": stream}
        for message, model in said.items():
            for name in ("inverse_transform", "sample"):
                fails(message, getattr, model, name, error=AttributeError)
        with pytest.raises(NotFittedError):
            new().sample()

    def test_a_copy_decodes_alike(self, dim, tmp_path):
        dim.save(tmp_path / "model")
        for copy in (NoisyDIMTransformer.load(tmp_path / "model"), pickle.loads(pickle.dumps(dim))):
            assert_array_equal(copy.sample(9, 0), dim.sample(9, 0))
        assert not hasattr(clone(dim), "decoder_")
        own = new(decoder=LinearRegression(), max_epochs=1).fit(IRIS)
        assert_array_equal(pickle.loads(pickle.dumps(own)).sample(9, 0), own.sample(9, 0))
        fails("Pickle the estimator", own.save, tmp_path / "own")

    def test_images_have_none(self):
        encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
        images = RNG.standard_normal((60, 4, 4))
        fails(r"shape \(4, 4\)", new(encoder=encoder, augmentation=None).fit, images)
