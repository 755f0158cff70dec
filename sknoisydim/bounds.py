"""Lower bounds of mutual information: pure functions of an (n, n) matrix of scores.

Everywhere, `scores[i, j]` is the critic's score of noisy embedding i with view j, and pairs that
belong together stand on the diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from sknoisydim._options import allowed, unknown_option


def infonce(scores: torch.Tensor) -> torch.Tensor:
    r"""InfoNCE, a lower bound of low variance that never exceeds log n.

    .. math:: \frac{1}{n} \sum_i \log
        \frac{e^{T_{ii}}}{\frac{1}{n} \sum_j e^{T_{ij}}} \le \min(I, \log n)

    Parameters
    ----------
    scores : Tensor of shape (n, n)
        Critic T; row i holds the scores of noisy embedding i with every view.

    Returns
    -------
    information : scalar Tensor
        In nats.

    References
    ----------
    A. van den Oord, Y. Li, O. Vinyals, "Representation Learning with Contrastive Predictive
    Coding", arXiv:1807.03748, section 2.3 and appendix A.1.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.bounds import infonce
    >>> round(infonce(50 * torch.eye(8)).item(), 4), round(infonce(torch.zeros(8, 8)).item(), 4)
    (2.0794, 0.0)
    """
    n = len(scores)
    return math.log(n) - functional.cross_entropy(scores, torch.arange(n, device=scores.device))


Bound = Callable[[torch.Tensor], torch.Tensor]

BOUNDS: Mapping[str, Bound] = {"infonce": infonce}


def resolve_bound(bound: str | Bound) -> Bound:
    """Return the function that `bound` names, or `bound` itself if it is callable.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a string nor callable.
    """
    if isinstance(bound, str):
        if bound not in BOUNDS:
            raise ValueError(unknown_option(bound, BOUNDS, "bound"))
        return BOUNDS[bound]
    if not callable(bound):
        raise TypeError(f"bound={bound!r} is neither {allowed(BOUNDS)} nor callable.")
    return bound
