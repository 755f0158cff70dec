"""What codes, outliers and drift have in common: estimators that hold a transformer."""

import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from over import over
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from small import fails, small

from sknoisydim import NoisyDIMDriftMonitor, NoisyDIMOutlierDetector, UniformCodes

NAMES = list("abcd")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 2)) @ RNG.standard_normal((2, 4)) + RNG.standard_normal((300, 4))
quick = small(2, keep="pca", random_state=None)

# Each kind with a transformer, and what it says of samples.
KINDS = {
    "codes": (partial(UniformCodes, bits=4), lambda model, X: model.codes(X)),
    "outliers": (partial(NoisyDIMOutlierDetector, n_estimators=1), lambda m, X: m.score_samples(X)),
    "drift": (NoisyDIMDriftMonitor, lambda model, X: model.check(X).pvalue),
}
each = over("make, said", KINDS)


def transformer_of(model):
    return model.transformers_[0] if hasattr(model, "transformers_") else model.transformer_


@each
def test_the_seed_decides_and_a_pickle_says_the_same(make, said):
    fails("not fitted", said, make(quick()), X, error=NotFittedError)
    model = make(quick(), random_state=0).fit(X)
    for same in (clone(model).fit(X), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(said(same, X[:50]), said(model, X[:50]))


@each
def test_the_transformer_is_copied_and_takes_the_seed(make, said):
    base = quick(random_state=2)
    assert transformer_of(make(base, random_state=1).fit(X)).random_state != 2
    assert base.random_state == 2
    assert not hasattr(base, "net_")
    codes = UniformCodes(base, bits=4).fit(X)  # with no seed of its own it is the transformer's
    assert codes.transformer_.random_state == 2


@each
def test_a_frozen_transformer_is_not_trained_again(make, said):
    frame = pd.DataFrame(X, columns=NAMES)
    dim = quick(target="uniform", random_state=0).fit(frame[:150])
    with warnings.catch_warnings(action="error"):
        model = make(FrozenEstimator(dim), random_state=0).fit(frame[150:])
        said(model, frame)
    with warnings.catch_warnings(action="ignore"):  # some know the columns by name, others do not
        found = transformer_of(model).transform(frame.to_numpy())
    np.testing.assert_array_equal(found, dim.transform(frame))
    assert hasattr(dim, "feature_names_in_")
    assert list(model.feature_names_in_) == NAMES
    other = make(FrozenEstimator(dim.retarget("normal")), random_state=0).fit(frame[150:])
    np.testing.assert_array_equal(said(other, frame), said(model, frame))
    turned = frame[NAMES[::-1]]
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        said(make(FrozenEstimator(dim)).fit(turned), turned)


@each
def test_missing_values_are_for_the_transformer_to_allow(make, said):
    rows = np.where(np.arange(1200).reshape(300, 4) % 31 == 5, np.nan, X)
    fails(r"NaN.*NoisyDIMTransformer\(missing='indicator'\)", make(quick()).fit, rows)
    model = make(quick(missing="indicator"), random_state=0).fit(rows)
    assert np.isfinite(said(model, rows)).all()


@each
def test_what_columns_may_not_hold_is_said(make, said):
    fit, numbers, dates = make(quick()).fit, {"a": range(50)}, pd.date_range("2020", periods=50)
    for beside in ({}, numbers):
        text = pd.DataFrame(beside | {"b": ["a", "b"] * 25})
        fails("OneHotEncoder in a ColumnTransformer", fit, text)
        fails("X holds dates", fit, pd.DataFrame(beside | {"b": dates}), error=TypeError)


WRONG = {
    "no transformer": ("codes", {"transformer": StandardScaler()}, TypeError, "must be a NoisyDIM"),
    "a name": ("drift", {"transformer": "pca"}, TypeError, "must be a NoisyDIM"),
    "a class": ("drift", {"transformer": type(quick())}, TypeError, "transformer must be a"),
    "labels": ("drift", {"transformer": quick(supervision=1)}, ValueError, "no y.*supervision=1"),
    "labels of outliers": ("outliers", {"transformer__supervision": 1}, ValueError, "uses no y"),
    "level": ("drift", {"alpha": 1.0}, ValueError, "alpha must be"),
    "share": ("drift", {"calibration_fraction": 0.0}, ValueError, "calibration_fraction must be"),
    "level of outliers": ("outliers", {"alpha": 1.0}, ValueError, "alpha must be"),
    "share of outliers": ("outliers", {"calibration_fraction": 0.0}, ValueError, "fraction must"),
    "fdr": ("outliers", {"fdr": 0}, ValueError, "fdr must be"),
    "calibration": ("outliers", {"calibration": "exact"}, ValueError, "'exact' is unknown"),
    "number": ("outliers", {"n_estimators": 0}, ValueError, "n_estimators must be"),
}


def test_what_is_wrong_is_said():
    for kind, parameters, error, message in WRONG.values():
        model = KINDS[kind][0](quick()).set_params(**parameters)
        fails(message, model.fit, X, error=error)
    for make, _ in KINDS.values():
        with pytest.raises(ValueError, match="transformer is None: set transformer=Noisy"):
            make(None).set_params(transformer__max_epochs=1)
    for bits, error in {0: ValueError, 53: ValueError, 4.0: TypeError, 1: ValueError}.items():
        message = r"bits must be an integer|2 components, more than bits=1"
        fails(message, UniformCodes(quick(), bits=bits).fit, X, error=error)
