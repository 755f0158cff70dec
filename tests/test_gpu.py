"""What holds on a CUDA device, and between one and the CPU; skipped where there is none."""

import pickle

import numpy as np
import pytest
import torch
from over import over
from small import OFTEN, Perceptron, PowerCut, fails, small

from sknoisydim._modules import make_generator, mlp
from sknoisydim._net import _checkpoint
from sknoisydim._objective import Objective
from sknoisydim._settings import resolve_device
from sknoisydim.augmentations import resolve_augmentation
from sknoisydim.bounds import BOUNDS, resolve_bound
from sknoisydim.critics import CRITICS
from sknoisydim.encoders import MLPEncoder
from sknoisydim.noise import GaussianNoise
from sknoisydim.normalization import NORMALIZATIONS

pytestmark = pytest.mark.gpu
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(4000, 6)) @ RNG.normal(size=(6, 12))).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
VARIANTS = {
    "defaults": {},
    "clean": {"clean_weight": 1.0},
    "labels": {"supervision": 0.5},
    "stopping": {"early_stopping": True},
    "bf16": {"encoder": MLPEncoder(precision="bf16")},
}
dim = small(6, max_epochs=30, refine="rotation", device="cuda")


@over(parameters=VARIANTS)
def test_tells_as_much_as_on_the_cpu_and_embeds_the_same(parameters):
    model, here = (dim(device=device, **parameters).fit(X, Y) for device in ("cuda", "cpu"))
    assert model.score(X) == pytest.approx(here.score(X), abs=0.03)
    np.testing.assert_allclose(np.cov(model.transform(X).T, bias=True), np.eye(6), atol=0.05)
    on_cpu = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    # TF32 is off unless a user turns it on: what differs is the order of sums.
    np.testing.assert_allclose(model.transform(X), on_cpu.transform(X), atol=1e-4)
    exact = X.astype(np.float64)
    np.testing.assert_allclose(model.transform(exact), on_cpu.transform(exact), atol=1e-9)
    assert resolve_device("auto") == resolve_device("cuda") == torch.empty(0, device="cuda").device


# torch says once a process that it does not see every wait.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@over(bound=list(BOUNDS), normalization=list(NORMALIZATIONS))
def test_a_step_waits_for_nothing(normalization, bound):
    x = torch.from_numpy(X[:256]).cuda()
    channel = GaussianNoise().build(6, len(x))
    generator = make_generator(0)
    for critic in CRITICS.values():
        objective = Objective(
            mlp(12, [32], 6, generator, batch_norm=True, dropout=0.1),
            NORMALIZATIONS[normalization]().build(6),
            channel,
            critic().build(6, channel, generator),
            resolve_bound(bound),
            resolve_augmentation("masking"),
            0.5,
        ).cuda()
        optimizer = torch.optim.AdamW(objective.parameters(), fused=True)
        drawn = make_generator(0, x.device)
        try:
            for mode in ("default", "error"):  # the first step makes states, and starts libraries
                torch.cuda.set_sync_debug_mode(mode)
                optimizer.zero_grad()
                (-objective(x, x, drawn).objective).backward()
                optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(p.isfinite().all() for p in objective.parameters())


def test_a_users_module_leaves_the_global_generators_alone():
    before = torch.cuda.get_rng_state_all()
    dim(encoder=Perceptron).fit(X)
    assert all(map(torch.equal, torch.cuda.get_rng_state_all(), before))


@OFTEN
def test_a_checkpoint_goes_on(tmp_path, monkeypatch):
    whole = dim().fit(X)
    monkeypatch.setattr(PowerCut, "at", 10)
    cut = dim(checkpoint=tmp_path, callbacks=[PowerCut()])
    fails("power cut", cut.fit, X, error=RuntimeError)
    assert len(_checkpoint._read(tmp_path / _checkpoint.NAME)["history"]) == 9
    PowerCut.at = None
    np.testing.assert_allclose(cut.fit(X).transform(X), whole.transform(X), atol=1e-5)


# torch's compiler calls what torch deprecates, and would have TF32 turned on.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
def test_a_compiled_encoder_learns_the_same():
    network = torch.nn.Sequential(torch.nn.Linear(12, 64), torch.nn.Tanh(), torch.nn.Linear(64, 6))
    compiled = torch.compile(network, mode="reduce-overhead")
    plain, quick = (dim(encoder=encoder).fit(X).transform(X) for encoder in (network, compiled))
    assert np.abs(plain - quick).mean() < 1e-2
