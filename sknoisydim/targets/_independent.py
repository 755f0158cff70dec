"""Independent components with any distributions, and what a user may write for one of them."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone

from .._options import unknown_option
from ._base import FloatArray, Target
from ._joint import MultivariateNormal
from ._product import Normal, Uniform
from ._scipy import ScipyLaw, describe, distribution_methods, undamaged

TARGETS: Mapping[str, type[Target]] = {"normal": Normal, "uniform": Uniform}

_FrozenMultivariateNormal = type(stats.multivariate_normal([0.0], [[1.0]]))


class Independent(Target):
    r"""Independent components, each with a continuous distribution of scipy.stats.

    .. math:: T(z)_i = Q_i(\Phi(z_i))

    where :math:`Q_i` is the quantile function of component :math:`i` and :math:`\Phi` is the
    distribution function of N(0, 1). In the upper half both are taken through their survival
    functions, which keep their digits in the tail. The log density of a sample :math:`x` is
    :math:`\sum_i \log p_i(x_i)` nats, where :math:`p_i` is the density of component :math:`i`.

    Parameters
    ----------
    laws : distribution, or list or tuple of n_components distributions
        One distribution for all components, or one for each: a frozen continuous distribution of
        scipy.stats (``scipy.stats.beta(2, 5)``, ``scipy.stats.Normal(mu=1, sigma=2)``), a name
        ("normal", "uniform"), a target with one component, or an object of your own with the
        methods `ppf`, `isf`, `cdf`, `sf` and `logpdf`.

    Attributes
    ----------
    n_components_ : int
        Number of components, set by :meth:`bind` on the copy it returns.
    parts_ : list of tuple (ndarray of int, Target)
        The components that share a distribution, and the target bound to that many. They are
        mapped by one call.

    Raises
    ------
    TypeError
        By :meth:`bind`, if a distribution is not understood, or not frozen.
    ValueError
        By :meth:`bind`, if the number of distributions is not `n_components`, a name is unknown,
        or a distribution is discrete or has invalid parameters.

    See Also
    --------
    sknoisydim.targets.MultivariateNormal : Components that depend on each other.
    sknoisydim.targets.PushForward : Any map of N(0, I).

    Notes
    -----
    `z` is clipped to the range in which the quantile function is finite, agrees with the
    distribution function and is not yet constant, and to [-37.5, 37.5] at most, beyond which the
    tail probability of N(0, 1) is no longer a normal float64. :meth:`bind` finds this range, once
    per distribution. It is [-8.3, 8.3] where a distribution computes its survival function as
    1 - cdf, or has an edge that is not 0, because of the precision of floats. :meth:`push` is as
    monotone, and :meth:`pull` as exact, as the functions of the distribution.

    References
    ----------
    .. [1] I. Butakov et al., "Efficient Distribution Matching of Representations via
       Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993.

    Examples
    --------
    >>> from scipy import stats
    >>> from sknoisydim.targets import Independent
    >>> Independent(stats.expon()).bind(3).push([[-1.0, 0.0, 1.0]])
    array([[0.17275378, 0.69314718, 1.84102165]])
    >>> mixed = Independent(["normal", stats.beta(2, 5)]).bind(2)
    >>> mixed.push([[0.0, 0.0]])
    array([[0.       , 0.26444998]])
    """

    def __init__(self, laws: Any) -> None:
        self.laws = laws

    def __sklearn_clone__(self) -> Independent:
        # Distributions do not change, and scipy cannot copy each of them: see `undamaged`.
        if isinstance(self.laws, (list, tuple)):
            return Independent(type(self.laws)(map(_clone_target, self.laws)))
        return Independent(_clone_target(self.laws))

    def __deepcopy__(self, memo: dict[int, Any]) -> Independent:
        copied = self.__sklearn_clone__()
        fitted = {name: value for name, value in vars(self).items() if name != "laws"}
        copied.__dict__.update(copy.deepcopy(fitted, memo))
        return copied

    @property
    def _iid(self) -> bool:
        return not isinstance(self.laws, (list, tuple)) and as_target(self.laws, "laws")._iid

    def _bind(self, n_components: int) -> None:
        components = as_components(self.laws, n_components, "laws")
        keys = {id(component): _key(component) for component in set(components)}
        groups: dict[Hashable, list[int]] = {}
        for index, component in enumerate(components):
            groups.setdefault(keys[id(component)], []).append(index)
        self.parts_: list[tuple[NDArray[np.intp], Target]] = []
        for columns in groups.values():
            component = components[columns[0]]
            blocks = [columns] if component._iid else [[column] for column in columns]
            for block in blocks:
                self.parts_.append((np.array(block), _bind_component(component, block)))

    def _push(self, z: FloatArray) -> FloatArray:
        for columns, part in self.parts_:
            if len(columns) == self.n_components_:
                return part._push(z)
            z[:, columns] = part._push(np.ascontiguousarray(z[:, columns]))
        return z

    def _pull(self, x: FloatArray) -> FloatArray:
        for columns, part in self.parts_:
            if len(columns) == self.n_components_:
                return part._pull(x)
            x[:, columns] = part._pull(np.ascontiguousarray(x[:, columns]))
        return x

    def _logpdf(self, x: FloatArray) -> FloatArray:
        total = np.zeros(x.shape[0])
        for columns, part in self.parts_:
            total += part._logpdf(np.ascontiguousarray(x[:, columns]))
        return total


def as_target(value: Any, name: str) -> Target:
    """Return the unbound target that `value` stands for, a list or tuple excepted.

    Raises
    ------
    TypeError
        If `value` is not understood.
    ValueError
        If it is an unknown name, or a discrete distribution.
    """
    if isinstance(value, str):
        if value not in TARGETS:
            raise ValueError(unknown_option(value, TARGETS, name))
        return TARGETS[value]()
    if inspect.isclass(value) and issubclass(value, Target):
        try:
            return value()
        except TypeError as error:
            raise TypeError(
                f"{name} is the class {value.__name__}, which needs parameters: pass an object, "
                f"as in {value.__name__}(...)."
            ) from error
    if isinstance(value, Target):
        return value
    if isinstance(value, _FrozenMultivariateNormal):
        return MultivariateNormal(mean=value.mean, cov=value.cov)
    if isinstance(value, stats.rv_histogram):
        value = value()  # freezing gives a histogram its location and scale
    distribution_methods(value, name)
    return ScipyLaw(undamaged(value))


def as_components(distributions: Any, n_components: int, name: str) -> list[Target]:
    """Return one unbound target per component.

    Raises
    ------
    TypeError
        If a distribution is not understood.
    ValueError
        If there are too few or too many of them, or one has an invalid value.
    """
    if not isinstance(distributions, (list, tuple)):
        return [as_target(distributions, name)] * n_components
    if len(distributions) != n_components:
        raise ValueError(
            f"{name} has {len(distributions)} distributions, but n_components={n_components}: it "
            "takes one distribution for all components, or a list or tuple with one per component."
        )
    return [as_target(one, f"{name}[{index}]") for index, one in enumerate(distributions)]


def _clone_target(distribution: Any) -> Any:
    return clone(distribution) if isinstance(distribution, Target) else distribution


def _bind_component(component: Target, columns: list[int]) -> Target:
    try:
        return component.bind(len(columns))
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"The distribution of component {columns[0]} is invalid: {error}") from error


def _key(component: Target) -> Hashable:
    """Return a key that two components share only if they have the same distribution."""
    try:
        return pickle.dumps(component)
    except Exception:  # noqa: BLE001 (the pickling of a user's object may raise anything)
        # scipy.stats.make_distribution makes classes that cannot be pickled; the repr of their
        # objects has all parameters in full precision.
        if isinstance(component, ScipyLaw) and callable(getattr(component.law, "icdf", None)):
            return type(component.law), describe(component.law)
        return id(component)
