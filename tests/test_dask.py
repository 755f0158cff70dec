"""More than one worker: grids over processes, and collections of Dask."""

import copy
import pickle
import resource
import sys

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from over import over
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim.distributed import DaskTransformer
from sknoisydim.distributed._dask import _orders
from sknoisydim.encoders import MLPEncoder

N_WORKERS = 2
COLUMNS = list("abcde")
# A block of rows of the test on memory, and what a process may grow by beside two of them.
BLOCK_ROWS, BLOCK_COLUMNS = 40_000, 50
BLOCK_BYTES = 8 * BLOCK_ROWS * BLOCK_COLUMNS


@pytest.fixture(autouse=True)
def one_thread():
    """What is drawn is the same bit for bit for one number of threads; workers have one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=N_WORKERS,
            processes=True,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=":0",  # any free port: tests may run beside others
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(1000, 5)) @ np.diag([1, 2, 3, 4, 5.0])


def small(**parameters):
    return NoisyDIMTransformer(2, **{"batch_size": 64, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def blocks(rows):
    return da.from_array(rows, chunks=(125, 5))


@pytest.fixture(scope="module")
def fitted(rows):
    return small(max_epochs=2).fit(pd.DataFrame(rows, columns=COLUMNS))


@pytest.fixture(scope="module")
def bare(rows):
    return small(max_epochs=2).fit(rows)


@pytest.fixture(scope="module")
def search(rows):
    def search(**options):
        model = NoisyDIMTransformer(max_epochs=3, batch_size=64, random_state=0)
        grid = {"n_components": [2, 3], "noise": [0.5, 1.0]}
        return GridSearchCV(model, grid, cv=2, **options).fit(rows[:300])

    return search


class TestGrid:
    @staticmethod
    def same(one, other):
        scores = [name for name in one.cv_results_ if "test_score" in name]
        assert scores
        for name in scores:
            np.testing.assert_array_equal(one.cv_results_[name], other.cv_results_[name])
        assert one.cv_results_["params"] == other.cv_results_["params"]
        assert one.best_params_ == other.best_params_

    @pytest.mark.slow
    def test_on_a_cluster(self, client, search, rows):
        with parallel_config("dask"):
            there = search(n_jobs=-1)
        alone = search()
        self.same(there, alone)
        np.testing.assert_array_equal(there.transform(rows), alone.transform(rows))
        # The cap that the documentation speaks of: a worker's threads, and torch's in each.
        assert set(client.nthreads().values()) == {1}
        assert set(client.run(torch.get_num_threads).values()) == {1}

    @pytest.mark.slow
    def test_in_processes_of_joblib(self, search):
        with parallel_config("loky", inner_max_num_threads=1):
            there = search(n_jobs=N_WORKERS)
        self.same(there, search())


class TestTransform:
    def arrays(self, rows):
        frame = dd.from_pandas(pd.DataFrame(rows, columns=COLUMNS), npartitions=8)
        yield "even", da.from_array(rows, chunks=(125, 5))
        yield "uneven", da.from_array(rows, chunks=((1, 500, 7, 492), 5))
        yield "in columns", da.from_array(rows, chunks=(300, 2))
        yield "empty blocks", da.from_array(rows, chunks=((0, 600, 0, 400), 5))
        yield "unknown", frame.to_dask_array()
        dense = da.from_array(rows, chunks=((500, 0, 500), 5))
        yield "sparse", dense.map_blocks(sparse.csr_array)

    def test_array_is_the_table_in_blocks(self, rows, bare):
        wanted = bare.transform(rows)
        for name, X in self.arrays(rows):
            Z = DaskTransformer(bare).transform(X)
            assert isinstance(Z, da.Array), name
            np.testing.assert_array_equal(Z.chunks[0], X.chunks[0], err_msg=name)
            assert Z.chunks[1] == (2,)
            found = Z.compute(scheduler="threads")
            np.testing.assert_allclose(found, wanted, atol=1e-12, err_msg=name)

    @over(types={"f8": "float64", "f4": "float32", "i4": "float64", "f2": "float64"}.items())
    def test_type_is_known_and_true(self, rows, fitted, bare, types):
        given, wanted = types
        X = da.from_array(rows.astype(given), chunks=(500, 5))
        Z = DaskTransformer(bare).transform(X)
        assert Z.dtype == Z._meta.dtype == Z.compute(scheduler="threads").dtype == wanted
        frame = dd.from_pandas(pd.DataFrame(rows.astype(given), columns=COLUMNS), npartitions=2)
        Z = DaskTransformer(fitted).transform(frame)
        assert set(Z.dtypes) == set(Z.compute(scheduler="threads").dtypes) == {np.dtype(wanted)}

    @over(kind=["Float64", "Float32", "float32[pyarrow]", "category", "boolean", "bool"])
    def test_types_of_pandas(self, rows, kind):
        frame = pd.DataFrame(rows, columns=COLUMNS).round()
        frame["a"] = frame["a"] > 0 if kind.startswith("bool") else frame["a"]
        frame["a"] = frame["a"].astype(kind)
        model = small(max_epochs=1).fit(frame)
        Z = DaskTransformer(model).transform(dd.from_pandas(frame, npartitions=2))
        found = Z.compute(scheduler="threads")
        assert set(Z.dtypes) == set(found.dtypes) == {model.transform(frame).dtype}
        np.testing.assert_allclose(found, model.transform(frame), atol=1e-12)

    def test_stays_lazy_where_scikit_learn_is_asked_for_frames(self, rows, blocks, bare):
        with config_context(transform_output="pandas"):
            Z = DaskTransformer(bare).transform(blocks)
            assert isinstance(Z, da.Array)
            found = Z.compute(scheduler="sync")
        np.testing.assert_allclose(found, bare.transform(rows), atol=1e-12)
        # The setting of the estimator itself holds for tables in memory.
        np.testing.assert_array_equal(DaskTransformer(bare).transform(rows), bare.transform(rows))
        framed = copy.deepcopy(bare).set_output(transform="pandas")
        assert isinstance(DaskTransformer(framed).transform(rows), pd.DataFrame)
        assert isinstance(DaskTransformer(framed).transform(blocks), da.Array)

    def test_frame_keeps_its_index_and_names_its_columns(self, rows, fitted):
        index = pd.date_range("2020", periods=len(rows), freq="h", name="hour")
        frame = pd.DataFrame(rows, columns=COLUMNS, index=index)
        X = dd.from_pandas(frame, npartitions=8)
        transformer = DaskTransformer(fitted)
        Z = transformer.transform(X)
        assert list(Z.columns) == list(transformer.get_feature_names_out())
        assert Z.divisions == X.divisions
        assert Z.npartitions == 8
        found = Z.compute(scheduler="threads")
        pd.testing.assert_index_equal(found.index, frame.index)
        pd.testing.assert_frame_equal(found.iloc[:0], Z._meta)
        np.testing.assert_allclose(found, fitted.transform(frame), atol=1e-12)
        limit = frame.a.nlargest(3).min()
        few = transformer.transform(X[X.a > limit])  # most partitions are empty
        np.testing.assert_allclose(few.compute(scheduler="threads"), found[frame.a > limit])

    def test_images(self):
        class Flat(nn.Module):
            def __init__(self, shape, n_components):
                super().__init__()
                self.linear = nn.Linear(int(np.prod(shape)), n_components)

            def forward(self, x):
                return self.linear(x.flatten(1))

        images = np.random.default_rng(0).normal(size=(60, 1, 4, 4))
        model = small(encoder=Flat, max_epochs=1, augmentation="jitter").fit(images)
        X = da.from_array(images, chunks=(20, 1, 2, 4))
        Z = DaskTransformer(model).transform(X)
        assert Z.shape == (60, 2)
        np.testing.assert_allclose(
            Z.compute(scheduler="threads"), model.transform(images), atol=1e-12
        )

    def test_is_lazy(self, bare, fitted):
        def never(*args):
            raise AssertionError("computed")

        X = da.from_delayed(dask.delayed(never)(), (10, 5), dtype=float)
        assert DaskTransformer(bare).transform(X).shape == (10, 2)
        meta = pd.DataFrame(np.empty((0, 5)), columns=COLUMNS)
        frame = dd.from_map(never, range(3), meta=meta)
        assert DaskTransformer(fitted).transform(frame).npartitions == 3

    @over(kind=["array", "frame"])
    def test_model_is_one_node_and_a_task_has_one_block(self, rows, bare, fitted, kind):
        X = da.from_array(rows, chunks=(125, 5))
        model = bare
        if kind == "frame":
            X = dd.from_pandas(pd.DataFrame(rows, columns=COLUMNS), npartitions=8)
            model = fitted
        (Z,) = dask.optimize(DaskTransformer(model).transform(X))
        graph = dict(Z.__dask_graph__())
        weight = len(pickle.dumps(model))
        heavy = {key for key, task in graph.items() if len(pickle.dumps(task)) > weight // 2}
        assert len(heavy) == 1
        embedding = [task for task in graph.values() if heavy & set(task.dependencies)]
        assert len(embedding) >= 8
        assert all(len(task.dependencies - heavy) <= 1 for task in embedding)

    def test_wrong_columns_are_refused_before_anything_is_computed(self, rows, bare, fitted):
        with pytest.raises(ValueError, match="4 features"):
            DaskTransformer(bare).transform(da.ones((10, 4)))
        frame = dd.from_pandas(pd.DataFrame(rows, columns=COLUMNS[::-1]), npartitions=2)
        with pytest.raises(ValueError, match="in that order"):
            DaskTransformer(fitted).transform(frame)
        for one in (frame.a, da.ones(10)):
            with pytest.raises(TypeError, match="one column"):
                DaskTransformer(fitted).transform(one)

    @over(estimator=[None, StandardScaler(), NoisyDIMTransformer])
    def test_another_estimator(self, estimator):
        with pytest.raises(NotFittedError):
            DaskTransformer(small()).transform(da.ones((10, 4)))
        transformer = DaskTransformer(estimator)
        assert "DaskTransformer" in repr(transformer)
        assert not transformer.__sklearn_is_fitted__()
        for method in (transformer.fit, transformer.transform):
            with pytest.raises(TypeError, match="it takes a NoisyDIMTransformer"):
                method(da.ones((10, 4)))

    @pytest.mark.skipif(
        parse_version(sklearn.__version__) < parse_version("1.9"),
        reason="scikit-learn < 1.9 compares a parameter that is an estimator with an array",
    )
    def test_in_a_notebook(self, bare):
        for estimator in (bare, small(), StandardScaler(), None):
            assert "DaskTransformer" in DaskTransformer(estimator)._repr_html_()


class TestFit:
    def fit(self, X, y=None, max_epochs=2, **parameters):
        with dask.config.set(scheduler="threads"):
            return DaskTransformer(small(**parameters), max_epochs).fit(X, y).estimator_

    def test_is_partial_fit_in_the_order_of_the_seed(self, rows, blocks):
        found = self.fit(blocks)
        seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
        order = list(_orders(8, 2, int(seed)))
        assert sorted(order[:8]) == sorted(order[8:]) == list(range(8))
        assert order[:8] != order[8:] != list(range(8))
        wanted = small()
        for number in order:
            wanted.partial_fit(rows[125 * number : 125 * (number + 1)])
        np.testing.assert_array_equal(found.transform(rows), wanted.transform(rows))
        assert found.n_samples_seen_ == 2000

    @over(case=["uneven, in columns", "unknown", "frame", "sparse"])
    def test_any_blocks(self, rows, case):
        frame = dd.from_pandas(pd.DataFrame(rows, columns=COLUMNS), npartitions=4)
        X = {
            "uneven, in columns": da.from_array(rows, chunks=((0, 1, 500, 0, 7, 492), 2)),
            "unknown": frame.to_dask_array(),
            "frame": frame,
            "sparse": da.from_array(rows, chunks=(250, 5)).map_blocks(sparse.csr_array),
        }[case]
        model = self.fit(X)
        # A block of one row cannot be the first; it has its turn in later passes.
        assert 1999 <= model.n_samples_seen_ <= 2000
        if case == "frame":
            assert list(model.feature_names_in_) == COLUMNS

    def test_classes_come_along(self, rows, blocks):
        y = (rows[:, 0] > 0).astype(int)
        model = self.fit(blocks, da.from_array(y, chunks=125), supervision=0.5)
        other = self.fit(blocks, da.from_array(1 - y[::-1], chunks=125), supervision=0.5)
        assert (model.transform(rows) != other.transform(rows)).any()
        with pytest.raises(ValueError, match=r"8 blocks, and y in 4"):
            self.fit(blocks, da.from_array(y, chunks=250), supervision=0.5)

    def test_wrong_input(self, rows, blocks, monkeypatch):
        broken = np.where(np.arange(1000)[:, None] == 700, np.nan, rows)
        with pytest.raises(ValueError, match="contains NaN"):
            self.fit(da.from_array(broken, chunks=(125, 5)))
        with pytest.raises(TypeError, match="for the estimator itself"):
            self.fit(rows)
        for nothing in (dask.delayed(rows), blocks.sum()):
            with pytest.raises(TypeError, match="has no rows"):
                self.fit(nothing)
        with pytest.raises(TypeError, match="one column"):
            self.fit(blocks[:, 0])
        with pytest.raises(ValueError, match="max_epochs"):
            self.fit(blocks, max_epochs=0)
        with pytest.raises(ValueError, match="two rows"):
            self.fit(da.ones((2, 5), chunks=(1, 5)))
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(ImportError, match=r"sknoisydim\[dask\]"):
            self.fit(blocks)


def peak():
    """Bytes of memory that this process has held at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def random_block(block_info=None):
    number = block_info[None]["chunk-location"][0]
    return np.random.default_rng(number).normal(size=(BLOCK_ROWS, BLOCK_COLUMNS))


