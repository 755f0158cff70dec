"""What holds on a device that is not the CPU, on a machine that has no other.

A device of torch's PrivateUse1 kind is set up in a child process: its tensors carry real values,
and what mixes them with tensors or generators of the CPU fails. Whole fits on it are those of the
CPU to the last bit. What CUDA alone does (its kernels, pinned rows, bfloat16) is in test_gpu.py;
this is stricter in one thing: CPU tensors without dimensions enter pointwise operations only.
"""

import contextlib
import itertools
import json
import pickle
import subprocess
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EpochScoring, LRScheduler
from small import OFTEN, Perceptron, PowerCut, fails, small, without_times
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration as registration
from torch.utils._python_dispatch import TorchDispatchMode

from sknoisydim import NoisyDIMTransformer
from sknoisydim._modules import Dropout, fork_global_rng
from sknoisydim._net import _checkpoint
from sknoisydim._training._fit import fitted_so_far
from sknoisydim.augmentations import AUGMENTATIONS
from sknoisydim.bounds import BOUNDS
from sknoisydim.critics import CRITICS
from sknoisydim.normalization import NORMALIZATIONS, Whitening

aten = torch.ops.aten
NAME = "elsewhere"
HOME = torch.device("cpu")
# Their tensors may be on two devices on CUDA as well.
MIXING = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default}


class Elsewhere(torch.Tensor):
    """A tensor of the other device; `held` is the tensor of the CPU that has its values."""

    def __new__(cls, held):
        given = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        given |= {"dtype": held.dtype, "device": torch.device(NAME, 0)}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, **given)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    def __reduce_ex__(self, protocol):
        # As a tensor of CUDA: whoever reads it needs the device.
        rest = (self.held.detach().clone(), self.dtype, str(self.device), self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, rest


def each(change, value):
    """Return an argument, or a result, with its tensors changed: torch's own way takes a while."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)([each(change, item) for item in value])
    return value


def dispatch(func, args, kwargs):
    """Run an operation on the CPU for tensors of the device they say, if that can be one."""
    there, here = [], []

    def hold(tensor):
        (there if isinstance(tensor, Elsewhere) else here).append(tensor)
        return tensor.held if isinstance(tensor, Elsewhere) else tensor

    inner = each(hold, args)
    inner_kwargs = {name: each(hold, value) for name, value in kwargs.items()}
    scalars = torch.Tag.pointwise in func.tags and not any(t.ndim for t in here)
    if there and here and func not in MIXING and not scalars:
        raise RuntimeError(f"Expected all tensors to be on the same device: {func}")
    asked = kwargs.get("device")
    moved = isinstance(args[0], Elsewhere) if func is aten.copy_.default else bool(there)
    moved = moved if asked is None else asked.type == NAME
    if asked is not None:
        inner_kwargs["device"] = HOME
    found = func(*inner, **inner_kwargs)
    if func._schema.is_mutable and isinstance(found, torch.Tensor):
        return kwargs.get("out", args[0])
    return each(Elsewhere, found) if moved else found


class Dispatch(TorchDispatchMode):
    """For what makes tensors from none."""

    # torch starts no device while such a mode is on.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """For what does not get as far as the dispatcher."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        generator = kwargs.get("generator")
        if isinstance(generator, Generator):
            made = args[0] if args and isinstance(args[0], torch.Tensor) else None
            own = HOME if made is None else made.device
            wanted = torch.device(kwargs.get("device") or own)
            if wanted.type != generator.device.type:
                raise RuntimeError(f"{name}: generator of {generator.device} for {wanted}")
        if name == "tolist" and isinstance(args[0], Elsewhere):
            return args[0].held.tolist()
        if name in ("tensor", "as_tensor") and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


class Generator(torch.Generator):
    """A generator that says of which device it is."""

    device = HOME

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, device="cpu")
        if torch.device(device).type == NAME:
            made.device = torch.device(NAME, 0)
        return made


@contextlib.contextmanager
def other_device():
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    # A parameter that moves stays the same object, as one does that moves to CUDA.
    torch.__future__.set_swap_module_params_on_conversion(True)
    patch = mock.patch.object(torch, "Generator", Generator)
    try:
        with patch, torch.autograd.set_multithreading_enabled(False), Functions(), Dispatch():
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)


RNG = np.random.default_rng(0)
X = (RNG.normal(size=(140, 4)) @ RNG.normal(size=(4, 6))).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
HOLES = np.where(RNG.random(X.shape) < 0.1, np.float32(np.nan), X)


