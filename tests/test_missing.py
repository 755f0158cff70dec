"""Missing cells: refused in words, or filled and shown to the encoder, by every route there is."""

import functools
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import RobustScaler
from small import fails, generator, small
from test_augmentations import VIEWS, each_view
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._persistence import _file
from sknoisydim._persistence._state import pack
from sknoisydim.augmentations import FeatureCorruption, prepare_view
from sknoisydim.encoders import IndicateMissing, MLPEncoder
from sknoisydim.scaling import SCALINGS, fit_scaling

RNG = np.random.default_rng(0)
FULL = RNG.normal(size=(120, 5)) * [1.0, 10.0, 0.1, 1.0, 1.0] + [0.0, 50.0, 0.0, 3.0, -2.0]
# The last column is whole.
GONE = (RNG.random(FULL.shape) < 0.3) & (np.arange(5) < 4)
X = np.where(GONE, np.nan, FULL)
SHOWN = [0, 1, 2, 3]
plain = small(2, encoder=MLPEncoder((8,)), batch_size=40)
dim = functools.partial(plain, missing="indicator")
SCALED = {**{name: name for name in SCALINGS}, "none": None, "robust": RobustScaler()}
each_scaling = over(scaling=SCALED)


@functools.cache
def indicator():
    return dim().fit(X)


def front(model):
    return model.encoder_.encoder


# What may hold a table with missing cells.
KINDS = {
    "list": np.ndarray.tolist,
    "NA": lambda a: np.where(np.isnan(a), pd.NA, a.astype(object)),
    "frame": pd.DataFrame,
    "arrow": lambda a: pd.DataFrame(a).astype("double[pyarrow]"),
    "polars": lambda a: pl.DataFrame(a, schema=list("abcde")).fill_nan(None),
    "csr": sparse.csr_array,
}


class TestError:
    table = np.where(np.arange(600).reshape(120, 5) == 37, np.nan, FULL)

    @over(kind=KINDS | {"float32": np.float32})
    def test_names_both_ways_out(self, kind):
        fails(r"NaN.*SimpleImputer.*missing='indicator'", plain().fit, kind(self.table))

    def test_after_a_fit_too(self):
        # What a net takes is settled when it is made.
        model = plain().fit(FULL).set_params(missing="indicator")
        for method in ("transform", "score", "score_samples", "partial_fit", "diagnose"):
            fails(r"NaN.*SimpleImputer", getattr(model, method), self.table)


@over(kind=[np.asarray, pd.DataFrame, sparse.csr_array, np.float32])
def test_infinity_is_refused(kind):
    table = X.copy()
    for table[5, 4] in (np.inf, -np.inf):
        for call in (dim().fit, indicator().transform):
            fails("contains infinity", call, kind(table))


