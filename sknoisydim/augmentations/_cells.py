"""Noise on every cell, masked cells, and rows mixed with others."""

from __future__ import annotations

import torch
from scipy.special import betaincinv
from sklearn.base import BaseEstimator

from sknoisydim._context import own_context
from sknoisydim._validation import check_real

from ._base import bernoulli, has_missing


class FeatureMasking(BaseEstimator):
    r"""Replace random cells by zero, the column's mean where `scaling` centres it.

    A missing cell is replaced like any other.

    Parameters
    ----------
    rate : float, default=0.3
        Probability that a cell is masked, in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import FeatureMasking
    >>> FeatureMasking(rate=1.0)(torch.ones(2, 3), torch.Generator()).sum().item()
    0.0
    """

    def __init__(self, rate: float = 0.3) -> None:
        self.rate = rate

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, ...)."""
        rate = check_real(self.rate, "augmentation rate", minimum=0, maximum=1)
        return x.masked_fill(bernoulli(x, rate, generator), 0.0)


class GaussianJitter(BaseEstimator):
    r"""Add normal noise to every cell; missing ones stay missing.

    Parameters
    ----------
    scale : float, default=0.3
        Standard deviation of the noise, in units of the scaled columns.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import GaussianJitter
    >>> GaussianJitter(scale=0.0)(torch.ones(2, 3), torch.Generator()).sum().item()
    6.0
    """

    def __init__(self, scale: float = 0.3) -> None:
        self.scale = scale

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, ...)."""
        scale = check_real(self.scale, "augmentation scale", minimum=0)
        noise = torch.empty_like(x).normal_(generator=generator)
        return torch.add(x, noise, alpha=scale)


class Mixup(BaseEstimator):
    r"""Mix each row with a random one of the batch.

    .. math:: x' = \lambda x + (1 - \lambda) x_{\text{other}}, \qquad
        \lambda = \max(b, 1 - b), \quad b \sim \operatorname{Beta}(\alpha, \alpha)

    The larger share is the row's own, so that the view belongs to it. A cell that is missing in
    either row stays as it is.

    Parameters
    ----------
    alpha : float, default=0.4
        :math:`\alpha` > 0. The smaller, the closer views stay to their rows; 1 draws the row's
        share uniformly from [1/2, 1].

    References
    ----------
    H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical Risk Minimization",
    ICLR 2018, section 2, for the mixture and the distribution of its weight.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import Mixup
    >>> x = torch.arange(4.0).reshape(4, 1)
    >>> view = Mixup(alpha=1.0)(x, torch.Generator().manual_seed(0))
    >>> bool((view >= x.min()).all()), bool(((view - x).abs() <= 1.5).all())
    (True, True)
    """

    def __init__(self, alpha: float = 0.4) -> None:
        self.alpha = alpha

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, ...)."""
        others = torch.randint(len(x), (len(x),), generator=generator, device=x.device)
        others = x[others]
        alpha = check_real(self.alpha, "augmentation alpha", minimum=0, closed="neither")
        u = torch.rand(len(x), generator=generator, device=x.device, dtype=torch.float32)
        # torch draws beta variates from its global generator alone; the quantile function takes
        # ours. The distribution is symmetric, so its upper half is that of the larger share.
        share = betaincinv(alpha, alpha, 0.5 + 0.5 * u.double().cpu().numpy())
        weight = torch.as_tensor(share).to(x).view(-1, *[1] * (x.ndim - 1))
        mixed = torch.lerp(others, x, weight)
        return torch.where(mixed.isnan(), x, mixed) if has_missing(x) else mixed
