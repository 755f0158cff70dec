"""Callbacks in a fit: those that work, those that are refused, and whose they are."""

import pickle
import re

import numpy as np
import pytest
import skorch.callbacks as ready
import torch
from numpy.testing import assert_allclose, assert_array_equal
from over import over
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.datasets import load_iris
from small import PowerCut, fails, small

from sknoisydim import NoisyDIMTransformer
from sknoisydim.encoders import MLPEncoder

X = np.random.default_rng(0).normal(size=(60, 4))
# With these a tenth of the rows is enough to be held out.
ROWS = np.random.default_rng(0).normal(size=(300, 4))
EARLY = {"early_stopping": True}


def dim(*callbacks, **parameters):
    given = {"max_epochs": 3, "batch_size": 16, "random_state": 0, "encoder": MLPEncoder((8,))}
    # Which epoch is the best is a matter of the last bits.
    given |= {"refine": None, "device": "cpu", "callbacks": list(callbacks)}
    return NoisyDIMTransformer(**given | parameters)


def constant(net, batches, y):
    return 1.0


PLATEAU = "ReduceLROnPlateau"
WORK = {
    "epoch scoring": lambda path: ready.EpochScoring(constant, on_train=True),
    "uncached": lambda path: ready.EpochScoring(constant, on_train=True, use_caching=False),
    "batch scoring": lambda path: ready.BatchScoring(constant, on_train=True),
    "passthrough": lambda path: ready.PassthroughScoring("train_loss", on_train=True),
    "early stopping": lambda path: ready.EarlyStopping(monitor="train_loss", sink=str),
    "plateau": lambda path: ready.LRScheduler(PLATEAU, monitor="train_loss"),
    "by batch": lambda path: ready.LRScheduler(PLATEAU, monitor="train_loss", step_every="batch"),
    "steps": lambda path: ready.LRScheduler("StepLR", step_size=1, step_every="batch"),
    "restarts": lambda path: ready.LRScheduler(),
    "clipping": lambda path: ready.GradientNormClipping(1.0),
    "timer": lambda path: ready.EpochTimer(),
    "freezer": lambda path: ready.Freezer("critic.*"),
    "checkpoint": lambda path: ready.Checkpoint("train_loss_best", dirname=path, load_best=True),
    "every epoch": lambda path: ready.Checkpoint(monitor=None, dirname=path),
    "last epoch": lambda path: ready.TrainEndCheckpoint(dirname=path),
}
HELD_OUT = {
    "epoch scoring": lambda path: ready.EpochScoring(constant),
    "batch scoring": lambda path: ready.BatchScoring(constant),
    "passthrough": lambda path: ready.PassthroughScoring("valid_loss"),
    "early stopping": lambda path: ready.EarlyStopping(),
    "plateau": lambda path: ready.LRScheduler("ReduceLROnPlateau", monitor="valid_loss"),
    "checkpoint": lambda path: ready.Checkpoint(dirname=path),
}


