"""skorch callbacks in a fit: those that work, those that are refused, and whose they are."""

import pickle
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    InputShapeSetter,
    LRScheduler,
    PassthroughScoring,
    TrainEndCheckpoint,
)

from sknoisydim import NoisyDIMTransformer
from sknoisydim.encoders import MLPEncoder

X = np.random.default_rng(0).normal(size=(60, 4))
# With these a tenth of the rows is enough to be held out.
ROWS = np.random.default_rng(0).normal(size=(300, 4))
EARLY = {"early_stopping": True}


def dim(*callbacks, **parameters):
    defaults = {"max_epochs": 3, "batch_size": 16, "random_state": 0, "encoder": MLPEncoder((8,))}
    defaults |= {
        "refine": None,
        "device": "cpu",
    }  # which epoch is the best is a matter of the last bits
    return NoisyDIMTransformer(callbacks=list(callbacks), **defaults | parameters)


def constant(net, batches, y):
    return 1.0


WORK = {
    "epoch scoring": lambda path: EpochScoring(constant, on_train=True),
    "uncached": lambda path: EpochScoring(constant, on_train=True, use_caching=False),
    "batch scoring": lambda path: BatchScoring(constant, on_train=True),
    "passthrough": lambda path: PassthroughScoring("train_loss", on_train=True),
    "early stopping": lambda path: EarlyStopping(monitor="train_loss", sink=str),
    "plateau": lambda path: LRScheduler("ReduceLROnPlateau", monitor="train_loss"),
    "plateau by batch": lambda path: LRScheduler(
        "ReduceLROnPlateau", monitor="train_loss", step_every="batch"
    ),
    "steps": lambda path: LRScheduler("StepLR", step_size=1, step_every="batch"),
    "restarts": lambda path: LRScheduler(),
    "clipping": lambda path: GradientNormClipping(1.0),
    "timer": lambda path: EpochTimer(),
    "freezer": lambda path: Freezer("critic.*"),
    "checkpoint": lambda path: Checkpoint(monitor="train_loss_best", dirname=path, load_best=True),
    "every epoch": lambda path: Checkpoint(monitor=None, dirname=path),
    "last epoch": lambda path: TrainEndCheckpoint(dirname=path),
}
HELD_OUT = {
    "epoch scoring": lambda path: EpochScoring(constant),
    "batch scoring": lambda path: BatchScoring(constant),
    "passthrough": lambda path: PassthroughScoring("valid_loss"),
    "early stopping": lambda path: EarlyStopping(),
    "plateau": lambda path: LRScheduler("ReduceLROnPlateau", monitor="valid_loss"),
    "checkpoint": lambda path: Checkpoint(dirname=path),
}


class TestThatWork:
    @pytest.mark.parametrize("make", WORK.values(), ids=WORK)
    def test_on_training_rows(self, make, tmp_path):
        model = dim(make(str(tmp_path)), **EARLY).fit(ROWS)
        assert model.n_epochs_ == 3
        assert {len(column) for column in model.history_.values()} == {3}
        assert np.isfinite(model.transform(ROWS)).all()
        assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))

    @pytest.mark.parametrize("make", HELD_OUT.values(), ids=HELD_OUT)
    def test_on_held_out_rows(self, make, tmp_path):
        model = dim(make(str(tmp_path)), **EARLY).fit(ROWS)
        assert {len(column) for column in model.history_.values()} == {3}

    def test_checkpoint_writes_the_best_epoch(self, tmp_path):
        model = dim(Checkpoint(monitor="train_loss_best", dirname=str(tmp_path))).fit(X)
        assert (tmp_path / "params.pt").exists()
        losses = model.history_["train_loss"]
        best = [loss < min(losses[:epoch], default=np.inf) for epoch, loss in enumerate(losses)]
        assert model.history_["train_loss_best"] == best

    def test_a_score_sees_the_embedding_in_the_order_of_the_rows(self):
        seen = []

        def first_column(net, batches, y):
            seen.append(net.predict(batches))
            return float(y is None)

        model = dim(EpochScoring(first_column, on_train=True)).fit(X)
        assert model.history_["first_column"] == [1.0, 1.0, 1.0]
        assert [z.shape for z in seen] == [(60, 4)] * 3
        assert_allclose(seen[-1].mean(0), 0, atol=1e-5)
        # Statistics of batch normalisation are made exact after training, and axes are free.
        distances = [
            np.linalg.norm(z[:, None] - z[None], axis=-1).ravel()
            for z in (seen[-1], model.transform(X))
        ]
        assert np.corrcoef(distances)[0, 1] > 0.9

    def test_watching_changes_nothing(self):
        def score(net, batches, y):
            return float(net.predict(batches).std())

        watched = dim(EpochScoring(score, on_train=True), BatchScoring(constant, on_train=True))
        assert_array_equal(watched.fit_transform(X), dim().fit_transform(X))

    def test_predict_is_for_batches(self):
        with pytest.raises(TypeError, match=r"takes the batches.*got ndarray.*transform"):
            dim().fit(X).net_.predict(X)


