"""The estimator that fits in several processes, and on collections of Dask, take."""

from __future__ import annotations

import inspect
from typing import Any


def check_estimator(estimator: Any) -> None:
    """Raise TypeError if an estimator is no `NoisyDIMTransformer`, which is told by its methods."""
    is_class = inspect.isclass(estimator)
    methods = ("encoder", "partial_fit", "retarget")
    if is_class or not all(hasattr(estimator, name) for name in methods):
        raise TypeError(
            f"estimator is a {'class' if is_class else type(estimator).__name__}; it takes a "
            "NoisyDIMTransformer. Of a pipeline, fit the steps before it first, and pass what they "
            "return as X."
        )
