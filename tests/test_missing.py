"""Missing cells: refused in words, or filled and shown to the encoder, by every route there is."""

import functools
import pickle
import warnings
from typing import ClassVar

import dask.array as da
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
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, RobustScaler
from skorch.callbacks import Callback
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._net import _checkpoint
from sknoisydim._persistence import _file
from sknoisydim._persistence._state import pack
from sknoisydim._sources import column_means, missing_columns
from sknoisydim.augmentations import (
    AUGMENTATIONS,
    Compose,
    FeatureCorruption,
    one_hot_blocks,
    prepare_view,
)
from sknoisydim.distributed import DaskTransformer
from sknoisydim.encoders import IndicateMissing, MLPEncoder
from sknoisydim.scaling import SCALINGS, column_moments, fit_scaling, from_moments

RNG = np.random.default_rng(0)
FULL = RNG.normal(size=(120, 5)) * [1.0, 10.0, 0.1, 1.0, 1.0] + [0.0, 50.0, 0.0, 3.0, -2.0]
# The last column is whole.
GONE = (RNG.random(FULL.shape) < 0.3) & (np.arange(5) < 4)
X = np.where(GONE, np.nan, FULL)
SHOWN = [0, 1, 2, 3]
SMALL = {"encoder": MLPEncoder((8,)), "max_epochs": 2, "batch_size": 40, "random_state": 0}

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


def no_cell_is_missing(x):
    assert x.isfinite().all()


def front(model):
    return model.encoder_.encoder


