"""Hostile tables: each is embedded, finite and in shape, or refused in words that are ours."""

import os
import re
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from sknoisydim import NoisyDIMTransformer
from sknoisydim.encoders import MLPEncoder

#: HOSTILE_EXAMPLES=10000 asks for more, drawn anew each time; `-s` shows how many were refused.
EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "100"))
DEFAULT = EXAMPLES == 100
QUICK = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}

# What a message of torch's, or of the code underneath, is told by.
NOT_OURS = re.compile(
    r"torch|tensor|mat1|aten|linalg|broadcast|NoneType|has no attribute|not callable|"
    r"unsupported operand|out of bounds|invalid index"
)
# What was wrong with the table, and what to do: a message has to say one of these pairs.
CAUSES = re.compile(
    r"Found array with \d+ (sample|feature)\(s\).*a minimum of \d is required|"
    r"Found array with dim 3, .*Rows of more dimensions need an encoder|"
    r"Expected 2D array, got 1D array.*Reshape your data|"
    r"Input X contains NaN.*SimpleImputer|"
    r"Input X contains infinity.*Replace infinite cells|"
    r"could not convert string to float: '.*encode categories|"
    r"Cannot cast str dtype to float.*encode categories|"
    r"must be a string or a real number, not '.*convert these objects|"
    r"X is sparse, and this scaling is fitted to all rows at once.*Use scaling=|"
    r"Complex data not supported.*real and imaginary parts|"
    r"column \d+ overflows: squares.*Divide the column|"
    r"X holds \S+, too large for float32.*Use scaling=|"
    r"the embedding of the training rows is not finite.*scale the rows|"
    r"Feature names are only supported if all input features have string names.*you must convert|"
    r"Expected unique column names, got.*Give each column its own|"
    r"X holds dates or durations.*Columns have to be numbers",
    re.DOTALL,
)

SHAPES = st.tuples(
    st.sampled_from([24, 33, 40, 17, 16, 15, 32, 5, 3, 2, 2, 1, 0]),
    st.sampled_from([3, 1, 2, 4, 5, 6, 7, 20, 0]),
)
NUMBERS = ["float16", "float32", "float64", "longdouble", "int8", "int16", "int32", "int64"]
NUMBERS += ["uint8", "uint64", "bool"]


