"""Views: how a batch of rows becomes a batch of their views.

A view is a callable `(batch, generator) -> batch` on float32 tensors of scaled rows. One that has
to know the table has a method `prepare`: given a sample of scaled rows, before training, it returns
the callable that is used in its place. If that keeps rows of the sample, it has a method `release`,
which is called when training ends.

With `missing="indicator"` a missing cell is NaN, in batches as in the sample, and one that is given
a value counts as observed. A view may leave cells missing, or make them so.
"""

from __future__ import annotations

from ._cells import FeatureMasking, GaussianJitter, Mixup
from ._corruption import FeatureCorruption, one_hot_blocks
from ._neighbors import Neighbors
from ._table import AUGMENTATIONS, Compose, identity, prepare_view, resolve_augmentation

__all__ = [
    "AUGMENTATIONS",
    "Compose",
    "FeatureCorruption",
    "FeatureMasking",
    "GaussianJitter",
    "Mixup",
    "Neighbors",
    "identity",
    "one_hot_blocks",
    "prepare_view",
    "resolve_augmentation",
]
