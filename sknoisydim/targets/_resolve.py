"""The one way from the user's `target` parameter to a target."""

from __future__ import annotations

from typing import Any

from .._context import own_context
from .._validation import check_integer
from ._base import Target
from ._independent import Independent, as_components, as_target
from ._scipy import ScipyLaw


@own_context()
def resolve_target(target: Any, n_components: int) -> Target:
    """Return the target that `target` stands for, bound to a number of components.

    Parameters
    ----------
    target : str, Target, scipy.stats distribution, or list or tuple of these
        - a name: "normal" or "uniform";
        - an object or a class of `sknoisydim.targets`;
        - a frozen continuous distribution of scipy.stats, of the older generation
          (``scipy.stats.beta(2, 5)``) or the newer (``scipy.stats.Normal(mu=1, sigma=2)``),
          which all components then have independently; a ``scipy.stats.rv_histogram`` counts as
          frozen;
        - a frozen ``scipy.stats.multivariate_normal``;
        - a list or tuple of these, one per component.
    n_components : int
        Number of components of the embedding, at least 1.

    Returns
    -------
    target : Target
        A bound copy: what the caller passed does not change.

    Raises
    ------
    TypeError
        If `target` is not understood: for example a distribution that is not frozen, or one of
        `torch.distributions`.
    ValueError
        If a name is unknown, a distribution is discrete or has invalid parameters, or the number of
        components does not fit.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : What is `output_distribution` there is `target`
        here.
    sknoisydim.targets.PushForward : For a distribution that is not in this list.

    References
    ----------
    .. [1] I. Butakov et al., "Efficient Distribution Matching of Representations via
       Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993.

    Examples
    --------
    >>> from scipy import stats
    >>> from sknoisydim.targets import resolve_target
    >>> resolve_target("uniform", 2).push([[0.0, 1.0]])
    array([[0.5       , 0.84134475]])
    >>> resolve_target(["uniform", stats.expon()], 2).push([[0.0, 1.0]])
    array([[0.5       , 1.84102165]])
    """
    n_components = check_integer(n_components, "n_components", minimum=1)
    if isinstance(target, (list, tuple)):
        # Independent checks this too, but would call the parameter by its own name.
        as_components(target, n_components, "target")
        return Independent(target).bind(n_components)
    resolved = as_target(target, "target")
    if isinstance(resolved, ScipyLaw):
        resolved = Independent(target)
    return resolved.bind(n_components)