class TestIndicator:
    @each_scaling
    def test_a_missing_cell_is_shown_and_filled_with_the_mean(self, scaling):
        model = dim(scaling=scaling).fit(X)
        assert type(front(model)) is IndicateMissing
        assert front(model).columns.tolist() == SHOWN
        assert front(model).encoder[0].in_features == 5 + len(SHOWN)
        assert model.n_features_in_ == 5
        mean = np.nanmean(X, axis=0)
        scaled = model.encoder_.scaling(torch.from_numpy(mean)[None])
        assert_allclose(front(model).fill, scaled[0], atol=1e-6)
        empty = torch.full((1, 5), torch.nan)
        widened = front(model).widen(model.encoder_.scaling(empty))[0]
        assert_allclose(widened[:5], scaled[0], atol=1e-6)
        assert widened[5:].tolist() == [1.0] * 4

    def test_a_column_without_a_mask_is_filled_without_a_trace(self):
        row, filled = FULL[:1].copy(), FULL[:1].copy()
        row[0, 4], filled[0, 4] = np.nan, X[:, 4].mean()
        assert_allclose(indicator().transform(row), indicator().transform(filled), atol=1e-6)

    def test_without_a_missing_cell_it_is_the_fit_of_error(self):
        gap, weights = FULL.copy(), np.arange(120.0)
        gap[0, 3] = np.nan  # in a row of weight 0
        for table, given in ((FULL, {}), (gap, {"sample_weight": weights})):
            model = dim().fit(table, **given)
            assert front(model).columns.tolist() == []
            assert_array_equal(model.transform(FULL), plain().fit(FULL, **given).transform(FULL))

    def test_embedding_tells_that_a_cell_is_missing(self):
        # The filled value is the only one there is: the mask alone can tell.
        rng = np.random.default_rng(1)
        table = np.column_stack([rng.normal(size=600), np.full(600, 7.0)])
        gone = rng.random(600) < 0.5
        table[gone, 1] = np.nan
        model = dim(noise=0.3, keep_weight=1, max_epochs=40, refine=None).fit(table[:400])
        z = model.transform(table)
        # Around the centre it is one side or the other, of a direction that training chose.
        features = np.column_stack([z, z**2, z[:, :1] * z[:, 1:]])
        judge = LogisticRegression(C=100, max_iter=1000).fit(features[:400], gone[:400])
        assert judge.score(features[400:], gone[400:]) > 0.95

    @each_scaling
    def test_whole_rows_and_columns(self, scaling):
        table = X.copy()
        table[:, 2] = table[::7] = np.nan
        weights = RNG.random(len(X)) if scaling == "squash" else None
        model = dim(scaling=scaling, encoder=nn.Linear).fit(table, sample_weight=weights)
        assert front(model).columns.tolist() == [0, 1, 2, 3, 4]
        assert front(model).encoder.in_features == 10
        for rows in (table, FULL, X, X.astype(np.float32)):
            z = model.transform(rows)
            assert z.dtype == rows.dtype
            assert np.isfinite(z).all()
        assert np.isfinite(model.score_samples(table)).all()

    @over(kind=KINDS)
    def test_any_container(self, kind):
        table = kind(X)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X (does not have valid|has) feature names")
            model = dim().fit(table)
            assert_array_equal(np.asarray(model.transform(table)), indicator().transform(X))

    def test_held_out_rows(self):
        stopped = dim(early_stopping=True).fit(np.vstack([X, X]))
        for model in (stopped, dim().fit(X[:80], X_val=X[80:])):
            assert np.isfinite(model.history_["valid_information"]).all()
        fails("SimpleImputer", plain().fit, FULL, X_val=X)

    def test_every_method(self, tmp_path):
        model = dim(refine="rotation").fit(X)
        z = model.transform(X)
        assert_array_equal(model.transform_to(X, tmp_path / "Z.npy"), z)
        judged = model.score(X), model.diagnose(X, classifier=False).intrinsic_dimension
        assert np.isfinite([*judged, *model.score_samples(X)]).all()
        assert_allclose(model.retarget("normal").transform(X), z)

    @over(weights={"none": None, "random": RNG.random(120)})
    def test_scaling_is_that_of_observed_cells(self, weights, monkeypatch):
        monkeypatch.setattr("sknoisydim._sources._SLICE_CELLS", 50)  # ten rows at a time
        table = X.copy()
        table[:25, 1] = np.nan  # not seen before the third slice
        table[:, 3] = np.nan
        model = dim(scaling="standard").fit(table, sample_weight=weights)
        assert front(model).columns.tolist() == SHOWN
        found = model.encoder_.scaling
        for column in (0, 1, 2, 4):
            seen = ~np.isnan(table[:, column])
            w = (np.ones(120) if weights is None else weights)[seen]
            mean = np.average(table[seen, column], weights=w)
            variance = np.average((table[seen, column] - mean) ** 2, weights=w)
            assert_allclose([found.mean[column], found.scale[column] ** 2], [mean, variance])
        assert (found.mean[3], found.scale[3]) == (0, 1)

    def test_a_large_value_behind_missing_cells_alone(self, monkeypatch):
        monkeypatch.setattr("sknoisydim._sources._SLICE_CELLS", 10)
        rows = np.full((20, 1), np.nan)
        rows[-1] = 1e39
        fails("too large for float32", fit_scaling, None, rows, 0)

    def test_a_scaling_that_makes_other_columns(self):
        fails(r"3 columns of 5.*SimpleImputer", dim(scaling=PCA(3)).fit, X)