class TestThatAreRefused:
    @pytest.mark.parametrize("make", HELD_OUT.values(), ids=HELD_OUT)
    @pytest.mark.parametrize("parameters", [{}, EARLY], ids=["plain", "too few rows"])
    def test_without_held_out_rows(self, make, parameters, tmp_path):
        message = (
            r"callbacks: \w+ reads .*no held-out rows are evaluated: use early_stopping.* or \w+="
        )
        with pytest.raises(ValueError, match=message):
            dim(make(str(tmp_path)), max_epochs=10**9, **parameters).fit(X)

    @pytest.mark.parametrize(
        ("callback", "message"),
        [
            (EpochScoring("accuracy", on_train=True), r"scoring='accuracy'.*\(net, batches, y\)"),
            (EpochScoring(None, on_train=True), r"scoring=None.*net\.predict\(batches\)"),
            (PassthroughScoring("train_loss"), r"'train_loss'.*needs on_train=True"),
            (InputShapeSetter(), r"encoder\(n_features, n_components\)"),
            (EarlyStopping(monitor="trian_loss"), r"monitors 'trian_loss'.*'train_loss'"),
            (Checkpoint(monitor="loss"), r"monitors 'loss'.*'train_loss'"),
        ],
        ids=["name", "none", "passthrough", "shape", "unknown", "checkpoint"],
    )
    def test_others(self, callback, message):
        with pytest.raises(ValueError, match=message):
            dim(callback).fit(X)


class Gather(Callback):
    def __init__(self):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.history[-1]["epoch"])


class TestWhoseTheyAre:
    def test_what_was_passed_is_unchanged(self):
        gather, stop = Gather(), EarlyStopping(monitor="train_loss", sink=str)
        before = dict(vars(stop))
        model = dim(gather, ("stop", stop))
        model.fit(X)
        assert gather.seen == []
        assert vars(stop) == before
        assert model.callbacks[0] is gather
        assert dict(model.net_.callbacks_)["Gather"].seen == [1, 2, 3]


class TestForecast:
    def test_a_long_training_is_announced_once(self, caplog, monkeypatch):
        monkeypatch.setattr("sknoisydim._net._callbacks.LONG", 0.0)
        dim(max_epochs=9, batch_size=10).fit(X)
        (record,) = caplog.records
        assert record.name == "sknoisydim"
        assert re.search(r"about \d+ s \(\d+ steps\); verbose=1", record.getMessage())

    def test_a_short_one_and_a_bar_are_not(self, caplog, monkeypatch):
        dim(max_epochs=9).fit(X)
        monkeypatch.setattr("sknoisydim._net._callbacks.LONG", 0.0)
        dim(max_epochs=9, verbose=1).fit(X)
        assert caplog.records == []


class TestTheBar:
    def test_linear_information(self, capsys):
        model = dim(verbose=1, keep="pca").fit(X)
        shown = model.history_["train_linear_information"][-1]
        assert f"linear information {shown:.2f} nats" in capsys.readouterr().err

    def test_clean_information_against_what_can_be_reached(self, capsys):
        model = dim(verbose=1, noise=1e-3, keep=None).fit(X)
        shown = model.history_["train_clean_information"][-1]
        assert f"clean {shown:.2f} of {np.log(16):.2f} nats" in capsys.readouterr().err

    @pytest.mark.parametrize("how", ["ours", "skorch"])
    def test_a_stop_closes_it(self, how, capsys):
        stop = EarlyStopping(
            monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs", sink=str
        )
        ours = {"early_stopping": 2, "lr": 1e-30, "encoder": MLPEncoder(batch_norm=False)}
        parameters = ours if how == "ours" else {"callbacks": [stop]}
        model = dim(verbose=1, max_epochs=500).set_params(**parameters).fit(ROWS)
        assert model.n_epochs_ < 10
        last = capsys.readouterr().err.rstrip().rpartition("\r")[2]
        assert "100%" in last
        assert f"{model.n_epochs_}/{model.n_epochs_}" in last
