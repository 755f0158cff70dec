"""Properties of every bound: values are nats, within the known bias of the bound."""

import copy
import functools
import math

import pytest
import torch
from over import over
from small import fails, generator

from sknoisydim.bounds import BOUNDS, DonskerVaradhan, dv, infonce, resolve_bound
from sknoisydim.noise import GaussianNoise

N, N_BATCHES, CLIP = 512, 8, 5.0
# (components, noise): from 0.1 nats to beyond log n = 6.2 nats, where InfoNCE is capped and the
# others scatter.
CHANNELS = [(d, s) for d in (1, 4, 16) for s in (0.3, 1.0, 3.0)] + [(1, 0.05), (4, 0.1)]
each_bound = over(name=sorted(BOUNDS))


@functools.cache
def batches(d, scale, n=N, n_batches=N_BATCHES):
    """The channel at capacity, and its exact scores in float64: the log density ratio itself."""
    channel = GaussianNoise(scale).build(d, n)
    draws = generator(d)
    scores = []
    for _ in range(n_batches):
        clean = torch.empty(n, d, dtype=torch.float64).normal_(generator=draws)
        scores.append(channel.log_ratio(clean, channel.transmit(clean, draws)))
    return channel.capacity, scores


def known_bias(capacity, d, scores):
    """The interval that `value - capacity` has to lie in, for each bound, with batches of n rows.

    - The mean of T over own pairs scatters with its sample standard deviation: all bounds.
    - E_q[e^T] scatters with variance e^(2I) / n^2 (the second moment of the ratio is e^(2I), and
      its sum over all pairs is degenerate). NWJ takes it as it is; its log is below zero by half
      the variance, and heavy tails make the sample mean too small, by at most all of it.
    - InfoNCE loses at most log(1 + (E_q[e^(2T)] - 1) / n), by Jensen, and stays below log n.
    - SMILE gains at most -log P_p(T <= clip), and loses at most e^-clip.
    """
    own = torch.cat([s.diagonal() for s in scores])
    chance = 4 * own.std().item() / math.sqrt(len(own))
    scatter = math.exp(capacity) / N
    ratio = 4 * scatter / math.sqrt(len(scores))
    loss = math.log1p(math.expm1(2 * capacity) / N)
    jump = -math.log(max((own <= CLIP).double().mean().item(), 1 / len(own)))
    nwj = (-chance - ratio, chance + min(ratio, 1))
    return {
        "infonce": (-chance - loss, min(chance, math.log(N) - capacity)),
        "nwj": nwj,
        "jsd": nwj,
        "dv": (-chance - ratio, chance + ratio + scatter**2 / 2),
        "smile": (-chance - ratio - math.exp(-CLIP), chance + ratio + jump),
    }


def value(name, scores):
    bound = resolve_bound(name)
    return sum(bound(s).item() for s in scores) / len(scores)


@each_bound
@over("d, scale", CHANNELS)
def test_is_within_its_known_bias_of_the_closed_form(name, d, scale):
    capacity, scores = batches(d, scale)
    low, high = known_bias(capacity, d, scores)[name]
    assert low <= value(name, scores) - capacity <= high


def test_infonce_never_exceeds_log_n():
    for scale in (1e-3, 1.0, 1e2, 1e4):
        scores = torch.empty(32, 32).normal_(generator=generator()) * scale
        assert infonce(scores) <= math.log(32) + 1e-5
        assert infonce(scores + 1e4 * torch.eye(32)) <= math.log(32) + 1e-3


@each_bound
def test_no_information_is_zero(name):
    assert value(name, [torch.zeros(N, N)]) == pytest.approx(0, abs=1e-5)
    _, scores = batches(4, 30.0)  # next to nothing crosses
    assert value(name, scores) == pytest.approx(0, abs=0.01)


@each_bound
@over(size=[1.0, 1e2, 1e4], case=["random", "right", "wrong", "flat"])
def test_values_and_gradients_are_finite_in_float32(name, size, case):
    scores = torch.empty(16, 16).normal_(generator=generator())
    extra = {"random": 0, "right": torch.eye(16), "wrong": -torch.eye(16), "flat": 1}[case]
    scores = (size * (scores + 3 * extra)).requires_grad_()
    bound = resolve_bound(name)
    for _ in range(2):  # the second meets what the first left behind
        bound(scores).backward()
    assert bound(scores).isfinite()
    assert scores.grad.isfinite().all()


@each_bound
def test_the_true_density_ratio_is_where_training_ends(name):
    """The mean gradient by a factor and a shift of the true scores vanishes."""
    _, scores = batches(4, 1.0, n_batches=32)
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bound = resolve_bound(name)
    sum(bound(factor * s + shift) for s in scores).backward()
    assert factor.grad.item() / 32 == pytest.approx(0, abs=0.05)
    assert shift.grad.item() / 32 == pytest.approx(0, abs=0.05)


class TestDonskerVaradhan:
    scores = torch.empty(16, 16).normal_(generator=generator())

    def test_denominator_is_the_average_over_batches(self):
        def gradient(bound, scores):
            scores = scores.clone().requires_grad_()
            value = bound(scores)
            torch.testing.assert_close(value, dv(scores), atol=1e-5, rtol=0)
            return torch.autograd.grad(value, scores)[0]

        bound = DonskerVaradhan(0.9)
        torch.testing.assert_close(gradient(bound, self.scores), gradient(dv, self.scores))
        # All rivals e times as large: the gradient has e / (0.9 + 0.1 e) of them, in place of 1.
        rivals = gradient(bound, self.scores + 1) - torch.eye(16) / 16
        expected = (gradient(dv, self.scores) - torch.eye(16) / 16) * math.e
        torch.testing.assert_close(rivals, expected / (0.9 + 0.1 * math.e))

    def test_evaluation_leaves_the_average_alone(self):
        bound = DonskerVaradhan()
        bound(self.scores.clone().requires_grad_())
        before = copy.deepcopy(bound.state_dict())
        with torch.no_grad():
            bound(self.scores + 3)
        bound.eval()(self.scores + 3)
        assert bound.state_dict() == before
        for decay in (-0.1, 1.0, math.nan):
            fails("bound decay", DonskerVaradhan, decay)


@over(size=[1, 2, 100], scale=[1e-3, 1.0, 30.0, 1e5])
def test_infonce_is_its_formula(size, scale):
    scores = scale * torch.randn(size, size, generator=generator(), dtype=torch.float64)
    first, second = (scores.clone().requires_grad_() for _ in range(2))
    rivals = second.logsumexp(1).mean() + second.logsumexp(0).mean()
    value, expected = infonce(first), second.diagonal().mean() - rivals / 2 + math.log(size)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    (value + expected).backward()
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-9, atol=1e-12)
