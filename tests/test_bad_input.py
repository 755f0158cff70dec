"""What cannot work says so: what came, and what is allowed. A fit that fails leaves no trace."""

import copy
import functools
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from over import over
from scipy import stats
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer, RobustScaler
from sklearn.svm import SVR
from skorch.callbacks import Callback, EarlyStopping
from small import fails, small
from test_persistence import TABLES
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim.augmentations import FeatureCorruption, FeatureMasking
from sknoisydim.critics import SeparableCritic
from sknoisydim.encoders import MLPEncoder
from sknoisydim.noise import UniformNoise
from sknoisydim.normalization import Whitening
from sknoisydim.refinement import RotationGaussianization
from sknoisydim.targets import MultivariateNormal

X = np.random.default_rng(0).normal(size=(60, 4))
Y = np.arange(60) % 3
dim = small(clean_weight=0.5, batch_size=16)


def holding(value, dtype=np.float64):
    table = X.astype(dtype)
    table[7, 2] = value
    return table


# Of other kinds scikit-learn's own checks are made of `fit` and `transform`.
NO_ROWS = [
    (holding(np.nan), ValueError, r"contains NaN"),
    (holding(np.inf), ValueError, r"contains infinity"),
    (holding("red", object), ValueError, r"string to float: 'red'.*encode categories"),
    (holding({}, object), TypeError, r"must be a string or a real number, not 'dict'"),
    (X[:, :, None], ValueError, r"array with dim 3, while dim <= 2 is required"),
    ("rows.csv", ValueError, r"string to float: 'rows\.csv'\. If X is a file.*pandas\.read_csv"),
    (Path("rows.csv"), TypeError, r"If X is a file, read it.*pandas\.read_csv"),
    (None, ValueError, r"Expected 2D array, got scalar array"),
]


class TestRows:
    @over("table, error, message", NO_ROWS)
    def test_that_are_none(self, fitted, table, error, message):
        for call in (dim().fit, fitted.transform, fitted.score, fitted.score_samples):
            fails(message, call, table, error=error)

    def test_of_another_width_or_before_fit(self, fitted):
        for method in ("transform", "score", "score_samples"):
            fails("X has 3 features, but NoisyDIM.* expecting 4", getattr(fitted, method), X[:, :3])
            message = "NoisyDIMTransformer instance is not fitted"
            fails(message, getattr(dim(), method), X, error=NotFittedError)

    @over("scaling, value", [(None, 1e39), (None, -1e39), ("squash", 1e200), ("standard", 1e200)])
    def test_too_large(self, scaling, value):
        float32, float64 = r"X holds 1e\+39.*float32.*'standard'", "column 2 overflows.*'quantile'"
        fails(float64 if scaling else float32, dim(scaling=scaling).fit, holding(value))
        assert np.isfinite(dim(scaling="quantile").fit_transform(holding(value))).all()
        assert np.isfinite(dim(scaling=scaling).fit(X).transform(holding(value))).all()


def ending_in(last):
    class Encoder(nn.Linear):
        def forward(self, x):
            return last(super().forward(x))

    return Encoder


def building(made):
    """A critic that is what it is given."""
    return SimpleNamespace(build=lambda n_components, channel, generator: made)


