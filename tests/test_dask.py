"""More than one worker: grids over processes, and collections of Dask."""

import copy
import resource
import sys

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster
from scipy import sparse
from sklearn import config_context
from small import fails, small

from sknoisydim.distributed import DaskTransformer
from sknoisydim.distributed._dask import _train_on
from sknoisydim.encoders import MLPEncoder

pytestmark = pytest.mark.usefixtures("one_thread")
N_WORKERS = 2
COLUMNS = list("abcde")
dim = small(2, batch_size=64, max_epochs="auto")
ROWS = np.random.default_rng(0).normal(size=(1000, 5)) @ np.diag([1, 2, 3, 4, 5.0])
BLOCKS, TABLE = da.from_array(ROWS, chunks=(125, 5)), pd.DataFrame(ROWS, columns=COLUMNS)
FRAME = dd.from_pandas(TABLE, npartitions=8)
BROKEN = np.where(np.arange(1000)[:, None] == 700, np.nan, ROWS)
# A block of rows of the test on memory, and what a process may grow by beside two of them.
BLOCK_ROWS, BLOCK_COLUMNS = 40_000, 50
BLOCK_BYTES = 8 * BLOCK_ROWS * BLOCK_COLUMNS


@pytest.fixture(scope="module")
def client():
    given = {"n_workers": N_WORKERS, "threads_per_worker": 1, "processes": True}
    given["dashboard_address"] = ":0"  # any free port: tests may run beside others
    with LocalCluster(host="127.0.0.1", **given) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def fitted():
    return dim(max_epochs=2).fit(TABLE)


@pytest.fixture(scope="module")
def bare():
    return dim(max_epochs=2).fit(ROWS)


class TestTransform:
    def arrays(self):
        yield "even", BLOCKS
        yield "uneven", da.from_array(ROWS, chunks=((1, 500, 7, 492), 5))
        yield "in columns", da.from_array(ROWS, chunks=(300, 2))
        yield "empty blocks", da.from_array(ROWS, chunks=((0, 600, 0, 400), 5))
        yield "unknown", FRAME.to_dask_array()
        dense = da.from_array(ROWS, chunks=((500, 0, 500), 5))
        yield "sparse", dense.map_blocks(sparse.csr_array)

    def test_array_is_the_table_in_blocks(self, bare):
        wanted = bare.transform(ROWS)
        for name, X in self.arrays():
            Z = DaskTransformer(bare).transform(X)
            assert isinstance(Z, da.Array), name
            np.testing.assert_array_equal(Z.chunks[0], X.chunks[0], err_msg=name)
            assert Z.chunks[1] == (2,)
            found = Z.compute(scheduler="threads")
            np.testing.assert_allclose(found, wanted, atol=1e-12, err_msg=name)

    def test_type_is_known_and_true(self, fitted, bare):
        for given, wanted in {"f8": "f8", "f4": "f4", "i4": "f8", "f2": "f8"}.items():
            Z = DaskTransformer(bare).transform(BLOCKS.astype(given))
            assert Z.dtype == Z._meta.dtype == Z.compute(scheduler="threads").dtype == wanted
            Z = DaskTransformer(fitted).transform(FRAME.astype(given))
            assert set(Z.dtypes) == set(Z.compute(scheduler="threads").dtypes) == {np.dtype(wanted)}

    def test_stays_lazy_where_scikit_learn_is_asked_for_frames(self, bare):
        with config_context(transform_output="pandas"):
            Z = DaskTransformer(bare).transform(BLOCKS)
            assert isinstance(Z, da.Array)
            found = Z.compute(scheduler="sync")
        np.testing.assert_allclose(found, bare.transform(ROWS), atol=1e-12)
        # The setting of the estimator itself holds for tables in memory.
        np.testing.assert_array_equal(DaskTransformer(bare).transform(ROWS), bare.transform(ROWS))
        framed = copy.deepcopy(bare).set_output(transform="pandas")
        assert isinstance(DaskTransformer(framed).transform(ROWS), pd.DataFrame)
        assert isinstance(DaskTransformer(framed).transform(BLOCKS), da.Array)

    def test_frame_keeps_its_index_and_names_its_columns(self, fitted):
        index = pd.date_range("2020", periods=len(ROWS), freq="h", name="hour")
        frame = pd.DataFrame(ROWS, columns=COLUMNS, index=index)
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

    def test_wrong_columns_are_refused_before_anything_is_computed(self, bare, fitted):
        framed, plain = (DaskTransformer(model).transform for model in (fitted, bare))
        fails("4 features", plain, da.ones((10, 4)))
        fails("must be in the same order", framed, FRAME[COLUMNS[::-1]])
        fails("one column", framed, FRAME.a, error=TypeError)
        fails("one column", plain, da.ones(10), error=TypeError)