class TestThatWork:
    @over(make=WORK)
    def test_on_training_rows(self, make, tmp_path):
        model = dim(make(str(tmp_path)), **EARLY).fit(ROWS)
        assert model.n_epochs_ == 3
        assert {len(column) for column in model.history_.values()} == {3}
        losses = model.history_["train_loss"]
        best = [loss < min(losses[:epoch], default=np.inf) for epoch, loss in enumerate(losses)]
        assert model.history_["train_loss_best"] == best
        assert np.isfinite(model.transform(ROWS)).all()
        assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))

    @over(make=HELD_OUT)
    def test_on_held_out_rows_alone(self, make, tmp_path):
        model = dim(make(str(tmp_path)), **EARLY).fit(ROWS)
        assert {len(column) for column in model.history_.values()} == {3}
        message = r"callbacks: \w+ reads .*no held-out rows are evaluated: use early_stop.* \w+="
        for parameters in ({}, EARLY):  # these rows are too few to hold any out
            fails(message, dim(make(str(tmp_path)), max_epochs=10**9, **parameters).fit, X)

    def test_a_score_sees_the_embedding_in_the_order_of_the_rows(self):
        seen = []

        def first_column(net, batches, y):
            seen.append(net.predict(batches))
            return float(y is None)

        model = dim(ready.EpochScoring(first_column, on_train=True)).fit(X)
        assert model.history_["first_column"] == [1.0, 1.0, 1.0]
        assert [z.shape for z in seen] == [(60, 4)] * 3
        assert_allclose(seen[-1].mean(0), 0, atol=1e-5)
        # Statistics of batch normalisation are made exact after training, and axes are free.
        distances = [pdist(z) for z in (seen[-1], model.transform(X))]
        assert np.corrcoef(distances)[0, 1] > 0.9

    def test_watching_changes_nothing(self):
        def score(net, batches, y):
            rows = torch.cat([x for x, _ in net.get_iterator(batches)])
            assert torch.equal(rows, batches.rows.take(torch.arange(len(rows))))
            return float(net.predict(batches).std())

        by_batch = ready.BatchScoring(constant, on_train=True)
        scores = ready.EpochScoring(score, on_train=True), by_batch
        for call in ("fit", "partial_fit"):
            watched, plain = (getattr(dim(*given), call)(X) for given in (scores, ()))
            assert_array_equal(watched.transform(X), plain.transform(X))

    def test_predict_is_for_batches(self):
        with pytest.raises(TypeError, match=r"takes the batches.*got ndarray.*transform"):
            dim().fit(X).net_.predict(X)


REFUSED = [
    (ready.EpochScoring("accuracy", on_train=True), r"scoring='accuracy'.*\(net, batches, y\)"),
    (ready.EpochScoring(None, on_train=True), r"scoring=None.*net\.predict\(batches\)"),
    (ready.PassthroughScoring("train_loss"), r"'train_loss'.*needs on_train=True"),
    (ready.InputShapeSetter(), r"encoder\(n_features, n_components\)"),
    (ready.EarlyStopping(monitor="trian_loss"), r"monitors 'trian_loss'.*'train_loss'"),
    (ready.Checkpoint(monitor="loss"), r"monitors 'loss'.*'train_loss'"),
]


@over("callback, message", REFUSED)
def test_others_are_refused(callback, message):
    fails(message, dim(callback).fit, X)


def test_what_was_passed_is_unchanged():
    rates, stop = ready.LRScheduler(), ready.EarlyStopping(monitor="train_loss", sink=str)
    before = dict(vars(rates)), dict(vars(stop))
    model = dim(rates, ("stop", stop)).fit(X)
    assert (vars(rates), vars(stop)) == before
    assert model.callbacks[0] is rates
    assert hasattr(dict(model.net_.callbacks_)["stop"], "misses_")


def test_a_long_training_is_announced_once(caplog, monkeypatch):
    dim(max_epochs=9).fit(X)
    monkeypatch.setattr("sknoisydim._net._callbacks.LONG", 0.0)
    dim(max_epochs=9, verbose=1).fit(X)
    assert caplog.records == []
    dim(max_epochs=9, batch_size=10).fit(X)
    (record,) = caplog.records
    assert record.name == "sknoisydim"
    assert re.search(r"about \d+ s \(\d+ steps\); verbose=1", record.getMessage())


class TestTheBar:
    def test_shows_information_on_stderr_and_lines_go_to_stdout(self, capsys):
        for keep, part, text in (
            ("pca", "linear", "linear information {:.2f} nats"),
            (None, "clean", f"clean {{:.2f}} of {np.log(16):.2f} nats"),
        ):
            history = dim(verbose=1, noise=1e-3, keep=keep).fit(X).history_
            captured = capsys.readouterr()
            assert text.format(history[f"train_{part}_information"][-1]) in captured.err
            assert "3/3" in captured.err
            assert captured.out == ""
        dim(verbose=2).fit(X)
        captured = capsys.readouterr()
        assert captured.out.count("\n") == 5  # a table of three epochs
        assert captured.err == ""

    def test_a_stop_closes_it(self, capsys):
        given = {"patience": 2, "threshold": 1e9, "threshold_mode": "abs", "sink": str}
        for parameters in (
            {"early_stopping": 2, "lr": 1e-30, "encoder": MLPEncoder(batch_norm=False)},
            {"callbacks": [ready.EarlyStopping(monitor="train_loss", **given)]},
        ):
            model = dim(verbose=1, max_epochs=500).set_params(**parameters).fit(ROWS)
            assert model.n_epochs_ < 10
            last = capsys.readouterr().err.rstrip().rpartition("\r")[2]
            assert "100%" in last
            assert f"{model.n_epochs_}/{model.n_epochs_}" in last

    def test_an_error_closes_it(self, capsys, monkeypatch):
        monkeypatch.setattr(PowerCut, "at", 1)
        # The error holds the net, whose bar would close when nobody knows it any more.
        error = fails("power cut", dim(PowerCut(), verbose=1).fit, X, error=RuntimeError)
        assert capsys.readouterr().err.endswith("\n")
        del error