FROZEN = nn.Linear(4, 4).requires_grad_(False)
NO_ROTATION = {"layers": -1, "step": 0, "couplings": 1.5, "transport": "some", "separation": -1}
EITHER = (TypeError, ValueError)
NO_ROTATION |= {"clusters": -1, "validation_fraction": 1}
# Parameters of the transformer that cannot be, and what the message has to say.
WRONG = [
    # Unknown names: what is allowed, and what may have been meant. More of them are below.
    ({"noise": "gausian"}, ValueError, r"noise='gausian'.*'auto'.*number > 0.*mean 'gaussian'\?"),
    ({"augmentation": "corupt"}, ValueError, r"augmentation.*'masking'.*mean 'corruption'\?"),
    ({"augmentation": "none"}, ValueError, r", None or a callable .*Did you mean None\?$"),
    ({"refine": "none"}, ValueError, r"'rotation', None or an object with .*mean None\?$"),
    ({"device": "cuda:99"}, ValueError, r"device='cuda:99' is not usable.*this machine"),
    ({"noise": UniformNoise(1e-320)}, ValueError, r"half_width must be.*>= 1e-18"),
    ({"n_components": X}, TypeError, r"n_components must be 'auto' or an integer.*\.\.\.\.$"),
    ({"target": "beta"}, ValueError, r"target=scipy\.stats\.beta\(\.\.\.\), with its parameters"),
    ({"target": X}, TypeError, r"target=array\(.*\.\.\. of type ndarray is not understood"),
    ({"target": torch.distributions.Beta(2, 5)}, TypeError, r"torch object.*scipy\.stats"),
    ({"encoder": nn.Linear(4, 3)}, ValueError, r"\(2, 4\) to \(2, 3\); n_components=4 needs"),
    ({"encoder": nn.Linear(3, 4)}, ValueError, r"does not take a batch of shape \(2, 4\)"),
    ({"encoder": ending_in(lambda x: (x, x))}, ValueError, "to tuple; n_components=4 needs"),
    ({"encoder": nn.BatchNorm1d(4, track_running_stats=False)}, ValueError, "track_running_stats"),
    ({"encoder": ending_in(lambda x: x.softmax(0))}, ValueError, "else for a row alone"),
    ({"encoder": ending_in(lambda x: x - x.mean(0))}, ValueError, "else for a row alone"),
    ({"encoder": ending_in(lambda x: x[0])}, ValueError, r"shape \(\d, 4\) to \(4,\)"),
    ({"encoder": ending_in(lambda x: x.long())}, ValueError, r"torch\.int64.*real numbers"),
    ({"encoder": ending_in(lambda x: x * 1j)}, ValueError, r"torch\.complex64.*real numbers"),
    ({"encoder": lambda p, d: [p, d]}, TypeError, r"returned a list.*returns a torch\.nn\.Module"),
    ({"encoder": lambda p: nn.Linear(p, 4)}, TypeError, r"^encoder=.*as \(n_features, n_comp"),
    ({"encoder": MLPEncoder((0,))}, ValueError, r"hidden_layer_sizes must be.*>= 1, got 0"),
    ({"encoder": MLPEncoder(activation="rleu")}, ValueError, r"activation.*mean 'relu'\?"),
    ({"encoder": MLPEncoder(dropout=1.0)}, ValueError, r"dropout must be.*< 1, got 1\.0"),
    ({"critic": SeparableCritic(width=0)}, ValueError, r"critic width must be.*got 0"),
    ({"augmentation": FeatureCorruption(rate=2)}, ValueError, r"rate must be.*<= 1, got 2"),
    ({"augmentation": FeatureMasking(rate="a")}, TypeError, r"rate must be.*got 'a'"),
    ({"normalization": Whitening(ridge=0)}, ValueError, r"ridge must be.*> 0, got 0"),
    # What a component of one's own returns.
    ({"augmentation": lambda x, g: x[:, :2]}, ValueError, r"augmentation.*\(16, 2\).*\(16, 4\)"),
    ({"augmentation": lambda x: x}, TypeError, r"^augmentation=.* as \(batch, generator\): too"),
    ({"augmentation": lambda x, g: x.numpy()}, TypeError, r"augmentation.*ndarray, not a torch"),
    ({"augmentation": lambda x, g: x.double()}, ValueError, r"augmentation.*to be .*float32"),
    ({"bound": lambda s: s.diagonal()}, ValueError, r"the bound.*\(16,\).*to be of shape \(\)"),
    ({"critic": building(nn.CosineSimilarity())}, ValueError, r"critic.*\(16,\).*be .*\(16, 16\)"),
    ({"critic": building(3)}, TypeError, r"critic=.* built a int, not a torch module"),
    ({"encoder": FROZEN, "clean_weight": 1}, ValueError, r"nothing to train.*requires_grad"),
    ({"scaling": FunctionTransformer(lambda x: x[:, :0])}, ValueError, r"\(1, 0\); .*one column"),
    ({"scaling": FunctionTransformer(lambda x: x.astype(str))}, ValueError, "to <U.*of real num"),
    ({"scaling": ColumnTransformer}, TypeError, r"class ColumnTransformer, which needs param"),
    ({"optimizer": torch.optim.LBFGS}, ValueError, r"LBFGS.*closure.*'adamw'"),
    ({"optimizer": torch.optim.SparseAdam}, ValueError, r"SparseAdam needs sparse gradients"),
    ({"optimizer": dict}, TypeError, r"optimizer made a dict: it takes.*torch\.optim class"),
    ({"augmentation": FeatureCorruption(groups=[[0, 9]])}, ValueError, "numbers from 0 to 3"),
    ({"augmentation": FeatureCorruption(groups=[[0.5]])}, ValueError, "numbers from 0 to 3"),
    ({"augmentation": FeatureCorruption(groups=[[0, 1], [1, 2]])}, ValueError, "share a column"),
    ({"augmentation": FeatureCorruption(groups=[[0, 0]])}, ValueError, "share a column"),
    ({"augmentation": FeatureCorruption(groups="all")}, ValueError, "'all' is unknown"),
    ({"encoder": MLPEncoder(precision="bf61")}, ValueError, r"'bf61' is unknown.*mean 'bf16'"),
    ({"encoder": MLPEncoder(precision=32)}, TypeError, r"one of '32', 'bf16', got 32"),
    ({"keep": LinearRegression()}, TypeError, "scikit-learn transformer"),
    ({"decoder": LinearRegression}, TypeError, "an object"),
    ({"decoder": SVR(), "max_epochs": 1}, ValueError, r"^decoder=SVR\(\): y should be a 1d array"),
    ({"keep": PCA(50)}, ValueError, r"^keep=PCA\(n_components=50\): n_components=50 must be"),
    ({"target": MultivariateNormal(0, -np.eye(4))}, ValueError, r"^target=Multi.*: cov must be"),
    ({"device": "meta"}, ValueError, r"torch says: [^.]+(\.[^. ]+)*\.$"),
    ({"noise": UniformNoise(0.25), "critic": "exact"}, ValueError, "UniformChannel has no grad"),
    ({"refine": SimpleNamespace(build=lambda z, seed: None)}, TypeError, "held_out"),
    *(
        ({"refine": RotationGaussianization(**{name: value})}, EITHER, f"refine {name}")
        for name, value in NO_ROTATION.items()
    ),
    ({"callbacks": EarlyStopping()}, TypeError, r"callbacks must be None or a list"),
    ({"checkpoint": ""}, ValueError, "must be None or the path of a folder"),
    ({"checkpoint": __file__}, ValueError, "must be None or the path of a folder"),
]

