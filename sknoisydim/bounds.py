"""Lower bounds of mutual information: from an (n, n) matrix of scores to nats.

Everywhere, `scores[i, j]` is the critic's score :math:`T_{ij}` of noisy embedding i with view j,
and pairs that belong together stand on the diagonal: :math:`E_p` is the mean over these,
:math:`E_q` that over the n (n - 1) others. A bound returns a scalar tensor. A fit in several
processes passes each some rows of the matrix, and says which by `rows`; a bound without that
parameter is given the whole matrix in each.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import softplus

from sknoisydim._linear import ALL, Rows
from sknoisydim._validation import check_name, check_real, resolve

__all__ = ["BOUNDS", "DonskerVaradhan", "dv", "infonce", "jsd", "nwj", "smile"]

# exp goes on as its tangent from here: e^5 is far outside what a critic near its optimum shows
# (E_q e^T = 1), and beyond e^88 float32 has no number for it.
TANGENT = 5.0


class _OwnAmongRivals(torch.autograd.Function):
    """Mean over i of T_ii - (logsumexp_j T_ij + logsumexp_j T_ji) / 2.

    Autograd would go through the matrix a dozen times more and hold six of its size. At n = 2,048
    this takes a third off a whole step of training, and next to nothing at n = 512.
    """

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, rows: Rows) -> torch.Tensor:
        ctx.n, ctx.start = scores.shape[1], rows.part(scores.shape[1]).start
        by_row, by_column = scores.softmax(1), scores.softmax(0)
        # The largest share of a row is at least 1 / n, so its logarithm is exact enough.
        of_rows = (scores.amax(1) - by_row.amax(1).log()).sum()
        own = scores.amax(0) - by_column.amax(0).log()
        of_columns = rows.logsumexp(own)
        if rows is not ALL:
            by_column.mul_((own - of_columns).exp())
        ctx.save_for_backward(by_row.add_(by_column))
        return (
            rows.sum(scores.diagonal(ctx.start).sum() - of_rows / 2) - of_columns.sum() / 2
        ) / ctx.n

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (shares,) = ctx.saved_tensors
        weight = gradient / ctx.n
        result: torch.Tensor = shares * (weight / -2)
        result.diagonal(ctx.start).add_(weight)
        return result, None


def infonce(scores: torch.Tensor, rows: Rows = ALL) -> torch.Tensor:
    r"""InfoNCE in both directions, a lower bound of low variance that never exceeds log n.

    .. math:: \frac{1}{2n} \sum_i \left[
        \log \frac{e^{T_{ii}}}{\frac{1}{n} \sum_j e^{T_{ij}}}
        + \log \frac{e^{T_{ii}}}{\frac{1}{n} \sum_j e^{T_{ji}}} \right] \le \min(I, \log n)

    The first term asks which view belongs to a noisy embedding, the second which noisy embedding
    belongs to a view (arXiv:1807.03748, section 2.3 and appendix A.1, for either). With the
    channel's own density the second is tight for the output's distribution at capacity alone. Close
    to log n, where both saturate, a thin shell can have a larger value than N(0, I).

    Parameters
    ----------
    scores : Tensor of shape (n, n)
        Critic T; row i holds the scores of noisy embedding i with every view.
    rows : Rows, default=ALL
        Which rows of the matrix `scores` holds.

    Returns
    -------
    information : scalar Tensor
        In nats.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.bounds import infonce
    >>> round(infonce(50 * torch.eye(8)).item(), 4), round(infonce(torch.zeros(8, 8)).item(), 4)
    (2.0794, 0.0)
    """
    return math.log(scores.shape[1]) + _OwnAmongRivals.apply(scores, rows)


def log_mean_exp_rivals(scores: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return the log of the mean of exp(T_ij) over the pairs i != j."""
    n = scores.shape[1]
    own = torch.eye(n, dtype=torch.bool, device=scores.device)[rows.part(n)]
    rivals = scores.masked_fill(own, -math.inf)
    return rows.logsumexp(rivals.flatten().logsumexp(0)) - math.log(n * (n - 1))


