"""Displays: they draw what they were given, on axes of the caller, and leave pyplot alone."""

import math

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from over import over
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small import fails, small

from sknoisydim import plotting
from sknoisydim.plotting import DependenceDisplay, EmbeddingDisplay, TargetFitDisplay
from sknoisydim.targets import resolve_target

N_PANELS = {EmbeddingDisplay: 2, TargetFitDisplay: 8, DependenceDisplay: 1}
N_PANELS[plotting.TrainingDisplay] = 1
X = load_iris().data
dim = small(4, target="uniform", max_epochs=3)


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def normal(n, d):
    return np.random.default_rng(0).standard_normal((n, d))


def from_estimator(display, estimator, X=X, ax=None):
    rows = () if display is plotting.TrainingDisplay else (X,)
    ax = Figure(layout="constrained").subplots() if ax is None else ax
    return display.from_estimator(estimator, *rows, ax=ax)


@over(display=list(N_PANELS))
def test_every_display(display, fitted):
    before = pyplot.get_fignums()
    result = from_estimator(display, fitted)
    assert isinstance(result, display)
    # Neither divided axes nor colour bars.
    drawn = [a for a in result.figure_.axes if a.axison and a.get_label() != "<colorbar>"]
    assert len(drawn) == N_PANELS[display]
    assert all(a.get_xlabel() for a in drawn)
    heavy = from_estimator(display, fitted.retarget(stats.cauchy()), X.astype(np.float32))
    for figure in (result.figure_, heavy.figure_):
        figure.draw_without_rendering()
    from_estimator(display, make_pipeline(StandardScaler(), small(2)()).fit(X))
    wrong = StandardScaler().fit(X)
    fails("NoisyDIMTransformer, or a Pipeline", from_estimator, display, wrong, error=TypeError)
    assert pyplot.get_fignums() == before


def test_curves_hold_their_share_for_every_target(ax):
    target = ["normal", "uniform", stats.gamma(2), stats.t(3)]
    Z = resolve_target(target, 4).sample(4000, random_state=0)
    display = EmbeddingDisplay.from_embedding(Z, target, pairs=[(0, 3), (2, 1)], ax=ax)
    np.testing.assert_allclose(display.coverage_, [[0.5, 0.95]] * 2, atol=0.03)


WRONG = [
    (EmbeddingDisplay, 2, {"pairs": [(0, 5)]}, ValueError, "a position in pairs must be .*, got 5"),
    (EmbeddingDisplay, 2, {"pairs": [(0, 1, 1)]}, ValueError, "pairs of positions"),
    (EmbeddingDisplay, 2, {"pairs": []}, ValueError, "pairs of positions"),
    (EmbeddingDisplay, 2, {"pairs": [(0, 0.5)]}, TypeError, "integer"),
    (EmbeddingDisplay, 1, {}, ValueError, "at least two components"),
    (EmbeddingDisplay, 2, {"y": [f"class {i}" for i in range(30)]}, ValueError, "30 classes"),
    (EmbeddingDisplay, 2, {"y": [0, 1]}, ValueError, "inconsistent numbers of samples"),
    (EmbeddingDisplay, 2, {"ax": Figure().subplots(2)}, ValueError, "ax has 2 axes"),
    (TargetFitDisplay, 2, {"components": 3}, TypeError, "components must be a list"),
    (TargetFitDisplay, 2, {"components": [2]}, ValueError, "each of components must be"),
    (TargetFitDisplay, 2, {"level": 1.0}, ValueError, "level must be"),
    (TargetFitDisplay, 1, {"target": "unifrm"}, ValueError, "Did you mean 'uniform'"),
    (DependenceDisplay, 1, {}, ValueError, "at least two components"),
    (DependenceDisplay, 2, {"ax": Figure().subplots(2)}, ValueError, "ax has 2 axes"),
]


@over("display, d, params, error, message", WRONG)
def test_wrong_input_leaves_no_figure(display, d, params, error, message):
    before = pyplot.get_fignums()
    fails(message, display.from_embedding, np.zeros((30, d)), error=error, **params)
    assert pyplot.get_fignums() == before


def test_what_colours_mean_is_shown():
    cases = (np.repeat(["a", "b"], 50), ["a", "b"], 0), (np.ones(100) / 3, [], 1)
    for y, labels, n_bars in cases:
        axis = Figure(layout="constrained").subplots()
        EmbeddingDisplay.from_embedding(normal(100, 2), y=y, ax=axis)
        legend = axis.get_legend()
        assert [text.get_text() for text in (legend.get_texts() if legend else ())] == labels
        assert [other.get_label() for other in axis.figure.axes].count("<colorbar>") == n_bars


@over(level=[0.5, 0.95])
def test_bands_of_the_fit_hold_their_level(level):
    axes = Figure().subplots(2, 60)
    display = TargetFitDisplay(normal(300, 60), level=level, components=range(60)).plot(axes)
    bars, points = display.outside_.mean(axis=1)
    assert bars < 1 - level + 0.03  # counts are whole numbers: the band holds its level
    assert points == pytest.approx(1 - level, abs=0.05)


def test_training_lines_are_the_history_and_levels_cap_and_capacity(fitted, ax):
    display = plotting.TrainingDisplay.from_estimator(fitted, ax=ax)
    line = display.lines_[0]
    np.testing.assert_array_equal(line.get_ydata(), fitted.history_["train_information"])
    assert line.get_xdata().tolist() == [1, 2, 3]
    levels = [line.get_ydata()[0] for line in ax.lines[-2:]]
    assert levels == pytest.approx([math.log(fitted.batch_size_), fitted.capacity_])


def test_dependence_sees_what_correlation_does_not(ax):
    z = normal(2000, 3)
    z[:, 1] = np.random.default_rng(1).choice([-1, 1], 2000) * z[:, 0]
    z[:, 2] = 0  # a constant component
    dependence = DependenceDisplay.from_embedding(z, ax=ax).dependence_
    assert dependence[1, 0] < 0.1
    assert dependence[0, 1] > 0.9
    assert [*dependence[:2, 2], *dependence[2, :2]] == [0] * 4


def test_a_trade_off_finds_what_no_other_setting_beats(ax):
    scoring = {
        "match": lambda est, X, y=None: est.clean_weight,
        "accuracy": lambda est, X, y=None: -est.clean_weight if est.noise == "auto" else -2.0,
    }
    grid = {"clean_weight": [0.2, 0.5, 1.0], "noise": ["auto", 0.5]}
    search = GridSearchCV(small(2)(), grid, scoring=scoring, refit=False, cv=2).fit(X)
    display = plotting.TradeOffDisplay.from_estimator(search, ax=ax)
    best = search.cv_results_["mean_test_match"][display.best_]
    assert best.tolist() == [0.2, 0.5, 1.0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        f"{i}: clean_weight={w}, noise='auto'" for i, w in enumerate(best, start=1)
    ]
    ax.figure.draw_without_rendering()
    message = "x='auc' is unknown; it takes one of 'accuracy', 'match'"
    fails(message, plotting.TradeOffDisplay.from_estimator, search, x="auc")