dim = small(2, batch_size=64)


def left_there(value, path="", seen=None):
    """Return paths of all tensors of the other device, and of generators, that an object holds.

    But for those of dropout layers, which are made anew on the device of the next batch.
    """
    seen = {} if seen is None else seen
    if id(value) in seen or isinstance(value, (str, bytes, np.ndarray, type, Dropout)):
        return []
    seen[id(value)] = value
    if isinstance(value, (torch.Tensor, torch.Generator)):
        return [path] if value.device.type == NAME else []
    parts = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    parts = enumerate(value) if isinstance(value, (list, tuple, set)) else list(parts.items())
    return [p for name, part in parts for p in left_there(part, f"{path}.{name}", seen)]


def assert_same(there, here, rows=X):
    """See that a fit elsewhere is that of the CPU, and that nothing of it is left there."""
    assert left_there(vars(there)) == []
    assert without_times(here.history_).items() <= there.history_.items()
    assert there.mutual_information_ == here.mutual_information_
    assert there.net_.device == "cpu"
    on_cpu = pickle.loads(pickle.dumps(there)).set_params(device="cpu")
    for exact in (rows, rows.astype(np.float64)):
        with other_device():
            Z = there.transform(exact)
        for found in (on_cpu.transform(exact), Z):
            np.testing.assert_array_equal(found, here.transform(exact))


def own(n_features, n_components):
    layers = nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, n_components)
    return nn.Sequential(nn.Flatten(), *layers)


class Look(Callback):
    """Sees that what scikit-learn's callbacks get in training is on the CPU."""

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        assert left_there(vars(fitted_so_far(net, dataset_train)["encoder_"])) == []
        self.looked = True


def spread(net, batches, y):
    return float(net.predict(batches).std())


def watching():
    rates = LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=1)
    return [EpochScoring(spread, on_train=True), rates]


OPTIMIZER = partial(torch.optim.RMSprop, momentum=0.9)
# Parameters, and what fit gets beside the rows.
FITS = {
    "defaults": ({}, {}),
    "labels": ({"supervision": 0.5}, {"y": Y, "X_val": X[:70] + 1, "y_val": Y[:70]}),
    "missing": (
        {"missing": "indicator", "scaling": "quantile", "refine": "rotation", "noise": 0.01},
        {"X": HOLES, "sample_weight": np.linspace(0, 2, len(X)), "X_val": HOLES[:70]},
    ),
    "images": ({"encoder": own, "optimizer": OPTIMIZER}, {"X": X.reshape(-1, 1, 2, 3)}),
    "sgd": ({"noise": "uniform", "optimizer": "sgd", "lr": 0.01, "callbacks": watching}, {}),
    **{f"view {name}": ({"augmentation": name}, {}) for name in AUGMENTATIONS},
}
# Each critic, bound and normalization in turn; uniform noise has no exact critic.
CRITICS_IN_TURN = itertools.cycle(sorted(CRITICS, key=lambda name: name == "exact"))
TURNS = zip(CRITICS_IN_TURN, itertools.cycle(BOUNDS), itertools.cycle(NORMALIZATIONS), strict=False)
for name, (critic, bound, normalization) in zip(FITS, TURNS, strict=False):
    turn = {"critic": critic, "bound": bound, "normalization": normalization, "clean_weight": 0.5}
    FITS[name][0].update(turn)


def fitted(device, parameters, arguments=None):
    given = {k: v() if k == "callbacks" else v for k, v in parameters.items()}
    return dim(device=device, **given).fit(**{"X": X} | (arguments or {}))


def both(parameters, arguments=None):
    here = fitted("cpu", parameters, arguments)
    with other_device():
        return fitted(NAME, parameters, arguments), here


def fit(parameters, arguments):
    assert_same(*both(parameters, arguments), arguments.get("X", X))


# What runs in a child process, by name.
SCENARIOS = {f"fit_{name}": partial(fit, *given) for name, given in FITS.items()}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


