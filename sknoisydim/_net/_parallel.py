"""Callbacks of a fit that several processes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from skorch.callbacks import PrintLog, ProgressBar

from ._callbacks import Quiet


class MeanGradients(Quiet):
    """Average the gradients over the processes, before anything else reads them.

    One all-reduce of all of them: DDP's buckets, which overlap with the backward pass, would hide
    little of it, and a module that DDP wraps has no `encoder` and no `normalizer` for the net.
    """

    def on_grad_computed(self, net: Any, **kwargs: Any) -> None:
        from accelerate.utils import reduce

        # Of the module: `named_parameters` is an iterator, which the next callback needs too.
        gradients = [p.grad for p in net.module_.parameters() if p.grad is not None]
        mean = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        parts = mean.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def without_output(callbacks: Sequence[Any]) -> list[Any]:
    """Return the callbacks (or pairs of a name and one) that do not write on a screen."""
    return [
        item
        for item in callbacks
        if not isinstance(item[-1] if isinstance(item, tuple) else item, (PrintLog, ProgressBar))
    ]
