"""Properties of every noise of the table, and whole fits through the uniform channel."""

import math

import numpy as np
import pytest
import torch
from over import over
from sklearn.datasets import load_iris
from small import EPS, generator, small

from sknoisydim._objective import Objective, information_share
from sknoisydim.bounds import infonce
from sknoisydim.noise import NOISES, GaussianChannel, UniformNoise, auto_levels
from sknoisydim.normalization import Whitening

# Size of the noise, the one parameter that each has, in two values.
SIZES = {"gaussian": (0.3, 1.0), "uniform": (0.125, 0.25)}
assert SIZES.keys() == NOISES.keys()
CASES = [(name, size) for name, sizes in SIZES.items() for size in sizes]
each_case = over("name, size", CASES)


@each_case
@over(d=[1, 2])
def test_capacity_is_what_the_best_input_sends(name, size, d):
    channel = NOISES[name](size).build(d, 512)
    draws = generator(d)
    n = int(min(4096, 40 * math.exp(channel.capacity)))
    shown = []
    for _ in range(8):
        clean = channel.sample_input(n, draws)
        shown.append(infonce(channel.log_ratio(clean, channel.transmit(clean, draws))).item())
    # The ends of the uniform grid are a hundredth of a cell inside: some hundredths of a nat.
    assert np.mean(shown) == pytest.approx(channel.capacity, abs=0.03 * d + 0.02)


@over(name=sorted(NOISES), d=[1, 2, 5])
def test_auto_is_close_to_what_a_batch_can_show(name, d):
    capacity = NOISES[name]().build(d, 512).capacity
    # 1/2e is an integer: the last step is from 3 to 4 points, log(4/3) nats a component.
    slack = 1e-6 if name == "gaussian" else d * math.log(4 / 3)
    assert capacity == pytest.approx(0.8 * math.log(512), abs=slack)
    assert capacity < math.log(512)


@each_case
def test_what_is_sent_is_what_is_scored(name, size):
    channel = NOISES[name](size).build(3, 64)
    clean = torch.empty(64, 3).normal_(generator=generator())
    noisy, same, other = (channel.transmit(clean, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(noisy, same)
    assert not torch.equal(noisy, other)
    scores = channel.log_ratio(clean, noisy)
    assert scores.shape == (64, 64)
    assert scores.isfinite().all()
    part = channel.log_ratio(clean[:5], noisy[:9])
    torch.testing.assert_close(part, scores[:9, :5], rtol=1e-4, atol=1e-4)
    assert (scores.diagonal() > scores.mean(1)).float().mean() > 0.9


class TestUniform:
    @over(d=[1, 2, 3, 5], batch_size=[150, 512, 4096])
    def test_levels_are_the_best_integer(self, d, batch_size):
        nats = 0.8 * math.log(batch_size) / d
        best = min(range(2, 2000), key=lambda levels: abs(math.log1p(levels) - nats))
        assert auto_levels(d, batch_size) == best

    def test_warns_where_no_batch_can_show_it(self):
        with pytest.warns(UserWarning, match="target='uniform'"):
            UniformNoise().build(6, 512)
        UniformNoise().build(5, 512)  # a warning is an error
        UniformNoise(0.25).build(6, 512)  # the user's own choice

    @over(half_width=[2.0, 0.25, 0.0625, 0.002, 1e-9])
    def test_normalisation_does_not_stand_in_the_way_of_the_grid(self, half_width):
        channel = UniformNoise(half_width).build(2, 512)
        clean = channel.sample_input(200_000, generator())
        assert clean.std(0).numpy() == pytest.approx(channel.deviation, rel=0.01)
        assert clean.mean(0).numpy() == pytest.approx(0, abs=0.02)

    def test_noise_is_seen_by_a_critic_as_by_one_of_unit_variance(self):
        channel = UniformNoise(0.02).build(2, 512)
        clean = torch.empty(20_000, 2).normal_(generator=generator())
        view, noisy = channel.for_critic(clean, channel.transmit(clean, generator(1)))
        assert view.std(0).numpy() == pytest.approx(1, abs=0.02)
        assert (noisy - view).std(0).numpy() == pytest.approx(channel.scale, rel=0.03)

    def test_whitens_to_the_deviation_in_training_and_after(self):
        channel, normalizer = UniformNoise(0.25).build(2, 64), Whitening().build(2)
        Objective(torch.nn.Linear(3, 2), normalizer, channel, None, infonce, lambda x, g: x, 1.0)
        x = torch.empty(500, 2).normal_(generator=generator()) @ torch.tensor([[1.0, 2], [0, 3]])
        z = normalizer(x)
        normalizer.set_statistics(x.mean(0).double(), x.T.cov(correction=0).double())
        torch.testing.assert_close(normalizer.eval()(x), z, rtol=1e-3, atol=1e-3)
        expected = channel.deviation**2 * torch.eye(2)
        torch.testing.assert_close(z.T.cov(correction=0), expected, rtol=1e-2, atol=1e-2)


uniform = small(target="uniform", clean_weight=1, keep=None)


@over(d=[1, 2])
def test_iris_fills_the_channel(d):
    model = uniform(d, noise="uniform", max_epochs=200).fit(load_iris().data)
    assert model.mutual_information_ > 0.93 * model.capacity_
    z = model.encoder_(torch.from_numpy(load_iris().data)).detach().double().numpy()
    assert information_share(z, model.channel_, model.batch_size_) > 0.93
    assert model.noise_scale_ == pytest.approx(1 / auto_levels(d, 150))


def test_synthetic_rows_gather_on_the_grid():
    X = np.random.default_rng(0).normal(size=(4000, 4))
    model = uniform(1, noise=UniformNoise(0.125), max_epochs=30).fit(X)
    assert model.mutual_information_ > 0.96 * model.capacity_
    cells = 4 * model.transform(X)[:, 0]
    nearest = np.rint(cells)
    # 0.25 for a distribution without a grid; the rest is due to a smooth critic.
    assert np.abs(cells - nearest).mean() < 0.2
    share = np.bincount(nearest.astype(int), minlength=5) / len(X)
    assert share == pytest.approx(1 / 5, abs=0.05)


class TestLogRatio:
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
        leaves = clean, noisy = [x.requires_grad_() for x in self.rows(scale, torch.float64)]
        spread = torch.rand(6, generator=generator(2), dtype=torch.float64)
        channel = GaussianChannel(6, scale)
        weight = torch.randn(20, 20, generator=generator(3), dtype=torch.float64)
        values = channel.log_ratio(*leaves, spread), self.direct(channel, *leaves, spread)
        found = [[v, *torch.autograd.grad((v * weight).sum(), leaves)] for v in values]
        torch.testing.assert_close(*found)
        none = channel.log_ratio(clean, noisy, torch.zeros(6))
        torch.testing.assert_close(none, channel.log_ratio(clean, noisy))
