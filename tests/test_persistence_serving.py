"""A fitted estimator in torch and ONNX, in threads, and what it leaves alone."""

import copy
import functools
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from scipy import stats
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from small import fails, run_python, small
from torch import nn

from sknoisydim._model import target_module
from sknoisydim.encoders import MLPEncoder
from sknoisydim.refinement import RotationGaussianization
from sknoisydim.refinement._maps import Couplings
from sknoisydim.scaling import NormalScores
from sknoisydim.targets import Independent, MultivariateNormal, Uniform, UniformBall

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4)) ** 3
X[:, 3] = X[:, 3].round()  # repeated values, which quantiles have to step over
ROWS = np.concatenate([X[:20], RNG.normal(size=(20, 4)), 30 * X[:5]]).astype(np.float32)
SERVED = {
    "plain": {},
    "box": {"target": Uniform([-1, 0, 1, 2], [1.0, 2.0, 3.0, 4.0])},
    "mixed": {"target": ["uniform", "normal", stats.beta(2, 5), stats.t(3)]},
    "standard": {"scaling": "standard", "normalization": "batch"},
    "gaps": {"scaling": "quantile", "target": "uniform", "missing": "indicator"},
    "unscaled": {"scaling": None},
    "own": {"encoder": lambda p, d: nn.Sequential(nn.Linear(p, 8), nn.Softplus(), nn.Linear(8, d))},
    "rotation": {"refine": RotationGaussianization(10, couplings=0), "target": "uniform"},
    "joint and couplings": {
        "target": MultivariateNormal(1.0, np.eye(4) + 0.5),
        "refine": RotationGaussianization(2, couplings=3),
        "encoder": MLPEncoder((8, 8), "gelu", residual=True),
    },
}
# What has a graph of its own; one of them is exported in the default run.
SLOW = ("rotation", "joint and couplings")
EXPORTED = ["gaps", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
dim = small(encoder=MLPEncoder((16,)), batch_size=64)


@functools.cache
def served(name):
    gone, both = 7 if name == "gaps" else 10**6, (X, ROWS)
    both = [np.where(np.arange(1, x.size + 1).reshape(x.shape) % gone, x, np.nan) for x in both]
    return dim(**SERVED[name]).fit(both[0]), both[1]


class TestTorch:
    @over(name=SERVED.keys())
    def test_gives_the_rows_of_transform(self, name):
        model, rows = served(name)
        module = model.to_torch()
        assert isinstance(module, nn.Module)
        assert not module.training
        z = module(torch.from_numpy(rows))
        assert z.dtype == torch.float32
        model = copy.copy(model).set_params(device="cpu")  # where the module is
        assert_allclose(z.numpy(), model.transform(rows), rtol=1e-5, atol=1e-5)
        wide = rows.astype(np.float64)
        double = module.double()(torch.from_numpy(wide)).numpy()
        assert_allclose(double, model.transform(wide), rtol=1e-8, atol=1e-8)
        if "couplings" in name:
            assert any(isinstance(part, Couplings) for part in model.refinement_.modules())

    def test_shares_nothing_with_the_estimator(self):
        model, rows = served("plain")
        before = model.transform(rows)
        for tensor in model.to_torch().state_dict().values():
            tensor.zero_()
        assert_array_equal(model.transform(rows), before)

    def test_a_target_or_a_scaling_without_a_form_in_torch(self):
        model = dim(target=UniformBall()).fit(X)
        fails("target=False", model.to_torch)
        z = model.to_torch(target=False)(torch.from_numpy(ROWS)).double().numpy()
        assert_allclose(model.target_.push(z), model.transform(ROWS), rtol=1e-5, atol=1e-6)
        fails("has no form in torch", dim(scaling=StandardScaler()).fit(X).to_torch)


class TestPieces:
    @over(distribution=[Uniform(-3.0, 5.0), stats.beta(2, 5), stats.t(3)])
    def test_tables_of_targets_are_exact(self, distribution):
        target = Independent(distribution).bind(1)
        z = np.linspace(-12, 12, 20001)[:, None]
        x, expected = target_module(target)(torch.from_numpy(z)).numpy(), target.push(z)
        near = np.abs(z) < 8  # beyond are the tails that a table does not have
        assert_allclose(x[near], expected[near], rtol=1e-6, atol=1e-9)
        assert (np.diff(x[:, 0]) >= -1e-12).all()
        assert expected.min() <= x.min() <= x.max() <= expected.max()

    @over(dtype=[np.float32, np.float64])
    def test_normal_scores_are_those_of_scikit_learn(self, dtype):
        rng = np.random.default_rng(0)
        rows = np.stack([rng.normal(size=500), rng.poisson(2, 500), np.ones(500)], 1).astype(dtype)
        fitted = QuantileTransformer(n_quantiles=100, output_distribution="normal").fit(rows)
        module = NormalScores(fitted.quantiles_, fitted.references_)
        rows = np.concatenate([rows, 1.5 * rows, -rows])
        rows[7] = np.nan
        scores = module(torch.from_numpy(rows)).numpy()
        assert scores.dtype == dtype
        assert_allclose(scores, fitted.transform(rows), rtol=1e-5, atol=1e-7)
        with mock.patch("torch.compiler.is_compiling", return_value=True):
            assert_allclose(module(torch.from_numpy(rows)).numpy(), scores, rtol=1e-12)


@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_gives_the_rows_of_transform(name, tmp_path, caplog):
    model, rows = served(name)
    model.to_onnx(tmp_path / "model.onnx")
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert not warned  # such as that torchvision is not installed
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [v.name for v in session.get_inputs() + session.get_outputs()] == ["X", "Z"]
    for n in (1, 2, len(rows)):
        (z,) = session.run(["Z"], {"X": rows[:n]})
        assert_allclose(z, model.transform(rows[:n]), rtol=1e-5, atol=1e-5)


QUIET = """
    import os, sys
    import numpy as np
    import torch._dynamo  # the first optimizer of a process does; torch 2.9 writes a template then
    from sknoisydim import NoisyDIMTransformer

    rows = np.random.default_rng(0).normal(size=(300, 3))
    given = {"target": "uniform", "scaling": "quantile", "critic": "concat", "supervision": 0.5}
    given |= {"early_stopping": True, "bound": "dv", "augmentation": "mixup", "clean_weight": 0.5}
    given |= {"refine": "rotation"}
    models = [NoisyDIMTransformer(max_epochs=2, **parameters) for parameters in ({}, given)]
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
    EVENTS = {f"os.{name}" for name in "system exec fork forkpty posix_spawn spawn".split()}
    EVENTS |= {f"os.{name}" for name in "mkdir remove rename rmdir link symlink truncate".split()}
    EVENTS |= {"shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp"}
    EVENTS |= {"pickle.find_class", "pty.spawn"}
    NETWORK = ("socket", "subprocess", "urllib", "http", "ftplib", "smtplib")
    found = []

    def hook(event, arguments):
        if event == "open":
            name, mode, flags = arguments
            wanted = set(mode or "") & set("wax+") or (mode is None and flags & WRITING)
            if wanted and name != os.devnull:
                found.append((event, str(name), mode))
        elif event == "os.mkdir" and "torchinductor" in str(arguments[0]):
            pass  # an empty folder, made by the first optimizer of a process: torch's own doing
        elif event in EVENTS or event.split(".")[0] in NETWORK:
            found.append((event, repr(arguments)))

    sys.addaudithook(hook)
    open(os.devnull, "w").close()
    y = np.arange(300) % 3
    for model in models:
        model.fit(rows, y).transform(rows)
        model.score(rows), model.score_samples(rows), model.retarget("normal")
    assert found == [], found

    # The hook sees what it is for.
    os.mkdir(sys.argv[1])
    open(os.path.join(sys.argv[1], "x"), "w").close()
    assert [event for event, *_ in found] == ["os.mkdir", "open"], found
"""


def test_fit_and_transform_use_no_network_no_process_and_no_file(tmp_path):
    run_python(QUIET, tmp_path / "folder", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
