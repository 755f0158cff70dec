"""Tables that are no array in memory, as maps and sparse rows: the numbers are those of arrays."""

import itertools
import os
import pickle
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from over import over
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils import get_tags
from small import fails, run_python, small

from sknoisydim import _data
from sknoisydim._sources import ChosenRows, ConvertedRows, SparseRows, StackedRows
from sknoisydim.encoders import MLPEncoder
from sknoisydim.metrics import match_scorer, mutual_information

RNG = np.random.default_rng(0)
X = RNG.gamma(2.0, size=(300, 8)) * (RNG.random((300, 8)) < 0.3)
X[:, 3] += 5.0
Y = np.arange(300) % 3
# What torch reads as it is, and what has to be converted.
DTYPES = ["f4", "f8", "f2", ">f4", ">f8", "longdouble", "i1", "u2", "i8", "?"]
SCALINGS = ["squash", "standard", None]
METHODS = ["fit", "transform", "partial_fit", "score", "score_samples", "diagnose"]
dim = small(2, batch_size=32)


def on_disk(folder, table, order="C"):
    path = folder / f"rows{len(list(folder.iterdir()))}.npy"
    np.save(path, np.asarray(table, order=order))
    return np.load(path, mmap_mode="r")


SOURCES = {
    "converted": lambda rows: ConvertedRows(np.asfortranarray(rows.astype(np.float16))),
    "of more dimensions": lambda rows: ConvertedRows(np.asfortranarray(rows.reshape(-1, 2, 4))),
    "sparse": lambda rows: SparseRows(sparse.csr_array(rows)),
    "chosen": lambda rows: ChosenRows(rows[::-1], np.arange(len(rows))[::-1]),
    "stacked": lambda rows: StackedRows(rows[:100].astype(np.float32), rows[100:]),
    "of each other": lambda rows: StackedRows(
        ChosenRows(SparseRows(sparse.csr_matrix(rows)), np.arange(30)), ConvertedRows(rows[30:])
    ),
}
PARTS = [slice(None), slice(90, 130), slice(5, 5), np.array([299, 0, 7, 7]), np.arange(25, 35)]


@over(make=SOURCES, index=PARTS)
def test_a_source_is_read_as_an_array(make, index):
    rows = np.rint(X)  # halves, too, hold them exactly
    source = make(rows)
    assert (source.shape, source.dtype, len(source)) == ((300, 8), np.float64, 300)
    found = source[index]
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    assert_array_equal(found, rows[index])


