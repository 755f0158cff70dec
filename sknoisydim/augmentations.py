"""Views: how a batch of rows becomes a batch of their views.

A view is a callable `(batch, generator) -> batch` on float32 tensors of scaled rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from sklearn.base import BaseEstimator, clone

from sknoisydim._options import allowed, unknown_option
from sknoisydim._validation import check_real

View = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def _bernoulli(x: torch.Tensor, rate: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(x.shape, generator=generator, device=x.device) < rate


class FeatureCorruption(BaseEstimator):
    r"""Replace random cells by the same column's value in another row of the batch.

    Each cell is replaced with probability `rate`, each from a row of its own, so a corrupted cell
    follows the column's marginal law (SCARF).

    Parameters
    ----------
    rate : float, default=0.5
        Probability that a cell is replaced, in [0, 1].

    References
    ----------
    D. Bahri, H. Jiang, Y. Tay, D. Metzler, "SCARF: Self-Supervised Contrastive Learning using
    Random Feature Corruption", ICLR 2022, section 3.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import FeatureCorruption
    >>> x = torch.arange(12.0).reshape(4, 3)
    >>> view = FeatureCorruption(rate=0.5)(x, torch.Generator().manual_seed(0))
    >>> bool(torch.isin(view, x).all()), bool((view % 3 == x % 3).all())
    (True, True)
    """

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = rate

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, p)."""
        rate = check_real(self.rate, "augmentation rate", minimum=0, maximum=1)
        mask = _bernoulli(x, rate, generator)
        rows = torch.randint(len(x), x.shape, generator=generator, device=x.device)
        return torch.where(mask, x.gather(0, rows), x)


class FeatureMasking(BaseEstimator):
    r"""Replace random cells by zero, which is the column's mean after scaling.

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

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, ...)."""
        rate = check_real(self.rate, "augmentation rate", minimum=0, maximum=1)
        return x.masked_fill(_bernoulli(x, rate, generator), 0.0)


class GaussianJitter(BaseEstimator):
    r"""Add normal noise to every cell.

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

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, ...)."""
        scale = check_real(self.scale, "augmentation scale", minimum=0)
        noise = torch.empty_like(x).normal_(generator=generator)
        return torch.add(x, noise, alpha=scale)


def identity(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the rows themselves: what `augmentation=None` means."""
    return x


AUGMENTATIONS: Mapping[str, type] = {
    "corruption": FeatureCorruption,
    "jitter": GaussianJitter,
    "masking": FeatureMasking,
}


def resolve_augmentation(augmentation: Any) -> View:
    """Return the view that a name, a class, an object, a callable or None stands for.

    Raises
    ------
    ValueError
        If a name is unknown.
    TypeError
        If it is no string and cannot be called.
    """
    if augmentation is None:
        return identity
    if isinstance(augmentation, str):
        if augmentation not in AUGMENTATIONS:
            raise ValueError(unknown_option(augmentation, AUGMENTATIONS, "augmentation"))
        return AUGMENTATIONS[augmentation]()
    if isinstance(augmentation, type) and issubclass(augmentation, BaseEstimator):
        return augmentation()
    if isinstance(augmentation, BaseEstimator):
        augmentation = clone(augmentation)
    if not callable(augmentation):
        raise TypeError(
            f"augmentation={augmentation!r} of type {type(augmentation).__name__} is not "
            f"understood: it takes {allowed(AUGMENTATIONS)}, None, or a callable "
            "(batch, generator) -> batch."
        )
    return augmentation