# Types that no parameter takes, and some that only some take; numbers out of range, and names.
TAKES_REAL = ["keep_weight", "lr", "match_weight", "noise", "supervision"]
TAKES_NONE = ["augmentation", "callbacks", "checkpoint", "keep", "random_state", "decoder"]
TAKES_NONE += ["refine", "scaling"]
TAKES_TRUE = ["early_stopping", "verbose", "warm_start"]
PARAMETERS = list(NoisyDIMTransformer().get_params())
WRONG_ALONE = [
    *((name, value) for name in PARAMETERS for value in ({"a": 1}, b"adamw", 1j)),
    *((name, 3.5) for name in PARAMETERS if name not in TAKES_REAL),
    *((name, None) for name in PARAMETERS if name not in TAKES_NONE),
    *((name, True) for name in PARAMETERS if name not in TAKES_TRUE),
    *((name, 0) for name in ("n_components", "noise", "max_epochs", "lr", "early_stopping")),
    *((name, -1) for name in ("supervision", "clean_weight", "verbose", "random_state")),
    *(("noise", np.nan), ("noise", 1e39), ("batch_size", 1), ("clean_weight", 1.5)),
    *((name, "nonsense") for name in PARAMETERS if name in TABLES),
    *((name, "nonsense") for name in ("decoder", "device", "keep", "optimizer")),
]

CLOSE = [
    {"scaling": RobustScaler},
    {"optimizer": functools.partial(torch.optim.SGD, momentum=0.9)},
    {"optimizer": functools.partial(torch.optim.Adam, foreach=True)},
    {"optimizer": lambda params, lr: torch.optim.Adam(params, lr)},
    {"optimizer": torch.optim.Rprop},
    {"optimizer": torch.optim.Adafactor},
    {"encoder": FROZEN},
    {"target": [stats.rv_histogram(np.histogram(X[:, 0], bins=5)), *["normal"] * 3]},
    {"early_stopping": np.True_},
    {"n_components": np.uint8(1), "noise": np.int64(1), "lr": np.float32(1e-3)},
]


