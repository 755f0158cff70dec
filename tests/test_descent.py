"""The descent of a refinement keeps the weights that were best on held-out rows."""

import numpy as np
import torch
from torch import nn

from sknoisydim.refinement._descent import Clustered, Objective, descend

RNG = np.random.default_rng(0)


def test_a_descent_that_only_loses_leaves_the_map_as_it_was():
    module = nn.Linear(2, 2)
    nn.init.eye_(module.weight)
    nn.init.zeros_(module.bias)

    def forward(z):
        return module(z), torch.linalg.slogdet(module.weight)[1].expand(len(z))

    fitted, held_out = (Clustered(RNG.normal(size=(n, 2)), None) for n in (40, 4000))
    objective = Objective(0.0, 0.0, None)
    descend(
        module,
        forward,
        objective,
        fitted,
        held_out,
        jitter=0.0,
        batch_size=10,
        max_epochs=5,
        patience=5,
        lr=0.3,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(module.weight, torch.eye(2))
    assert torch.equal(module.bias, torch.zeros(2))


def test_a_descent_that_gains_keeps_the_gain():
    module = nn.Linear(2, 2)

    def forward(z):
        return module(z), torch.linalg.slogdet(module.weight)[1].expand(len(z))

    def loss():
        with torch.no_grad():
            return objective(forward, held_out.rows, held_out.codes).item()

    fitted, held_out = (Clustered(3 * RNG.normal(size=(n, 2)) + 1, None) for n in (2000, 2000))
    objective = Objective(0.0, 0.0, None)
    given = {"jitter": 0.0, "batch_size": 100, "max_epochs": 20, "patience": 20, "lr": 0.05}
    before = loss()
    generator = torch.Generator().manual_seed(0)
    descend(module, forward, objective, fitted, held_out, **given, generator=generator)
    # E |z|^2 / 2 + log |det| of the best affine map: 1 + 2 log 3.
    assert abs(loss() - (1 + 2 * np.log(3))) < 0.1 < before - loss()
