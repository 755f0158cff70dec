"""Properties of every view, discovered from the table, and what each promises by itself."""

import math
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from over import over
from scipy import stats
from sklearn.base import clone
from small import generator, small

import sknoisydim.augmentations as views
from sknoisydim.scaling import fit_scaling

dim = small(2, max_epochs=1, clean_weight=0.5)

# Every named view, and each other way to build one.
VIEWS = {
    **{name: view() for name, view in views.AUGMENTATIONS.items()},
    "grouped": views.FeatureCorruption(0.5, groups=[[0, 2], [3]]),
    "auto": views.FeatureCorruption(0.5, groups="auto"),
    "composed": views.Compose(["jitter", views.FeatureCorruption(0.5, groups="auto"), views.Mixup]),
}
each_view = over(name=sorted(VIEWS))


@pytest.fixture
def rows():
    return torch.empty(256, 5).normal_(generator=generator(1))


@each_view
def test_keeps_shape_and_type_and_leaves_the_rows_alone(name, rows):
    before = rows.clone()
    for view in (VIEWS[name], views.prepare_view(VIEWS[name], rows)):
        seen = view(rows, generator())
        assert (seen.shape, seen.dtype) == (rows.shape, rows.dtype)
        assert seen.isfinite().all()
        assert torch.equal(rows, before)
        assert not torch.equal(seen, before)
    view = clone(VIEWS[name])
    for strength in {"rate", "scale"} & view.get_params().keys():  # without it is the row
        assert torch.equal(view.set_params(**{strength: 0.0})(rows, generator()), rows)


