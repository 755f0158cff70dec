"""The chain of torch modules that a fitted transformer is, and rows through it by slices."""

import copy
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from sknoisydim._context import own_forward
from sknoisydim._modules import Float64, Table
from sknoisydim._normal import normal_logpdf
from sknoisydim._sources import RowSource
from sknoisydim.encoders import IndicateMissing, fold
from sknoisydim.normalization import Normalizer
from sknoisydim.refinement import InvertibleMap
from sknoisydim.scaling import SklearnScaling
from sknoisydim.targets import Independent, MultivariateNormal, Normal, Target, Uniform

# Rows of a slice: a layer's output stays in the cache of one core (1 MB at 256 units).
SLICE_ROWS = 1024
# What N(0, I) is clipped to on the way back: squares beyond may overflow.
FAR = 1e3


class Embedder(nn.Module):
    """Scaling, encoder and normalisation as one module: rows (n, p) -> N(0, I) (n, d).

    Rows of any dtype become embeddings in that of the module. Those of more dimensions are scaled
    cell by cell.
    """

    in_double = True  # as `check_double` finds
    row_shape: tuple[int, ...] | None = None  # where it has more dimensions than one

    def __init__(self, scaling: nn.Module, encoder: nn.Module, normalizer: Normalizer) -> None:
        super().__init__()
        self.scaling, self.encoder = scaling, encoder
        self.normalizer: Normalizer = normalizer

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return embeddings (n, d) of rows, close to N(0, I)."""
        x = x if x.dtype in (torch.float32, torch.float64) else x.double()
        if self.row_shape is not None:
            x = x.flatten(1)
        own = isinstance(self.scaling, SklearnScaling)  # which shows them the mean
        if isinstance(self.encoder, IndicateMissing) and not own:
            # Around the scaling: what an ONNX runtime's minimum makes of NaN is its own.
            gone = x.isnan()
            scaled = self.scaling(x.masked_fill(gone, 0.0)).masked_fill(gone, torch.nan)
        else:
            scaled = self.scaling(x)
        if self.row_shape is not None:
            scaled = scaled.unflatten(1, self.row_shape)
        return self.normalizer(self.encoder(scaled.to(self.normalizer.mean.dtype)))

    forward = own_forward(embed)

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Return samples as the encoder gets them, of shape (n, p), in float64."""
        with torch.inference_mode():
            x = self.scaling(torch.from_numpy(np.array(rows))).double()
            x = self.encoder.widen(x) if isinstance(self.encoder, IndicateMissing) else x
            return x.flatten(1).numpy()

    def check_double(self, X: RowSource) -> None:
        """See with one row whether a copy in float64 works, and remember it.

        It does not where a module's forward casts to float32, or uses tensors that are neither
        parameters nor buffers.
        """
        self.in_double = True
        try:
            embeddings(self, X[:1].astype(np.float64), torch.device("cpu"))
        except Exception:  # noqa: BLE001 (a user's module; what also fails in float32 is raised there)
            self.in_double = False

    def for_inference(self, dtype: np.dtype, device: torch.device) -> Self:
        """Return a copy that computes in `dtype` if it can, with linear layers folded."""
        copied = copy.deepcopy(self).to(device).eval()
        if dtype == np.float64 and self.in_double:
            copied.double()  # before they become one
        normalizer = copied.normalizer
        with torch.no_grad():
            folded = fold(copied.encoder, normalizer.mean, normalizer.matrix)
        if folded is not None:
            copied.encoder = folded
            normalizer.mean.zero_()
            nn.init.eye_(normalizer.matrix)
        return copied


