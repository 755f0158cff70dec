"""Pictures of a fit, as scikit-learn Display classes.

Each display holds numbers only; `plot` draws them, on axes of yours or on a new figure. They need
matplotlib (the extra `plot`), which is loaded when something is drawn.
"""

from __future__ import annotations

from ._dependence import DependenceDisplay
from ._embedding import EmbeddingDisplay
from ._fit import TargetFitDisplay
from ._trade_off import TradeOffDisplay
from ._training import TrainingDisplay

__all__ = [
    "DependenceDisplay",
    "EmbeddingDisplay",
    "TargetFitDisplay",
    "TradeOffDisplay",
    "TrainingDisplay",
]
