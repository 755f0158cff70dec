"""Fits that are killed, interrupted, or run out of disk: what is left, and how they go on."""

import copy
import errno
import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import distributed
import joblib
import numpy as np
import pytest
import torch
from around import process
from numpy.testing import assert_array_equal
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import QuantileTransformer
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    LRScheduler,
    PrintLog,
    Unfreezer,
)
from torch import nn

import sknoisydim._transformer
from sknoisydim import NoisyDIMTransformer
from sknoisydim._net import _checkpoint
from sknoisydim._training import _identity
from sknoisydim.encoders import MLPEncoder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
X_VAL = RNG.normal(size=(80, 4))
Y = (X[:, 0] > 0).astype(int)
WEIGHTS = RNG.integers(0, 4, size=200).astype(float)
NAME = _checkpoint.NAME


class Crash(Exception):
    pass


class Bomb(Callback):
    """Raises at the end of an epoch, once it is armed: the fit that goes on has the same one."""

    at = None
    error = Crash

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == Bomb.at:
            raise Bomb.error


@pytest.fixture(autouse=True)
def defused():
    yield
    Bomb.at, Bomb.error = None, Crash


@pytest.fixture(scope="module")
def plain():
    """A fit that nothing breaks."""
    return dim().fit(X)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Write at the end of every epoch."""
    monkeypatch.setattr(_checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(_checkpoint, "SHARE", np.inf)


class Dropping(nn.Module):
    """A user's encoder: weights and dropout from torch's global generator, and a state beside."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(16, n_components),
        )
        self.register_buffer("scale", torch.ones(()), persistent=False)
        self.register_buffer("late", None)
        self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.scale = self.scale + 1e-2
            self.late = torch.full((2,), 1e-2 * self.calls)
        late = 0 if self.late is None else self.late.mean()
        return self.layers(x * self.scale + late * (1 + self.calls % 3))

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


class Meddling(Callback):
    """Acts on training by what it has noted itself."""

    def on_train_begin(self, net, **kwargs):
        self.level = 1.0

    def on_epoch_begin(self, net, **kwargs):
        net.lr = 1e-3 * self.level

    def on_epoch_end(self, net, **kwargs):
        self.level = 0.9 * self.level + float(np.float64(0.1))


def score(net, batches, y):
    return float(net.predict(batches).var())


def quiet(**parameters):
    return EarlyStopping(monitor="train_loss", sink=lambda text: None, **parameters)


# Parameters, what fit is given, and the epoch after which it breaks.
FITS = {
    "last epoch": ({"clean_weight": 1.0, "keep": "kernel_pca"}, {}, 8),
    "early stopping": (
        {"early_stopping": True, "n_iter_no_change": 2, "tol": 1.0, "validation_fraction": 0.3},
        {},
        2,
    ),
    "module": ({"encoder": Dropping}, {}, 1),
    "module in two": ({"encoder": Dropping, "early_stopping": True}, {"X_val": X_VAL}, 5),
    "classes, held-out rows and weights": (
        {"supervision": 0.5},
        {"y": Y, "X_val": X_VAL, "y_val": Y[:80], "sample_weight": WEIGHTS},
        5,
    ),
    "one cycle, amsgrad": (
        {
            "callbacks": [
                LRScheduler(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.01, total_steps=8)
            ],
            "optimizer": lambda p, lr, weight_decay: torch.optim.Adam(p, lr=lr, amsgrad=True),
        },
        {},
        5,
    ),
    "plateau, moving average": (
        {
            "callbacks": [LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0)],
            "bound": "dv",
            "optimizer": "sgd",
        },
        {},
        5,
    ),
    "stopping": (
        {"callbacks": [quiet(patience=3, threshold=0.3, threshold_mode="abs", load_best=True)]},
        {},
        4,
    ),
    "frozen": ({"callbacks": [Freezer("critic.*"), Unfreezer("critic.*", at=3)]}, {}, 2),
    "callbacks": (
        {
            "callbacks": [
                Freezer("critic.*"),
                Unfreezer("critic.*", at=3),
                EpochScoring(score, on_train=True),
                PrintLog(sink=str),
                Meddling(),
            ]
        },
        {},
        5,
    ),
    "exact critic, batch normalisation, schedule of steps": (
        {
            "critic": "exact",
            "encoder": MLPEncoder((8,), batch_norm=True, dropout=0.2),
            "callbacks": [LRScheduler("CyclicLR", base_lr=1e-4, max_lr=1e-2, step_every="batch")],
        },
        {},
        5,
    ),
    "scaling of scikit-learn, uniform noise, bar": (
        {
            "scaling": QuantileTransformer(n_quantiles=20),
            "refine": "rotation",
            "noise": "uniform",
            "n_components": 2,
            "verbose": 1,
        },
        {},
        5,
    ),
}
fits = pytest.mark.parametrize(("parameters", "given", "epoch"), FITS.values(), ids=FITS)


