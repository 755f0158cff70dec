"""Pictures of a fit, as scikit-learn Display classes.

Each display holds what its `plot` draws, on given axes or on a new figure. matplotlib (the extra
`plot`) is imported when something is drawn.
"""

from ._embedding import DependenceDisplay, EmbeddingDisplay, TargetFitDisplay
from ._fit import TradeOffDisplay, TrainingDisplay

__all__ = [
    "DependenceDisplay",
    "EmbeddingDisplay",
    "TargetFitDisplay",
    "TradeOffDisplay",
    "TrainingDisplay",
]