# What may hold a table with missing cells.
KINDS = {
    "fortran": np.asfortranarray,
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "list": np.ndarray.tolist,
    "objects": lambda a: a.astype(object),
    "None": lambda a: np.where(np.isnan(a), None, a),
    "NA": lambda a: np.where(np.isnan(a), pd.NA, a.astype(object)),
    "frame": pd.DataFrame,
    "nullable": lambda a: pd.DataFrame(a).astype("Float64"),
    "arrow": lambda a: pd.DataFrame(a).astype("double[pyarrow]"),
    "objects with NA": lambda a: pd.DataFrame(a).astype(object).where(~np.isnan(a), pd.NA),
    "objects with None": lambda a: pd.DataFrame(a).astype(object).where(~np.isnan(a), None),
    "polars": lambda a: pl.DataFrame(a, schema=list("abcde")).fill_nan(None),
    "csr": sparse.csr_array,
    "coo": sparse.coo_array,
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

    def test_the_imputer_helps(self):
        model = make_pipeline(SimpleImputer(), NoisyDIMTransformer(2, **SMALL))
        assert np.isfinite(model.fit_transform(X)).all()

    @pytest.mark.parametrize(
        ("missing", "error"),
        [("indicate", ValueError), (None, TypeError), (True, TypeError), (["error"], TypeError)],
    )
    def test_another_value(self, missing, error):
        with pytest.raises(error, match=r"missing.*'error', 'indicator'"):
            NoisyDIMTransformer(missing=missing).fit(FULL)

    def test_is_what_the_tag_says(self):
        for missing, allowed in [("error", False), ("indicator", True), (None, False)]:
            tags = NoisyDIMTransformer(missing=missing).__sklearn_tags__()
            assert tags.input_tags.allow_nan is allowed


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

    def test_of_both_signs_in_one_sparse_cell(self):
        values = np.array([np.inf, -np.inf, 1.0])
        cells = sparse.coo_array((values, ([0, 0, 1], [0, 0, 1])), shape=(30, 3))
        with pytest.raises(ValueError, match="contains infinity"):
            dim().fit(cells)

    def test_that_comes_of_a_cast(self):
        wide = np.where(np.isnan(X), np.longdouble("nan"), np.longdouble("1e400"))
        with np.errstate(over="ignore"), pytest.raises(ValueError, match="contains infinity"):
            dim().fit(wide)


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

    def test_integers_of_pandas(self):
        frame = pd.DataFrame(FULL).round().astype("Int64").mask(GONE)
        whole = np.where(GONE, np.nan, FULL.round())
        assert_array_equal(dim().fit_transform(frame), dim().fit_transform(whole))

    def test_labels_and_weights(self):
        y = np.where(np.arange(120) % 5, (FULL[:, 0] > 0).astype(int), -1)
        model = dim(supervision=0.7).fit(X, y, sample_weight=RNG.random(120))
        assert np.isfinite(model.transform(X)).all()

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

    def test_an_encoder_that_is_too_narrow_for_the_masks(self):
        with pytest.raises(ValueError, match=r"does not take a batch of shape \(2, 9\)"):
            dim(encoder=nn.Linear(5, 2)).fit(X)

    def test_rows_of_more_dimensions(self):
        flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        with pytest.raises(ValueError, match=r"shape \(2, 2\).*missing='indicator' is for rows"):
            dim(encoder=flat).fit(RNG.normal(size=(60, 2, 2)))

    def test_a_scaling_that_makes_other_columns(self):
        with pytest.raises(ValueError, match=r"3 columns of 5.*SimpleImputer"):
            dim(scaling=PCA(3)).fit(X)

    def test_a_scaling_of_ones_own_sees_no_missing_cell(self):
        class Strict(MinMaxScaler):
            def fit(self, rows, y=None):
                assert np.isfinite(rows).all()
                return super().fit(rows)

            def transform(self, rows):
                assert np.isfinite(rows).all()
                return super().transform(rows)

        assert np.isfinite(dim(scaling=Strict()).fit_transform(X)).all()

    def test_quantiles_are_those_of_observed_cells(self):
        fitted = fit_scaling("quantile", X, 0, missing=True).quantiles[0]
        alone = QuantileTransformer(n_quantiles=50).fit(X[~GONE[:, 0], :1])
        assert_allclose(fitted[[0, -1]], alone.quantiles_[[0, -1], 0])
        assert len(np.unique(fitted)) > 60  # no heap at the mean

    def test_rows_of_float32_for_a_fit_beyond_it(self):
        large = X * 1e300
        model = dim(scaling="quantile").fit(large)
        assert np.isfinite(model.transform(X.astype(np.float32))).all()


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

    @each_view
    def test_are_fixed_by_the_generator(self, name, rows):
        view = prepare_view(VIEWS[name], rows)
        assert_array_equal(view(rows, generator(5)), view(rows, generator(5)))

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

    def test_jitter_leaves_missing_cells_missing(self, rows):
        view = VIEWS["jitter"](rows, generator())
        assert_array_equal(view.isnan(), rows.isnan())

    def test_mixup_leaves_a_cell_alone_that_is_missing_in_either_row(self, rows):
        view = VIEWS["mixup"](rows, generator())
        assert_array_equal(view.isnan(), rows.isnan())
        assert (view == rows).any()
        assert (view != rows)[~rows.isnan()].any()

    def test_masking_takes_missing_cells_like_others(self, rows):
        view = VIEWS["masking"](rows, generator())
        assert 0 < (view == 0)[rows.isnan()].float().mean() < 1

    def test_a_callable_sees_missing_cells_and_may_make_them(self):
        seen = []

        def forget(batch, generator):
            seen.append(batch.isnan().any().item())
            gone = torch.rand(batch.shape, generator=generator) < 0.2
            return batch.masked_fill(gone, torch.nan)

        assert np.isfinite(dim(augmentation=forget).fit_transform(X)).all()
        assert all(seen)

    @over(share=[0.0, 0.05, 0.3], whole=[True, False])
    def test_one_hot_blocks_are_found(self, share, whole):
        codes = torch.eye(3)[torch.randint(3, (200,), generator=generator())] * 2 - 1
        gone = torch.rand(200, 1 if whole else 3, generator=generator(1)) < share
        x = torch.cat([torch.randn(200, 2, generator=generator(2)), codes], 1)
        x[:, 2:] = x[:, 2:].masked_fill(gone, torch.nan)
        assert one_hot_blocks(x) == [[2, 3, 4]]

    def test_no_blocks_are_found_in_what_is_missing(self):
        assert one_hot_blocks(torch.full((20, 4), torch.nan)) == []
        half = torch.eye(2).repeat(10, 1)
        half[::2, 0] = half[1::2, 1] = torch.nan
        assert one_hot_blocks(half) == []


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

    @each_model
    def test_torch(self, name, rows):
        model = self.fit(name)
        module = model.to_torch()
        # What a runtime's minimum or comparison makes of NaN is its own: it is kept from both.
        module.embedder.scaling.register_forward_pre_hook(lambda _, x: no_cell_is_missing(*x))
        single = rows.astype(np.float32)
        z = module(torch.from_numpy(single)).numpy()
        assert_allclose(z, model.transform(single), rtol=1e-5, atol=1e-5)
        z = module.double()(torch.from_numpy(rows)).numpy()
        assert_allclose(z, model.transform(rows), rtol=1e-8, atol=1e-8)

    def test_onnx(self, rows, tmp_path):
        model = self.fit("quantile")
        model.to_onnx(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        single = rows.astype(np.float32)
        (z,) = session.run(["Z"], {"X": single})
        assert_allclose(z, model.transform(single), rtol=1e-4, atol=1e-5)

    def test_the_embedder_by_itself(self, rows):
        model = self.fit("squash")
        single = torch.from_numpy(rows.astype(np.float32))
        with torch.no_grad():
            assert_allclose(model.encoder_(single), model.transform(single.numpy()), atol=1e-5)

    def test_an_encoder_and_a_scaling_of_ones_own(self, rows, tmp_path):
        model = dim(encoder=Perceptron, scaling=OwnScaler()).fit(X)
        model.save(tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=r"encoder=<.*Perceptron>"):
            NoisyDIMTransformer.load(tmp_path / "model.safetensors")
        again = NoisyDIMTransformer.load(
            tmp_path / "model.safetensors",
            encoder=Perceptron,
            scaling=model.encoder_.scaling.transformer,
        )
        assert_array_equal(again.transform(rows), model.transform(rows))
        again = pickle.loads(pickle.dumps(model))
        assert_array_equal(again.transform(rows), model.transform(rows))

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

    def test_dask(self, rows):
        model = self.fit("squash")
        z = DaskTransformer(model).transform(da.from_array(rows, chunks=(50, 5))).compute()
        assert_allclose(z, model.transform(rows), atol=1e-12)
        fitted = DaskTransformer(dim(), max_epochs=2).fit(da.from_array(X, chunks=(40, 5)))
        assert front(fitted.estimator_).columns.tolist() == SHOWN
        assert np.isfinite(fitted.estimator_.transform(rows)).all()


class OwnScaler(MinMaxScaler):
    """A scaling that no file can hold."""


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

    def test_a_stream_from_a_fit(self):
        model = dim().fit(X[:60]).partial_fit(X[60:])
        assert np.isfinite(model.transform(X)).all()

    def test_a_warm_start_keeps_the_columns(self):
        model = dim(warm_start=True).fit(X)
        other = FULL.copy()
        other[::2, 4] = np.nan
        model.fit(other)
        assert front(model).columns.tolist() == SHOWN
        assert np.isfinite(model.transform(other)).all()

    @over(scaling=["squash", "standard"])
    def test_a_warm_start_with_the_other_setting(self, scaling):
        before, after = ("error", "indicator") if scaling == "squash" else ("indicator", "error")
        model = NoisyDIMTransformer(
            2, missing=before, warm_start=True, scaling=scaling, **SMALL
        ).fit(FULL)
        with pytest.raises(ValueError, match=rf"missing='{after}'.*warm_start=False"):
            model.set_params(missing=after).fit(FULL)

    def test_a_checkpoint(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_checkpoint, "SECONDS", 0.0)  # written at the end of every epoch
        monkeypatch.setattr(_checkpoint, "SHARE", np.inf)
        monkeypatch.setattr(Crash, "at", 3)
        parameters = {"max_epochs": 4, "checkpoint": tmp_path, "callbacks": [Crash()]}
        with pytest.raises(RuntimeError, match="power"):
            dim(**parameters).fit(X)
        monkeypatch.setattr(Crash, "at", None)
        Crash.epochs.clear()
        z = dim(**parameters).fit(X).transform(X)
        assert Crash.epochs == [3, 4]
        assert_array_equal(z, dim(max_epochs=4).fit(X).transform(X))


class Crash(Callback):
    """Raises at the end of an epoch."""

    at = None
    epochs: ClassVar[list[int]] = []

    def on_epoch_end(self, net, **kwargs):
        Crash.epochs.append(len(net.history))
        if len(net.history) == Crash.at:
            raise RuntimeError("the power went")