def dim(**parameters):
    defaults = {"max_epochs": 8, "batch_size": 32, "random_state": 0}
    defaults |= {"clean_weight": 0.5, "keep": None}  # a critic, and fits that are quick
    if "encoder" not in parameters:
        defaults["encoder"] = MLPEncoder((8,), dropout=0.3)
    callbacks = [*parameters.pop("callbacks", []), Bomb()]
    return NoisyDIMTransformer(callbacks=callbacks, **defaults | parameters)


def break_at(epoch, model, rows=X, error=Crash, **given):
    """Let a fit break at the end of an epoch; the callback comes before the checkpoint."""
    Bomb.at, Bomb.error = epoch, error
    with pytest.raises(error):
        model.fit(rows, **given)
    Bomb.at = None
    return model


def without_times(history):
    return {k: v for k, v in history.items() if not k.endswith(("seconds", "dur"))}


def check_equal(model, other, rows=X):
    assert_array_equal(model.transform(rows), other.transform(rows))
    assert model.mutual_information_ == other.mutual_information_
    assert model.n_epochs_ == other.n_epochs_
    history, expected = without_times(model.history_), without_times(other.history_)
    assert history == expected


class TestGoingOn:
    @fits
    def test_gives_what_was_to_come(self, parameters, given, epoch, tmp_path, capsys):
        expected = dim(**parameters).fit(X, **given)
        assert expected.n_epochs_ >= epoch
        broken = break_at(epoch, dim(checkpoint=tmp_path, **parameters), **given)
        assert not hasattr(broken, "net_")
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
        again = dim(checkpoint=str(tmp_path), **parameters)
        check_equal(again.fit(X, **given), expected)
        assert list(tmp_path.iterdir()) == []

    def test_runs_no_epoch_twice(self, tmp_path):
        class Counting(Callback):
            epochs = 0

            def on_epoch_begin(self, net, **kwargs):
                Counting.epochs += 1

        for epoch in (3, 6):
            break_at(epoch, dim(checkpoint=tmp_path, callbacks=[Counting()]))
        dim(checkpoint=tmp_path, callbacks=[Counting()]).fit(X)
        # The epoch that breaks is not written any more, so it is run again.
        assert Counting.epochs == 8 + 2

    def test_after_the_last_epoch(self, tmp_path, monkeypatch):
        def fail(*arguments):
            raise Crash

        expected = dim(refine="rotation").fit(X)
        with monkeypatch.context() as patch:
            patch.setattr("sknoisydim._training._fit.refine", fail)
            with pytest.raises(Crash):
                dim(refine="rotation", checkpoint=tmp_path).fit(X)
        check_equal(dim(refine="rotation", checkpoint=tmp_path).fit(X), expected)

    def test_a_warm_start(self, tmp_path):
        callbacks = [LRScheduler("StepLR", step_size=3, gamma=0.5)]
        model = dim(warm_start=True, callbacks=callbacks).fit(X)
        killed = copy.deepcopy(model).set_params(checkpoint=tmp_path)
        fresh = pickle.loads(pickle.dumps(killed))
        break_at(5, killed)
        assert killed.n_epochs_ == 8
        check_equal(fresh.fit(X), model.fit(X))

    def test_without_a_seed(self, tmp_path, monkeypatch):
        break_at(5, dim(random_state=None, checkpoint=tmp_path))
        model = dim(random_state=None, checkpoint=tmp_path).fit(X)
        monkeypatch.setattr(
            sknoisydim._transformer, "draw_seed", lambda state: model.training_state_["seed"]
        )
        check_equal(model, dim(random_state=None).fit(X))
        monkeypatch.undo()
        other = dim(random_state=None, checkpoint=tmp_path).fit(X)
        assert other.training_state_["seed"] != model.training_state_["seed"]

    def test_a_random_state_in_the_same_state(self, tmp_path):
        state = np.random.RandomState(3)
        break_at(5, dim(random_state=state, checkpoint=tmp_path))
        with pytest.raises(ValueError, match=r"random_state was of seed \d+ and is of seed \d"):
            dim(random_state=state, checkpoint=tmp_path).fit(X)
        again = dim(random_state=np.random.RandomState(3), checkpoint=tmp_path).fit(X)
        check_equal(again, dim(random_state=np.random.RandomState(3)).fit(X))

    @pytest.mark.parametrize("parameter", ["target", "verbose"])
    def test_what_plays_no_part_in_the_epochs_may_change(self, parameter, tmp_path, capsys):
        change = {parameter: {"target": "uniform", "verbose": 2}[parameter]}
        break_at(5, dim(checkpoint=tmp_path))
        check_equal(dim(checkpoint=tmp_path, **change).fit(X), dim(**change).fit(X))

    def test_the_bar_goes_on(self, tmp_path, capsys):
        class Reading(Callback):
            def on_epoch_begin(self, net, **kwargs):
                shown.extend(item.bar_.n for _, item in net.callbacks_ if hasattr(item, "bar_"))

        shown = []
        model = dim(checkpoint=tmp_path, verbose=1, callbacks=[Reading()])
        break_at(5, model).fit(X)
        assert shown == [0, 1, 2, 3, 4, 0, 5, 6, 7]
        assert "8/8" in capsys.readouterr().err

    def test_callbacks_of_scikit_learn(self, tmp_path, plain):
        callback = pytest.importorskip(
            "sklearn.callback", reason="scikit-learn < 1.9 has no callbacks"
        ).ProgressBar()
        break_at(5, dim(checkpoint=tmp_path).set_callbacks(callback))
        check_equal(dim(checkpoint=tmp_path).set_callbacks(callback).fit(X), plain)

    def test_a_checkpoint_of_skorch_beside_it(self, tmp_path):
        def make(name):
            skorchs = Checkpoint(
                monitor="train_loss_best", dirname=str(tmp_path / "skorch"), load_best=True
            )
            return dim(callbacks=[skorchs], checkpoint=None if name is None else tmp_path / name)

        expected = make(None).fit(X)
        break_at(5, make("ours"))
        check_equal(make("ours").fit(X), expected)


