"""Displays: they draw what they were given, on axes of the caller, and leave pyplot alone."""

import math
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoisydim import NoisyDIMTransformer, plotting
from sknoisydim.plotting import (
    DependenceDisplay,
    EmbeddingDisplay,
    TargetFitDisplay,
    TradeOffDisplay,
    TrainingDisplay,
)
from sknoisydim.targets import UniformBall

# What is drawn from a fitted transformer: all but the one that takes a search.
DISPLAYS = [getattr(plotting, n) for n in plotting.__all__ if n != "TradeOffDisplay"]
N_PANELS = {EmbeddingDisplay: 2, TargetFitDisplay: 8, TrainingDisplay: 1, DependenceDisplay: 1}


@pytest.fixture(scope="module")
def X():
    return load_iris().data


@pytest.fixture(scope="module")
def dim(X):
    return NoisyDIMTransformer(4, "uniform", max_epochs=3, random_state=0).fit(X)


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def from_estimator(display, estimator, X, ax):
    rows = () if display is TrainingDisplay else (X,)
    return display.from_estimator(estimator, *rows, ax=ax)


def drawn_axes(figure):
    """Axes with something on them: neither divided ones nor colour bars."""
    return [a for a in figure.axes if a.axison and a.get_label() != "<colorbar>"]


@pytest.mark.parametrize("display", DISPLAYS)
class TestEveryDisplay:
    def test_draws_on_one_axes(self, display, dim, X, ax):
        result = from_estimator(display, dim, X, ax)
        assert isinstance(result, display)
        assert result.figure_ is ax.figure
        assert len(drawn_axes(ax.figure)) == N_PANELS[display]
        ax.figure.draw_without_rendering()

    def test_every_axis_says_what_it_is(self, display, dim, X, ax):
        from_estimator(display, dim, X, ax)
        assert all(a.get_xlabel() for a in drawn_axes(ax.figure))

    def test_takes_a_pipeline(self, display, X, ax):
        pipe = make_pipeline(StandardScaler(), NoisyDIMTransformer(2, max_epochs=1)).fit(X)
        from_estimator(display, pipe, X, ax)

    def test_refuses_what_is_no_transformer(self, display, X, ax):
        with pytest.raises(TypeError, match="NoisyDIMTransformer or a Pipeline"):
            from_estimator(display, StandardScaler().fit(X), X, ax)

    def test_takes_numpy_numbers_and_heavy_tails(self, display, dim, X, ax):
        from_estimator(display, dim.retarget(stats.cauchy()), X.astype(np.float32), ax)
        ax.figure.draw_without_rendering()

    def test_makes_no_pyplot_figure_when_given_axes(self, display, dim, X, ax):
        pyplot = sys.modules.get("matplotlib.pyplot")
        before = pyplot.get_fignums() if pyplot else []
        from_estimator(display, dim, X, ax)
        pyplot = sys.modules.get("matplotlib.pyplot")
        assert (pyplot.get_fignums() if pyplot else []) == before

    def test_makes_its_own_figure(self, display, dim, X):
        import matplotlib.pyplot as plt

        before = set(plt.get_fignums())
        result = from_estimator(display, dim, X, None)
        assert set(plt.get_fignums()) - before == {result.figure_.number}
        plt.close(result.figure_)


