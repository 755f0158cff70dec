"""Dtypes, company of rows, seeds, the process around a fit, and tables at the edge."""

import contextlib
import functools
import itertools
import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from around import process
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from scipy import stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._model import embeddings
from sknoisydim.encoders import MLPEncoder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6))
Y = np.repeat([0, 1, 2, 3], 50)


def dim(**parameters):
    return NoisyDIMTransformer(
        **{"max_epochs": 2, "batch_size": 32, "random_state": 0} | parameters
    )


class WithDropout(nn.Module):
    """Draws its weights and its zeros from torch's global generator, as most modules do."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.hidden = nn.Linear(n_features, 32)
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(32, n_components)

    def forward(self, x):
        return self.output(self.dropout(torch.relu(self.hidden(x))))


class Casting(nn.Linear):
    def forward(self, x):
        return super().forward(x.float())


class PlainTensor(nn.Linear):
    """Holds a tensor that is no buffer, so that no cast of the module reaches it."""

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.mixing = torch.eye(n_components)

    def forward(self, x):
        return super().forward(x) @ self.mixing


MODELS = {
    "default": {},
    "uniform": {"target": "uniform", "n_components": 3},
    "distributions": {"target": [stats.t(1), "uniform"], "n_components": 2},
    "batch": {"normalization": "batch", "scaling": "standard"},
    "dropout": {"encoder": MLPEncoder((32,), dropout=0.3)},
    "module": {"encoder": WithDropout, "scaling": "quantile"},
    "wide": {"n_components": 16, "encoder": MLPEncoder((16, 16), residual=True)},
    "supervised": {"supervision": 0.5, "early_stopping": True},
    "jitter": {"augmentation": "jitter", "critic": "exact", "noise": 0.7},
    "masking": {"augmentation": "masking", "clean_weight": 0.0},
    "clean": {"clean_weight": 1.0, "scaling": None},
}


@functools.cache
def fitted(name):
    """One fit of each model for all tests that only look at it."""
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

    @pytest.mark.parametrize("encoder", [Casting, PlainTensor])
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


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "columns backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "list": lambda x: x.tolist(),
}


class TestCompany:
    @over(name=MODELS.keys(), dtype=[np.float64, np.float32])
    def test_a_row_is_the_same_in_any(self, name, dtype):
        table, model = X.astype(dtype), fitted(name)
        digits = (
            {"rtol": 1e-7, "atol": 1e-9} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-4}
        )
        together = model.transform(table)
        order = np.random.default_rng(1).permutation(len(X))
        alone = np.concatenate([model.transform(table[[row]]) for row in range(5)])
        assert_allclose(alone, together[:5], **digits)
        assert_allclose(model.transform(table[:7]), together[:7], **digits)
        assert_allclose(model.transform(table[order]), together[order], **digits)

    def test_across_slices(self):
        table = np.random.default_rng(1).normal(size=(9000, 6))
        model = dim(max_epochs=1).fit(table)
        together = model.transform(table)
        for rows in (slice(4090, 4100), slice(8190, 8200), slice(8999, None)):
            assert_allclose(model.transform(table[rows]), together[rows], rtol=1e-7, atol=1e-9)
            assert_allclose(model.score_samples(table[rows]), model.score_samples(table)[rows])

    @over(view=LAYOUTS)
    def test_layout_does_not_matter(self, view):
        expected = fitted("default")
        assert_array_equal(dim().fit(view(X)).transform(view(X)), expected.transform(X))


def seed_globals(seed):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the global generator is what is tested)


class TestSeed:
    @over(name=MODELS.keys())
    def test_same_seed_same_embedding(self, name):
        first, before = fitted(name), process()
        again = dim(**MODELS[name]).fit(X, Y)
        assert process() == before
        assert_array_equal(first.transform(X), again.transform(X))
        assert first.mutual_information_ == again.mutual_information_
        assert process() == before
        for column, values in first.history_.items():
            if not column.endswith("seconds") and "dur" not in column:
                assert values == again.history_[column]

    @over(name=["module", "supervised"])
    def test_in_four_threads_at_once(self, name):
        seeds = [0, 1] * 2
        alone = [dim(**MODELS[name], random_state=seed).fit(X, Y).transform(X) for seed in (0, 1)]
        start = threading.Barrier(4)
        before = process()

        def fit(seed):
            start.wait()
            return dim(**MODELS[name], random_state=seed).fit(X, Y).transform(X)

        with ThreadPoolExecutor(4) as threads:
            for seed, z in zip(seeds, threads.map(fit, seeds), strict=True):
                assert_array_equal(z, alone[seed])
        assert process() == before

    def test_one_estimator_transforms_in_four_threads(self):
        model = fitted("default")
        expected = model.transform(X)
        with ThreadPoolExecutor(4) as threads:
            for z in threads.map(model.transform, [X] * 8):
                assert_array_equal(z, expected)

    def test_a_random_state_moves_on(self):
        state = np.random.RandomState(0)
        first, second = dim(random_state=state), dim(random_state=state)
        first, second = first.fit_transform(X), second.fit_transform(X)
        assert not np.array_equal(first, second)
        assert_array_equal(dim(random_state=np.random.RandomState(0)).fit_transform(X), first)

    def test_none_is_fresh_every_time(self):
        seed_globals(0)
        first = dim(random_state=None).fit_transform(X)
        seed_globals(0)
        assert not np.array_equal(first, dim(random_state=None).fit_transform(X))

    @over(encoder=["mlp", WithDropout, nn.Linear(6, 6)])
    def test_global_generators_do_not_reach_a_fit(self, encoder):
        seed_globals(1)
        first = dim(encoder=encoder).fit_transform(X)
        seed_globals(2)
        assert_array_equal(dim(encoder=encoder).fit_transform(X), first)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


class TestProcess:
    """Modes that results may depend on are in tests/test_caller_context.py."""

    @over(name=["default", "module"], random_state=[None, np.random.RandomState(0)])
    def test_is_as_before_a_fit(self, name, random_state):
        before = process()
        model = dim(**MODELS[name]).set_params(random_state=random_state).fit(X, Y)
        assert process() == before
        model.transform(X)
        model.score(X)
        model.score_samples(X)
        assert process() == before

    @over(encoder=["mlp", WithDropout])
    def test_where_algorithms_have_to_be_deterministic(self, encoder):
        with deterministic():
            before = process()
            model = dim(encoder=encoder, target=stats.t(1)).fit(X)
            assert np.isfinite(model.transform(X)).all()
            assert np.isfinite(model.score(X))
            assert process() == before

    def test_the_scaling_does_not_draw_from_the_global_generator(self):
        scaling = make_pipeline(StandardScaler(), QuantileTransformer(n_quantiles=20, subsample=99))
        before = process()
        first = dim(scaling=scaling).fit_transform(X)
        assert process() == before
        assert_array_equal(dim(scaling=scaling).fit_transform(X), first)

    def test_an_abandoned_transform_leaves_grad_mode_alone(self):
        model = fitted("default")
        parts = embeddings(model.encoder_, X, torch.device("cpu"))
        next(parts)
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def one_hot():
    return np.eye(4)[RNG.integers(4, size=200)]


def spread():
    return np.column_stack([RNG.normal(size=(200, 2)) * 1e-12, RNG.normal(size=(200, 2)) * 1e12])


TABLES = {
    "normal": X,
    "constant": np.full((200, 3), 0.1),
    "constant columns": np.column_stack([X, np.zeros(200), np.full(200, 1e6), np.full(200, 0.1)]),
    "duplicated rows": np.repeat(X[:3], 60, axis=0),
    "fewer rows than a batch": X[:10],
    "three rows": X[:3],
    "two rows": X[:2],
    "two equal rows": X[[0, 0]],
    "one column": X[:, :1],
    "more columns than rows": RNG.normal(size=(20, 60)),
    "one-hot": one_hot(),
    "one-hot and numbers": np.column_stack([one_hot(), X]),
    "tiny beside huge": spread(),
    "far from zero": 1e6 + X,
    "very far from zero": 1e12 + X * 1e-2,
    "Cauchy": RNG.standard_cauchy(size=(200, 4)),
    "log-normal": np.exp(5 * X),
    "one outlier": np.where(np.arange(200)[:, None] == 7, 1e15, X),
    "small integers": RNG.integers(0, 3, size=(200, 4)).astype(float),
    "sorted": np.sort(X, axis=0),
}


def embed(model, rows):
    """Transform rows, one block at a time: scikit-learn's check of X adds all of its cells up."""
    z = model.transform(rows)
    assert z.shape == (len(rows), model.n_components_)
    assert z.dtype == rows.dtype
    assert np.isfinite(z).all()
    assert np.isfinite(model.score_samples(rows)).all()
    if model.target == "uniform":
        assert z.min() >= 0
        assert z.max() <= 1
    return z


