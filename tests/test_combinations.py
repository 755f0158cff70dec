"""Every named component, and those that have to do with each other, from the tables."""

import itertools
import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sknoisydim import NoisyDIMTransformer
from sknoisydim.augmentations import AUGMENTATIONS
from sknoisydim.bounds import BOUNDS
from sknoisydim.critics import CRITICS
from sknoisydim.noise import NOISES
from sknoisydim.targets import TARGETS

X, _ = load_digits(return_X_y=True)

TABLES = {
    "critic": sorted(CRITICS),
    "bound": sorted(BOUNDS),
    "augmentation": [*sorted(AUGMENTATIONS), None],
    "target": sorted(TARGETS),
}
# Each member once, with the defaults for the rest.
ALONE = [{table: name} for table, names in TABLES.items() for name in names]
# What a noise has to do with is critic and bound; views and targets do not know it. Uniform noise
# is refused with the exact critic (tests/test_noise.py).
CHANNELS = [
    (noise, critic, bound)
    for noise, critic, bound in itertools.product(NOISES, CRITICS, BOUNDS)
    if (noise, critic) != ("uniform", "exact")
]
# What takes long is asked of each critic with the default bound, and of each bound with one critic.
PAIRS = [(critic, "infonce") for critic in CRITICS]
PAIRS += [("bilinear", bound) for bound in BOUNDS if bound != "infonce"]


def words(choice):
    return "-".join(str(name) for name in choice.values())


def check_fits(choice, d=4):
    model = NoisyDIMTransformer(
        d, **choice, batch_size=64, max_epochs=2, refine=None, random_state=0
    )
    z = model.fit_transform(X[:256])
    assert z.shape == (256, d)
    assert np.isfinite(z).all()
    assert np.isfinite(model.mutual_information_)
    assert all(np.isfinite(values).all() for values in model.history_.values())
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X[:8]), model.transform(X[:8]))


@pytest.mark.parametrize("choice", ALONE, ids=words)
def test_each_fits_with_the_defaults(choice):
    check_fits(choice)


@pytest.mark.parametrize(("noise", "critic", "bound"), CHANNELS)
def test_each_noise_with_each_critic_and_bound(noise, critic, bound):
    check_fits({"noise": noise, "critic": critic, "bound": bound, "target": "uniform"}, d=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("critic", "bound"), [("separable", "infonce"), ("concat", "infonce"), ("bilinear", "dv")]
)
def test_uniform_noise_on_two_components_reaches_its_share(critic, bound):
    """Of all that the channel passes, since 0.8 log B nats are what a batch can show."""
    model = NoisyDIMTransformer(
        2,
        "uniform",
        noise="uniform",
        critic=critic,
        bound=bound,
        clean_weight=1,
        batch_size=128,
        keep=None,
        refine=None,
        max_epochs=15,
        random_state=0,
    ).fit(X)
    assert model.mutual_information_ > 0.75 * model.capacity_


@pytest.mark.slow
@pytest.mark.parametrize(("critic", "bound"), PAIRS)
def test_training_raises_what_critic_and_bound_report(critic, bound):
    model = NoisyDIMTransformer(
        8,
        critic=critic,
        bound=bound,
        augmentation=None,
        clean_weight=0,
        batch_size=128,
        keep=None,
        refine=None,
        max_epochs=15,
        random_state=0,
    ).fit(X)
    shown = model.history_["train_information"]
    assert shown[-1] > shown[0]
    # An inner product of two networks starts 13 nats below zero where nothing caps the loss, and
    # has not caught up after 15 epochs; the others start near the density ratio.
    least = 0.1 if critic == "separable" else 0.6
    assert shown[-1] > least * model.capacity_
