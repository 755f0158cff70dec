"""What NoisyDIMTransformer adds to the scikit-learn contract."""

import copy
import pickle
import re
from html import unescape
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from skorch.callbacks import LRScheduler
from small import fails, small
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._objective import information_share
from sknoisydim.noise import GaussianChannel, GaussianNoise, auto_scale

X = load_iris().data
dim = small(max_epochs=5, refine="rotation")


class TestRetarget:
    def test_shares_the_net_and_equals_a_fit_with_that_target(self, fitted):
        other = fitted.retarget("uniform")
        assert other.net_ is fitted.net_
        assert (fitted.target, other.target) == ("normal", "uniform")
        again = dim(target="uniform").fit(X)
        assert_array_equal(other.transform(X), again.transform(X))

    def test_refuses_what_fit_refuses(self, fitted):
        fails("Did you mean 'uniform'", fitted.retarget, "unifrom")
        fails("not fitted", dim().retarget, "uniform", error=NotFittedError)


class TestWarmStart:
    def test_what_does_not_fit_is_refused(self):
        rows = pd.DataFrame(X, columns=list("abcd"))
        model = dim(max_epochs=1, warm_start=True).fit(rows)
        before = model.transform(rows)
        message = "X has 3 columns, and warm_start=True goes on from a fit on 4 columns"
        fails(message, copy.copy(model).fit, X[:, :3])
        fails(r"\['a' 'b' 'd' 'c'\].*same columns", copy.copy(model).fit, rows[list("abdc")])
        other = copy.copy(model).set_params(n_components=2)
        fails(r"another n_components .*warm_start=False\.$", other.fit, rows)
        assert_array_equal(model.transform(rows), before)
        model.set_params(warm_start=False).fit(X[:, :3])

    def test_a_critic_or_bound_may_come_and_go(self):
        ways = {"clean_weight": 0.5}, {"clean_weight": 1.0, "bound": "dv"}
        for before, after in (ways, ways[::-1]):
            model = dim(warm_start=True)
            first = model.set_params(**before).fit_transform(X)
            # With such steps weights stay where they start.
            again = model.set_params(**after, lr=1e-12, max_epochs=2).fit_transform(X)
            assert_allclose(again, first, atol=1e-3)


def test_encoder_is_a_plain_module_on_raw_rows(fitted):
    for dtype in (torch.float32, torch.float64, torch.float16, torch.int64):
        rows = torch.as_tensor(np.round(X)).to(dtype)
        with torch.no_grad():
            z = fitted.encoder_(rows)
        assert z.dtype == torch.float32
        assert_allclose(z.numpy(), fitted.transform(np.round(X)), atol=1e-2)


class TestScore:
    def test_compares_across_noise(self):
        z = np.random.default_rng(0).standard_normal((2048, 2)).astype(np.float32)
        flat = z * np.array([1, 1e-3], np.float32)  # half of what there is to tell
        for factor in (1, 8):
            channel = GaussianNoise(factor * auto_scale(2, 512)).build(2, 512)
            assert information_share(z, channel, 512) > 0.9
            assert information_share(flat, channel, 512) == pytest.approx(0.5, abs=0.1)

    @over(d=[1, 8, 32])
    def test_a_perfect_match_has_one(self, d):
        z = np.random.default_rng(1).standard_normal((3000, d)).astype(np.float32)
        for scale in (auto_scale(d, 512), 0.3, 1.0):
            channel = GaussianNoise(scale).build(d, 512)
            assert information_share(z, channel, 512) == pytest.approx(1, abs=0.05)

    def test_a_shell_has_less(self):
        z = np.random.default_rng(1).standard_normal((3000, 16)).astype(np.float32)
        shell = 4 * z / np.linalg.norm(z, axis=1, keepdims=True)
        channel = GaussianNoise("auto").build(16, 512)
        assert information_share(shell, channel, 512) < information_share(z, channel, 512) - 0.005
        assert information_share(1.5 * z, channel, 512) < 0.98

    def test_all_rows_count(self):
        z = np.random.default_rng(1).standard_normal((600, 2)).astype(np.float32)
        channel = GaussianNoise(0.5).build(2, 512)
        whole = information_share(z, channel, 512)
        for row in range(0, 600, 120):
            other = z.copy()
            other[row] = 0.01
            assert information_share(other, channel, 512) != whole

    def test_of_few_rows_takes_few_draws(self, fitted):
        least, transmit = fitted.n_components_ + 2, GaussianChannel.transmit
        with mock.patch.object(GaussianChannel, "transmit", autospec=True) as counted:
            counted.side_effect = transmit
            assert np.isfinite(fitted.score(X[:least]))
        assert 100 < counted.call_count <= 512
        with pytest.warns(UserWarning, match=f"give {least} or more") as told:
            assert fitted.score(X[: least - 1]) == 0
        assert [warning.filename for warning in told] == [__file__]

    def test_counts_what_a_linear_model_reads_back(self, fitted):
        assert 0 < fitted.mutual_information_ < min(fitted.capacity_, np.log(fitted.batch_size_))
        z, columns = fitted.retarget("normal").transform(X), fitted.encoder_.scaled(X)
        read = LinearRegression().fit(z, columns).predict(z)
        share = r2_score(columns, read, multioutput="variance_weighted")
        adjusted = 1 - (1 - share) * (len(X) - 1) / (len(X) - z.shape[1] - 1)
        channel = GaussianNoise().build(z.shape[1], fitted.batch_size_)
        match = information_share(z, channel, fitted.batch_size_)
        assert fitted.score(X) == pytest.approx(match * adjusted, rel=1e-3)


def test_a_notebook_shows_the_steps_of_transform_in_order():
    class Sly:
        __name__ = "<b>"

    model = NoisyDIMTransformer(scaling=None, target=["uniform", Sly()])
    line = "X encoder: mlp normalization: whiten refine: rotation target: uniform, <b> embedding"
    for shown in (model._repr_html_(), model._repr_mimebundle_()["text/html"]):
        steps = re.sub(r"<.*?>", "", shown.rpartition("<p ")[2].partition(">")[2])
        assert unescape(steps.replace("&rarr; ", "")) == line
    with config_context(display="text"):
        assert not hasattr(model, "_repr_html_")
        assert list(model._repr_mimebundle_()) == ["text/plain"]


def test_a_users_schedule_takes_the_place_of_ours(fitted):
    frozen = LRScheduler("StepLR", step_size=1, gamma=1e-9)
    model = dim(callbacks=[frozen]).fit(X)
    assert model.net_.optimizer_.param_groups[0]["lr"] < 1e-9
    assert not np.allclose(model.transform(X), fitted.transform(X))


def test_a_compiled_encoder_learns_the_same():
    X = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    network = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))
    encoders = network, torch.compile(network, backend="eager")
    plain, compiled = (dim(2, encoder=e, refine=None, max_epochs=2).fit(X) for e in encoders)
    assert_allclose(compiled.transform(X), plain.transform(X), atol=1e-4)
    assert_array_equal(pickle.loads(pickle.dumps(compiled)).transform(X), compiled.transform(X))
