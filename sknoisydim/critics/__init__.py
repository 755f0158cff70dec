"""Critics: how well a view and a noisy embedding fit together.

A critic's module maps views (n, d) and noisy embeddings (n, d) to scores (n, n), with
`scores[i, j]` for noisy embedding i and view j.
"""

from ._concat import ConcatCritic
from ._gaussian import BilinearCritic, ExactCritic
from ._separable import SeparableCritic
from ._table import CRITICS, resolve_critic

__all__ = [
    "CRITICS",
    "BilinearCritic",
    "ConcatCritic",
    "ExactCritic",
    "SeparableCritic",
    "resolve_critic",
]