class TestEmbedding:
    def test_curves_hold_their_share_for_every_law(self, ax):
        law = ["normal", "uniform", stats.gamma(2), stats.t(3)]
        from sknoisydim.targets import resolve_target

        Z = resolve_target(law, 4).sample(4000, random_state=0)
        display = EmbeddingDisplay.from_embedding(Z, law, pairs=[(0, 3), (2, 1)], ax=ax)
        np.testing.assert_allclose(display.coverage_, [[0.5, 0.95]] * 2, atol=0.03)

    def test_curves_lie_where_the_coverage_is_counted(self, ax):
        display = EmbeddingDisplay.from_embedding(np.zeros((5, 2)), ax=ax)
        inner, outer = (line.get_xydata() for line in ax.lines)
        assert np.allclose(stats.chi2.cdf(np.square(inner).sum(1), 2), 0.5)
        assert np.allclose(stats.chi2.cdf(np.square(outer).sum(1), 2), 0.95)
        assert (display.coverage_ == 1).all()

    def test_a_law_that_mixes_components_gets_draws(self, ax):
        Z = UniformBall().bind(3).sample(50, random_state=0)
        display = EmbeddingDisplay.from_embedding(Z, UniformBall(), ax=ax)
        assert np.isnan(display.coverage_).all()
        assert "draws" in display.axes_[0].get_title()

    def test_legend_names_the_classes(self, ax):
        y = np.array(["a", "b", "c"] * 10)
        EmbeddingDisplay.from_embedding(np.random.default_rng(0).normal(size=(30, 2)), y=y, ax=ax)
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b", "c"]

    def test_classes_do_not_share_colour_and_marker(self, ax):
        y = np.repeat(np.arange(24), 2)
        EmbeddingDisplay.from_embedding(np.random.default_rng(0).normal(size=(48, 2)), y=y, ax=ax)
        looks = {
            (c.get_facecolor().tobytes(), c.get_paths()[0].vertices.tobytes())
            for c in ax.collections
        }
        assert len(looks) == 24

    def test_numbers_get_a_colour_bar(self, ax):
        rng = np.random.default_rng(0)
        EmbeddingDisplay.from_embedding(rng.normal(size=(30, 2)), y=rng.normal(size=30), ax=ax)
        assert len(ax.figure.axes) == 2

    def test_a_data_frame_names_the_components(self, ax):
        import pandas as pd

        Z = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["left", "right"])
        EmbeddingDisplay.from_embedding(Z, ax=ax)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("left", "right")

    @pytest.mark.parametrize(
        ("pairs", "error", "message"),
        [
            ([(0, 5)], ValueError, "from 0 to 1, got 5"),
            ([(0, 1, 1)], ValueError, "pairs of positions"),
            ([], ValueError, "at least one pair"),
            ([(0, 0.5)], TypeError, "integer"),
        ],
    )
    def test_wrong_pairs(self, ax, pairs, error, message):
        with pytest.raises(error, match=message):
            EmbeddingDisplay.from_embedding(np.zeros((5, 2)), pairs=pairs, ax=ax)

    def test_one_component(self, ax):
        with pytest.raises(ValueError, match="at least two components"):
            EmbeddingDisplay.from_embedding(np.zeros((5, 1)), ax=ax)

    def test_too_many_classes(self, ax):
        y = np.array([f"class {i}" for i in range(30)])
        with pytest.raises(ValueError, match="30 classes"):
            EmbeddingDisplay.from_embedding(np.zeros((30, 2)), y=y, ax=ax)

    def test_wrong_length_of_y(self, ax):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            EmbeddingDisplay.from_embedding(np.zeros((5, 2)), y=[0, 1], ax=ax)


class TestTargetFit:
    def test_bands_hold_their_level(self):
        z = np.random.default_rng(0).standard_normal((300, 60))
        axes = Figure().subplots(2, 60)
        for level in (0.5, 0.95):
            display = TargetFitDisplay(z, level=level).plot(range(60), ax=axes)
            bars, points = display.outside_.mean(axis=1)
            assert bars < 1 - level + 0.03  # counts are whole numbers: the band holds its level
            assert points == pytest.approx(1 - level, abs=0.05)

    def test_a_shift_leaves_the_bands(self):
        z = np.random.default_rng(0).standard_normal((500, 1)) + 0.5
        display = TargetFitDisplay.from_embedding(z, ax=Figure().subplots(2, 1))
        assert (display.outside_ > 0.3).all()

    def test_wrong_number_of_axes(self):
        with pytest.raises(ValueError, match="ax has 3 axes, but the display draws 4 panels"):
            TargetFitDisplay(np.zeros((9, 2))).plot(ax=Figure().subplots(1, 3))

    def test_axes_that_cannot_be_divided(self):
        with pytest.raises(ValueError, match="pass an array of Axes"):
            TargetFitDisplay(np.zeros((9, 2))).plot(ax=Figure().add_axes((0, 0, 1, 1)))

    @pytest.mark.parametrize("level", [0, 1, 2.0])
    def test_wrong_level(self, level):
        with pytest.raises(ValueError, match="level"):
            TargetFitDisplay(np.zeros((9, 1)), level=level).plot()

    @pytest.mark.parametrize("components", [3, [], "all"])
    def test_wrong_components(self, components):
        with pytest.raises(TypeError, match="list of positions"):
            TargetFitDisplay(np.zeros((9, 1))).plot(components)