def lie(path, **changes):
    """Change the head of a checkpoint, and seal it anew."""
    first, _, head, body = path.read_bytes().split(b"\n", 3)
    head = json.loads(head)
    head["identity"] |= changes
    seal(path, first, json.dumps(head).encode(), body)


def seal(path, first, head, body):
    rest = head + b"\n" + body
    digest = hashlib.sha256(rest).hexdigest().encode()
    path.write_bytes(b"\n".join([first, digest, rest]))


def changed(array):
    array = array.copy()
    array[17] += 1
    return array


#: What differs from a fit with classes, and what the error says.
OTHERS = {
    "refinement": ({"refine": "rotation"}, {}, "refine was None and is set;"),
    "classes": ({}, {"y": 1 - Y}, r"y was int64 \(200,\) \S+ and is int64 \(200,\)"),
    "parameter": ({"lr": 0.1}, {}, r"lr was 0\.003 and is 0\.1"),
    "epochs": ({"max_epochs": 9}, {}, "max_epochs was 8 and is 9"),
    "two": ({"lr": 0.1, "batch_size": 16}, {}, r"batch_size was 32 and is 16; lr was"),
    "component": ({"noise": 0.5}, {}, r"noise was sknoisydim\.noise\..* and is .*0\.5"),
    "seed": ({"random_state": 1}, {}, r"random_state was of seed \d+ and is of seed \d+"),
    "callbacks": ({"callbacks": [LRScheduler("StepLR", step_size=3)]}, {}, "callbacks was "),
    "network": ({"encoder": MLPEncoder((9,))}, {}, r"encoder was .*=\[8\].* and is .*=\[9\]"),
    "rows": ({}, {"X": changed(X)}, r"X was float64 \(200, 4\) sha256:\w+ and is float64 \(200, 4"),
    "fewer rows": ({}, {"X": X[:-1]}, r"X was float64 \(200, 4\) .* and is float64 \(199, 4\)"),
    "dtype": ({}, {"X": X.astype(np.float32)}, r"X was float64 .* and is float32"),
    "weights": ({}, {"sample_weight": WEIGHTS + 1}, "sample_weight was None and is float64"),
    "held-out rows": ({}, {"X_val": X_VAL}, r"X_val was not there and is float64 \(80, 4\)"),
    "early stopping": ({"early_stopping": True}, {}, r"early_stopping was None and is "),
}


