"""Dtypes, company of rows, seeds, the process around a fit, and tables at the edge."""

import functools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from around import process
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from scipy import stats
from small import Perceptron, small, without_times
from torch import nn

from sknoisydim.encoders import MLPEncoder
from sknoisydim.metrics import mutual_information

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6))
Y = np.repeat([0, 1, 2, 3], 50)
dim = small(batch_size=32)


class Casting(nn.Linear):
    def forward(self, x):
        return super().forward(x.float())


class PlainTensor(nn.Linear):
    def forward(self, x):  # no cast of the module reaches the second factor
        return super().forward(x) @ torch.eye(self.out_features)


MODELS = {
    "default": {},
    "uniform": {"target": "uniform", "n_components": 3, "refine": "rotation"},
    "distributions": {"target": [stats.t(1), "uniform"], "n_components": 2},
    "module": {"encoder": Perceptron, "scaling": "quantile"},
    "wide": {"n_components": 16, "encoder": MLPEncoder((16, 16), residual=True, dropout=0.3)},
    "supervised": {"supervision": 0.5, "early_stopping": True},
    "views": {"augmentation": "jitter", "clean_weight": 0.0, "normalization": "batch"},
    "clean": {"clean_weight": 1.0, "scaling": None},
}


@functools.cache
def fitted(name):
    return dim(**MODELS[name]).fit(X, Y)


class TestDtype:
    @over(name=MODELS.keys())
    def test_is_kept(self, name):
        model = fitted(name)
        single, double = model.transform(X.astype(np.float32)), model.transform(X)
        assert (single.dtype, double.dtype) == (np.float32, np.float64)
        assert model.score_samples(X.astype(np.float32)).dtype == np.float64
        # float32 gives about 7 digits; more of them agree only if it was not used.
        assert_allclose(double, single, rtol=2e-2, atol=1e-3)
        assert not np.array_equal(double, double.astype(np.float32))

    @over(encoder=[Casting, PlainTensor])
    def test_a_module_that_knows_float32_only(self, encoder):
        # A tensor that is no buffer stays on the CPU.
        model = dim(encoder=encoder, refine="rotation", device="cpu").fit(X)
        assert not model.encoder_.in_double
        for fitted in (model, pickle.loads(pickle.dumps(model))):
            double = fitted.transform(X)
            assert double.dtype == np.float64
            assert_allclose(double, fitted.transform(X.astype(np.float32)), rtol=1e-3, atol=1e-4)
            assert np.isfinite(fitted.score(X))
            assert np.isfinite(fitted.score_samples(X)).all()
            assert fitted.encoder_(torch.from_numpy(X)).dtype == torch.float32


class TestCompany:
    @over(name=MODELS.keys(), dtype=[np.float64, np.float32])
    def test_a_row_is_the_same_in_any(self, name, dtype):
        table, model = X.astype(dtype), fitted(name)
        rtol, atol = (1e-7, 1e-9) if dtype == np.float64 else (1e-3, 1e-4)
        together = model.transform(table)
        alone = np.concatenate([model.transform(table[[row]]) for row in range(5)])
        assert_allclose(alone, together[:5], rtol, atol)
        for rows in (slice(7), np.random.default_rng(1).permutation(len(X))):
            assert_allclose(model.transform(table[rows]), together[rows], rtol, atol)

    def test_across_slices(self):
        table = np.random.default_rng(1).normal(size=(9000, 6))
        model = dim(max_epochs=1).fit(table)
        together = model.transform(table)
        for rows in (slice(4090, 4100), slice(8190, 8200), slice(8999, None)):
            assert_allclose(model.transform(table[rows]), together[rows], rtol=1e-7, atol=1e-9)
            assert_allclose(model.score_samples(table[rows]), model.score_samples(table)[rows])

    def test_layout_does_not_matter(self):
        expected, backwards = fitted("default").transform(X), X[::-1, ::-1].copy()[::-1, ::-1]
        spread = np.repeat(X, 2, axis=1)[:, ::2]
        for same in (np.asfortranarray(X), spread, backwards, X.tolist()):
            assert_array_equal(dim().fit(same).transform(same), expected)


