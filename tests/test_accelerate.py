"""Training in several processes is that of one, and ends when one of them does."""

import copy
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from over import over
from small import fails, small
from test_images import Convolutions
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._linear import ALL
from sknoisydim._modules import Dropout
from sknoisydim.bounds import BOUNDS, infonce
from sknoisydim.distributed import fit_data_parallel
from sknoisydim.distributed._accelerate import SharedRows, WholeBatch
from sknoisydim.encoders import MLPEncoder

ROOT = Path(__file__).parents[1]
# Seconds: to start a process and import all that it needs, on a machine with other work.
START = 180


def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(600, 6)) @ rng.normal(size=(6, 6)), np.arange(600) % 3


model = small(3, batch_size=128, max_epochs=5)
VIEWS = {"clean_weight": 0.5}
# Whole fits: the loss to 1e-5 and the embedding to 1e-3. Training is chaotic: for some seeds a
# change of the rows by 3e-7 moves the loss of one process by 6e-5. Hence few epochs, and the seed
# of the third.
FITS = {
    "default": {"random_state": 1},
    "classes, rows held out": {"supervision": 0.5, "early_stopping": True, "random_state": 1},
    "uneven shares": {"batch_size": 101},
    "batch normalisation": {"normalization": "batch", "augmentation": "mixup"} | VIEWS,
    "images": {"encoder": Convolutions, "max_epochs": 3, "augmentation": "jitter"} | VIEWS,
}
# Objectives beside the default one with each bound.
OBJECTIVES = {
    **{name: {"bound": name} for name in BOUNDS},
    "bound that knows nothing of processes": {"bound": lambda scores: infonce(scores)},
    "clean rows alone": {"clean_weight": 1.0, "augmentation": None},
    "views alone": {"clean_weight": 0.0},
    "exact, nwj": {"critic": "exact", "bound": "nwj"},
    "bilinear, dv": {"critic": "bilinear", "bound": "dv"},
    "concat, smile": {"critic": "concat", "bound": "smile"},
    "uniform noise": {"noise": "uniform"},
}


def every_case(fit):
    """Yield name, losses and embedding of each case that `fit` has returned a model of."""
    X, y = table()
    images = X.reshape(600, 1, 2, 3).repeat(2, 2).repeat(2, 3)
    for name, parameters in FITS.items():
        rows = images if name == "images" else X
        fitted = fit(model(**parameters), rows, y)
        if fitted is not None:
            yield name, np.array(fitted.history_["train_loss"]), fitted.transform(rows)


@pytest.fixture
def launch(tmp_path):
    """Start the processes of a run, as a launcher does, and end those that are left."""
    started = []

    def launch(script):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        env |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        for rank in "01":
            own = env | {"RANK": rank, "LOCAL_RANK": rank}
            started.append(subprocess.Popen(command, env=own, cwd=tmp_path, **pipes))
        return started

    yield launch
    for process in started:
        process.kill()
        process.communicate()  # closes the pipes, too


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes_are_one_of_which_the_main_one_prints_and_returns(launch, tmp_path):
    ranks = launch(
        """
        import pickle
        from skorch.callbacks import PrintLog
        from sknoisydim.distributed import fit_data_parallel
        from test_accelerate import every_case, model, table

        found = list(every_case(fit_data_parallel))
        X, y = table()
        watched = model(verbose=2, max_epochs=2, callbacks=[PrintLog()], random_state=None)
        fitted = fit_data_parallel(watched, X)
        if fitted is None:
            assert not found and not hasattr(watched, "net_"), "left as it was"
        else:
            with open("found.pkl", "wb") as file:
                pickle.dump(found, file)
            assert fitted is watched
            Z = fitted.transform(X)
            assert (pickle.loads(pickle.dumps(fitted)).transform(X) == Z).all()
            assert fitted.partial_fit(X[:100]).n_samples_seen_ == 700
            print("fitted", type(fitted.net_.module_.encoder).__name__)
        # A warm start goes on from what the main process alone has.
        again = model(warm_start=True, max_epochs=2)
        for _ in range(2):
            result = fit_data_parallel(again, X)
        if result is not None:
            print("warm", len(again.history_["epoch"]))
        """
    )
    (out, err), other = (rank.communicate(timeout=540) for rank in ranks)
    assert ([rank.returncode for rank in ranks], *other) == ([0, 0], "", ""), err
    assert out.count("epoch ") >= 2
    assert "fitted Sequential" in out
    assert "warm 2" in out
    found = np.load(tmp_path / "found.pkl", allow_pickle=True)
    wanted = list(every_case(lambda estimator, X, y: estimator.fit(X, y)))
    for (case, loss, Z), (same, its_loss, its_Z) in zip(wanted, found, strict=True):
        assert case == same
        # Embeddings have unit variance; a loss is a weighted sum of nats, and of about 20 here.
        np.testing.assert_allclose(its_Z, Z, rtol=0, atol=1e-3, err_msg=case)
        most = np.abs(loss).max()
        np.testing.assert_allclose(its_loss, loss, rtol=0, atol=1e-5 * most, err_msg=case)