class TestAnotherFit:
    def test_is_refused(self, tmp_path):
        common = {"checkpoint": tmp_path, "supervision": 0.5}
        break_at(5, dim(**common), y=Y)
        data = (tmp_path / NAME).read_bytes()
        for parameters, given, message in OTHERS.values():
            y = Y[: len(given.get("X", X))]
            with pytest.raises(ValueError, match=message) as raised:
                dim(**common | parameters).fit(**{"X": X, "y": y} | given)
            assert "initial weights" not in str(raised.value)
            assert f"Use another folder, or delete {tmp_path / NAME}" in str(raised.value)
            assert (tmp_path / NAME).read_bytes() == data
        check_equal(dim(**common).fit(X, Y), dim(supervision=0.5).fit(X, Y))

    def test_of_a_module_with_other_weights(self, tmp_path):
        module = nn.Linear(4, 4)
        break_at(5, dim(checkpoint=tmp_path, encoder=module))
        with pytest.raises(ValueError, match=r"another one: initial weights was sha256:"):
            dim(checkpoint=tmp_path, encoder=nn.Linear(4, 4)).fit(X)
        expected = dim(encoder=module).fit(X)
        check_equal(dim(checkpoint=tmp_path, encoder=module).fit(X), expected)

    def test_of_another_version(self, tmp_path):
        break_at(5, dim(checkpoint=tmp_path))
        data = (tmp_path / NAME).read_bytes()
        for library in ("torch", "skorch", "sknoisydim"):
            (tmp_path / NAME).write_bytes(data)
            lie(tmp_path / NAME, **{library: "0.0.1"})
            with pytest.raises(ValueError, match=rf"another one: {library} was 0\.0\.1 and is \d"):
                dim(checkpoint=tmp_path).fit(X)

    def test_of_a_large_table_is_told_by_some_of_its_rows(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_identity, "HASHED_BYTES", 10 * X[0].nbytes)
        break_at(5, dim(checkpoint=tmp_path))
        rows = X.copy()
        rows[-1] += 1  # the first and the last are always among them
        with pytest.raises(ValueError, match="another one: X was"):
            dim(checkpoint=tmp_path).fit(rows)

    def test_at_the_same_time(self, tmp_path):
        class Second(Callback):
            def on_epoch_end(self, net, **kwargs):
                if len(net.history) == 3 and not Second.begun:
                    Second.begun = True
                    dim(checkpoint=tmp_path, callbacks=[Second()]).fit(X)
                    (tmp_path / NAME).write_bytes(theirs)

            begun = False

        break_at(5, dim(checkpoint=tmp_path / "other"))
        theirs = (tmp_path / "other" / NAME).read_bytes()
        with pytest.raises(ValueError, match=r"another fit writes to .* at the same time"):
            dim(checkpoint=tmp_path, callbacks=[Second()]).fit(X)
        assert (tmp_path / NAME).read_bytes() == theirs

    def test_has_an_identity_without_addresses(self):
        class Own:
            def __init__(self):
                self.rate = 0.25
                self.rng = np.random.default_rng()

        loop = []
        loop += [loop, os.fsync, str.join, partial(Own, 1, a=2), torch.ones(2), {3, 1, 2}, Own()]
        first = _identity.describe(loop)
        loop[-1], loop[-3] = Own(), torch.ones(2)
        assert _identity.describe(loop) == first
        assert "0x" not in first
        assert "rate=0.25" in first
        assert "{1, 2, 3}" in first
        loop[-3][1] = 2
        assert _identity.describe(loop) != first

    def test_has_an_identity_of_what_components_may_hold(self):
        values = [
            np.array(["a", "b"]),
            np.array(["a", "c"]),
            np.array(["a", None], dtype=object),
            np.array(["b", None], dtype=object),
            np.array(["2020-01-01"], dtype="M8[D]"),
            np.arange(3.0)[::-1],
            np.arange(3.0),
            np.arange(3).astype(">f4"),
            torch.zeros(2, dtype=torch.bfloat16),
            torch.ones(2, dtype=torch.bfloat16),
            torch.empty(0),
            slice(0, 2),
            slice(2, 4),
            range(3),
            np.dtype("f4"),
            torch.float32,
            torch.bfloat16,
            np.random.RandomState(0),
            np.random.RandomState(1),
            np.random.default_rng(0),
            np.random.default_rng(1),
        ]
        told = [_identity.describe(value) for value in values]
        assert len(set(told)) == len(values)
        assert told == [_identity.describe(copy.deepcopy(value)) for value in values]


class TestDamage:
    DAMAGES = (
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:-500] + bytes([data[-500] ^ 1]) + data[-499:],
        lambda data: data.replace(b'"epoch": 4', b'"epoch": 5'),
        lambda data: b"something else\n" * 3,
    )

    def test_is_told_and_training_starts_again(self, tmp_path, plain):
        break_at(5, dim(checkpoint=tmp_path))
        path = tmp_path / NAME
        data = path.read_bytes()
        for damage in self.DAMAGES:
            path.write_bytes(damage(data))
            assert path.read_bytes() != data
            with pytest.warns(RuntimeWarning, match=r"fit\.checkpoint is damaged: training starts"):
                model = dim(checkpoint=tmp_path).fit(X)
            check_equal(model, plain)
            assert list(tmp_path.iterdir()) == []

    def test_of_a_newer_version_is_refused(self, tmp_path):
        break_at(5, dim(checkpoint=tmp_path))
        path = tmp_path / NAME
        data = path.read_bytes().replace(b"checkpoint 1\n", b"checkpoint 2\n", 1)
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"has the format version 2, .* reads 1"):
            dim(checkpoint=tmp_path).fit(X)
        assert path.read_bytes() == data

    def test_no_code_is_run(self, tmp_path):
        class Code:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "ran"),)

        break_at(5, dim(checkpoint=tmp_path))
        first, _, head, _ = (tmp_path / NAME).read_bytes().split(b"\n", 3)
        torch.save(Code(), tmp_path / "zip")
        for body in ((tmp_path / "zip").read_bytes(), pickle.dumps(Code(), protocol=2)):
            seal(tmp_path / NAME, first, head, body)
            with pytest.raises(ValueError, match="something else than tensors and plain Python"):
                dim(checkpoint=tmp_path).fit(X)
        assert not (tmp_path / "ran").exists()

    def test_an_unreadable_one_is_not_overwritten(self, tmp_path):
        (tmp_path / NAME).mkdir()
        with pytest.raises(IsADirectoryError):
            dim(checkpoint=tmp_path).fit(X)

    def test_what_a_killed_writer_has_left_is_swept(self, tmp_path):
        break_at(5, dim(checkpoint=tmp_path))
        (tmp_path / f".{NAME}.0123456789abcdef.part").write_bytes(b"half")
        (tmp_path / "mine").write_bytes(b"")
        dim(checkpoint=tmp_path).fit(X)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