class TargetMap(nn.Module):
    """The map of a bound target: N(0, I) (n, d) -> rows, finite ones of the same dtype."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if self.target._in_single:
            return torch.from_numpy(self.target._push(z.numpy()))
        limit = torch.finfo(z.dtype).max
        x = self.target._push(z.to(torch.float64, copy=True).numpy())
        return torch.from_numpy(x).clamp_(-limit, limit).to(z.dtype)

    def inverse(self, x: torch.Tensor) -> torch.Tensor:
        z = self.target._pull(x.to(torch.float64, copy=True).numpy())
        return torch.from_numpy(z).to(x.dtype)


class FittedModel(nn.Module):
    """The chain of a fit, rows (n, p) -> embeddings (n, d), without what is None."""

    def __init__(
        self, embedder: Embedder, refinement: Any = None, target: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.embedder, identity = embedder, InvertibleMap(len(embedder.normalizer.mean))
        self.refinement: Any = identity if refinement is None else refinement
        self.target: Any = identity if target is None else target

    @classmethod
    def of(cls, estimator: BaseEstimator, target: bool) -> Self:
        """Return a copy of the chain of a fitted transformer in torch, which shares nothing."""
        embedder, refinement = estimator.encoder_, estimator.refinement_
        if isinstance(embedder.scaling, SklearnScaling):
            raise ValueError(
                f"scaling={embedder.scaling.transformer!r} has no form in torch; 'squash', "
                "'standard', 'quantile' and None have. Put yours in front, in a Pipeline."
            )
        if not isinstance(refinement, nn.Module | None):
            raise ValueError(f"the refinement {type(refinement).__name__} is no torch module.")
        last = target_module(estimator.target_) if target else None
        return copy.deepcopy(cls(embedder, refinement, last)).eval().requires_grad_(False)

    @own_forward
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.embedder(x)
        return self.target(self.refinement(z)).to(z.dtype)

    def inverse(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the embedder made of the rows whose embeddings x (n, d) are."""
        return self.refinement.inverse(self.target.inverse(x).clamp(-FAR, FAR))

    def in_slices(self, X: RowSource, device: torch.device) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield slices of rows and what forward makes of them, in the dtype of X where it can be.

        The embedder computes on the device, what is behind it on the CPU.
        """
        embedder = self.embedder.for_inference(X.dtype, device)
        for start in range(0, len(X), SLICE_ROWS):
            part = slice(start, min(start + SLICE_ROWS, len(X)))
            # torch shares memory with an array only if it may write there, and never backwards; and
            # the last bits of a matrix product depend on the layout.
            batch = torch.from_numpy(np.require(X[part], requirements=["C", "W"]))
            # Not around the loop: the mode must not leak into the caller between slices.
            with torch.inference_mode():
                z = embedder.embed(batch.to(device)).cpu().to(batch.dtype)
                z = self.target(self.refinement(z))
            yield part, z

    def log_densities(self, X: RowSource, device: torch.device) -> np.ndarray:
        """Return log densities (n,) of embeddings whose refined ones have N(0, I), in nats."""
        out, maps = np.empty(len(X)), self.refinement
        for part, z in FittedModel(self.embedder).in_slices(X, device):
            with torch.inference_mode():
                z = z.double()
                both = getattr(maps, "call_and_ladj", None)  # which one of the user's has not
                refined, log_det = both(z) if both else (maps(z), maps.log_abs_det(z))
            out[part] = normal_logpdf(refined.numpy()) + log_det.numpy()
        return out


def embeddings(
    embedder: Embedder, X: RowSource, device: torch.device, refinement: Any = None
) -> np.ndarray:
    """Return embeddings (n, d) before the target, in float64."""
    parts = [z.numpy() for _, z in FittedModel(embedder, refinement).in_slices(X, device)]
    return np.concatenate(parts).astype(np.float64, copy=False)


class Affine(Float64):
    """`MultivariateNormal`: a mean and a triangular factor."""

    def __init__(self, target: MultivariateNormal) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.from_numpy(target.mean_))
        self.factor = nn.Buffer(torch.from_numpy(target.factor_))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.mean + z.to(torch.float64) @ self.factor.T


def target_module(target: Target) -> nn.Module:
    """Return the map of a bound target; of independent components, a table of it."""
    if type(target) is Normal:
        return InvertibleMap(target.n_components_)
    if type(target) is MultivariateNormal:
        return Affine(target)
    if isinstance(target, (Independent, Uniform)):
        # Beyond these scores is one row in 10^16, and a float64 next to 1 knows no smaller tail.
        return Table(lambda knots: target.push(np.repeat(knots, target.n_components_, 1)), 8.5)
    raise ValueError(
        f"the target {target!r} has no form in torch; 'normal', MultivariateNormal and those with "
        "independent components have. Use target=False, and model.target_.push."
    )
