"""What labels change in a fit: views, axes, dropout, steps, noise, weight of the clean row."""

import numpy as np
import pytest
import torch
from over import over
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from skorch.callbacks import EarlyStopping
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._courses import Falling, Labelled
from sknoisydim._labels import class_entropy
from sknoisydim._modules import Dropout
from sknoisydim._objective import Objective
from sknoisydim._settings import auto_steps
from sknoisydim._training import _fit
from sknoisydim._training._axes import class_axes
from sknoisydim.augmentations import Compose, FeatureCorruption, GaussianJitter, Mixup
from sknoisydim.encoders import MLPEncoder
from sknoisydim.noise import GaussianChannel, GaussianNoise, auto_scale
from sknoisydim.noise._base import SMALLEST

X, Y = load_iris(return_X_y=True)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class TestAmong:
    """Views with values of other rows, row by row."""

    def rows(self):
        x = torch.arange(40.0).reshape(10, 4)
        return x, x + 1000

    @pytest.mark.parametrize("groups", [None, [[0, 2]]], ids=["cells", "groups"])
    def test_corruption_takes_its_rate_of_cells_from_the_other_row(self, groups):
        x, others = (part.repeat(500, 1) for part in self.rows())
        view = FeatureCorruption(0.3, groups=groups).among(x, others, seeded())
        taken = view == others
        assert (taken | (view == x)).all()
        assert taken.float().mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.03)
        assert bool((taken[:, 0] == taken[:, 2]).all()) == (groups is not None)

    @pytest.mark.parametrize("groups", [None, [[0, 2]]], ids=["cells", "groups"])
    def test_corruption_takes_no_missing_cell(self, groups):
        x, others = self.rows()
        others[:, 0] = torch.nan
        view = FeatureCorruption(1.0, groups=groups).among(x, others, seeded())
        kept = [0] if groups is None else [0, 2]
        assert torch.equal(view[:, kept], x[:, kept])
        rest = [j for j in range(4) if j not in kept]
        assert torch.equal(view[:, rest], others[:, rest])

    def test_mixup_stays_nearer_to_its_own_row(self):
        x, others = self.rows()
        view = Mixup(1.0).among(x, others, seeded())
        assert ((view >= x) & (view <= (x + others) / 2)).all()
        assert (view > x).any()

    def test_compose_passes_them_on(self):
        x, others = self.rows()
        view = Compose([GaussianJitter(0.0), "masking", FeatureCorruption(1.0)]).prepare(x)
        assert torch.equal(view.among(x, others, seeded()), others)


class TestViews:
    """What the critic is shown of a batch with partners."""

    @staticmethod
    def view(x, partners, supervision, augmentation=None):
        objective = Objective(
            nn.Identity(),
            None,
            None,
            None,
            None,
            FeatureCorruption(0.5) if augmentation is None else augmentation,
            0.5,
            supervision,
        )
        return objective._view(x, partners, seeded())

    def batch(self):
        # The class is the first column, and every cell tells its row.
        x = torch.arange(2000.0).reshape(500, 4)
        return x, x + 10_000

    def test_the_share_of_whole_partners_is_the_supervision(self):
        x, partners = self.batch()
        whole = (self.view(x, partners, 0.6) == partners).all(1).float().mean()
        # The corruption takes all four cells in one of 16 of the other views.
        assert whole == pytest.approx(0.6 + 0.4 / 16, abs=0.06)

    def test_other_views_take_their_values_from_the_partner(self):
        x, partners = self.batch()
        view = self.view(x, partners, 0.0)
        assert ((view == x) | (view == partners)).all()
        assert (view == partners).float().mean() == pytest.approx(0.5, abs=0.05)

    def test_a_row_without_a_partner_is_augmented(self):
        x, partners = self.batch()
        partners[:250] = x[:250]
        view = self.view(x, partners, 1.0)
        assert torch.equal(view[250:], partners[250:])
        assert 0.4 < (view[:250] == x[:250]).float().mean() < 0.6

    def test_a_view_that_takes_nothing_from_other_rows_is_made_as_ever(self):
        x, partners = self.batch()
        view = self.view(x, partners, 0.0, GaussianJitter(0.1))
        assert (view - x).abs().max() < 1

    def test_a_view_of_ones_own_gets_rows_of_the_class(self):
        class Own:
            def __call__(self, batch, generator):
                return batch

            def among(self, batch, others, generator):
                seen.append((batch, others))
                return others

        seen = []
        # One batch of clean and shifted rows: the classes are far apart in the first column.
        rows = (
            np.random.default_rng(0).normal(size=(200, 3))
            + [[50, 0, 0]] * (np.arange(200) % 2)[:, None]
        )
        dim = NoisyDIMTransformer(2, augmentation=Own(), supervision=0.5, max_epochs=1)
        dim.fit(rows, np.arange(200) % 2)
        for batch, others in seen:
            assert torch.equal(batch[:, 0] > 0, others[:, 0] > 0)
        assert seen


