"""A fitted estimator survives pickle, joblib, skops and its own file, bit for bit.

Of components of the user's own the caller of `load` names what a file leaves out.
"""

import pickle
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import skops.io
import torch
from numpy.testing import assert_array_equal
from over import over
from scipy import stats
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, StandardScaler
from small import Perceptron, fails, small, without_times
from torch import nn

from sknoisydim import NoisyDIMTransformer, targets
from sknoisydim._persistence._estimator import APART
from sknoisydim._persistence._state import pack
from sknoisydim.augmentations import AUGMENTATIONS, Compose, FeatureCorruption
from sknoisydim.bounds import BOUNDS, DonskerVaradhan
from sknoisydim.critics import CRITICS, ExactCritic, SeparableCritic
from sknoisydim.encoders import ENCODERS, MLPEncoder
from sknoisydim.noise import NOISES, GaussianNoise, UniformNoise
from sknoisydim.normalization import NORMALIZATIONS
from sknoisydim.refinement import REFINEMENTS, InvertibleMap, RotationGaussianization
from sknoisydim.scaling import SCALINGS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(260, 4)) ** 3
X_NEW = RNG.normal(size=(70, 4)) * 2
dim = small(encoder=MLPEncoder((8,)), batch_size=64)
# A member of a table is here by itself; the rest are what a user may write besides.
TABLES = {"augmentation": AUGMENTATIONS, "bound": BOUNDS, "critic": CRITICS, "encoder": ENCODERS}
TABLES |= {"noise": NOISES, "normalization": NORMALIZATIONS, "refine": REFINEMENTS}
TABLES |= {"scaling": SCALINGS, "target": targets.TARGETS}
BALL = targets.UniformBall(2.0)
CHOICES = {
    **{f"{table}-{name}": {table: name} for table, names in TABLES.items() for name in names},
    "no-scaling": {"scaling": None},
    "scikit-learn-scaling": {"scaling": PowerTransformer()},
    "scikit-learn-class": {"scaling": MinMaxScaler(), "augmentation": None},
    "compose": {"augmentation": Compose(["jitter", FeatureCorruption(0.3, groups=[[1, 2]])])},
    "critic-class": {"critic": ExactCritic},
    "critic-object": {"critic": SeparableCritic((8, 8), width=4)},
    "bound-object": {"bound": DonskerVaradhan(0.2)},
    "noise-number": {"noise": 0.3},
    "noise-object": {"noise": GaussianNoise(0.7)},
    "noise-box": {"noise": UniformNoise(0.2), "clean_weight": 1.0, "normalization": "batch"},
    "residual": {"encoder": MLPEncoder((8, 8), "gelu", batch_norm=False, residual=True)},
    "torch-chain": {"encoder": nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))},
    "missing": {"missing": "indicator"},
    "optimizer-class": {"optimizer": torch.optim.RMSprop},
    "rotation-object": {"refine": RotationGaussianization(3, couplings=0)},
    "one component": {"refine": "rotation", "n_components": 1},
    "frozen": {"target": stats.beta(2, b=5, scale=np.float64(3))},
    "newer": {"target": targets.Independent(stats.Normal(mu=1.0, sigma=2.0))},
    "newer-uniform": {"target": stats.Uniform(a=-1.0, b=2.0)},
    "joint": {"target": stats.multivariate_normal([1.0, 0.0], [[2.0, 0.5], [0.5, 1.0]])},
    "covariance": {"target": targets.MultivariateNormal([1.0, 0.0], [[2.0, 0.5], [0.5, 1.0]])},
    "box": {"target": targets.Uniform([-1, 0], [1.0, 2.0])},
    "ball": {"target": BALL},
    "shell": {"target": targets.SphericalShell(1.0, 2.0), "early_stopping": True},
    "product": {"target": ["uniform", stats.expon(), targets.Uniform(-1, 1), BALL]},
    "random-state-object": {"random_state": np.random.RandomState(3)},
    "odd-numbers": {"match_weight": np.float32(0.1), "batch_size": np.int64(40)},
}
# Distributions of two components; and more of them than two need a larger batch with uniform noise.
TWO = {"joint", "covariance", "box", "noise-uniform"}


