"""What was made fast is still what its formula says. Seconds are in benchmarks/speed.py."""

import copy
import math

import numpy as np
import torch
from over import over
from small import generator
from torch import nn

from sknoisydim._data import Batches, Rows, Table
from sknoisydim._modules import Dropout
from sknoisydim.augmentations import FeatureCorruption
from sknoisydim.bounds import infonce
from sknoisydim.encoders import MLPEncoder, fold, recalibrate
from sknoisydim.noise import GaussianChannel
from sknoisydim.normalization import BatchNormalization, Whitening
from sknoisydim.scaling import Standardize, fit_scaling

CPU = torch.device("cpu")
EPS = {torch.float32: 1.2e-7, torch.float64: 2.3e-16}


class TestLogRatio:
    """The matrix product against the differences themselves, in float64."""

    @staticmethod
    def direct(channel, clean, noisy, spread=0.0):
        variance = channel.scale**2 + torch.as_tensor(spread, dtype=torch.float64)
        f, y = clean.double(), noisy.double()
        output = 1 + channel.scale**2
        given = ((y[:, None] - f).square() / variance + torch.log(variance)).sum(-1)
        alone = y.square().sum(1) / output + y.shape[1] * math.log(output)
        return 0.5 * (alone[:, None] - given.expand(len(y), len(f)))

    def rows(self, scale, dtype, d=6):
        clean = torch.randn(20, d, generator=generator(0), dtype=torch.float64)
        noise = torch.randn(20, d, generator=generator(1), dtype=torch.float64)
        return clean.to(dtype), (clean + scale * noise).to(dtype)

    @over(dtype=list(EPS), scale=[1e-3, 0.019, 0.021, 0.3, 1.0, 10.0, 1e3])
    def test_is_the_density_ratio(self, scale, dtype):
        clean, noisy = self.rows(scale, dtype)
        channel = GaussianChannel(6, scale)
        expected = self.direct(channel, clean, noisy)
        error = (channel.log_ratio(clean, noisy).double() - expected).abs()
        # In the working precision (float64 below 0.02) the product cancels by 1 / scale^2.
        work = EPS[torch.float64 if scale < 0.02 else dtype]
        assert (error <= 100 * work * (1 + scale**-2) + EPS[dtype] * expected.abs()).all()

    @over(scale=[1e-3, 0.3, 10.0])
    def test_value_and_gradient_with_a_spread(self, scale):
        clean, noisy = self.rows(scale, torch.float64)
        spread = torch.rand(6, generator=generator(2), dtype=torch.float64)
        channel = GaussianChannel(6, scale)
        weight = torch.randn(20, 20, generator=generator(3), dtype=torch.float64)
        found = []
        for way in (channel.log_ratio, lambda *given: self.direct(channel, *given)):
            leaves = clean.clone().requires_grad_(), noisy.clone().requires_grad_()
            value = way(*leaves, spread)
            (value * weight).sum().backward()
            found.append([value.detach(), *(leaf.grad for leaf in leaves)])
        torch.testing.assert_close(*found)
        none = channel.log_ratio(clean, noisy, torch.zeros(6))
        torch.testing.assert_close(none, channel.log_ratio(clean, noisy))


class TestInfoNCE:
    @staticmethod
    def direct(scores):
        own = scores.diagonal()
        among = scores.logsumexp(1), scores.logsumexp(0)
        return sum((own - rivals).mean() for rivals in among) / 2 + math.log(len(scores))

    @over(size=[1, 2, 100])
    @over(scale=[1e-3, 1.0, 30.0, 1e5])
    def test_value_and_gradient(self, size, scale):
        scores = scale * torch.randn(size, size, generator=generator(), dtype=torch.float64)
        first, second = (scores.clone().requires_grad_() for _ in range(2))
        value, expected = infonce(first), self.direct(second)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        value.backward()
        expected.backward()
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-9, atol=1e-12)


ENCODERS = {
    "default": MLPEncoder(),
    "without batch_norm": MLPEncoder((32, 16), batch_norm=False),
    "residual": MLPEncoder((32, 32, 32), residual=True),
    "tanh": MLPEncoder((32, 16), activation="tanh"),
    "dropout": MLPEncoder((32, 16), dropout=0.5),
    "linear": MLPEncoder(()),
    "no affine": [nn.Linear(10, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 4)],
    "norm first": [nn.BatchNorm1d(10), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4, bias=False)],
}


