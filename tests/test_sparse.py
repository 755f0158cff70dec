"""Sparse rows: the same numbers as those of the dense table, without ever having it in memory."""

import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from over import over
from scipy import sparse
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils import get_tags
from small import small

from sknoisydim import _data
from sknoisydim._sources import SparseRows
from sknoisydim.encoders import MLPEncoder
from sknoisydim.metrics import match_scorer, mutual_information

RNG = np.random.default_rng(0)
X = RNG.gamma(2.0, size=(300, 8)) * (RNG.random((300, 8)) < 0.3)
X[:, 3] += 5.0
Y = np.arange(300) % 3
SCALINGS = ["squash", "standard", None]
REFUSED = r"X is sparse, .* Use scaling='squash', 'standard' or None, or pass X\.toarray\(\)"
METHODS = ["fit", "transform", "partial_fit", "score", "score_samples", "diagnose"]


dim = small(2, batch_size=32)


def large_indices(rows):
    matrix = sparse.csr_array(rows)
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def zeros_written_out(rows):
    """Half of the zeros are stored, as any other number."""
    kept = (rows != 0) | (np.arange(rows.size).reshape(rows.shape) % 2 == 0)
    row, column = kept.nonzero()
    return sparse.csr_array((rows[row, column], (row, column)), shape=rows.shape)


def backwards(rows):
    """The cells of a row from right to left."""
    matrix = sparse.csr_array(rows)
    for start, stop in zip(matrix.indptr, matrix.indptr[1:], strict=False):
        matrix.indices[start:stop] = matrix.indices[start:stop][::-1].copy()
        matrix.data[start:stop] = matrix.data[start:stop][::-1].copy()
    return matrix


def outside(matrix):
    """A cell far from the matrix, which scipy looks for only when it is asked to."""
    matrix.indices[5] = 10**8
    return matrix


KINDS = itertools.product(("csr", "csc", "coo", "lil", "dok", "bsr", "dia"), ("matrix", "array"))


FORMATS = {
    **{f"{form}_{kind}": getattr(sparse, f"{form}_{kind}") for form, kind in KINDS},
    "64-bit indices": large_indices,
    "zeros written out": zeros_written_out,
    "backwards": backwards,
}


@pytest.fixture(scope="module")
def model():
    return dim().fit(X)


class TestAreTheDenseRows:
    def test_in_every_format(self):
        table = X[:90]  # scipy warns of more than 100 diagonals
        expected = dim().fit_transform(table)
        for name, make in FORMATS.items():
            found = dim().fit(make(table)).transform(make(table))
            assert_array_equal(found, expected, err_msg=name)

    @over(
        case=[
            (np.float32, "squash"),
            (np.float64, "standard"),
            (np.int16, None),
            (np.bool_, "squash"),
        ]
    )
    def test_in_every_dtype(self, case):
        dtype, scaling = case
        table = X.astype(dtype)
        expected = dim(scaling=scaling).fit_transform(table)
        with pytest.MonkeyPatch.context() as patch:
            if dtype in (np.float64, np.bool_):  # read batch by batch
                patch.setattr(_data, "COPY_BYTES", 0)
            found = dim(scaling=scaling).fit_transform(sparse.csr_array(table))
        assert_array_equal(found, expected)
        assert found.dtype == (np.float32 if dtype == np.float32 else np.float64)

    def test_with_weights_classes_validation_and_a_refinement(self, monkeypatch):
        weights = np.arange(300) % 4
        rows = sparse.csc_array(X)
        parameters = {"supervision": 0.5, "refine": "rotation", "early_stopping": True}
        found = []
        for table, held_out in ((X, X[:50]), (rows, sparse.csr_array(X[:50]))):
            given = {"X_val": held_out, "y_val": Y[:50], "sample_weight": weights}
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

    def test_in_all_that_judges(self, model):
        rows = sparse.csr_array(X)
        assert model.score(rows) == model.score(X)
        assert_array_equal(model.score_samples(rows), model.score_samples(X))
        assert match_scorer(model, rows) == match_scorer(model, X)
        assert mutual_information(model, rows) == mutual_information(model, X)


@over(method=METHODS)
def test_stay_sparse_in_every_method(method):
    read = []
    whole = SparseRows.__getitem__

    def watched(self, index):
        rows = whole(self, index)
        read.append(len(rows))
        return rows

    rows = sparse.random_array((4_500, 500), density=0.01, format="csr", random_state=0)
    model = dim(max_epochs=1, batch_size=512, encoder=MLPEncoder((16,)))
    if method not in ("fit", "partial_fit"):
        model.fit(rows[:600])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_data, "COPY_BYTES", 0)
        patch.setattr(SparseRows, "__getitem__", watched)
        extra = {"classifier": False} if method == "diagnose" else {}
        getattr(model, method)(rows, **extra)
        if method == "partial_fit":
            model.partial_fit(rows)
    assert 0 < max(read) <= 4_200


class TestAreRefused:
    @over(method=METHODS, cell=[np.nan, np.inf])
    def test_with_cells_that_are_not_finite(self, model, method, cell):
        rows = sparse.csc_array(X)
        rows.data[17] = cell
        model = dim() if "fit" in method else model
        with pytest.raises(
            ValueError, match="contains NaN" if cell != np.inf else "contains infinity"
        ):
            getattr(model, method)(rows)

    def test_by_scalings_that_see_all_rows(self):
        for scaling, method in (("quantile", "fit"), (MaxAbsScaler(), "partial_fit")):
            model = dim(scaling=scaling)
            with pytest.raises(ValueError, match=REFUSED):
                getattr(model, method)(sparse.csr_array(X))
            assert not hasattr(model, "encoder_")
            assert not get_tags(model).input_tags.sparse
        assert all(get_tags(dim(scaling=scaling)).input_tags.sparse for scaling in SCALINGS)

    @over(
        case=[
            (sparse.csr_array(X[:, :3]), "3 features, but NoisyDIMTransformer is expecting 8"),
            (sparse.csr_array((0, 8)), r"0 sample\(s\)"),
            (sparse.coo_array(X[0]), "Expected 2D input|Cannot convert"),
            (outside(sparse.csr_array(X)), r"ind(ex|ices).* must be < "),
            (outside(sparse.csc_array(X)), r"ind(ex|ices).* must be < "),
            (sparse.csr_array(X + 1j), "Complex data not supported"),
        ]
    )
    def test_of_another_shape_or_kind(self, model, case):
        with pytest.raises(ValueError, match=case[1]):
            model.transform(case[0])
