"""What holds on a CUDA device, and between one and the CPU; skipped where there is none."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from sknoisydim import NoisyDIMTransformer

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(4000, 6)) @ RNG.normal(size=(6, 12))).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
VARIANTS = {
    "defaults": {},
    "clean": {"clean_weight": 1.0},
    "labels": {"supervision": 0.5},
    "stopping": {"early_stopping": True},
    "bf16": {"precision": "bf16"},
}
variants = pytest.mark.parametrize("parameters", VARIANTS.values(), ids=VARIANTS)


def dim(**parameters):
    defaults = {"max_epochs": 30, "device": "cuda", "random_state": 0}
    return NoisyDIMTransformer(6, **defaults | parameters)


@variants
def test_tells_as_much_as_on_the_cpu(parameters):
    there, here = (dim(device=device, **parameters).fit(X, Y) for device in ("cuda", "cpu"))
    assert there.score(X) == pytest.approx(here.score(X), abs=0.03)
    Z = there.transform(X)
    np.testing.assert_allclose(np.cov(Z.T, bias=True), np.eye(6), atol=0.05)


@variants
def test_embeds_the_same_on_both(parameters):
    model = dim(**parameters).fit(X, Y)
    on_cpu = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    # TF32 is off unless a user turns it on: what differs is the order of sums.
    np.testing.assert_allclose(model.transform(X), on_cpu.transform(X), atol=1e-4)
    exact = X.astype(np.float64)
    np.testing.assert_allclose(model.transform(exact), on_cpu.transform(exact), atol=1e-9)


def test_weights_are_on_the_cpu_after_a_fit():
    model = dim().fit(X)
    assert {p.device.type for p in model.net_.module_.parameters()} == {"cpu"}


def test_loads_on_a_machine_without(tmp_path):
    model = dim().fit(X)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, sys, numpy as np, torch\n"
        "assert not torch.cuda.is_available()\n"
        "model = pickle.load(open(sys.argv[1] + '/model.pkl', 'rb')).set_params(device='auto')\n"
        "np.save(sys.argv[1] + '/Z.npy', model.transform(np.load(sys.argv[1] + '/X.npy')))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={"CUDA_VISIBLE_DEVICES": ""}, check=True
    )
    np.testing.assert_allclose(np.load(tmp_path / "Z.npy"), model.transform(X), atol=1e-4)


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path):
    from skorch.callbacks import Callback

    class Stop(Callback):
        at = 10

        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == self.at:
                raise RuntimeError("power cut")

    whole = dim().fit(X)
    with pytest.raises(RuntimeError, match="power cut"):
        dim(checkpoint=tmp_path, callbacks=[Stop()]).fit(X)
    Stop.at = None
    resumed = dim(checkpoint=tmp_path, callbacks=[Stop()]).fit(X)
    np.testing.assert_allclose(resumed.transform(X), whole.transform(X), atol=1e-5)


def test_a_stream_goes_on(tmp_path):
    model = dim()
    for part in np.array_split(X, 4):
        model.partial_fit(part)
    assert np.isfinite(model.transform(X)).all()
    assert model.n_samples_seen_ == len(X)
