"""The chain of torch modules that a fitted transformer is."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from sknoisydim._context import own_forward
from sknoisydim._inference import Embedder
from sknoisydim._modules import Float64, Table
from sknoisydim.scaling import SklearnScaling
from sknoisydim.targets import Independent, MultivariateNormal, Normal, Target, Uniform

# Normal scores beyond which a target with independent components stays where it is: one row in
# 10^16 is there, and a float64 next to 1 knows no smaller tail.
EDGE = 8.5


class FittedModel(nn.Module):
    """The chain of a fit: raw rows (n, p) -> embeddings (n, d).

    Parameters
    ----------
    embedder : Embedder
        Scaling, encoder and normalisation, which give the dtype.
    refinement, target : nn.Module
        Rows (n, d) -> rows (n, d).
    """

    def __init__(self, embedder: Embedder, refinement: nn.Module, target: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder
        self.refinement = refinement
        self.target = target

    @classmethod
    def of(cls, estimator: Any, target: bool) -> FittedModel:
        """Return a copy of the chain of a fitted transformer, which shares nothing with it.

        Raises
        ------
        ValueError
            If a part of it has no form in torch.
        """
        embedder = estimator.encoder_
        if isinstance(embedder.scaling, SklearnScaling):
            raise ValueError(
                f"scaling={embedder.scaling.transformer!r} has no form in torch; 'squash', "
                "'standard', 'quantile' and None have. Put your transformer into a Pipeline before "
                "this one, and set scaling=None or another of these."
            )
        refinement = estimator.refinement_ or nn.Identity()
        if not isinstance(refinement, nn.Module):
            raise ValueError(f"the refinement {type(refinement).__name__} is no torch module.")
        last = target_module(estimator.target_) if target else nn.Identity()
        model = cls(copy.deepcopy(embedder), copy.deepcopy(refinement), last)
        return model.eval().requires_grad_(False)

    @own_forward
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.embedder(x)
        z: torch.Tensor = self.target(self.refinement(embedded))
        return z.to(embedded.dtype)


class Affine(Float64):
    """`MultivariateNormal`: a mean and a triangular factor."""

    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(self, target: MultivariateNormal) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(target.mean_.copy()))
        self.register_buffer("factor", torch.from_numpy(target.factor_.copy()))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.mean + z.to(torch.float64) @ self.factor.T


def target_module(target: Target) -> nn.Module:
    """Return the map of a bound target; of independent components, a table of it.

    Raises
    ------
    ValueError
        If it has no form in torch.
    """
    if type(target) is Normal:
        return nn.Identity()
    if type(target) is MultivariateNormal:
        return Affine(target)
    if isinstance(target, (Independent, Uniform)):
        width = 1 if target._iid else target.n_components_
        one = target.bind(width)
        return Table(lambda knots: one.push(np.repeat(knots, width, 1)), EDGE)
    raise ValueError(
        f"the target {target!r} has no form in torch; 'normal', MultivariateNormal and those with "
        "independent components have. With target=False the module returns the embedding close to "
        "N(0, I), and model.target_.push maps it to the target."
    )
