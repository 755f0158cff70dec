"""Fits that are killed, interrupted, or run out of disk: what is left, and how they go on."""

import copy
import errno
import hashlib
import io
import itertools
import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from over import over
from sklearn.preprocessing import QuantileTransformer
from skorch import callbacks as ready
from skorch.callbacks import Callback, LRScheduler
from small import OFTEN, Perceptron, PowerCut, fails, without_times

from sknoisydim import NoisyDIMTransformer
from sknoisydim._net import _checkpoint
from sknoisydim._persistence import _file
from sknoisydim.encoders import MLPEncoder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
X_VAL = RNG.normal(size=(80, 4))
Y = (X[:, 0] > 0).astype(int)
WEIGHTS = RNG.integers(0, 4, size=200).astype(float)
NAME = _checkpoint.NAME


@pytest.fixture(autouse=True)
def often():
    with OFTEN:
        yield
    PowerCut.at = None


class Dropping(Perceptron):
    """One with a state beside its weights."""

    calls = 0

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.register_buffer("late", None)

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.late = torch.full((2,), 1e-2 * self.calls)
        late = 0 if self.late is None else self.late.mean()
        return super().forward(x * (1 + late) + late * (1 + self.calls % 3))

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


class Meddling(Callback):
    """Acts on training by what it has noted itself."""

    def on_train_begin(self, net, **kwargs):
        self.level = 1.0

    def on_epoch_begin(self, net, **kwargs):
        net.lr, self.level = 1e-3 * self.level, 0.9 * self.level + float(np.float64(0.1))


ABSOLUTE = {"threshold": 0.3, "threshold_mode": "abs", "sink": str}
STOPPING = ready.EarlyStopping("train_loss", patience=3, load_best=True, **ABSOLUTE)
PLATEAU = LRScheduler("ReduceLROnPlateau", "train_loss", patience=0)
SOME = [ready.Freezer("critic.*"), ready.Unfreezer("critic.*", at=3), ready.PrintLog(sink=str)]
SOME += [Meddling(), LRScheduler("CyclicLR", base_lr=1e-4, max_lr=1e-2, step_every="batch")]
SPREAD = {"scoring": lambda net, batches, y: net.predict(batches).var().item(), "name": "spread"}
SOME += [ready.EpochScoring(**SPREAD, on_train=True)]
STILL = {"early_stopping": 2, "lr": 1e-30, "encoder": MLPEncoder((8,), batch_norm=False)}
NORMED = {"encoder": MLPEncoder((8,), batch_norm=True, dropout=0.2), "optimizer": "sgd"}
QUANTILES = QuantileTransformer(n_quantiles=9)
GIVEN = {"y": Y, "X_val": X_VAL, "y_val": Y[:80], "sample_weight": WEIGHTS}
# The epoch after which a fit breaks, its parameters, and what it is given.
FITS = {
    "default": (1, {}, {}),
    "early stopping": (2, STILL, {"X_val": X_VAL}),
    "module in two": (5, {"encoder": Dropping, "early_stopping": True}, {"X_val": X_VAL}),
    "classes, held-out rows and weights": (5, {"supervision": 0.5}, GIVEN),
    "stopping": (4, {"callbacks": [STOPPING, PLATEAU]}, {}),
    "callbacks": (5, {"callbacks": SOME, "clean_weight": 0.5}, {}),
    "moving averages": (5, {"critic": "exact", "bound": "dv", "clean_weight": 0.5} | NORMED, {}),
    "scaling, refinement": (5, {"scaling": QUANTILES, "refine": "rotation"}, {}),
    "uniform noise, bar": (5, {"noise": "uniform", "n_components": 2, "verbose": 1}, {}),
}


def dim(**parameters):
    defaults = {"max_epochs": 8, "batch_size": 32, "refine": None, "random_state": 0}
    if "encoder" not in parameters:
        defaults["encoder"] = MLPEncoder((8,), dropout=0.3)
    callbacks = [*parameters.pop("callbacks", []), PowerCut()]
    return NoisyDIMTransformer(callbacks=callbacks, **defaults | parameters)


def break_at(epoch, model, rows=X, **given):
    """Let a fit break at the end of an epoch; the callback comes before the checkpoint."""
    PowerCut.at = epoch
    fails("power cut", model.fit, rows, **given, error=RuntimeError)
    PowerCut.at = None
    return model


def check_equal(model, other):
    assert_array_equal(model.transform(X), other.transform(X))
    assert model.mutual_information_ == other.mutual_information_
    assert model.n_epochs_ == other.n_epochs_
    assert without_times(model.history_) == without_times(other.history_)


def seal(path, held):
    """Write a checkpoint with the right digest, whatever it holds."""
    body = io.BytesIO()
    torch.save(held, body)
    digest = hashlib.sha256(body.getbuffer()).hexdigest()
    path.write_bytes(f"{_checkpoint.FORMAT} {digest}\n".encode() + body.getbuffer())


