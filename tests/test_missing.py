"""Missing cells: refused in words, or filled and shown to the encoder, by every route there is."""

import functools
import pickle
import warnings

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pytest
import skops.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import RobustScaler
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._persistence import _file
from sknoisydim._persistence._state import pack
from sknoisydim._sources import column_means, missing_columns
from sknoisydim.augmentations import (
    AUGMENTATIONS,
    Compose,
    FeatureCorruption,
    prepare_view,
)
from sknoisydim.encoders import IndicateMissing, MLPEncoder
from sknoisydim.scaling import SCALINGS, column_moments, from_moments

RNG = np.random.default_rng(0)
FULL = RNG.normal(size=(120, 5)) * [1.0, 10.0, 0.1, 1.0, 1.0] + [0.0, 50.0, 0.0, 3.0, -2.0]
# The last column is whole.
GONE = (RNG.random(FULL.shape) < 0.3) & (np.arange(5) < 4)
X = np.where(GONE, np.nan, FULL)
SHOWN = [0, 1, 2, 3]
SMALL = {"encoder": MLPEncoder((8,)), "max_epochs": 2, "batch_size": 40, "random_state": 0}
SMALL["refine"] = None

SCALED = {**{name: name for name in SCALINGS}, "none": None, "robust": RobustScaler()}
each_scaling = over(scaling=SCALED)
VIEWS = {
    **{name: view() for name, view in AUGMENTATIONS.items()},
    "grouped": FeatureCorruption(0.5, groups=[[0, 2], [3]]),
    "auto": FeatureCorruption(0.5, groups="auto"),
    "composed": Compose(["mixup", "masking", "corruption", "jitter"]),
}
each_view = over(name=sorted(VIEWS))