@scenario
def the_device_is_one():
    """Were any of these let through, all other scenarios would show nothing."""
    with other_device():
        x = torch.ones(3, device=NAME)
        assert x.device == torch.device(NAME, 0)
        for mixed in (
            lambda: x + torch.ones(3),
            lambda: torch.cat([x, torch.ones(3)]),
            lambda: nn.Linear(3, 1)(x),
            lambda: x.normal_(generator=torch.Generator()),
            lambda: torch.rand(3, generator=torch.Generator(NAME)),
        ):
            fails(r"device|generator of", mixed, error=RuntimeError)
        fails("numpy", x.numpy, error=(RuntimeError, TypeError))
        assert x.sum().item() == 3
        assert bool(x.isnan().any()) is False
        assert x.cpu().numpy().tolist() == x.tolist() == [1, 1, 1]
        assert left_there({"a": [x], "b": torch.Generator(NAME)}) == [".a.0", ".b"]
    with pytest.raises((AssertionError, RuntimeError)):
        pickle.loads(pickle.dumps(x))


@scenario
def singular_covariances_end_a_fit():
    """No step waits to see whether it can be factored; the epoch's end says it."""

    class Diverging(nn.Linear):
        def forward(self, x):
            z = super().forward(x)
            return z * float("inf") if z.requires_grad else z

    whiten = Whitening().build(2)
    bad = torch.tensor([[1.0, 9.0], [9.0, 1.0]])
    fails(None, whiten._from_covariance, bad, error=torch.linalg.LinAlgError)
    with other_device():
        assert whiten._from_covariance(bad.to(NAME)).cpu().isnan().any()
        fails("training diverged", fitted, NAME, {"encoder": Diverging, "clean_weight": 1.0})


@scenario
def a_fit_goes_on():
    """By a second fit with its moments, and by a stream; on either device."""
    there, here = both({"warm_start": True, "bound": "dv"})
    there.save("model")
    changed = NoisyDIMTransformer.load("model").set_params(device="cpu")
    for go_on in (lambda model: model.fit(X), lambda model: model.partial_fit(X[:100])):
        go_on(here)
        with other_device():
            go_on(there)
        assert_same(there, here)
        assert_same(go_on(changed), here)


@scenario
def a_checkpoint_goes_on():
    folder = Path("checkpoint").resolve()
    parameters = {"max_epochs": 4, "encoder": Perceptron, "bound": "dv"}
    cut = parameters | {"checkpoint": folder, "callbacks": lambda: [PowerCut()]}
    with OFTEN, other_device():
        whole = fitted(NAME, parameters)
        with mock.patch.object(PowerCut, "at", 3):
            fails("power cut", fitted, NAME, cut, error=RuntimeError)
        assert len(_checkpoint._read(folder / _checkpoint.NAME)["history"]) == 2
        resumed = fitted(NAME, cut)
    assert_same(resumed, whole.set_params(device="cpu"))


@scenario
def callbacks_see_a_model_that_works():
    with other_device():
        model = fitted(NAME, {"callbacks": lambda: [Look()]})
    assert dict(model.net_.callbacks_)["Look"].looked


def main():
    """Run scenarios; write what went wrong, by name, where the process is."""
    registration._setup_privateuseone_for_python_backend(NAME)  # for the rest of the process
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    report = {}
    for name, function in SCENARIOS.items():
        try:
            function()
            report[name] = None
        except BaseException:  # noqa: BLE001 (a test fails by what is reported)
            report[name] = traceback.format_exc()
    Path("report.json").write_text(json.dumps(report))


def test_on_another_device(tmp_path):
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices that are written in Python")
    command = [sys.executable, __file__]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.keys() == SCENARIOS.keys()
    failed = {name: failure for name, failure in report.items() if failure is not None}
    assert not failed, "".join(f"\n{name}:\n{failure}" for name, failure in failed.items())


RANDOM = ("get_rng_state", "set_rng_state", "manual_seed_all")


@pytest.mark.parametrize("started", [False, True], ids=["unused", "used"])
def test_borrowing_generators_starts_no_gpu(monkeypatch, started):
    """`torch.cuda` is that of a machine with two GPUs."""
    cuda = mock.Mock(**{"device_count.return_value": 2, "is_initialized.return_value": started})
    for name in ("is_available", "device_count", "is_initialized", *RANDOM):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    cuda.get_rng_state.return_value = torch.zeros(1, dtype=torch.uint8)
    before = torch.get_rng_state()
    expected = torch.rand(3, generator=torch.Generator().manual_seed(5))
    with fork_global_rng(5):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), before)
    # torch warns, which is an error here, where it is left to take all of several GPUs.
    seen = ["get_rng_state"] * 2 + ["manual_seed_all"] + ["set_rng_state"] * 2
    calls = [name for name, *_ in cuda.method_calls if name in RANDOM]
    assert calls == (seen if started else [])


if __name__ == "__main__":
    main()
