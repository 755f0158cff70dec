"""What a scikit-learn user does with a transformer, each under its name."""

import joblib
import sklearn
import torch
from numpy.testing import assert_array_equal
from over import over
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PowerTransformer
from small import small
from torch import nn

from sknoisydim.augmentations import FeatureCorruption
from sknoisydim.critics import SeparableCritic
from sknoisydim.encoders import MLPEncoder
from sknoisydim.noise import GaussianNoise
from sknoisydim.normalization import Whitening
from sknoisydim.targets import Independent

COLUMNS = list("abcde")
X, Y = make_classification(n_samples=150, n_features=5, random_state=0)
dim = small(2, batch_size=32)


def with_every_component():
    return dim(
        target=Independent([stats.beta(2, 5), "normal"]),
        noise=GaussianNoise(0.5),
        augmentation=FeatureCorruption(rate=0.2),
        clean_weight=0.5,
        critic=SeparableCritic(hidden_layer_sizes=(8,), width=4),
        encoder=MLPEncoder(hidden_layer_sizes=(8,)),
        normalization=Whitening(ridge=1e-3),
        scaling=PowerTransformer(),
    )


@over(library=["pandas", "polars"])
def test_global_output_does_not_reach_the_scaling_inside(library):
    with sklearn.config_context(transform_output=library):
        framed = dim(scaling=PowerTransformer()).fit_transform(X)
    assert_array_equal(framed.to_numpy(), dim(scaling=PowerTransformer()).fit_transform(X))


def test_grid_search_over_parameters_of_components():
    pipe = Pipeline([("dim", with_every_component()), ("model", LogisticRegression())])
    rate, sizes = "dim__augmentation__rate", "dim__encoder__hidden_layer_sizes"
    grid = [{rate: [0.1], sizes: [(4,)]}, {rate: [0.4], sizes: [(6, 6)]}]
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X, Y)
    best = search.best_estimator_["dim"]
    sizes = [m.out_features for m in best.net_.module_.encoder.modules() if type(m) is nn.Linear]
    assert tuple(sizes[:-1]) == search.best_params_["dim__encoder__hidden_layer_sizes"]
    assert best.augmentation.rate == search.best_params_["dim__augmentation__rate"]
    assert pipe["dim"].augmentation.rate == 0.2


MODULE = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@over(encoder=[MLPEncoder((8,)), MODULE])
def test_what_is_passed_is_never_changed(encoder):
    model = with_every_component().set_params(encoder=encoder, early_stopping=True)
    passed, before = model.get_params(deep=False), joblib.hash(model.get_params())
    model.fit(X).transform(X)
    assert joblib.hash(model.get_params()) == before
    for name, value in model.get_params(deep=False).items():
        assert value is passed[name]
    assert not [name for name in vars(model.scaling) if name.endswith("_")]
    assert not torch.equal(model.net_.module_.encoder[0].weight, MODULE[0].weight)
    assert_array_equal(clone(model).fit_transform(X), model.transform(X))
