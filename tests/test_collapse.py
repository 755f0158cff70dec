"""An embedding that tells nothing, or not in all components, and what is of no use, are told."""

import warnings

import numpy as np
import pytest
from over import over
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from small import fails, small
from torch import nn

from sknoisydim.critics import BilinearCritic
from sknoisydim.encoders import MLPEncoder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6))
IRIS = load_iris().data
OUTLIER = X + 1e15 * (np.arange(200) == 7)[:, None]
dim = small()
TELLS_NOTHING = r"the embedding has collapsed.*nearly equal.*smaller lr, more epochs\.$"
VIEWS = r"the embedding has collapsed.*nearly equal.*smaller lr.*a larger clean_weight\.$"
NO_PART = "augmentation='jitter' and critic=.*BilinearCritic'> played no part.*clean_weight=0.5"
DEAD = nn.Sequential(nn.Linear(6, 6), nn.Hardtanh(9.0, 9.1))
NO_VARIANCE = r"\d+ of the \d+ components have no variance.*fewer components"
LITTLE = {
    "constant": ({}, np.full((200, 3), 0.1), TELLS_NOTHING),
    "a rare event": ({"batch_size": 32}, (np.arange(200) == 7)[:, None] * 1.0, TELLS_NOTHING),
    "an outlier beyond all": ({"scaling": "standard"}, OUTLIER, TELLS_NOTHING),
    "three rows": ({}, np.repeat(X[:3], 60, axis=0), NO_VARIANCE),
    "a linear map to more": ({"encoder": nn.Linear, "n_components": 8}, X, NO_VARIANCE),
    "a narrow encoder": ({"encoder": MLPEncoder((4,)), "n_components": 16}, X, NO_VARIANCE),
    "as many components as rows": ({"n_components": 40}, X[:40], NO_VARIANCE),
    "a dead encoder": ({"encoder": DEAD, "clean_weight": 0.5}, X, VIEWS),
    "a view not taken": ({"augmentation": "jitter", "critic": BilinearCritic}, X, NO_PART),
    "noise that drowns it": ({"noise": 1e6}, X, "the channel capacity is .* nats.*noise='auto'"),
}


@over("parameters, table, message", LITTLE)
def test_is_told(parameters, table, message):
    kind = UserWarning if "no part" in message else ConvergenceWarning
    with pytest.warns(kind, match=message) as told:
        model = dim(**parameters).fit(table)
    assert [warning.filename for warning in told] == [__file__]
    assert np.isfinite(model.transform(table)).all()
    twice = np.vstack([table, table])  # a score takes more samples than components
    assert np.isfinite([model.score(twice), model.mutual_information_]).all()


def test_is_an_error_where_warnings_are():
    model = dim()
    fails("collapsed", model.fit, np.ones((40, 2)), error=ConvergenceWarning)
    assert not hasattr(model, "net_")


# No warning: they are errors in these tests.
ENOUGH = {
    "one epoch": ({"max_epochs": 1}, IRIS),
    "more components than columns": ({"n_components": 16}, IRIS),
    "pairs": ({"batch_size": 2, "max_epochs": 1}, IRIS),
    "views alone": ({"clean_weight": 0}, IRIS),
    "a linear map": ({"encoder": nn.Linear}, IRIS),
    "nearly dependent": ({"encoder": nn.Linear, "n_components": 30}, load_breast_cancer().data),
    "loud noise": ({"noise": 5.0}, X),
    "faint noise": ({"noise": 1e-6}, X),
    "a large lr": ({"lr": 100, "max_epochs": 5}, X),
    "few rows, all alike": ({}, np.ones((19, 3))),
    "many columns, few rows": ({}, RNG.normal(size=(50, 10_000))),
    "no view, and a critic that is none": ({"augmentation": None, "critic": "exact"}, X),
    "uniform noise": ({"noise": "uniform", "critic": "bilinear", "n_components": 2}, X),
    "one component": ({"n_components": 1}, X),
}


@over("parameters, table", ENOUGH)
def test_is_silent(parameters, table):
    assert np.isfinite(dim(**parameters).fit_transform(table)).all()


ADVERSE = {
    "lr": {"lr": 100},
    "lr of plain steps": {"lr": 100, "optimizer": "sgd"},
    "lr without batch normalisation": {"lr": 100, "encoder": MLPEncoder((64,), batch_norm=False)},
    "lr of a linear map": {"lr": 1e4, "encoder": nn.Linear},
    "faint noise": {"noise": 1e-6},
    "loud noise": {"noise": 1e6},
    "pairs": {"batch_size": 2},
    "pairs in many components": {"batch_size": 2, "n_components": 64},
    "many components": {"n_components": 256},
    "all at once": {"lr": 100, "noise": 1e-6, "n_components": 64, "batch_size": 2},
}


@over(number=range(len(ADVERSE)))
def test_is_never_nan_nor_silent(number):
    """An error, a warning, or an embedding with variance in every component."""
    parameters = list(ADVERSE.values())[number]
    # Pairs make many steps of few rows.
    n_rows = 80 if parameters.get("batch_size") == 2 else 300
    table = np.random.default_rng(1).normal(size=(n_rows, 10))
    model = dim(clean_weight=(0.0, 0.5, 1.0)[number % 3], **parameters)
    with warnings.catch_warnings(record=True, action="always") as told:
        try:
            model.fit(table)
        except ValueError as error:
            assert "training diverged" in str(error)  # noqa: PT017 (either is right)
            return
    z = model.transform(table)
    assert np.isfinite([*z.ravel(), *model.score_samples(table)]).all()
    if not told:
        assert np.linalg.eigvalsh(np.cov(z.T)).min() > 5e-5
        assert model.score(table) > 0.05