class TestGoingOn:
    @over("epoch, parameters, given", FITS)
    def test_gives_what_was_to_come(self, epoch, parameters, given, tmp_path, capsys):
        expected = dim(**parameters).fit(X, **given)
        assert expected.n_epochs_ >= epoch
        broken = break_at(epoch, dim(checkpoint=tmp_path, **parameters), **given)
        assert not hasattr(broken, "net_")
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
        again = dim(checkpoint=str(tmp_path), **parameters)
        check_equal(again.fit(X, **given), expected)
        assert list(tmp_path.iterdir()) == []

    def test_runs_no_epoch_twice(self, tmp_path, capsys):
        begun, shown = [], []

        class Looking(Callback):
            def on_epoch_begin(self, net, **kwargs):
                begun.append(len(net.history))
                shown.extend(item.bar_.n for _, item in net.callbacks_ if hasattr(item, "bar_"))

        for epoch in (3, 6):
            break_at(epoch, dim(checkpoint=tmp_path, verbose=1, callbacks=[Looking()]))
        dim(checkpoint=tmp_path, verbose=1, callbacks=[Looking()]).fit(X)
        # The epoch that breaks is not written any more, so it is run again.
        assert begun == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8]
        assert shown == [0, 1, 2, 0, 3, 4, 5, 0, 6, 7]
        assert "8/8" in capsys.readouterr().err

    def test_after_the_last_epoch(self, tmp_path):
        model = dim(refine="rotation", checkpoint=tmp_path)
        with mock.patch("sknoisydim._training._fit.refine", side_effect=RuntimeError("broken")):
            fails("broken", model.fit, X, error=RuntimeError)
        check_equal(model.fit(X), dim(refine="rotation").fit(X))

    def test_a_seed_that_is_free_is_that_of_the_fit_that_is_there(self, tmp_path):
        break_at(5, dim(checkpoint=tmp_path, random_state=None))
        seed = _checkpoint._read(tmp_path / NAME)["seed"]
        model = dim(checkpoint=tmp_path, random_state=None).fit(X)
        assert (model.training_state_["seed"], model.n_epochs_) == (seed, 8)

    def test_a_warm_start(self, tmp_path):
        callbacks = [LRScheduler("StepLR", step_size=3, gamma=0.5)]
        model = dim(warm_start=True, callbacks=callbacks).fit(X)
        killed, fresh = (copy.deepcopy(model).set_params(checkpoint=tmp_path) for _ in range(2))
        assert break_at(5, killed).n_epochs_ == 8
        check_equal(fresh.fit(X), model.fit(X))


def changed(array):
    return np.concatenate([array[:-1], array[-1:] + 1])


OTHERS = {
    "parameter": ({"lr": 0.1}, {}, r"lr was 0\.003 and is 0\.1"),
    "component": ({"noise": 0.5}, {}, r"noise was sknoisydim\.noise\..* and is .*0\.5"),
    "callbacks": ({"callbacks": [LRScheduler("StepLR", step_size=3)]}, {}, "callbacks was "),
    "supervision": ({"supervision": 0.5}, {"y": Y}, r"y was None and is int64 \(200,\)"),
    "rows": ({}, {"X": changed(X)}, r"X was \(200, 4\) float64 .*sha256:\w+ and is \(200, 4\) "),
    "weights": ({}, {"sample_weight": WEIGHTS + 1}, "sample_weight was None and is float64"),
    "held-out rows": ({}, {"X_val": X_VAL}, r"X_val was None and is \(80, 4\)"),
}


class TestAnotherFit:
    def test_is_refused(self, tmp_path, fitted):
        break_at(5, dim(checkpoint=tmp_path))
        data = (tmp_path / NAME).read_bytes()
        for parameters, given, message in OTHERS.values():
            model, given = dim(**{"checkpoint": tmp_path} | parameters), {"X": X} | given
            said = str(fails(message, model.fit, **given))
            assert "initial weights" not in said
            assert f"Use another folder, or delete {tmp_path / NAME}" in said
            assert (tmp_path / NAME).read_bytes() == data
        held = _checkpoint._read(tmp_path / NAME)
        for library in ("torch", "skorch", "sknoisydim"):
            seal(tmp_path / NAME, held | {"identity": held["identity"] | {library: "0.0.1"}})
            fails(rf"another one: {library} was 0\.0\.1 and is \d", dim(checkpoint=tmp_path).fit, X)
        (tmp_path / NAME).write_bytes(data)
        check_equal(dim(checkpoint=tmp_path).fit(X), fitted)

    def test_of_a_large_table_is_told_by_some_of_its_rows(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_checkpoint, "HASHED_BYTES", 10 * X[0].nbytes)
        break_at(5, dim(checkpoint=tmp_path))
        with pytest.raises(ValueError, match="another one: X was"):
            dim(checkpoint=tmp_path).fit(changed(X))  # the last row is always among them


