r"""Bounds that compare pairs that belong together with the n (n - 1) that do not.

Write :math:`E_p` for the mean over the diagonal of the scores, :math:`E_q` for that over the rest.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from sknoisydim._validation import check_real

# exp goes on as its tangent from here: e^5 is far outside what a critic near its optimum shows
# (E_q e^T = 1), and beyond e^88 float32 has no number for it.
TANGENT = 5.0


def log_mean_exp_rivals(scores: torch.Tensor) -> torch.Tensor:
    """Return the log of the mean of exp(T_ij) over the pairs i != j."""
    n = len(scores)
    own = torch.eye(n, dtype=torch.bool, device=scores.device)
    rivals = scores.masked_fill(own, -math.inf)
    return rivals.flatten().logsumexp(0) - math.log(n * (n - 1))


def _exp(exponent: torch.Tensor) -> torch.Tensor:
    """Return exp up to `TANGENT`, and its tangent there beyond."""
    low = exponent.clamp(max=TANGENT)
    return low.exp() + math.exp(TANGENT) * (exponent - low)


def nwj(scores: torch.Tensor) -> torch.Tensor:
    r"""Bound of Nguyen, Wainwright and Jordan: unbiased, and of large variance.

    .. math:: 1 + E_p[T] - E_q[e^T] \le I

    It is an equality for the log density ratio alone, :math:`T = \log p(y \mid x) - \log p(y)`, to
    which a constant must not be added. In a batch the standard error of its second mean is about
    :math:`e^I / n`, so log n nats are its practical limit too, though no strict one. Where the log
    of :math:`E_q[e^T]` exceeds 5, exp goes on as its tangent: the value then lies between this
    bound and `dv`, so it stays a bound, and numbers and gradients stay finite.

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
    X. Nguyen, M. J. Wainwright, M. I. Jordan, "Estimating Divergence Functionals and the Likelihood
    Ratio by Convex Risk Minimization", IEEE Transactions on Information Theory 56 (11), 2010,
    section II; in this form B. Poole et al., "On Variational Bounds of Mutual Information", ICML
    2019, section 2.1, with T + 1 for their f.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.bounds import nwj
    >>> scores = torch.full((8, 8), -1.0).fill_diagonal_(2.0)
    >>> round(nwj(scores).item(), 4), round(nwj(torch.zeros(8, 8)).item(), 4)
    (2.6321, 0.0)
    """
    return 1 + scores.diagonal().mean() - _exp(log_mean_exp_rivals(scores))


def dv(scores: torch.Tensor) -> torch.Tensor:
    r"""Bound of Donsker and Varadhan, with the gradient of the batch itself.

    .. math:: E_p[T] - \log E_q[e^T] \le I

    It does not change when a constant is added to T. The log of a mean over a batch is biased: it
    is too small on average, so the value is too large by about half the variance of the mean where
    that is small, :math:`e^{2 I} / 2 n^2` for a Gaussian channel at capacity. `DonskerVaradhan`
    removes that bias from the gradient.

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
    M. D. Donsker, S. R. S. Varadhan, "Asymptotic Evaluation of Certain Markov Process Expectations
    for Large Time, IV", Communications on Pure and Applied Mathematics 36 (2), 1983.

    M. I. Belghazi et al., "Mutual Information Neural Estimation", ICML 2018, theorem 1.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.bounds import dv
    >>> scores = torch.full((8, 8), -1.0).fill_diagonal_(2.0)
    >>> round(dv(scores).item(), 4), round(dv(scores + 7).item(), 4)
    (3.0, 3.0)
    """
    return scores.diagonal().mean() - log_mean_exp_rivals(scores)


class DonskerVaradhan(nn.Module):
    r"""`dv`, with the moving-average gradient of MINE while it trains.

    The value is that of `dv`. Its gradient has :math:`E_q[e^T]` of the batch in the denominator,
    which is biased; here an exponential moving average a of it over the batches stands there:

    .. math:: \nabla E_p[T] - \frac{\nabla E_q[e^T]}{a}

    That is the gradient of :math:`E_p[T] - E_q[e^T] / a - \log a + 1`, a bound for any a > 0, so a
    may lag behind, or be shared by the two terms of the objective.

    Parameters
    ----------
    decay : float, default=0.5
        Weight of the past in the average, in [0, 1); 0 gives `dv`. The rivals in a batch get from
        1 - decay to 1 / (1 - decay) times their gradient by `dv`: the batch is part of the average,
        and this is cut where the past is larger than that.

    References
    ----------
    M. I. Belghazi et al., "Mutual Information Neural Estimation", ICML 2018, section 3.2.

    B. Poole et al., "On Variational Bounds of Mutual Information", ICML 2019, section 2.1, for the
    bound that has this gradient.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.bounds import DonskerVaradhan
    >>> bound = DonskerVaradhan()
    >>> round(bound(torch.full((8, 8), -1.0).fill_diagonal_(2.0)).item(), 4)
    3.0
    """

    log_average: torch.Tensor

    def __init__(self, decay: float = 0.5) -> None:
        super().__init__()
        self.decay = check_real(decay, "bound decay", minimum=0, maximum=1, closed="left")
        # In logs, where scores of any size have a number; NaN before the first batch.
        self.register_buffer(
            "log_average", torch.tensor(math.nan, dtype=torch.float32, device="cpu")
        )

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        rivals = log_mean_exp_rivals(scores)
        value = scores.diagonal().mean() - rivals
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
        # The gradient of E_q[e^T] / a is that of its log times their ratio: a step of DV's own
        # gradient, longer or shorter. The bracket is zero.
        ratio = (batch - average).exp()
        return value - (ratio - 1) * (rivals - batch)
