"""What fits in several processes, and on collections of Dask, are made for."""

from __future__ import annotations

import inspect
from typing import Any


def check_estimator(estimator: Any) -> None:
    """See that an estimator is a `NoisyDIMTransformer`, by its methods: its class is not below.

    Raises
    ------
    TypeError
        If not.
    """
    if inspect.isclass(estimator) or not all(
        hasattr(estimator, name) for name in ("encoder", "partial_fit", "retarget")
    ):
        kind = "class" if inspect.isclass(estimator) else type(estimator).__name__
        raise TypeError(
            f"estimator is a {kind}; it takes a NoisyDIMTransformer. Of a pipeline, fit the steps "
            "before it first, and pass what they return as X."
        )
