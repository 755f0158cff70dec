"""The objective of Deep InfoMax: it trains well, and others report for it in nats."""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from sknoisydim._validation import check_real

from ._variational import log_mean_exp_rivals, nwj


def _trained_by_jsd(scores: torch.Tensor, nats: torch.Tensor) -> torch.Tensor:
    """Return the value of `nats` with the gradient of the Jensen-Shannon objective."""
    n = len(scores)
    own = scores.diagonal()
    rivals = (softplus(scores).sum() - softplus(own).sum()) / (n * (n - 1))
    objective = -softplus(-own).mean() - rivals
    # The gradient of one and the value of the other: the divergence itself is not in nats.
    return objective + (nats - objective).detach()


def jsd(scores: torch.Tensor) -> torch.Tensor:
    r"""Objective of Deep InfoMax: trains by the Jensen-Shannon divergence, reports nats.

    The gradient is that of

    .. math:: E_p[-\log(1 + e^{-T})] - E_q[\log(1 + e^T)]

    with :math:`E_p` the mean over the diagonal and :math:`E_q` that over the rest: the log
    likelihood of a classifier that tells pairs that belong together from pairs that do not, with
    bounded gradients and small variance. Its optimal critic is the log density ratio, so the value
    that is returned is `nwj` of the same scores, which is in nats.

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
    R. D. Hjelm et al., "Learning Deep Representations by Mutual Information Estimation and
    Maximization", ICLR 2019, equation (4).

    B. Poole et al., "On Variational Bounds of Mutual Information", ICML 2019, section 2.1, for the
    report by another bound on the same critic.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.bounds import jsd
    >>> scores = torch.full((8, 8), -1.0).fill_diagonal_(2.0).requires_grad_()
    >>> value = jsd(scores)
    >>> value.backward()
    >>> round(value.item(), 4), bool(scores.grad.isfinite().all())
    (2.6321, True)
    """
    return _trained_by_jsd(scores, nwj(scores.detach()))


def smile(scores: torch.Tensor, clip: float = 5.0) -> torch.Tensor:
    r"""Bound of Donsker and Varadhan with clipped density ratios: some bias for less variance.

    .. math:: E_p[T] - \log E_q[\min(\max(e^T, e^{-\tau}), e^{\tau})]

    The variance of the mean is at most :math:`e^{2 \tau} / n`. For the log density ratio the value
    is too large by at most :math:`-\log P_p(T \le \tau)` and too small by at most
    :math:`e^{-\tau}`: beyond :math:`\tau` nats it is an estimate and no bound any more.

    Rivals with scores beyond the clip have no gradient, so nothing would keep a critic from raising
    all scores. The gradient is therefore that of `jsd`, as in the authors' code.

    Parameters
    ----------
    scores : Tensor of shape (n, n)
        Critic T; row i holds the scores of noisy embedding i with every view.
    clip : float, default=5.0
        :math:`\tau`, > 0. Use ``functools.partial(smile, clip=...)`` as `bound` to change it.

    Returns
    -------
    information : scalar Tensor
        In nats.

    References
    ----------
    J. Song, S. Ermon, "Understanding the Limitations of Variational Mutual Information Estimators",
    ICLR 2020, arXiv:1910.06222, section 4.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.bounds import smile
    >>> scores = torch.full((8, 8), -1.0).fill_diagonal_(2.0)
    >>> round(smile(scores).item(), 4), round(smile(torch.zeros(8, 8)).item(), 4)
    (3.0, 0.0)
    """
    clip = check_real(clip, "bound clip", minimum=0, closed="neither")
    nats = scores.diagonal().mean() - log_mean_exp_rivals(scores.clamp(-clip, clip))
    return _trained_by_jsd(scores, nats)
