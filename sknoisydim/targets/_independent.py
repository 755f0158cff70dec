"""Independent components with distributions of scipy.stats; what a user may write."""

import inspect
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import ndtr, ndtri
from sklearn.base import clone

from sknoisydim._context import own_context
from sknoisydim._validation import check_integer, check_name, instance_of, naming, shown
from sknoisydim.targets._base import Z_MAX, FloatArray, Normal, Target, Uniform
from sknoisydim.targets._joint import MultivariateNormal

# Quantiles of the lower and upper tail, and their inverses, as old and new scipy.stats call them.
GENERATIONS = (("ppf", "isf", "cdf", "sf", "logpdf"), ("icdf", "iccdf", "cdf", "ccdf", "logpdf"))
TARGETS: Mapping[str, type[Target]] = {"normal": Normal, "uniform": Uniform}
UNFROZEN = (stats.rv_continuous, stats.rv_discrete, type(stats.multivariate_normal))
_FrozenMultivariateNormal = type(stats.multivariate_normal([0.0], [[1.0]]))
# Warning filters belong to the whole process, so only one thread at a time may change them.
_FILTERS_LOCK = threading.Lock()
# What a numerical inversion may change of a normal score; precision of the range that is right.
AGREEMENT, STEP = 0.05, 0.1


