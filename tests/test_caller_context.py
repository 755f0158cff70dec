"""What is public returns the same in any context of the caller, and leaves the context as it was.

Every call is made in all contexts at once, and in each by itself those that meet most of it.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import pytest
import torch
from over import over
from scipy import stats
from small import fails, generator, small
from torch import nn

import sknoisydim as package
from sknoisydim import NoisyDIMTransformer, metrics, plotting
from sknoisydim.augmentations import AUGMENTATIONS, one_hot_blocks, resolve_augmentation
from sknoisydim.bounds import BOUNDS, resolve_bound
from sknoisydim.critics import CRITICS
from sknoisydim.encoders import MLPEncoder
from sknoisydim.noise import NOISES, resolve_noise
from sknoisydim.normalization import NORMALIZATIONS
from sknoisydim.refinement import RotationGaussianization
from sknoisydim.targets import TARGETS, MultivariateNormal, PushForward, resolve_target

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4)).astype(np.float32)
TENSORS = torch.from_numpy(X)
Y = np.arange(80) % 2
GAPS = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
CLUSTERS = np.r_[RNG.normal(size=(100, 4)), RNG.normal(size=(100, 4)) + 100]
Z = RNG.normal(size=(60, 2))
FAR = 30 * Z  # squares of densities underflow there
TINY = X * np.array([1, 1, 1e-300, 1e-300])
CLOSED = io.StringIO()
CLOSED.close()


@contextlib.contextmanager
def set_to(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


CONTEXTS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast off": lambda: torch.autocast("cpu", enabled=False),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set device": lambda: set_to(torch.set_default_device, "meta", None),
    "float64": lambda: set_to(torch.set_default_dtype, torch.float64, torch.float32),
    "errstate": lambda: np.errstate(all="raise"),
    "closed console": lambda: contextlib.redirect_stderr(CLOSED),
    "no console": lambda: contextlib.redirect_stderr(None),
}


def all_at_once():
    stack = contextlib.ExitStack()
    for name, context in CONTEXTS.items():
        if name != "autocast off":  # it would undo the other
            stack.enter_context(context())
    return stack


def state():
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    defaults = torch.empty(0).device, torch.get_default_dtype()
    autocast = torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()
    return *modes, *defaults, *autocast, np.geterr(), sys.stderr


new = small(2, device="cpu")


def wrapped(kind, **parameters):
    return kind(new(refine="rotation"), random_state=0, **parameters).fit(X)


@functools.cache
def model(**parameters):
    return new(**parameters).fit(CLUSTERS if "refine" in parameters else X)


@functools.cache
def pickled(**parameters):
    return pickle.dumps(model(**parameters))


@functools.cache
def folder():
    folder = Path(tempfile.mkdtemp())
    model().save(folder / "saved")
    return folder


def save():
    model().save(folder() / "model")
    return embedded(NoisyDIMTransformer.load(folder() / "model"))


def to_onnx():
    model().to_onnx(folder() / "model.onnx")
    return onnxruntime.InferenceSession(folder() / "model.onnx").run(None, {"X": X})


def embedded(dim, rows=X):
    """Return what a fit is worth: embeddings, densities, information, and the weights."""
    weights = [value for value in dim.net_.module_.state_dict().values() if torch.is_tensor(value)]
    return dim.transform(rows), dim.score_samples(rows), dim.mutual_information_, weights


def of_ones(n_features, n_components):
    """A module of the user's, whose weights have torch's default dtype."""
    layer = nn.Linear(n_features, n_components, bias=False)
    nn.init.eye_(layer.weight)
    return layer


def fit(rows=X, y=None, **parameters):
    return lambda: embedded(new(**parameters).fit(rows, y), rows)


def served(**parameters):
    rows = torch.from_numpy(CLUSTERS if "refine" in parameters else X)
    module = model(**parameters).to_torch()
    double = model(**parameters).to_torch().double()(rows.double())
    return module(rows.float()), double, model(**parameters).encoder_(rows)


# What the calls below are made of: targets by name and others, and what draws from a seed.
FAR4 = FAR[:, [0, 1, 0, 1]]
MANY_TARGETS = {
    **TARGETS,
    "mixed": ["uniform", stats.expon()],
    "MultivariateNormal": MultivariateNormal(0.0, [[4, 2], [2, 2]]),
    "PushForward": PushForward(np.exp, np.log, log_abs_det_jacobian=lambda z: z.sum(1)),
    "UniformBall": package.targets.UniformBall(),
    "SphericalShell": package.targets.SphericalShell(1.0, 2.0),
}
METRICS = [name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))]
SHOWN = {"EmbeddingDisplay": [X], "TargetFitDisplay": [X], "TrainingDisplay": []}


def drawn(display):
    figure = display.figure_
    figure.canvas.draw()
    picture = np.array(figure.canvas.buffer_rgba())
    plt.close(figure)
    return picture


def called(module, *rows):
    """Return what a module makes of rows, if there are some, and its weights."""
    return rows and module(*rows), list(module.state_dict().values())


def of_function(name):
    """Call a function of metrics with what its parameters are named for."""
    name, _, classifier = name.partition(" ")
    arguments = {"Z": FAR, "Z1": FAR, "Z2": 1e-300 * Z, "X": X, "distance": "energy_distance"}
    arguments |= {"estimator": model(), "est": model(), "random_state": 0, "n_resamples": 19}
    arguments["classifier"] = classifier or "boosting"
    function = getattr(metrics, name)
    named = inspect.signature(function).parameters.keys()
    found = function(**{key: value for key, value in arguments.items() if key in named})
    return found(model(), X) if callable(found) else found


def of_target(name):
    bound = resolve_target(MANY_TARGETS[name], 2)
    x = bound.sample(30, random_state=0)
    return x, bound.push(FAR), bound.pull(x), bound.logpdf(x), bound.logpdf(FAR)


def of_noise(noise):
    noise = resolve_noise(noise)
    channel = noise.build(2, 64)
    z = torch.from_numpy(Z).float()
    noisy = channel.transmit(z, generator())
    found = channel.log_ratio(z, noisy), channel.sample_input(9, generator())
    return channel.capacity, noisy, *found


def of_critic(kind):
    channel = resolve_noise("gaussian").build(2, 64)
    z = torch.from_numpy(Z).float()
    return called(kind().build(2, channel, generator()), z, z + 0.1)


VIEWS = {"clean_weight": 0.5, "critic": "concat"}
# Each augmentation, bound, critic and normalization is called by itself, below.
FITS = {
    "of float32": fit(verbose=1),
    "of columns of 1e-300": fit(TINY),
    "of a user's module": fit(encoder=of_ones),
    "in bfloat16": fit(encoder=MLPEncoder(precision="bf16"), bound="dv", **VIEWS),
    "with labels": fit(X, Y, supervision=0.5, early_stopping=True),
    "with gaps": fit(GAPS, missing="indicator", augmentation="mixup", **VIEWS),
    "with sparse draws": lambda: embedded(new().fit(X, sample_weight=1.0 + Y)),
    "scaling=quantile of 1e-300": fit(TINY, scaling="quantile", normalization="batch"),
    "refine=rotation": fit(CLUSTERS, refine="rotation"),
    "target": fit(target=stats.t(1), noise="uniform"),
}
CALLS = {
    **{f"fit {name}": call for name, call in FITS.items()},
    "fit_transform": lambda: new().fit_transform(X),
    "partial_fit": lambda: embedded(new().partial_fit(X).partial_fit(X)),
    "partial_fit after fit": lambda: embedded(pickle.loads(pickled()).partial_fit(X)),
    "forget_rows": lambda: embedded(new().partial_fit(X).forget_rows()),
    "transform": lambda: model().transform(X),
    "transform_to": lambda: np.array(model().transform_to(X, folder() / "Z.npy")),
    "score": lambda: model().score(X),
    "inverse_transform": lambda: model(decoder="kernel_ridge").inverse_transform(Z),
    "sample": lambda: model(decoder="kernel_ridge").sample(9, random_state=0),
    "score_samples": lambda: model().score_samples(X),
    "retarget": lambda: model().retarget(stats.gamma(2)).transform(X),
    "diagnose": lambda: model().diagnose(FAR4).to_dict(),
    "report of arrays": lambda: metrics.MatchReport.from_arrays(Z, classifier=False).to_dict(),
    "outliers": lambda: wrapped(package.NoisyDIMOutlierDetector, n_estimators=1).p_values(FAR4),
    "codes": lambda: wrapped(package.UniformCodes, bits=4).nearest_cells(X),
    "drift": lambda: wrapped(package.NoisyDIMDriftMonitor).check(FAR4).to_dict(),
    "save": save,
    "load": lambda: embedded(NoisyDIMTransformer.load(folder() / "saved")),
    "pickle": lambda: embedded(pickle.loads(pickle.dumps(model()))),
    "unpickle": lambda: embedded(pickle.loads(pickled())),
    "to_torch": served,
    "to_onnx": to_onnx,
    "to_torch refine": lambda: served(refine="rotation"),
    "refinement rotation": lambda: called(RotationGaussianization().build(CLUSTERS / 50, 0))[1],
    # Its weights: a module of torch's own layers is in autocast what torch says.
    "encoders": lambda: called(MLPEncoder((8,)).build(4, 2, generator()))[1],
    "augmentations one_hot_blocks": lambda: one_hot_blocks(torch.from_numpy(np.eye(3)[Y])),
    "plotting DependenceDisplay": lambda: drawn(plotting.DependenceDisplay.from_embedding(FAR)),
}
for kind, call, members in [
    ("targets", of_target, MANY_TARGETS),
    ("noise", of_noise, NOISES),
    ("critics", lambda n: of_critic(CRITICS[n]), CRITICS),
    ("normalization", lambda n: called(NORMALIZATIONS[n]().build(4), TENSORS), NORMALIZATIONS),
    ("augmentations", lambda n: resolve_augmentation(n)(TENSORS, generator()), AUGMENTATIONS),
    ("bounds", lambda n: resolve_bound(n)(TENSORS[:4]), BOUNDS),
    ("metrics", of_function, METRICS + [f"classifier_auc {name}" for name in metrics.CLASSIFIERS]),
    ("plotting", lambda n: drawn(getattr(plotting, n).from_estimator(model(), *SHOWN[n])), SHOWN),
]:
    CALLS |= {f"{kind} {name}": functools.partial(call, name) for name in members}


def numbers(result):
    if dataclasses.is_dataclass(result):
        result = vars(result)
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return [number for part in result for number in numbers(part)]
    return [result.detach().numpy() if torch.is_tensor(result) else result]


@functools.cache
def outside(call):
    return numbers(CALLS[call]())


def check(call, context):
    expected = outside(call)
    with context():
        before = state()
        result = CALLS[call]()
        assert state() == before
    result = numbers(result)
    assert len(result) == len(expected) > 0
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


@pytest.mark.parametrize("call", CALLS)
def test_a_result_is_that_outside_of_all_contexts(call):
    check(call, all_at_once)


MOST = ["fit of float32", "fit with labels", "fit of a user's module", "partial_fit"]
MOST += ["to_torch refine", "save"]


@over(context=CONTEXTS)
@pytest.mark.parametrize("call", MOST)
def test_a_result_is_that_outside_of_the_context(call, context):
    check(call, context)


ERRORS = {
    "fit": lambda: new(lr=-1).fit(X),
    "partial_fit": lambda: new().partial_fit(X[:1]),
    "transform": lambda: model().transform(X[:, :3]),
    "load": lambda: NoisyDIMTransformer.load("no such file"),
    "metrics": lambda: metrics.energy_test(Z, "no such distribution"),
    "targets": lambda: resolve_target("no such distribution", 2),
    "encoder_": lambda: model().encoder_(TENSORS[:, :3]),
}


@over(call=ERRORS)
def test_an_error_leaves_the_context_as_it_was(call):
    with all_at_once():
        before = state()
        fails(None, call, error=(ValueError, OSError, RuntimeError))
        assert state() == before


def test_gradients_go_through_what_takes_tensors():
    rows = torch.from_numpy(X).requires_grad_()

    def score(rows):
        return model().channel_.log_ratio(rows[:, :2], rows[:, 2:])

    for module in (model().to_torch(), model().encoder_, score):
        with torch.autocast("cpu", torch.bfloat16):
            assert module(rows).requires_grad
        with torch.no_grad():
            assert not module(rows).requires_grad


def public(owner):
    """Yield the names of the methods of ours that a class has."""
    for name, member in inspect.getmembers(owner, inspect.isroutine):
        ours = (getattr(member, "__module__", None) or "").startswith("sknoisydim.")
        if ours and not name.startswith("_"):
            yield name


def test_the_table_calls_all_that_is_public():
    called = {word for call in CALLS for word in call.split()}
    methods = set(public(NoisyDIMTransformer))
    assert methods >= {"fit", "transform", "load"}
    assert methods <= called
    assert set(plotting.__all__) - {"TradeOffDisplay"} <= called  # it draws a table that is given


BROKEN = ["from sknoisydim import NoisyDIMTransformer", "from sknoisydim import encoders"]


@pytest.mark.parametrize(("flag", "line"), [("-B", BROKEN[0]), ("-OO", BROKEN[1])])
def test_an_import_that_fails_says_its_cause(line, flag, tmp_path):
    (tmp_path / "torch.py").write_text("import numpy\nnumpy.float_\n")
    command = [sys.executable, flag, "-c", line]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: sknoisydim.")
    assert "`np.float_` was removed" in last
    assert ("python -OO" in last) == (flag == "-OO")