def many(n_blocks):
    chunks = ((BLOCK_ROWS,) * n_blocks, (BLOCK_COLUMNS,))
    return da.map_blocks(random_block, chunks=chunks, dtype=float)


@pytest.mark.slow
class TestOnACluster:
    def test_is_the_fit_of_this_process(self, client, rows):
        X = da.from_array(rows, chunks=(125, 5))
        there = DaskTransformer(small(), 2).fit(X)
        with dask.config.set(scheduler="sync"):
            here = DaskTransformer(small(), 2).fit(X)
        np.testing.assert_array_equal(
            there.estimator_.transform(rows), here.estimator_.transform(rows)
        )
        np.testing.assert_allclose(
            there.transform(X).compute(), here.estimator_.transform(rows), atol=1e-12
        )
        broken = np.where(np.arange(1000)[:, None] == 700, np.nan, rows)
        with pytest.raises(ValueError, match="contains NaN"):
            DaskTransformer(small(), 2).fit(da.from_array(broken, chunks=(125, 5)))

    def test_a_worker_is_sent_the_model_once(self, client, bare, rows):
        X = da.from_array(rows, chunks=(125, 5))
        Z = DaskTransformer(bare).transform(X)
        (key,) = {k for k in Z.__dask_graph__() if isinstance(k, str) and k.startswith("Noisy")}
        Z.compute()

        def received(dask_worker):
            log = dask_worker.transfer_incoming_log
            return sum(key in transfer["keys"] for transfer in log)

        assert sum(client.run(received).values()) <= N_WORKERS - 1
        assert max(client.run(received).values()) <= 1

    def test_memory_does_not_grow_with_the_number_of_blocks(self, client):
        client.restart()
        encoder = MLPEncoder((8,), dropout=0)
        model = small(batch_size=256, encoder=encoder, clean_weight=1)

        def peak_after(n_blocks):
            transformer = DaskTransformer(model, 1).fit(many(n_blocks))
            transformer.transform(many(n_blocks)).sum().compute()
            return client.run(peak)

        before = peak_after(4)
        grown = {
            worker: (bytes_ - before[worker]) / BLOCK_BYTES
            for worker, bytes_ in peak_after(24).items()
        }
        print(f"a worker has grown by {max(grown.values()):.1f} blocks of {BLOCK_BYTES >> 20} MiB")
        assert max(grown.values()) < 8
