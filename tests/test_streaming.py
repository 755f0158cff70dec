"""Training on chunks: `partial_fit`, and a warm start that goes on from the last optimizer."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from skorch.callbacks import LRScheduler
from small import fails, small
from torch import nn

from sknoisydim._training._fit import KEPT_ROWS, _keep
from sknoisydim.encoders import MLPEncoder

X, Y = load_iris(return_X_y=True)
RNG = np.random.default_rng(0)
# Four latent variables, none of them normal, in six columns.
TABLE = np.exp(RNG.gamma(2.0, size=(2000, 4)) @ RNG.normal(size=(4, 6)) / 4)
TRAIN, TEST = train_test_split(TABLE, train_size=1200, random_state=0)
dim = small(batch_size=32, max_epochs="auto")


def streamed(rows, n_chunks, **parameters):
    model = dim(**parameters)
    for part in np.array_split(rows, n_chunks):
        model.partial_fit(part)
    return model


@pytest.fixture(scope="module")
def stream():
    return streamed(TRAIN, 10)


class TestDistribution:
    def test_three_passes_of_a_stream_come_close_to_a_fit(self):
        # A small network, for speed: with the default one the distribution is the same.
        given = {"n_components": 4, "batch_size": 64, "encoder": MLPEncoder((64, 64))}
        model = streamed(np.vstack([RNG.permutation(TRAIN) for _ in range(3)]), 30, **given)
        whole = dim(**given).fit(TRAIN)
        assert model.score(TEST) > 0.9 * whole.score(TEST)
        z = model.transform(TEST)
        assert np.abs(z.mean(0)).max() < 0.15
        assert np.abs(np.cov(z.T) - np.eye(4)).max() < 0.2
        assert model.n_samples_seen_ == 3600

    def test_moments_are_those_of_all_rows_after_each_call(self):
        for normalization in ("whiten", "batch"):
            model = dim(n_components=3, normalization=normalization)
            for n in (200, 400, 600):
                z = model.partial_fit(TRAIN[n - 200 : n]).transform(TRAIN[:n])
                assert_allclose(z.mean(0), 0, atol=1e-5)
                assert_allclose(np.cov(z.T, ddof=0).diagonal(), 1, atol=1e-2)

    def test_moments_of_a_long_stream_with_few_rows_kept(self):
        rows = RNG.normal(size=(3 * KEPT_ROWS, 4)) ** 3
        rows[-KEPT_ROWS // 2 :] += 10  # a row that is kept stands for three that are not
        model = streamed(rows, 6, batch_size=256)
        z = model.transform(rows)
        assert model.training_state_["kept"].shape == (KEPT_ROWS, 4)
        assert np.abs(z.mean(0)).max() < 0.1
        assert np.abs(np.cov(z.T) - np.eye(4)).max() < 0.2

    @over(scaling=["squash", "standard"], share_of_gaps=[0.0, 0.5])
    def test_scaling_follows_all_rows(self, scaling, share_of_gaps):
        rows = np.column_stack([TRAIN[:203], 1e6 + TRAIN[:203, 0], np.full(203, 1e6)])
        rows[np.random.default_rng(0).random(rows.shape) < share_of_gaps] = np.nan
        if share_of_gaps:
            rows[:100, 1] = rows[60:, 2] = np.nan
        model = streamed(rows[:200], 4, scaling=scaling, n_components=2, missing="indicator")
        for row in rows[200:]:
            model.partial_fit(row[None])
        found = model.encoder_.scaling
        assert_allclose(found.mean, np.nanmean(rows, 0), rtol=1e-9)
        assert_allclose(found.scale, [*np.nanstd(rows[:, :-1], 0), 1], rtol=1e-9)
        assert np.isfinite(model.transform(rows)).all()
        assert model.n_samples_seen_ == 203

    def test_a_full_reservoir_is_a_uniform_sample(self, monkeypatch):
        monkeypatch.setattr("sknoisydim._training._fit.KEPT_ROWS", 20)
        counts = np.zeros(60)
        for seed in range(1000):
            kept, n_before = None, 0
            for number, part in enumerate(np.split(np.arange(60)[:, None], [13, 14, 40])):
                kept = _keep(kept, n_before, part, 2, 4 * seed + number)
                n_before += len(part)
            counts += np.bincount(kept[:, 0], minlength=60)
        assert_allclose(counts / 1000, 1 / 3, atol=0.08)


class TestContinues:
    def test_from_a_fit(self):
        model = dim(n_components=4, max_epochs=10).fit(TRAIN)
        before, score = model.transform(TEST), model.score(TEST)
        model.partial_fit(TRAIN[:40])
        assert 0 < np.abs(model.transform(TEST) - before).mean() < 0.2
        assert model.score(TEST) > 0.95 * score
        assert (model.n_epochs_, model.n_samples_seen_) == (11, 1240)
        # So few rows have no covariance of their own.
        for row in TRAIN[40:50]:
            model.partial_fit(row[None])
        z = model.transform(TEST)
        assert np.abs(z.mean(0)).max() < 0.4
        assert np.abs(np.cov(z.T) - np.eye(4)).max() < 0.8

    def test_a_few_rows_far_off_hardly_move_what_a_fit_knew(self):
        model = dim(n_components=4, max_epochs=5).fit(TRAIN)
        # Weights that stay: what moves are the statistics, in which a fit counts as 128 rows.
        model.set_params(lr=1e-9).partial_fit(TRAIN[:20] + 2 * TRAIN.std(0))
        assert 0.1 < np.abs(model.transform(TEST).mean(0)).max() < 0.8

    def test_history_is_bounded_and_a_fit_starts_anew(self, stream, monkeypatch):
        monkeypatch.setattr("sknoisydim._training._fit.HISTORY", 4)
        model = copy.deepcopy(stream).partial_fit(TRAIN[:32]).partial_fit(TRAIN[:32])
        assert (len(model.history_["train_information"]), model.n_epochs_) == (4, 12)
        model.set_params(max_epochs=2).fit(TRAIN)
        assert_array_equal(model.transform(TEST), dim(max_epochs=2).fit(TRAIN).transform(TEST))
        assert (model.n_samples_seen_, model.n_epochs_) == (1200, 2)


def test_a_divergence_leaves_the_estimator_as_it_was():
    model = dim().partial_fit(X)
    before = model.transform(X), model.n_samples_seen_, len(model.history_["epoch"])
    fails("diverged", model.set_params(lr=1e30, optimizer="sgd").partial_fit, X)
    assert_array_equal(model.transform(X), before[0])
    assert (model.n_samples_seen_, len(model.history_["epoch"])) == before[1:]


OTHERS = [
    {"refine": "rotation", "early_stopping": True},
    {"encoder": nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))},
    {"optimizer": torch.optim.RMSprop, "augmentation": None, "clean_weight": 1.0},
    {"optimizer": "sgd", "critic": "exact", "bound": "dv"},
]


class TestTogether:
    @over(parameters=OTHERS)
    def test_with_other_parameters(self, parameters):
        model = streamed(RNG.permutation(X), 4, n_components=2, **parameters)
        copied = pickle.loads(pickle.dumps(model)).partial_fit(X)
        assert_array_equal(copied.transform(X), model.partial_fit(X).transform(X))
        assert np.abs(model.transform(X).mean(0)).max() < 0.2

    def test_a_schedule_of_the_user_goes_on(self):
        halved = LRScheduler("StepLR", step_size=1, gamma=0.5)
        model = dim(callbacks=[halved], lr=1e-3)
        for number in range(1, 4):
            model = pickle.loads(pickle.dumps(model.partial_fit(TRAIN[:64])))
            rate = model.training_state_["optimizer"]["rates"][0]["lr"]
            assert rate == pytest.approx(1e-3 / 2**number)

    def test_an_optimizer_with_more_moments_or_parameters_of_its_own(self):
        class WithOwn(torch.optim.RMSprop):
            def __init__(self, groups, lr, **kwargs):
                self.own = torch.nn.Parameter(torch.zeros(2))
                super().__init__([*groups, {"params": [self.own]}], lr=lr, **kwargs)

            def step(self, closure=None):
                self.own.grad = torch.ones(2)
                return super().step(closure)

        model = dim(optimizer=WithOwn).partial_fit(X).partial_fit(X)
        moments = model.training_state_["optimizer"]["moments"]
        assert moments.keys() == dict(model.net_.module_.named_parameters()).keys()
        model.set_params(optimizer=partial(WithOwn, momentum=0.9)).partial_fit(X)
        assert np.isfinite(model.transform(X)).all()


class TestWarmStart:
    def test_keeps_the_moments_of_the_optimizer(self):
        cold = dim(max_epochs=5).fit(X)
        model = dim(max_epochs=5, warm_start=True).fit(X)
        assert cold.training_state_["optimizer"] is None
        moments = model.training_state_["optimizer"]["moments"]
        weights = dict(model.net_.module_.named_parameters())
        shapes = {name: values["exp_avg"].shape for name, values in moments.items()}
        assert shapes == {name: tuple(value.shape) for name, value in weights.items()}
        name, n_steps = next(iter(moments)), len(X) // 32 * 5
        assert moments[name]["step"] == n_steps
        again = pickle.loads(pickle.dumps(model)).fit(X)
        assert again.training_state_["optimizer"]["moments"][name]["step"] == 2 * n_steps
        assert_array_equal(again.transform(X), model.fit(X).transform(X))

    def test_starts_a_cycle_at_its_peak(self):
        model = dim(max_epochs=20, warm_start=True)
        for first in (model.lr / 25, model.lr):
            model.fit(X)
            rates = [model.net_._rate() for model.net_.step_ in (0, 20 * (len(X) // 32) - 1)]
            assert rates == pytest.approx([first, 0], abs=model.lr / 200)

    def test_from_a_stream(self, stream):
        model = copy.deepcopy(stream).set_params(warm_start=True, max_epochs=3).fit(TRAIN)
        assert model.history_["train_information"][0] > stream.history_["train_information"][0]
        assert model.training_state_.get("kept") is None