class TestTraining:
    def test_levels_are_cap_and_capacity(self, dim, ax):
        TrainingDisplay.from_estimator(dim, ax=ax)
        levels = [line.get_ydata()[0] for line in ax.lines[-2:]]
        assert levels == pytest.approx([math.log(dim.batch_size_), dim.capacity_])

    def test_lines_are_the_history(self, dim, ax):
        display = TrainingDisplay.from_estimator(dim, ax=ax)
        np.testing.assert_array_equal(
            display.lines_[0].get_ydata(), dim.history_["train_information"]
        )
        assert display.lines_[0].get_xdata().tolist() == [1, 2, 3]

    def test_held_out_line(self, ax):
        rows = np.random.default_rng(0).normal(size=(300, 3))
        dim = NoisyDIMTransformer(2, early_stopping=True, max_epochs=2, random_state=0).fit(rows)
        TrainingDisplay.from_estimator(dim, ax=ax)
        assert "information, held out" in [t.get_text() for t in ax.get_legend().get_texts()]


class TestDependence:
    def test_sees_what_correlation_does_not(self, ax):
        rng = np.random.default_rng(0)
        z = rng.standard_normal((2000, 2))
        z[:, 1] = rng.choice([-1, 1], 2000) * z[:, 0]
        dependence = DependenceDisplay.from_embedding(z, ax=ax).dependence
        assert dependence[1, 0] < 0.1
        assert dependence[0, 1] > 0.9

    def test_a_constant_component(self, ax):
        z = np.random.default_rng(0).standard_normal((50, 2))
        z[:, 1] = 0
        dependence = DependenceDisplay.from_embedding(z, ax=ax).dependence
        assert dependence[0, 1] == dependence[1, 0] == 0

    def test_one_component(self, ax):
        with pytest.raises(ValueError, match="at least two components"):
            DependenceDisplay.from_embedding(np.zeros((5, 1)), ax=ax)


class TestTradeOff:
    @pytest.fixture
    def search(self, X):
        dim = NoisyDIMTransformer(2, max_epochs=1, random_state=0)
        scoring = {
            "match": lambda est, X, y=None: est.clean_weight,
            "accuracy": lambda est, X, y=None: -est.clean_weight if est.noise == "auto" else -2.0,
        }
        grid = {"clean_weight": [0.2, 0.5, 1.0], "noise": ["auto", 0.5]}
        return GridSearchCV(dim, grid, scoring=scoring, refit=False, cv=2).fit(X)

    def test_finds_what_no_other_setting_beats(self, search, ax):
        display = TradeOffDisplay.from_estimator(search, ax=ax)
        assert display.x[display.best_].tolist() == [0.2, 0.5, 1.0]
        assert [t.get_text() for t in ax.get_legend().get_texts()] == [
            f"{i}: clean_weight={w}, noise='auto'" for i, w in enumerate([0.2, 0.5, 1.0], start=1)
        ]
        ax.figure.draw_without_rendering()

    def test_unknown_score(self, search):
        with pytest.raises(ValueError, match="no score 'auc'; it has"):
            TradeOffDisplay.from_estimator(search, x="auc")

    def test_no_search(self, dim):
        with pytest.raises(TypeError, match="a fitted grid search, got a NoisyDIM"):
            TradeOffDisplay.from_estimator(dim)

    def test_failed_fits_are_left_out(self, ax):
        nan = [np.nan, 0.5]
        results = {"params": [{"a": 1}, {"a": 2}], "mean_test_u": nan, "mean_test_v": [1, 1]}
        display = TradeOffDisplay.from_cv_results(results, x="u", y="v", ax=ax)
        assert display.best_.tolist() == [1]
