"""Metrics that take a fitted estimator: information, and scorers for a grid."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from over import over
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from small import fails, small

from sknoisydim import metrics
from sknoisydim.metrics import DISTANCES, information_scorer, match_scorer, mutual_information
from sknoisydim.metrics._information import _one_draw, channel_information, interval
from sknoisydim.noise import GaussianChannel

X, y = make_classification(240, 6, n_informative=4, random_state=3)
SCORERS = {"match": match_scorer, "information": information_scorer}
SCORERS["energy"] = metrics.make_match_scorer("energy_distance", n_repeats=3)
dim = small(2)


def channel_of(z, scale):
    channel = GaussianChannel(z.shape[1], scale)
    return channel_information(z, channel, 512, np.random.default_rng(0), n_draws=10)


class TestInformation:
    @over(scale=[0.01, 1.0], d=[1, 4])
    def test_bounds_hold_and_a_normal_embedding_reaches_what_can_be_reached(self, d, scale):
        z = np.random.default_rng(1).standard_normal((4000, d))
        found = channel_of(z, scale)
        assert found.low <= found.value <= found.high <= found.cap + 1e-9
        # A lower bound, so above the capacity by chance alone.
        assert found.value < found.capacity + 0.1
        assert found.value == pytest.approx(found.reachable, rel=0.05, abs=0.02)
        if (d, scale) == (1, 1.0):  # a batch can show all of it
            assert found.value == pytest.approx(math.log(2) / 2, abs=0.02)

    def test_two_points_tell_one_bit(self):
        z = np.random.default_rng(1).choice([-1.0, 1.0], (2000, 1))
        found = channel_of(z, 0.05).to("bits")
        # A lower bound, and not tight for one that is not normal.
        assert 0.8 < found.value < 1.01
        assert found.value < 0.5 * found.reachable

    def test_the_interval_holds_the_mean_over_draws(self):
        rng = np.random.default_rng(1)
        z, channel = rng.standard_normal((64, 2)), GaussianChannel(2, 0.5)
        found = [_one_draw(rng.permutation(z), channel, 32, rng) for _ in range(1200)]
        mean = np.mean(found)
        intervals = [interval(found[i : i + 8], 0.95) for i in range(0, 1200, 8)]
        held = np.mean([low <= mean <= high for _, low, high in intervals])
        # 0.95, within what a share of 150 trials moves by chance once in a thousand times.
        assert held == pytest.approx(0.95, abs=3.3 * np.sqrt(0.05 * 0.95 / 150))

    def test_more_draws_make_it_narrower(self, fitted):
        few, many = (mutual_information(fitted, X, n_draws=n) for n in (5, 100))
        assert many.high - many.low < 0.5 * (few.high - few.low)

    def test_bits_are_nats_over_log_two(self, fitted):
        nats = mutual_information(fitted, X)
        bits = mutual_information(fitted, X, units="bits")
        for name in ("value", "low", "high", "reachable", "capacity", "cap"):
            assert getattr(bits, name) * math.log(2) == pytest.approx(getattr(nats, name))
        assert bits.units == "bits"
        again = bits.to("nats").to("bits")
        assert dataclasses.astuple(again) == pytest.approx(dataclasses.astuple(bits))
        assert "bits" in str(bits)

    def test_neither_target_nor_refinement_matters(self, fitted):
        assert mutual_information(fitted.retarget("uniform"), X) == mutual_information(fitted, X)
        refined = dim(refine="rotation").fit(X)
        plain = copy.copy(refined)
        plain.refinement_ = None
        assert np.abs(refined.transform(X) - plain.transform(X)).max() > 0.01
        assert mutual_information(refined, X) == mutual_information(plain, X)

    def test_seeds_and_wrong_parameters(self, fitted):
        assert mutual_information(fitted, X) == mutual_information(fitted, X)
        assert mutual_information(fitted, X, random_state=1) != mutual_information(fitted, X)
        fails("Did you mean 'bits'", mutual_information, fitted, X, units="bit")
        fails("n_draws must be an integer >= 2", mutual_information, fitted, X, n_draws=1)
        message = "confidence must be a finite number > 0 and < 1"
        fails(message, mutual_information, fitted, X, confidence=1.0)


class TestWhereTheTransformerIs:
    @over(measure=[mutual_information, *SCORERS.values()])
    def test_in_a_pipeline(self, measure):
        scaler = StandardScaler().fit(X)
        alone = dim().fit(scaler.transform(X))
        expected = measure(alone, scaler.transform(X))
        for steps in (
            [("scale", scaler), ("dim", alone)],
            [("scale", scaler), ("dim", alone), ("classify", LogisticRegression())],
            [("scale", scaler), ("none", "passthrough"), ("dim", alone)],
            [("inner", Pipeline([("scale", scaler), ("dim", alone)])), ("out", StandardScaler())],
            [("scale", scaler), ("inner", Pipeline([("dim", alone), ("out", StandardScaler())]))],
        ):
            # The last step is not needed, so it need not be fitted for this.
            assert measure(Pipeline(steps), X) == expected

    @over(measure=[mutual_information, match_scorer])
    def test_nowhere_or_twice_or_not_fitted(self, fitted, measure):
        without = make_pipeline(StandardScaler(), LogisticRegression())
        twice = Pipeline([("a", dim()), ("rest", Pipeline([("b", dim())]))])
        search = GridSearchCV(dim(), {"n_components": [1]})
        message = "got a Pipeline of StandardScaler, LogisticRegression"
        fails(message, measure, without, X, error=TypeError)
        fails("got a LogisticRegression", measure, LogisticRegression(), X, error=TypeError)
        message = "or a fitted search over these; got a GridSearchCV"
        fails(message, measure, search, X, error=TypeError)
        fails(r"2 NoisyDIMTransformer steps \('a', 'rest__b'\)", measure, twice, X)
        fails("not fitted", measure, dim(), X, error=NotFittedError)
        fails("X has 5 features", measure, fitted, X[:, :5])


class TestScorers:
    @over(scorer=SCORERS)
    def test_can_be_pickled_and_ignores_labels_and_target(self, fitted, scorer):
        again = pickle.loads(pickle.dumps(scorer))
        assert again(fitted, X, y) == scorer(fitted, X) == scorer(fitted.retarget("uniform"), X)

    @over(metric=[*DISTANCES, "classifier_auc"])
    def test_a_better_match_scores_higher(self, metric, monkeypatch):
        # The samples themselves are the embedding.
        module = "sknoisydim.metrics._information"
        monkeypatch.setattr(f"{module}.find_transformer", lambda estimator, X: (estimator, X))
        monkeypatch.setattr(f"{module}.normal_embedding", lambda transformer, X: X)
        # The distance of the largest of three correlations needs many repeats, which cost nothing.
        n_repeats = {"classifier_auc": {}, "max_correlation": {"n_repeats": 40}}
        scorer = metrics.make_match_scorer(metric, **n_repeats.get(metric, {"n_repeats": 4}))
        wrong = np.array([[1.0, 0.7, 0], [0, 1.0, 0.7], [0, 0, 1.0]])
        perfect, n_samples = (-0.5, 1) if metric == "classifier_auc" else (-1.0, 12)
        rows = np.random.default_rng(0).standard_normal((n_samples, 300, 3))
        good = np.mean([scorer(None, Z) for Z in rows])
        assert good == pytest.approx(perfect, abs=0.35)
        assert np.mean([scorer(None, Z @ wrong) for Z in rows]) < good - 0.05

    def test_information_is_about_one_for_a_long_fit_and_less_with_less(self, fitted):
        class Sign(torch.nn.Linear):
            def forward(self, x):
                return torch.sign(x[:, :1]) * self.weight.sum(1)

        sign = dim(encoder=Sign, normalization="batch").fit(X)
        assert 0 < information_scorer(sign, X) < information_scorer(fitted, X) < 1.05