class TestTheFile:
    def test_holds_no_rows(self, tmp_path):
        class Looking(Callback):
            """Keeps what it sees, as a user's own may."""

            def on_train_begin(self, net, X=None, **kwargs):
                self.rows, self.batches = X.rows.take(torch.arange(200)), X
                self.table, self.pair = X.rows.X, {"rows": self.rows, "list": [self.rows]}

        model = dim(checkpoint=tmp_path, callbacks=[Looking()], early_stopping=True)
        break_at(5, model, X_val=X_VAL)
        data = (tmp_path / NAME).read_bytes()
        scaled = dim().fit(X).encoder_.scaling(torch.from_numpy(X)).float().numpy()
        for rows in (X, X.astype(np.float32), scaled, X_VAL):
            assert not any(row[:2].tobytes() in data for row in rows)

    def test_is_written_from_time_to_time_only(self, tmp_path, monkeypatch):
        written = []
        monkeypatch.setattr(_checkpoint, "position", lambda *given: written.append(given))
        for seconds, share, count in [(0.0, np.inf, 9), (1e9, np.inf, 1), (0.0, 1e-12, 1)]:
            monkeypatch.setattr(_checkpoint, "SECONDS", seconds)
            monkeypatch.setattr(_checkpoint, "SHARE", share)
            written.clear()
            dim(checkpoint=tmp_path).fit(X)
            assert len(written) == count

    def test_needs_a_state_of_numbers(self, tmp_path):
        class Odd(torch.optim.SGD):
            def step(self, closure=None):
                super().step(closure)
                self.state[self.param_groups[0]["params"][0]]["odd"] = object()

        with pytest.raises(TypeError, match=r"the state of the optimizer holds a object: use"):
            dim(checkpoint=tmp_path, optimizer=Odd).fit(X)


class TestTheParameter:
    def test_is_none_or_a_path(self, tmp_path):
        (tmp_path / "file").touch()
        for value in (3, b"folder", True, Checkpoint(), "", tmp_path / "file"):
            error = ValueError if value == "" or isinstance(value, Path) else TypeError
            with pytest.raises(error, match="checkpoint must be None or the path of a folder"):
                dim(checkpoint=value).fit(X)

    def test_a_folder_is_made(self, tmp_path):
        break_at(2, dim(checkpoint=tmp_path / "a" / "b"))
        assert (tmp_path / "a" / "b" / NAME).is_file()

    def test_a_stream_does_not_write(self, tmp_path):
        dim(checkpoint=tmp_path / "a").partial_fit(X).partial_fit(X)
        assert list(tmp_path.iterdir()) == []

    def test_is_left_out_of_a_file_and_kept_in_a_pickle(self, tmp_path):
        model = dim(checkpoint=tmp_path / "a").set_params(callbacks=None).fit(X)
        model.save(tmp_path / "model")
        loaded = NoisyDIMTransformer.load(tmp_path / "model")
        assert loaded.checkpoint is None
        assert_array_equal(loaded.transform(X), model.transform(X))
        assert pickle.loads(pickle.dumps(model)).checkpoint == tmp_path / "a"
        assert model.checkpoint == tmp_path / "a"
        assert (tmp_path / "a").as_posix().encode() not in (tmp_path / "model").read_bytes()

    def test_a_crafted_file_cannot_set_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sknoisydim._persistence._state.PLACE", "callbacks")
        model = dim(checkpoint=str(tmp_path / "a")).set_params(callbacks=None).fit(X)
        model.save(tmp_path / "model")
        assert NoisyDIMTransformer.load(tmp_path / "model").checkpoint is None


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Filling(Callback):
    """Lets the disk be full from the end of one epoch to that of another, while there is one."""

    patch = None

    def __init__(self, since, until):
        self.since = since
        self.until = until

    def on_epoch_end(self, net, **kwargs):
        if Filling.patch is not None and len(net.history) == self.since:
            Filling.patch.setattr(os, "fsync", full)
        if Filling.patch is not None and len(net.history) == self.until:
            Filling.patch.undo()


@pytest.fixture
def disk(monkeypatch):
    with monkeypatch.context() as patch:
        Filling.patch = patch
        yield patch
        Filling.patch = None


