"""Lower bounds of mutual information: from an (n, n) matrix of scores to nats.

Everywhere, `scores[i, j]` is the critic's score of noisy embedding i with view j, and pairs that
belong together stand on the diagonal.
"""

from ._infonce import infonce
from ._jsd import jsd, smile
from ._table import BOUNDS, resolve_bound
from ._variational import DonskerVaradhan, dv, nwj

__all__ = ["BOUNDS", "DonskerVaradhan", "dv", "infonce", "jsd", "nwj", "resolve_bound", "smile"]