class TestSeed:
    @over(name=MODELS.keys())
    def test_same_seed_same_embedding(self, name):
        first, before = fitted(name), process()
        again = dim(**MODELS[name]).fit(X, Y)
        assert process() == before
        assert_array_equal(first.transform(X), again.transform(X))
        assert first.mutual_information_ == again.mutual_information_
        assert process() == before
        assert without_times(first.history_) == without_times(again.history_)

    @over(name=["module", "supervised"])
    def test_in_four_threads_at_once(self, name):
        def fit(seed):
            start.wait()
            return dim(**MODELS[name], random_state=seed).fit(X, Y).transform(X)

        start, before = threading.Barrier(1), process()
        alone = [fit(seed) for seed in (0, 1)]
        start = threading.Barrier(4)
        with ThreadPoolExecutor(4) as threads:
            assert_array_equal(list(threads.map(fit, [0, 1] * 2)), alone * 2)
        assert process() == before

    def test_one_estimator_transforms_in_four_threads(self):
        model = fitted("default")
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(model.transform, [X] * 8))
        assert_array_equal(found, [model.transform(X)] * 8)

    def test_judging_leaves_the_process_alone(self):
        before = process()
        fitted("default").diagnose(X)
        mutual_information(fitted("default"), X)
        assert process() == before


@over("dtype, value", [("f8", 1e300), ("f4", 1e38)], target=["uniform", stats.t(1)])
@over(encoder=["mlp", nn.Linear])
def test_rows_far_outside_training_are_finite(target, encoder, dtype, value):
    model = dim(target=target, encoder=encoder, max_epochs=1).fit(X.astype(dtype))
    for rows in (np.full((2, 6), value), np.full((2, 6), -1e20), np.diag(np.full(6, -value))):
        z = model.transform(rows.astype(dtype))
        assert np.isfinite(z).all()
        assert np.isfinite(model.score_samples(rows.astype(dtype))).all()
        assert target != "uniform" or 0 <= z.min() <= z.max() <= 1


class TestSupervision:
    def test_names_of_classes_and_what_stands_for_none_do_not_matter(self):
        names = np.array(list("abcd"), dtype=object)[Y]
        gone = np.arange(len(Y)) % 3 == 0
        same = [names, names.astype(str), list(names), 10 * Y, Y.astype(float), Y * 10**12 - 5]
        some = [np.where(gone, None, names), [*np.where(gone, None, Y)], np.where(gone, np.nan, Y)]
        for given, others in ((Y, same), (np.where(gone, -1, Y), some)):
            expected = dim(supervision=0.5).fit(X, given).transform(X)
            for labels in others:
                assert_array_equal(dim(supervision=0.5).fit(X, labels).transform(X), expected)

    def test_y_is_ignored_without(self):
        expected = fitted("default").transform(X)
        for labels in (Y, X[:, 0], [1, 2], "anything"):
            assert_array_equal(dim().fit(X, labels).transform(X), expected)


LOW_RANK = (RNG.normal(size=(600, 4)) @ RNG.normal(size=(4, 8))).astype(np.float32)
four = small(4, max_epochs=15)
VIEWS = {"clean_weight": 0.5, "critic": "concat", "bound": "dv", "max_epochs": 5}


class TestBfloat16:
    @over(parameters=[{"supervision": 0.5}, VIEWS])
    def test_tells_as_much_as_float32(self, parameters):
        plain, half = (
            four(encoder=MLPEncoder(precision=p), **parameters).fit(LOW_RANK, LOW_RANK[:, 0] > 0)
            for p in ("32", "bf16")
        )
        for model in (plain, half):
            Z = model.transform(LOW_RANK)
            assert Z.dtype == np.float32
            # bfloat16 is for training alone, and not for the statistics.
            np.testing.assert_allclose(Z.mean(0), 0, atol=1e-5)
            np.testing.assert_allclose(Z, model.transform(LOW_RANK.astype(np.float64)), atol=1e-4)
            np.testing.assert_allclose(np.cov(Z.T, bias=True), np.eye(4), atol=0.05)
        assert half.score(LOW_RANK) == pytest.approx(plain.score(LOW_RANK), abs=0.03)
        assert (half.transform(LOW_RANK) != plain.transform(LOW_RANK)).any()
        assert {p.dtype for p in half.net_.module_.parameters()} == {torch.float32}
