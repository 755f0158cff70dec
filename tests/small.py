"""Transformers that are fitted in a moment, what they are fitted to, and what users bring along."""

import subprocess
import sys
import textwrap
from unittest import mock

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sknoisydim import NoisyDIMTransformer
from sknoisydim._net import _checkpoint


def small(n_components="auto", **settings):
    """Return what makes a transformer of these settings, but for those that it is given."""
    settings = {"max_epochs": 2, "random_state": 0, "refine": None} | settings

    def make(n_components=n_components, **parameters):
        return NoisyDIMTransformer(n_components, **settings | parameters)

    return make


# The rounding error of one number, relative to it.
EPS = {torch.float32: 1.2e-7, torch.float64: 2.3e-16}


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


class Perceptron(nn.Sequential):
    """A user's encoder: weights and dropout are drawn from torch's global generator."""

    def __init__(self, n_features, n_components):
        layers = nn.Linear(n_features, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, n_components)
        super().__init__(*layers)


class PowerCut(Callback):
    """Breaks a fit at the end of an epoch, if one is set: a fit that goes on has the same one."""

    at = None

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == PowerCut.at:
            raise RuntimeError("power cut")


# A checkpoint at the end of every epoch.
OFTEN = mock.patch.multiple(_checkpoint, SECONDS=0.0, SHARE=np.inf)


def without_times(history):
    return {k: v for k, v in history.items() if not k.endswith(("seconds", "dur"))}


def fails(message, call, *given, error=ValueError, **named):
    """See that a call raises such an error, with this pattern in its message; return the error."""
    with pytest.raises(error, match=message) as raised:
        call(*given, **named)
    return raised.value


def run_python(code, *given, **options):
    """Return what a program in a process of its own prints, which a warning ends."""
    command = [sys.executable, "-B", "-W", "error", "-c", textwrap.dedent(code), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
