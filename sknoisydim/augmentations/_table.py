"""The named views, their composition, and the one way from a user's `augmentation` to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sklearn.base import BaseEstimator, clone

from sknoisydim._options import allowed, unknown_option

from ._base import View
from ._cells import FeatureMasking, GaussianJitter, Mixup
from ._corruption import FeatureCorruption
from ._neighbors import Neighbors


def _nothing() -> None:
    """Do what a view does that holds no rows."""


class Chain:
    def __init__(self, views: Sequence[View]) -> None:
        self.views = views

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        for view in self.views:
            x = view(x, generator)
        return x

    def release(self) -> None:
        for view in self.views:
            getattr(view, "release", _nothing)()


class Compose(BaseEstimator):
    """Several views, one after the other.

    Parameters
    ----------
    views : sequence
        Of what `augmentation` takes: names, objects of this module, callables.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import Compose, FeatureMasking
    >>> view = Compose(["jitter", FeatureMasking(rate=1.0)])
    >>> view(torch.ones(2, 3), torch.Generator()).sum().item()
    0.0
    """

    def __init__(self, views: Sequence[Any]) -> None:
        self.views = views

    def prepare(self, sample: torch.Tensor) -> View:
        """Return the composition of the views, each for a sample of scaled rows (n, ...)."""
        return Chain([prepare_view(resolve_augmentation(view), sample) for view in self.views])

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, ...)."""
        return Chain([resolve_augmentation(view) for view in self.views])(x, generator)


def identity(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the rows themselves: what `augmentation=None` means."""
    return x


AUGMENTATIONS: Mapping[str, type] = {
    "corruption": FeatureCorruption,
    "jitter": GaussianJitter,
    "masking": FeatureMasking,
    "mixup": Mixup,
    "neighbors": Neighbors,
}


def prepare_view(view: View, sample: torch.Tensor) -> View:
    """Return the view for a table of which scaled rows are given; most views need no table."""
    prepare = getattr(view, "prepare", None)
    ready: View = view if prepare is None else prepare(sample)
    return ready


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
