"""`fit` with `sample_weight`, and with rows to evaluate on."""

import numpy as np
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from sklearn.datasets import load_iris
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from small import fails, small

from sknoisydim._data import Batches, Rows, Table
from sknoisydim._input import check_weights
from sknoisydim._training import _fit
from sknoisydim.encoders import MLPEncoder
from sknoisydim.scaling import SCALINGS, Clip, fit_scaling

X, Y = load_iris(return_X_y=True)
RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(1, 5, size=150)
GARBAGE = 100 * RNG.standard_cauchy((60, 4))
dim = small(max_epochs=3)
FITS = [
    ({}, np.ones(150)),
    ({"supervision": 0.5, "early_stopping": True}, WEIGHTS),
    ({"scaling": "quantile", "refine": "rotation"}, WEIGHTS),
]


class TestSampleWeight:
    @over("parameters, weights", FITS)
    def test_a_row_of_weight_zero_is_not_there(self, parameters, weights, monkeypatch):
        monkeypatch.setattr(_fit, "HELD_OUT_SHARE", 0.2)
        rows, labels = np.vstack([GARBAGE, X]), np.append(np.zeros(60, int), Y)
        padded = np.append(np.zeros(60), weights)
        left_out = dim(**parameters).fit(rows, labels, sample_weight=padded)
        removed = dim(**parameters).fit(X, Y, sample_weight=weights)
        assert_array_equal(left_out.transform(X), removed.transform(X))
        assert left_out.mutual_information_ == removed.mutual_information_
        assert left_out.n_samples_seen_ == 150

    def test_only_proportions_count(self):
        plain = dim().fit_transform(X)
        assert_array_equal(dim().fit(X, sample_weight=np.full(150, 1e300)).transform(X), plain)
        first, second = (dim().fit(X, sample_weight=k * WEIGHTS).transform(X) for k in (1, 8))
        assert_array_equal(second, first)
        assert check_weights(3.0, 5) is None
        assert_allclose(check_weights([1e308, 1e308, 1e-300], 3), [1.5, 1.5, 0])

    @over(normalization=["whiten", "batch"])
    def test_weighted_moments_of_the_embedding_are_exact(self, normalization):
        z = dim(normalization=normalization).fit(X, sample_weight=WEIGHTS).transform(X)
        covariance = np.cov(z.T, aweights=WEIGHTS, ddof=0)
        assert_allclose(np.average(z, axis=0, weights=WEIGHTS), 0, atol=1e-5)
        assert_allclose(covariance.diagonal(), 1, atol=1e-2)
        if normalization == "whiten":
            assert_allclose(covariance, np.eye(4), atol=1e-2)
        assert np.abs(z.mean(0)).max() > 0.01

    @over(scaling=SCALINGS.keys())
    def test_scaling_leaves_light_rows_aside(self, scaling):
        rows, x = np.vstack([GARBAGE, X]), torch.from_numpy(X)
        found = fit_scaling(scaling, rows, 0, np.append(np.full(60, 1e-12), np.ones(150)))(x)
        assert (found - fit_scaling(scaling, X, 0)(x)).abs().mean() < 0.2

    def test_rows_are_drawn_in_proportion(self):
        weights = np.arange(10.0)
        rows = Rows(Table(np.arange(10.0)[:, None], weights=weights), Clip(), torch.device("cpu"))
        drawn = rows.draw(20_000, torch.Generator().manual_seed(0))
        share = torch.bincount(drawn, minlength=10) / 20_000
        assert_allclose(share, weights / 45, atol=0.02)
        batches = Batches(rows, 10, torch.Generator().manual_seed(0))
        seen = torch.cat([x for _ in range(2000) for x, _ in batches]).long().flatten()
        assert_allclose(torch.bincount(seen, minlength=10) / 20_000, weights / 45, atol=0.02)

    def test_unusable_weights_are_refused(self):
        for message, weights in (
            ("at least one non-zero number", np.zeros(150)),
            ("at least one non-zero number", 0),
            ("Negative values", -np.ones(150)),
            (r"sample_weight.shape == \(149,\), expected \(150,\)", np.ones(149)),
            (r"sample_weight.shape == \(150, 1\)", np.ones((150, 1))),
            ("sample_weight contains NaN", np.full(150, np.nan)),
            ("leaves 1 sample", np.eye(150)[0]),
            ("^sample_weight=.*: could not convert string to float: 'a'", ["a"] * 150),
        ):
            fails(message, dim().fit, X, sample_weight=weights)


class TestValidationRows:
    def test_are_evaluated_without_early_stopping(self):
        model = dim().fit(X[:100], X_val=X[100:])
        plain = dim().fit(X[:100])
        assert len(model.history_["valid_information"]) == 3
        assert "valid_information" not in plain.history_
        assert_array_equal(model.transform(X), plain.transform(X))

    def test_stop_training_early(self):
        still = {"lr": 1e-30, "encoder": MLPEncoder(batch_norm=False)}
        stopping = {"early_stopping": 2, "max_epochs": 20, **still}
        model = dim(**stopping).fit(X[:100], X_val=X[100:])
        assert model.n_epochs_ == 3
        # No row of X is held out: exact moments are those of all of them.
        assert_allclose(model.transform(X[:100]).mean(0), 0, atol=1e-5)
        for rows, low, high in ((X[:100], 0, 1e-5), (np.vstack([X, X + 1]), 1e-3, 1)):
            assert low <= np.abs(dim(**stopping).fit(rows).transform(rows).mean(0)).max() < high

    def test_classes_of_validation_rows(self):
        def nats(**given):
            model = dim(supervision=1.0, max_epochs=20, augmentation=None)
            return model.fit(X[::2], Y[::2], X_val=X[1::2], **given).history_["valid_loss"]

        assert nats(y_val=Y[1::2]) != nats()

    def test_unusable_ones_are_refused(self):
        model = dim()
        message = "3 features, but NoisyDIMTransformer is expecting 4"
        fails(message, model.fit, X, X_val=X[:, :3])
        fails("minimum of 2", model.fit, X, X_val=X[:1])
        fails("NaN", model.fit, X, X_val=np.full((5, 4), np.nan))
        fails("y_val holds the classes of X_val", model.fit, X, y_val=Y)
        assert not hasattr(model, "n_features_in_")

    def test_go_through_the_steps_of_a_pipeline(self):
        far, near = 1000 + 500 * X, (X - X.mean(0)) / X.std(0)
        with sklearn.config_context(enable_metadata_routing=True):
            asked = dim(scaling=None).set_fit_request(X_val=True, sample_weight=True)
            steps = [("scale", StandardScaler().set_fit_request(sample_weight=False))]
            pipe = Pipeline([*steps, ("dim", asked)], transform_input=["X_val"])
            pipe.fit(far, X_val=far[::2], sample_weight=WEIGHTS)
        direct = dim(scaling=None).fit(near, X_val=near[::2], sample_weight=WEIGHTS)
        found = pipe["dim"].history_["valid_information"]
        assert_allclose(found, direct.history_["valid_information"], rtol=1e-3)
