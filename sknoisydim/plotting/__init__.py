"""Pictures of a fit, as scikit-learn Display classes.

Each display holds the numbers that its `plot` draws, on given axes or on a new figure. matplotlib
(the extra `plot`) is imported when something is drawn.
"""

from __future__ import annotations

from ._embedding import DependenceDisplay, EmbeddingDisplay, TargetFitDisplay
from ._scores import TradeOffDisplay, TrainingDisplay

__all__ = [
    "DependenceDisplay",
    "EmbeddingDisplay",
    "TargetFitDisplay",
    "TradeOffDisplay",
    "TrainingDisplay",
]