class TestFit:
    def fit(self, X, y=None, max_epochs=2, **parameters):
        with dask.config.set(scheduler="threads"):
            return DaskTransformer(dim(**parameters), max_epochs).fit(X, y).estimator_

    def test_is_partial_fit_in_the_order_of_the_seed(self):
        found = self.fit(BLOCKS)
        seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
        order = [*(n for i in (0, 1) for n in np.random.default_rng([seed, i]).permutation(8))]
        assert sorted(order[:8]) == sorted(order[8:]) == list(range(8))
        assert order[:8] != order[8:] != list(range(8))
        wanted = dim()
        for number in order:
            wanted.partial_fit(ROWS[125 * number : 125 * (number + 1)])
        np.testing.assert_array_equal(found.transform(ROWS), wanted.transform(ROWS))
        assert found.n_samples_seen_ == 2000
        # A task that runs again, as its worker died, finds the model as it was.
        assert _train_on(wanted, ROWS[:125], None).n_samples_seen_ == 2125
        np.testing.assert_array_equal(found.transform(ROWS), wanted.transform(ROWS))

    def test_classes_come_along(self):
        y = (ROWS[:, 0] > 0).astype(int)
        model = self.fit(BLOCKS, da.from_array(y, chunks=125), supervision=0.5)
        other = self.fit(BLOCKS, da.from_array(1 - y[::-1], chunks=125), supervision=0.5)
        assert (model.transform(ROWS) != other.transform(ROWS)).any()
        with pytest.raises(ValueError, match=r"8 blocks, and y in 4"):
            self.fit(BLOCKS, da.from_array(y, chunks=250), supervision=0.5)

    def test_wrong_input(self, monkeypatch):
        fails("contains NaN", self.fit, da.from_array(BROKEN, chunks=(125, 5)))
        fails("for the estimator itself", self.fit, ROWS, error=TypeError)
        fails("has no rows", self.fit, dask.delayed(ROWS), error=TypeError)
        fails("has no rows", self.fit, BLOCKS.sum(), error=TypeError)
        fails("one column", self.fit, BLOCKS[:, 0], error=TypeError)
        fails("max_epochs", self.fit, BLOCKS, max_epochs=0)
        fails("two rows", self.fit, da.ones((2, 5), chunks=(1, 5)))
        monkeypatch.setitem(sys.modules, "distributed", None)
        fails(r"sknoisydim\[dask\]", self.fit, BLOCKS, error=ImportError)


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def random_block(block_info=None):
    number = block_info[None]["chunk-location"][0]
    return np.random.default_rng(number).normal(size=(BLOCK_ROWS, BLOCK_COLUMNS))


def many(n_blocks):
    chunks = ((BLOCK_ROWS,) * n_blocks, (BLOCK_COLUMNS,))
    return da.map_blocks(random_block, chunks=chunks, dtype=float)


@pytest.mark.slow
def test_a_cluster_fits_as_this_process_does(client):
    there = DaskTransformer(dim(), 2).fit(BLOCKS)
    with dask.config.set(scheduler="sync"):
        here = DaskTransformer(dim(), 2).fit(BLOCKS).estimator_.transform(ROWS)
    np.testing.assert_array_equal(there.estimator_.transform(ROWS), here)
    fails("contains NaN", DaskTransformer(dim(), 2).fit, da.from_array(BROKEN, chunks=(125, 5)))
    # A worker is sent the model once.
    Z = there.transform(BLOCKS)
    (key,) = {k for k in Z.__dask_graph__() if isinstance(k, str) and k.startswith("Noisy")}
    np.testing.assert_allclose(Z.compute(), here, atol=1e-12)

    def received(dask_worker):
        return sum(key in transfer["keys"] for transfer in dask_worker.transfer_incoming_log)

    received = client.run(received).values()
    assert sum(received) <= N_WORKERS - 1
    assert max(received) <= 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_blocks(client):
    # Many steps: what is kept costs most of one, and holds no block.
    model = dim(batch_size=256, encoder=MLPEncoder((8,), dropout=0), keep=None)

    def peak_after(n_blocks):
        transformer = DaskTransformer(model, 1).fit(many(n_blocks))
        transformer.transform(many(n_blocks)).sum().compute()
        return client.run(peak)

    before, after = peak_after(4), peak_after(12)
    grown = max(after[worker] - before[worker] for worker in after) / BLOCK_BYTES
    # Were all of the eight more blocks held, one of the two workers would hold four of them.
    assert grown < 3