class TestMaps:
    @over(dtype=DTYPES)
    def test_are_the_rows_in_memory(self, dtype, tmp_path, monkeypatch):
        number = DTYPES.index(dtype)
        table = (10 * X).astype(dtype) if dtype != "?" else X > 2
        mapped = on_disk(tmp_path, table, "CF"[number // 2 % 2])
        given = {"scaling": [*SCALINGS, "quantile"][number // 2 % 4], "early_stopping": number < 4}
        floats = np.ascontiguousarray(table, "f4" if dtype == "f4" else "f8")
        expected = dim(**given).fit(floats).transform(floats)
        with monkeypatch.context() as patch:
            if number % 2 == 0:  # read batch by batch
                patch.setattr(_data, "COPY_BYTES", 0)
            z = dim(**given).fit(mapped).transform(mapped)
        assert_array_equal(z, expected)
        assert z.dtype == floats.dtype

    @over(dtype=["f2", "f4", ">f4", "longdouble"], cell=[np.nan, -np.inf])
    def test_that_are_not_finite_in_the_last_row(self, fitted, dtype, cell, tmp_path):
        table = X.astype(dtype)
        table[-1, -1] = cell
        mapped = on_disk(tmp_path, table, "F")
        for call in (dim().fit, fitted.transform):
            fails(r"contains (NaN|infinity)", call, mapped)


def unusual(rows):
    """The cells of a row from right to left, half of the zeros among them, by large indices."""
    kept = (rows != 0) | (np.arange(rows.size).reshape(rows.shape) % 2 == 0)
    row, column = kept[:, ::-1].nonzero()
    column = rows.shape[1] - 1 - column
    ends = np.r_[0, np.cumsum(kept.sum(1))]
    matrix = sparse.csr_array((rows[row, column], column, ends), shape=rows.shape)
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


KINDS = itertools.product(("csr", "csc", "coo", "lil", "dok", "bsr", "dia"), ("matrix", "array"))
FORMATS = [unusual, *(getattr(sparse, f"{form}_{kind}") for form, kind in KINDS)]


class TestSparseRows:
    def test_in_every_format(self):
        table = X[:90]  # scipy warns of more than 100 diagonals
        expected = dim().fit_transform(table)
        for make in FORMATS:
            found = dim().fit(make(table)).transform(make(table))
            assert_array_equal(found, expected, err_msg=make.__name__)

    @over("dtype, scaling", [("f4", "squash"), ("f8", "standard"), ("i2", None), ("?", "squash")])
    def test_in_every_dtype(self, dtype, scaling, monkeypatch):
        table = X.astype(dtype)
        expected = dim(scaling=scaling).fit_transform(table)
        with monkeypatch.context() as patch:
            if dtype in "f8?":  # read batch by batch
                patch.setattr(_data, "COPY_BYTES", 0)
            found = dim(scaling=scaling).fit_transform(sparse.csr_array(table))
        assert_array_equal(found, expected)
        assert found.dtype == ("f4" if dtype == "f4" else "f8")

    def test_with_weights_classes_validation_and_a_refinement(self, monkeypatch):
        rows, found = sparse.csc_array(X), []
        parameters = {"supervision": 0.5, "refine": "rotation", "early_stopping": True}
        for table, held_out in ((X, X[:50]), (rows, sparse.csr_array(X[:50]))):
            given = {"X_val": held_out, "y_val": Y[:50], "sample_weight": np.arange(300) % 4}
            found.append(dim(**parameters).fit(table, Y, **given))
            monkeypatch.setattr(_data, "COPY_BYTES", 0)
        assert_array_equal(found[1].transform(rows), found[0].transform(X))
        assert found[1].history_["valid_information"] == found[0].history_["valid_information"]

    def test_in_a_stream(self):
        dense, model = dim(refine="rotation"), dim(refine="rotation")
        for start in (0, 150):
            dense.partial_fit(X[start : start + 150])
            model.partial_fit(sparse.csr_matrix(X[start : start + 150]))
        assert_array_equal(model.training_state_["kept"], dense.training_state_["kept"])
        assert_array_equal(model.transform(X), dense.transform(X))
        later = pickle.loads(pickle.dumps(model)).partial_fit(X[:40])
        assert_array_equal(later.transform(X), dense.partial_fit(X[:40]).transform(X))

    def test_in_all_that_judges(self, fitted):
        rows = sparse.csr_array(X)
        assert fitted.score(rows) == fitted.score(X)
        assert_array_equal(fitted.score_samples(rows), fitted.score_samples(X))
        assert match_scorer(fitted, rows) == match_scorer(fitted, X)
        assert mutual_information(fitted, rows) == mutual_information(fitted, X)


@over(method=METHODS)
def test_sparse_rows_stay_sparse_in_every_method(method, monkeypatch):
    read, whole = [], SparseRows.__getitem__

    def watched(self, index):
        rows = whole(self, index)
        read.append(len(rows))
        return rows

    rows = sparse.random_array((4_500, 500), density=0.01, format="csr", random_state=0)
    model = dim(max_epochs=1, batch_size=512, encoder=MLPEncoder((16,)))
    if method not in ("fit", "partial_fit"):
        model.fit(rows[:600])
    with monkeypatch.context() as patch:
        patch.setattr(_data, "COPY_BYTES", 0)
        patch.setattr(SparseRows, "__getitem__", watched)
        extra = {"classifier": False} if method == "diagnose" else {}
        getattr(model, method)(rows, **extra)
        if method == "partial_fit":
            model.partial_fit(rows)
    assert 0 < max(read) <= 4_200


class TestSparseRowsAreRefused:
    @over(method=METHODS, cell=[np.nan, np.inf])
    def test_with_cells_that_are_not_finite(self, fitted, method, cell):
        rows = sparse.csc_array(X)
        rows.data[17] = cell
        fitted = dim() if "fit" in method else fitted
        fails(f"contains {str(cell)[:3]}".replace("nan", "NaN"), getattr(fitted, method), rows)

    def test_by_scalings_that_see_all_rows(self):
        for scaling, method in (("quantile", "fit"), (MaxAbsScaler(), "partial_fit")):
            model = dim(scaling=scaling)
            refused = r"X is sparse, .* Use scaling='squash', 'standard' or None, or pass X\.toarra"
            fails(refused, getattr(model, method), sparse.csr_array(X))
            assert not hasattr(model, "encoder_")
            assert not get_tags(model).input_tags.sparse
        assert all(get_tags(dim(scaling=scaling)).input_tags.sparse for scaling in SCALINGS)

    def test_of_another_shape_or_kind(self, fitted):
        message = "3 features, but NoisyDIMTransformer is expecting 8"
        fails(message, fitted.transform, sparse.csr_array(X[:, :3]))
        fails(r"0 sample\(s\)", fitted.transform, sparse.csr_array((0, 8)))
        fails("Expected 2D input|Cannot convert", fitted.transform, sparse.coo_array(X[0]))
        for made in (sparse.csr_array(X), sparse.csc_array(X)):
            made.indices[5] = 10**8  # scipy looks for such only when it is asked to
            fails(r"ind(ex|ices).* must be < ", fitted.transform, made)
        fails("Complex data not supported", fitted.transform, sparse.csr_array(X + 1j))


GROWTH = """
    import sys
    from pathlib import Path
    import numpy as np
    sys.path.insert(0, sys.argv[1])
    from memory import growth
    from sknoisydim import NoisyDIMTransformer
    from sknoisydim.encoders import MLPEncoder

    folder = Path(sys.argv[2])
    path = folder / "rows.npy"
    rows = np.lib.format.open_memmap(path, "w+", "i1", (100_000, 400), True)
    for start in range(0, len(rows), 10_000):
        part = rows[start : start + 10_000]
        part[:] = np.random.default_rng(start).integers(100, size=part.shape, dtype=np.int8)
    rows.flush()
    rows = np.load(path, mmap_mode="r")
    model = NoisyDIMTransformer(8, max_epochs=1, encoder=MLPEncoder((16,)), refine=None)
    model.fit(rows[:2_000])  # modules that torch loads once
    print(growth(lambda: model.fit(rows))[0], growth(lambda: model.partial_fit(rows))[0])
    print(growth(lambda: model.transform_to(rows, folder / "out.npy"))[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_memory_does_not_grow_with_the_table(tmp_path):
    # As float64 the table takes 320 MB. What grows: 4,096 rows for the views, slices of 16 MB for
    # the statistics, batches, and rows that a stream keeps.
    benchmarks = Path(__file__).parents[1] / "benchmarks"
    out = run_python(GROWTH, benchmarks, tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    fit, partial_fit, transform_to = map(float, out.split())
    assert max(fit, partial_fit) < 130
    assert transform_to < 30


class TestTransformTo:
    @over(dtype=["f4", "f8"], of_out=["f4", "f8"])
    def test_an_array(self, fitted, dtype, of_out):
        for order, view in itertools.product("CF", (np.s_[:300, :2], np.s_[::-2, 1:3])):
            out = np.empty((600, 5), of_out, order)[view]
            assert fitted.transform_to(X.astype(dtype), out) is out
            assert_array_equal(out, fitted.transform(X.astype(dtype)).astype(of_out))

    @over(dtype=["f4", "f8"], kind=[str, Path])
    def test_a_file(self, fitted, kind, dtype, tmp_path):
        path = tmp_path / "Z.npy"
        path.write_text("what was there before")
        z = fitted.transform_to(X.astype(dtype), kind(path))
        assert (type(z), z.flags.writeable, z.dtype) == (np.memmap, False, dtype)
        for written in (z, np.load(path)):
            assert_array_equal(written, fitted.transform(X.astype(dtype)))
        assert os.listdir(tmp_path) == ["Z.npy"]

    def test_what_cannot_be_written(self, fitted):
        before, to, shape = X.copy(), partial(fitted.transform_to, X), (300, 2)
        fails(r"shape \(300, 2\).*got \(300, 3\) and float64", to, np.empty((300, 3)))
        fails(r"shape \(300, 2\).*got \(299, 2\)", to, np.empty((299, 2)))
        fails("float32 or float64, got .* and float16", to, np.empty(shape, "f2"))
        fails("float32 or float64, got .* and >f8", to, np.empty(shape, ">f8"))
        fails("out is read-only", to, np.broadcast_to(0.0, shape))
        fails("out shares memory with X", to, X[:, :2])
        for out in ([[0.0, 0.0]], None):
            message = rf"array of shape \(300, 2\) or a path, got a {type(out).__name__}"
            fails(message, to, out, error=TypeError)
        assert_array_equal(X, before)

    def test_two_maps_of_one_file(self, fitted, tmp_path):
        np.resize(X, (700, 8)).tofile(tmp_path / "table")
        rows = np.memmap(tmp_path / "table", np.float64, "r", shape=(300, 8))
        expected, held = fitted.transform(rows), rows.tobytes()
        again = np.memmap(tmp_path / "table", np.float64, "r+")
        for out in (again[:600], np.asarray(again)[2399:2999]):
            args = np.asarray(rows), out.reshape(300, 2)
            fails("out shares memory with X", fitted.transform_to, *args)
        behind = np.memmap(tmp_path / "table", np.float64, "r+", offset=300 * 8 * 8)
        fitted.transform_to(rows, behind[:600].reshape(300, 2))
        assert_array_equal(again[2400:3000].reshape(300, 2), expected)
        assert rows.tobytes() == held

    def test_what_fails_leaves_the_file_as_it_was(self, fitted, tmp_path):
        def interrupted(z):  # in the second slice
            assert len(os.listdir(tmp_path)) == 2
            assert path.read_text() == "before"
            if len(z) < 1024:
                raise KeyboardInterrupt
            return z

        path = tmp_path / "Z.npy"
        path.write_text("before")
        broken = fitted.retarget("normal")
        broken.target_ = SimpleNamespace(_in_single=True, _push=interrupted)
        for one, rows, error in (
            (fitted, np.full((3, 8), np.nan), ValueError),
            (dim(), X, NotFittedError),
            (broken, np.tile(X, (5, 1)), KeyboardInterrupt),
        ):
            fails(None, one.transform_to, rows, path, error=error)
            assert path.read_text() == "before"
            assert os.listdir(tmp_path) == ["Z.npy"]