def mean_own(scores: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return the mean of T_ii."""
    n = scores.shape[1]
    return rows.sum(scores.diagonal(rows.part(n).start).sum()) / n


def _exp(exponent: torch.Tensor) -> torch.Tensor:
    """Return exp up to `TANGENT`, and its tangent there beyond."""
    low = exponent.clamp(max=TANGENT)
    return low.exp() + math.exp(TANGENT) * (exponent - low)


def nwj(scores: torch.Tensor, rows: Rows = ALL) -> torch.Tensor:
    r"""Bound of Nguyen, Wainwright and Jordan: unbiased, and of large variance.

    .. math:: 1 + E_p[T] - E_q[e^T] \le I

    (IEEE Transactions on Information Theory 56 (11), 2010, section II; in this form Poole et al.,
    ICML 2019, section 2.1.) An equality for :math:`T = \log p(y \mid x) - \log p(y)` alone. The
    standard error of its second mean is about :math:`e^I / n`, so log n nats are its practical
    limit, too. Where the log of :math:`E_q[e^T]` exceeds 5, exp goes on as its tangent: the value
    then lies between this bound and `dv`, and gradients stay finite.

    Parameters
    ----------
    scores : Tensor of shape (n, n)
        As of `infonce`.
    rows : Rows, default=ALL
        As of `infonce`.

    Returns
    -------
    information : scalar Tensor
        In nats.
    """
    return 1 + mean_own(scores, rows) - _exp(log_mean_exp_rivals(scores, rows))


def dv(scores: torch.Tensor, rows: Rows = ALL) -> torch.Tensor:
    r"""Bound of Donsker and Varadhan, with the gradient of the batch itself.

    .. math:: E_p[T] - \log E_q[e^T] \le I

    (1983; Belghazi et al., "MINE", ICML 2018, theorem 1.) It does not change when a constant is
    added to T. The log of a mean over a batch is biased, so the value is too large by about half
    the variance of the mean, :math:`e^{2 I} / 2 n^2` for a Gaussian channel at capacity.
    `DonskerVaradhan` removes that bias from the gradient.

    Parameters
    ----------
    scores : Tensor of shape (n, n)
        As of `infonce`.
    rows : Rows, default=ALL
        As of `infonce`.

    Returns
    -------
    information : scalar Tensor
        In nats.
    """
    return mean_own(scores, rows) - log_mean_exp_rivals(scores, rows)


class DonskerVaradhan(nn.Module):
    r"""`dv`, with the moving-average gradient of MINE while it trains.

    The value is that of `dv`. In the denominator of its gradient stands an exponential moving
    average a of :math:`E_q[e^T]` over the batches (Belghazi et al., ICML 2018, section 3.2):

    .. math:: \nabla E_p[T] - \frac{\nabla E_q[e^T]}{a}

    That is the gradient of :math:`E_p[T] - E_q[e^T] / a - \log a + 1`, a bound for any a > 0 (Poole
    et al., ICML 2019, section 2.1), so a may lag behind.

    Parameters
    ----------
    decay : float, default=0.5
        Weight of the past in the average, in [0, 1); 0 gives `dv`. The rivals in a batch get from
        1 - decay to 1 / (1 - decay) times their gradient by `dv`.

    Raises
    ------
    TypeError, ValueError
        If `decay` is no number in that range.
    """

    def __init__(self, decay: float = 0.5) -> None:
        super().__init__()
        self.decay = check_real(decay, "bound decay", minimum=0, maximum=1, closed="left")
        # In logs, where scores of any size have a number; NaN before the first batch.
        start = torch.tensor(math.nan, dtype=torch.float32, device="cpu")
        self.log_average = nn.Buffer(start)

    def forward(self, scores: torch.Tensor, rows: Rows = ALL) -> torch.Tensor:
        rivals = log_mean_exp_rivals(scores, rows)
        value = mean_own(scores, rows) - rivals
        if not (self.training and torch.is_grad_enabled()) or self.decay == 0:
            return value
        batch = rivals.detach()
        past = torch.where(self.log_average.isnan(), batch, self.log_average)
        fresh = math.log1p(-self.decay)
        average = torch.logaddexp(past + math.log(self.decay), batch + fresh)
        # One batch with a score of 20 would lie on the average for 200 steps, without a gradient
        # that holds the rivals down meanwhile; their share stays between 1 - decay and its inverse.
        average = torch.minimum(average, batch - fresh)
        self.log_average.copy_(average)
        # The gradient of E_q[e^T] / a is that of its log times their ratio. The bracket is zero.
        ratio = (batch - average).exp()
        return value - (ratio - 1) * (rivals - batch)


def _trained_by_jsd(scores: torch.Tensor, nats: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return the value of `nats` with the gradient of the Jensen-Shannon objective."""
    n = scores.shape[1]
    own = scores.diagonal(rows.part(n).start)
    rivals = (softplus(scores).sum() - softplus(own).sum()) / (n * (n - 1))
    objective = rows.sum(-softplus(-own).sum() / n - rivals)
    # The gradient of one and the value of the other: the divergence itself is not in nats.
    return objective + (nats - objective).detach()


def jsd(scores: torch.Tensor, rows: Rows = ALL) -> torch.Tensor:
    r"""Objective of Deep InfoMax: trains by the Jensen-Shannon divergence, reports nats.

    The gradient is that of

    .. math:: E_p[-\log(1 + e^{-T})] - E_q[\log(1 + e^T)]

    (Hjelm et al., ICLR 2019, equation 4). Its optimal critic is the log density ratio, so the value
    is `nwj` of the same scores, in nats (Poole et al., ICML 2019, section 2.1).

    Parameters
    ----------
    scores : Tensor of shape (n, n)
        As of `infonce`.
    rows : Rows, default=ALL
        As of `infonce`.

    Returns
    -------
    information : scalar Tensor
        In nats.
    """
    return _trained_by_jsd(scores, nwj(scores.detach(), rows), rows)


def smile(scores: torch.Tensor, clip: float = 5.0, rows: Rows = ALL) -> torch.Tensor:
    r"""Bound of Donsker and Varadhan with clipped density ratios: some bias for less variance.

    .. math:: E_p[T] - \log E_q[\min(\max(e^T, e^{-\tau}), e^{\tau})]

    (Song, Ermon, ICLR 2020, section 4.) The variance of the mean is at most
    :math:`e^{2 \tau} / n`. For the log density ratio the value is too large by at most
    :math:`-\log P_p(T \le \tau)` and too small by at most :math:`e^{-\tau}`: beyond :math:`\tau`
    nats it is no bound any more. The gradient is that of `jsd`, as in the authors' code.

    Parameters
    ----------
    scores : Tensor of shape (n, n)
        As of `infonce`.
    clip : float, default=5.0
        :math:`\tau` > 0; ``bound=functools.partial(smile, clip=...)`` changes it.
    rows : Rows, default=ALL
        As of `infonce`.

    Returns
    -------
    information : scalar Tensor
        In nats.

    Raises
    ------
    TypeError, ValueError
        If `clip` is no finite number above 0.
    """
    clip = check_real(clip, "bound clip", minimum=0, closed="neither")
    nats = mean_own(scores, rows) - log_mean_exp_rivals(scores.clamp(-clip, clip), rows)
    return _trained_by_jsd(scores, nats, rows)


Bound = Callable[..., torch.Tensor]

# A function, or a class: of a class, each fit makes an object of its own, which may keep a state.
BOUNDS: Mapping[str, Bound | type[nn.Module]] = {
    "infonce": infonce,
    "nwj": nwj,
    "dv": DonskerVaradhan,
    "smile": smile,
    "jsd": jsd,
}


def resolve_bound(bound: object) -> Bound:
    """Return the function that a value of the parameter `bound` stands for."""
    also = ["a callable (scores) -> nats"]
    found = BOUNDS[check_name(bound, BOUNDS, "bound", also)] if isinstance(bound, str) else bound
    found = resolve(found, BOUNDS, "bound", method="__call__", also=also)
    # A fit keeps the state of a module to itself.
    return copy.deepcopy(found) if isinstance(found, nn.Module) else found


def takes_rows(bound: Bound) -> bool:
    """Tell whether a bound can be given some rows of the matrix."""
    try:
        called = bound.forward if isinstance(bound, nn.Module) else bound
        return "rows" in inspect.signature(called).parameters
    except (TypeError, ValueError):  # one that does not tell
        return False