class TestParameters:
    @over("parameters, error, message", WRONG)
    def test_wrong_value(self, parameters, error, message):
        model = dim(**{"max_epochs": 10**9} | parameters)
        said = fails(message, model.fit, X, Y, error=error)  # before training, or in its first step
        assert "\n" not in str(said)

    @over("name, value", WRONG_ALONE)
    def test_wrong_type_size_or_name(self, name, value):
        said = fails(name, dim(**{name: value}).fit, X, Y, error=EITHER)
        assert repr(value) in str(said)

    @over(parameters=CLOSE)
    def test_what_comes_close_works(self, parameters):
        assert np.isfinite(dim(**parameters).fit(X).transform(X)).all()


FAILURES = {
    "rows": ({}, holding(np.nan), ValueError),
    "width": ({"noise": -1}, X[:, :2], ValueError),
    "parameter": ({"critic": "seperable"}, X, ValueError),
    "view": ({"augmentation": lambda x, generator: 1 / 0}, X, ZeroDivisionError),
    "encoder": ({"encoder": nn.Linear(3, 4)}, X, ValueError),
    "divergence": ({"lr": 1e30, "optimizer": "sgd"}, X, ValueError),
}


class Interrupt(Callback):
    """What a user's Ctrl-C does while a batch, or an epoch, is at work."""

    def __init__(self, how, when):
        setattr(self, when, lambda net, **kwargs: how())


interrupt = functools.partial(signal.default_int_handler, signal.SIGINT, None)
press_ctrl_c = functools.partial(signal.raise_signal, signal.SIGINT)
FAILURES["interrupt"] = {"callbacks": [Interrupt(interrupt, "on_batch_end")]}, X, KeyboardInterrupt


def state(model):
    return {name: id(value) for name, value in vars(model).items()}


class TestAFitThatFails:
    @over("parameters, table, error", FAILURES)
    def test_leaves_all_as_it_was(self, parameters, table, error, fitted):
        embedding, share = fitted.transform(X), fitted.score(X)
        fresh, model = dim(**parameters), copy.copy(fitted).set_params(**parameters)
        for call in (fresh.fit, fresh.partial_fit, model.fit):
            before = state(call.__self__)
            fails(None, call, table, error=error)
            assert state(call.__self__) == before
        assert_array_equal(model.transform(X), embedding)
        assert model.score(X) == share

    def test_says_where_an_error_came_from(self):
        broken, wrong = dim(augmentation=lambda x, g: 1 / 0), lambda p, d: nn.Linear(p, str(d))
        fails("division by zero", broken.fit, X, error=ZeroDivisionError)
        said = fails(None, dim(encoder=wrong).fit, X, error=TypeError)
        assert said.__notes__ == ["It came from encoder(4, 4)."]


class Exploding(nn.Linear):
    """A user's encoder that turns into NaN as soon as it is trained."""

    def forward(self, x):
        self.start = getattr(self, "start", self.weight.detach().clone())
        return super().forward(x) / torch.equal(self.weight, self.start)


@over(
    parameters=[
        {"lr": 1e300, "optimizer": "adam", "normalization": "batch"},
        {"lr": 1e9, "optimizer": "sgd", "encoder": nn.Linear},
        {"lr": 1e300, "optimizer": "adamw", "early_stopping": True},
        # In the very last step.
        {"encoder": Exploding, "max_epochs": 1, "batch_size": 60, "normalization": "batch"},
    ]
)
def test_divergence_is_an_error_that_says_what_to_change(parameters):
    message = r"training diverged.*(epoch [12] |training rows).*a smaller lr"
    fails(message, dim(**{"max_epochs": 5} | parameters).fit, X)


@pytest.fixture
def listening():
    """A shell starts what it puts into the background deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
@over(how=[interrupt, press_ctrl_c], when=["train_begin", "batch_end", "epoch_end", "train_end"])
def test_an_interrupt_reaches_the_caller(how, when):
    given = {"train_begin": {}, "epoch_end": {"verbose": 1}}.get(when, {"early_stopping": True})
    quiet = EarlyStopping(monitor="train_loss", patience=10**6, sink=lambda text: None)
    model = dim(callbacks=[quiet, Interrupt(how, f"on_{when}")], **given)
    fails(None, model.fit, X, error=KeyboardInterrupt)
    assert not hasattr(model, "net_")
