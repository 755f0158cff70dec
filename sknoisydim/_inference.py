"""A fitted encoder at work: rows in, normal embeddings out, a slice at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from sknoisydim.encoders import fold
from sknoisydim.normalization import Normalizer

# Rows of a slice: large enough to feed the matrix products, small enough that a layer's output
# stays in the cache of one core (1 MB at 256 units).
SLICE_ROWS = 1024


class Embedder(nn.Module):
    """Scaling, encoder and normalisation as one module: rows (n, p) -> N(0, I) (n, d).

    Parameters
    ----------
    scaling, encoder, normalizer : nn.Module
        As fitted.
    """

    def __init__(self, scaling: nn.Module, encoder: nn.Module, normalizer: Normalizer) -> None:
        super().__init__()
        self.scaling = scaling
        self.encoder = encoder
        self.normalizer: Normalizer = normalizer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.normalizer(self.encoder(self.scaling(x)))


def for_inference(embedder: Embedder, dtype: np.dtype, device: torch.device) -> nn.Module:
    """Return a copy that computes in `dtype`, with linear layers folded where that is possible."""
    scaling = copy.deepcopy(embedder.scaling).to(device)
    with torch.no_grad():
        normalizer = embedder.normalizer
        folded = fold(embedder.encoder, normalizer.mean, normalizer.matrix)
        network = folded or nn.Sequential(embedder.encoder, normalizer)
        network = copy.deepcopy(network).to(device).eval()
    if dtype == np.float64:
        network = network.double()
    return nn.Sequential(scaling, network)


def embeddings(
    embedder: Embedder, X: np.ndarray, device: torch.device, refinement: Any = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of rows and their embeddings (m, d) in float64.

    The network computes in the dtype of X; the refinement, which may be None, in float64.
    """
    model = for_inference(embedder, X.dtype, device)
    for start in range(0, len(X), SLICE_ROWS):
        part = slice(start, min(start + SLICE_ROWS, len(X)))
        # torch shares memory with an array only if it may write there, and never backwards; and the
        # last bits of a matrix product depend on the layout (that of a data frame is Fortran's).
        batch = np.require(X[part], requirements=["C", "W"])
        # A block, not a wrapped loop: the mode must not leak into the caller between two slices.
        with torch.inference_mode():
            z = model(torch.from_numpy(batch).to(device)).cpu().numpy()
        z = z.astype(np.float64, copy=False)
        yield part, z if refinement is None else refinement.forward(z)


def log_densities(
    embedder: Embedder, X: np.ndarray, device: torch.device, refinement: Any = None
) -> np.ndarray:
    """Return log densities (n,) of embeddings whose refined law is N(0, I), in nats."""
    out = np.empty(len(X))
    for part, z in embeddings(embedder, X, device):
        refined = z if refinement is None else refinement.forward(z)
        out[part] = -0.5 * np.square(refined).sum(1) - 0.5 * z.shape[1] * np.log(2 * np.pi)
        if refinement is not None:
            out[part] += refinement.log_abs_det(z)
    return out