class TestAxes:
    """Class axes, on rows whose classes are independent along known axes."""

    @staticmethod
    def rows(n=3000, d=4, seed=0):
        rng = np.random.default_rng(seed)
        codes = rng.integers(3, size=n)
        # Means in one plane; spreads that differ by class, so that no pooled covariance shows the
        # axes.
        deviations = np.array([[0.2, 1, 1, 0.3], [1, 0.2, 0.3, 1], [0.6, 0.6, 1, 1]])
        u = rng.standard_normal((n, d)) * deviations[codes]
        u = (u - u.mean(0)) / u.std(0)
        turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
        return u, u @ turn.T, codes

    def test_naive_bayes_is_as_good_as_along_the_true_axes(self):
        u, z, codes = self.rows()
        axes = class_axes(torch.from_numpy(z), torch.from_numpy(codes)).numpy()
        np.testing.assert_allclose(axes @ axes.T, np.eye(4), atol=1e-9)

        def score(rows):
            return GaussianNB().fit(rows[:2000], codes[:2000]).score(rows[2000:], codes[2000:])

        assert score(z @ axes.T) > score(u) - 0.02 > score(z)

    def test_the_first_axis_tells_most(self):
        rng = np.random.default_rng(0)
        codes = rng.integers(2, size=2000)
        z = rng.standard_normal((2000, 3))
        z[:, 2] += 4 * codes
        z = (z - z.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T
        axes = class_axes(torch.from_numpy(z), torch.from_numpy(codes))
        assert axes[0, 2] > 0.99

    @pytest.mark.parametrize("d", [1, 3])
    @pytest.mark.parametrize(
        "codes",
        [[0] * 12, [*range(11), 10], [0] * 11 + [1]],
        ids=["one class", "classes of a row", "a class of a row"],
    )
    def test_few_rows_of_a_class(self, d, codes):
        z = torch.randn(12, d, generator=seeded(), dtype=torch.float64)
        axes = class_axes(z, torch.tensor(codes))
        np.testing.assert_allclose(axes @ axes.T, np.eye(d), atol=1e-9)

    def test_naive_bayes_gains_behind_a_fit(self, monkeypatch):
        images, y = load_digits(return_X_y=True)
        rows, rest, y, y_rest = train_test_split(images, y, random_state=0, stratify=y)
        scores = []
        for work in (5e9, 0):  # the search, and where it begins
            monkeypatch.setattr("sknoisydim._training._axes.WORK", work)
            dim = NoisyDIMTransformer(16, supervision=0.5, max_epochs=10, random_state=0)
            z = dim.fit(rows, y).transform(rows)
            scores.append(GaussianNB().fit(z, y).score(dim.transform(rest), y_rest))
        assert scores[0] > scores[1]


class TestDropout:
    @staticmethod
    def calls(monkeypatch, y, **parameters):
        """Return whether each call of a dropout layer in training dropped anything."""
        active = []
        forward = Dropout.forward

        def recorded(self, x):
            active.append(self.training and self.p > 0)
            return forward(self, x)

        monkeypatch.setattr(Dropout, "forward", recorded)
        parameters = {"supervision": 0.5, "max_epochs": 1, "random_state": 0} | parameters
        NoisyDIMTransformer(2, encoder=MLPEncoder((8,), dropout=0.3), **parameters).fit(X, y)
        return active

    def test_none_where_most_rows_have_a_label(self, monkeypatch):
        y = Y.copy()
        y[:70] = -1
        assert not any(self.calls(monkeypatch, y))

    def test_views_have_it_where_few_have_one(self, monkeypatch):
        y = Y.copy()
        y[:90] = -1
        assert any(self.calls(monkeypatch, y))

    def test_views_have_it_without_labels(self, monkeypatch):
        assert any(self.calls(monkeypatch, None, supervision=0.0))


class TestBudget:
    """Epochs of `max_epochs="auto"`."""

    @pytest.mark.parametrize(
        ("n_rows", "without", "with_labels"),
        [(150, 200, 200), (1900, 523, 523), (7500, 1039, 2598), (12000, 1314, 5258)],
    )
    def test_steps(self, n_rows, without, with_labels):
        assert auto_steps(n_rows) == without
        assert auto_steps(n_rows, labelled=True) == with_labels

    def test_most_steps(self):
        assert (auto_steps(10**7), auto_steps(10**7, labelled=True)) == (2400, 9600)

    @pytest.mark.parametrize(
        ("n_unlabelled", "parameters", "more"),
        [(70, {}, True), (90, {}, False), (0, {"clean_weight": 1.0}, False)],
        ids=["most", "few", "no view"],
    )
    def test_more_where_labels_make_views(self, monkeypatch, n_unlabelled, parameters, more):
        y = Y.copy()
        y[:n_unlabelled] = -1
        monkeypatch.setattr(_fit, "auto_epochs", lambda *given: 3 if given[2] else 2)
        dim = NoisyDIMTransformer(2, supervision=0.5, random_state=0, **parameters)
        assert dim.fit(X, y).n_epochs_ == 2 + more

    def test_classes_of_one_row_make_no_views(self, monkeypatch):
        monkeypatch.setattr(_fit, "auto_epochs", lambda *given: 3 if given[2] else 2)
        dim = NoisyDIMTransformer(2, supervision=0.5, random_state=0)
        assert dim.fit(X, np.arange(150)).n_epochs_ == 2


COURSES = {"falling": Falling(), "labelled": Labelled(np.log(3), 2)}


class TestCourse:
    """How the weight of the clean row and the noise change in training."""

    DONE = np.arange(0.0005, 1, 0.001)

    @over(
        name=list(COURSES), weight=[0.0, 0.05, 0.5, 0.9, 1.0], capacity=[1e-9, 0.1, 1.2, 2.5, 40.0]
    )
    def test_the_mean_is_the_weight(self, name, weight, capacity):
        values = np.array([COURSES[name].clean_weight(weight, capacity, t) for t in self.DONE])
        assert values.mean() == pytest.approx(weight, abs=1e-3)
        if weight in (0, 1):
            assert (values == weight).all()
        else:
            assert ((values > 0) & (values < 1)).all()
            assert abs(values[0] - values[-1]) > 0.01

    @pytest.mark.parametrize(
        ("capacity", "first", "last"),
        [(20.0, 0.6, 0.4), (4.0, 0.5, 0.5), (2.0, 0.35, 0.65), (0.1, 0.2, 0.8)],
    )
    def test_the_law_waits_where_the_noise_is_large(self, capacity, first, last):
        weights = [COURSES["labelled"].clean_weight(0.5, capacity, done) for done in (0.0, 1.0)]
        assert weights == pytest.approx([first, last])

    @pytest.mark.parametrize(
        ("classes", "d", "whole", "start"),
        [
            (10, 2, 5.0, np.log(10)),
            (1, 2, 5.0, 0.5),
            (10, 8, 5.0, 7.5),
            (2, 6, 5.0, 4.5),
            (1000, 2, 5.0, 5.0),
            (10, 2, 0.1, 0.15),
        ],
        ids=["classes", "one class", "many components", "components", "many classes", "noise"],
    )
    def test_the_capacity_starts_where_classes_come_apart(self, classes, d, whole, start):
        course = Labelled(class_entropy(np.arange(classes)), d)
        values = [course.capacity(whole, done) for done in (0.0, 0.5, 1.0)]
        assert values == pytest.approx([start, start + (whole - start) / 4, whole])

    def test_the_capacity_is_constant_before_a_refinement(self):
        assert {COURSES["falling"].capacity(5.0, done) for done in self.DONE} == {5.0}

    def test_entropy_is_of_rows_with_a_label(self):
        assert class_entropy(np.array([0, 0, 1, 1, -1, -1, -1])) == pytest.approx(np.log(2))
        assert class_entropy(np.array([0, 0, 0, 2])) == pytest.approx(0.5623, abs=1e-4)

    def test_a_weight_is_how_often_a_row_counts(self):
        codes, weights = np.array([0, -1, 2, 2]), np.array([3, 5, 1, 1])
        assert class_entropy(codes, weights) == class_entropy(np.repeat(codes, weights))

    @staticmethod
    def weights(monkeypatch, d=2, y=Y, **parameters):
        seen = []
        forward = Objective.forward

        def recorded(self, x, partners, generator, clean_weight=None):
            weight = self.clean_weight if clean_weight is None else clean_weight
            seen.append((weight, self.channel.capacity))
            return forward(self, x, partners, generator, clean_weight)

        monkeypatch.setattr(Objective, "forward", recorded)
        given = {"batch_size": 15, "max_epochs": 2, "random_state": 0} | parameters
        return NoisyDIMTransformer(d, **given).fit(X, y), seen

    def test_constant_by_default(self, monkeypatch):
        dim, seen = self.weights(monkeypatch)
        assert set(seen) == {(0.5, dim.capacity_)}

    def test_falls_before_a_refinement(self, monkeypatch):
        dim, seen = self.weights(monkeypatch, refine="rotation")
        weights = [weight for weight, _ in seen]
        assert len(seen) == 20
        assert weights[0] == pytest.approx(0.9)
        assert weights[-1] == pytest.approx(0.1, abs=0.05)
        assert (np.diff(weights) < 0).all()
        assert {capacity for _, capacity in seen} == {dim.capacity_}
        assert dim.net_.module_.clean_weight == 0.5

    def test_grows_with_labels(self, monkeypatch):
        dim, seen = self.weights(monkeypatch, supervision=0.5)
        weights, capacities = np.transpose(seen)
        grown = np.log(3) + (dim.capacity_ - np.log(3)) * (np.arange(20) / 20) ** 2
        assert capacities == pytest.approx(grown)
        assert (np.diff(weights) != 0).all()
        assert dim.noise_scale_ == auto_scale(2, 15)
        means = grown.reshape(2, 10).mean(1)
        assert dim.history_["train_capacity"] == pytest.approx(means)

    def test_shrinks_in_many_components(self, monkeypatch):
        dim, seen = self.weights(monkeypatch, d=8, supervision=0.5)
        capacities = [capacity for _, capacity in seen]
        assert capacities[0] == pytest.approx(1.5 * dim.capacity_, abs=0.01)
        assert dim.capacity_ < capacities[-1] < capacities[0]
        assert dim.noise_scale_ == auto_scale(8, 15)

    @pytest.mark.parametrize(
        ("parameters", "n_labelled"),
        [
            ({"clean_weight": 1.0}, 150),
            ({"supervision": 0.0}, 150),
            ({}, 7),
            ({}, 50),
            ({"y": np.arange(150)}, 150),
            ({"early_stopping": True, "validation_fraction": 0.2}, 150),
            ({"callbacks": [EarlyStopping("train_loss", patience=9)]}, 150),
        ],
        ids=["no view", "no labels", "few labels", "one class", "no two", "early", "skorch's"],
    )
    def test_constant_where_labels_make_no_views_or_no_end_is_known(
        self, monkeypatch, parameters, n_labelled
    ):
        y = parameters.get("y", Y).astype(float)
        y[n_labelled:] = np.nan
        dim, seen = self.weights(monkeypatch, **{"supervision": 0.5} | parameters | {"y": y})
        assert set(seen) == {(dim.clean_weight, dim.capacity_)}
        assert "train_capacity" not in dim.history_

    def test_changes_where_a_twentieth_of_the_rows_makes_views(self, monkeypatch):
        y = np.full(150, -1)
        y[::19] = Y[::19]  # eight rows, two or more of each class
        _, seen = self.weights(monkeypatch, y=y, supervision=0.5)
        assert len(set(seen)) == 20

    def test_a_stream_has_no_end(self, monkeypatch):
        dim, seen = self.weights(monkeypatch, supervision=0.5)
        seen.clear()
        dim.partial_fit(X, Y)
        assert set(seen) == {(0.5, dim.capacity_)}

    def test_uniform_noise_has_a_grid_that_stays(self, monkeypatch):
        dim, seen = self.weights(monkeypatch, supervision=0.5, noise="uniform")
        weights, capacities = np.transpose(seen)
        assert set(capacities) == {dim.capacity_}
        assert (np.diff(weights) != 0).all()

    def test_a_step_that_fails_leaves_the_noise(self):
        channel = GaussianChannel(2, 0.1)
        for capacity in (1.0, 50.0):
            with channel.carrying(capacity):
                assert channel.capacity == pytest.approx(capacity)
        with pytest.raises(ZeroDivisionError), channel.carrying(1.0):
            1 / 0  # noqa: B018  # a step that fails
        assert channel.scale == 0.1

    def test_the_noise_stays_a_number(self):
        channel = GaussianChannel(400, 1e-18)
        with channel.carrying(1.5 * channel.capacity):
            assert channel.scale == SMALLEST

    def test_a_channel_of_ones_own_stays(self, monkeypatch):
        class Own(GaussianChannel):
            carrying = property()  # no such attribute

        class OwnNoise(GaussianNoise):
            def build(self, n_components, batch_size):
                return Own(n_components, 0.5)

        dim, seen = self.weights(monkeypatch, supervision=0.5, noise=OwnNoise())
        weights, capacities = np.transpose(seen)
        assert set(capacities) == {dim.capacity_}
        assert (np.diff(weights) != 0).all()

    @pytest.mark.filterwarnings("ignore:the channel passes:sklearn.exceptions.ConvergenceWarning")
    @over(noise=[1e-18, 1e-3, 1e3, 1e18], d=[1, 40])
    def test_noise_of_any_size(self, noise, d):
        dim = NoisyDIMTransformer(d, noise=noise, supervision=0.5, max_epochs=1, random_state=0)
        assert np.isfinite(dim.fit_transform(X, Y)).all()
        assert dim.noise_scale_ == noise

    def test_a_refinement_comes_before_labels(self, monkeypatch):
        dim, seen = self.weights(monkeypatch, supervision=0.5, refine="rotation")
        assert seen[0] == (pytest.approx(0.9), dim.capacity_)

    def test_held_out_rows_are_judged_by_the_fit_itself(self, monkeypatch):
        dim, seen = self.weights(monkeypatch, supervision=0.5)
        seen.clear()
        dim.fit(X, Y, X_val=X[:30], y_val=Y[:30])
        # Ten batches of 15 to train on, then two held out; twice.
        assert len(seen) == 24
        assert set(seen[10:12] + seen[22:]) == {(0.5, dim.capacity_)}
        assert not {capacity for _, capacity in seen[:10]} & {dim.capacity_}

    @pytest.mark.parametrize("parameters", [{"refine": "rotation"}, {"supervision": 0.5}])
    def test_a_warm_start_does_not_begin_anew(self, monkeypatch, parameters):
        dim, seen = self.weights(monkeypatch, warm_start=True, **parameters)
        seen.clear()
        dim.fit(X, Y)
        assert set(seen) == {(0.5, dim.capacity_)}