def rows_for(parameters, rows):
    """Rows with missing values where they are allowed."""
    if parameters.get("missing", "error") == "error":
        return rows
    return np.where(np.arange(rows.size).reshape(rows.shape) % 7 == 0, np.nan, rows)


def fit(**parameters):
    views = {"clean_weight": 0.5} if parameters.keys() & {"augmentation", "critic"} else {}
    return dim(**views | parameters).fit(rows_for(parameters, X))


def choose(name):
    size = {"n_components": 2} if name in TWO else {}
    return fit(**size | CHOICES[name])


def packed(model):
    """All that a file of it would hold, but for times."""
    header, arrays = pack(model, APART)
    header["fitted"]["history_"] = without_times(model.history_)
    return header, {name: value.tolist() for name, value in arrays.items()}


def check_same(one, other):
    np.testing.assert_equal(packed(one), packed(other))
    rows = rows_for(one.get_params(), X_NEW)
    for dtype in (np.float64, np.float32):
        assert_array_equal(one.transform(rows.astype(dtype)), other.transform(rows.astype(dtype)))
    assert_array_equal(one.score_samples(rows), other.score_samples(rows))
    assert vars(one).keys() == vars(other).keys()
    history, again = ([row["train_loss"] for row in m.net_.history] for m in (one, other))
    assert history == again == one.history_["train_loss"]


@pytest.fixture
def reload(tmp_path):
    def reload(model, kind=NoisyDIMTransformer, **named):
        model.save(tmp_path / "model")
        return kind.load(tmp_path / "model", **named)

    return reload


def unpickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_comes_back_the_same(name, reload):
    model = choose(name)
    check_same(model, reload(model))
    check_same(model, unpickled(model))
    state = model.__getstate__()
    assert {kind: type(part) for kind, part in state.items()} == {"header": str, "arrays": dict}
    assert all(type(value) is np.ndarray for value in state["arrays"].values())


class TestPickle:
    @over(parameters=[{"refine": "rotation"}, {"max_epochs": 100}])
    def test_is_hardly_larger_than_the_weights(self, parameters):
        model = fit(**parameters)
        arrays = model.__getstate__()["arrays"]
        weights = sum(v.nbytes for name, v in arrays.items() if name.startswith("parts."))
        learnt = sum(v.numel() * v.element_size() for v in model.net_.module_.state_dict().values())
        assert weights > learnt if "refine" in parameters else weights < learnt + 2**10
        assert len(pickle.dumps(model)) < 1.2 * weights + 2**16

    def test_parameters_and_attributes_may_be_changed_after_the_fit(self, fitted, reload):
        model = unpickled(fitted).set_params(critic="nonsense", n_components=-1)
        loaded = reload(model)
        model.channel_ = GaussianNoise(0.1).build(4, 64)
        for again in (loaded, unpickled(model)):
            assert (again.critic, again.n_components) == ("nonsense", -1)
            assert_array_equal(again.transform(X_NEW), fitted.transform(X_NEW))


@over(name=["bound-dv", "frozen", "rotation-object", "compose", "missing"])
def test_skops_has_to_trust_the_estimator_alone(name):
    model, trusted = choose(name), ["sknoisydim._transformer.NoisyDIMTransformer"]
    data = skops.io.dumps(model)
    assert skops.io.get_untrusted_types(data=data) == trusted
    check_same(model, skops.io.loads(data, trusted=trusted))


class Special(NoisyDIMTransformer):
    pass


class TestLoaded:
    def test_does_all_that_the_other_does(self, fitted, reload, tmp_path):
        other = reload(fitted)
        assert fitted.score(X_NEW) == other.score(X_NEW)
        check_same(*(m.retarget(stats.expon()) for m in (fitted, other)))
        check_same(*(clone(m).fit(X) for m in (fitted, other)))
        saved = (tmp_path / "model").read_bytes()
        assert type(reload(other, Special)) is Special
        assert (tmp_path / "model").read_bytes() == saved

    @over(critic=["separable", "exact"])
    def test_goes_on(self, critic, reload):
        model = fit(warm_start=True, critic=critic, bound="dv", clean_weight=0.5)
        check_same(unpickled(model).partial_fit(X), reload(model).partial_fit(X))
        check_same(reload(model).fit(X), model.fit(X))