class _Marginal:
    """One distribution of scipy.stats, for any number of components, with the hooks of a target."""

    def __init__(self, distribution: Any, names: tuple[str, ...]) -> None:
        self.distribution = distribution
        self.names = names

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self.distribution = undamaged(self.distribution)

    def bind(self, n_components: int) -> Self:
        """Check the distribution, and find the range of its quantile function."""
        (quantile, _, cdf, *_), said = self.functions(), describe(self.distribution)
        levels = np.array([0.25, 0.5, 0.75])
        with np.errstate(all="ignore"):
            if np.shape(quantile(0.5)) != ():
                raise ValueError(f"{said} has arrays as parameters: give a list of distributions.")
            quartiles = np.asarray(quantile(levels), dtype=np.float64)
            back = np.asarray(cdf(quartiles), dtype=np.float64)
        if not ((np.diff(quartiles) > 0).all() and (np.abs(back - levels) < 1e-3).all()):
            raise ValueError(
                f"{said} is not a continuous distribution: its quartiles are {quartiles.tolist()}, "
                f"and its distribution function there is {back.tolist()}. Check its parameters."
            )
        self.median, self.z_low, self.z_high = float(quartiles[1]), -np.inf, np.inf
        # The quantile functions of scipy give infinity, NaN, the wrong sign (t(3) at 1e-290) or
        # a wrong value with a warning (beta at 1e-110) in tails that nobody asks for but us.
        with _FILTERS_LOCK, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.z_low, self.z_high = self._reach(-1.0, caught), self._reach(1.0, caught)
        return self

    def functions(self) -> list[Callable[[ArrayLike], FloatArray]]:
        return [getattr(self.distribution, name) for name in self.names]

    def _push(self, z: FloatArray) -> FloatArray:
        lower, upper, *_ = self.functions()
        # Each half goes through its small tail probability, which keeps all its digits.
        halves = [lambda z: upper(ndtr(-z)), lambda z: lower(ndtr(z))]
        z = np.clip(z, self.z_low, self.z_high)
        with np.errstate(all="ignore"):
            return np.piecewise(z, [z > 0.0], halves)

    def _pull(self, x: FloatArray) -> FloatArray:
        *_, cdf, sf, _ = self.functions()
        halves = [lambda x: -ndtri(sf(x)), lambda x: ndtri(cdf(x))]
        with np.errstate(all="ignore"):
            return np.clip(np.piecewise(x, [x > self.median], halves), self.z_low, self.z_high)

    def _logpdf(self, x: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            return np.asarray(self.distribution.logpdf(x)).sum(axis=1)

    def _reach(self, sign: float, caught: list[warnings.WarningMessage]) -> float:
        """Find the normal score of one sign beyond which quantiles are constant, or wrong."""
        inside = 0.0
        for step in (1.0, STEP):
            while inside + step <= Z_MAX and self._moves(inside + step, sign, caught):
                inside += step
        return sign * inside

    def _moves(self, z: float, sign: float, caught: list[warnings.WarningMessage]) -> bool:
        """Whether the quantile differs from that a step before, and is right to the last digit."""
        caught.clear()
        try:
            before, x = self._push(sign * np.array([z - STEP, z]))
            below, above = self._pull(np.nextafter([x, x], [-np.inf, np.inf]))
        except (ArithmeticError, RuntimeError, ValueError):
            return False
        # Those of other threads arrive here too.
        warned = any(w.filename.startswith(os.path.dirname(scipy.__file__)) for w in caught)
        agrees = below - AGREEMENT <= sign * z <= above + AGREEMENT
        return bool(np.isfinite(x) and x != before and agrees and not warned)


def describe(distribution: Any) -> str:
    """Write a distribution as its user did; the repr of scipy's older generation does not."""
    name = getattr(getattr(distribution, "dist", None), "name", None)
    if name is None:
        return repr(distribution)
    keywords = [f"{key}={value!r}" for key, value in distribution.kwds.items()]
    return f"{name}({', '.join([*map(repr, distribution.args), *keywords])})"


def undamaged(distribution: object) -> Any:
    """Return a distribution of scipy.stats as it was before it was copied or pickled."""
    # scipy 1.17 makes a standard normal of a copied scipy.stats.Normal: only its repr tells.
    if "StandardNormal(mu" not in repr(distribution):
        return distribution
    parameters = getattr(distribution, "_original_parameters", None)
    if type(distribution).__name__ != "StandardNormal" or not parameters:
        raise ValueError(
            f"{distribution!r} was damaged when it was copied or pickled: scipy makes a standard "
            "normal of a copied scipy.stats.Normal. Put the distribution into an object of "
            "sknoisydim.targets.Independent, whose clones share it, or use scipy.stats.norm."
        )
    return stats.Normal(**parameters)


def distribution_methods(value: object, name: str) -> tuple[str, ...]:
    """Return the names of the functions of a distribution, or explain why `value` is none."""
    is_class = inspect.isclass(value)
    kind = value if inspect.isclass(value) else type(value)
    if any(base.__module__.startswith(("torch.", "zuko.")) for base in kind.__mro__):
        raise TypeError(
            f"{name}={value!r} is a torch object: pass the same distribution from scipy.stats, as "
            "in scipy.stats.beta(2, 5), or wrap a flow in sknoisydim.targets.PushForward."
        )
    unfrozen = isinstance(value, UNFROZEN) and not hasattr(value, "xk")  # with xk: atoms
    if unfrozen or (is_class and callable(getattr(value, "icdf", None))):
        label = kind.__name__ if is_class else getattr(value, "name", "multivariate_normal")
        raise TypeError(
            f"{name} is the distribution {label!r} of scipy.stats, but it is not frozen: call it "
            f"with its parameters, as in {label}(...), to say which distribution you mean."
        )
    if not is_class:
        if _is_discrete(value):
            raise ValueError(
                f"{name}={describe(value)} is discrete, and a target must be continuous: no "
                "invertible map turns N(0, I) into a discrete distribution."
            )
        for names in GENERATIONS:
            if all(callable(getattr(value, method, None)) for method in names):
                return names
    raise TypeError(
        f"{name}={shown(value)} of type {type(value).__name__} is not understood: it takes a name "
        "('normal', 'uniform'), a target of sknoisydim.targets, a frozen continuous distribution "
        "of scipy.stats such as scipy.stats.beta(2, 5) or scipy.stats.Normal(mu=0, sigma=2), a "
        "frozen scipy.stats.multivariate_normal, a list or tuple of these with one per component, "
        "or the map of any other distribution, as sknoisydim.targets.PushForward."
    )


def _is_discrete(distribution: Any) -> bool:
    if not all(callable(getattr(distribution, method, None)) for method in ("icdf", "logpdf")):
        return isinstance(getattr(distribution, "dist", distribution), stats.rv_discrete)
    # Discrete ones of the newer generation have all the methods, and infinite density at an atom.
    return bool(np.isposinf(distribution.logpdf(distribution.icdf(0.5))).any())


class Independent(Target):
    r"""Independent components, each with a continuous distribution of scipy.stats.

    .. math:: T(z)_i = Q_i(\Phi(z_i))

    with the quantile function :math:`Q_i` of component :math:`i` and the distribution function
    :math:`\Phi` of N(0, 1), both through survival functions in the upper half. The log density of a
    sample :math:`x` is :math:`\sum_i \log p_i(x_i)` nats, :math:`p_i` the density of component i.

    Parameters
    ----------
    marginals : distribution, or list or tuple of n_components distributions
        One distribution for all components, or one for each: a frozen continuous distribution of
        scipy.stats (``scipy.stats.beta(2, 5)``, ``scipy.stats.Normal(mu=1, sigma=2)``), a name
        ("normal", "uniform"), a target with one component, or an object of your own with the
        methods `ppf`, `isf`, `cdf`, `sf` and `logpdf`.

    Raises
    ------
    TypeError, ValueError
        By :meth:`bind`, if a distribution is not understood, not frozen, discrete or has invalid
        parameters, or if there are not `n_components` of them.

    Notes
    -----
    `z` is clipped to the range in which the quantile function is finite, agrees with the
    distribution function and is not yet constant, and to [-37.5, 37.5] at most. It is [-8.3, 8.3]
    where a distribution computes its survival function as 1 - cdf, or has an edge that is not 0.
    :meth:`push` is as monotone, and :meth:`pull` as exact, as the functions of the distribution.

    Examples
    --------
    >>> from scipy import stats
    >>> from sknoisydim.targets import Independent
    >>> mixed = Independent(["normal", stats.beta(2, 5)]).bind(2)
    >>> mixed.push([[0.0, 0.0]])
    array([[0.       , 0.26444998]])
    """

    def __init__(self, marginals: object) -> None:
        self.marginals = marginals

    def __sklearn_clone__(self) -> "Independent":
        # Distributions do not change, and scipy cannot copy each of them: see `undamaged`.
        given: Any = self.marginals
        several = isinstance(given, (list, tuple))
        copies = [clone(m) if isinstance(m, Target) else m for m in (given if several else [given])]
        return Independent(type(given)(copies) if several else copies[0])

    def __deepcopy__(self, memo: dict[int, object]) -> "Independent":
        copied = self.__sklearn_clone__()
        copied.__dict__ |= {n: value for n, value in vars(self).items() if n != "marginals"}
        return copied

    def _bind(self, n_components: int) -> None:
        columns: dict[Target | _Marginal, list[int]] = {}
        for index, component in enumerate(as_components(self.marginals, n_components, "marginals")):
            columns.setdefault(component, []).append(index)
        self.parts_: list[tuple[NDArray[np.intp], Target | _Marginal]] = []
        for component, alike in columns.items():
            for block in [alike] if isinstance(component, _Marginal) else [[one] for one in alike]:
                try:
                    part = component.bind(len(block))
                except (TypeError, ValueError) as error:
                    error.add_note(f"It is the distribution of component {block[0]}.")
                    raise
                self.parts_.append((np.array(block), part))

    def _by_parts(self, method: str, rows: FloatArray) -> FloatArray:
        for columns, part in self.parts_:
            rows[:, columns] = getattr(part, method)(np.ascontiguousarray(rows[:, columns]))
        return rows

    def _push(self, z: FloatArray) -> FloatArray:
        return self._by_parts("_push", z)

    def _pull(self, x: FloatArray) -> FloatArray:
        return self._by_parts("_pull", x)

    def _logpdf(self, x: FloatArray) -> FloatArray:
        parts = [part._logpdf(np.ascontiguousarray(x[:, columns])) for columns, part in self.parts_]
        return np.sum(parts, axis=0)


def as_target(value: object, name: str) -> Target | _Marginal:
    """Return the unbound target that `value` stands for, a list or tuple excepted."""
    if isinstance(value, str):
        also = ["a continuous distribution of scipy.stats", "a list of one per component"]
        of_scipy = getattr(stats, value.lower(), None)
        meant = value.lower() in {*TARGETS, "norm"}  # which the error for unknown names says
        if not meant and isinstance(of_scipy, stats.rv_continuous):
            raise ValueError(
                f"{name}={value!r} is a name of scipy.stats: pass the distribution itself, as in "
                f"{name}=scipy.stats.{of_scipy.name}(...), with its parameters."
            )
        return TARGETS[check_name(value, TARGETS, name, also)]()
    if inspect.isclass(value) and issubclass(value, Target):
        return instance_of(value, name)
    if isinstance(value, Target):
        return value
    if isinstance(value, _FrozenMultivariateNormal):
        return MultivariateNormal(mean=value.mean, cov=value.cov)
    if isinstance(value, stats.rv_histogram):
        value = value()  # freezing gives a histogram its location and scale
    names = distribution_methods(value, name)
    return _Marginal(undamaged(value), names)


def as_components(distributions: object, n_components: int, name: str) -> list[Target | _Marginal]:
    """Return one unbound target per component, the same one for the same distribution."""
    if not isinstance(distributions, (list, tuple)):
        return [as_target(distributions, name)] * n_components
    if len(distributions) != n_components:
        raise ValueError(
            f"{name} has {len(distributions)} distributions, but n_components={n_components}: give "
            "one distribution, or one per component."
        )
    known = {id(one): as_target(one, f"{name}[{i}]") for i, one in enumerate(distributions)}
    return [known[id(one)] for one in distributions]


@own_context()
def resolve_target(target: object, n_components: int) -> Target:
    """Return a bound copy of the target that `target` stands for.

    Parameters
    ----------
    target : str, Target, scipy.stats distribution, or list or tuple of these
        A name ("normal", "uniform"); an object or a class of `sknoisydim.targets`; a frozen
        ``scipy.stats.multivariate_normal``; a frozen continuous distribution of scipy.stats, such
        as ``scipy.stats.beta(2, 5)``, ``scipy.stats.Normal(mu=1, sigma=2)`` or a
        ``scipy.stats.rv_histogram``, for all components; or one of these for each.
    n_components : int
        Number of components of the embedding, at least 1.

    Returns
    -------
    target : Target

    Raises
    ------
    TypeError, ValueError
        If `target` is not understood, such as a distribution that is not frozen or is of torch; if
        a name is unknown, a distribution discrete, or parameters or number of components not valid.
    """
    n_components = check_integer(n_components, "n_components", minimum=1)
    if isinstance(target, (list, tuple)):
        # Independent checks this too, but would call the parameter by its own name.
        as_components(target, n_components, "target")
        return Independent(target).bind(n_components)
    resolved = as_target(target, "target")
    if isinstance(resolved, _Marginal):
        resolved = Independent(target)
    with naming("target", target):
        return resolved.bind(n_components)
