"""Matrix products of training in bfloat16, and fits that ask for trouble."""

import pickle

import numpy as np
import pytest
import torch
from over import over
from small import small
from torch import nn

from sknoisydim.encoders import MLPEncoder

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(600, 4)) @ RNG.normal(size=(4, 8))).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


dim = small(4, max_epochs=15)


class Asks(nn.Linear):
    """Remembers what its products were taken in."""

    def forward(self, x):
        output = super().forward(x)
        # The encoder is in evaluation mode for clean rows, in training too.
        self.dtypes = [*getattr(self, "dtypes", []), (torch.is_grad_enabled(), output.dtype)]
        return output


class Component:
    """Builds one, and asks for bfloat16."""

    precision = "bf16"

    def build(self, n_features, n_components, generator):
        return Asks(n_features, n_components)


def test_products_are_in_bfloat16_in_training_only():
    model = dim(encoder=Component(), max_epochs=1).fit(X)
    dtypes = set(model.encoder_.encoder.dtypes)
    assert (True, torch.bfloat16) in dtypes
    assert {dtype for training, dtype in dtypes if not training} <= {torch.float32, torch.float64}
    plain = dim(encoder=Asks, max_epochs=1).fit(X)
    assert torch.bfloat16 not in {dtype for _, dtype in plain.encoder_.encoder.dtypes}


@over(
    parameters=[
        {"supervision": 0.5, "early_stopping": True},
        {"clean_weight": 0.5, "critic": "concat", "bound": "dv", "max_epochs": 5},
    ]
)
def test_tells_as_much_as_float32(parameters):
    plain, half = (
        dim(encoder=MLPEncoder(precision=p), **parameters).fit(X, Y) for p in ("32", "bf16")
    )
    for model in (plain, half):
        Z = model.transform(X)
        assert Z.dtype == np.float32
        np.testing.assert_allclose(np.cov(Z.T, bias=True), np.eye(4), atol=0.05)
    assert half.score(X) == pytest.approx(plain.score(X), abs=0.03)
    assert (half.transform(X) != plain.transform(X)).any()
    assert {p.dtype for p in half.net_.module_.parameters()} == {torch.float32}
    again = pickle.loads(pickle.dumps(half))
    np.testing.assert_array_equal(again.transform(X), half.transform(X))