class TestViews:
    @pytest.fixture
    def rows(self):
        x = torch.empty(300, 5).normal_(generator=generator(1))
        x[torch.rand(300, 5, generator=generator(2)) < 0.4] = torch.nan
        x[:, 4] = torch.nan
        return x

    @each_view
    def test_leave_a_finite_value_where_there_was_one(self, name, rows):
        view = prepare_view(VIEWS[name], rows)(rows, generator())
        assert view.shape == rows.shape
        assert not (view.isnan() & ~rows.isnan()).any()

    @over(groups=[None, [[0, 2], [3]]])
    def test_no_source_is_missing(self, groups, rows):
        view = prepare_view(FeatureCorruption(1.0, groups=groups), rows)(rows, generator())
        # Every cell is replaced: none is missing, but in the column that is observed nowhere.
        assert view[:, :4].isfinite().all()
        assert view[:, 4].isnan().all()
        for column in range(4):
            assert torch.isin(view[:, column], rows[:, column]).all()
        if groups is not None:
            pairs = {tuple(pair) for pair in rows[:, [0, 2]].tolist()}
            assert {tuple(pair) for pair in view[:, [0, 2]].tolist()} <= pairs

    def test_sources_are_drawn_evenly_among_observed_cells(self):
        x = torch.arange(10.0)[:, None].repeat(2000, 1)
        x[x % 3 == 0] = torch.nan
        view = FeatureCorruption(1.0)(x, generator())
        values, counts = view.unique(return_counts=True)
        assert values.tolist() == [1, 2, 4, 5, 7, 8]
        # Each is binomial with n = 20000 and p = 1/6: five standard deviations are 264.
        assert (counts - 20000 / 6).abs().max() < 264

    def test_mixup_leaves_a_cell_alone_that_is_missing_in_either_row(self, rows):
        view = VIEWS["mixup"](rows, generator())
        assert_array_equal(view.isnan(), rows.isnan())
        assert (view == rows).any()
        assert (view != rows)[~rows.isnan()].any()


def test_a_crafted_file_is_refused(tmp_path):
    header, tensors = pack(dim(scaling="quantile").fit(X))

    def refused(header, tensors):
        _file.write(tmp_path / "model.safetensors", header, tensors)
        fails("cannot be loaded", NoisyDIMTransformer.load, tmp_path / "model.safetensors")

    for columns in ([-7, 1, 2, 3], [[0, 1, 2, 3]], [0.0, 1.0, 2.0, 3.0], [0, 1, 2]):
        refused(header, tensors | {"parts.missing.0": np.array(columns)})
    for fill in (np.zeros(4, np.float32), np.full(5, np.nan, np.float32)):
        refused(header, tensors | {"parts.missing.1": fill})
    for header["parts"]["missing"] in ([], 3, "missing", [1, 2, 3], None):
        refused(header, tensors)


class TestGoingOn:
    def test_the_first_chunk_settles_the_columns(self):
        first, second = X[:60].copy(), X[60:].copy()
        first[:, 3] = FULL[:60, 3]
        second[:, 4] = np.nan
        model = dim().partial_fit(first)
        for chunk in (second, FULL[:10], np.full((3, 5), np.nan)):
            model.partial_fit(chunk)
            assert front(model).columns.tolist() == [0, 1, 2]
            assert np.isfinite(model.transform(X)).all()
        assert_allclose(front(model).fill, 0)

    def test_a_warm_start_with_the_other_setting(self):
        for before, after in (("error", "indicator"), ("indicator", "error")):
            model = plain(missing=before, warm_start=True).fit(FULL)
            other = model.set_params(missing=after)
            fails(rf"missing='{after}'.*warm_start=False", other.fit, FULL)