def test_columns_for_which_float32_is_too_narrow(reload):
    # Their rows of float32 are scaled in float64, and those of others are not.
    rows = X * [1.0, 1e-35, 1.0, 1.0] + [0.0, 0.0, 1e35, 0.0]
    model, single = dim().fit(rows), rows.astype(np.float32)
    for again in (unpickled(model), reload(model)):
        assert_array_equal(again.transform(single), model.transform(single))


def test_hooks_are_not_lost_in_silence(reload):
    model = fit()
    model.encoder_.encoder[0].register_forward_hook(lambda *arguments: None)
    fails(r"load\(path, encoder=\.\.\.\)", reload, model)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(package, fitted, tmp_path, monkeypatch):
    for name in [package, *(n for n in sys.modules if n.split(".")[0] == package)]:
        monkeypatch.setitem(sys.modules, name, None)
    fails(r"sknoisydim\[onnx\]", fitted.to_onnx, tmp_path / "model", error=ImportError)


def own_bound(scores):
    return scores.diagonal().mean() - scores.logsumexp(1).mean()


LOGNORMAL = targets.PushForward(np.exp, np.log, log_abs_det_jacobian=lambda z: z.sum(1))


class Bilinear(nn.Linear):
    def forward(self, view, noisy):
        return super().forward(noisy) @ view.T


OWN_CRITIC = SimpleNamespace(build=lambda n_components, channel, generator: Bilinear(4, 4))
OWN = {"encoder": Perceptron, "bound": own_bound, "augmentation": lambda x, generator: 0.9 * x}
OWN |= {"critic": OWN_CRITIC, "target": LOGNORMAL}


class OwnMap(InvertibleMap):
    """That of a user's own, which changes nothing."""


class OwnRefinement:
    def build(self, z, seed, held_out):
        return OwnMap(z.shape[1])


class TestOwnComponents:
    @over(name=sorted(OWN))
    def test_is_refused_unless_it_is_named(self, name, reload):
        model = fit(**{name: OWN[name]})
        fails(rf"load\(path, {name}=\.\.\.\)", reload, model)
        loaded = reload(model, **{name: OWN[name]})
        assert_array_equal(loaded.transform(X_NEW), model.transform(X_NEW))
        assert getattr(loaded, name) is OWN[name]
        weights, again = (m.net_.module_.state_dict() for m in (model, loaded))
        assert all(torch.equal(value, again[key]) for key, value in weights.items())

    def test_scaling_is_passed_fitted(self, reload):
        model = fit(scaling=make_pipeline(StandardScaler(), PCA(3)))
        fails("not fitted yet", reload, model, scaling=model.scaling)
        loaded = reload(model, scaling=model.encoder_.scaling.transformer)
        assert_array_equal(loaded.transform(X_NEW), model.transform(X_NEW))
        assert not hasattr(loaded.scaling[0], "mean_")

    def test_loading_runs_no_code_of_the_file(self, reload, monkeypatch):
        model = fit(encoder=Perceptron)
        refuse = mock.Mock(side_effect=AssertionError("a file decides what is imported"))
        names = ("pickle.loads", "pickle.Unpickler", "_pickle.loads", "_pickle.Unpickler")
        for name in (*names, "torch.load", "importlib.import_module"):
            monkeypatch.setattr(name, refuse)
        reload(model, encoder=Perceptron)
        for other in (nn.Linear, "mlp"):
            fails("do not fit encoder", reload, model, encoder=other)

    def test_is_carried_along_by_a_pickle(self, reload):
        model = fit(encoder=Perceptron, bound=own_bound, callbacks=[])
        assert len(pickle.dumps(model)) < 1.5 * len(pickle.dumps(model.net_.module_)) + 2**13
        again = unpickled(model)
        check_same(model, again)
        check_same(model, reload(again, encoder=Perceptron, bound=own_bound))

    def test_what_cannot_be_named(self, tmp_path):
        refined, noted = fit(refine=OwnRefinement()), fit()
        noted.note_ = object()
        for model, name in [(refined, "refinement"), (noted, "note_")]:
            fails(f"'{name}' holds a .*Pickle the estimator", model.save, tmp_path / "model")
            assert_array_equal(unpickled(model).transform(X_NEW), model.transform(X_NEW))
        assert not list(tmp_path.iterdir())