FILLED = """
import resource, sys
import numpy as np
from skorch.callbacks import Callback
from sknoisydim import NoisyDIMTransformer
from sknoisydim._net import _checkpoint

_checkpoint.SECONDS, _checkpoint.SHARE = 0.0, np.inf
folder, X = sys.argv[1], np.random.default_rng(0).normal(size=(200, 4))

class Limit(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

def dim(**parameters):
    return NoisyDIMTransformer(max_epochs=6, batch_size=32, random_state=0, **parameters)

model = dim().fit(X)
model.save(folder + "/model")
limited = dim(checkpoint=folder + "/checkpoint", callbacks=[Limit()]).fit(X)
assert (limited.transform(X) == model.transform(X)).all()
try:
    model.save(folder + "/model")
except OSError as error:
    print(error.strerror)
"""


class TestDisk:
    def test_that_is_full_is_told_once(self, tmp_path, disk, plain):
        with pytest.warns(RuntimeWarning) as told:
            model = dim(checkpoint=tmp_path, callbacks=[Filling(3, None)]).fit(X)
        check_equal(model, plain)
        (warning,) = told
        message = str(warning.message)
        assert str(tmp_path / NAME) in message
        assert os.strerror(errno.ENOSPC) in message
        assert "training goes on, and the last good one stays" in message
        assert list(tmp_path.iterdir()) == []

    def test_the_last_good_one_stays(self, tmp_path, disk, plain):
        with pytest.warns(RuntimeWarning, match="last good one"):
            break_at(6, dim(checkpoint=tmp_path, callbacks=[Filling(4, None)]))
        disk.undo()
        Filling.patch = None
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
        head = json.loads((tmp_path / NAME).read_bytes().split(b"\n", 3)[2])
        assert head["epoch"] == 3
        again = dim(checkpoint=tmp_path, callbacks=[Filling(4, None)])
        check_equal(again.fit(X), plain)

    def test_that_has_room_again_is_written_to(self, tmp_path, disk):
        with pytest.warns(RuntimeWarning, match="last good one"):
            break_at(7, dim(checkpoint=tmp_path, callbacks=[Filling(2, 5)]))
        head = json.loads((tmp_path / NAME).read_bytes().split(b"\n", 3)[2])
        assert head["epoch"] == 6

    def test_a_folder_that_cannot_be_made(self, tmp_path, plain):
        (tmp_path / "file").touch()
        with pytest.warns(RuntimeWarning, match=r"file/a/fit\.checkpoint cannot .*there is none"):
            model = dim(checkpoint=tmp_path / "file" / "a").fit(X)
        check_equal(model, plain)

    def test_a_folder_that_cannot_be_written_to(self, tmp_path, monkeypatch, plain):
        def refuse(path, *arguments, **options):
            if str(path).endswith(".part"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return opened(path, *arguments, **options)

        # Not by the mode of the folder, which means nothing to root.
        opened = open
        monkeypatch.setattr(_checkpoint, "open", refuse, raising=False)
        with pytest.warns(RuntimeWarning, match="Permission denied") as told:
            model = dim(checkpoint=tmp_path).fit(X)
        assert len(told) == 1
        check_equal(model, plain)

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="the system has no limit of file sizes")
    def test_for_real(self, tmp_path):
        """A limit to the size of files stands for a full disk: writing stops in the middle."""
        done = subprocess.run(
            [sys.executable, "-W", "always::RuntimeWarning", "-c", FILLED, tmp_path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == os.strerror(errno.EFBIG)
        assert done.stderr.count("RuntimeWarning: the checkpoint") == 1
        # Neither half a file, nor one that is gone.
        assert {path.name for path in tmp_path.rglob("*")} == {"model", "checkpoint"}
        assert NoisyDIMTransformer.load(tmp_path / "model").transform(X).shape == X.shape


class Late:
    """Raises when it is called the tenth time."""

    def __init__(self, error):
        self.error = error
        self.calls = 0

    def tick(self):
        self.calls += 1
        if self.calls == 10:
            raise self.error


class LateView(Late):
    def __call__(self, x, generator):
        self.tick()
        torch.rand(1)
        return x


class LateEncoder(Late):
    def __call__(self, n_features, n_components):
        module = nn.Linear(n_features, n_components)
        module.register_forward_hook(lambda *given: self.tick())
        return module


class LateCallback(Callback, Late):
    def __deepcopy__(self, memo):
        return self

    def on_batch_end(self, net, **kwargs):
        self.tick()


class TestAnError:
    @pytest.mark.parametrize(
        ("source", "kind", "kept", "fitted"),
        [
            ("augmentation", Crash, True, True),
            ("encoder", Crash, False, False),
            ("callback", Crash, True, False),
            ("augmentation", KeyboardInterrupt, False, True),
            ("encoder", KeyboardInterrupt, True, True),
            ("callback", SystemExit, False, True),
        ],
    )
    def test_leaves_all_as_it_was(self, source, kind, kept, fitted, tmp_path):
        error = kind("from a user")
        parameters = {
            "augmentation": lambda: {
                "augmentation": LateView(error),
                "encoder": Dropping,
                "clean_weight": 0.5,
            },
            "encoder": lambda: {"encoder": LateEncoder(error)},
            "callback": lambda: {"callbacks": [LateCallback(error)]},
        }[source]()
        model = dim(checkpoint=tmp_path if kept else None)
        if fitted:
            model.fit(X)
            embedded = model.transform(X)
        model.set_params(**parameters)
        before, around = dict(vars(model)), process()
        with pytest.raises(kind) as raised:
            model.fit(X)
        assert raised.value is error
        assert vars(model).keys() == before.keys()
        assert all(vars(model)[name] is value for name, value in before.items())
        assert process() == around
        if fitted:
            assert_array_equal(model.transform(X), embedded)

    def test_leaves_the_generators_where_a_fit_goes_on(self, tmp_path):
        break_at(5, dim(encoder=Dropping, checkpoint=tmp_path))
        around = process()
        dim(encoder=Dropping, checkpoint=tmp_path).fit(X)
        assert process() == around


INTERRUPTED = """
import signal, sys, time
import numpy as np
import torch
from around import process
from skorch.callbacks import Callback
from sknoisydim import NoisyDIMTransformer
from sknoisydim._net import _checkpoint

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is deaf to it
_checkpoint.SECONDS, _checkpoint.SHARE = 0.0, np.inf

class Waiting(Callback):
    quick = True
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 5 and not Waiting.quick:
            print("waiting", flush=True)
            while True:
                time.sleep(0.01)


def dim(**parameters):
    encoder = lambda p, d: torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(p, d))
    return NoisyDIMTransformer(
        max_epochs=8, batch_size=32, random_state=0, encoder=encoder, callbacks=[Waiting()],
        **parameters,
    )

X = np.random.default_rng(0).normal(size=(200, 4))
expected = dim().fit(X).transform(X)
Waiting.quick = False
model = dim(checkpoint=sys.argv[1])
before, around = dict(vars(model)), process()
try:
    model.fit(X)
except KeyboardInterrupt:
    print("interrupted", vars(model) == before, process() == around, flush=True)
Waiting.quick = True
print((model.fit(X).transform(X) == expected).all())
"""


class TestInterrupt:
    def test_of_a_process_that_writes_checkpoints(self, tmp_path):
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", INTERRUPTED, tmp_path],
            cwd=Path(__file__).parent,  # for around.py
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout.readline().strip() == "waiting"
            child.send_signal(signal.SIGINT)
            out, _ = child.communicate(timeout=120)
        assert out.splitlines() == ["interrupted True True", "True"]
        assert child.returncode == 0


KILLED = """
import os, signal, sys, time
import numpy as np
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from sknoisydim import NoisyDIMTransformer
from sknoisydim._net import _checkpoint
from sknoisydim.encoders import MLPEncoder

folder, name, mode, out = sys.argv[1:]
_checkpoint.SECONDS, _checkpoint.SHARE = 0.0, np.inf
rng = np.random.default_rng(0)
X, X_val = rng.normal(size=(300, 4)), rng.normal(size=(90, 4))
y, weights = (X[:, 0] > 0).astype(int), rng.integers(0, 4, size=300)

class Pace(Callback):
    def on_train_begin(self, net, **kwargs):
        print("begun", flush=True)
    def on_epoch_end(self, net, **kwargs):
        time.sleep(0.005)

def module(p, d):
    return nn.Sequential(nn.Linear(p, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, d))

parameters, given = {
    "default": ({}, {}),
    "everything": (
        {
            "encoder": module,
            "early_stopping": True,
            "n_iter_no_change": 40,
            "supervision": 0.5,
            "callbacks": [LRScheduler("StepLR", step_size=20, gamma=0.7)],
        },
        {"X_val": X_val, "y": y, "sample_weight": weights},
    ),
}[name]
callbacks = [*parameters.pop("callbacks", []), Pace()]
defaults = {"encoder": MLPEncoder((8,), dropout=0.3), "batch_size": 64, "max_epochs": 120}

fsync, replace, count = os.fsync, os.replace, 0

def die(*arguments):
    global count
    count += 1
    if count == 17:
        os.kill(os.getpid(), signal.SIGKILL)
    return fsync(*arguments) if mode == "in fsync" else replace(*arguments)

def slow(*arguments):
    time.sleep(0.02)
    return fsync(*arguments)

if mode == "slow":
    os.fsync = slow
elif mode == "in fsync":
    os.fsync = die
elif mode == "in replace":
    os.replace = die
model = NoisyDIMTransformer(
    random_state=0, callbacks=callbacks, checkpoint=folder or None, **defaults | parameters
)
model.fit(X, **given)
os.fsync, os.replace = fsync, replace
np.save(out, model.transform(X))
"""


class Killing:
    """Fits in processes of their own, which are killed."""

    def __init__(self, name, tmp_path):
        self.name = name
        self.folder = tmp_path / "checkpoint"
        self.out = tmp_path / "embedding.npy"
        self.epochs = [0]
        self.parts = 0
        self.expected = self.run("", "plain")

    def run(self, folder, mode, seconds=None):
        """Return the embedding, or None where the process was killed."""
        self.out.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", KILLED, folder, self.name, mode, self.out],
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout.readline().strip() == "begun"
            if seconds is not None:
                time.sleep(seconds)
                child.kill()
            child.communicate(timeout=240)
        if child.returncode == 0:
            return np.load(self.out)
        assert child.returncode == -signal.SIGKILL
        if self.folder.exists():
            self.parts += any(path.name.endswith(".part") for path in self.folder.iterdir())
            if (self.folder / NAME).exists():
                head = json.loads((self.folder / NAME).read_bytes().split(b"\n", 3)[2])
                self.epochs.append(head["epoch"])
        return None

    def check(self, embedding):
        assert_array_equal(embedding, self.expected)
        assert list(self.folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
class TestKill:
    def test_while_a_checkpoint_is_written(self, tmp_path):
        killing = Killing("default", tmp_path)
        for n_parts, mode in enumerate(["in fsync", "in replace"], 1):
            assert killing.run(killing.folder, mode) is None
            assert killing.parts == n_parts
            assert killing.epochs[-1] > 0
            killing.check(killing.run(killing.folder, "plain"))

    def test_at_any_moment(self, tmp_path):
        """Six kills of a fit, some of which hit the same run of it one after the other."""
        killing, moments, n_kills = Killing("everything", tmp_path), random.Random(0), 0
        while n_kills < 6:
            mode = ("plain", "slow")[n_kills % 2]
            embedding = killing.run(killing.folder, mode, moments.uniform(0, 1.2))
            if embedding is None:
                n_kills += 1
            else:  # it came to its end before
                killing.check(embedding)
        assert max(killing.epochs) > 0
        killing.check(killing.run(killing.folder, "plain"))


class Deadly:
    """An encoder whose making ends the process; with a file, of whoever makes the file only."""

    def __init__(self, path=None):
        self.path = path

    def __call__(self, n_features, n_components):
        if self.path is None:
            os._exit(1)
        try:
            # Two workers come here at the same time: one of them has to live.
            self.path.touch(exist_ok=False)
        except FileExistsError:
            return nn.Linear(n_features, n_components)
        os._exit(1)


def two_workers():
    """Return a cluster of two processes on this machine."""
    return distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=":0",  # any free port: tests may run beside others
        silence_logs=50,
    )


class TestAGridSearch:
    def test_an_error_costs_its_fit_only(self):
        grid = {"callbacks": [None, [Bomb()]]}
        Bomb.at = 2
        search = GridSearchCV(dim(callbacks=[]), grid, cv=2, error_score=np.nan)
        search.estimator.callbacks = None
        with (
            pytest.warns(FitFailedWarning, match=r"2 fits failed out of a total of 4"),
            pytest.warns(UserWarning, match="test scores are non-finite"),
        ):
            search.fit(X)
        scores = search.cv_results_["mean_test_score"]
        assert np.isfinite(scores).tolist() == [True, False]
        assert search.best_index_ == 0
        assert search.transform(X).shape == X.shape

    @pytest.mark.slow
    def test_a_worker_that_dies_costs_its_fit_only(self, tmp_path):
        grid = {"encoder": [MLPEncoder((8,)), Deadly(tmp_path / "died"), nn.Linear]}
        search = GridSearchCV(dim().set_params(callbacks=None), grid, cv=2, error_score=np.nan)
        with (
            two_workers() as cluster,
            distributed.Client(cluster),
            # Every worker gets the rows: what one has alone is lost with it.
            joblib.parallel_config(backend="dask", scatter=[X]),
        ):
            search.fit(X)
        assert (tmp_path / "died").exists()
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["loky", "dask"])
    def test_a_fit_that_kills_each_of_its_workers_ends_the_search(self, backend):
        """What docs/guide/saving.rst says: an error_score is not set by somebody who is dead."""
        grid = {"encoder": [MLPEncoder((8,)), Deadly()]}
        search = GridSearchCV(dim().set_params(callbacks=None), grid, cv=2, error_score=np.nan)
        if backend == "loky":
            with (
                joblib.parallel_config(backend="loky", n_jobs=2),
                pytest.raises(joblib.externals.loky.process_executor.TerminatedWorkerError),
            ):
                search.fit(X)
            return
        with (
            two_workers() as cluster,
            distributed.Client(cluster),
            joblib.parallel_config(backend="dask", scatter=[X]),
            pytest.raises((distributed.KilledWorker, distributed.client.FutureCancelledError)),
        ):
            search.fit(X)