class Perceptron(nn.Module):
    """A user's encoder, which knows nothing of missing cells."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.layers = nn.Linear(n_features, n_components)
        self.n_features = n_features

    def forward(self, x):
        assert x.isfinite().all()
        return self.layers(x).sin()


def dim(n_components=2, **parameters):
    return NoisyDIMTransformer(n_components, missing="indicator", **SMALL | parameters)


@functools.cache
def indicator():
    """One fit for tests that only look at it."""
    return dim().fit(X)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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
        model = NoisyDIMTransformer(2, **SMALL)
        with pytest.raises(ValueError, match=r"NaN.*SimpleImputer.*missing='indicator'"):
            model.fit(kind(self.table))

    @over(method=["transform", "score", "score_samples", "partial_fit", "diagnose"])
    def test_after_a_fit_too(self, method):
        model = NoisyDIMTransformer(2, **SMALL).fit(FULL)
        # What a net takes is settled when it is made.
        model.set_params(missing="indicator")
        with pytest.raises(ValueError, match=r"NaN.*SimpleImputer"):
            getattr(model, method)(self.table)


class TestInfinity:
    @over(
        value=[np.inf, -np.inf],
        kind=[np.asarray, pd.DataFrame, sparse.csr_array, np.float32],
    )
    def test_is_refused(self, value, kind):
        table = X.copy()
        table[5, 4] = value
        with pytest.raises(ValueError, match="contains infinity"):
            dim().fit(kind(table))
        with pytest.raises(ValueError, match="contains infinity"):
            indicator().transform(kind(table))


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
        model = dim().fit(X)
        row = FULL[:1].copy()
        row[0, 4] = np.nan
        filled = row.copy()
        filled[0, 4] = X[:, 4].mean()
        assert_allclose(model.transform(row), model.transform(filled), atol=1e-6)

    def test_without_a_missing_cell_it_is_the_fit_of_error(self):
        plain = NoisyDIMTransformer(2, **SMALL).fit(FULL)
        model = dim().fit(FULL)
        assert front(model).columns.tolist() == []
        assert_array_equal(model.transform(FULL), plain.transform(FULL))

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

    @given(
        scaling=st.sampled_from(["squash", "quantile"]),
        gone=arrays(bool, (30, 3)),
        seed=st.integers(0, 100),
    )
    @settings(max_examples=10, deadline=None, derandomize=True, database=None)
    def test_any_pattern_is_embedded(self, scaling, gone, seed):
        table = np.random.default_rng(seed).normal(size=(30, 3))
        model = dim(scaling=scaling, max_epochs=1, refine=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(np.where(gone, np.nan, table))
        other = np.where(gone[::-1], np.nan, table)
        for rows in (table, other, np.full((4, 3), np.nan)):
            z = model.transform(rows)
            assert z.shape == (len(rows), 2)
            assert np.isfinite(z).all()

    @each_scaling
    def test_whole_rows_and_columns(self, scaling):
        table = X.copy()
        table[:, 2] = np.nan
        table[::7] = np.nan
        weights = RNG.random(len(X)) if scaling == "squash" else None
        model = dim(scaling=scaling).fit(table, sample_weight=weights)
        assert front(model).columns.tolist() == [0, 1, 2, 3, 4]
        for rows in (table, FULL, X, X.astype(np.float32)):
            z = model.transform(rows)
            assert z.dtype == rows.dtype
            assert np.isfinite(z).all()
        assert np.isfinite(model.score_samples(table)).all()

    def test_rows_of_weight_zero_show_no_column(self):
        table = FULL.copy()
        table[0, 3] = np.nan
        model = dim().fit(table, sample_weight=np.arange(120.0))
        assert front(model).columns.tolist() == []

    @pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
    def test_any_container(self, kind):
        table = kind(X)
        before = table.copy() if isinstance(table, pd.DataFrame) else str(table)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            warnings.filterwarnings("ignore", "X has feature names")
            model = dim().fit(table)
            assert_array_equal(np.asarray(model.transform(table)), indicator().transform(X))
        if isinstance(table, pd.DataFrame):
            pd.testing.assert_frame_equal(table, before)
        else:
            assert str(table) == before

    def test_held_out_rows(self):
        model = dim(early_stopping=True).fit(np.vstack([X, X]))
        assert np.isfinite(model.history_["valid_information"]).all()
        model = dim().fit(X[:80], X_val=X[80:])
        assert np.isfinite(model.history_["valid_information"]).all()
        with pytest.raises(ValueError, match="SimpleImputer"):
            NoisyDIMTransformer(2, **SMALL).fit(FULL, X_val=X)

    def test_every_method(self, tmp_path):
        model = dim(refine="rotation").fit(X)
        z = model.transform(X)
        assert_array_equal(model.transform_to(X, np.empty_like(z)), z)
        assert_array_equal(model.transform_to(X, tmp_path / "Z.npy"), z)
        assert 0 <= model.score(X) <= 1
        assert np.isfinite(model.score_samples(X)).all()
        assert np.isfinite(model.diagnose(X, classifier=False).intrinsic_dimension)
        assert_allclose(model.retarget("normal").transform(X), z)

    def test_an_encoder_of_ones_own_sees_no_missing_cell(self):
        model = dim(encoder=Perceptron).fit(X)
        assert front(model).encoder.n_features == 9
        assert np.isfinite(model.transform(X)).all()

    def test_a_scaling_that_makes_other_columns(self):
        with pytest.raises(ValueError, match=r"3 columns of 5.*SimpleImputer"):
            dim(scaling=PCA(3)).fit(X)


class TestStatistics:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_moments_are_those_of_observed_cells(self, weighted, monkeypatch):
        monkeypatch.setattr("sknoisydim._sources._SLICE_CELLS", 50)  # ten rows at a time
        table = X.copy()
        table[:25, 1] = np.nan  # not seen before the third slice
        table[:, 3] = np.nan
        weights = RNG.random(120) if weighted else None
        moments = column_moments(table, weights)
        for column in range(5):
            seen = ~np.isnan(table[:, column])
            w = (np.ones(120) if weights is None else weights)[seen]
            mean = variance = 0.0
            if seen.any():
                mean = np.average(table[seen, column], weights=w)
                variance = np.average((table[seen, column] - mean) ** 2, weights=w)
            assert_allclose(moments.n_rows[column], w.sum())
            assert_allclose(moments.mean[column], mean, atol=1e-12)
            assert_allclose(moments.variance[column], variance, atol=1e-12)
        assert_allclose(column_means(table, weights), moments.mean, atol=1e-12)
        assert missing_columns(table).tolist() == SHOWN
        assert from_moments("standard", moments).scale[3] == 1

    def test_moments_merge(self):
        table = X.copy()
        table[:60, 1] = table[60:, 2] = table[:, 3] = np.nan
        merged = column_moments(table[:60]).merge(column_moments(table[60:]))
        whole = column_moments(table)
        for found, wanted in zip(merged[:3], whole[:3], strict=True):
            assert_allclose(found, wanted, atol=1e-12)

    def test_mean_of_values_whose_sum_overflows(self):
        assert_allclose(column_means(np.full((4, 1), 1.7e308)), 1.7e308)


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

    @pytest.mark.parametrize("groups", [None, [[0, 2], [3]]])
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

    def test_masking_takes_missing_cells_like_others(self, rows):
        view = VIEWS["masking"](rows, generator())
        assert 0 < (view == 0)[rows.isnan()].float().mean() < 1


MODELS = {
    "squash": {},
    "quantile": {"scaling": "quantile", "target": "uniform"},
    "whole": {"scaling": None, "encoder": MLPEncoder((8, 8), batch_norm=False, residual=True)},
    "refined": {"refine": "rotation", "scaling": "standard"},
}
each_model = pytest.mark.parametrize("name", MODELS)


class TestRoutes:
    """Whatever carries a fit away gives the same rows."""

    @pytest.fixture
    def rows(self):
        return np.concatenate([X, FULL[:20], np.full((1, 5), np.nan)])

    def fit(self, name):
        return dim(**MODELS[name]).fit(X)

    @each_model
    def test_pickle_skops_and_file(self, name, rows, tmp_path):
        model = self.fit(name)
        model.save(tmp_path / "model.safetensors")
        data = skops.io.dumps(model)
        trusted = skops.io.get_untrusted_types(data=data)
        for again in (
            pickle.loads(pickle.dumps(model)),
            NoisyDIMTransformer.load(tmp_path / "model.safetensors"),
            skops.io.loads(data, trusted=trusted),
        ):
            assert again.missing == "indicator"
            assert front(again).columns.tolist() == SHOWN
            assert_array_equal(again.transform(rows), model.transform(rows))
            again.partial_fit(X)
            assert np.isfinite(again.transform(rows)).all()

    def test_onnx(self, rows, tmp_path):
        model = self.fit("quantile")
        model.to_onnx(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        single = rows.astype(np.float32)
        (z,) = session.run(["Z"], {"X": single})
        assert_allclose(z, model.transform(single), rtol=1e-4, atol=1e-5)

    def test_a_crafted_file_is_refused(self, tmp_path):
        header, tensors = pack(dim(scaling="quantile").fit(X))
        for part, value in [
            (0, np.array([-7, 1, 2, 3])),
            (0, np.array([[0, 1, 2, 3]])),
            (0, np.array([0.0, 1.0, 2.0, 3.0])),
            (0, np.array([0, 1, 2])),
            (1, np.zeros(4, np.float32)),
            (1, np.full(5, np.nan, np.float32)),
        ]:
            crafted = {**tensors, f"parts.missing.{part}": value}
            _file.write(tmp_path / "model.safetensors", header, crafted)
            with pytest.raises(ValueError, match="cannot be loaded"):
                NoisyDIMTransformer.load(tmp_path / "model.safetensors")
        for cells in ([], 3, "missing", [1, 2, 3], None):
            header["parts"]["missing"] = cells
            _file.write(tmp_path / "model.safetensors", header, tensors)
            with pytest.raises(ValueError, match="cannot be loaded"):
                NoisyDIMTransformer.load(tmp_path / "model.safetensors")


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

    def test_moments_of_a_stream_are_those_of_all_observed_cells(self):
        model = dim()
        for start in range(0, 120, 30):
            model.partial_fit(X[start : start + 30])
        whole = from_moments("squash", column_moments(X))
        assert_allclose(model.encoder_.scaling.mean, whole.mean)
        assert_allclose(model.encoder_.scaling.scale, whole.scale)

    @over(scaling=["squash", "standard"])
    def test_a_warm_start_with_the_other_setting(self, scaling):
        before, after = ("error", "indicator") if scaling == "squash" else ("indicator", "error")
        model = NoisyDIMTransformer(
            2, missing=before, warm_start=True, scaling=scaling, **SMALL
        ).fit(FULL)
        with pytest.raises(ValueError, match=rf"missing='{after}'.*warm_start=False"):
            model.set_params(missing=after).fit(FULL)