def with_outlier(rng, n, p, size):
    corner = (np.arange(n)[:, None] <= n // 8) & (np.arange(p) <= p // 2)
    return np.where(corner, size, rng.normal(size=(n, p)))


#: How the values of a table come about: (generator, n, p) -> float64 (n, p).
VALUES = {
    "normal": lambda rng, n, p: rng.normal(size=(n, p)),
    "constant": lambda rng, n, p: np.full((n, p), rng.choice([0.0, -0.0, 1.0, 1e-310, -7e5])),
    "nearly constant": lambda rng, n, p: 1e8 + rng.normal(size=(n, p)) * 1e-7,
    "duplicated": lambda rng, n, p: rng.normal(size=(2, p))[rng.integers(2, size=n)],
    "collinear": lambda rng, n, p: rng.normal(size=(n, 1)) * np.arange(1, p + 1),
    "cauchy cubed": lambda rng, n, p: rng.standard_cauchy(size=(n, p)) ** 3,
    "one-hot": lambda rng, n, p: np.eye(p)[rng.integers(max(p, 1), size=n * (p > 0))],
    "subnormal": lambda rng, n, p: rng.normal(size=(n, p)) * 5e-324 * 50,
    "large": lambda rng, n, p: rng.normal(size=(n, p)) * 1e150,
    "one huge": partial(with_outlier, size=1e300),
    "beyond float32": partial(with_outlier, size=1e39),
    "largest": lambda rng, n, p: rng.choice([-1, 1], size=(n, p)) * np.finfo(float).max,
    "mixed scales": lambda rng, n, p: rng.normal(size=(n, p)) * 10.0 ** rng.integers(-150, 150, p),
    "offset": lambda rng, n, p: rng.normal(size=(n, p)) + 10.0 ** rng.integers(0, 15, p),
    "missing": lambda rng, n, p: np.where(rng.random((n, p)) < 0.3, np.nan, rng.random((n, p))),
    "a column missing": lambda rng, n, p: np.where(np.arange(p) < 1, np.nan, rng.random((n, p))),
    "all missing": lambda rng, n, p: np.full((n, p), np.nan),
    "infinite": partial(with_outlier, size=-np.inf),
}


def cast(values, dtype):
    """Return values as a dtype, wrapped around where it does not hold them."""
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        if np.dtype(dtype).kind in "iu":
            values = np.clip(np.nan_to_num(values), -(2.0**62), 2.0**62).astype("int64")
        return values.astype(dtype)


def long_integers(values):
    return 2**70 + np.clip(np.nan_to_num(values), -9e15, 9e15).astype("int64").astype(object)


#: What an array may be, beside its values and dtype; each keeps them.
LAYOUTS = {
    "plain": lambda a: a,
    "fortran": np.asfortranarray,
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "backwards": lambda a: a[::-1][:, ::-1],
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "one row over and over": lambda a: np.broadcast_to(a[:1], a.shape),
    "list": lambda a: a.tolist(),
    "csr": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "vector": lambda a: a.ravel(),
    "cube": lambda a: a[:, :, None],
}


@st.composite
def arrays(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = VALUES[draw(st.sampled_from(sorted(VALUES)))](rng, *draw(SHAPES))
    others = {"object": lambda v: v.astype(object), "long": long_integers}
    others |= {"str": lambda v: v.astype(str)}
    kind = draw(st.sampled_from([*NUMBERS, *others, "complex"]))
    if kind in others:
        return others[kind](values)
    # scipy has no sparse arrays of some.
    without = {"csr", "csc"} if kind in ("float16", "longdouble") else set()
    layouts = sorted(LAYOUTS.keys() - without)
    return LAYOUTS[draw(st.sampled_from(layouts))](cast(values, kind))


def integer_column(values, dtype, missing=False):
    column = pd.Series(np.clip(np.nan_to_num(values), 0, 100).astype("int64")).astype(dtype)
    if missing:
        column.iloc[:1] = pd.NA
    return column


#: What a column of a frame may be, made of float64 values: numbers, and what holds none or some.
NUMERIC = {
    **{name: lambda v, name=name: pd.Series(cast(v, name)) for name in NUMBERS},
    "object": lambda v: pd.Series([float(x) for x in v], dtype=object),
    "Int64": lambda v: integer_column(v, "Int64"),
    "Float32": lambda v: pd.Series(cast(np.nan_to_num(v), "float32")).astype("Float32"),
    "Float64": lambda v: pd.Series(np.nan_to_num(v)).astype("Float64"),
    "boolean": lambda v: pd.Series(v > 0, dtype="boolean"),
    "arrow double": lambda v: pd.Series(np.nan_to_num(v)).astype("double[pyarrow]"),
    "category of numbers": lambda v: integer_column(v, "int64").astype("category"),
    "sparse": lambda v: pd.Series(pd.arrays.SparseArray(np.nan_to_num(v), fill_value=0.0)),
}
COLUMNS = NUMERIC | {
    "object with NA": lambda v: pd.Series([pd.NA, *v.tolist()][: len(v)], dtype=object),
    "Int64 with NA": lambda v: integer_column(v, "Int64", missing=True),
    "arrow with NA": lambda v: integer_column(v, "int64[pyarrow]", missing=True),
    "arrow string": lambda v: pd.Series([str(x) for x in v], dtype="string[pyarrow]"),
    "category of words": lambda v: pd.Series(np.where(v > 0, "a", "b")).astype("category"),
    "words": lambda v: pd.Series(np.where(v > 0, "a", "b")),
    "datetime": lambda v: pd.Series(pd.to_datetime(integer_column(v, "int64"), unit="D")),
    "timedelta": lambda v: pd.to_timedelta(integer_column(v, "int64"), unit="s"),
}

NAMES = {
    "words": lambda p: [f"c{j}" for j in range(p)],
    "numbers": lambda p: list(range(p)),
    "duplicate": lambda p: ["same"] * p,
    "mixed": lambda p: [j if j % 2 else f"c{j}" for j in range(p)],
    "odd": lambda p: [" ", "é", "a\nb", "__class__", "0", "noisydimtransformer0", "x" * 300][:p],
    "several levels": lambda p: pd.MultiIndex.from_tuples([("a", j) for j in range(p)]),
}


@st.composite
def frames(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, p = draw(SHAPES)
    p = min(max(p, 1), 7)
    values = VALUES[draw(st.sampled_from(sorted(VALUES)))](rng, n, p)
    # Mostly of numbers alone: one column that is none hides all others.
    kinds = st.sampled_from(sorted(draw(st.sampled_from([NUMERIC, NUMERIC, COLUMNS]))))
    frame = pd.concat([COLUMNS[draw(kinds)](values[:, j]) for j in range(p)], axis=1)
    name = draw(st.sampled_from(["words", "words", "numbers", "odd", *sorted(NAMES)]))
    frame.columns = NAMES[name](p)
    indices = range(n), [f"r{i}" for i in range(n)], [i // 2 for i in range(n)]
    frame.index = indices[draw(st.sampled_from(range(3)))]
    return frame


def dtypes_of(table):
    """Return the dtypes that an embedding of a table may have; with pandas' own, either."""
    dtypes = getattr(table, "dtypes", [getattr(table, "dtype", np.dtype("float64"))])
    if not all(isinstance(dtype, np.dtype) for dtype in dtypes):
        return {"float32", "float64"}
    return {"float32" if np.result_type(*dtypes) == np.float32 else "float64"}


def check(table, output, **parameters):
    """Return None if the table is embedded, and the message if it is refused."""
    given = {"encoder": MLPEncoder((8,)), "max_epochs": 1, "batch_size": 16, "random_state": 0}
    model = NoisyDIMTransformer(**given, **parameters).set_output(transform=output)
    before = table.copy() if isinstance(table, pd.DataFrame) else str(table)
    try:
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            # scikit-learn's, of what it does with sparse columns of pandas.
            warnings.filterwarnings("ignore", "pandas.DataFrame with sparse columns found")
            z = model.fit_transform(table)
            again = model.transform(table)
            densities = model.score_samples(table)
    except (ValueError, TypeError) as error:
        said = str(error)
        assert not NOT_OURS.search(said), said
        assert CAUSES.search(said), said
        assert model.missing == "error" or "NaN" not in said, said
        fresh = {*model.get_params(deep=False), "_sklearn_output_config"}
        assert vars(model).keys() == fresh, vars(model).keys() - fresh
        return said
    n, p = np.shape(table)
    values = np.asarray(z)
    assert (values.shape, densities.shape) == ((n, min(p, 16)), (n,))
    assert np.isfinite([*values.ravel(), *densities]).all()
    assert_array_equal(again, z)
    assert model.target != "uniform" or (values.min() >= 0 and values.max() <= 1)
    assert type(z) is (pd.DataFrame if output == "pandas" else np.ndarray)
    found = z.dtypes if output == "pandas" else [z.dtype]
    assert {str(dtype) for dtype in found} <= dtypes_of(table)
    if output == "pandas":
        assert list(z.columns) == list(model.get_feature_names_out())
        assert list(z.index) == list(table.index if hasattr(table, "dtypes") else range(n))
    if isinstance(table, pd.DataFrame):
        pd.testing.assert_frame_equal(table, before)
    else:
        assert str(table) == before
    return None


@pytest.mark.parametrize("tables", [arrays(), frames()], ids=["arrays", "frames"])
def test_is_embedded_or_refused_in_words(tables):
    counts = {"embedded": 0, "refused": 0}

    @settings(max_examples=EXAMPLES // 2, derandomize=DEFAULT, **QUICK)
    @given(
        tables,
        st.sampled_from(["default", "pandas"]),
        st.sampled_from(["normal", "uniform"]),
        st.sampled_from(["squash", "squash", "standard", "quantile", None]),
        st.sampled_from(["error", "indicator"]),
    )
    def run(table, output, target, scaling, missing):
        said = check(table, output, target=target, scaling=scaling, missing=missing)
        counts["refused" if said else "embedded"] += 1

    run()
    print(counts)
    assert min(counts.values()) > EXAMPLES / 10
