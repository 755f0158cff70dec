"""Callbacks of a fit that several processes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from skorch.callbacks import PrintLog, ProgressBar

from sknoisydim._linear import Rows

from ._callbacks import Quiet


class SumGradients(Quiet):
    """Share the pairs of a batch, and add up the gradients before anything else reads them.

    One all-reduce of all of them: DDP's buckets, which overlap with the backward pass, would hide
    little of it, and a module that DDP wraps has no `encoder` and no `normalizer` for the net.

    Parameters
    ----------
    rows : Rows
        What this process computes.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        net.module_.rows = self.rows

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        del net.module_.rows

    def on_grad_computed(self, net: Any, **kwargs: Any) -> None:
        from accelerate.utils import reduce

        # Of the module: `named_parameters` is an iterator, which the next callback needs too.
        gradients = [p.grad for p in net.module_.parameters() if p.grad is not None]
        total = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        parts = total.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def without_output(callbacks: Sequence[Any]) -> list[Any]:
    """Return the callbacks (or pairs of a name and one) that do not write on a screen."""
    return [
        item
        for item in callbacks
        if not isinstance(item[-1] if isinstance(item, tuple) else item, (PrintLog, ProgressBar))
    ]