@each_view
def test_the_generator_alone_decides(name, rows):
    view = VIEWS[name]
    state = torch.get_rng_state()
    first, same, other = (view(rows, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@each_view
def test_a_view_is_closer_to_its_row_than_to_others(name, rows):
    seen = VIEWS[name](rows, generator())
    own = (seen - rows).square().sum(1).mean()
    assert own < 0.8 * (seen - rows.roll(1, 0)).square().sum(1).mean()


def test_a_view_of_ones_own_is_prepared_with_scaled_rows():
    class Own:
        def prepare(self, sample):
            samples.append(sample)
            return lambda batch, generator: batch.flip(1)

        def __call__(self, batch, generator):
            pytest.fail("what prepare returned is the view")

    samples = []
    X = 5 + np.random.default_rng(0).normal(size=(100, 3))
    for augmentation in (Own(), views.Compose([Own(), "jitter"])):
        dim(augmentation=augmentation).fit(X)
    assert [sample.shape for sample in samples] == [(100, 3)] * 2
    assert max(sample.mean().abs() for sample in samples) < 0.1


class TestOneHotBlocks:
    @pytest.fixture
    def table(self):
        """Two categories between numbers, a flag, and where the blocks stand."""
        rng = np.random.default_rng(0)
        codes = np.eye(3)[np.arange(500) % 3], np.eye(4)[rng.permutation(np.arange(500) % 4)]
        numbers, flag = rng.normal(size=(500, 3)), rng.integers(2, size=(500, 1))
        return np.hstack([numbers[:, :2], *codes, numbers[:, 2:], flag]), [[2, 3, 4], [5, 6, 7, 8]]

    @over(scaling=["squash", "standard", "quantile", None])
    def test_are_found_after_scaling(self, table, scaling):
        X, blocks = table
        scaled = fit_scaling(scaling, X, 0)(torch.as_tensor(X)).float()
        assert views.one_hot_blocks(scaled) == blocks

    def test_numbers_and_flags_and_constants_are_none(self):
        draws = generator()
        numbers = torch.empty(500, 4).normal_(generator=draws)
        flags = torch.randint(2, (500, 4), generator=draws).float()
        assert views.one_hot_blocks(torch.cat([numbers, flags, torch.ones(500, 3)], 1)) == []

    def test_a_corrupted_block_is_a_category(self, table):
        X, blocks = table
        x, view = torch.as_tensor(X).float(), views.FeatureCorruption(0.5, groups="auto")
        seen = views.prepare_view(view, x)(x, generator())
        alone = views.FeatureCorruption(0.5)(x, generator())
        model = dim(augmentation=view).fit(X)
        unit = model.net_.module_.augmentation.unit
        for block in blocks:
            assert (seen[:, block].sum(1) == 1).all()
            assert (alone[:, block].sum(1) != 1).any()
            assert len(unit[block].unique()) == 1
        assert len(unit.unique()) == X.shape[1] - 5
        assert model.augmentation.get_params() == {"rate": 0.5, "groups": "auto"}


def test_the_larger_share_of_mixup_is_the_rows_own_and_follows_its_distribution():
    share = views.Mixup(alpha=0.7)(torch.eye(2000), generator()).diagonal().double().numpy()
    share = share[share < 1 - 1e-6]  # a row that was mixed with itself
    assert share.min() >= 0.5 - 1e-6
    folded = stats.kstest(share, lambda t: 2 * stats.beta(0.7, 0.7).cdf(t) - 1)
    assert folded.pvalue > 1e-3


class TestNeighbors:
    def test_takes_the_nearest_of_the_sample(self, rows):
        sample = torch.empty(1000, 5).normal_(generator=generator(2))
        seen = views.prepare_view(views.Neighbors(3), sample)(rows, generator())
        distance = torch.cdist(rows, seen).diagonal()[:, None]
        rank = (torch.cdist(rows, sample) < distance - 1e-4).sum(1)
        assert {0, 1, 2} == set(rank.tolist())
        assert (seen[:, None] == sample).all(2).any(1).all()
        replaced = (views.Neighbors(rate=0.3)(rows, generator()) != rows).any(1)
        assert replaced.float().mean().item() == pytest.approx(0.3, abs=0.1)

    @over(offset=[0.0, 1000.0])
    def test_finds_those_in_its_tight_cluster(self, offset):
        # Distances of 1e-3 beside norms of 1, and of 1,000.
        centres = torch.empty(20, 5).normal_(generator=generator(3))
        near = centres.repeat(50, 1) + 1e-3 * torch.empty(1000, 5).normal_(generator=generator(4))
        seen = views.Neighbors(5)(near + offset, generator()) - offset
        assert (seen != near).any(1).all()
        assert (seen - near).norm(dim=1).max() < 0.02

    def test_gaps_stay_out_of_distance_and_view(self):
        x = torch.tensor([[5.0, torch.nan], [5.0, 0.1], [-5.0, 0.0], [-5.1, torch.nan]])
        expected = torch.tensor([[5.0, 0.1], [5.0, 0.1], [-5.1, 0.0], [-5.0, 0.0]])
        assert torch.equal(views.Neighbors(1)(x, generator()), expected)

    @over(view=[views.Neighbors(), views.Compose([views.Neighbors(), "corruption"])])
    def test_a_fitted_transformer_holds_no_rows(self, view):
        X = np.random.default_rng(0).standard_normal((1000, 5), dtype=np.float32)
        plain = len(pickle.dumps(dim().fit(X)))
        near = dim(augmentation=view).fit(X)
        assert len(pickle.dumps(near)) < plain + 2000
        assert near.partial_fit(X).transform(X).shape == (1000, 2)


def test_compose_is_one_after_the_other(rows):
    parts = [views.GaussianJitter(0.1), views.Mixup(0.5), views.FeatureMasking(0.2)]
    draws, expected = generator(), rows
    for view in parts:
        expected = view(expected, draws)
    assert_array_equal(views.Compose(parts)(rows, generator()), expected)


def test_corrupted_cells_are_independent_and_come_from_every_row_alike():
    # A cell says where it came from: its row, and its column.
    n, p, repeats = 40, 30, 400
    row, column = torch.meshgrid(torch.arange(n), torch.arange(p), indexing="ij")
    corrupt, draws, x = views.FeatureCorruption(0.5), generator(), (1000 * column + row).float()
    stack = torch.stack([corrupt(x, draws) for _ in range(repeats)]).long()
    sources = stack % 1000
    assert (stack // 1000 == column).all()
    changed = (sources != row).double()
    expected = 0.5 * (1 - 1 / n)  # a row may draw itself
    for mean, deviations in ((changed.mean(), 5), (changed.mean(0), 6)):
        spread = math.sqrt(expected * (1 - expected) * mean.numel() / changed.numel())
        assert (mean - expected).abs().max() <= deviations * spread
    counts = torch.bincount(sources[changed.bool()], minlength=n).double()
    mean = counts.sum() / n
    statistic = ((counts - mean).square() / mean).sum().item()
    assert abs(statistic - (n - 1)) < 5 * math.sqrt(2 * n)
    for other in (changed[:, :, 1], changed.roll(1, 1)[:, :, 0]):
        together = torch.stack([changed[:, :, 0].flatten(), other.flatten()])
        assert abs(torch.corrcoef(together)[0, 1].item()) < 5 / math.sqrt(repeats * n)
    same = (sources[:, :, 0] == sources[:, :, 1]).double().mean().item()
    assert abs(same - 0.25 - 0.75 / n) < 5 * math.sqrt(0.25 / repeats / n)
