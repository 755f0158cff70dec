"""Embeddings of tabular data whose distribution is the one that was asked for.

`NoisyDIMTransformer` is a scikit-learn transformer: it trains an encoder through a noisy channel
(noise-injected Deep InfoMax, Butakov et al., ICLR 2025, arXiv:2410.06993), so that the embedding
says much about a row, in a form that linear models and neighbours can read, and follows the target
distribution.

The public names are loaded when they are first used, so `import sknoisydim` by itself loads
neither torch nor scikit-learn.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from sknoisydim._version import __version__

if TYPE_CHECKING:
    from sknoisydim import (
        augmentations,
        bounds,
        critics,
        distributed,
        encoders,
        metrics,
        noise,
        normalization,
        plotting,
        refinement,
        scaling,
        targets,
    )
    from sknoisydim._codes import UniformCodes
    from sknoisydim._drift import NoisyDIMDriftMonitor
    from sknoisydim._outliers import NoisyDIMOutlierDetector
    from sknoisydim._transformer import NoisyDIMTransformer

__all__ = [
    "NoisyDIMDriftMonitor",
    "NoisyDIMOutlierDetector",
    "NoisyDIMTransformer",
    "UniformCodes",
    "__version__",
    "augmentations",
    "bounds",
    "critics",
    "distributed",
    "encoders",
    "metrics",
    "noise",
    "normalization",
    "plotting",
    "refinement",
    "scaling",
    "targets",
]

# The public names that are not modules, and the module that each lives in.
_HOMES = {
    "NoisyDIMDriftMonitor": "sknoisydim._drift",
    "NoisyDIMOutlierDetector": "sknoisydim._outliers",
    "NoisyDIMTransformer": "sknoisydim._transformer",
    "UniformCodes": "sknoisydim._codes",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        else:
            value = importlib.import_module(f"{__name__}.{name}")
    except AttributeError as error:  # which Python would take to say that there is no such name
        hint = " under python -OO, which takes docstrings away" if sys.flags.optimize > 1 else ""
        raise ImportError(
            f"{__name__}.{name} cannot be imported{hint}, since something that it imports fails: "
            f"{type(error).__name__}: {error}"
        ) from error
    globals()[name] = value  # the next access does not come through here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
