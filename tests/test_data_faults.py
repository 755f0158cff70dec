"""Tables and labels that look as if they could be read: what is wrong with them is said."""

import datetime
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from over import over
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.preprocessing import StandardScaler
from small import Perceptron, fails, generator, small
from torch import nn

from sknoisydim import NoisyDIMOutlierDetector
from sknoisydim._data import Rows
from sknoisydim._labels import encode_target
from sknoisydim._objective import Objective
from sknoisydim._settings import auto_epochs, auto_steps

X = np.random.default_rng(0).normal(size=(40, 2))
dim = small(2, batch_size=16)
Y = np.where(np.arange(40) % 2, 1, -1)


class TestClassesNamedMinusOne:
    def test_are_refused_or_warned_of_where_one_class_may_be_there_by_chance(self):
        for y in (Y, Y.astype(float), pd.Series(Y), Y.tolist(), 3 * (Y > 0) - 1, [None, *Y[1:]]):
            fails(r"y holds -1 and one class.*names.*None or NaN", dim(supervision=0.5).fit, X, y)
        model, classes = dim(supervision=0.5), np.arange(40) % 2
        with pytest.warns(UserWarning, match="y holds -1 and one class"):
            model.partial_fit(X, Y)
        with pytest.warns(UserWarning, match="y holds -1 and one class"):
            model.fit(X, classes, X_val=X, y_val=Y)

    def test_what_is_unlabelled_may_stand_beside_one_class(self):
        masked = np.ma.array(np.where(Y > 0, 7, -1), mask=Y < 0)
        for y in (np.where(Y > 0, 1.0, np.nan), np.where(Y > 0, "a", None), masked):
            assert encode_target(X, y).tolist() == np.where(Y > 0, 0, -1).tolist()
        assert encode_target(X, [-1, *np.arange(39) % 2]).tolist() == [-1, *np.arange(39) % 2]


DAYS = pd.DataFrame({"in": pd.date_range("2020", periods=40, freq="7h")})
DAYS["out"] = DAYS["in"] + pd.Timedelta("1D")
SPANS = DAYS - pd.Timestamp("2020")
OF_TIME = {
    "array of dates": DAYS.to_numpy(),
    "array of durations": SPANS.to_numpy(),
    "objects": np.array([[np.timedelta64(1, "s"), 1.0]] * 40, dtype=object),
    "NaT among objects": np.array([[1.0, np.datetime64("NaT")]] * 40, dtype=object),
    "list": [[day.to_pydatetime(), day.date()] for day in DAYS["in"]],
    "frame of dates": DAYS,
    "frame of durations": SPANS,
    "frame with a zone": DAYS.apply(lambda column: column.dt.tz_localize("UTC")),
    "frame of periods": DAYS.apply(lambda column: column.dt.to_period("D")),
    "frame of objects": DAYS.apply(lambda column: column.dt.date),
    "frame of categories": DAYS.astype("category"),
    "beside numbers": DAYS[["in"]].assign(x=1.0),
    "polars": pl.DataFrame({name: list(DAYS[name]) for name in DAYS}),
    "polars beside numbers": pl.DataFrame({"x": X[:, 0], "day": [datetime.date(2020, 1, 1)] * 40}),
}
DATES = "holds dates or durations"


@over(table=OF_TIME)
def test_dates_and_durations_are_no_numbers(table, fitted):
    for call in (dim(missing="indicator").fit, dim().fit, fitted.transform):
        fails(f"X {DATES}.*such as days since the first", call, table, error=TypeError)


def test_dates_are_no_numbers_in_any_method(fitted):
    calls = [getattr(fitted, name) for name in ("score", "score_samples", "diagnose")]
    for call in (*calls, dim().partial_fit, lambda table: dim().fit(X, X_val=table)):
        fails(f"X {DATES}", call, DAYS, error=TypeError)
    fails(f"sample_weight {DATES}", dim().fit, X, sample_weight=SPANS["out"], error=TypeError)
    pyarrow = pytest.importorskip("pyarrow", reason="it comes with no extra of ours")
    for table in (DAYS, SPANS, DAYS[["in"]].assign(x=1.0)):
        fails(f"X {DATES}", dim().fit, pyarrow.Table.from_pandas(table), error=TypeError)


