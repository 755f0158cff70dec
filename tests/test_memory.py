"""Tables larger than memory: maps of any dtype and layout, embeddings in place, rows of a file."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from over import over
from scipy import sparse
from sklearn.exceptions import NotFittedError
from small import small

from sknoisydim import _data
from sknoisydim._sources import ChosenRows, ConvertedRows, SparseRows, StackedRows

RNG = np.random.default_rng(0)
X = RNG.gamma(2.0, size=(300, 8))
# What torch reads as it is, and what has to be converted.
DTYPES = ["f4", "f8", "f2", ">f4", ">f8", "longdouble", "i1", "u2", "i8", "?"]


dim = small(2, batch_size=32)


def on_disk(folder, table, order="C"):
    """Write a table to a file, and open it as a read-only memory map."""
    path = folder / f"rows{len(list(folder.iterdir()))}.npy"
    np.save(path, np.asarray(table, order=order))
    mapped = np.load(path, mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    return mapped


def floats(table):
    """The table in memory, as scikit-learn would convert it."""
    single = table.dtype == np.float32
    return np.ascontiguousarray(table, dtype=np.float32 if single else np.float64)


@pytest.fixture(scope="module")
def model():
    return dim(target="uniform").fit(X)


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


@over(
    make=SOURCES,
    index=[slice(None), slice(90, 130), slice(5, 5), np.array([299, 0, 7, 7]), np.arange(25, 35)],
)
def test_a_source_is_read_as_an_array(make, index):
    rows = np.rint(X)  # halves, too, hold them exactly
    source = make(rows)
    assert (source.shape, source.dtype, len(source)) == ((300, 8), np.float64, 300)
    found = source[index]
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    assert_array_equal(found, rows[index])


class TestMaps:
    @over(copied=[True, False])
    def test_are_the_rows_in_memory(self, copied, tmp_path, monkeypatch):
        for number, dtype in enumerate(DTYPES[copied::2]):
            table = (10 * X).astype(dtype) if dtype != "?" else X > 2
            mapped = on_disk(tmp_path, table, "CF"[number % 2])
            expected = dim().fit(floats(table))
            with monkeypatch.context() as patch:
                if not copied:
                    patch.setattr(_data, "COPY_BYTES", 0)
                z = dim().fit(mapped).transform(mapped)
            assert_array_equal(z, expected.transform(floats(table)), err_msg=dtype)
            assert z.dtype == (np.float32 if table.dtype == np.float32 else np.float64)

    @over(dtype=["f2", "f4", ">f4", "longdouble"], cell={"NaN": np.nan, "infinity": -np.inf})
    def test_that_are_not_finite_in_the_last_row(self, model, dtype, cell, tmp_path):
        table = X.astype(dtype)
        table[-1, -1] = cell
        mapped = on_disk(tmp_path, table, "F")
        for call in (dim().fit, model.transform):
            with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
                call(mapped)


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
    command = [sys.executable, "-c", textwrap.dedent(GROWTH), benchmarks, tmp_path]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    fit, partial_fit, transform_to = map(float, done.stdout.split())
    assert max(fit, partial_fit) < 130
    assert transform_to < 30


class TestTransformTo:
    @over(
        make={
            "C": lambda dtype: np.empty((300, 2), dtype),
            "F": lambda dtype: np.empty((300, 2), dtype, order="F"),
            "a view": lambda dtype: np.empty((600, 5), dtype)[::-2, 1:3],
        }
    )
    def test_an_array(self, model, make):
        for dtype in ("f4", "f8"):
            out = make(dtype)
            assert model.transform_to(X.astype(dtype), out) is out
            assert_array_equal(out, model.transform(X.astype(dtype)))

    @over(dtype=["f4", "f8"], kind=[str, Path])
    def test_a_file(self, model, kind, dtype, tmp_path):
        path = tmp_path / "Z.npy"
        path.write_text("what was there before")
        z = model.transform_to(X.astype(dtype), kind(path))
        assert isinstance(z, np.memmap)
        assert not z.flags.writeable
        assert z.dtype == dtype
        for written in (z, np.load(path)):
            assert_array_equal(written, model.transform(X.astype(dtype)))
        assert os.listdir(tmp_path) == ["Z.npy"]

    @over(
        case=[
            (np.empty((300, 3)), ValueError, r"shape \(300, 2\).*got \(300, 3\) and float64"),
            (np.empty((299, 2)), ValueError, r"shape \(300, 2\).*got \(299, 2\)"),
            (np.empty((300, 2), "f2"), ValueError, "float32 or float64, got .* and float16"),
            (np.empty((300, 2), ">f8"), ValueError, "float32 or float64, got .* and >f8"),
            (np.broadcast_to(0.0, (300, 2)), ValueError, "out is read-only"),
            (X[:, :2], ValueError, "out shares memory with X"),
            ([[0.0, 0.0]], TypeError, r"array of shape \(300, 2\) or a path, got a list"),
            (None, TypeError, r"array of shape \(300, 2\) or a path, got a NoneType"),
        ]
    )
    def test_what_cannot_be_written(self, model, case):
        out, error, message = case
        before = X.copy()
        with pytest.raises(error, match=message):
            model.transform_to(X, out)
        assert_array_equal(X, before)

    def test_two_maps_of_one_file(self, model, tmp_path):
        table = np.memmap(tmp_path / "table", np.float64, "w+", shape=(700, 8))
        table[:] = np.resize(X, (700, 8))
        table.flush()
        rows = np.memmap(tmp_path / "table", np.float64, "r", shape=(300, 8))
        expected = model.transform(rows)
        held = rows.tobytes()
        again = np.memmap(tmp_path / "table", np.float64, "r+")
        for out in (again[:600], np.asarray(again)[2399:2999]):
            with pytest.raises(ValueError, match="out shares memory with X"):
                model.transform_to(np.asarray(rows), out.reshape(300, 2))
        assert rows.tobytes() == held
        behind = np.memmap(tmp_path / "table", np.float64, "r+", offset=300 * 8 * 8)
        model.transform_to(rows, behind[:600].reshape(300, 2))
        assert_array_equal(again[2400:3000].reshape(300, 2), expected)
        assert rows.tobytes() == held

    def test_rows_that_are_refused_leave_no_file(self, model, tmp_path):
        path = tmp_path / "Z.npy"
        path.write_text("before")
        for fitted, rows, out, error in (
            (model, np.full((3, 8), np.nan), path, ValueError),
            (dim(), X, path, NotFittedError),
            (model, X, tmp_path / "missing" / "Z.npy", FileNotFoundError),
        ):
            with pytest.raises(error):
                fitted.transform_to(rows, out)
        assert path.read_text() == "before"
        assert os.listdir(tmp_path) == ["Z.npy"]

    def test_half_an_embedding_is_never_there(self, model, tmp_path):
        class Breaks:
            """A target whose user presses a key in the second slice."""

            calls = 0

            def push_into(self, z, out):
                self.calls += 1
                if self.calls == 2:
                    assert len(os.listdir(tmp_path)) == 2
                    assert path.read_text() == "before"
                    raise KeyboardInterrupt
                out[:] = z

        path = tmp_path / "Z.npy"
        path.write_text("before")
        broken = model.retarget("normal")
        broken.target_ = Breaks()
        with pytest.raises(KeyboardInterrupt):
            broken.transform_to(np.tile(X, (10, 1)), path)
        assert broken.target_.calls == 2
        assert path.read_text() == "before"
        assert os.listdir(tmp_path) == ["Z.npy"]