# Beside the default, for the hardest tables; dtypes, targets and the rest take turns.
SCALINGS = ("standard", "quantile", None)
HARDEST = ("constant columns", "two equal rows", "tiny beside huge", "Cauchy", "one outlier")
TURNS = list(itertools.product([np.float64, np.float32], ["normal", "uniform", stats.t(1)]))


# Many of these tell an encoder little or nothing, which tests/test_collapse.py is about.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestTables:
    @over(turn=list(enumerate([*TABLES, *HARDEST])))
    def test_output_is_finite(self, turn):
        """With the default scaling and another; tests/test_hostile_tables.py draws further ones."""
        number, name = turn
        scaling = "squash" if number < len(TABLES) else SCALINGS[number % 3]
        dtype, target = TURNS[number % 6]
        table = TABLES[name].astype(dtype)
        model = dim(
            target=target,
            scaling=scaling,
            normalization=("whiten", "batch")[number // 2 % 2],
            encoder=("mlp", "mlp", nn.Linear)[number // 3 % 3],
        ).fit(table)
        z = embed(model, table)
        assert z.shape[1] == min(table.shape[1], 16)
        assert np.isfinite([model.mutual_information_, model.score(table)]).all()
        # Rows far outside training.
        limit = {np.float64: 1e300, np.float32: 1e38}[dtype]
        far = np.ones((2, table.shape[1]), dtype=dtype)
        for rows in (limit * far, -1e20 * far, np.diag(-limit * far[0]), np.diag(1e20 * far[0])):
            embed(model, rows)

    @over(case=[(50, 20, 2), (20, 64, 32), (2, 1, 2), (2, 40, 32), (50, 33, 32)])
    def test_components_beyond_columns_and_batch(self, case):
        n_rows, n_components, batch_size = case
        target = ("normal", "uniform")[batch_size // 32]
        model = dim(n_components=n_components, batch_size=batch_size, target=target)
        embed(model.fit(X[:n_rows]), X)

    def test_sparse_output_of_the_scaling_is_taken(self):
        table = TABLES["small integers"]
        model = dim(scaling=OneHotEncoder(handle_unknown="ignore")).fit(table)
        assert embed(model, table).shape == (200, 4)


def some(labels, every=3, unlabelled=-1):
    return [label if row % every else unlabelled for row, label in enumerate(labels)]


NAMES = np.array(list("abcd"), dtype=object)[Y]
# The same classes, for all rows and for two thirds of them.
SAME = [NAMES, NAMES.astype(str), list(NAMES), 10 * Y, Y.astype(float), Y[:, None], Y * 10**12 - 5]
SOME = [
    some(NAMES, unlabelled=None),
    np.array(some(NAMES, unlabelled=None), dtype=object),
    some(Y, unlabelled=None),
    np.array(some(Y.astype(float), unlabelled=np.nan)),
]


class TestSupervision:
    def test_names_of_classes_do_not_matter(self):
        expected = dim(supervision=0.5).fit(X, Y).transform(X)
        for labels in SAME:
            assert_array_equal(dim(supervision=0.5).fit(X, labels).transform(X), expected)

    def test_unlabelled_is_written_in_three_ways(self):
        expected = dim(supervision=0.5).fit(X, np.array(some(Y))).transform(X)
        for labels in SOME:
            assert_array_equal(dim(supervision=0.5).fit(X, labels).transform(X), expected)

    @over(
        labels={
            "booleans": Y > 1,
            "one class": np.zeros(200, dtype=int),
            "a class of one row": np.where(np.arange(200) == 3, 1, 0),
            "one labelled row": np.where(np.arange(200) == 3, 1, np.nan),
        }
    )
    def test_few_classes_or_rows_of_them(self, labels):
        embed(dim(supervision=1.0, early_stopping=True).fit(X, labels), X)

    @over(n_rows=[2, 3])
    def test_few_rows(self, n_rows):
        embed(dim(supervision=0.5).fit(X[:n_rows], [0] * n_rows), X)

    def test_y_is_ignored_without(self):
        expected = fitted("default").transform(X)
        for labels in (Y, NAMES, X[:, 0], [1, 2], "anything"):
            assert_array_equal(dim().fit(X, labels).transform(X), expected)