class Bent(nn.Sequential):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class TestFold:
    @over(normalization=[Whitening(), BatchNormalization()], encoder=ENCODERS)
    @over(dtype=list(EPS))
    @torch.no_grad()
    def test_equals_the_modules(self, encoder, normalization, dtype):
        rows = 3 * torch.randn(500, 10, generator=generator(0)) + 1
        layers = isinstance(encoder, list)
        network = nn.Sequential(*encoder) if layers else encoder.build(10, 4, generator(1))
        network = copy.deepcopy(network).float()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator(2))
        recalibrate(network, rows.split(100))
        normalizer, z = normalization.build(4), network.eval()(rows).double()
        normalizer.set_statistics(z.mean(0), z.T.cov(correction=0))
        rows, network, normalizer = (x.to(dtype) for x in (rows, network, normalizer.eval()))
        expected = normalizer(network(rows))
        state = {name: value.clone() for name, value in network.state_dict().items()}
        folded = fold(network, normalizer.mean, normalizer.matrix)
        atol = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(folded(rows), expected, rtol=1e-6, atol=atol)
        torch.testing.assert_close(dict(network.state_dict()), state, rtol=0, atol=0)
        torch.testing.assert_close(normalizer(network(rows)), expected, rtol=0, atol=0)

    @torch.no_grad()
    def test_in_place_steps_never_reach_the_input(self):
        rows = torch.randn(20, 4, generator=generator())
        before = rows.clone()
        for network in (
            nn.Sequential(nn.ReLU(), nn.Linear(4, 4)),
            nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ReLU(), nn.Linear(4, 4)),
        ):
            folded = fold(network.eval(), torch.zeros(4), torch.eye(4))
            torch.testing.assert_close(folded(rows), network(rows))
            torch.testing.assert_close(rows, before, rtol=0, atol=0)

    def test_other_networks_are_left_alone(self):
        linear = nn.Linear(3, 2)
        for other in (linear, nn.Sequential(linear, nn.Tanh()), Bent(linear)):
            assert fold(other, torch.zeros(2), torch.eye(2)) is None


class TestSquash:
    mean, scale, bound = np.array([0.0, 1e6, -3.0]), np.array([1.0, 1e-12, 1e12]), 3.0

    def squash(self, x):
        return Standardize(self.mean, self.scale, self.bound)(x)

    @over(dtype=list(EPS))
    def test_is_its_formula(self, dtype):
        u = 5 * torch.randn(200, 3, generator=generator(), dtype=torch.float64)
        x = (u * torch.as_tensor(self.scale) + torch.as_tensor(self.mean)).to(dtype)
        u = (x.double() - torch.as_tensor(self.mean)) / torch.as_tensor(self.scale)
        expected = u / (1 + (u / self.bound).square()).sqrt()
        torch.testing.assert_close(self.squash(x).double(), expected, rtol=6 * EPS[dtype], atol=0)

    @over(dtype=list(EPS))
    def test_keeps_the_order_within_the_bound(self, dtype):
        largest = math.log10(torch.finfo(dtype).max)
        powers = 10 ** torch.linspace(-30, largest - 0.01, 2000, dtype=torch.float64)
        x = torch.cat([-powers.flip(0), torch.zeros(1), powers])[:, None].expand(-1, 3).to(dtype)
        z = self.squash(x)
        assert z.isfinite().all()
        assert z.abs().max() <= self.bound * (1 + 2 * EPS[dtype])
        assert (z.diff(dim=0) >= -2 * self.bound * EPS[dtype]).all()


class TestCorruption:
    """Each cell by itself takes the value of its column in a row of the batch, at random."""

    def test_cells_are_independent_and_every_row_is_drawn_alike(self):
        # A cell says where it came from: its row, and its column.
        n, p, repeats = 40, 30, 400
        row, column = torch.meshgrid(torch.arange(n), torch.arange(p), indexing="ij")
        corrupt, draws, x = FeatureCorruption(0.5), generator(), (1000 * column + row).float()
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
        cells = repeats * n
        for other in (changed[:, :, 1], changed.roll(1, 1)[:, :, 0]):
            together = torch.stack([changed[:, :, 0].flatten(), other.flatten()])
            assert abs(torch.corrcoef(together)[0, 1].item()) < 5 / math.sqrt(cells)
        same = (sources[:, :, 0] == sources[:, :, 1]).double().mean().item()
        assert abs(same - 0.25 - 0.75 / n) < 5 * math.sqrt(0.25 / cells)


class TestDropout:
    @over(p=[0.1, 0.5, 0.9], dtype=[torch.bfloat16, torch.float32, torch.float64])
    def test_distribution(self, p, dtype):
        x = torch.ones(300, 500, dtype=dtype, requires_grad=True)
        layer = Dropout(p, seed=0).train()
        y = layer(x)
        assert y.dtype == dtype
        kept = y != 0
        share = kept.double().mean().item()
        assert abs(share - (1 - p)) < 5 * math.sqrt(p * (1 - p) / x.numel())
        torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)))
        y.sum().backward()
        torch.testing.assert_close(x.grad, y.detach())
        assert not torch.equal(layer(x), y)
        assert layer.eval()(x) is x


class TestBatches:
    @over(size=[(100, 10), (103, 10), (7, 10), (10, 10)], shuffle=[True, False])
    def test_every_row_once_and_only_full_batches(self, size, shuffle):
        n_rows, batch_size = size
        X = np.arange(n_rows, dtype=np.float64)[:, None]  # rows that hold their own position
        rows = Rows(Table(X), fit_scaling(None, X, 0), CPU)
        batches = Batches(rows, batch_size, generator(), shuffle=shuffle)
        size = min(n_rows, batch_size)
        seen = set()
        for _ in range(60):
            epoch = list(batches)
            assert len(epoch) == len(batches) == n_rows // size
            assert all(x.shape == (size, 1) and features == () for x, features in epoch)
            positions = torch.cat([x for x, _ in epoch]).flatten().long().tolist()
            assert len(set(positions)) == len(positions)
            seen.update(positions)
        # What one epoch drops, another holds.
        assert seen == set(range(n_rows if shuffle else n_rows // size * size))
