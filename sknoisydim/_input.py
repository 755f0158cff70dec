"""What a user passes as rows, columns and weights, checked."""

import contextlib
import datetime
import numbers
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import validate_data

from sknoisydim._labels import is_unknown
from sknoisydim._sources import RowSource, Source, as_csr, as_source, slices
from sknoisydim._validation import naming

SEEN_AS_MISSING = (
    "Fill them in front, with sklearn.impute.SimpleImputer, or take "
    "NoisyDIMTransformer(missing='indicator'), which shows the encoder where they were."
)
NO_INFINITY = "Replace infinite cells in front, or leave their rows out."
_NO_TEXT = (
    "Columns have to be numbers: encode categories in front, such as with OneHotEncoder in a "
    "ColumnTransformer, or leave them out."
)
_NO_DATES = "Columns have to be numbers, such as days since the first date."
# What to do, by a part of the message that says what is wrong.
REMEDIES = {
    "contains NaN": SEEN_AS_MISSING,
    "not 'NAType'": SEEN_AS_MISSING,
    "contains infinity": NO_INFINITY,
    "could not convert string": _NO_TEXT,
    "Cannot cast str": _NO_TEXT,
    "must be a string or a real number": "Columns have to be numbers: convert these objects.",
    "Complex data not supported": "Pass real and imaginary parts as columns of their own.",
    "at least one array or dtype is required": "X has no columns.",
    "unsupported ScalarType": "numpy has no such numbers: pass X.float().",
    "while dim <= 2 is required": "Rows of more dimensions need an encoder of your own.",
}
# Text that stands for a missing cell, in small letters, that is a number with a comma, or a date.
_MARKS = {"", "?", "-", "--", ".", "*", "na", "n/a", "n.a.", "#n/a", "null", "none", "missing"}
_WITH_COMMA = re.compile(r"(?=.*,)(?=.*\d)[-+\d., ]+(e[-+]?\d+)?", re.IGNORECASE)
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?")
_UNREADABLE = re.compile(r"could not convert string to float: (?:np\.str_\()?'(.*)'\)?$")
# What a column of dates or durations is called: by numpy, pandas, polars and pyarrow.
_OF_TIME = re.compile(r"\b(date|time|duration|period|month_day)", re.IGNORECASE)
_TIMES = (np.datetime64, np.timedelta64, datetime.date, datetime.time, datetime.timedelta)