ENDLESS = """
    import faulthandler, sys
    faulthandler.dump_traceback_later({limit}, exit=True)  # whatever happens, the test ends
    from skorch.callbacks import Callback
    from sknoisydim.distributed import fit_data_parallel
    from test_accelerate import model, table

    class Here(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                print("here", flush=True)

    fit_data_parallel(model(max_epochs=100_000, callbacks=[Here()]), table()[0], timeout={timeout})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "timeout", "victim"),
    [(signal.SIGKILL, 300, 1), (signal.SIGSTOP, 10, 0)],
    ids=["dies", "hangs"],
)
def test_a_process_that_is_gone_ends_the_run(launch, number, timeout, victim):
    ranks = launch(ENDLESS.format(timeout=timeout, limit=START))
    for rank in ranks:
        assert rank.stdout.readline() == "here\n", rank.communicate(timeout=START)[1]
    ranks[victim].send_signal(number)
    _, err = ranks[1 - victim].communicate(timeout=60)
    assert ranks[1 - victim].returncode != 0
    assert f"Process {1 - victim} of 2 waited for the others" in err


@pytest.mark.slow
def test_example_runs_as_it_says():
    launcher = Path(sys.executable).parent / "accelerate"
    script = ROOT / "examples" / "accelerate_fit.py"
    command = [launcher, "launch", "--num_processes", "2", "--cpu", script, "--max-epochs", "3"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    first, *rest = subprocess.check_output(command, text=True, env=env, timeout=START).splitlines()
    assert first == "2 processes, batches of 512 rows in all"
    assert len(rest) == 2, "rank 0 alone prints"


class TestOneProcess:
    @pytest.fixture(autouse=True)
    def alone(self, monkeypatch):
        for name in ("MASTER_ADDR", "WORLD_SIZE", "RANK", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)

    def test_is_fit(self):
        X, y = table()
        one = fit_data_parallel(model(supervision=0.5), X, y, X_val=X[:50])
        wanted = model(supervision=0.5).fit(X, y, X_val=X[:50])
        np.testing.assert_array_equal(one.transform(X), wanted.transform(X))
        assert one.history_["valid_loss"] == wanted.history_["valid_loss"]

    def test_wrong_input(self, monkeypatch):
        from accelerate import Accelerator

        X, alone = table()[0], Accelerator()
        wrong = partial(fails, error=TypeError)
        message = r"accelerate\.Accelerator, got 'cpu'"
        wrong(message, fit_data_parallel, model(), X, accelerator="cpu")
        wrong("takes a NoisyDIMTransformer", fit_data_parallel, MLPEncoder(), X)
        wrong("estimator is a class", fit_data_parallel, NoisyDIMTransformer, X)
        fails("timeout", fit_data_parallel, model(), X, timeout=0)
        two = Accelerator(gradient_accumulation_steps=2)
        fails("accumulation_steps=2", fit_data_parallel, model(), X, accelerator=two)
        monkeypatch.setenv("WORLD_SIZE", "2")
        fails(r"started 2 processes.* knows of 1", fit_data_parallel, model(), X, accelerator=alone)
        monkeypatch.setitem(sys.modules, "accelerate", None)
        fails(r"sknoisydim\[accelerate\]", fit_data_parallel, model(), X, error=ImportError)


class TogetherRows(SharedRows):
    """The rows of one of several processes that run as threads, in step."""

    def __init__(self, rank, given, barrier):
        super().__init__(rank, len(given))
        self.given, self.barrier = given, barrier

    def total(self, value, how="SUM"):
        self.given[self.rank] = value.detach()
        self.barrier.wait(60)
        found = torch.stack(self.given)
        self.barrier.wait(60)
        return found.sum(0) if how == "SUM" else found.amax(0)


def together(work, n_ranks):
    """Return what each of several processes makes of its rows."""
    given, barrier = [None] * n_ranks, threading.Barrier(n_ranks)
    with ThreadPoolExecutor(n_ranks) as pool:
        return list(pool.map(work, [TogetherRows(i, given, barrier) for i in range(n_ranks)]))


class TestSharedRows:
    """Rows of pairs, each in a thread: value and gradient are those of all."""

    N = 23

    @over(parameters=OBJECTIVES)
    def test_are_a_sum(self, parameters):
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(self.N, 3, generator=generator)
        given = {"clean_weight": 0.5, "augmentation": "jitter", "max_epochs": 1}
        fitted = model(**given | parameters).fit(table()[0])
        objective = copy.deepcopy(fitted.net_.module_).train()
        objective.encoder = nn.Identity()

        def work(rows):
            one = copy.deepcopy(objective)
            one.rows = rows
            x = z.clone().requires_grad_()
            nats = one(x, [z[:, :2]], torch.Generator().manual_seed(1))
            nats.objective.backward()
            gradients = [p.grad.flatten() for p in one.parameters() if p.grad is not None]
            return nats.objective.item(), x.grad, torch.cat([torch.zeros(1), *gradients])

        (value, by_rows, weights), close = work(ALL), {"rtol": 1e-3, "atol": 1e-5}
        for n_ranks in (2, 5):
            found = together(work, n_ranks)
            assert [part[0] for part in found] == pytest.approx([value] * n_ranks, rel=1e-5)
            torch.testing.assert_close(sum(part[1] for part in found), by_rows, **close)
            torch.testing.assert_close(sum(part[2] for part in found), weights, **close)

    def test_all_processes_do_one_fit_and_have_rows_of_it(self, monkeypatch):
        fails("2 samples is shared among 3", SharedRows(0, 3).part, 2)

        def other(told):
            return [told[0], {name: said.replace("5", "9") for name, said in told[0].items()}]

        monkeypatch.setattr("accelerate.utils.gather_object", other)
        SharedRows(0, 2).check({"lr": "0.1", "device": "cuda:5"})
        with pytest.raises(ValueError, match=r"process 1 was .*: X was \(9, 9\) and is \(5, 5\)\."):
            SharedRows(0, 2).check({"X": "(5, 5)", "lr": "0.1", "device": "cuda:0"})


DROPOUTS = [nn.Dropout(0.4), nn.Dropout(0.4, inplace=True), nn.Dropout1d(0.4), Dropout(0.4, 1)]


class TestWholeBatch:
    @over(layer=DROPOUTS)
    def test_drops_what_one_process_drops(self, layer):
        x = torch.rand(7, 3, 5, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(1)
        wanted, found = copy.deepcopy(layer)(x.clone()), []
        for rank in range(3):
            rows = SharedRows(rank, 3)
            torch.manual_seed(1)
            with WholeBatch(rows, len(x)):
                found.append(copy.deepcopy(layer)(x[rows.part(7)].clone()))
        torch.testing.assert_close(torch.cat(found), wanted)
        assert 0 < (wanted == 0).float().mean() < 1

    def test_what_cannot_be_shared_is_refused_in_training(self):
        with WholeBatch(SharedRows(0, 2), 4):
            nn.AlphaDropout().eval()(torch.ones(2, 3))
            with pytest.raises(TypeError, match="alpha_dropout, which cannot be shared"):
                nn.AlphaDropout()(torch.ones(2, 3))

    @over(dtype=[torch.float32, torch.bfloat16])
    def test_batch_normalisation_in_either_precision(self, dtype):
        x = 3 + torch.randn(63, 5)
        layer = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))

        def work(rows):
            own = copy.deepcopy(layer)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                return rows.encode(own, x), *own.buffers()

        wanted = work(ALL)
        for found in together(work, 2):
            assert found[0].dtype == dtype
            torch.testing.assert_close(found, wanted)
