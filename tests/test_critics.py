"""Properties of every critic, discovered from the table, and critics with noises and bounds."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from over import over
from sklearn.datasets import load_digits
from small import generator, small

from sknoisydim import critics
from sknoisydim.bounds import BOUNDS, infonce
from sknoisydim.critics import CRITICS
from sknoisydim.noise import GaussianNoise, UniformNoise

N, D = 64, 3
each_critic = over(name=sorted(CRITICS))


def pairs(channel, draws, n=N, correlation=1.0):
    """Views and noisy embeddings at capacity; row and view have the given correlation."""
    d = channel.n_components
    clean, other = (torch.empty(n, d).normal_(generator=draws) for _ in range(2))
    view = correlation * clean + math.sqrt(1 - correlation**2) * other
    return view, channel.transmit(clean, draws)


@pytest.fixture
def channel():
    return GaussianNoise(0.5).build(D, N)


def build(name, channel):
    return CRITICS[name]().build(channel.n_components, channel, generator(1))


def shake(module):
    """Move the parameters off their start, where a part of the network may be zero."""
    draws = generator(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.empty_like(parameter).normal_(generator=draws)
    return module


@each_critic
def test_scores_are_of_pairs_and_gradients_reach_all(name, channel):
    view, noisy = (x.requires_grad_() for x in pairs(channel, generator()))
    critic = shake(build(name, channel))
    infonce(critic(view, noisy)).backward()
    for x in (view, noisy):
        assert x.grad.isfinite().all()
        assert (x.grad.abs().sum(1) > 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in critic.parameters())
    scores = critic.eval()(view, noisy)
    assert scores.shape == (N, N)
    assert scores.dtype == torch.float32
    first, second = (torch.randperm(N, generator=generator(seed)) for seed in (3, 4))
    moved = critic(view[first], noisy[second])
    torch.testing.assert_close(moved, scores[second][:, first], atol=1e-4, rtol=1e-4)


@each_critic
def test_starts_near_its_value_and_not_some_nats_below_zero(name):
    for d, scale in [(3, 1.0), (16, 0.5), (16, 1.0)]:
        channel = GaussianNoise(scale).build(d, N)
        assert infonce(build(name, channel)(*pairs(channel, generator(), n=512))) > -1


def reached(critic, pair, steps):
    """Train a critic on pairs for so many steps, and return what it shows of four new batches."""
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3) if steps else None
    for _ in range(steps):
        loss = -infonce(critic(*pair()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return np.mean([infonce(critic(*pair())).item() for _ in range(4)])


@each_critic
def test_comes_close_to_the_exact_ratio(name):
    """The exact critic at once, the others after a short training."""
    channel, learns, draws = GaussianNoise().build(8, 128), name != "exact", generator(5)
    pair = partial(pairs, channel, draws, 128)
    best = reached(channel.log_ratio, pair, 0)
    draws.manual_seed(5)
    found = reached(build(name, channel), pair, 100 * learns)
    assert found > (0.75 if learns else 0.99) * best


@over(name=sorted(CRITICS.keys() - {"exact"}))
def test_comes_close_to_the_box_of_uniform_noise(name):
    """A smooth score of a box: a quarter of a nat a component is what it takes for its walls."""
    channel, draws = UniformNoise(0.5 / 4).build(2, 128), generator(5)

    def pair():
        clean = channel.sample_input(128, draws)
        return channel.for_critic(clean, channel.transmit(clean, draws))

    found = reached(build(name, channel), pair, 150)
    assert channel.capacity - 0.25 * 2 - 0.1 < found < channel.capacity + 0.1


class TestExact:
    @over(correlation=[1.0, 0.98, 0.8, 0.3, 0.0], scale=[0.01, 0.05, 0.5])
    def test_stays_sound_under_augmentation(self, scale, correlation):
        d, n = 4, 512
        channel = GaussianNoise(scale).build(d, n)
        critic = build("exact", channel)
        draws = generator(6)
        for _ in range(10):
            view, noisy = pairs(channel, draws, n, correlation)
            value = infonce(critic(view, noisy)).item()
        true = -0.5 * d * math.log1p(-(correlation**2) / (1 + scale**2))
        assert value > min(0.9 * true, 0.75 * math.log(n)) - 0.05
        if correlation == 0.8 and scale < 0.1:
            # What the test is for: with the bare density of the noise it would fail.
            assert infonce(channel.log_ratio(view, noisy)).item() < -50

    def test_finds_the_spread_of_the_views(self, channel):
        critic = build("exact", channel)
        draws = generator(7)
        for _ in range(50):
            critic(*pairs(channel, draws, 512, correlation=0.7))
        torch.testing.assert_close(critic.spread, torch.full((D,), 0.6), rtol=0.1, atol=0)


def test_chunks_of_concat_change_no_score_and_no_gradient(channel, monkeypatch):
    results = []
    for chunk in (2**22, 64 * N * 5):
        monkeypatch.setattr(critics, "CHUNK", chunk)
        critic = shake(build("concat", channel))
        view, noisy = (x.requires_grad_() for x in pairs(channel, generator()))
        scores = critic(view, noisy)
        infonce(scores).backward()
        with torch.no_grad():
            torch.testing.assert_close(critic(view, noisy), scores.detach())
        results.append([scores.detach(), view.grad, noisy.grad, critic.view.weight.grad])
    torch.testing.assert_close(*results)


DIGITS = load_digits().data
# Views and targets do not know the noise. Uniform noise is refused with the exact critic.
CHANNELS = [
    {"noise": noise, "critic": critic, "bound": bound}
    for noise, critics in (("gaussian", CRITICS), ("uniform", CRITICS.keys() - {"exact"}))
    for critic, bound in {
        *itertools.product(sorted(critics), ["infonce"]),
        *itertools.product(["concat"], BOUNDS),
        *zip(itertools.cycle(sorted(critics)), BOUNDS, strict=False),
    }
]
dim = small(batch_size=128, max_epochs=15, keep=None)


@over(choice=CHANNELS)
def test_noise_critic_and_bound(choice):
    model = dim(2, **choice, clean_weight=0.5, target="uniform", batch_size=64, max_epochs=2)
    z = model.fit_transform(DIGITS[:256])
    assert z.shape == (256, 2)
    assert np.isfinite(z).all()
    assert np.isfinite(model.mutual_information_)
    assert all(np.isfinite(values).all() for values in model.history_.values())