@over(dtype=[float, np.float32, int, object, str])
def test_masked_cells_are_missing_cells(dtype, fitted):
    table = (9 * X).astype(dtype)
    masked = np.ma.array(table, mask=X > 1)
    gone = np.where(X > 1, np.nan, table.astype(float))
    gone = gone.astype(np.float32 if dtype == np.float32 else float)
    model = dim(missing="indicator").fit(masked)
    expected = dim(missing="indicator").fit(gone).transform(gone)
    for same in (masked, list(masked)):
        np.testing.assert_array_equal(model.transform(same), expected)
    for call in (dim().fit, dim().partial_fit):
        fails("Input X contains NaN: cells are missing", call, masked)
    plain = np.ma.array(table)  # without a mask
    np.testing.assert_array_equal(fitted.transform(plain), fitted.transform(table))
    weights = np.ma.array(np.ones(40), mask=X[:, 0] > 1)
    fails("sample_weight contains NaN", dim().fit, X, sample_weight=weights)


TWICE = pd.DataFrame(np.hstack([X, X, X]), columns=list("abcabd"))
FIELDS = np.array([(1.0, 2.0)] * 40, dtype=[("a", float), ("b", float)])
SAYS = [
    (FIELDS, TypeError, r"structured array with the fields \['a', 'b'\].*to_unstructured\(X\)"),
    (list(FIELDS), TypeError, r"structured array with the fields"),
    (torch.from_numpy(X).bfloat16(), TypeError, r"BFloat16.*pass X\.float\(\)"),
    (np.where(X > 1, "?", X.astype(str)), ValueError, r"'\?'.*missing cell.*na_values='\?'"),
    (pd.DataFrame(np.where(X > 1, "", X.astype(str))), ValueError, r"''.*missing cell"),
    (pl.DataFrame({"a": ["1", "n/a"] * 20}), ValueError, r"'n/a'.*missing cell.*na_values='n/a'"),
    (np.array([["1,5", "2,5"]] * 40), ValueError, r"'1,5'.*decimal=','"),
    (pd.DataFrame({"a": ["-1,234.5"] * 40}), ValueError, r"'-1,234\.5'.*thousands=','"),
    (pd.DataFrame({"a": ["2026-01-31 10:00"] * 40}), ValueError, "looks like a date.*to_datetime"),
    (pd.DataFrame({"a": ["31/1/26"] * 40}), ValueError, "looks like a date.*days since the first"),
    (pd.DataFrame({"a": ["red, or so"] * 40}), ValueError, r"'red, or so'.*encode categories"),
    (TWICE, ValueError, r"unique column names, got 'a' 2 times, 'b' 2 times\. Give each column"),
]


@over("table, error, message", SAYS)
def test_a_table_that_cannot_be_read_is_told_what_to_do(table, error, message):
    for call in (dim().fit, dim().partial_fit):
        assert "\n" not in str(fails(message, call, table, error=error))


FRAME = pd.DataFrame(X, columns=["a", "b"])
BLAMED = [
    (FRAME.assign(city="Oslo", x="3"), r"'Oslo', in the column 'city'\. Columns have to be num"),
    (FRAME.assign(**dict.fromkeys("stuvwxyz", "red")), "in the columns 's', 't', .* and 3 more"),
    (FRAME.assign(c=pd.Categorical(["u"] * 40)), "in the column 'c'"),
    (FRAME.assign(day="2026-01-31"), "in the column 'day'.*looks like a date"),
    (FRAME.assign(day=pd.Timestamp("2026-01-31")), "dates or durations, in the column 'day'"),
    (FRAME.assign(days=DAYS["in"].dt.to_period("D").to_numpy()), "in the column 'days'"),
    (FRAME.assign(c=[1.0, np.nan] * 20, d=[1, None] * 20), "missing, in the columns 'c', 'd'"),
    (FRAME.assign(c=pd.array([1, None] * 20, dtype="Int64")), "missing, in the column 'c'"),
    (pl.DataFrame({"a": X[:, 0], "t": ["u"] * 40}), "in the column 't'"),
]


@over("table, message", BLAMED)
def test_the_columns_of_a_frame_are_named(table, message):
    for call in (dim().fit, NoisyDIMOutlierDetector(dim()).fit):
        fails(message, call, table, error=(TypeError, ValueError))


@over(columns={"names": ["a", "b"], "rule": make_column_selector("a")})
def test_a_scaling_that_chooses_columns_by_name(columns):
    scaling = ColumnTransformer([("scale", StandardScaler(), columns)])
    fails(r"(?s)scaling=ColumnTransformer.*by number.*in front", dim(scaling=scaling).fit, FRAME)


def test_a_folder_that_is_not_there_is_named(fitted, tmp_path):
    place = tmp_path / "no such" / "model.safetensors"
    for write in (fitted.save, lambda path: fitted.transform_to(X, path), fitted.to_onnx):
        said = fails("make it first", write, place, error=FileNotFoundError)
        assert said.filename == str(place.parent)


