"""scikit-learn's QuantileTransformer to normal scores, in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from sklearn.preprocessing import QuantileTransformer
from torch import nn

# Of sklearn.preprocessing._data: how close to the outermost quantile counts as there.
THRESHOLD = 1e-7

# Coefficients of M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal
# Distribution", Applied Statistics 37 (1988), 477-484: PPND16, accurate to 1e-16.
_CENTRE = (
    (
        3.3871328727963666080,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
# Beyond 0.425 of the centre, up to the outermost score that is used, 5.2.
_TAIL = (
    (
        1.42343711074968357734,
        4.63033784615654529590,
        5.76949722146069140550,
        3.64784832476320460504,
        1.27045825245236838258,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187,
        1.67638483018380384940,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)


def _ratio(x: torch.Tensor, coefficients: Any) -> torch.Tensor:
    above, below = (torch.zeros_like(x) for _ in range(2))
    for a, b in zip(*map(reversed, coefficients), strict=True):
        above, below = above * x + a, below * x + b
    return above / below


def normal_quantile(p: torch.Tensor) -> torch.Tensor:
    """Quantile function of N(0, 1) in float64, for p from 1e-11 to 1 - 1e-11; ONNX has none."""
    q = p - 0.5
    centre = q * _ratio(0.180625 - q.square().clamp(max=0.180625), _CENTRE)
    tail = torch.minimum(p, 1 - p).clamp(1e-11, 0.1)
    r = torch.sqrt(-torch.log(tail))
    return torch.where(q.abs() <= 0.425, centre, q.sign() * _ratio(r - 1.6, _TAIL))


class NormalScores(nn.Module):
    """`QuantileTransformer(output_distribution="normal")` for finite rows.

    Parameters
    ----------
    fitted : QuantileTransformer
    """

    quantiles: torch.Tensor
    references: torch.Tensor

    def __init__(self, fitted: QuantileTransformer) -> None:
        super().__init__()
        quantiles = np.ascontiguousarray(fitted.quantiles_.T, dtype=np.float64)
        self.register_buffer("quantiles", torch.from_numpy(quantiles))
        self.register_buffer("references", torch.from_numpy(fitted.references_.astype(np.float64)))
        self.limit = -float(ndtri(THRESHOLD - np.spacing(1)))

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        quantiles, references = self.quantiles, self.references
        super()._apply(fn, recurse)
        self.quantiles = quantiles.to(self.quantiles.device)
        self.references = references.to(self.references.device)
        return self

    def _interpolate(self, x: torch.Tensor, upper: torch.Tensor, step: float) -> torch.Tensor:
        """Return references at x (n, p) on the segments that end at the knots `upper` (n, p).

        At the outermost knots a segment may have no width: there the share of it is `step`.
        """
        right = upper.clamp(1, len(self.references) - 1)[:, :, None]
        knots = self.quantiles.expand(x.shape[0], *self.quantiles.shape)
        low, high = (knots.gather(2, i).squeeze(2) for i in (right - 1, right))
        left, top = self.references[right[:, :, 0] - 1], self.references[right[:, :, 0]]
        width = high - low
        share = torch.where(width > 0, (x - low) / width.clamp(min=1e-300), step)
        return left + share.clamp(0, 1) * (top - left)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.float64)
        column = wide[:, :, None]
        # Repeated quantiles are a step: half of it, from either side, as scikit-learn does.
        above = self._interpolate(wide, (column >= self.quantiles).sum(2), 1.0)
        below = self._interpolate(wide, (column > self.quantiles).sum(2), 0.0)
        p = 0.5 * (above + below)
        # In the dtype of x, where float32 may not see the threshold: as scikit-learn does it.
        p = torch.where((x + THRESHOLD).to(torch.float64) > self.quantiles[:, -1], 1.0, p)
        p = torch.where((x - THRESHOLD).to(torch.float64) < self.quantiles[:, 0], 0.0, p)
        p = p.to(x.dtype).to(torch.float64)
        scores = normal_quantile(p.clamp(1e-11, 1 - 1e-11))
        return scores.clamp(-self.limit, self.limit).to(x.dtype)