IRIS, Y = load_iris(return_X_y=True)
trained = small(2, max_epochs=3)


class Recorder:
    """Writes down every hook that is called, and asks for an end after so many epochs."""

    def __init__(self, n_epochs=None):
        self.n_epochs, self.record = n_epochs, []

    def note(self, when, context, *more):
        self.record.append((when, context.task_name, *more))

    def setup(self, estimator, context):
        self.note("setup", context)

    def teardown(self, estimator, context):
        self.note("teardown", context)

    def on_fit_task_begin(self, estimator, context):
        self.note("begin", context, context.task_id, context.max_subtasks)

    def on_fit_task_end(self, estimator, context):
        self.note("end", context, context.task_id, context.max_subtasks)
        return context.task_name == "epoch" and context.task_id + 1 == self.n_epochs


class Scores(Recorder):
    """Keeps the share of information of the estimator as it is after each epoch."""

    shares = ()

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        assert len(X) == len(y) == len(fitted_estimator.transform(X))
        self.shares += (fitted_estimator.score(X),)


def tasks(n_epochs, max_epochs):
    """What a fit of so many epochs is to tell."""
    epochs = [(when, "epoch", i, 0) for i in range(n_epochs) for when in ("begin", "end")]
    fit = ("begin", "fit", 0, max_epochs), ("end", "fit", 0, max_epochs)
    return [("setup", "fit"), fit[0], *epochs, fit[1], ("teardown", "fit")]


class TestOfScikitLearn:
    @pytest.fixture(autouse=True)
    def callback(self):
        pytest.importorskip("sklearn.callback", reason="scikit-learn >= 1.9 has callbacks")

    def test_a_task_for_each_epoch_and_one_may_end_training(self):
        for n_epochs, max_epochs in ((3, 3), (2, 10)):
            recorder = Recorder(n_epochs)
            model = trained(max_epochs=max_epochs).set_callbacks(recorder).fit(IRIS)
            assert model.n_epochs_ == n_epochs
            assert recorder.record == tasks(n_epochs, max_epochs)

    def test_a_fit_that_fails_is_torn_down(self):
        recorder = Recorder()
        model = trained(lr=1e30, optimizer="sgd").set_callbacks(recorder)
        fails("diverged", model.fit, IRIS)
        assert (recorder.record[0], recorder.record[-1]) == (("setup", "fit"), ("teardown", "fit"))
        assert vars(model).keys() - trained().__dict__.keys() == {"_skl_callbacks"}
        fails("NaN", model.fit, np.full_like(IRIS, np.nan))

    def test_a_fitted_estimator_is_shown_after_each_epoch(self):
        scores = Scores()
        model = trained().set_callbacks(scores).fit(IRIS, Y)
        assert len(scores.shares) == 4
        assert scores.shares[-1] == model.score(IRIS)
        assert scores.shares[-2] == pytest.approx(model.score(IRIS), abs=0.05)
        plain = trained().fit(IRIS)
        for same in (plain, pickle.loads(pickle.dumps(model))):
            assert_array_equal(same.transform(IRIS), model.transform(IRIS))
        assert vars(model).keys() - vars(plain).keys() == {"_skl_callbacks"}
        assert clone(model)._skl_callbacks is model._skl_callbacks