def test_draws_reach_every_row_of_a_large_table():
    """Uniform numbers of float32 are multiples of 2**-24: they reach every other of 2**25."""
    n, rows = 2**25, Rows.__new__(Rows)
    rows.X, rows._shares = range(n), torch.arange(1, n + 1, dtype=torch.float64)
    assert 0.4 < (rows.draw(1000, generator()) % 2).double().mean() < 0.6


def test_files_hold_rows_of_a_stream_until_it_forgets_them(tmp_path):
    def held(model):
        model.save(tmp_path / "model")
        found = (tmp_path / "model").read_bytes(), pickle.dumps(model)
        return [any(row.tobytes() in data for row in X) for data in found]

    assert held(dim().fit(X)) == [False, False]
    model = dim().partial_fit(X).partial_fit(X[::-1])
    expected, copy = model.transform(X), model.retarget("normal")
    assert held(model) == [True, True]
    assert held(model.forget_rows()) == [False, False]
    assert held(copy) == [True, True]
    np.testing.assert_array_equal(model.transform(X), expected)
    model.partial_fit(X)
    assert (model.n_samples_seen_, len(model.training_state_["kept"])) == (120, 40)


class Functional(nn.Linear):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, self.training))


class Attention(nn.MultiheadAttention):
    def __init__(self, n_features, n_components):
        super().__init__(n_features, 1, dropout=0.5, batch_first=True)

    def forward(self, x):
        tokens = x[:, None].repeat(1, 3, 1)
        return super().forward(tokens, tokens, tokens)[0].mean(1)


class Recurrent(nn.LSTM):
    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components, num_layers=2, dropout=0.5)

    def forward(self, x):
        return super().forward(x[None])[0][0]


@over(encoder=[Functional, Attention, Recurrent, Perceptron])
def test_whatever_drops_leaves_clean_rows_alone(encoder, monkeypatch):
    monkeypatch.undo()

    def embed(self, x, *rows):
        if self.training:
            torch.manual_seed(0)
            first = self.encoder(x)
            torch.manual_seed(1)
            drops.append(not torch.equal(first, self.encoder(x)))
        return embedded(self, x)

    embedded, drops = Objective.embed, []
    monkeypatch.setattr(Objective, "embed", embed)
    model = dim(encoder=encoder, clean_weight=0.5).fit(X)
    assert drops == [False, True] * (len(drops) // 2)
    drops.clear()
    dim(encoder=encoder, supervision=0.5).fit(X, np.arange(40) % 2)  # no view
    assert not any(drops)
    assert all(getattr(module, "dropout", 0.5) == 0.5 for module in model.encoder_.modules())


def test_batch_normalisation_goes_by_the_batch_in_clean_rows():
    class Frozen(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    class Two(nn.Linear):
        def __init__(self, n_features, n_components):
            super().__init__(n_features, n_components)
            self.norm, self.frozen = nn.BatchNorm1d(n_features), Frozen(n_features)

        def forward(self, x):
            seen.add((self.training, self.norm.training, self.frozen.training))
            return super().forward(self.frozen(self.norm(x)))

    seen = set()
    objective = dim(encoder=Two, clean_weight=0.5).fit(X).net_.module_.train()
    seen.clear()
    x = torch.from_numpy(X).float()
    objective(x, [x], torch.Generator().manual_seed(0))
    assert seen == {(False, True, False), (True, True, False)}


FEWER = np.random.default_rng(2).normal(size=(400, 3))
DEFICIENT = {
    "three columns": FEWER,
    "duplicates": np.hstack([FEWER] * 3),
    "one column nine times": np.repeat(FEWER[:, :1], 9, axis=1),
    "constant columns": np.hstack([FEWER, np.ones((400, 6))]),
}


# What has no variance is told of, as an encoder without hidden layers has it.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@over(encoder=["mlp", nn.Linear], table=DEFICIENT)
def test_components_beyond_the_rank_blow_nothing_up(table, encoder):
    """What the encoder's rounding leaves of a component is not whitened to variance 1."""
    model = dim(n_components=8, encoder=encoder, max_epochs=5, refine=None).fit(table[:200])
    for rows, most in ((table[:200], 1.01), (table[200:], 3)):
        z = model.transform(rows)
        assert np.isfinite(z).all()
        assert z.var(0).max() < most
        # One part in a million, less than any two rows differ by, stays one of few thousand.
        near = model.transform(rows + 1e-6 * np.random.default_rng(0).normal(size=rows.shape))
        assert np.abs(near - z).max() < 0.01


@over(n_rows=[600, 10**5, 1_228_800, 1_300_000, 10**8])
def test_auto_epochs_are_the_fewest_whole_passes_that_spend_the_steps(n_rows):
    epochs, a_pass = auto_epochs(n_rows, 512), n_rows // 512
    assert (epochs - 1) * a_pass < auto_steps(n_rows) <= epochs * a_pass
