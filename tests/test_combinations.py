"""Every named component, and those that have to do with each other, from the tables."""

import itertools

import numpy as np
import pytest
from over import over
from sklearn.datasets import load_digits
from small import small

from sknoisydim.bounds import BOUNDS
from sknoisydim.critics import CRITICS

X, _ = load_digits(return_X_y=True)

# What a noise has to do with is critic and bound; views and targets do not know it, and each by
# itself is in tests/test_persistence.py. Uniform noise is refused with the exact critic
# (tests/test_noise.py).
CHANNELS = [
    {"noise": noise, "critic": critic, "bound": bound}
    for noise, critics in (("gaussian", CRITICS), ("uniform", CRITICS.keys() - {"exact"}))
    for critic, bound in {
        *itertools.product(sorted(critics), ["infonce"]),
        *itertools.product(["concat"], BOUNDS),
        *zip(itertools.cycle(sorted(critics)), BOUNDS, strict=False),
    }
]
# What takes long is asked of each critic with the default bound, and of each bound with one critic.
PAIRS = [(critic, "infonce") for critic in CRITICS]
PAIRS += [("bilinear", bound) for bound in BOUNDS if bound != "infonce"]


dim = small(batch_size=128, max_epochs=15, keep=None)


@over(choice=CHANNELS)
def test_noise_critic_and_bound(choice):
    model = dim(2, **choice, target="uniform", batch_size=64, max_epochs=2)
    z = model.fit_transform(X[:256])
    assert z.shape == (256, 2)
    assert np.isfinite(z).all()
    assert np.isfinite(model.mutual_information_)
    assert all(np.isfinite(values).all() for values in model.history_.values())


@pytest.mark.slow
@over(pair=PAIRS)
def test_training_raises_what_critic_and_bound_report(pair):
    critic, bound = pair
    model = dim(8, critic=critic, bound=bound, augmentation=None, clean_weight=0).fit(X)
    shown = model.history_["train_information"]
    assert shown[-1] > shown[0]
    # An inner product of two networks starts 13 nats below zero where nothing caps the loss, and
    # has not caught up after 15 epochs; the others start near the density ratio.
    least = 0.1 if critic == "separable" else 0.6
    assert shown[-1] > least * model.capacity_