class TestTheFile:
    def test_that_is_damaged_is_told_and_training_starts_again(self, tmp_path, fitted):
        break_at(5, dim(checkpoint=tmp_path))
        path = tmp_path / NAME
        data = path.read_bytes()
        flipped = data[:-500] + bytes([data[-500] ^ 1]) + data[-499:]
        for bad in (data[:-1], b"", data + b"x", b"something else\n" * 3, flipped):
            path.write_bytes(bad)
            with pytest.warns(RuntimeWarning, match=r"fit\.checkpoint is damaged: training starts"):
                model = dim(checkpoint=tmp_path).fit(X)
            check_equal(model, fitted)
            assert list(tmp_path.iterdir()) == []

    def test_of_another_format_or_with_code_is_refused(self, tmp_path, monkeypatch):
        for held, form, message in (
            (partial(os._exit, 1), _checkpoint.FORMAT, "something else than tensors and plain Py"),
            ({}, "sknoisydim checkpoint 2", r"is a 'sknoisydim checkpoint 2', .* 4'"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(_checkpoint, "FORMAT", form)
                seal(tmp_path / NAME, held)
            data = (tmp_path / NAME).read_bytes()
            fails(message, dim(checkpoint=tmp_path).fit, X)
            assert (tmp_path / NAME).read_bytes() == data

    def test_that_a_killed_writer_has_left_is_swept(self, tmp_path):
        (tmp_path / f".{NAME}.0123456789abcdef.part").write_bytes(b"half")
        (tmp_path / "mine").write_bytes(b"")
        dim(checkpoint=tmp_path).fit(X)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_holds_no_rows(self, tmp_path):
        class Looking(Callback):
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
        monkeypatch.setattr(_checkpoint, "_position", lambda *given: written.append(given) or {})
        for seconds, share, count in [(0.0, np.inf, 9), (1e9, np.inf, 1), (0.0, 1e-12, 1)]:
            with mock.patch.multiple(_checkpoint, SECONDS=seconds, SHARE=share):
                dim(checkpoint=tmp_path).fit(X)
            assert len(written) == count
            written.clear()

    def test_on_a_disk_that_is_full_is_told_once(self, tmp_path, monkeypatch, fitted):
        count, write = itertools.count(1), _checkpoint.write_bytes

        def full_for_a_while(*given):
            if next(count) in (4, 5):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(*given)

        monkeypatch.setattr(_checkpoint, "write_bytes", full_for_a_while)
        told = rf"{NAME} cannot be written, training goes on, and the last good one stays: .*space"
        with pytest.warns(RuntimeWarning, match=told) as warned:
            break_at(7, dim(checkpoint=tmp_path))
        assert len(warned) == 1
        assert len(_checkpoint._read(tmp_path / NAME)["history"]) == 6
        check_equal(dim(checkpoint=tmp_path).fit(X), fitted)


def test_the_parameter_is_left_out_of_a_file_and_kept_in_a_pickle(tmp_path):
    model = dim(checkpoint=str(tmp_path / "a")).set_params(callbacks=None).fit(X)
    model.save(tmp_path / "model")
    assert (tmp_path / "a").as_posix().encode() not in (tmp_path / "model").read_bytes()
    assert pickle.loads(pickle.dumps(model)).checkpoint == model.checkpoint
    header, arrays = _file.read(tmp_path / "model")
    header["parameters"]["checkpoint"] = str(tmp_path / "a")
    _file.write(tmp_path / "crafted", header, arrays)
    for name in ("model", "crafted"):
        assert NoisyDIMTransformer.load(tmp_path / name).checkpoint is None


def fit_that_is_killed(folder, name, number, out):
    """Fit, in a process that is killed by a function of `os`, at a call that has this number."""
    real, count = getattr(os, name), itertools.count(1)

    def called(*arguments):
        if next(count) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    callbacks = [LRScheduler("StepLR", step_size=20, gamma=0.7)]
    given = {"early_stopping": 40, "supervision": 0.5, "encoder": Dropping, "callbacks": callbacks}
    model = dim(max_epochs=120, refine="rotation", checkpoint=folder or None, **given)
    with OFTEN, mock.patch.object(os, name, called):
        model.fit(X, Y, X_val=X_VAL, y_val=Y[:80])
    np.save(out, model.transform(X))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_kill_in_the_middle_of_writing(tmp_path):
    """Between two writes a kill leaves what an error at the end of an epoch does."""
    folder, out = tmp_path / "checkpoint", tmp_path / "embedding.npy"

    def ended(folder, name="fsync", number="0"):
        command = [sys.executable, "-W", "error", __file__, folder, name, number, out]
        return subprocess.run(command, check=False, timeout=240).returncode

    assert ended("") == 0
    expected = np.load(out)
    # Of the syncs of each write the first is that of the file, the second of its folder.
    for name in ("fsync", "replace"):
        assert ended(folder, name, "35") == -signal.SIGKILL
        assert any(path.name.endswith(".part") for path in folder.iterdir())
        assert len(_checkpoint._read(folder / NAME)["history"]) > 0
    assert ended(folder) == 0
    assert_array_equal(np.load(out), expected)
    assert list(folder.iterdir()) == []


if __name__ == "__main__":
    fit_that_is_killed(*sys.argv[1:])
