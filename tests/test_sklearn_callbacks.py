"""scikit-learn's own callbacks, which it has from 1.9 on."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_iris
from small import small

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn >= 1.9 has callbacks")

X, Y = load_iris(return_X_y=True)


class Recorder:
    """Writes down every hook that is called, and asks for an end after so many epochs."""

    def __init__(self, n_epochs=None):
        self.n_epochs = n_epochs
        self.record = []

    def setup(self, estimator, context):
        self.record.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.record.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.record.append(("begin", context.task_name, context.task_id, context.max_subtasks))

    def on_fit_task_end(self, estimator, context):
        self.record.append(("end", context.task_name, context.task_id, context.max_subtasks))
        return context.task_name == "epoch" and context.task_id + 1 == self.n_epochs


class Scores:
    """Keeps the share of information of the estimator as it is after each epoch."""

    def __init__(self):
        self.shares = []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        assert len(X) == len(y) == len(fitted_estimator.transform(X))
        self.shares.append(fitted_estimator.score(X))


dim = small(2, max_epochs=3)


def tasks(n_epochs, max_epochs):
    """What a fit of so many epochs is to tell."""
    epochs = [(when, "epoch", i, 0) for i in range(n_epochs) for when in ("begin", "end")]
    fit = ("begin", "fit", 0, max_epochs), ("end", "fit", 0, max_epochs)
    return [("setup", "fit"), fit[0], *epochs, fit[1], ("teardown", "fit")]


def test_a_task_for_each_epoch():
    recorder = Recorder()
    model = dim().set_callbacks(recorder).fit(X)
    assert recorder.record == tasks(3, 3)
    assert_array_equal(model.transform(X), dim().fit_transform(X))
    assert vars(model).keys() - vars(dim().fit(X)).keys() == {"_skl_callbacks"}


def test_a_callback_ends_training():
    recorder = Recorder(n_epochs=2)
    model = dim(max_epochs=10).set_callbacks(recorder).fit(X)
    assert model.n_epochs_ == 2
    assert recorder.record == tasks(2, 10)


def test_a_fit_that_fails_is_torn_down():
    recorder = Recorder()
    model = dim(lr=1e30, optimizer="sgd").set_callbacks(recorder)
    with pytest.raises(ValueError, match="diverged"):
        model.fit(X)
    assert (recorder.record[0], recorder.record[-1]) == (("setup", "fit"), ("teardown", "fit"))
    assert vars(model).keys() - dim().__dict__.keys() == {"_skl_callbacks"}
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full_like(X, np.nan))


def test_a_fitted_estimator_is_shown_after_each_epoch():
    scores = Scores()
    model = dim().set_callbacks(scores).fit(X, Y)
    assert len(scores.shares) == 4
    assert scores.shares[-1] == model.score(X)
    assert scores.shares[-2] == pytest.approx(model.score(X), abs=0.05)
    assert_array_equal(model.transform(X), dim().fit_transform(X))


def test_pickle_and_clone():
    model = dim().set_callbacks(Recorder()).fit(X)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.transform(X), model.transform(X))
    assert clone(model)._skl_callbacks is model._skl_callbacks
