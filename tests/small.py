"""Transformers that are fitted in a moment, which most tests want, and what they are fitted to."""

import numpy as np
import torch

from sknoisydim import NoisyDIMTransformer


def small(n_components="auto", **settings):
    """Return what makes a transformer of these settings, but for those that it is given."""
    settings = {"max_epochs": 2, "random_state": 0, "refine": None} | settings

    def make(n_components=n_components, **parameters):
        return NoisyDIMTransformer(n_components, **settings | parameters)

    return make


def generator(seed=0):
    return torch.Generator("cpu").manual_seed(seed)


def samples(n, seed):
    """Four features that two hidden ones drive."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n))
    columns = np.column_stack([a, np.exp(b / 2), a * b, a - b])
    return columns + 0.1 * rng.standard_normal((n, 4))


class Recording(NoisyDIMTransformer):
    """Keeps what it was fitted to."""

    def fit(self, X, y=None):
        self.seen_ = X
        return super().fit(X)

    def unseen(self, X):
        """Which samples of X are no part of it."""
        return ~(X[:, None] == self.seen_).all(2).any(1)