def check_rows(
    estimator: BaseEstimator,
    X: Any,
    *,
    known: tuple[int, ...] | None = None,
    any_shape: bool = False,
    missing: bool = False,
    **options: Any,
) -> tuple[RowSource, tuple[int, ...]]:
    """Return the rows (n, p) as a source of float32 or float64, and the shape of one of them.

    `known` is the shape of the rows of the fit; with `any_shape` rows of more dimensions are
    flattened. `options` are those of `sklearn.utils.validation.validate_data`.
    """
    options = {"dtype": [np.float64, np.float32], "accept_sparse": "csr"} | options
    options["ensure_all_finite"] = "allow-nan" if missing else True
    shape: tuple[int, ...] | None = None
    may_be_infinite, name, given = False, type(estimator).__name__, X
    if not isinstance(X, Source):
        with in_our_words():
            check_kinds(X, "X")
        X = _unmasked(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "biuf":
        options |= {"dtype": None, "ensure_all_finite": False}
        may_be_infinite = X.dtype.kind == "f"
    elif sparse.issparse(X):
        cells: Any = X  # infinities of both signs in one cell would add up to NaN
        if missing and np.isinf(cells.tocoo().data).any():
            raise ValueError(f"Input X contains infinity. {NO_INFINITY}")
        X = as_csr(X)
    elif missing:
        X = _with_nan(X)
    _check_names(X)
    # scikit-learn looks for infinities by a sum, and that of both signs is NaN with a warning.
    with np.errstate(invalid="ignore", over="ignore"), in_our_words(given):
        if any_shape:
            if isinstance(X, (list, tuple)) or getattr(X, "ndim", 2) > 2:
                X = check_array(X, allow_nd=True, **options)
            if getattr(X, "ndim", 2) > 2:
                shape = X.shape[1:]
                if missing:
                    refused = "missing='indicator' is for tables: fill missing cells in front."
                    raise ValueError(f"X has rows of shape {shape}, and {refused}")
                # In another layout, flattening is copying.
                X = X.reshape(len(X), -1) if X.flags.c_contiguous else as_source(X)
        if shape is None or known is None or shape == known:
            options |= {"reset": known is None, "skip_check_array": isinstance(X, Source)}
            rows = as_source(validate_data(estimator, X, **options))
            shape = shape or rows.shape[1:]
            # Slice by slice; what is converted may be no more finite.
            told = {"allow_nan": missing, "estimator_name": name, "input_name": "X"}
            for part in slices(*rows.shape) if may_be_infinite else ():
                assert_all_finite(rows[part], **told)
    if known is not None and shape != known:
        raise ValueError(f"X has rows of shape {shape}; {name} is fitted to rows of shape {known}.")
    return rows, shape


@contextlib.contextmanager
def in_our_words(X: object = None) -> Iterator[None]:
    """Say what to do where others only say what is wrong; of a frame X, also in which columns."""
    try:
        yield
    except (TypeError, ValueError) as error:
        said = str(error)
        remedy = next((text for part, text in REMEDIES.items() if part in said), None)
        if remedy is None:
            raise
        text = _UNREADABLE.search(said)
        # Some show the whole table on the lines that follow.
        said = said.partition("\n")[0].rstrip(".")
        if text:
            remedy, said = _for_text(text[1]), said + _in_columns(X, _is_text)
        if isinstance(X, (str, os.PathLike)):
            remedy = "If X is a file, read it in front, such as with pandas.read_csv."
        kind = ValueError if isinstance(error, ValueError) else TypeError
        if remedy is SEEN_AS_MISSING:
            kind = ValueError
            said = f"Input X contains NaN: cells are missing{_in_columns(X, _is_missing)}"
        raise kind(f"{said}. {remedy}") from error


def _in_columns(X: Any, blamed: Callable[[np.ndarray], bool]) -> str:
    """Return which columns of a frame are to blame, for a message; nothing for other tables."""
    found: list[str] = []
    with contextlib.suppress(Exception):  # a frame of any package: the message can do without
        found = [repr(name) for name in _names(X) if blamed(np.asarray(X[name]))]
    if not found:
        return ""
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f", in the column{'s' * (len(found) > 1)} {', '.join(found[:5])}{more}"


def _is_text(column: np.ndarray) -> bool:
    objects = column.flat if column.dtype == object else ()
    return column.dtype.kind in "SUT" or any(map(_is_word, objects))


def _is_word(cell: object) -> bool:
    if isinstance(cell, (str, bytes)):
        try:
            float(cell)
        except ValueError:
            return True
    return False


def _is_missing(column: np.ndarray) -> bool:
    if column.dtype.kind == "f":
        return bool(np.isnan(column).any())
    return column.dtype == object and any(map(is_unknown, column))


def _for_text(text: str) -> str:
    """Return what to do about a cell of text."""
    if text.strip().lower() in _MARKS:
        return (
            "Such a mark of a missing cell has to be NaN, as pandas.read_csv(..., "
            f"na_values={text!r}) makes it. {SEEN_AS_MISSING}"
        )
    if _WITH_COMMA.fullmatch(text.strip()):
        return (
            "It looks like a number with a comma: read the file with pandas.read_csv(..., "
            "decimal=',') or thousands=',', whichever the comma is."
        )
    if _DATE.fullmatch(text.strip()):
        return f"It looks like a date, which pandas.to_datetime reads. {_NO_DATES}"
    return _NO_TEXT


def check_kinds(X: object, name: str) -> None:
    """See that X holds no dates, which numpy reads as integers, and is no structured array."""
    seen = np.asarray(X) if isinstance(X, (list, tuple)) else X
    of_arrow = getattr(getattr(seen, "schema", None), "types", None)
    kinds = getattr(seen, "dtypes", of_arrow)  # of pandas and polars the first
    kinds = list(kinds) if isinstance(kinds, Iterable) else [getattr(seen, "dtype", kinds)]
    fields = getattr(kinds[0], "names", None) if isinstance(seen, np.ndarray) else None
    if fields is not None:
        raise TypeError(
            f"{name} is a structured array with the fields {list(fields)}: pass pandas.DataFrame("
            f"{name}), or numpy.lib.recfunctions.structured_to_unstructured({name})."
        )
    objects: Any = [seen] if isinstance(seen, np.ndarray) else _object_columns(seen).values()
    if any(map(_is_of_time, kinds)) or any(map(_holds_times, objects)):
        where = _in_columns(X, _holds_times)
        raise TypeError(f"{name} holds dates or durations{where}. {_NO_DATES}")


def _holds_times(column: np.ndarray) -> bool:
    cells = column.flat if column.dtype == object else ()
    return column.dtype.kind in "mM" or any(
        isinstance(cell, _TIMES) or type(cell).__name__ == "Period" for cell in cells
    )


def _is_of_time(kind: object) -> bool:
    # Categories have a type of their own.
    kind = getattr(getattr(kind, "categories", kind), "dtype", kind)
    return _OF_TIME.search(str(kind)) is not None


def _object_columns(X: Any) -> dict[int, np.ndarray]:
    """Return the columns of objects of a pandas frame by number; of anything else, none."""
    kinds = X.dtypes if hasattr(X, "iloc") and getattr(X, "ndim", 0) == 2 else ()
    objects = [j for j, kind in enumerate(kinds) if getattr(kind, "kind", "") == "O"]
    return {j: X.iloc[:, j].to_numpy() for j in objects}


def _unmasked(X: object) -> Any:
    """Return a masked array, or a list of such, as an array with NaN where cells are masked."""
    if isinstance(X, (list, tuple)) and any(isinstance(row, np.ma.MaskedArray) for row in X):
        X = np.ma.stack(X)
    if not np.ma.is_masked(X):
        return X.data if isinstance(X, np.ma.MaskedArray) else X
    # Numbers that have no NaN, and text that may be numbers.
    whole = {"b": np.float64, "i": np.float64, "u": np.float64, "S": object, "U": object}
    cells: Any = X
    return cells.astype(whole.get(cells.dtype.kind, cells.dtype)).filled(np.nan)


def _with_nan(X: Any) -> Any:
    """Return objects with NaN for pandas' missing value, which is no number to numpy."""
    if isinstance(X, np.ndarray) and X.dtype == object:
        gone = np.frompyfunc(lambda value: type(value).__name__ == "NAType", 1, 1)
        return np.where(gone(X).astype(bool), np.nan, X)
    objects = _object_columns(X)
    if objects:
        X = X.copy(deep=False)
    for j, cells in objects.items():
        X.isetitem(j, _with_nan(cells))
    return X


def _names(X: Any) -> Any:
    """Return the names of the columns of a frame: of pyarrow's, `columns` are themselves."""
    return getattr(X, "column_names", getattr(X, "columns", ()))


def _check_names(X: Any) -> None:
    """See that the columns of a frame have names of their own."""
    said = ", ".join(f"{name!r} {n} times" for name, n in Counter(_names(X)).items() if n > 1)
    if said:
        raise ValueError(f"Expected unique column names, got {said}. Give each column its own.")


def check_same_columns(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """See that a table has the columns of the last fit, which a warm start goes on from."""
    for name, what in (("n_features_in_", "{} columns"), ("feature_names_in_", "columns {}")):
        old, new = before.get(name), now.get(name)
        if old is not None and new is not None and not np.array_equal(old, new):
            raise ValueError(
                f"X has {what.format(new)}, and warm_start=True goes on from a fit on "
                f"{what.format(old)}. Use the same columns in the same order, or warm_start=False."
            )


def check_weights(weights: Any, n_rows: int) -> np.ndarray | None:
    """Return the weights of rows with mean 1, or None where all rows count alike."""
    if weights is None:
        return None
    if isinstance(weights, numbers.Real):
        weights = np.full(n_rows, weights)
    name = "sample_weight"
    check_kinds(weights, name)
    with naming(name, weights):
        weights = _unmasked(weights)
        weights = check_array(weights, ensure_2d=False, dtype=np.float64, input_name=name)
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}.")
    if (weights < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`: weights are >= 0.")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if (weights == weights.max()).all():
        return None
    scaled: np.ndarray = weights / weights.max()  # their sum may be too large for float64
    return scaled / scaled.mean()
