"""Trained coupling layers along rotated axes: what a rotation-based Gaussianisation leaves."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .._isolation import make_generator
from ._base import (
    MIN_HELD_OUT,
    SLICE_ROWS,
    FloatArray,
    Identity,
    InvertibleMap,
    are_near,
    gains,
)
from ._descent import Clustered, Objective, descend, linear_head

# Units of the hidden layer of each coupling.
HIDDEN = 64
# Training: passes over the rows at most, and steps at most; rows in a batch; peak of the learning
# rate; price of moving a row.
EPOCHS, STEPS, BATCH, LR, TRANSPORT = 16, 360, 512, 0.01, 0.4
# Standard deviation of noise on the rows, between these: the second over the rows for each
# component. Few rows have to stand for more of the space around them.
LEAST_JITTER, JITTER_ROWS, MOST_JITTER = 0.05, 64, 0.2
# Rows for each component that another layer is worth, and layers at most.
ROWS_PER_LAYER, MOST_LAYERS = 42, 16
# A coordinate is scaled within this distance of 0, and shifted beyond.
BOUND = 5.0
# What describes the layers, stacked.
ARRAYS = ("axes", "inner", "inner_bias", "outer", "outer_bias")


class CouplingMap(InvertibleMap):
    r"""Layers that turn rows, move half of the coordinates by the other half, and turn back.

    With :math:`(a, b) = A z` for orthogonal A, a the first :math:`\lfloor d / 2 \rfloor`
    coordinates, and one hidden layer that gives s and t,

    .. math:: (s, t) = \tanh(a W + w) V + v, \qquad
              z \mapsto A^\top \bigl( a, \; e^{\tanh s} b + t \bigr)

    where b is scaled within 5 of 0 and shifted beyond, so a far row is moved by a bounded distance.

    Parameters
    ----------
    axes : ndarray of shape (layers, d, d)
        A, in float64 as all of them.
    inner, inner_bias : ndarray of shape (layers, d // 2, hidden) and (layers, hidden)
        W and w.
    outer, outer_bias : ndarray of shape (layers, hidden, 2 r) and (layers, 2 r)
        V and v, with r = d - d // 2.

    References
    ----------
    L. Dinh, J. Sohl-Dickstein, S. Bengio, "Density Estimation Using Real NVP", ICLR 2017,
    arXiv:1605.08803, equations 7 and 8; the rotations in place of masks are those of D. P. Kingma,
    P. Dhariwal, "Glow", NeurIPS 2018, arXiv:1807.03039, section 3.2.
    """

    def __init__(
        self,
        axes: FloatArray,
        inner: FloatArray,
        inner_bias: FloatArray,
        outer: FloatArray,
        outer_bias: FloatArray,
    ) -> None:
        super().__init__(axes.shape[-1])
        self.arrays = (axes, inner, inner_bias, outer, outer_bias)

    def _forward(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_det = np.zeros(len(z))
        for start in range(0, len(z), SLICE_ROWS):
            part = slice(start, start + SLICE_ROWS)
            for axes, *weights in zip(*self.arrays, strict=True):
                a, b = np.split(z[part] @ axes.T, [self.n_components // 2], axis=1)
                log_scale, shift = self._move(a, *weights)
                inside = np.clip(b, -BOUND, BOUND)
                log_det[part] += np.where(b == inside, log_scale, 0.0).sum(1)
                b = np.exp(log_scale) * inside + (b - inside) + shift
                z[part] = np.concatenate([a, b], axis=1) @ axes
        return z, log_det

    def _inverse(self, z: FloatArray) -> FloatArray:
        layers = list(zip(*self.arrays, strict=True))
        for start in range(0, len(z), SLICE_ROWS):
            part = slice(start, start + SLICE_ROWS)
            for axes, *weights in reversed(layers):
                a, b = np.split(z[part] @ axes.T, [self.n_components // 2], axis=1)
                log_scale, shift = self._move(a, *weights)
                b = b - shift
                scale = np.exp(log_scale)
                inside = np.clip(b, -BOUND * scale, BOUND * scale)
                z[part] = np.concatenate([a, inside / scale + (b - inside)], axis=1) @ axes
        return z

    @staticmethod
    def _move(
        a: FloatArray, inner: FloatArray, bias: FloatArray, outer: FloatArray, last: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return log scales and shifts of the other coordinates."""
        raw, shift = np.split(np.tanh(a @ inner + bias) @ outer + last, 2, axis=1)
        return np.tanh(raw), shift


def couple(z: torch.Tensor, layers: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `CouplingMap` makes of rows (n, d), with its gradients, and log determinants.

    `layers` are the arrays of the map, in their order.
    """
    kept = z.shape[1] // 2
    log_det = torch.zeros_like(z[:, kept:])
    for axes, inner, bias, outer, last in zip(*layers, strict=True):
        u = z @ axes.T
        a, b = u[:, :kept], u[:, kept:]
        raw, shift = (torch.tanh(a @ inner + bias) @ outer + last).chunk(2, dim=1)
        log_scale = torch.tanh(raw)
        inside = b.clamp(-BOUND, BOUND)
        log_det = log_det + torch.where(b == inside, log_scale, 0.0)
        b = torch.exp(log_scale) * inside + (b - inside) + shift
        z = torch.cat([a, b], dim=1) @ axes
    return z, log_det.sum(1)


class Couplings(nn.Module):
    """The layers of a `CouplingMap` in training: the identity at first, along axes at random.

    Parameters
    ----------
    n_layers, n_components : int
    generator : torch.Generator
    """

    def __init__(self, n_layers: int, n_components: int, generator: torch.Generator) -> None:
        super().__init__()
        d, kept = n_components, n_components // 2

        def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
            return scale * torch.randn(shape, generator=generator, dtype=torch.float32)

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, dtype=torch.float32))

        self.register_buffer("start", torch.linalg.qr(normal(n_layers, d, d))[0])
        self.turn = zeros(n_layers, d, d)
        self.inner = nn.Parameter(normal(n_layers, kept, HIDDEN, scale=kept**-0.5))
        self.inner_bias = nn.Parameter(normal(n_layers, HIDDEN, scale=0.5))
        self.outer = zeros(n_layers, HIDDEN, 2 * (d - kept))
        self.outer_bias = zeros(n_layers, 2 * (d - kept))

    def axes(self) -> torch.Tensor:
        """Return orthogonal axes (layers, d, d): those of the start, turned by Cayley's map."""
        skew = self.turn - self.turn.mT
        eye = torch.eye(skew.shape[-1], dtype=skew.dtype)
        turned: torch.Tensor = self.start @ torch.linalg.solve(eye + skew, eye - skew)
        return turned

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return moved rows (n, d) and log determinants (n,)."""
        return couple(z, [self.axes(), *(getattr(self, name) for name in ARRAYS[1:])])

    def to_map(self) -> CouplingMap:
        """Return the map in float64, its axes orthogonal to that precision."""
        with torch.no_grad():
            left, _, right = torch.linalg.svd(self.double().axes())
        weights = (getattr(self, name).detach().numpy() for name in ARRAYS[1:])
        return CouplingMap((left @ right).numpy(), *weights)


def auto_couplings(n_rows: int, n_components: int, most: int = MOST_LAYERS) -> int:
    """Return the layers that so many rows are worth, and `most` at most."""
    return min(n_rows // (ROWS_PER_LAYER * n_components), most)


def fit_couplings(
    fitted: tuple[FloatArray, np.ndarray | None],
    held_out: tuple[FloatArray, np.ndarray | None],
    n_layers: int,
    n_clusters: int | None,
    separation: float,
    seed: int,
) -> InvertibleMap:
    """Return coupling layers for rows (n, d) and their clusters, or the identity.

    By penalised maximum likelihood, as `FlowRefinement`. The identity where the density of the
    held-out rows did not gain: rows that have no clusters are not to be pulled apart for some.
    """
    generator = make_generator(seed)
    rows, judged = _near(*fitted, most=STEPS * BATCH), _near(*held_out)
    n, d = len(rows), fitted[0].shape[1]
    if min(n, len(judged)) < MIN_HELD_OUT:
        return Identity(d)
    layers = Couplings(n_layers, d, generator)
    head = linear_head(rows, n_clusters) if n_clusters and separation else None
    descend(
        layers,
        layers,
        Objective(TRANSPORT, separation, head),
        rows,
        judged,
        jitter=min(max(JITTER_ROWS * d / n, LEAST_JITTER), MOST_JITTER),
        batch_size=BATCH,
        max_epochs=min(EPOCHS, STEPS // -(-n // BATCH)),
        patience=EPOCHS,
        lr=LR,
        generator=generator,
    )
    coupled = layers.to_map()
    return coupled if gains(coupled, held_out[0]) else Identity(d)


def _near(z: FloatArray, labels: np.ndarray | None, most: int | None = None) -> Clustered:
    """Return the rows of z (n, d) that are not far out, about `most` of them from all over it."""
    near = np.flatnonzero(are_near(z))
    if most is not None and len(near) > most:
        near = near[:: -(-len(near) // most)]
    return Clustered(z[near], None if labels is None else labels[near])
